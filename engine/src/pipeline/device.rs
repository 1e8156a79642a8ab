//! A core's kernels on a GPU: batches go up as they are pushed, rows are folded there as their
//! segments are kept, the table comes back at the barrier.
//!
//! Invariant: the input of what is on the device stays in host memory until the barrier has its
//! answer, so whatever happens to the device the epoch is whole: its rows are folded on the CPU
//! instead, into the same table, with the same bits. After that the CPU goes on alone for some epochs
//! before the device is tried again, each time twice as many.

mod gpu;
mod part;
mod rows;
mod shadow;

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use pelton_kernels::cpu::aggregate::{GroupTable, Positions};
use pelton_kernels::cpu::keys::{KeySpace, Rows};
use pelton_kernels::gpu::{
    Batch, Fate, Fault, GpuError, Passed, Place, Projector, ROWS_MAX, Selected, Table,
};

use super::derive::Derived;
use super::segment::Segment;
use super::{CoreEpoch, Pipeline, positions, windows};
use crate::batch::InputBatch;
use crate::plan::choice::Auto;
use crate::plan::device::{DevicePlan, Feed};
use crate::plan::expr::{Compiled, Evaluated};
use crate::plan::{Groups, Plan, Shape};
pub use gpu::{Gpu, Keep, Pipelines};
use part::Kept;
pub(super) use part::Part;

/// By expression: the rows that it failed at, and why.
type Stops = Vec<(usize, Vec<(u32, String)>)>;

/// Batches that wait for one submission.
const WAITING_MAX: usize = 8;
/// Epochs without the device after its first failure, and at most.
const EPOCHS_WITHOUT: u32 = 4;
const EPOCHS_WITHOUT_MAX: u32 = 256;
/// A test's first epoch loses the device at one of so many batches.
const LOST_WITHIN: u64 = 8;

impl Pipeline {
    /// The same pipeline with its filters, keys and groups on a device.
    pub fn on_device(mut self, gpu: &Arc<Gpu>) -> Self {
        self.device = Some(OnDevice::new(Arc::clone(gpu)));
        self
    }

    /// Sends rows to the device, where there is one that works.
    pub(super) fn project(
        &mut self,
        plan: &Plan,
        batch: &InputBatch<'_>,
        derived: Option<&Derived<'_>>,
    ) -> Option<Projected> {
        let device = self.device.as_mut()?;
        let groups = match &plan.shape {
            Shape::Groups(groups) => groups,
            Shape::Rows { .. } => return device.filter(batch.columns, batch.rows),
            Shape::First(_) => return None,
        };
        let grouping = self.grouping.as_mut().expect("a grouped plan has its groups");
        let (rows, starts, alive) = match derived {
            None => ((batch.columns, batch.rows), batch.row_starts, self.fates.alive_rows()),
            Some(derived) => {
                let rows = (derived.columns(), derived.rows());
                (rows, derived.row_starts(batch), self.fates.surviving(derived))
            }
        };
        let positions = positions(plan, batch, starts);
        device.project(groups, &mut grouping.space, rows, alive, &positions)
    }

    pub(super) fn fold_on_device(
        &mut self,
        segment: &mut Segment,
        batch: &InputBatch<'_>,
        groups: &Groups,
        derived: &Derived<'_>,
        mut projected: Projected,
    ) {
        let plan = Arc::clone(&self.plan);
        let device = self.device.as_mut().expect("it has projected the rows");
        let filters = device.plan().query.filters.len();
        for (row, reason) in projected.stops(groups, filters, derived.columns()) {
            self.fates.reject_expression(derived.parent(row), reason);
        }
        self.lateness.judge(batch, &plan, &mut self.fates, None);
        let (rows, alive) = (derived.rows(), self.fates.surviving(derived));
        let mut parts = Vec::new();
        match groups.window.filter(|window| window.overlaps()) {
            None => parts.push(device.part(&projected, rows, alive, 0)),
            Some(window) => {
                let time = window.time.expect("overlapping windows have it among the arguments");
                let of = |expr: &Compiled| expr.evaluate(derived.columns(), rows, alive).values;
                let starts = of(&groups.keys[window.key].expr);
                let times = of(&groups.arguments[time]);
                let sliding = windows::Sliding::of(window, &starts, &times);
                let judged_by = |row: u32| self.lateness.judged_by(derived.parent(row) as usize);
                let rows_alive = alive.map_or(Rows::All(rows), Rows::Selected);
                for step in 0..sliding.steps() {
                    let (open, late) = sliding.open(step, rows_alive, judged_by);
                    segment.summary.counters.late_windows += late;
                    let back_us = sliding.back_us(step);
                    parts.push(device.part(&projected, rows, Some(&open), back_us));
                }
            }
        }
        if let Some(part) = parts.first_mut() {
            part.rows = batch.rows as u64;
        }
        // A guessed segment may yet be thrown away.
        if segment.table.is_some() {
            segment.parts.extend(parts);
        } else {
            device.keep(parts, 0);
        }
    }
}

