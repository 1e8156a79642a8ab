//! Java's `DateTimeFormatter` patterns, as Spark's: compiled once to steps, then walked per value.
//!
//! Letters: y u (year), M L (month), d (day), D (day of year), H (0–23), k (1–24), h (1–12), K (0–11),
//! a (AM/PM), m, s, S (fraction), X x Z (offset); `'text'`, `''`, and `[…]` for parts that may be
//! missing. A letter repeated is a field of that many digits, a single one takes one or two. What Java
//! knows beyond these (eras, weeks, names of days and zones, quarters) is refused when it is compiled.

use super::time::{Civil, fraction, is_leap, offset};

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Number {
        part: Part,
        min: usize,
        max: usize,
    },
    /// Up to so many digits.
    Fraction(usize),
    HalfOfDay,
    MonthName {
        full: bool,
    },
    Offset {
        colon: bool,
        minutes_needed: bool,
        z_allowed: bool,
    },
    Literal(u8),
    Optional(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Year,
    /// Two digits, 2000 to 2099.
    ShortYear,
    Month,
    Day,
    DayOfYear,
    Hour,
    /// 1 to 24, 24 is midnight.
    HourFromOne,
    /// 0 to 12 of a half day, 12 is its beginning.
    HourOfHalf,
    Minute,
    Second,
}

/// What the steps have read so far.
#[derive(Clone, Copy)]
struct Parts {
    civil: Civil,
    day_of_year: Option<u32>,
    hour_of_half: Option<u32>,
    afternoon: bool,
    offset: Option<i32>,
}

const MONTHS: [&str; 12] = [
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

impl Pattern {
    /// Errors: what is wrong with the pattern, in words.
    pub fn compile(text: &str) -> Result<Pattern, String> {
        let mut rest = text.as_bytes();
        let steps = compile(&mut rest, false)?;
        let pattern = Pattern { text: text.to_string(), steps };
        let half = |s: &Step| matches!(s, Step::Number { part: Part::HourOfHalf, .. });
        if pattern.any(&half) && !pattern.any(&|s| *s == Step::HalfOfDay) {
            return Err(
                "hours of a half day (h, K) need \"a\" (AM or PM); write H for 0 to 23".into()
            );
        }
        Ok(pattern)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn reads_offset(&self) -> bool {
        self.any(&|step| matches!(step, Step::Offset { .. }))
    }

    fn any(&self, is: &dyn Fn(&Step) -> bool) -> bool {
        fn any(steps: &[Step], is: &dyn Fn(&Step) -> bool) -> bool {
            steps.iter().any(|step| match step {
                Step::Optional(steps) => any(steps, is),
                step => is(step),
            })
        }
        any(&self.steps, is)
    }

    /// The local time that the whole text says, and the offset (seconds east) if it says one.
    pub fn read(&self, text: &[u8], truncate: bool) -> Option<(Civil, Option<i32>)> {
        let mut parts = Parts {
            civil: Civil::MIDNIGHT_1970,
            day_of_year: None,
            hour_of_half: None,
            afternoon: false,
            offset: None,
        };
        let mut rest = text;
        walk(&self.steps, &mut rest, &mut parts, truncate)?;
        if !rest.is_empty() {
            return None;
        }
        let mut civil = parts.civil;
        if let Some(hour) = parts.hour_of_half {
            civil.hour = hour % 12 + if parts.afternoon { 12 } else { 0 };
        }
        if let Some(day) = parts.day_of_year {
            (civil.month, civil.day) = month_and_day(civil.year, day)?;
        }
        Some((civil, parts.offset))
    }
}

fn compile(rest: &mut &[u8], nested: bool) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while let [first, after @ ..] = *rest {
        match first {
            b'[' => {
                *rest = after;
                steps.push(Step::Optional(compile(rest, true)?));
            }
            b']' if nested => {
                *rest = after;
                return Ok(steps);
            }
            b'\'' => *rest = quoted(after, &mut steps)?,
            b'a'..=b'z' | b'A'..=b'Z' => {
                let count = rest.iter().take_while(|b| *b == first).count();
                steps.push(letter(*first, count)?);
                *rest = &rest[count..];
            }
            b']' | b'{' | b'}' | b'#' => {
                return Err(format!("\"{}\" has no meaning there", *first as char));
            }
            _ => {
                steps.push(Step::Literal(*first));
                *rest = after;
            }
        }
    }
    if nested { Err("a \"[\" is not closed".to_string()) } else { Ok(steps) }
}

/// Text between single quotes; two in a row are one of them. Returns what follows.
fn quoted<'a>(mut rest: &'a [u8], steps: &mut Vec<Step>) -> Result<&'a [u8], String> {
    if let [b'\'', after @ ..] = rest {
        steps.push(Step::Literal(b'\''));
        return Ok(after);
    }
    loop {
        match rest {
            [b'\'', b'\'', after @ ..] => {
                steps.push(Step::Literal(b'\''));
                rest = after;
            }
            [b'\'', after @ ..] => return Ok(after),
            [byte, after @ ..] => {
                steps.push(Step::Literal(*byte));
                rest = after;
            }
            [] => return Err("a \"'\" is not closed".to_string()),
        }
    }
}

