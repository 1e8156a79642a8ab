//! The thread beside the cores: looks for new files and bytes, or lets generated rows come due.
//!
//! Invariant: it only ever adds to what may be read. It lacks notification by the kernel: a listing
//! ten times a second is cheap, works on every file system and is late by 100 ms at most.

use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};

use super::say;
use super::shared::Shared;
use crate::source::files::Discovery;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A listing may take this share of the time at most: one of a huge directory is made less often.
const LOOK_SHARE: u32 = 10;
/// Generated rows come due one by one, but in turns that are no shorter than this.
const PACE: Duration = Duration::from_millis(1);

pub(crate) enum Scout {
    Files(Box<Discovery>),
    /// Rows from `first` on, up to `end`, so many a second.
    Rows {
        first: u64,
        end: u64,
        rate: u64,
        bounded: bool,
    },
}

impl Scout {
    /// Runs until the job stops.
    ///
    /// Errors: a file is another than it was.
    pub fn run(self, shared: &Shared) -> Result<()> {
        match self {
            Scout::Files(discovery) => look(*discovery, shared),
            Scout::Rows { first, end, rate, bounded } => {
                pace(first, end, rate, bounded, shared);
                Ok(())
            }
        }
    }
}

fn look(mut discovery: Discovery, shared: &Shared) -> Result<()> {
    let mut trouble: Option<String> = None;
    let mut pause = LOOK_EVERY;
    while sleep(shared, pause) {
        let begun = Instant::now();
        match discovery.scan() {
            Ok(changes) => {
                if trouble.take().is_some() {
                    say("the source can be listed again");
                }
                if !changes.is_empty() {
                    let mut inner = shared.lock();
                    changes.into_iter().for_each(|change| inner.apply(change));
                    shared.notify(inner);
                }
            }
            // Once running, what is not there now may come back.
            Err(error @ Error::Unavailable { .. }) => {
                shared.lock().begin_silence_anew();
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    say(&format!("{error}; trying again"));
                    trouble = Some(error);
                }
            }
            Err(error) => return Err(error),
        }
        pause = LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE);
    }
    Ok(())
}

/// Lets each row be there when its time has come: row `n` is due `(n + 1) / rate` seconds after the first.
fn pace(first: u64, end: u64, rate: u64, bounded: bool, shared: &Shared) {
    let begun = Instant::now();
    let mut due = first;
    while sleep(shared, time_of(due - first + 1, rate).saturating_sub(begun.elapsed()).max(PACE)) {
        due = first.saturating_add(rows_by(begun.elapsed(), rate)).min(end);
        let mut inner = shared.lock();
        let board = inner.board.as_mut().expect("generated rows have a board");
        board.update_file(0, due, true);
        let done = due == end;
        if done && bounded {
            board.close();
        }
        shared.notify(inner);
        if done {
            return;
        }
    }
}

/// How many rows have come by then, at so many a second.
fn rows_by(time: Duration, rate: u64) -> u64 {
    (time.as_nanos() * u128::from(rate) / 1_000_000_000) as u64
}

/// When so many rows have come.
fn time_of(rows: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(rows % rate) * 1_000_000_000;
    Duration::from_secs(rows / rate)
        + Duration::from_nanos(nanoseconds.div_ceil(u128::from(rate)) as u64)
}

/// Waits; `false`: the job stops.
fn sleep(shared: &Shared, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    let mut inner = shared.lock();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match (inner.stop, left) {
            (true, _) => return false,
            (false, Duration::ZERO) => return true,
            (false, left) => inner = shared.wait_inside(inner, Some(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Who waits for a row wakes up when it is there, and not before: no turn is for nothing.
        #[test]
        fn a_row_is_there_at_its_time_and_not_before(
            rows in 1..1_000_000_000_000u64,
            rate in 1..1_000_000_000u64,
        ) {
            let time = time_of(rows, rate);
            prop_assert!(rows_by(time, rate) >= rows);
            prop_assert!(rows_by(time - Duration::from_nanos(1), rate) < rows);
        }
    }
}
