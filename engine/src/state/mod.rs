//! The state of one shard: its groups, when each closes, which an epoch touched.
//!
//! Invariant: state = the merge of every partial that reached the shard, less the groups that the
//! watermark closed. The cost of eviction is that of what is evicted.

pub mod order;
pub mod partition;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Field, TimestampMicrosecondType};
use arrow::error::ArrowError;
use pelton_kernels::cpu::aggregate::{Call, GroupTable};
use pelton_kernels::cpu::keys::KeySpace;

use crate::error::{Error, Result};
use crate::plan::Groups;

/// Ids of dead keys are given up when they are this many and outnumber the live ones.
const DEAD_IDS_MAX: usize = 1 << 16;

pub struct StateStore {
    space: KeySpace,
    table: GroupTable,
    closing: Closing,
    /// Groups by the time at which they close; empty where nothing closes.
    by_end: BTreeMap<i64, Vec<u32>>,
    /// By group: it stands in `by_end`; it was touched in this epoch.
    filed: Vec<bool>,
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    merged: Vec<u32>,
}

/// The key that tells when a group closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    Never,
    /// This key is the start of a window of this size.
    Window {
        key: usize,
        size_us: i64,
    },
    /// This key is the event time itself.
    EventTime {
        key: usize,
    },
}

impl Closing {
    pub fn of(groups: &Groups) -> Closing {
        match (groups.window, groups.event_time_key) {
            (Some(window), _) => Closing::Window { key: window.key, size_us: window.size_us },
            (None, Some(key)) => Closing::EventTime { key },
            (None, None) => Closing::Never,
        }
    }

    /// When the group of each row of these keys closes; `None`: never, or never for a NULL.
    pub fn ends(self, keys: &[ArrayRef]) -> Option<Vec<Option<i64>>> {
        let (key, size_us) = match self {
            Closing::Never => return None,
            Closing::Window { key, size_us } => (key, size_us),
            Closing::EventTime { key } => (key, 0),
        };
        let starts = keys[key].as_primitive::<TimestampMicrosecondType>();
        Some(starts.iter().map(|start| start.map(|start| start.saturating_add(size_us))).collect())
    }
}

impl StateStore {
    pub fn new(groups: &Groups) -> Self {
        Self::of(&groups.key_fields(), &groups.calls(), Closing::of(groups))
    }

    pub fn of(key_fields: &[Field], calls: &[Call], closing: Closing) -> Self {
        let types: Vec<_> = key_fields.iter().map(|field| field.data_type().clone()).collect();
        StateStore {
            space: KeySpace::new(&types),
            table: GroupTable::new(key_fields, calls),
            closing,
            by_end: BTreeMap::new(),
            filed: Vec::new(),
            is_touched: Vec::new(),
            touched: Vec::new(),
            merged: Vec::new(),
        }
    }

