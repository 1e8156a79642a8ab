//! A query without groups on a device: the rows, fates and reasons of the CPU's pipeline.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use pelton_kernels::gpu::rates::{Cost, Rates};
use pelton_kernels::gpu::{Choice, Fault, ROWS_MAX, Tier};

use super::super::super::{CoreEpoch, EventClock, Pipeline};
use super::super::gpu::{Gpu, Pipelines};
use crate::batch::{InputBatch, Place};
use crate::job::from_text;
use crate::job::spec::OnError;
use crate::plan::choice::{Auto, Found, Load};
use crate::plan::device::device_plan;
use crate::plan::{Plan, plan};

const TIERS: [Tier; 2] = [Tier::Native, Tier::Portable];

/// Filters below and above the watermark; columns of the input, of the device and of the CPU; rows at which
/// one of the device's stops, and one of the CPU's before it.
fn readings() -> Arc<Plan> {
    let text = "name = \"rows\"\n[source.readings]\ntype = \"file\"\npath = \"readings.csv\"\n\
                schema = \"ts TIMESTAMP, region STRING, status INT, a DOUBLE\"\n\
                watermark = { column = \"ts\", delay = \"10s\" }\n[query]\nmode = \"append\"\n\
                sql = \"SELECT ts, a + 1 AS b, CAST(region AS INT) AS r, 7 % (status - 1) AS s, region \
                FROM readings WHERE status <> 0 AND ts > TIMESTAMP '1970-01-01 00:00:01'\"\n";
    let (job, _) = from_text(text, Path::new("rows.toml"), &[]).expect("a job");
    let query = plan(&job).unwrap_or_else(|findings| panic!("{} findings", findings.len()));
    Arc::clone(&query.scans[0].plan)
}

