//! How a process is ended, and where it was.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::workload::{Feed, Query};
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
    /// Its disk is full (F50). Then SIGKILL, or room again and SIGKILL later on.
    Full(Duration, bool),
    /// The n-th fsync fails with EIO: it stops by itself (F49).
    SyncError(u64),
}

/// What this machine lets a harness do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means {
    pub full_disks: bool,
    pub sync_errors: bool,
}

impl Strike {
    /// Mostly within a commit, where there is something to be lost.
    pub fn any(random: &mut Random, means: Means, (query, feed): (Query, Feed)) -> Strike {
        let nth = |random: &mut Random| 1 + random.below(4);
        let while_ = |random: &mut Random| Duration::from_micros(random.below(30_000));
        let strike = match random.below(100) {
            0..56 => Strike::Place(IN_COMMIT[random.below(7) as usize], nth(random)),
            56..66 => Strike::Place("disk", 1 + random.below(160)),
            66..72 => {
                Strike::Place(["fetch", "decode", "log"][random.below(3) as usize], nth(random))
            }
            72..78 => Strike::recovery(random),
            78..88 => Strike::Kill(while_(random)),
            88..91 => Strike::Stop(while_(random)),
            91..93 => Strike::Term(while_(random)),
            93..95 => Strike::TermTwice(while_(random)),
            95..98 => Strike::Full(while_(random), random.below(2) == 0),
            _ => Strike::SyncError(1 + random.below(40)),
        };
        match (strike, query, feed) {
            // There is nothing to merge: it would never come there.
            (Strike::Place("merge", nth), Query::PassThrough, _) => Strike::Place("barrier", nth),
            (Strike::Place("fetch", nth), _, Feed::Socket) => Strike::Place("log", nth),
            (Strike::Place("log", nth), _, Feed::Files) => Strike::Place("fetch", nth),
            (Strike::Full(after, _), ..) if !means.full_disks => Strike::Kill(after),
            (Strike::SyncError(nth), ..) if !means.sync_errors => Strike::Place("disk", nth),
            (strike, ..) => strike,
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

    /// The exit codes with which a process may end by itself.
    pub fn may_end_with(&self, code: Option<i32>) -> bool {
        match self {
            Strike::Term(_) | Strike::TermTwice(_) => matches!(code, Some(0 | 130)),
            // While it opens its directories the reason is that they cannot be written.
            Strike::Full(..) | Strike::SyncError(_) => matches!(code, Some(69 | 74)),
            Strike::Place(..) | Strike::Kill(_) | Strike::Stop(_) => false,
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
