//! F37 to F46: whatever happens to a device is an error, and never a wrong row.

use super::aggregate::{readings, sensors};
use super::*;
use crate::gpu::{Fault, GpuError, Kind, adapters};

/// Takes readings with a fault armed; whatever comes back without an error must be right.
fn run(device: &Arc<Device>, fault: Option<(Fault, u32)>) -> Result<()> {
    let query = sensors();
    let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
    let columns = readings(&mut cpu_side, &mut gpu_side, 3_000, 40);
    if let Some((fault, before)) = fault {
        device.faults.arm(fault, before);
    }
    let mut gpu = Gpu::new(device, &query)?;
    gpu.take(&columns, 1_000)?;
    let result = gpu.drain(&mut gpu_side);
    on_cpu(&query, &mut cpu_side, &columns);
    match result {
        Ok(()) => assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query)),
        Err(_) => assert!(gpu_side.table.groups().is_empty(), "all of a table or nothing"),
    }
    result
}

#[test]
fn f37_the_software_device_is_named_as_such_and_missing_ones_are_told() {
    let adapters = adapters();
    let software = adapters.iter().find(|adapter| adapter.kind == Kind::Software);
    let software = software.expect("apt-get install mesa-vulkan-drivers");
    assert_eq!(software.tier, Ok(Tier::Native));
    assert!(software.name.contains("llvmpipe"), "{software:?}");
    let choice = Choice { index: Some(99), ..Choice::default() };
    let error = Device::open(choice).err().expect("there are no 100 adapters");
    assert!(matches!(&error, GpuError::NoAdapter(reason) if reason.contains("99")), "{error}");
}

#[test]
fn f38_a_device_lost_at_any_submission_is_an_error() {
    for before in 0..6 {
        let device = fresh_device(Tier::Native);
        let error = run(&device, Some((Fault::Lost, before))).expect_err("it is lost");
        assert!(matches!(error, GpuError::Lost(_)), "{before}: {error}");
        assert!(error.needs_reopening());
        assert!(run(&device, None).is_err(), "it stays lost");
    }
}

#[test]
fn f39_an_answer_of_zeros_is_not_believed() {
    let mut caught = 0;
    for before in 0..12 {
        let device = fresh_device(Tier::Portable);
        match run(&device, Some((Fault::Zero, before))) {
            Err(GpuError::Untrusted(_)) => caught += 1,
            Err(error) => panic!("{before}: {error}"),
            // There are not so many answers; or zeros are what it was: no row without room.
            Ok(()) => {}
        }
        device.faults.disarm();
        run(&device, None).expect("nothing is left of it");
    }
    assert!(caught >= 5, "{caught}");
}

#[test]
fn f40_a_wait_without_an_answer_ends() {
    for before in [0, 2, 4] {
        let device = fresh_device(Tier::Native);
        let error = run(&device, Some((Fault::Hung, before))).expect_err("it hangs");
        assert!(matches!(error, GpuError::Hung { .. }), "{error}");
        assert!(error.needs_reopening());
    }
}

#[test]
fn f41_f43_no_room_is_told_apart_from_a_loss_and_the_device_goes_on() {
    let device = fresh_device(Tier::Native);
    for before in [0, 3, 7, 9] {
        let error = run(&device, Some((Fault::OutOfMemory, before))).expect_err("no room");
        assert!(matches!(error, GpuError::OutOfMemory { .. }), "{before}: {error}");
        assert!(!error.needs_reopening());
        device.faults.disarm();
        run(&device, None).expect("the device is as before");
    }
}

#[test]
fn f41_a_small_budget_is_kept() {
    let choice = Choice { budget_bytes: Some(600_000), ..Choice::default() };
    let device = Arc::new(Device::open(choice).expect("lavapipe"));
    let query = sensors();
    let (mut one, mut other) = (Side::new(&query), Side::new(&query));
    let columns = readings(&mut one, &mut other, 40_000, 20_000);
    let mut gpu = Gpu::new(&device, &query).expect("it compiles");
    let error = gpu.take(&columns, 1_000).and_then(|()| gpu.drain(&mut one));
    let error = error.expect_err("20,000 groups do not fit");
    assert!(matches!(error, GpuError::OutOfMemory { .. }), "{error}");
    assert!(device.bytes_held() <= 600_000, "{}", device.bytes_held());
    drop(gpu);
    assert_eq!(device.bytes_held(), 0, "all of it is given back");
}

#[test]
fn f42_a_pipeline_that_is_refused_is_an_error_with_its_name() {
    let device = fresh_device(Tier::Native);
    let error = run(&device, Some((Fault::Pipeline, 2))).expect_err("it is refused");
    assert!(matches!(&error, GpuError::Refused(what) if what.contains("update")), "{error}");
    run(&device, None).expect("the device is as before");
}

#[test]
fn f45_keys_of_equal_hashes_are_found_or_told() {
    // All keys in so few slots that probing fails: the table must grow, and rehash.
    let query = sensors();
    for tier in TIERS {
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut cpu_side, &mut gpu_side, 30_000, 25_000);
        on_cpu(&query, &mut cpu_side, &columns);
        gpu.take(&columns, 30_000).expect("it grows several times within one batch");
        gpu.drain(&mut gpu_side).expect("it comes back");
        assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query), "{tier:?}");
    }
}

#[test]
fn f46_a_bit_that_flips_on_the_way_back_shows_in_the_answer() {
    let query = sensors();
    let device = fresh_device(Tier::Native);
    let mut gpu = Gpu::new(&device, &query).expect("it compiles");
    let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
    let columns = readings(&mut cpu_side, &mut gpu_side, 3_000, 40);
    on_cpu(&query, &mut cpu_side, &columns);
    device.faults.arm(Fault::BitFlip, 0);
    gpu.take(&columns, 1_000).expect("it fits");
    gpu.drain(&mut gpu_side).expect("a count that is off by one is no impossible one");
    assert_ne!(
        gpu_side.partial(&query),
        cpu_side.partial(&query),
        "the device's table is what counts"
    );
}
