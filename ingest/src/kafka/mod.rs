//! Kafka, read the direct way: partitions are assigned, not balanced; offsets live in the checkpoint.
//!
//! [`records`] walks batches where they lie, [`fetch`] the answers that hold them; [`native`] drives a
//! core's connections without ever waiting in one; [`cluster`] asks the small questions. What a core
//! gets is a [`Chunk`]: the values of consecutive messages of one partition.
//!
//! Invariant: every committed record of a partition comes exactly once and in the order of offsets;
//! what is not there any more is an error, never a jump (SEMANTICS 7).

pub mod chunk;
pub mod cluster;
mod codec;
pub mod connection;
pub mod control;
pub mod fetch;
mod flow;
pub mod librdkafka;
pub mod native;
pub mod partition;
pub mod records;
mod secret;
mod session;
pub mod sink;
pub mod start;
mod wire;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_engine::error::Result;

pub use chunk::{Chunk, Message};
pub use cluster::Leader;

/// A partition, and where reading it begins and ends.
#[derive(Clone, Debug)]
pub struct SplitStart {
    /// Its number among the job's splits.
    pub split: usize,
    pub topic: Arc<str>,
    pub topic_id: [u8; 16],
    pub partition: i32,
    /// First offset to read.
    pub offset: i64,
    /// Leader's epoch of the record before it; -1: not known.
    pub leader_epoch: i32,
    /// Reading ends before this offset.
    pub end: Option<i64>,
    /// Greatest event time of the records before.
    pub event_time_max: Option<i64>,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All committed records that the broker had were handed out.
    pub caught_up: bool,
    /// It has an end, and that is reached.
    pub ended: bool,
    /// Since when its broker answers "empty".
    pub empty_since: Option<Instant>,
}

/// What a core asks the thread that knows the cluster.
#[derive(Debug)]
pub enum Ask {
    Connect {
        core: usize,
        node: i32,
    },
    /// Who leads this split now, and are the records before `offset` still those that were read?
    Settle {
        core: usize,
        split: usize,
        offset: i64,
        leader_epoch: i32,
    },
    /// From outside: an epoch with these offsets is committed.
    Commit {
        offsets: Vec<(Arc<str>, i32, i64)>,
    },
}

/// What a core is told.
#[derive(Debug)]
pub enum Reply {
    Connected {
        node: i32,
        stream: TcpStream,
        version: i16,
    },
    /// The broker cannot be reached now.
    Away {
        node: i32,
    },
    Settled {
        split: usize,
        leader: Leader,
    },
    Arrived(SplitStart),
}

/// The source of one core's chunks.
pub trait Client: Send {
    /// Does what can be done without waiting, and waits for more at most `timeout`; `read`: else only
    /// for a word from outside.
    ///
    /// Errors: what ends the job: a split whose records are gone, an answer that cannot be.
    fn turn(&mut self, timeout: Duration, read: bool) -> Result<()>;

    /// Puts the next messages of some partition into an empty chunk; `false`: there are none now.
    ///
    /// Errors: as [`Client::turn`].
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool>;

    /// Splits that came since this was asked last; those of the start are the first.
    fn arrivals(&mut self) -> Vec<SplitStart>;

    fn standing(&self, split: usize) -> Standing;

    /// Memory of buffers.
    fn bytes_held(&self) -> usize;
}
