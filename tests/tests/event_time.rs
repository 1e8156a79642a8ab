//! Event time end to end: epochs of any size, times that are absurd, clocks that are wrong, rows that
//! come too late, triggers down to milliseconds.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pelton_tests::output;
use pelton_tests::program::{Ended, Job, binary, start};

const WINDOWS: &str =
    "SELECT window.start AS s, count(*) AS n, sum(v) AS v FROM t GROUP BY window(ts, '10 seconds')";

/// A job over the files of a directory, one an epoch.
fn files(source: &str, sinks: &str) -> Job {
    let job = Job::new(&format!(
        r#"name = "events"

[source.t]
type = "file"
path = "in"
max_files_per_epoch = 1
schema = "ts TIMESTAMP, v BIGINT"
csv.header = true
{source}

[query]
sql = "{WINDOWS}"
trigger = "available-now"

[sink.out]
type = "file"
path = "out"
{sinks}

[checkpoint]
path = "state"
"#
    ));
    std::fs::create_dir_all(job.path("in")).expect("a directory can be made");
    job
}

fn counts(ended: &Ended) -> Vec<u64> {
    let rows = |epoch: &serde_json::Value| epoch["numInputRows"].as_u64().expect("a count");
    ended.progress().iter().map(rows).collect()
}

#[test]
fn f23_epochs_of_no_row_one_row_and_a_million_rows_are_epochs() {
    let job = files("watermark = { column = \"ts\", delay = \"1s\" }", "");
    let mut many = String::from("ts,v\n");
    for row in 0..1_000_000 {
        let (minutes, seconds) = (row / 60_000, row / 1_000 % 60);
        many += &format!("2024-05-01T12:{minutes:02}:{seconds:02}Z,1\n");
    }
    job.write("in/a.csv", "ts,v\n");
    job.write("in/b.csv", "ts,v\n2024-05-01T11:00:00Z,7\n");
    job.write("in/c.csv", many);
    job.write("in/d.csv", "ts,v\n");
    let ended = job.run().expect_code(0);
    assert_eq!(counts(&ended), [0, 1, 1_000_000, 0]);
    let rows = output::rows(&job.path("out"), "s,n,v");
    assert_eq!(rows[0], "2024-05-01T11:00:00Z,1,7");
    // 16 minutes and 40 seconds; the last window is still open.
    assert_eq!(rows.len(), 100, "{rows:?}");
    assert!(rows[1..].iter().all(|row| row.ends_with(",10000,10000")), "{rows:?}");
    assert!(counts(&job.run().expect_code(0)).is_empty(), "nothing came since");
}

const YEAR_9999: &str =
    "ts,v\n2024-05-01T12:00:01Z,1\n9999-12-31T23:59:59Z,2\n2024-05-01T12:00:02Z,4\n";

#[test]
fn f58_a_row_of_the_year_9999_closes_every_window_and_makes_the_others_late() {
    let job = files("watermark = { column = \"ts\", delay = \"10s\" }", "");
    job.write("in/a.csv", YEAR_9999);
    let ended = job.run().expect_code(0);
    assert_eq!(ended.fates().late, 1);
    assert_eq!(output::rows(&job.path("out"), "s,n,v"), ["2024-05-01T12:00:00Z,1,1"]);
}

#[test]
fn f58_a_guard_against_the_future_keeps_such_a_row_aside_and_takes_a_jump_that_lasts() {
    let watermark = "watermark = { column = \"ts\", delay = \"10s\", max_future_skew = \"1h\" }";
    let letters =
        "[sink.bad]\ntype = \"file\"\npath = \"bad\"\nof = \"dead_letters\"\nformat = \"json\"";
    let job = files(watermark, letters);
    job.write("in/a.csv", YEAR_9999);
    let first = job.run().expect_code(0);
    assert_eq!((first.fates().late, first.fates().rejected), (0, 1));
    let bad = std::fs::read_dir(job.path("bad")).expect("dead letters are published");
    let bad: Vec<_> = bad.map(|entry| entry.expect("it can be read").path()).collect();
    let letters: String = bad
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| std::fs::read_to_string(path).expect("it can be read"))
        .collect();
    assert!(letters.contains("9999-12-31T23:59:59Z,2"), "{letters}");
    assert!(letters.contains("more than max_future_skew"), "{letters}");
    // The stream was away for a day: eight rows in a row are no mistake.
    let mut after = String::from("ts,v\n");
    (0..10).for_each(|second| after += &format!("2024-05-02T12:00:{:02}Z,1\n", second));
    job.write("in/b.csv", after);
    let second = job.run().expect_code(0);
    assert_eq!((second.fates().rejected, second.fates().applied), (7, 3));
    assert_eq!(output::rows(&job.path("out"), "s,n,v"), ["2024-05-01T12:00:00Z,2,5"]);
}

/// A library that tells another time of day, by a variable's seconds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    const char *by = getenv("SHIFTED_BY");
    if (id == CLOCK_REALTIME && by) now->tv_sec += atol(by);
    return result;
}
"#;

