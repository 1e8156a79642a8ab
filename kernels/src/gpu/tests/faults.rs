//! F37 to F46: whatever happens to a device is an error, and never a wrong row.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::Field;

use super::aggregate::{readings, sensors};
use super::*;
use crate::expr::Expr;
use crate::gpu::device::Buffer;
use crate::gpu::program::dispatch;
use crate::gpu::project::{ANSWER, STORAGE};
use crate::gpu::room::SEED;
use crate::gpu::{Fault, GpuError, Input, Kind, adapters};

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

/// Two epochs of as many rows in as many groups, of which only the values differ: what comes back of the
/// second is what came back of the first, or of the batch before.
#[test]
fn f39_an_answer_to_another_question_is_not_believed() {
    let query = sensors();
    let (mut one, mut side) = (Side::new(&query), Side::new(&query));
    let mut columns = readings(&mut one, &mut side, 3_000, 40);
    // As many groups, and no value outside of the sums' windows: what comes back is as long.
    let plain = |sign: i32| (0..3_000).map(move |row| f64::from(sign * row));
    let plain = |sign: i32| Arc::new(Float64Array::from_iter_values(plain(sign))) as ArrayRef;
    columns[2] = plain(1);
    let mut others = columns.clone();
    others[2] = plain(-1);
    on_cpu(&query, &mut one, &others);
    let expected = one.partial(&query);
    let mut caught = BTreeSet::new();
    for before in 0..8 {
        let device = fresh_device(TIERS[before % 2]);
        let mut gpu = Gpu::new(&device, &query).expect("it compiles");
        // Only then answers are kept; none of this epoch is spoilt.
        device.faults.arm(Fault::Stale, u32::MAX);
        gpu.take(&columns, 1_000).expect("it fits");
        gpu.drain(&mut side).expect("it comes back");
        side.table.clear();
        device.faults.arm(Fault::Stale, before as u32);
        let result = gpu.take(&others, 1_000).and_then(|()| gpu.drain(&mut side));
        match result {
            Err(GpuError::Untrusted(why)) => {
                caught.insert(why.split(' ').take(4).collect::<Vec<_>>().join(" "));
                assert!(side.table.groups().is_empty(), "all of a table or nothing");
            }
            Err(error) => panic!("{before}: {error}"),
            Ok(()) => assert_eq!(side.partial(&query), expected, "{before}"),
        }
        side.table.clear();
    }
    // Fates, a submission's answer, what a table says of itself, the table.
    let expected =
        ["a table of epoch", "an answer to submission", "fates of batch", "it gives two answers"];
    for expected in expected {
        assert!(caught.iter().any(|why| why.starts_with(expected)), "{expected}: {caught:?}");
    }
}

/// F39: each account of rows is compared with the host's own.
#[test]
fn f39_rows_that_do_not_add_up_are_not_believed() {
    let accounts = [
        (Fault::Row, "rows of"),
        (Fault::Mark, "found no room, but"),
        (Fault::Count, "do not add up to"),
    ];
    for (fault, why) in accounts {
        for tier in TIERS {
            let device = fresh_device(tier);
            let error = run(&device, Some((fault, 0))).expect_err("a row is missing, or too many");
            assert!(matches!(&error, GpuError::Untrusted(told) if told.contains(why)), "{error}");
            device.faults.disarm();
            run(&device, None).expect("the device is as before");
        }
    }
}

