//! Which checkpoint a run goes on from. Pure: it is told what lies there, it reads no file.
//!
//! The newest manifest decides, by its epoch, never by a clock; with an output whose transaction is
//! the commit point, that output's marker decides, and exactly the checkpoint that it names is
//! taken. A manifest that is damaged may be passed over for an older one: its epoch is computed
//! again. Whether that is allowed depends on what left already, which the outputs know: each compares
//! what it holds with the older checkpoint when it is opened, and stops the job where it is ahead.
//! A manifest of a newer format is never passed over: a newer version committed it.

use super::manifest::{Kept, Unusable};
use crate::sink::Marker;

/// A manifest's file: its name, and what reading it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Lying {
    pub name: String,
    pub epoch: u64,
    pub found: Result<Kept, Unusable>,
}

/// What to go on from.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// These, the first that can be restored; the names are of damaged ones before it.
    From {
        candidates: Vec<Kept>,
        damaged: Vec<String>,
    },
    /// A prepared manifest that its output has committed, and its name; a manifest that is damaged
    /// bears the name that it is to get.
    Confirm {
        kept: Box<Kept>,
        prepared: String,
        damaged: Option<String>,
    },
    Stop(String),
}

/// What manifests (in any order), prepared manifests and the outputs' marker allow.
pub fn decide(mut manifests: Vec<Lying>, prepared: Vec<Lying>, marker: &Marker) -> Decision {
    manifests.sort_by_key(|lying| std::cmp::Reverse(lying.epoch));
    if let Some((lying, format)) = manifests.iter().find_map(newer) {
        return Decision::Stop(format!(
            "{} has format {format}, this version reads formats up to {}: run the version that wrote it",
            lying.name,
            super::manifest::FORMAT
        ));
    }
    match marker {
        Marker::Manifest => by_manifest(manifests),
        Marker::Output { name, committed } => by_output(
            manifests,
            prepared,
            name,
            committed.as_ref().map(|c| (c.epoch, c.manifest_hash)),
        ),
    }
}

fn newer(lying: &Lying) -> Option<(&Lying, u32)> {
    match lying.found {
        Err(Unusable::Newer { format }) => Some((lying, format)),
        _ => None,
    }
}

fn by_manifest(manifests: Vec<Lying>) -> Decision {
    let (mut candidates, mut damaged) = (Vec::new(), Vec::new());
    for lying in manifests {
        match lying.found {
            Ok(kept) if kept.manifest.decided_by.is_some() && candidates.is_empty() => {
                let sink = kept.manifest.decided_by.unwrap_or_default();
                return Decision::Stop(format!(
                    "epoch {} was committed by the output \"{sink}\", which the job does not have any more",
                    lying.epoch
                ));
            }
            Ok(kept) => candidates.push(kept),
            Err(_) if candidates.is_empty() => damaged.push(lying.name),
            // An older one than what is used.
            Err(_) => {}
        }
    }
    if candidates.is_empty() && !damaged.is_empty() {
        return Decision::Stop(format!(
            "{} is damaged and there is no older one: restore the directory from a copy, or remove \
             it to begin anew",
            damaged.join(", ")
        ));
    }
    Decision::From { candidates, damaged }
}

fn by_output(
    manifests: Vec<Lying>,
    prepared: Vec<Lying>,
    sink: &str,
    committed: Option<(u64, u128)>,
) -> Decision {
    let theirs = |lying: &Lying| match &lying.found {
        Ok(kept) => kept.manifest.decided_by.is_some(),
        Err(_) => true,
    };
    let Some((epoch, hash)) = committed else {
        return match manifests.iter().find(|lying| theirs(lying)) {
            Some(lying) => Decision::Stop(format!(
                "{} was committed by an output, and \"{sink}\" knows of no commit: it is another \
                 output, or its marker is lost",
                lying.name
            )),
            // The output is new in the job: up to here the manifests decided.
            None => by_manifest(manifests),
        };
    };
    let is_it = |lying: &&Lying| lying.found.as_ref().is_ok_and(|kept| kept.hash == hash);
    if let Some(lying) = manifests.iter().find(is_it) {
        let newest = manifests.first().map_or(0, |lying| lying.epoch);
        if newest > epoch {
            return Decision::Stop(format!(
                "there is a checkpoint of epoch {newest}, and \"{sink}\" says that epoch {epoch} was \
                 the last commit: its marker is not that of this job"
            ));
        }
        let candidates = lying.found.iter().cloned().collect();
        return Decision::From { candidates, damaged: Vec::new() };
    }
    match prepared.into_iter().find(|lying| is_it(&lying)) {
        Some(Lying { name, found: Ok(kept), .. }) => {
            let mut of_epoch = manifests.into_iter().filter(|lying| lying.epoch == epoch);
            let damaged = of_epoch.find(|lying| lying.found.is_err()).map(|lying| lying.name);
            Decision::Confirm { kept: Box::new(kept), prepared: name, damaged }
        }
        _ => Decision::Stop(format!(
            "\"{sink}\" has committed epoch {epoch}, and its checkpoint ({hash:032x}) is not there or \
             damaged; no other one may be used"
        )),
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
