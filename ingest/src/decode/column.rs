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
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
    UInt32Array,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

use pelton_engine::batch::{Encoding, Reason, ValueError};
use pelton_engine::job::spec::Column;
use pelton_kernels::interner::Interner;

use super::buffer::Recycled;
use super::field::{FieldRules, Text};
use super::frame::Rows;
use super::number;
use super::time::TimeReader;

/// Rows of a window and where their fields end.
#[derive(Clone, Copy)]
pub(super) struct Framed<'a> {
    pub bytes: &'a [u8],
    pub positions: &'a [u32],
    pub rows: &'a Rows,
    /// Positions per row, where it is the same for all.
    pub stride: Option<usize>,
    pub quotes: bool,
    /// All text between separators is UTF-8.
    pub utf8: bool,
}

impl Framed<'_> {
    /// Where a field stands; a missing one ends before it starts.
    fn field(&self, row: usize, field: usize) -> (u32, u32) {
        let (first, found) = match self.stride {
            Some(stride) => (row * stride, stride),
            None => (self.rows.first[row] as usize, self.rows.found[row] as usize),
        };
        if field >= found {
            return MISSING;
        }
        let start = match field {
            0 => self.rows.starts[row],
            _ => self.positions[first + field - 1] + 1,
        };
        (start, self.positions[first + field])
    }
}

/// As the interner has it: ends before it starts.
const MISSING: (u32, u32) = (1, 0);

/// What all columns of a batch use in turn.
#[derive(Default)]
pub(super) struct Scratch {
    spans: Spans,
    /// Rows to be read with all rules.
    rest: Vec<u32>,
    null_rows: Vec<u32>,
    ids: Vec<u32>,
    /// A text whose escapes were taken out.
    room: Vec<u8>,
}

impl Scratch {
    fn begin(&mut self) {
        self.rest.clear();
        self.null_rows.clear();
    }
}

/// Start and end of a field, row by row.
#[derive(Default)]
struct Spans {
    starts: Vec<u32>,
    ends: Vec<u32>,
}

impl Spans {
    fn take(&mut self, framed: &Framed<'_>, field: usize) {
        self.starts.clear();
        self.ends.clear();
        let rows = framed.rows.starts.len();
        let Some(stride) = framed.stride else {
            for row in 0..rows {
                let (start, end) = framed.field(row, field);
                self.starts.push(start);
                self.ends.push(end);
            }
            return;
        };
        let ends = |field| framed.positions.iter().skip(field).step_by(stride).take(rows);
        match field {
            0 => self.starts.extend_from_slice(&framed.rows.starts),
            _ => self.starts.extend(ends(field - 1).map(|end| end + 1)),
        }
        self.ends.extend(ends(field));
    }

    /// Takes the quotes off quoted fields, escapes left as they are.
    fn strip_quotes(&mut self, bytes: &[u8], quote: u8) {
        for (start, end) in self.starts.iter_mut().zip(&mut self.ends) {
            if end.saturating_sub(*start) >= 2 && bytes[*start as usize] == quote {
                *start += 1;
                *end -= 1;
            }
        }
    }

    /// The spans of a field, without quotes; copied only where they are not evenly spaced already.
    ///
    /// One shape for all layouts, so that the loop over them is compiled once and whole.
    #[inline(always)]
    fn quick<'a>(
        &'a mut self,
        framed: &'a Framed<'_>,
        field: usize,
        quote: Option<u8>,
    ) -> impl Iterator<Item = (u32, u32)> + 'a {
        let (starts, start_step, gap, ends, end_step) = match framed.stride {
            Some(stride) if !framed.quotes || quote.is_none() => {
                let ends = framed.positions.get(field..).unwrap_or_default();
                match field {
                    0 => (&framed.rows.starts[..], 1, 0, ends, stride),
                    _ => {
                        let before = framed.positions.get(field - 1..).unwrap_or_default();
                        (before, stride, 1, ends, stride)
                    }
                }
            }
            _ => {
                self.take(framed, field);
                if let Some(quote) = quote {
                    self.strip_quotes(framed.bytes, quote);
                }
                (&self.starts[..], 1, 0, &self.ends[..], 1)
            }
        };
        let starts = starts.iter().step_by(start_step).map(move |start| start + gap);
        starts.zip(ends.iter().step_by(end_step).copied()).take(framed.rows.starts.len())
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
struct FieldReader {
    /// Index into the plan's input.
    input: u16,
    /// Which field of a row holds this column.
    field: usize,
    data_type: DataType,
    /// What a bad value is told to be.
    expected: Reason,
    rules: FieldRules,
    /// A text that means NULL is a value of the type, too: each must be compared.
    all_rules: bool,
    values: Recycled,
    offsets: Recycled,
    validity: Recycled,
}

