//! Static tables: files read whole, into the columns that the job file names.
//!
//! A bad value or row in a table is an error, not a dead letter: every join would miss its row. CSV
//! goes through the decoder of the sources, so a value means the same in both.

use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pelton_engine::batch::{Encoding, InputColumn, Place};
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{
    CsvDialect, Format, JobSpec, OnError, SourceKind, SourceSpec, TableFormat, TableSpec,
};
use pelton_kernels::interner::Interner;

use crate::decode::{Decoder, SimdTier, file_head};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 65_536;
/// A record of a table may be as long as one of a source may by default.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The job's tables as they are read, and what their files looked like then.
#[derive(Debug)]
pub struct Tables {
    tables: Vec<RecordBatch>,
    stamps: Vec<Option<Stamp>>,
}

/// What tells one content of a file from another: file systems give no better cheap sign.
type Stamp = (SystemTime, u64);

impl Tables {
    /// Reads the job's tables.
    ///
    /// Errors: `Unavailable` where a file cannot be read, `Failed` where it does not hold the rows
    /// that the job file names.
    pub fn read(job: &JobSpec) -> Result<Tables> {
        let mut tables = Tables { tables: Vec::new(), stamps: Vec::new() };
        for table in &job.tables {
            tables.stamps.push(stamp(&table.path));
            tables.tables.push(read(table, &job.timezone)?);
        }
        Ok(tables)
    }

    /// By the order of the job's tables.
    pub fn rows(&self) -> &[RecordBatch] {
        &self.tables
    }

