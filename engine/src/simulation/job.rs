//! Jobs, their rows, and a reader that works out by hand what each stretch of rows must give.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use pelton_kernels::expr::{CompareOp, Expr, ExprKind, Literal};

use super::Random;
use crate::batch::{Counters, Encoding};
use crate::columns::plain_column;
use crate::job::spec::OutputMode;
use crate::pipeline::tests::{DEVICE, Row, SIZE_US, STATUS, TIME, VALUE, column, plan, timestamp};
use crate::plan::expr::Compiled;
use crate::plan::{Plan, Shape};

/// A row of output as text, values in full.
pub type Line = String;

/// Window start and device; neither where the query has no keys.
type Key = Option<(i64, char)>;
type Table = BTreeMap<Key, (i64, f64)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Append,
    /// `LIMIT` over the whole stream.
    AppendLimit(usize),
    /// `WHERE ts < …`: rows that it drops move the watermark and leave nothing behind.
    AppendBefore(i64),
    Update,
    Complete,
    Batch,
    /// No groups.
    Rows,
    /// No keys and no watermark.
    Global,
}

pub struct Job {
    pub kind: Kind,
    pub plan: Arc<Plan>,
    pub rows: Vec<Row>,
    delay_us: i64,
}

/// What a stretch of rows must give after those before it.
#[derive(Debug, Default, PartialEq)]
pub struct Stretch {
    pub lines: Vec<Line>,
    pub counters: Counters,
    /// Rows that were rejected.
    pub rejected: Vec<u64>,
    /// The state that is left, as lines.
    pub state: Vec<Line>,
}

enum Fate {
    Rejected,
    /// The event time it is seen with, if any.
    Filtered(Option<i64>),
    Alive(Option<i64>),
}

impl Job {
    pub fn any(random: &mut Random) -> Job {
        let count = 20 + random.below(60) as i64;
        let kind = match random.below(12) {
            0 | 1 => Kind::Append,
            2 => Kind::AppendLimit(random.below(20) as usize),
            3 | 4 => Kind::AppendBefore(random.below(count as u64 * 1_500) as i64),
            5 | 6 => Kind::Update,
            7 => Kind::Complete,
            8 => Kind::Batch,
            9 | 10 => Kind::Rows,
            _ => Kind::Global,
        };
        let delay_us = *random.pick(&[0, 1_500, 4_000, 12_000]);
        let rows = (0..count).map(|i| any_row(random, i)).collect();
        Job { kind, plan: plan_of(kind, delay_us), rows, delay_us }
    }

    /// The rows from `from` to `to`, one at a time, after all before them.
    pub fn stretch(&self, from: usize, to: usize, ended: bool) -> Stretch {
        let mut found = Stretch::default();
        let (mut table, mut batch) = (Table::new(), Table::new());
        let (mut clock, mut clock_before) = (None, None);
        let mut touched = BTreeSet::new();
        let mut rows = Vec::new();
        for (i, row) in self.rows[..to].iter().enumerate() {
            if i == from {
                clock_before = clock;
            }
            let counts = i >= from;
            let mut counters = Counters { rows_in: 1, ..Counters::default() };
            match self.fate(row) {
                Fate::Rejected => {
                    counters.rejected = 1;
                    found.rejected.extend(counts.then_some(i as u64));
                }
                Fate::Filtered(time) => {
                    counters.filtered = 1;
                    clock = clock.max(time);
                }
                Fate::Alive(time) => {
                    let key = self.key(row);
                    let closed = key.is_some_and(|(start, _)| {
                        self.watermark(clock).is_some_and(|w| start + SIZE_US <= w)
                    });
                    if closed && self.judges() {
                        counters.late = 1;
                    } else {
                        counters.applied = 1;
                        let value = f64::from(row.value) / 8.0;
                        let add = |table: &mut Table| {
                            let group = table.entry(key).or_insert((0, 0.0));
                            *group = (group.0 + 1, group.1 + value);
                        };
                        add(&mut table);
                        if counts {
                            add(&mut batch);
                            touched.insert(key);
                            rows.push(self.row_line(row));
                        }
                    }
                    clock = clock.max(time);
                }
            }
            if counts {
                found.counters.add(&counters);
            }
        }
        if from == to {
            clock_before = clock;
        }
        let before = self.watermark(clock_before);
        let after = if ended { Some(i64::MAX) } else { self.watermark(clock) };
        found.lines = self.lines(&table, &batch, &touched, rows, (before, after));
        found.state = self.left(&table, after);
        found
    }

