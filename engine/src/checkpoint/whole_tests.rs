//! Epochs whose partials outgrow the state: it is written in their place.

use std::collections::BTreeMap;

use super::*;
use crate::epoch::{EpochInput, Epochs, OneByOne, ScanInput};
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::tests::{Row, push, query};
use crate::pipeline::{EventClock, Pipeline};
use crate::state::spill::Room;
use crate::storage::MemoryStorage;

struct Run {
    epochs: Epochs,
    pipeline: Pipeline,
}

fn open(disk: &MemoryStorage, query: &Arc<Query>, attempt: &str, room: Option<&Room>) -> Run {
    let journal = Journal::open(Arc::new(disk.clone()), "job", query, attempt.into());
    let journal = Some(journal.expect("the disk is sound"));
    let errors = (OnError::DeadLetter, &[][..]);
    let opened = Epochs::open_in(Arc::clone(query), 2, journal, errors, (room, &OneByOne));
    let (epochs, _) = opened.expect("the checkpoint is sound");
    Run { epochs, pipeline: Pipeline::new(Arc::clone(&query.scans[0].plan), OnError::Skip) }
}

/// `devices` groups in a window that stays open; every row another value.
fn rows(epoch: u64, devices: u64) -> Vec<Row> {
    let row = |i: u64| Row {
        time: Some((epoch * 7 + i) as i64 % 10_000),
        device: (i % devices) as u8,
        status: Some(1),
        value: (epoch * 31 + i) as i32,
        bad: 9,
    };
    (0..96).map(row).collect()
}

impl Run {
    fn input(&mut self, rows: &[Row]) -> EpochInput {
        let clock = self.epochs.event_time_max();
        self.pipeline.open(0, EventClock::known(clock));
        push(&mut self.pipeline, rows, 0);
        let segment = self.pipeline.close();
        let event_time_max = segment.summary.clock.now.max(clock);
        self.pipeline.keep(segment, 0).expect("good rows");
        let cores = vec![self.pipeline.barrier()];
        let scan = ScanInput { cores, event_time_max, ended: false };
        EpochInput { scans: vec![scan], source: self.epochs.next().into() }
    }

    /// An epoch that comes in pieces of `size` rows; in `stages` what it changed goes to the disk on the
    /// way.
    fn epoch(&mut self, rows: &[Row], size: usize, stages: bool) {
        let pieces: Vec<&[Row]> = rows.chunks(size).collect();
        let (last, first) = pieces.split_last().expect("there are rows");
        for (at, piece) in first.iter().enumerate() {
            let input = self.input(piece);
            self.epochs.absorb(input, &OneByOne).expect("good rows");
            if stages && at % 3 == 2 {
                let (epoch, changes) = (self.epochs.next(), self.epochs.take_changes(0));
                let journal = self.epochs.journal().expect("it has one");
                journal.stage(epoch, &changes.unwrap_or_default()).expect("nothing fails");
            }
        }
        let input = self.input(last);
        let finished = self.epochs.finish(input, &OneByOne).expect("good rows");
        finished.commit(self.epochs.journal(), BTreeMap::new()).expect("nothing fails");
        self.epochs.journal().expect("it has one").collect_garbage();
    }
}

fn files(disk: &MemoryStorage) -> Vec<StateFile> {
    inspect::find(disk, None).expect("one is whole").manifest.files
}

/// The state that a restart finds; the run that goes on does not see that there was one.
fn table(disk: &MemoryStorage, query: &Arc<Query>) -> RecordBatch {
    let table = open(disk, query, "restored", None).epochs.table().expect("values");
    let fences = disk.list("").expect("the root is there").into_iter();
    let of_restart = fences.filter(|name| name.starts_with("fence-")).skip(1);
    of_restart.for_each(|name| disk.remove(&name).expect("it is there"));
    table
}

