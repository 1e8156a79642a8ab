//! Byte strings to dense numbers (dictionary ids), at the speed of a decoder.
//!
//! Id 0 is NULL; the ids of values count from 1 in order of appearance and mean something within this
//! interner alone. Values of up to 15 bytes live in the entry and are compared as one 128-bit
//! integer; longer ones live in an arena. What is interned stays until [`Interner::clear`]: the
//! caller bounds it by [`Interner::bytes_held`].

use crate::index::{Chain, Index, tag_of_bytes, tag_of_u128};

/// Longest value that fits an entry beside its length.
const INLINE_MAX: usize = 15;
/// In an entry's last byte: the value is in the arena.
const IN_ARENA: u8 = 0xff;
/// For each length, what to keep of 16 bytes.
const KEEP: [u128; INLINE_MAX + 1] = {
    let mut keep = [0; INLINE_MAX + 1];
    let mut length = 1;
    while length <= INLINE_MAX {
        keep[length] = keep[length - 1] << 8 | 0xff;
        length += 1;
    }
    keep
};

pub struct Interner {
    index: Index,
    /// By id. Up to 15 bytes: the value, zeros, its length in the last byte. Longer: where it begins
    /// in the arena (8 bytes), its length (4), zeros, [`IN_ARENA`].
    entries: Vec<[u8; 16]>,
    arena: Vec<u8>,
}

impl Default for Interner {
    fn default() -> Self {
        Self::new()
    }
}

impl Interner {
    pub fn new() -> Self {
        Interner { index: Index::new(), entries: vec![[0; 16]], arena: Vec::new() }
    }

    /// Number of ids given, NULL's included: ids are less than this.
    #[expect(clippy::len_without_is_empty, reason = "NULL is always there")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes_held(&self) -> usize {
        self.index.bytes_held() + self.entries.capacity() * 16 + self.arena.capacity()
    }

    /// Returns the value of an id; no bytes for NULL.
    pub fn value(&self, id: u32) -> &[u8] {
        let entry = &self.entries[id as usize];
        match entry[INLINE_MAX] {
            IN_ARENA => &self.arena[arena_range(entry)],
            length => &entry[..length as usize],
        }
    }

    /// Forgets all values. Memory stays for the next ones unless little of it was in use.
    pub fn clear(&mut self) {
        let (entries, bytes) = (self.entries.len(), self.arena.len());
        self.index.clear();
        self.entries.truncate(1);
        self.entries.shrink_to(entries * 2);
        self.arena.clear();
        self.arena.shrink_to(bytes * 2);
    }

    pub fn intern(&mut self, value: &[u8]) -> u32 {
        if value.len() <= INLINE_MAX {
            let mut entry = [0; 16];
            entry[..value.len()].copy_from_slice(value);
            entry[INLINE_MAX] = value.len() as u8;
            self.intern_inline(u128::from_le_bytes(entry))
        } else {
            self.intern_long(value)
        }
    }

    /// Appends the id of each span of `bytes` to `out`; a span that ends before it starts is NULL.
    ///
    /// Shapes: span `i` is `bytes[starts[i]..ends[i]]`.
    /// Cost: allocates only for values not seen before, and where `out` has no room.
    pub fn intern_spans(&mut self, bytes: &[u8], starts: &[u32], ends: &[u32], out: &mut Vec<u32>) {
        assert_eq!(starts.len(), ends.len(), "a span has a start and an end");
        out.extend(starts.iter().zip(ends).map(|(&start, &end)| {
            let (start, length) = (start as usize, end.wrapping_sub(start) as usize);
            match bytes.get(start..start + 16) {
                Some(window) if length <= INLINE_MAX => {
                    let window = window.try_into().expect("the window has 16 bytes");
                    let value = u128::from_le_bytes(window) & KEEP[length];
                    self.intern_inline(value | (length as u128) << (8 * INLINE_MAX))
                }
                _ => self.intern_rare(bytes, start, end as usize),
            }
        }));
    }

    /// Long values, NULL, and the last bytes of a buffer.
    #[cold]
    #[inline(never)]
    fn intern_rare(&mut self, bytes: &[u8], start: usize, end: usize) -> u32 {
        if end < start { 0 } else { self.intern(&bytes[start..end]) }
    }

    #[inline(always)]
    fn intern_inline(&mut self, key: u128) -> u32 {
        let tag = tag_of_u128(key, self.index.seed());
        let entries = &self.entries;
        match self.index.find(tag, |id| u128::from_le_bytes(entries[id as usize]) == key) {
            Some(id) => id,
            None => self.add(tag, key.to_le_bytes()),
        }
    }

    fn intern_long(&mut self, value: &[u8]) -> u32 {
        let tag = tag_of_bytes(value, self.index.seed());
        let (entries, arena) = (&self.entries, &self.arena);
        let found = self.index.find(tag, |id| {
            let entry = &entries[id as usize];
            entry[INLINE_MAX] == IN_ARENA && arena[arena_range(entry)] == *value
        });
        if let Some(id) = found {
            return id;
        }
        let length = u32::try_from(value.len()).expect("a record is shorter than 4 GiB");
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&(self.arena.len() as u64).to_le_bytes());
        entry[8..12].copy_from_slice(&length.to_le_bytes());
        entry[INLINE_MAX] = IN_ARENA;
        self.arena.extend_from_slice(value);
        self.add(tag, entry)
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, tag: u32, entry: [u8; 16]) -> u32 {
        let id = u32::try_from(self.entries.len()).expect("the index refuses 2^31 values");
        self.entries.push(entry);
        if self.index.insert(tag, id) == Chain::Long {
            let (entries, arena) = (&self.entries, &self.arena);
            self.index.reseed(|id, seed| {
                let entry = &entries[id as usize];
                match entry[INLINE_MAX] {
                    IN_ARENA => tag_of_bytes(&arena[arena_range(entry)], seed),
                    _ => tag_of_u128(u128::from_le_bytes(*entry), seed),
                }
            });
        }
        id
    }
}

