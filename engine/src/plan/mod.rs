//! The query as the engine runs it: which columns to decode, what each core does with a batch, what
//! leaves at the end of an epoch.
//!
//! SQL is parsed, bound and simplified by DataFusion's crates; what comes out is one chain:
//! input → filters → explode → rows or groups → output. Anything else is refused with its reason.

pub mod expr;
mod output;

use arrow::datatypes::{Field, SchemaRef};
use pelton_kernels::cpu::aggregate::{AggregateSpec, Call};

use crate::batch::InputColumn;
use crate::job::spec::{LateRule, OutputMode};
use expr::Compiled;

#[derive(Debug)]
pub struct Plan {
    /// Columns that the decoder delivers; expressions below count them from 0 on.
    pub input: Vec<InputColumn>,
    /// Names of the input columns, for messages.
    pub input_names: Vec<String>,
    /// Event time among the input (`Encoding::Values`), where the source has a watermark.
    pub event_time: Option<usize>,
    pub watermark: Option<Watermark>,
    /// WHERE on columns other than the event time: rows that it drops do not move the watermark.
    pub filter_below: Option<Compiled>,
    /// WHERE on the event time: rows that it drops do move the watermark.
    pub filter_above: Option<Compiled>,
    pub explode: Option<Explode>,
    pub shape: Shape,
    pub output: Output,
    pub mode: OutputMode,
    /// Text that is equal for two plans exactly when one can go on from the other's state.
    pub fingerprint: String,
}

impl Plan {
    /// The window among the group keys.
    pub fn window(&self) -> Option<WindowKey> {
        match &self.shape {
            Shape::Groups(groups) => groups.window,
            Shape::Rows { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub delay_us: i64,
    pub late: LateRule,
}

/// One row becomes one row for each element of a list; none for NULL and for the empty list.
#[derive(Debug)]
pub struct Explode {
    pub list: ExplodeList,
    /// WHERE above the explode, over the input columns and then the element.
    pub filter: Option<Compiled>,
}

#[derive(Debug)]
pub enum ExplodeList {
    /// `split(column, 'c')` with a one-byte literal separator: words become ids without a copy. The
    /// element is delivered as ids, the input column as a Utf8 array.
    SplitByByte { input: usize, separator: u8 },
    /// Any expression of a list type over the input columns.
    List(Compiled),
}

#[derive(Debug)]
pub enum Shape {
    /// No aggregate: each row that passes leaves once, in the order of positions.
    Rows {
        columns: Vec<Compiled>,
        schema: SchemaRef,
    },
    Groups(Groups),
}

/// Expressions count the input columns from 0 on, then the exploded element where there is one.
#[derive(Debug)]
pub struct Groups {
    pub keys: Vec<GroupKey>,
    /// The key that is a window's start.
    pub window: Option<WindowKey>,
    /// The key that is the event time itself.
    pub event_time_key: Option<usize>,
    /// Arguments of the aggregates, each once.
    pub arguments: Vec<Compiled>,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Debug)]
pub struct GroupKey {
    pub name: String,
    pub expr: Compiled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowKey {
    /// Index into `keys`; that key's expression is the start of the row's (latest) window.
    pub key: usize,
    pub size_us: i64,
    pub slide_us: i64,
    pub offset_us: i64,
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub spec: AggregateSpec,
    /// Index into `arguments`; none for `count(*)`.
    pub argument: Option<usize>,
    /// `FILTER (WHERE …)`: index into `arguments` of a boolean.
    pub filter: Option<usize>,
}

impl Groups {
    /// Name and type of each key.
    pub fn key_fields(&self) -> Vec<Field> {
        let field = |key: &GroupKey| Field::new(&key.name, key.expr.data_type().clone(), true);
        self.keys.iter().map(field).collect()
    }

    /// The aggregates as the kernels take them.
    pub fn calls(&self) -> Vec<Call> {
        let call = |aggregate: &Aggregate| Call {
            spec: aggregate.spec.clone(),
            argument: aggregate.argument,
            filter: aggregate.filter,
        };
        self.aggregates.iter().map(call).collect()
    }
}

/// What becomes of the groups, or of the rows, before they leave: over the keys, then the
/// aggregates' values; for [`Shape::Rows`] over its columns.
#[derive(Debug)]
pub struct Output {
    pub having: Option<Compiled>,
    pub columns: Vec<Compiled>,
    /// Expressions that only ORDER BY reads; they do not leave.
    pub hidden: Vec<Compiled>,
    pub schema: SchemaRef,
    /// Empty: by window start, then keys, nulls first.
    pub order_by: Vec<OrderBy>,
    pub limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// Index into [`Output::columns`], or past its end into [`Output::hidden`].
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}
