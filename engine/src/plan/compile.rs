//! Logical expressions to what runs: the kernels' tree where it can say all of it; else DataFusion's
//! physical expression, in which every part that the kernels can say is still theirs.
//!
//! So arithmetic, comparisons of numbers and casts have one implementation and one meaning, also
//! beside strings. Casts that the kernels cannot say are Spark's (`functions::cast`).
//!
//! DataFusion's own answers differ from Spark's where this module never asks for them: its integers
//! wrap, its decimals have other types, a double by zero is infinite, -0.0 is less than 0.0, casts do
//! not trim, a text beside a number makes both texts. Left to DataFusion are text comparison, LIKE,
//! long IN lists, CASE over texts, and structs.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{
    Column, DFSchema, Result, ScalarValue, TableReference, exec_datafusion_err, plan_err,
};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TryCast, Volatility, lit,
};
use datafusion_physical_expr::create_physical_expr;
use jiff::tz::TimeZone;

use super::expr::Compiled;
use super::functions::cast::spark_cast;
use super::functions::time::{self, US_PER_DAY};
use super::kernel;
use super::lambda;
use super::types::{is_number, map_of, map_parts};

/// The columns that an expression can read, and where the batch holds them.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    columns: Vec<(Column, DataType, usize)>,
    /// What a user calls the groups' columns, by their number.
    pub names: Vec<String>,
}

impl Columns {
    pub fn push(&mut self, column: Column, data_type: DataType, index: usize) {
        self.columns.push((column, data_type, index));
    }

    /// How many columns there are from the batch's `from`-th on.
    pub fn added(&self, from: usize) -> usize {
        self.columns.iter().filter(|(_, _, index)| *index >= from).count()
    }

    /// Types by the batch's index.
    pub fn types(&self) -> Vec<DataType> {
        let width = self.columns.iter().map(|(_, _, index)| index + 1).max().unwrap_or(0);
        let mut types = vec![DataType::Null; width];
        for (_, data_type, index) in &self.columns {
            types[*index] = data_type.clone();
        }
        types
    }

    /// Type of a column and its index in the batch.
    pub fn get(&self, column: &Column) -> Option<(&DataType, usize)> {
        let same = |c: &Column| c.relation == column.relation && c.name == column.name;
        let found = self.columns.iter().find(|(c, _, _)| same(c))?;
        Some((&found.1, found.2))
    }

    fn schema(&self) -> Result<DFSchema> {
        schema_of(self.columns.iter().map(|(column, data_type, _)| (column, data_type)))
    }
}

fn schema_of<'a>(columns: impl Iterator<Item = (&'a Column, &'a DataType)>) -> Result<DFSchema> {
    let fields = columns.map(|(column, data_type)| {
        let field = Field::new(&column.name, data_type.clone(), true);
        (column.relation.clone(), Arc::new(field))
    });
    let fields: Vec<(Option<TableReference>, _)> = fields.collect();
    DFSchema::new_with_metadata(fields, Default::default())
}

pub fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    expr.get_type(schema)
}

/// What compiling needs to know of the job.
#[derive(Clone, Debug)]
pub struct Compiler {
    pub zone: TimeZone,
}

