//! Dates and times made of parts, moved, compared, read by a pattern.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, Int32Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::native::{Context, Definition, Takes, define};
use super::text_time;
use super::time::{
    Local, US_PER_DAY, UTC, date_of, days_after, days_of, instant, lengths, local, midnight,
    months_after, zone_of,
};
use crate::plan::types::timestamp;

fn date(_: &[DataType]) -> DataType {
    DataType::Date32
}

fn time(_: &[DataType]) -> DataType {
    timestamp()
}

fn local_time(_: &[DataType]) -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)
}

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn own(types: &[DataType]) -> DataType {
    types[0].clone()
}

/// Seconds with their fraction.
const SECONDS: DataType = DataType::Decimal128(8, 6);

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Boolean, Date, Double, Instant, Int, Long, Text, Time, TimeOrLength};
    const PARTS: &[Takes] = &[Int, Int, Int, Int, Int, Double, Text];
    [
        define("make_date", &[Int, Int, Int], 0, date, |_, a| make_date(a)),
        define("make_timestamp", PARTS, 1, time, |c, a| {
            make_timestamp(a, Some(c.zone)).map(|t| Arc::new(t.with_timezone("UTC")) as ArrayRef)
        }),
        define("make_timestamp_ntz", &PARTS[..6], 0, local_time, |_, a| {
            make_timestamp(a, None).map(|t| Arc::new(t) as ArrayRef)
        }),
        define(
            "months_between",
            &[Instant, Instant, Boolean],
            1,
            |_| DataType::Float64,
            months_between,
        ),
        define("next_day", &[Date, Text], 0, date, |_, a| next_day(a)),
        define("trunc", &[Date, Text], 0, date, |_, a| trunc(a)),
        define("date_from_unix_date", &[Int], 0, date, |_, a| {
            let days = a[0].as_primitive::<Int32Type>();
            Ok(Arc::new(days.clone().reinterpret_cast::<Date32Type>()))
        }),
        define("dayname", &[Date], 0, text, |_, a| Ok(names(a, |d| day_name(d.weekday())))),
        define("monthname", &[Date], 0, text, |_, a| {
            Ok(names(a, |d| &text_time::MONTHS[d.month() as usize - 1][..3]))
        }),
        define("second_fraction", &[TimeOrLength], 0, |_| SECONDS, seconds),
        define(
            "dayofweek_iso",
            &[Date],
            0,
            |_| DataType::Int32,
            |_, a| Ok(part(a, |d| d.weekday().to_monday_one_offset().into())),
        ),
        define(
            "yearofweek",
            &[Date],
            0,
            |_| DataType::Int32,
            |_, a| Ok(part(a, |d| d.iso_week_date().year().into())),
        ),
        define("from_utc_timestamp", &[Instant, Text], 0, own, |_, a| moved(a, false)),
        define("to_utc_timestamp", &[Instant, Text], 0, own, |_, a| moved(a, true)),
        define("timestampadd", &[Text, Long, Time], 0, |t| t[2].clone(), added),
        define("timestampdiff", &[Text, Instant, Instant], 0, |_| DataType::Int64, between),
        define("read_date", &[Text, Text], 0, date, read_date),
        define("read_timestamp", &[Text, Text], 0, time, |c, a| {
            read_timestamp(c, a).map(|t| Arc::new(t.with_timezone("UTC")) as ArrayRef)
        }),
    ]
    .into_iter()
}

/// A day as its date; `None` past the calendar's end.
fn dates(args: &[ArrayRef]) -> impl Iterator<Item = Option<Date>> {
    args[0].as_primitive::<Date32Type>().iter().map(|day| date_of(day?))
}

fn names(args: &[ArrayRef], name: fn(Date) -> &'static str) -> ArrayRef {
    Arc::new(dates(args).map(|date| date.map(name)).collect::<StringArray>())
}

fn part(args: &[ArrayRef], part: fn(Date) -> i32) -> ArrayRef {
    Arc::new(dates(args).map(|date| date.map(part)).collect::<Int32Array>())
}

fn day_name(day: Weekday) -> &'static str {
    &text_time::WEEKDAYS[day.to_monday_zero_offset() as usize][..3]
}

