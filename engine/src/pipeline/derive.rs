//! The rows that expressions see: the batch's own, or one for each element of an exploded list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullArray, UInt32Array};
use arrow::compute::take;
use pelton_kernels::cpu::filter::select;
use pelton_kernels::cpu::split::{Words, split_by_byte};

use super::Grouping;
use super::fate::{Fate, Fates};
use crate::batch::InputBatch;
use crate::plan::{Explode, ExplodeList, Plan};

pub(super) struct Derived<'a> {
    columns: std::borrow::Cow<'a, [ArrayRef]>,
    rows: usize,
    /// Input row of each derived row; `None`: they are the same.
    parents: Option<Vec<u32>>,
    element_is_ids: bool,
    starts: Vec<u32>,
}

impl<'a> Derived<'a> {
    pub(super) fn of(
        plan: &Plan,
        batch: &InputBatch<'a>,
        fates: &mut Fates,
        grouping: Option<&mut Grouping>,
        reads: &[bool],
    ) -> Derived<'a> {
        match &plan.explode {
            None => Derived {
                columns: batch.columns.into(),
                rows: batch.rows,
                parents: None,
                element_is_ids: false,
                starts: Vec::new(),
            },
            Some(explode) => explode_rows(explode, batch, fates, grouping, reads),
        }
    }

    /// The input columns, then the element where there is one.
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
}

fn explode_rows<'a>(
    explode: &Explode,
    batch: &InputBatch<'a>,
    fates: &mut Fates,
    grouping: Option<&mut Grouping>,
    reads: &[bool],
) -> Derived<'a> {
    let (mut parents, mut element, element_is_ids) = match &explode.list {
        ExplodeList::SplitByByte { input, separator } => {
            let grouping = grouping.expect("words become ids only as a group key");
            let (parents, ids) = split_to_ids(&batch.columns[*input], *separator, fates, grouping);
            (parents, Arc::new(UInt32Array::from(ids)) as ArrayRef, true)
        }
        ExplodeList::List(list) => {
            let evaluated = list.evaluate(batch.columns, batch.rows, fates.alive_rows());
            for (row, reason) in evaluated.errors {
                fates.reject_expression(row, reason);
            }
            let (parents, element) = unnest(&evaluated.values, fates);
            (parents, element, false)
        }
    };
    let mut columns = expand(batch.columns, &parents, reads);
    if let Some(filter) = &explode.filter {
        columns.push(element.clone());
        let evaluated = filter.evaluate(&columns, parents.len(), None);
        columns.pop();
        for (row, reason) in evaluated.errors {
            fates.reject_expression(parents[row as usize], reason);
        }
        let mut kept = Vec::new();
        select(evaluated.values.as_boolean(), &mut kept);
        let kept = UInt32Array::from(kept);
        element = take(&element, &kept, None).expect("row numbers are within the batch");
        parents = kept.values().iter().map(|&row| parents[row as usize]).collect();
        columns = expand(batch.columns, &parents, reads);
    }
    drop_childless(&parents, batch.rows, fates);
    columns.push(element);
    let starts = parents.iter().map(|&parent| batch.row_starts[parent as usize]).collect();
    Derived {
        rows: parents.len(),
        columns: columns.into(),
        parents: Some(parents),
        element_is_ids,
        starts,
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

/// Elements of the lists of rows that are alive, and the row of each.
fn unnest(lists: &ArrayRef, fates: &Fates) -> (Vec<u32>, ArrayRef) {
    let lists = lists.as_list::<i32>();
    let (mut parents, mut elements) = (Vec::new(), Vec::new());
    for row in 0..lists.len() {
        if lists.is_valid(row) && fates.of_row(row) == Fate::Alive {
            let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
            parents.extend((start..end).map(|_| row as u32));
            elements.extend((start..end).map(|element| element as u32));
        }
    }
    let elements = UInt32Array::from(elements);
    let values = take(lists.values(), &elements, None).expect("offsets are within the values");
    (parents, values)
}

/// Each input column that something reads, one value for each derived row.
fn expand(columns: &[ArrayRef], parents: &[u32], reads: &[bool]) -> Vec<ArrayRef> {
    let parents = UInt32Array::from(parents.to_vec());
    let expand_column = |(column, &read): (&ArrayRef, &bool)| -> ArrayRef {
        if read {
            take(column, &parents, None).expect("row numbers are within the batch")
        } else {
            Arc::new(NullArray::new(parents.len()))
        }
    };
    columns.iter().zip(reads).map(expand_column).collect()
}

/// A row that no derived row is left of was filtered.
fn drop_childless(parents: &[u32], rows: usize, fates: &mut Fates) {
    let mut has_child = vec![false; rows];
    for &parent in parents {
        has_child[parent as usize] = true;
    }
    for (row, has_child) in has_child.into_iter().enumerate() {
        if !has_child {
            fates.drop_row(row);
        }
    }
}
