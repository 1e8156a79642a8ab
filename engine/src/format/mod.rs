//! Text of Arrow values: CSV and JSON lines for files, Spark's tables for people.
//!
//! Files hold ISO 8601 with `Z`, the shortest doubles that read back to the same bits, decimals with
//! their scale; the console holds what Spark's `show()` prints. A value is formatted a column at a
//! time into [`cells::Cells`], the branch on its type taken once before the loop; rows are then put
//! together by copying. Nothing here does I/O or knows of epochs.

pub mod csv;
pub mod json;
pub mod show;

mod cells;
mod number;
mod time;

#[cfg(test)]
mod tests;
