//! Rates by groups and columns: the CPU's kernels and each device's over the same rows.

use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use pelton_kernels::gpu::sample::{self, Groups, Kernels};
use pelton_kernels::gpu::{GpuError, Query};

use super::{Candidate, failed};
use crate::error::Error;

/// Ten million are what a binding of 2 GiB still holds; GPU.md's hundred million it does not.
pub const GROUPS: [u64; 5] = [1, 100, 10_000, 1_000_000, 10_000_000];
/// Measured columns; with none rows are only counted.
pub const COLUMNS: [usize; 3] = [0, 1, 4];

/// Rates of one shape of the work.
pub struct Line {
    pub groups: u64,
    pub columns: usize,
    /// Rows a second.
    pub cpu: f64,
    /// For each candidate; none where its table has no room.
    pub devices: Vec<Option<Rates>>,
}

/// Rows a second.
pub struct Rates {
    pub all: f64,
    pub fold: f64,
}

pub fn measure(rows: u64, rounds: usize, candidates: &[Candidate]) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for columns in COLUMNS {
        let query = sample::query(columns);
        let kernels = |candidate: &Candidate| {
            Kernels::new(&candidate.device, query.clone()).map_err(failed(candidate))
        };
        let mut kernels = candidates.iter().map(kernels).collect::<Result<Vec<_>, _>>()?;
        for groups in GROUPS.into_iter().filter(|groups| *groups <= rows) {
            eprintln!("{columns} columns, {groups} groups");
            let batches = sample::batches(rows, groups, columns);
            // One for all: partials are compared in the order of its keys.
            let mut side = Groups::new(&query);
            let (expected, cpu) = on_cpu(&query, &batches, rounds, &mut side);
            let mut devices = Vec::new();
            for (candidate, kernels) in candidates.iter().zip(&mut kernels) {
                devices.push(match on_device(kernels, &mut side, &batches, rounds, &expected) {
                    Ok(rates) => Some(rates),
                    Err(Failure::Device(GpuError::OutOfMemory { .. })) => {
                        *kernels = Kernels::new(&candidate.device, query.clone())
                            .map_err(failed(candidate))?;
                        None
                    }
                    Err(Failure::Device(error)) => return Err(failed(candidate)(error)),
                    Err(Failure::Wrong) => {
                        let name = &candidate.name;
                        return Err(Error::Wrong(format!("{name} has other groups than the CPU")));
                    }
                });
            }
            lines.push(Line { groups, columns, cpu: rows as f64 / cpu, devices });
        }
    }
    lines.sort_by_key(|line| (line.groups, line.columns));
    Ok(lines)
}

/// The right groups, and the least seconds.
fn on_cpu(
    query: &Query,
    batches: &[Vec<ArrayRef>],
    rounds: usize,
    side: &mut Groups,
) -> (RecordBatch, f64) {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        side.table.clear();
        let began = Instant::now();
        batches.iter().for_each(|batch| side.take(query, batch));
        best = best.min(began.elapsed().as_secs_f64());
    }
    (sorted(side), best)
}

enum Failure {
    Device(GpuError),
    Wrong,
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Failure {
        Failure::Device(error)
    }
}

fn on_device(
    kernels: &mut Kernels,
    side: &mut Groups,
    batches: &[Vec<ArrayRef>],
    rounds: usize,
    expected: &RecordBatch,
) -> Result<Rates, Failure> {
    let rows = batches.iter().map(|batch| batch[0].len()).sum::<usize>() as f64;
    let (mut all, mut fold) = (f64::INFINITY, f64::INFINITY);
    // One round more: the first pays for the driver's last compilation and for growing the table.
    for round in 0..=rounds {
        side.table.clear();
        let began = Instant::now();
        kernels.take(batches)?;
        kernels.drain(side)?;
        if round > 0 {
            all = all.min(began.elapsed().as_secs_f64());
        }
        if round == 0 && sorted(side) != *expected {
            return Err(Failure::Wrong);
        }
        // Batches that are up already, several at a time: their records have to fit.
        let mut folding = 0.0;
        for some in batches.chunks(FOLDED) {
            let selected = some.iter().map(|batch| kernels.project(batch));
            let selected = selected.collect::<Result<Vec<_>, _>>()?;
            let Kernels { projector, table } = &mut *kernels;
            let began = Instant::now();
            table.aggregate(selected, projector)?;
            table.settle(projector)?;
            folding += began.elapsed().as_secs_f64();
        }
        side.table.clear();
        kernels.drain(side)?;
        fold = fold.min(folding);
    }
    Ok(Rates { all: rows / all, fold: rows / fold })
}

/// Batches whose fold is measured at once.
const FOLDED: usize = 32;

/// The partial in the order of the packed keys.
fn sorted(side: &Groups) -> RecordBatch {
    let mut groups: Vec<u32> = side.table.groups().iter().collect();
    groups.sort_by_key(|&group| side.table.groups().key(group));
    side.table.partial(&side.space, Some(&groups))
}

/// Where a device begins to be worth it.
pub fn crossover(lines: &[Line], place: usize) -> String {
    let wins =
        |line: &&Line| line.devices[place].as_ref().is_some_and(|rates| rates.all > line.cpu);
    let wins: Vec<_> = lines.iter().filter(wins).collect();
    match wins.first() {
        None => "the device loses here, whatever the groups and columns".to_owned(),
        Some(_) if wins.len() == lines.len() => "the device wins everywhere".to_owned(),
        Some(first) => format!(
            "the device wins {} of {} shapes, the first with {} groups and {} columns",
            wins.len(),
            lines.len(),
            first.groups,
            first.columns
        ),
    }
}
