//! Packed keys to dense group numbers.
//!
//! A group keeps its number until it is removed; then the number goes to a later group, so that the
//! states, which lie by number, stay dense.

use super::pages::{Pages, Sparse};
use crate::index::{BLOCK, Chain, Index, tag_of_u64};

pub struct GroupMap {
    /// Used until the keys turn out to be too sparse for them, then the index until the next clearing.
    pages: Pages,
    index: Index,
    in_pages: bool,
    /// By group; what is not live holds the key it had.
    keys: Vec<u64>,
    /// One bit a group.
    live: Vec<u64>,
    free: Vec<u32>,
}

impl Default for GroupMap {
    fn default() -> Self {
        Self::new()
    }
}

impl GroupMap {
    pub fn new() -> Self {
        GroupMap {
            pages: Pages::default(),
            index: Index::new(),
            in_pages: true,
            keys: Vec::new(),
            live: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Number of live groups.
    pub fn len(&self) -> usize {
        if self.in_pages { self.pages.len() } else { self.index.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Group numbers, live and free, are less than this.
    pub fn capacity(&self) -> usize {
        self.keys.len()
    }

    pub fn bytes_held(&self) -> usize {
        self.pages.bytes_held()
            + self.index.bytes_held()
            + (self.keys.capacity() + self.live.capacity()) * size_of::<u64>()
            + self.free.capacity() * size_of::<u32>()
    }

    pub fn key(&self, group: u32) -> u64 {
        self.keys[group as usize]
    }

    pub fn is_live(&self, group: u32) -> bool {
        self.live.get(group as usize / 64).is_some_and(|bits| bits >> (group % 64) & 1 == 1)
    }

    /// Live groups, ascending by number.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.live.iter().enumerate().flat_map(|(at, &word)| {
            let rest = std::iter::successors(Some(word), |bits| Some(bits & (bits - 1)));
            let rest = rest.take(word.count_ones() as usize);
            rest.map(move |bits| at as u32 * 64 + bits.trailing_zeros())
        })
    }

    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<u32> {
        if self.in_pages {
            return self.pages.find(key);
        }
        let tag = tag_of_u64(key, self.index.seed());
        self.index.find(tag, |group| self.keys[group as usize] == key)
    }

    #[inline(always)]
    pub fn find_or_insert(&mut self, key: u64) -> u32 {
        match self.find(key) {
            Some(group) => group,
            None => self.add(key),
        }
    }

    /// Makes room for `groups` in all.
    pub fn reserve(&mut self, groups: usize) {
        if !self.in_pages {
            self.index.reserve(groups);
        }
        self.keys.reserve(groups.saturating_sub(self.keys.len()));
    }

    /// Appends the group of each key to `out`; new keys get new groups.
    pub fn find_all(&mut self, keys: &[u64], out: &mut Vec<u32>) {
        for block in keys.chunks(BLOCK) {
            if !self.in_pages && self.index.is_large() {
                self.warm_up(block);
            }
            out.extend(block.iter().map(|&key| self.find_or_insert(key)));
        }
    }

    /// Reads what the lookups of these keys will most likely read, without a branch in between: so
    /// the cache misses overlap, where a lookup's wrong guess would wait for each.
    fn warm_up(&self, keys: &[u64]) {
        let mut guesses = [0; BLOCK];
        for (guess, &key) in guesses.iter_mut().zip(keys) {
            *guess = self.index.peek(tag_of_u64(key, self.index.seed()));
        }
        let read = |&guess: &u32| self.keys.get(guess as usize).copied().unwrap_or(0);
        std::hint::black_box(guesses.iter().map(read).fold(0, |a, b| a ^ b));
    }

    /// Panics if the group is not live.
    pub fn remove(&mut self, group: u32) {
        assert!(self.is_live(group), "group {group} is not live");
        let key = self.key(group);
        if self.in_pages {
            self.pages.remove(key);
        } else {
            self.index.remove(tag_of_u64(key, self.index.seed()), group);
        }
        self.live[group as usize / 64] &= !(1 << (group % 64));
        self.free.push(group);
    }

    /// Forgets all groups. Memory stays for the next ones unless little of it was in use.
    pub fn clear(&mut self) {
        let len = self.keys.len();
        self.pages.clear();
        self.index.clear();
        self.in_pages = true;
        self.keys.clear();
        self.keys.shrink_to(len * 2);
        self.live.clear();
        self.live.shrink_to(len / 32);
        self.free = Vec::new();
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, key: u64) -> u32 {
        let group = self.free.pop().unwrap_or_else(|| {
            self.keys.push(0);
            self.live.resize(self.keys.len().div_ceil(64), 0);
            u32::try_from(self.keys.len() - 1).expect("the index refuses 2^31 groups")
        });
        self.keys[group as usize] = key;
        if self.in_pages
            && let Err(Sparse) = self.pages.insert(key, group)
        {
            self.leave_pages();
        }
        if !self.in_pages {
            file(&mut self.index, &self.keys, group);
        }
        self.live[group as usize / 64] |= 1 << (group % 64);
        group
    }

    /// Files the live groups in an index.
    #[cold]
    fn leave_pages(&mut self) {
        let mut index = std::mem::take(&mut self.index);
        index.reserve(self.len() + 1);
        self.iter().for_each(|group| file(&mut index, &self.keys, group));
        self.index = index;
        self.pages.clear();
        self.in_pages = false;
    }
}

fn file(index: &mut Index, keys: &[u64], group: u32) {
    let tag = tag_of_u64(keys[group as usize], index.seed());
    if index.insert(tag, group) == Chain::Long {
        index.reseed(|group, seed| tag_of_u64(keys[group as usize], seed));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Find(Vec<u64>),
        Remove(usize),
        Clear,
    }

    /// Dense ones, which pages take, pages that grow, and now and then one that ends them.
    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![
            600 => 0u64..300,
            600 => (0u64..8, 0u64..40).prop_map(|(page, slot)| page << 32 | slot),
            1 => any::<u64>(),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop::collection::vec(key(), 0..80).prop_map(Step::Find),
            6 => (0usize..300).prop_map(Step::Remove),
            1 => Just(Step::Clear),
        ]
    }

