//! Decimals: exact results, rounded once, half up (away from zero), checked against the precision.
//!
//! The narrow way computes in 128 bits and is taken wherever it fits; the wide way in 256.
//! Spark rounds a quotient twice (to 38 digits, then to its scale); here it is rounded once.

use arrow::datatypes::{DataType, i256};

use super::value::{Operands, Value};
use crate::expr::ArithmeticOp;

type Type = (u8, i8);

/// Operands may differ in precision and scale; the result has those of `to`.
pub fn arithmetic(
    op: ArithmeticOp,
    operands: Operands,
    left: Type,
    right: Type,
    to: &DataType,
) -> Value {
    let &DataType::Decimal128(precision, scale) = to else {
        unreachable!("decimal arithmetic gives {to}: Expr::check refuses it")
    };
    let limit = limit(precision);
    let (s, t, scale) = (i32::from(left.1), i32::from(right.1), i32::from(scale));
    let common = s.max(t);
    let (left_up, right_up) = (Shift::by(common - s), Shift::by(common - t));
    let plain = s == t && t == scale;
    let rest = match op {
        ArithmeticOp::Multiply => Shift::by(scale - s - t),
        ArithmeticOp::Divide => Shift::by(scale - s + t),
        _ => Shift::by(scale - common),
    };
    match op {
        ArithmeticOp::Add if plain => {
            operands.compute(to, |a: i128, b| within(a.checked_add(b), limit))
        }
        ArithmeticOp::Subtract if plain => {
            operands.compute(to, |a: i128, b| within(a.checked_sub(b), limit))
        }
        ArithmeticOp::Add | ArithmeticOp::Subtract => {
            let negate = op == ArithmeticOp::Subtract;
            operands.compute(to, |a: i128, b: i128| {
                let b = if negate { b.wrapping_neg() } else { b };
                let narrow = || rest.narrow(left_up.narrow(a)?.checked_add(right_up.narrow(b)?)?);
                let wide =
                    || rest.wide(left_up.wide(a.into())?.checked_add(right_up.wide(b.into())?)?);
                within(narrow().or_else(|| wide()?.to_i128()), limit)
            })
        }
        ArithmeticOp::Multiply => operands.compute(to, |a: i128, b: i128| {
            let narrow = || rest.narrow(a.checked_mul(b)?);
            let wide = || rest.wide(i256::from(a).checked_mul(b.into())?)?.to_i128();
            within(narrow().or_else(wide), limit)
        }),
        ArithmeticOp::Divide => operands.compute(to, |a, b| within(rest.divide(a, b), limit)),
        ArithmeticOp::Remainder => operands.compute(to, |a: i128, b: i128| {
            if b == 0 {
                return (0, true);
            }
            let narrow = || rest.narrow(left_up.narrow(a)?.checked_rem(right_up.narrow(b)?)?);
            let wide = || rest.wide(left_up.wide(a.into())?.checked_rem(right_up.wide(b.into())?)?);
            within(narrow().or_else(|| wide()?.to_i128()), limit)
        }),
    }
}

/// Greatest unscaled value of a precision: its digits, all nine.
pub fn limit(precision: u8) -> i128 {
    10_i128.pow(u32::from(precision)) - 1
}

/// The value and whether it is out of range, or no value at all.
#[inline(always)]
pub fn within(value: Option<i128>, limit: i128) -> (i128, bool) {
    match value {
        Some(value) if (-limit..=limit).contains(&value) => (value, false),
        _ => (0, true),
    }
}

/// A change of scale: a multiplication by a power of ten, or a division by one that rounds half up.
///
/// The greatest there is, two scales of 38, is 10^76: below 2^255.
#[derive(Clone, Copy)]
pub struct Shift {
    up: bool,
    /// None from 10^39 on.
    power: Option<i128>,
    wide_power: i256,
}

impl Shift {
    pub fn by(digits: i32) -> Shift {
        let size = digits.unsigned_abs();
        let wide_power = i256::from(10).checked_pow(size).expect("two scales add up to at most 76");
        Shift { up: digits >= 0, power: 10_i128.checked_pow(size), wide_power }
    }

    /// `None`: the wide way must be taken.
    #[inline(always)]
    pub fn narrow(&self, value: i128) -> Option<i128> {
        match self.power? {
            1 => Some(value),
            power if self.up => value.checked_mul(power),
            power => divide_half_up(value, power),
        }
    }

    /// `None`: above 2^255, so above any decimal.
    pub fn wide(&self, value: i256) -> Option<i256> {
        match self.up {
            true => value.checked_mul(self.wide_power),
            false => divide_half_up_wide(value, self.wide_power),
        }
    }

    /// `a / b` brought to the scale, rounded once; `None` where `b` is zero or the result too great.
    fn divide(&self, a: i128, b: i128) -> Option<i128> {
        if b == 0 {
            return None;
        }
        let narrow = || {
            let power = self.power?;
            match self.up {
                true => divide_half_up(a.checked_mul(power)?, b),
                false => divide_half_up(a, b.checked_mul(power)?),
            }
        };
        let (wide_a, wide_b) = (i256::from(a), i256::from(b));
        // A dividend above 2^255 over a divisor below 10^38 is above any decimal.
        let wide = || match self.up {
            true => divide_half_up_wide(wide_a.checked_mul(self.wide_power)?, wide_b)?.to_i128(),
            false => divide_half_up_wide(wide_a, wide_b.checked_mul(self.wide_power)?)?.to_i128(),
        };
        narrow().or_else(wide)
    }
}

fn divide_half_up(a: i128, b: i128) -> Option<i128> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?.unsigned_abs());
    // rest >= |b| - rest is 2 * rest >= |b| without the overflow.
    let away = rest >= b.unsigned_abs() - rest;
    let sign = if (a < 0) == (b < 0) { 1 } else { -1 };
    Some(if away { quotient + sign } else { quotient })
}

fn divide_half_up_wide(a: i256, b: i256) -> Option<i256> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?.checked_abs()?);
    let away = rest >= b.checked_abs()?.wrapping_sub(rest);
    let sign = if a.is_negative() == b.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    Some(if away { quotient.wrapping_add(sign) } else { quotient })
}
