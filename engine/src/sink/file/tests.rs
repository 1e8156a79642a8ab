use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::UInt32Type;
use arrow::ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use twox_hash::XxHash3_128;

use super::*;
use crate::batch::{DeadLetter, Position};
use crate::job::spec::Place;
use crate::storage::MemoryStorage;
use crate::storage::memory::Crash;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const CSV: FileFormat = FileFormat::Csv { header: true };
const EPOCHS: u64 = 4;
/// An epoch in which nothing leaves.
const EMPTY: u64 = 2;

/// Rows of an epoch, in the two pieces in which they are staged.
fn pieces(epoch: u64) -> Vec<RecordBatch> {
    if epoch == EMPTY {
        return vec![rows(epoch, 0)];
    }
    vec![rows(epoch, 3), rows(epoch + 100, 2)]
}

fn rows(seed: u64, count: i64) -> RecordBatch {
    let seed = seed as i64;
    let ids = (0..count).map(|row| seed * 10 + row);
    let keys: DictionaryArray<UInt32Type> =
        (0..count).map(|row| ["a,b", "c"][(row % 2) as usize]).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("key", Arc::new(keys)),
        ("mean", Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| id as f64 / 4.0)))),
        (
            "ts",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(ids.map(|id| id * 1_000_000))
                    .with_timezone("UTC"),
            ),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn sink(storage: &MemoryStorage, format: FileFormat) -> FileSink {
    FileSink::new(Arc::new(storage.clone()), format, "run".to_owned())
}

/// The checkpoints of the job, in a directory of the same disk.
fn newest_manifest(storage: &MemoryStorage) -> io::Result<Option<Restored>> {
    // One that is only seen could be lost again after its epoch was published.
    storage.sync_dir("ckpt")?;
    let Some(name) = storage.list("ckpt")?.into_iter().filter(|n| n.ends_with(".json")).max()
    else {
        return Ok(None);
    };
    let bytes = storage.read(&format!("ckpt/{name}"))?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes)?;
    let epoch = manifest["epoch"].as_u64().unwrap();
    let checkpoint = Committed { epoch, manifest_hash: XxHash3_128::oneshot(&bytes) };
    Ok(Some(Restored { checkpoint, staged: Staged(manifest["staged"].clone()) }))
}

fn publish_manifest(storage: &MemoryStorage, epoch: u64, staged: &Staged) -> Result<Committed> {
    let bytes = json!({"epoch": epoch, "staged": staged}).to_string().into_bytes();
    write_durably(storage, &format!("ckpt/manifest-{epoch}.json"), &bytes)
        .map_err(|source| Error::StateIo { what: "manifest".to_owned(), source })?;
    Ok(Committed { epoch, manifest_hash: XxHash3_128::oneshot(&bytes) })
}

/// One life of a job: restores, goes on to its last epoch, ends at the first error.
fn live(storage: &MemoryStorage, format: FileFormat) -> Result<()> {
    let io = |source| Error::StateIo { what: "checkpoints".to_owned(), source };
    storage.create_dir_all("ckpt").map_err(io)?;
    let restored = newest_manifest(storage).map_err(io)?;
    let mut sink = sink(storage, format);
    sink.open(restored.as_ref())?;
    let first = restored.map_or(0, |restored| restored.checkpoint.epoch + 1);
    for epoch in first..EPOCHS {
        let staged = stage_all(&mut sink, epoch)?;
        let checkpoint = publish_manifest(storage, epoch, &staged)?;
        assert_eq!(sink.commit(&checkpoint)?, Outcome::Committed);
    }
    Ok(())
}

/// Names and bytes of the files that readers take.
fn visible(storage: &MemoryStorage) -> BTreeMap<String, Vec<u8>> {
    let names = storage.list("").unwrap();
    names.into_iter().map(|name| (name.clone(), storage.read(&name).unwrap())).collect()
}

/// What a life without faults leaves.
fn expected(format: FileFormat) -> BTreeMap<String, Vec<u8>> {
    let storage = MemoryStorage::new();
    live(&storage, format).unwrap();
    let files = visible(&storage);
    assert_eq!(files.len() as u64, EPOCHS - 1);
    files
}

