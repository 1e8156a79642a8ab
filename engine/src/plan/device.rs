//! Which part of a plan a GPU takes: its filters, keys, arguments and aggregates, as one query; of one without
//! groups its filters and what it computes.
//!
//! Invariant: pure; the same plan gives the same part. A key or an argument that the kernels' tree
//! cannot say is computed on the CPU and goes up as a column; so does text, a key's as ids. A filter that it
//! cannot say stays on the CPU, and so do filters in front of an explode, whose rows are others.

use arrow::datatypes::DataType;
use pelton_kernels::expr::Expr;
use pelton_kernels::gpu::{COLUMNS_MAX, Input, Query, Refusal, goes_by_position, refusal};

use super::expr::Compiled;
use super::{Derive, Explode, ExplodeList, Groups, Plan, Shape};
use crate::batch::Encoding;

/// What goes to the device, and where its columns come from.
#[derive(Debug)]
pub struct DevicePlan {
    pub query: Query,
    /// One for each of the query's inputs.
    pub feeds: Vec<Feed>,
    /// Which filters of the plan are the query's.
    pub filters: Vec<Filter>,
    /// Of a query without groups: which of its columns are the query's arguments.
    pub columns: Vec<usize>,
}

impl DevicePlan {
    /// Rows come back, rather than groups.
    pub fn gives_rows(&self) -> bool {
        self.query.keys.is_empty() && self.query.calls.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// A column that expressions count.
    Column(usize),
    /// A key, computed on the CPU.
    Key(usize),
    /// A text key, computed on the CPU, as ids.
    KeyIds(usize),
    /// An argument, computed on the CPU.
    Argument(usize),
    /// Where each row begins among its batch's bytes, for `first` and `last`.
    RowStarts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// [`Plan::filter_below`].
    Below,
    /// [`Plan::filter_above`].
    Above,
}

/// The device's part of a plan, or every reason why there is none.
pub fn device_plan(plan: &Plan) -> Result<DevicePlan, Vec<Refusal>> {
    let groups = match &plan.shape {
        Shape::Groups(groups) => groups,
        Shape::Rows { columns, .. } => return rows_plan(plan, columns),
        Shape::First(_) => {
            return refused("rows", "deduplication without aggregates is the CPU's");
        }
    };
    if plan.derive.iter().any(|step| matches!(step, Derive::Join(_))) {
        return refused("join", "rows meet a static table on the CPU");
    }
    if let Some(refusal) = window_refusal(groups) {
        return Err(vec![refusal]);
    }
    let mut inputs = Inputs { plan, inputs: Vec::new(), feeds: Vec::new() };
    let (filters, stages) =
        if plan.derive.is_empty() { inputs.filters() } else { (vec![], vec![]) };
    let keys = groups.keys.iter().enumerate().map(|(i, key)| inputs.key(i, &key.expr)).collect();
    let arguments = groups.arguments.iter().enumerate();
    let arguments = arguments.map(|(i, argument)| inputs.argument(i, argument)).collect();
    let calls = groups.calls();
    let by_position = calls.iter().any(goes_by_position);
    let offsets = by_position.then(|| inputs.feed(Feed::RowStarts, &DataType::UInt32, true));
    let Inputs { inputs, feeds, .. } = inputs;
    let query = Query {
        inputs,
        filters,
        keys,
        window: groups.window.filter(|window| window.overlaps()).map(|window| window.key),
        key_fields: groups.key_fields(),
        arguments,
        calls,
        offsets,
    };
    let refusals = query.refusals();
    match refusals.is_empty() {
        true => Ok(DevicePlan { query, feeds, filters: stages, columns: Vec::new() }),
        false => Err(refusals),
    }
}

fn refused<T>(node: &str, reason: &str) -> Result<T, Vec<Refusal>> {
    Err(vec![Refusal { node: node.to_owned(), reason: reason.to_owned() }])
}

/// Filters and computed columns of a query without groups; what is a column of the input stays where it is.
fn rows_plan(plan: &Plan, columns: &[Compiled]) -> Result<DevicePlan, Vec<Refusal>> {
    if !plan.derive.is_empty() {
        return refused("rows", "rows are made of rows on the CPU");
    }
    let mut inputs = Inputs { plan, inputs: Vec::new(), feeds: Vec::new() };
    let (filters, stages) = inputs.filters();
    let (mut arguments, mut computed) = (Vec::new(), Vec::new());
    for (place, column) in columns.iter().enumerate() {
        if let Compiled::Kernel(expr) = column
            && column.column().is_none()
            && refusal(expr).is_none()
            && arguments.len() < COLUMNS_MAX
        {
            arguments.push(inputs.rewrite(expr));
            computed.push(place);
        }
    }
    if filters.is_empty() && arguments.is_empty() {
        return refused("rows", "a device has nothing to filter or to compute of them");
    }
    let Inputs { inputs, feeds, .. } = inputs;
    let (keys, key_fields, calls) = (Vec::new(), Vec::new(), Vec::new());
    let (window, offsets) = (None, None);
    let query = Query { inputs, filters, keys, window, key_fields, arguments, calls, offsets };
    let refusals = query.refusals();
    match refusals.is_empty() {
        true => Ok(DevicePlan { query, feeds, filters: stages, columns: computed }),
        false => Err(refusals),
    }
}

/// A row falls into no window on a device only if its event time is NULL.
fn window_refusal(groups: &Groups) -> Option<Refusal> {
    let refuse = |node: &str, reason: &str| {
        Some(Refusal { node: node.to_owned(), reason: reason.to_owned() })
    };
    match (groups.session, groups.window) {
        (Some(_), _) => refuse("session_window", "sessions are united on the CPU"),
        (_, Some(window)) if !window.closes => {
            refuse("window", "a row without a time of its own is dropped on the CPU")
        }
        _ => None,
    }
}

/// What of a query's groups is computed on the CPU and goes up as a column, by name.
pub fn computed_on_cpu<'a>(device: &DevicePlan, groups: &'a Groups) -> Vec<&'a Compiled> {
    let computed = |feed: &Feed| match *feed {
        Feed::Column(_) | Feed::RowStarts => None,
        Feed::Key(key) | Feed::KeyIds(key) => Some(&groups.keys[key].expr),
        Feed::Argument(argument) => Some(&groups.arguments[argument]),
    };
    device.feeds.iter().filter_map(computed).collect()
}

