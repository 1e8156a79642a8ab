//! The manifest: one small file that names, with length and hash, all that an epoch's state needs.
//!
//! Its publication under its final name is the commit point of a job without a Kafka sink. The text
//! is JSON on one line, then the XXH3-128 of that line in hex: a torn or rotten manifest is seen.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::table::StateTable;
use crate::batch::Counters;
use crate::sink::{Committed, Staged};

/// Version of the manifest, of the state files that it names and of the fences beside them. 2: state
/// files name their columns for a reader, the manifest says what the state consists of.
pub const FORMAT: u32 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub job: String,
    /// Of the plan that wrote the state (see [`crate::plan::Plan::fingerprint`]).
    pub fingerprint: String,
    pub epoch: u64,
    /// Emission watermark after the epoch, microseconds.
    pub watermark_us: Option<i64>,
    pub event_time_max_us: Option<i64>,
    /// Greatest event time by scan of the query, where it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clocks_us: Vec<Option<i64>>,
    /// Offsets and file list, as the source wrote them.
    pub source: serde_json::Value,
    /// A bounded input came to its end: there is nothing left to do.
    pub ended: bool,
    pub counters: Counters,
    /// By the sink's name: what it needs to publish this epoch after a crash.
    pub sinks: BTreeMap<String, Staged>,
    /// Rows that left in all epochs so far.
    pub rows_out: u64,
    /// Groups and keys in the state: a start makes room for them at once. 0 where an older version
    /// wrote it.
    #[serde(default)]
    pub state_rows: u64,
    /// The base, if any, then the deltas in the order of their epochs.
    pub files: Vec<StateFile>,
    /// Number and name of the run that wrote it (see [`super::fence`]).
    #[serde(default)]
    pub fence: u64,
    #[serde(default)]
    pub attempt: String,
    /// The output whose transaction was the commit point, if not the publication of this file.
    #[serde(default)]
    pub decided_by: Option<String>,
    /// What the state depends on, by its name (see [`super::change`]); none before format 2.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// How the state is read as a table; none before format 2 and in a query without groups.
    #[serde(default)]
    pub table: Option<StateTable>,
}

/// What a manifest says of an epoch beside its files.
#[derive(Clone, Debug)]
pub struct Facts {
    pub epoch: u64,
    pub watermark_us: Option<i64>,
    /// The watermark as far as groups leave by it.
    pub evicts_us: Option<i64>,
    pub event_time_max_us: Option<i64>,
    /// By scan of the query, where it has several.
    pub clocks_us: Vec<Option<i64>>,
    pub source: serde_json::Value,
    pub ended: bool,
    pub counters: Counters,
    pub sinks: BTreeMap<String, Staged>,
    pub rows_out: u64,
    pub state_rows: u64,
}

/// Something that a state depends on, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub text: String,
}

/// A manifest that was read, with the hash of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub manifest: Manifest,
    pub hash: u128,
}

impl Kept {
    pub fn committed(&self) -> Committed {
        Committed { epoch: self.manifest.epoch, manifest_hash: self.hash }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub name: String,
    pub kind: StateKind,
    /// Of the plan: 0 is what the cores feed.
    #[serde(default)]
    pub level: usize,
    pub epoch: u64,
    /// Watermark by which the state evicts before this file is merged: epochs that wrote none may have
    /// moved it, and what has left must not meet what comes.
    #[serde(default)]
    pub before_us: Option<i64>,
    /// Watermark by which the state evicts after this file was merged.
    pub watermark_us: Option<i64>,
    pub rows: u64,
    pub length: u64,
    pub xxh3: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    Base,
    Delta,
}

impl StateKind {
    pub fn word(self) -> &'static str {
        match self {
            StateKind::Base => "base",
            StateKind::Delta => "delta",
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Torn, truncated or rotten: the hash says so.
    Damaged,
    /// Written by a newer version.
    Newer { format: u32 },
    /// Whole, but of another epoch than its name says.
    Foreign { epoch: u64 },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Damaged => f.write_str("its hash does not fit its text"),
            Unusable::Newer { format } => {
                write!(f, "it has format {format}, this version reads formats up to {FORMAT}")
            }
            Unusable::Foreign { epoch } => write!(f, "it is of epoch {epoch}"),
        }
    }
}

