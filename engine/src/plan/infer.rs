//! What follows of values that are equal: a condition on one of them holds for the other.
//!
//! Where rows of two streams meet by `a.k = b.k`, one that has `a.k > 1` on its side can meet none with
//! `b.k <= 1`: these need no place in the state and move no watermark. As Spark's
//! `InferFiltersFromConstraints`: one step, between columns, or a column and the cast of one.

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::{BinaryExpr, Cast, Expr};

use super::meet::{Pair, sides};

/// The conditions on one side alone that follow of what is known of both, each with its side.
pub fn conditions(pairs: &[Pair], known: &[Expr]) -> Vec<(usize, Expr)> {
    let mut found: Vec<(usize, Expr)> = Vec::new();
    for pair in pairs.iter().filter(|pair| !pair.null_safe && pair.windows.is_none()) {
        for (from, to) in [(0, 1), (1, 0)] {
            if !matches!(pair.of[from], Expr::Column(_)) || !is_column(&pair.of[to]) {
                continue;
            }
            for condition in known.iter().filter(|condition| !pair.is(condition)) {
                let Some(other) = replaced(condition, &pair.of[from], &pair.of[to]) else {
                    continue;
                };
                let side = match sides(&other) {
                    (true, false) => 0,
                    (false, true) => 1,
                    _ => continue,
                };
                if !says_nothing(&other) && !found.contains(&(side, other.clone())) {
                    found.push((side, other));
                }
            }
        }
    }
    found
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(Cast { expr, .. }) => matches!(**expr, Expr::Column(_)),
        _ => false,
    }
}

/// Nothing where it does not read the column.
fn replaced(condition: &Expr, from: &Expr, to: &Expr) -> Option<Expr> {
    let replace = |node: Expr| match node == *from {
        // What stands in its place is not looked at again.
        true => Ok(Transformed::new(to.clone(), true, TreeNodeRecursion::Jump)),
        false => Ok(Transformed::no(node)),
    };
    let new = condition.clone().transform_down(replace).expect("the rule returns no error");
    new.transformed.then_some(new.data)
}

/// A value compared with itself: that it is not NULL is known.
fn says_nothing(condition: &Expr) -> bool {
    matches!(condition, Expr::BinaryExpr(BinaryExpr { left, right, .. }) if left == right)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion_expr::{cast, lit};

    use super::*;
    use crate::plan::inline::side_column;

    fn of(side: usize, at: usize) -> Expr {
        Expr::Column(side_column(side, at))
    }

    fn pair(left: Expr, right: Expr) -> Pair {
        Pair { of: [left, right], null_safe: false, windows: None }
    }

    fn check(pairs: &[Pair], known: &[Expr], expected: &[(usize, Expr)]) {
        assert_eq!(conditions(pairs, known), expected, "{known:?}");
    }

    #[test]
    fn a_condition_on_a_key_holds_for_the_key_of_the_other_side() {
        let keys = [pair(of(0, 1), of(1, 2))];
        check(&keys, &[of(0, 1).gt(lit(1))], &[(1, of(1, 2).gt(lit(1)))]);
        check(&keys, &[of(1, 2).gt(lit(1))], &[(0, of(0, 1).gt(lit(1)))]);
        let sum = |side: usize, at: usize| (of(0, 1) + of(side, at)).lt(lit(12));
        check(&keys, &[sum(1, 2)], &[(1, (of(1, 2) + of(1, 2)).lt(lit(12))), (0, sum(0, 1))]);
        check(&keys, &[of(0, 1).eq(of(1, 2))], &[]);
        check(&keys, &[of(0, 1).lt_eq(of(1, 2))], &[]);
        check(&keys, &[of(0, 0).gt(lit(1))], &[]);
        check(&keys, &[of(0, 1).gt(of(0, 0))], &[]);
    }

    #[test]
    fn nothing_follows_of_keys_that_are_more_than_columns() {
        let known = [of(0, 1).gt(lit(1))];
        check(&[Pair { null_safe: true, ..pair(of(0, 1), of(1, 2)) }], &known, &[]);
        check(&[pair(of(0, 1), of(1, 2) + lit(1))], &known, &[]);
        let of_cast = cast(of(1, 2), DataType::Int64);
        check(&[pair(of(0, 1), of_cast.clone())], &known, &[(1, of_cast.clone().gt(lit(1)))]);
        check(&[pair(of(0, 1), of_cast)], &[of(1, 2).gt(lit(1))], &[]);
    }
}
