//! First and last value of a group by position.
//!
//! Words: the rank of the split (its number + 1) and a bit for NULL, major, minor, then the value.
//! A group without a row has the rank that loses to every other.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt32Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, UInt32Type, UInt64Type};

use super::Positions;
use super::arena::Arena;
use super::fold::pair;
use super::state::Values;
use crate::cpu::column::{
    BytesColumn, Class, Rows, narrow_bytes, narrow_decimals, narrow_floats, narrow_ints,
};
use crate::cpu::words::{Field, FieldRef};

/// Where the value's words begin.
const VALUE: usize = 3;

pub(crate) struct Pick {
    pub last: bool,
    pub ignore_nulls: bool,
    pub data_type: DataType,
    pub class: Class,
    pub arena: Arena,
}

/// A row that may become a group's first or last.
struct Candidate {
    /// `rank << 1 | is NULL`.
    meta: u64,
    major: u64,
    minor: u64,
}

impl Pick {
    pub fn template(&self) -> Vec<u64> {
        let value: &[u64] = match self.class {
            Class::Int | Class::Float => &[0],
            Class::Decimal => &[0; 2],
            Class::Bytes => &Arena::EMPTY,
        };
        [&[self.unset(), 0, 0], value].concat()
    }

    fn unset(&self) -> u64 {
        if self.last { 0 } else { u64::MAX }
    }

    pub fn partial_type(data_type: &DataType) -> DataType {
        DataType::Struct(Self::partial_fields(data_type))
    }

    pub fn partial_fields(data_type: &DataType) -> Fields {
        Fields::from(vec![
            ArrowField::new("split", DataType::UInt32, false),
            ArrowField::new("major", DataType::UInt64, false),
            ArrowField::new("minor", DataType::UInt64, false),
            ArrowField::new("value", data_type.clone(), true),
        ])
    }

    /// `values` are those of `rows`, NULLs included.
    pub fn update(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        rows: Rows<'_>,
        values: &Values<'_>,
        nulls: Option<&NullBuffer>,
        positions: &Positions<'_>,
    ) {
        let rank = (u64::from(positions.split) + 1) << 1;
        let candidate = |at: usize| {
            let row = rows.row(at) as usize;
            let null = nulls.is_some_and(|nulls| nulls.is_null(row));
            let minor = positions.minor + u64::from(positions.offsets[row]);
            Some(Candidate { meta: rank | u64::from(null), major: positions.major, minor })
        };
        self.place_all(field, groups, candidate, values);
    }