fn made_date(year: i32, month: i32, day: i32) -> Result<Date, String> {
    let narrow = |part: i32| i8::try_from(part).ok();
    let date = i16::try_from(year).ok().zip(narrow(month)).zip(narrow(day));
    date.and_then(|((year, month), day)| Date::new(year, month, day).ok())
        .ok_or_else(|| format!("there is no date {year}-{month}-{day}"))
}

fn make_date(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let [years, months, days] =
        [0, 1, 2].map(|index: usize| args[index].as_primitive::<Int32Type>());
    let rows = years.iter().zip(months).zip(days).map(|row| match row {
        ((Some(year), Some(month)), Some(day)) => {
            made_date(year, month, day).map(days_of).map(Some)
        }
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<Date32Array, String>>()?))
}

/// `zone`: of the result where the call names none; without it the time is a local one.
fn make_timestamp(
    args: &[ArrayRef],
    zone: Option<&TimeZone>,
) -> Result<TimestampMicrosecondArray, String> {
    let ints: Vec<&arrow::array::Int32Array> =
        args[..5].iter().map(|arg| arg.as_primitive::<Int32Type>()).collect();
    let seconds: &Float64Array = args[5].as_primitive();
    let mut out = Vec::with_capacity(seconds.len());
    for row in 0..seconds.len() {
        if args.iter().any(|arg| arg.is_null(row)) {
            out.push(None);
            continue;
        }
        let [year, month, day, hour, minute] = std::array::from_fn(|i| ints[i].value(row));
        let date = made_date(year, month, day)?;
        // Seconds have six places: a double of them is right to the microsecond.
        let us = (seconds.value(row) * 1e6).round() as i64;
        let at_next_minute = us == 60_000_000;
        let in_range = (0..24).contains(&hour) && (0..60).contains(&minute);
        if !in_range || !((0..60_000_000).contains(&us) || at_next_minute) {
            return Err(format!("there is no time {hour}:{minute}:{}", seconds.value(row)));
        }
        let us_of_day = (i64::from(hour) * 60 + i64::from(minute)) * 60_000_000 + us;
        let named = args.get(6).map(|names| zone_named(names.as_string::<i32>().value(row)));
        let named = named.transpose()?;
        let zone = named.as_ref().or(zone).unwrap_or(&UTC);
        let (days, us_of_day) = (
            days_of(date) + us_of_day.div_euclid(86_400_000_000) as i32,
            us_of_day.rem_euclid(86_400_000_000),
        );
        out.push(Some(instant(days, us_of_day, zone)));
    }
    Ok(TimestampMicrosecondArray::from(out))
}

fn zone_named(name: &str) -> Result<TimeZone, String> {
    crate::plan::zone(name)
}

/// Whole months where both are the same day of the month or both its last; else 31 days a month.
fn months_between(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let [ends, starts] =
        [0, 1].map(|index: usize| args[index].as_primitive::<TimestampMicrosecondType>());
    let rounds = args.get(2).map(|rounds| rounds.as_boolean());
    let rows = (0..ends.len()).map(|row| {
        if args.iter().any(|arg| arg.is_null(row)) {
            return None;
        }
        // Seconds since midnight, not what clocks show: a day on which they change has more or fewer.
        let of = |us: i64, index: usize| {
            let zone = zone_of(context, &args[index]);
            let days = local(us, zone).days;
            Some((date_of(days)?, (us - midnight(days, zone)) / 1_000_000))
        };
        let ((end, end_s), (start, start_s)) = (of(ends.value(row), 0)?, of(starts.value(row), 1)?);
        let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        let whole = (months(end) - months(start)) as f64;
        let last = |date: Date| date.day() == date.days_in_month();
        if end.day() == start.day() || last(end) && last(start) {
            return Some(whole);
        }
        let seconds = i64::from(end.day() - start.day()) * 86_400 + end_s - start_s;
        let months = whole + seconds as f64 / (31.0 * 86_400.0);
        let rounds = rounds.is_none_or(|rounds| rounds.value(row));
        Some(if rounds { (months * 1e8).round() / 1e8 } else { months })
    });
    Ok(Arc::new(rows.collect::<Float64Array>()))
}

