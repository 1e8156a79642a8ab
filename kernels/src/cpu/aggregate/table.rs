//! The groups of a query and their states: rows in, partials in and out, values out.
//!
//! Invariant: what comes out for a group is a function of the set of its rows. A group that is not
//! live holds the template of the layout, so that a number can be given again without work.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, SchemaRef, UInt64Type};

use super::error::AggregateError;
use super::fold::update_extremes;
use super::layout::{Filtered, Input, Layout, Placed};
use super::state::{Scratch, State, Values};
use super::{Call, Positions};
use crate::cpu::column::{Class, Rows};
use crate::cpu::groups::GroupMap;
use crate::cpu::keys::{KeyInput, KeySpace};
use crate::cpu::words::{FieldRef, Words};

pub struct GroupTable {
    groups: GroupMap,
    pub(super) words: Words,
    pub(super) layout: Layout,
    schema: SchemaRef,
    key_fields: Vec<Field>,
    calls: Vec<Call>,
    scratch: Buffers,
}

/// Kept from batch to batch, so that a batch allocates nothing once the largest one was seen.
#[derive(Default)]
struct Buffers {
    groups: Vec<u32>,
    passing: Lanes,
    valid: Lanes,
    values: Scratch,
}

/// Rows of a batch that a state sees, and their groups.
#[derive(Default)]
struct Lanes {
    groups: Vec<u32>,
    rows: Vec<u32>,
}

impl Lanes {
    fn select(&mut self, groups: &[u32], rows: Rows<'_>, keep: impl Fn(usize) -> bool) {
        self.groups.clear();
        self.rows.clear();
        for (at, &group) in groups.iter().enumerate() {
            let row = rows.row(at);
            if keep(row as usize) {
                self.groups.push(group);
                self.rows.push(row);
            }
        }
    }

    fn bytes_held(&self) -> usize {
        (self.groups.capacity() + self.rows.capacity()) * size_of::<u32>()
    }
}

impl GroupTable {
    /// A table of the groups with these keys. Panics on an aggregate that `is_supported` refuses.
    pub fn new(key_fields: &[Field], calls: &[Call]) -> Self {
        let layout = Layout::new(calls);
        GroupTable {
            groups: GroupMap::new(),
            words: Words::new(layout.template.clone()),
            schema: layout.schema(key_fields),
            layout,
            key_fields: key_fields.to_vec(),
            calls: calls.to_vec(),
            scratch: Buffers::default(),
        }
    }

