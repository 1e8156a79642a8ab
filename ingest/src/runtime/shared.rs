//! What the threads of a job share: the board, the mailbox of barriers, what is known outside.
//!
//! Invariant: everything in here changes under one lock, which is taken a few times a range and
//! never for a row. It lacks rows: those stay on their core until its barrier.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pelton_engine::error::Error;
use pelton_engine::memory::{Account, Ledger};
use pelton_engine::pipeline::CoreEpoch;

use super::direct::Splits;
use crate::source::board::{Board, Cut};
use crate::source::files::SourceFile;
use crate::source::state::LogState;

/// How far the running epoch has come, and whether the source has more.
#[derive(Debug, Default)]
pub struct Status {
    /// Rows and bytes of the running epoch.
    pub rows: u64,
    pub bytes: u64,
    pub first_row_at: Option<Instant>,
    /// Every split answered "empty": nothing is there that was not read.
    pub caught_up: bool,
    /// The input of this run is at its end: it is bounded, or the run takes only what was there.
    pub ended: bool,
    /// A core holds so much of the epoch that it should be taken over.
    pub crowded: bool,
    /// The epoch took in what it may; the cores wait for its barrier.
    pub full: bool,
    /// How often an epoch waited for a core that did not move.
    pub stalls: u64,
    /// Splits went idle: an epoch without rows would move the watermark.
    pub is_clock_due: bool,
    /// Why the job must stop.
    pub failed: Option<Error>,
}

/// What cores have taken into an epoch.
#[derive(Default)]
pub(crate) struct Counted {
    pub rows: u64,
    pub bytes: u64,
    first_row_at: Option<Instant>,
    crowded: bool,
}

impl Counted {
    pub fn has_input(&self) -> bool {
        self.first_row_at.is_some()
    }
}

/// A core's lines in the job's ledger.
pub(crate) struct Accounts {
    pub ledger: Arc<Ledger>,
    pub reads: Account,
    pub epoch: Account,
}

/// The state under the lock.
#[derive(Default)]
pub(crate) struct Inner {
    /// Ranges of files or of generated rows; a stream has none.
    pub board: Option<Board>,
    pub files: Vec<Arc<SourceFile>>,
    /// What is there is all that this run reads; the next run may find more.
    pub frozen: bool,
    /// Barriers asked for so far; a core that has passed fewer is to pass one.
    pub barriers: u64,
    /// What each core has handed over at the barrier in progress.
    pub parts: Vec<Option<CoreEpoch>>,
    /// What each core holds in memory, once a ledger asks for it.
    pub accounts: Vec<Accounts>,
    /// Where a stream was cut at the barrier in progress.
    pub stream_cut: Option<Cut>,
    /// The watermark by which rows behind the last barrier are late, where one is for all of them.
    pub late_by: Option<i64>,
    /// What the clock moves on to at the barrier in progress, where it is behind.
    pub clock: Option<i64>,
    /// When that was asked for: who was idle then is idle for all cores.
    pub cut_at: Option<Instant>,
    /// Partitions of a Kafka source.
    pub splits: Option<Splits>,
    /// And where in its write-ahead log.
    pub stream_log: Option<LogState>,
    /// Position in that log before which nothing is needed any more.
    pub log_needed_from: u64,
    pub stop: bool,
    /// Barriers that are over: the number of the running epoch.
    collected: u64,
    running: Counted,
    /// Of cores that are through the barrier in progress.
    next: Counted,
    caught_up: bool,
    /// Since when, with nothing read meanwhile.
    empty_since: Option<Instant>,
    ended: bool,
    full: bool,
    stalls: u64,
    failure: Option<Error>,
    /// Advances when something changes that [`super::Signal`] tells.
    version: u64,
}

impl Inner {
    pub fn new(board: Option<Board>, frozen: bool) -> Inner {
        Inner { board, frozen, ..Inner::default() }
    }

    /// Counts what a core that has passed `barriers` has taken in; `crowded`: it holds too much.
    pub fn count(&mut self, barriers: u64, rows: u64, bytes: u64, crowded: bool) {
        let is_running = barriers == self.collected;
        let counted = if is_running { &mut self.running } else { &mut self.next };
        counted.rows += rows;
        counted.bytes += bytes;
        if crowded && !counted.crowded {
            counted.crowded = true;
            self.version += 1;
        }
        if rows > 0 {
            self.note_input(barriers);
        }
    }

