//! Bytes to rows to the pipeline: what one core does with a stretch of input.
//!
//! Invariant: of a range exactly the rows that start in it are taken, whatever the pieces in which
//! its bytes arrive and however long its last row is. No allocation per row.

use std::sync::{Arc, OnceLock};

use memchr::memchr2_iter;
use pelton_engine::batch::Place;
use pelton_engine::error::Result;
use pelton_engine::failpoint;
use pelton_engine::pipeline::{EventClock, InternerSet, Pipeline, Segment};
use pelton_kernels::interner::Interner;

use super::shared::Shared;
use crate::decode::{Decoder, Interners, Mapping};
use crate::generate::Suite;
use crate::source::board::{Known, Outcome, Range};
use crate::source::window::Bytes;

/// Rows of a batch at most; the decoder also keeps a batch within 256 KiB.
const BATCH_ROWS_MAX: usize = 8 << 10;
/// Fewer rows of a batch, for tests: no answer depends on it.
const BATCH_ROWS_VARIABLE: &str = "PELTON_BATCH_ROWS";
/// Generated rows written at once: about 100 KiB, which stay in L2.
const GENERATED_ROWS: u64 = 2_048;

/// Rows of a batch at most, as this process has them.
pub fn batch_rows_max() -> usize {
    static ROWS: OnceLock<usize> = OnceLock::new();
    *ROWS.get_or_init(|| {
        let fewer = std::env::var(BATCH_ROWS_VARIABLE).ok().and_then(|rows| rows.parse().ok());
        fewer.unwrap_or(BATCH_ROWS_MAX).clamp(1, BATCH_ROWS_MAX)
    })
}

impl Interners for InternerSet<'_> {
    fn interner(&mut self, input: usize) -> &mut Interner {
        self.get(input)
    }
}

/// A decoder, a pipeline and where they are.
pub(crate) struct Worker {
    pub core: usize,
    pub shared: Arc<Shared>,
    pub decoder: Decoder,
    pub pipeline: Pipeline,
    /// What the pipeline should hold of an epoch at most.
    pub epoch_bytes_max: usize,
    /// The byte that opens and closes a quoted field, for guesses.
    pub quote: Option<u8>,
    pub place: Place,
    /// The range that is read next begins inside a line that was given up.
    pub inside_line: bool,
    /// Generated text on its way to the decoder.
    pub text: Vec<u8>,
}

/// What a call of the decoder came to.
pub(crate) struct Step {
    pub consumed: usize,
    pub rows: u64,
    /// What is left is no whole row.
    pub need_more: bool,
}

impl Worker {
    /// The epoch before is still on its way to its commit, and this one can grow no more: the run
    /// loop needs the processor.
    pub fn is_overcrowded(&self) -> bool {
        self.pipeline.epoch_bytes() >= 2 * self.epoch_bytes_max
    }

    /// The pipeline holds so much that the epoch should leave it.
    pub fn is_crowded(&self) -> bool {
        self.pipeline.epoch_bytes() >= self.epoch_bytes_max
    }

    /// Decodes a batch from the front of `bytes` and pushes it. `place` must be that of `bytes[0]`;
    /// its line advances.
    pub fn step(&mut self, bytes: &[u8], at_end: bool, max_rows: usize) -> Result<Step> {
        let mut interners = self.pipeline.interners();
        let decoded = self.decoder.decode(bytes, at_end, &mut interners, &self.place, max_rows);
        let step = Step {
            consumed: decoded.consumed,
            rows: (decoded.batch.rows + decoded.batch.row_errors.len()) as u64,
            need_more: decoded.need_more,
        };
        failpoint::reach("decode");
        let newlines = decoded.newlines;
        if step.rows > 0 {
            self.pipeline.push(&decoded.batch);
        }
        self.place.line += newlines;
        self.shared.beat(self.core);
        Ok(step)
    }

    /// Reads the rows that start in a range. `input` begins at the range's first row or, where that
    /// is to be guessed, one byte before the range.
    pub fn read(
        &mut self,
        input: &mut dyn Bytes,
        range: &Range,
        known: Known,
        (name, mapping): (&Arc<str>, &Mapping),
    ) -> Result<(Segment, Outcome)> {
        failpoint::reach("fetch");
        let row_start = match known.row_start {
            Some(start) => Some(start),
            None => self.guess(input, range)?,
        };
        self.begin(range, known, name, mapping);
        let start = row_start.unwrap_or(range.end);
        let (next, rows) = match row_start {
            Some(start) => self.read_rows(input, start, range)?,
            None => (start, 0),
        };
        let at_end = range.file_end.is_none() && input.at_file_end() && input.bytes().is_empty();
        Ok(self.finish(known, row_start, next, rows, at_end))
    }

