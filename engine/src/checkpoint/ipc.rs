//! State files: plain Arrow IPC files that pyarrow or pandas open, LZ4 inside.
//!
//! String keys are written as plain strings, not as dictionaries: a file holds the partials of
//! several cores, and the IPC file format has one dictionary a column.

use std::io::{self, Cursor};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

pub(super) fn write(partials: &[RecordBatch]) -> io::Result<Vec<u8>> {
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
        .map_err(io::Error::other)?;
    let plain: Vec<RecordBatch> = partials.iter().map(plain).collect();
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

/// The same rows with dictionary columns as the plain columns that they stand for.
pub(crate) fn plain(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<ArrayRef> = batch.columns().iter().map(plain_column).collect();
    let fields: Vec<Field> = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .expect("columns keep their length and have the types of their fields")
}

pub(crate) fn plain_column(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Dictionary(_, value) => {
            let values = column.as_any_dictionary().values();
            debug_assert_eq!(values.data_type(), value.as_ref());
            cast(column, value).expect("a dictionary casts to its values' type")
        }
        _ => column.clone(),
    }
}
