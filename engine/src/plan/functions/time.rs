//! Dates and times: parts, arithmetic of days, texts. TIMESTAMP is read in the job's zone,
//! TIMESTAMP_NTZ as it is.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DurationMicrosecondArray, DurationSecondArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, DurationMicrosecondType, Float64Type, Int8Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use datafusion_expr::ScalarUDF;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};

use super::native::{self, Context, Definition, Takes};
use super::text_time;
use crate::plan::types::{days, length, timestamp};

pub const US_PER_DAY: i64 = 86_400_000_000;
const UNIX_DAY: Date = Date::constant(1970, 1, 1);
pub static UTC: TimeZone = TimeZone::UTC;

/// An instant as a zone's clocks show it.
pub struct Local {
    pub days: i32,
    pub us_of_day: i64,
    pub offset_seconds: i32,
}

impl Local {
    /// The microsecond at which the clocks of UTC show the same.
    pub fn us(&self) -> i64 {
        i64::from(self.days).wrapping_mul(US_PER_DAY).wrapping_add(self.us_of_day)
    }
}

/// What a zone's clocks show at an instant.
pub fn local(us: i64, zone: &TimeZone) -> Local {
    let offset_seconds = match zone.iana_name() {
        Some("UTC") => 0,
        // By seconds: `from_microsecond` does not know the last one that a timestamp can have.
        _ => Timestamp::new(us.div_euclid(1_000_000), (us.rem_euclid(1_000_000) * 1_000) as i32)
            .map_or(0, |at| zone.to_offset(at).seconds()),
    };
    let shifted = us.saturating_add(i64::from(offset_seconds) * 1_000_000);
    Local {
        days: shifted.div_euclid(US_PER_DAY) as i32,
        us_of_day: shifted.rem_euclid(US_PER_DAY),
        offset_seconds,
    }
}

/// The instant at which a zone's clocks show this; in a gap the time after it, as Java has it.
pub fn instant(days: i32, us_of_day: i64, zone: &TimeZone) -> i64 {
    instant_near(days, us_of_day, zone, None)
}

/// The same; where clocks show it twice, that of the two with this offset from UTC, or else the first.
fn instant_near(days: i32, us_of_day: i64, zone: &TimeZone, offset_seconds: Option<i32>) -> i64 {
    let us = i64::from(days).wrapping_mul(US_PER_DAY).wrapping_add(us_of_day);
    if zone.iana_name() == Some("UTC") {
        return us;
    }
    let shown = date_of(days).map(|date| {
        let second = (us_of_day / 1_000_000) as i32;
        let [hour, minute, second] = [second / 3_600, second / 60 % 60, second % 60];
        let nanos = (us_of_day % 1_000_000 * 1_000) as i32;
        zone.to_ambiguous_timestamp(date.at(hour as i8, minute as i8, second as i8, nanos))
    });
    let at = shown.and_then(|shown| match shown.offset() {
        AmbiguousOffset::Fold { after, .. } if Some(after.seconds()) == offset_seconds => {
            shown.later().ok()
        }
        _ => shown.compatible().ok(),
    });
    at.map_or(us, Timestamp::as_microsecond)
}

/// So many days later by a zone's clocks, which show the same time of day then, if they can
/// (`java.time.ZonedDateTime.plusDays`); `None` where TIMESTAMP ends before.
pub fn days_after(us: i64, days: i64, zone: &TimeZone) -> Option<i64> {
    let length = days.checked_mul(US_PER_DAY)?;
    if zone.to_fixed_offset().is_ok() {
        return us.checked_add(length);
    }
    let shown = local(us, zone);
    let us = shown.us().checked_add(length)?;
    let (day, us_of_day) = (us.div_euclid(US_PER_DAY) as i32, us.rem_euclid(US_PER_DAY));
    Some(instant_near(day, us_of_day, zone, Some(shown.offset_seconds)))
}

/// So many months later, in the same way; `None` outside of the calendar, before or after.
pub fn months_after(us: i64, months: i64, zone: &TimeZone) -> Option<i64> {
    let shown = local(us, zone);
    let day = months_later(shown.days, months)?;
    Some(instant_near(day, shown.us_of_day, zone, Some(shown.offset_seconds)))
}

