//! Spark's casts in ANSI mode where text is on one side, or a day that the zone decides; the others
//! are the kernels'.
//!
//! Text is trimmed before it is read. A text that is no value of the type is an error of its row
//! (NULL in `try_cast`), never a nearby value.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, DurationSecondType, FieldRef, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use datafusion_common::{Result, exec_datafusion_err, not_impl_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use jiff::tz::TimeZone;
use pelton_kernels::cpu::project;
use pelton_kernels::expr::{Expr as Kernel, ExprKind, can_cast};

use super::text_time::{date_text, read_date, read_timestamp, timestamp_text};
use super::time::UTC;
use crate::plan::types::sql_name;

const SECONDS_PER_DAY: i64 = 86_400;

/// `CAST(x AS to)`, or with `try_` `TRY_CAST`: NULL where the cast fails.
pub fn spark_cast(to: DataType, try_: bool, zone: &TimeZone) -> ScalarUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    let zone_name = zone.iana_name().unwrap_or_default().to_string();
    ScalarUDF::new_from_impl(SparkCast { to, try_, zone: zone.clone(), zone_name, signature })
}

#[derive(Debug, PartialEq, Eq)]
struct SparkCast {
    to: DataType,
    try_: bool,
    zone: TimeZone,
    zone_name: String,
    signature: Signature,
}

impl std::hash::Hash for SparkCast {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.to, self.try_, &self.zone_name).hash(state);
    }
}

impl ScalarUDFImpl for SparkCast {
    fn name(&self) -> &str {
        if self.try_ { "try_cast" } else { "cast" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = matches!(args.args[0], ColumnarValue::Scalar(_));
        let rows = if constant { 1 } else { args.number_rows };
        let from = args.args[0].to_array(rows)?;
        let cast = Cast { to: &self.to, try_: self.try_, zone: &self.zone };
        let values = cast.run(&from)?;
        if constant {
            let value = datafusion_common::ScalarValue::try_from_array(&values, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(values))
    }
}

struct Cast<'a> {
    to: &'a DataType,
    try_: bool,
    zone: &'a TimeZone,
}

impl Cast<'_> {
    fn run(&self, from: &ArrayRef) -> Result<ArrayRef> {
        use DataType::*;
        if from.data_type() == self.to {
            return Ok(Arc::clone(from));
        }
        match (from.data_type(), self.to) {
            (Null, to) => Ok(arrow::array::new_null_array(to, from.len())),
            (Utf8, _) => self.read(from.as_string::<i32>()),
            (LargeUtf8 | Utf8View, _) => self.run(&arrow::compute::cast(from, &Utf8)?),
            (_, Utf8) => Ok(self.write(from)?),
            (Duration(TimeUnit::Second), Int8 | Int16 | Int32 | Int64) => {
                let lengths = from.as_primitive::<DurationSecondType>();
                let days: ArrayRef =
                    Arc::new(lengths.unary::<_, Int64Type>(|seconds| seconds / SECONDS_PER_DAY));
                self.run(&days)
            }
            (Duration(_), Duration(_)) => Ok(arrow::compute::cast(from, self.to)?),
            (Timestamp(_, _), Date32) => self.days(from),
            (Date32, Timestamp(_, _)) => self.midnights(from),
            (Timestamp(_, _), Timestamp(_, _)) => self.rezone(from),
            (found, to) if can_cast(found, to) => self.kernel(from),
            (List(_), List(_)) => Ok(arrow::compute::cast(from, self.to)?),
            (Struct(of), Struct(to)) if of.len() == to.len() => {
                let structs = from.as_struct();
                let field = |(column, to): (&ArrayRef, &FieldRef)| {
                    Cast { to: to.data_type(), try_: self.try_, zone: self.zone }.run(column)
                };
                let columns = structs.columns().iter().zip(to).map(field);
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let nulls = structs.nulls().cloned();
                Ok(Arc::new(StructArray::new(to.clone(), columns, nulls)))
            }
            (found, to) => {
                not_impl_err!("a cast of {} to {}", sql_name(found), sql_name(to))
            }
        }
    }

