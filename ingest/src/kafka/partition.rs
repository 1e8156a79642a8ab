//! One partition of a core: what was fetched and not handed out, and which of it counts.
//!
//! read_committed, as Kafka's own consumer does it: an answer names the aborted transactions among its
//! records; from the first offset of one on, its producer's transactional batches are passed over
//! until the producer's next control batch (KIP-98). Offsets may have gaps (compaction, control
//! records); the position behind a batch is its last offset plus one, whatever records are left in it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::chunk::{CHUNK_BYTES, Chunk};
use super::codec;
use super::records::{Batch, Fault};
use super::{Leader, SplitStart, Standing};

pub struct Partition {
    pub start: SplitStart,
    /// `None`: not known now, or being asked for.
    pub leader: Option<Leader>,
    /// Next offset to ask a broker for.
    pub fetched: i64,
    /// Next offset to hand out.
    pub position: i64,
    /// Leader's epoch of what was handed out last.
    pub leader_epoch: i32,
    /// How often the records at the position could not be read.
    pub damaged: u32,
    /// End of the committed records, as the broker last said.
    stable: Option<i64>,
    empty_since: Option<Instant>,
    pending: VecDeque<Set>,
}

/// The bytes of an answer, which several partitions share.
pub struct Frame {
    /// Memory, of which more may be there than the answer takes.
    pub memory: Vec<u8>,
    pub answer: Range<usize>,
}

impl Frame {
    pub fn answer(&self) -> &[u8] {
        &self.memory[self.answer.clone()]
    }
}

/// One partition's records in an answer.
struct Set {
    frame: Arc<Frame>,
    /// What is not handed out yet.
    left: Range<usize>,
    /// (First offset, producer) of transactions that turn out aborted, those ahead.
    aborted: VecDeque<(i64, i64)>,
    /// Producers whose running transaction is an aborted one.
    aborting: Vec<i64>,
}

impl Set {
    /// Whether the batch's records count; moves on in the list of aborted transactions.
    fn counts(&mut self, batch: &Batch<'_>) -> bool {
        while let Some(&(first, producer)) = self.aborted.front()
            && first <= batch.last_offset
        {
            self.aborted.pop_front();
            self.aborting.push(producer);
        }
        if batch.is_control() {
            // Commit or abort: either ends the producer's transaction.
            self.aborting.retain(|&producer| producer != batch.producer_id);
            return false;
        }
        !(batch.is_transactional() && self.aborting.contains(&batch.producer_id))
    }
}

impl Partition {
    pub fn new(start: SplitStart) -> Partition {
        Partition {
            leader: None,
            fetched: start.offset,
            position: start.offset,
            leader_epoch: start.leader_epoch,
            damaged: 0,
            stable: None,
            empty_since: None,
            pending: VecDeque::new(),
            start,
        }
    }

    /// `topic/partition`, for messages.
    pub fn name(&self) -> String {
        format!("{}/{}", self.start.topic, self.start.partition)
    }

