//! Ends a transaction of ours in the partitions that were never told its end.
//!
//! A broker that is alone, and is killed between its answer to EndTxn and the markers in the partitions,
//! leaves some of them out when it starts: its coordinator finds no leader for them, takes them for deleted
//! and calls the transaction complete. Its rows hang there. Readers stop before them, and they come to
//! whatever the same producer's next transaction in that partition comes to: aborted rows come to light.
//!
//! So every partition is asked before a new producer's first row whether a transaction of that producer is open
//! in it. InitProducerId answers only once the coordinator is through with the last one, so none should be.
//! One that is gets the end that its coordinator gave it, from a transaction that has these partitions
//! and no row: its markers end both.
//!
//! Invariant: that end is what the coordinator said right before it made this producer; where it did not say
//! so nothing is written, and the job stops with what to do.
//!
//! A transactional id gets another producer when the epochs are used up (from 32766 on: by EndTxn, which has
//! transactions v2 give the next one, or by InitProducerId), and what hangs of the one before nobody can end
//! any more. So a producer is left in time ([`EPOCH_LAST`]), right after all partitions were asked; and where a
//! crash came in between, the one that InitProducerId replaced is looked for as well. Not looked for is
//! the producer of a transactional id that the coordinator has forgotten (`transactional.id.expiration.ms`, seven
//! days without a transaction; never one that is open): nothing says which it was. Its rows stay open, and come to
//! light with no other's.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ProducerId, TopicName};
use pelton_engine::sink::Outcome;

use super::questions::{Before, named, text};
use super::{AGAIN_LAST, Failure, NativeProducer, Sent};
use crate::kafka::cluster::{Control, Trouble};
use crate::runtime::say;

/// The last version that takes partitions from clients.
const ADD_PARTITIONS: i16 = 3;
/// A transaction that is only late has ended by then: its time-out is 15 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a producer's last transaction ended, as its coordinator said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub producer: i64,
    pub committed: bool,
}

/// No transaction begins from this epoch on: a start or two is between it and 32766.
pub const EPOCH_LAST: i16 = i16::MAX - 64;

/// A partition in which a transaction of ours is open.
#[derive(Clone, Debug)]
struct Hanging {
    producer: i64,
    topic: String,
    partition: i32,
    since: i64,
}

impl NativeProducer {
    /// Sees to it that no transaction of this producer is open in any partition of these topics, and none of
    /// the one before.
    ///
    /// Errors: `Hanging` where one is and nobody knows how it ended.
    pub(super) fn end_hanging(&mut self, topics: &[&str], before: &Before) -> Sent<()> {
        let producers: Vec<i64> = std::iter::once(self.id).chain(before.left).collect();
        let mut hanging = self.hanging(topics, &producers)?;
        let ended = before.ended.filter(|ended| ended.producer == self.id);
        let ours: Vec<Hanging> =
            hanging.iter().filter(|of| of.producer == self.id).cloned().collect();
        if let (Some(Ended { committed, .. }), Some(first)) = (ended, ours.first()) {
            let Hanging { topic, partition, since, .. } = first;
            say(&format!(
                "the last transaction was {}, which {} of its partitions were not told \
                 ({topic}/{partition} from offset {since} on): telling them now",
                if committed { "committed" } else { "aborted" },
                ours.len()
            ));
            self.end_in(&ours, committed)?;
        }
        let begun = Instant::now();
        while let Some(first) = hanging.first() {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Hanging(self.left_alone(first)));
            }
            std::thread::sleep(AGAIN_LAST);
            hanging = self.hanging(topics, &producers)?;
        }
        Ok(())
    }

    fn hanging(&mut self, topics: &[&str], producers: &[i64]) -> Sent<Vec<Hanging>> {
        let mut hanging = Vec::new();
        for topic in topics {
            let found = match self.cluster.topics(&[(*topic).to_owned()]) {
                Ok(found) => found,
                // Nothing hangs in a topic that is still to be made.
                Err(Trouble::Refused(_)) => continue,
                Err(trouble) => return Err(trouble.into()),
            };
            let partitions = found.iter().flat_map(|topic| topic.partitions.iter()).zip(0..);
            for (leader, partition) in partitions {
                let named = (*topic, partition);
                let open = self.cluster.open_transaction(leader.node, named, producers)?;
                let topic = (*topic).to_owned();
                let is = |(producer, since)| Hanging { producer, topic, partition, since };
                hanging.extend(open.map(is));
            }
        }
        Ok(hanging)
    }

    /// A transaction that has these partitions and no row comes to this end. Both requests leave together: a
    /// transaction left open between them would be aborted, and rows that were committed with it.
    fn end_in(&mut self, hanging: &[Hanging], committed: bool) -> Sent<()> {
        self.ask_partitions(hanging)?;
        self.ask_end(committed)?;
        self.hear_partitions()?;
        let (outcome, why) = match self.hear_end()? {
            None => return Ok(()),
            // It may be asked again, as long as somebody is here to do so.
            Some(_) => self.finish(committed),
        };
        match outcome {
            Outcome::Committed => Ok(()),
            Outcome::Fenced => Err(Failure::Fenced(why)),
            _ => Err(Failure::Trouble(why)),
        }
    }

    fn ask_partitions(&mut self, hanging: &[Hanging]) -> Sent<()> {
        let topics = hanging.iter().map(|of| {
            AddPartitionsToTxnTopic::default()
                .with_name(TopicName(text(&of.topic)))
                .with_partitions(vec![of.partition])
        });
        let ask = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(named(&self.transactional_id))
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(topics.collect());
        Ok(self.coordinator.send(&ask, ADD_PARTITIONS)?)
    }

    fn hear_partitions(&mut self) -> Sent<()> {
        let answer = self.coordinator.receive::<AddPartitionsToTxnRequest>(ADD_PARTITIONS)?;
        let answered = answer.results_by_topic_v3_and_below.iter();
        let mut codes = answered
            .flat_map(|topic| topic.results_by_partition.iter().map(|of| of.partition_error_code));
        match codes.find_map(ResponseError::try_from_code) {
            None => Ok(()),
            Some(error) if super::failure::is_fenced(error) => {
                Err(Failure::Fenced(error.to_string()))
            }
            Some(error) => Err(Failure::Trouble(error.to_string())),
        }
    }

    /// What whoever runs the job is told.
    fn left_alone(&self, Hanging { topic, partition, since, .. }: &Hanging) -> String {
        format!(
            "a transaction of this job hangs in {topic}/{partition} from offset {since} on: its coordinator \
             is through with it, the partition was never told its end, and whether it was committed is not \
             known any more. Nothing was sent, as rows that were aborted would come to light with it. Look \
             whether its rows are rows of an epoch that is committed (another partition has its rows, or its \
             marker); if not, drop them with `kafka-transactions.sh abort --topic {topic} --partition \
             {partition} --start-offset {since}` and start the job again"
        )
    }
}
