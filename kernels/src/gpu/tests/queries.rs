//! Random queries over random batches, as a whole: the device's groups, and its rows where there are none,
//! against the CPU's kernels, by bits, in both tiers.
//!
//! Many more: `PELTON_SEEDS=400 PELTON_FIRST=1000` and the filter `gpu::tests::queries`.

use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::{Field, TimeUnit};

use super::aggregate::{call, count_rows};
use super::rows::values;
use super::*;
use crate::cpu::aggregate::{AggregateFunction, Call, is_supported};
use crate::cpu::project::oracle_tests::{Random, column, grow, types};
use crate::expr::{Expr, ExprKind};
use crate::gpu::{Input, ROWS_MAX, goes_by_position, refusal};

/// What a shader is made of takes its driver the longest: trees stay small.
const NODES_MAX: usize = 60;
/// Texts of the key that goes up as ids.
const NAMES: usize = 40;
const SLIDE_US: i64 = 4_000;
/// Windows that a row falls into.
const STEPS: i64 = 3;

/// Columns behind those that trees are grown over.
fn more() -> [(DataType, bool); 4] {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    [(time, false), (DataType::Utf8, true), (DataType::Utf8, false), (DataType::UInt32, true)]
}

fn time_at() -> usize {
    types().len()
}

fn inputs() -> Vec<Input> {
    let of_types = types().into_iter().map(|data_type| (data_type, false)).chain(more());
    of_types.map(|(data_type, is_ids)| Input { data_type, is_ids }).collect()
}

/// A tree that a device takes, and that is not most of a shader.
fn tree(random: &mut Random, to: &DataType, depth: usize, nodes: &mut usize) -> Expr {
    loop {
        let expr = grow(random, to, depth);
        let size = crate::gpu::support::nodes(&expr);
        if refusal(&expr).is_none() && *nodes + size < NODES_MAX {
            *nodes += size;
            return expr;
        }
        if *nodes + 8 > NODES_MAX {
            let column = types().iter().position(|t| t == to).expect("one of the types");
            return Expr::column(column, to.clone());
        }
    }
}

fn filters(random: &mut Random, nodes: &mut usize) -> Vec<Expr> {
    (0..random.below(3)).map(|_| tree(random, &DataType::Boolean, 2, nodes)).collect()
}

/// Keys, the first perhaps the start of a window that others overlap.
fn keys(random: &mut Random, nodes: &mut usize) -> (Vec<Expr>, Option<usize>) {
    let [(time, _), (text, _), ..] = more();
    let (mut keys, mut window) = (Vec::new(), None);
    if random.one_in(3) {
        let of_time = Box::new(Expr::column(time_at(), time.clone()));
        let kind = ExprKind::WindowStart { time: of_time, size_us: SLIDE_US, offset_us: 700 };
        keys.push(Expr { kind, data_type: time });
        window = random.one_in(2).then_some(0);
    }
    for _ in 0..random.below(4) {
        let of = random.pick(&types());
        keys.push(match random.one_in(3) {
            true => Expr::column(time_at() + 1, text.clone()),
            false => tree(random, &of, 1, nodes),
        });
    }
    (keys, window)
}

fn calls(random: &mut Random, arguments: &[Expr]) -> Vec<Call> {
    use AggregateFunction::*;
    let ignore_nulls = random.one_in(2);
    let functions = [
        Count,
        Sum,
        Avg,
        Min,
        Max,
        First { ignore_nulls },
        Last { ignore_nulls },
        VarianceSample,
        StddevPopulation,
        BitAnd,
        BitXor,
        BoolOr,
    ];
    let filter = arguments.iter().position(|argument| argument.data_type == DataType::Boolean);
    let mut calls = vec![count_rows()];
    for (place, argument) in arguments.iter().enumerate() {
        for _ in 0..3 {
            let (function, of) = (random.pick(&functions), &argument.data_type);
            let outputs = [of.clone(), DataType::Int64, DataType::Float64];
            let mut outputs = outputs.into_iter().map(|to| call(function, place, of.clone(), to));
            let known = outputs.find(|call| is_supported(&call.spec));
            calls.extend(
                known.map(|call| Call { filter: filter.filter(|_| random.one_in(3)), ..call }),
            );
        }
    }
    calls
}

