//! Questions: what does a row cost on a device, in each tier: its way up to fate, key and arguments
//! (`project`, with transfers); its fold alone (`fold`, the kernels); all of the way to a partial (`all`)?
//! What does folding in a workgroup's own memory first save where groups are few (`few`)? And what does
//! the door to a device cost rows that stay on the CPU (`door`)?
//!
//! Checked first: the device's partial is the CPU's, row by row and bit by bit, folded either way; so is
//! a pipeline's with a door. A software device is named as one; its figures are no GPU's. What the
//! processor does is measured by its time on it, not by the clock on the wall: others may be running.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_engine::batch::{Encoding, InputBatch, Place};
use pelton_engine::job::from_text;
use pelton_engine::job::spec::OnError;
use pelton_engine::pipeline::device::{Gpu, Pipelines};
use pelton_engine::pipeline::{EventClock, Pipeline};
use pelton_engine::plan::choice::{Auto, Found, Load};
use pelton_engine::plan::device::device_plan;
use pelton_engine::plan::{Plan, plan};
use pelton_kernels::gpu::sample::{self, Groups, Kernels};
use pelton_kernels::gpu::{Choice, Device, Query, Tier};

const ROWS: u64 = 1 << 18;
const GROUPS: u64 = 10_000;
const COLUMNS: usize = 2;
/// Few: one, as many as a workgroup has copies for, and about as many as it has room for.
const FEW: [u64; 3] = [1, 10, 80];

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
    // The second time the groups are known, which may be another way to fold them.
    for _ in 0..2 {
        side.table.clear();
        kernels.take(batches).expect("it fits");
        kernels.drain(&mut side).expect("it comes back");
        assert_eq!(sorted(&side), expected, "{name}");
    }
}

/// Each tier of the best device, and whether it is software.
fn devices() -> Vec<(String, bool, Arc<Device>)> {
    let open = |tier: Tier| {
        let choice = Choice { tier: Some(tier), ..Choice::default() };
        let device = Device::open(choice).map_err(|error| eprintln!("{}: {error}", tier.name()));
        let device = Arc::new(device.ok()?);
        let kind = if device.is_software() { "software" } else { "gpu" };
        let name = format!("{} {kind} {}", device.adapter().name, tier.name());
        Some((name, device.is_software(), device))
    };
    [Tier::Native, Tier::Portable].into_iter().filter_map(open).collect()
}

/// Time of the device's kernels over batches that are up already.
fn fold<T: Measurement<Value = Duration>>(
    kernels: &mut Kernels,
    side: &mut Groups,
    batches: &[Vec<ArrayRef>],
    (iterations, clock): (u64, &T),
) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..iterations {
        let selected = batches.iter().map(|batch| kernels.project(batch));
        let selected = selected.collect::<Result<Vec<_>, _>>().expect("it fits");
        let Kernels { projector, table } = &mut *kernels;
        let began = clock.start();
        table.aggregate(selected, projector).expect("it fits");
        table.settle(projector).expect("it ends");
        took += clock.end(began);
        side.table.clear();
        kernels.drain(side).expect("it comes back");
    }
    took
}

fn gpu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gpu");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let query = sample::query(COLUMNS);
    let batches = sample::batches(ROWS, GROUPS, COLUMNS);
    for (name, _, device) in devices() {
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
                fold(&mut kernels, &mut side, &batches, (iterations, &WallTime))
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

/// Folds with and without a workgroup's own memory; a software device's by its time on the processor.
fn few(criterion: &mut Criterion<Clock>) {
    let mut group = criterion.benchmark_group("few");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let query = sample::query(COLUMNS);
    for (name, is_software, device) in devices() {
        let clock = if is_software { Clock::Processor } else { Clock::Wall };
        for groups in FEW {
            let batches = sample::batches(ROWS, groups, COLUMNS);
            for (way, allowed) in [("near", true), ("far", false)] {
                let mut kernels = Kernels::new(&device, query.clone()).expect("it compiles");
                kernels.table.pre_aggregate(allowed);
                let mut side = Groups::new(&query);
                check(&query, &batches, &mut kernels, &name);
                let id = BenchmarkId::new(format!("{way} {groups}"), &name);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|iterations| {
                        fold(&mut kernels, &mut side, &batches, (iterations, &clock))
                    });
                });
            }
        }
    }
    group.finish();
}

