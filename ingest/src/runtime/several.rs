//! The sources of a job side by side: one barrier, one status, one place in the checkpoint.
//!
//! Each scan of the query is an [`Ingest`] of its own, with its threads, its place and its clock; a
//! source that is read twice is read by two. Invariant: an epoch is a contiguous stretch of each, and
//! all are cut before any is waited for; only those that are idle are cut last, as windows leave without
//! them up to where the others have come, and their clocks are moved there by the barrier. So what leaves
//! is never met again, and the manifest says what idleness decided: each source's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_engine::epoch;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{JobSpec, LateRule, SourceSpec};
use pelton_engine::memory::Ledger;
use pelton_engine::plan::Query;
use pelton_engine::plan::choice::Candidate;
use pelton_engine::plan::query::Scan;
use pelton_engine::watermark::{Standing, late_from, watermark_without_silent};
use pelton_hardware::Machine;
use serde_json::{Value, json};

use super::shared::Bell;
use super::{EpochInput, Ingest, Setup, SourceState, Status, cpus_of};

pub struct Sources {
    /// By scan of the query.
    each: Vec<Ingest>,
    clocks: Vec<Clock>,
    bell: Arc<Bell>,
}

/// What a scan says of the job's watermark.
#[derive(Clone, Copy, Debug)]
struct Clock {
    delay_us: i64,
    /// `None`: it is never idle, or has no watermark.
    idle_after: Option<Duration>,
    /// As of the last barrier.
    event_time_max: Option<i64>,
    ended: bool,
}

/// What one epoch took in.
pub struct Taken {
    pub input: epoch::EpochInput,
    /// Rows came, or a file that has none and is an epoch all the same.
    pub has_input: bool,
    pub bytes: u64,
}

impl Sources {
    /// Opens every source that the query reads. `from`: as of [`Taken`], for a job that goes on.
    ///
    /// Errors: as [`Ingest::start`].
    pub fn start(
        job: &JobSpec,
        query: &Query,
        machine: &Machine,
        from: Option<&Value>,
        late_by: Option<i64>,
        candidate: &Candidate,
    ) -> Result<Sources> {
        let cores = machine.cores(job.cores.as_deref()).map_err(|error| Error::BadJob {
            rendered: format!("{}: cores: {error}", job.file.display()),
        })?;
        let read: Vec<_> = query.scans.iter().map(|scan| &job.sources[scan.source]).collect();
        let places = match from {
            None => vec![None; read.len()],
            Some(state) => places_of(state, read.len())?.into_iter().map(Some).collect(),
        };
        let clocks = clocks_of(query, &read, &places)?;
        let mut each = Vec::with_capacity(read.len());
        let placed = cpus_of(&read, &cores).into_iter().zip(places);
        for (scan, (cpus, place)) in query.scans.iter().zip(placed) {
            let setup = Setup::new(job, cpus, machine, late_by, candidate.clone());
            each.push(Ingest::start_with(job, Arc::clone(&scan.plan), &setup, place.as_ref())?);
        }
        let bell = Arc::new(Bell::default());
        if each.len() > 1 {
            each.iter().for_each(|ingest| ingest.shared.ring_at_changes(&bell));
        }
        Ok(Sources { each, clocks, bell })
    }

    /// Waits as [`super::Signal::wait`], for a change of any.
    pub fn wait(&self, until: Option<Instant>) -> Status {
        if let [one] = &self.each[..] {
            return one.signal().wait(until);
        }
        loop {
            let rung = self.bell.count();
            let looks: Vec<_> = self.each.iter().map(|ingest| ingest.signal().look()).collect();
            let changed = looks.iter().any(|(changed, _)| *changed);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if changed || left == Some(Duration::ZERO) {
                let mut whole = together(looks.into_iter().map(|(_, status)| status));
                let moved = moved_along(&self.clocks, &self.idle());
                whole.is_clock_due |= moved.iter().any(Option::is_some);
                return whole;
            }
            self.bell.wait(rung, left);
        }
    }

