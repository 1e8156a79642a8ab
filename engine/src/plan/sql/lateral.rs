//! Generators as subqueries: `FROM t LATERAL VIEW explode(x) v AS w` is
//! `FROM (SELECT *, explode(x) AS w FROM t)`, in which the columns of `t` and of `v` have names that tell
//! them apart (`scope::hidden`). With OUTER the list has one NULL at least.
//!
//! Each generator is a list, and columns made of its element: `stack`, `inline`, `json_tuple` and an
//! explode of a map are explodes of structs. One in SELECT that gives several columns is a view, too.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, LateralView, Query, Select, SelectItem, SetExpr,
    Spanned, Statement, TableAlias, TableFactor, TableWithJoins, Value,
};
use datafusion_sql::sqlparser::dialect::SparkSqlDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Span;

use super::calls::{self, Clause};
use super::dialect::Spark;
use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::{self, Relation, Scope};
use super::spell::{call, expression_of};
use super::star;

/// What the names of a generator's columns in SELECT begin with, which `*` passes over.
pub const HIDDEN: &str = "$generated";

/// A list, and what its element gives.
struct Generator {
    list: Expr,
    columns: Vec<Made>,
    outer: bool,
}

/// A column: its name where the query gives none, and how it comes out of the element.
struct Made {
    name: String,
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Element,
    Field(usize),
    /// The element stands in the second field, behind its place.
    FieldOfSecond(usize),
}

/// Puts the view around FROM: a relation of its own beside those that are there.
pub fn into_from(
    rewriter: &mut Rewriter,
    select: &mut Select,
    scope: &mut Scope,
    view: LateralView,
) {
    let span = view.lateral_view.span();
    let Expr::Function(function) = &view.lateral_view else { return refused(rewriter, span) };
    let aliases = view.lateral_col_alias.as_slice();
    let Some(mut generator) = generator(function, aliases.len()) else {
        return refused(rewriter, span);
    };
    generator.outer |= view.outer;
    if !aliases.is_empty() && aliases.len() != generator.columns.len() {
        let what = format!(
            "{} gives {} columns, and {} have names here",
            function_name(function),
            generator.columns.len(),
            aliases.len()
        );
        return rewriter.refuse(span, what, "name each of them");
    }
    let mut list = match generator.outer {
        true => call("at_least_one", vec![generator.list], Span::empty()),
        false => generator.list,
    };
    calls::rewrite(rewriter, &mut list, scope, None, Clause::Select);
    let at = Ident::with_quote('`', "$at");
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for (index, relation) in scope.relations.iter().enumerate() {
        for name in &relation.columns {
            let expr = scope.column(index, name, &Ident::with_quote('`', name));
            let alias = Ident::with_quote('`', scope::hidden(index, name));
            outer.push(SelectItem::ExprWithAlias {
                expr: Expr::Identifier(alias.clone()),
                alias: alias.clone(),
            });
            inner.push(SelectItem::ExprWithAlias { expr, alias });
        }
    }
    let element = call("unnest", vec![list], Span::empty());
    inner.push(SelectItem::ExprWithAlias { expr: element, alias: at.clone() });
    let mut columns = Vec::new();
    for (place, made) in generator.columns.into_iter().enumerate() {
        let name = aliases.get(place).map_or(made.name, |alias| alias.value.clone());
        let expr = made.from.of(Expr::Identifier(at.clone()));
        let alias = Ident::with_quote('`', scope::hidden(scope.relations.len(), &name));
        outer.push(SelectItem::ExprWithAlias { expr, alias });
        columns.push(name);
    }
    let from = std::mem::take(&mut select.from);
    let inner = derived(query_of(inner, from), "$inner");
    let outer = query_of(outer, vec![TableWithJoins { relation: inner, joins: Vec::new() }]);
    let relation = derived(outer, scope::VIEW);
    select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    let name = view.lateral_view_name.0.last().and_then(|part| part.as_ident());
    scope.relations.push(Relation { name: name.map(|name| name.value.clone()), columns });
    scope.in_view = true;
}