#[test]
fn f59_a_wall_clock_that_jumps_by_an_hour_changes_no_answer() {
    let shim = tempfile::tempdir().expect("a temporary directory can be made");
    let (source, library) = (shim.path().join("shim.c"), shim.path().join("shim.so"));
    std::fs::write(&source, SHIM).expect("it can be written");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        return pelton_tests::skip("f59", "there is no C compiler to make a wrong clock with");
    }
    let answer = |shifts: [i64; 3]| {
        let job = files("watermark = { column = \"ts\", delay = \"2s\" }", "");
        for (file, shift) in shifts.iter().enumerate() {
            let mut rows = String::from("ts,v\n");
            for second in 0..20 {
                rows += &format!("2024-05-01T12:0{file}:{second:02}Z,{second}\n");
            }
            job.write(&format!("in/{file}.csv"), rows);
            shifted(&job, &library, *shift).expect_code(0);
        }
        output::rows(&job.path("out"), "s,n,v")
    };
    let expected = answer([0, 0, 0]);
    assert_eq!(expected.len(), 5, "{expected:?}");
    assert_eq!(answer([3_600, -3_600, 3_600]), expected);
}

fn shifted(job: &Job, library: &Path, by: i64) -> Ended {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--progress", "json"]).current_dir(job.dir());
    command.env("LD_PRELOAD", library).env("SHIFTED_BY", by.to_string());
    start(command).end()
}

#[test]
fn late_rows_go_to_their_sink_as_they_came() {
    let sink = "[sink.late]\ntype = \"file\"\npath = \"late\"\nof = \"late\"";
    for (cut, rule) in [("1s", "row"), ("1s", "epoch")] {
        let watermark =
            format!("watermark = {{ column = \"ts\", delay = \"{cut}\", late = \"{rule}\" }}");
        let job = files(&watermark, sink);
        job.write("in/a.csv", "ts,v\n2024-05-01T12:00:01Z,1\n2024-05-01T12:00:30Z,2\n");
        job.write("in/b.csv", "ts,v\n2024-05-01T12:00:02Z,4\n2024-05-01T12:00:31Z,8\n");
        job.write("in/c.csv", "ts,v\n2024-05-01T12:00:03Z,16\n2024-05-01T12:01:00Z,32\n");
        job.run().expect_code(0);
        let late = output::rows(&job.path("late"), "ts,v");
        match rule {
            "row" => assert_eq!(late, ["2024-05-01T12:00:02Z,4", "2024-05-01T12:00:03Z,16"]),
            // Spark's rule is an epoch behind.
            _ => assert_eq!(late, ["2024-05-01T12:00:03Z,16"]),
        }
    }
    let job = files("", sink);
    let said = "would never get a row: without a watermark no row is late";
    job.start_with(&["check", "job.toml"]).end().expect_code(78).expect_said(&[said]);
}

#[test]
fn check_tells_of_state_without_bound_and_of_a_watermark_without_a_guard() {
    let job = |sql: &str, source: &str| {
        Job::new(&format!(
            "name = \"notes\"\n[source.t]\ntype = \"socket\"\naddress = \"127.0.0.1:9\"\nschema = \"ts \
             TIMESTAMP, v BIGINT\"\n{source}\n[query]\nmode = \"update\"\nsql = \"{sql}\"\n"
        ))
    };
    let check = |job: Job| job.start_with(&["check", "job.toml"]).end().expect_code(0).stderr;
    let endless = check(job("SELECT v, count(*) AS n FROM t GROUP BY v", ""));
    assert!(endless.contains("the state grows without bound: it holds every group"), "{endless}");
    let watermark = "watermark = { column = \"ts\", delay = \"1s\" }";
    let bounded = check(job(WINDOWS, watermark));
    assert!(!bounded.contains("without bound"), "{bounded}");
    assert!(bounded.contains("max_future_skew"), "{bounded}");
    let guarded = "watermark = { column = \"ts\", delay = \"1s\", max_future_skew = \"1h\" }";
    assert!(!check(job(WINDOWS, guarded)).contains("note:"));
    let keys = check(job("SELECT v FROM t", "dedup = { columns = [\"v\"] }"));
    assert!(keys.contains("the state grows without bound: it holds every key"), "{keys}");
}

#[test]
fn a_continuous_trigger_answers_within_milliseconds_and_rests_in_between() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let job = Job::new(&format!(
        r#"name = "continuous"

[source.t]
type = "socket"
address = "{address}"
schema = "v BIGINT"

[query]
sql = "SELECT v + 1 AS v FROM t"
trigger = "continuous 5ms"

[sink.out]
type = "console"
style = "json"
"#
    ));
    let mut running = job.start();
    let (mut socket, _) = listener.accept().expect("the job connects");
    socket.set_nodelay(true).expect("a socket has the option");
    for row in 0..50u32 {
        let (asked, answer) = (Instant::now(), format!("{{\"v\":{}}}", row + 1));
        writeln!(socket, "{row}").expect("the job listens");
        running.wait_until(&answer, |running| running.stdout().contains(&answer));
        // Far above what it takes: a machine may be busy.
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    let before = running.cpu_time().expect("it runs");
    std::thread::sleep(Duration::from_secs(1));
    let spent = running.cpu_time().expect("it runs") - before;
    assert!(spent < Duration::from_millis(100), "{spent:?} of work in a second without a row");
    running.interrupt();
    running.end().expect_code(0);
}
