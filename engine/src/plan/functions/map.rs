//! Maps: made of arrays, entries and texts, looked up, united.
//!
//! As in Spark a key comes once (another one is an error of the row) and is never NULL; entries stay in
//! the order in which they came.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StringArray, StructArray,
    UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::util::display::array_value_to_string;
use regex::Regex;

use super::array::encoded;
use super::native::{Context, Definition, Takes, define};
use crate::plan::types::{list_of, map_of, map_parts};

fn item(list: &DataType) -> DataType {
    match list {
        DataType::List(item) => item.data_type().clone(),
        other => other.clone(),
    }
}

fn entry_fields(map: &DataType) -> Fields {
    let (key, value) = map_parts(map).unwrap_or((&DataType::Null, &DataType::Null));
    Fields::from(vec![
        Field::new("key", key.clone(), false),
        Field::new("value", value.clone(), true),
    ])
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Array, Item, Map, Text};
    const ONE: &[Takes] = &[Map];
    [
        define(
            "map_from_arrays",
            &[Array, Array],
            0,
            |t| map_of(item(&t[0]), item(&t[1])),
            |c, a| from_arrays(c, a[0].as_list(), a[1].as_list()),
        ),
        define(
            "map_from_entries",
            &[Array],
            0,
            |t| match item(&t[0]) {
                DataType::Struct(fields) if fields.len() == 2 => {
                    map_of(fields[0].data_type().clone(), fields[1].data_type().clone())
                }
                other => map_of(other.clone(), other),
            },
            |c, a| from_entries(c, a[0].as_list()),
        ),
        define(
            "str_to_map",
            &[Text, Text, Text],
            2,
            |_| map_of(DataType::Utf8, DataType::Utf8),
            from_text,
        ),
        define(
            "map_keys",
            ONE,
            0,
            |t| list_of(entry_fields(&t[0])[0].data_type().clone()),
            |_, a| Ok(listed(a[0].as_map(), a[0].as_map().keys())),
        ),
        define(
            "map_values",
            ONE,
            0,
            |t| list_of(entry_fields(&t[0])[1].data_type().clone()),
            |_, a| Ok(listed(a[0].as_map(), a[0].as_map().values())),
        ),
        define(
            "map_entries",
            ONE,
            0,
            |t| list_of(DataType::Struct(entry_fields(&t[0]))),
            |_, a| {
                let maps = a[0].as_map();
                let columns = vec![Arc::clone(maps.keys()), Arc::clone(maps.values())];
                let entries = StructArray::new(entry_fields(maps.data_type()), columns, None);
                Ok(listed(maps, &(Arc::new(entries) as ArrayRef)))
            },
        ),
        define(
            "map_contains_key",
            &[Map, Item],
            0,
            |_| DataType::Boolean,
            |_, a| {
                let places = places(&a[0], &a[1])?;
                let there = (0..a[0].len()).map(|row| {
                    (a[0].is_valid(row) && a[1].is_valid(row)).then(|| places[row].is_some())
                });
                Ok(Arc::new(there.collect::<BooleanArray>()))
            },
        ),
        Definition {
            variadic: true,
            alike: true,
            ..define("map_concat", &[Map], 0, |t| t[0].clone(), united)
        },
    ]
    .into_iter()
}

fn failed(error: arrow::error::ArrowError) -> String {
    error.to_string()
}

pub fn value_type(entries: &FieldRef) -> &DataType {
    match entries.data_type() {
        DataType::Struct(fields) => fields[1].data_type(),
        other => other,
    }
}

fn listed(maps: &MapArray, values: &ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
    Arc::new(ListArray::new(field, offsets, Arc::clone(values), nulls))
}

