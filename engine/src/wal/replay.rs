//! Reads a log back, record by record, in the order in which they were received.
//!
//! Opening checks everything from the asked position to the end; reading goes over it once more, a
//! segment at a time.

use std::io;
use std::sync::Arc;

use crate::error::Result;
use crate::seeded::{self, Bug};
use crate::storage::LogStorage;

use super::record::{self, Head, Kind, Record, SEGMENT_HEAD};
use super::{Segment, cannot};

/// The part of a log that a checkpoint does not have.
pub struct Replay {
    disk: Arc<dyn LogStorage>,
    /// Segments left, newest first, and where the records of each end.
    left: Vec<(Segment, u64)>,
    open: Option<Open>,
    /// Position of the next record.
    at: u64,
    end: u64,
    /// One past the greatest number of a peer.
    peers: u64,
}

struct Open {
    bytes: Vec<u8>,
    next: usize,
    end: u64,
}

/// A record that was read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Replayed<'a> {
    pub kind: Kind,
    pub peer: u64,
    pub offset: u64,
    pub position: u64,
    pub payload: &'a [u8],
}

/// What opening a log found.
pub(super) struct Found {
    pub replay: Replay,
    /// The segments that hold the records, in their order.
    pub chain: Vec<Segment>,
    /// Those that a later one stands for, or that hold nothing.
    pub stale: Vec<Segment>,
    /// The last group: what a killed process may not have made durable.
    pub last_group: (u64, Vec<u8>),
}