    fn lines(
        &self,
        table: &Table,
        batch: &Table,
        touched: &BTreeSet<Key>,
        rows: Vec<Line>,
        (before, after): (Option<i64>, Option<i64>),
    ) -> Vec<Line> {
        let is_closed = |key: &Key, watermark: Option<i64>| {
            key.is_some_and(|(start, _)| watermark.is_some_and(|w| start + SIZE_US <= w))
        };
        let closing = || {
            let groups = table.iter().filter(|(key, _)| is_closed(key, after));
            groups.filter(|(key, _)| !is_closed(key, before)).map(group_line)
        };
        match self.kind {
            Kind::Append | Kind::AppendBefore(_) => closing().collect(),
            Kind::AppendLimit(limit) => {
                let gone = table.keys().filter(|key| is_closed(key, before)).count();
                closing().take(limit.saturating_sub(gone)).collect()
            }
            Kind::Update => {
                table.iter().filter(|(key, _)| touched.contains(key)).map(group_line).collect()
            }
            Kind::Complete => table.iter().map(group_line).collect(),
            Kind::Batch => batch.iter().map(group_line).collect(),
            Kind::Rows => rows,
            Kind::Global => match table.get(&None) {
                None => vec!["0 -".to_owned()],
                Some(group) => vec![group_line((&None, group))],
            },
        }
    }

    fn left(&self, table: &Table, watermark: Option<i64>) -> Vec<Line> {
        let open =
            |key: &Key| key.is_none_or(|(start, _)| watermark.is_none_or(|w| start + SIZE_US > w));
        match self.kind {
            Kind::Batch | Kind::Rows => Vec::new(),
            Kind::Complete => table.iter().map(group_line).collect(),
            _ => table.iter().filter(|(key, _)| open(key)).map(group_line).collect(),
        }
    }

    fn fate(&self, row: &Row) -> Fate {
        let before = match self.kind {
            Kind::AppendBefore(before) => Some(before),
            _ => None,
        };
        let reads_time_first = before.is_some();
        let has_time = !matches!(self.kind, Kind::Global);
        let seen = row.time.filter(|_| row.bad != TIME);
        if row.bad == 4 || row.bad == STATUS || (row.bad == TIME && reads_time_first) {
            return Fate::Rejected;
        }
        if row.status.is_none_or(|status| status == 0) {
            return Fate::Filtered(None);
        }
        if let Some(before) = before
            && seen.is_none_or(|time| time >= before)
        {
            return Fate::Filtered(seen);
        }
        if row.bad == TIME {
            return Fate::Rejected;
        }
        if self.has_window() && row.time.is_none() {
            return Fate::Filtered(None);
        }
        if row.bad == VALUE || row.bad == DEVICE {
            return Fate::Rejected;
        }
        Fate::Alive(row.time.filter(|_| has_time))
    }

    fn has_window(&self) -> bool {
        !matches!(self.kind, Kind::Rows | Kind::Global)
    }

    fn judges(&self) -> bool {
        !matches!(self.kind, Kind::Complete | Kind::Batch | Kind::Rows | Kind::Global)
    }

    fn key(&self, row: &Row) -> Key {
        let start = row.time.filter(|_| self.has_window())?.div_euclid(SIZE_US) * SIZE_US;
        Some((start, char::from(b'a' + row.device)))
    }

    fn watermark(&self, clock: Option<i64>) -> Option<i64> {
        clock.map(|time| (time - self.delay_us).div_euclid(1_000) * 1_000)
    }

