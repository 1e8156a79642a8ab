//! One level of a query at an epoch's end: partials or rows come in by its arms, what leaves it goes
//! to the level above.
//!
//! An arm that reads a source gets what the cores made. One that reads a level has a pipeline of its
//! own, fed with the rows that leave that level.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
#[cfg(test)]
use arrow::datatypes::Schema;

use super::join::Meeting;
#[cfg(test)]
use super::leaving;
use super::leaving::{Leaving, Pieces};
use super::step::Step;
use super::{StateFacts, Task, Workers};
use crate::batch::{Counters, DeadLetter, InputBatch, Place};
use crate::checkpoint::Changes;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::format::json;
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::{CoreEpoch, EventClock, Pipeline};
use crate::plan::{Groups, Plan, Shape, query};
use crate::seeded::{self, Bug};
use crate::state::shard::{Part, Shard};
use crate::state::spill::{Room, Spill};
use crate::state::{Closing, partition, still_open};

pub(super) struct Level {
    /// Of the first arm: its state and its output are the level's.
    pub plan: Arc<Plan>,
    shards: Vec<Shard>,
    /// For rows that leave and are more than memory may hold.
    room: Option<Room>,
    /// Epochs that let rows leave.
    emissions: u64,
    /// By arm; none where the cores have them.
    pipelines: Vec<Option<Pipeline>>,
    /// Where two streams meet: it has the level's state.
    meeting: Option<Meeting>,
    closes: bool,
    /// Rows that came from below in the running epoch.
    fed: u64,
    growth: Growth,
}

/// What the running epoch's partials come to, for its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// So many rows of them are kept as they are.
    Partials(u64),
    /// They outgrew the state, which is written in their place at the epoch's end.
    State,
}

/// Fewer rows of partials are not worth a look at the state.
const OUTGROWN_MIN: u64 = if cfg!(test) { 8 } else { 1 << 16 };

/// What came of rows or partials at a level.
pub(super) struct Passed {
    /// Rows that leave at once.
    pub rows: RecordBatch,
    /// What a checkpoint needs.
    pub changes: Changes,
    /// Input rows that go no further: seen before.
    pub dropped: u64,
}

/// What an epoch's end makes of a level's state.
pub(super) struct Emitted {
    pub leaving: Leaving,
    pub facts: StateFacts,
    /// What a checkpoint needs, where that is known only now.
    pub changes: Changes,
}

/// What was fed to a level.
pub(super) struct Fed {
    pub core: CoreEpoch,
    pub counters: Counters,
    pub dead_letters: Vec<DeadLetter>,
}

impl Level {
    pub fn bytes_held(&self) -> usize {
        self.shards.iter().map(Shard::bytes_held).sum::<usize>()
            + self.meeting.as_ref().map_or(0, Meeting::bytes_held)
            + self.pipelines.iter().flatten().map(Pipeline::bytes_held).sum::<usize>()
    }

    pub fn open(
        level: &query::Level,
        shards: usize,
        on_error: OnError,
        room: Option<&Room>,
    ) -> Level {
        let plan = Arc::clone(level.plan());
        let shards = match &plan.shape {
            Shape::Groups(_) if !plan.fed_by_state => shards,
            // Rows come in their order, and few enough for one.
            Shape::Groups(_) | Shape::First(_) => 1,
            Shape::Rows { .. } => 0,
        };
        // Deduplication asks for a row's key at once; states above the lowest are small.
        let is_lowest = matches!(plan.shape, Shape::Groups(_)) && !plan.fed_by_state;
        let room = room.filter(|_| is_lowest);
        let shard = |number: usize| {
            let spill = room.map(|room| room.share(shards, &format!("shard-{number}")));
            level.state().map(|spec| Shard::new(spec, spill))
        };
        let stores = (0..shards).filter_map(shard).collect();
        let pipeline = |arm: &query::Arm| {
            let is_fed = matches!(arm.reads, query::Reads::Level(_));
            is_fed.then(|| Pipeline::new(Arc::clone(&arm.plan), on_error))
        };
        Level {
            plan,
            shards: stores,
            room: room.cloned(),
            emissions: 0,
            pipelines: level.arms.iter().map(pipeline).collect(),
            meeting: level.join.as_ref().map(Meeting::of),
            closes: level.evicting(Some(0)).is_some(),
            fed: 0,
            growth: Growth::Partials(0),
        }
    }