pub fn weekday_named(name: &str) -> Option<Weekday> {
    Some(match name.trim().to_ascii_uppercase().as_str() {
        "MO" | "MON" | "MONDAY" => Weekday::Monday,
        "TU" | "TUE" | "TUESDAY" => Weekday::Tuesday,
        "WE" | "WED" | "WEDNESDAY" => Weekday::Wednesday,
        "TH" | "THU" | "THURSDAY" => Weekday::Thursday,
        "FR" | "FRI" | "FRIDAY" => Weekday::Friday,
        "SA" | "SAT" | "SATURDAY" => Weekday::Saturday,
        "SU" | "SUN" | "SUNDAY" => Weekday::Sunday,
        _ => return None,
    })
}

fn next_day(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let names = args[1].as_string::<i32>();
    let rows = dates(args).zip(names.iter()).map(|row| {
        let (Some(date), Some(name)) = row else { return Ok(None) };
        let day = weekday_named(name).ok_or_else(|| format!("{name:?} is no day of the week"))?;
        let ahead = i32::from(date.weekday().until(day));
        Ok(Some(days_of(date) + if ahead == 0 { 7 } else { ahead }))
    });
    Ok(Arc::new(rows.collect::<Result<Date32Array, String>>()?))
}

/// NULL for a unit that is none.
fn trunc(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let units = args[1].as_string::<i32>();
    let rows = dates(args).zip(units.iter()).map(|row| {
        let (date, unit) = (row.0?, row.1?.to_ascii_lowercase());
        let first = |month: i8| Date::new(date.year(), month, 1).ok();
        let start = match unit.as_str() {
            "week" => {
                let back = i32::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(back.days()).ok()?
            }
            "month" | "mon" | "mm" => first(date.month())?,
            "quarter" => first((date.month() - 1) / 3 * 3 + 1)?,
            "year" | "yyyy" | "yy" => first(1)?,
            _ => return None,
        };
        Some(days_of(start))
    });
    Ok(Arc::new(rows.collect::<Date32Array>()))
}

fn seconds(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    if matches!(args[0].data_type(), DataType::Duration(_)) {
        let lengths = lengths(&args[0])?;
        let us = lengths.unary::<_, Decimal128Type>(|us| i128::from(us % 60_000_000));
        return Ok(Arc::new(us.with_data_type(SECONDS)));
    }
    let zone = zone_of(context, &args[0]);
    let times = args[0].as_primitive::<TimestampMicrosecondType>();
    let us = times.unary::<_, Decimal128Type>(|us| {
        i128::from(local(us, zone).us_of_day.rem_euclid(60_000_000))
    });
    let us: Decimal128Array = us.with_data_type(SECONDS);
    Ok(Arc::new(us))
}

/// What a zone's clocks show taken for UTC, or the other way round.
fn moved(args: &[ArrayRef], to_utc: bool) -> Result<ArrayRef, String> {
    let times = args[0].as_primitive::<TimestampMicrosecondType>();
    let zones = args[1].as_string::<i32>();
    let mut known: Option<(&str, TimeZone)> = None;
    let mut out = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || zones.is_null(row) {
            out.push(None);
            continue;
        }
        let name = zones.value(row);
        if known.as_ref().is_none_or(|(known, _)| *known != name) {
            known = Some((name, zone_named(name)?));
        }
        let zone = &known.as_ref().expect("set just above").1;
        let (from, to) = if to_utc { (&UTC, zone) } else { (zone, &UTC) };
        let shown = local(times.value(row), from);
        out.push(Some(instant(shown.days, shown.us_of_day, to)));
    }
    let out = TimestampMicrosecondArray::from(out);
    Ok(Arc::new(out.with_data_type(args[0].data_type().clone())))
}

/// Microseconds of a unit of fixed length on the clock, or months of one that has none.
pub enum Unit {
    Us(i64),
    Days(i64),
    Months(i64),
}

pub fn unit(name: &str) -> Result<Unit, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Unit::Us(1),
        "MILLISECOND" => Unit::Us(1_000),
        "SECOND" => Unit::Us(1_000_000),
        "MINUTE" => Unit::Us(60_000_000),
        "HOUR" => Unit::Us(3_600_000_000),
        "DAY" | "DAYOFYEAR" => Unit::Days(1),
        "WEEK" => Unit::Days(7),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        _ => return Err(format!("{name} is no unit of time")),
    })
}

