//! Values of aggregates from their states: read, rounded once, checked against their type.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, i256};

use super::AggregateFunction;
use super::error::AggregateError;
use super::fold::{Fold, sum_value};
use super::layout::{Filtered, Input, Reading};
use super::read_kept;
use super::state::State;
use super::table::GroupTable;
use crate::cpu::big::{
    magnitude, multiply, quotient_of_pair, round_quotient, shift_left, subtract,
};
use crate::cpu::column::narrow_decimals;
use crate::cpu::total::Total;
use crate::cpu::words::FieldRef;

/// What an aggregate reads: one state of one input.
struct Reader<'a> {
    table: &'a GroupTable,
    reading: &'a Reading,
    filtered: &'a Filtered,
    input: &'a Input,
    groups: &'a [u32],
}

impl GroupTable {
    /// Values of the groups given: one array for each call, in their order, of the types they name.
    ///
    /// Errors: `OutOfRange` where a sum or an average leaves its type; `Corrupt` where a merged
    /// partial held sums that no values have.
    pub fn values(&self, groups: &[u32]) -> Result<Vec<ArrayRef>, AggregateError> {
        self.layout.readings.iter().map(|reading| self.read(reading, groups)).collect()
    }

    fn read(&self, reading: &Reading, groups: &[u32]) -> Result<ArrayRef, AggregateError> {
        use AggregateFunction::*;
        let filtered = &self.layout.filters[reading.filter];
        let Some(input) = reading.input else {
            let rows = self.field(filtered.rows);
            let counts = groups.iter().map(|&group| rows.word(group) as i64);
            return Ok(Arc::new(Int64Array::from_iter_values(counts)));
        };
        let input = &filtered.inputs[input];
        let reader = Reader { table: self, reading, filtered, input, groups };
        match reading.spec.function {
            CountRows | Count => {
                let counts = groups.iter().map(|&group| reader.count(group) as i64);
                Ok(Arc::new(Int64Array::from_iter_values(counts)))
            }
            Sum => reader.sum(),
            Avg => reader.average(),
            VarianceSample | VariancePopulation | StddevSample | StddevPopulation => {
                reader.variance()
            }
            Min | Max | BoolAnd | BoolOr | BitAnd | BitOr | BitXor => {
                let (state, field) = reader.state(0);
                Ok(state.write(field, groups, reader.present()))
            }
            First { .. } | Last { .. } => match reader.state(0) {
                (State::Pick(pick), field) => Ok(pick.values(field, groups)),
                _ => unreachable!("first and last are picks"),
            },
            _ => match reader.state(0) {
                (State::Kept(kept), field) => {
                    let counted = |group| reader.count(group);
                    read_kept::read(kept, field, groups, &reading.spec, counted)
                }
                _ => unreachable!("what is left is kept"),
            },
        }
    }
}

impl<'a> Reader<'a> {
    fn state(&self, nth: usize) -> (&'a State, FieldRef<'a>) {
        let placed = &self.input.states[self.reading.states[nth]];
        (&placed.state, self.table.field(placed.offset))
    }

    /// Rows of a group whose argument is not NULL.
    fn count(&self, group: u32) -> u64 {
        let rows = self.table.field(self.filtered.rows).word(group);
        rows.saturating_sub(self.table.field(self.input.nulls).word(group))
    }

    fn present(&self) -> Option<NullBuffer> {
        self.table.present(self.filtered, self.input, self.groups)
    }

    fn out_of_range(&self) -> AggregateError {
        let spec = &self.reading.spec;
        AggregateError::OutOfRange { aggregate: spec.name.clone(), output: spec.output.clone() }
    }

    fn sum(&self) -> Result<ArrayRef, AggregateError> {
        let groups = self.groups.iter();
        match self.state(0) {
            (State::Sum(sum), field) => {
                let values =
                    groups.map(|&group| sum.total(field, group).value()).collect::<Vec<_>>();
                Ok(Arc::new(Float64Array::new(values.into(), self.present())))
            }
            (State::Fold(fold), field) => match &self.reading.spec.output {
                DataType::Int64 => {
                    let value = |&group: &u32| sum_value(fold, field, group).to_i128();
                    let value = |group| value(group).and_then(|value| i64::try_from(value).ok());
                    let values = groups.map(value).collect::<Option<Vec<_>>>();
                    let values = values.ok_or_else(|| self.out_of_range())?;
                    Ok(Arc::new(Int64Array::new(values.into(), self.present())))
                }
                _ => self.decimals(|group| self.rescaled(sum_value(fold, field, group), 1)),
            },
            _ => unreachable!("a sum is of numbers"),
        }
    }

