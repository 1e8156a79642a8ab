//! Starts the threads of a source: which ranges there are, who reads them, where they begin.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use pelton_engine::batch::Place;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{
    CsvDialect, Escape, Format, Header, JobSpec, SourceKind, SourceSpec, Trigger,
};
use pelton_engine::pipeline::Pipeline;
use pelton_engine::pipeline::device::Gpu;
use pelton_engine::plan::Plan;
use pelton_engine::seeded::{self, Bug};
use pelton_engine::storage::LocalStorage;
use pelton_engine::wal::Log;

use super::core::{Core, FileInput, From};
use super::scout::Scout;
use super::shared::{Inner, Shared, Signal};
use super::streaming::{Begin, Streaming};
use super::worker::Worker;
use super::{Ingest, Kind, Setup, say};
use crate::decode::{Decoder, Mapping, SimdTier, file_head};
use crate::generate::Suite;
use crate::source::board::{Board, Extent, FileFacts, Limits, Mode};
use crate::source::files::{Change, Discovery};
use crate::source::inlet::Inlet;
use crate::source::state::State;
use crate::source::stream::{Stream, Waker};

/// Bounds of what a core holds of an epoch before it is taken over.
const EPOCH_BYTES_MIN: u64 = 1 << 20;
const EPOCH_BYTES_MAX: u64 = 12 << 20;
/// Of the one write-ahead log, below the checkpoint's.
pub const LOG_DIRECTORY: &str = "wal";
/// A work unit of generated rows, about 3 MB of text.
const RANGE_ROWS: u64 = 64 << 10;

/// Starts the threads of a source.
pub(super) struct Builder<'a> {
    pub job: &'a JobSpec,
    /// The one that the plan reads.
    pub source: &'a SourceSpec,
    pub plan: Arc<Plan>,
    pub setup: &'a Setup,
    /// Where the job runs on one.
    pub gpu: Option<Arc<Gpu>>,
}

