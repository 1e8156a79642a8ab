//! How long a row is on its way under a continuous trigger: from its write into a socket, or the moment
//! at which it is generated, to its line on the program's output.
//!
//! One row is under way at a time, and the program rests before each: what is measured is waking up,
//! an epoch, and (where asked for) the log's and the checkpoint's fsync, not throughput. Nobody outside
//! sees when a row is generated, only that they come at a steady rate: the fastest of them is taken to
//! need the time of the socket's fastest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use pelton_ingest::generate;
use serde_json::Value;

use crate::error::Error;

/// Generated rows a second.
const RATE: u64 = 250;

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
    pub least: f64,
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

    fn query_of_devices(self) -> &'static str {
        match self {
            Query::Stateless => "sql = \"SELECT device, temperature FROM t\"",
            Query::Windowed => {
                "mode = \"update\"\nsql = \"SELECT window.start, device, count(*) AS n FROM t GROUP BY \
                 window(ts, '10 seconds'), device\""
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

impl Latency {
    fn of(mut times: Vec<f64>) -> Latency {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        Latency { least: at(0.0), p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// A job that is ended when it is not needed any more.
struct Job(Child);

impl Job {
    /// Starts a job of a source and a query in `dir`; and what it prints.
    fn start(
        program: &Path,
        dir: &Path,
        source: &str,
        query: &str,
        durable: bool,
    ) -> std::io::Result<(Job, BufReader<ChildStdout>)> {
        let checkpoint = if durable { "[checkpoint]\npath = \"state\"\n" } else { "" };
        let job = format!(
            "name = \"latency\"\n[source.t]\n{source}[query]\ntrigger = \"continuous \
             5ms\"\n{query}\n[sink.out]\ntype = \"console\"\nstyle = \"json\"\n{checkpoint}"
        );
        std::fs::write(dir.join("job.toml"), job)?;
        let mut command = Command::new(program);
        command.args(["run", "job.toml"]).current_dir(dir);
        let told = File::create(dir.join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(told);
        let mut job = Job(command.spawn()?);
        let lines = BufReader::new(job.0.stdout.take().expect("piped above"));
        Ok((job, lines))
    }

    /// Waits until it connects. Errors: `Wrong`, with what it said, where it ends before.
    fn connects(&mut self, listener: &TcpListener, dir: &Path) -> Result<TcpStream, Error> {
        let failed = |error| Error::io("cannot wait for the program", error);
        listener.set_nonblocking(true).map_err(failed)?;
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).map_err(failed)?;
                    return Ok(socket);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            if self.0.try_wait().map_err(failed)?.is_some() {
                let told = std::fs::read_to_string(dir.join("stderr")).map_err(failed)?;
                return Err(Error::Wrong(format!("the program has ended: {told}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It is ours and was not waited for; where it has ended already there is nothing to do.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs a job over a socket in `dir`, an empty directory; `durable` with a write-ahead log and
/// checkpoints in it.
///
/// Errors: `Wrong` for a line that is not the row's, `Io`.
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
    let schema = query.schema();
    let source = format!("type = \"socket\"\naddress = \"{address}\"\nschema = \"{schema}\"\n");
    let started = Job::start(program, dir, &source, query.query(), durable);
    let (mut job, mut lines) = started.map_err(failed)?;
    let mut socket = job.connects(&listener, dir)?;
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
    Ok(Latency::of(times))
}

/// The same over generated rows, each of which says by its device which one it is; `fastest` are the
/// milliseconds of the fastest.
///
/// Errors: `Wrong` where a line is not of the rows that come next, or rows are missing; `Io`.
pub fn measure_generated(
    program: &Path,
    dir: &Path,
    query: Query,
    durable: bool,
    rows: u64,
    fastest: f64,
) -> Result<Latency, Error> {
    let failed = |error| Error::io("cannot measure a job's latency", error);
    let devices = devices(rows);
    let source = format!(
        "type = \"generate\"\nsuite = \"sensors\"\nseed = 1\nrows = {rows}\nrows_per_second = {RATE}\n"
    );
    let started = Job::start(program, dir, &source, query.query_of_devices(), durable);
    let (_job, lines) = started.map_err(failed)?;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(rows as usize);
    let mut counts = HashMap::new();
    for line in lines.lines() {
        let line = line.map_err(failed)?;
        let arrived = begun.elapsed().as_secs_f64();
        let came = devices_of(&line, &mut counts)?;
        let mut next =
            devices.iter().skip(times.len()).take(came.len()).cloned().collect::<Vec<_>>();
        next.sort();
        if came != next {
            return Err(Error::Wrong(format!("{next:?} were answered with {line}")));
        }
        for _ in came {
            times.push((arrived - (times.len() + 1) as f64 / RATE as f64) * 1e3);
        }
    }
    if times.len() as u64 != rows {
        return Err(Error::Wrong(format!("{} of {rows} rows came", times.len())));
    }
    let least = times.iter().copied().fold(f64::MAX, f64::min);
    Ok(Latency::of(times.into_iter().map(|time| time - least + fastest).collect()))
}

/// The devices of the first generated rows.
fn devices(rows: u64) -> Vec<String> {
    let mut text = Vec::new();
    generate::Suite::new("sensors", 1).expect("it has a generator").write(0, rows, &mut text);
    let text = String::from_utf8(text).expect("rows are text");
    text.lines().filter_map(|row| row.split(',').nth(1)).map(str::to_owned).collect()
}

/// Devices of the rows that a line stands for, in order; a window's count stands for those since the last.
fn devices_of(line: &str, counts: &mut HashMap<String, u64>) -> Result<Vec<String>, Error> {
    let wrong = || Error::Wrong(format!("a line that is none of the job: {line}"));
    let found: Value = serde_json::from_str(line).map_err(|_| wrong())?;
    let mut devices = Vec::new();
    for row in found["rows"].as_array().ok_or_else(wrong)? {
        let device = row["device"].as_str().ok_or_else(wrong)?;
        let mut times = 1;
        if let Some(count) = row["n"].as_u64() {
            let before = counts.insert(format!("{device} {}", row["start"]), count).unwrap_or(0);
            times = count.checked_sub(before).ok_or_else(wrong)?;
        }
        devices.extend(std::iter::repeat_n(device.to_owned(), times as usize));
    }
    devices.sort();
    Ok(devices)
}
