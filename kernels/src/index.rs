//! Open addressing from hashes to numbers: the one hash table under dictionaries, keys and groups.
//!
//! A slot holds 32 bits of the hash and the number; the keys live with the owner, who is asked to
//! compare them. Growing and removing need the stored bits only, never a key. Probing is linear, and
//! a removal shifts what follows back, so there are no tombstones and the cost of a lookup does not
//! depend on what was there before. Where the first two slots decide, and at most a quarter of a
//! small table and half of a large one is taken, nothing is left for the branch predictor to guess.
//!
//! Hashes depend on a seed. A chain that is longer than chance allows means that keys were made to
//! collide (RELIABILITY F35): the owner then hashes all of them again under another seed. Nothing
//! outside sees the seed: numbers are given by the owner, in order of appearance.

use std::hint::select_unpredictable;

/// Keys looked up together.
pub(crate) const BLOCK: usize = 64;
/// At half load the longest of 10^8 chains is about 95 slots (the tail falls by e^-0.193 a slot).
const CHAIN_MAX: usize = 128;
const SLOTS_MIN: usize = 64;
/// Tables up to this size (256 KiB) lie in the L2 cache: there a wrong guess costs more than memory.
const SLOTS_SMALL: usize = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Short,
    /// Too long for chance: reseed.
    Long,
}

pub(crate) struct Index {
    /// `tag << 32 | number`; 0 is an empty slot, as a tag is never 0.
    slots: Vec<u64>,
    /// The slot of a tag is its upper bits.
    shift: u32,
    len: usize,
    seed: u64,
    /// A reseed is worth its cost only when there are this many numbers: it is linear in them.
    reseed_from: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    pub fn new() -> Self {
        let mut index =
            Index { slots: Vec::new(), shift: 0, len: 0, seed: 0, reseed_from: 2 * CHAIN_MAX };
        index.allocate(SLOTS_MIN);
        index
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes_held(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// Returns the number under `tag` that `same` accepts.
    #[inline(always)]
    pub fn find(&self, tag: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = (tag >> self.shift) as usize;
        let (first, second) = (self.slots[at & mask], self.slots[(at + 1) & mask]);
        let slot = select_unpredictable((first >> 32) as u32 == tag, first, second);
        if (slot >> 32) as u32 == tag && same(slot as u32) {
            return Some(slot as u32);
        }
        loop {
            let slot = self.slots[at & mask];
            if (slot >> 32) as u32 == tag && same(slot as u32) {
                return Some(slot as u32);
            }
            if slot == 0 {
                return None;
            }
            at += 1;
        }
    }

    /// Is it so large that lookups wait for memory?
    pub fn is_large(&self) -> bool {
        self.slots.len() > SLOTS_SMALL
    }

    /// Reads the slot where a lookup of `tag` begins, so that many such reads can overlap; in it,
    /// most likely, is the number.
    #[inline(always)]
    pub fn peek(&self, tag: u32) -> u32 {
        self.slots[(tag >> self.shift) as usize & (self.slots.len() - 1)] as u32
    }

    /// Makes room for `numbers` in all, so that adding them moves none.
    pub fn reserve(&mut self, numbers: usize) {
        if self.is_full_at(numbers) {
            let slots = (2 * numbers).next_power_of_two().max(2 * self.slots.len());
            self.resize(slots);
        }
    }

    fn is_full_at(&self, numbers: usize) -> bool {
        numbers * if self.is_large() { 2 } else { 4 } > self.slots.len()
    }

    /// Adds a number that is not there yet.
    pub fn insert(&mut self, tag: u32, number: u32) -> Chain {
        if self.is_full_at(self.len + 1) {
            self.resize(self.slots.len() * 2);
        }
        self.len += 1;
        if self.place(tag, number) > CHAIN_MAX && self.len >= self.reseed_from {
            Chain::Long
        } else {
            Chain::Short
        }
    }

    /// Takes out a number that is there under `tag`.
    pub fn remove(&mut self, tag: u32, number: u32) {
        let mask = self.slots.len() - 1;
        let wanted = slot(tag, number);
        let mut hole = (tag >> self.shift) as usize & mask;
        while self.slots[hole] != wanted {
            assert!(self.slots[hole] != 0, "number {number} is not in the index");
            hole = (hole + 1) & mask;
        }
        // Whoever probed past the hole moves into it, so that every chain stays unbroken.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let next = self.slots[at];
            if next == 0 {
                break;
            }
            let home = ((next >> 32) as u32 >> self.shift) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = next;
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.len -= 1;
    }

    /// Files all numbers again under a new seed; `tag_of` hashes a number's key with that seed.
    pub fn reseed(&mut self, mut tag_of: impl FnMut(u32, u64) -> u32) {
        // The address is what an attacker cannot know, and no result depends on it.
        self.seed = mix(self.seed ^ self.slots.as_ptr() as u64, 0x2545_f491_4f6c_dd1d);
        self.reseed_from = self.len * 2;
        let old = std::mem::take(&mut self.slots);
        self.allocate(old.len());
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let number = slot as u32;
            let tag = tag_of(number, self.seed);
            self.place(tag, number);
        }
    }

    /// Forgets all numbers; keeps its memory where at least an eighth of it was in use.
    pub fn clear(&mut self) {
        if self.slots.len() > SLOTS_MIN && self.len * 16 < self.slots.len() {
            let half = self.slots.len() / 2;
            self.slots = Vec::new();
            self.allocate(half);
        } else {
            self.slots.fill(0);
        }
        self.len = 0;
    }

    fn allocate(&mut self, slots: usize) {
        assert!(slots <= 1 << 32, "an index holds at most 2^31 numbers");
        self.slots = vec![0; slots];
        self.shift = 32 - slots.trailing_zeros();
    }

    #[cold]
    #[inline(never)]
    fn resize(&mut self, slots: usize) {
        let old = std::mem::take(&mut self.slots);
        self.allocate(slots);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            self.place((slot >> 32) as u32, slot as u32);
        }
    }

