//! What ON says of two times: when a row of one side can meet no later row of the other.
//!
//! Pure arithmetic on the conjuncts of a join's condition, as Spark's `StreamingJoinHelper`: a
//! comparison that comes down to `own time > other time + constant` bounds the own side. Once the
//! watermark W has passed the other side, whose later rows all have times after W, no row with a time
//! up to W + constant can be met. A bound is in whole milliseconds, as the watermark is.

use arrow::datatypes::DataType;
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, Operator};

use super::functions::window;

const MILLI_US: i64 = 1_000;
const MICRO_NS: i64 = 1_000;
const DAY_US: i64 = 86_400_000_000;

/// `own time > other time + shift`, or `>=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub shift_us: i64,
    pub inclusive: bool,
}

impl Bound {
    /// Own rows up to this time meet none any more, where every later row of the other side has a time
    /// after `watermark`.
    fn passed(self, watermark: i64) -> i64 {
        let millis = watermark.saturating_add(self.shift_us).div_euclid(MILLI_US);
        millis.saturating_sub(i64::from(self.inclusive)).saturating_mul(MILLI_US)
    }
}

/// The greatest time of rows that meet none any more; none where no bound is known.
///
/// Of several bounds the least counts, as in Spark: each of them alone would be right.
pub fn passed(bounds: &[Bound], watermark: i64) -> Option<i64> {
    bounds.iter().map(|bound| bound.passed(watermark)).min()
}

/// The bounds that a condition puts on `own`, a time of one side, by `other`, that of the other side.
pub fn bounds(conjuncts: &[Expr], own: &Column, other: &Column) -> Vec<Bound> {
    conjuncts.iter().flat_map(comparisons).filter_map(|c| c.bound(own, other)).collect()
}

/// `less < greater`, or `<=`.
struct Comparison {
    less: Expr,
    greater: Expr,
    inclusive: bool,
}

impl Comparison {
    fn bound(&self, own: &Column, other: &Column) -> Option<Bound> {
        // All on one side: other - own + constant < 0.
        let mut sum = Sum { own, other, of_own: 0, of_other: 0, constant_us: 0 };
        sum.add(&self.less, 1)?;
        sum.add(&self.greater, -1)?;
        let Sum { of_own: -1, of_other: 1, constant_us, .. } = sum else { return None };
        Some(Bound { shift_us: constant_us, inclusive: self.inclusive })
    }
}

fn comparisons(conjunct: &Expr) -> Vec<Comparison> {
    let of = |less: &Expr, greater: &Expr, inclusive| Comparison {
        less: less.clone(),
        greater: greater.clone(),
        inclusive,
    };
    match conjunct {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Lt => vec![of(left, right, false)],
            Operator::LtEq => vec![of(left, right, true)],
            Operator::Gt => vec![of(right, left, false)],
            Operator::GtEq => vec![of(right, left, true)],
            _ => Vec::new(),
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            vec![of(low, expr, true), of(expr, high, true)]
        }
        _ => Vec::new(),
    }
}

/// A sum of the two times and constants.
struct Sum<'a> {
    own: &'a Column,
    other: &'a Column,
    of_own: i64,
    of_other: i64,
    constant_us: i64,
}

impl Sum<'_> {
    /// `None`: the expression is no such sum.
    fn add(&mut self, expr: &Expr, sign: i64) -> Option<()> {
        if let Some((time, us)) = window::shift_parts(expr) {
            self.constant(us, sign)?;
            return self.add(time, sign);
        }
        match expr {
            Expr::Column(column) if same(column, self.own) => self.of_own += sign,
            Expr::Column(column) if same(column, self.other) => self.of_other += sign,
            Expr::Cast(Cast { expr, field }) if is_time(field.data_type()) => {
                self.add(expr, sign)?;
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
                self.add(left, sign)?;
                self.add(right, sign)?;
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
                self.add(left, sign)?;
                self.add(right, -sign)?;
            }
            Expr::Literal(value, _) => self.constant(constant_us(value)?, sign)?,
            _ => return None,
        }
        Some(())
    }

    fn constant(&mut self, us: i64, sign: i64) -> Option<()> {
        self.constant_us = self.constant_us.checked_add(us.checked_mul(sign)?)?;
        Some(())
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}

fn same(a: &Column, b: &Column) -> bool {
    a.relation == b.relation && a.name == b.name
}

