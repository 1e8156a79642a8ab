//! A query over inputs that are in memory and end: one epoch, no state before it and none after.
//!
//! Static sides of joins and subqueries are answered so. They have no checkpoint and no late rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use super::{EpochInput, Epochs, ScanInput, Task, Workers};
use crate::batch::{Encoding, InputBatch, InputColumn, Place};
use crate::checkpoint::query::ids;
use crate::error::Result;
use crate::job::spec::OnError;
use crate::pipeline::{CoreEpoch, EventClock, Pipeline};
use crate::plan::Query;
use crate::plan::query::Scan;

/// Runs one task after the other, on the thread that asks.
struct InTurn;

impl Workers for InTurn {
    fn run(&self, tasks: Vec<Task<'_>>) {
        tasks.into_iter().for_each(|task| task());
    }
}

/// All rows that leave the query, where its sources hold these rows and end.
///
/// Shapes: `inputs` by the job's sources, each with all of its columns.
/// Errors: `Failed` where an expression stops at a row.
pub fn answer(query: &Arc<Query>, inputs: &[&RecordBatch]) -> Result<RecordBatch> {
    let scans = query.scans.iter().map(|scan| {
        let core = take_in(scan, inputs[scan.source])?;
        Ok(ScanInput { cores: vec![core], event_time_max: None, ended: true })
    });
    let input =
        EpochInput { scans: scans.collect::<Result<_>>()?, source: serde_json::Value::Null };
    let (mut epochs, _) = Epochs::open(Arc::clone(query), 1, None, (OnError::Fail, &[]))?;
    Ok(epochs.finish(input, &InTurn)?.rows)
}

fn take_in(scan: &Scan, rows: &RecordBatch) -> Result<CoreEpoch> {
    let mut pipeline = Pipeline::new(Arc::clone(&scan.plan), OnError::Fail);
    let columns = columns(&mut pipeline, scan, rows);
    let count = rows.num_rows() as u32;
    let starts: Vec<u32> = (0..count).collect();
    let ends: Vec<u32> = (1..=count).collect();
    // A line a row, so that an error tells the row.
    let bytes = vec![b'\n'; rows.num_rows()];
    let place = Place { name: scan.plan.source_name.as_str().into(), line: 1, ..Place::default() };
    pipeline.open(0, EventClock::Known(None));
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: rows.num_rows(),
        bytes: &bytes,
        row_starts: &starts,
        row_ends: &ends,
        value_errors: &[],
        row_errors: &[],
        place: &place,
    });
    let segment = pipeline.close();
    pipeline.keep(segment, 0)?;
    Ok(pipeline.barrier())
}

/// The columns that the plan reads, in the forms in which it reads them.
fn columns(pipeline: &mut Pipeline, scan: &Scan, rows: &RecordBatch) -> Vec<ArrayRef> {
    let mut interners = pipeline.interners();
    let mut column = |(at, input): (usize, &InputColumn)| -> ArrayRef {
        let values = rows.column(input.source);
        match input.encoding {
            Encoding::Values => Arc::clone(values),
            Encoding::Ids => Arc::new(ids(values, |text| interners.get(at).intern(text))),
        }
    };
    scan.plan.input.iter().enumerate().map(&mut column).collect()
}
