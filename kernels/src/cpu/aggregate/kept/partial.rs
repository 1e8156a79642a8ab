//! Kept states as columns of a partial: sketches and sums of powers as bytes, the others as lists of
//! their items, ordered by value or position.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListArray, StructArray, UInt8Array, UInt32Array,
    UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, UInt8Type, UInt32Type, UInt64Type};

use super::{Content, Kept, Place, Values, What};
use crate::cpu::aggregate::datum::{Data, Datum, array_of};
use crate::cpu::aggregate::error::AggregateError;
use crate::cpu::aggregate::moments::Moments;
use crate::cpu::words::{Field, FieldRef};

impl Kept {
    /// Type of the state's column in a partial.
    pub fn partial_type(&self) -> DataType {
        match self.what {
            What::Sketch { .. } | What::Moments(_) => DataType::Binary,
            _ => DataType::List(Arc::new(self.item_field())),
        }
    }

    fn item_field(&self) -> ArrowField {
        ArrowField::new("item", DataType::Struct(self.item_fields()), false)
    }

    fn item_fields(&self) -> Fields {
        let place = || {
            vec![
                ArrowField::new("split", DataType::UInt32, false),
                ArrowField::new("major", DataType::UInt64, false),
                ArrowField::new("minor", DataType::UInt64, false),
            ]
        };
        let value = |data_type: &DataType| ArrowField::new("value", data_type.clone(), true);
        match self.what {
            What::Values { .. } => Fields::from(vec![
                value(&self.data_type),
                ArrowField::new("count", DataType::UInt64, false),
                ArrowField::new("level", DataType::UInt8, false),
            ]),
            What::Items => {
                let mut fields = place();
                fields.push(value(&self.data_type));
                Fields::from(fields)
            }
            What::Best { .. } => {
                let (of_value, order) = self.pair();
                let mut fields = place();
                fields.push(value(&of_value));
                fields.push(ArrowField::new("order", order, false));
                Fields::from(fields)
            }
            What::Sketch { .. } | What::Moments(_) => Fields::empty(),
        }
    }

    /// Types of value and order of a struct argument.
    fn pair(&self) -> (DataType, DataType) {
        match &self.data_type {
            DataType::Struct(fields) if fields.len() == 2 => {
                (fields[0].data_type().clone(), fields[1].data_type().clone())
            }
            other => unreachable!("the layout asked for a pair, not {other}"),
        }
    }

    /// The groups' states as a column of a partial.
    pub fn write(&self, field: FieldRef<'_>, groups: &[u32]) -> ArrayRef {
        let contents = groups.iter().map(|&group| self.get(field, group));
        match self.what {
            What::Sketch { .. } | What::Moments(_) => {
                let bytes: Vec<Option<Vec<u8>>> = contents
                    .map(|content| match content? {
                        Content::Sketch(registers) => Some(registers.to_vec()),
                        Content::Moments(moments) => Some(moments.to_bytes()),
                        _ => unreachable!("the kind says what is held"),
                    })
                    .collect();
                Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
            }
            _ => self.write_items(contents),
        }
    }

