//! Least and greatest text of a group, in the order of its bytes.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;

use super::arena::Arena;
use crate::cpu::column::{BytesColumn, narrow_bytes};
use crate::cpu::words::{Field, FieldRef};

pub(crate) struct TextExtreme {
    pub greatest: bool,
    pub data_type: DataType,
    pub arena: Arena,
}

impl TextExtreme {
    /// Lets each group keep the more extreme of its value and the item.
    pub fn fold<'a>(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        items: impl Iterator<Item = Option<&'a [u8]>>,
    ) {
        for (&group, item) in groups.iter().zip(items) {
            let Some(item) = item else { continue };
            let slot = field.slot_mut(group, 0);
            let wins = match self.arena.get(*slot) {
                None => true,
                Some(value) if self.greatest => item > value,
                Some(value) => item < value,
            };
            if wins {
                self.arena.set(slot, item);
            }
        }
        self.arena.compact_if_sparse(field, 0);
    }

    pub fn absorb(
        &mut self,
        field: &mut Field<'_>,
        to: &[u32],
        other: (&Self, FieldRef<'_>),
        from: &[u32],
    ) {
        let (other, other_field) = other;
        self.fold(field, to, from.iter().map(|&group| other.arena.get(other_field.limbs(group))));
    }

    pub fn write(&self, field: FieldRef<'_>, groups: &[u32]) -> ArrayRef {
        let items = groups.iter().map(|&group| self.arena.get(field.limbs(group)));
        narrow_bytes(&self.data_type, items)
    }

    pub fn merge(&mut self, field: &mut Field<'_>, groups: &[u32], array: &ArrayRef) {
        let values = BytesColumn::new(array);
        let items = (0..array.len()).map(|row| array.is_valid(row).then(|| values.value(row)));
        self.fold(field, groups, items);
    }
}
