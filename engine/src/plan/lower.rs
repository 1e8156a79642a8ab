//! The logical plan as chains: filters, explode, rows or groups, output.
//!
//! Projections are inlined: every expression of a [`Chain`] reads the source's columns, the exploded
//! elements ([`element_column`]), a static table's columns ([`joined_column`]) or, above an aggregate, the
//! groups' columns ([`GROUP`]). What is no chain is refused here with its reason. A chain may stand on
//! others: on the groups of a query in FROM, or on the rows that deduplication lets pass.
//!
//! UNION ALL makes several chains, arms, of one query: whatever stands above it is done to each of
//! them, so they differ in what they read alone, and groups of all arms are one state's.

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{
    Distinct, Expr, FetchType, Limit, LogicalPlan, SkipType, Sort, Union, Unnest,
};
use pelton_kernels::cpu::aggregate::AggregateFunction;

use super::compile::plain;
use super::grouping;
pub use super::inline::{
    GROUP, MARK, element_column, element_relation, group_column, inline, inline_all, joined_column,
    joined_relation, mark_column, reads, renumber_groups, unaliased,
};
use super::join::{self, Joined};
use super::meet::Meeting;
use super::sql::rewrite::AGAIN;
use super::windows::windows_in_place;
use crate::job::spec::{DedupSpec, SourceSpec, TableSpec, WatermarkSpec};

/// A query as one chain of steps, in the order in which rows meet them.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The source that it reads, or the first one below it.
    pub source: usize,
    /// What this one reads in the source's place: the groups below (as [`GROUP`]), or the rows that
    /// deduplication passes (under the source's name). Several are arms of one query.
    pub below: Vec<Chain>,
    /// Two streams that meet, read in the source's place.
    pub meeting: Option<Box<Meeting>>,
    /// Deduplication of the source's rows, and nothing else.
    pub first: Option<DedupSpec>,
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

/// A chain in the making, and what the plan's columns are made of.
pub struct Arm {
    pub chain: Chain,
    pub made_of: Vec<Expr>,
}

/// What a query can read.
#[derive(Clone, Copy)]
pub struct Relations<'a> {
    pub sources: &'a [SourceSpec],
    /// The static ones.
    pub tables: &'a [TableSpec],
}

impl Relations<'_> {
    pub fn is_static(&self, table: &str) -> bool {
        self.tables.iter().any(|known| known.name == table)
    }
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
    /// Only a part of the window is a key: the watermark does not close it.
    pub in_part: bool,
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

/// The arms of a query; all but those of UNION ALL have one.
pub fn lower(plan: &LogicalPlan, relations: Relations) -> Result<Vec<Chain>, Refused> {
    let name = |field: &FieldRef| field.name().trim_end_matches(AGAIN).to_string();
    let names: Vec<String> = plan.schema().fields().iter().map(name).collect();
    let chain = |Arm { mut chain, made_of }: Arm| {
        chain.columns = names.iter().cloned().zip(made_of).collect();
        chain.name_keys();
        chain.settle();
        chain
    };
    Ok(step(plan, relations)?.into_iter().map(chain).collect())
}

