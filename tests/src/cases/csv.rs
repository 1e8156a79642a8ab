//! The rows of a case: RFC 4180, NULL empty and unquoted.

/// Rows of a text; the header is the first.
pub fn rows(text: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let mut row = Vec::new();
        loop {
            let quoted = rest.next_if_eq(&'"').is_some();
            let mut field = String::new();
            if quoted {
                while let Some(c) = rest.next() {
                    if c == '"' && rest.next_if_eq(&'"').is_none() {
                        break;
                    }
                    field.push(c);
                }
            } else {
                while let Some(c) = rest.next_if(|c| !matches!(c, ',' | '\n')) {
                    field.push(c);
                }
            }
            row.push((quoted || !field.is_empty()).then_some(field));
            if rest.next() != Some(',') {
                break;
            }
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_empty_fields_and_line_feeds_are_read_as_written() {
        let found = rows("a,\"b \"\"c\"\"\nd\",\n,\"\",x\n");
        let text = |text: &str| Some(text.to_string());
        let expected =
            vec![vec![text("a"), text("b \"c\"\nd"), None], vec![None, text(""), text("x")]];
        assert_eq!(found, expected);
    }
}
