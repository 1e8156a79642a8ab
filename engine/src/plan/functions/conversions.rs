//! Values to texts and back by a format that the query names: numbers, bytes, rows of CSV, clocks.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Decimal128Array, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, TimestampMicrosecondType};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, plan_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use jiff::tz::TimeZone;

use super::native::{Context, Definition, Takes, define};
use super::number_format::NumberFormat;
use super::{bytes, cast, json, time};
use crate::format::base64;
use crate::plan::types::{decimal_of, is_number, is_text, is_time, sql_name};

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Any, Text, Time};
    const LOCAL: DataType = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    [
        define("to_char", &[Any, Text], 0, text, to_char),
        define("to_binary", &[Text, Text], 1, |_| DataType::Binary, |_, a| to_binary(a)),
        define("convert_timezone", &[Text, Text, Time], 0, |_| LOCAL, |_, a| convert(a)),
        define("to_csv", &[Any], 0, text, to_csv),
    ]
    .into_iter()
}

/// Those whose type a constant says.
pub fn typed(zone: &TimeZone) -> impl Iterator<Item = ScalarUDF> {
    [Typed::ToNumber, Typed::FromCsv].into_iter().map(|function| {
        let zone_name = zone.iana_name().unwrap_or_default().to_string();
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::new_from_impl(ByConstant { function, zone: zone.clone(), zone_name, signature })
    })
}

/// What a constant argument is read as, once for all rows that have the same.
fn by_format<'a, F, T>(
    formats: impl Iterator<Item = Option<&'a str>>,
    read: impl Fn(&str) -> std::result::Result<F, String>,
    mut each: impl FnMut(usize, Option<&F>) -> std::result::Result<T, String>,
) -> std::result::Result<Vec<T>, String> {
    let mut last: Option<(&str, F)> = None;
    let mut all = Vec::new();
    for (row, format) in formats.enumerate() {
        if let Some(format) = format
            && last.as_ref().is_none_or(|(known, _)| *known != format)
        {
            last = Some((format, read(format)?));
        }
        let format = format.and(last.as_ref().map(|(_, format)| format));
        all.push(each(row, format)?);
    }
    Ok(all)
}

fn to_char(context: &Context, args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let values = &args[0];
    let formats = args[1].as_string::<i32>();
    match values.data_type() {
        found if is_time(found) => {
            let to = match found {
                DataType::Date32 => crate::plan::types::timestamp(),
                found => found.clone(),
            };
            let times = cast::cast_to(values, &to, context.zone)?;
            time::date_format(context, &[times, Arc::clone(&args[1])])
        }
        DataType::Binary => {
            let bytes = values.as_binary::<i32>();
            let texts = by_format(formats.iter(), encoding, |row, encoding| {
                let (Some(encoding), true) = (encoding, bytes.is_valid(row)) else {
                    return Ok(None);
                };
                Ok(Some(encoding.write(bytes.value(row))))
            })?;
            Ok(Arc::new(StringArray::from(texts)))
        }
        found if is_number(found) || is_text(found) => {
            let (precision, scale) = match found {
                DataType::Float32 => (14, 7),
                DataType::Float64 => (30, 15),
                DataType::Utf8 => (38, 18),
                integer => decimal_of(integer),
            };
            let decimals =
                cast::cast_to(values, &DataType::Decimal128(precision, scale), context.zone)?;
            let decimals = decimals.as_primitive::<Decimal128Type>();
            let texts = by_format(formats.iter(), NumberFormat::parse, |row, format| {
                let (Some(format), true) = (format, decimals.is_valid(row)) else {
                    return Ok(None);
                };
                Ok(Some(format.write(decimals.value(row), scale as u8)))
            })?;
            Ok(Arc::new(StringArray::from(texts)))
        }
        DataType::Null => Ok(Arc::new(StringArray::new_null(values.len()))),
        found => Err(format!("to_char takes no {}", sql_name(found))),
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Hex,
    Utf8,
    Base64,
}

fn encoding(name: &str) -> std::result::Result<Encoding, String> {
    match name.to_ascii_lowercase().as_str() {
        "hex" => Ok(Encoding::Hex),
        "utf-8" | "utf8" => Ok(Encoding::Utf8),
        "base64" => Ok(Encoding::Base64),
        _ => Err(format!("the format {name:?} is none of 'hex', 'utf-8' and 'base64'")),
    }
}

impl Encoding {
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Base64 => base64(bytes),
        }
    }

    fn read(self, text: &str) -> std::result::Result<Vec<u8>, String> {
        let invalid = |as_what: &str| {
            format!("CONVERSION_INVALID_INPUT: the text {text:?} cannot be read as {as_what}")
        };
        match self {
            Encoding::Hex => bytes::unhex(text).ok_or_else(|| invalid("hex")),
            Encoding::Utf8 => Ok(text.as_bytes().to_vec()),
            Encoding::Base64 => bytes::unbase64(text).ok_or_else(|| invalid("base 64")),
        }
    }
}