/// What the device computes of the rows, rather than reads.
pub fn computed_on_device<'a>(device: &DevicePlan, shape: &'a Shape) -> Vec<&'a Compiled> {
    match shape {
        Shape::Groups(groups) => {
            let on_cpu = computed_on_cpu(device, groups);
            let is_on_cpu = |of: &Compiled| on_cpu.iter().any(|other| std::ptr::eq(*other, of));
            let all = groups.keys.iter().map(|key| &key.expr).chain(&groups.arguments);
            all.filter(|of| of.column().is_none() && !is_on_cpu(of)).collect()
        }
        Shape::Rows { columns, .. } => device.columns.iter().map(|&at| &columns[at]).collect(),
        Shape::First(_) => Vec::new(),
    }
}

struct Inputs<'a> {
    plan: &'a Plan,
    inputs: Vec<Input>,
    feeds: Vec<Feed>,
}

impl Inputs<'_> {
    fn feed(&mut self, feed: Feed, data_type: &DataType, is_ids: bool) -> usize {
        if let Some(known) = self.feeds.iter().position(|known| *known == feed) {
            return known;
        }
        self.feeds.push(feed);
        self.inputs.push(Input { data_type: data_type.clone(), is_ids });
        self.feeds.len() - 1
    }

    /// The plan's filters that a device can ask, and which they are.
    fn filters(&mut self) -> (Vec<Expr>, Vec<Filter>) {
        let plan = self.plan;
        let both = [(&plan.filter_below, Filter::Below), (&plan.filter_above, Filter::Above)];
        let mut asked = (Vec::new(), Vec::new());
        for (filter, stage) in both {
            if let Some(Compiled::Kernel(expr)) = filter
                && refusal(expr).is_none()
            {
                asked.0.push(self.rewrite(expr));
                asked.1.push(stage);
            }
        }
        asked
    }

    fn is_ids(&self, column: usize) -> bool {
        match self.plan.input.get(column) {
            Some(input) => input.encoding == Encoding::Ids,
            None => matches!(
                self.plan.derive.first(),
                Some(Derive::Explode(Explode { list: ExplodeList::SplitByByte { .. }, .. }))
            ),
        }
    }

    fn rewrite(&mut self, expr: &Expr) -> Expr {
        expr.map_columns(&mut |column, data_type| {
            let is_ids = self.is_ids(column);
            self.feed(Feed::Column(column), data_type, is_ids)
        })
    }

    fn key(&mut self, place: usize, key: &Compiled) -> Expr {
        let data_type = key.data_type();
        let is_text = matches!(data_type, DataType::Utf8 | DataType::Binary);
        let is_ids = key.column().is_some_and(|column| self.is_ids(column));
        match key {
            Compiled::Kernel(expr) if is_ids || !is_text && refusal(expr).is_none() => {
                self.rewrite(expr)
            }
            _ => {
                let feed = if is_text { Feed::KeyIds(place) } else { Feed::Key(place) };
                Expr::column(self.feed(feed, data_type, is_text), data_type.clone())
            }
        }
    }

    fn argument(&mut self, place: usize, argument: &Compiled) -> Expr {
        match argument {
            Compiled::Kernel(expr) if argument.column().is_some() || refusal(expr).is_none() => {
                self.rewrite(expr)
            }
            _ => {
                let data_type = argument.data_type();
                Expr::column(self.feed(Feed::Argument(place), data_type, false), data_type.clone())
            }
        }
    }
}
