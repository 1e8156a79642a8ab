//! Expressions as a user of Spark writes them: value, type and column's name, one row in and out.
//!
//! `testdata/expressions.txt` holds what Spark 4 answers in ANSI mode; it is written by hand.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::epoch::bounded;
use crate::format::json;

const SCHEMA: &str = "i INT, l BIGINT, x DOUBLE, d DECIMAL(10,2), s STRING, b BOOLEAN, \
                      ts TIMESTAMP, day DATE, n INT";

fn row() -> RecordBatch {
    let time = TimestampMicrosecondArray::from(vec![1_710_057_909_123_456]).with_timezone("UTC");
    let decimal = Decimal128Array::from(vec![1234]).with_precision_and_scale(10, 2).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![7])),
        Arc::new(Int64Array::from(vec![-3])),
        Arc::new(Float64Array::from(vec![2.5])),
        Arc::new(decimal),
        Arc::new(StringArray::from(vec!["Hello, World"])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(time),
        Arc::new(Date32Array::from(vec![19_782])),
        Arc::new(Int32Array::new_null(1)),
    ];
    let fields = columns
        .iter()
        .enumerate()
        .map(|(at, column)| Field::new(at.to_string(), column.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
}

/// What leaves a whole query as JSON, in complete mode where that is allowed, else in append.
fn rows_of(sql: &str) -> String {
    let planned = |mode| plan(&job(SCHEMA, None, mode, sql));
    let query = match planned(OutputMode::Complete).or_else(|_| planned(OutputMode::Append)) {
        Ok(query) => Arc::new(query),
        Err(findings) => return format!("refused: {}", findings[0].what),
    };
    match bounded::answer(&query, &[&row()]) {
        Ok(rows) => {
            let mut text = Vec::new();
            json::Writer::default().rows(&rows, b" ", &mut text).unwrap();
            String::from_utf8(text).unwrap().trim_end().into()
        }
        Err(error) => format!("stops: {error}"),
    }
}

/// `value | TYPE | name`, or why there is none; of a query its rows.
fn answer(expression: &str) -> String {
    if expression.starts_with("SELECT ") {
        return rows_of(expression);
    }
    let sql = format!("SELECT {expression} FROM input");
    let query = match plan(&job(SCHEMA, None, OutputMode::Append, &sql)) {
        Ok(query) => Arc::new(query),
        Err(findings) => return format!("refused: {}", findings[0].what),
    };
    let field = query.output().schema.field(0).clone();
    match bounded::answer(&query, &[&row()]) {
        Ok(rows) => {
            let mut text = Vec::new();
            let schema = Schema::new(vec![field.clone().with_name("v")]);
            let column = Arc::clone(rows.column(0));
            let column = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
            json::Writer::default().rows(&column, b"", &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let value = text.trim_end_matches('}').strip_prefix("{\"v\":");
            let value = match column.column(0).data_type() {
                // The brace of a struct was one of those.
                DataType::Struct(_) => text[..text.len() - 1].strip_prefix("{\"v\":"),
                _ => value,
            };
            let value = value.unwrap_or("NULL");
            format!("{value} | {} | {}", types::sql_name(field.data_type()), field.name())
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.split_once("line 1: ").map_or(error.as_str(), |(_, rest)| rest);
            format!(
                "stops: {}",
                reason.trim_end_matches("; on_error = \"fail\" stops the job here")
            )
        }
    }
}

#[test]
fn expressions_have_sparks_values_types_and_names() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/expressions.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut wrong = Vec::new();
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rewritten = String::new();
    while let (Some(expression), Some(expected)) = (lines.next(), lines.next()) {
        let found = answer(expression);
        rewritten += &format!("{expression}\n  {found}\n");
        if found != expected.trim_start() {
            wrong.push(format!("{expression}\n  expected {}\n  found    {found}", expected.trim()));
        }
    }
    if let Some(out) = std::env::var_os("PELTON_SEE") {
        std::fs::write(out, rewritten).unwrap();
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
