//! Several sources in a job through the real program: UNION ALL, joins of two streams batch by batch
//! as Spark, what is refused, and kills.

use std::collections::BTreeMap;

use pelton_tests::output;
use pelton_tests::program::{Job, binary, start};
use serde_json::{Value, json};

/// A source over a directory of its name, one file an epoch; lateness by Spark's rule.
fn source(name: &str, schema: &str, watermark: bool) -> String {
    let watermark = match watermark {
        true => {
            "watermark = { column = \"ts\", delay = \"10s\", late = \"epoch\", across = \"max\" }"
        }
        false => "",
    };
    format!(
        "[source.{name}]\ntype = \"file\"\npath = \"{name}/*.csv\"\nmax_files_per_epoch = 1\nschema \
         = \"{schema}\"\n{watermark}\n"
    )
}

fn job(sources: &[String], sql: &str, mode: &str) -> Job {
    Job::new(&format!(
        "name = \"streams\"\n{}\n[query]\nsql = \"\"\"{sql}\"\"\"\nmode = \"{mode}\"\ntrigger = \
         \"available-now\"\n[sink.out]\ntype = \"console\"\nstyle = \"json\"\n[checkpoint]\npath = \
         \"state\"\n",
        sources.concat()
    ))
}

/// `1970-01-01T00:01:40Z` for 100.
fn at(second: u32) -> String {
    format!("1970-01-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Runs the job over what is there until it is at rest: batch, watermark in seconds, rows.
fn batches(job: &Job) -> Vec<(u64, String, Vec<Value>)> {
    let ended = job.run().expect_code(0);
    let lines = ended.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let rows = line["rows"].as_array().expect("rows are a list").clone();
        (line["batch"].as_u64().expect("a number"), rows)
    });
    let lines: BTreeMap<u64, Vec<Value>> = lines.collect();
    let progress = ended.progress();
    let batch = |epoch: &Value| {
        let number = epoch["batchId"].as_u64().expect("a number");
        let watermark = epoch["eventTime"]["watermark"].as_str().unwrap_or("none").to_owned();
        (number, watermark, lines.get(&number).cloned().unwrap_or_default())
    };
    progress.iter().filter(|epoch| epoch["batchId"].is_u64()).map(batch).collect()
}

fn watermark(second: u32) -> String {
    at(second).replace('Z', ".000Z")
}

const LEFT: &str = "ts TIMESTAMP, k STRING, v INT";
const RIGHT: &str = "ts TIMESTAMP, k STRING, w INT";
const ON: &str = "l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '10' SECOND";

fn pair(l: u32, r: Option<u32>, k: &str, v: i64, w: Option<i64>) -> Value {
    json!({ "ts": at(l), "rts": r.map(at), "k": k, "v": v, "w": w })
}

