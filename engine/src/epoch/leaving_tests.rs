//! What leaves, with and without room in memory for it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::super::{EpochInput, Epochs, OneByOne, ScanInput};
use crate::error::Result;
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::tests::{Row, push, query};
use crate::pipeline::{EventClock, Pipeline};
use crate::plan::Query;
use crate::state::spill::Room;
use crate::storage::{MemoryStorage, Storage};

const ENOSPC: i32 = 28;

/// Some 4,000 groups that come in no order, most of them again in the next epoch.
fn rows(epoch: i64) -> Vec<Row> {
    let row = |i: i64| Row {
        time: Some(epoch * 40_000 + i * 7_919 % 200_000),
        device: (i * 31 % 200) as u8,
        status: Some(1),
        value: (i % 50) as i32,
        bad: 9,
    };
    (0..8_000).map(row).collect()
}

/// What leaves in each of some epochs, the last of which is the input's end.
fn run(query: &Arc<Query>, shards: usize, room: Option<&Room>) -> Result<Vec<RecordBatch>> {
    let errors = (OnError::Skip, &[][..]);
    let (mut epochs, _) =
        Epochs::open_in(Arc::clone(query), shards, None, errors, (room, &OneByOne))?;
    let mut pipeline = Pipeline::new(Arc::clone(&query.scans[0].plan), OnError::Skip);
    let mut all = Vec::new();
    for epoch in 0..4 {
        pipeline.open(0, EventClock::known(epochs.event_time_max()));
        push(&mut pipeline, &rows(epoch), 0);
        let segment = pipeline.close();
        let event_time_max = segment.summary.clock.now;
        pipeline.keep(segment, 0)?;
        let cores = vec![pipeline.barrier()];
        let scan = ScanInput { cores, event_time_max, ended: epoch == 3 };
        let input = EpochInput { scans: vec![scan], source: epoch.into() };
        let mut parts = Vec::new();
        let finished = epochs.finish_in_parts(input, &OneByOne, &mut |rows| {
            parts.push(rows);
            Ok(())
        })?;
        let before: usize = parts.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(finished.rows_before, before as u64);
        parts.push(finished.rows);
        all.push(concat_batches(&parts[0].schema(), &parts).expect("parts of one epoch"));
    }
    Ok(all)
}

#[test]
fn what_leaves_is_the_same_and_in_the_same_order_whatever_went_to_the_disk() {
    for mode in [OutputMode::Append, OutputMode::Update, OutputMode::Complete] {
        let query = query(250_000, mode);
        let right = run(&query, 1, None).expect("nothing fails");
        assert!(right.iter().map(RecordBatch::num_rows).sum::<usize>() > 4_000, "{mode:?}");
        for shards in [1, 3] {
            // The state may hold this much, what leaves a quarter.
            let disk = MemoryStorage::new();
            let room = Room { storage: Arc::new(disk.clone()), bytes: 24 << 10 };
            assert_eq!(run(&query, shards, Some(&room)).expect("nothing fails"), right, "{mode:?}");
            assert!(disk.operations() > 2_000, "it spilled: {}", disk.operations());
            assert_eq!(disk.list("").expect("the root"), [""; 0], "nothing is left behind");
        }
    }
}

/// F50: whatever the disk refuses, no row is lost in silence.
#[test]
fn f50_a_disk_without_room_for_rows_that_leave_stops_the_epoch() {
    let query = query(250_000, OutputMode::Complete);
    let right = run(&query, 1, None).expect("nothing fails");
    let mut stopped = 0;
    for skip in (0..4_000).step_by(211) {
        let disk = MemoryStorage::new();
        let room = Room { storage: Arc::new(disk.clone()), bytes: 24 << 10 };
        disk.fail_from(skip, ENOSPC);
        match run(&query, 1, Some(&room)) {
            Ok(rows) => assert_eq!(rows, right, "after {skip} operations"),
            Err(error) => {
                assert_eq!(error.exit_code(), 74, "{error}");
                stopped += 1;
            }
        }
    }
    assert!(stopped > 5, "{stopped} runs were stopped");
}
