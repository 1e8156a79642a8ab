//! The transactions of a job: who may commit an epoch, and what became of it.
//!
//! Order: a new producer fences every other producer of the job, then the marker is read, then an epoch's
//! transaction holds its rows and its marker. Our own producer sends it ([`super::producer`]) or
//! librdkafka ([`super::through_librdkafka`]). Whatever goes wrong on the way costs the producer:
//! librdkafka has no transactions v2 (KIP-890), so a request of it that is still on its way could end a
//! later transaction; a new producer's epoch fences that, too (F17).
//!
//! Invariant: `Committed` and `Not` are said only when they are sure. A producer that was made anew in
//! a running job commits only if the marker is the one that this process wrote last: else another
//! process has gone on, and the answer is `Fenced`.

use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{KafkaClient, KafkaSink as Spec, Setting};
use pelton_engine::seeded::{self, Bug};
use pelton_engine::sink::{Committed, Outcome};

use super::marker::{Mark, Reader};
use super::messages::Messages;
use super::producer::{Before, Failure, NativeProducer, NotMade, Purpose};
use super::through_librdkafka::Librdkafka;
use crate::kafka::secret;
use crate::runtime::say;

/// An aborted leftover never blocks readers longer (SEMANTICS 8).
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// A transaction that took so long may have met its time-out, which looks like a fence.
const MAYBE_TIMED_OUT: Duration = Duration::from_secs(12);
/// What failed is tried again after this at the earliest.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Transactions {
    job: String,
    spec: Spec,
    producer: Option<Producer>,
    /// The job says so, or the cluster has no transactions v2.
    needs_librdkafka: bool,
    /// The topic of markers is there: nobody waits for a broker that is away to say so.
    has_topic: bool,
    /// A topic takes no larger batches.
    batch_bytes_max: usize,
    /// What each sink of the job has staged.
    staged: Vec<Messages>,
    /// The marker as this process knows it.
    last: Option<Committed>,
    /// What was sent, and may be committed: the marker will say.
    doubtful: Option<Committed>,
    /// What the coordinator said of the last transaction, while its partitions are not known to have been told.
    before: Before,
    trouble_told: bool,
}

enum Producer {
    Native(Box<NativeProducer>),
    Librdkafka(Librdkafka),
}

impl Producer {
    /// Nothing has happened between transactions that only a new producer would look into.
    fn is_sound(&self) -> bool {
        match self {
            Producer::Native(producer) => !producer.is_stale(),
            Producer::Librdkafka(producer) => producer.is_quiet(),
        }
    }
}

/// Our own client can look, without TLS and SASL.
fn is_open(properties: &[(String, Setting)]) -> bool {
    let secured = |(key, value): &(String, Setting)| match value {
        Setting::Plain(value) if key == "security.protocol" => {
            !value.eq_ignore_ascii_case("plaintext")
        }
        _ => ["security.", "sasl.", "ssl."].iter().any(|prefix| key.starts_with(prefix)),
    };
    !properties.iter().any(secured)
}

impl Transactions {
    /// Touches nothing yet. `spec`: of the sink that decides.
    pub fn new(job: &str, spec: &Spec) -> Transactions {
        Transactions {
            job: job.to_owned(),
            spec: spec.clone(),
            producer: None,
            needs_librdkafka: spec.client == KafkaClient::Librdkafka,
            has_topic: false,
            batch_bytes_max: usize::MAX,
            staged: Vec::new(),
            last: None,
            doubtful: None,
            before: Before::default(),
            trouble_told: false,
        }
    }

    /// Another sink takes part, with a topic of its own; its number.
    pub fn join(&mut self, topic: &str) -> usize {
        self.staged.push(Messages::to(topic));
        self.staged.len() - 1
    }

    pub fn staged(&mut self, number: usize) -> &mut Messages {
        &mut self.staged[number]
    }

    pub fn last(&self) -> Option<Committed> {
        self.last.clone()
    }

