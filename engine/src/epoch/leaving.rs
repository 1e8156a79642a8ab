//! Groups that leave in an epoch, in their fixed order, also where memory does not hold them all.
//!
//! Invariant: what comes out is what sorting everything at once gives, whatever went to the disk. Keys
//! are distinct, so merging sorted runs has no ties. A run is written a chunk a file and read back a
//! chunk at a time. What needs all rows at once (ORDER BY, LIMIT over a whole table) is not written;
//! beyond memory that is an error.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array,
};
use arrow::compute::{SortOptions, concat, interleave_record_batch, take};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::columns::plain_column;
use crate::error::{Error, Result, is_full};
use crate::job::spec::OutputMode;
use crate::plan::{Groups, Plan};
use crate::state::order;
use crate::state::shard::bytes_of;
use crate::state::spill::{Run, Spill};

/// Rows of a chunk: one of each run is held while they are merged.
const CHUNK_ROWS: usize = 16 << 10;

/// What leaves one shard: columns of finished groups, piece by piece.
pub(super) struct Pieces {
    plan: Arc<Plan>,
    held: Vec<Vec<ArrayRef>>,
    bytes: u64,
    /// Sorted, in chunks.
    runs: Vec<Vec<Run>>,
    spill: Option<Spill>,
}

impl Pieces {
    pub fn new(plan: Arc<Plan>, spill: Option<Spill>) -> Pieces {
        Pieces { plan, held: Vec::new(), bytes: 0, runs: Vec::new(), spill }
    }

    /// Takes columns of groups in.
    ///
    /// Errors: `Failed` where they are more than may be held and all are needed at once; `StateIo`.
    pub fn push(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        self.bytes += bytes_of(&columns);
        self.held.push(columns);
        let Some(spill) = &self.spill else { return Ok(()) };
        if self.bytes <= spill.bytes {
            return Ok(());
        }
        if leaves_whole(&self.plan) {
            // It is held a second time while it is sorted.
            return match self.bytes > spill.most {
                true => Err(too_many()),
                false => Ok(()),
            };
        }
        self.write()
    }

    /// Sorts what is held and moves it to the disk.
    fn write(&mut self) -> Result<()> {
        let spill = self.spill.as_mut().expect("asked for by the caller");
        let groups = self.plan.groups().expect("who has rows that leave has groups");
        let sorted = in_order(groups, &self.held)?;
        self.bytes = 0;
        // A piece without rows says which columns there are.
        let empty = sorted.columns().iter().map(|column| new_empty_array(column.data_type()));
        self.held = vec![empty.collect()];
        if sorted.num_rows() == 0 {
            return Ok(());
        }
        let mut run = Vec::new();
        for first in (0..sorted.num_rows()).step_by(CHUNK_ROWS) {
            let rows = CHUNK_ROWS.min(sorted.num_rows() - first);
            let written = spill.write(&sorted.slice(first, rows), false);
            run.push(written.map_err(|source| {
                let fix =
                    if is_full(&source) { "; the epoch comes again after a restart" } else { "" };
                let what = format!("cannot write rows that leave beyond memory_limit{fix}");
                Error::StateIo { what, source }
            })?);
        }
        run.reverse();
        self.runs.push(run);
        Ok(())
    }
}

/// Whether all rows of an epoch are needed before the first may leave.
fn leaves_whole(plan: &Plan) -> bool {
    let keyless = plan.groups().is_none_or(|groups| groups.keys.is_empty());
    keyless || plan.output.is_of_all(plan.mode == OutputMode::Append)
}

fn too_many() -> Error {
    Error::failed(
        "the groups that leave in this epoch are more than memory_limit allows to sort at once: give the \
         query a HAVING, a watermark or smaller windows, leave ORDER BY out, or raise memory_limit",
    )
}

/// The rows of an epoch, in their order, as they leave.
pub(super) enum Leaving {
    Whole(Option<RecordBatch>),
    Merged(Box<Merge>),
}

