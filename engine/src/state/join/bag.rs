//! The rows of one side of a join, by number, by key and by time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use twox_hash::XxHash3_64;

use super::internal;
use crate::error::Result;

type Hash = BuildHasherDefault<XxHash3_64>;

/// The rows of one side.
pub(super) struct Bag {
    pub converter: RowConverter,
    pub rows: BTreeMap<u64, Held>,
    pub by_key: hashbrown::HashMap<Arc<[u8]>, VecDeque<u64>, Hash>,
    /// Only rows that the watermark takes.
    pub by_time: BTreeMap<i64, VecDeque<u64>>,
    pub bytes: usize,
}

pub(super) struct Held {
    pub row: Box<[u8]>,
    /// `None`: a key is NULL, the row meets none.
    pub key: Option<Arc<[u8]>>,
    pub time: Option<i64>,
    pub matched: bool,
}

impl Bag {
    pub fn new(schema: &SchemaRef) -> Bag {
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone())).collect();
        Bag {
            converter: RowConverter::new(fields)
                .expect("the planner asked whether rows can be kept"),
            rows: BTreeMap::new(),
            by_key: hashbrown::HashMap::default(),
            by_time: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub fn insert(&mut self, number: u64, held: Held) {
        if let Some(key) = &held.key {
            self.by_key.entry(Arc::clone(key)).or_default().push_back(number);
        }
        if let Some(time) = held.time {
            self.by_time.entry(time).or_default().push_back(number);
        }
        self.bytes += held.bytes();
        self.rows.insert(number, held);
    }

    pub fn remove(&mut self, number: u64) {
        let Some(held) = self.rows.remove(&number) else { return };
        self.bytes -= held.bytes();
        if let Some(key) = &held.key
            && let Some(rows) = self.by_key.get_mut(key)
        {
            take_out(rows, number);
            if rows.is_empty() {
                self.by_key.remove(key);
            }
        }
        if let Some(time) = held.time
            && let Some(rows) = self.by_time.get_mut(&time)
        {
            take_out(rows, number);
            if rows.is_empty() {
                self.by_time.remove(&time);
            }
        }
    }

    pub fn columns(&self, numbers: &[u64]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let rows = numbers.iter().map(|number| parser.parse(&self.rows[number].row));
        self.converter.convert_rows(rows).map_err(internal)
    }
}

/// Numbers ascend, and mostly the first one goes.
fn take_out(rows: &mut VecDeque<u64>, number: u64) {
    if let Ok(at) = rows.binary_search(&number) {
        rows.remove(at);
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.row.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}
