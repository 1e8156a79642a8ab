//! Where a plan's kernels run under `device = "auto"`: decided from measured rates, not believed.
//!
//! Invariant: a function of rates and load, without a clock, a file or a device. What is not measured,
//! has no kernel or is no GPU is the CPU's; a GPU has to be faster by a margin. Filters, keys and
//! aggregate of a plan are one choice, as they run fused: a row that went up for one is there for all.
//!
//! The model: one core's nanoseconds a row against those that a core spends on a row that it sends up,
//! and against those that the one device spends on it for all cores. Decoding is the same in both.

use std::fmt;
use std::path::PathBuf;

use pelton_kernels::gpu::rates::{Rates, at_groups};
use pelton_kernels::gpu::{COLUMNS_MAX, sample};

use super::device::DevicePlan;

/// A GPU has to be so much faster, as the prediction is no better than that.
const MARGIN: f64 = 1.25;
/// Groups and rows of an epoch may be so many times more or fewer than assumed.
const RANGE: f64 = 8.0;
/// What a stream's epoch is taken for until one was seen.
const ROWS_ASSUMED: f64 = 1e6;
const GROUPS_ASSUMED: f64 = 1e4;
/// Rows of a decoder's batch, and those batches of a submission.
const BATCH_ROWS: f64 = 8192.0;
const BATCHES_OF_SUBMISSION: f64 = 8.0;
/// Fates come back with each batch.
const FATE_BYTES: f64 = 4.0;

/// What an epoch asks of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Rows and groups of an epoch; none where rows come back instead.
    pub rows: f64,
    pub groups: Option<f64>,
    pub cores: f64,
    /// Bytes of a row that go up.
    pub row_bytes: f64,
    /// Aggregated columns, or computed ones, as those that rates were measured with.
    pub columns: f64,
}

impl Load {
    /// What a plan is taken for before its first epoch.
    pub fn of(plan: &DevicePlan, cores: usize) -> Load {
        let calls = plan.query.calls.iter().filter(|call| call.argument.is_some()).count();
        let (groups, columns) = match plan.gives_rows() {
            true => (None, plan.query.arguments.len() as f64),
            false => (Some(GROUPS_ASSUMED), calls as f64 / sample::CALLS_OF_COLUMN as f64),
        };
        let row_bytes = plan.query.row_bytes() as f64;
        Load { rows: ROWS_ASSUMED, groups, cores: cores.max(1) as f64, row_bytes, columns }
    }
}

/// Rows a second that a job's cores can be expected to take, decoding left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    pub cpu: f64,
    pub gpu: f64,
}

impl Predicted {
    fn gpu_wins(&self) -> bool {
        self.gpu >= MARGIN * self.cpu
    }
}

/// Predicts both rates.
pub fn predict(rates: &Rates, load: &Load) -> Predicted {
    match load.groups {
        Some(groups) => predict_groups(rates, load, groups),
        None => predict_rows(rates, load),
    }
}

/// A core waits for each batch, and what it waits for no other has meanwhile: they take turns.
fn predict_rows(rates: &Rates, load: &Load) -> Predicted {
    let Load { cores, row_bytes, columns, .. } = *load;
    let measured_bytes = sample::passing_row_bytes(0) as f64 + 8.0 * columns;
    let more_bytes_ns = (row_bytes - measured_bytes) * 1e9 / rates.upload[0].max(1.0);
    let of_batch = rates.dispatch_ns * (1.0 / BATCH_ROWS - 1.0 / sample::BATCH_ROWS as f64);
    let gpu_ns = rates.filter.of(columns) + more_bytes_ns + of_batch;
    let cpu_ns = rates.filter_cpu.of(columns);
    Predicted { cpu: cores * 1e9 / cpu_ns.max(0.01), gpu: 1e9 / gpu_ns.max(0.01) }
}

