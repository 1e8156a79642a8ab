//! Checkpoints: what an epoch changed, as Arrow IPC files, and the manifest that commits them.
//!
//! Invariant: a published manifest names only files that were durable before it was published, and
//! the state it stands for is the base, then for each delta `merge`, `evict`. An epoch whose partials
//! outgrow the state writes the state: a base. A manifest's name is
//! given once, to the run whose fence is the newest. At least two manifests and all that they name
//! are kept. This module reads no clock and takes no lock: the caller owns the directory.
//!
//! Where to read on: `recovery` decides what a run goes on from, `fence` which of two runs may
//! publish, `change` what a changed job does to its state, `table` how the state is read.

mod bring;
pub mod change;
mod compaction;
mod fence;
mod files;
pub mod inspect;
mod ipc;
pub mod manifest;
pub mod query;
pub mod recovery;
pub mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::epoch::{Task, Workers};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::Query;
use crate::seeded::{self, Bug};
use crate::sink::{Committed, Marker};
use crate::storage::{Storage, write_new};
pub use bring::bring;
use compaction::Making;
pub use compaction::{Compacted, Compaction, DELTAS_MAX};
pub use files::Changes;
use files::{Heading, read_state, write_state};
pub use ipc::Compression;
pub use manifest::Facts;
use manifest::{Kept, Manifest, Part, StateFile, StateKind};
use recovery::Decision;
use table::StateTable;

/// Manifests kept, the newest included.
const MANIFESTS_KEPT: usize = 2;

/// The checkpoints of one job, in one directory.
pub struct Journal {
    storage: Arc<dyn Storage>,
    plan: Facing,
    /// Makes this run's file names differ from those of a run that was killed.
    attempt: String,
    fence: u64,
    /// The output whose transaction is the commit point.
    decided_by: Option<String>,
    compression: Compression,
    /// What the next epoch builds on is the first; the others are older.
    candidates: Vec<Kept>,
    /// Manifests and state files that cannot be used, with the reason.
    passed_over: Vec<String>,
    /// Names of manifests that were passed over: they make way for the epochs that come again.
    set_aside: Vec<String>,
    /// Parts of the next epoch's delta that memory did not hold; no manifest names them yet.
    staged: Vec<StateFile>,
    /// The rest of it, where a commit got so far and failed behind it: a manifest that is published and not
    /// known to be may name these, so that a commit that is repeated takes them as they are.
    written: Vec<StateFile>,
    /// A base is being made, or is there, that no manifest names yet.
    making: Option<Making>,
    prepared: u64,
}

/// What the manifests say of the query.
struct Facing {
    job: String,
    fingerprint: String,
    parts: Vec<Part>,
    table: Option<StateTable>,
    /// Of the state files, by level.
    columns: Vec<Vec<String>>,
}

/// On which terms a job goes on from its checkpoints.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What decides which epoch was the last (see [`crate::outputs::Outputs::marker`]).
    pub marker: Marker,
    /// The state of a changed query may be taken, as far as it is not refused.
    pub accept_change: bool,
    pub compression: Compression,
}

impl Default for Terms {
    fn default() -> Self {
        let compression = Compression::default();
        Terms { marker: Marker::Manifest, accept_change: false, compression }
    }
}

/// A checkpoint that is durable and not yet committed.
pub struct Prepared {
    manifest: Manifest,
    bytes: Vec<u8>,
    name: String,
}

impl Prepared {
    /// What the output's transaction must name.
    pub fn committed(&self) -> Committed {
        let manifest_hash = manifest::identity(&self.bytes);
        Committed { epoch: self.manifest.epoch, manifest_hash }
    }
}

impl Journal {
    /// [`Journal::open_with`] on the default terms.
    pub fn open(
        storage: Arc<dyn Storage>,
        job: &str,
        query: &Query,
        attempt: String,
    ) -> Result<Journal> {
        Journal::open_with(storage, job, query, attempt, &Terms::default())
    }