fn columns(plan: &Plan, rows: usize) -> Vec<ArrayRef> {
    let random = |row: usize, salt: u64| {
        ((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 33
    };
    let some =
        |row: usize, salt: u64, of: u64| (random(row, salt) % 7 > 0).then_some(random(row, of));
    let column = |name: &String| -> ArrayRef {
        match name.as_str() {
            "ts" => {
                let times = (0..rows).map(|row| some(row, 1, 2).map(|n| (n % 40_000_000) as i64));
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            "region" => {
                let of = |n: u64| {
                    if n.is_multiple_of(9) { "north".to_owned() } else { (n % 99).to_string() }
                };
                Arc::new((0..rows).map(|row| some(row, 3, 4).map(of)).collect::<StringArray>())
            }
            "status" => {
                let statuses = (0..rows).map(|row| some(row, 5, 6).map(|n| (n % 4) as i32));
                Arc::new(statuses.collect::<Int32Array>())
            }
            _ => {
                let values = (0..rows).map(|row| some(row, 7, 8).map(|n| (n % 1_000) as f64 / 8.0));
                Arc::new(values.collect::<Float64Array>())
            }
        }
    };
    plan.input_names.iter().map(column).collect()
}

/// An epoch of batches of so many rows.
fn epoch(pipeline: &mut Pipeline, batches: &[usize]) -> CoreEpoch {
    let plan = Arc::clone(pipeline.plan());
    let place = Place::default();
    pipeline.open(0, EventClock::known(None));
    for &rows in batches {
        let (columns, starts) = (columns(&plan, rows), vec![0; rows]);
        pipeline.push(&InputBatch {
            columns: &columns,
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
    pipeline.keep(segment, 0).expect("no row stops the job");
    pipeline.barrier()
}

fn gpu(plan: &Plan, tier: Tier, shadow_one_in: u64) -> Arc<Gpu> {
    let part = device_plan(plan).expect("a device filters it");
    assert!(part.gives_rows() && part.filters.len() == 2 && part.columns == [1, 3]);
    let choice = Choice { tier: Some(tier), ..Choice::default() };
    let gpu = Gpu::open(part, choice, Pipelines::default());
    Arc::new(Gpu { shadow_one_in, ..gpu.expect("apt-get install mesa-vulkan-drivers libvulkan1") })
}

/// Rows, fates, and the reasons of the rejected ones.
fn told(epoch: &CoreEpoch) -> (Vec<(u64, RecordBatch)>, String, Vec<String>) {
    let reasons = epoch.dead_letters.iter().map(|letter| letter.reason.clone()).collect();
    (epoch.rows.clone(), format!("{:?}", epoch.counters), reasons)
}

#[test]
fn rows_that_pass_are_the_cpus_under_every_policy() {
    let plan = readings();
    for policy in [OnError::DeadLetter, OnError::Null, OnError::Skip] {
        let mut on_cpu = Pipeline::new(Arc::clone(&plan), policy);
        let batches = [1, 4_000, ROWS_MAX + 700];
        let expected = epoch(&mut on_cpu, &batches);
        assert!(expected.counters.applied > 10_000 && expected.counters.filtered > 10_000);
        assert_eq!(expected.counters.rejected > 5_000, policy != OnError::Null);
        for tier in TIERS {
            for shadow_one_in in [0, 1] {
                let gpu = gpu(&plan, tier, shadow_one_in);
                let mut pipeline = Pipeline::new(Arc::clone(&plan), policy).on_device(&gpu);
                for _ in 0..2 {
                    let found = epoch(&mut pipeline, &batches);
                    assert_eq!(found.gpu_trouble, None);
                    assert_eq!(found.gpu_rows, batches.iter().sum::<usize>() as u64);
                    assert!(told(&found) == told(&expected), "{tier:?} {policy:?}");
                }
            }
        }
    }
}

/// A batch at which the device fails is the CPU's, and so are those after it; each epoch until the device is
/// tried again says that it is away, and only the first one that it failed.
#[test]
fn f38_to_f46_rows_of_a_device_that_fails_are_the_cpus() {
    let plan = readings();
    let batches = [700, 3_000, 200];
    let expected = epoch(&mut Pipeline::new(Arc::clone(&plan), OnError::DeadLetter), &batches);
    let faults = [Fault::Lost, Fault::Hung, Fault::Zero, Fault::Row, Fault::BitFlip, Fault::Fate];
    for fault in faults {
        for before in [0, 1] {
            let gpu = gpu(&plan, TIERS[before], 1);
            let mut pipeline =
                Pipeline::new(Arc::clone(&plan), OnError::DeadLetter).on_device(&gpu);
            let mut see = || {
                let found = epoch(&mut pipeline, &batches);
                assert!(told(&found) == told(&expected), "{fault:?} {before}");
                (found.gpu_trouble.map(|trouble| trouble.is_new), found.gpu_rows)
            };
            // The second time it is waited for as long as the first: it worked in between.
            for _ in 0..2 {
                let program = gpu.program().expect("it is open");
                program.device().faults.arm(fault, before as u32);
                let (trouble, rows) = see();
                assert!(
                    trouble == Some(true) && rows < 3_900,
                    "{fault:?} {before}: {trouble:?} {rows}"
                );
                for _ in 0..3 {
                    assert_eq!(see(), (Some(false), 0), "{fault:?} {before}");
                }
                assert_eq!(see(), (None, 3_900), "{fault:?} {before}: it works again");
            }
        }
    }
}

/// `auto` takes a device whose rates say so, and leaves one alone whose rates do not: without opening it.
#[test]
fn auto_filters_where_the_rates_say() {
    let plan = readings();
    let batches = [700, 3_000];
    let expected = epoch(&mut Pipeline::new(Arc::clone(&plan), OnError::DeadLetter), &batches);
    for (row_ns, on_gpu) in [(1.0, true), (90.0, false)] {
        let cost = |row_ns| Cost { row_ns, column_ns: 0.0 };
        let rates = Rates {
            upload: [1e12; 3],
            filter: cost(row_ns),
            filter_cpu: cost(100.0),
            ..Rates::default()
        };
        let part = device_plan(&plan).expect("a device filters it");
        let load = Load::of(&part, 1);
        assert_eq!((load.groups, load.columns), (None, 2.0));
        let auto = Auto::new(Found::Measured(rates), load);
        assert_eq!(auto.choice().on_gpu, on_gpu);
        let gpu = Arc::new(Gpu::auto(part, Choice::default(), Pipelines::default(), auto));
        let mut pipeline = Pipeline::new(Arc::clone(&plan), OnError::DeadLetter).on_device(&gpu);
        for _ in 0..6 {
            let found = epoch(&mut pipeline, &batches);
            assert!(told(&found) == told(&expected));
            assert_eq!(found.gpu_rows, if on_gpu { 3_700 } else { 0 });
            assert_eq!((found.gpu_trouble, found.gpu_rechosen), (None, None));
        }
        assert_eq!(gpu.program.lock().expect("nobody panicked").is_some(), on_gpu);
    }
}
