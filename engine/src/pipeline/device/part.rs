//! Rows that a device is to fold: on the device, and in host memory until the barrier has its answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use pelton_kernels::gpu::{Batch, Place, ROWS_MAX, Selected};

use super::super::segment::copy_of;
use super::{OnDevice, Projected};

/// Rows of a segment that the device will fold when the segment is kept.
pub(in super::super) struct Part {
    pub(super) batches: Vec<Selected>,
    pub(super) kept: Kept,
    /// Input rows that it comes from, those that do not count included.
    pub(super) rows: u64,
}

/// The query's inputs for the rows that count.
pub(super) struct Kept {
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
    /// Of the batch, whose rows have their offsets among the columns where something asks for them.
    pub place: Place,
    /// How far their window lies before the last one that holds them.
    pub back_us: i64,
}

impl Kept {
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.get_buffer_memory_size()).sum()
    }
}

impl Part {
    pub fn bytes_held(&self) -> usize {
        self.kept.bytes()
    }
}

impl OnDevice {
    /// The rows that count of a projected batch, to be folded when its segment is kept, into the window
    /// that lies so far before the last one that holds them.
    pub fn part(
        &self,
        projected: &Projected,
        rows: usize,
        alive: Option<&[u32]>,
        back_us: i64,
    ) -> Part {
        let (mut bits, place) = (vec![0_u32; rows.div_ceil(32)], projected.place);
        let kept = match alive {
            None => {
                (0..rows).for_each(|row| bits[row / 32] |= 1 << (row % 32));
                let columns = projected.columns.iter().map(|column| copy_of(column)).collect();
                Kept { columns, rows, place, back_us }
            }
            Some(alive) => {
                alive.iter().for_each(|&row| bits[row as usize / 32] |= 1 << (row % 32));
                let chosen = UInt32Array::from(alive.to_vec());
                let choose = |column: &ArrayRef| {
                    take(column, &chosen, None).expect("row numbers are within the batch")
                };
                let columns = projected.columns.iter().map(choose).collect();
                Kept { columns, rows: alive.len(), place, back_us }
            }
        };
        // A batch holds a whole number of words.
        let mut words = bits.chunks(ROWS_MAX / 32);
        let mut select = |batch: &Arc<Batch>| {
            let rows = words.next().expect("a bit for each row").to_vec();
            Selected { batch: Arc::clone(batch), rows, back_us }
        };
        let batches = projected.batches.iter().map(&mut select).collect();
        Part { batches, kept, rows: 0 }
    }
}
