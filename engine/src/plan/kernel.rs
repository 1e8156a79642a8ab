//! Logical expressions as the kernels' typed tree, where all of it can be said there.

mod calendar;

use arrow::array::types::IntervalMonthDayNano;
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Case, InList};
use datafusion_expr::{BinaryExpr, Cast, Expr as Logical, Operator};
use pelton_kernels::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal, can_cast};

use super::compile::Columns;
use super::functions::{arithmetic, window};
use super::types::{is_integer, is_text, is_time};

pub struct Translator<'a> {
    pub columns: &'a Columns,
    /// How far the clocks of the job's zone are ahead of UTC, if always as far.
    pub ahead_us: Option<i64>,
}

/// Longer lists are looked up, not compared one by one.
const IN_LIST_MAX: usize = 8;
const US_PER_DAY: i64 = 86_400_000_000;

impl Translator<'_> {
    /// The tree, or `None` where a part of it is beyond the kernels.
    pub fn translate(&self, expr: &Logical) -> Option<Expr> {
        let translated = self.tree(expr)?;
        if matches!(translated.kind, ExprKind::Column(_)) {
            return Some(translated);
        }
        translated.check(&self.columns.types()).is_ok().then_some(translated)
    }

    fn tree(&self, expr: &Logical) -> Option<Expr> {
        let boxed = |e: &Logical| self.tree(e).map(Box::new);
        match expr {
            Logical::Alias(alias) => self.tree(&alias.expr),
            Logical::Column(column) => {
                let (data_type, index) = self.columns.get(column)?;
                Some(Expr::column(index, data_type.clone()))
            }
            Logical::Literal(value, _) => literal(value),
            Logical::Not(inner) => Some(boolean(ExprKind::Not(boxed(inner)?))),
            Logical::IsNull(inner) => Some(boolean(ExprKind::IsNull(boxed(inner)?))),
            Logical::IsNotNull(inner) => Some(boolean(ExprKind::IsNotNull(boxed(inner)?))),
            Logical::Negative(inner) => {
                let inner = boxed(inner)?;
                let data_type = inner.data_type.clone();
                Some(Expr { kind: ExprKind::Negate(inner), data_type })
            }
            Logical::BinaryExpr(binary) => self.binary(binary),
            Logical::Cast(Cast { expr, field }) => self.cast(self.tree(expr)?, field.data_type()),
            Logical::Case(case) => self.case(case),
            Logical::InList(list) => self.in_list(list),
            Logical::ScalarFunction(_) => self.function(expr),
            _ => None,
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Option<Expr> {
        if let Logical::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) =
            binary.right.as_ref()
        {
            return self.shifted(self.tree(&binary.left)?, binary.op, *interval);
        }
        let (left, right) = (self.tree(&binary.left)?, self.tree(&binary.right)?);
        let compare = match binary.op {
            Operator::And => {
                return Some(boolean(ExprKind::And(Box::new(left), Box::new(right))));
            }
            Operator::Or => return Some(boolean(ExprKind::Or(Box::new(left), Box::new(right)))),
            Operator::IsNotDistinctFrom => return same(left, right),
            Operator::IsDistinctFrom => {
                return Some(boolean(ExprKind::Not(Box::new(same(left, right)?))));
            }
            Operator::Eq => CompareOp::Equal,
            Operator::NotEq => CompareOp::NotEqual,
            Operator::Lt => CompareOp::Less,
            Operator::LtEq => CompareOp::LessOrEqual,
            Operator::Gt => CompareOp::Greater,
            Operator::GtEq => CompareOp::GreaterOrEqual,
            _ => return None,
        };
        comparison(compare, left, right)
    }

    /// A time plus an interval; where clocks change, days are not all as long.
    fn shifted(&self, time: Expr, op: Operator, interval: IntervalMonthDayNano) -> Option<Expr> {
        let sign = match op {
            Operator::Plus => 1,
            Operator::Minus => -1,
            _ => return None,
        };
        if interval.nanoseconds % 1_000 != 0 {
            return None;
        }
        let [months, days] = [interval.months, interval.days].map(|n| sign * i64::from(n));
        let us = sign * (interval.nanoseconds / 1_000);
        let of_days = days.checked_mul(US_PER_DAY)?.checked_add(us)?;
        let (time, by) = match &time.data_type {
            DataType::Timestamp(_, _) if months != 0 => {
                return self.by_months(months, days, us, time);
            }
            DataType::Timestamp(_, zone) => {
                let as_long = zone.is_none() || self.ahead_us.is_some();
                if !as_long && of_days.abs() >= US_PER_DAY {
                    return None;
                }
                (time, Expr::literal(Literal::Int(of_days), DataType::Int64))
            }
            DataType::Date32 if us == 0 => {
                let int = |value: i64| Expr::literal(Literal::Int(value), DataType::Int32);
                let later = match months {
                    0 => time,
                    months => calendar::add_months(time, int(months)),
                };
                (later, int(days))
            }
            _ => return None,
        };
        let data_type = time.data_type.clone();
        let kind = ExprKind::Arithmetic(ArithmeticOp::Add, Box::new(time), Box::new(by));
        Some(Expr { kind, data_type })
    }

    fn cast(&self, inner: Expr, to: &DataType) -> Option<Expr> {
        if inner.data_type == *to {
            return Some(inner);
        }
        if matches!(inner.kind, ExprKind::Literal(Literal::Null)) && computes(to) {
            return Some(Expr::literal(Literal::Null, to.clone()));
        }
        let day = |t: &DataType| matches!(t, DataType::Date32);
        // Spark has no cast between numbers and dates.
        if day(&inner.data_type) && !is_time(to) || day(to) && !is_time(&inner.data_type) {
            return None;
        }
        if is_time(to) && is_time(&inner.data_type) {
            return self.cast_time(inner, to);
        }
        can_cast(&inner.data_type, to).then(|| cast(inner, to.clone()))
    }

    /// Which day a time falls on, and when a day begins, is the zone's to say.
    fn cast_time(&self, inner: Expr, to: &DataType) -> Option<Expr> {
        let is_instant = |t: &DataType| matches!(t, DataType::Timestamp(_, Some(_)));
        if is_instant(&inner.data_type) && is_instant(to) {
            return Some(cast(inner, to.clone()));
        }
        let ahead_us = if is_instant(to) { self.ahead_us? } else { 0 };
        let local = match inner.data_type {
            DataType::Timestamp(..) => self.local(inner)?,
            _ if ahead_us == 0 => inner,
            _ => cast(inner, calendar::LOCAL),
        };
        if ahead_us != 0 {
            return Some(self.instant(local, to));
        }
        Some(if local.data_type == *to { local } else { cast(local, to.clone()) })
    }

    fn case(&self, case: &Case) -> Option<Expr> {
        let operand = match &case.expr {
            Some(operand) => Some(self.tree(operand)?),
            None => None,
        };
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in &case.when_then_expr {
            let when = self.tree(when)?;
            let condition = match &operand {
                Some(operand) => comparison(CompareOp::Equal, operand.clone(), when)?,
                None => when,
            };
            branches.push((condition, self.tree(then)?));
        }
        let otherwise = match &case.else_expr {
            Some(otherwise) => Some(self.tree(otherwise)?),
            None => None,
        };
        let results = || branches.iter().map(|(_, then)| then).chain(&otherwise);
        let data_type = results().map(|e| &e.data_type).find(|t| **t != DataType::Null)?.clone();
        let typed = |e: Expr| match e.kind {
            ExprKind::Literal(Literal::Null) => {
                Some(Expr::literal(Literal::Null, data_type.clone()))
            }
            _ => (e.data_type == data_type).then_some(e),
        };
        let branches = branches
            .into_iter()
            .map(|(when, then)| Some((typed_condition(when)?, typed(then)?)))
            .collect::<Option<Vec<_>>>()?;
        let otherwise = match otherwise {
            Some(otherwise) => Some(Box::new(typed(otherwise)?)),
            None => None,
        };
        Some(Expr { kind: ExprKind::Case { branches, otherwise }, data_type })
    }

    fn in_list(&self, list: &InList) -> Option<Expr> {
        if list.list.len() > IN_LIST_MAX {
            return None;
        }
        let value = self.tree(&list.expr)?;
        let mut any: Option<Expr> = None;
        for item in &list.list {
            let equal = comparison(CompareOp::Equal, value.clone(), self.tree(item)?)?;
            any = Some(match any {
                None => equal,
                Some(any) => boolean(ExprKind::Or(Box::new(any), Box::new(equal))),
            });
        }
        let any = any?;
        Some(if list.negated { boolean(ExprKind::Not(Box::new(any))) } else { any })
    }

    fn function(&self, expr: &Logical) -> Option<Expr> {
        if let Some((op, left, right, to)) = arithmetic::parts(expr) {
            let (left, right) = (Box::new(self.tree(left)?), Box::new(self.tree(right)?));
            return Some(Expr {
                kind: ExprKind::Arithmetic(op, left, right),
                data_type: to.clone(),
            });
        }
        if let Some((time, us)) = window::shift_parts(expr) {
            let time = Box::new(self.tree(time)?);
            let by = Box::new(Expr::literal(Literal::Int(us), DataType::Int64));
            let data_type = time.data_type.clone();
            return Some(Expr {
                kind: ExprKind::Arithmetic(ArithmeticOp::Add, time, by),
                data_type,
            });
        }
        if let Some((time, size_us, offset_us)) = window::start_parts(expr) {
            let time = Box::new(self.tree(time)?);
            let data_type = time.data_type.clone();
            return Some(Expr {
                kind: ExprKind::WindowStart { time, size_us, offset_us },
                data_type,
            });
        }
        let Logical::ScalarFunction(call) = expr else { return None };
        match (call.func.name(), call.args.as_slice()) {
            ("is_nan", [value]) => {
                let value = self.tree(value)?;
                let nan = Expr::literal(Literal::Float(f64::NAN), value.data_type.clone());
                comparison(CompareOp::Equal, value, nan)
            }
            (name, args) => self.calendar(name, args),
        }
    }
}