/// Why the CPU did a device's work in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub why: String,
    /// The device failed in this epoch, rather than in one before.
    pub is_new: bool,
}

/// The device as one core uses it.
pub(super) struct OnDevice {
    gpu: Arc<Gpu>,
    /// None where the job says where it runs.
    auto: Option<Auto>,
    /// None while the CPU goes on alone.
    kernels: Option<Kernels>,
    /// Input of the rows of this epoch that only the device has folded.
    kept: Vec<Kept>,
    waiting: Vec<Selected>,
    rows: u64,
    /// Of this epoch.
    batches: u64,
    /// Drained so far.
    epochs: u64,
    trouble: Option<String>,
    /// Why there is no device, as long as there is none.
    absent: Option<String>,
    /// The epoch that ends was the CPU's from its beginning.
    was_absent: bool,
    /// A choice that was made again, with another answer.
    rechosen: Option<String>,
    /// Epochs until the device is tried again; how many it will be next time.
    epochs_without: u32,
    patience: u32,
    /// [`Gpu::lose`], from epoch to epoch.
    lose: Option<u64>,
}

struct Kernels {
    projector: Projector,
    table: Table,
}

/// What the device made of a batch: fates, and records that wait there.
pub(super) struct Projected {
    pub fates: Vec<Fate>,
    batches: Vec<Arc<Batch>>,
    /// Of the first row.
    place: Place,
    /// The query's inputs.
    columns: Vec<ArrayRef>,
    /// Rows at which what the CPU computed stopped, by the number of the expression.
    stops: Stops,
    /// Of a query without groups what has come back.
    passed: Option<Passed>,
}

impl OnDevice {
    pub fn new(gpu: Arc<Gpu>) -> Self {
        let mut on_device = OnDevice {
            auto: gpu.auto.clone(),
            lose: gpu.lose,
            gpu,
            kernels: None,
            kept: Vec::new(),
            waiting: Vec::new(),
            rows: 0,
            batches: 0,
            epochs: 0,
            trouble: None,
            absent: None,
            was_absent: false,
            rechosen: None,
            epochs_without: 0,
            patience: EPOCHS_WITHOUT,
        };
        if on_device.is_wanted() {
            on_device.try_again();
        }
        on_device
    }

    fn is_wanted(&self) -> bool {
        self.auto.as_ref().is_none_or(|auto| auto.choice().on_gpu)
    }

    /// Takes notice of the epoch that ends, drained before: the next may be better off elsewhere.
    fn see(&mut self, rows: u64, groups: u64) {
        let Some(choice) = self.auto.as_mut().and_then(|auto| auto.see(rows, groups)) else {
            return;
        };
        self.rechosen = Some(choice.to_string());
        match choice.on_gpu {
            true => self.try_again(),
            false => self.kernels = None,
        }
    }

    pub fn plan(&self) -> &DevicePlan {
        &self.gpu.plan
    }

    /// Tells an epoch of so many groups the device's rows, why the CPU took over if it did, and where
    /// the next one is done, if elsewhere.
    pub fn tell(&mut self, epoch: &mut CoreEpoch, groups: u64) {
        self.see(epoch.counters.rows_in, groups);
        epoch.gpu_rows = std::mem::take(&mut self.rows);
        let is_new = self.trouble.is_some();
        let known = self.absent.clone().filter(|_| self.was_absent);
        epoch.gpu_trouble = self.trouble.take().or(known).map(|why| Trouble { why, is_new });
        epoch.gpu_rechosen = self.rechosen.take();
    }

