//! How long does a row take from `produce` to a read_committed reader behind an exactly-once job?
//!
//! A job passes rows through from topic to topic, an epoch after the other as fast as they commit. Each
//! row holds the time at which it was sent; who reads it compares that with the clock. First the job's
//! greatest rate is found, then rows are sent at parts of it. Every row sent must be read once.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pelton_engine::error::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Rows by which the greatest rate is found.
const PROBE_ROWS: u64 = 1_000_000;
/// At each rate.
const FOR: Duration = Duration::from_secs(8);
/// The job's start is not what is measured.
const WARM_UP: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows are sent in steps of this.
const STEP: Duration = Duration::from_millis(1);

/// What was found at a rate.
pub struct Latency {
    pub part: f64,
    pub rows_per_second: f64,
    /// Milliseconds at 50, 99 and 99.9 of a hundred rows.
    pub quantiles: [f64; 3],
}

/// Runs the suite between two topics, which are there and empty.
pub fn run(program: &Path, servers: &str, topics: (&str, &str)) -> Result<Vec<Latency>> {
    let bench = Bench { program, servers, topics };
    let dir = std::env::temp_dir().join(topics.1);
    let io = |error| Error::failed(format!("cannot use {}: {error}", dir.display()));
    std::fs::create_dir_all(&dir).map_err(io)?;
    std::fs::write(dir.join("job.toml"), bench.job_file()).map_err(io)?;
    let job = Job(bench.start(&dir)?);
    let reader = bench.reader()?;
    let rate = bench.greatest_rate(&reader)?;
    let mut found = Vec::new();
    for part in [0.1, 0.5, 0.9] {
        found.push(bench.at(part, rate * part, &reader)?);
    }
    drop(job);
    std::fs::remove_dir_all(&dir).map_err(io)?;
    Ok(found)
}

struct Bench<'a> {
    program: &'a Path,
    servers: &'a str,
    topics: (&'a str, &'a str),
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

impl Bench<'_> {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers).set("log_level", "0");
        config
    }

    fn job_file(&self) -> String {
        let Bench { servers, topics: (input, output), .. } = self;
        format!(
            r#"name = "{output}"
[source.rows]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "{input}"
format = "text"
[query]
sql = "SELECT value FROM rows"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "{output}"
[checkpoint]
path = "state"
interval = "1ms"
"#
        )
    }

    fn start(&self, dir: &Path) -> Result<Child> {
        let child = Command::new(self.program)
            .args(["run", "job.toml", "--progress", "off"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn();
        let child =
            child.map_err(|error| Error::failed(format!("the job does not start: {error}")));
        std::thread::sleep(WARM_UP);
        child
    }

    fn reader(&self) -> Result<BaseConsumer> {
        let reader: BaseConsumer = self
            .config()
            .set("group.id", "pelton-bench")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "5")
            .create()
            .map_err(failed)?;
        let mut list = TopicPartitionList::new();
        let metadata = reader.fetch_metadata(Some(self.topics.1), PATIENCE).map_err(failed)?;
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(self.topics.1, partition.id(), Offset::Beginning)
                .map_err(failed)?;
        }
        reader.assign(&list).map_err(failed)?;
        Ok(reader)
    }

    /// Rows a second, from the first row sent to the last one read.
    fn greatest_rate(&self, reader: &BaseConsumer) -> Result<f64> {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.send(PROBE_ROWS, f64::INFINITY));
            read(reader, PROBE_ROWS)?;
            sender.join().expect("the sender does not panic")
        })?;
        Ok(PROBE_ROWS as f64 / begun.elapsed().as_secs_f64())
    }

    fn at(&self, part: f64, rate: f64, reader: &BaseConsumer) -> Result<Latency> {
        let rows = (rate * FOR.as_secs_f64()) as u64;
        let mut waits = std::thread::scope(|scope| {
            let sender = scope.spawn(move || self.send(rows, rate));
            let waits = read(reader, rows)?;
            sender.join().expect("the sender does not panic")?;
            Ok(waits)
        })?;
        waits.sort_unstable();
        let at = |quantile: f64| {
            let place = ((waits.len() - 1) as f64 * quantile) as usize;
            waits[place] as f64 / 1e3
        };
        let quantiles = [at(0.5), at(0.99), at(0.999)];
        Ok(Latency { part, rows_per_second: rate, quantiles })
    }

    /// Sends rows at a rate; each holds the microsecond at which it was due to be sent.
    fn send(&self, rows: u64, rate: f64) -> Result<()> {
        let producer: BaseProducer =
            self.config().set("linger.ms", "1").set("acks", "all").create().map_err(failed)?;
        let (begun, mut sent) = (Instant::now(), 0);
        while sent < rows {
            let due = ((begun.elapsed().as_secs_f64() * rate) as u64).min(rows);
            let now = now_us().to_string();
            while sent < due {
                let mut record: BaseRecord<'_, (), str> =
                    BaseRecord::to(self.topics.0).partition((sent % 2) as i32).payload(&now);
                while let Err((_, back)) = producer.send(record) {
                    producer.poll(Duration::from_millis(1));
                    record = back;
                }
                sent += 1;
            }
            producer.poll(Duration::ZERO);
            std::thread::sleep(STEP);
        }
        producer.flush(PATIENCE).map_err(failed)
    }
}

/// Reads rows; how many microseconds each took.
fn read(reader: &BaseConsumer, rows: u64) -> Result<Vec<u64>> {
    let mut waits = Vec::with_capacity(rows as usize);
    while (waits.len() as u64) < rows {
        let message = match reader.poll(PATIENCE) {
            Some(message) => message.map_err(failed)?,
            None => return Err(Error::failed("rows that were sent do not arrive")),
        };
        let sent = message.payload().and_then(|value| std::str::from_utf8(value).ok());
        let sent: u64 = sent.and_then(|sent| sent.parse().ok()).unwrap_or(u64::MAX);
        waits.push(now_us().saturating_sub(sent));
    }
    match reader.poll(Duration::from_millis(500)) {
        None => Ok(waits),
        Some(_) => Err(Error::failed("more rows arrive than were sent")),
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

fn failed(error: rdkafka::error::KafkaError) -> Error {
    Error::failed(format!("Kafka: {error}"))
}
