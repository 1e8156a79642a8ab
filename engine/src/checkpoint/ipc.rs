//! State files: plain Arrow IPC files that pyarrow or pandas open, LZ4 inside.
//!
//! String keys are written as plain strings, not as dictionaries: a file holds the partials of
//! several cores, and the IPC file format has one dictionary a column.

use std::io::{self, Cursor};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

use crate::columns::plain;

pub(super) fn write(partials: &[RecordBatch]) -> io::Result<Vec<u8>> {
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
        .map_err(io::Error::other)?;
    let plain = partials.iter().map(plain).collect::<Result<Vec<_>, _>>();
    let plain: Vec<RecordBatch> = plain.map_err(io::Error::other)?;
    let schema = plain.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &schema, options).map_err(io::Error::other)?;
    for partial in &plain {
        writer.write(partial).map_err(io::Error::other)?;
    }
    writer.into_inner().map_err(io::Error::other)
}

pub(super) fn read(bytes: Vec<u8>) -> io::Result<Vec<RecordBatch>> {
    let damaged = |e: arrow::error::ArrowError| io::Error::new(io::ErrorKind::InvalidData, e);
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(damaged)?;
    reader.map(|batch| batch.map_err(damaged)).collect()
}
