//! Markers through our own client: two questions and a Fetch, some milliseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use pelton_engine::job::spec::KafkaSink as Spec;

use super::{AT_ONCE, Answer, Mark, PATIENCE, does_not_end};
use crate::kafka::Chunk;
use crate::kafka::cluster::{Cluster, Control, EARLIEST, LATEST, Topic};
use crate::kafka::connection::Connection;
use crate::kafka::partition::{Frame, Partition};
use crate::kafka::sink::producer::patient_topic;
use crate::kafka::start::fresh_split;

/// By name, and flexible.
const FETCH: i16 = 12;
const READ_COMMITTED: i8 = 1;
const WAIT_MS: i32 = 100;
/// More than [`AT_ONCE`] markers have.
const BYTES_MAX: i32 = 4 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether the topic is known; else it may be missing, and somebody with more patience should look.
pub fn is_there(spec: &Spec) -> bool {
    let topics =
        Cluster::new(&spec.bootstrap_servers).topics(std::slice::from_ref(&spec.commits_topic));
    topics.is_ok_and(|topics| topics.iter().all(|topic| !topic.partitions.is_empty()))
}

/// The newest mark of a job.
pub fn read(spec: &Spec, job: &str) -> Answer<Option<Mark>> {
    let mut cluster = Cluster::new(&spec.bootstrap_servers);
    let topic = patient_topic(&mut cluster, &spec.commits_topic, false);
    let topic =
        topic.map_err(|failure| format!("topic \"{}\": {failure:?}", spec.commits_topic))?;
    let leader = topic.partitions[0].node;
    let named = (topic.name.as_str(), 0);
    let text = |trouble: crate::kafka::cluster::Trouble| trouble.to_string();
    let end = cluster.end(leader, named).map_err(text)?;
    let begun = Instant::now();
    // One question at a time: a partition stands in a request once.
    let at = |cluster: &mut Cluster, time| {
        cluster.offsets(leader, &[(named, time)]).map(|found| found[0]).map_err(text)
    };
    loop {
        let stable = at(&mut cluster, LATEST)?;
        if stable >= end {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(does_not_end(&topic.name, stable));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let least = at(&mut cluster, EARLIEST)?;
    let address = cluster.address(leader).ok_or_else(|| format!("broker {leader} is away"))?;
    let mut connection = Connection::open(&address).map_err(|error| error.to_string())?;
    let mut from = end;
    while from > least {
        let until = from;
        from = (from - AT_ONCE).max(least);
        if let Some(mark) = newest(&mut connection, &topic, job, (from, until))? {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

/// The last mark of a job in a stretch of offsets.
fn newest(
    connection: &mut Connection,
    topic: &Topic,
    job: &str,
    (from, until): (i64, i64),
) -> Answer<Option<Mark>> {
    let mut split = fresh_split(0, topic, 0);
    (split.offset, split.end) = (from, Some(until));
    let mut partition = Partition::new(split);
    let (mut chunk, mut newest) = (Chunk::default(), None);
    let begun = Instant::now();
    while partition.position < until {
        if begun.elapsed() > PATIENCE {
            return Err("the markers cannot be read".to_owned());
        }
        fetch(connection, topic, &mut partition)?;
        while partition.has_pending() {
            chunk.clear();
            let handed = partition.hand_out(&mut chunk, &mut Vec::new(), &mut Vec::new());
            handed.map_err(|fault| format!("the markers cannot be read: {fault}"))?;
            for (_, value) in chunk.values() {
                let mark: Mark = serde_json::from_slice(value)
                    .map_err(|error| format!("a marker cannot be read: {error}"))?;
                if mark.job == job {
                    newest = Some(mark);
                }
            }
        }
    }
    Ok(newest)
}

fn fetch(connection: &mut Connection, topic: &Topic, partition: &mut Partition) -> Answer<()> {
    let asked = FetchPartition::default()
        .with_partition(0)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(partition.fetched)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(BYTES_MAX);
    let name = kafka_protocol::protocol::StrBytes::from_string(topic.name.clone());
    let of = FetchTopic::default().with_topic(name.into()).with_partitions(vec![asked]);
    let ask = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(BYTES_MAX)
        .with_isolation_level(READ_COMMITTED)
        .with_session_epoch(-1)
        .with_topics(vec![of]);
    let asked = connection.send(&ask, FETCH);
    let answer = asked.and_then(|()| connection.receive::<FetchRequest>(FETCH));
    let answer = answer.map_err(|error| error.to_string())?;
    let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
    let found = found.ok_or("the answer to Fetch is not complete")?;
    if let Some(error) = ResponseError::try_from_code(answer.error_code)
        .or_else(|| ResponseError::try_from_code(found.error_code))
    {
        return Err(format!("the markers cannot be read: {error}"));
    }
    let aborted = found.aborted_transactions.unwrap_or_default();
    let mut aborted: Vec<(i64, i64)> =
        aborted.iter().map(|of| (of.first_offset, of.producer_id.0)).collect();
    aborted.sort_unstable();
    let memory = found.records.map(Vec::from).unwrap_or_default();
    let records = 0..memory.len();
    let frame = Arc::new(Frame { memory, answer: records.clone() });
    partition
        .take_in(&frame, records, aborted, found.last_stable_offset)
        .map_err(|fault| format!("the markers cannot be read: {fault}"))
}
