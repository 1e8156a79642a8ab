//! `pelton demo`: a job that needs nothing, and a few words on what it shows.

use std::path::Path;

use pelton_engine::error::Result;
use pelton_engine::job;

use crate::commands::plan_of;
use crate::report::Style;
use crate::run::{self, Options};

const JOB: &str = include_str!("demo.toml");

/// Runs the built-in job; `rows` replaces its number of rows.
pub fn run(rows: Option<u64>, style: Style) -> Result<()> {
    eprintln!(
        "pelton demo: generated sensor readings (CSV bytes, 1,000 devices, 5 regions) → decode →\n\
         filter → hourly windows by region → console. Each table below is an epoch: the windows that\n\
         its watermark closed. The job file is built in:\n"
    );
    for line in JOB.lines() {
        eprintln!("    {line}");
    }
    eprintln!();
    let overrides: Vec<(String, String)> = rows
        .map(|rows| ("source.sensors.rows".to_string(), rows.to_string()))
        .into_iter()
        .collect();
    let (job, text) = job::from_text(JOB, Path::new("demo.toml"), &overrides)?;
    let plan = plan_of(&job, &text)?;
    let summary = run::run(job, plan, &Options::of(style))?;
    eprintln!(
        "\n{summary}\n\n\
         Next: pelton hardware           what this machine offers\n      \
         pelton bench sensors      windows over a gigabyte of CSV, the answer checked\n      \
         pelton explain JOB.toml   what a job will do, before it does it\n      \
         README.md                 a job file for data of your own"
    );
    Ok(())
}
