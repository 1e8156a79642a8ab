//! The rows of an epoch that come to a join of two streams, until its end; and the join's state.
//!
//! Rows are put in their order before they meet, by arm and then as their source has them: so what
//! leaves does not depend on cores, nor on how often the epoch was taken over in parts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::StateFacts;
use crate::error::{Error, Result};
use crate::pipeline::CoreEpoch;
use crate::plan::stream_join::StreamJoin;
use crate::state::join::JoinStore;

pub(super) struct Meeting {
    join: Arc<StreamJoin>,
    pub store: JoinStore,
    /// By arm, and the order of the rows in it.
    coming: Vec<((usize, u64), RecordBatch)>,
}

impl Meeting {
    pub fn of(join: &Arc<StreamJoin>) -> Meeting {
        let (join, store) = (Arc::clone(join), JoinStore::new(join));
        Meeting { join, store, coming: Vec::new() }
    }

    pub fn take(&mut self, arm: usize, cores: Vec<CoreEpoch>) {
        let rows = cores.into_iter().flat_map(|core| core.rows);
        self.coming.extend(rows.map(|(order, rows)| ((arm, order), rows)));
    }

    pub fn bytes_held(&self) -> usize {
        let coming: usize = self.coming.iter().map(|(_, rows)| rows.get_array_memory_size()).sum();
        coming + self.store.bytes_held()
    }

    pub fn clear(&mut self) {
        self.coming.clear();
        self.store.clear();
    }

    /// Nothing, as it leaves a join in the middle of an epoch.
    pub fn nothing(&self) -> RecordBatch {
        RecordBatch::new_empty(Arc::clone(&self.join.schema))
    }

    /// The epoch ends: its rows meet, then the watermark takes what it has passed.
    pub fn finish(
        &mut self,
        watermark: Option<i64>,
        ended: bool,
    ) -> Result<(RecordBatch, StateFacts)> {
        let mut coming = std::mem::take(&mut self.coming);
        coming.sort_by_key(|(order, _)| *order);
        let of_left = coming.partition_point(|((arm, _), _)| *arm < self.join.sides[0].arms);
        let whole = |side: usize, rows: &[((usize, u64), RecordBatch)]| {
            let schema = &self.join.sides[side].schema;
            concat_batches(schema, rows.iter().map(|(_, rows)| rows)).map_err(internal)
        };
        let (left, right) = (whole(0, &coming[..of_left])?, whole(1, &coming[of_left..])?);
        let mut out = self.store.meet([&left, &right])?;
        let updated = self.store.updated() as u64;
        let mut removed = 0;
        if let Some(watermark) = watermark {
            let (gone, alone) = self.store.evict(watermark, ended)?;
            removed = gone as u64;
            out.extend(alone);
        }
        let rows = concat_batches(&self.join.schema, &out).map_err(internal)?;
        let facts = StateFacts {
            rows: self.store.len() as u64,
            updated,
            removed,
            bytes: self.store.bytes_held() as u64,
        };
        Ok((rows, facts))
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::failed(format!("the epoch's rows: {error}"))
}
