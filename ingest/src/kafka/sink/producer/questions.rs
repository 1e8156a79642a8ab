//! What a producer asks before it sends: who coordinates it, who it is, who leads a topic's partitions.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, InitProducerIdRequest,
    ProduceRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::{AGAIN_LAST, END_TXN, Ended, Failure, PATIENCE, PRODUCE, Sent};
use crate::kafka::cluster::{Cluster, Control, Coordinated, Topic, Trouble};
use crate::kafka::connection::Connection;

/// Of InitProducerId.
const INIT: i16 = 5;
/// The last EndTxn that leaves the epoch as it is: of transactions before v2.
const END_TXN_V1: i16 = 4;
const FEATURE: (&str, i16) = ("transaction.version", 2);

/// What there is of a topic; one that brokers are just making is unknown for a moment. `makes`: they may.
pub fn patient_topic(cluster: &mut Cluster, name: &str, makes: bool) -> Sent<Topic> {
    let begun = Instant::now();
    loop {
        match cluster.topic(name, makes) {
            Ok(topic) if !topic.partitions.is_empty() => return Ok(topic),
            Ok(_) => {}
            Err(Trouble::Refused(_)) if begun.elapsed() < PATIENCE / 3 => {}
            Err(trouble) => return Err(trouble.into()),
        }
        std::thread::sleep(AGAIN_LAST);
    }
}

pub fn find_coordinator(cluster: &mut Cluster, transactional_id: &str) -> Sent<Connection> {
    let node = cluster.coordinator(Coordinated::Transactions(transactional_id))?;
    let address = cluster.address(node);
    let address = address.ok_or_else(|| Failure::Trouble(format!("broker {node} is away")))?;
    Ok(Connection::open(&address)?)
}

/// How a cluster is spoken to about transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// It has transactions v2 (KIP-890).
    pub is_v2: bool,
    /// Versions of requests.
    init: i16,
    pub end_txn: i16,
}

impl Dialect {
    /// `None`: the broker cannot say what is open (before Kafka 3.0).
    fn of(coordinator: &Connection) -> Option<Dialect> {
        let has = |key, version| coordinator.version(key, (version, version)).is_ok();
        if !has(DescribeTransactionsRequest::KEY, 0) || !has(DescribeProducersRequest::KEY, 0) {
            return None;
        }
        let is_v2 = coordinator.feature(FEATURE.0) >= FEATURE.1
            && has(EndTxnRequest::KEY, END_TXN)
            && has(ProduceRequest::KEY, PRODUCE)
            && has(InitProducerIdRequest::KEY, INIT);
        let end_txn = match is_v2 {
            true => END_TXN,
            false => coordinator.version(EndTxnRequest::KEY, (0, END_TXN_V1)).ok()?,
        };
        let init = coordinator.version(InitProducerIdRequest::KEY, (0, INIT)).ok()?;
        Some(Dialect { is_v2, init, end_txn })
    }
}

/// A producer as its coordinator made it.
pub struct Made {
    pub coordinator: Connection,
    pub dialect: Dialect,
    pub id: i64,
    pub epoch: i16,
    pub before: Before,
}

/// What the coordinator said of the producer before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// How this producer's last transaction ended, where that was told and nothing can have come after.
    pub ended: Option<Ended>,
    /// The transactional id had another producer, whose epochs were used up.
    pub left: Option<i64>,
}

/// A transactional id as its coordinator describes it.
#[derive(Clone, Copy)]
struct Last {
    producer: i64,
    epoch: i16,
    /// How its last transaction ended, where the coordinator is through with it.
    committed: Option<bool>,
}

impl Last {
    /// What that says to who was made a producer with this id and epoch right after.
    fn before(self, id: i64, epoch: i16) -> Before {
        if self.producer != id {
            return Before { ended: None, left: (self.producer >= 0).then_some(self.producer) };
        }
        // One more epoch: nobody has used the one in between.
        let is_next = self.epoch.checked_add(1) == Some(epoch);
        let ended = self.committed.filter(|_| is_next);
        Before { ended: ended.map(|committed| Ended { producer: id, committed }), left: None }
    }
}

