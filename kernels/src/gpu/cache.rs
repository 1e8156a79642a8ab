//! What a driver has compiled, as bytes that the caller keeps from one run to the next.
//!
//! Invariant: what is damaged, of another device or of another driver is as if there were nothing; a
//! pipeline is the same with and without. This file says `unsafe`, as a driver believes its own bytes:
//! the caller hands in only what came from here, and has it checked by a hash.

/// Opens a cache that begins with the kept bytes, where the device has caches.
///
/// Errors: none; what the driver does not like it leaves out.
pub(super) fn open(device: &wgpu::Device, kept: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: kept, fallback: true };
    // SAFETY: the bytes came from `PipelineCache::get_data`: `Device::open_kept` asks for nothing else,
    // and its one caller outside of tests compares their hash with the one it wrote with them. wgpu
    // compares device, driver and length before the driver sees them.
    Some(unsafe { device.create_pipeline_cache(&descriptor) })
}
