//! From the bytes between two separators to the text of a value: blanks, quotes, escapes, NULL.

/// How a column's fields are read, whatever its type.
#[derive(Clone, Debug)]
pub(super) struct FieldRules {
    pub quote: Option<u8>,
    pub backslash: bool,
    /// Blanks may stand around quotes (the format's `trim`).
    pub trim_quoted: bool,
    /// Blanks around unquoted text are not part of it (the column's `trim`).
    pub trim: bool,
    /// Unquoted texts that mean NULL.
    pub nulls: Vec<Vec<u8>>,
    pub empty_is_null: bool,
}

/// A field's text, as a stretch of the bytes that hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Text {
    Null,
    At(u32, u32),
    /// [`FieldRules::unescape`] makes the text of this stretch.
    Escaped(u32, u32),
}

impl FieldRules {
    /// Finds the text of the field at `start..end`.
    pub fn locate(&self, bytes: &[u8], start: u32, end: u32) -> Text {
        if let Some((start, end)) = self.quoted(bytes, start, end) {
            let inner = &bytes[start as usize..end as usize];
            let escape = if self.backslash { Some(b'\\') } else { self.quote };
            return match escape.and_then(|escape| memchr::memchr(escape, inner)) {
                None => Text::At(start, end),
                Some(_) => Text::Escaped(start, end),
            };
        }
        let (start, end) = if self.trim { trim_blanks(bytes, start, end) } else { (start, end) };
        let text = &bytes[start as usize..end as usize];
        let null = (text.is_empty() && self.empty_is_null) || self.nulls.iter().any(|n| n == text);
        if null { Text::Null } else { Text::At(start, end) }
    }

    /// Returns the text of the field at `start..end`; `None` is NULL. `room` holds it where an escape
    /// must go.
    pub fn text<'a>(
        &self,
        bytes: &'a [u8],
        start: u32,
        end: u32,
        room: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        match self.locate(bytes, start, end) {
            Text::Null => None,
            Text::At(start, end) => Some(&bytes[start as usize..end as usize]),
            Text::Escaped(start, end) => {
                Some(self.unescape(&bytes[start as usize..end as usize], room))
            }
        }
    }

    /// Where the text between the quotes of a quoted field stands, escapes still in it.
    fn quoted(&self, bytes: &[u8], start: u32, end: u32) -> Option<(u32, u32)> {
        let quote = self.quote?;
        let (start, end) =
            if self.trim_quoted { trim_blanks(bytes, start, end) } else { (start, end) };
        // The framing has seen to it that a field which begins with a quote ends with one.
        let opens = end - start >= 2 && bytes[start as usize] == quote;
        opens.then(|| (start + 1, end - 1))
    }

    /// Takes out the escapes of a quoted field's inner text.
    pub fn unescape<'a>(&self, inner: &[u8], room: &'a mut Vec<u8>) -> &'a [u8] {
        let quote = self.quote.expect("only quoted text is escaped");
        let escape = if self.backslash { b'\\' } else { quote };
        room.clear();
        let mut bytes = inner.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let escaped = |next: &u8| *next == quote || (self.backslash && *next == escape);
            let next = if byte == escape { bytes.next_if(escaped) } else { None };
            room.push(next.unwrap_or(byte));
        }
        room
    }
}

/// Blanks are spaces and tabs.
fn trim_blanks(bytes: &[u8], mut start: u32, mut end: u32) -> (u32, u32) {
    let blank = |at: u32| matches!(bytes[at as usize], b' ' | b'\t');
    while start < end && blank(start) {
        start += 1;
    }
    while start < end && blank(end - 1) {
        end -= 1;
    }
    (start, end)
}
