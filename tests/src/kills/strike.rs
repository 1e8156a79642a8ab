//! How a process is ended, and where it was.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::data::Random;

/// Places from the barrier of an epoch to the end of its commit.
pub const IN_COMMIT: [&str; 7] =
    ["barrier", "merge", "stage", "checkpoint", "commit", "publish", "gc"];

#[derive(Clone, Debug)]
pub enum Strike {
    /// The process kills itself at a named place, the n-th time that it comes there.
    Place(&'static str, u64),
    /// SIGKILL from outside, so long after its first output of this life, or after its start.
    Kill(Duration),
    /// SIGSTOP, a second process that must be refused, SIGCONT, and after a while SIGKILL.
    Stop(Duration),
    /// SIGTERM: a last epoch and exit 0 (F60).
    Term(Duration),
    /// SIGTERM twice: exit now.
    TermTwice(Duration),
}

impl Strike {
    /// Mostly within a commit, where there is something to be lost.
    pub fn any(random: &mut Random) -> Strike {
        let nth = |random: &mut Random| 1 + random.below(4);
        let while_ = |random: &mut Random| Duration::from_micros(random.below(60_000));
        match random.below(100) {
            0..58 => Strike::Place(IN_COMMIT[random.below(7) as usize], nth(random)),
            58..70 => Strike::Place("disk", 1 + random.below(160)),
            70..74 => Strike::Place(["fetch", "decode"][random.below(2) as usize], nth(random)),
            74..80 => Strike::recovery(random),
            80..92 => Strike::Kill(while_(random)),
            92..96 => Strike::Stop(while_(random)),
            96..98 => Strike::Term(while_(random)),
            _ => Strike::TermTwice(while_(random)),
        }
    }

    /// While it restores.
    pub fn recovery(random: &mut Random) -> Strike {
        match random.below(3) {
            0 => Strike::Place("recover", 1),
            1 => Strike::Place("reopen", 1),
            _ => Strike::Place("disk", 1 + random.below(12)),
        }
    }
}

/// The last place that a process came to, by its trace.
pub fn place_in(trace: &Path) -> String {
    let text = fs::read_to_string(trace).unwrap_or_default();
    match text.trim() {
        "" => "start".to_owned(),
        place => place.to_owned(),
    }
}