    /// Bytes of input kept in case the epoch must be done again.
    pub fn bytes_held(&self) -> usize {
        self.kept.iter().map(Kept::bytes).sum()
    }

    fn try_again(&mut self) {
        match self.gpu.program() {
            Ok(program) => {
                let (projector, table) = (Projector::new(&program), Table::new(&program));
                if let Some(seed) = &mut self.lose {
                    // Knuth's generator; a batch is one submission or more.
                    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let before = (*seed >> 33) % self.batches.max(LOST_WITHIN);
                    program.device().faults.arm(Fault::Lost, before as u32);
                }
                if let Some(before) = self.gpu.flip {
                    program.device().faults.arm(Fault::BitFlip, before);
                }
                self.kernels = Some(Kernels { projector, table });
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn give_up(&mut self, error: &GpuError) {
        self.kernels = None;
        self.waiting.clear();
        // Rows of a query without groups have come back already.
        self.rows = if self.plan().gives_rows() { self.rows } else { 0 };
        self.absent = Some(error.to_string());
        self.trouble.get_or_insert_with(|| error.to_string());
        self.epochs_without = if self.lose.is_some() { 0 } else { self.patience };
        self.patience = (2 * self.patience).min(EPOCHS_WITHOUT_MAX);
    }

    /// Computes fates, keys and arguments of all rows on the device; none where the CPU must.
    ///
    /// `alive`: the rows that what the CPU computes first is asked for; none: all.
    pub fn project(
        &mut self,
        groups: &Groups,
        space: &mut KeySpace,
        (columns, rows): (&[ArrayRef], usize),
        alive: Option<&[u32]>,
        positions: &Positions<'_>,
    ) -> Option<Projected> {
        self.batches += 1;
        if self.kernels.is_none() || rows == 0 {
            return None;
        }
        let starts = positions.offsets;
        let (inputs, stops) = self.inputs(groups, space, (columns, rows), alive, starts);
        let Positions { split, major, minor, .. } = *positions;
        let kernels = self.kernels.as_mut()?;
        let (mut fates, mut batches) = (Vec::with_capacity(rows), Vec::new());
        let mut result = Ok(());
        for start in (0..rows).step_by(ROWS_MAX) {
            let some = ROWS_MAX.min(rows - start);
            let batch = kernels.projector.project(&inputs, start, some, &mut fates);
            let place = Place { split, major, minor, first: start as u32 };
            result = batch.map(|batch| batches.push(Arc::new(batch.at(place))));
            if result.is_err() {
                break;
            }
        }
        if is_shadowed(&self.gpu, self.epochs) {
            let query = &self.gpu.plan.query;
            result = result.and_then(|()| shadow::check_fates(query, &inputs, &fates));
        }
        if let Err(error) = result {
            // What was folded before is lost with the device; it is done again at the barrier.
            self.give_up(&error);
            return None;
        }
        let place = Place { split, major, minor, first: 0 };
        Some(Projected { fates, batches, place, columns: inputs, stops, passed: None })
    }

    fn inputs(
        &self,
        groups: &Groups,
        space: &mut KeySpace,
        (columns, rows): (&[ArrayRef], usize),
        alive: Option<&[u32]>,
        row_starts: &[u32],
    ) -> (Vec<ArrayRef>, Stops) {
        let filters = self.gpu.plan.query.filters.len();
        let mut stops = Vec::new();
        let mut compute = |number: usize, expr: &Compiled| {
            let Evaluated { values, errors } = expr.evaluate(columns, rows, alive);
            if !errors.is_empty() {
                stops.push((number, errors));
            }
            values
        };
        let mut input = |feed: &Feed| match *feed {
            Feed::Column(column) => Arc::clone(&columns[column]),
            Feed::Key(key) => compute(filters + key, &groups.keys[key].expr),
            Feed::KeyIds(key) => {
                let values = compute(filters + key, &groups.keys[key].expr);
                Arc::new(UInt32Array::from(space.ids(key, &values))) as ArrayRef
            }
            Feed::Argument(argument) => {
                compute(filters + groups.keys.len() + argument, &groups.arguments[argument])
            }
            Feed::RowStarts => Arc::new(UInt32Array::from(row_starts.to_vec())),
        };
        let inputs = self.gpu.plan.feeds.iter().map(&mut input).collect();
        (inputs, stops)
    }

    /// Folds the parts of a segment that was kept.
    ///
    /// `rows`: those that have come back already.
    pub fn keep(&mut self, parts: Vec<Part>, rows: u64) {
        self.rows += rows;
        for part in parts {
            self.kept.push(part.kept);
            // Batches of a device that was given up are nobody's.
            if self.kernels.is_some() && self.trouble.is_none() {
                self.waiting.extend(part.batches);
                self.rows += part.rows;
            }
        }
        if self.waiting.len() >= WAITING_MAX {
            self.send();
        }
    }

    /// Remembers for the epoch that ends whether the device was away, before it is tried again.
    fn note_absence(&mut self) {
        self.was_absent = self.kernels.is_none() && self.is_wanted();
    }

    fn send(&mut self) {
        let Some(kernels) = &mut self.kernels else { return };
        let waiting = std::mem::take(&mut self.waiting);
        if let Err(error) = kernels.table.aggregate(waiting, &mut kernels.projector) {
            self.give_up(&error);
        }
    }

    fn drain_device(
        &mut self,
        table: &mut GroupTable,
        space: &mut KeySpace,
    ) -> Result<(), GpuError> {
        let Some(kernels) = &mut self.kernels else { return Ok(()) };
        let shadowed = is_shadowed(&self.gpu, self.epochs) && !self.kept.is_empty();
        self.epochs += u64::from(!self.kept.is_empty());
        if !shadowed {
            return kernels.table.drain(table, space, &mut kernels.projector);
        }
        let query = &self.gpu.plan.query;
        let mut found = GroupTable::new(&query.key_fields, &query.calls);
        kernels.table.drain(&mut found, space, &mut kernels.projector)?;
        shadow::check_groups(query, &self.kept, &found, space)?;
        table.absorb(&found);
        Ok(())
    }

    /// An epoch that had fewer batches than the one before it has not lost its device yet.
    fn lose_at_last(&self) {
        if let (Some(_), Some(kernels), false) = (self.lose, &self.kernels, self.kept.is_empty()) {
            kernels.table.device().destroy();
        }
    }

    /// Ends the epoch: what the device folded, or was to fold, is in `table` afterwards.
    pub fn drain(&mut self, table: &mut GroupTable, space: &mut KeySpace) {
        self.note_absence();
        self.send();
        self.lose_at_last();
        if let Err(error) = self.drain_device(table, space) {
            self.give_up(&error);
        }
        let kept = std::mem::take(&mut self.kept);
        if self.kernels.is_some() {
            (self.patience, self.batches) = (EPOCHS_WITHOUT, 0);
            return;
        }
        if !self.is_wanted() && kept.is_empty() {
            return;
        }
        shadow::fold(&self.gpu.plan.query, &kept, table, space);
        self.epochs_without = self.epochs_without.saturating_sub(1);
        if self.epochs_without == 0 {
            self.try_again();
        }
        self.batches = 0;
    }
}

/// Is what the device makes of this epoch compared with what the CPU makes of it?
fn is_shadowed(gpu: &Gpu, epochs: u64) -> bool {
    gpu.shadow_one_in > 0 && epochs.is_multiple_of(gpu.shadow_one_in)
}

impl Projected {
    /// The rows at which a key or an argument stopped, and why, in the order of the expressions, then
    /// of the rows.
    pub fn stops(
        &mut self,
        groups: &Groups,
        filters: usize,
        columns: &[ArrayRef],
    ) -> Vec<(u32, String)> {
        let keys = groups.keys.iter().map(|key| &key.expr);
        let expressions: Vec<&Compiled> = keys.chain(&groups.arguments).collect();
        let on_device = self.fates.iter().enumerate().filter_map(|(row, fate)| {
            let number = fate.stopped_at()?.checked_sub(filters)?;
            Some((filters + number, row as u32, expressions[number].reason(columns, row)))
        });
        let computed = std::mem::take(&mut self.stops).into_iter().flat_map(|(number, rows)| {
            rows.into_iter().map(move |(row, reason)| (number, row, reason))
        });
        let mut stops: Vec<_> = on_device.chain(computed).collect();
        stops.sort_by_key(|(number, row, _)| (*number, *row));
        stops.into_iter().map(|(_, row, reason)| (row, reason)).collect()
    }
}

#[cfg(test)]
mod absence_tests;
#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