/// Only whole epochs are visible, and none before its checkpoint.
fn check_after_crash(storage: &MemoryStorage, expected: &BTreeMap<String, Vec<u8>>, at: &str) {
    storage.create_dir_all("ckpt").unwrap();
    let committed = newest_manifest(storage).unwrap().map(|restored| restored.checkpoint.epoch);
    for (name, bytes) in visible(storage) {
        assert_eq!(Some(&bytes), expected.get(&name), "{at}: {name} is not whole");
        let epoch: u64 = name[6..12].parse().unwrap();
        assert!(Some(epoch) <= committed, "{at}: {name} before its checkpoint");
    }
}

/// The committed epochs are visible once and whole, their marks tell the truth, nothing is left but
/// marks that a killed process did not come to name: they go with the next commit.
fn check_end(storage: &MemoryStorage, expected: &BTreeMap<String, Vec<u8>>, at: &str) {
    assert_eq!(&visible(storage), expected, "{at}");
    assert_eq!(storage.list(STAGING).unwrap(), [""; 0], "{at}");
    let mut marked = Vec::new();
    let marks = storage.list(LEDGER).unwrap();
    for name in marks.into_iter().filter(|name| !name.ends_with(".tmp")) {
        let bytes = storage.read(&format!("{LEDGER}/{name}")).unwrap();
        let mark: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(name, format!("epoch-{:06}.json", mark["epoch"].as_u64().unwrap()));
        for file in mark["files"].as_array().unwrap() {
            let name = file["name"].as_str().unwrap();
            let bytes = &expected[name];
            assert_eq!(file["length"], bytes.len(), "{at}");
            let hash = format!("{:032x}", XxHash3_128::oneshot(bytes));
            assert_eq!(file["xxh3_128"], hash, "{at}");
            marked.push(name.to_owned());
        }
    }
    assert!(marked.iter().eq(expected.keys()), "{at}: {marked:?}");
}

const CRASHES: [Crash; 3] = [Crash::Synced, Crash::Names, Crash::Everything];

#[test]
fn f54_killed_after_any_operation_each_epoch_appears_once_and_whole() {
    for format in [CSV, FileFormat::Json, FileFormat::Parquet, FileFormat::Arrow] {
        let expected = expected(format);
        for left in CRASHES {
            for operations in 0.. {
                let at = format!("{format:?}, {left:?} after {operations} operations");
                let storage = MemoryStorage::new();
                storage.fail_from(operations, EIO);
                let ended = live(&storage, format).is_ok();
                storage.crash(left);
                check_after_crash(&storage, &expected, &at);
                live(&storage, format).unwrap_or_else(|error| panic!("{at}: {error}"));
                check_end(&storage, &expected, &at);
                // All of it is durable; at most a staging name comes back, and goes with `open`.
                storage.crash(Crash::Synced);
                live(&storage, format).unwrap();
                check_end(&storage, &expected, &at);
                if ended {
                    assert!(operations > 40, "the faults reached the end of the job");
                    break;
                }
            }
        }
    }
}

#[test]
fn f54_killed_again_while_it_recovers() {
    let expected = expected(CSV);
    let crashes =
        CRASHES.iter().flat_map(|first| CRASHES.iter().map(move |second| (first, second)));
    for (&first_left, &second_left) in crashes {
        for first in 0.. {
            let mut ended = false;
            for second in 0..24 {
                let at = format!("{first_left:?} after {first}, {second_left:?} after {second}");
                let storage = MemoryStorage::new();
                storage.fail_from(first, EIO);
                ended = live(&storage, CSV).is_ok();
                storage.crash(first_left);
                storage.fail_from(second, EIO);
                let _ = live(&storage, CSV);
                storage.crash(second_left);
                check_after_crash(&storage, &expected, &at);
                live(&storage, CSV).unwrap_or_else(|error| panic!("{at}: {error}"));
                check_end(&storage, &expected, &at);
            }
            if ended {
                break;
            }
        }
    }
}

fn stage_all(sink: &mut FileSink, epoch: u64) -> Result<Staged> {
    for piece in pieces(epoch) {
        sink.stage(epoch, &piece)?;
    }
    sink.seal(epoch)
}