impl Leaving {
    /// Errors: as of [`crate::plan::Output::run`]; `StateIo`.
    pub fn of(plan: &Arc<Plan>, shards: Vec<Pieces>) -> Result<Leaving> {
        let Some(groups) = plan.groups() else {
            return Ok(Leaving::Whole(None));
        };
        let (mut held, mut runs) = (Vec::new(), Vec::new());
        for mut pieces in shards {
            held.append(&mut pieces.held);
            let spill = pieces.spill.map(Arc::new);
            let of_shard = pieces.runs.into_iter();
            runs.extend(of_shard.map(|run| (spill.clone().expect("who wrote runs has room"), run)));
        }
        let held = in_order(groups, &held)?;
        if runs.is_empty() {
            return Ok(Leaving::Whole(Some(plan.output.run(held)?)));
        }
        Ok(Leaving::Merged(Box::new(Merge::new(Arc::clone(plan), held, runs)?)))
    }

    /// The next rows; of groups, at least one batch comes.
    pub fn advance(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Leaving::Whole(rows) => Ok(rows.take()),
            Leaving::Merged(merge) => merge.advance(),
        }
    }
}

/// Sorted runs, merged.
pub(super) struct Merge {
    plan: Arc<Plan>,
    converter: RowConverter,
    /// Columns of the keys, in the order that counts.
    keys: Vec<usize>,
    cursors: Vec<Cursor>,
    /// Cursors with rows left, as a binary heap, the least first.
    heap: Vec<usize>,
    /// Batches that rows of the next batch come from.
    batches: Vec<RecordBatch>,
}

struct Cursor {
    /// Chunks that were not read yet, the last one first.
    left: Vec<Run>,
    from: Option<Arc<Spill>>,
    rows: Rows,
    at: usize,
    /// Its batch among those of the merge.
    batch: usize,
}

