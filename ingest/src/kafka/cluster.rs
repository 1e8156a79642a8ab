//! Questions to a cluster that are not about records: who leads a partition, where its log begins
//! and ends, what a group has committed.
//!
//! Invariant: every answer is of a broker that was reached just now; what is remembered is only whom
//! to ask. It lacks retries: its callers know whether to wait (a running job) or to give up (its start).

use std::collections::BTreeMap;
use std::fmt;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeProducersRequest, FindCoordinatorRequest, GroupId, ListOffsetsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// `timestamp` of a question for an end of the log.
pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody could be reached, or who could does not know now: ask again later.
    Away(String),
    /// The cluster says no, and will say so again.
    Refused(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Away(what) | Trouble::Refused(what)) = self;
        f.write_str(what)
    }
}

pub type Answer<T> = std::result::Result<T, Trouble>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// Another for each topic of that name that ever was.
    pub id: [u8; 16],
    /// By number, without gaps.
    pub partitions: Vec<Leader>,
}

/// Who answers for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// -1: nobody now.
    pub node: i32,
    pub epoch: i32,
}

/// What has a coordinator.
#[derive(Clone, Copy, Debug)]
pub enum Coordinated<'a> {
    Group(&'a str),
    Transactions(&'a str),
}

/// A partition by its names in the protocol.
pub type Named<'a> = (&'a str, i32);

/// Who can be asked about a cluster.
pub trait Control: Send {
    /// Where a broker listens, as the last answer about topics said.
    fn address(&self, node: i32) -> Option<String>;

    /// What there is of these topics; one that is not there is `Refused`.
    fn topics(&mut self, names: &[String]) -> Answer<Vec<Topic>>;

