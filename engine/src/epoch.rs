//! One epoch after the other: partials meet the state, rows leave, what changed is committed.
//!
//! Invariant: an epoch is a stretch of offsets, one state change, one output, one checkpoint, and
//! its output is a function of the rows in its stretch and of the state before it. What it commits
//! to is said by [`Finished`] alone, so it may be committed while the next one is made. No thread is started here; the shards' merges are
//! handed to the caller's [`Workers`].

mod durable;
#[cfg(test)]
mod event_time_tests;
mod level;
#[cfg(test)]
#[path = "epoch_tests.rs"]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::batch::{Counters, DeadLetter};
use crate::checkpoint::Journal;
use crate::error::{Error, Result};
use crate::job::spec::{LateRule, OnError, OutputMode};
use crate::pipeline::CoreEpoch;
use crate::plan::{Plan, Shape};
use crate::seeded::{self, Bug};
use crate::sink::{Committed, Staged};
use crate::state::spill::Room;
use crate::watermark::watermark_after;
use level::{Level, Passed};

/// Fewer rows than this say nothing about a stream's share of bad rows.
const ERROR_RATIO_ROWS_MIN: u64 = 1_000;

/// Work on one shard.
pub type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs tasks to their end, side by side where it can.
pub trait Workers {
    fn run(&self, tasks: Vec<Task<'_>>);
}

/// What the source hands over at a barrier.
pub struct EpochInput {
    pub cores: Vec<CoreEpoch>,
    /// Greatest event time seen up to the barrier; of several splits, what they have come to together.
    pub event_time_max: Option<i64>,
    /// Offsets, for the manifest.
    pub source: serde_json::Value,
    /// The bounded input is at its end: every window closes.
    pub ended: bool,
}

/// An epoch whose rows are ready to leave.
pub struct Finished {
    pub epoch: u64,
    pub rows: RecordBatch,
    /// Rows that came too late, where a sink takes them.
    pub late: Option<RecordBatch>,
    pub counters: Counters,
    /// Of the rows, those that a GPU worked on.
    pub gpu_rows: u64,
    /// Why the CPU had to do a GPU's work, each reason once.
    pub gpu_troubles: Vec<String>,
    /// Where `auto` goes on from here, where it thought again.
    pub gpu_rechosen: Option<String>,
    pub dead_letters: Vec<DeadLetter>,
    pub watermark: Option<i64>,
    pub event_time_max: Option<i64>,
    pub ended: bool,
    pub state: StateFacts,
    /// Offsets at its end, as the source wrote them.
    pub source: serde_json::Value,
    /// By level.
    delta: Vec<Vec<RecordBatch>>,
    rows_out: u64,
    /// The watermark as far as groups leave by it.
    evicts: Option<i64>,
}

/// What the running epoch has taken in so far, beside the state.
#[derive(Default)]
struct Running {
    counters: Counters,
    gpu_rows: u64,
    gpu_troubles: Vec<String>,
    gpu_rechosen: Option<String>,
    late: Vec<RecordBatch>,
    dead_letters: Vec<DeadLetter>,
    source: serde_json::Value,
    /// By level.
    delta: Vec<Vec<RecordBatch>>,
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
    plan: Arc<Plan>,
    journal: Option<Journal>,
    /// Deltas are made for a journal, whoever holds it.
    keeps_delta: bool,
    /// From the cores up; what leaves the last leaves the job.
    levels: Vec<Level>,
    next: u64,
    watermark: Option<i64>,
    event_time_max: Option<i64>,
    /// Greatest event time at the end of the epoch before.
    event_time_before: Option<i64>,
    max_error_ratio: Option<f64>,
    running: Running,
    /// Rows that left so far, for LIMIT in append mode.
    rows_out: u64,
}

impl Epochs {
    /// State in `shards` shards, from the journal's newest checkpoint where there is one.
    pub fn open(
        plan: Arc<Plan>,
        shards: usize,
        journal: Option<Journal>,
        errors: (OnError, Option<f64>),
    ) -> Result<(Epochs, Option<Restored>)> {
        Epochs::open_in(plan, shards, journal, errors, None)
    }

