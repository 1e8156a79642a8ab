//! A sum of doubles that has left its table: in its normal form, read, or on its way to a partial.
//!
//! Invariant: one number, one form. `(odd or zero) * 2^exponent`, zero with exponent 0, in `N` limbs
//! where it fits and else in as many as it needs; so equal sets of values give equal bytes.

use super::big::{
    Big, carrying_add, extension, magnitude, normalize, quotient_of_pair, round_quotient,
};

/// More than any sum of 2^64 squares of doubles needs; what claims more is no sum of ours.
const EXPONENT_MAX: u32 = 2200;
const WIDE_BYTES_MAX: usize = 640;

/// How many values were none that a sum could take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Specials {
    pub nan: u64,
    pub positive: u64,
    pub negative: u64,
}

impl Specials {
    /// What they make of the sum; none where there are none.
    pub fn value(&self) -> Option<f64> {
        match (self.nan, self.positive, self.negative) {
            (0, 0, 0) => None,
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    pub fn add(&mut self, other: &Specials) {
        self.nan += other.nan;
        self.positive += other.positive;
        self.negative += other.negative;
    }
}

/// One group's sum in its normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Total<const N: usize> {
    /// Two's complement; zero where the number does not fit.
    pub small: [u64; N],
    pub exponent: i32,
    /// What few sums have; none where it would be empty.
    pub extra: Option<Box<Extra>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Shortest form of what does not fit the fixed limbs, else empty.
    pub wide: Vec<u64>,
    pub specials: Specials,
}

impl Extra {
    pub fn boxed(wide: Vec<u64>, specials: Specials) -> Option<Box<Self>> {
        let extra = Extra { wide, specials };
        (extra != Extra::default()).then(|| Box::new(extra))
    }
}

impl<const N: usize> Total<N> {
    pub const ZERO: Self = Total { small: [0; N], exponent: 0, extra: None };

    /// Is it in the one normal form that its number has?
    pub fn is_normal(&self) -> bool {
        let odd = self.limbs()[0] & 1 == 1;
        let in_range = self.exponent.unsigned_abs() <= EXPONENT_MAX;
        let zero = self.small == [0; N] && self.exponent == 0;
        match self.extra.as_ref().map_or(&[][..], |extra| &extra.wide) {
            [] => odd & in_range || zero,
            wide @ [.., below, last] => {
                let shortest = wide.len() > N && *last != extension(&[*below]);
                let in_range = in_range && wide.len() * 8 <= WIDE_BYTES_MAX;
                odd && shortest && in_range && self.small == [0; N]
            }
            _ => false,
        }
    }

    pub fn limbs(&self) -> &[u64] {
        match &self.extra {
            Some(extra) if !extra.wide.is_empty() => &extra.wide,
            _ => &self.small,
        }
    }

    pub fn specials(&self) -> Specials {
        self.extra.as_ref().map_or(Specials::default(), |extra| extra.specials)
    }

    /// The limbs if they are few.
    pub fn fitting(&self) -> Option<[u64; N]> {
        let wide = self.extra.as_ref().is_some_and(|extra| !extra.wide.is_empty());
        (!wide).then_some(self.small)
    }

    pub fn is_zero(&self) -> bool {
        self.fitting() == Some([0; N])
    }

