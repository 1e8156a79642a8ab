//! Queries and their clauses: scopes, output names, what is refused before binding.
//!
//! After this every column is named letter by letter as its relation spells it, every item of
//! SELECT has an alias, and `*` is gone. Expressions are in `calls`.

use std::ops::{ControlFlow, Range};

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, Spanned, Value,
    visit_relations,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::Marks;
use super::calls::{self, Clause};
use super::grouping;
use super::lateral;
use super::names;
use super::place::Places;
use super::scope::{Relation, Scope, quoted, same};
use super::star;
use crate::job::finding::Finding;
use crate::job::spec::Column;
use crate::plan::functions::Catalog;
use crate::plan::lower::Relations;

pub(super) struct Rewriter<'a> {
    /// The sources' tables, static tables, then the queries that WITH names.
    pub(super) tables: Vec<Relation>,
    /// How many of them are sources.
    sources: usize,
    /// The names around the subquery in work.
    around: Vec<Scope>,
    /// Columns that are structs by the look of them, and their fields.
    pub(super) structs: Vec<(String, Vec<String>)>,
    /// How many queries are around: the outermost one may give two columns one name.
    depth: usize,
    pub catalog: &'a Catalog,
    pub places: &'a Places<'a>,
    pub findings: Vec<Finding>,
}

/// Resolves names in place; where the clauses of the outermost query stand.
pub fn rewrite(
    query: &mut Query,
    relations: Relations,
    catalog: &Catalog,
    places: &Places,
) -> Result<Marks, Vec<Finding>> {
    let relation = |name: &str, schema: &[Column]| Relation {
        name: Some(name.to_string()),
        columns: schema.iter().map(|column| column.name.clone()).collect(),
    };
    let streams = relations.sources.iter().map(|source| relation(&source.name, &source.schema));
    let statics = relations.tables.iter().map(|table| relation(&table.name, &table.schema));
    let (tables, sources) = (streams.chain(statics).collect(), relations.sources.len());
    let (around, structs, findings) = (Vec::new(), Vec::new(), Vec::new());
    let depth = 0;
    let mut rewriter =
        Rewriter { tables, sources, around, structs, depth, catalog, places, findings };
    let marks = rewriter.marks(query);
    rewriter.query(query);
    if rewriter.findings.is_empty() { Ok(marks) } else { Err(rewriter.findings) }
}