    /// Takes the directory over from every run before, and decides what to go on from.
    ///
    /// Errors: `StateIo` where the directory cannot be read, or where nothing in it may be used
    /// though there is something; `BadJob` where the state is another query's.
    pub fn open_with(
        storage: Arc<dyn Storage>,
        job: &str,
        query: &Query,
        attempt: String,
        terms: &Terms,
    ) -> Result<Journal> {
        let io = |what: &str, source| Error::StateIo {
            what: format!("cannot {what} the checkpoints in {}", storage.location()),
            source,
        };
        storage.create_dir_all("").map_err(|e| io("make", e))?;
        // Before anything is looked at: what is seen from here on no earlier run changes.
        let fence = fence::take(&*storage, &attempt).map_err(|e| io("take over", e))?;
        // A manifest that a killed process published is seen, but may not be durable yet; outputs
        // are about to be published on its word.
        storage.sync_dir("").map_err(|e| io("sync", e))?;
        let mut journal = Journal {
            plan: Facing {
                job: job.to_string(),
                fingerprint: query.fingerprint.clone(),
                parts: change::parts(query),
                table: StateTable::of(query.levels[0].plan()),
                columns: query.levels.iter().map(table::columns_of).collect(),
            },
            attempt,
            fence,
            decided_by: match &terms.marker {
                Marker::Manifest => None,
                Marker::Output { name, .. } => Some(name.clone()),
            },
            compression: terms.compression,
            candidates: Vec::new(),
            passed_over: Vec::new(),
            set_aside: Vec::new(),
            staged: Vec::new(),
            written: Vec::new(),
            making: None,
            prepared: 0,
            storage,
        };
        journal.recover(&terms.marker)?;
        journal.check_query(query, terms.accept_change)?;
        Ok(journal)
    }

    fn recover(&mut self, marker: &Marker) -> Result<()> {
        let storage = &*self.storage;
        let manifests = inspect::manifests(storage)?;
        let prepared = inspect::prepared(storage)?;
        match recovery::decide(manifests, prepared, marker) {
            Decision::From { candidates, damaged } => {
                let say = |name: &String| format!("{name} is damaged: its hash does not fit");
                self.passed_over = damaged.iter().map(say).collect();
                (self.candidates, self.set_aside) = (candidates, damaged);
            }
            Decision::Confirm { kept, prepared, damaged } => {
                self.set_aside = damaged.into_iter().collect();
                self.make_way()?;
                let storage = &*self.storage;
                let bytes = storage.read(&prepared).map_err(|e| write_failed(storage, e))?;
                let name = manifest::file_name(kept.manifest.epoch);
                storage.publish(&name, &bytes).map_err(|e| write_failed(storage, e))?;
                self.candidates = vec![*kept];
            }
            Decision::Stop(why) => {
                return Err(Error::StateIo {
                    what: format!("cannot go on from the checkpoints in {}", storage.location()),
                    source: io::Error::new(io::ErrorKind::InvalidData, why),
                });
            }
        }
        Ok(())
    }

    fn check_query(&self, query: &Query, accepts: bool) -> Result<()> {
        let Some(last) = self.last() else { return Ok(()) };
        let changes = change::compare(last, query);
        let refused = changes.iter().any(|change| change.fate == change::Fate::Refused);
        if changes.is_empty() || (accepts && !refused) {
            return Ok(());
        }
        Err(Error::BadJob { rendered: change::refusal(&changes, last, &self.storage.location()) })
    }

    /// What the next epoch builds on.
    pub fn last(&self) -> Option<&Manifest> {
        self.newest().map(|kept| &kept.manifest)
    }

    pub(crate) fn newest(&self) -> Option<&Kept> {
        self.candidates.first()
    }

    /// Why newer checkpoints were passed over, none where the newest is used.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Names of the columns in the state files of a level.
    pub fn columns(&self, level: usize) -> &[String] {
        self.plan.columns.get(level).map_or(&[], Vec::as_slice)
    }

    /// The source's place in the oldest checkpoint that is kept: what a recovery may ask for.
    pub fn oldest_source(&self) -> Option<&serde_json::Value> {
        let kept = self.candidates.len().min(MANIFESTS_KEPT);
        self.candidates[..kept].last().map(|kept| &kept.manifest.source)
    }

    /// The files of the newest checkpoint in order, and their partials; the next one is read while one
    /// is taken.
    ///
    /// Errors: `StateIo` where a file is missing, or its length or hash differs; those of `take`.
    pub fn restore(
        &self,
        workers: &dyn Workers,
        mut take: impl FnMut(&StateFile, &[RecordBatch]) -> Result<()> + Send,
    ) -> Result<()> {
        let files = self.last().map_or(&[][..], |last| &last.files);
        let forgotten = usize::from(seeded::is(Bug::LastDeltaForgotten));
        let files = &files[..files.len().saturating_sub(forgotten)];
        let read = |file: &StateFile| read_state(&*self.storage, file);
        let mut ahead = files.first().map(read).transpose()?;
        for (at, file) in files.iter().enumerate() {
            let partials = ahead.take().expect("it was read while the one before was taken");
            let (mut taken, mut next) = (Ok(()), None);
            let mut tasks: Vec<Task<'_>> = vec![Box::new(|| taken = take(file, &partials))];
            if let Some(file) = files.get(at + 1) {
                tasks.push(Box::new(|| next = Some(read(file))));
            }
            workers.run(tasks);
            taken?;
            ahead = next.transpose()?;
        }
        Ok(())
    }

