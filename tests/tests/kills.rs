//! SIGKILL at random times and at named places, over and over: no row is lost, none comes twice.
//!
//! `tests/kills` runs the long form, and the proof that the harness would see a bug; each keeps its
//! record.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pelton_bench::record;
use pelton_tests::jobs;
use pelton_tests::kills::workload::{Feed, Query};
use pelton_tests::kills::{Campaign, IN_COMMIT, Outcome};
use serde_json::{Value, json};

/// Kills within which a bug must show.
const KILLS_A_BUG: usize = 60;

/// Plans of strikes within which it must.
const SEEDS_A_BUG: u64 = 3;

/// Epochs are many and small.
fn campaign(seed: u64, (query, feed): (Query, Feed), rows: u64, kills: usize) -> Campaign {
    let max_epoch_bytes = "96KiB".to_owned();
    let (cores, bug) = ("0".to_owned(), None);
    Campaign { seed, query, feed, cores, rows, max_epoch_bytes, kills, faults: false, bug }
}

fn played(campaign: &Campaign) -> Outcome {
    let Campaign { seed, query, feed, .. } = campaign;
    let fail = |why| panic!("{} from {} with seed {seed}: {why}", query.name(), feed.name());
    campaign.run().unwrap_or_else(fail)
}

#[test]
fn f54_f60_killed_over_and_over_nothing_is_lost_and_nothing_doubled() {
    let two = jobs::two_cores().unwrap_or("0").to_owned();
    let tumbling = campaign(1, (Query::Tumbling, Feed::Files), 400_000, 8);
    let outcomes = [
        played(&Campaign { cores: two, ..tumbling }),
        played(&campaign(2, (Query::PassThrough, Feed::Files), 200_000, 5)),
        played(&campaign(3, (Query::Sliding, Feed::Socket), 100_000, 8)),
    ];
    let kills: usize = outcomes.iter().map(|outcome| outcome.kills).sum();
    eprintln!("{outcomes:#?}");
    assert!(kills >= 15, "{kills} kills are too few");
}

#[test]
#[ignore = "tests/kills runs it: minutes"]
fn the_long_campaign() {
    let (seed, kills) = (number("PELTON_SEED", 1), number("PELTON_KILLS", 320) as usize);
    let rows = number("PELTON_ROWS", 10_400_000);
    let feeds = [Feed::Files, Feed::Socket];
    let queries = [Query::Tumbling, Query::Session, Query::Sliding, Query::PassThrough];
    let jobs = feeds.into_iter().flat_map(|feed| queries.map(|query| (query, feed)));
    let jobs: Vec<(Query, Feed)> = jobs.collect();
    let mut all = Outcome::default();
    let mut each = Vec::new();
    for (i, &job) in jobs.iter().enumerate() {
        // What came to its input's end too early leaves its kills to those behind it.
        let share = (kills - all.kills.min(kills)).div_ceil(jobs.len() - i);
        let mut campaign = campaign(seed + i as u64, job, rows / jobs.len() as u64, share);
        campaign.faults = true;
        let two = jobs::two_cores().filter(|_| i % 2 == 0);
        campaign.cores = two.unwrap_or("0").to_owned();
        let outcome = played(&campaign);
        eprintln!("{} from {}: {outcome:#?}", job.0.name(), job.1.name());
        each.push(json!({
            "query": job.0.name(),
            "from": job.1.name(),
            "threads": if two.is_some() { 2 } else { 1 },
            "rows": outcome.rows,
            "result_rows": outcome.result_rows,
            "epochs": outcome.epochs,
            "kills": outcome.kills,
            "seconds": outcome.took.as_secs_f64().round(),
        }));
        add(&mut all, outcome);
    }
    let report = report(seed, &mut all, each);
    eprintln!("{report:#}");
    assert!(all.kills >= kills, "{} kills", all.kills);
    assert!(in_commit(&all) * 2 >= all.kills, "{} within a commit", in_commit(&all));
    keep("kills", report);
}

fn report(seed: u64, all: &mut Outcome, each: Vec<Value>) -> Value {
    let bound = 3.0 / all.kills as f64;
    let restarts = percentiles(&mut all.restarts);
    all.untried.sort();
    all.untried.dedup();
    json!({
        "question": "Does a job whose process is killed again and again lose, double or change a row of output?",
        "seed": seed,
        "rows": all.rows,
        "kills": all.kills,
        "lost": 0,
        "doubled": 0,
        "failure_rate_below_95_percent": format!("{bound:.4} (3/n)"),
        "kills_by_last_place": all.landed,
        "kills_between_barrier_and_end_of_commit": in_commit(all),
        "kills_before_state_was_restored": all.in_recovery,
        "of_these_the_second_in_a_row": all.twice_in_recovery,
        "stopped_and_continued": all.stops,
        "second_processes_refused": all.refused,
        "terminated": all.terminations,
        "full_disks": all.full_disks,
        "full_disks_after_which_it_went_on": all.went_on,
        "fsyncs_failed_with_eio": all.sync_errors,
        "logs_read_back": all.logs_read,
        "sigkill_to_first_new_output_ms": restarts,
        "sigkill_to_first_new_output_is": "noisy: correctness is the point of this run, and the machine may be at other work",
        "not_tried_here": all.untried,
        "power_cuts": "simulated only: tests/simulate",
        "jobs": each,
    })
}