    /// Ends the wait of [`Sources::wait`], from any thread.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        self.each[0].waker()
    }

    /// Cuts the epoch in every source and collects it; as [`Ingest::barrier`].
    pub fn barrier(&mut self, late_by: Option<i64>) -> Result<Taken> {
        let idle = self.idle();
        let mut taken: Vec<Option<EpochInput>> = self.each.iter().map(|_| None).collect();
        for is_idle in [false, true] {
            let moved = moved_along(&self.clocks, &idle);
            let now: Vec<_> = (0..idle.len()).filter(|&at| idle[at] == is_idle).collect();
            now.iter().for_each(|&at| self.each[at].cut(late_by, moved[at]));
            for at in now {
                let input = self.each[at].collect()?;
                (self.clocks[at].event_time_max, self.clocks[at].ended) =
                    (input.event_time_max, input.ended);
                taken[at] = Some(input);
            }
        }
        let (mut scans, mut places) = (Vec::new(), Vec::new());
        let (mut any, mut total) = (false, 0);
        for taken in taken.into_iter().flatten() {
            let EpochInput { cores, event_time_max, state, ended, has_input, bytes, .. } = taken;
            scans.push(epoch::ScanInput { cores, event_time_max, ended });
            places.push(state);
            any |= has_input;
            total += bytes;
        }
        let input = epoch::EpochInput { scans, source: state_of(places) };
        Ok(Taken { input, has_input: any, bytes: total })
    }

    /// Which of several hold nobody back.
    fn idle(&self) -> Vec<bool> {
        let (now, several) = (Instant::now(), self.each.len() > 1);
        let is_idle = |(ingest, clock): (&Ingest, &Clock)| {
            let is_long = |idle_after| ingest.is_idle(now, idle_after);
            several && !clock.ended && clock.idle_after.is_some_and(is_long)
        };
        self.each.iter().zip(&self.clocks).map(is_idle).collect()
    }

    /// As [`Ingest::charge_to`].
    pub fn charge_to(&self, ledger: &Arc<Ledger>) {
        self.each.iter().for_each(|ingest| ingest.charge_to(ledger));
    }

    /// As [`Ingest::committed`].
    pub fn committed(&self, state: &Value) {
        let Ok(places) = places_of(state, self.each.len()) else { return };
        self.each.iter().zip(&places).for_each(|(ingest, place)| ingest.committed(place));
    }

    /// As [`Ingest::forget_before`].
    pub fn forget_before(&self, oldest: &Value) -> Result<()> {
        let places = places_of(oldest, self.each.len())?;
        let mut each = self.each.iter().zip(&places);
        each.try_for_each(|(ingest, place)| ingest.forget_before(place))
    }

    /// Ends the threads and waits for them. What was read since the last barrier is forgotten.
    pub fn stop(self) {}
}

/// The clocks of the scans as they begin. Spark knows no idleness: by its rule of lateness no source is
/// ever idle, nor is one without a watermark.
fn clocks_of(
    query: &Query,
    read: &[&SourceSpec],
    places: &[Option<SourceState>],
) -> Result<Vec<Clock>> {
    let of = |((scan, source), place): ((&Scan, &&SourceSpec), &Option<SourceState>)| {
        let rule = scan.plan.watermark.filter(|watermark| watermark.late == LateRule::Row);
        let spec = source.watermark.as_ref().filter(|_| rule.is_some());
        let event_time_max = place.as_ref().map(SourceState::event_time_max).transpose()?;
        Ok(Clock {
            delay_us: rule.map_or(0, |watermark| watermark.delay_us),
            idle_after: spec.map(|spec| spec.idle_timeout),
            event_time_max: event_time_max.flatten(),
            ended: false,
        })
    };
    query.scans.iter().zip(read).zip(places).map(of).collect()
}

/// The event times to which the clocks of idle scans move on, where they are behind.
fn moved_along(clocks: &[Clock], idle: &[bool]) -> Vec<Option<i64>> {
    let standings = clocks.iter().zip(idle).filter(|(clock, _)| clock.idle_after.is_some());
    let standings = standings.map(|(clock, &is_idle)| Standing {
        delay_us: clock.delay_us,
        event_time_max: clock.event_time_max,
        is_silent: is_idle || clock.ended,
    });
    let watermark = watermark_without_silent(standings);
    let moved = |(clock, &is_idle): (&Clock, &bool)| {
        let to = late_from(watermark.filter(|_| is_idle)?, clock.delay_us);
        (Some(to) > clock.event_time_max).then_some(to)
    };
    clocks.iter().zip(idle).map(moved).collect()
}

/// How several sources stand as one. An epoch is full once one of them is and the others have nothing
/// more for it: so each gives as much as it may, as in Spark.
fn together(all: impl Iterator<Item = Status>) -> Status {
    let mut whole = Status { caught_up: true, ended: true, ..Status::default() };
    let mut all_rest = true;
    for status in all {
        all_rest &= status.full || status.caught_up;
        whole.rows += status.rows;
        whole.bytes += status.bytes;
        whole.first_row_at = whole.first_row_at.into_iter().chain(status.first_row_at).min();
        whole.caught_up &= status.caught_up;
        whole.ended &= status.ended;
        whole.crowded |= status.crowded;
        whole.full |= status.full;
        whole.stalls += status.stalls;
        whole.is_clock_due |= status.is_clock_due;
        whole.failed = whole.failed.or(status.failed);
    }
    whole.full &= all_rest;
    whole
}

