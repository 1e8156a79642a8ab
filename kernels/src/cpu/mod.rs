//! Kernels for the CPU: one operation a file.

pub mod aggregate;
mod bits;
mod column;
mod dense;
pub mod filter;
pub mod groups;
pub mod keys;
pub mod project;
pub mod split;
