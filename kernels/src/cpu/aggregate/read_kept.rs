//! Values of the aggregates whose states are kept: counts of different values, lists, quantiles,
//! moments.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, i256};

use super::datum::{Datum, array_of};
use super::error::AggregateError;
use super::kept::{Content, Kept, Values};
use super::moments::Moments;
use super::sketch;
use super::{AggregateFunction, AggregateSpec};
use crate::cpu::big::{Big, magnitude, round_quotient};
use crate::cpu::column::{narrow_decimals, ordered_to_float};
use crate::cpu::words::FieldRef;

/// The groups' values. `counted`: rows of a group whose argument is not NULL.
///
/// Errors: `OutOfRange` where a sum leaves its type.
pub(super) fn read(
    kept: &Kept,
    field: FieldRef<'_>,
    groups: &[u32],
    spec: &AggregateSpec,
    counted: impl Fn(u32) -> u64,
) -> Result<ArrayRef, AggregateError> {
    use AggregateFunction::*;
    let contents: Vec<Option<&Content>> =
        groups.iter().map(|&group| kept.get(field, group).filter(|_| counted(group) > 0)).collect();
    let values = || contents.iter().map(|content| content.and_then(values_of));
    let moments = |of: fn(&Moments) -> Option<f64>| -> ArrayRef {
        let of = |content: &Option<&Content>| content.and_then(moments_of).and_then(of);
        Arc::new(contents.iter().map(of).collect::<Float64Array>())
    };
    let one = |pick: &dyn Fn(&Values) -> Option<Datum>| -> ArrayRef {
        let picked: Vec<Option<Datum>> = values().map(|values| pick(values?)).collect();
        array_of(&spec.output, &picked.iter().map(Option::as_ref).collect::<Vec<_>>())
    };
    Ok(match spec.function {
        CountDistinct => {
            let counts = values().map(|values| values.map_or(0, |v| v.counts.len() as i64));
            Arc::new(Int64Array::from_iter_values(counts))
        }
        ApproxCountDistinct { .. } => {
            let counts = contents.iter().map(|content| match content {
                Some(Content::Sketch(registers)) => sketch::estimate(registers),
                _ => 0,
            });
            Arc::new(Int64Array::from_iter_values(counts))
        }
        SumDistinct | AvgDistinct => distinct(values(), spec)?,
        CollectSet | CollectList => lists(&contents, spec),
        Mode => one(&mode),
        Percentile { at } => {
            let at = f64::from_bits(at);
            let values = values().map(|values| percentile(values?, at));
            Arc::new(values.collect::<Float64Array>())
        }
        PercentileDiscrete { at } | PercentileApprox { at } => {
            let at = f64::from_bits(at);
            one(&|values| nearest(values, at))
        }
        MinBy | MaxBy => {
            let best = contents.iter().map(|content| match content {
                Some(Content::Best { value, .. }) => value.as_ref(),
                _ => None,
            });
            array_of(&spec.output, &best.collect::<Vec<_>>())
        }
        RegrCount => {
            let counts = contents.iter().map(|content| content.and_then(moments_of));
            let counts = counts.map(|moments| moments.map_or(0, |m| m.count as i64));
            Arc::new(Int64Array::from_iter_values(counts))
        }
        Skewness => moments(skewness),
        Kurtosis => moments(kurtosis),
        CovarPopulation => moments(|m| pair(m, |p| p.xy / p.n)),
        CovarSample => moments(|m| pair(m, |p| p.xy / (p.n - 1.0)).filter(|_| m.count > 1)),
        Corr => moments(corr),
        RegrAvgX => moments(|m| pair(m, |p| p.avg_x)),
        RegrAvgY => moments(|m| pair(m, |p| p.avg_y)),
        RegrSxx => moments(|m| pair(m, |p| p.xx)),
        RegrSyy => moments(|m| pair(m, |p| p.yy)),
        RegrSxy => moments(|m| pair(m, |p| p.xy)),
        RegrSlope => moments(|m| slope(&pair(m, |p| p)?)),
        RegrIntercept => moments(|m| {
            let p = pair(m, |p| p)?;
            Some(p.avg_y - slope(&p)? * p.avg_x)
        }),
        RegrR2 => moments(|m| {
            let p = pair(m, |p| p)?;
            match (p.xx == 0.0, p.yy == 0.0) {
                (true, _) => None,
                (_, true) => Some(1.0),
                _ => Some(p.xy * p.xy / (p.xx * p.yy)),
            }
        }),
        other => unreachable!("{other:?} is not kept"),
    })
}

