//! `[sink.NAME]`: where rows go.

use super::reader::{Choice, Reader, Refused, Section, elsewhere, later};
use super::spec::{ConsoleStyle, FileFormat, SinkKind, SinkOf, SinkSpec};
use super::tree::{Entry, Value};
use super::{kafka, paths};

pub const COMMON_KEYS: &[&str] = &["type", "of", "delivery"];
pub const CONSOLE_KEYS: &[&str] = &["style", "num_rows", "truncate"];
pub const FILE_KEYS: &[&str] = &["path", "format", "csv"];

/// Spark's: 20 rows, 20 characters a column.
const CONSOLE_ROWS: usize = 20;
const CONSOLE_CHARS: usize = 20;
/// What `DStream.print()` shows.
const DSTREAM_ROWS: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Console,
    File,
    Kafka,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

/// A sink, the table that it was read from, and the promise that was asked for.
pub struct Sink<'a> {
    pub section: Section<'a>,
    pub spec: SinkSpec,
    pub delivery: Option<Delivery>,
}

impl Sink<'_> {
    /// The sink as it runs: exactly once wherever it can.
    pub fn resolved(self, durable: bool) -> SinkSpec {
        let mut spec = self.spec;
        if let SinkKind::Kafka(kafka) = &mut spec.kind {
            kafka.exactly_once = durable && self.delivery != Some(Delivery::AtLeastOnce);
        }
        spec
    }
}

/// The job's sinks in the order of the file; the console is not added here.
pub fn read<'a>(r: &mut Reader, root: &Section<'a>) -> Vec<Sink<'a>> {
    const FORM: &str = "write [sink.NAME] and its keys below it";
    let Some(entry) = root.get("sink") else { return Vec::new() };
    let Value::Table(sinks) = &entry.node.value else {
        r.wrong::<()>(entry, "a table of sinks", FORM);
        return Vec::new();
    };
    if let Some(key) = sinks.entries.iter().find(|e| !matches!(e.node.value, Value::Table(_))) {
        r.find(key.key_at.clone(), "this sink has no name", FORM);
        return Vec::new();
    }
    sinks.entries.iter().filter_map(|entry| sink(r, entry)).collect()
}

/// Whether a sink shows rows as they came, too.
pub fn shows_original(sink: &SinkSpec) -> bool {
    matches!(sink.kind, SinkKind::Console { style: ConsoleStyle::OriginalProcessed, .. })
}

/// The console of a job that names no sink for its rows.
pub fn default_console() -> SinkSpec {
    SinkSpec {
        name: "console".into(),
        kind: SinkKind::Console {
            style: ConsoleStyle::Spark,
            num_rows: CONSOLE_ROWS,
            truncate: Some(CONSOLE_CHARS),
        },
        of: SinkOf::Rows,
    }
}

fn sink<'a>(r: &mut Reader, entry: &'a Entry) -> Option<Sink<'a>> {
    let Value::Table(table) = &entry.node.value else { return None };
    let name = format!("[sink.{}]", entry.key);
    let own = [CONSOLE_KEYS, FILE_KEYS, kafka::SINK_KEYS];
    let keys = COMMON_KEYS.iter().chain(own.into_iter().flatten()).copied().collect();
    let head = Section::new(name, Some(entry.node.at.clone()), table, keys);
    if !r.present(&head, "type", "write type = \"console\", type = \"file\" or type = \"kafka\"") {
        r.open(head, &[]);
        return None;
    }
    const INSTEAD: &str = "in this version: \"console\", \"file\", \"kafka\"";
    const FORMAT: &str = "write type = \"file\", and the format as format = \"csv\"";
    let kinds = [
        ("console", Choice::Is(Kind::Console)),
        ("file", Choice::Is(Kind::File)),
        ("kafka", Choice::Is(Kind::Kafka)),
        ("http", Choice::Later("the HTTP sink is not in this version", INSTEAD)),
        ("stdout", Choice::Later("the console prints on stdout", "write type = \"console\"")),
        ("csv", Choice::Later("this is a format", FORMAT)),
        ("json", Choice::Later("this is a format", FORMAT)),
        ("parquet", Choice::Later("this is a format", FORMAT)),
    ];
    let kind = r.choice(&head, "type", &kinds)?;
    let own = match kind {
        Kind::Console => CONSOLE_KEYS,
        Kind::File => FILE_KEYS,
        Kind::Kafka => kafka::SINK_KEYS,
    };
    let keys = COMMON_KEYS.iter().chain(own).copied().collect();
    let section = r.open(Section { keys, ..head }, &refused(kind));
    let of = of(r, &section);
    let promises = [
        ("exactly_once", Choice::Is(Delivery::ExactlyOnce)),
        ("at_least_once", Choice::Is(Delivery::AtLeastOnce)),
    ];
    let delivery = r.choice(&section, "delivery", &promises);
    let kind = match kind {
        Kind::Console => console(r, &section),
        Kind::File => file(r, &section)?,
        Kind::Kafka => SinkKind::Kafka(kafka::sink(r, &section)?),
    };
    let spec = SinkSpec { name: entry.key.clone(), kind, of };
    Some(Sink { section, spec, delivery })
}

