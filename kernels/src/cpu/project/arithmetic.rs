//! Arithmetic: checked for integers and decimals, IEEE 754 for floats.
//!
//! Division by zero is an error for every type, floats included, as in Spark's ANSI mode. A NaN that
//! an operation makes is the one NaN 0x7ff8…: which NaN a machine makes is not the same everywhere.

use arrow::datatypes::DataType;

use super::decimal;
use super::value::{Native, Operands, Value};
use crate::expr::ArithmeticOp;

pub fn arithmetic(op: ArithmeticOp, left: Value, right: Value, to: &DataType) -> Value {
    if let (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) =
        (left.array.data_type().clone(), right.array.data_type().clone())
    {
        return decimal::arithmetic(op, Operands::meet(left, right), (p, s), (q, t), to);
    }
    let operands = Operands::meet(left, right);
    match to {
        DataType::Int8 => integers::<i8>(op, operands, to),
        DataType::Int16 => integers::<i16>(op, operands, to),
        DataType::Int32 | DataType::Date32 => integers::<i32>(op, operands, to),
        DataType::Int64 | DataType::Timestamp(..) => integers::<i64>(op, operands, to),
        DataType::Float32 => floats::<f32>(op, operands, to),
        DataType::Float64 => floats::<f64>(op, operands, to),
        other => unreachable!("no arithmetic gives {other}: Expr::check refuses it"),
    }
}

pub fn negate(value: Value) -> Value {
    let to = value.array.data_type().clone();
    match to {
        DataType::Int8 => value.convert(&to, i8::overflowing_neg),
        DataType::Int16 => value.convert(&to, i16::overflowing_neg),
        DataType::Int32 => value.convert(&to, i32::overflowing_neg),
        DataType::Int64 => value.convert(&to, i64::overflowing_neg),
        DataType::Float32 => value.convert(&to, |v: f32| ((-v).canonical(), false)),
        DataType::Float64 => value.convert(&to, |v: f64| ((-v).canonical(), false)),
        DataType::Decimal128(..) => value.convert(&to, i128::overflowing_neg),
        other => unreachable!("no negation of {other}: Expr::check refuses it"),
    }
}

fn integers<T: Integer>(op: ArithmeticOp, operands: Operands, to: &DataType) -> Value {
    match op {
        ArithmeticOp::Add => operands.compute(to, T::add),
        ArithmeticOp::Subtract => operands.compute(to, T::subtract),
        ArithmeticOp::Multiply => operands.compute(to, T::multiply),
        ArithmeticOp::Divide => operands.compute(to, T::divide),
        ArithmeticOp::Remainder => operands.compute(to, T::remainder),
    }
}

fn floats<T: Float>(op: ArithmeticOp, operands: Operands, to: &DataType) -> Value {
    let zero = T::default();
    match op {
        ArithmeticOp::Add => operands.compute(to, |a: T, b| ((a + b).canonical(), false)),
        ArithmeticOp::Subtract => operands.compute(to, |a: T, b| ((a - b).canonical(), false)),
        ArithmeticOp::Multiply => operands.compute(to, |a: T, b| ((a * b).canonical(), false)),
        ArithmeticOp::Divide => {
            operands.compute(to, move |a: T, b| ((a / b).canonical(), b == zero))
        }
        ArithmeticOp::Remainder => {
            operands.compute(to, move |a: T, b| ((a % b).canonical(), b == zero))
        }
    }
}

/// Each operation gives a value and whether it failed; what it gives then is no one's to read.
trait Integer: Native {
    fn add(a: Self, b: Self) -> (Self, bool);
    fn subtract(a: Self, b: Self) -> (Self, bool);
    fn multiply(a: Self, b: Self) -> (Self, bool);
    fn divide(a: Self, b: Self) -> (Self, bool);
    fn remainder(a: Self, b: Self) -> (Self, bool);
}

macro_rules! integer {
    ($($native:ty),*) => {$(
        impl Integer for $native {
            #[inline(always)]
            fn add(a: Self, b: Self) -> (Self, bool) {
                a.overflowing_add(b)
            }

            #[inline(always)]
            fn subtract(a: Self, b: Self) -> (Self, bool) {
                a.overflowing_sub(b)
            }

            #[inline(always)]
            fn multiply(a: Self, b: Self) -> (Self, bool) {
                a.overflowing_mul(b)
            }

            #[inline(always)]
            fn divide(a: Self, b: Self) -> (Self, bool) {
                a.checked_div(b).map_or((0, true), |quotient| (quotient, false))
            }

            /// `MIN % -1` is 0, as in Java, though the division would not fit.
            #[inline(always)]
            fn remainder(a: Self, b: Self) -> (Self, bool) {
                if b == 0 { (0, true) } else { (a.wrapping_rem(b), false) }
            }
        }
    )*};
}

integer!(i8, i16, i32, i64);

pub trait Float:
    Native
    + PartialEq
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Rem<Output = Self>
{
    /// The value; of all NaNs the one that `Double.NaN` is.
    fn canonical(self) -> Self;
}

impl Float for f32 {
    #[inline(always)]
    fn canonical(self) -> Self {
        if self.is_nan() { f32::from_bits(0x7fc0_0000) } else { self }
    }
}

impl Float for f64 {
    #[inline(always)]
    fn canonical(self) -> Self {
        if self.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { self }
    }
}