fn without_nulls(rows: &[Value]) -> Vec<Value> {
    let kept = |row: &Value| {
        let fields = row.as_object().expect("a row is an object").iter();
        fields.filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    rows.iter().map(|row| Value::Object(kept(row))).collect()
}

#[track_caller]
fn same(found: &[(u64, String, Vec<Value>)], expected: &[(u64, u32, Vec<Value>)]) {
    let rows = |rows: &[Value]| without_nulls(rows);
    let found: Vec<_> = found.iter().map(|(n, w, of)| (*n, w.clone(), rows(of))).collect();
    let expected: Vec<_> =
        expected.iter().map(|(n, w, of)| (*n, watermark(*w), rows(of))).collect();
    assert_eq!(found, expected);
}

/// What Spark does, by its rules: each side's watermark is its greatest time less ten seconds, zero
/// before its first row; the query's is the least, used from the batch after. A left row leaves alone
/// in the batch whose watermark has passed its time by ten seconds and more; no batch without data
/// runs unless the watermark moved.
#[test]
fn a_left_outer_join_leaves_batch_by_batch_as_in_spark() {
    let sql = format!("SELECT l.ts, r.ts AS rts, l.k, v, w FROM l LEFT JOIN r ON {ON}");
    let job = job(&[source("l", LEFT, true), source("r", RIGHT, true)], &sql, "append");
    let line = |second: u32, rest: &str| format!("{},{rest}\n", at(second));
    job.write("l/1.csv", line(100, "a,1") + &line(105, "b,2"));
    std::fs::create_dir_all(job.path("r")).expect("a directory can be made");
    // The right side has seen nothing: the watermark stays.
    same(&batches(&job), &[(0, 0, vec![])]);
    job.write("r/1.csv", line(104, "a,10") + &line(99, "b,20"));
    same(&batches(&job), &[(1, 0, vec![pair(100, Some(104), "a", 1, Some(10))]), (2, 94, vec![])]);
    job.write("l/2.csv", line(130, "c,3"));
    job.write("r/2.csv", line(131, "x,9"));
    let alone = pair(105, None, "b", 2, None);
    same(&batches(&job), &[(3, 94, vec![]), (4, 120, vec![alone])]);
    // 120 is late by the watermark of the batch before, 121 is not; what left before meets nobody.
    job.write("l/3.csv", line(120, "late,4") + &line(121, "e,5") + &line(125, "x,6"));
    job.write("r/3.csv", line(110, "b,30") + &line(131, "e,50"));
    let found = batches(&job);
    let met = vec![pair(125, Some(131), "x", 6, Some(9)), pair(121, Some(131), "e", 5, Some(50))];
    same(&found, &[(5, 120, met)]);
    // Nobody knows a match for 130 until both sides have passed 140.
    job.write("l/4.csv", line(151, "z,7"));
    job.write("r/4.csv", line(150, "y,8"));
    same(&batches(&job), &[(6, 120, vec![]), (7, 140, vec![])]);
    job.write("l/5.csv", line(170, "z,7"));
    job.write("r/5.csv", line(170, "y,8"));
    let alone = [pair(130, None, "c", 3, None)];
    let found = batches(&job);
    assert_eq!(found[1].1, watermark(160));
    assert_eq!(without_nulls(&found[1].2), without_nulls(&alone));
}

#[test]
fn groups_over_a_join_close_by_what_the_join_may_still_give() {
    let sql = format!(
        "SELECT window.start AS s, count(*) AS n FROM l JOIN r ON {ON} GROUP BY window(l.ts, '10 \
         seconds')"
    );
    let job = job(&[source("l", LEFT, true), source("r", RIGHT, true)], &sql, "append");
    let line = |second: u32, rest: &str| format!("{},{rest}\n", at(second));
    job.write("l/1.csv", line(101, "a,1") + &line(102, "a,2") + &line(125, "a,3"));
    job.write("r/1.csv", line(103, "a,10") + &line(125, "a,10"));
    // The watermark is 115, but the join may give rows of its left side from 105 on.
    same(&batches(&job), &[(0, 0, vec![]), (1, 115, vec![])]);
    job.write("l/2.csv", line(131, "b,1"));
    job.write("r/2.csv", line(131, "b,1"));
    let found = batches(&job);
    let first = json!({ "s": at(100), "n": 2 });
    assert_eq!(
        found.iter().map(|batch| batch.2.clone()).collect::<Vec<_>>(),
        [vec![], vec![first]]
    );
}

#[test]
fn sources_of_other_columns_become_one_table() {
    let sql = "SELECT window.start AS s, name, count(*) AS n, sum(x) AS x FROM (SELECT ts, k AS \
               name, v AS x FROM l UNION ALL SELECT ts, upper(k), d FROM r) GROUP BY window(ts, '10 \
               seconds'), name";
    let right = source("r", "ts TIMESTAMP, k STRING, d DOUBLE", true);
    let job = job(&[source("l", LEFT, true), right], sql, "append");
    let line = |second: u32, rest: &str| format!("{},{rest}\n", at(second));
    job.write("l/1.csv", line(101, "A,1") + &line(131, "A,2"));
    job.write("r/1.csv", line(105, "a,0.5") + &line(122, "a,1.5"));
    let first = json!({ "s": at(100), "name": "A", "n": 2, "x": 1.5 });
    same(&batches(&job), &[(0, 0, vec![]), (1, 112, vec![first])]);
    // After a restart the silent source still stands where it stood.
    job.write("r/2.csv", line(141, "a,4.0"));
    let next = json!({ "s": at(120), "name": "A", "n": 1, "x": 1.5 });
    let found = batches(&job);
    assert_eq!(found.last().map(|batch| batch.1.clone()), Some(watermark(121)));
    assert!(found.iter().all(|batch| batch.2.is_empty()), "{found:?}: 131 is not over");
    job.write("l/2.csv", line(145, "A,0"));
    let found = batches(&job);
    assert_eq!(found.last().map(|batch| batch.2.clone()), Some(vec![next]), "{found:?}");
    let ended = job.run().expect_code(0);
    assert!(ended.progress().iter().all(|epoch| !epoch["batchId"].is_u64()), "it is at rest");
}

#[test]
fn each_scan_is_a_source_in_the_progress() {
    let sql =
        "SELECT k, v FROM l WHERE v > 1 UNION ALL SELECT k, v FROM l UNION ALL SELECT k, w FROM r";
    let job = job(&[source("l", LEFT, false), source("r", RIGHT, false)], sql, "append");
    job.write("l/1.csv", format!("{},a,1\n{},b,2\n", at(1), at(2)));
    job.write("r/1.csv", format!("{},c,3\n", at(1)));
    let ended = job.run().expect_code(0);
    let progress = ended.progress();
    let sources = progress[0]["sources"].as_array().expect("a list");
    let rows: Vec<_> = sources.iter().map(|source| source["numInputRows"].as_u64()).collect();
    assert_eq!(rows, [Some(2), Some(2), Some(1)]);
    let described = sources.iter().map(|source| source["description"].as_str().unwrap_or_default());
    let described: Vec<_> =
        described.map(|text| text.contains("/l/") || text.contains("/r/")).collect();
    assert_eq!(described, [true; 3]);
    let line: Value = serde_json::from_str(ended.stdout.trim()).expect("one line");
    let row = |k: &str, v: i64| json!({ "k": k, "v": v });
    assert_eq!(line["rows"], json!([row("b", 2), row("a", 1), row("b", 2), row("c", 3)]));
}

/// Exit code 78, at the join, with Spark's reason.
#[test]
fn joins_that_spark_refuses_are_refused() {
    let check = |watermarks: [bool; 2], sql: &str, mode: &str, expected: &[&str]| {
        let sources = [source("l", LEFT, watermarks[0]), source("r", RIGHT, watermarks[1])];
        let job = job(&sources, sql, mode);
        job.start_with(&["check", "job.toml"]).end().expect_code(78).expect_said(expected);
    };
    let outer = format!("SELECT l.k FROM l LEFT JOIN r ON {ON}");
    let why = "Stream-stream LeftOuter join between two streaming DataFrame/Datasets is not \
               supported without a watermark in the join keys";
    check([true, false], &outer, "append", &[why, "job.toml:", "give both sources a watermark"]);
    check([true, true], "SELECT l.k FROM l LEFT JOIN r ON l.k = r.k", "append", &[why]);
    let mode = "LeftOuter join between two streaming DataFrames/Datasets is not supported in Update \
                output mode, only in Append output mode";
    check([true, true], &outer, "update", &[mode, "set mode = \"append\""]);
    let none = "Stream-stream join without equality predicate is not supported";
    check([true, true], "SELECT l.k FROM l JOIN r ON l.ts < r.ts", "append", &[none]);
    let anti = "LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported";
    check([true, true], &format!("SELECT l.k FROM l LEFT ANTI JOIN r ON {ON}"), "append", &[anti]);
    let sources = [source("l", LEFT, false), source("r", RIGHT, false)];
    let job = job(&sources, "SELECT l.k, w FROM l JOIN r ON l.k = r.k", "append");
    let ended = job.start_with(&["check", "job.toml"]).end().expect_code(0);
    ended.expect_said(&["the state of the join grows without bound", "left side", "right side"]);
}

/// A process that is killed at every kind of place gives the rows of one that is left alone.
#[test]
fn f47_a_join_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let of = |seed: u64, name: &str, rows: u64| {
        let line = |i: u64| {
            let mixed = (i * 2_654_435_761 + seed * 97) % 1_000_003;
            format!("{},{name}{},{i}\n", at((i / 8) as u32 + (mixed % 5) as u32), mixed % 40)
        };
        (0..rows).map(line).collect::<String>()
    };
    let toml = |keys: &str| {
        let source = |name: &str, schema: &str| {
            format!(
                "[source.{name}]\ntype = \"file\"\npath = \"{name}.csv\"\nschema = \"{schema}\"\n\
                 watermark = {{ column = \"ts\", delay = \"5s\" }}\n"
            )
        };
        format!(
            "name = \"kills\"\n{}{}[query]\nsql = \"SELECT l.ts, r.ts AS rts, l.k, v, w FROM l LEFT \
             JOIN r ON {ON}\"\n[sink.out]\ntype = \"file\"\npath = \"out\"\nformat = \"csv\"\n\
             [checkpoint]\npath = \"state\"\n{keys}",
            source("l", LEFT),
            source("r", RIGHT),
        )
    };
    let prepared = |keys: &str| {
        let job = Job::new(&toml(keys));
        job.write("l.csv", of(1, "k", 4_000));
        job.write("r.csv", of(2, "k", 3_000));
        job
    };
    let rows = |job: &Job| {
        let mut rows = output::rows(&job.path("out"), "ts,rts,k,v,w");
        rows.sort_unstable();
        rows
    };
    let quiet = prepared("");
    quiet.run().expect_code(0);
    let expected = rows(&quiet);
    assert!(expected.len() > 4_000, "{} rows", expected.len());
    let job = prepared("max_rows_per_epoch = 500\n");
    let places = ["barrier", "merge", "checkpoint", "idle", "recover", "decode"];
    let mut kills = 0;
    for round in 0.. {
        let mut command = std::process::Command::new(binary());
        command.args(["run", "job.toml", "--progress", "json"]).current_dir(job.dir());
        // Some places this query never comes to: then the run comes to its end.
        let place = places[round % places.len()];
        command.env("PELTON_FAIL", format!("{place}:{}", 1 + round % 3));
        let ended = start(command).end();
        match ended.was_killed() {
            true => kills += 1,
            false => {
                ended.expect_code(0);
                break;
            }
        }
    }
    assert!(kills >= 1, "nothing was killed");
    job.run().expect_code(0);
    assert_eq!(rows(&job), expected, "after {kills} kills");
}

