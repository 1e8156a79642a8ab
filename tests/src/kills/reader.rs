//! Reads what becomes visible, while the job runs and is killed.
//!
//! Invariant: a file is read once, when it is first seen; from then on it must stay as it is, and no
//! file of an earlier epoch may appear after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pelton_bench::oracle::Fates;
use serde_json::Value;

use super::workload::Answer;
use crate::program::Ended;

pub struct Reader {
    dir: PathBuf,
    out: BTreeMap<u64, u64>,
    letters: BTreeMap<u64, u64>,
    /// Fates by epoch, from manifests and from what the program says.
    fates: BTreeMap<u64, Fates>,
}

impl Reader {
    pub fn new(dir: &Path) -> Reader {
        Reader {
            dir: dir.to_path_buf(),
            out: BTreeMap::new(),
            letters: BTreeMap::new(),
            fates: BTreeMap::new(),
        }
    }

    /// The newest epoch of which output is visible.
    pub fn newest(&self) -> Option<u64> {
        epochs(&self.dir.join("out")).ok()?.into_iter().map(|(epoch, _)| epoch).max()
    }

    /// Reads all that is new. Errors: what must not be.
    pub fn look(&mut self, answer: &mut Answer) -> Result<(), String> {
        let header = answer.query.header();
        let out = self.dir.join("out");
        for path in fresh(&out, &mut self.out)? {
            let text = read(&path)?;
            let mut lines = text.split_terminator('\n');
            if lines.next() != Some(header) || !text.ends_with('\n') {
                return Err(format!("{} is not whole", path.display()));
            }
            for line in lines {
                answer.see(line).map_err(|why| format!("{}: {why}", path.display()))?;
            }
        }
        for path in fresh(&self.dir.join("state/dead_letters"), &mut self.letters)? {
            for line in read(&path)?.lines() {
                let letter: Value = serde_json::from_str(line)
                    .map_err(|error| format!("{}: {error}: {line}", path.display()))?;
                let raw = letter["raw"].as_str().unwrap_or_default();
                answer.see_letter(raw).map_err(|why| format!("{}: {why}", path.display()))?;
            }
        }
        self.manifests()
    }

    /// The counters of the manifests that are kept now.
    fn manifests(&mut self) -> Result<(), String> {
        let Ok(entries) = fs::read_dir(self.dir.join("state")) else { return Ok(()) };
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !(name.starts_with("manifest-") && name.ends_with(".json")) {
                continue;
            }
            // It may be collected at this moment.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let line = text.lines().next().unwrap_or_default();
            let Ok(manifest) = serde_json::from_str::<Value>(line) else { continue };
            let names = ["rows_in", "applied", "filtered", "late", "rejected"];
            self.note(&manifest["epoch"], &manifest["counters"], names)?;
        }
        Ok(())
    }

    /// What a process said of its epochs.
    pub fn heard(&mut self, ended: &Ended) -> Result<(), String> {
        for line in ended.stderr.lines().filter(|line| line.starts_with('{')) {
            // The last line of a process that was killed may be cut.
            let Ok(progress) = serde_json::from_str::<Value>(line) else { continue };
            let names = ["rowsIn", "applied", "filtered", "late", "rejected"];
            self.note(&progress["batchId"], &progress["counters"], names)?;
        }
        Ok(())
    }

    fn note(&mut self, epoch: &Value, counters: &Value, names: [&str; 5]) -> Result<(), String> {
        let epoch = epoch.as_u64().ok_or("an epoch has a number")?;
        let mut counts = [0; 5];
        for (count, name) in counts.iter_mut().zip(names) {
            *count = counters[name].as_u64().ok_or(format!("no {name} in {counters}"))?;
        }
        let [rows_in, applied, filtered, late, rejected] = counts;
        let fates = Fates { rows_in, applied, filtered, late, rejected };
        if rows_in != applied + filtered + late + rejected {
            return Err(format!("the counters of epoch {epoch} do not close: {fates:?}"));
        }
        match self.fates.insert(epoch, fates) {
            Some(before) if before != fates => {
                Err(format!("epoch {epoch} counted {before:?} and then {fates:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The fates of all rows. Errors: an epoch is missing.
    pub fn fates(&self) -> Result<Fates, String> {
        let mut all = Fates::default();
        for (expected, (epoch, fates)) in self.fates.iter().enumerate() {
            if *epoch != expected as u64 {
                return Err(format!("nothing was told of epoch {expected}"));
            }
            all.rows_in += fates.rows_in;
            all.applied += fates.applied;
            all.filtered += fates.filtered;
            all.late += fates.late;
            all.rejected += fates.rejected;
        }
        Ok(all)
    }

    pub fn epochs(&self) -> usize {
        self.fates.len()
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The output files of a directory, with their epochs.
fn epochs(dir: &Path) -> Result<Vec<(u64, PathBuf)>, String> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "_pelton" {
            continue;
        }
        let digits = name.strip_prefix("epoch-").and_then(|rest| rest.split('-').next());
        let epoch = digits.and_then(|digits| digits.parse().ok());
        found.push((epoch.ok_or(format!("{name} lies among the output"))?, path));
    }
    Ok(found)
}

/// Files that were not there before, in the order of their epochs; lengths of the others are compared.
fn fresh(dir: &Path, known: &mut BTreeMap<u64, u64>) -> Result<Vec<PathBuf>, String> {
    let newest = known.keys().next_back().copied();
    let mut found = epochs(dir)?;
    found.sort();
    let gone = known.keys().find(|&&epoch| !found.iter().any(|(there, _)| *there == epoch));
    if let Some(gone) = gone {
        return Err(format!("epoch {gone} was visible in {} and is gone", dir.display()));
    }
    let mut fresh = Vec::new();
    for (epoch, path) in found {
        let length = fs::metadata(&path).map_err(|error| error.to_string())?.len();
        match known.insert(epoch, length) {
            Some(before) if before != length => {
                return Err(format!("{} changed after it was visible", path.display()));
            }
            Some(_) => {}
            None if newest > Some(epoch) => {
                return Err(format!("{} appeared after epoch {newest:?}", path.display()));
            }
            None => fresh.push(path),
        }
    }
    Ok(fresh)
}
