//! The states of all groups: `stride` words a group, each state at its offset among them.
//!
//! One line of memory per group, not one per group and aggregate: with many groups that is what a
//! row costs. A group that is not live holds the template, so a new one needs no work.

pub(crate) struct Words {
    words: Vec<u64>,
    template: Vec<u64>,
}

impl Words {
    pub fn new(template: Vec<u64>) -> Self {
        Words { words: Vec::new(), template }
    }

    pub fn bytes_held(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Makes room for so many groups in all.
    pub fn reserve(&mut self, groups: usize) {
        let words = groups * self.template.len();
        self.words.reserve(words.saturating_sub(self.words.len()));
    }

    /// Gives every group below `groups` its states.
    pub fn grow(&mut self, groups: usize) {
        let stride = self.template.len();
        self.reserve(groups);
        while self.words.len() < groups * stride {
            self.words.extend_from_slice(&self.template);
        }
    }

    pub fn reset(&mut self, group: u32) {
        let stride = self.template.len();
        let start = group as usize * stride;
        self.words[start..start + stride].copy_from_slice(&self.template);
    }

    /// Forgets all groups. Memory stays for the next ones unless little of it was in use.
    pub fn clear(&mut self) {
        let len = self.words.len();
        self.words.clear();
        self.words.shrink_to(len * 2);
    }

    pub fn field(&self, offset: usize) -> FieldRef<'_> {
        FieldRef { words: &self.words, stride: self.template.len(), offset }
    }

    pub fn field_mut(&mut self, offset: usize) -> Field<'_> {
        Field { words: &mut self.words, stride: self.template.len(), offset }
    }
}

/// One state of all groups.
pub(crate) struct Field<'a> {
    words: &'a mut [u64],
    stride: usize,
    offset: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct FieldRef<'a> {
    words: &'a [u64],
    stride: usize,
    offset: usize,
}

impl Field<'_> {
    /// The same words, as a local that the compiler can keep in registers.
    pub fn reborrow(&mut self) -> Field<'_> {
        Field { words: self.words, stride: self.stride, offset: self.offset }
    }

    pub fn groups(&self) -> usize {
        self.words.len() / self.stride
    }

    #[inline(always)]
    pub fn word_mut(&mut self, group: u32) -> &mut u64 {
        &mut self.words[group as usize * self.stride + self.offset]
    }

    #[inline(always)]
    pub fn limbs_mut<const N: usize>(&mut self, group: u32) -> &mut [u64; N] {
        self.slot_mut(group, 0)
    }

    /// Words of a state from its `place`-th on.
    #[inline(always)]
    pub fn slot_mut<const N: usize>(&mut self, group: u32, place: usize) -> &mut [u64; N] {
        let at = group as usize * self.stride + self.offset + place;
        self.words[at..].first_chunk_mut().expect("the layout has room for every state")
    }
}

impl<'a> FieldRef<'a> {
    /// States that lie one behind the other, `stride` words each.
    pub fn of(words: &'a [u64], stride: usize) -> Self {
        FieldRef { words, stride, offset: 0 }
    }

    /// The state without its first words.
    pub fn skip(self, words: usize) -> Self {
        FieldRef { offset: self.offset + words, ..self }
    }

    #[inline(always)]
    pub fn word(&self, group: u32) -> u64 {
        self.words[group as usize * self.stride + self.offset]
    }

    #[inline(always)]
    pub fn limbs<const N: usize>(&self, group: u32) -> [u64; N] {
        let at = group as usize * self.stride + self.offset;
        *self.words[at..].first_chunk().expect("the layout has room for every state")
    }
}
