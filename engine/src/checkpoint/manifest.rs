//! The manifest: one small file that names, with length and hash, all that an epoch's state needs.
//!
//! Its publication under its final name is the commit point of a job without a Kafka sink. The text
//! is JSON on one line, then the XXH3-128 of that line in hex: a torn or rotten manifest is seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::batch::Counters;
use crate::sink::Staged;

/// Version of the manifest and of the state files that it names.
pub const FORMAT: u32 = 1;

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
    /// Offsets and file list, as the source wrote them.
    pub source: serde_json::Value,
    /// A bounded input came to its end: there is nothing left to do.
    pub ended: bool,
    pub counters: Counters,
    /// By the sink's name: what it needs to publish this epoch after a crash.
    pub sinks: BTreeMap<String, Staged>,
    /// Rows that left in all epochs so far.
    pub rows_out: u64,
    /// The base, if any, then the deltas in the order of their epochs.
    pub files: Vec<StateFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub name: String,
    pub kind: StateKind,
    pub epoch: u64,
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

/// Why a manifest cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Torn, truncated or rotten: the hash says so.
    Damaged,
    /// Written by a newer version.
    Newer { format: u32 },
}

impl Manifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_string(self).expect("a manifest is plain data");
        let hash = hash_text(text.as_bytes());
        text.push('\n');
        text.push_str(&hash);
        text.push('\n');
        text.into_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, Unusable> {
        let text = std::str::from_utf8(bytes).map_err(|_| Unusable::Damaged)?;
        let mut lines = text.split_terminator('\n');
        let (Some(json), Some(hash), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Unusable::Damaged);
        };
        if hash_text(json.as_bytes()) != hash {
            return Err(Unusable::Damaged);
        }
        let value: serde_json::Value = serde_json::from_str(json).map_err(|_| Unusable::Damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
        if format > FORMAT {
            return Err(Unusable::Newer { format });
        }
        serde_json::from_value(value).map_err(|_| Unusable::Damaged)
    }

    /// Identity of the checkpoint: what a sink remembers of it.
    pub fn hash(&self) -> u128 {
        XxHash3_128::oneshot(&self.to_bytes())
    }
}

pub fn hash_text(bytes: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(bytes))
}

/// `manifest-000000000012.json`.
pub fn file_name(epoch: u64) -> String {
    format!("manifest-{epoch:012}.json")
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
            source: serde_json::json!({"byte": 7}),
            ended: false,
            counters: Counters { rows_in: 3, applied: 3, ..Counters::default() },
            sinks: BTreeMap::new(),
            rows_out: 0,
            files: vec![],
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
            // The last line terminator carries nothing.
            if i + 1 < bytes.len() {
                assert!(Manifest::from_bytes(&bytes[..i]).is_err(), "cut at byte {i}");
            }
        }
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
