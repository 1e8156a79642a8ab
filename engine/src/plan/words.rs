//! Expressions as a user reads them.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::Expr as Logical;
use pelton_kernels::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal};

use super::expr::Compiled;
use super::functions::{arithmetic, window};
use super::types::{is_integer, is_text, is_time, sql_name};

pub fn duration(us: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    let fits = UNITS.iter().find(|(unit, _)| us % unit == 0 && us != 0);
    fits.map_or("0s".into(), |(unit, name)| format!("{}{name}", us / unit))
}

/// A compiled expression over columns of these names.
pub fn text(compiled: &Compiled, names: &[String]) -> String {
    match compiled {
        Compiled::Kernel(expr) => kernel(expr, names),
        Compiled::DataFusion { text, .. } => text.clone(),
    }
}

fn kernel(expr: &Expr, names: &[String]) -> String {
    let of = |e: &Expr| kernel(e, names);
    match &expr.kind {
        ExprKind::Column(index) => {
            names.get(*index).cloned().unwrap_or_else(|| format!("#{index}"))
        }
        ExprKind::Literal(literal) => literal_text(literal, expr),
        ExprKind::Not(e) => format!("NOT {}", of(e)),
        ExprKind::IsNull(e) => format!("({} IS NULL)", of(e)),
        ExprKind::IsNotNull(e) => format!("({} IS NOT NULL)", of(e)),
        ExprKind::And(a, b) => format!("({} AND {})", of(a), of(b)),
        ExprKind::Or(a, b) => format!("({} OR {})", of(a), of(b)),
        ExprKind::Compare(op, a, b) => format!("({} {} {})", of(a), compare(*op), of(b)),
        ExprKind::Arithmetic(op, a, b) if is_of_days(a, b) => {
            let call = match (&expr.data_type, op) {
                (DataType::Int32, _) => "datediff",
                (_, ArithmeticOp::Add) => "date_add",
                _ => "date_sub",
            };
            format!("{call}({}, {})", of(a), of(b))
        }
        ExprKind::Arithmetic(op, a, b) => {
            let right = match (&b.kind, is_time(&expr.data_type), &b.data_type) {
                (ExprKind::Literal(Literal::Int(us)), true, DataType::Int64) => duration(*us),
                (ExprKind::Literal(Literal::Int(days)), true, _) => format!("{days}d"),
                _ => of(b),
            };
            format!("({} {} {right})", of(a), symbol(*op, expr))
        }
        ExprKind::Negate(e) => format!("-{}", of(e)),
        ExprKind::Cast(e) => format!("CAST({} AS {})", of(e), sql_name(&expr.data_type)),
        ExprKind::Case { branches, otherwise } => {
            let branches = branches.iter();
            let branches =
                branches.map(|(when, then)| format!(" WHEN {} THEN {}", of(when), of(then)));
            let otherwise = otherwise.as_ref().map(|e| format!(" ELSE {}", of(e)));
            format!("CASE{}{} END", branches.collect::<String>(), otherwise.unwrap_or_default())
        }
        ExprKind::WindowStart { time, size_us, offset_us } => {
            start_text(&of(time), *size_us, *offset_us)
        }
        ExprKind::DatePart(part, date) => format!("{}({})", part.name(), of(of_day(date))),
        ExprKind::ClockPart(part, time) => format!("{}({})", part.name(), of(time)),
        ExprKind::Truncate(unit, date) if expr.data_type == DataType::Date32 => {
            format!("trunc({}, '{}')", of(date), unit.name())
        }
        ExprKind::Truncate(unit, time) => format!("date_trunc('{}', {})", unit.name(), of(time)),
        ExprKind::LastDay(date) => format!("last_day({})", of(date)),
        ExprKind::AddMonths(date, months) if expr.data_type == DataType::Date32 => {
            format!("add_months({}, {})", of(date), of(months))
        }
        ExprKind::AddMonths(time, months) => {
            format!("timestampadd(MONTH, {}, {})", of(months), of(time))
        }
        ExprKind::WholeMonths(start, end) => {
            format!("timestampdiff(MONTH, {}, {})", of(start), of(end))
        }
        // Times are printed as the job's zone shows them.
        ExprKind::ToLocal { time, .. } | ExprKind::FromLocal { time, .. } => of(time),
    }
}

/// A date and a number of days that is no constant, or two dates.
fn is_of_days(a: &Expr, b: &Expr) -> bool {
    let is_constant = matches!(b.kind, ExprKind::Literal(_));
    a.data_type == DataType::Date32 && (b.data_type == DataType::Date32 || !is_constant)
}

/// The time whose date is asked for, where it is one's.
fn of_day(date: &Expr) -> &Expr {
    match &date.kind {
        ExprKind::Cast(time) if is_time(&time.data_type) => time,
        _ => date,
    }
}

fn start_text(time: &str, size_us: i64, offset_us: i64) -> String {
    let size = duration(size_us);
    match offset_us {
        0 => format!("start of {time}'s {size} window"),
        offset => format!("start of {time}'s {size} window at {}", duration(offset)),
    }
}

