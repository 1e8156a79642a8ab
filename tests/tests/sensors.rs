//! The main job, windows over sensor readings with late and broken rows, against the naive oracle:
//! for one and two threads, epochs of any size, repeated runs.

use std::time::Duration;

use pelton_bench::oracle::{self, Answer, SENSORS_HEADER};
use pelton_tests::data::{Random, Sensors};
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::output;
use pelton_tests::program::Job;

/// About five ranges of a file, so that two threads have work and guesses meet their carry.
const ROWS: u64 = 400_000;

fn faulty(seed: u64, rows: u64) -> Sensors {
    Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(seed, rows) }
}

fn job(text: &str, settings: jobs::Sensors) -> Job {
    let job = Job::new(&settings.toml());
    job.write("data.csv", text);
    job
}

/// Runs the job and compares rows, counters and dead letters; returns the number of output files.
fn check(text: &str, malformed: &[u64], answer: &Answer, settings: jobs::Sensors) -> usize {
    let job = job(text, settings);
    let ended = job.run().expect_code(0);
    assert_eq!(ended.fates(), answer.fates);
    assert_same(&output::rows(&job.path("out"), SENSORS_HEADER), &answer.lines());
    assert_eq!(dead_lines(&job), malformed);
    output::files(&job.path("out"))
}

/// As `assert_eq`, without printing some thousand rows.
fn assert_same(found: &[String], expected: &[String]) {
    let differing = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(at) = differing {
        panic!("row {at}: found {:?}, expected {:?}", found[at], expected[at]);
    }
    assert_eq!(found.len(), expected.len());
}

/// The lines of the dead letters that were published, in order.
fn dead_lines(job: &Job) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(job.path("state/dead_letters")) else { return Vec::new() };
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.expect("a directory can be read").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).expect("dead letters are text");
            for letter in text.lines() {
                let letter: serde_json::Value = serde_json::from_str(letter).expect("JSON lines");
                lines.push(letter["line"].as_u64().expect("a file's row has a line"));
            }
        }
    }
    lines.sort_unstable();
    lines
}

#[test]
fn any_threads_and_epochs_give_the_oracles_rows() {
    let (text, malformed) = faulty(1, ROWS).make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    assert!(answer.fates.late > 1_000 && answer.fates.rejected > 100, "{:?}", answer.fates);
    let two = jobs::two_cores();
    if two.is_none() {
        pelton_tests::skip("any_threads_and_epochs_give_the_oracles_rows (two threads)", "one CPU");
    }
    for cores in [Some("0"), two].into_iter().flatten() {
        for (max_epoch_bytes, least_files) in [("1GiB", 1), ("9MiB", 2), ("1MiB", 4)] {
            let settings = jobs::Sensors { cores, max_epoch_bytes, ..Default::default() };
            let files = check(&text, &malformed, &answer, settings);
            assert!(files >= least_files, "{files} files for epochs of {max_epoch_bytes}");
        }
    }
}

#[test]
fn repeated_runs_give_the_same_bytes() {
    let (text, _) = faulty(2, 200_000).make();
    let cores = jobs::two_cores().unwrap_or("0");
    let run = || {
        let job = job(&text, jobs::Sensors { cores, ..Default::default() });
        job.run().expect_code(0);
        output::rows(&job.path("out"), SENSORS_HEADER)
    };
    let first = run();
    for _ in 0..3 {
        assert_same(&run(), &first);
    }
}

/// Times that run backwards over a range's border make each guess ("no row before me makes mine
/// late") wrong: everything is read again, and the answer stays.
#[test]
fn ranges_whose_guess_fails_are_repaired() {
    let rows = 300_000u64;
    let mut text = String::new();
    for row in 0..rows {
        // Each eighth of the file starts an hour before the last one ended.
        let eighth = row / (rows / 8);
        let time = 1_714_521_600_000 + row * 100 - eighth * 3_600_000;
        text += &format!("{time},dev-{:03},north,{}.5,50.25,1\n", row % 50, row % 40);
    }
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    assert!(answer.fates.late > rows / 2, "{:?}", answer.fates);
    for cores in [Some("0"), jobs::two_cores()].into_iter().flatten() {
        check(&text, &[], &answer, jobs::Sensors { cores, ..Default::default() });
    }
}