    /// As [`StateStore::merge`], from a state file, whose text keys are plain. Keys are the first
    /// columns; a state is found by its name among `names`, those of this store's columns in files.
    /// A file of format 1 has them in their order.
    pub fn merge_file(&mut self, partial: &RecordBatch, names: &[String]) -> Result<()> {
        let fields = self.table.schema().fields();
        let of_old = partial.schema_ref().fields().iter().zip(fields);
        let in_order = partial.num_columns() == fields.len()
            && of_old.skip(self.space.types().len()).all(|(old, field)| old.name() == field.name());
        let keys = self.space.types().len();
        let columns = fields.iter().zip(names).enumerate().map(|(at, (field, name))| {
            let column = match at < keys || in_order {
                true => partial.columns().get(at),
                false => partial.column_by_name(name),
            };
            let missing = || ArrowError::SchemaError(format!("it has no column {name:?}"));
            let column = column.ok_or_else(missing)?;
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            cast(column, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>();
        let rows = RecordBatchOptions::new().with_row_count(Some(partial.num_rows()));
        let schema = self.table.schema().clone();
        let partial = columns
            .and_then(|columns| RecordBatch::try_new_with_options(schema, columns, &rows))
            .map_err(|error| Error::failed(format!("a state file has another form: {error}")))?;
        self.merge(&partial)
    }

    /// Folds a partial into the state; its groups count as touched until [`StateStore::settle`].
    pub fn merge(&mut self, partial: &RecordBatch) -> Result<()> {
        self.merged.clear();
        self.table
            .merge(&mut self.space, partial, &mut self.merged)
            .map_err(|error| Error::failed(error.to_string()))?;
        self.grow();
        for &group in &self.merged {
            if !self.is_touched[group as usize] {
                self.is_touched[group as usize] = true;
                self.touched.push(group);
            }
        }
        if let Some(ends) = self.closing.ends(partial.columns()) {
            self.file(&ends);
        }
        Ok(())
    }

    fn file(&mut self, ends: &[Option<i64>]) {
        // Rows of one window stand together, so the list of the last end serves the next row.
        let mut at: Option<(i64, Vec<u32>)> = None;
        for (&group, end) in self.merged.iter().zip(ends) {
            let Some(end) = *end else { continue };
            if std::mem::replace(&mut self.filed[group as usize], true) {
                continue;
            }
            if at.as_ref().is_none_or(|(last, _)| *last != end) {
                let list = self.by_end.remove(&end).unwrap_or_default();
                if let Some((last, list)) = at.replace((end, list)) {
                    self.by_end.insert(last, list);
                }
            }
            if let Some((_, list)) = &mut at {
                list.push(group);
            }
        }
        if let Some((last, list)) = at {
            self.by_end.insert(last, list);
        }
    }

    /// A query without GROUP BY has its one group from the first epoch on.
    pub fn ensure_global_group(&mut self) {
        let group = self.table.ensure(0);
        self.grow();
        if !std::mem::replace(&mut self.is_touched[group as usize], true) {
            self.touched.push(group);
        }
    }

    /// Groups that the running epoch touched, each once.
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Groups that close at `watermark`, the earliest first.
    pub fn closed(&self, watermark: i64) -> Vec<u32> {
        self.by_end.range(..=watermark).flat_map(|(_, groups)| groups.iter().copied()).collect()
    }

    pub fn all(&self) -> Vec<u32> {
        self.table.groups().iter().collect()
    }

    pub fn len(&self) -> usize {
        self.table.groups().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys, then values, of some groups.
    ///
    /// Errors: `Failed` where an aggregate left the range of its type.
    pub fn rows(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys: Vec<u64> = groups.iter().map(|&group| self.table.groups().key(group)).collect();
        let mut columns = self.space.decode(&keys);
        let values = self.table.values(groups).map_err(|error| Error::failed(error.to_string()))?;
        columns.extend(values);
        Ok(columns)
    }

    /// The whole state as one partial: what a base is written from.
    pub fn partial(&self) -> RecordBatch {
        self.table.partial(&self.space, None)
    }

    /// Ends the epoch: touched marks go, and with a watermark the groups that it closes. Returns
    /// how many were evicted.
    pub fn settle(&mut self, watermark: Option<i64>) -> usize {
        for group in self.touched.drain(..) {
            self.is_touched[group as usize] = false;
        }
        let Some(watermark) = watermark else { return 0 };
        let open = match watermark.checked_add(1) {
            Some(next) => self.by_end.split_off(&next),
            None => BTreeMap::new(),
        };
        let closed = std::mem::replace(&mut self.by_end, open);
        let evicted: usize = closed.values().map(Vec::len).sum();
        if evicted * 4 > self.len() * 3 {
            self.keep_only_open(&closed);
            return evicted;
        }
        for groups in closed.into_values() {
            for &group in &groups {
                self.filed[group as usize] = false;
            }
            self.table.remove(&groups);
        }
        self.give_up_dead_ids();
        evicted
    }

    /// Forgets every group: `batch` mode, after each epoch.
    pub fn clear(&mut self) {
        self.table.clear();
        self.space.clear();
        self.by_end.clear();
        self.filed.clear();
        self.is_touched.clear();
        self.touched.clear();
    }

    /// Most groups close: the few others move to an empty table, which costs less than to take each
    /// closed one out.
    fn keep_only_open(&mut self, closed: &BTreeMap<i64, Vec<u32>>) {
        let mut is_closed = vec![false; self.table.groups().capacity()];
        for &group in closed.values().flatten() {
            is_closed[group as usize] = true;
        }
        let open: Vec<u32> =
            self.table.groups().iter().filter(|&group| !is_closed[group as usize]).collect();
        let open = self.table.partial(&self.space, Some(&open));
        self.clear();
        self.merge(&open).expect("a table takes its own partial");
        for group in self.touched.drain(..) {
            self.is_touched[group as usize] = false;
        }
    }

    fn give_up_dead_ids(&mut self) {
        let held = self.space.ids_held();
        if held <= DEAD_IDS_MAX || held <= 2 * self.len() {
            return;
        }
        self.table.compact(&mut self.space);
        // Groups have new numbers now.
        self.by_end.clear();
        self.filed.clear();
        self.is_touched.clear();
        self.merged = self.all();
        self.grow();
        let keys: Vec<u64> =
            self.merged.iter().map(|&group| self.table.groups().key(group)).collect();
        if let Some(ends) = self.closing.ends(&self.space.decode(&keys)) {
            self.file(&ends);
        }
    }

    fn grow(&mut self) {
        let slots = self.table.groups().capacity();
        self.filed.resize(slots, false);
        self.is_touched.resize(slots, false);
    }

    pub fn bytes_held(&self) -> usize {
        let filed: usize = self.by_end.values().map(|groups| groups.capacity() * 4 + 64).sum();
        let marks = self.filed.capacity() + self.is_touched.capacity();
        self.table.bytes_held() + self.space.bytes_held() + filed + marks
    }
}

/// The rows of a partial that are still open at `watermark`: the others leave in the epoch that
/// brought them, so no checkpoint needs them.
pub fn still_open(closing: Closing, partial: &RecordBatch, watermark: Option<i64>) -> RecordBatch {
    let (Some(watermark), Some(ends)) = (watermark, closing.ends(partial.columns())) else {
        return partial.clone();
    };
    let open = ends.iter().map(|end| Some(end.is_none_or(|end| end > watermark))).collect();
    filter_record_batch(partial, &open).expect("one flag a row")
}
