//! `from_json`: trees as columns of a type.
//!
//! What does not fit its type is NULL, and only that (Spark's partial results).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use jiff::tz::TimeZone;

use super::read::{Node, Value, first};
use crate::plan::functions::bytes::unbase64;
use crate::plan::functions::cast::read_decimal;
use crate::plan::functions::map;
use crate::plan::functions::text_time::{read_date, read_timestamp};
use crate::plan::functions::time::UTC;
use crate::plan::types::sql_name;

/// What a text is read as. For a struct, a text that is none is one whose fields are all NULL, and of
/// an array of them the first counts; for an array, a single value is one of one element.
pub fn root<'a>(text: &'a str, to: &DataType) -> Option<Node<'a>> {
    if text.trim().is_empty() {
        return None;
    }
    let empty = || Some(Node { value: Value::Object(Vec::new()), raw: "{}" });
    match (first(text), to) {
        (Some(node), DataType::Struct(_)) => match node.value {
            Value::Object(_) => Some(node),
            Value::Array(items) => items.into_iter().next(),
            _ => empty(),
        },
        (None, DataType::Struct(_)) => empty(),
        (Some(node), DataType::List(_)) if matches!(node.value, Value::Object(_)) => {
            let raw = node.raw;
            Some(Node { value: Value::Array(vec![node]), raw })
        }
        (node, _) => node,
    }
}

/// One value for each node.
pub fn values<'a>(
    nodes: &[Option<&'a Node<'a>>],
    to: &DataType,
    zone: &TimeZone,
) -> Result<ArrayRef, String> {
    let each = || nodes.iter().map(|node| node.map(|node| &node.value));
    Ok(match to {
        DataType::Boolean => {
            let truth = |value: Option<&Value>| match value? {
                Value::Bool(truth) => Some(*truth),
                _ => None,
            };
            Arc::new(each().map(truth).collect::<BooleanArray>())
        }
        DataType::Int8 => Arc::new(each().map(whole::<i8>).collect::<Int8Array>()),
        DataType::Int16 => Arc::new(each().map(whole::<i16>).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(each().map(whole::<i32>).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(each().map(whole::<i64>).collect::<Int64Array>()),
        DataType::Float64 => Arc::new(each().map(float::<f64>).collect::<Float64Array>()),
        DataType::Float32 => Arc::new(each().map(float::<f32>).collect::<Float32Array>()),
        DataType::Decimal128(precision, scale) => {
            let decimals = each().map(|value| match value? {
                Value::Number(text) => read_decimal(text, *precision, *scale),
                Value::Text(text) => read_decimal(text, *precision, *scale),
                _ => None,
            });
            let decimals = decimals.collect::<Decimal128Array>();
            let decimals = decimals.with_precision_and_scale(*precision, *scale);
            Arc::new(decimals.map_err(|error| error.to_string())?)
        }
        DataType::Utf8 => {
            let texts = nodes.iter().map(|node| match &(*node)?.value {
                Value::Null => None,
                Value::Text(text) => Some(text.as_str()),
                _ => node.map(|node| node.raw),
            });
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Binary => {
            let bytes = each().map(|value| unbase64(text(value)?));
            Arc::new(
                bytes.collect::<Vec<_>>().iter().map(Option::as_deref).collect::<BinaryArray>(),
            )
        }
        DataType::Date32 => {
            Arc::new(each().map(|value| read_date(text(value)?.trim())).collect::<Date32Array>())
        }
        DataType::Timestamp(_, zoned) => {
            let of = if zoned.is_some() { zone } else { &UTC };
            let times = each().map(|value| match value? {
                Value::Text(text) => read_timestamp(text.trim(), of),
                number if zoned.is_some() => whole::<i64>(Some(number))?.checked_mul(1_000_000),
                _ => None,
            });
            let times = times.collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_timezone_opt(zoned.clone()))
        }
        _ => return nested(nodes, to, zone),
    })
}

fn nested<'a>(
    nodes: &[Option<&'a Node<'a>>],
    to: &DataType,
    zone: &TimeZone,
) -> Result<ArrayRef, String> {
    match to {
        DataType::Struct(fields) => {
            let there =
                |node: &Option<&Node>| matches!(node, Some(Node { value: Value::Object(_), .. }));
            let columns = fields.iter().map(|field| {
                let of = |node: &Option<&'a Node<'a>>| -> Option<&'a Node<'a>> {
                    let Value::Object(fields) = &(*node)?.value else { return None };
                    // Of two with one name the last counts.
                    let (_, value) = fields.iter().rfind(|(name, _)| name == field.name())?;
                    Some(value)
                };
                values(&nodes.iter().map(of).collect::<Vec<_>>(), field.data_type(), zone)
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let nulls = nodes.iter().map(there).collect::<Vec<bool>>().into();
            Ok(Arc::new(StructArray::new(fields.clone(), columns, Some(nulls))))
        }
        DataType::List(field) => {
            let items = |node: &Option<&'a Node<'a>>| -> Option<&'a Vec<Node<'a>>> {
                match &(*node)?.value {
                    Value::Array(items) => Some(items),
                    _ => None,
                }
            };
            let lists: Vec<_> = nodes.iter().map(items).collect();
            let all: Vec<Option<&Node>> =
                lists.iter().flatten().flat_map(|l| l.iter()).map(Some).collect();
            let elements = values(&all, field.data_type(), zone)?;
            let lengths = lists.iter().map(|list| list.map_or(0, Vec::len));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let nulls = lists.iter().map(Option::is_some).collect::<Vec<bool>>().into();
            Ok(Arc::new(ListArray::new(Arc::clone(field), offsets, elements, Some(nulls))))
        }
        DataType::Map(entries, _) => {
            let fields = |node: &Option<&'a Node<'a>>| -> Option<&'a Vec<(String, Node<'a>)>> {
                match &(*node)?.value {
                    Value::Object(fields) => Some(fields),
                    _ => None,
                }
            };
            let objects: Vec<_> = nodes.iter().map(fields).collect();
            let all = || objects.iter().flatten().flat_map(|fields| fields.iter());
            let keys: StringArray = all().map(|(name, _)| Some(name)).collect();
            let all_values: Vec<Option<&Node>> = all().map(|(_, value)| Some(value)).collect();
            let held = values(&all_values, map::value_type(entries), zone)?;
            let lengths: Vec<usize> =
                objects.iter().map(|object| object.map_or(0, Vec::len)).collect();
            let nulls = objects.iter().map(Option::is_some).collect::<Vec<bool>>().into();
            map::array(to, &lengths, Arc::new(keys), held, Some(nulls))
        }
        other => Err(format!("from_json reads no {}", sql_name(other))),
    }
}

fn text<'a>(value: Option<&'a Value>) -> Option<&'a str> {
    match value? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn whole<T: TryFrom<i64>>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::Number(digits) => T::try_from(digits.parse::<i64>().ok()?).ok(),
        _ => None,
    }
}

fn float<T: std::str::FromStr + From<f32>>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::Number(digits) => digits.parse().ok(),
        Value::Text(text) => Some(T::from(match text.as_str() {
            "NaN" => f32::NAN,
            "Infinity" | "+INF" | "INF" | "+Infinity" => f32::INFINITY,
            "-Infinity" | "-INF" => f32::NEG_INFINITY,
            _ => return None,
        })),
        _ => None,
    }
}
