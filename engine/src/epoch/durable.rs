//! What of an epoch outlives the process: its commit to the journal, and the way back.

use std::collections::BTreeMap;

use super::{Epochs, Finished, Restored};
use crate::checkpoint::{Facts, Prepared};
use crate::error::{Error, Result};
use crate::plan::Shape;
use crate::sink::{Committed, Staged};
use crate::state::{StateStore, partition};

impl Epochs {
    /// Goes back to an older checkpoint where the newest is damaged.
    pub(super) fn restore(&mut self) -> Result<Option<Restored>> {
        while let Err(error) = self.read_state() {
            self.shards.iter_mut().for_each(StateStore::clear);
            let Some(journal) = self.journal.as_mut().filter(|_| is_damage(&error)) else {
                return Err(error);
            };
            journal.pass_over(error)?;
        }
        let Some(journal) = &self.journal else { return Ok(None) };
        let Some(kept) = journal.newest() else { return Ok(None) };
        let last = &kept.manifest;
        self.next = last.epoch + 1;
        self.watermark = last.watermark_us;
        self.event_time_max = last.event_time_max_us;
        self.rows_out = last.rows_out;
        Ok(Some(Restored {
            committed: kept.committed(),
            source: last.source.clone(),
            ended: last.ended,
            sinks: last.sinks.clone(),
            passed_over: journal.passed_over().to_vec(),
        }))
    }

    fn read_state(&mut self) -> Result<()> {
        let (Some(journal), Shape::Groups(groups)) = (&self.journal, &self.plan.shape) else {
            return Ok(());
        };
        let (keys, shards) = (groups.keys.len(), &mut self.shards);
        journal.restore(|partials, watermark| {
            for partial in partials {
                let parts = partition::split(partial, keys, shards.len());
                for (shard, part) in shards.iter_mut().zip(parts) {
                    shard.merge_file(&part, journal.columns())?;
                }
            }
            shards.iter_mut().for_each(|shard| _ = shard.settle(watermark));
            Ok(())
        })
    }

    /// Commits the epoch: from here on it counts. Without a journal there is nothing to be durable.
    ///
    /// Errors: `StateIo`; the last checkpoint stays valid and the call may be repeated.
    pub fn commit(
        &mut self,
        finished: &Finished,
        sinks: BTreeMap<String, Staged>,
    ) -> Result<Committed> {
        let committed = match &mut self.journal {
            None => Committed { epoch: finished.epoch, manifest_hash: 0 },
            Some(journal) => journal.commit(finished.facts(sinks), &finished.delta)?,
        };
        self.next = finished.epoch + 1;
        Ok(committed)
    }

    /// Makes the epoch's checkpoint durable for an output whose transaction commits it.
    ///
    /// Errors: as [`Epochs::commit`].
    pub fn prepare(
        &mut self,
        finished: &Finished,
        sinks: BTreeMap<String, Staged>,
    ) -> Result<Prepared> {
        let journal = self.journal.as_mut();
        let journal = journal.expect("an output commits transactions with a checkpoint only");
        journal.prepare(finished.facts(sinks), &finished.delta)
    }

    /// The transaction that names a prepared checkpoint was committed. Errors: as [`Epochs::commit`].
    pub fn confirm(&mut self, prepared: &Prepared) -> Result<Committed> {
        let journal = self.journal.as_mut().expect("what was prepared has a journal");
        let committed = journal.confirm(prepared)?;
        self.next = committed.epoch + 1;
        Ok(committed)
    }

    /// The transaction that names a prepared checkpoint was surely not committed.
    pub fn abandon(&mut self, prepared: Prepared) {
        self.journal.as_mut().expect("what was prepared has a journal").abandon(prepared);
    }
}

impl Finished {
    /// What the manifest says of this epoch.
    fn facts(&self, sinks: BTreeMap<String, Staged>) -> Facts {
        Facts {
            epoch: self.epoch,
            watermark_us: self.watermark,
            event_time_max_us: self.event_time_max,
            source: self.source.clone(),
            ended: self.ended,
            counters: self.counters,
            sinks,
            rows_out: self.rows_out,
        }
    }
}

/// Whether an error says that a file is not what it was when it was written.
fn is_damage(error: &Error) -> bool {
    let kinds = [std::io::ErrorKind::InvalidData, std::io::ErrorKind::NotFound];
    matches!(error, Error::StateIo { source, .. } if kinds.contains(&source.kind()))
}