/// F39: more values outside of the sums' windows than there is room for: some of them are not there.
#[test]
fn f39_exceptions_that_cannot_be_are_not_believed() {
    let query = sensors();
    let device = fresh_device(Tier::Native);
    let drained = |spoil: &dyn Fn(&mut Table)| {
        let mut gpu = Gpu::new(&device, &query).expect("it compiles");
        let (mut one, mut side) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut one, &mut side, 3_000, 40);
        gpu.take(&columns, 1_000).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("it ends");
        assert!(gpu.table.exceptions_bound > 0, "some readings are far from the others");
        spoil(&mut gpu.table);
        gpu.drain(&mut side).map(|()| side.table.groups().len())
    };
    assert!(drained(&|_| {}).is_ok_and(|groups| groups > 0));
    let narrow = |table: &mut Table| {
        table.room.as_mut().expect("it has groups").exceptions = table.exceptions_bound - 1;
    };
    let lie = |table: &mut Table| {
        let room = table.room.as_ref().expect("it has groups");
        device.faults.lie(0, 1, room.exceptions as u32 + 1);
    };
    let spoils: [&dyn Fn(&mut Table); 2] = [&narrow, &lie];
    for spoil in spoils {
        let error = drained(spoil).expect_err("they have no room");
        let why = "exceptions in too little room";
        assert!(matches!(&error, GpuError::Untrusted(told) if told.contains(why)), "{error}");
        assert_eq!(device.check(), Ok(()), "nothing was read that is not there");
    }
}

/// Sends a shader that takes a second, and what is to hold its answer. Mesa ends any loop after 65,535 turns, so
/// it is workgroups that are many.
fn send_long_work(device: &Device) -> (wgpu::SubmissionIndex, Buffer) {
    let shader = "@group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
          var x = id.x;
          for (var i = 0u; i < 60000u + out[1]; i++) { x = x * 1664525u + (x >> 7u) + i; }
          out[0] = x;
        }";
    let pipeline = device.pipeline(shader, "main").expect("it compiles");
    let out = device.buffer(16, STORAGE).expect("there is room");
    let answer = device.buffer(16, ANSWER).expect("there is room");
    let group = device.bind(&pipeline, &[(0, &out)]);
    let mut encoder = device.encoder();
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatch(&mut pass, &pipeline, &group, 64 * 500);
    drop(pass);
    encoder.copy_buffer_to_buffer(&out.raw, 0, &answer.raw, 0, 16);
    (device.submit(encoder).expect("it goes"), answer)
}

#[test]
fn f40_a_kernel_without_an_end_is_given_up_in_time() {
    let choice = Choice { answer_max: Some(Duration::from_millis(30)), ..Choice::default() };
    let device = Device::open(choice).expect("apt-get install mesa-vulkan-drivers libvulkan1");
    let (index, answer) = send_long_work(&device);
    let error = device.wait(&index, "a kernel").expect_err("it is not done so soon");
    assert_eq!(error, GpuError::Hung { what: "a kernel" });
    assert_eq!(device.check(), Err(error), "it stays given up");
    assert!(device.read_mapped(&answer, 4).is_err());
}

/// A driver tells a loss when what it has to do is through.
#[test]
fn f38_a_device_that_is_lost_at_work_says_so_at_once() {
    let device = fresh_device(Tier::Native);
    let _sent = send_long_work(&device);
    device.destroy();
    assert!(matches!(device.check(), Err(GpuError::Lost(_))));
    assert!(matches!(device.buffer(64, STORAGE), Err(GpuError::Lost(_))));
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

/// A lost device has no room either: it must not be taken for one that is only full.
#[test]
fn f43_a_loss_is_not_taken_for_a_lack_of_room() {
    let device = fresh_device(Tier::Native);
    device.faults.arm(Fault::OutOfMemory, 0);
    assert!(matches!(device.buffer(16, STORAGE), Err(GpuError::OutOfMemory { .. })));
    device.destroy();
    device.faults.arm(Fault::OutOfMemory, 0);
    let error = device.buffer(16, STORAGE).err().expect("there is no device");
    assert!(matches!(error, GpuError::Lost(_)) && error.needs_reopening(), "{error}");
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
    // A compiler's own words, in place of its panic.
    for wrong in ["no shader", "@compute @workgroup_size(64) fn main() { nothing(); }"] {
        let error = device.pipeline(wrong, "main").expect_err("it is no shader");
        assert!(matches!(&error, GpuError::Refused(what) if what.contains("main")), "{error}");
    }
    run(&device, None).expect("the device is as before");
}

/// Keys that are so many words wide.
fn wide_keys(columns: usize) -> Query {
    let long = || DataType::Int64;
    let field = |i| Field::new(format!("k{i}"), long(), true);
    let calls = sensors().calls.into_iter().take(1).collect();
    Query {
        inputs: vec![Input { data_type: long(), is_ids: false }; columns],
        filters: vec![],
        keys: (0..columns).map(|i| Expr::column(i, long())).collect(),
        window: None,
        key_fields: (0..columns).map(field).collect(),
        arguments: vec![],
        calls,
        offsets: None,
    }
}

/// What Murmur3 makes of a word before it is mixed in; and the word of which it makes that.
fn spun(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}
fn unspun(spun: u32) -> u32 {
    // The factors' inverses modulo 2^32, by Newton.
    let inverse =
        |odd: u32| (0..5).fold(odd, |x, _| x.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(x))));
    let turned = spun.wrapping_mul(inverse(0x1b87_3593)).rotate_right(15);
    turned.wrapping_mul(inverse(0xcc9e_2d51))
}