/// Quoted line feeds everywhere: a range cannot tell by itself whether it starts inside quotes.
#[test]
fn quoted_line_feeds_cross_range_borders() {
    let mut text = String::new();
    let mut plain = String::new();
    for row in 0..150_000u64 {
        let time = 1_714_521_600_000 + row * 10;
        let device = format!("dev-{:03}", row % 100);
        let values = format!("{}.25,{}.5,{}", row % 30, row % 90, row % 8);
        text += &format!("{time},{device},\"a region\n\"\"of, two\"\" lines, {row}\",{values}\n");
        plain += &format!("{time},{device},region,{values}\n");
    }
    let answer = oracle::sensors(plain.as_bytes(), DELAY_MS);
    for cores in [Some("0"), jobs::two_cores()].into_iter().flatten() {
        check(&text, &[], &answer, jobs::Sensors { cores, ..Default::default() });
    }
}

/// SIGKILL at random times, as often as it takes; each start goes on from the checkpoint. Rows, late
/// counts and dead letters are those of a run without a crash: each row once.
#[test]
fn a_killed_job_goes_on_and_loses_nothing() {
    let (text, malformed) = faulty(3, 1_200_000).make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    let cores = jobs::two_cores().unwrap_or("0");
    let mut random = Random::new(11);
    let (mut kills, mut in_between) = (0, 0);
    for _ in 0..3 {
        let job =
            job(&text, jobs::Sensors { cores, max_epoch_bytes: "2MiB", ..Default::default() });
        loop {
            let mut running = job.start();
            let before = output::files(&job.path("out"));
            // Wait for some progress of its own, so that the end is reached, then strike.
            let more = 1 + random.below(3) as usize;
            while running.is_running() && output::files(&job.path("out")) < before + more {
                std::thread::sleep(Duration::from_micros(500));
            }
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            let ended = running.kill();
            if ended.was_killed() {
                kills += 1;
                let there = output::files(&job.path("out"));
                in_between += usize::from(there > 0);
                continue;
            }
            ended.expect_code(0);
            break;
        }
        assert_same(&output::rows(&job.path("out"), SENSORS_HEADER), &answer.lines());
        assert_eq!(dead_lines(&job), malformed);
    }
    assert!(kills >= 6 && in_between >= 3, "{kills} kills, {in_between} with output: too few");
}

/// Ctrl-C commits a last epoch and leaves windows open; a restart goes on as if nothing had been.
#[test]
fn an_interrupted_job_commits_and_goes_on() {
    let (text, malformed) = faulty(4, 1_200_000).make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    let job = job(&text, jobs::Sensors { max_epoch_bytes: "2MiB", ..Default::default() });
    let mut running = job.start();
    running.wait_until("the first file", |_| output::files(&job.path("out")) > 0);
    running.interrupt();
    let first = running.end().expect_code(0).fates();
    let so_far = output::rows(&job.path("out"), SENSORS_HEADER);
    assert_same(&so_far, &answer.lines()[..so_far.len()]);
    assert!(
        so_far.len() < answer.rows.len(),
        "the interrupt came after the end: nothing was tried"
    );

    let second = job.run().expect_code(0).fates();
    assert_eq!(first.rows_in + second.rows_in, answer.fates.rows_in);
    assert_eq!(first.late + second.late, answer.fates.late);
    assert_same(&output::rows(&job.path("out"), SENSORS_HEADER), &answer.lines());
    assert_eq!(dead_lines(&job), malformed);

    // The input has ended: one more start says so and changes nothing.
    job.run().expect_code(0);
    assert_same(&output::rows(&job.path("out"), SENSORS_HEADER), &answer.lines());
}
