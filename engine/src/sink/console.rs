//! The console: each epoch as Spark prints it, as a DStream does, or as one line of JSON.
//!
//! At-least-once: rows are printed ahead of the commit point, so a crash in between prints an epoch
//! again after the restart. Within one run an epoch is printed once, however often it is staged.
//! The output is whatever it is given; this file knows no standard output and no terminal.

use std::io::{self, ErrorKind, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use jiff::tz::TimeZone;

use super::{Committed, Decides, Outcome, Restored, Sink, Staged};
use crate::error::{Error, Result};
use crate::format::{csv, json, show};
use crate::job::spec::ConsoleStyle;

pub struct Console {
    out: Box<dyn Write + Send>,
    schema: SchemaRef,
    rows: Rows,
    now_ms: fn() -> u64,
    interval_ms: u64,
    /// The newest epoch that was printed.
    printed: Option<u64>,
}

enum Rows {
    Spark(show::Table),
    Dstream(show::Table),
    Both { writer: csv::Writer, kept: Vec<usize>, original: Vec<u8>, processed: Vec<u8> },
    Json { writer: json::Writer, objects: Vec<u8> },
}

/// How the console prints (JOB.md, sinks).
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    pub style: ConsoleStyle,
    pub num_rows: usize,
    /// Longest text of a cell; `None`: as it is, and left-aligned.
    pub truncate: Option<usize>,
    /// The zone in which the Spark style prints timestamps.
    pub zone: TimeZone,
    /// Milliseconds since 1970, for the heads of the DStream style: this crate reads no clock.
    pub now_ms: fn() -> u64,
    /// Those heads name the beginning of an interval of this length.
    pub interval_ms: u64,
    /// Columns that the steps of the job leave, for the style that shows rows before and after.
    pub kept: Vec<usize>,
}

impl Console {
    /// `schema`: of the rows that will be staged; an epoch without rows prints its header.
    pub fn new(out: Box<dyn Write + Send>, schema: SchemaRef, options: ConsoleOptions) -> Console {
        let ConsoleOptions { num_rows, truncate, zone, now_ms, interval_ms, .. } = options;
        let table = show::Table::new(num_rows, truncate, zone);
        let rows = match options.style {
            ConsoleStyle::Spark => Rows::Spark(table),
            ConsoleStyle::Dstream => Rows::Dstream(table),
            ConsoleStyle::OriginalProcessed => Rows::Both {
                writer: csv::Writer::default(),
                kept: options.kept,
                original: Vec::new(),
                processed: Vec::new(),
            },
            ConsoleStyle::Json => {
                Rows::Json { writer: json::Writer::default(), objects: Vec::new() }
            }
        };
        Console { out, schema, rows, now_ms, interval_ms, printed: None }
    }

    fn print(&mut self, epoch: u64) -> io::Result<()> {
        match &self.rows {
            Rows::Spark(table) => {
                let line = "-".repeat(43);
                let mut text = format!("{line}\nBatch: {epoch}\n{line}\n");
                table.print(&self.schema, &mut text);
                self.out.write_all(text.as_bytes())?;
            }
            Rows::Dstream(table) => {
                let line = "-".repeat(43);
                let now = (self.now_ms)();
                let time = now - now % self.interval_ms.max(1);
                let mut text = format!("{line}\nTime: {time} ms\n{line}\n");
                table.print_tuples(&mut text);
                self.out.write_all(text.as_bytes())?;
            }
            Rows::Both { original, processed, .. } => {
                self.out.write_all(b"---- Original Data ----\n")?;
                self.out.write_all(original)?;
                self.out.write_all(b"---- Processed Data ----\n")?;
                self.out.write_all(processed)?;
            }
            Rows::Json { objects, .. } => {
                let rows = objects.strip_suffix(SEPARATOR).unwrap_or(objects);
                write!(self.out, "{{\"batch\": {epoch}, \"rows\": [")?;
                self.out.write_all(rows)?;
                self.out.write_all(b"]}\n")?;
            }
        }
        self.out.flush()
    }
}

const SEPARATOR: &[u8] = b", ";

impl Sink for Console {
    fn marker(&mut self) -> Result<Decides> {
        Ok(Decides::Manifest)
    }

    fn open(&mut self, _restored: Option<&Restored>) -> Result<Option<Committed>> {
        Ok(None)
    }

    fn stage(&mut self, _epoch: u64, rows: &RecordBatch) -> Result<()> {
        let staged = match &mut self.rows {
            Rows::Spark(table) | Rows::Dstream(table) => table.push(rows),
            Rows::Both { writer, kept, original, processed } => {
                writer.rows(rows, original).and_then(|()| {
                    let left = rows.project(kept)?;
                    writer.rows(&left, processed)
                })
            }
            Rows::Json { writer, objects } => writer.rows(rows, SEPARATOR, objects),
        };
        staged.map_err(|error: ArrowError| {
            Error::failed(format!("cannot print the rows on the console: {error}"))
        })
    }

    fn seal(&mut self, epoch: u64) -> Result<Staged> {
        if self.printed < Some(epoch) {
            self.print(epoch).map_err(|source| match source.kind() {
                ErrorKind::BrokenPipe => Error::OutputClosed,
                _ => Error::StateIo { what: "cannot write to the console".to_owned(), source },
            })?;
            self.printed = Some(epoch);
        }
        self.discard()?;
        Ok(Staged::default())
    }

    fn discard(&mut self) -> Result<()> {
        match &mut self.rows {
            Rows::Spark(table) | Rows::Dstream(table) => table.clear(),
            Rows::Both { original, processed, .. } => {
                original.clear();
                processed.clear();
            }
            Rows::Json { objects, .. } => objects.clear(),
        }
        Ok(())
    }

    fn commit(&mut self, _checkpoint: &Committed) -> Result<Outcome> {
        Ok(Outcome::Committed)
    }

    fn bytes_held(&self) -> usize {
        match &self.rows {
            Rows::Spark(table) | Rows::Dstream(table) => table.bytes_held(),
            Rows::Both { writer, original, processed, .. } => {
                writer.bytes_held() + original.capacity() + processed.capacity()
            }
            Rows::Json { writer, objects } => writer.bytes_held() + objects.capacity(),
        }
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
