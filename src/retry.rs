//! A full disk is waited for: the last checkpoint stays valid, ingest pauses, the job goes on by
//! itself when there is room.

use std::time::Duration;

use pelton_engine::error::Error;
use pelton_engine::outputs::Patience;

use crate::interrupt;

/// Between two attempts.
const EVERY: Duration = Duration::from_secs(1);

/// Waits until there is room or an interrupt asks for the end; says so once, and when it is over.
pub struct UntilRoom;

impl Patience for UntilRoom {
    fn wait(&self, what: &str, error: &Error, first: bool) -> bool {
        if interrupt::asked() {
            return false;
        }
        if first {
            let until = match error {
                Error::StateIo { .. } => "when there is room",
                _ => "when it answers",
            };
            eprintln!("pelton: paused, {error}; {what} goes on {until}");
        }
        std::thread::sleep(EVERY);
        true
    }

    fn over(&self, what: &str) {
        eprintln!("pelton: {what} goes on");
    }
}
