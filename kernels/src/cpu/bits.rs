//! Answers to one word: 64 comparisons become a `u64`, value 0 in its lowest bit.
//!
//! The answers are written as bytes first, a loop that compilers turn into vector comparisons on
//! every machine, and packed by a multiplication.

use arrow::buffer::{BooleanBuffer, Buffer};

/// One answer a bit for up to 64 values.
#[inline(always)]
pub fn word<T: Copy>(values: &[T], ask: impl Fn(T) -> bool) -> u64 {
    debug_assert!(values.len() <= 64);
    let mut answers = [0_u8; 64];
    for (answer, &value) in answers.iter_mut().zip(values) {
        *answer = u8::from(ask(value));
    }
    gather(&answers)
}

/// One answer a bit for a whole column.
#[inline(always)]
pub fn pack<T: Copy>(values: &[T], ask: impl Fn(T) -> bool) -> BooleanBuffer {
    let words = values.chunks(64).map(|chunk| word(chunk, &ask)).collect();
    buffer(words, values.len())
}

/// One answer a bit for each pair of values of two columns of one length.
#[inline(always)]
pub fn pack_pairs<T: Copy>(a: &[T], b: &[T], ask: impl Fn(T, T) -> bool) -> BooleanBuffer {
    assert_eq!(a.len(), b.len(), "columns of one batch have one length");
    let mut words = Vec::with_capacity(a.len().div_ceil(64));
    for (a, b) in a.chunks(64).zip(b.chunks(64)) {
        let mut answers = [0_u8; 64];
        for (answer, (&a, &b)) in answers.iter_mut().zip(a.iter().zip(b)) {
            *answer = u8::from(ask(a, b));
        }
        words.push(gather(&answers));
    }
    buffer(words, a.len())
}

fn buffer(words: Vec<u64>, bits: usize) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words), 0, bits)
}

/// Byte `i` (0 or 1) becomes bit `i`.
///
/// The factor's bits 7, 14, … 56 carry byte `i` of eight to bit `56 + i` of the product; no two
/// partial products meet in one bit, so nothing is carried.
#[inline(always)]
fn gather(answers: &[u8; 64]) -> u64 {
    const SPREAD: u64 = 0x0102_0408_1020_4080;
    let mut word = 0;
    for (i, eight) in answers.as_chunks::<8>().0.iter().enumerate() {
        word |= (u64::from_le_bytes(*eight).wrapping_mul(SPREAD) >> 56) << (8 * i);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_and_length_lands_in_its_bit() {
        for length in 0..=200 {
            let values: Vec<u32> =
                (0..length).map(|i: u32| i.wrapping_mul(2_654_435_761) >> 7).collect();
            let other: Vec<u32> = values.iter().rev().copied().collect();
            let bits = pack(&values, |v| v % 3 == 0);
            let pairs = pack_pairs(&values, &other, |a, b| a < b);
            assert_eq!((bits.len(), pairs.len()), (values.len(), values.len()));
            for (i, (&a, &b)) in values.iter().zip(&other).enumerate() {
                assert_eq!(bits.value(i), a % 3 == 0, "{i} of {length}");
                assert_eq!(pairs.value(i), a < b, "{i} of {length}");
            }
        }
        for one in 0..64 {
            let values: Vec<usize> = (0..64).collect();
            assert_eq!(word(&values, |v| v == one), 1 << one);
            assert_eq!(word(&values, |v| v != one), !(1 << one));
        }
    }
}