    /// The newest checkpoint cannot be restored: goes back to the one before. The outputs, when they
    /// are opened, see whether that is allowed.
    ///
    /// Errors: the reason itself where there is none, or where an output has decided for this one.
    pub(crate) fn pass_over(&mut self, reason: Error) -> Result<()> {
        if self.candidates.len() < 2 || self.decided_by.is_some() {
            return Err(reason);
        }
        let unusable = self.candidates.remove(0);
        self.passed_over.push(reason.to_string());
        self.set_aside.push(manifest::file_name(unusable.manifest.epoch));
        Ok(())
    }

    /// Writes what the epoch changed, by level of the plan, and publishes its manifest: the commit
    /// point.
    ///
    /// Errors: `StateIo`; the last checkpoint stays valid and the call may be repeated.
    /// `Unavailable` where another process has taken over.
    pub fn commit(&mut self, facts: Facts, changes: &[Changes]) -> Result<Committed> {
        assert!(self.decided_by.is_none(), "an output decides: prepare, then confirm");
        let manifest = self.write(facts, changes)?;
        let bytes = manifest.to_bytes();
        self.publish(manifest, &bytes)
    }

    /// Writes what the epoch changed and a manifest that waits for an output's transaction.
    ///
    /// Errors: as [`Journal::commit`].
    pub fn prepare(&mut self, facts: Facts, changes: &[Changes]) -> Result<Prepared> {
        assert!(self.decided_by.is_some(), "the manifest decides: commit");
        let manifest = self.write(facts, changes)?;
        let (storage, bytes) = (&*self.storage, manifest.to_bytes());
        fence::check(storage, self.fence)?;
        let name = manifest::prepared_name(manifest.epoch, &self.attempt, self.prepared);
        self.prepared += 1;
        write_new(storage, &name, &bytes).map_err(|e| write_failed(storage, e))?;
        Ok(Prepared { manifest, bytes, name })
    }

    /// The transaction that names a prepared checkpoint is committed: so is the checkpoint.
    ///
    /// Errors: as [`Journal::commit`]; the epoch is committed all the same, and the call is to be
    /// repeated, by this run or by the next one's [`Journal::open_with`].
    pub fn confirm(&mut self, prepared: &Prepared) -> Result<Committed> {
        self.publish(prepared.manifest.clone(), &prepared.bytes)
    }

    /// The transaction was surely not committed.
    pub fn abandon(&mut self, prepared: Prepared) {
        // One that stays costs room until the next collection of garbage.
        let _ = self.storage.remove(&prepared.name);
    }

    fn write(&mut self, facts: Facts, changes: &[Changes]) -> Result<Manifest> {
        fence::check(&*self.storage, self.fence)?;
        self.make_way()?;
        let mut files = self.last().map_or(Vec::new(), |last| last.files.clone());
        if let Some(making) = &self.making {
            files = making.applied(&files);
        }
        // Where nothing leaves by the watermark, nothing did before.
        let before = self.last().and_then(|last| last.watermark_us);
        let before = before.filter(|_| facts.evicts_us.is_some());
        for (level, changes) in changes.iter().enumerate() {
            let staged = self.staged.iter().filter(|file| file.level == level).cloned();
            let mut parts: Vec<StateFile> = staged.collect();
            if changes.rows() > 0 {
                parts.push(self.rest_of_changes(facts.epoch, level, changes)?);
            }
            let base = match changes.is_whole {
                true => Some(parts.len() - usize::from(changes.rows() > 0)),
                false => parts.iter().rposition(|file| file.kind == StateKind::Base),
            };
            if let Some(base) = base.filter(|_| !seeded::is(Bug::BaseOverDeltas)) {
                parts.drain(..base);
                files.retain(|file| file.level != level);
            }
            // The state evicts before the first and after the last: parts of a session that seems to be
            // over may meet one that is not.
            if let Some(first) = parts.first_mut() {
                first.before_us = before;
            }
            if let Some(last) = parts.last_mut() {
                last.watermark_us = facts.evicts_us;
            }
            files.extend(parts);
        }
        failpoint::reach("checkpoint");
        Ok(Manifest {
            format: manifest::FORMAT,
            job: self.plan.job.clone(),
            fingerprint: self.plan.fingerprint.clone(),
            epoch: facts.epoch,
            watermark_us: facts.watermark_us,
            event_time_max_us: facts.event_time_max_us,
            clocks_us: facts.clocks_us,
            source: facts.source,
            ended: facts.ended,
            counters: facts.counters,
            sinks: facts.sinks,
            rows_out: facts.rows_out,
            state_rows: facts.state_rows,
            files,
            fence: self.fence,
            attempt: self.attempt.clone(),
            decided_by: self.decided_by.clone(),
            parts: self.plan.parts.clone(),
            table: self.plan.table.clone(),
        })
    }

