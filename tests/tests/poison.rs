//! A stream that is all poison (F08): every row is refused, and under each policy the program ends as
//! it says, loses no row and holds a part of them at a time.

use std::fmt::Write;

use pelton_tests::program::{Ended, Job};

/// About 22 MB. Their dead letters held together, and once more as rows, take more than 400 MiB.
const ROWS: u64 = 800_000;
/// What is held is a range on each core, those before it on their way into the epoch, and those on their
/// way out of the one before: 275 MiB were measured for 44 MB and for 88 MB of poison alike.
const MEMORY_MAX: u64 = 320 << 20;

fn job(on_error: &str, trigger: &str) -> Job {
    let letters = match on_error {
        "dead_letter" => {
            "[sink.letters]\ntype = \"file\"\nof = \"dead_letters\"\npath = \"letters\"\nformat = \"json\""
        }
        _ => "",
    };
    let job = Job::new(&format!(
        r#"name = "poison"

[source.rows]
type = "file"
path = "rows.csv"
format = "csv"
schema = "id INT, at TIMESTAMP, value DOUBLE"
on_error = "{on_error}"

[query]
sql = "SELECT id, at, value FROM rows"
trigger = "{trigger}"

[sink.out]
type = "file"
path = "out"
format = "csv"

{letters}

[checkpoint]
path = "state"
"#
    ));
    let mut rows = String::new();
    for row in 0..ROWS {
        writeln!(rows, "no{row},yesterday,1.2.{}", row % 10).expect("memory takes text");
    }
    job.write("rows.csv", rows);
    job
}

/// Runs to the end; the most memory that the program held is asked of the system meanwhile.
fn run(job: &Job) -> (Ended, u64) {
    let mut running = job.start();
    let mut peak = 0;
    running.wait_until("its end", |running| {
        peak = peak.max(running.memory("VmHWM:").unwrap_or(0));
        running.memory("VmHWM:").is_none()
    });
    (running.end(), peak)
}

/// Lines of all files of an output, in the order of their names.
fn lines(job: &Job, folder: &str) -> Vec<String> {
    let mut names: Vec<_> = match std::fs::read_dir(job.path(folder)) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
        Err(_) => return Vec::new(),
    };
    names.retain(|path| path.is_file());
    names.sort();
    let text = |path| std::fs::read_to_string(path).expect("an output is text");
    names
        .into_iter()
        .flat_map(|path| text(path).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn f08_every_row_of_poison_becomes_a_dead_letter_in_bounded_memory() {
    for trigger in ["default", "once"] {
        let job = job("dead_letter", trigger);
        let (ended, peak) = run(&job);
        let fates = ended.expect_code(0).fates();
        assert_eq!((fates.rows_in, fates.rejected, fates.applied), (ROWS, ROWS, 0), "{trigger}");
        let letters = lines(&job, "letters");
        assert_eq!(letters.len() as u64, ROWS, "{trigger}");
        for (row, letter) in letters.iter().enumerate().step_by(9_973) {
            let letter: serde_json::Value = serde_json::from_str(letter).expect("a line of JSON");
            assert_eq!(letter["raw"], format!("no{row},yesterday,1.2.{}", row % 10), "{trigger}");
            assert_eq!(
                (letter["line"].as_u64(), &letter["column"]),
                (Some(row as u64 + 1), &"id".into())
            );
        }
        assert!(peak < MEMORY_MAX, "{trigger}: {} MiB", peak >> 20);
    }
}

#[test]
fn f08_poison_is_skipped_and_counted() {
    let job = job("skip", "once");
    let (ended, peak) = run(&job);
    let fates = ended.expect_code(0).fates();
    assert_eq!((fates.rows_in, fates.rejected, fates.applied), (ROWS, ROWS, 0));
    assert_eq!((lines(&job, "out").len(), lines(&job, "letters").len()), (0, 0));
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}

#[test]
fn f08_poison_becomes_nulls() {
    let job = job("null", "once");
    let (ended, peak) = run(&job);
    let fates = ended.expect_code(0).fates();
    assert_eq!((fates.rows_in, fates.rejected, fates.applied), (ROWS, 0, ROWS));
    let rows = lines(&job, "out");
    assert_eq!((rows.len() as u64, &*rows[1]), (ROWS + 1, ",,"), "behind the header");
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}

#[test]
fn f08_the_first_row_of_poison_fails_the_job_and_nothing_is_committed() {
    let job = job("fail", "default");
    let (ended, peak) = run(&job);
    let ended = ended.expect_code(1);
    let ended = ended.expect_said(&[
        "rows.csv: line 1, column \"id\"",
        "on_error = \"fail\" stops the job here",
    ]);
    assert_eq!((ended.progress().len(), lines(&job, "out").len()), (0, 0));
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}
