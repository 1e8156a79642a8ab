//! Which trees the kernels can evaluate: the contract between the planner and every device.
//!
//! Invariant: an expression that passes never panics in `cpu::project`, whatever the values are.

use arrow::datatypes::{DataType, TimeUnit};

use super::{ArithmeticOp, CalendarUnit, Expr, ExprKind, Literal};

/// No zone is further from UTC than 25:59:59.
const AHEAD_US_MAX: u64 = 93_599_000_000;

impl Expr {
    /// Says whether the kernels can evaluate this tree over columns of such types, and if not, why.
    ///
    /// A column may be of any type where it is the whole expression or is asked for NULL.
    pub fn check(&self, columns: &[DataType]) -> Result<(), String> {
        for operand in self.operands() {
            operand.check(columns)?;
        }
        if self.is_typed(columns) {
            return Ok(());
        }
        let operands: Vec<_> = self.operands().map(|e| e.data_type.to_string()).collect();
        let operands = operands.join(", ");
        Err(format!("no kernel for {}({operands}) that gives {}", self.name(), self.data_type))
    }

    fn name(&self) -> String {
        match &self.kind {
            ExprKind::Column(index) => format!("column {index}"),
            ExprKind::Literal(literal) => format!("{literal:?}"),
            ExprKind::Compare(op, ..) => format!("{op:?}"),
            ExprKind::Arithmetic(op, ..) => format!("{op:?}"),
            ExprKind::Not(_) => "NOT".to_owned(),
            ExprKind::And(..) => "AND".to_owned(),
            ExprKind::Or(..) => "OR".to_owned(),
            ExprKind::IsNull(_) => "IS NULL".to_owned(),
            ExprKind::IsNotNull(_) => "IS NOT NULL".to_owned(),
            ExprKind::Negate(_) => "negation".to_owned(),
            ExprKind::Cast(_) => "cast".to_owned(),
            ExprKind::Case { .. } => "CASE".to_owned(),
            ExprKind::WindowStart { .. } => "window start".to_owned(),
            ExprKind::DatePart(part, _) => part.name().to_owned(),
            ExprKind::ClockPart(part, _) => part.name().to_owned(),
            ExprKind::Truncate(unit, _) => format!("start of the {}", unit.name()),
            ExprKind::LastDay(_) => "last day of the month".to_owned(),
            ExprKind::AddMonths(..) => "months added".to_owned(),
            ExprKind::WholeMonths(..) => "months between".to_owned(),
            ExprKind::ToLocal { .. } => "local time".to_owned(),
            ExprKind::FromLocal { .. } => "instant".to_owned(),
        }
    }

    /// This node alone, its operands taken as checked.
    fn is_typed(&self, columns: &[DataType]) -> bool {
        use DataType::Boolean;
        let to = &self.data_type;
        match &self.kind {
            ExprKind::Column(index) => columns.get(*index) == Some(to),
            ExprKind::Literal(literal) => is_literal_of(literal, to),
            ExprKind::Not(e) => *to == Boolean && e.data_type == Boolean,
            ExprKind::IsNull(_) | ExprKind::IsNotNull(_) => *to == Boolean,
            ExprKind::And(a, b) | ExprKind::Or(a, b) => {
                *to == Boolean && a.data_type == Boolean && b.data_type == Boolean
            }
            ExprKind::Compare(_, a, b) => *to == Boolean && are_comparable(a, b),
            ExprKind::Negate(e) => e.data_type == *to && (is_number(to) || is_decimal(to)),
            ExprKind::Arithmetic(op, a, b) => has_arithmetic(*op, &a.data_type, &b.data_type, to),
            ExprKind::Cast(e) => can_cast(&e.data_type, to),
            ExprKind::Case { branches, otherwise } => {
                is_computed(to)
                    && branches.iter().all(|(w, t)| w.data_type == Boolean && t.data_type == *to)
                    && otherwise.as_ref().is_none_or(|e| e.data_type == *to)
            }
            ExprKind::WindowStart { time, size_us, .. } => {
                *size_us > 0 && time.data_type == *to && is_timestamp(to)
            }
            ExprKind::DatePart(_, date) => {
                date.data_type == DataType::Date32 && *to == DataType::Int32
            }
            ExprKind::ClockPart(_, time) => is_timestamp(&time.data_type) && *to == DataType::Int32,
            ExprKind::Truncate(unit, value) => {
                let has_unit = match to {
                    DataType::Date32 => *unit >= CalendarUnit::Day,
                    _ => is_timestamp(to),
                };
                value.data_type == *to && has_unit
            }
            ExprKind::LastDay(date) => date.data_type == DataType::Date32 && date.data_type == *to,
            ExprKind::AddMonths(time, months) => {
                let count = match to {
                    DataType::Date32 => DataType::Int32,
                    _ => DataType::Int64,
                };
                let moves = *to == DataType::Date32 || is_timestamp(to);
                moves && time.data_type == *to && months.data_type == count
            }
            ExprKind::WholeMonths(start, end) => {
                let times = is_timestamp(&start.data_type) && is_timestamp(&end.data_type);
                times && *to == DataType::Int32
            }
            ExprKind::ToLocal { ahead_us, time } | ExprKind::FromLocal { ahead_us, time } => {
                ahead_us.unsigned_abs() <= AHEAD_US_MAX
                    && is_timestamp(&time.data_type)
                    && is_timestamp(to)
            }
        }
    }
}

