//! Dense numbers, from 1 on, for values of a fixed width; number 0 is left to NULL.

use crate::index::{BLOCK, Chain, Index, tag_of_u64, tag_of_u128};

pub(crate) trait Word: Copy + Eq + Default {
    fn tag(self, seed: u64) -> u32;
}

impl Word for u64 {
    #[inline(always)]
    fn tag(self, seed: u64) -> u32 {
        tag_of_u64(self, seed)
    }
}

impl Word for u128 {
    #[inline(always)]
    fn tag(self, seed: u64) -> u32 {
        tag_of_u128(self, seed)
    }
}

pub(crate) struct Dense<W> {
    index: Index,
    /// By number; the first is not a value.
    words: Vec<W>,
    /// Number of the value asked for last: columns such as window starts repeat it. 0 before the
    /// first.
    last: u32,
}

impl<W: Word> Dense<W> {
    pub fn new() -> Self {
        Dense { index: Index::new(), words: vec![W::default()], last: 0 }
    }

    pub fn len(&self) -> usize {
        self.words.len() - 1
    }

    pub fn bytes_held(&self) -> usize {
        self.index.bytes_held() + self.words.capacity() * size_of::<W>()
    }

    pub fn word(&self, number: u32) -> W {
        self.words[number as usize]
    }

    /// Makes room for `values` in all.
    pub fn reserve(&mut self, values: usize) {
        self.index.reserve(values);
        self.words.reserve((values + 1).saturating_sub(self.words.len()));
    }

    pub fn clear(&mut self) {
        let len = self.words.len();
        self.index.clear();
        self.words.truncate(1);
        self.words.shrink_to(len * 2);
        self.last = 0;
    }

    /// Appends the number of each value to `out`: as [`Dense::number`], whose cache misses overlap here.
    pub fn number_all<T: Copy>(&mut self, values: &[T], word: impl Fn(T) -> W, out: &mut Vec<u32>) {
        for block in values.chunks(BLOCK) {
            if self.index.is_large() {
                self.warm_up(block.iter().map(|&value| word(value)));
            }
            out.extend(block.iter().map(|&value| self.number(word(value))));
        }
    }

    /// Reads what the lookups of a block will most likely read, without a branch in between.
    fn warm_up(&self, block: impl Iterator<Item = W>) {
        let mut guesses = [0; BLOCK];
        for (guess, word) in guesses.iter_mut().zip(block) {
            *guess = self.index.peek(word.tag(self.index.seed()));
        }
        let seen =
            |&guess: &u32| self.words.get(guess as usize).is_some_and(|&w| w == W::default());
        std::hint::black_box(guesses.iter().filter(|guess| seen(guess)).count());
    }

    #[inline(always)]
    pub fn number(&mut self, word: W) -> u32 {
        if self.words[self.last as usize] == word && self.last != 0 {
            return self.last;
        }
        let tag = word.tag(self.index.seed());
        let words = &self.words;
        self.last = match self.index.find(tag, |number| words[number as usize] == word) {
            Some(number) => number,
            None => self.add(tag, word),
        };
        self.last
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, tag: u32, word: W) -> u32 {
        let number = u32::try_from(self.words.len()).expect("the index refuses 2^31 values");
        self.words.push(word);
        if self.index.insert(tag, number) == Chain::Long {
            let words = &self.words;
            self.index.reseed(|number, seed| words[number as usize].tag(seed));
        }
        number
    }
}
