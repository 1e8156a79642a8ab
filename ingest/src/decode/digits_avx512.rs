//! Columns of numbers by AVX-512: the source of [`super::digits`], compiled for its instructions.
//!
//! Unsafe code, because the processor must have them.

use super::digits::{Block, Fields, Number, read_column};
use super::tier::SimdTier;

/// [`super::digits::read`] with this tier's instructions.
pub(super) fn read<T: Number>(
    fields: Fields<'_>,
    factor: i64,
    block: &mut Block,
    out: &mut [T],
    rest: &mut Vec<u32>,
) {
    assert!(SimdTier::detect() >= SimdTier::Avx512, "AVX-512 was asked for and is not here");
    // SAFETY: the assertion above holds only if the processor has the features of `compiled`.
    unsafe { compiled(fields, factor, block, out, rest) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,popcnt")]
fn compiled<T: Number>(
    fields: Fields<'_>,
    factor: i64,
    block: &mut Block,
    out: &mut [T],
    rest: &mut Vec<u32>,
) {
    read_column(fields, factor, block, out, rest);
}
