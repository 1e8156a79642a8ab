//! Bytes of text states: two words a value, its place and its length, in one block a state.

use crate::cpu::words::Field;

/// Length of no value.
const NONE: u64 = u64::MAX;
/// Dead bytes below this are not worth a pass over the groups; tests are small and pass all the time.
const DEAD_MIN: usize = if cfg!(test) { 16 } else { 64 * 1024 };

#[derive(Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    /// Bytes that no value uses any more.
    dead: usize,
}

impl Arena {
    pub const EMPTY: [u64; 2] = [0, NONE];

    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn get(&self, [start, length]: [u64; 2]) -> Option<&[u8]> {
        (length != NONE).then(|| &self.bytes[start as usize..(start + length) as usize])
    }

    pub fn set(&mut self, slot: &mut [u64; 2], value: &[u8]) {
        self.free(slot);
        let [start, length] = *slot;
        let start = if length != NONE && value.len() as u64 <= length {
            self.dead -= value.len();
            start as usize
        } else {
            self.bytes.extend_from_slice(value);
            self.bytes.len() - value.len()
        };
        self.bytes[start..start + value.len()].copy_from_slice(value);
        *slot = [start as u64, value.len() as u64];
    }

    /// Counts a value's bytes as dead; its slot is about to be overwritten.
    pub fn free(&mut self, slot: &[u64; 2]) {
        if slot[1] != NONE {
            self.dead += slot[1] as usize;
        }
    }

    /// Moves the values together when most bytes are dead. `at` is where a group's slot lies among
    /// the words of its state.
    pub fn compact_if_sparse(&mut self, field: &mut Field<'_>, at: usize) {
        if self.dead < DEAD_MIN || self.dead < self.bytes.len() / 2 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
        for group in 0..field.groups() as u32 {
            let slot = field.slot_mut(group, at);
            if let Some(value) = self.get(*slot) {
                slot[0] = bytes.len() as u64;
                bytes.extend_from_slice(value);
            }
        }
        *self = Arena { bytes, dead: 0 };
    }

    pub fn clear(&mut self) {
        let len = self.bytes.len();
        self.bytes.clear();
        self.bytes.shrink_to(len * 2);
        self.dead = 0;
    }
}
