//! The producer of a job's transactions, and the marker that says which epoch was the last.
//!
//! Order: `init_transactions` fences every other producer of the job, then the marker is read, then an
//! epoch's transaction holds its rows and its marker. Whatever goes wrong on the way costs the
//! producer: librdkafka has no transactions v2 (KIP-890), so a request of it that is still on its way
//! could end a later transaction; a new producer's epoch fences that, too (F17).
//!
//! Invariant: `Committed` and `Not` are said only when they are sure. A producer that was made anew in
//! a running job commits only if the marker is the one that this process wrote last: else another
//! process has gone on, and the answer is `Fenced`.

use std::time::{Duration, Instant};

use futures_executor::block_on;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::KafkaSink as Spec;
use pelton_engine::sink::{Committed, Outcome};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::messages::Messages;
use super::watch::Watch;
use super::{config, refused};
use crate::runtime::say;

/// An aborted leftover never blocks readers longer (SEMANTICS 8).
const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// Sending an epoch, and its end, each.
const TIMEOUT: Duration = Duration::from_secs(15);
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// A transaction of another job may keep readers from the topic's end for its time-out.
const MARKER_PATIENCE: Duration = Duration::from_secs(60);
/// Markers are looked for from the end backwards in steps of this.
const MARKERS: i64 = 2_000;
/// A commit that took longer may have been sent twice within librdkafka.
const SURELY_ONCE: Duration = Duration::from_secs(8);

pub struct Transactions {
    job: String,
    spec: Spec,
    producer: Option<BaseProducer<Watch>>,
    /// What each sink of the job has staged.
    staged: Vec<Messages>,
    /// The marker as this process knows it.
    last: Option<Committed>,
    trouble_told: bool,
}

/// What a marker record says; its key is the transactional id.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    job: String,
    epoch: u64,
    /// In hex.
    manifest_hash: String,
}

impl Transactions {
    /// Touches nothing yet. `spec`: of the sink that decides.
    pub fn new(job: &str, spec: &Spec) -> Transactions {
        Transactions {
            job: job.to_owned(),
            spec: spec.clone(),
            producer: None,
            staged: Vec::new(),
            last: None,
            trouble_told: false,
        }
    }

    /// Another sink takes part; its number.
    pub fn join(&mut self) -> usize {
        self.staged.push(Messages::default());
        self.staged.len() - 1
    }

    pub fn staged(&mut self, number: usize, topic: &str) -> &mut Messages {
        let messages = &mut self.staged[number];
        if messages.topic.is_empty() {
            *messages = Messages::to(topic);
        }
        messages
    }

    pub fn last(&self) -> Option<Committed> {
        self.last.clone()
    }

    /// Fences every other producer of the job; then the last epoch that was committed is sure.
    ///
    /// Errors: `Unavailable` where the cluster cannot be asked.
    pub fn marker(&mut self) -> Result<Option<Committed>> {
        let away = |what: String| Error::Unavailable {
            what: format!("Kafka at {}: {what}", self.spec.bootstrap_servers.join(",")),
            fix: "start the broker, or look at the sink's `bootstrap_servers` and rights".into(),
        };
        self.producer = None;
        let made = self.make()?;
        let (producer, last) = made.map_err(away)?;
        (self.producer, self.last) = (Some(producer), last);
        Ok(self.last.clone())
    }

    /// A producer that has fenced all others, and the marker; why there is none.
    #[expect(clippy::type_complexity, reason = "two kinds of failure, as commit needs them")]
    fn make(
        &self,
    ) -> Result<std::result::Result<(BaseProducer<Watch>, Option<Committed>), String>> {
        let mut config = config(&self.spec);
        config
            .set("transactional.id", &self.job)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("message.timeout.ms", TRANSACTION_TIMEOUT_MS);
        let producer: BaseProducer<Watch> =
            config.create_with_context(Watch::default()).map_err(refused)?;
        let made = self.make_topic().and_then(|()| {
            producer.init_transactions(INIT_TIMEOUT).map_err(|error| error.to_string())?;
            self.read_marker()
        });
        Ok(made.map(|last| (producer, last)))
    }

