//! Checkpoints as an operator sees them: the commands, the state as a table, other readers, a job
//! that changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use pelton_bench::oracle;
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::program::{Ended, Job, pelton};
use pelton_tests::{python, skip};

/// Counts by device that stay in the state: the rows of a job without an end.
const COUNTS: &str = r#"name = "counts"

[source.sensors]
type = "file"
path = "data.csv"
end = false
format = "csv"
schema = "ts TIMESTAMP, device STRING, region STRING, temperature DOUBLE, humidity DOUBLE, status INT"
columns.ts = { format = "epoch_ms" }
watermark = { column = "ts", delay = "10s" }

[query]
sql = """
SELECT window.start AS start, device, count(*) AS n, sum(status) AS s, min(status) AS low
FROM sensors GROUP BY window(ts, '10 seconds'), device
"""
mode = "update"
trigger = "available-now"

[sink.out]
type = "console"
style = "json"

[checkpoint]
path = "state"
max_rows_per_epoch = 300
"#;

/// `device i % 3` at second i: windows of ten seconds.
fn rows(range: std::ops::Range<u64>) -> String {
    let row = |i: u64| {
        format!("{},dev-{},north,1.5,2.5,{}\n", 1_714_521_600_000 + i * 1_000, i % 3, i % 7)
    };
    range.map(row).collect()
}

/// What the windows that are still open hold, by hand: `start second, device, n, s, low`.
fn open_windows(rows: u64) -> Vec<String> {
    let mut groups = std::collections::BTreeMap::new();
    let watermark = (rows - 1) as i64 - 10;
    for i in 0..rows {
        let start = i / 10 * 10;
        if start as i64 + 10 > watermark {
            let group = groups.entry((start, i % 3)).or_insert((0, 0, u64::MAX));
            *group = (group.0 + 1, group.1 + i % 7, group.2.min(i % 7));
        }
    }
    groups.iter().map(|((at, dev), (n, s, low))| format!("{at} dev-{dev} {n} {s} {low}")).collect()
}

fn ran() -> Job {
    let job = Job::new(COUNTS);
    job.write("data.csv", rows(0..1_000));
    job.run().expect_code(0);
    job
}

fn state(job: &Job) -> PathBuf {
    job.path("state")
}

fn command(args: &[&str], path: &Path) -> Ended {
    let mut all = args.to_vec();
    all.insert(2, path.to_str().expect("UTF-8"));
    pelton(&all)
}

/// The cells of a printed table, a line a row, without its header.
fn cells(ended: &Ended) -> Vec<String> {
    let rows = ended.stdout.lines().filter(|line| line.starts_with('|')).skip(1);
    let line = |line: &str| {
        line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" ")
    };
    rows.map(line).collect()
}

