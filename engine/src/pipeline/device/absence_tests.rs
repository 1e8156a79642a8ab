//! A device that fails: what waited for it, how long it is left alone, and what is told of it meanwhile.

use arrow::datatypes::DataType;
use pelton_kernels::expr::{Expr, ExprKind};
use pelton_kernels::gpu::{Choice, Fault};

use super::super::tests::{Row, plan, push, table_of};
use super::super::{EventClock, Pipeline};
use super::gpu::Pipelines;
use super::tests::{TIERS, dear_groups, epoch_of, open};
use super::*;
use crate::job::spec::{OnError, OutputMode};
use crate::plan::choice::Load;
use crate::plan::device::device_plan;

/// An epoch of three batches; the rows of each epoch are others.
fn three_batches(pipeline: &mut Pipeline, epoch: i32) -> CoreEpoch {
    let row = |i: i32| Row {
        time: Some(i64::from(i % 7) * 4_000),
        device: (i % 3) as u8,
        status: Some(1),
        value: 1_000 * epoch + i,
        bad: 9,
    };
    let rows: Vec<Row> = (0..60).map(row).collect();
    for (order, batch) in rows.chunks(20).enumerate() {
        pipeline.open(order as u64, EventClock::known(None));
        push(pipeline, batch, 0);
        let segment = pipeline.close();
        pipeline.keep(segment, 0).expect("no row is bad");
    }
    pipeline.barrier()
}

/// F38 to F43: the batch that waited when the device failed is folded with its epoch, on the CPU, and not once
/// more when the device is back. A device that worked in between is left alone no longer than the first time.
#[test]
fn f38_to_f43_batches_that_waited_for_a_device_that_failed_are_folded_once() {
    let plan = plan(7_500, OutputMode::Append);
    for tier in TIERS {
        for fault in [Fault::Lost, Fault::Hung, Fault::Zero] {
            let gpu = open(tier, 0);
            let new = || Pipeline::new(plan.clone(), OnError::DeadLetter);
            let (mut on_cpu, mut on_gpu, mut number) = (new(), new().on_device(&gpu), 0);
            let mut see = || {
                number += 1;
                let expected = three_batches(&mut on_cpu, number).partial;
                let found = three_batches(&mut on_gpu, number);
                let tables = [&found.partial, &expected].map(|p| table_of(&plan, p.as_slice()));
                assert_eq!(tables[0], tables[1], "{tier:?} {fault:?}: epoch {number}");
                (found.gpu_trouble.map(|trouble| trouble.is_new), found.gpu_rows)
            };
            for _ in 0..2 {
                assert_eq!(see(), (None, 60), "{tier:?} {fault:?}");
                // The second batch's projection, while the first one waits to be folded.
                gpu.program().expect("it is open").device().faults.arm(fault, 1);
                assert_eq!(see(), (Some(true), 0), "{tier:?} {fault:?}");
                for _ in 0..3 {
                    assert_eq!(see(), (Some(false), 0), "{tier:?} {fault:?}");
                }
            }
            assert_eq!(see(), (None, 60), "{tier:?} {fault:?}: it works again");
        }
    }
}

/// F42: each time it fails a device is left alone for twice as many epochs, at most for 256.
#[test]
fn f42_a_device_that_goes_on_failing_is_left_alone_for_longer() {
    let plan = plan(7_500, OutputMode::Append);
    let mut part = device_plan(&plan).expect("a device takes all of it");
    let text = Expr::column(0, DataType::Utf8);
    let kind = ExprKind::Not(Box::new(text));
    part.query.filters.push(Expr { kind, data_type: DataType::Boolean });
    let gpu = Gpu::open(part, Choice::default(), Pipelines::default());
    let gpu = Arc::new(gpu.expect("apt-get install mesa-vulkan-drivers libvulkan1"));
    let mut pipeline = Pipeline::new(plan, OnError::DeadLetter).on_device(&gpu);
    let told = (0..764).map(|_| pipeline.barrier().gpu_trouble.expect("there is no device"));
    let new = told.zip(0..).filter(|(trouble, _)| trouble.is_new).map(|(_, epoch)| epoch);
    // It was refused before the first epoch: after four epochs it is tried again, then after eight more.
    assert_eq!(new.collect::<Vec<i32>>(), [0, 3, 11, 27, 59, 123, 251, 507, 763]);
}

/// A device that is away, and that the rates say to leave alone anyway, is no trouble any more.
#[test]
fn f38_nothing_is_told_of_a_device_that_nobody_wants() {
    let plan = plan(7_500, OutputMode::Append);
    let part = device_plan(&plan).expect("a device takes all of it");
    let load = Load { rows: 300.0, groups: Some(1.0), ..Load::of(&part, 1) };
    let auto = Auto::new(dear_groups(), load);
    let gpu = Arc::new(Gpu::auto(part, Choice::default(), Pipelines::default(), auto));
    let mut pipeline = Pipeline::new(plan, OnError::DeadLetter).on_device(&gpu);
    let mut see = |apart| {
        let epoch = epoch_of(&mut pipeline, 300, apart);
        let is_new = epoch.gpu_trouble.map(|trouble| trouble.is_new);
        (epoch.gpu_rows, is_new, epoch.gpu_rechosen.map(|told| told[..3].to_owned()))
    };
    let told = |what: &str| Some(what.to_owned());
    assert_eq!(see(false), (300, None, None));
    gpu.program().expect("it is open").device().faults.arm(Fault::Zero, 0);
    assert_eq!(see(false), (0, Some(true), None));
    assert_eq!(see(true), (0, Some(false), told("CPU")), "away, and not missed from now on");
    assert_eq!(see(true), (0, None, None));
    assert_eq!(see(false), (0, None, told("GPU")), "wanted again, and there");
    assert_eq!(see(false), (300, None, None));
}
