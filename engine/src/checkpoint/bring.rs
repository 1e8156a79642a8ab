//! A checkpoint of another directory as the beginning of a job's own.

use std::collections::BTreeMap;

use super::files::read_state;
use super::inspect;
use super::manifest::{Manifest, file_name};
use crate::error::{Error, Result};
use crate::storage::{Storage, write_new};

/// Copies the newest whole checkpoint, or that of an epoch, into a directory that has none. Its
/// outputs are new: what the other job wrote stays that job's.
///
/// Errors: `StateIo` where it cannot be read whole or written; `BadJob` where the directory has
/// checkpoints of its own.
pub fn bring(from: &dyn Storage, epoch: Option<u64>, to: &dyn Storage) -> Result<u64> {
    let kept = inspect::find(from, epoch)?;
    to.create_dir_all("").map_err(|source| super::write_failed(to, source))?;
    if let Some(own) = inspect::manifests(to)?.last() {
        return Err(Error::BadJob {
            rendered: format!(
                "{} has checkpoints of its own, up to epoch {}\n   = leave --from-checkpoint out to go \
                 on from them, or give the job a new [checkpoint] path",
                to.location(),
                own.epoch
            ),
        });
    }
    for file in &kept.manifest.files {
        read_state(from, file)?;
        let bytes = from.read(&file.name).map_err(|source| Error::StateIo {
            what: format!("cannot read {} from {}", file.name, from.location()),
            source,
        })?;
        write_new(to, &file.name, &bytes).map_err(|source| super::write_failed(to, source))?;
    }
    let manifest = Manifest { sinks: BTreeMap::new(), decided_by: None, fence: 0, ..kept.manifest };
    to.publish(&file_name(manifest.epoch), &manifest.to_bytes())
        .map_err(|source| super::write_failed(to, source))?;
    Ok(manifest.epoch)
}