impl Builder<'_> {
    pub(super) fn files(self, from: Option<State>) -> Result<Ingest> {
        let SourceKind::File { path, max_files_per_epoch, end } = &self.source.kind else {
            unreachable!("the caller matched it");
        };
        let (before, event_time_max) = match from {
            None => (Vec::new(), None),
            Some(State::File { files, event_time_max }) => (files, remembered(event_time_max)),
            Some(_) => return Err(other_source("files")),
        };
        let source = self.source;
        let (discovery, changes) = Discovery::new(path, source, &self.plan.input, *end, &before)?;
        // "once" takes all that is there, however many files.
        let files = max_files_per_epoch.filter(|_| self.job.query.trigger != Trigger::Once);
        let limits = Limits { files, ..self.limits() };
        let mode =
            if self.plan.needs_order() { Mode::Sequential } else { mode_of(source, &limits) };
        let (bytes, cores) = (self.setup.range_bytes, self.setup.cpus.len());
        let mut board =
            Board::new(mode, bytes, cores, limits, (event_time_max, self.setup.late_by));
        if discovery.bounded() {
            board.close();
        }
        let mut inner = Inner::new(Some(board), self.is_frozen());
        changes.into_iter().for_each(|change| inner.apply(change));
        let watch = !discovery.bounded() && !self.is_frozen();
        let shared = Arc::new(Shared::new(cores, inner));
        let mut threads = Vec::new();
        let mut less = None;
        for core in 0..cores {
            let (ring, said) = (self.setup.rings)(&self.setup.choice);
            less = less.or(said);
            let from = From::Files(Box::new(FileInput::new(ring)));
            threads.push(self.start_core(&shared, core, from)?);
        }
        if let Some(less) = less {
            say(&less);
        }
        if watch {
            threads.push(start_thread(&shared, "scout", None, {
                let scout = Scout::Files(Box::new(discovery));
                let shared = Arc::clone(&shared);
                move || scout.run(&shared)
            })?);
        }
        Ok(self.ingest(shared, threads, Kind::Files, Vec::new(), None))
    }

    pub(super) fn generate(self, from: Option<State>) -> Result<Ingest> {
        let SourceKind::Generate { suite: name, rows, rows_per_second, seed } = &self.source.kind
        else {
            unreachable!("the caller matched it");
        };
        let suite = Suite::new(name, *seed).ok_or_else(|| Error::Unavailable {
            what: format!("there is no suite \"{name}\" to generate"),
            fix: format!("use one of \"{}\"", Suite::NAMES.join("\", \"")),
        })?;
        let (next_row, event_time_max) = match from {
            None => (0, None),
            Some(State::Generate { suite, seed: was, next_row, event_time_max }) => {
                if (&suite, was) != (name, *seed) {
                    return Err(other_source("the same generated rows"));
                }
                (next_row, event_time_max)
            }
            Some(_) => return Err(other_source("generated rows")),
        };
        let limits = self.limits();
        let in_rows = limits.bytes.map(|bytes| (bytes / suite.row_bytes()).max(1));
        let rows_max = in_rows.into_iter().chain(limits.rows).min();
        let limits = Limits { bytes: rows_max, rows: None, files: None };
        let cores = self.setup.cpus.len();
        let mode = if self.plan.needs_order() { Mode::Sequential } else { Mode::Exact };
        let mut board =
            Board::new(mode, RANGE_ROWS, cores, limits, (event_time_max, self.setup.late_by));
        let end = rows.unwrap_or(u64::MAX);
        let extent = Extent::Known(rows_per_second.map_or(end, |_| next_row));
        let (position, line) = (next_row, next_row + 1);
        board.add_file(FileFacts { position, line, extent, complete: true });
        if rows.is_some() && rows_per_second.is_none() {
            board.close();
        }
        // Rows that come due at a rate are all there for a run that takes what is there.
        let frozen = self.is_frozen() && rows_per_second.is_none();
        let inner = Inner::new(Some(board), frozen);
        let shared = Arc::new(Shared::new(cores, inner));
        let mapping = self.mapping_of_schema();
        let mut threads = Vec::new();
        for core in 0..cores {
            let (suite, name) = (suite.clone(), name.as_str().into());
            let from = From::Suite { suite, name, mapping: mapping.clone() };
            threads.push(self.start_core(&shared, core, from)?);
        }
        if let Some(rate) = *rows_per_second {
            let scout = Scout::Rows { first: next_row, end, rate, bounded: rows.is_some() };
            let inside = Arc::clone(&shared);
            threads.push(start_thread(&shared, "scout", None, move || scout.run(&inside))?);
        }
        let kind = Kind::Generate { suite: name.clone(), seed: *seed };
        Ok(self.ingest(shared, threads, kind, Vec::new(), None))
    }

    pub(super) fn stream(self, from: Option<State>) -> Result<Ingest> {
        let (event_time_max, place) = match from {
            None => (None, None),
            Some(State::Stream { event_time_max, log }) => (remembered(event_time_max), log),
            Some(_) => return Err(other_source("a stream")),
        };
        let place = place.unwrap_or_default();
        let checkpoint = self.job.checkpoint.as_ref();
        let directory = checkpoint.and_then(|checkpoint| checkpoint.place.directory());
        let log = directory.map(|directory| {
            let path = directory.join(self.log_directory());
            let disk = LocalStorage::open(&path).map_err(|source| Error::StateIo {
                what: format!("cannot open the write-ahead log in {}", path.display()),
                source,
            })?;
            Log::open(Arc::new(disk), place.low)
        });
        let log = log.transpose()?;
        let came = log.as_ref().map_or(0, |(_, replay)| replay.peers()).max(place.next_peer);
        let (stream, wake) = Stream::open(&self.source.kind, came)?;
        let address = stream.address();
        // Standard input has an end, so a run that takes what is there waits for that.
        let frozen = self.is_frozen() && !stream.is_bounded();
        let inner = Inner::new(None, frozen);
        let shared = Arc::new(Shared::new(1, inner));
        let worker = self.worker(&shared, 0)?;
        let source = (self.source.clone(), self.plan.input.clone());
        let inlet = Inlet::new(stream, log, &place)?;
        let (calls, limits, late_by) = (place.calls, self.limits(), self.setup.late_by);
        let begin = Begin { event_time_max, late_by, calls, frozen, limits };
        let run = Streaming::new(worker, inlet, source, begin);
        let thread = start_thread(&shared, "core 0", self.setup.cpus[0], move || run.run())?;
        Ok(self.ingest(shared, vec![thread], Kind::Stream, vec![wake], address))
    }

    /// Of the source's write-ahead log, below the checkpoint's: each source of several has its own.
    fn log_directory(&self) -> String {
        match self.job.sources.len() {
            1 => LOG_DIRECTORY.to_owned(),
            _ => format!("{LOG_DIRECTORY}-{}", self.source.name),
        }
    }

    pub(super) fn ingest(
        &self,
        shared: Arc<Shared>,
        threads: Vec<JoinHandle<()>>,
        kind: Kind,
        wakes: Vec<Waker>,
        address: Option<SocketAddr>,
    ) -> Ingest {
        let signal = Signal::new(Arc::clone(&shared));
        let stalled_after = self.setup.stalled_after;
        Ingest { shared, signal, threads, kind, wakes, address, stalled_after }
    }

    /// A core's share of what an epoch in work may hold: it is held four times on its way through
    /// the state to the output, and a few MiB a core keep its groups within reach of the caches.
    fn epoch_bytes_max(&self) -> usize {
        let limit = self.job.memory_limit.unwrap_or(u64::MAX);
        let share = limit / 32 / self.setup.cpus.len().max(1) as u64;
        share.clamp(EPOCH_BYTES_MIN, EPOCH_BYTES_MAX) as usize
    }

    pub(super) fn worker(&self, shared: &Arc<Shared>, core: usize) -> Result<Worker> {
        let (source, timezone) = (self.source, &self.job.timezone);
        let input = &self.plan.input;
        Ok(Worker {
            core,
            shared: Arc::clone(shared),
            decoder: Decoder::new(source, timezone, input, SimdTier::detect())?,
            pipeline: self.pipeline(),
            epoch_bytes_max: self.epoch_bytes_max(),
            quote: match &source.format {
                Format::Csv(csv) => csv.quote,
                Format::Text => None,
            },
            place: Place::default(),
            inside_line: false,
            text: Vec::new(),
        })
    }

    fn pipeline(&self) -> Pipeline {
        let pipeline = Pipeline::new(Arc::clone(&self.plan), self.source.on_error);
        match &self.gpu {
            None => pipeline,
            Some(gpu) => pipeline.on_device(gpu),
        }
    }

    fn start_core(&self, shared: &Arc<Shared>, core: usize, from: From) -> Result<JoinHandle<()>> {
        let worker = self.worker(shared, core)?;
        let cpu = self.setup.cpus[core];
        start_thread(shared, &format!("core {core}"), cpu, move || Core::new(worker, from).run())
    }

    /// An interval trigger and "once" end an epoch by time and by the input's end, never by bytes.
    pub(super) fn limits(&self) -> Limits {
        let by_bytes = !matches!(self.job.query.trigger, Trigger::Interval(_) | Trigger::Once);
        Limits {
            bytes: by_bytes.then_some(self.job.epoch.max_bytes),
            rows: self.job.epoch.max_rows,
            files: None,
        }
    }

    /// What is there at the start is all that this run reads.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.job.query.trigger, Trigger::AvailableNow | Trigger::Once)
    }

    /// Fields in the order of the schema: for input without a header.
    pub(super) fn mapping_of_schema(&self) -> Mapping {
        let mut source = self.source.clone();
        if let Format::Csv(csv) = &mut source.format {
            *csv = CsvDialect { header: Header::None, skip_lines: 0, ..csv.clone() };
        }
        let head = file_head(&source, &self.plan.input, b"", true);
        head.ok().flatten().expect("an empty file without a header has a head").mapping
    }
}

