//! Hash aggregate: rows to groups, groups to partials, partials to groups.

use arrow::datatypes::DataType;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// `count(*)`: rows.
    CountRows,
    /// `count(x)`: rows whose value is not NULL.
    Count,
    Sum,
    Avg,
    Min,
    Max,
    VarianceSample,
    VariancePopulation,
    StddevSample,
    StddevPopulation,
    /// By position, NULLs included unless told otherwise.
    First {
        ignore_nulls: bool,
    },
    Last {
        ignore_nulls: bool,
    },
    BoolAnd,
    BoolOr,
    BitAnd,
    BitOr,
    BitXor,
}

/// One aggregate of a query: its function and the types of its argument and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateSpec {
    pub function: AggregateFunction,
    /// `None` for `count(*)`.
    pub input: Option<DataType>,
    pub output: DataType,
    /// Name of the value's column.
    pub name: String,
}
