//! Dates and times as Spark reads and writes them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::time::{date_of, instant, local};

/// `2024`, `2024-05`, `2024-5-1`, and a time after it is passed over.
pub fn read_date(text: &str) -> Option<i32> {
    let day = text.split(['T', ' ']).next()?;
    days_of(day)
}

/// A date, then perhaps a time, then perhaps a zone; without one it is `zone`'s.
pub fn read_timestamp(text: &str, zone: &TimeZone) -> Option<i64> {
    let split = text.find(['T', ' ']);
    let Some(at) = split else { return Some(instant(days_of(text)?, 0, zone)) };
    let days = days_of(&text[..at])?;
    let (clock, zone) = split_zone(text[at + 1..].trim(), zone)?;
    Some(instant(days, us_of_clock(clock)?, &zone))
}

fn days_of(text: &str) -> Option<i32> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4..=7)? as i16;
    let month = parts.next().map_or(Some(1), |part| number(part, 1..=2))?;
    let day = parts.next().map_or(Some(1), |part| number(part, 1..=2))?;
    if parts.next().is_some() {
        return None;
    }
    let year = if negative { -year } else { year };
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    Some((date - Date::new(1970, 1, 1).ok()?).get_days())
}

fn number(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let plain = length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok().filter(|n| *n <= 9_999) } else { None }
}

/// Clock and zone of `12:00:00Z`, `12:00+02:00`, `12:00 Europe/Berlin`.
fn split_zone<'a>(text: &'a str, default: &TimeZone) -> Option<(&'a str, TimeZone)> {
    if let Some(clock) = text.strip_suffix('Z') {
        return Some((clock.trim_end(), TimeZone::UTC));
    }
    if let Some((clock, name)) = text.rsplit_once(' ') {
        return Some((clock, crate::plan::zone(name).ok()?));
    }
    if let Some(at) = text.rfind(['+', '-']) {
        return Some((&text[..at], crate::plan::zone(&text[at..]).ok()?));
    }
    Some((text, default.clone()))
}