    pub fn absorb(
        &mut self,
        field: &mut Field<'_>,
        to: &[u32],
        other: (&Self, FieldRef<'_>),
        from: &[u32],
    ) {
        let (other, other_field) = other;
        for (&group, &source) in to.iter().zip(from) {
            let [meta, major, minor] = other_field.limbs(source);
            if meta == self.unset() || !self.wins(field, group, &Candidate { meta, major, minor }) {
                continue;
            }
            match self.class {
                Class::Bytes => {
                    if let Some(value) = other.arena.get(other_field.skip(VALUE).limbs(source)) {
                        self.arena.set(field.slot_mut(group, VALUE), value);
                    }
                }
                Class::Decimal => {
                    *field.slot_mut::<2>(group, VALUE) = other_field.skip(VALUE).limbs(source);
                }
                _ => field.slot_mut::<1>(group, VALUE)[0] = other_field.skip(VALUE).word(source),
            }
        }
        self.arena.compact_if_sparse(field, VALUE);
    }

    pub fn write(&self, field: FieldRef<'_>, groups: &[u32]) -> ArrayRef {
        let set = groups.iter().map(|&group| field.word(group) != self.unset());
        let set = Some(NullBuffer::from_iter(set)).filter(|set| set.null_count() > 0);
        let word = |place: usize| {
            move |&group: &u32| match field.word(group) == self.unset() {
                true => 0,
                false => field.skip(place).word(group),
            }
        };
        let split = groups.iter().map(word(0)).map(|meta| ((meta >> 1).max(1) - 1) as u32);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(split)),
            Arc::new(UInt64Array::from_iter_values(groups.iter().map(word(1)))),
            Arc::new(UInt64Array::from_iter_values(groups.iter().map(word(2)))),
            self.values(field, groups),
        ];
        Arc::new(StructArray::new(Self::partial_fields(&self.data_type), columns, set))
    }

    /// The values alone: NULL where there was no row, or the row's value was NULL.
    pub fn values(&self, field: FieldRef<'_>, groups: &[u32]) -> ArrayRef {
        let valid = |group: u32| {
            let meta = field.word(group);
            meta != self.unset() && meta & 1 == 0
        };
        let nulls = NullBuffer::from_iter(groups.iter().map(|&group| valid(group)));
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        let value = field.skip(VALUE);
        let word = |&group: &u32| if valid(group) { value.word(group) } else { 0 };
        match self.class {
            Class::Int => {
                let values = groups.iter().map(|group| word(group) as i64).collect();
                narrow_ints(&self.data_type, values, nulls)
            }
            Class::Float => {
                let values = groups.iter().map(|group| f64::from_bits(word(group))).collect();
                narrow_floats(&self.data_type, values, nulls)
            }
            Class::Decimal => {
                let number = |&group: &u32| if valid(group) { pair(value.limbs(group)) } else { 0 };
                narrow_decimals(&self.data_type, groups.iter().map(number).collect(), nulls)
            }
            Class::Bytes => {
                let text = |&group: &u32| self.arena.get(value.limbs(group));
                let items = groups.iter().map(|group| text(group).filter(|_| valid(*group)));
                narrow_bytes(&self.data_type, items)
            }
        }
    }

    pub fn merge(&mut self, field: &mut Field<'_>, groups: &[u32], array: &ArrayRef) {
        let array = array.as_struct();
        let splits = array.column(0).as_primitive::<UInt32Type>().values();
        let majors = array.column(1).as_primitive::<UInt64Type>().values();
        let minors = array.column(2).as_primitive::<UInt64Type>().values();
        let values = array.column(3);
        let candidate = |row: usize| {
            array.is_valid(row).then(|| Candidate {
                meta: (u64::from(splits[row]) + 1) << 1 | u64::from(values.is_null(row)),
                major: majors[row],
                minor: minors[row],
            })
        };
        let rows = Rows::All(array.len());
        let mut scratch = super::state::Scratch::default();
        let values = Values::new(self.class, values, rows, &mut scratch);
        self.place_all(field, groups, candidate, &values);
    }

    pub fn free(&mut self, field: &mut Field<'_>, group: u32) {
        if self.class == Class::Bytes {
            self.arena.free(field.slot_mut(group, VALUE));
        }
    }

    fn place_all(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        candidate: impl Fn(usize) -> Option<Candidate>,
        values: &Values<'_>,
    ) {
        match values {
            Values::Ints(values) => self.place(field, groups, candidate, |field, group, at| {
                field.slot_mut::<1>(group, VALUE)[0] = values[at] as u64;
            }),
            Values::Floats(values) => self.place(field, groups, candidate, |field, group, at| {
                field.slot_mut::<1>(group, VALUE)[0] = values[at].to_bits();
            }),
            Values::Decimals(values) => self.place(field, groups, candidate, |field, group, at| {
                let value = values[at];
                *field.slot_mut(group, VALUE) = [value as u64, (value >> 64) as u64];
            }),
            Values::Bytes(values, rows) => {
                let mut arena = std::mem::take(&mut self.arena);
                self.place(field, groups, candidate, |field, group, at| {
                    let value = value_of(values, *rows, at);
                    arena.set(field.slot_mut(group, VALUE), value);
                });
                arena.compact_if_sparse(field, VALUE);
                self.arena = arena;
            }
        }
    }

    /// Writes the value of every candidate that wins and is not NULL by `set`.
    #[inline(always)]
    fn place(
        &self,
        field: &mut Field<'_>,
        groups: &[u32],
        candidate: impl Fn(usize) -> Option<Candidate>,
        mut set: impl FnMut(&mut Field<'_>, u32, usize),
    ) {
        for (at, &group) in groups.iter().enumerate() {
            if let Some(candidate) = candidate(at)
                && self.wins(field, group, &candidate)
                && candidate.meta & 1 == 0
            {
                set(field, group, at);
            }
        }
    }

    /// Takes the candidate's position where it wins.
    #[inline(always)]
    fn wins(&self, field: &mut Field<'_>, group: u32, candidate: &Candidate) -> bool {
        let held = field.slot_mut::<3>(group, 0);
        let new = (candidate.meta >> 1, candidate.major, candidate.minor);
        let old = (held[0] >> 1, held[1], held[2]);
        let wins = if self.last { new >= old } else { new < old };
        if wins {
            *held = [candidate.meta, candidate.major, candidate.minor];
        }
        wins
    }
}

fn value_of<'a>(values: &BytesColumn<'a>, rows: Rows<'_>, at: usize) -> &'a [u8] {
    values.value(rows.row(at) as usize)
}
