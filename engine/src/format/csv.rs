//! CSV by RFC 4180: LF, quotes only where they are needed, NULL empty, the empty string `""`.
//!
//! Lists, structs and maps are JSON inside their field, binary values base64.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

use super::cells::{Cells, Column, Dialect};
use super::json;

/// Rows that are formatted together: the texts of a usual row set stay in the L2 cache.
const ROWS: usize = 1024;

/// Turns batches into lines. Keeps its buffers.
#[derive(Default)]
pub struct Writer {
    cells: Vec<Cells>,
}

impl Writer {
    pub fn header(&self, schema: &Schema, out: &mut Vec<u8>) {
        for (at, field) in schema.fields().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            Csv::text(out, field.name());
        }
        out.push(b'\n');
    }

    /// Appends one line a row. Errors: a column whose type has no text.
    pub fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.stretches(batch, |writer, rows| writer.put_together(rows, out))
    }

    /// As [`Writer::rows`]; `ended` gets what is written behind each row.
    pub fn each(
        &mut self,
        batch: &RecordBatch,
        out: &mut Vec<u8>,
        mut ended: impl FnMut(&mut Vec<u8>),
    ) -> Result<(), ArrowError> {
        self.stretches(batch, |writer, rows| {
            for row in 0..rows {
                for (at, cells) in writer.cells.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(cells.get(row));
                }
                out.push(b'\n');
                ended(out);
            }
        })
    }

    /// Formats some rows at a time and has them written.
    fn stretches(
        &mut self,
        batch: &RecordBatch,
        mut write: impl FnMut(&Writer, usize),
    ) -> Result<(), ArrowError> {
        let columns =
            batch.columns().iter().map(Column::new::<Csv>).collect::<Result<Vec<_>, _>>()?;
        self.cells.resize_with(columns.len(), Cells::default);
        for start in (0..batch.num_rows()).step_by(ROWS) {
            let end = batch.num_rows().min(start + ROWS);
            for (column, cells) in columns.iter().zip(&mut self.cells) {
                column.format::<Csv>(start..end, cells);
            }
            write(self, end - start);
        }
        Ok(())
    }

    /// Appends the lines of formatted rows.
    fn put_together(&self, rows: usize, out: &mut Vec<u8>) {
        let Some((last, cells)) = self.cells.split_last() else {
            return out.extend(std::iter::repeat_n(b'\n', rows));
        };
        let texts: usize = self.cells.iter().map(Cells::bytes).sum();
        let mut at = out.len();
        let end = at + texts + rows * self.cells.len();
        out.resize(end + Cells::SPARE, 0);
        for row in 0..rows {
            for cells in cells {
                at = cells.copy(row, out, at);
                out[at] = b',';
                at += 1;
            }
            at = last.copy(row, out, at);
            out[at] = b'\n';
            at += 1;
        }
        assert_eq!(at, end, "lines are as long as their texts");
        out.truncate(end);
    }

    pub fn bytes_held(&self) -> usize {
        self.cells.iter().map(Cells::bytes_held).sum()
    }
}

pub(super) struct Csv;

impl Dialect for Csv {
    fn text(out: &mut Vec<u8>, text: &str) {
        let special = |&byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
        if !text.is_empty() && !text.as_bytes().iter().any(special) {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        out.push(b'"');
        for part in text.as_bytes().split_inclusive(|&byte| byte == b'"') {
            out.extend_from_slice(part);
            if part.last() == Some(&b'"') {
                out.push(b'"');
            }
        }
        out.push(b'"');
    }

    fn plain(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        write(out);
    }

    fn nested(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
        let mut text = Vec::new();
        json::Json::nested(&mut text, array, row);
        Csv::text(out, &String::from_utf8(text).expect("JSON is UTF-8"));
    }
}