/// Maps of so many entries each.
///
/// Errors: a key is NULL, or comes twice in one map.
pub fn array(
    to: &DataType,
    lengths: &[usize],
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    let DataType::Map(entries, _) = to else { return Err(format!("{to} is no map")) };
    let fields = entry_fields(to);
    let fit = |column: ArrayRef, field: &FieldRef| match column.data_type() == field.data_type() {
        true => Ok(column),
        false => cast(&column, field.data_type()).map_err(failed),
    };
    let (keys, values) = (fit(keys, &fields[0])?, fit(values, &fields[1])?);
    if keys.null_count() > 0 {
        return Err("a key of a map is NULL".into());
    }
    let codes = encoded(&[&keys])?.pop().expect("one column");
    let mut first = 0;
    for &length in lengths {
        let mut seen = HashSet::new();
        for at in first..first + length {
            if !seen.insert(codes.row(at).data()) {
                let key = array_value_to_string(&keys, at).map_err(failed)?;
                return Err(format!("duplicate key {key} in a map"));
            }
        }
        first += length;
    }
    let held = StructArray::new(fields, vec![keys, values], None);
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Ok(Arc::new(MapArray::new(Arc::clone(entries), offsets, held, nulls, false)))
}

fn from_arrays(
    context: &Context,
    keys: &ListArray,
    values: &ListArray,
) -> Result<ArrayRef, String> {
    let nulls = NullBuffer::union(keys.nulls(), values.nulls());
    let (mut of_keys, mut of_values) = (Vec::new(), Vec::new());
    let mut lengths = Vec::with_capacity(keys.len());
    for row in 0..keys.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            lengths.push(0);
            continue;
        }
        if keys.value_length(row) != values.value_length(row) {
            return Err("the arrays of keys and of values have different lengths".into());
        }
        let range = |list: &ListArray| {
            list.value_offsets()[row] as u32..list.value_offsets()[row + 1] as u32
        };
        of_keys.extend(range(keys));
        of_values.extend(range(values));
        lengths.push(keys.value_length(row) as usize);
    }
    let keys = take(keys.values(), &UInt32Array::from(of_keys), None).map_err(failed)?;
    let values = take(values.values(), &UInt32Array::from(of_values), None).map_err(failed)?;
    array(context.returns, &lengths, keys, values, nulls)
}

/// NULL where an entry is.
fn from_entries(context: &Context, list: &ListArray) -> Result<ArrayRef, String> {
    let Some(entries) = list.values().as_struct_opt().filter(|entries| entries.num_columns() == 2)
    else {
        return Err("map_from_entries takes an array of structs of two fields".into());
    };
    let range =
        |row: usize| list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
    let there = |row: usize| list.is_valid(row) && range(row).all(|at| entries.is_valid(at));
    let there: Vec<bool> = (0..list.len()).map(there).collect();
    let taken = (0..list.len()).filter(|&row| there[row]).flat_map(range);
    let taken = UInt32Array::from_iter_values(taken.map(|at| at as u32));
    let lengths: Vec<usize> =
        (0..list.len()).map(|row| if there[row] { range(row).len() } else { 0 }).collect();
    let one = |column: usize| take(entries.column(column), &taken, None).map_err(failed);
    array(context.returns, &lengths, one(0)?, one(1)?, Some(NullBuffer::from(there)))
}

