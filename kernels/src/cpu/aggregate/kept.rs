//! States of no fixed width: the different values of a group, its values in order, the row with the
//! least or greatest, sketches, sums of powers.
//!
//! A group's word is the number of its slot plus one, or 0 before its first value. What a slot holds
//! is a function of the set of the group's rows; its column in a partial (`partial`) has one normal
//! form.

mod partial;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};

use super::Positions;
use super::datum::{Data, Datum};
use super::moments::{Moments, Of};
use super::sketch;
use crate::cpu::column::Rows;
use crate::cpu::words::{Field, FieldRef};

/// Different values that an approximate quantile keeps; Spark's default accuracy.
pub(super) const QUANTILE_VALUES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The different values and how often each came; `bounded`: at most so many, by leaving out
    /// their last bits.
    Values {
        bounded: bool,
    },
    /// All values by position.
    Items,
    /// Of a struct of value and order: the value beside the least or greatest order, of equals the
    /// last by position.
    Best {
        greatest: bool,
    },
    Sketch {
        precision: u8,
    },
    Moments(Of),
}

pub(crate) struct Kept {
    pub what: What,
    /// Of the argument.
    pub data_type: DataType,
    slots: Vec<Option<Box<Content>>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Values(Values),
    Items(Vec<(Place, Datum)>),
    Best { order: Datum, place: Place, value: Option<Datum> },
    Sketch(Box<[u8]>),
    Moments(Moments),
}

/// Split, major, minor.
pub(crate) type Place = (u32, u64, u64);

/// Values by how often they came. Up to `level` last bits of each are left out: the least level at
/// which few enough remain, so it is a function of the set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub counts: BTreeMap<Datum, u64>,
    pub level: u8,
}

impl Values {
    fn add(&mut self, value: Datum, count: u64, bounded: bool) {
        *self.counts.entry(cut(value, self.level)).or_default() += count;
        while bounded && self.counts.len() > QUANTILE_VALUES_MAX {
            self.coarsen(self.level + 1);
        }
    }

    fn coarsen(&mut self, level: u8) {
        self.level = level;
        for (value, count) in std::mem::take(&mut self.counts) {
            *self.counts.entry(cut(value, level)).or_default() += count;
        }
    }

    fn merge(&mut self, other: &Values, bounded: bool) {
        if other.level > self.level {
            self.coarsen(other.level);
        }
        for (value, count) in &other.counts {
            self.add(value.clone(), *count, bounded);
        }
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The value at a rank from 0 on.
    pub fn at(&self, rank: u64) -> Option<&Datum> {
        let mut passed = 0;
        self.counts
            .iter()
            .find(|(_, count)| {
                passed += **count;
                passed > rank
            })
            .map(|(value, _)| value)
    }
}

fn cut(value: Datum, level: u8) -> Datum {
    match value {
        value if level == 0 => value,
        Datum::Int(value) => Datum::Int(value >> level << level),
        Datum::Decimal(value) => Datum::Decimal(value >> level << level),
        value => value,
    }
}

impl Kept {
    pub fn new(what: What, data_type: DataType) -> Self {
        Kept { what, data_type, slots: Vec::new(), free: Vec::new() }
    }

    pub fn get(&self, field: FieldRef<'_>, group: u32) -> Option<&Content> {
        let slot = field.word(group).checked_sub(1)?;
        self.slots[slot as usize].as_deref()
    }

    /// A group's content, made if missing.
    fn content(&mut self, field: &mut Field<'_>, group: u32) -> &mut Content {
        let word = field.word_mut(group);
        if *word == 0 {
            let content = Some(Box::new(self.what.empty()));
            let slot = match self.free.pop() {
                Some(slot) => {
                    self.slots[slot as usize] = content;
                    slot as usize
                }
                None => {
                    self.slots.push(content);
                    self.slots.len() - 1
                }
            };
            *word = slot as u64 + 1;
        }
        let slot = (*word - 1) as usize;
        self.slots[slot].as_mut().expect("a group's slot is taken")
    }

    /// `rows` are those whose argument is not NULL; a struct never is.
    pub fn update(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        rows: Rows<'_>,
        array: &ArrayRef,
        positions: &Positions<'_>,
    ) {
        let place = |row: usize| -> Place {
            let minor = positions.minor + u64::from(positions.offsets[row]);
            (positions.split, positions.major, minor)
        };
        match self.what {
            What::Values { bounded } => {
                let data = Data::of(array);
                self.each(field, groups, rows, |content, row| {
                    if let Content::Values(values) = content {
                        values.add(data.get(row), 1, bounded);
                    }
                });
            }
            What::Items => {
                let data = Data::exact(array);
                self.each(field, groups, rows, |content, row| {
                    if let Content::Items(items) = content {
                        items.push((place(row), data.get(row)));
                    }
                });
            }
            What::Best { greatest } => self.best(field, groups, rows, array, greatest, place),
            What::Sketch { .. } => {
                let hashes = sketch::hashes(array, rows);
                for (at, &group) in groups.iter().enumerate() {
                    if let Content::Sketch(registers) = self.content(field, group) {
                        sketch::insert(registers, hashes[at]);
                    }
                }
            }
            What::Moments(Of::One) => {
                let values = array.as_primitive::<Float64Type>();
                self.each(field, groups, rows, |content, row| {
                    if let Content::Moments(moments) = content {
                        moments.add_one(values.value(row));
                    }
                });
            }
            What::Moments(Of::Two) => {
                let pair = array.as_struct();
                let [x, y] = [0, 1].map(|index| pair.column(index).as_primitive::<Float64Type>());
                for (at, &group) in groups.iter().enumerate() {
                    let row = rows.row(at) as usize;
                    if x.is_valid(row)
                        && y.is_valid(row)
                        && let Content::Moments(moments) = self.content(field, group)
                    {
                        moments.add_two(x.value(row), y.value(row));
                    }
                }
            }
        }
    }

