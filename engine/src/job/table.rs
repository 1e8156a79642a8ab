//! `[table.NAME]`: a static table that the stream is joined with.

use super::columns;
use super::paths;
use super::reader::{Choice, Reader, Section};
use super::rows;
use super::spec::{SourceSpec, TableFormat, TableSpec};
use super::tree::{Entry, Value};

pub const KEYS: &[&str] = &["path", "format", "schema", "columns", "csv", "reload"];

const FORM: &str = "write [table.NAME] and its keys below it; NAME is the table's name in SQL";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Csv,
    Parquet,
    Arrow,
}

/// The tables in the order of the file. `sources`: they have names, too.
pub fn read(r: &mut Reader, root: &Section, sources: &[(Section, SourceSpec)]) -> Vec<TableSpec> {
    let Some(entry) = root.get("table") else { return Vec::new() };
    let Value::Table(tables) = &entry.node.value else {
        r.wrong::<()>(entry, "a table of tables", FORM);
        return Vec::new();
    };
    let mut read: Vec<TableSpec> = Vec::new();
    for entry in &tables.entries {
        if !matches!(entry.node.value, Value::Table(_)) {
            r.find(entry.key_at.clone(), "this table has no name", FORM);
            continue;
        }
        let sources = sources.iter().map(|(_, source)| source.name.as_str());
        let taken = read.iter().map(|table| table.name.as_str()).chain(sources);
        if taken.into_iter().any(|name| name.eq_ignore_ascii_case(&entry.key)) {
            let what = format!("two tables are named `{}`", entry.key);
            r.find(
                entry.key_at.clone(),
                what,
                "names in SQL are told apart without regard to case",
            );
        }
        read.extend(table(r, entry));
    }
    read
}

fn table(r: &mut Reader, entry: &Entry) -> Option<TableSpec> {
    let s = r.open_entry(format!("[table.{}]", entry.key), entry, KEYS, &[])?;
    let formats = [
        ("csv", Choice::Is(Written::Csv)),
        ("parquet", Choice::Is(Written::Parquet)),
        ("arrow", Choice::Is(Written::Arrow)),
    ];
    let written = match s.has("format") {
        true => r.choice(&s, "format", &formats)?,
        false => Written::Csv,
    };
    let reload = r.boolean(&s, "reload").unwrap_or(false);
    let path = paths::path(r, &s, "path", "write path = \"devices.csv\"");
    let (dialect, empty_is_null) = rows::dialect(r, &s);
    if written != Written::Csv {
        for key in ["csv", "columns"] {
            if let Some(entry) = s.get(key) {
                let what = format!("`{key}` says how text is read, this file holds values");
                r.find(entry.key_at.clone(), what, "remove it, or write format = \"csv\"");
            }
        }
    }
    let ddl = r.required(&s, "schema", "write schema = \"device STRING, site STRING\"")?;
    let mut schema = columns::declared(r, ddl, empty_is_null)?;
    if let Some(entry) = s.get("columns").filter(|_| written == Written::Csv) {
        columns::options(r, entry, &mut schema);
    }
    let format = match written {
        Written::Csv => TableFormat::Csv(dialect),
        Written::Parquet => TableFormat::Parquet,
        Written::Arrow => TableFormat::Arrow,
    };
    Some(TableSpec { name: entry.key.clone(), path: path?, format, schema, reload })
}