/// Two growing directories; what is silent for a second is idle.
fn two_that_grow() -> Job {
    let source = |name: &str| {
        format!(
            "[source.{name}]\ntype = \"file\"\npath = \"{name}/*.csv\"\nschema = \"ts TIMESTAMP, v \
             INT\"\nwatermark = {{ column = \"ts\", delay = \"0s\", idle_timeout = \"1s\" }}\n"
        )
    };
    let job = Job::new(&format!(
        "name = \"quiet\"\n{}{}[query]\nsql = \"\"\"SELECT window.start AS start, count(*) AS n FROM \
         (SELECT * FROM l UNION ALL SELECT * FROM r) GROUP BY window(ts, '10 \
         seconds')\"\"\"\n[sink.out]\ntype = \"file\"\npath = \"out\"\n[checkpoint]\npath = \
         \"state\"\n",
        source("l"),
        source("r")
    ));
    for directory in ["l", "r", "out"] {
        std::fs::create_dir_all(job.path(directory)).expect("a directory can be made");
    }
    job
}

/// What of a window starting then was published: its rows, each time it left.
fn published(job: &Job, start: u32) -> Vec<u64> {
    let rows = output::rows(&job.path("out"), "start,n");
    let of = |row: &String| {
        let (begin, n) = row.split_once(',').expect("two columns");
        begin.contains(at(start).trim_end_matches('Z')).then(|| n.parse().expect("a count"))
    };
    rows.iter().filter_map(of).collect()
}

