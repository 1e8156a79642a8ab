//! One epoch after the other: partials meet the state, rows leave, what changed is committed.
//!
//! Invariant: an epoch is a stretch of offsets, one state change, one output, one checkpoint, and
//! its output is a function of the rows in its stretch and of the state before it. What it commits
//! to is said by [`Finished`] alone, so it may be committed while the next one is made. No thread is
//! started here; the shards' merges are handed to the caller's [`Workers`].

pub mod bounded;
mod clocks;
mod durable;
#[cfg(test)]
mod event_time_tests;
mod join;
#[cfg(test)]
mod join_tests;
mod leaving;
mod level;
mod step;
#[cfg(test)]
#[path = "epoch_tests.rs"]
mod tests;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::batch::{Counters, DeadLetter};
use crate::checkpoint::{Changes, Journal};
use crate::error::{Error, Result};
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::{CoreEpoch, Trouble};
use crate::plan::query::Scan;
use crate::plan::{Query, Shape};
use crate::seeded::{self, Bug};
use crate::sink::{Committed, Staged};
use crate::state::spill::Room;
use clocks::Clocks;
use leaving::Leaving;
use level::{Level, Passed};
pub(crate) use workers::OneByOne;
pub use workers::{Task, Workers};

/// Fewer rows than this say nothing about a stream's share of bad rows.
const ERROR_RATIO_ROWS_MIN: u64 = 1_000;

/// Rows that leave are handed over when they are this much and more come.
const PART_BYTES: usize = 16 << 20;

/// What the sources hand over at a barrier.
pub struct EpochInput {
    /// By scan of the query.
    pub scans: Vec<ScanInput>,
    /// Offsets of all, for the manifest.
    pub source: serde_json::Value,
}

impl EpochInput {
    /// All input is at its end.
    pub fn has_ended(&self) -> bool {
        self.scans.iter().all(|scan| scan.ended)
    }
}

/// What one scan hands over. Where all have ended, every window closes.
pub struct ScanInput {
    pub cores: Vec<CoreEpoch>,
    /// Greatest event time seen up to the barrier; of several splits, what they have come to together.
    pub event_time_max: Option<i64>,
    /// The bounded input is at its end.
    pub ended: bool,
}

/// An epoch whose rows are ready to leave.
pub struct Finished {
    pub epoch: u64,
    /// Without those that were handed over before.
    pub rows: RecordBatch,
    pub rows_before: u64,
    /// Rows that came too late, where a sink takes them.
    pub late: Option<RecordBatch>,
    pub counters: Counters,
    /// Of the rows, those that a GPU worked on.
    pub gpu_rows: u64,
    /// Why the CPU had to do a GPU's work, each reason once.
    pub gpu_troubles: Vec<Trouble>,
    /// Where `auto` goes on from here, where it thought again.
    pub gpu_rechosen: Option<String>,
    pub dead_letters: Vec<DeadLetter>,
    pub watermark: Option<i64>,
    pub event_time_max: Option<i64>,
    /// Input rows by scan.
    pub scan_rows: Vec<u64>,
    pub ended: bool,
    pub state: StateFacts,
    /// Offsets at its end, as the source wrote them.
    pub source: serde_json::Value,
    /// By level.
    changes: Vec<Changes>,
    clocks: Vec<Option<i64>>,
    rows_out: u64,
    /// The watermark as far as groups leave by it.
    evicts: Option<i64>,
}

