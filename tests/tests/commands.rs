//! The commands that need no job of the user's: demo, hardware, explain, bench, the generator.

use pelton_tests::jobs;
use pelton_tests::program::{Job, pelton};

#[test]
fn the_demo_shows_windows_closing() {
    let ended = pelton(&["demo", "--rows", "8000000"]).expect_code(0);
    assert!(ended.stdout.contains("Batch: 0"), "{}", ended.stdout);
    assert!(ended.stdout.contains("2024-05-01"), "{}", ended.stdout);
    ended.expect_said(&["8000000 rows", "MB/s"]);
}

#[test]
fn hardware_prints_what_it_found() {
    let ended = pelton(&["hardware"]).expect_code(0);
    for text in ["io_uring", "l2", "memory", "gpu 0", "llvmpipe", "software", "native tier"] {
        assert!(ended.stdout.to_lowercase().contains(text), "no {text}:\n{}", ended.stdout);
    }
}

#[test]
fn explain_prints_the_plan_and_reads_nothing() {
    let job = Job::new(&jobs::Sensors::default().toml());
    let ended = job.start_with(&["explain", "job.toml"]).end().expect_code(0);
    for text in ["window", "status", "core 0"] {
        assert!(ended.stdout.contains(text), "no {text}:\n{}", ended.stdout);
    }
    assert!(!job.path("out").exists() && !job.path("state").exists());
}

/// The benchmark checks every row of its answer: a small one is a test.
#[test]
fn the_suites_give_the_right_answers() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = dir.path().to_str().expect("UTF-8");
    for (suite, engine) in [("sensors", "pelton"), ("words", "pelton")] {
        let args = ["bench", suite, "--rows", "300000", "--rounds", "2", "--dir", dir];
        let ended = pelton(&args).expect_code(0);
        assert!(ended.stdout.contains(engine) && ended.stdout.contains("MB/s"), "{}", ended.stdout);
        assert!(ended.stdout.contains("equal to an independent computation"), "{}", ended.stdout);
    }
}

/// So does the one of checkpoints; a small one is no measurement.
#[test]
fn the_suite_of_checkpoints_gives_the_right_answers() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = dir.path().to_str().expect("UTF-8");
    let args = ["bench", "checkpoint", "--rows", "1000000", "--rounds", "1", "--dir", dir];
    let ended = pelton(&args).expect_code(0);
    for figure in ["bytes_per_changed_group", "overhead_percent_of_the_best", "seconds_p50"] {
        assert!(ended.stdout.contains(figure), "no {figure}:\n{}", ended.stdout);
    }
}

/// `generate` makes bytes that go through decoder and counters like a file's.
#[test]
fn a_generator_is_a_source_like_any_other() {
    let job = Job::new(
        r#"name = "generated"

[source.sensors]
type = "generate"
suite = "sensors"
rows = 50000
seed = 7
watermark = { column = "ts", delay = "10s" }

[query]
sql = "SELECT count(*) AS n, min(status) AS low, max(status) AS high FROM sensors"
mode = "complete"

[sink.out]
type = "console"
style = "json"
"#,
    );
    let ended = job.run().expect_code(0);
    assert_eq!(ended.fates().rows_in, 50_000);
    let last = ended.stdout.lines().last().expect("a batch was printed");
    let batch: serde_json::Value = serde_json::from_str(last).expect("a JSON line");
    let row = &batch["rows"][0];
    assert_eq!((&row["n"], &row["low"], &row["high"]), (&50_000.into(), &0.into(), &7.into()));
}

/// An endless generator ends with Ctrl-C, a last epoch and exit 0; SIGTERM does the same.
#[test]
fn an_endless_job_ends_when_told() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let job = Job::new(
            r#"name = "endless"

[source.sensors]
type = "generate"
suite = "sensors"
rows_per_second = 20000
watermark = { column = "ts", delay = "1s" }

[query]
sql = """
SELECT window.start, count(*) AS n FROM sensors GROUP BY window(ts, '1 second')
"""

[sink.out]
type = "console"
style = "json"

[checkpoint]
interval = "100ms"
"#,
        );
        let mut running = job.start();
        running.wait_until("a window", |running| running.stdout().contains("2024-05-01T00:00:0"));
        running.signal(signal);
        running.end().expect_code(0);
    }
}