fn us_of_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hour = number(parts.next()?, 1..=2)?;
    let minute = parts.next().map_or(Some(0), |part| number(part, 1..=2))?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let second = number(second, 1..=2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut us = 0;
    for place in 0..6 {
        let digit = fraction
            .as_bytes()
            .get(place)
            .map_or(Some(0), |b| b.is_ascii_digit().then(|| i64::from(b - b'0')))?;
        us = us * 10 + digit;
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(i64::from(hour * 3_600 + minute * 60 + second) * 1_000_000 + us)
}

/// `2024-05-01`
pub fn date_text(days: i32) -> String {
    date_of(days).map_or_else(|| days.to_string(), |date| date.to_string())
}

/// `2024-05-01 12:00:00.5`: no zone, no zeros at the end of the fraction.
pub fn timestamp_text(us: i64, zone: &TimeZone) -> String {
    let local = local(us, zone);
    let clock = clock_of(local.us_of_day);
    let mut out = format!("{} {clock}", date_text(local.days));
    let fraction = local.us_of_day % 1_000_000;
    if fraction != 0 {
        out += &format!(".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
    out
}

fn clock_of(us_of_day: i64) -> String {
    let seconds = us_of_day / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// By a pattern of Java's letters; `None` for a letter that has no meaning here.
pub fn format(us: i64, zone: &TimeZone, pattern: &str) -> Option<String> {
    let local = local(us, zone);
    let date = date_of(local.days)?;
    let seconds = local.us_of_day / 1_000_000;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut out = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '\'' {
            let mut quoted: String = rest.by_ref().take_while(|c| *c != '\'').collect();
            if quoted.is_empty() {
                quoted.push('\'');
            }
            out += &quoted;
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            out.push(letter);
            continue;
        }
        let mut width = 1;
        while rest.next_if_eq(&letter).is_some() {
            width += 1;
        }
        let padded = |value: i64| format!("{value:0width$}");
        out += &match (letter, width) {
            ('y' | 'u', 2) => format!("{:02}", i64::from(date.year()).rem_euclid(100)),
            ('y' | 'u', _) => padded(date.year().into()),
            ('M' | 'L', 1 | 2) => padded(date.month().into()),
            ('M' | 'L', 3) => MONTHS[date.month() as usize - 1][..3].to_string(),
            ('M' | 'L', 4) => MONTHS[date.month() as usize - 1].to_string(),
            ('d', 1 | 2) => padded(date.day().into()),
            ('D', 1..=3) => padded(date.day_of_year().into()),
            ('E', 1..=3) => WEEKDAYS[weekday(date)][..3].to_string(),
            ('E', 4) => WEEKDAYS[weekday(date)].to_string(),
            ('Q' | 'q', 1 | 2) => padded(i64::from((date.month() - 1) / 3 + 1)),
            ('H', 1 | 2) => padded(hour),
            ('h', 1 | 2) => padded((hour + 11) % 12 + 1),
            ('k', 1 | 2) => padded((hour + 23) % 24 + 1),
            ('K', 1 | 2) => padded(hour % 12),
            ('m', 1 | 2) => padded(minute),
            ('s', 1 | 2) => padded(second),
            ('S', 1..=9) => format!("{:06}000", local.us_of_day % 1_000_000)[..width].to_string(),
            ('a', 1) => if hour < 12 { "AM" } else { "PM" }.to_string(),
            ('X', 1..=3) if local.offset_seconds == 0 => "Z".into(),
            ('X' | 'x', 3) => {
                let (sign, offset) = (local.offset_seconds < 0, local.offset_seconds.abs());
                let sign = if sign { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", offset / 3_600, offset / 60 % 60)
            }
            _ => return None,
        };
    }
    Some(out)
}

/// Reads a text by a pattern of Java's letters, all of it; parts that the pattern lacks are those of
/// 1970-01-01T00:00:00, and without a zone the time is `zone`'s.
pub fn parse(text: &str, pattern: &str, zone: &TimeZone) -> Option<i64> {
    let mut read = Reading { rest: text, parts: Parts::default(), zone: None };
    let mut rest = pattern.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '\'' {
            let mut quoted: String = rest.by_ref().take_while(|c| *c != '\'').collect();
            if quoted.is_empty() {
                quoted.push('\'');
            }
            read.literal(&quoted)?;
            continue;
        }
        if letter == '[' || letter == ']' {
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            read.literal(letter.encode_utf8(&mut [0; 4]))?;
            continue;
        }
        let mut width = 1;
        while rest.next_if_eq(&letter).is_some() {
            width += 1;
        }
        let packed = rest.peek().is_some_and(char::is_ascii_alphabetic);
        read.field(letter, width, packed)?;
    }
    if !read.rest.is_empty() {
        return None;
    }
    let parts = read.parts;
    let hour = match (parts.hour, parts.half) {
        (hour, None) => hour,
        (hour, Some(afternoon)) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    let date = Date::new(
        i16::try_from(parts.year).ok()?,
        i8::try_from(parts.month).ok()?,
        i8::try_from(parts.day).ok()?,
    );
    let days = (date.ok()? - Date::new(1970, 1, 1).ok()?).get_days();
    let in_range = hour < 24 && parts.minute < 60 && parts.second < 60;
    let seconds = (hour * 60 + parts.minute) * 60 + parts.second;
    let us = i64::from(seconds) * 1_000_000 + i64::from(parts.us);
    in_range.then(|| instant(days, us, read.zone.as_ref().unwrap_or(zone)))
}

struct Parts {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    us: u32,
    /// Afternoon, where the pattern says so.
    half: Option<bool>,
}

impl Default for Parts {
    fn default() -> Self {
        let (hour, minute, second, us) = (0, 0, 0, 0);
        Parts { year: 1970, month: 1, day: 1, hour, minute, second, us, half: None }
    }
}

struct Reading<'a> {
    rest: &'a str,
    parts: Parts,
    zone: Option<TimeZone>,
}

impl Reading<'_> {
    fn literal(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// So many digits at least and at most.
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let there = self.rest.bytes().take_while(u8::is_ascii_digit).count().min(most);
        let (digits, rest) = self.rest.split_at(there);
        self.rest = rest;
        if there < least { None } else { digits.parse().ok() }
    }

    /// One of some names, in full or by its first three letters.
    fn name(&mut self, names: &[&str], whole: bool) -> Option<u32> {
        let found = names.iter().position(|name| {
            let name: &str = if whole { name } else { &name[..3] };
            self.rest.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name))
        })?;
        let length = if whole { names[found].len() } else { 3 };
        self.rest = &self.rest[length..];
        Some(found as u32)
    }

    /// `packed`: digits of another field follow at once, so this one has its full width.
    fn field(&mut self, letter: char, width: usize, packed: bool) -> Option<()> {
        // One letter takes one or more digits, several as many as there are letters.
        let (least, most) = if width == 1 && !packed { (1, 10) } else { (width, width) };
        match (letter, width) {
            ('y' | 'u', 2) => self.parts.year = 2_000 + self.digits(2, 2)?,
            ('y' | 'u', _) => self.parts.year = self.digits(least, most)?,
            ('M' | 'L', 3 | 4) => self.parts.month = self.name(&MONTHS, width == 4)? + 1,
            ('M' | 'L', _) => self.parts.month = self.digits(least, most)?,
            ('d', 1 | 2) => self.parts.day = self.digits(least, most)?,
            ('H' | 'h' | 'K', 1 | 2) => self.parts.hour = self.digits(least, most)?,
            ('k', 1 | 2) => self.parts.hour = self.digits(least, most)? % 24,
            ('m', 1 | 2) => self.parts.minute = self.digits(least, most)?,
            ('s', 1 | 2) => self.parts.second = self.digits(least, most)?,
            ('S', 1..=9) => {
                let before = self.rest.len();
                let value = u64::from(self.digits(width, width)?);
                let digits = (before - self.rest.len()) as u32;
                let us = value * 1_000_000 / 10_u64.pow(digits);
                self.parts.us = us as u32;
            }
            ('a', 1) => self.parts.half = Some(self.name(&["AM", "PM"], true)? == 1),
            ('E', 1..=3) => _ = self.name(&WEEKDAYS, false)?,
            ('E', 4) => _ = self.name(&WEEKDAYS, true)?,
            ('X' | 'x' | 'Z' | 'V' | 'z', _) => self.read_zone()?,
            _ => return None,
        }
        Some(())
    }

    fn read_zone(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            self.zone = Some(TimeZone::UTC);
            return Some(());
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-:/_".contains(c);
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(length);
        let colon = match name.as_bytes() {
            [b'+' | b'-', digits @ ..] if digits.len() == 4 && !name.contains(':') => {
                format!("{}:{}", &name[..3], &name[3..])
            }
            _ => name.to_string(),
        };
        self.rest = rest;
        self.zone = Some(crate::plan::zone(&colon).ok()?);
        Some(())
    }
}

pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn weekday(date: Date) -> usize {
    DateTime::from(date).weekday().to_monday_zero_offset() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_sparks_forms_and_written_back() {
        let check = |text: &str, expected: Option<&str>| {
            let found =
                read_timestamp(text, &TimeZone::UTC).map(|us| timestamp_text(us, &TimeZone::UTC));
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("2024-05-01T12:04:00Z", Some("2024-05-01 12:04:00"));
        check("2024-05-01 12:04:00.250", Some("2024-05-01 12:04:00.25"));
        check("2024-05-01 12:04:00.1234567", Some("2024-05-01 12:04:00.123456"));
        check("2024-05-01", Some("2024-05-01 00:00:00"));
        check("2024-5-1 1:2:3", Some("2024-05-01 01:02:03"));
        check("2024-05-01T12:00:00+02:00", Some("2024-05-01 10:00:00"));
        check("2024-05-01 12:00:00 Europe/Berlin", Some("2024-05-01 10:00:00"));
        check("1969-12-31 23:59:59.999999", Some("1969-12-31 23:59:59.999999"));
        check("2024-02-30", None);
        check("2024-05-01 25:00:00", None);
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn javas_letters_print_what_java_prints() {
        let us = read_timestamp("2024-05-01 13:04:05.067", &TimeZone::UTC).unwrap();
        let check = |pattern: &str, expected: Option<&str>| {
            assert_eq!(format(us, &TimeZone::UTC, pattern).as_deref(), expected, "{pattern}");
        };
        check("yyyy-MM-dd HH:mm:ss.SSS", Some("2024-05-01 13:04:05.067"));
        check("E, d MMM yy 'at' h a", Some("Wed, 1 May 24 at 1 PM"));
        check("EEEE MMMM D", Some("Wednesday May 122"));
        check("yyyyMMdd''X", Some("20240501'Z"));
        check("VV", None);
    }

    #[test]
    fn texts_are_read_by_javas_letters() {
        let check = |text: &str, pattern: &str, expected: Option<&str>| {
            let found = parse(text, pattern, &TimeZone::UTC);
            let found = found.map(|us| timestamp_text(us, &TimeZone::UTC));
            assert_eq!(found.as_deref(), expected, "{text} by {pattern}");
        };
        check(
            "2024-05-01 13:04:05.067",
            "yyyy-MM-dd HH:mm:ss.SSS",
            Some("2024-05-01 13:04:05.067"),
        );
        check("01/May/24 1:04 PM", "dd/MMM/yy h:mm a", Some("2024-05-01 13:04:00"));
        check("20240501T130405Z", "yyyyMMdd'T'HHmmssX", Some("2024-05-01 13:04:05"));
        check("2024-05-01T13:04:05+0200", "yyyy-MM-dd'T'HH:mm:ssZ", Some("2024-05-01 11:04:05"));
        check("2024-05", "yyyy-MM", Some("2024-05-01 00:00:00"));
        check("2024-5-1", "yyyy-M-d", Some("2024-05-01 00:00:00"));
        check("2024-05-01x", "yyyy-MM-dd", None);
        check("2024-02-30", "yyyy-MM-dd", None);
        check("12 AM", "h a", Some("1970-01-01 00:00:00"));
    }
}
