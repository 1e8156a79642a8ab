//! What a batch costs in submissions, waits, dispatches and buffers: counted, as times say little here.

use super::aggregate::{readings, sensors};
use super::filter::{columns, query as rows_query};
use super::*;
use crate::gpu::aggregate::BATCHES_MAX;
use crate::gpu::{Counts, Fault};

const ROWS: usize = 1_000;
/// As the engine sends them.
const SUBMITTED: usize = 8;

fn since(device: &Device, before: Counts) -> Counts {
    let now = device.counts();
    Counts {
        buffers: now.buffers - before.buffers,
        bindings: now.bindings - before.bindings,
        submissions: now.submissions - before.submissions,
        waits: now.waits - before.waits,
        words_read: now.words_read - before.words_read,
    }
}

/// The projection of so many batches, all of whose rows that pass count.
fn project(gpu: &mut Gpu, columns: &[ArrayRef], batches: usize) -> Vec<Selected> {
    let mut one = |_| {
        let mut fates = Vec::new();
        let batch = gpu.projector.project(columns, 0, ROWS, &mut fates).expect("it fits");
        Selected { batch: Arc::new(batch), rows: passing(&fates), back_us: 0 }
    };
    (0..batches).map(&mut one).collect()
}

/// Once a table has grown to its groups an epoch makes no buffer but for what comes back at its end; a batch is
/// one submission and one wait, and an eighth of those that fold.
#[test]
fn an_epoch_asks_a_device_for_little() {
    let query = sensors();
    for tier in TIERS {
        let device = fresh_device(tier);
        let mut gpu = Gpu::new(&device, &query).expect("it compiles");
        let (mut side, mut other) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut side, &mut other, ROWS, 300);
        for epoch in 0..3 {
            let before = device.counts();
            for _ in 0..4 {
                let batches = project(&mut gpu, &columns, SUBMITTED);
                gpu.table.aggregate(batches, &mut gpu.projector).expect("it fits");
            }
            gpu.table.settle(&mut gpu.projector).expect("it ends");
            let took = since(&device, before);
            if epoch == 2 {
                let words = 32 * (1 + ROWS as u64) + 32 * (4 + 32) + 4 * 8;
                let expected = Counts {
                    buffers: 0,
                    // Projection, places, states, least and greatest.
                    bindings: 32 * 4,
                    submissions: 32 + 4,
                    waits: 32 + 4,
                    words_read: words,
                };
                assert_eq!(took, expected, "{tier:?}");
            }
            let before = device.counts();
            gpu.drain(&mut side).expect("it comes back");
            let took = since(&device, before);
            // How much there is, all of it; the table is emptied without a wait.
            assert_eq!((took.buffers, took.submissions, took.waits), (2, 3, 2), "{tier:?}");
        }
    }
}

/// Two submissions are under way while the host goes on: only the third waits, for the first.
#[test]
fn two_submissions_of_several_batches_are_in_flight() {
    let query = sensors();
    let device = fresh_device(Tier::Native);
    let mut gpu = Gpu::new(&device, &query).expect("it compiles");
    let (mut side, mut other) = (Side::new(&query), Side::new(&query));
    let columns = readings(&mut side, &mut other, ROWS, 3);
    // In the first epoch room is made for what none of them needs.
    for epoch in 0..2 {
        for (sent, waits) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            let batches = project(&mut gpu, &columns, BATCHES_MAX);
            let before = device.counts();
            gpu.table.aggregate(batches, &mut gpu.projector).expect("it fits");
            let took = since(&device, before);
            if epoch == 1 {
                assert_eq!((took.submissions, took.waits), (1, waits), "{sent}");
            }
            let flying = &gpu.table.in_flight;
            assert_eq!(flying.len(), 2.min(sent), "{sent}");
            assert!(flying.iter().all(|flight| flight.batches.len() == BATCHES_MAX));
        }
        gpu.drain(&mut side).expect("it comes back");
    }
}

/// A batch of rows is one submission and one wait where as many pass as of the one before.
#[test]
fn a_filtered_batch_is_one_submission() {
    let program = Program::rows(&fresh_device(Tier::Portable), rows_query()).expect("it compiles");
    let program = Arc::new(program);
    let mut projector = Projector::new(&program);
    let columns = columns(ROWS, |row| Some(row % 3 == 0));
    let mut pass = || projector.filter(&columns, 0, ROWS, &mut Vec::new()).expect("it fits");
    pass();
    let before = program.device().counts();
    for _ in 0..10 {
        pass();
    }
    let took = since(program.device(), before);
    let asked = (took.buffers, took.submissions, took.waits, took.bindings);
    // Projection; counting, adding up, compacting.
    assert_eq!(asked, (0, 10, 10, 40));
}

/// F38: whichever submission of an epoch the device is lost at, its groups are the CPU's or none are there: what
/// came back before the loss is not taken in twice.
#[test]
fn f38_a_table_is_taken_in_whole_or_not_at_all() {
    let query = sensors();
    let (mut whole, mut lost) = (0, 0);
    for before in 0.. {
        let device = fresh_device(TIERS[before % 2]);
        let mut gpu = Gpu::new(&device, &query).expect("it compiles");
        let (mut expected, mut side) = (Side::new(&query), Side::new(&query));
        let columns = readings(&mut expected, &mut side, ROWS, 30);
        on_cpu(&query, &mut expected, &columns);
        device.faults.arm(Fault::Lost, before as u32);
        let taken = gpu.take(&columns, 600).and_then(|()| gpu.drain(&mut side));
        match taken {
            Ok(()) => assert_eq!(side.partial(&query), expected.partial(&query), "{before}"),
            Err(_) => assert!(side.table.groups().is_empty(), "lost at {before}"),
        }
        match (taken.is_ok(), device.check().is_ok()) {
            (true, true) => break,
            (true, false) => whole += 1,
            (false, _) => lost += 1,
        }
    }
    // Two projections, a fold, two read-backs, and the table that is emptied.
    assert_eq!((whole, lost), (0, 6));
}
