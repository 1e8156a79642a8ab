//! Runs a job: triggers, barriers, commits; the control plane of one process.
//!
//! The core threads ingest. This thread waits for the trigger, cuts the epoch and merges it; a third
//! one stages its rows and commits ([`crate::committer`]), while the next epoch is ingested already.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pelton_engine::checkpoint::{Journal, Terms, bring};
use pelton_engine::epoch::{EpochInput, Epochs, Restored, Task, Workers};
use pelton_engine::error::{Error, Result};
use pelton_engine::failpoint;
use pelton_engine::job::spec::{JobSpec, Trigger};
use pelton_engine::memory::{Account, Ledger, Pool};
use pelton_engine::outputs::Outputs;
use pelton_engine::plan::Query;
use pelton_engine::trigger::{Clockwork, Decision, Progress};
use pelton_hardware::placement::spread;
use pelton_hardware::{Core, Machine, resident};
use pelton_ingest::runtime::{Sources, Status};
use pelton_ingest::tables::Tables;

use crate::committer::{Committer, Done, Epoch};
use crate::gpus;
use crate::interrupt;
use crate::lock::StateLock;
use crate::memory;
use crate::outputs;
use crate::report::{Reporter, Style, Summary, Times};
use crate::rooms::Rooms;
use crate::states;

/// An interrupt is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One shard of the state keeps up with this many cores of ingest.
const CORES_A_SHARD: usize = 4;

pub struct Options {
    pub style: Style,
    /// Cores to use at most.
    pub threads: Option<usize>,
    /// Go on from the state of a changed query.
    pub accept_state_change: bool,
    /// Begin with another directory's checkpoint, the newest or that of an epoch.
    pub from_checkpoint: Option<(String, Option<u64>)>,
}

impl Options {
    pub fn of(style: Style) -> Options {
        Options { style, threads: None, accept_state_change: false, from_checkpoint: None }
    }
}

/// Runs a job to its end: the end of a bounded input, or the first SIGINT or SIGTERM.
///
/// Errors: those of every part, each with its exit code; what was committed stays committed.
pub fn run(mut job: JobSpec, query: Query, options: &Options) -> Result<Summary> {
    let machine = Machine::discover();
    let cores = cores(&job, &machine, options.threads)?;
    job.cores = Some(cores.iter().map(|core| core.cpu).collect());
    job.memory_limit.get_or_insert(machine.memory_default_bytes());
    let directory = job.checkpoint.as_ref().and_then(|checkpoint| checkpoint.place.directory());
    let _lock = directory.map(StateLock::take).transpose()?;
    // From here on there is state to go on from: also a start ends by itself, with exit 0.
    interrupt::listen();
    let tables = Tables::read(&job)?;
    query.load(tables.rows())?;
    let (mut run, outputs, restored) =
        Run::open(&job, query, tables, cores.len().div_ceil(CORES_A_SHARD), options)?;
    if restored.as_ref().is_some_and(|restored| restored.ended) {
        eprintln!("pelton: the input of \"{}\" came to its end in an earlier run", job.name);
        return Ok(run.reporter.summary());
    }
    let from = restored.map(|restored| restored.source);
    let candidate = gpus::candidate(&job, &run.query)?;
    let process = resident::anonymous_bytes().unwrap_or(0) as usize;
    run.process_memory.set(process.saturating_sub(memory::spare_bytes()));
    let late_by = run.epochs.late_by();
    let query = Arc::clone(&run.query);
    let sources = Sources::start(&job, &query, &machine, from.as_ref(), late_by, &candidate)?;
    sources.charge_to(&run.ledger);
    run.drive(sources, outputs)?;
    Ok(run.reporter.summary())
}

/// The cores that a job may use, at most `threads` of them, physical cores first.
pub fn cores(job: &JobSpec, machine: &Machine, threads: Option<usize>) -> Result<Vec<Core>> {
    let cores = machine.cores(job.cores.as_deref()).map_err(|error| Error::BadJob {
        rendered: format!("{}: cores: {error}", job.file.display()),
    })?;
    let mut cores = spread(&cores);
    cores.truncate(threads.unwrap_or(usize::MAX));
    Ok(cores)
}

struct Run<'a> {
    job: &'a JobSpec,
    query: Arc<Query>,
    tables: Tables,
    epochs: Epochs,
    reporter: Reporter,
    began: Instant,
    rooms: Rooms,
    /// Bytes of input that the running epoch has taken over so far.
    epoch_bytes: u64,
    /// A part of the running epoch was taken over before its end.
    absorbed: bool,
    ledger: Arc<Ledger>,
    /// What the process held before the first byte was read.
    process_memory: Account,
    state_memory: Account,
    spare_memory: Account,
}

