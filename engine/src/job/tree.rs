//! The job's text as a tree of values, each with its place: TOML, with `${VAR}` replaced inside
//! strings and `--set key=value` laid over it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, quoted};
use super::map::TextMap;
use super::strings::{string_map, substitute};
use super::text::{FINDINGS_MAX, JobText, Override};

#[derive(Clone, Debug)]
pub struct Node {
    pub at: Range<usize>,
    pub value: Value,
    /// A value of the command line as it was typed: there `name=7` may mean the text `7`.
    pub typed: Option<Text>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(Text),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
}

/// A string after escapes and variables.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub value: String,
    pub map: TextMap,
    /// Parts of `value` that came from the environment.
    pub from_env: Vec<Range<usize>>,
}

/// Entries in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Range<usize>,
    pub node: Node,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Value {
    /// The value's kind as messages name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Datetime => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// The environment, or what a test takes for it.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses the file and lays the overrides over it, in their order.
pub fn parse(text: &JobText, env: Env, findings: &mut Vec<Finding>) -> Table {
    let (document, errors) = DeTable::parse_recoverable(text.file());
    if !errors.is_empty() {
        syntax_findings(text.file(), &errors, findings);
        return Table::default();
    }
    let mut reader = TreeReader { text: text.as_str(), base: 0, env, findings };
    let mut root = reader.table(document.into_inner());
    for place in text.overrides() {
        if let Err(finding) = lay_over(&mut root, text.as_str(), place, env, findings) {
            findings.push(finding);
        }
    }
    root
}

/// One finding a line, as what follows a line's first error is mostly its echo; no more than are shown.
fn syntax_findings(file: &str, errors: &[toml::de::Error], findings: &mut Vec<Finding>) {
    let mut line_ends = 0..0;
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        let start = at.start.min(file.len());
        if line_ends.contains(&start) {
            continue;
        }
        let end = file[start..].find('\n').map_or(file.len(), |i| start + i);
        line_ends = file[..start].rfind('\n').map_or(0, |i| i + 1)..end + 1;
        findings.push(syntax_finding(file, error.message(), at));
        if findings.len() > FINDINGS_MAX {
            return;
        }
    }
}

/// A TOML error, with the fix that a newcomer needs.
fn syntax_finding(file: &str, message: &str, at: Range<usize>) -> Finding {
    let from = at.start.min(file.len());
    let line_start = file[..from].rfind('\n').map_or(0, |i| i + 1);
    let line = file[line_start..].lines().next().unwrap_or("").trim();
    let token = file.get(at.clone()).unwrap_or("");
    let is = |part: &str| message.contains(part);
    let what = if is("missing escaped value") {
        "a backslash begins an escape, and this is none"
    } else if is("basic string") || is("literal string, expected `'`") {
        "the text is not closed"
    } else {
        message.split_once(", expected literal").map_or(message, |parts| parts.0)
    };
    let fix = if is("duplicate key") {
        "write each key and each [table] once"
    } else if is("must be quoted") && token.starts_with(|c: char| c.is_ascii_digit()) {
        "durations and sizes stand in quotes: \"10s\", \"64MiB\""
    } else if is("must be quoted") {
        "write the text in quotes: \"…\""
    } else if line.starts_with('{') {
        "a job file is TOML, not JSON: write key = value, a line each"
    } else if is("key with no value") && line.contains(':') {
        "TOML writes key = value, not key: value"
    } else if is("key with no value") {
        "a line is key = value, [table] or # comment"
    } else if is("missing escaped value") {
        "a backslash in \"…\" is written \\\\; in '…' it stands for itself"
    } else if is("multi-line") {
        "end the text with the three quotes that it begins with"
    } else if is("basic string") || is("literal string") {
        "end the text with a quote on the same line, or use three quotes for several lines"
    } else if is("unclosed table") {
        "write the table's name in brackets: [query]"
    } else {
        ""
    };
    Finding::new(at, format!("no valid TOML: {what}"), fix)
}

