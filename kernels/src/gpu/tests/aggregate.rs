//! Groups and their states: the device's table against the CPU's.

use super::*;
use crate::cpu::aggregate::{AggregateFunction, AggregateSpec, Call, is_supported};
use crate::cpu::project::oracle_tests::{Random, column, types};
use crate::expr::{CompareOp, Expr, ExprKind, Literal};
use crate::gpu::Input;
use arrow::array::{Float64Array, Int32Array, TimestampMicrosecondArray};
use arrow::datatypes::{Field, TimeUnit};

pub(super) fn call(
    function: AggregateFunction,
    argument: usize,
    input: DataType,
    output: DataType,
) -> Call {
    let spec =
        AggregateSpec { function, input: Some(input), output, name: format!("{function:?}") };
    Call { spec, argument: Some(argument), filter: None }
}

pub(super) fn count_rows() -> Call {
    let spec = AggregateSpec {
        function: AggregateFunction::CountRows,
        input: None,
        output: DataType::Int64,
        name: "n".to_owned(),
    };
    Call { spec, argument: None, filter: None }
}

/// The sensors job: windows and devices, count, average, least and greatest.
pub(super) fn sensors() -> Query {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let input = |data_type: DataType, is_ids| Input { data_type, is_ids };
    let status = Box::new(Expr::column(4, DataType::Int32));
    let zero = Box::new(Expr::literal(Literal::Int(0), DataType::Int32));
    let filter = Expr {
        kind: ExprKind::Compare(CompareOp::NotEqual, status, zero),
        data_type: DataType::Boolean,
    };
    let start = ExprKind::WindowStart {
        time: Box::new(Expr::column(0, time.clone())),
        size_us: 10_000_000,
        offset_us: 0,
    };
    let double = || DataType::Float64;
    Query {
        inputs: vec![
            input(time.clone(), false),
            input(DataType::Utf8, true),
            input(double(), false),
            input(double(), false),
            input(DataType::Int32, false),
        ],
        filters: vec![filter],
        keys: vec![Expr { kind: start, data_type: time.clone() }, Expr::column(1, DataType::Utf8)],
        window: None,
        key_fields: vec![
            Field::new("start", time, true),
            Field::new("device", DataType::Utf8, true),
        ],
        arguments: vec![Expr::column(2, double()), Expr::column(3, double())],
        calls: vec![
            count_rows(),
            call(AggregateFunction::Avg, 0, double(), double()),
            call(AggregateFunction::Min, 1, double(), double()),
            call(AggregateFunction::Max, 1, double(), double()),
        ],
        offsets: None,
    }
}

pub(super) fn readings(
    side: &mut Side,
    other: &mut Side,
    count: usize,
    devices: u64,
) -> Vec<ArrayRef> {
    for device in 0..devices {
        let name = format!("device-{device}");
        side.space.interner_mut(1).intern(name.as_bytes());
        other.space.interner_mut(1).intern(name.as_bytes());
    }
    let mut state = 7_u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let times = (0..count).map(|row| row as i64 * 1_000 - 5_000_000).collect::<Vec<_>>();
    let ids = (0..count).map(|_| 1 + (random() % devices) as u32).collect::<Vec<_>>();
    let doubles = |random: &mut dyn FnMut() -> u64| {
        let value = |random: &mut dyn FnMut() -> u64| match random() % 50 {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(-0.0),
            3 => Some(1e300),
            4 => Some(f64::from_bits(random())),
            _ => Some((random() % 2_000) as f64 / 10.0 - 100.0),
        };
        (0..count).map(|_| value(random)).collect::<Float64Array>()
    };
    let (a, b) = (doubles(&mut random), doubles(&mut random));
    let status = (0..count).map(|_| (random() % 4) as i32).collect::<Vec<_>>();
    vec![
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(UInt32Array::from(ids)),
        Arc::new(a),
        Arc::new(b),
        Arc::new(Int32Array::from(status)),
    ]
}

#[test]
fn the_sensors_query_has_the_cpus_states_in_both_tiers() {
    let query = sensors();
    for tier in TIERS {
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        for (count, devices) in [(1, 1), (700, 3), (20_000, 900), (20_000, 3)] {
            let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
            let columns = readings(&mut cpu_side, &mut gpu_side, count, devices);
            on_cpu(&query, &mut cpu_side, &columns);
            gpu.take(&columns, 4_096).expect("it fits");
            gpu.drain(&mut gpu_side).expect("it comes back");
            assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query), "{tier:?} {count}");
        }
    }
}

