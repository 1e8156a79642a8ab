//! Operators between two values, typed by Spark's rules before the binder applies its own.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{
    DFSchema, DataFusionError, Diagnostic, Result, ScalarValue, Span, plan_datafusion_err,
};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, ScalarUDF};
use datafusion_sql::sqlparser::ast::BinaryOperator;
use pelton_kernels::expr::ArithmeticOp;

use super::coerce;
use super::functions::arithmetic::arithmetic;
use super::types::{
    bounded_decimal, days, decimal_of, is_decimal, is_float, is_integer, is_number, is_text,
    is_time, length, list_of, map_of, map_parts, sql_name, timestamp, wider_number,
};

#[derive(Debug)]
pub struct SparkOperators {
    /// The function `time_between`, which knows the job's zone.
    pub between: Arc<ScalarUDF>,
    /// The function `days_between`.
    pub apart: Arc<ScalarUDF>,
}

impl ExprPlanner for SparkOperators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        // What the type of a CASE is has to be known before its value is computed with.
        let side = |side: Expr| coerce::expr(side, schema).map(|coerced| coerced.data);
        let raw = RawBinaryExpr { left: side(raw.left)?, right: side(raw.right)?, op: raw.op };
        let operation = Operation {
            op: raw.op.clone(),
            between: Arc::clone(&self.between),
            apart: Arc::clone(&self.apart),
            left_type: raw.left.get_type(schema)?,
            right_type: raw.right.get_type(schema)?,
            left: raw.left,
            right: raw.right,
        };
        use BinaryOperator::*;
        let planned = match &raw.op {
            Plus => operation.arithmetic(ArithmeticOp::Add),
            Minus => operation.arithmetic(ArithmeticOp::Subtract),
            Multiply => operation.arithmetic(ArithmeticOp::Multiply),
            Divide => operation.divide(),
            MyIntegerDivide => operation.integer_divide(),
            Modulo => operation.arithmetic(ArithmeticOp::Remainder),
            Eq => operation.compare(Operator::Eq),
            NotEq => operation.compare(Operator::NotEq),
            Lt => operation.compare(Operator::Lt),
            LtEq => operation.compare(Operator::LtEq),
            Gt => operation.compare(Operator::Gt),
            GtEq => operation.compare(Operator::GtEq),
            Spaceship => operation.compare(Operator::IsNotDistinctFrom),
            And => operation.connect(Operator::And),
            Or => operation.connect(Operator::Or),
            StringConcat => operation.concat(),
            BitwiseAnd => operation.bits(Operator::BitwiseAnd),
            BitwiseOr => operation.bits(Operator::BitwiseOr),
            BitwiseXor => operation.bits(Operator::BitwiseXor),
            _ => Err(operation.unsupported()),
        };
        planned.map(PlannerResult::Planned)
    }
}

struct Operation {
    op: BinaryOperator,
    between: Arc<ScalarUDF>,
    apart: Arc<ScalarUDF>,
    left: Expr,
    right: Expr,
    left_type: DataType,
    right_type: DataType,
}

impl Operation {
    fn arithmetic(self, op: ArithmeticOp) -> Result<Expr> {
        if is_length(&self.left_type) && is_length(&self.right_type) {
            return self.with_lengths(op);
        }
        if is_time(&self.left_type) || is_time(&self.right_type) {
            return self.time_arithmetic(op);
        }
        let Some((left, right)) = self.numbers() else { return Err(self.mismatch("numbers")) };
        if exact(&left, &right) {
            return Ok(self.decimals(op));
        }
        let Some(to) = wider_number(&left, &right) else { return Err(self.mismatch("numbers")) };
        let left = cast_from(self.left, &self.left_type, &to);
        let right = cast_from(self.right, &self.right_type, &to);
        Ok(arithmetic(op, left, right, to))
    }

    fn divide(self) -> Result<Expr> {
        let Some((left, right)) = self.numbers() else { return Err(self.mismatch("numbers")) };
        let decimals =
            (is_decimal(&left) || is_decimal(&right)) && !is_float(&left) && !is_float(&right);
        if decimals {
            return Ok(self.decimals(ArithmeticOp::Divide));
        }
        let to = DataType::Float64;
        Ok(arithmetic(ArithmeticOp::Divide, cast(self.left, &to), cast(self.right, &to), to))
    }

