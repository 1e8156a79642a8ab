//! Compares what is committed with what the rows must give.
//!
//! The chain of committed checkpoints is followed backwards from the commit point's newest: the
//! broker's marker where there is one, else the newest published manifest. Each link names its rows,
//! and each output must hold what those rows give, once.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::FileReader;

use super::job::{Job, Kind, Line, Place, lines_of};
use super::life::{Life, Machine, Stand, stand_of};
use super::reader::Stretch;
use crate::batch::Counters;
use crate::checkpoint::manifest::{self, Manifest};
use crate::sink::Committed;
use crate::storage::{MemoryStorage, Storage};

#[derive(Clone)]
pub struct Verdict {
    job: Arc<Job>,
    machine: Machine,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Every checkpoint that was written, by epoch and hash, with its counters.
    stands: BTreeMap<(u64, u128), (Stand, Counters)>,
    stretches: BTreeMap<(Place, Place, bool), Arc<Stretch>>,
}

impl Verdict {
    pub fn new(job: &Arc<Job>, machine: &Machine) -> Verdict {
        Verdict { job: Arc::clone(job), machine: machine.clone(), seen: Arc::default() }
    }

    /// Remembers the checkpoints that lie there, before they are collected.
    pub fn note(&self) -> Result<(), String> {
        let state = &self.machine.state;
        let mut seen = self.seen.lock().expect("no holder panics");
        for name in state.list("").unwrap_or_default() {
            let epoch = manifest::epoch_of(&name).or_else(|| manifest::prepared_epoch_of(&name));
            let Some(epoch) = epoch else { continue };
            let bytes = state.read(&name).map_err(|error| format!("{name}: {error}"))?;
            let committed = Committed { epoch, manifest_hash: manifest::identity(&bytes) };
            let key = (epoch, committed.manifest_hash);
            if seen.stands.contains_key(&key) {
                continue;
            }
            let Ok(manifest) = Manifest::from_bytes(&bytes) else { continue };
            let stand = stand_of(committed, &manifest.source, manifest.ended);
            seen.stands.insert(key, (stand, manifest.counters));
        }
        Ok(())
    }

    /// The state with which a process goes on is that of the rows before.
    pub fn check_found(&self, life: &Life) -> Result<(), String> {
        let Some((stand, found)) = &life.found else { return Ok(()) };
        let expected = self.stretch(stand);
        let found: Vec<&Line> = found.iter().filter(|line| !line.starts_with("0 -")).collect();
        if found.iter().copied().eq(&expected.state) {
            return Ok(());
        }
        let epoch = stand.committed.epoch;
        Err(format!(
            "the state restored after epoch {epoch} is {found:?}, not {:?}",
            expected.state
        ))
    }

    /// `at_end`: nothing may be missing any more.
    pub fn look(&self, at_end: bool) -> Result<(), String> {
        self.note()?;
        let chain = self.chain()?;
        let end = chain.last().map_or((self.job.begin(), false), |s| (s.to.clone(), s.ended));
        if at_end && end != (self.job.end(), true) {
            return Err(format!("it did not come to its end: {end:?} of {:?}", self.job.end()));
        }
        if let Some(broker) = &self.machine.broker {
            let committed = broker.committed();
            if committed.len() != chain.len() {
                let count = committed.len();
                return Err(format!("{count} transactions for {} epochs", chain.len()));
            }
            for (transaction, stand) in committed.iter().zip(&chain) {
                if transaction.marker != stand.committed {
                    let (found, expected) = (&transaction.marker, &stand.committed);
                    return Err(format!("the marker {found:?} in the place of {expected:?}"));
                }
                let expected = &self.stretch(stand).lines;
                same(&transaction.lines, expected, ("the broker", self.in_order()), stand)?;
            }
        }
        if self.machine.has_files || self.machine.broker.is_none() {
            let lines = |batch: &RecordBatch| lines_of(batch);
            let disk = (&self.machine.output, self.in_order());
            self.files(disk, &chain, at_end, lines, |expected| &expected.lines)?;
        }
        let positions = |batch: &RecordBatch| -> Vec<u64> {
            let minor = batch.column(4).as_primitive::<Int64Type>();
            minor.values().iter().map(|&minor| minor as u64).collect()
        };
        let disk = (&self.machine.letters, self.job.is_in_order());
        self.files(disk, &chain, at_end, positions, |expected| &expected.rejected)
    }

