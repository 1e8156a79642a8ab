//! Every function that SQL can call, with arguments of every type: planned or refused, never a panic;
//! what is planned gives a value or an error for each row, of the type that the plan promised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};

use super::*;
use crate::plan::functions::Catalog;

const SCHEMA: &str =
    "t STRING, i INT, l BIGINT, x DOUBLE, d DECIMAL(10,2), b BOOLEAN, day DATE, ts TIMESTAMP";

fn values() -> Vec<ArrayRef> {
    let decimals = Decimal128Array::from(vec![Some(150), None, Some(-1), Some(0)]);
    let times = vec![Some(1_714_564_800_123_456), None, Some(-1), Some(0)];
    vec![
        Arc::new(StringArray::from(vec![Some("7"), None, Some(""), Some("naïve é")])),
        Arc::new(Int32Array::from(vec![Some(2), None, Some(i32::MIN), Some(0)])),
        Arc::new(Int64Array::from(vec![Some(3), None, Some(i64::MAX), Some(0)])),
        Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN), Some(-0.0)])),
        Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
        Arc::new(Date32Array::from(vec![Some(19_844), None, Some(-1), Some(0)])),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
    ]
}

const ARGUMENTS: [&str; 16] = [
    "",
    "t",
    "i",
    "x",
    "d",
    "day",
    "ts",
    "split(t, ' ')",
    "NULL",
    "t, t",
    "t, i",
    "t, ts",
    "i, i",
    "day, i",
    "split(t, ' '), i",
    "t, i, i",
];

/// What went wrong with one call, if anything did.
fn fault(call: &str) -> Option<String> {
    let job = job(SCHEMA, None, OutputMode::Append, &format!("SELECT {call} AS out FROM input"));
    let run = || -> Result<(), String> {
        let Ok(query) = plan(&job) else { return Ok(()) };
        let plan = only(query);
        let Shape::Rows { columns, .. } = &plan.shape else { return Ok(()) };
        let all = values();
        let input: Vec<ArrayRef> =
            plan.input.iter().map(|input| Arc::clone(&all[input.source])).collect();
        let evaluated = columns[0].evaluate(&input, 4, None);
        if evaluated.values.len() != 4 {
            return Err(format!("{} values for 4 rows", evaluated.values.len()));
        }
        let (found, promised) = (evaluated.values.data_type(), columns[0].data_type());
        if found != promised {
            return Err(format!("promised {promised}, gave {found}"));
        }
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(format!("{call}: {what}")),
        Err(_) => Some(format!("{call}: panics")),
    }
}

#[test]
fn no_function_panics_or_breaks_its_promise() {
    let catalog = Catalog::new(TimeZone::UTC);
    let names = catalog.names();
    let calls = names
        .iter()
        .filter(|name| !catalog.is_aggregate(name))
        .flat_map(|name| ARGUMENTS.iter().map(move |arguments| format!("{name}({arguments})")));
    let faults: Vec<String> = calls.filter_map(|call| fault(&call)).collect();
    assert!(faults.is_empty(), "{} calls:\n{}", faults.len(), faults.join("\n"));
}