/// The arms of a plan, and what its columns are made of in each.
pub fn step(plan: &LogicalPlan, relations: Relations) -> Result<Vec<Arm>, Refused> {
    let each = |input, add: &dyn Fn(&mut Arm) -> Result<(), Refused>| {
        let mut arms = step(input, relations)?;
        arms.iter_mut().try_for_each(add)?;
        Ok(arms)
    };
    match plan {
        LogicalPlan::TableScan(scan) if relations.is_static(scan.table_name.table()) => {
            let what = format!("the query reads no stream: {} is static", scan.table_name.table());
            refuse(what, "read a source's table, and join it with this one")
        }
        LogicalPlan::TableScan(scan) => {
            let columns = scan.projected_schema.columns();
            let made_of = columns.into_iter().map(Expr::Column).collect();
            Ok(vec![Arm { chain: Chain::of(scan.table_name.table(), relations), made_of }])
        }
        LogicalPlan::SubqueryAlias(alias) => step(&alias.input, relations),
        LogicalPlan::Projection(projection) => each(&projection.input, &|arm| {
            let schema = projection.input.schema();
            let made = inline_all(&projection.expr, schema, &arm.made_of)?;
            let placed = made.into_iter().map(|expr| windows_in_place(expr, &mut arm.chain));
            arm.made_of = placed.collect::<Result<_, _>>()?;
            Ok(())
        }),
        LogicalPlan::Filter(filter) => each(&filter.input, &|arm| {
            if arm.chain.limit.is_some() {
                return refuse("a filter above LIMIT is not in this version", "filter before it");
            }
            let predicate = inline(&filter.predicate, filter.input.schema(), &arm.made_of)?;
            arm.chain.filter(predicate);
            Ok(())
        }),
        LogicalPlan::Unnest(unnest) => {
            let mut arms = rows(&unnest.input, "explode", relations)?;
            arms.iter_mut().try_for_each(|arm| explode(unnest, arm))?;
            Ok(arms)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let mut arms = rows(&aggregate.input, "an aggregate", relations)?;
            arms.iter_mut().try_for_each(|arm| grouping::group(aggregate, arm))?;
            Ok(arms)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let mut arms = rows(input, "DISTINCT", relations)?;
            arms.iter_mut().for_each(|arm| grouping::distinct(input, arm));
            Ok(arms)
        }
        LogicalPlan::Sort(sort) => each(&sort.input, &|arm| order(sort, arm)),
        LogicalPlan::Limit(limit) => each(&limit.input, &|arm| cut(limit, arm)),
        LogicalPlan::Join(join) => join::lower(join, relations),
        LogicalPlan::Union(node) => union(node, relations),
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
                None => match &mut self.meeting {
                    None => self.filters.push(conjunct),
                    Some(meeting) => {
                        // What another kind of join let stay above may now go below.
                        let narrowed = meeting.narrow(&conjunct);
                        let above =
                            if narrowed { std::mem::take(&mut self.filters) } else { vec![] };
                        let all = above.into_iter().chain([conjunct]);
                        self.filters.extend(all.filter_map(|conjunct| meeting.filter(conjunct)));
                    }
                },
                Some((_, Step::Explode(explode))) => explode.filters.push(conjunct),
                Some((at, Step::Join(join))) => {
                    let of_row = join.filter(at, conjunct);
                    of_row.into_iter().for_each(|conjunct| self.filter(conjunct));
                }
            }
        }
    }

    /// The rows of a source, or what deduplication leaves of them.
    fn of(table: &str, relations: Relations) -> Chain {
        let source = relations.sources.iter().position(|source| source.name == table);
        let source = source.expect("the binder knows sources and static tables alone");
        let first = relations.sources[source].dedup.clone();
        let dedup = |first| Chain { source, first: Some(first), ..Chain::default() };
        Chain { source, below: first.map(dedup).into_iter().collect(), ..Chain::default() }
    }

    /// The chains that this one stands on.
    fn grounds(&self) -> impl Iterator<Item = &Chain> {
        let sides = self.meeting.iter().flat_map(|meeting| &meeting.sides);
        self.below.iter().chain(sides.flat_map(|side| &side.arms))
    }

    /// This chain and all those below it.
    pub fn levels(&self) -> Vec<&Chain> {
        std::iter::once(self).chain(self.grounds().flat_map(Chain::levels)).collect()
    }

    /// How many aggregates a row goes through at most.
    pub fn aggregates(&self) -> usize {
        let below = self.grounds().map(Chain::aggregates).max().unwrap_or(0);
        below + usize::from(self.groups.is_some())
    }

    /// Whether its rows are groups of a query below.
    pub fn is_grouped(&self) -> bool {
        self.below.iter().any(|below| below.groups.is_some())
    }

    /// Once all filters are where they belong.
    pub fn settle(&mut self) {
        self.below.iter_mut().for_each(Chain::settle);
        self.filter_keys();
        if let Some(meeting) = &mut self.meeting {
            meeting.settle();
        }
    }

    /// What HAVING asks of keys alone is asked of the rows, as Spark does: rows that it drops move no
    /// watermark and make no group.
    fn filter_keys(&mut self) {
        let Some(groups) = &self.groups else { return };
        if !self.steps.is_empty() || self.meeting.is_some() {
            return;
        }
        let key = |column: &Column| {
            let index: usize = column.name.parse().ok()?;
            let key = groups.keys.get(index)?;
            (key.window.is_none() && !key.in_part).then_some(&key.expr)
        };
        for conjunct in std::mem::take(&mut self.having) {
            let read = conjunct.column_refs();
            if read.is_empty() || read.iter().any(|column| key(column).is_none()) {
                self.having.push(conjunct);
                continue;
            }
            let of_rows = conjunct.transform_up(|node| match &node {
                Expr::Column(column) => {
                    let key = key(column).expect("all that it reads are keys");
                    Ok(Transformed::yes(key.clone()))
                }
                _ => Ok(Transformed::no(node)),
            });
            self.filters.push(of_rows.expect("the rule returns no error").data);
        }
    }

    /// The watermark of the rows that it reads: of the first source below that has one.
    pub fn watermark<'a>(&self, sources: &'a [SourceSpec]) -> Option<&'a WatermarkSpec> {
        let own = || sources[self.source].watermark.as_ref();
        let below = self.grounds().find_map(|chain| chain.watermark(sources));
        if self.grounds().next().is_some() { below } else { own() }
    }

    pub fn nothing_above(&self, what: &str) -> Result<(), Refused> {
        if !self.order_by.is_empty() || self.limit.is_some() {
            let what = format!("{what} above ORDER BY or LIMIT is not in this version");
            return refuse(what, "order and cut the outermost query");
        }
        Ok(())
    }
}

