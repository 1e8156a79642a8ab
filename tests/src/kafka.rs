//! A real Apache Kafka for tests, and clients of it that are not the product's.
//!
//! Invariant: no broker outlives its test program. Where none can be had the test is skipped, aloud.

pub mod lines;
pub mod raw;
pub mod through;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::proxy::Proxy;

/// A broker on a slow machine is there after this time, or never.
const PATIENCE: Duration = Duration::from_secs(120);
/// A broker with it takes away what [`Broker::deny`] says, and nothing else.
pub const AUTHORIZED: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
     allow.everyone.if.no.acl.found=true\n";
/// A broker with it ends no transaction for its time-out.
pub const ENDS_NONE: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms=3600000\n";
/// `tests/kafka` ends with it where Kafka cannot be had.
const UNAVAILABLE: i32 = 69;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka")
}

/// The script, for another Kafka than the usual.
fn with_version(version: Option<&str>) -> Command {
    let mut command = Command::new(script());
    if let Some(version) = version {
        command.env("KAFKA_VERSION", version);
        // Another version, another place.
        if let Ok(home) = std::env::var("KAFKA_HOME") {
            command.env("KAFKA_HOME", format!("{home}-{version}"));
        }
    }
    command
}

/// Whether Kafka can be had; why not.
fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    let ask = || {
        let out = Command::new(script()).arg("classpath").output().expect("the script can be run");
        match out.status.code() {
            Some(0) => Ok(()),
            Some(UNAVAILABLE) => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
            _ => panic!("tests/kafka classpath: {out:?}"),
        }
    };
    AVAILABLE.get_or_init(ask).clone()
}

/// The broker that the tests of a program share; `None` where there is none, which was told.
pub fn broker(test: &str) -> Option<&'static Broker> {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    match available() {
        Ok(()) => Some(BROKER.get_or_init(|| Broker::start(""))),
        Err(why) => {
            crate::skip(test, &why);
            None
        }
    }
}

/// One broker of its own, for a test that kills it; `None` as [`broker`].
pub fn own_broker(test: &str) -> Option<Broker> {
    broker(test).map(|_| Broker::start(""))
}

/// A broker at work. Dropped, it is killed.
pub struct Broker {
    host: &'static str,
    /// Where clients find it: its own, or its proxy's.
    pub port: u16,
    secure: Option<u16>,
    /// Another Kafka than the usual.
    version: Option<&'static str>,
    directory: tempfile::TempDir,
    process: Mutex<Option<Process>>,
}

/// Where a broker listens: for plain clients, as these are told (through a proxy), with TLS.
struct Place {
    /// An address as it stands in a URL.
    host: &'static str,
    port: u16,
    advertised: Option<u16>,
    secure: Option<u16>,
}

/// The usual one.
const HOST: &str = "127.0.0.1";

struct Process {
    child: Child,
    /// Closed, the script kills the broker and ends.
    _stdin: ChildStdin,
    broker: i32,
}

impl Process {
    fn end(mut self) {
        drop(self._stdin);
        self.child.wait().expect("a child can be waited for");
    }
}

impl Broker {
    /// Starts one and waits until it answers. `properties`: more of its configuration, whole lines.
    pub fn start(properties: &str) -> Broker {
        Broker::start_at(free_port(), None, None, properties)
    }

    /// One that listens with TLS and SASL as well, with a key made for it.
    pub fn start_secure() -> Broker {
        Broker::start_secure_with("")
    }

