//! Numbers: rounding half up, greatest and least, and the functions of the C library.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};

use super::native::{Context, Definition, Takes};
use crate::plan::types::{bounded_decimal, is_integer, wider_number};

type Run = fn(&Context, &[ArrayRef]) -> Result<ArrayRef, String>;

const fn define(
    name: &'static str,
    takes: &'static [Takes],
    optional: usize,
    returns: fn(&[DataType]) -> DataType,
    run: Run,
) -> Definition {
    Definition { name, takes, optional, variadic: false, returns, scaled: None, alike: false, run }
}

fn double(_: &[DataType]) -> DataType {
    DataType::Float64
}

fn same(types: &[DataType]) -> DataType {
    types[0].clone()
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Any, Decimal, Double, Number, Text};
    const ONE: &[Takes] = &[Double];
    const TWO: &[Takes] = &[Double, Double];
    let plain = [
        define("sqrt", ONE, 0, double, |_, a| Ok(doubles(a, f64::sqrt))),
        define("cbrt", ONE, 0, double, |_, a| Ok(doubles(a, f64::cbrt))),
        define("exp", ONE, 0, double, |_, a| Ok(doubles(a, f64::exp))),
        define("sin", ONE, 0, double, |_, a| Ok(doubles(a, f64::sin))),
        define("cos", ONE, 0, double, |_, a| Ok(doubles(a, f64::cos))),
        define("tan", ONE, 0, double, |_, a| Ok(doubles(a, f64::tan))),
        define("asin", ONE, 0, double, |_, a| Ok(doubles(a, f64::asin))),
        define("acos", ONE, 0, double, |_, a| Ok(doubles(a, f64::acos))),
        define("atan", ONE, 0, double, |_, a| Ok(doubles(a, f64::atan))),
        define("degrees", ONE, 0, double, |_, a| Ok(doubles(a, f64::to_degrees))),
        define("radians", ONE, 0, double, |_, a| Ok(doubles(a, f64::to_radians))),
        define("sign", ONE, 0, double, |_, a| {
            Ok(doubles(a, |v| if v == 0.0 || v.is_nan() { v } else { v.signum() }))
        }),
        // NULL where there is no logarithm.
        define("ln", ONE, 0, double, |_, a| Ok(logarithm(a, f64::ln))),
        define("log10", ONE, 0, double, |_, a| Ok(logarithm(a, f64::log10))),
        define("log2", ONE, 0, double, |_, a| Ok(logarithm(a, f64::log2))),
        define("power", TWO, 0, double, |_, a| Ok(two_doubles(a, f64::powf))),
        define("atan2", TWO, 0, double, |_, a| Ok(two_doubles(a, f64::atan2))),
        define(
            "is_nan",
            ONE,
            0,
            |_| DataType::Boolean,
            |_, a| {
                let values = a[0].as_primitive::<Float64Type>().iter();
                let nan = values.map(|v| Some(v.is_some_and(f64::is_nan)));
                Ok(Arc::new(nan.collect::<arrow::array::BooleanArray>()))
            },
        ),
        define("abs", &[Number], 0, same, |_, a| abs(&a[0])),
        define("ceil", &[Number], 0, whole, |c, a| to_whole(c, &a[0], Whole::Up)),
        define("floor", &[Number], 0, whole, |c, a| to_whole(c, &a[0], Whole::Down)),
        Definition {
            scaled: Some(rounded_to),
            ..define("round", &[Number, Text], 1, rounded, |c, a| round(c, a, false))
        },
        Definition {
            scaled: Some(rounded_to),
            ..define("bround", &[Number, Text], 1, rounded, |c, a| round(c, a, true))
        },
        Definition {
            scaled: Some(rounded_to),
            ..define("ceil_scale", &[Decimal, Text], 0, rounded, |c, a| cut(c, a, Whole::Up))
        },
        Definition {
            scaled: Some(rounded_to),
            ..define("floor_scale", &[Decimal, Text], 0, rounded, |c, a| cut(c, a, Whole::Down))
        },
        define("pmod", &[Number, Number], 0, wider, pmod),
    ];
    let variadic = [("greatest", greatest as Run), ("least", least as Run)].map(|(name, run)| {
        let takes = &[Any, Any];
        Definition {
            name,
            takes,
            optional: 0,
            variadic: true,
            returns: widest,
            scaled: None,
            alike: false,
            run,
        }
    });
    plain.into_iter().chain(variadic)
}