/// Types that kernels compute with; a bare column can be of any.
fn computes(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Boolean | Float32 | Float64 | Decimal128(_, _) | Date32)
        || is_integer(data_type)
        || matches!(data_type, Timestamp(arrow::datatypes::TimeUnit::Microsecond, _))
}

fn literal(value: &ScalarValue) -> Option<Expr> {
    let data_type = value.data_type();
    if is_text(&data_type) {
        return None;
    }
    let literal = match value {
        value if value.is_null() => Literal::Null,
        ScalarValue::Boolean(Some(v)) => Literal::Boolean(*v),
        ScalarValue::Int8(Some(v)) => Literal::Int(i64::from(*v)),
        ScalarValue::Int16(Some(v)) => Literal::Int(i64::from(*v)),
        ScalarValue::Int32(Some(v)) => Literal::Int(i64::from(*v)),
        ScalarValue::Int64(Some(v)) => Literal::Int(*v),
        ScalarValue::Float32(Some(v)) => Literal::Float(f64::from(*v)),
        ScalarValue::Float64(Some(v)) => Literal::Float(*v),
        ScalarValue::Decimal128(Some(v), _, _) => Literal::Decimal(*v),
        ScalarValue::Date32(Some(v)) => Literal::Int(i64::from(*v)),
        ScalarValue::TimestampMicrosecond(Some(v), _) => Literal::Int(*v),
        _ => return None,
    };
    Some(Expr::literal(literal, data_type))
}