/// What the running epoch has taken in so far, beside the state.
#[derive(Default)]
struct Running {
    counters: Counters,
    /// Of the rows as the cores took them.
    by_scan: Vec<Counters>,
    gpu_rows: u64,
    gpu_troubles: Vec<Trouble>,
    gpu_rechosen: Option<String>,
    late: Vec<RecordBatch>,
    dead_letters: Vec<DeadLetter>,
    source: serde_json::Value,
    /// By level.
    changes: Vec<Changes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFacts {
    pub rows: u64,
    pub updated: u64,
    pub removed: u64,
    pub bytes: u64,
}

impl StateFacts {
    fn add(&mut self, other: &StateFacts) {
        self.rows += other.rows;
        self.updated += other.updated;
        self.removed += other.removed;
        self.bytes += other.bytes;
    }
}

/// What a run goes on from.
pub struct Restored {
    pub committed: Committed,
    pub source: serde_json::Value,
    pub ended: bool,
    /// By the sink's name.
    pub sinks: BTreeMap<String, Staged>,
    /// Why newer checkpoints cannot be used; none where this is the newest.
    pub passed_over: Vec<String>,
}

pub struct Epochs {
    query: Arc<Query>,
    journal: Option<Journal>,
    /// Deltas are made for a journal, whoever holds it.
    keeps_delta: bool,
    /// As the query's.
    levels: Vec<Level>,
    /// By level: the one and its arm that its rows go to; what leaves the last leaves the job.
    above: Vec<Option<(usize, usize)>>,
    next: u64,
    watermark: Option<i64>,
    /// By which the last finished epoch emitted.
    emitted: Option<i64>,
    clocks: Clocks,
    /// By scan.
    max_error_ratios: Vec<Option<f64>>,
    running: Running,
    /// Rows that left so far, for LIMIT in append mode.
    rows_out: u64,
}

impl Epochs {
    /// State in `shards` shards, from the journal's newest checkpoint where there is one.
    /// `max_error_ratios`: by scan; what is left out has none.
    pub fn open(
        query: Arc<Query>,
        shards: usize,
        journal: Option<Journal>,
        errors: (OnError, &[Option<f64>]),
    ) -> Result<(Epochs, Option<Restored>)> {
        Epochs::open_in(query, shards, journal, errors, (None, &OneByOne))
    }

    /// As [`Epochs::open`], with room for state that is more than memory may hold.
    pub fn open_in(
        query: Arc<Query>,
        shards: usize,
        journal: Option<Journal>,
        (on_error, max_error_ratios): (OnError, &[Option<f64>]),
        (room, workers): (Option<&Room>, &dyn Workers),
    ) -> Result<(Epochs, Option<Restored>)> {
        room.into_iter().try_for_each(Room::clear)?;
        let clocks = Clocks::of(&query);
        let levels = query.levels.iter().map(|level| Level::open(level, shards, on_error, room));
        let mut epochs = Epochs {
            keeps_delta: journal.is_some(),
            levels: levels.collect(),
            above: (0..query.levels.len()).map(|level| query.above(level)).collect(),
            query,
            journal,
            next: 0,
            watermark: clocks.first(),
            emitted: None,
            clocks,
            max_error_ratios: max_error_ratios.to_vec(),
            running: Running::default(),
            rows_out: 0,
        };
        let restored = epochs.restore(workers)?;
        Ok((epochs, restored))
    }

    /// The number of the epoch that is next to finish.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn event_time_max(&self) -> Option<i64> {
        self.clocks.greatest()
    }

    /// Bytes of the state, and of what the running epoch holds beside it.
    pub fn bytes_held(&self) -> usize {
        let levels: usize = self.levels.iter().map(Level::bytes_held).sum();
        let letters = self.running.dead_letters.iter().map(DeadLetter::bytes_held);
        levels + self.changed_bytes() + letters.sum::<usize>()
    }

    pub fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Hands the journal over to whoever commits beside the next epoch.
    pub fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    /// Takes in a part of the running epoch, so that no more than that has to be held. Rows that no
    /// state holds back come back and may be staged at once.
    ///
    /// Errors: `Failed` where an aggregate left its range; the state must not be used after an error.
    pub fn absorb(&mut self, input: EpochInput, workers: &dyn Workers) -> Result<RecordBatch> {
        let EpochInput { scans, source } = input;
        let ended = scans.iter().all(|scan| scan.ended);
        self.running.source = source;
        self.running.by_scan.resize_with(scans.len(), Counters::default);
        let mut cores = Vec::with_capacity(scans.len());
        for (at, mut scan) in scans.into_iter().enumerate() {
            self.clocks.see(at, scan.event_time_max, scan.ended);
            self.count(at, &mut scan.cores);
            cores.push(scan.cores);
        }
        assert!(self.running.counters.close(), "one fate a row: {:?}", self.running.counters);
        self.watermark = if ended { Some(i64::MAX) } else { self.emission_watermark() };
        self.running.changes.resize_with(self.levels.len(), Changes::default);
        let mut left = Vec::with_capacity(cores.len());
        for (at, cores) in cores.into_iter().enumerate() {
            let Scan { level, arm, .. } = self.query.scans[at];
            let rows = self.take((level, arm), cores, workers)?;
            left.push(self.climb(level, rows, workers)?);
        }
        let rows = self.together(left)?;
        self.leave(rows)
    }

