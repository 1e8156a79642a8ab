//! One state of every group: which kind it is, and what a table can do with it.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::Positions;
use super::error::AggregateError;
use super::exact;
use super::fold::{Fold, Width};
use super::kept::Kept;
use super::pick::Pick;
use super::text::TextExtreme;
use crate::cpu::column::{BytesColumn, Class, Rows, widen_decimals, widen_floats, widen_ints};
use crate::cpu::exact_sum::ExactSum;
use crate::cpu::words::{Field, FieldRef};

pub(crate) enum State {
    Fold(Fold),
    Sum(ExactSum<2>),
    /// Sum of squares, always beside a [`State::Sum`].
    Squares(ExactSum<4>),
    Text(TextExtreme),
    Pick(Pick),
    Kept(Kept),
}

/// The values of the rows a state sees, in one of the forms that kernels are written for.
pub(crate) enum Values<'a> {
    Ints(&'a [i64]),
    Floats(&'a [f64]),
    Decimals(&'a [i128]),
    Bytes(BytesColumn<'a>, Rows<'a>),
}

/// Room for values that must be converted or gathered, kept from batch to batch.
#[derive(Default)]
pub(crate) struct Scratch {
    ints: Vec<i64>,
    floats: Vec<f64>,
    decimals: Vec<i128>,
}

impl Scratch {
    pub fn bytes_held(&self) -> usize {
        (self.ints.capacity() + self.floats.capacity()) * 8 + self.decimals.capacity() * 16
    }
}

impl<'a> Values<'a> {
    /// Values of `rows`; whatever lies there for NULLs.
    pub fn new(
        class: Class,
        array: &'a dyn Array,
        rows: Rows<'a>,
        scratch: &'a mut Scratch,
    ) -> Self {
        match class {
            Class::Int => Values::Ints(widen_ints(array, rows, &mut scratch.ints)),
            Class::Float => Values::Floats(widen_floats(array, rows, &mut scratch.floats)),
            Class::Decimal => Values::Decimals(widen_decimals(array, rows, &mut scratch.decimals)),
            Class::Bytes => Values::Bytes(BytesColumn::new(array), rows),
        }
    }
}

impl State {
    pub fn template(&self) -> Vec<u64> {
        match self {
            State::Fold(fold) => fold.template().to_vec(),
            State::Sum(_) => vec![0; 2],
            State::Squares(_) => vec![0; 4],
            State::Text(_) => super::arena::Arena::EMPTY.to_vec(),
            State::Pick(pick) => pick.template(),
            State::Kept(_) => vec![0],
        }
    }

    /// Type of the state's column in a partial.
    pub fn partial_type(&self) -> DataType {
        match self {
            State::Fold(fold) => fold.data_type.clone(),
            State::Sum(_) => exact::partial_type::<2>(),
            State::Squares(_) => exact::partial_type::<4>(),
            State::Text(text) => text.data_type.clone(),
            State::Pick(pick) => Pick::partial_type(&pick.data_type),
            State::Kept(kept) => kept.partial_type(),
        }
    }

    /// Does it want rows whose argument is NULL, too?
    pub fn takes_nulls(&self) -> bool {
        matches!(self, State::Pick(Pick { ignore_nulls: false, .. }))
    }

    /// Is it a single word that an operation folds?
    pub fn is_word(&self) -> bool {
        matches!(self, State::Fold(Fold { width: Width::Word, .. }))
    }

    pub fn update(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        rows: Rows<'_>,
        values: &Values<'_>,
        nulls: Option<&NullBuffer>,
        positions: &Positions<'_>,
    ) {
        match (self, values) {
            (State::Fold(fold), values) => fold.update(field, groups, values),
            (State::Sum(sum), Values::Floats(values)) => sum.update(field, groups, values),
            (State::Squares(sum), Values::Floats(values)) => sum.update(field, groups, values),
            (State::Text(text), Values::Bytes(bytes, rows)) => {
                let items = (0..rows.len()).map(|at| Some(bytes.value(rows.row(at) as usize)));
                text.fold(field, groups, items);
            }
            (State::Pick(pick), values) => {
                pick.update(field, groups, rows, values, nulls, positions);
            }
            _ => unreachable!("the layout gives a state values of its class"),
        }
    }

    /// Takes in the groups `from` of another table's state, as its own groups `to`.
    pub fn absorb(
        &mut self,
        field: &mut Field<'_>,
        to: &[u32],
        other: &State,
        other_field: FieldRef<'_>,
        from: &[u32],
    ) {
        match (self, other) {
            (State::Fold(fold), _) => fold.absorb(field, to, other_field, from),
            (State::Sum(sum), State::Sum(other)) => {
                sum.absorb(field, to, (other, other_field), from);
            }
            (State::Squares(sum), State::Squares(other)) => {
                sum.absorb(field, to, (other, other_field), from);
            }
            (State::Text(text), State::Text(other)) => {
                text.absorb(field, to, (other, other_field), from);
            }
            (State::Pick(pick), State::Pick(other)) => {
                pick.absorb(field, to, (other, other_field), from);
            }
            (State::Kept(kept), State::Kept(other)) => {
                kept.absorb(field, to, (other, other_field), from);
            }
            _ => unreachable!("tables of the same layout have the same states"),
        }
    }

    /// The state of these groups as a column of a partial.
    pub fn write(
        &self,
        field: FieldRef<'_>,
        groups: &[u32],
        present: Option<NullBuffer>,
    ) -> ArrayRef {
        match self {
            State::Fold(fold) => fold.write(field, groups, present),
            State::Sum(sum) => exact::write(sum, field, groups),
            State::Squares(sum) => exact::write(sum, field, groups),
            State::Text(text) => text.write(field, groups),
            State::Pick(pick) => pick.write(field, groups),
            State::Kept(kept) => kept.write(field, groups),
        }
    }

    /// Takes in a column that [`State::write`] made; row `i` belongs to `groups[i]`.
    pub fn merge(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        array: &ArrayRef,
        name: &str,
    ) -> Result<(), AggregateError> {
        match self {
            State::Fold(fold) => fold.merge(field, groups, array),
            State::Sum(sum) => exact::merge(sum, field, groups, array, name)?,
            State::Squares(sum) => exact::merge(sum, field, groups, array, name)?,
            State::Text(text) => text.merge(field, groups, array),
            State::Pick(pick) => pick.merge(field, groups, array),
            State::Kept(kept) => kept.merge(field, groups, array, name)?,
        }
        Ok(())
    }

    /// Gives up what a group holds outside of its words, which the table then resets.
    pub fn free(&mut self, field: &mut Field<'_>, group: u32) {
        match self {
            State::Fold(_) => {}
            State::Sum(sum) => sum.remove(group),
            State::Squares(sum) => sum.remove(group),
            State::Text(text) => text.arena.free(field.slot_mut(group, 0)),
            State::Pick(pick) => pick.free(field, group),
            State::Kept(kept) => kept.free(field, group),
        }
    }

    pub fn clear(&mut self) {
        match self {
            State::Fold(_) => {}
            State::Sum(sum) => sum.clear(),
            State::Squares(sum) => sum.clear(),
            State::Text(text) => text.arena.clear(),
            State::Pick(pick) => pick.arena.clear(),
            State::Kept(kept) => kept.clear(),
        }
    }

    pub fn bytes_held(&self) -> usize {
        match self {
            State::Fold(_) => 0,
            State::Sum(sum) => sum.bytes_held(),
            State::Squares(sum) => sum.bytes_held(),
            State::Text(text) => text.arena.bytes_held(),
            State::Pick(pick) => pick.arena.bytes_held(),
            State::Kept(kept) => kept.bytes_held(),
        }
    }
}
