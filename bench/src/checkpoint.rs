//! What do checkpoints cost while a job runs, and how soon is it back when it was killed?
//!
//! Counts and sums of a million groups over a file, with and without `[checkpoint]`, in turns; then
//! the start from states of growing size; then SIGKILL, and the time to the first new output. Every
//! run's answer is compared with the rows' rule. Nothing here stands for a power cut: the disk is the
//! machine's, and what was killed finds its files in the page cache.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::data::Scratch;
use crate::error::Error;
use crate::groups::Groups;
use crate::{Options, child, record};

/// Groups of the run that is measured with and without checkpoints, at most.
const GROUPS: u64 = 1_000_000;
/// And of the states that a start goes on from, the largest also from a SIGKILL.
const STATES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Rows of an epoch between kills.
const EPOCH_ROWS: u64 = 50_000;
/// A row of this many groups leaves.
const LEAVING: u64 = 97;

const SUMS: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM rows GROUP BY k";
const FILES: &str = "[sink.out]\ntype = \"file\"\npath = \"out\"\nformat = \"csv\"\n";
const LINES: &str = "[sink.out]\ntype = \"console\"\nstyle = \"json\"\n";
const KEPT: &str = "\n[checkpoint]\npath = \"state\"\n";

/// Answers all three questions, writes the figures to `out` and, where asked for, a record.
///
/// Errors: `Usage` for fewer rows than the least state has; `Wrong` for an answer that is not right;
/// `Io`; those of the program.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    if options.rows < STATES[0] {
        return Err(Error::Usage(format!("at least {} rows", STATES[0])));
    }
    let scratch = Scratch::new(&options.dir)?;
    let cost = cost(options, &scratch)?;
    let states = STATES.into_iter().filter(|&groups| groups <= options.rows);
    let starts = states.clone().map(|groups| start(options, &scratch, groups));
    let starts = starts.collect::<Result<Vec<Value>, Error>>()?;
    let kills = kills(options, &scratch, states.max().expect("the least is one of them"))?;
    let figures = json!({
        "question": "what do checkpoints cost, and how soon is a killed job back?",
        "rounds": options.rounds, "cost": cost, "start": starts, "kill": kills,
    });
    let text = serde_json::to_string_pretty(&figures).expect("figures are plain data");
    writeln!(out, "{text}").map_err(|error| Error::io("cannot print the figures", error))?;
    let Some(dir) = &options.record else { return Ok(()) };
    let path = record::keep("checkpoint", figures, dir)?;
    eprintln!("recorded in {}", path.display());
    Ok(())
}

/// The same run with and without checkpoints, in turns.
fn cost(options: &Options, scratch: &Scratch) -> Result<Value, Error> {
    let groups = power_of_ten_up_to(options.rows.min(GROUPS));
    let data = Groups { rows: options.rows / groups * groups, groups };
    let file = data.file(&options.dir)?;
    let (mut on, mut off) = (Vec::new(), Vec::new());
    let (mut epochs, mut files) = (0, Written::default());
    for round in 1..=options.rounds {
        eprintln!("with and without checkpoints, round {round} of {}", options.rounds);
        for (kept, runs) in [(KEPT, &mut on), ("", &mut off)] {
            let dir = scratch.empty("groups")?;
            let job = Groups::job(&file, true, SUMS, "");
            let job = format!("{job}mode = \"append\"\ntrigger = \"1s\"\n{FILES}{kept}");
            let ended = child::pelton(&options.program, &job, &dir, data.rows)?;
            data.check(&dir.join("out"), groups)?;
            runs.push((ended.seconds, ended.cpu_seconds));
            if !kept.is_empty() {
                epochs = ended.stderr.lines().filter(|line| line.starts_with('{')).count();
                files = written(&dir.join("state"))?;
            }
        }
    }
    let least = |runs: &[(f64, f64)]| {
        runs.iter().fold((f64::MAX, f64::MAX), |a, b| (a.0.min(b.0), a.1.min(b.1)))
    };
    let (best_on, best_off) = (least(&on), least(&off));
    Ok(json!({
        "rows": data.rows, "groups": groups, "epochs": epochs,
        "seconds_on": on.iter().map(|run| run.0).collect::<Vec<_>>(),
        "seconds_off": off.iter().map(|run| run.0).collect::<Vec<_>>(),
        "cpu_seconds_on": on.iter().map(|run| run.1).collect::<Vec<_>>(),
        "cpu_seconds_off": off.iter().map(|run| run.1).collect::<Vec<_>>(),
        "overhead_percent_of_the_best": (best_on.0 / best_off.0 - 1.0) * 100.0,
        "cpu_overhead_percent_of_the_best": (best_on.1 / best_off.1 - 1.0) * 100.0,
        "bytes_per_changed_group": files.bytes as f64 / files.rows.max(1) as f64,
    }))
}

