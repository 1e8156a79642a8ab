//! Text to dates and timestamps: ISO 8601, counts since 1970, Java's patterns; the zone of text without
//! one.
//!
//! In a zone whose clock jumps, a local time that occurs twice is the earlier of the two, and one that
//! does not occur is moved forward by the gap, as in Java's `LocalDateTime.atZone` (so in Spark) and
//! RFC 5545. Years are 0001 to 9999. Second 60 is no time. More than six decimals must end in zeros
//! unless the column says `truncate`.

use jiff::tz::TimeZone;

use pelton_engine::batch::Reason;
use pelton_engine::job::spec::{Column, TimeFormat};

use super::number;
use super::pattern::Pattern;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A calendar date and a time of day, of no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

impl Civil {
    pub const MIDNIGHT_1970: Civil =
        Civil { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, micros: 0 };

    /// Microseconds since 1970-01-01T00:00:00 by the same clock; `None` if it is not in the calendar.
    pub fn micros(&self) -> Option<i64> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let time = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        let seconds = i64::from(self.days()?) * SECONDS_PER_DAY + time;
        Some(seconds * MICROS_PER_SECOND + i64::from(self.micros))
    }

    /// Days since 1970-01-01; `None` if it is not in the calendar.
    pub fn days(&self) -> Option<i32> {
        let (year, month, day) = (self.year, self.month, self.day);
        let in_range = (1..=9999).contains(&year) && (1..=12).contains(&month) && day >= 1;
        (in_range && day <= days_in_month(year, month)).then(|| days_from_civil(year, month, day))
    }
}

pub(super) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Hinnant, "chrono-compatible low-level date algorithms", 2014; years from 1 on.
fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month = (month as i32 + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// What a local time without zone is held against.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// Seconds east of Greenwich.
    Fixed(i32),
    Named(TimeZone),
}

impl Zone {
    /// Reads `UTC`, `+02:00` or an IANA name.
    pub fn parse(name: &str) -> Option<Zone> {
        if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt") {
            return Some(Zone::Fixed(0));
        }
        if let Some(seconds) = offset(name.as_bytes()) {
            return Some(Zone::Fixed(seconds));
        }
        TimeZone::get(name).ok().map(Zone::Named)
    }

    /// Microseconds since 1970-01-01T00:00:00Z of a local time.
    fn to_utc(&self, civil: &Civil) -> Option<i64> {
        let local = civil.micros()?;
        match self {
            Zone::Fixed(seconds) => Some(local - i64::from(*seconds) * MICROS_PER_SECOND),
            Zone::Named(zone) => {
                let time = jiff::civil::DateTime::new(
                    civil.year as i16,
                    civil.month as i8,
                    civil.day as i8,
                    civil.hour as i8,
                    civil.minute as i8,
                    civil.second as i8,
                    civil.micros as i32 * 1000,
                );
                let time = zone.to_ambiguous_timestamp(time.ok()?).compatible().ok()?;
                Some(time.as_microsecond())
            }
        }
    }
}

/// `Z`, `+02`, `+0200` or `+02:00`, in seconds east.
pub(super) fn offset(text: &[u8]) -> Option<i32> {
    if matches!(text, b"Z" | b"z") {
        return Some(0);
    }
    let (sign, digits) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h, g] => (two(h, g)?, 0),
        [h, g, b':', m, n] | [h, g, m, n] => (two(h, g)?, two(m, n)?),
        _ => return None,
    };
    // Java's limit.
    (hours * 60 + minutes <= 18 * 60 && minutes < 60).then(|| sign * (hours * 3600 + minutes * 60))
}

fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i32::from(tens) * 10 + i32::from(ones))
}

/// Reads the dates or timestamps of one column.
#[derive(Clone, Debug)]
pub(super) struct TimeReader {
    form: Form,
    /// `None`: TIMESTAMP_NTZ, whose text may name no zone.
    zone: Option<Zone>,
    truncate: bool,
}

#[derive(Clone, Debug)]
enum Form {
    Iso,
    /// Units per second.
    Epoch(i64),
    Pattern(Pattern),
}

impl TimeReader {
    /// `zoned`: the column is a TIMESTAMP, not a TIMESTAMP_NTZ and not a DATE. Errors: what is wrong
    /// with the column's format or zone, in words.
    pub fn new(column: &Column, zoned: bool, job_zone: &str) -> Result<TimeReader, String> {
        let form = match &column.format {
            TimeFormat::Iso => Form::Iso,
            TimeFormat::EpochSeconds => Form::Epoch(1),
            TimeFormat::EpochMillis => Form::Epoch(1_000),
            TimeFormat::EpochMicros => Form::Epoch(1_000_000),
            TimeFormat::EpochNanos => Form::Epoch(1_000_000_000),
            TimeFormat::Pattern(pattern) => Form::Pattern(Pattern::compile(pattern)?),
        };
        if let Form::Pattern(pattern) = &form
            && pattern.reads_offset()
            && !zoned
        {
            return Err("only a TIMESTAMP has a zone; take it out of the pattern".to_string());
        }
        let name = column.timezone.as_deref().unwrap_or(job_zone);
        let zone = match zoned {
            true => Some(Zone::parse(name).ok_or_else(|| format!("no time zone \"{name}\""))?),
            false => None,
        };
        Ok(TimeReader { form, zone, truncate: column.truncate })
    }

