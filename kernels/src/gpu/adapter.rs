//! Which graphics adapters there are, and what each could do.
//!
//! Invariant: asking changes nothing: no device is opened. An adapter that lacks even the portable
//! tier is listed with the reason.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// How kernels are written for a device: both give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// 64-bit integers and atomics.
    Native,
    /// WebGPU's baseline: 32 bits, eight storage buffers.
    Portable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discrete,
    Integrated,
    Virtual,
    /// The CPU in disguise: for tests; never chosen by itself.
    Software,
    Unknown,
}

/// An adapter as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Place among the adapters of this machine.
    pub index: usize,
    pub name: String,
    pub driver: String,
    pub kind: Kind,
    /// The best tier; or why there is none.
    pub tier: Result<Tier, String>,
    pub buffer_bytes_max: u64,
    pub binding_bytes_max: u64,
    pub workgroup_bytes_max: u32,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Tier::Native => "native",
            Tier::Portable => "portable",
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Discrete => "discrete",
            Kind::Integrated => "integrated",
            Kind::Virtual => "virtual",
            Kind::Software => "software",
            Kind::Unknown => "unknown",
        }
    }
}

/// All Vulkan adapters, in the loader's order; none without a driver.
pub fn adapters() -> Vec<Adapter> {
    raw_adapters(&instance()).iter().enumerate().map(|(i, raw)| describe(i, raw)).collect()
}

/// What a native device is asked for.
pub(super) fn native_features() -> wgpu::Features {
    wgpu::Features::SHADER_INT64 | wgpu::Features::SHADER_INT64_ATOMIC_ALL_OPS
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

pub(super) fn raw_adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
}

pub(super) fn describe(index: usize, raw: &wgpu::Adapter) -> Adapter {
    let (info, limits) = (raw.get_info(), raw.limits());
    let baseline = wgpu::Limits::default();
    let tier = if raw.features().contains(native_features()) {
        Ok(Tier::Native)
    } else if limits.max_storage_buffers_per_shader_stage
        >= baseline.max_storage_buffers_per_shader_stage
    {
        Ok(Tier::Portable)
    } else {
        Err(format!("{} storage buffers", limits.max_storage_buffers_per_shader_stage))
    };
    Adapter {
        index,
        name: info.name,
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => Kind::Unknown,
        },
        tier,
        buffer_bytes_max: limits.max_buffer_size,
        binding_bytes_max: limits.max_storage_buffer_binding_size,
        workgroup_bytes_max: limits.max_compute_workgroup_storage_size,
    }
}

/// The answer of a future that a native backend has ready, or will have after another look.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::hint::spin_loop(),
        }
    }
}
