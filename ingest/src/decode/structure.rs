//! Finds the separators of a window of CSV: delimiters and newlines outside quotes, 64 bytes at a
//! time, without a branch per byte.
//!
//! A byte is inside quotes if an odd number of quotes precedes it: a prefix sum over GF(2) of the
//! quote bitmap (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019). This is right as
//! long as each quote opens a field, closes one, or is one half of `""`; each quote that is none of
//! these sets [`Index::irregular`], and [`super::careful`] reads the window again. Before the first
//! such quote every bit is right, so none is overlooked.
//!
//! The tiers differ in three primitives ([`Block`]); the loop is written once.

use super::tier::SimdTier;

/// The bytes that make the structure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub delimiter: u8,
    /// `None`: quotes have no meaning.
    pub quote: Option<u8>,
}

/// What [`Index::read`] found in a window.
#[derive(Default)]
pub(super) struct Index {
    /// The first `count` are field ends; what follows is room that the vector stores may overwrite.
    positions: Vec<u32>,
    count: usize,
    /// Newlines among the positions.
    pub newlines: usize,
    /// The window holds a quote.
    pub quotes: bool,
    /// A quote stands where the fast reading of quotes may be wrong.
    pub irregular: bool,
    /// The window ends inside quotes.
    pub open: bool,
    /// Every byte is below 0x80.
    pub ascii: bool,
}

impl Index {
    pub fn positions(&self) -> &[u32] {
        &self.positions[..self.count]
    }

    pub fn positions_mut(&mut self) -> &mut [u32] {
        &mut self.positions[..self.count]
    }

    pub fn bytes_held(&self) -> usize {
        self.positions.capacity() * size_of::<u32>()
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn push(&mut self, position: u32) {
        if self.count == self.positions.len() {
            self.grow();
        }
        self.positions[self.count] = position;
        self.count += 1;
    }

    pub fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    pub fn clear(&mut self) {
        self.count = 0;
        self.newlines = 0;
        self.quotes = false;
        self.irregular = false;
        self.open = false;
        self.ascii = true;
    }

    /// Reads a window that begins outside quotes, at the start of a row.
    ///
    /// Cost, with the rows cut from it: 0.15 ns a byte with AVX-512, 0.2 with AVX2, 0.5 portable (one
    /// core of a Zen 4, 48-byte rows of 6 fields).
    pub fn read(&mut self, bytes: &[u8], marks: Marks, tier: SimdTier) {
        assert!(bytes.len() < u32::MAX as usize, "a window's offsets are 32 bits wide");
        self.clear();
        match tier {
            SimdTier::Portable => self.scan::<Portable>(bytes, marks),
            #[cfg(target_arch = "x86_64")]
            SimdTier::Avx2 => super::structure_avx2::scan(self, bytes, marks),
            #[cfg(target_arch = "x86_64")]
            SimdTier::Avx512 => super::structure_avx512::scan(self, bytes, marks),
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.scan::<Portable>(bytes, marks),
        }
    }

    #[inline(always)]
    pub(super) fn scan<B: Block>(&mut self, bytes: &[u8], marks: Marks) {
        let mut state = State { field_start: 1, ..State::default() };
        // Locals, so that the stores of positions cannot be taken for stores to these fields.
        let mut positions = std::mem::take(&mut self.positions);
        let mut count = 0;
        let blocks = bytes.chunks_exact(64);
        let rest = blocks.remainder();
        for (i, block) in blocks.enumerate() {
            let block = block.try_into().expect("chunks of 64");
            let base = (i * 64) as u32;
            let separators = state.block::<B>(block, base, !0, bytes, marks);
            push::<B>(separators, base, &mut positions, &mut count);
        }
        if !rest.is_empty() {
            let mut block = [0; 64];
            block[..rest.len()].copy_from_slice(rest);
            let base = (bytes.len() - rest.len()) as u32;
            let separators = state.block::<B>(&block, base, (1 << rest.len()) - 1, bytes, marks);
            push::<B>(separators, base, &mut positions, &mut count);
        }
        self.positions = positions;
        self.count = count;
        self.newlines = state.newlines;
        self.quotes = state.quotes != 0;
        self.irregular = state.irregular != 0;
        self.open = state.inside != 0;
        self.ascii = state.high == 0;
    }

    #[cold]
    fn grow(&mut self) {
        grow(&mut self.positions);
    }
}

#[inline(always)]
fn push<B: Block>(separators: u64, base: u32, positions: &mut Vec<u32>, count: &mut usize) {
    if positions.len() - *count < 64 {
        grow(positions);
    }
    let room = (&mut positions[*count..*count + 64]).try_into();
    B::extract(separators, base, room.expect("64 positions"));
    *count += separators.count_ones() as usize;
}

#[cold]
#[inline(never)]
fn grow(positions: &mut Vec<u32>) {
    positions.resize((positions.len() * 2).max(4096), 0);
}

/// What one block hands to the next; one bit, or all ones.
#[derive(Default)]
struct State {
    inside: u64,
    field_start: u64,
    after_close: u64,
    irregular: u64,
    quotes: u64,
    high: u64,
    newlines: usize,
}

impl State {
    /// Returns the separators of one block of 64 bytes, of which those in `valid` count.
    #[inline(always)]
    fn block<B: Block>(
        &mut self,
        block: &[u8; 64],
        base: u32,
        valid: u64,
        bytes: &[u8],
        marks: Marks,
    ) -> u64 {
        let masks = B::masks(block, marks.delimiter, marks.quote.unwrap_or(0));
        let quotes = if marks.quote.is_some() { masks.quotes & valid } else { 0 };
        let newlines = masks.newlines & valid;
        let mut separators = newlines | (masks.delimiters & valid);
        self.high |= masks.high;
        let mut outside = !0;
        if (quotes | self.inside | self.after_close) != 0 {
            let inside = B::prefix_xor(quotes) ^ self.inside;
            outside = !inside;
            separators &= outside;
            let field_starts = ((separators | quotes) << 1) | self.field_start;
            let opening = quotes & inside;
            let after_close = ((quotes & outside) << 1) | self.after_close;
            self.irregular |= opening & !field_starts;
            let odd = after_close & valid & !(separators | quotes);
            if odd != 0 {
                self.irregular |= odd & !crlf(odd, base, bytes);
            }
            self.after_close = (quotes & outside) >> 63;
            // The sign bit, spread: all ones if the block ends inside quotes. In a last, partial
            // block nothing follows its valid bytes, so the state after them is that of bit 63.
            self.inside = ((inside as i64) >> 63) as u64;
            self.quotes |= quotes;
        }
        self.field_start = (separators | quotes) >> 63;
        self.newlines += (newlines & outside).count_ones() as usize;
        separators
    }
}

/// Those of the bits where `\r\n`, or `\r` at the window's end, stands.
#[cold]
#[inline(never)]
fn crlf(mut bits: u64, base: u32, bytes: &[u8]) -> u64 {
    let mut found = 0;
    while bits != 0 {
        let i = base as usize + bits.trailing_zeros() as usize;
        let newline = bytes.get(i + 1).is_none_or(|&b| b == b'\n');
        if bytes[i] == b'\r' && newline {
            found |= bits & bits.wrapping_neg();
        }
        bits &= bits - 1;
    }
    found
}

/// Bit i of each: byte i of the block is such a byte.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    pub delimiters: u64,
    pub newlines: u64,
    pub quotes: u64,
    /// Not zero if a byte is 0x80 or above; which bits are set means nothing.
    pub high: u64,
}