impl Rewriter<'_> {
    pub fn refuse(&mut self, span: Span, what: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding::new(self.places.range(span), what, fix));
    }

    fn marks(&self, query: &Query) -> Marks {
        let range = |span: Span| -> Option<Range<usize>> { Some(self.places.range(span)) };
        let mut marks = Marks {
            order_by: query.order_by.as_ref().and_then(|o| range(o.span())),
            limit: query.limit_clause.as_ref().and_then(|l| range(l.span())),
            ..Marks::default()
        };
        if let SetExpr::Select(select) = query.body.as_ref() {
            marks.group_by = match &select.group_by {
                GroupByExpr::Expressions(keys, _) if !keys.is_empty() => {
                    range(Span::union_iter(keys.iter().map(|key| key.span())))
                }
                _ => None,
            };
            let joins = select.from.iter().flat_map(|from| &from.joins);
            marks.join = joins.map(|join| join.span()).next().and_then(range);
            marks.filter = select.selection.as_ref().and_then(|w| range(w.span()));
            marks.distinct = select.distinct.as_ref().and_then(|_| range(select.span()));
        }
        marks
    }

    /// A query inside an expression: it reads the names around it, too.
    pub fn subquery(&mut self, query: &mut Query, around: &Scope) {
        self.around.push(around.clone());
        self.query(query);
        self.around.pop();
    }

    /// Whether a part of a query reads a source.
    fn reads_stream(&self, part: &SetExpr) -> bool {
        let found = visit_relations(part, |name| {
            let table = name.0.last().and_then(|part| part.as_ident());
            let is_it = |source: &Relation| {
                let name = source.name.as_deref().unwrap_or_default();
                table.is_some_and(|ident| same(&ident.value, name))
            };
            match self.tables[..self.sources].iter().any(is_it) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        found.is_break()
    }

    /// Names of the query's columns.
    pub(super) fn query(&mut self, query: &mut Query) -> Vec<String> {
        let known = self.tables.len();
        self.depth += 1;
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let columns = self.query(&mut cte.query);
                if !cte.alias.columns.is_empty() {
                    let span = cte.alias.name.span;
                    self.refuse(span, "columns renamed by WITH", "give the names in its SELECT");
                }
                let name = cte.alias.name.value.clone();
                cte.alias.name = quoted(&name, &cte.alias.name);
                self.tables.push(Relation { name: Some(name), columns });
            }
        }
        let columns = self.body(&mut query.body, query.order_by.as_mut());
        self.tables.truncate(known);
        self.depth -= 1;
        if let Some(LimitClause::LimitOffset { offset: Some(offset), .. }) = &query.limit_clause {
            let span = offset.span();
            let what = "Offset is not supported on streaming DataFrames/Datasets";
            self.refuse(span, what, "leave it out");
        }
        columns
    }

    fn body(&mut self, body: &mut SetExpr, order_by: Option<&mut OrderBy>) -> Vec<String> {
        match body {
            SetExpr::Select(select) => self.select(select, order_by),
            SetExpr::Query(inner) => self.query(inner),
            SetExpr::SetOperation { op: SetOperator::Union, left, right, .. }
                if self.reads_stream(left) == self.reads_stream(right) =>
            {
                self.union(left, right, order_by)
            }
            SetExpr::SetOperation { op, left, right, .. } => {
                let span = left.span().union(&right.span());
                let what = match op {
                    SetOperator::Union => {
                        "Union between streaming and batch DataFrames/Datasets is not supported"
                            .to_string()
                    }
                    op => format!(
                        "{op} is an aggregate. Append output mode not supported for aggregations \
                         on streaming DataFrames/DataSets without watermark; in the other modes \
                         {op} is not in this version"
                    ),
                };
                self.refuse(span, what, "write one SELECT over the source");
                Vec::new()
            }
            other => {
                let span = other.span();
                self.refuse(span, "the query is not a SELECT", "write one SELECT over the source");
                Vec::new()
            }
        }
    }

    /// The columns of both sides are paired by their place; the left side's names are the union's.
    fn union(
        &mut self,
        left: &mut SetExpr,
        right: &mut SetExpr,
        order_by: Option<&mut OrderBy>,
    ) -> Vec<String> {
        let span = left.span().union(&right.span());
        let faults = self.findings.len();
        let columns = self.body(left, None);
        let others = self.body(right, None).len();
        if columns.len() != others && self.findings.len() == faults {
            let what = format!(
                "UNION can only be performed on inputs with the same number of columns: the first \
                 has {}, the second {others}",
                columns.len()
            );
            self.refuse(span, what, "select as many columns on both sides");
        }
        let scope = Scope { aliases: columns.clone(), aliases_first: true, ..Scope::default() };
        self.order(order_by, &scope, None);
        columns
    }

    fn select(&mut self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Vec<String> {
        self.refuse_clauses(select);
        let around = self.around.last().cloned().map(Box::new);
        let mut scope = Scope { around, ..Scope::default() };
        lateral::from_items(self, select);
        for table in &mut select.from {
            self.from(table, &mut scope);
        }
        for view in std::mem::take(&mut select.lateral_views) {
            lateral::into_from(self, select, &mut scope, view);
        }
        grouping::all(&mut select.group_by, &select.projection, self.catalog);
        grouping::sets(self, &mut select.group_by, &select.projection, &scope);
        windows_by_name(&mut select.group_by, &select.projection);
        let window = self.group_window(&mut select.group_by, &mut scope);
        self.group_sets(&mut select.group_by, &mut scope, window.as_ref());
        let columns = self.items(&mut select.projection, &scope, window.as_ref());
        if let Some(condition) = &mut select.selection {
            calls::rewrite(self, condition, &scope, None, Clause::Where);
        }
        scope.aliases = columns.clone();
        let window = window.as_ref();
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by
            && scope.sets.is_none()
        {
            for key in keys.iter_mut().filter(|key| !is_ordinal(key)) {
                if !calls::is_window(key) {
                    calls::rewrite(self, key, &scope, window, Clause::GroupBy);
                }
            }
        }
        if let Some(having) = &mut select.having {
            calls::rewrite(self, having, &scope, window, Clause::Output);
        }
        scope.aliases_first = true;
        self.order(order_by, &scope, window);
        columns
    }

    fn order(&mut self, order_by: Option<&mut OrderBy>, scope: &Scope, window: Option<&Expr>) {
        let Some(OrderBy { kind, .. }) = order_by else { return };
        if let OrderByKind::All(options) = kind {
            let key = |place: usize| OrderByExpr {
                expr: grouping::ordinal(place),
                options: *options,
                with_fill: None,
            };
            *kind = OrderByKind::Expressions((1..=scope.aliases.len()).map(key).collect());
        }
        let OrderByKind::Expressions(exprs) = kind else { return };
        for order in exprs.iter_mut() {
            if !is_ordinal(&order.expr) {
                calls::rewrite(self, &mut order.expr, scope, window, Clause::Output);
            }
            // NULL is the least value: first ascending, last descending.
            let ascending = order.options.asc.unwrap_or(true);
            order.options.nulls_first.get_or_insert(ascending);
        }
    }

    fn refuse_clauses(&mut self, select: &Select) {
        let whole = select.select_token.0.span;
        let clauses = [
            (!select.sort_by.is_empty(), "SORT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.named_window.is_empty(), "WINDOW"),
            (select.qualify.is_some(), "QUALIFY"),
            (select.top.is_some(), "TOP"),
            (select.into.is_some(), "INTO"),
        ];
        for (_, name) in clauses.iter().filter(|(there, _)| *there) {
            let what = match *name {
                "SORT BY" => "SORT BY: Sorting is not supported on streaming DataFrames/Datasets, \
                              unless it is on aggregated DataFrame/Dataset in Complete output mode"
                    .to_string(),
                name => format!("{name} has no meaning over a stream"),
            };
            self.refuse(whole, what, "leave it out");
        }
        if let Some(Distinct::On(_)) = &select.distinct {
            self.refuse(whole, "DISTINCT ON is not Spark's SQL", "write DISTINCT or GROUP BY");
        }
        if select.from.is_empty() {
            let fix = format!("write FROM {}", self.tables[0].name.as_deref().unwrap_or_default());
            self.refuse(whole, "SELECT without FROM reads no stream", fix);
        }
    }

    /// The window call of GROUP BY, rewritten: what the bare name `window` stands for elsewhere.
    fn group_window(&mut self, group_by: &mut GroupByExpr, scope: &mut Scope) -> Option<Expr> {
        let GroupByExpr::Expressions(keys, _) = group_by else { return None };
        scope.windows = keys.iter().any(calls::holds_window);
        let sets = keys.iter().any(|key| matches!(key, Expr::GroupingSets(_)));
        let mut found: Option<Expr> = None;
        let each = keys.iter_mut().flat_map(|key| match key {
            Expr::GroupingSets(sets) => sets.iter_mut().flatten().collect(),
            key => vec![key],
        });
        for key in each.filter(|key| calls::is_window(key)) {
            let span = key.span();
            let before = key.clone();
            calls::rewrite(self, key, scope, None, Clause::GroupBy);
            if found.as_ref().is_some_and(|found| !sets || found != key) {
                *key = before;
                self.refuse(
                    span,
                    "Multiple time/session window expressions would result in a cartesian product \
                     of rows, therefore they are currently not supported",
                    "group by one window",
                );
                continue;
            }
            found = Some(key.clone());
        }
        found
    }

    /// The keys of several grouping sets, rewritten: SELECT asks for them with `grouping(…)`.
    fn group_sets(&mut self, group_by: &mut GroupByExpr, scope: &mut Scope, window: Option<&Expr>) {
        let GroupByExpr::Expressions(keys, _) = group_by else { return };
        let [Expr::GroupingSets(sets)] = keys.as_mut_slice() else { return };
        let mut all: Vec<Expr> = Vec::new();
        for key in sets.iter_mut().flatten() {
            if !calls::is_window(key) {
                calls::rewrite(self, key, scope, window, Clause::GroupBy);
            }
            if !all.contains(key) {
                all.push(key.clone());
            }
        }
        scope.sets = Some(all);
    }

    /// Gives every item its name and replaces `*` by the columns it stands for.
    fn items(
        &mut self,
        items: &mut Vec<SelectItem>,
        scope: &Scope,
        window: Option<&Expr>,
    ) -> Vec<String> {
        let mut columns = Vec::new();
        let mut scope = scope.clone();
        for item in std::mem::take(items) {
            let (mut expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = names::of_column(&expr);
                    (expr, Ident::new(name))
                }
                SelectItem::ExprWithAlias { expr, alias } => (expr, alias),
                SelectItem::Wildcard(options) => {
                    self.star(None, &options, &scope, window, (&mut columns, items));
                    continue;
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    let relation = name.0.last().and_then(|part| part.as_ident()).cloned();
                    self.star(relation.as_ref(), &options, &scope, window, (&mut columns, items));
                    continue;
                }
                other => {
                    let span = other.span();
                    self.refuse(span, "this item is not in this version", "name the columns");
                    continue;
                }
            };
            let expr_span = expr.span();
            if let Some(fields) = star::struct_fields(&expr) {
                self.structs.push((alias.value.clone(), fields));
            }
            let clause = if calls::explode(&mut expr) { Clause::Explode } else { Clause::Select };
            calls::rewrite(self, &mut expr, &scope, window, clause);
            let alias = quoted(&alias.value, &alias);
            if clause == Clause::Select {
                scope.lateral.push((alias.value.clone(), expr.clone()));
            }
            if columns.iter().any(|name: &String| same(name, &alias.value))
                && !scope.unknown
                && self.depth > 1
            {
                let what = format!("two columns are named {}", alias.value);
                self.refuse(expr_span, what, "give one of them another name with AS");
            }
            columns.push(alias.value.clone());
            items.push(SelectItem::ExprWithAlias { expr, alias });
        }
        if self.depth == 1 {
            tell_apart(items);
        }
        columns
    }
}

