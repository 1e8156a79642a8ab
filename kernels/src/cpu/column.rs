//! Values of all types as words: the few forms that key and aggregate kernels are written for.
//!
//! Invariant: `widen` then `narrow` gives back the value. What is not listed in [`Class::of`] never
//! reaches a kernel; the planner asks for it first.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Date32Array,
    Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};

/// Which rows of full-length columns a kernel works on.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    All(usize),
    /// Row numbers; each at most once where it matters.
    Selected(&'a [u32]),
}

impl Rows<'_> {
    pub fn len(&self) -> usize {
        match self {
            Rows::All(rows) => *rows,
            Rows::Selected(rows) => rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at a place of the selection.
    #[inline(always)]
    pub fn row(&self, place: usize) -> u32 {
        match self {
            Rows::All(_) => place as u32,
            Rows::Selected(rows) => rows[place],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Boolean, integers, dates, timestamps: an `i64` that orders as they do.
    Int,
    /// Both widths: an `f64`.
    Float,
    /// The unscaled `i128`.
    Decimal,
    Bytes,
}

impl Class {
    pub fn of(data_type: &DataType) -> Option<Class> {
        use DataType::*;
        match data_type {
            Boolean | Int8 | Int16 | Int32 | Int64 | Date32 => Some(Class::Int),
            Timestamp(TimeUnit::Microsecond, _) => Some(Class::Int),
            Float32 | Float64 => Some(Class::Float),
            Decimal128(_, _) => Some(Class::Decimal),
            Utf8 | Binary => Some(Class::Bytes),
            _ => None,
        }
    }
}

/// Converts the rows asked for; borrows where nothing is to convert. Rows that are NULL give any
/// value.
pub(crate) fn widen_ints<'a>(
    array: &'a dyn Array,
    rows: Rows<'_>,
    scratch: &'a mut Vec<i64>,
) -> &'a [i64] {
    fn cast<T: ArrowPrimitiveType<Native: Into<i64>>>(
        array: &dyn Array,
        rows: Rows<'_>,
        out: &mut Vec<i64>,
    ) {
        gather(array.as_primitive::<T>().values(), rows, out, Into::into);
    }
    match array.data_type() {
        DataType::Boolean => {
            let bits = array.as_boolean().values();
            scratch.clear();
            scratch.extend((0..rows.len()).map(|at| i64::from(bits.value(rows.row(at) as usize))));
        }
        DataType::Int8 => cast::<Int8Type>(array, rows, scratch),
        DataType::Int16 => cast::<Int16Type>(array, rows, scratch),
        DataType::Int32 => cast::<Int32Type>(array, rows, scratch),
        DataType::Date32 => cast::<Date32Type>(array, rows, scratch),
        DataType::Int64 => return pick(array.as_primitive::<Int64Type>().values(), rows, scratch),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values();
            return pick(values, rows, scratch);
        }
        other => unreachable!("{other} is not of the integer class"),
    }
    scratch
}

pub(crate) fn widen_floats<'a>(
    array: &'a dyn Array,
    rows: Rows<'_>,
    scratch: &'a mut Vec<f64>,
) -> &'a [f64] {
    match array.data_type() {
        DataType::Float32 => {
            gather(array.as_primitive::<Float32Type>().values(), rows, scratch, f64::from);
            scratch
        }
        DataType::Float64 => pick(array.as_primitive::<Float64Type>().values(), rows, scratch),
        other => unreachable!("{other} is not of the float class"),
    }
}

pub(crate) fn widen_decimals<'a>(
    array: &'a dyn Array,
    rows: Rows<'_>,
    scratch: &'a mut Vec<i128>,
) -> &'a [i128] {
    pick(array.as_primitive::<Decimal128Type>().values(), rows, scratch)
}

fn pick<'a, T: Copy>(values: &'a [T], rows: Rows<'_>, scratch: &'a mut Vec<T>) -> &'a [T] {
    match rows {
        Rows::All(count) => &values[..count],
        Rows::Selected(_) => {
            gather(values, rows, scratch, |value| value);
            scratch
        }
    }
}

