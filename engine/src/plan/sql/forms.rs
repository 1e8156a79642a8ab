//! Special forms: TRIM, SUBSTRING, POSITION, EXTRACT, and functions of a unit of time.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned,
    TrimWhereField, Value,
};

use super::calls::Calls;
use super::duration::{self, Length};
use super::names::function_name;
use super::spell::{binary, call, expression_of, int, take};

/// Calls that have a grammar of their own become plain ones.
pub(super) fn special_form(calls: &mut Calls<'_, '_>, expr: &mut Expr) {
    let span = expr.span();
    match expr {
        Expr::Trim { expr: text, trim_where, trim_what, trim_characters } => {
            let name = match trim_where {
                None | Some(TrimWhereField::Both) => "trim",
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
            };
            let mut args = vec![take(text)];
            args.extend(trim_what.take().map(|what| *what));
            args.extend(trim_characters.take().into_iter().flatten());
            *expr = call(name, args, span);
        }
        Expr::Substring { expr: text, substring_from, substring_for, .. } => {
            let from = substring_from.take().map_or_else(|| int("1"), |from| *from);
            let mut args = vec![take(text), from];
            args.extend(substring_for.take().map(|length| *length));
            *expr = call("substring", args, span);
        }
        Expr::Position { expr: sought, r#in: text } => {
            *expr = call("instr", vec![take(text), take(sought)], span);
        }
        Expr::Overlay { expr: text, overlay_what, overlay_from, overlay_for } => {
            let mut args = vec![take(text), take(overlay_what), take(overlay_from)];
            args.extend(overlay_for.take().map(|length| *length));
            *expr = call("overlay", args, span);
        }
        Expr::Extract { field, expr: time, .. } => {
            *expr = call(part(&field.to_string()), vec![take(time)], span);
            calls.function(expr);
        }
        _ => {}
    }
}

/// The function that gives a part of a time, by a name that EXTRACT and date_part know.
pub(super) fn part(field: &str) -> &'static str {
    match field.to_lowercase().as_str() {
        "year" | "y" | "years" | "yr" | "yrs" => "year",
        "yearofweek" => "yearofweek",
        "quarter" | "qtr" => "quarter",
        "month" | "mon" | "mons" | "months" => "month",
        "week" | "w" | "weeks" => "weekofyear",
        "day" | "d" | "days" => "day",
        "dayofweek" | "dow" => "dayofweek",
        "dayofweek_iso" | "dow_iso" => "dayofweek_iso",
        "doy" => "dayofyear",
        "hour" | "h" | "hours" | "hr" | "hrs" => "hour",
        "minute" | "m" | "min" | "mins" | "minutes" => "minute",
        // With its fraction, unlike the function of this name.
        "second" | "s" | "sec" | "seconds" | "secs" => "second_fraction",
        _ => "no such part of a time",
    }
}

/// `LIKE ANY (…)` and `LIKE ALL (…)` as several LIKE; another escape than the backslash as that one.
pub(super) fn like(calls: &mut Calls<'_, '_>, expr: &mut Expr) {
    let span = expr.span();
    let Expr::Like { negated, any, expr: text, pattern, escape_char } = &mut *expr else { return };
    let patterns = match pattern.as_ref() {
        Expr::Tuple(patterns) if *any => Some((patterns.clone(), BinaryOperator::Or)),
        Expr::Nested(one) if *any => Some((vec![one.as_ref().clone()], BinaryOperator::Or)),
        Expr::Function(call) if matches!(function_name(call).as_str(), "all" | "some") => {
            let op = match function_name(call).as_str() {
                "all" => BinaryOperator::And,
                _ => BinaryOperator::Or,
            };
            match &call.args {
                FunctionArguments::List(list) => {
                    Some((list.args.iter().filter_map(expression_of).collect(), op))
                }
                _ => None,
            }
        }
        _ => None,
    };
    if let Some((patterns, op)) = patterns {
        let (negated, text) = (*negated, text.as_ref().clone());
        let one = |pattern: Expr| Expr::Like {
            negated,
            any: false,
            expr: Box::new(text.clone()),
            pattern: Box::new(pattern),
            escape_char: None,
        };
        let all = patterns.into_iter().map(one);
        let all = all.reduce(|left, right| binary(left, op.clone(), right));
        *expr = all.map_or(Expr::Value(Value::Null.into()), |all| Expr::Nested(Box::new(all)));
        return;
    }
    let Some(escape) = escape_char.take() else { return };
    let escape = match &escape.value {
        Value::SingleQuotedString(text) if text.chars().count() == 1 => text.chars().next(),
        _ => None,
    };
    let (Some(escape), Expr::Value(value)) = (escape, pattern.as_mut()) else {
        let what = "LIKE … ESCAPE takes a constant pattern and one character";
        return calls.rewriter.refuse(span, what, "write LIKE 'a#%' ESCAPE '#'");
    };
    if let Value::SingleQuotedString(text) = &mut value.value {
        *text = with_backslashes(text, escape);
    }
}

/// The pattern with backslashes in place of its own escapes.
fn with_backslashes(pattern: &str, escape: char) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        if char == escape {
            out.push('\\');
            out.extend(chars.next());
        } else if char == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(char);
        }
    }
    out
}

/// `INTERVAL '1 2:03:04' DAY TO SECOND` as a text of one unit.
pub(super) fn range_in_one_unit(calls: &mut Calls<'_, '_>, expr: &mut Expr) {
    let Expr::Interval(interval) = &mut *expr else { return };
    if interval.last_field.is_none() {
        return;
    }
    let text = match duration::of_range(interval) {
        Some(Length::Us(us)) => format!("{us} microseconds"),
        Some(Length::Months(months)) => format!("{months} months"),
        None => {
            let span = expr.span();
            let what = format!("{expr} is no interval");
            let fix = "write INTERVAL '1 02:03:04' DAY TO SECOND";
            return calls.rewriter.refuse(span, what, fix);
        }
    };
    *interval.value = Expr::Value(Value::SingleQuotedString(text).with_empty_span());
    (interval.leading_field, interval.last_field) = (None, None);
    interval.fractional_seconds_precision = None;
}

/// Whether the first argument of a call is a unit of time.
pub(super) fn is_of_unit(function: &Function) -> bool {
    let arguments = match &function.args {
        FunctionArguments::List(list) => list.args.len(),
        _ => 0,
    };
    matches!(
        function_name(function).as_str(),
        "timestampadd" | "timestampdiff" | "dateadd" | "date_add" | "datediff" | "date_diff"
    ) && arguments == 3
}

/// `timestampadd(HOUR, 1, ts)` with its unit as a text, under the name that all its spellings share.
pub(super) fn unit_as_text(function: &mut Function) {
    let span = function.name.span();
    let name = match function_name(function).as_str() {
        "timestampdiff" | "datediff" | "date_diff" => "timestampdiff",
        _ => "timestampadd",
    };
    function.name = super::spell::object_name(name, span);
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(unit))) = list.args.first_mut()
        && let Expr::Identifier(name) = unit
    {
        let text = Value::SingleQuotedString(name.value.clone()).with_span(name.span);
        *unit = Expr::Value(text);
    }
}