impl<'a> Run<'a> {
    fn open(
        job: &'a JobSpec,
        query: Query,
        tables: Tables,
        shards: usize,
        options: &Options,
    ) -> Result<(Run<'a>, Outputs, Option<Restored>)> {
        let (query, attempt) = (Arc::new(query), attempt());
        let mut outputs = outputs::outputs(job, &query, &attempt)?;
        let journal = match &job.checkpoint {
            None if options.from_checkpoint.is_some() => {
                return Err(Error::BadJob {
                    rendered: "--from-checkpoint needs a [checkpoint] path of the job's own".into(),
                });
            }
            None => {
                eprintln!("pelton: no [checkpoint] path: after a crash this job begins anew");
                None
            }
            Some(checkpoint) => {
                let storage = states::open(&checkpoint.place)?;
                if let Some((from, epoch)) = &options.from_checkpoint {
                    let epoch = bring(&*states::existing(from)?, *epoch, &*storage)?;
                    eprintln!("pelton: beginning with epoch {epoch} of {from}");
                }
                let terms = Terms {
                    marker: outputs.marker()?,
                    accept_change: options.accept_state_change,
                    compression: checkpoint.compression,
                };
                let attempt = attempt.clone();
                Some(Journal::open_with(storage, &job.name, &query, attempt, &terms)?)
            }
        };
        let read = query.scans.iter().map(|scan| &job.sources[scan.source]);
        let ratios: Vec<_> = read.map(|source| source.max_error_ratio).collect();
        let policy = (job.sources[0].on_error, &ratios[..]);
        let rooms = Rooms::of(job);
        let (epochs, restored) = Epochs::open_in(
            Arc::clone(&query),
            shards,
            journal,
            policy,
            (Some(&rooms.state), &Threads),
        )?;
        if let Some(restored) = &restored {
            for reason in &restored.passed_over {
                eprintln!("pelton: {reason}; trying the checkpoint before it");
            }
            eprintln!("pelton: going on after epoch {}", restored.committed.epoch);
        }
        outputs.open(restored.as_ref())?;
        let ledger = Ledger::new(job.memory_limit.unwrap_or(u64::MAX));
        let run = Run {
            reporter: Reporter::new(job, &query, options.style, &attempt, shards),
            process_memory: ledger.account(Pool::Process),
            state_memory: ledger.account(Pool::State),
            spare_memory: ledger.account(Pool::Spare),
            began: Instant::now(),
            epoch_bytes: 0,
            absorbed: false,
            rooms,
            job,
            query,
            tables,
            epochs,
            ledger,
        };
        Ok((run, outputs, restored))
    }

    fn drive(&mut self, mut sources: Sources, outputs: Outputs) -> Result<()> {
        let journal = self.epochs.take_journal();
        let (query, base) = (Arc::clone(&self.query), self.rooms.base.clone());
        let wake = sources.waker();
        let mut committer = Committer::start(outputs, journal, query, &self.ledger, base, wake)?;
        let mut clockwork = Clockwork::new(self.job.query.trigger, self.job.epoch.interval);
        let mut look_at = None;
        loop {
            let now = Instant::now();
            let soon = now + LOOK_EVERY;
            let until = look_at.map_or(soon, |at: Instant| at.min(soon));
            let status = sources.wait(Some(until));
            while let Some(done) = committer.through()? {
                self.committed(&done, &sources)?;
            }
            if let Some(error) = status.failed {
                return Err(error);
            }
            if interrupt::asked() {
                self.last_epoch(&mut sources, &mut committer)?;
                break;
            }
            let progress = self.progress(&status, &committer);
            match clockwork.decide(self.began.elapsed(), progress) {
                Decision::Wait(at) => {
                    look_at = at.map(|at| self.began + at);
                    self.reporter.tick(&status);
                }
                Decision::Absorb => self.absorb(&mut sources, &mut committer)?,
                // It may have been the last: every row was in it when it was cut.
                Decision::Cut if self.epoch(&mut sources, &mut committer)? => break,
                Decision::Cut => {}
                Decision::Finish => {
                    self.finish(&mut sources, &mut committer)?;
                    break;
                }
            }
        }
        while let Some(done) = committer.wait()? {
            self.committed(&done, &sources)?;
        }
        sources.stop();
        Ok(())
    }

    fn progress(&self, status: &Status, committer: &Committer) -> Progress {
        Progress {
            first_row_at: status.first_row_at.map(|at| at.saturating_duration_since(self.began)),
            caught_up: status.caught_up,
            ended: status.ended,
            full: status.full,
            crowded: status.crowded,
            due: self.epochs.is_due() || status.is_clock_due && self.epochs.closes_by_time(),
            committing: committer.is_busy(),
        }
    }

    /// The end of what this run reads. A bounded input ends every window; else what the watermark has
    /// passed leaves in an epoch without rows, where the trigger is to see everything through.
    fn finish(&mut self, sources: &mut Sources, committer: &mut Committer) -> Result<()> {
        let rests = matches!(self.job.query.trigger, Trigger::AvailableNow | Trigger::Once);
        if rests {
            self.last_epoch(sources, committer)?
        } else {
            self.epoch(sources, committer)?;
        }
        if self.job.query.trigger == Trigger::AvailableNow && self.epochs.is_due() {
            self.epoch(sources, committer)?;
        }
        Ok(())
    }

