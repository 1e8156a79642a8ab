//! `[source.NAME]`: where rows come from and what a row is.

use std::path::Path;

use arrow::datatypes::DataType;

use super::columns::{self, CSV_KEYS, column};
use super::ddl::{self, type_name};
use super::finding::closest;
use super::paths;
use super::reader::{Choice, Reader, Refused, Section, elsewhere, later};
use super::spec::{
    Column, CsvDialect, Format, LateRule, OnError, SourceKind, SourceSpec, TimeFormat,
    WatermarkSpec,
};
use super::tree::{Entry, Value};
use super::unit;

pub const COMMON_KEYS: &[&str] = &[
    "type",
    "format",
    "schema",
    "columns",
    "watermark",
    "on_error",
    "max_error_ratio",
    "max_record_bytes",
    "csv",
];
pub const FILE_KEYS: &[&str] = &["path", "end", "max_files_per_epoch"];
pub const SOCKET_KEYS: &[&str] = &["address", "listen"];
pub const GENERATE_KEYS: &[&str] = &["suite", "rows", "rows_per_second", "seed"];
const KAFKA_KEYS: &[&str] = &[
    "bootstrap_servers",
    "topics",
    "start",
    "partitions",
    "group",
    "offsets_topic_commit",
    "discover_interval",
    "include",
    "properties",
    "client",
    "on_data_loss",
];
pub const WATERMARK_KEYS: &[&str] = &["column", "delay", "late", "across", "idle_timeout"];

/// DESIGN: a row may span ranges, but not more than this.
const RECORD_BYTES: u64 = 16 << 20;
/// Offsets into a record are 32 bits wide.
const RECORD_BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Socket,
    Stdin,
    Generate,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::File, Kind::Socket, Kind::Stdin, Kind::Generate];

    fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Socket => "socket",
            Kind::Stdin => "stdin",
            Kind::Generate => "generate",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::File => FILE_KEYS,
            Kind::Socket => SOCKET_KEYS,
            Kind::Stdin => &[],
            Kind::Generate => GENERATE_KEYS,
        }
    }
}

/// The job's one source, with its table.
pub fn read<'a>(r: &mut Reader, root: &Section<'a>) -> Option<(Section<'a>, SourceSpec)> {
    let entry = the_source(r, root)?;
    let name = format!("[source.{}]", entry.key);
    let Value::Table(table) = &entry.node.value else { return None };
    let head = Section::new(name, Some(entry.node.at.clone()), table, vec!["type"]);
    if !r.present(&head, "type", "write type = \"file\", \"socket\", \"stdin\" or \"generate\"") {
        return None;
    }
    const REST: &str = "in this version: \"file\", \"socket\", \"stdin\", \"generate\"";
    let mut kinds: Vec<(&str, Choice<Kind>)> =
        Kind::ALL.iter().map(|&kind| (kind.name(), Choice::Is(kind))).collect();
    kinds.push(("kafka", Choice::Later("the Kafka source is not in this version", REST)));
    kinds.push(("s3", Choice::Later("the S3 source is not in this version", REST)));
    let kind = r.choice(&head, "type", &kinds)?;
    let keys = COMMON_KEYS.iter().chain(kind.keys()).copied().collect();
    let section = r.open(Section { keys, ..head }, &refused(kind));
    let spec = source(r, &section, &entry.key, kind);
    Some((section, spec?))
}

/// The entry of the one source.
fn the_source<'a>(r: &mut Reader, root: &Section<'a>) -> Option<&'a Entry> {
    const FORM: &str = "write [source.NAME] and its keys below it; NAME is the table's name in SQL";
    if !r.present(root, "source", FORM) {
        return None;
    }
    let entry = root.get("source")?;
    let Value::Table(sources) = &entry.node.value else {
        return r.wrong(entry, "a table of sources", FORM);
    };
    if let Some(key) = sources.entries.iter().find(|e| !matches!(e.node.value, Value::Table(_))) {
        r.find(key.key_at.clone(), "this source has no name", FORM);
        return None;
    }
    for other in sources.entries.iter().skip(1) {
        let first = &sources.entries[0].key;
        let fix = match closest(&other.key, std::iter::once(first.as_str())) {
            Some(meant) => format!("did you mean `source.{meant}`?"),
            None => "keep one source a job file".into(),
        };
        let what = format!("several sources are not in this version, the first is `{first}`");
        r.find(other.key_at.clone(), what, fix);
    }
    if sources.entries.is_empty() {
        r.find(entry.node.at.clone(), "there is no source in it", FORM);
    }
    sources.entries.first()
}

