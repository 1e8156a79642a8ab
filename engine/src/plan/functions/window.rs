//! `window(time, size, slide, offset)`: never run, replaced by the planner with the window's start;
//! and `window_time(window)`, the last microsecond that belongs to it.

use arrow::array::{Array, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, TimestampMicrosecondType};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use pelton_kernels::expr::{Expr as Kernel, ExprKind};

use crate::plan::expr::Compiled;
use crate::plan::sql::duration;
use crate::plan::types::{sql_name, timestamp};

pub fn window() -> ScalarUDF {
    ScalarUDF::new_from_impl(Window { signature: Signature::user_defined(Volatility::Immutable) })
}

pub fn session_window() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::new_from_impl(SessionWindow { signature })
}

/// Time and gap of a call of [`session_window`].
pub fn session_parts(expr: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match call.args.as_slice() {
        [time, gap] if call.func.name() == "session_window" => Some((time, gap)),
        _ => None,
    }
}

pub fn window_time() -> ScalarUDF {
    ScalarUDF::new_from_impl(WindowTime { signature: Signature::any(1, Volatility::Immutable) })
}

/// `time + us`, checked.
pub fn shift(time: Expr, us: i64) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    let udf = ScalarUDF::new_from_impl(Shift { us, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(udf.into(), vec![time]))
}

/// `time` plus a number of microseconds, checked; NULL where one of the two is.
pub fn shift_by(time: Expr, us: Expr) -> Expr {
    let udf =
        ScalarUDF::new_from_impl(ShiftBy { signature: Signature::any(2, Volatility::Immutable) });
    Expr::ScalarFunction(ScalarFunction::new_udf(udf.into(), vec![time, us]))
}

/// Start of the tumbling window that holds `time`.
pub fn start(time: Expr, size_us: i64, offset_us: i64) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    let udf = ScalarUDF::new_from_impl(Start { size_us, offset_us, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(udf.into(), vec![time]))
}

/// Time, size and offset of an expression made by [`start`].
pub fn start_parts(expr: &Expr) -> Option<(&Expr, i64, i64)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let own = call.func.inner().as_ref() as &dyn std::any::Any;
    let own = own.downcast_ref::<Start>()?;
    Some((&call.args[0], own.size_us, own.offset_us))
}

/// Time, size and offset of a call of [`window`].
pub fn parts(expr: &Expr) -> Option<(&Expr, i64, i64, i64)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    if call.func.name() != "window" || call.args.len() != 4 {
        return None;
    }
    let us = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => text.parse::<i64>().ok(),
        _ => None,
    };
    Some((&call.args[0], us(&call.args[1])?, us(&call.args[2])?, us(&call.args[3])?))
}

/// Time and microseconds of an expression made by [`shift`].
pub fn shift_parts(expr: &Expr) -> Option<(&Expr, i64)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let own = call.func.inner().as_ref() as &dyn std::any::Any;
    let us = own.downcast_ref::<Shift>()?.us;
    Some((&call.args[0], us))
}

