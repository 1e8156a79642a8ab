//! States of a fixed width that one operation folds: sums of integers and decimals, least and
//! greatest values, bit operations.
//!
//! What a group holds before its first value is the operation's neutral element, so that values,
//! other tables and partials all enter by the same loop. Whether there was a value at all is told by
//! the counts beside it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal256Type, i256};

use super::state::Values;
use crate::cpu::big::carrying_add;
use crate::cpu::column::{
    Class, Rows, float_to_ordered, narrow_decimals, narrow_floats, narrow_ints, ordered_to_float,
    widen_decimals, widen_floats, widen_ints,
};
use crate::cpu::words::{Field, FieldRef};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Sum,
    Least,
    Greatest,
    And,
    Or,
    Xor,
}

/// Words that a state takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Word,
    /// An `i128`.
    Pair,
    /// 192 bits: 2^63 decimals of 38 digits fit.
    Triple,
}

pub(crate) struct Fold {
    pub operation: Operation,
    pub width: Width,
    /// In a partial.
    pub data_type: DataType,
}

impl Fold {
    /// A sum of a column of this type, integer or decimal: wide enough for 2^63 rows.
    pub fn sum(input: &DataType) -> Self {
        let (width, data_type) = match input {
            // 19 digits times 2^63 rows are fewer than 38 digits.
            DataType::Decimal128(20.., scale) => (Width::Triple, DataType::Decimal256(76, *scale)),
            DataType::Decimal128(_, scale) => (Width::Pair, DataType::Decimal128(38, *scale)),
            _ => (Width::Pair, DataType::Decimal128(38, 0)),
        };
        Fold { operation: Operation::Sum, width, data_type }
    }

    /// An operation whose value is of the type of its column.
    pub fn of(operation: Operation, input: &DataType) -> Self {
        let width = match Class::of(input) {
            Some(Class::Decimal) => Width::Pair,
            _ => Width::Word,
        };
        Fold { operation, width, data_type: input.clone() }
    }

