//! One process a state directory: an advisory lock that the kernel gives back when a process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use pelton_engine::error::{Error, Result};
use pelton_engine::seeded::{self, Bug};

/// Held as long as the value lives.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory where it is missing and takes its lock.
    ///
    /// Errors: `Unavailable` where another process holds it, or where it cannot be made.
    pub fn take(directory: &Path) -> Result<StateLock> {
        let unavailable = |what: &str, error: std::io::Error| Error::Unavailable {
            what: format!("cannot {what} the state directory {}: {error}", directory.display()),
            fix: "give the job a [checkpoint] path that this user can write to".to_string(),
        };
        std::fs::create_dir_all(directory).map_err(|e| unavailable("make", e))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(|e| unavailable("open the lock of", e))?;
        if seeded::is(Bug::LockIgnored) {
            return Ok(StateLock { _file: file });
        }
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Unavailable {
                what: format!(
                    "the state directory {} is in use by another process",
                    directory.display()
                ),
                fix: "stop that process, or give this job a [checkpoint] path of its own"
                    .to_string(),
            }),
            Err(TryLockError::Error(error)) => Err(unavailable("lock", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f21_the_second_of_two_is_refused_and_the_lock_ends_with_its_holder() {
        let directory = std::env::temp_dir().join(format!("pelton-lock-{}", std::process::id()));
        let first = StateLock::take(&directory).expect("nobody holds it");
        let second = StateLock::take(&directory).expect_err("it is held");
        assert_eq!(second.exit_code(), 69);
        drop(first);
        StateLock::take(&directory).expect("it was given back");
        std::fs::remove_dir_all(&directory).expect("the test made it");
    }
}
