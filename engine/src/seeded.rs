//! Bugs that are put in on purpose, to prove that the simulation and the kill harness see them.
//!
//! A test of this crate turns one on for its thread. A program that was built with the feature
//! `seeded-bugs` takes one for its whole life ([`choose`]). In any other build [`is`] is the constant
//! `false` and nothing of them is compiled.

macro_rules! bugs {
    ($($(#[doc = $does:literal])* $name:ident,)*) => {
        /// One bug, named after what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $does])* $name,)*
        }

        pub const ALL: &[Bug] = &[$(Bug::$name,)*];
    };
}

bugs! {
    /// The checkpoint, and with it the offsets, is committed before the output is staged.
    OffsetsBeforeOutput,
    /// A checkpoint's file is renamed without having been synced.
    FsyncSkipped,
    /// A rename is taken for durable without a sync of its directory.
    DirectoryFsyncSkipped,
    /// The output is published before the manifest.
    OutputBeforeManifest,
    /// Dead letters are published before the manifest.
    LettersBeforeManifest,
    /// A commit whose outcome is unknown counts as done.
    UnknownTakenAsCommitted,
    /// A commit whose outcome is unknown is made again.
    UnknownTakenAsNot,
    /// A fenced process goes on.
    FencedIgnored,
    /// Two processes may have one state directory.
    LockIgnored,
    /// A manifest names the offsets of the epoch before.
    OffsetsBehind,
    /// Recovery merges deltas and forgets to evict what their watermarks closed.
    EvictionForgotten,
    /// Recovery leaves out the last delta.
    LastDeltaForgotten,
    /// Recovery forgets how far the event time had come.
    WatermarkForgotten,
    /// A checkpoint holds nothing of the queries above the lowest.
    UpperDeltaForgotten,
    /// A checkpoint takes the slide of overlapping windows for their size.
    SlideTakenForSize,
    /// A checkpoint leaves out the parts of a session that are over by themselves.
    SessionPartsForgotten,
    /// A checkpoint holds no key of deduplication.
    SeenKeysForgotten,
    /// A row is judged by the clock of whichever split was read before.
    ClockOfAnotherSplit,
    /// Garbage collection spares nothing but the newest manifest.
    NeededCollected,
    /// A base stands in for one file more than it was made from.
    BaseCoversTooMuch,
    /// A state that is written whole is added to what was written before.
    BaseOverDeltas,
    /// Files that a killed process staged are published as they are.
    LeftoversPublished,
    /// Late rows are left out and counted nowhere.
    LateUncounted,
    /// A file whose hash is another is read all the same.
    HashIgnored,
    /// Rows count as received before the write-ahead log has them.
    ReceivedBeforeLogged,
    /// The write-ahead log is written and not synced.
    LogUnsynced,
    /// What a killed process left as the log's last group is not made durable before it is read.
    LogEndBelieved,
    /// The log is trimmed to where it was read, not to where checkpoints need it.
    LogTrimmedTooEarly,
    /// What the log holds behind the checkpoint is not read again.
    LogReplaySkipped,
    /// What a connection had left is read again from the front of its record.
    LogOffsetForgotten,
    /// The manifest, and with it the offsets, is committed before an output's transaction.
    OffsetsBeforeTransaction,
    /// Each process has a transactional id of its own, and fences nobody.
    TransactionsUnfenced,
    /// Records of transactions that are not committed are read.
    ReadUncommitted,
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

#[cfg(all(not(test), feature = "seeded-bugs"))]
static CHOSEN: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Turns the bug of this name on for the rest of the process; `None`: there is none.
#[cfg(all(not(test), feature = "seeded-bugs"))]
pub fn choose(name: &str) -> Option<Bug> {
    let bug = ALL.iter().copied().find(|bug| format!("{bug:?}") == name)?;
    Some(*CHOSEN.get_or_init(|| bug))
}

/// Whether a bug is on, for this process.
#[cfg(all(not(test), feature = "seeded-bugs"))]
pub fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(&bug)
}

#[cfg(all(not(test), not(feature = "seeded-bugs")))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
