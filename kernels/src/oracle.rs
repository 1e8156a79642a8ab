//! What an expression means, one row at a time.
//!
//! Invariant: `cpu::project` gives the same bits and fails at the same rows; tests compare them. It
//! reads as the rules do: `AND`, `OR` and `CASE` return before they ask further, integers are
//! computed wide and then looked at, decimals in 256 bits. It is slow, so the product asks it for one
//! thing only: which operation failed at a row.

mod calendar;
mod number;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use std::cmp::Ordering;

use crate::expr::{CompareOp, Expr, ExprKind, Literal};

/// A value of any type that expressions compute with.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    Null,
    Boolean(bool),
    /// Integers, dates (days), timestamps (microseconds).
    Integer(i64),
    /// Of both widths.
    Float(f64),
    /// The unscaled value.
    Decimal(i128),
    /// Of a type that no kernel computes with, and not NULL.
    Opaque,
}

/// The value of `expr` at a row of `columns`, or the operation in it that has none.
pub fn evaluate<'e>(expr: &'e Expr, columns: &[ArrayRef], row: usize) -> Result<Scalar, &'e Expr> {
    use Scalar::{Boolean, Integer, Null};
    let of = |operand: &'e Expr| evaluate(operand, columns, row);
    let to = &expr.data_type;
    Ok(match &expr.kind {
        ExprKind::Column(column) => at(&columns[*column], row),
        ExprKind::Literal(literal) => match *literal {
            Literal::Null => Null,
            Literal::Boolean(value) => Boolean(value),
            Literal::Int(value) => Integer(value),
            Literal::Float(value) if *to == DataType::Float32 => {
                Scalar::Float(f64::from(value as f32))
            }
            Literal::Float(value) => Scalar::Float(value),
            Literal::Decimal(value) => Scalar::Decimal(value),
        },
        ExprKind::Not(operand) => match of(operand)? {
            Boolean(value) => Boolean(!value),
            _ => Null,
        },
        ExprKind::IsNull(operand) => Boolean(matches!(of(operand)?, Null)),
        ExprKind::IsNotNull(operand) => Boolean(!matches!(of(operand)?, Null)),
        ExprKind::And(a, b) => match of(a)? {
            Boolean(false) => Boolean(false),
            a => match (a, of(b)?) {
                (_, Boolean(false)) => Boolean(false),
                (Boolean(true), Boolean(true)) => Boolean(true),
                _ => Null,
            },
        },
        ExprKind::Or(a, b) => match of(a)? {
            Boolean(true) => Boolean(true),
            a => match (a, of(b)?) {
                (_, Boolean(true)) => Boolean(true),
                (Boolean(false), Boolean(false)) => Boolean(false),
                _ => Null,
            },
        },
        ExprKind::Compare(op, a, b) => match compare(of(a)?, of(b)?) {
            Some(order) => Boolean(holds(*op, order)),
            None => Null,
        },
        ExprKind::Arithmetic(op, a, b) => match (of(a)?, of(b)?) {
            (Null, _) | (_, Null) => Null,
            (x, y) => {
                let (x, y) = ((x, &a.data_type), (y, &b.data_type));
                number::arithmetic(*op, x, y, to).ok_or(expr)?
            }
        },
        ExprKind::Negate(operand) => number::negate(of(operand)?, to).ok_or(expr)?,
        ExprKind::Cast(operand) => {
            number::cast(of(operand)?, &operand.data_type, to).ok_or(expr)?
        }
        ExprKind::Case { branches, otherwise } => {
            for (when, then) in branches {
                if matches!(of(when)?, Boolean(true)) {
                    return of(then);
                }
            }
            otherwise.as_ref().map_or(Ok(Null), |otherwise| of(otherwise))?
        }
        ExprKind::WindowStart { time, size_us, offset_us } => match of(time)? {
            Integer(time) => {
                let (wide, offset, size) = (i128::from(time), *offset_us, *size_us);
                let start = wide - (wide - i128::from(offset)).rem_euclid(size.into());
                Integer(number::fits(start, to).ok_or(expr)?)
            }
            _ => Null,
        },
        ExprKind::DatePart(part, date) => some(of(date)?, |days| calendar::date_part(*part, days)),
        ExprKind::ClockPart(part, time) => {
            some(of(time)?, |us| Some(calendar::clock_part(*part, us)))
        }
        ExprKind::Truncate(unit, value) => {
            some(of(value)?, |value| calendar::truncate(*unit, value, to))
        }
        ExprKind::LastDay(date) => some(of(date)?, calendar::last_day),
        ExprKind::AddMonths(time, months) => match (of(time)?, of(months)?) {
            (Integer(time), Integer(months)) => {
                Integer(calendar::add_months(time, months, to).ok_or(expr)?)
            }
            _ => Null,
        },
        ExprKind::WholeMonths(start, end) => match (of(start)?, of(end)?) {
            (Integer(start), Integer(end)) => {
                Integer(calendar::whole_months(start, end).ok_or(expr)?)
            }
            _ => Null,
        },
        ExprKind::ToLocal { ahead_us, time } => {
            some(of(time)?, |us| Some(calendar::to_local(us, *ahead_us)))
        }
        ExprKind::FromLocal { ahead_us, time } => {
            some(of(time)?, |us| Some(calendar::from_local(us, *ahead_us)))
        }
    })
}

/// What is made of an integer; NULL of NULL, and where there is none.
fn some(value: Scalar, of: impl Fn(i64) -> Option<i64>) -> Scalar {
    match value {
        Scalar::Integer(value) => of(value).map_or(Scalar::Null, Scalar::Integer),
        _ => Scalar::Null,
    }
}

/// The value at a row of a column.
pub fn at(column: &ArrayRef, row: usize) -> Scalar {
    if column.is_null(row) {
        return Scalar::Null;
    }
    let integer = |value: i64| Scalar::Integer(value);
    match column.data_type() {
        DataType::Boolean => Scalar::Boolean(column.as_boolean().value(row)),
        DataType::Int8 => integer(column.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => integer(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => integer(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => integer(column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(..) => {
            integer(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Float32 => Scalar::Float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Scalar::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            Scalar::Decimal(column.as_primitive::<Decimal128Type>().value(row))
        }
        _ => Scalar::Opaque,
    }
}

fn compare(a: Scalar, b: Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Boolean(a), Scalar::Boolean(b)) => Some(a.cmp(&b)),
        (Scalar::Integer(a), Scalar::Integer(b)) => Some(a.cmp(&b)),
        (Scalar::Decimal(a), Scalar::Decimal(b)) => Some(a.cmp(&b)),
        // NaN is equal to itself and greater than every number.
        (Scalar::Float(a), Scalar::Float(b)) => {
            Some(a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())))
        }
        _ => None,
    }
}

fn holds(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Less => order.is_lt(),
        CompareOp::LessOrEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterOrEqual => order.is_ge(),
    }
}
