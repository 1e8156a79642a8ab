//! Spark's interval texts as microseconds: `10 seconds`, `interval 1 week`, `1 day 2 hours`.

use datafusion_sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};

/// Length of an interval text, or why it has none.
pub fn of_text(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_lowercase();
    let body = lower.strip_prefix("interval ").unwrap_or(&lower).trim();
    let malformed = || format!("'{text}' is no duration: error parsing it to an interval");
    let words: Vec<&str> = body.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(malformed());
    }
    let mut total: i64 = 0;
    for pair in words.chunks(2) {
        let part = of_unit(pair[0], pair[1]).map_err(|e| e.unwrap_or_else(malformed))?;
        total = total.checked_add(part).ok_or_else(malformed)?;
    }
    Ok(total)
}

/// An interval of one unit as Spark writes it: `INTERVAL '90' MINUTE`. `None`: it has several.
pub fn name(interval: &Interval) -> Option<String> {
    let text = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.trim().into(),
            other => other.to_string(),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{expr}"),
        _ => return None,
    };
    let (amount, unit) = match (&interval.leading_field, &interval.last_field) {
        (Some(first), Some(last)) => {
            let (first, last) = (unit_name(first), unit_name(last));
            let range = format!("{first} to {last}").to_uppercase();
            return Some(format!("INTERVAL '{text}' {range}"));
        }
        (Some(unit), None) => (text.as_str(), unit_name(unit)),
        _ => {
            let lower = text.strip_prefix("interval ").unwrap_or(&text);
            if let Some(several) = of_several_units(lower) {
                return Some(several);
            }
            let (amount, unit) = lower.split_once(' ')?;
            (amount, unit.trim().to_lowercase())
        }
    };
    let (amount, unit) = match (unit.trim_end_matches('s'), amount.parse::<i64>()) {
        ("week", Ok(weeks)) => (weeks.checked_mul(7)?.to_string(), "day"),
        ("quarter" | "millisecond" | "microsecond", _) => return None,
        (unit, _) if unit.contains(' ') => return None,
        (unit @ ("hour" | "minute" | "second"), Ok(amount)) => {
            let sign = if amount < 0 { "-" } else { "" };
            (format!("{sign}{:02}", amount.unsigned_abs()), unit)
        }
        (unit, _) => (amount.to_string(), unit),
    };
    Some(format!("INTERVAL '{amount}' {}", unit.to_uppercase()))
}

/// `1 day 2 hours` as Spark shows it, `INTERVAL '1 02' DAY TO HOUR`. `None`: of one unit, or with a sign,
/// or of units that make no such interval.
fn of_several_units(text: &str) -> Option<String> {
    const UNITS: [(&str, i64); 4] = [("day", 24), ("hour", 60), ("minute", 60), ("second", 1)];
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut amounts = [None; 4];
    for pair in words.chunks(2) {
        let [amount, unit] = pair else { return None };
        let unit = unit.to_lowercase();
        let at = UNITS.iter().position(|(known, _)| *known == unit.trim_end_matches('s'))?;
        amounts[at] = Some(amount.parse::<u32>().ok()?);
    }
    let first = amounts.iter().position(Option::is_some)?;
    let last = amounts.iter().rposition(Option::is_some)?;
    let total: i64 = (0..4).fold(0, |total, at| {
        let carried = if at == 0 { 0 } else { total * UNITS[at - 1].1 };
        carried + i64::from(amounts[at].unwrap_or(0))
    });
    if first == last {
        return None;
    }
    // Each unit below the first is less than one of the unit above it.
    let mut rest = total;
    let mut parts = Vec::new();
    for at in (first..4).rev() {
        let of_one = if at == first { i64::MAX } else { UNITS[at - 1].1 };
        if at <= last {
            parts.push((at, rest % of_one));
        }
        rest /= of_one;
    }
    let mut out = String::new();
    for (at, part) in parts.into_iter().rev() {
        out += match at {
            at if at == first => "",
            1 => " ",
            _ => ":",
        };
        out += &if at == 0 { part.to_string() } else { format!("{part:02}") };
    }
    let name = |at: usize| UNITS[at].0.to_uppercase();
    Some(format!("INTERVAL '{out}' {} TO {}", name(first), name(last)))
}

/// Length of a literal: a text, or `INTERVAL '10' SECOND`.
pub fn of_literal(expr: &Expr) -> Result<i64, String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => of_text(text),
            other => Err(format!("{other} is no duration")),
        },
        Expr::Interval(interval) => of_interval(interval, expr),
        Expr::Nested(inner) => of_literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => of_literal(expr).map(|us| -us),
        other => Err(format!("{other} is no constant duration")),
    }
}

fn of_interval(interval: &Interval, whole: &Expr) -> Result<i64, String> {
    let number = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            Value::Number(digits, _) => digits.clone(),
            _ => return Err(format!("{whole} is no constant duration")),
        },
        _ => return Err(format!("{whole} is no constant duration")),
    };
    match &interval.leading_field {
        None => of_text(&number),
        Some(field) if interval.last_field.is_none() => of_unit(&number, &unit_name(field))
            .map_err(|e| e.unwrap_or(format!("{whole} is no duration"))),
        Some(_) => match of_range(interval) {
            Some(Length::Us(us)) => Ok(us),
            Some(Length::Months(months)) => {
                Err(of_unit(&months.to_string(), "months").err().flatten().unwrap_or_default())
            }
            None => Err(format!("{whole} is no duration")),
        },
    }
}

/// What an interval of several units is: months have no fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Months(i64),
    Us(i64),
}

