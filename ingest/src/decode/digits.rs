//! Columns of numbers, 64 fields at a time: what `str::parse` gives, or a doubt.
//!
//! The last 16 characters of each field become two words, the last character in the highest byte of
//! the second. From there on a field is arithmetic without a branch (eight digits by three
//! multiplications: Lemire, "Quickly parsing eight digits", 2018), so compilers turn the loop over a
//! block into vector code; the tiers compile the same source for their instructions.
//!
//! Invariant: a value without doubt is the one that the complete reading in [`super::number`] gives.
//! A doubt says nothing about the text: the complete reading decides.

use super::spans::{Framed, stripped};
use super::tier::SimdTier;

/// Fields of a block: what is kept of them is 2 KiB.
const ROWS: usize = 64;

const ONES: u64 = 0x0101_0101_0101_0101;
const ZEROS: u64 = b'0' as u64 * ONES;
/// Characters as they are once [`ZEROS`] is taken off.
const MINUS: u64 = (b'-' ^ b'0') as u64 * ONES;
const DOT: u64 = (b'.' ^ b'0') as u64 * ONES;
/// The digit 1 at the last place: the power of ten of a number without a dot.
const UNIT: u64 = 1 << 56;

/// Where the numbers of one column stand.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub framed: &'a Framed<'a>,
    pub field: usize,
    pub quote: Option<u8>,
}

/// A block of fields as words, and what is doubted of them.
pub(super) struct Block {
    /// The last eight characters, and the eight before; what is not the field's is still there.
    low: [u64; ROWS],
    high: [u64; ROWS],
    lengths: [u64; ROWS],
    /// Of the lengths.
    longest: u64,
    /// Not 0: the field must be read by all rules.
    doubts: [u64; ROWS],
}

impl Default for Block {
    fn default() -> Self {
        let none = [0; ROWS];
        Block { low: none, high: none, lengths: none, longest: 0, doubts: none }
    }
}

/// A type of numbers, read by blocks.
pub(super) trait Number: Copy + Default {
    /// Reads every field of a block; `factor` multiplies integers. Returns 0 if nothing is doubted.
    fn read(block: &mut Block, factor: i64, out: &mut [Self; ROWS]) -> u64;
}

/// Reads a column; appends the rows in doubt to `rest`, whose values mean nothing.
pub(super) fn read<T: Number>(
    tier: SimdTier,
    fields: Fields<'_>,
    factor: i64,
    block: &mut Block,
    out: &mut [T],
    rest: &mut Vec<u32>,
) {
    match tier {
        SimdTier::Portable => read_column(fields, factor, block, out, rest),
        #[cfg(target_arch = "x86_64")]
        SimdTier::Avx2 => super::digits_avx2::read(fields, factor, block, out, rest),
        #[cfg(target_arch = "x86_64")]
        SimdTier::Avx512 => super::digits_avx512::read(fields, factor, block, out, rest),
        #[cfg(not(target_arch = "x86_64"))]
        _ => read_column(fields, factor, block, out, rest),
    }
}

#[inline(always)]
pub(super) fn read_column<T: Number>(
    fields: Fields<'_>,
    factor: i64,
    block: &mut Block,
    out: &mut [T],
    rest: &mut Vec<u32>,
) {
    let mut last = [T::default(); ROWS];
    let mut first = 0;
    let (whole, left) = out.as_chunks_mut::<ROWS>();
    for out in whole {
        block.fill(fields, first, ROWS);
        if T::read(block, factor, out) != 0 {
            block.set_aside(first, ROWS, rest);
        }
        first += ROWS;
    }
    if !left.is_empty() {
        block.fill(fields, first, left.len());
        T::read(block, factor, &mut last);
        left.copy_from_slice(&last[..left.len()]);
        block.set_aside(first, left.len(), rest);
    }
}

