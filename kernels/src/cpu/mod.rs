//! Kernels for the CPU: one operation a file.

pub mod aggregate;
mod column;
mod dense;
pub mod groups;
pub mod keys;
