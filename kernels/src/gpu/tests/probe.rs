//! What is found out about a device before it gets work: on software Vulkan, where each answer is known.

use std::time::{Duration, Instant};

use super::*;
use crate::gpu::rates::{Cost, GROUPS, at_groups, measure};
use crate::gpu::{Fault, adapters, operations, probe};

/// F44, on every device before it gets work.
#[test]
fn f44_a_device_that_computes_as_the_cpu_does_passes_in_both_tiers() {
    for tier in TIERS {
        assert_eq!(probe(&device(tier)), Ok(vec![]), "{tier:?}");
    }
}

/// F44: what a wrong compiler would do is done to what comes back.
#[test]
fn f44_a_device_that_computes_otherwise_is_told_by_the_operation() {
    let device = fresh_device(Tier::Native);
    // The third answer is the records of the first operations, after their fates.
    device.faults.arm(Fault::Zero, 1);
    let differing = probe(&device).expect("zeros are an answer");
    assert!(differing.iter().any(|name| name == "Add of Int32"), "{differing:?}");
    assert!(!differing.iter().any(|name| name.ends_with("Decimal128(18, 4)")), "{differing:?}");
}

/// What GPU.md found on Mesa: its own floats are right, where they are on the list.
#[test]
fn f44_the_floats_of_a_device_are_compared_one_by_one() {
    let software = adapters().into_iter().find(|adapter| adapter.name.contains("llvmpipe"));
    let found = operations(software.expect("tests/run installs it").index).expect("it runs");
    assert_eq!(found.len(), 22, "f32 and f64: {found:?}");
    for operation in &found {
        assert_eq!(operation.cases, 24 * 24);
        let may_differ = ["f32 sqrt", "f32 /", "f32 * then +", "f64 * then +"];
        let may_differ = may_differ.contains(&operation.name.as_str())
            || operation.name.ends_with("round")
            || operation.name.ends_with("abs");
        assert!(operation.differing == 0 || may_differ, "{operation:?}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what measures takes a clock from its caller")]
fn rates_of_a_device_and_of_a_core_are_measured() {
    let began = Instant::now();
    let rates = measure(&device(Tier::Native), [2_000, 4_000, 20_000], &|| began.elapsed())
        .expect("it measures");
    for rate in [rates.upload[0], rates.upload[1], rates.upload[2], rates.read_back] {
        assert!(rate > 1e6 && rate.is_finite(), "{rates:?}");
    }
    assert!(rates.dispatch_ns > 100.0 && rates.drain_ns > 1.0, "{rates:?}");
    for (cost, of) in rates.fold.iter().chain(&rates.cpu).zip(GROUPS.iter().cycle()) {
        assert!(cost.of(1.0) > 0.5, "{of} groups: {rates:?}");
    }
}

#[test]
fn a_clock_that_stands_still_divides_nothing_by_zero() {
    let rates =
        measure(&device(Tier::Native), [100, 100, 100], &|| Duration::ZERO).expect("it measures");
    assert!(rates.upload.iter().all(|rate| rate.is_finite()), "{rates:?}");
}

#[test]
fn costs_between_the_measured_groups_lie_on_a_line() {
    let cost = |row_ns| Cost { row_ns, column_ns: 1.0 };
    let costs = [cost(10.0), cost(40.0), cost(100.0)];
    for (groups, expected) in
        [(0.0, 12.0), (1.0, 12.0), (10.0, 22.0), (1e3, 42.0), (1e6, 102.0), (1e9, 102.0)]
    {
        let found = at_groups(&costs, groups, 2.0);
        assert!((found - expected).abs() < 1e-9, "{groups} groups: {found}");
    }
}
