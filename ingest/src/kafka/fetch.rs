//! Fetch, the one big message: the request is written and the answer walked by hand.
//!
//! Versions 12 to 17: flexible, with topic ids from 13 on. The answer stays where it was received;
//! [`walk`] hands out where each partition's records lie in it. What a request has to say of a
//! fetch session is [`super::session`]'s.

use std::ops::Range;

use pelton_engine::seeded::{self, Bug};

use super::connection::CLIENT_ID;
use super::wire::{Cursor, Malformed};

pub const KEY: i16 = 1;
/// The first has flexible headers (Kafka 2.7), the last is what 4.x speaks to consumers.
pub const VERSIONS: (i16, i16) = (12, 17);
/// From here on topics go by their id.
const BY_ID: i16 = 13;
/// From here on the replica's id is a tagged field.
const WITHOUT_REPLICA: i16 = 15;
const READ_UNCOMMITTED: u8 = 0;
const READ_COMMITTED: u8 = 1;

/// One partition of a request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub topic: &'a str,
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub leader_epoch: i32,
    pub offset: i64,
    pub bytes_max: i32,
}

/// Bounds of a request as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub wait_ms: i32,
    pub bytes_max: i32,
}

/// Writes a request with its length in front; of the forgotten only the names count.
pub fn request(
    version: i16,
    (correlation, session, epoch): (i32, i32, i32),
    bounds: Bounds,
    (asks, forgotten): (&[Ask<'_>], &[Ask<'_>]),
) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(KEY.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation.to_be_bytes());
    out.extend((CLIENT_ID.len() as i16).to_be_bytes());
    out.extend(CLIENT_ID.as_bytes());
    out.push(0);
    if version < WITHOUT_REPLICA {
        out.extend((-1i32).to_be_bytes());
    }
    out.extend(bounds.wait_ms.to_be_bytes());
    out.extend(1i32.to_be_bytes());
    out.extend(bounds.bytes_max.to_be_bytes());
    let seeded = seeded::is(Bug::ReadUncommitted);
    out.push(if seeded { READ_UNCOMMITTED } else { READ_COMMITTED });
    out.extend(session.to_be_bytes());
    out.extend(epoch.to_be_bytes());
    // A topic for each partition: brokers take it, and the order is ours.
    unsigned(asks.len() as u32 + 1, &mut out);
    for ask in asks {
        name(version, ask, &mut out);
        out.extend(ask.leader_epoch.to_be_bytes());
        out.extend(ask.offset.to_be_bytes());
        out.extend((-1i32).to_be_bytes());
        out.extend((-1i64).to_be_bytes());
        out.extend(ask.bytes_max.to_be_bytes());
        // No tagged fields, neither of the partition nor of its topic.
        out.extend([0, 0]);
    }
    unsigned(forgotten.len() as u32 + 1, &mut out);
    for ask in forgotten {
        name(version, ask, &mut out);
        out.push(0);
    }
    // No rack, no tagged fields.
    out.extend([1, 0]);
    let length = (out.len() as u32 - 4).to_be_bytes();
    out[..4].copy_from_slice(&length);
    out
}

/// A topic, and one partition of it.
fn name(version: i16, ask: &Ask<'_>, out: &mut Vec<u8>) {
    if version >= BY_ID {
        out.extend(ask.topic_id);
    } else {
        unsigned(ask.topic.len() as u32 + 1, out);
        out.extend(ask.topic.as_bytes());
    }
    unsigned(2, out);
    out.extend(ask.partition.to_be_bytes());
}

/// One partition of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub topic: Topic,
    pub partition: i32,
    pub error: i16,
    /// Committed records end here.
    pub stable: i64,
    /// (First offset, producer) of aborted transactions among the records, by offset.
    pub aborted: Vec<(i64, i64)>,
    /// Where its records lie in the answer.
    pub records: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    Id([u8; 16]),
    Name(String),
}

/// What stands in front of the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub correlation: i32,
    pub throttle_ms: i32,
    pub error: i16,
    /// 0: it has none.
    pub session: i32,
}

/// Walks an answer, whose bytes begin behind its length.
pub fn walk(version: i16, bytes: &[u8]) -> Result<(Head, Vec<Fetched>), Malformed> {
    let mut at = Cursor::new(bytes);
    let correlation = at.i32("correlation")?;
    at.skip_tags("header")?;
    let (throttle_ms, error) = (at.i32("throttle time")?, at.i16("error")?);
    let session = at.i32("session")?;
    let head = Head { correlation, throttle_ms, error, session };
    let mut fetched = Vec::new();
    for _ in 0..at.compact_length("topics")?.unwrap_or(0) {
        let topic = if version >= BY_ID {
            Topic::Id(at.array("topic id")?)
        } else {
            let name = at.compact_bytes("topic")?.unwrap_or_default();
            Topic::Name(String::from_utf8_lossy(name).into_owned())
        };
        for _ in 0..at.compact_length("partitions")?.unwrap_or(0) {
            fetched.push(partition(&mut at, topic.clone())?);
        }
        at.skip_tags("topic")?;
    }
    at.skip_tags("answer")?;
    match at.left() {
        0 => Ok((head, fetched)),
        _ => Err(Malformed("answer")),
    }
}