    /// As [`Epochs::open`], with room for state that is more than memory may hold.
    pub fn open_in(
        plan: Arc<Plan>,
        shards: usize,
        journal: Option<Journal>,
        (on_error, max_error_ratio): (OnError, Option<f64>),
        room: Option<&Room>,
    ) -> Result<(Epochs, Option<Restored>)> {
        room.into_iter().try_for_each(Room::clear)?;
        let plans = std::iter::successors(Some(Arc::clone(&plan)), |plan| plan.above.clone());
        let levels = plans.enumerate();
        let levels = levels.map(|(at, plan)| Level::open(plan, shards, at > 0, on_error, room));
        let levels: Vec<Level> = levels.collect();
        let mut epochs = Epochs {
            plan,
            keeps_delta: journal.is_some(),
            journal,
            levels,
            next: 0,
            watermark: None,
            event_time_max: None,
            event_time_before: None,
            max_error_ratio,
            running: Running::default(),
            rows_out: 0,
        };
        epochs.watermark = epochs.first_watermark();
        let restored = epochs.restore()?;
        Ok((epochs, restored))
    }

    /// The number of the epoch that is next to finish.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn event_time_max(&self) -> Option<i64> {
        self.event_time_max
    }

    /// Bytes of the state, and of what the running epoch holds beside it.
    pub fn bytes_held(&self) -> usize {
        let levels: usize = self.levels.iter().map(Level::bytes_held).sum();
        let letters = self.running.dead_letters.iter().map(DeadLetter::bytes_held);
        levels + self.delta_bytes() + letters.sum::<usize>()
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
        let EpochInput { mut cores, event_time_max, source, ended } = input;
        let mut late: Vec<_> = cores.iter_mut().flat_map(|core| core.late.drain(..)).collect();
        late.sort_by_key(|(order, _)| *order);
        self.running.late.extend(late.into_iter().map(|(_, rows)| rows));
        for core in &mut cores {
            self.running.counters.add(&core.counters);
            self.running.gpu_rows += core.gpu_rows;
            if let Some(trouble) = core.gpu_trouble.take()
                && !self.running.gpu_troubles.contains(&trouble)
            {
                self.running.gpu_troubles.push(trouble);
            }
            let rechosen = core.gpu_rechosen.take();
            self.running.gpu_rechosen = rechosen.or(self.running.gpu_rechosen.take());
            self.running.dead_letters.append(&mut core.dead_letters);
        }
        assert!(self.running.counters.close(), "one fate a row: {:?}", self.running.counters);
        self.running.source = source;
        self.event_time_max = self.event_time_max.max(event_time_max);
        self.watermark = if ended { Some(i64::MAX) } else { self.emission_watermark() };
        self.running.delta.resize_with(self.levels.len(), Vec::new);
        let rows = self.take(0, cores, workers)?;
        let rows = self.climb(0, rows, workers)?;
        self.leave(rows)
    }

    fn delta_bytes(&self) -> usize {
        self.running.delta.iter().flatten().map(RecordBatch::get_array_memory_size).sum()
    }

    /// What the running epoch's checkpoint needs so far, by level, where that is more than `most` bytes:
    /// for [`Journal::stage`], as memory need not hold it until the epoch's end.
    pub fn take_delta(&mut self, most: usize) -> Option<Vec<Vec<RecordBatch>>> {
        let is_much = self.delta_bytes() > most;
        is_much.then(|| self.running.delta.iter_mut().map(std::mem::take).collect())
    }

    /// What cores made goes into a level; the rows that leave it at once.
    fn take(
        &mut self,
        at: usize,
        cores: Vec<CoreEpoch>,
        workers: &dyn Workers,
    ) -> Result<RecordBatch> {
        let keeps_delta = self.keeps_delta;
        let passed = self.levels[at].take(cores, self.watermark, keeps_delta, workers)?;
        let Passed { rows, delta, dropped } = passed;
        // Rows that were seen before go no further.
        self.running.counters.applied -= dropped;
        self.running.counters.filtered += dropped;
        let forgets = at > 0 && seeded::is(Bug::UpperDeltaForgotten);
        if keeps_delta && self.plan.mode != OutputMode::Batch && !forgets {
            self.running.delta[at].extend(delta);
        }
        Ok(rows)
    }

