//! Columns as words for a device: values and validity bits of a stretch of rows, one behind the other.
//!
//! Invariant: bits begin at bit 0 whatever slice they come from, and every column at a whole word.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type,
};

use super::error::{GpuError, Result};
use super::form::Form;
use crate::cpu::column::BytesColumn;

/// In place of where validity bits begin: there is no NULL.
const ALL_VALID: u32 = u32::MAX;
/// Words of the parameters before those of the columns.
const HEAD: usize = 4;

/// A longer text is compared on the CPU: software ends an invocation after 65,535 turns of its loops, and
/// this leaves it 255 comparisons.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Where the words of texts begin among those of a batch, and how many the longest text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub at: usize,
    pub longest: usize,
}

/// Words of the parameters of `project`.
pub(super) fn params_words(inputs: &[Form]) -> usize {
    HEAD + 4 * inputs.len().max(1)
}

/// Appends the parameters and the columns of rows `start .. start + rows` to `words`, then the texts,
/// which are told to lie behind `records_words`.
///
/// Errors: `Beyond` where a text is longer than kernels compare.
pub(super) fn pack(
    inputs: &[Form],
    columns: &[ArrayRef],
    (start, rows): (usize, usize),
    records_words: usize,
    words: &mut Vec<u32>,
) -> Result<Texts> {
    assert_eq!(inputs.len(), columns.len(), "one column an input");
    words.clear();
    words.resize(params_words(inputs), 0);
    let (mut texts, mut longest) = (Vec::new(), 0);
    words[0] = rows as u32;
    let base = words.len();
    for (at, (form, column)) in inputs.iter().zip(columns).enumerate() {
        let param = HEAD + 4 * at;
        words[param] = (words.len() - base) as u32;
        match form {
            Form::Text => {
                let most = pack_texts(column, (start, rows), records_words, words, &mut texts)?;
                longest = longest.max(most);
            }
            Form::Id => pack_native::<UInt32Type>(column, start, rows, words),
            // Nothing but its NULLs is asked for.
            Form::Opaque => {}
            _ => pack_values(column, start, rows, words),
        }
        words[param + 1] = ALL_VALID;
        let nulls = if *form == Form::Id { None } else { column.logical_nulls() };
        if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
            words[param + 1] = (words.len() - base) as u32;
            pack_bits(&nulls.inner().slice(start, rows), words);
        }
    }
    // A buffer is never empty, and every shader reads its first word.
    words.push(0);
    let at = words.len();
    words.append(&mut texts);
    Ok(Texts { at, longest })
}

/// Appends for each row where its text lies and its bytes, to `texts` the text; returns how many words the
/// longest has.
fn pack_texts(
    column: &ArrayRef,
    (start, rows): (usize, usize),
    records_words: usize,
    words: &mut Vec<u32>,
    texts: &mut Vec<u32>,
) -> Result<usize> {
    let (values, mut longest) = (BytesColumn::new(column), 0);
    for row in start..start + rows {
        let value = if column.is_null(row) { &[][..] } else { values.value(row) };
        if value.len() > TEXT_BYTES_MAX {
            let what = format!("a text of {} bytes, more than {TEXT_BYTES_MAX}", value.len());
            return Err(GpuError::Beyond(what));
        }
        longest = longest.max(value.len());
        words.extend([(records_words + texts.len()) as u32, value.len() as u32]);
        let (whole, rest) = value.as_chunks::<4>();
        texts.extend(whole.iter().map(|&word| u32::from_be_bytes(word)));
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            texts.push(u32::from_be_bytes(last));
        }
    }
    Ok(longest.div_ceil(4))
}

fn pack_values(column: &ArrayRef, start: usize, rows: usize, words: &mut Vec<u32>) {
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
        other => unreachable!("{other} has no form on a device"),
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
