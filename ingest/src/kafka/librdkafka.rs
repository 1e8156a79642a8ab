//! Partitions through librdkafka, for what our own client does not do: TLS and SASL.
//!
//! The same chunks come out as of [`super::native`], a message at a time and so many times slower.
//! librdkafka itself connects, finds leaders and compares leaders' epochs; it has no topic ids, so a
//! topic that was deleted and made anew is seen by its offsets only. Client defaults are not trusted:
//! CRCs are checked, nothing is committed behind our back, an offset that is gone is an error.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::KafkaSource;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::chunk::{CHUNK_BYTES, Chunk};
use super::native::gone;
use super::{Client, Reply, SplitStart, Standing, secret};
use crate::ring::poll;
use crate::runtime::say;

/// librdkafka's queues tell nobody who waits in `poll`: they are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A consumer's configuration; the job's own settings first, ours over them.
///
/// Errors: `BadJob` where a secret is not where the job says.
pub fn config(source: &KafkaSource, group: &str) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (key, value) in secret::revealed(&source.properties)? {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", source.bootstrap_servers.join(","))
        .set("client.id", super::connection::CLIENT_ID)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("log_level", "0");
    Ok(config)
}

/// What librdkafka logs is told by its errors, too; secrets could be in the log.
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        say(&format!("librdkafka: {error}: {reason}"));
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Quiet {}

pub struct Librdkafka {
    consumer: Arc<BaseConsumer<Quiet>>,
    splits: Vec<Split>,
    replies: Receiver<Reply>,
    woken: UnixStream,
    arrived: Vec<SplitStart>,
    turn: usize,
}

struct Split {
    start: SplitStart,
    queue: Option<PartitionQueue<Quiet>>,
    position: i64,
    /// Since when all that is committed was read.
    empty_since: Option<Instant>,
}

impl Split {
    fn ended(&self) -> bool {
        self.start.end.is_some_and(|end| self.position >= end)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.start.topic, self.start.partition)
    }
}

impl Librdkafka {
    /// Errors: `BadJob` where librdkafka does not take the job's `properties`.
    pub fn new(
        (source, group): (&KafkaSource, &str),
        splits: Vec<SplitStart>,
        replies: Receiver<Reply>,
        woken: UnixStream,
        fetch_bytes: usize,
    ) -> Result<Librdkafka> {
        let mut config = config(source, group)?;
        // Its queue is memory beside ours: as much as one answer of our own client.
        config.set("queued.max.messages.kbytes", (fetch_bytes >> 10).to_string());
        let consumer = config.create_with_context(Quiet).map_err(|error| Error::BadJob {
            rendered: format!("librdkafka refuses the source: {error}\n   = look at `properties`"),
        })?;
        let mut client = Librdkafka {
            consumer: Arc::new(consumer),
            splits: Vec::new(),
            replies,
            woken,
            arrived: Vec::new(),
            turn: 0,
        };
        client.add(splits)?;
        Ok(client)
    }

    /// Assigns what was assigned before, where it stands, and these.
    fn add(&mut self, starts: Vec<SplitStart>) -> Result<()> {
        for start in starts {
            self.arrived.push(start.clone());
            let position = start.offset;
            self.splits.push(Split { start, queue: None, position, empty_since: None });
        }
        if self.splits.is_empty() {
            return Ok(());
        }
        let failed =
            |error: KafkaError| Error::failed(format!("cannot assign partitions: {error}"));
        let mut list = TopicPartitionList::new();
        for Split { start, position, .. } in &self.splits {
            let offset = Offset::Offset(*position);
            list.add_partition_offset(&start.topic, start.partition, offset).map_err(failed)?;
        }
        self.splits.iter_mut().for_each(|split| split.queue = None);
        self.consumer.assign(&list).map_err(failed)?;
        for split in &mut self.splits {
            let Split { start, .. } = split;
            split.queue = self.consumer.split_partition_queue(&start.topic, start.partition);
        }
        Ok(())
    }

    /// What is no message: the end for now, an error that passes, one that does not.
    fn hear(split: &mut Split, error: KafkaError) -> Result<()> {
        if let KafkaError::PartitionEOF(_) = error {
            split.empty_since.get_or_insert_with(Instant::now);
            if let Some(end) = split.start.end {
                // Behind the last message there may be records that are handed to nobody.
                split.position = split.position.max(end);
            }
            return Ok(());
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                let why = "the broker has no such offset (any more)";
                Err(gone(&split.name(), split.position, why))
            }
            Some(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::LogTruncation
                | RDKafkaErrorCode::UnknownPartition),
            ) => Err(gone(&split.name(), split.position, &code.to_string())),
            _ => {
                say(&format!("{}: {error}", split.name()));
                Ok(())
            }
        }
    }
}

impl Client for Librdkafka {
    fn turn(&mut self, timeout: Duration, read: bool) -> Result<()> {
        while let Ok(reply) = self.replies.try_recv() {
            if let Reply::Arrived(split) = reply {
                self.add(vec![split])?;
            }
        }
        // Messages come through the partitions' queues; what is left here are callbacks.
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            say(&format!("librdkafka: {error}"));
        }
        if timeout.is_zero() {
            return Ok(());
        }
        let timeout = if read { timeout.min(LOOK_EVERY) } else { timeout };
        let mut ready = Vec::new();
        poll::readable(&[self.woken.as_fd()], Some(timeout), &mut ready)
            .map_err(|error| Error::failed(format!("cannot wait: {error}")))?;
        if ready[0] {
            // What was written says only that something is to be looked at.
            _ = (&self.woken).read(&mut [0; 64]);
        }
        Ok(())
    }

    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool> {
        let count = self.splits.len();
        for at in (0..count).map(|at| (self.turn + at) % count) {
            let split = &mut self.splits[at];
            (chunk.split, chunk.leader_epoch) = (split.start.split, -1);
            let from = split.position;
            while chunk.bytes.len() < CHUNK_BYTES && !split.ended() {
                let queue = split.queue.as_ref().expect("every split is assigned");
                let message = match queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(message)) => message,
                    Some(Err(error)) => {
                        Self::hear(split, error)?;
                        continue;
                    }
                };
                let offset = message.offset();
                if split.start.end.is_some_and(|end| offset >= end) {
                    split.position = offset;
                    break;
                }
                if let Some(value) = message.payload() {
                    if let (Some(into), Some(headers)) = (chunk.headers(), message.headers()) {
                        headers
                            .iter()
                            .for_each(|header| into.push(header.key.as_bytes(), header.value));
                    }
                    chunk.push(offset, value);
                    let timestamp = message.timestamp().to_millis();
                    chunk.note(timestamp.unwrap_or(-1), message.key());
                }
                split.position = offset + 1;
                split.empty_since = None;
            }
            if split.ended() {
                split.position = split.start.end.unwrap_or(split.position);
            }
            chunk.next = split.position;
            if split.position > from {
                self.turn = (at + 1) % count;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn arrivals(&mut self) -> Vec<SplitStart> {
        std::mem::take(&mut self.arrived)
    }

    fn standing(&self, split: usize) -> Standing {
        let split = self.splits.iter().find(|s| s.start.split == split);
        let split = split.expect("the split is of this core");
        let ended = split.ended();
        let caught_up = ended || split.empty_since.is_some();
        Standing { caught_up, ended, empty_since: split.empty_since }
    }

    fn bytes_held(&self) -> usize {
        // librdkafka's queues are bounded by their configuration, and counted by nobody.
        0
    }
}
