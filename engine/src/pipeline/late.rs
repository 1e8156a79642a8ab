//! Which rows come too late: `window.end <= watermark` by the split's own watermark just before the
//! row (SEMANTICS 3, `late = "row"`), or by one watermark for the whole epoch (`late = "epoch"`).
//!
//! A batch whose earliest window is still open by its latest watermark needs no look at its rows:
//! least and greatest event time decide. Only else the rows are walked in their order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};

use super::fate::{Fate, Fates};
use super::windows;
use crate::batch::InputBatch;
use crate::plan::{Judged, Plan, Shape, WindowKey};
use crate::seeded::{self, Bug};
use crate::watermark::{SplitClock, late_from, watermark_after};

/// So many rows in a row that are too far ahead are no mistake.
const JUMP_ROWS: u32 = 8;

/// What is known of the event time before a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClock {
    /// Its split's clock.
    Known(SplitClock),
    /// Not known yet: rows are judged by the segment's own rows alone.
    Guessed,
    /// `late = "epoch"`: rows are judged by this watermark; and the greatest event time before, as
    /// far as it is known.
    Fixed(i64, Option<i64>),
}

impl EventClock {
    /// Of a split that saw this as its greatest event time, and that nothing moved on.
    pub fn known(event_time_max: Option<i64>) -> EventClock {
        EventClock::Known(SplitClock::of(event_time_max))
    }
}

pub(super) struct Lateness {
    judges: bool,
    delay_us: i64,
    /// Without windows a row is its own end.
    window: Option<WindowKey>,
    clock: SplitClock,
    fixed: Option<i64>,
    is_fed: bool,
    /// Least bound of [`late_from`] over the rows that were accepted.
    guess_holds_below: i64,
    /// Each row's watermark is asked for.
    tracks: bool,
    max_future_skew_us: Option<i64>,
    /// Rows in a row that were too far ahead; kept from segment to segment.
    ahead: u32,
    judged_by: JudgedBy,
}

/// The watermark just before each row of the batch in work.
enum JudgedBy {
    /// None was near enough to matter.
    Nothing,
    Each(Vec<Option<i64>>),
}

impl Lateness {
    pub(super) fn of(plan: &Plan) -> Self {
        let tracks = matches!(&plan.shape, Shape::First(first) if first.clock.is_some());
        Lateness {
            judges: judges_lateness(plan),
            delay_us: plan.watermark.map_or(0, |w| w.delay_us),
            window: plan.judged_windows(),
            clock: SplitClock::default(),
            fixed: None,
            is_fed: plan.fed_by_state,
            guess_holds_below: i64::MAX,
            tracks,
            max_future_skew_us: plan.watermark.and_then(|w| w.max_future_skew_us),
            ahead: 0,
            judged_by: JudgedBy::Nothing,
        }
    }

    pub(super) fn start(&mut self, clock: EventClock) {
        let before = self.clock.now.filter(|_| seeded::is(Bug::ClockOfAnotherSplit));
        self.clock = match clock {
            EventClock::Known(known) if before > known.now => SplitClock::of(before),
            EventClock::Known(known) => known,
            EventClock::Fixed(_, event_time_max) => SplitClock::of(event_time_max),
            EventClock::Guessed => SplitClock::default(),
        };
        self.fixed = match clock {
            EventClock::Fixed(watermark, _) => Some(watermark),
            EventClock::Known(_) | EventClock::Guessed => None,
        };
        self.guess_holds_below = i64::MAX;
    }

    pub(super) fn clock(&self) -> SplitClock {
        self.clock
    }

    pub(super) fn guess_holds_below(&self) -> i64 {
        self.guess_holds_below
    }

    /// Above a join: the watermark by which groups have left. Rows come late for those that have.
    pub(super) fn passed(&self) -> Option<i64> {
        self.fixed.filter(|_| self.is_fed)
    }

    /// The watermark just before a row of the last batch, where it is near enough to matter: windows
    /// that end by then are late.
    pub(super) fn judged_by(&self, row: usize) -> Option<i64> {
        match &self.judged_by {
            JudgedBy::Nothing => None,
            JudgedBy::Each(watermarks) => watermarks[row],
        }
    }

    /// As a column of timestamps.
    pub(super) fn clocks(&self, rows: usize, data_type: &DataType) -> ArrayRef {
        let clocks = (0..rows).map(|row| self.judged_by(row));
        let clocks: TimestampMicrosecondArray = clocks.collect();
        Arc::new(clocks.with_data_type(data_type.clone()))
    }

    /// Whether sessions are judged by their own ends: by Spark's rule alone. By the other a row is
    /// late by its own time, so that none can touch a session that has left.
    pub(super) fn asks_for_ends(&self) -> bool {
        self.judges && self.fixed.is_some()
    }

    /// Rejects rows that are too far ahead of the clock. One absurd time must not close every window;
    /// a jump that [`JUMP_ROWS`] rows agree upon is taken as the truth.
    fn guard(&mut self, times: &TimestampMicrosecondArray, fates: &mut Fates) {
        let Some(skew) = self.max_future_skew_us else { return };
        let mut clock = self.clock.now;
        for row in 0..times.len() {
            if times.is_null(row) || !fates.of_row(row).is_seen() {
                continue;
            }
            let time = times.value(row);
            let limit = clock.map_or(i64::MAX, |clock| clock.saturating_add(skew));
            self.ahead = if time > limit { self.ahead + 1 } else { 0 };
            if (1..JUMP_ROWS).contains(&self.ahead) {
                let ahead = time.saturating_sub(limit).saturating_add(skew) / 1_000_000;
                fates.reject_ahead(row as u32, ahead);
            } else {
                self.ahead = 0;
                clock = clock.max(Some(time));
            }
        }
    }

