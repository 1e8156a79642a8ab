//! What becomes of a TOML string: escapes are resolved by the TOML crate, `${VAR}` here; the map that
//! leads back to the file survives both.

use std::ops::Range;

use super::finding::{Finding, quoted};
use super::map::TextMap;
use super::tree::{Env, Text};

/// The map of a TOML string: `token` is the string with its quotes, at `at` in the text, `value` what
/// the TOML crate made of it.
///
/// Where the two do not fit (they always do in a text that the crate accepts) every byte of the value
/// maps to the token as a whole.
pub fn string_map(token: &str, at: Range<usize>, value: &str) -> TextMap {
    scan(token, at.start, value).unwrap_or_else(|| {
        let mut map = TextMap::starting_at(at.start);
        map.push_whole(value.len(), at);
        map
    })
}

fn scan(token: &str, start: usize, value: &str) -> Option<TextMap> {
    let (quotes, escapes) = match token.as_bytes() {
        [b'"', b'"', b'"', _, ..] if token.len() >= 6 => (3, true),
        [b'\'', b'\'', b'\'', _, ..] if token.len() >= 6 => (3, false),
        [b'"', .., b'"'] => (1, true),
        [b'\'', .., b'\''] => (1, false),
        _ => return None,
    };
    let mut rest = &token[quotes..token.len() - quotes];
    if quotes == 3 {
        rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')).unwrap_or(rest);
    }
    let mut position = start + token.len() - quotes - rest.len();
    let mut map = TextMap::starting_at(position);
    let mut taken = 0;
    while !rest.is_empty() {
        let plain = if escapes { rest.find('\\').unwrap_or(rest.len()) } else { rest.len() };
        if value.get(taken..taken + plain)? != &rest[..plain] {
            return None;
        }
        map.push(plain, position);
        (taken, position, rest) = (taken + plain, position + plain, &rest[plain..]);
        if rest.is_empty() {
            break;
        }
        let width = escape_width(rest)?;
        if rest[1..].starts_with([' ', '\t', '\r', '\n']) {
            // A backslash at the end of a line: it and the blanks up to the next text are nothing.
        } else {
            let made = value[taken..].chars().next()?.len_utf8();
            map.push_whole(made, position..position + width);
            taken += made;
        }
        (position, rest) = (position + width, &rest[width..]);
    }
    (taken == value.len()).then_some(map)
}

/// Bytes of the escape at the front of `text`.
fn escape_width(text: &str) -> Option<usize> {
    let width = match text[1..].chars().next()? {
        'x' => 4,
        'u' => 6,
        'U' => 10,
        ' ' | '\t' | '\r' | '\n' => {
            1 + text[1..].len() - text[1..].trim_start_matches([' ', '\t', '\r', '\n']).len()
        }
        c => 1 + c.len_utf8(),
    };
    text.is_char_boundary(width).then_some(width)
}

/// Replaces `${VAR}` and `${VAR:-default}`; `$${` stands for `${`. An empty variable counts as unset
/// where there is a default, as in a shell. What a variable holds is not looked at again.
pub fn substitute(value: &str, map: &TextMap, env: Env, findings: &mut Vec<Finding>) -> Text {
    let mut out = String::new();
    let mut outer = TextMap::starting_at(0);
    let mut from_env = Vec::new();
    let mut at = 0;
    while let Some(found) = value[at..].find("${").map(|i| at + i) {
        if found > at && value.as_bytes()[found - 1] == b'$' {
            outer.push(found - 1 - at, at);
            outer.push_whole(2, found - 1..found + 2);
            out.push_str(&value[at..found - 1]);
            out.push_str("${");
            at = found + 2;
            continue;
        }
        outer.push(found - at, at);
        out.push_str(&value[at..found]);
        let end = value[found..].find('}').map_or(value.len(), |i| found + i + 1);
        match variable(&value[found..end], env) {
            Ok(text) => {
                outer.push_whole(text.len(), found..end);
                from_env.push(out.len()..out.len() + text.len());
                out.push_str(&text);
            }
            Err((what, fix)) => findings.push(Finding::new(map.source(found..end), what, fix)),
        }
        at = end;
    }
    if at == 0 {
        return Text { value: value.to_owned(), map: map.clone(), from_env };
    }
    outer.push(value.len() - at, at);
    out.push_str(&value[at..]);
    Text { value: out, map: map.through(&outer), from_env }
}

/// The text that stands for `${…}`, or what is wrong and how to mend it.
fn variable(written: &str, env: Env) -> Result<String, (String, String)> {
    const FORM: &str = "write ${NAME} or ${NAME:-default}; for the characters themselves write $${";
    let Some(inner) = written.strip_prefix("${").and_then(|w| w.strip_suffix('}')) else {
        return Err((format!("{} is not closed", quoted(written)), FORM.into()));
    };
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err((format!("{} names no environment variable", quoted(written)), FORM.into()));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => Err((
            format!("the environment variable {name} is not set"),
            format!("set it, or give a default: ${{{name}:-…}}"),
        )),
    }
}

#[cfg(test)]
#[path = "strings_tests.rs"]
mod tests;
