//! A new base from the old base and its deltas: the same merge as recovery, on files alone.
//!
//! Never from live memory, so it can run beside the epochs and what it reads is what a recovery
//! would read.

use std::sync::Arc;

use super::files::{Heading, read_state, write_state};
use super::manifest::{StateFile, StateKind};
use super::{Compression, Journal};
use crate::error::Result;
use crate::plan::Plan;
use crate::seeded::{self, Bug};
use crate::state::StateStore;
use crate::storage::Storage;

/// Deltas above a base before a new one is made.
pub const DELTAS_MAX: usize = 64;

/// Files to be made into one base; runs on any thread.
pub struct Compaction {
    storage: Arc<dyn Storage>,
    plan: Arc<Plan>,
    attempt: String,
    columns: Vec<Vec<String>>,
    compression: Compression,
    files: Vec<StateFile>,
}

/// Bases, one a level, that stand for the first `covers` files of the manifest they were made from.
pub struct Compacted {
    pub(super) bases: Vec<StateFile>,
    pub(super) covers: usize,
}

impl Journal {
    /// Work to be done beside the epochs, once `deltas_max` deltas lie above the base.
    pub fn compaction(&mut self, plan: &Arc<Plan>, deltas_max: usize) -> Option<Compaction> {
        if self.compacting {
            return None;
        }
        let files = &self.last()?.files;
        let deltas = files.iter().filter(|file| file.kind == StateKind::Delta).count();
        if deltas < deltas_max {
            return None;
        }
        let files = files.clone();
        self.compacting = true;
        Some(Compaction {
            storage: Arc::clone(&self.storage),
            plan: Arc::clone(plan),
            attempt: self.attempt.clone(),
            columns: self.plan.columns.clone(),
            compression: self.compression,
            files,
        })
    }

    /// The work came to nothing: it may be begun again.
    pub fn give_up_compaction(&mut self) {
        self.compacting = false;
    }

    /// From the next commit on the base stands in the place of what it was made from.
    pub fn adopt(&mut self, compacted: Compacted) {
        self.compacted = Some(compacted);
    }
}

impl Compaction {
    pub fn run(self) -> Result<Compacted> {
        let mut bases = Vec::new();
        for (level, plan) in self.plan.levels().enumerate() {
            let Some(spec) = plan.state() else { continue };
            let mut state = StateStore::new(&spec);
            let (mut last, columns) = (None, &self.columns[level]);
            for file in self.files.iter().filter(|file| file.level == level) {
                state.settle(file.before_us)?;
                for partial in read_state(&*self.storage, file)? {
                    state.merge_file(&partial, columns)?;
                }
                state.settle(file.watermark_us)?;
                last = Some(file);
            }
            let Some(last) = last else { continue };
            let heading = Heading {
                kind: StateKind::Base,
                level,
                epoch: last.epoch,
                before_us: None,
                watermark_us: last.watermark_us,
                attempt: &self.attempt,
                columns,
                compression: self.compression,
            };
            bases.push(write_state(&*self.storage, &heading, &[state.partial()])?);
        }
        let too_many = usize::from(seeded::is(Bug::BaseCoversTooMuch));
        Ok(Compacted { bases, covers: self.files.len() + too_many })
    }
}