    /// Moves the clock and marks the rows that come too late, where any may. `ends`: of each row's session, where
    /// that is what it is judged by.
    pub(super) fn judge(
        &mut self,
        batch: &InputBatch<'_>,
        plan: &Plan,
        fates: &mut Fates,
        ends: Option<&[i64]>,
    ) {
        self.judged_by = JudgedBy::Nothing;
        let Some(times) = event_times(batch, plan) else { return };
        self.guard(times, fates);
        let seen = Extent::of(times, fates, Fate::is_seen);
        if !self.judges {
            return self.advance(seen.greatest);
        }
        if let (Some(ends), Some(watermark)) = (ends, self.fixed) {
            for (row, &end) in ends.iter().enumerate() {
                if fates.of_row(row) == Fate::Alive && end <= watermark {
                    fates.mark_late(row, false);
                }
            }
            return self.advance(seen.greatest);
        }
        let alive = match fates.only_alive_are_seen() {
            true => seen,
            false => Extent::of(times, fates, |fate| fate == Fate::Alive),
        };
        let Some(least) = alive.least else { return self.advance(seen.greatest) };
        let latest = self.clock.now.max(seen.greatest);
        let least_end = self.end_after(least);
        let none_late = self.watermark(latest).is_none_or(|watermark| least_end > watermark);
        if none_late && !self.tracks {
            self.accept(least_end);
            self.advance(seen.greatest);
        } else {
            self.walk(times, fates);
        }
    }

    fn walk(&mut self, times: &TimestampMicrosecondArray, fates: &mut Fates) {
        let mut watermarks = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let fate = fates.of_row(row);
            let watermark = self.watermark(self.clock.now);
            watermarks.push(watermark);
            if times.is_null(row) || !fate.is_seen() {
                continue;
            }
            let time = times.value(row);
            if fate == Fate::Alive {
                let end = self.last_end(time);
                let is_late = |watermark: Option<i64>| watermark.is_some_and(|w| end <= w);
                if is_late(watermark) {
                    fates.mark_late(row, !is_late(self.watermark(self.clock.own)));
                } else {
                    let open_from = watermark.filter(|_| self.window.is_some());
                    self.accept(self.end_after(open_from.map_or(time, |w| w.max(time))));
                }
            }
            self.advance(Some(time));
        }
        self.judged_by = JudgedBy::Each(watermarks);
    }

    /// What a row is judged by once `event_time_max` was seen.
    fn watermark(&self, event_time_max: Option<i64>) -> Option<i64> {
        self.fixed.or_else(|| event_time_max.map(|t| watermark_after(t, self.delay_us)))
    }

    fn advance(&mut self, time: Option<i64>) {
        self.clock.see(SplitClock::of(time));
    }

    fn accept(&mut self, least_end: i64) {
        if self.fixed.is_none() {
            let bound = late_from(least_end, self.delay_us);
            self.guess_holds_below = self.guess_holds_below.min(bound);
        }
    }

    /// End of the last window that holds `time`; without a window a row is its own end.
    fn last_end(&self, time: i64) -> i64 {
        match self.window {
            None => time,
            Some(window) => window.last_start(time).saturating_add(window.size_us),
        }
    }

    /// The first window's end that is later than `time`.
    fn end_after(&self, time: i64) -> i64 {
        match self.window {
            None => time,
            Some(window) => window.end_after(time),
        }
    }
}

/// Lateness is judged where state is kept by event time, and not in modes that end nothing by it.
fn judges_lateness(plan: &Plan) -> bool {
    let by_time = match &plan.shape {
        Shape::Groups(groups) => {
            windows::are_of_event_time(plan) || groups.event_time_key.is_some()
        }
        Shape::First(first) => first.judged,
        Shape::Rows { judged, .. } => *judged != Judged::Nothing,
    };
    // By Spark's rule a session's row is late in complete mode, too.
    let ends_none = !plan.goes_by_time() && !plan.has_sessions_of_spark();
    by_time && plan.watermark.is_some() && !plan.fed_by_state && !ends_none
}

/// Least and greatest event time of some rows; NULL is none.
#[derive(Clone, Copy)]
struct Extent {
    least: Option<i64>,
    greatest: Option<i64>,
}

impl Extent {
    fn of(
        times: &TimestampMicrosecondArray,
        fates: &Fates,
        counts: impl Fn(Fate) -> bool,
    ) -> Extent {
        if fates.all_alive() && times.null_count() == 0 {
            let values = times.values();
            return Extent {
                least: values.iter().copied().min(),
                greatest: values.iter().copied().max(),
            };
        }
        let (mut least, mut greatest) = (i64::MAX, i64::MIN);
        let mut any = false;
        if times.null_count() == 0 {
            // Without a branch a row: fates are as random as the data.
            for (row, &time) in times.values().iter().enumerate() {
                let counted = counts(fates.of_row(row));
                least = least.min(if counted { time } else { i64::MAX });
                greatest = greatest.max(if counted { time } else { i64::MIN });
                any |= counted;
            }
            return Extent { least: any.then_some(least), greatest: any.then_some(greatest) };
        }
        for (row, &time) in times.values().iter().enumerate() {
            if counts(fates.of_row(row)) && times.is_valid(row) {
                (least, greatest, any) = (least.min(time), greatest.max(time), true);
            }
        }
        Extent { least: any.then_some(least), greatest: any.then_some(greatest) }
    }
}

fn event_times<'a>(
    batch: &'a InputBatch<'_>,
    plan: &Plan,
) -> Option<&'a TimestampMicrosecondArray> {
    use arrow::array::AsArray;
    let column = plan.event_time?;
    plan.watermark?;
    Some(batch.columns[column].as_primitive::<TimestampMicrosecondType>())
}
