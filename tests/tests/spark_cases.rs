//! Every recorded case of Spark's, by the real program, epoch by epoch.
//!
//! `data/spark-cases-open.txt` names the cases that do not pass yet: the test fails when another one
//! breaks, and when one of these starts to pass and is not taken off. `data/spark-cases-ours.txt`
//! names those in which we do something else on purpose (ARCHITECTURE.md has the reasons), and what;
//! rows that are ours lie in `data/spark-cases-ours/CASE`, as those of the case. `data/spark-zones` has
//! what Spark answers about times where clocks change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pelton_tests::cases::{Case, run};
use pelton_tests::program::Job;
use serde_json::Value;

const THREADS: usize = 2;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Lines that are neither empty nor comments.
fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(data(name)).expect("the list lies beside the tests");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_string).collect()
}

/// What does not go as Spark's, by case.
fn faults(cases: &[Case]) -> BTreeMap<String, String> {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = std::panic::catch_unwind(|| run::check(case));
                    let panicked = || Err("the check panicked, see above".to_string());
                    if let Err(fault) = checked.unwrap_or_else(|_| panicked()) {
                        let name = case.name().to_string();
                        faults.lock().expect("no checker panics").insert(name, fault);
                    }
                }
            });
        }
    });
    faults.into_inner().expect("no checker panics")
}