/// The place of each scan as one value, for the manifest; that of a single one as it is.
fn state_of(mut places: Vec<SourceState>) -> Value {
    match places.len() {
        1 => places.remove(0).0,
        _ => json!({ "scans": places.into_iter().map(|place| place.0).collect::<Vec<_>>() }),
    }
}

/// The places of so many scans.
///
/// Errors: `Failed` for a state of another number of scans.
pub fn places_of(state: &Value, scans: usize) -> Result<Vec<SourceState>> {
    if scans == 1 {
        return Ok(vec![SourceState(state.clone())]);
    }
    match state.get("scans").and_then(Value::as_array) {
        Some(places) if places.len() == scans => {
            Ok(places.iter().cloned().map(SourceState).collect())
        }
        _ => Err(Error::failed(format!(
            "the checkpoint is not of {scans} scans: start anew with an empty checkpoint path"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_engine::watermark::watermark_after;

    #[test]
    fn places_of_several_scans_go_both_ways() {
        let places = vec![SourceState(json!({"byte": 7})), SourceState(json!({"byte": 9}))];
        let state = state_of(places.clone());
        assert_eq!(places_of(&state, 2).unwrap(), places);
        assert!(places_of(&state, 3).is_err());
        let one = state_of(places[..1].to_vec());
        assert_eq!(one, json!({"byte": 7}), "as older checkpoints have it");
        assert_eq!(places_of(&one, 1).unwrap(), places[..1]);
        assert!(places_of(&one, 2).is_err());
    }

    const SECOND: i64 = 1_000_000;

    /// Scans by (greatest event time, delay, how they stand): 'a' active, 'i' idle, 'e' ended.
    fn check(scans: &[(Option<i64>, i64, char)], expected: &[Option<i64>]) -> Vec<Clock> {
        let mut clocks: Vec<Clock> = scans
            .iter()
            .map(|&(time, delay, stands)| Clock {
                delay_us: delay * SECOND,
                idle_after: Some(Duration::from_secs(30)),
                event_time_max: time.map(|time| time * SECOND),
                ended: stands == 'e',
            })
            .collect();
        let idle: Vec<bool> = scans.iter().map(|scan| scan.2 == 'i').collect();
        let moved = moved_along(&clocks, &idle);
        let expected: Vec<_> = expected.iter().map(|time| time.map(|time| time * SECOND)).collect();
        assert_eq!(moved, expected, "{scans:?}");
        for (clock, to) in clocks.iter_mut().zip(moved) {
            clock.event_time_max = clock.event_time_max.max(to);
        }
        assert_eq!(moved_along(&clocks, &idle), vec![None; idle.len()], "it moves once");
        clocks
    }

    #[test]
    fn the_clock_of_an_idle_source_moves_on_to_where_the_others_have_come() {
        check(&[(Some(100), 0, 'a'), (Some(50), 0, 'i')], &[None, Some(100)]);
        check(&[(Some(100), 10, 'a'), (None, 5, 'i')], &[None, Some(95)]);
        check(&[(Some(50), 0, 'a'), (Some(100), 0, 'i')], &[None, None]);
        check(&[(Some(50), 0, 'a'), (Some(100), 0, 'a')], &[None, None]);
        check(&[(None, 0, 'a'), (Some(100), 0, 'i')], &[None, None]);
    }

    #[test]
    fn where_all_sources_are_idle_or_have_ended_the_greatest_counts() {
        check(&[(Some(100), 0, 'i'), (Some(50), 0, 'i')], &[None, Some(100)]);
        check(&[(Some(100), 0, 'e'), (Some(50), 10, 'i')], &[None, Some(110)]);
        check(&[(None, 0, 'i'), (None, 0, 'i')], &[None, None]);
    }

    #[test]
    fn a_row_below_the_watermark_of_the_others_is_late_once_the_clock_has_moved() {
        let clocks = check(&[(Some(100), 10, 'a'), (Some(50), 3, 'i')], &[None, Some(93)]);
        let back = clocks[1];
        let watermark = watermark_after(back.event_time_max.unwrap(), back.delay_us);
        assert_eq!(watermark, 90 * SECOND, "what has left by it is late");
    }

    #[test]
    fn an_epoch_is_full_once_no_source_has_more_for_it() {
        let of = |full, caught_up| Status { full, caught_up, ..Status::default() };
        let full = |all: [(bool, bool); 2]| {
            together(all.into_iter().map(|(full, caught_up)| of(full, caught_up))).full
        };
        assert!(full([(true, false), (true, false)]));
        assert!(full([(true, false), (false, true)]));
        assert!(!full([(true, false), (false, false)]), "the other may still give");
        assert!(!full([(false, true), (false, true)]), "nobody is full");
    }
}