fn values_of(content: &Content) -> Option<&Values> {
    match content {
        Content::Values(values) => Some(values),
        _ => None,
    }
}

fn moments_of(content: &Content) -> Option<&Moments> {
    match content {
        Content::Moments(moments) => Some(moments),
        _ => None,
    }
}

fn lists(contents: &[Option<&Content>], spec: &AggregateSpec) -> ArrayRef {
    let DataType::List(item) = &spec.output else { unreachable!("a collection is a list") };
    let (mut all, mut lengths) = (Vec::new(), Vec::new());
    for content in contents {
        let before = all.len();
        match content {
            Some(Content::Values(values)) => all.extend(values.counts.keys()),
            Some(Content::Items(items)) => {
                let mut items: Vec<_> = items.iter().collect();
                items.sort_by_key(|(place, _)| *place);
                all.extend(items.into_iter().map(|(_, value)| value));
            }
            _ => {}
        }
        lengths.push(all.len() - before);
    }
    let items: Vec<Option<&Datum>> = all.into_iter().map(Some).collect();
    let values = array_of(item.data_type(), &items);
    Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, None))
}

/// Sum and average of the different values, exact and rounded once.
fn distinct<'a>(
    values: impl Iterator<Item = Option<&'a Values>>,
    spec: &AggregateSpec,
) -> Result<ArrayRef, AggregateError> {
    let average = spec.function == AggregateFunction::AvgDistinct;
    let input = spec.input.as_ref().expect("it has an argument");
    let out_of_range =
        || AggregateError::OutOfRange { aggregate: spec.name.clone(), output: spec.output.clone() };
    match (input, &spec.output) {
        (DataType::Float32 | DataType::Float64, _) => {
            let quotient = |values: &Values| {
                let count = if average { values.counts.len() as u64 } else { 1 };
                float_sum(values, count)
            };
            Ok(Arc::new(values.map(|v| v.map(quotient)).collect::<Float64Array>()))
        }
        (_, DataType::Float64) => {
            let quotient = |values: &Values| {
                let sum = integer_sum(values).expect("2^64 integers of 64 bits fit 128");
                let magnitude = sum.unsigned_abs();
                let limbs = [magnitude as u64, (magnitude >> 64) as u64];
                round_quotient(sum < 0, &limbs, 0, &[values.counts.len() as u64])
            };
            Ok(Arc::new(values.map(|v| v.map(quotient)).collect::<Float64Array>()))
        }
        (_, DataType::Int64) => {
            let sum = |values: Option<&Values>| {
                let Some(values) = values else { return Ok(None) };
                let sum = integer_sum(values).and_then(|sum| i64::try_from(sum).ok());
                sum.map(Some).ok_or_else(out_of_range)
            };
            Ok(Arc::new(values.map(sum).collect::<Result<Int64Array, _>>()?))
        }
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) => {
            let limit = 10i128.pow(u32::from(*precision));
            let up = i32::from(*to) - i32::from(*from);
            let one = |values: Option<&Values>| -> Result<Option<i128>, AggregateError> {
                let Some(values) = values else { return Ok(None) };
                let count = if average { values.counts.len() as u64 } else { 1 };
                let value = decimal_sum(values, up, count).filter(|v| v.abs() < limit);
                value.map(Some).ok_or_else(out_of_range)
            };
            let read = values.map(one).collect::<Result<Vec<_>, _>>()?;
            let nulls = read.iter().map(Option::is_some).collect::<Vec<bool>>().into();
            let numbers = read.into_iter().map(Option::unwrap_or_default).collect();
            Ok(narrow_decimals(&spec.output, numbers, Some(nulls)))
        }
        (input, output) => unreachable!("the layout refuses {input} to {output}"),
    }
}

