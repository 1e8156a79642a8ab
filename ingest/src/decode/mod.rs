//! Bytes to columns: CSV and lines of text, decoded straight into Arrow arrays.
//!
//! Two stages. [`structure`] finds the separators of a window that fits L2, [`frame`] makes rows of
//! them; then [`column`] decodes one wanted column after the other. No I/O, no thread, no allocation
//! per row once the buffers have grown.
//!
//! Invariant: the rows, values and errors are a function of the input's bytes alone. Where the bytes
//! handed in ended, which tier ran and which reading took a window show in no answer.
//!
//! Not here: what becomes of a bad row (the pipeline's policy), decompression, and vector code for
//! other values than numbers.
//!
//! The dialect is SEMANTICS 10. What it leaves open is decided so:
//! - A field is quoted if it begins with a quote (with `trim`, after blanks). A quote further on in
//!   unquoted text is text. After the closing quote only a separator may come (with `trim`, after
//!   blanks).
//! - A line without a byte is no row, whatever the number of columns, as in Spark's reader; a line of
//!   blanks is one (Spark drops it, we lose no data). In `text` an empty line is a row.
//! - Fields are counted before anything else: a row with the wrong number is refused as a whole.
//! - CR belongs to the terminator directly before LF and directly before the end of the input.
//! - A broken record costs its first line (see [`careful`]).
//! - In a backslash dialect `\"` and `\\` are one character, before any other a backslash is itself.
//! - Comments begin at the first byte of a line and end at its newline, quotes or not.

mod buffer;
mod careful;
mod column;
mod digits;
#[cfg(target_arch = "x86_64")]
mod digits_avx2;
#[cfg(target_arch = "x86_64")]
mod digits_avx512;
mod field;
mod frame;
mod head;
mod included;
mod number;
mod pattern;
mod spans;
mod structure;
#[cfg(target_arch = "x86_64")]
mod structure_avx2;
#[cfg(target_arch = "x86_64")]
mod structure_avx512;
mod text;
mod tier;
mod time;

#[cfg(test)]
mod tests;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use pelton_engine::batch::{Encoding, InputBatch, InputColumn, Place, ValueError};
use pelton_engine::error::Error;
use pelton_engine::job::spec::{
    Column, CsvDialect, Escape, Format, Included, Ragged, SourceKind, SourceSpec,
};
use pelton_kernels::interner::Interner;

use column::{ColumnDecoder, Scratch};
use field::FieldRules;
use frame::{Dialect, Frame, Framer};
use spans::Framed;
use structure::Marks;

pub use head::{Head, HeadError, Mapping, file_head};
pub use included::Messages;
pub use tier::SimdTier;

/// Longest record that can be asked for: offsets into a window stay below 2^31.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// Hands out the interner of each input column with [`Encoding::Ids`].
pub trait Interners {
    fn interner(&mut self, input: usize) -> &mut Interner;
}

/// One interner for each input column.
impl Interners for Vec<Interner> {
    fn interner(&mut self, input: usize) -> &mut Interner {
        &mut self[input]
    }
}

/// Decodes one source on one core.
pub struct Decoder {
    framer: Framer,
    columns: Vec<Origin>,
    /// What columns tell that stand in no text.
    messages: Messages,
    encodings: Vec<Encoding>,
    needs_utf8: bool,
    scratch: Scratch,
    arrays: Vec<ArrayRef>,
    errors: Vec<ValueError>,
}

/// Where a column comes from.
enum Origin {
    Written(Box<ColumnDecoder>),
    Included(Included),
}

/// What one call of [`Decoder::decode`] gives.
pub struct Decoded<'a> {
    /// The rows, in order. The arrays' memory is used again by the next call, unless they are kept.
    pub batch: InputBatch<'a>,
    /// Bytes that are done with: rows, refused rows, comments, blank lines. The next call's bytes
    /// begin after them.
    pub consumed: usize,
    /// Newlines among the bytes consumed.
    pub newlines: u64,
    /// What is left is no whole row: call again with more bytes behind it. To read a long record in
    /// linear time, hand in at least twice as many each time. A record is given up at
    /// `max_record_bytes`, so more than that and one byte is never needed. Without this, call again
    /// with what is left.
    pub need_more: bool,
}

