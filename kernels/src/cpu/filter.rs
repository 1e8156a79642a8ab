//! Filter: which rows a condition keeps. NULL counts as false, as in SQL `WHERE`.
//!
//! A filter copies no column: what comes out are row numbers, and later operations read the full
//! columns at those rows.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;

/// Appends the rows whose `mask` is true to `out`, in order.
///
/// Shapes: `mask` holds a bit a row; one `u32` for each row that is kept.
/// Cost: a word of 64 rows that keeps none or all of them costs no test a row.
pub fn select(mask: &BooleanArray, out: &mut Vec<u32>) {
    assert!(u32::try_from(mask.len()).is_ok(), "a batch has fewer than 2^32 rows");
    out.reserve(mask.len());
    let mut first = 0;
    for word in truth(mask).bit_chunks().iter_padded() {
        match word {
            0 => {}
            u64::MAX => out.extend(first..first + 64),
            word => {
                // Every row is written, and overwritten unless it was kept: no branch a row.
                let mut kept = [0; 64];
                let mut count = 0;
                for bit in 0..64 {
                    kept[count] = first.wrapping_add(bit);
                    count += (word >> bit & 1) as usize;
                }
                out.extend_from_slice(&kept[..count]);
            }
        }
        first = first.wrapping_add(64);
    }
}

/// Keeps of `rows` those whose `mask` is true; the order stays.
pub fn retain(mask: &BooleanArray, rows: &mut Vec<u32>) {
    match truth(mask) {
        kept if kept.count_set_bits() == kept.len() => {}
        kept => rows.retain(|&row| kept.value(row as usize)),
    }
}

/// A bit a row: true, and not NULL.
pub fn truth(mask: &BooleanArray) -> BooleanBuffer {
    match mask.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => mask.values() & nulls.inner(),
        None => mask.values().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows one by one, as a reader believes at sight.
    fn naive(mask: &BooleanArray) -> Vec<u32> {
        (0..mask.len()).filter(|&i| mask.is_valid(i) && mask.value(i)).map(|i| i as u32).collect()
    }

    fn check(mask: &BooleanArray) {
        let mut rows = vec![7];
        select(mask, &mut rows);
        assert_eq!((rows[0], &rows[1..]), (7, &naive(mask)[..]), "{mask:?}");

        let mut all: Vec<u32> = (0..mask.len() as u32).rev().collect();
        retain(mask, &mut all);
        all.reverse();
        assert_eq!(all, naive(mask), "{mask:?}");
    }

    #[test]
    fn words_that_are_full_or_empty_count_as_others_do() {
        for length in [0, 1, 63, 64, 65, 128, 300] {
            check(&BooleanArray::from(vec![true; length]));
            check(&BooleanArray::from(vec![false; length]));
            check(&BooleanArray::from(vec![None; length]));
        }
    }

    proptest! {
        #[test]
        fn selects_what_a_row_by_row_loop_does(
            values in prop::collection::vec(prop::option::weighted(0.8, any::<bool>()), 0..300),
            cut in 0_usize..70,
        ) {
            let mask = BooleanArray::from(values);
            let cut = cut.min(mask.len());
            check(&mask);
            check(&mask.slice(cut, mask.len() - cut));
        }
    }
}