    /// As [`Broker::start_secure`], with `properties` as [`Broker::start`] has them.
    pub fn start_secure_with(more: &str) -> Broker {
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                    user_pelton=\"plain-secret\";";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let properties = format!(
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config={jaas}\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}\n\
             ssl.keystore.type=PKCS12\n\
             ssl.keystore.password=changeit\n\
             ssl.key.password=changeit\n{more}"
        );
        Broker::start_at(free_port(), None, Some(free_port()), &properties)
    }

    /// What clients of [`Broker::start_secure`] trust.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("broker.pem")
    }

    pub fn secure_servers(&self) -> String {
        format!("localhost:{}", self.secure.expect("it listens with TLS"))
    }

    /// A key and its certificate for `localhost`.
    fn make_key(directory: &Path) {
        let store = directory.join("broker.p12");
        let keytool = |args: &[&str]| {
            let done = Command::new("keytool")
                .args(args)
                .args(["-alias", "broker", "-storepass", "changeit", "-keystore"])
                .arg(&store)
                .output()
                .expect("keytool comes with Java");
            assert!(done.status.success(), "{done:?}");
            done.stdout
        };
        keytool(&[
            "-genkeypair",
            "-keyalg",
            "RSA",
            "-dname",
            "CN=localhost",
            "-ext",
            "SAN=dns:localhost",
            "-storetype",
            "PKCS12",
        ]);
        let certificate = keytool(&["-exportcert", "-rfc"]);
        std::fs::write(directory.join("broker.pem"), certificate).expect("it can be written");
    }

    /// One whose clients all come through a proxy. A transaction that timed out is ended at once.
    pub fn start_behind() -> (Broker, Proxy) {
        let quick = "transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n";
        Broker::start_behind_with(quick)
    }

    /// As [`Broker::start_behind`], with `properties` as [`Broker::start`] has them.
    pub fn start_behind_with(properties: &str) -> (Broker, Proxy) {
        let (proxy, listener) = Proxy::listen();
        let port = free_port();
        proxy.serve(listener, port);
        (Broker::start_at(port, Some(proxy.port), None, properties), proxy)
    }

    /// Three that replicate everything, so that leaders and coordinators can move, each behind a proxy.
    pub fn start_three() -> Vec<(Broker, Proxy)> {
        let controllers: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let make = |node| {
            let (proxy, listener) = Proxy::listen();
            let port = free_port();
            proxy.serve(listener, port);
            let place = Place { host: HOST, port, advertised: Some(proxy.port), secure: None };
            let properties = "default.replication.factor=3\n";
            (Broker::make(&place, (node, &controllers), properties), proxy)
        };
        let brokers: Vec<_> = (0..3).map(make).collect();
        // None of them is ready without another.
        brokers.iter().for_each(|(broker, _)| broker.launch());
        brokers.iter().for_each(|(broker, _)| broker.wait_until_ready());
        brokers
    }

    fn start_at(
        port: u16,
        advertised: Option<u16>,
        secure: Option<u16>,
        properties: &str,
    ) -> Broker {
        let place = Place { host: HOST, port, advertised, secure };
        let broker = Broker::make(&place, (0, &[free_port()]), properties);
        broker.restart();
        broker
    }

    /// One that tells its clients an IPv6 address; `None` where there are none.
    pub fn start_on_ipv6() -> Option<Broker> {
        let listener = TcpListener::bind("[::1]:0").ok()?;
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let place = Place { host: "[::1]", port, advertised: None, secure: None };
        let broker = Broker::make(&place, (0, &[free_port()]), "");
        broker.restart();
        Some(broker)
    }

    /// One of another version of Kafka; why there is none.
    pub fn start_version(version: &'static str) -> Result<Broker, String> {
        let out = with_version(Some(version)).arg("classpath").output();
        let out = out.expect("the script can be run");
        match out.status.code() {
            Some(0) => {}
            Some(UNAVAILABLE) => {
                return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
            }
            _ => panic!("tests/kafka classpath: {out:?}"),
        }
        let place = Place { host: HOST, port: free_port(), advertised: None, secure: None };
        let mut broker = Broker::make(&place, (0, &[free_port()]), "");
        broker.version = Some(version);
        broker.restart();
        Ok(broker)
    }

    /// Node number `node` (from 0 on) of those whose controllers listen at these ports; not started.
    fn make(place: &Place, (node, controllers): (usize, &[u16]), properties: &str) -> Broker {
        let Place { host, port, advertised, secure } = *place;
        let shown = advertised.unwrap_or(port);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (id, controller, replicas) = (node + 1, controllers[node], controllers.len());
        let isr = replicas.div_ceil(2);
        let voters: Vec<String> = controllers
            .iter()
            .zip(1..)
            .map(|(controller, id)| format!("{id}@127.0.0.1:{controller}"))
            .collect();
        let voters = voters.join(",");
        let log = directory.path().join("log");
        let (mut tls, mut tls_shown, mut keystore) = (String::new(), String::new(), String::new());
        if let Some(secure) = secure {
            Broker::make_key(directory.path());
            tls = format!(",SASL_SSL://127.0.0.1:{secure}");
            tls_shown = format!(",SASL_SSL://localhost:{secure}");
            let store = directory.path().join("broker.p12");
            keystore = format!("ssl.keystore.location={}\n", store.display());
        }
        std::fs::create_dir(&log).expect("a directory can be made");
        let text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}{tls}\n\
             advertised.listeners=PLAINTEXT://{host}:{shown}{tls_shown}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
             log.dirs={log}\n\
             num.partitions=2\n\
             min.insync.replicas={isr}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=2\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={isr}\n\
             transaction.state.log.num.partitions=2\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={isr}\n\
             group.initial.rebalance.delay.ms=0\n\
             {keystore}{properties}",
            log = log.display(),
        );
        std::fs::write(directory.path().join("server.properties"), text)
            .expect("it can be written");
        Broker { host, port: shown, secure, version: None, directory, process: Mutex::new(None) }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().expect("no holder panics")
    }

    /// Starts it on its old log, after [`Broker::kill`].
    pub fn restart(&self) {
        self.launch();
        self.wait_until_ready();
    }

    fn launch(&self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("broker.txt"))
            .expect("a file can be made");
        let mut child = with_version(self.version)
            .arg("run")
            .arg(self.directory.path().join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the script can be run");
        let stdin = child.stdin.take().expect("piped");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a pipe can be read");
        let broker = line.trim().parse();
        let broker = broker.unwrap_or_else(|_| panic!("no broker started\n{}", self.said()));
        *self.process() = Some(Process { child, _stdin: stdin, broker });
    }

    fn wait_until_ready(&self) {
        let begun = Instant::now();
        while TcpStream::connect(self.servers()).is_err() || !self.is_ready() {
            assert!(begun.elapsed() < PATIENCE, "the broker does not answer\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Another client gets an answer about topics.
    fn is_ready(&self) -> bool {
        let client: BaseProducer = self.config().create().expect("a client can be made");
        client.client().fetch_metadata(None, Duration::from_secs(2)).is_ok()
    }

    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.directory.path().join("broker.txt"));
        said.unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(process) = self.process().take() {
            self.signal_to(process.broker, "-KILL");
            process.end();
        }
    }

    /// Cuts the last part of a partition's records away, as a disk that lost its last writes. The
    /// broker must not run.
    pub fn cut_back(&self, topic: &str, partition: i32) {
        assert!(self.process().is_none(), "the broker has its log open");
        let name = format!("log/{topic}-{partition}/00000000000000000000.log");
        let log = std::fs::File::options().write(true).open(self.directory.path().join(name));
        let log = log.expect("the partition has a log");
        let bytes = log.metadata().expect("a file has a size").len();
        log.set_len(bytes / 2).expect("it can be cut");
    }

    /// Its process, for whoever kills it in a moment of its own choice and tells [`Broker::fell`].
    pub fn process_id(&self) -> i32 {
        self.process().as_ref().expect("the broker runs").broker
    }

    /// Somebody else kills it: waits until that is done.
    pub fn fell(&self) {
        let Some(process) = self.process().take() else { return };
        // Of a process that has ended and was not waited for the kernel tells no command.
        let command = format!("/proc/{}/cmdline", process.broker);
        let begun = Instant::now();
        while std::fs::read(&command).is_ok_and(|command| !command.is_empty()) {
            assert!(begun.elapsed() < PATIENCE, "the broker was not killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        process.end();
    }

    /// `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) {
        let broker = self.process().as_ref().expect("the broker runs").broker;
        self.signal_to(broker, signal);
    }

    fn signal_to(&self, broker: i32, signal: &str) {
        // Its process id is its own: the script, which is its parent, waits for it at its end only.
        let done = Command::new("kill").args([signal, &broker.to_string()]).status();
        assert!(done.expect("kill is a command").success());
    }

    /// `host:port`.
    pub fn servers(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Of librdkafka.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers()).set("log_level", "0");
        config
    }

    /// Runs one of Kafka's own tools with something on its standard input; what it printed.
    ///
    /// Panics where it fails.
    pub fn tool(&self, class: &str, args: &[&str], input: &str) -> String {
        let mut child = Command::new(script())
            .args(["tool", class, "--bootstrap-server", &self.servers()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the script can be run");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("the tool reads its input");
        drop(stdin);
        let out = child.wait_with_output().expect("a child can be waited for");
        assert!(out.status.success(), "{class} {args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Where each partition of a topic ends for a reader.
    pub fn ends(&self, topic: &str, isolation: &str) -> Vec<i64> {
        let mut config = self.config();
        config.set("group.id", "tests-reader").set("isolation.level", isolation);
        let reader: BaseConsumer = config.create().expect("a consumer can be made");
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let partitions = 0..metadata.topics()[0].partitions().len() as i32;
        let end = |partition| {
            let ends = reader.fetch_watermarks(topic, partition, PATIENCE);
            ends.expect("the broker answers").1
        };
        partitions.map(end).collect()
    }

    /// The node that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> i32 {
        let client: BaseProducer = self.config().create().expect("a client can be made");
        let metadata = client.client().fetch_metadata(Some(topic), PATIENCE);
        metadata.expect("the broker answers").topics()[0].partitions()[partition].leader()
    }

    /// The values of a topic as a reader sees them now, by partition and offset.
    pub fn read(&self, topic: &str, isolation: &str) -> Vec<String> {
        let mut config = self.config();
        config
            .set("group.id", "tests-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        let reader: BaseConsumer = config.create().expect("a consumer can be made");
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let partitions = metadata.topics()[0].partitions().len() as i32;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
        }
        reader.assign(&list).expect("it can be assigned");
        let (mut read, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
        while ended.len() < partitions as usize {
            match reader.poll(PATIENCE).expect("a message or the end comes") {
                Ok(message) => {
                    let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                    read.push((message.partition(), message.offset(), value.into_owned()));
                }
                Err(KafkaError::PartitionEOF(partition)) => _ = ended.insert(partition),
                Err(error) => panic!("{topic}: {error}"),
            }
        }
        read.sort();
        read.into_iter().map(|(.., value)| value).collect()
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    pub fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        use rdkafka::admin::{NewTopic, TopicReplication};
        let topic = settings.iter().fold(
            NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)),
            |topic, (key, value)| topic.set(key, value),
        );
        let made = self.admin(|admin, options| admin.create_topics([&topic], options));
        made[0].as_ref().expect("the topic can be made");
    }

    pub fn delete_topic(&self, topic: &str) {
        let gone = self.admin(|admin, options| admin.delete_topics(&[topic], options));
        gone[0].as_ref().expect("the topic can be deleted");
    }

    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let more = rdkafka::admin::NewPartitions::new(topic, partitions);
        let made = self.admin(|admin, options| admin.create_partitions([&more], options));
        made[0].as_ref().expect("partitions can be added");
    }

    /// Takes the right to write to these topics from everybody; the broker is one of [`AUTHORIZED`].
    pub fn deny_writing(&self, topics: &[&str]) {
        let topics: Vec<&str> = topics.iter().flat_map(|&topic| ["--topic", topic]).collect();
        let acl = |what: &[&str]| {
            let args = [&["--add"], what, &topics].concat();
            self.tool("org.apache.kafka.tools.AclCommand", &args, "");
        };
        acl(&["--allow-principal", "User:*", "--operation", "All"]);
        acl(&["--deny-principal", "User:*", "--operation", "Write"]);
    }

    /// Waits for an operation of librdkafka's admin client.
    fn admin<T, F>(
        &self,
        run: impl for<'a> FnOnce(
            &'a rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext>,
            &'a rdkafka::admin::AdminOptions,
        ) -> F,
    ) -> T
    where
        F: Future<Output = rdkafka::error::KafkaResult<T>>,
    {
        let admin = self.config().create().expect("a client can be made");
        let options = rdkafka::admin::AdminOptions::new()
            .operation_timeout(Some(Duration::from_secs(30)))
            .request_timeout(Some(Duration::from_secs(30)));
        block_on(run(&admin, &options)).expect("the broker answers")
    }

    /// Sends messages, each as (partition, key, value), and waits until they are there.
    pub fn send(&self, topic: &str, settings: &[(&str, &str)], messages: &[Sent<'_>]) {
        let mut config = self.config();
        settings.iter().for_each(|(key, value)| _ = config.set(*key, *value));
        let producer: BaseProducer = config.create().expect("a producer can be made");
        send_with(&producer, topic, messages);
        producer.flush(PATIENCE).expect("the messages arrive");
    }

    /// A transaction with messages, committed or aborted.
    pub fn send_transaction(&self, topic: &str, messages: &[Sent<'_>], commits: bool) {
        let mut config = self.config();
        config.set("transactional.id", format!("tests-{topic}"));
        let producer: BaseProducer = config.create().expect("a producer can be made");
        producer.init_transactions(PATIENCE).expect("the coordinator answers");
        producer.begin_transaction().expect("it begins");
        send_with(&producer, topic, messages);
        producer.flush(PATIENCE).expect("the messages arrive");
        match commits {
            true => producer.commit_transaction(PATIENCE).expect("it is committed"),
            false => producer.abort_transaction(PATIENCE).expect("it is aborted"),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = self.process().take() {
            process.end();
        }
    }
}

/// A message to a partition.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub partition: i32,
    pub key: Option<&'a str>,
    pub value: Option<&'a str>,
}

impl<'a> Sent<'a> {
    pub fn to(partition: i32, value: &'a str) -> Sent<'a> {
        Sent { partition, key: None, value: Some(value) }
    }
}

pub fn send_with(producer: &BaseProducer, topic: &str, messages: &[Sent<'_>]) {
    for message in messages {
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(topic).partition(message.partition);
        record.key = message.key;
        record.payload = message.value;
        while let Err((error, back)) = producer.send(record) {
            let full = rdkafka::types::RDKafkaErrorCode::QueueFull;
            assert_eq!(error.rdkafka_error_code(), Some(full), "{error}");
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
