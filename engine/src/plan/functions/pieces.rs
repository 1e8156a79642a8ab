//! Pieces of texts: found, cut out, put in, matched by patterns, shown as numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int32Type, Int64Type};

use super::native::{Definition, Takes, define};
use super::text::{Patterns, regexp_groups};

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn int(_: &[DataType]) -> DataType {
    DataType::Int32
}

fn texts(_: &[DataType]) -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Int, Long, Number, Text};
    [
        define("substring_index", &[Text, Text, Int], 0, text, |_, a| {
            each_text(a, |row| {
                let (s, delimiter, count) = (row.text(0)?, row.text(1)?, row.int(2)?);
                Some(substring_index(s, delimiter, count).to_string())
            })
        }),
        define("split_part", &[Text, Text, Int], 0, text, |_, a| split_part(a)),
        define("find_in_set", &[Text, Text], 0, int, |_, a| {
            each_int(a, |row| {
                let (sought, list) = (row.text(0)?, row.text(1)?);
                let at = list.split(',').position(|part| part == sought);
                Some(at.filter(|_| !sought.contains(',')).map_or(0, |at| at as i32 + 1))
            })
        }),
        define("levenshtein", &[Text, Text, Int], 1, int, |_, a| {
            each_int(a, |row| {
                let distance = strsim::levenshtein(row.text(0)?, row.text(1)?) as i32;
                let limit = if row.has(2) { row.int(2)? } else { i32::MAX };
                Some(if distance > limit { -1 } else { distance })
            })
        }),
        define("locate", &[Text, Text, Int], 1, int, |_, a| {
            each_int(a, |row| {
                let from = if row.has(2) { row.int(2)? } else { 1 };
                Some(locate(row.text(1)?, row.text(0)?, from))
            })
        }),
        define("overlay", &[Text, Text, Int, Int], 1, text, |_, a| {
            each_text(a, |row| {
                let (s, by, at) = (row.text(0)?, row.text(1)?, row.int(2)?);
                let length = if row.has(3) { row.int(3)? } else { -1 };
                Some(overlay(s, by, at, length))
            })
        }),
        define("chr", &[Long], 0, text, |_, a| {
            each_text(a, |row| {
                let code = row.long(0)?;
                let byte = (code.rem_euclid(256)) as u8;
                Some(if code < 0 { String::new() } else { char::from(byte).to_string() })
            })
        }),
        define("bit_length", &[Text], 0, int, |_, a| {
            each_int(a, |row| Some(row.text(0)?.len() as i32 * 8))
        }),
        define("space", &[Int], 0, text, |_, a| {
            each_text(a, |row| Some(" ".repeat(row.int(0)?.max(0) as usize)))
        }),
        define("mask", &[Text, Text, Text, Text, Text], 4, text, |_, a| {
            each_text(a, |row| Some(mask(row, row.text(0)?)))
        }),
        define("format_number", &[Number, Int], 0, text, |_, a| format_number(a)),
        define("regexp_count", &[Text, Text], 0, int, |_, a| {
            matching(a, |s, pattern| pattern.find_iter(s).count() as i32)
        }),
        define("regexp_instr", &[Text, Text, Int], 1, int, |_, a| {
            matching(a, |s, pattern| {
                pattern.find(s).map_or(0, |found| s[..found.start()].chars().count() as i32 + 1)
            })
        }),
        define("regexp_substr", &[Text, Text], 0, text, |_, a| {
            let mut patterns = Patterns::default();
            let mut out = StringBuilder::new();
            for row in 0..a[0].len() {
                let row = Row { args: a, row };
                match (row.text(0), row.text(1)) {
                    (Some(s), Some(pattern)) => {
                        out.append_option(patterns.get(pattern)?.find(s).map(|m| m.as_str()));
                    }
                    _ => out.append_null(),
                }
            }
            Ok(Arc::new(out.finish()))
        }),
        define("regexp_extract_all", &[Text, Text, Int], 1, texts, |_, a| extract_all(a)),
    ]
    .into_iter()
}

/// One row's arguments; `None` is NULL.
#[derive(Clone, Copy)]
struct Row<'a> {
    args: &'a [ArrayRef],
    row: usize,
}

