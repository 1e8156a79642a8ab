//! What a device and one core of the CPU do in a second, as measured: what `auto` decides by.
//!
//! Invariant: measuring needs a clock, which is the caller's; what was measured is plain numbers, and
//! what is predicted from them a function of those. Times are the least of some rounds: what is above
//! it is somebody else's.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;

use super::device::Device;
use super::error::Result;
use super::program::Program;
use super::project::{ANSWER, Projector, STAGING, STORAGE};
use super::sample::{self, Groups, Kernels};

/// The caller's clock, from any moment on.
pub type Clock<'a> = &'a dyn Fn() -> Duration;

/// Numbers of groups at which folding is measured: in a cache line, in L2, in memory.
pub const GROUPS: [u64; 3] = [1, 1_000, 1_000_000];
/// Measured columns between which a column's share is found. More of them, and a million groups do not
/// fit the 128 MiB that a binding has in the portable tier.
const COLUMNS: [usize; 2] = [1, 2];
const ROUNDS: usize = 3;
/// Large against what a call costs, small against a device.
const TRANSFER_BYTES: u64 = 16 << 20;
const DISPATCHES: usize = 64;

/// How bytes come to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A mapped buffer that is written, unmapped and copied from: what kernels use.
    Mapped,
    /// The queue's own staging.
    Written,
    /// A buffer made anew, mapped.
    Created,
}

impl Method {
    pub const ALL: [Method; 3] = [Method::Mapped, Method::Written, Method::Created];

    pub fn name(self) -> &'static str {
        match self {
            Method::Mapped => "mapped staging",
            Method::Written => "write_buffer",
            Method::Created => "mapped at creation",
        }
    }
}

/// Nanoseconds of a row, and of each measured column in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub row_ns: f64,
    pub column_ns: f64,
}

impl Cost {
    pub fn of(self, columns: f64) -> f64 {
        self.row_ns + columns * self.column_ns
    }

    /// From the costs of a row with each of [`COLUMNS`].
    fn between([few, more]: [f64; 2]) -> Cost {
        let column_ns = ((more - few) / (COLUMNS[1] - COLUMNS[0]) as f64).max(0.0);
        Cost { row_ns: (few - COLUMNS[0] as f64 * column_ns).max(0.0), column_ns }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bytes a second, by [`Method`].
    pub upload: [f64; 3],
    /// Bytes a second.
    pub read_back: f64,
    /// Nanoseconds from a submission to the end of the wait for it.
    pub dispatch_ns: f64,
    /// Upload, filter, projection and fates, in full batches.
    pub project: Cost,
    /// A device's fold into each of [`GROUPS`].
    pub fold: [Cost; 3],
    /// Nanoseconds to bring a group back into the CPU's table.
    pub drain_ns: f64,
    /// All of it on one core, at each of [`GROUPS`].
    pub cpu: [Cost; 3],
    /// Of rows without groups: upload, filter, computed columns, and what comes back of those that pass.
    pub filter: Cost,
    /// The same on one core.
    pub filter_cpu: Cost,
}

/// A cost between those at [`GROUPS`], along the logarithm of the number of groups.
pub fn at_groups(costs: &[Cost; 3], groups: f64, columns: f64) -> f64 {
    let place = groups.max(1.0).log10() / 3.0;
    let below = (place as usize).min(1);
    let [low, high] = [costs[below], costs[below + 1]].map(|cost| cost.of(columns));
    low + (high - low) * (place - below as f64).min(1.0)
}

/// Rows at each of [`GROUPS`] for a rate to be believed: the last needs as many as it has groups.
pub const ROWS: [u64; 3] = [1 << 18, 1 << 18, 1 << 20];

/// Measures a device, and one core beside it, with so many rows at each of [`GROUPS`].
///
/// Cost: a second or two on a GPU. Errors: those of the device.
pub fn measure(device: &Arc<Device>, rows: [u64; 3], clock: Clock<'_>) -> Result<Rates> {
    let mut rates = Rates {
        upload: upload(device, clock)?,
        read_back: read_back(device, clock)?,
        dispatch_ns: dispatch(device, clock)?,
        ..Rates::default()
    };
    let mut project = [f64::INFINITY; 2];
    let [mut fold, mut cpu] = [[[f64::INFINITY; 2]; 3]; 2];
    for (at, columns) in COLUMNS.into_iter().enumerate() {
        let query = sample::query(columns);
        let mut kernels = Kernels::new(device, query.clone())?;
        for (place, (groups, rows)) in GROUPS.into_iter().zip(rows).enumerate() {
            let batches = sample::batches(rows, groups, columns);
            let mut side = Groups::new(&query);
            // The first round pays for the driver's last compilation and for growing the table.
            for round in 0..=ROUNDS {
                side.table.clear();
                let took = timed(clock, || batches.iter().for_each(|b| side.take(&query, b)));
                let there = side.table.groups().len().max(1) as f64;
                side.table.clear();
                let took = [vec![took], steps(&mut kernels, &mut side, &batches, clock)?].concat();
                if round > 0 {
                    let least = |best: &mut f64, took: f64, of: f64| *best = best.min(took / of);
                    least(&mut cpu[place][at], took[0], rows as f64);
                    least(&mut project[at], took[1], rows as f64);
                    least(&mut fold[place][at], took[2], rows as f64);
                    if (place, at) == (GROUPS.len() - 1, 0) {
                        rates.drain_ns = took[3] / there;
                    }
                }
            }
        }
    }
    rates.project = Cost::between(project);
    (rates.fold, rates.cpu) = (fold.map(Cost::between), cpu.map(Cost::between));
    (rates.filter, rates.filter_cpu) = filtering(device, rows[0], clock)?;
    Ok(rates)
}

/// Rows without groups, on the device and on one core.
fn filtering(device: &Arc<Device>, rows: u64, clock: Clock<'_>) -> Result<(Cost, Cost)> {
    let [mut there, mut here] = [[f64::INFINITY; 2]; 2];
    for (at, columns) in COLUMNS.into_iter().enumerate() {
        let query = sample::rows_query(columns);
        let mut projector = Projector::new(&Arc::new(Program::rows(device, query.clone())?));
        let batches = sample::batches(rows, 1, columns);
        let batches = || batches.iter().map(|batch| sample::of_rows(batch));
        for round in 0..=ROUNDS {
            let mut fates = Vec::new();
            let mut pass = |batch: &[ArrayRef]| {
                fates.clear();
                projector.filter(batch, 0, batch[0].len(), &mut fates).map(drop)
            };
            let began = clock();
            batches().try_for_each(&mut pass)?;
            let on_device = (clock() - began).as_nanos() as f64;
            let on_cpu = timed(clock, || batches().for_each(|b| drop(sample::pass(&query, b))));
            if round > 0 {
                there[at] = there[at].min(on_device / rows as f64);
                here[at] = here[at].min(on_cpu / rows as f64);
            }
        }
    }
    Ok((Cost::between(there), Cost::between(here)))
}

/// Nanoseconds of an epoch's projection, fold and drain, one behind the other.
fn steps(
    kernels: &mut Kernels,
    side: &mut Groups,
    batches: &[Vec<ArrayRef>],
    clock: Clock<'_>,
) -> Result<Vec<f64>> {
    let mut times = vec![clock()];
    let selected = batches.iter().map(|batch| kernels.project(batch));
    let selected = selected.collect::<Result<Vec<_>>>()?;
    times.push(clock());
    let Kernels { projector, table } = kernels;
    table.aggregate(selected, projector)?;
    table.settle(projector)?;
    times.push(clock());
    kernels.drain(side)?;
    times.push(clock());
    Ok(times.windows(2).map(|pair| (pair[1] - pair[0]).as_nanos() as f64).collect())
}

fn timed(clock: Clock<'_>, work: impl FnOnce()) -> f64 {
    let began = clock();
    work();
    (clock() - began).as_nanos() as f64
}

/// The least time of some rounds, in bytes a second of a transfer.
fn rate(clock: Clock<'_>, mut transfer: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..=ROUNDS {
        let began = clock();
        transfer()?;
        best = best.min((clock() - began).as_secs_f64());
    }
    Ok(TRANSFER_BYTES as f64 / best.max(1e-9))
}

