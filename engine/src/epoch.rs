//! One epoch after the other: partials meet the state, rows leave, what changed is committed.
//!
//! Invariant: an epoch is a stretch of offsets, one state change, one output, one checkpoint, and
//! its output is a function of the rows in its stretch and of the state before it. There is one
//! commit point: the publication of the manifest. No thread is started here; the shards' merges are
//! handed to the caller's [`Workers`].

mod durable;
#[cfg(test)]
#[path = "epoch_tests.rs"]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, concat_batches, take};
use arrow::datatypes::{Field, Schema};

use crate::batch::{Counters, DeadLetter};
use crate::checkpoint::Journal;
use crate::columns::plain_column;
use crate::error::{Error, Result};
use crate::job::spec::OutputMode;
use crate::pipeline::CoreEpoch;
use crate::plan::{Groups, Plan, Shape};
use crate::sink::{Committed, Staged};
use crate::state::{Closing, StateStore, order, partition, still_open};
use crate::watermark::watermark_after;

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
    /// Greatest event time seen up to the barrier.
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
    pub counters: Counters,
    pub dead_letters: Vec<DeadLetter>,
    pub watermark: Option<i64>,
    pub event_time_max: Option<i64>,
    pub ended: bool,
    pub state: StateFacts,
    /// Offsets at its end, as the source wrote them.
    pub source: serde_json::Value,
    delta: Vec<RecordBatch>,
    rows_out: u64,
}

