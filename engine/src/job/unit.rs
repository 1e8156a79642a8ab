//! Values that are written as text because they carry a unit or a form: durations, sizes, sets of
//! CPUs, addresses, time zones.

use std::ops::Range;
use std::time::Duration;

use super::finding::{closest, quoted};

/// What is wrong inside a text, and the bytes of it that are at fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub at: Range<usize>,
    pub what: String,
    pub fix: String,
}

impl Fault {
    pub fn new(at: Range<usize>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Fault { at, what: what.into(), fix: fix.into() }
    }

    /// All of `text` is at fault.
    pub fn all(text: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Fault::new(0..text.len(), what, fix)
    }
}

pub const DURATION_FORM: &str = "write a number and a unit, as \"10s\" (units: us, ms, s, m, h, d)";
pub const SIZE_FORM: &str = "write a number and a unit, as \"64MiB\" (units: B, KiB, MiB, GiB, TiB; \
                             kB, MB, GB, TB are powers of 1000)";

const MICROS: &[(&str, u64)] = &[
    ("us", 1),
    ("microsecond", 1),
    ("microseconds", 1),
    ("ms", 1_000),
    ("millisecond", 1_000),
    ("milliseconds", 1_000),
    ("s", 1_000_000),
    ("sec", 1_000_000),
    ("second", 1_000_000),
    ("seconds", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("minute", 60_000_000),
    ("minutes", 60_000_000),
    ("h", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hours", 3_600_000_000),
    ("d", 86_400_000_000),
    ("day", 86_400_000_000),
    ("days", 86_400_000_000),
    ("week", 604_800_000_000),
    ("weeks", 604_800_000_000),
];

/// `10s`, `5 seconds`, `1h 30m`. Whole numbers only; a smaller unit says the rest.
pub fn duration(text: &str) -> Result<Duration, Fault> {
    let mut micros: u64 = 0;
    // Spark's texts may begin with the word.
    let mut at = match text.get(..9) {
        Some(word) if word.eq_ignore_ascii_case("interval ") => 9,
        _ => 0,
    };
    while at < text.trim_end().len() {
        let (number, unit) = quantity(text, at, "a duration", DURATION_FORM)?;
        let word = &text[unit.clone()];
        if text[number.clone()].contains('.') {
            return Err(Fault::new(
                number,
                "a duration has whole numbers",
                "say the rest with a smaller unit: \"1500ms\" for 1.5 s",
            ));
        }
        let known = |word: &str| MICROS.iter().find(|u| u.0 == word).map(|u| u.1);
        let Some(scale) = known(word).or_else(|| known(&long_word(word))) else {
            let fix = match closest(word, MICROS.iter().map(|u| u.0)) {
                Some(unit) if !word.is_empty() => {
                    format!("did you mean \"{}{unit}\"?", &text[number])
                }
                _ if long_word(word).starts_with("month")
                    || long_word(word).starts_with("year") =>
                {
                    "months and years have no fixed length: write days, as \"30d\"".into()
                }
                _ => DURATION_FORM.into(),
            };
            return Err(match word {
                "" => Fault::all(text, format!("{} has no unit", quoted(text.trim())), fix),
                word => Fault::new(unit, format!("{} is no unit of time", quoted(word)), fix),
            });
        };
        micros = text[number]
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(scale)?.checked_add(micros))
            .filter(|&micros| i64::try_from(micros).is_ok())
            .ok_or_else(|| {
                Fault::all(text, format!("the duration {} is out of range", quoted(text)), "")
            })?;
        at = unit.end;
    }
    if text.trim().is_empty() {
        return Err(Fault::all(text, "expected a duration, found an empty text", DURATION_FORM));
    }
    Ok(Duration::from_micros(micros))
}

/// Long unit names may be written in capitals; the short ones may not: `5M` could be anything.
fn long_word(word: &str) -> String {
    if word.len() > 2 { word.to_lowercase() } else { word.to_owned() }
}

const BYTES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `64MiB`, `1GB`, `4 KiB`, `1.5GiB`; in bytes, rounded down.
pub fn size(text: &str) -> Result<u64, Fault> {
    let (number, unit) = quantity(text, 0, "a size", SIZE_FORM)?;
    let word = &text[unit.clone()];
    let scale = BYTES.iter().find(|u| u.0 == word).map(|u| u.1);
    let Some(scale) = scale.filter(|_| text[unit.end..].trim().is_empty()) else {
        let meant = match word {
            "k" | "K" => Some("KiB"),
            "m" | "M" => Some("MiB"),
            "g" | "G" => Some("GiB"),
            "t" | "T" => Some("TiB"),
            "" => None,
            word => BYTES.iter().map(|u| u.0).find(|u| u.eq_ignore_ascii_case(word)),
        };
        let fix = meant
            .map_or(SIZE_FORM.into(), |unit| format!("did you mean \"{}{unit}\"?", &text[number]));
        return Err(match word {
            "" => Fault::all(text, format!("{} has no unit", quoted(text.trim())), fix),
            word => Fault::new(
                unit.start..text.len(),
                format!("{} is no unit of size", quoted(&text[text.len().min(unit.start)..])),
                if meant.is_some() && word.len() == text[unit.start..].trim().len() {
                    fix
                } else {
                    SIZE_FORM.into()
                },
            ),
        });
    };
    let (whole, fraction) = text[number.clone()].split_once('.').unwrap_or((&text[number], "0"));
    let bytes = || {
        // Nine digits of a fraction are below one byte of any unit that fits the number's range.
        let fraction = fraction.get(..9).unwrap_or(fraction);
        let part: u128 = fraction.parse().ok()?;
        let part = part * u128::from(scale) / 10u128.pow(fraction.len() as u32);
        u64::try_from(whole.parse::<u128>().ok()?.checked_mul(scale.into())? + part).ok()
    };
    bytes().filter(|&bytes| bytes <= i64::MAX as u64).ok_or_else(|| {
        Fault::all(text, format!("the size {} is out of range", quoted(text)), SIZE_FORM)
    })
}

/// The places of a number and of the word after it, from `at` on.
fn quantity(
    text: &str,
    at: usize,
    expected: &str,
    form: &str,
) -> Result<(Range<usize>, Range<usize>), Fault> {
    let skip = |at: usize, f: fn(char) -> bool| {
        at + text[at..].len() - text[at..].trim_start_matches(f).len()
    };
    let start = skip(at, char::is_whitespace);
    if text[start..].starts_with('-') {
        return Err(Fault::all(text, format!("{expected} is not negative"), form));
    }
    let end = skip(start, |c| c.is_ascii_digit() || c == '.');
    let number = &text[start..end];
    if number.is_empty()
        || number.starts_with('.')
        || number.ends_with('.')
        || number.matches('.').count() > 1
    {
        let what = format!("expected {expected}, found {}", quoted(text));
        return Err(Fault::all(text, what, form));
    }
    let unit = skip(end, char::is_whitespace);
    let unit_end = skip(unit, |c| c.is_alphabetic() || c == 'µ');
    if unit == unit_end && unit < text.len() && !text.as_bytes()[unit].is_ascii_digit() {
        let what = format!("expected {expected}, found {}", quoted(text));
        return Err(Fault::all(text, what, form));
    }
    Ok((start..end, unit..unit_end))
}

pub const CORES_FORM: &str = "write ranges and numbers, as \"0-3\" or \"0,2,4-7\"";
/// Linux's own limit (CONFIG_NR_CPUS on x86-64).
const CORES_MAX: usize = 8192;

/// `0-3`, `0,2,4-7` as the CPUs in ascending order.
pub fn cores(text: &str) -> Result<Vec<usize>, Fault> {
    let mut cores = Vec::new();
    let mut at = 0;
    for part in text.split(',') {
        let place = at..at + part.len();
        at = place.end + 1;
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n < CORES_MAX);
        let range = match part.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(part).zip(number(part)),
        };
        match range {
            Some((first, last)) if first <= last => cores.extend(first..=last),
            Some((first, last)) => {
                let fix = format!("write \"{last}-{first}\"");
                return Err(Fault::new(place, "the range runs backwards", fix));
            }
            None => {
                let what = format!("expected a set of CPUs, found {}", quoted(part));
                return Err(Fault::new(place, what, CORES_FORM));
            }
        }
    }
    cores.sort_unstable();
    match cores.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Fault::all(text, format!("CPU {} is named twice", pair[0]), CORES_FORM)),
        None => Ok(cores),
    }
}

