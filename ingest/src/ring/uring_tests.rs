//! Faults of io_uring: F28, F29, F30, F32. A pipe stands in for a file that is slow.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::thread;

use super::super::tests::{pattern, read_all};
use super::*;

fn pipe() -> (Arc<File>, File) {
    let (reader, writer) = io::pipe().unwrap();
    (Arc::new(File::from(OwnedFd::from(reader))), File::from(OwnedFd::from(writer)))
}

fn on_disk(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

fn registered(submitter: &Submitter<'_>, arena: &[libc::iovec]) -> io::Result<()> {
    // SAFETY: as in `Uring::new`.
    unsafe { submitter.register_buffers(arena) }
}

#[test]
fn f28_every_result_of_a_read_has_its_answer() {
    let again = |pause| Step::Again { pause };
    for (result, done, step) in [
        (10, 0, Step::Done(10)),
        (4, 6, Step::Done(10)),
        (4, 0, Step::Rest(4)),
        (3, 4, Step::Rest(7)),
        (0, 7, Step::Done(7)),
        (-libc::EINTR, 3, again(false)),
        (-libc::ECANCELED, 3, again(false)),
        (-libc::EAGAIN, 3, again(true)),
        (-libc::ENOBUFS, 3, again(true)),
        (-libc::EIO, 3, Step::Fail(libc::EIO)),
    ] {
        assert_eq!(judge(result, done, 10), step, "result {result} after {done} bytes");
    }
}

#[test]
fn f28_short_reads_are_put_together() {
    let (reader, mut writer) = pipe();
    let mut ring = Uring::new(2).unwrap();
    ring.start(1, &reader, 0, 9).unwrap();
    let late = thread::spawn(move || {
        for part in ["abc", "def", "ghi"] {
            writer.write_all(part.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(ring.finish(1).unwrap(), 9);
    assert_eq!(&ring.memory(1)[HEADROOM_BYTES..][..9], b"abcdefghi");
    late.join().unwrap();
}

#[test]
fn f28_a_read_that_was_cancelled_from_outside_is_read_again() {
    let (reader, mut writer) = pipe();
    let mut ring = Uring::new(2).unwrap();
    ring.start(0, &reader, 0, 3).unwrap();
    let cancel = opcode::AsyncCancel::new(0).build().user_data(CANCEL);
    ring.push(&cancel).unwrap();
    ring.enter(1).unwrap();
    writer.write_all(b"abc").unwrap();
    assert_eq!(ring.finish(0).unwrap(), 3);
    assert_eq!(&ring.memory(0)[HEADROOM_BYTES..][..3], b"abc");
}

#[test]
fn f28_an_error_of_the_device_is_told() {
    let mut ring = Uring::new(1).unwrap();
    let directory = Arc::new(File::open("/").unwrap());
    ring.start(0, &directory, 0, 3).unwrap();
    assert_eq!(ring.finish(0).unwrap_err().raw_os_error(), Some(libc::EISDIR));
    let bytes = pattern(100);
    assert_eq!(read_all(&mut ring, &on_disk(&bytes), 100), bytes, "the slot serves again");
}

#[test]
fn f29_completions_that_overflow_their_queue_arrive_all_the_same() {
    const SLOTS: usize = 16;
    let bytes = pattern(SLOTS * PIECE_BYTES);
    let file = on_disk(&bytes);
    let mut ring = Uring::open(SLOTS, 2, registered).unwrap();
    for slot in 0..SLOTS {
        ring.start(slot, &file, (slot * PIECE_BYTES) as u64, PIECE_BYTES).unwrap();
    }
    for slot in 0..SLOTS {
        assert_eq!(ring.finish(slot).unwrap(), PIECE_BYTES);
        let expected = &bytes[slot * PIECE_BYTES..][..PIECE_BYTES];
        assert!(ring.memory(slot)[HEADROOM_BYTES..] == *expected, "slot {slot}");
    }
    assert!(ring.overflows > 0, "the queue of two did overflow");
}

#[test]
fn f30_nothing_is_in_flight_when_memory_is_freed() {
    let check = |give_up: &dyn Fn(Uring) -> Option<Uring>| {
        let (reader, mut writer) = pipe();
        let mut ring = Uring::new(2).unwrap();
        ring.start(0, &reader, 0, 4).unwrap();
        ring.start(1, &reader, 0, 4).unwrap();
        let ring = give_up(ring);
        // An operation that lived on would take these bytes.
        writer.write_all(b"left").unwrap();
        drop(writer);
        let mut left = Vec::new();
        (&*reader).read_to_end(&mut left).unwrap();
        assert_eq!(left, b"left");
        drop(ring);
    };
    check(&|ring| {
        drop(ring);
        None
    });
    // The same without closing the ring, which cancels, too, but does not wait.
    check(&|mut ring| {
        ring.abandon();
        Some(ring)
    });
}

#[test]
#[should_panic(expected = "in flight")]
fn f30_a_slot_in_flight_cannot_be_touched() {
    let (reader, _writer) = pipe();
    let mut ring = Uring::new(1).unwrap();
    ring.start(0, &reader, 0, 4).unwrap();
    ring.memory(0);
}

#[test]
fn f32_without_memory_to_lock_reads_go_into_unregistered_buffers() {
    let bytes = pattern(5 * PIECE_BYTES + 1);
    let refuse =
        |_: &Submitter<'_>, _: &[libc::iovec]| Err(io::Error::from_raw_os_error(libc::ENOMEM));
    let mut ring = Uring::open(4, 4, refuse).unwrap();
    assert!(ring.why_unregistered().unwrap().contains("Cannot allocate memory"));
    assert_eq!(read_all(&mut ring, &on_disk(&bytes), bytes.len()), bytes);
}
