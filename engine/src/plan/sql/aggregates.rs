//! Aggregates in Spark's spellings as those that the kernels have.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Spanned, Value, visit_expressions_mut,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::spell::{argument, binary, call, case, expression_of, int, literal_text, object_name};

/// What is wrong with a call, and what to write.
pub(super) type Wrong = (String, &'static str);

fn wrong<T>(what: impl Into<String>, fix: &'static str) -> Result<T, Wrong> {
    Err((what.into(), fix))
}

/// `count(*)` is `count(1)`; `count_if(x)` is `count(1) FILTER (WHERE x)`; of several columns
/// `count` takes the rows in which none is NULL.
pub(super) fn count(function: &mut Function, name: &str) -> Result<(), Wrong> {
    let span = function.name.span();
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let distinct = list.duplicate_treatment.take() == Some(DuplicateTreatment::Distinct);
    if name == "count" {
        for arg in &mut list.args {
            if matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard)) {
                if distinct {
                    return wrong("count(DISTINCT *)", "name the columns");
                }
                *arg = argument(int("1"));
            }
        }
        if list.args.len() > 1 {
            let all = list.args.iter().map(expression_of).collect::<Option<Vec<_>>>();
            let all = all.ok_or(("count takes columns".to_string(), "write count(a, b)"))?;
            list.args = vec![argument(call("row_key", all, span))];
        }
        if distinct {
            function.name = object_name("count_distinct", span);
        }
        return Ok(());
    }
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))] = list.args.as_mut_slice() else {
        return wrong("count_if takes one condition", "write count_if(x > 1)");
    };
    let condition = std::mem::replace(condition, int("1"));
    function.name = object_name("count", span);
    function.filter = Some(Box::new(match function.filter.take() {
        None => condition,
        Some(filter) => binary(*filter, BinaryOperator::And, condition),
    }));
    Ok(())
}

/// The binder tells aggregates apart by a text that shows no casts: those of an argument are shown to it
/// as calls, which `inline` takes away.
pub(super) fn type_arguments(function: &mut Function) {
    let _: ControlFlow<()> = visit_expressions_mut(&mut function.args, |expr| {
        if let Expr::Cast { expr: inner, data_type, .. } = &*expr
            && !matches!(inner.as_ref(), Expr::Value(_))
        {
            let shown = text(&data_type.to_string());
            let cast = std::mem::replace(expr, int("1"));
            *expr = call("of_type", vec![cast, shown], Span::empty());
        }
        ControlFlow::Continue(())
    });
}

/// An aggregate as an expression of other aggregates; `None` where it is one of the kernels' own, or
/// none at all.
pub(super) fn respell(
    name: &str,
    function: &mut Function,
    distinct: bool,
) -> Result<Option<Expr>, Wrong> {
    if let FunctionArguments::List(list) = &mut function.args
        && list.duplicate_treatment.take().is_some()
        && distinct
    {
        match name {
            "sum" | "avg" => {
                let name = format!("{name}_distinct");
                function.name = object_name(&name, function.name.span());
                return Ok(Some(Expr::Function(function.clone())));
            }
            // Once or many times, the answer is the same.
            "min"
            | "max"
            | "bool_and"
            | "bool_or"
            | "bit_and"
            | "bit_or"
            | "collect_set"
            | "approx_count_distinct" => {}
            "collect_list" => {
                function.name = object_name("collect_set", function.name.span());
                return Ok(Some(Expr::Function(function.clone())));
            }
            "string_agg" => return texts(function, true).map(Some),
            _ => {
                return wrong(
                    format!("{name}(DISTINCT …) is not in this version"),
                    "DISTINCT goes with count, sum, avg, min, max, collect_list and string_agg",
                );
            }
        }
    }
    match name {
        "string_agg" => texts(function, false).map(Some),
        "median" => quantile(function, "percentile", Some("0.5")).map(Some),
        "percentile" | "percentile_approx" => quantile(function, name, None).map(Some),
        "percentile_cont" => within_group(function, "percentile").map(Some),
        "percentile_disc" => within_group(function, "percentile_disc").map(Some),
        "mode" if !function.within_group.is_empty() => {
            let ordered = ordered_by(function)?;
            Ok(Some(made(function, "mode", vec![ordered])))
        }
        "approx_count_distinct" => {
            let args = arguments(function)?;
            let [value, error] = args.as_slice() else { return Ok(None) };
            let Some(error) = literal_text(error) else {
                return wrong("approx_count_distinct: the error is a constant", "write 0.05");
            };
            Ok(Some(made(function, name, vec![value.clone(), text(&error)])))
        }
        _ => Ok(None),
    }
}

