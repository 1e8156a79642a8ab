//! `[source.NAME]`: where rows come from; `rows` reads what a row is.

use super::reader::{Choice, Reader, Refused, Section, elsewhere, later};
use super::rows;
use super::spec::{Format, Header, OnError, SourceKind, SourceSpec};
use super::tree::{Entry, Value};
use super::unit;
use super::{kafka, paths};

pub const COMMON_KEYS: &[&str] = &[
    "type",
    "format",
    "schema",
    "columns",
    "watermark",
    "dedup",
    "on_error",
    "max_error_ratio",
    "max_record_bytes",
    "csv",
];
pub const FILE_KEYS: &[&str] = &["path", "end", "max_files_per_epoch"];
pub const SOCKET_KEYS: &[&str] = &["address", "listen"];
pub const GENERATE_KEYS: &[&str] = &["suite", "rows", "rows_per_second", "seed"];

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
    Kafka,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::File, Kind::Socket, Kind::Stdin, Kind::Generate, Kind::Kafka];

    fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Socket => "socket",
            Kind::Stdin => "stdin",
            Kind::Generate => "generate",
            Kind::Kafka => "kafka",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::File => FILE_KEYS,
            Kind::Socket => SOCKET_KEYS,
            Kind::Stdin => &[],
            Kind::Generate => GENERATE_KEYS,
            Kind::Kafka => kafka::KEYS,
        }
    }
}

/// The job's sources in the order of the file, each with its table.
pub fn read<'a>(r: &mut Reader, root: &Section<'a>) -> Vec<(Section<'a>, SourceSpec)> {
    let mut read: Vec<(Section, SourceSpec)> = Vec::new();
    for entry in entries(r, root) {
        let taken = read.iter().any(|(_, other)| other.name.eq_ignore_ascii_case(&entry.key));
        if taken {
            let what = format!("two sources are named `{}`", entry.key);
            let fix = "names in SQL are told apart without regard to case";
            r.find(entry.key_at.clone(), what, fix);
        }
        read.extend(one(r, entry));
    }
    read
}

fn one<'a>(r: &mut Reader, entry: &'a Entry) -> Option<(Section<'a>, SourceSpec)> {
    let name = format!("[source.{}]", entry.key);
    let Value::Table(table) = &entry.node.value else { return None };
    let own = Kind::ALL.iter().flat_map(|kind| kind.keys());
    let keys = COMMON_KEYS.iter().chain(own).copied().collect();
    let head = Section::new(name, Some(entry.node.at.clone()), table, keys);
    if !r.present(
        &head,
        "type",
        "write type = \"kafka\", \"file\", \"socket\", \"stdin\" or \"generate\"",
    ) {
        r.open(head, &[]);
        return None;
    }
    const REST: &str = "in this version: \"kafka\", \"file\", \"socket\", \"stdin\", \"generate\"";
    let mut kinds: Vec<(&str, Choice<Kind>)> =
        Kind::ALL.iter().map(|&kind| (kind.name(), Choice::Is(kind))).collect();
    kinds.push(("s3", Choice::Later("the S3 source is not in this version", REST)));
    for format in ["csv", "text", "json", "parquet"] {
        let fix = "write type = \"file\", and the format as format = \"csv\" or \"text\"";
        kinds.push((format, Choice::Later("this is a format", fix)));
    }
    let kind = r.choice(&head, "type", &kinds)?;
    let keys = COMMON_KEYS.iter().chain(kind.keys()).copied().collect();
    let section = r.open(Section { keys, ..head }, &refused(kind));
    let spec = source(r, &section, &entry.key, kind);
    Some((section, spec?))
}

/// The entries of the sources; what is none is told.
fn entries<'a>(r: &mut Reader, root: &Section<'a>) -> &'a [Entry] {
    const FORM: &str = "write [source.NAME] and its keys below it; NAME is the table's name in SQL";
    if !r.present(root, "source", FORM) {
        return &[];
    }
    let Some(entry) = root.get("source") else { return &[] };
    let Value::Table(sources) = &entry.node.value else {
        r.wrong::<()>(entry, "a table of sources", FORM);
        return &[];
    };
    if let Some(key) = sources.entries.iter().find(|e| !matches!(e.node.value, Value::Table(_))) {
        r.find(key.key_at.clone(), "this source has no name", FORM);
        return &[];
    }
    if sources.entries.is_empty() {
        r.find(entry.node.at.clone(), "there is no source in it", FORM);
    }
    &sources.entries
}

/// The keys of other kinds, and what is not built.
fn refused(kind: Kind) -> Vec<Refused> {
    let here = format!("a {} source", kind.name());
    let mut refused = Vec::new();
    for other in Kind::ALL.into_iter().filter(|&other| other != kind) {
        let there = format!("type = \"{}\"", other.name());
        refused.extend(other.keys().iter().map(|key| elsewhere(key, &here, &there)));
    }
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
        Kind::Kafka => kafka::read(r, s).map(SourceKind::Kafka),
    };
    let mut rows = match &source_kind {
        Some(SourceKind::Generate { suite, .. }) => rows::generated(r, s, suite),
        None if kind == Kind::Generate => None,
        _ => rows::read(r, s),
    };
    if let (Some(SourceKind::Kafka(of)), Some((_, schema))) = (&source_kind, &mut rows) {
        kafka::append(r, s, &of.include, schema);
    }
    let watermark = rows::watermark(r, s, rows.as_ref().map(|rows| rows.1.as_slice()));
    let has_watermark = s.has("watermark");
    let dedup = rows::dedup(r, s, rows.as_ref().map(|rows| rows.1.as_slice()), has_watermark);
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
    if let (Kind::Kafka, Format::Csv(csv)) = (kind, &format)
        && (csv.header != Header::None || csv.skip_lines > 0)
    {
        let what = "messages have no header: `header` and `skip_lines` are for files";
        r.find(s.place("csv"), what, "remove them, and list the columns in `schema`");
    }
    Some(SourceSpec {
        name: name.into(),
        kind: source_kind?,
        format,
        schema,
        watermark,
        dedup,
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