/// `a:1,b:2`; the delimiters are regular expressions. An entry without the second has no value.
fn from_text(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let texts = args[0].as_string::<i32>();
    let delimiter = |at: usize, otherwise: &str| -> Result<Regex, String> {
        let given = args.get(at).map(|texts| texts.as_string::<i32>());
        let given = given.and_then(|texts| texts.iter().flatten().next());
        Regex::new(given.unwrap_or(otherwise)).map_err(|error| error.to_string())
    };
    let (pairs, middle) = (delimiter(1, ",")?, delimiter(2, ":")?);
    let (mut keys, mut values, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for text in texts {
        let before = keys.len();
        for pair in text.iter().flat_map(|text| pairs.split(text)) {
            let mut parts = middle.splitn(pair, 2);
            keys.push(parts.next().unwrap_or_default());
            values.push(parts.next());
        }
        lengths.push(keys.len() - before);
    }
    let (keys, values) = (StringArray::from(keys), StringArray::from(values));
    let nulls = texts.nulls().cloned();
    array(context.returns, &lengths, Arc::new(keys), Arc::new(values), nulls)
}

/// Where each row's key stands among the entries.
fn places(maps: &ArrayRef, keys: &ArrayRef) -> Result<Vec<Option<u32>>, String> {
    let maps = maps.as_map();
    let codes = encoded(&[maps.keys(), keys])?;
    let place = |row: usize| {
        let offsets = maps.value_offsets();
        let mut range = offsets[row] as usize..offsets[row + 1] as usize;
        let there = maps.is_valid(row) && keys.is_valid(row);
        let sought = codes[1].row(row);
        range.find(|&at| there && codes[0].row(at).data() == sought.data()).map(|at| at as u32)
    };
    Ok((0..maps.len()).map(place).collect())
}

/// The value of a key; NULL where the map has it not.
pub fn value_of(maps: &ArrayRef, keys: &ArrayRef) -> Result<ArrayRef, String> {
    let places = UInt32Array::from(places(maps, keys)?);
    take(maps.as_map().values(), &places, None).map_err(failed)
}

fn united(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let maps: Vec<&MapArray> = args.iter().map(|map| map.as_map()).collect();
    let nulls = maps.iter().fold(None, |nulls, map| NullBuffer::union(nulls.as_ref(), map.nulls()));
    let bases: Vec<usize> = maps
        .iter()
        .scan(0, |base, map| {
            let own = *base;
            *base += map.keys().len();
            Some(own)
        })
        .collect();
    let (mut at, mut lengths) = (Vec::new(), Vec::new());
    for row in 0..args[0].len() {
        let before = at.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            for (map, base) in maps.iter().zip(&bases) {
                let offsets = map.value_offsets();
                at.extend((offsets[row]..offsets[row + 1]).map(|at| (base + at as usize) as u32));
            }
        }
        lengths.push(at.len() - before);
    }
    let at = UInt32Array::from(at);
    let all = |column: fn(&MapArray) -> &ArrayRef| {
        let columns: Vec<&dyn Array> = maps.iter().map(|&map| column(map).as_ref()).collect();
        take(&concat(&columns).map_err(failed)?, &at, None).map_err(failed)
    };
    array(context.returns, &lengths, all(MapArray::keys)?, all(MapArray::values)?, nulls)
}

/// The keys of two maps, each once a row, with the values that they have there.
pub struct Merged {
    pub keys: ArrayRef,
    pub left: ArrayRef,
    pub right: ArrayRef,
    /// The row of each key.
    pub parents: Vec<u32>,
    pub lengths: Vec<usize>,
    pub nulls: Option<NullBuffer>,
}

pub fn merged(left: &MapArray, right: &MapArray) -> Result<Merged, String> {
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let codes = encoded(&[left.keys(), right.keys()])?;
    let both = concat(&[left.keys().as_ref(), right.keys().as_ref()]).map_err(failed)?;
    let mut parents = Vec::new();
    let (mut of_keys, mut of_left, mut of_right) = (Vec::new(), Vec::new(), Vec::new());
    let mut lengths = Vec::with_capacity(left.len());
    for row in 0..left.len() {
        let before = of_keys.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            let range = |map: &MapArray| {
                map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize
            };
            let mut theirs: HashMap<&[u8], usize> =
                range(right).map(|at| (codes[1].row(at).data(), at)).collect();
            for at in range(left) {
                of_keys.push(at as u32);
                of_left.push(Some(at as u32));
                of_right.push(theirs.remove(codes[0].row(at).data()).map(|at| at as u32));
            }
            for at in range(right).filter(|&at| theirs.contains_key(codes[1].row(at).data())) {
                of_keys.push((left.keys().len() + at) as u32);
                of_left.push(None);
                of_right.push(Some(at as u32));
            }
        }
        lengths.push(of_keys.len() - before);
        parents.extend(std::iter::repeat_n(row as u32, of_keys.len() - before));
    }
    let one = |values: &ArrayRef, at: Vec<Option<u32>>| {
        take(values, &UInt32Array::from(at), None).map_err(failed)
    };
    Ok(Merged {
        keys: take(&both, &UInt32Array::from(of_keys), None).map_err(failed)?,
        left: one(left.values(), of_left)?,
        right: one(right.values(), of_right)?,
        parents,
        lengths,
        nulls,
    })
}