impl Compiler {
    /// Compiles an expression over the columns given.
    pub fn compile(&self, expr: &Expr, columns: &Columns) -> Result<Compiled> {
        let folded = match self.fold(expr.clone(), &columns.schema()?)? {
            // An interval of whole days leaves as INTERVAL DAY; others have no column yet.
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(of)), _)
                if of.months == 0 && of.nanoseconds == 0 =>
            {
                let seconds = i64::from(of.days) * 86_400;
                Expr::Literal(ScalarValue::DurationSecond(Some(seconds)), None)
            }
            other => other,
        };
        self.folded(&folded, columns)
    }

    fn folded(&self, expr: &Expr, columns: &Columns) -> Result<Compiled> {
        let kernel = kernel::Translator { columns, ahead_us: self.ahead_us() };
        match kernel.translate(expr) {
            Some(kernel) => Ok(Compiled::Kernel(kernel)),
            None => self.physical(expr, columns),
        }
    }

    /// How far the clocks of the job's zone are ahead of UTC, if always as far.
    fn ahead_us(&self) -> Option<i64> {
        self.zone.to_fixed_offset().ok().map(|ahead| i64::from(ahead.seconds()) * 1_000_000)
    }

    /// Replaces what depends on no column by its value; what stops is left to stop at each row.
    fn fold(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        let none = Columns::default();
        let folded = expr.transform_up(|node| {
            let constant = !matches!(node, Expr::Literal(_, _) | Expr::Column(_))
                && !lambda::needs_parameters(&node)
                && !matches!(&node, Expr::ScalarFunction(call) if call.func.name() == "window")
                && node.column_refs().is_empty();
            if !constant {
                return Ok(Transformed::no(node));
            }
            let data_type = node.get_type(schema)?;
            let Ok(compiled) = self.folded(&node, &none) else { return Ok(Transformed::no(node)) };
            let evaluated = compiled.evaluate(&[], 1, None);
            if !evaluated.errors.is_empty() || evaluated.values.data_type() != &data_type {
                return Ok(Transformed::no(node));
            }
            let value = ScalarValue::try_from_array(&evaluated.values, 0)?;
            Ok(Transformed::yes(Expr::Literal(value, None)))
        })?;
        Ok(folded.data)
    }

    /// A time and an interval, as the calendar of the job's zone has it.
    fn moved(&self, node: &Expr, columns: &Columns) -> Result<Option<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = node else { return Ok(None) };
        let schema = columns.schema()?;
        let is = |e: &Expr, of: fn(&DataType) -> bool| e.get_type(&schema).is_ok_and(|t| of(&t));
        let sign = match op {
            Operator::Plus => 1_i64,
            Operator::Minus => -1,
            _ => return Ok(None),
        };
        if !is(left, |t| matches!(t, DataType::Timestamp(_, _))) {
            return Ok(None);
        }
        let (months, length) = match right.as_ref() {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
                let us = i64::from(interval.days) * US_PER_DAY + interval.nanoseconds / 1_000;
                (interval.months, lit(ScalarValue::DurationMicrosecond(Some(us))))
            }
            length if is(length, |t| matches!(t, DataType::Duration(_))) => (0, length.clone()),
            _ => return Ok(None),
        };
        let args = vec![left.as_ref().clone(), lit(i64::from(months)), length, lit(sign)];
        Ok(Some(call(time::moved(self.zone.clone()), args)))
    }

    fn physical(&self, expr: &Expr, columns: &Columns) -> Result<Compiled> {
        let text = super::words::logical(expr, &columns.names);
        let translator = kernel::Translator { columns, ahead_us: self.ahead_us() };
        let prepared = expr.clone().transform_down(|node| {
            if matches!(node, Expr::Column(_) | Expr::Literal(_, _)) {
                return Ok(Transformed::no(node));
            }
            if let Some(kernel) = translator.translate(&node) {
                let call = call_of(&node, Compiled::Kernel(kernel), columns, false);
                return Ok(Transformed::new(call, true, TreeNodeRecursion::Jump));
            }
            if let Expr::HigherOrderFunction(higher) = &node {
                let returns = node.get_type(&columns.schema()?)?;
                return Ok(Transformed::yes(lambda::compile(higher, returns, self, columns)?));
            }
            if let Expr::ScalarFunction(guard) = &node
                && guard.func.name() == "null_on_error"
            {
                let guarded = self.folded(&guard.args[0], columns)?;
                let call = call_of(&node, guarded, columns, true);
                return Ok(Transformed::new(call, true, TreeNodeRecursion::Jump));
            }
            if let Some(moved) = self.moved(&node, columns)? {
                return Ok(Transformed::yes(moved));
            }
            Ok(match node {
                Expr::Cast(Cast { expr, field }) => {
                    let udf = spark_cast(field.data_type().clone(), false, &self.zone);
                    Transformed::yes(call(udf, vec![*expr]))
                }
                Expr::TryCast(TryCast { expr, field }) => {
                    let udf = spark_cast(field.data_type().clone(), true, &self.zone);
                    Transformed::yes(call(udf, vec![*expr]))
                }
                other => Transformed::no(other),
            })
        })?;
        let prepared = prepared.data;
        let read = columns
            .columns
            .iter()
            .filter(|(column, _, _)| prepared.column_refs().iter().any(|c| *c == column));
        let read: Vec<_> = read.collect();
        let schema = schema_of(read.iter().map(|(column, data_type, _)| (column, data_type)))?;
        let found = prepared.get_type(&schema)?;
        let data_type = plain(&found);
        if !is_sqls(&data_type) {
            return plan_err!("{text} gives {found}, for which this version has no column");
        }
        let physical =
            create_physical_expr(&prepared, &schema, &ExecutionProps::new(), &Default::default())?;
        Ok(Compiled::DataFusion {
            expr: physical,
            inputs: read.iter().map(|(_, _, index)| *index).collect(),
            schema: Arc::clone(schema.inner()),
            data_type,
            text,
        })
    }
}