    /// Reads those again that ask for it and whose file changed; whether there was one.
    ///
    /// Errors: as [`Tables::read`]; the tables stay as they were.
    pub fn refresh(&mut self, job: &JobSpec) -> Result<bool> {
        let mut changed = false;
        for (at, table) in job.tables.iter().enumerate().filter(|(_, table)| table.reload) {
            let now = stamp(&table.path);
            // A file that is just being replaced is looked at again before the next epoch.
            if now.is_none() || now == self.stamps[at] {
                continue;
            }
            self.tables[at] = read(table, &job.timezone)?;
            self.stamps[at] = now;
            changed = true;
        }
        Ok(changed)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata: Metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(table: &TableSpec, timezone: &str) -> Result<RecordBatch> {
    match &table.format {
        TableFormat::Csv(dialect) => read_csv(table, dialect, timezone),
        TableFormat::Parquet => {
            let file = open(table)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
                .map_err(|error| bad(table, error))?;
            let batches =
                reader.collect::<Result<Vec<_>, _>>().map_err(|error| bad(table, error))?;
            columns(table, &batches)
        }
        TableFormat::Arrow => {
            let reader = FileReader::try_new(open(table)?, None).map_err(|e| bad(table, e))?;
            let batches =
                reader.collect::<Result<Vec<_>, _>>().map_err(|error| bad(table, error))?;
            columns(table, &batches)
        }
    }
}

fn open(table: &TableSpec) -> Result<File> {
    File::open(&table.path).map_err(|error| unavailable(table, &error))
}

fn unavailable(table: &TableSpec, error: &std::io::Error) -> Error {
    Error::Unavailable {
        what: format!(
            "cannot read the table {} from {}: {error}",
            table.name,
            table.path.display()
        ),
        fix: format!("correct `path` in [table.{}]", table.name),
    }
}

fn bad(table: &TableSpec, what: impl std::fmt::Display) -> Error {
    let (name, path) = (&table.name, table.path.display());
    Error::failed(format!("the table {name}: {path}: {what}"))
}

fn schema_of(table: &TableSpec) -> SchemaRef {
    let field = |column: &pelton_engine::job::spec::Column| {
        Field::new(&column.name, column.data_type.clone(), true)
    };
    Arc::new(Schema::new(table.schema.iter().map(field).collect::<Vec<_>>()))
}

/// The columns that the job file names, of the types that it gives them.
fn columns(table: &TableSpec, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let schema = schema_of(table);
    let options = CastOptions { safe: false, ..Default::default() };
    let mut read = Vec::with_capacity(batches.len());
    for batch in batches {
        let found = batch.schema();
        let one = |field: &Arc<Field>| -> Result<ArrayRef> {
            let same = |f: &&Arc<Field>| f.name().eq_ignore_ascii_case(field.name());
            let at = found.fields().iter().position(|f| same(&f)).ok_or_else(|| {
                let names: Vec<&str> = found.fields().iter().map(|f| f.name().as_str()).collect();
                let (name, names) = (field.name(), names.join("\", \""));
                bad(table, format!("expected a column \"{name}\", found \"{names}\""))
            })?;
            cast_with_options(batch.column(at), field.data_type(), &options)
                .map_err(|error| bad(table, format!("column \"{}\": {error}", field.name())))
        };
        let columns = schema.fields().iter().map(one).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options);
        read.push(batch.map_err(|error| bad(table, error))?);
    }
    concat_batches(&schema, &read).map_err(|error| bad(table, error))
}

fn read_csv(table: &TableSpec, dialect: &CsvDialect, timezone: &str) -> Result<RecordBatch> {
    let bytes = std::fs::read(&table.path).map_err(|error| unavailable(table, &error))?;
    // The decoder reads sources; a table is one that ends.
    let source = SourceSpec {
        name: table.name.clone(),
        kind: SourceKind::File {
            path: table.path.clone(),
            max_files_per_epoch: None,
            end: Some(true),
        },
        format: Format::Csv(dialect.clone()),
        schema: table.schema.clone(),
        watermark: None,
        dedup: None,
        on_error: OnError::Fail,
        max_error_ratio: None,
        max_record_bytes: RECORD_BYTES_MAX,
    };
    let input: Vec<InputColumn> = (0..table.schema.len())
        .map(|source| InputColumn { source, encoding: Encoding::Values, in_filter: false })
        .collect();
    let head = file_head(&source, &input, &bytes, true)
        .map_err(|error| bad(table, error))?
        .expect("the whole file is there");
    let mut decoder = Decoder::new(&source, timezone, &input, SimdTier::detect())?;
    decoder.begin(&head.mapping);
    let schema = schema_of(table);
    let (mut at, mut line) = (head.consumed, 1 + head.newlines);
    let mut batches = Vec::new();
    let mut interners: Vec<Interner> = Vec::new();
    let name: Arc<str> = Arc::from(table.path.to_string_lossy().as_ref());
    while at < bytes.len() {
        let place = Place { name: Arc::clone(&name), split: 0, major: 0, minor: at as u64, line };
        let decoded = decoder.decode(&bytes[at..], true, &mut interners, &place, BATCH_ROWS);
        let batch = &decoded.batch;
        let of_value = batch.value_errors.iter().map(|error| {
            let column = &table.schema[usize::from(error.column)].name;
            (error.start..error.end, &error.reason, format!(", column \"{column}\""))
        });
        let of_row = batch.row_errors.iter();
        let of_row = of_row.map(|error| (error.start..error.end, &error.reason, String::new()));
        if let Some((found, reason, column)) = of_value.chain(of_row).min_by_key(|e| e.0.start) {
            let before = &batch.bytes[..found.start as usize];
            let line = line + before.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let found = &batch.bytes[found.start as usize..found.end as usize];
            return Err(bad(table, format!("line {line}{column}: {}", reason.describe(found))));
        }
        // Arrays that are kept keep their memory: the decoder takes new.
        let kept = batch.columns.to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&schema), kept, &options);
        batches.push(rows.map_err(|error| bad(table, error))?);
        if decoded.consumed == 0 {
            break;
        }
        (at, line) = (at + decoded.consumed, line + decoded.newlines);
    }
    concat_batches(&schema, &batches).map_err(|error| bad(table, error))
}
