//! SIGKILL at random times and at named places, over and over: no row is lost, none comes twice.
//!
//! `tests/kills` runs the long form and keeps its record.

use std::collections::BTreeMap;
use std::time::Duration;

use pelton_bench::record;
use pelton_tests::jobs;
use pelton_tests::kills::workload::Query;
use pelton_tests::kills::{Campaign, IN_COMMIT, Outcome};
use serde_json::json;

fn campaign(seed: u64, query: Query, two: bool, rows: u64, kills: usize, bytes: &str) -> Outcome {
    let cores = if two { jobs::two_cores().unwrap_or("0") } else { "0" };
    let campaign = Campaign {
        seed,
        query,
        cores: cores.to_owned(),
        rows,
        max_epoch_bytes: bytes.to_owned(),
        kills,
    };
    campaign.run().unwrap_or_else(|why| panic!("{} with seed {seed}: {why}", query.name()))
}

#[test]
fn f54_f60_killed_over_and_over_nothing_is_lost_and_nothing_doubled() {
    let outcomes = [
        campaign(1, Query::Tumbling, true, 400_000, 12, "256KiB"),
        campaign(2, Query::PassThrough, false, 200_000, 8, "256KiB"),
    ];
    let kills: usize = outcomes.iter().map(|outcome| outcome.kills).sum();
    eprintln!("{outcomes:#?}");
    assert!(kills >= 15, "{kills} kills are too few");
}

#[test]
#[ignore = "tests/kills runs it: minutes"]
fn the_long_campaign() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    let (seed, kills) = (number("PELTON_SEED", 1), number("PELTON_KILLS", 320));
    let rows = number("PELTON_ROWS", 10_400_000);
    let jobs = [
        (Query::Tumbling, true),
        (Query::PassThrough, true),
        (Query::Tumbling, false),
        (Query::PassThrough, false),
    ];
    let mut all = Outcome::default();
    let mut each = Vec::new();
    for (i, (query, two)) in jobs.into_iter().enumerate() {
        let share = kills.div_ceil(jobs.len() as u64) as usize;
        let outcome =
            campaign(seed + i as u64, query, two, rows / jobs.len() as u64, share, "96KiB");
        eprintln!("{} {outcome:#?}", query.name());
        each.push(json!({
            "query": query.name(),
            "threads": if two { 2 } else { 1 },
            "rows": outcome.rows,
            "result_rows": outcome.result_rows,
            "epochs": outcome.epochs,
            "kills": outcome.kills,
            "seconds": outcome.took.as_secs_f64().round(),
        }));
        add(&mut all, outcome);
    }
    let in_commit: usize = IN_COMMIT.iter().filter_map(|place| all.landed.get(*place)).sum();
    let bound = 3.0 / all.kills as f64;
    let restarts = percentiles(&mut all.restarts);
    let report = json!({
        "seed": seed,
        "rows": all.rows,
        "kills": all.kills,
        "lost": 0,
        "doubled": 0,
        "failure_rate_below_95_percent": format!("{bound:.4} (3/n)"),
        "kills_by_last_place": all.landed,
        "kills_between_barrier_and_end_of_commit": in_commit,
        "kills_before_state_was_restored": all.in_recovery,
        "stopped_and_continued": all.stops,
        "second_processes_refused": all.refused,
        "terminated": all.terminations,
        "sigkill_to_first_new_output_ms": restarts,
        "power_cuts": "simulated only: tests/simulate",
        "jobs": each,
    });
    eprintln!("{report:#}");
    assert!(all.kills as u64 >= kills, "{} kills", all.kills);
    assert!(in_commit * 2 >= all.kills, "{in_commit} of {} kills within a commit", all.kills);
    if let Some(dir) = std::env::var_os("PELTON_RECORD") {
        let path = record::keep("kills", report, dir.as_ref()).expect("a record can be written");
        eprintln!("kept as {}", path.display());
    }
}

fn add(all: &mut Outcome, one: Outcome) {
    all.rows += one.rows;
    all.result_rows += one.result_rows;
    all.epochs += one.epochs;
    all.kills += one.kills;
    all.in_recovery += one.in_recovery;
    all.stops += one.stops;
    all.terminations += one.terminations;
    all.refused += one.refused;
    all.restarts.extend(one.restarts);
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