    /// Takes over what the cores hold of the running epoch, which goes on.
    fn absorb(&mut self, sources: &mut Sources, committer: &mut Committer) -> Result<()> {
        let (input, _) = self.barrier(sources, false)?;
        self.absorbed = true;
        let rows = self.epochs.absorb(input, &Threads)?;
        if let Some(changes) = self.epochs.take_changes(self.rooms.delta) {
            committer.changes(self.epochs.next(), changes)?;
        }
        let letters = self.epochs.take_dead_letters();
        if rows.num_rows() > 0 || !letters.is_empty() {
            committer.part(self.epochs.next(), rows, letters)?;
        }
        self.charge();
        Ok(())
    }

    /// What the epoch took in, and whether that was anything: rows, or a file without any.
    fn barrier(&mut self, sources: &mut Sources, ends_epoch: bool) -> Result<(EpochInput, bool)> {
        // The next rows are late by what this epoch emits by.
        let late_by = self.epochs.late_by().and(self.epochs.emission_watermark());
        let taken = sources.barrier(if ends_epoch { late_by } else { self.epochs.late_by() })?;
        self.epoch_bytes += taken.bytes;
        let mut input = taken.input;
        if matches!(self.job.query.trigger, Trigger::AvailableNow | Trigger::Once) {
            // More may come for the next run.
            input.scans.iter_mut().for_each(|scan| scan.ended = false);
        }
        Ok((input, taken.has_input))
    }

    /// Cuts the running epoch and sends it to its commit. True where that was the input's end, which
    /// comes once: every group leaves then.
    fn epoch(&mut self, sources: &mut Sources, committer: &mut Committer) -> Result<bool> {
        let mut times = Times::begin();
        // Each core takes the tables at its barrier, so one epoch meets one content of them.
        if self.tables.refresh(self.job)? {
            self.query.load(self.tables.rows())?;
        }
        let (input, _) = self.barrier(sources, true)?;
        times.mark("barrier");
        failpoint::reach("barrier");
        let ended = input.has_ended();
        self.send(input, times, committer)?;
        Ok(ended)
    }

    /// The epoch that an interrupt asks for, or the end of what is there; none where nothing came
    /// since the last.
    fn last_epoch(&mut self, sources: &mut Sources, committer: &mut Committer) -> Result<()> {
        let mut times = Times::begin();
        let (input, has_input) = self.barrier(sources, true)?;
        times.mark("barrier");
        if has_input || self.absorbed { self.send(input, times, committer) } else { Ok(()) }
    }

    fn send(&mut self, input: EpochInput, mut times: Times, to: &mut Committer) -> Result<()> {
        let epoch = self.epochs.next();
        let mut hand_over = |rows| to.part(epoch, rows, Vec::new());
        let finished = self.epochs.finish_in_parts(input, &Threads, &mut hand_over)?;
        let finished = Box::new(finished);
        times.mark("addBatch");
        self.absorbed = false;
        let bytes = std::mem::take(&mut self.epoch_bytes);
        self.charge();
        to.commit(Epoch { finished, bytes, times })
    }

    /// An epoch is committed and visible.
    fn committed(&mut self, done: &Done, sources: &Sources) -> Result<()> {
        let Epoch { finished, bytes, times } = &done.epoch;
        sources.committed(&finished.source);
        if let Some(oldest) = &done.oldest {
            sources.forget_before(oldest)?;
        }
        self.charge();
        self.reporter.epoch(finished, *bytes, times, &self.ledger);
        Ok(())
    }

    /// Says in the ledger what is held between two steps.
    fn charge(&mut self) {
        self.state_memory.set(self.epochs.bytes_held());
        self.spare_memory.set(0);
        let (held, limit) = (self.ledger.held(), self.ledger.limit());
        let mut spare = memory::spare_bytes() as u64;
        if held + spare > limit / 4 * 3 && spare > limit / 16 {
            // What is kept for the next epoch is worth less than the room.
            memory::give_back();
            // The allocator goes on counting it; the system does not.
            let counted = resident::anonymous_bytes().unwrap_or(u64::MAX);
            spare = spare.min(counted.saturating_sub(held));
        }
        self.spare_memory.set(spare as usize);
    }
}

/// Side by side on threads of this process; the shards are few and large.
pub struct Threads;

impl Workers for Threads {
    fn run(&self, tasks: Vec<Task<'_>>) {
        std::thread::scope(|scope| {
            let mut tasks = tasks.into_iter();
            let first = tasks.next();
            for task in tasks {
                scope.spawn(task);
            }
            if let Some(first) = first {
                first();
            }
        });
    }
}

/// Tells the files of this run from those of any other.
fn attempt() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_nanos(), std::process::id())
}
