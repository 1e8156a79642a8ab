//! Queries over static tables: the static side of a join, a subquery.
//!
//! Such a query is a job of its own whose sources are the tables, which end; it is answered whenever
//! the tables are read. So it can be whatever a query over a bounded input can be. Its rows are kept by
//! who asked: `side` by their keys, `subquery` as one value.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion_common::{DataFusionError, Result as Bound};
use datafusion_expr::{LogicalPlan, lit};

use super::assemble;
use super::compile::Compiler;
use super::lower::{self, Relations};
use super::query;
use crate::epoch::bounded;
use crate::error::Result;
use crate::job::spec::{
    CsvDialect, Device, Format, JobSpec, OnError, OutputMode, QuerySpec, SourceKind, SourceSpec,
    TableSpec,
};

/// A query that reads static tables alone.
#[derive(Debug)]
pub struct Query {
    query: Arc<query::Query>,
    /// Names of the tables that it reads, for messages.
    pub tables: String,
    /// One of them is read again while the job runs.
    pub reloads: bool,
}

impl Query {
    /// Errors: a plan that no query over a bounded input can be.
    pub fn compile(plan: &LogicalPlan, job: &JobSpec, compiler: &Compiler) -> Bound<Query> {
        let sources: Vec<SourceSpec> = match job.tables.is_empty() {
            // Within such a query the tables are the sources already.
            true => job.sources.clone(),
            false => job.tables.iter().map(as_source).collect(),
        };
        let relations = Relations { sources: &sources, tables: &[] };
        let mut chains = lower::lower(plan, relations)
            .map_err(|refused| DataFusionError::Plan(format!("static table: {}", refused.what)))?;
        for chain in &mut chains {
            if chain.columns.is_empty() {
                // Rows have a column.
                chain.columns.push(("$row".into(), lit(true)));
            }
        }
        let inner = JobSpec {
            device: Device::Cpu,
            sources,
            tables: Vec::new(),
            sinks: Vec::new(),
            checkpoint: None,
            query: QuerySpec { mode: OutputMode::Append, ..job.query.clone() },
            ..job.clone()
        };
        let query = assemble::assemble(chains, &inner, compiler)?;
        let mut read: Vec<usize> = query.scans.iter().map(|scan| scan.source).collect();
        read.sort_unstable();
        read.dedup();
        let names = read.iter().map(|&table| inner.sources[table].name.as_str());
        Ok(Query {
            tables: names.collect::<Vec<_>>().join(", "),
            reloads: read.iter().any(|&at| job.tables.get(at).is_some_and(|table| table.reload)),
            query: Arc::new(query),
        })
    }

    /// Its rows, where the job's tables hold these.
    ///
    /// Errors: `Failed` where an expression stops.
    pub fn run(&self, tables: &[RecordBatch]) -> Result<RecordBatch> {
        let tables: Vec<&RecordBatch> = tables.iter().collect();
        bounded::answer(&self.query, &tables)
    }
}

/// A table as a source that ends.
fn as_source(table: &TableSpec) -> SourceSpec {
    SourceSpec {
        name: table.name.clone(),
        kind: SourceKind::File {
            path: table.path.clone(),
            max_files_per_epoch: None,
            end: Some(true),
        },
        format: Format::Csv(CsvDialect::default()),
        schema: table.schema.clone(),
        watermark: None,
        dedup: None,
        on_error: OnError::Fail,
        max_error_ratio: None,
        max_record_bytes: usize::MAX,
    }
}