/// Whether a value can leave, be grouped or be stored.
fn is_sqls(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_sqls(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_sqls(field.data_type())),
        DataType::Map(_, _) => {
            map_parts(data_type).is_some_and(|(key, value)| is_sqls(key) && is_sqls(value))
        }
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        DataType::Duration(unit) => matches!(unit, TimeUnit::Second | TimeUnit::Microsecond),
        DataType::Boolean | DataType::Utf8 | DataType::Binary | DataType::Date32 => true,
        number => is_number(number),
    }
}

/// One representation for each of SQL's types; DataFusion's functions have several.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Timestamp(_, zone) => {
            let zone = zone.as_ref().map(|_| "UTC".into());
            DataType::Timestamp(TimeUnit::Microsecond, zone)
        }
        // An untyped NULL is a text, as in Spark's results.
        DataType::Null => DataType::Utf8,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) if plain(item.data_type()) != *item.data_type() => {
            let item = item.as_ref().clone().with_data_type(plain(item.data_type()));
            DataType::List(Arc::new(item))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|f| f.as_ref().clone().with_data_type(plain(f.data_type())))
                .collect::<Vec<_>>()
                .into(),
        ),
        DataType::Map(_, _) => match map_parts(data_type) {
            Some((key, value)) => map_of(plain(key), plain(value)),
            None => data_type.clone(),
        },
        other => other.clone(),
    }
}

fn call(udf: ScalarUDF, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), args))
}

/// A call of what is compiled in place of the expression that it computes.
fn call_of(expr: &Expr, compiled: Compiled, columns: &Columns, null_on_error: bool) -> Expr {
    let mut reads: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    reads.sort();
    let indices = reads.iter().map(|column| columns.get(column).map_or(0, |(_, index)| index));
    let udf = CompiledCall {
        text: super::words::logical(expr, &columns.names),
        data_type: compiled.data_type().clone(),
        compiled,
        null_on_error,
        indices: indices.collect(),
        signature: match reads.is_empty() {
            true => Signature::nullary(Volatility::Immutable),
            false => Signature::variadic_any(Volatility::Immutable),
        },
    };
    let args = reads.into_iter().map(Expr::Column).collect();
    call(ScalarUDF::new_from_impl(udf), args)
}

#[derive(Debug)]
struct CompiledCall {
    text: String,
    data_type: DataType,
    compiled: Compiled,
    /// A row at which it stops is NULL.
    null_on_error: bool,
    /// Column of the batch that each argument is.
    indices: Vec<usize>,
    signature: Signature,
}

/// The text, the type and the columns say all that is computed.
impl PartialEq for CompiledCall {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.data_type, &self.indices, self.null_on_error)
            == (&other.text, &other.data_type, &other.indices, other.null_on_error)
    }
}

impl Eq for CompiledCall {}

impl Hash for CompiledCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl ScalarUDFImpl for CompiledCall {
    fn name(&self) -> &str {
        "compiled"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        // The batch has gaps where other parts of the expression read.
        let width = self.indices.iter().max().map_or(0, |greatest| greatest + 1);
        let gap: ArrayRef = new_null_array(&DataType::Null, rows);
        let mut columns = vec![gap; width];
        for (index, array) in self.indices.iter().zip(arrays) {
            columns[*index] = array;
        }
        let evaluated = self.compiled.evaluate(&columns, rows, None);
        match evaluated.errors.into_iter().next().filter(|_| !self.null_on_error) {
            Some((_, reason)) => Err(exec_datafusion_err!("{reason}")),
            None => Ok(ColumnarValue::Array(evaluated.values)),
        }
    }
}
