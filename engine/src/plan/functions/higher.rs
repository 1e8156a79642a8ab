//! What functions that take functions do with the elements of arrays and the entries of maps.
//!
//! NULL in place of an array gives NULL; a NULL condition keeps nothing; `exists` and `forall` are
//! three-valued, as Spark's.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, UInt32Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Int32Type};

use super::lambda::Kind;
use super::map;
use crate::plan::lambda::Body;

/// As many pairs as one comparator is asked about for one array.
const PAIRS_MAX: usize = 4_000_000;

/// `captured`: what the bodies read of each row.
pub fn run(
    kind: Kind,
    values: &[ArrayRef],
    captured: &[ArrayRef],
    bodies: &[Body],
    returns: &DataType,
) -> Result<ArrayRef, String> {
    let (values, nulls) = (&values[0], values);
    let call = Call { captured, body: &bodies[0], returns };
    match kind {
        Kind::Transform => call.transform(values),
        Kind::Filter => call.filter(values),
        Kind::Exists => call.truth(values, true),
        Kind::ForAll => call.truth(values, false),
        Kind::Aggregate => call.aggregate(values, &nulls[1], bodies.get(1)),
        Kind::ZipWith => call.zip(values, &nulls[1]),
        Kind::Sort => call.sort(values),
        Kind::MapFilter => call.map_filter(values),
        Kind::TransformKeys => call.map_with(values, true),
        Kind::TransformValues => call.map_with(values, false),
        Kind::MapZipWith => call.map_zip(values, &nulls[1]),
    }
}

struct Call<'a> {
    captured: &'a [ArrayRef],
    body: &'a Body,
    returns: &'a DataType,
}

/// The elements of the rows that have an array.
struct Elements {
    /// The row of each.
    parents: Vec<u32>,
    /// Its place among its row's.
    places: Vec<i32>,
    /// Its place among the values of all rows.
    at: UInt32Array,
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Elements {
    fn of(offsets: &[i32], nulls: Option<&NullBuffer>) -> Elements {
        let (mut parents, mut places, mut at) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::with_capacity(offsets.len());
        for (row, ends) in offsets.windows(2).enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                lengths.push(0);
                continue;
            }
            lengths.push((ends[1] - ends[0]) as usize);
            for place in ends[0]..ends[1] {
                parents.push(row as u32);
                places.push(place - ends[0]);
                at.push(place as u32);
            }
        }
        Elements { parents, places, at: UInt32Array::from(at), lengths, nulls: nulls.cloned() }
    }

    /// An array of each row's elements.
    fn list(self, values: ArrayRef) -> ArrayRef {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Arc::new(ListArray::new(field, offsets, values, self.nulls))
    }

    /// Those elements that a mask keeps.
    fn kept(&mut self, mask: &BooleanArray) -> UInt32Array {
        let keeps = |at: usize| mask.is_valid(at) && mask.value(at);
        let kept: Vec<usize> = (0..self.parents.len()).filter(|&at| keeps(at)).collect();
        self.lengths.fill(0);
        kept.iter().for_each(|&at| self.lengths[self.parents[at] as usize] += 1);
        kept.iter().map(|&at| Some(self.at.value(at))).collect()
    }
}

fn failed(error: arrow::error::ArrowError) -> String {
    error.to_string()
}

fn elements(list: &ListArray) -> Result<(Elements, ArrayRef), String> {
    let elements = Elements::of(list.value_offsets(), list.nulls());
    let values = take(list.values(), &elements.at, None).map_err(failed)?;
    Ok((elements, values))
}