/// Every aggregate that a device has, over every type, with filters; keys of every type.
fn everything(keys: Vec<DataType>) -> Query {
    let types = types();
    let inputs = types.iter().map(|t| Input { data_type: t.clone(), is_ids: false }).collect();
    let place = |of: &DataType| types.iter().position(|t| t == of).expect("one of the types");
    let mut calls = vec![count_rows()];
    for (argument, input) in types.iter().enumerate() {
        use AggregateFunction::*;
        for function in [
            Count,
            Sum,
            Avg,
            Min,
            Max,
            VarianceSample,
            StddevPopulation,
            BitAnd,
            BitOr,
            BitXor,
            BoolAnd,
            BoolOr,
        ] {
            let outputs = [input.clone(), DataType::Int64, DataType::Float64];
            let known = outputs.into_iter().find_map(|output| {
                let call = call(function, argument, input.clone(), output);
                is_supported(&call.spec).then_some(call)
            });
            calls.extend(known);
        }
    }
    let filtered: Vec<_> = calls.iter().filter(|call| call.argument == Some(4)).cloned().collect();
    let filter = place(&DataType::Boolean);
    calls.extend(filtered.into_iter().map(|call| Call { filter: Some(filter), ..call }));
    let field = |(i, t): (usize, &DataType)| Field::new(format!("k{i}"), t.clone(), true);
    Query {
        inputs,
        filters: vec![],
        window: None,
        key_fields: keys.iter().enumerate().map(field).collect(),
        keys: keys.iter().map(|t| Expr::column(place(t), t.clone())).collect(),
        arguments: types.iter().enumerate().map(|(i, t)| Expr::column(i, t.clone())).collect(),
        calls,
        offsets: None,
    }
}

