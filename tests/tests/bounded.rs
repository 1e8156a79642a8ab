//! State that the watermark bounds: sessions and deduplication over many rows at a constant size.
//!
//! The short form runs always. The long one, 10^8 rows, is
//! `PELTON_ROWS=100000000 cargo test --release --test bounded -- --nocapture`; what it printed is kept
//! in `bench/records`.

use std::time::Instant;

use pelton_tests::program::Job;

/// The generator makes a row a millisecond, so this is ten minutes of events.
const ROWS: u64 = 600_000;

fn rows() -> u64 {
    std::env::var("PELTON_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROWS)
}

/// Runs a query over generated rows; the most groups that an epoch left in the state, and the peak of
/// the process's memory in MiB.
fn run(name: &str, source: &str, sql: &str) -> (u64, u64) {
    let rows = rows();
    let job = Job::new(&format!(
        r#"name = "{name}"

[source.sensors]
type = "generate"
suite = "sensors"
rows = {rows}
watermark = {{ column = "ts", delay = "10s" }}
{source}

[query]
sql = "{sql}"

[sink.out]
type = "file"
path = "out"

[checkpoint]
path = "state"
"#
    ));
    let began = Instant::now();
    let mut running = job.start();
    let mut memory = 0;
    while running.is_running() {
        memory = memory.max(running.memory_peak().unwrap_or(0) >> 20);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ended = running.end().expect_code(0);
    let epochs = ended.progress();
    let held = |epoch: &serde_json::Value| -> u64 {
        let operators = epoch["stateOperators"].as_array().into_iter().flatten();
        operators.filter_map(|operator| operator["numRowsTotal"].as_u64()).sum()
    };
    // The last epoch closes everything: the others say what was held.
    let most = epochs.iter().map(held).max().unwrap_or(0);
    assert_eq!(ended.fates().rows_in, rows);
    let (count, seconds) = (epochs.len(), began.elapsed().as_secs_f64());
    println!(
        "{name}: {rows} rows, {count} epochs, at most {most} groups and {memory} MiB, {seconds:.1} s"
    );
    (most, memory)
}

#[test]
fn sessions_are_held_until_the_watermark_passed_them_and_no_longer() {
    let sql = "SELECT session_window.start, session_window.end, device, count(*) AS n FROM sensors \
               GROUP BY session_window(ts, '500 milliseconds'), device";
    let (most, memory) = run("sessions", "", sql);
    // A thousand devices, each with some open sessions within the delay and an epoch's rows.
    assert!(most < 200_000, "{most} sessions are held");
    assert!(memory < 1_024, "{memory} MiB");
}

#[test]
fn keys_of_deduplication_are_held_until_the_watermark_passed_them_and_no_longer() {
    let dedup = "dedup = { columns = [\"ts\", \"device\"] }";
    let sql = "SELECT ts, device FROM sensors WHERE status < 0";
    let (most, memory) = run("deduplication", dedup, sql);
    assert!(most < 200_000, "{most} keys are held");
    assert!(memory < 1_024, "{memory} MiB");
}
