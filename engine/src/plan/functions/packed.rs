//! Structs and arrays as bytes in whose order they are ordered, where groups, extremes and lists hold
//! them: the kernels know single values and texts alone.
//!
//! A struct is ordered field by field, an array element by element, NULL first, as in Spark. The bytes
//! are arrow's row format, and stand in checkpoints: the functions' name carries its version, which is
//! part of a plan's fingerprint. Maps have no order and are not packed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::plan::types::list_of;

/// Whether values of the type are packed.
pub fn is_packed(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(_) | DataType::List(_)) && has_order(data_type)
}

fn has_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| has_order(field.data_type())),
        DataType::List(item) => has_order(item.data_type()),
        DataType::Map(_, _) => false,
        single => RowConverter::supports_fields(&[SortField::new(single.clone())]),
    }
}

/// The value as bytes; NULL stays NULL.
pub fn pack(value: Expr) -> Expr {
    call(Packing::Pack { is_key: false }, value)
}

/// The same for a group's key: values that SQL calls equal have equal bytes, -0.0 and 0.0 too.
pub fn pack_key(value: Expr) -> Expr {
    call(Packing::Pack { is_key: true }, value)
}

/// The value of this type that was packed.
pub fn unpack(bytes: Expr, data_type: DataType) -> Expr {
    call(Packing::Unpack(data_type), bytes)
}

/// Of a list of packed values of this type, the list of the values.
pub fn unpack_each(list: Expr, item: DataType) -> Expr {
    call(Packing::UnpackEach(item), list)
}

fn call(packing: Packing, argument: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    let udf = ScalarUDF::new_from_impl(Packed { packing, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), vec![argument]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Packing {
    Pack { is_key: bool },
    Unpack(DataType),
    UnpackEach(DataType),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Packed {
    packing: Packing,
    signature: Signature,
}

impl ScalarUDFImpl for Packed {
    fn name(&self) -> &str {
        match self.packing {
            Packing::Pack { is_key: false } => "packed_59",
            Packing::Pack { is_key: true } => "packed_key_59",
            Packing::Unpack(_) => "unpacked_59",
            Packing::UnpackEach(_) => "each_unpacked_59",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match &self.packing {
            Packing::Pack { .. } => DataType::Binary,
            Packing::Unpack(data_type) => data_type.clone(),
            Packing::UnpackEach(item) => list_of(item.clone()),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let made: ArrayRef = match &self.packing {
            Packing::Pack { is_key } => Arc::new(packed(&values, *is_key)?),
            Packing::Unpack(data_type) => unpacked(values.as_binary::<i32>(), data_type)?,
            Packing::UnpackEach(item) => {
                let lists = values.as_list::<i32>();
                let items = unpacked(lists.values().as_binary::<i32>(), item)?;
                let DataType::List(field) = list_of(item.clone()) else {
                    unreachable!("list_of makes a list")
                };
                let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
                Arc::new(ListArray::try_new(field, offsets, items, nulls)?)
            }
        };
        Ok(ColumnarValue::Array(made))
    }
}

fn converter(data_type: &DataType) -> Result<RowConverter> {
    Ok(RowConverter::new(vec![SortField::new(data_type.clone())])?)
}

fn packed(values: &ArrayRef, is_key: bool) -> Result<BinaryArray> {
    let values = canonical(values, is_key);
    let rows = converter(values.data_type())?.convert_columns(&[Arc::clone(&values)])?;
    let bytes = |row: usize| rows.row(row);
    let all = (0..values.len()).map(|row| values.is_valid(row).then(|| bytes(row)));
    Ok(all.collect::<Vec<_>>().iter().map(|row| row.as_ref().map(AsRef::as_ref)).collect())
}

fn unpacked(packed: &BinaryArray, data_type: &DataType) -> Result<ArrayRef> {
    let converter = converter(data_type)?;
    let parser = converter.parser();
    let null = converter.convert_columns(&[new_null_array(data_type, 1)])?;
    let rows = packed.iter().map(|bytes| match bytes {
        Some(bytes) => parser.parse(bytes),
        None => null.row(0),
    });
    let values = converter.convert_rows(rows)?.pop();
    let values = values.ok_or_else(|| exec_datafusion_err!("a packed value has one column"))?;
    Ok(arrow::compute::cast(&values, data_type)?)
}

/// One NaN, and for keys one zero, at any depth.
fn canonical(values: &ArrayRef, is_key: bool) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            let nan = |v: f64| if v.is_nan() { f64::NAN } else { v };
            let values = values.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|v| if is_key { one(v) } else { nan(v) }))
        }
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            let nan = |v: f32| if v.is_nan() { f32::NAN } else { v };
            let values = values.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|v| if is_key { one(v) } else { nan(v) }))
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let of = values.as_struct();
            let columns = of.columns().iter().map(|column| canonical(column, is_key)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, of.nulls().cloned()))
        }
        DataType::List(field) => {
            let of = values.as_list::<i32>();
            let (offsets, nulls) = (of.offsets().clone(), of.nulls().cloned());
            Arc::new(ListArray::new(
                Arc::clone(field),
                offsets,
                canonical(of.values(), is_key),
                nulls,
            ))
        }
        _ => Arc::clone(values),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use arrow::datatypes::{Field, Fields, Int32Type};
    use proptest::prelude::*;

    use super::*;

    fn structs(rows: &[Option<(Option<i32>, Option<&str>)>]) -> ArrayRef {
        let fields = Fields::from(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
        ]);
        let a: Int32Array = rows.iter().map(|row| row.and_then(|row| row.0)).collect();
        let b: StringArray = rows.iter().map(|row| row.and_then(|row| row.1)).collect();
        let nulls = rows.iter().map(Option::is_some).collect::<Vec<_>>().into();
        Arc::new(StructArray::new(fields, vec![Arc::new(a), Arc::new(b)], Some(nulls)))
    }

    #[test]
    fn a_struct_is_ordered_by_its_fields_and_comes_back() {
        let rows = [
            Some((None, Some("z"))),
            Some((Some(-5), None)),
            Some((Some(-5), Some(""))),
            Some((Some(-5), Some("a"))),
            Some((Some(3), Some("ab"))),
            Some((Some(3), Some("b"))),
            None,
        ];
        let values = structs(&rows);
        let bytes = packed(&values, false).unwrap();
        assert!(bytes.is_null(6), "NULL is not packed");
        for row in 1..6 {
            assert!(bytes.value(row - 1) < bytes.value(row), "{row}");
        }
        let back = unpacked(&bytes, values.data_type()).unwrap();
        assert_eq!(&back, &values);
    }

    #[test]
    fn equal_keys_have_equal_bytes() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        let field = Fields::from(vec![Field::new("x", DataType::Float64, true)]);
        let values: ArrayRef = Arc::new(StructArray::new(field, vec![doubles], None));
        let keys = packed(&values, true).unwrap();
        assert_eq!(keys.value(0), keys.value(1));
        assert_eq!(keys.value(2), keys.value(3));
        assert!(keys.value(0) < keys.value(2), "NaN is the greatest");
        let kept = packed(&values, false).unwrap();
        assert_ne!(kept.value(0), kept.value(1), "a value that is no key keeps its sign");
    }

    proptest! {
        #[test]
        fn arrays_come_back(lists: Vec<Option<Vec<Option<i32>>>>) {
            let values: ArrayRef =
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone()));
            let back = unpacked(&packed(&values, true).unwrap(), values.data_type()).unwrap();
            prop_assert_eq!(back.to_data(), values.to_data());
        }
    }
}
