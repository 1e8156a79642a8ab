//! What a broker's refusal means for an epoch.

use std::io;
use std::time::Instant;

use kafka_protocol::ResponseError;

use super::{Batch, JUST_MADE, PATIENCE, Partition, Transaction};
use crate::kafka::cluster::Trouble;

/// Why an epoch was not sent; none of its commit was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Another try may go well, with another producer.
    Trouble(String),
    /// Batches are too large for a topic, though their messages need not be.
    TooLarge(String),
    /// It will go wrong again.
    Permanent(String),
    /// Another producer has taken over, or the transaction has timed out.
    Fenced(String),
    /// An earlier transaction is open in a partition, and nobody knows its end.
    Hanging(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Trouble(error.to_string())
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Away(what) => Failure::Trouble(what),
            Trouble::Refused(what) => Failure::Permanent(what),
        }
    }
}

pub(super) fn refused(error: ResponseError, partition: &Partition, batch: &Batch) -> Failure {
    let why = format!("{}/{}: {error}", partition.topic, partition.index);
    match error {
        _ if is_fenced(error) => Failure::Fenced(why),
        ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge if batch.records > 1 => {
            Failure::TooLarge(why)
        }
        ResponseError::MessageTooLarge
        | ResponseError::RecordListTooLarge
        | ResponseError::TopicAuthorizationFailed
        | ResponseError::ClusterAuthorizationFailed
        | ResponseError::TransactionalIdAuthorizationFailed
        | ResponseError::InvalidTopicException
        | ResponseError::InvalidRecord => Failure::Permanent(why),
        _ => Failure::Trouble(why),
    }
}

/// The transaction before is still being ended; or the topic was just made.
pub(super) fn is_put_off(error: ResponseError, deadline: Instant) -> bool {
    let since = || PATIENCE.saturating_sub(deadline.saturating_duration_since(Instant::now()));
    match error {
        ResponseError::ConcurrentTransactions => true,
        ResponseError::NotLeaderOrFollower => since() < JUST_MADE,
        _ => false,
    }
}

pub(super) fn is_fenced(error: ResponseError) -> bool {
    matches!(error, ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch)
}

pub(super) fn no_leader(batches: &[Batch], transaction: &Transaction) -> Failure {
    let partition = &transaction.partitions[batches[0].partition];
    Failure::Trouble(format!("{}/{} has no leader", partition.topic, partition.index))
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::Builder;
    use super::*;

    fn check(error: ResponseError, records: i32, expected: &str) {
        let partition = Partition {
            topic: "out".into(),
            index: 3,
            leader: 1,
            builder: Builder::default(),
            sequence: 0,
            begun: true,
        };
        let batch = Batch { partition: 0, bytes: Vec::new(), records };
        let found = format!("{:?}", refused(error, &partition, &batch));
        assert!(found.starts_with(&format!("{expected}(\"out/3: ")), "{error:?}: {found}");
    }

    #[test]
    fn f14_a_refusal_is_for_good_or_for_now_or_for_a_batch_or_a_fence() {
        use ResponseError::*;
        for error in [ProducerFenced, InvalidProducerEpoch] {
            check(error, 9, "Fenced");
        }
        for error in [MessageTooLarge, RecordListTooLarge] {
            check(error, 2, "TooLarge");
            check(error, 1, "Permanent");
        }
        for error in [
            TopicAuthorizationFailed,
            ClusterAuthorizationFailed,
            TransactionalIdAuthorizationFailed,
            InvalidTopicException,
            InvalidRecord,
        ] {
            check(error, 9, "Permanent");
        }
        // A broker forgets producers with their last records; a new one begins anew.
        for error in [
            UnknownProducerId,
            InvalidProducerIdMapping,
            OutOfOrderSequenceNumber,
            InvalidTxnState,
            TransactionAbortable,
            UnknownTopicOrPartition,
            NotEnoughReplicas,
            NotLeaderOrFollower,
            CorruptMessage,
        ] {
            check(error, 9, "Trouble");
        }
    }
}