fn gather<S: Copy, T>(values: &[S], rows: Rows<'_>, out: &mut Vec<T>, convert: impl Fn(S) -> T) {
    out.clear();
    match rows {
        Rows::All(count) => out.extend(values[..count].iter().map(|&value| convert(value))),
        Rows::Selected(rows) => out.extend(rows.iter().map(|&row| convert(values[row as usize]))),
    }
}

/// Builds an array of a type of the integer class.
pub(crate) fn narrow_ints(
    data_type: &DataType,
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    match data_type {
        DataType::Boolean => {
            Arc::new(BooleanArray::new(values.iter().map(|&value| value != 0).collect(), nulls))
        }
        DataType::Int8 => {
            let values = values.iter().map(|&value| value as i8).collect::<Vec<_>>();
            Arc::new(Int8Array::new(values.into(), nulls))
        }
        DataType::Int16 => {
            let values = values.iter().map(|&value| value as i16).collect::<Vec<_>>();
            Arc::new(Int16Array::new(values.into(), nulls))
        }
        DataType::Int32 => {
            let values = values.iter().map(|&value| value as i32).collect::<Vec<_>>();
            Arc::new(Int32Array::new(values.into(), nulls))
        }
        DataType::Date32 => {
            let values = values.iter().map(|&value| value as i32).collect::<Vec<_>>();
            Arc::new(Date32Array::new(values.into(), nulls))
        }
        DataType::Int64 => Arc::new(Int64Array::new(values.into(), nulls)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = TimestampMicrosecondArray::new(values.into(), nulls);
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        other => unreachable!("{other} is not of the integer class"),
    }
}

pub(crate) fn narrow_floats(
    data_type: &DataType,
    values: Vec<f64>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    match data_type {
        DataType::Float32 => {
            let values = values.iter().map(|&value| value as f32).collect::<Vec<_>>();
            Arc::new(Float32Array::new(values.into(), nulls))
        }
        DataType::Float64 => Arc::new(Float64Array::new(values.into(), nulls)),
        other => unreachable!("{other} is not of the float class"),
    }
}

pub(crate) fn narrow_decimals(
    data_type: &DataType,
    values: Vec<i128>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(data_type.clone()))
}

/// Builds a Utf8 or Binary array, one value an item; `None` is NULL.
pub(crate) fn narrow_bytes<'a>(
    data_type: &DataType,
    items: impl Iterator<Item = Option<&'a [u8]>>,
) -> ArrayRef {
    let (mut bytes, mut offsets, mut nulls) = (Vec::new(), vec![0i32], Vec::new());
    for (row, item) in items.enumerate() {
        match item {
            Some(item) => bytes.extend_from_slice(item),
            None => nulls.push(row),
        }
        offsets.push(i32::try_from(bytes.len()).expect("a batch holds less than 2 GiB of text"));
    }
    let nulls = (!nulls.is_empty()).then(|| {
        let mut valid = vec![true; offsets.len() - 1];
        nulls.into_iter().for_each(|row| valid[row] = false);
        NullBuffer::from(valid)
    });
    let (offsets, bytes) = (OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes));
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::new(offsets, bytes, nulls)),
        DataType::Binary => Arc::new(BinaryArray::new(offsets, bytes, nulls)),
        other => unreachable!("{other} is not of the bytes class"),
    }
}

/// The bytes of each row of a Utf8 or Binary array.
#[derive(Clone, Copy)]
pub(crate) struct BytesColumn<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    pub fn new(array: &'a dyn Array) -> Self {
        let (offsets, bytes) = match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                (array.value_offsets(), array.value_data())
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                (array.value_offsets(), array.value_data())
            }
            other => unreachable!("{other} is not of the bytes class"),
        };
        BytesColumn { offsets, bytes }
    }

    #[inline(always)]
    pub fn value(&self, row: usize) -> &'a [u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// Words whose signed order is the order of doubles: -0.0 before 0.0, NaN the greatest and one.
#[inline(always)]
pub(crate) fn float_to_ordered(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline(always)]
pub(crate) fn ordered_to_float(word: i64) -> f64 {
    f64::from_bits((word ^ ((word >> 63) as u64 >> 1) as i64) as u64)
}

/// Words whose equality is that of group keys: -0.0 is 0.0, and NaN equals itself.
#[inline(always)]
pub(crate) fn float_to_key(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}
