//! Joins with a static table: SQL through the planner and the pipeline against nested loops.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;
use crate::batch::{InputBatch, Place};
use crate::epoch::bounded;
use crate::job::spec::OnError;
use crate::pipeline::{EventClock, Pipeline};

/// A row of either side: `k STRING, v INT`.
type Row = (Option<u8>, Option<i32>);

fn table(name: &str) -> TableSpec {
    TableSpec {
        name: name.into(),
        path: "/dim.csv".into(),
        format: TableFormat::Csv(CsvDialect::default()),
        schema: columns("k STRING, w INT"),
        reload: false,
    }
}

fn arrays(rows: &[Row]) -> [ArrayRef; 2] {
    let text = |k: &Option<u8>| k.map(|k| String::from(char::from(b'a' + k)));
    [
        Arc::new(rows.iter().map(|(k, _)| text(k)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(_, v)| *v).collect::<Int32Array>()),
    ]
}

fn planned_join(sql: &str) -> Result<Query, Vec<Finding>> {
    let mut job = job("k STRING, v INT", None, OutputMode::Append, sql);
    job.tables = vec![table("dim"), table("other")];
    plan(&job)
}

/// Rows that leave, in no order; and how many of the stream's rows were filtered.
fn run(sql: &str, stream: &[Row], dim: &[Row]) -> (Vec<String>, u64) {
    let query = planned_join(sql).unwrap_or_else(|findings| panic!("{sql}: {findings:?}"));
    let fields =
        vec![Field::new("k", DataType::Utf8, true), Field::new("w", DataType::Int32, true)];
    let table = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays(dim).to_vec()).unwrap();
    query.load(&[table.clone(), table]).unwrap();
    let plan = only(query);
    let mut pipeline = Pipeline::new(Arc::clone(&plan), OnError::DeadLetter);
    pipeline.open(0, EventClock::known(None));
    let all = arrays(stream);
    let columns: Vec<ArrayRef> =
        plan.input.iter().map(|input| Arc::clone(&all[input.source])).collect();
    let starts: Vec<u32> = (0..stream.len() as u32).collect();
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: stream.len(),
        bytes: &vec![b'\n'; stream.len()],
        row_starts: &starts,
        row_ends: &starts,
        value_errors: &[],
        row_errors: &[],
        place: &Place::default(),
    });
    let segment = pipeline.close();
    pipeline.keep(segment, 0).unwrap();
    let epoch = pipeline.barrier();
    assert!(epoch.counters.close(), "{sql}: {:?}", epoch.counters);
    let mut out = Vec::new();
    for (_, rows) in epoch.rows {
        out.extend(lines(&plan.output.run(rows).unwrap()));
    }
    out.sort_unstable();
    (out, epoch.counters.filtered)
}

/// Rows that leave where the stream ends at once, in no order.
fn answer(mode: OutputMode, sql: &str, stream: &[Row], dim: &[Row]) -> Vec<String> {
    let mut job = job("k STRING, v INT", None, mode, sql);
    job.tables = vec![table("dim"), table("other")];
    let query = plan(&job).unwrap_or_else(|findings| panic!("{sql}: {findings:?}"));
    let batch = |name: &str, rows: &[Row]| {
        let fields =
            vec![Field::new("k", DataType::Utf8, true), Field::new(name, DataType::Int32, true)];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays(rows).to_vec()).unwrap()
    };
    let dim = batch("w", dim);
    query.load(&[dim.clone(), dim]).unwrap();
    lines(&bounded::answer(&Arc::new(query), &[&batch("v", stream)]).unwrap())
}

/// Rows as text, sorted: texts in quotes, NULL as nothing.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row: usize| match column.as_string_opt::<i32>() {
        _ if column.is_null(row) => String::new(),
        Some(texts) => format!("{:?}", texts.value(row)),
        None => array_value_to_string(column, row).unwrap(),
    };
    let line = |row: usize| {
        let cells = batch.columns().iter().map(|column| cell(column, row));
        cells.collect::<Vec<_>>().join(",")
    };
    let mut lines: Vec<String> = (0..batch.num_rows()).map(line).collect();
    lines.sort_unstable();
    lines
}

fn shown(cells: [Option<String>; 3]) -> String {
    cells.map(Option::unwrap_or_default).join(",")
}

fn text(k: Option<u8>) -> Option<String> {
    k.map(|k| format!("{:?}", String::from(char::from(b'a' + k))))
}

