//! Group keys: any number of columns of any type become one `u64` a row, and back.
//!
//! Every column becomes dense ids, 0 for NULL: text by an [`Interner`], which the decoder can fill
//! itself, other types by their value. Two ids fill a `u64`; from the third column on, the `u64` so
//! far becomes an id itself. So a packed key means something within its [`KeySpace`] alone, and a
//! space only grows until [`KeySpace::clear`] (or a table's `compact`): its owner watches
//! [`KeySpace::bytes_held`].
//!
//! Equality is that of SQL's GROUP BY: NULL equals NULL, NaN equals NaN, and -0.0 equals 0.0, which
//! is what comes back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, UInt32Type};

pub use super::column::Rows;
use super::column::{
    BytesColumn, Class, float_to_key, narrow_bytes, narrow_decimals, narrow_floats, narrow_ints,
    widen_decimals, widen_floats, widen_ints,
};
use super::dense::Dense;
use crate::interner::Interner;

/// One key column of a batch, of full length.
#[derive(Clone, Copy)]
pub enum KeyInput<'a> {
    /// Ids by [`KeySpace::interner_mut`] of this column.
    Ids(&'a [u32]),
    /// An array of the column's type; text also as a dictionary with `u32` keys.
    Values(&'a ArrayRef),
}

pub struct KeySpace {
    columns: Vec<Column>,
    /// The packed pairs of ids that became ids themselves: columns 0 and 1, then that and 2, …
    chain: Vec<Dense<u64>>,
    ids: Vec<u32>,
    scratch: Scratch,
}

struct Column {
    data_type: DataType,
    values: Values,
}

enum Values {
    Text(Interner),
    Narrow(Dense<u64>),
    Wide(Dense<u128>),
}

#[derive(Default)]
struct Scratch {
    ints: Vec<i64>,
    floats: Vec<f64>,
    decimals: Vec<i128>,
}

/// The type that a key column has in a partial: text is dictionary-encoded there.
pub fn partial_key_field(field: &Field) -> Field {
    match field.data_type() {
        DataType::Utf8 | DataType::Binary => {
            let values = Box::new(field.data_type().clone());
            let data_type = DataType::Dictionary(Box::new(DataType::UInt32), values);
            Field::new(field.name(), data_type, true)
        }
        other => Field::new(field.name(), other.clone(), true),
    }
}

/// Can columns of this type be group keys?
pub fn is_key_type(data_type: &DataType) -> bool {
    Class::of(data_type).is_some()
}

impl KeySpace {
    /// Panics on a type that [`is_key_type`] refuses.
    pub fn new(types: &[DataType]) -> Self {
        let column = |data_type: &DataType| {
            let values = match Class::of(data_type) {
                Some(Class::Bytes) => Values::Text(Interner::new()),
                Some(Class::Decimal) => Values::Wide(Dense::new()),
                Some(Class::Int | Class::Float) => Values::Narrow(Dense::new()),
                None => panic!("{data_type} is not a key type; the planner refuses it"),
            };
            Column { data_type: data_type.clone(), values }
        };
        KeySpace {
            columns: types.iter().map(column).collect(),
            chain: (2..types.len()).map(|_| Dense::new()).collect(),
            ids: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// The dictionary of a text column, for who fills it ahead of [`KeyInput::Ids`].
    pub fn interner_mut(&mut self, column: usize) -> &mut Interner {
        match &mut self.columns[column].values {
            Values::Text(interner) => interner,
            _ => panic!("column {column} is not text: it has no interner"),
        }
    }

    /// The ids of a text column that comes as values, for who sends ids elsewhere.
    pub fn ids(&mut self, column: usize, values: &ArrayRef) -> Vec<u32> {
        let mut ids = Vec::with_capacity(values.len());
        text_ids(self.interner_mut(column), values, Rows::All(values.len()), &mut ids);
        ids
    }

    /// Appends the packed key of each row to `out`.
    ///
    /// Shapes: `inputs` has one entry a key column, each of full length; without key columns every
    /// row has key 0.
    /// Cost: a lookup a row and column that comes as values, none for ids, one more from the third
    /// column on.
    pub fn encode(&mut self, inputs: &[KeyInput<'_>], rows: Rows<'_>, out: &mut Vec<u64>) {
        assert_eq!(inputs.len(), self.columns.len(), "one input a key column");
        let start = out.len();
        if inputs.is_empty() {
            out.resize(start + rows.len(), 0);
        }
        for (at, (column, input)) in self.columns.iter_mut().zip(inputs).enumerate() {
            self.ids.clear();
            let ids = column.ids(input, rows, &mut self.ids, &mut self.scratch);
            if at == 0 {
                out.extend(ids.iter().map(|&id| u64::from(id)));
                continue;
            }
            if at >= 2 {
                let pairs = &mut self.chain[at - 2];
                out[start..].iter_mut().for_each(|key| *key = u64::from(pairs.number(*key)));
            }
            for (key, &id) in out[start..].iter_mut().zip(ids) {
                *key = *key << 32 | u64::from(id);
            }
        }
    }

    /// Returns the key columns of packed keys, in their order.
    ///
    /// Text comes as a dictionary that holds each value once, in order of appearance.
    pub fn decode(&self, keys: &[u64]) -> Vec<ArrayRef> {
        let mut ids = keys.to_vec();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate().rev() {
            let own = ids.iter().map(|&key| key as u32).collect::<Vec<_>>();
            arrays.push(column.array(&own));
            for key in &mut ids {
                *key >>= 32;
                if at >= 2 {
                    *key = self.chain[at - 2].word(*key as u32);
                }
            }
        }
        arrays.reverse();
        arrays
    }

    /// Makes room for so many keys in all, as far as their number says how many values there are: for
    /// one column that is not text.
    pub fn reserve(&mut self, keys: usize) {
        match &mut self.columns[..] {
            [Column { values: Values::Narrow(words), .. }] => words.reserve(keys),
            [Column { values: Values::Wide(words), .. }] => words.reserve(keys),
            _ => {}
        }
    }

    /// Number of ids given in all columns, those of groups that are gone included.
    pub fn ids_held(&self) -> usize {
        let own = |column: &Column| match &column.values {
            Values::Text(interner) => interner.len() - 1,
            Values::Narrow(words) => words.len(),
            Values::Wide(words) => words.len(),
        };
        self.columns.iter().map(own).sum::<usize>()
            + self.chain.iter().map(Dense::len).sum::<usize>()
    }

    pub fn bytes_held(&self) -> usize {
        let own = |column: &Column| match &column.values {
            Values::Text(interner) => interner.bytes_held(),
            Values::Narrow(words) => words.bytes_held(),
            Values::Wide(words) => words.bytes_held(),
        };
        self.columns.iter().map(own).sum::<usize>()
            + self.chain.iter().map(Dense::bytes_held).sum::<usize>()
            + self.ids.capacity() * size_of::<u32>()
            + self.scratch.ints.capacity() * size_of::<i64>()
            + self.scratch.floats.capacity() * size_of::<f64>()
            + self.scratch.decimals.capacity() * size_of::<i128>()
    }

    /// Forgets all ids: packed keys from before mean nothing any more.
    pub fn clear(&mut self) {
        for column in &mut self.columns {
            match &mut column.values {
                Values::Text(interner) => interner.clear(),
                Values::Narrow(words) => words.clear(),
                Values::Wide(words) => words.clear(),
            }
        }
        self.chain.iter_mut().for_each(Dense::clear);
    }

    pub fn types(&self) -> impl ExactSizeIterator<Item = &DataType> {
        self.columns.iter().map(|column| &column.data_type)
    }
}

impl Column {
    /// Ids of the rows asked for, in `out` or borrowed from the input.
    fn ids<'a>(
        &mut self,
        input: &KeyInput<'a>,
        rows: Rows<'_>,
        out: &'a mut Vec<u32>,
        scratch: &mut Scratch,
    ) -> &'a [u32] {
        match (&mut self.values, input) {
            (Values::Text(_), KeyInput::Ids(ids)) => match rows {
                Rows::All(count) => return &ids[..count],
                Rows::Selected(rows) => out.extend(rows.iter().map(|&row| ids[row as usize])),
            },
            (Values::Text(interner), KeyInput::Values(array)) => {
                text_ids(interner, array, rows, out);
            }
            (Values::Narrow(words), KeyInput::Values(array)) => {
                match Class::of(array.data_type()) {
                    Some(Class::Float) => {
                        let values = widen_floats(array, rows, &mut scratch.floats);
                        words.number_all(values, float_to_key, out);
                    }
                    _ => {
                        let values = widen_ints(array, rows, &mut scratch.ints);
                        words.number_all(values, |value| value as u64, out);
                    }
                }
                clear_nulls(array, rows, out);
            }
            (Values::Wide(words), KeyInput::Values(array)) => {
                let values = widen_decimals(array, rows, &mut scratch.decimals);
                words.number_all(values, |value| value as u128, out);
                clear_nulls(array, rows, out);
            }
            (_, KeyInput::Ids(_)) => panic!("only text columns come as ids"),
        }
        out
    }

    fn array(&self, ids: &[u32]) -> ArrayRef {
        let nulls = || {
            let has_nulls = ids.contains(&0);
            has_nulls.then(|| NullBuffer::from_iter(ids.iter().map(|&id| id != 0)))
        };
        match &self.values {
            Values::Text(interner) => dictionary(&self.data_type, interner, ids, nulls()),
            Values::Narrow(words) if Class::of(&self.data_type) == Some(Class::Float) => {
                let values = ids.iter().map(|&id| f64::from_bits(words.word(id))).collect();
                narrow_floats(&self.data_type, values, nulls())
            }
            Values::Narrow(words) => {
                let values = ids.iter().map(|&id| words.word(id) as i64).collect();
                narrow_ints(&self.data_type, values, nulls())
            }
            Values::Wide(words) => {
                let values = ids.iter().map(|&id| words.word(id) as i128).collect();
                narrow_decimals(&self.data_type, values, nulls())
            }
        }
    }
}

/// What a NULL's slot holds is an accident: it got a number like any value, and loses it here.
fn clear_nulls(array: &ArrayRef, rows: Rows<'_>, ids: &mut [u32]) {
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (at, id) in ids.iter_mut().enumerate() {
            if nulls.is_null(rows.row(at) as usize) {
                *id = 0;
            }
        }
    }
}

fn text_ids(interner: &mut Interner, array: &ArrayRef, rows: Rows<'_>, out: &mut Vec<u32>) {
    let rows = (0..rows.len()).map(|at| rows.row(at) as usize);
    match array.as_dictionary_opt::<UInt32Type>() {
        Some(dictionary) => {
            let values = BytesColumn::new(dictionary.values());
            let ids = (0..dictionary.values().len())
                .map(|at| match dictionary.values().is_null(at) {
                    true => 0,
                    false => interner.intern(values.value(at)),
                })
                .collect::<Vec<_>>();
            let keys = dictionary.keys();
            match keys.nulls() {
                None => out.extend(rows.map(|row| ids[keys.values()[row] as usize])),
                Some(nulls) => out.extend(rows.map(|row| match nulls.is_null(row) {
                    true => 0,
                    false => ids[keys.values()[row] as usize],
                })),
            }
        }
        None => {
            let values = BytesColumn::new(array);
            out.extend(rows.map(|row| match array.is_null(row) {
                true => 0,
                false => interner.intern(values.value(row)),
            }));
        }
    }
}

fn dictionary(
    data_type: &DataType,
    interner: &Interner,
    ids: &[u32],
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let mut used = Vec::new();
    let keys = if ids.len() < interner.len() / 8 {
        // Few of many: an array over all ids would cost more than the lookups.
        let mut places = Dense::<u64>::new();
        let place = |&id: &u32| {
            let place = if id == 0 { 1 } else { places.number(u64::from(id)) };
            if place as usize > used.len() && id != 0 {
                used.push(id);
            }
            place - 1
        };
        ids.iter().map(place).collect::<Vec<u32>>()
    } else {
        let mut places = vec![u32::MAX; interner.len()];
        places[0] = 0;
        let place = |&id: &u32| {
            let place = &mut places[id as usize];
            if *place == u32::MAX {
                *place = used.len() as u32;
                used.push(id);
            }
            *place
        };
        ids.iter().map(place).collect::<Vec<u32>>()
    };
    if used.is_empty() && !ids.is_empty() {
        // All NULL: readers may look at value 0 of a NULL's key.
        let values = narrow_bytes(data_type, std::iter::once(Some(&[][..])));
        return Arc::new(DictionaryArray::new(UInt32Array::new(keys.into(), nulls), values));
    }
    let values = narrow_bytes(data_type, used.iter().map(|&id| Some(interner.value(id))));
    Arc::new(DictionaryArray::new(UInt32Array::new(keys.into(), nulls), values))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