impl Call<'_> {
    /// The body over elements and, where it takes it, their places.
    fn over(&self, elements: &Elements, values: ArrayRef) -> Result<ArrayRef, String> {
        let mut parameters = vec![values];
        if self.body.parameters() > 1 {
            parameters.push(Arc::new(Int32Array::from(elements.places.clone())));
        }
        self.body.run(&parameters, &elements.parents, self.captured)
    }

    fn transform(&self, list: &ArrayRef) -> Result<ArrayRef, String> {
        let (elements, values) = elements(list.as_list())?;
        let made = self.over(&elements, values)?;
        Ok(elements.list(made))
    }

    fn filter(&self, list: &ArrayRef) -> Result<ArrayRef, String> {
        let (mut elements, values) = elements(list.as_list())?;
        let mask = self.over(&elements, values)?;
        let kept = elements.kept(mask.as_boolean());
        let values = take(list.as_list::<i32>().values(), &kept, None).map_err(failed)?;
        Ok(elements.list(values))
    }

    /// Whether a condition has this answer for one element at least; the other where it has it for
    /// none; NULL where it is NULL for one of them.
    fn truth(&self, list: &ArrayRef, sought: bool) -> Result<ArrayRef, String> {
        let (elements, values) = elements(list.as_list())?;
        let answers = self.over(&elements, values)?;
        let answers = answers.as_boolean();
        let mut all = vec![Some(!sought); elements.lengths.len()];
        for (at, &row) in elements.parents.iter().enumerate() {
            let row = &mut all[row as usize];
            if answers.is_null(at) {
                *row = row.filter(|row| *row == sought);
            } else if answers.value(at) == sought {
                *row = Some(sought);
            }
        }
        let there = |row: &usize| elements.nulls.as_ref().is_none_or(|n| n.is_valid(*row));
        let all = all.into_iter().enumerate();
        Ok(Arc::new(
            all.map(|(row, answer)| answer.filter(|_| there(&row))).collect::<BooleanArray>(),
        ))
    }

    /// Folds the first elements of all rows, then the second ones, and so on.
    fn aggregate(
        &self,
        list: &ArrayRef,
        start: &ArrayRef,
        finish: Option<&Body>,
    ) -> Result<ArrayRef, String> {
        let list = list.as_list::<i32>();
        let mut held = Arc::clone(start);
        let length = |row: usize| if list.is_valid(row) { list.value_length(row) } else { 0 };
        let longest = (0..list.len()).map(length).max().unwrap_or(0);
        for place in 0..longest {
            let rows: Vec<u32> =
                (0..list.len()).filter(|&row| length(row) > place).map(|row| row as u32).collect();
            let at = rows.iter().map(|&row| (list.value_offsets()[row as usize] + place) as u32);
            let at = UInt32Array::from_iter_values(at);
            let element = take(list.values(), &at, None).map_err(failed)?;
            let before = take(&held, &UInt32Array::from(rows.clone()), None).map_err(failed)?;
            let after = self.body.run(&[before, element], &rows, self.captured)?;
            let both = concat(&[&held, &after]).map_err(failed)?;
            let mut places: Vec<u32> = (0..list.len() as u32).collect();
            for (made, row) in rows.into_iter().enumerate() {
                places[row as usize] = (list.len() + made) as u32;
            }
            held = take(&both, &UInt32Array::from(places), None).map_err(failed)?;
        }
        let there: Vec<Option<u32>> =
            (0..list.len()).map(|row| list.is_valid(row).then_some(row as u32)).collect();
        if let Some(finish) = finish {
            let rows: Vec<u32> = there.iter().flatten().copied().collect();
            let last = take(&held, &UInt32Array::from(rows.clone()), None).map_err(failed)?;
            let made = finish.run(&[last], &rows, self.captured)?;
            let mut next = 0..rows.len() as u32;
            let places = there.iter().map(|row| row.and_then(|_| next.next()));
            return take(&made, &places.collect::<UInt32Array>(), None).map_err(failed);
        }
        take(&held, &UInt32Array::from(there), None).map_err(failed)
    }

    /// Pairs of elements; the shorter array is filled up with NULL.
    fn zip(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, String> {
        let (left, right) = (left.as_list::<i32>(), right.as_list::<i32>());
        let nulls = NullBuffer::union(left.nulls(), right.nulls());
        let mut parents = Vec::new();
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        let mut lengths = Vec::with_capacity(left.len());
        for row in 0..left.len() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                lengths.push(0);
                continue;
            }
            let (ours, theirs) = (left.value_length(row), right.value_length(row));
            lengths.push(ours.max(theirs) as usize);
            for place in 0..ours.max(theirs) {
                let at = |list: &ListArray, length: i32| {
                    (place < length).then(|| (list.value_offsets()[row] + place) as u32)
                };
                parents.push(row as u32);
                of_left.push(at(left, ours));
                of_right.push(at(right, theirs));
            }
        }
        let one = |list: &ListArray, at: Vec<Option<u32>>| {
            take(list.values(), &UInt32Array::from(at), None).map_err(failed)
        };
        let parameters = [one(left, of_left)?, one(right, of_right)?];
        let made = self.body.run(&parameters, &parents, self.captured)?;
        let field = Arc::new(Field::new("item", made.data_type().clone(), true));
        Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), made, nulls)))
    }

    /// By a comparator, which is asked about every pair of a row's elements.
    fn sort(&self, list: &ArrayRef) -> Result<ArrayRef, String> {
        let list = list.as_list::<i32>();
        let mut order: Vec<u32> = Vec::with_capacity(list.values().len());
        let mut lengths = Vec::with_capacity(list.len());
        for row in 0..list.len() {
            let first = list.value_offsets()[row] as u32;
            let length = if list.is_valid(row) { list.value_length(row) as usize } else { 0 };
            lengths.push(length);
            if length * length > PAIRS_MAX {
                return Err(format!("array_sort: {length} elements are too many to compare"));
            }
            let pairs = (0..length as u32).flat_map(|a| (0..length as u32).map(move |b| (a, b)));
            let (left, right): (Vec<u32>, Vec<u32>) =
                pairs.map(|(a, b)| (first + a, first + b)).unzip();
            let parents = vec![row as u32; left.len()];
            let one = |at: Vec<u32>| take(list.values(), &UInt32Array::from(at), None);
            let parameters = [one(left).map_err(failed)?, one(right).map_err(failed)?];
            let compared = self.body.run(&parameters, &parents, self.captured)?;
            let compared = compared.as_primitive::<Int32Type>();
            if length > 1 && compared.null_count() > 0 {
                return Err("array_sort: the comparator has returned NULL".into());
            }
            // A comparator may contradict itself: insertion takes any answer, as Java's sort does.
            let mut sorted: Vec<usize> = Vec::with_capacity(length);
            for element in 0..length {
                let less = |&at: &usize| compared.value(at * length + element) <= 0;
                let place = sorted.iter().rposition(less).map_or(0, |place| place + 1);
                sorted.insert(place, element);
            }
            order.extend(sorted.into_iter().map(|element| first + element as u32));
        }
        let values = take(list.values(), &UInt32Array::from(order), None).map_err(failed)?;
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::new(field, offsets, values, list.nulls().cloned())))
    }

    fn map_filter(&self, source: &ArrayRef) -> Result<ArrayRef, String> {
        let entries = source.as_map();
        let mut elements = Elements::of(entries.value_offsets(), entries.nulls());
        let one = |column: &ArrayRef| take(column, &elements.at, None).map_err(failed);
        let parameters = [one(entries.keys())?, one(entries.values())?];
        let mask = self.body.run(&parameters, &elements.parents, self.captured)?;
        let kept = elements.kept(mask.as_boolean());
        let keys = take(entries.keys(), &kept, None).map_err(failed)?;
        let values = take(entries.values(), &kept, None).map_err(failed)?;
        map::array(self.returns, &elements.lengths, keys, values, elements.nulls)
    }

    fn map_with(&self, source: &ArrayRef, of_keys: bool) -> Result<ArrayRef, String> {
        let entries = source.as_map();
        let elements = Elements::of(entries.value_offsets(), entries.nulls());
        let one = |column: &ArrayRef| take(column, &elements.at, None).map_err(failed);
        let (keys, values) = (one(entries.keys())?, one(entries.values())?);
        let parameters = [Arc::clone(&keys), Arc::clone(&values)];
        let made = self.body.run(&parameters, &elements.parents, self.captured)?;
        let (keys, values) = if of_keys { (made, values) } else { (keys, made) };
        map::array(self.returns, &elements.lengths, keys, values, elements.nulls)
    }

    /// Every key of both maps once, with its two values.
    fn map_zip(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, String> {
        let merged = map::merged(left.as_map(), right.as_map())?;
        let parameters = [Arc::clone(&merged.keys), merged.left, merged.right];
        let made = self.body.run(&parameters, &merged.parents, self.captured)?;
        let made = match made.data_type() {
            DataType::Null => match self.returns {
                DataType::Map(entries, _) => new_null_array(map::value_type(entries), made.len()),
                _ => made,
            },
            _ => made,
        };
        map::array(self.returns, &merged.lengths, merged.keys, made, merged.nulls)
    }
}