impl Manifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        sealed(&serde_json::to_string(self).expect("a manifest is plain data"))
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, Unusable> {
        let value: serde_json::Value =
            serde_json::from_str(unsealed(bytes)?).map_err(|_| Unusable::Damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
        if format > FORMAT {
            return Err(Unusable::Newer { format });
        }
        serde_json::from_value(value).map_err(|_| Unusable::Damaged)
    }
}

/// Identity of a checkpoint, what a sink remembers of it: the hash of the manifest's file. It is
/// taken of the bytes as they were read, as a version that knows more would write others.
pub fn identity(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// A line of text, and its hash on the next one.
pub(super) fn sealed(line: &str) -> Vec<u8> {
    format!("{line}\n{}\n", hash_text(line.as_bytes())).into_bytes()
}

/// The line, where its hash fits. Exactly what [`sealed`] writes: no byte of the file is without a
/// guard.
pub(super) fn unsealed(bytes: &[u8]) -> Result<&str, Unusable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unusable::Damaged)?;
    let (line, hash) = text.split_once('\n').ok_or(Unusable::Damaged)?;
    let fits = hash.strip_suffix('\n').is_some_and(|hash| hash_text(line.as_bytes()) == hash);
    if fits { Ok(line) } else { Err(Unusable::Damaged) }
}

pub fn hash_text(bytes: &[u8]) -> String {
    hash_word(XxHash3_128::oneshot(bytes))
}

/// A hash as files name it.
pub fn hash_word(hash: u128) -> String {
    format!("{hash:032x}")
}

/// `manifest-000000000012.json`.
pub fn file_name(epoch: u64) -> String {
    format!("manifest-{epoch:012}.json")
}

/// `prepared-000000000012-ATTEMPT-0.json`: durable, and not yet committed by an output.
pub fn prepared_name(epoch: u64, attempt: &str, number: u64) -> String {
    format!("prepared-{epoch:012}-{attempt}-{number}.json")
}

/// The epoch of a prepared manifest's file name.
pub fn prepared_epoch_of(name: &str) -> Option<u64> {
    name.strip_prefix("prepared-")?.strip_suffix(".json")?.split('-').next()?.parse().ok()
}

/// The epoch of a manifest's file name.
pub fn epoch_of(name: &str) -> Option<u64> {
    name.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            job: "sensors".into(),
            fingerprint: "f".into(),
            epoch: 12,
            watermark_us: Some(5),
            event_time_max_us: None,
            clocks_us: vec![],
            source: serde_json::json!({"byte": 7}),
            ended: false,
            counters: Counters { rows_in: 3, applied: 3, ..Counters::default() },
            sinks: BTreeMap::new(),
            rows_out: 0,
            state_rows: 0,
            files: vec![],
            fence: 3,
            attempt: "a".into(),
            decided_by: None,
            parts: vec![],
            table: None,
        }
    }

    #[test]
    fn f51_any_flipped_or_missing_byte_is_seen() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        for i in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[i] ^= 1;
            assert!(Manifest::from_bytes(&rotten).is_err(), "flipped byte {i}");
            assert!(Manifest::from_bytes(&bytes[..i]).is_err(), "cut at byte {i}");
        }
        let longer = [&bytes[..], b"\n"].concat();
        assert!(Manifest::from_bytes(&longer).is_err(), "a byte too many");
    }

    #[test]
    fn f57_a_newer_format_is_refused_by_name() {
        let newer = Manifest { format: FORMAT + 1, ..manifest() };
        assert_eq!(
            Manifest::from_bytes(&newer.to_bytes()),
            Err(Unusable::Newer { format: FORMAT + 1 })
        );
    }

    #[test]
    fn names_and_epochs_go_both_ways() {
        assert_eq!(epoch_of(&file_name(12)), Some(12));
        assert_eq!(epoch_of("manifest-000000000012.json.tmp"), None);
        assert_eq!(epoch_of("delta-000000000012.arrow"), None);
    }
}
