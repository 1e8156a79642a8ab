//! The GPUs of this machine: what is known of each, asked of the device once and kept.
//!
//! Invariant: nothing here decides: a job's part of it is a [`Candidate`], `engine::plan::choice` does.
//! The crates that know the machine and the kernels are leaves: here they meet. Software Vulkan is
//! measured only when somebody asks for it.

mod kept;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{Device as Asked, JobSpec};
use pelton_engine::plan::Query;
use pelton_engine::plan::choice::{Candidate, Found};
use pelton_engine::plan::device::device_plan;
use pelton_ingest::runtime::gpu_choice;
use pelton_kernels::gpu::rates::{GROUPS, Method, ROWS, Rates, measure};
use pelton_kernels::gpu::{Adapter, Choice, Device, GpuError, Kind, Tier, adapters, chosen, probe};
use serde_json::{Value, json};

use kept::Kept;

/// An adapter, and what is known of it.
pub struct Gpu {
    adapter: Adapter,
    kept: std::result::Result<Kept, String>,
}

/// Drivers of real GPUs have one of these; a software device has none.
const DEVICE_NODES: [&str; 4] = ["/dev/nvidiactl", "/dev/dri", "/dev/kfd", "/dev/dxg"];

/// What a job that is about to run could take; a GPU that nobody has measured is measured now.
///
/// Cost: asking Vulkan loads every driver there is, tens of milliseconds and megabytes: `auto` asks it
/// only where there may be a GPU, and for a query that one can run.
/// Errors: `Unavailable` where the job asks for a GPU that computes otherwise than the CPU.
pub fn candidate(job: &JobSpec, query: &Query) -> Result<Candidate> {
    let there_may_be_one = || DEVICE_NODES.iter().any(|node| Path::new(node).exists());
    let can_run = || query.scans.iter().any(|scan| device_plan(&scan.plan).is_ok());
    let (adapters, index) = match job.device {
        Asked::Gpu(index) => (adapters(), index),
        Asked::Auto if there_may_be_one() && can_run() => (adapters(), None),
        Asked::Auto | Asked::Cpu => return Ok(Candidate::default()),
    };
    // Where there is none of this number the one who opens it says so.
    let Ok(index) = chosen(&adapters, index) else { return Ok(Candidate::default()) };
    let (adapter, asked) = (&adapters[index], matches!(job.device, Asked::Gpu(_)));
    if adapter.kind == Kind::Software && !asked {
        return Ok(Candidate { index: Some(index), found: Found::Software(None), pipelines: None });
    }
    let choice = gpu_choice(Some(index));
    let kept = ask(adapter, choice, if asked { Ask::Probe } else { Ask::Rates });
    if asked
        && let Ok(Kept { differing, .. }) = &kept
        && !differing.is_empty()
    {
        return Err(Error::Unavailable {
            what: format!(
                "{} computes otherwise than the CPU: {}",
                adapter.name,
                differing.join(", ")
            ),
            fix: "install another version of its driver, or write device = \"cpu\"".to_owned(),
        });
    }
    let pipelines = kept::pipelines(adapter, choice.tier);
    Ok(Candidate { index: Some(index), found: found(adapter, kept), pipelines })
}

/// As [`candidate`], from what is kept alone.
pub fn known(job: &JobSpec) -> Candidate {
    let adapters = adapters();
    let index = if let Asked::Gpu(index) = job.device { index } else { None };
    let Ok(index) = chosen(&adapters, index) else { return Candidate::default() };
    let kept = kept::read(&adapters[index], gpu_choice(Some(index)).tier);
    let kept = kept.ok_or_else(|| "`pelton hardware --measure` takes them".to_owned());
    Candidate { index: Some(index), found: found(&adapters[index], kept), pipelines: None }
}

fn found(adapter: &Adapter, kept: std::result::Result<Kept, String>) -> Found {
    match kept {
        Ok(Kept { rates, .. }) if adapter.kind == Kind::Software => Found::Software(rates),
        Err(_) if adapter.kind == Kind::Software => Found::Software(None),
        Err(reason) => Found::Unmeasured(reason),
        Ok(Kept { differing, .. }) if !differing.is_empty() => Found::Differs(differing),
        Ok(Kept { rates: Some(rates), .. }) => Found::Measured(rates),
        Ok(Kept { rates: None, .. }) => {
            Found::Unmeasured("`pelton hardware --measure` takes them".to_owned())
        }
    }
}

/// Every adapter; real ones are measured where nothing is kept, all of them anew where `anew`.
pub fn list(anew: bool) -> Vec<Gpu> {
    let of = |adapter: Adapter| {
        let choice = Choice { index: Some(adapter.index), ..Choice::default() };
        let kept = match (anew, adapter.kind) {
            (true, _) => ask(&adapter, choice, Ask::All),
            (false, Kind::Software) => kept::read(&adapter, None)
                .ok_or_else(|| "not measured, as it is no GPU: --measure does".to_owned()),
            (false, _) => ask(&adapter, choice, Ask::Rates),
        };
        Gpu { adapter, kept }
    };
    adapters().into_iter().map(of).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    /// What is kept is enough, else the device's answers are compared.
    Probe,
    /// Also its rates.
    Rates,
    /// Everything, whatever is kept.
    All,
}

