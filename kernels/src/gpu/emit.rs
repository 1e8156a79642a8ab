//! Expressions as WGSL: one statement an operation, each with its value, whether it is there, and
//! whether the row stopped in it.
//!
//! Invariant: NULLs and errors follow `cpu::project`. Nesting is flat (parsers nest to about 120), and
//! no float operation is emitted: `float.wgsl` computes with their bits.

mod calendar;
mod cast;

use std::fmt::Write;

use arrow::datatypes::DataType;

use super::form::{Form, long_literal, wide_literal};
use crate::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal};

/// Names of a value in the shader; `ok` and `failed` may be the constants `true` and `false`.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub v: String,
    /// It is not NULL.
    pub ok: String,
    /// The row stopped here or in an operand; then `ok` is false.
    pub failed: String,
}

pub(super) struct Emitter<'a> {
    inputs: &'a [Form],
    /// The columns read so far.
    loaded: Vec<Option<Value>>,
    names: usize,
    pub body: String,
    /// What was written calls functions of `calendar.wgsl`.
    pub asks_calendar: bool,
}

impl<'a> Emitter<'a> {
    pub fn new(inputs: &'a [Form]) -> Self {
        let (loaded, body) = (vec![None; inputs.len()], String::new());
        Emitter { inputs, loaded, names: 0, body, asks_calendar: false }
    }