/// The keys of other kinds, and what is not built.
fn refused(kind: Kind) -> Vec<Refused> {
    let here = format!("a {} source", kind.name());
    let mut refused = Vec::new();
    for other in Kind::ALL.into_iter().filter(|&other| other != kind) {
        let there = format!("type = \"{}\"", other.name());
        refused.extend(other.keys().iter().map(|key| elsewhere(key, &here, &there)));
    }
    refused.extend(
        KAFKA_KEYS
            .iter()
            .map(|key| later(key, "it belongs to the Kafka source, which is", "remove it")),
    );
    let fix = "group by the columns in the SQL: SELECT DISTINCT, or GROUP BY";
    refused.push(later("dedup", "deduplication is", fix));
    for format in ["json", "parquet", "arrow", "avro"] {
        refused.push(later(format, "this format's options are", "use [source.NAME.csv]"));
    }
    refused
}

fn source(r: &mut Reader, s: &Section, name: &str, kind: Kind) -> Option<SourceSpec> {
    let source_kind = match kind {
        Kind::File => file(r, s),
        Kind::Socket => socket(r, s),
        Kind::Stdin => Some(SourceKind::Stdin),
        Kind::Generate => generate(r, s),
    };
    let suite = match &source_kind {
        Some(SourceKind::Generate { suite, .. }) => Some(suite_columns(suite)),
        _ => None,
    };
    let rows = if kind == Kind::Generate && suite.is_none() { None } else { rows(r, s, suite) };
    let watermark = watermark(r, s, rows.as_ref().map(|rows| rows.1.as_slice()));
    let on_error = r.choice(
        s,
        "on_error",
        &[
            ("dead_letter", Choice::Is(OnError::DeadLetter)),
            ("skip", Choice::Is(OnError::Skip)),
            ("fail", Choice::Is(OnError::Fail)),
            ("null", Choice::Is(OnError::Null)),
        ],
    );
    let max_error_ratio = r.ratio(s, "max_error_ratio");
    let max_record_bytes = r.size(s, "max_record_bytes").unwrap_or(RECORD_BYTES);
    if max_record_bytes > RECORD_BYTES_MAX {
        r.find(
            s.place("max_record_bytes"),
            "a record has at most 1GiB",
            "the default is \"16MiB\"",
        );
    }
    let (format, schema) = rows?;
    Some(SourceSpec {
        name: name.into(),
        kind: source_kind?,
        format,
        schema,
        watermark,
        on_error: on_error.unwrap_or(OnError::DeadLetter),
        max_error_ratio,
        max_record_bytes: max_record_bytes as usize,
    })
}

fn file(r: &mut Reader, s: &Section) -> Option<SourceKind> {
    let end = r.boolean(s, "end");
    let max_files_per_epoch = r.count(s, "max_files_per_epoch", 1).map(|n| n as usize);
    let fix = "write path = \"data.csv\", a directory or a pattern like \"data/*.csv\"";
    let path = paths::path(r, s, "path", fix)?;
    let compressed =
        |suffix: &&&str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(suffix));
    if let Some(suffix) = ["gz", "zst", "bz2", "xz", "lz4"].iter().find(compressed) {
        let what = format!("compressed files (.{suffix}) are not in this version");
        r.find(
            s.place("path"),
            what,
            "unpack the file, or pipe it: zcat data.csv.gz | pelton run …, with type = \"stdin\"",
        );
    }
    Some(SourceKind::File { path, max_files_per_epoch, end })
}

fn socket(r: &mut Reader, s: &Section) -> Option<SourceKind> {
    let listen = r.boolean(s, "listen").unwrap_or(false);
    let address = r.required(s, "address", "write address = \"127.0.0.1:9999\"")?;
    if let Err(fault) = unit::address(&address.value) {
        r.inside(address, fault);
        return None;
    }
    Some(SourceKind::Socket { address: address.value.clone(), listen })
}

