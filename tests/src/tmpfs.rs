//! A small file system in memory that a test may fill.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const BALLAST: &str = "ballast";

/// Mounted below a directory of the test; unmounted at the end.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `size` as mount(8) takes it; `None`: this process may not mount.
    pub fn mount(path: &Path, size: &str) -> Option<Tmpfs> {
        fs::create_dir_all(path).expect("a directory can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "pelton-test"])
            .arg(path)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Tmpfs(path.to_path_buf()))
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let ballast = fs::OpenOptions::new().append(true).create(true).open(self.0.join(BALLAST));
        let Ok(mut ballast) = ballast else { return };
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Gives back what [`Tmpfs::fill`] took.
    pub fn free(&self) {
        // Where there was no room for the ballast's name there is none to remove.
        _ = fs::remove_file(self.0.join(BALLAST));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // At worst an empty file system stays until the machine's end.
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
