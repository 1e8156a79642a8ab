//! Which core reads which split: decided once, from the splits and the cores alone.
//!
//! Invariant: every split has a core, and equal input gives equal placement. A stream (partition,
//! socket, stdin, generator) is read in its order by one core; a file is a queue of byte ranges that
//! a set of cores takes from. Streams are spread over physical cores first, then over SMT siblings;
//! files get the cores that no stream has, or all if none is left.

use serde::Serialize;
use std::fmt;

use crate::cpu_list::format_cpu_list;
use crate::topology::Core;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitKind {
    /// Byte ranges, taken by several cores.
    File,
    /// Read in order by one core.
    Stream,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// For each split in order: what it is, and its cores' processor numbers, ascending.
    pub splits: Vec<(SplitKind, Vec<usize>)>,
}

impl Placement {
    /// Panics without cores: no process runs on none.
    pub fn of(splits: &[SplitKind], cores: &[Core]) -> Placement {
        assert!(!cores.is_empty(), "a process runs on at least one core");
        let order: Vec<usize> = spread(cores).iter().map(|core| core.cpu).collect();
        let streams = splits.iter().filter(|&&split| split == SplitKind::Stream).count();
        let mut for_files = match order.get(streams..) {
            None | Some([]) => order.clone(),
            Some(free) => free.to_vec(),
        };
        for_files.sort_unstable();
        let mut next = order.iter().cycle();
        let place = |&split: &SplitKind| match split {
            SplitKind::File => (split, for_files.clone()),
            SplitKind::Stream => (split, next.by_ref().take(1).copied().collect()),
        };
        Placement { splits: splits.iter().map(place).collect() }
    }

    /// The splits that a core reads, by their place in the list.
    pub fn splits_of(&self, cpu: usize) -> impl Iterator<Item = usize> + '_ {
        let splits = self.splits.iter().enumerate();
        splits.filter(move |(_, (_, cpus))| cpus.contains(&cpu)).map(|(split, _)| split)
    }
}

/// One line a split, for `explain`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (split, (kind, cpus)) in self.splits.iter().enumerate() {
            let cores = if cpus.len() == 1 { "core" } else { "cores" };
            let list = format_cpu_list(cpus);
            match kind {
                SplitKind::File => {
                    writeln!(f, "split {split} (byte ranges of files) → {cores} {list}")?
                }
                SplitKind::Stream => writeln!(f, "split {split} (in order) → {cores} {list}")?,
            }
        }
        Ok(())
    }
}

/// The cores in the order in which they are worth using: one of each physical core, by number, then
/// their siblings.
pub fn spread(cores: &[Core]) -> Vec<Core> {
    let mut cores = cores.to_vec();
    cores.sort_by_key(|core| core.cpu);
    cores.dedup_by_key(|core| core.cpu);
    let rank = |core: &Core| {
        cores.iter().filter(|c| c.physical == core.physical && c.cpu < core.cpu).count()
    };
    let mut ranked: Vec<_> = cores.iter().map(|core| (rank(core), core.clone())).collect();
    ranked.sort_by_key(|(rank, core)| (*rank, core.cpu));
    ranked.into_iter().map(|(_, core)| core).collect()
}

#[cfg(test)]
mod tests {
    use super::SplitKind::{File, Stream};
    use super::*;

    /// Cores as (processor, physical core).
    fn cores(pairs: &[(usize, usize)]) -> Vec<Core> {
        pairs.iter().map(|&(cpu, physical)| Core { cpu, physical, node: 0 }).collect()
    }

    fn check(splits: &[SplitKind], pairs: &[(usize, usize)], expected: &str) {
        let placement = Placement::of(splits, &cores(pairs));
        let shown: Vec<_> =
            placement.splits.iter().map(|(_, cpus)| format_cpu_list(cpus)).collect();
        assert_eq!(shown.join(" "), expected, "{splits:?} on {pairs:?}");
        let mut reversed = cores(pairs);
        reversed.reverse();
        assert_eq!(Placement::of(splits, &reversed), placement, "the order of cores is no input");
        for (split, (_, cpus)) in placement.splits.iter().enumerate() {
            assert!(!cpus.is_empty());
            assert!(cpus.iter().all(|&cpu| placement.splits_of(cpu).any(|s| s == split)));
        }
    }

    #[test]
    fn streams_go_to_physical_cores_first_and_files_to_what_is_left() {
        let two = [(0, 0), (1, 1)];
        // Siblings 0 and 2, 1 and 3; then neighbours 0 and 1, as some machines number them.
        let (far, near) = ([(0, 0), (1, 1), (2, 0), (3, 1)], [(0, 0), (1, 0), (2, 2), (3, 2)]);
        check(&[], &two, "");
        check(&[File], &[(5, 5)], "5");
        check(&[File], &two, "0-1");
        check(&[File], &near, "0-3");
        check(&[File, File], &two, "0-1 0-1");
        check(&[Stream], &two, "0");
        check(&[Stream; 3], &two, "0 1 0");
        check(&[Stream; 5], &far, "0 1 2 3 0");
        check(&[Stream; 5], &near, "0 2 1 3 0");
        check(&[Stream, File], &two, "0 1");
        check(&[File, Stream], &near, "1-3 0");
        check(&[Stream, Stream, File], &near, "0 2 1,3");
        check(&[Stream, File, Stream], &two, "0 0-1 1");
        check(&[Stream, Stream, Stream, File], &two, "0 1 0 0-1");
    }

    #[test]
    fn explain_prints_a_line_a_split() {
        let placement = Placement::of(&[Stream, File], &cores(&[(0, 0), (1, 1), (2, 2)]));
        assert_eq!(
            placement.to_string(),
            "split 0 (in order) → core 0\nsplit 1 (byte ranges of files) → cores 1-2\n"
        );
    }
}