fn generate(r: &mut Reader, s: &Section) -> Option<SourceKind> {
    let rows = r.count(s, "rows", 0);
    let rows_per_second = r.count(s, "rows_per_second", 1);
    let seed = r.count(s, "seed", 0).unwrap_or(0);
    let fix = "write suite = \"sensors\" or suite = \"words\"";
    if !r.present(s, "suite", fix) {
        return None;
    }
    let suites = [("sensors", Choice::Is("sensors")), ("words", Choice::Is("words"))];
    let suite = r.choice(s, "suite", &suites)?.to_owned();
    Some(SourceKind::Generate { suite, rows, rows_per_second, seed })
}

/// What a suite of the generator writes.
fn suite_columns(suite: &str) -> (Format, Vec<Column>) {
    if suite == "words" {
        return (Format::Text, text_schema());
    }
    let double = || DataType::Float64;
    let columns = [
        ("ts", ddl::timestamp()),
        ("device", DataType::Utf8),
        ("region", DataType::Utf8),
        ("temperature", double()),
        ("humidity", double()),
        ("status", DataType::Int32),
    ];
    let columns = columns.into_iter().map(|(name, data_type)| {
        let timed = matches!(data_type, DataType::Timestamp(..));
        let format = if timed { TimeFormat::EpochMillis } else { TimeFormat::Iso };
        column(name, data_type, format, true)
    });
    (Format::Csv(CsvDialect::default()), columns.collect())
}

fn text_schema() -> Vec<Column> {
    // A line is a value, the empty line too.
    vec![column("value", DataType::Utf8, TimeFormat::Iso, false)]
}

/// Format and columns; of a generator those of its suite, which the file may repeat.
fn rows(
    r: &mut Reader,
    s: &Section,
    suite: Option<(Format, Vec<Column>)>,
) -> Option<(Format, Vec<Column>)> {
    const INSTEAD: &str = "in this version: \"csv\", \"text\"";
    let formats = [
        ("csv", Choice::Is(true)),
        ("text", Choice::Is(false)),
        ("json", Choice::Later("JSON is not read in this version", INSTEAD)),
        ("parquet", Choice::Later("Parquet is not read in this version", INSTEAD)),
        ("arrow", Choice::Later("Arrow files are not read in this version", INSTEAD)),
        ("avro", Choice::Later("Avro is not read in this version", INSTEAD)),
    ];
    let generated = suite.as_ref().map(|suite| matches!(suite.0, Format::Csv(_)));
    let format = r.choice(s, "format", &formats);
    if format.is_none() && s.has("format") && !s.has("schema") {
        return None;
    }
    let is_csv = format.or(generated).unwrap_or(true);
    if generated.is_some_and(|made| made != is_csv) {
        let what = "the generator writes this suite in another format";
        r.find(s.place("format"), what, "leave `format` out");
        return None;
    }
    let (dialect, empty_is_null) = csv_table(r, s, is_csv);
    let declared = match (s.get("schema"), &suite) {
        (None, Some(_)) => None,
        (None, None) if is_csv => {
            let fix = "write schema = \"ts TIMESTAMP, device STRING\", or format = \"text\" for whole lines";
            r.required(s, "schema", fix);
            return None;
        }
        (None, None) => None,
        (Some(_), _) => {
            let text = r.required(s, "schema", "write schema = \"ts TIMESTAMP, device STRING\"")?;
            Some(columns::declared(r, text, empty_is_null)?)
        }
    };
    let fixed = suite.map(|suite| suite.1).or_else(|| (!is_csv).then(text_schema));
    let mut schema = match fixed {
        Some(fixed) => {
            same_columns(r, s, &fixed, declared.as_deref());
            fixed
        }
        None => declared?,
    };
    let before = schema.clone();
    if let Some(entry) = s.get("columns") {
        columns::options(r, entry, &mut schema);
    }
    if generated.is_some() && schema != before {
        let what = "the generator writes its columns in its own way";
        r.find(s.place("columns"), what, "leave `columns` out");
    }
    if generated.is_some() && dialect != CsvDialect::default() {
        r.find(s.place("csv"), "the generator writes plain CSV", "leave `csv` out");
    }
    Some((if is_csv { Format::Csv(dialect) } else { Format::Text }, schema))
}

