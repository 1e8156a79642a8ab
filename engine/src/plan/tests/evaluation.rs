//! Values and errors row by row: an error stands at its row alone, whatever batch the row is in.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Schema, UInt32Type};
use arrow::util::display::array_value_to_string;

use super::*;

/// `SELECT expr FROM input` over columns `t STRING, i INT, l BIGINT, ts TIMESTAMP`.
fn compiled(zone: &str, expr: &str) -> (Plan, Compiled) {
    let sql = format!("SELECT {expr} AS out FROM input");
    let schema = "t STRING, i INT, l BIGINT, ts TIMESTAMP";
    let mut job = job(schema, None, OutputMode::Append, &sql);
    job.timezone = zone.into();
    match plan(&job) {
        Ok(mut query) => {
            query.scans.clear();
            let plan = query.levels.remove(0).arms.remove(0).plan;
            let mut plan = Arc::into_inner(plan).expect("nobody else has it");
            let Shape::Rows { columns, .. } = &mut plan.shape else { panic!("no groups") };
            let compiled = columns.remove(0);
            (plan, compiled)
        }
        Err(findings) => panic!("{expr}: {}", render(Path::new("job.toml"), &sql, &findings)),
    }
}

fn columns_of(plan: &Plan, texts: &[Option<&str>], ints: &[Option<i32>]) -> Vec<ArrayRef> {
    let longs = ints.iter().map(|i| i.map(i64::from)).collect::<Int64Array>();
    let times = ints.iter().map(|i| i.map(|i| i64::from(i) * 3_600_000_000));
    let times = times.collect::<arrow::array::TimestampMicrosecondArray>().with_timezone("UTC");
    let all: [ArrayRef; 4] = [
        Arc::new(texts.iter().copied().collect::<StringArray>()),
        Arc::new(ints.iter().copied().collect::<Int32Array>()),
        Arc::new(longs),
        Arc::new(times),
    ];
    plan.input.iter().map(|input| Arc::clone(&all[input.source])).collect()
}

/// Values as text, or `!` and the reason.
fn check(expr: &str, texts: &[Option<&str>], ints: &[Option<i32>], expected: &[&str]) {
    let (plan, compiled) = compiled("UTC", expr);
    let rows = texts.len();
    let columns = columns_of(&plan, texts, ints);
    let whole = shown(&compiled.evaluate(&columns, rows, None), 0..rows);
    assert_eq!(whole, expected, "{expr}");
    for (row, expected) in expected.iter().enumerate() {
        let one = compiled.evaluate(&columns, rows, Some(&[row as u32]));
        assert_eq!(shown(&one, row..row + 1), [*expected], "{expr}: row {row} alone");
    }
    let some: Vec<u32> = (0..rows as u32).filter(|row| row % 2 == 1).collect();
    let half = compiled.evaluate(&columns, rows, Some(&some));
    assert_eq!(half.values.len(), rows);
    assert!(half.errors.iter().all(|(row, _)| some.contains(row)), "{expr}");
}

fn shown(evaluated: &expr::Evaluated, rows: std::ops::Range<usize>) -> Vec<String> {
    rows.map(|row| match evaluated.errors.iter().find(|(at, _)| *at as usize == row) {
        Some((_, reason)) => {
            assert!(evaluated.values.is_null(row), "no value where there is an error");
            format!("!{reason}")
        }
        None if evaluated.values.is_null(row) => "NULL".into(),
        None => array_value_to_string(&evaluated.values, row).unwrap(),
    })
    .collect()
}

const TEXTS: [Option<&str>; 5] = [Some("7"), Some("x"), None, Some(" 12 "), Some("99999999999")];
const INTS: [Option<i32>; 5] = [Some(2), Some(0), Some(-3), None, Some(i32::MAX)];

#[test]
fn an_error_names_its_row_and_its_reason() {
    check(
        "cast(t AS INT)",
        &TEXTS,
        &INTS,
        &[
            "7",
            "!the text \"x\" cannot be cast to INT",
            "NULL",
            "12",
            "!the text \"99999999999\" cannot be cast to INT",
        ],
    );
    check(
        "10 / i",
        &TEXTS,
        &INTS,
        &[
            "5.0",
            "!division by zero: 10.0 / 0.0",
            "-3.3333333333333335",
            "NULL",
            "4.656612875245797e-9",
        ],
    );
    check("i + 1", &TEXTS, &INTS, &["3", "1", "-2", "NULL", "!overflow: 2147483647 + 1 is no INT"]);
    check("i div 0", &TEXTS[..1], &INTS[..1], &["!division by zero: 2 div 0"]);
    check(
        "cast(l * 2 AS INT)",
        &TEXTS,
        &INTS,
        &["4", "0", "-6", "NULL", "!4294967294 cannot be cast to INT"],
    );
}

#[test]
fn an_error_counts_only_where_its_branch_is_taken() {
    check(
        "CASE WHEN i = 0 THEN 0 ELSE 10 div i END",
        &TEXTS,
        &INTS,
        &["5", "0", "-3", "NULL", "0"],
    );
    check(
        "CASE WHEN t RLIKE '^ *[0-9]{1,3} *$' THEN cast(t AS INT) ELSE -1 END",
        &TEXTS,
        &INTS,
        &["7", "-1", "-1", "12", "-1"],
    );
    check("i <> 0 AND 10 div i > 1", &TEXTS, &INTS, &["true", "false", "false", "NULL", "false"]);
    check(
        "t <> 'x' AND cast(t AS BIGINT) > 7",
        &TEXTS,
        &INTS,
        &["false", "false", "NULL", "true", "true"],
    );
    check(
        "coalesce(t, cast(10 div (i + 3) AS STRING))",
        &TEXTS,
        &INTS,
        &["7", "x", "!division by zero: 10 div 0", " 12 ", "99999999999"],
    );
}

