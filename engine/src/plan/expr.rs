//! Expressions as they run on the CPU: the kernels' typed tree where it can say it, DataFusion's
//! physical expression where it cannot.
//!
//! Invariant: a row's value and its error depend on the row alone, not on the batch that it is in.
//! DataFusion stops a whole batch at the first error, so a batch that fails is asked again in halves
//! until the rows at fault stand alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use pelton_kernels::cpu::project;
use pelton_kernels::expr::{Expr, ExprKind};

use super::diagnose::diagnose;

#[derive(Clone, Debug)]
pub enum Compiled {
    Kernel(Expr),
    /// Over a batch whose columns are those of the input with these indices, in this order.
    DataFusion {
        expr: Arc<dyn PhysicalExpr>,
        inputs: Vec<usize>,
        /// The columns of `inputs`.
        schema: SchemaRef,
        data_type: DataType,
        /// As a user reads it.
        text: String,
    },
}

/// The value of an expression for every row, and the rows at which it stopped.
pub struct Evaluated {
    /// As long as the batch; where a row was not asked for, its value has no meaning.
    pub values: ArrayRef,
    /// Ordered by row, only rows asked for; `values` holds NULL there.
    pub errors: Vec<(u32, String)>,
}

impl Compiled {
    pub fn data_type(&self) -> &DataType {
        match self {
            Compiled::Kernel(expr) => &expr.data_type,
            Compiled::DataFusion { data_type, .. } => data_type,
        }
    }

    /// The column that this is and nothing else: it costs nothing.
    pub fn column(&self) -> Option<usize> {
        match self {
            Compiled::Kernel(Expr { kind: ExprKind::Column(index), .. }) => Some(*index),
            _ => None,
        }
    }

    /// The columns that are read, some perhaps more than once.
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Compiled::Kernel(expr) => expr.columns(),
            Compiled::DataFusion { inputs, .. } => inputs.clone(),
        }
    }

    /// Why a kernel stopped at a row, in the words that a user needs to find it.
    pub fn reason(&self, columns: &[ArrayRef], row: usize) -> String {
        match self {
            Compiled::Kernel(expr) => diagnose(expr, columns, row),
            Compiled::DataFusion { text, .. } => text.clone(),
        }
    }

    /// The values for all `rows`, or for those in `only` (ascending).
    ///
    /// Shapes: every column holds `rows` values, and so does the result.
    /// Cost: a kernel computes every row; DataFusion only those asked for.
    pub fn evaluate(&self, columns: &[ArrayRef], rows: usize, only: Option<&[u32]>) -> Evaluated {
        match self {
            Compiled::Kernel(Expr { kind: ExprKind::Column(index), .. }) => {
                Evaluated { values: Arc::clone(&columns[*index]), errors: Vec::new() }
            }
            Compiled::Kernel(expr) => kernel(expr, columns, rows, only),
            Compiled::DataFusion { expr, inputs, schema, data_type, .. } => {
                let physical = Physical { expr: expr.as_ref(), schema, data_type };
                let inputs = inputs.iter().map(|input| Arc::clone(&columns[*input])).collect();
                physical.evaluate(inputs, rows, only)
            }
        }
    }
}

fn kernel(expr: &Expr, columns: &[ArrayRef], rows: usize, only: Option<&[u32]>) -> Evaluated {
    let project::Evaluated { values, errors } = project::evaluate(expr, columns, rows);
    let Some(bits) = errors else { return Evaluated { values, errors: Vec::new() } };
    let failed: Vec<u32> = match only {
        None => bits.set_indices_u32().collect(),
        Some(only) => only.iter().copied().filter(|row| bits.value(*row as usize)).collect(),
    };
    let errors = failed.into_iter().map(|row| (row, diagnose(expr, columns, row as usize)));
    Evaluated { values, errors: errors.collect() }
}

struct Physical<'a> {
    expr: &'a dyn PhysicalExpr,
    schema: &'a SchemaRef,
    data_type: &'a DataType,
}

impl Physical<'_> {
    fn evaluate(&self, inputs: Vec<ArrayRef>, rows: usize, only: Option<&[u32]>) -> Evaluated {
        let only = match only {
            Some(only) if only.len() < rows => only,
            _ => {
                let (values, errors) = self.halves(&self.batch(inputs, rows), 0);
                return Evaluated { values, errors };
            }
        };
        let asked = UInt32Array::from(only.to_vec());
        let chosen = inputs.iter().map(|column| {
            take(column, &asked, None).expect("rows asked for are rows of the batch")
        });
        let batch = self.batch(chosen.collect(), only.len());
        let (values, mut errors) = self.halves(&batch, 0);
        for (row, _) in &mut errors {
            *row = only[*row as usize];
        }
        Evaluated { values: scatter(&values, only, rows), errors }
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
        // A dictionary is what it stands for.
        let fields = self.schema.fields().iter();
        let columns = columns.into_iter().zip(fields).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return column;
            }
            cast(&column, field.data_type()).expect("the planner knows each column's type")
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(self.schema), columns.collect(), &options)
            .expect("columns are those that the planner named")
    }

    /// Values and errors of a batch whose first row has the number `first`.
    fn halves(&self, batch: &RecordBatch, first: u32) -> (ArrayRef, Vec<(u32, String)>) {
        let rows = batch.num_rows();
        match self.whole(batch) {
            Ok(values) => (values, Vec::new()),
            Err(error) if rows <= 1 => {
                (new_null_array(self.data_type, rows), vec![(first, reason(&error))])
            }
            Err(_) => {
                let half = rows / 2;
                let (left, mut errors) = self.halves(&batch.slice(0, half), first);
                let rest = batch.slice(half, rows - half);
                let (right, more) = self.halves(&rest, first + half as u32);
                errors.extend(more);
                let values = concat(&[&left, &right]).expect("halves have one type");
                (values, errors)
            }
        }
    }

    fn whole(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        if batch.num_rows() == 0 {
            return Ok(new_null_array(self.data_type, 0));
        }
        let values = self.expr.evaluate(batch)?.into_array(batch.num_rows())?;
        if values.data_type() == self.data_type {
            return Ok(values);
        }
        Ok(cast(&values, self.data_type)?)
    }
}

/// Values of the rows in `only`, each at its place among `rows`; NULL elsewhere.
fn scatter(values: &ArrayRef, only: &[u32], rows: usize) -> ArrayRef {
    let mut places: Vec<Option<u32>> = vec![None; rows];
    for (value, row) in only.iter().enumerate() {
        places[*row as usize] = Some(value as u32);
    }
    take(values, &UInt32Array::from(places), None).expect("places are within the values")
}

/// The error's own words, without the wrapping of the layers that it came through.
fn reason(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::Execution(text) => text.clone(),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            arrow::error::ArrowError::ComputeError(text)
            | arrow::error::ArrowError::CastError(text)
            | arrow::error::ArrowError::ArithmeticOverflow(text)
            | arrow::error::ArrowError::InvalidArgumentError(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.strip_backtrace(),
    }
}
