//! Question: from how many groups and columns on is a device worth its transfers, and in which tier?
//!
//! One core's work from decoded columns to a partial (filter, window, keys, states), on the CPU's
//! kernels and on a device's, for each number of groups and of measured columns: all of it (upload,
//! dispatch, waiting for the fates, drain), and the device's fold alone. Beside it what a device's
//! figures are made of: transfers, latencies, pipelines, overlap, what its own floats are.
//! Checked first: both partials are equal, row by row and bit by bit.

mod device;
mod shapes;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pelton_kernels::gpu::{Choice, Device, Kind, Tier, adapters};
use serde_json::{Value, json};

use crate::error::Error;
use crate::{plot, record};
use device::Facts;
use shapes::Line;

/// More rows make no other rate; a processor that plays a GPU takes long enough for fewer.
const ROWS_MAX: u64 = 16_000_000;
const ROWS_MAX_SOFTWARE: u64 = 1 << 18;
/// Of the device's memory, for ten million groups.
const BUDGET_BYTES: u64 = 16 << 30;

struct Candidate {
    name: String,
    is_software: bool,
    choice: Choice,
    device: Arc<Device>,
}

/// Measures, prints tables with the crossovers to `out`, and records them in `record_dir`.
///
/// Errors: `Unavailable` without a device, `Wrong` where a device's answer is not the CPU's.
pub fn run(
    rows: u64,
    rounds: usize,
    record_dir: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let candidates = candidates()?;
    let is_software = candidates.iter().all(|candidate| candidate.is_software);
    let rows = rows.clamp(1, if is_software { ROWS_MAX_SOFTWARE } else { ROWS_MAX });
    let facts = candidates.iter().map(|candidate| {
        eprintln!("{}: transfers, latencies, pipelines", candidate.name);
        Facts::measure(candidate, rows)
    });
    let facts = facts.collect::<Result<Vec<_>, _>>()?;
    let lines = shapes::measure(rows, rounds, &candidates)?;
    let printed = print(rows, &lines, &facts, &candidates, out);
    printed.map_err(|e| Error::io("cannot print the table", e))?;
    if let Some(dir) = record_dir {
        let path = write_record(rows, rounds, &lines, &facts, &candidates, dir)?;
        let image = path.with_extension("svg");
        let text = plot::svg(&title(is_software), &curves(&lines, &candidates));
        std::fs::write(&image, text).map_err(|e| Error::io("cannot write the plot", e))?;
        eprintln!("recorded in {} and {}", path.display(), image.display());
    }
    Ok(())
}

/// Every GPU in each tier that it has; software ones where there is no GPU.
fn candidates() -> Result<Vec<Candidate>, Error> {
    let mut adapters = adapters();
    if adapters.iter().any(|adapter| adapter.kind != Kind::Software) {
        adapters.retain(|adapter| adapter.kind != Kind::Software);
    }
    let mut candidates = Vec::new();
    for adapter in adapters {
        for tier in [Tier::Native, Tier::Portable] {
            if tier == Tier::Native && adapter.tier != Ok(Tier::Native) || adapter.tier.is_err() {
                continue;
            }
            let choice = Choice {
                index: Some(adapter.index),
                tier: Some(tier),
                budget_bytes: Some(BUDGET_BYTES),
                ..Choice::default()
            };
            let device = Device::open(choice).map_err(|e| Error::Unavailable(e.to_string()))?;
            let name = format!("{} {}", adapter.name, tier.name());
            let is_software = adapter.kind == Kind::Software;
            candidates.push(Candidate { name, is_software, choice, device: Arc::new(device) });
        }
    }
    match candidates.is_empty() {
        true => Err(Error::Unavailable("Vulkan shows no adapter".into())),
        false => Ok(candidates),
    }
}

/// An error of a device, with its name.
fn failed(candidate: &Candidate) -> impl Fn(pelton_kernels::gpu::GpuError) -> Error {
    let name = candidate.name.clone();
    move |error| Error::Unavailable(format!("{name}: {error}"))
}

fn title(is_software: bool) -> String {
    let what = match is_software {
        true => " (SOFTWARE DEVICE on the same processor: no GPU's figures)",
        false => "",
    };
    format!("M rows/s from columns to a partial, by groups{what}")
}

