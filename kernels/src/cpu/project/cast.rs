//! Casts, Spark's in ANSI mode: what the target cannot hold is an error, never a nearby value.
//!
//! Floats and decimals become integers by truncation; decimals are rescaled half up; a float becomes
//! the decimal that its shortest text says. Integers and timestamps convert by whole seconds
//! (downwards), integers and dates by days; dates and timestamps meet at midnight UTC.
//! Two of Spark's ways are not followed: 2^63 as a double does not become the greatest BIGINT, and
//! NaN as a decimal is an error, not NULL.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, i256};
use std::fmt::Write;

use super::arithmetic::Float;
use super::decimal::{Shift, limit, within};
use super::value::{Native, Value};

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

pub fn cast(value: Value, to: &DataType) -> Value {
    match value.array.data_type().clone() {
        from if from == *to => value,
        DataType::Boolean => from_boolean(value, to),
        DataType::Int8 => from_integer::<i8>(value, to),
        DataType::Int16 => from_integer::<i16>(value, to),
        DataType::Int32 => from_integer::<i32>(value, to),
        DataType::Int64 => from_integer::<i64>(value, to),
        DataType::Float32 => from_float::<f32>(value, to),
        DataType::Float64 => from_float::<f64>(value, to),
        DataType::Decimal128(_, scale) => from_decimal(value, i32::from(scale), to),
        DataType::Date32 => from_date(value, to),
        DataType::Timestamp(..) => from_timestamp(value, to),
        from => refuse(&from, to),
    }
}

fn from_integer<A: Native + Into<i64>>(value: Value, to: &DataType) -> Value {
    match to {
        DataType::Int8 => value.convert(to, |v: A| narrow::<i8>(v.into())),
        DataType::Int16 => value.convert(to, |v: A| narrow::<i16>(v.into())),
        DataType::Int32 | DataType::Date32 => value.convert(to, |v: A| narrow::<i32>(v.into())),
        DataType::Int64 => value.convert(to, |v: A| (v.into(), false)),
        DataType::Float32 => value.convert(to, |v: A| (v.into() as f32, false)),
        DataType::Float64 => value.convert(to, |v: A| (v.into() as f64, false)),
        DataType::Boolean => value.test(|v: A| v.into() != 0),
        DataType::Timestamp(..) => {
            value.convert(to, |v: A| v.into().overflowing_mul(US_PER_SECOND))
        }
        &DataType::Decimal128(precision, scale) => {
            let (shift, limit) = (Shift::by(i32::from(scale)), limit(precision));
            // What does not fit 128 bits fits no decimal either.
            value.convert(to, |v: A| within(shift.narrow(i128::from(v.into())), limit))
        }
        _ => refuse(value.array.data_type(), to),
    }
}

fn from_float<A: Float + Into<f64>>(value: Value, to: &DataType) -> Value {
    match to {
        DataType::Int8 => value.convert(to, |v: A| truncate::<i8>(v.into())),
        DataType::Int16 => value.convert(to, |v: A| truncate::<i16>(v.into())),
        DataType::Int32 => value.convert(to, |v: A| truncate::<i32>(v.into())),
        DataType::Int64 => value.convert(to, |v: A| truncate::<i64>(v.into())),
        DataType::Float32 => value.convert(to, |v: A| ((v.into() as f32).canonical(), false)),
        DataType::Float64 => value.convert(to, |v: A| (v.into().canonical(), false)),
        DataType::Boolean => value.test(|v: A| v.into() != 0.0),
        DataType::Timestamp(..) => {
            value.convert(to, |v: A| truncate::<i64>(v.into() * US_PER_SECOND as f64))
        }
        &DataType::Decimal128(precision, scale) => {
            let (scale, limit) = (i32::from(scale), limit(precision));
            value.convert(to, |v: A| within(decimal_of_float(v.into(), scale), limit))
        }
        _ => refuse(value.array.data_type(), to),
    }
}

fn from_decimal(value: Value, scale: i32, to: &DataType) -> Value {
    let whole = 10_i128.pow(scale.unsigned_abs());
    let integer = move |v: i128| i64::try_from(v / whole);
    fn narrowed<T: TryFrom<i64> + Default>(
        value: Result<i64, std::num::TryFromIntError>,
    ) -> (T, bool) {
        value.map_or((T::default(), true), narrow)
    }
    match to {
        DataType::Int8 => value.convert(to, |v| narrowed::<i8>(integer(v))),
        DataType::Int16 => value.convert(to, |v| narrowed::<i16>(integer(v))),
        DataType::Int32 => value.convert(to, |v| narrowed::<i32>(integer(v))),
        DataType::Int64 => value.convert(to, |v| narrowed::<i64>(integer(v))),
        DataType::Float32 => value.convert(to, |v| (f32_of_decimal(v, scale), false)),
        DataType::Float64 => value.convert(to, |v| (f64_of_decimal(v, scale), false)),
        DataType::Boolean => value.test(|v: i128| v != 0),
        DataType::Timestamp(..) => value.convert(to, |v: i128| {
            let us = i256::from(v).wrapping_mul(i256::from_i128(US_PER_SECOND.into()));
            let us = us.checked_div(whole.into()).and_then(i256::to_i128);
            narrowed::<i64>(us.map_or(i64::try_from(i128::MAX), i64::try_from))
        }),
        &DataType::Decimal128(precision, new) => {
            let (shift, limit) = (Shift::by(i32::from(new) - scale), limit(precision));
            // Both scales are at most 38: what does not fit 128 bits fits no decimal either.
            value.convert(to, |v| within(shift.narrow(v), limit))
        }
        _ => refuse(value.array.data_type(), to),
    }
}

