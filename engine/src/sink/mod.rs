//! Where an epoch's rows go: staged first, then committed, each epoch once and whole.

use arrow::array::RecordBatch;

use crate::error::Result;

/// Identity of the checkpoint that an epoch's output belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub epoch: u64,
    pub manifest_hash: u128,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// Surely not committed: the same rows may be staged again.
    Not,
    /// Nobody can say: ask [`Sink::open`] before anything else.
    Unknown,
    /// Another process owns this output now: stop and touch nothing.
    Fenced,
}

/// An output. Calls come in the order `open`, then for each epoch `stage` (none, one or many times)
/// and `commit`.
pub trait Sink: Send {
    /// Prepares the output; tells what it knows to be committed, `None` where the manifest decides.
    fn open(&mut self) -> Result<Option<Committed>>;

    /// Takes rows of an epoch without making them visible.
    ///
    /// Errors: `StateIo` where the output is out of room or not writable; the rows may be staged
    /// again after [`Sink::discard`].
    fn stage(&mut self, epoch: u64, rows: &RecordBatch) -> Result<()>;

    /// Forgets what was staged and not committed.
    fn discard(&mut self) -> Result<()>;

    /// Makes the staged rows of `checkpoint.epoch` visible; repeatable after a crash.
    fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome>;
}
