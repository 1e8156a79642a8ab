//! Expressions over what a query's columns are made of, and the names of columns that no table has.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::{Expr, lit};

use super::lower::Refused;
use super::windows::field_in_place;

/// Relation of the groups' columns, which are named by their number: keys, then aggregates.
pub const GROUP: &str = "$group";

/// Name of the column that a join adds where it tells which rows have a match.
pub const MARK: &str = "mark";

pub fn reads(expr: &Expr, relation: &str) -> bool {
    expr.column_refs().iter().any(|c| c.relation.as_ref().is_some_and(|r| r.table() == relation))
}

pub fn inline_all(
    exprs: &[Expr],
    schema: &DFSchema,
    columns: &[Expr],
) -> Result<Vec<Expr>, Refused> {
    exprs.iter().map(|expr| inline(expr, schema, columns)).collect()
}

/// The expression over what the columns below are made of; aliases are dropped, fields of a struct
/// that is made in place are taken from it.
pub fn inline(expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr, Refused> {
    let inlined = expr.clone().transform_up(|node| {
        let replaced = match &node {
            Expr::Column(column) => {
                let index = schema.index_of_column(column)?;
                columns[index].clone()
            }
            Expr::Alias(alias) => alias.expr.as_ref().clone(),
            Expr::ScalarFunction(call) if call.func.name() == "of_type" => call.args[0].clone(),
            Expr::ScalarFunction(call) => match field_in_place(call) {
                Some(field) => field,
                None => return Ok(Transformed::no(node)),
            },
            _ => return Ok(Transformed::no(node)),
        };
        Ok(Transformed::yes(replaced))
    })?;
    Ok(inlined.data)
}

pub fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// Relation of the element that the `n`-th step, an explode, adds.
pub fn element_relation(n: usize) -> String {
    format!("$element{n}")
}

pub fn element_column(n: usize) -> Column {
    Column::new(Some(element_relation(n)), "element")
}

/// Relation of the columns that the `n`-th step, a join, adds.
pub fn joined_relation(n: usize) -> String {
    format!("$join{n}")
}

/// A static table's column, named by its number.
pub fn joined_column(n: usize, index: usize) -> Column {
    Column::new(Some(joined_relation(n)), index.to_string())
}

/// Whether a row met any, as the `n`-th step, a join, tells it.
pub fn mark_column(n: usize) -> Column {
    Column::new(Some(joined_relation(n)), MARK)
}

/// Relation of the columns of a side of a join of two streams: left, right.
pub fn side_relation(side: usize) -> &'static str {
    ["$left", "$right"][side]
}

/// A side's column, named by its number.
pub fn side_column(side: usize, index: usize) -> Column {
    Column::new(Some(side_relation(side)), index.to_string())
}

pub fn group_column(index: usize) -> Column {
    Column::new(Some(GROUP), index.to_string())
}

/// Gives the groups' columns in an expression new numbers.
pub fn renumber_groups(expr: &mut Expr, moved: &impl Fn(usize) -> usize) {
    let taken = std::mem::replace(expr, lit(ScalarValue::Null));
    let renumbered = taken.transform_up(|node| match &node {
        Expr::Column(column) if column.relation.as_ref().is_some_and(|r| r.table() == GROUP) => {
            let index = column.name.parse().expect("groups' columns are named by their number");
            Ok(Transformed::yes(Expr::Column(group_column(moved(index)))))
        }
        _ => Ok(Transformed::no(node)),
    });
    *expr = renumbered.expect("the rule returns no error").data;
}
