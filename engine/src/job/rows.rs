//! What a row of a source is: its format, its columns, its event time.

use std::time::Duration;

use arrow::datatypes::DataType;

use super::columns::{self, CSV_KEYS, column};
use super::ddl::{self, type_name};
use super::reader::{Choice, Reader, Section};
use super::spec::{
    Across, Column, CsvDialect, DedupSpec, Format, LateRule, TimeFormat, WatermarkSpec,
};
use super::tree::Value;

pub const WATERMARK_KEYS: &[&str] =
    &["column", "delay", "late", "across", "idle_timeout", "max_future_skew"];

/// SEMANTICS 3.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub const DEDUP_KEYS: &[&str] = &["columns", "within_watermark"];

/// How the rows are written, and their columns.
pub type Rows = (Format, Vec<Column>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Csv,
    Text,
}

/// The rows of a source that somebody else writes.
pub fn read(r: &mut Reader, s: &Section) -> Option<Rows> {
    let format = format(r, s);
    if format.is_none() && s.has("format") && !s.has("schema") {
        return None;
    }
    match format.unwrap_or(Written::Csv) {
        Written::Csv => csv(r, s),
        Written::Text => Some(text(r, s)),
    }
}

fn format(r: &mut Reader, s: &Section) -> Option<Written> {
    const INSTEAD: &str = "in this version: \"csv\", \"text\"";
    let formats = [
        ("csv", Choice::Is(Written::Csv)),
        ("text", Choice::Is(Written::Text)),
        ("json", Choice::Later("JSON is not read in this version", INSTEAD)),
        ("parquet", Choice::Later("Parquet is not read in this version", INSTEAD)),
        ("arrow", Choice::Later("Arrow files are not read in this version", INSTEAD)),
        ("avro", Choice::Later("Avro is not read in this version", INSTEAD)),
    ];
    r.choice(s, "format", &formats)
}

fn csv(r: &mut Reader, s: &Section) -> Option<Rows> {
    let (dialect, empty_is_null) = dialect(r, s);
    let fix = match s.has("format") {
        true => "write schema = \"ts TIMESTAMP, device STRING\"",
        false => {
            "write schema = \"ts TIMESTAMP, device STRING\", or format = \"text\" for whole lines"
        }
    };
    let ddl = r.required(s, "schema", fix)?;
    let mut schema = columns::declared(r, ddl, empty_is_null)?;
    if let Some(entry) = s.get("columns") {
        columns::options(r, entry, &mut schema);
    }
    Some((Format::Csv(dialect), schema))
}

/// `[….csv]`: the dialect, and whether empty fields are NULL.
pub fn dialect(r: &mut Reader, s: &Section) -> (CsvDialect, bool) {
    let name = format!("{}.csv]", s.name.trim_end_matches(']'));
    match s.get("csv").and_then(|entry| r.open_entry(name, entry, CSV_KEYS, &[])) {
        Some(csv) => columns::dialect(r, &csv),
        None => (CsvDialect::default(), true),
    }
}

/// A row is a line, as it is.
fn text(r: &mut Reader, s: &Section) -> Rows {
    for key in ["csv", "columns"] {
        if let Some(entry) = s.get(key) {
            let what = format!("`{key}` has no meaning for format = \"text\": a line is the value");
            r.find(entry.key_at.clone(), what, "remove it, or write format = \"csv\"");
        }
    }
    // The empty line is a value, too.
    let schema = vec![column("value", DataType::Utf8, TimeFormat::Iso, false)];
    same_schema(r, s, &schema);
    (Format::Text, schema)
}

/// The rows of a suite of the generator; the file may repeat what they are, not change it.
pub fn generated(r: &mut Reader, s: &Section, suite: &str) -> Option<Rows> {
    let written = if suite == "words" { Written::Text } else { Written::Csv };
    if s.has("format") && format(r, s)? != written {
        let what = format!("the generator writes {suite} in another format");
        r.find(s.place("format"), what, "leave `format` out");
        return None;
    }
    if written == Written::Text {
        return Some(text(r, s));
    }
    let made = sensors();
    if dialect(r, s).0 != CsvDialect::default() {
        r.find(s.place("csv"), "the generator writes plain CSV", "leave `csv` out");
    }
    same_schema(r, s, &made);
    if let Some(entry) = s.get("columns") {
        let mut asked = made.clone();
        columns::options(r, entry, &mut asked);
        if asked != made {
            let what = "the generator writes its columns in its own way";
            r.find(s.place("columns"), what, "leave `columns` out");
        }
    }
    Some((Format::Csv(CsvDialect::default()), made))
}

/// The generator's `sensors`.
fn sensors() -> Vec<Column> {
    let plain = |name, data_type| column(name, data_type, TimeFormat::Iso, true);
    vec![
        column("ts", ddl::timestamp(), TimeFormat::EpochMillis, true),
        plain("device", DataType::Utf8),
        plain("region", DataType::Utf8),
        plain("temperature", DataType::Float64),
        plain("humidity", DataType::Float64),
        plain("status", DataType::Int32),
    ]
}