    /// The epoch of a core that has passed `barriers` is one, even if no row comes.
    pub fn note_input(&mut self, barriers: u64) {
        let is_running = barriers == self.collected;
        let counted = if is_running { &mut self.running } else { &mut self.next };
        if counted.first_row_at.is_none() {
            counted.first_row_at = Some(Instant::now());
            self.version += 1;
        }
    }

    /// Says what a core holds; `reads` are buffers, `epoch` is what it took in. More than may be held
    /// in all crowds the epoch.
    pub fn charge(&mut self, core: usize, reads: usize, epoch: usize) {
        let Some(accounts) = self.accounts.get_mut(core) else { return };
        accounts.reads.set(reads);
        accounts.epoch.set(epoch);
        let over = accounts.ledger.held() > accounts.ledger.limit();
        if over && self.running.rows > 0 && !self.running.crowded {
            self.running.crowded = true;
            self.version += 1;
        }
    }

    /// Ends a barrier: the next epoch is the running one now. Returns what the last one took in.
    pub fn collect(&mut self) -> Counted {
        self.collected += 1;
        self.version += 1;
        std::mem::replace(&mut self.running, std::mem::take(&mut self.next))
    }

    pub fn set_caught_up(&mut self, caught_up: bool, ended: bool) {
        if (self.caught_up, self.ended) != (caught_up, ended) {
            (self.caught_up, self.ended) = (caught_up, ended);
            self.empty_since = caught_up.then(|| self.empty_since.unwrap_or_else(Instant::now));
            self.version += 1;
        }
    }

    /// What the epoch of a core that has passed `barriers` has taken in: rows, bytes.
    pub fn taken(&self, barriers: u64) -> (u64, u64) {
        let counted = if barriers == self.collected { &self.running } else { &self.next };
        (counted.rows, counted.bytes)
    }

    /// How one core's splits stand: all caught up, all ended. The source does as all cores do.
    pub fn stand(&mut self, core: usize, standing: (bool, bool)) {
        let splits = self.splits.as_mut().expect("cores with splits tell how they stand");
        splits.standing[core] = standing;
        let caught_up = splits.standing.iter().all(|(caught_up, _)| *caught_up);
        let ended = splits.standing.iter().all(|(_, ended)| *ended);
        self.set_caught_up(caught_up, ended);
    }

    /// As [`super::Ingest::is_idle`]. A run that takes what is there expects nothing that it could
    /// wait for.
    pub fn is_idle(&self, now: Instant, idle_after: Duration) -> bool {
        let is_long = |since| now.saturating_duration_since(since) >= idle_after;
        let is_silent = match &self.splits {
            Some(splits) => splits.all.iter().all(|split| split.is_idle(now, idle_after)),
            None => self.empty_since.is_some_and(is_long),
        };
        is_silent && self.caught_up && !self.frozen && !self.running.has_input()
    }

    /// Nobody could look: what was silent until now may not be.
    pub fn begin_silence_anew(&mut self) {
        self.empty_since = self.empty_since.map(|_| Instant::now());
    }

    pub fn set_full(&mut self, full: bool) {
        if self.full != full {
            self.full = full;
            self.version += 1;
        }
    }

    /// Something outside has changed that the run loop waits for.
    pub fn note_change(&mut self) {
        self.version += 1;
    }

    pub fn count_stall(&mut self) {
        self.stalls += 1;
        self.version += 1;
    }

    /// Ends the job. The first reason counts.
    pub fn fail(&mut self, error: Error) {
        if self.failure.is_none() {
            self.failure = Some(error);
            self.version += 1;
        }
    }

    pub fn failure(&self) -> Option<Error> {
        self.failure.as_ref().map(copy_of)
    }

    pub fn status(&self) -> Status {
        Status {
            rows: self.running.rows,
            bytes: self.running.bytes,
            first_row_at: self.running.first_row_at,
            crowded: self.running.crowded,
            caught_up: self.caught_up,
            ended: self.ended,
            full: self.full,
            stalls: self.stalls,
            is_clock_due: self.splits.as_ref().is_some_and(|splits| splits.is_due(Instant::now())),
            failed: self.failure(),
        }
    }
}

