//! A pipeline on a device against the row-by-row reader that the CPU's is compared with, in both
//! tiers, and with every fault a device can have at any moment.

use std::sync::OnceLock;

use pelton_kernels::expr::{Expr, ExprKind};
use pelton_kernels::gpu::rates::{Cost, Rates};
use pelton_kernels::gpu::{Choice, Fault, Tier};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::super::tests::{oracle, plan, push, row, table_of};
use super::super::{EventClock, Pipeline};
use super::gpu::Pipelines;
use super::*;
use crate::batch::Counters;
use crate::job::spec::{OnError, OutputMode};
use crate::plan::WindowKey;
use crate::plan::choice::{Found, Load};
use crate::plan::device::device_plan;

pub(super) const TIERS: [Tier; 2] = [Tier::Native, Tier::Portable];

pub(super) fn open(tier: Tier, shadow_one_in: u64) -> Arc<Gpu> {
    let part = device_plan(&plan(7_500, OutputMode::Append)).expect("a device takes all of it");
    let choice = Choice { tier: Some(tier), ..Choice::default() };
    let gpu = Gpu::open(part, choice, Pipelines::default())
        .expect("apt-get install mesa-vulkan-drivers libvulkan1");
    Arc::new(Gpu { shadow_one_in, ..gpu })
}

