//! How long a row is on its way under a continuous trigger: from its write into a socket to its line
//! on the program's output.
//!
//! One row is under way at a time, and the program rests before each: what is measured is waking up,
//! an epoch, and (where asked for) the log's and the checkpoint's fsync, not throughput.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// A row in, a row out.
    Stateless,
    /// Each row updates the count of its window.
    Windowed,
}

/// Milliseconds that so many rows are faster than.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Query {
    pub fn name(self) -> &'static str {
        match self {
            Query::Stateless => "stateless",
            Query::Windowed => "windowed update",
        }
    }

    fn schema(self) -> &'static str {
        match self {
            Query::Stateless => "v BIGINT",
            Query::Windowed => "ts TIMESTAMP, v BIGINT",
        }
    }

    fn query(self) -> &'static str {
        match self {
            Query::Stateless => "sql = \"SELECT v + 1 AS v FROM t\"",
            Query::Windowed => {
                "mode = \"update\"\nsql = \"SELECT window.start, v, count(*) AS n FROM t GROUP BY \
                 window(ts, '10 seconds'), v\""
            }
        }
    }

    fn row(self, number: u64) -> String {
        match self {
            Query::Stateless => format!("{number}\n"),
            Query::Windowed => {
                let (minute, second) = (number / 60 % 60, number % 60);
                format!("2024-05-01T12:{minute:02}:{second:02}Z,{number}\n")
            }
        }
    }

    /// What the line of a row holds and that of no other does.
    fn mark(self, number: u64) -> String {
        match self {
            Query::Stateless => format!("\"v\":{}}}", number + 1),
            Query::Windowed => format!("\"v\":{number},\"n\":1}}"),
        }
    }
}

/// A job that is ended when it is not needed any more.
struct Job(Child);

impl Drop for Job {
    fn drop(&mut self) {
        // It is ours and was not waited for; where it has ended already there is nothing to do.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs a job in `dir`, an empty directory; `durable` with a write-ahead log and checkpoints in it.
pub fn measure(
    program: &Path,
    dir: &Path,
    query: Query,
    durable: bool,
    rows: u64,
) -> Result<Latency, Error> {
    let failed = |error| Error::io("cannot measure a job's latency", error);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (schema, sql) = (query.schema(), query.query());
    let checkpoint = if durable { "[checkpoint]\npath = \"state\"\n" } else { "" };
    let job = format!(
        "name = \"latency\"\n[source.t]\ntype = \"socket\"\naddress = \"{address}\"\nschema = \
         \"{schema}\"\n[query]\ntrigger = \"continuous 5ms\"\n{sql}\n[sink.out]\ntype = \
         \"console\"\nstyle = \"json\"\n{checkpoint}"
    );
    std::fs::write(dir.join("job.toml"), job).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["run", "job.toml"]).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut job = Job(command.spawn().map_err(failed)?);
    let mut lines = BufReader::new(job.0.stdout.take().expect("piped above"));
    let (mut socket, _) = listener.accept().map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let mut times = Vec::with_capacity(rows as usize);
    for number in 0..rows {
        std::thread::sleep(Duration::from_millis(2));
        let asked = Instant::now();
        socket.write_all(query.row(number).as_bytes()).map_err(failed)?;
        let mut line = String::new();
        lines.read_line(&mut line).map_err(failed)?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if !line.contains(&query.mark(number)) {
            return Err(Error::Wrong(format!("row {number} was answered with {line:?}")));
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}