    /// Makes the topic of markers where it is missing: compacted, small segments.
    fn make_topic(&self) -> std::result::Result<(), String> {
        let admin: AdminClient<DefaultClientContext> =
            client_config(&self.spec).create().map_err(|error| error.to_string())?;
        // All of them: asked for by its name a broker might make it, with settings of its own.
        let found = admin.inner().fetch_metadata(None, TIMEOUT);
        let found = found.map_err(|error| error.to_string())?;
        if found.topics().iter().any(|topic| topic.name() == self.spec.commits_topic) {
            return Ok(());
        }
        let topic = NewTopic::new(&self.spec.commits_topic, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact")
            .set("segment.ms", "600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        let options =
            AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let made = block_on(admin.create_topics([&topic], &options));
        match made.map_err(|error| error.to_string())?.as_slice() {
            [Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))] => Ok(()),
            [Err((topic, error))] => Err(format!("topic \"{topic}\" cannot be made: {error}")),
            other => Err(format!("topic \"{}\": {other:?}", self.spec.commits_topic)),
        }
    }

    /// The newest marker of this job, of all that were committed before now.
    fn read_marker(&self) -> std::result::Result<Option<Committed>, String> {
        let topic = self.spec.commits_topic.as_str();
        let reader = |isolation: &str| -> std::result::Result<BaseConsumer, String> {
            let mut config = client_config(&self.spec);
            config
                .set("group.id", &self.job)
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "error")
                .set("check.crcs", "true")
                .set("enable.partition.eof", "true")
                .set("isolation.level", isolation);
            config.create().map_err(|error| error.to_string())
        };
        let ends = |reader: &BaseConsumer| {
            reader.fetch_watermarks(topic, 0, TIMEOUT).map_err(|error| error.to_string())
        };
        let (least, end) = ends(&reader("read_uncommitted")?)?;
        let committed = reader("read_committed")?;
        let begun = Instant::now();
        while ends(&committed)?.1 < end {
            if begun.elapsed() > MARKER_PATIENCE {
                return Err(format!("a transaction in topic \"{topic}\" does not end"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut from = end;
        while from > least {
            let until = from;
            from = (from - MARKERS).max(least);
            if let Some(mark) = self.newest_mark(&committed, from, until)? {
                let hash = u128::from_str_radix(&mark.manifest_hash, 16);
                let manifest_hash =
                    hash.map_err(|_| format!("a marker of {} is damaged", self.job))?;
                return Ok(Some(Committed { epoch: mark.epoch, manifest_hash }));
            }
        }
        Ok(None)
    }

    /// The last marker of this job in a stretch of offsets.
    fn newest_mark(
        &self,
        reader: &BaseConsumer,
        from: i64,
        until: i64,
    ) -> std::result::Result<Option<Mark>, String> {
        let text = |error: KafkaError| error.to_string();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.spec.commits_topic, 0, Offset::Offset(from))
            .map_err(text)?;
        reader.assign(&list).map_err(text)?;
        let (begun, mut newest) = (Instant::now(), None);
        loop {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.offset() >= until => return Ok(newest),
                Some(Ok(message)) => {
                    if message.key() == Some(self.job.as_bytes())
                        && let Some(value) = message.payload()
                    {
                        let mark = serde_json::from_slice(value);
                        newest = Some(mark.map_err(|e| format!("a marker cannot be read: {e}"))?);
                    }
                }
                // All that is committed was read.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(newest),
                Some(Err(error)) => return Err(error.to_string()),
                None if begun.elapsed() > MARKER_PATIENCE => {
                    return Err("the markers cannot be read".to_owned());
                }
                None => {}
            }
        }
    }

    /// Sends what is staged and the marker as one transaction.
    ///
    /// Errors: `Failed` where the cluster refuses the rows for good (too large, not authorised).
    pub fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => match self.make()? {
                Err(why) => return Ok(self.not_now(&why)),
                Ok((_, last)) if last != self.last => return Ok(Outcome::Fenced),
                Ok((producer, _)) => producer,
            },
        };
        producer.context().begin();
        let begun = Instant::now();
        let (outcome, why) = self.transact(&producer, checkpoint)?;
        // Serves what librdkafka has to tell.
        producer.poll(Duration::ZERO);
        let sure = producer.context().is_quiet() && begun.elapsed() < SURELY_ONCE;
        match outcome {
            Outcome::Committed => {
                self.last = Some(checkpoint.clone());
                self.staged.iter_mut().for_each(Messages::clear);
                if std::mem::take(&mut self.trouble_told) {
                    say("Kafka takes transactions again");
                }
                if sure {
                    self.producer = Some(producer);
                }
                Ok(outcome)
            }
            Outcome::Not => Ok(self.not_now(&why)),
            Outcome::Unknown => {
                say(&format!(
                    "whether epoch {} is committed is not known: {why}",
                    checkpoint.epoch
                ));
                Ok(outcome)
            }
            Outcome::Fenced => Ok(outcome),
        }
    }

    fn not_now(&mut self, why: &str) -> Outcome {
        if !std::mem::replace(&mut self.trouble_told, true) {
            say(&format!("the transaction did not come about: {why}; trying again"));
        }
        Outcome::Not
    }

    /// One transaction; what became of it, and why.
    fn transact(
        &self,
        producer: &BaseProducer<Watch>,
        checkpoint: &Committed,
    ) -> Result<(Outcome, String)> {
        if let Err(error) = producer.begin_transaction() {
            return Ok((not_or_fenced(&error), error.to_string()));
        }
        let mark = Mark {
            job: self.job.clone(),
            epoch: checkpoint.epoch,
            manifest_hash: format!("{:032x}", checkpoint.manifest_hash),
        };
        let mark = serde_json::to_vec(&mark).expect("a marker is plain data");
        let sent = send(producer, self.staged.iter(), TIMEOUT).and_then(|()| {
            let record = BaseRecord::to(&self.spec.commits_topic)
                .partition(0)
                .key(self.job.as_bytes())
                .payload(&mark);
            producer.send(record).map_err(|(error, _)| error.to_string())?;
            producer.flush(TIMEOUT).map_err(|error| error.to_string())
        });
        let watch = producer.context();
        let sent = sent.and_then(|()| watch.failed().map_or(Ok(()), Err));
        if let Err(why) = sent {
            // Nobody has asked for a commit yet, so it is surely not one.
            let aborted = producer.abort_transaction(TIMEOUT);
            if let Some(permanent) = watch.permanent() {
                return Err(Error::failed(format!(
                    "cannot send epoch {}: {permanent}",
                    checkpoint.epoch
                )));
            }
            let fenced = watch.fenced() || aborted.is_err_and(|error| is_fenced(&error));
            return Ok((if fenced { Outcome::Fenced } else { Outcome::Not }, why));
        }
        Ok(end(producer))
    }
}