/// STRUCT<start: TIMESTAMP, end: TIMESTAMP>
pub fn window_type(time: &DataType) -> DataType {
    let field = |name: &str| Field::new(name, time.clone(), true);
    DataType::Struct(Fields::from(vec![field("start"), field("end")]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Window {
    signature: Signature,
}

impl ScalarUDFImpl for Window {
    fn name(&self) -> &str {
        "window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let time = match &types[0] {
            time @ DataType::Timestamp(_, _) => time.clone(),
            DataType::Date32 | DataType::Utf8 | DataType::Null => timestamp(),
            window if time_of(window).is_some() => window.clone(),
            other => {
                let found = sql_name(other);
                return plan_err!("window: the time is {found}, expected TIMESTAMP");
            }
        };
        Ok(vec![time, DataType::Utf8, DataType::Utf8, DataType::Utf8])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(window_type(&time_of(&types[0]).unwrap_or_else(timestamp)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("a window has no value of its own; it is a group key")
    }
}

/// The type of a time, or of the times of a window that stands in its place.
fn time_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        time @ DataType::Timestamp(_, _) => Some(time.clone()),
        DataType::Struct(fields) if fields.len() == 2 && fields[1].name() == "end" => {
            Some(fields[1].data_type().clone())
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionWindow {
    signature: Signature,
}

impl ScalarUDFImpl for SessionWindow {
    fn name(&self) -> &str {
        "session_window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let time = match &types[0] {
            DataType::Date32 | DataType::Utf8 | DataType::Null => timestamp(),
            other if time_of(other).is_some() => other.clone(),
            other => {
                let found = sql_name(other);
                return plan_err!("session_window: the time is {found}, expected TIMESTAMP");
            }
        };
        Ok(vec![time, DataType::Int64])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(window_type(&time_of(&types[0]).unwrap_or_else(timestamp)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("a session has no value of its own; it is a group key")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ShiftBy {
    signature: Signature,
}

impl ScalarUDFImpl for ShiftBy {
    fn name(&self) -> &str {
        "shift_by"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times, gaps] = [&args.args[0], &args.args[1]].map(|a| a.to_array(args.number_rows));
        let (times, gaps) = (times?, gaps?);
        let data_type = times.data_type().clone();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let gaps = gaps.as_primitive::<Int64Type>();
        let ends: Result<TimestampMicrosecondArray> = times
            .iter()
            .zip(gaps)
            .map(|pair| match pair {
                (Some(time), Some(gap)) => match time.checked_add(gap) {
                    Some(end) => Ok(Some(end)),
                    None => exec_err!("a session's end is out of range"),
                },
                _ => Ok(None),
            })
            .collect();
        Ok(ColumnarValue::Array(std::sync::Arc::new(ends?.with_data_type(data_type))))
    }
}

/// A duration's text as microseconds, for a session whose gap is an expression.
pub fn duration_us() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::new_from_impl(DurationUs { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DurationUs {
    signature: Signature,
}

impl ScalarUDFImpl for DurationUs {
    fn name(&self) -> &str {
        "duration_us"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args[0].to_array(args.number_rows)?;
        let us = texts.as_string::<i32>().iter().map(|text| match text.map(duration::of_text) {
            None => Ok(None),
            Some(Ok(us)) => Ok(Some(us)),
            Some(Err(reason)) => exec_err!("{reason}"),
        });
        let us: Result<Int64Array> = us.collect();
        Ok(ColumnarValue::Array(std::sync::Arc::new(us?)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowTime {
    signature: Signature,
}

impl ScalarUDFImpl for WindowTime {
    fn name(&self) -> &str {
        "window_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Struct(fields) if fields.len() == 2 && fields[1].name() == "end" => {
                Ok(fields[1].data_type().clone())
            }
            other => {
                let found = sql_name(other);
                plan_err!("window_time: the argument is {found}, expected a window")
            }
        }
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("window_time is the window's end less a microsecond; the planner writes it so")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Start {
    size_us: i64,
    offset_us: i64,
    signature: Signature,
}

impl ScalarUDFImpl for Start {
    fn name(&self) -> &str {
        "window_start"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let data_type = times.data_type().clone();
        let time = Box::new(Kernel::column(0, data_type.clone()));
        let (size_us, offset_us) = (self.size_us, self.offset_us);
        let kind = ExprKind::WindowStart { time, size_us, offset_us };
        let kernel = Compiled::Kernel(Kernel { kind, data_type });
        let evaluated = kernel.evaluate(&[times], args.number_rows, None);
        match evaluated.errors.into_iter().next() {
            Some((_, reason)) => exec_err!("{reason}"),
            None => Ok(ColumnarValue::Array(evaluated.values)),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift {
    us: i64,
    signature: Signature,
}

impl ScalarUDFImpl for Shift {
    fn name(&self) -> &str {
        "shift"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let shifted = times.try_unary::<_, TimestampMicrosecondType, _>(|time| {
            time.checked_add(self.us).ok_or_else(|| {
                arrow::error::ArrowError::ComputeError("a window's end is out of range".into())
            })
        })?;
        let shifted = shifted.with_data_type(times.data_type().clone());
        Ok(ColumnarValue::Array(std::sync::Arc::new(shifted)))
    }
}
