//! Checkpoints over a disk on which anything may have changed, and over one that two runs share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::FileWriter;

use super::*;
use crate::epoch::{EpochInput, Epochs, OneByOne, Restored, ScanInput};
use crate::job::spec::{OnError, OutputMode};
use crate::pipeline::tests::{Row, push, query};
use crate::pipeline::{EventClock, Pipeline};
use crate::storage::{MemoryStorage, StagedFile};

/// A run over a disk: rows go in, a window of ten milliseconds at a time.
struct Run {
    epochs: Epochs,
    pipeline: Pipeline,
    restored: Option<Restored>,
}

fn open(disk: &MemoryStorage, query: &Arc<Query>, attempt: &str, marker: Marker) -> Result<Run> {
    let terms = Terms { marker, ..Terms::default() };
    let storage = Arc::new(disk.clone());
    let journal = Journal::open_with(storage, "job", query, attempt.into(), &terms)?;
    let (epochs, restored) =
        Epochs::open(query.clone(), 1, Some(journal), (OnError::DeadLetter, &[]))?;
    let pipeline = Pipeline::new(query.scans[0].plan.clone(), OnError::Skip);
    Ok(Run { epochs, pipeline, restored })
}

fn update() -> Arc<Query> {
    // Windows stay open for a second: everything is in the state.
    query(1_000_000, OutputMode::Update)
}

fn rows(epoch: u64) -> Vec<Row> {
    let row = |i: i64| Row {
        time: Some(epoch as i64 * 3_000 + i * 700),
        device: (i % 3) as u8,
        status: Some(1),
        value: i as i32,
        bad: 9,
    };
    (0..6).map(row).collect()
}

impl Run {
    fn input(&mut self, rows: &[Row]) -> EpochInput {
        let epoch = self.epochs.next();
        let clock = self.epochs.event_time_max();
        self.pipeline.open(0, EventClock::known(clock));
        push(&mut self.pipeline, rows, 0);
        let segment = self.pipeline.close();
        let event_time_max = segment.summary.clock.now.max(clock);
        self.pipeline.keep(segment, 0).expect("good rows");
        let cores = vec![self.pipeline.barrier()];
        let scan = ScanInput { cores, event_time_max, ended: false };
        EpochInput { scans: vec![scan], source: epoch.into() }
    }

    fn finish(&mut self) -> crate::epoch::Finished {
        let input = self.input(&rows(self.epochs.next()));
        self.epochs.finish(input, &OneByOne).expect("good rows")
    }

    /// The first rows of an epoch, whose delta goes to the disk at once.
    fn absorb(&mut self, rows: &[Row]) {
        let input = self.input(rows);
        self.epochs.absorb(input, &OneByOne).expect("good rows");
        let (epoch, changes) =
            (self.epochs.next(), self.epochs.take_changes(0).expect("there is some"));
        self.epochs.journal().expect("it has one").stage(epoch, &changes).expect("nothing fails");
    }

    fn epoch(&mut self) -> Result<Committed> {
        let finished = self.finish();
        let committed = finished.commit(self.epochs.journal(), BTreeMap::new())?;
        self.epochs.journal().expect("it has one").collect_garbage();
        Ok(committed)
    }

    fn restored_epoch(&self) -> Option<u64> {
        self.restored.as_ref().map(|restored| restored.committed.epoch)
    }
}

fn names(disk: &MemoryStorage, prefix: &str) -> Vec<String> {
    let names = disk.list("").expect("the root is there");
    names.into_iter().filter(|name| name.starts_with(prefix)).collect()
}

