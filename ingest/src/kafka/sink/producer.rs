//! Our own transactional producer, for clusters with transactions v2 (KIP-890, Kafka 4.0).
//!
//! An epoch is a few Produce requests, which themselves tell the coordinator of their partitions, and one
//! EndTxn, which gives the next transaction another epoch: whatever of an earlier one is still on its
//! way is refused by it. Batches are sent as they fill, a few requests under way to each leader; a
//! partition's second batch waits for the answer to its first, which the coordinator may put off.
//!
//! Invariant: nothing is repeated of which it is not sure that it did not happen. What a broker refuses
//! before anyone asked for a commit is [`Failure::Trouble`]; a lost answer to EndTxn is `Unknown`. Lacks
//! TLS, SASL and compression: librdkafka has them. What hangs ([`hanging`]) is ended here for both.

mod failure;
mod hanging;
mod making;
mod questions;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{EndTxnRequest, ProduceRequest, ProducerId, TopicName};
use pelton_engine::sink::Outcome;

use super::batch::{Builder, Stamp, partition_of};
use super::messages::Messages;
use crate::kafka::cluster::{Cluster, Control, Topic};
use crate::kafka::connection::Connection;
pub use failure::Failure;
use failure::{is_fenced, is_put_off, no_leader, refused};
use hanging::EPOCH_LAST;
pub use hanging::Ended;
pub use making::{NotMade, Purpose};
pub use questions::{Before, patient_topic};
use questions::{Dialect, named, text};

/// Produce tells the coordinator of new partitions from this version on; 13 knows topics by id.
const PRODUCE: i16 = 12;
/// EndTxn gives the next epoch from this version on, that of transactions v2.
const END_TXN: i16 = 5;
/// Kafka's default of the largest batch is 1 MiB, its header included.
const BATCH_BYTES: usize = 900 << 10;
/// So much in one request at the most, of many partitions: a broker takes no request of more than 100 MiB
/// (`socket.request.max.bytes`), and ends the connection of one that does not fit.
const REQUEST_BYTES: usize = 8 << 20;
/// Messages without a key change their partition after this much: large batches, and several leaders
/// and readers at work on a large epoch.
const RUN_BYTES: usize = 256 << 10;
/// A broker keeps the order of five requests of one producer (KIP-98).
const UNDER_WAY_MAX: usize = 4;
/// Nothing comes after a transaction of so long: its time-out is over (SEMANTICS 8).
const PATIENCE: Duration = Duration::from_secs(15);
/// What a coordinator is busy with takes milliseconds.
const AGAIN_FIRST: Duration = Duration::from_millis(1);
const AGAIN_LAST: Duration = Duration::from_millis(100);
/// Brokers close connections that nobody used for ten minutes; those of so long are made anew before.
const IDLE: Duration = Duration::from_secs(240);
/// A leader that is none yet takes less; else it is another.
const JUST_MADE: Duration = Duration::from_secs(1);
/// The broker answers a Produce after this time, replicated or not.
const REPLICATION_MS: i32 = 9_000;

type Sent<T> = Result<T, Failure>;

pub struct NativeProducer {
    transactional_id: String,
    cluster: Cluster,
    coordinator: Connection,
    dialect: Dialect,
    id: i64,
    epoch: i16,
    /// As they were then.
    topics: BTreeMap<String, (Topic, Instant)>,
    discover_interval: Duration,
    links: BTreeMap<i32, Link>,
    /// Batches are at most this large.
    batch_bytes: usize,
    /// Where messages without a key go now.
    turn: usize,
    used: Instant,
}

/// A leader, and what it was sent and has not answered.
struct Link {
    connection: Connection,
    under_way: VecDeque<Vec<Batch>>,
}

/// A batch on its way; kept until it is acknowledged.
struct Batch {
    /// Its place in [`Transaction::partitions`].
    partition: usize,
    bytes: Vec<u8>,
    records: i32,
}

/// A partition in a transaction.
struct Partition {
    topic: String,
    index: i32,
    leader: i32,
    builder: Builder,
    sequence: i32,
    /// The broker has acknowledged a batch.
    begun: bool,
}

#[derive(Default)]
struct Transaction {
    partitions: Vec<Partition>,
    /// By topic, then by index.
    places: BTreeMap<String, Vec<usize>>,
}