    /// Fences every other producer of the job; then the last epoch that was committed is sure.
    ///
    /// Errors: `Unavailable` where the cluster cannot be asked.
    pub fn marker(&mut self) -> Result<Option<Committed>> {
        let away = |servers: &[String], what: String| Error::Unavailable {
            what: format!("Kafka at {}: {what}", servers.join(",")),
            fix: "start the broker, or look at the sink's `bootstrap_servers` and rights".into(),
        };
        self.producer = None;
        let made = self.make()?;
        let (producer, last) = made.map_err(|what| away(&self.spec.bootstrap_servers, what))?;
        (self.producer, self.last) = (Some(producer), last);
        let doubtful = self.doubtful.take();
        if doubtful.is_some() && doubtful == self.last {
            // It was committed: its rows must not go with the next epoch.
            self.staged.iter_mut().for_each(Messages::clear);
        }
        Ok(self.last.clone())
    }

    /// A producer that has fenced all others, and the marker; why there is none.
    fn make(&mut self) -> Result<std::result::Result<(Producer, Option<Committed>), String>> {
        // A secret that is missing is the job's fault, not the cluster's.
        secret::revealed(&self.spec.properties)?;
        if !self.has_topic
            && let Err(why) = self.marks().make_topic()
        {
            return Ok(Err(why));
        }
        self.has_topic = true;
        let native = match is_open(&self.spec.properties) {
            true => self.make_native(),
            false => Err(NotMade::Unsupported),
        };
        let producer = match native {
            Ok(Some(native)) => Ok(Producer::Native(native)),
            Ok(None) => self.make_other(true)?,
            Err(NotMade::Unsupported) => self.make_other(false)?,
            Err(NotMade::Trouble(why)) => Err(why),
            Err(NotMade::Hanging(why)) => return Err(Error::failed(why)),
        };
        let producer = match producer {
            Ok(producer) => producer,
            Err(why) => return Ok(Err(why)),
        };
        let read = self.marks().read();
        // It may have gone; then it is made anew.
        self.has_topic = read.is_ok();
        Ok(read.map(|last| (producer, last)))
    }

    /// librdkafka's producer. It shows that something is open, not whose: where our own client could look,
    /// nothing that `is_cleared` hangs any more.
    fn make_other(&mut self, is_cleared: bool) -> Result<std::result::Result<Producer, String>> {
        self.needs_librdkafka = true;
        let producer = match Librdkafka::make(&self.spec, &self.job)? {
            Ok(producer) => Producer::Librdkafka(producer),
            Err(why) => return Ok(Err(why)),
        };
        if is_cleared {
            return Ok(Ok(producer));
        }
        match self.marks().open_transaction(&self.topics()) {
            Ok(None) => Ok(Ok(producer)),
            Ok(Some(why)) => Err(Error::failed(why)),
            Err(why) => Ok(Err(why)),
        }
    }

    fn make_native(&mut self) -> std::result::Result<Option<Box<NativeProducer>>, NotMade> {
        let mut before = std::mem::take(&mut self.before);
        let purpose = Purpose {
            sends: !self.needs_librdkafka,
            servers: &self.spec.bootstrap_servers,
            transactional_id: self.transactional_id(),
            timeout_ms: TRANSACTION_TIMEOUT.as_millis() as i32,
            batch_bytes_max: self.batch_bytes_max,
            discover_interval: self.spec.discover_interval,
            topics: self.topics(),
        };
        let made = NativeProducer::make(&purpose, &mut before);
        self.before = before;
        made
    }

    /// All that a transaction writes to.
    fn topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = self.staged.iter().map(|of| of.topic.as_str()).collect();
        topics.push(&self.spec.commits_topic);
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Sends what is staged and the marker as one transaction.
    ///
    /// Errors: `Failed` where the cluster refuses the rows for good (too large, not authorised).
    pub fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome> {
        let producer = match self.producer.take().filter(Producer::is_sound) {
            Some(producer) => producer,
            None => match self.make()? {
                Err(why) => return Ok(self.not_now(&why)),
                Ok((_, last)) if last != self.last => return Ok(Outcome::Fenced),
                Ok((producer, _)) => producer,
            },
        };
        let begun = Instant::now();
        let (outcome, why, producer) = match producer {
            Producer::Native(producer) => self.commit_natively(producer, checkpoint)?,
            Producer::Librdkafka(producer) => {
                let mark = Mark::of(&self.job, checkpoint);
                let mark = (self.spec.commits_topic.as_str(), self.job.as_bytes(), &mark[..]);
                let (outcome, why, producer) =
                    producer.commit(self.staged.iter(), mark, checkpoint.epoch)?;
                (outcome, why, producer.map(Producer::Librdkafka))
            }
        };
        match outcome {
            Outcome::Committed => {
                self.last = Some(checkpoint.clone());
                self.staged.iter_mut().for_each(Messages::clear);
                if std::mem::take(&mut self.trouble_told) {
                    say("Kafka takes transactions again");
                }
                self.producer = producer;
                Ok(outcome)
            }
            Outcome::Not => Ok(self.not_now(&why)),
            Outcome::Unknown => {
                self.doubt(checkpoint, &why);
                Ok(outcome)
            }
            Outcome::Fenced if begun.elapsed() >= MAYBE_TIMED_OUT => {
                self.timed_out_or_fenced(checkpoint, &why)
            }
            Outcome::Fenced => Ok(outcome),
        }
    }

