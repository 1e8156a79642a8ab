//! One aggregate of a bound plan as the kernels take it: function, argument, filter.

use arrow::datatypes::{DataType, Field};
use datafusion_common::DFSchema;
use datafusion_expr::expr::{AggregateFunction as BoundAggregate, NullTreatment, ScalarFunction};
use datafusion_expr::{Expr, lit, when};
use pelton_kernels::cpu::aggregate::AggregateFunction;

use super::functions::{aggregate, packed};
use super::lower::{Aggregated, Refused, inline, refuse, unaliased};
use super::types::list_of;
use super::windows::text;
use super::words::logical;

/// A bound aggregate over what the columns below it are made of.
pub fn aggregate_of(
    expr: &Expr,
    output: DataType,
    schema: &DFSchema,
    columns: &[Expr],
) -> Result<Aggregated, Refused> {
    let Expr::AggregateFunction(BoundAggregate { func, params }) = unaliased(expr) else {
        return refuse(format!("{expr} is no aggregate"), "");
    };
    if params.distinct || !params.order_by.is_empty() {
        let what = format!("{}: DISTINCT and ORDER BY inside are not in this version", func.name());
        return refuse(what, "leave them out");
    }
    let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let mut function = aggregate::function(func.name(), ignore_nulls)
        .ok_or_else(|| Refused { what: format!("{} has no kernel", func.name()), fix: "" })?;
    let (argument, input) = match params.args.as_slice() {
        [first, second] if function.takes_pair() => {
            let pair = pair_of(first.clone(), second.clone());
            let input = super::compile::type_of(&pair, schema)?;
            (inline(&pair, schema, columns)?, input)
        }
        [argument, rest @ ..] => {
            if let Some(constant) = rest.first().and_then(text) {
                function = aggregate::with_constant(function, constant).map_err(|what| {
                    Refused { what: format!("{}: {what}", func.name()), fix: "" }
                })?;
            }
            let input = super::compile::type_of(argument, schema)?;
            (inline(argument, schema, columns)?, input)
        }
        [] => return refuse(format!("{} takes an argument", func.name()), ""),
    };
    let filter = params.filter.as_deref().map(|f| inline(f, schema, columns)).transpose()?;
    let constant = params.args.get(1).and_then(text).map(|constant| format!(", {constant}"));
    let constant = constant.unwrap_or_default();
    let mut name = format!("{}({}{constant})", func.name(), logical(&argument, &[]));
    if let Some(filter) = &filter {
        name += &format!(" FILTER (WHERE {})", logical(filter, &[]));
    }
    let counts_rows = function == AggregateFunction::Count
        && match unaliased(&argument) {
            Expr::Cast(cast) => is_value(&cast.expr),
            other => is_value(other),
        };
    if counts_rows {
        let function = AggregateFunction::CountRows;
        return Ok(Aggregated { name, function, argument: None, filter, input: None, output });
    }
    let argument = Some(asked(argument, filter.as_ref())?);
    Ok(Aggregated { name, function, argument, filter, input: Some(input), output })
}

/// An argument that is worked out where FILTER is true alone: a row that it leaves out stops nothing.
fn asked(argument: Expr, filter: Option<&Expr>) -> Result<Expr, Refused> {
    match filter {
        Some(filter)
            if !is_value(&argument) && !matches!(unaliased(&argument), Expr::Column(_)) =>
        {
            Ok(when(filter.clone(), argument).end()?)
        }
        _ => Ok(argument),
    }
}

/// How an aggregate's value is made of what a kernel holds of it.
pub type Unpack = Box<dyn FnOnce(Expr) -> Expr>;

impl Aggregated {
    /// Structs and arrays go to the kernel as bytes; how they come back.
    pub fn pack(&mut self) -> Option<Unpack> {
        use AggregateFunction::{
            ApproxCountDistinct, CollectList, CollectSet, CountDistinct, First, Last, Max, MaxBy,
            Min, MinBy, Mode,
        };
        let input = self.input.clone()?;
        if matches!(self.function, MinBy | MaxBy) {
            return self.pack_pair(&input);
        }
        let is_of_value = matches!(self.function, Min | Max | First { .. } | Last { .. } | Mode);
        let is_of_list = matches!(self.function, CollectList | CollectSet);
        let counts = matches!(self.function, CountDistinct | ApproxCountDistinct { .. });
        if !packed::is_packed(&input) || !(is_of_value || is_of_list || counts) {
            return None;
        }
        let argument = self.argument.take().expect("what has a type has an argument");
        let is_key = matches!(self.function, CollectSet | Mode) || counts;
        self.argument =
            Some(if is_key { packed::pack_key(argument) } else { packed::pack(argument) });
        self.input = Some(DataType::Binary);
        if is_of_value {
            self.output = DataType::Binary;
            return Some(Box::new(|own| packed::unpack(own, input)));
        }
        if is_of_list {
            self.output = list_of(DataType::Binary);
            return Some(Box::new(|own| packed::unpack_each(own, input)));
        }
        None
    }

    /// The value of `max_by`, and what it is chosen by.
    fn pack_pair(&mut self, input: &DataType) -> Option<Unpack> {
        let DataType::Struct(fields) = input else { return None };
        let Some(Expr::ScalarFunction(pair)) = &self.argument else { return None };
        let [_, first, _, second] = pair.args.as_slice() else { return None };
        let mut types = [fields[0].data_type().clone(), fields[1].data_type().clone()];
        let mut values = [first.clone(), second.clone()];
        for (value, data_type) in values.iter_mut().zip(&mut types) {
            if packed::is_packed(data_type) {
                *value = packed::pack(std::mem::take(value));
                *data_type = DataType::Binary;
            }
        }
        let [first, second] = values;
        let names = fields.iter().map(|field| field.name().as_str());
        let held = names.zip(types).map(|(name, of)| Field::new(name, of, true));
        self.argument = Some(pair_of(first, second));
        self.input = Some(DataType::Struct(held.collect()));
        let value = fields[0].data_type().clone();
        packed::is_packed(&value).then(|| {
            self.output = DataType::Binary;
            Box::new(|own| packed::unpack(own, value)) as Unpack
        })
    }
}

/// Two arguments as the one that a kernel takes.
fn pair_of(first: Expr, second: Expr) -> Expr {
    let args = vec![lit("first"), first, lit("second"), second];
    Expr::ScalarFunction(ScalarFunction::new_udf(datafusion_functions::core::named_struct(), args))
}

fn is_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if !value.is_null())
}
