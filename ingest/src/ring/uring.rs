//! Reads through io_uring: several in flight, into memory that the kernel has pinned.
//!
//! Invariants, on which every `unsafe` block here rests:
//! 1. The arena's memory is allocated before the first operation and freed after the last one has
//!    completed; [`Uring::abandon`] (called on drop) cancels what is in flight and waits for it.
//! 2. A slot in flight is the kernel's: no reference into its memory is made until its completion
//!    was taken from the queue.
//! 3. A slot has one operation at most, and `user_data` is its number, so a completion names it.
//!
//! The completion queue holds at least as many entries as there are slots. Should it overflow all
//! the same, the kernel keeps the rest (`IORING_FEAT_NODROP`, without which a ring is not opened)
//! and hands it over when it is entered again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, Submitter, opcode, types};

use super::{HEADROOM_BYTES, PIECE_BYTES, Ring};

const PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = HEADROOM_BYTES + PIECE_BYTES;
/// `user_data` of a cancellation; no slot has this number.
const CANCEL: u64 = u64::MAX;
/// A read that the kernel could not take now is tried again after so long, so many times.
const RETRY_AFTER: Duration = Duration::from_millis(1);
const RETRIES_MAX: u32 = 5_000;

pub struct Uring {
    ring: IoUring,
    arena: Arena,
    slots: Vec<Slot>,
    /// Why the arena is not registered with the kernel, if it is not.
    unregistered: Option<String>,
    overflows: u64,
}

#[derive(Default)]
struct Slot {
    read: Option<Read>,
    /// The result of its operation, once it was taken from the completion queue.
    completed: Option<i32>,
    in_flight: bool,
}

/// What a slot was asked for. It keeps the file open while the kernel may read it.
#[derive(Clone)]
struct Read {
    file: Arc<File>,
    offset: u64,
    len: usize,
    done: usize,
}

/// What a completion's result asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// All is there, or the file has ended.
    Done(usize),
    /// The rest is still to be read.
    Rest(usize),
    /// The same again: at once, or after a pause.
    Again {
        pause: bool,
    },
    Fail(i32),
}

/// Judges the result of a read of which `done` bytes of `len` were there before.
fn judge(result: i32, done: usize, len: usize) -> Step {
    match result {
        0 => Step::Done(done),
        1.. if done + result as usize >= len => Step::Done(len),
        1.. => Step::Rest(done + result as usize),
        _ => match -result {
            libc::EINTR | libc::ECANCELED => Step::Again { pause: false },
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EBUSY => {
                Step::Again { pause: true }
            }
            code => Step::Fail(code),
        },
    }
}

impl Uring {
    /// Errors: what the kernel says when it refuses (sysctl, seccomp, no memory to lock, too old).
    pub fn new(slots: usize) -> io::Result<Uring> {
        let entries = slots.next_power_of_two() as u32;
        // SAFETY: the arena outlives the ring's operations (invariant 1).
        Uring::open(slots, entries, |submitter, arena| unsafe { submitter.register_buffers(arena) })
    }

    /// Reads into memory that is not registered, because of `why`.
    pub fn unregistered(slots: usize, why: String) -> io::Result<Uring> {
        let entries = slots.next_power_of_two() as u32;
        Uring::open(slots, entries, |_, _| Err(io::Error::other(why.clone())))
    }

    /// `entries` is the size of both queues. `register` pins the arena.
    fn open(
        slots: usize,
        entries: u32,
        register: impl Fn(&Submitter<'_>, &[libc::iovec]) -> io::Result<()>,
    ) -> io::Result<Uring> {
        let ring: IoUring = IoUring::builder().setup_cqsize(entries).build(entries)?;
        if !ring.params().is_feature_nodrop() {
            return Err(io::Error::other("the kernel drops completions (it is older than 5.5)"));
        }
        let arena = Arena::new(slots);
        let all = libc::iovec { iov_base: arena.slot(0).as_ptr().cast(), iov_len: arena.bytes() };
        let unregistered = register(&ring.submitter(), &[all]).err().map(|why| why.to_string());
        let slots = (0..slots).map(|_| Slot::default()).collect();
        Ok(Uring { ring, arena, slots, unregistered, overflows: 0 })
    }

    /// Why reads go into memory that is not registered, if they do.
    pub fn why_unregistered(&self) -> Option<&str> {
        self.unregistered.as_deref()
    }

    fn submit(&mut self, slot: usize) -> io::Result<()> {
        let read = self.slots[slot].read.as_ref().expect("a slot is asked before it is submitted");
        let fd = types::Fd(read.file.as_raw_fd());
        let offset = read.offset + read.done as u64;
        let len = (read.len - read.done) as u32;
        // SAFETY: `done <= len <= PIECE_BYTES` (checked by `start`), so this stays inside the slot.
        let into = unsafe { self.arena.slot(slot).as_ptr().add(HEADROOM_BYTES + read.done) };
        let entry = match self.unregistered {
            None => opcode::ReadFixed::new(fd, into, len, 0).offset(offset).build(),
            Some(_) => opcode::Read::new(fd, into, len).offset(offset).build(),
        };
        let entry = entry.user_data(slot as u64);
        self.push(&entry)?;
        self.slots[slot].in_flight = true;
        self.enter(0)
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the entry's memory is a slot of the arena, which stays until the operation
            // has completed (invariant 1); its file is kept open by `Slot::read`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter(0)?;
        }
    }