/// A job that pauses at each error and then does the same again; nothing crashes.
fn live_patiently(storage: &MemoryStorage, errors: &mut u32) {
    let mut again = |result: Result<()>| match result {
        Ok(()) => true,
        Err(Error::StateIo { .. } | Error::Unavailable { .. }) => {
            *errors += 1;
            assert!(*errors < 10, "the same call fails for ever");
            false
        }
        Err(other) => panic!("{other}"),
    };
    while !again(
        storage
            .create_dir_all("ckpt")
            .map_err(|source| Error::StateIo { what: "checkpoints".to_owned(), source }),
    ) {}
    let mut sink = sink(storage, CSV);
    while !again(sink.open(None).map(drop)) {}
    for epoch in 0..EPOCHS {
        let mut staged = None;
        while !again(stage_all(&mut sink, epoch).map(|sealed| staged = Some(sealed))) {
            sink.discard().unwrap();
        }
        let mut checkpoint = None;
        while !again(publish_manifest(storage, epoch, staged.as_ref().unwrap()).map(|published| {
            checkpoint = Some(published);
        })) {}
        while !again(sink.commit(checkpoint.as_ref().unwrap()).map(drop)) {}
    }
}

#[test]
fn f49_f50_any_single_failed_operation_is_survived_by_doing_it_again() {
    let expected = expected(CSV);
    for errno in [EIO, ENOSPC] {
        for operations in 0.. {
            let at = format!("errno {errno} at operation {operations}");
            let storage = MemoryStorage::new();
            storage.fail_once(operations, errno);
            let mut errors = 0;
            live_patiently(&storage, &mut errors);
            let reached = storage.operations() > operations;
            storage.repair();
            assert_eq!(visible(&storage), expected, "{at}");
            let restored = newest_manifest(&storage).unwrap();
            storage.crash(Crash::Synced);
            assert_eq!(newest_manifest(&storage).unwrap(), restored, "{at}");
            // A staging file that could not be removed goes now.
            sink(&storage, CSV).open(restored.as_ref()).unwrap();
            check_end(&storage, &expected, &at);
            if !reached {
                assert!(errors == 0 && operations > 40, "the faults reached the end of the job");
                break;
            }
        }
    }
}

#[test]
fn f50_a_full_disk_takes_the_epoch_again_once_there_is_room() {
    for format in [CSV, FileFormat::Json, FileFormat::Parquet, FileFormat::Arrow] {
        let storage = MemoryStorage::new();
        let mut sink = sink(&storage, format);
        sink.open(None).unwrap();
        storage.set_capacity(Some(100));
        for _ in 0..3 {
            let source = match stage_all(&mut sink, 0) {
                Err(Error::StateIo { source, .. }) => source,
                other => panic!("{format:?}: the disk is full, but {other:?}"),
            };
            assert_eq!(source.raw_os_error(), Some(ENOSPC));
            // Without discard nothing may pass as if the lost rows were there.
            assert!(sink.stage(0, &rows(7, 1)).is_err() && sink.seal(0).is_err());
            sink.discard().unwrap();
            assert_eq!(storage.list(STAGING).unwrap(), [""; 0], "the room is given back");
        }
        storage.set_capacity(None);
        stage_all(&mut sink, 0).unwrap();
        sink.commit(&Committed { epoch: 0, manifest_hash: 1 }).unwrap();
        assert_eq!(visible(&storage).into_iter().next(), expected(format).into_iter().next());
    }
}

#[test]
fn f51_f52_a_staged_file_that_rots_or_goes_between_a_crash_and_its_publication_is_missed() {
    for damage in ["flip", "remove"] {
        let storage = MemoryStorage::new();
        storage.create_dir_all("ckpt").unwrap();
        let mut crashed = sink(&storage, CSV);
        crashed.open(None).unwrap();
        crashed.stage(0, &rows(0, 3)).unwrap();
        let staged = crashed.seal(0).unwrap();
        publish_manifest(&storage, 0, &staged).unwrap();
        storage.crash(Crash::Synced);
        let name = format!("{STAGING}/{}", storage.list(STAGING).unwrap()[0]);
        match damage {
            "flip" => storage.flip_bit(&name, 5, 3).unwrap(),
            _ => storage.remove(&name).unwrap(),
        }
        let restored = newest_manifest(&storage).unwrap();
        let error = sink(&storage, CSV).open(restored.as_ref()).unwrap_err();
        assert!(matches!(error, Error::StateIo { .. }), "{damage}: {error}");
        assert!(error.to_string().contains("epoch-000000-0.csv"), "{damage}: {error}");
        assert_eq!(visible(&storage), BTreeMap::new());
    }
}

