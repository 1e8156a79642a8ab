//! Where an epoch's rows go: staged first, then committed, each epoch once and whole.
//!
//! Invariant: nothing of an epoch is visible in a transactional output before the commit point (the
//! publication of the checkpoint's manifest), and everything of it becomes visible after it, also
//! when a crash lies in between: [`Sink::seal`] says what must be remembered for that, the manifest
//! remembers it, and [`Sink::open`] gets it back. The manifest and the output so form one chain.
//!
//! ```text
//! marker ─▶ open ─▶ stage* ─▶ seal ─▶ (manifest published) ─▶ commit ─▶ stage* …
//!                     ▲  discard │ when the manifest was not published, or staging failed
//!                     └──────────┘ the same rows are staged again
//! ```
//! An output that commits a transaction of its own ([`Decides::Output`]) is the commit point in
//! the manifest's place: `seal`, then the manifest is *prepared*, then `commit` decides, then the
//! manifest is published and the other outputs follow. At most one output of a job may decide.

pub mod console;
pub mod dead_letter;
pub mod file;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Identity of the checkpoint that an epoch's output belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub epoch: u64,
    pub manifest_hash: u128,
}

/// What says which epoch was the last one committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The newest published manifest.
    Manifest,
    /// An output whose transaction is the commit point: the last checkpoint that it has committed.
    Output { name: String, committed: Option<Committed> },
}

/// Of a sink: whose commit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decides {
    /// That of the manifest: the sink publishes after it.
    Manifest,
    /// Its own: the last checkpoint that its transactions have committed, where there is one.
    Output(Option<Committed>),
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

/// What the manifest keeps for a sink, in the sink's own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Staged(pub serde_json::Value);

/// The checkpoint from which a job goes on, and what it keeps for this sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    pub checkpoint: Committed,
    /// Of the sink's [`Sink::seal`] in that epoch; the default for a sink that is new in the job.
    pub staged: Staged,
}

/// An output. Calls come in the order `marker`, `open`, then for each epoch `stage` (none, one or many
/// times), `seal` and `commit`.
pub trait Sink: Send {
    /// Fences every other process that writes to this output and tells whose commit counts. Asked
    /// before anything is restored, and again when the outcome of a commit is unknown.
    ///
    /// Errors: `Unavailable` where the output cannot be reached.
    fn marker(&mut self) -> Result<Decides>;

    /// Prepares the output, publishes what a crash left between the manifest and its publication,
    /// and removes what belongs to no committed epoch. Tells the last epoch that is visible,
    /// `None` where nothing is or where the output cannot know.
    ///
    /// Errors: `Unavailable` where the output cannot be reached or holds another run's rows;
    /// `StateIo` where what the checkpoint needs is lost.
    fn open(&mut self, restored: Option<&Restored>) -> Result<Option<Committed>>;

    /// Takes rows of an epoch without making them visible.
    ///
    /// Errors: `StateIo` where the output is out of room or not writable; the rows may be staged
    /// again after [`Sink::discard`].
    fn stage(&mut self, epoch: u64, rows: &RecordBatch) -> Result<()>;

    /// Makes what was staged durable, ahead of the commit point; the manifest keeps the answer.
    ///
    /// Errors: as [`Sink::stage`].
    fn seal(&mut self, epoch: u64) -> Result<Staged>;

    /// Forgets what was staged and not committed.
    fn discard(&mut self) -> Result<()>;

    /// Makes the sealed rows of `checkpoint.epoch` visible.
    ///
    /// Errors: `StateIo`; the epoch is committed all the same, and the call is to be repeated.
    fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome>;

    /// Bytes that are buffered between two calls, for the ledger.
    fn bytes_held(&self) -> usize;
}