/// Commits; from the first request on only its answer, or that of an abort, makes the outcome sure.
fn end(producer: &BaseProducer<Watch>) -> (Outcome, String) {
    let begun = Instant::now();
    loop {
        let error = match producer.commit_transaction(TIMEOUT) {
            Ok(()) => return (Outcome::Committed, String::new()),
            Err(error) => error,
        };
        let why = error.to_string();
        if is_fenced(&error) {
            return (Outcome::Fenced, why);
        }
        let KafkaError::Transaction(facts) = &error else { return (Outcome::Unknown, why) };
        if facts.txn_requires_abort() {
            // The coordinator takes an abort only of a transaction that is not committed.
            return match producer.abort_transaction(TIMEOUT) {
                Ok(()) => (Outcome::Not, why),
                Err(error) if is_fenced(&error) => (Outcome::Fenced, why),
                Err(_) => (Outcome::Unknown, why),
            };
        }
        if !facts.is_retriable() || begun.elapsed() > 2 * TIMEOUT {
            return (Outcome::Unknown, why);
        }
    }
}

fn not_or_fenced(error: &KafkaError) -> Outcome {
    if is_fenced(error) { Outcome::Fenced } else { Outcome::Not }
}

fn is_fenced(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_fenced_code)
}

pub fn is_fenced_code(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Fenced | ProducerFenced | InvalidProducerEpoch)
}

/// Hands messages to librdkafka, waiting for room in its queue.
pub fn send<'a>(
    producer: &BaseProducer<Watch>,
    all: impl Iterator<Item = &'a Messages>,
    timeout: Duration,
) -> std::result::Result<(), String> {
    let begun = Instant::now();
    for messages in all {
        for (key, value) in messages.iter() {
            let mut record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&messages.topic).payload(value);
            record.key = key;
            while let Err((error, back)) = producer.send(record) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || begun.elapsed() > timeout || producer.context().failed().is_some() {
                    producer.context().fail(&error);
                    return Err(error.to_string());
                }
                producer.poll(Duration::from_millis(5));
                record = back;
            }
        }
        producer.poll(Duration::ZERO);
    }
    Ok(())
}

/// The sink's cluster, for a client that sends nothing.
fn client_config(spec: &Spec) -> rdkafka::ClientConfig {
    let mut config = rdkafka::ClientConfig::new();
    let general = |key: &str| {
        ["security.", "sasl.", "ssl.", "socket.", "broker."].iter().any(|p| key.starts_with(p))
    };
    for (key, value) in spec.properties.iter().filter(|(key, _)| general(key)) {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", spec.bootstrap_servers.join(","))
        .set("client.id", super::super::connection::CLIENT_ID)
        .set("log_level", "0");
    config
}
