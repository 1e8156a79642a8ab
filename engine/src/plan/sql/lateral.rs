//! LATERAL VIEW as a subquery: `FROM t LATERAL VIEW explode(x) v AS w` is
//! `FROM (SELECT *, explode(x) AS w FROM t) AS t`. With OUTER the list has one NULL at least.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LateralView, Query,
    Select, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableFactor, TableWithJoins,
};
use datafusion_sql::sqlparser::dialect::SparkSqlDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Span;

use super::dialect::Spark;
use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::quoted;

const EXPLODE: &str = "SELECT *, explode(NULL) AS `word` FROM t";
const POSEXPLODE: &str = "SELECT * EXCEPT (`$at`), get_field(`$at`, 'pos') AS `pos`, \
                          get_field(`$at`, 'col') AS `col` FROM (SELECT *, \
                          explode(indexed(NULL)) AS `$at` FROM t)";

/// Puts the view into FROM; its relation keeps the table's name.
pub fn into_from(rewriter: &mut Rewriter, from: &mut [TableWithJoins], view: LateralView) {
    let span = view.lateral_view.span();
    let (Some(table), Expr::Function(call)) = (from.first_mut(), &view.lateral_view) else {
        return refused(rewriter, span);
    };
    let name = function_name(call);
    let Some(list) = argument(call) else { return refused(rewriter, span) };
    let (name, outer) = match name.strip_suffix("_outer") {
        Some(inner) => (inner.to_string(), true),
        None => (name, view.outer),
    };
    let aliases = view.lateral_col_alias.as_slice();
    if !table.joins.is_empty() {
        let fix = "join in a subquery of FROM, or explode in one";
        return rewriter.refuse(span, "LATERAL VIEW beside a join is not in this version", fix);
    }
    let inner = std::mem::replace(&mut table.relation, placeholder());
    let alias = name_of(&inner);
    let query = match (name.as_str(), aliases) {
        ("explode", [] | [_]) => explode(list, inner, aliases.first(), outer),
        ("posexplode", []) => posexplode(list, inner, None, outer),
        ("posexplode", [place, element]) => posexplode(list, inner, Some((place, element)), outer),
        _ => {
            table.relation = inner;
            return refused(rewriter, span);
        }
    };
    table.relation = TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: alias.map(|name| TableAlias { explicit: true, name, columns: Vec::new(), at: None }),
        sample: None,
    };
}

fn refused(rewriter: &mut Rewriter, span: Span) {
    rewriter.refuse(
        span,
        "this LATERAL VIEW is not in this version",
        "write LATERAL VIEW explode(…) name AS column",
    );
}

fn explode(list: Expr, from: TableFactor, alias: Option<&Ident>, outer: bool) -> Box<Query> {
    let mut query = template(EXPLODE);
    let select = select_of(&mut query);
    select.from[0].relation = from;
    let [_, SelectItem::ExprWithAlias { expr, alias: name }] = select.projection.as_mut_slice()
    else {
        unreachable!("the template has two items")
    };
    *argument_of(expr) = if outer { at_least_one(list) } else { list };
    *name =
        alias.map_or_else(|| Ident::with_quote('`', "col"), |alias| quoted(&alias.value, alias));
    query
}

/// The list, or one NULL where it is NULL or empty.
fn at_least_one(list: Expr) -> Expr {
    super::spell::call("at_least_one", vec![list], Span::empty())
}

/// Turns `posexplode(…)` in SELECT into a view and the two columns that it gives.
pub fn from_items(select: &mut Select) {
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        let (expr, aliases) = match &item {
            SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => {
                items.push(item);
                continue;
            }
        };
        let places = match expr {
            Expr::Function(call) => function_name(call).starts_with("posexplode"),
            _ => false,
        };
        if !places || !matches!(aliases.len(), 0 | 2) {
            items.push(item);
            continue;
        }
        let columns = match aliases.is_empty() {
            true => ["pos", "col"].map(|name| Ident::with_quote('`', name)).to_vec(),
            false => aliases,
        };
        for column in &columns {
            let expr = Expr::Identifier(column.clone());
            items.push(SelectItem::ExprWithAlias { expr, alias: column.clone() });
        }
        select.lateral_views.push(LateralView {
            lateral_view: expr.clone(),
            lateral_view_name: super::spell::object_name("posexplode", Span::empty()),
            lateral_col_alias: columns,
            outer: false,
        });
    }
    select.projection = items;
}

fn posexplode(
    list: Expr,
    from: TableFactor,
    aliases: Option<(&Ident, &Ident)>,
    outer: bool,
) -> Box<Query> {
    let mut query = template(POSEXPLODE);
    let select = select_of(&mut query);
    if let (Some((place, element)), [_, first, second]) =
        (aliases, select.projection.as_mut_slice())
    {
        for (item, to) in [(first, place), (second, element)] {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                *alias = quoted(&to.value, to);
            }
        }
    }
    let TableFactor::Derived { subquery, .. } = &mut select.from[0].relation else {
        unreachable!("the template reads a subquery")
    };
    let inner = select_of(subquery);
    inner.from[0].relation = from;
    if let [_, SelectItem::ExprWithAlias { expr, .. }] = inner.projection.as_mut_slice() {
        *argument_of(argument_of(expr)) = list;
        if outer {
            let indexed = argument_of(expr);
            *indexed = at_least_one(indexed.clone());
        }
    }
    query
}

fn template(sql: &str) -> Box<Query> {
    let parsed = Parser::parse_sql(&Spark(SparkSqlDialect {}), sql);
    match parsed.map(|mut statements| statements.pop()) {
        Ok(Some(Statement::Query(query))) => query,
        other => unreachable!("the template is a query: {other:?}"),
    }
}

fn select_of(query: &mut Query) -> &mut Select {
    match query.body.as_mut() {
        SetExpr::Select(select) => select,
        other => unreachable!("the template is a SELECT: {other}"),
    }
}

fn argument_of(expr: &mut Expr) -> &mut Expr {
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = expr
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.first_mut()
    {
        return argument;
    }
    unreachable!("the template calls a function of one argument")
}

fn argument(call: &Function) -> Option<Expr> {
    match &call.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some(argument.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn name_of(relation: &TableFactor) -> Option<Ident> {
    match relation {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

fn placeholder() -> TableFactor {
    select_of(&mut template(EXPLODE)).from.remove(0).relation
}
