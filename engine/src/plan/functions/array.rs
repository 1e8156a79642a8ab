//! Arrays: membership, sets, order, and new arrays made of old ones.
//!
//! Elements are compared by arrow's row format, so every type is handled alike: NULL is one value,
//! -0.0 is 0.0, NaN is the greatest. Results are taken from the arguments' elements by number.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray,
    UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat as join_arrays, take};
use arrow::datatypes::{DataType, Date32Type, Field, Int32Type, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};

use super::native::{Definition, Run, Takes, define};
use crate::plan::side::normal;
use crate::plan::types::list_of;

fn same(types: &[DataType]) -> DataType {
    types[0].clone()
}

fn item(types: &[DataType]) -> DataType {
    match &types[0] {
        DataType::List(item) => item.data_type().clone(),
        other => other.clone(),
    }
}

fn boolean(_: &[DataType]) -> DataType {
    DataType::Boolean
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Array, Int, Item, Text};
    const ONE: &[Takes] = &[Array];
    const WITH: &[Takes] = &[Array, Item];
    const TWO: &[Takes] = &[Array, Array];
    let two = |name, run: Run| Definition { alike: true, ..define(name, TWO, 0, same, run) };
    [
        define("array_contains", WITH, 0, boolean, |_, a| contains(a)),
        define("array_position", WITH, 0, |_| DataType::Int64, |_, a| position(a)),
        define("array_remove", WITH, 0, same, |_, a| remove(a)),
        define("array_append", WITH, 0, same, |_, a| grow(a, false)),
        define("array_prepend", WITH, 0, same, |_, a| grow(a, true)),
        define("array_distinct", ONE, 0, same, |_, a| {
            each(a, |list, row| distinct(list.ids(row), |_| true))
        }),
        define("array_compact", ONE, 0, same, |_, a| {
            each(a, |list, row| list.range(row).filter(|&at| list.is_there(at)).collect())
        }),
        define("array_sort", ONE, 0, same, |_, a| {
            each(a, |list, row| sorted(list, row, true, false))
        }),
        define("sort_array", &[Array, Takes::Any], 1, same, |_, a| sort_array(a)),
        define("array_min", ONE, 0, item, |_, a| extreme(a, false)),
        define("array_max", ONE, 0, item, |_, a| extreme(a, true)),
        define("array_join", &[Array, Text, Text], 1, |_| DataType::Utf8, |_, a| join(a)),
        define(
            "array_size",
            ONE,
            0,
            |_| DataType::Int32,
            |_, a| {
                let lists = a[0].as_list::<i32>().iter();
                Ok(Arc::new(lists.map(|l| l.map(|l| l.len() as i32)).collect::<Int32Array>()))
            },
        ),
        define("flatten", ONE, 0, item, |_, a| flatten(a)),
        define("slice", &[Array, Int, Int], 0, same, |_, a| slice(a)),
        define(
            "sequence",
            &[Takes::Any, Takes::Any, Takes::Any],
            1,
            |types| list_of(types[0].clone()),
            |_, a| sequence(a),
        ),
        define("arrays_overlap", TWO, 0, boolean, |_, a| overlap(a)),
        two("array_union", |_, a| {
            pairs(a, |left, right| distinct(left.into_iter().chain(right), |_| true))
        }),
        two("array_intersect", |_, a| {
            pairs(a, |left, right| {
                let there: HashSet<&[u8]> = right.into_iter().map(|(_, bytes)| bytes).collect();
                distinct(left.into_iter(), |bytes| there.contains(bytes))
            })
        }),
        two("array_except", |_, a| {
            pairs(a, |left, right| {
                let gone: HashSet<&[u8]> = right.into_iter().map(|(_, bytes)| bytes).collect();
                distinct(left.into_iter(), |bytes| !gone.contains(bytes))
            })
        }),
    ]
    .into_iter()
}

/// An array's elements, comparable by their bytes.
struct Lists<'a> {
    lists: &'a ListArray,
    elements: Rows,
}

fn failed(error: arrow::error::ArrowError) -> String {
    error.to_string()
}

pub(super) fn encoded(columns: &[&ArrayRef]) -> Result<Vec<Rows>, String> {
    let field = SortField::new(columns[0].data_type().clone());
    let converter = RowConverter::new(vec![field]).map_err(failed)?;
    let one = |column: &&ArrayRef| {
        converter.convert_columns(&normal(&[Arc::clone(column)])).map_err(failed)
    };
    columns.iter().map(one).collect()
}

