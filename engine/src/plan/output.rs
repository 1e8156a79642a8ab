//! What becomes of finished groups, or of rows, before they leave: HAVING, SELECT, ORDER BY, LIMIT.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{SortColumn, SortOptions, filter_record_batch, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema};

use super::Output;
use super::expr::Compiled;
use crate::columns::plain_column;
use crate::error::{Error, Result};

impl Output {
    /// Rows as they leave; without ORDER BY in the order given.
    ///
    /// `rows` holds the groups' keys and then their values, or the columns of `Shape::Rows`. LIMIT is
    /// of this call alone: in append mode the caller counts over epochs.
    /// Errors: an expression over finished groups that stops (`sum(a) / sum(b)`) stops the job.
    pub fn run(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let mut rows = rows;
        if let Some(having) = &self.having {
            let mask = evaluate(having, &rows)?;
            rows = filter(&rows, mask.as_boolean())?;
        }
        let mut columns = self.evaluate_all(&self.columns, &rows)?;
        let mut length = rows.num_rows();
        if let Some(limit) = self.limit
            && self.order_by.is_empty()
        {
            length = length.min(limit);
            columns = columns.iter().map(|column| column.slice(0, length)).collect();
        } else if !self.order_by.is_empty() {
            let hidden = self.evaluate_all(&self.hidden, &rows)?;
            let order = self.order(&columns, &hidden)?;
            length = order.len();
            columns = columns
                .iter()
                .map(|column| take(column, &order, None).map_err(internal))
                .collect::<Result<_>>()?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(internal)
    }

    /// Of finished groups those that HAVING keeps: what is filtered early need not be held. Keys come
    /// back plain, as a dictionary would hold those of all.
    ///
    /// Errors: as [`Output::run`].
    pub fn having(&self, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let plain = columns.iter().map(plain_column).collect::<Result<_, _>>();
        let columns: Vec<ArrayRef> = plain.map_err(internal)?;
        let Some(having) = &self.having else { return Ok(columns) };
        let field = |(at, column): (usize, &ArrayRef)| {
            Field::new(at.to_string(), column.data_type().clone(), true)
        };
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        let rows = RecordBatch::try_new(Arc::new(schema), columns).map_err(internal)?;
        let mask = evaluate(having, &rows)?;
        Ok(filter(&rows, mask.as_boolean())?.columns().to_vec())
    }

    /// Whether all rows are needed before the first may leave. `counts`: LIMIT is of the whole stream.
    pub fn is_of_all(&self, counts: bool) -> bool {
        !self.order_by.is_empty() || self.limit.is_some() && !counts
    }

    fn evaluate_all(&self, exprs: &[Compiled], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        exprs.iter().map(|expr| evaluate(expr, rows)).collect()
    }

    fn order(
        &self,
        columns: &[ArrayRef],
        hidden: &[ArrayRef],
    ) -> Result<arrow::array::UInt32Array> {
        let all: Vec<&ArrayRef> = columns.iter().chain(hidden).collect();
        let keys = self.order_by.iter().map(|order| SortColumn {
            values: sortable(all[order.column]),
            options: Some(SortOptions {
                descending: order.descending,
                nulls_first: order.nulls_first,
            }),
        });
        lexsort_to_indices(&keys.collect::<Vec<_>>(), self.limit).map_err(internal)
    }
}

/// Arrow orders -0.0 before 0.0; SQL calls them equal.
fn sortable(column: &ArrayRef) -> ArrayRef {
    use arrow::datatypes::{Float32Type, Float64Type};
    match column.data_type() {
        DataType::Float64 => {
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0))
        }
        DataType::Float32 => {
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0))
        }
        _ => Arc::clone(column),
    }
}

fn evaluate(expr: &Compiled, rows: &RecordBatch) -> Result<ArrayRef> {
    let evaluated = expr.evaluate(rows.columns(), rows.num_rows(), None);
    if let Some((_, reason)) = evaluated.errors.into_iter().next() {
        return Err(Error::failed(format!("an expression over finished groups stopped: {reason}")));
    }
    // Keys come as dictionaries; what leaves is plain.
    plain_column(&evaluated.values).map_err(internal)
}

/// The rows for which the condition is true; NULL is not.
fn filter(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    if mask.true_count() == mask.len() {
        return Ok(rows.clone());
    }
    filter_record_batch(rows, mask).map_err(internal)
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::failed(format!("the output's columns do not fit its schema: {error}"))
}
