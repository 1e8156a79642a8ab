//! A commit point outside: a broker with transactions, and the sink that writes to it.
//!
//! It keeps the promises of Kafka's transactions and no others: one producer at a time may write, one
//! that opened earlier is refused, and an end of transaction closes whatever that producer has open,
//! whenever it arrives. Requests get lost, replies get lost, requests arrive late.

use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;

use super::Random;
use super::disk::Gate;
use super::job::{Line, lines_of};
use crate::error::{Error, Result};
use crate::sink::{Committed, Decides, Outcome, Restored, Sink, Staged};

/// Times that a process may find the broker away before it is there for good.
const AWAY_MAX: u64 = 3;

#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The one that may write; each new one is greater.
    producer: u64,
    open: Option<Transaction>,
    committed: Vec<Transaction>,
    /// Ends of transactions that are still on their way, by their producers.
    on_their_way: Vec<u64>,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub marker: Committed,
    pub lines: Vec<Line>,
}

impl Broker {
    pub fn committed(&self) -> Vec<Transaction> {
        self.state().committed.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// A new producer: what the one before has open is aborted.
    fn register(&self) -> (u64, Option<Committed>) {
        let mut state = self.state();
        state.deliver();
        state.producer += 1;
        state.open = None;
        (state.producer, state.committed.last().map(|last| last.marker.clone()))
    }

    /// Rows and marker of a transaction, in the order in which they are sent; false: fenced.
    fn produce(&self, producer: u64, transaction: Transaction, half: bool) -> bool {
        let mut state = self.state();
        if state.producer != producer {
            return false;
        }
        let Transaction { marker, mut lines } = transaction;
        if half {
            lines.truncate(lines.len() / 2);
            state.open = Some(Transaction { marker: marker.clone(), lines });
            state.deliver();
        } else {
            state.open = Some(Transaction { marker, lines });
        }
        true
    }

    fn abort(&self, producer: u64) {
        let mut state = self.state();
        if state.producer == producer {
            state.open = None;
        }
    }

    fn end(&self, producer: u64) -> bool {
        self.state().end(producer)
    }

    fn end_later(&self, producer: u64) {
        self.state().on_their_way.push(producer);
    }
}

impl State {
    fn end(&mut self, producer: u64) -> bool {
        if self.producer != producer {
            return false;
        }
        self.committed.extend(self.open.take());
        true
    }

    /// What was on its way arrives.
    fn deliver(&mut self) {
        for producer in std::mem::take(&mut self.on_their_way) {
            self.end(producer);
        }
    }
}

/// What becomes of one attempt to commit.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    /// A row is refused: the transaction is aborted, and the sink knows it.
    Aborted,
    RequestLost,
    ReplyLost,
    /// The request arrives when the next transaction is half sent, or the next producer registers.
    RequestLate,
    /// It arrives, and once more later on.
    RequestTwice,
}

pub struct TransactionalSink {
    broker: Broker,
    gate: Gate,
    random: Random,
    /// Percent of the attempts that go wrong.
    trouble: u64,
    away: u64,
    producer: u64,
    rows: Vec<Line>,
    is_sealed: bool,
}

impl TransactionalSink {
    pub fn new(broker: Broker, gate: Gate, random: Random, trouble: u64) -> TransactionalSink {
        TransactionalSink {
            broker,
            gate,
            random,
            trouble,
            away: 0,
            producer: 0,
            rows: Vec::new(),
            is_sealed: false,
        }
    }

    fn fate(&mut self) -> Fate {
        if !self.random.chance(self.trouble) {
            return Fate::Fine;
        }
        *self.random.pick(&[
            Fate::Aborted,
            Fate::RequestLost,
            Fate::ReplyLost,
            Fate::RequestLate,
            Fate::RequestTwice,
        ])
    }

    fn gone(&self, source: std::io::Error) -> Error {
        Error::StateIo { what: "the process ended at the broker".to_owned(), source }
    }
}

impl Sink for TransactionalSink {
    fn marker(&mut self) -> Result<Decides> {
        self.gate.pass("ask for the marker", "").map_err(|error| self.gone(error))?;
        if self.away < AWAY_MAX && self.random.chance(self.trouble / 2) {
            self.away += 1;
            self.gate.hurt();
            return Err(Error::Unavailable { what: "no broker".into(), fix: "wait".into() });
        }
        let (producer, marker) = self.broker.register();
        self.producer = producer;
        self.rows.clear();
        self.is_sealed = false;
        self.gate.pass("hear the marker", "").map_err(|error| self.gone(error))?;
        Ok(Decides::Output(marker))
    }

    fn open(&mut self, _restored: Option<&Restored>) -> Result<Option<Committed>> {
        Ok(None)
    }

    fn stage(&mut self, _epoch: u64, rows: &RecordBatch) -> Result<()> {
        if std::mem::take(&mut self.is_sealed) {
            // The epoch before was taken for committed.
            self.rows.clear();
        }
        self.rows.extend(lines_of(rows));
        Ok(())
    }

    fn seal(&mut self, _epoch: u64) -> Result<Staged> {
        self.is_sealed = true;
        // An attempt may leave other facts than the one before.
        let facts = if self.random.chance(20) { self.random.below(1000) } else { 0 };
        Ok(Staged(facts.into()))
    }

    fn discard(&mut self) -> Result<()> {
        self.rows.clear();
        self.is_sealed = false;
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.rows.iter().map(Line::len).sum()
    }

    fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome> {
        assert!(self.is_sealed, "what is committed was sealed");
        let fate = self.fate();
        let transaction = Transaction { marker: checkpoint.clone(), lines: self.rows.clone() };
        self.gate.pass("produce", "").map_err(|error| self.gone(error))?;
        if !self.broker.produce(self.producer, transaction.clone(), true) {
            return Ok(Outcome::Fenced);
        }
        self.gate.pass("produce the rest", "").map_err(|error| self.gone(error))?;
        if matches!(fate, Fate::Aborted) {
            self.broker.abort(self.producer);
            return Ok(Outcome::Not);
        }
        if !self.broker.produce(self.producer, transaction, false) {
            return Ok(Outcome::Fenced);
        }
        self.gate.pass("end the transaction", "").map_err(|error| self.gone(error))?;
        let outcome = match fate {
            Fate::RequestLost => Outcome::Unknown,
            Fate::RequestLate => {
                self.broker.end_later(self.producer);
                Outcome::Unknown
            }
            Fate::Fine | Fate::ReplyLost | Fate::RequestTwice | Fate::Aborted => {
                match self.broker.end(self.producer) {
                    false => Outcome::Fenced,
                    true if matches!(fate, Fate::ReplyLost) => Outcome::Unknown,
                    true if matches!(fate, Fate::RequestTwice) => {
                        self.broker.end_later(self.producer);
                        Outcome::Unknown
                    }
                    true => Outcome::Committed,
                }
            }
        };
        self.gate.pass("hear of the end", "").map_err(|error| self.gone(error))?;
        if outcome == Outcome::Committed {
            self.rows.clear();
            self.is_sealed = false;
        }
        Ok(outcome)
    }
}
