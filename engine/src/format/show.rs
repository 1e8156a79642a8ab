//! Tables as Spark's `show()` prints them, to the byte.
//!
//! Rules: `Dataset.showString` and `ToPrettyString` of Spark 4; widths and cuts count UTF-16 code
//! units, as Java strings do, and East Asian wide characters take two places.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, DurationSecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use jiff::tz::TimeZone;

use super::cells::normal;
use super::number::{self, JAVA};
use super::time::{self, Fraction};

/// No column is narrower.
const WIDTH_MIN: usize = 3;

/// The rows of one table: kept as texts, no more of them than are shown.
pub struct Table {
    num_rows: usize,
    /// Longest text of a cell; `None`: as it is, and left-aligned.
    truncate: Option<usize>,
    zone: TimeZone,
    rows: Vec<Vec<String>>,
    more: bool,
}

impl Table {
    /// Bytes of the rows that are kept for printing, about.
    pub fn bytes_held(&self) -> usize {
        self.rows.iter().flatten().map(|cell| cell.capacity() + size_of::<String>()).sum()
    }

    pub fn new(num_rows: usize, truncate: Option<usize>, zone: TimeZone) -> Table {
        let truncate = truncate.filter(|&longest| longest > 0);
        Table { num_rows, truncate, zone, rows: Vec::new(), more: false }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.more = false;
    }

    /// Takes the rows that will be shown. Errors: a column whose type has no text.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let room = self.num_rows - self.rows.len();
        self.more |= batch.num_rows() > room;
        let shown = batch.slice(0, batch.num_rows().min(room));
        let columns = shown.columns().iter().map(normal).collect::<Result<Vec<_>, _>>()?;
        for row in 0..shown.num_rows() {
            self.rows.push(columns.iter().map(|column| self.cell(column, row)).collect());
        }
        Ok(())
    }

    fn cell(&self, column: &ArrayRef, row: usize) -> String {
        let mut text = Vec::new();
        pretty(&mut text, column, row, &self.zone);
        let text = escape_controls(&String::from_utf8(text).expect("all texts are UTF-8"));
        match self.truncate {
            Some(longest) if units(&text) > longest => cut(&text, longest),
            _ => text,
        }
    }

    /// Appends a row a line as a DStream prints its elements: `word`, or `(word,1)`; `...` tells of more.
    pub fn print_tuples(&self, out: &mut String) {
        for row in &self.rows {
            match row.as_slice() {
                [single] => out.push_str(single),
                cells => {
                    out.push('(');
                    out.push_str(&cells.join(","));
                    out.push(')');
                }
            }
            out.push('\n');
        }
        if self.more {
            out.push_str("...\n");
        }
        out.push('\n');
    }

    /// Appends the table with its header, and the line that tells of rows not shown.
    pub fn print(&self, schema: &Schema, out: &mut String) {
        let header: Vec<String> =
            schema.fields().iter().map(|field| escape_controls(field.name())).collect();
        let mut widths = vec![WIDTH_MIN; header.len()];
        for row in self.rows.iter().chain([&header]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(places(cell));
            }
        }
        let line = |out: &mut String, row: &[String]| {
            out.push('|');
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = " ".repeat(width - places(cell));
                let (first, second) = match self.truncate {
                    Some(_) => (blanks.as_str(), cell.as_str()),
                    None => (cell.as_str(), blanks.as_str()),
                };
                out.push_str(first);
                out.push_str(second);
                out.push('|');
            }
            // A table without columns keeps both its borders.
            out.push_str(if row.is_empty() { "|\n" } else { "\n" });
        };
        let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let border = format!("+{}+\n", dashes.join("+"));
        out.push_str(&border);
        line(out, &header);
        out.push_str(&border);
        for row in &self.rows {
            line(out, row);
        }
        out.push_str(&border);
        if self.more {
            let rows = if self.num_rows == 1 { "row" } else { "rows" };
            out.push_str(&format!("only showing top {} {rows}\n", self.num_rows));
        } else {
            out.push('\n');
        }
    }
}