/// What the running epoch has taken in so far, beside the state.
#[derive(Default)]
struct Running {
    counters: Counters,
    dead_letters: Vec<DeadLetter>,
    source: serde_json::Value,
    delta: Vec<RecordBatch>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFacts {
    pub rows: u64,
    pub updated: u64,
    pub removed: u64,
    pub bytes: u64,
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
    shards: Vec<StateStore>,
    next: u64,
    watermark: Option<i64>,
    event_time_max: Option<i64>,
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
        max_error_ratio: Option<f64>,
    ) -> Result<(Epochs, Option<Restored>)> {
        let stores = match &plan.shape {
            Shape::Rows { .. } => Vec::new(),
            Shape::Groups(groups) => (0..shards).map(|_| StateStore::new(groups)).collect(),
        };
        let mut epochs = Epochs {
            plan,
            journal,
            shards: stores,
            next: 0,
            watermark: None,
            event_time_max: None,
            max_error_ratio,
            running: Running::default(),
            rows_out: 0,
        };
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

    pub fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Takes in a part of the running epoch, so that no more than that has to be held. Rows of a query
    /// without groups come back and may be staged at once.
    ///
    /// Errors: `Failed` where an aggregate left its range; the state must not be used after an error.
    pub fn absorb(&mut self, input: EpochInput, workers: &dyn Workers) -> Result<RecordBatch> {
        let EpochInput { cores, event_time_max, source, ended } = input;
        let (mut partials, mut rows) = (Vec::new(), Vec::new());
        for core in cores {
            self.running.counters.add(&core.counters);
            self.running.dead_letters.extend(core.dead_letters);
            partials.extend(core.partial);
            rows.extend(core.rows);
        }
        assert!(self.running.counters.close(), "one fate a row: {:?}", self.running.counters);
        self.running.source = source;
        self.event_time_max = self.event_time_max.max(event_time_max);
        self.advance_watermark(ended);
        let plan = Arc::clone(&self.plan);
        match &plan.shape {
            Shape::Rows { schema, .. } => {
                rows.sort_by_key(|(order, _)| *order);
                let batches: Vec<&RecordBatch> = rows.iter().map(|(_, batch)| batch).collect();
                let rows = concat_batches(schema, batches)
                    .map_err(|error| Error::failed(format!("the epoch's rows: {error}")))?;
                self.leave(rows)
            }
            Shape::Groups(groups) => {
                self.merge(groups, partials, workers)?;
                Ok(RecordBatch::new_empty(Arc::clone(&plan.output.schema)))
            }
        }
    }

    /// Takes in the rest of the epoch and works out its rows.
    ///
    /// Errors: as [`Epochs::absorb`]; `Failed` where too many rows are bad.
    pub fn finish(&mut self, input: EpochInput, workers: &dyn Workers) -> Result<Finished> {
        let ended = input.ended;
        let mut rows = self.absorb(input, workers)?;
        self.check_error_ratio()?;
        let plan = Arc::clone(&self.plan);
        let mut state = StateFacts::default();
        if let Shape::Groups(groups) = &plan.shape {
            let (groups_out, facts) = self.emit(groups, ended, workers)?;
            state = facts;
            rows = self.leave(groups_out)?;
        }
        let Running { counters, mut dead_letters, source, delta } =
            std::mem::take(&mut self.running);
        dead_letters.sort_by_key(|letter| letter.position);
        Ok(Finished {
            epoch: self.next,
            rows,
            counters,
            dead_letters,
            watermark: self.watermark,
            event_time_max: self.event_time_max,
            ended,
            state,
            source,
            delta,
            rows_out: self.rows_out,
        })
    }

    /// HAVING, SELECT, ORDER BY, LIMIT; in append mode LIMIT counts over the whole stream.
    fn leave(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let mut rows = self.plan.output.run(rows)?;
        if let (OutputMode::Append, Some(limit)) = (self.plan.mode, self.plan.output.limit) {
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

    fn advance_watermark(&mut self, ended: bool) {
        let Some(watermark) = self.plan.watermark else { return };
        let seen = self.event_time_max.map(|time| watermark_after(time, watermark.delay_us));
        self.watermark = self.watermark.max(seen);
        if ended {
            self.watermark = Some(i64::MAX);
        }
    }

    /// Merges partials into the shards, and keeps of them what a checkpoint needs.
    fn merge(
        &mut self,
        groups: &Groups,
        partials: Vec<RecordBatch>,
        workers: &dyn Workers,
    ) -> Result<()> {
        let (keys, shards) = (groups.keys.len(), self.shards.len());
        let mut inputs: Vec<Vec<RecordBatch>> = vec![Vec::new(); shards];
        for partial in &partials {
            for (input, part) in inputs.iter_mut().zip(partition::split(partial, keys, shards)) {
                input.push(part);
            }
        }
        on_shards(&mut self.shards, inputs, workers, |shard, input| {
            input.iter().try_for_each(|partial| shard.merge(partial))
        })?;
        if self.journal.is_none() || self.plan.mode == OutputMode::Batch {
            return Ok(());
        }
        let evicts = self.plan.mode != OutputMode::Complete;
        let watermark = self.watermark.filter(|_| evicts);
        let closing = Closing::of(groups);
        self.running
            .delta
            .extend(partials.iter().map(|partial| still_open(closing, partial, watermark)));
        Ok(())
    }

    /// The groups that leave, in their order; what closes is evicted.
    fn emit(
        &mut self,
        groups: &Groups,
        ended: bool,
        workers: &dyn Workers,
    ) -> Result<(RecordBatch, StateFacts)> {
        if groups.keys.is_empty()
            && let Some(shard) = self.shards.first_mut()
        {
            shard.ensure_global_group();
        }
        let step = Step { mode: self.plan.mode, watermark: self.watermark, ended };
        let none = vec![(); self.shards.len()];
        let emitted = on_shards(&mut self.shards, none, workers, |shard, ()| step.run(shard))?;
        let mut state = StateFacts::default();
        let mut columns = Vec::with_capacity(emitted.len());
        for Emitted { columns: of_shard, facts } in emitted {
            state.rows += facts.rows;
            state.updated += facts.updated;
            state.removed += facts.removed;
            state.bytes += facts.bytes;
            columns.push(of_shard);
        }
        Ok((in_order(groups, &columns)?, state))
    }
}

/// Runs `work` on every shard with its input, side by side where the workers can.
fn on_shards<I: Send, O: Send>(
    shards: &mut [StateStore],
    inputs: Vec<I>,
    workers: &dyn Workers,
    work: impl Fn(&mut StateStore, I) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    let mut outcomes: Vec<Option<Result<O>>> = Vec::new();
    outcomes.resize_with(shards.len(), || None);
    let work = &work;
    let tasks = shards.iter_mut().zip(inputs).zip(&mut outcomes);
    let tasks = tasks.map(|((shard, input), outcome)| -> Task<'_> {
        Box::new(move || *outcome = Some(work(shard, input)))
    });
    workers.run(tasks.collect());
    outcomes.into_iter().map(|outcome| outcome.expect("the workers ran every task")).collect()
}

/// What an epoch does to each shard.
#[derive(Clone, Copy)]
struct Step {
    mode: OutputMode,
    watermark: Option<i64>,
    ended: bool,
}

struct Emitted {
    columns: Vec<ArrayRef>,
    facts: StateFacts,
}

impl Step {
    fn run(self, shard: &mut StateStore) -> Result<Emitted> {
        let leaving = match self.mode {
            OutputMode::Append if self.ended => shard.all(),
            OutputMode::Append => self.watermark.map_or(Vec::new(), |w| shard.closed(w)),
            OutputMode::Update => shard.touched().to_vec(),
            OutputMode::Complete | OutputMode::Batch => shard.all(),
        };
        let columns = shard.rows(&leaving)?;
        let updated = shard.touched().len() as u64;
        let removed = match self.mode {
            OutputMode::Complete => shard.settle(None),
            OutputMode::Batch => {
                let held = shard.len();
                shard.clear();
                held
            }
            OutputMode::Append | OutputMode::Update => shard.settle(self.watermark),
        };
        Ok(Emitted {
            columns,
            facts: StateFacts {
                rows: shard.len() as u64,
                updated,
                removed: removed as u64,
                bytes: shard.bytes_held() as u64,
            },
        })
    }
}

/// The shards' rows as one batch in the fixed order.
fn in_order(groups: &Groups, shards: &[Vec<ArrayRef>]) -> Result<RecordBatch> {
    let columns = shards.first().map_or(0, Vec::len);
    let mut joined = Vec::with_capacity(columns);
    for column in 0..columns {
        let parts: Vec<&dyn arrow::array::Array> =
            shards.iter().map(|shard| shard[column].as_ref()).collect();
        let whole = if let [one] = &parts[..] {
            arrow::array::make_array(one.to_data())
        } else {
            concat(&parts).map_err(|error| Error::failed(format!("the epoch's rows: {error}")))?
        };
        joined.push(whole);
    }
    let rows = shards.iter().map(|shard| shard.first().map_or(0, |column| column.len())).sum();
    let window = groups.window.map(|window| window.key);
    let sorted = UInt32Array::from(order::sorted(&joined[..groups.keys.len()], window, rows));
    let take_sorted = |column: &ArrayRef| {
        plain_column(&take(column, &sorted, None).expect("row numbers of this column"))
    };
    let columns = joined.iter().map(take_sorted).collect::<Result<Vec<ArrayRef>, _>>();
    let columns = columns.map_err(|error| Error::failed(format!("the epoch's rows: {error}")))?;
    let names = groups
        .keys
        .iter()
        .map(|key| key.name.clone())
        .chain(groups.aggregates.iter().map(|aggregate| aggregate.spec.name.clone()));
    let fields: Vec<Field> = names
        .zip(&columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::failed(format!("the epoch's rows: {error}")))
}