    /// Returns how many slots were probed.
    fn place(&mut self, tag: u32, number: u32) -> usize {
        let mask = self.slots.len() - 1;
        let home = (tag >> self.shift) as usize;
        let mut at = home;
        while self.slots[at & mask] != 0 {
            at += 1;
        }
        self.slots[at & mask] = slot(tag, number);
        at - home
    }
}

fn slot(tag: u32, number: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(number)
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folded multiply: both halves of the 128-bit product (as in wyhash and foldhash).
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[inline(always)]
pub(crate) fn tag_of_u64(key: u64, seed: u64) -> u32 {
    (mix(key ^ seed ^ 0xa076_1d64_78bd_642f, ODD) >> 32) as u32 | 1
}

/// One multiplication of the two halves, each with its own secret.
#[inline(always)]
pub(crate) fn tag_of_u128(key: u128, seed: u64) -> u32 {
    let low = key as u64 ^ seed ^ 0xa076_1d64_78bd_642f;
    let high = (key >> 64) as u64 ^ seed.rotate_left(32) ^ 0xe703_7ed1_a0b4_28db;
    (mix(low, high) >> 32) as u32 | 1
}

/// For keys that do not fit 16 bytes.
pub(crate) fn tag_of_bytes(key: &[u8], seed: u64) -> u32 {
    let mut hash = seed ^ key.len() as u64;
    let (chunks, rest) = key.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        let chunk = u128::from_le_bytes(*chunk);
        let (low, high) = (chunk as u64, (chunk >> 64) as u64);
        hash = mix(low ^ hash ^ 0xa076_1d64_78bd_642f, high ^ hash.rotate_left(32) ^ ODD);
    }
    (mix(hash, 0xe703_7ed1_a0b4_28db) >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Numbers whose key is the number itself.
    fn tag(number: u32, seed: u64) -> u32 {
        tag_of_u64(u64::from(number), seed)
    }

    proptest! {
        #[test]
        fn insertions_and_removals_agree_with_a_hash_map(
            steps in prop::collection::vec((1u32..400, any::<bool>()), 0..2000)
        ) {
            let (mut index, mut oracle) = (Index::new(), HashMap::new());
            for (number, insert) in steps {
                // Few distinct tags, so that chains are long and removals shift.
                let tag = tag(number % 37, index.seed());
                match (insert, oracle.contains_key(&number)) {
                    (true, false) => {
                        index.insert(tag, number);
                        oracle.insert(number, tag);
                    }
                    (false, true) => {
                        index.remove(tag, number);
                        oracle.remove(&number);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), oracle.len());
            }
            for number in 1..400 {
                let tag = tag(number % 37, index.seed());
                let found = index.find(tag, |other| other == number);
                prop_assert_eq!(found.is_some(), oracle.contains_key(&number));
            }
        }
    }

    #[test]
    fn keys_made_to_collide_are_spread_by_a_new_seed() {
        let mut index = Index::new();
        let colliding = (1u32..).filter(|&n| tag(n, 0) >> 20 == 7).take(1000);
        let mut reseeds = 0;
        for number in colliding {
            if index.insert(tag(number, index.seed()), number) == Chain::Long {
                index.reseed(tag);
                reseeds += 1;
            }
        }
        assert!((1..=3).contains(&reseeds), "{reseeds} reseeds");
        let longest = (0..index.slots.len())
            .filter(|&at| index.slots[at] != 0)
            .map(|at| at.abs_diff(((index.slots[at] >> 32) as u32 >> index.shift) as usize))
            .filter(|&distance| distance < index.slots.len() / 2)
            .max();
        assert!(longest.expect("it is not empty") < CHAIN_MAX);
    }
}