/// The state of a directory's newest checkpoint, as text.
fn state(disk: &MemoryStorage, epoch: Option<u64>) -> String {
    let kept = inspect::find(disk, epoch).expect("there is one");
    let store = inspect::state(disk, &kept.manifest).expect("it is whole");
    let rows = kept.manifest.table.as_ref().expect("it has groups").rows(&store).expect("values");
    let mut lines: Vec<String> = arrow::util::pretty::pretty_format_batches(&[rows])
        .expect("all types print")
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn f51_no_flipped_bit_of_any_file_is_taken_for_state() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    (0..3).for_each(|_| _ = run.epoch().expect("nothing fails"));
    let right: BTreeMap<u64, String> =
        [1, 2].map(|epoch| (epoch, state(&disk, Some(epoch)))).into();
    let mut went_back = 0;
    let mut stopped = 0;
    for name in disk.list("").expect("the root is there") {
        let length = disk.read(&name).expect("it was listed").len();
        for byte in (0..length).step_by(3) {
            disk.flip_bit(&name, byte, (byte % 8) as u8).expect("it is that long");
            match open(&disk, &query, "2", Marker::Manifest) {
                Ok(run) => {
                    let epoch = run.restored_epoch().expect("one of two is whole");
                    let digest = {
                        let kept = inspect::find(&disk, Some(epoch)).expect("it was restored");
                        assert!(inspect::faults(&disk, &kept.manifest).is_empty());
                        state(&disk, Some(epoch))
                    };
                    assert_eq!(digest, right[&epoch], "{name} byte {byte}");
                    went_back += u64::from(epoch == 1);
                }
                Err(error) => {
                    assert_eq!(error.exit_code(), 74, "{name} byte {byte}: {error}");
                    assert!(error.to_string().contains(&name), "{name}: {error}");
                    stopped += 1;
                }
            }
            disk.flip_bit(&name, byte, (byte % 8) as u8).expect("it is that long");
            for fence in names(&disk, "fence-").iter().skip(1) {
                disk.remove(fence).expect("it was listed");
            }
        }
    }
    // The newest manifest and delta have an older one behind them; what both name has not.
    assert!(went_back > 200 && stopped > 200, "{went_back} times back, {stopped} times stopped");
}

#[test]
fn f52_missing_and_truncated_files_are_seen_and_the_older_checkpoint_is_used() {
    let query = update();
    for damage in ["missing", "truncated", "foreign"] {
        for kind in ["manifest", "delta"] {
            let disk = MemoryStorage::new();
            let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
            (0..3).for_each(|_| _ = run.epoch().expect("nothing fails"));
            let before = state(&disk, Some(1));
            let name = names(&disk, kind).pop().expect("there are some");
            let mut bytes = disk.read(&name).expect("it was listed");
            let other = names(&disk, kind).swap_remove(0);
            disk.remove(&name).expect("it was listed");
            match damage {
                "truncated" => bytes.truncate(bytes.len() / 2),
                "foreign" => bytes = disk.read(&other).expect("it was listed"),
                _ => bytes.clear(),
            }
            if damage != "missing" {
                write_new(&disk, &name, &bytes).expect("nothing fails");
            }
            let mut run = open(&disk, &query, "2", Marker::Manifest).expect("epoch 1 is whole");
            assert_eq!(run.restored_epoch(), Some(1), "{damage} {kind}");
            let is_told = !run.restored.as_ref().expect("restored").passed_over.is_empty();
            // Nobody can know of a manifest that is not there.
            assert_eq!(is_told, (damage, kind) != ("missing", "manifest"), "{damage} {kind}");
            assert_eq!(state(&disk, Some(1)), before);
            // Its epoch comes again, under the name of the damaged one.
            assert_eq!(run.epoch().expect("the name is free").epoch, 2);
            let again = open(&disk, &query, "3", Marker::Manifest).expect("whole");
            assert_eq!(again.restored_epoch(), Some(2), "{damage} {kind}");
        }
    }
}

#[test]
fn f21_a_zombie_publishes_nothing_once_another_run_has_taken_over() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut first = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    first.epoch().expect("nobody else is there");
    let mut second = open(&disk, &query, "2", Marker::Manifest).expect("the first is a zombie");
    let before = disk.list("").expect("the root is there");
    let error = first.epoch().expect_err("it was fenced");
    assert_eq!(error.exit_code(), 69, "{error}");
    assert!(error.to_string().contains("taken over"), "{error}");
    assert_eq!(disk.list("").expect("the root is there"), before, "a zombie touches nothing");
    first.epochs.journal().expect("it has one").collect_garbage();
    assert_eq!(disk.list("").expect("the root is there"), before, "nor does it clean up");
    assert_eq!(second.epoch().expect("it owns the directory").epoch, 1);
}

