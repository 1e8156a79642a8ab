//! Cuts bytes into rows and fields: the first stage of the decoder.
//!
//! Three readings, each taking what the one before it could not: every row has the expected number of
//! fields (positions are used as they are, with a stride); rows differ (each row gets its place in the
//! positions); a quote, comment or limit needs a byte-by-byte reading ([`super::careful`]). What they
//! give does not depend on which of them ran, nor on where the bytes handed in ended.

use memchr::memchr_iter;

use pelton_engine::batch::{Reason, RowError};

use super::structure::{Index, Marks};
use super::tier::SimdTier;

/// Bytes looked at by one call: with the columns made from them they stay within 1 MiB of L2
/// (PERFORMANCE.md: 128 to 256 KiB is 1.2 to 1.4 times as fast as 64 Ki rows).
pub(super) const WINDOW: usize = 256 << 10;

/// The rules for rows and fields, resolved from a format.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    pub marks: Marks,
    /// A backslash in a quoted field takes away the meaning of the byte after it.
    pub backslash: bool,
    pub comment: Option<u8>,
    /// Blanks may stand around the quotes of a quoted field.
    pub trim: bool,
    /// A line without a byte is a row (text); otherwise it is none (CSV, as Spark's reader).
    pub blank_is_row: bool,
    /// Fields of a row.
    pub fields: usize,
    pub fewer_allowed: bool,
    pub more_allowed: bool,
    pub max_record_bytes: usize,
}

/// Rows found in a window.
#[derive(Default)]
pub(super) struct Rows {
    pub starts: Vec<u32>,
    pub ends: Vec<u32>,
    /// Where each row's fields begin among the positions; empty in the regular layout, where row r's
    /// begin at `r * fields`.
    pub first: Vec<u32>,
    /// Fields of each row; empty in the regular layout.
    pub found: Vec<u32>,
    pub errors: Vec<RowError>,
}

impl Rows {
    fn clear(&mut self) {
        self.starts.clear();
        self.ends.clear();
        self.first.clear();
        self.found.clear();
        self.errors.clear();
    }

    /// Takes or refuses a row whose fields are the positions from `first` on; the last of them is
    /// `terminator`, which becomes the row's end without its CR.
    pub(super) fn end_row(
        &mut self,
        fields: &mut [u32],
        first: usize,
        start: u32,
        bytes: &[u8],
        dialect: &Dialect,
    ) {
        let found = fields.len();
        let end = fields.last_mut().expect("a row has a field");
        *end = without_cr(bytes, start, *end);
        let end = *end;
        if start == end && !dialect.blank_is_row {
            return;
        }
        let fits = found == dialect.fields
            || (found < dialect.fields && dialect.fewer_allowed)
            || (found > dialect.fields && dialect.more_allowed);
        if !fits {
            let reason = Reason::FieldCount { expected: dialect.fields, found };
            self.errors.push(RowError { start, end, reason });
            return;
        }
        self.starts.push(start);
        self.ends.push(end);
        self.first.push(first as u32);
        self.found.push(found as u32);
    }
}

/// The end of a line whose terminator stands at `end`, CR left out.
pub(super) fn without_cr(bytes: &[u8], start: u32, end: u32) -> u32 {
    if end > start && bytes[end as usize - 1] == b'\r' { end - 1 } else { end }
}

/// What [`Framer::frame`] has done with the bytes; the rows themselves are in [`Framer::rows`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Frame {
    /// Bytes that need not be handed in again.
    pub consumed: usize,
    /// Nothing more can be decoded without further bytes.
    pub need_more: bool,
    /// Newlines among the bytes consumed.
    pub newlines: u64,
    /// All bytes looked at are below 0x80.
    pub ascii: bool,
}

pub(super) struct Framer {
    pub dialect: Dialect,
    tier: SimdTier,
    pub index: Index,
    pub rows: Rows,
    /// Bytes to look at next; shrinks where `max_rows` are fewer bytes than [`WINDOW`].
    window: usize,
    /// The bytes handed in next are the rest of a line that was given up.
    pub(super) skip_line: bool,
}

impl Framer {
    pub fn new(dialect: Dialect, tier: SimdTier) -> Self {
        let rows = Rows::default();
        Framer { dialect, tier, index: Index::default(), rows, window: WINDOW, skip_line: false }
    }

    /// Forgets that a line was being passed over: the next bytes are the start of another input.
    pub fn reset(&mut self) {
        self.skip_line = false;
        self.window = WINDOW;
    }

    pub fn bytes_held(&self) -> usize {
        let Rows { starts, ends, first, found, .. } = &self.rows;
        let words: usize = [starts, ends, first, found].into_iter().map(Vec::capacity).sum();
        self.index.bytes_held() + words * size_of::<u32>()
    }

    /// Number of positions per row, where it is the same for all.
    pub fn stride(&self) -> Option<usize> {
        self.rows.first.is_empty().then_some(self.dialect.fields)
    }

