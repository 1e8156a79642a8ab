//! What can go wrong on a device, one variant for each reaction of the caller.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuError {
    /// There is no device to open: the job says so and ends, or runs on the CPU.
    NoAdapter(String),
    /// The driver gave the device up: it must be opened again.
    Lost(String),
    /// The byte budget or the driver has no room: the same work may fit later.
    OutOfMemory { asked: u64, left: u64 },
    /// No answer in time: as good as lost.
    Hung { what: &'static str },
    /// The driver refused a shader or a call: it will do so again.
    Refused(String),
    /// What came back contradicts what was sent: nothing of it may be used.
    Untrusted(String),
    /// Rows are beyond what the kernels take: the CPU does them.
    Beyond(String),
}

impl GpuError {
    /// Would another attempt on the same open device be in vain?
    pub fn needs_reopening(&self) -> bool {
        matches!(self, GpuError::Lost(_) | GpuError::Hung { .. })
    }
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuError::NoAdapter(reason) => write!(f, "no GPU can be used: {reason}"),
            GpuError::Lost(reason) => write!(f, "the GPU was lost: {reason}"),
            GpuError::OutOfMemory { asked, left } => {
                write!(f, "the GPU has no room for {asked} bytes: {left} are left of its budget")
            }
            GpuError::Hung { what } => write!(f, "the GPU gave no answer in time: {what}"),
            GpuError::Refused(reason) => write!(f, "the GPU's driver refused: {reason}"),
            GpuError::Untrusted(reason) => write!(f, "the GPU's answer cannot be: {reason}"),
            GpuError::Beyond(what) => write!(f, "the GPU's kernels do not take {what}"),
        }
    }
}

impl std::error::Error for GpuError {}

pub type Result<T> = std::result::Result<T, GpuError>;
