//! Where a source stands, as a checkpoint's manifest stores it.
//!
//! Invariant: what is in here names every byte that was read, so that a restored job reads the rest
//! and nothing twice. A socket and standard input cannot be read again; their place is one in the
//! write-ahead log, where there is one.

use std::io;

use pelton_engine::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A source's place between two rows, as JSON for the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState(pub Value);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    File {
        /// In order of discovery.
        files: Vec<FileState>,
        /// Greatest event time of all rows read, in the unit of the plan.
        event_time_max: Option<i64>,
    },
    Generate {
        suite: String,
        seed: u64,
        next_row: u64,
        event_time_max: Option<i64>,
    },
    Stream {
        event_time_max: Option<i64>,
        #[serde(default)]
        log: Option<LogState>,
    },
    Kafka {
        /// In the order in which they were found: a split's number is its place here.
        splits: Vec<SplitState>,
        /// The clock by which windows have left: the least of the splits that were not idle.
        event_time_max: Option<i64>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitState {
    pub topic: String,
    /// In hex; a topic that was deleted and made anew has another.
    pub topic_id: String,
    pub partition: i32,
    /// First offset not yet read.
    pub offset: i64,
    /// Leader's epoch of the records before it, -1 where none was read.
    pub leader_epoch: i32,
    pub event_time_max: Option<i64>,
}

/// A stream's place in its write-ahead log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogState {
    /// Position of the first record that is needed.
    pub low: u64,
    /// Records from here on are new; of those before, the bytes that a peer has left.
    pub position: u64,
    /// Number that the next peer gets.
    pub next_peer: u64,
    /// Calls of the decoder so far: the order of rows.
    pub calls: u64,
    pub peers: Vec<PeerState>,
}

/// A peer that was not read to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerState {
    pub number: u64,
    pub name: String,
    /// Bytes of it that were taken.
    pub offset: u64,
    /// Line of the next one.
    pub line: u64,
    pub inside_line: bool,
    /// How its fields are ordered, once its head was read: as of `Mapping::to_parts`.
    pub mapping: Option<(usize, Vec<usize>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    pub path: String,
    pub size: u64,
    pub inode: u64,
    pub head: HeadHash,
    /// Start of the first row not yet read, in the uncompressed file, and its line.
    pub byte: u64,
    pub line: u64,
    /// All of it was read, and nothing is to be looked for behind that: a compressed file.
    pub ended: bool,
}

/// XXH3 of a file's first bytes: whether a file is still the one that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadHash {
    pub bytes: u64,
    pub xxh3: String,
}

impl HeadHash {
    pub fn of(head: &[u8]) -> HeadHash {
        let xxh3 = format!("{:016x}", twox_hash::XxHash3_64::oneshot(head));
        HeadHash { bytes: head.len() as u64, xxh3 }
    }
}

impl SourceState {
    /// The clock up to here.
    ///
    /// Errors: as [`State::from_json`].
    pub fn event_time_max(&self) -> Result<Option<i64>> {
        Ok(match State::from_json(self)? {
            State::File { event_time_max, .. }
            | State::Generate { event_time_max, .. }
            | State::Stream { event_time_max, .. }
            | State::Kafka { event_time_max, .. } => event_time_max,
        })
    }

    /// Where in a write-ahead log a job goes on from here; `None` for what can be read again.
    ///
    /// Errors: as [`State::from_json`].
    pub fn log_position(&self) -> Result<Option<u64>> {
        match State::from_json(self)? {
            State::Stream { log, .. } => Ok(log.map(|log| log.low)),
            _ => Ok(None),
        }
    }
}

impl State {
    pub fn to_json(&self) -> SourceState {
        SourceState(serde_json::to_value(self).expect("numbers and text are JSON"))
    }

    /// Errors: `StateIo` where the manifest holds something else.
    pub fn from_json(state: &SourceState) -> Result<State> {
        State::deserialize(&state.0).map_err(|error| Error::StateIo {
            what: "cannot read the source's place in the checkpoint".into(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}
