//! How a producer comes to be: it takes over a transactional id, and sees to what its predecessor left.
//!
//! The same is done ahead of librdkafka's producer, which cannot look into what hangs; then nothing else of
//! ours is used.
//!
//! Invariant: when it is there every other producer of the transactional id is fenced, and no transaction of
//! one is open in any partition that its own will write to.

use std::time::{Duration, Instant};

use super::hanging::EPOCH_LAST;
use super::questions::{Before, Made, init};
use super::{AGAIN_FIRST, AGAIN_LAST, BATCH_BYTES, Failure, NativeProducer, Sent};
use crate::kafka::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no producer.
#[derive(Debug)]
pub enum NotMade {
    /// Its brokers cannot, or may not, say what is open.
    Unsupported,
    Trouble(String),
    /// An earlier transaction is open in a partition, and nobody knows its end.
    Hanging(String),
}

/// What a producer is made for.
pub struct Purpose<'a> {
    /// Else it only ends what hangs, and librdkafka sends.
    pub sends: bool,
    pub servers: &'a [String],
    pub transactional_id: String,
    pub timeout_ms: i32,
    pub batch_bytes_max: usize,
    /// Partitions may be added to a topic: they are looked for this often.
    pub discover_interval: Duration,
    /// All that its transactions write to.
    pub topics: Vec<&'a str>,
}

/// What an attempt to make a producer came to.
enum Attempt {
    Made(Box<NativeProducer>),
    /// Nothing hangs, and another client is to send.
    Cleared,
    Unsupported,
}

impl NativeProducer {
    /// Fences every other producer with the transactional id, and ends what it left open, also in
    /// partitions that were not told. `before`: what the coordinator said, for an attempt after one that
    /// failed behind that. `None`: that was all, as the cluster has no transactions v2 or librdkafka sends.
    pub fn make(
        purpose: &Purpose<'_>,
        before: &mut Before,
    ) -> Result<Option<Box<NativeProducer>>, NotMade> {
        let begun = Instant::now();
        let mut pause = AGAIN_FIRST;
        let mut cluster = Cluster::new(purpose.servers);
        loop {
            match NativeProducer::attempt(purpose, &mut cluster, before) {
                Ok(Attempt::Made(producer)) => return Ok(Some(producer)),
                Ok(Attempt::Cleared) => return Ok(None),
                Ok(Attempt::Unsupported) => return Err(NotMade::Unsupported),
                // librdkafka asks for less.
                Err(Failure::Permanent(_)) if !purpose.sends => return Err(NotMade::Unsupported),
                Err(Failure::Hanging(why)) => return Err(NotMade::Hanging(why)),
                Err(Failure::Trouble(_)) if begun.elapsed() < PATIENCE => {}
                Err(
                    Failure::Trouble(why)
                    | Failure::TooLarge(why)
                    | Failure::Permanent(why)
                    | Failure::Fenced(why),
                ) => return Err(NotMade::Trouble(why)),
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(AGAIN_LAST);
        }
    }

    fn attempt(purpose: &Purpose<'_>, cluster: &mut Cluster, before: &mut Before) -> Sent<Attempt> {
        let Purpose { servers, transactional_id, timeout_ms, topics, .. } = purpose;
        let made = init(cluster, transactional_id, *timeout_ms)?;
        let Some(Made { coordinator, dialect, id, epoch, before: now }) = made else {
            return Ok(Attempt::Unsupported);
        };
        before.ended = now.ended.or(before.ended);
        before.left = now.left.or(before.left);
        let mut producer = NativeProducer {
            transactional_id: transactional_id.clone(),
            cluster: std::mem::replace(cluster, Cluster::new(servers)),
            coordinator,
            dialect,
            id,
            epoch,
            topics: Default::default(),
            discover_interval: purpose.discover_interval,
            links: Default::default(),
            batch_bytes: purpose.batch_bytes_max.min(BATCH_BYTES),
            turn: 0,
            used: Instant::now(),
        };
        producer.end_hanging(topics, before)?;
        *before = Before::default();
        if !purpose.sends || !dialect.is_v2 {
            return Ok(Attempt::Cleared);
        }
        // Nothing of it is open, and nothing more will be: it may be left.
        while producer.epoch >= EPOCH_LAST {
            let made = init(&mut producer.cluster, transactional_id, *timeout_ms)?;
            let Some(Made { coordinator, id, epoch, .. }) = made else {
                return Ok(Attempt::Unsupported);
            };
            (producer.coordinator, producer.id, producer.epoch) = (coordinator, id, epoch);
        }
        Ok(Attempt::Made(Box::new(producer)))
    }
}