/// An interval; one with months has no fixed length.
fn constant_us(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let days = i64::from(interval.days).checked_mul(DAY_US)?;
            days.checked_add(interval.nanoseconds.div_euclid(MICRO_NS))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            let millis = i64::from(interval.milliseconds).checked_mul(MILLI_US)?;
            i64::from(interval.days).checked_mul(DAY_US)?.checked_add(millis)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::types::IntervalMonthDayNano;
    use datafusion_expr::{col, lit};
    use proptest::prelude::*;

    use super::*;

    fn interval(us: i64) -> Expr {
        let nanos = IntervalMonthDayNano::new(0, 0, us * MICRO_NS);
        lit(ScalarValue::IntervalMonthDayNano(Some(nanos)))
    }

    fn months(months: i32) -> Expr {
        let months = IntervalMonthDayNano::new(months, 0, 0);
        lit(ScalarValue::IntervalMonthDayNano(Some(months)))
    }

    fn plus(left: Expr, right: Expr) -> Expr {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::Plus, Box::new(right)))
    }

    fn minus(left: Expr, right: Expr) -> Expr {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::Minus, Box::new(right)))
    }

    /// Bounds on `a` by `b`, as (shift, inclusive).
    fn check(condition: Expr, expected: &[(i64, bool)]) {
        let (a, b) = (Column::new(None::<String>, "a"), Column::new(None::<String>, "b"));
        let found = bounds(std::slice::from_ref(&condition), &a, &b);
        let found: Vec<_> = found.iter().map(|bound| (bound.shift_us, bound.inclusive)).collect();
        assert_eq!(found, expected, "{condition}");
    }

    #[test]
    fn a_comparison_bounds_the_side_that_is_the_greater() {
        let (a, b) = (|| col("a"), || col("b"));
        check(a().gt(b()), &[(0, false)]);
        check(a().gt_eq(b()), &[(0, true)]);
        check(b().lt(a()), &[(0, false)]);
        check(b().lt_eq(plus(a(), interval(5))), &[(-5, true)]);
        check(b().lt_eq(minus(a(), interval(5))), &[(5, true)]);
        check(minus(b(), interval(7)).lt(plus(a(), interval(5))), &[(-12, false)]);
        check(a().lt(b()), &[]);
        check(b().between(a(), plus(a(), interval(9))), &[(-9, true)]);
        check(a().between(minus(b(), interval(9)), b()), &[(-9, true)]);
    }

    #[test]
    fn what_is_no_sum_of_the_two_times_bounds_nothing() {
        let (a, b) = (|| col("a"), || col("b"));
        check(a().gt(plus(b(), months(1))), &[]);
        check(a().gt(col("c")), &[]);
        check(a().gt(plus(b(), col("c"))), &[]);
        check(plus(a(), a()).gt(b()), &[]);
        check(a().eq(b()), &[]);
        check(a().gt(b()).or(a().gt(b())), &[]);
        check(Expr::Not(Box::new(a().lt_eq(b()))), &[]);
        check(Expr::Between(Between::new(Box::new(a()), true, Box::new(b()), Box::new(b()))), &[]);
    }

    #[test]
    fn the_bound_is_sparks_to_the_millisecond() {
        let hour = 3_600_000_000;
        let within = [Bound { shift_us: -hour, inclusive: true }];
        assert_eq!(passed(&within, 10 * hour), Some(9 * hour - MILLI_US));
        let strictly = [Bound { shift_us: -hour, inclusive: false }];
        assert_eq!(passed(&strictly, 10 * hour), Some(9 * hour));
        let both = [within[0], Bound { shift_us: -2 * hour, inclusive: false }];
        assert_eq!(passed(&both, 10 * hour), Some(8 * hour));
        assert_eq!(passed(&[], 10 * hour), None);
        assert_eq!(passed(&within, i64::MIN), Some(i64::MIN), "no number wraps");
    }

    proptest! {
        /// A row that is let go could meet no later row, and one that is kept two milliseconds more
        /// could.
        #[test]
        fn a_row_goes_only_when_no_later_row_can_meet_it(
            shift_us in -20_000i64..20_000, inclusive: bool,
            watermark in -20_000i64..20_000, own in -60_000i64..60_000, after in 1i64..40_000,
        ) {
            let gone = passed(&[Bound { shift_us, inclusive }], watermark).unwrap();
            let meets = |own: i64, other: i64| match inclusive {
                true => own >= other + shift_us,
                false => own > other + shift_us,
            };
            prop_assert!(own > gone || !meets(own, watermark + after));
            prop_assert!(meets(gone + 2 * MILLI_US + 1, watermark + 1));
        }
    }
}