fn from_boolean(value: Value, to: &DataType) -> Value {
    fn choose<T: Native>(value: Value, to: &DataType, yes: T) -> Value {
        let bits = value.array.as_boolean().values();
        let values = bits.iter().map(|bit| if bit { yes } else { T::default() }).collect();
        let array = T::array(to, values, value.nulls());
        Value { array, ..value }
    }
    match to {
        DataType::Int8 => choose(value, to, 1_i8),
        DataType::Int16 => choose(value, to, 1_i16),
        DataType::Int32 => choose(value, to, 1_i32),
        DataType::Int64 => choose(value, to, 1_i64),
        DataType::Float32 => choose(value, to, 1_f32),
        DataType::Float64 => choose(value, to, 1_f64),
        DataType::Decimal128(..) => cast(choose(value, &DataType::Int8, 1_i8), to),
        _ => refuse(&DataType::Boolean, to),
    }
}

fn from_date(value: Value, to: &DataType) -> Value {
    match to {
        DataType::Int32 => value.convert(to, |v: i32| (v, false)),
        DataType::Int64 => value.convert(to, |v: i32| (i64::from(v), false)),
        DataType::Timestamp(..) => {
            value.convert(to, |v: i32| i64::from(v).overflowing_mul(US_PER_DAY))
        }
        _ => refuse(&DataType::Date32, to),
    }
}

fn from_timestamp(value: Value, to: &DataType) -> Value {
    let seconds = |v: i64| v.div_euclid(US_PER_SECOND);
    match to {
        DataType::Int8 => value.convert(to, |v| narrow::<i8>(seconds(v))),
        DataType::Int16 => value.convert(to, |v| narrow::<i16>(seconds(v))),
        DataType::Int32 => value.convert(to, |v| narrow::<i32>(seconds(v))),
        DataType::Int64 => value.convert(to, |v| (seconds(v), false)),
        DataType::Float32 => {
            value.convert(to, |v: i64| ((v as f64 / US_PER_SECOND as f64) as f32, false))
        }
        DataType::Float64 => value.convert(to, |v: i64| (v as f64 / US_PER_SECOND as f64, false)),
        DataType::Date32 => value.convert(to, |v: i64| narrow::<i32>(v.div_euclid(US_PER_DAY))),
        // Another zone is another way to print the same instant.
        DataType::Timestamp(..) => value.convert(to, |v: i64| (v, false)),
        &DataType::Decimal128(precision, scale) => {
            let (shift, limit) = (Shift::by(i32::from(scale) - 6), limit(precision));
            value.convert(to, |v: i64| within(shift.narrow(v.into()), limit))
        }
        _ => refuse(value.array.data_type(), to),
    }
}

fn refuse(from: &DataType, to: &DataType) -> ! {
    unreachable!("no cast from {from} to {to}: Expr::check refuses it")
}

fn narrow<T: TryFrom<i64> + Default>(value: i64) -> (T, bool) {
    T::try_from(value).map_or((T::default(), true), |value| (value, false))
}

/// Towards zero; NaN and what is out of range fail. The bounds are powers of two, exact as doubles.
fn truncate<T: TryFrom<i64> + Default>(value: f64) -> (T, bool) {
    const END: f64 = 9_223_372_036_854_775_808.0;
    let whole = value.trunc();
    let (narrowed, fails) = narrow(whole as i64);
    (narrowed, fails | !(-END..END).contains(&whole))
}

/// Text on the stack: the longest here is a sign, 39 digits and an exponent.
struct Text {
    bytes: [u8; 64],
    used: usize,
}

impl Text {
    fn of(arguments: std::fmt::Arguments<'_>) -> Text {
        let mut text = Text { bytes: [0; 64], used: 0 };
        text.write_fmt(arguments).expect("a number is shorter than 64 bytes");
        text
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).expect("numbers are ASCII")
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.used + s.len();
        self.bytes.get_mut(self.used..end).ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// The float's shortest text that reads back as itself, as a decimal: 0.1 is 0.1, as in Spark.
///
/// `None`: not a number, or above 128 bits.
fn decimal_of_float(value: f64, scale: i32) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    let text = Text::of(format_args!("{value:e}"));
    let (mantissa, exponent) = text.as_str().split_once('e').expect("the form is 1.5e7");
    let mut digits: i128 = 0;
    let mut behind_point = None;
    for byte in mantissa.bytes() {
        match byte {
            b'.' => behind_point = Some(0),
            b'0'..=b'9' => {
                digits = digits * 10 + i128::from(byte - b'0');
                behind_point = behind_point.map(|digits| digits + 1);
            }
            _ => {}
        }
    }
    let digits = if value.is_sign_negative() { -digits } else { digits };
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    match exponent - behind_point.unwrap_or(0) + scale {
        _ if digits == 0 => Some(0),
        shift if shift > 38 => None,
        // 17 digits at most: below a half of the last place.
        shift if shift < -38 => Some(0),
        shift => Shift::by(shift).narrow(digits),
    }
}

/// Powers of ten that a double holds exactly; the first eleven are exact as floats, too.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Correctly rounded: by one division of exact operands, else by way of the text.
fn f64_of_decimal(value: i128, scale: i32) -> f64 {
    match POWERS.get(scale as usize) {
        Some(power) if value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS => value as f64 / power,
        _ => decimal_text(value, scale).as_str().parse().expect("the form is 15e-1"),
    }
}

/// As for doubles, and not by way of one: that would round twice.
fn f32_of_decimal(value: i128, scale: i32) -> f32 {
    match POWERS[..=10].get(scale as usize) {
        Some(&power) if value.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS => {
            value as f32 / power as f32
        }
        _ => decimal_text(value, scale).as_str().parse().expect("the form is 15e-1"),
    }
}

fn decimal_text(value: i128, scale: i32) -> Text {
    Text::of(format_args!("{value}e-{scale}"))
}
