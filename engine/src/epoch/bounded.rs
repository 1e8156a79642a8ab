//! A query over inputs that are in memory and end: one epoch, no state before it and none after.
//!
//! Static sides of joins, subqueries and questions to a state are answered so. They have no checkpoint
//! and no late rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::DataType;

use super::{EpochInput, Epochs, Finished, OneByOne, ScanInput};
use crate::batch::{Encoding, InputBatch, InputColumn, Place};
use crate::error::Result;
use crate::job::spec::OnError;
use crate::pipeline::{CoreEpoch, EventClock, Pipeline};
use crate::plan::Query;
use crate::plan::query::Scan;

/// Rows that go through a pipeline at once.
const ROWS: usize = 8 << 10;

/// All rows that leave the query, where its sources hold these rows and end.
///
/// Shapes: `inputs` by the job's sources, each with all of its columns.
/// Errors: `Failed` where an expression stops at a row.
pub fn answer(query: &Arc<Query>, inputs: &[&RecordBatch]) -> Result<RecordBatch> {
    Ok(finish(query, inputs)?.rows)
}

fn finish(query: &Arc<Query>, inputs: &[&RecordBatch]) -> Result<Finished> {
    let scans = query.scans.iter().map(|scan| {
        let core = take_in(scan, inputs[scan.source])?;
        Ok(ScanInput { cores: vec![core], event_time_max: None, ended: true })
    });
    let input =
        EpochInput { scans: scans.collect::<Result<_>>()?, source: serde_json::Value::Null };
    let (mut epochs, _) = Epochs::open(Arc::clone(query), 1, None, (OnError::Fail, &[]))?;
    epochs.finish(input, &OneByOne)
}

fn take_in(scan: &Scan, rows: &RecordBatch) -> Result<CoreEpoch> {
    let mut pipeline = Pipeline::new(Arc::clone(&scan.plan), OnError::Fail);
    pipeline.open(0, EventClock::known(None));
    for first in (0..rows.num_rows()).step_by(ROWS) {
        push(&mut pipeline, scan, &rows.slice(first, ROWS.min(rows.num_rows() - first)), first);
    }
    let segment = pipeline.close();
    pipeline.keep(segment, 0)?;
    Ok(pipeline.barrier())
}

fn push(pipeline: &mut Pipeline, scan: &Scan, rows: &RecordBatch, first: usize) {
    let columns = columns(pipeline, scan, rows);
    let count = rows.num_rows() as u32;
    let starts: Vec<u32> = (0..count).collect();
    let ends: Vec<u32> = (1..=count).collect();
    // A line a row, so that an error tells the row.
    let bytes = vec![b'\n'; rows.num_rows()];
    let name = scan.plan.source_name.as_str().into();
    let (minor, line) = (first as u64, first as u64 + 1);
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: rows.num_rows(),
        bytes: &bytes,
        row_starts: &starts,
        row_ends: &ends,
        value_errors: &[],
        row_errors: &[],
        place: &Place { name, minor, line, ..Place::default() },
    });
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

/// Ids of texts, 0 for NULL.
fn ids(column: &ArrayRef, mut intern: impl FnMut(&[u8]) -> u32) -> UInt32Array {
    let text = |row: usize| match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().value(row),
        _ => column.as_string::<i32>().value(row).as_bytes(),
    };
    let id = |row| if column.is_null(row) { 0 } else { intern(text(row)) };
    UInt32Array::from_iter_values((0..column.len()).map(id))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array, TimestampMicrosecondArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;
    use crate::job;
    use crate::plan::plan;

    /// Two sources, `a` and `b` with the schema given, and a sink of their late rows.
    fn job_text(of_b: &str) -> String {
        let source = |name: &str, schema: &str| {
            format!(
                "[source.{name}]\ntype = \"file\"\npath = \"{name}.csv\"\nschema = \"{schema}\"\n\
                 on_error = \"skip\"\nwatermark = {{ column = \"ts\", delay = \"1s\" }}\n"
            )
        };
        format!(
            "name = \"late\"\n{}{}[query]\nsql = \"SELECT window.start, sum(v) AS s FROM (SELECT ts, v \
             FROM a UNION ALL SELECT ts, v FROM b) GROUP BY window(ts, '2 seconds')\"\n\
             [sink.out]\ntype = \"console\"\n[sink.late]\ntype = \"console\"\nof = \"late\"\n",
            source("a", "ts TIMESTAMP, v INT"),
            source("b", of_b),
        )
    }

    /// Rows of a second and a value.
    fn rows(of: &[(i64, i32)]) -> RecordBatch {
        let times: TimestampMicrosecondArray =
            of.iter().map(|(s, _)| Some(s * 1_000_000)).collect();
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let values: ArrayRef = Arc::new(of.iter().map(|(_, v)| *v).collect::<Int32Array>());
        let field = |name: &str, of: &ArrayRef| Field::new(name, of.data_type().clone(), true);
        let schema = Schema::new(vec![field("ts", &times), field("v", &values)]);
        RecordBatch::try_new(Arc::new(schema), vec![times, values]).unwrap()
    }

    #[test]
    fn late_rows_of_several_sources_of_one_schema_go_to_one_sink() {
        let text = job_text("ts TIMESTAMP, v INT");
        let (job, _) = job::from_text(&text, "job.toml".as_ref(), &[]).unwrap();
        let query = Arc::new(plan(&job).unwrap());
        // Each source is judged by its own rows: 30 is late for neither, 1 for the first alone.
        let (a, b) = (rows(&[(30, 1), (1, 2)]), rows(&[(1, 4), (30, 8), (3, 16)]));
        let finished = finish(&query, &[&a, &b]).unwrap();
        let late = finished.late.unwrap();
        let values = late.column(1).as_primitive::<Int32Type>().values().to_vec();
        assert_eq!(values, [2, 16]);
        assert_eq!(finished.counters.late, 2);
        let sums = cast(finished.rows.column(1), &DataType::Int32).unwrap();
        assert_eq!(sums.as_primitive::<Int32Type>().values().to_vec(), [4, 9]);
    }

    #[test]
    fn late_rows_of_two_forms_have_no_sink() {
        let text = job_text("v INT, ts TIMESTAMP");
        let error = job::from_text(&text, "job.toml".as_ref(), &[]).unwrap_err().to_string();
        assert!(error.contains("b has other columns than a"), "{error}");
    }
}
