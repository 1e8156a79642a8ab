//! The fixed order in which an epoch's groups leave: by window start, then by the keys, nulls first.
//!
//! Each key column becomes order-preserving codes (a string column: the rank of its few distinct
//! values; a number: its distance from the least in steps of their common divisor), the codes of a
//! row are packed into one number and numbers are sorted: groups of (window, device) cost two passes
//! of a radix sort instead of string comparisons.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    UInt32Type,
};

/// Row numbers in the order in which they leave.
pub fn sorted(keys: &[ArrayRef], window: Option<usize>, rows: usize) -> Vec<u32> {
    let first = window.into_iter();
    let others = (0..keys.len()).filter(|key| Some(*key) != window);
    let columns: Vec<&ArrayRef> = first.chain(others).map(|key| &keys[key]).collect();
    if columns.is_empty() || rows < 2 {
        return (0..rows as u32).collect();
    }
    match columns.iter().map(|column| codes(column)).collect::<Option<Vec<Codes>>>() {
        Some(codes) if codes.iter().map(|c| c.bits).sum::<u32>() <= 64 => by_packed(&codes, rows),
        _ => by_comparison(&columns),
    }
}

/// A column as numbers that sort as its values do; NULL is 0.
struct Codes {
    of: Vec<u64>,
    bits: u32,
}

fn codes(column: &ArrayRef) -> Option<Codes> {
    if let Some(dictionary) = column.as_dictionary_opt::<UInt32Type>() {
        let rank = ranks(dictionary.values());
        let ids = dictionary.keys();
        let of = (0..ids.len())
            .map(|row| if ids.is_valid(row) { rank[ids.value(row) as usize] } else { 0 })
            .collect();
        return Some(Codes { of, bits: bits(rank.len() as u64) });
    }
    let numbers = integers(column)?;
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let is_valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    let valid = numbers.iter().enumerate().filter(|(row, _)| is_valid(*row)).map(|(_, &v)| v);
    let least = valid.clone().min().unwrap_or(0);
    let greatest = valid.clone().max().unwrap_or(0);
    let step = common_step(valid, least);
    // The span of an i64 column can need 65 bits with the code of NULL.
    let span = (greatest.abs_diff(least) / step).checked_add(1)?;
    let mut last = (least, 1);
    let mut code = |v: i64| {
        if v != last.0 {
            last = (v, v.abs_diff(least) / step + 1);
        }
        last.1
    };
    let of = numbers
        .iter()
        .enumerate()
        .map(|(row, &v)| if is_valid(row) { code(v) } else { 0 })
        .collect();
    Some(Codes { of, bits: bits(span) })
}

/// The greatest common divisor of all distances from `least`: window starts lie their slide apart.
fn common_step(values: impl Iterator<Item = i64>, least: i64) -> u64 {
    let (mut step, mut last) = (0, least);
    for value in values {
        if value == last {
            continue;
        }
        last = value;
        let (mut a, mut b) = (value.abs_diff(least), step);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        step = a;
        if step == 1 {
            break;
        }
    }
    step.max(1)
}

fn bits(greatest: u64) -> u32 {
    u64::BITS - greatest.leading_zeros()
}

/// From 1 on; equal values share a rank.
fn ranks(values: &ArrayRef) -> Vec<u64> {
    let options = SortOptions { descending: false, nulls_first: true };
    let order = arrow::compute::sort_to_indices(values, Some(options), None)
        .expect("strings and binaries sort");
    let mut rank = vec![0u64; values.len()];
    for (i, &row) in order.values().iter().enumerate() {
        rank[row as usize] = i as u64 + 1;
    }
    rank
}

fn integers(column: &ArrayRef) -> Option<Vec<i64>> {
    macro_rules! widen {
        ($t:ty) => {
            column.as_primitive::<$t>().values().iter().map(|&v| i64::from(v)).collect()
        };
    }
    Some(match column.data_type() {
        DataType::Boolean => {
            column.as_boolean().iter().map(|v| i64::from(v.unwrap_or_default())).collect()
        }
        DataType::Int8 => widen!(Int8Type),
        DataType::Int16 => widen!(Int16Type),
        DataType::Int32 => widen!(Int32Type),
        DataType::Int64 => widen!(Int64Type),
        DataType::Date32 => widen!(Date32Type),
        DataType::Timestamp(..) => widen!(TimestampMicrosecondType),
        _ => return None,
    })
}

