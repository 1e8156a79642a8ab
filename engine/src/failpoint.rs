//! Named places of a run at which a test may end the process.
//!
//! The process says once what is to happen at them ([`on_reach`]); without that each costs one load.
//! Places, in the order of a run: `recover` (state is restored), `reopen` (outputs are open), `fetch`
//! and `decode` (a range of a file), `barrier`, `merge`, `stage` (rows are durable, nothing is
//! committed), `checkpoint` (the delta is), `commit` (past the commit point), `publish` (files have
//! their names, the ledger of the directory does not), `gc`, `idle` (the epoch is through); `log` (rows
//! of a stream wait for their write-ahead log); and `disk` before every operation of a local disk.

use std::sync::OnceLock;

static ON_REACH: OnceLock<fn(&'static str)> = OnceLock::new();

/// Says what is to happen at every place, for the rest of the process; the first call counts.
pub fn on_reach(act: fn(&'static str)) {
    // A second call would be a second reader of the same environment: the first one is as good.
    let _ = ON_REACH.set(act);
}

/// The run has come to this place.
#[inline]
pub fn reach(place: &'static str) {
    if let Some(act) = ON_REACH.get() {
        act(place);
    }
}