fn predict_groups(rates: &Rates, load: &Load, groups: f64) -> Predicted {
    let Load { rows, cores, row_bytes, columns, .. } = *load;
    let groups = groups.clamp(1.0, rows.max(1.0));
    let cpu_ns = at_groups(&rates.cpu, groups, columns);
    let upload_ns = 1e9 / rates.upload[0].max(1.0);
    // What the measured rows had to send is part of their cost.
    let measured_bytes = sample::row_bytes(0) as f64 + 8.0 * columns;
    let more_bytes_ns = (row_bytes - measured_bytes) * upload_ns;
    let batch_ns = rates.dispatch_ns * (1.0 + 1.0 / BATCHES_OF_SUBMISSION);
    let of_batch = batch_ns / BATCH_ROWS - rates.dispatch_ns / sample::BATCH_ROWS as f64;
    let project_ns = (rates.project.of(columns) + more_bytes_ns + of_batch).max(0.1);
    let fold_ns = at_groups(&rates.fold, groups, columns);
    // Two questions and two answers, and each group comes back.
    let barrier_ns = 4.0 * rates.dispatch_ns + groups * rates.drain_ns;
    let host_ns = project_ns + barrier_ns / rows.max(1.0);
    // The device's own part of a row: its kernels, and what goes through its one bus.
    let bus_ns = row_bytes * upload_ns + FATE_BYTES * 1e9 / rates.read_back.max(1.0);
    let device_ns = bus_ns + fold_ns;
    let gpu = (cores * 1e9 / host_ns.max(fold_ns)).min(1e9 / device_ns.max(0.01));
    Predicted { cpu: cores * 1e9 / cpu_ns.max(0.01), gpu }
}

/// For which groups an epoch a GPU wins, or for which computed columns, the other facts as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossover {
    Never,
    Always,
    /// From so many groups on.
    From(f64),
    /// Up to so many groups.
    UpTo(f64),
    Between(f64, f64),
}

/// Looks at numbers of groups from 1 to the epoch's rows, four a decade; at computed columns one by one.
pub fn crossover(rates: &Rates, load: &Load) -> Crossover {
    let steps = match load.groups {
        Some(_) => (load.rows.max(1.0).log10() * 4.0) as usize,
        None => COLUMNS_MAX,
    };
    let number = |step: usize| match load.groups {
        Some(_) => 10_f64.powf(step as f64 / 4.0),
        None => step as f64,
    };
    let at = |step: usize| match load.groups {
        Some(_) => Load { groups: Some(number(step)), ..*load },
        // Another column is another double that goes up.
        None => {
            let columns = number(step);
            let row_bytes = load.row_bytes + 8.0 * (columns - load.columns);
            Load { columns, row_bytes, ..*load }
        }
    };
    let wins = |&step: &usize| predict(rates, &at(step)).gpu_wins();
    match ((0..=steps).find(wins), (0..=steps).rfind(wins)) {
        (Some(first), Some(last)) => match (first == 0, last == steps) {
            (true, true) => Crossover::Always,
            (true, false) => Crossover::UpTo(number(last)),
            (false, true) => Crossover::From(number(first)),
            (false, false) => Crossover::Between(number(first), number(last)),
        },
        _ => Crossover::Never,
    }
}

/// Rows of an epoch from which on a GPU wins, with as many groups as there are.
pub fn rows_crossover(rates: &Rates, load: &Load) -> Option<f64> {
    let mut rows = (0..=40).map(|step| 10_f64.powf(f64::from(step) / 4.0));
    rows.find(|&rows| predict(rates, &Load { rows, ..*load }).gpu_wins())
}

/// The adapter that a job could take, as it is numbered, and what is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    pub index: Option<usize>,
    pub found: Found,
    /// Where what its driver has compiled is kept.
    pub pipelines: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Found {
    /// Vulkan shows no adapter.
    #[default]
    None,
    /// Software Vulkan; its rates, where somebody had it measured, are told and not gone by.
    Software(Option<Rates>),
    /// It computes something otherwise than the CPU.
    Differs(Vec<String>),
    /// It cannot be opened or measured, with the reason.
    Unmeasured(String),
    Measured(Rates),
}

/// Why the choice is what it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    NoAdapter,
    Software,
    Differs(Vec<String>),
    Unmeasured(String),
    Faster,
    /// The GPU loses here.
    Slower,
}

/// A choice, with what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceChoice {
    pub on_gpu: bool,
    pub reason: Reason,
    /// Where rates are known.
    pub facts: Option<Facts>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    pub load: Load,
    pub predicted: Predicted,
    pub crossover: Crossover,
    pub rows_crossover: Option<f64>,
}

