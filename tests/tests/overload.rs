//! Memory under load: more state than the limit, a slow reader, a cgroup, a long run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pelton_tests::program::{self, Job, binary};
use pelton_tests::{output, skip};

/// Every key once, and each hundredth a second time: what HAVING keeps.
const ROWS: u64 = 1_200_000;

fn keys_job(more: &str, rows: u64) -> Job {
    let job = Job::new(&format!(
        r#"name = "keys"
cores = "0"
{more}

[source.rows]
type = "file"
path = "data.csv"
format = "csv"
schema = "k BIGINT, word STRING, v INT"

[query]
sql = "SELECT k, word, count(*) AS n, sum(v) AS s FROM rows GROUP BY k, word HAVING count(*) > 1"
mode = "append"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
"#
    ));
    let mut text = String::new();
    for i in 0..rows {
        _ = writeln!(text, "{},key-{},{}", key(i), key(i), i % 10);
        if i % 100 == 0 {
            _ = writeln!(text, "{},key-{},{}", key(i / 2 / 100 * 100), key(i / 2 / 100 * 100), 3);
        }
    }
    job.write("data.csv", text);
    job
}

/// In no order, each once.
fn key(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn answer(rows: u64) -> Vec<String> {
    let mut groups: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for i in 0..rows {
        let group = groups.entry(key(i)).or_default();
        *group = (group.0 + 1, group.1 + i % 10);
        if i % 100 == 0 {
            let group = groups.entry(key(i / 2 / 100 * 100)).or_default();
            *group = (group.0 + 1, group.1 + 3);
        }
    }
    let more = groups.into_iter().filter(|(_, (n, _))| *n > 1);
    more.map(|(k, (n, s))| format!("{k},key-{k},{n},{s}")).collect()
}

fn rows(job: &Job) -> Vec<String> {
    output::rows(&job.path("out"), "k,word,n,s")
}

/// F35: the state is several times what memory may hold.
#[test]
fn f35_state_beyond_the_limit_goes_to_the_disk_and_the_answer_is_the_same() {
    let job = keys_job("memory_limit = \"48MiB\"", ROWS);
    let mut running = job.start();
    running.wait_until("spilled state", |_| {
        std::fs::read_dir(job.path("state/spill/state")).is_ok_and(|mut dir| dir.next().is_some())
    });
    // Killed with state on the disk: that is no part of any checkpoint.
    running.kill();
    let (ended, limited) = job.start().end_watched();
    ended.expect_code(0);
    assert_eq!(rows(&job), answer(ROWS));
    assert!(!job.path("state/spill").exists(), "nothing stays behind");
    let free = keys_job("", ROWS);
    let (ended, whole) = free.start().end_watched();
    ended.expect_code(0);
    assert_eq!(rows(&free), answer(ROWS));
    assert!(
        limited < whole * 3 / 5,
        "{} MiB with a limit, {} MiB without",
        limited >> 20,
        whole >> 20
    );
}

/// The last range crowds its epoch, so that is cut before the core says that nothing more comes: in
/// every other run the groups left a second time, in an epoch of their own.
#[test]
fn an_input_that_ends_as_its_last_epoch_is_cut_ends_once() {
    let job = keys_job("memory_limit = \"64MiB\"", 100_000);
    for round in 0..6 {
        for part in ["out", "state"] {
            // The first time there is none.
            _ = std::fs::remove_dir_all(job.path(part));
        }
        job.run().expect_code(0);
        assert_eq!(rows(&job), answer(100_000), "round {round}");
    }
}

/// F34: the limit of the cgroup is the default; nobody is killed for memory.
#[test]
fn f34_a_cgroup_limit_is_held() {
    const TEST: &str = "f34_a_cgroup_limit_is_held";
    let Some(group) = Group::new(160 << 20) else {
        return skip(TEST, "no right to make a cgroup with a memory limit");
    };
    let job = keys_job("", ROWS);
    let mut command = Command::new("sh");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    command.args(["-c", &enter, "sh"]).arg(binary()).args(["run", "job.toml"]);
    command.current_dir(job.dir());
    program::start(command).end().expect_code(0);
    assert_eq!(rows(&job), answer(ROWS));
}

/// A cgroup of its own; removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(memory: u64) -> Option<Group> {
        let root = Path::new("/sys/fs/cgroup");
        let second = root.join("cgroup.controllers").exists();
        let (parent, limit) = match second {
            true => (root.to_owned(), "memory.max"),
            false => (root.join("memory"), "memory.limit_in_bytes"),
        };
        let path = parent.join(format!("pelton-test-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let group = Group(path);
        // A directory that is none of the kernel's has no such file.
        let ours = group.0.join("cgroup.procs").exists() && group.0.join(limit).exists();
        std::fs::write(group.0.join(limit), memory.to_string()).ok().filter(|()| ours)?;
        if second {
            // Where there is swap it must not stand for memory.
            _ = std::fs::write(group.0.join("memory.swap.max"), "0");
        }
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // At worst an empty group stays until the machine's end.
        _ = std::fs::remove_dir(&self.0);
    }
}

const CLOSING: &str = "watermark = { column = \"ts\", delay = \"10s\" }";

fn generated(rows: u64, watermark: &str, window: &str, having: &str) -> Job {
    let mode = if watermark.is_empty() { "update" } else { "append" };
    Job::new(&format!(
        r#"name = "generated"
cores = "0"
memory_limit = "256MiB"

[source.sensors]
type = "generate"
suite = "sensors"
rows = {rows}
{watermark}

[query]
sql = """
SELECT window.start, device, count(*) AS n FROM sensors GROUP BY window(ts, '{window}'), device {having}
"""
mode = "{mode}"

[sink.out]
type = "console"
style = "json"

[checkpoint]
path = "state"
"#
    ))
}

/// F33: whoever reads the output is much slower than the input.
#[test]
fn f33_a_slow_reader_holds_the_input_back_and_memory_stays() {
    let job = generated(1_000_000, CLOSING, "10 seconds", "");
    let (fast, peak) = job.start().end_watched();
    let fast = fast.expect_code(0);
    let job = generated(1_000_000, CLOSING, "10 seconds", "");
    let mut child = Command::new(binary())
        .args(["run", "job.toml"])
        .current_dir(job.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let mut stdout = child.stdout.take().expect("piped");
    let (mut slow, mut highest) = (Vec::new(), 0);
    let mut buffer = vec![0; fast.stdout.len() / 400];
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let high = status.ok().and_then(|s| {
            s.lines().find_map(|l| {
                l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
            })
        });
        highest = highest.max(high.unwrap_or(0) << 10);
        match stdout.read(&mut buffer).expect("it can be read") {
            0 => break,
            read => slow.extend_from_slice(&buffer[..read]),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().expect("it ends").success());
    let counted = |text: &str| text.matches("\"device\"").count();
    assert_eq!(counted(&String::from_utf8_lossy(&slow)), counted(&fast.stdout));
    assert!(highest < peak * 3 / 2, "{} MiB slow, {} MiB fast", highest >> 20, peak >> 20);
}

/// Bytes of memory a row, over rows that go through.
fn slope(watermark: &str) -> f64 {
    let peak = |rows| {
        let job = generated(rows, watermark, "1 second", "HAVING count(*) > 1000");
        let (ended, peak) = job.start().end_watched();
        ended.expect_code(0);
        peak as f64
    };
    let (short, long) = (500_000, 2_000_000);
    (peak(long) - peak(short)) / (long - short) as f64
}

/// F36, as the slope over a fixed number of rows: four times as many need no more memory. The same
/// query whose windows never close shows that a leak of its groups would be seen.
#[test]
fn f36_memory_does_not_grow_with_the_rows_that_went_through() {
    const BYTES_A_ROW: f64 = 6.0;
    let (closing, open) = (slope(CLOSING), slope(""));
    assert!(closing < BYTES_A_ROW, "{closing} bytes a row");
    assert!(open > BYTES_A_ROW, "{open} bytes a row: a leak would not be seen");
}
