//! What one core does with its rows: fate, filter, lateness, groups or rows, up to the partial.
//!
//! A pipeline is driven by the ingest thread that owns it; nothing here blocks, allocates per row or
//! knows where bytes come from. Rows come in segments (a range of a file, or simply the epoch's
//! stretch of a socket). A segment whose start was guessed is kept apart until its guess is known to
//! hold, so that it can be thrown away and read again. `fate` decides what becomes of each row, `late`
//! which rows come too late.

mod derive;
pub mod device;
mod fate;
mod join;
mod late;
mod segment;
#[cfg(test)]
pub(crate) mod tests;
mod windows;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::Field;
use pelton_kernels::cpu::aggregate::{Call, GroupTable, Positions};
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};
use pelton_kernels::interner::Interner;

use crate::batch::{Counters, DeadLetter, Encoding, InputBatch};
use crate::error::{Error, Result};
use crate::job::spec::OnError;
use crate::plan::device::Filter;
use crate::plan::expr::Compiled;
use crate::plan::side::Lookup;
use crate::plan::{Derive, Groups, Plan, Shape};
use derive::{Derived, Make};
use device::OnDevice;
pub use device::Trouble;
use fate::Fates;
pub use late::EventClock;
use late::Lateness;
pub use segment::{Segment, Summary};

/// A group of a few aggregates, its key and its place in the index: measured on the sensors query.
const GROUP_BYTES: usize = 160;

pub struct Pipeline {
    plan: Arc<Plan>,
    /// Input columns that are read behind an explode or a join.
    reads: Vec<bool>,
    grouping: Option<Grouping>,
    current: Option<Segment>,
    lateness: Lateness,
    epoch: CoreEpoch,
    /// Of the rows and of the dead letters in `epoch`.
    row_bytes: usize,
    letter_bytes: usize,
    recycled: Vec<GroupTable>,
    fates: Fates,
    /// Where the job runs on one.
    device: Option<OnDevice>,
    /// The static tables that this epoch's rows meet, one a join.
    tables: Vec<Arc<Lookup>>,
}

/// Key ids and the epoch's groups of this core.
struct Grouping {
    key_fields: Vec<Field>,
    calls: Vec<Call>,
    space: KeySpace,
    table: GroupTable,
    /// For each input column in the form of ids, and for exploded words: the key that it is.
    key_of_input: Vec<Option<usize>>,
    key_of_element: Option<usize>,
    /// A packed key for each row of the batch in work.
    keys: Vec<u64>,
}

/// What one core hands over at a barrier.
#[derive(Default)]
pub struct CoreEpoch {
    /// The core's groups of this epoch: `[keys…, states…]`.
    pub partial: Option<RecordBatch>,
    /// Rows of a query without groups, each with the order of its segment.
    pub rows: Vec<(u64, RecordBatch)>,
    /// Late rows, where a sink takes them, as the rows.
    pub late: Vec<(u64, RecordBatch)>,
    pub counters: Counters,
    pub dead_letters: Vec<DeadLetter>,
    /// Of the rows, those that a GPU worked on.
    pub gpu_rows: u64,
    /// Why the CPU had to do the GPU's work, where it had to.
    pub gpu_trouble: Option<Trouble>,
    /// Where `auto` goes on from here, where it thought again.
    pub gpu_rechosen: Option<String>,
}

/// Hands the decoder the interner of each input column that it delivers as ids.
pub struct InternerSet<'a> {
    grouping: Option<&'a mut Grouping>,
}

impl InternerSet<'_> {
    /// The interner of an input column with `Encoding::Ids`.
    pub fn get(&mut self, input: usize) -> &mut Interner {
        let grouping = self.grouping.as_mut().expect("only a grouped plan asks for ids");
        let key = grouping.key_of_input[input].expect("a column delivered as ids is a group key");
        grouping.space.interner_mut(key)
    }
}

impl Pipeline {
    pub fn new(plan: Arc<Plan>, on_error: OnError) -> Self {
        let grouping = match &plan.shape {
            Shape::Rows { .. } | Shape::First(_) => None,
            Shape::Groups(groups) => Some(Grouping::new(&plan, groups)),
        };
        let lateness = Lateness::of(&plan);
        Pipeline {
            grouping,
            lateness,
            reads: columns_read(&plan),
            current: None,
            epoch: CoreEpoch::default(),
            row_bytes: 0,
            letter_bytes: 0,
            recycled: Vec::new(),
            fates: Fates::new(on_error),
            device: None,
            tables: plan.lookups(),
            plan,
        }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub fn interners(&mut self) -> InternerSet<'_> {
        InternerSet { grouping: self.grouping.as_mut() }
    }

