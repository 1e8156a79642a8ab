//! Kleene's logic and the choice between branches, 64 rows at a time.
//!
//! Errors follow the order of reading: `AND` and `OR` ask their right side only where the left one
//! does not decide, `CASE` its conditions one after the other and the value of one branch only. An
//! error in what is not asked does not count.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use std::sync::Arc;

use super::value::{Native, Value, either, some};
use crate::cpu::filter::truth;

pub fn not(value: Value) -> Value {
    let mask = value.array.as_boolean();
    let array = Arc::new(BooleanArray::new(!mask.values(), value.nulls()));
    Value { array, ..value }
}

/// `IS NULL`, or with `yes` false `IS NOT NULL`. An error is no NULL: it stays an error.
pub fn is_null(value: Value, yes: bool) -> Value {
    let rows = value.array.len();
    let nulls = value.array.logical_nulls();
    let answer = match (nulls, yes) {
        (Some(nulls), true) => !nulls.inner(),
        (Some(nulls), false) => nulls.into_inner(),
        (None, true) => BooleanBuffer::new_unset(rows),
        (None, false) => BooleanBuffer::new_set(rows),
    };
    let nulls = value.errors.as_ref().map(|errors| NullBuffer::new(!errors));
    Value { array: Arc::new(BooleanArray::new(answer, nulls)), ..value }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Connective {
    And,
    Or,
}

pub fn connect(connective: Connective, left: Value, right: Value) -> Value {
    let rows = if left.constant { right.array.len() } else { left.array.len() };
    let constant = left.constant && right.constant;
    let (left, right) = (left.expand(rows), right.expand(rows));
    let (a, b) = (left.array.as_boolean(), right.array.as_boolean());
    let known = a.null_count() == 0 && b.null_count() == 0;
    if known {
        let values = match connective {
            Connective::And => a.values() & b.values(),
            Connective::Or => a.values() | b.values(),
        };
        return Value { array: Arc::new(BooleanArray::new(values, None)), constant, errors: None };
    }
    // What decides is false for AND, true for OR; what does not is needed from both sides.
    let is = |mask: &BooleanArray, value: bool| match value {
        true => truth(mask),
        false => truth(&BooleanArray::new(!mask.values(), mask.nulls().cloned())),
    };
    let deciding = connective == Connective::Or;
    let left_decides = is(a, deciding);
    let decided = &left_decides | &is(b, deciding);
    let undecided = &is(a, !deciding) & &is(b, !deciding);
    let right_errors = right.errors.map(|errors| &errors & &!&left_decides);
    let errors = either(left.errors, right_errors).and_then(some);
    let mut valid = &decided | &undecided;
    if let Some(errors) = &errors {
        valid = &valid & &!errors;
    }
    let values = if deciding { decided } else { undecided };
    let array = Arc::new(BooleanArray::new(values, Some(NullBuffer::new(valid))));
    Value { array, constant, errors }
}

/// `CASE`: branches are pairs of condition and value; from the last to the first, each is laid over
/// what comes after it.
pub fn case(branches: Vec<(Value, Value)>, otherwise: Value, rows: usize) -> Value {
    let mut result = otherwise.expand(rows);
    for (condition, value) in branches.into_iter().rev() {
        let (condition, value) = (condition.expand(rows), value.expand(rows));
        let taken = truth(condition.array.as_boolean());
        let (a, b) = (value.array, result.array);
        let of_value = value.errors.map(|errors| &errors & &taken);
        let of_rest = result.errors.map(|errors| &errors & &!&taken);
        let errors = either(condition.errors, either(of_value, of_rest)).and_then(some);
        let array = choose(&taken, &a, &b, errors.as_ref());
        result = Value { array, constant: false, errors };
    }
    result
}

/// Row by row `a` where the mask is set, else `b`; NULL where there is an error: the rest of a CASE
/// has values also where a condition failed.
fn choose(
    mask: &BooleanBuffer,
    a: &ArrayRef,
    b: &ArrayRef,
    errors: Option<&BooleanBuffer>,
) -> ArrayRef {
    let nulls = match (a.nulls(), b.nulls()) {
        (None, None) => None,
        (a_nulls, b_nulls) => {
            let valid = |nulls: Option<&NullBuffer>| match nulls {
                Some(nulls) => nulls.inner().clone(),
                None => BooleanBuffer::new_set(mask.len()),
            };
            Some(NullBuffer::new(choose_bits(mask, &valid(a_nulls), &valid(b_nulls))))
        }
    };
    let valid = errors.map(|errors| NullBuffer::new(!errors));
    let nulls = NullBuffer::union(nulls.as_ref(), valid.as_ref());
    match a.data_type() {
        DataType::Boolean => {
            let bits = choose_bits(mask, a.as_boolean().values(), b.as_boolean().values());
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Int8 => choose_values::<i8>(mask, a, b, nulls),
        DataType::Int16 => choose_values::<i16>(mask, a, b, nulls),
        DataType::Int32 | DataType::Date32 => choose_values::<i32>(mask, a, b, nulls),
        DataType::Int64 | DataType::Timestamp(..) => choose_values::<i64>(mask, a, b, nulls),
        DataType::Float32 => choose_values::<f32>(mask, a, b, nulls),
        DataType::Float64 => choose_values::<f64>(mask, a, b, nulls),
        DataType::Decimal128(..) => choose_values::<i128>(mask, a, b, nulls),
        other => unreachable!("no CASE gives {other}: Expr::check refuses it"),
    }
}

fn choose_bits(mask: &BooleanBuffer, a: &BooleanBuffer, b: &BooleanBuffer) -> BooleanBuffer {
    &(mask & a) | &(&!mask & b)
}

fn choose_values<T: Native>(
    mask: &BooleanBuffer,
    a: &ArrayRef,
    b: &ArrayRef,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let (to, a, b) = (a.data_type(), T::slice(a), T::slice(b));
    let mut values = Vec::with_capacity(mask.len());
    let words = mask.bit_chunks().iter_padded().collect::<Vec<_>>();
    for ((word, a), b) in words.into_iter().zip(a.chunks(64)).zip(b.chunks(64)) {
        let pairs = a.iter().zip(b).enumerate();
        values.extend(pairs.map(|(i, (&a, &b))| if word >> i & 1 == 1 { a } else { b }));
    }
    T::array(to, values, nulls)
}
