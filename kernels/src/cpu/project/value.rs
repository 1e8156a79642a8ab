//! A column while its expression is evaluated: values, NULLs, and the rows that stopped.
//!
//! Invariant: a row with an error is NULL, and `errors` is there only if one of its bits is set.
//! A constant is a column of one row until a real column meets it.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, PrimitiveArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use std::sync::Arc;

use crate::cpu::bits;
use crate::cpu::filter::truth;

pub struct Value {
    pub array: ArrayRef,
    pub constant: bool,
    pub errors: Option<BooleanBuffer>,
}

impl Value {
    pub fn nulls(&self) -> Option<NullBuffer> {
        self.array.nulls().cloned()
    }

    /// The column with all its rows, where it was a constant.
    pub fn expand(self, rows: usize) -> Value {
        if !self.constant {
            assert_eq!(self.array.len(), rows, "columns of one batch have one length");
            return self;
        }
        let errors = self.errors.filter(|_| rows > 0).map(|_| BooleanBuffer::new_set(rows));
        Value { array: repeat(&self.array, rows), constant: false, errors }
    }

    /// Values of one native type, computed from each of this column's values.
    pub fn convert<A: Native, B: Native>(
        self,
        data_type: &DataType,
        convert: impl Fn(A) -> (B, bool),
    ) -> Value {
        let from = A::slice(&self.array);
        let mut failed = false;
        let values: Vec<B> = from
            .iter()
            .map(|&value| {
                let (value, fails) = convert(value);
                failed |= fails;
                value
            })
            .collect();
        let failed = failed.then(|| bits::pack(from, |value| convert(value).1));
        let (nulls, errors) = settle(self.nulls(), self.errors, failed);
        Value { array: B::array(data_type, values, nulls), constant: self.constant, errors }
    }

    /// As [`Value::convert`], where no value fails, but some have no counterpart: those become NULL.
    pub fn convert_some<A: Native, B: Native>(
        self,
        data_type: &DataType,
        convert: impl Fn(A) -> Option<B>,
    ) -> Value {
        let from = A::slice(&self.array);
        let mut all = true;
        let values: Vec<B> = from
            .iter()
            .map(|&value| {
                let value = convert(value);
                all &= value.is_some();
                value.unwrap_or_default()
            })
            .collect();
        let there = || NullBuffer::new(bits::pack(from, |value| convert(value).is_some()));
        let there = (!all).then(there);
        let nulls = NullBuffer::union(self.nulls().as_ref(), there.as_ref());
        let array = B::array(data_type, values, nulls);
        Value { array, constant: self.constant, errors: self.errors }
    }

    /// A boolean for each value; no value can fail.
    pub fn test<A: Native>(self, test: impl Fn(A) -> bool) -> Value {
        let values = bits::pack(A::slice(&self.array), test);
        let array = Arc::new(BooleanArray::new(values, self.nulls()));
        Value { array, constant: self.constant, errors: self.errors }
    }
}

/// Two operands that have met: NULLs and errors of both are each row's.
pub struct Operands {
    left: Value,
    right: Value,
    pub nulls: Option<NullBuffer>,
    pub errors: Option<BooleanBuffer>,
    pub constant: bool,
}

impl Operands {
    pub fn meet(left: Value, right: Value) -> Operands {
        let constant = left.constant && right.constant;
        let rows = if left.constant { right.array.len() } else { left.array.len() };
        let nulls = NullBuffer::union(
            spread(&left, rows, left.nulls()).as_ref(),
            spread(&right, rows, right.nulls()).as_ref(),
        );
        let left_errors = left.errors.clone().map(|errors| spread_bits(&left, rows, errors));
        let right_errors = right.errors.clone().map(|errors| spread_bits(&right, rows, errors));
        let errors = either(left_errors, right_errors);
        Operands { left, right, nulls, errors, constant }
    }

    pub fn pair<T: Native>(&self) -> Pair<'_, T> {
        let (left, right) = (T::slice(&self.left.array), T::slice(&self.right.array));
        match (self.left.constant, self.right.constant) {
            (true, false) => Pair::Left(left[0], right),
            (false, true) => Pair::Right(left, right[0]),
            _ => Pair::Columns(left, right),
        }
    }

    /// Values of one native type, computed from each pair of values.
    pub fn compute<A: Native, B: Native>(
        self,
        data_type: &DataType,
        compute: impl Fn(A, A) -> (B, bool),
    ) -> Value {
        let pair = self.pair::<A>();
        let mut failed = false;
        let values = pair.map(|a, b| {
            let (value, fails) = compute(a, b);
            failed |= fails;
            value
        });
        let failed = failed.then(|| pair.pack(|a, b| compute(a, b).1));
        let (nulls, errors) = settle(self.nulls, self.errors, failed);
        Value { array: B::array(data_type, values, nulls), constant: self.constant, errors }
    }

    /// A boolean for each pair of values; no pair can fail.
    pub fn test<A: Native>(self, test: impl Fn(A, A) -> bool) -> Value {
        let values = self.pair::<A>().pack(test);
        let array = Arc::new(BooleanArray::new(values, self.nulls));
        Value { array, constant: self.constant, errors: self.errors }
    }
}

