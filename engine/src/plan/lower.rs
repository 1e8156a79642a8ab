//! The logical plan as one chain: filters, explode, rows or groups, output.
//!
//! Projections are inlined: every expression of a [`Chain`] reads the source's columns, the exploded
//! element ([`ELEMENT`]), a static table's columns ([`joined_column`]) or, above an aggregate, the
//! groups' columns ([`GROUP`]). What is no chain is refused here with its reason. A chain may stand on another: on the groups of a query in FROM, or
//! on the rows that deduplication lets pass.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{
    Aggregate, Distinct, Expr, FetchType, Limit, LogicalPlan, SkipType, Sort, Unnest, lit,
};
use pelton_kernels::cpu::aggregate::AggregateFunction;

use super::aggregated::aggregate_of;
use super::functions::window;
use super::join::{self, Joined};
use super::windows::{field_in_place, window_of_below, window_time};
use super::words::logical;
use crate::job::spec::{DedupSpec, TableSpec};

/// Relation of the exploded element's column.
pub const ELEMENT: &str = "$element";
/// Relation of the groups' columns, which are named by their number: keys, then aggregates.
pub const GROUP: &str = "$group";

/// A query as one chain of steps, in the order in which rows meet them.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// What this one reads in the source's place: the groups below (as [`GROUP`]), or the rows that
    /// deduplication passes (under the source's name).
    pub below: Option<Box<Chain>>,
    /// Deduplication of the source's rows, and nothing else.
    pub first: Option<DedupSpec>,
    /// The static tables' names.
    pub tables: Vec<String>,
    /// WHERE below every step, in conjuncts, over the source's columns.
    pub filters: Vec<Expr>,
    pub steps: Vec<Step>,
    pub groups: Option<Grouping>,
    /// Over the groups' columns.
    pub having: Vec<Expr>,
    pub columns: Vec<(String, Expr)>,
    pub order_by: Vec<SortKey>,
    pub limit: Option<usize>,
}

/// What makes rows of rows, before they are grouped or leave.
#[derive(Clone, Debug)]
pub enum Step {
    Explode(Exploded),
    Join(Joined),
}

#[derive(Clone, Debug)]
pub struct Exploded {
    pub list: Expr,
    pub element: DataType,
    /// WHERE above the explode that reads the element.
    pub filters: Vec<Expr>,
}

#[derive(Clone, Debug, Default)]
pub struct Grouping {
    pub keys: Vec<Key>,
    pub aggregates: Vec<Aggregated>,
    /// DISTINCT rather than GROUP BY.
    pub distinct: bool,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    /// The key; for a window the time.
    pub expr: Expr,
    pub window: Option<Window>,
    pub data_type: DataType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Of one size, a new one each slide.
    Sliding {
        size_us: i64,
        slide_us: i64,
        offset_us: i64,
    },
    /// The key is the start of a window of this size already: that of a query below.
    Start {
        size_us: i64,
    },
    /// A row's own session; its gap in microseconds. The key after it is the session's end.
    Session {
        gap: Box<Expr>,
    },
    SessionEnd,
}

#[derive(Clone, Debug)]
pub struct Aggregated {
    pub name: String,
    pub function: AggregateFunction,
    pub argument: Option<Expr>,
    pub filter: Option<Expr>,
    pub input: Option<DataType>,
    pub output: DataType,
}