impl Inner {
    /// Takes in what the discovery found.
    pub(super) fn apply(&mut self, change: Change) {
        let board = self.board.as_mut().expect("files are read by a board");
        match change {
            Change::New(file, facts) => {
                board.add_new_file(facts);
                self.files.push(file);
            }
            Change::Known(file, facts) => {
                board.add_file(facts);
                self.files.push(file);
            }
            Change::Grown { file, size, complete } => board.update_file(file, size, complete),
        }
    }
}

/// Backslashes and comments leave no line feed that can be trusted without all that is before it; a
/// row limit needs the rows before to be counted.
fn mode_of(source: &SourceSpec, limits: &Limits) -> Mode {
    let in_sequence = match &source.format {
        Format::Csv(csv) => csv.escape == Escape::Backslash || csv.comment.is_some(),
        Format::Text => false,
    };
    if in_sequence || limits.rows.is_some() { Mode::Sequential } else { Mode::Guessing }
}

/// How far the event time of a checkpoint's source had come.
fn remembered(event_time_max: Option<i64>) -> Option<i64> {
    event_time_max.filter(|_| !seeded::is(Bug::WatermarkForgotten))
}

pub(super) fn other_source(expected: &str) -> Error {
    Error::failed(format!(
        "the checkpoint is of another source: expected {expected}; start anew with an empty \
         checkpoint path"
    ))
}

/// Starts a thread that fails the job when it fails or panics (F31).
pub(super) fn start_thread(
    shared: &Arc<Shared>,
    name: &str,
    cpu: Option<usize>,
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let (shared, name) = (Arc::clone(shared), name.to_owned());
    let thread_name = format!("pelton {name}");
    let body = move || {
        if let Some(Err(error)) = cpu.map(pelton_hardware::pin) {
            say(&format!("{name} runs unpinned: {error}"));
        }
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            Err(Error::failed(format!("{name} panicked: {}", message_of(&*panic))))
        });
        if let Err(error) = result {
            let mut inner = shared.lock();
            inner.fail(error);
            shared.notify(inner);
        }
    };
    std::thread::Builder::new().name(thread_name).spawn(body).map_err(|error| Error::Unavailable {
        what: format!("cannot start a thread: {error}"),
        fix: "raise the limit on threads (`ulimit -u`, the cgroup's pids.max)".into(),
    })
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