#[test]
fn constants_are_computed_once_and_their_errors_stay_with_the_rows() {
    let (_, seven) = compiled("UTC", "1 + 2 * 3");
    assert_eq!(words::text(&seven, &[]), "7");
    check("1 div 0 + i", &TEXTS[..2], &INTS[..2], &["!division by zero: 1 div 0"; 2]);
}

#[test]
fn the_jobs_zone_decides_hours_days_and_texts() {
    let check = |expr: &str, expected: &str| {
        let (plan, compiled) = compiled("Europe/Berlin", expr);
        // 1970-05-01T23:00:00Z is midnight in Berlin's winter time.
        let columns = columns_of(&plan, &[Some("1970-05-02 00:00:00")], &[Some(120 * 24 + 23)]);
        assert_eq!(shown(&compiled.evaluate(&columns, 1, None), 0..1), [expected], "{expr}");
    };
    check("hour(ts)", "0");
    check("day(ts)", "2");
    check("to_date(ts)", "1970-05-02");
    check("cast(ts AS STRING)", "1970-05-02 00:00:00");
    check("date_trunc('day', ts) = ts", "true");
    check("to_timestamp(t) = ts", "true");
    check("unix_timestamp(ts)", "10450800");
}

#[test]
fn having_order_and_limit_work_over_finished_groups() {
    let sql = "SELECT key, sum(v) AS s FROM input GROUP BY key HAVING sum(v) > 0 ORDER BY s DESC, key LIMIT 3";
    let plan = only(plan(&job(EVENTS, None, OutputMode::Complete, sql)).unwrap());
    let keys: DictionaryArray<UInt32Type> =
        vec![Some("b"), None, Some("a"), Some("c"), Some("d")].into_iter().collect();
    let sums = Int64Array::from(vec![Some(1), Some(1), Some(1), None, Some(-5)]);
    let batch = |keys: ArrayRef, sums: Int64Array| {
        let key = Field::new("key", keys.data_type().clone(), true);
        let schema = Schema::new(vec![key, Field::new("s", DataType::Int64, true)]);
        RecordBatch::try_new(Arc::new(schema), vec![keys, Arc::new(sums)]).unwrap()
    };
    let out = plan.output.run(batch(Arc::new(keys), sums)).unwrap();
    let rows = |column: usize| -> Vec<String> {
        let column = out.column(column);
        let text = |row| match column.is_null(row) {
            true => "NULL".into(),
            false => array_value_to_string(column, row).unwrap(),
        };
        (0..out.num_rows()).map(text).collect()
    };
    assert_eq!(rows(0), ["NULL", "a", "b"]);
    assert_eq!(rows(1), ["1", "1", "1"]);
    assert_eq!(out.schema(), plan.output.schema);
}

#[test]
fn an_expression_over_groups_that_stops_stops_the_job() {
    let sql = "SELECT sum(v) div count(x) AS m FROM input";
    let plan = only(plan(&job(EVENTS, None, OutputMode::Complete, sql)).unwrap());
    let long = |name| Field::new(name, DataType::Int64, true);
    let schema = Arc::new(Schema::new(vec![long("s"), long("n")]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![0]))];
    let error = plan.output.run(RecordBatch::try_new(schema, columns).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an expression over finished groups stopped: division by zero: 1 div 0"
    );
}

#[test]
fn append_without_watermark_is_legal_where_the_input_ends() {
    let sql = "SELECT key, count(*) AS n FROM input GROUP BY key";
    let mut job = job(EVENTS, None, OutputMode::Append, sql);
    assert!(plan(&job).is_err(), "a directory does not end");
    job.sources[0].kind = SourceKind::Generate {
        suite: "words".into(),
        rows: Some(10),
        rows_per_second: None,
        seed: 1,
    };
    assert!(plan(&job).is_ok(), "ten rows end");
    job.query.trigger = Trigger::AvailableNow;
    assert!(plan(&job).is_err(), "available-now leaves the rest for the next run");
}

#[test]
fn only_what_changes_the_state_changes_the_fingerprint() {
    let of = |mode, sql: &str| plan(&job(EVENTS, None, mode, sql)).unwrap().fingerprint;
    let base = "SELECT key, sum(v) AS s FROM input GROUP BY key";
    let fingerprint = of(OutputMode::Update, base);
    let same = [
        "SELECT sum(v) AS total, KEY AS k FROM input GROUP BY key",
        "SELECT key, s + 1 AS s FROM (SELECT key, sum(v) AS s FROM input GROUP BY key) WHERE s > 3",
    ];
    for sql in same {
        assert_eq!(of(OutputMode::Update, sql), fingerprint, "{sql}");
    }
    let other = [
        "SELECT key, sum(x) AS s FROM input GROUP BY key",
        "SELECT key, max(v) AS s FROM input GROUP BY key",
        "SELECT upper(key) AS key, sum(v) AS s FROM input GROUP BY upper(key)",
        "SELECT key, sum(v) AS s FROM input WHERE v > 1 GROUP BY key",
        "SELECT key, sum(v) FILTER (WHERE v > 1) AS s FROM input GROUP BY key",
    ];
    for sql in other {
        assert_ne!(of(OutputMode::Update, sql), fingerprint, "{sql}");
    }
    assert_ne!(of(OutputMode::Complete, base), fingerprint, "complete drops no group");
}
