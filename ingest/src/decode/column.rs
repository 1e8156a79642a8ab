//! Decodes one column of framed rows into one Arrow array: the second stage of the decoder.
//!
//! A loop tries the quick reading of each value. Rows where it fails (quotes, blanks, NULL, rare
//! spellings, bad values) are listed and read again with all rules. The branch on the type is taken
//! before the loop.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, MutableBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

use pelton_engine::batch::{Encoding, InputColumn, Reason, ValueError};
use pelton_engine::job::spec::Column;
use pelton_kernels::interner::Interner;

use super::buffer::Recycled;
use super::digits::{self, Block, Fields, Number};
use super::field::FieldRules;
use super::number;
use super::spans::{Framed, Spans};
use super::tier::SimdTier;
use super::time::TimeReader;

/// What all columns of a batch use in turn.
#[derive(Default)]
pub(super) struct Scratch {
    pub spans: Spans,
    block: Block,
    /// Rows to be read with all rules.
    pub rest: Vec<u32>,
    pub null_rows: Vec<u32>,
    pub ids: Vec<u32>,
    /// A text whose escapes were taken out.
    pub room: Vec<u8>,
}

impl Scratch {
    pub fn bytes_held(&self) -> usize {
        let words = self.rest.capacity() + self.null_rows.capacity() + self.ids.capacity();
        self.spans.bytes_held() + words * size_of::<u32>() + self.room.capacity()
    }

    pub fn begin(&mut self) {
        self.rest.clear();
        self.null_rows.clear();
    }
}

#[derive(Debug)]
enum Kind {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal { precision: u8, scale: i8 },
    Date(TimeReader),
    Timestamp(TimeReader),
    Utf8,
    Binary,
    Ids { utf8: bool },
}

pub(super) struct ColumnDecoder {
    kind: Kind,
    reader: FieldReader,
}

/// What the columns of all types have in common.
pub(super) struct FieldReader {
    /// Index into the plan's input.
    input: u16,
    /// Which field of a row holds this column.
    pub field: usize,
    tier: SimdTier,
    data_type: DataType,
    /// What a bad value is told to be.
    expected: Reason,
    pub rules: FieldRules,
    /// A text that means NULL is a value of the type, too: each must be compared.
    all_rules: bool,
    pub values: Recycled,
    pub offsets: Recycled,
    pub validity: Recycled,
}

