//! A shard: the groups that memory holds, and partitions of them that lie on a disk.
//!
//! Invariant: a group's state is the merge of its parts, in memory and in every run of its
//! partition, whatever was spilled when. The merge is commutative, so rows of a spilled group go on
//! in memory as a part of their own; the parts meet when the group leaves, a partition at a time.
//! What a step left as it was is not written again. Without a [`Spill`] everything stays in memory. A
//! partition is one of 256, by the hash of its keys. Sessions and deduplication do not spill: a row
//! has to meet what its group holds at once. A partition alone must fit the share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use arrow::array::{ArrayRef, RecordBatch};

use super::partition::{PARTITIONS, partitions};
use super::spill::{Run, Spill};
use super::{StateSpec, StateStore};
use crate::error::{Error, Result, is_full};

/// Fewer groups than this are not worth a file for each partition.
const GROUPS_MIN: usize = if cfg!(test) { 16 } else { 4 * PARTITIONS };
/// A partition with this many runs becomes one when it is read anyway.
const RUNS_MAX: usize = 8;
/// More than a group of numbers costs: memory is made ready for no more groups than its share holds.
const GROUP_BYTES: u64 = 256;

pub struct Shard {
    hot: StateStore,
    spec: StateSpec,
    cold: BTreeMap<usize, Cold>,
    /// Groups that close up to here were evicted; runs may still hold them.
    settled: Option<i64>,
    spill: Option<Spill>,
}

/// A partition with runs.
#[derive(Default)]
struct Cold {
    runs: Vec<Run>,
    /// When the first of its groups closes; `None`: none does.
    first_end: Option<i64>,
}

/// Which partitions have to be whole for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub all: bool,
    /// Those with groups that the epoch touched.
    pub touched: bool,
    /// Those with groups that close up to here.
    pub closing: Option<i64>,
}

/// Groups of a store by their partition; those that the epoch touched apart.
struct Split {
    wanted: BTreeMap<usize, [Vec<u32>; 2]>,
    rest: [Vec<u32>; 2],
}

impl Shard {
    pub fn new(spec: StateSpec, spill: Option<Spill>) -> Shard {
        let may_spill = spec.session.is_none() && !spec.moving && !spec.keys.is_empty();
        let (hot, cold) = (StateStore::new(&spec), BTreeMap::new());
        Shard { hot, spec, cold, settled: None, spill: spill.filter(|_| may_spill) }
    }

    /// The table of a state that does not spill. Panics where it did.
    pub fn whole(&mut self) -> &mut StateStore {
        assert!(self.cold.is_empty(), "a state that is asked for whole lies in memory");
        &mut self.hot
    }

    /// The table of a state that may not spill, to be looked at.
    #[cfg(test)]
    pub fn in_memory(&self) -> &StateStore {
        assert!(self.cold.is_empty(), "a state that is asked for whole lies in memory");
        &self.hot
    }

    pub fn merge(&mut self, partial: &RecordBatch) -> Result<()> {
        self.hot.merge(partial)?;
        self.relieve()
    }

    /// Makes room for so many groups, as far as they may stay in memory.
    pub fn reserve(&mut self, groups: u64) {
        let most = self.spill.as_ref().map_or(u64::MAX, |spill| spill.bytes / GROUP_BYTES);
        self.hot.reserve(groups.min(most) as usize);
    }

    /// As of [`StateStore::merge_file`].
    pub fn merge_file(&mut self, partial: &RecordBatch, names: &[String]) -> Result<()> {
        self.hot.merge_file(partial, names)
    }

    pub fn ensure_global_group(&mut self) {
        self.hot.ensure_global_group();
    }

    /// Ends an epoch that emits nothing: recovery, compaction.
    pub fn settle(&mut self, watermark: Option<i64>) -> Result<()> {
        self.hot.settle(watermark)?;
        self.settled = self.settled.max(watermark);
        self.untouch_runs();
        self.relieve()
    }

    pub fn clear(&mut self) {
        while let Some(partition) = self.cold.first_key_value().map(|(&partition, _)| partition) {
            self.forget(partition);
        }
        self.hot.clear();
        self.settled = None;
    }