/// A disk on which something else happens just before a manifest is published.
struct Stalled {
    disk: MemoryStorage,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Storage for Stalled {
    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name.starts_with("manifest-")
            && let Some(meanwhile) = self.meanwhile.lock().expect("no holder panics").take()
        {
            meanwhile();
        }
        self.disk.publish(name, bytes)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>> {
        self.disk.create(name)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn location(&self) -> String {
        self.disk.location()
    }
}

/// The zombie had looked at the fences; its epoch's name was given to another, collected, and is free
/// again when it wakes up. It must not take that for its commit: outputs would follow.
#[test]
fn f21_a_zombie_that_wins_a_name_which_was_collected_has_not_committed() {
    let (query, disk) = (update(), MemoryStorage::new());
    let later = {
        let (query, disk) = (Arc::clone(&query), disk.clone());
        move || {
            let mut second = open(&disk, &query, "2", Marker::Manifest).expect("nobody published");
            (0..4).for_each(|_| _ = second.epoch().expect("it owns the directory"));
            assert_eq!(names(&disk, "manifest-").len(), 2, "epoch 0 was collected");
        }
    };
    let stalled = Stalled { disk: disk.clone(), meanwhile: Mutex::new(Some(Box::new(later))) };
    let journal =
        Journal::open(Arc::new(stalled), "job", &query, "1".into()).expect("an empty disk");
    let errors = (OnError::DeadLetter, &[][..]);
    let (epochs, restored) =
        Epochs::open(Arc::clone(&query), 1, Some(journal), errors).expect("an empty disk");
    let pipeline = Pipeline::new(Arc::clone(&query.scans[0].plan), OnError::Skip);
    let mut first = Run { epochs, pipeline, restored };
    let error = first.epoch().expect_err("it was fenced while it slept");
    assert_eq!(error.exit_code(), 69, "{error}");
    let mut third = open(&disk, &query, "3", Marker::Manifest).expect("whole");
    assert_eq!(third.restored_epoch(), Some(3));
    third.epoch().expect("it owns the directory");
    assert_eq!(names(&disk, "manifest-").len(), 2, "the zombie's went with the garbage");
}

/// The zombie looked at the fences just before the other run came.
#[test]
fn f21_one_epoch_is_published_once_even_if_both_runs_believe_to_own_it() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut first = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    let mut second = open(&disk, &query, "2", Marker::Manifest).expect("an empty disk");
    // As if the first had come after the second, and the second had not seen it.
    first.epochs.journal().expect("it has one").fence = 9;
    first.epoch().expect("it owns the directory");
    let error = second.epoch().expect_err("epoch 0 is there");
    assert!(error.to_string().contains("another process has published"), "{error}");
    let third = open(&disk, &query, "3", Marker::Manifest).expect("whole");
    assert_eq!(third.restored_epoch(), Some(0));
}

#[test]
fn an_outputs_commit_decides_which_prepared_checkpoint_counts() {
    let query = update();
    let marker = |committed| Marker::Output { name: "out".into(), committed };
    for commits in [false, true] {
        let disk = MemoryStorage::new();
        let mut run = open(&disk, &query, "1", marker(None)).expect("an empty disk");
        let finished = run.finish();
        let journal = run.epochs.journal().expect("it has one");
        let prepared = finished.prepare(journal, BTreeMap::new()).expect("nothing fails");
        let committed = journal.confirm(&prepared).expect("nothing fails");
        assert_eq!(committed, prepared.committed());
        let finished = run.finish();
        let journal = run.epochs.journal().expect("it has one");
        let prepared = finished.prepare(journal, BTreeMap::new()).expect("nothing fails");
        // Killed before it knew the outcome; the output knows.
        let last = if commits { prepared.committed() } else { committed };
        let run = open(&disk, &query, "2", marker(Some(last.clone()))).expect("it is prepared");
        assert_eq!(run.restored.expect("restored").committed, last);
        assert_eq!(names(&disk, "manifest").len(), 1 + usize::from(commits));
        // The output has committed something that is not here.
        let foreign = Committed { epoch: 5, manifest_hash: 7 };
        let error = open(&disk, &query, "3", marker(Some(foreign))).err().expect("nothing fits");
        assert_eq!(error.exit_code(), 74);
    }
}

#[test]
fn an_epoch_whose_delta_was_written_in_parts_is_restored_whole() {
    // Windows close as soon as their time is over.
    let query = query(0, OutputMode::Update);
    let (whole, parts) = (MemoryStorage::new(), MemoryStorage::new());
    let mut quiet = open(&whole, &query, "1", Marker::Manifest).expect("an empty disk");
    let mut run = open(&parts, &query, "1", Marker::Manifest).expect("an empty disk");
    for epoch in 0..5 {
        quiet.epoch().expect("nothing fails");
        let rows = rows(epoch);
        rows[..4].chunks(2).for_each(|part| run.absorb(part));
        if epoch == 3 {
            // Killed with parts that no manifest names: they go with the next epoch's garbage.
            run = open(&parts, &query, "2", Marker::Manifest).expect("whole");
            rows[..4].chunks(2).for_each(|part| run.absorb(part));
        }
        let rest = run.input(&rows[4..]);
        let finished = run.epochs.finish(rest, &OneByOne).expect("good rows");
        finished.commit(run.epochs.journal(), BTreeMap::new()).expect("nothing fails");
        run.epochs.journal().expect("it has one").collect_garbage();
        assert_eq!(state(&parts, None), state(&whole, None), "epoch {epoch}");
        let again = open(&parts, &query, "3", Marker::Manifest).expect("whole");
        let right = open(&whole, &query, "3", Marker::Manifest).expect("whole");
        assert_eq!(again.epochs.table().expect("values"), right.epochs.table().expect("values"));
        for disk in [&parts, &whole] {
            names(disk, "fence-").iter().skip(1).for_each(|name| disk.remove(name).expect("there"));
        }
    }
    let named = inspect::find(&parts, None).expect("whole").manifest.files.len();
    assert_eq!(names(&parts, "delta-").len(), named);
    assert!(named > names(&whole, "delta-").len(), "it was written in parts");
}

/// Epochs until there are enough deltas for a base.
fn until_a_base_is_due(run: &mut Run, query: &Arc<Query>) -> Compaction {
    loop {
        run.epoch().expect("nothing fails");
        assert!(run.epochs.next() < 100, "a base is due after 64 deltas");
        let journal = run.epochs.journal().expect("it has one");
        if let Some(work) = journal.compaction(query, DELTAS_MAX) {
            return work;
        }
    }
}

/// A manifest may be published though its publication failed. Repeating the commit wrote the delta anew under
/// its name, and whoever was killed then left a manifest that names a torn file (simulated, seed 201573).
#[test]
fn f50_a_commit_that_is_repeated_touches_nothing_that_may_be_named() {
    let query = update();
    let mut repeated = 0;
    for (skip, killed_at) in (0..30).flat_map(|skip| (0..12).map(move |at| (skip, at))) {
        let disk = MemoryStorage::new();
        let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
        run.epoch().expect("nothing fails");
        let finished = run.finish();
        disk.fail_once(skip, 28);
        if finished.commit(run.epochs.journal(), BTreeMap::new()).is_ok() {
            continue;
        }
        repeated += 1;
        disk.fail_from(killed_at, 5);
        let done = finished.commit(run.epochs.journal(), BTreeMap::new()).is_ok();
        disk.repair();
        let next = open(&disk, &query, "2", Marker::Manifest).expect("a checkpoint is whole");
        let restored = next.restored.expect("there is one");
        assert_eq!(restored.passed_over, [""; 0], "{skip}, then {killed_at}");
        assert!(restored.committed.epoch >= u64::from(done));
    }
    assert!(repeated > 100, "{repeated} commits were repeated");
}

/// Simulated, seed 1063106: a later run's base took the deltas away that the earlier one's is made of.
#[test]
fn f21_a_zombie_whose_base_finds_its_files_gone_says_who_has_taken_over() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut first = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    let work = until_a_base_is_due(&mut first, &query);
    let mut second = open(&disk, &query, "2", Marker::Manifest).expect("whole");
    let base = until_a_base_is_due(&mut second, &query).run(None);
    second.epochs.journal().expect("it has one").adopt(base).expect("it was made");
    (0..3).for_each(|_| second.epoch().map(drop).expect("it owns the directory"));
    let made = work.run(None);
    assert_eq!(made.as_ref().err().map(Error::exit_code), Some(74), "its deltas are gone");
    let error = first.epochs.journal().expect("it has one").adopt(made).expect_err("fenced");
    assert_eq!(error.exit_code(), 69, "{error}");
}