/// A device of each tier, opened once.
fn gpu(tier: Tier) -> &'static Arc<Gpu> {
    static GPUS: [OnceLock<Arc<Gpu>>; 2] = [OnceLock::new(), OnceLock::new()];
    GPUS[tier as usize].get_or_init(|| open(tier, 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// As `guessed_segments_end_as_one_sequential_reader`, two epochs a core.
    #[test]
    fn a_device_gives_the_fates_and_groups_of_a_row_by_row_reader(
        rows in proptest::collection::vec(row(), 1..120),
        cuts in proptest::collection::vec(1usize..40, 1..8),
        native: bool,
        knows: bool,
    ) {
        let plan = plan(7_500, OutputMode::Append);
        let gpu = gpu(TIERS[usize::from(native)]);
        let mut cores = [0, 1]
            .map(|_| Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(gpu));
        let (mut rest, mut clock, mut turn) = (&rows[..], None, 0usize);
        let (mut counters, mut partials, mut gpu_rows) = (Counters::default(), vec![], 0);
        while !rest.is_empty() {
            let (stretch, behind) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            let core = &mut cores[turn % 2];
            core.open(turn as u64, if knows { EventClock::known(clock) } else { EventClock::Guessed });
            push(core, stretch, 0);
            let mut segment = core.close();
            if !knows && clock.is_some_and(|clock| clock >= segment.summary.guess_holds_below) {
                core.discard(segment);
                core.open(turn as u64, EventClock::known(clock));
                push(core, stretch, 0);
                segment = core.close();
            }
            clock = clock.max(segment.summary.clock.now);
            core.keep(segment, 0).expect("dead letters do not stop a job");
            (rest, turn) = (behind, turn + 1);
            if turn % 3 == 0 || rest.is_empty() {
                for core in &mut cores {
                    let epoch = core.barrier();
                    counters.add(&epoch.counters);
                    partials.extend(epoch.partial);
                    gpu_rows += epoch.gpu_rows;
                    prop_assert_eq!(epoch.gpu_trouble, None);
                }
            }
        }
        let (expected, expected_counters, expected_clock) = oracle(&rows, 7_500, true);
        prop_assert_eq!((counters, clock), (expected_counters, expected_clock));
        let framed = rows.iter().filter(|row| row.bad != 4).count() as u64;
        prop_assert_eq!(gpu_rows, framed);
        prop_assert_eq!(table_of(&plan, &partials), expected);
    }
}

/// F38 to F43: the epoch in which a device fails is the CPU's, bit for bit, and it is told.
#[test]
fn f38_to_f43_an_epoch_whose_device_fails_is_done_on_the_cpu() {
    let rows: Vec<_> = {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let rows = proptest::collection::vec(row(), 300);
        rows.new_tree(&mut runner).expect("rows").current()
    };
    let (expected, expected_counters, _) = oracle(&rows, 7_500, true);
    let plan = plan(7_500, OutputMode::Append);
    for tier in TIERS {
        for fault in [Fault::Lost, Fault::Hung, Fault::OutOfMemory, Fault::Zero] {
            let gpu = open(tier, 0);
            let mut told = 0;
            let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
            for before in [0, 3, 11] {
                // The wait after a failure is in epochs: let it pass.
                for _ in 0..40 {
                    pipeline.barrier();
                }
                let program = gpu.program().expect("it opens again");
                program.device().faults.arm(fault, before);
                let mut counters = Counters::default();
                let (mut partials, mut clock) = (vec![], None);
                for (order, stretch) in rows.chunks(60).enumerate() {
                    pipeline.open(order as u64, EventClock::known(clock));
                    push(&mut pipeline, stretch, 0);
                    let segment = pipeline.close();
                    clock = clock.max(segment.summary.clock.now);
                    pipeline.keep(segment, 0).expect("dead letters do not stop a job");
                    if order == 2 {
                        let epoch = pipeline.barrier();
                        counters.add(&epoch.counters);
                        partials.extend(epoch.partial);
                        told += usize::from(epoch.gpu_trouble.is_some());
                    }
                }
                let epoch = pipeline.barrier();
                counters.add(&epoch.counters);
                partials.extend(epoch.partial);
                told += usize::from(epoch.gpu_trouble.is_some());
                let context = format!("{tier:?} {fault:?} {before}");
                assert_eq!(counters, expected_counters, "{context}");
                assert_eq!(table_of(&plan, &partials), expected, "{context}");
            }
            assert!(told >= 1, "{tier:?} {fault:?} was told {told} times");
        }
    }
}

/// F42: the driver takes none of the job's kernels: from the first epoch on the CPU does it, and tells
/// why; each epoch in which the device is tried again tells it again.
#[test]
fn f42_kernels_that_the_driver_refuses_are_the_cpus() {
    let plan = plan(7_500, OutputMode::Append);
    let mut part = device_plan(&plan).expect("a device takes all of it");
    let text = Expr::column(0, arrow::datatypes::DataType::Utf8);
    part.query.filters.push(Expr {
        kind: ExprKind::Not(Box::new(text)),
        data_type: arrow::datatypes::DataType::Boolean,
    });
    let gpu = Arc::new(
        Gpu::open(part, Choice::default(), Pipelines::default()).expect("there is a device"),
    );
    let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
    let mut told = Vec::new();
    for _ in 0..13 {
        let epoch = epoch_of(&mut pipeline, 50, true);
        let mut on_cpu = Pipeline::new(plan.clone(), OnError::DeadLetter);
        let expected = epoch_of(&mut on_cpu, 50, true).partial;
        let tables = [epoch.partial, expected].map(|p| table_of(&plan, p.as_slice()));
        assert_eq!(tables[0], tables[1]);
        assert_eq!(epoch.gpu_rows, 0);
        told.push(epoch.gpu_trouble);
    }
    let told: Vec<Trouble> = told.into_iter().map(|told| told.expect("the CPU did it")).collect();
    assert!(told.iter().all(|trouble| trouble.why.contains("refused")), "{told:?}");
    // It was refused before the first epoch; then it is tried after eight more.
    let new = told.iter().zip(0..).filter(|(trouble, _)| trouble.is_new);
    let new: Vec<i32> = new.map(|(_, epoch)| epoch).collect();
    assert_eq!(new, [0, 3, 11], "{told:?}");
}

/// F46: a bit that flips on the way back is caught where the epoch is done on the CPU as well, and only
/// there: what leaves is the device's answer, not the shadow's.
#[test]
fn f46_a_flipped_bit_is_caught_by_the_shadow_and_shows_without_it() {
    let rows: Vec<_> = (0..40)
        .map(|i| super::super::tests::Row {
            time: Some(i * 100),
            device: 0,
            status: Some(1),
            value: i as i32 - 20,
            bad: 9,
        })
        .collect();
    let plan = plan(7_500, OutputMode::Append);
    let (expected, ..) = oracle(&rows, 7_500, true);
    let run = |fault, shadow_one_in| {
        let gpu = open(Tier::Native, shadow_one_in);
        gpu.program().expect("it is open").device().faults.arm(fault, 0);
        let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
        pipeline.open(0, EventClock::known(None));
        push(&mut pipeline, &rows, 0);
        let segment = pipeline.close();
        pipeline.keep(segment, 0).expect("no row is bad");
        let epoch = pipeline.barrier();
        (table_of(&plan, epoch.partial.as_slice()), epoch.gpu_trouble)
    };
    let faults = [(Fault::BitFlip, "other groups"), (Fault::Fate, "something else of row 0")];
    for (fault, told) in faults {
        let (table, trouble) = run(fault, 1);
        assert_eq!(table, expected, "{fault:?}");
        assert!(trouble.as_ref().is_some_and(|trouble| trouble.why.contains(told)), "{trouble:?}");
        let (table, trouble) = run(fault, 0);
        assert_eq!(trouble, None);
        assert_ne!(table, expected, "{fault:?}: the flipped bit is in the answer");
    }
}

/// Rates with which groups come back so dearly that many of them are the CPU's.
pub(super) fn dear_groups() -> Found {
    let cost = |row_ns| Cost { row_ns, column_ns: 0.0 };
    Found::Measured(Rates {
        upload: [1e10; 3],
        read_back: 1e10,
        dispatch_ns: 1.0,
        project: cost(1.0),
        fold: [cost(1.0); 3],
        drain_ns: 1_000.0,
        cpu: [cost(100.0); 3],
        filter: cost(1.0),
        filter_cpu: cost(100.0),
    })
}

/// One epoch of so many rows, each a window of its own or all in one.
pub(super) fn epoch_of(pipeline: &mut Pipeline, rows: u64, apart: bool) -> CoreEpoch {
    let row = |i: u64| super::super::tests::Row {
        time: Some(if apart { i as i64 * 10_000 } else { 0 }),
        device: 0,
        status: Some(1),
        value: i as i32,
        bad: 9,
    };
    pipeline.open(0, EventClock::known(None));
    push(pipeline, &(0..rows).map(row).collect::<Vec<_>>(), 0);
    let segment = pipeline.close();
    pipeline.keep(segment, 0).expect("no row is bad");
    pipeline.barrier()
}

#[test]
fn auto_goes_where_the_rates_say_and_thinks_again_when_an_epoch_is_another_one() {
    let plan = plan(7_500, OutputMode::Append);
    let part = device_plan(&plan).expect("a device takes all of it");
    let load = Load { rows: 300.0, groups: Some(1.0), ..Load::of(&part, 1) };
    let auto = Auto::new(dear_groups(), load);
    assert!(auto.choice().on_gpu);
    let gpu = Arc::new(Gpu::auto(part, Choice::default(), Pipelines::default(), auto));
    let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
    let on_cpu = |rows, apart| {
        let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter);
        epoch_of(&mut pipeline, rows, apart).partial
    };
    let mut see = |apart, gpu_rows, told: Option<&str>| {
        let epoch = epoch_of(&mut pipeline, 300, apart);
        assert_eq!((epoch.gpu_rows, epoch.gpu_trouble), (gpu_rows, None));
        assert_eq!(epoch.gpu_rechosen.as_deref(), told);
        let tables = [epoch.partial, on_cpu(300, apart)].map(|p| table_of(&plan, p.as_slice()));
        assert_eq!(tables[0], tables[1]);
    };
    see(false, 300, None);
    see(true, 300, Some("CPU: GPU loses here by its measured rates"));
    see(true, 0, None);
    see(false, 0, Some("GPU: it is faster by its measured rates"));
    see(false, 300, None);
}

