//! Expressions as they run on the CPU: the kernels' typed tree where it can say it, DataFusion's
//! physical expression where it cannot.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_physical_expr::PhysicalExpr;

#[derive(Clone, Debug)]
pub enum Compiled {
    Kernel(pelton_kernels::expr::Expr),
    /// Over a batch whose columns are those of the input with these indices, in this order.
    DataFusion {
        expr: Arc<dyn PhysicalExpr>,
        inputs: Vec<usize>,
        data_type: DataType,
    },
}

/// The value of an expression for every row asked for, and the rows at which it stopped.
pub struct Evaluated {
    pub values: ArrayRef,
    /// Ordered by row; `values` holds NULL there.
    pub errors: Vec<(u32, String)>,
}