    /// `div`: truncates towards zero, BIGINT.
    fn integer_divide(self) -> Result<Expr> {
        let to = DataType::Int64;
        match self.numbers() {
            Some((left, right)) if is_integer(&left) && is_integer(&right) => Ok(arithmetic(
                ArithmeticOp::Divide,
                cast(self.left, &to),
                cast(self.right, &to),
                to,
            )),
            _ => Err(self.mismatch("integers")),
        }
    }

    /// The operands' types where both are numbers; a text beside a number is read as one.
    fn numbers(&self) -> Option<(DataType, DataType)> {
        let read = |text: &DataType, other: &DataType| match text {
            DataType::Null if matches!(other, DataType::Null) => Some(DataType::Float64),
            DataType::Null => Some(other.clone()),
            text if is_text(text) && is_integer(other) => Some(DataType::Int64),
            text if is_text(text) => Some(DataType::Float64),
            number if is_number(number) => Some(number.clone()),
            _ => None,
        };
        let both_text = is_text(&self.left_type) && is_text(&self.right_type);
        if both_text {
            return Some((DataType::Float64, DataType::Float64));
        }
        let left = read(&self.left_type, &self.right_type)?;
        let right = read(&self.right_type, &self.left_type)?;
        (is_number(&left) && is_number(&right)).then_some((left, right))
    }

    /// Result types of decimals: Spark's `DecimalPrecision`.
    fn decimals(self, op: ArithmeticOp) -> Expr {
        let (left, right) = (
            decimal_side(&self.left, &self.left_type),
            decimal_side(&self.right, &self.right_type),
        );
        let (p1, s1) = (i32::from(left.0), i32::from(left.1));
        let (p2, s2) = (i32::from(right.0), i32::from(right.1));
        let scale = s1.max(s2);
        let (precision, scale) = match op {
            ArithmeticOp::Add | ArithmeticOp::Subtract => {
                ((p1 - s1).max(p2 - s2) + scale + 1, scale)
            }
            ArithmeticOp::Multiply => (p1 + p2 + 1, s1 + s2),
            ArithmeticOp::Divide => {
                let scale = (s1 + p2 + 1).max(6);
                (p1 - s1 + s2 + scale, scale)
            }
            ArithmeticOp::Remainder => ((p1 - s1).min(p2 - s2) + scale, scale),
        };
        let (precision, scale) = bounded_decimal(precision, scale);
        let side = |(precision, scale): (u8, i8)| DataType::Decimal128(precision, scale);
        let (left, right) = (cast(self.left, &side(left)), cast(self.right, &side(right)));
        arithmetic(op, left, right, DataType::Decimal128(precision, scale))
    }

    /// Two intervals, of which one at least is no literal.
    fn with_lengths(self, op: ArithmeticOp) -> Result<Expr> {
        let operator = match op {
            ArithmeticOp::Add => Operator::Plus,
            ArithmeticOp::Subtract => Operator::Minus,
            _ => return Err(self.mismatch("numbers")),
        };
        match self.lengths() {
            Some((left, right)) => Ok(binary(left, operator, right)),
            None => Err(self.mismatch("two intervals without months")),
        }
    }

    /// Both sides as intervals of one type.
    fn lengths(&self) -> Option<(Expr, Expr)> {
        if self.left_type == days() && self.right_type == days() {
            return Some((self.left.clone(), self.right.clone()));
        }
        Some((fixed(&self.left, &self.left_type)?, fixed(&self.right, &self.right_type)?))
    }