#[test]
fn the_state_of_any_kept_epoch_is_a_table() {
    let job = ran();
    let sql = "SELECT (unix_timestamp(window_start) - 1714521600) AS at, device, n, s, low \
               FROM state ORDER BY at, device";
    let found = command(&["state", "query", sql], &state(&job)).expect_code(0);
    assert_eq!(cells(&found), open_windows(1_000), "{}", found.stdout);
    let older = command(&["state", "query", sql, "--epoch", "2"], &state(&job)).expect_code(0);
    assert_eq!(cells(&older), open_windows(900), "{}", older.stdout);
    let sum = "SELECT device, sum(n) AS n FROM state WHERE window_end > window_start GROUP BY device \
               ORDER BY device DESC LIMIT 1";
    let found = command(&["state", "query", sum], &state(&job)).expect_code(0);
    let expected = open_windows(1_000);
    let third = expected.iter().filter(|line| line.contains("dev-2"));
    let n: u64 = third.map(|l| l.split(' ').nth(2).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(cells(&found), [format!("dev-2 {n}")]);
    let told = command(&["state", "query"], &state(&job)).expect_code(0);
    for column in ["window_start TIMESTAMP", "window_end TIMESTAMP", "device STRING", "n BIGINT"] {
        assert!(told.stdout.contains(column), "{}", told.stdout);
    }
    command(&["state", "query", "SELECT nothing FROM state"], &state(&job))
        .expect_code(78)
        .expect_said(&["nothing"]);
    command(&["state", "query", sql, "--epoch", "0"], &state(&job))
        .expect_code(74)
        .expect_said(&["no whole checkpoint of epoch 0"]);
}

#[test]
fn checkpoints_are_listed_shown_verified_and_dropped() {
    let job = ran();
    let listed = command(&["checkpoint", "list"], &state(&job)).expect_code(0);
    let epochs: Vec<_> =
        listed.stdout.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(epochs, ["2", "3"], "{}", listed.stdout);
    let shown = command(&["checkpoint", "show"], &state(&job)).expect_code(0);
    let manifest: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!((manifest["epoch"].as_u64(), manifest["job"].as_str()), (Some(3), Some("counts")));
    command(&["checkpoint", "verify"], &state(&job)).expect_code(0);
    command(&["checkpoint", "drop", "--epoch", "3"], &state(&job)).expect_code(74);
    command(&["checkpoint", "drop", "--epoch", "2"], &state(&job)).expect_code(0);
    let whole = command(&["checkpoint", "verify"], &state(&job)).expect_code(0);
    assert!(whole.stdout.starts_with("1 whole"), "{}", whole.stdout);
    // It goes on from what is left.
    job.write("data.csv", rows(0..1_100));
    job.run().expect_code(0).expect_said(&["going on after epoch 3"]);
    // F51: a bit of a state file.
    let deltas = files(&state(&job), "delta-");
    let mut bytes = std::fs::read(deltas.last().expect("there are some")).expect("it was listed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(deltas.last().expect("there are some"), bytes).expect("it is ours");
    let name = deltas.last().and_then(|path| path.file_name()).and_then(|n| n.to_str());
    command(&["checkpoint", "verify"], &state(&job))
        .expect_code(74)
        .expect_said(&[name.expect("UTF-8")]);
}

fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the state's directory");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
    found.sort();
    found
}

#[test]
fn f51_f52_a_damaged_checkpoint_is_passed_over_unless_its_output_has_left() {
    // The console takes back nothing and promises nothing: the epoch before is used.
    let job = ran();
    let newest = files(&state(&job), "manifest-").pop().expect("there are two");
    let mut bytes = std::fs::read(&newest).expect("it was listed");
    bytes[40] ^= 1;
    std::fs::write(&newest, bytes).expect("it is ours");
    let ended = job.run().expect_code(0);
    let ended = ended.expect_said(&["manifest-000000000003.json is damaged", "after epoch 2"]);
    assert_eq!(ended.fates().rows_in, 100, "the rows of epoch 3 again");
    let sql = "SELECT (unix_timestamp(window_start) - 1714521600) AS at, device, n, s, low \
               FROM state ORDER BY at, device";
    let found = command(&["state", "query", sql], &state(&job)).expect_code(0);
    assert_eq!(cells(&found), open_windows(1_000));

    // Files have left with the newest epoch: nothing older may be used.
    let (text, _) = Sensors::new(3, 60_000).make();
    let toml = jobs::Sensors { max_epoch_bytes: "1MiB", ..Default::default() }.toml();
    let job = Job::new(&toml);
    job.write("data.csv", &text);
    job.run().expect_code(0);
    let newest = files(&state(&job), "manifest-").pop().expect("there are two");
    std::fs::write(&newest, b"{}").expect("it is ours");
    let before = pelton_tests::output::rows(&job.path("out"), oracle::SENSORS_HEADER);
    let refused = job.run().expect_code(74);
    refused.expect_said(&["is damaged", "does not stand there"]);
    let after = pelton_tests::output::rows(&job.path("out"), oracle::SENSORS_HEADER);
    assert_eq!(before, after, "nothing was touched");
    assert_eq!(after, oracle::sensors(text.as_bytes(), DELAY_MS).lines());
}

#[test]
fn f56_what_becomes_of_a_changed_jobs_state_is_told_before_it_runs() {
    let job = ran();
    job.write("data.csv", rows(0..1_100));
    // One aggregate less, and one that needs nothing new.
    let fewer = COUNTS.replace(", min(status) AS low", ", count(status) AS c");
    job.write("job.toml", &fewer);
    for command in ["check", "run"] {
        let refused = job.start_with(&[command, "job.toml"]).end().expect_code(78);
        refused.expect_said(&[
            "dropped     state min status",
            "kept        keys",
            "--accept-state-change",
        ]);
    }
    let told = job.start_with(&["check", "job.toml", "--accept-state-change"]).end().expect_code(0);
    assert!(told.stdout.contains("kept        state sum status"), "{}", told.stdout);
    job.start_with(&["run", "job.toml", "--accept-state-change"]).end().expect_code(0);
    let sql = "SELECT (unix_timestamp(window_start) - 1714521600) AS at, device, n, s \
               FROM state ORDER BY at, device";
    let found = command(&["state", "query", sql], &state(&job)).expect_code(0);
    let without_low = |line: &String| line.rsplit_once(' ').unwrap().0.to_owned();
    assert_eq!(cells(&found), open_windows(1_100).iter().map(without_low).collect::<Vec<_>>());
    // What has no past is refused, flag or not.
    for (from, to, said) in [
        ("sum(status)", "max(status)", "refused     state max status"),
        ("device,", "region,", "refused     keys"),
        ("\"update\"", "\"append\"", "refused     mode"),
    ] {
        let changed =
            fewer.replace(from, to).replace("'10 seconds'), device", "'10 seconds'), region");
        let changed = if from == "device," { changed } else { fewer.replace(from, to) };
        job.write("job.toml", changed);
        let refused = job.start_with(&["run", "job.toml", "--accept-state-change"]).end();
        refused.expect_code(78).expect_said(&[said]);
    }
}

#[test]
fn a_job_begins_with_another_ones_checkpoint() {
    let job = ran();
    std::fs::copy(job.path("job.toml"), job.path("second.toml")).expect("it is there");
    let second = std::fs::read_to_string(job.path("second.toml")).expect("it is there");
    job.write("second.toml", second.replace("path = \"state\"", "path = \"second\""));
    job.write("data.csv", rows(0..1_100));
    let run = ["run", "second.toml", "--progress", "json", "--from-checkpoint", "state@2"];
    let ended = job.start_with(&run).end().expect_code(0).expect_said(&["going on after epoch 2"]);
    assert_eq!(ended.fates().rows_in, 200);
    let sql = "SELECT (unix_timestamp(window_start) - 1714521600) AS at, device, n, s, low \
               FROM state ORDER BY at, device";
    let found = command(&["state", "query", sql], &job.path("second")).expect_code(0);
    assert_eq!(cells(&found), open_windows(1_100));
    job.start_with(&run).end().expect_code(78).expect_said(&["has checkpoints of its own"]);
}

/// Any Arrow reader opens every data file, whatever its compression.
#[test]
fn pyarrow_opens_every_file_of_the_state() {
    const TEST: &str = "pyarrow_opens_every_file_of_the_state";
    let Some(python) = python::with_pyarrow() else {
        return skip(TEST, "no Python with pyarrow");
    };
    for compression in ["none", "lz4", "zstd"] {
        let job = Job::new(&format!("{COUNTS}compression = \"{compression}\"\n"));
        job.write("data.csv", rows(0..1_000));
        job.run().expect_code(0);
        let script = "
import sys, pyarrow as pa
rows = 0
for path in sys.argv[1:]:
    table = pa.ipc.open_file(path).read_all()
    table.validate(full=True)
    assert table.schema.metadata[b'pelton.kind'] == b'delta', table.schema.metadata
    assert 'sum status' in table.schema.names and 'device' in table.schema.names, table.schema.names
    assert set(table.column('device').to_pylist()) <= {'dev-0', 'dev-1', 'dev-2'}
    rows += table.num_rows
print(rows)
";
        let ended = Command::new(&python)
            .args(["-c", script])
            .args(files(&state(&job), "delta-"))
            .output()
            .expect("it was tried");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let shown = command(&["checkpoint", "show"], &state(&job)).expect_code(0);
        let manifest: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
        let rows: u64 =
            manifest["files"].as_array().unwrap().iter().map(|f| f["rows"].as_u64().unwrap()).sum();
        assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), rows.to_string());
    }
}

