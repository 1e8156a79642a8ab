//! The console's JSON lines, numbers kept as they were written: a decimal has more digits than a
//! double.

/// An object's members: name, and the value's text.
pub type Object = Vec<(String, String)>;

/// `{"batch": 3, "rows": [{…}, …]}`.
///
/// Panics at anything else: the line is the program's.
pub fn line(line: &str) -> (u64, Vec<Object>) {
    let members = object(line);
    let [(batch, number), (rows, list)] = &members[..] else { panic!("no epoch: {line}") };
    assert_eq!((batch.as_str(), rows.as_str()), ("batch", "rows"), "{line}");
    (number.parse().expect("a batch has a number"), parts(list).iter().map(|o| object(o)).collect())
}

fn object(text: &str) -> Object {
    let member = |part: &String| {
        let name = string_end(part);
        let value = part[name..].trim_start().strip_prefix(':').expect("a name has a value");
        (string(&part[..name]), value.trim().to_string())
    };
    parts(text).iter().map(member).collect()
}

/// A JSON string's text.
pub fn string(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Where the string at the front ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    panic!("no string: {text}")
}

/// What stands between the commas of an object or a list.
fn parts(text: &str) -> Vec<String> {
    let inner = text.trim();
    assert!(inner.starts_with(['{', '[']) && inner.ends_with(['}', ']']), "no JSON: {text}");
    let inner = &inner[1..inner.len() - 1];
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0, 0, 0);
    while at < inner.len() {
        match inner.as_bytes()[at] {
            b'"' => at += string_end(&inner[at..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(inner[start..at].trim().to_string());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if !inner[start..].trim().is_empty() {
        parts.push(inner[start..].trim().to_string());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_texts() {
        let text =
            r#"{"batch": 3, "rows": [{"a":1.50,"b":"x,\"}"}, {}, {"w":{"s":"1","e":[1,2]}}]}"#;
        let member = |name: &str, value: &str| (name.to_string(), value.to_string());
        let expected = vec![
            vec![member("a", "1.50"), member("b", r#""x,\"}""#)],
            vec![],
            vec![member("w", r#"{"s":"1","e":[1,2]}"#)],
        ];
        assert_eq!(line(text), (3, expected));
        assert_eq!(string(r#""x,\"}""#), "x,\"}");
    }
}
