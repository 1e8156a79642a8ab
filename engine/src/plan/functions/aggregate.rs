//! Aggregates as the binder needs them: names and types. What they compute is in `pelton_kernels`.

use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue, not_impl_err, plan_err};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use pelton_kernels::cpu::aggregate::AggregateFunction;

use super::packed::is_packed;
use crate::plan::types::{
    bounded_decimal, is_decimal, is_integer, is_number, is_text, is_time, sql_name,
};

const NAMES: [(&str, AggregateFunction); 43] = [
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
    ("count_distinct", AggregateFunction::CountDistinct),
    ("sum_distinct", AggregateFunction::SumDistinct),
    ("avg_distinct", AggregateFunction::AvgDistinct),
    ("approx_count_distinct", AggregateFunction::ApproxCountDistinct { precision: 9 }),
    ("collect_list", AggregateFunction::CollectList),
    ("collect_set", AggregateFunction::CollectSet),
    ("mode", AggregateFunction::Mode),
    ("percentile", AggregateFunction::Percentile { at: 0 }),
    ("percentile_disc", AggregateFunction::PercentileDiscrete { at: 0 }),
    ("percentile_approx", AggregateFunction::PercentileApprox { at: 0 }),
    ("min_by", AggregateFunction::MinBy),
    ("max_by", AggregateFunction::MaxBy),
    ("skewness", AggregateFunction::Skewness),
    ("kurtosis", AggregateFunction::Kurtosis),
    ("covar_pop", AggregateFunction::CovarPopulation),
    ("covar_samp", AggregateFunction::CovarSample),
    ("corr", AggregateFunction::Corr),
    ("regr_count", AggregateFunction::RegrCount),
    ("regr_avgx", AggregateFunction::RegrAvgX),
    ("regr_avgy", AggregateFunction::RegrAvgY),
    ("regr_sxx", AggregateFunction::RegrSxx),
    ("regr_syy", AggregateFunction::RegrSyy),
    ("regr_sxy", AggregateFunction::RegrSxy),
    ("regr_slope", AggregateFunction::RegrSlope),
    ("regr_intercept", AggregateFunction::RegrIntercept),
    ("regr_r2", AggregateFunction::RegrR2),
    // A sum of integers is wider in its state, and NULL where it is no BIGINT (`plan::grouping`).
    ("try_sum", AggregateFunction::Sum),
];

pub fn all() -> impl Iterator<Item = AggregateUDF> {
    NAMES.into_iter().map(|(name, function)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::new_from_impl(Aggregate { name, function, signature })
    })
}

/// What SQL calls a kernel.
pub fn name_of(function: AggregateFunction) -> &'static str {
    NAMES.into_iter().find(|(_, known)| *known == function).map_or("aggregate", |(name, _)| name)
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

