//! Reads rows byte by byte: quotes at odd places, backslash escapes, comments, records over the
//! limit, quotes that never close.
//!
//! A broken record costs its first line and no more: that line is reported, and reading goes on with
//! the next one. So a stray quote cannot swallow the good rows that follow it, and each byte is read
//! a bounded number of times. A line longer than a whole record may be is reported by its first
//! `max_record_bytes` bytes and passed over to its newline.
//!
//! Nothing is decided by where the bytes end: a record that is not over is left for the next call.

use memchr::{memchr, memchr2};

use pelton_engine::batch::{Reason, RowError};

use super::frame::{Framer, without_cr};

/// What the bytes from a record's start on turned out to be.
enum Record {
    /// Its terminator stands here; its fields are among the positions.
    Ends(usize),
    Broken(Reason),
    /// The bytes end before the record does.
    Unfinished,
}

/// How a record's bytes end, if its terminator is not among them.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    /// More bytes will come.
    Open,
    /// The input ends.
    Input,
    /// The record may not be longer.
    Limit,
}

impl Framer {
    /// Reads rows until `max_rows` or the last whole record; returns the bytes consumed.
    pub(super) fn careful(&mut self, bytes: &[u8], at_end: bool, max_rows: usize) -> usize {
        self.index.clear();
        self.index.ascii = bytes.is_ascii();
        self.index.quotes = self.dialect.marks.quote.is_some();
        let mut at = 0;
        while at < bytes.len() && self.rows.starts.len() < max_rows {
            let comment = self.dialect.comment.is_some_and(|c| bytes[at] == c);
            if self.skip_line || comment {
                let newline = memchr(b'\n', &bytes[at..]);
                self.skip_line = newline.is_none() && !at_end;
                at = newline.map_or(bytes.len(), |n| at + n + 1);
                continue;
            }
            match self.careful_row(bytes, at, at_end) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Reads the record at `start`; returns where the next one starts, `None` if it is not over.
    fn careful_row(&mut self, bytes: &[u8], start: usize, at_end: bool) -> Option<usize> {
        let first = self.index.len();
        let limit = self.dialect.max_record_bytes;
        let (end, edge) = match bytes.len() - start > limit {
            true => (start + limit + 1, Edge::Limit),
            false if at_end => (bytes.len(), Edge::Input),
            false => (bytes.len(), Edge::Open),
        };
        let record = &bytes[..end];
        let reason = match self.record(record, start, edge) {
            Record::Ends(terminator) => {
                let fields = &mut self.index.positions_mut()[first..];
                let kept = self.rows.starts.len();
                self.rows.end_row(fields, first, start as u32, bytes, &self.dialect);
                if self.rows.starts.len() == kept {
                    self.index.truncate(first);
                }
                return Some((terminator + 1).min(bytes.len()));
            }
            Record::Unfinished => {
                self.index.truncate(first);
                return None;
            }
            Record::Broken(reason) => reason,
        };
        self.index.truncate(first);
        let newline = memchr(b'\n', &record[start..]).map(|n| start + n);
        let (line_end, next, reason) = match (newline, edge) {
            (Some(newline), _) => (newline, newline + 1, reason),
            (None, Edge::Input) => (end, end, reason),
            (None, Edge::Open) => return None,
            (None, Edge::Limit) => {
                self.skip_line = true;
                (end - 1, end, Reason::TooLong { limit })
            }
        };
        // A line cut off by the limit keeps a CR that happens to stand there.
        let cut = newline.is_none() && edge == Edge::Limit;
        let (start, line_end) = (start as u32, line_end as u32);
        let line_end = if cut { line_end } else { without_cr(bytes, start, line_end) };
        self.rows.errors.push(RowError { start, end: line_end, reason });
        Some(next)
    }

    /// Reads fields from `at` on until the record's terminator.
    fn record(&mut self, bytes: &[u8], mut at: usize, edge: Edge) -> Record {
        loop {
            let end = match self.field(bytes, at, edge) {
                Ok(end) => end,
                Err(record) => return record,
            };
            self.index.push(end as u32);
            if bytes.get(end).is_none_or(|&b| b == b'\n') {
                return Record::Ends(end);
            }
            at = end + 1;
        }
    }

    /// Reads one field; returns where its separator stands (the input's end is one).
    fn field(&self, bytes: &[u8], at: usize, edge: Edge) -> Result<usize, Record> {
        let over = || match edge {
            Edge::Open => Err(Record::Unfinished),
            Edge::Input => Ok(bytes.len()),
            Edge::Limit => Err(self.too_long()),
        };
        let open = if self.dialect.trim { skip_blanks(bytes, at) } else { at };
        if let Some(quote) = self.dialect.marks.quote
            && bytes.get(open) == Some(&quote)
        {
            let close = self.closing_quote(bytes, open + 1, quote, edge)?;
            let mut after = close + 1;
            if self.dialect.trim {
                after = skip_blanks(bytes, after);
            }
            let rest = &bytes[after..];
            return match rest.first() {
                None => over(),
                Some(&b) if b == self.dialect.marks.delimiter || b == b'\n' => Ok(after),
                Some(b'\r') => match rest.get(1) {
                    None => over(),
                    Some(b'\n') => Ok(after + 1),
                    Some(_) => Err(Record::Broken(Reason::TextAfterQuote)),
                },
                Some(_) => Err(Record::Broken(Reason::TextAfterQuote)),
            };
        }
        match memchr2(self.dialect.marks.delimiter, b'\n', &bytes[at..]) {
            Some(n) => Ok(at + n),
            None => over(),
        }
    }

    /// Returns where the quote stands that closes a field whose text begins at `at`. As the last byte
    /// of unfinished ones it is taken to close: the caller finds no separator and waits for more.
    fn closing_quote(
        &self,
        bytes: &[u8],
        mut at: usize,
        quote: u8,
        edge: Edge,
    ) -> Result<usize, Record> {
        let escape = if self.dialect.backslash { b'\\' } else { quote };
        while let Some(n) = memchr2(quote, escape, bytes.get(at..).unwrap_or_default()) {
            at += n;
            if self.dialect.backslash {
                if bytes[at] == quote {
                    return Ok(at);
                }
                at += 2;
            } else if bytes.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return Ok(at);
            }
        }
        Err(match edge {
            Edge::Open => Record::Unfinished,
            Edge::Input => Record::Broken(Reason::UnclosedQuote),
            Edge::Limit => self.too_long(),
        })
    }

    fn too_long(&self) -> Record {
        Record::Broken(Reason::TooLong { limit: self.dialect.max_record_bytes })
    }
}

/// Blanks are spaces and tabs.
fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|&&b| b == b' ' || b == b'\t').count()
}
