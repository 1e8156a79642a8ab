//! Spark's common types (ANSI) where the binder would take its own: the results of CASE, the members
//! of IN, the elements of `array(…)`.
//!
//! A text beside a number becomes the number, and stops its row where it is none; the binder would make
//! texts of both. After Spark's `AnsiTypeCoercion`.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::expr::{Case, InList, ScalarFunction};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Cast, Expr, ExprSchemable, LogicalPlan, TryCast};

use super::operators::common_type;
use super::types::sql_name;

/// Every expression of a plan with these types.
pub fn plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let coerced = plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            let own = DFSchema::try_from_qualified_schema(
                scan.table_name.clone(),
                &scan.source.schema(),
            )?;
            schema.merge(&own);
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|node| {
            let name = names.save(&node);
            let coerced = expr(node, &schema)?;
            Ok(coerced.update_data(|node| name.restore(node)))
        })?
        .map_data(|plan| plan.recompute_schema())
    })?;
    Ok(coerced.data)
}

/// An expression with these types.
pub fn expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|node| match node {
        Expr::Case(case) => of_case(case, schema),
        Expr::InList(list) => of_list(list, schema),
        Expr::Cast(Cast { ref expr, ref field })
        | Expr::TryCast(TryCast { ref expr, ref field }) => {
            let (from, to) = (expr.get_type(schema)?, field.data_type());
            if never_casts(&from, to) {
                return plan_err!("CAST: cannot cast {} to {}", sql_name(&from), sql_name(to));
            }
            Ok(Transformed::no(node))
        }
        Expr::ScalarFunction(call) if matches!(call.func.name(), "make_array" | "array") => {
            of_array(call, schema)
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Whether ANSI mode has no cast between these.
fn never_casts(from: &DataType, to: &DataType) -> bool {
    let is_time = |of: &DataType| matches!(of, DataType::Date32 | DataType::Timestamp(_, None));
    let is_zoned = |of: &DataType| matches!(of, DataType::Timestamp(_, Some(_)));
    let is_number = |of: &DataType| of.is_numeric();
    match (from, to) {
        (DataType::Boolean, to) => is_time(to) || is_zoned(to),
        (from, DataType::Boolean) => is_time(from) || is_zoned(from),
        (from, to) => is_number(from) && is_time(to) || is_time(from) && is_number(to),
    }
}

/// The one type of several values; `None`: they have it already.
fn common(values: &[&Expr], what: &str, schema: &DFSchema) -> Result<Option<DataType>> {
    let mut common = DataType::Null;
    let mut differ = false;
    for value in values {
        let found = value.get_type(schema)?;
        differ |= !matches!(common, DataType::Null) && common != found;
        common = match common_type(&common, &found) {
            Some(both) => both,
            None => {
                let (common, found) = (sql_name(&common), sql_name(&found));
                return plan_err!("{what}: {common} and {found}: expected one type");
            }
        };
    }
    Ok(differ.then_some(common))
}

fn cast(value: &mut Expr, to: &DataType, schema: &DFSchema) -> Result<()> {
    if value.get_type(schema)? != *to {
        let taken = std::mem::take(value);
        *value = Expr::Cast(Cast::new(Box::new(taken), to.clone()));
    }
    Ok(())
}

fn of_case(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let results: Vec<&Expr> = case
        .when_then_expr
        .iter()
        .map(|(_, then)| then.as_ref())
        .chain(case.else_expr.as_deref())
        .collect();
    let results = common(&results, "CASE", schema)?;
    let operands = match &case.expr {
        Some(operand) => {
            let whens = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
            let operands: Vec<&Expr> = std::iter::once(operand.as_ref()).chain(whens).collect();
            common(&operands, "CASE", schema)?
        }
        None => None,
    };
    if results.is_none() && operands.is_none() {
        return Ok(Transformed::no(Expr::Case(case)));
    }
    if let Some(to) = &results {
        for (_, then) in &mut case.when_then_expr {
            cast(then, to, schema)?;
        }
        if let Some(otherwise) = &mut case.else_expr {
            cast(otherwise, to, schema)?;
        }
    }
    if let (Some(to), Some(operand)) = (&operands, &mut case.expr) {
        cast(operand, to, schema)?;
        for (when, _) in &mut case.when_then_expr {
            cast(when, to, schema)?;
        }
    }
    Ok(Transformed::yes(Expr::Case(case)))
}

fn of_list(mut list: InList, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let all: Vec<&Expr> = std::iter::once(list.expr.as_ref()).chain(&list.list).collect();
    let Some(to) = common(&all, "IN", schema)? else {
        return Ok(Transformed::no(Expr::InList(list)));
    };
    cast(&mut list.expr, &to, schema)?;
    for member in &mut list.list {
        cast(member, &to, schema)?;
    }
    Ok(Transformed::yes(Expr::InList(list)))
}

fn of_array(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let all: Vec<&Expr> = call.args.iter().collect();
    let Some(to) = common(&all, "array", schema)? else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    for element in &mut call.args {
        cast(element, &to, schema)?;
    }
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}
