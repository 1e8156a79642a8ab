//! Whole histories of a job in one thread: one seed is one history, and the same one each time.
//!
//! Storage, the external commit point, the clock and the life of the process stand behind the
//! engine's doors, so here they are plain data that fails on purpose: a process ends before any
//! write, fsync, rename, directory fsync or request; a power cut takes what was not synced, or tears
//! it; the disk answers EIO or ENOSPC, or takes half a minute; requests and replies of a commit are
//! lost, late or repeated; an older process goes on after a newer one began. Whatever happened, what
//! is committed in the end is what an independent reader makes of the rows (`reader`), epoch by epoch.
//!
//! Two families of histories: seeds below [`history::WIDE`] play jobs over one split that can be read
//! again; those from there on also overlapping windows, sessions, deduplication, windows over windows,
//! several splits, and a write-ahead log.
//!
//! Invariant: a history reads no clock and draws from its seed alone. A process that met no fault may
//! not fail. What it lacks: sources (rows are handed over as decoded batches), threads, and what no
//! model of a disk knows; `tests/tests/kills.rs` kills the real program for that.

mod broker;
mod disk;
mod feed;
mod history;
mod inlet;
mod job;
mod life;
mod reader;
mod tests;
mod verdict;

use std::sync::atomic::{AtomicBool, Ordering};

/// A replay tells every operation.
static TOLD: AtomicBool = AtomicBool::new(false);

fn is_told() -> bool {
    TOLD.load(Ordering::Relaxed)
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, good enough, the same everywhere.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// A number below `bound`; the bias of the remainder does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A source of its own for a part of the history.
    fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX))
    }
}