    /// Starts a segment. One is open at a time.
    ///
    /// With a known clock the rows go straight into the epoch's groups; with a guessed one into a
    /// table of their own, until [`Pipeline::keep`].
    pub fn open(&mut self, order: u64, clock: EventClock) {
        assert!(self.current.is_none(), "a segment is open already");
        let table = match (&self.grouping, &clock) {
            (Some(grouping), EventClock::Guessed) => Some(
                self.recycled
                    .pop()
                    .unwrap_or_else(|| GroupTable::new(&grouping.key_fields, &grouping.calls)),
            ),
            _ => None,
        };
        self.lateness.start(clock);
        self.current = Some(Segment::new(order, table));
    }

    /// Takes decoded rows of the open segment, in their order.
    ///
    /// Bad rows are counted and kept as dead letters; under `on_error = "fail"` the segment
    /// remembers the failure until it is kept.
    pub fn push(&mut self, batch: &InputBatch<'_>) {
        let mut segment = self.current.take().expect("push needs an open segment");
        self.push_into(&mut segment, batch);
        self.current = Some(segment);
    }

    fn push_into(&mut self, segment: &mut Segment, batch: &InputBatch<'_>) {
        let plan = Arc::clone(&self.plan);
        self.fates.begin(batch.rows);
        self.fates.reject_values(batch, |input| plan.input[input].in_filter);
        let mut projected = match plan.derive.is_empty() {
            true => self.project(&plan, batch, None),
            false => None,
        };
        let asked = self.device.as_ref().map_or(&[][..], |device| &device.plan().filters);
        let told = projected.as_ref().map(|projected| (asked, &projected.fates[..]));
        self.fates.filter(Filter::Below, batch, &plan, told);
        let make = Make { plan: &plan, tables: &self.tables, reads: &self.reads };
        Derived::drop_below(make, batch, &mut self.fates);
        self.fates.filter(Filter::Above, batch, &plan, told);
        if let (Some(time), true) = (plan.event_time, windows::are_of_event_time(&plan)) {
            self.fates.reject_values(batch, |input| input == time);
            self.fates.drop_nulls(&batch.columns[time]);
        }
        self.fates.reject_values(batch, |_| true);
        let derived = Derived::of(make, batch, &mut self.fates, self.grouping.as_mut());
        match &plan.shape {
            Shape::Rows { columns, schema, .. } => match projected {
                Some(projected) => self.take_rows(segment, batch, (columns, schema), projected),
                None => {
                    let values = evaluate(columns, &derived, &mut self.fates);
                    self.lateness.judge(batch, &plan, &mut self.fates, None);
                    segment.push_rows(schema, &values, self.fates.surviving(&derived));
                }
            },
            Shape::First(first) => {
                let mut values = evaluate(&first.columns, &derived, &mut self.fates);
                self.lateness.judge(batch, &plan, &mut self.fates, None);
                if let Some(clock) = first.clock {
                    let data_type = first.schema.field(clock).data_type();
                    values.push(self.lateness.clocks(batch.rows, data_type));
                }
                segment.push_rows(&first.schema, &values, self.fates.surviving(&derived));
            }
            Shape::Groups(groups) => {
                if !plan.derive.is_empty() {
                    projected = self.project(&plan, batch, Some(&derived));
                }
                match projected {
                    Some(projected) => {
                        self.fold_on_device(segment, batch, groups, &derived, projected);
                    }
                    None => self.fold(segment, batch, groups, &derived),
                }
            }
        }
        if let Some(late) = &plan.late_rows {
            let columns: Vec<ArrayRef> =
                late.columns.iter().map(|&column| batch.columns[column].clone()).collect();
            segment.push_late(&late.schema, &columns, self.fates.late_rows());
        }
        self.fates.settle(batch, &plan, segment);
        segment.summary.clock = self.lateness.clock();
        segment.summary.guess_holds_below = self.lateness.guess_holds_below();
    }

