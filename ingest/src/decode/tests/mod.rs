//! Tests of the decoder as its callers see it, on every tier that the machine has.

mod arrow_csv;
mod dialect;
mod faults;
mod options;
mod oracle;
mod times;
mod values;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::UInt32Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use pelton_engine::batch::Reason;
use pelton_engine::job::spec::{Header, OnError, SourceKind, TimeFormat};

pub fn column(name: &str, data_type: DataType) -> Column {
    Column {
        name: name.to_string(),
        data_type,
        format: TimeFormat::Iso,
        timezone: None,
        null: None,
        trim: None,
        empty_is_null: true,
        truncate: false,
    }
}

pub fn source(format: Format, schema: Vec<Column>) -> SourceSpec {
    SourceSpec {
        name: "test".to_string(),
        kind: SourceKind::Stdin,
        format,
        schema,
        watermark: None,
        dedup: None,
        on_error: OnError::DeadLetter,
        max_error_ratio: None,
        max_record_bytes: 16 << 20,
    }
}

/// All columns of the schema, as values.
pub fn all_values(source: &SourceSpec) -> Vec<InputColumn> {
    let input = |source| InputColumn { source, encoding: Encoding::Values, in_filter: false };
    (0..source.schema.len()).map(input).collect()
}

/// The bytes of a value; `None` is NULL.
pub type Value = Option<Vec<u8>>;

/// What a source's bytes decode to, with places counted from the input's first byte.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Start, end and values of each row.
    pub rows: Vec<(usize, usize, Vec<Value>)>,
    /// Row, column, start, end, reason.
    pub value_errors: Vec<(usize, u16, usize, usize, Reason)>,
    pub row_errors: Vec<(usize, usize, Reason)>,
    pub newlines: u64,
}

impl Answer {
    /// The rows as text, `|` between values, NULL as `-`; then the errors.
    pub fn text(&self) -> String {
        let value = |v: &Value| match v {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "-".to_string(),
        };
        let mut lines: Vec<String> = Vec::new();
        for (_, _, values) in &self.rows {
            lines.push(values.iter().map(value).collect::<Vec<_>>().join("|"));
        }
        for (row, column, start, end, reason) in &self.value_errors {
            lines.push(format!("row {row} column {column} at {start}..{end}: {reason:?}"));
        }
        for (start, end, reason) in &self.row_errors {
            lines.push(format!("{start}..{end}: {reason:?}"));
        }
        lines.join("\n")
    }
}

/// Reads `bytes` as a caller does whose reads end at `cuts`.
pub fn run(
    source: &SourceSpec,
    input: &[InputColumn],
    tier: SimdTier,
    bytes: &[u8],
    cuts: &[usize],
    max_rows: usize,
) -> Answer {
    let mut decoder = Decoder::new(source, "UTC", input, tier).expect("the source is sound");
    let mut interners: Vec<Interner> = input.iter().map(|_| Interner::new()).collect();
    let place = Place::default();
    let mut answer = Answer::default();
    let mut at = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    for (i, &end) in ends.iter().enumerate() {
        let at_end = i + 1 == ends.len();
        let mut calls = 0;
        loop {
            let mut values = Vec::new();
            let view = &bytes[at..end.max(at)];
            let decoded = decoder.decode(view, at_end, &mut interners, &place, max_rows);
            let batch = &decoded.batch;
            assert!(batch.rows <= max_rows);
            for array in batch.columns {
                assert_eq!(array.len(), batch.rows);
                values.push(array.clone());
            }
            let before = answer.rows.len();
            for row in 0..batch.rows {
                let (start, end) = (batch.row_starts[row] as usize, batch.row_ends[row] as usize);
                answer.rows.push((at + start, at + end, Vec::new()));
            }
            for error in batch.value_errors {
                let (start, end) = (at + error.start as usize, at + error.end as usize);
                let row = before + error.row as usize;
                let found = (row, error.column, start, end, error.reason.clone());
                answer.value_errors.push(found);
            }
            for error in batch.row_errors {
                let (start, end) = (at + error.start as usize, at + error.end as usize);
                answer.row_errors.push((start, end, error.reason.clone()));
            }
            answer.newlines += decoded.newlines;
            at += decoded.consumed;
            let need_more = decoded.need_more;
            for (array, (column, interner)) in values.iter().zip(input.iter().zip(&interners)) {
                for row in 0..array.len() {
                    let value = value(array, row, column.encoding, interner);
                    answer.rows[before + row].2.push(value);
                }
            }
            if need_more {
                break;
            }
            calls += 1;
            assert!(calls <= bytes.len() + 1, "a call that consumes nothing asks for more");
        }
    }
    assert_eq!(at, bytes.len(), "at the end of the input everything is consumed");
    answer
}

fn value(array: &ArrayRef, row: usize, encoding: Encoding, interner: &Interner) -> Value {
    if encoding == Encoding::Ids {
        let id = array.as_primitive::<UInt32Type>().value(row);
        return (id != 0).then(|| interner.value(id).to_vec());
    }
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row).to_vec()),
        DataType::Utf8 => Some(array.as_string::<i32>().value(row).as_bytes().to_vec()),
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::new());
            let formatter = formatter.expect("the type can be printed");
            Some(formatter.value(row).to_string().into_bytes())
        }
    }
}