/// Days and months are those of the zone's calendar.
fn added(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let zone = zone_of(context, &args[2]);
    let units = args[0].as_string::<i32>();
    let counts = args[1].as_primitive::<Int64Type>();
    let times = args[2].as_primitive::<TimestampMicrosecondType>();
    let mut out = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if args.iter().any(|arg| arg.is_null(row)) {
            out.push(None);
            continue;
        }
        let (count, us) = (counts.value(row), times.value(row));
        let of = |each: i64| count.checked_mul(each);
        let moved = match unit(units.value(row))? {
            Unit::Us(each) => of(each).and_then(|by| us.checked_add(by)),
            Unit::Days(each) => of(each).and_then(|days| days_after(us, days, zone)),
            Unit::Months(each) => of(each).and_then(|months| months_after(us, months, zone)),
        };
        out.push(Some(moved.ok_or("overflow: the time is out of range for TIMESTAMP")?));
    }
    let out = TimestampMicrosecondArray::from(out);
    Ok(Arc::new(out.with_data_type(args[2].data_type().clone())))
}

/// Whole units from the first time to the second, by what clocks show, hours too (as Spark).
fn between(context: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let units = args[0].as_string::<i32>();
    let [starts, ends] =
        [1, 2].map(|index: usize| args[index].as_primitive::<TimestampMicrosecondType>());
    let mut out = Vec::with_capacity(starts.len());
    for row in 0..starts.len() {
        if args.iter().any(|arg| arg.is_null(row)) {
            out.push(None);
            continue;
        }
        let (start, end) = (starts.value(row), ends.value(row));
        let (from, to) =
            (local(start, zone_of(context, &args[1])), local(end, zone_of(context, &args[2])));
        let apart = match unit(units.value(row))? {
            Unit::Us(each) => to.us().checked_sub(from.us()).map(|us| us / each),
            Unit::Days(each) => to.us().checked_sub(from.us()).map(|us| us / (US_PER_DAY * each)),
            Unit::Months(each) => whole_months(&from, &to).map(|months| months / each),
        };
        out.push(Some(apart.ok_or("overflow: the times are too far apart")?));
    }
    Ok(Arc::new(out.into_iter().collect::<arrow::array::Int64Array>()))
}

/// As `java.time.LocalDateTime.until` counts them: whole days first, then months of those.
fn whole_months(from: &Local, to: &Local) -> Option<i64> {
    date_of(to.days)?;
    let days = match from.days.cmp(&to.days) {
        Ordering::Less if to.us_of_day < from.us_of_day => to.days - 1,
        Ordering::Greater if to.us_of_day > from.us_of_day => to.days + 1,
        _ => to.days,
    };
    // Fewer days than 32 are in a month.
    let counted = |date: Date| {
        (i64::from(date.year()) * 12 + i64::from(date.month())) * 32 + i64::from(date.day())
    };
    Some((counted(date_of(days)?) - counted(date_of(from.days)?)) / 32)
}

fn read_with(
    args: &[ArrayRef],
    mut read: impl FnMut(&str, &str) -> Option<i64>,
) -> Result<Vec<Option<i64>>, String> {
    let texts = args[0].as_string::<i32>().iter();
    let rows = texts.zip(args[1].as_string::<i32>().iter()).map(|row| match row {
        (Some(text), Some(pattern)) => read(text, pattern)
            .map(Some)
            .ok_or_else(|| format!("the text {text:?} has not the form {pattern:?}")),
        _ => Ok(None),
    });
    rows.collect()
}

fn read_date(_: &Context, args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let days = read_with(args, |text, pattern| {
        let us = text_time::parse(text, pattern, &UTC)?;
        Some(us.div_euclid(86_400_000_000))
    })?;
    Ok(Arc::new(days.into_iter().map(|day| day.map(|day| day as i32)).collect::<Date32Array>()))
}

fn read_timestamp(
    context: &Context,
    args: &[ArrayRef],
) -> Result<TimestampMicrosecondArray, String> {
    let zone = context.zone;
    Ok(read_with(args, |text, pattern| text_time::parse(text, pattern, zone))?.into())
}
