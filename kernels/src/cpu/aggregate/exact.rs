//! Exact sums as columns of a partial.
//!
//! A struct: the sum's normal form `(odd or zero) * 2^exponent` as little-endian limbs of its two's
//! complement, and `rest`, empty for nearly every group: three little-endian words that count NaN,
//! +Inf and -Inf, and behind them the limbs of a number that does not fit the fixed ones.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, StructArray, UInt64Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Int32Type, UInt64Type};

use super::error::AggregateError;
use crate::cpu::column::BytesColumn;
use crate::cpu::exact_sum::ExactSum;
use crate::cpu::total::{Extra, Specials, Total};
use crate::cpu::words::{Field, FieldRef};

pub(super) fn partial_type<const N: usize>() -> DataType {
    DataType::Struct(fields::<N>())
}

fn fields<const N: usize>() -> Fields {
    let limbs = (0..N).map(|limb| ArrowField::new(format!("limb{limb}"), DataType::UInt64, false));
    let exponent = ArrowField::new("exponent", DataType::Int32, false);
    let rest = ArrowField::new("rest", DataType::Binary, false);
    limbs.chain([exponent, rest]).collect()
}

pub(super) fn write<const N: usize>(
    sum: &ExactSum<N>,
    field: FieldRef<'_>,
    groups: &[u32],
) -> ArrayRef {
    let mut limbs = [(); N].map(|()| Vec::with_capacity(groups.len()));
    let mut exponents = Vec::with_capacity(groups.len());
    let mut rests = Vec::new();
    for (at, &group) in groups.iter().enumerate() {
        let total = sum.total(field, group);
        limbs.iter_mut().zip(total.small).for_each(|(column, limb)| column.push(limb));
        exponents.push(total.exponent);
        if let Some(extra) = &total.extra {
            rests.push((at, rest_bytes(extra)));
        }
    }
    let rest = match rests.is_empty() {
        true => BinaryArray::new(OffsetBuffer::new_zeroed(groups.len()), Buffer::default(), None),
        false => rest_column(&rests, groups.len()),
    };
    let mut columns = limbs.map(|limbs| Arc::new(UInt64Array::from(limbs)) as ArrayRef).to_vec();
    columns.push(Arc::new(Int32Array::from(exponents)));
    columns.push(Arc::new(rest));
    Arc::new(StructArray::new(fields::<N>(), columns, None))
}

pub(super) fn merge<const N: usize>(
    sum: &mut ExactSum<N>,
    field: &mut Field<'_>,
    groups: &[u32],
    array: &ArrayRef,
    name: &str,
) -> Result<(), AggregateError> {
    let array = array.as_struct();
    let limbs: [&[u64]; N] =
        std::array::from_fn(|limb| &array.column(limb).as_primitive::<UInt64Type>().values()[..]);
    let exponents = array.column(N).as_primitive::<Int32Type>().values();
    let rests = BytesColumn::new(array.column(N + 1));
    let corrupt = Cell::new(None);
    let read = |row: usize| {
        let small = std::array::from_fn(|limb| limbs[limb][row]);
        let rest = rests.value(row);
        let extra = if rest.is_empty() { None } else { parse_rest(rest).map(Box::new) };
        let cut_short = extra.is_none() && !rest.is_empty();
        let total = Total { small, exponent: exponents[row], extra };
        if cut_short || !total.is_normal() {
            corrupt.set(Some(row));
            return Total::ZERO;
        }
        total
    };
    sum.combine(field, groups, (0..array.len()).map(read));
    match corrupt.get() {
        None => Ok(()),
        Some(row) => {
            let reason = format!("row {row} is not a sum in normal form");
            Err(AggregateError::corrupt(name, reason))
        }
    }
}

/// A column of no bytes but in the rows given, which ascend.
fn rest_column(rests: &[(usize, Vec<u8>)], rows: usize) -> BinaryArray {
    let mut rests = rests.iter().peekable();
    let rest = |row| rests.next_if(|(at, _)| *at == row).map_or(&[][..], |(_, bytes)| bytes);
    BinaryArray::from_iter_values((0..rows).map(rest))
}

fn rest_bytes(extra: &Extra) -> Vec<u8> {
    let Specials { nan, positive, negative } = extra.specials;
    let words = [nan, positive, negative].into_iter().chain(extra.wide.iter().copied());
    words.flat_map(u64::to_le_bytes).collect()
}

/// None where it is cut short, or says nothing.
fn parse_rest(rest: &[u8]) -> Option<Extra> {
    let (words, []) = rest.as_chunks::<8>() else { return None };
    let words = words.iter().map(|&word| u64::from_le_bytes(word)).collect::<Vec<_>>();
    let [nan, positive, negative, ref wide @ ..] = words[..] else { return None };
    let extra = Extra { wide: wide.to_vec(), specials: Specials { nan, positive, negative } };
    (extra != Extra::default()).then_some(extra)
}
