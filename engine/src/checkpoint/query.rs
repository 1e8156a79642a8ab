//! SQL over the state of a checkpoint: the engine's own plan, run over one table in one epoch.
//!
//! No second query engine: the state's rows go through a pipeline as rows of a source would, in mode
//! `batch`, which allows ORDER BY and LIMIT over anything.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Schema};

use super::manifest::Manifest;
use super::{inspect, table::StateTable};
use crate::batch::{Encoding, InputBatch, Place, sql_type};
use crate::epoch::{EpochInput, Epochs, ScanInput, Workers};
use crate::error::{Error, Result};
use crate::job::{self, spec::OnError};
use crate::pipeline::{EventClock, Pipeline};
use crate::plan::{self, Plan};
use crate::storage::Storage;

/// Rows that go through the pipeline at once.
const ROWS: usize = 8 << 10;

/// The rows of a query over the table `state`: its keys (a window as `window_start` and
/// `window_end`) and its values.
///
/// Errors: `StateIo` where the checkpoint cannot be read, `BadJob` for SQL that is refused.
pub fn query(
    storage: &dyn Storage,
    manifest: &Manifest,
    sql: &str,
    workers: &dyn Workers,
) -> Result<RecordBatch> {
    let store = inspect::state(storage, manifest)?;
    let table: &StateTable = manifest.table.as_ref().expect("a state that was read has its table");
    let rows = table.rows(&store)?;
    drop(store);
    run(&rows, sql, workers)
}

fn run(rows: &RecordBatch, sql: &str, workers: &dyn Workers) -> Result<RecordBatch> {
    let (job, text) =
        job::from_text(&job_of(rows.schema_ref(), sql), Path::new("state query"), &[])?;
    let query = Arc::new(plan::plan(&job).map_err(|findings| text.refuse(&findings))?);
    let plan = &query.scans[0].plan;
    let mut pipeline = Pipeline::new(Arc::clone(plan), OnError::Fail);
    pipeline.open(0, EventClock::Known(None));
    for first in (0..rows.num_rows()).step_by(ROWS) {
        push(&mut pipeline, plan, &rows.slice(first, ROWS.min(rows.num_rows() - first)), first);
    }
    let segment = pipeline.close();
    pipeline.keep(segment, 0)?;
    let scan = ScanInput { cores: vec![pipeline.barrier()], event_time_max: None, ended: true };
    let input = EpochInput { scans: vec![scan], source: serde_json::Value::Null };
    let (mut epochs, _) = Epochs::open(query, 1, None, (OnError::Fail, &[]))?;
    Ok(epochs.finish(input, workers)?.rows)
}

/// The state as the only source of a job.
fn job_of(schema: &Schema, sql: &str) -> String {
    let mut columns = String::new();
    for field in schema.fields() {
        let comma = if columns.is_empty() { "" } else { ", " };
        let name = field.name().replace('`', "``");
        _ = write!(columns, "{comma}`{name}` {}", sql_type(field.data_type()));
    }
    // JSON's escapes are TOML's.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "name = \"state\"\n[source.state]\ntype = \"stdin\"\nformat = \"csv\"\nschema = {}\n\
         on_error = \"fail\"\n[query]\nsql = {}\nmode = \"batch\"\n",
        quoted(&columns),
        quoted(sql)
    )
}

fn push(pipeline: &mut Pipeline, plan: &Plan, rows: &RecordBatch, first: usize) {
    let mut interners = pipeline.interners();
    let columns: Vec<ArrayRef> = plan
        .input
        .iter()
        .enumerate()
        .map(|(at, input)| {
            let column = rows.column(input.source);
            match input.encoding {
                Encoding::Values => Arc::clone(column),
                Encoding::Ids => Arc::new(ids(column, |text| interners.get(at).intern(text))),
            }
        })
        .collect();
    let none = vec![0; rows.num_rows()];
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: rows.num_rows(),
        bytes: b"",
        row_starts: &none,
        row_ends: &none,
        value_errors: &[],
        row_errors: &[],
        place: &Place { name: "state".into(), minor: first as u64, line: 1, ..Place::default() },
    });
}

/// Ids of texts, 0 for NULL.
pub(crate) fn ids(column: &ArrayRef, mut intern: impl FnMut(&[u8]) -> u32) -> UInt32Array {
    let text = |row: usize| match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().value(row),
        _ => column.as_string::<i32>().value(row).as_bytes(),
    };
    let id = |row| if column.is_null(row) { 0 } else { intern(text(row)) };
    UInt32Array::from_iter_values((0..column.len()).map(id))
}

/// Names and SQL types of the columns of `state`.
pub fn describe(manifest: &Manifest) -> Result<String> {
    let Some(table) = &manifest.table else {
        return Err(Error::failed("the query of this checkpoint keeps no groups"));
    };
    let schema = table.schema()?;
    let fields = schema.fields().iter();
    Ok(fields
        .map(|f| format!("{} {}", f.name(), sql_type(f.data_type())))
        .collect::<Vec<_>>()
        .join(", "))
}
