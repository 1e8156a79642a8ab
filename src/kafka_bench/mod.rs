//! `pelton bench kafka`: how many records a second come from a real broker, through our client and
//! through librdkafka's poll loop, and how fast is a whole exactly-once job?
//!
//! Every client passes every value on: count, bytes and an xor of hashes must equal the producer's
//! before a figure is shown. The job's output is read back and compared with an independent
//! computation. The clients take turns in one run; medians are shown, and kept with `--record`.

mod cpu;
mod latency;
mod output;
mod record;

use std::hash::BuildHasher;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use futures_executor::block_on;
use pelton_bench::oracle;
use pelton_engine::error::{Error, Result};
use pelton_ingest::generate::Suite;
use pelton_ingest::kafka::cluster::{Cluster, Control, EARLIEST, LATEST, Trouble};
use pelton_ingest::kafka::connection::Connection;
use pelton_ingest::kafka::native::Native;
use pelton_ingest::kafka::{Ask, Chunk, Client, Reply, fetch, start};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::cli;
use cpu::{children_seconds, cpu_seconds, median};
use latency::Latency;

const PARTITIONS: i32 = 4;
/// Rows in a message: one (about 48 bytes), about 1 KB, about 48 KB.
const SHAPES: [u64; 3] = [1, 20, 1_000];
const FETCH_BYTES: usize = 16 << 20;
const DELAY: &str = "10s";
const PATIENCE: Duration = Duration::from_secs(60);
/// The cheapest hash that looks at every byte: clients are measured, not hashes.
const HASH: FixedState = FixedState::with_seed(1);

/// What passed through a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Passed {
    count: u64,
    bytes: u64,
    xor: u64,
}

impl Passed {
    fn see(&mut self, value: &[u8]) {
        self.count += 1;
        self.bytes += value.len() as u64;
        self.xor ^= HASH.hash_one(value);
    }

    fn and(self, other: Passed) -> Passed {
        Passed {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            xor: self.xor ^ other.xor,
        }
    }
}

/// Seconds of each round, and seconds of CPU that this process used in it.
struct Figures {
    what: String,
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    passed: Passed,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.passed.count as f64 / median(&self.seconds)
    }

    /// Records for a second of CPU: what a machine that is shared does not change.
    fn rate_of_cpu(&self) -> f64 {
        self.passed.count as f64 / median(&self.cpu).max(0.001)
    }
}

pub fn run(args: &cli::Bench, program: &Path) -> Result<()> {
    let servers = args.bootstrap_servers.as_deref().ok_or_else(|| Error::Unavailable {
        what: "bench kafka measures a broker".into(),
        fix: "start one and give --bootstrap-servers localhost:9092".into(),
    })?;
    let bench = Bench {
        servers: servers.to_owned(),
        rows: args.rows,
        rounds: args.rounds as usize,
        program,
        suite: Suite::new("sensors", args.seed).expect("the suite is built in"),
    };
    let mut all = Vec::new();
    for shape in SHAPES {
        let clients = bench.clients(shape)?;
        let times = |of: fn(&Figures) -> f64, at: usize| of(&clients[at]) / of(&clients[2]);
        println!(
            "native: {:.1} times librdkafka's poll loop by time with one thread, {:.1} with two; {:.1} by \
             CPU\n",
            times(Figures::rate, 0),
            times(Figures::rate, 1),
            times(Figures::rate_of_cpu, 0)
        );
        all.extend(clients);
    }
    for shape in [SHAPES[0], SHAPES[2]] {
        let job = bench.job(shape)?;
        show(&job);
        all.push(job);
    }
    let (input, output) = (bench.fresh("in")?, bench.fresh("out")?);
    let latency = latency::run(program, servers, (&input, &output))?;
    for Latency { part, rows_per_second, quantiles: [half, most, nearly_all] } in &latency {
        println!(
            "latency at {:.0} % of the greatest rate ({:.0} rows/s): p50 {half:.1} ms, p99 {most:.1} \
             ms, p99.9 {nearly_all:.1} ms",
            part * 100.0,
            rows_per_second
        );
    }
    if let Some(dir) = &args.record {
        record::keep(dir, &bench, &all, &latency)?;
    }
    Ok(())
}

struct Bench<'a> {
    servers: String,
    rows: u64,
    rounds: usize,
    program: &'a Path,
    suite: Suite,
}

