//! A new base from the old base and its deltas: the same merge as recovery, on files alone.
//!
//! Never from live memory, so it can run beside the epochs and what it reads is what a recovery
//! would read.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::fence;
use super::files::{Heading, read_state, write_state};
use super::manifest::{StateFile, StateKind};
use super::{Compression, Journal};
use crate::error::Result;
use crate::plan::Query;
use crate::plan::stream_join::StreamJoin;
use crate::seeded::{self, Bug};
use crate::state::join::JoinStore;
use crate::state::shard::Shard;
use crate::state::spill::Room;
use crate::storage::Storage;

/// Deltas above a base before a new one is made.
pub const DELTAS_MAX: usize = 64;
/// A base has files of this size: a recovery reads the next while it merges one, and partitions of a
/// state that memory does not hold share them.
const FILE_BYTES: usize = 16 << 20;

/// Files to be made into one base; runs on any thread.
pub struct Compaction {
    storage: Arc<dyn Storage>,
    query: Arc<Query>,
    attempt: String,
    columns: Vec<Vec<String>>,
    compression: Compression,
    files: Vec<StateFile>,
}

/// Bases, by level in one or more parts, that stand for the files that they were made of.
pub struct Compacted(pub(super) Vec<StateFile>);

/// What a base is made of, and the base, once it is there.
pub(super) struct Making {
    of: Vec<StateFile>,
    made: Option<Compacted>,
}

impl Making {
    /// Files with the bases in the place of what they stand for. At a level whose state was written whole
    /// meanwhile they stand for nothing any more.
    pub fn applied(&self, files: &[StateFile]) -> Vec<StateFile> {
        let Some(Compacted(bases)) = &self.made else { return files.to_vec() };
        let stands = |level| {
            let mut of = self.of.iter().filter(|file| file.level == level);
            of.all(|file| files.contains(file))
        };
        let rest = files.iter().filter(|file| !(stands(file.level) && self.of.contains(file)));
        let too_many = usize::from(seeded::is(Bug::BaseCoversTooMuch));
        let bases = bases.iter().filter(|base| stands(base.level));
        bases.chain(rest.skip(too_many)).cloned().collect()
    }

    pub fn is_made(&self) -> bool {
        self.made.is_some()
    }
}

impl Journal {
    /// Work to be done beside the epochs, once `deltas_max` deltas lie above the base.
    pub fn compaction(&mut self, query: &Arc<Query>, deltas_max: usize) -> Option<Compaction> {
        if self.making.is_some() {
            return None;
        }
        let files = &self.last()?.files;
        let deltas = files.iter().filter(|file| file.kind == StateKind::Delta).count();
        if deltas < deltas_max {
            return None;
        }
        let files = files.clone();
        self.making = Some(Making { of: files.clone(), made: None });
        Some(Compaction {
            storage: Arc::clone(&self.storage),
            query: Arc::clone(query),
            // An epoch may write a base, too.
            attempt: format!("{}-compacted", self.attempt),
            columns: self.plan.columns.clone(),
            compression: self.compression,
            files,
        })
    }

    /// The work came to nothing: it may be begun again.
    pub fn give_up_compaction(&mut self) {
        self.making = None;
    }

    /// From the next commit on the base stands in the place of what it was made of. Where there was no
    /// room for it the deltas stand for it, and it is tried again; where a file went that no manifest needs
    /// any more, nothing is missed.
    ///
    /// Errors: `Unavailable` where another process took over, which may have removed what was to be
    /// read; else those of [`Compaction::run`].
    pub fn adopt(&mut self, made: Result<Compacted>) -> Result<()> {
        match made {
            Ok(compacted) => {
                if let Some(making) = &mut self.making {
                    making.made = Some(compacted);
                }
            }
            Err(error) if error.wants_room() => self.give_up_compaction(),
            Err(error) => {
                fence::check(&*self.storage, self.fence)?;
                if self.needs_all_that_is_compacted() {
                    return Err(error);
                }
                self.give_up_compaction();
            }
        }
        Ok(())
    }

    fn needs_all_that_is_compacted(&self) -> bool {
        let needed = self.last().map_or(&[][..], |last| &last.files);
        let mut of = self.making.iter().flat_map(|making| &making.of);
        of.all(|file| needed.contains(file))
    }
}

impl Compaction {
    /// `room`: for state beyond what it may hold in memory.
    ///
    /// Errors: `StateIo`; the deltas stay as they are.
    pub fn run(self, room: Option<&Room>) -> Result<Compacted> {
        let mut bases = Vec::new();
        for (level, of) in self.query.levels.iter().enumerate() {
            let files = self.files.iter().filter(|file| file.level == level);
            let Some(last) = files.clone().next_back() else { continue };
            if files.clone().all(|file| file.kind == StateKind::Base) {
                // Nothing came to this level since, and a new base would have the old one's name.
                bases.extend(files.cloned());
                continue;
            }
            let mut part = 0;
            let mut write = |partials: &[RecordBatch]| {
                let heading = Heading {
                    kind: StateKind::Base,
                    level,
                    part,
                    epoch: last.epoch,
                    before_us: None,
                    watermark_us: last.watermark_us,
                    attempt: &self.attempt,
                    columns: &self.columns[level],
                    compression: self.compression,
                };
                part += 1;
                bases.push(write_state(&*self.storage, &heading, partials)?);
                Ok(())
            };
            if let Some(join) = &of.join {
                write(&self.of_join(level, join, files)?)?;
                continue;
            }
            let spec = of.state().expect("a level without state has no files");
            let share = room.map(|room| room.share(1, &format!("base-{level}")));
            let mut state = Shard::new(spec, share);
            let at = |watermark| self.query.watermark_at(level, watermark);
            for file in files {
                state.settle(at(file.before_us))?;
                for partial in read_state(&*self.storage, file)? {
                    state.merge_file(&partial, &self.columns[level])?;
                }
                state.settle(at(file.watermark_us))?;
            }
            let (mut held, mut bytes) = (Vec::new(), 0);
            state.into_partials(|partial| {
                let (rows, size) = (partial.num_rows(), partial.get_array_memory_size());
                let step = (rows * FILE_BYTES / size.max(1)).max(1);
                for first in (0..rows.max(1)).step_by(step) {
                    let piece = partial.slice(first, step.min(rows - first));
                    bytes += size.min(FILE_BYTES);
                    held.push(piece);
                    if bytes >= FILE_BYTES {
                        bytes = 0;
                        write(&std::mem::take(&mut held))?;
                    }
                }
                Ok(())
            })?;
            if !held.is_empty() {
                write(&held)?;
            }
        }
        Ok(Compacted(bases))
    }

    /// What recovery would make of a join's files.
    fn of_join<'f>(
        &self,
        level: usize,
        join: &Arc<StreamJoin>,
        files: impl Iterator<Item = &'f StateFile>,
    ) -> Result<Vec<RecordBatch>> {
        let at = |watermark| self.query.watermark_at(level, watermark);
        let mut state = JoinStore::new(join);
        for file in files {
            state.settle(at(file.before_us));
            for partial in read_state(&*self.storage, file)? {
                state.merge_file(&partial)?;
            }
            state.settle(at(file.watermark_us));
        }
        state.partials()
    }
}
