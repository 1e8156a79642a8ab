//! Dates, times of day, the units that they lie in, and the clocks of zones that never change theirs.
//!
//! Days become dates and dates days after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
//! 2013 (`civil_from_days`, `days_from_civil`): eras of 400 years, and years that begin in March.
//! Invariant: the calendar reaches from -9999-01-01 to 9999-12-31, as far as that of the functions which answer
//! in other zones; outside of it a field is NULL. `shaders/calendar.wgsl` has the same names.

use arrow::datatypes::DataType;

use super::value::{Operands, Value};
use crate::expr::{CalendarUnit, ClockPart, DatePart};

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_MINUTE: i64 = 60 * US_PER_SECOND;
const US_PER_HOUR: i64 = 60 * US_PER_MINUTE;
const US_PER_DAY: i64 = 24 * US_PER_HOUR;

const FIRST_DAY: i32 = -4_371_587;
const LAST_DAY: i32 = 2_932_896;
const FIRST_US: i64 = FIRST_DAY as i64 * US_PER_DAY;
const LAST_US: i64 = (LAST_DAY as i64 + 1) * US_PER_DAY - 1;
/// Instants that some clock of the calendar shows whatever its zone is: up to 26 hours from UTC.
const FIRST_INSTANT: i64 = -377_705_023_201 * US_PER_SECOND;
const LAST_INSTANT: i64 = 253_402_207_201 * US_PER_SECOND - 1;

/// Days from the first of March of year -10000, where an era begins, to 1970-01-01.
const ERAS_BEFORE: i32 = 25;
const DAYS_BEFORE: i32 = 719_468 + ERAS_BEFORE * DAYS_PER_ERA as i32;
const YEARS_BEFORE: i32 = 400 * ERAS_BEFORE;
const DAYS_PER_ERA: u32 = 146_097;
const LAST_YEAR: i32 = 9_999;
/// From one end of the calendar to the other.
const MONTHS_MAX: i64 = 12 * 2 * (LAST_YEAR as i64 + 1);

struct Civil {
    year: i32,
    month: i32,
    day: i32,
}

pub fn date_part(part: DatePart, date: Value) -> Value {
    fn each(date: Value, of: impl Fn(i32) -> i32) -> Value {
        let part = |day: i32| is_in_calendar(day).then(|| of(day));
        date.convert_some(&DataType::Int32, part)
    }
    match part {
        DatePart::Year => each(date, year_of),
        DatePart::Quarter => each(date, quarter_of),
        DatePart::Month => each(date, month_of),
        DatePart::Day => each(date, day_of),
        DatePart::DayOfYear => each(date, day_of_year),
        DatePart::DayOfWeek => each(date, day_of_week),
        DatePart::DayOfWeekIso => each(date, day_of_week_iso),
        DatePart::Weekday => each(date, weekday_of),
        DatePart::WeekOfYear => each(date, week_of_year),
        DatePart::YearOfWeek => each(date, year_of_week),
    }
}

pub fn clock_part(part: ClockPart, time: Value) -> Value {
    fn each<const CYCLE: i64, const UNIT: i64>(time: Value) -> Value {
        time.convert(&DataType::Int32, |us: i64| ((us.rem_euclid(CYCLE) / UNIT) as i32, false))
    }
    match part {
        ClockPart::Hour => each::<US_PER_DAY, US_PER_HOUR>(time),
        ClockPart::Minute => each::<US_PER_HOUR, US_PER_MINUTE>(time),
        ClockPart::Second => each::<US_PER_MINUTE, US_PER_SECOND>(time),
    }
}