#[derive(Clone, Debug)]
pub struct SortKey {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

/// Why a plan is no chain: what and what to do.
#[derive(Debug)]
pub struct Refused {
    pub what: String,
    pub fix: &'static str,
}

impl From<DataFusionError> for Refused {
    fn from(error: DataFusionError) -> Self {
        Refused { what: error.find_root().strip_backtrace(), fix: "" }
    }
}

pub fn refuse<T>(what: impl Into<String>, fix: &'static str) -> Result<T, Refused> {
    Err(Refused { what: what.into(), fix })
}

/// `tables`: the static ones. `dedup`: of the source, before all that the query does.
pub fn lower(
    plan: &LogicalPlan,
    tables: &[TableSpec],
    dedup: Option<&DedupSpec>,
) -> Result<Chain, Refused> {
    let tables = tables.iter().map(|table| table.name.clone()).collect();
    let mut chain = Chain { tables, ..Chain::default() };
    if let Some(dedup) = dedup {
        let first = Chain { first: Some(dedup.clone()), ..Chain::default() };
        chain.below = Some(Box::new(first));
    }
    let columns = step(plan, &mut chain)?;
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    chain.columns = names.zip(columns).collect();
    chain.name_keys();
    Ok(chain)
}

/// Adds a plan's steps to the chain; what its columns are made of.
pub fn step(plan: &LogicalPlan, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    match plan {
        LogicalPlan::TableScan(scan) if chain.is_static(scan.table_name.table()) => {
            let what = format!("the query reads no stream: {} is static", scan.table_name.table());
            refuse(what, "read the source's table, and join it with this one")
        }
        LogicalPlan::TableScan(scan) => {
            let columns = scan.projected_schema.columns();
            Ok(columns.into_iter().map(Expr::Column).collect())
        }
        LogicalPlan::SubqueryAlias(alias) => step(&alias.input, chain),
        LogicalPlan::Projection(projection) => {
            let columns = step(&projection.input, chain)?;
            inline_all(&projection.expr, projection.input.schema(), &columns)
        }
        LogicalPlan::Filter(filter) => {
            let columns = step(&filter.input, chain)?;
            if chain.limit.is_some() {
                return refuse("a filter above LIMIT is not in this version", "filter before it");
            }
            let predicate = inline(&filter.predicate, filter.input.schema(), &columns)?;
            chain.filter(predicate);
            Ok(columns)
        }
        LogicalPlan::Unnest(unnest) => explode(unnest, chain),
        LogicalPlan::Aggregate(aggregate) => group(aggregate, chain),
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input, chain),
        LogicalPlan::Sort(sort) => order(sort, chain),
        LogicalPlan::Limit(limit) => cut(limit, chain),
        LogicalPlan::Join(join) => join::lower(join, chain),
        LogicalPlan::Union(_) => refuse("UNION is not in this version", "write one SELECT"),
        LogicalPlan::Window(_) => refuse(
            "Window function is not supported on streaming DataFrames/Datasets",
            "group by window(…) instead",
        ),
        other => {
            let name = other.display().to_string();
            let name = name.split([':', ' ']).next().unwrap_or_default().to_string();
            refuse(format!("{name} is not in this version"), "write one SELECT over the source")
        }
    }
}

impl Chain {
    /// A key that leaves under a name has that name everywhere.
    fn name_keys(&mut self) {
        let Some(groups) = &mut self.groups else { return };
        for (index, key) in groups.keys.iter_mut().enumerate() {
            let own = Expr::Column(group_column(index));
            if let Some((name, _)) = self.columns.iter().find(|(_, expr)| *expr == own)
                && key.window.is_none()
            {
                key.name.clone_from(name);
            }
        }
    }

    /// WHERE or HAVING: each conjunct stands where its last column comes to be.
    pub fn filter(&mut self, predicate: Expr) {
        for conjunct in split_conjunction_owned(predicate) {
            if self.groups.is_some() {
                self.having.push(conjunct);
                continue;
            }
            let mut steps = self.steps.iter().enumerate();
            let step = steps.rposition(|(n, step)| step.is_read(n, &conjunct));
            match step.map(|at| (at, &mut self.steps[at])) {
                None => self.filters.push(conjunct),
                Some((_, Step::Explode(explode))) => explode.filters.push(conjunct),
                Some((at, Step::Join(join))) => join.filter(at, conjunct),
            }
        }
    }

    pub fn is_static(&self, table: &str) -> bool {
        self.tables.iter().any(|known| known == table)
    }

    /// The one explode, where it is the only step.
    pub fn only_explode(&self) -> Option<&Exploded> {
        match self.steps.as_slice() {
            [Step::Explode(explode)] => Some(explode),
            _ => None,
        }
    }

    /// What comes next reads the groups of this chain: it stands below a new one from here on.
    fn stack(&mut self) {
        let mut below = std::mem::take(self);
        let groups = below.groups.as_ref().expect("only groups are stacked upon");
        let keys = groups.keys.iter().map(|key| &key.name);
        let names = keys.chain(groups.aggregates.iter().map(|aggregate| &aggregate.name));
        let column =
            |(index, name): (usize, &String)| (name.clone(), Expr::Column(group_column(index)));
        below.columns = names.enumerate().map(column).collect();
        self.tables.clone_from(&below.tables);
        self.below = Some(Box::new(below));
    }

    /// This chain and those below it.
    pub fn levels(&self) -> impl Iterator<Item = &Chain> {
        std::iter::successors(Some(self), |chain| chain.below.as_deref())
    }