/// Whether [`ExprKind::Cast`] knows this conversion.
pub fn can_cast(from: &DataType, to: &DataType) -> bool {
    let number = |t: &DataType| is_number(t) || is_decimal(t);
    is_computed(from)
        && is_computed(to)
        && match (from, to) {
            (from, to) if from == to => true,
            (DataType::Boolean, to) => number(to),
            (from, DataType::Boolean) => number(from),
            (DataType::Date32, to) => is_day_count(to) || is_timestamp(to),
            (from, DataType::Date32) => is_integer(from) || is_timestamp(from),
            _ => true,
        }
}

fn has_arithmetic(op: ArithmeticOp, a: &DataType, b: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Int32, Int64};
    let adds = matches!(op, ArithmeticOp::Add | ArithmeticOp::Subtract);
    let subtracts = op == ArithmeticOp::Subtract;
    (is_decimal(a) && is_decimal(b) && is_decimal(to))
        || (is_number(a) && a == b && b == to)
        || (is_timestamp(a) && *b == Int64 && a == to && adds)
        || (is_timestamp(a) && is_timestamp(b) && *to == Int64 && subtracts)
        || (*a == Date32 && *b == Int32 && *to == Date32 && adds)
        || (*a == Date32 && *b == Date32 && *to == Int32 && subtracts)
}

/// Equal types; decimals of one scale, timestamps of any zone.
fn are_comparable(a: &Expr, b: &Expr) -> bool {
    match (&a.data_type, &b.data_type) {
        (a, b) if a == b => is_computed(a),
        (DataType::Decimal128(_, s), DataType::Decimal128(_, t)) => s == t,
        (a, b) => is_timestamp(a) && is_timestamp(b),
    }
}

fn is_literal_of(literal: &Literal, data_type: &DataType) -> bool {
    let within = |low: i64, high: i64, value: i64| (low..=high).contains(&value);
    match (literal, data_type) {
        (Literal::Null, _) => is_computed(data_type),
        (Literal::Boolean(_), DataType::Boolean)
        | (Literal::Int(_), DataType::Int64)
        | (Literal::Float(_), DataType::Float32 | DataType::Float64) => true,
        (&Literal::Int(v), DataType::Int8) => within(i8::MIN.into(), i8::MAX.into(), v),
        (&Literal::Int(v), DataType::Int16) => within(i16::MIN.into(), i16::MAX.into(), v),
        (&Literal::Int(v), DataType::Int32 | DataType::Date32) => {
            within(i32::MIN.into(), i32::MAX.into(), v)
        }
        (Literal::Int(_), _) => is_timestamp(data_type),
        (Literal::Decimal(v), &DataType::Decimal128(precision, _)) => {
            is_decimal(data_type) && v.unsigned_abs() < 10_u128.pow(precision.into())
        }
        _ => false,
    }
}

fn is_computed(t: &DataType) -> bool {
    matches!(t, DataType::Boolean | DataType::Date32)
        || is_number(t)
        || is_decimal(t)
        || is_timestamp(t)
}

fn is_number(t: &DataType) -> bool {
    is_integer(t) || matches!(t, DataType::Float32 | DataType::Float64)
}

fn is_integer(t: &DataType) -> bool {
    matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// Days since 1970 as a number.
fn is_day_count(t: &DataType) -> bool {
    matches!(t, DataType::Int32 | DataType::Int64)
}

fn is_decimal(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(1..=38, 0..=38))
}

fn is_timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(TimeUnit::Microsecond, _))
}