impl<'a> Row<'a> {
    /// Whether the call has this argument at all.
    fn has(&self, index: usize) -> bool {
        index < self.args.len()
    }

    fn is_there(&self, index: usize) -> bool {
        self.has(index) && self.args[index].is_valid(self.row)
    }

    fn text(&self, index: usize) -> Option<&'a str> {
        self.is_there(index).then(|| self.args[index].as_string::<i32>().value(self.row))
    }

    fn int(&self, index: usize) -> Option<i32> {
        let there = self.is_there(index);
        there.then(|| self.args[index].as_primitive::<Int32Type>().value(self.row))
    }

    fn long(&self, index: usize) -> Option<i64> {
        let there = self.is_there(index);
        there.then(|| self.args[index].as_primitive::<Int64Type>().value(self.row))
    }
}

fn each_text(
    args: &[ArrayRef],
    f: impl Fn(&Row<'_>) -> Option<String>,
) -> Result<ArrayRef, String> {
    let rows = (0..args[0].len()).map(|row| f(&Row { args, row }));
    Ok(Arc::new(rows.collect::<StringArray>()))
}

fn each_int(args: &[ArrayRef], f: impl Fn(&Row<'_>) -> Option<i32>) -> Result<ArrayRef, String> {
    let rows = (0..args[0].len()).map(|row| f(&Row { args, row }));
    Ok(Arc::new(rows.collect::<Int32Array>()))
}

fn matching(args: &[ArrayRef], f: impl Fn(&str, &regex::Regex) -> i32) -> Result<ArrayRef, String> {
    let mut patterns = Patterns::default();
    let rows = (0..args[0].len()).map(|row| {
        let row = Row { args, row };
        match (row.text(0), row.text(1)) {
            (Some(s), Some(pattern)) => Ok(Some(f(s, patterns.get(pattern)?))),
            _ => Ok(None),
        }
    });
    Ok(Arc::new(rows.collect::<Result<Int32Array, String>>()?))
}

/// What stands before the `count`-th delimiter, or after it from the end.
fn substring_index<'a>(s: &'a str, delimiter: &str, count: i32) -> &'a str {
    if delimiter.is_empty() || count == 0 {
        return "";
    }
    let nth = count.unsigned_abs() as usize - 1;
    if count > 0 {
        s.match_indices(delimiter).nth(nth).map_or(s, |(at, _)| &s[..at])
    } else {
        s.rmatch_indices(delimiter).nth(nth).map_or(s, |(at, found)| &s[at + found.len()..])
    }
}

fn split_part(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let rows = (0..args[0].len()).map(|row| {
        let row = Row { args, row };
        let (Some(s), Some(delimiter), Some(part)) = (row.text(0), row.text(1), row.int(2)) else {
            return Ok(None);
        };
        let parts: Vec<&str> =
            if delimiter.is_empty() { vec![s] } else { s.split(delimiter).collect() };
        let at = match part {
            0 => return Err("split_part: parts are counted from 1, found 0".to_string()),
            part if part > 0 => part as usize - 1,
            part => parts.len().wrapping_sub(part.unsigned_abs() as usize),
        };
        Ok(Some(parts.get(at).copied().unwrap_or("")))
    });
    Ok(Arc::new(rows.collect::<Result<StringArray, String>>()?))
}

/// Place of `sought` from the `from`-th character on; 0: not there.
fn locate(s: &str, sought: &str, from: i32) -> i32 {
    if from < 1 {
        return 0;
    }
    let Some((start, _)) = s.char_indices().nth(from as usize - 1) else {
        let at_end = s.chars().count() as i32 + 1 == from;
        return if sought.is_empty() && at_end { from } else { 0 };
    };
    let found = s[start..].find(sought);
    found.map_or(0, |at| s[..start + at].chars().count() as i32 + 1)
}

/// `by` in place of `length` characters from the `at`-th on; negative: as many as it has.
fn overlay(s: &str, by: &str, at: i32, length: i32) -> String {
    let length = if length < 0 { by.chars().count() } else { length as usize };
    let before = (at - 1).max(0) as usize;
    let head: String = s.chars().take(before).collect();
    let tail: String = s.chars().skip(before + length).collect();
    format!("{head}{by}{tail}")
}