    fn write_items<'a>(&self, contents: impl Iterator<Item = Option<&'a Content>>) -> ArrayRef {
        let mut columns = ItemColumns::default();
        let mut lengths = Vec::new();
        for content in contents {
            let before = columns.values.len();
            match content {
                Some(Content::Values(values)) => {
                    for (value, count) in &values.counts {
                        columns.values.push(Some(value.clone()));
                        columns.counts.push(*count);
                        columns.levels.push(values.level);
                    }
                }
                Some(Content::Items(items)) => {
                    let mut items: Vec<&(Place, Datum)> = items.iter().collect();
                    items.sort_by_key(|(place, _)| *place);
                    for (place, value) in items {
                        columns.values.push(Some(value.clone()));
                        columns.places.push(*place);
                    }
                }
                Some(Content::Best { order, place, value }) => {
                    columns.values.push(value.clone());
                    columns.orders.push(order.clone());
                    columns.places.push(*place);
                }
                Some(_) => unreachable!("the kind says what is held"),
                None => {}
            }
            lengths.push(columns.values.len() - before);
        }
        let rows = columns.values.len();
        let items =
            StructArray::try_new_with_length(self.item_fields(), self.arrays(columns), None, rows);
        let items = items.expect("the columns follow the fields");
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(ListArray::new(Arc::new(self.item_field()), offsets, Arc::new(items), None))
    }

    fn arrays(&self, columns: ItemColumns) -> Vec<ArrayRef> {
        let ItemColumns { values, orders, counts, levels, places } = columns;
        let values: Vec<Option<&Datum>> = values.iter().map(Option::as_ref).collect();
        let of_places = || -> Vec<ArrayRef> {
            vec![
                Arc::new(UInt32Array::from_iter_values(places.iter().map(|place| place.0))),
                Arc::new(UInt64Array::from_iter_values(places.iter().map(|place| place.1))),
                Arc::new(UInt64Array::from_iter_values(places.iter().map(|place| place.2))),
            ]
        };
        match self.what {
            What::Values { .. } => vec![
                array_of(&self.data_type, &values),
                Arc::new(UInt64Array::from(counts)),
                Arc::new(UInt8Array::from(levels)),
            ],
            What::Items => {
                let mut arrays = of_places();
                arrays.push(array_of(&self.data_type, &values));
                arrays
            }
            _ => {
                let (value, order) = self.pair();
                let orders: Vec<Option<&Datum>> = orders.iter().map(Some).collect();
                let mut arrays = of_places();
                arrays.push(array_of(&value, &values));
                arrays.push(array_of(&order, &orders));
                arrays
            }
        }
    }

    /// Takes in a column that [`Kept::write`] made; row `i` belongs to `groups[i]`.
    pub fn merge(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        array: &ArrayRef,
        name: &str,
    ) -> Result<(), AggregateError> {
        match self.what {
            What::Sketch { precision } => {
                for (bytes, &group) in array.as_binary::<i32>().iter().zip(groups) {
                    let Some(bytes) = bytes else { continue };
                    if bytes.len() != 1 << precision || bytes.iter().any(|rank| *rank > 65) {
                        return Err(AggregateError::corrupt(name, "no registers of a sketch"));
                    }
                    self.take(field, group, &Content::Sketch(bytes.into()));
                }
            }
            What::Moments(of) => {
                for (bytes, &group) in array.as_binary::<i32>().iter().zip(groups) {
                    let Some(bytes) = bytes else { continue };
                    let moments = Moments::from_bytes(of, bytes, name)?;
                    self.take(field, group, &Content::Moments(moments));
                }
            }
            _ => {
                let lists = array.as_list::<i32>();
                let items = lists.values().as_struct();
                let read = self.what.reader(items, name)?;
                let offsets = lists.value_offsets();
                for (row, &group) in groups.iter().enumerate() {
                    let range = offsets[row] as usize..offsets[row + 1] as usize;
                    if !range.is_empty() {
                        let content = read(range);
                        self.take(field, group, &content);
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct ItemColumns {
    values: Vec<Option<Datum>>,
    orders: Vec<Datum>,
    counts: Vec<u64>,
    levels: Vec<u8>,
    places: Vec<Place>,
}

/// Reads the content of the items in a range.
type Reader<'a> = Box<dyn Fn(std::ops::Range<usize>) -> Content + 'a>;

impl What {
    fn reader<'a>(self, items: &'a StructArray, name: &str) -> Result<Reader<'a>, AggregateError> {
        let longs = |index: usize| items.column(index).as_primitive::<UInt64Type>().values();
        if let What::Values { bounded } = self {
            let (values, counts) = (Data::of(items.column(0)), longs(1));
            let levels = items.column(2).as_primitive::<UInt8Type>().values();
            if counts.contains(&0) || levels.iter().any(|level| *level > 126) {
                return Err(AggregateError::corrupt(name, "a value that never came"));
            }
            return Ok(Box::new(move |range| {
                let mut read = Values::default();
                for at in range {
                    if levels[at] > read.level {
                        read.coarsen(levels[at]);
                    }
                    read.add(values.get(at), counts[at], bounded);
                }
                Content::Values(read)
            }));
        }
        let splits = items.column(0).as_primitive::<UInt32Type>().values();
        let (majors, minors) = (longs(1), longs(2));
        let place = move |at: usize| (splits[at], majors[at], minors[at]);
        let values = Data::exact(items.column(3));
        if self == What::Items {
            let item = move |at: usize| (place(at), values.get(at));
            return Ok(Box::new(move |range| Content::Items(range.map(&item).collect())));
        }
        let orders = Data::of(items.column(4));
        Ok(Box::new(move |range| {
            let at = range.start;
            let value = items.column(3).is_valid(at).then(|| values.get(at));
            Content::Best { order: orders.get(at), place: place(at), value }
        }))
    }
}