    /// Whether the rows of an epoch leave in one order only.
    fn in_order(&self) -> bool {
        self.job.is_in_order() || self.job.kind != Kind::Rows
    }

    /// The committed checkpoints, the first first.
    fn chain(&self) -> Result<Vec<Stand>, String> {
        let newest = match &self.machine.broker {
            Some(broker) => broker.committed().last().map(|last| last.marker.clone()),
            None => self.newest_manifest()?,
        };
        let seen = self.seen.lock().expect("no holder panics");
        let (mut chain, mut next) = (Vec::new(), newest);
        while let Some(committed) = next {
            let key = (committed.epoch, committed.manifest_hash);
            let Some((stand, counters)) = seen.stands.get(&key) else {
                return Err(format!("{committed:?} is committed, and nobody wrote it"));
            };
            chain.push((stand.clone(), *counters));
            next = stand.after.clone();
        }
        drop(seen);
        chain.reverse();
        let mut before: Option<&Stand> = None;
        for (stand, counters) in &chain {
            let follows = match before {
                None => (0, self.job.begin()),
                Some(before) => (before.committed.epoch + 1, before.to.clone()),
            };
            if (stand.committed.epoch, &stand.from) != (follows.0, &follows.1) {
                return Err(format!("{stand:?} does not follow {before:?}"));
            }
            let expected = self.stretch(stand).counters;
            if *counters != expected {
                return Err(format!("{stand:?} counts {counters:?}, not {expected:?}"));
            }
            before = Some(stand);
        }
        Ok(chain.into_iter().map(|(stand, _)| stand).collect())
    }

    fn newest_manifest(&self) -> Result<Option<Committed>, String> {
        let state = &self.machine.state;
        let names = state.list("").unwrap_or_default();
        let newest = names.iter().filter(|name| manifest::epoch_of(name).is_some()).max();
        let Some(name) = newest else { return Ok(None) };
        let bytes = state.read(name).map_err(|error| format!("{name}: {error}"))?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|why| format!("{name}: {why:?}"))?;
        Ok(Some(Committed { epoch: manifest.epoch, manifest_hash: manifest::identity(&bytes) }))
    }

    /// A directory has, for each epoch with rows, one file with exactly those.
    fn files<T: Ord + Clone + std::fmt::Debug>(
        &self,
        (storage, in_order): (&MemoryStorage, bool),
        chain: &[Stand],
        at_end: bool,
        read: impl Fn(&RecordBatch) -> Vec<T>,
        expected: impl Fn(&Stretch) -> &Vec<T>,
    ) -> Result<(), String> {
        let mut names = storage.list("").unwrap_or_default();
        for (i, stand) in chain.iter().enumerate() {
            let stretch = self.stretch(stand);
            let expected = expected(&stretch);
            let name = format!("epoch-{:06}-0.arrow", stand.committed.epoch);
            let Some(at) = names.iter().position(|there| *there == name) else {
                let may_be_missing = !at_end && i + 1 == chain.len();
                if expected.is_empty() || may_be_missing {
                    continue;
                }
                return Err(format!("{name} is missing; it holds {expected:?}"));
            };
            names.remove(at);
            let bytes = storage.read(&name).map_err(|error| error.to_string())?;
            let reader = FileReader::try_new(Cursor::new(bytes), None);
            let mut found = Vec::new();
            for batch in reader.map_err(|error| format!("{name}: {error}"))? {
                found.extend(read(&batch.map_err(|error| format!("{name}: {error}"))?));
            }
            same(&found, expected, (&name, in_order), stand)?;
        }
        match names.is_empty() {
            true => Ok(()),
            false => Err(format!("{names:?} belong to no committed epoch")),
        }
    }

    fn stretch(&self, stand: &Stand) -> Arc<Stretch> {
        let mut seen = self.seen.lock().expect("no holder panics");
        let key = (stand.from.clone(), stand.to.clone(), stand.ended);
        let stretch = seen.stretches.entry(key);
        let compute = || Arc::new(self.job.stretch(&stand.from, &stand.to, stand.ended));
        Arc::clone(stretch.or_insert_with(compute))
    }
}

fn same<T: Ord + Clone + std::fmt::Debug>(
    found: &[T],
    expected: &[T],
    (place, in_order): (&str, bool),
    stand: &Stand,
) -> Result<(), String> {
    let sorted = |rows: &[T]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    if found == expected || !in_order && sorted(found) == sorted(expected) {
        return Ok(());
    }
    Err(format!("{place} holds {found:?}, not {expected:?}, for {stand:?}"))
}
