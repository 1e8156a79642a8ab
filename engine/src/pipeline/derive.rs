//! The rows that expressions see: the batch's own, or those that explode and joins make of them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullArray, UInt32Array};
use arrow::compute::take;
use pelton_kernels::cpu::filter::select;
use pelton_kernels::cpu::split::{Words, split_by_byte};

use super::Grouping;
use super::fate::Fates;
use super::join;
use crate::batch::InputBatch;
use crate::plan::expr::Compiled;
use crate::plan::side::Lookup;
use crate::plan::{Derive, ExplodeList, Plan};

pub(super) struct Derived<'a> {
    columns: Cow<'a, [ArrayRef]>,
    rows: usize,
    /// Input row of each derived row, ascending; `None`: they are the same.
    parents: Option<Vec<u32>>,
    element_is_ids: bool,
    starts: Vec<u32>,
}

/// What rows are made by.
#[derive(Clone, Copy)]
pub(super) struct Make<'a> {
    pub plan: &'a Plan,
    /// What each join meets, in the order of the joins.
    pub tables: &'a [Arc<Lookup>],
    /// The input columns that something behind the first step reads.
    pub reads: &'a [bool],
}

impl<'a> Derived<'a> {
    pub(super) fn of(
        Make { plan, tables, reads }: Make<'_>,
        batch: &InputBatch<'a>,
        fates: &mut Fates,
        mut grouping: Option<&mut Grouping>,
    ) -> Derived<'a> {
        let mut tables = tables.iter();
        let mut derived = Derived::whole(batch);
        if plan.derive.is_empty() {
            return derived;
        }
        for step in &plan.derive {
            match step {
                Derive::Explode(explode) => {
                    derived.explode(&explode.list, fates, grouping.as_deref_mut(), reads);
                }
                Derive::Join(join) => {
                    let table = tables.next().expect("one table a join");
                    if join.below && join.kind.only_drops() {
                        derived.leave_dead(fates, reads);
                        continue;
                    }
                    join::run(join, table, &mut derived, fates, reads);
                }
            }
            if let Some(filter) = step.filter() {
                derived.filter(filter, fates, reads);
            }
        }
        let parents = derived.parents.as_deref();
        if let Some(parents) = parents {
            let childless = childless(parents, batch.rows);
            childless.into_iter().for_each(|row| fates.drop_row(row));
            let start = |&parent: &u32| batch.row_starts[parent as usize];
            derived.starts = parents.iter().map(start).collect();
        }
        derived
    }

    fn whole(batch: &InputBatch<'a>) -> Derived<'a> {
        Derived {
            columns: batch.columns.into(),
            rows: batch.rows,
            parents: None,
            element_is_ids: false,
            starts: Vec::new(),
        }
    }

    /// IN and EXISTS of WHERE, asked before any step: what they drop no watermark sees.
    pub(super) fn drop_below(
        Make { plan, tables, reads }: Make<'_>,
        batch: &InputBatch<'a>,
        fates: &mut Fates,
    ) {
        let joins = plan.derive.iter().filter_map(|step| match step {
            Derive::Join(join) => Some(join),
            Derive::Explode(_) => None,
        });
        for (join, table) in joins.zip(tables).filter(|(join, _)| join.below) {
            let mut derived = Derived::whole(batch);
            join::run(join, table, &mut derived, fates, reads);
            if let Some(filter) = &join.filter {
                derived.filter(filter, fates, reads);
            }
            if let Some(parents) = derived.parents() {
                childless(parents, batch.rows).into_iter().for_each(|row| fates.drop_below(row));
            }
        }
    }

    /// Goes on with the rows whose input row is alive.
    fn leave_dead(&mut self, fates: &mut Fates, reads: &[bool]) {
        if let Some(rows) = fates.surviving(self).map(<[u32]>::to_vec) {
            self.replace(rows, Vec::new(), reads);
        }
    }

    /// The input columns, then those that the steps added.
    pub(super) fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn parents(&self) -> Option<&[u32]> {
        self.parents.as_deref()
    }

    pub(super) fn element_is_ids(&self) -> bool {
        self.element_is_ids
    }

    /// The input row that a derived row comes from.
    pub(super) fn parent(&self, row: u32) -> u32 {
        self.parents.as_ref().map_or(row, |parents| parents[row as usize])
    }

    /// Where each derived row's bytes begin.
    pub(super) fn row_starts<'s>(&'s self, batch: &'s InputBatch<'_>) -> &'s [u32] {
        if self.parents.is_none() { batch.row_starts } else { &self.starts }
    }

    /// Values of an expression; a row at which it stops is rejected.
    pub(super) fn evaluate(&self, expression: &Compiled, fates: &mut Fates) -> ArrayRef {
        let evaluated = expression.evaluate(&self.columns, self.rows, fates.surviving(self));
        for (row, reason) in evaluated.errors {
            fates.reject_expression(self.parent(row), reason);
        }
        evaluated.values
    }

    /// Puts rows in place of the rows: `from[i]`, ascending, is the row that row `i` comes from.
    pub(super) fn replace(&mut self, from: Vec<u32>, added: Vec<ArrayRef>, reads: &[bool]) {
        let same =
            from.len() == self.rows && from.iter().zip(0u32..).all(|(from, row)| *from == row);
        let mut columns = match same {
            true => self.columns.to_vec(),
            false => expand(&self.columns, &from, reads),
        };
        columns.extend(added);
        self.rows = from.len();
        self.columns = columns.into();
        if !same || self.parents.is_some() {
            let parents = from.iter().map(|&row| self.parent(row)).collect();
            self.parents = Some(parents);
        }
    }

    fn explode(
        &mut self,
        list: &ExplodeList,
        fates: &mut Fates,
        grouping: Option<&mut Grouping>,
        reads: &[bool],
    ) {
        let (from, element) = match list {
            ExplodeList::SplitByByte { input, separator } => {
                let grouping = grouping.expect("words become ids only as a group key");
                self.element_is_ids = true;
                let text = &self.columns[*input];
                let (from, ids) = split_to_ids(text, *separator, fates, grouping);
                (from, Arc::new(UInt32Array::from(ids)) as ArrayRef)
            }
            ExplodeList::List(list) => {
                let lists = self.evaluate(list, fates);
                unnest(&lists, fates.surviving(self))
            }
        };
        self.replace(from, vec![element], reads);
    }

    fn filter(&mut self, filter: &Compiled, fates: &mut Fates, reads: &[bool]) {
        let mask = self.evaluate(filter, fates);
        let mut kept = Vec::new();
        select(mask.as_boolean(), &mut kept);
        if kept.len() < self.rows {
            self.replace(kept, Vec::new(), reads);
        }
    }
}

