//! The texts of a column, one behind the other; the dialect says how a value is quoted.
//!
//! Invariant: an empty cell is NULL. No value's text is empty: the empty string is `""`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, DurationMicrosecondType,
    DurationSecondType, Field, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::number::{self, JAVA, PYTHON};
use super::time::{self, Fraction};

/// What differs between CSV and JSON.
pub trait Dialect {
    /// Any text: quoted and escaped as needed.
    fn text(out: &mut Vec<u8>, text: &str);
    /// Text that never needs an escape: dates, timestamps, base64, `NaN`.
    fn plain(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>));
    /// A list, struct or map.
    fn nested(out: &mut Vec<u8>, array: &dyn Array, row: usize);
}

#[derive(Default)]
pub struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Copies the text of a row to `out[at..]` and returns where it ends there.
    ///
    /// Short texts are copied with what follows them, by loads and stores of a fixed width: the call
    /// that copies an exact length takes longer than the copying. `out` has [`Cells::SPARE`] bytes of
    /// room behind the text.
    #[inline(always)]
    pub fn copy(&self, row: usize, out: &mut [u8], at: usize) -> usize {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        let end = self.ends[row];
        let wide = self.bytes.get(start..start + Self::SPARE);
        match wide.and_then(|wide| wide.first_chunk::<{ Self::SPARE }>()) {
            Some(wide) if end - start <= Self::SPARE => {
                out[at..at + Self::SPARE].copy_from_slice(wide);
            }
            _ => out[at..at + end - start].copy_from_slice(&self.bytes[start..end]),
        }
        at + end - start
    }

    pub const SPARE: usize = 32;

    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn fill<A: ArrayAccessor>(
        &mut self,
        array: A,
        rows: Range<usize>,
        write: impl Fn(&mut Vec<u8>, A::Item),
    ) {
        let no_nulls = array.null_count() == 0;
        for row in rows {
            if no_nulls || array.is_valid(row) {
                write(&mut self.bytes, array.value(row));
            }
            self.ends.push(self.bytes.len());
        }
    }

    /// As [`Cells::fill`] for values that come in runs and are dear to write: an equal one is copied.
    fn fill_runs<T: ArrowPrimitiveType>(
        &mut self,
        array: &PrimitiveArray<T>,
        rows: Range<usize>,
        write: impl Fn(&mut Vec<u8>, T::Native),
    ) {
        let mut last: Option<(T::Native, Range<usize>)> = None;
        for row in rows {
            if array.is_valid(row) {
                let value = array.value(row);
                let start = self.bytes.len();
                match &last {
                    Some((same, text)) if *same == value => {
                        self.bytes.extend_from_within(text.clone());
                    }
                    _ => {
                        write(&mut self.bytes, value);
                        last = Some((value, start..self.bytes.len()));
                    }
                }
            }
            self.ends.push(self.bytes.len());
        }
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }
}

/// A column made ready for its loop.
pub enum Column {
    Plain(ArrayRef),
    /// Each distinct value was formatted once.
    Dictionary {
        keys: ArrayRef,
        values: Cells,
    },
}

impl Column {
    /// Errors: a type whose values have no text.
    pub fn new<D: Dialect>(array: &ArrayRef) -> Result<Column, ArrowError> {
        let DataType::Dictionary(_, _) = array.data_type() else {
            return Ok(Column::Plain(normal(array)?));
        };
        let dictionary = array.as_any_dictionary();
        if dictionary.values().len() > array.len() {
            let plain = cast(array, dictionary.values().data_type())?;
            return Ok(Column::Plain(normal(&plain)?));
        }
        let distinct = normal(dictionary.values())?;
        let mut values = Cells::default();
        write::<D>(&distinct, 0..distinct.len(), &mut values);
        Ok(Column::Dictionary { keys: cast(dictionary.keys(), &DataType::UInt64)?, values })
    }

    /// Replaces `cells` by the texts of `rows`.
    pub fn format<D: Dialect>(&self, rows: Range<usize>, cells: &mut Cells) {
        cells.clear();
        match self {
            Column::Plain(array) => write::<D>(array, rows, cells),
            Column::Dictionary { keys, values } => {
                let keys = keys.as_primitive::<UInt64Type>();
                for row in rows {
                    let null = keys.is_null(row);
                    cells.push(if null { b"" } else { values.get(keys.value(row) as usize) });
                }
            }
        }
    }
}

