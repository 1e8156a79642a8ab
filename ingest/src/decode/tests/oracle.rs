//! The dialect, one byte at a time over the whole input: slow, and plain enough to be believed.

use pelton_engine::batch::Reason;
use pelton_engine::job::spec::{CsvDialect, Escape, Ragged};

#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Row { start: usize, end: usize, fields: Vec<Field> },
    Refused { start: usize, end: usize, reason: Reason },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    pub quoted: bool,
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a backslash inside quotes.
    Escaped,
    /// Directly after what may be the closing quote.
    Closed,
    /// After blanks behind the closing quote.
    ClosedBlank,
    /// After a CR behind the closing quote.
    ClosedCr,
}

pub fn read(bytes: &[u8], csv: &CsvDialect, fields: usize, limit: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if csv.comment == Some(bytes[at]) {
            at = after_newline(bytes, at);
            continue;
        }
        match record(bytes, at, csv, limit) {
            Ok((terminator, row)) => {
                let end = terminator - usize::from(ends_with_cr(&bytes[at..terminator]));
                lines.extend(judge(at, end, row, csv, fields));
                at = terminator + 1;
            }
            Err(reason) => {
                let line_end = after_newline(bytes, at);
                let has_newline = bytes[at..line_end].ends_with(b"\n");
                let text_end = line_end - usize::from(has_newline);
                // A line longer than a record may be is cut off, and its rest passed over.
                let (end, reason) = match text_end - at > limit {
                    true => (at + limit, Reason::TooLong { limit }),
                    false => (text_end - usize::from(ends_with_cr(&bytes[at..text_end])), reason),
                };
                lines.push(Line::Refused { start: at, end, reason });
                at = line_end;
            }
        }
    }
    lines
}

fn after_newline(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n + 1)
}

fn ends_with_cr(text: &[u8]) -> bool {
    text.ends_with(b"\r")
}

fn judge(
    start: usize,
    end: usize,
    mut row: Vec<Field>,
    csv: &CsvDialect,
    fields: usize,
) -> Option<Line> {
    if start == end {
        return None;
    }
    let last = row.last_mut().expect("a row has a field");
    if !last.quoted && ends_with_cr(&last.text) {
        last.text.pop();
    }
    let found = row.len();
    if (found < fields && csv.fewer == Ragged::Reject)
        || (found > fields && csv.more == Ragged::Reject)
    {
        let reason = Reason::FieldCount { expected: fields, found };
        return Some(Line::Refused { start, end, reason });
    }
    Some(Line::Row { start, end, fields: row })
}

/// Where the record's terminator stands, and its fields.
fn record(
    bytes: &[u8],
    start: usize,
    csv: &CsvDialect,
    limit: usize,
) -> Result<(usize, Vec<Field>), Reason> {
    let blank = |b: u8| csv.trim && (b == b' ' || b == b'\t');
    let mut state = State::FieldStart;
    let mut field = Field::default();
    let mut row = Vec::new();
    let mut at = start;
    loop {
        if at - start > limit {
            return Err(Reason::TooLong { limit });
        }
        let Some(&byte) = bytes.get(at) else {
            return match state {
                State::Quoted | State::Escaped => Err(Reason::UnclosedQuote),
                _ => {
                    row.push(field);
                    Ok((at, row))
                }
            };
        };
        let separator = byte == b'\n' || byte == csv.delimiter;
        let is_quote = Some(byte) == csv.quote;
        match state {
            State::FieldStart if is_quote => {
                field = Field { quoted: true, text: Vec::new() };
                state = State::Quoted;
            }
            State::Quoted if csv.escape == Escape::Backslash && byte == b'\\' => {
                state = State::Escaped;
            }
            State::Quoted if is_quote => state = State::Closed,
            State::Quoted => field.text.push(byte),
            State::Escaped => {
                if !is_quote && byte != b'\\' {
                    field.text.push(b'\\');
                }
                field.text.push(byte);
                state = State::Quoted;
            }
            State::Closed if is_quote && csv.escape == Escape::Doubled => {
                field.text.push(byte);
                state = State::Quoted;
            }
            State::ClosedCr if byte != b'\n' => return Err(Reason::TextAfterQuote),
            _ if separator => {
                row.push(std::mem::take(&mut field));
                if byte == b'\n' {
                    return Ok((at, row));
                }
                state = State::FieldStart;
            }
            State::Closed | State::ClosedBlank => match byte {
                b'\r' => state = State::ClosedCr,
                _ if blank(byte) => state = State::ClosedBlank,
                _ => return Err(Reason::TextAfterQuote),
            },
            State::FieldStart | State::Unquoted | State::ClosedCr => {
                field.text.push(byte);
                if !(state == State::FieldStart && blank(byte)) {
                    state = State::Unquoted;
                }
            }
        }
        at += 1;
    }
}
