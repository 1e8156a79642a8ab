//! Values at their edges, by hand; `oracle_tests` compares random trees with the row-by-row oracle.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, StringArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

use super::evaluate;
use crate::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn of(kind: ExprKind, data_type: DataType) -> Expr {
    Expr { kind, data_type }
}

fn boxed(expr: &Expr) -> Box<Expr> {
    Box::new(expr.clone())
}

fn int(value: i64, data_type: DataType) -> Expr {
    Expr::literal(Literal::Int(value), data_type)
}

fn double(value: f64) -> Expr {
    Expr::literal(Literal::Float(value), DataType::Float64)
}

fn decimal(unscaled: i128, precision: u8, scale: i8) -> Expr {
    Expr::literal(Literal::Decimal(unscaled), DataType::Decimal128(precision, scale))
}

fn arithmetic(op: ArithmeticOp, a: &Expr, b: &Expr, to: DataType) -> Expr {
    of(ExprKind::Arithmetic(op, boxed(a), boxed(b)), to)
}

fn cast(operand: &Expr, to: DataType) -> Expr {
    of(ExprKind::Cast(boxed(operand)), to)
}

/// The rows' values in one line: `NULL`, `error`, or as Arrow prints them.
fn show(expr: &Expr, columns: &[ArrayRef], rows: usize) -> String {
    let types: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
    expr.check(&types).expect("the planner would have kept it from the kernels");
    let found = evaluate(expr, columns, rows);
    assert_eq!((found.values.data_type(), found.values.len()), (&expr.data_type, rows));
    assert!(found.errors.as_ref().is_none_or(|errors| errors.has_true()));
    let options = FormatOptions::new().with_null("NULL");
    let text = ArrayFormatter::try_new(&found.values, &options).expect("values can be printed");
    let shown: Vec<_> = (0..rows)
        .map(|row| match found.errors.as_ref().is_some_and(|errors| errors.value(row)) {
            true => {
                assert!(found.values.is_null(row), "an error is NULL");
                "error".to_owned()
            }
            false => text.value(row).to_string(),
        })
        .collect();
    shown.join(" ")
}

/// A tree without columns.
#[track_caller]
fn check(expr: &Expr, expected: &str) {
    assert_eq!(show(expr, &[], 1), expected, "{expr:?}");
    assert_eq!(show(expr, &[], 0), "", "a batch without rows: {expr:?}");
    let many = show(expr, &[], 70);
    assert_eq!(many, vec![expected; 70].join(" "), "a constant for every row: {expr:?}");
}

#[test]
fn integers_are_checked_at_both_ends() {
    use ArithmeticOp::{Add, Divide, Multiply, Remainder, Subtract};
    let cases = [
        (Add, 127, 0, "127"),
        (Add, 127, 1, "error"),
        (Subtract, -128, 1, "error"),
        (Multiply, -128, -1, "error"),
        (Multiply, -64, 2, "-128"),
        (Divide, -7, 2, "-3"),
        (Divide, -128, -1, "error"),
        (Divide, 5, 0, "error"),
        (Remainder, -7, 2, "-1"),
        (Remainder, 7, -2, "1"),
        (Remainder, -128, -1, "0"),
        (Remainder, 5, 0, "error"),
    ];
    for (op, a, b, expected) in cases {
        let (a, b) = (int(a, DataType::Int8), int(b, DataType::Int8));
        check(&arithmetic(op, &a, &b, DataType::Int8), expected);
    }
    let big = int(i64::MAX, DataType::Int64);
    check(&arithmetic(Add, &big, &int(1, DataType::Int64), DataType::Int64), "error");
    let least = int(i64::MIN, DataType::Int64);
    check(&of(ExprKind::Negate(boxed(&least)), DataType::Int64), "error");
    check(&of(ExprKind::Negate(boxed(&big)), DataType::Int64), "-9223372036854775807");
}

#[test]
fn doubles_fail_only_at_division_by_zero() {
    use ArithmeticOp::{Divide, Multiply, Remainder};
    let cases = [
        (Divide, 1.0, 0.0, "error"),
        (Divide, 1.0, -0.0, "error"),
        (Divide, f64::NAN, 0.0, "error"),
        (Remainder, 1.0, 0.0, "error"),
        (Remainder, -7.5, 2.0, "-1.5"),
        (Multiply, 1e308, 10.0, "inf"),
        (Multiply, f64::INFINITY, 0.0, "NaN"),
    ];
    for (op, a, b, expected) in cases {
        check(&arithmetic(op, &double(a), &double(b), DataType::Float64), expected);
    }
    let nan = arithmetic(Multiply, &double(f64::INFINITY), &double(-0.0), DataType::Float64);
    let found = evaluate(&nan, &[], 1).values;
    let bits = found.as_primitive::<arrow::datatypes::Float64Type>().value(0).to_bits();
    assert_eq!(bits, 0x7ff8_0000_0000_0000, "there is one NaN");
}