/// A base is named after the newest epoch in it: another one of the same rows would take its place, and
/// for a moment there would be neither (simulated, seed 1071567).
#[test]
fn f52_a_base_to_which_nothing_came_stays_as_it_is() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    let base = until_a_base_is_due(&mut run, &query).run(None);
    run.epochs.journal().expect("it has one").adopt(base).expect("it was made");
    let nothing = run.input(&[]);
    let finished = run.epochs.finish(nothing, &OneByOne).expect("good rows");
    finished.commit(run.epochs.journal(), BTreeMap::new()).expect("nothing fails");
    let files = inspect::find(&disk, None).expect("whole").manifest.files;
    assert!(files.iter().all(|file| file.kind == StateKind::Base), "{files:?}");
    let operations = disk.operations();
    let again = run.epochs.journal().expect("it has one").compaction(&query, 0);
    let again = again.expect("it is asked for").run(None).expect("nothing fails");
    assert_eq!(again.0, files);
    assert_eq!(disk.operations(), operations, "no file was touched");
}

#[test]
fn f52_a_base_in_the_making_is_not_collected_and_stands_for_its_deltas() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    let work = until_a_base_is_due(&mut run, &query);
    assert!(
        run.epochs.journal().expect("it has one").compaction(&query, DELTAS_MAX).is_none(),
        "one at a time"
    );
    let base = work.run(None).expect("nothing fails");
    // It ended while an epoch was on its way, whose collection of garbage comes first.
    run.epoch().expect("nothing fails");
    run.epochs.journal().expect("it has one").adopt(Ok(base)).expect("it was made");
    for _ in 0..3 {
        run.epoch().expect("nothing fails");
    }
    let kept = inspect::find(&disk, None).expect("whole").manifest;
    assert_eq!(kept.files[0].kind, StateKind::Base);
    assert_eq!(kept.files.len(), 5, "{:?}", kept.files);
    assert!(inspect::faults(&disk, &kept).is_empty());
    // Two manifests, and nothing that neither names: files, manifests, fence.
    assert_eq!(disk.list("").expect("the root is there").len(), 5 + 2 + 1);
    let plain = MemoryStorage::new();
    let mut quiet = open(&plain, &query, "1", Marker::Manifest).expect("an empty disk");
    for _ in 0..=kept.epoch {
        quiet.epoch().expect("nothing fails");
        // Never compacted.
        quiet.epochs.journal().expect("it has one").give_up_compaction();
    }
    assert_eq!(state(&disk, None), state(&plain, None), "the same merge");
}