    /// Whether two streams meet here.
    pub fn is_join(&self) -> bool {
        self.meeting.is_some()
    }

    /// The watermark as far as anything leaves the state by it.
    pub fn evicting(&self, watermark: Option<i64>) -> Option<i64> {
        watermark.filter(|_| self.closes)
    }

    /// Makes room for so many groups that are about to come back.
    pub fn reserve(&mut self, groups: u64) {
        let shards = self.shards.len() as u64;
        // Shards differ by a little.
        self.shards.iter_mut().for_each(|shard| shard.reserve(groups / shards * 33 / 32));
    }

    /// Takes back the partials of a state file between the watermarks by which the state evicted.
    pub fn restore(
        &mut self,
        partials: &[RecordBatch],
        columns: &[String],
        (before, after): (Option<i64>, Option<i64>),
        workers: &dyn Workers,
    ) -> Result<()> {
        self.settle(before)?;
        if let Some(Meeting { store, .. }) = &mut self.meeting {
            partials.iter().try_for_each(|partial| store.merge_file(partial))?;
            return self.settle(after);
        }
        let inputs = self.split(partials);
        on_shards(&mut self.shards, inputs, workers, |shard, input| {
            input.iter().try_for_each(|partial| shard.merge_file(partial, columns))
        })?;
        self.settle(after)
    }

    /// The state as it would leave in complete mode.
    #[cfg(test)]
    pub fn table(&self) -> Result<RecordBatch> {
        let Shape::Groups(groups) = &self.plan.shape else {
            return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        };
        let columns =
            self.shards.iter().map(|shard| shard.in_memory().rows(&shard.in_memory().all()));
        leaving::in_order(groups, &columns.collect::<Result<Vec<_>>>()?)
    }

    /// Forgets all state.
    pub fn clear(&mut self) {
        self.shards.iter_mut().for_each(Shard::clear);
        self.meeting.iter_mut().for_each(Meeting::clear);
        self.growth = Growth::Partials(0);
    }

    pub fn settle(&mut self, watermark: Option<i64>) -> Result<()> {
        self.meeting.iter_mut().for_each(|meeting| meeting.store.settle(watermark));
        self.shards.iter_mut().try_for_each(|shard| shard.settle(watermark))
    }

    /// Rows from below through an arm's pipeline. `passed`: the watermark by which groups have left that
    /// may still be asked for.
    ///
    /// Errors: `Failed` where an expression stops and `on_error` says "fail".
    pub fn feed(
        &mut self,
        arm: usize,
        rows: &RecordBatch,
        (epoch, passed): (u64, Option<i64>),
    ) -> Result<Fed> {
        let pipeline = self.pipelines[arm].as_mut().expect("an arm above a level has its own");
        let count = rows.num_rows() as u32;
        let starts: Vec<u32> = (0..count).collect();
        let ends: Vec<u32> = (1..=count).collect();
        // A byte a row: so a dead letter's position is its row.
        let bytes = vec![b' '; rows.num_rows()];
        // Rows stand in the order in which they left: by epoch, and within it as they came.
        let before = self.fed;
        self.fed += u64::from(count);
        let name = "the rows of a state".into();
        let place = Place { name, line: 1, major: epoch, minor: before, ..Place::default() };
        let by = passed.map(|passed| EventClock::Fixed(passed, None));
        pipeline.open(0, by.unwrap_or(EventClock::known(None)));
        pipeline.push(&InputBatch {
            columns: rows.columns(),
            rows: rows.num_rows(),
            bytes: &bytes,
            row_starts: &starts,
            row_ends: &ends,
            value_errors: &[],
            row_errors: &[],
            place: &place,
        });
        let segment = pipeline.close();
        pipeline.keep(segment, 0)?;
        let mut core = pipeline.barrier();
        let counters = core.counters;
        let mut dead_letters = std::mem::take(&mut core.dead_letters);
        for letter in &mut dead_letters {
            letter.raw = json_row(rows, (letter.position.minor - before) as usize)?;
        }
        Ok(Fed { core, counters, dead_letters })
    }

