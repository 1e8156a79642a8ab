//! What Python lends to the tests: a reader of files which is none of ours, an S3 server.

use std::path::PathBuf;
use std::process::Command;

/// The interpreter that `tests/run` prepared, or the machine's; `None` where neither has pyarrow.
pub fn with_pyarrow() -> Option<PathBuf> {
    let asked = std::env::var_os("PELTON_PYTHON").map(PathBuf::from);
    let has = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import pyarrow"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    asked.into_iter().chain([PathBuf::from("python3")]).find(has)
}

/// The S3-compatible server of moto, which `tests/run` prepared; `None` where it is not there. It
/// honours `If-None-Match`, which the checkpoints rely on.
pub fn moto_server() -> Option<PathBuf> {
    std::env::var_os("PELTON_MOTO").map(PathBuf::from).filter(|path| path.is_file())
}