impl NativeProducer {
    /// Nobody used it for so long that its connections may be gone, and with them the word that a
    /// broker was; or it has no epochs left.
    pub fn is_stale(&self) -> bool {
        self.used.elapsed() > IDLE || self.epoch >= EPOCH_LAST
    }

    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Sends all messages, and one more to partition 0 of a topic of its own.
    ///
    /// Errors: nothing of it was committed, or will be.
    pub fn send<'a>(
        &mut self,
        all: impl Iterator<Item = &'a Messages>,
        (topic, key, value): (&str, &[u8], &[u8]),
    ) -> Sent<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut transaction = Transaction::default();
        self.topics.retain(|_, (_, since)| since.elapsed() < self.discover_interval);
        for messages in all {
            self.send_to(messages, &mut transaction, deadline)?;
        }
        // Once for all topics: two of them with two partitions would each stay at one of these.
        self.turn = self.turn.wrapping_add(1);
        let places = self.places(topic, false, &mut transaction)?;
        transaction.partitions[places[0]].builder.push(Some(key), value);
        self.ship_rest(&mut transaction, deadline)?;
        let nodes: Vec<i32> = self.links.keys().copied().collect();
        for node in nodes {
            while !self.links[&node].under_way.is_empty() {
                self.settle(node, &mut transaction, deadline)?;
            }
        }
        Ok(())
    }

    fn send_to(
        &mut self,
        messages: &Messages,
        transaction: &mut Transaction,
        deadline: Instant,
    ) -> Sent<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let places = self.places(&messages.topic, true, transaction)?;
        let mut run = 0;
        for (key, value) in messages.iter() {
            let at = match key {
                Some(key) => places[partition_of(key, places.len())],
                None => {
                    if run > RUN_BYTES {
                        self.turn = self.turn.wrapping_add(1);
                        run = 0;
                    }
                    run += value.len();
                    places[self.turn % places.len()]
                }
            };
            let builder = &transaction.partitions[at].builder;
            let size = key.map_or(0, <[u8]>::len) + value.len();
            if !builder.is_empty() && builder.size() + size > self.batch_bytes {
                let batch = self.seal(at, transaction);
                self.ship(transaction.partitions[at].leader, vec![batch], transaction, deadline)?;
            }
            transaction.partitions[at].builder.push(key, value);
        }
        Ok(())
    }

    /// Asks the coordinator to commit. From the request on only an answer makes the outcome sure.
    pub fn commit(&mut self) -> (Outcome, String) {
        self.finish(true)
    }

    /// Asks the coordinator to end the transaction; `Committed`: it did as it was asked.
    fn finish(&mut self, committed: bool) -> (Outcome, String) {
        let (begun, mut pause) = (Instant::now(), AGAIN_FIRST);
        loop {
            let (error, why) = match self.end(committed) {
                Ok(None) => return (Outcome::Committed, String::new()),
                Ok(Some(error)) => (error, error.to_string()),
                Err(error) => return (Outcome::Unknown, error.to_string()),
            };
            let is_put_off = match error {
                _ if is_fenced(error) => return (Outcome::Fenced, why),
                ResponseError::ConcurrentTransactions
                | ResponseError::CoordinatorLoadInProgress => true,
                // Also of one that has moved, and may have acted on this before: the marker will say.
                _ => false,
            };
            if !is_put_off || begun.elapsed() > PATIENCE {
                return (Outcome::Unknown, why);
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(AGAIN_LAST);
        }
    }

    /// Best effort: an open transaction would keep readers waiting for its time-out.
    pub fn abort(mut self) {
        _ = self.end(false);
    }

    fn end(&mut self, committed: bool) -> io::Result<Option<ResponseError>> {
        self.ask_end(committed)?;
        self.hear_end()
    }

    fn ask_end(&mut self, committed: bool) -> io::Result<()> {
        let ask = EndTxnRequest::default()
            .with_transactional_id(named(&self.transactional_id))
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        self.coordinator.send(&ask, self.dialect.end_txn)
    }

    fn hear_end(&mut self) -> io::Result<Option<ResponseError>> {
        let answer = self.coordinator.receive::<EndTxnRequest>(self.dialect.end_txn)?;
        let error = ResponseError::try_from_code(answer.error_code);
        if error.is_none() && self.dialect.is_v2 {
            self.used = Instant::now();
            (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
        }
        Ok(error)
    }

    /// The places of a topic's partitions in the transaction. `makes`: brokers may make the topic.
    fn places(
        &mut self,
        name: &str,
        makes: bool,
        transaction: &mut Transaction,
    ) -> Sent<Vec<usize>> {
        if let Some(places) = transaction.places.get(name) {
            return Ok(places.clone());
        }
        let topic = match self.topics.get(name) {
            Some((topic, _)) => topic.clone(),
            None => {
                let topic = patient_topic(&mut self.cluster, name, makes)?;
                self.topics.insert(name.to_owned(), (topic.clone(), Instant::now()));
                topic
            }
        };
        let first = transaction.partitions.len();
        transaction.partitions.extend(topic.partitions.iter().zip(0..).map(|(leader, index)| {
            Partition {
                topic: name.to_owned(),
                index,
                leader: leader.node,
                builder: Builder::default(),
                sequence: 0,
                begun: false,
            }
        }));
        let places: Vec<usize> = (first..transaction.partitions.len()).collect();
        transaction.places.insert(name.to_owned(), places.clone());
        Ok(places)
    }

    fn seal(&self, at: usize, transaction: &mut Transaction) -> Batch {
        let partition = &mut transaction.partitions[at];
        let records = partition.builder.count();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = Stamp {
            producer: self.id,
            epoch: self.epoch,
            sequence: partition.sequence,
            timestamp_ms: now.as_millis() as i64,
        };
        partition.sequence += records;
        Batch { partition: at, bytes: partition.builder.seal(stamp), records }
    }

    /// Sends what is left in builders, in few requests to each leader.
    fn ship_rest(&mut self, transaction: &mut Transaction, deadline: Instant) -> Sent<()> {
        let mut by_leader: BTreeMap<i32, (usize, Vec<Batch>)> = BTreeMap::new();
        for at in 0..transaction.partitions.len() {
            let partition = &transaction.partitions[at];
            if partition.builder.is_empty() {
                continue;
            }
            let leader = partition.leader;
            let batch = self.seal(at, transaction);
            let (bytes, batches) = by_leader.entry(leader).or_default();
            if *bytes + batch.bytes.len() > REQUEST_BYTES && !batches.is_empty() {
                let full = std::mem::take(batches);
                *bytes = 0;
                self.ship(leader, full, transaction, deadline)?;
            }
            *bytes += batch.bytes.len();
            batches.push(batch);
        }
        for (leader, (_, batches)) in by_leader {
            self.ship(leader, batches, transaction, deadline)?;
        }
        Ok(())
    }

    /// Sends batches of different partitions in one request.
    fn ship(
        &mut self,
        node: i32,
        batches: Vec<Batch>,
        transaction: &mut Transaction,
        deadline: Instant,
    ) -> Sent<()> {
        if !self.links.contains_key(&node) {
            let address = self.cluster.address(node);
            let address = address.ok_or_else(|| no_leader(&batches, transaction))?;
            let connection = Connection::open(&address)?;
            self.links.insert(node, Link { connection, under_way: VecDeque::new() });
        }
        loop {
            let under_way = &self.links[&node].under_way;
            let waits = |batch: &Batch| {
                let is_first = !transaction.partitions[batch.partition].begun;
                let same = |other: &Batch| other.partition == batch.partition;
                is_first && under_way.iter().flatten().any(same)
            };
            if under_way.len() < UNDER_WAY_MAX && !batches.iter().any(waits) {
                break;
            }
            self.settle(node, transaction, deadline)?;
        }
        self.request(node, batches, transaction)
    }

    fn request(
        &mut self,
        node: i32,
        mut batches: Vec<Batch>,
        transaction: &Transaction,
    ) -> Sent<()> {
        let topics = batches.iter_mut().map(|batch| {
            let partition = &transaction.partitions[batch.partition];
            // Lent to the request, and taken back when it is written.
            let data = PartitionProduceData::default()
                .with_index(partition.index)
                .with_records(Some(std::mem::take(&mut batch.bytes).into()));
            TopicProduceData::default()
                .with_name(TopicName(text(&partition.topic)))
                .with_partition_data(vec![data])
        });
        let ask = ProduceRequest::default()
            .with_transactional_id(Some(named(&self.transactional_id)))
            .with_acks(-1)
            .with_timeout_ms(REPLICATION_MS)
            .with_topic_data(topics.collect());
        let link = self.links.get_mut(&node).expect("the caller has connected");
        link.connection.send(&ask, PRODUCE)?;
        for (batch, topic) in batches.iter_mut().zip(ask.topic_data) {
            let data = topic.partition_data.into_iter().next().expect("it has one");
            batch.bytes = data.records.map(Vec::from).unwrap_or_default();
        }
        link.under_way.push_back(batches);
        Ok(())
    }

    /// Takes the next answer of a leader. What the coordinator has put off is sent again.
    fn settle(&mut self, node: i32, transaction: &mut Transaction, deadline: Instant) -> Sent<()> {
        let link = self.links.get_mut(&node).expect("a request is under way");
        let mut batches = link.under_way.pop_front().expect("a request is under way");
        let answer = link.connection.receive::<ProduceRequest>(PRODUCE)?;
        for topic in &answer.responses {
            for answered in &topic.partition_responses {
                let is_it = |batch: &Batch| {
                    let partition = &transaction.partitions[batch.partition];
                    partition.topic == topic.name.0.as_str() && partition.index == answered.index
                };
                let at = batches.iter().position(is_it);
                let at = at.ok_or_else(|| Failure::Trouble("an answer fits no request".into()))?;
                let partition = &mut transaction.partitions[batches[at].partition];
                match ResponseError::try_from_code(answered.error_code) {
                    None => {
                        partition.begun = true;
                        batches.swap_remove(at);
                    }
                    Some(error) if !partition.begun && is_put_off(error, deadline) => {}
                    Some(error) => return Err(refused(error, partition, &batches[at])),
                }
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Trouble("the transaction before does not end".into()));
        }
        std::thread::sleep(AGAIN_FIRST);
        self.request(node, batches, transaction)
    }
}
