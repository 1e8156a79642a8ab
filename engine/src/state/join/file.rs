//! The state of a join as state files hold it: rows of both sides, whole ones and mere matches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, UInt8Array, UInt64Array, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt64Type};
use arrow::error::ArrowError;

use super::bag::Held;
use super::{JoinStore, internal, kept};
use crate::error::{Error, Result};
use crate::plan::stream_join::StreamJoin;

impl JoinStore {
    /// The whole state: what a base is written from.
    pub fn partials(&self) -> Result<Vec<RecordBatch>> {
        let rows = |side: usize| self.sides[side].rows.keys().copied().collect::<Vec<_>>();
        let sides = [0, 1].into_iter().filter(|&side| !self.sides[side].rows.is_empty());
        sides.map(|side| self.file_rows(side, &rows(side), true)).collect()
    }

    /// Rows of a side as files hold them; `whole`: with their columns, and not only the match.
    pub(super) fn file_rows(
        &self,
        side: usize,
        numbers: &[u64],
        whole: bool,
    ) -> Result<RecordBatch> {
        let bag = &self.sides[side];
        let count = numbers.len();
        let matched: Vec<bool> = numbers.iter().map(|number| bag.rows[number].matched).collect();
        let rows = match whole {
            true => self.alone(side, bag.columns(numbers)?)?.columns().to_vec(),
            false => {
                let fields = self.join.schema.fields().iter();
                fields.map(|field| new_null_array(field.data_type(), count)).collect()
            }
        };
        let head: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(vec![side as u8; count])),
            Arc::new(UInt64Array::from(numbers.to_vec())),
            Arc::new(BooleanArray::from(vec![whole; count])),
            Arc::new(BooleanArray::from(matched)),
        ];
        RecordBatch::try_new(file_schema(&self.join), [head, rows].concat()).map_err(internal)
    }

    /// Takes back a batch of a state file.
    ///
    /// Errors: `Failed` where it has another form.
    pub fn merge_file(&mut self, partial: &RecordBatch) -> Result<()> {
        let form = |error: ArrowError| {
            Error::failed(format!("a state file of a join has another form: {error}"))
        };
        let schema = file_schema(&self.join);
        if partial.num_columns() != schema.fields().len() {
            return Err(form(ArrowError::SchemaError("its columns are others".into())));
        }
        let fields = schema.fields().iter().zip(partial.columns());
        let columns = fields.map(|(field, column)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(form)?;
        let partial = RecordBatch::try_new(schema, columns).map_err(form)?;
        let side_of = partial.column(0).as_primitive::<UInt8Type>().clone();
        for side in [0u8, 1] {
            let mask: BooleanArray = side_of.iter().map(|of| Some(of == Some(side))).collect();
            let own = kept(&partial, &mask)?;
            if own.num_rows() > 0 {
                self.merge_side(usize::from(side), &own)?;
            }
        }
        Ok(())
    }

    fn merge_side(&mut self, side: usize, rows: &RecordBatch) -> Result<()> {
        let numbers = rows.column(1).as_primitive::<UInt64Type>();
        let (whole, matched) = (rows.column(2).as_boolean(), rows.column(3).as_boolean());
        let from = HEAD + if side == 0 { 0 } else { self.join.sides[0].schema.fields().len() };
        let width = self.join.sides[side].schema.fields().len();
        let columns = rows.columns()[from..from + width].to_vec();
        let schema = Arc::clone(&self.join.sides[side].schema);
        let payload = RecordBatch::try_new(schema, columns).map_err(internal)?;
        let coming = self.coming(side, &payload)?;
        for row in 0..rows.num_rows() {
            let number = numbers.value(row);
            if !whole.value(row) {
                if let Some(held) = self.sides[side].rows.get_mut(&number) {
                    held.matched |= matched.value(row);
                }
                continue;
            }
            let held = Held {
                row: coming.encoded.row(row).as_ref().into(),
                key: coming.keys[row].clone(),
                time: coming.times[row],
                matched: matched.value(row),
            };
            self.sides[side].insert(number, held);
            self.next = self.next.max(number + 1);
        }
        Ok(())
    }
}

/// Columns of a state file before those of the rows.
const HEAD: usize = 4;

/// A state file of a join: side, number, whether the row is whole, whether it met one, its columns.
fn file_schema(join: &StreamJoin) -> SchemaRef {
    let head = [
        Field::new("side", DataType::UInt8, false),
        Field::new("row", DataType::UInt64, false),
        Field::new("whole", DataType::Boolean, false),
        Field::new("matched", DataType::Boolean, false),
    ];
    let rows = join.schema.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(head.into_iter().chain(rows).collect::<Vec<_>>()))
}

/// Names of the columns of a join's state files.
pub fn file_columns(join: &StreamJoin) -> Vec<String> {
    file_schema(join).fields().iter().map(|field| field.name().clone()).collect()
}
