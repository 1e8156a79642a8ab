//! Random trees over random columns: the kernels against the row-by-row oracle, by bits.
//!
//! Trees are grown from a seed, by type, so that each passes `Expr::check`; values lean towards the
//! edges of their types, and what lies under a NULL is garbage on purpose.

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::evaluate;
use crate::expr::{
    ArithmeticOp, CalendarUnit, ClockPart, CompareOp, DatePart, Expr, ExprKind, Literal, can_cast,
};
use crate::oracle::{self, Scalar};

/// SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn integer(&mut self, low: i64, high: i64) -> i64 {
        let within = |value: i64| value.clamp(low, high);
        match self.below(8) {
            0 => low,
            1 => high,
            2 => within(self.next() as i64),
            3 => within((self.next() as i64) >> self.below(64)),
            4 => within(self.pick(&[86_400_000_000, -1_500_000, 10_000_000, 127, 128, -129])),
            5 => within(self.calendar(low < i32::MIN.into())),
            _ => within(self.below(9) as i64 - 4),
        }
    }

    /// A day, or a time in microseconds: of our centuries, or where the calendar ends.
    fn calendar(&mut self, is_time: bool) -> i64 {
        let ends = [-4_371_587, 2_932_896, -719_528, 11_016, -25_508];
        let day = match self.one_in(2) {
            true => self.pick(&ends) + self.below(5) as i64 - 2,
            false => self.below(90_000) as i64 - 45_000,
        };
        if is_time { day * 86_400_000_000 + self.below(100_000_000_000) as i64 } else { day }
    }

    fn float(&mut self) -> f64 {
        match self.below(8) {
            0 => f64::from_bits(self.next()),
            1 | 2 => {
                self.pick(&[f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324])
            }
            3 => self.pick(&[2_f64.powi(63), -2_f64.powi(63), 2_f64.powi(31), 1e38, 9.995, 1e-7]),
            4 => self.next() as i64 as f64 / 1e4,
            _ => (self.below(17) as f64 - 8.0) / 2.0,
        }
    }

    fn decimal(&mut self, precision: u8) -> i128 {
        let limit = 10_i128.pow(precision.into()) - 1;
        match self.below(6) {
            0 => limit,
            1 => -limit,
            2 => {
                let wide = (i128::from(self.next()) << 64 | i128::from(self.next())) % (limit + 1);
                wide >> self.below(120)
            }
            3 => (self.next() as i128 % 100_000 - 50_000).clamp(-limit, limit),
            _ => (self.below(9) as i128 - 4).clamp(-limit, limit),
        }
    }
}

pub(crate) fn types() -> Vec<DataType> {
    let us = TimeUnit::Microsecond;
    vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(5, 0),
        DataType::Decimal128(10, 2),
        DataType::Decimal128(38, 10),
        DataType::Decimal128(38, 38),
        DataType::Date32,
        DataType::Timestamp(us, None),
        DataType::Timestamp(us, Some("UTC".into())),
    ]
}