    fn row_line(&self, row: &Row) -> Line {
        let time = row.time.map_or("-".to_owned(), |time| time.to_string());
        let device = char::from(b'a' + row.device);
        format!("{time} {device} {:?}", f64::from(row.value) / 8.0)
    }
}

fn group_line((key, (count, sum)): (&Key, &(i64, f64))) -> Line {
    match key {
        Some((start, device)) => format!("{start} {device} {count} {sum:?}"),
        None => format!("{count} {sum:?}"),
    }
}

/// Mostly in order, some late, some broken, some without a time.
fn any_row(random: &mut Random, i: i64) -> Row {
    let mut time = i * 1_500 - random.below(3_000) as i64;
    if random.chance(10) {
        time -= 8_000 + random.below(20_000) as i64;
    }
    Row {
        time: (!random.chance(3)).then_some(time),
        device: random.below(3) as u8,
        status: (!random.chance(3)).then(|| random.below(6) as i32),
        value: i as i32,
        bad: if random.chance(6) { random.below(5) as usize } else { 9 },
    }
}

fn plan_of(kind: Kind, delay_us: i64) -> Arc<Plan> {
    let mode = match kind {
        Kind::Append | Kind::AppendLimit(_) | Kind::AppendBefore(_) | Kind::Rows => {
            OutputMode::Append
        }
        Kind::Update | Kind::Global => OutputMode::Update,
        Kind::Complete => OutputMode::Complete,
        Kind::Batch => OutputMode::Batch,
    };
    let mut whole = plan(delay_us, mode);
    let plan = Arc::get_mut(&mut whole).expect("nobody else has it");
    match kind {
        Kind::AppendLimit(limit) => plan.output.limit = Some(limit),
        Kind::AppendBefore(before) => {
            let literal = ExprKind::Literal(Literal::Int(before));
            let literal = Expr { kind: literal, data_type: timestamp() };
            let time = Box::new(column(TIME, timestamp()));
            let kind = ExprKind::Compare(CompareOp::Less, time, Box::new(literal));
            let filter = Expr { kind, data_type: DataType::Boolean };
            plan.filter_above = Some(Compiled::Kernel(filter));
            plan.input[TIME].in_filter = true;
        }
        Kind::Rows => {
            let columns = [
                ("ts", TIME, timestamp()),
                ("device", DEVICE, DataType::Utf8),
                ("value", VALUE, DataType::Float64),
            ];
            plan.input[DEVICE].encoding = Encoding::Values;
            leave(plan, &columns.clone().map(|(name, _, of)| (name, of)));
            plan.shape = Shape::Rows {
                columns: columns.map(|(_, at, of)| Compiled::Kernel(column(at, of))).to_vec(),
                schema: Arc::clone(&plan.output.schema),
            };
        }
        Kind::Global => {
            plan.input[DEVICE].encoding = Encoding::Values;
            (plan.event_time, plan.watermark) = (None, None);
            if let Shape::Groups(groups) = &mut plan.shape {
                (groups.keys, groups.window) = (Vec::new(), None);
            }
            leave(plan, &[("rows", DataType::Int64), ("sum", DataType::Float64)]);
        }
        _ => {}
    }
    whole
}

/// These columns leave as they are.
fn leave(plan: &mut Plan, columns: &[(&str, DataType)]) {
    let fields = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), true));
    plan.output.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let expr = |(at, (_, of)): (usize, &(&str, DataType))| Compiled::Kernel(column(at, of.clone()));
    plan.output.columns = columns.iter().enumerate().map(expr).collect();
}

pub fn lines_of(rows: &RecordBatch) -> Vec<Line> {
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| plain_column(column).expect("a few short texts"))
        .collect();
    let value = |column: &arrow::array::ArrayRef, row: usize| match column.data_type() {
        _ if column.is_null(row) => "-".to_owned(),
        DataType::Timestamp(..) => {
            column.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        _ => column.as_string::<i32>().value(row).to_owned(),
    };
    let line = |row| columns.iter().map(|c| value(c, row)).collect::<Vec<_>>().join(" ");
    (0..rows.num_rows()).map(line).collect()
}
