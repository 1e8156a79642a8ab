//! Projection: the value of an expression for every row of a batch, a column at a time.
//!
//! Invariant: a function of the row alone, so the same for any batch that the row is in; `oracle`
//! computes it row by row. An expression that can fail gives value, NULL and error bit and goes on:
//! which rows an error matters for is the caller's to know (filters come first).
//! The branch on type and operator is taken before each loop. No file here is unsafe.
//! It lacks what `Expr` cannot say; `Expr::check` tells whether a tree is one for this module.

mod arithmetic;
pub(crate) mod calendar;
mod cast;
mod compare;
mod decimal;
mod logic;
#[cfg(test)]
pub(crate) mod oracle_tests;
#[cfg(test)]
mod tests;
mod value;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use std::sync::Arc;

use crate::expr::{Expr, ExprKind, Literal};
use logic::Connective;
use value::Value;

/// The values of an expression, and where it stopped.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One for each row, of the expression's type; NULL where there is an error.
    pub values: ArrayRef,
    /// A bit for each row at which the expression failed; absent when there is none.
    pub errors: Option<BooleanBuffer>,
}

/// Evaluates `expr` for all `rows` of `columns`.
///
/// An operand's error is its row's error, whatever the other operand is; the exceptions are `AND`,
/// `OR` and `CASE`, which ask from left to right and only as far as they must.
/// Shapes: each column that `expr` names holds `rows` values.
/// Panics: where `expr.check` of the columns' types is an error.
pub fn evaluate(expr: &Expr, columns: &[ArrayRef], rows: usize) -> Evaluated {
    let value = walk(expr, &Batch { columns, rows }).expand(rows);
    debug_assert_eq!(value.array.data_type(), &expr.data_type);
    // Of no row none failed, be it that a constant would.
    Evaluated { values: value.array, errors: value.errors.filter(|_| rows > 0) }
}

struct Batch<'a> {
    columns: &'a [ArrayRef],
    rows: usize,
}

fn walk(expr: &Expr, batch: &Batch<'_>) -> Value {
    let of = |operand: &Expr| walk(operand, batch);
    match &expr.kind {
        &ExprKind::Column(column) => {
            let array = batch.columns[column].clone();
            assert_eq!(array.len(), batch.rows, "column {column} has a value for each row");
            Value { array, constant: false, errors: None }
        }
        ExprKind::Literal(literal) => {
            Value { array: constant(literal, &expr.data_type), constant: true, errors: None }
        }
        ExprKind::Not(operand) => logic::not(of(operand)),
        ExprKind::IsNull(operand) => logic::is_null(of(operand), true),
        ExprKind::IsNotNull(operand) => logic::is_null(of(operand), false),
        ExprKind::And(a, b) => logic::connect(Connective::And, of(a), of(b)),
        ExprKind::Or(a, b) => logic::connect(Connective::Or, of(a), of(b)),
        ExprKind::Compare(op, a, b) => compare::compare(*op, of(a), of(b)),
        ExprKind::Arithmetic(op, a, b) => {
            arithmetic::arithmetic(*op, of(a), of(b), &expr.data_type)
        }
        ExprKind::Negate(operand) => arithmetic::negate(of(operand)),
        ExprKind::Cast(operand) => cast::cast(of(operand), &expr.data_type),
        ExprKind::Case { branches, otherwise } => {
            let branches = branches.iter().map(|(when, then)| (of(when), of(then))).collect();
            let otherwise = otherwise.as_ref().map_or_else(
                || Value {
                    array: new_null_array(&expr.data_type, 1),
                    constant: true,
                    errors: None,
                },
                |otherwise| of(otherwise),
            );
            logic::case(branches, otherwise, batch.rows)
        }
        &ExprKind::WindowStart { ref time, size_us, offset_us } => {
            window_start(of(time), size_us, offset_us, &expr.data_type)
        }
        ExprKind::DatePart(part, date) => calendar::date_part(*part, of(date)),
        ExprKind::ClockPart(part, time) => calendar::clock_part(*part, of(time)),
        ExprKind::Truncate(unit, value) => calendar::truncate(*unit, of(value)),
        ExprKind::LastDay(date) => calendar::last_day_of(of(date)),
        ExprKind::AddMonths(to, months) => calendar::add_months(of(to), of(months)),
        ExprKind::WholeMonths(start, end) => calendar::whole_months(of(start), of(end)),
        &ExprKind::ToLocal { ahead_us, ref time } => {
            calendar::to_local(of(time), ahead_us, &expr.data_type)
        }
        &ExprKind::FromLocal { ahead_us, ref time } => {
            calendar::from_local(of(time), ahead_us, &expr.data_type)
        }
    }
}

/// Start of the tumbling window of each timestamp, downwards also before 1970.
///
/// Event times come nearly in order: while they stay in one window nothing is divided.
fn window_start(time: Value, size_us: i64, offset_us: i64, to: &DataType) -> Value {
    assert!(size_us > 0, "a window has a size");
    let offset = offset_us.rem_euclid(size_us);
    let last = std::cell::Cell::new(offset);
    time.convert(to, |time: i64| {
        let start = last.get();
        if time >= start && time.wrapping_sub(start) as u64 <= (size_us - 1) as u64 {
            return (start, false);
        }
        // Both remainders lie in 0..size, so their difference cannot overflow.
        let into = (time.rem_euclid(size_us) - offset).rem_euclid(size_us);
        match time.checked_sub(into) {
            Some(start) => {
                last.set(start);
                (start, false)
            }
            None => (0, true),
        }
    })
}

/// A column of one row.
fn constant(literal: &Literal, data_type: &DataType) -> ArrayRef {
    const FITS: &str = "the planner makes no literal that its type cannot hold";
    match (literal, data_type) {
        (Literal::Null, _) => new_null_array(data_type, 1),
        (&Literal::Boolean(value), DataType::Boolean) => Arc::new(BooleanArray::from(vec![value])),
        (&Literal::Int(value), DataType::Int8) => {
            Arc::new(Int8Array::from(vec![i8::try_from(value).expect(FITS)]))
        }
        (&Literal::Int(value), DataType::Int16) => {
            Arc::new(Int16Array::from(vec![i16::try_from(value).expect(FITS)]))
        }
        (&Literal::Int(value), DataType::Int32) => {
            Arc::new(Int32Array::from(vec![i32::try_from(value).expect(FITS)]))
        }
        (&Literal::Int(value), DataType::Int64) => Arc::new(Int64Array::from(vec![value])),
        (&Literal::Int(value), DataType::Date32) => {
            Arc::new(Date32Array::from(vec![i32::try_from(value).expect(FITS)]))
        }
        (&Literal::Int(value), DataType::Timestamp(_, zone)) => {
            Arc::new(TimestampMicrosecondArray::from(vec![value]).with_timezone_opt(zone.clone()))
        }
        (&Literal::Float(value), DataType::Float32) => {
            Arc::new(Float32Array::from(vec![value as f32]))
        }
        (&Literal::Float(value), DataType::Float64) => Arc::new(Float64Array::from(vec![value])),
        (&Literal::Decimal(value), DataType::Decimal128(..)) => {
            Arc::new(Decimal128Array::from(vec![value]).with_data_type(data_type.clone()))
        }
        _ => unreachable!("{literal:?} is no literal of {data_type}: Expr::check refuses it"),
    }
}
