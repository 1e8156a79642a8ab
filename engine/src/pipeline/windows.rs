//! The windows that a row falls into, where they are not one for each row: sliding ones, sessions,
//! and rows that have none.
//!
//! Pure arithmetic on microseconds; negative times align downwards.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::TimestampMicrosecondType;
use pelton_kernels::cpu::keys::Rows;
use std::sync::Arc;

use super::derive::Derived;
use super::fate::{Fate, Fates};
use crate::plan::{Groups, Plan, WindowKey};
use crate::state::Closing;

impl WindowKey {
    /// Does a row fall into several?
    pub fn overlaps(self) -> bool {
        self.slide_us < self.size_us
    }

    /// Start of the last window that holds `time`.
    pub(super) fn last_start(self, time: i64) -> i64 {
        let from_offset = time.saturating_sub(self.offset_us);
        let start = from_offset.div_euclid(self.slide_us).saturating_mul(self.slide_us);
        start.saturating_add(self.offset_us)
    }

    /// The first window's end that is later than `time`.
    pub(super) fn end_after(self, time: i64) -> i64 {
        let of_size =
            WindowKey { offset_us: (self.offset_us + self.size_us) % self.slide_us, ..self };
        of_size.last_start(time).saturating_add(self.slide_us)
    }
}

/// The watermark closes the windows or sessions: they are of its own column.
pub(super) fn are_of_event_time(plan: &Plan) -> bool {
    plan.window().is_some_and(|window| window.closes)
        || plan.session().is_some_and(|session| session.closes)
}

/// The derived rows that fall into no window: their time is NULL, or their session's gap is not
/// above zero. An input row of which no other is left was filtered.
pub(super) fn homeless(
    groups: &Groups,
    keys: &[ArrayRef],
    derived: &Derived<'_>,
    fates: &mut Fates,
) -> Option<Vec<bool>> {
    let start = &keys[groups.first_key()?];
    if groups.session.is_none() && start.null_count() == 0 {
        return None;
    }
    let mut homeless: Vec<bool> = match start.null_count() {
        0 => vec![false; start.len()],
        _ => (0..start.len()).map(|row| start.is_null(row)).collect(),
    };
    if let Some(session) = groups.session {
        let (starts, ends) = (times(start), &keys[session.end]);
        for (row, homeless) in homeless.iter_mut().enumerate() {
            *homeless |= ends.is_null(row) || times(ends)[row] <= starts[row];
        }
    }
    if !homeless.contains(&true) {
        return None;
    }
    let mut has_window = std::collections::HashMap::new();
    for (row, homeless) in (0u32..).zip(&homeless) {
        *has_window.entry(derived.parent(row)).or_insert(false) |= !homeless;
    }
    for (parent, has_window) in has_window {
        if !has_window && fates.of_row(parent as usize) == Fate::Alive {
            fates.drop_row(parent as usize);
        }
    }
    Some(homeless)
}

/// The latest end of each input row's sessions.
pub(super) fn ends(ends: &ArrayRef, derived: &Derived<'_>, rows: usize) -> Vec<i64> {
    let mut latest = vec![i64::MIN; rows];
    for (row, &end) in (0u32..).zip(times(ends)) {
        if ends.is_valid(row as usize) {
            let latest = &mut latest[derived.parent(row) as usize];
            *latest = end.max(*latest);
        }
    }
    latest
}

/// Those of some rows that are wanted.
pub(super) fn select(rows: Rows<'_>, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
    (0..rows.len()).map(|at| rows.row(at)).filter(|&row| wanted(row)).collect()
}

/// Those of some rows whose groups are still there, where a watermark has taken any.
pub(super) fn open(
    groups: &Groups,
    keys: &[ArrayRef],
    rows: Rows<'_>,
    passed: i64,
) -> Option<Vec<u32>> {
    let ends = Closing::of(groups).ends(keys)?;
    let is_open = |row: u32| ends[row as usize].is_none_or(|end| end > passed);
    Some(select(rows, is_open))
}

/// Windows that overlap: a row falls into the one that began last, and into those before it as long
/// as they have not ended.
pub(super) struct Sliding<'a> {
    window: WindowKey,
    /// Of the last window.
    starts: &'a [i64],
    /// Where the slide does not divide the size, the number of a row's windows depends on its time.
    times: &'a [i64],
}

impl<'a> Sliding<'a> {
    pub(super) fn new(window: WindowKey, keys: &'a [ArrayRef], arguments: &'a [ArrayRef]) -> Self {
        let time = window.time.expect("overlapping windows have the time among the arguments");
        Sliding::of(window, &keys[window.key], &arguments[time])
    }

