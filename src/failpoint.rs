//! What the kill harness asks for in the environment: an end at a named place of the run.
//!
//! `PELTON_FAIL=PLACE:N` kills this process with SIGKILL when it comes to the place for the N-th time;
//! `PELTON_FAIL_TRACE=FILE` keeps the last place in a file, so that whoever kills from outside knows
//! where. Without them nothing is installed and each place costs one load.
//!
//! A build with the feature `seeded-bugs` takes `PELTON_BUG=NAME` as well (`pelton_engine::seeded`).

use std::env;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pelton_engine::error::{Error, Result};
use pelton_engine::failpoint;

/// Bytes of a place's name in the trace.
const NAME_BYTES: usize = 16;
/// Places that other threads than the run's own come to; the trace leaves them out.
const BESIDE: [&str; 4] = ["fetch", "decode", "disk", "log"];

struct Asked {
    end: Option<(String, AtomicU64)>,
    trace: Option<File>,
}

static ASKED: OnceLock<Asked> = OnceLock::new();

/// Reads the environment.
///
/// Errors: `BadJob` where it asks for something that is no place and number.
pub fn listen() -> Result<()> {
    #[cfg(feature = "seeded-bugs")]
    put_in_a_bug()?;
    let (end, trace) = (env::var("PELTON_FAIL").ok(), env::var_os("PELTON_FAIL_TRACE"));
    if end.is_none() && trace.is_none() {
        return Ok(());
    }
    let refused = |what: String| Error::BadJob { rendered: what };
    let end = end
        .map(|text| {
            let parsed = text.split_once(':').and_then(|(place, nth)| {
                Some((place.to_owned(), AtomicU64::new(nth.parse::<u64>().ok()?)))
            });
            parsed.ok_or_else(|| refused(format!("PELTON_FAIL={text}: expected PLACE:NUMBER")))
        })
        .transpose()?;
    let trace = trace
        .map(|path| {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
            file.map_err(|error| refused(format!("PELTON_FAIL_TRACE={path:?}: {error}")))
        })
        .transpose()?;
    if ASKED.set(Asked { end, trace }).is_ok() {
        failpoint::on_reach(reached);
    }
    Ok(())
}

#[cfg(feature = "seeded-bugs")]
fn put_in_a_bug() -> Result<()> {
    let Ok(name) = env::var("PELTON_BUG") else { return Ok(()) };
    if pelton_engine::seeded::choose(&name).is_none() {
        let rendered = format!("PELTON_BUG={name}: there is no bug of this name");
        return Err(Error::BadJob { rendered });
    }
    eprintln!("pelton: this process has the bug {name}");
    Ok(())
}

fn reached(place: &'static str) {
    let Some(Asked { end, trace }) = ASKED.get() else { return };
    if let Some(trace) = trace.as_ref().filter(|_| !BESIDE.contains(&place)) {
        let mut name = [b' '; NAME_BYTES];
        name[..place.len()].copy_from_slice(place.as_bytes());
        // A trace that cannot be written is noticed by whoever reads it.
        let _ = trace.write_all_at(&name, 0);
    }
    if let Some((at, left)) = end.as_ref().filter(|(at, _)| at == place)
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        eprintln!("pelton: PELTON_FAIL ends this process at {at}");
        // SAFETY: getpid and kill take integers and touch no memory of this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
