//! Job files that several tests run.

use pelton_bench::oracle;

/// What [`Sensors`] says its watermark waits.
pub const DELAY_MS: i64 = 10_000;

/// The sensors query over `data.csv` into `out`, with a checkpoint in `state`.
#[derive(Clone, Copy)]
pub struct Sensors<'a> {
    pub cores: &'a str,
    pub max_epoch_bytes: &'a str,
    /// More keys of the source, whole lines.
    pub source: &'a str,
    /// More tables, whole lines.
    pub tables: &'a str,
}

impl Default for Sensors<'_> {
    fn default() -> Self {
        Sensors { cores: "0", max_epoch_bytes: "1GiB", source: "", tables: "" }
    }
}

impl Sensors<'_> {
    pub fn toml(&self) -> String {
        let Sensors { cores, max_epoch_bytes, source, tables } = self;
        format!(
            r#"name = "sensors"
cores = "{cores}"

[source.sensors]
type = "file"
path = "data.csv"
format = "csv"
schema = "{schema}"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "{DELAY_MS}ms" }}
{source}
[query]
sql = """
{sql}
"""
mode = "append"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
max_epoch_bytes = "{max_epoch_bytes}"
{tables}"#,
            schema = oracle::SENSORS_SCHEMA,
            sql = oracle::SENSORS_SQL,
        )
    }
}

/// The CPUs of a job with two threads, where this machine has two.
pub fn two_cores() -> Option<&'static str> {
    let many = std::thread::available_parallelism().map_or(1, usize::from);
    (many >= 2).then_some("0-1")
}