/// F57: what a version before this one wrote (`tests/data/checkpoint-format-1`) is gone on from, and
/// the answer is that of a run which never stopped.
#[test]
fn f57_a_checkpoint_of_format_1_is_gone_on_from() {
    let job = |rows: u64| {
        Job::new(&format!(
            r#"name = "generated"
cores = "0"

[source.sensors]
type = "generate"
suite = "sensors"
rows = {rows}
seed = 7
watermark = {{ column = "ts", delay = "10s" }}

[query]
sql = """
SELECT window.start AS start, region, count(*) AS n, sum(temperature) AS s, min(humidity) AS low
FROM sensors GROUP BY window(ts, '10 seconds'), region
"""
mode = "update"
trigger = "available-now"

[sink.out]
type = "console"
style = "json"

[checkpoint]
path = "state"
max_rows_per_epoch = 1000
"#
        ))
    };
    let old = job(10_000);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/checkpoint-format-1");
    for entry in std::fs::read_dir(fixture).expect("it is in the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        old.write(&format!("state/{name}"), std::fs::read(&path).expect("it was listed"));
    }
    let ended = old.run().expect_code(0).expect_said(&["going on after epoch 4"]);
    assert_eq!(ended.fates().rows_in, 5_000, "the rows that were left");
    let fresh = job(10_000);
    fresh.run().expect_code(0);
    let sql = "SELECT window_start, region, n, s, low FROM state ORDER BY window_start, region";
    let of = |job: &Job| cells(&command(&["state", "query", sql], &state(job)).expect_code(0));
    let found = of(&old);
    assert!(found.len() >= 5, "{found:?}");
    assert_eq!(found, of(&fresh));
    command(&["checkpoint", "verify"], &state(&old)).expect_code(0);
}
