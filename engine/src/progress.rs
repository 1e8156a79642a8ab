//! What an epoch did, as one line of Spark's `StreamingQueryProgress` JSON.
//!
//! The keys are Spark's and in Spark's order, so its readers work; `counters`, `mbPerSecond`,
//! `rowsByDevice` and `memory` are ours. Two differ in what they count: `numRowsDroppedByWatermark` counts input
//! rows (Spark: groups after a partial aggregation), and `batchId` is the epoch. This module reads
//! no clock: the times are the caller's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::batch::Counters;
use crate::format::instant_millis;

/// An epoch in plain numbers; [`Facts::to_json_line`] derives the rates.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Stays the same over restarts from one checkpoint.
    pub id: String,
    /// Differs for each start.
    pub run_id: String,
    pub name: String,
    /// When the epoch began: microseconds since 1970-01-01T00:00:00Z.
    pub started_us: i64,
    pub epoch: u64,
    /// From its beginning to its commit.
    pub duration: Duration,
    /// From the beginning of the epoch before; `None` for the first of a run.
    pub since_previous: Option<Duration>,
    /// Bytes read from the sources.
    pub bytes: u64,
    pub counters: Counters,
    /// Where the time went, by Spark's names: `addBatch`, `walCommit`, `commitOffsets`, …
    pub durations: Vec<(&'static str, Duration)>,
    /// `None`: the job has no watermark.
    pub event_time: Option<EventTime>,
    /// `None`: the job keeps no state.
    pub state: Option<StateFacts>,
    pub sources: Vec<SourceFacts>,
    pub sink: SinkFacts,
    pub gpu: Option<GpuFacts>,
    pub rows_by_device: RowsByDevice,
    /// Bytes by the ledger's pools, their sum as `held`, and `rssAnon`, what the system counts.
    pub memory: Vec<(&'static str, u64)>,
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTime {
    /// Of the epoch's rows; `None` where there were none.
    pub max_us: Option<i64>,
    pub min_us: Option<i64>,
    /// After the epoch; `None` before the first row.
    pub watermark_us: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateFacts {
    pub operator_name: String,
    pub num_rows_total: u64,
    pub num_rows_updated: u64,
    pub num_rows_removed: u64,
    pub memory_used_bytes: u64,
    /// Late rows, as input rows.
    pub num_rows_dropped_by_watermark: u64,
    /// Shards of the state.
    pub num_shuffle_partitions: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceFacts {
    /// `FileStreamSource[/data/in]`.
    pub description: String,
    pub start_offset: Value,
    pub end_offset: Value,
    pub latest_offset: Value,
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkFacts {
    pub description: String,
    pub num_output_rows: u64,
}

/// How the GPU is doing, where the job uses one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuFacts {
    /// `ok`, or `degraded`: the CPU did its work.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowsByDevice {
    pub cpu: u64,
    pub gpu: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    id: &'a str,
    run_id: &'a str,
    name: &'a str,
    timestamp: String,
    batch_id: u64,
    batch_duration: u64,
    num_input_rows: u64,
    #[serde(flatten)]
    rates: Rates,
    duration_ms: BTreeMap<&'static str, u64>,
    event_time: BTreeMap<&'static str, String>,
    state_operators: Vec<&'a StateFacts>,
    sources: Vec<Source<'a>>,
    sink: &'a SinkFacts,
    counters: CountersJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    mb_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<&'a GpuFacts>,
    rows_by_device: RowsByDevice,
    memory: BTreeMap<&'static str, u64>,
}

/// Left out where the time is too short to divide by, as Spark does.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_rows_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processed_rows_per_second: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    description: &'a str,
    start_offset: &'a Value,
    end_offset: &'a Value,
    latest_offset: &'a Value,
    num_input_rows: u64,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountersJson {
    rows_in: u64,
    applied: u64,
    filtered: u64,
    late: u64,
    rejected: u64,
    late_windows: u64,
    late_after_idleness: u64,
}

impl From<Counters> for CountersJson {
    fn from(counters: Counters) -> CountersJson {
        let Counters {
            rows_in,
            applied,
            filtered,
            late,
            rejected,
            late_windows,
            late_after_idleness,
        } = counters;
        CountersJson {
            rows_in,
            applied,
            filtered,
            late,
            rejected,
            late_windows,
            late_after_idleness,
        }
    }
}

impl Facts {
    /// One line without its end.
    pub fn to_json_line(&self) -> String {
        let progress = Progress {
            id: &self.id,
            run_id: &self.run_id,
            name: &self.name,
            timestamp: instant_millis(self.started_us),
            batch_id: self.epoch,
            batch_duration: millis(self.duration),
            num_input_rows: self.counters.rows_in,
            rates: self.rates(self.counters.rows_in),
            duration_ms: self.durations.iter().map(|(name, time)| (*name, millis(*time))).collect(),
            event_time: self.event_time.map(event_time).unwrap_or_default(),
            state_operators: self.state.iter().collect(),
            sources: self.sources.iter().map(|source| self.source(source)).collect(),
            sink: &self.sink,
            counters: self.counters.into(),
            mb_per_second: per_second(self.bytes as f64 / 1e6, Some(self.duration)),
            gpu: self.gpu.as_ref(),
            rows_by_device: self.rows_by_device,
            memory: self.memory.iter().copied().collect(),
        };
        serde_json::to_string(&progress).expect("progress is plain data")
    }

    fn source<'a>(&self, source: &'a SourceFacts) -> Source<'a> {
        Source {
            description: &source.description,
            start_offset: &source.start_offset,
            end_offset: &source.end_offset,
            latest_offset: &source.latest_offset,
            num_input_rows: source.rows,
            rates: self.rates(source.rows),
        }
    }

    /// Rows by the time in which they came, and by the time that they took.
    fn rates(&self, rows: u64) -> Rates {
        Rates {
            input_rows_per_second: per_second(rows as f64, self.since_previous),
            processed_rows_per_second: per_second(rows as f64, Some(self.duration)),
        }
    }
}

fn per_second(count: f64, time: Option<Duration>) -> Option<f64> {
    let seconds = time?.as_secs_f64();
    (seconds > 0.0).then(|| count / seconds)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn event_time(times: EventTime) -> BTreeMap<&'static str, String> {
    let named = [("max", times.max_us), ("min", times.min_us), ("watermark", times.watermark_us)];
    named.into_iter().filter_map(|(name, us)| Some((name, instant_millis(us?)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        Facts {
            id: "i".to_owned(),
            run_id: "r".to_owned(),
            name: "sensors".to_owned(),
            started_us: 1_714_564_800_123_456,
            epoch: 3,
            duration: Duration::from_millis(500),
            since_previous: Some(Duration::from_secs(1)),
            bytes: 4_000_000,
            counters: Counters {
                rows_in: 100,
                applied: 90,
                filtered: 5,
                late: 3,
                rejected: 2,
                late_windows: 1,
                late_after_idleness: 2,
            },
            durations: vec![
                ("triggerExecution", Duration::from_micros(500_900)),
                ("addBatch", Duration::from_millis(400)),
            ],
            event_time: Some(EventTime {
                max_us: Some(1_714_564_800_000_000),
                min_us: None,
                watermark_us: Some(-1),
            }),
            state: Some(StateFacts { num_rows_total: 7, ..StateFacts::default() }),
            sources: vec![SourceFacts {
                description: "file".to_owned(),
                start_offset: json!(null),
                end_offset: json!({"byte": 9}),
                latest_offset: json!({"byte": 10}),
                rows: 100,
            }],
            sink: SinkFacts { description: "console".to_owned(), num_output_rows: 8 },
            gpu: None,
            rows_by_device: RowsByDevice { cpu: 100, gpu: 0 },
            memory: vec![("state", 5), ("held", 7)],
        }
    }

    #[test]
    fn an_epoch_is_one_line_with_sparks_keys_in_sparks_order() {
        let expected = concat!(
            r#"{"id":"i","runId":"r","name":"sensors","timestamp":"2024-05-01T12:00:00.123Z","#,
            r#""batchId":3,"batchDuration":500,"numInputRows":100,"inputRowsPerSecond":100.0,"#,
            r#""processedRowsPerSecond":200.0,"#,
            r#""durationMs":{"addBatch":400,"triggerExecution":500},"#,
            r#""eventTime":{"max":"2024-05-01T12:00:00.000Z","watermark":"1969-12-31T23:59:59.999Z"},"#,
            r#""stateOperators":[{"operatorName":"","numRowsTotal":7,"numRowsUpdated":0,"#,
            r#""numRowsRemoved":0,"memoryUsedBytes":0,"numRowsDroppedByWatermark":0,"#,
            r#""numShufflePartitions":0}],"#,
            r#""sources":[{"description":"file","startOffset":null,"endOffset":{"byte":9},"#,
            r#""latestOffset":{"byte":10},"numInputRows":100,"inputRowsPerSecond":100.0,"#,
            r#""processedRowsPerSecond":200.0}],"#,
            r#""sink":{"description":"console","numOutputRows":8},"#,
            r#""counters":{"rowsIn":100,"applied":90,"filtered":5,"late":3,"rejected":2,"#,
            r#""lateWindows":1,"lateAfterIdleness":2},"mbPerSecond":8.0,"rowsByDevice":{"cpu":100,"gpu":0},"#,
            r#""memory":{"held":7,"state":5}}"#,
        );
        assert_eq!(facts().to_json_line(), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let facts = Facts {
            duration: Duration::ZERO,
            since_previous: None,
            event_time: None,
            state: None,
            ..facts()
        };
        let line: Value = serde_json::from_str(&facts.to_json_line()).unwrap();
        for key in ["inputRowsPerSecond", "processedRowsPerSecond", "mbPerSecond"] {
            assert_eq!(line.get(key), None);
        }
        assert_eq!(line["eventTime"], json!({}));
        assert_eq!(line["stateOperators"], json!([]));
    }
}
