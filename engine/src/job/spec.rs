//! A job as plain data: what the job file says once it has been read and checked.
//!
//! No key is ignored: what is not here was refused by the reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::DataType;

use super::map::TextMap;
use crate::checkpoint::Compression;

mod kafka;

pub use kafka::{
    Included, KafkaClient, KafkaEnd, KafkaFormat, KafkaSink, KafkaSource, KafkaStart, Setting,
};

#[derive(Clone, Debug)]
pub struct JobSpec {
    pub name: String,
    /// The job file, for messages; relative paths in it were resolved against its directory.
    pub file: PathBuf,
    pub device: Device,
    /// Where the job file names the device.
    pub device_at: Option<std::ops::Range<usize>>,
    pub gpu: GpuSpec,
    /// Logical CPUs to pin to; `None`: the process's cpuset.
    pub cores: Option<Vec<usize>>,
    /// IANA name or fixed offset: text without zone, date parts, printing.
    pub timezone: String,
    /// Bytes; `None`: 75 % of the cgroup's or the machine's memory.
    pub memory_limit: Option<u64>,
    /// One at least, in the order of the file.
    pub sources: Vec<SourceSpec>,
    /// Static tables that the query may join the stream with.
    pub tables: Vec<TableSpec>,
    pub query: QuerySpec,
    /// What `[[transform]]` steps leave of the source's columns; `None`: there are no steps.
    pub kept: Option<Vec<usize>>,
    /// At least one: a job without sinks prints to the console.
    pub sinks: Vec<SinkSpec>,
    pub checkpoint: Option<CheckpointSpec>,
    /// Limits of an epoch, also without a checkpoint path.
    pub epoch: EpochLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Auto,
    Cpu,
    /// The adapter of this number, or the best one.
    Gpu(Option<usize>),
}

/// How a device is used, where one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuSpec {
    /// One of so many epochs is computed on the CPU as well; 0: none.
    pub shadow_one_in: u64,
    /// Bytes of its memory at most; none: what the kernels take for safe.
    pub memory: Option<u64>,
}

impl Default for GpuSpec {
    /// A bit that flips in a device's memory, or a driver that compiles wrongly, is noticed, for 1.6 % of
    /// the CPU's work.
    fn default() -> Self {
        GpuSpec { shadow_one_in: 64, memory: None }
    }
}

#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The table's name in SQL.
    pub name: String,
    pub kind: SourceKind,
    pub format: Format,
    pub schema: Vec<Column>,
    pub watermark: Option<WatermarkSpec>,
    /// Rows that were there before go no further.
    pub dedup: Option<DedupSpec>,
    pub on_error: OnError,
    /// Stops a stream that is all poison: rejected / rows in, over an epoch of at least 1,000 rows.
    pub max_error_ratio: Option<f64>,
    pub max_record_bytes: usize,
}

