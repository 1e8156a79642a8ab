//! The log over a disk that fails at every operation, and over one whose bits rot.

use crate::storage::memory::Crash;
use crate::storage::{MemoryStorage, Storage};

use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn open(disk: &MemoryStorage, from: u64) -> Result<(Log, Replay)> {
    Log::open(Arc::new(disk.clone()), from)
}

/// `kind peer@offset:payload` of every record from a position on.
fn contents(disk: &MemoryStorage, from: u64) -> Result<Vec<String>> {
    let (_, mut replay) = open(disk, from)?;
    let mut all = Vec::new();
    while let Some(Replayed { kind, peer, offset, payload, .. }) = replay.advance()? {
        let text = String::from_utf8_lossy(payload);
        all.push(format!("{kind:?} {peer}@{offset}:{text}"));
    }
    assert_eq!(replay.position(), replay.end());
    Ok(all)
}

fn row(i: u64) -> String {
    format!("row {i} {}\n", "x".repeat(i as usize % 7))
}

fn rows(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| format!("Data 0@{i}:{}", row(i))).collect()
}

#[test]
fn records_come_back_in_their_order_from_any_of_their_places() {
    let disk = MemoryStorage::new();
    let (mut log, replay) = open(&disk, 0).expect("an empty disk");
    assert_eq!((replay.end(), replay.peers()), (0, 0));
    log.append(Kind::Open, 4, 0, b"peer");
    let second = log.append(Kind::Data, 4, 0, b"a\n");
    log.sync().expect("nothing fails");
    log.append(Kind::Close, 4, 2, b"");
    log.sync().expect("nothing fails");
    let end = log.durable();
    drop(log);
    let all = ["Open 4@0:peer", "Data 4@0:a\n", "Close 4@2:"];
    assert_eq!(contents(&disk, 0).expect("whole"), all);
    assert_eq!(contents(&disk, second).expect("whole"), all[1..]);
    assert_eq!(contents(&disk, end).expect("whole"), [""; 0]);
    assert!(contents(&disk, end + 1).is_err(), "the checkpoint has seen more than is here");
    assert!(contents(&disk, second + 1).is_err(), "no record begins there");
    assert_eq!(open(&disk, 0).expect("whole").1.peers(), 5);
}

/// F51: what opening refuses `check` refuses, wherever a bit rots, and it leaves all as it is.
#[test]
fn f51_a_check_sees_what_opening_sees_and_writes_nothing() {
    let written = || {
        let disk = MemoryStorage::new();
        let (mut log, _) = open(&disk, 0).expect("an empty disk");
        for i in 0..6 {
            log.append(Kind::Data, 0, i, row(i).as_bytes());
            log.sync().expect("nothing fails");
        }
        disk
    };
    let disk = written();
    let name = disk.list("").expect("the root").pop().expect("a segment");
    let bytes = disk.read(&name).expect("it was listed");
    let before = disk.operations();
    let all = check(Arc::new(disk.clone()), 0).expect("it is whole");
    assert_eq!((all.segments, all.records), (1, 6));
    assert_eq!(disk.read(&name).expect("it is there"), bytes);
    assert!(disk.operations() - before <= 4, "it lists and reads");
    let mut refused = 0;
    for byte in 0..bytes.len() {
        let disk = written();
        disk.flip_bit(&name, byte, 3).expect("within the file");
        let checked = check(Arc::new(disk.clone()), 0);
        refused += usize::from(checked.is_err());
        match (checked, contents(&disk, 0)) {
            (Ok(checked), Ok(contents)) => assert_eq!(checked.records, contents.len() as u64),
            (Err(checked), Err(opened)) => assert_eq!(checked.to_string(), opened.to_string()),
            (checked, opened) => panic!("byte {byte}: {checked:?}, {opened:?}"),
        }
    }
    assert!(refused > bytes.len() / 2, "all but the last group and the head: {refused}");
}

