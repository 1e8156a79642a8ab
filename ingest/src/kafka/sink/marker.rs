//! The marker: one record that says which epoch of a job was the last, in a compacted topic.
//!
//! Asked through our own client, or through librdkafka where that has to be ([`Reader`]).
//!
//! Invariant: what [`Reader::read`] answers was the newest of all that were committed before it was asked; a
//! transaction that is still open before the topic's end is waited for.

use std::time::{Duration, Instant};

use futures_executor::block_on;
use pelton_engine::job::spec::{KafkaClient, KafkaSink as Spec};
use pelton_engine::sink::Committed;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::kafka::secret;

mod native;
mod stable;

use stable::{Ends, Stretch};

/// Of one question.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A transaction of another job may keep readers from the topic's end for its time-out.
const PATIENCE: Duration = Duration::from_secs(60);
/// Markers are looked for from the end backwards in steps of this.
const AT_ONCE: i64 = 2_000;

type Answer<T> = std::result::Result<T, String>;

/// Who asks for the markers of a job.
pub struct Reader<'a> {
    pub spec: &'a Spec,
    pub job: &'a str,
}

/// What a marker record says; its key is the transactional id.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    job: String,
    epoch: u64,
    /// In hex.
    manifest_hash: String,
}

impl Mark {
    pub fn of(job: &str, checkpoint: &Committed) -> Vec<u8> {
        let mark = Mark {
            job: job.to_owned(),
            epoch: checkpoint.epoch,
            manifest_hash: format!("{:032x}", checkpoint.manifest_hash),
        };
        serde_json::to_vec(&mark).expect("a marker is plain data")
    }

    fn committed(&self) -> Answer<Committed> {
        let hash = u128::from_str_radix(&self.manifest_hash, 16);
        let manifest_hash = hash.map_err(|_| format!("a marker of {} is damaged", self.job))?;
        Ok(Committed { epoch: self.epoch, manifest_hash })
    }
}

impl Reader<'_> {
    /// Makes the topic of markers where it is missing: compacted, small segments.
    pub fn make_topic(&self) -> Answer<()> {
        match self.spec.client {
            KafkaClient::Native if native::is_there(self.spec) => Ok(()),
            _ => make_topic(self.spec),
        }
    }

    /// What to do about a transaction that does not end in one of these topics, through librdkafka.
    pub fn open_transaction(&self, topics: &[&str]) -> Answer<Option<String>> {
        Ends::new(self.spec, self.job)?.open_transaction(topics)
    }

    /// The newest marker of the job, of all that were committed before now.
    pub fn read(&self) -> Answer<Option<Committed>> {
        let mark = match self.spec.client {
            KafkaClient::Native => native::read(self.spec, self.job)?,
            KafkaClient::Librdkafka => read(self.spec, self.job)?,
        };
        mark.map(|mark| mark.committed()).transpose()
    }
}

fn make_topic(spec: &Spec) -> Answer<()> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(spec)?.create().map_err(|error| error.to_string())?;
    // All of them: asked for by its name a broker might make it, with settings of its own.
    let found = admin.inner().fetch_metadata(None, TIMEOUT);
    let found = found.map_err(|error| error.to_string())?;
    if found.topics().iter().any(|topic| topic.name() == spec.commits_topic) {
        return Ok(());
    }
    let topic = NewTopic::new(&spec.commits_topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "600000")
        .set("min.cleanable.dirty.ratio", "0.1");
    let options =
        AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let made = block_on(admin.create_topics([&topic], &options));
    match made.map_err(|error| error.to_string())?.as_slice() {
        [Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))] => Ok(()),
        [Err((topic, error))] => Err(format!("topic \"{topic}\" cannot be made: {error}")),
        other => Err(format!("topic \"{}\": {other:?}", spec.commits_topic)),
    }
}

fn read(spec: &Spec, job: &str) -> Answer<Option<Mark>> {
    let topic = spec.commits_topic.as_str();
    let ends = Ends::new(spec, job)?;
    let settled = ends.settle(topic, 0, PATIENCE)?;
    let Stretch { least, end } = settled.map_err(|stable| does_not_end(topic, stable))?;
    let mut from = end;
    while from > least {
        let until = from;
        from = (from - AT_ONCE).max(least);
        if let Some(mark) = newest((spec, job), &ends.committed, from, until)? {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

/// Another job's, as a rule: ours was ended before.
fn does_not_end(topic: &str, stable: i64) -> String {
    format!(
        "a transaction in {topic}/0 does not end, and no marker behind offset {stable} can be read; see whose \
         it is with `kafka-transactions.sh describe-producers --topic {topic} --partition 0`: a start of that \
         job ends it"
    )
}

/// The last marker of a job in a stretch of offsets.
fn newest(
    (spec, job): (&Spec, &str),
    reader: &BaseConsumer,
    from: i64,
    until: i64,
) -> Answer<Option<Mark>> {
    let text = |error: KafkaError| error.to_string();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&spec.commits_topic, 0, Offset::Offset(from)).map_err(text)?;
    reader.assign(&list).map_err(text)?;
    let (begun, mut newest) = (Instant::now(), None);
    loop {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.offset() >= until => return Ok(newest),
            Some(Ok(message)) => {
                if message.key() == Some(job.as_bytes())
                    && let Some(value) = message.payload()
                {
                    let mark = serde_json::from_slice(value);
                    newest = Some(mark.map_err(|e| format!("a marker cannot be read: {e}"))?);
                }
            }
            // All that is committed was read.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(newest),
            Some(Err(error)) => return Err(error.to_string()),
            None if begun.elapsed() > PATIENCE => {
                return Err("the markers cannot be read".to_owned());
            }
            None => {}
        }
    }
}

/// The sink's cluster, for a client that sends nothing.
fn client_config(spec: &Spec) -> Answer<rdkafka::ClientConfig> {
    let mut config = rdkafka::ClientConfig::new();
    let general = |key: &str| {
        ["security.", "sasl.", "ssl.", "socket.", "broker."].iter().any(|p| key.starts_with(p))
    };
    let properties = secret::revealed(&spec.properties).map_err(|error| error.to_string())?;
    for (key, value) in properties.into_iter().filter(|(key, _)| general(key)) {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", spec.bootstrap_servers.join(","))
        .set("client.id", crate::kafka::connection::CLIENT_ID)
        .set("log_level", "0");
    Ok(config)
}
