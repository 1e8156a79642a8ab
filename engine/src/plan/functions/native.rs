//! A scalar function as three plain pieces: what it takes, what it returns, what it does.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use jiff::tz::TimeZone;

use crate::plan::operators::common_type;
use crate::plan::types::{decimal_of, map_parts, sql_name, timestamp};

/// What one argument is made into before the function sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Text,
    Int,
    Long,
    Double,
    Date,
    /// TIMESTAMP or TIMESTAMP_NTZ; a date is its midnight, a text is read.
    Time,
    /// TIMESTAMP; TIMESTAMP_NTZ is what the job's zone makes of it.
    Instant,
    /// The same, or an interval as it is.
    TimeOrLength,
    /// Any integer, decimal or floating type, as it is.
    Number,
    /// A decimal that holds every value of the number's type.
    Decimal,
    /// Any array, as it is.
    Array,
    /// A map, as it is.
    Map,
    /// An array or a map, as it is.
    Collection,
    /// The index of an element of the first argument, or the key of an entry.
    Place,
    /// An element of the first argument, which is an array, or a key where it is a map.
    Item,
    /// An array as it is; anything else as a text.
    TextOrArray,
    /// BINARY; a text is its bytes.
    Binary,
    Boolean,
    Any,
}

/// What a function can know beside its arguments.
pub struct Context<'a> {
    pub zone: &'a TimeZone,
    pub returns: &'a DataType,
    pub rows: usize,
}

#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub takes: &'static [Takes],
    /// How many of them a call may leave out.
    pub optional: usize,
    /// The last one may come any number of times.
    pub variadic: bool,
    pub returns: fn(&[DataType]) -> DataType,
    /// Its arguments are brought to one type.
    pub alike: bool,
    /// What it returns where its last argument is a constant scale.
    pub scaled: Option<fn(&DataType, i32) -> DataType>,
    pub run: Run,
}

pub type Run = fn(&Context, &[ArrayRef]) -> Result<ArrayRef, String>;

/// A function whose last `optional` arguments may be left out.
pub const fn define(
    name: &'static str,
    takes: &'static [Takes],
    optional: usize,
    returns: fn(&[DataType]) -> DataType,
    run: Run,
) -> Definition {
    let (variadic, alike, scaled) = (false, false, None);
    Definition { name, takes, optional, variadic, returns, scaled, alike, run }
}