impl Bench<'_> {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("log_level", "0");
        config
    }

    fn topic(&self, shape: u64) -> String {
        format!("pelton-bench-{}-{shape}", self.rows)
    }

    /// The value of each message, its last line feed left out.
    fn values(&self, shape: u64, mut each: impl FnMut(u64, &[u8])) {
        let mut text = Vec::new();
        for (message, first) in (0..self.rows).step_by(shape as usize).enumerate() {
            text.clear();
            self.suite.write(first, shape.min(self.rows - first), &mut text);
            each(message as u64, text.trim_ascii_end());
        }
    }

    /// Makes and fills the topic where it is not there; what is in it.
    fn fill(&self, shape: u64) -> Result<Passed> {
        let topic = self.topic(shape);
        let mut sent = Passed::default();
        if !self.make_topic(&topic)? {
            self.values(shape, |_, value| sent.see(value));
            return Ok(sent);
        }
        eprintln!("filling topic {topic}");
        let producer: BaseProducer = self
            .config()
            .set("batch.size", "1000000")
            .set("batch.num.messages", "1000000")
            .set("linger.ms", "50")
            .set("queue.buffering.max.kbytes", "262144")
            .set("acks", "all")
            .create()
            .map_err(failed)?;
        // Long runs a partition, so that their event times stay close.
        let mut trouble = None;
        self.values(shape, |message, value| {
            sent.see(value);
            let partition = (message % PARTITIONS as u64) as i32;
            let mut record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(&topic).partition(partition).payload(value);
            while let Err((error, back)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    trouble = Some(error);
                    return;
                }
                producer.poll(Duration::from_millis(10));
                record = back;
            }
        });
        producer.flush(PATIENCE).map_err(failed)?;
        match trouble {
            None => Ok(sent),
            Some(error) => Err(failed(error)),
        }
    }

    /// `false`: it is there already.
    fn make_topic(&self, topic: &str) -> Result<bool> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(failed)?;
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = block_on(admin.create_topics([&new], &options)).map_err(failed)?;
        match &made[0] {
            Ok(_) => Ok(true),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(false),
            Err((_, error)) => Err(Error::failed(format!("topic {topic} cannot be made: {error}"))),
        }
    }

    /// A topic that nobody has used.
    fn fresh(&self, what: &str) -> Result<String> {
        let topic = format!("pelton-bench-{what}-{}", std::process::id());
        self.make_topic(&topic)?;
        Ok(topic)
    }

    /// All clients on one topic, round by round.
    fn clients(&self, shape: u64) -> Result<Vec<Figures>> {
        let sent = self.fill(shape)?;
        println!(
            "{} messages of {} bytes, {} partitions, {} rounds",
            sent.count,
            sent.bytes / sent.count.max(1),
            PARTITIONS,
            self.rounds
        );
        let topic = self.topic(shape);
        let rows = |what: &str| Figures {
            what: format!("{what}, {shape} rows a message"),
            seconds: Vec::new(),
            cpu: Vec::new(),
            passed: sent,
        };
        let mut figures =
            vec![rows("native, 1 thread"), rows("native, 2 threads"), rows("librdkafka poll loop")];
        // The broker, too, is slow at first: its methods are compiled, its pages read.
        for round in 0..=self.rounds {
            for (at, figures) in figures.iter_mut().enumerate() {
                let (begun, cpu) = (Instant::now(), cpu_seconds());
                let passed = match at {
                    0 => self.native(&topic, 1)?,
                    1 => self.native(&topic, 2)?,
                    _ => self.poll_loop(&topic, sent.count)?,
                };
                if round > 0 {
                    figures.seconds.push(begun.elapsed().as_secs_f64());
                    figures.cpu.push(cpu_seconds() - cpu);
                }
                if passed != sent {
                    return Err(Error::failed(format!(
                        "{}: {passed:?} passed, {sent:?} were sent",
                        figures.what
                    )));
                }
            }
        }
        figures.iter().for_each(show);
        Ok(figures)
    }

    fn native(&self, topic: &str, threads: i32) -> Result<Passed> {
        let passed: Vec<Result<Passed>> = std::thread::scope(|scope| {
            let run = |thread| move || native_thread(&self.servers, topic, thread, threads);
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(run(thread))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a client does not panic"))
                .collect()
        });
        passed.into_iter().try_fold(Passed::default(), |all, some| Ok(all.and(some?)))
    }

    /// The best of ten settings for messages of 50 bytes (PERFORMANCE.md, Kafka).
    fn poll_loop(&self, topic: &str, count: u64) -> Result<Passed> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "pelton-bench")
            .set("enable.auto.commit", "false")
            .set("queued.min.messages", "1000000")
            .set("fetch.message.max.bytes", "8388608")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .map_err(failed)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        let mut passed = Passed::default();
        while passed.count < count {
            match consumer.poll(PATIENCE) {
                Some(Ok(message)) => passed.see(message.payload().unwrap_or_default()),
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(Error::failed("the poll loop gets no message any more")),
            }
        }
        Ok(passed)
    }

    /// The sensors job from topic to topic, exactly once; its output compared with the oracle's.
    fn job(&self, shape: u64) -> Result<Figures> {
        let sent = self.fill(shape)?;
        let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
        let mut text = Vec::new();
        self.values(shape, |_, value| {
            text.extend_from_slice(value);
            text.push(b'\n');
        });
        let mut expected = oracle::sensors(text.as_slice(), 10_000).lines();
        expected.sort();
        drop(text);
        for round in 0..self.rounds {
            let output = format!("pelton-bench-out-{}-{shape}-{round}", std::process::id());
            self.make_topic(&output)?;
            let dir = std::env::temp_dir().join(&output);
            let io = |error| Error::failed(format!("cannot use {}: {error}", dir.display()));
            std::fs::create_dir_all(&dir).map_err(io)?;
            std::fs::write(dir.join("job.toml"), self.job_file(shape, &output)).map_err(io)?;
            let (begun, used) = (Instant::now(), children_seconds());
            let ended = Command::new(self.program)
                .args(["run", "job.toml", "--progress", "off"])
                .current_dir(&dir)
                .status();
            if !ended.map_err(io)?.success() {
                return Err(Error::failed("the job failed"));
            }
            seconds.push(begun.elapsed().as_secs_f64());
            cpu.push(children_seconds() - used);
            let mut found = output::read(&self.config(), &output)?;
            found.sort();
            if found != expected {
                let (found, expected) = (found.len(), expected.len());
                return Err(Error::failed(format!(
                    "the job's output is not the oracle's: {found} rows, expected {expected}"
                )));
            }
            std::fs::remove_dir_all(&dir).map_err(io)?;
        }
        let what = format!("whole job, exactly once, {shape} rows a message");
        Ok(Figures { what, seconds, cpu, passed: sent })
    }

    fn job_file(&self, shape: u64, output: &str) -> String {
        format!(
            r#"name = "{output}"
[source.sensors]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "{topic}"
end = "latest"
format = "csv"
schema = "{schema}"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "{DELAY}" }}
[query]
sql = """
{sql}
"""
mode = "append"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "{output}"
[checkpoint]
path = "state"
"#,
            servers = self.servers,
            topic = self.topic(shape),
            schema = oracle::SENSORS_SCHEMA,
            sql = oracle::SENSORS_SQL,
        )
    }
}