    /// Groups; one that lies in several parts counts once for each.
    pub fn len(&self) -> usize {
        let cold = self.cold.values().flat_map(|cold| &cold.runs);
        self.hot.len() + cold.map(|run| run.rows).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes_held(&self) -> usize {
        self.hot.bytes_held()
    }

    /// Runs `step` on every part of the state that it needs whole, one after the other, and on the
    /// rest in memory.
    pub fn each<T>(
        &mut self,
        need: Need,
        mut step: impl FnMut(&mut StateStore, Part) -> Result<T>,
    ) -> Result<Vec<T>> {
        let due = self.due(need);
        let settled = self.settled.max(need.closing);
        let mut done = Vec::with_capacity(due.len() + 1);
        let mut back = Vec::new();
        if !due.is_empty() {
            let mut split = self.split(|partition| due.contains(&partition));
            for partition in due {
                let groups = split.wanted.remove(&partition).unwrap_or_default();
                let mut whole = self.load(partition, &groups)?;
                done.push(step(&mut whole, Part::Cold)?);
                let cold = self.cold.get(&partition).expect("what is due is cold");
                let evicts = cold.first_end.is_some_and(|end| settled >= Some(end));
                if evicts || whole.is_empty() || cold.runs.len() >= RUNS_MAX {
                    back.extend(self.replace(partition, &whole)?);
                } else {
                    // What lies on the disk still holds, and so does what memory held of it.
                    back.push(self.hot.partial_of(&groups.concat()));
                }
            }
            self.keep(split.rest)?;
        }
        done.push(step(&mut self.hot, Part::Hot)?);
        // Not before: they went through the step already.
        back.iter().try_for_each(|partial| self.hot.merge(partial))?;
        self.hot.settle(None)?;
        self.untouch_runs();
        self.settled = settled;
        self.relieve()?;
        Ok(done)
    }

    /// All groups are in memory, which has room for as many again.
    pub fn is_at_ease(&self) -> bool {
        let fits = |spill: &Spill| self.hot.bytes_held() as u64 <= spill.bytes / 2;
        self.cold.is_empty() && self.spill.as_ref().is_none_or(fits)
    }

    /// The whole state as partials; it stays as it is.
    pub fn partials(&self) -> Result<Vec<RecordBatch>> {
        if self.cold.is_empty() {
            return Ok(vec![self.hot.partial()]);
        }
        let mut split = self.split(|partition| self.cold.contains_key(&partition));
        let whole = |&partition: &usize| {
            let groups = split.wanted.remove(&partition).unwrap_or_default();
            Ok(self.load(partition, &groups)?.partial())
        };
        let mut partials = self.cold.keys().map(whole).collect::<Result<Vec<_>>>()?;
        partials.push(self.hot.partial_of(&split.rest.concat()));
        Ok(partials)
    }

    /// The whole state as partials, a spilled partition each, then the rest.
    pub fn into_partials(mut self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        if self.cold.is_empty() {
            return take(self.hot.partial());
        }
        let mut split = self.split(|partition| self.cold.contains_key(&partition));
        while let Some(partition) = self.cold.first_key_value().map(|(&partition, _)| partition) {
            let groups = split.wanted.remove(&partition).unwrap_or_default();
            let whole = self.load(partition, &groups)?;
            self.forget(partition);
            if !whole.is_empty() {
                take(whole.partial())?;
            }
        }
        match split.rest.concat() {
            rest if rest.is_empty() => Ok(()),
            rest => take(self.hot.partial_of(&rest)),
        }
    }

    fn untouch_runs(&mut self) {
        for run in self.cold.values_mut().flat_map(|cold| &mut cold.runs) {
            run.touched = false;
        }
    }

    fn due(&self, need: Need) -> BTreeSet<usize> {
        let touched: BTreeSet<usize> = match need.touched && !need.all && !self.cold.is_empty() {
            true => {
                let touched = self.hot.touched();
                partitions(&self.hot.keys(touched), touched.len()).into_iter().collect()
            }
            false => BTreeSet::new(),
        };
        let is_due = |(partition, cold): &(&usize, &Cold)| {
            let closes = cold.first_end.is_some_and(|end| need.closing >= Some(end));
            let is_touched = need.touched
                && (touched.contains(partition) || cold.runs.iter().any(|run| run.touched));
            need.all || closes || is_touched
        };
        self.cold.iter().filter(is_due).map(|(&partition, _)| partition).collect()
    }

    fn split(&self, wanted: impl Fn(usize) -> bool) -> Split {
        let groups = self.hot.all();
        let of = partitions(&self.hot.keys(&groups), groups.len());
        let mut split = Split { wanted: BTreeMap::new(), rest: Default::default() };
        for (group, partition) in groups.into_iter().zip(of) {
            let lists = match wanted(partition) {
                true => split.wanted.entry(partition).or_default(),
                false => &mut split.rest,
            };
            lists[usize::from(self.hot.is_touched(group))].push(group);
        }
        split
    }

    /// A partition as a table of its own: its runs, and these groups in memory.
    fn load(&self, partition: usize, [untouched, touched]: &[Vec<u32>; 2]) -> Result<StateStore> {
        let mut whole = StateStore::new(&self.spec);
        let cold = self.cold.get(&partition);
        let names = whole.column_names();
        for (groups, is_touched) in [(untouched, false), (touched, true)] {
            let runs = cold.iter().flat_map(|cold| &cold.runs);
            for run in runs.filter(|run| run.touched == is_touched) {
                let spill = self.spill.as_ref().expect("who has runs has room");
                for partial in spill.read(run)? {
                    whole.merge_file(&partial, &names)?;
                }
            }
            whole.merge(&self.hot.partial_of(groups))?;
            if !is_touched {
                whole.settle(self.settled)?;
            }
        }
        Ok(whole)
    }

    /// What a step left of a partition takes the place of its runs, or comes back where the disk is
    /// full.
    fn replace(&mut self, partition: usize, whole: &StateStore) -> Result<Option<RecordBatch>> {
        // First: a full disk has room for it then.
        self.forget(partition);
        if whole.is_empty() {
            return Ok(None);
        }
        let partial = whole.partial();
        let spill = self.spill.as_mut().expect("who has runs has room");
        match spill.write(&partial, false) {
            Ok(run) => {
                let cold = Cold { runs: vec![run], first_end: whole.first_end() };
                self.cold.insert(partition, cold);
                Ok(None)
            }
            Err(error) if is_full(&error) => Ok(Some(partial)),
            Err(error) => Err(cannot_spill(error)),
        }
    }

    /// Removes the runs of a partition.
    fn forget(&mut self, partition: usize) {
        if let (Some(cold), Some(spill)) = (self.cold.remove(&partition), &self.spill) {
            cold.runs.iter().for_each(|run| spill.remove(run));
        }
    }

    /// Keeps these groups in memory and no others: in a table of their size.
    fn keep(&mut self, [untouched, touched]: [Vec<u32>; 2]) -> Result<()> {
        let mut fresh = StateStore::new(&self.spec);
        fresh.merge(&self.hot.partial_of(&untouched))?;
        fresh.settle(None)?;
        fresh.merge(&self.hot.partial_of(&touched))?;
        self.hot = fresh;
        Ok(())
    }

    /// Moves what memory holds to the disk where it is more than the share. A full disk is an error
    /// only when memory holds twice that: until then the groups stay, and it is tried again after the
    /// next partial. An epoch cannot be committed to a full disk either, and waits for room there.
    fn relieve(&mut self) -> Result<()> {
        let over = |spill: &&mut Spill| self.hot.bytes_held() as u64 > spill.bytes;
        if self.hot.len() < GROUPS_MIN || self.spill.as_mut().filter(over).is_none() {
            return Ok(());
        }
        let mut split = self.split(|_| true);
        while let Some((partition, lists)) = split.wanted.pop_first() {
            if let Err(error) = self.spill_partition(partition, &lists) {
                for (list, stays) in lists.into_iter().zip(&mut split.rest) {
                    stays.extend(list);
                }
                let spill = self.spill.as_ref().expect("asked for above");
                if !is_full(&error) || self.hot.bytes_held() as u64 > spill.most {
                    return Err(cannot_spill(error));
                }
                break;
            }
        }
        for lists in std::mem::take(&mut split.wanted).into_values() {
            for (list, stays) in lists.into_iter().zip(&mut split.rest) {
                stays.extend(list);
            }
        }
        self.keep(split.rest)
    }

    fn spill_partition(&mut self, partition: usize, lists: &[Vec<u32>; 2]) -> io::Result<()> {
        let spill = self.spill.as_mut().expect("asked for by the caller");
        let mut runs = Vec::new();
        let mut first_end = None;
        for (list, touched) in lists.iter().zip([false, true]) {
            if list.is_empty() {
                continue;
            }
            let partial = self.hot.partial_of(list);
            match spill.write(&partial, touched) {
                Ok(run) => runs.push(run),
                Err(error) => {
                    runs.iter().for_each(|run| spill.remove(run));
                    return Err(error);
                }
            }
            let ends = self.spec.closing.ends(partial.columns()).unwrap_or_default();
            first_end = earliest(first_end, ends.into_iter().flatten().min());
        }
        let cold = self.cold.entry(partition).or_default();
        cold.runs.extend(runs);
        cold.first_end = earliest(cold.first_end, first_end);
        Ok(())
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Which part of a shard a step sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A partition that was read back; more follow.
    Cold,
    /// What memory holds.
    Hot,
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

fn cannot_spill(source: io::Error) -> Error {
    Error::StateIo { what: "cannot spill state that is beyond the memory limit".into(), source }
}

/// The bytes of columns that leave.
pub fn bytes_of(columns: &[ArrayRef]) -> u64 {
    columns.iter().map(|column| column.get_array_memory_size() as u64).sum()
}
