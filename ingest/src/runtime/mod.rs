//! A job's threads: one on each core, and what the run loop sees of them.
//!
//! Each core reads, decodes and aggregates on its own up to the barrier; then it hands over its part
//! of the epoch and goes on with the next at once. Back-pressure is a full epoch: cores wait for its
//! barrier. A small thread beside them, the scout, looks for new files and paces the generator.
//!
//! Invariant: an epoch is a contiguous stretch of each split. A panic or an error on any core fails
//! the job: no barrier passes after it, so nothing of the running epoch is committed.

use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{JobSpec, SourceKind, SourceSpec};
use pelton_engine::memory::{Ledger, Pool};
use pelton_engine::pipeline::CoreEpoch;
use pelton_engine::plan::Plan;
use pelton_engine::plan::choice::Candidate;
use pelton_hardware::placement::spread;
use pelton_hardware::{Core, Machine, Placement, SplitKind};

use crate::kafka::Ask;
use crate::ring::{self, Choice, Ring};
use crate::source::board::{Board, Cut};
use crate::source::files::file_state;
pub use crate::source::state::SourceState;
use crate::source::state::State;
use crate::source::stream::Waker;
use build::Builder;
pub use build::LOG_DIRECTORY;
pub use direct::partitions;
pub use gpu::choice as gpu_choice;
pub use several::{Sources, places_of};
use shared::{Accounts, Inner, Shared};
pub use shared::{Signal, Status};

mod build;
mod core;
mod direct;
mod gpu;
mod pipelines;
mod scout;
mod several;
mod shared;
mod streaming;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

/// A work unit of a file: large against a row and a piece, small against an epoch.
const RANGE_BYTES: u64 = 4 << 20;
/// The least that is worth a guess.
const RANGE_BYTES_MIN: u64 = 256 << 10;
/// A core that neither works nor waits for so long is said to be stalled (F31).
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A job's source while it runs: its threads, their pipelines, its place.
pub struct Ingest {
    shared: Arc<Shared>,
    signal: Signal,
    threads: Vec<JoinHandle<()>>,
    kind: Kind,
    /// One for each thread that waits for bytes.
    wakes: Vec<Waker>,
    address: Option<SocketAddr>,
    stalled_after: Duration,
}

/// What the source's state consists of.
enum Kind {
    Files,
    Generate {
        suite: String,
        seed: u64,
    },
    Stream,
    /// `commits`: takes offsets for the consumer group.
    Kafka {
        commits: Option<SyncSender<Ask>>,
    },
}

/// What one epoch took in.
pub struct EpochInput {
    pub cores: Vec<CoreEpoch>,
    /// Greatest event time seen up to the barrier.
    pub event_time_max: Option<i64>,
    pub state: SourceState,
    /// The bounded input is at its end: every window closes.
    pub ended: bool,
    /// Rows came, or a file that has none and is an epoch all the same.
    pub has_input: bool,
    pub rows: u64,
    pub bytes: u64,
}

/// Opens a core's ring; a word for the operator where it is less than was asked for.
pub(crate) type OpenRing = fn(&Choice) -> (Box<dyn Ring>, Option<String>);

/// How to run, beside what the job says.
#[derive(Clone)]
pub(crate) struct Setup {
    /// Processors to pin to, one for each core.
    pub cpus: Vec<Option<usize>>,
    pub range_bytes: u64,
    pub rings: OpenRing,
    pub choice: Choice,
    pub stalled_after: Duration,
    /// The watermark by which the first epoch's rows are late; `None`: by the rows before each.
    pub late_by: Option<i64>,
    /// What `device = "auto"` could take.
    pub candidate: Candidate,
}

impl Setup {
    fn new(
        job: &JobSpec,
        cpus: Vec<usize>,
        machine: &Machine,
        late_by: Option<i64>,
        candidate: Candidate,
    ) -> Setup {
        Setup {
            range_bytes: range_bytes(job.memory_limit, cpus.len()),
            cpus: cpus.into_iter().map(Some).collect(),
            rings: ring::open,
            choice: Choice::from(&machine.io_uring),
            stalled_after: STALLED_AFTER,
            late_by,
            candidate,
        }
    }
}

/// A core aggregates a range before anybody sees what it holds, and its groups may take ten times the
/// text: under a small limit ranges are smaller.
fn range_bytes(memory_limit: Option<u64>, cores: usize) -> u64 {
    let share = memory_limit.unwrap_or(u64::MAX) / 64 / cores.max(1) as u64;
    share.clamp(RANGE_BYTES_MIN, RANGE_BYTES)
}