/// Rows of the same groups in many pieces: each piece is a partial, together they are far more than the
/// groups.
#[test]
fn partials_that_outgrow_the_state_are_not_written() {
    let query = query(1_000_000, OutputMode::Update);
    for stages in [false, true] {
        let (pieces, quiet) = (MemoryStorage::new(), MemoryStorage::new());
        let (mut run, mut right) =
            (open(&pieces, &query, "1", None), open(&quiet, &query, "1", None));
        for epoch in 0..4 {
            run.epoch(&rows(epoch, 3), 3, stages);
            right.epoch(&rows(epoch, 3), 96, false);
            assert_eq!(table(&pieces, &query), table(&quiet, &query), "epoch {epoch}");
        }
        let found = files(&pieces);
        let [base] = &found[..] else { panic!("one file is enough: {found:?}") };
        assert_eq!((base.kind, base.epoch, base.rows), (StateKind::Base, 3, 3));
        assert_eq!(files(&quiet).len(), 4);
        // A small epoch after it is a delta again.
        run.epoch(&rows(4, 3)[..2], 1, stages);
        right.epoch(&rows(4, 3)[..2], 2, false);
        assert_eq!(table(&pieces, &query), table(&quiet, &query));
        let kinds: Vec<StateKind> = files(&pieces).iter().map(|file| file.kind).collect();
        assert_eq!(kinds[..2], [StateKind::Base, StateKind::Delta]);
    }
}

/// F35: memory has no room for the state any more when its partials had been let go.
#[test]
fn f35_a_state_that_leaves_memory_is_written_before_it_does() {
    let query = query(1_000_000, OutputMode::Update);
    let mut on_the_way = 0;
    for (bytes, stages) in
        [(20 << 10, false), (20 << 10, true), (60 << 10, true), (200 << 10, false)]
    {
        let (small, quiet, spilled) =
            (MemoryStorage::new(), MemoryStorage::new(), MemoryStorage::new());
        let room = Room { storage: Arc::new(spilled.clone()), bytes };
        let mut run = open(&small, &query, "1", Some(&room));
        let mut right = open(&quiet, &query, "1", None);
        for epoch in 0..4 {
            // First rows of few groups, again and again; then of many.
            let all =
                [rows(epoch, 2), rows(epoch, 96), rows(epoch + 9, 96), rows(epoch, 4)].concat();
            run.epoch(&all, 4, stages);
            right.epoch(&all, all.len(), false);
            assert_eq!(
                table(&small, &query),
                table(&quiet, &query),
                "{bytes} bytes, epoch {epoch}"
            );
            let of_epoch = |kind: StateKind| {
                files(&small).iter().any(|file| file.kind == kind && file.epoch == epoch)
            };
            on_the_way += usize::from(of_epoch(StateKind::Base) && of_epoch(StateKind::Delta));
        }
    }
    assert!(on_the_way > 0, "no epoch wrote its state before its end");
}

/// A base that is being made of files which an epoch makes needless meanwhile: whether it was read before
/// they went or after, it stands for nothing, and the job goes on.
#[test]
fn a_state_that_was_written_whole_overtakes_the_base_that_was_being_made() {
    let query = query(1_000_000, OutputMode::Update);
    for is_late in [false, true] {
        let (disk, quiet) = (MemoryStorage::new(), MemoryStorage::new());
        let mut run = open(&disk, &query, "1", None);
        let mut right = open(&quiet, &query, "1", None);
        (0..3).for_each(|epoch| run.epoch(&rows(epoch, 3), 96, false));
        let work = run.epochs.journal().expect("it has one").compaction(&query, 0);
        let work = work.expect("there are deltas");
        let mut while_it_is_made = || (3..6).for_each(|epoch| run.epoch(&rows(epoch, 3), 3, false));
        let made = if is_late {
            while_it_is_made();
            work.run(None)
        } else {
            let made = work.run(None);
            while_it_is_made();
            made
        };
        assert_eq!(made.as_ref().err().map(Error::exit_code), is_late.then_some(74));
        let journal = run.epochs.journal().expect("it has one");
        journal.adopt(made).expect("nothing is missed");
        run.epoch(&rows(6, 3)[..2], 1, false);
        (0..6).for_each(|epoch| right.epoch(&rows(epoch, 3), 96, false));
        right.epoch(&rows(6, 3)[..2], 1, false);
        assert_eq!(table(&disk, &query), table(&quiet, &query));
        let epochs: Vec<u64> = files(&disk).iter().map(|file| file.epoch).collect();
        assert_eq!(epochs, [5, 6], "what was overtaken is named no more");
        let journal = run.epochs.journal().expect("it has one");
        assert!(journal.compaction(&query, 1).is_some(), "the next one may begin");
    }
}