#[test]
fn every_aggregate_over_every_type_has_the_cpus_states() {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let sets = [
        vec![],
        vec![DataType::Int8],
        vec![DataType::Boolean, DataType::Float64, DataType::Decimal128(38, 10)],
        vec![DataType::Float32, DataType::Date32, DataType::Int16, DataType::Int64, timestamp],
    ];
    for (seed, keys) in sets.into_iter().enumerate() {
        let query = everything(keys);
        assert_eq!(query.refusals(), []);
        for tier in TIERS {
            let mut random = Random(seed as u64);
            let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
            let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
            for rows in [700, 1, 3_000] {
                let columns: Vec<_> =
                    types().iter().map(|t| column(&mut random, t, rows)).collect();
                on_cpu(&query, &mut cpu_side, &columns);
                gpu.take(&columns, 512).expect("it fits");
            }
            gpu.drain(&mut gpu_side).expect("it comes back");
            let (found, expected) = (gpu_side.partial(&query), cpu_side.partial(&query));
            for (key, expected) in &expected {
                assert_eq!(found.get(key), Some(expected), "{tier:?} keys {seed} at {key:?}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

/// A group's key and states, and the bytes that a table holds for all of them.
fn bytes_of_groups(table: &Table) -> (u64, u64) {
    let room = table.room.as_ref().expect("it holds groups");
    let held = [&room.keys, &room.sums, &room.extremes, &room.slots];
    let held = held.iter().map(|buffer| buffer.raw.size()).sum();
    let (words, states) = (table.program.records.key_words, &table.program.states);
    ((4 * words + 8 * states.units + 4 * states.extreme_words) as u64, held)
}

/// The narrowest groups that there are: one integer, counted.
fn counts() -> Query {
    let fields = vec![Field::new("k", DataType::Int32, true)];
    Query {
        inputs: vec![Input { data_type: DataType::Int32, is_ids: false }],
        filters: vec![],
        keys: vec![Expr::column(0, DataType::Int32)],
        window: None,
        key_fields: fields,
        arguments: vec![],
        calls: vec![count_rows()],
        offsets: None,
    }
}

#[test]
fn a_table_that_grew_is_not_twice_its_keys_and_states() {
    for tier in TIERS {
        for (batch, narrow) in [(8_192, false), (8_192, true), (777, true), (30_000, true)] {
            let query = if narrow { counts() } else { sensors() };
            let mut gpu = Gpu::new(&fresh_device(tier), &query).expect("it compiles");
            let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
            let columns = match narrow {
                true => {
                    let keys = (0..60_000).map(|row: i32| row.wrapping_mul(0x9e37_79b1_u32 as i32));
                    vec![Arc::new(Int32Array::from_iter_values(keys)) as ArrayRef]
                }
                false => readings(&mut cpu_side, &mut gpu_side, 60_000, 30_000),
            };
            on_cpu(&query, &mut cpu_side, &columns);
            gpu.take(&columns, batch).expect("it grows");
            gpu.table.settle(&mut gpu.projector).expect("every row finds its group");
            let groups = cpu_side.table.groups().len() as u64;
            let (group_bytes, held) = bytes_of_groups(&gpu.table);
            assert!(groups > 20_000 && held <= 2 * groups * group_bytes, "{held} for {groups}");
            gpu.drain(&mut gpu_side).expect("it comes back");
            assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query), "{tier:?} {batch}");
        }
    }
}

/// Equal sets of rows in any order, cut anywhere, drained in between or not.
#[test]
fn no_batch_and_no_order_shows() {
    let query = sensors();
    let mut gpu = Gpu::new(&device(Tier::Native), &query).expect("it compiles");
    let mut partials = Vec::new();
    for (batch, drains) in [(20_000, false), (333, false), (4_096, true), (32, true)] {
        let (mut side, mut other) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut side, &mut other, 5_000, 50);
        gpu.take(&columns, batch).expect("it fits");
        if drains {
            gpu.drain(&mut side).expect("it comes back");
        }
        let again: Vec<_> = columns.iter().map(|column| column.slice(100, 77)).collect();
        gpu.take(&again, batch).expect("it fits");
        gpu.drain(&mut side).expect("it comes back");
        partials.push(side.partial(&query));
    }
    assert!(partials.windows(2).all(|pair| pair[0] == pair[1]));
}

/// As [`Gpu::take`], as if so many groups had been seen: their rows are folded near first.
fn take_near(gpu: &mut Gpu, columns: &[ArrayRef], batch_rows: usize, seen: u32) {
    gpu.table.groups_seen = seen;
    assert!(gpu.table.near().is_some(), "{seen} groups are few");
    gpu.take(columns, batch_rows).expect("it fits");
}

/// As many groups as were expected, fewer, and so many more that most go to the table directly.
#[test]
fn few_groups_have_the_same_states_by_way_of_a_workgroups_memory() {
    let query = sensors();
    for tier in TIERS {
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        for (seen, count, devices, batch) in [
            (1, 1, 1, 1),
            (1, 3_000, 1, 3_000),
            (2, 20_000, 1, 4_096),
            (9, 20_000, 3, 1_025),
            (60, 5_000, 3, 5_000),
            (5, 9_000, 400, 9_000),
        ] {
            let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
            let columns = readings(&mut cpu_side, &mut gpu_side, count, devices);
            on_cpu(&query, &mut cpu_side, &columns);
            take_near(&mut gpu, &columns, batch, seen);
            gpu.drain(&mut gpu_side).expect("it comes back");
            let found = gpu_side.partial(&query);
            assert_eq!(found, cpu_side.partial(&query), "{tier:?}: {seen} of {devices}");
        }
    }
}

/// What a submission saw decides how the next is folded.
#[test]
fn the_observed_groups_decide_where_rows_are_folded() {
    let query = sensors();
    let mut gpu = Gpu::new(&device(Tier::Native), &query).expect("it compiles");
    let mut see = |rows: usize, devices: u64| {
        let (mut side, mut other) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut side, &mut other, rows, devices);
        gpu.take(&columns, 4_096).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("it ends");
        let near = gpu.table.near();
        gpu.drain(&mut side).expect("it comes back");
        assert_eq!(gpu.table.near(), near, "the next epoch begins as this one ended");
        near.is_some()
    };
    assert!(see(2_000, 2));
    assert!(!see(9_000, 5_000));
    assert!(see(2_000, 2));
    gpu.table.pre_aggregate(false);
    assert_eq!(gpu.table.near(), None);
}

#[test]
fn every_aggregate_has_the_same_states_by_way_of_a_workgroups_memory() {
    let whole = everything(vec![DataType::Int8]);
    // So few aggregates that a workgroup has room for some groups of theirs: those of a type for each class.
    for (seed, class) in
        [DataType::Int32, DataType::Float64, DataType::Decimal128(10, 2)].iter().enumerate()
    {
        let calls = whole.calls.iter().filter(|call| call.spec.input.as_ref() == Some(class));
        let query = Query { calls: calls.cloned().collect(), ..whole.clone() };
        for tier in TIERS {
            let mut random = Random(100 + seed as u64);
            let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
            let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
            for (rows, seen) in [(3_000, 8), (700, 1), (1, 5)] {
                let columns: Vec<_> =
                    types().iter().map(|t| column(&mut random, t, rows)).collect();
                on_cpu(&query, &mut cpu_side, &columns);
                take_near(&mut gpu, &columns, 2_000, seen);
                gpu.table.settle(&mut gpu.projector).expect("every row finds its group");
            }
            gpu.drain(&mut gpu_side).expect("it comes back");
            let (found, expected) = (gpu_side.partial(&query), cpu_side.partial(&query));
            for (key, expected) in &expected {
                assert_eq!(found.get(key), Some(expected), "{tier:?} calls {seed} at {key:?}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

/// What needs no exception leaves none, from the first batch on.
#[test]
fn prices_and_counts_fall_into_a_sums_window() {
    let query = sensors();
    let mut gpu = Gpu::new(&device(Tier::Native), &query).expect("it compiles");
    let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
    let mut columns = readings(&mut cpu_side, &mut gpu_side, 2_000, 3);
    for (scale, outside) in
        [(0.01, false), (-1.0, false), (1e9, false), (1e-13, false), (1e18, true)]
    {
        let values = (0..2_000).map(|row| f64::from(row) * scale);
        columns[2] = Arc::new(Float64Array::from_iter_values(values));
        on_cpu(&query, &mut cpu_side, &columns);
        gpu.take(&columns, 2_000).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("it ends");
        assert_eq!(gpu.table.exceptions_bound > 0, outside, "{scale}");
        gpu.drain(&mut gpu_side).expect("it comes back");
    }
    assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query));
}