    /// Schema of this table's partials.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn groups(&self) -> &GroupMap {
        &self.groups
    }

    /// Everything on the heap but the key space.
    pub fn bytes_held(&self) -> usize {
        let states = self.layout.filters.iter().flat_map(|filtered| &filtered.inputs);
        let states = states.flat_map(|input| &input.states);
        self.groups.bytes_held()
            + self.words.bytes_held()
            + states.map(|placed| placed.state.bytes_held()).sum::<usize>()
            + self.scratch.groups.capacity() * size_of::<u32>()
            + self.scratch.passing.bytes_held()
            + self.scratch.valid.bytes_held()
            + self.scratch.values.bytes_held()
    }

    /// Makes room for so many groups in all.
    pub fn reserve(&mut self, groups: usize) {
        self.groups.reserve(groups);
        self.words.reserve(groups);
    }

    /// The group of a key, made if missing: `GROUP BY ()` has one before its first row.
    pub fn ensure(&mut self, key: u64) -> u32 {
        let group = self.groups.find_or_insert(key);
        self.words.grow(self.groups.capacity());
        group
    }

    /// Takes rows in.
    ///
    /// Shapes: `keys` has one packed key for each of `rows`; `arguments` and the offsets of
    /// `positions` (needed by `first` and `last` alone) are of full length.
    /// Cost: a lookup a row, then one pass over the rows for each state.
    pub fn update(
        &mut self,
        keys: &[u64],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        positions: &Positions<'_>,
    ) {
        assert_eq!(keys.len(), rows.len(), "one key a row");
        let Buffers { groups, passing, valid, values } = &mut self.scratch;
        groups.clear();
        self.groups.find_all(keys, groups);
        self.words.grow(self.groups.capacity());
        for filtered in &mut self.layout.filters {
            let (groups, rows) = match filtered.filter {
                None => (&groups[..], rows),
                Some(filter) => {
                    let filter = arguments[filter].as_boolean();
                    passing.select(groups, rows, |row| filter.is_valid(row) && filter.value(row));
                    (&passing.groups[..], Rows::Selected(&passing.rows))
                }
            };
            let mut field = self.words.field_mut(filtered.rows);
            groups.iter().for_each(|&group| *field.word_mut(group) += 1);
            for input in &mut filtered.inputs {
                let array = &arguments[input.argument];
                update_input(
                    &mut self.words,
                    input,
                    (groups, rows),
                    array,
                    valid,
                    values,
                    positions,
                );
            }
        }
    }

    /// The groups of distinct keys, made if missing.
    pub(super) fn find_groups(&mut self, keys: &[u64]) -> Vec<u32> {
        let mut groups = Vec::with_capacity(keys.len());
        self.groups.reserve(keys.len());
        self.groups.find_all(keys, &mut groups);
        self.words.grow(self.groups.capacity());
        groups
    }

    /// Takes in the groups of another table of the same calls and the same key space.
    pub fn absorb(&mut self, other: &GroupTable) {
        let from = other.groups.iter().collect::<Vec<_>>();
        let keys = from.iter().map(|&group| other.groups.key(group)).collect::<Vec<_>>();
        self.absorb_as(other, &from, &keys);
    }

    /// Takes in groups of another table under the keys given.
    fn absorb_as(&mut self, other: &GroupTable, from: &[u32], keys: &[u64]) {
        let mut to = Vec::with_capacity(keys.len());
        // They are distinct: the table will hold at least as many.
        self.groups.reserve(keys.len());
        self.groups.find_all(keys, &mut to);
        self.words.grow(self.groups.capacity());
        for (filtered, other_filtered) in self.layout.filters.iter_mut().zip(&other.layout.filters)
        {
            let counts = other_filtered.inputs.iter().map(|input| input.nulls);
            for offset in counts.chain([other_filtered.rows]) {
                let theirs = other.words.field(offset);
                let mut field = self.words.field_mut(offset);
                for (&to, &from) in to.iter().zip(from) {
                    *field.word_mut(to) += theirs.word(from);
                }
            }
            for (input, other_input) in filtered.inputs.iter_mut().zip(&other_filtered.inputs) {
                for (placed, theirs) in input.states.iter_mut().zip(&other_input.states) {
                    let Placed { offset, state, .. } = placed;
                    let their_field = other.words.field(*offset);
                    let field = &mut self.words.field_mut(*offset);
                    state.absorb(field, &to, &theirs.state, their_field, from);
                }
            }
        }
    }

    /// The groups asked for, or all by number, as a partial: one row each, in this order.
    ///
    /// A row is a function of its group's key and set of rows. Text of more than 2 GiB does not fit
    /// one batch: ask for fewer groups at a time.
    pub fn partial(&self, space: &KeySpace, groups: Option<&[u32]>) -> RecordBatch {
        let all;
        let groups = match groups {
            Some(groups) => groups,
            None => {
                all = self.groups.iter().collect::<Vec<_>>();
                &all[..]
            }
        };
        let keys = groups.iter().map(|&group| self.groups.key(group)).collect::<Vec<_>>();
        let mut columns = space.decode(&keys);
        for filtered in &self.layout.filters {
            columns.push(self.counts(filtered.rows, groups));
            for input in &filtered.inputs {
                columns.push(self.counts(input.nulls, groups));
                let present = self.present(filtered, input, groups);
                for Placed { offset, state, .. } in &input.states {
                    columns.push(state.write(self.words.field(*offset), groups, present.clone()));
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("the columns follow the layout, as the schema does")
    }

    /// Takes a partial in, appending the group of each of its rows to `touched`.
    pub fn merge(
        &mut self,
        space: &mut KeySpace,
        partial: &RecordBatch,
        touched: &mut Vec<u32>,
    ) -> Result<(), AggregateError> {
        self.check_schema(partial)?;
        let rows = Rows::All(partial.num_rows());
        let (key_columns, states) = partial.columns().split_at(self.key_fields.len());
        let inputs = key_columns.iter().map(KeyInput::Values).collect::<Vec<_>>();
        let mut keys = Vec::with_capacity(partial.num_rows());
        space.encode(&inputs, rows, &mut keys);
        let start = touched.len();
        // The keys of a partial are distinct: the table will hold at least as many.
        self.groups.reserve(keys.len());
        self.groups.find_all(&keys, touched);
        let groups = &touched[start..];
        self.words.grow(self.groups.capacity());
        let mut columns = states.iter().zip(&self.schema.fields()[self.key_fields.len()..]);
        let mut next = || columns.next().expect("the schema was compared");
        for filtered in &mut self.layout.filters {
            let (passing, name) = next();
            add_counts(&mut self.words, filtered.rows, groups, passing, name)?;
            for input in &mut filtered.inputs {
                let (nulls, name) = next();
                add_counts(&mut self.words, input.nulls, groups, nulls, name)?;
                for Placed { offset, state, .. } in &mut input.states {
                    let (array, name) = next();
                    state.merge(&mut self.words.field_mut(*offset), groups, array, name.name())?;
                }
            }
        }
        Ok(())
    }

    /// Forgets groups; their numbers go to later ones. Panics where one is not live.
    pub fn remove(&mut self, groups: &[u32]) {
        for &group in groups {
            self.groups.remove(group);
            for input in self.layout.filters.iter_mut().flat_map(|filtered| &mut filtered.inputs) {
                for Placed { offset, state, .. } in &mut input.states {
                    state.free(&mut self.words.field_mut(*offset), group);
                }
            }
            self.words.reset(group);
        }
    }

    /// Forgets all groups; keeps memory for as many again.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.words.clear();
        for input in self.layout.filters.iter_mut().flat_map(|filtered| &mut filtered.inputs) {
            input.states.iter_mut().for_each(|placed| placed.state.clear());
        }
    }

    /// Builds table and key space anew from the live groups, **which get new numbers**: ids, text
    /// and slots of those that are gone are given back.
    ///
    /// Cost: that of a merge of all live groups; both copies are there for a moment.
    pub fn compact(&mut self, space: &mut KeySpace) {
        let from = self.groups.iter().collect::<Vec<_>>();
        let keys = from.iter().map(|&group| self.groups.key(group)).collect::<Vec<_>>();
        let arrays = space.decode(&keys);
        let types = space.types().cloned().collect::<Vec<_>>();
        let mut fresh_space = KeySpace::new(&types);
        let mut fresh_keys = Vec::with_capacity(keys.len());
        let inputs = arrays.iter().map(KeyInput::Values).collect::<Vec<_>>();
        fresh_space.encode(&inputs, Rows::All(keys.len()), &mut fresh_keys);
        let mut fresh = GroupTable::new(&self.key_fields, &self.calls);
        fresh.absorb_as(self, &from, &fresh_keys);
        (*self, *space) = (fresh, fresh_space);
    }

    pub(super) fn field(&self, offset: usize) -> FieldRef<'_> {
        self.words.field(offset)
    }

    /// Which groups had a value of the input that is not NULL; none where all had.
    pub(super) fn present(
        &self,
        filtered: &Filtered,
        input: &Input,
        groups: &[u32],
    ) -> Option<NullBuffer> {
        let (rows, nulls) = (self.words.field(filtered.rows), self.words.field(input.nulls));
        let valid = |&group: &u32| rows.word(group) > nulls.word(group);
        let all = groups.iter().all(valid);
        (!all).then(|| NullBuffer::from_iter(groups.iter().map(valid)))
    }

    fn counts(&self, offset: usize, groups: &[u32]) -> ArrayRef {
        let field = self.words.field(offset);
        Arc::new(UInt64Array::from_iter_values(groups.iter().map(|&group| field.word(group))))
    }

    fn check_schema(&self, partial: &RecordBatch) -> Result<(), AggregateError> {
        let (expected, found) = (self.schema.fields(), partial.schema_ref().fields());
        if expected.len() != found.len() {
            let reason = format!("expected {} columns, found {}", expected.len(), found.len());
            return Err(AggregateError::corrupt("", reason));
        }
        for (expected, found) in expected.iter().zip(found) {
            if expected.data_type() != found.data_type() {
                let reason =
                    format!("expected {}, found {}", expected.data_type(), found.data_type());
                return Err(AggregateError::corrupt(expected.name(), reason));
            }
        }
        Ok(())
    }
}

