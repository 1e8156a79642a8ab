//! What crosses the door between a source and the engine: decoded rows, their errors, their place.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

/// One column that the plan reads, and the form in which the decoder delivers it.
#[derive(Clone, Debug, PartialEq)]
pub struct InputColumn {
    /// Index into [`crate::job::spec::SourceSpec::schema`].
    pub source: usize,
    pub encoding: Encoding,
    /// WHERE reads it: a bad value here rejects the row before the filter is asked (SEMANTICS 9).
    pub in_filter: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An array of the column's type.
    Values,
    /// A `UInt32Array` without nulls: ids by the interner that the pipeline hands out for this
    /// column, 0 for NULL. STRING and BINARY only.
    Ids,
}

/// Rows as a decoder delivers them. Nothing here outlives the call that takes it.
pub struct InputBatch<'a> {
    /// In the order of the plan's input; each holds `rows` values.
    pub columns: &'a [ArrayRef],
    pub rows: usize,
    /// The bytes that all offsets here point into.
    pub bytes: &'a [u8],
    /// First byte of each row in `bytes`.
    pub row_starts: &'a [u32],
    /// One past the last byte of each row, its line terminator left out.
    pub row_ends: &'a [u32],
    /// Values that did not decode, ordered by row; the column holds NULL (id 0) there.
    pub value_errors: &'a [ValueError],
    /// Rows that are not among `rows` because their framing is broken.
    pub row_errors: &'a [RowError],
    pub place: &'a Place,
}

/// Where the bytes of a batch come from; adds up to the position of each row.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// File name or peer, for messages and dead letters.
    pub name: Arc<str>,
    pub split: u32,
    /// File in order of discovery, or offset of a Kafka message.
    pub major: u64,
    /// Byte offset of `bytes[0]` in its file, or 0.
    pub minor: u64,
    /// Line number of `bytes[0]`, from 1 on; relative to the range while its predecessors are read.
    pub line: u64,
}

/// Position of a row: the order of `first`, `last` and of stateless output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub split: u32,
    pub major: u64,
    pub minor: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ValueError {
    pub row: u32,
    /// Index into the plan's input.
    pub column: u16,
    /// The field's bytes, quotes included.
    pub start: u32,
    pub end: u32,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    /// The row's bytes, its line terminator left out.
    pub start: u32,
    pub end: u32,
    pub reason: Reason,
}

/// Why a value or a row was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Not a value of the type, or out of its range.
    Expected(DataType),
    /// The text does not have the form that the column's format asks for.
    ExpectedFormat(String),
    FieldCount {
        expected: usize,
        found: usize,
    },
    UnclosedQuote,
    /// Text after the closing quote of a field.
    TextAfterQuote,
    TooLong {
        limit: usize,
    },
    InvalidUtf8,
    /// An expression stopped at this row: overflow, division by zero, a bad cast.
    Expression(String),
}

/// A rejected row as it leaves: never lost, with its place and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub raw: Vec<u8>,
    pub name: Arc<str>,
    pub position: Position,
    pub line: u64,
    /// Column name; `None` where the row as a whole is at fault.
    pub column: Option<Arc<str>>,
    pub reason: String,
}

impl DeadLetter {
    /// Bytes held, those of the allocator included, about.
    pub fn bytes_held(&self) -> usize {
        const ALLOCATION: usize = 16;
        let texts = self.raw.capacity() + self.reason.capacity();
        size_of::<DeadLetter>() + texts + 2 * ALLOCATION
    }
}

/// Fate of every row: `rows_in = applied + filtered + late + rejected` (SEMANTICS 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub rows_in: u64,
    pub applied: u64,
    pub filtered: u64,
    pub late: u64,
    pub rejected: u64,
    /// Windows for which an applied row, or what came of it in a join, was too late.
    pub late_windows: u64,
    /// Of `late`: those in time by their split's own clock, whose windows had left while it was idle or not yet
    /// there. Of a split that was idle when the job stopped the own clock is not known any more.
    #[serde(default)]
    pub late_after_idleness: u64,
}

impl Counters {
    pub fn add(&mut self, other: &Counters) {
        self.rows_in += other.rows_in;
        self.applied += other.applied;
        self.filtered += other.filtered;
        self.late += other.late;
        self.rejected += other.rejected;
        self.late_windows += other.late_windows;
        self.late_after_idleness += other.late_after_idleness;
    }

    pub fn close(&self) -> bool {
        self.rows_in == self.applied + self.filtered + self.late + self.rejected
    }
}

/// Bytes of a bad value that a message quotes.
const QUOTED_BYTES_MAX: usize = 60;

impl Reason {
    /// What was expected and what was found, for a message or a dead letter.
    pub fn describe(&self, found: &[u8]) -> String {
        match self {
            Reason::Expected(data_type) => {
                format!("expected {}, found {}", sql_type(data_type), quoted(found))
            }
            Reason::ExpectedFormat(format) => {
                format!("expected the form {format}, found {}", quoted(found))
            }
            Reason::FieldCount { expected, found } => {
                format!("expected {expected} fields, found {found}")
            }
            Reason::UnclosedQuote => "a quoted field is not closed".to_string(),
            Reason::TextAfterQuote => {
                format!("text after the closing quote of a field: {}", quoted(found))
            }
            Reason::TooLong { limit } => {
                format!("the row is longer than max_record_bytes = {limit}")
            }
            Reason::InvalidUtf8 => format!("not UTF-8: {}", quoted(found)),
            Reason::Expression(reason) => reason.clone(),
        }
    }
}

fn quoted(found: &[u8]) -> String {
    let cut = &found[..found.len().min(QUOTED_BYTES_MAX)];
    let more = if cut.len() < found.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}

/// A type by its name in a job file's schema.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 => "STRING".into(),
        DataType::Binary => "BINARY".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        other => other.to_string(),
    }
}
