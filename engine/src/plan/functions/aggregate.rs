//! Aggregates as the binder needs them: names and types. What they compute is in `pelton_kernels`.

use arrow::datatypes::DataType;
use datafusion_common::{Result, not_impl_err, plan_err};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use pelton_kernels::cpu::aggregate::AggregateFunction;

use crate::plan::types::{
    bounded_decimal, is_decimal, is_integer, is_number, is_text, is_time, sql_name,
};

const NAMES: [(&str, AggregateFunction); 16] = [
    ("count", AggregateFunction::Count),
    ("sum", AggregateFunction::Sum),
    ("avg", AggregateFunction::Avg),
    ("min", AggregateFunction::Min),
    ("max", AggregateFunction::Max),
    ("variance", AggregateFunction::VarianceSample),
    ("var_pop", AggregateFunction::VariancePopulation),
    ("stddev", AggregateFunction::StddevSample),
    ("stddev_pop", AggregateFunction::StddevPopulation),
    ("first", AggregateFunction::First { ignore_nulls: false }),
    ("last", AggregateFunction::Last { ignore_nulls: false }),
    ("bool_and", AggregateFunction::BoolAnd),
    ("bool_or", AggregateFunction::BoolOr),
    ("bit_and", AggregateFunction::BitAnd),
    ("bit_or", AggregateFunction::BitOr),
    ("bit_xor", AggregateFunction::BitXor),
];

pub fn all() -> impl Iterator<Item = AggregateUDF> {
    NAMES.into_iter().map(|(name, function)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::new_from_impl(Aggregate { name, function, signature })
    })
}

/// The kernel behind a bound aggregate.
pub fn function(name: &str, ignore_nulls: bool) -> Option<AggregateFunction> {
    let (_, function) = NAMES.into_iter().find(|(known, _)| *known == name)?;
    Some(match function {
        AggregateFunction::First { .. } => AggregateFunction::First { ignore_nulls },
        AggregateFunction::Last { .. } => AggregateFunction::Last { ignore_nulls },
        other => other,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate {
    name: &'static str,
    function: AggregateFunction,
    signature: Signature,
}

impl Aggregate {
    /// The type that the argument is cast to; `None` where the function has no such argument.
    fn takes(&self, found: &DataType) -> Option<DataType> {
        use AggregateFunction::*;
        match self.function {
            CountRows | Count | First { .. } | Last { .. } => Some(found.clone()),
            Sum | Avg if is_number(found) => Some(found.clone()),
            Sum | Avg if is_text(found) || matches!(found, DataType::Null) => {
                Some(DataType::Float64)
            }
            VarianceSample | VariancePopulation | StddevSample | StddevPopulation
                if is_number(found) || is_text(found) || matches!(found, DataType::Null) =>
            {
                Some(DataType::Float64)
            }
            Min | Max if is_number(found) || is_text(found) || is_time(found) => {
                Some(found.clone())
            }
            Min | Max if matches!(found, DataType::Boolean) => Some(found.clone()),
            BoolAnd | BoolOr if matches!(found, DataType::Boolean) => Some(found.clone()),
            BitAnd | BitOr | BitXor if is_integer(found) => Some(found.clone()),
            _ => None,
        }
    }

    fn expects(&self) -> &'static str {
        use AggregateFunction::*;
        match self.function {
            BoolAnd | BoolOr => "BOOLEAN",
            BitAnd | BitOr | BitXor => "an integer",
            Min | Max => "a value that can be ordered",
            _ => "a number",
        }
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        let [found] = types else {
            return plan_err!("{name} takes one argument, found {}", types.len());
        };
        match self.takes(found) {
            Some(taken) => Ok(vec![taken]),
            None => plan_err!("{name}({}): expected {}", sql_name(found), self.expects()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        use AggregateFunction::*;
        let found = types.first().cloned().unwrap_or(DataType::Null);
        Ok(match self.function {
            CountRows | Count => DataType::Int64,
            Sum if is_integer(&found) => DataType::Int64,
            Sum if is_decimal(&found) => match found {
                DataType::Decimal128(p, s) => {
                    let (precision, scale) = ((i32::from(p) + 10).min(38), i32::from(s));
                    DataType::Decimal128(precision as u8, scale as i8)
                }
                other => other,
            },
            Avg => match found {
                DataType::Decimal128(p, s) => {
                    let (p, s) = bounded_decimal(i32::from(p) + 4, i32::from(s) + 4);
                    DataType::Decimal128(p, s)
                }
                _ => DataType::Float64,
            },
            Sum | VarianceSample | VariancePopulation | StddevSample | StddevPopulation => {
                DataType::Float64
            }
            _ => found,
        })
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(self.function, AggregateFunction::First { .. } | AggregateFunction::Last { .. })
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("aggregates run in the engine's own tables")
    }
}
