//! Kernels for the CPU: one operation a file.

pub mod aggregate;
mod big;
mod bits;
pub(crate) mod column;
mod dense;
pub(crate) mod exact_sum;
pub mod filter;
pub mod groups;
pub mod keys;
#[cfg(test)]
mod oracle;
mod pages;
pub mod project;
pub mod split;
mod total;
mod words;