    /// Writes the statements of an expression that `support::refusal` lets pass.
    pub fn evaluate(&mut self, expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::Column(column) => self.column(*column),
            ExprKind::Literal(literal) => literal_value(literal, &expr.data_type),
            ExprKind::Not(operand) => {
                let operand = self.evaluate(operand);
                let v = self.name("bool", &format!("!{}", operand.v));
                Value { v, ..operand }
            }
            ExprKind::IsNull(operand) => self.is_null(operand, true),
            ExprKind::IsNotNull(operand) => self.is_null(operand, false),
            ExprKind::And(a, b) => self.connect(a, b, false),
            ExprKind::Or(a, b) => self.connect(a, b, true),
            ExprKind::Compare(op, a, b) => self.compare(*op, a, b),
            ExprKind::Arithmetic(op, a, b) => self.arithmetic(*op, a, b, &expr.data_type),
            ExprKind::Negate(operand) => self.negate(operand),
            ExprKind::Cast(operand) => self.cast(operand, &expr.data_type),
            ExprKind::Case { branches, otherwise } => {
                self.case(branches, otherwise.as_deref(), &expr.data_type)
            }
            ExprKind::WindowStart { time, size_us, offset_us } => {
                let time = self.evaluate(time);
                let (size, offset) = (*size_us as u64, offset_us.rem_euclid(*size_us) as u64);
                let (size, offset) = (long_literal(size), long_literal(offset));
                let call = format!("window_start({}, {size}, {offset})", time.v);
                self.checked(&call, "false", &[&time])
            }
            ExprKind::DatePart(part, date) => self.date_part(*part, date),
            ExprKind::ClockPart(part, time) => self.clock_part(*part, time),
            ExprKind::Truncate(unit, value) => self.truncate(*unit, value),
            ExprKind::LastDay(date) => self.last_day(date),
            ExprKind::AddMonths(to, months) => self.add_months(to, months),
            ExprKind::WholeMonths(start, end) => self.whole_months(start, end),
            ExprKind::ToLocal { ahead_us, time } => self.moved("to_local", *ahead_us, time),
            ExprKind::FromLocal { ahead_us, time } => self.moved("from_local", *ahead_us, time),
        }
    }

    fn name(&mut self, type_name: &str, value: &str) -> String {
        self.names += 1;
        let name = format!("t{}", self.names);
        let typed = if type_name.is_empty() { String::new() } else { format!(": {type_name}") };
        writeln!(self.body, "  let {name}{typed} = {value};").expect("a String takes all text");
        name
    }

    fn bool_name(&mut self, value: String) -> String {
        let is_constant = value == "true" || value == "false";
        if is_constant { value } else { self.name("bool", &value) }
    }

    /// What all of these are: there, and stopped in none.
    fn meet(&mut self, operands: &[&Value]) -> (String, String) {
        let ok = operands.iter().fold("true".to_owned(), |all, one| and(&all, &one.ok));
        let failed = operands.iter().fold("false".to_owned(), |any, one| or(&any, &one.failed));
        (self.bool_name(ok), self.bool_name(failed))
    }

    /// A call that gives `.v` and `.failed`, and that also fails where `fails` holds.
    fn checked(&mut self, call: &str, fails: &str, operands: &[&Value]) -> Value {
        let result = self.name("", call);
        let fails = or(&format!("{result}.failed"), fails);
        self.settle(format!("{result}.v"), &fails, operands)
    }

    /// A value whose computation fails where `fails` holds and all operands are there.
    fn settle(&mut self, v: String, fails: &str, operands: &[&Value]) -> Value {
        let (ok, failed) = self.meet(operands);
        if fails == "false" {
            return Value { v, ok, failed };
        }
        let stops = self.bool_name(and(&ok, fails));
        let ok = self.bool_name(and(&ok, &not(&stops)));
        let failed = self.bool_name(or(&failed, &stops));
        Value { v, ok, failed }
    }

    fn plain(&mut self, type_name: &str, value: &str, operands: &[&Value]) -> Value {
        let v = self.name(type_name, value);
        self.settle(v, "false", operands)
    }

    fn column(&mut self, column: usize) -> Value {
        if let Some(value) = &self.loaded[column] {
            return value.clone();
        }
        let form = self.inputs[column];
        let base = format!("params.columns[{column}].x");
        let word = |at: &str| format!("input[{base} + {at}]");
        let (type_name, value) = match form {
            Form::Bool => {
                ("bool", format!("(({} >> (row & 31u)) & 1u) != 0u", word("(row >> 5u)")))
            }
            Form::Int(8) => {
                let byte = format!("{} >> ((row & 3u) * 8u)", word("(row >> 2u)"));
                ("i32", format!("bitcast<i32>(({byte}) << 24u) >> 24u"))
            }
            Form::Int(16) => {
                let half = format!("{} >> ((row & 1u) * 16u)", word("(row >> 1u)"));
                ("i32", format!("bitcast<i32>(({half}) << 16u) >> 16u"))
            }
            Form::Int(_) => ("i32", format!("bitcast<i32>({})", word("row"))),
            Form::Single | Form::Id => ("u32", word("row")),
            Form::Long | Form::Double | Form::Text => {
                let (low, high) = (word("2u * row"), word("2u * row + 1u"));
                ("vec2<u32>", format!("vec2<u32>({low}, {high})"))
            }
            Form::Wide => {
                let words = (0..4).map(|i| word(&format!("4u * row + {i}u"))).collect::<Vec<_>>();
                ("vec4<u32>", format!("vec4<u32>({})", words.join(", ")))
            }
            Form::Opaque => ("u32", "0u".to_owned()),
        };
        let v = self.name(type_name, &value);
        let ok = match form {
            Form::Id => self.bool_name(format!("{v} != 0u")),
            _ => self.bool_name(format!("is_valid(params.columns[{column}].y, row)")),
        };
        let value = Value { v, ok, failed: "false".to_owned() };
        self.loaded[column] = Some(value.clone());
        value
    }

    fn is_null(&mut self, operand: &Expr, yes: bool) -> Value {
        let operand = self.evaluate(operand);
        let v = if yes { not(&operand.ok) } else { operand.ok };
        let (v, ok) = (self.bool_name(v), self.bool_name(not(&operand.failed)));
        Value { v, ok, failed: operand.failed }
    }

    /// `AND`, or with `deciding` true `OR`: the right side is asked where the left does not decide.
    fn connect(&mut self, a: &Expr, b: &Expr, deciding: bool) -> Value {
        let (a, b) = (self.evaluate(a), self.evaluate(b));
        let is = |value: &Value, truth: bool| match truth {
            true => and(&value.ok, &value.v),
            false => and(&value.ok, &not(&value.v)),
        };
        let left_decides = self.bool_name(is(&a, deciding));
        let decided = self.bool_name(or(&left_decides, &is(&b, deciding)));
        let undecided = self.bool_name(and(&is(&a, !deciding), &is(&b, !deciding)));
        let right_fails = and(&b.failed, &not(&left_decides));
        let failed = self.bool_name(or(&a.failed, &right_fails));
        let known = or(&decided, &undecided);
        let ok = self.bool_name(and(&known, &not(&failed)));
        Value { v: if deciding { decided } else { undecided }, ok, failed }
    }

    fn compare(&mut self, op: CompareOp, left: &Expr, right: &Expr) -> Value {
        let form = Form::of(&left.data_type);
        let (a, b) = (self.evaluate(left), self.evaluate(right));
        let (x, y) = match form {
            Form::Single => {
                (format!("float_of_single({})", a.v), format!("float_of_single({})", b.v))
            }
            Form::Bool => (format!("u32({})", a.v), format!("u32({})", b.v)),
            _ => (a.v.clone(), b.v.clone()),
        };
        let equal = match form {
            Form::Single | Form::Double => format!("float_equal({x}, {y})"),
            Form::Long => format!("equal2({x}, {y})"),
            Form::Wide => format!("equal4({x}, {y})"),
            _ => format!("{x} == {y}"),
        };
        let less = |x: &str, y: &str| match form {
            Form::Single | Form::Double => format!("float_less({x}, {y})"),
            Form::Long => format!("less2({x}, {y})"),
            Form::Wide => format!("less4({x}, {y})"),
            _ => format!("({x} < {y})"),
        };
        let test = match op {
            CompareOp::Equal => equal,
            CompareOp::NotEqual => format!("!({equal})"),
            CompareOp::Less => less(&x, &y),
            CompareOp::LessOrEqual => format!("!{}", less(&y, &x)),
            CompareOp::Greater => less(&y, &x),
            CompareOp::GreaterOrEqual => format!("!{}", less(&x, &y)),
        };
        self.plain("bool", &test, &[&a, &b])
    }

    fn negate(&mut self, operand: &Expr) -> Value {
        let form = Form::of(&operand.data_type);
        let a = self.evaluate(operand);
        match form {
            Form::Int(bits) => self.checked(&format!("neg_int({}, {bits}u)", a.v), "false", &[&a]),
            Form::Long => self.checked(&format!("neg_long({})", a.v), "false", &[&a]),
            Form::Single => {
                let v = format!("single_of_float(neg_float(float_of_single({})))", a.v);
                self.plain("u32", &v, &[&a])
            }
            Form::Double => self.plain("vec2<u32>", &format!("neg_float({})", a.v), &[&a]),
            _ => self.plain("vec4<u32>", &format!("neg4({})", a.v), &[&a]),
        }
    }

    fn arithmetic(&mut self, op: ArithmeticOp, left: &Expr, right: &Expr, to: &DataType) -> Value {
        if let DataType::Decimal128(..) = to {
            return self.decimal(op, left, right, to);
        }
        let (a, b) = (self.evaluate(left), self.evaluate(right));
        let name = match op {
            ArithmeticOp::Add => "add",
            ArithmeticOp::Subtract => "sub",
            ArithmeticOp::Multiply => "mul",
            ArithmeticOp::Divide => "div",
            ArithmeticOp::Remainder => "rem",
        };
        let divides = matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder);
        let form = match Form::of(to) {
            Form::Int(_) => Form::of(&left.data_type),
            form => form,
        };
        match form {
            Form::Int(bits) => {
                self.checked(&format!("{name}_int({}, {}, {bits}u)", a.v, b.v), "false", &[&a, &b])
            }
            Form::Long => {
                self.checked(&format!("{name}_long({}, {})", a.v, b.v), "false", &[&a, &b])
            }
            Form::Single => {
                let of = |v: &str| format!("float_of_single({v})");
                let zero = if divides { format!("is_zero({})", of(&b.v)) } else { "false".into() };
                let v = format!("single_of_float({name}_float({}, {}))", of(&a.v), of(&b.v));
                let v = self.name("u32", &v);
                self.settle(v, &zero, &[&a, &b])
            }
            _ => {
                let zero = if divides { format!("is_zero({})", b.v) } else { "false".into() };
                let v = self.name("vec2<u32>", &format!("{name}_float({}, {})", a.v, b.v));
                self.settle(v, &zero, &[&a, &b])
            }
        }
    }

    fn decimal(&mut self, op: ArithmeticOp, left: &Expr, right: &Expr, to: &DataType) -> Value {
        let (a, b) = (self.evaluate(left), self.evaluate(right));
        let (s, t, scale) = (scale(&left.data_type), scale(&right.data_type), scale(to));
        let common = s.max(t);
        let (x, y) = (rescaled(&a.v, common - s), rescaled(&b.v, common - t));
        let zero = format!("is_nothing4({})", b.v);
        let v = match op {
            ArithmeticOp::Add => rescaled(&format!("add4({x}, {y})"), scale - common),
            ArithmeticOp::Subtract => rescaled(&format!("sub4({x}, {y})"), scale - common),
            ArithmeticOp::Multiply => {
                rescaled(&format!("mul_wide({}, {})", a.v, b.v), scale - s - t)
            }
            ArithmeticOp::Divide => {
                let up = scale - s + t;
                let (x, y) = (rescaled(&a.v, up.max(0)), rescaled(&b.v, (-up).max(0)));
                format!("half_up({x}, {})", unless(&zero, &y))
            }
            ArithmeticOp::Remainder => {
                rescaled(&format!("rem_wide({x}, {})", unless(&zero, &y)), scale - common)
            }
        };
        let divides = matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder);
        let call = format!("within({v}, {})", limit(to));
        self.checked(&call, if divides { &zero } else { "false" }, &[&a, &b])
    }

    /// From the last branch to the first, each is laid over what comes after it.
    fn case(
        &mut self,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        to: &DataType,
    ) -> Value {
        let mut result = match otherwise {
            Some(otherwise) => self.evaluate(otherwise),
            None => literal_value(&Literal::Null, to),
        };
        for (condition, value) in branches.iter().rev() {
            let (condition, value) = (self.evaluate(condition), self.evaluate(value));
            let taken = self.bool_name(and(&condition.ok, &condition.v));
            let choose = |a: &str, b: &str| format!("select({b}, {a}, {taken})");
            let failed = or(
                &condition.failed,
                &or(&and(&value.failed, &taken), &and(&result.failed, &not(&taken))),
            );
            let failed = self.bool_name(failed);
            let ok = self.name("bool", &choose(&value.ok, &result.ok));
            let ok = self.bool_name(and(&ok, &not(&failed)));
            let v = self.name("", &choose(&value.v, &result.v));
            result = Value { v, ok, failed };
        }
        result
    }
}

