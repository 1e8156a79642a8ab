//! The job file: TOML in, a [`spec::JobSpec`] out, every error with its place and its fix.

pub mod finding;
pub mod map;
pub mod spec;