    pub fn template(&self) -> &'static [u64] {
        const LEAST: u64 = i64::MAX as u64;
        const GREATEST: u64 = i64::MIN as u64;
        match (self.operation, self.width) {
            (Operation::Least, Width::Word) => &[LEAST],
            (Operation::Least, _) => &[u64::MAX, LEAST],
            (Operation::Greatest, Width::Word) => &[GREATEST],
            (Operation::Greatest, _) => &[0, GREATEST],
            (Operation::And, _) => &[u64::MAX],
            (_, Width::Word) => &[0],
            (_, Width::Pair) => &[0; 2],
            (_, Width::Triple) => &[0; 3],
        }
    }

    pub fn update(&self, field: &mut Field<'_>, groups: &[u32], values: &Values<'_>) {
        match (values, self.width) {
            (Values::Ints(values), Width::Word) => {
                self.fold_words(field, groups, values.iter().copied());
            }
            (Values::Ints(values), _) => {
                self.fold_pairs(field, groups, values.iter().map(|&value| i128::from(value)));
            }
            (Values::Floats(values), _) => {
                let values = values.iter().map(|&value| float_to_ordered(value));
                self.fold_words(field, groups, values);
            }
            (Values::Decimals(values), Width::Triple) => {
                fold_triples(field, groups, values.iter().map(|&value| triple(value)));
            }
            (Values::Decimals(values), _) => {
                self.fold_pairs(field, groups, values.iter().copied());
            }
            (Values::Bytes(..), _) => unreachable!("text is not of a fixed width"),
        }
    }

    pub fn absorb(&self, field: &mut Field<'_>, to: &[u32], other: FieldRef<'_>, from: &[u32]) {
        match self.width {
            Width::Word => {
                self.fold_words(field, to, from.iter().map(|&group| other.word(group) as i64));
            }
            Width::Pair => {
                self.fold_pairs(field, to, from.iter().map(|&group| pair(other.limbs(group))));
            }
            Width::Triple => fold_triples(field, to, from.iter().map(|&group| other.limbs(group))),
        }
    }

    /// The states as an array; `present` tells of the groups that had a value.
    pub fn write(
        &self,
        field: FieldRef<'_>,
        groups: &[u32],
        present: Option<NullBuffer>,
    ) -> ArrayRef {
        let nulls = present.filter(|_| self.operation != Operation::Sum);
        match self.width {
            Width::Word if Class::of(&self.data_type) == Some(Class::Float) => {
                let value = |&group: &u32| ordered_to_float(field.word(group) as i64);
                narrow_floats(&self.data_type, hide_nulls(groups, &nulls, value), nulls)
            }
            Width::Word => {
                let value = |&group: &u32| field.word(group) as i64;
                narrow_ints(&self.data_type, hide_nulls(groups, &nulls, value), nulls)
            }
            Width::Pair => {
                let value = |&group: &u32| pair(field.limbs(group));
                narrow_decimals(&self.data_type, hide_nulls(groups, &nulls, value), nulls)
            }
            Width::Triple => {
                let value = |&group: &u32| wide_value(field.limbs(group));
                let values = groups.iter().map(value).collect::<Vec<_>>();
                let array = Decimal256Array::new(values.into(), None);
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
        }
    }

    pub fn merge(&self, field: &mut Field<'_>, groups: &[u32], array: &ArrayRef) {
        let rows = Rows::All(array.len());
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        match self.width {
            Width::Word if Class::of(&self.data_type) == Some(Class::Float) => {
                let mut scratch = Vec::new();
                let values = widen_floats(array, rows, &mut scratch).iter();
                self.merge_words(
                    field,
                    groups,
                    values.map(|&value| float_to_ordered(value)),
                    nulls,
                );
            }
            Width::Word => {
                let mut scratch = Vec::new();
                let values = widen_ints(array, rows, &mut scratch).iter();
                self.merge_words(field, groups, values.copied(), nulls);
            }
            Width::Pair => {
                let mut scratch = Vec::new();
                let values = widen_decimals(array, rows, &mut scratch).iter().copied();
                let neutral = pair([self.template()[0], self.template()[1]]);
                match nulls {
                    None => self.fold_pairs(field, groups, values),
                    Some(nulls) => {
                        let value = |(value, valid)| if valid { value } else { neutral };
                        self.fold_pairs(field, groups, values.zip(nulls).map(value));
                    }
                }
            }
            Width::Triple => {
                let values = array.as_primitive::<Decimal256Type>().values().iter();
                fold_triples(field, groups, values.map(|&value| wide_limbs(value)));
            }
        }
    }

    fn merge_words(
        &self,
        field: &mut Field<'_>,
        groups: &[u32],
        values: impl Iterator<Item = i64>,
        nulls: Option<&NullBuffer>,
    ) {
        let neutral = self.template()[0] as i64;
        match nulls {
            None => self.fold_words(field, groups, values),
            Some(nulls) => {
                let value = |(value, valid)| if valid { value } else { neutral };
                self.fold_words(field, groups, values.zip(nulls).map(value));
            }
        }
    }

    fn fold_words(&self, field: &mut Field<'_>, groups: &[u32], values: impl Iterator<Item = i64>) {
        fn each(
            field: &mut Field<'_>,
            groups: &[u32],
            values: impl Iterator<Item = i64>,
            fold: impl Fn(i64, i64) -> i64,
        ) {
            for (&group, value) in groups.iter().zip(values) {
                let word = field.word_mut(group);
                *word = fold(*word as i64, value) as u64;
            }
        }
        match self.operation {
            Operation::Least => each(field, groups, values, i64::min),
            Operation::Greatest => each(field, groups, values, i64::max),
            Operation::And => each(field, groups, values, |a, b| a & b),
            Operation::Or => each(field, groups, values, |a, b| a | b),
            Operation::Xor => each(field, groups, values, |a, b| a ^ b),
            Operation::Sum => unreachable!("a sum takes more than a word"),
        }
    }

    fn fold_pairs(
        &self,
        field: &mut Field<'_>,
        groups: &[u32],
        values: impl Iterator<Item = i128>,
    ) {
        fn each(
            field: &mut Field<'_>,
            groups: &[u32],
            values: impl Iterator<Item = i128>,
            fold: impl Fn(i128, i128) -> i128,
        ) {
            for (&group, value) in groups.iter().zip(values) {
                let words = field.limbs_mut::<2>(group);
                let folded = fold(pair(*words), value);
                *words = [folded as u64, (folded >> 64) as u64];
            }
        }
        let sum = |a: i128, b| a.checked_add(b).expect("2^63 values of 64 bits fit 127");
        match self.operation {
            Operation::Sum => each(field, groups, values, sum),
            Operation::Least => each(field, groups, values, i128::min),
            Operation::Greatest => each(field, groups, values, i128::max),
            _ => unreachable!("bit operations take a word"),
        }
    }
}

