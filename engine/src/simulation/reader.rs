//! What each stretch of a job's rows must give, one row at a time, by SEMANTICS 3, 4, 8 and 9.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{GAP_US, Job, Kind, Line, Place, SLIDE_US, UPPER_US};
use crate::batch::Counters;
use crate::pipeline::tests::{DEVICE, Row, SIZE_US, STATUS, TIME, VALUE};

/// Start, end and device of a window or session; none where the query has no keys.
type Key = Option<(i64, i64, char)>;
type Table = BTreeMap<Key, (i64, f64)>;

/// What a stretch of rows must give after those before it.
#[derive(Debug, Default, PartialEq)]
pub struct Stretch {
    pub lines: Vec<Line>,
    pub counters: Counters,
    /// Rows that were rejected.
    pub rejected: Vec<u64>,
    /// The state that is left, as lines.
    pub state: Vec<Line>,
}

enum Fate {
    Rejected,
    /// The event time it is seen with, if any.
    Filtered(Option<i64>),
    Alive(Option<i64>),
}

/// Watermarks at the end of the epoch before and of this one.
type Marks = (Option<i64>, Option<i64>);

/// What the rows have come to.
#[derive(Default)]
struct Reading {
    table: Table,
    /// Of the rows of the stretch alone.
    batch: Table,
    touched: BTreeSet<Key>,
    rows: Vec<Line>,
    /// By device: the times and values that sessions are made of.
    events: BTreeMap<char, Vec<(i64, f64)>>,
    /// When deduplication forgets a key.
    seen: BTreeMap<(u8, Option<i32>), i64>,
}

/// A row among all rows, for its dead letter.
pub fn number_of(split: usize, at: usize) -> u64 {
    (split * 1_000 + at) as u64
}

impl Job {
    /// The rows from `from` to `to`, after all before them.
    pub fn stretch(&self, from: &Place, to: &Place, ended: bool) -> Stretch {
        let mut found = Stretch::default();
        let mut reading = Reading::default();
        let (mut clocks, mut clocks_before) = (Vec::new(), Vec::new());
        for (split, rows) in self.rows.iter().enumerate() {
            let (mut clock, mut clock_before) = (None, None);
            for (at, row) in rows[..to[split]].iter().enumerate() {
                if at == from[split] {
                    clock_before = clock;
                }
                let counts = at >= from[split];
                let (counters, seen) = self.take(&mut reading, row, clock, counts);
                clock = clock.max(seen);
                if counts {
                    found.counters.add(&counters);
                    found.rejected.extend((counters.rejected > 0).then(|| number_of(split, at)));
                }
            }
            clocks_before.push(if from[split] == to[split] { clock } else { clock_before });
            clocks.push(clock);
        }
        let marks = |clocks: &[Option<i64>]| self.watermark(together(clocks));
        let after = if ended { Some(i64::MAX) } else { marks(&clocks) };
        self.unite(&mut reading);
        found.lines = self.lines(&reading, (marks(&clocks_before), after));
        found.state = self.left(&reading.table, after);
        found
    }

    /// One row: its counters, and the event time it was seen with.
    fn take(
        &self,
        reading: &mut Reading,
        row: &Row,
        clock: Option<i64>,
        counts: bool,
    ) -> (Counters, Option<i64>) {
        let mut counters = Counters { rows_in: 1, ..Counters::default() };
        let time = match self.fate(row) {
            Fate::Rejected => {
                counters.rejected = 1;
                return (counters, None);
            }
            Fate::Filtered(time) => {
                counters.filtered = 1;
                return (counters, time);
            }
            Fate::Alive(time) => time,
        };
        let watermark = self.watermark(clock).filter(|_| self.judges());
        let (open, late): (Vec<Key>, Vec<Key>) =
            self.keys(row).into_iter().partition(|key| !is_closed(key, watermark));
        let own_is_late = || watermark.is_some_and(|w| time.is_some_and(|time| time <= w));
        let is_late = match self.kind {
            Kind::Session | Kind::Dedup | Kind::DedupWindows => own_is_late(),
            _ => open.is_empty(),
        };
        if is_late {
            counters.late = 1;
            return (counters, time);
        }
        if self.kind.deduplicates() && self.was_seen(reading, row, watermark) {
            counters.filtered = 1;
            return (counters, time);
        }
        counters.applied = 1;
        let value = f64::from(row.value) / 8.0;
        let device = char::from(b'a' + row.device);
        if self.kind == Kind::Session {
            let time = time.expect("a row without a time falls into no session");
            reading.events.entry(device).or_default().push((time, value));
            return (counters, Some(time));
        }
        let open = match self.kind {
            // Deduplication judged it; the windows above take what passed.
            Kind::DedupWindows => self.keys(row),
            _ => {
                counters.late_windows = late.len() as u64;
                open
            }
        };
        for key in open {
            for table in [Some(&mut reading.table), counts.then_some(&mut reading.batch)] {
                let Some(table) = table else { continue };
                let group = table.entry(key).or_insert((0, 0.0));
                *group = (group.0 + 1, group.1 + value);
            }
            if counts {
                reading.touched.insert(key);
            }
        }
        if counts {
            reading.rows.push(self.row_line(row));
        }
        (counters, time)
    }

