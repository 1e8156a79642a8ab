//! One process from its start to its end, in the steps of the real one (`src/run.rs`).

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::Random;
use super::broker::{Broker, TransactionalSink};
use super::disk::{Disk, Gate};
use super::feed::feed;
use super::inlet::Inlet;
use super::job::{Job, Line, Place, lines_of};
use super::reader::{number_of, together};
use crate::checkpoint::{Compacted, Compaction, Journal, Terms};
use crate::epoch::{EpochInput, Epochs, OneByOne, ScanInput};
use crate::error::{Error, Result};
use crate::job::spec::{FileFormat, OnError, SinkOf, Trigger};
use crate::outputs::{Output, Outputs, Patience, patiently};
use crate::pipeline::{CoreEpoch, EventClock, Pipeline};
use crate::sink::Committed;
use crate::sink::file::FileSink;
use crate::storage::{MemoryStorage, Storage};
use crate::trigger::{Clockwork, Decision, Progress};

/// Deltas above a base, so few that a short history has bases.
const DELTAS_MAX: usize = 3;
/// Waits after which a full disk has room again.
const WAITS_FOR_ROOM: u32 = 2;
/// Waits after which a process gives up: the broker of a history is not away for so long.
const WAITS_MAX: u32 = 60;

/// What outlives a process.
#[derive(Clone, Default)]
pub struct Machine {
    pub state: MemoryStorage,
    pub output: MemoryStorage,
    pub letters: MemoryStorage,
    /// Of the write-ahead log, where the job has one.
    pub log: MemoryStorage,
    /// Rows that the log said to have.
    pub received: Arc<AtomicUsize>,
    /// Where the job's commit point is a transaction.
    pub broker: Option<Broker>,
    /// A file sink beside the broker.
    pub has_files: bool,
}

impl Machine {
    /// The last one is the log's.
    pub fn disks(&self) -> [&MemoryStorage; 4] {
        [&self.state, &self.output, &self.letters, &self.log]
    }
}

/// A checkpoint as the job itself describes it in its offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    pub committed: Committed,
    pub from: Place,
    pub to: Place,
    /// Greatest event time of each split.
    pub clocks: Vec<Option<i64>>,
    /// Where the log stood.
    pub log: u64,
    pub ended: bool,
    /// The checkpoint that it follows.
    pub after: Option<Committed>,
}

/// A base that is being made beside the epochs.
type Making = Arc<Mutex<(Option<Compaction>, Option<Result<Compacted>>)>>;

pub struct Life {
    job: Arc<Job>,
    machine: Machine,
    pub gate: Gate,
    random: Random,
    epochs: Epochs,
    outputs: Outputs,
    pipelines: Vec<Pipeline>,
    making: Making,
    clockwork: Clockwork,
    once: bool,
    now: Duration,
    /// Rows that were read, and those among them that belong to epochs before.
    read: Place,
    from: Place,
    clocks: Vec<Option<i64>>,
    inlet: Option<Inlet>,
    first_row_at: Option<Duration>,
    segments: u64,
    last: Option<Committed>,
    pub ended: bool,
    /// The state that it found, where it found a checkpoint.
    pub found: Option<(Stand, Vec<Line>)>,
}