/// Windows of 10 ms, one each 4 ms: a row falls into two or three.
fn sliding() -> Arc<Plan> {
    use super::super::tests::{SIZE_US, TIME, column, timestamp};
    let mut plan = Arc::into_inner(plan(7_500, OutputMode::Append)).expect("nobody else has it");
    let Shape::Groups(groups) = &mut plan.shape else { panic!("it groups") };
    let slide_us = 4_000;
    let time = column(TIME, timestamp());
    let start =
        ExprKind::WindowStart { time: Box::new(time.clone()), size_us: slide_us, offset_us: 0 };
    let start = Expr { kind: start, data_type: timestamp() };
    groups.keys[0].expr = Compiled::Kernel(start);
    groups.arguments.push(Compiled::Kernel(time));
    let window =
        WindowKey { key: 0, size_us: SIZE_US, slide_us, offset_us: 0, time: Some(1), closes: true };
    groups.window = Some(window);
    Arc::new(plan)
}

/// Overlapping windows, also where the device is lost and the epoch is done again.
#[test]
fn f38_a_row_falls_into_the_same_overlapping_windows_on_a_device() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rows = proptest::collection::vec(row(), 400);
    let rows = rows.new_tree(&mut runner).expect("rows").current();
    let plan = sliding();
    let take = |mut pipeline: Pipeline| {
        let mut clock = None;
        for (order, stretch) in rows.chunks(90).enumerate() {
            pipeline.open(order as u64, EventClock::known(clock));
            push(&mut pipeline, stretch, 0);
            let segment = pipeline.close();
            clock = clock.max(segment.summary.clock.now);
            pipeline.keep(segment, 0).expect("dead letters do not stop a job");
        }
        pipeline.barrier()
    };
    let expected = take(Pipeline::new(plan.clone(), OnError::DeadLetter));
    assert!(expected.counters.late_windows > 0 && expected.counters.late > 0, "{rows:?}");
    for tier in TIERS {
        for lost in [None, Some(2), Some(7)] {
            let part = device_plan(&plan).expect("a device takes all of it");
            let choice = Choice { tier: Some(tier), ..Choice::default() };
            let gpu = Arc::new(Gpu {
                shadow_one_in: 1,
                ..Gpu::open(part, choice, Pipelines::default()).expect("lavapipe")
            });
            let pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
            if let Some(before) = lost {
                let program = gpu.program().expect("it is open");
                program.device().faults.arm(Fault::Lost, before);
            }
            let found = take(pipeline);
            let context = format!("{tier:?}, lost {lost:?}: {:?}", found.gpu_trouble);
            assert_eq!(found.gpu_trouble.is_some(), lost.is_some(), "{context}");
            assert_eq!(found.gpu_rows > 0, lost.is_none(), "{context}");
            assert_eq!(found.counters, expected.counters, "{context}");
            let tables = [&found, &expected].map(|epoch| table_of(&plan, epoch.partial.as_slice()));
            assert_eq!(tables[0], tables[1], "{context}");
        }
    }
}