/// A schema that is given by the rows may be written down, not changed.
fn same_schema(r: &mut Reader, s: &Section, given: &[Column]) {
    if !s.has("schema") {
        return;
    }
    let fix = "leave `schema` out";
    let Some(ddl) = r.required(s, "schema", fix) else { return };
    let Some(declared) = columns::declared(r, ddl, true) else { return };
    let parts = |c: &Column| format!("{} {}", c.name, type_name(&c.data_type));
    let given: Vec<String> = given.iter().map(parts).collect();
    if declared.iter().map(parts).ne(given.iter().cloned()) {
        let what = format!("the schema is \"{}\" here", given.join(", "));
        r.find(s.place("schema"), what, fix);
    }
}

pub fn watermark(r: &mut Reader, s: &Section, schema: Option<&[Column]>) -> Option<WatermarkSpec> {
    const FORM: &str = "write watermark = { column = \"ts\", delay = \"10s\" }";
    let entry = s.get("watermark")?;
    if !matches!(entry.node.value, Value::Table(_)) {
        return r.wrong(entry, "a table", FORM);
    }
    let w = r.open_entry("watermark".into(), entry, WATERMARK_KEYS, &[])?;
    let late = r.choice(
        &w,
        "late",
        &[("row", Choice::Is(LateRule::Row)), ("epoch", Choice::Is(LateRule::Epoch))],
    );
    let late = late.unwrap_or(LateRule::Row);
    let across = across(r, &w, late);
    let idle_timeout = r.span(&w, "idle_timeout").unwrap_or(IDLE_TIMEOUT);
    let max_future_skew = r.span(&w, "max_future_skew");
    let column = r.required(&w, "column", FORM);
    if !w.has("delay") {
        r.find(w.at.clone(), "watermark needs `delay`", FORM);
    }
    let delay = match w.get("delay").map(|entry| &entry.node.value) {
        Some(Value::Text(text)) if text.value.trim().starts_with('-') => {
            let what = format!("delay threshold ({}) should not be negative", text.value);
            r.find(w.place("delay"), format!("requirement failed: {what}"), FORM);
            None
        }
        _ => r.duration(&w, "delay"),
    };
    let (column, schema) = (column?, schema?);
    let lower = column.value.to_lowercase();
    let Some(found) = schema.iter().find(|c| c.name.to_lowercase() == lower) else {
        let fix = columns::no_such_column(&column.value, schema);
        let what = format!(
            "a column with name `{}` cannot be resolved: the schema has none",
            column.value
        );
        r.find(w.place("column"), what, fix);
        return None;
    };
    if !matches!(found.data_type, DataType::Timestamp(..)) {
        let what = format!(
            "the event time `{}` has the invalid type {}, expected TIMESTAMP",
            found.name,
            type_name(&found.data_type)
        );
        r.find(w.place("column"), what, "name a TIMESTAMP column");
        return None;
    }
    Some(WatermarkSpec {
        column: found.name.clone(),
        delay: delay?,
        late,
        across,
        idle_timeout,
        max_future_skew,
    })
}

/// Spark's rule goes with Spark's clock.
fn across(r: &mut Reader, w: &Section, late: LateRule) -> Across {
    let kinds = [("min", Choice::Is(Across::Min)), ("max", Choice::Is(Across::Max))];
    let asked = r.choice(w, "across", &kinds);
    if asked == Some(Across::Max) && late == LateRule::Row {
        r.find(
            w.place("across"),
            "`across = \"max\"` lets a split's rows be late by another's clock, late = \"row\" does not",
            "write late = \"epoch\" beside it, as Spark, or leave `across` out",
        );
    }
    asked.unwrap_or(match late {
        LateRule::Row => Across::Min,
        LateRule::Epoch => Across::Max,
    })
}

/// `dedup = { columns = ["id"], within_watermark = true }`.
pub fn dedup(
    r: &mut Reader,
    s: &Section,
    schema: Option<&[Column]>,
    has_watermark: bool,
) -> Option<DedupSpec> {
    const FORM: &str = "write dedup = { columns = [\"id\"] }";
    let entry = s.get("dedup")?;
    if !matches!(entry.node.value, Value::Table(_)) {
        return r.wrong(entry, "a table", FORM);
    }
    let d = r.open_entry("dedup".into(), entry, DEDUP_KEYS, &[])?;
    let within_watermark = r.boolean(&d, "within_watermark").unwrap_or(false);
    if within_watermark && !has_watermark {
        r.find(
            d.place("within_watermark"),
            "dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without \
             watermark: nothing says when a key may be forgotten",
            "give the source a watermark = { column = \"ts\", delay = \"10s\" }",
        );
    }
    if !d.has("columns") {
        r.find(d.at.clone(), "dedup needs `columns`", FORM);
        return None;
    }
    let names = r.texts(&d, "columns")?;
    let schema = schema?;
    let mut columns: Vec<String> = Vec::new();
    for name in names {
        let lower = name.to_lowercase();
        match schema.iter().find(|column| column.name.to_lowercase() == lower) {
            Some(found) if !columns.contains(&found.name) => columns.push(found.name.clone()),
            Some(_) => {}
            None => {
                let fix = columns::no_such_column(&name, schema);
                r.find(d.place("columns"), format!("the schema has no column `{name}`"), fix);
                return None;
            }
        }
    }
    if columns.is_empty() {
        r.find(d.place("columns"), "without columns every row is like the first", FORM);
        return None;
    }
    Some(DedupSpec { columns, within_watermark })
}