    /// From each row's last window and its time.
    pub(super) fn of(window: WindowKey, starts: &'a ArrayRef, of_rows: &'a ArrayRef) -> Self {
        Sliding { window, starts: times(starts), times: times(of_rows) }
    }

    /// The most windows that a row can fall into.
    pub(super) fn steps(&self) -> i64 {
        // Checked against the size by the planner: both are above zero.
        (self.window.size_us - 1) / self.window.slide_us + 1
    }

    /// The rows whose window `step` slides before the last one holds them and is not late, and how
    /// many rows' is late.
    pub(super) fn open(
        &self,
        step: i64,
        rows: Rows<'_>,
        judged_by: impl Fn(u32) -> Option<i64>,
    ) -> (Vec<u32>, u64) {
        let mut late = 0;
        let open = select(rows, |_| true).into_iter().filter(|&row| {
            let end =
                self.starts[row as usize].saturating_sub(self.back_us(step)) + self.window.size_us;
            let holds = end > self.times[row as usize];
            let is_late = judged_by(row).is_some_and(|watermark| end <= watermark);
            late += u64::from(holds && is_late);
            holds && !is_late
        });
        (open.collect(), late)
    }

    /// The keys with the starts of the windows of this step.
    pub(super) fn keys(&self, step: i64, keys: &[ArrayRef]) -> Vec<ArrayRef> {
        let mut keys = keys.to_vec();
        let starts = &mut keys[self.window.key];
        *starts = moved(starts, self.back_us(step));
        keys
    }

    /// How far before the last window that of a step begins.
    pub(super) fn back_us(&self, step: i64) -> i64 {
        step * self.window.slide_us
    }
}

/// Starts of windows that lie so far before others.
pub(super) fn moved(starts: &ArrayRef, back_us: i64) -> ArrayRef {
    let moved = times(starts).iter().map(|start| start.saturating_sub(back_us));
    let moved = PrimitiveArray::<TimestampMicrosecondType>::new(
        moved.collect::<Vec<i64>>().into(),
        starts.nulls().cloned(),
    );
    Arc::new(moved.with_data_type(starts.data_type().clone()))
}

fn times(column: &ArrayRef) -> &[i64] {
    column.as_primitive::<TimestampMicrosecondType>().values()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(size_us: i64, slide_us: i64, offset_us: i64) -> WindowKey {
        WindowKey { key: 0, size_us, slide_us, offset_us, time: None, closes: true }
    }

    /// Every window that holds a time, by looking at each start around it.
    fn holding(window: WindowKey, time: i64) -> Vec<i64> {
        let begins = |start: &i64| (start - window.offset_us).rem_euclid(window.slide_us) == 0;
        (time - window.size_us + 1..=time).filter(begins).collect()
    }

    proptest! {
        #[test]
        fn a_row_falls_into_the_windows_that_hold_its_time(
            size in 1i64..30, slide in 1i64..30, offset in -29i64..30, time in -100i64..100,
            watermark in proptest::option::of(-100i64..140),
        ) {
            let (slide, offset) = (slide.min(size), offset % slide.min(size));
            let window = window(size, slide, offset);
            let expected = holding(window, time);
            prop_assert_eq!(window.last_start(time), *expected.last().unwrap());
            let first_end = (time + 1..).find(|end| (end - size - offset).rem_euclid(slide) == 0);
            prop_assert_eq!(window.end_after(time), first_end.unwrap());
            let start = |start: i64| -> ArrayRef {
                Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_value(start, 1))
            };
            let window = WindowKey { time: Some(0), ..window };
            let (keys, arguments) = ([start(window.last_start(time))], [start(time)]);
            let sliding = Sliding::new(window, &keys, &arguments);
            let (mut found, mut late) = (Vec::new(), 0);
            for step in 0..sliding.steps() {
                let (open, closed) = sliding.open(step, Rows::All(1), |_| watermark);
                late += closed;
                if open == [0] {
                    found.push(times(&sliding.keys(step, &keys)[0])[0]);
                }
            }
            found.reverse();
            let is_open = |start: &i64| watermark.is_none_or(|watermark| start + size > watermark);
            let open: Vec<i64> = expected.iter().copied().filter(is_open).collect();
            prop_assert_eq!(late as usize, expected.len() - open.len());
            prop_assert_eq!(found, open);
        }
    }
}
