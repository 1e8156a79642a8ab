//! Whether a device computes what the CPU computes: every operation of our shaders, over values that
//! are hard for it. A driver that compiles one of them wrongly is found before a row of a job is.
//!
//! Invariant: a device is trusted with all of them or with none: they share their arithmetic, so one
//! that differs says that the compiler is not to be believed. What devices do with floats of their own
//! is another question (`operations`): our shaders ask them for none.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};

use super::query::Records;
use super::{Device, Input, Program, Projector, Query, Result, refusal};
use crate::cpu::project::evaluate;
use crate::expr::{ArithmeticOp, CalendarUnit, ClockPart, CompareOp, DatePart, Expr, ExprKind};

/// Operations of one shader: building it takes more than linear time.
const OPERATIONS: usize = 20;
const US_PER_DAY: i64 = 86_400_000_000;
const FIRST_DAY: i32 = -4_371_587;

/// The operations at which a device's answer is not the CPU's; none: it can be trusted.
///
/// Cost: a few pipelines are built. Errors: those of the device.
pub fn probe(device: &Arc<Device>) -> Result<Vec<String>> {
    let (types, columns) = columns();
    let inputs: Vec<_> =
        types.iter().map(|t| Input { data_type: t.clone(), is_ids: false }).collect();
    let mut differing = Vec::new();
    for some in operations(&types).chunks(OPERATIONS) {
        let query = Query {
            inputs: inputs.clone(),
            filters: Vec::new(),
            keys: Vec::new(),
            window: None,
            key_fields: Vec::new(),
            arguments: some.iter().map(|(_, expr)| expr.clone()).collect(),
            calls: Vec::new(),
            offsets: None,
        };
        let records = Records::of(&query);
        let program = Arc::new(Program::projection(device, query)?);
        let mut projector = Projector::new(&program);
        let (mut fates, rows) = (Vec::new(), columns[0].len());
        let batch = projector.project(&columns, 0, rows, &mut fates)?;
        let found = projector.records_of(&batch)?;
        let found: Vec<_> = found.chunks_exact(records.words).collect();
        for (place, ((name, expr), slot)) in some.iter().zip(&records.arguments).enumerate() {
            let expected = evaluate(expr, &columns, rows).values;
            let is_right = |row: usize| {
                let is_there = found[row][records.key_words] >> place & 1 == 1;
                let value = &found[row][slot.at..slot.at + slot.form.argument_words()];
                is_there == expected.is_valid(row)
                    && (!is_there || value == argument_words(&expected, row))
            };
            if !(0..rows).all(is_right) {
                differing.push(name.clone());
            }
        }
    }
    Ok(differing)
}

/// The words that a value has as an argument on a device.
pub(super) fn argument_words(array: &ArrayRef, row: usize) -> Vec<u32> {
    let long = |bits: u64| vec![bits as u32, (bits >> 32) as u32];
    match array.data_type() {
        DataType::Boolean => long(array.as_boolean().value(row).into()),
        DataType::Int8 => long(i64::from(array.as_primitive::<Int8Type>().value(row)) as u64),
        DataType::Int16 => long(i64::from(array.as_primitive::<Int16Type>().value(row)) as u64),
        DataType::Int32 => long(i64::from(array.as_primitive::<Int32Type>().value(row)) as u64),
        DataType::Date32 => long(i64::from(array.as_primitive::<Date32Type>().value(row)) as u64),
        DataType::Int64 => long(array.as_primitive::<Int64Type>().value(row) as u64),
        DataType::Timestamp(..) => {
            long(array.as_primitive::<TimestampMicrosecondType>().value(row) as u64)
        }
        DataType::Float32 => {
            long(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits())
        }
        DataType::Float64 => long(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            (0..4).map(|word| (value >> (32 * word)) as u32).collect()
        }
        other => unreachable!("no argument of {other}"),
    }
}

/// Two columns of each type: every hard value against every other one.
fn columns() -> (Vec<DataType>, Vec<ArrayRef>) {
    const VALUES: usize = 24;
    let pairs = |left: bool| {
        (0..VALUES * VALUES).map(move |row| if left { row / VALUES } else { row % VALUES })
    };
    let doubles = hard_doubles();
    let longs = [
        0,
        1,
        -1,
        7,
        -10,
        86_400_000_000,
        i64::MAX,
        i64::MIN,
        i64::MIN + 1,
        1 << 32,
        -(1 << 32),
        0xffff_ffff,
        3_037_000_500,
        (1 << 53) + 1,
        12,
        -239_975,
    ];
    let wides = |i: usize| i128::from(longs[i % longs.len()]) % 10_i128.pow(18);
    let (mut types, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for left in [true, false] {
        let long = move |i: usize| longs[i % longs.len()];
        let double = |i: usize| doubles[i % doubles.len()];
        let decimals = Decimal128Array::from_iter_values(pairs(left).map(wides));
        let some: [ArrayRef; 5] = [
            Arc::new(Int32Array::from_iter_values(pairs(left).map(|i| long(i) as i32))),
            Arc::new(Int64Array::from_iter_values(pairs(left).map(long))),
            Arc::new(Float32Array::from_iter_values(pairs(left).map(|i| double(i) as f32))),
            Arc::new(Float64Array::from_iter_values(pairs(left).map(double))),
            Arc::new(decimals.with_precision_and_scale(18, 4).expect("18 digits hold them")),
        ];
        types.extend(some.iter().map(|column| column.data_type().clone()));
        columns.extend(some);
    }
    let (days, us) = (hard_days(), US_PER_DAY);
    let day = |row: usize| days[row / VALUES % days.len()];
    let into = |row: usize| [0, 1, us - 1, us / 2, 3_599_999_999, -1, 59_999_999][row % VALUES % 7];
    let time = |row: usize| i64::from(day(row)) * us + into(row);
    let rows = 0..VALUES * VALUES;
    let some: [ArrayRef; 2] = [
        Arc::new(Date32Array::from_iter_values(rows.clone().map(day))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.map(time))),
    ];
    types.extend(some.iter().map(|column| column.data_type().clone()));
    columns.extend(some);
    (types, columns)
}

