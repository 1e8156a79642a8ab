//! Elements of arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};

use super::native::{Context, Definition, Takes, define};
use crate::plan::types::map_parts;

/// As many elements as Spark lets an array have.
const ARRAY_MAX: u64 = 2_147_483_632;

pub fn functions() -> impl Iterator<Item = Definition> {
    const ELEMENT: &[Takes] = &[Takes::Collection, Takes::Place];
    let element = |name, run| Definition {
        name,
        takes: ELEMENT,
        optional: 0,
        variadic: false,
        returns: item,
        scaled: None,
        alike: false,
        run,
    };
    [
        element("array_item", |_: &Context, a: &[ArrayRef]| at(a, From::Zero)),
        Definition {
            takes: &[Takes::Array, Takes::Int],
            ..element("get", |_: &Context, a: &[ArrayRef]| at(a, From::ZeroOrNull))
        },
        element("element_at", |_: &Context, a: &[ArrayRef]| at(a, From::One)),
    ]
    .into_iter()
    .chain([Definition {
        name: "indexed",
        takes: &[Takes::Array],
        optional: 0,
        variadic: false,
        returns: |types| {
            let fields = indexed_fields(&item(types));
            DataType::List(Arc::new(Field::new("item", DataType::Struct(fields), true)))
        },
        scaled: None,
        alike: false,
        run: |_, a| Ok(indexed(&a[0])),
    }])
    .chain([define(
        "array_insert",
        &[Takes::Array, Takes::Int, Takes::Item],
        0,
        |t| t[0].clone(),
        |_, a| insert(a),
    )])
    .chain([define(
        "at_least_one",
        &[Takes::Array],
        0,
        |t| t[0].clone(),
        |_, a| at_least_one(&a[0]),
    )])
    .chain([Definition {
        name: "size",
        takes: &[Takes::Collection],
        optional: 0,
        variadic: false,
        returns: |_| DataType::Int32,
        scaled: None,
        alike: false,
        run: |_, a| {
            if let Some(maps) = a[0].as_map_opt() {
                let sizes =
                    (0..maps.len()).map(|row| maps.is_valid(row).then(|| maps.value_length(row)));
                return Ok(Arc::new(sizes.collect::<Int32Array>()));
            }
            let lists = a[0].as_list::<i32>();
            let sizes = lists.iter().map(|list| list.map(|list| list.len() as i32));
            Ok(Arc::new(sizes.collect::<Int32Array>()))
        },
    }])
}

/// An element at a place from 1 on, or before the end from -1 on; NULL fills the gap to a far one.
fn insert(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (lists, places) = (args[0].as_list::<i32>(), args[1].as_primitive::<Int32Type>());
    let offsets = lists.value_offsets();
    let held = lists.values().len() as u32;
    let (mut at, mut lengths): (Vec<Option<u32>>, Vec<usize>) = (Vec::new(), Vec::new());
    for row in 0..lists.len() {
        let before = at.len();
        if lists.is_valid(row) && places.is_valid(row) {
            let own: Vec<Option<u32>> =
                (offsets[row] as u32..offsets[row + 1] as u32).map(Some).collect();
            let place = i64::from(places.value(row));
            let index = match place {
                0 => return Err("the index of array_insert is 0: it counts from 1".into()),
                1.. => place - 1,
                _ => place + own.len() as i64 + 1,
            };
            let longest = index.unsigned_abs().max(own.len() as u64);
            if longest > ARRAY_MAX {
                return Err(format!("array_insert: an array of {longest} elements is too long"));
            }
            let item = Some(held + row as u32);
            if index < 0 {
                at.push(item);
                at.extend(std::iter::repeat_n(None, index.unsigned_abs() as usize));
                at.extend(own);
            } else {
                let index = index as usize;
                at.extend((0..index).map(|place| own.get(place).copied().flatten()));
                at.push(item);
                at.extend(own.iter().skip(index));
            }
        }
        lengths.push(at.len() - before);
    }
    let both = concat(&[lists.values(), &args[2]]).map_err(|error| error.to_string())?;
    let values = take(&both, &UInt32Array::from(at), None).map_err(|error| error.to_string())?;
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let nulls = NullBuffer::union(lists.nulls(), places.nulls());
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, nulls)))
}

/// One NULL in place of no element: what an outer explode takes apart.
fn at_least_one(list: &ArrayRef) -> Result<ArrayRef, String> {
    let lists = list.as_list::<i32>();
    let offsets = lists.value_offsets();
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(lists.len()));
    for row in 0..lists.len() {
        let elements = offsets[row] as u32..offsets[row + 1] as u32;
        let before = places.len();
        if lists.is_null(row) || elements.is_empty() {
            places.push(None);
        } else {
            places.extend(elements.map(Some));
        }
        lengths.push(places.len() - before);
    }
    let values = take(lists.values(), &UInt32Array::from(places), None);
    let values = values.map_err(|error| error.to_string())?;
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, None)))
}

/// Each element with its place: what `posexplode` takes apart.
fn indexed(list: &ArrayRef) -> ArrayRef {
    let list = list.as_list::<i32>();
    let offsets = list.value_offsets();
    let mut places = vec![0_i32; list.values().len()];
    for ends in offsets.windows(2) {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        places[start..end].iter_mut().zip(0..).for_each(|(place, index)| *place = index);
    }
    let fields = indexed_fields(list.values().data_type());
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(places)), Arc::clone(list.values())];
    let elements = StructArray::new(fields.clone(), columns, None);
    let field = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let nulls = list.nulls().cloned();
    Arc::new(ListArray::new(field, list.offsets().clone(), Arc::new(elements), nulls))
}

fn indexed_fields(item: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("pos", DataType::Int32, true),
        Field::new("col", item.clone(), true),
    ])
}

fn item(types: &[DataType]) -> DataType {
    match &types[0] {
        DataType::List(item) => item.data_type().clone(),
        other => map_parts(other).map_or_else(|| other.clone(), |(_, value)| value.clone()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// `list[0]`: beyond the list is an error.
    Zero,
    /// `get(list, 0)`: beyond the list is NULL.
    ZeroOrNull,
    /// `element_at(list, 1)`: negative from the end; beyond the list is an error.
    One,
}

fn at(args: &[ArrayRef], from: From) -> Result<ArrayRef, String> {
    if let DataType::Map(_, _) = args[0].data_type() {
        return super::map::value_of(&args[0], &args[1]);
    }
    let lists = args[0].as_list::<i32>();
    let indices = args[1].as_primitive::<Int32Type>();
    let mut places: Vec<Option<u32>> = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        if lists.is_null(row) || indices.is_null(row) {
            places.push(None);
            continue;
        }
        let index = i64::from(indices.value(row));
        let length = i64::from(lists.value_length(row));
        let place = match from {
            From::Zero | From::ZeroOrNull => index,
            From::One if index > 0 => index - 1,
            From::One if index < 0 => length + index,
            From::One => return Err("an index of element_at is 0: it counts from 1".into()),
        };
        if (0..length).contains(&place) {
            places.push(Some((i64::from(lists.value_offsets()[row]) + place) as u32));
        } else if from == From::ZeroOrNull {
            places.push(None);
        } else {
            return Err(format!(
                "the index {index} is out of bounds: the array has {length} elements"
            ));
        }
    }
    take(lists.values(), &UInt32Array::from(places), None).map_err(|error| error.to_string())
}
