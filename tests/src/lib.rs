//! What the end-to-end tests share: the program as a stranger starts it, data with known faults, and
//! what came out.
//!
//! Invariant: nothing of the product is linked in; a test sees the command line, files, sockets,
//! signals and exit codes only. The right answers are `pelton_bench::oracle`'s.

pub mod cases;
pub mod data;
pub mod gpu;
pub mod jobs;
pub mod kafka;
pub mod kills;
pub mod output;
pub mod program;
pub mod proxy;
pub mod python;
pub mod tmpfs;

use std::io::Write as _;

/// Says that this machine cannot run the test, and why; the test returns after it.
///
/// `tests/run` collects these lines, counts them as skipped and prints them.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("PELTON_SKIPS") {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("tests/run makes the file of PELTON_SKIPS");
        // One write: test programs append side by side.
        file.write_all(format!("{test}: {reason}\n").as_bytes()).expect("it can be written");
    }
}