/// One value of a normal type as `ToPrettyString` has it.
fn pretty(out: &mut Vec<u8>, array: &dyn Array, row: usize, zone: &TimeZone) {
    if array.is_null(row) {
        out.extend_from_slice(b"NULL");
        return;
    }
    match array.data_type() {
        DataType::Int8 => number::integer(out, array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => number::integer(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => number::integer(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => number::integer(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => number::integer(out, array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => number::integer(out, array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => number::integer(out, array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => number::integer(out, array.as_primitive::<UInt64Type>().value(row)),
        DataType::Boolean => {
            out.extend_from_slice(array.as_boolean().value(row).to_string().as_bytes());
        }
        DataType::Float32 => {
            number::float(out, array.as_primitive::<Float32Type>().value(row), &JAVA);
        }
        DataType::Float64 => {
            number::double(out, array.as_primitive::<Float64Type>().value(row), &JAVA);
        }
        DataType::Decimal128(_, scale) => {
            number::decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale);
        }
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => hex(out, array.as_binary::<i32>().value(row)),
        DataType::Date32 => {
            time::date(out, i64::from(array.as_primitive::<Date32Type>().value(row)));
        }
        DataType::Timestamp(_, instant) => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let us = if instant.is_some() { time::wall_clock(us, zone) } else { us };
            time::timestamp(out, us, b' ', Fraction::Shortest);
        }
        DataType::Duration(TimeUnit::Second) => {
            time::days(out, array.as_primitive::<DurationSecondType>().value(row));
        }
        DataType::Duration(_) => {
            time::interval(out, array.as_primitive::<DurationMicrosecondType>().value(row));
        }
        _ => nested(out, array, row, zone),
    }
}

fn nested(out: &mut Vec<u8>, array: &dyn Array, row: usize, zone: &TimeZone) {
    match array.data_type() {
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for item in 0..items.len() {
                separate(out, item);
                pretty(out, &items, item, zone);
            }
            out.push(b']');
        }
        DataType::Struct(_) => {
            out.push(b'{');
            for (at, field) in array.as_struct().columns().iter().enumerate() {
                separate(out, at);
                pretty(out, field, row, zone);
            }
            out.push(b'}');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push(b'{');
            for entry in 0..entries.len() {
                separate(out, entry);
                pretty(out, entries.column(0), entry, zone);
                out.extend_from_slice(b" -> ");
                pretty(out, entries.column(1), entry, zone);
            }
            out.push(b'}');
        }
        // The type Null.
        _ => out.extend_from_slice(b"NULL"),
    }
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.extend_from_slice(b", ");
    }
}

/// `[0A FF]`.
fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    out.extend_from_slice(format!("[{}]", pairs.join(" ")).as_bytes());
}

/// Makes visible what would break the table.
fn escape_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\x0c' => escaped.push_str("\\f"),
            '\x08' => escaped.push_str("\\b"),
            '\x0b' => escaped.push_str("\\v"),
            '\x07' => escaped.push_str("\\a"),
            char => escaped.push(char),
        }
    }
    escaped
}

/// Length in UTF-16 code units.
fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Places on the screen, as Spark's `stringHalfWidth` counts them.
fn places(text: &str) -> usize {
    text.chars().map(|char| char.len_utf16() + usize::from(wide(char))).sum()
}

fn wide(char: char) -> bool {
    matches!(char,
        '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FE10}'..='\u{FE19}' | '\u{FE30}'..='\u{FE6F}'
        | '\u{FF00}'..='\u{FF60}' | '\u{FFE0}'..='\u{FFE6}')
}

/// The head of a text and `...`, together `longest` units; below four units no dots.
fn cut(text: &str, longest: usize) -> String {
    let (keep, dots) = if longest < 4 { (longest, "") } else { (longest - 3, "...") };
    let mut short = String::new();
    let mut length = 0;
    for char in text.chars() {
        let left = keep - length;
        if left == 0 {
            break;
        }
        if char.len_utf16() > left {
            // Java cuts the pair in two and prints the half that is left so.
            short.push('?');
            break;
        }
        short.push(char);
        length += char.len_utf16();
    }
    short + dots
}
