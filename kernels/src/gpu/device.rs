//! An open device: buffers within a budget, submissions, read-backs, and the signs that it is gone.
//!
//! Invariant: no call panics on a device that is lost or refuses; after a loss every call is an error.
//! wgpu reports a loss by a callback at the next poll and errors to a handler; both only raise a flag
//! here, and each method looks at it before it hands anything out. A wait has a timeout.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::adapter::{self, Adapter, Kind, Tier};
use super::cache;
use super::error::{GpuError, Result};
use super::faults::{Fault, Faults};
use super::project::STAGING;

/// A submission of ours is done in milliseconds; drivers give a hung one up after 2 to 10 s themselves.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Software compiles at its first dispatch, which a crowded machine makes seconds of.
const ANSWER_MAX_SOFTWARE: Duration = Duration::from_secs(120);
/// Of the memory that a driver offers; nobody but the driver knows what is really free.
const BUDGET_DEFAULT: u64 = 1 << 30;

/// Which adapter to open, and as what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// None: the first discrete one, else the first that is no software, else software.
    pub index: Option<usize>,
    /// None: the best that it has.
    pub tier: Option<Tier>,
    /// Bytes of buffers at most.
    pub budget_bytes: Option<u64>,
    /// How long an answer may take; none: what is far beyond what it takes.
    pub answer_max: Option<Duration>,
}

pub struct Device {
    raw: wgpu::Device,
    queue: wgpu::Queue,
    adapter: Adapter,
    tier: Tier,
    trouble: Arc<Mutex<Option<GpuError>>>,
    budget: Arc<Budget>,
    numbers: AtomicU32,
    asked: Asked,
    /// Where the driver has one.
    cache: Option<wgpu::PipelineCache>,
    answer_max: Duration,
    pub faults: Faults,
}

#[derive(Debug, Default)]
struct Asked {
    buffers: AtomicU64,
    bindings: AtomicU64,
    submissions: AtomicU64,
    waits: AtomicU64,
    words_read: AtomicU64,
}

/// What a device was asked, as numbers: what a test of its use can rely on, unlike times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Made, whether they are still there or not.
    pub buffers: u64,
    /// One a dispatch.
    pub bindings: u64,
    pub submissions: u64,
    /// For a submission to end.
    pub waits: u64,
    /// Of all answers.
    pub words_read: u64,
}

#[derive(Debug)]
struct Budget {
    max: u64,
    used: AtomicU64,
}

/// A buffer and its charge, given back when it is dropped.
pub(crate) struct Buffer {
    pub raw: wgpu::Buffer,
    budget: Arc<Budget>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.raw.size(), Relaxed);
    }
}

impl Device {
    /// Opens an adapter.
    ///
    /// Errors: `NoAdapter` where there is none of this kind, or it lacks the tier.
    pub fn open(choice: Choice) -> Result<Device> {
        Device::open_kept(choice, None)
    }

    /// Opens an adapter with what its driver had compiled before: bytes of [`Device::compiled`], which
    /// the caller has checked to be those.
    pub fn open_kept(choice: Choice, kept: Option<&[u8]>) -> Result<Device> {
        let caches = wgpu::Features::PIPELINE_CACHE;
        let (mut device, _) = Device::open_with(choice, caches)?;
        device.cache = cache::open(&device.raw, kept);
        device.check().map(|()| device)
    }

    /// What the driver has compiled so far, where it tells.
    pub fn compiled(&self) -> Option<Vec<u8>> {
        self.cache.as_ref().and_then(wgpu::PipelineCache::get_data)
    }

    /// Opens an adapter with f64 in its shaders, where it has them; and whether it has.
    pub(super) fn open_with_doubles(index: usize) -> Result<(Device, bool)> {
        let doubles = wgpu::Features::SHADER_F64;
        let choice = Choice { index: Some(index), ..Choice::default() };
        let (device, features) = Device::open_with(choice, doubles)?;
        let has_doubles = device.tier == Tier::Native && features.contains(doubles);
        Ok((device, has_doubles))
    }

