//! Comparisons: NaN equals itself and is greater than every number, -0.0 equals 0.0, as in Spark.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use std::sync::Arc;

use super::value::{Native, Operands, Value};
use crate::expr::CompareOp;

pub fn compare(op: CompareOp, left: Value, right: Value) -> Value {
    match left.array.data_type().clone() {
        DataType::Boolean => booleans(op, left, right),
        DataType::Int8 => ordered::<i8>(op, Operands::meet(left, right)),
        DataType::Int16 => ordered::<i16>(op, Operands::meet(left, right)),
        DataType::Int32 | DataType::Date32 => ordered::<i32>(op, Operands::meet(left, right)),
        DataType::Int64 | DataType::Timestamp(..) => {
            ordered::<i64>(op, Operands::meet(left, right))
        }
        DataType::Float32 => ordered::<f32>(op, Operands::meet(left, right)),
        DataType::Float64 => ordered::<f64>(op, Operands::meet(left, right)),
        DataType::Decimal128(..) => ordered::<i128>(op, Operands::meet(left, right)),
        other => unreachable!("no comparison of {other}: Expr::check refuses it"),
    }
}

fn ordered<T: Ordered>(op: CompareOp, operands: Operands) -> Value {
    match op {
        CompareOp::Equal => operands.test(T::equal),
        CompareOp::NotEqual => operands.test(|a, b| !T::equal(a, b)),
        CompareOp::Less => operands.test(T::less),
        CompareOp::LessOrEqual => operands.test(|a, b| !T::less(b, a)),
        CompareOp::Greater => operands.test(|a, b| T::less(b, a)),
        CompareOp::GreaterOrEqual => operands.test(|a, b| !T::less(a, b)),
    }
}

/// `false < true`, 64 rows at a time.
fn booleans(op: CompareOp, left: Value, right: Value) -> Value {
    let rows = if left.constant { right.array.len() } else { left.array.len() };
    let constant = left.constant && right.constant;
    let (left, right) = (left.expand(rows), right.expand(rows));
    let (a, b) =
        (left.array.as_boolean().values().clone(), right.array.as_boolean().values().clone());
    let Operands { nulls, errors, .. } = Operands::meet(left, right);
    let values = match op {
        CompareOp::Equal => !&(&a ^ &b),
        CompareOp::NotEqual => &a ^ &b,
        CompareOp::Less => &!&a & &b,
        CompareOp::LessOrEqual => &!&a | &b,
        CompareOp::Greater => &a & &!&b,
        CompareOp::GreaterOrEqual => &a | &!&b,
    };
    Value { array: Arc::new(BooleanArray::new(values, nulls)), constant, errors }
}

/// A total order in which values that SQL calls equal are equal.
trait Ordered: Native {
    fn equal(a: Self, b: Self) -> bool;
    fn less(a: Self, b: Self) -> bool;
}

macro_rules! ordered {
    ($($native:ty),*) => {$(
        impl Ordered for $native {
            #[inline(always)]
            fn equal(a: Self, b: Self) -> bool {
                a == b
            }

            #[inline(always)]
            fn less(a: Self, b: Self) -> bool {
                a < b
            }
        }
    )*};
}

ordered!(i8, i16, i32, i64, i128);

macro_rules! ordered_floats {
    ($($native:ty),*) => {$(
        impl Ordered for $native {
            #[inline(always)]
            fn equal(a: Self, b: Self) -> bool {
                (a == b) | (a.is_nan() & b.is_nan())
            }

            #[inline(always)]
            fn less(a: Self, b: Self) -> bool {
                (a < b) | (b.is_nan() & !a.is_nan())
            }
        }
    )*};
}

ordered_floats!(f32, f64);