/// Whatever was killed where: what `sync` returned `Ok` for is there, once, and nothing of it twice.
#[test]
fn f48_f49_f50_what_was_acknowledged_is_there_once_after_any_fault() {
    for left in [Crash::Synced, Crash::Names, Crash::Everything] {
        for (errno, forever) in [(EIO, true), (EIO, false), (ENOSPC, false)] {
            for skip in 0..60 {
                let disk = MemoryStorage::new();
                let (mut log, _) = open(&disk, 0).expect("an empty disk");
                if forever {
                    disk.fail_from(skip, errno);
                } else {
                    disk.fail_once(skip, errno);
                }
                let mut acknowledged = 0;
                for i in 0..12 {
                    log.append(Kind::Data, 0, i, row(i).as_bytes());
                    if log.sync().is_ok() {
                        acknowledged = i + 1;
                    }
                }
                drop(log);
                disk.crash(left);
                let found = contents(&disk, 0).expect("a crash leaves a log that can be read");
                let case = format!("{left:?} {errno} {forever} {skip}");
                assert!(found.len() as u64 >= acknowledged, "{case}: lost, {found:?}");
                assert_eq!(found, rows(0..found.len() as u64), "{case}");
                // It goes on from there, and is whole again.
                let (mut log, replay) = open(&disk, 0).expect("whole");
                let there = found.len() as u64;
                assert_eq!(log.durable(), replay.end());
                log.append(Kind::Data, 0, there, row(there).as_bytes());
                log.sync().expect("nothing fails any more");
                drop(log);
                disk.crash(Crash::Synced);
                assert_eq!(contents(&disk, 0).expect("whole"), rows(0..there + 1), "{case}");
            }
        }
    }
}

/// Three groups of two rows, the last one in a segment of its own.
fn three_groups() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let (mut log, _) = open(&disk, 0).expect("an empty disk");
    for i in 0..6 {
        log.append(Kind::Data, 0, i, row(i).as_bytes());
        if i % 2 == 1 {
            log.sync().expect("nothing fails");
        }
        if i == 3 {
            log.file = None;
        }
    }
    disk
}

#[test]
fn f51_a_flipped_bit_is_seen_unless_it_is_in_what_a_crash_may_tear() {
    let names = three_groups().list("").expect("the root is there");
    assert_eq!(names.len(), 2, "two segments");
    let last = 2 * RECORD_HEAD + row(4).len() + row(5).len();
    for name in &names {
        let length = three_groups().read(name).expect("it was listed").len();
        for byte in 0..length {
            let disk = three_groups();
            disk.flip_bit(name, byte, (byte % 8) as u8).expect("it is that long");
            let torn = name == &names[1] && byte >= length - last;
            let head = byte < record::SEGMENT_HEAD;
            match contents(&disk, 0) {
                // The records say themselves where they belong.
                Ok(found) if head => assert_eq!(found, rows(0..6), "{name} {byte}"),
                Ok(found) => {
                    assert!(torn, "{name} byte {byte} was taken");
                    assert_eq!(found, rows(0..found.len() as u64));
                    assert!((4..6).contains(&found.len()), "{name} byte {byte}: {found:?}");
                }
                Err(error) => {
                    assert!(!torn && !head && error.exit_code() == 74, "{name} {byte}: {error}");
                }
            }
        }
    }
    // One more group behind them in their segment: the last two rows were acknowledged for certain.
    let disk = MemoryStorage::new();
    let (mut log, _) = open(&disk, 0).expect("an empty disk");
    for i in 0..2 {
        log.append(Kind::Data, 0, i, row(i).as_bytes());
        log.sync().expect("nothing fails");
    }
    let names = disk.list("").expect("the root is there");
    disk.flip_bit(&names[0], record::SEGMENT_HEAD + RECORD_HEAD, 0).expect("it is that long");
    let error = contents(&disk, 0).expect_err("an acknowledged row is damaged");
    assert!(error.to_string().contains("later records follow"), "{error}");
}

