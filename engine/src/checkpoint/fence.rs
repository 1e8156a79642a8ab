//! Which of two processes owns a directory of checkpoints: the later one.
//!
//! Each run takes the next number, and a run that sees a greater one than its own stops and touches
//! nothing more. On one machine the lock of the directory keeps two runs apart already; the fence is
//! for what a lock does not reach: a lock file removed by hand, a network file system, an object
//! store. Between its look at the fences and its publication a zombie can still win one epoch's
//! name; then the later run fails at that epoch, because a manifest's name is given once, and goes
//! on from the zombie's manifest when it is started again. The chain of manifests never forks. A name
//! that was given, collected and so won a second time is no commit: the zombie looks at the fences
//! once more before any output follows, and who collected that name had taken its number before.

use std::io;

use serde::{Deserialize, Serialize};

use super::manifest::{FORMAT, sealed};
use crate::error::{Error, Result};
use crate::storage::Storage;

#[derive(Serialize, Deserialize)]
struct Fence<'a> {
    format: u32,
    fence: u64,
    attempt: &'a str,
}

/// `fence-000000000003.json`.
fn file_name(fence: u64) -> String {
    format!("fence-{fence:012}.json")
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("fence-")?.strip_suffix(".json")?.parse().ok()
}

/// Takes the next number; runs that have a lesser one are out from here on.
pub(super) fn take(storage: &dyn Storage, attempt: &str) -> io::Result<u64> {
    let mut next = newest(storage)?.map_or(1, |fence| fence + 1);
    loop {
        let text = serde_json::to_string(&Fence { format: FORMAT, fence: next, attempt })
            .expect("a fence is plain data");
        match storage.publish(&file_name(next), &sealed(&text)) {
            // Another process came at the same moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => next += 1,
            taken => return taken.map(|()| next),
        }
    }
}

fn newest(storage: &dyn Storage) -> io::Result<Option<u64>> {
    Ok(storage.list("")?.iter().filter_map(|name| number_of(name)).max())
}

/// Errors: `Unavailable` where a later run owns the directory; `StateIo` where it cannot be read.
pub(super) fn check(storage: &dyn Storage, own: u64) -> Result<()> {
    let location = storage.location();
    let newest = newest(storage).map_err(|source| Error::StateIo {
        what: format!("cannot list the checkpoints in {location}"),
        source,
    })?;
    if newest.is_none_or(|newest| newest <= own) {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: format!(
            "another process has taken over the checkpoints in {location} (its number is {}, this \
             one's is {own}); nothing more was published by this one",
            newest.unwrap_or_default()
        ),
        fix: "stop one of the two, or give each a [checkpoint] path of its own".into(),
    })
}
