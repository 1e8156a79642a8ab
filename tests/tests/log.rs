//! The write-ahead log: what a socket or a pipe brought survives a SIGKILL, once.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use pelton_tests::output;
use pelton_tests::program::{self, Job, Running, binary};

/// Every row leaves once; the epoch ends with an interrupt, so that a kill finds it half done.
fn job(source: &str, trigger: &str) -> Job {
    Job::new(&format!(
        r#"name = "log"

[source.rows]
{source}
format = "csv"
schema = "id BIGINT, word STRING"

[query]
sql = "SELECT id, word FROM rows"
mode = "append"
trigger = "{trigger}"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
"#
    ))
}

fn line(i: u64) -> String {
    format!("{i},word-{}\n", i % 10)
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(line).collect()
}

/// What the log holds, as bytes; the rows in it are plain text.
fn logged(job: &Job) -> Vec<u8> {
    let Ok(entries) = std::fs::read_dir(job.path("state/wal")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    // A segment may be trimmed in between.
    paths.iter().flat_map(|path| std::fs::read(path).unwrap_or_default()).collect()
}

fn wait_for(job: &Job, row: u64) {
    let (wanted, began) = (line(row), Instant::now());
    let holds = |bytes: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes());
    while !holds(&logged(job)) {
        assert!(began.elapsed() < Duration::from_secs(30), "row {row} is not in the log");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ids(job: &Job) -> Vec<u64> {
    let rows = output::rows(&job.path("out"), "id,word");
    rows.iter()
        .map(|row| row.split(',').next().expect("a field").parse().expect("a number"))
        .collect()
}

struct Server(TcpListener);

impl Server {
    fn job(trigger: &str) -> (Server, Job) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let job = job(&format!("type = \"socket\"\naddress = \"{address}\""), trigger);
        (Server(listener), job)
    }

    fn start(&self, job: &Job) -> (Running, TcpStream) {
        let running = job.start();
        (running, self.0.accept().expect("the job connects").0)
    }
}

/// Killed again and again with rows that are durable in the log and in no epoch yet.
#[test]
fn sigkill_after_receipt_loses_nothing_and_doubles_nothing() {
    // No boundary comes: rows wait in the log.
    let (server, job) = Server::job("1h");
    let mut sent = 0;
    for round in 0..5u64 {
        let (running, mut socket) = server.start(&job);
        let rows = 500 + round * 700;
        socket.write_all(lines(sent..sent + rows).as_bytes()).expect("the job reads");
        sent += rows;
        wait_for(&job, sent - 1);
        assert!(running.kill().was_killed());
    }
    let (mut running, mut socket) = server.start(&job);
    socket.write_all(lines(sent..sent + 10).as_bytes()).expect("the job reads");
    sent += 10;
    wait_for(&job, sent - 1);
    running.interrupt();
    let ended = running.end().expect_code(0);
    assert_eq!(ended.fates().rows_in, sent, "the last run took all of it");
    assert_eq!(ids(&job), (0..sent).collect::<Vec<_>>());
}

/// Killed while epochs come and go, at whatever moment: what the log holds is what leaves.
#[test]
fn sigkill_between_epochs_loses_nothing_and_doubles_nothing() {
    let (server, job) = Server::job("default");
    let mut sent = 0;
    for round in 0..6u64 {
        let (running, mut socket) = server.start(&job);
        for _ in 0..20 {
            socket.write_all(lines(sent..sent + 50).as_bytes()).expect("the job reads");
            sent += 50;
            std::thread::sleep(Duration::from_millis(1 + round));
        }
        // The last row is in the log, or in an epoch that let the log be trimmed.
        let began = Instant::now();
        while !contains(&logged(&job), &line(sent - 1)) && ids(&job).last() != Some(&(sent - 1)) {
            assert!(began.elapsed() < Duration::from_secs(30), "row {} is nowhere", sent - 1);
        }
        running.kill();
    }
    let (mut running, _socket) = server.start(&job);
    running.wait_until("the last rows", |_| ids(&job).last() == Some(&(sent - 1)));
    running.interrupt();
    running.end().expect_code(0);
    assert_eq!(ids(&job), (0..sent).collect::<Vec<_>>());
    assert!(logged(&job).len() < 200_000, "the log is trimmed");
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes())
}

