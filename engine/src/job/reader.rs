//! Typed access to the job's tables: each getter gives the value, or a finding and nothing.
//!
//! A table is opened with the list of its keys before any of them is read, so no key is ignored: one
//! that is not in the list is a finding, one that is read without being in the list a bug.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::finding::{Finding, closest, quoted};
use super::text::FINDINGS_MAX;
use super::tree::{Entry, Table, Text, Value};
use super::unit::{self, Fault};

/// So many keys of a table are looked at for a misspelt one.
const UNKNOWN_MAX: usize = 100;

pub struct Reader {
    /// Relative paths begin here: the job file's directory, absolute.
    pub dir: PathBuf,
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
}

/// One table of the job.
#[derive(Clone)]
pub struct Section<'a> {
    /// As the file writes it: `[source.sensors]`.
    pub name: String,
    /// The table's head; `None`: the file as a whole.
    pub at: Option<Range<usize>>,
    pub table: &'a Table,
    pub keys: Vec<&'static str>,
}

/// A key that exists and cannot be used here.
pub struct Refused {
    pub key: String,
    pub what: String,
    pub fix: String,
}

/// A key whose capability this version lacks.
pub fn later(key: &str, what: &str, fix: &str) -> Refused {
    let what = format!("`{key}`: {what} not in this version");
    Refused { key: key.into(), what, fix: fix.into() }
}

/// A key that has a meaning elsewhere: `here` has none for it, `there` has.
pub fn elsewhere(key: &str, here: &str, there: &str) -> Refused {
    Refused {
        key: key.into(),
        what: format!("`{key}` has no meaning for {here}"),
        fix: format!("it belongs to {there}; remove it here"),
    }
}

/// One of a closed set of words.
pub enum Choice<T> {
    Is(T),
    /// The same by another system's word; not listed.
    Also(T),
    /// Known, not in this version: what it is, what to use instead.
    Later(&'static str, &'static str),
}

impl<'a> Section<'a> {
    pub fn new(
        name: String,
        at: Option<Range<usize>>,
        table: &'a Table,
        keys: Vec<&'static str>,
    ) -> Self {
        Section { name, at, table, keys }
    }

    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        assert!(self.keys.contains(&key), "{} is opened without its key {key}", self.name);
        self.table.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The key that `written`, which is none, was probably meant to be.
    fn meant(&self, written: &str) -> Option<&'static str> {
        closest(written, self.keys.iter().copied())
    }

    /// Whether `key` is there, but misspelt: that is a finding already.
    fn misspelt(&self, key: &str) -> bool {
        let unknown = self.table.entries.iter().take(UNKNOWN_MAX).map(|e| e.key.as_str());
        unknown.filter(|k| !self.keys.contains(k)).any(|k| self.meant(k) == Some(key))
    }

    /// Where the value stands; where it is absent, the table's head.
    pub fn place(&self, key: &str) -> Option<Range<usize>> {
        self.get(key).map_or(self.at.clone(), |entry| Some(entry.node.at.clone()))
    }
}