fn doubles(args: &[ArrayRef], f: fn(f64) -> f64) -> ArrayRef {
    Arc::new(args[0].as_primitive::<Float64Type>().unary::<_, Float64Type>(f))
}

fn logarithm(args: &[ArrayRef], f: fn(f64) -> f64) -> ArrayRef {
    let values = args[0].as_primitive::<Float64Type>();
    Arc::new(values.unary_opt::<_, Float64Type>(|v| (v > 0.0 || v.is_nan()).then(|| f(v))))
}

fn two_doubles(args: &[ArrayRef], f: fn(f64, f64) -> f64) -> ArrayRef {
    let (left, right) =
        (args[0].as_primitive::<Float64Type>(), args[1].as_primitive::<Float64Type>());
    let pairs = left.iter().zip(right.iter());
    Arc::new(pairs.map(|(a, b)| Some(f(a?, b?))).collect::<arrow::array::Float64Array>())
}

fn failed(error: arrow::error::ArrowError) -> String {
    error.to_string()
}

/// Integers and decimals by their unscaled values, checked.
fn over_i128(
    values: &ArrayRef,
    to: &DataType,
    f: impl Fn(i128) -> Option<i128>,
) -> Result<ArrayRef, String> {
    let wide = match values.data_type() {
        DataType::Decimal128(_, _) => Arc::clone(values),
        _ => cast(values, &DataType::Decimal128(38, 0)).map_err(failed)?,
    };
    let wide = wide.as_primitive::<Decimal128Type>();
    let name = crate::plan::types::sql_name(to);
    let out = wide.try_unary::<_, Decimal128Type, String>(|v| {
        f(v).ok_or_else(|| format!("overflow: the result is no {name}"))
    })?;
    match to {
        DataType::Decimal128(precision, scale) => {
            let out = out.with_precision_and_scale(*precision, *scale).map_err(failed)?;
            out.validate_decimal_precision(*precision).map_err(failed)?;
            Ok(Arc::new(out))
        }
        integer => {
            let out = out.with_precision_and_scale(38, 0).map_err(failed)?;
            let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
            arrow::compute::cast_with_options(&out, integer, &options)
                .map_err(|_| format!("overflow: the result is no {name}"))
        }
    }
}

fn abs(values: &ArrayRef) -> Result<ArrayRef, String> {
    match values.data_type() {
        DataType::Float64 => {
            Ok(Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::abs)))
        }
        DataType::Float32 => {
            let wide = abs(&cast(values, &DataType::Float64).map_err(failed)?)?;
            cast(&wide, &DataType::Float32).map_err(failed)
        }
        to => over_i128(values, to, i128::checked_abs),
    }
}

#[derive(Clone, Copy)]
enum Whole {
    Up,
    Down,
}

fn whole(types: &[DataType]) -> DataType {
    match &types[0] {
        DataType::Decimal128(p, s) => {
            let digits = i32::from(*p) - i32::from(*s) + i32::from(*s > 0);
            let (precision, scale) = bounded_decimal(digits.max(1), 0);
            DataType::Decimal128(precision, scale)
        }
        _ => DataType::Int64,
    }
}

fn to_whole(context: &Context, values: &ArrayRef, way: Whole) -> Result<ArrayRef, String> {
    match values.data_type() {
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            over_i128(values, context.returns, |v| {
                let down = v.div_euclid(unit);
                Some(match way {
                    Whole::Down => down,
                    Whole::Up => down + i128::from(v.rem_euclid(unit) != 0),
                })
            })
        }
        integer if is_integer(integer) => cast(values, &DataType::Int64).map_err(failed),
        _ => {
            let values = cast(values, &DataType::Float64).map_err(failed)?;
            let values = values.as_primitive::<Float64Type>();
            let out = values.unary::<_, Int64Type>(|v| match way {
                // Out of range is the nearest BIGINT, NaN is 0: Spark's toLong.
                Whole::Down => v.floor() as i64,
                Whole::Up => v.ceil() as i64,
            });
            Ok(Arc::new(out))
        }
    }
}