/// Letters and digits by other characters; NULL leaves a kind as it is.
fn mask(row: &Row<'_>, s: &str) -> String {
    let by = |index: usize, default: Option<char>| match row.has(index) {
        true => row.text(index).and_then(|text| text.chars().next()),
        false => default,
    };
    let (upper, lower) = (by(1, Some('X')), by(2, Some('x')));
    let (digit, other) = (by(3, Some('n')), by(4, None));
    let masked = s.chars().map(|c| {
        let by = match c {
            c if c.is_uppercase() => upper,
            c if c.is_lowercase() => lower,
            c if c.is_ascii_digit() => digit,
            _ => other,
        };
        by.unwrap_or(c)
    });
    masked.collect()
}

/// With commas between thousands, so many places, half to even.
fn format_number(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let places = args[1].as_primitive::<Int32Type>();
    let mut out = StringBuilder::new();
    for row in 0..args[0].len() {
        let there = args[0].is_valid(row) && places.is_valid(row) && places.value(row) >= 0;
        if !there {
            out.append_null();
            continue;
        }
        let places = places.value(row) as usize;
        let digits = match args[0].data_type() {
            DataType::Decimal128(_, scale) => {
                let value = args[0].as_primitive::<Decimal128Type>().value(row);
                fixed(value, i32::from(*scale), places)
            }
            DataType::Float64 | DataType::Float32 => {
                let value = arrow::compute::cast(&args[0].slice(row, 1), &DataType::Float64);
                let value = value.map_err(|error| error.to_string())?;
                let value = value.as_primitive::<Float64Type>().value(0);
                if !value.is_finite() {
                    out.append_value(super::cast::double_text(value));
                    continue;
                }
                // The exact value of the double, rounded half to even.
                format!("{value:.places$}")
            }
            _ => {
                let value = arrow::compute::cast(&args[0].slice(row, 1), &DataType::Int64);
                let value = value.map_err(|error| error.to_string())?;
                fixed(i128::from(value.as_primitive::<Int64Type>().value(0)), 0, places)
            }
        };
        out.append_value(with_commas(&digits));
    }
    Ok(Arc::new(out.finish()))
}

fn fixed(value: i128, scale: i32, places: usize) -> String {
    let drop = scale - places as i32;
    let units = super::math::round_units(value, drop, true).unwrap_or(value);
    let digits = format!("{:0width$}", units.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let sign = if units < 0 { "-" } else { "" };
    let point = if places > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

fn with_commas(number: &str) -> String {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out += fraction;
    }
    out
}

fn extract_all(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..args[0].len() {
        let row = Row { args, row };
        let group = if row.has(2) { row.int(2) } else { Some(1) };
        let (Some(s), Some(pattern), Some(group)) = (row.text(0), row.text(1), group) else {
            out.append(false);
            continue;
        };
        let regex = patterns.get(pattern)?;
        let group = regexp_groups(regex, pattern, group)?;
        for found in regex.captures_iter(s) {
            out.values().append_value(found.get(group).map_or("", |m| m.as_str()));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_in_characters_from_one() {
        assert_eq!(substring_index("www.apache.org", ".", 2), "www.apache");
        assert_eq!(substring_index("www.apache.org", ".", -2), "apache.org");
        assert_eq!(substring_index("www", ".", 2), "www");
        assert_eq!((locate("barbar", "bar", 5), locate("barbar", "bar", 2)), (0, 4));
        assert_eq!((locate("é", "", 1), locate("ab", "", 3), locate("ab", "", 4)), (1, 3, 0));
        assert_eq!(overlay("Spark SQL", "_", 6, -1), "Spark_SQL");
        assert_eq!(overlay("Spark SQL", "ANSI ", 7, 0), "Spark ANSI SQL");
    }

    #[test]
    fn numbers_have_commas_and_are_rounded_to_even() {
        assert_eq!(with_commas(&fixed(12_332_123_456, 6, 4)), "12,332.1235");
        assert_eq!(with_commas(&fixed(25, 1, 0)), "2");
        assert_eq!(with_commas(&fixed(-35, 1, 0)), "-4");
        assert_eq!(with_commas(&fixed(5, 2, 1)), "0.0");
        assert_eq!(with_commas("1234567"), "1,234,567");
        assert_eq!(with_commas("-123"), "-123");
    }
}
