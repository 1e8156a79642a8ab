//! Deduplication: the first row of a key passes, the others were seen before.
//!
//! The state holds the keys that were met, each with the time at which it is forgotten, if it ever
//! is. The first row is the one that comes first in the order of positions.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use pelton_kernels::cpu::aggregate::Positions;
use pelton_kernels::cpu::keys::{KeyInput, Rows};

use super::{StateStore, still_open};
use crate::error::{Error, Result};
use crate::plan::First;

/// What deduplication makes of rows.
pub struct Admitted {
    pub rows: RecordBatch,
    /// The keys that are new, as a partial.
    pub delta: RecordBatch,
}

impl StateStore {
    /// The rows whose keys were not met before, or are forgotten.
    ///
    /// Shapes: `rows` stand in the order of their positions. `watermark`: keys that it closes leave
    /// at the end of this epoch, so no checkpoint needs them.
    /// Errors: `Failed` where rows do not fit the plan.
    pub fn admit(
        &mut self,
        first: &First,
        rows: &RecordBatch,
        watermark: Option<i64>,
    ) -> Result<Admitted> {
        let columns: Vec<ArrayRef> =
            first.keys.iter().map(|&key| rows.column(key).clone()).collect();
        let inputs: Vec<KeyInput<'_>> = columns.iter().map(KeyInput::Values).collect();
        let mut keys = Vec::with_capacity(rows.num_rows());
        self.space.encode(&inputs, Rows::All(rows.num_rows()), &mut keys);
        let times = |column: Option<usize>| {
            column.map(|column| rows.column(column).as_primitive::<TimestampMicrosecondType>())
        };
        let forget_at = times(first.time).map(|times| first.forget_at(times));
        let clocks = times(first.clock);
        let (mut passed, mut groups) = (Vec::new(), Vec::new());
        for (row, &key) in keys.iter().enumerate() {
            if let Some(group) = self.table.groups().find(key)
                && !self.is_forgotten(group, clocks, row)
            {
                continue;
            }
            let group = self.table.ensure(key);
            self.grow();
            let end = forget_at.as_ref().filter(|times| times.is_valid(row));
            self.agenda.file(&[group], &[end.map(|times| times.value(row))]);
            passed.push(row as u32);
            groups.push(group);
        }
        let keys: Vec<u64> = passed.iter().map(|&row| keys[row as usize]).collect();
        let arguments: Vec<ArrayRef> = match forget_at {
            Some(times) if first.within_us.is_some() => vec![std::sync::Arc::new(times)],
            _ => Vec::new(),
        };
        let positions = Positions::default();
        self.table.update(&keys, Rows::Selected(&passed), &arguments, &positions);
        groups.sort_unstable();
        groups.dedup();
        self.touch(&groups);
        let delta = self.table.partial(&self.space, Some(&groups));
        let rows = take_record_batch(rows, &UInt32Array::from(passed))
            .map_err(|error| Error::failed(format!("deduplication: {error}")))?;
        Ok(Admitted { rows, delta: still_open(self.closing, &delta, watermark) })
    }

    /// Whether the key of a group was forgotten before a row came, by the row's own clock.
    fn is_forgotten(
        &self,
        group: u32,
        clocks: Option<&TimestampMicrosecondArray>,
        row: usize,
    ) -> bool {
        let clock = clocks.filter(|clocks| clocks.is_valid(row)).map(|clocks| clocks.value(row));
        match (self.agenda.end(group), clock) {
            (Some(end), Some(clock)) => end <= clock,
            _ => false,
        }
    }
}

impl First {
    /// When each row's key is forgotten. Without an event time that is a delay after 1970 began, as
    /// Spark reads it: else such keys would be held for ever.
    fn forget_at(&self, times: &TimestampMicrosecondArray) -> TimestampMicrosecondArray {
        let Some(after) = self.within_us else { return times.clone() };
        let ends = times.iter().map(|time| time.unwrap_or(0).saturating_add(after));
        let ends = TimestampMicrosecondArray::from_iter_values(ends);
        ends.with_data_type(times.data_type().clone())
    }
}
