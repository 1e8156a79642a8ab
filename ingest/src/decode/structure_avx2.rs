//! The structural index's primitives in AVX2, carry-less multiplication and BMI.
//!
//! Twin of [`super::structure::Portable`]. Unsafe code, because intrinsics are.

use std::arch::x86_64::*;

use super::structure::{Block, Index, Marks, Masks, extract_by_eights};
use super::tier::SimdTier;

/// [`Index::read`] with this tier's instructions.
pub(super) fn scan(index: &mut Index, bytes: &[u8], marks: Marks) {
    assert!(SimdTier::detect() >= SimdTier::Avx2, "AVX2 was asked for and is not here");
    // SAFETY: the assertion above holds exactly when the processor has the features of `compiled`.
    unsafe { compiled(index, bytes, marks) }
}

#[target_feature(enable = "avx2,pclmulqdq,bmi1,popcnt")]
fn compiled(index: &mut Index, bytes: &[u8], marks: Marks) {
    index.scan::<Avx2>(bytes, marks);
}

/// Only `compiled` and the tier above name it, and only below their functions are its methods inlined.
pub(super) struct Avx2;

impl Block for Avx2 {
    #[inline(always)]
    fn masks(block: &[u8; 64], delimiter: u8, quote: u8) -> Masks {
        // SAFETY: AVX2 is there (see `Avx2`); both loads lie within the 64 bytes of `block` and
        // need no alignment.
        unsafe {
            let low = _mm256_loadu_si256(block.as_ptr().cast());
            let high = _mm256_loadu_si256(block.as_ptr().add(32).cast());
            Masks {
                delimiters: equal(low, high, delimiter),
                newlines: equal(low, high, b'\n'),
                quotes: equal(low, high, quote),
                high: u64::from(_mm256_movemask_epi8(_mm256_or_si256(low, high)) as u32),
            }
        }
    }

    #[inline(always)]
    fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: PCLMULQDQ is there (see `Avx2`); the operation touches registers only.
        unsafe {
            let product = _mm_clmulepi64_si128::<0>(
                _mm_set_epi64x(0, bits as i64),
                _mm_set1_epi8(-1), // multiplying by all ones is the prefix sum
            );
            _mm_cvtsi128_si64(product) as u64
        }
    }

    #[inline(always)]
    fn extract(bits: u64, base: u32, out: &mut [u32; 64]) {
        extract_by_eights(bits, base, out);
    }
}

/// Bit i: byte i of the 64 equals `byte`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn equal(low: __m256i, high: __m256i, byte: u8) -> u64 {
    // SAFETY: the caller vouches for AVX2; the operations touch registers only.
    unsafe {
        let byte = _mm256_set1_epi8(byte as i8);
        let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, byte)) as u32;
        let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, byte)) as u32;
        u64::from(low) | (u64::from(high) << 32)
    }
}