fn columns_of(keys: &[Vec<i64>]) -> Vec<ArrayRef> {
    let column = |at: usize| Int64Array::from_iter_values(keys.iter().map(|key| key[at]));
    (0..keys[0].len()).map(|at| Arc::new(column(at)) as ArrayRef).collect()
}

/// A key of two words: the second undoes what the first did to the hash, under the seed that a table
/// begins with. More of them than a probe looks at: the table has to be built anew with another seed.
#[test]
fn f45_keys_of_equal_hashes_are_told_apart_and_found_with_another_seed() {
    let query = wide_keys(1);
    let mixed = |hash: u32, word: u32| {
        (hash ^ spun(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    };
    let wanted = 0x1234_5678_u32;
    let key = |low: u32| {
        let high = unspun(mixed(mixed(SEED, 1), low) ^ wanted);
        vec![i64::from(high) << 32 | i64::from(low)]
    };
    let keys: Vec<_> = (0..300).map(key).collect();
    let columns = columns_of(&keys);
    for tier in TIERS {
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
        on_cpu(&query, &mut cpu_side, &columns);
        gpu.take(&columns, 100).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("every row finds its group");
        let seed = gpu.table.room.as_ref().map(|room| room.seed);
        assert_ne!(seed, Some(SEED), "{tier:?}: no keys met");
        gpu.drain(&mut gpu_side).expect("it comes back");
        assert_eq!(gpu_side.partial(&query), cpu_side.partial(&query), "{tier:?}");
        assert_eq!(cpu_side.table.groups().len(), 300);
    }
}

/// Aumasson's and Bernstein's pairs of words, which Murmur3 takes to the same hash whatever its seed:
/// seven of them make 128 keys that no table can part.
#[test]
fn f45_keys_that_meet_under_every_seed_are_told() {
    let query = wide_keys(7);
    let pair = |differs: bool| {
        let (low, high) = (spun(17), spun(23));
        let (low, high) = match differs {
            true => (unspun(low ^ 1 << 18), unspun(high ^ 1 << 31)),
            false => (unspun(low), unspun(high)),
        };
        i64::from(high) << 32 | i64::from(low)
    };
    let key = |number: u32| (0..7).map(|bit| pair(number >> bit & 1 == 1)).collect();
    let keys: Vec<Vec<i64>> = (0..128).map(key).collect();
    for tier in TIERS {
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        let mut side = Side::new(&query);
        let taken = gpu.take(&columns_of(&keys), 128).and_then(|()| gpu.drain(&mut side));
        let error = taken.expect_err("no table parts them");
        assert!(matches!(&error, GpuError::Untrusted(why) if why.contains("no place")), "{error}");
        assert!(side.table.groups().is_empty());
        // So many of them fit a probe.
        let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
        let (mut cpu_side, mut side) = (Side::new(&query), Side::new(&query));
        let columns = columns_of(&keys[..60]);
        on_cpu(&query, &mut cpu_side, &columns);
        gpu.take(&columns, 60).and_then(|()| gpu.drain(&mut side)).expect("they have room");
        assert_eq!(side.partial(&query), cpu_side.partial(&query), "{tier:?}");
    }
}

#[test]
fn f45_a_table_that_is_full_grows_within_a_batch() {
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
