//! Expressions: names resolved, literals typed, Spark's spellings turned into the binder's.
//!
//! Works from the leaves up, so that what is built here is not visited again.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, LambdaFunctionParameter, OneOrManyWithParens, Query, Spanned,
    Subscript, UnaryOperator, Value, VisitMut, VisitorMut, visit_expressions,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::aggregates;
use super::forms;
use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::{Resolved, Scope, nearest, same};
use super::spell::{
    absent, argument, between, call, canonical, constant_scale, expression_of, fields,
    ignore_nulls, named_struct, negative, not, number, object_name, respell, take, volatile,
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
    let lambdas = Vec::new();
    let mut calls = Calls { rewriter, scope, window, clause, interval: 0, queries: 0, lambdas };
    let _ = expr.visit(&mut calls);
}

/// Whether a key of GROUP BY is a call of one of the window functions.
pub(super) fn is_window(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if is_window_function(call))
}

/// Whether a key of GROUP BY is a window, or is made of one.
pub(super) fn holds_window(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |expr| match is_window(expr) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break()
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
        Expr::Function(list) if function_name(list) == "explode_outer" => {
            let span = list.name.span();
            list.name = object_name("at_least_one", span);
            *expr = call("unnest", vec![Expr::Function(list.clone())], span);
            true
        }
        _ => false,
    }
}

fn is_lambda(argument: &FunctionArg) -> bool {
    matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Lambda(_))))
}

pub(super) struct Calls<'a, 'b> {
    pub(super) rewriter: &'a mut Rewriter<'b>,
    pub(super) scope: &'a Scope,
    pub(super) window: Option<&'a Expr>,
    pub(super) clause: Clause,
    /// Depth of INTERVAL literals: their numbers have no type of their own.
    interval: usize,
    /// Depth of subqueries: they were rewritten as a whole, with a scope of their own.
    queries: usize,
    /// Parameters of the lambdas around: they hide columns.
    lambdas: Vec<Vec<String>>,
}

