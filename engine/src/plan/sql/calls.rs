//! Expressions: names resolved, literals typed, Spark's spellings turned into the binder's.
//!
//! Works from the leaves up, so that what is built here is not visited again.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CeilFloorKind, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Query, Spanned, Subscript, TrimWhereField, UnaryOperator, Value,
    VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::{Resolved, Scope, nearest};
use super::spell::{
    argument, between, binary, call, canonical, constant_scale, expression_of, fields,
    ignore_nulls, int, negative, not, number, object_name, respell, take, volatile,
};

/// Where an expression stands decides which calls are allowed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    Where,
    GroupBy,
    Select,
    /// An item of SELECT that is `explode(…)` and nothing else.
    Explode,
    /// HAVING and ORDER BY.
    Output,
}

pub(super) fn rewrite(
    rewriter: &mut Rewriter,
    expr: &mut Expr,
    scope: &Scope,
    window: Option<&Expr>,
    clause: Clause,
) {
    let mut calls = Calls { rewriter, scope, window, clause, interval: 0 };
    let _ = expr.visit(&mut calls);
}

/// Whether a key of GROUP BY is a call of one of the window functions.
pub(super) fn is_window(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if is_window_function(call))
}

/// What the key of GROUP BY is called elsewhere.
fn is_window_name(name: &str) -> bool {
    ["window", "session_window"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_window_function(call: &Function) -> bool {
    const WINDOWS: [&str; 5] = ["window", "tumble", "hop", "session_window", "session"];
    WINDOWS.contains(&function_name(call).as_str())
}

/// Turns an item `explode(x)` into the binder's `unnest(x)`; whether it was one.
pub(super) fn explode(expr: &mut Expr) -> bool {
    match expr {
        Expr::Function(call) if matches!(function_name(call).as_str(), "explode" | "unnest") => {
            call.name = object_name("unnest", call.name.span());
            true
        }
        _ => false,
    }
}

/// Aggregates of Spark's that have no exact, order-free state here yet.
const LATER: [&str; 18] = [
    "approx_count_distinct",
    "approx_percentile",
    "array_agg",
    "collect_list",
    "collect_set",
    "corr",
    "covar_pop",
    "covar_samp",
    "kurtosis",
    "listagg",
    "max_by",
    "median",
    "min_by",
    "mode",
    "percentile",
    "percentile_approx",
    "skewness",
    "string_agg",
];

pub(super) struct Calls<'a, 'b> {
    pub(super) rewriter: &'a mut Rewriter<'b>,
    scope: &'a Scope,
    pub(super) window: Option<&'a Expr>,
    pub(super) clause: Clause,
    /// Depth of INTERVAL literals: their numbers have no type of their own.
    interval: usize,
}

impl VisitorMut for Calls<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let what = "a subquery inside an expression is not in this version";
        self.rewriter.refuse(query.span(), what, "filter on the source's columns");
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Interval(_) => self.interval += 1,
            // Its durations are read here, before their literals get types.
            Expr::Function(call) if is_window_function(call) => *expr = self.window_call(call),
            // `a.b` inside an access chain is a field, not a column.
            Expr::CompoundFieldAccess { root, access_chain } => {
                let (root, chain) = (root.as_ref().clone(), std::mem::take(access_chain));
                *expr = self.access(root, chain);
            }
            Expr::Between { .. } => between(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Interval(_) = expr {
            self.interval -= 1;
        } else if self.interval == 0 {
            self.expression(expr);
        }
        ControlFlow::Continue(())
    }
}

impl Calls<'_, '_> {
    fn expression(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Identifier(name) => {
                let parts = [name.clone()];
                *expr = self.name(&parts);
            }
            Expr::CompoundIdentifier(parts) => {
                let parts = std::mem::take(parts);
                *expr = self.name(&parts);
            }
            Expr::Value(value) => match &value.value {
                Value::Number(digits, long) => *expr = number(digits, *long, value.span),
                Value::DoubleQuotedString(text) => {
                    value.value = Value::SingleQuotedString(text.clone());
                }
                _ => {}
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                if let Some(negative) = negative(inner) {
                    *expr = negative;
                }
            }
            Expr::UnaryOp { op: op @ UnaryOperator::BangNot, .. } => *op = UnaryOperator::Not,
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let found = call("rlike", vec![take(text), take(pattern)], Span::empty());
                *expr = if *negated { not(found) } else { found };
            }
            Expr::Trim { .. }
            | Expr::Substring { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Extract { .. } => self.special_form(expr),
            Expr::Function(_) => self.function(expr),
            _ => {}
        }
    }

    /// A column, a field of one, or the window of GROUP BY.
    fn name(&mut self, parts: &[Ident]) -> Expr {
        let spelt = || parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".");
        let span = Span::union_iter(parts.iter().map(|part| part.span));
        match self.scope.resolve(parts) {
            Resolved::Column(column, taken) => fields(*column, &parts[taken..]),
            Resolved::Ambiguous(column) => {
                let fix = "two columns here have this name; rename one in a subquery";
                self.rewriter.refuse(span, format!("{column} is ambiguous"), fix);
                Expr::Value(Value::Null.into())
            }
            Resolved::Unknown if self.scope.unknown => Expr::Value(Value::Null.into()),
            Resolved::Unknown => match self.window {
                Some(window) if is_window_name(&parts[0].value) => {
                    fields(window.clone(), &parts[1..])
                }
                _ => {
                    let names = self.scope.names();
                    let fix = match nearest(&parts[parts.len() - 1].value, names.iter().copied()) {
                        Some(name) => format!("did you mean {name}?"),
                        None => format!("the columns here are {}", names.join(", ")),
                    };
                    self.rewriter.refuse(span, format!("unknown column {}", spelt()), fix);
                    Expr::Value(Value::Null.into())
                }
            },
        }
    }

    fn access(&mut self, root: Expr, chain: Vec<AccessExpr>) -> Expr {
        let mut root = root;
        for access in chain {
            root = match access {
                AccessExpr::Dot(Expr::Identifier(field)) => fields(root, &[field]),
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let span = index.span();
                    call("array_item", vec![root, index], span)
                }
                other => {
                    let span = root.span();
                    let what = format!("{other} is not in this version");
                    self.rewriter.refuse(span, what, "use the function get or element_at");
                    root
                }
            };
        }
        root
    }

    fn special_form(&mut self, expr: &mut Expr) {
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
                CeilFloorKind::Scale(_) => self.scale(span),
            },
            Expr::Floor { expr: inner, field } => match field {
                CeilFloorKind::DateTimeField(_) => *expr = call("floor", vec![take(inner)], span),
                CeilFloorKind::Scale(_) => self.scale(span),
            },
            Expr::Position { expr: sought, r#in: text } => {
                *expr = call("instr", vec![take(text), take(sought)], span);
            }
            Expr::Extract { field, expr: time, .. } => {
                let name = field.to_string().to_lowercase();
                *expr = call(&name, vec![take(time)], span);
                self.function(expr);
            }
            _ => {}
        }
    }

    fn scale(&mut self, span: Span) {
        let what = "ceil and floor with a scale are not in this version";
        self.rewriter.refuse(span, what, "use round(x, scale)");
    }

    fn function(&mut self, expr: &mut Expr) {
        let Expr::Function(function) = expr else { return };
        let name = function_name(function);
        let span = function.name.span();
        if function.over.is_some() {
            let what = format!(
                "{name}() OVER: Window function is not supported on streaming DataFrames/Datasets"
            );
            self.rewriter.refuse(span, what, "group by window(…) instead");
            return;
        }
        if let Some(reason) = volatile(&name) {
            let what = format!("{name}() {reason}: the same rows would not give the same result");
            self.rewriter.refuse(span, what, "use a column of the source");
            return;
        }
        match name.as_str() {
            // The item of SELECT itself became `unnest` before.
            "explode" | "posexplode" | "explode_outer" | "posexplode_outer" | "inline" => {
                let what = format!("{name} stands alone in an item of SELECT");
                let fix = "write SELECT explode(…) AS name in a subquery of FROM";
                self.rewriter.refuse(span, what, fix);
            }
            "unnest" if self.clause != Clause::Explode => {
                let what = "unnest stands alone in an item of SELECT";
                self.rewriter.refuse(span, what, "use it in a subquery of FROM");
            }
            "unnest" | "window" | "session_window" => {}
            // Spark looks for the window among the columns below the aggregate, where there is none.
            "window_time" if self.takes_own_window(function) => {
                let what = "The non-aggregating expression window_time(window) is based on columns \
                            which are not participating in the GROUP BY clause";
                self.rewriter.refuse(span, what, "call it in a query around this one");
            }
            "count" | "count_if" if self.before_groups() => self.too_early(&name, span),
            "count" | "count_if" => self.count(expr, &name),
            _ => self.known(expr, name, span),
        }
    }

    /// `count(*)` is `count(1)`; `count_if(x)` is `count(1) FILTER (WHERE x)`.
    fn count(&mut self, expr: &mut Expr, name: &str) {
        let Expr::Function(function) = expr else { return };
        let span = function.name.span();
        let FunctionArguments::List(list) = &mut function.args else { return };
        if list.duplicate_treatment.is_some() {
            let what = "Distinct aggregations are not supported on streaming DataFrames/Datasets";
            let fix = "group by the column in a subquery, or count rows";
            self.rewriter.refuse(span, what, fix);
            return;
        }
        if name == "count" {
            for arg in &mut list.args {
                if matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard)) {
                    *arg = argument(int("1"));
                }
            }
            return;
        }
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))] = list.args.as_mut_slice()
        else {
            self.rewriter.refuse(span, "count_if takes one condition", "write count_if(x > 1)");
            return;
        };
        let condition = std::mem::replace(condition, int("1"));
        function.name = object_name("count", span);
        function.filter = Some(Box::new(match function.filter.take() {
            None => condition,
            Some(filter) => binary(*filter, BinaryOperator::And, condition),
        }));
    }

    fn known(&mut self, expr: &mut Expr, name: String, span: Span) {
        let Expr::Function(function) = expr else { return };
        let distinct = matches!(&function.args, FunctionArguments::List(list)
            if list.duplicate_treatment.is_some());
        if distinct {
            let what = format!(
                "{name}(DISTINCT …): Distinct aggregations are not supported on \
                                streaming DataFrames/Datasets"
            );
            self.rewriter.refuse(span, what, "group by the column in a subquery");
            return;
        }
        let name = canonical(&name).to_string();
        if let Some(rewritten) = respell(&name, function) {
            *expr = rewritten;
            return;
        }
        match name.as_str() {
            "first" | "last" => ignore_nulls(function),
            "round" | "bround" => constant_scale(function),
            _ => {}
        }
        let known = self.rewriter.catalog;
        if known.is_aggregate(&name) && self.before_groups() {
            self.too_early(&name, span);
        } else if known.is_known(&name) {
            function.name = object_name(&name, span);
        } else if LATER.contains(&name.as_str()) {
            let what = format!("{name} is not in this version");
            self.rewriter.refuse(span, what, "use count, sum, avg, min, max, first or last");
        } else {
            let names = known.names();
            let fix = match nearest(&name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => "functions and their names are those of Spark's SQL".into(),
            };
            self.rewriter.refuse(span, format!("unknown function {name}"), fix);
        }
    }

    fn takes_own_window(&self, function: &Function) -> bool {
        let FunctionArguments::List(list) = &function.args else { return false };
        let argument = list.args.first().and_then(expression_of);
        argument.is_some() && argument.as_ref() == self.window
    }

    fn before_groups(&self) -> bool {
        matches!(self.clause, Clause::Where | Clause::GroupBy)
    }

    fn too_early(&mut self, name: &str, span: Span) {
        let what =
            format!("{name}(…) is an aggregate: it has no value before the rows are grouped");
        self.rewriter.refuse(span, what, "filter groups in HAVING");
    }
}