fn refused(kind: Kind) -> Vec<Refused> {
    let kinds = [
        (Kind::Console, "a console sink", "type = \"console\"", CONSOLE_KEYS),
        (Kind::File, "a file sink", "type = \"file\"", FILE_KEYS),
        (Kind::Kafka, "a Kafka sink", "type = \"kafka\"", kafka::SINK_KEYS),
    ];
    let (_, here, ..) = kinds.iter().find(|(of, ..)| *of == kind).expect("all kinds are listed");
    let others = kinds.iter().filter(|(of, ..)| *of != kind);
    let mut refused: Vec<Refused> = others
        .flat_map(|(_, _, there, keys)| keys.iter().map(|key| elsewhere(key, here, there)))
        .collect();
    let roll = "leave it out: an epoch is one file, [checkpoint] says how long an epoch is";
    refused.push(later("roll_size", "rolling is", roll));
    refused.push(later("roll_interval", "rolling is", roll));
    refused.push(later("partition_by", "directories by value are", "leave it out"));
    refused.push(later("tombstones", "null for a key that was evicted is", "leave it out"));
    refused
}

fn of(r: &mut Reader, section: &Section) -> SinkOf {
    let kinds = [
        ("rows", Choice::Is(SinkOf::Rows)),
        ("late", Choice::Is(SinkOf::Late)),
        ("dead_letters", Choice::Is(SinkOf::DeadLetters)),
    ];
    r.choice(section, "of", &kinds).unwrap_or(SinkOf::Rows)
}

fn console(r: &mut Reader, section: &Section) -> SinkKind {
    let styles = [
        ("spark", Choice::Is(ConsoleStyle::Spark)),
        ("json", Choice::Is(ConsoleStyle::Json)),
        ("dstream", Choice::Is(ConsoleStyle::Dstream)),
        ("original_processed", Choice::Is(ConsoleStyle::OriginalProcessed)),
    ];
    let style = r.choice(section, "style", &styles).unwrap_or(ConsoleStyle::Spark);
    let (rows, chars) = match style {
        ConsoleStyle::Dstream => (DSTREAM_ROWS, None),
        _ => (CONSOLE_ROWS, Some(CONSOLE_CHARS)),
    };
    let num_rows = r.count(section, "num_rows", 0).map_or(rows, |n| n as usize);
    let truncate = if section.has("truncate") { truncate(r, section) } else { chars };
    for key in ["num_rows", "truncate"] {
        let name = match style {
            ConsoleStyle::Json => "json",
            ConsoleStyle::OriginalProcessed => "original_processed",
            ConsoleStyle::Spark | ConsoleStyle::Dstream => continue,
        };
        if section.has(key) {
            let what = format!("`{key}` has no meaning for style = \"{name}\": it shows all rows");
            r.find(section.place(key), what, "remove it");
        }
    }
    SinkKind::Console { style, num_rows, truncate }
}

/// true: 20 characters, false: no limit, or the number of characters; as Spark's.
fn truncate(r: &mut Reader, section: &Section) -> Option<usize> {
    let Some(entry) = section.get("truncate") else { return Some(CONSOLE_CHARS) };
    match entry.node.value {
        Value::Boolean(true) => Some(CONSOLE_CHARS),
        Value::Boolean(false) | Value::Integer(0) => None,
        Value::Integer(chars @ 1..) => Some(chars as usize),
        _ => r.wrong(entry, "true, false or a number of characters", "write truncate = false"),
    }
}

fn file(r: &mut Reader, section: &Section) -> Option<SinkKind> {
    let formats = [
        ("csv", Choice::Is(FileFormat::Csv { header: true })),
        ("json", Choice::Is(FileFormat::Json)),
        ("parquet", Choice::Is(FileFormat::Parquet)),
        ("arrow", Choice::Is(FileFormat::Arrow)),
    ];
    let mut format =
        r.choice(section, "format", &formats).unwrap_or(FileFormat::Csv { header: true });
    if let Some(entry) = section.get("csv") {
        let name = format!("{}.csv]", section.name.trim_end_matches(']'));
        let csv = r.open_entry(name, entry, &["header"], &[]);
        let asked = csv.and_then(|csv| r.boolean(&csv, "header"));
        match &mut format {
            FileFormat::Csv { header } => *header = asked.unwrap_or(*header),
            _ => {
                let what = "`csv` has no meaning for this format";
                r.find(entry.key_at.clone(), what, "remove it, or write format = \"csv\"");
            }
        }
    }
    let fix = "write path = \"out/my-job\", the directory for the files";
    let path = paths::path(r, section, "path", fix)?;
    Some(SinkKind::File { path, format })
}
