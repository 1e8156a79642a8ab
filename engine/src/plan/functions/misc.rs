//! What fits no other place: types as texts, deliberate errors, rows as keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, NullArray, StringArray};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};

use super::native::{Definition, Takes, define};
use crate::plan::side::normal;
use crate::plan::types::sql_name;

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Any, Boolean, Text};
    [
        // A value whose type is part of a name; it is gone once names are resolved.
        define("of_type", &[Any, Text], 0, |of| of[0].clone(), |_, a| Ok(Arc::clone(&a[0]))),
        define("typeof", &[Any], 0, text, |context, a| {
            let name = match a[0].data_type() {
                DataType::Null => "void".to_string(),
                data_type => {
                    sql_name(data_type).to_lowercase().replace(": ", ":").replace(", ", ",")
                }
            };
            Ok(Arc::new(StringArray::from(vec![name; context.rows])))
        }),
        define(
            "raise_error",
            &[Text],
            0,
            |_| DataType::Null,
            |_, a| {
                let texts = a[0].as_string::<i32>();
                match texts.iter().next() {
                    Some(text) => Err(text.unwrap_or("NULL").to_string()),
                    None => Ok(Arc::new(NullArray::new(0))),
                }
            },
        ),
        define(
            "assert_true",
            &[Boolean, Text],
            1,
            |_| DataType::Null,
            |context, a| {
                let truths = a[0].as_boolean();
                match (0..truths.len()).find(|&row| truths.is_null(row) || !truths.value(row)) {
                    None => Ok(Arc::new(NullArray::new(context.rows))),
                    Some(row) => {
                        let said = a.get(1).map(|texts| texts.as_string::<i32>());
                        let said =
                            said.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
                        Err(said.unwrap_or("the condition of assert_true is not true").to_string())
                    }
                }
            },
        ),
        define("current_timezone", &[], 0, text, |context, _| {
            let name = context.zone.iana_name().unwrap_or("UTC").to_string();
            Ok(Arc::new(StringArray::from(vec![name; context.rows])))
        }),
        // The planner puts the guarded expression in its place.
        define("null_on_error", &[Any], 0, |types| types[0].clone(), |_, a| Ok(Arc::clone(&a[0]))),
        Definition {
            variadic: true,
            ..define("row_key", &[Any], 0, |_| DataType::Binary, |_, a| row_key(a))
        },
    ]
    .into_iter()
}

/// Bytes that are equal where all values are; NULL where one of them is.
fn row_key(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let fields = args.iter().map(|arg| SortField::new(arg.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(|error| error.to_string())?;
    let rows = converter.convert_columns(&normal(args)).map_err(|error| error.to_string())?;
    let keys = rows.iter().enumerate().map(|(at, row)| {
        let there = args.iter().all(|arg| arg.is_valid(at));
        there.then(|| row.data().to_vec())
    });
    let keys: Vec<Option<Vec<u8>>> = keys.collect();
    Ok(Arc::new(keys.iter().map(Option::as_deref).collect::<BinaryArray>()))
}