impl SourceSpec {
    /// How many columns of the schema stand in the text: the first so many.
    pub fn written(&self) -> usize {
        match &self.kind {
            SourceKind::Kafka(kafka) => self.schema.len() - kafka.include.len(),
            _ => self.schema.len(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum SourceKind {
    File {
        /// A file, a directory or a glob, absolute.
        path: PathBuf,
        max_files_per_epoch: Option<usize>,
        /// Bounded: read what is there, then end. `None`: true for one plain file.
        end: Option<bool>,
    },
    Socket {
        address: String,
        listen: bool,
    },
    Stdin,
    Generate {
        suite: String,
        /// `None`: without end.
        rows: Option<u64>,
        rows_per_second: Option<u64>,
        seed: u64,
    },
    Kafka(KafkaSource),
}

/// A table that does not stream: read whole at the start.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its name in SQL.
    pub name: String,
    /// One file, absolute.
    pub path: PathBuf,
    pub format: TableFormat,
    pub schema: Vec<Column>,
    /// Read again before an epoch where the file is another than before.
    pub reload: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TableFormat {
    Csv(CsvDialect),
    Parquet,
    Arrow,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    Csv(CsvDialect),
    /// One column `value STRING`, one row a line.
    Text,
}

/// SEMANTICS 10.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvDialect {
    pub delimiter: u8,
    /// `None`: quotes have no meaning.
    pub quote: Option<u8>,
    pub escape: Escape,
    pub header: Header,
    /// Lines to pass over at the head of each file, before the header.
    pub skip_lines: u32,
    /// A line that begins with this byte is no row.
    pub comment: Option<u8>,
    /// Unquoted texts that mean NULL, beside the empty field (see [`Column::empty_is_null`]).
    pub null: Vec<String>,
    /// Blanks around an unquoted field are not part of it.
    pub trim: bool,
    /// A row with fewer fields than the schema.
    pub fewer: Ragged,
    /// A row with more fields than the schema.
    pub more: Ragged,
}

impl Default for CsvDialect {
    fn default() -> Self {
        CsvDialect {
            delimiter: b',',
            quote: Some(b'"'),
            escape: Escape::Doubled,
            header: Header::None,
            skip_lines: 0,
            comment: None,
            null: Vec::new(),
            trim: false,
            fewer: Ragged::Reject,
            more: Ragged::Reject,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// `""` inside a quoted field is one quote.
    Doubled,
    /// `\"` inside a quoted field is one quote, `\\` one backslash.
    Backslash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    None,
    /// `header = true`: the names of each file's first row say which field is which column.
    Match,
    /// `header = "ignore"`: the first row is passed over.
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ragged {
    Reject,
    /// Missing fields are NULL (`fewer`), extra fields are passed over (`more`).
    Accept,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// Boolean, Int8..Int64, Float32, Float64, Decimal128, Utf8, Binary, Date32,
    /// Timestamp(Microsecond, Some("UTC")) for TIMESTAMP, Timestamp(Microsecond, None) for
    /// TIMESTAMP_NTZ.
    pub data_type: DataType,
    /// How a date or timestamp is written.
    pub format: TimeFormat,
    /// Zone of a text without one; `None`: the job's.
    pub timezone: Option<String>,
    /// Replaces [`CsvDialect::null`] for this column.
    pub null: Option<Vec<String>>,
    /// Replaces [`CsvDialect::trim`] for this column.
    pub trim: Option<bool>,
    /// An empty unquoted field is NULL (the default). Quoted `""` is the empty string for STRING
    /// and BINARY, and no value of any other type.
    pub empty_is_null: bool,
    /// `epoch_ns` only: drop a remainder below one microsecond instead of rejecting the value.
    pub truncate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2024-05-01T12:00:00.123456Z`, `2024-05-01 12:00:00`, `+02:00` zones; dates `2024-05-01`.
    Iso,
    EpochSeconds,
    EpochMillis,
    EpochMicros,
    EpochNanos,
    /// Java's DateTimeFormatter letters, as Spark's: `yyyy-MM-dd HH:mm:ss.SSS`.
    Pattern(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct WatermarkSpec {
    pub column: String,
    pub delay: Duration,
    pub late: LateRule,
    pub across: Across,
    /// A split that said "empty" for so long holds nobody back.
    pub idle_timeout: Duration,
    /// A row further ahead of its split's clock is rejected, unless the rows after it are, too.
    pub max_future_skew: Option<Duration>,
}

/// How the clocks of a source's splits become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Across {
    /// The slowest: no split's row meets a window that has left.
    #[default]
    Min,
    /// The fastest, as Spark takes it within a source.
    Max,
}

/// Spark's `dropDuplicates` and `dropDuplicatesWithinWatermark`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupSpec {
    /// As the schema spells them.
    pub columns: Vec<String>,
    /// A key is forgotten once the watermark passed its first row's time by the delay.
    pub within_watermark: bool,
}

/// SEMANTICS 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRule {
    /// By the split's own watermark just before the row.
    Row,
    /// By the watermark that the previous epoch used, as Spark.
    Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    DeadLetter,
    Skip,
    Fail,
    Null,
}

#[derive(Clone, Debug)]
pub struct QuerySpec {
    pub sql: String,
    /// Where each byte of `sql` stands in the job's text.
    pub sql_map: TextMap,
    pub mode: OutputMode,
    pub trigger: Trigger,
}

impl QuerySpec {
    /// Byte in the job's text of a place in the SQL, so that an error in the SQL points there.
    ///
    /// `line` and `column` count from 1, columns in characters, as the SQL parser's do; a place past
    /// a line's end is the line's end.
    pub fn place(&self, line: usize, column: usize) -> usize {
        let mut start = 0;
        let mut lines = self.sql.split('\n');
        for text in lines.by_ref().take(line.saturating_sub(1)) {
            start += text.len() + 1;
        }
        let text = lines.next().unwrap_or("");
        let start = start.min(self.sql.len());
        let within = text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |c| c.0);
        self.sql_map.source(start + within..start + within).start
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    Append,
    Update,
    Complete,
    Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Default,
    Interval(Duration),
    AvailableNow,
    Once,
    /// As default; an epoch ends this long after its first row at the latest.
    Continuous(Duration),
}

#[derive(Clone, Debug)]
pub struct SinkSpec {
    pub name: String,
    pub kind: SinkKind,
    pub of: SinkOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkOf {
    Rows,
    /// Input rows that came too late for all their windows.
    Late,
    DeadLetters,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    Console { style: ConsoleStyle, num_rows: usize, truncate: Option<usize> },
    File { path: PathBuf, format: FileFormat },
    Kafka(KafkaSink),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleStyle {
    Spark,
    /// As `DStream.print()`.
    Dstream,
    /// Rows as they came, then as the steps of `[[transform]]` left them.
    OriginalProcessed,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Csv { header: bool },
    Json,
    Parquet,
    Arrow,
}

#[derive(Clone, Debug)]
pub struct CheckpointSpec {
    pub place: Place,
    /// Of state files.
    pub compression: Compression,
}

/// Where checkpoints are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    Bucket(String),
}

impl Place {
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Place::Directory(path) => Some(path),
            Place::Bucket(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochLimits {
    /// An epoch ends this long after its first row (triggers default and available-now).
    pub interval: Duration,
    pub max_bytes: u64,
    pub max_rows: Option<u64>,
}

impl Default for EpochLimits {
    fn default() -> Self {
        EpochLimits { interval: Duration::from_secs(1), max_bytes: 1 << 30, max_rows: None }
    }
}
