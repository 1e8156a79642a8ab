//! Scalar subqueries over static tables, and what a subquery may not read.
//!
//! One that reads nothing of the row around it is a function without arguments: its value is worked
//! out when the tables are read, and it stands wherever an expression may. One that does read the row is
//! a left join with its answers by key; IN and EXISTS are semi and anti joins, or a mark on each row
//! where they stand beside OR. Invariant: a value never changes within an epoch, as the tables that are
//! read again while a job runs are refused here.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Result as Bound, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::{Exists, InSubquery, ScalarFunction};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Subquery, Volatility,
};
use datafusion_optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion_optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion_optimizer::{Optimizer, OptimizerContext};

use super::compile::Compiler;
use super::fixed;
use super::lower::Relations;
use crate::error::{Error, Result};
use crate::job::spec::JobSpec;

/// A plan without subqueries: those that are left in its expressions are calls.
pub struct Planned {
    pub plan: LogicalPlan,
    /// What is called, the inner ones first.
    pub values: Vec<Arc<Value>>,
}

/// Takes the subqueries out of a bound plan.
///
/// Errors: a subquery over a stream, and what has no answer in this version.
pub fn plan(plan: LogicalPlan, relations: Relations) -> Bound<Planned> {
    allowed(&plan, relations)?;
    let mut values = Vec::new();
    let called = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        let mapped = plan.map_expressions(|node| {
            let name = names.save(&node);
            let called = node.transform_up(|node| match node {
                Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                    let value = Arc::new(Value::of(&subquery)?);
                    values.push(Arc::clone(&value));
                    Ok(Transformed::yes(value.call()))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(called.update_data(|node| name.restore(node)))
        })?;
        mapped.map_data(|plan| plan.recompute_schema())
    })?;
    Ok(Planned { plan: as_joins(called.data)?, values })
}

/// IN, EXISTS and what reads the row around it.
fn as_joins(plan: LogicalPlan) -> Bound<LogicalPlan> {
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
    ]);
    optimizer.optimize(plan, &OptimizerContext::new().with_max_passes(1), |_, _| {})
}

fn allowed(plan: &LogicalPlan, relations: Relations) -> Bound<()> {
    let of_static = |subquery: &Subquery| match reads_stream(&subquery.subquery, relations)? {
        false => Ok(()),
        true => plan_err!(
            "Queries with streaming sources must be executed with writeStream.start(): a subquery \
             inside an expression is a query of its own, and reads static tables alone"
        ),
    };
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::ScalarSubquery(subquery)
                    | Expr::InSubquery(InSubquery { subquery, .. })
                    | Expr::Exists(Exists { subquery, .. }) => of_static(subquery)?,
                    Expr::SetComparison(_) => {
                        return plan_err!("ANY and ALL of a subquery are not in this version");
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if let LogicalPlan::Filter(filter) = node {
            let within = split_conjunction(&filter.predicate);
            if within.into_iter().any(|conjunct| !is_in(conjunct) && holds_not_in(conjunct)) {
                return plan_err!("NOT IN beside OR is not in this version: write NOT EXISTS");
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// `x IN (…)` or `x NOT IN (…)`, and nothing around it.
fn is_in(expr: &Expr) -> bool {
    match expr {
        Expr::Not(inner) => is_in(inner),
        other => matches!(other, Expr::InSubquery(_)),
    }
}

fn holds_not_in(expr: &Expr) -> bool {
    let is_one = |expr: &Expr| match expr {
        Expr::InSubquery(within) => within.negated,
        Expr::Not(inner) => is_in(inner),
        _ => false,
    };
    expr.exists(|expr| Ok(is_one(expr))).unwrap_or(true)
}

/// Whether a plan reads a source, subqueries included.
pub fn reads_stream(plan: &LogicalPlan, relations: Relations) -> Bound<bool> {
    let mut stream = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            stream |= !relations.is_static(scan.table_name.table());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(stream)
}

/// The one value of a subquery.
#[derive(Debug)]
pub struct Value {
    /// What tells it from other subqueries.
    text: String,
    data_type: DataType,
    plan: LogicalPlan,
    query: OnceLock<fixed::Query>,
    now: RwLock<Option<ScalarValue>>,
}

impl Value {
    fn of(subquery: &Subquery) -> Bound<Value> {
        let plan = as_joins(subquery.subquery.as_ref().clone())?;
        let lines = plan.display_indent().to_string();
        let lines = lines.lines().map(str::trim).collect::<Vec<_>>();
        Ok(Value {
            text: lines.join(" of "),
            data_type: plan.schema().field(0).data_type().clone(),
            plan,
            query: OnceLock::new(),
            now: RwLock::new(None),
        })
    }

    fn call(self: Arc<Value>) -> Expr {
        let name = format!("scalarsubquery({})", self.text);
        let signature = Signature::nullary(Volatility::Stable);
        let call = Called { name, value: self, signature };
        let udf = Arc::new(ScalarUDF::new_from_impl(call));
        Expr::ScalarFunction(ScalarFunction::new_udf(udf, Vec::new()))
    }

    /// Errors: what cannot be answered once for a whole run.
    pub fn compile(&self, job: &JobSpec, compiler: &Compiler) -> Bound<()> {
        let query = fixed::Query::compile(&self.plan, job, compiler)?;
        if query.reloads {
            return plan_err!(
                "a scalar subquery reads {}, which is read again while the job runs: set reload = \
                 false",
                query.tables
            );
        }
        self.query.set(query).expect("a plan is compiled once");
        Ok(())
    }

    /// Works it out.
    ///
    /// Errors: `Failed` where there is more than one row, or an expression stops.
    pub fn load(&self, tables: &[RecordBatch]) -> Result<()> {
        let query = self.query.get().expect("it was compiled with the plan");
        let rows = query.run(tables)?;
        let value = match rows.num_rows() {
            0 => ScalarValue::try_from(&self.data_type),
            1 => ScalarValue::try_from_array(rows.column(0), 0),
            more => {
                return Err(Error::failed(format!(
                    "SCALAR_SUBQUERY_TOO_MANY_ROWS: a subquery over {} is used as a value and has \
                     {more} rows",
                    query.tables
                )));
            }
        };
        let value = value.map_err(|error| Error::failed(format!("{}: {error}", query.tables)))?;
        *self.now.write().expect("nobody panics while it holds the value") = Some(value);
        Ok(())
    }
}

#[derive(Debug)]
struct Called {
    name: String,
    value: Arc<Value>,
    signature: Signature,
}

/// The text says all that is asked.
impl PartialEq for Called {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Called {}

impl Hash for Called {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Called {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Bound<DataType> {
        Ok(self.value.data_type.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Bound<ColumnarValue> {
        let now = self.value.now.read().expect("nobody panics while it holds the value");
        match now.as_ref() {
            Some(value) => Ok(ColumnarValue::Scalar(value.clone())),
            None => exec_err!("the tables of a subquery were not read yet"),
        }
    }
}