    fn commit_natively(
        &mut self,
        mut producer: Box<NativeProducer>,
        checkpoint: &Committed,
    ) -> Result<(Outcome, String, Option<Producer>)> {
        let mark = Mark::of(&self.job, checkpoint);
        let mark = (self.spec.commits_topic.as_str(), self.job.as_bytes(), &mark[..]);
        match producer.send(self.staged.iter(), mark) {
            Ok(()) => {}
            Err(Failure::Trouble(why)) => return Ok((Outcome::Not, why, None)),
            Err(Failure::Hanging(why)) => return Err(Error::failed(why)),
            Err(Failure::TooLarge(why)) => {
                // The messages are sent again, fewer of them together.
                self.batch_bytes_max = producer.batch_bytes() / 4;
                return Ok((Outcome::Not, why, None));
            }
            Err(Failure::Fenced(why)) => return Ok((Outcome::Fenced, why, None)),
            Err(Failure::Permanent(why)) => {
                producer.abort();
                let what = format!("cannot send epoch {}: {why}", checkpoint.epoch);
                return Err(Error::failed(what));
            }
        }
        let (outcome, why) = producer.commit();
        Ok((outcome, why, Some(Producer::Native(producer))))
    }

    /// A coordinator that ends a transaction for its time-out (this process was stopped, or its network)
    /// fences the producer as another process would (F18). Whether there is another one, its marker
    /// says; that is read without fencing anybody.
    fn timed_out_or_fenced(&mut self, checkpoint: &Committed, why: &str) -> Result<Outcome> {
        match self.marks().read() {
            Ok(last) if last == self.last || last.as_ref() == Some(checkpoint) => {
                self.doubt(checkpoint, &format!("its transaction took too long: {why}"));
                Ok(Outcome::Unknown)
            }
            Ok(_) => Ok(Outcome::Fenced),
            Err(why) => {
                self.doubt(checkpoint, &why);
                Ok(Outcome::Unknown)
            }
        }
    }

    /// The job's name: so that whoever runs it fences all others who do.
    fn transactional_id(&self) -> String {
        match seeded::is(Bug::TransactionsUnfenced) {
            true => format!("{}-{}", self.job, std::process::id()),
            false => self.job.clone(),
        }
    }

    fn marks(&self) -> Reader<'_> {
        Reader { spec: &self.spec, job: &self.job }
    }

    fn doubt(&mut self, checkpoint: &Committed, why: &str) {
        self.doubtful = Some(checkpoint.clone());
        say(&format!("whether epoch {} is committed is not known: {why}", checkpoint.epoch));
    }

    fn not_now(&mut self, why: &str) -> Outcome {
        if !std::mem::replace(&mut self.trouble_told, true) {
            say(&format!("the transaction did not come about: {why}; trying again"));
        }
        std::thread::sleep(PAUSE);
        Outcome::Not
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_client_looks_wherever_it_can() {
        let plain = |value: &str| Setting::Plain(value.to_owned());
        for (key, setting, expected) in [
            ("compression.type", plain("lz4"), true),
            ("security.protocol", plain("PLAINTEXT"), true),
            ("security.protocol", plain("SSL"), false),
            ("security.protocol", Setting::Env("PROTOCOL".to_owned()), false),
            ("sasl.mechanism", plain("PLAIN"), false),
            ("ssl.ca.location", plain("ca.pem"), false),
        ] {
            assert_eq!(is_open(&[(key.to_owned(), setting)]), expected, "{key}");
        }
        assert!(is_open(&[]));
    }
}
