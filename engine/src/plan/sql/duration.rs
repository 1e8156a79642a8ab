//! Spark's interval texts as microseconds: `10 seconds`, `interval 1 week`, `1 day 2 hours`.

use datafusion_sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};

/// Length of an interval text, or why it has none.
pub fn of_text(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_lowercase();
    let body = lower.strip_prefix("interval ").unwrap_or(&lower).trim();
    let malformed = || format!("'{text}' is no duration");
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
        Some(_) => Err(format!("{whole}: write the duration in one unit")),
    }
}

fn unit_name(field: &DateTimeField) -> String {
    field.to_string().to_lowercase()
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
}
