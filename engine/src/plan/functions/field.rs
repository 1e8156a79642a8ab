//! Fields of structs, by name in any case (`get_field`) or by place (`field_at`, which the planner
//! writes where names are not known). Of an array of structs the field is an array, as in Spark; of a
//! map, the value of the key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StringArray, StructArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::map;
use crate::plan::types::{list_of, map_parts, sql_name};

pub fn all() -> impl Iterator<Item = ScalarUDF> {
    ["get_field", "field_at"].into_iter().map(|name| {
        let signature = Signature::any(2, Volatility::Immutable);
        ScalarUDF::new_from_impl(Taken { name, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Taken {
    name: &'static str,
    signature: Signature,
}

impl Taken {
    fn place(&self, fields: &Fields, asked: &str) -> Option<usize> {
        if self.name == "field_at" {
            return asked.parse().ok().filter(|place| *place < fields.len());
        }
        let exact = fields.iter().position(|field| field.name() == asked);
        let any_case = || {
            let asked = asked.to_lowercase();
            fields.iter().position(|field| field.name().to_lowercase() == asked)
        };
        exact.or_else(any_case)
    }
}

impl ScalarUDFImpl for Taken {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: the field is a constant", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let found = args.arg_fields[0].data_type();
        let Some(asked) = text(args.scalar_arguments[1]) else {
            return plan_err!("{}: the field is a constant", self.name);
        };
        let of = |fields: &Fields| {
            self.place(fields, asked).map(|place| fields[place].data_type().clone())
        };
        let data_type = match found {
            DataType::Struct(fields) => of(fields),
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields) => of(fields).map(list_of),
                _ => None,
            },
            map => match map_parts(map) {
                Some((DataType::Utf8, value)) => Some(value.clone()),
                _ => None,
            },
        };
        match (data_type, found) {
            (Some(data_type), _) => Ok(Arc::new(Field::new(self.name, data_type, true))),
            (None, DataType::Struct(fields)) => {
                let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
                plan_err!("no field {asked}: expected one of {}", names.join(", "))
            }
            (None, other) => {
                plan_err!("the field {asked} of {}: expected a STRUCT", sql_name(other))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let asked = match &args.args[1] {
            ColumnarValue::Scalar(value) => text(Some(value)),
            ColumnarValue::Array(_) => None,
        };
        let Some(asked) = asked else { return exec_err!("{}: the field is a constant", self.name) };
        let values = args.args[0].to_array(args.number_rows)?;
        let absent = || exec_datafusion_err!("no field {asked}");
        let taken = match values.data_type() {
            DataType::Struct(fields) => {
                let place = self.place(fields, asked).ok_or_else(absent)?;
                field(values.as_struct(), place)?
            }
            DataType::List(_) => {
                let lists = values.as_list::<i32>();
                let structs = lists.values().as_struct();
                let place = self.place(structs.fields(), asked).ok_or_else(absent)?;
                let items = field(structs, place)?;
                let item = Arc::new(Field::new("item", items.data_type().clone(), true));
                let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
                Arc::new(ListArray::new(item, offsets, items, nulls))
            }
            _ => {
                let keys: ArrayRef = Arc::new(StringArray::from(vec![asked; values.len()]));
                map::value_of(&values, &keys).map_err(|what| exec_datafusion_err!("{what}"))?
            }
        };
        Ok(ColumnarValue::Array(taken))
    }
}

fn text(value: Option<&ScalarValue>) -> Option<&str> {
    match value? {
        ScalarValue::Utf8(Some(text)) => Some(text),
        _ => None,
    }
}

/// NULL where the struct is.
fn field(structs: &StructArray, place: usize) -> Result<ArrayRef> {
    let column = structs.column(place);
    match structs.nulls() {
        Some(nulls) => Ok(nullif(column, &BooleanArray::new(!nulls.inner(), None))?),
        None => Ok(Arc::clone(column)),
    }
}
