//! Questions about event time: does eviction cost what is evicted, is state bounded by the watermark,
//! and how soon is a row out under a continuous trigger?
//!
//! Each part checks its answer first: the groups that are left, every row in exactly one session or
//! known before, each line that of its row. The parts are public, as the tests ask them the same on a
//! small scale.

pub mod bounded;
pub mod evict;
pub mod latency;

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::Error;
use crate::{data, record};
use bounded::{Bounded, Held};
use evict::Eviction;
use latency::{Latency, Query};

/// A query, where its rows come from, and whether log and checkpoint are kept.
type Way = (Query, &'static str, bool);

/// Rows that a latency is taken from.
const LATENCY_ROWS: u64 = 2_000;

/// What was found.
struct Found {
    evictions: Vec<Eviction>,
    bounded: Vec<(Held, Bounded)>,
    latencies: Vec<(Way, Latency)>,
}

/// Measures, prints a table to `out`, and records it in `record_dir`.
///
/// `rows` is the input of the jobs with bounded state; `dir` is where they run. Cost: a minute, and
/// about a second a million rows.
///
/// Errors: `Wrong` where an answer is not the right one, `Io`.
pub fn run(
    program: &Path,
    rows: u64,
    seed: u64,
    dir: &Path,
    record_dir: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let scratch = data::Scratch::new(dir)?;
    let mut latencies = Vec::new();
    for query in [Query::Stateless, Query::Windowed] {
        for durable in [false, true] {
            let way = (query, "socket", durable);
            eprintln!("latency: {}", title(way));
            let dir = scratch.empty("latency")?;
            let found = latency::measure(program, &dir, query, durable, LATENCY_ROWS)?;
            latencies.push((way, found));
            let (way, fastest) = ((query, "generator", durable), found.least);
            eprintln!("latency: {}", title(way));
            let dir = scratch.empty("latency")?;
            let measure = latency::measure_generated;
            let found = measure(program, &dir, query, durable, LATENCY_ROWS, fastest)?;
            latencies.push((way, found));
        }
    }
    let mut bounded = Vec::new();
    for held in [Held::Sessions, Held::Keys] {
        eprintln!("bounded state: {}, {rows} rows", held.name());
        let dir = scratch.empty("bounded")?;
        bounded.push((held, bounded::measure(program, &dir, held, rows, seed)?));
    }
    eprintln!("eviction");
    // Last: what this process takes itself would be counted as memory of a program started later.
    let evictions = evict::WINDOWS.into_iter().map(evict::measure).collect::<Result<_, _>>()?;
    let found = Found { evictions, bounded, latencies };
    print(&found, rows, out).map_err(|error| Error::io("cannot print the table", error))?;
    if let Some(dir) = record_dir {
        let path = record::keep("events", facts(&found, rows, seed), dir)?;
        eprintln!("recorded in {}", path.display());
    }
    Ok(())
}

fn title((query, source, durable): Way) -> String {
    let kept = if durable { "kept on disk" } else { "nothing kept" };
    format!("{source}, {}, {kept}", query.name())
}

fn print(found: &Found, rows: u64, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "an epoch that opens and evicts {} groups", evict::KEYS)?;
    for Eviction { open, milliseconds } in &found.evictions {
        writeln!(out, "{open:>14} open {milliseconds:>10.2} ms")?;
    }
    writeln!(out, "state bounded by the watermark, {rows} rows")?;
    for (held, Bounded { groups_max, rss_by_quarter, seconds, .. }) in &found.bounded {
        let rss: Vec<String> =
            rss_by_quarter.iter().map(|bytes| format!("{:.0}", *bytes as f64 / 1e6)).collect();
        writeln!(
            out,
            "{:>14} at most {groups_max} held, MB resident by quarter {}, {seconds:.1} s",
            held.name(),
            rss.join(" ")
        )?;
    }
    writeln!(out, "from a row to its line, {LATENCY_ROWS} rows, ms")?;
    for (way, Latency { least, p50, p99, p999 }) in &found.latencies {
        let title = title(*way);
        writeln!(out, "{title:>40} least {least:.3} p50 {p50:.3} p99 {p99:.3} p99.9 {p999:.3}")?;
    }
    Ok(())
}

fn facts(found: &Found, rows: u64, seed: u64) -> Value {
    let evictions: Vec<Value> = found
        .evictions
        .iter()
        .map(|e| json!({ "open_groups": e.open, "evicted": evict::KEYS, "ms": e.milliseconds }))
        .collect();
    let bounded: Vec<Value> = found
        .bounded
        .iter()
        .map(|(held, b)| {
            json!({
                "state": held.name(),
                "groups_max": b.groups_max,
                "rss_bytes_max_by_quarter": b.rss_by_quarter,
                "seconds": b.seconds,
                "epochs": b.epochs,
            })
        })
        .collect();
    let latencies: Vec<Value> = found
        .latencies
        .iter()
        .map(|((query, source, durable), l)| {
            json!({
                "query": query.name(),
                "source": source,
                "log_and_checkpoint": durable,
                "rows": LATENCY_ROWS,
                "least_ms": l.least,
                "p50_ms": l.p50,
                "p99_ms": l.p99,
                "p999_ms": l.p999,
            })
        })
        .collect();
    json!({
        "rows": rows,
        "seed": seed,
        "eviction": evictions,
        "bounded_state": bounded,
        "latency": latencies,
    })
}
