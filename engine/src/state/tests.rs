//! A shard that spills against one that does not: the same groups leave, whatever lay on the disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::shard::{Need, Shard};
use super::spill::Room;
use super::*;
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::tests::{Row, plan, push};
use crate::pipeline::{EventClock, Pipeline};
use crate::plan::Plan;
use crate::storage::{MemoryStorage, Storage};

fn shard(plan: &Plan, spill: Option<spill::Spill>) -> Shard {
    Shard::new(plan.state().expect("it groups"), spill)
}

/// Partials of rows, as a core makes them.
fn partial(plan: &Arc<Plan>, rows: &[Row]) -> RecordBatch {
    let mut pipeline = Pipeline::new(Arc::clone(plan), OnError::Skip);
    pipeline.open(0, EventClock::known(None));
    push(&mut pipeline, rows, 0);
    let segment = pipeline.close();
    pipeline.keep(segment, 0).expect("good rows");
    pipeline.barrier().partial.expect("it groups")
}

/// Cell by cell: a key may hold a line feed.
fn lines(pieces: Vec<Vec<ArrayRef>>) -> BTreeSet<Vec<String>> {
    let mut all = BTreeSet::new();
    for columns in pieces {
        for row in 0..columns[0].len() {
            let cell = |column: &ArrayRef| array_value_to_string(column, row).expect("it prints");
            assert!(all.insert(columns.iter().map(cell).collect()), "a group leaves once");
        }
    }
    all
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Append,
    Update,
    Complete,
}

/// What leaves in an epoch.
fn emit(shard: &mut Shard, mode: Mode, watermark: Option<i64>) -> BTreeSet<Vec<String>> {
    let need = Need {
        all: matches!(mode, Mode::Complete),
        touched: matches!(mode, Mode::Update),
        closing: watermark.filter(|_| !matches!(mode, Mode::Complete)),
    };
    let pieces = shard.each(need, |store, _| {
        let leaving = match mode {
            Mode::Append => watermark.map_or(Vec::new(), |w| store.closed(w)),
            Mode::Update => store.touched().to_vec(),
            Mode::Complete => store.all(),
        };
        let rows = store.rows(&leaving)?;
        store.settle(watermark.filter(|_| !matches!(mode, Mode::Complete)))?;
        Ok(rows)
    });
    lines(pieces.expect("nothing fails"))
}

fn rows(epochs: usize) -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (0i64..90_000, 0u8..200, -50i32..50).prop_map(|(time, device, value)| Row {
        time: Some(time),
        device,
        status: Some(1),
        value,
        bad: 9,
    });
    proptest::collection::vec(proptest::collection::vec(row, 0..1_500), 1..epochs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// F33, F35: what is spilled when does not show, also where the disk is full at times.
    #[test]
    fn f35_a_shard_that_spills_gives_what_one_in_memory_gives(epochs in rows(6), full in 0usize..40_000) {
        let plan = plan(0, OutputMode::Update);
        for mode in [Mode::Append, Mode::Update, Mode::Complete] {
            let disk = MemoryStorage::new();
            let room = Room { storage: Arc::new(disk.clone()), bytes: 1 };
            let mut spill = room.share(1, "s");
            spill.most = u64::MAX;
            let mut small = shard(&plan, Some(spill));
            let mut large = shard(&plan, None);
            for (i, epoch) in epochs.iter().enumerate() {
                // In every other epoch the disk is as good as full.
                disk.set_capacity((i % 2 == 1).then_some(full));
                let first = (i as i64) * 10_000;
                let open: Vec<Row> = epoch
                    .iter()
                    .filter(|row| row.time >= Some(first))
                    .cloned()
                    .collect();
                for half in open.chunks(open.len() / 2 + 1) {
                    let partial = partial(&plan, half);
                    small.merge(&partial).expect("nothing fails");
                    large.merge(&partial).expect("nothing fails");
                }
                let watermark = Some(first + 10_000);
                let expected = emit(&mut large, mode, watermark);
                prop_assert_eq!(emit(&mut small, mode, watermark), expected, "{:?} {}", mode, i);
            }
            let mut whole = BTreeSet::new();
            let mut expected = BTreeSet::new();
            for (shard, into) in [(&mut small, &mut whole), (&mut large, &mut expected)] {
                into.extend(emit(shard, Mode::Complete, None));
            }
            prop_assert_eq!(whole, expected);
            drop(small);
            prop_assert_eq!(disk.list("").expect("the root"), [""; 0], "left behind");
        }
    }
}

#[test]
fn f51_a_rotten_run_is_seen() {
    let plan = plan(0, OutputMode::Update);
    let disk = MemoryStorage::new();
    let room = Room { storage: Arc::new(disk.clone()), bytes: 1 };
    let mut shard = shard(&plan, Some(room.share(1, "s")));
    let row = |i: i64| Row {
        time: Some(i * 40),
        device: (i % 200) as u8,
        status: Some(1),
        value: 1,
        bad: 9,
    };
    shard.merge(&partial(&plan, &(0..4_000).map(row).collect::<Vec<_>>())).expect("nothing fails");
    let names = disk.list("").expect("the root is there");
    assert!(names.len() > 100, "it spilled: {}", names.len());
    disk.flip_bit(&names[0], 200, 1).expect("it is longer than that");
    let all = Need { all: true, touched: false, closing: None };
    let error = shard.each(all, |_, _| Ok(())).expect_err("a bit is wrong");
    assert!(error.to_string().contains("is not what was written"), "{error}");
}
