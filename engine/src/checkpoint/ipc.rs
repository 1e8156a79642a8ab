//! State files: plain Arrow IPC files that pyarrow or pandas open, compressed inside.
//!
//! String keys are written as plain strings, not as dictionaries: a file holds the partials of
//! several cores, and the IPC file format has one dictionary a column. The schema's metadata says
//! what the file is and in which format; columns of states have names that a reader understands.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
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

pub(super) fn write(heading: &Heading, partials: &[RecordBatch]) -> io::Result<Vec<u8>> {
    let options = IpcWriteOptions::default()
        .try_with_compression(heading.compression.codec())
        .map_err(io::Error::other)?;
    let plain = partials.iter().map(plain).collect::<Result<Vec<_>, _>>();
    let plain: Vec<RecordBatch> = plain.map_err(io::Error::other)?;
    let schema = schema(heading, plain.first());
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &schema, options).map_err(io::Error::other)?;
    for partial in plain {
        let rows = RecordBatchOptions::new().with_row_count(Some(partial.num_rows()));
        let columns = partial.columns().to_vec();
        let named = RecordBatch::try_new_with_options(schema.clone(), columns, &rows);
        named.and_then(|named| writer.write(&named)).map_err(io::Error::other)?;
    }
    writer.into_inner().map_err(io::Error::other)
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
    let damaged = |e: arrow::error::ArrowError| io::Error::new(io::ErrorKind::InvalidData, e);
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