/// Start of the unit that a date or a timestamp lies in.
pub fn truncate(unit: CalendarUnit, value: Value) -> Value {
    let to = value.array.data_type().clone();
    let days = |value: Value, start: fn(i32) -> i32| match &to {
        DataType::Date32 => {
            value.convert_some(&to, |day: i32| is_in_calendar(day).then(|| start(day)))
        }
        _ => value.convert_some(&to, |us: i64| {
            is_time_in_calendar(us).then(|| midnight(start(day_of_time(us))))
        }),
    };
    match unit {
        CalendarUnit::Week => days(value, week_start),
        CalendarUnit::Month => days(value, month_start),
        CalendarUnit::Quarter => days(value, quarter_start),
        CalendarUnit::Year => days(value, year_start),
        CalendarUnit::Day if to == DataType::Date32 => days(value, |day| day),
        _ => {
            let unit = unit_us(unit);
            value.convert_some(&to, |us: i64| is_time_in_calendar(us).then(|| floored(us, unit)))
        }
    }
}

pub fn last_day_of(date: Value) -> Value {
    let last = |day: i32| is_in_calendar(day).then(|| last_day(day));
    date.convert_some(&DataType::Date32, last)
}

/// A date, or a timestamp at its time of day, so many months later.
pub fn add_months(to: Value, months: Value) -> Value {
    let data_type = to.array.data_type().clone();
    let operands = Operands::meet(to, months);
    match data_type {
        DataType::Date32 => operands.compute(&data_type, |day: i32, months: i32| {
            let later = months_later(day, months.into());
            (later.unwrap_or_default(), later.is_none())
        }),
        _ => operands.compute(&data_type, |us: i64, months: i64| {
            let later = months_later(day_of_time(us), months);
            let later = later.map(|day| midnight(day) + us.rem_euclid(US_PER_DAY));
            (later.unwrap_or_default(), later.is_none())
        }),
    }
}

pub fn whole_months(start: Value, end: Value) -> Value {
    Operands::meet(start, end).compute(&DataType::Int32, |start: i64, end: i64| {
        let are_known = is_time_in_calendar(start) && is_time_in_calendar(end);
        (if are_known { months_from(start, end) } else { 0 }, !are_known)
    })
}

/// Microseconds of a unit that is always as long.
pub(crate) fn unit_us(unit: CalendarUnit) -> i64 {
    match unit {
        CalendarUnit::Microsecond => 1,
        CalendarUnit::Millisecond => 1_000,
        CalendarUnit::Second => US_PER_SECOND,
        CalendarUnit::Minute => US_PER_MINUTE,
        CalendarUnit::Hour => US_PER_HOUR,
        CalendarUnit::Day => US_PER_DAY,
        other => unreachable!("{other:?} begins at a midnight"),
    }
}

/// What clocks so far ahead of UTC show; of an instant that no calendar knows the clocks of UTC.
pub fn to_local(time: Value, ahead_us: i64, to: &DataType) -> Value {
    time.convert(to, |us: i64| (if is_instant(us) { us + ahead_us } else { us }, false))
}

/// The instant at which such clocks show this.
pub fn from_local(time: Value, ahead_us: i64, to: &DataType) -> Value {
    time.convert(to, |us: i64| {
        let is_shown = is_time_in_calendar(us) && is_instant(us - ahead_us);
        (if is_shown { us - ahead_us } else { us }, false)
    })
}

fn is_in_calendar(day: i32) -> bool {
    (FIRST_DAY..=LAST_DAY).contains(&day)
}

fn is_time_in_calendar(us: i64) -> bool {
    (FIRST_US..=LAST_US).contains(&us)
}

fn is_instant(us: i64) -> bool {
    (FIRST_INSTANT..=LAST_INSTANT).contains(&us)
}

fn floored(us: i64, unit: i64) -> i64 {
    us - us.rem_euclid(unit)
}

fn day_of_time(us: i64) -> i32 {
    us.div_euclid(US_PER_DAY) as i32
}

fn midnight(day: i32) -> i64 {
    i64::from(day) * US_PER_DAY
}

