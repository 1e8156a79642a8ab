//! Columns as words for a device: values and validity bits of a stretch of rows, one behind the other.
//!
//! Invariant: bits begin at bit 0 whatever slice they come from, and every column at a whole word.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type,
};

use super::query::Input;

/// In place of where validity bits begin: there is no NULL.
const ALL_VALID: u32 = u32::MAX;
/// Words of the parameters before those of the columns.
const HEAD: usize = 4;

/// Words of the parameters of `project`.
pub(super) fn params_words(inputs: &[Input]) -> usize {
    HEAD + 4 * inputs.len().max(1)
}

/// Appends the parameters and the columns of rows `start .. start + rows` to `words`.
pub(super) fn pack(
    inputs: &[Input],
    columns: &[ArrayRef],
    start: usize,
    rows: usize,
    words: &mut Vec<u32>,
) {
    assert_eq!(inputs.len(), columns.len(), "one column an input");
    words.clear();
    words.resize(params_words(inputs), 0);
    words[0] = rows as u32;
    let base = words.len();
    for (at, (input, column)) in inputs.iter().zip(columns).enumerate() {
        let param = HEAD + 4 * at;
        words[param] = (words.len() - base) as u32;
        pack_values(input, column, start, rows, words);
        words[param + 1] = ALL_VALID;
        let nulls = if input.is_ids { None } else { column.logical_nulls() };
        if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
            words[param + 1] = (words.len() - base) as u32;
            pack_bits(&nulls.inner().slice(start, rows), words);
        }
    }
    // A buffer is never empty, and every shader reads its first word.
    words.push(0);
}

fn pack_values(input: &Input, column: &ArrayRef, start: usize, rows: usize, words: &mut Vec<u32>) {
    if input.is_ids {
        return pack_native::<UInt32Type>(column, start, rows, words);
    }
    debug_assert_eq!(column.data_type(), &input.data_type, "columns have their planned types");
    match column.data_type() {
        DataType::Boolean => {
            pack_bits(&column.as_boolean().values().slice(start, rows), words);
        }
        DataType::Int8 => pack_native::<Int8Type>(column, start, rows, words),
        DataType::Int16 => pack_native::<Int16Type>(column, start, rows, words),
        DataType::Int32 => pack_native::<Int32Type>(column, start, rows, words),
        DataType::Date32 => pack_native::<Date32Type>(column, start, rows, words),
        DataType::Int64 => pack_native::<Int64Type>(column, start, rows, words),
        DataType::Timestamp(..) => {
            pack_native::<TimestampMicrosecondType>(column, start, rows, words);
        }
        DataType::Float32 => pack_native::<Float32Type>(column, start, rows, words),
        DataType::Float64 => pack_native::<Float64Type>(column, start, rows, words),
        DataType::Decimal128(..) => pack_native::<Decimal128Type>(column, start, rows, words),
        // Nothing but its NULLs is asked for.
        _ => {}
    }
}

fn pack_native<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    start: usize,
    rows: usize,
    words: &mut Vec<u32>,
) {
    let values = column.as_primitive::<T>().values();
    let bytes = &values.inner().as_slice()[start * T::Native::get_byte_width()..];
    let bytes = &bytes[..rows * T::Native::get_byte_width()];
    let (whole, rest) = bytes.as_chunks::<4>();
    words.extend(whole.iter().map(|&word| u32::from_le_bytes(word)));
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u32::from_le_bytes(last));
    }
}

pub(super) fn pack_bits(bits: &BooleanBuffer, words: &mut Vec<u32>) {
    let end = words.len() + bits.len().div_ceil(32);
    for word in bits.bit_chunks().iter_padded() {
        words.extend([word as u32, (word >> 32) as u32]);
    }
    words.truncate(end);
}
