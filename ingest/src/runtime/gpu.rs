//! The device of a job: which one is opened, and what is said where there is none.

use std::sync::Arc;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{Device, JobSpec};
use pelton_engine::pipeline::device::Gpu;
use pelton_engine::plan::Plan;
use pelton_engine::plan::device::device_plan;
use pelton_kernels::gpu::{Choice, Tier};

/// A tier to use instead of the adapter's best, for tests: `native` or `portable`.
const TIER_VARIABLE: &str = "PELTON_GPU_TIER";

/// Opens the device that the job asks for; none where it asks for none.
///
/// Errors: `Unavailable` where there is no such device.
pub(super) fn open(job: &JobSpec, plan: &Plan) -> Result<Option<Arc<Gpu>>> {
    let Device::Gpu(index) = job.device else { return Ok(None) };
    let device_plan = device_plan(plan).map_err(|refusals| Error::BadJob {
        rendered: refusals.iter().map(|r| format!("{}: {}\n", r.node, r.reason)).collect(),
    })?;
    let tier = match std::env::var(TIER_VARIABLE).as_deref() {
        Ok("native") => Some(Tier::Native),
        Ok("portable") => Some(Tier::Portable),
        _ => None,
    };
    let choice = Choice { index, tier, ..Choice::default() };
    let gpu = Gpu::open(device_plan, choice).map_err(|error| Error::Unavailable {
        what: error.to_string(),
        fix: "install the Vulkan driver of your GPU (NVIDIA: nvidia-driver and libvulkan1; AMD, \
              Intel: mesa-vulkan-drivers and libvulkan1, which also brings a software device for \
              tests), or write device = \"cpu\""
            .to_owned(),
    })?;
    Ok(Some(Arc::new(gpu)))
}