/// How two operands lie; asked once, before the loop.
#[derive(Clone, Copy)]
pub enum Pair<'a, T> {
    Columns(&'a [T], &'a [T]),
    Left(T, &'a [T]),
    Right(&'a [T], T),
}

impl<T: Native> Pair<'_, T> {
    #[inline(always)]
    fn map<R>(self, mut f: impl FnMut(T, T) -> R) -> Vec<R> {
        match self {
            Pair::Columns(a, b) => a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect(),
            Pair::Left(a, b) => b.iter().map(|&b| f(a, b)).collect(),
            Pair::Right(a, b) => a.iter().map(|&a| f(a, b)).collect(),
        }
    }

    #[inline(always)]
    fn pack(self, f: impl Fn(T, T) -> bool) -> BooleanBuffer {
        match self {
            Pair::Columns(a, b) => bits::pack_pairs(a, b, f),
            Pair::Left(a, b) => bits::pack(b, |b| f(a, b)),
            Pair::Right(a, b) => bits::pack(a, |a| f(a, b)),
        }
    }
}

/// Adds the rows at which a computation failed; a row that was NULL before did not fail.
fn settle(
    nulls: Option<NullBuffer>,
    errors: Option<BooleanBuffer>,
    failed: Option<BooleanBuffer>,
) -> (Option<NullBuffer>, Option<BooleanBuffer>) {
    let failed = match (failed, &nulls) {
        (Some(failed), Some(nulls)) => some(&failed & nulls.inner()),
        (failed, _) => failed.and_then(some),
    };
    let Some(failed) = failed else { return (nulls, errors) };
    let valid = NullBuffer::new(!&failed);
    (NullBuffer::union(nulls.as_ref(), Some(&valid)), either(errors, Some(failed)))
}

/// The bitmap, if it has a bit.
pub fn some(bits: BooleanBuffer) -> Option<BooleanBuffer> {
    bits.has_true().then_some(bits)
}

pub fn either(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a | &b),
        (a, b) => a.or(b),
    }
}

fn spread(value: &Value, rows: usize, nulls: Option<NullBuffer>) -> Option<NullBuffer> {
    nulls.map(|nulls| NullBuffer::new(spread_bits(value, rows, nulls.into_inner())))
}

fn spread_bits(value: &Value, rows: usize, bits: BooleanBuffer) -> BooleanBuffer {
    match value.constant {
        true if bits.value(0) => BooleanBuffer::new_set(rows),
        true => BooleanBuffer::new_unset(rows),
        false => bits,
    }
}

fn repeat(one: &ArrayRef, rows: usize) -> ArrayRef {
    if one.is_null(0) {
        return new_null_array(one.data_type(), rows);
    }
    fn values<T: Native>(one: &ArrayRef, rows: usize) -> ArrayRef {
        T::array(one.data_type(), vec![T::slice(one)[0]; rows], None)
    }
    match one.data_type() {
        DataType::Boolean if truth(one.as_boolean()).value(0) => {
            Arc::new(BooleanArray::new(BooleanBuffer::new_set(rows), None))
        }
        DataType::Boolean => Arc::new(BooleanArray::new(BooleanBuffer::new_unset(rows), None)),
        DataType::Int8 => values::<i8>(one, rows),
        DataType::Int16 => values::<i16>(one, rows),
        DataType::Int32 | DataType::Date32 => values::<i32>(one, rows),
        DataType::Int64 | DataType::Timestamp(..) => values::<i64>(one, rows),
        DataType::Float32 => values::<f32>(one, rows),
        DataType::Float64 => values::<f64>(one, rows),
        DataType::Decimal128(..) => values::<i128>(one, rows),
        other => unreachable!("no literal has the type {other}"),
    }
}

/// A type of the machine that columns of some data types are made of.
pub trait Native: Copy + Default {
    fn slice(array: &ArrayRef) -> &[Self];
    fn array(data_type: &DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef;
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
}

macro_rules! native {
    ($native:ty, $arrow:ty) => {
        impl Native for $native {
            fn slice(array: &ArrayRef) -> &[Self] {
                array.as_primitive::<$arrow>().values()
            }

            fn array(_: &DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef {
                primitive::<$arrow>(values, nulls)
            }
        }
    };
}

native!(i8, Int8Type);
native!(i16, Int16Type);
native!(f32, Float32Type);
native!(f64, Float64Type);

impl Native for i32 {
    fn slice(array: &ArrayRef) -> &[Self] {
        match array.data_type() {
            DataType::Date32 => array.as_primitive::<Date32Type>().values(),
            _ => array.as_primitive::<Int32Type>().values(),
        }
    }

    fn array(data_type: &DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef {
        match data_type {
            DataType::Date32 => Arc::new(Date32Array::new(values.into(), nulls)),
            _ => primitive::<Int32Type>(values, nulls),
        }
    }
}

impl Native for i64 {
    fn slice(array: &ArrayRef) -> &[Self] {
        match array.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                array.as_primitive::<TimestampMicrosecondType>().values()
            }
            _ => array.as_primitive::<Int64Type>().values(),
        }
    }

    fn array(data_type: &DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef {
        match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(
                TimestampMicrosecondArray::new(values.into(), nulls)
                    .with_timezone_opt(zone.clone()),
            ),
            _ => primitive::<Int64Type>(values, nulls),
        }
    }
}

impl Native for i128 {
    fn slice(array: &ArrayRef) -> &[Self] {
        array.as_primitive::<Decimal128Type>().values()
    }

    fn array(data_type: &DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef {
        let decimals = Decimal128Array::new(values.into(), nulls);
        Arc::new(decimals.with_data_type(data_type.clone()))
    }
}
