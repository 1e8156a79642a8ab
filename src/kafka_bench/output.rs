//! A job's output, read back by another client.

use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{PARTITIONS, PATIENCE, failed};

/// The values of a topic, as a read_committed reader sees them once every transaction has ended: a
/// broker tells partitions of an end behind its answer to the commit.
pub fn read(config: &ClientConfig, topic: &str) -> Result<Vec<String>> {
    let reader = |isolation: &str| -> Result<BaseConsumer> {
        let mut config = config.clone();
        config
            .set("group.id", "pelton-bench")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        config.create().map_err(failed)
    };
    let (all, consumer) = (reader("read_uncommitted")?, reader("read_committed")?);
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let end = |reader: &BaseConsumer| {
            reader.fetch_watermarks(topic, partition, PATIENCE).map(|ends| ends.1).map_err(failed)
        };
        let begun = Instant::now();
        while end(&consumer)? < end(&all)? {
            if begun.elapsed() > PATIENCE {
                return Err(Error::failed(format!("a transaction in {topic} does not end")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let (mut values, mut ended) = (Vec::new(), 0);
    while ended < PARTITIONS {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default();
                values.push(String::from_utf8_lossy(value).into_owned());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(Error::failed(format!("topic {topic} cannot be read"))),
        }
    }
    Ok(values)
}
