//! Memory of columns that comes back: lent to an Arrow array, taken again once the array is gone.

use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};

/// One buffer's memory, 64-byte aligned and padded.
#[derive(Default)]
pub(super) struct Recycled(Option<Buffer>);

impl Recycled {
    pub fn bytes_held(&self) -> usize {
        self.0.as_ref().map_or(0, Buffer::capacity)
    }

    /// Returns an empty buffer: the one lent last, if nobody holds it any more, else a new one.
    pub fn take(&mut self) -> MutableBuffer {
        let lent = self.0.take().map(Buffer::into_mutable);
        match lent {
            Some(Ok(mut buffer)) => {
                buffer.clear();
                buffer
            }
            Some(Err(_)) | None => MutableBuffer::new(0),
        }
    }

    /// As [`Recycled::take`], with `bytes` bytes that hold anything.
    pub fn take_as_it_is(&mut self, bytes: usize) -> MutableBuffer {
        let mut buffer = match self.0.take().map(Buffer::into_mutable) {
            Some(Ok(buffer)) => buffer,
            Some(Err(_)) | None => MutableBuffer::new(bytes),
        };
        buffer.resize(bytes, 0);
        buffer
    }

    /// As [`Recycled::take`], with `bytes` bytes of zeros.
    pub fn take_zeroed(&mut self, bytes: usize) -> MutableBuffer {
        let mut buffer = self.take();
        buffer.resize(bytes, 0);
        buffer
    }

    pub fn lend(&mut self, buffer: MutableBuffer) -> Buffer {
        let buffer: Buffer = buffer.into();
        self.0 = Some(buffer.clone());
        buffer
    }

    /// A bitmap of `rows` rows with NULL at those listed; none if none is.
    pub fn nulls(&mut self, rows: usize, null_rows: &[u32]) -> Option<NullBuffer> {
        if null_rows.is_empty() {
            return None;
        }
        let mut bits = self.take();
        bits.resize(rows.div_ceil(8), 0xFF);
        for &row in null_rows {
            bits.as_slice_mut()[row as usize / 8] &= !(1 << (row % 8));
        }
        Some(NullBuffer::new(BooleanBuffer::new(self.lend(bits), 0, rows)))
    }
}
