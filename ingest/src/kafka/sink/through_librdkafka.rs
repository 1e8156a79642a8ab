//! An epoch as a transaction of librdkafka's producer: with TLS, SASL, compression, and on clusters
//! that have no transactions v2.
//!
//! Invariant: that of [`super::transaction`]. A producer is kept only if nothing disturbed it, as a
//! request that was sent twice could end a later transaction.

use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::KafkaSink as Spec;
use pelton_engine::sink::Outcome;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::messages::Messages;
use super::transaction::TRANSACTION_TIMEOUT;
use super::watch::Watch;
use super::{config, refused};

/// Sending an epoch, and its end, each.
const TIMEOUT: Duration = Duration::from_secs(15);
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// A commit that took longer may have been sent twice within librdkafka.
const SURELY_ONCE: Duration = Duration::from_secs(8);
/// Between two looks at what was delivered: librdkafka's wrapper waits out whatever time it is given.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What happened during a commit is told by then.
const TOLD_AFTER: Duration = Duration::from_millis(10);

pub struct Librdkafka(BaseProducer<Watch>);

/// A message: its topic, whose partition 0 it goes to, its key and its value.
type Mark<'a> = (&'a str, &'a [u8], &'a [u8]);

impl Librdkafka {
    /// Fences every other producer of the job; why there is none.
    pub fn make(spec: &Spec, job: &str) -> Result<std::result::Result<Librdkafka, String>> {
        let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
        let mut config = config(spec)?;
        config
            .set("transactional.id", job)
            .set("transaction.timeout.ms", &timeout)
            .set("message.timeout.ms", &timeout);
        let producer: BaseProducer<Watch> =
            config.create_with_context(Watch::default()).map_err(refused)?;
        let made = producer.init_transactions(INIT_TIMEOUT);
        Ok(made.map(|()| Librdkafka(producer)).map_err(|error| error.to_string()))
    }

    /// No connection was lost since its last transaction.
    pub fn is_quiet(&self) -> bool {
        self.0.poll(Duration::ZERO);
        self.0.context().is_quiet()
    }

    /// One transaction; what became of it, why, and the producer if it may go on.
    ///
    /// Errors: as [`super::transaction::Transactions::commit`].
    pub fn commit<'a>(
        self,
        staged: impl Iterator<Item = &'a Messages>,
        mark: Mark<'_>,
        epoch: u64,
    ) -> Result<(Outcome, String, Option<Librdkafka>)> {
        let producer = &self.0;
        producer.context().begin();
        let begun = Instant::now();
        let (outcome, why) = transact(producer, staged, mark, epoch)?;
        // Serves what librdkafka has to tell: lost connections come behind deliveries.
        producer.poll(TOLD_AFTER);
        let sure = producer.context().is_quiet() && begun.elapsed() < SURELY_ONCE;
        Ok((outcome, why, sure.then_some(self)))
    }
}

/// One transaction; what became of it, and why.
fn transact<'a>(
    producer: &BaseProducer<Watch>,
    staged: impl Iterator<Item = &'a Messages>,
    (topic, key, value): Mark<'_>,
    epoch: u64,
) -> Result<(Outcome, String)> {
    if let Err(error) = producer.begin_transaction() {
        return Ok((not_or_fenced(&error), error.to_string()));
    }
    let sent = send(producer, staged, TIMEOUT).and_then(|()| {
        let record = BaseRecord::to(topic).partition(0).key(key).payload(value);
        producer.send(record).map_err(|(error, _)| error.to_string())?;
        flush(producer, TIMEOUT)
    });
    let watch = producer.context();
    let sent = sent.and_then(|()| watch.failed().map_or(Ok(()), Err));
    if let Err(mut why) = sent {
        // Why librdkafka gave the transaction up it tells whoever asks for the next one.
        if let Err(error) = producer.begin_transaction()
            && matches!(&error, KafkaError::Transaction(facts) if facts.txn_requires_abort())
        {
            watch.fail(&error);
            why = watch.failed().unwrap_or(why);
        }
        // Nobody has asked for a commit yet, so it is surely not one.
        let aborted = producer.abort_transaction(TIMEOUT);
        if let Some(permanent) = watch.permanent() {
            return Err(Error::failed(format!("cannot send epoch {epoch}: {permanent}")));
        }
        let fenced = watch.fenced() || aborted.is_err_and(|error| is_fenced(&error));
        return Ok((if fenced { Outcome::Fenced } else { Outcome::Not }, why));
    }
    Ok(end(producer))
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
                producer.poll(LOOK_EVERY);
                record = back;
            }
        }
        producer.poll(Duration::ZERO);
    }
    Ok(())
}

/// Waits until everything is delivered, or has failed.
pub fn flush(producer: &BaseProducer<Watch>, timeout: Duration) -> std::result::Result<(), String> {
    let begun = Instant::now();
    while producer.in_flight_count() > 0 {
        // Asks librdkafka not to linger.
        let flushed = producer.flush(Duration::ZERO);
        if begun.elapsed() > timeout {
            return flushed.map_err(|error| error.to_string());
        }
        producer.poll(LOOK_EVERY);
    }
    Ok(())
}