impl Block {
    /// Takes the fields of `count` rows from `first` on.
    #[inline(never)]
    fn fill(&mut self, fields: Fields<'_>, first: usize, count: usize) {
        let Fields { framed, field, quote } = fields;
        let rows = first..first + count;
        match framed.stride {
            Some(stride) if field < stride && (!framed.quotes || quote.is_none()) => {
                let ends =
                    framed.positions[rows.start * stride..rows.end * stride].chunks_exact(stride);
                match field {
                    0 => {
                        let spans = framed.rows.starts[rows].iter().zip(ends);
                        self.take(framed.bytes, spans.map(|(&start, ends)| (start, ends[0])));
                    }
                    _ => {
                        let span = |ends: &[u32]| (ends[field - 1] + 1, ends[field]);
                        self.take(framed.bytes, ends.map(span));
                    }
                }
            }
            _ => {
                let span = |row| stripped(framed.bytes, framed.field(row, field), quote);
                self.take(framed.bytes, rows.map(span));
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, bytes: &[u8], spans: impl Iterator<Item = (u32, u32)> + Clone) {
        self.longest = 0;
        for (i, (start, end)) in spans.clone().enumerate().take(ROWS) {
            // A missing field ends before it starts, and is as long as none can be.
            let length = u64::from(end.wrapping_sub(start));
            self.low[i] = word_before(bytes, end as usize);
            self.lengths[i] = length;
            self.longest = self.longest.max(length);
        }
        if self.longest > 8 {
            for (i, (_, end)) in spans.enumerate().take(ROWS) {
                self.high[i] = word_before(bytes, (end as usize).saturating_sub(8));
            }
        }
    }

    /// Lists the rows in doubt.
    #[inline(never)]
    fn set_aside(&self, first: usize, count: usize, rest: &mut Vec<u32>) {
        let doubts = self.doubts.iter().take(count).enumerate();
        rest.extend(doubts.filter(|(_, doubt)| **doubt != 0).map(|(i, _)| (first + i) as u32));
    }
}

/// The eight bytes before `end`.
#[inline(always)]
fn word_before(bytes: &[u8], end: usize) -> u64 {
    match bytes.get(end.wrapping_sub(8)..end) {
        Some(word) => u64::from_le_bytes(word.try_into().expect("eight bytes")),
        None => first_word(bytes, end),
    }
}

#[cold]
#[inline(never)]
fn first_word(bytes: &[u8], end: usize) -> u64 {
    let mut word = [0; 8];
    word[8 - end..].copy_from_slice(&bytes[..end]);
    u64::from_le_bytes(word)
}

/// Not 0 unless every byte is 0 to 9.
#[inline(always)]
fn other_than_digits(digits: u64) -> u64 {
    (digits.wrapping_add(0x76 * ONES) | digits) & (0x80 * ONES)
}

/// The value of eight digits (not characters), the first in the lowest byte.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let mask = 0x0000_00FF_0000_00FF;
    let first = (pairs & mask).wrapping_mul(100 + (1_000_000 << 32));
    let second = ((pairs >> 16) & mask).wrapping_mul(1 + (10_000 << 32));
    first.wrapping_add(second) >> 32
}

/// All but the last `length` bytes (1 to 8) of a word shifted out.
#[inline(always)]
fn keep(length: u64) -> u64 {
    u64::MAX << (64u64.wrapping_sub(length.wrapping_mul(8)) & 63)
}

/// Not 0 unless `1 <= count <= most`, a power of two.
#[inline(always)]
fn out_of(count: u64, most: u64) -> u64 {
    count.wrapping_sub(1) & !(most - 1)
}

/// `-?[0-9]+` of up to eight characters, all that its block holds: value and doubt.
#[inline(always)]
fn short_int(word: u64, length: u64) -> (i64, u64) {
    let keep = keep(length);
    let first = keep ^ (keep << 8);
    let digits = (word ^ ZEROS) & keep;
    let negative = (digits ^ MINUS) & first == 0;
    let digits = if negative { digits & !first } else { digits };
    let count = length.wrapping_sub(u64::from(negative));
    let value = eight_digits(digits) as i64;
    let doubt = other_than_digits(digits) | out_of(count, 8);
    (if negative { -value } else { value }, doubt)
}

/// A field of up to sixteen characters without its sign: digits of both words, and the doubt.
struct Unsigned {
    low: u64,
    high: u64,
    count: u64,
    negative: bool,
}

#[inline(always)]
fn unsigned(low: u64, high: u64, length: u64) -> Unsigned {
    let long = length > 8;
    let keep_low = if long { u64::MAX } else { keep(length) };
    let keep_high = if long { keep(length.wrapping_sub(8)) } else { 0 };
    let first_low = if long { 0 } else { keep_low ^ (keep_low << 8) };
    let first_high = keep_high ^ (keep_high << 8);
    let (low, high) = ((low ^ ZEROS) & keep_low, (high ^ ZEROS) & keep_high);
    let negative = ((low ^ MINUS) & first_low) | ((high ^ MINUS) & first_high) == 0;
    Unsigned {
        low: if negative { low & !first_low } else { low },
        high: if negative { high & !first_high } else { high },
        count: length.wrapping_sub(u64::from(negative)),
        negative,
    }
}

/// `-?[0-9]+` of up to sixteen characters: value and doubt.
#[inline(always)]
fn long_int(low: u64, high: u64, length: u64) -> (i64, u64) {
    let Unsigned { low, high, count, negative } = unsigned(low, high, length);
    let value = eight_digits(low).wrapping_add(eight_digits(high).wrapping_mul(100_000_000)) as i64;
    let not_digits = other_than_digits(low) | other_than_digits(high);
    let doubt = not_digits | out_of(length, 16) | out_of(count, 16);
    (if negative { -value } else { value }, doubt)
}

/// A number with a dot or without: digits divided by a power of ten, both exact, and the sign's bit.
struct Quotient {
    digits: f64,
    power: f64,
    sign: u64,
    doubt: u64,
}

/// The lowest byte that is a dot, as its highest bit; 0 if none is.
///
/// The zero-byte test is exact for the lowest zero, the only one asked for.
#[inline(always)]
fn first_dot(word: u64) -> u64 {
    let dots = word ^ DOT;
    let found = dots.wrapping_sub(ONES) & !dots & (0x80 * ONES);
    found & found.wrapping_neg()
}

/// What stands before the dot moved one byte towards the last, the freed byte `filled`.
#[inline(always)]
fn without_dot(word: u64, dot: u64, filled: u64) -> u64 {
    let before = (dot >> 7).wrapping_sub(1);
    let through = dot.wrapping_add(dot).wrapping_sub(1);
    ((word & before) << 8) | filled | (word & !through)
}

#[inline(always)]
fn double_of(digits: u64) -> f64 {
    f64::from(digits as u32 as i32)
}

/// `-?[0-9]*(\.[0-9]*)?` of up to eight characters, one a digit.
#[inline(always)]
fn short_fraction(word: u64, length: u64) -> Quotient {
    let keep = keep(length);
    let first = keep ^ (keep << 8);
    let digits = (word ^ ZEROS) & keep;
    let negative = (digits ^ MINUS) & first == 0;
    let digits = if negative { digits & !first } else { digits };
    let dot = first_dot(digits);
    let dotted = dot != 0;
    let digits = if dotted { without_dot(digits, dot, 0) } else { digits };
    let count = length.wrapping_sub(u64::from(negative) + u64::from(dotted));
    // The digit 1 where the dot was is the power of ten of the digits behind it.
    let power = if dotted { dot >> 7 } else { UNIT };
    Quotient {
        digits: double_of(eight_digits(digits)),
        power: double_of(eight_digits(power)),
        sign: u64::from(negative) << 63,
        doubt: other_than_digits(digits) | out_of(count, 8),
    }
}

/// As [`short_fraction`] for up to sixteen characters.
///
/// With a dot these are at most 15 digits: they and the power of ten are exact in a double, so their
/// quotient is the nearest double (Clinger, "How to read floating point numbers accurately", 1990).
/// Sixteen digits without a dot are rounded once, by the addition.
#[inline(always)]
fn long_fraction(low: u64, high: u64, length: u64) -> Quotient {
    let Unsigned { low, high, count, negative } = unsigned(low, high, length);
    let (dot_low, dot_high) = (first_dot(low), first_dot(high));
    let in_high = dot_high != 0;
    // A second dot is no digit and is found below.
    let in_low = !in_high & (dot_low != 0);
    let behind = if in_high { without_dot(high, dot_high, 0) } else { high };
    let carried = without_dot(low, dot_low, high >> 56);
    let (low, high) = if in_low { (carried, high << 8) } else { (low, behind) };
    let unit = if in_low { dot_low >> 7 } else { UNIT };
    let unit = if in_high { dot_high >> 7 } else { unit };
    let scale = if in_high { 1e8 } else { 1.0 };
    let count = count.wrapping_sub(u64::from(in_low | in_high));
    let not_digits = other_than_digits(low) | other_than_digits(high);
    Quotient {
        digits: double_of(eight_digits(high)) * 1e8 + double_of(eight_digits(low)),
        power: double_of(eight_digits(unit)) * scale,
        sign: u64::from(negative) << 63,
        doubt: not_digits | out_of(length, 16) | out_of(count, 16),
    }
}

/// Runs the short or the long reading over a block; both loops are without a branch.
#[inline(always)]
fn each<V>(
    block: &mut Block,
    short: impl Fn(u64, u64) -> (V, u64),
    long: impl Fn(u64, u64, u64) -> (V, u64),
    mut put: impl FnMut(usize, V) -> u64,
) -> u64 {
    let Block { low, high, lengths, longest, doubts } = block;
    let mut any = 0;
    if *longest <= 8 {
        for i in 0..ROWS {
            let (value, doubt) = short(low[i], lengths[i]);
            doubts[i] = doubt | put(i, value);
            any |= doubts[i];
        }
    } else {
        for i in 0..ROWS {
            let (value, doubt) = long(low[i], high[i], lengths[i]);
            doubts[i] = doubt | put(i, value);
            any |= doubts[i];
        }
    }
    any
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Number for $int {
            #[inline(always)]
            fn read(block: &mut Block, _: i64, out: &mut [$int; ROWS]) -> u64 {
                each(block, short_int, long_int, |i, value| {
                    out[i] = value as $int;
                    (i64::from(out[i]) ^ value) as u64
                })
            }
        }
    )*};
}