struct TreeReader<'a> {
    text: &'a str,
    /// Where the parsed piece begins in `text`.
    base: usize,
    env: Env<'a>,
    findings: &'a mut Vec<Finding>,
}

impl TreeReader<'_> {
    fn place(&self, span: Range<usize>) -> Range<usize> {
        self.base + span.start..self.base + span.end
    }

    fn table(&mut self, table: DeTable) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_at: self.place(key.span()),
                key: key.into_inner().into_owned(),
                node: self.node(value),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_at.start);
        Table { entries }
    }

    fn node(&mut self, value: Spanned<DeValue>) -> Node {
        let at = self.place(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(self.string(&text, at.clone())),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => {
                        self.findings.push(Finding::new(
                            at.clone(),
                            format!("the number {number} is out of range"),
                            format!("the greatest is {}", i64::MAX),
                        ));
                        Value::Integer(0)
                    }
                }
            }
            // TOML's floats are a subset of Rust's.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(nodes) => {
                Value::List(nodes.into_iter().map(|node| self.node(node)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { at, value, typed: None }
    }

    fn string(&mut self, value: &str, at: Range<usize>) -> Text {
        let map = string_map(&self.text[at.clone()], at, value);
        substitute(value, &map, self.env, self.findings)
    }
}

/// Sets one key of the command line.
fn lay_over(
    root: &mut Table,
    text: &str,
    place: &Override,
    env: Env,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let path = key_path(&text[place.key.clone()], place.key.start).ok_or_else(|| {
        Finding::new(
            place.key.clone(),
            format!("{} is no key", quoted(&text[place.key.clone()])),
            "write --set table.key=value, as query.mode=update",
        )
    })?;
    let raw = &text[place.value.clone()];
    let mut map = TextMap::starting_at(place.value.start);
    map.push(raw.len(), place.value.start);
    let mut node = match DeValue::parse(raw) {
        Ok(value) => TreeReader { text, base: place.value.start, env, findings }.node(value),
        Err(_) => {
            let value = Value::Text(substitute(raw, &map, env, findings));
            Node { at: place.value.clone(), value, typed: None }
        }
    };
    if !matches!(node.value, Value::Text(_) | Value::List(_) | Value::Table(_)) {
        node.typed = Some(Text { value: raw.into(), map, from_env: Vec::new() });
    }
    set(root, &path, node)
}

/// `source.sensors.path` as its parts, each with its place.
fn key_path(key: &str, start: usize) -> Option<Vec<(String, Range<usize>)>> {
    let document = format!("{key}=0");
    let mut table = DeTable::parse(&document).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let (key, value) = table.into_iter().next()?;
        path.push((key.get_ref().to_string(), start + key.span().start..start + key.span().end));
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) => return Some(path),
            _ => return None,
        }
    }
}

fn set(table: &mut Table, path: &[(String, Range<usize>)], node: Node) -> Result<(), Finding> {
    let [(key, key_at), rest @ ..] = path else { return Ok(()) };
    let found = table.entries.iter().position(|entry| entry.key == *key);
    if rest.is_empty() {
        let entry = Entry { key: key.clone(), key_at: key_at.clone(), node };
        match found {
            Some(i) => table.entries[i] = entry,
            None => table.entries.push(entry),
        }
        return Ok(());
    }
    let index = found.unwrap_or_else(|| {
        let value = Value::Table(Table::default());
        let node = Node { at: key_at.clone(), value, typed: None };
        table.entries.push(Entry { key: key.clone(), key_at: key_at.clone(), node });
        table.entries.len() - 1
    });
    match &mut table.entries[index].node.value {
        Value::Table(inner) => set(inner, rest, node),
        other => Err(Finding::new(
            key_at.clone(),
            format!("`{key}` is {}, it has no key `{}`", other.kind(), rest[0].0),
            format!("set `{key}` itself"),
        )),
    }
}
