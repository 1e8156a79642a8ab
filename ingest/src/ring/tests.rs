//! Both rings against each other, and the faults of reading.

use std::io::Write;

use super::*;

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Reads a file piece by piece with all slots in flight.
pub(super) fn read_all(ring: &mut dyn Ring, file: &Arc<File>, size: usize) -> Vec<u8> {
    let pieces: Vec<usize> = (0..size).step_by(PIECE_BYTES).collect();
    let mut out = Vec::new();
    let slots = ring.slots();
    let start = |ring: &mut dyn Ring, piece: usize| {
        if let Some(&at) = pieces.get(piece) {
            ring.start(piece % slots, file, at as u64, PIECE_BYTES.min(size - at)).unwrap();
        }
    };
    (0..slots).for_each(|piece| start(ring, piece));
    for piece in 0..pieces.len() {
        let bytes = ring.finish(piece % slots).unwrap();
        out.extend_from_slice(&ring.memory(piece % slots)[HEADROOM_BYTES..][..bytes]);
        start(ring, piece + slots);
    }
    out
}

#[test]
fn both_rings_read_the_same_bytes() {
    let bytes = pattern(11 * PIECE_BYTES + 77);
    let file = file(&bytes);
    for choice in [Choice::Uring, Choice::Plain("asked for".into())] {
        let (mut ring, _) = open(&choice);
        assert_eq!(read_all(&mut *ring, &file, bytes.len()), bytes, "{choice:?}");
        ring.start(0, &file, bytes.len() as u64 - 5, 100).unwrap();
        assert_eq!(ring.finish(0).unwrap(), 5, "{choice:?}: the file's end cuts a read");
    }
}

#[test]
fn a_started_read_can_be_abandoned() {
    let bytes = pattern(4 * PIECE_BYTES);
    let file = file(&bytes);
    for choice in [Choice::Uring, Choice::Plain("asked for".into())] {
        let (mut ring, _) = open(&choice);
        (0..4).for_each(|slot| {
            ring.start(slot, &file, (slot * PIECE_BYTES) as u64, PIECE_BYTES).unwrap();
        });
        ring.abandon();
        assert_eq!(read_all(&mut *ring, &file, bytes.len()), bytes, "{choice:?}");
    }
}

#[test]
fn f27_where_io_uring_is_refused_plain_reads_take_over_and_say_so() {
    let bytes = pattern(3 * PIECE_BYTES);
    let (mut ring, less) = open(&Choice::Plain("kernel.io_uring_disabled = 2".into()));
    assert_eq!(read_all(&mut *ring, &file(&bytes), bytes.len()), bytes);
    let less = less.unwrap();
    assert!(less.contains("io_uring_disabled = 2") && less.contains("plain reads"), "{less}");
}

#[test]
fn f28_a_plain_read_goes_on_after_short_and_interrupted_reads() {
    let mut answers = vec![Ok(3), Err(libc::EINTR), Ok(2), Err(libc::EINTR), Ok(5)].into_iter();
    let read =
        plain::read_full(10, |_| answers.next().unwrap().map_err(io::Error::from_raw_os_error));
    assert_eq!(read.unwrap(), 10);
    let failed = plain::read_full(10, |_| Err(io::Error::from_raw_os_error(libc::EIO)));
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EIO));
}
