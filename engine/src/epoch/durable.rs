//! What of an epoch outlives the process: its commit to the journal, and the way back.

use std::collections::BTreeMap;

use super::level::Level;
use super::{Epochs, Finished, Restored};
use crate::checkpoint::manifest::{Manifest, StateFile};
use crate::checkpoint::{Facts, Journal, Prepared};
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
        if !seeded::is(Bug::WatermarkForgotten) {
            self.watermark = last.watermark_us;
            self.event_time_max = last.event_time_max_us;
            self.event_time_before = last.event_time_max_us;
        }
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
}

impl Finished {
    /// Commits the epoch: from here on it counts. Without a journal there is nothing to be durable.
    ///
    /// Errors: `StateIo`; the last checkpoint stays valid and the call may be repeated.
    pub fn commit(
        &self,
        journal: Option<&mut Journal>,
        sinks: BTreeMap<String, Staged>,
    ) -> Result<Committed> {
        match journal {
            None => Ok(Committed { epoch: self.epoch, manifest_hash: 0 }),
            Some(journal) => {
                let facts = self.facts(sinks, journal.last());
                journal.commit(facts, &self.delta)
            }
        }
    }

    /// Makes the epoch's checkpoint durable for an output whose transaction commits it.
    ///
    /// Errors: as [`Finished::commit`].
    pub fn prepare(
        &self,
        journal: &mut Journal,
        sinks: BTreeMap<String, Staged>,
    ) -> Result<Prepared> {
        let facts = self.facts(sinks, journal.last());
        journal.prepare(facts, &self.delta)
    }

    /// What the manifest says of the epoch. `before`: the last checkpoint's.
    fn facts(&self, sinks: BTreeMap<String, Staged>, before: Option<&Manifest>) -> Facts {
        let before = before.filter(|_| seeded::is(Bug::OffsetsBehind));
        Facts {
            epoch: self.epoch,
            watermark_us: self.watermark,
            evicts_us: self.evicts,
            event_time_max_us: self.event_time_max,
            source: before.map_or(&self.source, |before| &before.source).clone(),
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