    /// Counts what a scan's cores have made of their rows.
    fn count(&mut self, scan: usize, cores: &mut [CoreEpoch]) {
        let running = &mut self.running;
        let mut late: Vec<_> = cores.iter_mut().flat_map(|core| core.late.drain(..)).collect();
        late.sort_by_key(|(order, _)| *order);
        running.late.extend(late.into_iter().map(|(_, rows)| rows));
        for core in cores {
            running.counters.add(&core.counters);
            running.by_scan[scan].add(&core.counters);
            running.gpu_rows += core.gpu_rows;
            if let Some(trouble) = core.gpu_trouble.take()
                && !running.gpu_troubles.contains(&trouble)
            {
                running.gpu_troubles.push(trouble);
            }
            let rechosen = core.gpu_rechosen.take();
            running.gpu_rechosen = rechosen.or(running.gpu_rechosen.take());
            running.dead_letters.append(&mut core.dead_letters);
        }
    }

    /// What cores made goes into a level; the rows that leave it at once.
    fn take(
        &mut self,
        (at, arm): (usize, usize),
        cores: Vec<CoreEpoch>,
        workers: &dyn Workers,
    ) -> Result<RecordBatch> {
        let keeps_delta = self.keeps_delta;
        let watermark = self.query.watermark_at(at, self.watermark);
        let passed = self.levels[at].take(arm, cores, watermark, keeps_delta, workers)?;
        let Passed { rows, changes, dropped } = passed;
        // Rows that were seen before go no further.
        self.running.counters.applied -= dropped;
        self.running.counters.filtered += dropped;
        let forgets = at > 0 && seeded::is(Bug::UpperDeltaForgotten);
        if keeps_delta && self.query.mode() != OutputMode::Batch && !forgets {
            self.running.changes[at].extend(changes);
        }
        Ok(rows)
    }

    /// Rows that leave a level go through those above it; what leaves the last.
    fn climb(
        &mut self,
        mut at: usize,
        mut rows: RecordBatch,
        workers: &dyn Workers,
    ) -> Result<RecordBatch> {
        while let Some((above, arm)) = self.above[at] {
            let passed = self.emitted.filter(|_| self.levels[at].is_join());
            let passed = self.levels[above].evicting(self.query.watermark_at(above, passed));
            let fed = self.levels[above].feed(arm, &rows, (self.next, passed))?;
            if self.levels[at].is_join() {
                self.running.counters.late_windows += fed.counters.late_windows;
            }
            if matches!(self.levels[at].plan.shape, Shape::First(_)) {
                // These are input rows still.
                let counters = &mut self.running.counters;
                counters.applied -= fed.counters.filtered + fed.counters.rejected;
                counters.filtered += fed.counters.filtered;
                counters.rejected += fed.counters.rejected;
                counters.late_windows += fed.counters.late_windows;
            }
            self.running.dead_letters.extend(fed.dead_letters);
            rows = self.take((above, arm), vec![fed.core], workers)?;
            at = above;
        }
        Ok(rows)
    }

    /// Rows that leave the job, as one batch.
    fn together(&self, mut rows: Vec<RecordBatch>) -> Result<RecordBatch> {
        if rows.len() == 1 {
            return Ok(rows.swap_remove(0));
        }
        concat_batches(&self.query.output().schema, &rows)
            .map_err(|error| Error::failed(format!("the epoch's rows: {error}")))
    }

