//! The loop of a core that reads partitions: fetch, decode, push; never wait for a broker.
//!
//! Invariant: a partition is cut between two messages, and a barrier waits for no byte. A message's
//! rows end with it: messages are decoded many at a time as one text, but one whose quotes do not
//! close within it is decoded alone.

use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use pelton_engine::batch::{DeadLetter, Place, Position};
use pelton_engine::error::Result;
use pelton_engine::job::spec::{CsvDialect, Escape, Format, Included, SourceKind, SourceSpec};
use pelton_engine::pipeline::EventClock;
use pelton_engine::watermark::SplitClock;

use super::super::worker::{Worker, batch_rows_max};
use crate::decode::Mapping;
use crate::kafka::{Chunk, Client, SplitStart, Standing};
use crate::source::board::Limits;

/// Brokers that are gone and questions that nobody took are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows leave by split, then in the order of chunks: so many bits number a split's chunks.
const CHUNK_BITS: u32 = 40;

pub(super) struct Direct {
    worker: Worker,
    client: Box<dyn Client>,
    mapping: Mapping,
    quotes: Option<Quotes>,
    limits: Limits,
    splits: Vec<Own>,
    chunk: Chunk,
    /// First byte of the chunk that is not decoded.
    at: usize,
    chunks: u64,
    /// Barriers passed.
    barriers: u64,
    /// What was told outside last: caught up, ended, full.
    told: Option<(bool, bool, bool)>,
    /// The watermark by which this epoch's rows are late, where one is for all of them.
    late_by: Option<i64>,
}

/// A split of this core.
struct Own {
    split: usize,
    topic: Arc<str>,
    partition: i32,
    name: Arc<str>,
    clock: SplitClock,
    /// It was idle or empty at the last barrier: windows may have left without it since.
    behind: bool,
    offset: i64,
    leader_epoch: i32,
}

impl Direct {
    pub fn new(
        worker: Worker,
        client: Box<dyn Client>,
        mapping: Mapping,
        source: &SourceSpec,
        (limits, late_by): (Limits, Option<i64>),
    ) -> Direct {
        let quotes = match &source.format {
            Format::Csv(csv) => csv.quote.map(|quote| Quotes::of(csv, quote)),
            Format::Text => None,
        };
        Direct {
            worker,
            client,
            mapping,
            quotes,
            limits,
            splits: Vec::new(),
            chunk: match &source.kind {
                SourceKind::Kafka(kafka) if !kafka.include.is_empty() => {
                    Chunk::with_facts(kafka.include.contains(&Included::Headers))
                }
                _ => Chunk::default(),
            },
            at: 0,
            chunks: 0,
            barriers: 0,
            told: None,
            late_by,
        }
    }

    /// Runs until the job stops.
    ///
    /// Errors: whatever ends the job.
    pub fn run(mut self) -> Result<()> {
        loop {
            let inner = self.worker.shared.lock();
            if inner.stop {
                return Ok(());
            }
            let due = self.barriers < inner.barriers;
            let (rows, bytes) = inner.taken(self.barriers);
            drop(inner);
            if due {
                self.barrier();
                continue;
            }
            let full = self.limits.bytes.is_some_and(|max| bytes >= max)
                || self.limits.rows.is_some_and(|max| rows >= max);
            if full || self.worker.is_overcrowded() {
                self.tell(full);
                self.client.turn(LOOK_EVERY, false)?;
                continue;
            }
            self.client.turn(Duration::ZERO, true)?;
            for start in self.client.arrivals() {
                self.welcome(start);
            }
            if self.at == self.chunk.bytes.len() && !self.refill()? {
                self.tell(false);
                self.client.turn(LOOK_EVERY, true)?;
                continue;
            }
            self.decode(rows)?;
        }
    }

    fn welcome(&mut self, start: SplitStart) {
        let SplitStart { split, topic, partition, offset, leader_epoch, event_time_max, .. } =
            start;
        self.splits.push(Own {
            split,
            name: format!("{topic}/{partition}").into(),
            topic,
            partition,
            clock: SplitClock::of(event_time_max),
            behind: true,
            offset,
            leader_epoch,
        });
    }

