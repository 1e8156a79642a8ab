//! The job file: TOML in, a [`spec::JobSpec`] out, every error with its place and its fix.
//!
//! Text becomes a tree of values with their places (`tree`), each table is read by its own module
//! (`source`, `rows`, `columns`, `query`, `sink`), then come the rules across tables (`rules`). Faults are
//! collected, not thrown: a job file is refused once, with all that is wrong in it.
//!
//! Invariant: no key is ignored. What the reader does not know, or what this version lacks, is a
//! finding. Nothing here touches a source, a sink or a checkpoint; the SQL is the planner's to read.

mod columns;
mod ddl;
pub mod finding;
mod gpu;
mod kafka;
pub mod map;
mod paths;
mod pattern;
mod query;
mod reader;
mod rows;
mod rules;
mod sink;
mod source;
pub mod spec;
mod strings;
mod table;
mod text;
mod transform;
mod tree;
pub mod unit;

use std::path::Path;

use crate::error::Result;
use finding::{Finding, quoted};
use reader::{Choice, Reader, Section};
use spec::{Device, JobSpec, SinkOf};
pub use text::JobText;
use tree::{Env, Text};

const TOP_KEYS: &[&str] = &[
    "name",
    "device",
    "cores",
    "timezone",
    "memory_limit",
    "source",
    "transform",
    "table",
    "query",
    "sink",
    "checkpoint",
    "gpu",
    "http",
];

/// Where a key belongs that stands in the wrong table; a hint is given where there is one home.
const HOMES: &[(&str, &[&str])] = &[
    ("at the top of the file, before the first [table]", TOP_KEYS),
    ("in [query]", query::QUERY_KEYS),
    ("in [[transform]]", transform::KEYS),
    ("in [checkpoint]", query::CHECKPOINT_KEYS),
    ("in [source.NAME]", source::COMMON_KEYS),
    ("in [source.NAME] with type = \"file\"", source::FILE_KEYS),
    ("in [source.NAME] with type = \"socket\"", source::SOCKET_KEYS),
    ("in [source.NAME] with type = \"generate\"", source::GENERATE_KEYS),
    ("in [source.NAME] with type = \"kafka\"", kafka::KEYS),
    ("in [gpu]", gpu::KEYS),
    ("in watermark = { … }", rows::WATERMARK_KEYS),
    ("in dedup = { … }", rows::DEDUP_KEYS),
    ("in [source.NAME.csv]", columns::CSV_KEYS),
    ("in columns.NAME = { … }", columns::COLUMN_KEYS),
    ("in [table.NAME]", table::KEYS),
    ("in [sink.NAME]", sink::COMMON_KEYS),
    ("in [sink.NAME] with type = \"console\"", sink::CONSOLE_KEYS),
    ("in [sink.NAME] with type = \"file\"", sink::FILE_KEYS),
    ("in [sink.NAME] with type = \"kafka\"", kafka::SINK_KEYS),
];

