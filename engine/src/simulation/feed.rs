//! Rows as a decoder hands them to a pipeline, for a plan with any order of columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::DataType;

use crate::batch::{Encoding, InputBatch, Place, Reason, RowError, ValueError};
use crate::pipeline::Pipeline;
use crate::pipeline::tests::{DEVICE, Row, STATUS, TIME};

/// Pushes rows of a split into the open segment; `first` is the number of the first one. A row is one
/// byte.
pub fn feed(pipeline: &mut Pipeline, rows: &[Row], split: u32, first: u64) {
    let sources: Vec<usize> = pipeline.plan().input.iter().map(|column| column.source).collect();
    let (mut row_errors, mut value_errors, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (at, row) in rows.iter().enumerate() {
        let (start, end) = (at as u32, at as u32);
        if row.bad == 4 {
            row_errors.push(RowError { start, end, reason: Reason::UnclosedQuote });
            continue;
        }
        if let Some(column) = sources.iter().position(|&source| source == row.bad) {
            let reason = Reason::Expected(DataType::Int32);
            let (row, column) = (kept.len() as u32, column as u16);
            value_errors.push(ValueError { row, column, start, end, reason });
        }
        kept.push((start, row));
    }
    let columns: Vec<ArrayRef> = sources
        .iter()
        .enumerate()
        .map(|(input, &source)| column(pipeline, input, source, &kept))
        .collect();
    let starts: Vec<u32> = kept.iter().map(|(start, _)| *start).collect();
    let name = format!("split {split}").into();
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: kept.len(),
        bytes: &vec![b'\n'; rows.len()],
        row_starts: &starts,
        row_ends: &starts,
        value_errors: &value_errors,
        row_errors: &row_errors,
        place: &Place { name, split, minor: first, line: 1, ..Place::default() },
    });
}

fn column(pipeline: &mut Pipeline, input: usize, source: usize, kept: &[(u32, &Row)]) -> ArrayRef {
    let good = kept.iter().map(|(_, row)| (row.bad != source).then_some(*row));
    match source {
        TIME => {
            let times = good.map(|row| row.and_then(|row| row.time));
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        DEVICE => {
            let names = good.map(|row| row.map(|row| char::from(b'a' + row.device).to_string()));
            match pipeline.plan().input[input].encoding {
                Encoding::Values => Arc::new(names.collect::<StringArray>()),
                Encoding::Ids => {
                    let mut interners = pipeline.interners();
                    let interner = interners.get(input);
                    let ids =
                        names.map(|name| name.map_or(0, |name| interner.intern(name.as_bytes())));
                    Arc::new(UInt32Array::from_iter_values(ids))
                }
            }
        }
        STATUS => Arc::new(good.map(|row| row.and_then(|row| row.status)).collect::<Int32Array>()),
        _ => {
            let values = good.map(|row| row.map(|row| f64::from(row.value) / 8.0));
            Arc::new(values.collect::<Float64Array>())
        }
    }
}