fn power_of_ten_up_to(most: u64) -> u64 {
    10u64.pow(most.max(1).ilog10())
}

#[derive(Default)]
struct Written {
    bytes: u64,
    rows: u64,
}

/// The state files that the newest manifest names, as epochs wrote them.
fn written(state: &Path) -> Result<Written, Error> {
    let failed = |error| Error::io(format!("cannot read {}", state.display()), error);
    let mut manifests = Vec::new();
    for entry in fs::read_dir(state).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("manifest-")) {
            manifests.push(path);
        }
    }
    let newest = manifests.iter().max();
    let newest = newest.ok_or_else(|| Error::Wrong("there is no manifest".into()))?;
    let text = fs::read_to_string(newest).map_err(failed)?;
    let manifest: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
        .map_err(|error| Error::Wrong(format!("{}: {error}", newest.display())))?;
    let mut written = Written::default();
    for file in manifest["files"].as_array().into_iter().flatten() {
        written.bytes += file["length"].as_u64().unwrap_or(0);
        written.rows += file["rows"].as_u64().unwrap_or(0);
    }
    Ok(written)
}

/// Lets a job take in a state of `groups` groups; it goes on with files that come to `in`.
fn fill(
    options: &Options,
    dir: &Path,
    data: Groups,
    more: &str,
) -> Result<(String, child::Finished), Error> {
    let into = dir.join("in");
    let file = data.file(&options.dir)?;
    fs::create_dir_all(&into)
        .and_then(|()| fs::copy(file, into.join("1.csv")))
        .map_err(|error| Error::io(format!("cannot fill {}", into.display()), error))?;
    // Of the keys alone the condition would be asked below the aggregate, and the others not be held.
    let sql = format!("{SUMS} HAVING if(count(*) > 1, k, 1) % {LEAVING} = 0");
    let job = |rest: &str| {
        let job = Groups::job(Path::new("in/*.csv"), false, &sql, "");
        format!("{job}mode = \"update\"\n{rest}{LINES}{KEPT}")
    };
    let resting = job("trigger = \"available-now\"\n");
    let filled = child::pelton(&options.program, &resting, dir, data.rows)?;
    let held = state_of(&filled)["numRowsTotal"].as_u64();
    if held != Some(data.groups) {
        return Err(Error::Wrong(format!("the state holds {held:?} of {} groups", data.groups)));
    }
    let job = if more.is_empty() { resting } else { job("") + more };
    Ok((job, filled))
}

/// A run that finds a state of `groups` groups and nothing to read.
fn start(options: &Options, scratch: &Scratch, groups: u64) -> Result<Value, Error> {
    eprintln!("starting with {groups} groups");
    let dir = scratch.empty("start")?;
    let (job, filled) = fill(options, &dir, Groups { rows: groups, groups }, "")?;
    let mut seconds = Vec::new();
    for _ in 0..options.rounds {
        let again = child::pelton(&options.program, &job, &dir, 0)?;
        if !again.stderr.contains("going on after epoch") {
            return Err(Error::Wrong("the second run did not find the state".into()));
        }
        seconds.push(again.seconds);
    }
    let files = fs::read_dir(dir.join("state"))
        .and_then(|entries| {
            entries.map(|entry| Ok(entry?.metadata()?.len())).sum::<std::io::Result<u64>>()
        })
        .map_err(|error| Error::io("cannot look at the state", error))?;
    Ok(json!({
        "groups": groups, "bytes_in_memory": state_of(&filled)["memoryUsedBytes"], "bytes_of_files": files,
        "seconds": seconds,
    }))
}