    /// Writes a part of what the next epoch changes, by level, ahead of its commit.
    ///
    /// Errors: `StateIo`; the call may be repeated.
    pub fn stage(&mut self, epoch: u64, changes: &[Changes]) -> Result<()> {
        fence::check(&*self.storage, self.fence)?;
        let mut files = Vec::new();
        for (level, changes) in changes.iter().enumerate() {
            if changes.rows() > 0 {
                let part = self.staged.len() + files.len() + 1;
                files.push(self.write_changes(epoch, (level, part), changes)?);
            }
        }
        self.staged.append(&mut files);
        Ok(())
    }

    /// What is not staged of an epoch's changes.
    fn rest_of_changes(
        &mut self,
        epoch: u64,
        level: usize,
        changes: &Changes,
    ) -> Result<StateFile> {
        let is_it = |file: &&StateFile| (file.epoch, file.level) == (epoch, level);
        if let Some(file) = self.written.iter().find(is_it) {
            return Ok(file.clone());
        }
        let file = self.write_changes(epoch, (level, 0), changes)?;
        self.written.push(file.clone());
        Ok(file)
    }

    fn write_changes(
        &self,
        epoch: u64,
        (level, part): (usize, usize),
        changes: &Changes,
    ) -> Result<StateFile> {
        let heading = Heading {
            kind: if changes.is_whole { StateKind::Base } else { StateKind::Delta },
            level,
            part,
            epoch,
            before_us: None,
            watermark_us: None,
            attempt: &self.attempt,
            columns: self.columns(level),
            compression: self.compression,
        };
        write_state(&*self.storage, &heading, &changes.partials)
    }

    /// Renames the manifests that were passed over: the outputs agreed, and their epochs come again.
    fn make_way(&mut self) -> Result<()> {
        let storage = &*self.storage;
        for name in &self.set_aside {
            let aside = format!("damaged-{}-{name}", self.attempt);
            match storage.rename(name, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(write_failed(storage, error));
                }
                _ => {}
            }
        }
        self.set_aside.clear();
        Ok(())
    }

    fn publish(&mut self, manifest: Manifest, bytes: &[u8]) -> Result<Committed> {
        let storage = &*self.storage;
        let name = manifest::file_name(manifest.epoch);
        fence::check(storage, self.fence)?;
        storage.publish(&name, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Unavailable {
                what: format!("another process has published {name} in {}", storage.location()),
                fix: "start the job again: it goes on from that checkpoint".into(),
            },
            _ => write_failed(storage, error),
        })?;
        // Of a later run this one's epoch may have been long ago, its name collected and free again.
        fence::check(storage, self.fence)?;
        let kept = Kept { hash: manifest::identity(bytes), manifest };
        let committed = kept.committed();
        self.making.take_if(|making| making.is_made());
        self.staged.clear();
        self.written.clear();
        self.candidates.insert(0, kept);
        self.candidates.truncate(MANIFESTS_KEPT);
        Ok(committed)
    }

    /// Removes manifests beyond the two newest and the files that no kept manifest names.
    ///
    /// What cannot be read or removed stays: an old file costs room, not correctness.
    pub fn collect_garbage(&self) {
        let Some(last) = self.last() else { return };
        let unnamed = self.making.is_some().then_some(self.attempt.as_str());
        inspect::collect(&*self.storage, MANIFESTS_KEPT, (last.epoch, self.fence), unnamed);
    }
}

fn write_failed(storage: &dyn Storage, source: io::Error) -> Error {
    Error::StateIo { what: format!("cannot write a checkpoint to {}", storage.location()), source }
}
