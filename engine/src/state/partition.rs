//! Which shard a key belongs to: 256 fixed partitions by a specified hash, a shard is a set of them.
//!
//! The partition depends on the key's value alone, so the number of cores may change between two
//! runs over one state directory. Hash: XXH3-64 of each key's bytes (strings as they are, numbers as
//! 16 little-endian bytes), folded from left to right by `xxh3(h ‖ next)`; seed 0; NULL is the hash
//! of no bytes under seed 1. The partition is the top byte.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, UInt32Type,
};
use twox_hash::XxHash3_64;

pub const PARTITIONS: usize = 256;

/// The rows of a partial for each of `shards` shards, by the key columns `keys`.
pub fn split(partial: &RecordBatch, keys: Range<usize>, shards: usize) -> Vec<RecordBatch> {
    if shards == 1 {
        return vec![partial.clone()];
    }
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); shards];
    for (row, hash) in (0u32..).zip(hashes(&partial.columns()[keys], partial.num_rows())) {
        rows[shard_of(hash, shards)].push(row);
    }
    rows.into_iter()
        .map(|rows| {
            take_record_batch(partial, &UInt32Array::from(rows)).expect("rows of this batch")
        })
        .collect()
}

fn shard_of(hash: u64, shards: usize) -> usize {
    let partition = (hash >> 56) as usize;
    partition * shards / PARTITIONS
}

/// The partition of each row of these keys.
pub fn partitions(keys: &[ArrayRef], rows: usize) -> Vec<usize> {
    hashes(keys, rows).into_iter().map(|hash| (hash >> 56) as usize).collect()
}

/// One hash for each row.
fn hashes(keys: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut hashes = vec![0u64; rows];
    for (i, key) in keys.iter().enumerate() {
        let next = column_hashes(key);
        for (hash, next) in hashes.iter_mut().zip(next) {
            *hash = if i == 0 { next } else { fold(*hash, next) };
        }
    }
    hashes
}

fn fold(hash: u64, next: u64) -> u64 {
    XxHash3_64::oneshot(&((u128::from(next) << 64) | u128::from(hash)).to_le_bytes())
}

fn column_hashes(key: &ArrayRef) -> Vec<u64> {
    let null = XxHash3_64::oneshot_with_seed(1, &[]);
    if let Some(dictionary) = key.as_dictionary_opt::<UInt32Type>() {
        let of_value = column_hashes(dictionary.values());
        let ids = dictionary.keys();
        return (0..ids.len())
            .map(|row| if ids.is_valid(row) { of_value[ids.value(row) as usize] } else { null })
            .collect();
    }
    let mut hashes: Vec<u64> = match key.data_type() {
        DataType::Utf8 => {
            let texts = key.as_string::<i32>();
            (0..key.len()).map(|row| XxHash3_64::oneshot(texts.value(row).as_bytes())).collect()
        }
        DataType::Binary => {
            let values = key.as_binary::<i32>();
            (0..key.len()).map(|row| XxHash3_64::oneshot(values.value(row))).collect()
        }
        _ => {
            let numbers = as_numbers(key);
            numbers.into_iter().map(|v| XxHash3_64::oneshot(&v.to_le_bytes())).collect()
        }
    };
    if key.null_count() > 0 {
        for (row, hash) in hashes.iter_mut().enumerate() {
            if key.is_null(row) {
                *hash = null;
            }
        }
    }
    hashes
}

/// Fixed-width values as numbers whose equality is the key's.
fn as_numbers(key: &ArrayRef) -> Vec<i128> {
    macro_rules! widen {
        ($($t:ty),*) => { [$(key.as_primitive_opt::<$t>().map(|a| {
            a.values().iter().map(|&v| i128::from(v)).collect::<Vec<i128>>()
        })),*].into_iter().flatten().next() };
    }
    match key.data_type() {
        DataType::Boolean => {
            key.as_boolean().iter().map(|v| i128::from(v.unwrap_or_default())).collect()
        }
        DataType::Float32 => {
            let values = key.as_primitive::<Float32Type>().values();
            values.iter().map(|v| i128::from(v.to_bits())).collect()
        }
        DataType::Float64 => {
            let values = key.as_primitive::<Float64Type>().values();
            values.iter().map(|v| i128::from(v.to_bits())).collect()
        }
        DataType::Decimal128(..) => key.as_primitive::<Decimal128Type>().values().to_vec(),
        _ => {
            widen!(Int8Type, Int16Type, Int32Type, Int64Type, Date32Type, TimestampMicrosecondType)
                .expect("a group key has one of the types that the key space takes")
        }
    }
}
