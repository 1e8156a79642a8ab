//! Other engines on the same data: DuckDB and Polars, by way of a Python that has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::error::Error;
use crate::suite::Suite;

pub const ENGINES: [&str; 2] = ["duckdb", "polars"];

/// A Python in which all of [`ENGINES`] can be imported.
pub struct Python(PathBuf);

pub struct Run {
    pub version: String,
    /// Of the query alone, as the script measured it: starting Python is not the engine's fault.
    pub seconds: f64,
    pub peak_rss_bytes: u64,
}

impl Python {
    /// `PELTON_PYTHON`, else `python3`.
    pub fn find() -> Result<Python, Error> {
        let python = std::env::var_os("PELTON_PYTHON").map_or("python3".into(), PathBuf::from);
        let import = format!("import {}", ENGINES.join(", "));
        let found = child::run(Command::new(&python).args(["-c", &import]));
        if found.is_ok_and(|finished| finished.status.success()) {
            return Ok(Python(python));
        }
        Err(Error::Unavailable(format!(
            "{} cannot import {}; make a Python that can and name it:\n  \
             python3 -m venv ~/peers && ~/peers/bin/pip install {}\n  \
             PELTON_PYTHON=~/peers/bin/python pelton bench --peers",
            python.display(),
            ENGINES.join(" and "),
            ENGINES.join(" "),
        )))
    }

    pub fn run(
        &self,
        suite: Suite,
        engine: &str,
        data: &Path,
        out: &Path,
        threads: usize,
    ) -> Result<Run, Error> {
        let mut command = Command::new(&self.0);
        command.args(["-c", suite.peers_script(), engine]).arg(data).arg(out);
        command.arg(threads.to_string());
        let finished = child::run(&mut command)?;
        // Engines may draw a progress bar before it.
        let last = finished.stdout.trim_end().rsplit(['\n', '\r']).next().unwrap_or_default();
        let reply: Option<Value> = serde_json::from_str(last).ok();
        let read = |reply: &Value| {
            Some((reply["version"].as_str()?.to_string(), reply["seconds"].as_f64()?))
        };
        let Some((version, seconds)) = reply.as_ref().and_then(read) else {
            let child::Finished { status, stdout, stderr, .. } = finished;
            let what = format!("{engine} failed with {status}:\n{stdout}{stderr}");
            return Err(Error::Unavailable(what));
        };
        Ok(Run { version, seconds, peak_rss_bytes: finished.peak_rss_bytes })
    }
}