    /// Times and intervals; dates and days.
    fn time_arithmetic(self, op: ArithmeticOp) -> Result<Expr> {
        use DataType::{Date32, Duration, Interval, Timestamp};
        let operator = match op {
            ArithmeticOp::Add => Operator::Plus,
            ArithmeticOp::Subtract => Operator::Minus,
            _ => return Err(self.mismatch("numbers")),
        };
        match (&self.left_type, &self.right_type) {
            (Timestamp(_, _), Timestamp(_, _) | Date32) | (Date32, Timestamp(_, _))
                if op == ArithmeticOp::Subtract =>
            {
                let call = ScalarFunction::new_udf(self.between, vec![self.left, self.right]);
                Ok(Expr::ScalarFunction(call))
            }
            (Date32, Date32) if op == ArithmeticOp::Subtract => {
                let call = ScalarFunction::new_udf(self.apart, vec![self.left, self.right]);
                Ok(Expr::ScalarFunction(call))
            }
            (Timestamp(_, _), Duration(_)) => {
                let by = cast_from(self.right, &self.right_type, &length());
                Ok(binary(self.left, operator, by))
            }
            (Duration(_), Timestamp(_, _)) if op == ArithmeticOp::Add => {
                let by = cast_from(self.left, &self.left_type, &length());
                Ok(binary(self.right, operator, by))
            }
            (Date32, Duration(TimeUnit::Second)) => {
                let by = cast(self.right, &DataType::Int32);
                Ok(arithmetic(op, self.left, by, Date32))
            }
            (Duration(TimeUnit::Second), Date32) if op == ArithmeticOp::Add => {
                let by = cast(self.left, &DataType::Int32);
                Ok(arithmetic(op, self.right, by, Date32))
            }
            // A part of a day makes a time of the day.
            (Date32, Interval(_)) if has_clock(&self.right) => {
                Ok(binary(cast(self.left, &timestamp()), operator, self.right))
            }
            (Timestamp(_, _) | Date32, Interval(_)) => Ok(binary(self.left, operator, self.right)),
            (Interval(_), Date32) if op == ArithmeticOp::Add && has_clock(&self.left) => {
                Ok(binary(cast(self.right, &timestamp()), operator, self.left))
            }
            (Interval(_), Timestamp(_, _) | Date32) if op == ArithmeticOp::Add => {
                Ok(binary(self.right, operator, self.left))
            }
            (Date32, days) if is_integer(days) => {
                let right = cast(self.right, &DataType::Int32);
                Ok(arithmetic(op, self.left, right, Date32))
            }
            _ => Err(self.mismatch("a time and an interval")),
        }
    }

    fn compare(self, op: Operator) -> Result<Expr> {
        if is_length(&self.left_type) && is_length(&self.right_type) {
            return match self.lengths() {
                Some((left, right)) => Ok(binary(left, op, right)),
                None => Err(self.mismatch("two intervals without months")),
            };
        }
        let to = common_type(&self.left_type, &self.right_type);
        let Some(to) = to.filter(|to| !holds_map(to)) else {
            return Err(self.mismatch("two values that can be compared"));
        };
        let left = cast_from(self.left, &self.left_type, &to);
        Ok(binary(left, op, cast_from(self.right, &self.right_type, &to)))
    }

    fn connect(self, op: Operator) -> Result<Expr> {
        let boolean = |t: &DataType| matches!(t, DataType::Boolean | DataType::Null);
        if !boolean(&self.left_type) || !boolean(&self.right_type) {
            return Err(self.mismatch("two conditions"));
        }
        Ok(binary(self.left, op, self.right))
    }

    fn concat(self) -> Result<Expr> {
        let text = DataType::Utf8;
        let left = cast_from(self.left, &self.left_type, &text);
        let right = cast_from(self.right, &self.right_type, &text);
        Ok(binary(left, Operator::StringConcat, right))
    }

    fn bits(self, op: Operator) -> Result<Expr> {
        let integer = |t: &DataType| is_integer(t) || matches!(t, DataType::Null);
        let to = wider_number(&self.left_type, &self.right_type);
        let both = integer(&self.left_type) && integer(&self.right_type);
        let Some(to) = to.filter(|_| both) else { return Err(self.mismatch("integers")) };
        let left = cast_from(self.left, &self.left_type, &to);
        Ok(binary(left, op, cast_from(self.right, &self.right_type, &to)))
    }

    fn mismatch(&self, expected: &str) -> DataFusionError {
        let (left, right) = (sql_name(&self.left_type), sql_name(&self.right_type));
        let what = format!("{left} {} {right}: expected {expected}", self.op);
        self.fault(what)
    }