/// `PELTON_CASES=word` looks at the cases whose names hold the word alone, and says what they do;
/// `PELTON_CASES_IN=folder` looks at those of a folder that isn't ours, as `record.py` wrote it;
/// `PELTON_UPDATE=1` rewrites the list of open cases.
#[test]
fn every_case_of_spark_goes_as_recorded_or_is_listed() {
    let elsewhere = std::env::var_os("PELTON_CASES_IN");
    let only = std::env::var("PELTON_CASES").ok().or(elsewhere.as_ref().map(|_| String::new()));
    let [given, more] = Case::all();
    assert!(given.len() >= 152, "only {} cases", given.len());
    assert!(more.len() >= 60, "only {} more cases", more.len());
    let mut cases = [given, more].into_iter().flatten().collect::<Vec<_>>();
    if let Some(folder) = elsewhere {
        cases = Case::of(Path::new(&folder));
    }
    if let Some(only) = &only {
        cases.retain(|case| case.name().contains(only.as_str()));
    }
    let ours: BTreeSet<String> = lines("spark-cases-ours.txt")
        .iter()
        .map(|line| line.split_once(": ").expect("case: what we do").0.to_string())
        .collect();
    cases.retain(|case| !ours.contains(case.name()));
    let faults = faults(&cases);
    if only.is_some() {
        let report: Vec<_> = faults.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        assert!(report.is_empty(), "{}", report.join("\n"));
        return;
    }
    let listed = "spark-cases-open.txt";
    if std::env::var_os("PELTON_UPDATE").is_some() {
        let names: Vec<_> = faults.keys().map(|name| format!("{name}\n")).collect();
        let head = "# Cases of Spark's that do not pass yet. The list may only shrink.\n";
        std::fs::write(data(listed), head.to_string() + &names.concat())
            .expect("it can be written");
    }
    let open: BTreeSet<String> = lines(listed).into_iter().collect();
    let broken: Vec<_> = faults
        .iter()
        .filter(|(name, _)| !open.contains(*name))
        .map(|(name, why)| format!("{name} is broken: {why}"))
        .collect();
    let names: BTreeSet<String> = faults.keys().cloned().collect();
    let passing = open.difference(&names);
    let passing: Vec<_> =
        passing.map(|name| format!("{name} passes: take it off {listed}")).collect();
    let all = [broken, passing].concat();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// What we do instead, case by case.
#[test]
fn a_case_in_which_we_differ_on_purpose_does_what_we_say() {
    let mut cases: BTreeMap<String, Case> =
        Case::all().into_iter().flatten().map(|case| (case.name().to_string(), case)).collect();
    for line in lines("spark-cases-ours.txt") {
        let (name, what) = line.split_once(": ").expect("case: what we do");
        let case = cases.remove(name).unwrap_or_else(|| panic!("there is no case {name}"));
        let job = Job::new(&case.job("dead_letter"));
        let ended = job.start_with(&["check", "job.toml"]).end();
        match what.split_once(' ') {
            Some(("refused", reason)) => ended.expect_code(78).expect_said(&[reason]),
            _ if what == "accepted" => ended.expect_code(0),
            _ => panic!("{name}: {what} is no answer"),
        };
    }
}

/// What Spark answers in a zone to some expressions over some rows.
#[derive(Default)]
struct Zone {
    name: String,
    /// Two instants, a time without a zone, a date, a number.
    rows: Vec<String>,
    expressions: Vec<(String, Vec<String>)>,
}

impl Zone {
    fn all(facts: &str) -> Vec<Zone> {
        let mut zones: Vec<Zone> = Vec::new();
        for line in facts.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix("zone ") {
                zones.push(Zone { name: name.into(), ..Zone::default() });
                continue;
            }
            let zone = zones.last_mut().expect("a zone comes first");
            if let Some(row) = line.strip_prefix("row ") {
                zone.rows.push(row.replace(' ', ","));
            } else if let Some(answer) = line.strip_prefix("  ") {
                let (_, answers) = zone.expressions.last_mut().expect("an expression comes first");
                answers.push(answer.into());
            } else {
                zone.expressions.push((line.into(), Vec::new()));
            }
        }
        zones
    }

    /// Where we answer anything else.
    fn faults(&self) -> Vec<String> {
        let columns = self.expressions.iter().enumerate();
        let columns = columns.map(|(at, (of, _))| format!("CAST({of} AS STRING) AS c{at}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let job = Job::new(&format!(
            r#"name = "zones"
timezone = "{}"

[source.t]
type = "file"
path = "in.csv"
schema = "ts TIMESTAMP, ts2 TIMESTAMP, ntz TIMESTAMP_NTZ, day DATE, n INT"
columns.ts = {{ format = "epoch_us" }}
columns.ts2 = {{ format = "epoch_us" }}

[query]
sql = """SELECT {columns} FROM t"""

[sink.out]
type = "console"
style = "json"
"#,
            self.name
        ));
        job.write("in.csv", self.rows.join("\n") + "\n");
        let ended = job.run().expect_code(0);
        let epoch: Value = serde_json::from_str(ended.stdout.trim()).expect("an epoch is one line");
        let rows = epoch["rows"].as_array().expect("rows are a list");
        assert_eq!(rows.len(), self.rows.len(), "{}", self.name);
        let mut faults = Vec::new();
        for (at, (expression, answers)) in self.expressions.iter().enumerate() {
            for ((row, answer), of) in rows.iter().zip(answers).zip(&self.rows) {
                let found = row[format!("c{at}")].as_str().unwrap_or("NULL");
                if found != answer {
                    let zone = &self.name;
                    faults.push(format!("{zone} {of}: {expression}: {found}, not {answer}"));
                }
            }
        }
        faults
    }
}

/// `PELTON_ZONES=file` looks at other facts of the same form.
#[test]
fn times_are_sparks_in_zones_whose_clocks_change() {
    let path = std::env::var_os("PELTON_ZONES");
    let path = path.map_or_else(|| data("spark-zones/facts.txt"), PathBuf::from);
    let zones = Zone::all(&std::fs::read_to_string(path).expect("the facts can be read"));
    let of = |zone: &Zone| zone.rows.len() * zone.expressions.len();
    let values: usize = zones.iter().map(of).sum();
    assert!(values >= 3_000, "only {values} values");
    let faults: Vec<_> = zones.iter().flat_map(Zone::faults).collect();
    assert!(faults.is_empty(), "{} of {values}:\n{}", faults.len(), faults.join("\n"));
}