impl Reader {
    pub fn find(
        &mut self,
        at: impl Into<Option<Range<usize>>>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding { at: at.into(), what: what.into(), fix: fix.into() });
    }

    /// A fault inside a text, at its place in the job's text.
    pub fn inside(&mut self, text: &Text, fault: Fault) {
        self.find(text.map.source(fault.at), fault.what, fault.fix);
    }

    /// Opens a table: every entry is one of its keys, or a finding.
    pub fn open<'a>(&mut self, section: Section<'a>, refused: &[Refused]) -> Section<'a> {
        for entry in &section.table.entries {
            let key = entry.key.as_str();
            if section.keys.contains(&key) {
                continue;
            }
            if let Some(known) = refused.iter().find(|r| r.key == key) {
                self.find(entry.key_at.clone(), known.what.clone(), known.fix.clone());
                continue;
            }
            if self.findings.len() > FINDINGS_MAX {
                break;
            }
            let mut homes = super::HOMES.iter().filter(|(_, keys)| keys.contains(&key));
            let fix = match (section.meant(key), homes.next(), homes.next()) {
                (Some(meant), ..) => format!("did you mean `{meant}`?"),
                (None, Some((home, _)), None) => format!("`{key}` belongs {home}"),
                _ => format!("the keys here are {}", section.keys.join(", ")),
            };
            let what = format!("unknown key `{key}` in {}", section.name);
            self.find(entry.key_at.clone(), what, fix);
        }
        section
    }

    /// Opens the table that is the value of `entry`.
    pub fn open_entry<'a>(
        &mut self,
        name: String,
        entry: &'a Entry,
        keys: &[&'static str],
        refused: &[Refused],
    ) -> Option<Section<'a>> {
        let Value::Table(table) = &entry.node.value else {
            return self.wrong(entry, "a table", format!("write {name} and its keys below it"));
        };
        let section = Section::new(name, Some(entry.node.at.clone()), table, keys.to_vec());
        Some(self.open(section, refused))
    }

    pub fn wrong<T>(&mut self, entry: &Entry, expected: &str, fix: impl Into<String>) -> Option<T> {
        let found = match &entry.node.value {
            Value::Text(text) => format!("the text {}", quoted(&text.value)),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Boolean(value) => format!("{value}"),
            other => other.kind().to_owned(),
        };
        let what = format!("`{}` is {expected}, found {found}", entry.key);
        self.find(entry.node.at.clone(), what, fix);
        None
    }

    /// A text; on the command line the quotes may be left out.
    fn entry_text<'a>(&mut self, entry: &'a Entry, expected: &str, fix: &str) -> Option<&'a Text> {
        match (&entry.node.value, &entry.node.typed) {
            (Value::Text(text), _) | (_, Some(text)) => Some(text),
            _ => self.wrong(entry, expected, fix),
        }
    }

    pub fn text<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<&'a Text> {
        self.entry_text(section.get(key)?, "a text", "write it in quotes")
    }

    /// Whether the key is there; a finding where it is not.
    pub fn present(&mut self, section: &Section, key: &str, fix: &str) -> bool {
        if !section.has(key) && !section.misspelt(key) {
            self.find(section.at.clone(), format!("{} needs `{key}`", section.name), fix);
        }
        section.has(key)
    }

    /// As [`Self::text`], a finding where the key is absent or empty.
    pub fn required<'a>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        fix: &str,
    ) -> Option<&'a Text> {
        if !self.present(section, key, fix) {
            return None;
        }
        let entry = section.get(key)?;
        let quotes = matches!(entry.node.value, Value::Integer(_) | Value::Float(_));
        let text =
            self.entry_text(entry, "a text", if quotes { "write it in quotes" } else { fix })?;
        if text.value.trim().is_empty() {
            self.find(entry.node.at.clone(), format!("`{key}` is empty"), fix);
            return None;
        }
        Some(text)
    }

    pub fn boolean(&mut self, section: &Section, key: &str) -> Option<bool> {
        let entry = section.get(key)?;
        match entry.node.value {
            Value::Boolean(value) => Some(value),
            _ => self.wrong(entry, "true or false", "write true or false, without quotes"),
        }
    }

    /// A whole number of at least `min`.
    pub fn count(&mut self, section: &Section, key: &str, min: u64) -> Option<u64> {
        let entry = section.get(key)?;
        let expected = format!("a whole number from {min} on");
        match entry.node.value {
            Value::Integer(number) if u64::try_from(number).is_ok_and(|n| n >= min) => {
                Some(number as u64)
            }
            Value::Text(ref text) => {
                let fix = if !text.from_env.is_empty() {
                    let table = section.name.trim_matches(['[', ']']);
                    format!("a variable gives a text; write --set {table}.{key}=NUMBER instead")
                } else {
                    let number = text.value.parse().unwrap_or(min.max(1));
                    format!("write {key} = {number}, without quotes")
                };
                self.wrong(entry, &expected, fix)
            }
            Value::Float(_) => self.wrong(entry, &expected, "write it in digits alone: 1_000_000"),
            _ => self.wrong(entry, &expected, format!("the least is {min}")),
        }
    }

    /// A number from 0 to 1.
    pub fn ratio(&mut self, section: &Section, key: &str) -> Option<f64> {
        let entry = section.get(key)?;
        let number = match entry.node.value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => f64::NAN,
        };
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        self.wrong(entry, "a number from 0 to 1", "write 0.1 for one row in ten")
    }

    /// A text that `read` understands; `form` says how such a value is written.
    pub fn parsed<T>(
        &mut self,
        section: &Section,
        key: &str,
        read: fn(&str) -> Result<T, Fault>,
        expected: &str,
        form: &str,
    ) -> Option<T> {
        let text = self.entry_text(section.get(key)?, expected, form)?;
        read(&text.value).map_err(|fault| self.inside(text, fault)).ok()
    }

    pub fn duration(&mut self, section: &Section, key: &str) -> Option<Duration> {
        let form = match section.get(key)?.node.value {
            Value::Integer(n) => format!("write \"{n}s\" or \"{n}ms\" (units: us, ms, s, m, h, d)"),
            _ => unit::DURATION_FORM.into(),
        };
        self.parsed(section, key, unit::duration, "a duration in quotes", &form)
    }

    /// A duration that is not zero.
    pub fn span(&mut self, section: &Section, key: &str) -> Option<Duration> {
        let span = self.duration(section, key)?;
        if span.is_zero() {
            self.find(section.place(key), format!("`{key}` is zero"), "the least is \"1ms\"");
            return None;
        }
        Some(span)
    }

    /// A size of at least one byte.
    pub fn size(&mut self, section: &Section, key: &str) -> Option<u64> {
        let form = match section.get(key)?.node.value {
            Value::Integer(n) if n > 0 && n % (1 << 20) == 0 => format!("write \"{}MiB\"", n >> 20),
            Value::Integer(n) => format!("write \"{n}MiB\" or \"{n}B\""),
            _ => unit::SIZE_FORM.into(),
        };
        let size = self.parsed(section, key, unit::size, "a size in quotes", &form)?;
        if size == 0 {
            self.find(section.place(key), format!("`{key}` is zero"), unit::SIZE_FORM);
            return None;
        }
        Some(size)
    }

    /// A list of texts, or one text.
    pub fn texts(&mut self, section: &Section, key: &str) -> Option<Vec<String>> {
        const FIX: &str = "write \"NA\" or [\"NA\", \"-\"]";
        let entry = section.get(key)?;
        let Value::List(nodes) = &entry.node.value else {
            return self.entry_text(entry, "a list of texts", FIX).map(|t| vec![t.value.clone()]);
        };
        let mut texts = Vec::new();
        for node in nodes {
            match &node.value {
                Value::Text(text) => texts.push(text.value.clone()),
                other => {
                    let what = format!("`{key}` is a list of texts, found {}", other.kind());
                    self.find(node.at.clone(), what, FIX);
                }
            }
        }
        Some(texts)
    }

    /// One of the words in `choices`.
    pub fn choice<T: Copy>(
        &mut self,
        section: &Section,
        key: &str,
        choices: &[(&str, Choice<T>)],
    ) -> Option<T> {
        let built = || choices.iter().filter(|c| matches!(c.1, Choice::Is(_))).map(|c| c.0);
        let list = built().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let fix = format!("write {}{list}", if built().count() > 1 { "one of " } else { "" });
        let text = self.entry_text(section.get(key)?, "a text", &fix)?;
        match choices.iter().find(|c| c.0 == text.value) {
            Some((_, Choice::Is(value) | Choice::Also(value))) => return Some(*value),
            Some((word, Choice::Later(what, instead))) => {
                let what = format!("`{key} = {word:?}`: {what}");
                self.find(section.place(key), what, *instead);
            }
            None => {
                let fix = closest(&text.value, choices.iter().map(|c| c.0))
                    .map_or(fix, |meant| format!("did you mean {meant:?}?"));
                let what = format!("`{key}` cannot be {}", quoted(&text.value));
                self.find(section.place(key), what, fix);
            }
        }
        None
    }
}
