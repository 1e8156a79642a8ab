//! The pipeline against a reader that takes one row at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec};
use pelton_kernels::expr::{CompareOp, Expr, ExprKind, Literal};
use proptest::prelude::*;

use super::*;
use crate::batch::{InputColumn, Place, Reason, RowError, ValueError};
use crate::job::spec::LateRule;
use crate::job::spec::OutputMode;
use crate::plan::{Aggregate, GroupKey, Output, Query, Watermark, WindowKey};
use crate::state::StateStore;
use crate::watermark::SplitClock;

pub(crate) const TIME: usize = 0;
pub(crate) const DEVICE: usize = 1;
pub(crate) const STATUS: usize = 2;
pub(crate) const VALUE: usize = 3;
pub(crate) const SIZE_US: i64 = 10_000;

pub(crate) fn column(index: usize, data_type: DataType) -> Expr {
    Expr { kind: ExprKind::Column(index), data_type }
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// SELECT window(ts, '10 ms'), device, count(*), sum(value) WHERE status <> 0 GROUP BY 1, 2.
pub(crate) fn plan(delay_us: i64, mode: OutputMode) -> Arc<Plan> {
    let input = |source, encoding, in_filter| InputColumn { source, encoding, in_filter };
    let zero = Expr { kind: ExprKind::Literal(Literal::Int(0)), data_type: DataType::Int32 };
    let status = Box::new(column(STATUS, DataType::Int32));
    let not_zero = ExprKind::Compare(CompareOp::NotEqual, status, Box::new(zero));
    let start = ExprKind::WindowStart {
        time: Box::new(column(TIME, timestamp())),
        size_us: SIZE_US,
        offset_us: 0,
    };
    let key = |name: &str, expr| GroupKey { name: name.into(), expr: Compiled::Kernel(expr) };
    let aggregate = |function, argument: Option<usize>, output| Aggregate {
        spec: AggregateSpec {
            function,
            input: argument.map(|_| DataType::Float64),
            output,
            name: String::new(),
        },
        argument,
        filter: None,
    };
    let names = ["ts", "device", "status", "value"];
    Arc::new(Plan {
        input: vec![
            input(TIME, Encoding::Values, false),
            input(DEVICE, Encoding::Ids, false),
            input(STATUS, Encoding::Values, true),
            input(VALUE, Encoding::Values, false),
        ],
        input_names: names.map(String::from).to_vec(),
        event_time: Some(TIME),
        watermark: Some(Watermark { delay_us, late: LateRule::Row, max_future_skew_us: None }),
        filter_below: Some(Compiled::Kernel(Expr { kind: not_zero, data_type: DataType::Boolean })),
        filter_above: None,
        derive: Vec::new(),
        shape: Shape::Groups(Groups {
            keys: vec![
                key("start", Expr { kind: start, data_type: timestamp() }),
                key("device", column(DEVICE, DataType::Utf8)),
            ],
            window: Some(WindowKey {
                key: 0,
                size_us: SIZE_US,
                slide_us: SIZE_US,
                offset_us: 0,
                time: None,
                closes: true,
            }),
            session: None,
            event_time_key: None,
            arguments: vec![Compiled::Kernel(column(VALUE, DataType::Float64))],
            aggregates: vec![
                aggregate(AggregateFunction::CountRows, None, DataType::Int64),
                aggregate(AggregateFunction::Sum, Some(0), DataType::Float64),
            ],
        }),
        output: as_it_is(),
        fed_by_state: false,
        late_rows: None,
        mode,
        source: 0,
        source_name: "t".into(),
        scan: 0,
    })
}

/// The plan as a query of its own.
pub(crate) fn query(delay_us: i64, mode: OutputMode) -> Arc<Query> {
    Arc::new(Query::single(plan(delay_us, mode)))
}

/// Keys and values leave as they are.
fn as_it_is() -> Output {
    let types = [timestamp(), DataType::Utf8, DataType::Int64, DataType::Float64];
    let names = ["start", "device", "rows", "sum"];
    let fields = names.iter().zip(&types).map(|(name, t)| Field::new(*name, t.clone(), true));
    let expr = |(i, t): (usize, &DataType)| Compiled::Kernel(column(i, t.clone()));
    Output {
        having: None,
        columns: types.iter().enumerate().map(expr).collect(),
        hidden: vec![],
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        order_by: vec![],
        limit: None,
    }
}

/// A row as the decoder saw it; its bytes are one line feed.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub time: Option<i64>,
    pub device: u8,
    pub status: Option<i32>,
    pub value: i32,
    /// A column whose value did not decode, if below 4; 4: the row's framing is broken.
    pub bad: usize,
}

