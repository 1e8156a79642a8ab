//! The set of processors that a thread may run on: asking for it, and moving there.
//!
//! The unsafe blocks are two system calls on memory of our own.

use std::io;

/// Room for 8,192 processors, the most that x86-64 kernels are built for; `cpu_set_t` has 1,024.
type Set = [u64; 128];

/// The processors that the calling thread may run on, ascending.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut set: Set = [0; 128];
    // SAFETY: the kernel writes at most `size_of::<Set>()` bytes to `set`, which lives and is
    // exclusively ours for the call; any bit pattern is a valid `Set`. Thread 0 is the caller.
    let status = unsafe {
        libc::sched_getaffinity(0, size_of::<Set>(), (&raw mut set).cast::<libc::cpu_set_t>())
    };
    match status {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((0..64 * set.len()).filter(|cpu| set[cpu / 64] >> (cpu % 64) & 1 == 1).collect()),
    }
}

/// Moves the calling thread to one processor and keeps it there.
///
/// Errors: `InvalidInput` where the process may not use it, or there is no such processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set: Set = [0; 128];
    let Some(word) = set.get_mut(cpu / 64) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    *word = 1 << (cpu % 64);
    // SAFETY: the kernel only reads `size_of::<Set>()` bytes from `set`, which lives for the call.
    let status = unsafe {
        libc::sched_setaffinity(0, size_of::<Set>(), (&raw const set).cast::<libc::cpu_set_t>())
    };
    match status {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_there_alone() {
        let before = allowed().expect("the kernel tells");
        assert!(!before.is_empty());
        for &cpu in &before {
            let inside = std::thread::spawn(move || {
                pin(cpu).expect("it is one of ours");
                allowed().expect("the kernel tells")
            });
            assert_eq!(inside.join().expect("no panic"), [cpu]);
        }
        assert_eq!(allowed().expect("the kernel tells"), before, "other threads stay as they are");
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        for cpu in [8_191, 8_192, usize::MAX] {
            let error = std::thread::spawn(move || pin(cpu)).join().expect("no panic");
            assert_eq!(
                error.expect_err("no such one").kind(),
                io::ErrorKind::InvalidInput,
                "{cpu}"
            );
        }
    }
}