/// The same harness, on builds that are broken on purpose: it is only worth what it catches.
#[test]
#[ignore = "tests/kills --bugs builds the program for it and runs it"]
fn each_seeded_bug_is_caught() {
    use Feed::{Files, Socket};
    use Query::{PassThrough, Session, Sliding, Tumbling};
    let bugs = [
        ("OffsetsBeforeOutput", (PassThrough, Files)),
        ("OutputBeforeManifest", (PassThrough, Files)),
        ("LettersBeforeManifest", (Tumbling, Files)),
        ("OffsetsBehind", (PassThrough, Files)),
        ("EvictionForgotten", (Tumbling, Files)),
        ("LastDeltaForgotten", (Tumbling, Files)),
        ("WatermarkForgotten", (Tumbling, Files)),
        ("LateUncounted", (Tumbling, Files)),
        ("NeededCollected", (Tumbling, Files)),
        ("SlideTakenForSize", (Sliding, Files)),
        ("SessionPartsForgotten", (Session, Files)),
        ("LeftoversPublished", (PassThrough, Files)),
        ("LockIgnored", (Tumbling, Files)),
        ("ReceivedBeforeLogged", (PassThrough, Socket)),
        ("LogTrimmedTooEarly", (Tumbling, Socket)),
        ("LogReplaySkipped", (Tumbling, Socket)),
        ("LogOffsetForgotten", (PassThrough, Socket)),
    ];
    let only = std::env::var("PELTON_ONLY").ok();
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for job in [(Tumbling, Files), (Tumbling, Socket)] {
        // Without a bug the same build passes.
        played(&campaign(1, job, 200_000, 6));
    }
    for (bug, job) in bugs {
        if only.as_ref().is_some_and(|only| only != bug) {
            continue;
        }
        let broken = |seed| Campaign {
            bug: Some(bug.to_owned()),
            ..campaign(seed, job, 400_000, KILLS_A_BUG)
        };
        let (query, feed) = (job.0.name(), job.1.name());
        let Some(why) = (1..=SEEDS_A_BUG).find_map(|seed| caught(&broken(seed))) else {
            eprintln!("{bug}: NOT CAUGHT, {query} from {feed}");
            missed.push(bug);
            continue;
        };
        eprintln!("{bug}: caught, {query} from {feed}: {why}");
        rows.push(json!({ "bug": bug, "query": query, "from": feed, "caught_by": why }));
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
    keep(
        "kills-seeded-bugs",
        json!({
            "question": "Is each bug that is put into the program on purpose seen by the kill harness?",
            "bugs": rows.len(),
            "caught": rows.len(),
            "kills_a_campaign_at_most": KILLS_A_BUG,
            "campaigns_a_bug_at_most": SEEDS_A_BUG,
            "without_a_bug": "the same build passes",
            "each": rows,
        }),
    );
}

/// What the harness says of a build, in a line; a panic in it is such a word, too.
fn caught(campaign: &Campaign) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| campaign.run()));
    let why = match outcome {
        Ok(Ok(_)) => return None,
        Ok(Err(why)) => why,
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    };
    // A record tells no directory of the machine that made it.
    let temporary = std::env::temp_dir().join(".tmp").display().to_string();
    let mut parts = why.split(&temporary);
    let mut line = parts.next().unwrap_or_default().to_owned();
    line.extend(parts.map(|part| part.split_once('/').map_or("", |(_, path)| path)));
    Some(line.replace('\n', " ").chars().take(400).collect())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn keep(name: &str, report: Value) {
    if let Some(dir) = std::env::var_os("PELTON_RECORD") {
        let path = record::keep(name, report, dir.as_ref()).expect("a record can be written");
        eprintln!("kept as {}", path.display());
    }
}

fn in_commit(all: &Outcome) -> usize {
    IN_COMMIT.iter().filter_map(|place| all.landed.get(*place)).sum()
}

fn add(all: &mut Outcome, one: Outcome) {
    all.rows += one.rows;
    all.result_rows += one.result_rows;
    all.epochs += one.epochs;
    all.kills += one.kills;
    all.in_recovery += one.in_recovery;
    all.twice_in_recovery += one.twice_in_recovery;
    all.stops += one.stops;
    all.terminations += one.terminations;
    all.refused += one.refused;
    all.full_disks += one.full_disks;
    all.went_on += one.went_on;
    all.sync_errors += one.sync_errors;
    all.logs_read += one.logs_read;
    all.restarts.extend(one.restarts);
    all.untried.extend(one.untried);
    for (place, count) in one.landed {
        *all.landed.entry(place).or_default() += count;
    }
}

fn percentiles(times: &mut [Duration]) -> BTreeMap<&'static str, u128> {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    BTreeMap::from([
        ("count", times.len() as u128),
        ("p50", at(50)),
        ("p99", at(99)),
        ("most", at(100)),
    ])
}