    /// The sum divided by a count, rounded once; an exact zero is +0.0.
    pub fn quotient(&self, count: u64) -> f64 {
        if let Some(special) = self.specials().value() {
            return special;
        }
        if N == 2 && self.extra.is_none() {
            let sum = pair(&self.small);
            return quotient_of_pair(sum < 0, sum.unsigned_abs(), self.exponent, count);
        }
        let (negative, magnitude) = magnitude(self.limbs());
        round_quotient(negative, &magnitude, self.exponent, &[count])
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        self.quotient(1)
    }
}

pub(crate) fn total_of<const N: usize>(sum: &Big, specials: Specials) -> Total<N> {
    let (limbs, mut exponent) = sum.parts();
    let mut limbs = limbs.to_vec();
    normalize(&mut limbs, &mut exponent);
    if limbs.len() > N {
        return Total { small: [0; N], exponent, extra: Extra::boxed(limbs, specials) };
    }
    let mut small = [extension(&limbs); N];
    small[..limbs.len()].copy_from_slice(&limbs);
    Total { small, exponent, extra: Extra::boxed(Vec::new(), specials) }
}

/// Bits of the magnitude, give or take one.
pub(crate) fn bit_length(limbs: &[u64]) -> i32 {
    let sign = extension(limbs);
    let top = limbs.iter().rposition(|&limb| limb != sign).unwrap_or(0);
    64 * (top as i32 + 1) - (limbs[top] ^ sign).leading_zeros() as i32
}

/// The two limbs as one integer; for `N` = 2.
#[inline(always)]
fn pair<const N: usize>(limbs: &[u64; N]) -> i128 {
    (u128::from(limbs[N - 1]) << 64 | u128::from(limbs[0])) as i128
}

#[inline(always)]
pub(crate) fn limbs_of<const N: usize>(pair: i128) -> [u64; N] {
    let mut limbs = [pair as u64; N];
    limbs[N - 1] = (pair >> 64) as u64;
    limbs
}

/// Makes a number odd; zero gets exponent 0.
#[inline(always)]
pub(crate) fn normalize_small<const N: usize>(
    mut limbs: [u64; N],
    exponent: i32,
) -> ([u64; N], i32) {
    if N == 2 {
        let number = pair(&limbs);
        let zeros = number.trailing_zeros();
        let exponent = exponent + zeros as i32;
        return (limbs_of(number >> (zeros & 127)), if number == 0 { 0 } else { exponent });
    }
    let Some(zeros) = limbs.iter().position(|&limb| limb != 0) else { return (limbs, 0) };
    let shift = limbs[zeros].trailing_zeros();
    let sign = extension(&limbs);
    let at = |limbs: &[u64; N], place: usize| limbs.get(place).copied().unwrap_or(sign);
    for place in 0..N {
        let (low, high) = (at(&limbs, place + zeros), at(&limbs, place + zeros + 1));
        limbs[place] = low >> shift | high << 1 << (63 - shift);
    }
    (limbs, exponent + (64 * zeros) as i32 + shift as i32)
}

/// `limbs << shift`; none where that leaves two's complement of `N` limbs.
#[inline(always)]
pub(crate) fn shift_left<const N: usize>(limbs: [u64; N], shift: u32) -> Option<[u64; N]> {
    if shift >= 64 * N as u32 {
        return None;
    }
    if N == 2 {
        let number = pair(&limbs);
        let shifted = number << shift;
        return (shifted >> shift == number).then_some(limbs_of(shifted));
    }
    let sign = extension(&limbs);
    let whole = (shift / 64) as usize;
    let bits = shift % 64;
    let mut out = [0; N];
    for place in whole..N {
        let low = limbs[place - whole];
        let below = if place > whole { limbs[place - whole - 1] } else { 0 };
        out[place] = low << bits | below >> 1 >> (63 - bits);
    }
    // What was shifted out, and the sign bit that is left, must all repeat the sign.
    let lost = limbs[N - whole..].iter().all(|&limb| limb == sign);
    let edge = limbs[N - whole - 1] as i64 >> (63 - bits);
    (lost && edge as u64 == sign).then_some(out)
}

/// Sum in two's complement; none on overflow.
#[inline(always)]
pub(crate) fn checked_add<const N: usize>(a: [u64; N], b: [u64; N]) -> Option<[u64; N]> {
    let mut sum = [0; N];
    let mut carry = false;
    for place in 0..N {
        (sum[place], carry) = carrying_add(a[place], b[place], carry);
    }
    let overflow = (a[N - 1] ^ sum[N - 1]) & (b[N - 1] ^ sum[N - 1]);
    (overflow >> 63 == 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::oracle::Random;

    #[test]
    fn numbers_that_are_no_normal_form_are_no_totals() {
        let total = |small, wide: &[u64], exponent| {
            let extra = Extra::boxed(wide.to_vec(), Specials::default());
            Total::<2> { small, exponent, extra }.is_normal()
        };
        assert!(total([0, 0], &[], 0) && total([3, 0], &[], -1074) && total([0, 0], &[1, 0, 1], 0));
        assert!(!total([0, 0], &[], 1), "zero has exponent 0");
        assert!(!total([2, 0], &[], 0), "even");
        assert!(!total([3, 0], &[], EXPONENT_MAX as i32 + 1) && !total([3, 0], &[], i32::MIN));
        assert!(!total([1, 0], &[1, 0, 1], 0), "twice a number");
        assert!(!total([0, 0], &[1, 1], 0), "it fits the fixed limbs");
        assert!(!total([0, 0], &[1, 1, 0], 0), "it fits, too: its last limb repeats the sign");
        assert!(!total([0, 0], &[1; 81], 0), "longer than any sum of doubles");
    }

    /// Shifts of four limbs and of two against those of an `i128`.
    #[test]
    fn shifts_lose_nothing_or_say_so() {
        for seed in 0..20_000 {
            let random = &mut Random(seed);
            let number =
                i128::from((random.next() as i64 >> random.below(64)) | 1) << random.below(63);
            let high = (number >> 64) as u64;
            let four = [number as u64, high, extension(&[high]), extension(&[high])];
            let zeros = number.trailing_zeros();
            let (odd, exponent) = normalize_small(four, 7);
            assert_eq!(exponent, 7 + zeros as i32);
            assert_eq!(pair(&[odd[0], odd[1]]), number >> zeros);
            assert_eq!(shift_left(odd, zeros), Some(four));
            assert_eq!(
                normalize_small(limbs_of::<2>(number), 7),
                (limbs_of(number >> zeros), exponent)
            );
            // Room above the number, its sign bit left.
            let unused =
                if number < 0 { number.leading_ones() } else { number.leading_zeros() } - 1;
            assert_eq!(shift_left(limbs_of::<2>(number), unused), Some(limbs_of(number << unused)));
            assert_eq!(shift_left(limbs_of::<2>(number), unused + 1), None);
            let farthest = shift_left(four, unused + 128).expect("there is room");
            assert_eq!(normalize_small(farthest, 0), (odd, (zeros + unused + 128) as i32));
            assert_eq!(shift_left(four, unused + 129), None);
        }
    }
}