/// What comes next reads the groups of these arms: they stand below a new one from here on.
fn stacked(mut arms: Vec<Arm>) -> Vec<Arm> {
    for Arm { chain, .. } in &mut arms {
        let groups = chain.groups.as_ref().expect("only groups are stacked upon");
        let keys = groups.keys.iter().map(|key| &key.name);
        let names = keys.chain(groups.aggregates.iter().map(|aggregate| &aggregate.name));
        let column =
            |(index, name): (usize, &String)| (name.clone(), Expr::Column(group_column(index)));
        chain.columns = names.enumerate().map(column).collect();
    }
    let made_of = arms[0].made_of.clone();
    let below: Vec<Chain> = arms.into_iter().map(|arm| arm.chain).collect();
    let chain = Chain { source: below[0].source, below, ..Chain::default() };
    vec![Arm { chain, made_of }]
}

/// The arms of a plan whose rows something more is done with: `what`. Finished groups are rows like
/// any others, of a level below.
pub fn rows(input: &LogicalPlan, what: &str, relations: Relations) -> Result<Vec<Arm>, Refused> {
    let arms = step(input, relations)?;
    arms.iter().try_for_each(|arm| arm.chain.nothing_above(what))?;
    Ok(if arms[0].chain.groups.is_some() { stacked(arms) } else { arms })
}

/// UNION ALL: the arms of all inputs.
fn union(node: &Union, relations: Relations) -> Result<Vec<Arm>, Refused> {
    let mut all = Vec::new();
    for input in &node.inputs {
        all.extend(rows(input, "UNION ALL", relations)?);
    }
    Ok(all)
}

fn explode(unnest: &Unnest, arm: &mut Arm) -> Result<(), Refused> {
    let Arm { chain, made_of: columns } = arm;
    let ([(list, _)], []) =
        (unnest.list_type_columns.as_slice(), unnest.struct_type_columns.as_slice())
    else {
        return refuse("explode takes one array", "explode one array");
    };
    let output = unnest.dependency_indices.iter().position(|dependency| dependency == list);
    let Some(output) = output else {
        return refuse("explode takes one array", "explode one array");
    };
    let element = plain(unnest.schema.field(output).data_type());
    let exploded = Exploded { list: columns[*list].clone(), element, filters: Vec::new() };
    let own = element_column(chain.steps.len());
    chain.steps.push(Step::Explode(exploded));
    let made_of = unnest.dependency_indices.iter().map(|dependency| {
        if dependency == list { Expr::Column(own.clone()) } else { columns[*dependency].clone() }
    });
    arm.made_of = made_of.collect();
    Ok(())
}

fn order(sort: &Sort, arm: &mut Arm) -> Result<(), Refused> {
    let Arm { chain, made_of } = arm;
    if chain.limit.is_some() {
        return refuse("ORDER BY above LIMIT is not in this version", "order before the LIMIT");
    }
    let schema = sort.input.schema();
    chain.order_by.clear();
    for key in &sort.expr {
        let expr = inline(&key.expr, schema, made_of)?;
        let sort = SortKey { expr, descending: !key.asc, nulls_first: key.nulls_first };
        chain.order_by.push(sort);
    }
    Ok(())
}

fn cut(limit: &Limit, arm: &mut Arm) -> Result<(), Refused> {
    let skipped = !matches!(limit.get_skip_type()?, SkipType::Literal(0));
    let FetchType::Literal(fetch) = limit.get_fetch_type()? else {
        return refuse("LIMIT is not a number", "write LIMIT 10");
    };
    if skipped {
        return refuse("OFFSET is not in this version", "leave it out");
    }
    arm.chain.limit = match (arm.chain.limit, fetch) {
        (Some(inner), Some(outer)) => Some(inner.min(outer)),
        (inner, outer) => inner.or(outer),
    };
    Ok(())
}
