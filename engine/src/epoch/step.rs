//! What an epoch's end does to a shard: which groups leave as rows, and which leave the state.

use arrow::array::ArrayRef;

use super::StateFacts;
use crate::error::Result;
use crate::job::spec::OutputMode;
use crate::state::StateStore;
use crate::state::shard::Need;

/// What an epoch does to each shard.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub mode: OutputMode,
    pub watermark: Option<i64>,
    /// The watermark by which groups leave the state.
    pub evicts: Option<i64>,
    pub ended: bool,
    /// Groups leave as rows; keys of deduplication do not.
    pub emits: bool,
}

impl Step {
    /// Which groups must be whole for it.
    pub fn need(self) -> Need {
        let all = self.emits
            && match self.mode {
                OutputMode::Append => self.ended,
                OutputMode::Update => false,
                OutputMode::Complete | OutputMode::Batch => true,
            };
        let touched = self.mode == OutputMode::Update;
        Need { all, touched, closing: self.evicts }
    }

    /// The columns of the groups that leave, and what became of the others.
    pub fn run(self, shard: &mut StateStore) -> Result<(Vec<ArrayRef>, StateFacts)> {
        let leaving = match self.mode {
            _ if !self.emits => Vec::new(),
            OutputMode::Append if self.ended => shard.all(),
            OutputMode::Append => self.watermark.map_or(Vec::new(), |w| shard.closed(w)),
            OutputMode::Update => shard.touched().to_vec(),
            OutputMode::Complete | OutputMode::Batch => shard.all(),
        };
        let columns = if self.emits { shard.rows(&leaving)? } else { Vec::new() };
        let updated = shard.touched().len() as u64;
        let removed = match self.mode {
            OutputMode::Batch => {
                let held = shard.len();
                shard.clear();
                held
            }
            _ => shard.settle(self.evicts)?,
        };
        Ok((columns, StateFacts { updated, removed: removed as u64, ..StateFacts::default() }))
    }
}