/// Chooses for a load.
pub fn choose(found: &Found, load: &Load) -> DeviceChoice {
    let facts = |rates: &Rates| Facts {
        load: *load,
        predicted: predict(rates, load),
        crossover: crossover(rates, load),
        rows_crossover: rows_crossover(rates, load),
    };
    let (reason, facts) = match found {
        Found::None => (Reason::NoAdapter, None),
        Found::Software(rates) => (Reason::Software, rates.as_ref().map(facts)),
        Found::Differs(operations) => (Reason::Differs(operations.clone()), None),
        Found::Unmeasured(reason) => (Reason::Unmeasured(reason.clone()), None),
        Found::Measured(rates) => {
            let facts = facts(rates);
            let wins = facts.predicted.gpu_wins();
            (if wins { Reason::Faster } else { Reason::Slower }, Some(facts))
        }
    };
    DeviceChoice { on_gpu: reason == Reason::Faster, reason, facts }
}

/// A choice that is made again when an epoch was none of those that it was made for.
#[derive(Clone, Debug)]
pub struct Auto {
    found: Found,
    load: Load,
    choice: DeviceChoice,
}

impl Auto {
    pub fn new(found: Found, load: Load) -> Auto {
        let choice = choose(&found, &load);
        Auto { found, load, choice }
    }

    pub fn choice(&self) -> &DeviceChoice {
        &self.choice
    }

    /// Takes notice of an epoch; the new choice where it is another one than before.
    pub fn see(&mut self, rows: u64, groups: u64) -> Option<&DeviceChoice> {
        let (rows, groups) = (rows as f64, groups as f64);
        let left =
            |seen: f64, assumed: f64| !(assumed / RANGE..=assumed * RANGE).contains(&seen.max(1.0));
        let left_groups = self.load.groups.is_some_and(|assumed| left(groups, assumed));
        if rows == 0.0 || !(left(rows, self.load.rows) || left_groups) {
            return None;
        }
        self.load = Load { rows, groups: self.load.groups.map(|_| groups.max(1.0)), ..self.load };
        let choice = choose(&self.found, &self.load);
        let differs = choice.on_gpu != self.choice.on_gpu;
        self.choice = choice;
        differs.then_some(&self.choice)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.on_gpu { "GPU: " } else { "CPU: " })?;
        match &self.reason {
            Reason::NoAdapter => f.write_str("there is no GPU"),
            Reason::Software => f.write_str("software Vulkan is never chosen"),
            Reason::Differs(operations) => {
                write!(f, "the GPU computes otherwise: {}", operations.join(", "))
            }
            Reason::Unmeasured(reason) => write!(f, "no rates of the GPU: {reason}"),
            Reason::Faster => f.write_str("it is faster by its measured rates"),
            Reason::Slower => f.write_str("GPU loses here by its measured rates"),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { load, predicted, crossover, rows_crossover } = self;
        let (with, of) = match load.groups {
            Some(groups) => {
                let (rows, groups) = (short(load.rows), short(groups));
                (format!("{rows} rows and {groups} groups an epoch"), "groups")
            }
            None => (format!("{} computed columns", short(load.columns)), "computed columns"),
        };
        writeln!(
            f,
            "  predicted: CPU {:.1} M rows/s, GPU {:.1} M rows/s, with {with} on {} cores",
            predicted.cpu / 1e6,
            predicted.gpu / 1e6,
            load.cores,
        )?;
        f.write_str("  crossover: ")?;
        match crossover {
            Crossover::Never => writeln!(f, "GPU loses here with any number of {of}"),
            Crossover::Always => writeln!(f, "GPU wins with any number of {of}"),
            Crossover::From(least) => writeln!(f, "GPU wins from {} {of} on", short(*least)),
            Crossover::UpTo(most) => writeln!(f, "GPU wins up to {} {of}", short(*most)),
            Crossover::Between(from, to) => {
                writeln!(f, "GPU wins from {} to {} {of}", short(*from), short(*to))
            }
        }?;
        match rows_crossover {
            // Nothing waits for the end of an epoch where rows come back at once.
            _ if load.groups.is_none() => Ok(()),
            Some(rows) => writeln!(f, "  epochs:    GPU wins from {} rows on", short(*rows)),
            None => writeln!(f, "  epochs:    GPU loses here whatever their rows"),
        }
    }
}

/// 1778279.4 → `1.8 M`.
fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.1} G", number / 1e9),
        1e6.. => format!("{:.1} M", number / 1e6),
        1e4.. => format!("{:.0} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
