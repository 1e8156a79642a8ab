//! One fate a row: rejected, filtered, late or applied, decided in the order of SEMANTICS 9.
//!
//! A bad value counts only where something reads it: in a row that WHERE drops, or in a column that
//! nothing reads, it is no error.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use pelton_kernels::cpu::filter::{select, truth};
use pelton_kernels::gpu;

use super::derive::Derived;
use super::segment::{Failure, Segment};
use crate::batch::{DeadLetter, InputBatch, Position, Reason};
use crate::job::spec::OnError;
use crate::plan::Plan;
use crate::plan::device::Filter;
use crate::plan::expr::Compiled;
use crate::seeded::{self, Bug};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    Alive,
    /// Dropped by WHERE on other columns than the event time: the watermark never saw it.
    FilteredBelow,
    Filtered,
    Rejected,
    Late,
}

/// Number of fates.
const FATES: usize = Fate::Late as usize + 1;

impl Fate {
    /// The row counts for the watermark.
    pub(super) fn is_seen(self) -> bool {
        matches!(self, Fate::Alive | Fate::Filtered | Fate::Late)
    }
}

/// The fates of one batch's rows; its memory serves for all.
pub(super) struct Fates {
    policy: OnError,
    of: Vec<Fate>,
    /// How many rows met each fate, those that are alive left out.
    met: [u64; FATES],
    /// Of those that came too late.
    late_after_idleness: u64,
    all_alive: bool,
    rejections: Vec<Rejection>,
    /// The rows that are alive, unless a fate changed since they were listed.
    alive: Vec<u32>,
    is_listed: bool,
    surviving: Vec<u32>,
}

struct Rejection {
    row: u32,
    /// Input column; `None` where an expression stopped.
    column: Option<u16>,
    /// The field's bytes.
    found: Range<u32>,
    reason: Reason,
}

/// What a dead letter is written from.
struct BadRow<'a> {
    bytes: Range<u32>,
    column: Option<u16>,
    found: Range<u32>,
    reason: &'a Reason,
}