/// The row that a connection had not finished is not taken for a whole one.
#[test]
fn half_a_row_of_a_lost_connection_is_given_up_and_told() {
    let (server, job) = Server::job("1h");
    let (running, mut socket) = server.start(&job);
    socket.write_all(format!("{}1,wo", line(0)).as_bytes()).expect("the job reads");
    wait_for(&job, 0);
    std::thread::sleep(Duration::from_millis(100));
    running.kill();
    let (mut running, mut socket) = server.start(&job);
    socket.write_all(line(1).as_bytes()).expect("the job reads");
    wait_for(&job, 1);
    running.interrupt();
    running.end().expect_code(0).expect_said(&["4 bytes of a row", "given up"]);
    assert_eq!(ids(&job), [0, 1]);
}

fn fed(job: &Job) -> (Running, ChildStdin) {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--progress", "json"]).current_dir(job.dir());
    program::start_fed(command)
}

#[test]
fn standard_input_goes_on_after_a_kill_and_ends_once() {
    let job = job("type = \"stdin\"", "default");
    let (running, mut stdin) = fed(&job);
    stdin.write_all(lines(0..1_000).as_bytes()).expect("the job reads");
    let began = Instant::now();
    while !contains(&logged(&job), &line(999)) && ids(&job).last() != Some(&999) {
        assert!(began.elapsed() < Duration::from_secs(30), "row 999 is nowhere");
    }
    running.kill();
    let (running, mut stdin) = fed(&job);
    stdin.write_all(lines(1_000..1_500).as_bytes()).expect("the job reads");
    drop(stdin);
    running.end().expect_code(0);
    assert_eq!(ids(&job), (0..1_500).collect::<Vec<_>>());
    let (running, stdin) = fed(&job);
    drop(stdin);
    running.end().expect_code(0).expect_said(&["came to its end"]);
    assert_eq!(ids(&job).len(), 1_500);
}

/// F51, F52: a log that is not what was written stops the job instead of losing rows.
#[test]
fn f51_f52_a_damaged_or_missing_log_stops_the_job() {
    let (server, job) = Server::job("1h");
    let (running, mut socket) = server.start(&job);
    for i in 0..3 {
        socket.write_all(line(i).as_bytes()).expect("the job reads");
        wait_for(&job, i);
    }
    running.kill();
    let segment = std::fs::read_dir(job.path("state/wal")).expect("it is there");
    let path = segment.map(|entry| entry.expect("an entry").path()).next().expect("one segment");
    let whole = std::fs::read(&path).expect("it was listed");
    let mut rotten = whole.clone();
    let at = rotten.windows(4).position(|part| part == b"word").expect("the first row");
    rotten[at] ^= 1;
    std::fs::write(&path, &rotten).expect("it is ours");
    let verify = || job.start_with(&["checkpoint", "verify", "state"]).end();
    verify().expect_code(74).expect_said(&["write-ahead log", "is damaged"]);
    job.start().end().expect_code(74).expect_said(&["write-ahead log", "is damaged"]);
    std::fs::write(&path, &whole).expect("it is ours");
    let verified = verify().expect_code(0);
    assert!(verified.stdout.contains("whole records"), "{}", verified.stdout);
    let (mut running, _socket) = server.start(&job);
    running.wait_until("a moment", |running| {
        running.stderr().contains("log") || logged(&job).len() > 1
    });
    running.interrupt();
    running.end().expect_code(0);
    assert_eq!(ids(&job), [0, 1, 2]);
    std::fs::remove_dir_all(job.path("state/wal")).expect("it is ours");
    job.start().end().expect_code(74).expect_said(&["rows are missing"]);
}
