//! JSON texts as trees that keep where each value stood: what is asked for as a text comes out as it
//! was written.
//!
//! As lenient as Spark's reader: single quotes may stand for double ones, and control characters in
//! strings for themselves. Deeper than [`DEPTH_MAX`] is no JSON.

/// Jackson's limit.
const DEPTH_MAX: usize = 1_000;

#[derive(Debug)]
pub struct Node<'a> {
    pub value: Value<'a>,
    /// The value as it stands in the text.
    pub raw: &'a str,
}

#[derive(Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// Its digits.
    Number(&'a str),
    Text(String),
    Array(Vec<Node<'a>>),
    /// In the order of the text; a name may come again.
    Object(Vec<(String, Node<'a>)>),
}

/// The first value of a text, whatever comes behind it; `None`: there is none.
pub fn first(text: &str) -> Option<Node<'_>> {
    Reader { text, at: 0, depth: 0 }.node()
}

/// The value of a text that holds nothing else.
pub fn whole(text: &str) -> Option<Node<'_>> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let node = reader.node()?;
    reader.blanks();
    (reader.at == text.len()).then_some(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn skip(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn node(&mut self) -> Option<Node<'a>> {
        self.blanks();
        let start = self.at;
        let value = match self.peek()? {
            b'{' => self.nested(Self::object)?,
            b'[' => self.nested(Self::array)?,
            quote @ (b'"' | b'\'') => Value::Text(self.string(quote)?),
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => self.number()?,
        };
        Some(Node { value, raw: &self.text[start..self.at] })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Option<Value<'a>>) -> Option<Value<'a>> {
        self.depth += 1;
        self.at += 1;
        let value = if self.depth <= DEPTH_MAX { read(self) } else { None };
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Option<Value<'a>> {
        let mut fields = Vec::new();
        if self.skip(b'}') {
            return Some(Value::Object(fields));
        }
        loop {
            self.blanks();
            let quote = self.peek().filter(|byte| matches!(byte, b'"' | b'\''))?;
            let name = self.string(quote)?;
            if !self.skip(b':') {
                return None;
            }
            fields.push((name, self.node()?));
            if self.skip(b'}') {
                return Some(Value::Object(fields));
            }
            if !self.skip(b',') {
                return None;
            }
        }
    }

    fn array(&mut self) -> Option<Value<'a>> {
        let mut items = Vec::new();
        if self.skip(b']') {
            return Some(Value::Array(items));
        }
        loop {
            items.push(self.node()?);
            if self.skip(b']') {
                return Some(Value::Array(items));
            }
            if !self.skip(b',') {
                return None;
            }
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Option<Value<'a>> {
        let rest = self.text[self.at..].strip_prefix(word)?;
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        self.at += word.len();
        Some(value)
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let before = reader.at;
            while reader.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                reader.at += 1;
            }
            (reader.at > before).then_some(before)
        };
        self.at += usize::from(self.peek() == Some(b'-'));
        let first = digits(self)?;
        if self.text.as_bytes()[first] == b'0' && self.at > first + 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            digits(self)?;
        }
        let ends = self.peek().is_none_or(|byte| b" \t\r\n,]}:".contains(&byte));
        ends.then(|| Value::Number(&self.text[start..self.at]))
    }

    fn string(&mut self, quote: u8) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let end = rest.find([char::from(quote), '\\'])?;
            out.push_str(&rest[..end]);
            self.at += end + 1;
            if rest.as_bytes()[end] == quote {
                return Some(out);
            }
            out.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' | b'\'' => char::from(byte),
            b'u' => {
                let high = self.unit()?;
                if !(0xD800..0xDC00).contains(&high) {
                    // Half a pair is no character.
                    return Some(char::from_u32(high).unwrap_or('\u{FFFD}'));
                }
                let pair = self.text[self.at..].starts_with("\\u");
                if !pair {
                    return Some('\u{FFFD}');
                }
                self.at += 2;
                let low = self.unit()?;
                let code = 0x10000 + ((high - 0xD800) << 10) + low.wrapping_sub(0xDC00);
                char::from_u32(code).unwrap_or('\u{FFFD}')
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_is_and_is_not() {
        let is = |text: &str| assert!(whole(text).is_some(), "{text}");
        let is_not = |text: &str| assert!(whole(text).is_none(), "{text}");
        for text in ["{}", "[]", " [1, -2.5e3, true, null] ", "{'a': \"b\"}", "\"\\u00e9\"", "0"] {
            is(text);
        }
        for text in ["", "{", "[1,]", "01", "+1", "1.", "nul", "{a:1}", "{\"a\" 1}", "[1] 2", "tru"]
        {
            is_not(text);
        }
        assert!(whole(&"[".repeat(2_000)).is_none());
        let Some(Node { value: Value::Text(text), .. }) = whole(r#""\ud83d\ude00\n""#) else {
            panic!("a text")
        };
        assert_eq!(text, "\u{1F600}\n");
    }
}
