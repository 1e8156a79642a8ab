//! Functions that take functions, as the binder needs them: which parameters a lambda has, and what
//! type the call has. They are compiled in `plan::lambda` and run in `higher`.
//!
//! Types follow Spark's `higherOrderFunctions.scala`; as there, nothing is cast to fit: the merge of
//! an `aggregate` has the type of its start.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, not_impl_err, plan_err};
use datafusion_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use crate::plan::types::{list_of, map_of, map_parts, sql_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Transform,
    Filter,
    Exists,
    ForAll,
    Aggregate,
    ZipWith,
    /// `array_sort` with a comparator.
    Sort,
    MapFilter,
    TransformKeys,
    TransformValues,
    MapZipWith,
}

const NAMES: [(&str, Kind); 11] = [
    ("transform", Kind::Transform),
    ("filter", Kind::Filter),
    ("exists", Kind::Exists),
    ("forall", Kind::ForAll),
    ("aggregate", Kind::Aggregate),
    ("zip_with", Kind::ZipWith),
    ("array_sort_by", Kind::Sort),
    ("map_filter", Kind::MapFilter),
    ("transform_keys", Kind::TransformKeys),
    ("transform_values", Kind::TransformValues),
    ("map_zip_with", Kind::MapZipWith),
];

pub fn all() -> impl Iterator<Item = HigherOrderUDF> {
    NAMES.into_iter().map(|(name, kind)| {
        let signature = HigherOrderSignature::variadic_any(Volatility::Immutable);
        HigherOrderUDF::new_from_impl(Lambda { name, kind, signature })
    })
}

/// Which of them a function is.
pub fn kind(name: &str) -> Option<Kind> {
    NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lambda {
    name: &'static str,
    kind: Kind,
    signature: HigherOrderSignature,
}

fn field(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new("", data_type.clone(), true))
}

impl Lambda {
    /// The types of the values before the lambdas, and how many lambdas there are.
    fn shape<T>(&self, fields: &[ValueOrLambda<FieldRef, T>]) -> Result<(Vec<DataType>, usize)> {
        let split = fields.iter().take_while(|f| matches!(f, ValueOrLambda::Value(_))).count();
        let (values, lambdas) = fields.split_at(split);
        let (wanted, most) = match self.kind {
            Kind::Aggregate => (2, 2),
            Kind::ZipWith | Kind::MapZipWith => (2, 1),
            _ => (1, 1),
        };
        let only_lambdas = lambdas.iter().all(|f| matches!(f, ValueOrLambda::Lambda(_)));
        if values.len() != wanted || lambdas.is_empty() || lambdas.len() > most || !only_lambdas {
            let name = self.name;
            let values = if wanted == 1 { "one value" } else { "two values" };
            return plan_err!("{name} takes {values} and then a lambda such as x -> x + 1");
        }
        let types = values.iter().filter_map(|value| match value {
            ValueOrLambda::Value(field) => Some(field.data_type().clone()),
            ValueOrLambda::Lambda(_) => None,
        });
        Ok((types.collect(), lambdas.len()))
    }

    fn item<'a>(&self, found: &'a DataType) -> Result<&'a DataType> {
        match found {
            DataType::List(item) => Ok(item.data_type()),
            other => plan_err!("{}({}): expected an ARRAY", self.name, sql_name(other)),
        }
    }

    fn entry<'a>(&self, found: &'a DataType) -> Result<(&'a DataType, &'a DataType)> {
        match map_parts(found) {
            Some(parts) => Ok(parts),
            None => plan_err!("{}({}): expected a MAP", self.name, sql_name(found)),
        }
    }

    /// The parameters of each lambda.
    fn parameters(&self, values: &[DataType]) -> Result<Vec<Vec<DataType>>> {
        let index = DataType::Int32;
        Ok(match self.kind {
            Kind::Transform | Kind::Filter => vec![vec![self.item(&values[0])?.clone(), index]],
            Kind::Exists | Kind::ForAll => vec![vec![self.item(&values[0])?.clone()]],
            Kind::Sort => vec![vec![self.item(&values[0])?.clone(); 2]],
            Kind::Aggregate => {
                let item = self.item(&values[0])?.clone();
                vec![vec![values[1].clone(), item], vec![values[1].clone()]]
            }
            Kind::ZipWith => {
                vec![vec![self.item(&values[0])?.clone(), self.item(&values[1])?.clone()]]
            }
            Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues => {
                let (key, value) = self.entry(&values[0])?;
                vec![vec![key.clone(), value.clone()]]
            }
            Kind::MapZipWith => {
                let ((key, left), (other, right)) =
                    (self.entry(&values[0])?, self.entry(&values[1])?);
                if key != other {
                    let (key, other) = (sql_name(key), sql_name(other));
                    return plan_err!(
                        "map_zip_with: keys are {key} and {other}, expected one type"
                    );
                }
                vec![vec![key.clone(), left.clone(), right.clone()]]
            }
        })
    }

    fn returns(&self, values: &[DataType], lambdas: &[DataType]) -> Result<DataType> {
        let made = &lambdas[0];
        let must_be = |wanted: &DataType| match made == wanted {
            true => Ok(()),
            false => plan_err!(
                "{}: the lambda returns {}, expected {}",
                self.name,
                sql_name(made),
                sql_name(wanted)
            ),
        };
        Ok(match self.kind {
            Kind::Transform | Kind::ZipWith => list_of(made.clone()),
            Kind::Filter | Kind::MapFilter => {
                must_be(&DataType::Boolean)?;
                values[0].clone()
            }
            Kind::Exists | Kind::ForAll => {
                must_be(&DataType::Boolean)?;
                DataType::Boolean
            }
            Kind::Sort => {
                must_be(&DataType::Int32)?;
                values[0].clone()
            }
            Kind::Aggregate => {
                must_be(&values[1])?;
                lambdas.get(1).unwrap_or(made).clone()
            }
            Kind::TransformKeys => map_of(made.clone(), self.entry(&values[0])?.1.clone()),
            Kind::TransformValues | Kind::MapZipWith => {
                map_of(self.entry(&values[0])?.0.clone(), made.clone())
            }
        })
    }
}

impl HigherOrderUDFImpl for Lambda {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let (values, lambdas) = self.shape(fields)?;
        let parameters = self.parameters(&values)?.into_iter().take(lambdas);
        let parameters = parameters.map(|types| types.iter().map(field).collect());
        Ok(LambdaParametersProgress::Complete(parameters.collect()))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let (values, _) = self.shape(args.arg_fields)?;
        let lambdas: Vec<DataType> = args
            .arg_fields
            .iter()
            .filter_map(|field| match field {
                ValueOrLambda::Lambda(field) => Some(field.data_type().clone()),
                ValueOrLambda::Value(_) => None,
            })
            .collect();
        Ok(field(&self.returns(&values, &lambdas)?))
    }

    fn invoke_with_args(&self, _args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        not_impl_err!("{} is compiled with its lambdas", self.name)
    }
}
