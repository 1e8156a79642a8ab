//! The suites: a job, its data's name, its right answer, and the same query for the peers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::oracle::{self, SensorsRow};
use crate::output;

/// Sums of doubles depend on their order in the peers; ours do not.
const PEERS_TOLERANCE: f64 = 1e-9;

/// Behind the generator's disorder of a second: no row is late.
const DELAY_MS: i64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Windows of ten seconds by device over CSV: count, mean, least and most.
    Sensors,
    /// Words counted over lines of text.
    Words,
}

impl Suite {
    pub const ALL: [Suite; 2] = [Suite::Sensors, Suite::Words];

    pub fn name(self) -> &'static str {
        match self {
            Suite::Sensors => "sensors",
            Suite::Words => "words",
        }
    }

    pub fn from_name(name: &str) -> Option<Suite> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    pub fn header(self) -> &'static str {
        match self {
            Suite::Sensors => oracle::SENSORS_HEADER,
            Suite::Words => oracle::WORDS_HEADER,
        }
    }

    pub(crate) fn peers_script(self) -> &'static str {
        match self {
            Suite::Sensors => include_str!("../peers/sensors.py"),
            Suite::Words => include_str!("../peers/words.py"),
        }
    }

    /// The job file: the way a user would write it, exactly-once into CSV files.
    pub(crate) fn job(self, data: &Path, cpus: &[usize]) -> String {
        let name = self.name();
        let (sql, source) = match self {
            Suite::Sensors => (
                oracle::SENSORS_SQL,
                format!(
                    "format = \"csv\"\nschema = \"{}\"\ncolumns.ts = {{ format = \"epoch_ms\" }}\n\
                     watermark = {{ column = \"ts\", delay = \"{DELAY_MS}ms\" }}\n",
                    oracle::SENSORS_SCHEMA
                ),
            ),
            Suite::Words => (oracle::WORDS_SQL, "format = \"text\"\n".to_string()),
        };
        let cores: Vec<String> = cpus.iter().map(usize::to_string).collect();
        format!(
            "name = \"bench-{name}\"\ncores = \"{}\"\n\n\
             [source.{name}]\ntype = \"file\"\npath = {}\n{source}\n\
             [query]\nsql = \"\"\"\n{sql}\n\"\"\"\nmode = \"append\"\n\n\
             [sink.out]\ntype = \"file\"\npath = \"out\"\nformat = \"csv\"\n\n\
             [checkpoint]\npath = \"checkpoint\"\n",
            cores.join(","),
            toml_string(data),
        )
    }

    /// Compares every row of our result and of the peers' with the oracle's answer; returns their
    /// number.
    ///
    /// Cost: some hundreds of megabytes and seconds; the oracle is naive.
    pub(crate) fn check(
        self,
        data: &Path,
        ours: &Path,
        peers: &[(&str, PathBuf)],
    ) -> Result<u64, Error> {
        let open = |path: &Path| {
            File::open(path)
                .map(BufReader::new)
                .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))
        };
        match self {
            Suite::Sensors => {
                let rows = oracle::sensors(open(data)?, DELAY_MS).rows;
                equal(ours, self.header(), rows.iter().map(SensorsRow::to_string))?;
                for (engine, path) in peers {
                    let mut found = parsed(open(path)?, sensors_row)?;
                    found.sort_by(|a, b| (a.start_ms, &a.device).cmp(&(b.start_ms, &b.device)));
                    alike(engine, &rows, &found, sensors_alike)?;
                }
                Ok(rows.len() as u64)
            }
            Suite::Words => {
                let rows = oracle::words(open(data)?);
                let lines = rows.iter().map(|(word, count)| format!("{word},{count}"));
                equal(ours, self.header(), lines)?;
                for (engine, path) in peers {
                    let mut found = parsed(open(path)?, words_row)?;
                    found.sort();
                    alike(engine, &rows, &found, |a, b| a == b)?;
                }
                Ok(rows.len() as u64)
            }
        }
    }
}

/// A path as a TOML string; JSON's escapes are TOML's.
fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// Our result: the same lines in the same order.
fn equal(
    dir: &Path,
    header: &str,
    mut expected: impl Iterator<Item = String>,
) -> Result<(), Error> {
    let mut number = 0u64;
    let mut fault = None;
    output::each_row(dir, header, |found| {
        number += 1;
        let expected = expected.next();
        if fault.is_none() && expected.as_deref() != Some(found) {
            fault = Some(format!("row {number}: expected {expected:?}, found {found:?}"));
        }
    })?;
    match fault {
        Some(fault) => Err(Error::Wrong(format!("wrong answer, {fault}"))),
        None if expected.next().is_some() => {
            Err(Error::Wrong(format!("wrong answer, it ends after {number} rows")))
        }
        None => Ok(()),
    }
}

fn alike<T: std::fmt::Debug>(
    engine: &str,
    expected: &[T],
    found: &[T],
    same: impl Fn(&T, &T) -> bool,
) -> Result<(), Error> {
    if expected.len() != found.len() {
        let (many, right) = (found.len(), expected.len());
        return Err(Error::Wrong(format!("{engine} gave {many} rows where {right} are right")));
    }
    match expected.iter().zip(found).find(|(expected, found)| !same(expected, found)) {
        Some((expected, found)) => {
            Err(Error::Wrong(format!("{engine}: expected {expected:?}, found {found:?}")))
        }
        None => Ok(()),
    }
}

fn sensors_alike(a: &SensorsRow, b: &SensorsRow) -> bool {
    let near = match (a.temperature, b.temperature) {
        (Some(a), Some(b)) => (a - b).abs() <= PEERS_TOLERANCE * a.abs().max(1.0),
        (a, b) => a == b,
    };
    near && SensorsRow { temperature: None, ..a.clone() }
        == SensorsRow { temperature: None, ..b.clone() }
}

fn parsed<T>(input: impl BufRead, row: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
    let mut rows = Vec::new();
    for line in input.lines() {
        let line = line.map_err(|error| Error::io("cannot read a peer's result", error))?;
        let parsed = row(&line);
        rows.push(parsed.ok_or_else(|| Error::Wrong(format!("a peer wrote {line:?}")))?);
    }
    Ok(rows)
}

fn sensors_row(line: &str) -> Option<SensorsRow> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[start, device, rows, mean, least, most] = &fields[..] else { return None };
    Some(SensorsRow {
        start_ms: start.parse().ok()?,
        device: device.to_string(),
        rows: rows.parse().ok()?,
        temperature: Some(mean.parse().ok()?),
        humidity_min: Some(least.parse().ok()?),
        humidity_max: Some(most.parse().ok()?),
    })
}

fn words_row(line: &str) -> Option<(String, u64)> {
    let (word, count) = line.split_once(',')?;
    Some((word.to_string(), count.parse().ok()?))
}