    /// Bytes fetched and not handed out.
    pub fn bytes_pending(&self) -> usize {
        self.pending.iter().map(|set| set.left.len()).sum()
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// There is nothing more to ask for.
    pub fn is_asked_out(&self) -> bool {
        self.start.end.is_some_and(|end| self.fetched >= end)
    }

    pub fn standing(&self) -> Standing {
        let ended = self.start.end.is_some_and(|end| self.position >= end);
        let read_out = self.stable.is_some_and(|stable| self.position >= stable);
        let caught_up = ended || (read_out && self.leader.is_some() && !self.has_pending());
        Standing { caught_up, ended, empty_since: self.empty_since.filter(|_| caught_up) }
    }

    /// Takes in what a broker answered.
    ///
    /// Errors: there are bytes, but no whole batch.
    pub fn take_in(
        &mut self,
        frame: &Arc<Frame>,
        records: Range<usize>,
        aborted: Vec<(i64, i64)>,
        stable: i64,
    ) -> Result<(), Fault> {
        self.stable = Some(stable);
        let mut at = records.start;
        // A fault is met again, and told, where the records are read.
        while let Ok(Some(batch)) = Batch::at_front(&frame.answer()[at..records.end]) {
            self.fetched = self.fetched.max(batch.last_offset + 1);
            at += batch.size();
        }
        if at > records.start {
            self.empty_since = None;
            let (aborted, aborting) = (aborted.into(), Vec::new());
            let set = Set { frame: Arc::clone(frame), left: records, aborted, aborting };
            self.pending.push_back(set);
        } else if !records.is_empty() {
            Batch::at_front(&frame.answer()[records])?;
            return Err(Fault::Malformed("size"));
        } else {
            self.take_nothing();
        }
        Ok(())
    }

    /// Takes in that the broker has nothing new: what it said last of the partition still holds.
    pub fn take_nothing(&mut self) {
        if self.stable.is_some_and(|stable| self.position >= stable) && !self.has_pending() {
            self.empty_since.get_or_insert_with(Instant::now);
        }
    }

    /// Forgets what was fetched: it will be asked for again.
    pub fn forget(&mut self) {
        self.pending.clear();
        self.fetched = self.position;
    }

    /// Moves records into the chunk until it is large enough or nothing is left. `scratch` is for
    /// decompression; frames that are through go to `spent`.
    ///
    /// Errors: a batch that cannot be read; the chunk holds what was before it.
    pub fn hand_out(
        &mut self,
        chunk: &mut Chunk,
        scratch: &mut Vec<u8>,
        spent: &mut Vec<Arc<Frame>>,
    ) -> Result<(), Fault> {
        chunk.split = self.start.split;
        let mut outcome = Ok(());
        while let Some(set) = self.pending.front_mut() {
            let frame = Arc::clone(&set.frame);
            let next = Batch::at_front(&frame.answer()[set.left.clone()]);
            let moved = match next {
                Ok(Some(batch)) if self.start.end.is_none_or(|end| self.position < end) => {
                    set.left.start += batch.size();
                    let counts = |set: &mut Set| batch.check().map(|()| set.counts(&batch));
                    let moved = counts(set).and_then(|counts| match counts {
                        true => move_records(&batch, self.position, self.start.end, chunk, scratch),
                        false => Ok(()),
                    });
                    moved.map(|()| {
                        self.position = self.position.max(batch.last_offset + 1);
                        self.leader_epoch = batch.leader_epoch;
                        self.damaged = 0;
                    })
                }
                Ok(_) => {
                    spent.extend(self.pending.pop_front().map(|set| set.frame));
                    continue;
                }
                Err(fault) => Err(fault),
            };
            outcome = moved;
            if outcome.is_err() || chunk.bytes.len() >= CHUNK_BYTES {
                break;
            }
        }
        if let Some(end) = self.start.end
            && self.position >= end
        {
            self.position = end;
            spent.extend(self.pending.drain(..).map(|set| set.frame));
        }
        (chunk.next, chunk.leader_epoch) = (self.position, self.leader_epoch);
        outcome
    }
}

/// The values of a batch from `from` on, up to `end`; on a fault the chunk is as before.
fn move_records(
    batch: &Batch<'_>,
    from: i64,
    end: Option<i64>,
    chunk: &mut Chunk,
    scratch: &mut Vec<u8>,
) -> Result<(), Fault> {
    let before = (chunk.bytes.len(), chunk.messages.len(), chunk.payload);
    let mut moved = || {
        let payload = match batch.codec() {
            0 => batch.payload(),
            codec => {
                scratch.clear();
                codec::decompress(codec, batch.payload(), scratch)?;
                scratch.as_slice()
            }
        };
        let end = end.unwrap_or(i64::MAX);
        chunk.bytes.reserve(payload.len());
        let mut records = batch.records(payload);
        while let Some(record) = records.advance()? {
            if let Some(value) = record.value
                && (from..end).contains(&record.offset)
            {
                if let Some(headers) = chunk.headers() {
                    record.headers(|key, value| headers.push(key, value))?;
                }
                chunk.push(record.offset, value);
                chunk.note(record.timestamp, record.key);
            }
        }
        Ok(())
    };
    let outcome = moved();
    if outcome.is_err() {
        let (bytes, messages, payload) = before;
        chunk.truncate(messages, bytes, payload);
    }
    outcome
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
