//! How long a row is on its way under a continuous trigger: from the write into the socket to its line
//! on the program's output.
//!
//! The short form runs always and is generous, as a machine may be busy. The figures of a record come
//! from `PELTON_ROWS=2000 cargo test --release --test latency -- --nocapture --test-threads 1`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pelton_tests::program::{Job, binary};

fn rows() -> u64 {
    std::env::var("PELTON_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Milliseconds from a row to the line that it makes: half of the rows are faster, one in a hundred
/// is slower.
fn latencies(name: &str, schema: &str, query: &str, row: impl Fn(u64) -> String) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let job = Job::new(&format!(
        "name = \"{name}\"\n[source.t]\ntype = \"socket\"\naddress = \"{address}\"\nschema = \
         \"{schema}\"\n[query]\ntrigger = \"continuous 5ms\"\n{query}\n[sink.out]\ntype = \
         \"console\"\nstyle = \"json\"\n"
    ));
    let mut command = Command::new(binary());
    command.args(["run", "job.toml"]).current_dir(job.dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let (mut socket, _) = listener.accept().expect("the job connects");
    socket.set_nodelay(true).expect("a socket has the option");
    let mut times = Vec::new();
    for number in 0..rows() {
        // So that the program rests before each row.
        std::thread::sleep(Duration::from_millis(2));
        let asked = Instant::now();
        socket.write_all(row(number).as_bytes()).expect("the job listens");
        let mut line = String::new();
        lines.read_line(&mut line).expect("the job answers");
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        assert!(line.contains("\"rows\": [{"), "{line}");
    }
    child.kill().expect("it can be ended");
    child.wait().expect("it was ended");
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{name}: {} rows, p50 {:.3} ms, p99 {:.3} ms", times.len(), at(0.5), at(0.99));
    (at(0.5), at(0.99))
}

#[test]
fn a_row_of_a_stateless_query_leaves_within_milliseconds() {
    let query = "sql = \"SELECT v + 1 AS v FROM t\"";
    let (half, _) = latencies("stateless", "v BIGINT", query, |number| format!("{number}\n"));
    assert!(half < 100.0, "{half} ms");
}

#[test]
fn a_window_is_updated_within_milliseconds() {
    let query = "mode = \"update\"\nsql = \"SELECT window.start, v, count(*) AS n FROM t GROUP BY \
                 window(ts, '10 seconds'), v\"";
    let schema = "ts TIMESTAMP, v BIGINT";
    let row = |number: u64| {
        let (minute, second) = (number / 60 % 60, number % 60);
        format!("2024-05-01T12:{minute:02}:{second:02}Z,{}\n", number % 7)
    };
    let (half, _) = latencies("windowed update", schema, query, row);
    assert!(half < 100.0, "{half} ms");
}
