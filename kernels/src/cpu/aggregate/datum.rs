//! One value of any type that a kernel knows, ordered as its column orders.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::cpu::column::{
    BytesColumn, Class, Rows, float_to_ordered, narrow_bytes, narrow_decimals, narrow_floats,
    narrow_ints, ordered_to_float, widen_decimals, widen_floats, widen_ints,
};

/// The values of one state are all of one variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Datum {
    /// Integers, dates, times, booleans; doubles by the words that order as they do.
    Int(i64),
    Decimal(i128),
    Bytes(Box<[u8]>),
}

impl Datum {
    pub fn bytes_held(&self) -> usize {
        match self {
            Datum::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// A column's values one by one; whatever lies there for NULLs.
pub(crate) enum Data<'a> {
    Ints(Vec<i64>),
    Decimals(Vec<i128>),
    Bytes(BytesColumn<'a>),
}

impl<'a> Data<'a> {
    /// As keys: -0.0 is 0.0.
    pub fn of(array: &'a dyn Array) -> Self {
        Data::read(array, |value| value + 0.0)
    }

    /// As they are.
    pub fn exact(array: &'a dyn Array) -> Self {
        Data::read(array, |value| value)
    }

    fn read(array: &'a dyn Array, normal: fn(f64) -> f64) -> Self {
        let rows = Rows::All(array.len());
        match Class::of(array.data_type()).expect("the layout asked for the class") {
            Class::Int => {
                let mut scratch = Vec::new();
                Data::Ints(widen_ints(array, rows, &mut scratch).to_vec())
            }
            Class::Float => {
                let mut scratch = Vec::new();
                let ordered = |&value: &f64| float_to_ordered(normal(value));
                Data::Ints(widen_floats(array, rows, &mut scratch).iter().map(ordered).collect())
            }
            Class::Decimal => {
                let mut scratch = Vec::new();
                Data::Decimals(widen_decimals(array, rows, &mut scratch).to_vec())
            }
            Class::Bytes => Data::Bytes(BytesColumn::new(array)),
        }
    }

    pub fn get(&self, row: usize) -> Datum {
        match self {
            Data::Ints(values) => Datum::Int(values[row]),
            Data::Decimals(values) => Datum::Decimal(values[row]),
            Data::Bytes(values) => Datum::Bytes(values.value(row).into()),
        }
    }
}

/// An array of the type; `None` is NULL.
pub(super) fn array_of(data_type: &DataType, items: &[Option<&Datum>]) -> ArrayRef {
    let nulls = NullBuffer::from_iter(items.iter().map(Option::is_some));
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    let word = |item: &Option<&Datum>| match item {
        Some(Datum::Int(value)) => *value,
        None => 0,
        Some(other) => unreachable!("{other:?} is not of the column's class"),
    };
    match Class::of(data_type).expect("the layout asked for the class") {
        Class::Int => narrow_ints(data_type, items.iter().map(word).collect(), nulls),
        Class::Float => {
            let values = items.iter().map(|item| match item {
                None => 0.0,
                item => ordered_to_float(word(item)),
            });
            narrow_floats(data_type, values.collect(), nulls)
        }
        Class::Decimal => {
            let values = items.iter().map(|item| match item {
                Some(Datum::Decimal(value)) => *value,
                None => 0,
                Some(other) => unreachable!("{other:?} is not of the column's class"),
            });
            narrow_decimals(data_type, values.collect(), nulls)
        }
        Class::Bytes => {
            let values = items.iter().map(|item| match item {
                Some(Datum::Bytes(bytes)) => Some(&bytes[..]),
                None => None,
                Some(other) => unreachable!("{other:?} is not of the column's class"),
            });
            narrow_bytes(data_type, values)
        }
    }
}
