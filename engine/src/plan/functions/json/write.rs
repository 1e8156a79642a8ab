//! Values as JSON texts: `to_json` of columns, and what a path found.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimestampMicrosecondType};
use jiff::tz::TimeZone;

use super::read::{Node, Value};
use crate::plan::functions::cast::{as_text, double_text, float_text};
use crate::plan::functions::text_time::format as time_text;
use crate::plan::functions::time::UTC;

/// Each value as a text; NULL stays NULL. NULL fields of structs are left out.
pub fn texts(values: &ArrayRef, zone: &TimeZone) -> Result<ArrayRef, String> {
    if !matches!(values.data_type(), DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _))
    {
        return Err("to_json takes a STRUCT, an ARRAY or a MAP".into());
    }
    let row = |row: usize| -> Result<Option<String>, String> {
        let mut out = String::new();
        let there = values.is_valid(row);
        if there {
            value(&mut out, values, row, zone)?;
        }
        Ok(there.then_some(out))
    };
    Ok(Arc::new((0..values.len()).map(row).collect::<Result<StringArray, String>>()?))
}

fn value(out: &mut String, values: &ArrayRef, row: usize, zone: &TimeZone) -> Result<(), String> {
    if values.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match values.data_type() {
        DataType::Struct(fields) => {
            out.push('{');
            let mut first = true;
            for (field, column) in fields.iter().zip(values.as_struct().columns()) {
                if column.is_null(row) {
                    continue;
                }
                separate(out, &mut first);
                quoted(out, field.name());
                out.push(':');
                value(out, column, row, zone)?;
            }
            out.push('}');
        }
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            out.push('[');
            let mut first = true;
            for item in 0..items.len() {
                separate(out, &mut first);
                value(out, &items, item, zone)?;
            }
            out.push(']');
        }
        DataType::Map(_, _) => {
            let entries = values.as_map().value(row);
            let keys = as_text(entries.column(0))?;
            out.push('{');
            let mut first = true;
            for entry in 0..entries.len() {
                separate(out, &mut first);
                quoted(out, keys.as_string::<i32>().value(entry));
                out.push(':');
                value(out, entries.column(1), entry, zone)?;
            }
            out.push('}');
        }
        DataType::Utf8 => quoted(out, values.as_string::<i32>().value(row)),
        DataType::Float64 => {
            let double = values.as_primitive::<Float64Type>().value(row);
            number(out, &double_text(double), double.is_finite());
        }
        DataType::Float32 => {
            let float = values.as_primitive::<Float32Type>().value(row);
            number(out, &float_text(float), float.is_finite());
        }
        DataType::Binary => {
            quoted(out, &crate::format::base64(values.as_binary::<i32>().value(row)));
        }
        DataType::Timestamp(_, zoned) => {
            let us = values.as_primitive::<TimestampMicrosecondType>().value(row);
            quoted(out, &time_as_text(us, zoned.is_some(), zone)?);
        }
        DataType::Date32 => {
            let text = as_text(&values.slice(row, 1))?;
            quoted(out, text.as_string::<i32>().value(0));
        }
        // Numbers and truth values.
        _ => out.push_str(as_text(&values.slice(row, 1))?.as_string::<i32>().value(0)),
    }
    Ok(())
}

fn separate(out: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn number(out: &mut String, text: &str, finite: bool) {
    if finite { out.push_str(text) } else { quoted(out, text) }
}

pub fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A value that was read, written anew: without blanks, a fraction as the double that it is.
pub fn node(node: &Node) -> String {
    let mut out = String::new();
    append(&mut out, node);
    out
}

fn append(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(digits) if digits.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            out.push_str(digits);
        }
        Value::Number(digits) => match digits.parse::<f64>() {
            Ok(double) => out.push_str(&double_text(double)),
            Err(_) => out.push_str(digits),
        },
        Value::Text(text) => quoted(out, text),
        Value::Array(items) => {
            out.push('[');
            let mut first = true;
            for item in items {
                separate(out, &mut first);
                append(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            let mut first = true;
            for (name, value) in fields {
                separate(out, &mut first);
                quoted(out, name);
                out.push(':');
                append(out, value);
            }
            out.push('}');
        }
    }
}

/// As JSON and CSV have times: milliseconds, and the zone's offset where there is a zone.
fn time_as_text(us: i64, zoned: bool, zone: &TimeZone) -> Result<String, String> {
    let (of, pattern) = match zoned {
        true => (zone, "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"),
        false => (&UTC, "yyyy-MM-dd'T'HH:mm:ss.SSS"),
    };
    time_text(us, of, pattern).ok_or("a time has no text".into())
}

/// Each time as JSON and CSV have it.
pub fn times_as_text(times: &ArrayRef, zone: &TimeZone) -> Result<ArrayRef, String> {
    let zoned = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let texts = times.as_primitive::<TimestampMicrosecondType>().iter();
    let texts = texts.map(|us| us.map(|us| time_as_text(us, zoned, zone)).transpose());
    Ok(Arc::new(texts.collect::<Result<StringArray, String>>()?))
}