    /// A cast that the kernels do, where `try_cast` or a part of a larger expression needs it.
    fn kernel(&self, from: &ArrayRef) -> Result<ArrayRef> {
        let column = Kernel::column(0, from.data_type().clone());
        let cast = Kernel { kind: ExprKind::Cast(Box::new(column)), data_type: self.to.clone() };
        let columns = [Arc::clone(from)];
        let evaluated = project::evaluate(&cast, &columns, from.len());
        match evaluated.errors.and_then(|bits| bits.set_indices().next()) {
            Some(row) if !self.try_ => {
                let reason = crate::plan::diagnose::diagnose(&cast, &columns, row);
                Err(exec_datafusion_err!("{reason}"))
            }
            _ => Ok(evaluated.values),
        }
    }

    fn failed(&self, text: &str) -> datafusion_common::DataFusionError {
        let to = sql_name(self.to);
        exec_datafusion_err!("the text {text:?} cannot be cast to {to}")
    }

    /// Each text as a value; NULL stays NULL.
    fn each<T>(
        &self,
        texts: &StringArray,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let one = |text: Option<&str>| {
            let Some(text) = text else { return Ok(None) };
            match read(trimmed(text)) {
                None if !self.try_ => Err(self.failed(text)),
                value => Ok(value),
            }
        };
        texts.iter().map(one).collect()
    }