/// `[source.NAME.csv]`.
fn csv_table(r: &mut Reader, s: &Section, is_csv: bool) -> (CsvDialect, bool) {
    let Some(entry) = s.get("csv") else { return (CsvDialect::default(), true) };
    if !is_csv {
        let what = "`csv` has no meaning for format = \"text\"";
        r.find(entry.key_at.clone(), what, "remove it, or write format = \"csv\"");
        return (CsvDialect::default(), true);
    }
    let name = format!("{}.csv]", s.name.trim_end_matches(']'));
    match r.open_entry(name, entry, CSV_KEYS, &[]) {
        Some(csv) => columns::dialect(r, &csv),
        None => (CsvDialect::default(), true),
    }
}

/// A schema that is fixed may be written down, not changed.
fn same_columns(r: &mut Reader, s: &Section, fixed: &[Column], declared: Option<&[Column]>) {
    let parts = |columns: &[Column]| -> Vec<(String, DataType)> {
        columns.iter().map(|c| (c.name.clone(), c.data_type.clone())).collect()
    };
    if declared.is_some_and(|declared| parts(declared) != parts(fixed)) {
        let ddl: Vec<String> =
            fixed.iter().map(|c| format!("{} {}", c.name, type_name(&c.data_type))).collect();
        let what = format!("the schema is \"{}\" here", ddl.join(", "));
        r.find(s.place("schema"), what, "leave `schema` out");
    }
}

fn watermark(r: &mut Reader, s: &Section, schema: Option<&[Column]>) -> Option<WatermarkSpec> {
    const FORM: &str = "write watermark = { column = \"ts\", delay = \"10s\" }";
    let entry = s.get("watermark")?;
    let skew = later(
        "max_future_skew",
        "the guard against far future rows is",
        "leave it out; WHERE ts < … in the SQL drops such rows",
    );
    if !matches!(entry.node.value, Value::Table(_)) {
        return r.wrong(entry, "a table", FORM);
    }
    let w = r.open_entry("watermark".into(), entry, WATERMARK_KEYS, &[skew])?;
    let late = r.choice(
        &w,
        "late",
        &[("row", Choice::Is(LateRule::Row)), ("epoch", Choice::Is(LateRule::Epoch))],
    );
    let late = late.unwrap_or(LateRule::Row);
    across(r, &w, late);
    // One source is one split: nothing waits for an idle one. The value is checked all the same.
    r.span(&w, "idle_timeout");
    let column = r.required(&w, "column", FORM);
    if !w.has("delay") {
        r.find(w.at.clone(), "watermark needs `delay`", FORM);
    }
    let delay = r.duration(&w, "delay");
    let (column, schema) = (column?, schema?);
    let lower = column.value.to_lowercase();
    let Some(found) = schema.iter().find(|c| c.name.to_lowercase() == lower) else {
        let fix = columns::no_such_column(&column.value, schema);
        r.find(w.place("column"), format!("the schema has no column `{}`", column.value), fix);
        return None;
    };
    if !matches!(found.data_type, DataType::Timestamp(..)) {
        let what = format!(
            "a watermark is on event time, `{}` is {}",
            found.name,
            type_name(&found.data_type)
        );
        r.find(w.place("column"), what, "name a TIMESTAMP column");
        return None;
    }
    Some(WatermarkSpec { column: found.name.clone(), delay: delay?, late })
}

fn across(r: &mut Reader, w: &Section, late: LateRule) {
    let max = r.choice(w, "across", &[("min", Choice::Is(false)), ("max", Choice::Is(true))]);
    match (max, late) {
        (Some(true), LateRule::Row) => r.find(
            w.place("across"),
            "`across = \"max\"` lets a split's rows be late by another's clock, late = \"row\" does not",
            "write late = \"epoch\" beside it, or leave `across` out",
        ),
        (Some(false), LateRule::Epoch) => r.find(
            w.place("across"),
            "`late = \"epoch\"` is Spark's rule: the greatest watermark counts",
            "leave `across` out, or write late = \"row\"",
        ),
        _ => {}
    }
}

/// Whether the input ends by itself.
pub fn bounded(kind: &SourceKind) -> bool {
    match kind {
        SourceKind::File { path, end, .. } => end.unwrap_or(!is_pattern(path)),
        SourceKind::Socket { .. } => false,
        SourceKind::Stdin => true,
        SourceKind::Generate { rows, .. } => rows.is_some(),
    }
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().contains(['*', '?', '['])
}
