//! Faults a device can be told to have, so that a test can provoke what no driver does on request.
//!
//! Each is armed by a test and fires at a counted call; a device that nobody arms has none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const NEVER: i64 = i64::MIN;

#[derive(Debug)]
pub struct Faults {
    /// Calls before each fault fires; counts on below zero afterwards.
    before: [AtomicI64; KINDS],
    /// The last answer of each length, while a stale one is armed.
    last: Mutex<BTreeMap<usize, Vec<u32>>>,
    /// Which word of a read-back [`Fault::Word`] makes another one, and which.
    lie: Mutex<(usize, u32)>,
}

const KINDS: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A buffer does not fit, though the budget has room.
    OutOfMemory,
    /// The device is destroyed just before a submission.
    Lost,
    /// A wait ends by its timeout.
    Hung,
    /// A pipeline is refused.
    Pipeline,
    /// A read-back is all zeros, as from a device lost in silence.
    Zero,
    /// A read-back is what the one of its length before it was.
    Stale,
    /// A bit of a table, or of a row's values, that is read back is another one.
    BitFlip,
    /// A bit of a row's fate is another one.
    Fate,
    /// A row is left out on its way to its group, or back.
    Row,
    /// A row more has found no room than are marked so.
    Mark,
    /// A group counts a row more than it has.
    Count,
    /// A word of a read-back is another one: [`Faults::lie`].
    Word,
}

impl Default for Faults {
    fn default() -> Self {
        let before = [const { AtomicI64::new(NEVER) }; KINDS];
        Faults { before, last: Mutex::default(), lie: Mutex::default() }
    }
}

impl Faults {
    /// Lets a fault happen once, after so many calls that could have it.
    pub fn arm(&self, fault: Fault, calls_before: u32) {
        self.before[fault as usize].store(i64::from(calls_before), Relaxed);
    }

    /// Lets the read-back after so many others have this word at this place.
    pub fn lie(&self, reads_before: u32, at: usize, word: u32) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = (at, word);
        self.arm(Fault::Word, reads_before);
    }

    /// No fault is armed any more.
    pub fn disarm(&self) {
        self.before.iter().for_each(|before| before.store(NEVER, Relaxed));
    }

    /// Makes of a read-back what an armed fault makes of it.
    pub(super) fn spoil(&self, read: &mut Vec<u32>) {
        if self.fires(Fault::Zero) {
            read.fill(0);
        }
        if self.fires(Fault::Word) {
            let (at, word) = *self.lie.lock().unwrap_or_else(PoisonError::into_inner);
            read[at] = word;
        }
        if self.before[Fault::Stale as usize].load(Relaxed) == NEVER {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(read.len(), read.clone());
        if self.fires(Fault::Stale)
            && let Some(before) = before
        {
            *read = before;
        }
    }

    pub(super) fn fires(&self, fault: Fault) -> bool {
        let before = &self.before[fault as usize];
        before.load(Relaxed) != NEVER && before.fetch_sub(1, Relaxed) == 0
    }
}