#[test]
fn f57_a_manifest_of_a_newer_format_is_never_passed_over() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    run.epoch().expect("nothing fails");
    let kept = inspect::find(&disk, None).expect("whole").manifest;
    let newer = Manifest { format: manifest::FORMAT + 1, epoch: 7, ..kept };
    write_new(&disk, &manifest::file_name(7), &newer.to_bytes()).expect("nothing fails");
    let error = open(&disk, &query, "2", Marker::Manifest).err().expect("it is newer");
    assert_eq!(error.exit_code(), 74);
    assert!(error.to_string().contains("has format 3"), "{error}");
}

#[test]
fn f57_a_state_file_of_a_newer_format_is_refused_by_name() {
    for (format, fault) in [("2", None), ("3", Some("has format")), ("two", Some("has format"))] {
        let metadata = HashMap::from([("pelton.format".to_owned(), format.to_owned())]);
        let schema =
            Schema::new_with_metadata(vec![Field::new("k", DataType::Int64, true)], metadata);
        let mut writer = FileWriter::try_new(Vec::new(), &schema).expect("a schema");
        writer.write(&RecordBatch::new_empty(schema.into())).expect("memory takes it");
        let read = ipc::read(writer.into_inner().expect("memory takes it"));
        let told = read.err().map(|error| error.to_string());
        match fault {
            None => assert_eq!(told, None),
            Some(fault) => assert!(told.expect("it is newer").contains(fault), "{format}"),
        }
    }
}

#[test]
fn an_epoch_can_be_dropped_if_it_is_not_the_newest() {
    let (query, disk) = (update(), MemoryStorage::new());
    let mut run = open(&disk, &query, "1", Marker::Manifest).expect("an empty disk");
    (0..3).for_each(|_| _ = run.epoch().expect("nothing fails"));
    assert!(inspect::drop_epoch(&disk, 2).is_err(), "the newest");
    assert!(inspect::drop_epoch(&disk, 0).is_err(), "collected long ago");
    let gone = inspect::drop_epoch(&disk, 1).expect("it is the older");
    assert_eq!(gone, [manifest::file_name(1)], "its deltas are named by the newest");
    assert!(inspect::drop_epoch(&disk, 2).is_err(), "the last one");
    assert!(
        inspect::faults(&disk, &inspect::find(&disk, None).expect("there").manifest).is_empty()
    );
}