    /// The factor from the column's integers to microseconds, where they are integers of a whole
    /// number of microseconds.
    pub fn micros_per_unit(&self) -> Option<i64> {
        match self.form {
            Form::Epoch(per_second) if per_second <= MICROS_PER_SECOND => {
                Some(MICROS_PER_SECOND / per_second)
            }
            _ => None,
        }
    }

    /// Microseconds since 1970-01-01T00:00:00 (UTC, or of no zone for a TIMESTAMP_NTZ).
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        let (civil, offset) = match &self.form {
            Form::Epoch(per_second) => return self.epoch(number::int(text)?, *per_second),
            Form::Iso => iso(text, self.truncate)?,
            Form::Pattern(pattern) => pattern.read(text, self.truncate)?,
        };
        match (&self.zone, offset) {
            (Some(_), Some(seconds)) => Zone::Fixed(seconds).to_utc(&civil),
            (Some(zone), None) => zone.to_utc(&civil),
            (None, None) => civil.micros(),
            (None, Some(_)) => None,
        }
    }

    fn epoch(&self, count: i64, per_second: i64) -> Option<i64> {
        if per_second <= MICROS_PER_SECOND {
            return count.checked_mul(MICROS_PER_SECOND / per_second);
        }
        let per_micro = per_second / MICROS_PER_SECOND;
        let whole = count.rem_euclid(per_micro) == 0;
        (whole || self.truncate).then(|| count.div_euclid(per_micro))
    }

    /// Days since 1970-01-01.
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        match &self.form {
            Form::Iso => iso_date(text)?.days(),
            Form::Pattern(pattern) => {
                let (civil, _) = pattern.read(text, self.truncate)?;
                civil.micros()?;
                civil.days()
            }
            Form::Epoch(per_second) => {
                let micros = self.epoch(number::int(text)?, *per_second)?;
                i32::try_from(micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND)).ok()
            }
        }
    }

    /// What a text that is no such time did not match.
    pub fn expected(&self) -> Option<Reason> {
        let form = match &self.form {
            Form::Iso => return None,
            Form::Epoch(1) => "epoch_s",
            Form::Epoch(1_000) => "epoch_ms",
            Form::Epoch(1_000_000) => "epoch_us",
            Form::Epoch(_) => "epoch_ns",
            Form::Pattern(pattern) => pattern.text(),
        };
        Some(Reason::ExpectedFormat(form.to_string()))
    }
}

/// `2024-05-01`
fn iso_date(text: &[u8]) -> Option<Civil> {
    let &[c, y, n, r, b'-', m, o, b'-', d, a] = text else { return None };
    Some(Civil {
        year: two(c, y)? * 100 + two(n, r)?,
        month: two(m, o)? as u32,
        day: two(d, a)? as u32,
        ..Civil::MIDNIGHT_1970
    })
}

/// `2024-05-01`, then `T` or a blank and `12:00`, `12:00:00` or `12:00:00.123456`, then a zone or none;
/// the zone in seconds east.
fn iso(text: &[u8], truncate: bool) -> Option<(Civil, Option<i32>)> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut civil = iso_date(date)?;
    let &[b'T' | b't' | b' ', h, o, b':', m, i, ref rest @ ..] = rest else {
        return rest.is_empty().then_some((civil, None));
    };
    civil.hour = two(h, o)? as u32;
    civil.minute = two(m, i)? as u32;
    let mut rest = rest;
    if let &[b':', s, e, ref after @ ..] = rest {
        civil.second = two(s, e)? as u32;
        rest = after;
        if let [b'.', after @ ..] = rest {
            let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
            civil.micros = fraction(&after[..digits], truncate)?;
            rest = &after[digits..];
        }
    }
    match rest {
        [] => Some((civil, None)),
        zone => Some((civil, Some(offset(zone)?))),
    }
}

/// Microseconds of the digits after a decimal point, at least one.
pub(super) fn fraction(digits: &[u8], truncate: bool) -> Option<u32> {
    let (micros, rest) = digits.split_at(digits.len().min(6));
    if digits.is_empty() || (!truncate && rest.iter().any(|&b| b != b'0')) {
        return None;
    }
    let value = micros.iter().fold(0, |value, b| value * 10 + u32::from(b - b'0'));
    Some(value * 10u32.pow(6 - micros.len() as u32))
}