/// The sample's query as a job has it.
fn job() -> Arc<Plan> {
    let text = "name = \"door\"\n[source.readings]\ntype = \"file\"\npath = \"readings.csv\"\n\
                schema = \"ts TIMESTAMP, device STRING, status INT, a DOUBLE, b DOUBLE\"\n\
                watermark = { column = \"ts\", delay = \"10s\" }\n[query]\nmode = \"append\"\n\
                sql = \"SELECT window.start, device, count(*), avg(a), min(a), max(a), avg(b), \
                min(b), max(b) FROM readings WHERE status <> 0 \
                GROUP BY window(ts, '10 seconds'), device\"\n";
    let (job, _) = from_text(text, std::path::Path::new("door.toml"), &[]).expect("a job");
    let query = plan(&job).unwrap_or_else(|findings| panic!("{} findings", findings.len()));
    Arc::clone(&query.scans[0].plan)
}

/// An epoch of a pipeline: its groups.
fn epoch(pipeline: &mut Pipeline, batches: &[Vec<ArrayRef>]) -> RecordBatch {
    let ids = pipeline.plan().input.iter().position(|input| input.encoding == Encoding::Ids);
    let ids = ids.expect("devices are ids");
    let mut interners = pipeline.interners();
    for device in 1..=1_000 {
        interners.get(ids).intern(device.to_string().as_bytes());
    }
    pipeline.open(0, EventClock::known(None));
    let place = Place::default();
    for columns in batches {
        let rows = columns[0].len();
        let starts: Vec<u32> = (0..rows as u32).collect();
        pipeline.push(&InputBatch {
            columns,
            rows,
            bytes: &[],
            row_starts: &starts,
            row_ends: &starts,
            value_errors: &[],
            row_errors: &[],
            place: &place,
        });
    }
    let segment = pipeline.close();
    pipeline.keep(segment, 0).expect("no row is bad");
    pipeline.barrier().partial.expect("there are groups")
}

/// Rows that stay on the CPU: the kernels called directly, a core without a device, a core that has one
/// at hand and does not choose it.
fn door(criterion: &mut Criterion<Clock>) {
    let mut group = criterion.benchmark_group("door");
    group.throughput(Throughput::Elements(ROWS));
    let (plan, query) = (job(), sample::query(COLUMNS));
    let with_zone = |mut columns: Vec<ArrayRef>| {
        let times = columns[0].as_primitive::<TimestampMicrosecondType>().clone();
        columns[0] = Arc::new(times.with_timezone("UTC"));
        columns
    };
    let direct = sample::batches(ROWS, GROUPS, COLUMNS);
    let batches: Vec<_> = direct.iter().cloned().map(with_zone).collect();
    assert!(matches!(batches[0][0].data_type(), DataType::Timestamp(_, Some(_))));
    let part = device_plan(&plan).expect("a device takes all of it");
    let auto = Auto::new(Found::None, Load::of(&part, 1));
    let gpu = Arc::new(Gpu::auto(part, Choice::default(), Pipelines::default(), auto));
    let mut without = Pipeline::new(Arc::clone(&plan), OnError::DeadLetter);
    let mut with = Pipeline::new(plan, OnError::DeadLetter).on_device(&gpu);
    let expected = epoch(&mut without, &batches);
    assert_eq!(epoch(&mut with, &batches), expected);
    let mut side = Groups::new(&query);
    direct.iter().for_each(|batch| side.take(&query, batch));
    assert_eq!(side.table.groups().len(), expected.num_rows());
    group.bench_function("kernels called directly", |bencher| {
        bencher.iter(|| {
            side.table.clear();
            direct.iter().for_each(|batch| side.take(&query, batch));
            side.table.partial(&side.space, None)
        });
    });
    group.bench_function("core without a device", |bencher| {
        bencher.iter(|| epoch(&mut without, &batches));
    });
    group.bench_function("core with a door", |bencher| bencher.iter(|| epoch(&mut with, &batches)));
    group.finish();
}

/// What criterion counts: the processor's time of all threads here, as Linux tells it, or the wall's.
#[derive(Clone, Copy)]
enum Clock {
    Processor,
    Wall,
}

impl Clock {
    fn now(self) -> Duration {
        let Clock::Processor = self else { return Duration::ZERO };
        let of = |task: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        let tasks = fs::read_dir("/proc/self/task").expect("Linux tells of a program's threads");
        Duration::from_nanos(tasks.flatten().filter_map(of).sum())
    }
}

impl Measurement for Clock {
    type Intermediate = (Instant, Duration);
    type Value = Duration;

    fn start(&self) -> Self::Intermediate {
        (Instant::now(), self.now())
    }

    fn end(&self, (began, on_processor): Self::Intermediate) -> Duration {
        match self {
            Clock::Processor => self.now().saturating_sub(on_processor),
            Clock::Wall => began.elapsed(),
        }
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group!(wall, gpu);
criterion_group! {
    name = processor;
    config = Criterion::default().with_measurement(Clock::Processor);
    targets = few, door
}
criterion_main!(wall, processor);
