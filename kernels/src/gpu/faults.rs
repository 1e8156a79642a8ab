//! Faults a device can be told to have, so that a test can provoke what no driver does on request.
//!
//! Each is armed by a test and fires at a counted call; a device that nobody arms has none.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

const NEVER: i64 = i64::MIN;

#[derive(Debug)]
pub struct Faults {
    /// Calls before each fault fires; counts on below zero afterwards.
    before: [AtomicI64; KINDS],
}

const KINDS: usize = 7;

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
    /// A bit of a table that is read back is another one.
    BitFlip,
    /// A bit of the first row's fate is another one.
    Fate,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { before: [const { AtomicI64::new(NEVER) }; KINDS] }
    }
}

impl Faults {
    /// Lets a fault happen once, after so many calls that could have it.
    pub fn arm(&self, fault: Fault, calls_before: u32) {
        self.before[fault as usize].store(i64::from(calls_before), Relaxed);
    }

    /// No fault is armed any more.
    pub fn disarm(&self) {
        self.before.iter().for_each(|before| before.store(NEVER, Relaxed));
    }

    pub(super) fn fires(&self, fault: Fault) -> bool {
        let before = &self.before[fault as usize];
        before.load(Relaxed) != NEVER && before.fetch_sub(1, Relaxed) == 0
    }
}
