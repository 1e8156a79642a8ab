//! Calls with lambdas, compiled: a body is an expression over its parameters and what it reads of the
//! row around it, evaluated once for the elements of all rows.
//!
//! So a body has Spark's arithmetic and casts like any other expression. An error in it is an error
//! of the row; which row is found as for every function (see `expr`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, Result, exec_datafusion_err, plan_err};
use datafusion_expr::expr::{HigherOrderFunction, Lambda, ScalarFunction};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::compile::{Columns, Compiler};
use super::expr::Compiled;
use super::functions::higher;
use super::functions::lambda::{Kind, kind};

/// Relation of a lambda's parameters.
const PARAMETER: &str = "$lambda";

/// The call with its bodies compiled, over its values and the columns that the bodies read.
pub fn compile(
    call: &HigherOrderFunction,
    returns: DataType,
    compiler: &Compiler,
    columns: &Columns,
) -> Result<Expr> {
    let Some(kind) = kind(call.func.name()) else {
        return plan_err!("{} is not in this version", call.func.name());
    };
    let is_lambda = |arg: &&Expr| matches!(arg, Expr::Lambda(_));
    let mut args: Vec<Expr> = call.args.iter().filter(|arg| !is_lambda(arg)).cloned().collect();
    let values = args.len();
    let mut captured: Vec<Column> = Vec::new();
    for lambda in call.args.iter().filter(is_lambda) {
        captured.extend(lambda.column_refs().into_iter().cloned());
    }
    captured.sort();
    captured.dedup();
    let mut bodies = Vec::new();
    for arg in &call.args {
        if let Expr::Lambda(lambda) = arg {
            bodies.push(body(lambda, &captured, compiler, columns)?);
        }
    }
    args.extend(captured.into_iter().map(Expr::Column));
    let text = super::words::logical(&Expr::HigherOrderFunction(call.clone()), &columns.names);
    let signature = Signature::variadic_any(Volatility::Immutable);
    let udf = ScalarUDF::new_from_impl(Call { kind, text, bodies, values, returns, signature });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), args)))
}

fn body(
    lambda: &Lambda,
    captured: &[Column],
    compiler: &Compiler,
    around: &Columns,
) -> Result<Body> {
    let mut types = vec![None; lambda.params.len()];
    let expr = bind(lambda.body.as_ref().clone(), &lambda.params, &mut types)?;
    let mut columns = Columns::default();
    columns.names.clone_from(&around.names);
    for (index, (name, data_type)) in lambda.params.iter().zip(&types).enumerate() {
        if let Some(data_type) = data_type {
            columns.push(parameter(name), data_type.clone(), index);
        }
    }
    for (index, column) in captured.iter().enumerate() {
        if let Some((data_type, _)) = around.get(column) {
            columns.push(column.clone(), data_type.clone(), types.len() + index);
        }
    }
    Ok(Body { compiled: compiler.compile(&expr, &columns)?, types })
}

fn parameter(name: &str) -> Column {
    Column::new(Some(PARAMETER), name)
}

/// Parameters become columns, save those that a lambda inside hides; the types of those that are read.
fn bind(expr: Expr, params: &[String], types: &mut [Option<DataType>]) -> Result<Expr> {
    let bound = expr.transform_down(|node| match &node {
        Expr::LambdaVariable(variable) => {
            let Some(at) = params.iter().position(|param| *param == variable.name) else {
                return Ok(Transformed::no(node));
            };
            types[at] = variable.field.as_ref().map(|field| field.data_type().clone());
            Ok(Transformed::yes(Expr::Column(parameter(&variable.name))))
        }
        Expr::Lambda(inner) => {
            let seen: Vec<String> = params
                .iter()
                .map(|p| if inner.params.contains(p) { String::new() } else { p.clone() })
                .collect();
            let body = bind(inner.body.as_ref().clone(), &seen, types)?;
            let lambda = Expr::Lambda(Lambda::new(inner.params.clone(), body));
            Ok(Transformed::new(lambda, true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(bound.data)
}

/// Whether a lambda's parameter, or a lambda, is part of an expression: it has no value of its own.
pub fn needs_parameters(expr: &Expr) -> bool {
    expr.exists(|node| Ok(matches!(node, Expr::LambdaVariable(_) | Expr::Lambda(_))))
        .unwrap_or(true)
}

#[derive(Debug)]
pub struct Body {
    compiled: Compiled,
    /// By parameter; `None`: it is not read.
    types: Vec<Option<DataType>>,
}

impl Body {
    pub fn parameters(&self) -> usize {
        self.types.len()
    }

    /// The body's value for each set of parameters; `parents`: the row that each belongs to.
    ///
    /// Errors: the first reason for which it stops.
    pub fn run(
        &self,
        parameters: &[ArrayRef],
        parents: &[u32],
        captured: &[ArrayRef],
    ) -> Result<ArrayRef, String> {
        let failed = |error: arrow::error::ArrowError| error.to_string();
        let mut columns = Vec::with_capacity(self.types.len() + captured.len());
        for (column, wanted) in parameters.iter().zip(&self.types) {
            columns.push(match wanted {
                Some(wanted) if wanted != column.data_type() => {
                    cast(column, wanted).map_err(failed)?
                }
                _ => Arc::clone(column),
            });
        }
        let rows = UInt32Array::from(parents.to_vec());
        for column in captured {
            columns.push(take(column, &rows, None).map_err(failed)?);
        }
        let evaluated = self.compiled.evaluate(&columns, parents.len(), None);
        match evaluated.errors.into_iter().next() {
            Some((_, reason)) => Err(reason),
            None => Ok(evaluated.values),
        }
    }
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    text: String,
    bodies: Vec<Body>,
    /// How many arguments are values; those behind them are what the bodies read of the row.
    values: usize,
    returns: DataType,
    signature: Signature,
}

/// The text says all that is computed.
impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.returns) == (&other.text, &other.returns)
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        "higher_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let (values, captured) = arrays.split_at(self.values);
        let made = higher::run(self.kind, values, captured, &self.bodies, &self.returns);
        let made = made.map_err(|reason| exec_datafusion_err!("{reason}"))?;
        Ok(ColumnarValue::Array(made))
    }
}