    fn unsupported(&self) -> DataFusionError {
        self.fault(format!("the operator {} is not in this version", self.op))
    }

    fn fault(&self, what: String) -> DataFusionError {
        let columns = [&self.left, &self.right].into_iter().flat_map(|side| {
            side.column_refs().into_iter().filter_map(|column| column.spans.first())
        });
        let span = Span::union_iter(columns);
        let diagnostic = Diagnostic::new_error(what.clone(), span);
        plan_datafusion_err!("{what}").with_diagnostic(diagnostic)
    }
}

/// The type in which two values are compared: a text is read as the other's type.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType::*;
    match (left, right) {
        (left, right) if left == right => Some(left.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (text, other) | (other, text) if is_text(text) => match other {
            number if is_integer(number) => Some(Int64),
            number if is_number(number) => Some(Float64),
            Boolean | Date32 | Timestamp(_, _) => Some(other.clone()),
            other if is_text(other) => Some(Utf8),
            _ => None,
        },
        (Date32, time @ Timestamp(_, _)) | (time @ Timestamp(_, _), Date32) => Some(time.clone()),
        (Timestamp(_, _), Timestamp(_, _)) => Some(timestamp()),
        (Struct(left), Struct(right)) if left.len() == right.len() => {
            let field = |(left, right): (&FieldRef, &FieldRef)| {
                let both = common_type(left.data_type(), right.data_type())?;
                Some(Field::new(left.name(), both, true))
            };
            let fields = left.iter().zip(right).map(field).collect::<Option<Vec<Field>>>()?;
            Some(Struct(fields.into()))
        }
        (Map(_, _), Map(_, _)) => {
            let ((key, value), (other, beside)) = (map_parts(left)?, map_parts(right)?);
            Some(map_of(common_type(key, other)?, common_type(value, beside)?))
        }
        (List(left), List(right)) => {
            let item = common_type(left.data_type(), right.data_type())?;
            Some(list_of(item))
        }
        (left, right) => wider_number(left, right),
    }
}

/// A map has no order, and Spark compares none.
fn holds_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(_, _) => true,
        DataType::List(item) => holds_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_map(field.data_type())),
        _ => false,
    }
}

fn is_length(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Duration(_) | DataType::Interval(_))
}

/// Whether an interval has hours, minutes or seconds.
fn has_clock(interval: &Expr) -> bool {
    match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            interval.nanoseconds != 0
        }
        _ => false,
    }
}

/// An interval of fixed length; a literal becomes one. `None`: it has months, or is no constant.
fn fixed(expr: &Expr, data_type: &DataType) -> Option<Expr> {
    match expr {
        _ if matches!(data_type, DataType::Duration(_)) => {
            Some(cast_from(expr.clone(), data_type, &length()))
        }
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)
            if interval.months == 0 =>
        {
            let days = i64::from(interval.days).checked_mul(86_400_000_000)?;
            let us = days.checked_add(interval.nanoseconds / 1_000)?;
            Some(Expr::Literal(ScalarValue::DurationMicrosecond(Some(us)), None))
        }
        _ => None,
    }
}

/// Whether two numbers meet as decimals: one is, and neither is a float.
fn exact(left: &DataType, right: &DataType) -> bool {
    (is_decimal(left) || is_decimal(right)) && !is_float(left) && !is_float(right)
}

/// A decimal literal's own width; an integer literal has as many digits as it shows.
fn decimal_side(expr: &Expr, data_type: &DataType) -> (u8, i8) {
    let literal = match expr {
        Expr::Cast(Cast { expr, .. }) => expr.as_ref(),
        expr => expr,
    };
    match literal {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) if is_integer(data_type) => {
            (value.unsigned_abs().to_string().len() as u8, 0)
        }
        _ => match data_type {
            DataType::Decimal128(precision, scale) => (*precision, *scale),
            integer => decimal_of(integer),
        },
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn cast_from(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to { expr } else { cast(expr, to) }
}

/// A cast that the planner decided; none where the type is there already.
fn cast(expr: Expr, to: &DataType) -> Expr {
    match &expr {
        Expr::Cast(Cast { field, .. }) if field.data_type() == to => expr,
        _ => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    }
}
