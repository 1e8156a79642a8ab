//! Question: what does a row cost on a device, in each tier: its way up to fate, key and arguments; its
//! fold alone; all of the way to a partial?
//!
//! Checked first: the device's partial is the CPU's, row by row and bit by bit. A software device is
//! named as one; its figures are no GPU's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_kernels::gpu::sample::{self, Groups, Kernels};
use pelton_kernels::gpu::{Choice, Device, Query, Tier};

const ROWS: u64 = 1 << 18;
const GROUPS: u64 = 10_000;
const COLUMNS: usize = 2;

fn sorted(side: &Groups) -> RecordBatch {
    let mut groups: Vec<u32> = side.table.groups().iter().collect();
    groups.sort_by_key(|&group| side.table.groups().key(group));
    side.table.partial(&side.space, Some(&groups))
}

fn check(query: &Query, batches: &[Vec<ArrayRef>], kernels: &mut Kernels, name: &str) {
    // One for both: partials are compared in the order of its keys.
    let mut side = Groups::new(query);
    batches.iter().for_each(|batch| side.take(query, batch));
    let expected = sorted(&side);
    side.table.clear();
    kernels.take(batches).expect("it fits");
    kernels.drain(&mut side).expect("it comes back");
    assert_eq!(sorted(&side), expected, "{name}");
}

fn gpu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gpu");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let query = sample::query(COLUMNS);
    let batches = sample::batches(ROWS, GROUPS, COLUMNS);
    for tier in [Tier::Native, Tier::Portable] {
        let choice = Choice { tier: Some(tier), ..Choice::default() };
        let device = match Device::open(choice) {
            Ok(device) => Arc::new(device),
            Err(error) => {
                eprintln!("{}: {error}", tier.name());
                continue;
            }
        };
        let kind = if device.is_software() { "software" } else { "gpu" };
        let name = format!("{} {kind} {}", device.adapter().name, tier.name());
        let mut kernels = Kernels::new(&device, query.clone()).expect("it compiles");
        let mut side = Groups::new(&query);
        check(&query, &batches, &mut kernels, &name);
        group.bench_function(BenchmarkId::new("project", &name), |bencher| {
            bencher.iter(|| {
                for batch in &batches {
                    let selected = kernels.project(batch).expect("it fits");
                    kernels.projector.recycle(selected.batch);
                }
            });
        });
        group.bench_function(BenchmarkId::new("fold", &name), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let selected = batches.iter().map(|batch| kernels.project(batch));
                    let selected = selected.collect::<Result<Vec<_>, _>>().expect("it fits");
                    let Kernels { projector, table } = &mut kernels;
                    let began = Instant::now();
                    table.aggregate(selected, projector).expect("it fits");
                    table.settle(projector).expect("it ends");
                    took += began.elapsed();
                    side.table.clear();
                    kernels.drain(&mut side).expect("it comes back");
                }
                took
            });
        });
        group.bench_function(BenchmarkId::new("all", &name), |bencher| {
            bencher.iter(|| {
                side.table.clear();
                kernels.take(&batches).expect("it fits");
                kernels.drain(&mut side).expect("it comes back");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, gpu);
criterion_main!(benches);
