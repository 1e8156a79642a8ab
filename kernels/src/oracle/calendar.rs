//! The oracle's calendar: counted, a year and a month at a time.

use std::cmp::Ordering;

use arrow::datatypes::DataType;

use crate::expr::{CalendarUnit, ClockPart, DatePart};

const US_PER_DAY: i64 = 86_400_000_000;
/// Of 400 years: then the calendar repeats itself.
const DAYS_PER_ERA: i64 = 146_097;

struct Date {
    year: i64,
    /// From January, 1, on.
    month: i64,
    day: i64,
    day_of_year: i64,
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `None` in years of more than four digits.
fn date(days: i64) -> Option<Date> {
    let mut year = 1970 + 400 * days.div_euclid(DAYS_PER_ERA);
    let mut rest = days.rem_euclid(DAYS_PER_ERA);
    let all = |year: i64| (1..=12).map(|month| days_in(year, month)).sum::<i64>();
    while rest >= all(year) {
        rest -= all(year);
        year += 1;
    }
    let (mut month, mut day) = (1, rest);
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let is_known = (-9_999..=9_999).contains(&year);
    is_known.then_some(Date { year, month, day: day + 1, day_of_year: rest + 1 })
}

/// From Monday, 0, on: 1970-01-05 was one.
fn weekday(days: i64) -> i64 {
    (days - 4).rem_euclid(7)
}

pub fn date_part(part: DatePart, days: i64) -> Option<i64> {
    let date_of = date(days)?;
    let thursday = || date(days - weekday(days) + 3);
    Some(match part {
        DatePart::Year => date_of.year,
        DatePart::Quarter => (date_of.month - 1) / 3 + 1,
        DatePart::Month => date_of.month,
        DatePart::Day => date_of.day,
        DatePart::DayOfYear => date_of.day_of_year,
        DatePart::DayOfWeek => match weekday(days) {
            6 => 1,
            day => day + 2,
        },
        DatePart::DayOfWeekIso => weekday(days) + 1,
        DatePart::Weekday => weekday(days),
        DatePart::WeekOfYear => (thursday()?.day_of_year + 6) / 7,
        DatePart::YearOfWeek => thursday()?.year,
    })
}

pub fn clock_part(part: ClockPart, us: i64) -> i64 {
    let second = us.rem_euclid(US_PER_DAY) / 1_000_000;
    match part {
        ClockPart::Hour => second / 3_600,
        ClockPart::Minute => second / 60 % 60,
        ClockPart::Second => second % 60,
    }
}

/// Of a date, or of a timestamp, as `data_type` says.
pub fn truncate(unit: CalendarUnit, value: i64, data_type: &DataType) -> Option<i64> {
    let each = if *data_type == DataType::Date32 { 1 } else { US_PER_DAY };
    let days = value.div_euclid(each);
    let Date { month, day, day_of_year, .. } = date(days)?;
    let start = match unit {
        CalendarUnit::Microsecond => return Some(value),
        CalendarUnit::Millisecond => return Some(value - value.rem_euclid(1_000)),
        CalendarUnit::Second => return Some(value - value.rem_euclid(1_000_000)),
        CalendarUnit::Minute => return Some(value - value.rem_euclid(60_000_000)),
        CalendarUnit::Hour => return Some(value - value.rem_euclid(3_600_000_000)),
        CalendarUnit::Day => days,
        CalendarUnit::Week => days - weekday(days),
        CalendarUnit::Month => days - (day - 1),
        CalendarUnit::Quarter => {
            let first = (month - 1) / 3 * 3 + 1;
            let before: i64 = (first..month)
                .map(|month| days_in(date(days)?.year, month).into())
                .sum::<Option<i64>>()?;
            days - (day - 1) - before
        }
        CalendarUnit::Year => days - (day_of_year - 1),
    };
    Some(start * each)
}

pub fn last_day(days: i64) -> Option<i64> {
    let Date { year, month, day, .. } = date(days)?;
    Some(days + days_in(year, month) - day)
}

/// Of a date, or of a timestamp, as `data_type` says: the first of the month is taken from month to month.
pub fn add_months(value: i64, months: i64, data_type: &DataType) -> Option<i64> {
    const MONTHS_PER_ERA: i64 = 4_800;
    if months == 0 {
        return Some(value);
    }
    let each = if *data_type == DataType::Date32 { 1 } else { US_PER_DAY };
    let days = value.div_euclid(each);
    let Date { mut year, mut month, day, .. } = date(days)?;
    let eras = months.div_euclid(MONTHS_PER_ERA);
    let mut first = (days - (day - 1)).checked_add(eras.checked_mul(DAYS_PER_ERA)?)?;
    year += 400 * eras;
    for _ in 0..months.rem_euclid(MONTHS_PER_ERA) {
        first += days_in(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    date(first)?;
    Some((first + day.min(days_in(year, month)) - 1) * each + value.rem_euclid(each))
}

/// Whole days first, by the time of day, then whole months of those, by the day.
pub fn whole_months(start: i64, end: i64) -> Option<i64> {
    let day = |us: i64| us.div_euclid(US_PER_DAY);
    let (from, to) = (date(day(start))?, date(day(end))?);
    let (start_us, end_us) = (start.rem_euclid(US_PER_DAY), end.rem_euclid(US_PER_DAY));
    let to = match day(start).cmp(&day(end)) {
        Ordering::Less if end_us < start_us => date(day(end) - 1)?,
        Ordering::Greater if end_us > start_us => date(day(end) + 1)?,
        _ => to,
    };
    let months = (to.year * 12 + to.month) - (from.year * 12 + from.month);
    Some(match months {
        1.. if to.day < from.day => months - 1,
        ..=-1 if to.day > from.day => months + 1,
        _ => months,
    })
}

/// Instants with a date in every zone, up to 25:59:59 away from UTC.
fn is_instant(us: i64) -> bool {
    let away = 93_599;
    let first = -4_371_587 * 86_400 + away;
    let end = 2_932_897 * 86_400 - away;
    (first..end).contains(&us.div_euclid(1_000_000))
}

pub fn to_local(us: i64, ahead_us: i64) -> i64 {
    if is_instant(us) { us + ahead_us } else { us }
}

pub fn from_local(us: i64, ahead_us: i64) -> i64 {
    let instant = us.saturating_sub(ahead_us);
    let is_shown = date(us.div_euclid(US_PER_DAY)).is_some() && is_instant(instant);
    if is_shown { instant } else { us }
}
