//! What a run says of itself on stderr: a line that is drawn again, or Spark's progress JSON.

use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pelton_engine::batch::Counters;
use pelton_engine::epoch::Finished;
use pelton_engine::job::spec::{Device, JobSpec, SinkKind, SinkOf, SourceKind};
use pelton_engine::memory::Ledger;
use pelton_engine::pipeline::Trouble;
use pelton_engine::plan::query::{Level, Query};
use pelton_engine::progress::{
    EventTime, Facts, GpuFacts, RowsByDevice, SinkFacts, SourceFacts, StateFacts,
};
use pelton_hardware::resident;
use pelton_ingest::runtime::{Status, places_of};
use serde_json::Value;
use twox_hash::XxHash3_128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Bar,
    Json,
    Off,
}

/// How long the steps of an epoch took, under Spark's names.
pub struct Times {
    began: Instant,
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Times {
    pub fn begin() -> Times {
        let now = Instant::now();
        Times { began: now, last: now, steps: Vec::new() }
    }

    /// Ends a step.
    pub fn mark(&mut self, step: &'static str) {
        let now = Instant::now();
        self.steps.push((step, now - self.last));
        self.last = now;
    }

    pub fn total(&self) -> Duration {
        self.last - self.began
    }
}

/// What a run did, for the last line that it prints.
pub struct Summary {
    pub counters: Counters,
    pub bytes: u64,
    pub epochs: u64,
    pub took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let Counters { rows_in, applied, filtered, late, rejected, .. } = self.counters;
        write!(
            f,
            "{rows_in} rows ({applied} applied, {filtered} filtered, {late} late, {rejected} \
             rejected), {:.1} MB in {seconds:.2} s: {:.2} M rows/s, {:.0} MB/s, {} epochs",
            self.bytes as f64 / 1e6,
            rows_in as f64 / seconds / 1e6,
            self.bytes as f64 / seconds / 1e6,
            self.epochs,
        )
    }
}

pub struct Reporter {
    style: Style,
    began: Instant,
    summary: Summary,
    drawn: Option<Instant>,
    constant: Constant,
    previous_began: Option<Instant>,
    /// Where the source stood after the epoch before.
    offset: Value,
}

/// What every epoch's JSON repeats.
struct Constant {
    id: String,
    run_id: String,
    name: String,
    /// By scan of the query.
    sources: Vec<String>,
    sink: String,
    has_watermark: bool,
    has_state: bool,
    on_gpu: bool,
    shards: u64,
}

/// The line is drawn again this often.
const DRAW_EVERY: Duration = Duration::from_millis(200);

impl Reporter {
    /// `attempt` differs for each run.
    pub fn new(
        job: &JobSpec,
        query: &Query,
        style: Style,
        attempt: &str,
        shards: usize,
    ) -> Reporter {
        let summary =
            Summary { counters: Counters::default(), bytes: 0, epochs: 0, took: Duration::ZERO };
        let constant = Constant {
            id: uuid(&job.name),
            run_id: uuid(attempt),
            name: job.name.clone(),
            sources: query
                .scans
                .iter()
                .map(|scan| describe_source(&job.sources[scan.source].kind))
                .collect(),
            sink: describe_sink(job),
            has_watermark: query.has_watermark(),
            has_state: query.levels.iter().any(Level::keeps_state),
            on_gpu: matches!(job.device, Device::Gpu(_)),
            shards: shards as u64,
        };
        Reporter {
            style,
            began: Instant::now(),
            summary,
            drawn: None,
            constant,
            previous_began: None,
            offset: Value::Null,
        }
    }

    /// An epoch was committed.
    pub fn epoch(&mut self, finished: &Finished, bytes: u64, times: &Times, ledger: &Ledger) {
        self.summary.counters.add(&finished.counters);
        self.summary.bytes += bytes;
        self.summary.epochs += 1;
        for Trouble { why, .. } in finished.gpu_troubles.iter().filter(|trouble| trouble.is_new) {
            eprintln!(
                "pelton: degraded: {why}; the CPU did the work instead, with the same result"
            );
        }
        if let Some(choice) = &finished.gpu_rechosen {
            eprintln!("pelton: from here on, {choice}");
        }
        match self.style {
            Style::Bar => self.draw(0, 0),
            Style::Json => {
                let facts = Facts { memory: memory(ledger), ..self.facts(finished, bytes, times) };
                eprintln!("{}", facts.to_json_line());
            }
            Style::Off => {}
        }
        self.previous_began = Some(times.began);
        self.offset = finished.source.clone();
    }