#[test]
fn null_operands_give_null_and_no_error() {
    let null = Expr::literal(Literal::Null, DataType::Int32);
    let zero = int(0, DataType::Int32);
    let v: ArrayRef = Arc::new(Int32Array::from(vec![Some(6), None, Some(0), Some(-6)]));
    let column = Expr::column(0, DataType::Int32);
    for (a, b, expected) in [
        (&null, &zero, "NULL NULL NULL NULL"),
        (&column, &zero, "error NULL error error"),
        (&zero, &column, "0 NULL error 0"),
        (&column, &null, "NULL NULL NULL NULL"),
        (&column, &column, "1 NULL error 1"),
    ] {
        let expr = arithmetic(ArithmeticOp::Divide, a, b, DataType::Int32);
        assert_eq!(show(&expr, std::slice::from_ref(&v), 4), expected, "{a:?} / {b:?}");
    }
}

#[test]
fn nan_is_greatest_and_zeros_are_equal() {
    use CompareOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let values = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1.0, f64::INFINITY, f64::NAN, -f64::NAN];
    let rank = [0, 1, 2, 2, 3, 4, 5, 5];
    for (i, a) in values.into_iter().enumerate() {
        for (j, b) in values.into_iter().enumerate() {
            let order = rank[i].cmp(&rank[j]);
            for (op, expected) in [
                (Equal, order.is_eq()),
                (NotEqual, order.is_ne()),
                (Less, order.is_lt()),
                (LessOrEqual, order.is_le()),
                (Greater, order.is_gt()),
                (GreaterOrEqual, order.is_ge()),
            ] {
                let (a, b) = (boxed(&double(a)), boxed(&double(b)));
                let expr = of(ExprKind::Compare(op, a, b), DataType::Boolean);
                check(&expr, &expected.to_string());
            }
        }
    }
}

#[test]
fn logic_asks_its_right_side_only_where_it_must() {
    let zero = int(0, DataType::Int32);
    let failing = arithmetic(ArithmeticOp::Divide, &zero, &zero, DataType::Int32);
    let error =
        of(ExprKind::Compare(CompareOp::Equal, boxed(&failing), boxed(&zero)), DataType::Boolean);
    let is = |value| Expr::literal(Literal::Boolean(value), DataType::Boolean);
    let (yes, no) = (is(true), is(false));
    let null = Expr::literal(Literal::Null, DataType::Boolean);
    // left, right, AND, OR
    for (a, b, and, or) in [
        (&yes, &yes, "true", "true"),
        (&yes, &no, "false", "true"),
        (&no, &no, "false", "false"),
        (&yes, &null, "NULL", "true"),
        (&null, &yes, "NULL", "true"),
        (&no, &null, "false", "NULL"),
        (&null, &no, "false", "NULL"),
        (&null, &null, "NULL", "NULL"),
        (&yes, &error, "error", "true"),
        (&no, &error, "false", "error"),
        (&null, &error, "error", "error"),
        (&error, &yes, "error", "error"),
        (&error, &no, "error", "error"),
        (&error, &null, "error", "error"),
    ] {
        check(&of(ExprKind::And(boxed(a), boxed(b)), DataType::Boolean), and);
        check(&of(ExprKind::Or(boxed(a), boxed(b)), DataType::Boolean), or);
    }
    for (operand, is_null, is_not_null, not) in [
        (&yes, "false", "true", "false"),
        (&null, "true", "false", "NULL"),
        (&error, "error", "error", "error"),
    ] {
        check(&of(ExprKind::IsNull(boxed(operand)), DataType::Boolean), is_null);
        check(&of(ExprKind::IsNotNull(boxed(operand)), DataType::Boolean), is_not_null);
        check(&of(ExprKind::Not(boxed(operand)), DataType::Boolean), not);
    }
}

