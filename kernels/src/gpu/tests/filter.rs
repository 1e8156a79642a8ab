//! Compaction: the device's rows against `cpu::filter`'s, at the edges of words, workgroups and batches.

use arrow::compute::take;

use super::*;
use crate::cpu::filter::select;
use crate::cpu::project::oracle_tests::{Random, column, types};
use crate::expr::{ArithmeticOp, Expr, ExprKind};
use crate::gpu::query::Records;
use crate::gpu::{Fault, GpuError, Input};
use arrow::array::{BooleanArray, Float64Array, Int64Array};

/// Rows for which a column is true, one of them computed.
pub(super) fn query() -> Query {
    let inputs = [DataType::Boolean, DataType::Int64, DataType::Float64, DataType::Boolean];
    let inputs: Vec<_> =
        inputs.into_iter().map(|data_type| Input { data_type, is_ids: false }).collect();
    let long = || Box::new(Expr::column(1, DataType::Int64));
    let sum = ExprKind::Arithmetic(ArithmeticOp::Add, long(), long());
    Query {
        inputs,
        filters: vec![Expr::column(0, DataType::Boolean), Expr::column(3, DataType::Boolean)],
        keys: vec![],
        window: None,
        key_fields: vec![],
        arguments: vec![
            Expr { kind: sum, data_type: DataType::Int64 },
            Expr::column(2, DataType::Float64),
        ],
        calls: vec![],
        offsets: None,
    }
}

/// Rows, of which the first filter keeps those that `keeps` says; at every 50th the sum overflows, every
/// 31st is dropped by the second filter.
pub(super) fn columns(rows: usize, keeps: impl Fn(usize) -> Option<bool>) -> Vec<ArrayRef> {
    let long = |row: usize| if row % 50 == 49 { i64::MAX } else { row as i64 - 1_000 };
    vec![
        Arc::new((0..rows).map(keeps).collect::<BooleanArray>()),
        Arc::new(Int64Array::from_iter_values((0..rows).map(long))),
        Arc::new(
            (0..rows).map(|row| (row % 7 > 0).then_some(row as f64)).collect::<Float64Array>(),
        ),
        Arc::new((0..rows).map(|row| Some(row % 31 != 30)).collect::<BooleanArray>()),
    ]
}

/// The device's rows, values and fates are those of the CPU's kernels.
pub(super) fn check(projector: &mut Projector, query: &Query, columns: &[ArrayRef], context: &str) {
    let rows = columns[0].len();
    let mut fates = Vec::new();
    let passed = projector.filter(columns, 0, rows, &mut fates).expect("it fits");
    let mut kept: Vec<u32> = (0..rows as u32).collect();
    for filter in &query.filters {
        let mut those = Vec::new();
        select(evaluate(filter, columns, rows).values.as_boolean(), &mut those);
        kept.retain(|row| those.binary_search(row).is_ok());
    }
    assert_eq!(passed.rows, kept, "{context}");
    let chosen = UInt32Array::from(kept);
    for (argument, found) in query.arguments.iter().zip(&passed.columns) {
        let expected = take(&evaluate(argument, columns, rows).values, &chosen, None);
        let expected = expected.expect("row numbers are within the batch");
        assert_eq!(found.data_type(), expected.data_type());
        for row in 0..found.len() {
            assert_eq!(cell(found, row), cell(&expected, row), "{context}: {argument:?} {row}");
        }
    }
    let mut all = Vec::new();
    projector.project(columns, 0, rows, &mut all).expect("it fits");
    assert_eq!(fates, all, "{context}");
}

#[test]
fn rows_that_pass_come_back_in_their_order_at_every_edge() {
    let query = query();
    for tier in TIERS {
        let program = Arc::new(Program::rows(&device(tier), query.clone()).expect("it compiles"));
        let mut projector = Projector::new(&program);
        for rows in [1, 31, 32, 33, 255, 256, 257, 1_000, 32_767, 32_768] {
            type Keeps = fn(usize) -> Option<bool>;
            let all: [(&str, Keeps); 6] = [
                ("all", |_| Some(true)),
                ("none", |_| Some(false)),
                ("NULL", |_| None),
                ("one of three", |row| [Some(true), None, Some(false)][row % 3]),
                ("the first", |row| Some(row == 0)),
                ("the last of each workgroup", |row| Some(row % 256 == 255)),
            ];
            for (name, keeps) in all {
                let context = format!("{tier:?}: {name} of {rows}");
                check(&mut projector, &query, &columns(rows, keeps), &context);
            }
        }
    }
}

/// Values of every type that a device computes.
#[test]
fn values_of_every_type_come_back() {
    let columns_of = |random: &mut Random, rows| -> Vec<ArrayRef> {
        types().iter().map(|data_type| column(random, data_type, rows)).collect()
    };
    let inputs: Vec<_> = types();
    let filter = inputs.iter().position(|t| *t == DataType::Boolean).expect("one of the types");
    let of = |(at, data_type): (usize, &DataType)| Expr::column(at, data_type.clone());
    let query = Query {
        inputs: inputs.iter().map(|t| Input { data_type: t.clone(), is_ids: false }).collect(),
        filters: vec![Expr::column(filter, DataType::Boolean)],
        arguments: inputs.iter().enumerate().map(of).collect(),
        ..query()
    };
    for tier in TIERS {
        let program = Arc::new(Program::rows(&device(tier), query.clone()).expect("it compiles"));
        let mut projector = Projector::new(&program);
        let mut random = Random(5);
        for rows in [700, 3] {
            let columns = columns_of(&mut random, rows);
            check(&mut projector, &query, &columns, &format!("{tier:?} {rows}"));
        }
    }
}

