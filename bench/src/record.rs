//! The figures, as a table for the terminal and as a dated record to keep.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::error::Error;
use crate::{Figures, Options, Outcome};

pub fn table(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let Outcome { suite, rows, bytes, threads, result_rows, figures } = outcome;
    let rounds = figures[0].seconds.len();
    writeln!(
        out,
        "{}: {} rows, {:.1} MB, {threads} threads, median of {rounds} rounds (least to most)",
        suite.name(),
        grouped(*rows),
        *bytes as f64 / 1e6
    )?;
    writeln!(
        out,
        "{:<16} {:>8} {:>15} {:>10} {:>9} {:>9}",
        "", "MB/s", "", "M rows/s", "seconds", "peak RSS"
    )?;
    for figures in figures {
        let (least, median, most) = figures.spread();
        let rate = |seconds: f64| *bytes as f64 / 1e6 / seconds;
        writeln!(
            out,
            "{:<16} {:>8.0} {:>15} {:>10.2} {:>9.3} {:>9}",
            format!("{} {}", figures.engine, figures.version).trim_end(),
            rate(median),
            format!("({:.0} to {:.0})", rate(most), rate(least)),
            *rows as f64 / 1e6 / median,
            median,
            format!("{:.0} MB", figures.peak_rss_bytes as f64 / 1e6),
        )?;
    }
    if let Some((peer, ratio)) = against_fastest(figures) {
        writeln!(out, "pelton runs at {ratio:.2} times the rate of the faster peer, {peer}")?;
    }
    writeln!(
        out,
        "answer: {} rows, each equal to an independent computation",
        grouped(*result_rows)
    )
}

/// The fastest peer, and our rate over its; medians of the same rounds.
fn against_fastest(figures: &[Figures]) -> Option<(&'static str, f64)> {
    let (ours, peers) = figures.split_first()?;
    let fastest = peers.iter().min_by(|a, b| a.spread().1.total_cmp(&b.spread().1))?;
    Some((fastest.engine, fastest.spread().1 / ours.spread().1))
}

/// Writes the outcome of a suite into `dir`.
pub fn write(outcome: &Outcome, options: &Options, dir: &Path) -> Result<PathBuf, Error> {
    let engines: Vec<Value> =
        outcome.figures.iter().map(|figures| engine(figures, outcome)).collect();
    let facts = json!({
        "rows": outcome.rows,
        "bytes": outcome.bytes,
        "seed": options.seed,
        "threads": outcome.threads,
        "result_rows": outcome.result_rows,
        "engines": engines,
        "times_the_faster_peer": against_fastest(&outcome.figures).map(|(_, ratio)| rounded(ratio)),
    });
    keep(outcome.suite.name(), facts, dir)
}

/// Writes the facts of a suite, with the day, the commit and the machine.
pub fn keep(suite: &str, facts: Value, dir: &Path) -> Result<PathBuf, Error> {
    let failed = |error| Error::io(format!("cannot write a record to {}", dir.display()), error);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut record = json!({
        "date": today,
        "suite": suite,
        "commit": commit(),
        "machine": machine(),
    });
    let (Some(record), Value::Object(facts)) = (record.as_object_mut(), facts) else {
        unreachable!("facts are an object");
    };
    record.extend(facts);
    let mut text = serde_json::to_string_pretty(&record).expect("a record is plain JSON");
    text.push('\n');
    fs::create_dir_all(dir).map_err(failed)?;
    for number in 1.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = dir.join(format!("{today}-{suite}{suffix}.json"));
        match fs::File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => {
                file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
                return Ok(path);
            }
        }
    }
    unreachable!("numbers do not end")
}

fn engine(figures: &Figures, outcome: &Outcome) -> Value {
    let (_, median, _) = figures.spread();
    let seconds: Vec<f64> = figures.seconds.iter().map(|&seconds| rounded(seconds)).collect();
    json!({
        "engine": figures.engine,
        "version": figures.version,
        "seconds": seconds,
        "mb_per_s": rounded(outcome.bytes as f64 / 1e6 / median),
        "rows_per_s": (outcome.rows as f64 / median).round(),
        "peak_rss_bytes": figures.peak_rss_bytes,
    })
}

/// To a thousandth: what is behind it is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// 20000000 → `20,000,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The commit of the directory that the benchmark runs in, `+` where files were changed.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+") })
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let cpus = read("/proc/cpuinfo");
    json!({
        "cpu": field(&cpus, "model name"),
        "cpus": cpus.lines().filter(|line| line.starts_with("processor")).count(),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
