//! Types by Spark's names and Spark's rules.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// TIMESTAMP: microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

pub fn map_of(key: DataType, value: DataType) -> DataType {
    let fields =
        Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

/// The types of a map's keys and values.
pub fn map_parts(map: &DataType) -> Option<(&DataType, &DataType)> {
    let DataType::Map(entries, _) = map else { return None };
    match entries.data_type() {
        DataType::Struct(fields) => Some((fields[0].data_type(), fields[1].data_type())),
        _ => None,
    }
}

/// INTERVAL DAY TO SECOND: microseconds.
pub fn length() -> DataType {
    DataType::Duration(TimeUnit::Microsecond)
}

/// INTERVAL DAY, as two dates are apart: whole days, in seconds.
pub fn days() -> DataType {
    DataType::Duration(TimeUnit::Second)
}

/// The type as SQL writes it.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "VOID".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Duration(TimeUnit::Second) => "INTERVAL DAY".into(),
        DataType::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::List(item) => format!("ARRAY<{}>", sql_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields =
                fields.iter().map(|f| format!("{}: {}", f.name(), sql_name(f.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(_, _) => {
            let (key, value) = map_parts(data_type).expect("it is a map");
            format!("MAP<{}, {}>", sql_name(key), sql_name(value))
        }
        DataType::Dictionary(_, values) => sql_name(values),
        other => other.to_string().to_uppercase(),
    }
}

pub fn is_number(data_type: &DataType) -> bool {
    is_integer(data_type) || is_float(data_type) || is_decimal(data_type)
}

pub fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

pub fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

pub fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(_, _))
}

pub fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _) | DataType::Date32)
}

/// The decimal that holds every value of an integer type.
pub fn decimal_of(integer: &DataType) -> (u8, i8) {
    match integer {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => (20, 0),
    }
}

/// Spark's rule for a result of more than 38 digits: the scale gives way, down to 6.
pub fn bounded_decimal(precision: i32, scale: i32) -> (u8, i8) {
    if precision <= 38 {
        return (precision as u8, scale as i8);
    }
    let whole = precision - scale;
    let least = scale.min(6);
    let scale = (38 - whole).max(least);
    (38, scale as i8)
}

/// The type that both numbers fit in, as Spark widens them.
pub fn wider_number(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    if !is_number(left) || !is_number(right) {
        return None;
    }
    if is_float(left) || is_float(right) {
        return Some(DataType::Float64);
    }
    if is_decimal(left) || is_decimal(right) {
        let ((p1, s1), (p2, s2)) = (decimal_of(left), decimal_of(right));
        let scale = s1.max(s2);
        let whole = (p1 as i8 - s1).max(p2 as i8 - s2);
        let (precision, scale) = bounded_decimal(i32::from(whole) + i32::from(scale), scale.into());
        return Some(DataType::Decimal128(precision, scale));
    }
    let width = |t: &DataType| t.primitive_width().unwrap_or(8);
    Some(if width(left) >= width(right) { left.clone() } else { right.clone() })
}