impl Life {
    /// `trouble`: percent of the requests to the broker that go wrong.
    pub fn begin(
        job: &Arc<Job>,
        machine: &Machine,
        gate: Gate,
        mut random: Random,
        attempt: usize,
        trouble: u64,
    ) -> Result<Life> {
        let attempt = attempt.to_string();
        let disk = |image: &MemoryStorage| -> Arc<dyn Storage> {
            Arc::new(Disk { image: image.clone(), gate: gate.clone() })
        };
        let file = |image| FileSink::new(disk(image), FileFormat::Arrow, attempt.clone());
        let mut sinks = Vec::new();
        if let Some(broker) = &machine.broker {
            let sink = TransactionalSink::new(broker.clone(), gate.clone(), random.fork(), trouble);
            sinks.push(output("broker", SinkOf::Rows, sink));
        }
        if machine.has_files || machine.broker.is_none() {
            sinks.push(output("out", SinkOf::Rows, file(&machine.output)));
        }
        sinks.push(output("letters", SinkOf::DeadLetters, file(&machine.letters)));
        let mut outputs = Outputs::new(sinks);
        let terms = Terms { marker: outputs.marker()?, ..Terms::default() };
        let state = disk(&machine.state);
        let journal = Journal::open_with(state, "job", &job.query, attempt.clone(), &terms)?;
        let cores = 1 + random.below(3) as usize;
        let (epochs, restored) = Epochs::open(
            Arc::clone(&job.query),
            1 + random.below(3) as usize,
            Some(journal),
            (OnError::DeadLetter, &[]),
        )?;
        outputs.open(restored.as_ref())?;
        let stand =
            restored.map(|restored| stand_of(restored.committed, &restored.source, restored.ended));
        let trigger = match random.below(4) {
            0 => Trigger::Interval(Duration::from_millis(1 + random.below(20))),
            1 => Trigger::Once,
            _ => Trigger::Default,
        };
        let to = stand.as_ref().map_or(job.begin(), |stand| stand.to.clone());
        let mut clocks =
            stand.as_ref().map_or(vec![None; job.rows.len()], |stand| stand.clocks.clone());
        if let [clock] = &mut clocks[..] {
            *clock = epochs.event_time_max();
        }
        let log = stand.as_ref().map_or(0, |stand| stand.log);
        let inlet = job.has_log.then(|| Inlet::open(machine, gate.clone(), log, to[0]));
        let found = match &stand {
            None => None,
            Some(stand) => Some((stand.clone(), lines_of(&epochs.table()?))),
        };
        Ok(Life {
            clocks,
            inlet: inlet.transpose()?,
            pipelines: (0..cores)
                .map(|_| Pipeline::new(Arc::clone(&job.query.scans[0].plan), OnError::DeadLetter))
                .collect(),
            making: Making::default(),
            clockwork: Clockwork::new(trigger, Duration::from_millis(1 + random.below(12))),
            once: trigger == Trigger::Once,
            now: Duration::ZERO,
            read: to.clone(),
            from: to,
            first_row_at: None,
            segments: 0,
            last: stand.as_ref().map(|stand| stand.committed.clone()),
            ended: stand.is_some_and(|stand| stand.ended),
            found,
            job: Arc::clone(job),
            machine: machine.clone(),
            gate,
            random,
            epochs,
            outputs,
        })
    }

    /// Rows come and the trigger decides, until one more epoch is committed.
    pub fn epoch(&mut self) -> Result<()> {
        loop {
            self.now += self.gate.take_slow();
            let ended = self.read == self.job.end();
            let progress = Progress {
                first_row_at: self.first_row_at,
                caught_up: !self.once && self.random.chance(10),
                ended,
                full: self.random.chance(5),
                crowded: self.random.chance(15),
                due: self.random.chance(20),
                committing: false,
            };
            match self.clockwork.decide(self.now, progress) {
                Decision::Wait(_) => self.read_some()?,
                Decision::Absorb => {
                    let input = self.barrier(false);
                    let rows = self.epochs.absorb(input, &OneByOne)?;
                    let letters = self.epochs.take_dead_letters();
                    let epoch = self.epochs.next();
                    if epoch.is_multiple_of(2)
                        && let Some(changes) = self.epochs.take_changes(0)
                    {
                        let patience = Waiting { machine: &self.machine, waits: Cell::new(0) };
                        let journal = self.epochs.journal().expect("it was given one");
                        patiently(&patience, "the checkpoint", || journal.stage(epoch, &changes))?;
                    }
                    self.outputs.stage_part(self.epochs.next(), &rows, &letters)?;
                    self.read_some()?;
                }
                Decision::Cut | Decision::Finish => return self.cut(ended),
            }
        }
    }

    fn read_some(&mut self) -> Result<()> {
        self.now += Duration::from_millis(self.random.below(8));
        let split = match self.read.len() {
            1 => 0,
            splits => self.random.below(splits as u64) as usize,
        };
        let at = self.read[split];
        let left = &self.job.rows[split][at..];
        let mut count = left.len().min(1 + self.random.below(6) as usize);
        if let Some(inlet) = &mut self.inlet {
            count = inlet.take(&self.machine, &mut self.random, (at, at + count))?;
        }
        let rows = &left[..count];
        if rows.is_empty() {
            return Ok(());
        }
        let core = self.random.below(self.pipelines.len() as u64) as usize;
        let pipeline = &mut self.pipelines[core];
        pipeline.open(self.segments, EventClock::known(self.clocks[split]));
        feed(pipeline, rows, split as u32, number_of(split, at));
        let segment = pipeline.close();
        self.clocks[split] = segment.summary.clock.now;
        pipeline.keep(segment, 0)?;
        self.segments += 1;
        self.read[split] += rows.len();
        self.first_row_at.get_or_insert(self.now);
        Ok(())
    }

