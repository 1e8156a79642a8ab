//! One ledger for all memory that grows with the data: every pool says what it holds.
//!
//! Accounts are charged at range and epoch boundaries, never per row. A full ledger means
//! back-pressure: the epoch ends early, or the cores wait. It holds counts, not memory, and does
//! not know who allocates.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Code, plan, thread stacks: what the process held before the first byte was read.
    Process,
    /// Buffers that reads land in, and the decoder's columns.
    Reads,
    /// Groups and rows of the epoch in work.
    Epoch,
    /// Groups of the shards.
    State,
    /// Rows on their way to a sink, and what sinks buffer.
    Output,
    /// What was freed and is kept for the next epoch.
    Spare,
}

const POOLS: [Pool; 6] =
    [Pool::Process, Pool::Reads, Pool::Epoch, Pool::State, Pool::Output, Pool::Spare];

impl Pool {
    pub fn name(self) -> &'static str {
        match self {
            Pool::Process => "process",
            Pool::Reads => "reads",
            Pool::Epoch => "epoch",
            Pool::State => "state",
            Pool::Output => "output",
            Pool::Spare => "spare",
        }
    }
}

#[derive(Debug)]
pub struct Ledger {
    limit: u64,
    held: [AtomicU64; POOLS.len()],
    peak: AtomicU64,
}

impl Ledger {
    pub fn new(limit: u64) -> Arc<Ledger> {
        Arc::new(Ledger { limit, held: Default::default(), peak: AtomicU64::new(0) })
    }

    /// A holder of memory of one kind, which holds nothing yet.
    pub fn account(self: &Arc<Self>, pool: Pool) -> Account {
        Account { ledger: Arc::clone(self), pool, bytes: 0 }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn held(&self) -> u64 {
        POOLS.iter().map(|&pool| self.held_by(pool)).sum()
    }

    pub fn held_by(&self, pool: Pool) -> u64 {
        self.held[pool as usize].load(Ordering::Relaxed)
    }

    /// Every pool's name and what it holds.
    pub fn pools(&self) -> impl Iterator<Item = (&'static str, u64)> {
        POOLS.iter().map(|&pool| (pool.name(), self.held_by(pool)))
    }

    /// The most that was held at once, as far as accounts were up to date.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, held) in self.pools() {
            write!(f, "{name} {} MiB, ", held >> 20)?;
        }
        write!(f, "of {} MiB", self.limit >> 20)
    }
}

/// One holder's line in the ledger; dropping it gives everything back.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    pool: Pool,
    bytes: u64,
}

impl Account {
    /// Says how much is held now.
    pub fn set(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        let held = &self.ledger.held[self.pool as usize];
        if bytes >= self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.ledger.peak.fetch_max(self.ledger.held(), Ordering::Relaxed);
        } else {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_the_sum_of_its_accounts() {
        let ledger = Ledger::new(1000);
        let mut reads = ledger.account(Pool::Reads);
        let mut state = ledger.account(Pool::State);
        reads.set(300);
        state.set(500);
        reads.set(100);
        assert_eq!((ledger.held(), ledger.held_by(Pool::Reads), ledger.peak()), (600, 100, 800));
        let named: u64 = ledger.pools().map(|(_, held)| held).sum();
        assert_eq!(named, 600);
        drop(state);
        assert_eq!(ledger.held(), 100);
    }
}
