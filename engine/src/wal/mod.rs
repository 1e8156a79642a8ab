//! The write-ahead log: what cannot be read again is durable before it counts as received.
//!
//! ```text
//! state/wal/wal-000003-00000000000000065536.log      number, position of its first record
//! ```
//! Invariant: a byte of a peer reaches the decoder only after the fsync that made its record durable,
//! so no epoch holds a row that a crash could lose. After a crash the records behind the checkpoint's
//! place are read again, in their order, ahead of anything new. What is behind the last fsync may be
//! torn; it was never received.
//!
//! One write and one fsync serve all that came since the last ones (group commit). After an error
//! the segment is left as it is and the same records go to a new one. A process that was killed may
//! have left its last group in the page cache alone, so the next one writes that group again before
//! it is read. A position's record is the same in every segment that holds it. Segments are removed once every kept
//! checkpoint is behind them. Lacks: compression, a copy elsewhere.

mod check;
mod record;
mod replay;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::seeded::{self, Bug};
use crate::storage::{LogFile, LogStorage};

pub use check::{Checked, check};
use record::segment_head;
pub use record::{Kind, RECORD_HEAD};
pub use replay::{Replay, Replayed};

/// Bytes of a segment from which on a new one is begun: read back whole, so small against memory.
const SEGMENT_BYTES: u64 = 32 << 20;

/// The log of one source, open for writing.
pub struct Log {
    disk: Arc<dyn LogStorage>,
    /// Where records go; `None`: a new segment is to be begun.
    file: Option<Box<dyn LogFile>>,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    next_number: u64,
    /// Position behind the last durable record.
    durable: u64,
    /// Records that are not durable yet.
    pending: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    start: u64,
}

impl Segment {
    fn name(&self) -> String {
        format!("wal-{:06}-{:020}.log", self.number, self.start)
    }

    fn of_name(name: &str) -> Option<Segment> {
        let (number, start) = name.strip_prefix("wal-")?.strip_suffix(".log")?.split_once('-')?;
        Some(Segment { number: number.parse().ok()?, start: start.parse().ok()? })
    }
}

impl Log {
    /// Opens the log and finds its end. `from`: position of the first record that the checkpoint
    /// needs, 0 without one.
    ///
    /// Errors: `StateIo` where the log cannot be read, begins behind `from`, ends before it, or is
    /// damaged in a place that a crash cannot explain.
    pub fn open(disk: Arc<dyn LogStorage>, from: u64) -> Result<(Log, Replay)> {
        let failed = |what: &str, source| cannot(&*disk, what, source);
        disk.create_dir_all("").map_err(|error| failed("make", error))?;
        let names = disk.list("").map_err(|error| failed("list", error))?;
        let mut segments: Vec<Segment> = names.iter().filter_map(|n| Segment::of_name(n)).collect();
        segments.sort_by_key(|segment| segment.number);
        let next_number = segments.last().map_or(0, |segment| segment.number + 1);
        let found = Replay::open(Arc::clone(&disk), &segments, from)?;
        let (mut durable, mut pending) = found.last_group;
        if seeded::is(Bug::LogEndBelieved) {
            durable += std::mem::take(&mut pending).len() as u64;
        }
        let segments = found.chain;
        let mut log = Log { disk, file: None, segments, next_number, durable, pending };
        // What the last fsync may not have covered is made durable before anybody sees it again.
        let (mut replay, chain) = (found.replay, log.segments.len());
        log.sync().map_err(|error| cannot(&*log.disk, "write", error))?;
        if let Some(copy) = log.segments.get(chain) {
            replay.ends_in(copy);
        }
        for segment in found.stale {
            // Nothing asks for it any more; one that stays is found stale again.
            let _ = log.disk.remove(&segment.name());
        }
        Ok((log, replay))
    }

    /// Position behind the last durable record.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Takes a record in, which the next [`Log::sync`] makes durable; returns its position.
    pub fn append(&mut self, kind: Kind, peer: u64, offset: u64, payload: &[u8]) -> u64 {
        let position = self.durable + self.pending.len() as u64;
        let places = (position, self.durable);
        record::write(&mut self.pending, kind, (peer, offset), places, payload);
        position
    }

    /// Bytes that are not durable yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    pub fn bytes_held(&self) -> usize {
        self.pending.capacity()
    }

    /// Makes all that was appended durable.
    ///
    /// Errors: those of the disk; the records are kept and the call may be repeated, as it begins a
    /// new segment then.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let in_segment = self.segments.last().map_or(0, |segment| self.durable - segment.start);
        if in_segment >= SEGMENT_BYTES {
            self.file = None;
        }
        match self.file.take() {
            None => self.begin_segment()?,
            Some(mut file) => {
                file.write_all(&self.pending)?;
                if !seeded::is(Bug::LogUnsynced) {
                    file.sync()?;
                }
                self.file = Some(file);
            }
        }
        self.durable += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending into a new segment.
    fn begin_segment(&mut self) -> io::Result<()> {
        let segment = Segment { number: self.next_number, start: self.durable };
        // A number is used once, also where the attempt fails.
        self.next_number += 1;
        let name = segment.name();
        let begun = self.disk.create_log(&name).and_then(|mut file| {
            file.write_all(&segment_head(segment.start))?;
            file.write_all(&self.pending)?;
            file.sync()?;
            self.disk.sync_dir("")?;
            Ok(file)
        });
        match begun {
            Ok(file) => {
                self.file = Some(file);
                self.segments.push(segment);
                Ok(())
            }
            Err(error) => {
                // It holds nothing that counts, and a full disk needs the room.
                let _ = self.disk.remove(&name);
                Err(error)
            }
        }
    }

    /// Removes segments all of whose records are before a position. What cannot be removed stays.
    pub fn trim(&mut self, position: u64) {
        let position = if seeded::is(Bug::LogTrimmedTooEarly) { self.durable } else { position };
        while self.segments.get(1).is_some_and(|next| next.start <= position) {
            // One that comes back after a crash is before what recovery asks for.
            let _ = self.disk.remove(&self.segments.remove(0).name());
        }
    }
}

fn cannot(disk: &dyn LogStorage, what: &str, source: io::Error) -> Error {
    Error::StateIo {
        what: format!("cannot {what} the write-ahead log in {}", disk.location()),
        source,
    }
}