impl Replay {
    pub(super) fn open(
        disk: Arc<dyn LogStorage>,
        segments: &[Segment],
        from: u64,
    ) -> Result<Found> {
        let Chain { links, stale, last } = Chain::of(&*disk, segments, from)?;
        let begins = links.first().map_or(0, |(segment, _)| segment.start);
        let end = links.last().map_or(begins, |(_, scanned)| scanned.end);
        if from < begins || from > end {
            let what = format!(
                "the checkpoint needs it from position {from} on, and it holds {begins} to {end}: rows \
                 are missing; restore the directory from a copy, or remove it to begin anew"
            );
            return Err(cannot(&*disk, "use", io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let peers = links.iter().map(|(_, scanned)| scanned.peers).max().unwrap_or(0);
        let chain: Vec<Segment> = links.iter().map(|(segment, _)| segment.clone()).collect();
        let mut left: Vec<_> = links.into_iter().map(|(s, scanned)| (s, scanned.end)).collect();
        left.reverse();
        let at = if seeded::is(Bug::LogReplaySkipped) { end } else { from };
        let replay = Replay { disk, left, open: None, at, end, peers };
        Ok(Found { replay, chain, stale, last_group: last.unwrap_or((end, Vec::new())) })
    }

    /// The last group stands in this segment, too, and is read from there: a trim may remove the one
    /// that it was found in.
    pub(super) fn ends_in(&mut self, copy: &Segment) {
        if let Some((_, end)) = self.left.first_mut() {
            *end = copy.start;
        }
        self.left.insert(0, (copy.clone(), self.end));
    }

    /// Position behind the last record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// One past the greatest number of a peer in the records.
    pub fn peers(&self) -> u64 {
        self.peers
    }

    /// Position of the next record: all before it were read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at the end.
    ///
    /// Errors: `StateIo` where a segment cannot be read any more.
    pub fn advance(&mut self) -> Result<Option<Replayed<'_>>> {
        loop {
            let is_through = self.open.as_ref().is_none_or(|open| self.at >= open.end);
            if !is_through {
                break;
            }
            let Some((segment, end)) = self.left.pop() else { return Ok(None) };
            if end <= self.at {
                continue;
            }
            let bytes = read_whole(&*self.disk, &segment)?;
            let (mut next, mut at) = (SEGMENT_HEAD, segment.start);
            // The checkpoint's place may be inside the segment.
            while at < self.at {
                let record = self.record(&bytes, next, at, &segment)?;
                (next, at) = (record.payload.end, record.end());
            }
            self.open = Some(Open { bytes, next, end });
        }
        let open = self.open.as_mut().expect("one with a record left was opened");
        let record = record::read(&open.bytes, open.next, self.at);
        let record = record.ok_or_else(|| {
            let changed = io::Error::from(io::ErrorKind::InvalidData);
            cannot(&*self.disk, "read a second time", changed)
        })?;
        (open.next, self.at) = (record.payload.end, record.end());
        let Record { kind, peer, offset, position, payload, .. } = record;
        Ok(Some(Replayed { kind, peer, offset, position, payload: &open.bytes[payload] }))
    }

    fn record(&self, bytes: &[u8], next: usize, at: u64, segment: &Segment) -> Result<Record> {
        record::read(bytes, next, at).ok_or_else(|| {
            let what = format!("no record of {} ends at position {}", segment.name(), self.at);
            let source = io::Error::new(io::ErrorKind::InvalidData, what);
            cannot(&*self.disk, "use", source)
        })
    }
}

/// Which segments hold the records of a log: each begins within or at the end of those before it.
#[derive(Default)]
struct Chain {
    links: Vec<(Segment, Scanned)>,
    stale: Vec<Segment>,
    /// Position and bytes of the last group.
    last: Option<(u64, Vec<u8>)>,
}

impl Chain {
    /// A position's record is the same in every segment that holds it: a later segment that reaches
    /// further stands for the earlier ones from its beginning on.
    fn of(disk: &dyn LogStorage, segments: &[Segment], from: u64) -> Result<Chain> {
        let mut chain = Chain::default();
        for segment in segments {
            let scanned = scan(disk, segment)?;
            let end = chain.links.last().map_or(segment.start, |(_, before)| before.end);
            if segment.start > end && segment.start <= from {
                // A hole before what is needed: a removal that a crash took back.
                chain.stale.extend(chain.links.drain(..).map(|(before, _)| before));
            } else if segment.start > end {
                let name = chain.links.last().map_or(String::new(), |(before, _)| before.name());
                let what = format!(
                    "{name} ends at position {end}, the next segment begins at {}: rows are lost",
                    segment.start
                );
                return Err(cannot(disk, "use", io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            if scanned.end <= end && !chain.links.is_empty() {
                chain.stale.push(segment.clone());
                continue;
            }
            while chain.links.last().is_some_and(|(before, _)| before.start >= segment.start) {
                chain.stale.extend(chain.links.pop().map(|(before, _)| before));
            }
            if let Some((_, before)) = chain.links.last_mut() {
                before.end = segment.start;
            }
            chain.links.push((segment.clone(), scanned));
        }
        if let Some((segment, scanned)) = chain.links.last_mut() {
            if scanned.is_acknowledged {
                let what = format!(
                    "{} is damaged at position {}: later records follow",
                    segment.name(),
                    scanned.end
                );
                return Err(cannot(disk, "use", io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            chain.last = Some((scanned.group, std::mem::take(&mut scanned.last_group)));
        }
        Ok(chain)
    }
}

struct Scanned {
    end: u64,
    peers: u64,
    /// Position and bytes of the last group.
    group: u64,
    last_group: Vec<u8>,
    /// Behind the end there is a record that was written after what should be there was durable:
    /// that is damage and not the torn end of a crash.
    is_acknowledged: bool,
}

/// Finds the end of a segment's records.
fn scan(disk: &dyn LogStorage, segment: &Segment) -> Result<Scanned> {
    let damaged = |what: String| {
        let what = format!("{} {what}", segment.name());
        Err(cannot(disk, "use", io::Error::new(io::ErrorKind::InvalidData, what)))
    };
    let bytes = read_whole(disk, segment)?;
    match record::read_segment_head(&bytes) {
        Head::Newer { format } => {
            let reads = record::FORMAT;
            return damaged(format!("has format {format}, this version reads up to {reads}"));
        }
        Head::Start(start) if start != segment.start => {
            return damaged("is of another place in the log".into());
        }
        // The records of a broken head say themselves where they belong.
        Head::Start(_) | Head::Broken => {}
    }
    let (mut at, mut end, mut peers) = (SEGMENT_HEAD, segment.start, 0);
    let (mut group, mut group_at) = (segment.start, SEGMENT_HEAD);
    while let Some(record) = record::read(&bytes, at, end) {
        if record.group != group {
            (group, group_at) = (record.group, at);
        }
        (at, end) = (record.payload.end, record.end());
        peers = peers.max(record.peer + 1);
    }
    let is_acknowledged = record::is_acknowledged(&bytes, at, end);
    let last_group = bytes.get(group_at..at).unwrap_or_default().to_vec();
    Ok(Scanned { end, peers, group, last_group, is_acknowledged })
}

fn read_whole(disk: &dyn LogStorage, segment: &Segment) -> Result<Vec<u8>> {
    disk.read(&segment.name()).map_err(|error| cannot(disk, "read", error))
}
