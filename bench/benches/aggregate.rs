//! Question: what does a row cost from its keys to its states (count, exact mean, least, most) with a
//! thousand groups, which stay in L2, with a hundred thousand and with a million, which do not?
//!
//! Checked first: every group's values are those of a hash map and the oracle's exact sum.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_bench::exact::ExactSum;
use pelton_kernels::cpu::aggregate::{
    AggregateFunction, AggregateSpec, Call, GroupTable, Positions,
};
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};

const ROWS: usize = 2_000_000;
/// Rows of a batch of the sensors' decoder.
const BATCH: usize = 5_400;
const DEVICES: u64 = 1_000;

/// A row's device id, window start and two measurements, a batch after the other.
struct Batch {
    ids: Vec<u32>,
    windows: ArrayRef,
    values: Vec<ArrayRef>,
}

fn batches(windows: u64) -> Vec<Batch> {
    let rows: Vec<usize> = (0..ROWS).collect();
    rows.chunks(BATCH)
        .map(|rows| {
            let hash = |row: usize, salt: u64| {
                ((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                    >> 33
            };
            // Id 0 is NULL's. Windows follow each other, as event time does.
            let ids = rows.iter().map(|&row| 1 + (hash(row, 1) % DEVICES) as u32).collect();
            let window = |row: usize| (row as u64 * windows / ROWS as u64) as i64 * 10_000_000;
            let starts: Vec<i64> = rows.iter().map(|&row| window(row)).collect();
            let starts = arrow::array::TimestampMicrosecondArray::from(starts).with_timezone("UTC");
            let measured = |salt: u64| -> ArrayRef {
                let value = |&row: &usize| (hash(row, salt) % 10_000) as f64 / 100.0 - 20.0;
                Arc::new(rows.iter().map(value).collect::<Float64Array>())
            };
            Batch { ids, windows: Arc::new(starts), values: vec![measured(2), measured(3)] }
        })
        .collect()
}

fn calls() -> Vec<Call> {
    let call = |function, argument: Option<usize>, output| Call {
        spec: AggregateSpec {
            function,
            input: argument.map(|_| DataType::Float64),
            output,
            name: format!("{function:?}"),
        },
        argument,
        filter: None,
    };
    vec![
        call(AggregateFunction::CountRows, None, DataType::Int64),
        call(AggregateFunction::Avg, Some(0), DataType::Float64),
        call(AggregateFunction::Min, Some(1), DataType::Float64),
        call(AggregateFunction::Max, Some(1), DataType::Float64),
    ]
}

fn key_fields() -> Vec<Field> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![Field::new("start", timestamp, true), Field::new("device", DataType::Utf8, true)]
}

fn aggregate_all(batches: &[Batch], space: &mut KeySpace, table: &mut GroupTable) {
    let mut keys = Vec::with_capacity(BATCH);
    for batch in batches {
        keys.clear();
        let rows = Rows::All(batch.ids.len());
        let inputs = [KeyInput::Values(&batch.windows), KeyInput::Ids(&batch.ids)];
        space.encode(&inputs, rows, &mut keys);
        table.update(&keys, rows, &batch.values, &Positions::default());
    }
}

fn new_space() -> KeySpace {
    let types: Vec<DataType> = key_fields().iter().map(|field| field.data_type().clone()).collect();
    let mut space = KeySpace::new(&types);
    for device in 0..DEVICES {
        space.interner_mut(1).intern(format!("dev-{device:04}").as_bytes());
    }
    space
}

/// Compares all groups with a naive computation; returns their number.
fn check(batches: &[Batch]) -> usize {
    let (mut space, mut table) = (new_space(), GroupTable::new(&key_fields(), &calls()));
    aggregate_all(batches, &mut space, &mut table);

    let mut expected: HashMap<(i64, u32), (ExactSum, f64, f64)> = HashMap::new();
    for batch in batches {
        let starts = batch.windows.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let [a, b] = [0, 1].map(|at| batch.values[at].as_primitive::<Float64Type>());
        for row in 0..batch.ids.len() {
            let group = expected.entry((starts.value(row), batch.ids[row])).or_insert((
                ExactSum::default(),
                f64::INFINITY,
                f64::NEG_INFINITY,
            ));
            group.0.add(a.value(row));
            group.1 = group.1.min(b.value(row));
            group.2 = group.2.max(b.value(row));
        }
    }
    let groups: Vec<u32> = table.groups().iter().collect();
    assert_eq!(groups.len(), expected.len());
    let values = table.values(&groups).expect("doubles do not overflow here");
    let keys: Vec<u64> = groups.iter().map(|&group| table.groups().key(group)).collect();
    let columns = space.decode(&keys);
    let starts = columns[0].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let devices = columns[1].as_dictionary::<arrow::datatypes::UInt32Type>();
    let names = devices.values().as_string::<i32>();
    for at in 0..groups.len() {
        let name = names.value(devices.keys().value(at) as usize);
        let id = 1 + name["dev-".len()..].parse::<u32>().expect("a number");
        let (sum, least, most) = expected[&(starts.value(at), id)];
        let double = |column: usize| values[column].as_primitive::<Float64Type>().value(at);
        assert_eq!(values[0].as_primitive::<Int64Type>().value(at) as u64, sum.count());
        assert_eq!((Some(double(1)), double(2), double(3)), (sum.mean(), least, most));
    }
    groups.len()
}

fn aggregate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aggregate");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for windows in [1, 100, 1_000] {
        let batches = batches(windows);
        let groups = check(&batches);
        let (mut space, mut table) = (new_space(), GroupTable::new(&key_fields(), &calls()));
        group.bench_function(BenchmarkId::new("groups", groups), |bencher| {
            bencher.iter(|| {
                table.clear();
                aggregate_all(&batches, &mut space, &mut table);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, aggregate);
criterion_main!(benches);