fn mark(epoch: u64, manifest: u128) -> Mark {
    Mark::from(&Committed { epoch, manifest_hash: manifest })
}

/// What `decide` says of a directory that stands at `last` with `files`, and a checkpoint
/// `(epoch, hash, after, files)`; `None`: refused.
#[track_caller]
fn check_decision(
    last: Option<Mark>,
    files: &[u64],
    restored: Option<(u64, u128, Option<Mark>, &[u64])>,
    expected: Option<&str>,
) {
    let output = |epoch: &u64| OutputFile {
        name: ledger::file_name(*epoch, CSV),
        staged: "s".to_owned(),
        rows: 1,
        length: 1,
        xxh3_128: 0.into(),
    };
    let found = ledger::Contents {
        last,
        files: files.iter().map(|epoch| (*epoch, ledger::file_name(*epoch, CSV))).collect(),
        unfinished: Vec::new(),
    };
    let restored = restored.map(|(epoch, manifest_hash, after, files)| {
        let files = files.iter().map(output).collect();
        let sealed = Sealed { format: ledger::FORMAT, after, files };
        Restored {
            checkpoint: Committed { epoch, manifest_hash },
            staged: Staged(serde_json::to_value(sealed).unwrap()),
        }
    });
    let decision = match ledger::decide(&found, restored.as_ref()) {
        Ok(Decision::Continue { .. }) => Some("continue"),
        Ok(Decision::Publish { .. }) => Some("publish"),
        Err(_) => None,
    };
    assert_eq!(decision, expected);
}

