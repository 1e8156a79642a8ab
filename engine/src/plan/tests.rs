//! Queries as tables: SQL in, the explained plan or the rendered findings out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;

use super::choice::Candidate;
use super::*;
use crate::job::finding::render;
use crate::job::map::TextMap;
use crate::job::spec::{Column as SourceColumn, *};

mod cases;
mod evaluation;
mod expressions;
mod forms;
mod functions;
mod joins;
mod packed;
mod values;

/// `name TYPE, …` as the columns of a source.
fn columns(schema: &str) -> Vec<SourceColumn> {
    let mut columns = Vec::new();
    for field in split_fields(schema) {
        let (name, data_type) = match field.strip_prefix('`') {
            Some(rest) => rest.split_once('`').unwrap(),
            None => field.split_once(' ').unwrap(),
        };
        columns.push(SourceColumn {
            name: name.to_string(),
            data_type: sql_type(data_type.trim()),
            format: TimeFormat::Iso,
            timezone: None,
            null: None,
            trim: None,
            empty_is_null: true,
            truncate: false,
        });
    }
    columns
}

fn split_fields(schema: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = |c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    };
    schema.split(split).map(str::trim).collect()
}

fn sql_type(name: &str) -> DataType {
    match name {
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "STRING" => DataType::Utf8,
        "DATE" => DataType::Date32,
        "TIMESTAMP" => types::timestamp(),
        "TIMESTAMP_NTZ" => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        decimal => {
            let inside = decimal.strip_prefix("DECIMAL(").unwrap().strip_suffix(')').unwrap();
            let (precision, scale) = inside.split_once(',').unwrap();
            DataType::Decimal128(precision.trim().parse().unwrap(), scale.trim().parse().unwrap())
        }
    }
}

/// A job over a directory with this query; its file is the SQL and nothing else.
pub(crate) fn job(
    schema: &str,
    watermark: Option<(&str, u64)>,
    mode: OutputMode,
    sql: &str,
) -> JobSpec {
    let mut map = TextMap::starting_at(0);
    map.push(sql.len(), 0);
    JobSpec {
        name: "test".into(),
        file: PathBuf::from("job.toml"),
        device: Device::Auto,
        device_at: None,
        gpu: GpuSpec::default(),
        cores: None,
        timezone: "UTC".into(),
        memory_limit: None,
        sources: vec![SourceSpec {
            name: "input".into(),
            kind: SourceKind::File {
                path: "/in".into(),
                max_files_per_epoch: None,
                end: Some(false),
            },
            format: Format::Csv(CsvDialect::default()),
            schema: columns(schema),
            watermark: watermark.map(|(column, seconds)| WatermarkSpec {
                column: column.into(),
                delay: Duration::from_secs(seconds),
                late: LateRule::Row,
                across: Across::Min,
                idle_timeout: Duration::from_secs(30),
                max_future_skew: None,
            }),
            dedup: None,
            on_error: OnError::DeadLetter,
            max_error_ratio: None,
            max_record_bytes: 16 << 20,
        }],
        tables: Vec::new(),
        query: QuerySpec { sql: sql.into(), sql_map: map, mode, trigger: Trigger::Default },
        sinks: Vec::new(),
        checkpoint: None,
        kept: None,
        epoch: EpochLimits::default(),
    }
}

/// The one plan of a query over one source.
fn only(query: Query) -> Arc<Plan> {
    assert_eq!(query.levels.len(), 1);
    Arc::clone(&query.scans[0].plan)
}

const EVENTS: &str =
    "ts TIMESTAMP, key STRING, v INT, x DOUBLE, d DECIMAL(10,2), `Sepal length` DOUBLE";

/// `append`, `update`, … and perhaps `watermark`: ten seconds behind `ts`.
fn planned(header: &str, sql: &str) -> String {
    let mut words = header.split(' ');
    let mode = match words.next() {
        Some("append") => OutputMode::Append,
        Some("update") => OutputMode::Update,
        Some("complete") => OutputMode::Complete,
        Some("batch") => OutputMode::Batch,
        other => panic!("mode {other:?}"),
    };
    let watermark = words.next().map(|word| {
        assert_eq!(word, "watermark");
        ("ts", 10)
    });
    match plan(&job(EVENTS, watermark, mode, sql)) {
        Ok(plan) => {
            explain::explain(&plan)
                + &explain::device(&plan, Device::Auto, &Candidate::default(), 1)
        }
        Err(findings) => render(Path::new("job.toml"), sql, &findings) + "\n",
    }
}

/// Blocks of `==== mode`, a query, `----`, and what comes of it; the answers are rewritten when
/// `PELTON_UPDATE` is set.
fn check_file(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut rewritten = String::new();
    for block in text.split("==== ").skip(1) {
        let (question, expected) = block.split_once("----\n").unwrap();
        let (header, sql) = question.split_once('\n').unwrap();
        let found = planned(header, sql.trim_end());
        rewritten += &format!("==== {question}----\n{found}\n");
        if std::env::var_os("PELTON_UPDATE").is_none() {
            assert_eq!(found.trim_end(), expected.trim_end(), "{header}: {sql}");
        }
    }
    if std::env::var_os("PELTON_UPDATE").is_some() {
        std::fs::write(&path, rewritten).unwrap();
    }
}

#[test]
fn plans_are_explained_as_a_user_reads_them() {
    check_file("plans.txt");
}

#[test]
fn what_cannot_run_is_refused_at_its_place() {
    check_file("refusals.txt");
}
