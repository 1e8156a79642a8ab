//! A new base from the old base and its deltas: the same merge as recovery, on files alone.
//!
//! Never from live memory, so it can run beside the epochs and what it reads is what a recovery
//! would read.

use std::sync::Arc;

use super::files::{Heading, read_state, write_state};
use super::manifest::{StateFile, StateKind};
use super::{Compression, Journal};
use crate::error::Result;
use crate::plan::{Plan, Shape};
use crate::state::StateStore;
use crate::storage::Storage;

/// Deltas above a base before a new one is made.
const DELTAS_MAX: usize = 64;

/// Files to be made into one base; runs on any thread.
pub struct Compaction {
    storage: Arc<dyn Storage>,
    plan: Arc<Plan>,
    attempt: String,
    columns: Vec<String>,
    compression: Compression,
    files: Vec<StateFile>,
}

/// A base that stands for the first `covers` files of the manifest it was made from.
pub struct Compacted {
    pub(super) base: StateFile,
    pub(super) covers: usize,
}

impl Journal {
    /// Work to be done beside the epochs, once enough deltas lie above the base.
    pub fn compaction(&mut self, plan: &Arc<Plan>) -> Option<Compaction> {
        if self.compacting {
            return None;
        }
        let files = &self.last()?.files;
        let deltas = files.iter().filter(|file| file.kind == StateKind::Delta).count();
        if deltas < DELTAS_MAX {
            return None;
        }
        let files = files.clone();
        self.compacting = true;
        Some(Compaction {
            storage: Arc::clone(&self.storage),
            plan: Arc::clone(plan),
            attempt: self.attempt.clone(),
            columns: self.columns().to_vec(),
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
        let Shape::Groups(groups) = &self.plan.shape else {
            unreachable!("a query without groups writes no state files");
        };
        let mut state = StateStore::new(groups);
        for file in &self.files {
            for partial in read_state(&*self.storage, file)? {
                state.merge_file(&partial, &self.columns)?;
            }
            state.settle(file.watermark_us);
        }
        let last = self.files.last().expect("a compaction has files");
        let heading = Heading {
            kind: StateKind::Base,
            epoch: last.epoch,
            watermark_us: last.watermark_us,
            attempt: &self.attempt,
            columns: &self.columns,
            compression: self.compression,
        };
        let base = write_state(&*self.storage, &heading, &[state.partial()])?;
        Ok(Compacted { base, covers: self.files.len() })
    }
}