    pub fn nothing_above(&self, what: &str) -> Result<(), Refused> {
        if !self.order_by.is_empty() || self.limit.is_some() {
            let what = format!("{what} above ORDER BY or LIMIT is not in this version");
            return refuse(what, "order and cut the outermost query");
        }
        Ok(())
    }
}

pub fn reads(expr: &Expr, relation: &str) -> bool {
    expr.column_refs().iter().any(|c| c.relation.as_ref().is_some_and(|r| r.table() == relation))
}

fn explode(unnest: &Unnest, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    let columns = step(&unnest.input, chain)?;
    chain.nothing_above("explode")?;
    let exploded = chain.steps.iter().any(|step| matches!(step, Step::Explode(_)));
    if chain.groups.is_some() || exploded {
        return refuse("only one explode below the aggregate is in this version", "explode once");
    }
    let ([(list, _)], []) =
        (unnest.list_type_columns.as_slice(), unnest.struct_type_columns.as_slice())
    else {
        return refuse("explode takes one array", "explode one array");
    };
    let output = unnest.dependency_indices.iter().position(|dependency| dependency == list);
    let Some(output) = output else {
        return refuse("explode takes one array", "explode one array");
    };
    let element = unnest.schema.field(output).data_type().clone();
    let exploded = Exploded { list: columns[*list].clone(), element, filters: Vec::new() };
    chain.steps.push(Step::Explode(exploded));
    let made_of = unnest.dependency_indices.iter().map(|dependency| {
        if dependency == list {
            Expr::Column(element_column())
        } else {
            columns[*dependency].clone()
        }
    });
    Ok(made_of.collect())
}

fn group(node: &Aggregate, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    let columns = step(&node.input, chain)?;
    chain.nothing_above("an aggregate")?;
    if chain.groups.is_some() {
        chain.stack();
    }
    let schema = node.input.schema();
    let mut grouping = Grouping::default();
    for (index, key) in node.group_expr.iter().enumerate() {
        if matches!(key, Expr::GroupingSet(_)) {
            return refuse("GROUPING SETS are not in this version", "group by the columns");
        }
        let expr = inline(key, schema, &columns)?;
        grouping.push_key(expr, node.schema.field(index).data_type());
    }
    for (index, aggregated) in node.aggr_expr.iter().enumerate() {
        let field = node.schema.field(node.group_expr.len() + index);
        let output = field.data_type().clone();
        grouping.aggregates.push(aggregate_of(aggregated, output, schema, &columns)?);
    }
    let made_of = grouping.columns();
    chain.groups = Some(grouping);
    Ok(made_of)
}

impl Grouping {
    fn push_key(&mut self, expr: Expr, data_type: &DataType) {
        let time_type = match data_type {
            DataType::Struct(fields) => fields.first().map(|field| field.data_type().clone()),
            _ => None,
        };
        let time_type = time_type.unwrap_or_else(|| data_type.clone());
        let key = |name: &str, expr, window| Key {
            name: name.into(),
            expr,
            window: Some(window),
            data_type: time_type.clone(),
        };
        if let Some((time, size_us, slide_us, offset_us)) = window::parts(&expr) {
            let window = Window::Sliding { size_us, slide_us, offset_us };
            self.keys.push(key("window", window_time(time), window));
        } else if let Some((time, gap)) = window::session_parts(&expr) {
            let (time, gap) = (window_time(time), Box::new(gap.clone()));
            let end = window::shift_by(time.clone(), gap.as_ref().clone());
            self.keys.push(key("session_window", time, Window::Session { gap }));
            self.keys.push(key("session_window.end", end, Window::SessionEnd));
        } else if let Some((start, size_us)) = window_of_below(&expr) {
            self.keys.push(key("window", start, Window::Start { size_us }));
        } else {
            let name = logical(&expr, &[]);
            self.keys.push(Key { name, expr, window: None, data_type: data_type.clone() });
        }
    }

    /// What the columns of an aggregate are made of: a window is a struct of its start and end.
    fn columns(&self) -> Vec<Expr> {
        let both = |start: Expr, end: Expr| {
            let args = vec![lit("start"), start, lit("end"), end];
            let udf = datafusion_functions::core::named_struct();
            Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))
        };
        let keys = self.keys.iter().enumerate().filter_map(|(index, key)| {
            let own = Expr::Column(group_column(index));
            Some(match key.window {
                None => own,
                Some(Window::Sliding { size_us, .. } | Window::Start { size_us }) => {
                    both(own.clone(), window::shift(own, size_us))
                }
                Some(Window::Session { .. }) => both(own, Expr::Column(group_column(index + 1))),
                Some(Window::SessionEnd) => return None,
            })
        });
        let aggregates = (0..self.aggregates.len())
            .map(|index| Expr::Column(group_column(self.keys.len() + index)));
        keys.chain(aggregates).collect()
    }
}