/// `host:port` or `[::1]:port`.
pub fn address(text: &str) -> Result<(), Fault> {
    const FORM: &str = "write host:port, as \"127.0.0.1:9999\" or \"[::1]:9999\"";
    let Some((host, port)) = text.rsplit_once(':') else {
        let fix = match text.parse::<u16>() {
            Ok(port) => format!("write \"127.0.0.1:{port}\""),
            Err(_) => FORM.into(),
        };
        return Err(Fault::all(text, format!("{} names no port", quoted(text)), fix));
    };
    let colon = host.len();
    if let Some((_, rest)) = text.split_once("://") {
        return Err(Fault::all(text, "an address is no URL", format!("write {}", quoted(rest))));
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(Fault::all(text, format!("{} names no host", quoted(text)), FORM));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(Fault::new(0..colon, "an IPv6 address stands in brackets here", FORM));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(Fault::new(
            colon + 1..text.len(),
            format!("a port is a number from 1 to 65535, found {}", quoted(port)),
            FORM,
        )),
    }
}

/// An IANA name, `UTC`, or a fixed offset as `+02:00`; returned as jiff knows it.
pub fn timezone(text: &str) -> Result<String, Fault> {
    const FORM: &str =
        "write a name of the IANA database, as \"Europe/Berlin\", or an offset, as \"+02:00\"";
    if text == "Z" {
        return Ok("UTC".into());
    }
    if fixed_offset(text) {
        return Ok(text.into());
    }
    if let Ok(zone) = jiff::tz::TimeZone::get(text) {
        return Ok(zone.iana_name().unwrap_or(text).into());
    }
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let last_part =
        |name: &&str| name.rsplit('/').next().is_some_and(|n| n.eq_ignore_ascii_case(text));
    let fix = closest(text, names.iter().map(String::as_str))
        .or_else(|| names.iter().map(String::as_str).find(last_part))
        .map_or(FORM.into(), |name| format!("did you mean {name:?}?"));
    Err(Fault::all(text, format!("{} is no time zone", quoted(text)), fix))
}

/// `+HH:MM` or `-HH:MM`, at most 18 hours as ISO 8601 zones have.
fn fixed_offset(text: &str) -> bool {
    let [b'+' | b'-', h1, h2, b':', m1, m2] = text.as_bytes() else { return false };
    if ![h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let (hours, minutes) = ((h1 - b'0') * 10 + h2 - b'0', (m1 - b'0') * 10 + m2 - b'0');
    minutes < 60 && (hours < 18 || hours == 18 && minutes == 0)
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
