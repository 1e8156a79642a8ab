//! Numbers: logarithms, hyperbolic functions, bits, other bases, and what stands for NULL or NaN.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};

use super::native::{Definition, Takes, define};

fn double(_: &[DataType]) -> DataType {
    DataType::Float64
}

fn long(_: &[DataType]) -> DataType {
    DataType::Int64
}

fn same(types: &[DataType]) -> DataType {
    types[0].clone()
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Double, Int, Long, Number, Text};
    const ONE: &[Takes] = &[Double];
    const TWO: &[Takes] = &[Double, Double];
    [
        define("log", TWO, 1, double, |_, a| Ok(log(a))),
        // NULL where there is no logarithm.
        define("log1p", ONE, 0, double, |_, a| {
            Ok(some(a, |v| (v > -1.0 || v.is_nan()).then(|| v.ln_1p())))
        }),
        define("expm1", ONE, 0, double, |_, a| Ok(each(a, f64::exp_m1))),
        define("sinh", ONE, 0, double, |_, a| Ok(each(a, f64::sinh))),
        define("cosh", ONE, 0, double, |_, a| Ok(each(a, f64::cosh))),
        define("tanh", ONE, 0, double, |_, a| Ok(each(a, f64::tanh))),
        define("asinh", ONE, 0, double, |_, a| Ok(each(a, f64::asinh))),
        define("acosh", ONE, 0, double, |_, a| Ok(each(a, f64::acosh))),
        define("atanh", ONE, 0, double, |_, a| Ok(each(a, f64::atanh))),
        define("cot", ONE, 0, double, |_, a| Ok(each(a, |v| 1.0 / v.tan()))),
        define("sec", ONE, 0, double, |_, a| Ok(each(a, |v| 1.0 / v.cos()))),
        define("csc", ONE, 0, double, |_, a| Ok(each(a, |v| 1.0 / v.sin()))),
        define("rint", ONE, 0, double, |_, a| Ok(each(a, f64::round_ties_even))),
        define("hypot", TWO, 0, double, |_, a| {
            let pairs = doubles(&a[0]).iter().zip(doubles(&a[1]));
            Ok(Arc::new(pairs.map(|(x, y)| Some(x?.hypot(y?))).collect::<Float64Array>()))
        }),
        define("nanvl", TWO, 0, double, |_, a| {
            let pairs = doubles(&a[0]).iter().zip(doubles(&a[1]));
            let pick = |(x, y): (Option<f64>, Option<f64>)| if x?.is_nan() { y } else { x };
            Ok(Arc::new(pairs.map(pick).collect::<Float64Array>()))
        }),
        define("factorial", &[Int], 0, long, |_, a| {
            let values = a[0].as_primitive::<Int32Type>().iter();
            let factorial = |n: i32| (0..=20).contains(&n).then(|| (1..=i64::from(n)).product());
            Ok(Arc::new(values.map(|n| factorial(n?)).collect::<Int64Array>()))
        }),
        define("conv", &[Text, Int, Int], 0, |_| DataType::Utf8, |_, a| Ok(conv(a))),
        define(
            "bin",
            &[Long],
            0,
            |_| DataType::Utf8,
            |_, a| {
                let values = a[0].as_primitive::<Int64Type>().iter();
                Ok(Arc::new(values.map(|v| v.map(|v| format!("{v:b}"))).collect::<StringArray>()))
            },
        ),
        define("shiftleft", &[Number, Int], 0, shifted, |_, a| {
            shift(a, |v, n| v << (n & 31), |v, n| v << (n & 63))
        }),
        define("shiftright", &[Number, Int], 0, shifted, |_, a| {
            shift(a, |v, n| v >> (n & 31), |v, n| v >> (n & 63))
        }),
        define("shiftrightunsigned", &[Number, Int], 0, shifted, |_, a| {
            let int = |v: i32, n: i32| ((v as u32) >> (n & 31)) as i32;
            shift(a, int, |v, n| ((v as u64) >> (n & 63)) as i64)
        }),
        define(
            "bit_count",
            &[Takes::Any],
            0,
            |_| DataType::Int32,
            |_, a| {
                let longs =
                    cast(&a[0], &DataType::Int64).map_err(|_| "bit_count takes an integer")?;
                let longs = longs.as_primitive::<Int64Type>().iter();
                Ok(Arc::new(
                    longs.map(|v| v.map(|v| v.count_ones() as i32)).collect::<Int32Array>(),
                ))
            },
        ),
        define("bit_get", &[Number, Int], 0, |_| DataType::Int8, |_, a| bit_get(a)),
        define("bitwise_not", &[Number], 0, same, |_, a| bitwise_not(&a[0])),
    ]
    .into_iter()
}

fn doubles(array: &ArrayRef) -> &Float64Array {
    array.as_primitive::<Float64Type>()
}

fn each(args: &[ArrayRef], f: fn(f64) -> f64) -> ArrayRef {
    Arc::new(doubles(&args[0]).unary::<_, Float64Type>(f))
}