impl Ingest {
    /// Opens the source that a plan reads, and starts a thread on each core that the job may use.
    /// `candidate`: the GPU that `device = "auto"` could take.
    ///
    /// Errors: `Unavailable` where the source cannot be read, `Failed` where it is not what it was
    /// when `from` was written, `BadJob` for cores that are not there.
    pub fn start(
        job: &JobSpec,
        plan: Arc<Plan>,
        machine: &Machine,
        from: Option<&SourceState>,
        late_by: Option<i64>,
        candidate: Candidate,
    ) -> Result<Ingest> {
        let cores = machine.cores(job.cores.as_deref()).map_err(|error| Error::BadJob {
            rendered: format!("{}: cores: {error}", job.file.display()),
        })?;
        let cpus = cpus_of(&[&job.sources[plan.source]], &cores).remove(0);
        Ingest::start_with(job, plan, &Setup::new(job, cpus, machine, late_by, candidate), from)
    }

    pub(crate) fn start_with(
        job: &JobSpec,
        plan: Arc<Plan>,
        setup: &Setup,
        from: Option<&SourceState>,
    ) -> Result<Ingest> {
        let from = from.map(State::from_json).transpose()?;
        let gpu = gpu::open(job, &plan, setup)?;
        let source = &job.sources[plan.source];
        let builder = Builder { job, source, plan, setup, gpu };
        match &source.kind {
            SourceKind::File { .. } => builder.files(from),
            SourceKind::Generate { .. } => builder.generate(from),
            SourceKind::Socket { .. } | SourceKind::Stdin => builder.stream(from),
            SourceKind::Kafka(_) => builder.kafka(from),
        }
    }

    /// Tells what happens inside.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Ends the wait of [`Signal::wait`], from any thread.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            shared.lock().note_change();
            shared.tell_outside();
        }
    }

    /// Charges what the cores hold to a ledger from now on. When that is full the epoch is crowded.
    pub fn charge_to(&self, ledger: &Arc<Ledger>) {
        let mut inner = self.shared.lock();
        inner.accounts = (0..inner.parts.len())
            .map(|_| Accounts {
                ledger: Arc::clone(ledger),
                reads: ledger.account(Pool::Reads),
                epoch: ledger.account(Pool::Epoch),
            })
            .collect();
    }

    /// Cuts the epoch and collects it; the rows behind the cut are late by `late_by`, where one
    /// watermark is for all.
    ///
    /// Errors: as [`Ingest::collect`].
    pub fn barrier(&mut self, late_by: Option<i64>) -> Result<EpochInput> {
        self.cut(late_by, None);
        self.collect()
    }

    /// Cuts the epoch, as [`Ingest::barrier`], and waits for nothing. `clock`: the event time up to which
    /// windows leave without this source; its rows behind the cut are late by it.
    pub(crate) fn cut(&mut self, late_by: Option<i64>, clock: Option<i64>) {
        let mut inner = self.shared.lock();
        inner.barriers += 1;
        inner.late_by = late_by;
        inner.clock = clock;
        inner.cut_at = Some(Instant::now());
        inner.set_full(false);
        if let Some(board) = &mut inner.board {
            board.cut(late_by, clock);
        }
        self.shared.notify(inner);
        self.wakes.iter().for_each(Waker::wake);
    }

    /// Collects the epoch that was cut. Ranges in hand are finished first; a core that is through
    /// goes on with the next epoch before the others are.
    ///
    /// Errors: why the job must stop, if it must; nothing of the epoch may be committed then.
    pub(crate) fn collect(&mut self) -> Result<EpochInput> {
        let mut inner = self.collect_parts();
        if let Some(error) = inner.failure() {
            return Err(error);
        }
        let cores = inner.parts.iter_mut().map(|p| p.take().expect("all are there")).collect();
        let taken = inner.collect();
        let board = inner.board.as_mut();
        let cut = board.and_then(Board::take_cut).or_else(|| inner.stream_cut.take());
        let cut = cut.expect("the cut is settled before the cores are through it");
        let ended = cut.ended;
        let state = self.kind.state(&inner, &cut).to_json();
        let (rows, bytes) = (taken.rows, taken.bytes);
        self.shared.notify(inner);
        let (event_time_max, has_input) = (cut.event_time_max, taken.has_input());
        Ok(EpochInput { cores, event_time_max, state, ended, has_input, rows, bytes })
    }

    /// Waits until every core has handed over its part, or one has failed. A core that does not move
    /// is told of, and waited for: without it the epoch is not whole (F31).
    fn collect_parts(&self) -> MutexGuard<'_, Inner> {
        let (mut beats, mut since) = (self.shared.beats(), Instant::now());
        let mut inner = self.shared.lock();
        while inner.failure().is_none() && inner.parts.iter().any(Option::is_none) {
            inner = self.shared.wait_outside(inner, Some(self.stalled_after));
            let now = self.shared.beats();
            if now != beats {
                (beats, since) = (now, Instant::now());
            } else if since.elapsed() >= self.stalled_after {
                let stalled = (0..inner.parts.len()).filter(|&core| inner.parts[core].is_none());
                for core in stalled {
                    say(&format!("core {core} is stalled; the epoch waits for it"));
                }
                inner.count_stall();
                since = Instant::now();
            }
        }
        inner
    }

    /// Whether nothing came for so long: every split answered "empty" all the time, and more may come.
    pub(crate) fn is_idle(&self, now: Instant, idle_after: Duration) -> bool {
        self.shared.lock().is_idle(now, idle_after)
    }

    /// An epoch is committed, and the source stood at `state` then: a Kafka source tells its group.
    pub fn committed(&self, state: &SourceState) {
        let Kind::Kafka { commits: Some(commits) } = &self.kind else { return };
        let Ok(State::Kafka { splits, .. }) = State::from_json(state) else { return };
        let offsets =
            splits.into_iter().map(|split| (split.topic.into(), split.partition, split.offset));
        // Best effort: the next epoch's offsets say more.
        _ = commits.try_send(Ask::Commit { offsets: offsets.collect() });
    }

    /// Checkpoints are kept from this place on: a write-ahead log needs nothing before it.
    ///
    /// Errors: as of [`Ingest::start`] for a place that is not this source's.
    pub fn forget_before(&self, oldest: &SourceState) -> Result<()> {
        if !matches!(self.kind, Kind::Stream) {
            return Ok(());
        }
        if let State::Stream { log: Some(log), .. } = State::from_json(oldest)? {
            self.shared.lock().log_needed_from = log.low;
        }
        Ok(())
    }

    /// Where the source listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends the threads and waits for them. What was read since the last barrier is forgotten.
    pub fn stop(self) {}
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.stop = true;
        self.shared.notify(inner);
        self.wakes.iter().for_each(Waker::wake);
        if let Kind::Kafka { commits } = &mut self.kind {
            // The keeper ends when nobody can ask it any more.
            *commits = None;
        }
        for thread in self.threads.drain(..) {
            // A panic was caught and told inside the thread.
            _ = thread.join();
        }
    }
}

