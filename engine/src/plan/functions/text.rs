//! Text as a whole: case, blanks, lengths, patterns. Positions and lengths in
//! characters, NULL in gives NULL out unless said otherwise. Pieces of text are in `pieces`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use regex::Regex;

use super::native::{Context, Definition, Takes, define};

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn int(_: &[DataType]) -> DataType {
    DataType::Int32
}

fn boolean(_: &[DataType]) -> DataType {
    DataType::Boolean
}

fn texts(_: &[DataType]) -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Int, Text, TextOrArray};
    let plain = [
        define("upper", &[Text], 0, text, |_, a| Ok(each(a, |s| s.to_uppercase()))),
        define("lower", &[Text], 0, text, |_, a| Ok(each(a, |s| s.to_lowercase()))),
        define("initcap", &[Text], 0, text, |_, a| Ok(each(a, initcap))),
        define(
            "reverse",
            &[TextOrArray],
            0,
            |t| t[0].clone(),
            |_, a| match a[0].data_type() {
                DataType::List(_) => super::array::reverse(a),
                _ => Ok(each(a, |s| s.chars().rev().collect())),
            },
        ),
        define("trim", &[Text, Text], 1, text, |_, a| Ok(trim(a, true, true))),
        define("ltrim", &[Text, Text], 1, text, |_, a| Ok(trim(a, true, false))),
        define("rtrim", &[Text, Text], 1, text, |_, a| Ok(trim(a, false, true))),
        define("length", &[Text], 0, int, |_, a| Ok(count(a, |s| s.chars().count()))),
        define("ascii", &[Text], 0, int, |_, a| {
            Ok(count(a, |s| s.chars().next().map_or(0, |c| c as usize)))
        }),
        define("substring", &[Text, Int, Int], 1, text, |_, a| Ok(substring(a))),
        define("left", &[Text, Int], 0, text, |_, a| {
            Ok(with_int(a, |s, n| s.chars().take(n.max(0) as usize).collect()))
        }),
        define("right", &[Text, Int], 0, text, |_, a| {
            Ok(with_int(a, |s, n| {
                let length = s.chars().count();
                s.chars().skip(length.saturating_sub(n.max(0) as usize)).collect()
            }))
        }),
        define("repeat", &[Text, Int], 0, text, |_, a| {
            Ok(with_int(a, |s, n| s.repeat(n.max(0) as usize)))
        }),
        define("lpad", &[Text, Int, Text], 1, text, |_, a| Ok(pad(a, true))),
        define("rpad", &[Text, Int, Text], 1, text, |_, a| Ok(pad(a, false))),
        define("replace", &[Text, Text, Text], 1, text, |_, a| Ok(replace(a))),
        define("instr", &[Text, Text], 0, int, |_, a| Ok(instr(&a[0], &a[1]))),
        define("startswith", &[Text, Text], 0, boolean, |_, a| {
            Ok(test(a, |s, t| s.starts_with(t)))
        }),
        define("endswith", &[Text, Text], 0, boolean, |_, a| Ok(test(a, |s, t| s.ends_with(t)))),
        define("contains", &[Text, Text], 0, boolean, |_, a| Ok(test(a, |s, t| s.contains(t)))),
        define("translate", &[Text, Text, Text], 0, text, |_, a| Ok(translate(a))),
        define("rlike", &[Text, Text], 0, boolean, |_, a| rlike(a)),
        define("regexp_replace", &[Text, Text, Text, Int], 1, text, |_, a| regexp_replace(a)),
        define("regexp_extract", &[Text, Text, Int], 1, text, |_, a| regexp_extract(a)),
        define("split", &[Text, Text, Int], 1, texts, |_, a| split(a)),
    ];
    let variadic = [
        Definition {
            variadic: true,
            alike: true,
            ..define(
                "concat",
                &[TextOrArray],
                0,
                |t| t[0].clone(),
                |c, a| match a[0].data_type() {
                    DataType::List(_) => super::array::concat(a),
                    _ => concat(c, a),
                },
            )
        },
        Definition { variadic: true, ..define("concat_ws", &[TextOrArray], 0, text, concat_ws) },
    ];
    plain.into_iter().chain(variadic)
}

