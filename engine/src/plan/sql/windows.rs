//! Calls of the window functions: their constants read, Spark's reasons against them.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Spanned, UnaryOperator, Value,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::calls::{Calls, Clause};
use super::duration;
use super::names::function_name;
use super::spell::{call, expression_of};

impl Calls<'_, '_> {
    /// `window(time, size, slide, offset)` with microseconds for durations.
    pub(super) fn window_call(&mut self, function: &Function) -> Expr {
        let name = function_name(function);
        let span = function.name.span();
        let null = || Expr::Value(Value::Null.into());
        let placed = matches!(self.clause, Clause::GroupBy | Clause::Select);
        if !placed && self.window.is_none() && !self.scope.windows {
            let what = "a window needs GROUP BY or SELECT";
            self.rewriter.refuse(span, what, "write GROUP BY window(time, '10 seconds')");
            return null();
        }
        let args: Vec<Expr> = match &function.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(expression_of).collect(),
            _ => Vec::new(),
        };
        let (takes, form, counts) = match name.as_str() {
            "window" => (
                "a time, a size, and perhaps slide and offset",
                "window(time, '10 seconds')",
                2..=4,
            ),
            "tumble" => (
                "a time, a size, and perhaps an offset",
                "tumble(time, INTERVAL '10' SECOND)",
                2..=3,
            ),
            "hop" => (
                "a time, a slide, a size, and perhaps an offset",
                "hop(time, INTERVAL '5' SECOND, INTERVAL '10' SECOND)",
                3..=4,
            ),
            _ => ("a time and a gap", "session_window(time, '5 minutes')", 2..=2),
        };
        let time = args.first().filter(|_| counts.contains(&args.len()));
        let Some(time) = time else {
            self.rewriter.refuse(span, format!("{name} takes {takes}"), format!("write {form}"));
            return null();
        };
        if name.starts_with("session") {
            return self.session_call(time.clone(), args[1].clone(), span);
        }
        let mut durations = Vec::new();
        for arg in &args[1..] {
            match duration::of_literal(arg) {
                Ok(us) => durations.push(us),
                Err(reason) => {
                    self.rewriter.refuse(
                        arg.span(),
                        reason,
                        "write a duration such as '10 seconds'",
                    );
                    return null();
                }
            }
        }
        let at = |index: usize| durations.get(index).copied();
        let (size, slide, offset) = match name.as_str() {
            "tumble" => (durations[0], durations[0], at(1).unwrap_or(0)),
            "hop" => (durations[1], durations[0], at(2).unwrap_or(0)),
            _ => (durations[0], at(1).unwrap_or(durations[0]), at(2).unwrap_or(0)),
        };
        if let Some((what, fix)) = refused_window(size, slide, offset) {
            self.rewriter.refuse(function.span(), what, fix);
            return null();
        }
        let literal =
            |us: i64| Expr::Value(Value::SingleQuotedString(us.to_string()).with_empty_span());
        call("window", vec![time.clone(), literal(size), literal(slide), literal(offset)], span)
    }

    /// `session_window(time, gap)` with the gap in microseconds: a constant, or worked out per row.
    fn session_call(&mut self, time: Expr, gap: Expr, span: Span) -> Expr {
        let mut inner = &gap;
        while let Expr::Nested(nested) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: nested } =
            inner
        {
            inner = nested;
        }
        let constant = matches!(inner, Expr::Value(_) | Expr::Interval(_));
        let us = match duration::of_literal(&gap) {
            Ok(us) => Expr::Value(Value::SingleQuotedString(us.to_string()).with_empty_span()),
            Err(reason) if constant => {
                self.rewriter.refuse(gap.span(), reason, "write a duration such as '5 minutes'");
                return Expr::Value(Value::Null.into());
            }
            Err(_) => call("duration_us", vec![gap], span),
        };
        call("session_window", vec![time, us], span)
    }
}

/// Spark's reasons, in Spark's order.
fn refused_window(size: i64, slide: i64, offset: i64) -> Option<(String, &'static str)> {
    if size <= 0 {
        let what = format!(
            "The `window_duration` must be between (0, 9223372036854775807] (current value = {size}L)"
        );
        return Some((what, "give the window a size above zero"));
    }
    if slide <= 0 {
        let what = format!(
            "The `slide_duration` must be between (0, 9223372036854775807] (current value = {slide}L)"
        );
        return Some((what, "give the slide a length above zero"));
    }
    if slide > size {
        let what =
            format!("The `slide_duration`({slide}L) must be <= the `window_duration`({size}L)");
        return Some((what, "rows between two windows would belong to none; take a smaller slide"));
    }
    if offset.unsigned_abs() >= slide.unsigned_abs() {
        let what = format!(
            "The `abs(start_time)`({}L) must be < the `slide_duration`({slide}L)",
            offset.unsigned_abs()
        );
        return Some((what, "take an offset below the slide"));
    }
    None
}
