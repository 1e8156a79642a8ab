//! What a directory of output says of itself, and what that allows.
//!
//! Invariant: `decide` is pure; a directory is continued only where it stands at the restored
//! checkpoint or at the epoch before it that had rows.

use std::io;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::super::{Committed, Restored};
use super::LEDGER;
use crate::job::spec::FileFormat;
use crate::storage::Storage;

/// Version of the epoch's JSON file and of what the manifest keeps.
pub const FORMAT: u32 = 1;

/// A published epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub epoch: u64,
    /// Of the checkpoint's manifest.
    pub manifest: Hash,
}

impl Mark {
    pub fn committed(&self) -> Committed {
        Committed { epoch: self.epoch, manifest_hash: self.manifest.0 }
    }
}

impl From<&Committed> for Mark {
    fn from(checkpoint: &Committed) -> Mark {
        Mark { epoch: checkpoint.epoch, manifest: checkpoint.manifest_hash.into() }
    }
}

/// 128 bits, in JSON as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(u128);

impl From<u128> for Hash {
    fn from(hash: u128) -> Hash {
        Hash(hash)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        format!("{:032x}", hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Hash, Self::Error> {
        u128::from_str_radix(&text, 16).map(Hash)
    }
}

/// What the manifest keeps of an epoch's output until it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub format: u32,
    /// The newest epoch that the directory had published by then.
    pub after: Option<Mark>,
    pub files: Vec<OutputFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Final name.
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub staged: String,
    pub rows: u64,
    pub length: u64,
    pub xxh3_128: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Whole,
    Damaged,
    Missing,
}

impl OutputFile {
    /// Compares what lies under a name with what was written.
    pub fn read(&self, storage: &dyn Storage, name: &str) -> io::Result<Found> {
        match storage.read(name) {
            Ok(bytes)
                if bytes.len() as u64 == self.length
                    && Hash(XxHash3_128::oneshot(&bytes)) == self.xxh3_128 =>
            {
                Ok(Found::Whole)
            }
            Ok(_) => Ok(Found::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    }

    pub fn lost(&self, name: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{name} is missing or not what was written ({} bytes, XXH3-128 {})",
                self.length,
                String::from(self.xxh3_128)
            ),
        )
    }
}

/// The epoch's JSON file, for readers that want whole epochs.
#[derive(Serialize, Deserialize)]
struct EpochFile {
    format: u32,
    #[serde(flatten)]
    mark: Mark,
    files: Vec<OutputFile>,
}

/// One line of JSON; the staging names stay inside.
pub fn to_bytes(mark: &Mark, files: &[OutputFile]) -> Vec<u8> {
    let files =
        files.iter().map(|file| OutputFile { staged: String::new(), ..file.clone() }).collect();
    let mut bytes = serde_json::to_vec(&EpochFile { format: FORMAT, mark: mark.clone(), files })
        .expect("the file's content is plain data");
    bytes.push(b'\n');
    bytes
}

/// `epoch-000012-0.csv`.
pub fn file_name(epoch: u64, format: FileFormat) -> String {
    let extension = match format {
        FileFormat::Csv { .. } => "csv",
        FileFormat::Json => "json",
        FileFormat::Parquet => "parquet",
        FileFormat::Arrow => "arrow",
    };
    format!("epoch-{epoch:06}-0.{extension}")
}

/// `_pelton/epoch-000012.json`.
pub fn mark_name(epoch: u64) -> String {
    format!("{LEDGER}/epoch-{epoch:06}.json")
}

/// The epoch in the name of an output file or of an epoch's JSON file.
pub fn epoch_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("epoch-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What lies in a directory.
#[derive(Debug, Default)]
pub struct Contents {
    /// The newest epoch with a JSON file.
    pub last: Option<Mark>,
    /// Final names of output files, with their epochs.
    pub files: Vec<(u64, String)>,
    /// JSON files that a process was writing.
    pub unfinished: Vec<String>,
}

pub fn read(storage: &dyn Storage) -> io::Result<Contents> {
    let outputs = storage.list("")?;
    let files = outputs.into_iter().filter_map(|name| Some((epoch_of(&name)?, name))).collect();
    let marks = storage.list(LEDGER)?;
    let epochs = marks.iter().filter(|name| name.ends_with(".json")).filter_map(|n| epoch_of(n));
    let unfinished = marks.iter().filter(|name| name.ends_with(".tmp"));
    let unfinished = unfinished.map(|name| format!("{LEDGER}/{name}")).collect();
    let Some(newest) = epochs.max() else {
        return Ok(Contents { last: None, files, unfinished });
    };
    let name = mark_name(newest);
    let parsed: Result<EpochFile, _> = serde_json::from_slice(&storage.read(&name)?);
    match parsed {
        Ok(file) if file.format <= FORMAT && file.mark.epoch == newest => {
            Ok(Contents { last: Some(file.mark), files, unfinished })
        }
        Ok(file) if file.format > FORMAT => Err(damaged(&name, "it has a newer format")),
        Ok(_) => Err(damaged(&name, "it names another epoch")),
        Err(error) => Err(damaged(&name, &error.to_string())),
    }
}

fn damaged(name: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} cannot be used: {why}"))
}

#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Everything of the checkpoint is visible already.
    Continue { last: Option<Mark> },
    /// The checkpoint was committed, its files were not all published.
    Publish { sealed: Sealed, mark: Mark },
}