fn letter(letter: u8, count: usize) -> Result<Step, String> {
    let number = |part, min, max| Ok(Step::Number { part, min, max });
    let part = match letter {
        b'd' => Part::Day,
        b'H' => Part::Hour,
        b'k' => Part::HourFromOne,
        b'h' | b'K' => Part::HourOfHalf,
        b'm' => Part::Minute,
        b's' => Part::Second,
        _ => Part::Month,
    };
    match (letter, count) {
        (b'y' | b'u', 1) => number(Part::Year, 1, 4),
        (b'y' | b'u', 2) => number(Part::ShortYear, 2, 2),
        (b'y' | b'u', 3 | 4) => number(Part::Year, count, 4),
        (b'M' | b'L' | b'd' | b'H' | b'k' | b'h' | b'K' | b'm' | b's', 1) => number(part, 1, 2),
        (b'M' | b'L' | b'd' | b'H' | b'k' | b'h' | b'K' | b'm' | b's', 2) => number(part, 2, 2),
        (b'M' | b'L', 3) => Ok(Step::MonthName { full: false }),
        (b'M' | b'L', 4) => Ok(Step::MonthName { full: true }),
        (b'D', 1..=3) => number(Part::DayOfYear, count, 3),
        (b'S', 1..=9) => Ok(Step::Fraction(count)),
        (b'a', 1) => Ok(Step::HalfOfDay),
        (b'X' | b'x', 1..=3) => Ok(Step::Offset {
            colon: count == 3,
            minutes_needed: count > 1,
            z_allowed: letter == b'X',
        }),
        (b'Z', 1..=3) => Ok(Step::Offset { colon: false, minutes_needed: true, z_allowed: false }),
        (b'Z', 5) => Ok(Step::Offset { colon: true, minutes_needed: true, z_allowed: true }),
        _ => Err(format!(
            "\"{}\" is none of the pattern letters y M d D H h k K a m s S X x Z in a known width",
            String::from(letter as char).repeat(count)
        )),
    }
}

fn walk(steps: &[Step], rest: &mut &[u8], parts: &mut Parts, truncate: bool) -> Option<()> {
    for step in steps {
        match step {
            Step::Literal(byte) => *rest = rest.strip_prefix(&[*byte])?,
            Step::Number { part, min, max } => {
                let value = digits(rest, *min, *max)?;
                parts.set(*part, value)?;
            }
            Step::Fraction(max) => {
                let length = rest.iter().take(*max).take_while(|b| b.is_ascii_digit()).count();
                let (digits, after) = rest.split_at(length);
                parts.civil.micros = fraction(digits, truncate)?;
                *rest = after;
            }
            Step::HalfOfDay => {
                let (word, after) = rest.split_at_checked(2)?;
                parts.afternoon = word.eq_ignore_ascii_case(b"pm");
                if !parts.afternoon && !word.eq_ignore_ascii_case(b"am") {
                    return None;
                }
                *rest = after;
            }
            Step::MonthName { full } => parts.civil.month = month_name(rest, *full)?,
            Step::Offset { colon, minutes_needed, z_allowed } => {
                parts.offset = Some(read_offset(rest, *colon, *minutes_needed, *z_allowed)?);
            }
            Step::Optional(steps) => {
                let (mut tried_rest, mut tried_parts) = (*rest, *parts);
                if walk(steps, &mut tried_rest, &mut tried_parts, truncate).is_some() {
                    (*rest, *parts) = (tried_rest, tried_parts);
                }
            }
        }
    }
    Some(())
}

impl Parts {
    fn set(&mut self, part: Part, value: u32) -> Option<()> {
        match part {
            Part::Year => self.civil.year = value as i32,
            Part::ShortYear => self.civil.year = 2000 + value as i32,
            Part::Month => self.civil.month = value,
            Part::Day => self.civil.day = value,
            Part::DayOfYear => self.day_of_year = Some(value),
            Part::Hour => self.civil.hour = value,
            Part::HourFromOne => {
                self.civil.hour = (1..=24).contains(&value).then_some(value % 24)?
            }
            Part::HourOfHalf => self.hour_of_half = (value <= 12).then_some(Some(value))?,
            Part::Minute => self.civil.minute = value,
            Part::Second => self.civil.second = value,
        }
        Some(())
    }
}

fn digits(rest: &mut &[u8], min: usize, max: usize) -> Option<u32> {
    let length = rest.iter().take(max).take_while(|b| b.is_ascii_digit()).count();
    if length < min {
        return None;
    }
    let (digits, after) = rest.split_at(length);
    *rest = after;
    Some(digits.iter().fold(0, |value, b| value * 10 + u32::from(b - b'0')))
}

fn month_name(rest: &mut &[u8], full: bool) -> Option<u32> {
    let spelled = |name: &str| if full { name.len() } else { 3 };
    let is = |name: &&str| {
        let length = spelled(name);
        rest.get(..length).is_some_and(|t| t.eq_ignore_ascii_case(&name.as_bytes()[..length]))
    };
    let month = MONTHS.iter().position(is)?;
    *rest = &rest[spelled(MONTHS[month])..];
    Some(month as u32 + 1)
}

fn read_offset(rest: &mut &[u8], colon: bool, minutes: bool, z_allowed: bool) -> Option<i32> {
    if let [b'Z' | b'z', after @ ..] = *rest {
        *rest = after;
        return z_allowed.then_some(0);
    }
    let lengths: &[usize] = match (colon, minutes) {
        (true, _) => &[6],
        (false, true) => &[5],
        (false, false) => &[5, 3],
    };
    for &length in lengths {
        if let Some((text, after)) = rest.split_at_checked(length)
            && let Some(seconds) = offset(text)
        {
            *rest = after;
            return Some(seconds);
        }
    }
    None
}

fn month_and_day(year: i32, day_of_year: u32) -> Option<(u32, u32)> {
    let february = 28 + u32::from(is_leap(year));
    let mut day = day_of_year.checked_sub(1)?;
    for (month, days) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].iter().enumerate() {
        if day < *days {
            return Some((month as u32 + 1, day + 1));
        }
        day -= days;
    }
    None
}
