//! Arithmetic with Spark's result types: a carrier through the binder for what kernels compute.
//!
//! DataFusion's own operators wrap on overflow and give decimals other types, so none is used.

use std::hash::{Hash, Hasher};

use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use pelton_kernels::expr::{ArithmeticOp, Expr as Kernel, ExprKind};

use crate::plan::expr::Compiled;

/// `left op right`, of type `to`; the operands have the types that the kernel takes.
pub fn arithmetic(op: ArithmeticOp, left: Expr, right: Expr, to: DataType) -> Expr {
    let signature = Signature::any(2, Volatility::Immutable);
    let udf = ScalarUDF::new_from_impl(Arithmetic { op, to, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(udf.into(), vec![left, right]))
}

/// Operator and result of an expression made by [`arithmetic`].
pub fn parts(expr: &Expr) -> Option<(ArithmeticOp, &Expr, &Expr, &DataType)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let own = call.func.inner().as_ref() as &dyn std::any::Any;
    let own = own.downcast_ref::<Arithmetic>()?;
    Some((own.op, &call.args[0], &call.args[1], &own.to))
}

pub fn symbol(op: ArithmeticOp, to: &DataType) -> &'static str {
    match op {
        ArithmeticOp::Add => "+",
        ArithmeticOp::Subtract => "-",
        ArithmeticOp::Multiply => "*",
        ArithmeticOp::Divide if crate::plan::types::is_integer(to) => "div",
        ArithmeticOp::Divide => "/",
        ArithmeticOp::Remainder => "%",
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Arithmetic {
    op: ArithmeticOp,
    to: DataType,
    signature: Signature,
}

impl Hash for Arithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.op as u8).hash(state);
        self.to.hash(state);
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        symbol(self.op, &self.to)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let side = |index: usize| {
            let data_type = arrays[index].data_type().clone();
            Box::new(Kernel { kind: ExprKind::Column(index), data_type })
        };
        let kind = ExprKind::Arithmetic(self.op, side(0), side(1));
        let kernel = Compiled::Kernel(Kernel { kind, data_type: self.to.clone() });
        let evaluated = kernel.evaluate(&arrays, rows, None);
        match evaluated.errors.into_iter().next() {
            None => Ok(ColumnarValue::Array(evaluated.values)),
            Some((_, reason)) => Err(exec_datafusion_err!("{reason}")),
        }
    }
}
