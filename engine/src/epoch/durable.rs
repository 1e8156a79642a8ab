//! What of an epoch outlives the process: its commit to the journal, and the way back.

use std::collections::BTreeMap;

use super::level::Level;
use super::{Epochs, Finished, Restored};
use crate::checkpoint::manifest::StateFile;
use crate::checkpoint::{Facts, Prepared};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::seeded::{self, Bug};
use crate::sink::{Committed, Staged};

impl Epochs {
    /// Goes back to an older checkpoint where the newest is damaged.
    pub(super) fn restore(&mut self) -> Result<Option<Restored>> {
        while let Err(error) = self.read_state() {
            self.levels.iter_mut().for_each(Level::clear);
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
        self.event_time_before = last.event_time_max_us;
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
        let Some(journal) = &self.journal else { return Ok(()) };
        let Some(last) = journal.last() else { return Ok(()) };
        let levels = &mut self.levels;
        let forgets = seeded::is(Bug::EvictionForgotten);
        journal.restore(|file, partials| match levels.get_mut(file.level) {
            Some(of) if forgets => {
                let file = StateFile { before_us: None, watermark_us: None, ..file.clone() };
                of.restore(partials, journal.columns(file.level), &file)
            }
            Some(of) => of.restore(partials, journal.columns(file.level), file),
            None => Err(Error::failed("a state file is of a part that this query has not")),
        })?;
        // The last epochs may have evicted and written nothing.
        levels.iter_mut().try_for_each(|level| {
            let evicts = level.plan.evicting(last.watermark_us);
            level.settle(evicts.filter(|_| !forgets))
        })?;
        failpoint::reach("recover");
        Ok(())
    }

    /// Commits the epoch: from here on it counts. Without a journal there is nothing to be durable.
    ///
    /// Errors: `StateIo`; the last checkpoint stays valid and the call may be repeated.
    pub fn commit(
        &mut self,
        finished: &Finished,
        sinks: BTreeMap<String, Staged>,
    ) -> Result<Committed> {
        let facts = self.facts(finished, sinks);
        let committed = match &mut self.journal {
            None => Committed { epoch: finished.epoch, manifest_hash: 0 },
            Some(journal) => journal.commit(facts, &finished.delta)?,
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
        let facts = self.facts(finished, sinks);
        let journal = self.journal.as_mut();
        let journal = journal.expect("an output commits transactions with a checkpoint only");
        journal.prepare(facts, &finished.delta)
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

    /// What the manifest says of an epoch.
    fn facts(&self, finished: &Finished, sinks: BTreeMap<String, Staged>) -> Facts {
        Facts {
            epoch: finished.epoch,
            watermark_us: finished.watermark,
            evicts_us: self.evicts(finished.watermark),
            event_time_max_us: finished.event_time_max,
            source: finished.source.clone(),
            ended: finished.ended,
            counters: finished.counters,
            sinks,
            rows_out: finished.rows_out,
        }
    }
}

/// Whether an error says that a file is not what it was when it was written.
fn is_damage(error: &Error) -> bool {
    let kinds = [std::io::ErrorKind::InvalidData, std::io::ErrorKind::NotFound];
    matches!(error, Error::StateIo { source, .. } if kinds.contains(&source.kind()))
}