fn each(args: &[ArrayRef], f: impl Fn(&str) -> String) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    Arc::new(texts.iter().map(|s| s.map(&f)).collect::<StringArray>())
}

fn count(args: &[ArrayRef], f: impl Fn(&str) -> usize) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    Arc::new(texts.iter().map(|s| s.map(|s| f(s) as i32)).collect::<Int32Array>())
}

fn test(args: &[ArrayRef], f: impl Fn(&str, &str) -> bool) -> ArrayRef {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    Arc::new(pairs.map(|(s, t)| Some(f(s?, t?))).collect::<BooleanArray>())
}

fn with_int(args: &[ArrayRef], f: impl Fn(&str, i32) -> String) -> ArrayRef {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_primitive::<Int32Type>().iter());
    Arc::new(pairs.map(|(s, n)| Some(f(s?, n?))).collect::<StringArray>())
}

/// The text of a row in an argument that may be left out.
fn optional<'a>(
    args: &'a [ArrayRef],
    index: usize,
    row: usize,
    default: &'a str,
) -> Option<&'a str> {
    match args.get(index) {
        None => Some(default),
        Some(array) => {
            let texts = array.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row))
        }
    }
}

/// A word begins after a blank.
fn initcap(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut first = true;
    for c in s.chars() {
        if first {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        first = c == ' ';
    }
    out
}

/// Blanks only, or the characters of the first argument where there are two.
fn trim(args: &[ArrayRef], left: bool, right: bool) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    let rows = texts.iter().enumerate().map(|(row, s)| {
        let (s, set) = (s?, optional(args, 1, row, " ")?);
        let within = |c: char| set.contains(c);
        let s = if left { s.trim_start_matches(within) } else { s };
        Some(if right { s.trim_end_matches(within) } else { s })
    });
    Arc::new(rows.collect::<StringArray>())
}

/// Positions count from 1, 0 is 1, negative ones from the end.
fn substring(args: &[ArrayRef]) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    let starts = args[1].as_primitive::<Int32Type>();
    let lengths = args.get(2).map(|lengths| lengths.as_primitive::<Int32Type>());
    let rows = texts.iter().enumerate().map(|(row, s)| {
        let (s, start) = (s?, starts.is_valid(row).then(|| i64::from(starts.value(row)))?);
        let length = match lengths {
            None => i64::from(i32::MAX),
            Some(lengths) => lengths.is_valid(row).then(|| i64::from(lengths.value(row)))?,
        };
        let size = s.chars().count() as i64;
        let first = match start {
            0 => 0,
            start if start > 0 => start - 1,
            start => size + start,
        };
        let end = (first + length).clamp(0, size);
        let first = first.clamp(0, size);
        Some(s.chars().skip(first as usize).take((end - first).max(0) as usize).collect::<String>())
    });
    Arc::new(rows.collect::<StringArray>())
}

fn pad(args: &[ArrayRef], left: bool) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    let widths = args[1].as_primitive::<Int32Type>();
    let rows = texts.iter().enumerate().map(|(row, s)| {
        let (s, width) = (s?, widths.is_valid(row).then(|| widths.value(row).max(0) as usize)?);
        let fill = optional(args, 2, row, " ")?;
        let length = s.chars().count();
        if length >= width || fill.is_empty() {
            return Some(s.chars().take(width).collect::<String>());
        }
        let filling: String = fill.chars().cycle().take(width - length).collect();
        Some(if left { filling + s } else { s.to_string() + &filling })
    });
    Arc::new(rows.collect::<StringArray>())
}

fn replace(args: &[ArrayRef]) -> ArrayRef {
    let (texts, sought) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
    let rows = texts.iter().zip(sought.iter()).enumerate().map(|(row, (s, sought))| {
        let (s, sought, by) = (s?, sought?, optional(args, 2, row, "")?);
        Some(if sought.is_empty() { s.to_string() } else { s.replace(sought, by) })
    });
    Arc::new(rows.collect::<StringArray>())
}