#[inline(always)]
fn arena_range(entry: &[u8; 16]) -> std::ops::Range<usize> {
    let word = u128::from_le_bytes(*entry);
    let start = word as u64 as usize;
    start..start + (word >> 64) as u32 as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few letters and many zero bytes: repeats, prefixes of each other, lengths around 15 and 16.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(0xff)], 0..4),
            prop::collection::vec(prop_oneof![Just(0), Just(b'a')], 13..19),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn spans_and_single_values_get_the_ids_of_a_hash_map(
            values in prop::collection::vec(prop::option::weighted(0.9, value()), 0..200),
            clear_at in 0usize..400,
        ) {
            let (mut interner, mut oracle) = (Interner::new(), HashMap::new());
            if clear_at < values.len() {
                values[..clear_at].iter().flatten().for_each(|v| _ = interner.intern(v));
                interner.clear();
            }
            let (mut bytes, mut starts, mut ends, mut want) = (vec![], vec![], vec![], vec![]);
            for value in &values {
                match value {
                    None => {
                        starts.push(bytes.len() as u32 + 1);
                        ends.push(bytes.len() as u32);
                        want.push(0);
                    }
                    Some(value) => {
                        starts.push(bytes.len() as u32);
                        bytes.extend_from_slice(value);
                        ends.push(bytes.len() as u32);
                        let next = oracle.len() as u32 + 1;
                        want.push(*oracle.entry(value.clone()).or_insert(next));
                    }
                }
            }
            let mut ids = vec![7];
            interner.intern_spans(&bytes, &starts, &ends, &mut ids);
            prop_assert_eq!(&ids[1..], &want);
            prop_assert_eq!(interner.len(), oracle.len() + 1);
            for (value, id) in oracle {
                prop_assert_eq!(interner.value(id), &value);
                prop_assert_eq!(interner.intern(&value), id);
            }
        }
    }

    #[test]
    fn a_million_values_keep_their_ids_while_the_table_grows() {
        let mut interner = Interner::new();
        let text = |n: u32| {
            if n.is_multiple_of(3) { format!("a long key number {n}") } else { n.to_string() }
        };
        for n in 0..1_000_000 {
            assert_eq!(interner.intern(text(n).as_bytes()), n + 1);
        }
        for n in (0..1_000_000).step_by(997) {
            assert_eq!(interner.intern(text(n).as_bytes()), n + 1);
            assert_eq!(interner.value(n + 1), text(n).as_bytes());
        }
        assert_eq!(interner.value(0), b"");
    }

    #[test]
    fn memory_of_a_spike_is_given_back_by_later_clears() {
        let mut interner = Interner::new();
        for n in 0..200_000 {
            interner.intern(format!("a key that goes to the arena: {n}").as_bytes());
        }
        let spike = interner.bytes_held();
        for _ in 0..20 {
            interner.clear();
            interner.intern(b"one");
        }
        assert!(interner.bytes_held() < spike / 1000, "{} of {spike}", interner.bytes_held());
    }
}