#[test]
fn case_counts_errors_only_in_the_branch_taken() {
    let v: ArrayRef = Arc::new(Int32Array::from(vec![Some(4), Some(0), None, Some(-2)]));
    let column = Expr::column(0, DataType::Int32);
    let (zero, hundred) = (int(0, DataType::Int32), int(100, DataType::Int32));
    let quotient = arithmetic(ArithmeticOp::Divide, &hundred, &column, DataType::Int32);
    let compare =
        |op, a: &Expr, b: &Expr| of(ExprKind::Compare(op, boxed(a), boxed(b)), DataType::Boolean);
    let case = |branches, otherwise: Option<&Expr>| {
        of(ExprKind::Case { branches, otherwise: otherwise.map(boxed) }, DataType::Int32)
    };
    let is_zero = compare(CompareOp::Equal, &column, &zero);
    let of_quotient = compare(CompareOp::Greater, &quotient, &zero);
    for (expr, expected) in [
        (case(vec![(is_zero.clone(), zero.clone())], Some(&quotient)), "25 0 NULL -50"),
        (case(vec![(is_zero.clone(), quotient.clone())], Some(&zero)), "0 error 0 0"),
        (case(vec![(of_quotient.clone(), column.clone())], Some(&zero)), "4 error 0 0"),
        (case(vec![(is_zero, hundred.clone()), (of_quotient, quotient)], None), "25 100 NULL NULL"),
        (case(vec![], Some(&hundred)), "100 100 100 100"),
    ] {
        assert_eq!(show(&expr, std::slice::from_ref(&v), 4), expected, "{expr:?}");
    }
}

#[test]
fn decimals_are_exact_and_round_once() {
    use ArithmeticOp::{Add, Divide, Multiply, Remainder, Subtract};
    let nines = 10_i128.pow(38) - 1;
    let of_type = DataType::Decimal128;
    let cases = [
        // What Spark 4.2 gave (spark-cases/decimal-arithmetic).
        (Add, decimal(10, 10, 2), decimal(2250, 5, 3), of_type(12, 3), "2.350"),
        (Subtract, decimal(10, 10, 2), decimal(2250, 5, 3), of_type(12, 3), "-2.150"),
        (Multiply, decimal(10, 10, 2), decimal(2250, 5, 3), of_type(16, 5), "0.22500"),
        (Divide, decimal(10, 10, 2), decimal(2250, 5, 3), of_type(19, 8), "0.04444444"),
        (
            Divide,
            decimal(9_999_999_999, 10, 2),
            decimal(7000, 5, 3),
            of_type(19, 8),
            "14285714.28428571",
        ),
        (Remainder, decimal(1025, 10, 2), decimal(1500, 5, 3), of_type(5, 3), "1.250"),
        (Remainder, decimal(-333, 10, 2), decimal(10, 5, 3), of_type(5, 3), "0.000"),
        // Half up is away from zero, and rounding happens once.
        (Divide, decimal(1, 5, 0), decimal(8, 5, 0), of_type(5, 2), "0.13"),
        (Divide, decimal(-1, 5, 0), decimal(8, 5, 0), of_type(5, 2), "-0.13"),
        (Multiply, decimal(15, 5, 1), decimal(-1, 5, 1), of_type(5, 1), "-0.2"),
        // The edges of the precision, and past 128 bits on the way.
        (
            Add,
            decimal(nines, 38, 0),
            decimal(0, 38, 0),
            of_type(38, 0),
            "99999999999999999999999999999999999999",
        ),
        (Add, decimal(nines, 38, 0), decimal(1, 38, 0), of_type(38, 0), "error"),
        (Subtract, decimal(-nines, 38, 0), decimal(1, 38, 0), of_type(38, 0), "error"),
        (
            Add,
            decimal(nines, 38, 0),
            decimal(-nines, 38, 38),
            of_type(38, 0),
            "99999999999999999999999999999999999998",
        ),
        (
            Multiply,
            decimal(nines, 38, 38),
            decimal(nines, 38, 38),
            of_type(38, 38),
            "0.99999999999999999999999999999999999998",
        ),
        (Multiply, decimal(nines, 38, 0), decimal(nines, 38, 0), of_type(38, 0), "error"),
        (Divide, decimal(nines, 38, 0), decimal(nines, 38, 38), of_type(38, 38), "error"),
        (
            Divide,
            decimal(1, 38, 0),
            decimal(3, 38, 38),
            of_type(38, 0),
            "33333333333333333333333333333333333333",
        ),
        (
            Divide,
            decimal(1, 38, 38),
            decimal(3, 38, 0),
            of_type(38, 38),
            "0.00000000000000000000000000000000000000",
        ),
        (Divide, decimal(1, 5, 2), decimal(0, 5, 2), of_type(5, 2), "error"),
        (Remainder, decimal(1, 5, 2), decimal(0, 5, 2), of_type(5, 2), "error"),
        (
            Remainder,
            decimal(nines, 38, 0),
            decimal(7, 38, 38),
            of_type(38, 38),
            "0.00000000000000000000000000000000000002",
        ),
    ];
    for (op, a, b, to, expected) in cases {
        check(&arithmetic(op, &a, &b, to), expected);
    }
}

