//! Benchmarks with their right answers: suites that `pelton bench` runs, and the oracles they (and
//! the end-to-end tests) are checked by.

pub mod exact;
pub mod oracle;
