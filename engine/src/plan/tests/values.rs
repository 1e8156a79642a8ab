//! Spark's answers as data: an expression, its type, its value as `show` prints it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::format::show::Table;

const SCHEMA: &str = "t STRING, n STRING, i INT, l BIGINT, x DOUBLE, d DECIMAL(10,2), b BOOLEAN, \
                      day DATE, ts TIMESTAMP";

fn row() -> Vec<ArrayRef> {
    let decimal = Decimal128Array::from(vec![1_234]).with_precision_and_scale(10, 2).unwrap();
    let time = TimestampMicrosecondArray::from(vec![1_714_568_645_067_000]).with_timezone("UTC");
    vec![
        Arc::new(StringArray::from(vec!["Spark SQL"])),
        Arc::new(StringArray::from(vec![None::<&str>])),
        Arc::new(Int32Array::from(vec![7])),
        Arc::new(Int64Array::from(vec![123_456_789_012])),
        Arc::new(Float64Array::from(vec![2.5])),
        Arc::new(decimal),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Date32Array::from(vec![19_782])),
        Arc::new(time),
    ]
}

/// `TYPE value`, or `!` and a reason.
fn answer(expr: &str) -> String {
    let sql = format!("SELECT {expr} AS out FROM input");
    let job = job(SCHEMA, None, OutputMode::Append, &sql);
    let plan = match plan(&job) {
        Ok(query) => only(query),
        Err(findings) => {
            let whats: Vec<_> = findings.into_iter().map(|f| f.what).collect();
            return format!("refused: {}", whats.join("; "));
        }
    };
    let Shape::Rows { columns, .. } = &plan.shape else { panic!("no groups here") };
    let all = row();
    let input: Vec<ArrayRef> =
        plan.input.iter().map(|input| Arc::clone(&all[input.source])).collect();
    let evaluated = columns[0].evaluate(&input, 1, None);
    if let Some((_, reason)) = evaluated.errors.first() {
        return format!("!{reason}");
    }
    let values = evaluated.values;
    let data_type = types::sql_name(values.data_type());
    let field = Field::new("out", values.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values]).unwrap();
    let mut table = Table::new(1, None, TimeZone::UTC);
    table.push(&batch).unwrap();
    let mut printed = String::new();
    table.print(&schema, &mut printed);
    let line = printed.lines().nth(3).unwrap();
    let cell = line.strip_prefix('|').unwrap().strip_suffix('|').unwrap();
    format!("{data_type} {cell}")
}

#[test]
fn columns_have_sparks_names() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/spark-names.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (item, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        let mode = if item.contains("(*)") || item.contains("sum(") {
            OutputMode::Complete
        } else {
            OutputMode::Append
        };
        let found = match plan(&job(SCHEMA, None, mode, &format!("SELECT {item} FROM input"))) {
            Ok(plan) => plan.output().schema.field(0).name().clone(),
            Err(findings) => format!("refused: {}", findings[0].what),
        };
        if found != expected {
            wrong.push(format!("{item}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn expressions_have_sparks_types_and_values() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/spark-values.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (expr, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        let found = answer(expr);
        let right = match expected.strip_prefix('!') {
            Some(reason) => found.starts_with('!') && found.contains(reason),
            // `show` pads a cell to the width of its column.
            None => found.trim_end() == expected.trim_end(),
        };
        if !right {
            wrong.push(format!("{expr}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
