//! Exact sums of powers of one column, or of products of two: skewness, correlation, regression.
//!
//! A double is an integer times a power of two, and so are its powers and products: all sums are
//! exact integers of any length. What is read from them is one quotient of two of these integers,
//! rounded once, and a few operations on doubles: the same for any order of the rows.

use super::error::AggregateError;
use crate::cpu::big::{Big, extension, magnitude, multiply, normalize, round_quotient};

/// Exponent of a double's last bit, less its biased exponent.
const BIAS: i32 = 1075;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// x, x^2, x^3, x^4
    One,
    /// x, y, x^2, y^2, xy
    Two,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moments {
    pub count: u64,
    /// Rows with a value that is no number, or infinite.
    odd: u64,
    sums: Vec<Big>,
}

/// An exact number: sign, magnitude, weight of the lowest bit.
#[derive(Clone, Debug)]
pub(crate) struct Exact {
    negative: bool,
    magnitude: Vec<u64>,
    exponent: i32,
}

/// A finite double as a whole number and its exponent.
fn parts(value: f64) -> (bool, u64, i32) {
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
    let significand = if biased == 0 { fraction } else { fraction | 1 << 52 };
    (bits >> 63 == 1, significand, biased.max(1) - BIAS)
}

/// Two's complement.
fn signed(negative: bool, mut magnitude: Vec<u64>) -> Vec<u64> {
    magnitude.push(0);
    if negative {
        let mut carry = true;
        for limb in &mut magnitude {
            (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
        }
    }
    magnitude
}

impl Moments {
    pub fn new(of: Of) -> Self {
        let sums = match of {
            Of::One => 4,
            Of::Two => 5,
        };
        Moments { count: 0, odd: 0, sums: vec![Big::default(); sums] }
    }

    pub fn bytes_held(&self) -> usize {
        self.sums.iter().map(Big::bytes_held).sum()
    }

    fn add_product(&mut self, sum: usize, factors: &[f64]) {
        let (mut negative, mut product, mut exponent) = (false, vec![1], 0);
        for factor in factors {
            let (sign, significand, weight) = parts(*factor);
            negative ^= sign;
            product = multiply(&product, &[significand]);
            exponent += weight;
        }
        self.sums[sum].add(&signed(negative, product), exponent);
    }

    pub fn add_one(&mut self, x: f64) {
        self.count += 1;
        if !x.is_finite() {
            self.odd += 1;
            return;
        }
        let powers = [x; 4];
        (0..4).for_each(|power| self.add_product(power, &powers[..=power]));
    }

    pub fn add_two(&mut self, x: f64, y: f64) {
        self.count += 1;
        if !x.is_finite() || !y.is_finite() {
            self.odd += 1;
            return;
        }
        for (sum, factors) in [&[x][..], &[y], &[x, x], &[y, y], &[x, y]].into_iter().enumerate() {
            self.add_product(sum, factors);
        }
    }

    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.odd += other.odd;
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            let (limbs, exponent) = other.parts();
            if !limbs.is_empty() {
                sum.add(limbs, exponent);
            }
        }
    }

    /// Whether a value was none that has moments.
    pub fn is_odd(&self) -> bool {
        self.odd > 0
    }

    pub fn sum(&self, sum: usize) -> Exact {
        let (limbs, exponent) = self.sums[sum].parts();
        let (negative, magnitude) = magnitude(limbs);
        Exact { negative, magnitude, exponent }
    }

    /// Count, odd, then each sum: exponent, number of limbs, limbs; little-endian words.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut words = vec![self.count, self.odd];
        for sum in &self.sums {
            let (limbs, mut exponent) = sum.parts();
            let mut limbs = limbs.to_vec();
            normalize(&mut limbs, &mut exponent);
            let exponent = if limbs.iter().all(|limb| *limb == 0) { 0 } else { exponent };
            words.extend([exponent as u64, limbs.len() as u64]);
            words.extend(limbs);
        }
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub fn from_bytes(of: Of, bytes: &[u8], name: &str) -> Result<Self, AggregateError> {
        let cut = || AggregateError::corrupt(name, "sums of powers are cut short");
        let (words, []) = bytes.as_chunks::<8>() else { return Err(cut()) };
        let mut words = words.iter().map(|&word| u64::from_le_bytes(word));
        let mut next = || words.next().ok_or_else(cut);
        let mut read = Moments::new(of);
        (read.count, read.odd) = (next()?, next()?);
        /// A sum of 2^64 products of four doubles is shorter.
        const LIMBS_MAX: u64 = 200;
        for sum in &mut read.sums {
            let exponent = next()? as i32;
            let length = Some(next()?).filter(|length| *length <= LIMBS_MAX).ok_or_else(cut)?;
            let limbs = (0..length).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
            if !limbs.is_empty() {
                sum.add(&limbs, exponent);
            }
        }
        if words.next().is_some() {
            return Err(cut());
        }
        Ok(read)
    }
}