fn ask(adapter: &Adapter, choice: Choice, what: Ask) -> std::result::Result<Kept, String> {
    let known = kept::read(adapter, choice.tier).filter(|_| what != Ask::All);
    let enough = |kept: &Kept| what == Ask::Probe || kept.rates.is_some();
    if let Some(kept) = known.filter(|kept| !kept.differing.is_empty() || enough(kept)) {
        return Ok(kept);
    }
    let kept = question(choice, what).map_err(|error| error.to_string())?;
    kept::write(adapter, choice.tier, &kept);
    Ok(kept)
}

fn question(choice: Choice, what: Ask) -> std::result::Result<Kept, GpuError> {
    let device = Arc::new(Device::open(choice)?);
    let differing = probe(&device)?;
    let rates = match what != Ask::Probe && differing.is_empty() {
        true => {
            eprintln!("pelton: measuring {}, once", device.adapter().name);
            let began = Instant::now();
            // What is never chosen need not be known so well.
            let rows = if device.is_software() { ROWS.map(|rows| rows / 16) } else { ROWS };
            Some(measure(&device, rows, &|| began.elapsed())?)
        }
        false => None,
    };
    Ok(Kept { differing, rates })
}

/// Some lines for each GPU.
pub fn text(gpus: &[Gpu]) -> String {
    if gpus.is_empty() {
        return "GPU                 none: Vulkan shows no adapter\n".to_owned();
    }
    let lines = |gpu: &Gpu| {
        let Adapter { index, name, driver, kind, .. } = &gpu.adapter;
        let tier = match &gpu.adapter.tier {
            Ok(tier) => format!("{} tier", tier.name()),
            Err(lack) => format!("cannot be used: {lack}"),
        };
        let binding = gpu.adapter.binding_bytes_max >> 20;
        let title = format!("GPU {index}");
        let kind = kind.name();
        let first =
            format!("{title:18}  {name}, {driver}, {kind}, {tier}, {binding} MiB a table\n");
        let rest = match &gpu.kept {
            Err(reason) => vec![reason.clone()],
            Ok(Kept { differing, .. }) if !differing.is_empty() => {
                vec![format!("not used, as it computes otherwise: {}", differing.join(", "))]
            }
            Ok(Kept { rates: None, .. }) => {
                vec!["computes as the CPU does; rates not measured".into()]
            }
            Ok(Kept { rates: Some(rates), .. }) => rate_lines(rates),
        };
        rest.iter().fold(first, |text, line| text + &format!("{:18}  {line}\n", ""))
    };
    gpus.iter().map(lines).collect()
}

fn rate_lines(rates: &Rates) -> Vec<String> {
    let upload: Vec<_> = Method::ALL
        .iter()
        .zip(rates.upload)
        .map(|(method, rate)| format!("{:.1} ({})", rate / 1e9, method.name()))
        .collect();
    let folds = |costs: &[pelton_kernels::gpu::rates::Cost; 3]| {
        let rate = costs.iter().map(|cost| format!("{:.1}", 1e3 / cost.of(1.0)));
        rate.collect::<Vec<_>>().join(" / ")
    };
    let [one, some, many] = GROUPS;
    vec![
        format!("upload GB/s {}", upload.join(", ")),
        format!(
            "read-back {:.1} GB/s, dispatch and wait {:.0} µs, {:.0} ns a group back",
            rates.read_back / 1e9,
            rates.dispatch_ns / 1e3,
            rates.drain_ns
        ),
        format!(
            "M rows/s at {one} / {some} / {many} groups: {} folding, {:.1} up to there; one core {}",
            folds(&rates.fold),
            1e3 / rates.project.of(1.0),
            folds(&rates.cpu)
        ),
        format!(
            "M rows/s filtered and computed without groups: {:.1}; one core {:.1}",
            1e3 / rates.filter.of(1.0),
            1e3 / rates.filter_cpu.of(1.0)
        ),
    ]
}

pub fn json(gpus: &[Gpu]) -> Value {
    let of = |gpu: &Gpu| {
        let adapter = &gpu.adapter;
        let mut json = json!({
            "index": adapter.index,
            "name": adapter.name,
            "driver": adapter.driver,
            "kind": adapter.kind.name(),
            "tier": adapter.tier.as_ref().ok().map(|tier| Tier::name(*tier)),
            "buffer_bytes_max": adapter.buffer_bytes_max,
            "binding_bytes_max": adapter.binding_bytes_max,
            "workgroup_bytes_max": adapter.workgroup_bytes_max,
        });
        if let Ok(kept) = &gpu.kept {
            json["differing"] = json!(kept.differing);
            json["rates"] = kept.rates.as_ref().map_or(Value::Null, kept::rates_json);
        }
        json
    };
    gpus.iter().map(of).collect()
}