fn print(
    rows: u64,
    lines: &[Line],
    facts: &[Facts],
    candidates: &[Candidate],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for (facts, candidate) in facts.iter().zip(candidates) {
        let software = if candidate.is_software { ": software, no GPU's figures" } else { "" };
        writeln!(out, "{}{software}", candidate.name)?;
        facts.lines().iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    writeln!(out)?;
    writeln!(out, "kernels: {rows} rows a measurement, M rows/s of one core and of each device,")?;
    writeln!(out, "all of the way and, in brackets, its fold alone")?;
    write!(out, "{:>9} {:>8} {:>9}", "groups", "columns", "CPU")?;
    for place in 1..=candidates.len() {
        write!(out, " {:>18}", format!("[{place}]"))?;
    }
    writeln!(out)?;
    let all = lines.iter().flat_map(|line| line.devices.iter().flatten());
    let most = all.map(|rates| rates.all).chain(lines.iter().map(|line| line.cpu));
    let most = most.fold(0.0, f64::max);
    for line in lines {
        write!(out, "{:>9} {:>8} {:>9.2}", line.groups, line.columns, line.cpu / 1e6)?;
        let mut bars = vec![line.cpu];
        for rates in &line.devices {
            let text = match rates {
                Some(rates) => format!("{:.2} ({:.2})", rates.all / 1e6, rates.fold / 1e6),
                None => "no room".to_owned(),
            };
            write!(out, " {text:>18}")?;
            bars.push(rates.as_ref().map_or(0.0, |rates| rates.all));
        }
        let bars = bars.iter().map(|rate| "▇".repeat((rate / most * 12.0).round() as usize));
        writeln!(out, "   {}", bars.collect::<Vec<_>>().join(" | "))?;
    }
    for (place, candidate) in candidates.iter().enumerate() {
        let software = if candidate.is_software { ": software, no GPU's figures" } else { "" };
        let crossover = shapes::crossover(lines, place);
        writeln!(out, "[{}] {}{software}; {crossover}", place + 1, candidate.name)?;
    }
    Ok(())
}

/// A curve for the CPU and each device, for each number of columns.
fn curves(lines: &[Line], candidates: &[Candidate]) -> Vec<plot::Curve> {
    let mut curves = Vec::new();
    for columns in shapes::COLUMNS {
        let of_columns = || lines.iter().filter(move |line| line.columns == columns);
        let point = |line: &Line, rate: f64| (line.groups as f64, rate / 1e6);
        curves.push(plot::Curve {
            name: format!("one core, {columns} columns"),
            points: of_columns().map(|line| point(line, line.cpu)).collect(),
        });
        for (at, candidate) in candidates.iter().enumerate() {
            let rates = of_columns().filter_map(|line| Some((line, line.devices[at].as_ref()?)));
            curves.push(plot::Curve {
                name: format!("{}, {columns} columns", candidate.name),
                points: rates.map(|(line, rates)| point(line, rates.all)).collect(),
            });
        }
    }
    curves
}

fn write_record(
    rows: u64,
    rounds: usize,
    lines: &[Line],
    facts: &[Facts],
    candidates: &[Candidate],
    dir: &Path,
) -> Result<PathBuf, Error> {
    let mega = |rate: f64| (rate / 1e4).round() / 100.0;
    let line = |line: &Line| {
        let mut rates = serde_json::Map::new();
        rates.insert("one core".into(), json!(mega(line.cpu)));
        for (candidate, of) in candidates.iter().zip(&line.devices) {
            let of = of.as_ref().map_or(
                json!("no room"),
                |of| json!({ "all": mega(of.all), "fold_alone": mega(of.fold) }),
            );
            rates.insert(candidate.name.clone(), of);
        }
        json!({ "groups": line.groups, "columns": line.columns, "m_rows_per_second": rates })
    };
    let devices = candidates.iter().zip(facts).enumerate().map(|(at, (candidate, facts))| {
        let mut device = facts.json();
        device["name"] = json!(candidate.name);
        device["driver"] = json!(candidate.device.adapter().driver);
        device["kind"] = json!(candidate.device.adapter().kind.name());
        device["crossover"] = json!(shapes::crossover(lines, at));
        device
    });
    let devices: Vec<Value> = devices.collect();
    let note = match candidates.iter().all(|candidate| candidate.is_software) {
        true => {
            "SOFTWARE DEVICE: no GPU was at hand. What is called a device here is software on the \
             same processor; its figures say nothing of a GPU's and are never quoted as such"
        }
        false => "",
    };
    let lines: Value = lines.iter().map(line).collect();
    let facts = json!({
        "rows": rows,
        "rounds": rounds,
        "note": note,
        "devices": devices,
        "lines": lines,
    });
    record::keep("kernels", facts, dir)
}