fn number(v: Option<i32>) -> Option<String> {
    v.map(|v| v.to_string())
}

/// The pairs of rows for which ON is true, by nested loops; for an outer join the others once.
fn nested(stream: &[Row], dim: &[Row], outer: bool, on: impl Fn(Row, Row) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for &row in stream {
        let met: Vec<Row> = dim.iter().copied().filter(|&of| on(row, of)).collect();
        for (_, w) in &met {
            out.push(shown([text(row.0), number(row.1), number(*w)]));
        }
        if outer && met.is_empty() {
            out.push(shown([text(row.0), number(row.1), None]));
        }
    }
    out.sort_unstable();
    out
}

/// Rows of the stream that pass, by their own test over the whole table.
fn passing(stream: &[Row], test: impl Fn(Row) -> bool) -> Vec<String> {
    let rows = stream.iter().filter(|row| test(**row));
    let mut out: Vec<String> = rows
        .map(|(k, v)| {
            format!("{},{}", text(*k).unwrap_or_default(), number(*v).unwrap_or_default())
        })
        .collect();
    out.sort_unstable();
    out
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let key = prop_oneof![5 => (0u8..4).prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![5 => (-2i32..6).prop_map(Some), 1 => Just(None)];
    proptest::collection::vec((key, value), 0..12)
}

fn equal<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.is_some() && a == b
}

