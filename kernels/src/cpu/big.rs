//! Integers of any length, as sums of doubles need them: little-endian limbs of 64 bits.
//!
//! [`Big`] is the accumulator for what leaves a fixed window; the free functions are the arithmetic
//! behind an exact quotient that is rounded once. No general big-number library: nothing here divides
//! by more than a word, and nothing is fast where it is not asked for per row.

/// A number `limbs * 2^(64 * low)`: two's complement, no limb that repeats the sign of the one below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Big {
    low: i32,
    limbs: Vec<u64>,
}

impl Big {
    pub fn bytes_held(&self) -> usize {
        self.limbs.capacity() * size_of::<u64>()
    }

    /// Adds `value * 2^exponent`, `value` in two's complement.
    pub fn add(&mut self, value: &[u64], exponent: i32) {
        let (low, shift) = (exponent.div_euclid(64), exponent.rem_euclid(64) as u32);
        if self.limbs.is_empty() {
            self.low = low;
        }
        if low < self.low {
            self.limbs.splice(0..0, std::iter::repeat_n(0, (self.low - low) as usize));
            self.low = low;
        }
        let start = (low - self.low) as usize;
        // One limb for the shift and one for the carry: the sum cannot leave them.
        let len = self.limbs.len().max(start + value.len() + 1) + 1;
        let sign = extension(&self.limbs);
        self.limbs.resize(len, sign);
        let mut carry = false;
        for (limb, term) in self.limbs[start..].iter_mut().zip(shifted(value, shift)) {
            (*limb, carry) = carrying_add(*limb, term, carry);
        }
        shorten(&mut self.limbs);
    }

    /// The limbs (none for zero) and the weight of their lowest bit.
    pub fn parts(&self) -> (&[u64], i32) {
        (&self.limbs, self.low * 64)
    }
}

/// All ones for a negative number, else 0: what the limbs beyond the last one are.
pub(crate) fn extension(limbs: &[u64]) -> u64 {
    limbs.last().map_or(0, |&last| ((last as i64) >> 63) as u64)
}

/// The limbs of `value << shift`, `shift < 64`, its sign extended without end.
fn shifted(value: &[u64], shift: u32) -> impl Iterator<Item = u64> {
    let sign = extension(value);
    let mut below = 0;
    value.iter().copied().chain(std::iter::repeat(sign)).map(move |limb| {
        let out = if shift == 0 { limb } else { limb << shift | below >> (64 - shift) };
        below = limb;
        out
    })
}

/// Takes away upper limbs that only repeat the sign.
pub(crate) fn shorten(limbs: &mut Vec<u64>) {
    while let [.., below, last] = limbs[..]
        && last == ((below as i64) >> 63) as u64
    {
        limbs.pop();
    }
    if limbs[..] == [0] {
        limbs.clear();
    }
}

#[inline(always)]
pub(crate) fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// Brings `limbs * 2^exponent` into its one normal form: odd or zero, no limb more than needed.
pub(crate) fn normalize(limbs: &mut Vec<u64>, exponent: &mut i32) {
    shorten(limbs);
    let Some(zeros) = limbs.iter().position(|&limb| limb != 0) else {
        *exponent = 0;
        return;
    };
    let shift = limbs[zeros].trailing_zeros();
    *exponent += 64 * zeros as i32 + shift as i32;
    limbs.drain(..zeros);
    if shift > 0 {
        let sign = extension(limbs);
        for at in 0..limbs.len() {
            let above = limbs.get(at + 1).copied().unwrap_or(sign);
            limbs[at] = limbs[at] >> shift | above << (64 - shift);
        }
        shorten(limbs);
    }
}

/// Splits two's complement into sign and magnitude.
pub(crate) fn magnitude(limbs: &[u64]) -> (bool, Vec<u64>) {
    let negative = extension(limbs) != 0;
    let mut magnitude = limbs.to_vec();
    if negative {
        negate(&mut magnitude);
    }
    (negative, magnitude)
}

fn negate(limbs: &mut [u64]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = carrying_add(!*limb, 0, carry);
    }
}

/// Product of magnitudes.
pub(crate) fn multiply(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut product = vec![0; a.len() + b.len()];
    for (at, &x) in a.iter().enumerate() {
        let mut carry = 0;
        for (&y, out) in b.iter().zip(&mut product[at..]) {
            let sum = u128::from(x) * u128::from(y) + u128::from(*out) + carry;
            *out = sum as u64;
            carry = sum >> 64;
        }
        product[at + b.len()] = carry as u64;
    }
    product
}

/// `magnitude << bits`.
pub(crate) fn shift_left(magnitude: &[u64], bits: u32) -> Vec<u64> {
    let mut out = vec![0; (bits / 64) as usize];
    out.extend(shifted_magnitude(magnitude, bits % 64));
    out
}

