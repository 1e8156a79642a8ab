//! When each group closes: the groups by their ends.
//!
//! Invariant: what closes is found at a cost proportional to what closes, however many groups are
//! open. A group whose end moves (a session grows, a duplicate is forgotten later) leaves its old
//! entry behind, which goes when the watermark passes it; only its newest entry counts.

use std::collections::BTreeMap;

pub(super) struct Agenda {
    by_end: BTreeMap<i64, Vec<u32>>,
    marks: Marks,
}

/// By group.
enum Marks {
    /// It stands in the agenda: its end never changes.
    Filed(Vec<bool>),
    /// The end of the entry that counts.
    Ends(Vec<Option<i64>>),
}

impl Agenda {
    /// `moving`: the end of a group may change.
    pub fn new(moving: bool) -> Agenda {
        let marks = if moving { Marks::Ends(Vec::new()) } else { Marks::Filed(Vec::new()) };
        Agenda { by_end: BTreeMap::new(), marks }
    }

    /// Makes room for groups below `groups`.
    pub fn grow(&mut self, groups: usize) {
        match &mut self.marks {
            Marks::Filed(filed) => filed.resize(groups, false),
            Marks::Ends(ends) => ends.resize(groups, None),
        }
    }

    /// When the first closes; it may have been moved to a later end since.
    pub fn first(&self) -> Option<i64> {
        self.by_end.keys().next().copied()
    }

    /// Enters groups; one that never closes has no end.
    pub fn file(&mut self, groups: &[u32], ends: &[Option<i64>]) {
        // Rows of one window stand together, so the list of the last end serves the next row.
        let mut at: Option<(i64, Vec<u32>)> = None;
        for (&group, end) in groups.iter().zip(ends) {
            let Some(end) = *end else { continue };
            let known = match &mut self.marks {
                Marks::Filed(filed) => std::mem::replace(&mut filed[group as usize], true),
                Marks::Ends(ends) => ends[group as usize].replace(end) == Some(end),
            };
            if known {
                continue;
            }
            if at.as_ref().is_none_or(|(last, _)| *last != end) {
                let list = self.by_end.remove(&end).unwrap_or_default();
                if let Some((last, list)) = at.replace((end, list)) {
                    self.by_end.insert(last, list);
                }
            }
            if let Some((_, list)) = &mut at {
                list.push(group);
            }
        }
        if let Some((last, list)) = at {
            self.by_end.insert(last, list);
        }
    }

    /// When the group closes, as filed last; of groups whose end may change.
    pub fn end(&self, group: u32) -> Option<i64> {
        match &self.marks {
            Marks::Ends(ends) => ends.get(group as usize).copied().flatten(),
            Marks::Filed(_) => None,
        }
    }

    /// Groups that close at `watermark`, each once.
    pub fn closed(&self, watermark: i64) -> Vec<u32> {
        let lists = self.by_end.range(..=watermark);
        let Marks::Ends(ends) = &self.marks else {
            return lists.flat_map(|(_, groups)| groups.iter().copied()).collect();
        };
        let counts = |end: i64, group: &u32| ends[*group as usize] == Some(end);
        let mut closed: Vec<u32> = lists
            .flat_map(|(&end, groups)| groups.iter().copied().filter(move |g| counts(end, g)))
            .collect();
        closed.sort_unstable();
        closed.dedup();
        closed
    }

    /// As [`Agenda::closed`]; they stand in it no more.
    pub fn take_closed(&mut self, watermark: i64) -> Vec<u32> {
        let closed = self.closed(watermark);
        self.forget(&closed);
        self.by_end = match watermark.checked_add(1) {
            Some(next) => self.by_end.split_off(&next),
            None => BTreeMap::new(),
        };
        closed
    }

    /// The groups are gone; their numbers may be given to others.
    pub fn forget(&mut self, groups: &[u32]) {
        for &group in groups {
            match &mut self.marks {
                Marks::Filed(filed) => filed[group as usize] = false,
                Marks::Ends(ends) => ends[group as usize] = None,
            }
        }
    }

    pub fn clear(&mut self) {
        self.by_end.clear();
        match &mut self.marks {
            Marks::Filed(filed) => filed.clear(),
            Marks::Ends(ends) => ends.clear(),
        }
    }

    pub fn bytes_held(&self) -> usize {
        let lists: usize = self.by_end.values().map(|groups| groups.capacity() * 4 + 64).sum();
        lists
            + match &self.marks {
                Marks::Filed(filed) => filed.capacity(),
                Marks::Ends(ends) => ends.capacity() * size_of::<Option<i64>>(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_end_of_a_group_counts() {
        let mut agenda = Agenda::new(true);
        agenda.grow(3);
        agenda.file(&[0, 1, 2], &[Some(10), Some(10), None]);
        agenda.file(&[0], &[Some(20)]);
        assert_eq!(agenda.closed(10), [1]);
        // Group 1 is another group now, with the end that the old one had.
        agenda.forget(&[1]);
        agenda.file(&[1], &[Some(10)]);
        assert_eq!(agenda.take_closed(10), [1]);
        assert_eq!(agenda.take_closed(i64::MAX), [0]);
        assert!(agenda.take_closed(i64::MAX).is_empty());
    }
}
