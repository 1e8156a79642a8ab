//! A case run by the real program, and every epoch held against Spark's batch.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Arrival, Batch, Case, compare, csv, json};
use crate::program::{Ended, Job};

/// Why the program does not do what Spark did; none where it does.
pub fn check(case: &Case) -> Result<(), String> {
    match (case.refused(), case.failed_at()) {
        (Some(reason), _) => refusal(case, reason),
        (None, Some(batch)) => failure(case, batch),
        (None, None) => batches(case, &case.batches(), "dead_letter").map(drop),
    }
}

/// `check` says no, with Spark's reason.
fn refusal(case: &Case, reason: &str) -> Result<(), String> {
    let job = Job::new(&case.job("dead_letter"));
    place_files(case, &job, &[]);
    let ended = job.start_with(&["check", "job.toml"]).end();
    match ended.status.code() {
        Some(78) if compare::is_reason(reason, &ended.stderr) => Ok(()),
        Some(78) => Err(format!("refused for another reason than {reason}\n{}", ended.stderr)),
        _ => Err(format!("not refused: {reason}")),
    }
}

/// Spark's query stops at a row. `on_error = "fail"` stops there, too, and nothing of the batch
/// leaves; else the row alone is rejected. An aggregate that leaves its type stops in any case.
fn failure(case: &Case, at: u64) -> Result<(), String> {
    let job = batches(case, &case.batches(), "fail")?;
    let stopped = job.next(&job_files(case, at))?;
    if stopped.status.code() != Some(1) || !stopped.stdout.is_empty() {
        return Err(format!("batch {at} does not stop the job: {stopped:?}"));
    }
    let job = batches(case, &case.batches(), "skip")?;
    let went_on = job.next(&job_files(case, at))?;
    match went_on.status.code() {
        Some(0) if went_on.fates().rejected > 0 => Ok(()),
        Some(1) if stopped.stderr == went_on.stderr => Ok(()),
        _ => Err(format!("batch {at} neither rejects a row nor stops: {went_on:?}")),
    }
}

fn job_files(case: &Case, at: u64) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(case.dir.join("in"))
        .expect("a case that runs has input")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort_unstable();
    vec![format!("in/{}", names.swap_remove(at as usize))]
}

/// A case's job on its way, file by file.
struct OnItsWay<'a> {
    case: &'a Case,
    job: Job,
}

impl OnItsWay<'_> {
    /// The files come, and the job runs until it is at rest.
    fn next(&self, files: &[String]) -> Result<Ended, String> {
        place_files(self.case, &self.job, files);
        Ok(self.job.run())
    }
}

fn place_files(case: &Case, job: &Job, files: &[String]) {
    for folder in ["in", "other"] {
        std::fs::create_dir_all(job.path(folder)).expect("a directory can be made");
    }
    let table = case.dir.join("static.csv");
    if table.is_file() {
        job.write("static.csv", std::fs::read(table).expect("it can be read"));
    }
    for name in files {
        let bytes = std::fs::read(case.dir.join(name)).expect("a batch has its file");
        job.write(name, bytes);
    }
}

/// Runs the batches and compares each; the job as it stands then.
fn batches<'a>(case: &'a Case, batches: &[Batch], on_error: &str) -> Result<OnItsWay<'a>, String> {
    let way = OnItsWay { case, job: Job::new(&case.job(on_error)) };
    let mut printed = String::new();
    // A run takes the files that come together, and ends with the batches up to the next ones.
    let brings = |batch: &Batch| batch.files().next().is_some();
    let starts_run = |batch: &Batch| case.arrival() == Arrival::Each && brings(batch);
    let mut rest = batches;
    while !rest.is_empty() {
        let next = rest.iter().skip(1).position(starts_run).map_or(rest.len(), |at| at + 1);
        let (of_run, after) = rest.split_at(next);
        rest = after;
        let files: Vec<String> = of_run.iter().flat_map(Batch::files).collect();
        let ended = way.next(&files)?;
        if ended.status.code() != Some(0) {
            return Err(format!("ended with {:?}\n{}", ended.status.code(), ended.stderr));
        }
        printed.push_str(&ended.stdout);
        progress(of_run, &ended)?;
        if case.console().is_none() {
            rows(case, of_run, &ended.stdout)?;
        }
    }
    match case.console() {
        Some(expected) if expected != printed => {
            Err(format!("expected\n{expected}\nfound\n{printed}"))
        }
        _ => Ok(way),
    }
}

/// What the program says of its epochs.
fn progress(batches: &[Batch], ended: &Ended) -> Result<(), String> {
    let epochs = ended.progress();
    let numbers = |epochs: &[Value]| {
        epochs.iter().filter_map(|epoch| epoch["batchId"].as_u64()).collect::<Vec<_>>()
    };
    let expected: Vec<u64> = batches.iter().map(|batch| batch.id).collect();
    if numbers(&epochs) != expected {
        return Err(format!("expected the batches {expected:?}, found {:?}", numbers(&epochs)));
    }
    let mut faults = String::new();
    for (batch, epoch) in batches.iter().zip(&epochs) {
        let mut same = |what: &str, expected: String, found: String| {
            if expected != found {
                _ = write!(faults, "\n    batch {}: {what} {found}, expected {expected}", batch.id);
            }
        };
        same("input rows", batch.input_rows.to_string(), epoch["numInputRows"].to_string());
        if let Some(watermark) = &batch.watermark {
            let found = epoch["eventTime"]["watermark"].as_str().unwrap_or("none");
            same("watermark", watermark.clone(), found.to_string());
        }
        // Spark counts groups, we count input rows: only none is none.
        let counters = &epoch["counters"];
        let late =
            counters["late"].as_u64().unwrap_or(0) + counters["lateWindows"].as_u64().unwrap_or(0);
        same("any late", (batch.late > 0).to_string(), (late > 0).to_string());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn rows(case: &Case, batches: &[Batch], printed: &str) -> Result<(), String> {
    let columns = case.columns();
    let mut faults = String::new();
    let lines: Vec<_> = printed.lines().map(json::line).collect();
    if lines.len() != batches.len() {
        return Err(format!("{} lines for {} batches:\n{printed}", lines.len(), batches.len()));
    }
    for (batch, (number, objects)) in batches.iter().zip(lines) {
        assert_eq!(number, batch.id, "the console numbers epochs as the progress does");
        let text = case.output(batch.id);
        let expected = csv::rows(&text);
        let expected = expected[1..].iter().map(|row| compare::expected(&columns, row)).collect();
        let found: Result<Vec<_>, _> =
            objects.iter().map(|row| compare::found(&columns, row)).collect();
        let approx = case.approx();
        let fault = match found {
            Ok(found) => compare::difference(&columns, &approx, case.is_ordered(), expected, found),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            _ = write!(faults, "\n    batch {number}: {fault}");
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