impl<'a> Lists<'a> {
    fn new(list: &'a ArrayRef) -> Result<Self, String> {
        let lists = list.as_list::<i32>();
        let elements = encoded(&[lists.values()])?.pop().expect("one column");
        Ok(Lists { lists, elements })
    }

    fn range(&self, row: usize) -> std::ops::Range<u32> {
        let offsets = self.lists.value_offsets();
        offsets[row] as u32..offsets[row + 1] as u32
    }

    fn bytes(&self, at: u32) -> &[u8] {
        self.elements.row(at as usize).data()
    }

    fn ids(&self, row: usize) -> impl Iterator<Item = (u32, &[u8])> {
        self.range(row).map(|at| (at, self.bytes(at)))
    }

    fn is_there(&self, at: u32) -> bool {
        self.lists.values().is_valid(at as usize)
    }
}

/// From the last element to the first.
pub fn reverse(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    each(args, |list, row| list.range(row).rev().collect())
}

/// The first of each value that passes.
fn distinct<'a>(
    ids: impl Iterator<Item = (u32, &'a [u8])>,
    passes: impl Fn(&[u8]) -> bool,
) -> Vec<u32> {
    let mut seen: HashSet<&[u8]> = HashSet::new();
    ids.filter(|(_, bytes)| passes(bytes) && seen.insert(bytes)).map(|(at, _)| at).collect()
}

/// Lists of elements of `values` by their numbers; `None` is NULL.
fn rebuilt(values: &ArrayRef, rows: Vec<Option<Vec<u32>>>) -> Result<ArrayRef, String> {
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let places: UInt32Array = rows.into_iter().flatten().flatten().collect();
    let values = take(values, &places, None).map_err(failed)?;
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::new(field, offsets, values, Some(nulls))))
}

fn each(
    args: &[ArrayRef],
    pick: impl Fn(&Lists<'_>, usize) -> Vec<u32>,
) -> Result<ArrayRef, String> {
    let list = Lists::new(&args[0])?;
    let rows = 0..list.lists.len();
    let rows = rows.map(|row| list.lists.is_valid(row).then(|| pick(&list, row)));
    rebuilt(list.lists.values(), rows.collect())
}

/// Elements by their numbers and bytes.
type Ids<'x> = Vec<(u32, &'x [u8])>;

/// Over both arrays' elements; those of the second are numbered on from the first's.
fn pairs(
    args: &[ArrayRef],
    pick: impl for<'x> Fn(Ids<'x>, Ids<'x>) -> Vec<u32>,
) -> Result<ArrayRef, String> {
    let (left, right) = (Lists::new(&args[0])?, Lists::new(&args[1])?);
    let first = left.lists.values().len() as u32;
    let rows = (0..left.lists.len()).map(|row| {
        let both = left.lists.is_valid(row) && right.lists.is_valid(row);
        both.then(|| {
            let of_right = right.ids(row).map(|(at, bytes)| (at + first, bytes));
            pick(left.ids(row).collect(), of_right.collect())
        })
    });
    let rows = rows.collect();
    let values = join_arrays(&[left.lists.values(), right.lists.values()]).map_err(failed)?;
    rebuilt(&values, rows)
}

/// The lists, and the bytes of each row's value; `None` where either is NULL.
fn sought<'a>(args: &'a [ArrayRef]) -> Result<(Lists<'a>, Rows), String> {
    let lists = args[0].as_list::<i32>();
    let mut encoded = encoded(&[lists.values(), &args[1]])?.into_iter();
    let elements = encoded.next().expect("two columns");
    Ok((Lists { lists, elements }, encoded.next().expect("two columns")))
}

fn both_there(args: &[ArrayRef], row: usize) -> bool {
    args[0].is_valid(row) && args[1].is_valid(row)
}

