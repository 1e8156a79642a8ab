//! A job's device and the kernels that are compiled for it, shared by its cores.
//!
//! Invariant: a device that was lost is opened again by the first core that asks; one that `auto` has
//! not chosen yet is not opened at all.

use std::sync::{Arc, Mutex, PoisonError};

use pelton_kernels::gpu::{Choice, Device, GpuError, Program};

use crate::plan::choice::Auto;
use crate::plan::device::DevicePlan;

/// One of so many epochs is folded on the CPU as well, the first among them: a bit that flips in a
/// device's memory, or a driver that compiles wrongly, is noticed.
const SHADOW_EVERY: u64 = 64;

/// A job's device, shared by its cores: opened again by the first of them that asks after a loss.
pub struct Gpu {
    pub plan: DevicePlan,
    pub(super) choice: Choice,
    /// See `SHADOW_EVERY`; 0: never.
    pub shadow_every: u64,
    /// For tests: the device is lost in every epoch, at a batch that this seed picks, and is tried again
    /// in the next.
    pub lose: Option<u64>,
    /// What every core begins with where the device is chosen by measured rates.
    pub(super) auto: Option<Auto>,
    /// None until a core asks for it.
    pub(super) program: Mutex<Option<Result<Arc<Program>, GpuError>>>,
}

impl Gpu {
    /// Opens the device and compiles the job's kernels for it. What fails but the search for a device
    /// is told by the first epoch, which the CPU then does.
    ///
    /// Errors: `NoAdapter`.
    pub fn open(plan: DevicePlan, choice: Choice) -> Result<Gpu, GpuError> {
        let program = match compile(&plan, choice) {
            Err(GpuError::NoAdapter(reason)) => return Err(GpuError::NoAdapter(reason)),
            program => Mutex::new(Some(program)),
        };
        Ok(Gpu { plan, choice, shadow_every: SHADOW_EVERY, lose: None, auto: None, program })
    }

    /// A device that a core takes while its epochs are such that it is chosen.
    pub fn auto(plan: DevicePlan, choice: Choice, auto: Auto) -> Gpu {
        let program = Mutex::default();
        let auto = Some(auto);
        Gpu { plan, choice, shadow_every: SHADOW_EVERY, lose: None, auto, program }
    }

    /// The compiled kernels, on a device that works as far as is known.
    pub fn program(&self) -> Result<Arc<Program>, GpuError> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        match &*program {
            Some(Ok(program)) if program.device().check().is_ok() => Ok(Arc::clone(program)),
            _ => program.insert(compile(&self.plan, self.choice)).clone(),
        }
    }
}

fn compile(plan: &DevicePlan, choice: Choice) -> Result<Arc<Program>, GpuError> {
    let device = Arc::new(Device::open(choice)?);
    let program = Arc::new(Program::new(&device, plan.query.clone())?);
    program.warm()?;
    Ok(program)
}