    /// Takes the next chunk; `false`: nothing is there now.
    fn refill(&mut self) -> Result<bool> {
        self.chunk.clear();
        self.at = 0;
        if !self.client.fill(&mut self.chunk)? {
            return Ok(false);
        }
        if self.chunk.messages.is_empty() {
            // Control records, aborted ones, tombstones: only the offset moves.
            let next = (self.chunk.next, self.chunk.leader_epoch);
            let own = self.own();
            (own.offset, own.leader_epoch) = next;
        }
        Ok(true)
    }

    /// The split of the chunk.
    fn own(&mut self) -> &mut Own {
        let split = self.chunk.split;
        let own = self.splits.iter_mut().find(|own| own.split == split);
        own.expect("a chunk is of a split that arrived")
    }

    /// Decodes what is left of the chunk, or as many messages as `max_rows_per_epoch` allows.
    fn decode(&mut self, rows_before: u64) -> Result<()> {
        if self.at == self.chunk.bytes.len() || !self.catch_up() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        let rows_max = self.limits.rows.map_or(u64::MAX, |max| max.saturating_sub(rows_before));
        let own = self.splits.iter().find(|own| own.split == chunk.split);
        let own = own.expect("a chunk is of a split that arrived");
        if let Some(messages) = self.worker.decoder.messages() {
            messages.describe(&own.topic, own.partition, &chunk);
        }
        let first = chunk.messages[0].offset as u64;
        let (name, split) = (Arc::clone(&own.name), chunk.split as u32);
        self.worker.place = Place { name, split, major: first, minor: 0, line: 1 };
        let order = u64::from(split) << CHUNK_BITS | self.chunks;
        self.chunks += 1;
        let clock = match self.late_by {
            Some(watermark) => EventClock::Fixed(watermark, own.clock.now),
            None => EventClock::Known(own.clock),
        };
        self.worker.pipeline.open(order, clock);
        let begun = self.at;
        let rows = self.rows(&chunk, rows_max)?;
        let mut segment = self.worker.pipeline.close();
        segment.place_letters(|letter| place(letter, &chunk));
        let clock = segment.summary.clock;
        self.worker.pipeline.keep(segment, 0)?;
        let done = self.at == chunk.bytes.len();
        let next = match done {
            true => chunk.next,
            false => chunk.messages[message_at(&chunk, self.at)].offset,
        };
        // The newlines put behind messages are no input.
        let added = chunk.bytes.len() as u64 - chunk.payload;
        let bytes = (self.at - begun) as u64 - if done { added } else { 0 };
        let epoch = chunk.leader_epoch;
        self.chunk = chunk;
        let own = self.own();
        own.clock.see(clock);
        (own.offset, own.leader_epoch) = (next, epoch);
        let reads = self.client.bytes_held() + self.chunk.bytes.capacity();
        let mut inner = self.worker.shared.lock();
        inner.count(self.barriers, rows, bytes, self.worker.is_crowded());
        inner.charge(self.worker.core, reads, self.worker.pipeline.bytes_held());
        drop(inner);
        self.worker.shared.tell_outside();
        self.told = None;
        Ok(())
    }

    /// Decodes runs of messages from `self.at` on; returns their rows.
    fn rows(&mut self, chunk: &Chunk, rows_max: u64) -> Result<u64> {
        let mut rows = 0;
        while self.at < chunk.bytes.len() && rows < rows_max {
            let end = match &self.quotes {
                None => chunk.bytes.len(),
                Some(quotes) => quotes.run_end(chunk, self.at),
            };
            self.worker.decoder.begin(&self.mapping);
            while self.at < end && rows < rows_max {
                let max = (rows_max - rows).min(batch_rows_max() as u64) as usize;
                rows += self.step(&chunk.bytes[..end], max)?;
            }
            // A message is not cut, whatever the limit.
            let message = message_at(chunk, self.at.min(chunk.bytes.len() - 1));
            if self.at < end && chunk.messages[message].start as usize != self.at {
                let end = message_end(chunk, message);
                while self.at < end {
                    rows += self.step(&chunk.bytes[..end], batch_rows_max())?;
                }
            }
        }
        Ok(rows)
    }