/// F41: more groups than a small budget has room for are the CPU's, with the same bits, and the budget
/// is not overstepped on the way.
#[test]
fn f41_an_epoch_that_does_not_fit_the_budget_is_done_on_the_cpu() {
    const BUDGET: u64 = 1 << 20;
    let plan = plan(7_500, OutputMode::Append);
    for tier in TIERS {
        let part = device_plan(&plan).expect("a device takes all of it");
        let choice = Choice { tier: Some(tier), budget_bytes: Some(BUDGET), ..Choice::default() };
        let gpu = Arc::new(Gpu::open(part, choice, Pipelines::default()).expect("lavapipe"));
        let program = gpu.program().expect("it is open");
        let mut pipeline = Pipeline::new(plan.clone(), OnError::DeadLetter).on_device(&gpu);
        let mut see = |rows, fits: bool| {
            let epoch = epoch_of(&mut pipeline, rows, true);
            let mut on_cpu = Pipeline::new(plan.clone(), OnError::DeadLetter);
            let expected = epoch_of(&mut on_cpu, rows, true).partial;
            let tables = [epoch.partial, expected].map(|p| table_of(&plan, p.as_slice()));
            assert_eq!(tables[0], tables[1], "{tier:?} {rows}");
            assert_eq!(epoch.gpu_rows, if fits { rows } else { 0 }, "{:?}", epoch.gpu_trouble);
            let trouble = epoch.gpu_trouble.map(|trouble| trouble.why).unwrap_or_default();
            assert_eq!(trouble.contains("no room"), !fits, "{tier:?} {rows}: {trouble}");
            assert!(program.device().bytes_held() <= BUDGET);
        };
        see(500, true);
        see(20_000, false);
    }
}

/// Batches of a core share submissions, which end while it goes on: an epoch waits for its fates and its end.
#[test]
fn batches_share_submissions_and_are_waited_for_at_the_barrier() {
    let plan = plan(7_500, OutputMode::Append);
    let gpu = open(Tier::Native, 0);
    let mut pipeline = Pipeline::new(plan, OnError::DeadLetter).on_device(&gpu);
    let program = gpu.program().expect("it is open");
    let mut asked = |batches: u64| {
        let before = program.device().counts();
        for order in 0..batches {
            pipeline.open(order, EventClock::known(None));
            let row = |i: i64| super::super::tests::Row {
                time: Some(i * 100),
                device: 0,
                status: Some(1),
                value: 1,
                bad: 9,
            };
            push(&mut pipeline, &(0..50).map(row).collect::<Vec<_>>(), 0);
            let segment = pipeline.close();
            pipeline.keep(segment, 0).expect("no row is bad");
        }
        let pushed = program.device().counts();
        assert_eq!(pipeline.barrier().gpu_rows, 50 * batches);
        let ended = program.device().counts();
        let [pushed, ended] = [(before, pushed), (pushed, ended)].map(|(before, after)| {
            (after.submissions - before.submissions, after.waits - before.waits)
        });
        (pushed, ended)
    };
    asked(WAITING_MAX as u64 * 3);
    // Of three submissions two are still under way; the end is for them, the table's size and the table.
    assert_eq!(asked(WAITING_MAX as u64 * 3), ((24 + 3, 24 + 1), (3, 2 + 2)));
    // What waits for a submission of its own goes with the barrier.
    assert_eq!(asked(WAITING_MAX as u64 + 1), ((9 + 1, 9), (1 + 3, 2 + 2)));
}