/// The kernel with its constant, which the planner hands over as a text: the part of a percentile,
/// the error of an estimate.
///
/// Errors: why the constant is none that it takes.
pub fn with_constant(
    function: AggregateFunction,
    constant: &str,
) -> Result<AggregateFunction, String> {
    use AggregateFunction::*;
    let number: f64 = constant.parse().map_err(|_| format!("{constant:?} is no number"))?;
    let part = || match (0.0..=1.0).contains(&number) {
        true => Ok(number.to_bits()),
        false => Err(format!("the percentage is between 0.0 and 1.0, found {constant}")),
    };
    Ok(match function {
        Percentile { .. } => Percentile { at: part()? },
        PercentileDiscrete { .. } => PercentileDiscrete { at: part()? },
        PercentileApprox { .. } => PercentileApprox { at: part()? },
        ApproxCountDistinct { .. } => {
            // As many registers as keep the relative standard deviation: 1.106 / sqrt(registers).
            let precision = (2.0 * (1.106 / number).log2()).ceil();
            if !(4.0..=18.0).contains(&precision) {
                return Err(format!("the relative error is 0.0022 to 0.39, found {constant}"));
            }
            ApproxCountDistinct { precision: precision as u8 }
        }
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
            SumDistinct | AvgDistinct if is_number(found) => Some(found.clone()),
            SumDistinct | AvgDistinct if is_text(found) => Some(DataType::Float64),
            CountDistinct
            | ApproxCountDistinct { .. }
            | CollectList
            | CollectSet
            | Mode
            | MinBy
            | MaxBy
            | PercentileDiscrete { .. }
                if *found != DataType::Null =>
            {
                Some(found.clone())
            }
            PercentileApprox { .. } if is_number(found) || is_time(found) => Some(found.clone()),
            PercentileApprox { .. } if is_text(found) => Some(DataType::Float64),
            Percentile { .. } | Skewness | Kurtosis
                if is_number(found) || is_text(found) || matches!(found, DataType::Null) =>
            {
                Some(DataType::Float64)
            }
            function if function.takes_pair() && (is_number(found) || is_text(found)) => {
                Some(DataType::Float64)
            }
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
            Min | Max if matches!(found, DataType::Boolean | DataType::Binary) => {
                Some(found.clone())
            }
            Min | Max if is_packed(found) => Some(found.clone()),
            BoolAnd | BoolOr if matches!(found, DataType::Boolean) => Some(found.clone()),
            BitAnd | BitOr | BitXor if is_integer(found) => Some(found.clone()),
            _ => None,
        }
    }

    fn has_constant(&self) -> bool {
        use AggregateFunction::*;
        matches!(
            self.function,
            Percentile { .. }
                | PercentileDiscrete { .. }
                | PercentileApprox { .. }
                | ApproxCountDistinct { .. }
        )
    }

    fn expects(&self) -> &'static str {
        use AggregateFunction::*;
        match self.function {
            BoolAnd | BoolOr => "BOOLEAN",
            CountDistinct
            | ApproxCountDistinct { .. }
            | CollectList
            | CollectSet
            | Mode
            | MinBy
            | MaxBy
            | PercentileDiscrete { .. } => "a value of a type",
            PercentileApprox { .. } => "a number, a date or a time",
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
        let takes = |found: &DataType| match self.takes(found) {
            Some(taken) => Ok(taken),
            None => plan_err!("{name}({}): expected {}", sql_name(found), self.expects()),
        };
        match types {
            [found] if !self.function.takes_pair() => Ok(vec![takes(found)?]),
            [first, second] if self.function.takes_pair() => {
                Ok(vec![takes(first)?, takes(second)?])
            }
            // Its constant, as a text.
            [found, DataType::Utf8] if self.has_constant() => {
                Ok(vec![takes(found)?, DataType::Utf8])
            }
            _ => {
                let wanted =
                    if self.function.takes_pair() { "two arguments" } else { "one argument" };
                plan_err!("{name} takes {wanted}, found {}", types.len())
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        use AggregateFunction::*;
        let found = types.first().cloned().unwrap_or(DataType::Null);
        Ok(match self.function {
            CountRows | Count | CountDistinct | ApproxCountDistinct { .. } | RegrCount => {
                DataType::Int64
            }
            CollectList | CollectSet => DataType::List(std::sync::Arc::new(
                arrow::datatypes::Field::new("item", found, true),
            )),
            Sum | SumDistinct if is_integer(&found) => DataType::Int64,
            Sum | SumDistinct if is_decimal(&found) => match found {
                DataType::Decimal128(p, s) => {
                    let (precision, scale) = ((i32::from(p) + 10).min(38), i32::from(s));
                    DataType::Decimal128(precision as u8, scale as i8)
                }
                other => other,
            },
            Avg | AvgDistinct => match found {
                DataType::Decimal128(p, s) => {
                    let (p, s) = bounded_decimal(i32::from(p) + 4, i32::from(s) + 4);
                    DataType::Decimal128(p, s)
                }
                _ => DataType::Float64,
            },
            Sum | SumDistinct | VarianceSample | VariancePopulation | StddevSample
            | StddevPopulation => DataType::Float64,
            MinBy | MaxBy => found,
            function if function.takes_pair() => DataType::Float64,
            _ => found,
        })
    }

    /// The value over no rows, where a subquery has none for a row around it.
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        use AggregateFunction::*;
        match self.function {
            CountRows | Count | CountDistinct | ApproxCountDistinct { .. } | RegrCount => {
                Ok(ScalarValue::Int64(Some(0)))
            }
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(self.function, AggregateFunction::First { .. } | AggregateFunction::Last { .. })
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("aggregates run in the engine's own tables")
    }
}
