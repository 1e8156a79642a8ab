//! Ends of every kind: SIGTERM at any moment, twice, then SIGKILL (F60); a disk that syncs slowly
//! (F53).

use std::process::Command;
use std::time::Duration;

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::program::{self, Job, binary};
use pelton_tests::{output, skip};

#[test]
fn f60_sigterm_at_any_moment_and_twice_and_sigkill_lose_nothing() {
    let (text, _) = Sensors::new(9, 400_000).make();
    let job = Job::new(&jobs::Sensors { max_epoch_bytes: "512KiB", ..Default::default() }.toml());
    job.write("data.csv", &text);
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    let rows = || output::rows(&job.path("out"), SENSORS_HEADER);
    let (mut ends, mut early) = ([0; 3], 0);
    for round in 0..18u64 {
        let mut running = job.start();
        // Not a clock of ours: the moments spread over start, epochs and commits.
        std::thread::sleep(Duration::from_millis(7 * round));
        running.signal(libc::SIGTERM);
        if round % 3 == 1 {
            running.signal(libc::SIGTERM);
        }
        let ended = if round % 3 == 2 { running.kill() } else { running.end() };
        match ended.status.code() {
            // The first asks for a last epoch, the second ends the process at once.
            Some(0) => {
                ends[0] += 1;
                // It stopped for the signal and not because the input was at its end.
                let is_whole = job.path("out").is_dir() && rows() == answer.lines();
                early += usize::from(!is_whole);
            }
            Some(130) => ends[1] += 1,
            None => ends[2] += 1,
            other => panic!("{other:?}\n{}", ended.stderr),
        }
    }
    job.run().expect_code(0);
    assert_eq!(rows(), answer.lines(), "{ends:?}");
    assert!(ends.iter().sum::<i32>() == 18 && ends[2] > 0, "{ends:?}");
    assert!(early > 0, "no end by SIGTERM came before that of the input: {ends:?}");
}

/// Every fsync takes long: the job is slow, and nothing else.
#[test]
fn f53_a_slow_fsync_slows_the_job_and_nothing_else() {
    const TEST: &str = "f53_a_slow_fsync_slows_the_job_and_nothing_else";
    let (text, _) = Sensors::new(4, 20_000).make();
    let job = Job::new(&jobs::Sensors::default().toml());
    job.write("data.csv", &text);
    let mut command = Command::new("strace");
    let delay = "inject=fsync:delay_enter=400000";
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", delay]);
    command.arg(binary()).args(["run", "job.toml", "--progress", "json"]).current_dir(job.dir());
    if Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_err() {
        return skip(TEST, "no strace");
    }
    let ended = program::start(command).end();
    if ended.stderr.contains("ptrace") {
        return skip(TEST, "no right to trace a process");
    }
    let ended = ended.expect_code(0);
    let commits = ended.progress();
    let slowest =
        commits.iter().filter_map(|epoch| epoch["durationMs"]["walCommit"].as_u64()).max();
    assert!(slowest >= Some(800), "the commit waited for the disk: {slowest:?} ms");
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    assert_eq!(output::rows(&job.path("out"), SENSORS_HEADER), answer.lines());
}
