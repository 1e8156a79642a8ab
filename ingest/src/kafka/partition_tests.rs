//! Answers as a broker would give them, record by record.

use super::super::records::tests::{Made, control};
use super::*;

fn partition(offset: i64, end: Option<i64>) -> Partition {
    Partition::new(SplitStart {
        split: 2,
        topic: "t".into(),
        topic_id: [0; 16],
        partition: 0,
        offset,
        leader_epoch: -1,
        end,
        event_time_max: None,
    })
}

/// Feeds one answer; gives the offsets and values that come out.
fn check(
    partition: &mut Partition,
    sets: &[Vec<u8>],
    aborted: &[(i64, i64)],
) -> (Result<(), Fault>, String) {
    let bytes = sets.concat();
    let range = 0..bytes.len();
    let frame = Arc::new(Frame { memory: bytes, answer: range.clone() });
    partition.take_in(&frame, range, aborted.to_vec(), 1 << 40).unwrap();
    let (mut chunk, mut spent) = (Chunk::default(), Vec::new());
    let outcome = partition.hand_out(&mut chunk, &mut Vec::new(), &mut spent);
    let text = chunk.values().map(|(offset, value)| {
        format!("{offset}={} ", String::from_utf8_lossy(value.trim_ascii_end()))
    });
    assert_eq!((chunk.split, chunk.next), (2, partition.position));
    (outcome, text.collect::<String>().trim_end().to_owned())
}

fn data(offset: i64, value: &str) -> Vec<u8> {
    Made::new(offset, &[value.as_bytes()]).bytes()
}

fn txn(offset: i64, producer: i64, value: &str) -> Vec<u8> {
    Made::new(offset, &[value.as_bytes()]).transactional(producer).bytes()
}

#[test]
fn f11_aborted_transactions_are_passed_over_and_committed_ones_are_not() {
    let mut p = partition(0, None);
    // Producer 7 aborts, 8 commits in between; then 7 commits.
    let sets = [
        data(0, "plain"),
        txn(1, 7, "gone"),
        txn(2, 8, "kept"),
        txn(3, 7, "gone, too"),
        control(4, 8, true),
        control(5, 7, false),
        txn(6, 7, "again"),
        control(7, 7, true),
    ];
    let (outcome, text) = check(&mut p, &sets, &[(1, 7)]);
    assert_eq!((outcome, text.as_str()), (Ok(()), "0=plain 2=kept 6=again"));
    assert_eq!((p.position, p.fetched), (8, 8));
    // An answer that begins in the middle of an aborted transaction names it all the same.
    let mut p = partition(3, None);
    let (_, text) = check(&mut p, &sets[3..], &[(1, 7)]);
    assert_eq!(text, "6=again");
    // Two aborted ones of the same producer.
    let mut p = partition(0, None);
    let sets = [
        txn(0, 7, "a"),
        control(1, 7, false),
        txn(2, 7, "b"),
        control(3, 7, true),
        txn(4, 7, "c"),
        control(5, 7, false),
    ];
    let (_, text) = check(&mut p, &sets, &[(0, 7), (4, 7)]);
    assert_eq!(text, "2=b");
}

#[test]
fn f11_gaps_of_compaction_and_empty_batches_move_the_position() {
    let mut p = partition(0, None);
    let mut empty = Made::new(5, &[]);
    empty.last_delta = 9;
    let (_, text) = check(&mut p, &[data(3, "x"), empty.bytes()], &[]);
    assert_eq!((text.as_str(), p.position), ("3=x", 15));
}

#[test]
fn reading_begins_and_ends_within_a_batch() {
    let values: Vec<String> = (0..6).map(|v| v.to_string()).collect();
    let values: Vec<&[u8]> = values.iter().map(|v| v.as_bytes()).collect();
    let mut p = partition(12, Some(14));
    let (_, text) = check(&mut p, &[Made::new(10, &values).bytes(), data(16, "more")], &[]);
    assert_eq!((text.as_str(), p.position), ("12=2 13=3", 14));
    assert!(p.standing().ended && p.is_asked_out() && !p.has_pending());
}

#[test]
fn f09_a_damaged_batch_gives_nothing_and_is_read_again() {
    let mut damaged = data(1, "flipped");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut p = partition(0, None);
    let (outcome, text) = check(&mut p, &[data(0, "good"), damaged], &[]);
    assert!(matches!(outcome, Err(Fault::Checksum { .. })), "{outcome:?}");
    assert_eq!((text.as_str(), p.position), ("0=good", 1));
    p.forget();
    assert_eq!(p.fetched, 1);
    let (outcome, text) = check(&mut p, &[data(1, "flipped")], &[]);
    assert_eq!((outcome, text.as_str()), (Ok(()), "1=flipped"));
}

#[test]
fn f10_a_batch_that_lies_behind_its_first_record_gives_nothing() {
    let mut lying = Made::new(1, &[b"one", b"two"]);
    lying.records[1].0 = 0;
    let mut p = partition(0, None);
    let (outcome, text) = check(&mut p, &[data(0, "good"), lying.bytes()], &[]);
    assert_eq!(outcome, Err(Fault::Malformed("record offset")));
    assert_eq!((text.as_str(), p.position), ("0=good", 1));
}

#[test]
fn a_split_is_caught_up_only_when_its_broker_said_so() {
    let mut p = partition(0, None);
    assert!(!p.standing().caught_up);
    p.leader = Some(Leader { node: 1, epoch: 0 });
    let frame = Arc::new(Frame { memory: Vec::new(), answer: 0..0 });
    p.take_in(&frame, 0..0, Vec::new(), 5).unwrap();
    assert!(!p.standing().caught_up, "records are there that did not fit the answer");
    p.take_in(&frame, 0..0, Vec::new(), 0).unwrap();
    assert!(p.standing().caught_up && p.standing().empty_since.is_some());
    p.leader = None;
    assert!(!p.standing().caught_up, "nobody says that it is empty");
}