impl From {
    fn of(self, element: Expr) -> Expr {
        let field = |root: Expr, index: usize| {
            let index = Value::SingleQuotedString(index.to_string()).with_empty_span();
            call("field_at", vec![root, Expr::Value(index)], Span::empty())
        };
        match self {
            From::Element => element,
            From::Field(index) => field(element, index),
            From::FieldOfSecond(index) => field(field(element, 1), index),
        }
    }
}

fn derived(subquery: Box<Query>, name: &str) -> TableFactor {
    let name = Ident::with_quote('`', name);
    let alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    TableFactor::Derived { lateral: false, subquery, alias, sample: None }
}

fn query_of(items: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Box<Query> {
    let parsed = Parser::parse_sql(&Spark(SparkSqlDialect {}), "SELECT 1 FROM t");
    let Ok(Some(Statement::Query(mut query))) = parsed.map(|mut statements| statements.pop())
    else {
        unreachable!("it is a query")
    };
    let SetExpr::Select(select) = query.body.as_mut() else { unreachable!("it is a SELECT") };
    (select.projection, select.from) = (items, from);
    query
}

fn refused(rewriter: &mut Rewriter, span: Span) {
    rewriter.refuse(
        span,
        "this LATERAL VIEW is not in this version",
        "write LATERAL VIEW explode(…) name AS column",
    );
}

/// Turns a generator in SELECT that gives several columns into a view and these columns.
pub fn from_items(rewriter: &mut Rewriter, select: &mut Select) {
    let generators = select.projection.iter().filter(|item| {
        let (SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }
        | SelectItem::ExprWithAliases { expr: Expr::Function(function), .. }) = item
        else {
            return false;
        };
        is_generator(&function_name(function))
    });
    let spans: Vec<Span> = generators.map(|item| item.span()).collect();
    if let [_, second, ..] = spans.as_slice() {
        let what =
            format!("only one generator allowed per SELECT clause but found {}", spans.len());
        return rewriter.refuse(*second, what, "explode the other one in a LATERAL VIEW");
    }
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        let (expr, aliases) = match &item {
            SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
            SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => {
                items.push(item);
                continue;
            }
        };
        let generator = match expr {
            Expr::Function(function) => generator(function, aliases.len()),
            _ => None,
        };
        let made = match generator {
            Some(Generator { columns, .. }) if columns[0].from != From::Element => columns,
            _ => {
                items.push(item);
                continue;
            }
        };
        let named = aliases.len() == made.len();
        if !aliases.is_empty() && !named {
            let what =
                format!("{} columns come out here, and {} have names", made.len(), aliases.len());
            rewriter.refuse(expr.span(), what, "name each of them: AS (a, b)");
        }
        let columns = match named {
            true => aliases,
            false => made.into_iter().map(|made| Ident::with_quote('`', made.name)).collect(),
        };
        // The relation may have columns of these names.
        let hidden = |at: usize| Ident::with_quote('`', format!("{HIDDEN}{at}"));
        let lateral_col_alias: Vec<Ident> = (0..columns.len()).map(hidden).collect();
        for (column, alias) in lateral_col_alias.iter().zip(columns) {
            let expr = Expr::Identifier(column.clone());
            items.push(SelectItem::ExprWithAlias { expr, alias });
        }
        select.lateral_views.push(LateralView {
            lateral_view: expr.clone(),
            lateral_view_name: super::spell::object_name("generator", Span::empty()),
            lateral_col_alias,
            outer: false,
        });
    }
    select.projection = items;
}

fn is_generator(name: &str) -> bool {
    let name = name.strip_suffix("_outer").unwrap_or(name);
    matches!(name, "explode" | "posexplode" | "inline" | "stack" | "json_tuple")
}