    /// The offset of the first record at or behind each time, of committed records; -1 where there is
    /// none. [`EARLIEST`] and [`LATEST`] are times, too.
    fn offsets(&mut self, leader: i32, asked: &[(Named<'_>, i64)]) -> Answer<Vec<i64>>;

    /// Where the records of a leader's epoch end, and which epoch that really is: an end before what
    /// was read of that epoch is a truncated log (KIP-320).
    fn epoch_end(&mut self, leader: Leader, named: Named<'_>, epoch: i32) -> Answer<(i32, i64)>;

    /// What a group has committed for each partition, if anything.
    fn committed(&mut self, group: &str, asked: &[Named<'_>]) -> Answer<Vec<Option<i64>>>;

    /// Commits offsets for a group that has no members, so that Kafka's tools show where the job is.
    fn commit(&mut self, group: &str, offsets: &[(Named<'_>, i64)]) -> Answer<()>;
}

/// Asks brokers directly.
pub struct Cluster {
    bootstrap: Vec<String>,
    brokers: BTreeMap<i32, String>,
    connections: BTreeMap<String, Connection>,
}

impl Cluster {
    /// Touches nothing yet.
    pub fn new(bootstrap: &[String]) -> Cluster {
        let bootstrap = bootstrap.to_vec();
        Cluster { bootstrap, brokers: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// The broker that coordinates a group or a transactional id.
    pub fn coordinator(&mut self, of: Coordinated<'_>) -> Answer<i32> {
        let (key, kind, what) = match of {
            Coordinated::Group(group) => (group, 0, "group"),
            Coordinated::Transactions(id) => (id, 1, "transactional id"),
        };
        let name = StrBytes::from_string(key.to_owned());
        let ask =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![name]);
        let answer = self.ask_any(&ask)?;
        let found = answer.coordinators.first().ok_or_else(|| incomplete("FindCoordinator"))?;
        check(found.error_code, || format!("the coordinator of {what} \"{key}\""))?;
        let address = format!("{}:{}", found.host.as_str(), found.port);
        self.brokers.insert(found.node_id.0, address);
        Ok(found.node_id.0)
    }

    /// What there is of a topic; `makes`: brokers may make it where it is missing.
    pub fn topic(&mut self, name: &str, makes: bool) -> Answer<Topic> {
        let mut found = self.look_up(&[name.to_owned()], makes)?;
        found.pop().ok_or_else(|| incomplete("Metadata"))
    }

    fn look_up(&mut self, names: &[String], makes: bool) -> Answer<Vec<Topic>> {
        let of = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let ask = MetadataRequest::default()
            .with_topics(Some(names.iter().map(of).collect()))
            .with_allow_auto_topic_creation(makes);
        let answer = self.ask_any(&ask)?;
        self.brokers = answer
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, format!("{}:{}", broker.host.as_str(), broker.port)))
            .collect();
        let mut topics = Vec::new();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map_or("", |name| name.0.as_str()).to_owned();
            check(topic.error_code, || format!("topic \"{name}\""))?;
            let mut partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|p| (p.partition_index, Leader { node: p.leader_id.0, epoch: p.leader_epoch }))
                .collect();
            partitions.sort_unstable_by_key(|(index, _)| *index);
            if !partitions.iter().zip(0..).all(|((index, _), expected)| *index == expected) {
                return Err(Trouble::Away(format!("topic \"{name}\" is not known as a whole")));
            }
            let partitions = partitions.into_iter().map(|(_, leader)| leader).collect();
            topics.push(Topic { name, id: topic.topic_id.into_bytes(), partitions });
        }
        Ok(topics)
    }

    /// Where a partition's log ends, open transactions included.
    pub fn end(&mut self, leader: i32, named: Named<'_>) -> Answer<i64> {
        self.offsets_at(leader, &[(named, LATEST)], READ_UNCOMMITTED).map(|found| found[0])
    }

    /// The transaction of one of these producers that is open in a partition, if one is: whose, and where it
    /// begins.
    pub fn open_transaction(
        &mut self,
        leader: i32,
        (topic, partition): Named<'_>,
        producers: &[i64],
    ) -> Answer<Option<(i64, i64)>> {
        let asked = TopicRequest::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let ask = DescribeProducersRequest::default().with_topics(vec![asked]);
        let answer = self.ask(leader, &ask)?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| incomplete("DescribeProducers"))?;
        check(found.error_code, || format!("producers of partition {topic}/{partition}"))?;
        let all = found.active_producers.iter();
        let mut open = all
            .map(|of| (of.producer_id.0, of.current_txn_start_offset))
            .filter(|&(_, since)| since >= 0);
        Ok(open.find(|(producer, _)| producers.contains(producer)))
    }

    fn offsets_at(
        &mut self,
        leader: i32,
        asked: &[(Named<'_>, i64)],
        isolation: i8,
    ) -> Answer<Vec<i64>> {
        let partition = |(_, partition): Named<'_>, time: i64| {
            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(time)
        };
        let topics = asked.iter().map(|&(named, time)| {
            ListOffsetsTopic::default()
                .with_name(topic_name(named.0))
                .with_partitions(vec![partition(named, time)])
        });
        let ask = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(topics.collect());
        let answer = self.ask(leader, &ask)?;
        let found = |named: Named<'_>| {
            let mut all = answer.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| (topic.name.0.as_str(), p.partition_index, p))
            });
            all.find(|(topic, index, _)| (*topic, *index) == named).map(|(.., p)| p)
        };
        let offset = |&(named, _): &(Named<'_>, i64)| {
            let found = found(named).ok_or_else(|| incomplete("ListOffsets"))?;
            check(found.error_code, || format!("partition {}/{}", named.0, named.1))?;
            Ok(found.offset)
        };
        asked.iter().map(offset).collect()
    }

    /// Asks the first broker that answers.
    fn ask_any<R: Request>(&mut self, request: &R) -> Answer<R::Response> {
        let known = self.connections.keys().chain(self.brokers.values()).chain(&self.bootstrap);
        let mut addresses: Vec<String> = Vec::new();
        for address in known {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let mut trouble = Vec::new();
        for address in addresses {
            match self.ask_at(&address, request) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Away(why)) => trouble.push(why),
                Err(refused) => return Err(refused),
            }
        }
        Err(Trouble::Away(format!("no broker answers: {}", trouble.join("; "))))
    }

    fn ask<R: Request>(&mut self, node: i32, request: &R) -> Answer<R::Response> {
        let address = self.brokers.get(&node).cloned();
        let address =
            address.ok_or_else(|| Trouble::Away(format!("broker {node} is not known")))?;
        self.ask_at(&address, request)
    }

    /// A connection that was idle may have been closed meanwhile: then a new one is tried.
    fn ask_at<R: Request>(&mut self, address: &str, request: &R) -> Answer<R::Response> {
        if let Some(connection) = self.connections.get_mut(address) {
            if let Ok(answer) = connection.call(request) {
                return Ok(answer);
            }
            self.connections.remove(address);
        }
        let away = |error: std::io::Error| {
            let what = format!("{address}: {error}");
            match error.kind() {
                std::io::ErrorKind::Unsupported => Trouble::Refused(what),
                _ => Trouble::Away(what),
            }
        };
        let mut connection = Connection::open(address).map_err(away)?;
        let answer = connection.call(request).map_err(away)?;
        self.connections.insert(address.to_owned(), connection);
        Ok(answer)
    }
}

impl Control for Cluster {
    fn address(&self, node: i32) -> Option<String> {
        self.brokers.get(&node).cloned()
    }

