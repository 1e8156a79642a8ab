//! A query without groups on a device: of a batch those rows come back that pass, with what was computed.
//!
//! Invariant: what a device gave is in host memory when the next batch goes up, so a device that fails
//! takes nothing with it: the batch at which it does is the CPU's. Columns of the input are taken from
//! the batch where it lies, and what a device cannot compute is computed on the CPU of the rows that pass.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;
use pelton_kernels::gpu::{GpuError, Passed, Place, ROWS_MAX};

use super::super::segment::{Segment, copy_of};
use super::super::{CoreEpoch, Pipeline};
use super::{EPOCHS_WITHOUT, OnDevice, Projected, is_shadowed, shadow};
use crate::batch::InputBatch;
use crate::plan::device::Feed;
use crate::plan::expr::Compiled;

/// Values of a column of the output.
enum Values {
    /// One for each row of the batch.
    OfAll(ArrayRef),
    /// One for each row that passed on the device.
    OfPassed(ArrayRef),
}

impl Pipeline {
    /// Takes the rows that passed on the device and that nothing else drops.
    pub(in super::super) fn take_rows(
        &mut self,
        segment: &mut Segment,
        batch: &InputBatch<'_>,
        (columns, schema): (&[Compiled], &SchemaRef),
        projected: Projected,
    ) {
        let plan = Arc::clone(&self.plan);
        let device = self.device.as_ref().expect("it has filtered the rows").plan();
        let passed = projected.passed.expect("a query without groups has its rows back");
        let stopped = projected.fates.iter().zip(0_u32..);
        let stopped = stopped.filter_map(|(fate, row)| fate.stopped_at().map(|at| (row, at)));
        let stopped: Vec<(u32, usize)> = stopped.collect();
        let filters = device.query.filters.len();
        let mut values = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let Some(at) = device.columns.iter().position(|computed| *computed == place) else {
                let alive = self.fates.alive_rows();
                let evaluated = column.evaluate(batch.columns, batch.rows, alive);
                for (row, reason) in evaluated.errors {
                    self.fates.reject_expression(row, reason);
                }
                values.push(Values::OfAll(evaluated.values));
                continue;
            };
            for &(row, _) in stopped.iter().filter(|(_, stop)| *stop == filters + at) {
                let reason = column.reason(batch.columns, row as usize);
                self.fates.reject_expression(row, reason);
            }
            values.push(Values::OfPassed(Arc::clone(&passed.columns[at])));
        }
        self.lateness.judge(batch, &plan, &mut self.fates, None);
        segment.gpu_rows += batch.rows as u64;
        segment.push_kept(schema, kept(&values, self.fates.alive_rows(), &passed.rows));
    }

    /// Ends an epoch on the device, where there is one.
    pub(in super::super) fn leave_device(&mut self, epoch: &mut CoreEpoch) {
        let Some(device) = &mut self.device else { return };
        let groups = match &mut self.grouping {
            Some(grouping) => {
                device.drain(&mut grouping.table, &mut grouping.space);
                grouping.table.groups().len()
            }
            None => {
                device.end_rows();
                0
            }
        };
        device.tell(epoch, groups as u64);
    }
}

/// The values of the rows that are alive, in memory of their own; none: of all.
fn kept(values: &[Values], alive: Option<&[u32]>, passed: &[u32]) -> Vec<ArrayRef> {
    let choose = |column: &ArrayRef, rows: &Option<UInt32Array>| match rows {
        None => copy_of(column),
        Some(rows) => take(column, rows, None).expect("row numbers are within the column"),
    };
    let of_all = alive.map(|alive| UInt32Array::from(alive.to_vec()));
    let of_passed = alive.filter(|alive| alive.len() < passed.len()).map(|alive| {
        let mut rest = (0..).zip(passed);
        let mut place = |row: &u32| {
            let found = rest.find(|(_, passed)| *passed == row);
            found.expect("a row that is alive was dropped by no filter").0
        };
        UInt32Array::from_iter_values(alive.iter().map(&mut place))
    });
    let column = |values: &Values| match values {
        Values::OfAll(column) => choose(column, &of_all),
        Values::OfPassed(column) if of_passed.is_none() => Arc::clone(column),
        Values::OfPassed(column) => choose(column, &of_passed),
    };
    values.iter().map(column).collect()
}

impl OnDevice {
    /// Filters a batch on the device and computes what it can of the rows that pass; none where the CPU
    /// must.
    pub fn filter(&mut self, columns: &[ArrayRef], rows: usize) -> Option<Projected> {
        self.batches += 1;
        if self.kernels.is_none() || rows == 0 {
            return None;
        }
        let input = |feed: &Feed| match *feed {
            Feed::Column(column) => Arc::clone(&columns[column]),
            Feed::Key(_) | Feed::KeyIds(_) | Feed::Argument(_) | Feed::RowStarts => {
                unreachable!("a query without groups sends columns of its input alone")
            }
        };
        let inputs: Vec<ArrayRef> = self.gpu.plan.feeds.iter().map(input).collect();
        match self.filter_all(&inputs, rows) {
            Ok((fates, passed)) => Some(Projected {
                fates,
                batches: Vec::new(),
                place: Place::default(),
                columns: inputs,
                stops: Vec::new(),
                passed: Some(passed),
            }),
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    fn filter_all(
        &mut self,
        inputs: &[ArrayRef],
        rows: usize,
    ) -> Result<(Vec<pelton_kernels::gpu::Fate>, Passed), GpuError> {
        let kernels = self.kernels.as_mut().expect("the caller has looked");
        let (mut fates, mut parts) = (Vec::with_capacity(rows), Vec::new());
        for start in (0..rows).step_by(ROWS_MAX) {
            let some = ROWS_MAX.min(rows - start);
            let mut passed = kernels.projector.filter(inputs, start, some, &mut fates)?;
            passed.rows.iter_mut().for_each(|row| *row += start as u32);
            parts.push(passed);
        }
        let passed = joined(parts);
        if is_shadowed(&self.gpu, self.epochs) {
            let query = &self.gpu.plan.query;
            shadow::check_fates(query, inputs, &fates)?;
            shadow::check_rows(query, inputs, rows, &passed)?;
        }
        Ok((fates, passed))
    }

    /// Ends the epoch of a query without groups.
    fn end_rows(&mut self) {
        self.note_absence();
        self.epochs += u64::from(self.batches > 0);
        self.batches = 0;
        if self.kernels.is_some() {
            self.patience = EPOCHS_WITHOUT;
            return;
        }
        if !self.is_wanted() {
            return;
        }
        self.epochs_without = self.epochs_without.saturating_sub(1);
        if self.epochs_without == 0 {
            self.try_again();
        }
    }
}

fn joined(mut parts: Vec<Passed>) -> Passed {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let column = |at: usize| {
        let columns: Vec<_> = parts.iter().map(|part| part.columns[at].as_ref()).collect();
        concat(&columns).expect("parts of a batch have columns of one type")
    };
    let columns = (0..parts[0].columns.len()).map(column).collect();
    Passed { rows: parts.iter().flat_map(|part| &part.rows).copied().collect(), columns }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