fn update_input(
    words: &mut Words,
    input: &mut Input,
    (groups, rows): (&[u32], Rows<'_>),
    array: &ArrayRef,
    valid: &mut Lanes,
    scratch: &mut Scratch,
    positions: &Positions<'_>,
) {
    debug_assert_eq!(array.data_type(), &input.data_type, "arguments have their planned types");
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    let (valid_groups, valid_rows) = match &nulls {
        None => (groups, rows),
        Some(nulls) => {
            let mut field = words.field_mut(input.nulls);
            for (at, &group) in groups.iter().enumerate() {
                *field.word_mut(group) += u64::from(nulls.is_null(rows.row(at) as usize));
            }
            valid.select(groups, rows, |row| nulls.is_valid(row));
            (&valid.groups[..], Rows::Selected(&valid.rows))
        }
    };
    for Placed { offset, state, .. } in &mut input.states {
        if let State::Kept(kept) = state {
            let field = &mut words.field_mut(*offset);
            kept.update(field, valid_groups, valid_rows, array, positions);
        }
    }
    let Some(class) = Class::of(&input.data_type) else { return };
    let all_rows = nulls.is_none();
    for take_nulls in [false, true] {
        let words_alone = |placed: &&mut Placed| !matches!(placed.state, State::Kept(_));
        let mut states = input.states.iter_mut().filter(words_alone);
        let mut states = states.by_ref().filter(|placed| match all_rows {
            // Without NULLs there is one kind of rows, and one pass for all states.
            true => !take_nulls,
            false => placed.state.takes_nulls() == take_nulls,
        });
        let Some(first) = states.next() else { continue };
        let (groups, rows) = if take_nulls { (groups, rows) } else { (valid_groups, valid_rows) };
        let values = Values::new(class, array, rows, scratch);
        let extremes = input.extremes.filter(|_| !take_nulls);
        if let Some(offsets) = extremes {
            update_extremes(&mut words.field_mut(0), offsets, groups, &values);
        }
        let rest = std::iter::once(first).chain(states);
        let rest = rest.filter(|p| extremes.is_none_or(|extremes| !extremes.contains(&p.offset)));
        for Placed { offset, state, .. } in rest {
            let field = &mut words.field_mut(*offset);
            state.update(field, groups, rows, &values, nulls.as_ref(), positions);
        }
    }
}

fn add_counts(
    words: &mut Words,
    offset: usize,
    groups: &[u32],
    array: &ArrayRef,
    name: &Field,
) -> Result<(), AggregateError> {
    if array.null_count() > 0 {
        return Err(AggregateError::corrupt(name.name(), "a count is NULL"));
    }
    let mut field = words.field_mut(offset);
    for (&group, &count) in groups.iter().zip(array.as_primitive::<UInt64Type>().values()) {
        let word = field.word_mut(group);
        *word = word.checked_add(count).ok_or_else(|| {
            AggregateError::corrupt(name.name(), format!("a count of {count} is too large"))
        })?;
    }
    Ok(())
}