proptest! {
    #[test]
    fn joins_give_what_nested_loops_give(stream in rows(), dim in rows()) {
        let check = |sql: &str, expected: Vec<String>| {
            assert_eq!(run(sql, &stream, &dim).0, expected, "{sql}\n{stream:?}\n{dim:?}");
        };
        let keys = |a: Row, b: Row| equal(a.0, b.0);
        let more = |a: Row, b: Row| matches!((a.1, b.1), (Some(v), Some(w)) if v > w);
        let some = |row: Row, on: &dyn Fn(Row, Row) -> bool| dim.iter().any(|of| on(row, *of));
        let inner = nested(&stream, &dim, false, keys);
        check("SELECT i.k, v, w FROM input i JOIN dim d ON i.k = d.k", inner.clone());
        check("SELECT i.k, v, w FROM dim d JOIN input i ON i.k = d.k", inner.clone());
        check("SELECT i.k, v, w FROM input i, dim d WHERE i.k = d.k", inner.clone());
        check("SELECT k, v, w FROM input JOIN dim USING (k)", inner.clone());
        check("SELECT k, v, w FROM input NATURAL JOIN dim", inner.clone());
        check("SELECT i.k, v, w FROM input i JOIN (SELECT k, w FROM dim) d ON i.k = d.k", inner);
        check("SELECT i.k, v, w FROM input i CROSS JOIN dim d", nested(&stream, &dim, false, |_, _| true));
        let outer = nested(&stream, &dim, true, keys);
        check("SELECT i.k, v, w FROM input i LEFT JOIN dim d ON i.k = d.k", outer.clone());
        check("SELECT i.k, v, w FROM dim d RIGHT JOIN input i ON i.k = d.k", outer.clone());
        check("SELECT k, v, w FROM dim RIGHT JOIN input USING (k)", outer);
        let residual = |a: Row, b: Row| keys(a, b) && more(a, b);
        check("SELECT i.k, v, w FROM input i JOIN dim d ON i.k = d.k AND v > w",
            nested(&stream, &dim, false, residual));
        check("SELECT i.k, v, w FROM input i LEFT JOIN dim d ON i.k = d.k AND v > w",
            nested(&stream, &dim, true, residual));
        check("SELECT i.k, v, w FROM input i LEFT JOIN dim d ON v > w", nested(&stream, &dim, true, more));
        check("SELECT i.k, v, w FROM input i LEFT JOIN dim d ON i.k = d.k AND w > 2 AND v > 1",
            nested(&stream, &dim, true, |a, b| keys(a, b) && b.1.is_some_and(|w| w > 2)
                && a.1.is_some_and(|v| v > 1)));
        check("SELECT i.k, v, w FROM input i LEFT JOIN dim d ON i.k = d.k WHERE w IS NULL",
            nested(&stream, &dim, true, keys).into_iter().filter(|line| line.ends_with(',')).collect());
        check("SELECT k, v FROM input LEFT SEMI JOIN dim USING (k)", passing(&stream, |row| some(row, &keys)));
        check("SELECT k, v FROM input i LEFT ANTI JOIN dim d ON i.k = d.k AND v > w",
            passing(&stream, |row| !some(row, &residual)));
        check("SELECT k, v FROM input WHERE k IN (SELECT k FROM dim WHERE w > 1)",
            passing(&stream, |row| some(row, &|a, b| keys(a, b) && b.1.is_some_and(|w| w > 1))));
        check("SELECT k, v FROM input i WHERE EXISTS (SELECT 1 FROM dim d WHERE d.k = i.k AND d.w < i.v)",
            passing(&stream, |row| some(row, &residual)));
        check("SELECT k, v FROM input i WHERE NOT EXISTS (SELECT 1 FROM dim d WHERE d.k = i.k)",
            passing(&stream, |row| !some(row, &keys)));
        check("SELECT k, v FROM input WHERE EXISTS (SELECT 1 FROM dim WHERE w = 3)",
            passing(&stream, |_| dim.iter().any(|(_, w)| *w == Some(3))));
        let mut once: Vec<Row> = Vec::new();
        dim.iter().for_each(|row| if !once.contains(row) { once.push(*row) });
        check("SELECT i.k, v, w FROM input i JOIN (SELECT DISTINCT k, w FROM dim) d ON i.k = d.k",
            nested(&stream, &once, false, keys));
        check("SELECT k, v FROM input WHERE k IN (SELECT DISTINCT k FROM dim)",
            passing(&stream, |row| some(row, &keys)));
        let unequal = |row: Row, of: &Row| row.0.is_some() && of.0.is_some() && row.0 != of.0;
        check("SELECT k, v FROM input WHERE k NOT IN (SELECT k FROM dim)",
            passing(&stream, |row| dim.iter().all(|of| unequal(row, of))));
        check("SELECT k, v FROM input i WHERE k NOT IN (SELECT k FROM dim d WHERE d.w = i.v)",
            passing(&stream, |row| dim.iter().all(|of| !equal(of.1, row.1) || unequal(row, of))));
    }

    #[test]
    fn two_joins_and_an_explode_stand_behind_one_another(stream in rows(), dim in rows()) {
        let sql = "SELECT a.k, d.w, o.w AS w2 FROM (SELECT k, explode(array(v, v)) AS e FROM input) a \
                   JOIN dim d ON a.k = d.k LEFT JOIN other o ON o.k = d.k AND o.w = a.e";
        let mut expected = Vec::new();
        for (k, v) in stream.iter().flat_map(|row| [row, row]) {
            for d in dim.iter().filter(|d| equal(d.0, *k)) {
                let met: Vec<Row> =
                    dim.iter().copied().filter(|o| equal(o.0, d.0) && equal(o.1, *v)).collect();
                let w2: Vec<Option<i32>> =
                    if met.is_empty() { vec![None] } else { met.iter().map(|o| o.1).collect() };
                expected.extend(w2.iter().map(|w2| shown([text(*k), number(d.1), number(*w2)])));
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(run(sql, &stream, &dim).0, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_join_above_an_aggregate_meets_finished_groups(stream in rows(), dim in rows()) {
        let check = |sql: &str, expected: Vec<String>| {
            assert_eq!(answer(OutputMode::Complete, sql, &stream, &dim), expected, "{sql}\n{stream:?}\n{dim:?}");
        };
        let mut keys: Vec<Option<u8>> = stream.iter().map(|row| row.0).collect();
        keys.sort_unstable();
        keys.dedup();
        let count = |key: Option<u8>| stream.iter().filter(|row| row.0 == key).count() as i32;
        let groups: Vec<Row> = keys.iter().map(|key| (*key, Some(count(*key)))).collect();
        let by_key = |a: Row, b: Row| equal(a.0, b.0);
        let of = "(SELECT k, count(*) AS n FROM input GROUP BY k)";
        let inner = nested(&groups, &dim, false, by_key);
        check(&format!("SELECT a.k, n, w FROM {of} a JOIN dim d ON a.k = d.k"), inner.clone());
        check(&format!("SELECT a.k, n, w FROM dim d JOIN {of} a ON a.k = d.k"), inner);
        check(&format!("SELECT a.k, n, w FROM {of} a LEFT JOIN dim d ON a.k = d.k"),
            nested(&groups, &dim, true, by_key));
        check(&format!("SELECT a.k, n, w FROM {of} a LEFT JOIN dim d ON a.k = d.k AND n > w"),
            nested(&groups, &dim, true, |a, b| by_key(a, b) && a.1.zip(b.1).is_some_and(|(n, w)| n > w)));
        let more = |row: Row| row.1.is_some_and(|n| dim.iter().any(|d| d.1.is_some_and(|w| n > w)));
        check(&format!("SELECT a.k, n FROM {of} a WHERE EXISTS (SELECT 1 FROM dim d WHERE n > d.w)"),
            passing(&groups, more));
        check("SELECT k, count(*) AS n FROM input GROUP BY k HAVING k IN (SELECT k FROM dim)",
            passing(&groups, |row| dim.iter().any(|d| equal(d.0, row.0))));
        check("SELECT k, count(*) AS n FROM input GROUP BY k HAVING count(*) > (SELECT min(w) FROM dim)",
            passing(&groups, |row| dim.iter().filter_map(|d| d.1).min() < row.1
                && dim.iter().any(|d| d.1.is_some())));
        // What a group is exploded into is a row of its own.
        let twice: Vec<Row> = groups.iter().flat_map(|row| [*row, *row]).collect();
        check("SELECT k, explode(array(n, n)) AS e FROM (SELECT k, count(*) AS n FROM input GROUP BY k)",
            passing(&twice, |_| true));
    }

    #[test]
    fn subqueries_over_tables_are_worked_out_once(stream in rows(), dim in rows()) {
        let check = |sql: &str, expected: Vec<String>| {
            assert_eq!(answer(OutputMode::Append, sql, &stream, &dim), expected, "{sql}\n{stream:?}\n{dim:?}");
        };
        let greatest = dim.iter().filter_map(|row| row.1).max();
        let least = dim.iter().filter_map(|row| row.1).min();
        check("SELECT k, v FROM input WHERE v > (SELECT min(w) FROM dim)",
            passing(&stream, |row| matches!((row.1, least), (Some(v), Some(w)) if v > w)));
        check("SELECT k, (SELECT max(w) FROM dim) AS m FROM input",
            passing(&stream.iter().map(|row| (row.0, greatest)).collect::<Vec<_>>(), |_| true));
        let of_key = |key: Option<u8>| dim.iter().filter(|d| equal(d.0, key)).filter_map(|d| d.1).max();
        check("SELECT k, (SELECT max(w) FROM dim d WHERE d.k = i.k) AS m FROM input i",
            passing(&stream.iter().map(|row| (row.0, of_key(row.0))).collect::<Vec<_>>(), |_| true));
        let counted = |key: Option<u8>| dim.iter().filter(|d| equal(d.0, key)).count() as i32;
        check("SELECT k, (SELECT count(*) FROM dim d WHERE d.k = i.k) AS m FROM input i",
            passing(&stream.iter().map(|row| (row.0, Some(counted(row.0)))).collect::<Vec<_>>(), |_| true));
        check("SELECT k, v FROM input WHERE k IN (SELECT k FROM dim GROUP BY k HAVING count(*) > 1)",
            passing(&stream, |row| counted(row.0) > 1));
        check("SELECT k, v FROM input WHERE k IN (SELECT k FROM dim) OR v > 1",
            passing(&stream, |row| counted(row.0) > 0 || row.1.is_some_and(|v| v > 1)));
        check("SELECT k, v FROM input i WHERE NOT EXISTS (SELECT 1 FROM dim d WHERE d.k = i.k AND d.w < i.v) \
               OR v IS NULL",
            passing(&stream, |row| row.1.is_none() || !dim.iter().any(|d| equal(d.0, row.0)
                && matches!((d.1, row.1), (Some(w), Some(v)) if w < v))));
        let mut sums: Vec<Row> = Vec::new();
        for (key, _) in &dim {
            if !sums.iter().any(|(known, _)| known == key) {
                let of = dim.iter().filter(|d| d.0 == *key).filter_map(|d| d.1);
                sums.push((*key, of.clone().next().map(|_| of.sum())));
            }
        }
        check("SELECT i.k, v, s FROM input i JOIN (SELECT k, sum(w) AS s FROM dim GROUP BY k) d ON i.k = d.k",
            nested(&stream, &sums, false, |a, b| equal(a.0, b.0)));
        let mut both = dim.clone();
        both.extend(&dim);
        check("SELECT i.k, v, w FROM input i JOIN (SELECT * FROM dim UNION ALL SELECT * FROM other) d ON i.k = d.k",
            nested(&stream, &both, false, |a, b| equal(a.0, b.0)));
        let paired: Vec<Row> = dim.iter().flat_map(|d| {
            dim.iter().filter(|o| equal(o.0, d.0)).map(|o| (d.0, o.1))
        }).collect();
        check("SELECT i.k, v, w FROM input i JOIN (SELECT d.k, o.w FROM dim d JOIN other o ON d.k = o.k) d \
               ON i.k = d.k", nested(&stream, &paired, false, |a, b| equal(a.0, b.0)));
        check("SELECT k, v FROM input WHERE v >= (SELECT w FROM dim WHERE w IS NOT NULL ORDER BY w LIMIT 1)",
            passing(&stream, |row| matches!((row.1, least), (Some(v), Some(w)) if v >= w)));
    }
}

#[test]
fn a_row_that_no_join_keeps_was_filtered() {
    let stream = [(Some(0), Some(1)), (Some(9), Some(1)), (None, Some(1))];
    let (out, filtered) = run(
        "SELECT i.k, v, w FROM input i JOIN dim d ON i.k = d.k",
        &stream,
        &[(Some(0), Some(7))],
    );
    assert_eq!((out.len(), filtered), (1, 2));
}

#[test]
fn what_spark_refuses_is_refused_in_its_words() {
    let check = |sql: &str, expected: &str| match planned_join(sql) {
        Ok(_) => panic!("{sql}: planned"),
        Err(findings) => {
            let whats: Vec<_> = findings.iter().map(|f| f.what.as_str()).collect();
            assert!(whats.iter().any(|what| what.contains(expected)), "{sql}: {whats:?}");
        }
    };
    check("SELECT i.k FROM input i FULL JOIN dim d ON i.k = d.k", "FullOuter joins with streaming");
    check(
        "SELECT i.k FROM input i RIGHT JOIN dim d ON i.k = d.k",
        "RightOuter join with a streaming DataFrame/Dataset on the left",
    );
    check(
        "SELECT i.k FROM dim d LEFT JOIN input i ON i.k = d.k",
        "LeftOuter join with a streaming DataFrame/Dataset on the right",
    );
    check("SELECT k FROM dim", "reads no stream");
    check("SELECT k FROM input i JOIN dim d ON i.k = d.k", "k is ambiguous");
    check("SELECT i.k FROM input i JOIN dim i ON true", "two relations are named i");
    check("SELECT i.k FROM input i JOIN dum d ON i.k = d.k", "unknown table dum");
    check("SELECT k IN (SELECT k FROM dim) AS b FROM input", "place in WHERE and HAVING");
    check("SELECT k FROM input WHERE k NOT IN (SELECT k FROM dim) OR v > 1", "NOT IN beside OR");
    let reason = "Queries with streaming sources must be executed with writeStream.start()";
    check("SELECT k FROM input WHERE v > (SELECT max(v) FROM input)", reason);
    check("SELECT k FROM input WHERE k IN (SELECT k FROM input)", reason);
    check("SELECT k FROM input i WHERE EXISTS (SELECT 1 FROM input o WHERE o.k = i.k)", reason);
    check("SELECT k FROM dim JOIN other USING (k)", "reads no stream");
}

#[test]
fn a_subquery_that_is_no_value_is_told() {
    let dim = [(Some(0), Some(1)), (Some(1), Some(2))];
    let query = planned_join("SELECT k FROM input WHERE v > (SELECT w FROM dim)").unwrap();
    let fields =
        vec![Field::new("k", DataType::Utf8, true), Field::new("w", DataType::Int32, true)];
    let table = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays(&dim).to_vec()).unwrap();
    let error = query.load(&[table.clone(), table]).unwrap_err().to_string();
    assert!(error.contains("SCALAR_SUBQUERY_TOO_MANY_ROWS"), "{error}");
    let sql = "SELECT k FROM input WHERE v > (SELECT max(w) FROM dim)";
    let mut job = job("k STRING, v INT", None, OutputMode::Append, sql);
    job.tables = vec![TableSpec { reload: true, ..self::table("dim") }];
    let what = plan(&job).unwrap_err().remove(0).what;
    assert!(what.contains("read again while the job runs"), "{what}");
}