fn months_later(day: i32, months: i64) -> Option<i32> {
    if months == 0 {
        return Some(day);
    }
    let months = Span::new().try_months(months).ok()?;
    Some(days_of(date_of(day)?.checked_add(months).ok()?))
}

pub fn midnight(days: i32, zone: &TimeZone) -> i64 {
    instant(days, 0, zone)
}

pub fn date_of(days: i32) -> Option<Date> {
    UNIX_DAY.checked_add(Span::new().try_days(days).ok()?).ok()
}

pub fn days_of(date: Date) -> i32 {
    (date - UNIX_DAY).get_days()
}

const fn part(
    name: &'static str,
    run: fn(&Context, &[ArrayRef]) -> Result<ArrayRef, String>,
) -> Definition {
    let takes = &[Takes::Time];
    Definition {
        name,
        takes,
        optional: 0,
        variadic: false,
        returns: int,
        scaled: None,
        alike: false,
        run,
    }
}

const fn of(
    name: &'static str,
    takes: &'static [Takes],
    optional: usize,
    returns: fn(&[DataType]) -> DataType,
    run: fn(&Context, &[ArrayRef]) -> Result<ArrayRef, String>,
) -> Definition {
    Definition { name, takes, optional, variadic: false, returns, scaled: None, alike: false, run }
}

fn int(_: &[DataType]) -> DataType {
    DataType::Int32
}

fn long(_: &[DataType]) -> DataType {
    DataType::Int64
}

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn date(_: &[DataType]) -> DataType {
    DataType::Date32
}

fn time(_: &[DataType]) -> DataType {
    timestamp()
}

fn own(types: &[DataType]) -> DataType {
    match types {
        [.., kept @ DataType::Timestamp(_, _)] => kept.clone(),
        _ => timestamp(),
    }
}

/// `end - start`, in whole days.
pub fn days_between() -> Definition {
    of(
        "days_between",
        &[Takes::Date, Takes::Date],
        0,
        |_| days(),
        |_, a| {
            let ends = a[0].as_primitive::<Date32Type>().iter();
            let pairs = ends.zip(a[1].as_primitive::<Date32Type>());
            let seconds = |(end, start): (Option<i32>, Option<i32>)| {
                Some((i64::from(end?) - i64::from(start?)) * (US_PER_DAY / 1_000_000))
            };
            Ok(Arc::new(pairs.map(seconds).collect::<DurationSecondArray>()))
        },
    )
}

/// `end - start`, by the clocks on the wall.
pub fn between() -> Definition {
    of(
        "time_between",
        &[Takes::Time, Takes::Time],
        0,
        |_| length(),
        |context, a| {
            let wall = |times: &ArrayRef, us: i64| local(us, zone_of(context, times)).us();
            let ends = a[0].as_primitive::<TimestampMicrosecondType>().iter();
            let pairs = ends.zip(a[1].as_primitive::<TimestampMicrosecondType>());
            let lengths = pairs.map(|(end, start)| match (end, start) {
                (Some(end), Some(start)) => {
                    let length = wall(&a[0], end).checked_sub(wall(&a[1], start));
                    length.map(Some).ok_or("overflow: the times are too far apart")
                }
                _ => Ok(None),
            });
            Ok(Arc::new(lengths.collect::<Result<DurationMicrosecondArray, _>>()?))
        },
    )
}

/// A time `sign` times an interval later: months, then the length's days by the zone's clocks, then the rest.
pub fn moved(zone: TimeZone) -> ScalarUDF {
    native::udf(moving(), zone)
}

