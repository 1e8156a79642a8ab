//! Whole sources through real cores, rings, decoders and pipelines, against the rows that a reader
//! would find at sight.

mod faults;
mod files;
mod generated;
mod streams;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use pelton_engine::batch::{Counters, DeadLetter, Encoding, InputColumn};
use pelton_engine::job::spec::*;
use pelton_engine::plan::expr::Compiled;
use pelton_engine::plan::{Judged, Output, Plan, Shape};
use pelton_kernels::expr::{Expr, ExprKind};

use super::*;

pub fn column(name: &str, data_type: DataType) -> Column {
    Column {
        name: name.into(),
        data_type,
        format: TimeFormat::EpochMillis,
        timezone: None,
        null: None,
        trim: None,
        empty_is_null: false,
        truncate: false,
    }
}

/// Columns by their first letter: `t` a timestamp, `n` a number, the rest text.
pub fn schema(names: &[&str]) -> Vec<Column> {
    let data_type = |name: &str| match name.as_bytes()[0] {
        b't' => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        b'n' => DataType::Int32,
        _ => DataType::Utf8,
    };
    names.iter().map(|name| column(name, data_type(name))).collect()
}

pub fn job(kind: SourceKind, format: Format, schema: Vec<Column>) -> JobSpec {
    JobSpec {
        name: "test".into(),
        file: "test.toml".into(),
        device: Device::Cpu,
        device_at: None,
        gpu: GpuSpec::default(),
        cores: None,
        timezone: "UTC".into(),
        memory_limit: None,
        sources: vec![SourceSpec {
            name: "t".into(),
            kind,
            format,
            schema,
            watermark: None,
            dedup: None,
            on_error: OnError::DeadLetter,
            max_error_ratio: None,
            max_record_bytes: 4 << 20,
        }],
        tables: Vec::new(),
        query: QuerySpec {
            sql: String::new(),
            sql_map: Default::default(),
            mode: OutputMode::Append,
            trigger: Trigger::Default,
        },
        sinks: Vec::new(),
        checkpoint: None,
        kept: None,
        epoch: EpochLimits::default(),
    }
}

pub fn file_job(path: &Path, names: &[&str]) -> JobSpec {
    let kind = SourceKind::File { path: path.into(), max_files_per_epoch: None, end: None };
    job(kind, Format::Csv(CsvDialect::default()), schema(names))
}

pub fn compiled(index: usize, data_type: &DataType) -> Compiled {
    Compiled::Kernel(Expr { kind: ExprKind::Column(index), data_type: data_type.clone() })
}

/// SELECT * FROM t.
pub fn select_all(job: &JobSpec) -> Arc<Plan> {
    let columns = &job.sources[0].schema;
    let field = |c: &Column| Field::new(&c.name, c.data_type.clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let all = || columns.iter().enumerate().map(|(i, c)| compiled(i, &c.data_type)).collect();
    Arc::new(Plan {
        input: (0..columns.len())
            .map(|source| InputColumn { source, encoding: Encoding::Values, in_filter: false })
            .collect(),
        input_names: columns.iter().map(|c| c.name.clone()).collect(),
        event_time: None,
        watermark: None,
        filter_below: None,
        filter_above: None,
        derive: Vec::new(),
        shape: Shape::Rows { columns: all(), schema: Arc::clone(&schema), judged: Judged::Nothing },
        output: Output {
            having: None,
            columns: all(),
            hidden: Vec::new(),
            schema,
            order_by: Vec::new(),
            limit: None,
        },
        fed_by_state: false,
        late_rows: None,
        mode: OutputMode::Append,
        source: 0,
        source_name: "t".into(),
        scan: 0,
    })
}

/// Cores without a place of their own, with small ranges.
pub fn setup(cores: usize, range_bytes: u64, choice: Choice) -> Setup {
    Setup {
        cpus: vec![None; cores],
        range_bytes,
        rings: ring::open,
        choice,
        stalled_after: STALLED_AFTER,
        late_by: None,
        candidate: Candidate::default(),
    }
}

pub fn plain() -> Choice {
    Choice::Plain("the test asks for it".into())
}

/// What came out of one or several epochs.
#[derive(Debug, Default)]
pub struct Taken {
    pub rows: Vec<Vec<String>>,
    pub counters: Counters,
    pub dead_letters: Vec<DeadLetter>,
    pub epochs: Vec<u64>,
    pub event_time_max: Option<i64>,
}

impl Taken {
    pub fn add(&mut self, input: EpochInput) {
        let mut batches: Vec<_> = Vec::new();
        let mut counters = Counters::default();
        for core in input.cores {
            batches.extend(core.rows);
            counters.add(&core.counters);
            self.dead_letters.extend(core.dead_letters);
        }
        assert_eq!(counters.rows_in, input.rows, "the status counted what the pipelines counted");
        assert!(counters.close(), "{counters:?}");
        self.epochs.push(counters.rows_in);
        self.counters.add(&counters);
        self.event_time_max = self.event_time_max.max(input.event_time_max);
        batches.sort_by_key(|(order, _)| *order);
        for (_, batch) in batches {
            for row in 0..batch.num_rows() {
                let value = |column: &arrow::array::ArrayRef| match column.data_type() {
                    DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
                    _ => arrow::util::display::array_value_to_string(column, row).unwrap(),
                };
                self.rows.push(batch.columns().iter().map(value).collect());
            }
        }
    }

    /// Rows of one text column.
    pub fn texts(&self) -> Vec<&str> {
        self.rows.iter().map(|row| &*row[0]).collect()
    }
}

/// Cuts epochs as `pause` says until the input has ended; starts anew after each if asked to.
pub fn run_to_end(
    job: &JobSpec,
    plan: &Arc<Plan>,
    setup: &Setup,
    mut pause: impl FnMut() -> Duration,
    restart: bool,
) -> Result<Taken> {
    let start = |from: Option<&SourceState>| Ingest::start_with(job, Arc::clone(plan), setup, from);
    let mut ingest = start(None)?;
    let mut taken = Taken::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "the source came to a halt: {taken:?}");
        ingest.signal().wait(Some(Instant::now() + pause()));
        let input = ingest.barrier(None)?;
        let (ended, state) = (input.ended, input.state.clone());
        taken.add(input);
        if ended {
            return Ok(taken);
        }
        if restart {
            drop(ingest);
            ingest = start(Some(&state))?;
        }
    }
}

/// Cuts epochs until so many rows were taken.
pub fn take_rows(ingest: &mut Ingest, rows: usize, taken: &mut Taken) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while taken.counters.rows_in < rows as u64 {
        assert!(Instant::now() < deadline, "expected {rows} rows, got {taken:?}");
        ingest.signal().wait(Some(Instant::now() + Duration::from_millis(20)));
        taken.add(ingest.barrier(None).unwrap());
    }
}
