//! Sources and decoders: bytes in, columns out, an epoch's parts to the run loop.
//!
//! A thread on each core drives an [`pelton_engine::pipeline::Pipeline`]: it reads through its own
//! ring, decodes while the bytes are in its cache, and hands nothing over before a barrier. Where to
//! begin reading: [`runtime`]. Unsafe code lives in `ring::uring`, `ring::poll` and the decoder's
//! vector tiers only.

pub mod decode;
pub mod generate;
pub mod kafka;
mod ring;
pub mod runtime;
mod source;
pub mod tables;
#[cfg(test)]
mod tables_tests;