/// What a call generates; `None`: it generates nothing, or how many columns is not known.
fn generator(function: &Function, named: usize) -> Option<Generator> {
    let called = function_name(function);
    let name = called.strip_suffix("_outer").unwrap_or(&called);
    if !is_generator(name) {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let args = list.args.iter().map(expression_of).collect::<Option<Vec<Expr>>>()?;
    let made = |name: &str, from: From| Made { name: name.into(), from };
    let numbered = |prefix: &str, count: usize| {
        (0..count).map(|at| made(&format!("{prefix}{at}"), From::Field(at))).collect()
    };
    let simple = |name: &str, args: Vec<Expr>| call(name, args, Span::empty());
    let (list, columns) = match (name, args.as_slice()) {
        ("explode", [map]) if is_map(map) || named == 2 => {
            let columns = vec![made("key", From::Field(0)), made("value", From::Field(1))];
            (simple("map_entries", args.clone()), columns)
        }
        ("explode", [list]) => (list.clone(), vec![made("col", From::Element)]),
        ("posexplode", [map]) if is_map(map) || named == 3 => {
            let columns = vec![
                made("pos", From::Field(0)),
                made("key", From::FieldOfSecond(0)),
                made("value", From::FieldOfSecond(1)),
            ];
            (simple("indexed", vec![simple("map_entries", args.clone())]), columns)
        }
        ("posexplode", [list]) => {
            let columns = vec![made("pos", From::Field(0)), made("col", From::Field(1))];
            (simple("indexed", vec![list.clone()]), columns)
        }
        ("inline", [list]) => {
            let names = field_names(list).unwrap_or_default();
            let columns = match (names.len(), named) {
                (0, 0) => return None,
                (0, named) => numbered("col", named),
                _ => names.iter().enumerate().map(|(at, n)| made(n, From::Field(at))).collect(),
            };
            (list.clone(), columns)
        }
        ("stack", [Expr::Value(rows), values @ ..]) => {
            let Value::Number(rows, _) = &rows.value else { return None };
            let rows =
                rows.parse::<usize>().ok().filter(|rows| (1..=values.len()).contains(rows))?;
            let width = values.len().div_ceil(rows);
            let null = || Expr::Value(Value::Null.into());
            let value = |at: usize| values.get(at).cloned().unwrap_or_else(null);
            let column =
                |at| simple("array", (0..rows).map(|row| value(row * width + at)).collect());
            let zipped = simple("arrays_zip", (0..width).map(column).collect());
            (zipped, numbered("col", width))
        }
        ("json_tuple", [text, names @ ..]) if !names.is_empty() => {
            let field = |name: &Expr| {
                simple("array", vec![simple("json_field", vec![text.clone(), name.clone()])])
            };
            let zipped = simple("arrays_zip", names.iter().map(field).collect());
            (zipped, numbered("c", names.len()))
        }
        _ => return None,
    };
    Some(Generator { list, columns, outer: called.ends_with("_outer") })
}

/// Whether a value is a map by the look of it.
fn is_map(expr: &Expr) -> bool {
    const MAPS: [&str; 9] = [
        "map",
        "map_from_arrays",
        "map_from_entries",
        "str_to_map",
        "map_concat",
        "map_filter",
        "transform_keys",
        "transform_values",
        "map_zip_with",
    ];
    match expr {
        Expr::Nested(inner) => is_map(inner),
        Expr::Function(function) => MAPS.contains(&function_name(function).as_str()),
        _ => false,
    }
}

/// The names of the structs' fields in `array(struct(…), …)`, where they can be seen.
fn field_names(list: &Expr) -> Option<Vec<String>> {
    let Expr::Function(function) = list else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    match (function_name(function).as_str(), list.args.as_slice()) {
        ("array", [first, ..]) => star::struct_fields(&expression_of(first)?),
        ("from_json", [_, schema]) => match expression_of(schema)? {
            Expr::Value(value) => {
                crate::plan::functions::json::fields_of(&value.value.into_string()?)
            }
            _ => None,
        },
        _ => None,
    }
}
