//! Epochs over a disk that fails: whatever was killed where, the output is that of a quiet run.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use crate::checkpoint::{Journal, manifest};
use crate::epoch::{EpochInput, Epochs, OneByOne, ScanInput};
use crate::error::Result;
use crate::job::spec::{FileFormat, OnError, OutputMode};
use crate::pipeline::tests::{Row, push, query};
use crate::pipeline::{EventClock, Pipeline};
use crate::plan::Query;
use crate::sink::file::FileSink;
use crate::sink::{self, Sink};
use crate::storage::memory::Crash;
use crate::storage::{MemoryStorage, Storage};

const EIO: i32 = 5;

/// The disks of checkpoints and of output.
#[derive(Clone, Default)]
struct Disks {
    state: MemoryStorage,
    output: MemoryStorage,
}

impl Disks {
    fn crash(&self, left: Crash) {
        self.state.crash(left);
        self.output.crash(left);
    }

    /// All published rows in the order of their epochs.
    fn published(&self) -> String {
        let names = self.output.list("").expect("a directory that was opened");
        let text = |name: &String| {
            let bytes = self.output.read(name).expect("it was listed");
            String::from_utf8(bytes).expect("CSV is text")
        };
        names.iter().map(text).collect()
    }
}

fn rows() -> Vec<Row> {
    let row = |i: i64| Row {
        time: Some(i * 1_700 - (i % 5) * 900),
        device: (i % 3) as u8,
        status: Some((i % 7) as i32),
        value: (i * 13 % 50) as i32,
        bad: 9,
    };
    (0..60).map(row).collect()
}

/// One process: goes on from the newest checkpoint, a few rows an epoch, to the end of the rows.
fn process(
    disks: &Disks,
    query: &Arc<Query>,
    rows: &[Row],
    attempt: u32,
    cores: usize,
) -> Result<()> {
    let attempt = attempt.to_string();
    let journal = Journal::open(Arc::new(disks.state.clone()), "job", query, attempt.clone())?;
    let (mut epochs, restored) =
        Epochs::open(query.clone(), cores, Some(journal), (OnError::DeadLetter, &[]))?;
    let format = FileFormat::Csv { header: false };
    let mut output = FileSink::new(Arc::new(disks.output.clone()), format, attempt);
    let mut from = 0;
    let mut kept = None;
    if let Some(restored) = restored {
        from = restored.source.as_u64().expect("this test writes numbers") as usize;
        let staged = restored.sinks["out"].clone();
        kept = Some(sink::Restored { checkpoint: restored.committed, staged });
        if restored.ended {
            output.open(kept.as_ref())?;
            return Ok(());
        }
    }
    output.open(kept.as_ref())?;
    let mut pipelines: Vec<Pipeline> = (0..cores)
        .map(|_| Pipeline::new(query.scans[0].plan.clone(), OnError::DeadLetter))
        .collect();
    loop {
        let stretch = &rows[from..(from + 7).min(rows.len())];
        let mut clock = epochs.event_time_max();
        for (i, part) in stretch.chunks(3).enumerate() {
            let pipeline = &mut pipelines[i % cores];
            pipeline.open(i as u64, EventClock::known(clock));
            push(pipeline, part, 0);
            let segment = pipeline.close();
            clock = segment.summary.clock.now;
            pipeline.keep(segment, 0)?;
        }
        from += stretch.len();
        let scan = ScanInput {
            cores: pipelines.iter_mut().map(Pipeline::barrier).collect(),
            event_time_max: clock,
            ended: from == rows.len(),
        };
        let input = EpochInput { scans: vec![scan], source: from.into() };
        let finished = epochs.finish(input, &OneByOne)?;
        output.stage(finished.epoch, &finished.rows)?;
        let sealed = output.seal(finished.epoch)?;
        let sinks = BTreeMap::from([("out".to_string(), sealed)]);
        let committed = finished.commit(epochs.journal(), sinks)?;
        output.commit(&committed)?;
        epochs.journal().expect("it was given one").collect_garbage();
        if finished.ended {
            return Ok(());
        }
    }
}

fn quiet(query: &Arc<Query>, rows: &[Row], cores: usize) -> String {
    let disks = Disks::default();
    process(&disks, query, rows, 0, cores).expect("nothing fails");
    disks.published()
}

#[test]
fn cores_and_shards_do_not_show_in_the_output() {
    let query = query(4_000, OutputMode::Append);
    let expected = quiet(&query, &rows(), 1);
    assert!(expected.lines().count() > 10, "{expected}");
    for cores in 2..5 {
        assert_eq!(quiet(&query, &rows(), cores), expected, "{cores} cores");
    }
}

#[test]
fn f47_f54_a_crash_at_any_operation_loses_nothing_and_doubles_nothing() {
    let query = query(4_000, OutputMode::Append);
    let expected = quiet(&query, &rows(), 2);
    for left in [Crash::Synced, Crash::Names, Crash::Everything] {
        for fails_output in [false, true] {
            let mut operations = 0;
            loop {
                let disks = Disks::default();
                let failing = if fails_output { &disks.output } else { &disks.state };
                failing.fail_from(operations, EIO);
                let done = process(&disks, &query, &rows(), 1, 2).is_ok();
                disks.crash(left);
                // The second process is killed soon after, too: recovery must be repeatable.
                failing.fail_from(operations % 5, EIO);
                let _ = process(&disks, &query, &rows(), 2, 2);
                disks.crash(left);
                process(&disks, &query, &rows(), 3, 1).expect("nothing fails any more");
                let found = disks.published();
                assert_eq!(found, expected, "{left:?}, output {fails_output}, {operations}");
                if done {
                    break;
                }
                operations += 1;
            }
            assert!(operations > 50, "the run has that many operations: {operations}");
        }
    }
}

#[test]
fn f56_another_query_is_refused_the_state_of_this_one() {
    let mine = query(4_000, OutputMode::Append);
    let disks = Disks::default();
    process(&disks, &mine, &rows()[..20], 1, 1).expect("nothing fails");
    let mut other = query(4_000, OutputMode::Append);
    Arc::get_mut(&mut other).expect("nobody else has it").fingerprint = "other".into();
    let refused = Journal::open(Arc::new(disks.state.clone()), "job", &other, "2".into());
    assert_eq!(refused.err().map(|error| error.exit_code()), Some(78));
}

/// A killed process may leave a manifest renamed and not synced. Whoever opens the checkpoints acts on
/// it, so a power cut afterwards must not take it away.
#[test]
fn f54_a_manifest_that_was_read_stays_through_a_power_cut() {
    let query = query(4_000, OutputMode::Append);
    let disks = Disks::default();
    process(&disks, &query, &rows()[..20], 1, 1).expect("nothing fails");
    let mut names = disks.state.list("").expect("it was opened");
    names.retain(|name| manifest::epoch_of(name).is_some());
    let left = MemoryStorage::new();
    for name in &names {
        let mut file = left.create("staged").expect("there is none");
        file.write_all(&disks.state.read(name).expect("it was listed")).expect("there is room");
        file.sync().expect("nothing fails");
        left.rename("staged", name).expect("nothing fails");
    }
    let journal = Journal::open(Arc::new(left.clone()), "job", &query, "2".into());
    assert!(journal.expect("nothing fails").last().is_some());
    left.crash(Crash::Synced);
    let mut there = left.list("").expect("it was opened");
    there.retain(|name| manifest::epoch_of(name).is_some());
    assert_eq!(there, names);
}