/// One column of each type; values under NULLs are as any others.
pub(crate) fn column(random: &mut Random, data_type: &DataType, rows: usize) -> ArrayRef {
    let nulls = match random.below(3) {
        0 => None,
        1 => Some(NullBuffer::from((0..rows).map(|_| !random.one_in(6)).collect::<Vec<_>>())),
        _ => Some(NullBuffer::from((0..rows).map(|_| random.one_in(6)).collect::<Vec<_>>())),
    };
    macro_rules! integers {
        ($array:ty, $native:ty) => {{
            let (low, high) = (i64::from(<$native>::MIN), i64::from(<$native>::MAX));
            let values: Vec<_> = (0..rows).map(|_| random.integer(low, high) as $native).collect();
            <$array>::new(values.into(), nulls)
        }};
    }
    match data_type {
        DataType::Boolean => {
            let values: Vec<_> = (0..rows).map(|_| random.one_in(2)).collect();
            Arc::new(BooleanArray::new(values.into(), nulls))
        }
        DataType::Int8 => Arc::new(integers!(Int8Array, i8)),
        DataType::Int16 => Arc::new(integers!(Int16Array, i16)),
        DataType::Int32 => Arc::new(integers!(Int32Array, i32)),
        DataType::Int64 => Arc::new(integers!(Int64Array, i64)),
        DataType::Date32 => Arc::new(integers!(Date32Array, i32)),
        DataType::Timestamp(_, zone) => {
            let array = integers!(TimestampMicrosecondArray, i64);
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Float32 => {
            let values: Vec<_> = (0..rows).map(|_| random.float() as f32).collect();
            Arc::new(Float32Array::new(values.into(), nulls))
        }
        DataType::Float64 => {
            let values: Vec<_> = (0..rows).map(|_| random.float()).collect();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        DataType::Decimal128(precision, _) => {
            let values: Vec<_> = (0..rows).map(|_| random.decimal(*precision)).collect();
            let array = Decimal128Array::new(values.into(), nulls);
            Arc::new(array.with_data_type(data_type.clone()))
        }
        other => unreachable!("no column of {other} is asked for"),
    }
}

fn literal(random: &mut Random, data_type: &DataType) -> Expr {
    let integer =
        |random: &mut Random, low: i64, high: i64| Literal::Int(random.integer(low, high));
    let value = match data_type {
        _ if random.one_in(12) => Literal::Null,
        DataType::Boolean => Literal::Boolean(random.one_in(2)),
        DataType::Int8 => integer(random, i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => integer(random, i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 | DataType::Date32 => integer(random, i32::MIN.into(), i32::MAX.into()),
        DataType::Float32 => Literal::Float(f64::from(random.float() as f32)),
        DataType::Float64 => Literal::Float(random.float()),
        DataType::Decimal128(precision, _) => Literal::Decimal(random.decimal(*precision)),
        _ => integer(random, i64::MIN, i64::MAX),
    };
    Expr::literal(value, data_type.clone())
}

/// A tree of at most `depth` operations over one column of each type.
pub(crate) fn grow(random: &mut Random, to: &DataType, depth: usize) -> Expr {
    let types = types();
    if depth == 0 || random.one_in(8) {
        let column = types.iter().position(|t| t == to).expect("one of the types");
        return match random.one_in(3) {
            true => literal(random, to),
            false => Expr::column(column, to.clone()),
        };
    }
    let depth = random.below(depth);
    let mut of = |random: &mut Random, t: &DataType| Box::new(grow(random, t, depth));
    let kind = match random.below(6) {
        0 => {
            let branches = (0..random.below(4))
                .map(|_| (*of(random, &DataType::Boolean), *of(random, to)))
                .collect();
            let otherwise = random.one_in(2).then(|| of(random, to));
            ExprKind::Case { branches, otherwise }
        }
        1 => {
            let from: Vec<_> = types.iter().filter(|from| can_cast(from, to)).cloned().collect();
            let from = random.pick(&from);
            ExprKind::Cast(of(random, &from))
        }
        _ if *to == DataType::Boolean => condition(random, &types, &mut of),
        _ => calculation(random, &types, to, &mut of),
    };
    Expr { kind, data_type: to.clone() }
}

type Grow<'a> = &'a mut dyn FnMut(&mut Random, &DataType) -> Box<Expr>;

fn condition(random: &mut Random, types: &[DataType], of: Grow<'_>) -> ExprKind {
    let any = random.pick(types);
    match random.below(8) {
        0 => ExprKind::Not(of(random, &DataType::Boolean)),
        1 => ExprKind::IsNull(of(random, &any)),
        2 => ExprKind::IsNotNull(of(random, &any)),
        3 => ExprKind::And(of(random, &DataType::Boolean), of(random, &DataType::Boolean)),
        4 => ExprKind::Or(of(random, &DataType::Boolean), of(random, &DataType::Boolean)),
        _ => {
            let op = random.pick(&[
                CompareOp::Equal,
                CompareOp::NotEqual,
                CompareOp::Less,
                CompareOp::LessOrEqual,
                CompareOp::Greater,
                CompareOp::GreaterOrEqual,
            ]);
            ExprKind::Compare(op, of(random, &any), of(random, &any))
        }
    }
}

fn calculation(random: &mut Random, types: &[DataType], to: &DataType, of: Grow<'_>) -> ExprKind {
    use ArithmeticOp::{Add, Divide, Multiply, Remainder, Subtract};
    let any = random.pick(&[Add, Subtract, Multiply, Divide, Remainder]);
    let sum = random.pick(&[Add, Subtract]);
    let pair = |op, a, b| ExprKind::Arithmetic(op, a, b);
    let special = random.one_in(3);
    match to {
        DataType::Timestamp(..) if random.one_in(3) => {
            let unit = random.pick(&CalendarUnit::ALL);
            ExprKind::Truncate(unit, of(random, to))
        }
        DataType::Timestamp(..) if random.one_in(3) => {
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            let ahead_us = random.integer(-93_599_000_000, 93_599_000_000);
            match random.one_in(2) {
                true => ExprKind::ToLocal { ahead_us, time: of(random, &time) },
                false => ExprKind::FromLocal { ahead_us, time: of(random, &time) },
            }
        }
        DataType::Timestamp(..) if random.one_in(6) => {
            ExprKind::AddMonths(of(random, to), of(random, &DataType::Int64))
        }
        DataType::Date32 if random.one_in(3) => match random.one_in(3) {
            true => ExprKind::LastDay(of(random, to)),
            false => ExprKind::AddMonths(of(random, to), of(random, &DataType::Int32)),
        },
        DataType::Date32 if random.one_in(2) => {
            let unit = random.pick(&CalendarUnit::ALL[CalendarUnit::Day as usize..]);
            ExprKind::Truncate(unit, of(random, to))
        }
        DataType::Int32 if random.one_in(8) => {
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            ExprKind::WholeMonths(of(random, &time), of(random, &time))
        }
        DataType::Int32 if random.one_in(3) => {
            ExprKind::DatePart(random.pick(&DatePart::ALL), of(random, &DataType::Date32))
        }
        DataType::Int32 if random.one_in(4) => {
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            ExprKind::ClockPart(random.pick(&ClockPart::ALL), of(random, &time))
        }
        DataType::Timestamp(..) if special => {
            let size_us = random.pick(&[1, 10_000_000, 86_400_000_000, i64::MAX]);
            let offset_us = random.integer(-size_us, size_us - 1);
            ExprKind::WindowStart { time: of(random, to), size_us, offset_us }
        }
        DataType::Timestamp(..) => pair(sum, of(random, to), of(random, &DataType::Int64)),
        DataType::Date32 => pair(sum, of(random, to), of(random, &DataType::Int32)),
        DataType::Int32 if special => {
            pair(Subtract, of(random, &DataType::Date32), of(random, &DataType::Date32))
        }
        DataType::Int64 if special => {
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            pair(Subtract, of(random, &time), of(random, &time))
        }
        _ if special => ExprKind::Negate(of(random, to)),
        DataType::Decimal128(..) => {
            let decimals: Vec<_> =
                types.iter().filter(|t| matches!(t, DataType::Decimal128(..))).cloned().collect();
            let (a, b) = (random.pick(&decimals), random.pick(&decimals));
            pair(any, of(random, &a), of(random, &b))
        }
        _ => pair(any, of(random, to), of(random, to)),
    }
}

/// What a run met, so that a test can say that it met everything.
#[derive(Default)]
struct Met {
    values: usize,
    nulls: usize,
    faults: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

fn same(a: Scalar, b: Scalar) -> bool {
    match (a, b) {
        (Scalar::Null, Scalar::Null) | (Scalar::Opaque, Scalar::Opaque) => true,
        (Scalar::Boolean(a), Scalar::Boolean(b)) => a == b,
        (Scalar::Integer(a), Scalar::Integer(b)) => a == b,
        (Scalar::Float(a), Scalar::Float(b)) => a.to_bits() == b.to_bits(),
        (Scalar::Decimal(a), Scalar::Decimal(b)) => a == b,
        _ => false,
    }
}

/// Grows a tree and columns from the seed, and compares every row.
fn compare(seed: u64, depth: usize, rows: usize, met: &mut Met) {
    let mut random = Random(seed);
    let cut = random.below(70);
    let columns: Vec<ArrayRef> =
        types().iter().map(|t| column(&mut random, t, rows + cut).slice(cut, rows)).collect();
    let to = random.pick(&types());
    let expr = grow(&mut random, &to, depth);
    assert_eq!(expr.check(&types()), Ok(()), "{expr:#?}");

    let found = evaluate(&expr, &columns, rows);
    assert_eq!((found.values.data_type(), found.values.len()), (&to, rows));
    assert!(found.errors.as_ref().is_none_or(|errors| errors.len() == rows && errors.has_true()));
    for row in 0..rows {
        let error = found.errors.as_ref().is_some_and(|errors| errors.value(row));
        let value = oracle::at(&found.values, row);
        match oracle::evaluate(&expr, &columns, row) {
            Ok(expected) => {
                let equal = !error && same(value, expected);
                assert!(
                    equal,
                    "row {row}: {value:?} (error: {error}), not {expected:?}: {expr:#?}"
                );
                *if matches!(value, Scalar::Null) { &mut met.nulls } else { &mut met.values } += 1;
            }
            Err(fault) => {
                let equal = error && matches!(value, Scalar::Null);
                assert!(equal, "row {row}: {value:?}, no error at {fault:#?}: {expr:#?}");
                met.faults.insert(name(fault));
            }
        }
    }
    expr.visit(&mut |expr| {
        met.kinds.insert(name(expr));
    });
}

/// An operation and the types that it works on.
fn name(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Arithmetic(op, ..) => format!("{op:?} {}", expr.data_type),
        ExprKind::Compare(op, a, _) => format!("{op:?} {}", a.data_type),
        ExprKind::Cast(from) => format!("Cast {} {}", from.data_type, expr.data_type),
        ExprKind::DatePart(part, _) => part.name().to_owned(),
        ExprKind::ClockPart(part, _) => part.name().to_owned(),
        ExprKind::Truncate(unit, _) => format!("{} of {}", unit.name(), expr.data_type),
        ExprKind::AddMonths(..) => format!("months to {}", expr.data_type),
        other => format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or("").to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Shallow trees first: the seed that fails is then about the smallest there is.
    #[test]
    fn any_tree_gives_the_bits_that_the_oracle_gives(seed: u64, rows in 0_usize..300) {
        for depth in 1..=5 {
            compare(seed, depth, rows, &mut Met::default());
        }
    }
}

#[test]
fn the_random_trees_reach_every_operation_type_and_fault() {
    let mut met = Met::default();
    for seed in 0..6_000 {
        compare(seed, 3, 5, &mut met);
    }
    assert!(met.values > 5_000 && met.nulls > 5_000, "{} {}", met.values, met.nulls);
    let times = [DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None)];
    for months in times.map(|to| format!("months to {to}")) {
        assert!(met.kinds.contains(&months) && met.faults.contains(&months), "{months}");
    }
    for fault in ["Negate", "WindowStart", "WholeMonths", "Divide Float64", "Cast Float64 Int32"] {
        assert!(met.faults.contains(fault), "{fault} never failed");
    }
    for kind in ["Not", "IsNull", "IsNotNull", "And", "Or", "Negate", "Case", "WindowStart"] {
        assert!(met.kinds.contains(kind), "{kind}");
    }
    let parts = DatePart::ALL.map(DatePart::name).into_iter();
    for kind in parts.chain(ClockPart::ALL.map(ClockPart::name)).chain([
        "ToLocal",
        "FromLocal",
        "LastDay",
        "WholeMonths",
    ]) {
        assert!(met.kinds.contains(kind), "{kind}");
    }
    for unit in CalendarUnit::ALL {
        let of_time =
            format!("{} of {}", unit.name(), DataType::Timestamp(TimeUnit::Microsecond, None));
        assert!(met.kinds.contains(&of_time), "{of_time}");
        let of_date = format!("{} of Date32", unit.name());
        assert_eq!(met.kinds.contains(&of_date), unit >= CalendarUnit::Day, "{of_date}");
    }
    for to in types() {
        for op in ["Equal", "NotEqual", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"] {
            assert!(met.kinds.contains(&format!("{op} {to}")), "{op} {to}");
        }
        for from in types().iter().filter(|from| can_cast(from, &to)) {
            assert!(met.kinds.contains(&format!("Cast {from} {to}")), "cast {from} to {to}");
        }
        let is_number =
            !matches!(to, DataType::Boolean | DataType::Date32 | DataType::Timestamp(..));
        for op in
            ["Add", "Subtract", "Multiply", "Divide", "Remainder"].iter().filter(|_| is_number)
        {
            assert!(met.kinds.contains(&format!("{op} {to}")), "{op} {to}");
        }
    }
}

#[test]
fn the_operation_at_fault_is_the_one_that_was_asked_first() {
    let int = |value| Box::new(Expr::literal(Literal::Int(value), DataType::Int32));
    let of = |kind| Box::new(Expr { kind, data_type: DataType::Int32 });
    let divide = |a, b| of(ExprKind::Arithmetic(ArithmeticOp::Divide, a, b));
    let not_taken = divide(int(1), int(0));
    let taken = divide(int(2), int(0));
    let is_one = ExprKind::Compare(CompareOp::Equal, int(1), int(2));
    let is_one = Expr { kind: is_one, data_type: DataType::Boolean };
    let branches = vec![(is_one, *not_taken)];
    let case = of(ExprKind::Case { branches, otherwise: Some(taken.clone()) });
    let all = of(ExprKind::Negate(case));
    assert_eq!(oracle::evaluate(&all, &[], 0).expect_err("it fails"), &*taken);
    assert!(evaluate(&all, &[], 1).errors.is_some());
}
