//! When an epoch ends (SEMANTICS 5). Pure: times are durations since the run began.

use std::time::Duration;

use crate::job::spec::Trigger;

/// What the source says of the running epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the first row of the epoch came.
    pub first_row_at: Option<Duration>,
    /// Every split answered "empty".
    pub caught_up: bool,
    /// The input of this run is at its end.
    pub ended: bool,
    /// `max_epoch_bytes` or `max_rows_per_epoch` is reached.
    pub full: bool,
    /// What the epoch holds has become so much that it should leave the cores.
    pub crowded: bool,
    /// The watermark moved on: an epoch without rows would emit or evict by it.
    pub due: bool,
    /// The epoch before is on its way to its commit: one that ends now would wait for that, and its
    /// rows with it. So it takes in more, as long as it can.
    pub committing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Look again when something changed, or at this time.
    Wait(Option<Duration>),
    /// Take over what the cores hold; the epoch goes on.
    Absorb,
    /// End the epoch.
    Cut,
    /// End the epoch and the run.
    Finish,
}

/// Ends epochs of one run.
pub struct Clockwork {
    trigger: Trigger,
    /// `checkpoint.interval`.
    interval: Duration,
    /// Next boundary of an interval trigger.
    boundary: Duration,
}

impl Clockwork {
    pub fn new(trigger: Trigger, interval: Duration) -> Self {
        let boundary = match trigger {
            Trigger::Interval(every) => every,
            _ => Duration::ZERO,
        };
        let interval = match trigger {
            Trigger::Continuous(every) => every,
            _ => interval,
        };
        Clockwork { trigger, interval, boundary }
    }

    pub fn decide(&mut self, now: Duration, progress: Progress) -> Decision {
        if progress.ended {
            return Decision::Finish;
        }
        match self.trigger {
            Trigger::Once if progress.crowded => Decision::Absorb,
            Trigger::Once => Decision::Wait(None),
            Trigger::Interval(every) => self.at_boundary(now, every, progress),
            Trigger::Default | Trigger::AvailableNow | Trigger::Continuous(_) => {
                match progress.first_row_at {
                    Some(_) if progress.full || progress.crowded => Decision::Cut,
                    _ if progress.committing => Decision::Wait(None),
                    None if progress.due && progress.caught_up => Decision::Cut,
                    None => Decision::Wait(None),
                    Some(_) if progress.caught_up => Decision::Cut,
                    Some(first) if now >= first + self.interval => Decision::Cut,
                    Some(first) => Decision::Wait(Some(first + self.interval)),
                }
            }
        }
    }