/// What a directory and a checkpoint allow together. Errors: why they do not belong together.
pub fn decide(found: &Contents, restored: Option<&Restored>) -> Result<Decision, String> {
    let Some((restored, sealed)) = sealed_of(restored)? else {
        return match (&found.last, found.files.first()) {
            (None, None) => Ok(Decision::Continue { last: None }),
            (Some(mark), _) => {
                Err(format!("it ends with epoch {}, and this job begins anew", mark.epoch))
            }
            (None, Some((_, name))) => Err(format!("there is {name}, and this job begins anew")),
        };
    };
    let now = Mark::from(&restored.checkpoint);
    let visible_after = sealed.after.as_ref().map(|mark| mark.epoch);
    let ours = |name: &str| sealed.files.iter().any(|file| file.name == name);
    let stray = found.files.iter().find(|(at, name)| Some(*at) > visible_after && !ours(name));
    if let Some((_, name)) = stray {
        return Err(format!("{name} is not of the checkpoint's epoch {} or before", now.epoch));
    }
    if found.last == sealed.after {
        return Ok(if sealed.files.is_empty() {
            Decision::Continue { last: sealed.after }
        } else {
            Decision::Publish { sealed, mark: now }
        });
    }
    if found.last.as_ref() == Some(&now) {
        return Ok(Decision::Continue { last: Some(now) });
    }
    let describe = |mark: &Option<Mark>| match mark {
        None => "at its beginning".to_owned(),
        Some(mark) => {
            format!("at epoch {} of checkpoint {}", mark.epoch, String::from(mark.manifest))
        }
    };
    Err(format!(
        "it stands {}, where the checkpoint (epoch {}) needs one that stands {}",
        describe(&found.last),
        now.epoch,
        describe(&sealed.after)
    ))
}

/// The checkpoint's list for this sink; none where the job or the sink is new.
fn sealed_of(restored: Option<&Restored>) -> Result<Option<(&Restored, Sealed)>, String> {
    let Some(restored) = restored.filter(|restored| !restored.staged.0.is_null()) else {
        return Ok(None);
    };
    let sealed: Sealed = serde_json::from_value(restored.staged.0.clone())
        .map_err(|error| format!("the checkpoint's list of files cannot be read: {error}"))?;
    if sealed.format > FORMAT {
        return Err(format!("the checkpoint's list of files has format {}", sealed.format));
    }
    Ok(Some((restored, sealed)))
}
