//! Rows of the stream meet a static table.
//!
//! Matches come in the order of the stream's rows, those of one row in the table's order. What the
//! table holds is in `plan::side`; one that is read again is met from the next epoch on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::take;

use super::derive::Derived;
use super::fate::Fates;
use crate::plan::side::{Lookup, columns_of};
use crate::plan::{JoinKind, StaticJoin};

/// Pairs of a row and the table's row that it meets.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    of_table: Vec<u32>,
}

pub(super) fn run(
    join: &StaticJoin,
    lookup: &Lookup,
    derived: &mut Derived<'_>,
    fates: &mut Fates,
    reads: &[bool],
) {
    let keys: Vec<ArrayRef> = join.keys.iter().map(|key| derived.evaluate(key, fates)).collect();
    let asked: Vec<u32> = match fates.surviving(derived) {
        None => (0..derived.rows() as u32).collect(),
        Some(rows) => rows.to_vec(),
    };
    let mut pairs = Pairs::default();
    lookup.matches(&keys, asked.iter().copied(), |row, of_table| {
        pairs.rows.push(row);
        pairs.of_table.push(of_table);
    });
    if join.residual.is_some() {
        pairs = confirmed(join, pairs, lookup, derived, fates);
    }
    match join.kind {
        JoinKind::Inner => {
            let added = columns_of(lookup, &UInt32Array::from(pairs.of_table));
            derived.replace(pairs.rows, added, reads);
        }
        JoinKind::Outer => {
            let (rows, of_table) = with_unmatched(&asked, pairs);
            derived.replace(rows, columns_of(lookup, &of_table), reads);
        }
        JoinKind::Semi => {
            pairs.rows.dedup();
            derived.replace(pairs.rows, Vec::new(), reads);
        }
        JoinKind::Mark => {
            let mark: ArrayRef = Arc::new(marks(&asked, &pairs.rows));
            derived.replace(asked, vec![mark], reads);
        }
        JoinKind::Anti => derived.replace(without(&asked, &pairs.rows), Vec::new(), reads),
        JoinKind::NotIn => {
            let rows = not_in(&asked, &pairs.rows, &keys, lookup);
            derived.replace(rows, Vec::new(), reads);
        }
    }
}

/// The pairs for which the rest of ON is true.
fn confirmed(
    join: &StaticJoin,
    pairs: Pairs,
    lookup: &Lookup,
    derived: &Derived<'_>,
    fates: &mut Fates,
) -> Pairs {
    let residual = join.residual.as_ref().expect("the caller asked");
    let (rows, of_table) = (UInt32Array::from(pairs.rows), UInt32Array::from(pairs.of_table));
    let of_rows = derived.columns().iter();
    let of_rows = of_rows.map(|column| take(column, &rows, None).expect("rows of this batch"));
    let columns: Vec<ArrayRef> = of_rows.chain(columns_of(lookup, &of_table)).collect();
    let evaluated = residual.evaluate(&columns, rows.len(), None);
    for (pair, reason) in evaluated.errors {
        fates.reject_expression(derived.parent(rows.value(pair as usize)), reason);
    }
    let mask = evaluated.values.as_boolean();
    let mut kept = Pairs::default();
    for pair in (0..rows.len()).filter(|&pair| mask.is_valid(pair) && mask.value(pair)) {
        kept.rows.push(rows.value(pair));
        kept.of_table.push(of_table.value(pair));
    }
    kept
}

/// Every row asked for, at least once: NULL where it met none.
fn with_unmatched(asked: &[u32], pairs: Pairs) -> (Vec<u32>, UInt32Array) {
    let (mut rows, mut of_table) = (Vec::with_capacity(asked.len()), Vec::new());
    let mut met = pairs.rows.into_iter().zip(pairs.of_table).peekable();
    for &row in asked {
        let before = rows.len();
        while let Some((_, of)) = met.next_if(|(of_row, _)| *of_row == row) {
            rows.push(row);
            of_table.push(Some(of));
        }
        if rows.len() == before {
            rows.push(row);
            of_table.push(None);
        }
    }
    (rows, UInt32Array::from(of_table))
}

/// Which of `asked` are among `met`; both ascend.
fn marks(asked: &[u32], met: &[u32]) -> BooleanArray {
    asked.iter().map(|row| Some(met.binary_search(row).is_ok())).collect()
}

/// `asked` without `met`; both ascend.
fn without(asked: &[u32], met: &[u32]) -> Vec<u32> {
    let mut met = met.iter().copied().peekable();
    let unmet = asked.iter().copied().filter(|&row| {
        let mut found = false;
        while met.next_if(|&of_row| of_row <= row).map(|of_row| found |= of_row == row).is_some() {}
        !found
    });
    unmet.collect()
}

/// Over an empty table every row passes; beside a NULL in it none does.
fn not_in(asked: &[u32], met: &[u32], keys: &[ArrayRef], lookup: &Lookup) -> Vec<u32> {
    if lookup.rows == 0 {
        return asked.to_vec();
    }
    if lookup.nulls() > 0 {
        return Vec::new();
    }
    let mut rows = without(asked, met);
    let known = |row: &u32| keys.iter().all(|key: &Arc<dyn Array>| key.is_valid(*row as usize));
    rows.retain(known);
    rows
}
