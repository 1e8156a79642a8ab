//! How the bytes of a source become columns: the CSV dialect, and what a column says beside its type.

use std::collections::HashMap;

use arrow::datatypes::DataType;

use super::ddl::{self, type_name};
use super::finding::{closest, quoted};
use super::pattern;
use super::reader::{Choice, Reader, Refused, Section, later};
use super::spec::{Column, CsvDialect, Escape, Header, Ragged, TimeFormat};
use super::text::FINDINGS_MAX;
use super::tree::{Entry, Text, Value};
use super::unit::{self, Fault};

pub const CSV_KEYS: &[&str] = &[
    "header",
    "delimiter",
    "quote",
    "escape",
    "skip_lines",
    "comment",
    "null",
    "empty",
    "trim",
    "fewer",
    "more",
];
pub const COLUMN_KEYS: &[&str] = &["format", "timezone", "null", "empty", "trim", "truncate"];

const EMPTY: &[(&str, Choice<bool>)] = &[("null", Choice::Is(true)), ("text", Choice::Is(false))];

/// The dialect, and whether an empty field is NULL in the columns that do not say.
pub fn dialect(r: &mut Reader, csv: &Section) -> (CsvDialect, bool) {
    let default = CsvDialect::default();
    let delimiter = byte(r, csv, "delimiter").flatten().unwrap_or(default.delimiter);
    let quote = byte(r, csv, "quote").unwrap_or(default.quote);
    let comment = byte(r, csv, "comment").unwrap_or(default.comment);
    for (key, other, name) in [
        ("quote", quote, "delimiter"),
        ("comment", comment, "delimiter"),
        ("comment", comment.filter(|_| comment == quote).map(|_| delimiter), "quote"),
    ] {
        if other == Some(delimiter) {
            r.find(
                csv.place(key),
                format!("`{key}` and `{name}` are the same character"),
                "choose another for one of them",
            );
        }
    }
    let escape = escape(r, csv).unwrap_or(default.escape);
    if escape == Escape::Backslash && delimiter == b'\\' {
        r.find(csv.place("escape"), "the backslash is the delimiter", "choose another delimiter");
    }
    let dialect = CsvDialect {
        delimiter,
        quote,
        escape,
        header: header(r, csv).unwrap_or(default.header),
        skip_lines: r
            .count(csv, "skip_lines", 0)
            .map_or(default.skip_lines, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        comment,
        null: r.texts(csv, "null").unwrap_or_default(),
        trim: r.boolean(csv, "trim").unwrap_or(default.trim),
        fewer: ragged(r, csv, "fewer", "null").unwrap_or(default.fewer),
        more: ragged(r, csv, "more", "ignore").unwrap_or(default.more),
    };
    (dialect, r.choice(csv, "empty", EMPTY).unwrap_or(true))
}

/// One byte, or none for the empty text.
fn byte(r: &mut Reader, csv: &Section, key: &str) -> Option<Option<u8>> {
    let text = r.text(csv, key)?;
    match *text.value.as_bytes() {
        [] if key != "delimiter" => return Some(None),
        [b'\n' | b'\r'] => {
            r.find(csv.place(key), "a line end ends the row", format!("choose another `{key}`"))
        }
        [b'"'] if key == "delimiter" => {
            r.find(csv.place(key), "the quote cannot be the delimiter", "write delimiter = \",\"");
        }
        [byte] if byte.is_ascii() => return Some(Some(byte)),
        _ => {
            let fix = match text.value.as_str() {
                "\\t" | "tab" => "write \"\\t\" in double quotes".into(),
                "" => "write delimiter = \",\"".into(),
                _ => format!("write {key} = \"{}\"", if key == "quote" { "'" } else { ";" }),
            };
            let what = format!("`{key}` is one ASCII character, found {}", quoted(&text.value));
            r.find(csv.place(key), what, fix);
        }
    }
    None
}

fn escape(r: &mut Reader, csv: &Section) -> Option<Escape> {
    let choices = [
        ("doubled", Choice::Is(Escape::Doubled)),
        ("backslash", Choice::Is(Escape::Backslash)),
        // Spark and others name the character.
        ("\\", Choice::Also(Escape::Backslash)),
        ("\"", Choice::Also(Escape::Doubled)),
    ];
    r.choice(csv, "escape", &choices)
}

fn header(r: &mut Reader, csv: &Section) -> Option<Header> {
    let entry = csv.get("header")?;
    match &entry.node.value {
        Value::Boolean(true) => Some(Header::Match),
        Value::Boolean(false) => Some(Header::None),
        Value::Text(text) if text.value == "ignore" => Some(Header::Ignore),
        _ => r.wrong(
            entry,
            "true, false or \"ignore\"",
            "true: the first row names the columns; \"ignore\": it is passed over",
        ),
    }
}

fn ragged(r: &mut Reader, csv: &Section, key: &str, accept: &str) -> Option<Ragged> {
    let choices = [("reject", Choice::Is(Ragged::Reject)), (accept, Choice::Is(Ragged::Accept))];
    r.choice(csv, key, &choices)
}

/// The columns of a schema as its DDL alone says.
pub fn declared(r: &mut Reader, text: &Text, empty_is_null: bool) -> Option<Vec<Column>> {
    match ddl::columns(&text.value) {
        Ok(columns) => Some(
            columns
                .into_iter()
                .map(|(name, data_type, _)| {
                    column(&name, data_type, TimeFormat::Iso, empty_is_null)
                })
                .collect(),
        ),
        Err(fault) => {
            r.inside(text, fault);
            None
        }
    }
}

pub fn column(name: &str, data_type: DataType, format: TimeFormat, empty_is_null: bool) -> Column {
    Column {
        name: name.into(),
        data_type,
        format,
        timezone: None,
        null: None,
        trim: None,
        empty_is_null,
        truncate: false,
    }
}

fn constraints() -> [Refused; 6] {
    let fix = "test it in the SQL's WHERE, or leave it out";
    [
        later("states", "categories are", fix),
        later("min", "constraints are", fix),
        later("max", "constraints are", fix),
        later("regex", "constraints are", fix),
        later("max_length", "constraints are", fix),
        later("min_length", "constraints are", fix),
    ]
}

/// Applies `columns.NAME = { … }` to the schema.
pub fn options(r: &mut Reader, entry: &Entry, schema: &mut [Column]) {
    let Value::Table(columns) = &entry.node.value else {
        return r
            .wrong(entry, "a table", "write columns.ts = { format = \"epoch_ms\" }")
            .unwrap_or(());
    };
    let place = |(i, column): (usize, &Column)| (column.name.to_lowercase(), i);
    let places: HashMap<String, usize> = schema.iter().enumerate().map(place).collect();
    for entry in &columns.entries {
        if r.findings.len() > FINDINGS_MAX {
            return;
        }
        let name = format!("columns.{}", entry.key);
        let Some(section) = r.open_entry(name, entry, COLUMN_KEYS, &constraints()) else {
            continue;
        };
        match places.get(&entry.key.to_lowercase()) {
            Some(&i) => column_options(r, &section, &mut schema[i]),
            None => {
                let fix = no_such_column(&entry.key, schema);
                let what = format!("the schema has no column `{}`", entry.key);
                r.find(entry.key_at.clone(), what, fix);
            }
        }
    }
}

/// A schema with more columns is not told in a message.
const NAMES_MAX: usize = 30;

/// The fix for a name that is no column.
pub fn no_such_column(name: &str, schema: &[Column]) -> String {
    let names = || schema.iter().map(|column| column.name.as_str());
    match closest(name, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if schema.len() > NAMES_MAX => "write a name of the schema".into(),
        None => format!("its columns are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

fn column_options(r: &mut Reader, section: &Section, column: &mut Column) {
    let type_name = type_name(&column.data_type);
    let timed = matches!(column.data_type, DataType::Timestamp(..) | DataType::Date32);
    if let Some(text) = r.text(section, "format") {
        let read = if timed {
            time_format(&text.value, &column.data_type)
        } else {
            let what = format!("`format` is for dates and times, `{}` is {type_name}", column.name);
            Err(Fault::all(&text.value, what, "remove it, or declare the column TIMESTAMP or DATE"))
        };
        match read {
            Ok(format) => column.format = format,
            Err(fault) => r.inside(text, fault),
        }
    }
    if section.has("timezone") {
        if column.data_type == ddl::timestamp() {
            column.timezone = r.parsed(section, "timezone", unit::timezone, "a text", "");
        } else {
            let what = format!("`timezone` is for TIMESTAMP, `{}` is {type_name}", column.name);
            r.find(section.place("timezone"), what, "remove it");
        }
    }
    column.null = r.texts(section, "null").or(column.null.take());
    column.trim = r.boolean(section, "trim").or(column.trim);
    column.empty_is_null = r.choice(section, "empty", EMPTY).unwrap_or(column.empty_is_null);
    if let Some(truncate) = r.boolean(section, "truncate") {
        if truncate && column.format != TimeFormat::EpochNanos {
            let what = "`truncate` drops the nanoseconds of format \"epoch_ns\"";
            r.find(section.place("truncate"), what, "remove it");
        }
        column.truncate = truncate;
    }
}

const EPOCHS: &[(&str, TimeFormat)] = &[
    ("epoch_s", TimeFormat::EpochSeconds),
    ("epoch_ms", TimeFormat::EpochMillis),
    ("epoch_us", TimeFormat::EpochMicros),
    ("epoch_ns", TimeFormat::EpochNanos),
];

fn time_format(text: &str, data_type: &DataType) -> Result<TimeFormat, Fault> {
    if text.eq_ignore_ascii_case("iso") || text.eq_ignore_ascii_case("iso8601") {
        return Ok(TimeFormat::Iso);
    }
    if let Some((_, format)) = EPOCHS.iter().find(|f| f.0 == text) {
        return match data_type {
            DataType::Date32 => Err(Fault::all(
                text,
                format!("a DATE is not written as {text:?}"),
                "declare the column TIMESTAMP; `CAST(ts AS DATE)` in the SQL gives the day",
            )),
            _ => Ok(format.clone()),
        };
    }
    if text.to_lowercase().starts_with("epoch") || text.to_lowercase().starts_with("unix") {
        let fix = closest(text, EPOCHS.iter().map(|f| f.0)).map_or(
            "write \"epoch_s\", \"epoch_ms\", \"epoch_us\" or \"epoch_ns\"".into(),
            |meant| format!("did you mean {meant:?}?"),
        );
        return Err(Fault::all(text, format!("{} is no format", quoted(text)), fix));
    }
    pattern::check(text, *data_type == ddl::timestamp())?;
    Ok(TimeFormat::Pattern(text.into()))
}