/// One of our clients with every `threads`-th partition, and the answers to what it asks.
fn native_thread(servers: &str, topic: &str, thread: i32, threads: i32) -> Result<Passed> {
    let servers = [servers.to_owned()];
    let mut cluster = Cluster::new(&servers);
    let topics = start::patiently(&servers, || cluster.topics(&[topic.to_owned()]))?;
    let known = &topics[0];
    let mut splits = Vec::new();
    for partition in (0..PARTITIONS).filter(|partition| partition % threads == thread) {
        let leader = known.partitions[partition as usize].node;
        let mut at =
            |time| cluster.offsets(leader, &[((topic, partition), time)]).map(|found| found[0]);
        let (first, end) = (at(EARLIEST).map_err(away)?, at(LATEST).map_err(away)?);
        let mut split = start::fresh_split(splits.len(), known, partition);
        (split.offset, split.end) = (first, Some(end));
        splits.push(split);
    }
    let (asks, asked) = sync_channel(64);
    let (mailbox, replies) = sync_channel(64);
    let (_waker, woken) = UnixStream::pair().map_err(|error| Error::failed(error.to_string()))?;
    let count = splits.len();
    let mut client = Native::new(0, splits.clone(), (asks, replies), woken, FETCH_BYTES);
    let (mut chunk, mut passed) = (Chunk::default(), Passed::default());
    loop {
        while let Ok(ask) = asked.try_recv() {
            let reply = match ask {
                Ask::Settle { split, .. } => {
                    let partition = splits[split].partition as usize;
                    Reply::Settled { split, leader: known.partitions[partition] }
                }
                Ask::Connect { node, .. } => {
                    let address = cluster.address(node).unwrap_or(servers[0].clone());
                    let connected = Connection::open(&address).and_then(|connection| {
                        let version = connection.version(fetch::KEY, fetch::VERSIONS)?;
                        Ok(Reply::Connected { node, version, stream: connection.into_stream()? })
                    });
                    connected.map_err(|error| Error::failed(error.to_string()))?
                }
                Ask::Commit { .. } => continue,
            };
            mailbox.try_send(reply).map_err(|error| Error::failed(error.to_string()))?;
        }
        client.turn(Duration::ZERO, true)?;
        chunk.clear();
        if client.fill(&mut chunk)? {
            for (_, value) in chunk.values() {
                // The newline was put behind it.
                passed.see(&value[..value.len() - 1]);
            }
        } else if (0..count).all(|split| client.standing(split).ended) {
            return Ok(passed);
        } else {
            client.turn(Duration::from_millis(10), true)?;
        }
    }
}

fn show(figures: &Figures) {
    let Passed { count, bytes, .. } = figures.passed;
    let seconds = median(&figures.seconds);
    println!(
        "{:<48} {:>8.2} M records/s {:>7.0} MB/s  ({seconds:.2} s, {:.2} s of CPU)",
        figures.what,
        count as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6,
        median(&figures.cpu),
    );
    _ = std::io::stdout().flush();
}

fn failed(error: KafkaError) -> Error {
    Error::failed(format!("Kafka: {error}"))
}

fn away(trouble: Trouble) -> Error {
    Error::failed(format!("Kafka: {trouble}"))
}
