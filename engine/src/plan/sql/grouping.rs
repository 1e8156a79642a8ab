//! GROUP BY in Spark's forms: ALL, ROLLUP, CUBE, GROUPING SETS, WITH ROLLUP.
//!
//! What groups by several sets of keys becomes one list of sets, which the planner expands: each row
//! counts once in every set, with NULL for the keys that the set has not.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, GroupByExpr, GroupByWithModifier, SelectItem, Spanned, Value, visit_expressions,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::{Resolved, Scope, same};
use super::spell::canonical;
use crate::plan::functions::Catalog;

/// As many sets as one query may have: each of them multiplies the rows.
const SETS_MAX: usize = 1_024;

/// `GROUP BY ALL` by the items of SELECT that have no aggregate.
pub(super) fn all(group_by: &mut GroupByExpr, items: &[SelectItem], catalog: &Catalog) {
    let GroupByExpr::All(modifiers) = group_by else { return };
    let modifiers = std::mem::take(modifiers);
    let (mut keys, mut aggregates) = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        let Some(expr) = item_expr(item) else { continue };
        if !has_aggregate(expr, catalog, &aggregates) {
            keys.push(ordinal(at + 1));
        } else if let SelectItem::ExprWithAlias { alias, .. } = item {
            aggregates.push(alias.value.clone());
        }
    }
    *group_by = GroupByExpr::Expressions(keys, modifiers);
}

pub(super) fn ordinal(place: usize) -> Expr {
    Expr::Value(Value::Number(place.to_string(), false).with_empty_span())
}

fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// `named`: items before this one that have an aggregate.
fn has_aggregate(expr: &Expr, catalog: &Catalog, named: &[String]) -> bool {
    /// Aggregates that are spelt by others.
    const SPELT: [&str; 4] = ["count_if", "median", "percentile_cont", "string_agg"];
    let found = visit_expressions(expr, |expr| match expr {
        Expr::Function(call) => {
            let name = function_name(call);
            let name = canonical(&name);
            match catalog.is_aggregate(name) || SPELT.contains(&name) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        Expr::Identifier(name) if named.iter().any(|known| same(known, &name.value)) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Makes one list of sets of all that GROUP BY says, where it says more than keys.
pub(super) fn sets(
    rewriter: &mut Rewriter<'_>,
    group_by: &mut GroupByExpr,
    items: &[SelectItem],
    scope: &Scope,
) {
    let GroupByExpr::Expressions(keys, modifiers) = group_by else { return };
    let plain = keys
        .iter()
        .all(|key| !matches!(key, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_)));
    if plain && modifiers.is_empty() {
        return;
    }
    let span = Span::union_iter(keys.iter().map(|key| key.span()));
    let mut made: Vec<Vec<Expr>> = vec![Vec::new()];
    let each = |keys: &[Expr]| keys.iter().map(|key| vec![key.clone()]).collect::<Vec<_>>();
    match modifiers.as_slice() {
        [] => {
            for key in keys.iter() {
                let sets = match key {
                    Expr::Rollup(parts) => rollup(parts),
                    Expr::Cube(parts) => cube(parts),
                    Expr::GroupingSets(sets) => sets.clone(),
                    Expr::Tuple(keys) => vec![keys.clone()],
                    key => vec![vec![key.clone()]],
                };
                made = product(&made, &sets);
            }
        }
        [GroupByWithModifier::Rollup] => made = rollup(&each(keys)),
        [GroupByWithModifier::Cube] => made = cube(&each(keys)),
        [GroupByWithModifier::GroupingSets(Expr::GroupingSets(sets))] => made.clone_from(sets),
        _ => {
            let what = "this form of GROUP BY is not Spark's";
            rewriter.refuse(span, what, "write ROLLUP, CUBE or GROUPING SETS");
        }
    }
    if made.len() > SETS_MAX {
        let what = format!("{} grouping sets are more than {SETS_MAX}", made.len());
        rewriter.refuse(span, what, "write the sets that you need");
        made.truncate(1);
    }
    for key in made.iter_mut().flatten() {
        if let Some(item) = meant(key, items, scope) {
            *key = item;
        }
    }
    *keys = vec![Expr::GroupingSets(made)];
    modifiers.clear();
}

/// The longest first: `(a, b)`, `(a)`, `()`.
fn rollup(parts: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    (0..=parts.len()).rev().map(|length| parts[..length].concat()).collect()
}

fn cube(parts: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    // Too many to be taken: the caller counts them.
    let parts = &parts[..parts.len().min(12)];
    let subset = |bits: usize| {
        let chosen = parts.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        chosen.flat_map(|(_, part)| part.clone()).collect()
    };
    (0..1_usize << parts.len()).rev().map(subset).collect()
}

fn product(left: &[Vec<Expr>], right: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    let pairs = left.iter().take(SETS_MAX + 1).flat_map(|left| {
        right.iter().map(move |right| {
            let mut both = left.clone();
            both.extend(right.iter().filter(|key| !left.contains(key)).cloned());
            both
        })
    });
    pairs.collect()
}

/// What an ordinal, or an alias that is no column, stands for.
fn meant(key: &Expr, items: &[SelectItem], scope: &Scope) -> Option<Expr> {
    match key {
        Expr::Identifier(name) => {
            if !matches!(scope.resolve(std::slice::from_ref(name)), Resolved::Unknown) {
                return None;
            }
            items.iter().find_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } if same(&alias.value, &name.value) => {
                    Some(expr.clone())
                }
                _ => None,
            })
        }
        Expr::Value(value) => match &value.value {
            Value::Number(place, _) => {
                let place = place.parse::<usize>().ok()?.checked_sub(1)?;
                item_expr(items.get(place)?).cloned()
            }
            _ => None,
        },
        Expr::Nested(inner) => meant(inner, items, scope),
        _ => None,
    }
}