fn moving() -> Definition {
    of(
        "moved",
        &[Takes::Time, Takes::Long, Takes::TimeOrLength, Takes::Long],
        0,
        |types| types[0].clone(),
        |context, a| {
            let zone = zone_of(context, &a[0]);
            let times = a[0].as_primitive::<TimestampMicrosecondType>();
            let lengths = lengths(&a[2])?;
            let [months, signs] = [1, 3].map(|at: usize| a[at].as_primitive::<Int64Type>());
            let rows = times.iter().zip(&lengths).zip(months).zip(signs).map(|row| {
                let (((Some(us), Some(length)), Some(months)), Some(sign)) = row else {
                    return Ok(None);
                };
                let (days, rest) = (sign * (length / US_PER_DAY), sign * (length % US_PER_DAY));
                let by_months = match months {
                    0 => Some(us),
                    months => months_after(us, sign * months, zone),
                };
                let by_days = match days {
                    0 => by_months,
                    days => by_months.and_then(|us| days_after(us, days, zone)),
                };
                let moved = by_days.and_then(|us| us.checked_add(rest));
                moved.map(Some).ok_or("overflow: the time is out of range for TIMESTAMP")
            });
            let out = rows.collect::<Result<TimestampMicrosecondArray, _>>()?;
            Ok(Arc::new(out.with_data_type(times.data_type().clone())))
        },
    )
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Date, Int, Long, Number, Text, Time, TimeOrLength};
    [
        part("year", |c, a| Ok(date_part(c, a, |d| d.year().into()))),
        part("quarter", |c, a| Ok(date_part(c, a, |d| i32::from((d.month() - 1) / 3 + 1)))),
        part("month", |c, a| Ok(date_part(c, a, |d| d.month().into()))),
        of("day", &[TimeOrLength], 0, int, |c, a| match a[0].data_type() {
            DataType::Duration(_) => of_length::<Int32Type>(a, |us| (us / US_PER_DAY) as i32),
            _ => Ok(date_part(c, a, |d| d.day().into())),
        }),
        part("dayofyear", |c, a| Ok(date_part(c, a, |d| d.day_of_year().into()))),
        part("dayofweek", |c, a| Ok(date_part(c, a, |d| weekday(d).to_sunday_one_offset().into()))),
        part("weekday", |c, a| Ok(date_part(c, a, |d| weekday(d).to_monday_zero_offset().into()))),
        part("weekofyear", |c, a| Ok(date_part(c, a, |d| d.iso_week_date().week().into()))),
        of("hour", &[TimeOrLength], 0, clock_type, |c, a| match a[0].data_type() {
            DataType::Duration(_) => {
                of_length::<Int8Type>(a, |us| (us % US_PER_DAY / 3_600_000_000) as i8)
            }
            _ => Ok(clock_part(c, a, |s| s / 3_600)),
        }),
        of("minute", &[TimeOrLength], 0, clock_type, |c, a| match a[0].data_type() {
            DataType::Duration(_) => {
                of_length::<Int8Type>(a, |us| (us % 3_600_000_000 / 60_000_000) as i8)
            }
            _ => Ok(clock_part(c, a, |s| s / 60 % 60)),
        }),
        part("second", |c, a| Ok(clock_part(c, a, |s| s % 60))),
        of("date_trunc", &[Text, Time], 0, own, date_trunc),
        of("to_date", &[Date], 0, date, |_, a| Ok(Arc::clone(&a[0]))),
        of("to_timestamp", &[Time], 0, own, |_, a| Ok(Arc::clone(&a[0]))),
        of("date_format", &[Time, Text], 0, text, date_format),
        of("from_unixtime", &[Long, Text], 1, text, from_unixtime),
        // Spark divides towards zero here, downwards everywhere else.
        of("unix_timestamp", &[Time], 0, long, |_, a| Ok(counted(a, |us| us / 1_000_000))),
        of("unix_seconds", &[Time], 0, long, |_, a| Ok(counted(a, |us| us.div_euclid(1_000_000)))),
        of("unix_millis", &[Time], 0, long, |_, a| Ok(counted(a, |us| us.div_euclid(1_000)))),
        of("unix_micros", &[Time], 0, long, |_, a| Ok(counted(a, |us| us))),
        of("unix_date", &[Date], 0, int, |_, a| {
            Ok(Arc::new(a[0].as_primitive::<Date32Type>().unary::<_, Int32Type>(|d| d)))
        }),
        of("timestamp_seconds", &[Number], 0, time, timestamp_seconds),
        of("timestamp_millis", &[Long], 0, time, |_, a| timestamps(a, 1_000)),
        of("timestamp_micros", &[Long], 0, time, |_, a| timestamps(a, 1)),
        of("datediff", &[Date, Date], 0, int, |_, a| {
            days_and(
                a,
                &a[1].as_primitive::<Date32Type>().clone(),
                |end, start| end.checked_sub(start),
                |out| Arc::new(out.reinterpret_cast::<Int32Type>()),
            )
        }),
        of("date_add", &[Date, Int], 0, date, |_, a| {
            days_and(a, a[1].as_primitive::<Int32Type>(), i32::checked_add, |out| Arc::new(out))
        }),
        of("date_sub", &[Date, Int], 0, date, |_, a| {
            days_and(a, a[1].as_primitive::<Int32Type>(), i32::checked_sub, |out| Arc::new(out))
        }),
        of("last_day", &[Date], 0, date, |_, a| {
            let days = a[0].as_primitive::<Date32Type>();
            let last = |day: i32| Some(days_of(date_of(day)?.last_of_month()));
            Ok(Arc::new(days.unary_opt::<_, Date32Type>(last)))
        }),
        of("add_months", &[Date, Int], 0, date, |_, a| {
            let later = |day: i32, months: i32| months_later(day, months.into());
            days_and(a, a[1].as_primitive::<Int32Type>(), later, |out| Arc::new(out))
        }),
    ]
    .into_iter()
}