    /// Hands submissions over and waits for `want` completions.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Completions must be taken before the kernel takes more.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        if !self.reap() {
                            std::thread::sleep(RETRY_AFTER);
                        }
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Takes what has completed; tells whether there was anything.
    fn reap(&mut self) -> bool {
        let mut any = false;
        loop {
            let overflowed = self.ring.submission().cq_overflow();
            for completion in self.ring.completion() {
                any = true;
                if completion.user_data() == CANCEL {
                    continue;
                }
                let slot = self.slots.get_mut(completion.user_data() as usize);
                let slot = slot.filter(|slot| slot.in_flight && slot.completed.is_none());
                let slot = slot.expect("a completion names a slot in flight");
                slot.completed = Some(completion.result());
            }
            if !overflowed {
                return any;
            }
            self.overflows += 1;
            // What did not fit the queue is handed over on the next entry.
            if self.ring.submit_and_wait(0).is_err() {
                return any;
            }
        }
    }

    /// Waits for the slot's operation to complete.
    fn complete(&mut self, slot: usize) -> io::Result<i32> {
        loop {
            self.reap();
            if let Some(result) = self.slots[slot].completed.take() {
                self.slots[slot].in_flight = false;
                return Ok(result);
            }
            self.enter(1)?;
        }
    }
}

impl Ring for Uring {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn start(&mut self, slot: usize, file: &Arc<File>, offset: u64, len: usize) -> io::Result<()> {
        assert!(len <= PIECE_BYTES, "a read of {len} bytes does not fit a slot");
        assert!(self.slots[slot].read.is_none(), "slot {slot} is in flight");
        self.slots[slot].read = Some(Read { file: Arc::clone(file), offset, len, done: 0 });
        self.submit(slot)
    }

    fn finish(&mut self, slot: usize) -> io::Result<usize> {
        let mut retries = 0;
        loop {
            let result = self.complete(slot)?;
            let read = self.slots[slot].read.as_mut().expect("only a started slot is finished");
            match judge(result, read.done, read.len) {
                Step::Done(bytes) => {
                    self.slots[slot].read = None;
                    return Ok(bytes);
                }
                Step::Rest(done) => read.done = done,
                Step::Again { pause } => {
                    retries += 1;
                    if retries > RETRIES_MAX {
                        self.slots[slot].read = None;
                        return Err(io::Error::from_raw_os_error(-result));
                    }
                    if pause {
                        std::thread::sleep(RETRY_AFTER);
                    }
                }
                Step::Fail(code) => {
                    self.slots[slot].read = None;
                    return Err(io::Error::from_raw_os_error(code));
                }
            }
            self.submit(slot)?;
        }
    }

    fn memory(&mut self, slot: usize) -> &mut [u8] {
        assert!(!self.slots[slot].in_flight, "a slot in flight is not to be touched");
        // SAFETY: the slot is not in flight, so the kernel does not write to it (invariant 2); the
        // range is the slot's own and was zeroed on allocation; `&mut self` makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.arena.slot(slot).as_ptr(), SLOT_BYTES) }
    }

    fn abandon(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].in_flight {
                let cancel = opcode::AsyncCancel::new(slot as u64).build().user_data(CANCEL);
                self.push(&cancel).expect("a cancellation can be queued: entries are free again");
            }
        }
        for slot in 0..self.slots.len() {
            while self.slots[slot].in_flight {
                if self.complete(slot).is_err() {
                    // The memory is the kernel's until the operation ends; there is no other way out.
                    std::thread::sleep(RETRY_AFTER);
                }
            }
            self.slots[slot].read = None;
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Memory for all slots, aligned to pages, in one piece: one registered buffer.
struct Arena {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the arena is plain memory that it owns; nothing in it belongs to a thread.
unsafe impl Send for Arena {}

impl Arena {
    fn new(slots: usize) -> Arena {
        assert!(slots > 0, "a ring needs slots");
        let layout = Layout::from_size_align(slots * SLOT_BYTES, PAGE_BYTES)
            .expect("a few slots are far below the address space");
        // SAFETY: the layout's size is not zero, as `slots` is not.
        let memory = unsafe { alloc_zeroed(layout) };
        Arena { memory: NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    fn bytes(&self) -> usize {
        self.layout.size()
    }

    fn slot(&self, slot: usize) -> NonNull<u8> {
        assert!((slot + 1) * SLOT_BYTES <= self.bytes(), "there is no slot {slot}");
        // SAFETY: the offset lies inside the allocation, by the assertion above.
        unsafe { self.memory.add(slot * SLOT_BYTES) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no operation is in flight any more, as `Uring` drops
        // (and so abandons) before its fields do (invariant 1).
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
#[path = "uring_tests.rs"]
mod tests;
