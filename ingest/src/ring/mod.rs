//! The door through which file bytes come in: slots of memory that are filled while others are
//! decoded.
//!
//! Two implementors: [`uring::Uring`] keeps several reads in flight, [`plain::Plain`] reads when
//! asked. Bytes, errors and their order are the same through both; only the waiting differs. A slot
//! has room in front of what is read into it, so that the beginning of a row that the slot before
//! left behind can be put there and the row lies in one piece.
//!
//! Unsafe code lives in `uring` (memory that the kernel writes to) and in `poll`, nowhere else here.

use std::fs::File;
use std::io;
use std::sync::Arc;

use pelton_hardware::IoUring;

use plain::Plain;
use uring::Uring;

pub mod plain;
pub mod poll;
pub mod uring;

#[cfg(test)]
mod tests;

/// Bytes read into a slot at once: L2-sized batches are 1.2 to 1.4x faster end to end than larger.
pub const PIECE_BYTES: usize = 256 << 10;

/// Room in front of a slot for the beginning of a row. Longer beginnings are copied elsewhere.
pub const HEADROOM_BYTES: usize = 16 << 10;

/// Slots of a ring, so pieces in flight: enough to hide a disk behind the decoder.
pub const SLOTS: usize = 4;

/// A core's reads. Slots are numbered from 0 on; a slot is idle, in flight, or filled.
pub trait Ring: Send {
    fn slots(&self) -> usize;

    /// Begins to read `len` bytes (at most [`PIECE_BYTES`]) from `offset` on into an idle slot.
    fn start(&mut self, slot: usize, file: &Arc<File>, offset: u64, len: usize) -> io::Result<()>;

    /// Waits until the slot is filled; returns its bytes, fewer than asked for only at the file's
    /// end. The slot is idle afterwards.
    fn finish(&mut self, slot: usize) -> io::Result<usize>;

    /// An idle slot's memory: [`HEADROOM_BYTES`], then what was read.
    fn memory(&mut self, slot: usize) -> &mut [u8];

    /// Makes every slot idle; what is in flight is cancelled, and its end awaited.
    fn abandon(&mut self);
}

/// How to read, as the machine's probe decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Uring,
    /// Why the memory cannot be registered with the kernel.
    Unregistered(String),
    /// Why io_uring is out of the question.
    Plain(String),
}

impl From<&IoUring> for Choice {
    fn from(probed: &IoUring) -> Choice {
        match probed {
            IoUring::Works { no_fixed_buffers: None } => Choice::Uring,
            IoUring::Works { no_fixed_buffers: Some(why) } => Choice::Unregistered(why.to_string()),
            IoUring::Refused(why) => Choice::Plain(why.to_string()),
        }
    }
}

/// Opens a ring of [`SLOTS`] slots. The second value tells what is less than was hoped for, and why:
/// to be said aloud once.
pub fn open(choice: &Choice) -> (Box<dyn Ring>, Option<String>) {
    let ring = match choice {
        Choice::Plain(why) => Err(why.clone()),
        Choice::Uring => Uring::new(SLOTS).map_err(|error| format!("io_uring_setup: {error}")),
        Choice::Unregistered(why) => Uring::unregistered(SLOTS, why.clone())
            .map_err(|error| format!("io_uring_setup: {error}")),
    };
    match ring {
        Ok(ring) => {
            let less = ring.why_unregistered().map(|why| {
                format!("io_uring reads into memory that is not registered with it: {why}")
            });
            (Box::new(ring), less)
        }
        Err(why) => {
            let less = format!("files are read with plain reads, not through io_uring: {why}");
            (Box::new(Plain::new(SLOTS)), Some(less))
        }
    }
}