fn weekday(date: Date) -> jiff::civil::Weekday {
    DateTime::from(date).weekday()
}

/// TIMESTAMP_NTZ shows the same everywhere.
pub fn zone_of<'a>(context: &Context<'a>, times: &ArrayRef) -> &'a TimeZone {
    match times.data_type() {
        DataType::Timestamp(_, None) => &UTC,
        _ => context.zone,
    }
}

/// Of an interval Spark's EXTRACT gives these as TINYINT.
fn clock_type(types: &[DataType]) -> DataType {
    match types {
        [DataType::Duration(_)] => DataType::Int8,
        _ => DataType::Int32,
    }
}

/// The microseconds of intervals.
pub fn lengths(intervals: &ArrayRef) -> Result<DurationMicrosecondArray, String> {
    let lengths = arrow::compute::cast(intervals, &length()).map_err(|error| error.to_string())?;
    Ok(lengths.as_primitive::<DurationMicrosecondType>().clone())
}

fn of_length<T: ArrowPrimitiveType>(
    args: &[ArrayRef],
    part: fn(i64) -> T::Native,
) -> Result<ArrayRef, String> {
    Ok(Arc::new(lengths(&args[0])?.unary::<_, T>(part)))
}

fn date_part(context: &Context, args: &[ArrayRef], part: fn(Date) -> i32) -> ArrayRef {
    let zone = zone_of(context, &args[0]);
    let times = args[0].as_primitive::<TimestampMicrosecondType>();
    Arc::new(times.unary_opt::<_, Int32Type>(|us| date_of(local(us, zone).days).map(part)))
}

fn clock_part(context: &Context, args: &[ArrayRef], part: fn(i64) -> i64) -> ArrayRef {
    let zone = zone_of(context, &args[0]);
    let times = args[0].as_primitive::<TimestampMicrosecondType>();
    Arc::new(times.unary::<_, Int32Type>(|us| part(local(us, zone).us_of_day / 1_000_000) as i32))
}

fn counted(args: &[ArrayRef], count: fn(i64) -> i64) -> ArrayRef {
    let times = args[0].as_primitive::<TimestampMicrosecondType>();
    Arc::new(times.unary::<_, Int64Type>(count))
}

