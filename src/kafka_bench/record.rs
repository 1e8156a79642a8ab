//! The suite's figures as a dated record.

use std::path::Path;

use pelton_engine::error::{Error, Result};
use serde_json::json;

use super::latency::Latency;
use super::{Bench, Figures};

pub fn keep(dir: &Path, bench: &Bench<'_>, all: &[Figures], latency: &[Latency]) -> Result<()> {
    let figures: Vec<_> = all
        .iter()
        .map(|figures| {
            json!({
                "what": figures.what,
                "records": figures.passed.count,
                "bytes": figures.passed.bytes,
                "seconds": figures.seconds,
                "cpu_seconds": figures.cpu,
                "records_per_cpu_s": figures.rate_of_cpu().round(),
                "records_per_s": figures.rate().round(),
                "mb_per_s": (figures.passed.bytes as f64 / super::cpu::median(&figures.seconds) / 1e6).round(),
            })
        })
        .collect();
    let latency: Vec<_> = latency
        .iter()
        .map(|found| {
            json!({
                "part_of_greatest_rate": found.part,
                "rows_per_s": found.rows_per_second.round(),
                "p50_p99_p999_ms": found.quantiles,
            })
        })
        .collect();
    let facts = json!({
        "rows": bench.rows,
        "rounds": bench.rounds,
        "figures": figures,
        "produce_to_read_committed": latency,
    });
    let path = pelton_bench::keep("kafka", facts, dir)
        .map_err(|error| Error::failed(error.to_string()))?;
    eprintln!("recorded in {}", path.display());
    Ok(())
}
