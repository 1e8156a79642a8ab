//! Reads a log without taking it over: nothing is written and nothing removed.
//!
//! What the next start would refuse is refused here. Records behind the last fsync are whole or were
//! never received: that some are torn is no fault.

use std::sync::Arc;

use crate::error::Result;
use crate::storage::LogStorage;

use super::{Replay, Segment, cannot};

/// What a log holds from the place on that a checkpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub segments: usize,
    pub records: u64,
    /// Position behind the last record.
    pub end: u64,
}

/// Reads every record from a position on, and every segment's hashes before it.
///
/// Errors: `StateIo` as of [`super::Log::open`].
pub fn check(disk: Arc<dyn LogStorage>, from: u64) -> Result<Checked> {
    let names = disk.list("").map_err(|error| cannot(&*disk, "list", error))?;
    let mut segments: Vec<Segment> = names.iter().filter_map(|n| Segment::of_name(n)).collect();
    segments.sort_by_key(|segment| segment.number);
    let mut replay = Replay::open(disk, &segments, from)?.replay;
    let mut records = 0;
    while replay.advance()?.is_some() {
        records += 1;
    }
    Ok(Checked { segments: segments.len(), records, end: replay.end() })
}