#[test]
fn casts_keep_the_value_or_fail() {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
    let day = 86_400_000_000;
    let cases = [
        (double(3.99), Int32, "3"),
        (double(-3.99), Int32, "-3"),
        (double(-0.0), Int32, "0"),
        (double(127.9), Int8, "127"),
        (double(128.0), Int8, "error"),
        (double(-128.9), Int8, "-128"),
        (double(-129.0), Int8, "error"),
        (double(9.223372036854775e18), Int64, "9223372036854774784"),
        (double(-(i64::MIN as f64)), Int64, "error"),
        (double(i64::MIN as f64), Int64, "-9223372036854775808"),
        (double(f64::NAN), Int64, "error"),
        (double(f64::INFINITY), Int32, "error"),
        (double(f64::NAN), Boolean, "true"),
        (double(-0.0), Boolean, "false"),
        (double(1e300), Float32, "inf"),
        (double(2.675), Decimal128(3, 2), "2.68"),
        (double(-0.005), Decimal128(3, 2), "-0.01"),
        (double(9.995), Decimal128(3, 2), "error"),
        (double(1e-300), Decimal128(3, 2), "0.00"),
        (double(1e300), Decimal128(38, 0), "error"),
        (double(1.7976931348623157e38), Decimal128(38, 0), "error"),
        (double(f64::NAN), Decimal128(38, 0), "error"),
        (double(1.5), TIMESTAMP, "1970-01-01T00:00:01.500"),
        (int(300, Int64), Int8, "error"),
        (int(-128, Int64), Int8, "-128"),
        (int(40_000, Int32), Int16, "error"),
        (int(5, Int8), Int64, "5"),
        (
            int(i64::MAX, Int64),
            Float64,
            "9223372036854775807".parse::<f64>().map(|_| "9.223372036854776e18").expect("a number"),
        ),
        (int(16_777_217, Int32), Float32, "16777216.0"),
        (int(0, Int32), Boolean, "false"),
        (int(100, Int32), Decimal128(4, 2), "error"),
        (int(99, Int32), Decimal128(4, 2), "99.00"),
        (int(i64::MIN, Int64), Decimal128(38, 38), "error"),
        (int(-1, Int64), TIMESTAMP, "1969-12-31T23:59:59"),
        (int(i64::MAX, Int64), TIMESTAMP, "error"),
        (int(-1, Int32), Date32, "1969-12-31"),
        (int(3_000_000_000, Int64), Date32, "error"),
        (int(1, Date32), TIMESTAMP, "1970-01-02T00:00:00"),
        (int(i64::from(i32::MAX), Date32), TIMESTAMP, "error"),
        (int(-1, TIMESTAMP), Date32, "1969-12-31"),
        (int(day, TIMESTAMP), Date32, "1970-01-02"),
        (int(-1, TIMESTAMP), Int64, "-1"),
        (int(1_500_000, TIMESTAMP), Float64, "1.5"),
        (int(-1, TIMESTAMP), Decimal128(20, 6), "-0.000001"),
        (int(day * 365 * 200, TIMESTAMP), Int32, "error"),
        (decimal(-19_999, 10, 4), Int32, "-1"),
        (decimal(12_800, 10, 2), Int8, "error"),
        (decimal(10_i128.pow(38) - 1, 38, 0), Int64, "error"),
        (decimal(2250, 5, 3), Decimal128(4, 1), "2.3"),
        (decimal(-2250, 5, 3), Decimal128(4, 1), "-2.3"),
        (decimal(99_950, 5, 3), Decimal128(3, 1), "error"),
        (decimal(1, 38, 0), Decimal128(38, 38), "error"),
        (decimal(10, 38, 38), Decimal128(38, 0), "0"),
        (decimal(9_999_999_999, 10, 2), Float64, "99999999.99"),
        (decimal(10_i128.pow(38) - 1, 38, 19), Float64, "1e19"),
        // Rounded to a double and then divided it would be …587.
        (decimal(1_264_115_433_906_158_532, 38, 10), Float64, "126411543.39061585"),
        (decimal(16_777_217, 38, 0), Float32, "16777216.0"),
        (decimal(-1_500_000, 20, 6), TIMESTAMP, "1969-12-31T23:59:58.500"),
        (decimal(10_i128.pow(38) - 1, 38, 0), TIMESTAMP, "error"),
        (decimal(1, 5, 5), Boolean, "true"),
        (Expr::literal(Literal::Boolean(true), Boolean), Int16, "1"),
        (Expr::literal(Literal::Boolean(true), Boolean), Decimal128(1, 1), "error"),
        (Expr::literal(Literal::Boolean(false), Boolean), Float32, "0.0"),
        (Expr::literal(Literal::Null, Boolean), Float32, "NULL"),
    ];
    for (operand, to, expected) in cases {
        check(&cast(&operand, to), expected);
    }
}

