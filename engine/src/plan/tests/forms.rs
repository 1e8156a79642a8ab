//! Spark's forms of GROUP BY, SELECT and FROM: which are planned, and why others are not.

use super::*;

/// `Ok` with the names of the columns, or what is wrong.
fn planned(mode: OutputMode, sql: &str) -> Result<String, String> {
    let job = job(EVENTS, Some(("ts", 10)), mode, sql);
    match plan(&job) {
        Ok(plan) => {
            let names = plan.output().schema.fields().iter().map(|field| field.name().as_str());
            Ok(names.collect::<Vec<_>>().join(", "))
        }
        Err(findings) => Err(findings.into_iter().map(|f| f.what).collect::<Vec<_>>().join("; ")),
    }
}

#[test]
fn queries_are_planned_with_sparks_columns() {
    use OutputMode::{Append, Complete, Update};
    let check = |mode, sql: &str, expected: &str| {
        assert_eq!(planned(mode, sql).as_deref(), Ok(expected), "{sql}");
    };
    check(Append, "SELECT v * 2 AS a, a + 1 AS b FROM input", "a, b");
    check(Complete, "SELECT key, sum(v) AS s, s + 1 AS t FROM input GROUP BY ALL", "key, s, t");
    check(Complete, "SELECT key, count(*) FROM input GROUP BY ROLLUP(key)", "key, count(1)");
    check(Complete, "SELECT key, count(*) AS n FROM input GROUP BY ALL ORDER BY ALL", "key, n");
    // A window in every set closes, also where the other keys come and go.
    let sql = "SELECT window.start, key, count(*) AS n FROM input \
               GROUP BY window(ts, '10 seconds'), ROLLUP(key)";
    check(Append, sql, "start, key, n");
    let sql = "SELECT window.*, count(*) AS n FROM input GROUP BY window(ts, '10 seconds')";
    check(Append, sql, "start, end, n");
    let sql = "SELECT w, count(*) AS n FROM (SELECT window(ts, '10 seconds') AS w FROM input) \
               GROUP BY w";
    check(Append, sql, "w, n");
    let sql = "SELECT window(ts, '10 seconds').start AS s, count(*) AS n FROM input GROUP BY 1";
    check(Update, sql, "s, n");
    let sql = "SELECT key, t.w, y FROM input LATERAL VIEW explode(split(key, ' ')) t AS w \
               LATERAL VIEW OUTER explode(array(v)) u AS y";
    check(Append, sql, "key, w, y");
    check(
        Append,
        "SELECT *, posexplode(array(v)) FROM input",
        "ts, key, v, x, d, Sepal length, pos, col",
    );
    check(Append, "SELECT inline(array(struct(v, key))) FROM input", "v, key");
    check(Append, "SELECT explode(map(key, v)) FROM input", "key, value");
    check(Append, "SELECT stack(2, 1, 2, 3) FROM input", "col0, col1");
    check(Append, "SELECT json_tuple(key, 'a', 'b') FROM input", "c0, c1");
    let sql = "SELECT j.* FROM (SELECT from_json(key, 'Id INT, Name STRING') AS j FROM input)";
    check(Append, sql, "Id, Name");
}

#[test]
fn what_spark_refuses_is_refused_for_its_reason() {
    use OutputMode::{Append, Complete};
    let check = |mode, sql: &str, expected: &str| match planned(mode, sql) {
        Err(found) => assert!(found.contains(expected), "{sql}: {found}"),
        Ok(columns) => panic!("{sql}: planned as {columns}"),
    };
    // The start of a window is no event time: no watermark closes it.
    let sql = "SELECT window(ts, '10 seconds').start AS s, count(*) AS n FROM input GROUP BY 1";
    check(Append, sql, "Invalid streaming output mode: append");
    check(Complete, "SELECT grouping(key) FROM input GROUP BY key", "can only be used with");
    let sql = "SELECT grouping(v), count(*) FROM input GROUP BY ROLLUP(key)";
    check(Complete, sql, "can't be found in grouping columns");
    let sql = "SELECT explode(array(v)), explode(array(v)) AS b FROM input";
    check(Append, sql, "only one generator allowed per SELECT clause but found 2");
    let sql = "SELECT key, a, b FROM input LATERAL VIEW explode(array(v)) t AS a, b";
    check(Append, sql, "expected");
    let sql = "SELECT count(*) FROM input GROUP BY ROLLUP(window(ts, '10 seconds'))";
    check(Complete, sql, "not every grouping set has");
    check(Append, "SELECT window(ts, '10 seconds', '5 seconds') FROM input", "sliding window");
    check(Append, "SELECT to_xml(struct(key)) FROM input", "to_xml is not in this version");
    check(
        Append,
        "SELECT aggregate(array(v), 0L, (a, x) -> x) FROM input",
        "returns INT, expected",
    );
    check(Append, "SELECT transform(v, x -> x) FROM input", "expected an ARRAY");
    check(Append, "SELECT from_json(key, 'a NOTYPE') FROM input", "has no type");
}