    fn fold(
        &mut self,
        segment: &mut Segment,
        batch: &InputBatch<'_>,
        groups: &Groups,
        derived: &Derived<'_>,
    ) {
        let plan = Arc::clone(&self.plan);
        let keys = groups.keys.iter().map(|key| &key.expr);
        let keys = evaluate(keys, derived, &mut self.fates);
        let arguments = evaluate(&groups.arguments, derived, &mut self.fates);
        let homeless = windows::homeless(groups, &keys, derived, &mut self.fates);
        let ends = groups.session.filter(|_| self.lateness.asks_for_ends());
        let ends = ends.map(|session| windows::ends(&keys[session.end], derived, batch.rows));
        self.lateness.judge(batch, &plan, &mut self.fates, ends.as_deref());
        let grouping = self.grouping.as_mut().expect("a grouped plan has its groups");
        let with_window;
        let rows = match (self.fates.surviving(derived), &homeless) {
            (None, None) => Rows::All(derived.rows()),
            (Some(selected), None) => Rows::Selected(selected),
            (selected, Some(homeless)) => {
                let all = Rows::All(derived.rows());
                let rows = selected.map_or(all, Rows::Selected);
                with_window = windows::select(rows, |row| !homeless[row as usize]);
                Rows::Selected(&with_window)
            }
        };
        let positions = positions(&plan, batch, derived.row_starts(batch));
        let table = &mut segment.table;
        let passed = self.lateness.passed();
        match groups.window.filter(|window| window.overlaps()) {
            None => {
                let open = passed.and_then(|passed| windows::open(groups, &keys, rows, passed));
                let of_open = open.as_deref().map_or(rows, Rows::Selected);
                segment.summary.counters.late_windows += (rows.len() - of_open.len()) as u64;
                grouping.take(&plan, derived, (&keys, &arguments), of_open, &positions, table);
            }
            Some(window) => {
                let sliding = windows::Sliding::new(window, &keys, &arguments);
                let own = |row: u32| self.lateness.judged_by(derived.parent(row) as usize);
                let judged_by = |row: u32| passed.or_else(|| own(row));
                for step in 0..sliding.steps() {
                    let (open, late) = sliding.open(step, rows, judged_by);
                    segment.summary.counters.late_windows += late;
                    let keys = sliding.keys(step, &keys);
                    let rows = Rows::Selected(&open);
                    let values = (&keys[..], &arguments[..]);
                    grouping.take(&plan, derived, values, rows, &positions, table);
                }
            }
        }
    }

    /// Ends the open segment.
    pub fn close(&mut self) -> Segment {
        self.current.take().expect("close needs an open segment")
    }

    /// Takes a segment whose guess holds into the epoch. `lines_before`: of its file, before it.
    ///
    /// Errors: `Failed` where `on_error = "fail"` met a bad row in it.
    pub fn keep(&mut self, mut segment: Segment, lines_before: u64) -> Result<()> {
        if let Some(failure) = segment.failure.take() {
            return Err(Error::failed(failure.at_line(lines_before)));
        }
        if let Some(table) = segment.table.take() {
            let grouping = self.grouping.as_mut().expect("a segment's table is of grouped rows");
            grouping.table.absorb(&table);
            self.recycle_table(table);
        }
        if let Some(device) = &mut self.device {
            device.keep(std::mem::take(&mut segment.parts), segment.gpu_rows);
        }
        self.epoch.counters.add(&segment.summary.counters);
        for letter in &mut segment.dead_letters {
            letter.line += lines_before;
        }
        self.letter_bytes += segment.letter_bytes;
        self.epoch.dead_letters.append(&mut segment.dead_letters);
        let order = segment.order;
        self.row_bytes +=
            segment.rows.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.epoch.rows.extend(segment.rows.drain(..).map(|rows| (order, rows)));
        self.epoch.late.extend(segment.late.drain(..).map(|rows| (order, rows)));
        Ok(())
    }

    /// Forgets a segment whose guess failed; its memory serves again.
    pub fn discard(&mut self, mut segment: Segment) {
        if let Some(table) = segment.table.take() {
            self.recycle_table(table);
        }
    }

    fn recycle_table(&mut self, mut table: GroupTable) {
        table.clear();
        self.recycled.push(table);
    }

    /// Ends the epoch on this core: its groups as a partial, its rows, its counters.
    ///
    /// Every segment must have been kept or discarded: ids are forgotten here.
    pub fn barrier(&mut self) -> CoreEpoch {
        assert!(self.current.is_none(), "a barrier falls between segments");
        let mut epoch = std::mem::take(&mut self.epoch);
        (self.row_bytes, self.letter_bytes) = (0, 0);
        self.leave_device(&mut epoch);
        self.tables = self.plan.lookups();
        if let Some(grouping) = &mut self.grouping {
            if !grouping.table.groups().is_empty() {
                epoch.partial = Some(grouping.table.partial(&grouping.space, None));
            }
            grouping.table.clear();
            grouping.space.clear();
        }
        epoch
    }

    /// Bytes of the running epoch, spare room left out: its groups, rows and dead letters.
    pub fn epoch_bytes(&self) -> usize {
        let groups = self.grouping.as_ref().map_or(0, |g| g.table.groups().len() * GROUP_BYTES);
        // A device is worth larger epochs than a core's caches are.
        let on_device = self.device.as_ref().map_or(0, OnDevice::bytes_held) / 4;
        groups + on_device + self.row_bytes + self.letter_bytes
    }