impl Decoder {
    /// Prepares to decode the columns that a plan reads. `timezone` is the job's.
    ///
    /// Errors: [`Error::BadJob`], naming the column and what is wrong with it.
    pub fn new(
        source: &SourceSpec,
        timezone: &str,
        input: &[InputColumn],
        tier: SimdTier,
    ) -> Result<Decoder, Error> {
        if source.max_record_bytes == 0 || source.max_record_bytes > RECORD_BYTES_MAX {
            let rendered = "max_record_bytes: expected 1 byte to 1GiB".to_string();
            return Err(Error::BadJob { rendered });
        }
        if let Format::Csv(csv) = &source.format {
            check_marks(csv)?;
        }
        let columns = input.iter().enumerate().map(|(i, wanted)| {
            let column = &source.schema[wanted.source];
            if let Some(included) = included(source, wanted) {
                return Ok(Origin::Included(included));
            }
            let rules = field_rules(source, Some(column));
            let input = u16::try_from(i).map_err(|_| "too many columns are read".to_string());
            input
                .and_then(|input| ColumnDecoder::new(input, column, wanted, rules, timezone, tier))
                .map(|column| Origin::Written(Box::new(column)))
                .map_err(|why| Error::BadJob {
                    rendered: format!("column \"{}\": {why}", column.name),
                })
        });
        let is_utf8 =
            |wanted: &InputColumn| source.schema[wanted.source].data_type == DataType::Utf8;
        Ok(Decoder {
            messages: Messages::default(),
            framer: Framer::new(dialect(source, source.written()), tier),
            columns: columns.collect::<Result<_, _>>()?,
            encodings: input.iter().map(|wanted| wanted.encoding).collect(),
            needs_utf8: input.iter().any(is_utf8),
            scratch: Scratch::default(),
            arrays: Vec::new(),
            errors: Vec::new(),
        })
    }

    /// Bytes of buffers: positions, spans, and the columns' values.
    pub fn bytes_held(&self) -> usize {
        let written = self.columns.iter().filter_map(|column| match column {
            Origin::Written(column) => Some(column.bytes_held()),
            Origin::Included(_) => None,
        });
        let columns: usize = written.sum();
        self.framer.bytes_held() + self.scratch.bytes_held() + columns
    }

    /// Begins another input: a file, a range that starts at a row, a message. Fields are in the order
    /// that its head says, see [`file_head`].
    pub fn begin(&mut self, mapping: &Mapping) {
        assert_eq!(mapping.of_input.len(), self.columns.len(), "a mapping of another plan");
        self.framer.reset();
        self.framer.dialect.fields = mapping.fields;
        for (column, &field) in self.columns.iter_mut().zip(mapping.of_input.iter()) {
            if let Origin::Written(column) = column {
                column.set_field(field);
            }
        }
    }

    /// What the messages say whose rows are decoded next; `None` where no column asks for it.
    pub fn messages(&mut self) -> Option<&mut Messages> {
        let asks = self.columns.iter().any(|column| matches!(column, Origin::Included(_)));
        asks.then_some(&mut self.messages)
    }

    /// The next bytes are the rest of a line that was given up: no row before its newline.
    pub fn begin_inside_line(&mut self) {
        self.framer.skip_line = true;
    }

    /// What was consumed last ends inside a line that was given up: it is no row start that follows.
    pub fn is_inside_line(&self) -> bool {
        self.framer.skip_line
    }