impl Kind {
    fn state(&self, inner: &Inner, cut: &Cut) -> State {
        let event_time_max = cut.event_time_max;
        match self {
            Kind::Files => {
                let files = inner.files.iter().zip(&cut.files);
                let files = files.map(|(file, facts)| file_state(file, facts)).collect();
                State::File { files, event_time_max }
            }
            Kind::Generate { suite, seed } => State::Generate {
                suite: suite.clone(),
                seed: *seed,
                next_row: cut.files[0].position,
                event_time_max,
            },
            Kind::Stream => State::Stream { event_time_max, log: inner.stream_log.clone() },
            Kind::Kafka { .. } => inner.splits.as_ref().expect("a Kafka source has splits").state(),
        }
    }
}

/// The processors that read each of some sources that are read side by side.
fn cpus_of(sources: &[&SourceSpec], cores: &[Core]) -> Vec<Vec<usize>> {
    let kinds: Vec<SplitKind> = sources.iter().map(|source| split_kind(&source.kind)).collect();
    let placed = Placement::of(&kinds, cores).splits.into_iter().map(|(_, cpus)| cpus);
    let cpus = |(source, placed): (&&SourceSpec, Vec<usize>)| match &source.kind {
        // As many partitions as there may be come one by one: each core is ready for some.
        SourceKind::Kafka(_) => spread(cores).iter().map(|core| core.cpu).collect(),
        _ => placed,
    };
    sources.iter().zip(placed).map(cpus).collect()
}

/// A file and generated rows are read by several cores, a stream by one.
pub fn split_kind(kind: &SourceKind) -> SplitKind {
    match kind {
        SourceKind::File { .. } | SourceKind::Generate { .. } => SplitKind::File,
        SourceKind::Socket { .. } | SourceKind::Stdin | SourceKind::Kafka(_) => SplitKind::Stream,
    }
}

/// A line for the operator.
pub(crate) fn say(line: &str) {
    eprintln!("pelton: {line}");
}
