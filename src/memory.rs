//! How the C library's allocator treats what an epoch frees: it is kept for the next one, and counted.
//!
//! Left to itself glibc maps every block above 128 KiB and unmaps it when it is freed, so each epoch
//! faults its pages in anew and every unmapping interrupts the cores that ingest: 10 % of the CPU
//! time of the sensors suite.

/// glibc's own upper bound for the threshold on 64-bit machines.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 32 << 20;
/// Free memory at the heap's end that is given back to the system.
#[cfg(target_env = "gnu")]
const TRIMMED_FROM_BYTES: libc::c_int = 256 << 20;

/// Call it before the first thread is started.
pub fn keep_what_is_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes any numbers, answers whether it took them, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIMMED_FROM_BYTES);
    }
}

/// Gives the pages of what was freed back to the system.
///
/// Cost: some milliseconds, and faults where the memory is asked for again.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number of bytes to keep at the heap's end and the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that were freed and are kept by the C library's allocator.
#[cfg(target_env = "gnu")]
pub fn spare_bytes() -> usize {
    // SAFETY: mallinfo2 has no argument, takes the allocator's own locks and returns plain numbers.
    unsafe { libc::mallinfo2() }.fordblks
}

/// Another C library does not tell.
#[cfg(not(target_env = "gnu"))]
pub fn spare_bytes() -> usize {
    0
}
