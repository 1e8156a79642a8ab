//! Which rows come too late: `window.end <= watermark` by the split's own watermark just before the
//! row (SEMANTICS 3, `late = "row"`).
//!
//! A batch whose earliest window is still open by its latest watermark needs no look at its rows:
//! least and greatest event time decide. Only else the rows are walked in their order.

use arrow::array::{Array, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::fate::{Fate, Fates};
use super::judges_lateness;
use crate::batch::InputBatch;
use crate::plan::{Plan, Shape, WindowKey};
use crate::watermark::{late_from, watermark_after};

/// What is known of the event time before a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClock {
    /// The greatest event time seen before it in its split.
    Known(Option<i64>),
    /// Not known yet: rows are judged by the segment's own rows alone.
    Guessed,
}

pub(super) struct Lateness {
    judges: bool,
    delay_us: i64,
    window: Option<WindowKey>,
    event_time_max: Option<i64>,
    /// Least bound of [`late_from`] over the rows that were accepted.
    guess_holds_below: i64,
}

impl Lateness {
    pub(super) fn of(plan: &Plan) -> Self {
        let window = match &plan.shape {
            Shape::Groups(groups) => groups.window,
            Shape::Rows { .. } => None,
        };
        Lateness {
            judges: judges_lateness(plan),
            delay_us: plan.watermark.map_or(0, |w| w.delay_us),
            window,
            event_time_max: None,
            guess_holds_below: i64::MAX,
        }
    }

    pub(super) fn start(&mut self, clock: EventClock) {
        self.event_time_max = match clock {
            EventClock::Known(event_time_max) => event_time_max,
            EventClock::Guessed => None,
        };
        self.guess_holds_below = i64::MAX;
    }

    pub(super) fn event_time_max(&self) -> Option<i64> {
        self.event_time_max
    }

    pub(super) fn guess_holds_below(&self) -> i64 {
        self.guess_holds_below
    }

    /// Moves the clock by the rows that were seen, judging none.
    pub(super) fn see(&mut self, batch: &InputBatch<'_>, plan: &Plan, fates: &Fates) {
        let Some(times) = event_times(batch, plan) else { return };
        let seen = Extent::of(times, fates, Fate::is_seen);
        self.advance(seen.greatest);
    }

    /// Moves the clock and marks the rows that come too late.
    pub(super) fn judge(&mut self, batch: &InputBatch<'_>, plan: &Plan, fates: &mut Fates) {
        let Some(times) = event_times(batch, plan) else { return };
        let seen = Extent::of(times, fates, Fate::is_seen);
        if !self.judges {
            return self.advance(seen.greatest);
        }
        let alive = Extent::of(times, fates, |fate| fate == Fate::Alive);
        let Some(least) = alive.least else { return self.advance(seen.greatest) };
        let latest = self.event_time_max.max(seen.greatest);
        let none_late = latest.is_none_or(|t| self.end(least) > watermark_after(t, self.delay_us));
        if none_late {
            self.accept(least);
            self.advance(seen.greatest);
        } else {
            self.walk(times, fates);
        }
    }

    fn walk(&mut self, times: &TimestampMicrosecondArray, fates: &mut Fates) {
        for row in 0..times.len() {
            let fate = fates.of_row(row);
            if times.is_null(row) || !fate.is_seen() {
                continue;
            }
            let time = times.value(row);
            if fate == Fate::Alive {
                let watermark = self.event_time_max.map(|t| watermark_after(t, self.delay_us));
                if watermark.is_some_and(|watermark| self.end(time) <= watermark) {
                    fates.mark_late(row);
                } else {
                    self.accept(time);
                }
            }
            self.advance(Some(time));
        }
    }

    fn advance(&mut self, time: Option<i64>) {
        self.event_time_max = self.event_time_max.max(time);
    }

    fn accept(&mut self, time: i64) {
        let bound = late_from(self.end(time), self.delay_us);
        self.guess_holds_below = self.guess_holds_below.min(bound);
    }

    /// End of the window that holds `time`; without a window a row is its own end.
    fn end(&self, time: i64) -> i64 {
        match self.window {
            None => time,
            Some(window) => {
                let from_offset = time.saturating_sub(window.offset_us);
                let start = from_offset.div_euclid(window.slide_us) * window.slide_us;
                start.saturating_add(window.offset_us).saturating_add(window.size_us)
            }
        }
    }
}

/// Least and greatest event time of some rows; NULL is none.
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