/// Doubles at which rounding, subnormals or signs go wrong first.
pub(super) fn hard_doubles() -> [f64; 24] {
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1.0 / 3.0,
        0.1,
        -2.5,
        1.0 + f64::EPSILON,
        1.0 - f64::EPSILON / 2.0,
        1e16 + 2.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::from_bits((1 << 52) - 1),
        -f64::from_bits(3),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from(f32::MAX) * 1.000_000_1,
        f64::from(f32::from_bits(1)) * 1.5,
        16_777_217.0,
        -9_007_199_254_740_991.0,
        4_503_599_627_370_497.5,
        1e-300,
    ]
}

/// Days around which calendars go wrong first: their ends, leap years that are and that are none, ends of years
/// whose weeks are another one's.
fn hard_days() -> [i32; 24] {
    [
        FIRST_DAY,
        2_932_896,
        FIRST_DAY - 1,
        2_932_897,
        FIRST_DAY + 58,
        2_932_531,
        -719_529,
        -719_528,
        -719_469,
        -719_468,
        -146_098,
        -25_509,
        -25_508,
        -1,
        0,
        364,
        365,
        10_956,
        11_015,
        11_016,
        11_017,
        12_782,
        19_782,
        47_540,
    ]
}

/// All that is computed, by name. Columns are counted as [`columns`] gives them.
fn operations(types: &[DataType]) -> Vec<(String, Expr)> {
    let mut all = Vec::new();
    let mut add = |what: String, kind: ExprKind, data_type: DataType| {
        let expr = Expr { kind, data_type };
        let takes = refusal(&expr).is_none() && expr.check(types).is_ok();
        assert!(takes, "{what} has a kernel");
        all.push((what, expr));
    };
    let (date_at, time_at) = (types.len() - 2, types.len() - 1);
    let many = date_at / 2;
    for (at, of) in types[..many].iter().enumerate() {
        let column = |at: usize| Box::new(Expr::column(at, of.clone()));
        let pair = || (column(at), column(many + at));
        use ArithmeticOp::{Add, Divide, Multiply, Remainder, Subtract};
        for op in [Add, Subtract, Multiply, Divide, Remainder] {
            let to = match (of, op) {
                (DataType::Decimal128(..), Multiply) => DataType::Decimal128(36, 8),
                (DataType::Decimal128(..), Divide) => DataType::Decimal128(30, 6),
                (DataType::Decimal128(..), _) => DataType::Decimal128(19, 4),
                (other, _) => other.clone(),
            };
            let (a, b) = pair();
            add(format!("{op:?} of {of}"), ExprKind::Arithmetic(op, a, b), to);
        }
        for op in [CompareOp::Equal, CompareOp::Less] {
            let (a, b) = pair();
            add(format!("{op:?} of {of}"), ExprKind::Compare(op, a, b), DataType::Boolean);
        }
        add(format!("negation of {of}"), ExprKind::Negate(column(at)), of.clone());
        for to in [DataType::Int32, DataType::Float32, DataType::Float64] {
            let cast = Expr { kind: ExprKind::Cast(column(at)), data_type: to.clone() };
            if *of != to && refusal(&cast).is_none() {
                add(format!("cast of {of} to {to}"), cast.kind, to);
            }
        }
    }
    let column = |at: usize| Box::new(Expr::column(at, types[at].clone()));
    for part in DatePart::ALL {
        let kind = ExprKind::DatePart(part, column(date_at));
        add(format!("{} of a date", part.name()), kind, DataType::Int32);
    }
    for part in ClockPart::ALL {
        let kind = ExprKind::ClockPart(part, column(time_at));
        add(format!("{} of a time", part.name()), kind, DataType::Int32);
    }
    for unit in CalendarUnit::ALL {
        let kind = ExprKind::Truncate(unit, column(time_at));
        add(format!("start of a time's {}", unit.name()), kind, types[time_at].clone());
    }
    add("last day of a month".to_owned(), ExprKind::LastDay(column(date_at)), DataType::Date32);
    for (what, to, count) in
        [("date", date_at, DataType::Int32), ("time", time_at, DataType::Int64)]
    {
        let months =
            types[..date_at].iter().rposition(|of| *of == count).expect("integers are there");
        let kind = ExprKind::AddMonths(column(to), column(months));
        add(format!("months added to a {what}"), kind, types[to].clone());
    }
    let other = ExprKind::Truncate(CalendarUnit::Quarter, column(time_at));
    let other = Box::new(Expr { kind: other, data_type: types[time_at].clone() });
    let later = ExprKind::WholeMonths(other, column(time_at));
    add("months between times".to_owned(), later, DataType::Int32);
    for ahead_us in [20_700_000_000, -93_599_000_000] {
        let to = ExprKind::ToLocal { ahead_us, time: column(time_at) };
        let from = ExprKind::FromLocal { ahead_us, time: column(time_at) };
        add(format!("local time at {ahead_us}"), to, types[time_at].clone());
        add(format!("instant at {ahead_us}"), from, types[time_at].clone());
    }
    all
}
