//! A job's device and the kernels that are compiled for it, shared by its cores.
//!
//! Invariant: a device that was lost is opened again by the first core that asks; one that `auto` has
//! not chosen yet is not opened at all.

use std::sync::{Arc, Mutex, PoisonError};

use pelton_kernels::gpu::{Choice, Device, GpuError, Program};

use crate::job::spec::GpuSpec;
use crate::plan::choice::Auto;
use crate::plan::device::DevicePlan;

/// A job's device, shared by its cores: opened again by the first of them that asks after a loss.
pub struct Gpu {
    pub plan: DevicePlan,
    pub(super) choice: Choice,
    /// One of so many epochs is computed on the CPU as well, the first among them; 0: none.
    pub shadow_one_in: u64,
    /// For tests: the device is lost in every epoch, at a batch that this seed picks, and is tried again
    /// in the next.
    pub lose: Option<u64>,
    /// For tests: a bit of the table flips on its way back, after so many that came back right.
    pub flip: Option<u32>,
    /// What every core begins with where the device is chosen by measured rates.
    pub(super) auto: Option<Auto>,
    pub(super) pipelines: Pipelines,
    /// None until a core asks for it.
    pub(super) program: Mutex<Option<Result<Arc<Program>, GpuError>>>,
}

/// What the device's driver has compiled: as it was kept, and who keeps what is new.
#[derive(Default)]
pub struct Pipelines {
    pub kept: Option<Vec<u8>>,
    pub keep: Option<Keep>,
}

/// Keeps what a driver has compiled.
pub type Keep = Box<dyn Fn(&[u8]) + Send + Sync>;

impl Pipelines {
    /// Opens the device and compiles the job's kernels for it.
    fn compile(&self, plan: &DevicePlan, choice: Choice) -> Result<Arc<Program>, GpuError> {
        let device = Arc::new(Device::open_kept(choice, self.kept.as_deref())?);
        let query = plan.query.clone();
        let program = match plan.gives_rows() {
            true => Program::rows(&device, query)?,
            false => Program::new(&device, query)?,
        };
        let program = Arc::new(program);
        program.warm()?;
        if let (Some(keep), Some(compiled)) = (&self.keep, device.compiled())
            && self.kept.as_ref() != Some(&compiled)
        {
            keep(&compiled);
        }
        Ok(program)
    }
}

impl Gpu {
    /// Opens the device and compiles the job's kernels for it. What fails but the search for a device
    /// is told by the first epoch, which the CPU then does.
    ///
    /// Errors: `NoAdapter`.
    pub fn open(plan: DevicePlan, choice: Choice, pipelines: Pipelines) -> Result<Gpu, GpuError> {
        let program = match pipelines.compile(&plan, choice) {
            Err(GpuError::NoAdapter(reason)) => return Err(GpuError::NoAdapter(reason)),
            program => Mutex::new(Some(program)),
        };
        Ok(Gpu { program, ..Gpu::closed(plan, choice, pipelines, None) })
    }

    /// A device that a core takes while its epochs are such that it is chosen.
    pub fn auto(plan: DevicePlan, choice: Choice, pipelines: Pipelines, auto: Auto) -> Gpu {
        Gpu::closed(plan, choice, pipelines, Some(auto))
    }

    fn closed(plan: DevicePlan, choice: Choice, pipelines: Pipelines, auto: Option<Auto>) -> Gpu {
        let shadow_one_in = GpuSpec::default().shadow_one_in;
        let program = Mutex::default();
        Gpu { plan, choice, shadow_one_in, lose: None, flip: None, auto, pipelines, program }
    }

    /// The compiled kernels, on a device that works as far as is known.
    pub fn program(&self) -> Result<Arc<Program>, GpuError> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        match &*program {
            Some(Ok(program)) if program.device().check().is_ok() => Ok(Arc::clone(program)),
            _ => program.insert(self.pipelines.compile(&self.plan, self.choice)).clone(),
        }
    }
}
