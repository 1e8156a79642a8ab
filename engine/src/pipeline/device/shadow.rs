//! A device's work on the CPU: instead of it after a failure, beside it in a shadowed epoch.
//!
//! Invariant: the same query over the same rows. What is compared here never leaves: results are the
//! device's, or after a difference all the CPU's.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::UInt32Type;
use pelton_kernels::cpu::aggregate::{GroupTable, Positions};
use pelton_kernels::cpu::filter::truth;
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};
use pelton_kernels::cpu::project::{self, Evaluated};
use pelton_kernels::expr::Expr;
use pelton_kernels::gpu::{Fate, GpuError, Passed, Place, Query};

use super::super::windows;
use super::Kept;

/// Folds rows that count.
pub(super) fn fold(query: &Query, kept: &[Kept], table: &mut GroupTable, space: &mut KeySpace) {
    for Kept { columns, rows, place, back_us } in kept {
        let all = |expressions: &[Expr]| -> Vec<ArrayRef> {
            let value = |expr| project::evaluate(expr, columns, *rows).values;
            expressions.iter().map(value).collect()
        };
        let (mut keys, arguments) = (all(&query.keys), all(&query.arguments));
        if let Some(window) = query.window {
            keys[window] = windows::moved(&keys[window], *back_us);
        }
        let inputs: Vec<KeyInput<'_>> = keys
            .iter()
            .map(|key| match key.as_any().downcast_ref::<UInt32Array>() {
                Some(ids) => KeyInput::Ids(ids.values()),
                None => KeyInput::Values(key),
            })
            .collect();
        let (mut packed, rows) = (Vec::with_capacity(*rows), Rows::All(*rows));
        space.encode(&inputs, rows, &mut packed);
        let offsets = query.offsets.map(|at| columns[at].as_primitive::<UInt32Type>());
        let offsets = offsets.map_or(&[][..], |offsets| offsets.values());
        let Place { split, major, minor, .. } = *place;
        table.update(&packed, rows, &arguments, &Positions { split, major, minor, offsets });
    }
}

/// Compares the groups that a device found with those of the rows that it was to fold.
///
/// Errors: `Untrusted` where they differ in a bit.
pub(super) fn check_groups(
    query: &Query,
    kept: &[Kept],
    found: &GroupTable,
    space: &mut KeySpace,
) -> Result<(), GpuError> {
    let mut expected = GroupTable::new(&query.key_fields, &query.calls);
    fold(query, kept, &mut expected, space);
    match sorted(found, space) == sorted(&expected, space) {
        true => Ok(()),
        false => Err(GpuError::Untrusted("the CPU has other groups for the same rows".to_owned())),
    }
}

/// Compares what a device made of each row with what filters, keys and arguments make of it here.
///
/// Errors: `Untrusted` at the first row that differs.
pub(super) fn check_fates(
    query: &Query,
    columns: &[ArrayRef],
    fates: &[Fate],
) -> Result<(), GpuError> {
    let rows = fates.len();
    // The filter that drops a row, and the expression that it stops at.
    let mut expected: Vec<(Option<usize>, Option<usize>)> = vec![(None, None); rows];
    for (number, filter) in query.filters.iter().enumerate() {
        let Evaluated { values, errors } = project::evaluate(filter, columns, rows);
        let passes = truth(values.as_boolean());
        for (row, fate) in expected.iter_mut().enumerate() {
            if *fate == (None, None) && !passes.value(row) {
                let stops = errors.as_ref().is_some_and(|errors| errors.value(row));
                *fate = (Some(number), stops.then_some(number));
            }
        }
    }
    let computed = query.keys.iter().chain(&query.arguments);
    for (number, expr) in (query.filters.len()..).zip(computed) {
        let Some(errors) = project::evaluate(expr, columns, rows).errors else { continue };
        for row in
            errors.set_indices().filter(|&row| expected[row] == (None, None)).collect::<Vec<_>>()
        {
            expected[row] = (None, Some(number));
        }
    }
    let found = fates.iter().map(|fate| (fate.dropped_by(), fate.stopped_at()));
    match found.zip(&expected).position(|(found, expected)| found != *expected) {
        None => Ok(()),
        Some(row) => {
            let what = format!("the CPU makes something else of row {row} of a batch");
            Err(GpuError::Untrusted(what))
        }
    }
}

/// Compares what came back of the rows that pass with what the CPU computes of them.
///
/// Errors: `Untrusted` where a value differs in a bit.
pub(super) fn check_rows(
    query: &Query,
    columns: &[ArrayRef],
    rows: usize,
    passed: &Passed,
) -> Result<(), GpuError> {
    let chosen = UInt32Array::from(passed.rows.clone());
    for (argument, found) in query.arguments.iter().zip(&passed.columns) {
        let values = project::evaluate(argument, columns, rows).values;
        let expected = take(&values, &chosen, None).expect("the rows were compared before");
        if expected.to_data() != found.to_data() {
            let what = "the CPU computes other values of the rows that pass";
            return Err(GpuError::Untrusted(what.to_owned()));
        }
    }
    Ok(())
}

/// The partial in the order of the packed keys.
fn sorted(table: &GroupTable, space: &KeySpace) -> RecordBatch {
    let mut groups: Vec<u32> = table.groups().iter().collect();
    groups.sort_by_key(|&group| table.groups().key(group));
    table.partial(space, Some(&groups))
}