    fn read(&self, texts: &StringArray) -> Result<ArrayRef> {
        use DataType::*;
        Ok(match self.to {
            Boolean => Arc::new(BooleanArray::from(self.each(texts, read_boolean)?)),
            Int8 => Arc::new(Int8Array::from(self.each(texts, read_integer)?)),
            Int16 => Arc::new(Int16Array::from(self.each(texts, read_integer)?)),
            Int32 => Arc::new(Int32Array::from(self.each(texts, read_integer)?)),
            Int64 => Arc::new(Int64Array::from(self.each(texts, read_integer)?)),
            Float32 => Arc::new(Float32Array::from(self.each(texts, read_float::<f32>)?)),
            Float64 => Arc::new(Float64Array::from(self.each(texts, read_float::<f64>)?)),
            Decimal128(precision, scale) => {
                let values = self.each(texts, |text| read_decimal(text, *precision, *scale))?;
                let values = Decimal128Array::from(values);
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
            Date32 => Arc::new(Date32Array::from(self.each(texts, read_date)?)),
            Timestamp(_, zone) => {
                let of = if zone.is_some() { self.zone } else { &UTC };
                let values = self.each(texts, |text| read_timestamp(text, of))?;
                Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.clone()))
            }
            Binary => Arc::new(texts.iter().map(|t| t.map(str::as_bytes)).collect::<BinaryArray>()),
            LargeBinary | BinaryView => arrow::compute::cast(texts, self.to)?,
            to => return not_impl_err!("a cast of STRING to {}", sql_name(to)),
        })
    }

    /// Values as Spark prints them.
    fn write(&self, values: &ArrayRef) -> Result<ArrayRef> {
        use arrow::datatypes::{Float32Type, Float64Type};
        let rows = 0..values.len();
        let texts: Vec<Option<String>> = match values.data_type() {
            DataType::Float64 => {
                let doubles = values.as_primitive::<Float64Type>();
                doubles.iter().map(|v| v.map(double_text)).collect()
            }
            DataType::Float32 => {
                let floats = values.as_primitive::<Float32Type>();
                floats.iter().map(|v| v.map(float_text)).collect()
            }
            DataType::Date32 => {
                let days = values.as_primitive::<Date32Type>();
                days.iter().map(|v| v.map(date_text)).collect()
            }
            DataType::Timestamp(_, zone) => {
                let of = if zone.is_some() { self.zone } else { &UTC };
                let times = values.as_primitive::<TimestampMicrosecondType>();
                times.iter().map(|v| v.map(|us| timestamp_text(us, of))).collect()
            }
            DataType::Duration(TimeUnit::Second) => {
                let text = |seconds: i64| {
                    let mut out = Vec::new();
                    crate::format::time::days(&mut out, seconds);
                    String::from_utf8_lossy(&out).into_owned()
                };
                let lengths = values.as_primitive::<DurationSecondType>();
                lengths.iter().map(|seconds| seconds.map(text)).collect()
            }
            DataType::Duration(_) => {
                let text = |us: i64| {
                    let mut out = Vec::new();
                    crate::format::time::interval(&mut out, us);
                    String::from_utf8_lossy(&out).into_owned()
                };
                let lengths = values.as_primitive::<DurationMicrosecondType>();
                lengths.iter().map(|us| us.map(text)).collect()
            }
            DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => self.nested(values)?,
            DataType::Binary => {
                let texts = values.as_binary::<i32>().iter();
                texts.map(|v| v.map(|b| String::from_utf8_lossy(b).into_owned())).collect()
            }
            _ => {
                let text = |row| arrow::util::display::array_value_to_string(values, row);
                let texts = rows.map(|row| values.is_valid(row).then(|| text(row)).transpose());
                texts.collect::<std::result::Result<_, _>>()?
            }
        };
        Ok(Arc::new(StringArray::from(texts)))
    }

    /// `[1, 2]`, `{1, a}`, `{a -> 1}`: NULL within is `null`.
    fn nested(&self, values: &ArrayRef) -> Result<Vec<Option<String>>> {
        let of = |column: &ArrayRef| -> Result<Vec<String>> {
            let text = Cast { to: &DataType::Utf8, try_: false, zone: self.zone }.run(column)?;
            let texts = text.as_string::<i32>().iter();
            Ok(texts.map(|text| text.unwrap_or("null").to_string()).collect())
        };
        let there = |row: usize| values.is_valid(row);
        let range = |offsets: &[i32], row: usize| offsets[row] as usize..offsets[row + 1] as usize;
        let texts: Vec<String> = match values.data_type() {
            DataType::Struct(_) => {
                let columns = values.as_struct().columns().iter().map(of);
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let row = |row: usize| {
                    let fields: Vec<&str> = columns.iter().map(|c| c[row].as_str()).collect();
                    format!("{{{}}}", fields.join(", "))
                };
                (0..values.len()).map(row).collect()
            }
            DataType::Map(_, _) => {
                let maps = values.as_map();
                let (keys, held) = (of(maps.keys())?, of(maps.values())?);
                let row = |row: usize| {
                    let range = range(maps.value_offsets(), row);
                    let entries: Vec<_> =
                        range.map(|at| format!("{} -> {}", keys[at], held[at])).collect();
                    format!("{{{}}}", entries.join(", "))
                };
                (0..values.len()).map(row).collect()
            }
            _ => {
                let lists = values.as_list::<i32>();
                let items = of(lists.values())?;
                let row = |row: usize| {
                    format!("[{}]", items[range(lists.value_offsets(), row)].join(", "))
                };
                (0..values.len()).map(row).collect()
            }
        };
        Ok(texts.into_iter().enumerate().map(|(row, text)| there(row).then_some(text)).collect())
    }

    fn days(&self, from: &ArrayRef) -> Result<ArrayRef> {
        let zone = if is_zoned(from.data_type()) { self.zone } else { &UTC };
        let times = from.as_primitive::<TimestampMicrosecondType>();
        let days = times.unary::<_, Date32Type>(|us| super::time::local(us, zone).days);
        Ok(Arc::new(days))
    }

    fn midnights(&self, from: &ArrayRef) -> Result<ArrayRef> {
        let DataType::Timestamp(_, zone) = self.to else { unreachable!("matched by the caller") };
        let of = if zone.is_some() { self.zone } else { &UTC };
        let days = from.as_primitive::<Date32Type>();
        let times = days.unary::<_, TimestampMicrosecondType>(|day| super::time::midnight(day, of));
        Ok(Arc::new(times.with_timezone_opt(zone.clone())))
    }

    fn rezone(&self, from: &ArrayRef) -> Result<ArrayRef> {
        let times = from.as_primitive::<TimestampMicrosecondType>();
        let DataType::Timestamp(_, zone) = self.to else { unreachable!("matched by the caller") };
        let (from_zone, to_zone) = (is_zoned(from.data_type()), zone.is_some());
        let of = |zoned: bool| if zoned { self.zone } else { &UTC };
        let moved = times.unary::<_, TimestampMicrosecondType>(|us| {
            if from_zone == to_zone {
                return us;
            }
            let local = super::time::local(us, of(from_zone));
            super::time::instant(local.days, local.us_of_day, of(to_zone))
        });
        Ok(Arc::new(moved.with_timezone_opt(zone.clone())))
    }
}

/// Values as Spark prints them, in UTC.
pub fn as_text(values: &ArrayRef) -> std::result::Result<ArrayRef, String> {
    let cast = Cast { to: &DataType::Utf8, try_: false, zone: &UTC };
    cast.run(values).map_err(|error| error.strip_backtrace())
}

