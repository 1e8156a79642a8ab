//! Checkpoints: what an epoch changed, as Arrow IPC files, and the manifest that commits them.
//!
//! Invariant: a published manifest names only files that were durable before it was published, and
//! the state it stands for is the base, then for each delta `merge`, `evict`. At least two
//! manifests and all that they name are kept. This module reads no clock and takes no lock: the
//! caller owns the directory.

mod compaction;
mod ipc;
pub mod manifest;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::batch::Counters;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sink::{Committed, Staged};
use crate::storage::{Storage, write_durably};
pub use compaction::{Compacted, Compaction};
use manifest::{Manifest, StateFile, StateKind, Unusable, hash_text};

/// Manifests kept, the newest included.
const MANIFESTS_KEPT: usize = 2;

/// The checkpoints of one job, in one directory.
pub struct Journal {
    storage: Arc<dyn Storage>,
    job: String,
    fingerprint: String,
    /// Makes this run's file names differ from those of a run that was killed.
    attempt: String,
    last: Option<Manifest>,
    compacted: Option<Compacted>,
}

impl Journal {
    /// Reads the newest manifest.
    ///
    /// Errors: `StateIo` where the directory cannot be read, or where the newest manifest is
    /// damaged or newer than this version: an older one may not be used instead, as output of the
    /// newest may be published already. `BadJob` where the state belongs to another plan.
    pub fn open(
        storage: Arc<dyn Storage>,
        job: &str,
        plan: &Plan,
        attempt: String,
    ) -> Result<Journal> {
        let io = |what: &str, source| Error::StateIo {
            what: format!("cannot {what} the checkpoints in {}", storage.location()),
            source,
        };
        storage.create_dir_all("").map_err(|e| io("make", e))?;
        // A manifest that a killed process renamed is seen, but may not be durable yet; outputs are
        // about to be published on its word.
        storage.sync_dir("").map_err(|e| io("sync", e))?;
        let names = storage.list("").map_err(|e| io("list", e))?;
        let newest = names.iter().filter_map(|name| manifest::epoch_of(name)).max();
        let last = match newest {
            None => None,
            Some(epoch) => {
                let name = manifest::file_name(epoch);
                let bytes = storage.read(&name).map_err(|e| io("read", e))?;
                Some(Manifest::from_bytes(&bytes).map_err(|why| unusable(&*storage, &name, why))?)
            }
        };
        let journal = Journal {
            job: job.to_string(),
            fingerprint: plan.fingerprint.clone(),
            attempt,
            last,
            compacted: None,
            storage,
        };
        journal.check_plan()?;
        Ok(journal)
    }

    fn check_plan(&self) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        if last.fingerprint == self.fingerprint {
            return Ok(());
        }
        Err(Error::BadJob {
            rendered: format!(
                "the state in {} was written by another query (job \"{}\", epoch {})\n   = \
                 go back to that query, or give this one a [checkpoint] path of its own",
                self.storage.location(),
                last.job,
                last.epoch,
            ),
        })
    }

    pub fn last(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// The files of the newest checkpoint in order: their partials, and the watermark by which the
    /// state evicts after they were merged.
    ///
    /// Errors: `StateIo` where a file is missing, or its length or hash differs; those of `take`.
    pub fn restore(
        &self,
        mut take: impl FnMut(&[RecordBatch], Option<i64>) -> Result<()>,
    ) -> Result<()> {
        for file in self.last.iter().flat_map(|last| &last.files) {
            take(&read_state(&*self.storage, file)?, file.watermark_us)?;
        }
        Ok(())
    }

    /// Writes what the epoch changed and publishes its manifest: the commit point.
    ///
    /// Errors: `StateIo`; the last checkpoint stays valid and the call may be repeated.
    pub fn commit(&mut self, facts: Facts, delta: &[RecordBatch]) -> Result<Committed> {
        let mut files = self.last.as_ref().map_or(Vec::new(), |last| last.files.clone());
        if let Some(Compacted { base, covers }) = &self.compacted {
            files.splice(..covers, [base.clone()]);
        }
        if delta.iter().any(|partial| partial.num_rows() > 0) {
            let of = (StateKind::Delta, facts.epoch, facts.watermark_us);
            files.push(write_state(&*self.storage, of, &self.attempt, delta)?);
        }
        let committed = self.publish(facts, files)?;
        self.compacted = None;
        Ok(committed)
    }

    fn publish(&mut self, facts: Facts, files: Vec<StateFile>) -> Result<Committed> {
        let manifest = Manifest {
            format: manifest::FORMAT,
            job: self.job.clone(),
            fingerprint: self.fingerprint.clone(),
            epoch: facts.epoch,
            watermark_us: facts.watermark_us,
            event_time_max_us: facts.event_time_max_us,
            source: facts.source,
            ended: facts.ended,
            counters: facts.counters,
            sinks: facts.sinks,
            rows_out: facts.rows_out,
            files,
        };
        let name = manifest::file_name(manifest.epoch);
        write_durably(&*self.storage, &name, &manifest.to_bytes())
            .map_err(|e| write_failed(&*self.storage, e))?;
        let committed = Committed { epoch: manifest.epoch, manifest_hash: manifest.hash() };
        self.last = Some(manifest);
        Ok(committed)
    }

    /// Removes manifests beyond the two newest and the state files that no kept manifest names.
    ///
    /// What cannot be read or removed stays: an old file costs room, not correctness.
    pub fn collect_garbage(&self) {
        let Ok(names) = self.storage.list("") else { return };
        let mut epochs: Vec<u64> = names.iter().filter_map(|n| manifest::epoch_of(n)).collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        let mut needed = Vec::new();
        for &epoch in epochs.iter().take(MANIFESTS_KEPT) {
            let name = manifest::file_name(epoch);
            let kept = self.storage.read(&name).ok().and_then(|b| Manifest::from_bytes(&b).ok());
            let Some(kept) = kept else { return };
            needed.extend(kept.files.into_iter().map(|file| file.name));
            needed.push(name);
        }
        for name in names {
            let ours = name.starts_with("manifest-")
                || name.starts_with("delta-")
                || name.starts_with("base-");
            if ours && !needed.contains(&name) {
                // Tried again after the next epoch.
                let _ = self.storage.remove(&name);
            }
        }
    }
}

