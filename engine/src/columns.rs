//! Dictionary columns as the plain columns that they stand for.
//!
//! Within the engine text keys are dictionaries; files, outputs and expressions over finished groups
//! take plain columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

/// The same values without a dictionary.
///
/// Errors: the text is longer than a plain column's offsets can say (2 GiB).
pub fn plain_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, value) => cast(column, value),
        _ => Ok(Arc::clone(column)),
    }
}

/// The same rows without dictionaries. Errors: as [`plain_column`].
pub fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(plain_column).collect::<Result<Vec<_>, _>>()?;
    let fields = batch.schema_ref().fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}
