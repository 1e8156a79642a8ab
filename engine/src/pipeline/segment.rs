//! A stretch of rows that is taken into the epoch, or thrown away, as a whole.

use std::sync::Arc;

use arrow::array::{ArrayRef, MutableArrayData, RecordBatch, UInt32Array, make_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use pelton_kernels::cpu::aggregate::GroupTable;

use super::device::Part;
use crate::batch::{Counters, DeadLetter};
use crate::watermark::SplitClock;

/// What a source must know of a segment to see whether its guess holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// After the segment's rows and, where it was known, from what it was before them.
    pub clock: SplitClock,
    /// The guess that no row before makes one of these rows late holds exactly if the greatest
    /// event time before the segment is below this.
    pub guess_holds_below: i64,
    pub counters: Counters,
}

pub struct Segment {
    /// Rank among the segments of the epoch: the order in which rows leave.
    pub order: u64,
    pub summary: Summary,
    /// Groups of a guessed segment; a known one goes straight into the epoch's.
    pub(super) table: Option<GroupTable>,
    pub(super) rows: Vec<RecordBatch>,
    /// Rows that a device folds once the segment is kept.
    pub(super) parts: Vec<Part>,
    /// Rows of a query without groups that a device has filtered.
    pub(super) gpu_rows: u64,
    pub(super) late: Vec<RecordBatch>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Of them.
    pub(super) letter_bytes: usize,
    pub(super) failure: Option<Failure>,
}

/// The row that ends a job under `on_error = "fail"`.
pub(super) struct Failure {
    pub(super) letter: DeadLetter,
}

impl Failure {
    /// The message with the row's true line.
    pub(super) fn at_line(&self, lines_before: u64) -> String {
        let DeadLetter { name, line, column, reason, .. } = &self.letter;
        let line = line + lines_before;
        let column = column.as_ref().map_or(String::new(), |c| format!(", column \"{c}\""));
        format!(
            "cannot take {name}: line {line}{column}: {reason}; on_error = \"fail\" stops the job here"
        )
    }
}

impl Segment {
    pub(super) fn new(order: u64, table: Option<GroupTable>) -> Self {
        Segment {
            order,
            table,
            rows: Vec::new(),
            parts: Vec::new(),
            gpu_rows: 0,
            late: Vec::new(),
            dead_letters: Vec::new(),
            letter_bytes: 0,
            failure: None,
            summary: Summary {
                clock: SplitClock::default(),
                guess_holds_below: i64::MAX,
                counters: Counters::default(),
            },
        }
    }

    /// Takes the surviving rows of a query without groups; `None` keeps all.
    pub(super) fn push_rows(
        &mut self,
        schema: &SchemaRef,
        values: &[ArrayRef],
        rows: Option<&[u32]>,
    ) {
        let kept: Vec<ArrayRef> = match rows {
            // The decoder's buffers serve again after the batch, so nothing may share them.
            None => values.iter().map(|array| copy_of(array)).collect(),
            Some([]) => return,
            Some(rows) => {
                let rows = UInt32Array::from(rows.to_vec());
                let take_rows = |array: &ArrayRef| {
                    take(array, &rows, None).expect("row numbers are within the batch")
                };
                values.iter().map(take_rows).collect()
            }
        };
        self.push_kept(schema, kept);
    }

    /// Takes rows in memory of their own.
    pub(super) fn push_kept(&mut self, schema: &SchemaRef, kept: Vec<ArrayRef>) {
        if kept.first().is_some_and(|array| array.is_empty()) {
            return;
        }
        let batch = RecordBatch::try_new(Arc::clone(schema), kept)
            .expect("values have the types that the plan gave its schema");
        self.rows.push(batch);
    }

    /// Puts the places of dead letters right, for a source whose bytes are many messages.
    pub fn place_letters(&mut self, place: impl Fn(&mut DeadLetter)) {
        self.dead_letters.iter_mut().for_each(&place);
        if let Some(failure) = &mut self.failure {
            place(&mut failure.letter);
        }
    }

    /// Bytes that wait for a verdict, groups left out: rows and dead letters.
    pub fn waiting_bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(RecordBatch::get_array_memory_size).sum();
        rows + self.letter_bytes
    }

    /// Takes late rows for the sink that wants them.
    pub(super) fn push_late(&mut self, schema: &SchemaRef, columns: &[ArrayRef], rows: Vec<u32>) {
        if rows.is_empty() {
            return;
        }
        let rows = UInt32Array::from(rows);
        let take_rows =
            |array: &ArrayRef| take(array, &rows, None).expect("row numbers are within the batch");
        let batch =
            RecordBatch::try_new(Arc::clone(schema), columns.iter().map(take_rows).collect());
        self.late.push(batch.expect("the columns are those of the schema"));
    }

    /// Bytes of rows held until the epoch ends.
    pub fn bytes_held(&self) -> usize {
        let rows: usize = self.rows.iter().map(RecordBatch::get_array_memory_size).sum();
        let parts: usize = self.parts.iter().map(Part::bytes_held).sum();
        rows + self.letter_bytes + parts + self.table.as_ref().map_or(0, GroupTable::bytes_held)
    }
}

/// The same values in memory of their own.
pub(super) fn copy_of(array: &ArrayRef) -> ArrayRef {
    let data = array.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.try_extend(0, 0, data.len()).expect("a batch's values fit an array of their own");
    make_array(copy.freeze())
}