fn rounded(types: &[DataType]) -> DataType {
    rounded_to(&types[0], 0)
}

/// A decimal keeps so many places and may gain a digit before them.
fn rounded_to(number: &DataType, places: i32) -> DataType {
    match number {
        DataType::Decimal128(p, s) => {
            let (p, s) = (i32::from(*p), i32::from(*s));
            let kept = places.clamp(0, s);
            let grows = i32::from(places < s);
            let precision = (p - s + kept + grows).max(1).max(1 - places);
            let (precision, scale) = bounded_decimal(precision, kept);
            DataType::Decimal128(precision, scale)
        }
        other => other.clone(),
    }
}

/// The planner hands the scale over as a text, so that it is a constant when the type is asked for.
fn round(context: &Context, args: &[ArrayRef], even: bool) -> Result<ArrayRef, String> {
    let scale = scale_of(args)?;
    match args[0].data_type() {
        DataType::Float64 | DataType::Float32 => {
            let values = cast(&args[0], &DataType::Float64).map_err(failed)?;
            let single = args[0].data_type() == &DataType::Float32;
            let values = values.as_primitive::<Float64Type>();
            // What is rounded through a decimal has no negative zero.
            let out =
                values.unary::<_, Float64Type>(|v| round_double(v, scale, even, single) + 0.0);
            cast(&(Arc::new(out) as ArrayRef), args[0].data_type()).map_err(failed)
        }
        DataType::Decimal128(_, from) => {
            let to = match context.returns {
                DataType::Decimal128(_, to) => i32::from(*to),
                _ => 0,
            };
            let drop = i32::from(*from) - scale;
            let back = to - scale;
            over_i128(&args[0], context.returns, |v| scaled(round_units(v, drop, even)?, back))
        }
        integer => over_i128(&args[0], integer, |v| {
            if scale >= 0 { Some(v) } else { scaled(round_units(v, -scale, even)?, -scale) }
        }),
    }
}

fn scale_of(args: &[ArrayRef]) -> Result<i32, String> {
    let Some(scales) = args.get(1) else { return Ok(0) };
    let scales = scales.as_string::<i32>();
    let first = scales.iter().flatten().next();
    if scales.iter().any(|scale| scale != first) {
        return Err("the scale of round is one constant".into());
    }
    let first = first.unwrap_or("0");
    first.parse().map_err(|_| format!("the scale {first:?} is no number"))
}

/// `ceil(x, 2)` and `floor(x, -1)`: Spark makes a decimal of any number first.
fn cut(context: &Context, args: &[ArrayRef], way: Whole) -> Result<ArrayRef, String> {
    let scale = scale_of(args)?;
    let (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) =
        (args[0].data_type(), context.returns)
    else {
        return Err("ceil and floor with a scale take a number".into());
    };
    let (drop, back) = (i32::from(*from) - scale, i32::from(*to) - scale);
    over_i128(&args[0], context.returns, |value| {
        let Some(unit) = 10_i128.checked_pow(drop.max(0) as u32) else { return scaled(0, 0) };
        let whole = match way {
            Whole::Down => value.div_euclid(unit),
            Whole::Up => value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0),
        };
        if drop < 0 {
            scaled(value, i32::from(*to) - i32::from(*from))
        } else {
            scaled(whole, back)
        }
    })
}

/// Drops so many digits, half away from zero or half to even.
pub fn round_units(value: i128, drop: i32, even: bool) -> Option<i128> {
    if drop <= 0 {
        return scaled(value, -drop);
    }
    let Some(unit) = 10_i128.checked_pow(drop as u32) else { return Some(0) };
    let (quotient, rest) = (value / unit, (value % unit).unsigned_abs());
    let half = unit.unsigned_abs() / 2;
    let up = match rest.cmp(&half) {
        Ordering::Greater => true,
        Ordering::Equal => !even || quotient % 2 != 0,
        Ordering::Less => false,
    };
    Some(if up { quotient + value.signum() } else { quotient })
}