impl Fates {
    pub(super) fn new(policy: OnError) -> Self {
        Fates {
            policy,
            of: Vec::new(),
            met: [0; FATES],
            late_after_idleness: 0,
            all_alive: true,
            rejections: Vec::new(),
            alive: Vec::new(),
            is_listed: false,
            surviving: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, rows: usize) {
        self.of.clear();
        self.of.resize(rows, Fate::Alive);
        self.met = [0; FATES];
        self.late_after_idleness = 0;
        self.all_alive = true;
        self.rejections.clear();
    }

    pub(super) fn all_alive(&self) -> bool {
        self.all_alive
    }

    pub(super) fn of_row(&self, row: usize) -> Fate {
        self.of[row]
    }

    /// Every row that counts for the watermark is alive.
    pub(super) fn only_alive_are_seen(&self) -> bool {
        self.met[Fate::Filtered as usize] + self.met[Fate::Late as usize] == 0
    }

    /// `after_idleness`: by its split's own clock it was in time.
    pub(super) fn mark_late(&mut self, row: usize, after_idleness: bool) {
        self.set(row, Fate::Late);
        self.late_after_idleness += u64::from(after_idleness);
    }

    /// A row that was alive meets its fate.
    fn set(&mut self, row: usize, fate: Fate) {
        self.of[row] = fate;
        self.met[fate as usize] += 1;
        self.all_alive = false;
        self.is_listed = false;
    }

    /// WHERE, below the watermark or above it. `told`: which filters a device was asked, and what
    /// became of each row there.
    pub(super) fn filter(
        &mut self,
        stage: Filter,
        batch: &InputBatch<'_>,
        plan: &Plan,
        told: Option<(&[Filter], &[gpu::Fate])>,
    ) {
        let (filter, dropped) = match stage {
            Filter::Below => (&plan.filter_below, Fate::FilteredBelow),
            Filter::Above => (&plan.filter_above, Fate::Filtered),
        };
        let Some(filter) = filter else { return };
        let number = told.and_then(|(asked, fates)| {
            asked.iter().position(|asked| *asked == stage).map(|number| (number, fates))
        });
        match number {
            None => self.filter_by(filter, batch, dropped),
            Some((number, fates)) => self.filter_as_told(filter, batch, dropped, number, fates),
        }
    }

    fn filter_as_told(
        &mut self,
        filter: &Compiled,
        batch: &InputBatch<'_>,
        dropped: Fate,
        number: usize,
        fates: &[gpu::Fate],
    ) {
        for (row, fate) in fates.iter().enumerate() {
            if self.of[row] != Fate::Alive || fate.dropped_by() != Some(number) {
                continue;
            }
            if fate.stopped_at() == Some(number) {
                self.reject_expression(row as u32, filter.reason(batch.columns, row));
            }
            if self.of[row] == Fate::Alive {
                self.set(row, dropped);
            }
        }
    }

    fn filter_by(&mut self, filter: &Compiled, batch: &InputBatch<'_>, dropped: Fate) {
        let evaluated = filter.evaluate(batch.columns, batch.rows, self.alive_rows());
        for (row, reason) in evaluated.errors {
            self.reject_expression(row, reason);
        }
        let mask = evaluated.values.as_boolean();
        let kept = truth(mask);
        let count = kept.count_set_bits();
        if count == batch.rows {
            return;
        }
        if !self.all_alive {
            for row in (!&kept).set_indices() {
                if self.of[row] == Fate::Alive {
                    self.set(row, dropped);
                }
            }
            return;
        }
        (!&kept).set_indices().for_each(|row| self.of[row] = dropped);
        self.met[dropped as usize] += (batch.rows - count) as u64;
        self.all_alive = false;
        self.alive.clear();
        select(mask, &mut self.alive);
        self.is_listed = true;
    }

    /// A row without event time falls into no window.
    pub(super) fn drop_nulls(&mut self, times: &ArrayRef) {
        if times.null_count() == 0 {
            return;
        }
        for row in 0..times.len() {
            if times.is_null(row) && self.of[row] == Fate::Alive {
                self.set(row, Fate::Filtered);
            }
        }
    }

    /// Rejects the rows that are still alive and whose value did not decode in a column that
    /// `reads` names.
    pub(super) fn reject_values(&mut self, batch: &InputBatch<'_>, reads: impl Fn(usize) -> bool) {
        if self.policy == OnError::Null {
            return;
        }
        for error in batch.value_errors {
            let row = error.row as usize;
            if self.of[row] == Fate::Alive && reads(usize::from(error.column)) {
                self.set(row, Fate::Rejected);
                self.rejections.push(Rejection {
                    row: error.row,
                    column: Some(error.column),
                    found: error.start..error.end,
                    reason: error.reason.clone(),
                });
            }
        }
    }

    /// An expression stopped at a row: its value stays NULL under `on_error = "null"`.
    pub(super) fn reject_expression(&mut self, row: u32, reason: String) {
        if self.policy != OnError::Null && self.of[row as usize] == Fate::Alive {
            self.set(row as usize, Fate::Rejected);
            let reason = Reason::Expression(reason);
            self.rejections.push(Rejection { row, column: None, found: 0..0, reason });
        }
    }

    /// A row so many seconds ahead of its split's clock, whatever `on_error` makes of other faults; it
    /// moves no clock.
    pub(super) fn reject_ahead(&mut self, row: u32, seconds: i64) {
        if self.of[row as usize] == Fate::Alive {
            let reason = format!(
                "the event time is {seconds} s ahead of the rows before it, more than max_future_skew"
            );
            self.rejections.push(Rejection {
                row,
                column: None,
                found: 0..0,
                reason: Reason::Expression(reason),
            });
            self.set(row as usize, Fate::Rejected);
        } else {
            // Dropped by WHERE as it is; the watermark shall not see it.
            self.set(row as usize, Fate::FilteredBelow);
        }
    }

    /// The rows that are late.
    pub(super) fn late_rows(&self) -> Vec<u32> {
        if self.all_alive {
            return Vec::new();
        }
        let rows = (0u32..).zip(&self.of);
        rows.filter(|(_, fate)| **fate == Fate::Late).map(|(row, _)| row).collect()
    }

    /// A row none of whose derived rows is left.
    pub(super) fn drop_row(&mut self, row: usize) {
        if self.of[row] == Fate::Alive {
            self.set(row, Fate::Filtered);
        }
    }

    /// A row that WHERE drops below the watermark.
    pub(super) fn drop_below(&mut self, row: usize) {
        if self.of[row] == Fate::Alive {
            self.set(row, Fate::FilteredBelow);
        }
    }

    /// Rows that are still alive; `None`: all of them.
    pub(super) fn alive_rows(&mut self) -> Option<&[u32]> {
        if self.all_alive {
            return None;
        }
        if !self.is_listed {
            self.alive.clear();
            let rows = (0u32..).zip(&self.of);
            self.alive.extend(rows.filter(|(_, fate)| **fate == Fate::Alive).map(|(row, _)| row));
            self.is_listed = true;
        }
        Some(&self.alive)
    }

    /// Derived rows whose input row is still alive; `None`: all of them.
    pub(super) fn surviving(&mut self, derived: &Derived<'_>) -> Option<&[u32]> {
        match derived.parents() {
            None => self.alive_rows(),
            Some(_) if self.all_alive => None,
            Some(parents) => {
                let rows = (0u32..).zip(parents);
                let alive = rows.filter(|(_, parent)| self.of[**parent as usize] == Fate::Alive);
                self.surviving.clear();
                self.surviving.extend(alive.map(|(row, _)| row));
                Some(&self.surviving)
            }
        }
    }

    /// Counts the batch into the segment and writes its dead letters, in the order of the bytes.
    pub(super) fn settle(&mut self, batch: &InputBatch<'_>, plan: &Plan, segment: &mut Segment) {
        let counters = &mut segment.summary.counters;
        counters.rows_in += (batch.rows + batch.row_errors.len()) as u64;
        counters.rejected += batch.row_errors.len() as u64;
        let met = |fate: Fate| self.met[fate as usize];
        counters.applied += batch.rows as u64 - self.met.iter().sum::<u64>();
        counters.filtered += met(Fate::FilteredBelow) + met(Fate::Filtered);
        counters.rejected += met(Fate::Rejected);
        counters.late += met(Fate::Late);
        counters.late_after_idleness += self.late_after_idleness;
        if seeded::is(Bug::LateUncounted) {
            counters.rows_in -= met(Fate::Late);
            counters.late -= met(Fate::Late);
        }
        if self.rejections.is_empty() && batch.row_errors.is_empty() {
            return;
        }
        if self.policy == OnError::Skip {
            return;
        }
        let mut letters = self.letters(batch, plan);
        if self.policy == OnError::Fail {
            let first = letters.swap_remove(0);
            segment.failure.get_or_insert(Failure { letter: first });
        } else {
            segment.letter_bytes += letters.iter().map(DeadLetter::bytes_held).sum::<usize>();
            segment.dead_letters.append(&mut letters);
        }
    }

    fn letters(&self, batch: &InputBatch<'_>, plan: &Plan) -> Vec<DeadLetter> {
        let broken = batch.row_errors.iter().map(|error| {
            let bytes = error.start..error.end;
            BadRow { found: bytes.clone(), bytes, column: None, reason: &error.reason }
        });
        let rejected = self.rejections.iter().map(|rejection| BadRow {
            bytes: batch.row_starts[rejection.row as usize]..batch.row_ends[rejection.row as usize],
            found: rejection.found.clone(),
            column: rejection.column,
            reason: &rejection.reason,
        });
        let mut bad: Vec<BadRow<'_>> = broken.chain(rejected).collect();
        bad.sort_by_key(|row| row.bytes.start);
        let names: Vec<Arc<str>> =
            plan.input_names.iter().map(|name| name.as_str().into()).collect();
        let (mut line, mut counted_to) = (batch.place.line, 0usize);
        bad.into_iter()
            .map(|BadRow { bytes, column, found, reason }| {
                let start = bytes.start as usize;
                line += newlines(&batch.bytes[counted_to..start]);
                counted_to = start;
                let found = &batch.bytes[found.start as usize..found.end as usize];
                DeadLetter {
                    raw: batch.bytes[start..bytes.end as usize].to_vec(),
                    name: batch.place.name.clone(),
                    position: Position {
                        split: plan.split(batch.place.split),
                        major: batch.place.major,
                        minor: batch.place.minor + u64::from(bytes.start),
                    },
                    line,
                    column: column.map(|c| names[usize::from(c)].clone()),
                    reason: reason.describe(found),
                }
            })
            .collect()
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}