    /// Takes in what cores, or an arm's own pipeline, made of rows.
    pub fn take(
        &mut self,
        arm: usize,
        cores: Vec<CoreEpoch>,
        watermark: Option<i64>,
        keeps_delta: bool,
        workers: &dyn Workers,
    ) -> Result<Passed> {
        if let Some(meeting) = &mut self.meeting {
            meeting.take(arm, cores);
            return Ok(Passed { rows: meeting.nothing(), changes: Changes::default(), dropped: 0 });
        }
        let plan = Arc::clone(&self.plan);
        let (mut partials, mut rows) = (Vec::new(), Vec::new());
        for core in cores {
            partials.extend(core.partial);
            rows.extend(core.rows);
        }
        rows.sort_by_key(|(order, _)| *order);
        let batches = rows.iter().map(|(_, batch)| batch);
        let whole = |schema| {
            concat_batches(schema, batches)
                .map_err(|error| Error::failed(format!("the epoch's rows: {error}")))
        };
        let evicts = plan.evicting(watermark);
        match &plan.shape {
            Shape::Rows { schema, .. } => {
                let rows = plan.output.run(whole(schema)?)?;
                Ok(Passed { rows, changes: Changes::default(), dropped: 0 })
            }
            Shape::First(first) => {
                let all = whole(&first.schema)?;
                let store = self.shards.first_mut().expect("deduplication has one shard");
                let admitted = store.whole().admit(first, &all, evicts)?;
                let dropped = (all.num_rows() - admitted.rows.num_rows()) as u64;
                let rows = plan.output.run(admitted.rows)?;
                let delta = match seeded::is(Bug::SeenKeysForgotten) {
                    true => Vec::new(),
                    false => vec![admitted.delta],
                };
                Ok(Passed { rows, changes: Changes::of(delta), dropped })
            }
            Shape::Groups(groups) => {
                self.merge(&partials, workers)?;
                let changes = match keeps_delta && plan.mode != OutputMode::Batch {
                    false => Changes::default(),
                    true => self.changes(groups, partials, evicts)?,
                };
                let rows = RecordBatch::new_empty(Arc::clone(&plan.output.schema));
                Ok(Passed { rows, changes, dropped: 0 })
            }
        }
    }

    /// What a checkpoint needs of partials that were merged: their rows, or the state where that is
    /// less. A core that gives its groups away many times an epoch makes partials of the same groups again
    /// and again.
    fn changes(
        &mut self,
        groups: &Groups,
        partials: Vec<RecordBatch>,
        evicts: Option<i64>,
    ) -> Result<Changes> {
        let is_at_ease = self.shards.iter().all(Shard::is_at_ease);
        let Growth::Partials(before) = self.growth else {
            if is_at_ease {
                return Ok(Changes::default());
            }
            // It is about to leave memory: while it fits, and from here on the partials again.
            self.growth = Growth::Partials(0);
            return Ok(Changes { is_whole: true, partials: self.snapshot()? });
        };
        let partials = match keeps_parts(groups) {
            true => partials,
            false => {
                let closing = closing(groups);
                partials.iter().map(|partial| still_open(closing, partial, evicts)).collect()
            }
        };
        let changes = Changes::of(partials);
        let rows = before + changes.rows();
        let held: usize = self.shards.iter().map(Shard::len).sum();
        if is_at_ease && rows > OUTGROWN_MIN.max(2 * held as u64) {
            self.growth = Growth::State;
            return Ok(Changes { is_whole: true, partials: Vec::new() });
        }
        self.growth = Growth::Partials(rows);
        Ok(changes)
    }

