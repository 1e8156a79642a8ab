//! State files: plain Arrow IPC files that pyarrow or pandas open, compressed inside.
//!
//! String keys are written as plain strings, not as dictionaries: a file holds the partials of
//! several cores, and the IPC file format has one dictionary a column. The schema's metadata says
//! what the file is and in which format; columns of states have names that a reader understands.

use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

use super::files::Heading;
use super::manifest::FORMAT;
use crate::columns::plain;

/// How the buffers of a state file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
}

impl Compression {
    fn codec(self) -> Option<CompressionType> {
        match self {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        }
    }
}

/// Rows of a batch in a file: what is made of them on the way fits the cache and is used again for the
/// next ones.
const CHUNK_ROWS: usize = 32 << 10;

/// Writes partials and gives the file back.
pub(super) fn write<W: Write>(
    heading: &Heading,
    partials: &[RecordBatch],
    file: W,
) -> io::Result<W> {
    let options = IpcWriteOptions::default()
        .try_with_compression(heading.compression.codec())
        .map_err(cause)?;
    let first = partials.first().map(|partial| plain(&partial.slice(0, 0))).transpose();
    let schema = schema(heading, first.map_err(cause)?.as_ref());
    let mut writer = FileWriter::try_new_with_options(file, &schema, options).map_err(cause)?;
    for partial in partials {
        for from in (0..partial.num_rows()).step_by(CHUNK_ROWS) {
            let chunk = partial.slice(from, CHUNK_ROWS.min(partial.num_rows() - from));
            let rows = RecordBatchOptions::new().with_row_count(Some(chunk.num_rows()));
            let named = plain(&chunk).and_then(|chunk| {
                let columns = chunk.columns().to_vec();
                RecordBatch::try_new_with_options(schema.clone(), columns, &rows)
            });
            named.and_then(|named| writer.write(&named)).map_err(cause)?;
        }
    }
    writer.into_inner().map_err(cause)
}

/// The disk's own error, where that is what stopped the writer: a full disk is waited for.
fn cause(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    }
}

/// The columns of the first partial under the names of the heading.
fn schema(heading: &Heading, first: Option<&RecordBatch>) -> SchemaRef {
    let metadata = HashMap::from([
        ("pelton.format".to_owned(), FORMAT.to_string()),
        ("pelton.kind".to_owned(), heading.kind.word().to_owned()),
        ("pelton.epoch".to_owned(), heading.epoch.to_string()),
    ]);
    let none = Schema::empty();
    let found = first.map_or(&none, |batch| batch.schema_ref().as_ref());
    let (fields, names) = (found.fields(), heading.columns);
    assert!(first.is_none() || fields.len() == names.len(), "one name a column");
    let named = fields
        .iter()
        .zip(names)
        .map(|(field, name)| Field::new(name, field.data_type().clone(), field.is_nullable()));
    Arc::new(Schema::new_with_metadata(named.collect::<Vec<_>>(), metadata))
}

pub(super) fn read(bytes: Vec<u8>) -> io::Result<Vec<RecordBatch>> {
    let damaged = |e: ArrowError| io::Error::new(io::ErrorKind::InvalidData, e);
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(damaged)?;
    // Files of format 1 did not say so.
    let format =
        reader.schema().metadata().get("pelton.format").map_or(Ok(1), |f| f.parse::<u32>());
    if !format.as_ref().is_ok_and(|&format| format <= FORMAT) {
        let what = format!("it has format {format:?}, this version reads formats up to {FORMAT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    reader.map(|batch| batch.map_err(damaged)).collect()
}