fn timestamps(args: &[ArrayRef], unit_us: i64) -> Result<ArrayRef, String> {
    let counts = args[0].as_primitive::<Int64Type>();
    let times = counts.try_unary::<_, TimestampMicrosecondType, _>(|count| {
        count.checked_mul(unit_us).ok_or_else(|| format!("{count} is out of range for TIMESTAMP"))
    })?;
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn timestamp_seconds(_: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    if args[0].data_type() == &DataType::Float64 || args[0].data_type() == &DataType::Float32 {
        let seconds =
            arrow::compute::cast(&args[0], &DataType::Float64).map_err(|e| e.to_string())?;
        let times = seconds.as_primitive::<Float64Type>();
        let times = times.unary_opt::<_, TimestampMicrosecondType>(|s| {
            let us = s * 1e6;
            (us.is_finite() && us.abs() < 9.2e18).then_some(us as i64)
        });
        return Ok(Arc::new(times.with_timezone("UTC")));
    }
    let exact = DataType::Decimal128(38, 6);
    let us = arrow::compute::cast(&args[0], &exact).map_err(|e| e.to_string())?;
    let us = us.as_primitive::<arrow::datatypes::Decimal128Type>();
    let times = us.try_unary::<_, TimestampMicrosecondType, String>(|us| {
        i64::try_from(us).map_err(|_| format!("{us} microseconds are out of range for TIMESTAMP"))
    })?;
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn days_and<T: arrow::datatypes::ArrowPrimitiveType<Native = i32>>(
    args: &[ArrayRef],
    other: &arrow::array::PrimitiveArray<T>,
    op: impl Fn(i32, i32) -> Option<i32>,
    finish: impl FnOnce(arrow::array::PrimitiveArray<Date32Type>) -> ArrayRef,
) -> Result<ArrayRef, String> {
    let days = args[0].as_primitive::<Date32Type>();
    let pairs = days.iter().zip(other.iter());
    let out = pairs.map(|pair| match pair {
        (Some(a), Some(b)) => op(a, b).map(Some).ok_or_else(|| {
            format!("a date {b} days from {} is out of range", text_time::date_text(a))
        }),
        _ => Ok(None),
    });
    Ok(finish(out.collect::<Result<arrow::array::PrimitiveArray<Date32Type>, String>>()?))
}

fn date_trunc(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let units = args[0].as_string::<i32>();
    let zone = zone_of(context, &args[1]);
    let times = args[1].as_primitive::<TimestampMicrosecondType>();
    let pairs = units.iter().zip(times.iter());
    let out = pairs.map(|(unit, us)| truncated(&unit?.to_ascii_lowercase(), us?, zone));
    let out: arrow::array::PrimitiveArray<TimestampMicrosecondType> = out.collect();
    Ok(Arc::new(out.with_data_type(times.data_type().clone())))
}

/// Start of the unit that an instant lies in; `None` for a unit that Spark does not know.
fn truncated(unit: &str, us: i64, zone: &TimeZone) -> Option<i64> {
    let local = local(us, zone);
    let down = |unit_us: i64| instant(local.days, local.us_of_day / unit_us * unit_us, zone);
    let date = date_of(local.days)?;
    let first = |month: i8| Date::new(date.year(), month, 1).ok();
    let day = match unit {
        "microsecond" => return Some(us),
        "millisecond" => return Some(down(1_000)),
        "second" => return Some(down(1_000_000)),
        "minute" => return Some(down(60_000_000)),
        "hour" => return Some(down(3_600_000_000)),
        "day" | "dd" => date,
        "week" => {
            let back = i32::from(weekday(date).to_monday_zero_offset());
            date.checked_sub(back.days()).ok()?
        }
        "month" | "mon" | "mm" => first(date.month())?,
        "quarter" => first((date.month() - 1) / 3 * 3 + 1)?,
        "year" | "yyyy" | "yy" => first(1)?,
        _ => return None,
    };
    Some(midnight(days_of(day), zone))
}

fn formatted(
    context: &Context,
    zone: &TimeZone,
    times: impl Iterator<Item = Option<i64>>,
    patterns: Option<&StringArray>,
) -> Result<ArrayRef, String> {
    const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";
    let mut out = Vec::with_capacity(context.rows);
    for (row, us) in times.enumerate() {
        let pattern = match patterns {
            None => Some(DEFAULT),
            Some(patterns) => patterns.is_valid(row).then(|| patterns.value(row)),
        };
        out.push(match (us, pattern) {
            (Some(us), Some(pattern)) => Some(
                text_time::format(us, zone, pattern)
                    .ok_or_else(|| format!("the pattern {pattern:?} cannot be printed"))?,
            ),
            _ => None,
        });
    }
    Ok(Arc::new(StringArray::from(out)))
}

pub fn date_format(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let times = args[0].as_primitive::<TimestampMicrosecondType>().iter();
    formatted(context, zone_of(context, &args[0]), times, Some(args[1].as_string::<i32>()))
}

fn from_unixtime(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let seconds = args[0].as_primitive::<Int64Type>().iter();
    let times = seconds.map(|s| s.and_then(|s| s.checked_mul(1_000_000)));
    formatted(context, context.zone, times, args.get(1).map(|patterns| patterns.as_string::<i32>()))
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
