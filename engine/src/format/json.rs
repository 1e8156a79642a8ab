//! JSON as Spark's `to_json` has it: NULL fields are left out, `NaN` and infinities are strings,
//! timestamps ISO 8601, binary values base64, a map an object whose keys are texts.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::cells::{Cells, Column, Dialect, value};

const ROWS: usize = 1024;

/// Turns batches into objects, one a row. Keeps its buffers.
#[derive(Default)]
pub struct Writer {
    cells: Vec<Cells>,
    /// `"name":` of each column.
    names: Vec<Vec<u8>>,
}

impl Writer {
    /// Appends `{…}` and then `end` for each row. Errors: a column whose type has no text.
    pub fn rows(
        &mut self,
        batch: &RecordBatch,
        end: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ArrowError> {
        self.each(batch, out, |out| out.extend_from_slice(end))
    }

    /// Appends `{…}` for each row; `ended` gets what is written behind each of them.
    pub fn each(
        &mut self,
        batch: &RecordBatch,
        out: &mut Vec<u8>,
        mut ended: impl FnMut(&mut Vec<u8>),
    ) -> Result<(), ArrowError> {
        let columns =
            batch.columns().iter().map(Column::new::<Json>).collect::<Result<Vec<_>, _>>()?;
        self.cells.resize_with(columns.len(), Cells::default);
        self.names.clear();
        self.names.extend(batch.schema_ref().fields().iter().map(|field| name(field.name())));
        for start in (0..batch.num_rows()).step_by(ROWS) {
            let stop = batch.num_rows().min(start + ROWS);
            for (column, cells) in columns.iter().zip(&mut self.cells) {
                column.format::<Json>(start..stop, cells);
            }
            for row in 0..stop - start {
                out.push(b'{');
                for (cells, name) in self.cells.iter().zip(&self.names) {
                    let cell = cells.get(row);
                    if !cell.is_empty() {
                        out.extend_from_slice(name);
                        out.extend_from_slice(cell);
                        out.push(b',');
                    }
                }
                close(out, b'}');
                ended(out);
            }
        }
        Ok(())
    }

    pub fn bytes_held(&self) -> usize {
        self.cells.iter().map(Cells::bytes_held).sum()
    }
}

fn name(name: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 3);
    Json::text(&mut text, name);
    text.push(b':');
    text
}

/// Puts the closing bracket in place of the last comma, or behind the opening bracket.
fn close(out: &mut Vec<u8>, bracket: u8) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = bracket,
        _ => out.push(bracket),
    }
}

pub(super) struct Json;

impl Dialect for Json {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'"');
        let bytes = text.as_bytes();
        let mut copied = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            out.extend_from_slice(&bytes[copied..at]);
            copied = at + 1;
            escape(out, byte);
        }
        out.extend_from_slice(&bytes[copied..]);
        out.push(b'"');
    }

    fn plain(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        out.push(b'"');
        write(out);
        out.push(b'"');
    }

    fn nested(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
        match array.data_type() {
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                out.push(b'[');
                for item in 0..items.len() {
                    value_or_null(out, &items, item);
                    out.push(b',');
                }
                close(out, b']');
            }
            DataType::Struct(fields) => {
                out.push(b'{');
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    let start = out.len();
                    Json::text(out, field.name());
                    out.push(b':');
                    if append(out, column, row) {
                        out.push(b',');
                    } else {
                        out.truncate(start);
                    }
                }
                close(out, b'}');
            }
            DataType::Map(_, _) => {
                let entries = array.as_map().value(row);
                let (keys, values) = (entries.column(0), entries.column(1));
                out.push(b'{');
                for entry in 0..entries.len() {
                    map_key(out, keys, entry);
                    out.push(b':');
                    value_or_null(out, values, entry);
                    out.push(b',');
                }
                close(out, b'}');
            }
            other => unreachable!("{other} is not nested"),
        }
    }
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        control => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(control >> 4)]);
            out.push(HEX[usize::from(control & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Whether there was a value.
fn append(out: &mut Vec<u8>, array: &ArrayRef, row: usize) -> bool {
    let start = out.len();
    value::<Json>(out, array, row);
    out.len() > start
}

fn value_or_null(out: &mut Vec<u8>, array: &ArrayRef, row: usize) {
    if !append(out, array, row) {
        out.extend_from_slice(b"null");
    }
}

/// A key that is no text is put in quotes.
fn map_key(out: &mut Vec<u8>, keys: &ArrayRef, entry: usize) {
    let mut text = Vec::new();
    value::<Json>(&mut text, keys, entry);
    if text.first() == Some(&b'"') {
        out.extend_from_slice(&text);
    } else {
        Json::text(out, &String::from_utf8(text).expect("JSON is UTF-8"));
    }
}