fn partition(at: &mut Cursor<'_>, topic: Topic) -> Result<Fetched, Malformed> {
    let partition = at.i32("partition")?;
    let error = at.i16("error")?;
    at.i64("high watermark")?;
    let stable = at.i64("last stable offset")?;
    at.i64("log start")?;
    let mut aborted = Vec::new();
    for _ in 0..at.compact_length("aborted transactions")?.unwrap_or(0) {
        let (producer, first) = (at.i64("producer")?, at.i64("first offset")?);
        at.skip_tags("aborted transaction")?;
        aborted.push((first, producer));
    }
    aborted.sort_unstable();
    at.i32("preferred replica")?;
    let length = at.compact_length("records")?.unwrap_or(0);
    let begin = at.position();
    at.take(length, "records")?;
    at.skip_tags("partition")?;
    Ok(Fetched { topic, partition, error, stable, aborted, records: begin..begin + length })
}

fn unsigned(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{
        FetchRequest, FetchResponse, ProducerId, RequestHeader, ResponseHeader,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    const ID: [u8; 16] = *b"0123456789abcdef";

    /// As the codecs of `kafka-protocol` read it.
    #[test]
    fn a_request_is_what_the_protocol_says() {
        for version in VERSIONS.0..=VERSIONS.1 {
            let ask = Ask {
                topic: "sensors",
                topic_id: ID,
                partition: 3,
                leader_epoch: 9,
                offset: 1 << 40,
                bytes_max: 77,
            };
            let other = Ask { partition: 200, ..ask.clone() };
            let bounds = Bounds { wait_ms: 500, bytes_max: 1 << 24 };
            let gone = Ask { partition: 7, ..ask.clone() };
            let bytes = request(version, (5, 77, 9), bounds, (&[ask, other], &[gone]));
            assert_eq!(bytes[..4], (bytes.len() as u32 - 4).to_be_bytes());
            let mut left = &bytes[4..];
            let header = RequestHeader::decode(&mut left, 2).unwrap();
            assert_eq!((header.request_api_key, header.request_api_version), (KEY, version));
            assert_eq!(header.correlation_id, 5);
            let read = FetchRequest::decode(&mut left, version).unwrap();
            assert!(left.is_empty(), "version {version}");
            assert_eq!((read.max_wait_ms, read.max_bytes, read.isolation_level), (500, 1 << 24, 1));
            assert_eq!((read.session_id, read.session_epoch), (77, 9));
            let topic = &read.topics[0];
            match version >= BY_ID {
                true => assert_eq!(topic.topic_id.into_bytes(), ID),
                false => assert_eq!(topic.topic.0.as_str(), "sensors"),
            }
            let partition = &topic.partitions[0];
            let found =
                (partition.partition, partition.fetch_offset, partition.partition_max_bytes);
            assert_eq!((found, partition.current_leader_epoch), ((3, 1 << 40, 77), 9));
            assert_eq!(read.topics[1].partitions[0].partition, 200);
            let [forgotten] = &read.forgotten_topics_data[..] else { panic!("{read:?}") };
            assert_eq!(forgotten.partitions, [7]);
            match version >= BY_ID {
                true => assert_eq!(forgotten.topic_id.into_bytes(), ID),
                false => assert_eq!(forgotten.topic.0.as_str(), "sensors"),
            }
        }
    }

    fn answer(version: i16) -> Vec<u8> {
        let aborted = |producer, first| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(producer))
                .with_first_offset(first)
        };
        let full = PartitionData::default()
            .with_partition_index(3)
            .with_high_watermark(100)
            .with_last_stable_offset(90)
            .with_aborted_transactions(Some(vec![aborted(7, 50), aborted(8, 20)]))
            .with_records(Some(vec![1u8, 2, 3].into()));
        let failed = PartitionData::default().with_partition_index(4).with_error_code(6);
        let topic = FetchableTopicResponse::default().with_partitions(vec![full, failed]);
        // Built from parts that have no constructor for a topic's id: the default one is zeros.
        let topic = match version >= BY_ID {
            true => topic,
            false => topic.with_topic(StrBytes::from_static_str("sensors").into()),
        };
        let answer = FetchResponse::default()
            .with_throttle_time_ms(12)
            .with_session_id(4)
            .with_responses(vec![topic]);
        let mut bytes = Vec::new();
        ResponseHeader::default().with_correlation_id(5).encode(&mut bytes, 1).unwrap();
        answer.encode(&mut bytes, version).unwrap();
        bytes
    }

    #[test]
    fn an_answer_is_walked_to_its_end() {
        for version in VERSIONS.0..=VERSIONS.1 {
            let bytes = answer(version);
            let (head, fetched) = walk(version, &bytes).unwrap();
            assert_eq!(head, Head { correlation: 5, throttle_ms: 12, error: 0, session: 4 });
            let [full, failed] = &fetched[..] else { panic!("{fetched:?}") };
            assert_eq!(&bytes[full.records.clone()], [1, 2, 3]);
            assert_eq!(full.aborted, [(20, 8), (50, 7)]);
            assert_eq!((full.partition, full.stable, full.error), (3, 90, 0));
            assert_eq!((failed.partition, failed.error, failed.records.len()), (4, 6, 0));
            let topic = match version >= BY_ID {
                true => Topic::Id([0; 16]),
                false => Topic::Name("sensors".into()),
            };
            assert_eq!(full.topic, topic);
        }
    }

    #[test]
    fn f10_an_answer_cut_anywhere_is_refused() {
        let bytes = answer(17);
        for cut in 0..bytes.len() {
            assert!(walk(17, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(walk(17, &[bytes.clone(), vec![0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn f10_no_answer_makes_the_walk_panic(at in 0usize..90, byte: u8, noise: Vec<u8>) {
            let mut bytes = answer(13);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = walk(13, &bytes);
            let _ = walk(13, &noise);
        }
    }
}