#[test]
fn a_window_starts_at_or_before_its_times() {
    let window = |time, size_us, offset_us| {
        let time = boxed(&int(time, TIMESTAMP));
        of(ExprKind::WindowStart { time, size_us, offset_us }, TIMESTAMP)
    };
    let second = 1_000_000;
    for (time, size, offset, expected) in [
        (0, 10 * second, 0, "1970-01-01T00:00:00"),
        (10 * second - 1, 10 * second, 0, "1970-01-01T00:00:00"),
        (10 * second, 10 * second, 0, "1970-01-01T00:00:10"),
        (-1, 10 * second, 0, "1969-12-31T23:59:50"),
        (-10 * second, 10 * second, 0, "1969-12-31T23:59:50"),
        (0, 10 * second, 3 * second, "1969-12-31T23:59:53"),
        (0, 10 * second, -3 * second, "1969-12-31T23:59:57"),
        (3 * second, 10 * second, 3 * second, "1970-01-01T00:00:03"),
        (i64::MIN, 10 * second, 0, "error"),
    ] {
        check(&window(time, size, offset), expected);
    }
}

#[test]
fn sliced_columns_and_columns_of_any_type_are_read_where_they_stand() {
    let words = StringArray::from(vec![Some("a"), None, Some("b"), None]);
    let flags = BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]);
    let values = Float64Array::from(vec![1.0, 2.0, 3.0, 4.0]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(words.slice(1, 3)),
        Arc::new(flags.slice(1, 3)),
        Arc::new(values.slice(1, 3)),
    ];
    let column = |index: usize| Expr::column(index, columns[index].data_type().clone());
    let is_null = of(ExprKind::IsNull(boxed(&column(0))), DataType::Boolean);
    assert_eq!(show(&column(0), &columns, 3), "NULL b NULL");
    assert_eq!(show(&is_null, &columns, 3), "true false true");
    let and = of(ExprKind::And(boxed(&is_null), boxed(&column(1))), DataType::Boolean);
    assert_eq!(show(&and, &columns, 3), "false false true");
    let chosen = ExprKind::Case {
        branches: vec![(column(1), column(2))],
        otherwise: Some(boxed(&double(0.5))),
    };
    assert_eq!(show(&of(chosen, DataType::Float64), &columns, 3), "0.5 0.5 4.0");
}

#[test]
fn trees_that_no_kernel_knows_are_refused_with_their_reason() {
    let text = Expr::column(0, DataType::Utf8);
    let types = [DataType::Utf8, DataType::Int32];
    let number = Expr::column(1, DataType::Int32);
    let compare = ExprKind::Compare(CompareOp::Less, boxed(&text), boxed(&text));
    for (expr, reason) in [
        (of(compare, DataType::Boolean), "no kernel for Less(Utf8, Utf8) that gives Boolean"),
        (cast(&text, DataType::Int32), "no kernel for cast(Utf8) that gives Int32"),
        (cast(&number, DataType::Utf8), "no kernel for cast(Int32) that gives Utf8"),
        (
            arithmetic(ArithmeticOp::Add, &number, &int(1, DataType::Int64), DataType::Int64),
            "no kernel for Add(Int32, Int64) that gives Int64",
        ),
        (int(300, DataType::Int8), "no kernel for Int(300)() that gives Int8"),
        (Expr::column(2, DataType::Int32), "no kernel for column 2() that gives Int32"),
        (
            of(ExprKind::Not(boxed(&cast(&text, DataType::Boolean))), DataType::Boolean),
            "no kernel for cast(Utf8) that gives Boolean",
        ),
    ] {
        assert_eq!(expr.check(&types), Err(reason.to_owned()));
    }
    assert_eq!(text.check(&types), Ok(()));
}