/// A query with groups, or one without.
fn query(random: &mut Random, with_groups: bool) -> Query {
    let mut nodes = 0;
    let filters = filters(random, &mut nodes);
    let (keys, window) = if with_groups { keys(random, &mut nodes) } else { (vec![], None) };
    let mut arguments = Vec::new();
    for _ in 0..1 + random.below(4) {
        let of = random.pick(&types());
        arguments.push(match with_groups && random.one_in(4) {
            true => Expr::column(time_at() + 2, DataType::Utf8),
            false => tree(random, &of, 2, &mut nodes),
        });
    }
    let calls = if with_groups { calls(random, &arguments) } else { Vec::new() };
    let field =
        |(at, key): (usize, &Expr)| Field::new(format!("k{at}"), key.data_type.clone(), true);
    let key_fields = keys.iter().enumerate().map(field).collect();
    let offsets = calls.iter().any(goes_by_position).then_some(time_at() + 3);
    let query =
        Query { inputs: inputs(), filters, keys, window, key_fields, arguments, calls, offsets };
    assert_eq!(query.refusals(), []);
    query
}

/// Rows that stand together: made of one row, so that they have its time.
const TOGETHER: usize = 3;

/// A slice of longer columns, so that no bit begins where a word does.
fn columns(random: &mut Random, rows: usize) -> Vec<ArrayRef> {
    let (cut, groups) = (TOGETHER * random.below(24), 1 + random.below(30) as i64);
    let all = rows + cut;
    let mut columns: Vec<_> = types().iter().map(|of| column(random, of, all)).collect();
    let time = |random: &mut Random| random.below(SLIDE_US as usize) as i64 * groups - 20_000;
    let times = (0..all.div_ceil(TOGETHER)).map(|_| (!random.one_in(9)).then(|| time(random)));
    let times = times.flat_map(|time| [time; TOGETHER]).take(all);
    columns.push(Arc::new(times.collect::<TimestampMicrosecondArray>()));
    let ids = (0..all).map(|_| random.below(NAMES.min(groups as usize) + 1) as u32);
    columns.push(Arc::new(UInt32Array::from_iter_values(ids)));
    columns.push(values(random, &DataType::Utf8, all));
    let offsets = (0..all).map(|row| (row / TOGETHER * 7) as u32);
    columns.push(Arc::new(UInt32Array::from_iter_values(offsets)));
    columns.iter().map(|column| column.slice(cut, rows)).collect()
}

/// Rows and rows of a batch: the edges of words and of what goes up at once.
fn sizes(random: &mut Random) -> (usize, usize) {
    random.pick(&[
        (1, 1),
        (30, 1),
        (200, 63),
        (500, 64),
        (131, 65),
        (3_000, 700),
        (3_000, 4_096),
        ((1 << 16) + 1, ROWS_MAX),
    ])
}

fn side(query: &Query) -> Side {
    let mut side = Side::new(query);
    for (place, key) in query.keys.iter().enumerate() {
        if key.data_type == DataType::Utf8 {
            for name in 0..NAMES {
                side.space.interner_mut(place).intern(format!("name-{name}").as_bytes());
            }
        }
    }
    side
}

/// The rows that count in a step: some, where a row falls into several windows.
fn counts(query: &Query, step: i64, row: u32) -> bool {
    query.window.is_none() || !(row as usize / TOGETHER * 7 + step as usize).is_multiple_of(3)
}

/// The device's way, each batch into every window.
fn take(gpu: &mut Gpu, query: &Query, columns: &[ArrayRef], batch_rows: usize, place: Place) {
    let rows = columns[0].len();
    let mut selected = Vec::new();
    for start in (0..rows).step_by(batch_rows) {
        let (mut fates, rows) = (Vec::new(), batch_rows.min(rows - start));
        let batch = gpu.projector.project(columns, start, rows, &mut fates).expect("it fits");
        let batch = Arc::new(batch.at(Place { first: start as u32, ..place }));
        for step in 0..steps(query) {
            let mut bits = passing(&fates);
            for row in (0..rows).filter(|&row| !counts(query, step, (start + row) as u32)) {
                bits[row / 32] &= !(1 << (row % 32));
            }
            let back_us = step * SLIDE_US;
            selected.push(Selected { batch: Arc::clone(&batch), rows: bits, back_us });
        }
    }
    gpu.table.aggregate(selected, &mut gpu.projector).expect("it fits");
}

