//! One history: processes that end as they must not, one that comes to its end, and the verdict.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Random;
use super::broker::Broker;
use super::disk::{Act, EIO, Gate};
use super::job::Job;
use super::life::{Life, Machine, said};
use super::verdict::Verdict;
use crate::checkpoint::manifest::{self, Manifest};
use crate::error::Error;
use crate::storage::Storage;
use crate::storage::memory::Crash;

/// The first seed of the wider family; what an earlier seed plays stays as it is.
pub const WIDE: u64 = 1 << 20;

const ENOSPC: i32 = 28;
/// Epochs that no process of a history can need: more are a loop.
const EPOCHS_MAX: usize = 400;

/// What a history had in it, to see that the seeds try what they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub lives: u64,
    pub kills: u64,
    pub power_cuts: u64,
    pub zombies: u64,
    pub rotten: u64,
    pub logs: u64,
    pub epochs: u64,
    pub operations: u64,
}

impl Told {
    pub fn add(&mut self, other: &Told) {
        self.lives += other.lives;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.zombies += other.zombies;
        self.rotten += other.rotten;
        self.logs += other.logs;
        self.epochs += other.epochs;
        self.operations += other.operations;
    }
}

struct History {
    random: Random,
    job: Arc<Job>,
    machine: Machine,
    attempts: usize,
    trouble: u64,
    verdict: Verdict,
    /// A process that began while another stood still.
    newer: Newer,
    has_rivals: bool,
    told: Told,
}

/// The newer process, or why it stopped although nothing had happened to it.
type Newer = Arc<Mutex<Option<Result<Life, String>>>>;

/// Plays the history of a seed. Errors: what went wrong in it.
pub fn play(seed: u64) -> Result<Told, String> {
    let mut random = Random(seed);
    let job = if seed < WIDE { Job::any(&mut random) } else { Job::wide(&mut random) };
    let job = Arc::new(job);
    let broker = random.chance(50).then(Broker::default);
    let machine = Machine { broker, has_files: random.chance(50), ..Machine::default() };
    let mut history = History {
        verdict: Verdict::new(&job, &machine),
        trouble: *random.pick(&[0, 10, 40]),
        job,
        machine,
        random,
        attempts: 0,
        newer: Newer::default(),
        has_rivals: false,
        told: Told::default(),
    };
    history.play().map_err(|what| {
        let Job { kind, rows, has_log, .. } = &*history.job;
        format!("{kind:?}, {} splits, log: {has_log}: {what}", rows.len())
    })?;
    history.told.logs += u64::from(history.job.has_log);
    Ok(history.told)
}

impl History {
    fn play(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.random.below(6) {
            self.rot()?;
            let acts = self.acts();
            let gate = Gate::new(self.attempts + 1, acts);
            let limit =
                if self.random.chance(20) { self.random.below(6) as usize } else { EPOCHS_MAX };
            self.live(gate, limit)?;
            self.verdict.look(false)?;
        }
        self.trouble = 0;
        let gate = Gate::new(self.attempts + 1, BTreeMap::new());
        self.live(gate, EPOCHS_MAX)?;
        self.verdict.look(true)
    }

    /// One process, and the newer one where one began meanwhile, to their ends.
    fn live(&mut self, gate: Gate, limit: usize) -> Result<(), String> {
        self.attempts += 1;
        let random = self.random.fork();
        self.told.lives += 1;
        let began = Life::begin(
            &self.job,
            &self.machine,
            gate.clone(),
            random,
            self.attempts,
            self.trouble,
        );
        match began {
            Ok(life) => self.see_out(life, limit)?,
            Err(error) if gate.may_fail() => drop(error),
            Err(error) => return Err(format!("at its start: {}", said(&error))),
        }
        self.told.operations += gate.operations();
        let newer = self.newer.lock().expect("no holder panics").take();
        let mut died = gate.is_dead();
        match newer {
            None => {}
            Some(Err(why)) => return Err(why),
            Some(Ok(newer)) => {
                self.told.zombies += 1;
                self.has_rivals = true;
                let gate = newer.gate.clone();
                // The machine may go down before it does another thing.
                if !(died && self.random.chance(30)) {
                    self.see_out(newer, limit)?;
                }
                died |= gate.is_dead();
            }
        }
        self.has_rivals = false;
        self.end(died);
        Ok(())
    }

    fn see_out(&mut self, mut life: Life, limit: usize) -> Result<(), String> {
        self.verdict.check_found(&life)?;
        for _ in 0..limit {
            if life.ended {
                break;
            }
            if self.random.chance(30) {
                let skip = self.random.below(40);
                life.gate.order(skip, Act::Meanwhile(Box::new(life.base_maker())));
            }
            let done = life.epoch();
            self.verdict.note()?;
            match done {
                Ok(()) => self.told.epochs += 1,
                Err(error) if life.gate.may_fail() || self.is_lawful(&error) => {
                    drop(error);
                    break;
                }
                Err(error) => return Err(said(&error)),
            }
        }
        self.verdict.note()
    }

    /// Of two processes that each took the other for dead one must stop, and not always the older.
    fn is_lawful(&self, error: &Error) -> bool {
        is_full(error) || self.has_rivals && matches!(error, Error::Unavailable { .. })
    }