/// Without a format: hex.
fn to_binary(args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let texts = args[0].as_string::<i32>();
    let formats: Box<dyn Iterator<Item = Option<&str>>> = match args.get(1) {
        Some(formats) => Box::new(formats.as_string::<i32>().iter()),
        None => Box::new(std::iter::repeat_n(Some("hex"), texts.len())),
    };
    let read = by_format(formats, encoding, |row, encoding| match encoding {
        Some(encoding) if texts.is_valid(row) => encoding.read(texts.value(row)).map(Some),
        _ => Ok(None),
    })?;
    Ok(Arc::new(read.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

/// What the clocks of one zone show, as those of another show it.
fn convert(args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let (from, to) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
    let times = args[2].as_primitive::<TimestampMicrosecondType>();
    let moved = by_format(from.iter(), crate::plan::zone, |row, from| {
        let (Some(from), true) = (from, to.is_valid(row) && times.is_valid(row)) else {
            return Ok(None);
        };
        let to = crate::plan::zone(to.value(row))?;
        let us = times.value(row);
        let days = us.div_euclid(time::US_PER_DAY) as i32;
        let at = time::instant(days, us.rem_euclid(time::US_PER_DAY), from);
        let shown = time::local(at, &to);
        Ok(Some(i64::from(shown.days) * time::US_PER_DAY + shown.us_of_day))
    })?;
    Ok(Arc::new(TimestampMicrosecondArray::from(moved)))
}

/// A struct as a line of CSV: NULL is empty, a text with a comma, a quote or a line's end in quotes.
fn to_csv(context: &Context, args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let DataType::Struct(fields) = args[0].data_type() else {
        return Err(format!("to_csv takes a struct, found {}", sql_name(args[0].data_type())));
    };
    let rows = args[0].as_struct();
    let columns =
        fields.iter().zip(rows.columns()).map(|(field, column)| match field.data_type() {
            DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
                Err(format!("to_csv: {} is {}", field.name(), sql_name(field.data_type())))
            }
            DataType::Timestamp(_, _) => json::times_as_text(column, context.zone),
            _ => cast::cast_to(column, &DataType::Utf8, context.zone),
        });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let line = |row: usize| {
        let cell = |column: &ArrayRef| match column.is_valid(row) {
            true => csv_cell(column.as_string::<i32>().value(row)),
            false => String::new(),
        };
        columns.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    let lines = (0..rows.len()).map(|row| rows.is_valid(row).then(|| line(row)));
    Ok(Arc::new(lines.collect::<StringArray>()))
}

/// As Spark writes it: a quote within quotes is escaped by a backslash, the empty text is `""`.
fn csv_cell(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".into();
    }
    // Blanks around a text are not written.
    let text = text.trim_matches(' ');
    if !text.contains([',', '"', '\n', '\r']) {
        return text.into();
    }
    format!("\"{}\"", text.replace('"', "\\\""))
}

/// The cells of one line; `None` for an empty one that stands without quotes.
fn csv_cells(line: &str) -> Vec<Option<String>> {
    let mut cells = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        let mut cell = String::new();
        let quoted = chars.next_if_eq(&'"').is_some();
        if quoted {
            while let Some(char) = chars.next() {
                match char {
                    '\\' if matches!(chars.peek(), Some('"' | '\\')) => cell.extend(chars.next()),
                    '"' if chars.peek() == Some(&'"') => cell.extend(chars.next()),
                    '"' => break,
                    char => cell.push(char),
                }
            }
        }
        while let Some(char) = chars.next_if(|char| *char != ',') {
            cell.push(char);
        }
        cells.push((quoted || !cell.is_empty()).then_some(cell));
        if chars.next().is_none() {
            return cells;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Typed {
    ToNumber,
    FromCsv,
}

#[derive(Debug, PartialEq, Eq)]
struct ByConstant {
    function: Typed,
    zone: TimeZone,
    zone_name: String,
    signature: Signature,
}

impl Hash for ByConstant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.function, &self.zone_name).hash(state);
    }
}

impl ScalarUDFImpl for ByConstant {
    fn name(&self) -> &str {
        match self.function {
            Typed::ToNumber => "to_number",
            Typed::FromCsv => "from_csv",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [text, constant] if is_text(constant) && (is_text(text) || *text == DataType::Null) => {
                Ok(vec![DataType::Utf8; 2])
            }
            _ => plan_err!("{} takes a text and a constant text", self.name()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: the second argument is a constant text", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [_, Some(ScalarValue::Utf8(Some(constant)))] = args.scalar_arguments else {
            return self.return_type(&[]).map(|_| unreachable!("it is refused"));
        };
        let said = |what: String| plan_datafusion_err!("{}: {what}", self.name());
        let data_type = match self.function {
            Typed::ToNumber => {
                let format = NumberFormat::parse(constant).map_err(said)?;
                DataType::Decimal128(format.precision, format.scale as i8)
            }
            Typed::FromCsv => match json::schema_type(constant).map_err(said)? {
                fields @ DataType::Struct(_) => fields,
                other => return Err(said(format!("{} is no row", sql_name(&other)))),
            },
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args[0].to_array(args.number_rows)?;
        let texts = texts.as_string::<i32>();
        let said = |reason: String| exec_datafusion_err!("{reason}");
        let returns = args.return_field.data_type();
        let values: ArrayRef = match self.function {
            Typed::ToNumber => {
                let formats = args.args[1].to_array(args.number_rows)?;
                let formats = formats.as_string::<i32>();
                let numbers =
                    by_format(formats.iter(), NumberFormat::parse, |row, format| match format {
                        Some(format) if texts.is_valid(row) => {
                            format.read(texts.value(row)).map(Some)
                        }
                        _ => Ok(None),
                    });
                let numbers = Decimal128Array::from(numbers.map_err(said)?);
                Arc::new(numbers.with_data_type(returns.clone()))
            }
            Typed::FromCsv => from_csv(texts, returns, &self.zone).map_err(said)?,
        };
        Ok(ColumnarValue::Array(values))
    }
}

/// Lines as structs; what is no value of its field's type, or is not there, is NULL (Spark's PERMISSIVE).
fn from_csv(
    lines: &StringArray,
    returns: &DataType,
    zone: &TimeZone,
) -> std::result::Result<ArrayRef, String> {
    let DataType::Struct(fields) = returns else { unreachable!("the planner asked for one") };
    let cells: Vec<Option<Vec<Option<String>>>> =
        lines.iter().map(|line| line.map(csv_cells)).collect();
    let columns = fields.iter().enumerate().map(|(at, field)| {
        let cell = |cells: &Option<Vec<Option<String>>>| cells.as_ref()?.get(at)?.clone();
        let texts: ArrayRef = Arc::new(cells.iter().map(cell).collect::<StringArray>());
        cast::try_cast_to(&texts, field.data_type(), zone)
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let nulls = lines.nulls().cloned();
    Ok(Arc::new(StructArray::new(fields.clone(), columns, nulls)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_line_come_back() {
        let check = |line: &str, expected: &[Option<&str>]| {
            let expected: Vec<_> = expected.iter().map(|cell| cell.map(String::from)).collect();
            assert_eq!(csv_cells(line), expected, "{line}");
        };
        check("1,a", &[Some("1"), Some("a")]);
        check("1,,\"\"", &[Some("1"), None, Some("")]);
        check("\"a,b\",\"c\\\"d\"", &[Some("a,b"), Some("c\"d")]);
        check("", &[None]);
        check("a,", &[Some("a"), None]);
        for text in ["", "a,b", "\"x", "a\nb", "plain"] {
            assert_eq!(csv_cells(&csv_cell(text)), [Some(text.to_string())], "{text:?}");
        }
    }
}