impl ColumnDecoder {
    /// Errors: what is wrong with the column's definition, in words.
    pub fn new(
        input: u16,
        column: &Column,
        wanted: &InputColumn,
        rules: FieldRules,
        job_zone: &str,
        tier: SimdTier,
    ) -> Result<Self, String> {
        let kind = match (&column.data_type, wanted.encoding) {
            (DataType::Utf8, Encoding::Ids) => Kind::Ids { utf8: true },
            (DataType::Binary, Encoding::Ids) => Kind::Ids { utf8: false },
            (other, Encoding::Ids) => return Err(format!("{other} has no dictionary ids")),
            (DataType::Boolean, _) => Kind::Boolean,
            (DataType::Int8, _) => Kind::Int8,
            (DataType::Int16, _) => Kind::Int16,
            (DataType::Int32, _) => Kind::Int32,
            (DataType::Int64, _) => Kind::Int64,
            (DataType::Float32, _) => Kind::Float32,
            (DataType::Float64, _) => Kind::Float64,
            (DataType::Decimal128(precision, scale), _) => {
                Kind::Decimal { precision: *precision, scale: *scale }
            }
            (DataType::Date32, _) => Kind::Date(TimeReader::new(column, false, job_zone)?),
            (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => {
                Kind::Timestamp(TimeReader::new(column, zone.is_some(), job_zone)?)
            }
            (DataType::Utf8, _) => Kind::Utf8,
            (DataType::Binary, _) => Kind::Binary,
            (other, _) => return Err(format!("the decoder makes no {other}")),
        };
        let all_rules = rules.nulls.iter().any(|text| kind.quick_may_take(text));
        let form = match &kind {
            Kind::Date(reader) | Kind::Timestamp(reader) => reader.expected(),
            _ => None,
        };
        let reader = FieldReader {
            input,
            field: wanted.source,
            tier,
            data_type: column.data_type.clone(),
            expected: form.unwrap_or_else(|| Reason::Expected(column.data_type.clone())),
            rules,
            all_rules,
            values: Recycled::default(),
            offsets: Recycled::default(),
            validity: Recycled::default(),
        };
        Ok(ColumnDecoder { kind, reader })
    }

    pub fn bytes_held(&self) -> usize {
        let FieldReader { values, offsets, validity, .. } = &self.reader;
        [values, offsets, validity].into_iter().map(Recycled::bytes_held).sum()
    }

    /// Reads this field of each row from now on.
    pub fn set_field(&mut self, field: usize) {
        self.reader.field = field;
    }

    /// Decodes the column; appends what did not decode to `errors`, in the order of rows.
    ///
    /// `interner` is this column's, for ids.
    pub fn decode(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        interner: Option<&mut Interner>,
        errors: &mut Vec<ValueError>,
    ) -> ArrayRef {
        let int = number::int;
        let read = &mut self.reader;
        match &self.kind {
            Kind::Int8 => read.numbers::<Int8Type>(framed, scratch, errors, 1, |text| {
                int(text).and_then(|v| i8::try_from(v).ok())
            }),
            Kind::Int16 => read.numbers::<Int16Type>(framed, scratch, errors, 1, |text| {
                int(text).and_then(|v| i16::try_from(v).ok())
            }),
            Kind::Int32 => read.numbers::<Int32Type>(framed, scratch, errors, 1, |text| {
                int(text).and_then(|v| i32::try_from(v).ok())
            }),
            Kind::Int64 => read.numbers::<Int64Type>(framed, scratch, errors, 1, int),
            Kind::Float32 => read.numbers::<Float32Type>(framed, scratch, errors, 1, number::float),
            Kind::Float64 => {
                read.numbers::<Float64Type>(framed, scratch, errors, 1, number::double)
            }
            Kind::Decimal { precision, scale } => read.fixed::<Decimal128Type>(
                framed,
                scratch,
                errors,
                |_, _, _| None,
                |text| number::decimal(text, *precision, *scale),
            ),
            Kind::Date(reader) => read.fixed::<Date32Type>(
                framed,
                scratch,
                errors,
                |b, s, e| reader.date(b.get(s as usize..e as usize)?),
                |text| reader.date(text),
            ),
            Kind::Timestamp(reader) => match reader.micros_per_unit() {
                Some(micros) => read.numbers::<TimestampMicrosecondType>(
                    framed,
                    scratch,
                    errors,
                    micros,
                    |text| reader.timestamp(text),
                ),
                None => read.fixed::<TimestampMicrosecondType>(
                    framed,
                    scratch,
                    errors,
                    |b, s, e| reader.timestamp(b.get(s as usize..e as usize)?),
                    |text| reader.timestamp(text),
                ),
            },
            Kind::Boolean => read.boolean(framed, scratch, errors),
            Kind::Utf8 => read.text(framed, scratch, errors, true),
            Kind::Binary => read.text(framed, scratch, errors, false),
            Kind::Ids { utf8 } => {
                let interner = interner.expect("a column of ids comes with its interner");
                read.ids(framed, scratch, errors, *utf8, interner)
            }
        }
    }
}

impl FieldReader {
    /// A column of numbers, integers times `factor`. `full` reads a field's text.
    fn numbers<T: ArrowPrimitiveType<Native: Number>>(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        factor: i64,
        full: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> ArrayRef {
        let rows = framed.rows.starts.len();
        let mut buffer = self.values.take_as_it_is(rows * size_of::<T::Native>());
        let values: &mut [T::Native] = buffer.typed_data_mut();
        scratch.begin();
        if self.all_rules {
            scratch.rest.extend(0..rows as u32);
        } else {
            let fields = Fields { framed, field: self.field, quote: self.rules.quote };
            let Scratch { block, rest, .. } = scratch;
            digits::read(self.tier, fields, factor, block, values, rest);
        }
        self.finish::<T>(framed, scratch, errors, buffer, full)
    }

    /// A column of values of a fixed width. `quick` reads the field at `start..end`, where `None` only
    /// means "ask `full`", which reads a field's text.
    fn fixed<T: ArrowPrimitiveType>(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        quick: impl Fn(&[u8], u32, u32) -> Option<T::Native>,
        full: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> ArrayRef {
        let bytes = framed.bytes;
        let rows = framed.rows.starts.len();
        let mut buffer = self.values.take_as_it_is(rows * size_of::<T::Native>());
        let values: &mut [T::Native] = buffer.typed_data_mut();
        scratch.begin();
        if self.all_rules {
            scratch.rest.extend(0..rows as u32);
        } else {
            let spans = scratch.spans.quick(framed, self.field, self.rules.quote);
            for (row, (value, (start, end))) in values.iter_mut().zip(spans).enumerate() {
                match quick(bytes, start, end) {
                    Some(v) => *value = v,
                    None => scratch.rest.push(row as u32),
                }
            }
        }
        self.finish::<T>(framed, scratch, errors, buffer, full)
    }

    /// Reads the rows in `scratch.rest` by `full` and makes the array; a NULL's value is 0.
    fn finish<T: ArrowPrimitiveType>(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        mut buffer: MutableBuffer,
        full: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> ArrayRef {
        let values: &mut [T::Native] = buffer.typed_data_mut();
        for &row in &scratch.rest {
            values[row as usize] = T::Native::default();
        }
        self.read_rest(framed, scratch, errors, |row, text| match full(text) {
            Some(value) => {
                values[row] = value;
                true
            }
            None => false,
        });
        let values = ScalarBuffer::from(self.values.lend(buffer));
        let nulls = self.validity.nulls(framed.rows.starts.len(), &scratch.null_rows);
        Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(self.data_type.clone()))
    }

    /// Reads the rows in `scratch.rest` with all rules; `put` takes a row's text or refuses it.
    fn read_rest(
        &self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        mut put: impl FnMut(usize, &[u8]) -> bool,
    ) {
        for &row in &scratch.rest {
            let (start, end) = framed.field(row as usize, self.field);
            if start > end {
                scratch.null_rows.push(row);
                continue;
            }
            match self.rules.text(framed.bytes, start, end, &mut scratch.room) {
                Some(text) if put(row as usize, text) => {}
                text => {
                    scratch.null_rows.push(row);
                    if text.is_some() {
                        errors.push(self.error(row, (start, end), self.expected.clone()));
                    }
                }
            }
        }
    }

    fn boolean(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
    ) -> ArrayRef {
        let rows = framed.rows.starts.len();
        let mut bits = self.values.take_zeroed(rows.div_ceil(8));
        let mut set = |row: usize, value| {
            bits.as_slice_mut()[row / 8] |= u8::from(value) << (row % 8);
        };
        scratch.begin();
        let spans = scratch.spans.quick(framed, self.field, self.rules.quote);
        for (row, (start, end)) in spans.enumerate() {
            let text = framed.bytes.get(start as usize..end as usize).unwrap_or_default();
            match if self.all_rules { None } else { number::boolean(text) } {
                Some(value) => set(row, value),
                None => scratch.rest.push(row as u32),
            }
        }
        self.read_rest(framed, scratch, errors, |row, text| match number::boolean(text) {
            Some(value) => {
                set(row, value);
                true
            }
            None => false,
        });
        let values = BooleanBuffer::new(self.values.lend(bits), 0, rows);
        let nulls = self.validity.nulls(rows, &scratch.null_rows);
        Arc::new(BooleanArray::new(values, nulls))
    }

    pub fn error(&self, row: u32, (start, end): (u32, u32), reason: Reason) -> ValueError {
        ValueError { row, column: self.input, start, end, reason }
    }
}

impl Kind {
    /// The quick reading of this type may take this text for a value.
    fn quick_may_take(&self, text: &[u8]) -> bool {
        match self {
            Kind::Boolean => number::boolean(text).is_some(),
            Kind::Utf8 | Kind::Binary | Kind::Ids { .. } => false,
            Kind::Date(reader) => reader.date(text).is_some(),
            Kind::Timestamp(reader) => reader.timestamp(text).is_some(),
            _ => number::double(text).is_some(),
        }
    }
}