/// Values of groups that have one; 0, and not some neutral element, for those that have none.
fn hide_nulls<T: Default>(
    groups: &[u32],
    nulls: &Option<NullBuffer>,
    value: impl Fn(&u32) -> T,
) -> Vec<T> {
    match nulls {
        None => groups.iter().map(value).collect(),
        Some(nulls) => {
            let values = groups.iter().zip(nulls.iter());
            values.map(|(group, valid)| if valid { value(group) } else { T::default() }).collect()
        }
    }
}

/// Least and greatest value, at these offsets, in one pass.
pub(super) fn update_extremes(
    field: &mut Field<'_>,
    offsets: [usize; 2],
    groups: &[u32],
    values: &Values<'_>,
) {
    fn each(
        field: &mut Field<'_>,
        [least, greatest]: [usize; 2],
        groups: &[u32],
        values: impl Iterator<Item = i64>,
    ) {
        for (&group, value) in groups.iter().zip(values) {
            let [word] = field.slot_mut(group, least);
            *word = value.min(*word as i64) as u64;
            let [word] = field.slot_mut(group, greatest);
            *word = value.max(*word as i64) as u64;
        }
    }
    match values {
        Values::Ints(values) => each(field, offsets, groups, values.iter().copied()),
        Values::Floats(values) => {
            each(field, offsets, groups, values.iter().map(|&value| float_to_ordered(value)));
        }
        Values::Decimals(_) | Values::Bytes(..) => unreachable!("they take more than a word"),
    }
}

fn fold_triples(field: &mut Field<'_>, groups: &[u32], values: impl Iterator<Item = [u64; 3]>) {
    for (&group, value) in groups.iter().zip(values) {
        let mut carry = false;
        for (word, limb) in field.limbs_mut::<3>(group).iter_mut().zip(value) {
            (*word, carry) = carrying_add(*word, limb, carry);
        }
    }
}

#[inline(always)]
pub(super) fn pair([low, high]: [u64; 2]) -> i128 {
    (u128::from(high) << 64 | u128::from(low)) as i128
}

fn triple(value: i128) -> [u64; 3] {
    [value as u64, (value >> 64) as u64, (value >> 127) as u64]
}

pub(super) fn wide_value([low, middle, high]: [u64; 3]) -> i256 {
    let low = u128::from(middle) << 64 | u128::from(low);
    i256::from_parts(low, i128::from(high as i64))
}

fn wide_limbs(value: i256) -> [u64; 3] {
    let (low, high) = value.to_parts();
    [low as u64, (low >> 64) as u64, high as u64]
}

/// The sum of a group, of either width.
pub(super) fn sum_value(fold: &Fold, field: FieldRef<'_>, group: u32) -> i256 {
    match fold.width {
        Width::Triple => wide_value(field.limbs(group)),
        _ => i256::from_i128(pair(field.limbs(group))),
    }
}
