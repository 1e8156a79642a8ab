//! What lies in a directory of checkpoints, for recovery and for the commands that look at it.
//!
//! Nothing here takes a directory over: reading needs neither lock nor fence.

use std::io;

use super::fence;
use super::files::{read_state, verify_state};
use super::manifest::{self, Kept, Manifest, Unusable, identity};
use super::recovery::Lying;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::seeded::{self, Bug};
use crate::state::StateStore;
use crate::storage::Storage;

/// All manifests, in the order of their epochs, whole or not.
///
/// Errors: `StateIo` where the directory or a file cannot be read at all.
pub fn manifests(storage: &dyn Storage) -> Result<Vec<Lying>> {
    lying(storage, manifest::epoch_of)
}

/// Manifests whose commit an output decides, in the order of their names.
pub fn prepared(storage: &dyn Storage) -> Result<Vec<Lying>> {
    lying(storage, manifest::prepared_epoch_of)
}

fn lying(storage: &dyn Storage, epoch_of: fn(&str) -> Option<u64>) -> Result<Vec<Lying>> {
    let io = |source| Error::StateIo {
        what: format!("cannot read the checkpoints in {}", storage.location()),
        source,
    };
    let mut all = Vec::new();
    for name in storage.list("").map_err(io)? {
        let Some(epoch) = epoch_of(&name) else { continue };
        match storage.read(&name) {
            Ok(bytes) => all.push(Lying { found: read(&bytes, epoch), name, epoch }),
            // A running job collects its garbage.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
    }
    Ok(all)
}

fn read(bytes: &[u8], epoch: u64) -> Result<Kept, Unusable> {
    let manifest = Manifest::from_bytes(bytes)?;
    if manifest.epoch != epoch {
        return Err(Unusable::Foreign { epoch: manifest.epoch });
    }
    Ok(Kept { manifest, hash: identity(bytes) })
}

/// The newest manifest that is whole, or that of an epoch.
///
/// Errors: `StateIo` with what is there instead.
pub fn find(storage: &dyn Storage, epoch: Option<u64>) -> Result<Kept> {
    let all = manifests(storage)?;
    let wanted = |lying: &&Lying| epoch.is_none_or(|epoch| lying.epoch == epoch);
    let found = all.iter().rev().filter(wanted).find_map(|lying| lying.found.clone().ok());
    found.ok_or_else(|| {
        let there: Vec<String> = all.iter().map(|lying| lying.epoch.to_string()).collect();
        let what = match (epoch, there.is_empty()) {
            (_, true) => "there is no checkpoint".to_owned(),
            (Some(epoch), false) => {
                format!("there is no whole checkpoint of epoch {epoch}, only {}", there.join(", "))
            }
            (None, false) => format!("none of the epochs {} is whole", there.join(", ")),
        };
        Error::StateIo {
            what: format!("cannot use the checkpoints in {}", storage.location()),
            source: io::Error::new(io::ErrorKind::NotFound, what),
        }
    })
}

/// Reads every file that a manifest names. What is wrong, a line each; nothing where all is whole.
pub fn faults(storage: &dyn Storage, manifest: &Manifest) -> Vec<String> {
    let wrong = |file| verify_state(storage, file).err().map(|error| error.to_string());
    manifest.files.iter().filter_map(wrong).collect()
}

/// The state of a manifest, merged from its files.
///
/// Errors: `StateIo` where a file is damaged, or where the state has no table (no groups, format 1).
pub fn state(storage: &dyn Storage, manifest: &Manifest) -> Result<StateStore> {
    let table = manifest.table.as_ref().ok_or_else(|| Error::StateIo {
        what: format!("epoch {} in {} has no table", manifest.epoch, storage.location()),
        source: io::Error::new(
            io::ErrorKind::Unsupported,
            "its query has no groups, or a version before format 2 wrote it",
        ),
    })?;
    let mut store = table.store()?;
    // The table is of the lowest level of the plan.
    let files = || manifest.files.iter().filter(|file| file.level == 0);
    for file in files() {
        store.settle(file.before_us)?;
        for partial in read_state(storage, file)? {
            store.merge_file(&partial, &table.columns)?;
        }
        store.settle(file.watermark_us)?;
    }
    // The last epochs may have evicted and written nothing.
    if files().next_back().is_some_and(|file| file.watermark_us.is_some()) {
        store.settle(manifest.watermark_us)?;
    }
    Ok(store)
}

/// Removes all manifests but the newest `kept`, and what none of these names; not what is newer than
/// epoch and fence, no base of the attempt `unnamed`, which makes one now, and nothing once a later run
/// has taken over. What cannot be read or removed stays.
pub(super) fn collect(
    storage: &dyn Storage,
    kept: usize,
    (epoch, fence): (u64, u64),
    unnamed: Option<&str>,
) {
    let Ok(names) = storage.list("") else { return };
    // Asked of the same list: what a later run makes is not in it, or its fence is.
    if names.iter().filter_map(|name| fence::number_of(name)).any(|number| number > fence) {
        return;
    }
    let mut epochs: Vec<u64> = names.iter().filter_map(|name| manifest::epoch_of(name)).collect();
    epochs.sort_unstable_by(|a, b| b.cmp(a));
    let mut needed = Vec::new();
    for &epoch in epochs.iter().take(kept) {
        let name = manifest::file_name(epoch);
        let whole = storage.read(&name).ok().and_then(|bytes| read(&bytes, epoch).ok());
        // What a damaged one names nobody knows.
        let Some(whole) = whole else { return };
        if !seeded::is(Bug::NeededCollected) {
            needed.extend(whole.manifest.files.into_iter().map(|file| file.name));
        }
        needed.push(name);
    }
    let is_done = |name: &String| {
        let of_state = ["manifest-", "delta-", "base-"].iter().any(|kind| name.starts_with(kind));
        let was_prepared = manifest::prepared_epoch_of(name).is_some_and(|at| at <= epoch);
        let had_fence = fence::number_of(name).is_some_and(|number| number < fence);
        let in_work = name.starts_with("base-") && unnamed.is_some_and(|by| name.contains(by));
        (of_state && !in_work && !needed.contains(name)) || was_prepared || had_fence
    };
    for name in names.iter().filter(|name| is_done(name)) {
        // Tried again after the next epoch.
        let _ = storage.remove(name);
        failpoint::reach("gc");
    }
}

/// Removes the checkpoint of an epoch and what no other names.
///
/// Errors: `StateIo` where it is not there, where it is the only one, or where it cannot be removed.
pub fn drop_epoch(storage: &dyn Storage, epoch: u64) -> Result<Vec<String>> {
    let all = manifests(storage)?;
    let refuse = |what: String| Error::StateIo {
        what: format!("cannot drop epoch {epoch} in {}", storage.location()),
        source: io::Error::new(io::ErrorKind::InvalidInput, what),
    };
    let Some(dropped) = all.iter().find(|lying| lying.epoch == epoch) else {
        return Err(refuse("it is not there".into()));
    };
    let others = || all.iter().filter(|lying| lying.epoch != epoch);
    let newest = all.last().is_some_and(|lying| lying.epoch == epoch);
    if newest && dropped.found.is_ok() {
        let why = "it is the newest: outputs may stand on it; remove the directory to begin anew";
        return Err(refuse(why.into()));
    }
    if !others().any(|lying| lying.found.is_ok()) {
        return Err(refuse("no other one is whole".into()));
    }
    let needed: Vec<&str> = others()
        .filter_map(|lying| lying.found.as_ref().ok())
        .flat_map(|kept| kept.manifest.files.iter().map(|file| file.name.as_str()))
        .collect();
    let theirs = dropped.found.iter().flat_map(|kept| &kept.manifest.files);
    let files = theirs.map(|file| &file.name).filter(|name| !needed.contains(&name.as_str()));
    let gone: Vec<String> = [&dropped.name].into_iter().chain(files).cloned().collect();
    for name in &gone {
        match storage.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::StateIo {
                    what: format!("cannot remove {name}"),
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(gone)
}