    /// Bytes held, spare room included.
    pub fn bytes_held(&self) -> usize {
        let groups =
            self.grouping.as_ref().map_or(0, |g| g.table.bytes_held() + g.space.bytes_held());
        let spare: usize = self.recycled.iter().map(GroupTable::bytes_held).sum();
        let on_device = self.device.as_ref().map_or(0, OnDevice::bytes_held);
        groups + spare + on_device + self.row_bytes + self.letter_bytes
    }
}

impl Grouping {
    fn new(plan: &Plan, groups: &Groups) -> Self {
        let (key_fields, calls) = (groups.key_fields(), groups.calls());
        let types: Vec<_> = key_fields.iter().map(|field| field.data_type().clone()).collect();
        let key_of =
            |column: usize| groups.keys.iter().position(|key| key.expr.column() == Some(column));
        let key_of_input = plan
            .input
            .iter()
            .enumerate()
            .map(|(i, input)| (input.encoding == Encoding::Ids).then(|| key_of(i)).flatten())
            .collect();
        Grouping {
            space: KeySpace::new(&types),
            table: GroupTable::new(&key_fields, &calls),
            key_fields,
            calls,
            key_of_input,
            key_of_element: key_of(plan.input.len()),
            keys: Vec::new(),
        }
    }

    /// Adds some rows to their groups, in the segment's table or else the epoch's.
    fn take(
        &mut self,
        plan: &Plan,
        derived: &Derived<'_>,
        (keys, arguments): (&[ArrayRef], &[ArrayRef]),
        rows: Rows<'_>,
        positions: &Positions<'_>,
        table: &mut Option<GroupTable>,
    ) {
        let Shape::Groups(groups) = &plan.shape else { unreachable!("only groups are taken into") };
        self.key(plan, groups, derived, keys, rows);
        let table = table.as_mut().unwrap_or(&mut self.table);
        table.update(&self.keys, rows, arguments, positions);
    }

    /// Packs the keys of some rows into `self.keys`.
    fn key(
        &mut self,
        plan: &Plan,
        groups: &Groups,
        derived: &Derived<'_>,
        values: &[ArrayRef],
        rows: Rows<'_>,
    ) {
        let inputs: Vec<KeyInput<'_>> = groups
            .keys
            .iter()
            .zip(values)
            .map(|(key, values)| match ids_of(plan, &key.expr, derived, values) {
                Some(ids) => KeyInput::Ids(ids),
                None => KeyInput::Values(values),
            })
            .collect();
        self.keys.clear();
        self.space.encode(&inputs, rows, &mut self.keys);
    }
}

/// Values for every derived row; a row at which an expression stops is rejected.
fn evaluate<'a>(
    expressions: impl IntoIterator<Item = &'a Compiled>,
    derived: &Derived<'_>,
    fates: &mut Fates,
) -> Vec<ArrayRef> {
    let value = |expression: &Compiled| {
        let evaluated =
            expression.evaluate(derived.columns(), derived.rows(), fates.surviving(derived));
        for (row, reason) in evaluated.errors {
            fates.reject_expression(derived.parent(row), reason);
        }
        evaluated.values
    };
    expressions.into_iter().map(value).collect()
}

fn positions<'a>(plan: &Plan, batch: &InputBatch<'_>, row_starts: &'a [u32]) -> Positions<'a> {
    Positions {
        split: plan.split(batch.place.split),
        major: batch.place.major,
        minor: batch.place.minor,
        offsets: row_starts,
    }
}

/// The ids of a key that is a bare column delivered as ids.
fn ids_of<'a>(
    plan: &Plan,
    expr: &Compiled,
    derived: &Derived<'_>,
    values: &'a ArrayRef,
) -> Option<&'a [u32]> {
    let column = expr.column()?;
    let is_ids = match plan.input.get(column) {
        Some(input) => input.encoding == Encoding::Ids,
        None => derived.element_is_ids(),
    };
    is_ids.then(|| {
        let ids = values.as_any().downcast_ref::<UInt32Array>().expect("ids are u32");
        ids.values().as_ref()
    })
}

/// Which input columns the expressions behind the filters read.
fn columns_read(plan: &Plan) -> Vec<bool> {
    let mut reads = vec![false; plan.input.len()];
    let mut mark = |expression: &Compiled| {
        for column in expression.columns() {
            if let Some(read) = reads.get_mut(column) {
                *read = true;
            }
        }
    };
    plan.derive.iter().flat_map(Derive::expressions).for_each(&mut mark);
    match &plan.shape {
        Shape::Rows { columns, .. } => columns.iter().for_each(&mut mark),
        Shape::First(first) => first.columns.iter().for_each(&mut mark),
        Shape::Groups(groups) => {
            groups.keys.iter().map(|key| &key.expr).for_each(&mut mark);
            groups.arguments.iter().for_each(&mut mark);
        }
    }
    reads
}
