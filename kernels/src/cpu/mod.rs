//! Kernels for the CPU: one operation a file.

pub mod aggregate;