fn scaled(value: i128, digits: i32) -> Option<i128> {
    let unit = 10_i128.checked_pow(digits.unsigned_abs())?;
    if digits >= 0 { value.checked_mul(unit) } else { Some(value / unit) }
}

/// By the shortest digits of the double, as Java's BigDecimal has them.
fn round_double(value: f64, scale: i32, even: bool, single: bool) -> f64 {
    if !value.is_finite() {
        return value;
    }
    let shortest = if single { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let (mantissa, exponent) = shortest.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().expect("17 digits fit 128 bits");
    let places = fraction.len() as i32 - exponent;
    if places <= scale {
        return value;
    }
    match round_units(digits, places - scale, even) {
        Some(units) => format!("{units}e{}", -scale).parse().unwrap_or(value),
        None => value,
    }
}

fn wider(types: &[DataType]) -> DataType {
    wider_number(&types[0], &types[1]).unwrap_or(DataType::Float64)
}

/// The remainder, brought above zero by the divisor.
fn pmod(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let left = cast(&args[0], context.returns).map_err(failed)?;
    let right = cast(&args[1], context.returns).map_err(failed)?;
    const ZERO: &str = "division by zero in pmod";
    if let DataType::Float64 = context.returns {
        let pairs =
            left.as_primitive::<Float64Type>().iter().zip(right.as_primitive::<Float64Type>());
        let out = pairs.map(|pair| match pair {
            (Some(_), Some(0.0)) => Err(ZERO.to_string()),
            (Some(a), Some(n)) => {
                let rest = a % n;
                Ok(Some(if rest < 0.0 { (rest + n) % n } else { rest }))
            }
            _ => Ok(None),
        });
        return Ok(Arc::new(out.collect::<Result<arrow::array::Float64Array, String>>()?));
    }
    if !is_integer(context.returns) {
        return Err("pmod takes integers or doubles".into());
    }
    let left = cast(&left, &DataType::Int64).map_err(failed)?;
    let right = cast(&right, &DataType::Int64).map_err(failed)?;
    let pairs = left.as_primitive::<Int64Type>().iter().zip(right.as_primitive::<Int64Type>());
    let out = pairs.map(|pair| match pair {
        (Some(_), Some(0)) => Err(ZERO.to_string()),
        (Some(a), Some(n)) => {
            let (a, n) = (i128::from(a), i128::from(n));
            let rest = a % n;
            Ok(Some(if rest < 0 { ((rest + n) % n) as i64 } else { rest as i64 }))
        }
        _ => Ok(None),
    });
    let out: ArrayRef = Arc::new(out.collect::<Result<arrow::array::Int64Array, String>>()?);
    cast(&out, context.returns).map_err(failed)
}

fn widest(types: &[DataType]) -> DataType {
    let mut types = types.iter().filter(|t| **t != DataType::Null);
    let Some(first) = types.next() else { return DataType::Null };
    types.fold(first.clone(), |widest, t| {
        crate::plan::operators::common_type(&widest, t).unwrap_or(widest)
    })
}

fn greatest(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    extreme(context, args, Ordering::Greater)
}

fn least(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    extreme(context, args, Ordering::Less)
}

/// NULLs are passed over; NaN is the greatest.
fn extreme(context: &Context, args: &[ArrayRef], wanted: Ordering) -> Result<ArrayRef, String> {
    let values = args.iter().map(|arg| cast(arg, context.returns));
    let values = values.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let converter =
        RowConverter::new(vec![SortField::new(context.returns.clone())]).map_err(failed)?;
    let ordered = values.iter().map(|v| converter.convert_columns(std::slice::from_ref(v)));
    let ordered = ordered.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let choices = (0..context.rows).map(|row| {
        let there = (0..values.len()).filter(|column| values[*column].is_valid(row));
        let best = there.reduce(|best, column| {
            let order = ordered[column].row(row).cmp(&ordered[best].row(row));
            if order == wanted { column } else { best }
        });
        (best.unwrap_or(0), row)
    });
    let columns: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    interleave(&columns, &choices.collect::<Vec<_>>()).map_err(failed)
}
