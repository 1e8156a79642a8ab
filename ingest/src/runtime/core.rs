//! The loop of a core that takes ranges: read, decode, push; keep what held, repair what did not.
//!
//! Invariant: a range's rows enter the epoch only by its verdict, and a core passes a barrier only
//! when it holds no range without one: so an epoch is the ranges handed out before its cut.

use std::fs::File;
use std::sync::Arc;

use pelton_engine::error::Result;
use pelton_engine::pipeline::Segment;

use super::shared::{Inner, Shared};
use super::worker::Worker;
use crate::decode::Mapping;
use crate::generate::Suite;
use crate::ring::{HEADROOM_BYTES, PIECE_BYTES, Ring};
use crate::source::board::{Dispensed, Known, Outcome, Range, Verdict};
use crate::source::compressed::{Compression, Inflated};
use crate::source::files::{SourceFile, is_line_start};
use crate::source::window::Pieces;

/// Ranges that a core may hold without a verdict: what is decoded ahead of a slow neighbour.
const HELD_MAX: usize = 4;

/// A byte order mark may stand before a file's first row. Behind it, what is not preceded by a line
/// feed is the rest of a line that was given up at the file's end as it was then.
const BOM_BYTES: u64 = 3;

pub(crate) struct Core {
    pub shared: Arc<Shared>,
    pub worker: Worker,
    pub from: From,
    /// Barriers passed.
    barriers: u64,
    /// Ranges read, their verdicts outstanding.
    held: Vec<Held>,
}

/// Where a core's bytes come from.
pub(crate) enum From {
    Files(Box<FileInput>),
    Suite { suite: Suite, name: Arc<str>, mapping: Mapping },
}

pub(crate) struct FileInput {
    ring: Box<dyn Ring>,
    /// Memory for rows longer than a piece.
    gathered: Vec<u8>,
    open: Option<(usize, Arc<File>)>,
    inflated: Option<Inflated>,
}

impl FileInput {
    pub fn new(ring: Box<dyn Ring>) -> FileInput {
        FileInput { ring, gathered: Vec::new(), open: None, inflated: None }
    }
}

struct Held {
    order: u64,
    segment: Segment,
    bytes: u64,
}

/// What a core does next.
enum Next {
    Read(Range, Known, Option<Arc<SourceFile>>),
    Obey(Verdict, Option<Arc<SourceFile>>),
    Barrier,
    Stop,
}

impl Core {
    pub fn new(worker: Worker, from: From) -> Core {
        let shared = Arc::clone(&worker.shared);
        Core { shared, worker, from, barriers: 0, held: Vec::new() }
    }

    /// Runs until the job stops.
    ///
    /// Errors: whatever ends the job.
    pub fn run(&mut self) -> Result<()> {
        loop {
            match self.next() {
                Next::Stop => return Ok(()),
                Next::Barrier => self.barrier(),
                Next::Read(range, known, file) => self.take(range, known, file.as_deref())?,
                Next::Obey(verdict, file) => self.obey(verdict, file.as_deref())?,
            }
        }
    }

    /// Waits for something to do. Verdicts come first, as others wait for repairs; then a barrier.
    fn next(&self) -> Next {
        let core = self.worker.core;
        let mut inner = self.shared.lock();
        loop {
            if inner.stop {
                return Next::Stop;
            }
            let Inner { board, files, barriers, frozen, .. } = &mut *inner;
            let board = board.as_mut().expect("cores take ranges from a board");
            if let Some(verdict) = board.verdict(core) {
                let file = match &verdict {
                    Verdict::Again { range, .. } => files.get(range.file).cloned(),
                    Verdict::Keep { .. } => None,
                };
                return Next::Obey(verdict, file);
            }
            if self.barriers < *barriers {
                if self.held.is_empty() {
                    return Next::Barrier;
                }
            } else if self.held.len() < HELD_MAX && !self.is_laden() {
                match board.dispense(core) {
                    Dispensed::Work(range, known) => {
                        let file = files.get(range.file).cloned();
                        inner.set_caught_up(false, false);
                        return Next::Read(range, known, file);
                    }
                    Dispensed::EmptyFile => {
                        inner.note_input(self.barriers);
                        self.shared.tell_outside();
                        continue;
                    }
                    Dispensed::Empty => {
                        let ended = board.is_closed() || *frozen;
                        inner.set_caught_up(true, ended);
                        self.shared.tell_outside();
                    }
                    Dispensed::Full => {
                        inner.set_full(true);
                        self.shared.tell_outside();
                    }
                    Dispensed::Wait => {}
                }
            }
            inner = self.shared.wait_inside(inner, None);
        }
    }

    /// What is held must go before more is taken: the epoch before is still on its way, or a stream of
    /// bad rows (F08) waits for its verdicts.
    fn is_laden(&self) -> bool {
        let waiting: usize = self.held.iter().map(|held| held.segment.waiting_bytes()).sum();
        self.worker.is_overcrowded() || (waiting > 0 && waiting >= self.worker.epoch_bytes_max)
    }