fn literal_text(literal: &Literal, expr: &Expr) -> String {
    let value = match literal {
        Literal::Null => return "NULL".into(),
        Literal::Boolean(value) => return value.to_string(),
        Literal::Float(value) => return value.to_string(),
        Literal::Int(value) if is_integer(&expr.data_type) => {
            return value.to_string();
        }
        Literal::Int(value) => match &expr.data_type {
            DataType::Date32 => ScalarValue::Date32(Some(*value as i32)),
            DataType::Timestamp(_, zone) => {
                ScalarValue::TimestampMicrosecond(Some(*value), zone.clone())
            }
            _ => return value.to_string(),
        },
        Literal::Decimal(value) => match &expr.data_type {
            DataType::Decimal128(precision, scale) => {
                ScalarValue::Decimal128(Some(*value), *precision, *scale)
            }
            _ => return value.to_string(),
        },
    };
    scalar(&value)
}

fn scalar(value: &ScalarValue) -> String {
    use arrow::util::display::array_value_to_string;
    if value.is_null() {
        return "NULL".into();
    }
    let text = value.to_array().ok().and_then(|a| array_value_to_string(&a, 0).ok());
    let text = text.unwrap_or_else(|| value.to_string());
    let data_type = value.data_type();
    let quoted = is_text(&data_type) || is_time(&data_type);
    if quoted { format!("'{text}'") } else { text }
}

fn compare(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "<>",
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
    }
}

fn symbol(op: ArithmeticOp, expr: &Expr) -> &'static str {
    arithmetic::symbol(op, &expr.data_type)
}

/// A bound expression: names without their relations, the groups' columns by `names`.
pub fn logical(expr: &Logical, names: &[String]) -> String {
    let of = |e: &Logical| logical(e, names);
    if let Some((op, left, right, to)) = arithmetic::parts(expr) {
        return format!("({} {} {})", of(left), arithmetic::symbol(op, to), of(right));
    }
    if let Some((time, us)) = window::shift_parts(expr) {
        return format!("({} + {})", of(time), duration(us));
    }
    if let Some((time, size_us, offset_us)) = window::start_parts(expr) {
        return start_text(&of(time), size_us, offset_us);
    }
    let list = |exprs: &[Logical]| exprs.iter().map(of).collect::<Vec<_>>().join(", ");
    match expr {
        Logical::Alias(alias) => of(&alias.expr),
        Logical::Column(column) => match &column.relation {
            Some(relation) if relation.table() == super::lower::GROUP => {
                let name = column.name.parse().ok().and_then(|index: usize| names.get(index));
                name.cloned().unwrap_or_else(|| format!("#{}", column.name))
            }
            _ => column.name.clone(),
        },
        Logical::Literal(value, _) => scalar(value),
        Logical::BinaryExpr(b) => format!("({} {} {})", of(&b.left), b.op, of(&b.right)),
        Logical::Not(e) => format!("NOT {}", of(e)),
        Logical::IsNull(e) => format!("({} IS NULL)", of(e)),
        Logical::IsNotNull(e) => format!("({} IS NOT NULL)", of(e)),
        Logical::Negative(e) => format!("-{}", of(e)),
        Logical::Cast(cast) => {
            format!("CAST({} AS {})", of(&cast.expr), sql_name(cast.field.data_type()))
        }
        Logical::TryCast(cast) => {
            format!("TRY_CAST({} AS {})", of(&cast.expr), sql_name(cast.field.data_type()))
        }
        Logical::ScalarFunction(call) => format!("{}({})", call.func.name(), list(&call.args)),
        Logical::InList(l) => {
            let not = if l.negated { "NOT " } else { "" };
            format!("({} {not}IN ({}))", of(&l.expr), list(&l.list))
        }
        Logical::Like(l) => {
            let not = if l.negated { "NOT " } else { "" };
            format!("({} {not}LIKE {})", of(&l.expr), of(&l.pattern))
        }
        Logical::Case(case) => {
            let operand = case.expr.as_ref().map(|e| format!(" {}", of(e)));
            let branches = case.when_then_expr.iter();
            let branches =
                branches.map(|(when, then)| format!(" WHEN {} THEN {}", of(when), of(then)));
            let otherwise = case.else_expr.as_ref().map(|e| format!(" ELSE {}", of(e)));
            let branches = branches.collect::<String>();
            format!(
                "CASE{}{branches}{} END",
                operand.unwrap_or_default(),
                otherwise.unwrap_or_default()
            )
        }
        Logical::HigherOrderFunction(call) => format!("{}({})", call.func.name(), list(&call.args)),
        Logical::Lambda(lambda) => {
            format!("({}) -> {}", lambda.params.join(", "), of(&lambda.body))
        }
        Logical::LambdaVariable(variable) => variable.name.clone(),
        other => other.to_string(),
    }
}