fn shifted_magnitude(magnitude: &[u64], shift: u32) -> impl Iterator<Item = u64> {
    let mut below = 0;
    magnitude.iter().copied().chain([0]).map(move |limb| {
        let out = if shift == 0 { limb } else { limb << shift | below >> (64 - shift) };
        below = limb;
        out
    })
}

/// `a - b` of magnitudes; none where it is negative.
pub(crate) fn subtract(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let mut out = a.to_vec();
    out.resize(a.len().max(b.len()), 0);
    let mut borrow = false;
    for (at, limb) in out.iter_mut().enumerate() {
        let (difference, first) = limb.overflowing_sub(b.get(at).copied().unwrap_or(0));
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        (*limb, borrow) = (difference, first | second);
    }
    (!borrow).then_some(out)
}

/// The double next to `±magnitude * 2^exponent / product of divisors`, ties to even, rounded once.
///
/// Dividing by one word after the other is exact here: floor(floor(a / b) / c) = floor(a / (b * c)),
/// and a remainder in any step means that the quotient is not a whole number.
pub(crate) fn round_quotient(
    negative: bool,
    magnitude: &[u64],
    exponent: i32,
    divisors: &[u64],
) -> f64 {
    let Some(top) = magnitude.iter().rposition(|&limb| limb != 0) else { return 0.0 };
    // As many zeros below the number as leave at least 64 bits of quotient to round from.
    let bits = |number: u64| 64 - number.leading_zeros() as usize;
    let needed = 64 + divisors.iter().map(|&divisor| bits(divisor)).sum::<usize>();
    let zeros = needed.saturating_sub(64 * top + bits(magnitude[top])).div_ceil(64);
    let mut limbs = vec![0; zeros];
    limbs.extend_from_slice(&magnitude[..=top]);
    let mut inexact = false;
    for &divisor in divisors {
        let divisor = u128::from(divisor);
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let part = rest << 64 | u128::from(*limb);
            let quotient = part / divisor;
            rest = part - quotient * divisor;
            *limb = quotient as u64;
        }
        inexact |= rest != 0;
    }
    round(negative, &limbs, exponent - 64 * zeros as i32, inexact)
}

/// [`round_quotient`] without a heap, for what nearly every group holds.
pub(crate) fn quotient_of_pair(
    negative: bool,
    magnitude: u128,
    exponent: i32,
    divisor: u64,
) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let zeros = magnitude.leading_zeros();
    let dividend = magnitude << zeros;
    // At least 64 bits of quotient, as the dividend has 128.
    let quotient = if divisor == 1 { dividend } else { dividend / u128::from(divisor) };
    let rest = dividend - quotient * u128::from(divisor);
    let gap = quotient.leading_zeros();
    let window = quotient << gap;
    let sticky = rest != 0 || window as u64 != 0;
    let highest = exponent - zeros as i32 + 127 - gap as i32;
    let bits = round_bits((window >> 64) as u64, sticky, highest);
    f64::from_bits(bits | u64::from(negative) << 63)
}

/// The double next to `±(magnitude + a bit) * 2^exponent`, the bit below all others if `inexact`.
pub(crate) fn round(negative: bool, magnitude: &[u64], exponent: i32, inexact: bool) -> f64 {
    let Some(top) = magnitude.iter().rposition(|&limb| limb != 0) else { return 0.0 };
    let zeros = magnitude[top].leading_zeros();
    let below = if top > 0 { magnitude[top - 1] } else { 0 };
    let window = (u128::from(magnitude[top]) << 64 | u128::from(below)) << zeros;
    // The upper 64 bits, the highest set, are what is rounded; the rest only breaks ties.
    let significant = (window >> 64) as u64;
    let sticky =
        inexact || window as u64 != 0 || magnitude[..top.saturating_sub(1)].iter().any(|&l| l != 0);
    let highest = exponent + 64 * top as i32 + 63 - zeros as i32;
    let bits = round_bits(significant, sticky, highest);
    f64::from_bits(bits | u64::from(negative) << 63)
}

/// Bits of the double next to `significant * 2^(highest - 63)`, whose highest bit is set.
fn round_bits(significant: u64, sticky: bool, highest: i32) -> u64 {
    if highest > 1023 {
        return f64::INFINITY.to_bits();
    }
    // A subnormal keeps fewer bits than 53: those from 2^-1074 on.
    let drop = 11 + (-1022 - highest).max(0) as u32;
    if drop > 64 {
        return 0;
    }
    let wide = u128::from(significant);
    let (kept, rest) = ((wide >> drop) as u64, wide & ((1 << drop) - 1));
    let half = 1 << (drop - 1);
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    // Rounding up may carry into the exponent, up to infinity, and is right then.
    let exponent = if drop == 11 { (highest + 1022) as u64 } else { 0 };
    (exponent << 52) + kept + u64::from(up)
}