fn text(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.into()).with_empty_span())
}

fn arguments(function: &Function) -> Result<Vec<Expr>, Wrong> {
    let args = match &function.args {
        FunctionArguments::List(list) => list.args.iter().map(expression_of).collect(),
        _ => None,
    };
    args.ok_or(("this form of call is not in this version".into(), "write name(argument)"))
}

/// A call of another aggregate with this one's FILTER.
fn made(function: &Function, name: &str, args: Vec<Expr>) -> Expr {
    let mut made = call(name, args, function.name.span());
    if let Expr::Function(made) = &mut made {
        made.filter = function.filter.clone();
    }
    made
}

/// The texts in the order of their rows, or the different ones in their own order, with a delimiter
/// between them; NULL where there is none.
fn texts(function: &Function, distinct: bool) -> Result<Expr, Wrong> {
    let mut args = arguments(function)?.into_iter();
    let (Some(value), delimiter, None) = (args.next(), args.next(), args.next()) else {
        return wrong("string_agg takes a text and a delimiter", "write string_agg(x, ',')");
    };
    let value = super::spell::cast(value, datafusion_sql::sqlparser::ast::DataType::String(None));
    let mut list =
        made(function, if distinct { "collect_set" } else { "collect_list" }, vec![value.clone()]);
    if let Expr::Function(list) = &mut list {
        type_arguments(list);
    }
    if let [order] = function.within_group.as_slice() {
        let same = order.expr == value || Some(&order.expr) == arguments(function)?.first();
        if !same {
            return wrong(
                "WITHIN GROUP orders by the text itself here",
                "write string_agg(x, ',') WITHIN GROUP (ORDER BY x)",
            );
        }
        let up = Expr::Value(Value::Boolean(order.options.asc.unwrap_or(true)).into());
        list = call("sort_array", vec![list, up], function.name.span());
    }
    let delimiter = delimiter.unwrap_or_else(|| text(""));
    let joined = call("array_join", vec![list, delimiter], function.name.span());
    Ok(where_any(function, value, joined))
}

/// What is made of values where there is one; else NULL.
fn where_any(function: &Function, value: Expr, made_of: Expr) -> Expr {
    let mut count = made(function, "count", vec![value]);
    if let Expr::Function(count) = &mut count {
        type_arguments(count);
    }
    case(binary(count, BinaryOperator::Gt, int("0")), made_of, None)
}

/// One percentile, or an array of them where the percentages are an array; NULL without a value.
fn quantile(function: &Function, name: &str, at: Option<&str>) -> Result<Expr, Wrong> {
    let args = arguments(function)?;
    let one = |value: &Expr, at: &str| made(function, name, vec![value.clone(), text(at)]);
    match (args.as_slice(), at) {
        ([value], Some(at)) => Ok(one(value, at)),
        // The accuracy of an approximation is always that of the kernel: 1/10000 or better.
        ([value, part], None) | ([value, part, _], None) => {
            if let Some(at) = literal_text(part) {
                return Ok(one(value, &at));
            }
            let parts = match part {
                Expr::Function(call) if super::names::function_name(call) == "array" => {
                    arguments(call)?.iter().map(literal_text).collect::<Option<Vec<_>>>()
                }
                _ => None,
            };
            let Some(parts) = parts else {
                let what = format!("{name}: the percentage is a constant, or an array of them");
                return wrong(what, "write percentile_approx(x, 0.5)");
            };
            let all = parts.iter().map(|at| one(value, at)).collect();
            let all = call("array", all, function.name.span());
            Ok(where_any(function, value.clone(), all))
        }
        _ => wrong(format!("{name} takes a value and a percentage"), "write percentile(x, 0.5)"),
    }
}

fn ordered_by(function: &Function) -> Result<Expr, Wrong> {
    match function.within_group.as_slice() {
        [order] if order.options.asc != Some(false) => Ok(order.expr.clone()),
        _ => wrong("WITHIN GROUP takes one column, ascending", "write (ORDER BY x)"),
    }
}

fn within_group(function: &Function, name: &str) -> Result<Expr, Wrong> {
    let value = ordered_by(function)?;
    let args = arguments(function)?;
    let [at] = args.as_slice() else {
        return wrong(format!("{name} takes one percentage"), "write percentile_cont(0.5)");
    };
    match literal_text(at) {
        Some(at) => Ok(made(function, name, vec![value, text(&at)])),
        None => wrong(format!("{name}: the percentage is a constant"), "write 0.5"),
    }
}
