//! JSON in texts: `get_json_object`, `from_json`, `to_json` and what belongs to them, as Spark 4's.
//!
//! A text that is no JSON gives NULL (`from_json`: a struct of NULLs, Spark's PERMISSIVE mode), never
//! an error. Options of these functions are not in this version.

mod build;
mod path;
mod read;
mod schema;
mod write;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, plan_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use jiff::tz::TimeZone;

use super::native::{Definition, Takes, define};
use crate::plan::types::{is_text, list_of, sql_name};
use read::Value;
pub use schema::{parse as schema_type, schema_of};
pub use write::times_as_text;

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Any, Text};
    const ONE: &[Takes] = &[Text];
    const TWO: &[Takes] = &[Text, Text];
    [
        define("get_json_object", TWO, 0, |_| DataType::Utf8, |_, a| by_path(a)),
        // What `json_tuple` gives for one name.
        define("json_field", TWO, 0, |_| DataType::Utf8, |_, a| field(a)),
        define(
            "json_array_length",
            ONE,
            0,
            |_| DataType::Int32,
            |_, a| {
                let lengths =
                    a[0].as_string::<i32>().iter().map(|text| match read::whole(text?)?.value {
                        Value::Array(items) => Some(items.len() as i32),
                        _ => None,
                    });
                Ok(Arc::new(lengths.collect::<Int32Array>()))
            },
        ),
        define("json_object_keys", ONE, 0, |_| list_of(DataType::Utf8), |_, a| Ok(keys(&a[0]))),
        define("to_json", &[Any], 0, |_| DataType::Utf8, |c, a| write::texts(&a[0], c.zone)),
    ]
    .into_iter()
}

/// The names of the fields of a schema that is a struct, or an array of structs.
pub fn fields_of(schema: &str) -> Option<Vec<String>> {
    let fields = match schema::parse(schema).ok()? {
        DataType::Struct(fields) => fields,
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => return None,
        },
        _ => return None,
    };
    Some(fields.iter().map(|field| field.name().clone()).collect())
}

fn by_path(args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let mut last: Option<(&str, Option<Vec<path::Step>>)> = None;
    let found = pairs.map(|(text, path)| {
        let (text, path) = (text?, path?);
        if last.as_ref().is_none_or(|(known, _)| *known != path) {
            last = Some((path, path::parse(path)));
        }
        let steps = last.as_ref().and_then(|(_, steps)| steps.as_deref())?;
        path::find(&read::first(text)?, steps)
    });
    Ok(Arc::new(found.collect::<StringArray>()))
}

fn field(args: &[ArrayRef]) -> std::result::Result<ArrayRef, String> {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let found = pairs.map(|(text, name)| {
        let (text, name) = (text?, name?);
        let Value::Object(fields) = read::first(text)?.value else { return None };
        let (_, node) = fields.into_iter().find(|(known, _)| known == name)?;
        path::plain(&node)
    });
    Ok(Arc::new(found.collect::<StringArray>()))
}

fn keys(texts: &ArrayRef) -> ArrayRef {
    let lists = texts.as_string::<i32>().iter().map(|text| match read::whole(text?)?.value {
        Value::Object(fields) => Some(fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>()),
        _ => None,
    });
    let lists: Vec<Option<Vec<String>>> = lists.collect();
    let names: StringArray = lists.iter().flatten().flatten().map(Some).collect();
    let lengths = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    let nulls = lists.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let field = Arc::new(Field::new("item", DataType::Utf8, true));
    Arc::new(ListArray::new(field, offsets, Arc::new(names), Some(nulls)))
}

pub fn from_json(zone: TimeZone) -> ScalarUDF {
    let zone_name = zone.iana_name().unwrap_or_default().to_string();
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::new_from_impl(FromJson { zone, zone_name, signature })
}

/// `from_json(text, schema)`: the schema is a constant, and says the type.
#[derive(Debug, PartialEq, Eq)]
struct FromJson {
    zone: TimeZone,
    zone_name: String,
    signature: Signature,
}

impl std::hash::Hash for FromJson {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.zone_name.hash(state);
    }
}

impl ScalarUDFImpl for FromJson {
    fn name(&self) -> &str {
        "from_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [text, schema] if is_text(schema) && (is_text(text) || *text == DataType::Null) => {
                Ok(vec![DataType::Utf8; 2])
            }
            [text, _] if !is_text(text) => {
                plan_err!("from_json: argument 1 is {}, expected a text", sql_name(text))
            }
            _ => plan_err!(
                "from_json takes a text and a schema, its options are not in this version"
            ),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("from_json: the schema is a constant text such as 'id BIGINT, name STRING'")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [_, Some(ScalarValue::Utf8(Some(schema)))] = args.scalar_arguments else {
            return self.return_type(&[]).map(|_| unreachable!("it is refused"));
        };
        let data_type = schema::parse(schema);
        let data_type = data_type.map_err(|what| plan_datafusion_err!("from_json: {what}"))?;
        Ok(Arc::new(Field::new("from_json", data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args[0].to_array(args.number_rows)?;
        let texts = texts.as_string::<i32>();
        let to = args.return_field.data_type();
        let nodes: Vec<Option<read::Node>> = texts
            .iter()
            .map(|text| Some(build::root(text?, to)))
            .collect::<Vec<_>>()
            .into_iter()
            .map(Option::flatten)
            .collect();
        let rows: Vec<Option<&read::Node>> = nodes.iter().map(Option::as_ref).collect();
        let values = build::values(&rows, to, &self.zone);
        let values = values.map_err(|reason| exec_datafusion_err!("{reason}"))?;
        Ok(ColumnarValue::Array(values))
    }
}