/// An error with the same words; one is told to whoever asks, and several do.
fn copy_of(error: &Error) -> Error {
    match error {
        Error::BadJob { rendered } => Error::BadJob { rendered: rendered.clone() },
        Error::Unavailable { what, fix } => {
            Error::Unavailable { what: what.clone(), fix: fix.clone() }
        }
        Error::StateIo { what, source } => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            Error::StateIo { what: what.clone(), source }
        }
        Error::OutputClosed => Error::OutputClosed,
        Error::Failed { what } => Error::Failed { what: what.clone() },
    }
}

pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Cores and the scout wait here for work, barriers and the stop.
    inside: Condvar,
    /// The run loop waits here for barriers and for changes.
    outside: Condvar,
    /// For each core a count that advances while it works.
    beats: Vec<AtomicU64>,
    /// Rung at every change, where one who waits looks at several sources.
    bell: OnceLock<Arc<Bell>>,
}

/// Wakes who waits for a change of any of several sources.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<u64>,
    told: Condvar,
}

impl Bell {
    /// How often it rang.
    pub fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.told.notify_all();
    }

    /// Waits until it rang more often than `count`, at most `timeout`.
    pub fn wait(&self, count: u64, timeout: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |rung: &mut u64| *rung == count;
        match timeout {
            None => drop(self.told.wait_while(rung, silent)),
            Some(timeout) => drop(self.told.wait_timeout_while(rung, timeout, silent)),
        }
    }
}

impl Shared {
    pub fn new(cores: usize, mut inner: Inner) -> Shared {
        inner.parts.resize_with(cores, || None);
        Shared {
            inner: Mutex::new(inner),
            inside: Condvar::new(),
            outside: Condvar::new(),
            beats: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            bell: OnceLock::new(),
        }
    }

    /// Takes the lock. A thread that panicked while it held it has failed the job; what it left is
    /// only told, not gone on with.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock and tells everyone of a change.
    pub fn notify(&self, guard: MutexGuard<'_, Inner>) {
        drop(guard);
        self.inside.notify_all();
        self.tell_outside();
    }

    /// From now on this rings, too.
    pub fn ring_at_changes(&self, bell: &Arc<Bell>) {
        _ = self.bell.set(Arc::clone(bell));
    }

    /// Tells the run loop of a change.
    pub fn tell_outside(&self) {
        self.outside.notify_all();
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Waits inside until something changes, at most `timeout`.
    pub fn wait_inside<'a>(
        &self,
        guard: MutexGuard<'a, Inner>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match timeout {
            None => self.inside.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.inside.wait_timeout(guard, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Waits outside until something changes, at most `timeout`.
    pub fn wait_outside<'a>(
        &self,
        guard: MutexGuard<'a, Inner>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match timeout {
            None => self.outside.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.outside.wait_timeout(guard, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    pub fn beat(&self, core: usize) {
        self.beats[core].fetch_add(1, Ordering::Relaxed);
    }

    pub fn beats(&self) -> Vec<u64> {
        self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect()
    }
}

/// Tells the run loop what happens inside.
pub struct Signal {
    shared: Arc<Shared>,
    seen: Mutex<u64>,
}

impl Signal {
    pub(crate) fn new(shared: Arc<Shared>) -> Signal {
        Signal { shared, seen: Mutex::new(0) }
    }

    /// Waits until something changed since the last call, or until then.
    ///
    /// A change is: the epoch's first row, a split that has caught up or has more again, a limit
    /// reached, the end, a failure, a barrier that is over. What has not changed does not end the
    /// wait, so look at the status first.
    pub fn wait(&self, until: Option<Instant>) -> Status {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.shared.lock();
        while inner.version == *seen {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            inner = self.shared.wait_outside(inner, left);
        }
        *seen = inner.version;
        inner.status()
    }

    /// Whether something changed since the last call, and how things stand.
    pub(crate) fn look(&self) -> (bool, Status) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.shared.lock();
        let changed = inner.version != *seen;
        *seen = inner.version;
        (changed, inner.status())
    }

    /// How things stand now.
    pub fn status(&self) -> Status {
        self.shared.lock().status()
    }
}
