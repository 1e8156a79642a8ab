//! A fault in a job file, with its place and its fix.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use crate::error::Error;

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Bytes of the job file that are at fault; `None`: the file as a whole.
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
    let mut out = String::new();
    for finding in findings {
        if !out.is_empty() {
            out.push('\n');
        }
        match &finding.at {
            None => _ = write!(out, "{}: {}", file.display(), finding.what),
            Some(at) => {
                let at = at.start.min(text.len())..at.end.min(text.len());
                let line_start = text[..at.start].rfind('\n').map_or(0, |i| i + 1);
                let line_end = text[at.start..].find('\n').map_or(text.len(), |i| at.start + i);
                let number = text[..at.start].matches('\n').count() + 1;
                let column = text[line_start..at.start].chars().count() + 1;
                let width = text[at.start..at.end.min(line_end).max(at.start)].chars().count();
                let gutter = number.to_string().len();
                _ = write!(
                    out,
                    "{}:{number}:{column}: {}\n {number} | {}\n {:gutter$} | {:>column$}{}",
                    file.display(),
                    finding.what,
                    &text[line_start..line_end],
                    "",
                    "^",
                    "^".repeat(width.saturating_sub(1)),
                );
            }
        }
        if !finding.fix.is_empty() {
            _ = write!(out, "\n   = {}", finding.fix);
        }
    }
    out
}

/// The error that refuses a job for these findings.
pub fn refuse(file: &Path, text: &str, findings: &[Finding]) -> Error {
    Error::BadJob { rendered: render(file, text, findings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_points_at_its_line_and_column() {
        let text = "name = \"x\"\ntrigger = 5\n";
        let finding = Finding::new(21..22, "expected a duration, found 5", "write \"5s\"");
        assert_eq!(
            render(Path::new("job.toml"), text, &[finding]),
            "job.toml:2:11: expected a duration, found 5\n 2 | trigger = 5\n   |           ^\n   = write \"5s\""
        );
    }
}