#[test]
fn f58_a_source_that_is_quiet_holds_no_window_back_and_meets_none_that_left_also_after_a_crash() {
    let job = two_that_grow();
    let row = |second: u32| format!("{},1\n", at(second));
    job.write("l/a.csv", row(1) + &row(2) + &row(30));
    job.write("r/a.csv", row(5));
    let mut running = job.start();
    running.wait_until("the rows are in", |running| running.stderr().contains("\"batchId\":0"));
    assert!(published(&job, 0).is_empty(), "the quiet one may still bring rows");
    let mut file = 0;
    running.wait_until("the window leaves while the other goes on", |_| {
        file += 1;
        job.write(&format!("l/b{file:06}.csv"), row(31));
        !published(&job, 0).is_empty()
    });
    running.kill();

    // Back from idleness, in another process: one row of a window that has left, one of one that has not.
    job.write("r/b.csv", row(8) + &row(32) + &row(45));
    job.write("l/z.csv", row(46));
    let mut running = job.start();
    running.wait_until("the next window leaves", |_| !published(&job, 30).is_empty());
    running.interrupt();
    let ended = running.end().expect_code(0);
    assert_eq!(published(&job, 0), [3], "a window leaves once");
    assert_eq!(ended.fates().late, 1, "{:?}", ended.fates());
    for epoch in ended.progress().iter().filter(|epoch| epoch["batchId"].is_u64()) {
        let now = epoch["eventTime"]["watermark"].as_str().expect("there is a watermark");
        assert!(now >= &watermark(30)[..], "it went back to {now}");
    }
}