fn upload(device: &Device, clock: Clock<'_>) -> Result<[f64; 3]> {
    let words = vec![0x5eed_u32; TRANSFER_BYTES as usize / 4];
    let to = device.buffer(TRANSFER_BYTES, STORAGE)?;
    let staging = device.buffer(TRANSFER_BYTES, STAGING)?;
    let mapped = rate(clock, || {
        device.write_mapped(&staging, &words)?;
        let mut encoder = device.encoder();
        encoder.copy_buffer_to_buffer(&staging.raw, 0, &to.raw, 0, TRANSFER_BYTES);
        device.wait(&device.submit(encoder)?, "an upload")
    })?;
    drop(staging);
    let written = rate(clock, || {
        device.write_queued(&to, &words)?;
        device.wait(&device.submit(device.encoder())?, "an upload")
    })?;
    let created = rate(clock, || {
        let from = device.buffer_of(&words)?;
        let mut encoder = device.encoder();
        encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, TRANSFER_BYTES);
        device.wait(&device.submit(encoder)?, "an upload")
    })?;
    Ok([mapped, written, created])
}

fn read_back(device: &Device, clock: Clock<'_>) -> Result<f64> {
    let from = device.buffer(TRANSFER_BYTES, STORAGE)?;
    let answer = device.buffer(TRANSFER_BYTES, ANSWER)?;
    rate(clock, || {
        let mut encoder = device.encoder();
        encoder.copy_buffer_to_buffer(&from.raw, 0, &answer.raw, 0, TRANSFER_BYTES);
        device.wait(&device.submit(encoder)?, "a read-back")?;
        device.read_mapped(&answer, TRANSFER_BYTES as usize / 4).map(drop)
    })
}

/// The middle one of many: the first pays for the driver's last compilation.
fn dispatch(device: &Device, clock: Clock<'_>) -> Result<f64> {
    let shader = "@group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
          if (id.x == 0u) { out[0] += 1u; }
        }";
    let pipeline = device.pipeline(shader, "main")?;
    let out = device.buffer(16, STORAGE)?;
    let group = device.bind(&pipeline, &[(0, &out)]);
    let mut took = Vec::with_capacity(DISPATCHES);
    for _ in 0..DISPATCHES {
        let began = clock();
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        super::program::dispatch(&mut pass, &pipeline, &group, 64);
        drop(pass);
        device.wait(&device.submit(encoder)?, "a dispatch")?;
        took.push((clock() - began).as_nanos() as f64);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[DISPATCHES / 2])
}