    /// Whether deduplication met the row's key and did not forget it; it has met it now.
    fn was_seen(&self, reading: &mut Reading, row: &Row, watermark: Option<i64>) -> bool {
        let key = (row.device, row.status);
        let forgotten = |end: i64| watermark.is_some_and(|watermark| end <= watermark);
        if reading.seen.get(&key).is_some_and(|&end| !forgotten(end)) {
            return true;
        }
        let end = row.time.expect("rows of these jobs have a time") + self.delay_us;
        reading.seen.insert(key, end);
        false
    }

    /// Sessions of the rows that were taken.
    fn unite(&self, reading: &mut Reading) {
        for (&device, events) in &mut reading.events {
            events.sort_by_key(|(time, _)| *time);
            let mut open: Option<(i64, i64, (i64, f64))> = None;
            for &(time, value) in events.iter() {
                open = Some(match open {
                    // What ends at this very time is touched.
                    Some((start, end, (n, sum))) if time <= end => {
                        (start, time + GAP_US, (n + 1, sum + value))
                    }
                    before => {
                        if let Some((start, end, group)) = before {
                            reading.table.insert(Some((start, end, device)), group);
                        }
                        (time, time + GAP_US, (1, value))
                    }
                });
            }
            if let Some((start, end, group)) = open {
                reading.table.insert(Some((start, end, device)), group);
            }
        }
    }

    fn lines(&self, reading: &Reading, (before, after): Marks) -> Vec<Line> {
        let Reading { table, batch, touched, rows, .. } = reading;
        let closing = |table: &Table| -> Vec<(Key, (i64, f64))> {
            let groups = table.iter().filter(|(key, _)| is_closed(key, after));
            let groups = groups.filter(|(key, _)| !is_closed(key, before));
            groups.map(|(key, group)| (*key, *group)).collect()
        };
        let text = |groups: Vec<(Key, (i64, f64))>| -> Vec<Line> {
            groups.iter().map(|(key, group)| self.group_line(key, group)).collect()
        };
        match self.kind {
            Kind::Append | Kind::AppendBefore(_) | Kind::Sliding | Kind::DedupWindows => {
                text(closing(table))
            }
            Kind::Session => text(closing(table)),
            Kind::AppendLimit(limit) => {
                let gone = table.keys().filter(|key| is_closed(key, before)).count();
                text(closing(table)).into_iter().take(limit.saturating_sub(gone)).collect()
            }
            Kind::Chained => {
                let mut upper = Table::new();
                for (key, (n, _)) in table {
                    let (_, end, _) = key.expect("a window");
                    let start = (end - 1).div_euclid(UPPER_US) * UPPER_US;
                    let group = upper.entry(Some((start, start + UPPER_US, ' '))).or_default();
                    *group = (group.0 + 1, group.1 + *n as f64);
                }
                let line = |(key, (parts, n)): (Key, (i64, f64))| {
                    let (start, ..) = key.expect("a window");
                    format!("{start} {parts} {}", n as i64)
                };
                closing(&upper).into_iter().map(line).collect()
            }
            Kind::Update => {
                let touched = table.iter().filter(|(key, _)| touched.contains(key));
                touched.map(|(key, group)| self.group_line(key, group)).collect()
            }
            Kind::Complete => table.iter().map(|(key, g)| self.group_line(key, g)).collect(),
            Kind::Batch => batch.iter().map(|(key, g)| self.group_line(key, g)).collect(),
            Kind::Rows | Kind::Dedup => rows.clone(),
            Kind::Global => match table.get(&None) {
                None => vec!["0 -".to_owned()],
                Some(group) => vec![self.group_line(&None, group)],
            },
        }
    }