#[test]
fn a_directory_is_continued_only_from_its_own_checkpoint() {
    let go_on = Some("continue");
    // A new job.
    check_decision(None, &[], None, go_on);
    check_decision(Some(mark(3, 7)), &[3], None, None);
    check_decision(None, &[0], None, None);
    // A checkpoint of the same epoch.
    check_decision(Some(mark(3, 7)), &[1, 3], Some((3, 7, Some(mark(1, 5)), &[3])), go_on);
    check_decision(Some(mark(3, 8)), &[1, 3], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    // Consumers may take files away.
    check_decision(Some(mark(3, 7)), &[], Some((3, 7, Some(mark(1, 5)), &[3])), go_on);
    // A checkpoint one step ahead.
    check_decision(Some(mark(1, 5)), &[1], Some((3, 7, Some(mark(1, 5)), &[3])), Some("publish"));
    check_decision(
        Some(mark(1, 5)),
        &[1, 3],
        Some((3, 7, Some(mark(1, 5)), &[3])),
        Some("publish"),
    );
    check_decision(None, &[], Some((0, 7, None, &[0])), Some("publish"));
    check_decision(Some(mark(1, 5)), &[1], Some((9, 7, Some(mark(1, 5)), &[])), go_on);
    check_decision(None, &[], Some((9, 7, None, &[])), go_on);
    // One that is too far away, on either side.
    check_decision(Some(mark(0, 4)), &[0], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    check_decision(Some(mark(1, 6)), &[1], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    check_decision(Some(mark(4, 9)), &[4], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    check_decision(None, &[], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    // A file that nobody knows of would be written over.
    check_decision(Some(mark(1, 5)), &[1, 4], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    check_decision(Some(mark(3, 7)), &[4], Some((3, 7, Some(mark(1, 5)), &[3])), None);
    check_decision(None, &[0], Some((9, 7, None, &[])), None);
}

#[test]
fn a_sink_that_is_new_in_a_job_takes_an_empty_directory_and_no_other() {
    let storage = MemoryStorage::new();
    let restored = Restored {
        checkpoint: Committed { epoch: 7, manifest_hash: 1 },
        staged: Staged::default(),
    };
    let mut fresh = sink(&storage, CSV);
    assert_eq!(fresh.open(Some(&restored)).unwrap(), None);
    fresh.stage(8, &rows(8, 1)).unwrap();
    fresh.seal(8).unwrap();
    fresh.commit(&Committed { epoch: 8, manifest_hash: 2 }).unwrap();
    let error = sink(&storage, CSV).open(Some(&restored)).unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("another run"), "{error}");
}

#[test]
fn open_tells_the_last_epoch_and_its_checkpoint() {
    let storage = MemoryStorage::new();
    live(&storage, CSV).unwrap();
    let restored = newest_manifest(&storage).unwrap();
    let last = sink(&storage, CSV).open(restored.as_ref()).unwrap();
    assert_eq!(last, restored.map(|restored| restored.checkpoint));
}

#[test]
fn rows_come_back_from_each_format() {
    let dir = tempfile::tempdir().unwrap();
    let staged = pieces(0);
    let plain: Vec<RecordBatch> = staged
        .iter()
        .map(|batch| {
            let mut columns = batch.columns().to_vec();
            columns[1] =
                arrow::compute::cast(&columns[1], &arrow::datatypes::DataType::Utf8).unwrap();
            let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
            RecordBatch::try_from_iter(names.zip(columns)).unwrap()
        })
        .collect();
    let whole = concat_batches(plain[0].schema_ref(), &plain).unwrap();
    for format in [
        CSV,
        FileFormat::Csv { header: false },
        FileFormat::Json,
        FileFormat::Parquet,
        FileFormat::Arrow,
    ] {
        let path = dir.path().join(format!("{format:?}"));
        let mut sink = FileSink::at(&path, format, "run".to_owned()).unwrap();
        sink.open(None).unwrap();
        staged.iter().for_each(|batch| sink.stage(0, batch).unwrap());
        sink.seal(0).unwrap();
        sink.commit(&Committed { epoch: 0, manifest_hash: 1 }).unwrap();
        let file = path.join(ledger::file_name(0, format));
        let lines = || std::fs::read_to_string(&file).unwrap();
        match format {
            FileFormat::Csv { header } => {
                let found = lines();
                let (first, rest) = if header {
                    found.split_once('\n').unwrap()
                } else {
                    ("id,key,mean,ts", found.as_str())
                };
                assert_eq!(first, "id,key,mean,ts");
                assert!(rest.starts_with(
                    "0,\"a,b\",0.0,1970-01-01T00:00:00Z\n1,c,0.25,1970-01-01T00:00:01Z\n"
                ));
                assert_eq!(rest.lines().count(), 5);
            }
            FileFormat::Json => {
                let found = lines();
                assert!(
                    found.starts_with(
                        r#"{"id":0,"key":"a,b","mean":0.0,"ts":"1970-01-01T00:00:00Z"}"#
                    )
                );
                assert_eq!(found.lines().count(), 5);
            }
            FileFormat::Parquet => {
                let file = std::fs::File::open(file).unwrap();
                let reader =
                    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
                let found: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
                assert_eq!(concat_batches(whole.schema_ref(), &found).unwrap(), whole);
            }
            FileFormat::Arrow => {
                let file = std::fs::File::open(file).unwrap();
                let found: Vec<RecordBatch> =
                    FileReader::try_new(file, None).unwrap().map(|batch| batch.unwrap()).collect();
                assert_eq!(concat_batches(whole.schema_ref(), &found).unwrap(), whole);
            }
        }
    }
}

#[test]
fn dead_letters_are_published_with_their_epoch_as_readable_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = dead_letter::default_sink(
        Some(&Place::Directory(dir.path().into())),
        "run".to_owned(),
        Box::new(std::io::sink()),
    )
    .unwrap();
    sink.open(None).unwrap();
    let letter = DeadLetter {
        raw: b"1,x".to_vec(),
        name: "in.csv".into(),
        position: Position { split: 0, major: 0, minor: 12 },
        line: 2,
        column: Some("price".into()),
        reason: "expected DOUBLE, found \"x\"".to_owned(),
    };
    sink.stage(5, &dead_letter::dead_letters(&[letter])).unwrap();
    sink.seal(5).unwrap();
    let file = dir.path().join("dead_letters/epoch-000005-0.json");
    assert!(!file.exists(), "not before the checkpoint");
    sink.commit(&Committed { epoch: 5, manifest_hash: 1 }).unwrap();
    let line = std::fs::read_to_string(file).unwrap();
    let expected = concat!(
        r#"{"raw":"1,x","source":"in.csv","split":0,"major":0,"minor":12,"line":2,"#,
        r#""column":"price","reason":"expected DOUBLE, found \"x\""}"#,
        "\n"
    );
    assert_eq!(line, expected);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let path = dir.path().join("file/out");
    let error = FileSink::at(&path, CSV, "run".to_owned()).err().unwrap();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("file/out"), "{error}");
}