/// Behind the name of a column whose name an earlier one has, as often as needed; it never leaves.
pub(in crate::plan) const AGAIN: char = '\u{1}';

/// Gives items of one name names of their own, for the binder.
fn tell_apart(items: &mut [SelectItem]) {
    for at in 1..items.len() {
        let (before, rest) = items.split_at_mut(at);
        let SelectItem::ExprWithAlias { alias, .. } = &mut rest[0] else { continue };
        let taken = |name: &str| {
            before.iter().any(|item| {
                matches!(item, SelectItem::ExprWithAlias { alias, .. } if same(&alias.value, name))
            })
        };
        while taken(&alias.value) {
            alias.value.push(AGAIN);
        }
    }
}

/// `SELECT window(…) AS w … GROUP BY w`, or `GROUP BY 1`, groups by that window.
fn windows_by_name(group_by: &mut GroupByExpr, items: &[SelectItem]) {
    let GroupByExpr::Expressions(keys, _) = group_by else { return };
    for key in keys {
        let item = match &*key {
            Expr::Identifier(name) => items.iter().find(|item| {
                matches!(item, SelectItem::ExprWithAlias { alias, .. } if same(&alias.value, &name.value))
            }),
            Expr::Value(value) => match &value.value {
                Value::Number(place, _) => {
                    place.parse::<usize>().ok().and_then(|place| items.get(place.wrapping_sub(1)))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr)) = item
            && calls::holds_window(expr)
        {
            *key = expr.clone();
        }
    }
}

/// `GROUP BY 1` and `ORDER BY 2` count the items of SELECT.
fn is_ordinal(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(_, _)))
}