    /// Opens a segment; its lines count from 1 on.
    fn begin(&mut self, range: &Range, known: Known, name: &Arc<str>, mapping: &Mapping) {
        let clock = match (range.late_by, known.clock) {
            (Some(watermark), clock) => {
                EventClock::Fixed(watermark, clock.and_then(|clock| clock.now))
            }
            (None, Some(clock)) => EventClock::Known(clock),
            (None, None) => EventClock::Guessed,
        };
        self.decoder.begin(mapping);
        if std::mem::take(&mut self.inside_line) {
            self.decoder.begin_inside_line();
        }
        self.pipeline.open(range.order, clock);
        let (major, name) = (range.file as u64, Arc::clone(name));
        self.place = Place { name, split: 0, major, minor: range.start, line: 1 };
    }

    fn finish(
        &mut self,
        known: Known,
        row_start: Option<u64>,
        next_row_start: u64,
        rows: u64,
        at_end: bool,
    ) -> (Segment, Outcome) {
        let segment = self.pipeline.close();
        let outcome = Outcome {
            row_start,
            next_row_start,
            lines: self.place.line - 1,
            rows,
            clock: segment.summary.clock,
            guess_holds_below: match known.clock {
                None => segment.summary.guess_holds_below,
                Some(_) => i64::MAX,
            },
            at_end,
        };
        (segment, outcome)
    }

    /// The first row start at or behind the range's start, if the range starts outside quotes and no
    /// unquoted field holds a quote. Consumes what is before it.
    fn guess(&self, input: &mut dyn Bytes, range: &Range) -> Result<Option<u64>> {
        let (mut at, mut quoted) = (range.start - 1, false);
        loop {
            let bytes = input.bytes();
            let found = match self.quote {
                None => memchr::memchr(b'\n', bytes),
                Some(quote) => memchr2_iter(b'\n', quote, bytes).find(|&i| {
                    quoted ^= bytes[i] == quote;
                    bytes[i] == b'\n' && !quoted
                }),
            };
            let passed = found.map_or(bytes.len(), |newline| newline + 1);
            input.consume(passed);
            at += passed as u64;
            if found.is_some() {
                return Ok((at < range.end).then_some(at));
            }
            if at >= range.end || !input.more()? {
                return Ok(None);
            }
        }
    }

    /// Reads rows from `start` on while they start in the range; returns where the next one starts,
    /// and their number.
    fn read_rows(
        &mut self,
        input: &mut dyn Bytes,
        start: u64,
        range: &Range,
    ) -> Result<(u64, u64)> {
        let (mut at, mut rows) = (start, 0);
        // The row at `at` reaches beyond the range: it is decoded alone.
        let mut beyond = false;
        // A line that was given up is passed over to its end: what follows it is a row start.
        while at < range.end && range.rows.is_none_or(|max| rows < max)
            || self.decoder.is_inside_line()
        {
            let file_ends = input.at_file_end();
            let bytes = input.bytes();
            if bytes.is_empty() {
                if !input.more()? {
                    break;
                }
                continue;
            }
            let inside = (bytes.len() as u64).min(range.end.saturating_sub(at)) as usize;
            beyond |= inside == 0;
            let taken = if beyond { bytes } else { &bytes[..inside] };
            let at_end = file_ends && range.complete && taken.len() == bytes.len();
            let (there, left_of_limit) =
                (bytes.len(), range.rows.map(|max| max.saturating_sub(rows)));
            let most = batch_rows_max();
            let max_rows = left_of_limit.map_or(most, |left| left.clamp(1, most as u64) as usize);
            self.place.minor = at;
            let step = self.step(taken, at_end, if beyond { 1 } else { max_rows })?;
            let left = taken.len() - step.consumed;
            input.consume(step.consumed);
            at += step.consumed as u64;
            rows += step.rows;
            if left == 0 || !step.need_more {
                beyond = false;
            } else if !beyond && inside < there {
                beyond = true;
            } else if !double(input, left)? && file_ends {
                break;
            }
        }
        Ok((at, rows))
    }

    /// Writes and reads generated rows `range.start .. range.end`; returns their bytes as well.
    pub fn generate(
        &mut self,
        suite: &Suite,
        range: &Range,
        known: Known,
        (name, mapping): (&Arc<str>, &Mapping),
    ) -> Result<(Segment, Outcome, u64)> {
        self.begin(range, known, name, mapping);
        let mut bytes = 0;
        for first in (range.start..range.end).step_by(GENERATED_ROWS as usize) {
            let mut text = std::mem::take(&mut self.text);
            text.clear();
            suite.write(first, GENERATED_ROWS.min(range.end - first), &mut text);
            (self.place.major, self.place.minor) = (first, 0);
            let mut at = 0;
            while at < text.len() {
                self.place.minor = at as u64;
                at += self.step(&text[at..], true, batch_rows_max())?.consumed;
            }
            bytes += text.len() as u64;
            self.text = text;
        }
        let rows = range.end - range.start;
        let (segment, outcome) = self.finish(known, Some(range.start), range.end, rows, false);
        Ok((segment, outcome, bytes))
    }
}

/// Brings in bytes until twice as many as the `left` ones are there: so a long row is looked at
/// twice, not once for each piece of it. `false`: there was nothing more.
fn double(input: &mut dyn Bytes, left: usize) -> Result<bool> {
    let mut any = false;
    while input.bytes().len() < 2 * left && input.more()? {
        any = true;
    }
    Ok(any)
}
