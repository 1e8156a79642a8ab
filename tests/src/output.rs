//! What a file sink left behind.

use std::path::Path;

/// The rows of a directory of CSV files, in epoch order, without headers.
///
/// Panics at anything that is not the sink's (see [`pelton_bench::output::each_row`]).
pub fn rows(dir: &Path, header: &str) -> Vec<String> {
    let mut rows = Vec::new();
    pelton_bench::output::each_row(dir, header, |row| rows.push(row.to_string()))
        .unwrap_or_else(|error| panic!("{error}"));
    rows
}

/// The number of files, which is the number of epochs that had rows.
pub fn files(dir: &Path) -> usize {
    pelton_bench::output::files(dir).unwrap_or_else(|error| panic!("{error}")).len()
}