/// Formats a stretch of an array of a normal type (see [`normal_type`]).
fn write<D: Dialect>(array: &ArrayRef, rows: Range<usize>, cells: &mut Cells) {
    fn integers<T: ArrowPrimitiveType<Native: itoa::Integer>>(
        array: &ArrayRef,
        rows: Range<usize>,
        cells: &mut Cells,
    ) {
        cells.fill(primitive::<T>(array), rows, number::integer);
    }
    match array.data_type() {
        DataType::Int8 => integers::<Int8Type>(array, rows, cells),
        DataType::Int16 => integers::<Int16Type>(array, rows, cells),
        DataType::Int32 => integers::<Int32Type>(array, rows, cells),
        DataType::Int64 => integers::<Int64Type>(array, rows, cells),
        DataType::UInt8 => integers::<UInt8Type>(array, rows, cells),
        DataType::UInt16 => integers::<UInt16Type>(array, rows, cells),
        DataType::UInt32 => integers::<UInt32Type>(array, rows, cells),
        DataType::UInt64 => integers::<UInt64Type>(array, rows, cells),
        DataType::Boolean => cells.fill(array.as_boolean(), rows, boolean),
        DataType::Float32 => cells.fill(primitive::<Float32Type>(array), rows, float::<D>),
        DataType::Float64 => cells.fill(primitive::<Float64Type>(array), rows, double::<D>),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            cells.fill(primitive::<Decimal128Type>(array), rows, |out, value| {
                number::decimal(out, value, scale);
            });
        }
        DataType::Utf8 => cells.fill(array.as_string::<i32>(), rows, D::text),
        DataType::Binary => cells.fill(array.as_binary::<i32>(), rows, binary::<D>),
        DataType::Date32 => cells.fill_runs(primitive::<Date32Type>(array), rows, date::<D>),
        DataType::Timestamp(_, zone) => {
            let array = primitive::<TimestampMicrosecondType>(array);
            if zone.is_some() {
                cells.fill_runs(array, rows, instant::<D>);
            } else {
                cells.fill_runs(array, rows, local_time::<D>);
            }
        }
        DataType::Duration(TimeUnit::Second) => {
            let lengths = primitive::<DurationSecondType>(array);
            cells.fill(lengths, rows, |out, days| D::plain(out, |out| time::days(out, days)));
        }
        DataType::Duration(_) => {
            let lengths = primitive::<DurationMicrosecondType>(array);
            cells.fill(lengths, rows, |out, us| D::plain(out, |out| time::interval(out, us)));
        }
        DataType::Null => rows.for_each(|_| cells.push(b"")),
        _ => {
            for row in rows {
                if array.is_valid(row) {
                    D::nested(&mut cells.bytes, array, row);
                }
                cells.ends.push(cells.bytes.len());
            }
        }
    }
}

/// Appends the text of one value, nothing for NULL: for the fields of nested types, which are rare.
pub fn value<D: Dialect>(out: &mut Vec<u8>, array: &ArrayRef, row: usize) {
    let mut cells = Cells::default();
    write::<D>(array, row..row + 1, &mut cells);
    out.extend_from_slice(cells.get(0));
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> &PrimitiveArray<T> {
    array.as_primitive::<T>()
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn float<D: Dialect>(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        number::float(out, value, &JAVA);
    } else {
        D::plain(out, |out| number::float(out, value, &JAVA));
    }
}

fn double<D: Dialect>(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        number::double(out, value, &PYTHON);
    } else {
        D::plain(out, |out| number::double(out, value, &PYTHON));
    }
}

fn binary<D: Dialect>(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        D::text(out, "");
    } else {
        D::plain(out, |out| number::base64(out, bytes));
    }
}

fn date<D: Dialect>(out: &mut Vec<u8>, days: i32) {
    D::plain(out, |out| time::date(out, i64::from(days)));
}

fn instant<D: Dialect>(out: &mut Vec<u8>, us: i64) {
    D::plain(out, |out| {
        time::timestamp(out, us, b'T', Fraction::Thousands);
        out.push(b'Z');
    });
}

fn local_time<D: Dialect>(out: &mut Vec<u8>, us: i64) {
    D::plain(out, |out| time::timestamp(out, us, b'T', Fraction::Thousands));
}

/// The same values in one of the few types that have a loop.
pub fn normal(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let normal = normal_type(array.data_type());
    if *array.data_type() == normal { Ok(Arc::clone(array)) } else { cast(array, &normal) }
}

fn normal_type(data_type: &DataType) -> DataType {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Dictionary,
        Duration, FixedSizeBinary, FixedSizeList, Float16, Float32, Float64, Int8, Int16, Int32,
        Int64, LargeBinary, LargeList, List, Map, Null, Struct, Timestamp, UInt8, UInt16, UInt32,
        UInt64, Utf8,
    };
    match data_type {
        Null
        | Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float32
        | Float64
        | Decimal128(_, _)
        | Utf8
        | Binary
        | Date32 => data_type.clone(),
        Float16 => Float32,
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Timestamp(TimeUnit::Microsecond, None),
        Duration(TimeUnit::Second) => data_type.clone(),
        Duration(_) => Duration(TimeUnit::Microsecond),
        Timestamp(_, zone) => Timestamp(TimeUnit::Microsecond, zone.clone()),
        Dictionary(_, value) => normal_type(value),
        List(item) | LargeList(item) | FixedSizeList(item, _) => List(normal_field(item)),
        Struct(fields) => Struct(fields.iter().map(normal_field).collect::<Fields>()),
        Map(entries, sorted) => Map(normal_field(entries), *sorted),
        // Large and view strings; times, intervals and wide decimals by arrow's text.
        _ => Utf8,
    }
}

fn normal_field(field: &Arc<Field>) -> Arc<Field> {
    let normal = normal_type(field.data_type());
    Arc::new(field.as_ref().clone().with_data_type(normal))
}
