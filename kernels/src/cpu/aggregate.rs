//! Hash aggregate: rows to groups, groups to partials, partials to groups.
//!
//! A [`GroupTable`] holds one state for each group and each distinct thing that its aggregates need:
//! `avg(x)`, `sum(x)` and `count(x)` share theirs. Every state is exact, so it is a function of the
//! *set* of rows: tables, partials and merges in any order give the same values and the same partial,
//! bit for bit (`first` and `last` go by position). `layout` says which states a query needs,
//! `states` what each does, `table` runs them over batches, `values` reads them.

mod arena;
mod datum;
mod error;
mod exact;
pub(crate) mod fold;
mod kept;
pub(crate) mod layout;
mod load;
mod moments;
mod pick;
mod read_kept;
mod sketch;
pub(crate) mod state;
mod table;
mod text;
mod values;

use arrow::datatypes::DataType;

pub use error::AggregateError;
pub use layout::{is_supported, partial_schema};
pub(crate) use load::Loaded;
pub(crate) use pick::Pick;
pub use table::GroupTable;

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
    /// Of the different values: their number, sum, average.
    CountDistinct,
    SumDistinct,
    AvgDistinct,
    /// By HyperLogLog++ with 2^precision registers.
    ApproxCountDistinct {
        precision: u8,
    },
    /// The values that are not NULL, by position; the different ones, in their order.
    CollectList,
    CollectSet,
    /// The value that came most often; the least of those.
    Mode,
    /// The value at a part of the whole, between two values by their distance; the part by the bits
    /// of its double.
    Percentile {
        at: u64,
    },
    /// The least value that so great a part does not exceed.
    PercentileDiscrete {
        at: u64,
    },
    /// As that, of at most so many different values as the state keeps.
    PercentileApprox {
        at: u64,
    },
    /// Of a struct of value and order: the value beside the least or greatest order.
    MinBy,
    MaxBy,
    Skewness,
    Kurtosis,
    /// Of a struct of two doubles, y and x in this order; rows where either is NULL do not count.
    CovarPopulation,
    CovarSample,
    Corr,
    RegrCount,
    RegrAvgX,
    RegrAvgY,
    RegrSxx,
    RegrSyy,
    RegrSxy,
    RegrSlope,
    RegrIntercept,
    RegrR2,
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

/// An aggregate and the arrays it works on, by index: equal indexes share their states.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub spec: AggregateSpec,
    /// None for `count(*)`.
    pub argument: Option<usize>,
    /// `FILTER (WHERE …)`: a boolean; NULL is false.
    pub filter: Option<usize>,
}

/// Where the rows of a batch stand in the input: row `r` at `(split, major, minor + offsets[r])`,
/// compared in this order. Only `first` and `last` ask; of equal positions the later row is later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Positions<'a> {
    pub split: u32,
    pub major: u64,
    pub minor: u64,
    /// One for each row of the full-length columns.
    pub offsets: &'a [u32],
}

#[cfg(test)]
#[path = "aggregate/table_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "aggregate/kept_tests.rs"]
mod kept_tests;