/// `INTERVAL '1 2:03:04.5' DAY TO SECOND`, `INTERVAL '1-2' YEAR TO MONTH`.
pub fn of_range(interval: &Interval) -> Option<Length> {
    let (first, last) = (interval.leading_field.as_ref()?, interval.last_field.as_ref()?);
    let (negative, text) = match interval.value.as_ref() {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, expr.as_ref()),
        value => (false, value),
    };
    let Expr::Value(text) = text else { return None };
    let (Value::SingleQuotedString(text) | Value::DoubleQuotedString(text)) = &text.value else {
        return None;
    };
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (!negative, rest),
        None => (negative, text.strip_prefix('+').unwrap_or(text)),
    };
    let sign = if negative { -1 } else { 1 };
    if (unit_name(first), unit_name(last)) == ("year".into(), "month".into()) {
        let (years, months) = text.split_once('-')?;
        let months: i64 = months.parse().ok().filter(|months| (0..12).contains(months))?;
        let years = years.parse::<i64>().ok()?.checked_mul(12)?;
        return Some(Length::Months(sign * years.checked_add(months)?));
    }
    const UNITS: [&str; 4] = ["day", "hour", "minute", "second"];
    let at = |field: &DateTimeField| UNITS.iter().position(|unit| *unit == unit_name(field));
    let (from, to) = (at(first)?, at(last)?);
    let parts: Vec<&str> = text.split([' ', ':']).filter(|part| !part.is_empty()).collect();
    if from >= to || parts.len() != to - from + 1 {
        return None;
    }
    let mut us: i64 = 0;
    for (part, unit) in parts.iter().zip(from..) {
        let within = match unit {
            _ if unit == from => i64::MAX,
            1 => 24,
            _ => 60,
        };
        let whole: i64 = part.split('.').next()?.parse().ok()?;
        if part.starts_with(['-', '+']) || whole >= within {
            return None;
        }
        us = us.checked_add(of_unit(part, UNITS[unit]).ok()?)?;
    }
    Some(Length::Us(sign * us))
}

fn unit_name(field: &DateTimeField) -> String {
    field.to_string().to_lowercase().trim_end_matches('s').to_string()
}

/// `Err(None)`: not a number and a unit.
fn of_unit(number: &str, unit: &str) -> Result<i64, Option<String>> {
    let us: i64 = match unit.trim_end_matches('s') {
        "microsecond" | "u" => 1,
        "millisecond" | "m" => 1_000,
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => 3_600_000_000,
        "day" => 86_400_000_000,
        "week" => 7 * 86_400_000_000,
        "month" | "year" | "quarter" => {
            return Err(Some(format!(
                "Intervals greater than a month is not supported ({number} {unit}): a month has no \
                 fixed length"
            )));
        }
        _ => return Err(None),
    };
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| None)? };
    let mut total = whole.checked_mul(us).ok_or(None)?;
    let mut place = us;
    for digit in fraction.chars() {
        let digit = digit.to_digit(10).ok_or(None)?;
        if place % 10 != 0 && digit != 0 {
            return Err(None);
        }
        place /= 10;
        total += i64::from(digit) * place;
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_texts_are_sparks() {
        let check = |text: &str, expected: Result<i64, &str>| match (of_text(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        };
        check("10 seconds", Ok(10_000_000));
        check("INTERVAL 10 Seconds", Ok(10_000_000));
        check("interval 1 week", Ok(604_800_000_000));
        check("1 day 2 hours", Ok(93_600_000_000));
        check(" 1  minute ", Ok(60_000_000));
        check("-2 seconds", Ok(-2_000_000));
        check("1.5 seconds", Ok(1_500_000));
        check("10 milliseconds", Ok(10_000));
        check("7 microseconds", Ok(7));
        check("0 seconds", Ok(0));
        check("1 month", Err("Intervals greater than a month is not supported (1 month)"));
        check("2 years", Err("Intervals greater than a month is not supported (2 years)"));
        check("10", Err("'10' is no duration"));
        check("10 apples", Err("'10 apples' is no duration"));
        check("ten seconds", Err("'ten seconds' is no duration"));
        check("99999999999999 weeks", Err("is no duration"));
        check("", Err("'' is no duration"));
    }

    #[test]
    fn ranges_of_units_are_read_as_spark_reads_them() {
        use crate::plan::sql::dialect::Spark;
        use datafusion_sql::sqlparser::dialect::SparkSqlDialect;
        use datafusion_sql::sqlparser::parser::Parser;
        let read = |sql: &str| {
            let dialect = Spark(SparkSqlDialect {});
            let mut parser = Parser::new(&dialect).try_with_sql(sql).unwrap();
            match parser.parse_expr() {
                Ok(Expr::Interval(interval)) => of_range(&interval),
                other => panic!("{sql}: {other:?}"),
            }
        };
        let us = |us| Some(Length::Us(us));
        assert_eq!(read("INTERVAL '1 2:03:04' DAY TO SECOND"), us(93_784_000_000));
        assert_eq!(read("INTERVAL '-1 2:03:04.5' DAY TO SECOND"), us(-93_784_500_000));
        assert_eq!(read("INTERVAL '100:30' HOUR TO MINUTE"), us(361_800_000_000));
        assert_eq!(read("INTERVAL '1-2' YEAR TO MONTH"), Some(Length::Months(14)));
        assert_eq!(read("INTERVAL '1 24:00:00' DAY TO SECOND"), None);
        assert_eq!(read("INTERVAL '1-12' YEAR TO MONTH"), None);
        assert_eq!(read("INTERVAL '1:2' DAY TO SECOND"), None);
    }
}
