//! Random trees over random columns: the device against the CPU, which has its own oracle, by bits.

use super::*;
use crate::cpu::project::oracle_tests::{Random, column, grow, types};
use crate::expr::{Expr, ExprKind};
use crate::gpu::form::Form;
use crate::gpu::probe::argument_words;
use crate::gpu::query::Records;
use crate::gpu::{Input, refusal};
use std::collections::BTreeSet;

/// Expressions of one shader: building a pipeline costs more than running it.
const EXPRESSIONS: usize = 20;

fn query(arguments: Vec<Expr>) -> Query {
    let inputs = types().into_iter().map(|data_type| Input { data_type, is_ids: false }).collect();
    let (filters, keys, key_fields, calls) = (vec![], vec![], vec![], vec![]);
    Query { inputs, filters, keys, window: None, key_fields, arguments, calls, offsets: None }
}

/// Grows some trees that a device takes, and columns, from the seed, and compares every row.
fn compare(seed: u64, depth: usize, rows: usize, met: &mut BTreeSet<String>) {
    let mut random = Random(seed);
    let cut = random.below(70);
    let columns: Vec<ArrayRef> =
        types().iter().map(|t| column(&mut random, t, rows + cut).slice(cut, rows)).collect();
    let mut expressions = Vec::new();
    let mut nodes = 0;
    while expressions.len() < EXPRESSIONS && nodes < 150 {
        let to = random.pick(&types());
        let expr = grow(&mut random, &to, depth);
        if refusal(&expr).is_none() && crate::gpu::support::nodes(&expr) < 60 {
            nodes += crate::gpu::support::nodes(&expr);
            expr.visit(&mut |expr| {
                met.insert(name(expr));
            });
            expressions.push(expr);
        }
    }
    let expected: Vec<_> = expressions.iter().map(|e| evaluate(e, &columns, rows)).collect();
    let query = query(expressions);
    let records = Records::of(&query);
    for tier in TIERS {
        let program = Program::projection(&device(tier), query.clone());
        let program = Arc::new(program.unwrap_or_else(|error| panic!("{seed}: {error}")));
        let mut projector = Projector::new(&program);
        let mut fates = Vec::new();
        let batch = projector.project(&columns, 0, rows, &mut fates).expect("it runs");
        let found = projector.records_of(&batch).expect("it comes back");
        for row in 0..rows {
            let record = &found[row * records.words..(row + 1) * records.words];
            let stopped = expected.iter().position(|expected| {
                expected.errors.as_ref().is_some_and(|errors| errors.value(row))
            });
            assert_eq!(fates[row].stopped_at(), stopped, "{tier:?} seed {seed} row {row}");
            for (place, (slot, expected)) in records.arguments.iter().zip(&expected).enumerate() {
                let there = record[records.key_words] >> place & 1 == 1;
                let expr = &query.arguments[place];
                let context = || format!("{tier:?} seed {seed} row {row}: {expr:#?}");
                assert_eq!(there, expected.values.is_valid(row), "{}", context());
                if there {
                    let found = &record[slot.at..slot.at + slot.form.argument_words()];
                    assert_eq!(found, argument_words(&expected.values, row), "{}", context());
                }
            }
        }
    }
}

/// An operation and the form that it works on.
fn name(expr: &Expr) -> String {
    let form = |t: &DataType| format!("{:?}", Form::of(t));
    match &expr.kind {
        ExprKind::Arithmetic(op, ..) => format!("{op:?} {}", form(&expr.data_type)),
        ExprKind::Compare(op, a, _) => format!("{op:?} {}", form(&a.data_type)),
        ExprKind::Cast(a) => format!("Cast {} {}", form(&a.data_type), form(&expr.data_type)),
        other => format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or("").to_owned(),
    }
}

#[test]
fn f44_any_tree_gives_the_cpus_bits_in_both_tiers() {
    let mut met = BTreeSet::new();
    for seed in seeds(0..34) {
        // Mostly shallow ones: of a deep tree that differs one knows less.
        let (depth, rows) = if seed % 3 == 2 { (4, 130) } else { (2, 400) };
        compare(seed, depth, rows, &mut met);
    }
    for op in ["Add", "Subtract", "Multiply", "Divide", "Remainder"] {
        for form in ["Long", "Double", "Wide"] {
            assert!(met.contains(&format!("{op} {form}")), "{op} {form} was never tried");
        }
    }
    for kind in ["DatePart", "ClockPart", "Truncate", "ToLocal", "FromLocal"] {
        assert!(met.contains(kind), "{kind} was never tried");
    }
}