pub(crate) fn row() -> impl Strategy<Value = Row> {
    let time = prop_oneof![9 => (0i64..200_000).prop_map(Some), 1 => Just(None)];
    let bad = prop_oneof![20 => Just(9usize), 1 => 0usize..5];
    (time, 0u8..3, proptest::option::weighted(0.9, 0i32..3), -50i32..50, bad)
        .prop_map(|(time, device, status, value, bad)| Row { time, device, status, value, bad })
}

/// Hands rows to the pipeline as one batch.
pub(crate) fn push(pipeline: &mut Pipeline, rows: &[Row], first: u64) {
    let bytes = vec![b'\n'; rows.len()];
    let at = |row: usize| (row as u32, row as u32);
    let mut row_errors = Vec::new();
    let mut value_errors = Vec::new();
    let mut kept = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let (start, end) = at(i);
        if row.bad == 4 {
            row_errors.push(RowError { start, end, reason: Reason::UnclosedQuote });
        } else {
            if row.bad < 4 {
                let reason = Reason::Expected(DataType::Int32);
                let (row, column) = (kept.len() as u32, row.bad as u16);
                value_errors.push(ValueError { row, column, start, end, reason });
            }
            kept.push((i, row));
        }
    }
    let good = |row: &Row, column: usize| row.bad != column;
    let times = kept.iter().map(|(_, row)| row.time.filter(|_| good(row, TIME)));
    let times = times.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let name = |row: &Row| char::from(b'a' + row.device).to_string();
    let devices: ArrayRef = match pipeline.plan().input[DEVICE].encoding {
        Encoding::Ids => {
            let mut interners = pipeline.interners();
            let interner = interners.get(DEVICE);
            let ids = kept.iter().map(|(_, row)| match good(row, DEVICE) {
                true => interner.intern(name(row).as_bytes()),
                false => 0,
            });
            Arc::new(UInt32Array::from_iter_values(ids))
        }
        Encoding::Values => {
            let names = kept.iter().map(|(_, row)| good(row, DEVICE).then(|| name(row)));
            Arc::new(names.collect::<StringArray>())
        }
    };
    let status = kept.iter().map(|(_, row)| row.status.filter(|_| good(row, STATUS)));
    let values = kept.iter().map(|(_, row)| good(row, VALUE).then(|| f64::from(row.value) / 8.0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        devices,
        Arc::new(status.collect::<Int32Array>()),
        Arc::new(values.collect::<Float64Array>()),
    ];
    let starts: Vec<u32> = kept.iter().map(|(i, _)| *i as u32).collect();
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: kept.len(),
        bytes: &bytes,
        row_starts: &starts,
        row_ends: &starts,
        value_errors: &value_errors,
        row_errors: &row_errors,
        place: &Place { name: "t.csv".into(), minor: first, line: 1, ..Place::default() },
    });
}

pub(crate) type Table = BTreeMap<(i64, String), (i64, f64)>;

