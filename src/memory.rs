//! How the program gets its memory: from the C library, the largest blocks on huge pages, and what an
//! epoch frees is kept for the next one, and counted.
//!
//! Left to itself glibc maps every block above 128 KiB and unmaps it when it is freed, so each epoch
//! faults its pages in anew and every unmapping interrupts the cores that ingest: 10 % of the CPU
//! time of the sensors suite. Blocks that are mapped all the same hold a large state, each page of
//! 4 KiB a fault of its own: of a start that takes ten million groups back it was half. Where the
//! system leaves huge pages to those that ask (`transparent_hugepage/enabled` says `madvise`), they ask.

use std::alloc::{GlobalAlloc, Layout, System};

/// glibc's own upper bound for the threshold on 64-bit machines.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 32 << 20;
/// From this size on: what is not touched of a block's last huge page is little then.
const HUGE_FROM_BYTES: usize = 32 << 20;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Free memory at the heap's end that is given back to the system.
#[cfg(target_env = "gnu")]
const TRIMMED_FROM_BYTES: libc::c_int = 256 << 20;

/// The C library's allocator, whose largest blocks ask for huge pages.
///
/// Cost: a system call for each of these.
pub struct HugeBlocks;

// SAFETY: every block is the system allocator's, untouched; advice changes no byte of it.
unsafe impl GlobalAlloc for HugeBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Asks for the huge pages that lie whole in a block; a system without them refuses, which is no loss.
#[inline]
fn advised(block: *mut u8, bytes: usize) -> *mut u8 {
    if bytes >= HUGE_FROM_BYTES && !block.is_null() {
        let begin = block.addr().next_multiple_of(HUGE_PAGE_BYTES);
        let end = (block.addr() + bytes) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        // SAFETY: the range lies within the block; the advice says how its pages are made, no more.
        unsafe {
            libc::madvise(block.with_addr(begin).cast(), end - begin, libc::MADV_HUGEPAGE);
        }
    }
    block
}

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