pub(super) fn and(a: &str, b: &str) -> String {
    match (a, b) {
        ("false", _) | (_, "false") => "false".to_owned(),
        ("true", other) | (other, "true") => other.to_owned(),
        _ => format!("({a} && {b})"),
    }
}

pub(super) fn or(a: &str, b: &str) -> String {
    match (a, b) {
        ("true", _) | (_, "true") => "true".to_owned(),
        ("false", other) | (other, "false") => other.to_owned(),
        _ => format!("({a} || {b})"),
    }
}

pub(super) fn not(a: &str) -> String {
    match a {
        "true" => "false".to_owned(),
        "false" => "true".to_owned(),
        _ => format!("!{a}"),
    }
}

/// A divisor, or 1 where there is none.
fn unless(zero: &str, divisor: &str) -> String {
    format!("select({divisor}, vec4<u32>(1u, 0u, 0u, 0u), {zero})")
}

fn scale(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal128(_, scale) => i32::from(*scale),
        _ => 0,
    }
}

/// A decimal with so many digits more behind the point, or fewer, rounded half up.
fn rescaled(v: &str, digits: i32) -> String {
    let power = || wide_literal(10_i128.pow(digits.unsigned_abs()));
    match digits {
        0 => v.to_owned(),
        1.. => format!("scale_up({v}, {})", power()),
        _ => format!("half_up({v}, {})", power()),
    }
}

