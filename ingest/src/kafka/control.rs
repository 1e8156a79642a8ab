//! The questions of [`super::cluster`] asked through librdkafka, for clusters that want TLS or SASL.
//!
//! Lacks topic ids and the ends of leaders' epochs: librdkafka compares those itself.

use std::time::Duration;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::KafkaSource;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{Answer, Control, EARLIEST, LATEST, Leader, Named, Topic, Trouble};
use super::librdkafka::{Quiet, config};

const TIMEOUT: Duration = Duration::from_secs(10);

pub struct LibrdkafkaControl {
    consumer: BaseConsumer<Quiet>,
}

impl LibrdkafkaControl {
    /// Errors: `BadJob` where librdkafka does not take the job's `properties`.
    pub fn new(source: &KafkaSource, group: &str) -> Result<LibrdkafkaControl> {
        let consumer = config(source, group)?.create_with_context(Quiet);
        let consumer = consumer.map_err(|error| Error::BadJob {
            rendered: format!("librdkafka refuses the source: {error}\n   = look at `properties`"),
        })?;
        Ok(LibrdkafkaControl { consumer })
    }
}

/// What will be there the next time, too.
fn trouble(what: &str, error: &KafkaError) -> Trouble {
    use RDKafkaErrorCode::{
        ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed,
        UnknownTopic, UnknownTopicOrPartition,
    };
    let text = format!("{what}: {error}");
    match error.rdkafka_error_code() {
        Some(
            ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | TopicAuthorizationFailed
            | UnknownTopic
            | UnknownTopicOrPartition,
        ) => Trouble::Refused(text),
        _ => Trouble::Away(text),
    }
}

impl Control for LibrdkafkaControl {
    fn address(&self, _node: i32) -> Option<String> {
        None
    }

    fn topics(&mut self, names: &[String]) -> Answer<Vec<Topic>> {
        let topic = |name: &String| {
            let what = format!("topic \"{name}\"");
            let metadata = self.consumer.fetch_metadata(Some(name), TIMEOUT);
            let metadata = metadata.map_err(|error| trouble(&what, &error))?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            let found = found.ok_or_else(|| Trouble::Away(format!("{what} is not known")))?;
            if let Some(error) = found.error() {
                let error = KafkaError::MetadataFetch(error.into());
                return Err(trouble(&what, &error));
            }
            let mut partitions: Vec<_> =
                found.partitions().iter().map(|p| (p.id(), p.leader())).collect();
            partitions.sort_unstable();
            let partitions =
                partitions.into_iter().map(|(_, node)| Leader { node, epoch: -1 }).collect();
            Ok(Topic { name: name.clone(), id: [0; 16], partitions })
        };
        names.iter().map(topic).collect()
    }

    fn offsets(&mut self, _leader: i32, asked: &[(Named<'_>, i64)]) -> Answer<Vec<i64>> {
        let offset = |&((topic, partition), time): &(Named<'_>, i64)| {
            let what = format!("partition {topic}/{partition}");
            let failed = |error: KafkaError| trouble(&what, &error);
            if time == EARLIEST || time == LATEST {
                let ends = self.consumer.fetch_watermarks(topic, partition, TIMEOUT);
                let (first, end) = ends.map_err(failed)?;
                return Ok(if time == EARLIEST { first } else { end });
            }
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(time)).map_err(failed)?;
            let found = self.consumer.offsets_for_times(list, TIMEOUT).map_err(failed)?;
            match found.elements().first().map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Ok(offset),
                _ => Ok(-1),
            }
        };
        asked.iter().map(offset).collect()
    }

    fn epoch_end(&mut self, _: Leader, _: Named<'_>, epoch: i32) -> Answer<(i32, i64)> {
        Ok((epoch, i64::MAX))
    }

    fn committed(&mut self, group: &str, asked: &[Named<'_>]) -> Answer<Vec<Option<i64>>> {
        let what = format!("group \"{group}\"");
        let mut list = TopicPartitionList::new();
        for &(topic, partition) in asked {
            list.add_partition(topic, partition);
        }
        let found = self.consumer.committed_offsets(list, TIMEOUT);
        let found = found.map_err(|error| trouble(&what, &error))?;
        let committed = |&(topic, partition): &Named<'_>| match found
            .find_partition(topic, partition)?
            .offset()
        {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(asked.iter().map(committed).collect())
    }

    fn commit(&mut self, group: &str, offsets: &[(Named<'_>, i64)]) -> Answer<()> {
        let what = format!("group \"{group}\"");
        let failed = |error: KafkaError| trouble(&what, &error);
        let mut list = TopicPartitionList::new();
        for &((topic, partition), offset) in offsets {
            let offset = Offset::Offset(offset);
            list.add_partition_offset(topic, partition, offset).map_err(failed)?;
        }
        self.consumer.commit(&list, CommitMode::Sync).map_err(failed)
    }
}