    /// Also asks for those of `wanted` that the adapter has; returns what was asked for.
    fn open_with(choice: Choice, wanted: wgpu::Features) -> Result<(Device, wgpu::Features)> {
        let instance = adapter::instance();
        let raw = adapter::raw_adapters(&instance);
        let known: Vec<_> =
            raw.iter().enumerate().map(|(i, raw)| adapter::describe(i, raw)).collect();
        let index = chosen(&known, choice.index)?;
        let adapter = known[index].clone();
        let best = adapter.tier.clone().map_err(GpuError::NoAdapter)?;
        let tier = choice.tier.unwrap_or(best);
        if tier == Tier::Native && best != Tier::Native {
            return Err(GpuError::NoAdapter(format!("{} lacks 64-bit atomics", adapter.name)));
        }
        let (required_features, required_limits) = match tier {
            Tier::Native => (adapter::native_features(), raw[index].limits()),
            Tier::Portable => (wgpu::Features::empty(), wgpu::Limits::default()),
        };
        let required_features = required_features | (wanted & raw[index].features());
        let request = raw[index].request_device(&wgpu::DeviceDescriptor {
            label: Some("pelton"),
            required_features,
            required_limits,
            ..wgpu::DeviceDescriptor::default()
        });
        let (raw, queue) =
            adapter::block_on(request).map_err(|error| GpuError::NoAdapter(error.to_string()))?;
        let trouble = Arc::new(Mutex::new(None));
        watch(&raw, &trouble);
        let max = choice.budget_bytes.unwrap_or(BUDGET_DEFAULT);
        let budget = Arc::new(Budget { max, used: AtomicU64::new(0) });
        let faults = Faults::default();
        let numbers = AtomicU32::new(0);
        let answer_max = choice.answer_max.unwrap_or(match adapter.kind {
            Kind::Software => ANSWER_MAX_SOFTWARE,
            _ => ANSWER_MAX,
        });
        let device = Device {
            raw,
            queue,
            adapter,
            tier,
            trouble,
            budget,
            numbers,
            asked: Asked::default(),
            cache: None,
            answer_max,
            faults,
        };
        Ok((device, required_features))
    }

    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Bytes of all buffers now.
    pub fn bytes_held(&self) -> u64 {
        self.budget.used.load(Relaxed)
    }

    /// What was asked of it so far.
    pub fn counts(&self) -> Counts {
        let Asked { buffers, bindings, submissions, waits, words_read } = &self.asked;
        let [buffers, bindings, submissions, waits, words_read] =
            [buffers, bindings, submissions, waits, words_read].map(|count| count.load(Relaxed));
        Counts { buffers, bindings, submissions, waits, words_read }
    }

    pub fn is_software(&self) -> bool {
        self.adapter.kind == Kind::Software
    }

    /// The first trouble there was, if any: the device is not to be used any more.
    pub fn check(&self) -> Result<()> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// A number that nothing else on this device has, for what has to tell its answer from others.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Destroys the device, as a driver's reset would.
    pub fn destroy(&self) {
        // The driver tells it when what it has to do is through; until then a buffer would seem to have no room.
        self.fail(GpuError::Lost("it was destroyed".to_owned()));
        self.raw.destroy();
        // The callback comes with the next poll.
        let _ = self.raw.poll(wgpu::PollType::Poll);
    }