    fn barrier(&mut self, ended: bool) -> EpochInput {
        let cores: Vec<CoreEpoch> = self.pipelines.iter_mut().map(Pipeline::barrier).collect();
        let after = self.last.as_ref().map(
            |after| json!({"epoch": after.epoch, "hash": format!("{:032x}", after.manifest_hash)}),
        );
        let event_time_max = together(&self.clocks);
        EpochInput {
            scans: vec![ScanInput { cores, event_time_max, ended }],
            source: json!({
                "from": self.from,
                "to": self.read,
                "clocks": self.clocks,
                "log": self.inlet.as_ref().map_or(0, Inlet::position),
                "after": after,
            }),
        }
    }

    fn cut(&mut self, ended: bool) -> Result<()> {
        let input = self.barrier(ended);
        let finished = self.epochs.finish(input, &OneByOne)?;
        self.adopt()?;
        let patience = Waiting { machine: &self.machine, waits: Cell::new(0) };
        let committed = self.outputs.commit(self.epochs.journal(), &finished, &patience, |_| {})?;
        self.last = Some(committed);
        self.from.clone_from(&self.read);
        let journal = self.epochs.journal().expect("it was given one");
        if let (Some(inlet), Some(oldest)) = (&mut self.inlet, journal.oldest_source()) {
            inlet.trim(oldest["log"].as_u64().expect("the simulation wrote it"));
        }
        self.first_row_at = None;
        self.ended = ended;
        self.begin_base();
        Ok(())
    }

    fn begin_base(&mut self) {
        let mut making = self.making.lock().expect("no holder panics");
        if making.0.is_some() || making.1.is_some() {
            return;
        }
        let journal = self.epochs.journal().expect("it was given one");
        making.0 = journal.compaction(&self.job.query, DELTAS_MAX);
        drop(making);
        if self.random.chance(50) {
            self.base_maker()();
        }
    }

    /// Makes the base that waits to be made; it may run at any time, also within another operation.
    pub fn base_maker(&self) -> impl FnOnce() + Send + 'static {
        let making = Arc::clone(&self.making);
        move || {
            let work = making.lock().expect("no holder panics").0.take();
            if let Some(work) = work {
                let made = work.run(None);
                making.lock().expect("no holder panics").1 = Some(made);
            }
        }
    }

    fn adopt(&mut self) -> Result<()> {
        if self.random.chance(50) {
            self.base_maker()();
        }
        let made = self.making.lock().expect("no holder panics").1.take();
        if let Some(made) = made {
            self.epochs.journal().expect("it was given one").adopt(made)?;
        }
        Ok(())
    }
}

pub fn stand_of(committed: Committed, source: &serde_json::Value, ended: bool) -> Stand {
    let place = |name: &str| serde_json::from_value(source[name].clone());
    let ours = "the simulation wrote it";
    let after = source["after"].as_object().map(|after| Committed {
        epoch: after["epoch"].as_u64().expect("a number"),
        manifest_hash: u128::from_str_radix(after["hash"].as_str().expect("a text"), 16)
            .expect("32 hexadecimal digits"),
    });
    Stand {
        committed,
        from: place("from").expect(ours),
        to: place("to").expect(ours),
        clocks: serde_json::from_value(source["clocks"].clone()).expect(ours),
        log: source["log"].as_u64().expect(ours),
        ended,
        after,
    }
}

fn output(name: &str, of: SinkOf, sink: impl crate::sink::Sink + 'static) -> Output {
    Output { name: name.to_owned(), of, sink: Box::new(sink) }
}

/// Somebody makes room while the process waits.
struct Waiting<'a> {
    machine: &'a Machine,
    waits: Cell<u32>,
}

impl Patience for Waiting<'_> {
    fn wait(&self, _what: &str, _error: &Error, _first: bool) -> bool {
        self.waits.set(self.waits.get() + 1);
        if self.waits.get() >= WAITS_FOR_ROOM {
            self.machine.disks().iter().for_each(|disk| disk.set_capacity(None));
        }
        self.waits.get() < WAITS_MAX
    }

    fn over(&self, _what: &str) {}
}

/// What a process says as it ends, for the report of a failing seed.
pub fn said(error: &Error) -> String {
    format!("it stopped (exit code {}): {error}", error.exit_code())
}
