//! Why an expression stopped at a row: kernels set a bit, this finds the operation and its values.

use arrow::array::{Array, ArrayRef};
use arrow::util::display::array_value_to_string;
use pelton_kernels::cpu::project;
use pelton_kernels::expr::{ArithmeticOp, Expr, ExprKind};
use pelton_kernels::oracle;

use super::functions::arithmetic::symbol;
use super::types::sql_name;

/// The reason for an error of `expr` at one row, in the words that a user needs to find it.
pub fn diagnose(expr: &Expr, columns: &[ArrayRef], row: usize) -> String {
    let columns: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
    let failed = oracle::evaluate(expr, &columns, 0).err().unwrap_or(expr);
    let operands: Vec<String> = failed.operands().map(|e| shown(e, &columns)).collect();
    match (&failed.kind, operands.as_slice()) {
        (ExprKind::Arithmetic(op, _, right), [left, right_shown]) => {
            let divides = matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder);
            let symbol = symbol(*op, &failed.data_type);
            if divides && is_zero(right, &columns) {
                format!("division by zero: {left} {symbol} {right_shown}")
            } else {
                let to = sql_name(&failed.data_type);
                format!("overflow: {left} {symbol} {right_shown} is no {to}")
            }
        }
        (ExprKind::Negate(_), [value]) => {
            format!("overflow: -({value}) is no {}", sql_name(&failed.data_type))
        }
        (ExprKind::AddMonths(..), [time, months]) => {
            format!("overflow: {time} + {months} months is no {}", sql_name(&failed.data_type))
        }
        (ExprKind::Cast(_), [value]) => {
            format!("{value} cannot be cast to {}", sql_name(&failed.data_type))
        }
        _ => format!("out of range for {}", sql_name(&failed.data_type)),
    }
}

fn shown(expr: &Expr, columns: &[ArrayRef]) -> String {
    let values = project::evaluate(expr, columns, 1).values;
    if values.is_null(0) {
        return "NULL".into();
    }
    array_value_to_string(&values, 0).unwrap_or_else(|_| "?".into())
}

fn is_zero(expr: &Expr, columns: &[ArrayRef]) -> bool {
    shown(expr, columns).trim_start_matches('-').trim_matches(['0', '.']).is_empty()
}