    /// The lowest level's groups.
    fn left(&self, table: &Table, watermark: Option<i64>) -> Vec<Line> {
        let open = match self.kind {
            Kind::Batch | Kind::Rows | Kind::Dedup | Kind::DedupWindows => return Vec::new(),
            Kind::Complete => None,
            _ => watermark,
        };
        let groups = table.iter().filter(|(key, _)| !is_closed(key, open));
        groups.map(|(key, group)| self.group_line(key, group)).collect()
    }

    fn fate(&self, row: &Row) -> Fate {
        let before = match self.kind {
            Kind::AppendBefore(before) => Some(before),
            _ => None,
        };
        let reads_time_first = before.is_some();
        let has_time = !matches!(self.kind, Kind::Global);
        let seen = row.time.filter(|_| row.bad != TIME);
        if row.bad == 4 || row.bad == STATUS || (row.bad == TIME && reads_time_first) {
            return Fate::Rejected;
        }
        if self.kind.filters() && row.status.is_none_or(|status| status == 0) {
            return Fate::Filtered(None);
        }
        if let Some(before) = before
            && seen.is_none_or(|time| time >= before)
        {
            return Fate::Filtered(seen);
        }
        if row.bad == TIME {
            return Fate::Rejected;
        }
        if self.has_window() && row.time.is_none() {
            return Fate::Filtered(None);
        }
        if row.bad == VALUE || row.bad == DEVICE {
            return Fate::Rejected;
        }
        Fate::Alive(row.time.filter(|_| has_time))
    }

    fn has_window(&self) -> bool {
        !matches!(self.kind, Kind::Rows | Kind::Global | Kind::Dedup)
    }

    fn judges(&self) -> bool {
        !matches!(self.kind, Kind::Complete | Kind::Batch | Kind::Rows | Kind::Global)
    }

    /// The windows that a row falls into.
    fn keys(&self, row: &Row) -> Vec<Key> {
        let Some(time) = row.time.filter(|_| self.has_window()) else { return vec![None] };
        let slide = if self.kind == Kind::Sliding { SLIDE_US } else { SIZE_US };
        let last = time.div_euclid(slide) * slide;
        let starts = (0..).map(|back| last - back * slide).take_while(|s| s + SIZE_US > time);
        let device = char::from(b'a' + row.device);
        starts.map(|start| Some((start, start + SIZE_US, device))).collect()
    }

    fn watermark(&self, clock: Option<i64>) -> Option<i64> {
        clock.map(|time| (time - self.delay_us).div_euclid(1_000) * 1_000)
    }

    fn row_line(&self, row: &Row) -> Line {
        let time = row.time.map_or("-".to_owned(), |time| time.to_string());
        let device = char::from(b'a' + row.device);
        format!("{time} {device} {:?}", f64::from(row.value) / 8.0)
    }

    fn group_line(&self, key: &Key, (count, sum): &(i64, f64)) -> Line {
        match key {
            Some((start, end, device)) if self.kind == Kind::Session => {
                format!("{start} {end} {device} {count} {sum:?}")
            }
            Some((start, _, device)) => format!("{start} {device} {count} {sum:?}"),
            None => format!("{count} {sum:?}"),
        }
    }
}

/// The least clock of the splits, none until each has one.
pub fn together(clocks: &[Option<i64>]) -> Option<i64> {
    clocks.iter().copied().min().flatten()
}

fn is_closed(key: &Key, watermark: Option<i64>) -> bool {
    key.is_some_and(|(_, end, _)| watermark.is_some_and(|watermark| end <= watermark))
}