fn float_sum(values: &Values, count: u64) -> f64 {
    let mut sum = Big::default();
    let (mut positive, mut negative) = (false, false);
    for value in values.counts.keys() {
        let Datum::Int(word) = value else { unreachable!("doubles are words") };
        let value = ordered_to_float(*word);
        if value.is_nan() {
            return f64::NAN;
        }
        if value.is_infinite() {
            positive |= value > 0.0;
            negative |= value < 0.0;
            continue;
        }
        let bits = value.to_bits();
        let (biased, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
        let significand = if biased == 0 { fraction } else { fraction | 1 << 52 };
        let signed = if value < 0.0 { -(significand as i64) } else { significand as i64 };
        if signed != 0 {
            sum.add(&[signed as u64], biased.max(1) - 1075);
        }
    }
    match (positive, negative) {
        (true, true) => f64::NAN,
        (true, false) => f64::INFINITY,
        (false, true) => f64::NEG_INFINITY,
        (false, false) => {
            let (limbs, exponent) = sum.parts();
            if limbs.is_empty() {
                return 0.0;
            }
            let (negative, magnitude) = magnitude(limbs);
            round_quotient(negative, &magnitude, exponent, &[count])
        }
    }
}

fn integer_sum(values: &Values) -> Option<i128> {
    values.counts.keys().try_fold(0i128, |sum, value| match value {
        Datum::Int(value) => sum.checked_add(i128::from(*value)),
        _ => None,
    })
}

/// Half away from zero, with `up` more places than the values have.
fn decimal_sum(values: &Values, up: i32, count: u64) -> Option<i128> {
    let sum = values.counts.keys().try_fold(i256::ZERO, |sum, value| match value {
        Datum::Decimal(value) => sum.checked_add(i256::from_i128(*value)),
        _ => None,
    })?;
    let dividend = sum.checked_mul(i256::from_i128(10).checked_pow(up.max(0) as u32)?)?;
    let divisor = i256::from_i128(i128::from(count));
    let two = i256::from_i128(2);
    let rounded = dividend
        .checked_abs()?
        .checked_mul(two)?
        .checked_add(divisor)?
        .checked_div(divisor.checked_mul(two)?)?;
    let signed = if dividend.is_negative() { rounded.checked_neg()? } else { rounded };
    signed.to_i128()
}

fn mode(values: &Values) -> Option<Datum> {
    let most = *values.counts.values().max()?;
    values.counts.iter().find(|(_, count)| **count == most).map(|(value, _)| value.clone())
}

/// Spark's `percentile`: between the two values around the place, by their distance.
fn percentile(values: &Values, at: f64) -> Option<f64> {
    let total = values.total();
    let place = (total - 1) as f64 * at;
    let value = |rank: f64| match values.at(rank as u64) {
        Some(Datum::Int(word)) => Some(ordered_to_float(*word)),
        _ => None,
    };
    let (lower, upper) = (place.floor(), place.ceil());
    let (low, high) = (value(lower)?, value(upper)?);
    if lower == upper || low == high {
        return Some(low);
    }
    Some((upper - place) * low + (place - lower) * high)
}

/// The value at the rank `at * total`, rounded up.
fn nearest(values: &Values, at: f64) -> Option<Datum> {
    let rank = (at * values.total() as f64).ceil().max(1.0) as u64 - 1;
    values.at(rank.min(values.total() - 1)).cloned()
}

fn skewness(moments: &Moments) -> Option<f64> {
    if moments.is_odd() {
        return Some(f64::NAN);
    }
    let n = moments.count as f64;
    let m2 = moments.deviations(1, 0, 0).over(&[moments.count]);
    (m2 != 0.0).then(|| n.sqrt() * moments.third() / (m2 * m2 * m2).sqrt())
}

fn kurtosis(moments: &Moments) -> Option<f64> {
    if moments.is_odd() {
        return Some(f64::NAN);
    }
    let m2 = moments.deviations(1, 0, 0).over(&[moments.count]);
    (m2 != 0.0).then(|| moments.count as f64 * moments.fourth() / (m2 * m2) - 3.0)
}

/// Sums of products of deviations, of y and x.
struct Pair {
    n: f64,
    avg_x: f64,
    avg_y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

/// Reads a pair's sums; NaN where a value was none that has them, none without rows.
fn pair<T>(moments: &Moments, read: fn(Pair) -> T) -> Option<T> {
    let count = moments.count;
    if count == 0 {
        return None;
    }
    let odd = |value: f64| if moments.is_odd() { f64::NAN } else { value };
    Some(read(Pair {
        n: count as f64,
        avg_y: odd(moments.sum(0).over(&[count])),
        avg_x: odd(moments.sum(1).over(&[count])),
        yy: odd(moments.deviations(2, 0, 0).over(&[count])),
        xx: odd(moments.deviations(3, 1, 1).over(&[count])),
        xy: odd(moments.deviations(4, 0, 1).over(&[count])),
    }))
}

fn slope(pair: &Pair) -> Option<f64> {
    (pair.xx != 0.0).then(|| pair.xy / pair.xx)
}

fn corr(moments: &Moments) -> Option<f64> {
    let pair = pair(moments, |pair| pair).filter(|_| moments.count > 1)?;
    let scale = (pair.xx * pair.yy).sqrt();
    (scale != 0.0).then(|| pair.xy / scale)
}