/// NULL where the value may be among the elements that are NULL.
fn contains(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (list, values) = sought(args)?;
    let rows = (0..list.lists.len()).map(|row| {
        if !both_there(args, row) {
            return None;
        }
        let value = values.row(row);
        if list.ids(row).any(|(_, bytes)| bytes == value.data()) {
            return Some(true);
        }
        list.range(row).all(|at| list.is_there(at)).then_some(false)
    });
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

fn position(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (list, values) = sought(args)?;
    let rows = (0..list.lists.len()).map(|row| {
        both_there(args, row).then(|| {
            let value = values.row(row);
            let at = list.ids(row).position(|(_, bytes)| bytes == value.data());
            at.map_or(0, |at| at as i64 + 1)
        })
    });
    Ok(Arc::new(rows.collect::<Int64Array>()))
}

fn remove(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (list, values) = sought(args)?;
    let rows = (0..list.lists.len()).map(|row| {
        both_there(args, row).then(|| {
            let value = values.row(row);
            let kept = list.ids(row).filter(|(_, bytes)| *bytes != value.data());
            kept.map(|(at, _)| at).collect()
        })
    });
    rebuilt(list.lists.values(), rows.collect())
}

fn grow(args: &[ArrayRef], front: bool) -> Result<ArrayRef, String> {
    let lists = args[0].as_list::<i32>();
    let first = lists.values().len() as u32;
    let offsets = lists.value_offsets();
    let rows = (0..lists.len()).map(|row| {
        lists.is_valid(row).then(|| {
            let own = offsets[row] as u32..offsets[row + 1] as u32;
            let new = std::iter::once(first + row as u32);
            if front { new.chain(own).collect() } else { own.chain(new).collect() }
        })
    });
    let rows = rows.collect();
    let values = join_arrays(&[lists.values(), &args[1]]).map_err(failed)?;
    rebuilt(&values, rows)
}

fn sorted(list: &Lists<'_>, row: usize, ascending: bool, nulls_first: bool) -> Vec<u32> {
    let (mut there, nulls): (Vec<u32>, Vec<u32>) =
        list.range(row).partition(|&at| list.is_there(at));
    there.sort_by(|&a, &b| {
        let order = list.bytes(a).cmp(list.bytes(b));
        if ascending { order } else { order.reverse() }
    });
    if nulls_first { [nulls, there].concat() } else { [there, nulls].concat() }
}

/// NULL is the least value.
fn sort_array(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let ascending = args
        .get(1)
        .map(|flags| flags.as_boolean_opt().cloned().ok_or("sort_array: the order is a BOOLEAN"));
    let ascending = ascending.transpose()?;
    each(args, |list, row| {
        let up = ascending.as_ref().is_none_or(|flags| flags.is_null(row) || flags.value(row));
        sorted(list, row, up, up)
    })
}

fn extreme(args: &[ArrayRef], greatest: bool) -> Result<ArrayRef, String> {
    let list = Lists::new(&args[0])?;
    let rows = (0..list.lists.len()).map(|row| {
        let there = list.range(row).filter(|&at| list.lists.is_valid(row) && list.is_there(at));
        if greatest {
            there.max_by_key(|&at| list.bytes(at))
        } else {
            there.min_by_key(|&at| list.bytes(at))
        }
    });
    take(list.lists.values(), &rows.collect::<UInt32Array>(), None).map_err(failed)
}

/// NULL elements are passed over, or replaced.
fn join(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let lists = args[0].as_list::<i32>();
    let texts = super::cast::as_text(lists.values())?;
    let texts = texts.as_string::<i32>();
    let delimiters = args[1].as_string::<i32>();
    let offsets = lists.value_offsets();
    let rows = (0..lists.len()).map(|row| {
        let there = lists.is_valid(row) && delimiters.is_valid(row);
        let instead = match args.get(2) {
            None => None,
            Some(instead) if instead.is_null(row) => return None,
            Some(instead) => Some(instead.as_string::<i32>().value(row)),
        };
        there.then(|| {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            let text = |at: usize| if texts.is_valid(at) { Some(texts.value(at)) } else { instead };
            range.filter_map(text).collect::<Vec<_>>().join(delimiters.value(row))
        })
    });
    Ok(Arc::new(rows.collect::<StringArray>()))
}

/// NULL where an array inside is NULL.
fn flatten(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let outer = args[0].as_list::<i32>();
    let inner = outer.values().as_list_opt::<i32>().ok_or("flatten takes an array of arrays")?;
    let (outside, inside) = (outer.value_offsets(), inner.value_offsets());
    let rows = (0..outer.len()).map(|row| {
        let lists = outside[row] as usize..outside[row + 1] as usize;
        let there = outer.is_valid(row) && lists.clone().all(|list| inner.is_valid(list));
        there.then(|| lists.flat_map(|l| inside[l] as u32..inside[l + 1] as u32).collect())
    });
    rebuilt(inner.values(), rows.collect())
}

/// From the `start`-th element on, negative from the end.
fn slice(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let list = args[0].as_list::<i32>();
    let [starts, lengths] = [1, 2].map(|index: usize| args[index].as_primitive::<Int32Type>());
    let offsets = list.value_offsets();
    let mut rows = Vec::with_capacity(list.len());
    for (row, &offset) in offsets.iter().take(list.len()).enumerate() {
        if list.is_null(row) || starts.is_null(row) || lengths.is_null(row) {
            rows.push(None);
            continue;
        }
        let (start, length) = (i64::from(starts.value(row)), i64::from(lengths.value(row)));
        if start == 0 {
            return Err("slice: an array is counted from 1, found 0".into());
        }
        if length < 0 {
            return Err(format!("slice: a length is not negative, found {length}"));
        }
        let size = i64::from(list.value_length(row));
        let first = if start > 0 { start - 1 } else { size + start };
        let kept = if first < 0 { 0..0 } else { first.min(size)..(first + length).min(size) };
        let base = i64::from(offset);
        rows.push(Some(kept.map(|at| (base + at) as u32).collect()));
    }
    rebuilt(list.values(), rows)
}

/// Longer sequences are a mistake in the query, and would fill the memory.
const SEQUENCE_MAX: i64 = 1 << 24;

/// Integers, or dates by days.
fn sequence(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let data_type = args[0].data_type().clone();
    let long = |array: &ArrayRef| -> Result<Int64Array, String> {
        let array = match array.data_type() {
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>();
                return Ok(days.unary::<_, Int64Type>(i64::from));
            }
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => array,
            _ => return Err("sequence takes integers, or dates by days".into()),
        };
        let array = arrow::compute::cast(array, &DataType::Int64).map_err(failed)?;
        Ok(array.as_primitive::<Int64Type>().clone())
    };
    let (starts, stops) = (long(&args[0])?, long(&args[1])?);
    let steps = args.get(2).map(long).transpose()?;
    let mut values: Vec<i64> = Vec::new();
    let mut rows = Vec::with_capacity(starts.len());
    for row in 0..starts.len() {
        let step_null = steps.as_ref().is_some_and(|steps| steps.is_null(row));
        if starts.is_null(row) || stops.is_null(row) || step_null {
            rows.push(None);
            continue;
        }
        let (start, stop) = (starts.value(row), stops.value(row));
        let step = steps.as_ref().map_or(if start <= stop { 1 } else { -1 }, |s| s.value(row));
        if step == 0 && start != stop || step > 0 && start > stop || step < 0 && start < stop {
            return Err(format!("sequence: {start} to {stop} by {step} has no end"));
        }
        let length = if step == 0 { 1 } else { (stop - start) / step + 1 };
        if length > SEQUENCE_MAX {
            return Err(format!("sequence: {length} elements, at most {SEQUENCE_MAX}"));
        }
        let first = values.len() as u32;
        values.extend((0..length).map(|at| start + at * step));
        rows.push(Some((first..values.len() as u32).collect()));
    }
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    let values = match data_type {
        DataType::Date32 => {
            let days = arrow::compute::cast(&values, &DataType::Int32).map_err(failed)?;
            arrow::compute::cast(&days, &DataType::Date32).map_err(failed)?
        }
        other => arrow::compute::cast(&values, &other).map_err(failed)?,
    };
    rebuilt(&values, rows)
}

