//! Rows as the bytes of one file, hashed on their way.

use std::error::Error as StdError;
use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::columns::plain;
use crate::format::{csv, json};
use crate::job::spec::FileFormat;
use crate::storage::{Hashed, StagedFile};

/// Bytes are handed to the file in pieces of about this size.
const BUFFER: usize = 1 << 20;
/// Rows that are turned into text at a time, so that the buffer stays near its size.
const ROWS: usize = 16 * 1024;
/// A Parquet row group ends when its columns hold this much.
const ROW_GROUP: usize = 32 << 20;

/// The writer of one file; its header, if any, comes with the first rows.
///
/// The formats write to memory and only [`Hashed`] does I/O, so no library stands between an
/// error of the disk and the caller.
pub struct Encoder {
    rows: u64,
    form: Form,
    file: Hashed<Box<dyn StagedFile>>,
}

/// Binary formats are begun when the schema is known.
enum Form {
    Csv { header: bool, writer: csv::Writer, text: Vec<u8> },
    Json { writer: json::Writer, text: Vec<u8> },
    Parquet(Option<Box<ArrowWriter<Vec<u8>>>>),
    Arrow(Option<Box<FileWriter<Vec<u8>>>>),
}

/// What [`Encoder::finish`] has written; not yet synced.
pub struct Written {
    pub file: Box<dyn StagedFile>,
    pub rows: u64,
    pub length: u64,
    pub hash: u128,
}

/// Why rows were not written.
pub enum EncodeError {
    File(io::Error),
    /// The format cannot hold the rows.
    Rows(Box<dyn StdError + Send + Sync>),
}

impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        EncodeError::File(error)
    }
}

impl From<ArrowError> for EncodeError {
    fn from(error: ArrowError) -> Self {
        EncodeError::Rows(Box::new(error))
    }
}

impl From<ParquetError> for EncodeError {
    fn from(error: ParquetError) -> Self {
        EncodeError::Rows(Box::new(error))
    }
}

impl Encoder {
    pub fn new(format: FileFormat, file: Box<dyn StagedFile>) -> Encoder {
        let text = Vec::new();
        let form = match format {
            FileFormat::Csv { header } => {
                Form::Csv { header, writer: csv::Writer::default(), text }
            }
            FileFormat::Json => Form::Json { writer: json::Writer::default(), text },
            FileFormat::Parquet => Form::Parquet(None),
            FileFormat::Arrow => Form::Arrow(None),
        };
        Encoder { rows: 0, form, file: Hashed::new(file) }
    }

    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError> {
        let first = self.rows == 0;
        self.rows += rows.num_rows() as u64;
        match &mut self.form {
            Form::Csv { header, writer, text } => {
                if *header && first {
                    writer.header(rows.schema_ref(), text);
                }
                for some in stretches(rows) {
                    writer.rows(&some, text)?;
                    take(&mut self.file, text, BUFFER)?;
                }
            }
            Form::Json { writer, text } => {
                for some in stretches(rows) {
                    writer.rows(&some, b"\n", text)?;
                    take(&mut self.file, text, BUFFER)?;
                }
            }
            Form::Parquet(writer) => {
                let rows = plain(rows)?;
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        let properties = WriterProperties::builder()
                            .set_compression(Compression::SNAPPY)
                            .build();
                        let new =
                            ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
                        writer.insert(Box::new(new))
                    }
                };
                writer.write(&rows)?;
                if writer.in_progress_size() > ROW_GROUP {
                    writer.flush()?;
                    take(&mut self.file, writer.inner_mut(), 1)?;
                }
            }
            Form::Arrow(writer) => {
                let rows = plain(rows)?;
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        let new = FileWriter::try_new(Vec::new(), rows.schema_ref())?;
                        writer.insert(Box::new(new))
                    }
                };
                writer.write(&rows)?;
                take(&mut self.file, writer.get_mut(), BUFFER)?;
            }
        }
        Ok(())
    }

    /// Bytes of rows that no file holds yet.
    pub fn bytes_held(&self) -> usize {
        match &self.form {
            Form::Csv { writer, text, .. } => writer.bytes_held() + text.capacity(),
            Form::Json { writer, text } => writer.bytes_held() + text.capacity(),
            Form::Parquet(Some(writer)) => writer.memory_size() + writer.inner().capacity(),
            Form::Arrow(Some(writer)) => writer.get_ref().capacity(),
            Form::Parquet(None) | Form::Arrow(None) => 0,
        }
    }

    pub fn finish(self) -> Result<Written, EncodeError> {
        let mut rest = match self.form {
            Form::Csv { text, .. } | Form::Json { text, .. } => text,
            Form::Parquet(Some(writer)) => writer.into_inner()?,
            Form::Arrow(Some(writer)) => writer.into_inner()?,
            Form::Parquet(None) | Form::Arrow(None) => Vec::new(),
        };
        let mut file = self.file;
        take(&mut file, &mut rest, 1)?;
        let (file, length, hash) = file.into_parts();
        Ok(Written { file, rows: self.rows, length, hash })
    }
}

fn stretches(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let starts = (0..rows.num_rows()).step_by(ROWS);
    starts.map(|start| rows.slice(start, ROWS.min(rows.num_rows() - start)))
}

/// Writes and empties a buffer that holds at least so many bytes.
fn take(file: &mut impl Write, buffer: &mut Vec<u8>, least: usize) -> io::Result<()> {
    if buffer.len() >= least {
        file.write_all(buffer)?;
        buffer.clear();
    }
    Ok(())
}