impl Merge {
    fn new(plan: Arc<Plan>, held: RecordBatch, runs: Vec<(Arc<Spill>, Vec<Run>)>) -> Result<Merge> {
        let groups = plan.groups().expect("asked for by the caller");
        let first = groups.first_key();
        let others = (0..groups.keys.len()).filter(|key| Some(*key) != first);
        let keys: Vec<usize> = first.into_iter().chain(others).collect();
        let options = SortOptions { descending: false, nulls_first: true };
        let fields = keys
            .iter()
            .map(|&key| SortField::new_with_options(held.column(key).data_type().clone(), options));
        let converter = RowConverter::new(fields.collect()).map_err(failed)?;
        let mut merge = Merge {
            plan,
            converter,
            keys,
            cursors: Vec::new(),
            heap: Vec::new(),
            batches: Vec::new(),
        };
        merge.open(Vec::new(), None, held)?;
        for (from, mut left) in runs {
            let batch = left.pop().map(|chunk| read(&from, &chunk)).transpose()?;
            merge.open(left, Some(from), batch.expect("a run has a chunk"))?;
        }
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sift(at);
        }
        Ok(merge)
    }

    fn open(&mut self, left: Vec<Run>, from: Option<Arc<Spill>>, batch: RecordBatch) -> Result<()> {
        let rows = self.rows(&batch)?;
        if rows.num_rows() > 0 {
            self.heap.push(self.cursors.len());
        }
        self.cursors.push(Cursor { left, from, rows, at: 0, batch: self.batches.len() });
        self.batches.push(batch);
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> =
            self.keys.iter().map(|&key| Arc::clone(batch.column(key))).collect();
        self.converter.convert_columns(&columns).map_err(failed)
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        let mut picks = Vec::with_capacity(CHUNK_ROWS);
        while picks.len() < CHUNK_ROWS
            && let Some(&least) = self.heap.first()
        {
            let cursor = &mut self.cursors[least];
            picks.push((cursor.batch, cursor.at));
            cursor.at += 1;
            if cursor.at == cursor.rows.num_rows() {
                self.next_chunk(least)?;
            }
            self.sift(0);
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = interleave_record_batch(&batches, &picks).map_err(failed)?;
        self.forget_batches();
        self.plan.output.run(rows).map(Some)
    }

    /// The cursor at the heap's top is through with its chunk.
    fn next_chunk(&mut self, at: usize) -> Result<()> {
        let cursor = &mut self.cursors[at];
        let (Some(chunk), Some(from)) = (cursor.left.pop(), &cursor.from) else {
            self.heap.swap_remove(0);
            return Ok(());
        };
        let batch = read(from, &chunk)?;
        let rows = self.rows(&batch)?;
        let cursor = &mut self.cursors[at];
        (cursor.rows, cursor.at, cursor.batch) = (rows, 0, self.batches.len());
        self.batches.push(batch);
        Ok(())
    }

    /// Keeps the batches that cursors stand in.
    fn forget_batches(&mut self) {
        let mut kept = Vec::with_capacity(self.heap.len());
        for &at in &self.heap {
            let cursor = &mut self.cursors[at];
            kept.push(self.batches[cursor.batch].clone());
            cursor.batch = kept.len() - 1;
        }
        self.batches = kept;
    }

    /// Puts the cursor at a place of the heap below all that are less.
    fn sift(&mut self, mut at: usize) {
        loop {
            let children = (2 * at + 1)..(2 * at + 3).min(self.heap.len());
            let key = |place: usize| {
                let cursor = &self.cursors[self.heap[place]];
                cursor.rows.row(cursor.at)
            };
            let Some(least) = children.min_by(|&a, &b| key(a).cmp(&key(b))) else { return };
            if key(at) <= key(least) {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

/// A chunk of a run, which nobody needs any more.
fn read(from: &Spill, chunk: &Run) -> Result<RecordBatch> {
    let mut batches = from.read(chunk)?;
    from.remove(chunk);
    assert_eq!(batches.len(), 1, "a chunk was written as one batch");
    Ok(batches.remove(0))
}

fn failed(error: ArrowError) -> Error {
    Error::failed(format!("the epoch's rows: {error}"))
}

/// The shards' rows as one batch in the fixed order.
pub(super) fn in_order(groups: &Groups, shards: &[Vec<ArrayRef>]) -> Result<RecordBatch> {
    let columns = shards.first().map_or(0, Vec::len);
    let mut joined = Vec::with_capacity(columns);
    for column in 0..columns {
        let mut parts: Vec<ArrayRef> =
            shards.iter().map(|shard| Arc::clone(&shard[column])).collect();
        if parts.iter().any(|part| part.data_type() != parts[0].data_type()) {
            // Those that were spilled are plain.
            let plain = parts.iter().map(plain_column).collect::<Result<_, _>>();
            parts = plain.map_err(failed)?;
        }
        joined.push(match &parts[..] {
            [one] => Arc::clone(one),
            parts => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                concat(&parts).map_err(failed)?
            }
        });
    }
    let rows = shards.iter().map(|shard| shard.first().map_or(0, |column| column.len())).sum();
    let window = groups.first_key();
    let sorted = UInt32Array::from(order::sorted(&joined[..groups.keys.len()], window, rows));
    let take_sorted = |column: &ArrayRef| {
        plain_column(&take(column, &sorted, None).expect("row numbers of this column"))
    };
    let columns = joined.iter().map(take_sorted).collect::<Result<Vec<ArrayRef>, _>>();
    let columns = columns.map_err(failed)?;
    let names = groups
        .keys
        .iter()
        .map(|key| key.name.clone())
        .chain(groups.aggregates.iter().map(|aggregate| aggregate.spec.name.clone()));
    let fields: Vec<Field> = names
        .zip(&columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(failed)
}

#[cfg(test)]
#[path = "leaving_tests.rs"]
mod tests;