    /// A buffer of zeros. Sizes are rounded up to 16 bytes.
    ///
    /// Errors: `OutOfMemory` beyond the budget, or beyond what one binding may hold.
    pub(crate) fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
        self.make(bytes, usage, false)
    }

    fn make(
        &self,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<Buffer> {
        self.check()?;
        let size = bytes.max(16).next_multiple_of(16);
        let limits = self.raw.limits();
        let storage = usage.contains(wgpu::BufferUsages::STORAGE);
        let most = match storage {
            true => limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            false => limits.max_buffer_size,
        };
        let used = self.budget.used.fetch_add(size, Relaxed);
        let left = self.budget.max.saturating_sub(used);
        if size > left || size > most || self.faults.fires(Fault::OutOfMemory) {
            self.budget.used.fetch_sub(size, Relaxed);
            return Err(GpuError::OutOfMemory { asked: size, left: left.min(most) });
        }
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation };
        self.asked.buffers.fetch_add(1, Relaxed);
        let scope = self.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.raw.create_buffer(&descriptor);
        let refused = adapter::block_on(scope.pop());
        let buffer = Buffer { raw, budget: Arc::clone(&self.budget) };
        // A device that is lost may answer as one without room would.
        self.check()?;
        match refused {
            Some(_) => Err(GpuError::OutOfMemory { asked: size, left }),
            None => Ok(buffer),
        }
    }

    /// Compiles an entry point of a shader.
    ///
    /// Errors: `Refused` with the compiler's reason.
    pub(crate) fn pipeline(&self, shader: &str, entry: &str) -> Result<wgpu::ComputePipeline> {
        self.check()?;
        if self.faults.fires(Fault::Pipeline) {
            return Err(GpuError::Refused(format!("pipeline {entry}: by request of a test")));
        }
        let scope = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let inner = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = self.raw.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry),
            source: wgpu::ShaderSource::Wgsl(shader.into()),
        });
        let pipeline = self.raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: self.cache.as_ref(),
        });
        let refused = adapter::block_on(inner.pop());
        let refused = adapter::block_on(scope.pop()).or(refused);
        match refused {
            Some(error) => Err(GpuError::Refused(format!("pipeline {entry}: {error}"))),
            None => self.check().map(|()| pipeline),
        }
    }

    /// Binds buffers to a pipeline's first group, each at its binding.
    pub(crate) fn bind(
        &self,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[(u32, &Buffer)],
    ) -> wgpu::BindGroup {
        self.asked.bindings.fetch_add(1, Relaxed);
        let entries = buffers.iter().map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding: *binding,
            resource: buffer.raw.as_entire_binding(),
        });
        self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        if self.faults.fires(Fault::Lost) {
            self.destroy();
        }
        self.check()?;
        self.asked.submissions.fetch_add(1, Relaxed);
        let index = self.queue.submit([encoder.finish()]);
        self.check().map(|()| index)
    }

    /// Waits for a submission, and for the mappings that were asked for before.
    pub(crate) fn wait(&self, index: &wgpu::SubmissionIndex, what: &'static str) -> Result<()> {
        self.asked.waits.fetch_add(1, Relaxed);
        let wait = wgpu::PollType::Wait {
            submission_index: Some(index.clone()),
            timeout: Some(self.answer_max),
        };
        if self.faults.fires(Fault::Hung) {
            return Err(self.fail(GpuError::Hung { what }));
        }
        let answer = self.raw.poll(wait);
        self.check()?;
        match answer {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(self.fail(GpuError::Hung { what })),
            Err(error) => Err(self.fail(GpuError::Lost(format!("{what}: {error}")))),
        }
    }

    /// Remembers a trouble; the first one stays.
    fn fail(&self, error: GpuError) -> GpuError {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert(error).clone()
    }

    /// Copies `bytes` into a buffer that can be mapped for writing and is not in use.
    pub(crate) fn write_mapped(&self, buffer: &Buffer, words: &[u32]) -> Result<()> {
        let bytes = bytemuck::cast_slice(words);
        self.fill_mapped(buffer, bytes.len(), |put| put(0, bytes))
    }

    /// Lets `fill` put so many bytes into such a buffer, each stretch at its place. What is there cannot be
    /// read: memory that a device sees may be uncached.
    pub(crate) fn fill_mapped(
        &self,
        buffer: &Buffer,
        bytes: usize,
        fill: impl FnOnce(&mut dyn FnMut(usize, &[u8])),
    ) -> Result<()> {
        let slice = buffer.raw.slice(..bytes as u64);
        self.map(slice, wgpu::MapMode::Write, "map a staging buffer")?;
        let view = slice.get_mapped_range_mut();
        let mut view = view.map_err(|error| self.fail(GpuError::Lost(error.to_string())))?;
        fill(&mut |at, bytes| view.slice(at..at + bytes.len()).copy_from_slice(bytes));
        drop(view);
        buffer.raw.unmap();
        Ok(())
    }

    /// Copies words into a buffer through the queue's own staging, with the next submission.
    pub(crate) fn write_queued(&self, buffer: &Buffer, words: &[u32]) -> Result<()> {
        self.queue.write_buffer(&buffer.raw, 0, bytemuck::cast_slice(words));
        self.check()
    }

    /// A staging buffer that is made with what is in it.
    pub(crate) fn buffer_of(&self, words: &[u32]) -> Result<Buffer> {
        let buffer = self.make((4 * words.len()) as u64, STAGING, true)?;
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let view = buffer.raw.slice(..bytes.len() as u64).get_mapped_range_mut();
        view.map_err(|error| self.fail(GpuError::Lost(error.to_string())))?.copy_from_slice(bytes);
        buffer.raw.unmap();
        self.check().map(|()| buffer)
    }

    /// The first words of a buffer that can be mapped for reading, whose writer was waited for.
    pub(crate) fn read_mapped(&self, buffer: &Buffer, words: usize) -> Result<Vec<u32>> {
        let slice = buffer.raw.slice(..(words.max(1) * 4) as u64);
        self.map(slice, wgpu::MapMode::Read, "map a read-back")?;
        let view = slice.get_mapped_range();
        let view = view.map_err(|error| self.fail(GpuError::Lost(error.to_string())))?;
        let mut read = vec![0; words];
        bytemuck::cast_slice_mut(&mut read).copy_from_slice(&view[..words * 4]);
        drop(view);
        buffer.raw.unmap();
        self.asked.words_read.fetch_add(words as u64, Relaxed);
        self.faults.spoil(&mut read);
        self.check().map(|()| read)
    }

    fn map(
        &self,
        slice: wgpu::BufferSlice<'_>,
        mode: wgpu::MapMode,
        what: &'static str,
    ) -> Result<()> {
        let (tell, told) = sync_channel(1);
        slice.map_async(mode, move |result| {
            // Nobody listens any more where the wait ended before.
            let _ = tell.send(result);
        });
        // A buffer that no submission uses is mapped by any poll; waiting is for one that is in use.
        let _ = self.raw.poll(wgpu::PollType::Poll);
        let mut result = told.try_recv().ok();
        if result.is_none() {
            let wait =
                wgpu::PollType::Wait { submission_index: None, timeout: Some(self.answer_max) };
            let _ = self.raw.poll(wait);
            self.check()?;
            // Another thread's poll may have taken the answer up, and be about to tell it.
            result = told.recv_timeout(self.answer_max).ok();
        }
        self.check()?;
        match result {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.fail(GpuError::Lost(format!("{what}: {error}")))),
            None => Err(self.fail(GpuError::Hung { what })),
        }
    }
}

