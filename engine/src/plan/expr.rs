//! Expressions as they run on the CPU: the kernels' typed tree where it can say it, DataFusion's
//! physical expression where it cannot.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_physical_expr::PhysicalExpr;
use pelton_kernels::expr::{Expr, ExprKind};

#[derive(Clone, Debug)]
pub enum Compiled {
    Kernel(Expr),
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

impl Compiled {
    pub fn data_type(&self) -> &DataType {
        match self {
            Compiled::Kernel(expr) => &expr.data_type,
            Compiled::DataFusion { data_type, .. } => data_type,
        }
    }

    /// The column that this is, where it is nothing else.
    pub fn column(&self) -> Option<usize> {
        match self {
            Compiled::Kernel(Expr { kind: ExprKind::Column(column), .. }) => Some(*column),
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
}