fn by_packed(codes: &[Codes], rows: usize) -> Vec<u32> {
    let mut packed = vec![0u64; rows];
    for column in codes {
        for (number, &code) in packed.iter_mut().zip(&column.of) {
            // A column of 64 bits stands alone: a shift by all bits must leave nothing.
            *number = number.checked_shl(column.bits).unwrap_or(0) | code;
        }
    }
    let bits = codes.iter().map(|c| c.bits).sum();
    if bits <= RADIX_BITS_MAX && rows >= RADIX_ROWS_MIN {
        return by_radix(&packed, bits);
    }
    let mut packed: Vec<(u64, u32)> = packed.into_iter().zip(0..).collect();
    packed.sort_unstable();
    packed.into_iter().map(|(_, row)| row).collect()
}

/// Bits looked at in one pass: the counters fill a quarter of the L1 cache.
const DIGIT_BITS: u32 = 10;
/// Four passes; more cost as much as a sort by comparison.
const RADIX_BITS_MAX: u32 = 4 * DIGIT_BITS;
/// Fewer rows are sorted sooner than counters are cleared.
const RADIX_ROWS_MIN: usize = if cfg!(test) { 8 } else { 1 << DIGIT_BITS };

/// Sorts by the last digit first; each pass keeps the order of equal digits.
fn by_radix(packed: &[u64], bits: u32) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..packed.len() as u32).collect();
    let mut sorted = vec![0; rows.len()];
    for shift in (0..bits).step_by(DIGIT_BITS as usize) {
        let digit = |row: u32| (packed[row as usize] >> shift) as usize & ((1 << DIGIT_BITS) - 1);
        let mut next = [0u32; 1 << DIGIT_BITS];
        rows.iter().for_each(|&row| next[digit(row)] += 1);
        let mut before = 0;
        for count in &mut next {
            before += std::mem::replace(count, before);
        }
        for &row in &rows {
            let place = &mut next[digit(row)];
            sorted[*place as usize] = row;
            *place += 1;
        }
        std::mem::swap(&mut rows, &mut sorted);
    }
    rows
}

fn by_comparison(columns: &[&ArrayRef]) -> Vec<u32> {
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let columns: Vec<SortColumn> =
        columns.iter().map(|&values| SortColumn { values: values.clone(), options }).collect();
    let order = lexsort_to_indices(&columns, None).expect("group keys have types that sort");
    order.values().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int64Array, StringArray, UInt32Array};
    use proptest::prelude::*;

    #[test]
    fn numbers_that_lie_apart_need_few_bits() {
        let column =
            |values: &[i64]| codes(&(Arc::new(Int64Array::from(values.to_vec())) as ArrayRef));
        let of = |values: &[i64]| column(values).map(|codes| (codes.of, codes.bits));
        assert_eq!(of(&[70_000, 10_000, 30_000, 30_000]), Some((vec![4, 1, 2, 2], 3)));
        assert_eq!(of(&[5, 5]), Some((vec![1, 1], 1)));
        assert_eq!(of(&[-1, 2, 4]), Some((vec![1, 4, 6], 3)));
        assert_eq!(of(&[i64::MIN, i64::MAX, 0]), None, "65 bits");
    }

    fn dictionary(ids: Vec<Option<u32>>) -> ArrayRef {
        let words = StringArray::from(vec!["m", "", "z", "a"]);
        Arc::new(DictionaryArray::new(UInt32Array::from(ids), Arc::new(words)))
    }

    proptest! {
        #[test]
        fn packed_codes_sort_as_comparisons_do(
            rows in proptest::collection::vec((proptest::option::of(0u32..4),
                proptest::option::of(prop_oneof![-3i64..3, Just(i64::MIN), Just(i64::MAX)])), 0..40),
            small in any::<bool>(),
        ) {
            let ids = dictionary(rows.iter().map(|row| row.0).collect());
            let numbers = rows.iter().map(|row| row.1.map(|v| if small { v % 3 } else { v }));
            let numbers: ArrayRef = Arc::new(numbers.collect::<Int64Array>());
            let keys = [ids, numbers];
            let expected = by_comparison(&[&keys[1], &keys[0]]);
            let found = sorted(&keys, Some(1), rows.len());
            let key = |row: u32| (rows[row as usize].1.map(|v| if small { v % 3 } else { v }),
                                  rows[row as usize].0);
            let texts = |order: &[u32]| order.iter().map(|&row| key(row)).collect::<Vec<_>>();
            prop_assert_eq!(texts(&found), texts(&expected));
        }
    }
}
