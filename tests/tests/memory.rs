//! What the program says that it holds is what the system counts, on a run whose state grows to a
//! million groups.

use std::fmt::Write;

use pelton_tests::program::Job;

/// Below a power of two: tables that have just doubled are charged whole and touched by half, which
/// alone is 10 to 15 % of the process.
const GROUPS: u64 = 1_000_000;
/// Below this much the program itself is most of it.
const ENOUGH: u64 = 96 << 20;
const APART_PERCENT: u64 = 15;

#[test]
fn the_ledger_stays_within_15_percent_of_what_the_system_counts() {
    let job = Job::new(
        r#"name = "groups"

[source.rows]
type = "file"
path = "rows.csv"
format = "csv"
schema = "id BIGINT, value DOUBLE"

[query]
sql = "SELECT id, count(*) AS n, avg(value) AS mean, max(value) AS most FROM rows GROUP BY id"
mode = "update"

[sink.out]
type = "console"
num_rows = 1
"#,
    );
    let mut rows = String::new();
    for row in 0..GROUPS {
        let id = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        writeln!(rows, "{id},{}.25", row % 1000).expect("memory takes text");
    }
    job.write("rows.csv", rows);
    let ended = job.run().expect_code(0);
    let mut compared = 0;
    for epoch in ended.progress() {
        let memory = &epoch["memory"];
        let bytes =
            |name: &str| memory[name].as_u64().unwrap_or_else(|| panic!("no {name}: {memory}"));
        let (held, counted) = (bytes("held"), bytes("rssAnon"));
        if counted < ENOUGH {
            continue;
        }
        compared += 1;
        assert!(held.abs_diff(counted) * 100 <= counted * APART_PERCENT, "{memory}");
    }
    assert!(compared >= 3, "the state never grew:\n{}", ended.stderr);
}
