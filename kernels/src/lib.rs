//! Compute on columns: filter, projection, hash aggregate, exact states.
//!
//! Invariant: a function of its arguments alone. This crate reads no file, no clock and no network,
//! starts no thread, and knows nothing of streams, epochs, watermarks or late rows.
//! `cpu/` and `gpu/` hold the kernels, twins with equal names; `oracle` the naive versions that tests
//! compare them with.

pub mod cpu;
pub mod expr;
pub mod gpu;
mod index;
pub mod interner;
pub mod oracle;
