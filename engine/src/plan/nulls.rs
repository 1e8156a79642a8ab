//! What NULL does to an expression: whether a condition passes none of a row's NULLs.
//!
//! Pure, and careful: an expression that is not known here is taken for one that makes something of
//! NULL, as `coalesce` does. As Spark's `canFilterOutNull` and null-intolerant expressions.

use datafusion_common::Column;
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, Operator};

use super::functions::{arithmetic, window};

/// Functions that Spark counts among its null-intolerant expressions, and that keys are made of.
const STRICT: [&str; 6] = ["upper", "lower", "length", "character_length", "substr", "abs"];

/// Whether a condition is not true for a row whose columns of this kind are NULL.
pub fn drops_null(expr: &Expr, of: &dyn Fn(&Column) -> bool) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            drops_null(left, of) || drops_null(right, of)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            drops_null(left, of) && drops_null(right, of)
        }
        Expr::Between(Between { expr, low, high, negated: false }) => {
            [expr, low, high].into_iter().any(|part| is_null(part, of))
        }
        Expr::IsNotNull(inner) | Expr::IsTrue(inner) | Expr::IsFalse(inner) => is_null(inner, of),
        other => is_null(other, of),
    }
}

/// Whether an expression is NULL where the columns of this kind are.
fn is_null(expr: &Expr, of: &dyn Fn(&Column) -> bool) -> bool {
    match expr {
        Expr::Column(column) => of(column),
        Expr::Not(inner) => is_null(inner, of),
        Expr::InList(list) => is_null(&list.expr, of),
        Expr::Like(like) => is_null(&like.expr, of),
        Expr::Alias(alias) => is_null(&alias.expr, of),
        other => parts(other).is_some_and(|parts| parts.iter().any(|part| is_null(part, of))),
    }
}

/// Whether an expression is NULL where any column of it is: comparisons, sums and casts of columns.
pub fn is_strict(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(_, _) => true,
        Expr::Between(Between { expr, low, high, negated: false }) => {
            [expr, low, high].into_iter().all(|part| is_strict(part))
        }
        other => parts(other).is_some_and(|parts| parts.iter().all(|part| is_strict(part))),
    }
}

/// The parts of an expression that is NULL where one of them is.
fn parts(expr: &Expr) -> Option<Vec<&Expr>> {
    use Operator::{And, IsDistinctFrom, IsNotDistinctFrom, Or};
    match expr {
        Expr::Cast(Cast { expr, .. }) | Expr::Negative(expr) => Some(vec![expr]),
        Expr::BinaryExpr(BinaryExpr {
            op: And | Or | IsDistinctFrom | IsNotDistinctFrom, ..
        }) => None,
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => Some(vec![left, right]),
        Expr::ScalarFunction(call) if STRICT.contains(&call.name()) => {
            Some(call.args.iter().collect())
        }
        other => match (arithmetic::parts(other), window::shift_parts(other)) {
            (Some((_, left, right, _)), _) => Some(vec![left, right]),
            (None, Some((time, _))) => Some(vec![time]),
            (None, None) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion_expr::{col, lit};
    use pelton_kernels::expr::ArithmeticOp;

    use super::*;

    fn tripled(expr: Expr) -> Expr {
        arithmetic::arithmetic(ArithmeticOp::Multiply, expr, lit(3i64), DataType::Int64)
    }

    fn coalesced(expr: Expr) -> Expr {
        datafusion_functions::core::expr_fn::coalesce(vec![expr, lit(100)])
    }

    fn spaceship(left: Expr, right: Expr) -> Expr {
        let op = Operator::IsNotDistinctFrom;
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
    }

    #[test]
    fn a_condition_drops_a_row_only_where_nothing_makes_a_value_of_its_nulls() {
        let check = |condition: Expr, expected: bool| {
            let found = drops_null(&condition, &|column| column.name == "w");
            assert_eq!(found, expected, "{condition}");
        };
        check(col("w").gt(lit(9)), true);
        check(lit(9).lt(tripled(col("w"))), true);
        check(col("v").lt(col("w")), true);
        check(col("w").is_not_null(), true);
        check(col("w").between(lit(1), lit(2)), true);
        check(col("v").between(lit(1), col("w")), true);
        check(col("w").in_list(vec![lit(1)], false), true);
        check(col("v").gt(lit(1)).and(col("w").gt(lit(9))), true);
        check(col("w").gt(lit(1)).or(col("w").lt(lit(0))), true);
        check(Expr::Not(Box::new(col("w").eq(lit(1)))), true);
        check(col("v").gt(lit(1)), false);
        check(col("w").is_null(), false);
        check(coalesced(col("w")).gt(lit(9)), false);
        check(col("v").gt(lit(1)).or(col("w").gt(lit(9))), false);
        check(spaceship(col("v"), col("w")), false);
        check(Expr::Not(Box::new(col("w").is_not_null())), false);
    }

    #[test]
    fn sums_and_comparisons_are_null_where_a_column_of_them_is() {
        let check = |expr: Expr, expected: bool| assert_eq!(is_strict(&expr), expected, "{expr}");
        check(tripled(col("v")).lt(col("w")), true);
        check(window::shift(col("ts"), 5).lt(col("other")), true);
        check(col("v").between(col("w"), lit(3)), true);
        let upper = |of: Expr| datafusion_functions::string::expr_fn::upper(of);
        check(upper(col("k")).eq(upper(col("j"))), true);
        check(upper(coalesced(col("k"))).eq(col("j")), false);
        check(coalesced(col("v")).lt(col("w")), false);
        check(spaceship(col("v"), col("w")), false);
        check(col("v").gt(lit(1)).or(col("w").gt(lit(1))), false);
    }
}