fn steps(query: &Query) -> i64 {
    if query.window.is_some() { STEPS } else { 1 }
}

fn compare_groups(seed: u64) {
    let mut random = Random(seed ^ 0x6e0);
    let query = query(&mut random, true);
    let epochs: Vec<_> = (0..2)
        .map(|_| {
            let (rows, batch_rows) = sizes(&mut random);
            (columns(&mut random, rows), batch_rows)
        })
        .collect();
    let gpus = TIERS.map(|tier| Gpu::new(&device(tier), &query));
    let mut gpus = gpus.map(|gpu| gpu.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    let (mut expected, mut found) = (side(&query), TIERS.map(|_| side(&query)));
    for (epoch, (columns, batch_rows)) in epochs.iter().enumerate() {
        let place = Place { major: epoch as u64, ..Place::default() };
        for step in 0..steps(&query) {
            let counts = |row| counts(&query, step, row);
            on_cpu_of(&query, &mut expected, columns, place, step * SLIDE_US, &counts);
        }
        let expected = expected.partial(&query);
        for ((tier, gpu), side) in TIERS.iter().zip(&mut gpus).zip(&mut found) {
            take(gpu, &query, columns, *batch_rows, place);
            gpu.drain(side).expect("it comes back");
            let found = side.partial(&query);
            let context = || format!("seed {seed} {tier:?} epoch {epoch}: {query:#?}");
            for (key, expected) in &expected {
                assert_eq!(found.get(key), Some(expected), "{} at {key:?}", context());
            }
            assert_eq!(found.len(), expected.len(), "{}", context());
        }
    }
}

fn compare_rows(seed: u64) {
    let mut random = Random(seed ^ 0x40_35);
    let query = query(&mut random, false);
    let sizes: Vec<_> = (0..3).map(|_| sizes(&mut random).0.min(ROWS_MAX)).collect();
    let batches: Vec<_> = sizes.iter().map(|&rows| columns(&mut random, rows)).collect();
    for tier in TIERS {
        let program = Program::rows(&device(tier), query.clone());
        let program = Arc::new(program.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        let mut projector = Projector::new(&program);
        for columns in &batches {
            filter::check(&mut projector, &query, columns, &format!("seed {seed} {tier:?}"));
        }
    }
}

#[test]
fn f44_any_query_with_groups_has_the_cpus_groups_in_both_tiers() {
    seeds(0..6).for_each(compare_groups);
}

#[test]
fn f44_any_query_without_groups_has_the_cpus_rows_in_both_tiers() {
    seeds(0..6).for_each(compare_rows);
}

/// What these tests say of all queries they say of these.
#[test]
fn the_random_queries_have_windows_texts_positions_and_filters() {
    let mut met = [0; 6];
    for seed in 0..200 {
        let query = query(&mut Random(seed ^ 0x6e0), true);
        let any_text = |of: fn(&AggregateFunction) -> bool| {
            let is_text = |call: &&Call| call.spec.input == Some(DataType::Utf8);
            query.calls.iter().filter(is_text).any(|call| of(&call.spec.function))
        };
        let is_text = query.keys.iter().any(|key| key.data_type == DataType::Utf8);
        let extreme = any_text(|f| matches!(f, AggregateFunction::Min | AggregateFunction::Max));
        let met_here = [
            query.window.is_some(),
            is_text,
            extreme,
            query.offsets.is_some(),
            query.calls.iter().any(|call| call.filter.is_some()),
            query.filters.len() == 2,
        ];
        met.iter_mut().zip(met_here).for_each(|(met, here)| *met += usize::from(here));
    }
    assert!(met.iter().all(|&met| met > 10), "{met:?}");
}
