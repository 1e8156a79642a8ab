//! What the machine offers and forbids: cores, caches, memory, limits, io_uring; and who runs where.
//!
//! Invariant: parsing and placement are pure, text in and facts out; only `machine` and the named
//! files with unsafe blocks (`affinity`, `limits`, `ring`) ask the kernel. Nothing here changes the
//! machine but [`pin`], which moves the calling thread.
//! It lacks graphics adapters, which `kernels` lists and `pelton hardware` adds, and rates: those are
//! measured by benchmarks.

pub mod affinity;
pub mod cgroup;
pub mod cpu_list;
pub mod limits;
pub mod machine;
pub mod placement;
pub mod probe;
pub mod report;
pub mod resident;
mod ring;
pub mod simd;
pub mod topology;

pub use affinity::pin;
pub use cpu_list::parse_cpu_list;
pub use machine::Machine;
pub use placement::{Placement, SplitKind};
pub use probe::{IoUring, Refusal};
pub use report::{report, report_json};
pub use topology::Core;

/// Reads a small text file of `/proc` or `/sys`; `None` where there is none. Tests pass a table.
pub type ReadText<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Files as a table: what a test machine consists of.
#[cfg(test)]
pub(crate) fn files(
    table: &'static [(&'static str, &'static str)],
) -> impl Fn(&str) -> Option<String> {
    move |path| table.iter().find(|(name, _)| *name == path).map(|(_, text)| text.to_string())
}