/// Lets a loss and errors that no scope catches raise the flag.
fn watch(raw: &wgpu::Device, trouble: &Arc<Mutex<Option<GpuError>>>) {
    let raise = |trouble: &Mutex<Option<GpuError>>, error: GpuError| {
        trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    let flag = Arc::clone(trouble);
    raw.set_device_lost_callback(move |reason, message| {
        raise(&flag, GpuError::Lost(format!("{message} ({reason:?})")));
    });
    let flag = Arc::clone(trouble);
    raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        raise(&flag, GpuError::Refused(error.to_string()));
    }));
}

/// Which of the adapters is opened: the one of this number, else the first discrete one, else the first
/// that is no software, else software.
///
/// Errors: `NoAdapter`.
pub fn chosen(known: &[Adapter], index: Option<usize>) -> Result<usize> {
    if let Some(index) = index {
        let there = known.len();
        return known.get(index).map(|_| index).ok_or_else(|| {
            GpuError::NoAdapter(format!("there is no adapter {index}: Vulkan shows {there}"))
        });
    }
    let rank = |adapter: &&Adapter| match adapter.kind {
        _ if adapter.tier.is_err() => 4,
        Kind::Discrete => 0,
        Kind::Integrated => 1,
        Kind::Virtual | Kind::Unknown => 2,
        Kind::Software => 3,
    };
    let best = known.iter().min_by_key(rank);
    best.map(|adapter| adapter.index)
        .ok_or_else(|| GpuError::NoAdapter("Vulkan shows no adapter".to_owned()))
}