    /// Reads a range and asks the board what it is worth.
    fn take(&mut self, range: Range, known: Known, file: Option<&SourceFile>) -> Result<()> {
        let (segment, outcome, bytes) = self.read(&range, known, file)?;
        self.held.push(Held { order: range.order, segment, bytes });
        let mut inner = self.shared.lock();
        inner.board.as_mut().expect("the range came from it").submit(range.order, outcome);
        self.shared.notify(inner);
        Ok(())
    }

    fn obey(&mut self, verdict: Verdict, file: Option<&SourceFile>) -> Result<()> {
        match verdict {
            Verdict::Keep { order, line } => {
                let held = self.release(order);
                self.keep(held, line)
            }
            Verdict::Again { range, row_start, line, clock, settled } => {
                let held = self.release(range.order);
                self.worker.pipeline.discard(held.segment);
                let known = Known { row_start: Some(row_start), clock: Some(clock) };
                if !settled {
                    return self.take(range, known, file);
                }
                let (segment, _, bytes) = self.read(&range, known, file)?;
                self.keep(Held { order: range.order, segment, bytes }, line)
            }
        }
    }

    fn release(&mut self, order: u64) -> Held {
        let at = self.held.iter().position(|held| held.order == order);
        self.held.swap_remove(at.expect("a verdict is on a range that this core holds"))
    }

    fn keep(&mut self, held: Held, line: u64) -> Result<()> {
        let rows = held.segment.summary.counters.rows_in;
        self.worker.pipeline.keep(held.segment, line - 1)?;
        let (reads, epoch) = self.bytes_held();
        let mut inner = self.shared.lock();
        inner.count(self.barriers, rows, held.bytes, self.worker.is_crowded());
        inner.charge(self.worker.core, reads, epoch);
        self.shared.tell_outside();
        Ok(())
    }

    fn barrier(&mut self) {
        let part = self.worker.pipeline.barrier();
        self.barriers += 1;
        let (reads, epoch) = self.bytes_held();
        let mut inner = self.shared.lock();
        inner.charge(self.worker.core, reads, epoch);
        inner.parts[self.worker.core] = Some(part);
        self.shared.notify(inner);
    }

    /// Buffers, and what was taken in.
    fn bytes_held(&self) -> (usize, usize) {
        let reads = match &self.from {
            From::Suite { .. } => 0,
            From::Files(input) => input.bytes_held(),
        };
        let held: usize = self.held.iter().map(|held| held.segment.bytes_held()).sum();
        let reads = reads + self.worker.text.capacity() + self.worker.decoder.bytes_held();
        (reads, held + self.worker.pipeline.bytes_held())
    }

    fn read(
        &mut self,
        range: &Range,
        known: Known,
        file: Option<&SourceFile>,
    ) -> Result<(Segment, Outcome, u64)> {
        let input = match &mut self.from {
            From::Suite { suite, name, mapping } => {
                return self.worker.generate(suite, range, known, (name, mapping));
            }
            From::Files(input) => input,
        };
        let file = file.expect("a range of a file source has its file");
        let (segment, outcome) = input.read(&mut self.worker, range, known, file)?;
        let from = outcome.row_start.unwrap_or(outcome.next_row_start);
        Ok((segment, outcome, outcome.next_row_start - from))
    }
}

impl FileInput {
    fn bytes_held(&self) -> usize {
        self.ring.slots() * (HEADROOM_BYTES + PIECE_BYTES) + self.gathered.capacity()
    }

    fn read(
        &mut self,
        worker: &mut Worker,
        range: &Range,
        known: Known,
        file: &SourceFile,
    ) -> Result<(Segment, Outcome)> {
        let mapping = file.mapping.as_ref().expect("a file with something to read has its head");
        let from = known.row_start.unwrap_or_else(|| range.start - 1);
        if file.compression != Compression::None {
            let inflated = match self.inflated.take() {
                Some(now) if now.file == range.file && now.position() == from => now,
                _ => Inflated::open(range.file, file, from)?,
            };
            let inflated = self.inflated.insert(inflated);
            return worker.read(inflated, range, known, (&file.name, mapping));
        }
        let handle = match &self.open {
            Some((number, handle)) if *number == range.file => Arc::clone(handle),
            _ => file.open()?,
        };
        self.open = Some((range.file, Arc::clone(&handle)));
        let inside_line = match known.row_start {
            Some(start) if start == range.start && start > BOM_BYTES => {
                !is_line_start(&handle, &file.name, start)?
            }
            _ => false,
        };
        let file_end = range.file_end.expect("the size of a plain file is known");
        let (ring, until) = (&mut *self.ring, range.end);
        let mut pieces =
            Pieces::begin(ring, &mut self.gathered, file, &handle, from, until, file_end)?;
        worker.inside_line = inside_line;
        worker.read(&mut pieces, range, known, (&file.name, mapping))
    }
}
