//! Structs and arrays as keys and in aggregates: through the planner and an epoch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::epoch::bounded;
use crate::format::json;

/// `k STRING, v INT`.
type Row = (Option<&'static str>, Option<i32>);

const ROWS: [Row; 6] = [
    (Some("b"), Some(2)),
    (Some("a"), Some(1)),
    (Some("b"), Some(2)),
    (None, Some(3)),
    (Some("a"), None),
    (Some("b"), Some(-1)),
];

/// The rows that leave, as JSON lines.
fn answer(sql: &str) -> String {
    let job = job("k STRING, v INT", None, OutputMode::Complete, sql);
    let query = plan(&job).unwrap_or_else(|findings| panic!("{sql}: {findings:?}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ROWS.iter().map(|row| row.0).collect::<StringArray>()),
        Arc::new(ROWS.iter().map(|row| row.1).collect::<Int32Array>()),
    ];
    let fields =
        vec![Field::new("k", DataType::Utf8, true), Field::new("v", DataType::Int32, true)];
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let out = bounded::answer(&Arc::new(query), &[&rows]).unwrap();
    let mut text = Vec::new();
    json::Writer::default().rows(&out, b"\n", &mut text).unwrap();
    String::from_utf8(text).unwrap().trim_end().to_string()
}

#[test]
fn structs_and_arrays_are_keys() {
    let check =
        |sql: &str, expected: &[&str]| assert_eq!(answer(sql), expected.join("\n"), "{sql}");
    check(
        "SELECT named_struct('k', k, 'v', v) AS s, count(*) AS n FROM input \
         GROUP BY named_struct('k', k, 'v', v)",
        &[
            r#"{"s":{"v":3},"n":1}"#,
            r#"{"s":{"k":"a"},"n":1}"#,
            r#"{"s":{"k":"a","v":1},"n":1}"#,
            r#"{"s":{"k":"b","v":-1},"n":1}"#,
            r#"{"s":{"k":"b","v":2},"n":2}"#,
        ],
    );
    check(
        "SELECT s.k AS k, count(*) AS n FROM (SELECT struct(k, v) AS s FROM input) GROUP BY s \
         HAVING s.v > 1",
        &[r#"{"n":1}"#, r#"{"k":"b","n":2}"#],
    );
    check(
        "SELECT a, a[0] AS f, count(*) AS n FROM (SELECT array(v, v + 1) AS a FROM input) GROUP BY a",
        &[
            r#"{"a":[null,null],"n":1}"#,
            r#"{"a":[-1,0],"f":-1,"n":1}"#,
            r#"{"a":[1,2],"f":1,"n":1}"#,
            r#"{"a":[2,3],"f":2,"n":2}"#,
            r#"{"a":[3,4],"f":3,"n":1}"#,
        ],
    );
    check(
        "SELECT DISTINCT struct(k AS k) AS s FROM input",
        &[r#"{"s":{}}"#, r#"{"s":{"k":"a"}}"#, r#"{"s":{"k":"b"}}"#],
    );
}

#[test]
fn structs_and_arrays_are_aggregated() {
    let check =
        |sql: &str, expected: &[&str]| assert_eq!(answer(sql), expected.join("\n"), "{sql}");
    check(
        "SELECT k, max(struct(v, k)) AS most, min(struct(v, k)).v AS least FROM input GROUP BY k",
        &[
            r#"{"most":{"v":3},"least":3}"#,
            r#"{"k":"a","most":{"v":1,"k":"a"}}"#,
            r#"{"k":"b","most":{"v":2,"k":"b"},"least":-1}"#,
        ],
    );
    check(
        "SELECT collect_list(struct(v, k)) AS l, size(collect_set(array(k))) AS n FROM input \
         WHERE k IS NOT NULL",
        &[concat!(
            r#"{"l":[{"v":2,"k":"b"},{"v":1,"k":"a"},{"v":2,"k":"b"},{"k":"a"},{"v":-1,"k":"b"}],"#,
            r#""n":2}"#
        )],
    );
    check(
        "SELECT first(array(v)) AS f, last(struct(k)) AS l, count(DISTINCT struct(k)) AS n, \
         count(array(v)) AS c FROM input",
        &[r#"{"f":[2],"l":{"k":"b"},"n":3,"c":6}"#],
    );
    check(
        "SELECT max_by(struct(k, v), v) AS m, min_by(v, struct(k, v)) AS l FROM input",
        &[r#"{"m":{"v":3},"l":3}"#],
    );
}