/// Values as another type's; the first that cannot be one is the error.
pub fn cast_to(
    values: &ArrayRef,
    to: &DataType,
    zone: &TimeZone,
) -> std::result::Result<ArrayRef, String> {
    let cast = Cast { to, try_: false, zone };
    cast.run(values).map_err(|error| error.strip_backtrace())
}

/// The same, NULL where a value cannot be one.
pub fn try_cast_to(
    values: &ArrayRef,
    to: &DataType,
    zone: &TimeZone,
) -> std::result::Result<ArrayRef, String> {
    let cast = Cast { to, try_: true, zone };
    cast.run(values).map_err(|error| error.strip_backtrace())
}

fn is_zoned(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

/// Blanks and control characters around a value are not part of it.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\u{7f}')
}

fn read_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn read_integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Java's: a trailing `d` or `f` belongs to the number, infinity and NaN by their names.
fn read_float<T: std::str::FromStr + From<f32>>(text: &str) -> Option<T> {
    let lower = text.to_ascii_lowercase();
    let (sign, name) = match lower.as_bytes().first()? {
        b'-' => (-1.0, &lower[1..]),
        b'+' => (1.0, &lower[1..]),
        _ => (1.0_f32, lower.as_str()),
    };
    match name {
        "inf" | "infinity" => return Some(T::from(sign * f32::INFINITY)),
        "nan" => return Some(T::from(f32::NAN)),
        _ => {}
    }
    let digits = name.strip_suffix(['d', 'f']).unwrap_or(name);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || b".e+-".contains(&b));
    if !number {
        return None;
    }
    format!("{}{digits}", if sign < 0.0 { "-" } else { "" }).parse().ok()
}

/// Any number that the precision holds once it is rounded half up to the scale.
pub fn read_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // How many of the digits stand before the last place kept.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let leading = (all.len() - significant.len()) as i64;
    if kept - leading > i64::from(precision) {
        return None;
    }
    let mut value: i128 = 0;
    for place in 0..kept.max(0) {
        let digit = all.as_bytes().get(place as usize).map_or(0, |b| i128::from(b - b'0'));
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let next = if kept < 0 { None } else { all.as_bytes().get(kept as usize) };
    if next.is_some_and(|digit| *digit >= b'5') {
        value += 1;
    }
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

/// As Java prints a double: `1.0`, `1.0E10`, `Infinity`.
pub fn double_text(value: f64) -> String {
    java_text(value, &format!("{value:e}"))
}

pub fn float_text(value: f32) -> String {
    java_text(f64::from(value), &format!("{value:e}"))
}

/// From the shortest digits in scientific form.
fn java_text(value: f64, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer");
    let negative = mantissa.starts_with('-');
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let mut out = String::from(if negative { "-" } else { "" });
    if (-3..7).contains(&exponent) {
        let whole = (exponent + 1).max(0) as usize;
        if whole == 0 {
            _ = write!(out, "0.{}{digits}", "0".repeat((-exponent - 1) as usize));
        } else if digits.len() <= whole {
            _ = write!(out, "{digits}{}.0", "0".repeat(whole - digits.len()));
        } else {
            _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
        }
    } else {
        let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
        _ = write!(out, "{}.{fraction}E{exponent}", &digits[..1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_half_up_and_bounded() {
        let check = |text, expected| assert_eq!(read_decimal(text, 6, 2), expected, "{text}");
        check("1.005", Some(101));
        check("-1.005", Some(-101));
        check("9999.99", Some(999_999));
        check("9999.995", None);
        check("10000", None);
        check("1e2", Some(10_000));
        check("12e-3", Some(1));
        check("0.004", Some(0));
        check("0.005", Some(1));
        check("000001.5", Some(150));
        check(".5", Some(50));
        check("5.", Some(500));
        check("1e-30", Some(0));
        check("x", None);
        check("", None);
        check(".", None);
    }

    #[test]
    fn doubles_print_as_java_prints_them() {
        let check = |value: f64, expected: &str| assert_eq!(double_text(value), expected);
        check(1.0, "1.0");
        check(-2.5, "-2.5");
        check(0.001, "0.001");
        check(0.0001, "1.0E-4");
        check(9_999_999.0, "9999999.0");
        check(1e7, "1.0E7");
        check(1.25e16, "1.25E16");
        check(123456.789, "123456.789");
        check(f64::NEG_INFINITY, "-Infinity");
        check(-0.0, "-0.0");
        assert_eq!(float_text(0.1), "0.1");
    }
}