    /// The state as partials.
    fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let partials = self.shards.iter().map(Shard::partials);
        Ok(partials.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The rows of partials for each shard.
    fn split(&self, partials: &[RecordBatch]) -> Vec<Vec<RecordBatch>> {
        let shards = self.shards.len();
        let mut inputs: Vec<Vec<RecordBatch>> = vec![Vec::new(); shards];
        for partial in partials {
            let parts = partition::split(partial, self.plan.hashed_keys(), shards);
            inputs.iter_mut().zip(parts).for_each(|(input, part)| input.push(part));
        }
        inputs
    }

    fn merge(&mut self, partials: &[RecordBatch], workers: &dyn Workers) -> Result<()> {
        let inputs = self.split(partials);
        on_shards(&mut self.shards, inputs, workers, |shard, input| {
            input.iter().try_for_each(|partial| shard.merge(partial))
        })?;
        failpoint::reach("merge");
        Ok(())
    }

    /// The rows that leave at the epoch's end; what closes is evicted.
    pub fn emit(
        &mut self,
        watermark: Option<i64>,
        ended: bool,
        keeps_delta: bool,
        workers: &dyn Workers,
    ) -> Result<Emitted> {
        self.fed = 0;
        if let Some(meeting) = &mut self.meeting {
            let (rows, facts) = meeting.finish(watermark, ended)?;
            let changes = Changes::of(meeting.store.take_delta(keeps_delta)?);
            return Ok(Emitted { leaving: Leaving::Whole(Some(rows)), facts, changes });
        }
        let plan = Arc::clone(&self.plan);
        if let Shape::Groups(groups) = &plan.shape
            && groups.keys.is_empty()
            && let Some(shard) = self.shards.first_mut()
        {
            shard.ensure_global_group();
        }
        let emits = matches!(plan.shape, Shape::Groups(_));
        let step =
            Step { mode: plan.mode, watermark, evicts: plan.evicting(watermark), ended, emits };
        self.emissions += 1;
        let pieces =
            (0..self.shards.len()).map(|at| Pieces::new(Arc::clone(&plan), self.spill(at)));
        let pieces: Vec<Pieces> = pieces.collect();
        let emitted = on_shards(&mut self.shards, pieces, workers, |shard, mut pieces| {
            let mut facts = StateFacts::default();
            shard.each(step.need(), |store, part| {
                let (columns, of_part) = step.run(store)?;
                facts.add(&of_part);
                match (emits, part) {
                    (false, _) => Ok(()),
                    (true, Part::Hot) => pieces.push(columns),
                    // One of many: what leaves is held until all have been through.
                    (true, Part::Cold) => pieces.push(plan.output.having(columns)?),
                }
            })?;
            facts.rows = shard.len() as u64;
            facts.bytes = shard.bytes_held() as u64;
            Ok((pieces, facts))
        })?;
        let mut state = StateFacts::default();
        let mut pieces = Vec::with_capacity(emitted.len());
        for (of_shard, facts) in emitted {
            state.add(&facts);
            pieces.push(of_shard);
        }
        let changes = match std::mem::replace(&mut self.growth, Growth::Partials(0)) {
            Growth::Partials(_) => Changes::default(),
            Growth::State => Changes { is_whole: true, partials: self.snapshot()? },
        };
        Ok(Emitted { leaving: Leaving::of(&plan, pieces)?, facts: state, changes })
    }

    /// A shard's room for rows that leave in this epoch.
    fn spill(&self, shard: usize) -> Option<Spill> {
        let room = self.room.as_ref()?;
        let name = format!("leaving-{}-{shard}", self.emissions);
        let mut spill = room.share(self.shards.len(), &name);
        // Rows that are sorted are held twice; those of which all are needed at once are not written.
        spill.most = spill.bytes.saturating_mul(2);
        spill.bytes /= 4;
        Some(spill)
    }
}

/// A session grows: what is over by itself may be part of one that is not.
fn keeps_parts(groups: &Groups) -> bool {
    groups.session.is_some() && !seeded::is(Bug::SessionPartsForgotten)
}

/// When a group closes, so that no checkpoint needs it.
fn closing(groups: &Groups) -> Closing {
    match (Closing::of(groups), groups.window) {
        (Closing::Window { key, .. }, Some(window)) if seeded::is(Bug::SlideTakenForSize) => {
            Closing::Window { key, size_us: window.slide_us }
        }
        (closing, _) => closing,
    }
}

/// A row as a JSON object, for who has to read why it was not taken.
fn json_row(rows: &RecordBatch, row: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    json::Writer::default()
        .rows(&rows.slice(row, 1), b"", &mut text)
        .map_err(|error| Error::failed(format!("a row as JSON: {error}")))?;
    Ok(text)
}

/// Runs `work` on every shard with its input, side by side where the workers can.
fn on_shards<I: Send, O: Send>(
    shards: &mut [Shard],
    inputs: Vec<I>,
    workers: &dyn Workers,
    work: impl Fn(&mut Shard, I) -> Result<O> + Sync,
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