    /// A boundary without rows passes; one that was missed counts at once, and the next is the
    /// first one after it.
    fn at_boundary(&mut self, now: Duration, every: Duration, progress: Progress) -> Decision {
        if now < self.boundary {
            if progress.crowded {
                return Decision::Absorb;
            }
            return Decision::Wait(Some(self.boundary));
        }
        let passed = now.as_nanos() / every.as_nanos();
        let next = (passed + 1).saturating_mul(every.as_nanos());
        self.boundary = Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
        match progress.first_row_at {
            Some(_) => Decision::Cut,
            None if progress.due => Decision::Cut,
            None => Decision::Wait(Some(self.boundary)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn rows_since(at: u64) -> Progress {
        Progress { first_row_at: Some(ms(at)), ..Progress::default() }
    }

    #[test]
    fn default_ends_an_epoch_an_interval_after_its_first_row() {
        let mut clockwork = Clockwork::new(Trigger::Default, ms(1000));
        let check =
            |c: &mut Clockwork, now, p, expected| assert_eq!(c.decide(ms(now), p), expected);
        check(&mut clockwork, 0, Progress::default(), Decision::Wait(None));
        check(&mut clockwork, 500, rows_since(400), Decision::Wait(Some(ms(1400))));
        check(&mut clockwork, 1400, rows_since(400), Decision::Cut);
        let full = Progress { full: true, ..rows_since(1500) };
        check(&mut clockwork, 1501, full, Decision::Cut);
        let caught_up = Progress { caught_up: true, ..rows_since(1500) };
        check(&mut clockwork, 1501, caught_up, Decision::Cut);
        let idle = Progress { caught_up: true, ..Progress::default() };
        check(&mut clockwork, 9000, idle, Decision::Wait(None));
        let ended = Progress { ended: true, ..Progress::default() };
        check(&mut clockwork, 9001, ended, Decision::Finish);
    }

    #[test]
    fn an_interval_ends_epochs_at_its_boundaries_and_a_missed_one_starts_at_once() {
        let mut clockwork = Clockwork::new(Trigger::Interval(ms(5000)), ms(1000));
        let full = Progress { full: true, ..rows_since(10) };
        assert_eq!(clockwork.decide(ms(20), full), Decision::Wait(Some(ms(5000))));
        assert_eq!(clockwork.decide(ms(5000), rows_since(10)), Decision::Cut);
        assert_eq!(clockwork.decide(ms(5001), rows_since(5001)), Decision::Wait(Some(ms(10_000))));
        assert_eq!(
            clockwork.decide(ms(10_000), Progress::default()),
            Decision::Wait(Some(ms(15_000)))
        );
        assert_eq!(clockwork.decide(ms(27_000), rows_since(5001)), Decision::Cut);
        assert_eq!(
            clockwork.decide(ms(27_001), rows_since(27_001)),
            Decision::Wait(Some(ms(30_000)))
        );
    }

    #[test]
    fn a_watermark_that_moved_asks_for_an_epoch_without_rows_once_the_input_rests() {
        let due = Progress { due: true, ..Progress::default() };
        let at_rest = Progress { caught_up: true, ..due };
        for trigger in [Trigger::Default, Trigger::AvailableNow] {
            let mut clockwork = Clockwork::new(trigger, ms(1000));
            assert_eq!(clockwork.decide(ms(1), due), Decision::Wait(None));
            assert_eq!(clockwork.decide(ms(1), at_rest), Decision::Cut);
        }
        let mut interval = Clockwork::new(Trigger::Interval(ms(5000)), ms(1000));
        assert_eq!(interval.decide(ms(1), at_rest), Decision::Wait(Some(ms(5000))));
        assert_eq!(interval.decide(ms(5000), at_rest), Decision::Cut);
        let mut once = Clockwork::new(Trigger::Once, ms(1000));
        assert_eq!(once.decide(ms(1), at_rest), Decision::Wait(None));
    }

    #[test]
    fn continuous_is_default_by_its_own_time() {
        let mut clockwork = Clockwork::new(Trigger::Continuous(ms(5)), ms(1000));
        assert_eq!(clockwork.decide(ms(40), Progress::default()), Decision::Wait(None));
        assert_eq!(clockwork.decide(ms(42), rows_since(40)), Decision::Wait(Some(ms(45))));
        assert_eq!(clockwork.decide(ms(45), rows_since(40)), Decision::Cut);
        let caught_up = Progress { caught_up: true, ..rows_since(46) };
        assert_eq!(clockwork.decide(ms(46), caught_up), Decision::Cut);
    }

    #[test]
    fn an_epoch_takes_in_more_while_the_one_before_commits_unless_it_is_full() {
        for trigger in [Trigger::Default, Trigger::AvailableNow, Trigger::Continuous(ms(5))] {
            let mut clockwork = Clockwork::new(trigger, ms(1000));
            let committing = Progress { committing: true, caught_up: true, ..rows_since(10) };
            assert_eq!(clockwork.decide(ms(9_000), committing), Decision::Wait(None));
            let due = Progress { due: true, first_row_at: None, ..committing };
            assert_eq!(clockwork.decide(ms(9_000), due), Decision::Wait(None));
            let (full, crowded) =
                (Progress { full: true, ..committing }, Progress { crowded: true, ..committing });
            assert_eq!(clockwork.decide(ms(9_000), full), Decision::Cut);
            assert_eq!(clockwork.decide(ms(9_000), crowded), Decision::Cut);
            let through = Progress { committing: false, ..committing };
            assert_eq!(clockwork.decide(ms(9_000), through), Decision::Cut);
        }
        // What goes by the clock goes by it.
        let mut interval = Clockwork::new(Trigger::Interval(ms(5000)), ms(1000));
        let committing = Progress { committing: true, ..rows_since(10) };
        assert_eq!(interval.decide(ms(5000), committing), Decision::Cut);
    }

    #[test]
    fn once_takes_all_in_one_epoch() {
        let mut clockwork = Clockwork::new(Trigger::Once, ms(1000));
        let full = Progress { full: true, caught_up: true, ..rows_since(10) };
        assert_eq!(clockwork.decide(ms(60_000), full), Decision::Wait(None));
        let crowded = Progress { crowded: true, ..full };
        assert_eq!(clockwork.decide(ms(60_000), crowded), Decision::Absorb);
        let ended = Progress { ended: true, ..full };
        assert_eq!(clockwork.decide(ms(60_001), ended), Decision::Finish);
    }
}