fn overlap(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (left, right) = (Lists::new(&args[0])?, Lists::new(&args[1])?);
    let rows = (0..left.lists.len()).map(|row| {
        if !both_there(args, row) {
            return None;
        }
        let there: HashSet<&[u8]> =
            right.ids(row).filter(|(at, _)| right.is_there(*at)).map(|(_, bytes)| bytes).collect();
        let common = |(at, bytes): (u32, &[u8])| left.is_there(at) && there.contains(bytes);
        if left.ids(row).any(common) {
            return Some(true);
        }
        let has_null = left.range(row).any(|at| !left.is_there(at))
            || right.range(row).any(|at| !right.is_there(at));
        let both_have = !left.range(row).is_empty() && !right.range(row).is_empty();
        (!(has_null && both_have)).then_some(false)
    });
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

/// One array after the other; NULL where one of them is.
pub fn concat(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let lists: Vec<&ListArray> = args.iter().map(|arg| arg.as_list::<i32>()).collect();
    let mut firsts = vec![0u32];
    for list in &lists {
        firsts.push(firsts[firsts.len() - 1] + list.values().len() as u32);
    }
    let rows = (0..lists[0].len()).map(|row| {
        lists.iter().all(|list| list.is_valid(row)).then(|| {
            let of = |(list, first): (&&ListArray, &u32)| {
                let offsets = list.value_offsets();
                first + offsets[row] as u32..first + offsets[row + 1] as u32
            };
            lists.iter().zip(&firsts).flat_map(of).collect()
        })
    });
    let rows = rows.collect();
    let values: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
    rebuilt(&join_arrays(&values).map_err(failed)?, rows)
}