    /// Decodes one batch from `self.at` on, where the input ends with `bytes`.
    fn step(&mut self, bytes: &[u8], rows_max: usize) -> Result<u64> {
        self.worker.place.minor = self.at as u64;
        let step = self.worker.step(&bytes[self.at..], true, rows_max)?;
        assert!(step.consumed > 0, "at the end of the input nothing is left over");
        self.at += step.consumed;
        Ok(step.rows)
    }

    /// A split that held no window back must not meet one that has left: its clock is at least that
    /// by which windows left. Where the other cores are not through the last barrier that is not known
    /// yet: `false`.
    fn catch_up(&mut self) -> bool {
        if !self.own().behind {
            return true;
        }
        let shared = Arc::clone(&self.worker.shared);
        let inner = shared.lock();
        let splits = inner.splits.as_ref().expect("a Kafka source has splits");
        if splits.cuts < self.barriers {
            drop(shared.wait_inside(inner, Some(LOOK_EVERY)));
            return false;
        }
        let floor = splits.floor;
        drop(inner);
        let own = self.own();
        own.clock.move_on(floor);
        own.behind = false;
        true
    }

    /// Tells outside how things stand, where that has changed.
    fn tell(&mut self, full: bool) {
        let standings: Vec<_> =
            self.splits.iter().map(|own| self.client.standing(own.split)).collect();
        let idle = !full && self.at == self.chunk.bytes.len();
        let caught_up = idle && standings.iter().all(|standing| standing.caught_up);
        let ended = idle && standings.iter().all(|standing| standing.ended);
        if self.told.replace((caught_up, ended, full)) == Some((caught_up, ended, full)) {
            return;
        }
        let mut inner = self.worker.shared.lock();
        if full && self.barriers == inner.barriers {
            inner.set_full(true);
        }
        inner.stand(self.worker.core, (caught_up, ended));
        drop(inner);
        self.worker.shared.tell_outside();
    }

    fn barrier(&mut self) {
        let part = self.worker.pipeline.barrier();
        self.barriers += 1;
        self.told = None;
        let reads = self.client.bytes_held() + self.chunk.bytes.capacity();
        let mut inner = self.worker.shared.lock();
        let (now, clock) = (inner.cut_at.expect("the barrier was asked for"), inner.clock);
        inner.charge(self.worker.core, reads, self.worker.pipeline.bytes_held());
        let splits = inner.splits.as_mut().expect("a Kafka source has splits");
        let idle_after = splits.idle_after;
        let rest = (self.at < self.chunk.bytes.len()).then_some(self.chunk.split);
        for own in &mut self.splits {
            let cut = &mut splits.all[own.split];
            cut.standing = match rest == Some(own.split) {
                true => Standing::default(),
                false => self.client.standing(own.split),
            };
            cut.offset = own.offset;
            cut.leader_epoch = own.leader_epoch;
            cut.event_time_max = own.clock.now;
            own.behind |= cut.is_idle(now, idle_after) || own.clock.now.is_none();
        }
        self.late_by = inner.late_by;
        inner.parts[self.worker.core] = Some(part);
        if inner.parts.iter().all(Option::is_some) {
            let splits = inner.splits.as_mut().expect("a Kafka source has splits");
            inner.stream_cut = Some(splits.cut(now, clock));
        }
        self.worker.shared.notify(inner);
    }
}

/// The message that holds a byte of the chunk.
fn message_at(chunk: &Chunk, byte: usize) -> usize {
    chunk.messages.partition_point(|message| message.start as usize <= byte) - 1
}

fn message_end(chunk: &Chunk, message: usize) -> usize {
    chunk.messages.get(message + 1).map_or(chunk.bytes.len(), |next| next.start as usize)
}