    fn each(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        rows: Rows<'_>,
        mut take: impl FnMut(&mut Content, usize),
    ) {
        for (at, &group) in groups.iter().enumerate() {
            take(self.content(field, group), rows.row(at) as usize);
        }
    }

    fn best(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        rows: Rows<'_>,
        array: &ArrayRef,
        greatest: bool,
        place: impl Fn(usize) -> Place,
    ) {
        let pair = array.as_struct();
        let (values, orders) = (pair.column(0), pair.column(1));
        let (of_values, of_orders) = (Data::exact(values), Data::of(orders));
        for (at, &group) in groups.iter().enumerate() {
            let row = rows.row(at) as usize;
            if orders.is_null(row) {
                continue;
            }
            let new = (of_orders.get(row), place(row));
            if *field.word_mut(group) != 0 && !self.content(field, group).loses(&new, greatest) {
                continue;
            }
            let value = values.is_valid(row).then(|| of_values.get(row));
            *self.content(field, group) = Content::Best { order: new.0, place: new.1, value };
        }
    }

    /// Takes in another state's content as a group's own.
    fn take(&mut self, field: &mut Field<'_>, group: u32, other: &Content) {
        if *field.word_mut(group) == 0 {
            *self.content(field, group) = other.clone();
            return;
        }
        let what = self.what;
        match (self.content(field, group), other) {
            (Content::Values(own), Content::Values(other)) => {
                own.merge(other, what == What::Values { bounded: true });
            }
            (Content::Items(own), Content::Items(other)) => own.extend(other.iter().cloned()),
            (own @ Content::Best { .. }, Content::Best { order, place, .. }) => {
                let greatest = what == What::Best { greatest: true };
                if own.loses(&(order.clone(), *place), greatest) {
                    *own = other.clone();
                }
            }
            (Content::Sketch(own), Content::Sketch(other)) => sketch::merge(own, other),
            (Content::Moments(own), Content::Moments(other)) => own.merge(other),
            _ => unreachable!("states of one layout hold one kind of content"),
        }
    }

    pub fn absorb(
        &mut self,
        field: &mut Field<'_>,
        to: &[u32],
        (other, other_field): (&Self, FieldRef<'_>),
        from: &[u32],
    ) {
        for (&group, &source) in to.iter().zip(from) {
            if let Some(content) = other.get(other_field, source) {
                self.take(field, group, content);
            }
        }
    }

    pub fn free(&mut self, field: &mut Field<'_>, group: u32) {
        if let Some(slot) = field.word_mut(group).checked_sub(1) {
            self.slots[slot as usize] = None;
            self.free.push(slot as u32);
        }
    }

    pub fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
    }

    pub fn bytes_held(&self) -> usize {
        let slots = self.slots.iter().flatten();
        self.slots.capacity() * size_of::<usize>()
            + slots.map(|content| size_of::<Content>() + content.bytes_held()).sum::<usize>()
    }
}

impl What {
    fn empty(self) -> Content {
        match self {
            What::Values { .. } => Content::Values(Values::default()),
            What::Items => Content::Items(Vec::new()),
            What::Best { .. } => {
                // Overwritten at once by the first candidate.
                Content::Best { order: Datum::Int(0), place: (0, 0, 0), value: None }
            }
            What::Sketch { precision } => Content::Sketch(sketch::empty(precision)),
            What::Moments(of) => Content::Moments(Moments::new(of)),
        }
    }
}

impl Content {
    /// Whether a new row takes the place of the best so far.
    fn loses(&self, (new, new_place): &(Datum, Place), greatest: bool) -> bool {
        let Content::Best { order, place, .. } = self else {
            unreachable!("only the best is compared")
        };
        match new.cmp(order) {
            std::cmp::Ordering::Equal => new_place >= place,
            std::cmp::Ordering::Greater => greatest,
            std::cmp::Ordering::Less => !greatest,
        }
    }

    fn bytes_held(&self) -> usize {
        match self {
            Content::Values(values) => {
                let keys =
                    values.counts.keys().map(|key| key.bytes_held() + size_of::<(Datum, u64)>());
                keys.sum()
            }
            Content::Items(items) => {
                items.iter().map(|(_, v)| v.bytes_held() + size_of::<(Place, Datum)>()).sum()
            }
            Content::Best { order, value, .. } => {
                order.bytes_held() + value.as_ref().map_or(0, Datum::bytes_held)
            }
            Content::Sketch(registers) => registers.len(),
            Content::Moments(moments) => moments.bytes_held(),
        }
    }
}
