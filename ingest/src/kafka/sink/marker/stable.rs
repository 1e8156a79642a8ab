//! Whether the transactions in a partition have come to their ends, asked through librdkafka, which
//! says where a log and its committed records end but not whose transactions are open.

use std::time::{Duration, Instant};

use pelton_engine::job::spec::KafkaSink as Spec;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Answer, PATIENCE, TIMEOUT, client_config};
use crate::runtime::say;

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// One of ours has met its time-out by then.
const PATIENCE_WITH_OURS: Duration = Duration::from_secs(20);

/// Two readers, of which one sees committed records only.
pub struct Ends {
    all: BaseConsumer,
    pub committed: BaseConsumer,
}

/// Where a partition's records begin and end.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub least: i64,
    pub end: i64,
}

impl Ends {
    pub fn new(spec: &Spec, job: &str) -> Answer<Ends> {
        let reader = |isolation: &str| -> Answer<BaseConsumer> {
            let mut config = client_config(spec)?;
            config
                .set("group.id", job)
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "error")
                .set("check.crcs", "true")
                .set("enable.partition.eof", "true")
                .set("isolation.level", isolation);
            config.create().map_err(|error| error.to_string())
        };
        Ok(Ends { all: reader("read_uncommitted")?, committed: reader("read_committed")? })
    }

    /// Waits until every transaction that is open now has ended; `Err` inside: where committed records
    /// end after that time.
    pub fn settle(
        &self,
        topic: &str,
        partition: i32,
        patience: Duration,
    ) -> Answer<Result<Stretch, i64>> {
        let ends = |reader: &BaseConsumer| {
            reader.fetch_watermarks(topic, partition, TIMEOUT).map_err(|error| error.to_string())
        };
        let (least, end) = ends(&self.all)?;
        let begun = Instant::now();
        loop {
            let stable = ends(&self.committed)?.1;
            if stable >= end {
                return Ok(Ok(Stretch { least, end }));
            }
            if begun.elapsed() > patience {
                return Ok(Err(stable));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The partitions of a topic; none where it is still to be made.
    fn partitions(&self, topic: &str) -> Answer<Vec<i32>> {
        let found = self.all.fetch_metadata(Some(topic), TIMEOUT);
        let found = found.map_err(|error| error.to_string())?;
        let found = found.topics().iter().find(|of| of.name() == topic);
        Ok(found.map_or(Vec::new(), |of| of.partitions().iter().map(|of| of.id()).collect()))
    }

    /// What to do about a transaction that does not end in one of these topics. That is told before it is waited
    /// for longer: it may be another's, whose producer is gone (Kafka's default time-out is a minute), or somebody
    /// ends it.
    pub fn open_transaction(&self, topics: &[&str]) -> Answer<Option<String>> {
        for topic in topics {
            for partition in self.partitions(topic)? {
                if let Err(stable) = self.settle(topic, partition, PATIENCE_WITH_OURS)? {
                    let what = does_not_end(topic, partition, stable);
                    say(&format!("waiting: {what}"));
                    if self.settle(topic, partition, PATIENCE)?.is_err() {
                        return Ok(Some(what));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn does_not_end(topic: &str, partition: i32, stable: i64) -> String {
    format!(
        "a transaction in {topic}/{partition}, from offset {stable} on, does not end. Nothing was sent: if it is \
         one of this job, rows that were aborted would come to light with it. See whose it is with \
         `kafka-transactions.sh describe-producers --topic {topic} --partition {partition}`. Another's may be \
         dropped with `abort --topic {topic} --partition {partition} --start-offset {stable}`; one of this job \
         as well, unless its rows are rows of an epoch that is committed (another partition has its rows, or \
         its marker)"
    )
}
