//! Rows as messages: one Kafka transaction an epoch, or at least once.
//!
//! All exactly-once Kafka sinks of a job share one producer ([`transaction`]): the first of them decides
//! when an epoch is committed, the rows of the others are in the same transaction. What was staged is
//! held until it is acknowledged, so a commit that failed for sure is repeated with the same bytes.
//!
//! Invariant: a read_committed reader sees an epoch once and whole, with its marker (SEMANTICS 8).

mod batch;
mod marker;
mod messages;
mod producer;
mod through_librdkafka;
mod transaction;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::KafkaSink as Spec;
use pelton_engine::sink::{Committed, Decides, Outcome, Restored, Sink, Staged};
use rdkafka::ClientConfig;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::Producer as _;

use super::secret;
use crate::runtime::say;
use messages::{Encoder, Messages};
use through_librdkafka::{flush, send};
pub use transaction::Transactions;
use watch::Watch;

/// librdkafka's bound on the time between two looks for partitions.
const DISCOVER_MS_MAX: u128 = 3_600_000;
/// An attempt to send an epoch's rows at least once takes this long at most.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// librdkafka as a job's sink needs it. Defaults of clients are not trusted (SEMANTICS 7).
///
/// Errors: `BadJob` where a secret is not where the job says.
fn config(spec: &Spec) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    let discover_ms = spec.discover_interval.as_millis().min(DISCOVER_MS_MAX);
    config.set("topic.metadata.refresh.interval.ms", discover_ms.to_string());
    for (key, value) in secret::revealed(&spec.properties)? {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", spec.bootstrap_servers.join(","))
        .set("client.id", super::connection::CLIENT_ID)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Info)
        .set("socket.timeout.ms", "10000")
        // Bounds of memory beside the rows that are held (10x overload, slow brokers).
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.messages", "500000")
        .set("batch.size", "1000000")
        // As Kafka's own producer, and ours.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "2");
    Ok(config)
}

/// One sink of the transaction that all share.
pub struct Transactional {
    number: usize,
    encoder: Encoder,
    shared: Arc<Mutex<Transactions>>,
}

impl Transactional {
    /// `shared`: the producer of the job. The first sink that joins it decides.
    ///
    /// Errors: `BadJob` where the key is no column of the rows.
    pub fn new(
        spec: &Spec,
        schema: &SchemaRef,
        shared: Arc<Mutex<Transactions>>,
    ) -> Result<Transactional> {
        let encoder = Encoder::new(spec, schema)?;
        let number = shared.lock().expect("no holder panics").join(&spec.topic);
        Ok(Transactional { number, encoder, shared })
    }

    fn shared(&self) -> MutexGuard<'_, Transactions> {
        self.shared.lock().expect("no holder panics")
    }
}

impl Sink for Transactional {
    fn marker(&mut self) -> Result<Decides> {
        match self.number {
            0 => Ok(Decides::Output(self.shared().marker()?)),
            _ => Ok(Decides::Manifest),
        }
    }

    fn open(&mut self, _restored: Option<&Restored>) -> Result<Option<Committed>> {
        Ok(self.shared().last())
    }

    fn stage(&mut self, _epoch: u64, rows: &RecordBatch) -> Result<()> {
        let mut shared = self.shared.lock().expect("no holder panics");
        self.encoder.encode(rows, shared.staged(self.number))
    }

    fn seal(&mut self, _epoch: u64) -> Result<Staged> {
        Ok(Staged::default())
    }

    fn discard(&mut self) -> Result<()> {
        let mut shared = self.shared.lock().expect("no holder panics");
        shared.staged(self.number).clear();
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome> {
        match self.number {
            0 => self.shared().commit(checkpoint),
            // Its rows were in the transaction that made this a commit.
            _ => Ok(Outcome::Committed),
        }
    }

    fn bytes_held(&self) -> usize {
        self.shared().staged(self.number).bytes_held()
    }
}

/// Sends rows before the checkpoint counts them: after a crash some come twice, none is lost.
pub struct AtLeastOnce {
    spec: Spec,
    encoder: Encoder,
    messages: Messages,
    producer: Option<BaseProducer<Watch>>,
    stopping: fn() -> bool,
}

impl AtLeastOnce {
    /// `stopping`: whether to give up waiting for a broker that is away.
    ///
    /// Errors: as [`Transactional::new`].
    pub fn new(spec: Spec, schema: &SchemaRef, stopping: fn() -> bool) -> Result<AtLeastOnce> {
        let encoder = Encoder::new(&spec, schema)?;
        let messages = Messages::to(&spec.topic);
        Ok(AtLeastOnce { spec, encoder, messages, producer: None, stopping })
    }

    /// Sends all that is staged; why not.
    fn send(&mut self) -> Result<std::result::Result<(), String>> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                let mut config = config(&self.spec)?;
                config.set("message.timeout.ms", "15000");
                config.create_with_context(Watch::default()).map_err(refused)?
            }
        };
        let sent = send(&producer, [&self.messages].into_iter(), SEND_TIMEOUT)
            .and_then(|()| flush(&producer, SEND_TIMEOUT));
        let watch = producer.context();
        if let Some(permanent) = watch.permanent() {
            return Err(Error::failed(format!(
                "cannot send to topic \"{}\": {permanent}",
                self.spec.topic
            )));
        }
        let outcome = sent.and_then(|()| watch.failed().map_or(Ok(()), Err));
        if outcome.is_ok() {
            self.producer = Some(producer);
        }
        Ok(outcome)
    }
}

/// A configuration that librdkafka does not take.
fn refused(error: rdkafka::error::KafkaError) -> Error {
    Error::BadJob {
        rendered: format!("the Kafka sink cannot be made: {error}\n   = look at its `properties`"),
    }
}

impl Sink for AtLeastOnce {
    fn marker(&mut self) -> Result<Decides> {
        Ok(Decides::Manifest)
    }

    fn open(&mut self, _restored: Option<&Restored>) -> Result<Option<Committed>> {
        Ok(None)
    }

    fn stage(&mut self, _epoch: u64, rows: &RecordBatch) -> Result<()> {
        self.encoder.encode(rows, &mut self.messages)
    }

    fn seal(&mut self, epoch: u64) -> Result<Staged> {
        let mut told = false;
        while let Err(why) = self.send()? {
            if (self.stopping)() {
                let topic = &self.spec.topic;
                return Err(Error::failed(format!(
                    "epoch {epoch} was not sent to topic \"{topic}\": {why}; the next start sends it"
                )));
            }
            if !std::mem::replace(&mut told, true) {
                say(&format!("cannot send to topic \"{}\": {why}; trying again", self.spec.topic));
            }
        }
        self.discard()?;
        Ok(Staged::default())
    }

    fn discard(&mut self) -> Result<()> {
        self.messages.clear();
        Ok(())
    }

    fn commit(&mut self, _checkpoint: &Committed) -> Result<Outcome> {
        Ok(Outcome::Committed)
    }

    fn bytes_held(&self) -> usize {
        self.messages.bytes_held()
    }
}
