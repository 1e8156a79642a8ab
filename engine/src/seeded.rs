//! Bugs that are put in on purpose, to prove that the simulation sees them.
//!
//! A test of this crate turns one on; in any other build [`is`] is the constant `false` and nothing of
//! them is compiled.

/// One bug, named after what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The checkpoint, and with it the offsets, is committed before the output is staged.
    OffsetsBeforeOutput,
    /// A checkpoint's file is renamed without having been synced.
    FsyncSkipped,
    /// A rename is taken for durable without a sync of its directory.
    DirectoryFsyncSkipped,
    /// The output is published before the manifest.
    OutputBeforeManifest,
    /// A commit whose outcome is unknown counts as done.
    UnknownTakenAsCommitted,
    /// A commit whose outcome is unknown is made again.
    UnknownTakenAsNot,
    /// A fenced process goes on.
    FencedIgnored,
    /// Recovery merges deltas and forgets to evict what their watermarks closed.
    EvictionForgotten,
    /// Recovery leaves out the last delta.
    LastDeltaForgotten,
    /// Garbage collection spares nothing but the newest manifest.
    NeededCollected,
    /// A base stands in for one file more than it was made from.
    BaseCoversTooMuch,
    /// Late rows are left out and counted nowhere.
    LateUncounted,
    /// A file whose hash is another is read all the same.
    HashIgnored,
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is on, for this thread.
#[cfg(test)]
pub fn is(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

#[cfg(test)]
pub fn turn_on(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(not(test))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
