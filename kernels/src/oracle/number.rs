//! The oracle's numbers: computed wide, then asked whether the type holds them; `None` if not.

use arrow::datatypes::{DataType, i256};

use super::Scalar;
use crate::expr::ArithmeticOp;

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// The integer, if the type holds it.
pub fn fits(value: i128, to: &DataType) -> Option<i64> {
    let bits = match to {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 | DataType::Date32 => 32,
        _ => 64,
    };
    let end = 1_i128 << (bits - 1);
    (-end..end).contains(&value).then_some(value as i64)
}

pub fn arithmetic(
    op: ArithmeticOp,
    (a, a_type): (Scalar, &DataType),
    (b, b_type): (Scalar, &DataType),
    to: &DataType,
) -> Option<Scalar> {
    let divides = matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder);
    let zero = match b {
        Scalar::Integer(b) => b == 0,
        Scalar::Float(b) => b == 0.0,
        Scalar::Decimal(b) => b == 0,
        _ => false,
    };
    if divides && zero {
        return None;
    }
    match (a, b) {
        (Scalar::Integer(a), Scalar::Integer(b)) => {
            let (a, b) = (i128::from(a), i128::from(b));
            let wide = match op {
                ArithmeticOp::Add => a + b,
                ArithmeticOp::Subtract => a - b,
                ArithmeticOp::Multiply => a * b,
                ArithmeticOp::Divide => a / b,
                ArithmeticOp::Remainder => a % b,
            };
            integer(wide, to)
        }
        (Scalar::Float(a), Scalar::Float(b)) if *to == DataType::Float32 => {
            let (a, b) = (a as f32, b as f32);
            Some(float(f64::from(match op {
                ArithmeticOp::Add => a + b,
                ArithmeticOp::Subtract => a - b,
                ArithmeticOp::Multiply => a * b,
                ArithmeticOp::Divide => a / b,
                ArithmeticOp::Remainder => a % b,
            })))
        }
        (Scalar::Float(a), Scalar::Float(b)) => Some(float(match op {
            ArithmeticOp::Add => a + b,
            ArithmeticOp::Subtract => a - b,
            ArithmeticOp::Multiply => a * b,
            ArithmeticOp::Divide => a / b,
            ArithmeticOp::Remainder => a % b,
        })),
        (Scalar::Decimal(a), Scalar::Decimal(b)) => {
            let (s, t, (precision, scale)) = (scale_of(a_type), scale_of(b_type), parameters(to));
            let exact = decimal(op, (a, s), (b, t), scale)?.to_i128()?;
            (exact.unsigned_abs() < 10_u128.pow(precision)).then_some(Scalar::Decimal(exact))
        }
        (a, b) => unreachable!("no arithmetic of {a:?} and {b:?}: Expr::check refuses it"),
    }
}

/// There is one NaN.
fn float(value: f64) -> Scalar {
    Scalar::Float(if value.is_nan() { f64::from_bits(0x7ff8 << 48) } else { value })
}

/// The unscaled result; `None` above 2^255.
fn decimal(op: ArithmeticOp, (a, s): (i128, i32), (b, t): (i128, i32), to: i32) -> Option<i256> {
    let (a, b, common) = (i256::from(a), i256::from(b), s.max(t));
    let alike = || Some((rescale(a, s, common)?, rescale(b, t, common)?));
    match op {
        ArithmeticOp::Add => alike().and_then(|(a, b)| rescale(a.checked_add(b)?, common, to)),
        ArithmeticOp::Subtract => alike().and_then(|(a, b)| rescale(a.checked_sub(b)?, common, to)),
        ArithmeticOp::Remainder => {
            alike().and_then(|(a, b)| rescale(a.checked_rem(b)?, common, to))
        }
        ArithmeticOp::Multiply => rescale(a.checked_mul(b)?, s + t, to),
        // a / 10^s / (b / 10^t) = q / 10^to, so q = a * 10^(to + t - s) / b.
        ArithmeticOp::Divide if to + t >= s => half_up(a.checked_mul(power(to + t - s))?, b),
        ArithmeticOp::Divide => half_up(a, b.checked_mul(power(s - to - t))?),
    }
}

fn rescale(value: i256, from: i32, to: i32) -> Option<i256> {
    if to >= from { value.checked_mul(power(to - from)) } else { half_up(value, power(from - to)) }
}

fn power(digits: i32) -> i256 {
    i256::from(10).checked_pow(digits.unsigned_abs()).expect("two scales add up to at most 76")
}

/// Rounds to the nearest, halves away from zero: twice the rest is at least the divisor.
fn half_up(a: i256, b: i256) -> Option<i256> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let up = rest.checked_abs()?.checked_mul(2.into())? >= b.checked_abs()?;
    let one = i256::from(if a.is_negative() == b.is_negative() { 1 } else { -1 });
    if up { quotient.checked_add(one) } else { Some(quotient) }
}

fn parameters(data_type: &DataType) -> (u32, i32) {
    match data_type {
        DataType::Decimal128(precision, scale) => (u32::from(*precision), i32::from(*scale)),
        other => unreachable!("{other} is no decimal: Expr::check refuses it"),
    }
}

