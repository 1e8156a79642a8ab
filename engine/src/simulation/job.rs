//! Jobs and their rows.
//!
//! `reader` works out by hand what each stretch of the rows must give.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use pelton_kernels::expr::{CompareOp, Expr, ExprKind, Literal};

use super::Random;
use crate::batch::Encoding;
use crate::columns::plain_column;
use crate::job::spec::{DedupSpec, OutputMode};
use crate::pipeline::tests::{DEVICE, Row, TIME, VALUE, column, plan, timestamp};
use crate::plan::expr::Compiled;
use crate::plan::{Judged, Plan, Query, Shape};

/// A row of output as text, values in full.
pub type Line = String;

/// Rows that were read, by split.
pub type Place = Vec<usize>;

/// Of overlapping windows.
pub const SLIDE_US: i64 = 4_000;
/// Between the sessions of a device.
pub const GAP_US: i64 = 3_000;
/// Of windows over windows.
pub const UPPER_US: i64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Windows that overlap.
    Sliding,
    Session,
    /// Rows whose device and status were not seen within the watermark.
    Dedup,
    /// Windows over those.
    DedupWindows,
    /// Windows over windows.
    Chained,
}

pub struct Job {
    pub kind: Kind,
    pub query: Arc<Query>,
    /// By split.
    pub rows: Vec<Vec<Row>>,
    pub delay_us: i64,
    /// Its rows cannot be read again: a write-ahead log keeps them.
    pub has_log: bool,
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
        let query = query_of(kind, delay_us);
        Job { kind, query, rows: vec![rows], delay_us, has_log: false }
    }

    /// One of the wider family: more kinds, several splits, a write-ahead log.
    pub fn wide(random: &mut Random) -> Job {
        let kind = match random.below(12) {
            0 => Kind::Append,
            1 => Kind::AppendLimit(random.below(20) as usize),
            2 => Kind::Update,
            3 => Kind::Rows,
            4 | 5 => Kind::Sliding,
            6 | 7 => Kind::Session,
            8 => Kind::Dedup,
            9 => Kind::DedupWindows,
            _ => Kind::Chained,
        };
        let delay_us = *random.pick(&[0, 1_500, 4_000, 12_000]);
        // Which row of several splits survives deduplication is nobody's promise.
        let one = kind.deduplicates() || random.chance(50);
        let splits = if one { 1 } else { 2 + random.below(2) };
        let mut rows: Vec<Vec<Row>> = Vec::new();
        for split in 0..splits as i64 {
            let count = (20 + random.below(60) as i64) / splits as i64;
            let mut of_split: Vec<Row> = (0..count).map(|i| any_row(random, i)).collect();
            for row in &mut of_split {
                row.value += 100 * split as i32;
                if kind.deduplicates() {
                    row.time = row.time.or(Some(0));
                }
            }
            rows.push(of_split);
        }
        let has_log = one && random.chance(60);
        Job { kind, query: query_of(kind, delay_us), rows, delay_us, has_log }
    }

    /// Behind all rows.
    pub fn end(&self) -> Place {
        self.rows.iter().map(Vec::len).collect()
    }

    pub fn begin(&self) -> Place {
        vec![0; self.rows.len()]
    }

    /// Rows that leave as they come stand in the order in which splits were read: anybody's.
    pub fn is_in_order(&self) -> bool {
        self.rows.len() == 1
    }
}

impl Kind {
    pub fn deduplicates(self) -> bool {
        matches!(self, Kind::Dedup | Kind::DedupWindows)
    }

    /// Its query has WHERE status <> 0.
    pub fn filters(self) -> bool {
        !self.deduplicates()
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

fn query_of(kind: Kind, delay_us: i64) -> Arc<Query> {
    let mode = match kind {
        Kind::Append | Kind::AppendLimit(_) | Kind::AppendBefore(_) | Kind::Rows => {
            OutputMode::Append
        }
        Kind::Update | Kind::Global => OutputMode::Update,
        Kind::Complete => OutputMode::Complete,
        Kind::Batch => OutputMode::Batch,
        Kind::Sliding | Kind::Session | Kind::Dedup | Kind::DedupWindows | Kind::Chained => {
            return planned(kind, delay_us);
        }
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
                judged: Judged::Nothing,
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
    Arc::new(Query::single(whole))
}

/// These columns leave as they are.
fn leave(plan: &mut Plan, columns: &[(&str, DataType)]) {
    let fields = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), true));
    plan.output.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let expr = |(at, (_, of)): (usize, &(&str, DataType))| Compiled::Kernel(column(at, of.clone()));
    plan.output.columns = columns.iter().enumerate().map(expr).collect();
}

/// From SQL. Planning costs more than a history, and a plan never changes: each is made once.
fn planned(kind: Kind, delay_us: i64) -> Arc<Query> {
    type Plans = HashMap<(Kind, i64), Arc<Query>>;
    static PLANS: LazyLock<Mutex<Plans>> = LazyLock::new(Mutex::default);
    let mut plans = PLANS.lock().expect("no holder panics");
    let plan = plans.entry((kind, delay_us)).or_insert_with(|| {
        let schema = "ts TIMESTAMP, device STRING, status INT, value DOUBLE";
        let watermark = Some(("ts", 0));
        let mut job = crate::plan::tests::job(schema, watermark, OutputMode::Append, sql(kind));
        let watermark = job.sources[0].watermark.as_mut().expect("it was asked for");
        watermark.delay = Duration::from_micros(delay_us as u64);
        job.sources[0].dedup = kind.deduplicates().then(|| DedupSpec {
            columns: vec!["device".into(), "status".into()],
            within_watermark: true,
        });
        Arc::new(crate::plan::plan(&job).unwrap_or_else(|why| panic!("{kind:?}: {why:?}")))
    });
    Arc::clone(plan)
}

fn sql(kind: Kind) -> &'static str {
    match kind {
        Kind::Sliding => {
            "SELECT window.start AS start, device, count(*) AS n, sum(value) AS sum FROM input \
             WHERE status <> 0 GROUP BY window(ts, '10 milliseconds', '4 milliseconds'), device"
        }
        Kind::Session => {
            "SELECT session_window.start AS start, session_window.end AS end, device, \
             count(*) AS n, sum(value) AS sum FROM input WHERE status <> 0 \
             GROUP BY session_window(ts, '3 milliseconds'), device"
        }
        Kind::Dedup => "SELECT ts, device, value FROM input",
        Kind::DedupWindows => {
            "SELECT window.start AS start, device, count(*) AS n, sum(value) AS sum FROM input \
             GROUP BY window(ts, '10 milliseconds'), device"
        }
        Kind::Chained => {
            "SELECT window(window_time(window), '30 milliseconds').start AS start, \
             count(*) AS parts, sum(n) AS n FROM (SELECT window, device, count(*) AS n, \
             sum(value) AS sum FROM input WHERE status <> 0 \
             GROUP BY window(ts, '10 milliseconds'), device) \
             GROUP BY window(window_time(window), '30 milliseconds')"
        }
        _ => unreachable!("the plans of the others are made by hand"),
    }
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
