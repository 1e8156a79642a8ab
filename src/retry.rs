//! A full disk is waited for: the last checkpoint stays valid, ingest pauses, the job goes on by
//! itself when there is room.

use std::io::ErrorKind;
use std::time::Duration;

use pelton_engine::error::{Error, Result};

use crate::interrupt;

/// Between two attempts.
const EVERY: Duration = Duration::from_secs(1);

/// Repeats `attempt` as long as it fails for want of room; says so once, and when it is over.
///
/// Errors: any other error at once; the want of room itself once an interrupt asks for the end.
pub fn with_room<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut paused = false;
    loop {
        match attempt() {
            Err(error) if wants_room(&error) && !interrupt::asked() => {
                if !paused {
                    eprintln!("pelton: paused, {error}; {what} goes on when there is room");
                    paused = true;
                }
                std::thread::sleep(EVERY);
            }
            result => {
                if paused && result.is_ok() {
                    eprintln!("pelton: there is room again, {what} goes on");
                }
                return result;
            }
        }
    }
}

fn wants_room(error: &Error) -> bool {
    match error {
        Error::StateIo { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}