fn instr(texts: &ArrayRef, sought: &ArrayRef) -> ArrayRef {
    let pairs = texts.as_string::<i32>().iter().zip(sought.as_string::<i32>().iter());
    let rows = pairs.map(|(s, sought)| {
        let (s, sought) = (s?, sought?);
        Some(s.find(sought).map_or(0, |byte| s[..byte].chars().count() as i32 + 1))
    });
    Arc::new(rows.collect::<Int32Array>())
}

fn translate(args: &[ArrayRef]) -> ArrayRef {
    let [texts, from, to] = [0, 1, 2].map(|index| args[index].as_string::<i32>());
    let rows = texts.iter().zip(from.iter()).zip(to.iter()).map(|((s, from), to)| {
        let (s, from, to) = (s?, from?, to?);
        let to: Vec<char> = to.chars().collect();
        let mapped = s.chars().filter_map(|c| match from.chars().position(|f| f == c) {
            None => Some(c),
            Some(place) => to.get(place).copied(),
        });
        Some(mapped.collect::<String>())
    });
    Arc::new(rows.collect::<StringArray>())
}

/// NULL where any part is NULL.
fn concat(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let parts: Vec<&StringArray> = args.iter().map(|arg| arg.as_string::<i32>()).collect();
    let mut out = StringBuilder::with_capacity(context.rows, context.rows * 16);
    for row in 0..context.rows {
        if parts.iter().any(|part| part.is_null(row)) {
            out.append_null();
        } else {
            for part in &parts {
                _ = out.write_str(part.value(row));
            }
            out.append_value("");
        }
    }
    Ok(Arc::new(out.finish()))
}

/// The first argument between the others and the elements of arrays; NULL parts are passed over.
fn concat_ws(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let (separators, parts) = args.split_first().ok_or("concat_ws takes a separator")?;
    let separators = separators.as_string_opt::<i32>().ok_or("a separator is a text")?;
    let elements = |part: &ArrayRef| match part.as_list_opt::<i32>() {
        Some(lists) => super::cast::as_text(lists.values()),
        None => Ok(Arc::clone(part)),
    };
    let texts = parts.iter().map(elements).collect::<Result<Vec<_>, String>>()?;
    let rows = (0..context.rows).map(|row| {
        let separator = separators.is_valid(row).then(|| separators.value(row))?;
        let mut there: Vec<&str> = Vec::new();
        for (part, texts) in parts.iter().zip(&texts) {
            let texts = texts.as_string::<i32>();
            let range = match part.as_list_opt::<i32>() {
                None => row..row + 1,
                Some(lists) if lists.is_null(row) => continue,
                Some(lists) => {
                    let offsets = lists.value_offsets();
                    offsets[row] as usize..offsets[row + 1] as usize
                }
            };
            there.extend(range.filter(|&at| texts.is_valid(at)).map(|at| texts.value(at)));
        }
        Some(there.join(separator))
    });
    Ok(Arc::new(rows.collect::<StringArray>()))
}

/// Compiles a pattern once for all rows that share it.
#[derive(Default)]
pub struct Patterns {
    last: Option<(String, Regex)>,
}

impl Patterns {
    pub fn get(&mut self, pattern: &str) -> Result<&Regex, String> {
        let known = self.last.as_ref().is_some_and(|(text, _)| text == pattern);
        if !known {
            let regex = Regex::new(&javas(pattern))
                .map_err(|_| format!("{pattern:?} is no regular expression that is known here"))?;
            self.last = Some((pattern.to_string(), regex));
        }
        Ok(&self.last.as_ref().expect("set just above").1)
    }
}