    fn topics(&mut self, names: &[String]) -> Answer<Vec<Topic>> {
        self.look_up(names, false)
    }

    fn offsets(&mut self, leader: i32, asked: &[(Named<'_>, i64)]) -> Answer<Vec<i64>> {
        self.offsets_at(leader, asked, READ_COMMITTED)
    }

    fn epoch_end(
        &mut self,
        leader: Leader,
        (topic, partition): Named<'_>,
        epoch: i32,
    ) -> Answer<(i32, i64)> {
        let asked = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(leader.epoch)
            .with_leader_epoch(epoch);
        let asked = OffsetForLeaderTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![asked]);
        let ask = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![asked]);
        let answer = self.ask(leader.node, &ask)?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| incomplete("OffsetForLeaderEpoch"))?;
        check(found.error_code, || format!("partition {topic}/{partition}"))?;
        Ok((found.leader_epoch, found.end_offset))
    }

    fn committed(&mut self, group: &str, asked: &[Named<'_>]) -> Answer<Vec<Option<i64>>> {
        let all =
            OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
        let ask = OffsetFetchRequest::default().with_groups(vec![all]);
        let coordinator = self.coordinator(Coordinated::Group(group))?;
        let answer = self.ask(coordinator, &ask)?;
        let found = answer.groups.first().ok_or_else(|| incomplete("OffsetFetch"))?;
        check(found.error_code, || format!("group \"{group}\""))?;
        let committed = |&(topic, partition): &Named<'_>| {
            let topic = found.topics.iter().find(|t| t.name.0.as_str() == topic)?;
            let partition = topic.partitions.iter().find(|p| p.partition_index == partition)?;
            (partition.committed_offset >= 0).then_some(partition.committed_offset)
        };
        Ok(asked.iter().map(committed).collect())
    }

    fn commit(&mut self, group: &str, offsets: &[(Named<'_>, i64)]) -> Answer<()> {
        let topics = offsets.iter().map(|&((topic, partition), offset)| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(StrBytes::from_static_str("")));
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition])
        });
        let ask = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let coordinator = self.coordinator(Coordinated::Group(group))?;
        let answer = self.ask(coordinator, &ask)?;
        let mut errors =
            answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.error_code));
        let error = errors.find(|&code| code != 0).unwrap_or(0);
        check(error, || format!("group \"{group}\""))
    }
}

/// What an error code means for whoever asked about `what`.
pub fn check(code: i16, what: impl FnOnce() -> String) -> Answer<()> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => {
            let text = format!("{}: {error}", what());
            // A topic that was just made, or is just being removed, is unknown for a moment.
            Err(if error.is_retriable() && error != ResponseError::UnknownTopicOrPartition {
                Trouble::Away(text)
            } else {
                Trouble::Refused(text)
            })
        }
    }
}

fn incomplete(request: &str) -> Trouble {
    Trouble::Away(format!("the broker's answer to {request} is not complete"))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{ApiVersionsResponse, ResponseHeader};
    use kafka_protocol::protocol::Encodable;

    use super::*;

    /// A broker that says which versions of one request it takes, and nothing after it.
    fn broker(key: i16, greatest: i16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            let mut answer = vec![0; 4];
            let header = ResponseHeader::default().with_correlation_id(1);
            header.encode(&mut answer, 0).unwrap();
            let versions = ApiVersion::default().with_api_key(key).with_max_version(greatest);
            let said = ApiVersionsResponse::default().with_api_keys(vec![versions]);
            said.encode(&mut answer, 3).unwrap();
            let length = (answer.len() as u32 - 4).to_be_bytes();
            answer[..4].copy_from_slice(&length);
            stream.write_all(&answer).unwrap();
            _ = stream.read(&mut [0; 4]);
        });
        address
    }

    /// Asked again it would be as old: nobody waits for it, and librdkafka may do instead.
    #[test]
    fn a_broker_that_is_too_old_for_a_question_refuses_it_for_good() {
        let address = broker(FindCoordinatorRequest::KEY, 3);
        let asked = Cluster::new(&[address]).coordinator(Coordinated::Transactions("job"));
        match asked {
            Err(Trouble::Refused(why)) => assert!(why.contains("Kafka 3.0"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