    /// Decodes rows from the first of `bytes` on, as many as one batch holds: up to `max_rows`, within
    /// 256 KiB unless the first row alone is longer.
    ///
    /// `bytes` begins where the call before it stopped consuming; of those that follow a row's newline
    /// nothing is assumed. `at_end`: the input ends with them, so the last row needs no newline.
    /// `place` is that of `bytes[0]`. Offsets in the batch point into `bytes`.
    ///
    /// Cost: 45 ns for a row of 48 bytes of which five fields are wanted (AVX2, Zen 4: 1.1 GB/s). A byte
    /// of a record longer than the window is read about four times. Allocates per batch a handful of
    /// Arrow headers, per row nothing once warm.
    pub fn decode<'a>(
        &'a mut self,
        bytes: &'a [u8],
        at_end: bool,
        interners: &mut impl Interners,
        place: &'a Place,
        max_rows: usize,
    ) -> Decoded<'a> {
        // The arrays go first: only then can the columns have their memory back.
        self.arrays.clear();
        self.errors.clear();
        let frame = self.framer.frame(bytes, at_end, max_rows);
        let taken = &bytes[..frame.consumed];
        let framed = Framed {
            bytes,
            positions: self.framer.index.positions(),
            rows: &self.framer.rows,
            stride: self.framer.stride(),
            quotes: self.framer.index.quotes,
            utf8: frame.ascii || (self.needs_utf8 && self.framer.dialect.fields_are_utf8(taken)),
        };
        for (i, column) in self.columns.iter_mut().enumerate() {
            let interner = match self.encodings[i] {
                Encoding::Ids => Some(interners.interner(i)),
                Encoding::Values => None,
            };
            let array = match column {
                Origin::Written(column) => {
                    column.decode(&framed, &mut self.scratch, interner, &mut self.errors)
                }
                Origin::Included(included) => {
                    let rows = &self.framer.rows;
                    let of = (place.minor as u32, &rows.starts[..], &rows.ends[..]);
                    let column = (*included, i as u16);
                    self.messages.column(column, of, interner, &mut self.errors)
                }
            };
            self.arrays.push(array);
        }
        self.errors.sort_by_key(|error| (error.row, error.column));
        let rows = &self.framer.rows;
        let batch = InputBatch {
            columns: &self.arrays,
            rows: rows.starts.len(),
            bytes,
            row_starts: &rows.starts,
            row_ends: &rows.ends,
            value_errors: &self.errors,
            row_errors: &rows.errors,
            place,
        };
        let Frame { consumed, newlines, need_more, .. } = frame;
        Decoded { batch, consumed, newlines, need_more }
    }
}

impl Dialect {
    /// If the whole is UTF-8 and the marks are ASCII, what stands between them is UTF-8, too.
    fn fields_are_utf8(&self, bytes: &[u8]) -> bool {
        let marks = [Some(self.marks.delimiter), self.marks.quote];
        marks.iter().flatten().all(u8::is_ascii) && std::str::from_utf8(bytes).is_ok()
    }
}

/// What a column tells of its message, if it stands in no text.
fn included(source: &SourceSpec, wanted: &InputColumn) -> Option<Included> {
    let SourceKind::Kafka(kafka) = &source.kind else { return None };
    kafka.include.get(wanted.source.checked_sub(source.written())?).copied()
}

fn check_marks(csv: &CsvDialect) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::BadJob { rendered: what.to_string() });
    let is_line_end = |b: u8| b == b'\n' || b == b'\r';
    if is_line_end(csv.delimiter) || csv.quote.is_some_and(is_line_end) {
        return refuse("delimiter and quote: expected no line end");
    }
    if csv.quote == Some(csv.delimiter) {
        return refuse("delimiter and quote: expected two different bytes");
    }
    if csv.escape == Escape::Backslash && (csv.quote == Some(b'\\') || csv.delimiter == b'\\') {
        return refuse("delimiter and quote: expected no backslash beside escape = \"backslash\"");
    }
    Ok(())
}

fn dialect(source: &SourceSpec, fields: usize) -> Dialect {
    let max_record_bytes = source.max_record_bytes;
    match &source.format {
        Format::Csv(csv) => Dialect {
            marks: Marks { delimiter: csv.delimiter, quote: csv.quote },
            backslash: csv.escape == Escape::Backslash,
            comment: csv.comment,
            trim: csv.trim,
            blank_is_row: false,
            fields,
            fewer_allowed: csv.fewer == Ragged::Accept,
            more_allowed: csv.more == Ragged::Accept,
            max_record_bytes,
        },
        Format::Text => Dialect {
            // The newline is the only mark: a line is a row of one field.
            marks: Marks { delimiter: b'\n', quote: None },
            backslash: false,
            comment: None,
            trim: false,
            blank_is_row: true,
            fields: 1,
            fewer_allowed: false,
            more_allowed: false,
            max_record_bytes,
        },
    }
}

/// The rules of a column; without one, those of the format alone.
fn field_rules(source: &SourceSpec, column: Option<&Column>) -> FieldRules {
    let Format::Csv(csv) = &source.format else {
        return FieldRules {
            quote: None,
            backslash: false,
            trim_quoted: false,
            trim: false,
            nulls: Vec::new(),
            empty_is_null: false,
        };
    };
    let nulls = column.and_then(|c| c.null.as_ref()).unwrap_or(&csv.null);
    FieldRules {
        quote: csv.quote,
        backslash: csv.escape == Escape::Backslash,
        trim_quoted: csv.trim,
        trim: column.and_then(|c| c.trim).unwrap_or(csv.trim),
        nulls: nulls.iter().map(|text| text.as_bytes().to_vec()).collect(),
        empty_is_null: column.is_none_or(|c| c.empty_is_null),
    }
}
