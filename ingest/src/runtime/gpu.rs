//! The device of a job: which one is opened, and what is said where there is none.

use std::sync::Arc;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{Device, JobSpec};
use pelton_engine::pipeline::device::Gpu;
use pelton_engine::plan::Plan;
use pelton_engine::plan::choice::{Auto, Found, Load};
use pelton_engine::plan::device::device_plan;
use pelton_kernels::gpu::{Choice, Fault, Tier};

use super::{Setup, pipelines};

/// A tier to use instead of the adapter's best, for tests: `native` or `portable`.
const TIER_VARIABLE: &str = "PELTON_GPU_TIER";
/// A seed, for tests: the device is lost in every epoch, at a batch that it picks.
const LOSE_VARIABLE: &str = "PELTON_GPU_LOSE";
/// A number, for tests: the device is lost once, at the submission after so many, and is there again when it is
/// tried again.
const LOSE_ONCE_VARIABLE: &str = "PELTON_GPU_LOSE_ONCE";
/// A number, for tests: the table that comes back after so many has a bit flipped.
const FLIP_VARIABLE: &str = "PELTON_GPU_FLIP";

/// Opens the device that the job asks for, or keeps the one that `auto` could take at hand; none where
/// there is neither.
///
/// Errors: `Unavailable` where there is no such device.
pub(super) fn open(job: &JobSpec, plan: &Plan, setup: &Setup) -> Result<Option<Arc<Gpu>>> {
    let kept = || pipelines::kept_in(setup.candidate.pipelines.as_deref());
    let index = match (&job.device, &setup.candidate.found) {
        (Device::Gpu(index), _) => *index,
        (Device::Auto, found @ Found::Measured(_)) => {
            // Where a GPU cannot run the plan there is nothing to choose.
            let Ok(part) = device_plan(plan) else { return Ok(None) };
            let auto = Auto::new(found.clone(), Load::of(&part, setup.cpus.len()));
            let gpu = Gpu::auto(part, within(job, setup.candidate.index), kept(), auto);
            return Ok(Some(Arc::new(as_asked(job, gpu))));
        }
        _ => return Ok(None),
    };
    let device_plan = device_plan(plan).map_err(|refusals| Error::BadJob {
        rendered: refusals.iter().map(|r| format!("{}: {}\n", r.node, r.reason)).collect(),
    })?;
    let gpu =
        Gpu::open(device_plan, within(job, index), kept()).map_err(|error| Error::Unavailable {
            what: error.to_string(),
            fix:
                "install the Vulkan driver of your GPU (NVIDIA: nvidia-driver and libvulkan1; AMD, \
              Intel: mesa-vulkan-drivers and libvulkan1, which also brings a software device for \
              tests), or write device = \"cpu\""
                    .to_owned(),
        })?;
    Ok(Some(Arc::new(as_asked(job, gpu))))
}

/// A device with what the job, or a test, says of it.
fn as_asked(job: &JobSpec, mut gpu: Gpu) -> Gpu {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    gpu.shadow_one_in = job.gpu.shadow_one_in;
    gpu.lose = number(LOSE_VARIABLE);
    gpu.flip = number(FLIP_VARIABLE).map(|before| before as u32);
    if let (Some(before), Ok(program)) = (number(LOSE_ONCE_VARIABLE), gpu.program()) {
        program.device().faults.arm(Fault::Lost, before as u32);
    }
    gpu
}

/// An adapter, within the memory that the job leaves it.
fn within(job: &JobSpec, index: Option<usize>) -> Choice {
    Choice { budget_bytes: job.gpu.memory, ..choice(index) }
}

/// How an adapter is opened: as itself, or as a test says.
pub fn choice(index: Option<usize>) -> Choice {
    let tier = match std::env::var(TIER_VARIABLE).as_deref() {
        Ok("native") => Some(Tier::Native),
        Ok("portable") => Some(Tier::Portable),
        _ => None,
    };
    Choice { index, tier, ..Choice::default() }
}