    pub fn frame(&mut self, bytes: &[u8], at_end: bool, max_rows: usize) -> Frame {
        assert!(max_rows > 0, "a batch holds a row");
        // One byte more than the longest row tells whether that row ends there.
        let widest = WINDOW.max(self.dialect.max_record_bytes + 1);
        let mut window = self.window.min(bytes.len());
        loop {
            let whole = window == bytes.len();
            let view = &bytes[..window];
            self.rows.clear();
            let quick =
                if self.skip_line { None } else { self.quick(view, at_end && whole, max_rows) };
            let consumed = match quick {
                Some(consumed) => consumed,
                None => self.careful(view, at_end && whole, max_rows),
            };
            let rows = self.rows.starts.len();
            if consumed > 0 || whole {
                self.window = if rows == max_rows {
                    (consumed + consumed / 16).clamp(4096, WINDOW)
                } else {
                    WINDOW
                };
                let left = bytes.len() - consumed;
                let limit = self.dialect.max_record_bytes;
                let unfinished = whole && !at_end && rows < max_rows && left <= limit;
                let need_more = left == 0 || unfinished;
                let newlines = self.newlines(&bytes[..consumed]);
                return Frame { consumed, need_more, newlines, ascii: self.index.ascii };
            }
            assert!(window < widest, "a record of {window} bytes was neither read nor refused");
            window = (window * 2).min(widest).min(bytes.len());
        }
    }

    /// Newlines among the bytes consumed.
    fn newlines(&self, consumed: &[u8]) -> u64 {
        let rows = self.rows.starts.len();
        let all_alike = rows > 0 && self.stride().is_some() && !self.index.quotes;
        if all_alike {
            // One a row; the last row of the input may have none.
            return rows as u64 - u64::from(consumed.last() != Some(&b'\n'));
        }
        memchr_iter(b'\n', consumed).count() as u64
    }

    /// Reads whole rows by the vector index; `None` if the window needs the careful reading.
    fn quick(&mut self, bytes: &[u8], at_end: bool, max_rows: usize) -> Option<usize> {
        self.index.read(bytes, self.dialect.marks, self.tier);
        if self.index.irregular || (self.dialect.backslash && self.index.quotes) {
            return None;
        }
        if at_end && !self.index.open && bytes.last().is_some_and(|&b| b != b'\n') {
            // The last row has no terminator: the end of the input is one.
            self.index.push(bytes.len() as u32);
            self.index.newlines += 1;
        }
        if self.index.newlines == 0 {
            return None;
        }
        let lines = self.index.newlines.min(max_rows);
        match self.regular(bytes, lines) {
            Shape::Regular(consumed) => Some(consumed),
            Shape::Ragged => self.ragged(bytes, max_rows),
            Shape::Careful => {
                self.rows.clear();
                None
            }
        }
    }

    /// Takes the first `lines` lines as rows if each of the window's lines has the expected number of
    /// fields: every `fields`-th position is a newline, and there are no more newlines than these.
    fn regular(&mut self, bytes: &[u8], lines: usize) -> Shape {
        let fields = self.dialect.fields;
        let newlines = self.index.newlines;
        // Only in a single column does a blank line have the right number of fields.
        let blank_lines = fields == 1 && !self.dialect.blank_is_row;
        if blank_lines || fields * newlines > self.index.len() {
            return Shape::Ragged;
        }
        let positions = &mut self.index.positions_mut()[..fields * newlines];
        let (taken, left) = positions.split_at_mut(fields * lines);
        let mut even = left.chunks_exact(fields).all(|row| is_terminator(bytes, row[fields - 1]));
        self.rows.starts.resize(lines, 0);
        self.rows.ends.resize(lines, 0);
        let rows = self.rows.starts.iter_mut().zip(&mut self.rows.ends);
        let mut start = 0;
        let mut longest = 0;
        let mut any_cr = false;
        for (row, (row_start, row_end)) in taken.chunks_exact(fields).zip(rows) {
            let terminator = row[fields - 1];
            even &= is_terminator(bytes, terminator);
            let end = without_cr(bytes, start, terminator);
            any_cr |= end != terminator;
            longest = longest.max(terminator - start);
            *row_start = start;
            *row_end = end;
            start = terminator + 1;
        }
        if !even {
            self.rows.clear();
            return Shape::Ragged;
        }
        if any_cr {
            for (row, end) in taken.chunks_exact_mut(fields).zip(&self.rows.ends) {
                row[fields - 1] = *end;
            }
        }
        if longest as usize > self.dialect.max_record_bytes || self.any_comment(bytes) {
            return Shape::Careful;
        }
        Shape::Regular((start as usize).min(bytes.len()))
    }

    fn any_comment(&self, bytes: &[u8]) -> bool {
        let Some(comment) = self.dialect.comment else { return false };
        self.rows.starts.iter().any(|&start| bytes.get(start as usize) == Some(&comment))
    }

    /// Walks the positions line by line: rows of other lengths, blank lines, errors.
    fn ragged(&mut self, bytes: &[u8], max_rows: usize) -> Option<usize> {
        let mut first = 0;
        let mut start = 0;
        let mut consumed = 0;
        for at in 0..self.index.len() {
            let terminator = self.index.positions()[at];
            if !is_terminator(bytes, terminator) {
                continue;
            }
            let comment = self.dialect.comment;
            if (terminator - start) as usize > self.dialect.max_record_bytes
                || (comment.is_some() && bytes.get(start as usize).copied() == comment)
            {
                self.rows.clear();
                return None;
            }
            let fields = &mut self.index.positions_mut()[first..=at];
            self.rows.end_row(fields, first, start, bytes, &self.dialect);
            start = terminator + 1;
            first = at + 1;
            consumed = (start as usize).min(bytes.len());
            if self.rows.starts.len() == max_rows {
                break;
            }
        }
        Some(consumed)
    }
}

enum Shape {
    /// All rows alike; bytes consumed.
    Regular(usize),
    Ragged,
    Careful,
}

/// The position is a newline, or the end of the input.
fn is_terminator(bytes: &[u8], position: u32) -> bool {
    bytes.get(position as usize).is_none_or(|&b| b == b'\n')
}
