//! Where a piece of the SQL stands in the job file.

use std::ops::Range;

use datafusion_common::Span as BoundSpan;
use datafusion_sql::sqlparser::tokenizer::{Location, Span};

use crate::job::spec::QuerySpec;

/// Lines and columns of the SQL text (both from 1 on, columns in characters) to bytes of the file.
#[derive(Debug)]
pub struct Places<'a> {
    query: &'a QuerySpec,
}

impl<'a> Places<'a> {
    pub fn new(query: &'a QuerySpec) -> Self {
        Places { query }
    }

    pub fn range(&self, span: Span) -> Range<usize> {
        if span.start.line == 0 {
            return self.whole();
        }
        let start = self.byte(span.start);
        // A span without length stands for the token that begins there.
        let end = self.byte(span.end).max(start + 1);
        start..end
    }

    pub fn bound(&self, span: BoundSpan) -> Range<usize> {
        let at = |l: datafusion_common::Location| Location { line: l.line, column: l.column };
        self.range(Span { start: at(span.start), end: at(span.end) })
    }

    /// The token that begins at a place that the parser names in its message.
    pub fn token(&self, line: u64, column: u64) -> Range<usize> {
        let text = self.query.sql.split('\n').nth(line as usize - 1).unwrap_or_default();
        let rest = text.chars().skip(column as usize - 1);
        let word = rest.take_while(|c| c.is_alphanumeric() || *c == '_').count().max(1);
        let (start, end) =
            (Location { line, column }, Location { line, column: column + word as u64 });
        self.range(Span { start, end })
    }

    /// The name of a function where the query calls it exactly once.
    pub fn call(&self, name: &str) -> Option<Range<usize>> {
        let lower = self.query.sql.to_lowercase();
        let called = |at: &usize| {
            let alone = !lower[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            alone && lower[at + name.len()..].trim_start().starts_with('(')
        };
        let mut calls = lower.match_indices(name).map(|(at, _)| at).filter(called);
        let (at, None) = (calls.next()?, calls.next()) else { return None };
        let line_start = lower[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = lower[..at].matches('\n').count() as u64 + 1;
        Some(self.token(line, lower[line_start..at].chars().count() as u64 + 1))
    }

    /// The first line of the SQL that is not blank.
    pub fn whole(&self) -> Range<usize> {
        let lines = self.query.sql.split('\n').enumerate();
        let (number, line) =
            lines.into_iter().find(|(_, line)| !line.trim().is_empty()).unwrap_or((0, ""));
        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let start = self.query.place(number + 1, column);
        start..start + line.trim().len().max(1)
    }

    fn byte(&self, at: Location) -> usize {
        self.query.place(at.line as usize, at.column as usize)
    }
}