/// One row at a time, by the rules of SEMANTICS 3 and 9.
pub(crate) fn oracle(rows: &[Row], delay_us: i64, judges: bool) -> (Table, Counters, Option<i64>) {
    let (mut table, mut counters, mut clock) = (Table::new(), Counters::default(), None);
    for row in rows {
        counters.rows_in += 1;
        if row.bad == 4 || row.bad == STATUS {
            counters.rejected += 1;
        } else if row.status.is_none_or(|status| status == 0) {
            counters.filtered += 1;
        } else if row.bad == TIME {
            counters.rejected += 1;
        } else if row.time.is_none() {
            counters.filtered += 1;
        } else if row.bad < 4 {
            counters.rejected += 1;
        } else {
            let time = row.time.expect("a null time was filtered");
            let start = time.div_euclid(SIZE_US) * SIZE_US;
            let watermark = clock.map(|t: i64| (t - delay_us).div_euclid(1000) * 1000);
            if judges && watermark.is_some_and(|w| start + SIZE_US <= w) {
                counters.late += 1;
            } else {
                counters.applied += 1;
                let device = char::from(b'a' + row.device).to_string();
                let group = table.entry((start, device)).or_insert((0, 0.0));
                *group = (group.0 + 1, group.1 + f64::from(row.value) / 8.0);
            }
            clock = clock.max(Some(time));
        }
    }
    (table, counters, clock)
}

/// What the epoch's partials come to.
pub(crate) fn table_of(plan: &Plan, partials: &[RecordBatch]) -> Table {
    let mut state = StateStore::new(&plan.state().expect("a grouped plan"));
    for partial in partials {
        state.merge(partial).expect("a partial of this plan");
    }
    let columns = state.rows(&state.all()).expect("sums in range");
    let devices = crate::columns::plain_column(&columns[1]).expect("a few short texts");
    let starts = columns[0].as_primitive::<TimestampMicrosecondType>();
    let rows = 0..starts.len();
    rows.map(|row| {
        let count = columns[2].as_primitive::<Int64Type>().value(row);
        let sum = columns[3].as_primitive::<arrow::datatypes::Float64Type>().value(row);
        let device = devices.as_string::<i32>().value(row).to_string();
        ((starts.value(row), device), (count, sum))
    })
    .collect()
}

proptest! {
    #[test]
    fn any_batches_give_the_fates_and_groups_of_a_row_by_row_reader(
        rows in proptest::collection::vec(row(), 0..120),
        batch in 1usize..40,
        delay_us in prop_oneof![Just(0i64), Just(7_500), Just(50_000)],
        mode in prop_oneof![Just(OutputMode::Append), Just(OutputMode::Complete)],
    ) {
        let plan = plan(delay_us, mode);
        let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter);
        pipeline.open(0, EventClock::known(None));
        for (i, rows) in rows.chunks(batch).enumerate() {
            push(&mut pipeline, rows, (i * batch) as u64);
        }
        let segment = pipeline.close();
        let (expected, counters, clock) = oracle(&rows, delay_us, mode == OutputMode::Append);
        prop_assert_eq!(segment.summary.clock.now, clock);
        pipeline.keep(segment, 0).expect("dead letters do not stop a job");
        let epoch = pipeline.barrier();
        prop_assert_eq!(epoch.counters, counters);
        prop_assert!(counters.close());
        prop_assert_eq!(epoch.dead_letters.len() as u64, counters.rejected);
        let positions: Vec<u64> = epoch.dead_letters.iter().map(|l| l.position.minor).collect();
        prop_assert!(positions.is_sorted());
        prop_assert_eq!(table_of(&plan, epoch.partial.as_slice()), expected);
    }

    /// Two cores take turns, every segment guesses, and is read again where the guess fails.
    #[test]
    fn guessed_segments_end_as_one_sequential_reader(
        rows in proptest::collection::vec(row(), 1..120),
        cuts in proptest::collection::vec(1usize..30, 1..12),
        delay_us in prop_oneof![Just(0i64), Just(7_500), Just(50_000)],
    ) {
        let plan = plan(delay_us, OutputMode::Append);
        let mut cores = [0, 1].map(|_| Pipeline::new(plan.clone(), OnError::DeadLetter));
        let (mut rest, mut clock, mut turn) = (&rows[..], None, 0usize);
        while !rest.is_empty() {
            let (stretch, behind) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            let core = &mut cores[turn % 2];
            core.open(turn as u64, EventClock::Guessed);
            push(core, stretch, 0);
            let mut segment = core.close();
            if clock.is_some_and(|clock| clock >= segment.summary.guess_holds_below) {
                core.discard(segment);
                core.open(turn as u64, EventClock::known(clock));
                push(core, stretch, 0);
                segment = core.close();
            }
            clock = clock.max(segment.summary.clock.now);
            core.keep(segment, 0).expect("dead letters do not stop a job");
            (rest, turn) = (behind, turn + 1);
        }
        let (expected, expected_counters, expected_clock) = oracle(&rows, delay_us, true);
        let epochs = cores.map(|mut core| core.barrier());
        let mut counters = Counters::default();
        epochs.iter().for_each(|epoch| counters.add(&epoch.counters));
        prop_assert_eq!((counters, clock), (expected_counters, expected_clock));
        let partials: Vec<RecordBatch> = epochs.into_iter().filter_map(|e| e.partial).collect();
        prop_assert_eq!(table_of(&plan, &partials), expected);
    }
}

