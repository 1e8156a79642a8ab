//! Exact sums of doubles for oracles: slow to none, obvious to all.
//!
//! Invariant: nothing is ever rounded but the quotient, and that once.
//! It lacks range: a value that is no multiple of 2^-80 or a magnitude beyond 2^44 panics. Measurements of
//! everyday size with a few decimals are far inside; the product's own sum has no such bounds.

/// Multiples of 2^-80: a double of at least 2^-27 in magnitude has no finer bit.
const SCALE: i32 = 80;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum {
    scaled: i128,
    count: u64,
}

impl ExactSum {
    pub fn add(&mut self, value: f64) {
        // value = mantissa * 2^exponent, from the bits of IEEE 754.
        let bits = value.to_bits();
        let biased = ((bits >> 52) & 0x7ff) as i32;
        let fraction = (bits & ((1 << 52) - 1)) as i128;
        let (mantissa, exponent) = match biased {
            0 => (fraction, -1074),
            0x7ff => panic!("the exact sum takes finite values, not {value}"),
            _ => (fraction | 1 << 52, biased - 1075),
        };
        let shift = exponent + SCALE;
        let scaled = if shift >= 0 {
            assert!(shift <= 72, "{value} is too great for the oracle's sum");
            mantissa << shift
        } else {
            let cut = (-shift).min(64);
            assert!(mantissa & ((1 << cut) - 1) == 0, "{value} has a bit below 2^-{SCALE}");
            mantissa >> cut
        };
        let signed = if bits >> 63 == 1 { -scaled } else { scaled };
        self.scaled = self.scaled.checked_add(signed).expect("the sum is within 2^47");
        self.count += 1;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The quotient of the exact sum and the count, rounded once, to nearest, ties to even.
    pub fn mean(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        if self.scaled == 0 {
            return Some(0.0);
        }
        let magnitude = self.scaled.unsigned_abs();
        // All the bits that 128 hold, so that the quotient has more than a double keeps; what the
        // division leaves over only says "a little more" and is or-ed into the lowest bit.
        let shift = magnitude.leading_zeros();
        let count = u128::from(self.count);
        let (quotient, rest) = ((magnitude << shift) / count, (magnitude << shift) % count);
        let rounded = (quotient | u128::from(rest != 0)) as f64;
        let mean = rounded * 2f64.powi(-(SCALE + shift as i32));
        Some(if self.scaled < 0 { -mean } else { mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> Option<f64> {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&value| sum.add(value));
        sum.mean()
    }

    #[test]
    fn a_mean_is_rounded_once() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[-0.0, 0.0]), Some(0.0));
        assert_eq!(mean(&[21.5]), Some(21.5));
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
        assert_eq!(mean(&[-1.0, -2.0]), Some(-1.5));
        // Naive addition answers 0.10000000000000002 for ten times 0.1 / 10 after rounding thrice.
        assert_eq!(mean(&[0.1; 10]), Some(0.1));
        assert_eq!(mean(&[0.1, 0.2, 0.3]), Some(0.2));
        // What cancels leaves the small one whole: naive addition answers 0.
        assert_eq!(mean(&[1e12, 0.0009765625, -1e12]), Some(0.0009765625 / 3.0));
    }

    #[test]
    #[should_panic(expected = "has a bit below")]
    fn a_value_too_fine_is_refused() {
        mean(&[1e-30]);
    }
}
