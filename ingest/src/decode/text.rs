//! Columns of strings and binary values: as values, or as ids of an interner.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};

use pelton_engine::batch::{Reason, ValueError};
use pelton_kernels::interner::Interner;

use super::column::{FieldReader, Scratch};
use super::field::Text;
use super::spans::{Framed, MISSING, Spans};

/// A text that a column of strings can hold.
fn is_sound(framed: &Framed<'_>, utf8: bool, text: &[u8]) -> bool {
    !utf8 || framed.utf8 || std::str::from_utf8(text).is_ok()
}

impl FieldReader {
    /// Strings and binary values: the text of each field, one after the other.
    pub(super) fn text(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
    ) -> ArrayRef {
        let bytes = framed.bytes;
        scratch.begin();
        scratch.spans.take(framed, self.field);
        let mut data = self.values.take();
        let mut offsets = self.offsets.take();
        offsets.push(0i32);
        for row in 0..scratch.spans.starts.len() {
            match self.locate(framed, scratch, row) {
                Text::Null => scratch.null_rows.push(row as u32),
                Text::At(start, end) => {
                    let text = &bytes[start as usize..end as usize];
                    if is_sound(framed, utf8, text) {
                        data.extend_from_slice(text);
                    } else {
                        self.refuse_utf8(framed, scratch, errors, row);
                    }
                }
                Text::Escaped(start, end) => {
                    let inner = &bytes[start as usize..end as usize];
                    let text = self.rules.unescape(inner, &mut scratch.room);
                    if is_sound(framed, utf8, text) {
                        data.extend_from_slice(text);
                    } else {
                        self.refuse_utf8(framed, scratch, errors, row);
                    }
                }
            }
            // Windows are below 2^31 bytes, and no text is longer than its field.
            offsets.push(data.len() as i32);
        }
        let rows = scratch.spans.starts.len();
        let nulls = self.validity.nulls(rows, &scratch.null_rows);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets.lend(offsets)));
        let data = self.values.lend(data);
        match utf8 {
            true => Arc::new(StringArray::new(offsets, data, nulls)),
            false => Arc::new(BinaryArray::new(offsets, data, nulls)),
        }
    }

    pub(super) fn ids(
        &mut self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
        interner: &mut Interner,
    ) -> ArrayRef {
        let bytes = framed.bytes;
        scratch.begin();
        scratch.spans.take(framed, self.field);
        let spans = scratch.spans.starts.len();
        if self.plain(framed) && (framed.utf8 || !utf8) {
            let empty_is_null = self.rules.empty_is_null;
            let Spans { starts, ends } = &mut scratch.spans;
            for (start, end) in starts.iter_mut().zip(ends) {
                let null = start == end && empty_is_null;
                (*start, *end) = if null { MISSING } else { (*start, *end) };
            }
        } else {
            (0..spans).for_each(|row| self.locate_id(framed, scratch, errors, utf8, row));
        }
        scratch.ids.clear();
        interner.intern_spans(bytes, &scratch.spans.starts, &scratch.spans.ends, &mut scratch.ids);
        for i in 0..scratch.rest.len() {
            let row = scratch.rest[i] as usize;
            let (start, end) = framed.field(row, self.field);
            let text = self.rules.text(bytes, start, end, &mut scratch.room);
            let text = text.expect("escaped text is no NULL");
            if is_sound(framed, utf8, text) {
                scratch.ids[row] = interner.intern(text);
            } else {
                self.refuse_utf8(framed, scratch, errors, row);
            }
        }
        let mut buffer = self.values.take();
        buffer.extend_from_slice(&scratch.ids);
        let ids = ScalarBuffer::from(self.values.lend(buffer));
        Arc::new(UInt32Array::new(ids, None))
    }

    /// Puts the span of the row's text into the place of its field's.
    fn locate_id(
        &self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        utf8: bool,
        row: usize,
    ) {
        let text = self.locate(framed, scratch, row);
        (scratch.spans.starts[row], scratch.spans.ends[row]) = match text {
            Text::Null => MISSING,
            Text::At(start, end) => {
                let text = &framed.bytes[start as usize..end as usize];
                if is_sound(framed, utf8, text) {
                    (start, end)
                } else {
                    self.refuse_utf8(framed, scratch, errors, row);
                    MISSING
                }
            }
            Text::Escaped(..) => {
                scratch.rest.push(row as u32);
                MISSING
            }
        };
    }

    /// Text needs no rule but that of the empty field.
    fn plain(&self, framed: &Framed<'_>) -> bool {
        !framed.quotes && !self.rules.trim && self.rules.nulls.is_empty()
    }

    /// The text of the row's field, whose span is in `scratch`.
    #[inline(always)]
    fn locate(&self, framed: &Framed<'_>, scratch: &Scratch, row: usize) -> Text {
        let (start, end) = (scratch.spans.starts[row], scratch.spans.ends[row]);
        if start > end || (start == end && self.rules.empty_is_null) {
            Text::Null
        } else if self.plain(framed) {
            Text::At(start, end)
        } else {
            self.rules.locate(framed.bytes, start, end)
        }
    }

    #[cold]
    fn refuse_utf8(
        &self,
        framed: &Framed<'_>,
        scratch: &mut Scratch,
        errors: &mut Vec<ValueError>,
        row: usize,
    ) {
        scratch.null_rows.push(row as u32);
        let field = framed.field(row, self.field);
        errors.push(self.error(row as u32, field, Reason::InvalidUtf8));
    }
}
