//! What a device computes and what it leaves to the CPU, node by node, with the reason.
//!
//! Invariant: an expression that passes here and [`Expr::check`] has a shader whose answer is the
//! CPU's, bit for bit. What is refused: text, a decimal whose way to its result may leave 128 bits,
//! and casts between decimals and floats, which go through their digits.

use arrow::datatypes::DataType;

use super::form::Form;
use crate::expr::{ArithmeticOp, Expr, ExprKind};

/// Digits that 128 bits hold for certain.
const DIGITS: i32 = 38;
/// Operations of one shader: building it takes more than linear time in those that depend on others.
pub(super) const NODES_MAX: usize = 300;

/// Why the device cannot compute an expression: the innermost node at fault, and the reason.
pub fn refusal(expr: &Expr) -> Option<String> {
    let nodes = nodes(expr);
    if nodes > NODES_MAX {
        return Some(format!("{nodes} operations are more than one shader takes"));
    }
    inner_refusal(expr)
}

pub(super) fn nodes(expr: &Expr) -> usize {
    let mut nodes = 0;
    expr.visit(&mut |_| nodes += 1);
    nodes
}

fn inner_refusal(expr: &Expr) -> Option<String> {
    let asked_for_null_alone = matches!(expr.kind, ExprKind::IsNull(_) | ExprKind::IsNotNull(_));
    for operand in expr.operands() {
        if asked_for_null_alone && matches!(operand.kind, ExprKind::Column(_)) {
            continue;
        }
        if let Some(reason) = inner_refusal(operand) {
            return Some(reason);
        }
    }
    let to = &expr.data_type;
    if Form::of(to) == Form::Opaque {
        return Some(format!("values of {to} are not computed on a device"));
    }
    match &expr.kind {
        ExprKind::Cast(from) => cast(&from.data_type, to),
        ExprKind::Arithmetic(op, a, b) => arithmetic(*op, &a.data_type, &b.data_type, to),
        _ => None,
    }
}

fn arithmetic(op: ArithmeticOp, a: &DataType, b: &DataType, to: &DataType) -> Option<String> {
    let (&DataType::Decimal128(p, s), &DataType::Decimal128(q, t), &DataType::Decimal128(_, scale)) =
        (a, b, to)
    else {
        return None;
    };
    let (p, q) = (i32::from(p), i32::from(q));
    let (s, t, scale) = (i32::from(s), i32::from(t), i32::from(scale));
    let common = s.max(t);
    let alike = (p + common - s).max(q + common - t);
    let digits = match op {
        ArithmeticOp::Add | ArithmeticOp::Subtract if s == t && t == scale => 0,
        ArithmeticOp::Add | ArithmeticOp::Subtract => alike + 1 + (scale - common).max(0),
        ArithmeticOp::Remainder => alike + (scale - common).max(0),
        ArithmeticOp::Multiply => p + q + (scale - s - t).max(0),
        ArithmeticOp::Divide => {
            let up = scale - s + t;
            if up >= 0 { p + up } else { q - up }
        }
    };
    let far = op == ArithmeticOp::Multiply && s + t - scale > DIGITS;
    (far || digits > DIGITS)
        .then(|| format!("{op:?} of {a} and {b} may need {digits} digits, more than 38"))
}

fn cast(from: &DataType, to: &DataType) -> Option<String> {
    if from == to {
        return None;
    }
    let refuse = |reason: &str| Some(format!("no cast from {from} to {to} on a device: {reason}"));
    let float = |t: &DataType| matches!(t, DataType::Float32 | DataType::Float64);
    let digits = |t: &DataType| match t {
        DataType::Boolean => 1,
        DataType::Int8 => 3,
        DataType::Int16 => 5,
        DataType::Int32 => 10,
        DataType::Decimal128(precision, _) => i32::from(*precision),
        _ => 19,
    };
    let scale = |t: &DataType| match t {
        DataType::Decimal128(_, scale) => i32::from(*scale),
        DataType::Timestamp(..) => 6,
        _ => 0,
    };
    match (from, to) {
        (DataType::Decimal128(..), to) if float(to) => refuse("it goes through the digits"),
        (from, DataType::Decimal128(..)) if float(from) => refuse("it goes through the digits"),
        (DataType::Int64, DataType::Float32) => refuse("it would round twice"),
        (DataType::Decimal128(..), DataType::Timestamp(..)) if digits(from) + 6 > DIGITS => {
            refuse("it may leave 128 bits")
        }
        (from, DataType::Decimal128(..))
            if digits(from) + (scale(to) - scale(from)).max(0) > DIGITS =>
        {
            refuse("it may leave 128 bits")
        }
        _ => None,
    }
}
