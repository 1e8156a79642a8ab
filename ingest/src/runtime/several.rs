//! The sources of a job side by side: one barrier, one status, one place in the checkpoint.
//!
//! Each scan of the query is an [`Ingest`] of its own, with its threads, its place and its clock; a
//! source that is read twice is read by two. Invariant: an epoch is a contiguous stretch of each, and
//! all are cut before any is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_engine::epoch;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::JobSpec;
use pelton_engine::memory::Ledger;
use pelton_engine::plan::Query;
use pelton_engine::plan::choice::Candidate;
use pelton_hardware::Machine;
use serde_json::{Value, json};

use super::shared::Bell;
use super::{EpochInput, Ingest, Setup, SourceState, Status, cpus_of};

pub struct Sources {
    /// By scan of the query.
    each: Vec<Ingest>,
    bell: Arc<Bell>,
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
        Ok(Sources { each, bell })
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
                return together(looks.into_iter().map(|(_, status)| status));
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
        self.each.iter_mut().for_each(|ingest| ingest.cut(late_by));
        let (mut scans, mut places) = (Vec::new(), Vec::new());
        let (mut any, mut total) = (false, 0);
        for ingest in &mut self.each {
            let taken = ingest.collect()?;
            let EpochInput { cores, event_time_max, state, ended, has_input, bytes, .. } = taken;
            scans.push(epoch::ScanInput { cores, event_time_max, ended });
            places.push(state);
            any |= has_input;
            total += bytes;
        }
        let input = epoch::EpochInput { scans, source: state_of(places) };
        Ok(Taken { input, has_input: any, bytes: total })
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
