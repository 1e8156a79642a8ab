//! The fixed order in which an epoch's groups leave: by window start, then by the keys, nulls first.
//!
//! Each key column becomes order-preserving codes (a string column: the rank of its few distinct
//! values), the codes of a row are packed into one number and numbers are sorted: 2 M groups of
//! (window, device) cost one sort of 64-bit numbers instead of 40 M string comparisons.

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
    let valid = (0..column.len()).filter(|&row| column.is_valid(row));
    let least = valid.clone().map(|row| numbers[row]).min().unwrap_or(0);
    let greatest = valid.map(|row| numbers[row]).max().unwrap_or(0);
    // The span of an i64 column can need 65 bits with the code of NULL.
    let span = greatest.abs_diff(least).checked_add(1)?;
    let of = numbers
        .iter()
        .enumerate()
        .map(|(row, &v)| if column.is_valid(row) { v.abs_diff(least) + 1 } else { 0 })
        .collect();
    Some(Codes { of, bits: bits(span) })
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
    let mut packed: Vec<(u64, u32)> = (0..rows as u32).map(|row| (0, row)).collect();
    for column in codes {
        for ((number, _), &code) in packed.iter_mut().zip(&column.of) {
            // A column of 64 bits stands alone: a shift by all bits must leave nothing.
            *number = number.checked_shl(column.bits).unwrap_or(0) | code;
        }
    }
    packed.sort_unstable();
    packed.into_iter().map(|(_, row)| row).collect()
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