/// Greatest unscaled value of a decimal type.
fn limit(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(precision, _) => wide_literal(10_i128.pow(u32::from(*precision)) - 1),
        other => unreachable!("{other} is no decimal"),
    }
}

fn literal_value(literal: &Literal, data_type: &DataType) -> Value {
    let int = |value: i64| match Form::of(data_type) {
        Form::Long => long_literal(value as u64),
        _ => format!("bitcast<i32>({:#x}u)", value as i32),
    };
    let v = match (literal, Form::of(data_type)) {
        (Literal::Null, Form::Bool) => "false".to_owned(),
        (Literal::Null, Form::Int(_)) => "0i".to_owned(),
        (Literal::Null, Form::Long | Form::Double) => "vec2<u32>()".to_owned(),
        (Literal::Null, Form::Wide) => "vec4<u32>()".to_owned(),
        (Literal::Null, _) => "0u".to_owned(),
        (Literal::Boolean(value), _) => value.to_string(),
        (Literal::Int(value), _) => int(*value),
        (Literal::Float(value), Form::Single) => format!("{:#x}u", (*value as f32).to_bits()),
        (Literal::Float(value), _) => long_literal(value.to_bits()),
        (Literal::Decimal(value), _) => wide_literal(*value),
    };
    let ok = *literal != Literal::Null;
    Value { v, ok: ok.to_string(), failed: "false".to_owned() }
}
