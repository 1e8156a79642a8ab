//! Packed keys to numbers through two arrays, where ids are dense: no hash, no comparison.
//!
//! The upper half of a key names a page, the lower half a slot in it. Rows of one window by device
//! stay within one page of a few kilobytes, where a hash would spread them over the whole table.
//! Keys may be too sparse for that: then [`Pages::insert`] refuses, and its owner turns to an
//! [`crate::index::Index`].

/// Slots that few keys may cost.
const SLOTS_MIN: usize = if cfg!(test) { 1 << 10 } else { 1 << 14 };
/// Slots a key may cost: what it costs an index, in bytes.
const SLOTS_A_KEY: usize = 8;

#[derive(Default)]
pub(crate) struct Pages {
    /// By the upper half of the key.
    pages: Vec<Page>,
    /// A number plus one; 0 is empty.
    slots: Vec<u32>,
    len: usize,
    /// Where empty pages begin, by the logarithm of their size.
    free: Vec<Vec<u32>>,
}

#[derive(Clone, Copy, Default)]
struct Page {
    start: u32,
    slots: u32,
    used: u32,
}

/// The keys are too sparse.
pub(crate) struct Sparse;

impl Pages {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes_held(&self) -> usize {
        let free = self.free.iter().map(Vec::capacity).sum::<usize>();
        self.pages.capacity() * size_of::<Page>()
            + self.free.capacity() * size_of::<Vec<u32>>()
            + (self.slots.capacity() + free) * size_of::<u32>()
    }

    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<u32> {
        let page = self.pages.get((key >> 32) as usize)?;
        let slot = key as u32;
        if slot >= page.slots {
            return None;
        }
        self.slots[page.start as usize + slot as usize].checked_sub(1)
    }

    /// Adds a key that is not there yet.
    pub fn insert(&mut self, key: u64, number: u32) -> Result<(), Sparse> {
        let (at, slot) = ((key >> 32) as usize, key as u32);
        let page = self.pages.get(at).copied().unwrap_or_default();
        let page = if slot < page.slots { page } else { self.grow(at, page, slot)? };
        self.pages[at].used = page.used + 1;
        self.slots[page.start as usize + slot as usize] = number + 1;
        self.len += 1;
        Ok(())
    }

    /// Gives a page room for `slot`.
    fn grow(&mut self, at: usize, old: Page, slot: u32) -> Result<Page, Sparse> {
        let wanted = (slot as usize + 1).max(2 * old.slots as usize).next_power_of_two();
        let pages = self.pages.len().max(at + 1);
        let size = wanted.ilog2() as usize;
        let fresh = if self.free.get(size).is_some_and(|f| !f.is_empty()) { 0 } else { wanted };
        let needed = pages + self.slots.len() + fresh;
        let start = u32::try_from(self.slots.len()).map_err(|_| Sparse)?;
        if needed > SLOTS_MIN + SLOTS_A_KEY * self.len {
            return Err(Sparse);
        }
        self.slots.resize(self.slots.len() + fresh, 0);
        let start = self.free.get_mut(size).and_then(Vec::pop).unwrap_or(start);
        self.pages.resize(pages, Page::default());
        let place = Page { start, slots: wanted as u32, used: old.used };
        let (from, to) = (old.start as usize, place.start as usize);
        self.slots.copy_within(from..from + old.slots as usize, to);
        self.give_up(old);
        self.pages[at] = place;
        Ok(place)
    }

    fn give_up(&mut self, page: Page) {
        if page.slots > 0 {
            let start = page.start as usize;
            self.slots[start..start + page.slots as usize].fill(0);
            let size = page.slots.ilog2() as usize;
            self.free.resize(self.free.len().max(size + 1), Vec::new());
            self.free[size].push(page.start);
        }
    }

    /// Takes out a key that is there.
    pub fn remove(&mut self, key: u64) {
        let (at, slot) = ((key >> 32) as usize, key as u32);
        let page = &mut self.pages[at];
        self.slots[page.start as usize + slot as usize] = 0;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            let page = std::mem::take(page);
            self.give_up(page);
        }
    }

    /// Forgets all keys. Memory stays for the next ones unless little of it was in use.
    pub fn clear(&mut self) {
        let (pages, slots) = (self.pages.len(), self.slots.len());
        self.pages.clear();
        self.pages.shrink_to(pages * 2);
        self.slots.clear();
        self.slots.shrink_to(slots * 2);
        self.free = Vec::new();
        self.len = 0;
    }
}