impl VisitorMut for Calls<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Subquery(subquery) => self.rewriter.subquery(subquery, self.scope),
            Expr::InSubquery { subquery, .. } | Expr::Exists { subquery, .. }
                if matches!(self.clause, Clause::Where | Clause::Output) =>
            {
                self.rewriter.subquery(subquery, self.scope);
            }
            Expr::InSubquery { subquery, .. } | Expr::Exists { subquery, .. } => {
                let what =
                    "IN and EXISTS over a subquery have their place in WHERE and HAVING here";
                let fix = "join with the table, or write WHERE x IN (SELECT …)";
                self.rewriter.refuse(subquery.span(), what, fix);
                *expr = Expr::Value(Value::Null.into());
            }
            Expr::Interval(_) => {
                self.interval += 1;
                forms::range_in_one_unit(self, expr);
            }
            Expr::Lambda(lambda) => {
                if let OneOrManyWithParens::One(LambdaFunctionParameter { name, .. }) =
                    &mut lambda.params
                {
                    name.quote_style = Some('`');
                }
                if let OneOrManyWithParens::Many(params) = &mut lambda.params {
                    params.iter_mut().for_each(|param| param.name.quote_style = Some('`'));
                }
                let names = lambda.params.iter().map(|param| param.name.value.clone());
                self.lambdas.push(names.collect());
            }
            Expr::Like { .. } => forms::like(self, expr),
            // The unit of `timestampadd(HOUR, …)` is no column.
            Expr::Function(call) if forms::is_of_unit(call) => forms::unit_as_text(call),
            // Its durations are read here, before their literals get types.
            Expr::Function(call) if is_window_function(call) => *expr = self.window_call(call),
            Expr::Function(call) if function_name(call) != "count" => self.stars(call),
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
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::Interval(_) = expr {
            self.interval -= 1;
        } else if let Expr::Lambda(_) = expr {
            self.lambdas.pop();
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
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: inner } => {
                *expr = call("bitwise_not", vec![take(inner)], Span::empty());
            }
            Expr::Struct { values, fields } if fields.is_empty() => {
                *expr = named_struct(std::mem::take(values).into_iter());
            }
            Expr::Tuple(values) if values.len() > 1 => {
                *expr = named_struct(std::mem::take(values).into_iter());
            }
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let found = call("rlike", vec![take(text), take(pattern)], Span::empty());
                *expr = if *negated { not(found) } else { found };
            }
            Expr::Trim { .. }
            | Expr::Substring { .. }
            | Expr::Position { .. }
            | Expr::Overlay { .. }
            | Expr::Extract { .. } => forms::special_form(self, expr),
            Expr::Function(_) => self.function(expr),
            _ => {}
        }
    }

    /// A column, a field of one, or the window of GROUP BY.
    fn name(&mut self, parts: &[Ident]) -> Expr {
        let spelt = || parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".");
        let span = Span::union_iter(parts.iter().map(|part| part.span));
        let params = self.lambdas.iter().rev().flatten();
        if let Some(param) = params.into_iter().find(|param| same(param, &parts[0].value)) {
            let ident = Ident { value: param.clone(), quote_style: None, span: parts[0].span };
            return fields(Expr::Identifier(ident), &parts[1..]);
        }
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
                    let what = format!(
                        "unknown column {}: a column with this name cannot be resolved",
                        spelt()
                    );
                    self.rewriter.refuse(span, what, fix);
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

    /// `struct(*)` takes every column.
    fn stars(&self, function: &mut Function) {
        let FunctionArguments::List(list) = &mut function.args else { return };
        let star =
            |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
        if !list.args.iter().any(star) {
            return;
        }
        let all = self.scope.relations.iter().enumerate().flat_map(|(at, relation)| {
            let column =
                move |name: &String| self.scope.column(at, name, &Ident::with_quote('`', name));
            relation.columns.iter().map(move |name| argument(column(name)))
        });
        let all: Vec<FunctionArg> = all.collect();
        let args = std::mem::take(&mut list.args).into_iter();
        list.args = args.flat_map(|arg| if star(&arg) { all.clone() } else { vec![arg] }).collect();
    }

    pub(super) fn function(&mut self, expr: &mut Expr) {
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
            "explode" | "posexplode" | "explode_outer" | "posexplode_outer" | "inline"
            | "inline_outer" | "stack" | "json_tuple" => {
                let what = format!("{name} stands alone in an item of SELECT");
                let fix = "write SELECT explode(…) AS name in a subquery of FROM";
                self.rewriter.refuse(span, what, fix);
            }
            "unnest" if self.clause != Clause::Explode => {
                let what = "unnest stands alone in an item of SELECT";
                self.rewriter.refuse(span, what, "use it in a subquery of FROM");
            }
            "unnest" | "window" | "session_window" => {}
            "grouping" | "grouping_id" => self.grouping(function, &name),
            // Spark looks for the window among the columns below the aggregate, where there is none.
            "window_time" if self.takes_own_window(function) => {
                let what = "The non-aggregating expression window_time(window) is based on columns \
                            which are not participating in the GROUP BY clause";
                self.rewriter.refuse(span, what, "call it in a query around this one");
            }
            "count" | "count_if" if self.before_groups() => self.too_early(&name, span),
            "count" | "count_if" => {
                if let Err((what, fix)) = aggregates::count(function, &name) {
                    self.rewriter.refuse(span, what, fix);
                }
            }
            _ => self.known(expr, name, span),
        }
    }

    fn known(&mut self, expr: &mut Expr, name: String, span: Span) {
        let Expr::Function(function) = expr else { return };
        let name = match (canonical(&name), &function.args) {
            (name @ ("ceil" | "floor"), FunctionArguments::List(list)) if list.args.len() == 2 => {
                format!("{name}_scale")
            }
            ("array_sort", FunctionArguments::List(list)) if list.args.iter().any(is_lambda) => {
                "array_sort_by".to_string()
            }
            (name, _) => name.to_string(),
        };
        let distinct = matches!(&function.args, FunctionArguments::List(list)
            if list.duplicate_treatment == Some(DuplicateTreatment::Distinct));
        if let Some(rewritten) = respell(&name, function) {
            *expr = rewritten;
            return;
        }
        match aggregates::respell(&name, function, distinct) {
            Ok(None) => {}
            Ok(Some(rewritten)) => {
                if self.before_groups() {
                    return self.too_early(&name, span);
                }
                *expr = rewritten;
                return;
            }
            Err((what, fix)) => return self.rewriter.refuse(span, what, fix),
        }
        match name.as_str() {
            "first" | "last" => ignore_nulls(function),
            "round" | "bround" | "ceil_scale" | "floor_scale" => constant_scale(function),
            _ => {}
        }
        let known = self.rewriter.catalog;
        if known.is_aggregate(&name) && self.before_groups() {
            self.too_early(&name, span);
        } else if known.is_known(&name) {
            function.name = object_name(&name, span);
            if known.is_aggregate(&name) {
                aggregates::type_arguments(function);
            }
        } else if absent(&name) {
            let what = format!("the function {name} is not in this version");
            self.rewriter.refuse(span, what, "compute the value before it comes here, or after");
        } else {
            let names = known.names();
            let fix = match nearest(&name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => "functions and their names are those of Spark's SQL".into(),
            };
            self.rewriter.refuse(span, format!("unknown function {name}"), fix);
        }
    }

    /// Which keys a row's grouping set has not: without arguments all keys are asked for.
    fn grouping(&mut self, function: &mut Function, name: &str) {
        let span = function.name.span();
        let Some(keys) = &self.scope.sets else {
            let what = format!("{name}() can only be used with GroupingSets/Cube/Rollup");
            let fix = "write GROUP BY ROLLUP(…), CUBE(…) or GROUPING SETS (…)";
            return self.rewriter.refuse(span, what, fix);
        };
        let FunctionArguments::List(list) = &mut function.args else { return };
        let asked: Vec<Expr> = list.args.iter().filter_map(expression_of).collect();
        if let Some(other) = asked.iter().find(|asked| !keys.contains(asked)) {
            let what = format!("Column of {name} ({other}) can't be found in grouping columns");
            return self.rewriter.refuse(span, what, "name keys of GROUP BY");
        }
        let fits = match name {
            "grouping" => asked.len() == 1,
            _ => asked.is_empty() || asked == *keys,
        };
        if !fits {
            let what = format!(
                "{name} takes {}",
                match name {
                    "grouping" => "one key of GROUP BY",
                    _ => "all keys of GROUP BY in their order, or none",
                }
            );
            return self.rewriter.refuse(span, what, "write grouping_id()");
        }
        if asked.is_empty() {
            list.args = keys.iter().cloned().map(argument).collect();
        }
        function.name = object_name(name, span);
    }

    fn takes_own_window(&self, function: &Function) -> bool {
        let FunctionArguments::List(list) = &function.args else { return false };
        let argument = list.args.first().and_then(expression_of);
        argument.is_some() && argument.as_ref() == self.window
    }

    pub(super) fn before_groups(&self) -> bool {
        matches!(self.clause, Clause::Where | Clause::GroupBy)
    }

    pub(super) fn too_early(&mut self, name: &str, span: Span) {
        let what =
            format!("{name}(…) is an aggregate: it has no value before the rows are grouped");
        self.rewriter.refuse(span, what, "filter groups in HAVING");
    }
}