/// The primitives that a tier brings.
pub(super) trait Block {
    fn masks(block: &[u8; 64], delimiter: u8, quote: u8) -> Masks;
    /// Bit i of the result: the parity of bits 0 to i.
    fn prefix_xor(bits: u64) -> u64;
    /// Writes `base + i` for each set bit i, in order; what follows them in `out` is undefined.
    fn extract(bits: u64, base: u32, out: &mut [u32; 64]);
}

pub(super) struct Portable;

impl Block for Portable {
    #[inline(always)]
    fn masks(block: &[u8; 64], delimiter: u8, quote: u8) -> Masks {
        let mut masks = Masks { delimiters: 0, newlines: 0, quotes: 0, high: 0 };
        for (i, eight) in block.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(eight.try_into().expect("chunks of 8"));
            masks.delimiters |= equal(word, delimiter) << (8 * i);
            masks.newlines |= equal(word, b'\n') << (8 * i);
            masks.quotes |= equal(word, quote) << (8 * i);
            masks.high |= word & (0x80 * ONES);
        }
        masks
    }

    #[inline(always)]
    fn prefix_xor(bits: u64) -> u64 {
        let mut x = bits;
        x ^= x << 1;
        x ^= x << 2;
        x ^= x << 4;
        x ^= x << 8;
        x ^= x << 16;
        x ^ (x << 32)
    }

    #[inline(always)]
    fn extract(bits: u64, base: u32, out: &mut [u32; 64]) {
        extract_by_eights(bits, base, out);
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Bit i: byte i of the word equals `byte`. Exact in every byte, unlike the shorter zero-byte test.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let x = word ^ (u64::from(byte) * ONES);
    let low = 0x7F * ONES;
    let zero = !(((x & low) + low) | x | low);
    // The eight sign bits, gathered into the top byte by one multiplication.
    (zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Eight positions are written per step whatever their number: one branch where a loop over the bits
/// would be mispredicted at each end.
#[inline(always)]
pub(super) fn extract_by_eights(mut bits: u64, base: u32, out: &mut [u32; 64]) {
    let count = bits.count_ones() as usize;
    for (i, eight) in out.chunks_exact_mut(8).enumerate() {
        if i > 0 && i * 8 >= count {
            break;
        }
        for slot in eight {
            *slot = base.wrapping_add(bits.trailing_zeros());
            bits &= bits.wrapping_sub(1);
        }
    }
}