impl Exact {
    pub fn whole(value: u64) -> Self {
        Exact { negative: false, magnitude: vec![value], exponent: 0 }
    }

    pub fn times(&self, other: &Exact) -> Exact {
        Exact {
            negative: self.negative ^ other.negative,
            magnitude: multiply(&self.magnitude, &other.magnitude),
            exponent: self.exponent + other.exponent,
        }
    }

    /// `self + factor * other`
    pub fn plus(&self, factor: i64, other: &Exact) -> Exact {
        let mut sum = Big::default();
        let mut add = |term: &Exact| {
            sum.add(&signed(term.negative, term.magnitude.clone()), term.exponent);
        };
        add(self);
        let mut other = other.times(&Exact::whole(factor.unsigned_abs()));
        other.negative ^= factor < 0;
        add(&other);
        let (limbs, exponent) = sum.parts();
        debug_assert!(limbs.is_empty() || extension(limbs) != 1, "two's complement");
        let (negative, magnitude) = magnitude(limbs);
        Exact { negative, magnitude, exponent }
    }

    pub fn is_zero(&self) -> bool {
        self.magnitude.iter().all(|limb| *limb == 0)
    }

    /// The quotient by these, rounded once.
    pub fn over(&self, divisors: &[u64]) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        round_quotient(self.negative, &self.magnitude, self.exponent, divisors)
    }
}

impl Moments {
    fn n(&self) -> Exact {
        Exact::whole(self.count)
    }

    /// `n * sum(a b) - sum(a) * sum(b)`: n times the sum of products of deviations.
    pub fn deviations(&self, product: usize, a: usize, b: usize) -> Exact {
        self.n().times(&self.sum(product)).plus(-1, &self.sum(a).times(&self.sum(b)))
    }

    /// Sum of the cubes of deviations.
    pub fn third(&self) -> f64 {
        let (n, s1) = (self.n(), self.sum(0));
        let square = s1.times(&s1);
        // n^2 S3 - 3 n S1 S2 + 2 S1^3, over n^2
        let scaled = n.times(&n).times(&self.sum(2));
        let scaled = scaled.plus(-3, &n.times(&s1).times(&self.sum(1)));
        scaled.plus(2, &square.times(&s1)).over(&[self.count, self.count])
    }

    /// Sum of the fourth powers of deviations.
    pub fn fourth(&self) -> f64 {
        let (n, s1) = (self.n(), self.sum(0));
        let square = s1.times(&s1);
        let n2 = n.times(&n);
        // n^3 S4 - 4 n^2 S1 S3 + 6 n S1^2 S2 - 3 S1^4, over n^3
        let scaled = n2.times(&n).times(&self.sum(3));
        let scaled = scaled.plus(-4, &n2.times(&s1).times(&self.sum(2)));
        let scaled = scaled.plus(6, &n.times(&square).times(&self.sum(1)));
        scaled.plus(-3, &square.times(&square)).over(&[self.count, self.count, self.count])
    }
}