/// Java's classes hold ASCII alone where Rust's hold all of Unicode.
fn javas(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('s') => out.push_str("[ \\t\\n\\x0B\\f\\r]"),
            Some('S') => out.push_str("[^ \\t\\n\\x0B\\f\\r]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            Some('Z') => out.push_str("\\z"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn rlike(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let mut patterns = Patterns::default();
    let rows = pairs.map(|pair| match pair {
        (Some(s), Some(pattern)) => Ok(Some(patterns.get(pattern)?.is_match(s))),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<BooleanArray, String>>()?))
}

/// Java's `$1` is a group; so it is here, but for a letter right after it.
fn regexp_replace(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let [texts, sought, by] = [0, 1, 2].map(|index| args[index].as_string::<i32>());
    let mut patterns = Patterns::default();
    let rows = texts.iter().zip(sought.iter()).zip(by.iter()).enumerate();
    let rows = rows.map(|(row, values)| match values {
        ((Some(s), Some(pattern)), Some(by)) => {
            let from = match args.get(3).map(|from| from.as_primitive::<Int32Type>()) {
                None => 1,
                Some(from) if from.is_null(row) => return Ok(None),
                Some(from) if from.value(row) < 1 => {
                    return Err("regexp_replace: a position is counted from 1".to_string());
                }
                Some(from) => from.value(row),
            };
            let start = s.char_indices().nth(from as usize - 1).map_or(s.len(), |(at, _)| at);
            let replaced = patterns.get(pattern)?.replace_all(&s[start..], braced(by).as_str());
            Ok(Some(format!("{}{replaced}", &s[..start])))
        }
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<StringArray, String>>()?))
}

/// `$1x` in Java's replacement is `${1}x` in Rust's.
fn braced(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len() + 4);
    let mut rest = replacement.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                out.extend(rest.next().map(|c| if c == '$' { "$$".into() } else { c.to_string() }))
            }
            '$' if rest.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    out.push(digit);
                }
                out.push('}');
            }
            c => out.push(c),
        }
    }
    out
}

/// The group's text; empty where the pattern or the group does not match.
fn regexp_extract(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let groups = args.get(2).map(|groups| groups.as_primitive::<Int32Type>());
    let mut patterns = Patterns::default();
    let rows = pairs.enumerate().map(|(row, pair)| {
        let group = groups.map_or(Some(1), |g| g.is_valid(row).then(|| g.value(row)));
        let ((Some(s), Some(pattern)), Some(group)) = (pair, group) else { return Ok(None) };
        let regex = patterns.get(pattern)?;
        let group = regexp_groups(regex, pattern, group)?;
        let found = regex.captures(s).and_then(|c| c.get(group).map(|m| m.as_str().to_string()));
        Ok(Some(found.unwrap_or_default()))
    });
    Ok(Arc::new(rows.collect::<Result<StringArray, String>>()?))
}

/// A group's number, where the pattern has it.
pub fn regexp_groups(regex: &Regex, pattern: &str, group: i32) -> Result<usize, String> {
    let known = usize::try_from(group).ok().filter(|g| *g < regex.captures_len());
    known.ok_or_else(|| {
        let groups = regex.captures_len() - 1;
        format!("{pattern:?} has {groups} groups, found the number {group}")
    })
}

/// Java's split: by a pattern; with a limit at most so many parts; empty parts at the end are kept.
fn split(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let texts = args[0].as_string::<i32>();
    let sought = args[1].as_string::<i32>();
    let limits = args.get(2).map(|limits| limits.as_primitive::<Int32Type>());
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..texts.len() {
        let limit = limits.map_or(Some(-1), |l| l.is_valid(row).then(|| l.value(row)));
        let (true, true, Some(limit)) = (texts.is_valid(row), sought.is_valid(row), limit) else {
            out.append(false);
            continue;
        };
        let (s, pattern) = (texts.value(row), sought.value(row));
        for part in parts(s, patterns.get(pattern)?, limit) {
            out.values().append_value(part);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn parts<'a>(s: &'a str, pattern: &Regex, limit: i32) -> Vec<&'a str> {
    let most = if limit > 0 { limit as usize } else { usize::MAX };
    let mut parts = Vec::new();
    let mut from = 0;
    for found in pattern.find_iter(s) {
        if parts.len() + 1 == most {
            break;
        }
        // No empty part before a match without length at the start or end.
        if found.is_empty() && (found.start() == 0 || found.start() == s.len()) {
            continue;
        }
        parts.push(&s[from..found.start()]);
        from = found.end();
    }
    parts.push(&s[from..]);
    parts
}