    /// What is left when all processes have ended.
    fn end(&mut self, died: bool) {
        if died {
            let left = match self.random.below(5) {
                0 => Crash::Synced,
                1 => Crash::Names,
                2 => Crash::Torn(self.random.below(u64::MAX)),
                _ => Crash::Everything,
            };
            match left {
                Crash::Everything => self.told.kills += 1,
                _ => self.told.power_cuts += 1,
            }
            self.machine.disks().iter().for_each(|disk| disk.crash(left));
        }
        self.machine.disks().iter().for_each(|disk| disk.set_capacity(None));
    }

    /// What happens to the next process, by its operations.
    fn acts(&mut self) -> BTreeMap<u64, Act> {
        let mut acts = BTreeMap::new();
        for _ in 0..self.random.below(3) {
            let at = self.some_operation();
            let act = match self.random.below(6) {
                0 | 1 => Act::Fail(*self.random.pick(&[EIO, EIO, ENOSPC])),
                2 => Act::Slow(Duration::from_secs(30)),
                3 => {
                    let disks = self.machine.disks();
                    let disks = if self.job.has_log { &disks[..] } else { &disks[..3] };
                    let disk = (*self.random.pick(disks)).clone();
                    let room = self.random.below(3_000) as usize;
                    Act::Against(Box::new(move || disk.set_room(room)))
                }
                // Two processes with one log are kept apart by the lock alone.
                _ if self.machine.broker.is_some() && !self.job.has_log => {
                    Act::Against(self.replacement())
                }
                _ => Act::Slow(Duration::from_millis(20)),
            };
            acts.insert(at, act);
        }
        if self.random.chance(75) {
            acts.insert(self.some_operation(), Act::Die);
        }
        acts
    }

    /// Mostly within the first epochs, where the most different things happen.
    fn some_operation(&mut self) -> u64 {
        let most = *self.random.pick(&[12, 60, 250, 700]);
        self.random.below(most)
    }

    /// A newer process begins and commits some epochs.
    fn replacement(&mut self) -> Box<dyn FnOnce() + Send> {
        self.attempts += 1;
        let (job, machine) = (Arc::clone(&self.job), self.machine.clone());
        let (attempt, trouble) = (self.attempts, self.trouble);
        let mut random = self.random.fork();
        let newer = Arc::clone(&self.newer);
        let verdict = self.verdict.clone();
        Box::new(move || {
            let gate = match random.chance(40) {
                true => BTreeMap::from([(random.below(200), Act::Die)]),
                false => BTreeMap::new(),
            };
            let gate = Gate::new(attempt, gate);
            let epochs = random.below(5);
            let life = Life::begin(&job, &machine, gate.clone(), random, attempt, trouble);
            let mut life = match life {
                Ok(life) => life,
                Err(error) if gate.may_fail() || is_lost(&error) => return,
                Err(error) => {
                    let why = format!("a newer process, at its start: {}", said(&error));
                    *newer.lock().expect("no holder panics") = Some(Err(why));
                    return;
                }
            };
            for _ in 0..epochs {
                if life.ended {
                    break;
                }
                let done = life.epoch();
                let noted = verdict.note();
                let end = match done {
                    Ok(()) => noted,
                    Err(error) if gate.may_fail() || is_lost(&error) => return,
                    Err(error) => Err(format!("a newer process: {}", said(&error))),
                };
                if let Err(why) = end {
                    *newer.lock().expect("no holder panics") = Some(Err(why));
                    return;
                }
            }
            *newer.lock().expect("no holder panics") = Some(Ok(life));
        })
    }

    /// Flips one bit of what the newest checkpoint needs: a process must refuse to begin.
    fn rot(&mut self) -> Result<(), String> {
        if !self.random.chance(10) {
            return Ok(());
        }
        let state = &self.machine.state;
        let names = state.list("").unwrap_or_default();
        let Some(newest) = names.iter().filter(|name| manifest::epoch_of(name).is_some()).max()
        else {
            return Ok(());
        };
        let bytes = state.read(newest).map_err(|error| error.to_string())?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|why| format!("{newest}: {why:?}"))?;
        let mut files = vec![newest.clone()];
        files.extend(manifest.files.iter().map(|file| file.name.clone()));
        let file = self.random.pick(&files).clone();
        let length = state.read(&file).map_err(|error| format!("{file}: {error}"))?.len();
        let (byte, bit) = (self.random.below(length as u64) as usize, self.random.below(8) as u8);
        state.flip_bit(&file, byte, bit).map_err(|error| error.to_string())?;
        self.attempts += 1;
        let random = self.random.fork();
        let began =
            Life::begin(&self.job, &self.machine, Gate::default(), random, self.attempts, 0);
        self.told.rotten += 1;
        if let Ok(life) = began {
            // The checkpoint before it may do where nothing of this one is visible.
            let taken = life.found.as_ref().map(|(stand, _)| stand.committed.epoch);
            // Its prepared copy was whole, and was published in its place.
            let names = self.machine.state.list("").unwrap_or_default();
            let is_aside = |name: &String| name.starts_with("damaged-") && name.ends_with(&file);
            let is_replaced = names.iter().any(is_aside);
            if taken == Some(manifest.epoch) && !is_replaced {
                return Err(format!("{file} with a flipped bit in byte {byte} was taken"));
            }
            self.see_out(life, EPOCHS_MAX)?;
            return self.verdict.look(false);
        }
        self.machine.state.flip_bit(&file, byte, bit).map_err(|error| error.to_string())
    }
}

/// Whether a newer process may stop of it: the older one won, or the disk is full for both.
fn is_lost(error: &Error) -> bool {
    is_full(error) || matches!(error, Error::Unavailable { .. })
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::StateIo { source, .. } if source.kind() == ErrorKind::StorageFull)
}
