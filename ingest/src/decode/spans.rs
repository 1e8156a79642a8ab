//! Where the fields of one column stand, row by row: what lies between the two stages.

use super::frame::Rows;

/// Rows of a window and where their fields end.
#[derive(Clone, Copy)]
pub(super) struct Framed<'a> {
    pub bytes: &'a [u8],
    pub positions: &'a [u32],
    pub rows: &'a Rows,
    /// Positions per row, where it is the same for all.
    pub stride: Option<usize>,
    pub quotes: bool,
    /// All text between separators is UTF-8.
    pub utf8: bool,
}

impl Framed<'_> {
    /// Where a field stands; a missing one ends before it starts.
    pub fn field(&self, row: usize, field: usize) -> (u32, u32) {
        let (first, found) = match self.stride {
            Some(stride) => (row * stride, stride),
            None => (self.rows.first[row] as usize, self.rows.found[row] as usize),
        };
        if field >= found {
            return MISSING;
        }
        let start = match field {
            0 => self.rows.starts[row],
            _ => self.positions[first + field - 1] + 1,
        };
        (start, self.positions[first + field])
    }
}

/// As the interner has it: ends before it starts.
pub(super) const MISSING: (u32, u32) = (1, 0);

/// The span without its quotes, if it has any.
pub(super) fn stripped(bytes: &[u8], (start, end): (u32, u32), quote: Option<u8>) -> (u32, u32) {
    let quoted = end.saturating_sub(start) >= 2 && Some(bytes[start as usize]) == quote;
    if quoted { (start + 1, end - 1) } else { (start, end) }
}

/// Start and end of a field, row by row.
#[derive(Default)]
pub(super) struct Spans {
    pub starts: Vec<u32>,
    pub ends: Vec<u32>,
}

impl Spans {
    pub fn bytes_held(&self) -> usize {
        (self.starts.capacity() + self.ends.capacity()) * size_of::<u32>()
    }

    pub fn take(&mut self, framed: &Framed<'_>, field: usize) {
        self.starts.clear();
        self.ends.clear();
        let rows = framed.rows.starts.len();
        let Some(stride) = framed.stride.filter(|&stride| field < stride) else {
            for row in 0..rows {
                let (start, end) = framed.field(row, field);
                self.starts.push(start);
                self.ends.push(end);
            }
            return;
        };
        let ends = framed.positions[..rows * stride].chunks_exact(stride);
        match field {
            0 => self.starts.extend_from_slice(&framed.rows.starts),
            _ => self.starts.extend(ends.clone().map(|ends| ends[field - 1] + 1)),
        }
        self.ends.extend(ends.map(|ends| ends[field]));
    }

    /// Takes the quotes off quoted fields, escapes left as they are.
    fn strip_quotes(&mut self, bytes: &[u8], quote: u8) {
        for (start, end) in self.starts.iter_mut().zip(&mut self.ends) {
            (*start, *end) = stripped(bytes, (*start, *end), Some(quote));
        }
    }

    /// The spans of a field, without quotes; copied only where they are not evenly spaced already.
    ///
    /// One shape for all layouts, so that the loop over them is compiled once and whole.
    #[inline(always)]
    pub fn quick<'a>(
        &'a mut self,
        framed: &'a Framed<'_>,
        field: usize,
        quote: Option<u8>,
    ) -> impl Iterator<Item = (u32, u32)> + 'a {
        let (starts, start_step, gap, ends, end_step) = match framed.stride {
            Some(stride) if !framed.quotes || quote.is_none() => {
                let ends = framed.positions.get(field..).unwrap_or_default();
                match field {
                    0 => (&framed.rows.starts[..], 1, 0, ends, stride),
                    _ => {
                        let before = framed.positions.get(field - 1..).unwrap_or_default();
                        (before, stride, 1, ends, stride)
                    }
                }
            }
            _ => {
                self.take(framed, field);
                if let Some(quote) = quote {
                    self.strip_quotes(framed.bytes, quote);
                }
                (&self.starts[..], 1, 0, &self.ends[..], 1)
            }
        };
        let starts = starts.iter().step_by(start_step).map(move |start| start + gap);
        starts.zip(ends.iter().step_by(end_step).copied()).take(framed.rows.starts.len())
    }
}
