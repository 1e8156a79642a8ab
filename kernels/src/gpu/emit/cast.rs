//! Casts, as `cpu::project::cast` has them, but for those that go through a number's digits.

use arrow::datatypes::DataType;

use super::super::form::{Form, long_literal, wide_literal};
use super::{Emitter, Value, limit, rescaled, scale};
use crate::expr::Expr;

const US_PER_SECOND: u64 = 1_000_000;
const US_PER_DAY: u64 = 86_400 * US_PER_SECOND;

impl Emitter<'_> {
    pub(super) fn cast(&mut self, operand: &Expr, to: &DataType) -> Value {
        let from = &operand.data_type;
        let a = self.evaluate(operand);
        if from == to {
            return a;
        }
        if let DataType::Decimal128(..) = from {
            return self.cast_decimal(a, from, to);
        }
        match from {
            DataType::Boolean => self.cast_bool(a, to),
            DataType::Float32 => {
                let wide = self.name("vec2<u32>", &format!("float_of_single({})", a.v));
                self.cast_float(Value { v: wide, ..a }, to)
            }
            DataType::Float64 => self.cast_float(a, to),
            DataType::Timestamp(..) => self.cast_timestamp(a, to),
            DataType::Int64 => self.cast_long(a, to, US_PER_SECOND),
            _ => {
                let unit = if *from == DataType::Date32 { US_PER_DAY } else { US_PER_SECOND };
                let long = self.name("vec2<u32>", &format!("long_of({})", a.v));
                self.cast_long(Value { v: long, ..a }, to, unit)
            }
        }
    }

    fn cast_bool(&mut self, a: Value, to: &DataType) -> Value {
        match Form::of(to) {
            Form::Int(_) => self.plain("i32", &format!("i32({})", a.v), &[&a]),
            Form::Long => self.plain("vec2<u32>", &format!("vec2<u32>(u32({}), 0u)", a.v), &[&a]),
            Form::Single => self.plain("u32", &format!("select(0u, 0x3f800000u, {})", a.v), &[&a]),
            Form::Double => self.plain("vec2<u32>", &format!("float_of_bool({})", a.v), &[&a]),
            _ => {
                let one = wide_literal(10_i128.pow(scale(to).unsigned_abs()));
                let v = format!("select(vec4<u32>(), {one}, {})", a.v);
                self.checked(&format!("within({v}, {})", limit(to)), "false", &[&a])
            }
        }
    }

    /// Integers and dates; `unit` is how many microseconds one counts as a timestamp.
    fn cast_long(&mut self, a: Value, to: &DataType, unit: u64) -> Value {
        match to {
            DataType::Boolean => self.plain("bool", &format!("!is_nothing({})", a.v), &[&a]),
            DataType::Int64 => a,
            DataType::Timestamp(..) => {
                let call = format!("mul_long({}, {})", a.v, long_literal(unit));
                self.checked(&call, "false", &[&a])
            }
            DataType::Float64 => self.plain("vec2<u32>", &format!("float_of_long({})", a.v), &[&a]),
            DataType::Float32 => {
                let v = format!("single_of_float(float_of_long({}))", a.v);
                self.plain("u32", &v, &[&a])
            }
            DataType::Decimal128(..) => {
                let v = rescaled(&format!("wide_of({})", a.v), scale(to));
                self.checked(&format!("within({v}, {})", limit(to)), "false", &[&a])
            }
            _ => self.narrow(&a.v, "false", &[&a], to),
        }
    }

    /// 64 bits as an integer of fewer, or of as many.
    fn narrow(&mut self, long: &str, fails: &str, operands: &[&Value], to: &DataType) -> Value {
        match Form::of(to) {
            Form::Int(bits) => self.checked(&format!("narrow({long}, {bits}u)"), fails, operands),
            _ => self.settle(long.to_owned(), fails, operands),
        }
    }

    fn cast_float(&mut self, a: Value, to: &DataType) -> Value {
        match to {
            DataType::Boolean => self.plain("bool", &format!("!is_zero({})", a.v), &[&a]),
            DataType::Float64 => self.plain("vec2<u32>", &format!("canonical({})", a.v), &[&a]),
            DataType::Float32 => self.plain("u32", &format!("single_of_float({})", a.v), &[&a]),
            _ => {
                let v = match to {
                    DataType::Timestamp(..) => {
                        format!("mul_float({}, {})", a.v, long_literal(1e6_f64.to_bits()))
                    }
                    _ => a.v.clone(),
                };
                let long = self.name("", &format!("long_of_float({v})"));
                self.narrow(&format!("{long}.v"), &format!("{long}.failed"), &[&a], to)
            }
        }
    }

    fn cast_timestamp(&mut self, a: Value, to: &DataType) -> Value {
        let seconds =
            format!("div_float(float_of_long({}), {})", a.v, long_literal(1e6_f64.to_bits()));
        let unit = match to {
            DataType::Timestamp(..) => return a,
            DataType::Float64 => return self.plain("vec2<u32>", &seconds, &[&a]),
            DataType::Float32 => {
                return self.plain("u32", &format!("single_of_float({seconds})"), &[&a]);
            }
            DataType::Decimal128(..) => {
                let v = rescaled(&format!("wide_of({})", a.v), scale(to) - 6);
                return self.checked(&format!("within({v}, {})", limit(to)), "false", &[&a]);
            }
            DataType::Date32 => US_PER_DAY,
            _ => US_PER_SECOND,
        };
        let divided = format!("floor_divide({}, {}).q", a.v, long_literal(unit));
        let divided = self.name("vec2<u32>", &divided);
        self.narrow(&divided, "false", &[&a], to)
    }

    fn cast_decimal(&mut self, a: Value, from: &DataType, to: &DataType) -> Value {
        match to {
            DataType::Boolean => self.plain("bool", &format!("!is_nothing4({})", a.v), &[&a]),
            DataType::Decimal128(..) => {
                let v = rescaled(&a.v, scale(to) - scale(from));
                self.checked(&format!("within({v}, {})", limit(to)), "false", &[&a])
            }
            _ => {
                let us = if matches!(to, DataType::Timestamp(..)) { 6 } else { 0 };
                let power = wide_literal(10_i128.pow(scale(from).unsigned_abs()));
                let v = format!("long_of_wide(towards_zero({}, {power}))", rescaled(&a.v, us));
                let long = self.name("", &v);
                self.narrow(&format!("{long}.v"), &format!("{long}.failed"), &[&a], to)
            }
        }
    }
}
