//! The streaming engine: job, plan, epochs, windows, watermarks, state, checkpoints, sinks.
//!
//! Invariants of absence: no Kafka, no io_uring, no unsafe code, no wall clock, no thread is started
//! here. Sources live in `ingest`, which drives a [`pipeline::Pipeline`] on each core.
// A plan on a device holds types of wgpu that nest deeper than 128 auto traits.
#![recursion_limit = "256"]
#![forbid(unsafe_code)]

pub mod batch;
pub mod checkpoint;
pub mod columns;
pub mod epoch;
pub mod error;
pub mod failpoint;
pub mod format;
pub mod job;
pub mod memory;
pub mod outputs;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod seeded;
#[cfg(test)]
mod simulation;
pub mod sink;
pub mod state;
pub mod storage;
pub mod trigger;
pub mod wal;
pub mod watermark;