    fn average(&self) -> Result<ArrayRef, AggregateError> {
        match self.state(0) {
            (State::Sum(sum), field) => {
                let value = |group, count| sum.total(field, group).quotient(count);
                Ok(self.doubles(value))
            }
            (State::Fold(fold), field) if self.reading.spec.output == DataType::Float64 => {
                Ok(self.doubles(|group, count| integer_average(fold, field, group, count)))
            }
            (State::Fold(fold), field) => self.decimals(|group| {
                self.rescaled(sum_value(fold, field, group), self.count(group).max(1))
            }),
            _ => unreachable!("an average is of numbers"),
        }
    }

    /// One double a group, NULL where it has no value.
    fn doubles(&self, value: impl Fn(u32, u64) -> f64) -> ArrayRef {
        let values = self.groups.iter().map(|&group| match self.count(group) {
            0 => 0.0,
            count => value(group, count),
        });
        Arc::new(Float64Array::new(values.collect(), self.present()))
    }

    /// One decimal a group, NULL where it has no value; `value` is none out of `i128`'s range.
    fn decimals(&self, value: impl Fn(u32) -> Option<i128>) -> Result<ArrayRef, AggregateError> {
        let output = &self.reading.spec.output;
        let DataType::Decimal128(precision, _) = output else {
            unreachable!("a decimal's sum and average are decimals")
        };
        let limit = 10i128.pow(u32::from(*precision));
        let values = self.groups.iter().map(|&group| value(group).filter(|v| v.abs() < limit));
        let values = values.collect::<Option<Vec<_>>>().ok_or_else(|| self.out_of_range())?;
        Ok(narrow_decimals(output, values, self.present()))
    }

    /// `sum / count` in the scale of the output, half away from zero.
    fn rescaled(&self, sum: i256, count: u64) -> Option<i128> {
        let scale = |data_type: &DataType| match data_type {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            other => unreachable!("{other} is not a decimal"),
        };
        let up = scale(&self.reading.spec.output) - scale(&self.input.data_type);
        let ten = |digits: i32| i256::from_i128(10).checked_pow(digits.max(0) as u32);
        let dividend = sum.checked_mul(ten(up)?)?;
        let divisor = i256::from_i128(i128::from(count)).checked_mul(ten(-up)?)?;
        if divisor == i256::ONE {
            return dividend.to_i128();
        }
        let two = i256::from_i128(2);
        let magnitude = dividend.checked_abs()?.checked_mul(two)?.checked_add(divisor)?;
        let rounded = magnitude.checked_div(divisor.checked_mul(two)?)?;
        let signed = if dividend.is_negative() { rounded.checked_neg()? } else { rounded };
        signed.to_i128()
    }

    fn variance(&self) -> Result<ArrayRef, AggregateError> {
        use AggregateFunction::*;
        let ((State::Sum(sum), sum_field), (State::Squares(squares), squares_field)) =
            (self.state(0), self.state(1))
        else {
            unreachable!("a variance has a sum and a sum of squares")
        };
        let function = self.reading.spec.function;
        let sample = matches!(function, VarianceSample | StddevSample);
        let value = |group: u32| {
            let count = self.count(group);
            if count < 1 + u64::from(sample) {
                return Ok(None);
            }
            let total = sum.total(sum_field, group);
            if total.specials().value().is_some() {
                return Ok(Some(f64::NAN));
            }
            let squares = squares.total(squares_field, group);
            let variance = variance(&total, &squares, count, count - u64::from(sample));
            let variance = variance.ok_or_else(|| {
                let reason = "the sum is too large for the sum of squares";
                AggregateError::corrupt(&self.reading.spec.name, reason)
            })?;
            Ok(Some(match function {
                StddevSample | StddevPopulation => variance.sqrt(),
                _ => variance,
            }))
        };
        let values = self.groups.iter().map(|&group| value(group));
        Ok(Arc::new(values.collect::<Result<Float64Array, _>>()?))
    }
}

fn integer_average(fold: &Fold, field: FieldRef<'_>, group: u32, count: u64) -> f64 {
    let sum = sum_value(fold, field, group).to_i128().expect("a sum of integers fits 128 bits");
    quotient_of_pair(sum < 0, sum.unsigned_abs(), 0, count)
}

/// `(n * squares - sum^2) / (n * divisor)`, rounded once; none where no values have such sums.
fn variance(sum: &Total<2>, squares: &Total<4>, count: u64, divisor: u64) -> Option<f64> {
    let (_, sum_magnitude) = magnitude(sum.limbs());
    let (_, squares_magnitude) = magnitude(squares.limbs());
    let (left, left_exponent) = (multiply(&squares_magnitude, &[count]), squares.exponent);
    let (right, right_exponent) = (multiply(&sum_magnitude, &sum_magnitude), 2 * sum.exponent);
    let exponent = left_exponent.min(right_exponent);
    let left = shift_left(&left, (left_exponent - exponent) as u32);
    let right = shift_left(&right, (right_exponent - exponent) as u32);
    let difference = subtract(&left, &right)?;
    Some(round_quotient(false, &difference, exponent, &[count, divisor]))
}