/// What comes back is counted: the answer of a batch of which nothing passes is its head.
#[test]
fn what_comes_back_is_in_proportion_to_what_passes() {
    let query = query();
    let program = Arc::new(Program::rows(&fresh_device(Tier::Native), query).expect("it compiles"));
    let mut projector = Projector::new(&program);
    let mut back = |every: usize| {
        let columns = columns(32_768, |row| Some(row % every == 0));
        // The first time it is taken for as long an answer as the one before.
        projector.filter(&columns, 0, 32_768, &mut Vec::new()).expect("it fits");
        let before = program.device().counts().words_read;
        projector.filter(&columns, 0, 32_768, &mut Vec::new()).expect("it fits");
        program.device().counts().words_read - before
    };
    let (all, tenth, few) = (back(1), back(10), back(10_000));
    assert!(all > 32_768 * 5, "{all}");
    assert!(tenth < all / 8 && few < 100, "{all} {tenth} {few}");
}

/// F39: nothing is believed of a device that leaves a row out, or answers another question.
#[test]
fn f39_a_filters_wrong_answer_is_not_believed() {
    let query = query();
    let mut caught = std::collections::BTreeSet::new();
    for fault in [Fault::Lost, Fault::Hung, Fault::Zero, Fault::Stale, Fault::Row] {
        for before in 0..4 {
            let device = fresh_device(TIERS[before % 2]);
            let program = Arc::new(Program::rows(&device, query.clone()).expect("it compiles"));
            let mut projector = Projector::new(&program);
            // As many pass, others: what comes back is as long.
            let first = columns(2_000, |row| Some(row % 2 == 0));
            let second = columns(2_000, |row| Some(row % 2 == 1));
            device.faults.arm(Fault::Stale, u32::MAX);
            for _ in 0..2 {
                projector.filter(&first, 0, 2_000, &mut Vec::new()).expect("it fits");
            }
            device.faults.arm(fault, before as u32);
            for _ in 0..3 {
                match projector.filter(&second, 0, 2_000, &mut Vec::new()) {
                    Ok(passed) => {
                        assert!(passed.rows.iter().all(|row| row % 2 == 1), "{fault:?} {before}");
                        assert_eq!(passed.rows.len(), passed.columns[0].len());
                        assert!(passed.rows.len() > 900, "{fault:?} {before}");
                    }
                    Err(GpuError::Untrusted(why)) => {
                        assert_eq!(why.contains("rows pass and"), fault == Fault::Row, "{why}");
                        caught.insert(format!("{fault:?}"));
                    }
                    Err(error) => assert!(error.needs_reopening(), "{fault:?} {before}: {error}"),
                }
            }
        }
    }
    assert!(caught.iter().eq(["Row", "Stale", "Zero"]), "{caught:?}");
}

/// F39: an answer that cannot be, in one word: more rows than were sent, rows out of their order, rows of no
/// batch.
#[test]
fn f39_a_filters_impossible_answer_is_not_believed() {
    const ROWS: usize = 2_000;
    const HEAD: usize = 4;
    let query = query();
    let records = Records::of(&query);
    let row_words = 1 + records.words - records.key_words;
    let columns = columns(ROWS, |_| Some(true));
    let kept = (0..ROWS).filter(|row| row % 31 != 30).count();
    let told_at = HEAD + kept * row_words;
    let (too_many, wrong_row) = ("rows of batch", "others");
    let lies = [
        // Rows that pass, and rows that are told of.
        (1, ROWS as u32 + 1, too_many),
        (1, u32::MAX, too_many),
        (2, ROWS as u32 + 1, too_many),
        (2, u32::MAX, too_many),
        // The second row that passes is the first one again; the last one is none.
        (HEAD + row_words, 0, wrong_row),
        (told_at - row_words, ROWS as u32, wrong_row),
        (told_at - row_words, u32::MAX, wrong_row),
        // The second row that is told of is the first one again; the first one is none.
        (told_at + 2, 30, wrong_row),
        (told_at, ROWS as u32, wrong_row),
    ];
    for tier in TIERS {
        let device = fresh_device(tier);
        let program = Arc::new(Program::rows(&device, query.clone()).expect("it compiles"));
        let mut projector = Projector::new(&program);
        let mut pass = || projector.filter(&columns, 0, ROWS, &mut Vec::new());
        let expected = pass().expect("it fits").rows;
        assert_eq!(expected.len(), kept);
        for (at, word, why) in lies {
            // The answer is as long as the one before: it comes in one piece.
            device.faults.lie(0, at, word);
            let error = pass().err().unwrap_or_else(|| panic!("{tier:?}: {word} at {at} passes"));
            let is_told = matches!(&error, GpuError::Untrusted(told) if told.contains(why));
            assert!(is_told, "{tier:?}: {word} at {at}: {error}");
            assert_eq!(pass().expect("the device is as before").rows, expected);
        }
    }
}