fn read_state(storage: &dyn Storage, file: &StateFile) -> Result<Vec<RecordBatch>> {
    let failed = |source: io::Error| Error::StateIo {
        what: format!("cannot restore {} from {}", file.name, storage.location()),
        source,
    };
    let bytes = storage.read(&file.name).map_err(failed)?;
    if bytes.len() as u64 != file.length || hash_text(&bytes) != file.xxh3 {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "its {} bytes are not the {} that the manifest names; the file was changed or the \
                 disk lost data: restore the directory from a copy, or remove it to begin anew",
                bytes.len(),
                file.length
            ),
        )));
    }
    ipc::read(bytes).map_err(failed)
}

fn write_state(
    storage: &dyn Storage,
    (kind, epoch, watermark_us): (StateKind, u64, Option<i64>),
    attempt: &str,
    partials: &[RecordBatch],
) -> Result<StateFile> {
    let bytes = ipc::write(partials).map_err(|e| write_failed(storage, e))?;
    let word = match kind {
        StateKind::Base => "base",
        StateKind::Delta => "delta",
    };
    let name = format!("{word}-{epoch:012}-{attempt}.arrow");
    write_durably(storage, &name, &bytes).map_err(|e| write_failed(storage, e))?;
    Ok(StateFile {
        kind,
        epoch,
        watermark_us,
        rows: partials.iter().map(|partial| partial.num_rows() as u64).sum(),
        length: bytes.len() as u64,
        xxh3: hash_text(&bytes),
        name,
    })
}

fn write_failed(storage: &dyn Storage, source: io::Error) -> Error {
    Error::StateIo { what: format!("cannot write a checkpoint to {}", storage.location()), source }
}

/// What a manifest says of an epoch beside its files.
#[derive(Clone, Debug)]
pub struct Facts {
    pub epoch: u64,
    pub watermark_us: Option<i64>,
    pub event_time_max_us: Option<i64>,
    pub source: serde_json::Value,
    pub ended: bool,
    pub counters: Counters,
    pub sinks: BTreeMap<String, Staged>,
    pub rows_out: u64,
}

fn unusable(storage: &dyn Storage, name: &str, why: Unusable) -> Error {
    let found = match why {
        Unusable::Damaged => "it is damaged: its hash does not fit its text".to_string(),
        Unusable::Newer { format } => {
            format!("it has format {format}, this version reads formats up to {}", manifest::FORMAT)
        }
    };
    Error::StateIo {
        what: format!(
            "cannot use {name} in {}: an older checkpoint must not be taken instead, as output of \
             this one may be published",
            storage.location()
        ),
        source: io::Error::new(io::ErrorKind::InvalidData, found),
    }
}
