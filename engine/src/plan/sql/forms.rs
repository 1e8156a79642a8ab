//! Special forms: TRIM, SUBSTRING, CEIL, POSITION, EXTRACT, and functions of a unit of time.

use datafusion_sql::sqlparser::ast::{
    CeilFloorKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned,
    TrimWhereField, Value,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::calls::Calls;
use super::names::function_name;
use super::spell::{call, int, take};

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
        Expr::Ceil { expr: inner, field } => match field {
            CeilFloorKind::DateTimeField(_) => *expr = call("ceil", vec![take(inner)], span),
            CeilFloorKind::Scale(_) => scale(calls, span),
        },
        Expr::Floor { expr: inner, field } => match field {
            CeilFloorKind::DateTimeField(_) => *expr = call("floor", vec![take(inner)], span),
            CeilFloorKind::Scale(_) => scale(calls, span),
        },
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

fn scale(calls: &mut Calls<'_, '_>, span: Span) {
    let what = "ceil and floor with a scale are not in this version";
    calls.rewriter.refuse(span, what, "use round(x, scale)");
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