    /// The dead letters that the running epoch has taken in so far, in their order; they may be staged at
    /// once, so that a stream of bad rows needs no more memory than a part of an epoch.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        let mut letters = std::mem::take(&mut self.running.dead_letters);
        letters.sort_by_key(|letter| letter.position);
        letters
    }

    /// Takes in the rest of the epoch and works out its rows. The next one builds on it at once,
    /// committed or not: the state is behind every commit only until the process ends.
    ///
    /// Errors: as [`Epochs::absorb`]; `Failed` where too many rows are bad.
    pub fn finish(&mut self, input: EpochInput, workers: &dyn Workers) -> Result<Finished> {
        let mut before = Vec::new();
        let mut finished = self.finish_in_parts(input, workers, &mut |rows| {
            before.push(rows);
            Ok(())
        })?;
        if !before.is_empty() {
            before.push(finished.rows);
            finished.rows = self.together(before)?;
            finished.rows_before = 0;
        }
        Ok(finished)
    }

    /// As [`Epochs::finish`]; rows that memory should not hold are handed over in their order.
    ///
    /// Errors: as [`Epochs::finish`], and those of `hand_over`.
    pub fn finish_in_parts(
        &mut self,
        input: EpochInput,
        workers: &dyn Workers,
        hand_over: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<Finished> {
        let ended = input.has_ended();
        let mut rows = vec![self.absorb(input, workers)?];
        let mut rows_before = 0;
        self.check_error_ratios()?;
        let mut state = StateFacts::default();
        for at in 0..self.levels.len() {
            let watermark = self.query.watermark_at(at, self.watermark);
            let keeps_delta = self.keeps_delta;
            let mut emitted = self.levels[at].emit(watermark, ended, keeps_delta, workers)?;
            state.add(&emitted.facts);
            self.running.changes[at].extend(emitted.changes);
            while let Some(leaving) = emitted.leaving.advance()? {
                if matches!(emitted.leaving, Leaving::Merged(_)) && bytes_of(&rows) > PART_BYTES {
                    let part = self.together(std::mem::take(&mut rows))?;
                    rows_before += part.num_rows() as u64;
                    hand_over(part)?;
                }
                let left = self.climb(at, leaving, workers)?;
                rows.push(self.leave(left)?);
            }
        }
        let dead_letters = self.take_dead_letters();
        let running = std::mem::take(&mut self.running);
        let late = self.query.late_rows().map(|of| concat_batches(&of.schema, &running.late));
        let late = late.transpose().map_err(|e| Error::failed(format!("late rows: {e}")))?;
        self.clocks.end_epoch();
        let epoch = self.next;
        self.next += 1;
        self.emitted = self.watermark;
        Ok(Finished {
            epoch,
            rows: self.together(rows)?,
            rows_before,
            late,
            counters: running.counters,
            gpu_rows: running.gpu_rows,
            gpu_troubles: running.gpu_troubles,
            gpu_rechosen: running.gpu_rechosen,
            dead_letters,
            watermark: self.watermark,
            event_time_max: self.clocks.greatest(),
            scan_rows: running.by_scan.iter().map(|counters| counters.rows_in).collect(),
            ended,
            state,
            source: running.source,
            changes: running.changes,
            clocks: self.clocks.times(),
            rows_out: self.rows_out,
            evicts: self.evicts(self.watermark),
        })
    }

    /// In append mode LIMIT counts over the whole stream.
    fn leave(&mut self, mut rows: RecordBatch) -> Result<RecordBatch> {
        let limit = self.query.output().limit;
        if let (OutputMode::Append, Some(limit)) = (self.query.mode(), limit) {
            let left = (limit as u64).saturating_sub(self.rows_out);
            rows = rows.slice(0, rows.num_rows().min(left as usize));
        }
        self.rows_out += rows.num_rows() as u64;
        Ok(rows)
    }

    fn check_error_ratios(&self) -> Result<()> {
        for (counters, max) in self.running.by_scan.iter().zip(&self.max_error_ratios) {
            let Some(max) = max else { continue };
            let ratio = counters.rejected as f64 / counters.rows_in as f64;
            if counters.rows_in >= ERROR_RATIO_ROWS_MIN && ratio > *max {
                return Err(Error::failed(format!(
                    "epoch {}: {} of {} rows were rejected, more than max_error_ratio = {max}; \
                     nothing of this epoch was committed",
                    self.next, counters.rejected, counters.rows_in
                )));
            }
        }
        Ok(())
    }

    /// The watermark by which the running epoch emits and evicts: it never goes back.
    pub fn emission_watermark(&self) -> Option<i64> {
        self.watermark.max(self.clocks.watermark())
    }

    /// The watermark by which the rows after the last finished epoch are late, where one is for all
    /// rows of an epoch.
    pub fn late_by(&self) -> Option<i64> {
        self.clocks.first().and(self.watermark)
    }

    /// Whether anything leaves a state by the watermark.
    pub fn closes_by_time(&self) -> bool {
        self.levels.iter().any(|level| level.evicting(Some(0)).is_some())
    }

    /// Whether an epoch without rows has something to do: the watermark moved behind the last one.
    pub fn is_due(&self) -> bool {
        self.closes_by_time()
            && self.clocks.first().is_some()
            && self.emission_watermark() > self.watermark
    }

    /// The watermark as far as anything leaves a state by it.
    fn evicts(&self, watermark: Option<i64>) -> Option<i64> {
        self.levels.iter().find_map(|level| level.evicting(watermark))
    }
}

fn bytes_of(rows: &[RecordBatch]) -> usize {
    rows.iter().map(RecordBatch::get_array_memory_size).sum()
}

#[cfg(test)]
impl Epochs {
    /// The state of the lowest level as it would leave in complete mode.
    pub(crate) fn table(&self) -> Result<RecordBatch> {
        self.levels[0].table()
    }
}