/// The next process may be killed while it writes the last group again; what it left of that stands
/// for nothing.
#[test]
fn f48_a_torn_second_copy_of_the_last_group_hides_no_row() {
    let end = three_groups();
    let (log, _) = open(&end, 0).expect("whole");
    let copy = log.segments.last().expect("it was written again").name();
    let bytes = end.read(&copy).expect("it was listed");
    for length in 0..bytes.len() {
        let disk = three_groups();
        crate::storage::write_new(&disk, &copy, &bytes[..length]).expect("nothing fails");
        assert_eq!(contents(&disk, 0).expect("whole"), rows(0..6), "{length}");
    }
}

#[test]
fn f52_a_missing_segment_is_a_hole_and_a_trimmed_one_is_not() {
    let disk = MemoryStorage::new();
    let (mut log, _) = open(&disk, 0).expect("an empty disk");
    let mut places = Vec::new();
    for i in 0..4 {
        places.push(log.append(Kind::Data, 0, i, row(i).as_bytes()));
        log.sync().expect("nothing fails");
        log.file = None;
    }
    let names = disk.list("").expect("the root is there");
    assert_eq!(names.len(), 4);
    let oldest = disk.read(&names[0]).expect("it was listed");
    log.trim(places[2]);
    assert_eq!(disk.list("").expect("the root is there"), names[2..]);
    assert!(contents(&disk, places[1]).is_err(), "the checkpoint needs what was removed");
    // A removal that a crash took back, and not the one after it.
    let begins = crate::storage::write_new(&disk, &names[0], &oldest);
    begins.expect("nothing fails");
    assert_eq!(contents(&disk, places[2]).expect("whole"), rows(2..4));
    log.trim(u64::MAX);
    assert!(!disk.list("").expect("the root is there").contains(&names[2]));
    assert_eq!(contents(&disk, places[3]).expect("whole"), rows(3..4), "the last one stays");

    let disk = MemoryStorage::new();
    let (mut log, _) = open(&disk, 0).expect("an empty disk");
    for i in 0..3 {
        log.append(Kind::Data, 0, i, row(i).as_bytes());
        log.sync().expect("nothing fails");
        log.file = None;
    }
    let names = disk.list("").expect("the root is there");
    disk.remove(&names[1]).expect("it is there");
    let error = contents(&disk, 0).expect_err("a hole");
    assert!(error.to_string().contains("rows are lost"), "{error}");
}

/// A checkpoint may be committed before anything is read again.
#[test]
fn a_trim_before_the_last_group_is_read_again_takes_nothing_of_it() {
    let disk = three_groups();
    let names = disk.list("").expect("the root is there");
    let begins = Segment::of_name(&names[1]).expect("a segment").start;
    let (mut log, mut replay) = open(&disk, begins).expect("whole");
    log.trim(begins);
    assert!(!disk.list("").expect("the root is there").contains(&names[1]), "its copy is there");
    for i in 4..6 {
        let record = replay.advance().expect("the copy can be read").expect("two rows are left");
        assert_eq!(record.payload, row(i).as_bytes());
    }
    assert!(replay.advance().expect("it is whole").is_none());
}

#[test]
fn f57_a_segment_of_a_newer_format_is_refused_by_name() {
    let mut head = segment_head(0);
    head[8] = 9;
    let hash = twox_hash::XxHash3_64::oneshot(&head[..24]);
    head[24..].copy_from_slice(&hash.to_le_bytes());
    let disk = MemoryStorage::new();
    let name = Segment { number: 0, start: 0 }.name();
    crate::storage::write_new(&disk, &name, &head).expect("nothing fails");
    let error = contents(&disk, 0).expect_err("it is newer").to_string();
    assert!(error.contains("has format 9"), "{error}");
}
