//! Dates and timestamps as text. Proleptic Gregorian calendar, years of at least four digits.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAY_US: i64 = 86_400_000_000;

/// How the fraction of a second is written.
#[derive(Clone, Copy, PartialEq)]
pub enum Fraction {
    /// None, three or six digits: files.
    Thousands,
    /// Three digits: progress reports.
    Millis,
    /// As many digits as it takes: the console.
    Shortest,
}

/// Days since 1970-01-01 as `2024-05-01`; beyond year 9999 with `+`, before year 0 with `-`.
pub fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    if year < 0 {
        out.push(b'-');
    } else if year > 9999 {
        out.push(b'+');
    }
    let year = year.unsigned_abs();
    if year < 10_000 {
        two_digits(out, (year / 100) as u32);
        two_digits(out, (year % 100) as u32);
    } else {
        super::number::integer(out, year);
    }
    out.push(b'-');
    two_digits(out, month);
    out.push(b'-');
    two_digits(out, day);
}

/// Microseconds since 1970-01-01T00:00:00 in the wall clock that is to be printed.
pub fn timestamp(out: &mut Vec<u8>, us: i64, separator: u8, fraction: Fraction) {
    date(out, us.div_euclid(DAY_US));
    out.push(separator);
    let of_day = us.rem_euclid(DAY_US);
    let seconds = (of_day / 1_000_000) as u32;
    two_digits(out, seconds / 3600);
    out.push(b':');
    two_digits(out, seconds / 60 % 60);
    out.push(b':');
    two_digits(out, seconds % 60);
    let micros = (of_day % 1_000_000) as u32;
    if micros == 0 && fraction != Fraction::Millis {
        return;
    }
    out.push(b'.');
    let start = out.len();
    two_digits(out, micros / 10_000);
    two_digits(out, micros / 100 % 100);
    two_digits(out, micros % 100);
    match fraction {
        Fraction::Millis => out.truncate(start + 3),
        Fraction::Thousands if micros.is_multiple_of(1000) => out.truncate(start + 3),
        Fraction::Thousands => {}
        Fraction::Shortest => {
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

/// `INTERVAL '1 02:03:04.5' DAY TO SECOND`
pub fn interval(out: &mut Vec<u8>, us: i64) {
    out.extend_from_slice(b"INTERVAL '");
    if us < 0 {
        out.push(b'-');
    }
    let us = us.unsigned_abs();
    let day = DAY_US.unsigned_abs();
    out.extend_from_slice((us / day).to_string().as_bytes());
    out.push(b' ');
    // The time of the first day is a wall clock's.
    let mut clock = Vec::new();
    timestamp(&mut clock, (us % day) as i64, b' ', Fraction::Shortest);
    let at = clock.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
    out.extend_from_slice(&clock[at..]);
    out.extend_from_slice(b"' DAY TO SECOND");
}

/// `INTERVAL '3' DAY`
pub fn days(out: &mut Vec<u8>, seconds: i64) {
    let days = seconds / (DAY_US / 1_000_000);
    out.extend_from_slice(format!("INTERVAL '{days}' DAY").as_bytes());
}

/// The wall clock in a zone at an instant, both in microseconds; UTC beyond jiff's years.
pub fn wall_clock(us: i64, zone: &TimeZone) -> i64 {
    match Timestamp::from_microsecond(us) {
        Ok(instant) => us + i64::from(zone.to_offset(instant).seconds()) * 1_000_000,
        Err(_) => us,
    }
}

fn two_digits(out: &mut Vec<u8>, value: u32) {
    out.push(b'0' + (value / 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// Year, month, day of a day number: `civil_from_days` of Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", 2014.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