fn scale_of(data_type: &DataType) -> i32 {
    parameters(data_type).1
}

pub fn negate(value: Scalar, to: &DataType) -> Option<Scalar> {
    match value {
        Scalar::Integer(value) => integer(-i128::from(value), to),
        Scalar::Float(value) => Some(float(-value)),
        Scalar::Decimal(value) => Some(Scalar::Decimal(-value)),
        other => Some(other),
    }
}

pub fn cast(value: Scalar, from: &DataType, to: &DataType) -> Option<Scalar> {
    if from == to {
        return Some(value);
    }
    let is_timestamp = |t: &DataType| matches!(t, DataType::Timestamp(..));
    match (value, to) {
        (Scalar::Null, _) => Some(Scalar::Null),
        (Scalar::Boolean(value), to) => cast(Scalar::Integer(value.into()), &DataType::Int8, to),
        (Scalar::Integer(days), to) if *from == DataType::Date32 && is_timestamp(to) => {
            integer(i128::from(days) * i128::from(US_PER_DAY), to)
        }
        (Scalar::Integer(us), to) if is_timestamp(from) => match to {
            DataType::Timestamp(..) => Some(Scalar::Integer(us)),
            DataType::Date32 => integer(us.div_euclid(US_PER_DAY).into(), to),
            DataType::Float32 => Some(float(f64::from((us as f64 / 1e6) as f32))),
            DataType::Float64 => Some(float(us as f64 / 1e6)),
            DataType::Decimal128(..) => decimal_of(i256::from(us), 6, to),
            _ => integer(us.div_euclid(US_PER_SECOND).into(), to),
        },
        (Scalar::Integer(value), to) => match to {
            DataType::Boolean => Some(Scalar::Boolean(value != 0)),
            DataType::Float32 => Some(float(f64::from(value as f32))),
            DataType::Float64 => Some(float(value as f64)),
            DataType::Decimal128(..) => decimal_of(i256::from(value), 0, to),
            DataType::Timestamp(..) => integer(i128::from(value) * i128::from(US_PER_SECOND), to),
            _ => integer(value.into(), to),
        },
        (Scalar::Float(value), to) => match to {
            DataType::Boolean => Some(Scalar::Boolean(value != 0.0)),
            DataType::Float32 => Some(float(f64::from(value as f32))),
            DataType::Float64 => Some(float(value)),
            DataType::Decimal128(..) => decimal_of_text(value, to),
            DataType::Timestamp(..) => truncated(value * 1e6, to),
            _ => truncated(value, to),
        },
        (Scalar::Decimal(value), to) => {
            let scale = scale_of(from);
            let number = format!("{value}e-{scale}");
            match to {
                DataType::Boolean => Some(Scalar::Boolean(value != 0)),
                DataType::Float32 => number.parse::<f32>().ok().map(|v| float(v.into())),
                DataType::Float64 => number.parse().ok().map(float),
                DataType::Decimal128(..) => decimal_of(value.into(), scale, to),
                DataType::Timestamp(..) => {
                    let us = i256::from(value).checked_mul(US_PER_SECOND.into());
                    let us = us.and_then(|us| us.checked_div(power(scale))?.to_i128());
                    us.and_then(|us| integer(us, to))
                }
                _ => integer(value / 10_i128.pow(scale.unsigned_abs()), to),
            }
        }
        (Scalar::Opaque, _) => unreachable!("no cast from {from}: Expr::check refuses it"),
    }
}

fn integer(value: i128, to: &DataType) -> Option<Scalar> {
    fits(value, to).map(Scalar::Integer)
}

/// Towards zero. Every double of a magnitude below 2^126 is exact as an `i128` once truncated.
fn truncated(value: f64, to: &DataType) -> Option<Scalar> {
    let whole = value.trunc();
    if whole.abs() < 2_f64.powi(126) { integer(whole as i128, to) } else { None }
}

fn decimal_of(value: i256, scale: i32, to: &DataType) -> Option<Scalar> {
    let (precision, to_scale) = parameters(to);
    let value = rescale(value, scale, to_scale)?.to_i128()?;
    (value.unsigned_abs() < 10_u128.pow(precision)).then_some(Scalar::Decimal(value))
}

/// By the digits that are printed: those behind the scale are cut, and the first of them rounds.
fn decimal_of_text(value: f64, to: &DataType) -> Option<Scalar> {
    if !value.is_finite() {
        return None;
    }
    let scale = scale_of(to) as usize;
    let text = format!("{}", value.abs());
    let (whole, behind) = text.split_once('.').unwrap_or((&text, ""));
    let padded = format!("{behind}{}", "0".repeat(scale + 1));
    let (kept, rest) = padded.split_at(scale);
    // `None` past 2^255: above any decimal.
    let digits = i256::from_string(&format!("{whole}{kept}"))?;
    let rounds = rest.as_bytes()[0] >= b'5';
    let size = if rounds { digits.checked_add(i256::ONE)? } else { digits };
    let signed = if value < 0.0 { size.checked_neg()? } else { size };
    decimal_of(signed, scale as i32, to)
}
