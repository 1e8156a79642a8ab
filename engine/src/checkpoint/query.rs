//! SQL over the state of a checkpoint: the engine's own plan, run over one table in one epoch.
//!
//! No second query engine: the state's rows go through a pipeline as rows of a source would, in mode
//! `batch`, which allows ORDER BY and LIMIT over anything.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::manifest::Manifest;
use super::{inspect, table::StateTable};
use crate::batch::sql_type;
use crate::epoch::bounded;
use crate::error::{Error, Result};
use crate::job;
use crate::plan;
use crate::storage::Storage;

/// The rows of a query over the table `state`: its keys (a window as `window_start` and
/// `window_end`) and its values.
///
/// Errors: `StateIo` where the checkpoint cannot be read, `BadJob` for SQL that is refused.
pub fn query(storage: &dyn Storage, manifest: &Manifest, sql: &str) -> Result<RecordBatch> {
    let store = inspect::state(storage, manifest)?;
    let table: &StateTable = manifest.table.as_ref().expect("a state that was read has its table");
    let rows = table.rows(&store)?;
    drop(store);
    run(&rows, sql)
}

fn run(rows: &RecordBatch, sql: &str) -> Result<RecordBatch> {
    let (job, text) =
        job::from_text(&job_of(rows.schema_ref(), sql), Path::new("state query"), &[])?;
    let query = plan::plan(&job).map_err(|findings| text.refuse(&findings))?;
    bounded::answer(&Arc::new(query), &[rows])
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