/// A dead letter's position is (split, offset, line in the message); so far it has the chunk's bytes.
fn place(letter: &mut DeadLetter, chunk: &Chunk) {
    let byte = letter.position.minor as usize;
    let message = chunk.messages[message_at(chunk, byte)];
    let before = &chunk.bytes[message.start as usize..byte];
    let row = before.iter().filter(|&&byte| byte == b'\n').count() as u64;
    letter.position = Position { major: message.offset as u64, minor: row, ..letter.position };
    letter.name = format!("{} offset {}", letter.name, message.offset).into();
    letter.line = row + 1;
}

/// Tells which messages may be decoded as one text.
struct Quotes {
    quote: u8,
    delimiter: u8,
    /// Only doubled quotes are looked through.
    backslash: bool,
}

impl Quotes {
    fn of(csv: &CsvDialect, quote: u8) -> Quotes {
        let backslash = csv.escape == Escape::Backslash;
        Quotes { quote, delimiter: csv.delimiter, backslash }
    }

    /// The end of the run of messages that begins at `from`, where one begins or is gone on with.
    fn run_end(&self, chunk: &Chunk, from: usize) -> usize {
        let mut at = from;
        while let Some(found) = memchr(self.quote, &chunk.bytes[at..]) {
            let message = message_at(chunk, at + found);
            let begin = chunk.messages[message].start as usize;
            let end = message_end(chunk, message);
            if !self.close_within(&chunk.bytes[begin..end]) {
                return if begin > from { begin } else { end };
            }
            at = end;
        }
        chunk.bytes.len()
    }

    /// Whether every quote of the message opens or closes a field as it should, so that the newline at
    /// its end is one outside of quotes. Careful: `false` only costs time.
    fn close_within(&self, message: &[u8]) -> bool {
        let Quotes { quote, delimiter, backslash } = *self;
        if backslash {
            return false;
        }
        let mut inside = false;
        let mut at = 0;
        while let Some(found) = memchr(quote, &message[at..]) {
            at += found;
            if !inside {
                let opens = at == 0 || matches!(message[at - 1], b if b == delimiter || b == b'\n');
                if !opens {
                    return false;
                }
                inside = true;
            } else if message.get(at + 1) == Some(&quote) {
                at += 1;
            } else {
                let closes = match message.get(at + 1) {
                    None => true,
                    Some(&b'\r') => message.get(at + 2) == Some(&b'\n'),
                    Some(&next) => next == delimiter || next == b'\n',
                };
                if !closes {
                    return false;
                }
                inside = false;
            }
            at += 1;
        }
        !inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages behind each other; gives the runs.
    fn runs(messages: &[&str]) -> Vec<String> {
        let mut chunk = Chunk::default();
        for (offset, message) in (0..).zip(messages) {
            chunk.push(offset, message.as_bytes());
        }
        let quotes = Quotes::of(&CsvDialect::default(), b'"');
        let (mut at, mut runs) = (0, Vec::new());
        while at < chunk.bytes.len() {
            let end = quotes.run_end(&chunk, at);
            assert!(end > at);
            runs.push(String::from_utf8_lossy(&chunk.bytes[at..end]).into_owned());
            at = end;
        }
        runs
    }

    #[test]
    fn messages_whose_quotes_close_are_one_text() {
        let messages = ["a,b", "\"a\",\"b \"\"c\"\"\"", "\"x\ny\",z", "1,\"\"\r\n2,\"3\""];
        assert_eq!(runs(&messages).len(), 1);
    }

    #[test]
    fn f02_a_quote_that_is_not_closed_ends_with_its_message() {
        let found = runs(&["a,b", "\"open,c", "d,e", "f,g\"h", "i\n\"j\"k", "l"]);
        assert_eq!(found, ["a,b\n", "\"open,c\n", "d,e\n", "f,g\"h\n", "i\n\"j\"k\n", "l\n"]);
    }
}
