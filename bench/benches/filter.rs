//! Question: what does `WHERE status <> 0` cost a row, where all rows, seven of eight, a half and one
//! in a hundred pass?
//!
//! Checked first: the rows kept are those of a loop over the values.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::DataType;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_kernels::cpu::filter::select;
use pelton_kernels::cpu::project::evaluate;
use pelton_kernels::expr::{CompareOp, Expr, ExprKind, Literal};

/// A batch: 256 KiB of the sensors' 48-byte rows.
const ROWS: usize = 5_400;

/// `status <> 0`
fn condition() -> Expr {
    let status = Expr::column(0, DataType::Int32);
    let zero = Expr::literal(Literal::Int(0), DataType::Int32);
    let kind = ExprKind::Compare(CompareOp::NotEqual, Box::new(status), Box::new(zero));
    Expr { kind, data_type: DataType::Boolean }
}

/// `passing` of a thousand rows are not zero, spread by a hash of the row.
fn statuses(passing: u64) -> Int32Array {
    (0..ROWS as u64)
        .map(|row| {
            let hash = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            Some(i32::from(hash % 1000 < passing))
        })
        .collect()
}

fn keep(condition: &Expr, columns: &[ArrayRef], kept: &mut Vec<u32>) -> usize {
    kept.clear();
    select(evaluate(condition, columns, ROWS).values.as_boolean(), kept);
    kept.len()
}

fn filter(criterion: &mut Criterion) {
    let condition = condition();
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(ROWS as u64));
    for passing in [1000, 875, 500, 10] {
        let values = statuses(passing);
        let expected: Vec<u32> =
            (0..ROWS as u32).filter(|&row| values.value(row as usize) != 0).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(values)];
        let mut kept = Vec::new();
        assert_eq!((keep(&condition, &columns, &mut kept), &kept), (expected.len(), &expected));
        group.bench_function(BenchmarkId::new("kept per mille", passing), |bencher| {
            bencher.iter(|| keep(&condition, &columns, &mut kept));
        });
    }
    group.finish();
}

criterion_group!(benches, filter);
criterion_main!(benches);
