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

/// A batch as it lies in a staging buffer: parameters, columns, texts. Values that need no change are
/// borrowed, so that they are copied once, to where the device reads them.
pub(super) struct Packed<'a> {
    params: Vec<u32>,
    pieces: Vec<Piece<'a>>,
    /// Of all of it.
    pub words: usize,
    /// Where the words of texts begin.
    pub texts_at: usize,
    /// Words of the longest text.
    pub text_longest: usize,
}

enum Piece<'a> {
    Words(Vec<u32>),
    /// In the order that a device has, too; filled up to a whole word.
    Bytes(&'a [u8]),
}

impl<'a> Packed<'a> {
    /// What tells the batch from others.
    pub fn number(&self) -> u32 {
        self.params[1]
    }

    pub fn params_words(&self) -> usize {
        self.params.len()
    }

    pub fn text_words(&self) -> usize {
        self.words - self.texts_at
    }

    /// Hands out all bytes, each stretch with its place.
    pub fn write(&self, mut put: impl FnMut(usize, &[u8])) {
        put(0, bytemuck::cast_slice(&self.params));
        let mut at = 4 * self.params.len();
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Words(words) => bytemuck::cast_slice(words),
                Piece::Bytes(bytes) => bytes,
            };
            put(at, bytes);
            at += bytes.len();
            let more = at.next_multiple_of(4) - at;
            put(at, &[0; 4][..more]);
            at += more;
        }
    }

    fn push(&mut self, piece: Piece<'a>) {
        self.words += match &piece {
            Piece::Words(words) => words.len(),
            Piece::Bytes(bytes) => bytes.len().div_ceil(4),
        };
        self.pieces.push(piece);
    }

    /// Words from the first column on.
    fn behind_params(&self) -> u32 {
        (self.words - self.params.len()) as u32
    }
}

/// Words of the parameters of `project`.
pub(super) fn params_words(inputs: &[Form]) -> usize {
    HEAD + 4 * inputs.len().max(1)
}

/// Lays out the parameters and the columns of rows `start .. start + rows` of the batch of this number,
/// then the texts, which are told to lie behind `records_words`.
///
/// Errors: `Beyond` where a text is longer than kernels compare.
pub(super) fn pack<'a>(
    inputs: &[Form],
    columns: &'a [ArrayRef],
    (start, rows): (usize, usize),
    records_words: usize,
    number: u32,
) -> Result<Packed<'a>> {
    assert_eq!(inputs.len(), columns.len(), "one column an input");
    let (mut params, words) = (vec![0; params_words(inputs)], params_words(inputs));
    (params[0], params[1]) = (rows as u32, number);
    let pieces = Vec::with_capacity(2 * inputs.len() + 2);
    let mut packed = Packed { params, pieces, words, texts_at: 0, text_longest: 0 };
    let mut texts = Vec::new();
    for (at, (form, column)) in inputs.iter().zip(columns).enumerate() {
        let param = HEAD + 4 * at;
        packed.params[param] = packed.behind_params();
        match form {
            Form::Text => {
                let places = pack_texts(column, (start, rows), records_words, &mut texts)?;
                let longest = places.iter().skip(1).step_by(2).max().copied().unwrap_or(0);
                packed.text_longest = packed.text_longest.max((longest as usize).div_ceil(4));
                packed.push(Piece::Words(places));
            }
            // Nothing but its NULLs is asked for.
            Form::Opaque => {}
            _ => packed.push(values_of(column, start, rows)),
        }
        packed.params[param + 1] = ALL_VALID;
        let nulls = if *form == Form::Id { None } else { column.logical_nulls() };
        if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
            packed.params[param + 1] = packed.behind_params();
            packed.push(Piece::Words(bits_of(&nulls.inner().slice(start, rows))));
        }
    }
    // A buffer is never empty, and every shader reads its first word.
    packed.push(Piece::Words(vec![0]));
    packed.texts_at = packed.words;
    packed.push(Piece::Words(texts));
    Ok(packed)
}

/// For each row where its text lies, and its bytes; appends the texts to `texts`.
fn pack_texts(
    column: &ArrayRef,
    (start, rows): (usize, usize),
    records_words: usize,
    texts: &mut Vec<u32>,
) -> Result<Vec<u32>> {
    let (values, mut places) = (BytesColumn::new(column), Vec::with_capacity(2 * rows));
    for row in start..start + rows {
        let value = if column.is_null(row) { &[][..] } else { values.value(row) };
        if value.len() > TEXT_BYTES_MAX {
            let what = format!("a text of {} bytes, more than {TEXT_BYTES_MAX}", value.len());
            return Err(GpuError::Beyond(what));
        }
        places.extend([(records_words + texts.len()) as u32, value.len() as u32]);
        let (whole, rest) = value.as_chunks::<4>();
        texts.extend(whole.iter().map(|&word| u32::from_be_bytes(word)));
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            texts.push(u32::from_be_bytes(last));
        }
    }
    Ok(places)
}

fn values_of(column: &ArrayRef, start: usize, rows: usize) -> Piece<'_> {
    Piece::Bytes(match column.data_type() {
        DataType::Boolean => {
            return Piece::Words(bits_of(&column.as_boolean().values().slice(start, rows)));
        }
        DataType::Int8 => bytes_of::<Int8Type>(column, start, rows),
        DataType::Int16 => bytes_of::<Int16Type>(column, start, rows),
        DataType::Int32 => bytes_of::<Int32Type>(column, start, rows),
        DataType::UInt32 => bytes_of::<UInt32Type>(column, start, rows),
        DataType::Date32 => bytes_of::<Date32Type>(column, start, rows),
        DataType::Int64 => bytes_of::<Int64Type>(column, start, rows),
        DataType::Timestamp(..) => bytes_of::<TimestampMicrosecondType>(column, start, rows),
        DataType::Float32 => bytes_of::<Float32Type>(column, start, rows),
        DataType::Float64 => bytes_of::<Float64Type>(column, start, rows),
        DataType::Decimal128(..) => bytes_of::<Decimal128Type>(column, start, rows),
        other => unreachable!("{other} has no form on a device"),
    })
}

/// Values as they lie in memory: in the order of Vulkan's words on every machine that this is built for.
fn bytes_of<T: ArrowPrimitiveType>(column: &ArrayRef, start: usize, rows: usize) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "a device's words are little-endian") };
    let (values, width) = (column.as_primitive::<T>().values(), T::Native::get_byte_width());
    &values.inner().as_slice()[start * width..(start + rows) * width]
}

fn bits_of(bits: &BooleanBuffer) -> Vec<u32> {
    let mut words = Vec::with_capacity(bits.len().div_ceil(32) + 1);
    for word in bits.bit_chunks().iter_padded() {
        words.extend([word as u32, (word >> 32) as u32]);
    }
    words.truncate(bits.len().div_ceil(32));
    words
}