/// What the last epoch said of its state.
fn state_of(run: &child::Finished) -> Value {
    let last = run.stderr.lines().rev().find(|line| line.starts_with('{'));
    let last = last.and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
    last["stateOperators"][0].clone()
}

/// SIGKILL in the middle of epochs, and the time from there to the first line of the next start.
fn kills(options: &Options, scratch: &Scratch, groups: u64) -> Result<Value, Error> {
    let dir = scratch.empty("kill")?;
    let more = format!("max_rows_per_epoch = {EPOCH_ROWS}\n");
    let data = Groups { rows: groups, groups };
    let (job, filled) = fill(options, &dir, data, &more)?;
    let first_epoch = epochs_of(&filled);
    let (file, into) = (dir.join("job.toml"), dir.join("in/2.csv"));
    fs::write(&file, job)
        .and_then(|()| fs::copy(dir.join("in/1.csv"), into))
        .map_err(|error| Error::io("cannot write the job", error))?;
    // More rows than all rounds together read, or the last would wait for nothing: a round reads two epochs
    // and what comes until it is killed.
    let rounds = (options.rounds as u64 * 7).min(groups / EPOCH_ROWS / 8);
    let (mut seconds, mut killed_at) = (Vec::new(), None::<Instant>);
    for round in 0..=rounds {
        let mut child = Command::new(&options.program)
            .args(["run", "job.toml"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::io("cannot run the program", error))?;
        let mut lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        // Once more after the first: the kill is to land within an epoch, not at its end.
        for place in 0..2 {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            if let (0, Some(at)) = (place, killed_at.take()) {
                seconds.push(at.elapsed().as_secs_f64());
            }
            if let Err(fault) = check_line(data, first_epoch, &line) {
                let _ = child.kill();
                return Err(Error::Wrong(format!("after kill {round}: {fault}")));
            }
        }
        std::thread::sleep(Duration::from_millis(round * 13 % 40));
        killed_at = Some(Instant::now());
        child.kill().map_err(|error| Error::io("cannot kill the program", error))?;
        child.wait().map_err(|error| Error::io("cannot wait for a child", error))?;
    }
    seconds.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let last = seconds.len().saturating_sub(1);
        seconds.get((last as f64 * part).round() as usize).copied()
    };
    Ok(json!({
        "groups": groups, "bytes_in_memory": state_of(&filled)["memoryUsedBytes"], "kills": seconds.len(),
        "seconds_p50": at(0.5), "seconds_p99": at(0.99), "seconds": seconds,
    }))
}

fn epochs_of(run: &child::Finished) -> u64 {
    run.stderr.lines().filter(|line| line.starts_with('{')).count() as u64
}

/// One line of the console: an epoch's number and its rows, each right by the rows read until then.
fn check_line(data: Groups, first_epoch: u64, line: &str) -> Result<(), String> {
    let found: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line:?}"))?;
    let epoch = found["batch"].as_u64().filter(|&epoch| epoch >= first_epoch);
    let epoch = epoch.ok_or_else(|| format!("no new epoch: {line}"))?;
    let rows = (epoch - first_epoch + 1) * EPOCH_ROWS;
    let leaving = found["rows"].as_array().ok_or_else(|| format!("no rows: {line}"))?;
    for row in leaving {
        let key = row["k"].as_u64().ok_or_else(|| format!("no key: {row}"))?;
        let all = Groups { rows: 2 * data.rows, ..data };
        let right = all.answer(key, data.rows + rows);
        if right != row["n"].as_u64().zip(row["s"].as_u64()) {
            return Err(format!("epoch {epoch}: found {row}, right is {right:?}"));
        }
    }
    let expected = (data.rows + rows - EPOCH_ROWS..data.rows + rows)
        .filter(|&row| data.key(row).is_multiple_of(LEAVING))
        .count();
    if leaving.len() != expected {
        return Err(format!("epoch {epoch}: {} rows, right are {expected}", leaving.len()));
    }
    Ok(())
}
