//! A fault in a job, with its place and its fix; and how it is shown.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use super::text::{Head, JobText};

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Bytes of the job's text that are at fault; `None`: the file as a whole.
    pub at: Option<Range<usize>>,
    /// What was found and what was expected.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    pub fn new(at: Range<usize>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { at: Some(at), what: what.into(), fix: fix.into() }
    }
}

/// One block a finding: `file:line:column: what`, the line with a marker below it, the fix.
///
/// Lines and columns count from 1, columns in characters.
pub fn render(file: &Path, text: &str, findings: &[Finding]) -> String {
    JobText::new(file, text, &[]).render(findings)
}

/// Longest piece of a line that is shown; a place further right is shown with what stands around it.
const ECHO_CHARS_MAX: usize = 100;

pub(super) fn block(
    head: Head,
    text: &str,
    at: Option<Range<usize>>,
    what: &str,
    fix: &str,
) -> String {
    let mut out = String::new();
    let Some(at) = at else {
        if let Head::File(path) = head {
            _ = write!(out, "{}: ", path.display());
        }
        out.push_str(what);
        push_fix(&mut out, "  ", fix);
        return out;
    };
    let start = floor(text, at.start);
    let end = floor(text, at.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let column = text[line_start..start].chars().count();
    let width = text[start..end.min(line_end)].chars().count().max(1);
    let gutter = match head {
        Head::File(path) => {
            let number = text[..start].matches('\n').count() + 1;
            _ = write!(out, "{}:{number}:{}: {what}", path.display(), column + 1);
            number.to_string()
        }
        Head::CommandLine => {
            _ = write!(out, "command line: {what}");
            "--set".into()
        }
    };
    let (echo, column, width) = window(line, column, width);
    let pad = " ".repeat(gutter.len());
    _ = write!(out, "\n {gutter} | {echo}\n {pad} | {:column$}{}", "", "^".repeat(width));
    push_fix(&mut out, &format!(" {pad}"), fix);
    out
}

fn push_fix(out: &mut String, indent: &str, fix: &str) {
    if !fix.is_empty() {
        _ = write!(out, "\n{indent} = {fix}");
    }
}

/// The greatest character boundary that is not after `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// The part of a line around its marker, fit for a terminal: one cell a character, nothing that a
/// terminal would obey.
fn window(line: &str, column: usize, width: usize) -> (String, usize, usize) {
    let from = if column + width.min(20) <= ECHO_CHARS_MAX { 0 } else { column - 20 };
    let mut echo = String::new();
    if from > 0 {
        echo.push('…');
    }
    let mut chars = line.chars().skip(from);
    for c in chars.by_ref().take(ECHO_CHARS_MAX) {
        echo.push(if c == '\t' {
            ' '
        } else if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        });
    }
    if chars.next().is_some() {
        echo.push('…');
    }
    let column = column - from + usize::from(from > 0);
    (echo, column, width.min(ECHO_CHARS_MAX + 2 - column.min(ECHO_CHARS_MAX)))
}

/// A value as a message quotes it: short and printable.
pub fn quoted(value: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut text: String = value.chars().take(CHARS_MAX).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    format!("{text:?}")
}

/// Words of other systems for keys of ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("broker", "bootstrap_servers"),
    ("brokers", "bootstrap_servers"),
    ("checkpoint_location", "path"),
    ("columns", "schema"),
    ("dir", "path"),
    ("directory", "path"),
    ("escape_char", "escape"),
    ("fields", "schema"),
    ("file", "path"),
    ("file_name", "path"),
    ("filename", "path"),
    ("host", "address"),
    ("kind", "type"),
    ("location", "path"),
    ("null_value", "null"),
    ("null_values", "null"),
    ("nulls", "null"),
    ("output_mode", "mode"),
    ("port", "address"),
    ("query", "sql"),
    ("quote_char", "quote"),
    ("sep", "delimiter"),
    ("separator", "delimiter"),
    ("skip", "skip_lines"),
    ("skip_rows", "skip_lines"),
    ("url", "address"),
];

/// The candidate that `word` was probably meant to be: the same but for case and `-`, a synonym, or
/// a third of the letters away at most.
pub fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let plain = snake(word);
    if let Some(same) = candidates.clone().find(|c| snake(c) == plain) {
        return Some(same);
    }
    let synonym = SYNONYMS.iter().find(|s| s.0 == plain).map(|s| s.1);
    if let Some(same) = candidates.clone().find(|c| Some(*c) == synonym) {
        return Some(same);
    }
    candidates
        .map(|c| (strsim::damerau_levenshtein(&plain, &snake(c)), c))
        .filter(|(distance, c)| *distance <= (c.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .filter(|_| plain.chars().count() > 1)
        .map(|(_, c)| c)
}

/// `outputMode`, `output-mode` and `OUTPUT_MODE` as `output_mode`.
fn snake(word: &str) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for c in word.chars() {
        if c.is_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        out.extend(if c == '-' || c == ' ' { '_' } else { c }.to_lowercase());
    }
    out
}

#[cfg(test)]
#[path = "finding_tests.rs"]
mod tests;
