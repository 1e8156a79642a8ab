//! The static side of a join: the rows of a query over static tables, by their keys.
//!
//! Invariant: what a row of the stream meets is a function of the tables' rows in their order.

use std::sync::{Arc, RwLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;

use super::expr::Compiled;
use super::fixed::Query;
use crate::error::{Error, Result};

fn taken(columns: &[ArrayRef], rows: &UInt32Array) -> Vec<ArrayRef> {
    let taken = columns.iter().map(|column| take(column, rows, None));
    taken.collect::<Result<_, _>>().expect("rows of these columns")
}

fn kept(columns: &[ArrayRef], mask: &ArrayRef) -> Vec<ArrayRef> {
    let kept = columns.iter().map(|column| filter(column, mask.as_boolean()));
    kept.collect::<Result<_, _>>().expect("the mask is as long as the columns")
}

/// The static side as the stream meets it.
#[derive(Debug)]
pub struct Side {
    pub query: Query,
    /// ON, as far as it reads the static side alone; over the query's columns.
    pub filter: Option<Compiled>,
    /// What the stream's keys are compared with, over the query's columns.
    pub keys: Vec<Compiled>,
    /// Which of the query's columns are read.
    pub columns: Vec<usize>,
    loaded: RwLock<Option<Arc<Lookup>>>,
}

impl Side {
    pub fn new(
        query: Query,
        filter: Option<Compiled>,
        keys: Vec<Compiled>,
        columns: Vec<usize>,
    ) -> Self {
        Side { query, filter, keys, columns, loaded: RwLock::new(None) }
    }

    /// Takes the rows of the job's tables; from its next epoch on each core meets these.
    ///
    /// Errors: `Failed` where an expression over the table stops.
    pub fn load(&self, tables: &[RecordBatch]) -> Result<()> {
        let answer = self.query.run(tables)?;
        let (mut columns, mut rows) = (answer.columns().to_vec(), answer.num_rows());
        if let Some(filter) = &self.filter {
            let mask = self.values(filter, &columns, rows)?;
            columns = kept(&columns, &mask);
            rows = mask.as_boolean().true_count();
        }
        let keys = self.keys.iter().map(|key| self.values(key, &columns, rows));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let columns = self.columns.iter().map(|&index| Arc::clone(&columns[index])).collect();
        let lookup = Arc::new(Lookup::new(&keys, columns, rows));
        *self.loaded.write().expect("nobody panics while it holds the table") = Some(lookup);
        Ok(())
    }

    fn values(&self, expr: &Compiled, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let evaluated = expr.evaluate(columns, rows, None);
        match evaluated.errors.into_iter().next() {
            None => Ok(evaluated.values),
            Some((row, reason)) => {
                let tables = &self.query.tables;
                Err(Error::failed(format!("{tables}: static table, row {}: {reason}", row + 1)))
            }
        }
    }

    /// The rows that are to be met now.
    pub fn lookup(&self) -> Arc<Lookup> {
        let loaded = self.loaded.read().expect("nobody panics while it holds the table");
        Arc::clone(loaded.as_ref().expect("a plan's tables are loaded before it runs"))
    }
}

/// A static table by its keys.
#[derive(Debug)]
pub struct Lookup {
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
    keys: Option<Keys>,
}

#[derive(Debug)]
struct Keys {
    converter: RowConverter,
    of: Rows,
    /// First row of each key; `next` leads on to the others, in their order.
    index: HashTable<u32>,
    next: Vec<Option<u32>>,
    /// Rows with a NULL among their keys: they equal nothing.
    nulls: usize,
}

impl Lookup {
    fn new(keys: &[ArrayRef], columns: Vec<ArrayRef>, rows: usize) -> Self {
        let keys = (!keys.is_empty()).then(|| Keys::new(keys, rows));
        Lookup { columns, rows, keys }
    }

    /// Types that can be compared as keys.
    pub fn takes(data_type: &DataType) -> bool {
        RowConverter::supports_fields(&[SortField::new(data_type.clone())])
    }

    /// How many rows have a NULL among their keys.
    pub fn nulls(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.nulls)
    }

    /// Calls `each` with the table's rows that have a row's keys, in the table's order; without keys
    /// every row meets every row.
    ///
    /// Shapes: `keys` hold one value for each of `rows`.
    pub fn matches(
        &self,
        keys: &[ArrayRef],
        rows: impl Iterator<Item = u32>,
        mut each: impl FnMut(u32, u32),
    ) {
        let Some(own) = &self.keys else {
            for row in rows {
                (0..self.rows as u32).for_each(|of_table| each(row, of_table));
            }
            return;
        };
        let sought = own.converter.convert_columns(&normal(keys));
        let sought = sought.expect("the planner compares keys of one type");
        for row in rows {
            if keys.iter().any(|key| key.is_null(row as usize)) {
                continue;
            }
            let key = sought.row(row as usize);
            let found = own.index.find(hash(key.as_ref()), |&at| own.of.row(at as usize) == key);
            let mut at = found.copied();
            while let Some(of_table) = at {
                each(row, of_table);
                at = own.next[of_table as usize];
            }
        }
    }

    pub fn bytes_held(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.get_array_memory_size()).sum();
        let keys = self.keys.as_ref().map_or(0, |keys| {
            keys.of.size()
                + keys.next.len() * size_of::<Option<u32>>()
                + keys.index.allocation_size()
        });
        columns + keys
    }
}

impl Keys {
    fn new(keys: &[ArrayRef], rows: usize) -> Self {
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).expect("the planner asked `takes`");
        let of = converter.convert_columns(&normal(keys)).expect("the keys' own types");
        let mut index: HashTable<u32> = HashTable::with_capacity(rows);
        let mut next = vec![None; rows];
        let mut nulls = 0;
        // From the last row on, so that a key's rows lead on in their order.
        for row in (0..rows as u32).rev() {
            if keys.iter().any(|key| key.is_null(row as usize)) {
                nulls += 1;
                continue;
            }
            let key = of.row(row as usize);
            let entry = index.entry(
                hash(key.as_ref()),
                |&at| of.row(at as usize) == key,
                |&at| hash(of.row(at as usize).as_ref()),
            );
            match entry {
                hashbrown::hash_table::Entry::Occupied(mut first) => {
                    next[row as usize] = Some(*first.get());
                    *first.get_mut() = row;
                }
                hashbrown::hash_table::Entry::Vacant(free) => _ = free.insert(row),
            }
        }
        Keys { converter, of, index, next, nulls }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// Keys whose bytes are equal where SQL calls them equal: -0.0 is 0.0, NaN is one.
pub fn normal(keys: &[ArrayRef]) -> Vec<ArrayRef> {
    let one = |key: &ArrayRef| -> ArrayRef {
        match key.data_type() {
            DataType::Float64 => Arc::new(
                key.as_primitive::<Float64Type>()
                    .unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }),
            ),
            DataType::Float32 => Arc::new(
                key.as_primitive::<Float32Type>()
                    .unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }),
            ),
            _ => Arc::clone(key),
        }
    };
    keys.iter().map(one).collect()
}

/// The table's columns for these rows of it; NULL where there is none.
pub fn columns_of(lookup: &Lookup, rows: &UInt32Array) -> Vec<ArrayRef> {
    taken(&lookup.columns, rows)
}