fn some(args: &[ArrayRef], f: fn(f64) -> Option<f64>) -> ArrayRef {
    Arc::new(doubles(&args[0]).unary_opt::<_, Float64Type>(f))
}

/// `log(x)`, or `log(base, x)`; NULL where there is none.
fn log(args: &[ArrayRef]) -> ArrayRef {
    let positive = |v: f64| v > 0.0 || v.is_nan();
    let [first, second @ ..] = args else { unreachable!("one argument at least") };
    match second {
        [] => Arc::new(doubles(first).unary_opt::<_, Float64Type>(|v| positive(v).then(|| v.ln()))),
        [values, ..] => {
            let pairs = doubles(first).iter().zip(doubles(values));
            let of =
                |base: f64, v: f64| (positive(base) && positive(v)).then(|| v.ln() / base.ln());
            Arc::new(pairs.map(|(base, v)| of(base?, v?)).collect::<Float64Array>())
        }
    }
}

/// Java's: the count is taken by its low bits, 5 of them for INT and 6 for BIGINT.
/// Smaller integers are shifted as INT.
fn shifted(types: &[DataType]) -> DataType {
    if types[0] == DataType::Int64 { DataType::Int64 } else { DataType::Int32 }
}

fn shift(
    args: &[ArrayRef],
    int: fn(i32, i32) -> i32,
    long: fn(i64, i32) -> i64,
) -> Result<ArrayRef, String> {
    let counts = args[1].as_primitive::<Int32Type>();
    match args[0].data_type() {
        DataType::Int64 => {
            let pairs = args[0].as_primitive::<Int64Type>().iter().zip(counts);
            Ok(Arc::new(pairs.map(|(v, n)| Some(long(v?, n?))).collect::<Int64Array>()))
        }
        DataType::Int32 => {
            let pairs = args[0].as_primitive::<Int32Type>().iter().zip(counts);
            Ok(Arc::new(pairs.map(|(v, n)| Some(int(v?, n?))).collect::<Int32Array>()))
        }
        DataType::Int8 | DataType::Int16 => {
            let value = cast(&args[0], &DataType::Int32).map_err(|error| error.to_string())?;
            shift(&[value, Arc::clone(&args[1])], int, long)
        }
        _ => Err("bits are shifted in integers".into()),
    }
}

fn bit_get(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let bits = match args[0].data_type() {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        DataType::Int64 => 64,
        _ => return Err("bit_get takes an integer".into()),
    };
    let values = cast(&args[0], &DataType::Int64).map_err(|error| error.to_string())?;
    let pairs = values.as_primitive::<Int64Type>().iter().zip(args[1].as_primitive::<Int32Type>());
    let rows = pairs.map(|pair| match pair {
        (Some(_), Some(at)) if !(0..bits).contains(&at) => {
            Err(format!("bit_get: there is no bit {at} among {bits}"))
        }
        (Some(value), Some(at)) => Ok(Some((value >> at & 1) as i8)),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<arrow::array::Int8Array, String>>()?))
}

fn bitwise_not(values: &ArrayRef) -> Result<ArrayRef, String> {
    if !values.data_type().is_integer() {
        return Err("~ takes an integer".into());
    }
    let longs = cast(values, &DataType::Int64).map_err(|error| error.to_string())?;
    let not: ArrayRef = Arc::new(longs.as_primitive::<Int64Type>().unary::<_, Int64Type>(|v| !v));
    cast(&not, values.data_type()).map_err(|error| error.to_string())
}

/// Digits of one base as those of another; what follows a digit that is none is passed over.
fn conv(args: &[ArrayRef]) -> ArrayRef {
    let texts = args[0].as_string::<i32>();
    let [from, to] = [1, 2].map(|index: usize| args[index].as_primitive::<Int32Type>());
    let rows = texts.iter().zip(from).zip(to).map(|((text, from), to)| {
        let (text, from, to) = (text?.trim(), from?, to?);
        let base = |base: i32| (2..=36).contains(&base.abs());
        if text.is_empty() || from < 0 || !base(from) || !base(to) {
            return None;
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let digits = digits.chars().map_while(|c| c.to_digit(from as u32));
        let mut value = digits.fold(0u64, |value, digit| {
            let next = value.checked_mul(from as u64).and_then(|v| v.checked_add(digit.into()));
            next.unwrap_or(u64::MAX)
        });
        if negative {
            value = if value > i64::MAX as u64 { u64::MAX } else { value.wrapping_neg() };
        }
        let signed = to < 0 && (value as i64) < 0;
        if signed {
            value = value.wrapping_neg();
        }
        let mut out = Vec::new();
        let base = u64::from(to.unsigned_abs());
        loop {
            let digit = (value % base) as u32;
            let digit = char::from_digit(digit, to.unsigned_abs()).expect("less than the base");
            out.push(digit.to_ascii_uppercase());
            value /= base;
            if value == 0 {
                break;
            }
        }
        if signed {
            out.push('-');
        }
        Some(out.into_iter().rev().collect::<String>())
    });
    Arc::new(rows.collect::<StringArray>())
}
