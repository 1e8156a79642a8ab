//! The clocks of a query's scans, and the job's watermark: the least of theirs.
//!
//! Pure. A scan without a watermark has no say, one that has ended leaves the minimum. What one scan
//! has seen is kept apart from the others, so the watermark after a restart is the one before it.
//!
//! By Spark's rule the scans of one source, which UNION ALL reads twice, have one clock, the greatest of
//! theirs: a filter above one of them holds nothing back.

use crate::job::spec::LateRule;
use crate::plan::query::Scan;
use crate::plan::{Query, Watermark};
use crate::watermark::watermark_after;

pub(super) struct Clocks {
    scans: Vec<Clock>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// Index into the job's sources.
    source: usize,
    watermark: Option<Watermark>,
    now: Seen,
    /// At the end of the epoch before.
    before: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Greatest event time.
    time: Option<i64>,
    ended: bool,
}

impl Clocks {
    pub fn of(query: &Query) -> Clocks {
        let clock = |scan: &Scan| Clock {
            source: scan.source,
            watermark: scan.plan.watermark,
            ..Clock::default()
        };
        Clocks { scans: query.scans.iter().map(clock).collect() }
    }

    pub fn see(&mut self, scan: usize, time: Option<i64>, ended: bool) {
        let now = &mut self.scans[scan].now;
        now.time = now.time.max(time);
        now.ended = ended;
    }

    pub fn end_epoch(&mut self) {
        self.scans.iter_mut().for_each(|clock| clock.before = clock.now);
    }

    /// Goes on from what was seen, by scan.
    pub fn restore(&mut self, times: &[Option<i64>]) {
        for (clock, &time) in self.scans.iter_mut().zip(times) {
            clock.now = Seen { time, ended: false };
        }
        self.end_epoch();
    }

    pub fn times(&self) -> Vec<Option<i64>> {
        self.scans.iter().map(|clock| clock.now.time).collect()
    }

    /// Greatest event time of all scans.
    pub fn greatest(&self) -> Option<i64> {
        self.scans.iter().filter_map(|clock| clock.now.time).max()
    }

    /// The watermark before the first row: Spark's clock begins at 1970.
    pub fn first(&self) -> Option<i64> {
        self.scans.iter().find_map(|clock| clock.watermark).and_then(first)
    }

    /// The watermark by which the running epoch emits and evicts: after all its rows or, by Spark's
    /// rule, after those of the epochs before.
    pub fn watermark(&self) -> Option<i64> {
        let of_scan = |clock: &Clock| {
            let watermark = clock.watermark?;
            let seen = match watermark.late {
                LateRule::Row => clock.now,
                LateRule::Epoch => self.before(clock.source),
            };
            let after = seen.time.map(|time| watermark_after(time, watermark.delay_us));
            Some(if seen.ended { Some(i64::MAX) } else { after.or(first(watermark)) })
        };
        // Before its first row a scan has none, and so has the job.
        self.scans.iter().filter_map(of_scan).min().flatten()
    }

    /// What all scans of a source together had seen at the end of the epoch before.
    fn before(&self, source: usize) -> Seen {
        let mut of_source = self.scans.iter().filter(|clock| clock.source == source).peekable();
        let ended = of_source.peek().is_some_and(|clock| clock.before.ended);
        Seen { time: of_source.filter_map(|clock| clock.before.time).max(), ended }
    }
}

fn first(watermark: Watermark) -> Option<i64> {
    (watermark.late == LateRule::Epoch).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Scans of these sources, ten seconds of delay.
    fn scans(sources: &[usize], late: LateRule) -> Clocks {
        let watermark = Watermark { delay_us: 10 * SECOND, late, max_future_skew_us: None };
        let clock =
            |&source: &usize| Clock { source, watermark: Some(watermark), ..Clock::default() };
        Clocks { scans: sources.iter().map(clock).collect() }
    }

    fn clocks(late: LateRule) -> Clocks {
        scans(&[0, 1], late)
    }

    #[test]
    fn the_least_clock_counts_and_one_that_has_ended_leaves() {
        let mut clocks = clocks(LateRule::Row);
        clocks.see(0, Some(100 * SECOND), false);
        assert_eq!(clocks.watermark(), None, "the other source has not begun");
        clocks.see(1, Some(50 * SECOND), false);
        assert_eq!(clocks.watermark(), Some(40 * SECOND));
        clocks.see(1, Some(30 * SECOND), false);
        assert_eq!(clocks.watermark(), Some(40 * SECOND), "no clock goes back");
        clocks.see(1, None, true);
        assert_eq!(clocks.watermark(), Some(90 * SECOND));
        clocks.see(0, None, true);
        assert_eq!(clocks.watermark(), Some(i64::MAX));
    }

    #[test]
    fn a_source_that_is_silent_after_a_restart_counts_with_what_it_had_seen() {
        let mut clocks = clocks(LateRule::Row);
        clocks.restore(&[Some(100 * SECOND), Some(50 * SECOND)]);
        assert_eq!(clocks.times(), [Some(100 * SECOND), Some(50 * SECOND)]);
        clocks.see(1, Some(80 * SECOND), false);
        assert_eq!(clocks.watermark(), Some(70 * SECOND));
    }

    #[test]
    fn by_sparks_rule_an_epoch_goes_by_the_rows_of_the_epochs_before() {
        let mut clocks = clocks(LateRule::Epoch);
        assert_eq!((clocks.first(), clocks.watermark()), (Some(0), Some(0)));
        clocks.see(0, Some(100 * SECOND), false);
        clocks.see(1, Some(50 * SECOND), false);
        assert_eq!(clocks.watermark(), Some(0));
        clocks.end_epoch();
        assert_eq!(clocks.watermark(), Some(40 * SECOND));
    }

    #[test]
    fn by_sparks_rule_the_scans_of_one_source_have_one_clock() {
        let at = |sources: &[usize], late| {
            let mut clocks = scans(sources, late);
            clocks.see(0, Some(100 * SECOND), false);
            clocks.see(2, Some(70 * SECOND), false);
            clocks.end_epoch();
            clocks.watermark()
        };
        assert_eq!(at(&[0, 0, 1], LateRule::Epoch), Some(60 * SECOND));
        assert_eq!(at(&[0, 1, 1], LateRule::Epoch), Some(60 * SECOND));
        assert_eq!(at(&[0, 1, 0], LateRule::Epoch), Some(0), "the second source has not begun");
        assert_eq!(at(&[0, 0, 1], LateRule::Row), None, "each scan judges by its own rows");
    }
}