    /// Rows that leave a level go through those above it; what leaves the last.
    fn climb(
        &mut self,
        at: usize,
        rows: RecordBatch,
        workers: &dyn Workers,
    ) -> Result<RecordBatch> {
        if at + 1 == self.levels.len() {
            return Ok(rows);
        }
        let fed = self.levels[at + 1].feed(&rows)?;
        if matches!(self.levels[at].plan.shape, Shape::First(_)) {
            // These are input rows still.
            let counters = &mut self.running.counters;
            counters.applied -= fed.counters.filtered + fed.counters.rejected;
            counters.filtered += fed.counters.filtered;
            counters.rejected += fed.counters.rejected;
            counters.late_windows += fed.counters.late_windows;
        }
        self.running.dead_letters.extend(fed.dead_letters);
        let rows = self.take(at + 1, vec![fed.core], workers)?;
        self.climb(at + 1, rows, workers)
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
        let ended = input.ended;
        let mut rows = self.absorb(input, workers)?;
        self.check_error_ratio()?;
        let mut state = StateFacts::default();
        for at in 0..self.levels.len() {
            let (emitted, facts) = self.levels[at].emit(self.watermark, ended, workers)?;
            state.add(&facts);
            if matches!(self.levels[at].plan.shape, Shape::Groups(_)) {
                let left = self.climb(at, emitted, workers)?;
                let left = self.leave(left)?;
                rows = concat_batches(&rows.schema(), [&rows, &left])
                    .map_err(|error| Error::failed(format!("the epoch's rows: {error}")))?;
            }
        }
        let dead_letters = self.take_dead_letters();
        let Running { counters, gpu_rows, gpu_troubles, gpu_rechosen, late, source, delta, .. } =
            std::mem::take(&mut self.running);
        let late = self.plan.late_rows.as_ref().map(|of| concat_batches(&of.schema, &late));
        let late = late.transpose().map_err(|e| Error::failed(format!("late rows: {e}")))?;
        self.event_time_before = self.event_time_max;
        let epoch = self.next;
        self.next += 1;
        Ok(Finished {
            epoch,
            rows,
            late,
            counters,
            gpu_rows,
            gpu_troubles,
            gpu_rechosen,
            dead_letters,
            watermark: self.watermark,
            event_time_max: self.event_time_max,
            ended,
            state,
            source,
            delta,
            rows_out: self.rows_out,
            evicts: self.evicts(self.watermark),
        })
    }

    /// In append mode LIMIT counts over the whole stream.
    fn leave(&mut self, mut rows: RecordBatch) -> Result<RecordBatch> {
        let output = self.plan.output();
        if let (OutputMode::Append, Some(limit)) = (self.plan.mode, output.limit) {
            let left = (limit as u64).saturating_sub(self.rows_out);
            rows = rows.slice(0, rows.num_rows().min(left as usize));
        }
        self.rows_out += rows.num_rows() as u64;
        Ok(rows)
    }

    fn check_error_ratio(&self) -> Result<()> {
        let counters = &self.running.counters;
        let Some(max) = self.max_error_ratio else { return Ok(()) };
        let ratio = counters.rejected as f64 / counters.rows_in as f64;
        if counters.rows_in < ERROR_RATIO_ROWS_MIN || ratio <= max {
            return Ok(());
        }
        Err(Error::failed(format!(
            "epoch {}: {} of {} rows were rejected, more than max_error_ratio = {max}; nothing of \
             this epoch was committed",
            self.next, counters.rejected, counters.rows_in
        )))
    }

    /// The watermark by which the running epoch emits and evicts: after all its rows or, by Spark's
    /// rule, after those of the epochs before.
    pub fn emission_watermark(&self) -> Option<i64> {
        let watermark = self.plan.watermark?;
        let seen = match watermark.late {
            LateRule::Row => self.event_time_max,
            LateRule::Epoch => self.event_time_before,
        };
        let after = seen.map(|time| watermark_after(time, watermark.delay_us));
        self.watermark.max(after)
    }

    /// Spark's clock begins at 1970, not before the first row.
    fn first_watermark(&self) -> Option<i64> {
        let rule = self.plan.watermark?.late;
        (rule == LateRule::Epoch).then_some(0)
    }

    /// The watermark by which the rows after the last finished epoch are late, where one is for all
    /// rows of an epoch.
    pub fn late_by(&self) -> Option<i64> {
        self.first_watermark().and(self.watermark)
    }

    /// Whether anything leaves a state by the watermark.
    pub fn closes_by_time(&self) -> bool {
        self.levels.iter().any(|level| level.plan.evicting(Some(0)).is_some())
    }

    /// Whether an epoch without rows has something to do: the watermark moved behind the last one.
    pub fn is_due(&self) -> bool {
        self.closes_by_time()
            && self.first_watermark().is_some()
            && self.emission_watermark() > self.watermark
    }

    /// The watermark as far as anything leaves a state by it.
    fn evicts(&self, watermark: Option<i64>) -> Option<i64> {
        self.levels.iter().find_map(|level| level.plan.evicting(watermark))
    }
}

#[cfg(test)]
impl Epochs {
    /// The state of the lowest level as it would leave in complete mode.
    pub(crate) fn table(&self) -> Result<RecordBatch> {
        self.levels[0].table()
    }
}