    fn facts(&self, finished: &Finished, bytes: u64, times: &Times) -> Facts {
        let Constant { id, run_id, name, sink, has_watermark, has_state, shards, .. } =
            &self.constant;
        let rows = finished.counters.rows_in;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = wall.saturating_sub(times.began.elapsed());
        Facts {
            id: id.clone(),
            run_id: run_id.clone(),
            name: name.clone(),
            started_us: i64::try_from(began.as_micros()).unwrap_or(i64::MAX),
            epoch: finished.epoch,
            duration: times.total(),
            since_previous: self.previous_began.map(|previous| times.began - previous),
            bytes,
            counters: finished.counters,
            durations: times.steps.clone(),
            event_time: has_watermark.then_some(EventTime {
                max_us: finished.event_time_max,
                min_us: None,
                watermark_us: finished.watermark.filter(|watermark| *watermark != i64::MAX),
            }),
            state: has_state.then(|| StateFacts {
                operator_name: "stateStoreSave".to_string(),
                num_rows_total: finished.state.rows,
                num_rows_updated: finished.state.updated,
                num_rows_removed: finished.state.removed,
                memory_used_bytes: finished.state.bytes,
                num_rows_dropped_by_watermark: finished.counters.late,
                num_shuffle_partitions: *shards,
            }),
            sources: self.sources(finished),
            sink: SinkFacts {
                description: sink.clone(),
                num_output_rows: finished.rows_before + finished.rows.num_rows() as u64,
            },
            gpu: self.gpu(finished),
            rows_by_device: RowsByDevice { cpu: rows - finished.gpu_rows, gpu: finished.gpu_rows },
            memory: Vec::new(),
        }
    }

    /// Each scan is a source of its own, as in Spark.
    fn sources(&self, finished: &Finished) -> Vec<SourceFacts> {
        let scans = self.constant.sources.len();
        let offset = |whole: &Value, scan: usize| {
            let places = places_of(whole, scans).ok();
            places.map_or(Value::Null, |places| places[scan].0.clone())
        };
        let facts = |(scan, description): (usize, &String)| {
            let end = offset(&finished.source, scan);
            SourceFacts {
                description: description.clone(),
                start_offset: offset(&self.offset, scan),
                end_offset: end.clone(),
                latest_offset: end,
                rows: finished.scan_rows.get(scan).copied().unwrap_or(0),
            }
        };
        self.constant.sources.iter().enumerate().map(facts).collect()
    }

    fn gpu(&self, finished: &Finished) -> Option<GpuFacts> {
        let mut reasons: Vec<_> = finished.gpu_troubles.iter().map(|t| t.why.as_str()).collect();
        reasons.dedup();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        let status = if reason.is_some() { "degraded" } else { "ok" };
        let any = self.constant.on_gpu || reason.is_some() || finished.gpu_rows > 0;
        any.then(|| GpuFacts { status: status.to_owned(), reason })
    }

    /// Time passed in the running epoch.
    pub fn tick(&mut self, status: &Status) {
        let due = self.drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY);
        if self.style == Style::Bar && due {
            self.draw(status.rows, status.bytes);
        }
    }

    fn draw(&mut self, rows: u64, bytes: u64) {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let (rows, bytes) = (self.summary.counters.rows_in + rows, self.summary.bytes + bytes);
        eprint!(
            "\r\x1b[K{} epochs, {:.1} M rows, {:.1} MB, {:.2} M rows/s, {:.0} MB/s",
            self.summary.epochs,
            rows as f64 / 1e6,
            bytes as f64 / 1e6,
            rows as f64 / seconds / 1e6,
            bytes as f64 / seconds / 1e6,
        );
        // A line that cannot be drawn is not worth a word.
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }

    /// What the run did; the drawn line ends.
    pub fn summary(&mut self) -> Summary {
        if self.drawn.take().is_some() {
            eprintln!();
        }
        Summary { took: self.began.elapsed(), ..self.summary }
    }
}

fn memory(ledger: &Ledger) -> Vec<(&'static str, u64)> {
    let counted = resident::anonymous_bytes().map(|bytes| ("rssAnon", bytes));
    ledger.pools().chain([("held", ledger.held())]).chain(counted).collect()
}

/// A name as a UUID: the same name, the same identity.
fn uuid(name: &str) -> String {
    let hex = format!("{:032x}", XxHash3_128::oneshot(name.as_bytes()));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn describe_source(kind: &SourceKind) -> String {
    match kind {
        SourceKind::File { path, .. } => format!("FileStreamSource[{}]", path.display()),
        SourceKind::Socket { address, .. } => format!("TextSocketSource[{address}]"),
        SourceKind::Stdin => "StdinSource".to_string(),
        SourceKind::Generate { suite, .. } => format!("GenerateSource[{suite}]"),
        SourceKind::Kafka(kafka) => format!("KafkaV2[Subscribe[{}]]", kafka.topics.join(", ")),
    }
}

fn describe_sink(job: &JobSpec) -> String {
    let describe = |kind: &SinkKind| match kind {
        SinkKind::Console { .. } => "ConsoleSink".to_string(),
        SinkKind::File { path, .. } => format!("FileSink[{}]", path.display()),
        SinkKind::Kafka(kafka) => format!("KafkaTable[{}]", kafka.topic),
    };
    let rows = job.sinks.iter().filter(|sink| sink.of == SinkOf::Rows);
    rows.map(|sink| describe(&sink.kind)).collect::<Vec<_>>().join(", ")
}
