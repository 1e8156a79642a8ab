//! `[gpu]`: how a device is used, where one is.

use super::reader::{Reader, Section};
use super::spec::GpuSpec;

pub const KEYS: &[&str] = &["shadow_one_in", "memory"];

pub fn read(r: &mut Reader, root: &Section) -> GpuSpec {
    let default = GpuSpec::default();
    let Some(entry) = root.get("gpu") else { return default };
    let Some(gpu) = r.open_entry("[gpu]".into(), entry, KEYS, &[]) else { return default };
    GpuSpec {
        shadow_one_in: r.count(&gpu, "shadow_one_in", 0).unwrap_or(default.shadow_one_in),
        memory: r.size(&gpu, "memory"),
    }
}
