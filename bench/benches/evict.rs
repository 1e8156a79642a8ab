//! Question: what does an epoch pay to evict a hundred thousand groups, with as many more of them open
//! as with ten million? If eviction costs what is evicted, the answer is the same.
//!
//! Checked first: what is left after an eviction are the groups whose windows are still open.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_engine::state::{Closing, StateSpec, StateStore};
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec, Call, partial_schema};

/// Keys of a window: what an epoch opens and what it evicts.
const KEYS: usize = 100_000;
const SIZE_US: i64 = 10_000_000;

fn spec() -> StateSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let count = AggregateSpec {
        function: AggregateFunction::CountRows,
        input: None,
        output: DataType::Int64,
        name: "n".into(),
    };
    StateSpec {
        keys: vec![Field::new("start", time, true), Field::new("id", DataType::Int64, true)],
        calls: vec![Call { spec: count, argument: None, filter: None }],
        closing: Closing::Window { key: 0, size_us: SIZE_US },
        session: None,
        moving: false,
    }
}

/// The groups of one window.
fn partial(spec: &StateSpec, window: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_value(window * SIZE_US, KEYS)),
        Arc::new(Int64Array::from_iter_values(0..KEYS as i64)),
        Arc::new(UInt64Array::from_value(1, KEYS)),
    ];
    RecordBatch::try_new(partial_schema(&spec.keys, &spec.calls), columns).expect("it fits")
}

/// An epoch in the middle of a stream: a window opens, the oldest one closes.
fn epoch(store: &mut StateStore, next: &RecordBatch, oldest: i64) {
    store.merge(next).expect("a partial of this table");
    let evicted = store.settle(Some((oldest + 1) * SIZE_US)).expect("nothing fails");
    assert_eq!(evicted, KEYS);
}

fn evict(c: &mut Criterion) {
    let spec = spec();
    let mut group = c.benchmark_group("evict");
    group.throughput(Throughput::Elements(KEYS as u64)).sample_size(10);
    for windows in [1i64, 10, 100] {
        let mut store = StateStore::new(&spec);
        (0..windows).for_each(|window| store.merge(&partial(&spec, window)).expect("it fits"));
        store.settle(None).expect("nothing fails");
        let mut oldest = 0;
        epoch(&mut store, &partial(&spec, windows), oldest);
        assert_eq!(store.len(), windows as usize * KEYS);
        let id = BenchmarkId::from_parameter(windows as usize * KEYS);
        group.bench_function(id, |b| {
            b.iter_batched(
                || {
                    oldest += 1;
                    (partial(&spec, oldest + windows), oldest)
                },
                |(next, oldest)| epoch(&mut store, &next, oldest),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, evict);
criterion_main!(benches);