/// Asks for a producer's id and epoch; `None` where brokers are too old to say what is open.
///
/// Errors: `Trouble` where asking again may help.
pub fn init(cluster: &mut Cluster, transactional_id: &str, timeout_ms: i32) -> Sent<Option<Made>> {
    let mut coordinator = find_coordinator(cluster, transactional_id)?;
    let Some(dialect) = Dialect::of(&coordinator) else { return Ok(None) };
    // The coordinator forgets it with the answer to the next question.
    let last = last_transaction(&mut coordinator, transactional_id)?;
    let ask = InitProducerIdRequest::default()
        .with_transactional_id(Some(named(transactional_id)))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    coordinator.send(&ask, dialect.init)?;
    let answer = coordinator.receive::<InitProducerIdRequest>(dialect.init)?;
    match ResponseError::try_from_code(answer.error_code) {
        None => {
            let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
            let before = last.map_or(Before::default(), |last| last.before(id, epoch));
            Ok(Some(Made { coordinator, dialect, id, epoch, before }))
        }
        // What was left open is being ended.
        Some(error) if error.is_retriable() || error == ResponseError::ConcurrentTransactions => {
            Err(Failure::Trouble(error.to_string()))
        }
        Some(error) => Err(Failure::Permanent(error.to_string())),
    }
}

/// The transactional id before it gets a new producer; `None`: it is new, or we may not ask.
fn last_transaction(coordinator: &mut Connection, transactional_id: &str) -> Sent<Option<Last>> {
    let ask = DescribeTransactionsRequest::default()
        .with_transactional_ids(vec![named(transactional_id)]);
    let answer = coordinator.call(&ask)?;
    let Some(found) = answer.transaction_states.first() else { return Ok(None) };
    match ResponseError::try_from_code(found.error_code) {
        None => {}
        // Its answer would come too late: a coordinator that has just started reads its log first.
        Some(error) if error.is_retriable() => return Err(Failure::Trouble(error.to_string())),
        Some(_) => return Ok(None),
    }
    let (producer, epoch) = (found.producer_id.0, found.producer_epoch);
    let committed = end_of(found.transaction_state.as_str())?;
    Ok(Some(Last { producer, epoch, committed }))
}

/// How a transaction in this state ended; `None`: it has not.
///
/// Errors: `Trouble` where it is just being ended: between this answer and the next it may have.
fn end_of(state: &str) -> Sent<Option<bool>> {
    match state {
        "CompleteCommit" => Ok(Some(true)),
        "CompleteAbort" => Ok(Some(false)),
        "PrepareCommit" | "PrepareAbort" => {
            Err(Failure::Trouble("the transaction before is just being ended".to_owned()))
        }
        _ => Ok(None),
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn named(transactional_id: &str) -> TransactionalId {
    TransactionalId(text(transactional_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `last`: producer, epoch, end of its transaction; `made`: producer, epoch.
    fn check(last: (i64, i16, Option<bool>), made: (i64, i16), expected: &str) {
        let (producer, epoch, committed) = last;
        let before = Last { producer, epoch, committed }.before(made.0, made.1);
        let found = match before {
            Before { ended: Some(ended), left: None } => {
                assert_eq!(ended.producer, made.0);
                if ended.committed { "committed" } else { "aborted" }.to_owned()
            }
            Before { ended: None, left: Some(left) } => format!("left {left}"),
            other => {
                assert_eq!(other, Before::default());
                "nothing".to_owned()
            }
        };
        assert_eq!(found, expected, "{last:?} then {made:?}");
    }

    #[test]
    fn f15_an_end_is_known_only_where_nothing_can_have_come_after_it() {
        check((7, 4, Some(true)), (7, 5), "committed");
        check((7, 4, Some(false)), (7, 5), "aborted");
        check((7, 4, None), (7, 5), "nothing");
        // Somebody had an epoch in between, and may have ended a transaction with it.
        check((7, 4, Some(true)), (7, 6), "nothing");
        check((7, i16::MAX, Some(true)), (7, i16::MIN), "nothing");
        // The epochs of 7 were used up; and a new transactional id has no producer.
        check((7, 32_766, Some(true)), (8, 0), "left 7");
        check((-1, -1, None), (8, 0), "nothing");
    }

    /// What is known a moment before InitProducerId must be known when that is asked.
    #[test]
    fn f15_an_end_that_is_on_its_way_is_waited_for() {
        for (state, expected) in [
            ("CompleteCommit", Some(true)),
            ("CompleteAbort", Some(false)),
            ("Empty", None),
            ("Ongoing", None),
        ] {
            assert_eq!(end_of(state).unwrap(), expected, "{state}");
        }
        for state in ["PrepareCommit", "PrepareAbort"] {
            assert!(matches!(end_of(state), Err(Failure::Trouble(_))), "{state}");
        }
    }
}
