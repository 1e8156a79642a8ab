//! Kernels for a GPU: one operation a file, with the names of its twin in `cpu/`.
//!
//! Invariant: for all that [`Query::refusals`] lets pass, the answer is the CPU's, bit for bit, on
//! every device and in both tiers; what fails is an error, never a wrong or a missing row.
//! WGSL is in `kernels/shaders`; `emit` generates what depends on the query. No file, clock or thread
//! is used here (`rates` asks the caller's clock, `cache` is bytes that the caller keeps). It lacks functions of text, and decimals that need
//! more than 128 bits.
//!
//! The way of a batch: `upload` packs its columns, `project` computes each row's fate, key and
//! arguments, `aggregate` folds the rows that count into the resident groups, `drain` hands those to
//! the CPU's table; of a query without groups `filter` gets the rows back that pass. `probe` and `rates` say beforehand whether a device is right, and how fast.

mod adapter;
pub mod aggregate;
mod cache;
mod device;
mod drain;
mod emit;
mod error;
mod faults;
mod filter;
mod form;
mod near;
mod operations;
mod probe;
mod program;
pub mod project;
mod query;
pub mod rates;
mod room;
pub mod sample;
mod states;
mod support;
#[cfg(test)]
mod tests;
mod upload;

pub use adapter::{Adapter, Kind, Tier, adapters};
pub use aggregate::{Selected, Table};
pub use device::{Choice, Counts, Device, chosen};
pub use error::{GpuError, Result};
pub use faults::{Fault, Faults};
pub use filter::Passed;
pub use operations::{Operation, operations};
pub use probe::probe;
pub use program::Program;
pub use project::{Batch, Fate, Place, Projector, ROWS_MAX};
pub use query::{COLUMNS_MAX, Input, Query, Refusal, goes_by_position};
pub use support::refusal;
pub use upload::TEXT_BYTES_MAX;