    #[test]
    fn dense_keys_stay_in_pages_and_sparse_ones_leave_them() {
        let mut map = GroupMap::new();
        let mut groups = vec![];
        let windows = (0..50u64).flat_map(|window| (0..1000).map(move |id| window << 32 | id));
        map.find_all(&windows.collect::<Vec<_>>(), &mut groups);
        assert_eq!(groups, (0..50_000).collect::<Vec<_>>());
        assert!(map.in_pages);
        let pages = map.pages.bytes_held();
        map.find_or_insert(7 << 32 | 1 << 20);
        assert!(!map.in_pages);
        assert!(pages < 50_000 * 40, "{pages} bytes: no more than an index takes");
        map.clear();
        map.find_or_insert(5);
        assert!(map.in_pages, "other keys come after a clearing");
    }

    #[test]
    fn pages_of_keys_that_go_serve_those_that_come() {
        let mut map = GroupMap::new();
        for window in 0..200u64 {
            let mut groups = vec![];
            let keys: Vec<u64> = (0..100).map(|id| window << 32 | id).collect();
            map.find_all(&keys, &mut groups);
            if window >= 2 {
                let first = (window - 2) << 32;
                let gone = (0..100).map(|id| map.find(first | id).expect("it is there"));
                gone.collect::<Vec<_>>().into_iter().for_each(|group| map.remove(group));
            }
        }
        assert!(map.in_pages);
        assert_eq!((map.len(), map.capacity()), (200, 300));
    }

    proptest! {
        #[test]
        fn groups_agree_with_a_hash_map(steps in prop::collection::vec(step(), 0..60)) {
            let (mut map, mut oracle) = (GroupMap::new(), HashMap::<u64, u32>::new());
            let mut most = 0;
            for step in steps {
                match step {
                    Step::Find(keys) => {
                        let mut groups = vec![];
                        map.find_all(&keys, &mut groups);
                        for (key, group) in keys.into_iter().zip(groups) {
                            let known = oracle.insert(key, group);
                            prop_assert!(known.is_none_or(|known| known == group));
                        }
                    }
                    Step::Remove(nth) => {
                        let group = map.iter().nth(nth);
                        if let Some(group) = group {
                            prop_assert_eq!(oracle.remove(&map.key(group)), Some(group));
                            map.remove(group);
                            prop_assert!(!map.is_live(group));
                        }
                    }
                    Step::Clear => {
                        map.clear();
                        oracle.clear();
                        most = 0;
                    }
                }
                most = most.max(oracle.len());
                prop_assert_eq!(map.len(), oracle.len());
                prop_assert_eq!(map.capacity(), most, "numbers are given again");
                let mut live = oracle.values().copied().collect::<Vec<_>>();
                live.sort_unstable();
                prop_assert_eq!(map.iter().collect::<Vec<_>>(), live);
                for (&key, &group) in &oracle {
                    prop_assert_eq!((map.key(group), map.find(key)), (key, Some(group)));
                }
            }
        }
    }
}