/// Reads and checks a job file: `overrides` are the command line's `--set key=value`, `env` answers
/// for `${VAR}`.
///
/// Errors: `Unavailable` where the file cannot be read, `BadJob` with all findings where it is
/// refused. What is legal and perhaps not meant stands in [`JobText::warnings`].
pub fn read(
    path: &Path,
    overrides: &[(String, String)],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(JobSpec, JobText)> {
    checked(JobText::load(path, overrides)?, env)
}

/// As [`read`], for a job that comes with the program; it has no environment.
pub fn from_text(
    file: &str,
    path: &Path,
    overrides: &[(String, String)],
) -> Result<(JobSpec, JobText)> {
    checked(JobText::new(path, file, overrides), &|_| None)
}

fn checked(mut text: JobText, env: Env) -> Result<(JobSpec, JobText)> {
    match parse(&text, env) {
        Ok((spec, warnings)) => {
            text.warnings = warnings;
            Ok((spec, text))
        }
        Err(findings) => Err(text.refuse(&findings)),
    }
}

/// Checks a job's text; reads no file. Gives the job and the warnings, or all findings.
pub fn parse(text: &JobText, env: Env) -> Result<(JobSpec, Vec<Finding>), Vec<Finding>> {
    let mut findings = Vec::new();
    let tree = tree::parse(text, env, &mut findings);
    if !findings.is_empty() && tree.entries.is_empty() {
        return Err(findings);
    }
    let file = std::path::absolute(text.path()).unwrap_or(text.path().into());
    let dir = file.parent().unwrap_or(&file).to_owned();
    let mut r = Reader { dir, findings, warnings: Vec::new() };
    let job = job(&mut r, text.path(), &tree);
    match job {
        Some(job) if r.findings.is_empty() => Ok((job, r.warnings)),
        _ => Err(r.findings),
    }
}

fn job(r: &mut Reader, path: &Path, tree: &tree::Table) -> Option<JobSpec> {
    let root = Section::new("the job".into(), None, tree, TOP_KEYS.to_vec());
    let root = r.open(root, &[]);
    let name = name(r, &root);
    let device = device(r, &root);
    let cores = r.parsed(&root, "cores", unit::cores, "a set of CPUs in quotes", unit::CORES_FORM);
    let timezone = r.parsed(&root, "timezone", unit::timezone, "a text", "write \"UTC\"");
    let memory_limit = r.size(&root, "memory_limit");
    http(r, &root);
    let gpu = gpu::read(r, &root);
    let sources = source::read(r, &root);
    let tables = table::read(r, &root, &sources);
    let transform = match sources.first() {
        Some((_, first)) => transform::read(r, &root, &first.schema),
        None => None,
    };
    let has_steps = root.has("transform");
    let (query_table, query) = query::read(r, &root, has_steps);
    let (checkpoint_table, checkpoint, epoch) = query::checkpoint(r, &root);
    let sinks = sink::read(r, &root);
    rules::check(
        r,
        &rules::Parts {
            sources: &sources,
            root: &root,
            query_table: query_table.as_ref(),
            query: query.as_ref(),
            sinks: &sinks,
            checkpoint_table: checkpoint_table.as_ref(),
            checkpoint: checkpoint.as_ref(),
            has_steps,
        },
    );
    let durable = checkpoint.is_some();
    let mut sinks: Vec<_> = sinks.into_iter().map(|sink| sink.resolved(durable)).collect();
    if !sinks.iter().any(|sink| sink.of == SinkOf::Rows) {
        sinks.insert(0, sink::default_console());
    }
    let mut query = query?;
    let sources: Vec<_> = sources.into_iter().map(|(_, source)| source).collect();
    let kept = transform?.map(|transform| transform.kept);
    if let Some(kept) = &kept {
        let source = sources.first()?;
        // That style shows what the steps removed as well.
        let all: Vec<usize> = (0..source.schema.len()).collect();
        let shown = if sinks.iter().any(sink::shows_original) { &all } else { kept };
        query.sql = transform::select(&source.name, shown, &source.schema);
    }
    Some(JobSpec {
        name: name?.value.clone(),
        file: path.into(),
        device: device.unwrap_or(Device::Auto),
        device_at: root.get("device").map(|entry| entry.node.at.clone()),
        gpu,
        cores,
        timezone: timezone.unwrap_or("UTC".into()),
        memory_limit,
        sources,
        tables,
        query,
        kept,
        sinks,
        checkpoint,
        epoch,
    })
}

/// Also the name of state and of consumer groups: it has to fit a path.
fn name<'a>(r: &mut Reader, root: &Section<'a>) -> Option<&'a Text> {
    const BYTES_MAX: usize = 200;
    let name = r.required(root, "name", "write name = \"my-job\" at the top of the file")?;
    let bad = name.value.find(|c: char| c.is_control() || c == '/' || c == '\\');
    if bad.is_some() || name.value.starts_with('.') || name.value.len() > BYTES_MAX {
        let what = format!("{} cannot name a file", quoted(&name.value));
        r.find(root.place("name"), what, "write a short word like \"sensors\"");
        return None;
    }
    Some(name)
}

fn device(r: &mut Reader, root: &Section) -> Option<Device> {
    let numbered = r.text(root, "device").filter(|text| text.value.starts_with("gpu:"));
    if let Some(numbered) = numbered {
        let number = numbered.value["gpu:".len()..].parse().ok();
        if number.is_none() {
            let what = format!("`device = {}` names no adapter", quoted(&numbered.value));
            r.find(
                root.place("device"),
                what,
                "`pelton hardware` lists them: \"gpu:0\", \"gpu:1\"",
            );
        }
        return number.map(|number| Device::Gpu(Some(number)));
    }
    let devices = [
        ("auto", Choice::Is(Device::Auto)),
        ("cpu", Choice::Is(Device::Cpu)),
        ("gpu", Choice::Is(Device::Gpu(None))),
    ];
    r.choice(root, "device", &devices)
}

fn http(r: &mut Reader, root: &Section) {
    let Some(entry) = root.get("http") else { return };
    let Some(http) = r.open_entry("[http]".into(), entry, &["listen"], &[]) else { return };
    if let Some(listen) = r.text(&http, "listen").filter(|text| text.value != "off") {
        let what =
            format!("the HTTP server is not in this version, found {}", quoted(&listen.value));
        r.find(http.place("listen"), what, "write listen = \"off\", or remove [http]");
    }
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;
