//! What of an epoch outlives the process: its commit to the journal, and the way back.

use std::collections::BTreeMap;

use super::level::Level;
use super::{Epochs, Finished, Restored, Workers};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::{Changes, Facts, Journal, Prepared};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::seeded::{self, Bug};
use crate::sink::{Committed, Staged};

impl Epochs {
    /// Goes back to an older checkpoint where the newest is damaged.
    pub(super) fn restore(&mut self, workers: &dyn Workers) -> Result<Option<Restored>> {
        while let Err(error) = self.read_state(workers) {
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
            self.emitted = last.watermark_us;
            match &last.clocks_us[..] {
                [] => self.clocks.restore(&[last.event_time_max_us]),
                clocks => self.clocks.restore(clocks),
            }
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

    pub(super) fn changed_bytes(&self) -> usize {
        self.running.changes.iter().map(Changes::bytes_held).sum()
    }

    /// What the running epoch's checkpoint needs so far, by level, where that is more than `most` bytes:
    /// for [`Journal::stage`], as memory need not hold it until the epoch's end.
    pub fn take_changes(&mut self, most: usize) -> Option<Vec<Changes>> {
        let is_much = self.changed_bytes() > most;
        // One without rows says that what came before it is not needed: for the next to say.
        let take = |changes: &mut Changes| match changes.rows() {
            0 => Changes::default(),
            _ => std::mem::take(changes),
        };
        is_much.then(|| self.running.changes.iter_mut().map(take).collect())
    }

    fn read_state(&mut self, workers: &dyn Workers) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let Some(last) = journal.last() else { return Ok(()) };
        let (levels, query) = (&mut self.levels, &self.query);
        let forgets = seeded::is(Bug::EvictionForgotten);
        let at = |level, watermark| query.watermark_at(level, watermark).filter(|_| !forgets);
        for (number, level) in levels.iter_mut().enumerate() {
            let rows = last.files.iter().filter(|file| file.level == number).map(|file| file.rows);
            // Files hold a group once for each epoch that touched it.
            level.reserve(rows.sum::<u64>().min(last.state_rows));
        }
        journal.restore(workers, |file, partials| match levels.get_mut(file.level) {
            Some(of) => {
                // Levels differ: in complete mode deduplication evicts, the groups above it do not.
                let by = |watermark| of.evicting(at(file.level, watermark));
                let evicted = (by(file.before_us), by(file.watermark_us));
                of.restore(partials, journal.columns(file.level), evicted, workers)
            }
            None => Err(Error::failed("a state file is of a part that this query has not")),
        })?;
        // The last epochs may have evicted and written nothing.
        levels.iter_mut().enumerate().try_for_each(|(number, level)| {
            level.settle(level.evicting(at(number, last.watermark_us)))
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
                journal.commit(facts, &self.changes)
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
        journal.prepare(facts, &self.changes)
    }

    /// What the manifest says of the epoch. `before`: the last checkpoint's.
    fn facts(&self, sinks: BTreeMap<String, Staged>, before: Option<&Manifest>) -> Facts {
        let before = before.filter(|_| seeded::is(Bug::OffsetsBehind));
        Facts {
            epoch: self.epoch,
            watermark_us: self.watermark,
            evicts_us: self.evicts,
            event_time_max_us: self.event_time_max,
            clocks_us: match &self.clocks[..] {
                [_] => Vec::new(),
                several => several.to_vec(),
            },
            source: before.map_or(&self.source, |before| &before.source).clone(),
            ended: self.ended,
            counters: self.counters,
            sinks,
            rows_out: self.rows_out,
            state_rows: self.state.rows,
        }
    }
}

/// Whether an error says that a file is not what it was when it was written.
fn is_damage(error: &Error) -> bool {
    let kinds = [std::io::ErrorKind::InvalidData, std::io::ErrorKind::NotFound];
    matches!(error, Error::StateIo { source, .. } if kinds.contains(&source.kind()))
}
