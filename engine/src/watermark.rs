//! Watermark arithmetic: how far event time has come, and what is late by it.
//!
//! Pure: no clock is read. Times are microseconds since 1970-01-01T00:00:00Z; a watermark is cut to
//! whole milliseconds, as Spark's (case `watermark-truncated-to-milliseconds`).

const MILLI_US: i64 = 1_000;

/// The watermark after `event_time_max` was seen: that less the delay, cut to milliseconds.
pub fn watermark_after(event_time_max: i64, delay_us: i64) -> i64 {
    event_time_max.saturating_sub(delay_us).div_euclid(MILLI_US).saturating_mul(MILLI_US)
}

/// The greatest event times for which a window that ends at `end` is not late yet are those below
/// this: `watermark_after(t, delay_us) < end` exactly when `t < late_from(end, delay_us)`.
pub fn late_from(end: i64, delay_us: i64) -> i64 {
    let whole = end.div_euclid(MILLI_US).saturating_mul(MILLI_US);
    let ceiling = if whole == end { end } else { whole.saturating_add(MILLI_US) };
    ceiling.saturating_add(delay_us)
}

/// How far a split has come in event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitClock {
    /// What its rows are judged by: the greatest event time seen, or what it was moved on to.
    pub now: Option<i64>,
    /// The greatest event time of its own rows: behind `now` where windows left without the split, which was
    /// idle or not there yet.
    pub own: Option<i64>,
}

impl SplitClock {
    /// Of a split that was never moved on.
    pub fn of(event_time_max: Option<i64>) -> SplitClock {
        SplitClock { now: event_time_max, own: event_time_max }
    }

    /// A row was seen, or rows.
    pub fn see(&mut self, rows: SplitClock) {
        self.now = self.now.max(rows.now);
        self.own = self.own.max(rows.own);
    }

    /// Windows have left by the clock of others.
    pub fn move_on(&mut self, to: Option<i64>) {
        self.now = self.now.max(to);
    }
}

/// How one of several sources stands towards the watermark that they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub delay_us: i64,
    pub event_time_max: Option<i64>,
    /// It was silent for so long that nobody waits for it any more; or it has ended.
    pub is_silent: bool,
}

/// The watermark of the sources that are not silent: those that are leave the minimum. Where all are,
/// the greatest of theirs: nothing is expected any more that could be late by it.
pub fn watermark_without_silent(sources: impl Iterator<Item = Standing> + Clone) -> Option<i64> {
    let of = |source: Standing| source.event_time_max.map(|t| watermark_after(t, source.delay_us));
    let mut active = sources.clone().filter(|source| !source.is_silent).peekable();
    match active.peek() {
        Some(_) => active.map(of).min().flatten(),
        None => sources.filter_map(of).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sources by (greatest event time in seconds, delay in seconds, whether silent).
    fn check(sources: &[(Option<i64>, i64, bool)], expected: Option<i64>) {
        let of = |&(time, delay, is_silent): &(Option<i64>, i64, bool)| Standing {
            delay_us: delay * 1_000_000,
            event_time_max: time.map(|time| time * 1_000_000),
            is_silent,
        };
        let found = watermark_without_silent(sources.iter().map(of));
        assert_eq!(found, expected.map(|second| second * 1_000_000), "{sources:?}");
    }

    #[test]
    fn a_silent_source_holds_no_watermark_back() {
        check(&[(Some(100), 10, false), (Some(50), 0, false)], Some(50));
        check(&[(Some(100), 10, false), (Some(50), 0, true)], Some(90));
        check(&[(Some(100), 10, false), (None, 0, true)], Some(90));
        check(&[(Some(100), 10, true), (None, 0, false)], None);
        check(&[(Some(100), 10, true), (Some(95), 0, true), (None, 0, true)], Some(95));
        check(&[(None, 0, true)], None);
    }

    #[test]
    fn the_watermark_is_cut_to_milliseconds_downwards() {
        assert_eq!(watermark_after(1_999, 0), 1_000);
        assert_eq!(watermark_after(-1, 0), -1_000);
        assert_eq!(watermark_after(12_000_000, 10_000_000), 2_000_000);
    }

    proptest! {
        #[test]
        fn late_from_is_the_exact_bound(end in -5_000i64..5_000, delay in 0i64..5_000,
                                        t in -12_000i64..12_000) {
            prop_assert_eq!(watermark_after(t, delay) < end, t < late_from(end, delay));
        }
    }
}