/// DISTINCT is a GROUP BY of every column.
fn distinct(input: &LogicalPlan, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    let columns = step(input, chain)?;
    chain.nothing_above("DISTINCT")?;
    if chain.groups.is_some() {
        chain.stack();
    }
    let mut grouping = Grouping { distinct: true, ..Grouping::default() };
    for (field, expr) in input.schema().fields().iter().zip(columns) {
        grouping.push_key(expr, field.data_type());
        let key = grouping.keys.last_mut().expect("it was just added");
        if key.window.is_none() {
            key.name.clone_from(field.name());
        }
    }
    let made_of = grouping.columns();
    chain.groups = Some(grouping);
    Ok(made_of)
}

fn order(sort: &Sort, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    let columns = step(&sort.input, chain)?;
    if chain.limit.is_some() {
        return refuse("ORDER BY above LIMIT is not in this version", "order before the LIMIT");
    }
    let schema = sort.input.schema();
    chain.order_by.clear();
    for key in &sort.expr {
        let expr = inline(&key.expr, schema, &columns)?;
        let sort = SortKey { expr, descending: !key.asc, nulls_first: key.nulls_first };
        chain.order_by.push(sort);
    }
    Ok(columns)
}

fn cut(limit: &Limit, chain: &mut Chain) -> Result<Vec<Expr>, Refused> {
    let columns = step(&limit.input, chain)?;
    let skipped = !matches!(limit.get_skip_type()?, SkipType::Literal(0));
    let FetchType::Literal(fetch) = limit.get_fetch_type()? else {
        return refuse("LIMIT is not a number", "write LIMIT 10");
    };
    if skipped {
        return refuse("OFFSET is not in this version", "leave it out");
    }
    chain.limit = match (chain.limit, fetch) {
        (Some(inner), Some(outer)) => Some(inner.min(outer)),
        (inner, outer) => inner.or(outer),
    };
    Ok(columns)
}

pub fn inline_all(
    exprs: &[Expr],
    schema: &DFSchema,
    columns: &[Expr],
) -> Result<Vec<Expr>, Refused> {
    exprs.iter().map(|expr| inline(expr, schema, columns)).collect()
}

/// The expression over what the columns below are made of; aliases are dropped, fields of a struct
/// that is made in place are taken from it.
pub fn inline(expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr, Refused> {
    let inlined = expr.clone().transform_up(|node| {
        let replaced = match &node {
            Expr::Column(column) => {
                let index = schema.index_of_column(column)?;
                columns[index].clone()
            }
            Expr::Alias(alias) => alias.expr.as_ref().clone(),
            Expr::ScalarFunction(call) => match field_in_place(call) {
                Some(field) => field,
                None => return Ok(Transformed::no(node)),
            },
            _ => return Ok(Transformed::no(node)),
        };
        Ok(Transformed::yes(replaced))
    })?;
    Ok(inlined.data)
}

pub fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

pub fn element_column() -> Column {
    Column::new(Some(ELEMENT), "element")
}

/// Relation of the columns that the `n`-th step, a join, adds.
pub fn joined_relation(n: usize) -> String {
    format!("$join{n}")
}

/// A static table's column, named by its number.
pub fn joined_column(n: usize, index: usize) -> Column {
    Column::new(Some(joined_relation(n)), index.to_string())
}

pub fn group_column(index: usize) -> Column {
    Column::new(Some(GROUP), index.to_string())
}

/// Gives the groups' columns in an expression new numbers.
pub fn renumber_groups(expr: &mut Expr, moved: &impl Fn(usize) -> usize) {
    let taken = std::mem::replace(expr, lit(ScalarValue::Null));
    let renumbered = taken.transform_up(|node| match &node {
        Expr::Column(column) if column.relation.as_ref().is_some_and(|r| r.table() == GROUP) => {
            let index = column.name.parse().expect("groups' columns are named by their number");
            Ok(Transformed::yes(Expr::Column(group_column(moved(index)))))
        }
        _ => Ok(Transformed::no(node)),
    });
    *expr = renumbered.expect("the rule returns no error").data;
}