impl ColumnDecoder {
    /// Errors: what is wrong with the column's definition, in words.
    pub fn new(
        input: u16,
        column: &Column,
        source: usize,
        encoding: Encoding,
        rules: FieldRules,
        job_zone: &str,
    ) -> Result<Self, String> {
        let kind = match (&column.data_type, encoding) {
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
            field: source,
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
            Kind::Int8 => read.fixed::<Int8Type>(
                framed,
                scratch,
                errors,
                |b, s, e| number::quick_int(b, s, e).and_then(|v| i8::try_from(v).ok()),
                |text| int(text).and_then(|v| i8::try_from(v).ok()),
            ),
            Kind::Int16 => read.fixed::<Int16Type>(
                framed,
                scratch,
                errors,
                |b, s, e| number::quick_int(b, s, e).and_then(|v| i16::try_from(v).ok()),
                |text| int(text).and_then(|v| i16::try_from(v).ok()),
            ),
            Kind::Int32 => read.fixed::<Int32Type>(
                framed,
                scratch,
                errors,
                |b, s, e| number::quick_int(b, s, e).and_then(|v| i32::try_from(v).ok()),
                |text| int(text).and_then(|v| i32::try_from(v).ok()),
            ),
            Kind::Int64 => read.fixed::<Int64Type>(framed, scratch, errors, number::quick_int, int),
            Kind::Float32 => read.fixed::<Float32Type>(
                framed,
                scratch,
                errors,
                number::quick_float,
                number::float,
            ),
            Kind::Float64 => read.fixed::<Float64Type>(
                framed,
                scratch,
                errors,
                number::quick_double,
                number::double,
            ),
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
                Some(micros) => read.fixed::<TimestampMicrosecondType>(
                    framed,
                    scratch,
                    errors,
                    |b, s, e| number::quick_int(b, s, e)?.checked_mul(micros),
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
        let mut buffer = self.values.take_zeroed(rows * size_of::<T::Native>());
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
        self.read_rest(framed, scratch, errors, |row, text| match full(text) {
            Some(value) => {
                values[row] = value;
                true
            }
            None => false,
        });
        let values = ScalarBuffer::from(self.values.lend(buffer));
        let nulls = self.validity.nulls(rows, &scratch.null_rows);
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

    /// Strings and binary values: the text of each field, one after the other.
    fn text(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
    ) -> ArrayRef {
        let bytes = framed.bytes;
        scratch.begin();
        scratch.spans.take(framed, self.field);
        let mut data = self.values.take();
        let mut offsets = self.offsets.take();
        offsets.push(0i32);
        for row in 0..scratch.spans.starts.len() {
            match self.locate(framed, scratch, row) {
                Text::Null => scratch.null_rows.push(row as u32),
                Text::At(start, end) => {
                    let text = &bytes[start as usize..end as usize];
                    if utf8 && !framed.utf8 && std::str::from_utf8(text).is_err() {
                        self.refuse_utf8(framed, scratch, errors, row);
                    } else {
                        data.extend_from_slice(text);
                    }
                }
                Text::Escaped(start, end) => {
                    let inner = &bytes[start as usize..end as usize];
                    let text = self.rules.unescape(inner, &mut scratch.room);
                    if utf8 && !framed.utf8 && std::str::from_utf8(text).is_err() {
                        self.refuse_utf8(framed, scratch, errors, row);
                    } else {
                        data.extend_from_slice(text);
                    }
                }
            }
            // Windows are below 2^31 bytes, and no text is longer than its field.
            offsets.push(data.len() as i32);
        }
        let rows = scratch.spans.starts.len();
        let nulls = self.validity.nulls(rows, &scratch.null_rows);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets.lend(offsets)));
        let data = self.values.lend(data);
        match utf8 {
            true => Arc::new(StringArray::new(offsets, data, nulls)),
            false => Arc::new(BinaryArray::new(offsets, data, nulls)),
        }
    }

    fn ids(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
        interner: &mut Interner,
    ) -> ArrayRef {
        let bytes = framed.bytes;
        scratch.begin();
        scratch.spans.take(framed, self.field);
        let spans = scratch.spans.starts.len();
        if self.plain(framed) && (framed.utf8 || !utf8) {
            let empty_is_null = self.rules.empty_is_null;
            let Spans { starts, ends } = &mut scratch.spans;
            for (start, end) in starts.iter_mut().zip(ends) {
                let null = start == end && empty_is_null;
                (*start, *end) = if null { MISSING } else { (*start, *end) };
            }
        } else {
            (0..spans).for_each(|row| self.locate_id(framed, scratch, errors, utf8, row));
        }
        scratch.ids.clear();
        interner.intern_spans(bytes, &scratch.spans.starts, &scratch.spans.ends, &mut scratch.ids);
        for i in 0..scratch.rest.len() {
            let row = scratch.rest[i] as usize;
            let (start, end) = framed.field(row, self.field);
            let text = self.rules.text(bytes, start, end, &mut scratch.room);
            let text = text.expect("escaped text is no NULL");
            if utf8 && !framed.utf8 && std::str::from_utf8(text).is_err() {
                self.refuse_utf8(framed, scratch, errors, row);
            } else {
                scratch.ids[row] = interner.intern(text);
            }
        }
        let mut buffer = self.values.take();
        buffer.extend_from_slice(&scratch.ids);
        let ids = ScalarBuffer::from(self.values.lend(buffer));
        Arc::new(UInt32Array::new(ids, None))
    }

    /// Puts the span of the row's text into the place of its field's.
    fn locate_id(
        &self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
        row: usize,
    ) {
        let text = self.locate(framed, scratch, row);
        (scratch.spans.starts[row], scratch.spans.ends[row]) = match text {
            Text::Null => MISSING,
            Text::At(start, end) => {
                let text = &framed.bytes[start as usize..end as usize];
                if utf8 && !framed.utf8 && std::str::from_utf8(text).is_err() {
                    self.refuse_utf8(framed, scratch, errors, row);
                    MISSING
                } else {
                    (start, end)
                }
            }
            Text::Escaped(..) => {
                scratch.rest.push(row as u32);
                MISSING
            }
        };
    }

    /// Text needs no rule but that of the empty field.
    fn plain(&self, framed: &Framed<'_>) -> bool {
        !framed.quotes && !self.rules.trim && self.rules.nulls.is_empty()
    }

    /// The text of the row's field, whose span is in `scratch`.
    #[inline(always)]
    fn locate(&self, framed: &Framed<'_>, scratch: &Scratch, row: usize) -> Text {
        let (start, end) = (scratch.spans.starts[row], scratch.spans.ends[row]);
        if start > end || (start == end && self.rules.empty_is_null) {
            Text::Null
        } else if self.plain(framed) {
            Text::At(start, end)
        } else {
            self.rules.locate(framed.bytes, start, end)
        }
    }

    #[cold]
    fn refuse_utf8(
        &self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        row: usize,
    ) {
        scratch.null_rows.push(row as u32);
        let field = framed.field(row, self.field);
        errors.push(self.error(row as u32, field, Reason::InvalidUtf8));
    }

    fn error(&self, row: u32, (start, end): (u32, u32), reason: Reason) -> ValueError {
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
