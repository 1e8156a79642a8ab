//! What can go wrong in an aggregate, one variant for each reaction of the caller.

use std::fmt;

use arrow::datatypes::DataType;

#[derive(Clone, Debug, PartialEq)]
pub enum AggregateError {
    /// A value that its type cannot hold: the job stops, as nothing may wrap.
    OutOfRange { aggregate: String, output: DataType },
    /// A partial that no table with these aggregates wrote: the file or the program is wrong. The
    /// table that met it holds a part of it and must be dropped.
    Corrupt { column: String, reason: String },
}

impl AggregateError {
    pub(super) fn corrupt(column: impl Into<String>, reason: impl Into<String>) -> Self {
        AggregateError::Corrupt { column: column.into(), reason: reason.into() }
    }
}

impl fmt::Display for AggregateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AggregateError::OutOfRange { aggregate, output } => {
                write!(f, "aggregate {aggregate:?}: the value is out of the range of {output}")
            }
            AggregateError::Corrupt { column, reason } => {
                write!(f, "cannot merge a partial: column {column:?}: {reason}")
            }
        }
    }
}

impl std::error::Error for AggregateError {}
