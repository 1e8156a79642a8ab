//! Tries io_uring out: a ring, a registered buffer, and a file read both ways.
//!
//! The unsafe blocks hand one buffer to the kernel. Invariant: it is freed only when no operation is
//! in flight; where that is not known, it is leaked.

use io_uring::{opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::ReadText;
use crate::probe::{IoUring, Operation, Refusal, Step};

/// A page: what is registered must not depend on how much memory may be locked.
const BUFFER_BYTES: usize = 4096;

/// Asks the kernel. `read` tells the setting that explains a refusal.
pub fn try_out(read: ReadText<'_>, memlock: Option<u64>) -> IoUring {
    let sysctl = read("/proc/sys/kernel/io_uring_disabled");
    let sysctl = sysctl.and_then(|text| text.trim().parse().ok());
    let refusal = |step, error: &io::Error| {
        Refusal::of(step, error.raw_os_error().unwrap_or(libc::EIO), sysctl, memlock)
    };
    let mut ring = match io_uring::IoUring::new(4) {
        Ok(ring) => ring,
        Err(error) => return IoUring::Refused(refusal(Step::Setup, &error)),
    };
    let operations = match missing(&ring) {
        Ok(operations) => operations,
        Err(error) => return IoUring::Refused(refusal(Step::Setup, &error)),
    };
    if !operations.is_empty() {
        return IoUring::Refused(Refusal::Missing { operations });
    }
    let mut buffer = Box::new([0_u8; BUFFER_BYTES]);
    let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_BYTES };
    // SAFETY: the memory is ours alone until `read_back` is done with it; it is freed after that, and
    // then the kernel still holds its pages, but nobody asks for a read into them.
    let registered = unsafe { ring.submitter().register_buffers(&[vector]) };
    let no_fixed_buffers = registered.err().map(|error| refusal(Step::Register, &error));
    match read_back(&mut ring, buffer, no_fixed_buffers.is_none()) {
        Ok(true) => IoUring::Works { no_fixed_buffers },
        Ok(false) => IoUring::Refused(Refusal::WrongBytes),
        Err(error) => IoUring::Refused(refusal(Step::Read, &error)),
    }
}

fn missing(ring: &io_uring::IoUring) -> io::Result<Vec<Operation>> {
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let code = |operation: &Operation| match operation {
        Operation::Read => opcode::Read::CODE,
        Operation::ReadFixed => opcode::ReadFixed::CODE,
        Operation::Recv => opcode::Recv::CODE,
        Operation::Accept => opcode::Accept::CODE,
        Operation::Timeout => opcode::Timeout::CODE,
        Operation::AsyncCancel => opcode::AsyncCancel::CODE,
    };
    Ok(Operation::ALL.into_iter().filter(|op| !probe.is_supported(code(op))).collect())
}

/// Reads the head of our own program through the ring; whether it is what a plain read gives.
fn read_back(
    ring: &mut io_uring::IoUring,
    mut buffer: Box<[u8; BUFFER_BYTES]>,
    fixed: bool,
) -> io::Result<bool> {
    let file = File::open("/proc/self/exe")?;
    let mut expected = [0; 64];
    file.read_exact_at(&mut expected, 0)?;
    let (fd, length) = (types::Fd(file.as_raw_fd()), expected.len() as u32);
    let to = buffer.as_mut_ptr();
    let mut reads = vec![opcode::Read::new(fd, to, length).offset(0).build()];
    if fixed {
        reads.push(opcode::ReadFixed::new(fd, to, length, 0).offset(0).build());
    }
    for entry in reads {
        buffer.fill(0);
        match complete(ring, &entry) {
            Ok(read) if read as usize == expected.len() => {}
            Ok(_) => return Ok(false),
            Err(Unfinished(error)) => {
                // The kernel may still write to it.
                Box::leak(buffer);
                return Err(error);
            }
        }
        if buffer[..expected.len()] != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The operation may still be in flight.
struct Unfinished(io::Error);

/// Runs one operation to its end; a negative result is an error that the operation ended with.
fn complete(ring: &mut io_uring::IoUring, entry: &squeue::Entry) -> Result<i32, Unfinished> {
    // SAFETY: the entry's buffer and file live until its completion was seen, or the caller leaks
    // the buffer (`Unfinished`); a file descriptor is held by the kernel itself while in use.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.expect("the queue has four places and no other entry");
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unfinished(error)),
            Ok(_) => {}
        }
        if let Some(completion) = ring.completion().next() {
            return match completion.result() {
                failed @ ..0 => Err(Unfinished(io::Error::from_raw_os_error(-failed))),
                read => Ok(read),
            };
        }
    }
}

#[cfg(test)]
mod tests;