fn cast(operand: Expr, to: DataType) -> Expr {
    Expr { kind: ExprKind::Cast(Box::new(operand)), data_type: to }
}

fn boolean(kind: ExprKind) -> Expr {
    Expr { kind, data_type: DataType::Boolean }
}

fn typed_condition(condition: Expr) -> Option<Expr> {
    match condition.kind {
        ExprKind::Literal(Literal::Null) => Some(Expr::literal(Literal::Null, DataType::Boolean)),
        _ => (condition.data_type == DataType::Boolean).then_some(condition),
    }
}

fn comparison(op: CompareOp, left: Expr, right: Expr) -> Option<Expr> {
    let null = |e: &Expr| matches!(e.kind, ExprKind::Literal(Literal::Null));
    let (left, right) = match (null(&left), null(&right)) {
        (true, false) => (Expr::literal(Literal::Null, right.data_type.clone()), right),
        (false, true) => {
            let typed = Expr::literal(Literal::Null, left.data_type.clone());
            (left, typed)
        }
        _ => (left, right),
    };
    (left.data_type == right.data_type)
        .then(|| boolean(ExprKind::Compare(op, Box::new(left), Box::new(right))))
}

/// `<=>`: NULL equals NULL and nothing else.
fn same(left: Expr, right: Expr) -> Option<Expr> {
    let is_null = |e: &Expr| Box::new(boolean(ExprKind::IsNull(Box::new(e.clone()))));
    let not_null = |e: &Expr| Box::new(boolean(ExprKind::IsNotNull(Box::new(e.clone()))));
    let nulls = boolean(ExprKind::And(is_null(&left), is_null(&right)));
    let values = boolean(ExprKind::And(not_null(&left), not_null(&right)));
    let equal = comparison(CompareOp::Equal, left, right)?;
    let equal = boolean(ExprKind::And(Box::new(values), Box::new(equal)));
    Some(boolean(ExprKind::Or(Box::new(nulls), Box::new(equal))))
}