/// The words of each line that is alive, as ids.
fn split_to_ids(
    text: &ArrayRef,
    separator: u8,
    fates: &mut Fates,
    grouping: &mut Grouping,
) -> (Vec<u32>, Vec<u32>) {
    let text = text.as_string::<i32>();
    let key = grouping.key_of_element.expect("the element is a group key");
    let mut words = Words::default();
    match fates.alive_rows() {
        None => split_by_byte(text, separator, 0..text.len() as u32, &mut words),
        Some(rows) => split_by_byte(text, separator, rows.iter().copied(), &mut words),
    }
    let mut ids = Vec::with_capacity(words.len());
    let interner = grouping.space.interner_mut(key);
    interner.intern_spans(text.value_data(), &words.starts, &words.ends, &mut ids);
    (words.rows, ids)
}

/// Elements of the lists of the rows asked for, and the row of each.
fn unnest(lists: &ArrayRef, rows: Option<&[u32]>) -> (Vec<u32>, ArrayRef) {
    let lists = lists.as_list::<i32>();
    let (mut from, mut elements) = (Vec::new(), Vec::new());
    let mut take_row = |row: u32| {
        if lists.is_valid(row as usize) {
            let offsets = &lists.value_offsets()[row as usize..];
            from.extend((offsets[0]..offsets[1]).map(|_| row));
            elements.extend((offsets[0]..offsets[1]).map(|element| element as u32));
        }
    };
    match rows {
        None => (0..lists.len() as u32).for_each(&mut take_row),
        Some(rows) => rows.iter().copied().for_each(&mut take_row),
    }
    let elements = UInt32Array::from(elements);
    let values = take(lists.values(), &elements, None).expect("offsets are within the values");
    (from, values)
}

/// Each column that something reads, one value for each new row; those that steps added are read.
fn expand(columns: &[ArrayRef], from: &[u32], reads: &[bool]) -> Vec<ArrayRef> {
    let rows = UInt32Array::from(from.to_vec());
    let expand_column = |(index, column): (usize, &ArrayRef)| -> ArrayRef {
        if reads.get(index).copied().unwrap_or(true) {
            take(column, &rows, None).expect("row numbers are within the batch")
        } else {
            Arc::new(NullArray::new(from.len()))
        }
    };
    columns.iter().enumerate().map(expand_column).collect()
}

/// Rows that no derived row is left of.
fn childless(parents: &[u32], rows: usize) -> Vec<usize> {
    let mut has_child = vec![false; rows];
    for &parent in parents {
        has_child[parent as usize] = true;
    }
    (0..rows).filter(|&row| !has_child[row]).collect()
}