pub fn udf(definition: Definition, zone: TimeZone) -> ScalarUDF {
    let signature = match definition.takes {
        [] => Signature::nullary(Volatility::Immutable),
        _ => Signature::user_defined(Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(Native { definition, zone, signature })
}

#[derive(Debug)]
struct Native {
    definition: Definition,
    zone: TimeZone,
    signature: Signature,
}

/// Names are unique in the catalog.
impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for Native {}

impl Hash for Native {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl ScalarUDFImpl for Native {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let takes = self.definition.takes;
        let least = takes.len() - self.definition.optional;
        let most = if self.definition.variadic { usize::MAX } else { takes.len() };
        if types.len() < least || types.len() > most {
            let wanted = match (least, most) {
                (least, usize::MAX) => format!("{least} or more"),
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            let (name, found) = (self.definition.name, types.len());
            return plan_err!("{name} takes {wanted} arguments, found {found}");
        }
        let each = types.iter().enumerate();
        let coerced = each.map(|(i, found)| {
            let wanted = takes[i.min(takes.len() - 1)];
            let item = match types.first() {
                Some(DataType::List(item)) => item.data_type(),
                Some(map) => map_parts(map).map_or(&DataType::Null, |(key, _)| key),
                _ => &DataType::Null,
            };
            let wanted = match (wanted, types.first()) {
                (Takes::Place, Some(DataType::Map(_, _))) => Takes::Item,
                (Takes::Place, _) => Takes::Int,
                (wanted, _) => wanted,
            };
            taken(wanted, found, item).map_or_else(
                || {
                    let (name, number) = (self.definition.name, i + 1);
                    let found = sql_name(found);
                    plan_err!("{name}: argument {number} is {found}, expected {wanted:?}")
                },
                Ok,
            )
        });
        let coerced = coerced.collect::<Result<Vec<DataType>>>()?;
        if !self.definition.alike {
            return Ok(coerced);
        }
        let mut common = coerced[0].clone();
        for data_type in &coerced {
            common = match common_type(&common, data_type) {
                Some(common) => common,
                None => {
                    let (a, b) = (sql_name(&common), sql_name(data_type));
                    return plan_err!("{}: {a} and {b} have no common type", self.definition.name);
                }
            };
        }
        Ok(vec![common; coerced.len()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok((self.definition.returns)(types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let returns = match (self.definition.scaled, args.scalar_arguments) {
            (Some(scaled), [_, Some(ScalarValue::Utf8(Some(scale)))]) => {
                let Ok(scale) = scale.parse() else {
                    return plan_err!("{}: the scale {scale:?} is no number", self.definition.name);
                };
                scaled(&types[0], scale)
            }
            _ => (self.definition.returns)(&types),
        };
        Ok(Arc::new(Field::new(self.definition.name, returns, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let returns = args.return_field.data_type().clone();
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let context = Context { zone: &self.zone, returns: &returns, rows };
        let values: ArrayRef = (self.definition.run)(&context, &arrays)
            .map_err(|reason| -> DataFusionError { exec_datafusion_err!("{reason}") })?;
        if constant {
            let value = ScalarValue::try_from_array(&values, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(values))
    }
}

/// The type that an argument is cast to; `None` where Spark casts it by no rule.
fn taken(wanted: Takes, found: &DataType, item: &DataType) -> Option<DataType> {
    use DataType::*;
    let text = matches!(found, Utf8 | LargeUtf8 | Utf8View);
    let null = matches!(found, Null);
    let number = found.is_integer() || found.is_floating() || matches!(found, Decimal128(_, _));
    let time = matches!(found, Timestamp(_, _) | Date32);
    let atom = text || null || number || time || matches!(found, Boolean);
    match wanted {
        Takes::Text if atom => Some(Utf8),
        Takes::Int if number || text || null => Some(Int32),
        Takes::Long if number || text || null => Some(Int64),
        Takes::Double if number || text || null => Some(Float64),
        Takes::Date if time || text || null => Some(Date32),
        Takes::Time if matches!(found, Timestamp(TimeUnit::Microsecond, None)) => {
            Some(found.clone())
        }
        Takes::Time | Takes::Instant if time || text || null => Some(timestamp()),
        Takes::TimeOrLength if matches!(found, Duration(_)) => Some(found.clone()),
        Takes::TimeOrLength => taken(Takes::Time, found, item),
        Takes::Number if number => Some(found.clone()),
        Takes::Number if text || null => Some(Float64),
        Takes::Decimal if crate::plan::types::is_integer(found) => {
            let (precision, scale) = decimal_of(found);
            Some(Decimal128(precision, scale))
        }
        Takes::Decimal if matches!(found, Decimal128(_, _)) => Some(found.clone()),
        Takes::Decimal if matches!(found, Float32) => Some(Decimal128(14, 7)),
        Takes::Decimal if number || text || null => Some(Decimal128(30, 15)),
        Takes::Array | Takes::TextOrArray if matches!(found, List(_)) => Some(found.clone()),
        Takes::Map | Takes::Collection if matches!(found, Map(_, _)) => Some(found.clone()),
        Takes::Collection if matches!(found, List(_)) => Some(found.clone()),
        Takes::TextOrArray if atom => Some(Utf8),
        Takes::Item if null || common_type(found, item).is_some() => Some(item.clone()),
        Takes::Binary if text || null || matches!(found, Binary) => Some(Binary),
        Takes::Boolean if text || null || matches!(found, Boolean) => Some(Boolean),
        Takes::Any => Some(found.clone()),
        _ => None,
    }
}