/// Of a day in the calendar, as all that follows.
fn civil_of(day: i32) -> Civil {
    let days = (day + DAYS_BEFORE) as u32;
    let era = days / DAYS_PER_ERA;
    let of_era = days - era * DAYS_PER_ERA;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on.
    let months = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * months + 2) / 5 + 1) as i32;
    let month = if months < 10 { months + 3 } else { months - 9 } as i32;
    let year = (year_of_era + era * 400) as i32 - YEARS_BEFORE + i32::from(month <= 2);
    Civil { year, month, day }
}

/// The first day of a month.
fn days_of(year: i32, month: i32) -> i32 {
    let years = (year + YEARS_BEFORE - i32::from(month <= 2)) as u32;
    let era = years / 400;
    let of_era = years - era * 400;
    let months = if month <= 2 { month + 9 } else { month - 3 } as u32;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + (153 * months + 2) / 5;
    (era * DAYS_PER_ERA + days) as i32 - DAYS_BEFORE
}

fn month_end(year: i32, month: i32) -> i32 {
    days_of(year + month / 12, month % 12 + 1) - 1
}

fn last_day(day: i32) -> i32 {
    let date = civil_of(day);
    month_end(date.year, date.month)
}

/// On the same day of the month, if it has that; `None` outside of the calendar, before or after.
fn months_later(day: i32, months: i64) -> Option<i32> {
    if months == 0 {
        return Some(day);
    }
    if !is_in_calendar(day) || !(-MONTHS_MAX..=MONTHS_MAX).contains(&months) {
        return None;
    }
    let date = civil_of(day);
    let month = date.year * 12 + date.month - 1 + months as i32;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let is_known = (-LAST_YEAR..=LAST_YEAR).contains(&year);
    is_known.then(|| (days_of(year, month) + date.day - 1).min(month_end(year, month)))
}

/// As `java.time.LocalDateTime.until` counts them: a day that is not whole is none, then a month is none.
fn months_from(start: i64, end: i64) -> i32 {
    let (first, last) = (day_of_time(start), day_of_time(end));
    let (from, to) = (start.rem_euclid(US_PER_DAY), end.rem_euclid(US_PER_DAY));
    let last = last - i32::from(last > first && to < from) + i32::from(last < first && to > from);
    let (first, last) = (civil_of(first), civil_of(last));
    let months = (last.year - first.year) * 12 + last.month - first.month;
    // Fewer days than 32 are in a month.
    (months * 32 + last.day - first.day) / 32
}

fn year_of(day: i32) -> i32 {
    civil_of(day).year
}

fn quarter_of(day: i32) -> i32 {
    (civil_of(day).month + 2) / 3
}

fn month_of(day: i32) -> i32 {
    civil_of(day).month
}

fn day_of(day: i32) -> i32 {
    civil_of(day).day
}

fn day_of_year(day: i32) -> i32 {
    day - year_start(day) + 1
}

/// From Sunday, 1, on.
fn day_of_week(day: i32) -> i32 {
    (weekday_of(day) + 1) % 7 + 1
}

/// From Monday, 1, on.
fn day_of_week_iso(day: i32) -> i32 {
    weekday_of(day) + 1
}

/// From Monday, 0, on; 1970-01-01 was a Thursday.
fn weekday_of(day: i32) -> i32 {
    (day + 3).rem_euclid(7)
}

/// A week is the year's that its Thursday lies in (ISO 8601).
fn week_of_year(day: i32) -> i32 {
    (day_of_year(week_start(day) + 3) - 1) / 7 + 1
}

fn year_of_week(day: i32) -> i32 {
    year_of(week_start(day) + 3)
}

fn week_start(day: i32) -> i32 {
    day - weekday_of(day)
}

fn month_start(day: i32) -> i32 {
    day - day_of(day) + 1
}

fn quarter_start(day: i32) -> i32 {
    let date = civil_of(day);
    days_of(date.year, (date.month - 1) / 3 * 3 + 1)
}

fn year_start(day: i32) -> i32 {
    days_of(year_of(day), 1)
}