integers!(i8, i16, i32);

impl Number for i64 {
    #[inline(always)]
    fn read(block: &mut Block, factor: i64, out: &mut [i64; ROWS]) -> u64 {
        if factor == 1 {
            return each(block, short_int, long_int, |i, value| {
                out[i] = value;
                0
            });
        }
        let most = i64::MAX / factor;
        each(block, short_int, long_int, |i, value| {
            out[i] = value.wrapping_mul(factor);
            u64::from(value > most) | u64::from(value < -most)
        })
    }
}

impl Number for f64 {
    #[inline(always)]
    fn read(block: &mut Block, _: i64, out: &mut [f64; ROWS]) -> u64 {
        each(
            block,
            |word, length| settled(short_fraction(word, length)),
            |low, high, length| settled(long_fraction(low, high, length)),
            |i, quotient| {
                let magnitude = quotient.digits / quotient.power;
                out[i] = f64::from_bits(magnitude.to_bits() | quotient.sign);
                0
            },
        )
    }
}

impl Number for f32 {
    /// Digits up to 2^24 and powers up to 10^10 are exact in a float.
    #[inline(always)]
    fn read(block: &mut Block, _: i64, out: &mut [f32; ROWS]) -> u64 {
        each(
            block,
            |word, length| settled(short_fraction(word, length)),
            |low, high, length| settled(long_fraction(low, high, length)),
            |i, quotient| {
                let magnitude = quotient.digits as f32 / quotient.power as f32;
                out[i] = f32::from_bits(magnitude.to_bits() | (quotient.sign >> 32) as u32);
                u64::from(quotient.digits > 16_777_216.0) | u64::from(quotient.power > 1e10)
            },
        )
    }
}

#[inline(always)]
fn settled(quotient: Quotient) -> (Quotient, u64) {
    let doubt = quotient.doubt;
    (quotient, doubt)
}
