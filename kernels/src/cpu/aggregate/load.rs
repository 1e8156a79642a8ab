//! Groups whose states were kept elsewhere, on a device, as groups of a table.

use arrow::array::ArrayRef;

use super::layout::Placed;
use super::state::State;
use super::table::GroupTable;
use crate::cpu::total::Total;
use crate::cpu::words::FieldRef;

/// One state of all groups, in their order.
pub(crate) enum Loaded {
    /// Words as the table keeps them.
    Words(Vec<u64>),
    Sums(Vec<Total<2>>),
    Squares(Vec<Total<4>>),
    /// As a partial has it.
    Column(ArrayRef),
}

impl GroupTable {
    /// Takes groups in: their packed keys, and a column for each count and state of the layout.
    ///
    /// Panics where the columns are not those of the layout.
    pub(crate) fn load(&mut self, keys: &[u64], columns: Vec<Loaded>) {
        let mut columns = columns.into_iter();
        let mut next = || columns.next().expect("a column for each count and state");
        let from: Vec<u32> = (0..keys.len() as u32).collect();
        let to = self.find_groups(keys);
        let (words, layout) = (&mut self.words, &mut self.layout);
        let add_counts = |words: &mut crate::cpu::words::Words, offset: usize, counts: Loaded| {
            let Loaded::Words(counts) = counts else { unreachable!("counts are words") };
            let mut field = words.field_mut(offset);
            for (&group, count) in to.iter().zip(counts) {
                *field.word_mut(group) += count;
            }
        };
        for filtered in &mut layout.filters {
            add_counts(words, filtered.rows, next());
            for input in &mut filtered.inputs {
                add_counts(words, input.nulls, next());
                for Placed { offset, state, .. } in &mut input.states {
                    let field = &mut words.field_mut(*offset);
                    match (state, next()) {
                        (State::Fold(fold), Loaded::Words(words)) => {
                            let stride = fold.template().len();
                            fold.absorb(field, &to, FieldRef::of(&words, stride), &from);
                        }
                        (State::Sum(sum), Loaded::Sums(totals)) => {
                            sum.combine(field, &to, totals.iter().cloned());
                        }
                        (State::Squares(sum), Loaded::Squares(totals)) => {
                            sum.combine(field, &to, totals.iter().cloned());
                        }
                        (State::Text(text), Loaded::Column(column)) => {
                            text.merge(field, &to, &column);
                        }
                        (State::Pick(pick), Loaded::Column(column)) => {
                            pick.merge(field, &to, &column);
                        }
                        _ => unreachable!("a column of the kind of its state"),
                    }
                }
            }
        }
    }
}
