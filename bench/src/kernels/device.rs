//! What a device's rates are made of: GPU.md's list of what to measure first on a real one.

use std::sync::Arc;
use std::time::Instant;

use pelton_kernels::gpu::rates::{Method, ROWS, Rates, measure};
use pelton_kernels::gpu::sample::{self, Groups, Kernels};
use pelton_kernels::gpu::{Device, GpuError, Operation, Tier, operations, probe};
use serde_json::{Value, json};

use super::{Candidate, failed};
use crate::error::Error;

/// Groups of what is compared with itself.
const GROUPS: u64 = 10_000;
const ROWS_COMPARED: u64 = 1 << 20;

pub struct Facts {
    /// Operations of ours at which it differs from the CPU.
    differing: Vec<String>,
    /// Its own floats; asked of the native tier alone, as they are the same device's.
    operations: Vec<Operation>,
    rates: Rates,
    /// Milliseconds to build a query's pipelines: first, again, and again on the device opened anew.
    pipelines_ms: [f64; 3],
    /// How many times faster several batches in flight are than one after the other.
    overlap: f64,
}

impl Facts {
    pub fn measure(candidate: &Candidate, rows: u64) -> Result<Facts, Error> {
        Facts::ask(candidate, rows).map_err(failed(candidate))
    }

    fn ask(candidate: &Candidate, rows: u64) -> Result<Facts, GpuError> {
        let Candidate { device, choice, .. } = candidate;
        // Before anything else has built pipelines like these.
        let began = Instant::now();
        drop(Kernels::new(device, sample::query(2))?);
        let first = began.elapsed();
        let began = Instant::now();
        drop(Kernels::new(device, sample::query(2))?);
        let again = began.elapsed();
        let opened = Arc::new(Device::open(*choice)?);
        let began = Instant::now();
        drop(Kernels::new(&opened, sample::query(2))?);
        let pipelines_ms = [first, again, began.elapsed()].map(|took| took.as_secs_f64() * 1e3);
        let differing = probe(device)?;
        let operations = match (candidate.device.tier(), choice.index) {
            (Tier::Native, Some(index)) => operations(index)?,
            _ => Vec::new(),
        };
        let began = Instant::now();
        let rates = measure(device, ROWS.map(|most| most.min(rows)), &|| began.elapsed())?;
        let rows = rows.min(ROWS_COMPARED);
        let overlap = overlap(device, rows)?;
        Ok(Facts { differing, operations, rates, pipelines_ms, overlap })
    }

    pub fn lines(&self) -> Vec<String> {
        let Rates { upload, read_back, dispatch_ns, drain_ns, .. } = &self.rates;
        let uploads = Method::ALL.iter().zip(upload);
        let uploads: Vec<_> =
            uploads.map(|(m, rate)| format!("{:.1} by {}", rate / 1e9, m.name())).collect();
        let [first, again, anew] = self.pipelines_ms;
        let mut lines = vec![
            match self.differing.is_empty() {
                true => "computes as the CPU does".to_owned(),
                false => format!("computes otherwise: {}", self.differing.join(", ")),
            },
            format!("upload GB/s: {}", uploads.join(", ")),
            format!(
                "read-back {:.1} GB/s, dispatch and wait {:.1} µs, {drain_ns:.0} ns a group back",
                read_back / 1e9,
                dispatch_ns / 1e3,
            ),
            format!(
                "pipelines: {first:.0} ms, again {again:.0} ms, device opened anew {anew:.0} ms"
            ),
            format!("batches in flight: {:.2} times as fast as one by one", self.overlap),
        ];
        let differing = self.operations.iter().filter(|operation| operation.differing > 0);
        let differing: Vec<_> =
            differing.map(|o| format!("{} at {} of {}", o.name, o.differing, o.cases)).collect();
        lines.extend((!self.operations.is_empty()).then(|| {
            let all = self.operations.len();
            match differing.is_empty() {
                true => format!("its own floats: all {all} operations as IEEE 754 says"),
                false => format!("its own floats differ from IEEE 754: {}", differing.join(", ")),
            }
        }));
        lines
    }

    pub fn json(&self) -> Value {
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        let Rates { upload, read_back, dispatch_ns, drain_ns, .. } = &self.rates;
        let uploads = Method::ALL.iter().zip(upload);
        let uploads = uploads.map(|(m, rate)| (m.name().to_owned(), json!(rounded(rate / 1e9))));
        let operations = self.operations.iter();
        let operations = operations.map(|o| (o.name.clone(), json!([o.differing, o.cases])));
        json!({
            "differing": self.differing,
            "own_floats_differing_of": operations.collect::<serde_json::Map<_, _>>(),
            "upload_gb_per_s": uploads.collect::<serde_json::Map<_, _>>(),
            "read_back_gb_per_s": rounded(read_back / 1e9),
            "dispatch_and_wait_us": rounded(dispatch_ns / 1e3),
            "ns_a_group_back": rounded(*drain_ns),
            "pipelines_ms_first_again_anew": self.pipelines_ms.map(rounded),
            "in_flight_times_as_fast": rounded(self.overlap),
            "pre_aggregation": "none in this version",
        })
    }
}

/// All of the way, several batches in flight against one at a time.
fn overlap(device: &Arc<Device>, rows: u64) -> Result<f64, GpuError> {
    let query = sample::query(1);
    let batches = sample::batches(rows, GROUPS, 1);
    let (mut kernels, mut side) = (Kernels::new(device, query.clone())?, Groups::new(&query));
    let [mut in_flight, mut one_by_one] = [f64::INFINITY; 2];
    for _ in 0..3 {
        let began = Instant::now();
        kernels.take(&batches)?;
        kernels.table.settle(&mut kernels.projector)?;
        in_flight = in_flight.min(began.elapsed().as_secs_f64());
        kernels.drain(&mut side)?;
        let began = Instant::now();
        for batch in &batches {
            let selected = kernels.project(batch)?;
            let Kernels { projector, table } = &mut kernels;
            table.aggregate(vec![selected], projector)?;
            table.settle(projector)?;
        }
        one_by_one = one_by_one.min(began.elapsed().as_secs_f64());
        kernels.drain(&mut side)?;
    }
    Ok(one_by_one / in_flight)
}
