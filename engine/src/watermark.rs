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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
