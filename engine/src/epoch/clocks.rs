//! The clocks of a query's scans, and the job's watermark: the least of theirs.
//!
//! Pure. A scan without a watermark has no say, one that has ended leaves the minimum. What one scan
//! has seen is kept apart from the others, so the watermark after a restart is the one before it.

use crate::job::spec::LateRule;
use crate::plan::{Query, Watermark};
use crate::watermark::watermark_after;

pub(super) struct Clocks {
    scans: Vec<Clock>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Clock {
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
        let clock = |watermark| Clock { watermark, ..Clock::default() };
        Clocks { scans: query.scans.iter().map(|scan| clock(scan.plan.watermark)).collect() }
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
                LateRule::Epoch => clock.before,
            };
            let after = seen.time.map(|time| watermark_after(time, watermark.delay_us));
            Some(if seen.ended { Some(i64::MAX) } else { after.or(first(watermark)) })
        };
        // Before its first row a scan has none, and so has the job.
        self.scans.iter().filter_map(of_scan).min().flatten()
    }
}

fn first(watermark: Watermark) -> Option<i64> {
    (watermark.late == LateRule::Epoch).then_some(0)
}