/// A split back from idleness: windows left by the clock of others.
#[test]
fn rows_late_by_the_clock_of_others_are_counted_apart() {
    let row = |size: i64| Row {
        time: Some(size * SIZE_US),
        device: 0,
        status: Some(1),
        value: 8,
        bad: 5,
    };
    let mut pipeline = Pipeline::new(plan(0, OutputMode::Append), OnError::DeadLetter);
    let clock = SplitClock { now: Some(5 * SIZE_US), own: Some(SIZE_US) };
    pipeline.open(0, EventClock::Known(clock));
    // In time by its own; late by both; the split is where the others are; late by its own.
    push(&mut pipeline, &[2, 0, 6, 2].map(row), 0);
    let segment = pipeline.close();
    assert_eq!(segment.summary.clock, SplitClock::of(Some(6 * SIZE_US)));
    pipeline.keep(segment, 0).expect("no row is bad");
    let counters = pipeline.barrier().counters;
    assert_eq!((counters.late, counters.late_after_idleness, counters.applied), (3, 1, 1));
}

#[test]
fn the_four_policies_for_a_bad_value() {
    let row = Row { time: Some(5), device: 0, status: Some(1), value: 8, bad: VALUE };
    let run = |policy| {
        let plan = plan(0, OutputMode::Append);
        let mut pipeline = Pipeline::new(plan.clone(), policy);
        pipeline.open(0, EventClock::known(None));
        push(&mut pipeline, std::slice::from_ref(&row), 0);
        let segment = pipeline.close();
        let kept = pipeline.keep(segment, 41);
        let epoch = pipeline.barrier();
        (kept.map_err(|e| e.to_string()), epoch.counters.rejected, epoch.dead_letters)
    };
    let (kept, rejected, letters) = run(OnError::DeadLetter);
    assert_eq!((kept, rejected, letters.len()), (Ok(()), 1, 1));
    assert_eq!((letters[0].line, letters[0].column.as_deref()), (42, Some("value")));
    assert_eq!(letters[0].reason, "expected INT, found \"\"");
    assert_eq!(run(OnError::Skip), (Ok(()), 1, vec![]));
    assert_eq!(run(OnError::Null), (Ok(()), 0, vec![]));
    let message = "cannot take t.csv: line 42, column \"value\": expected INT, found \"\"; \
                   on_error = \"fail\" stops the job here";
    assert_eq!(run(OnError::Fail).0, Err(message.to_string()));
}
