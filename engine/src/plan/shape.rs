//! The plan of a chain: which columns to decode and how, every expression compiled.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;
use pelton_kernels::cpu::aggregate::{AggregateSpec, is_supported};
use pelton_kernels::cpu::keys::is_key_type;
use pelton_kernels::expr::Expr as Kernel;

use super::compile::{Columns, Compiler};
use super::expr::Compiled;
use super::functions::window;
use super::inputs::{Inputs, added, has_ids, source_columns};
use super::lower::{self, Aggregated, Chain, Grouping, Key, Step, Window};
use super::types::sql_name;
use super::windows::{closes, is_event_time};
use super::{
    Aggregate, Derive, First, GroupKey, Groups, OrderBy, Output, Plan, SessionKey, Shape,
    Watermark, WindowKey,
};
use crate::batch::Encoding;
use crate::job::spec::{DedupSpec, JobSpec, LateRule, SinkOf, SourceSpec};

/// Compiles a chain that its mode allows, and those below it.
pub fn assemble(chain: Chain, job: &JobSpec, compiler: &Compiler) -> Result<Plan> {
    let mut plans = Vec::new();
    level(chain, job, compiler, None, &mut plans)?;
    let mut above = None;
    while let Some(mut plan) = plans.pop() {
        plan.above = above.map(Arc::new);
        above = Some(plan);
    }
    let mut plan = above.expect("a chain makes a plan");
    plan.fingerprint = super::identity::fingerprint(&plan);
    Ok(plan)
}

/// Adds the plans of a chain, from the lowest up. `reads`: the source's columns that the chain above
/// reads through this one.
fn level(
    mut chain: Chain,
    job: &JobSpec,
    compiler: &Compiler,
    reads: Option<Vec<bool>>,
    plans: &mut Vec<Plan>,
) -> Result<()> {
    let source = &job.source;
    let keeps_late = job.sinks.iter().any(|sink| sink.of == SinkOf::Late);
    if let Some(mut below) = chain.below.take() {
        let reads = below.first.is_some().then(|| source_columns(&chain, source));
        if let Some(groups) = &mut below.groups {
            window_first(groups, &mut below.having, &mut below.columns, &mut below.order_by);
        }
        level(below.as_ref().clone(), job, compiler, reads, plans)?;
        chain.below = Some(below);
    }
    if let Some(groups) = &mut chain.groups {
        window_first(groups, &mut chain.having, &mut chain.columns, &mut chain.order_by);
    }
    let inputs = match plans.last() {
        Some(below) => Inputs::below(below),
        None if keeps_late => Inputs::of(&chain, source, Some(&vec![true; source.schema.len()])),
        None => Inputs::of(&chain, source, reads.as_deref()),
    };
    let ground = plans.last();
    let added = (0..chain.steps.len()).map(|n| added(&chain, n)).collect();
    let assembler =
        Assembler { job, source, compiler, inputs: &inputs, chain: &chain, ground, added };
    let (below, above) = assembler.split_filters(chain.filters.clone());
    let filter_below = assembler.filter(below)?;
    let filter_above = assembler.filter(above)?;
    let derive = (0..chain.steps.len()).map(|n| assembler.step(n, &chain));
    let derive = derive.collect::<Result<Vec<_>>>()?;
    let rows = assembler.row_columns(&chain.steps);
    let (shape, output) = match (&chain.groups, &chain.first) {
        (Some(grouping), _) => {
            let groups = assembler.groups(grouping, &rows)?;
            let output = assembler.output(&chain, &group_columns(grouping))?;
            (Shape::Groups(groups), output)
        }
        (None, Some(dedup)) => assembler.first(dedup, &rows)?,
        (None, None) => assembler.rows(&chain, &rows)?,
    };
    let mut plan = Plan {
        input_names: inputs.names(source, ground),
        event_time: assembler.event_time(),
        watermark: source.watermark.as_ref().map(|w| Watermark {
            delay_us: micros(w.delay),
            late: w.late,
            max_future_skew_us: w.max_future_skew.map(micros),
        }),
        late_rows: (keeps_late && ground.is_none()).then(|| inputs.late_rows(source)),
        input: inputs.columns.clone(),
        filter_below,
        filter_above,
        derive,
        shape,
        output,
        above: None,
        fed_by_state: ground.is_some(),
        mode: job.query.mode,
        fingerprint: String::new(),
    };
    plan.mark_filters();
    plans.push(plan);
    Ok(())
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Puts windows and sessions first among the keys, so that groups in the order of their keys are in
/// the order of their windows; every reference to a group's column follows.
fn window_first(
    groups: &mut Grouping,
    having: &mut [Expr],
    columns: &mut [(String, Expr)],
    order_by: &mut [lower::SortKey],
) {
    let mut order: Vec<usize> = (0..groups.keys.len()).collect();
    order.sort_by_key(|&at| groups.keys[at].window.is_none());
    let moved = |index: usize| order.iter().position(|&at| at == index).unwrap_or(index);
    let exprs = having.iter_mut().chain(columns.iter_mut().map(|(_, expr)| expr));
    for expr in exprs.chain(order_by.iter_mut().map(|key| &mut key.expr)) {
        lower::renumber_groups(expr, &moved);
    }
    let mut keys: Vec<Option<Key>> = groups.keys.drain(..).map(Some).collect();
    groups.keys.extend(order.iter().map(|&at| keys[at].take().expect("each stands once")));
}

pub(super) struct Assembler<'a> {
    pub(super) job: &'a JobSpec,
    source: &'a SourceSpec,
    pub(super) compiler: &'a Compiler,
    pub(super) inputs: &'a Inputs,
    chain: &'a Chain,
    /// The plan whose rows are read; none: the source's.
    ground: Option<&'a Plan>,
    /// By step: the columns of its static side that its rows have.
    pub(super) added: Vec<Vec<usize>>,
}

impl Assembler<'_> {
    fn event_time(&self) -> Option<usize> {
        let watermark = self.source.watermark.as_ref()?;
        if let Some(below) = self.ground {
            let Shape::First(_) = &below.shape else { return None };
            return below.output.schema.index_of(&watermark.column).ok();
        }
        let index = self.source.schema.iter().position(|c| c.name == watermark.column)?;
        self.inputs.find(index, Encoding::Values)
    }

    /// The input columns as expressions see them, then what the steps add.
    pub(super) fn row_columns(&self, steps: &[Step]) -> Columns {
        let mut columns = Columns::default();
        if let Some(below) = self.ground {
            for (index, field) in below.output.schema.fields().iter().enumerate() {
                let column = match below.shape {
                    Shape::Groups(_) => lower::group_column(index),
                    _ => Column::new(Some(self.source.name.as_str()), field.name()),
                };
                columns.push(column, field.data_type().clone(), index);
            }
            columns.names = self.inputs.names(self.source, self.ground);
        }
        for (index, input) in self.inputs.columns.iter().enumerate() {
            if input.encoding == Encoding::Values && self.ground.is_none() {
                let column = &self.source.schema[input.source];
                let name = Column::new(Some(self.source.name.as_str()), &column.name);
                columns.push(name, column.data_type.clone(), index);
            }
        }
        let mut index = self.inputs.columns.len();
        for (n, step) in steps.iter().enumerate() {
            match step {
                Step::Explode(explode) => {
                    columns.push(lower::element_column(), explode.element.clone(), index);
                    index += 1;
                }
                Step::Join(join) if join.kind.adds_columns() => {
                    index = self.push_side(&mut columns, n, join, index);
                }
                Step::Join(_) => {}
            }
        }
        columns
    }

    /// Conjuncts that do not read the event time, and those that do.
    fn split_filters(&self, filters: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
        filters.into_iter().partition(|conjunct| {
            let reads = conjunct.column_refs();
            !reads.into_iter().any(|c| is_event_time(&Expr::Column(c.clone()), self.source))
                && self.ground.is_none()
        })
    }

    fn filter(&self, conjuncts: Vec<Expr>) -> Result<Option<Compiled>> {
        let columns = self.row_columns(&[]);
        conjunction(conjuncts).map(|all| self.compiler.compile(&all, &columns)).transpose()
    }

    fn groups(&self, grouping: &Grouping, rows: &Columns) -> Result<Groups> {
        let mut arguments: Vec<(Expr, Compiled)> = Vec::new();
        let mut argument = |expr: &Expr| -> Result<usize> {
            if let Some(known) = arguments.iter().position(|(known, _)| known == expr) {
                return Ok(known);
            }
            arguments.push((expr.clone(), self.compiler.compile(expr, rows)?));
            Ok(arguments.len() - 1)
        };
        let mut aggregates = Vec::with_capacity(grouping.aggregates.len());
        for aggregate in &grouping.aggregates {
            let Aggregated { name, function, input, output, .. } = aggregate;
            let (name, input, output) = (name.clone(), input.clone(), output.clone());
            let spec = AggregateSpec { function: *function, input, output, name };
            if !is_supported(&spec) {
                let what = format!("{} over this type is not in this version", spec.name);
                return Err(DataFusionError::Plan(what));
            }
            aggregates.push(Aggregate {
                spec,
                argument: aggregate.argument.as_ref().map(&mut argument).transpose()?,
                filter: aggregate.filter.as_ref().map(&mut argument).transpose()?,
            });
        }
        let mut taken = Vec::new();
        let keys = grouping.keys.iter().map(|key| {
            if !is_key_type(&key.data_type) {
                let data_type = sql_name(&key.data_type);
                let what = format!("{}: {data_type} is no group key", key.name);
                return Err(DataFusionError::Plan(what));
            }
            let expr = self.key(key, rows, &mut taken)?;
            Ok(GroupKey { name: key.name.clone(), expr })
        });
        let keys = keys.collect::<Result<_>>()?;
        let first = grouping.keys.first();
        let time = match first.map(|key| (&key.window, &key.expr)) {
            Some((Some(Window::Sliding { size_us, slide_us, .. }), time))
                if size_us != slide_us =>
            {
                Some(argument(time)?)
            }
            _ => None,
        };
        let closes = first.is_some_and(|key| self.closes(key));
        Ok(Groups {
            keys,
            window: first.and_then(|key| window_key(key, time, closes)),
            session: first.and_then(|key| match key.window {
                Some(Window::Session { .. }) => Some(SessionKey { start: 0, end: 1, closes }),
                _ => None,
            }),
            event_time_key: grouping
                .keys
                .iter()
                .position(|key| key.window.is_none() && self.closes(key)),
            arguments: arguments.into_iter().map(|(_, compiled)| compiled).collect(),
            aggregates,
        })
    }

    fn closes(&self, key: &Key) -> bool {
        self.source.watermark.is_some() && closes(key, self.chain, self.source)
    }

    /// Deduplication's own columns: those that are read, then each row's clock where it counts.
    fn first(&self, dedup: &DedupSpec, rows: &Columns) -> Result<(Shape, Output)> {
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for input in &self.inputs.columns {
            let column = &self.source.schema[input.source];
            let name = Column::new(Some(self.source.name.as_str()), &column.name);
            columns.push(self.compiler.compile(&Expr::Column(name), rows)?);
            fields.push(Field::new(&column.name, column.data_type.clone(), true));
        }
        let place = |name: &String| fields.iter().position(|field| field.name() == name);
        let keys: Vec<usize> = dedup.columns.iter().filter_map(place).collect();
        if let Some(key) = keys.iter().find(|&&key| !is_key_type(fields[key].data_type())) {
            let data_type = sql_name(fields[*key].data_type());
            let what = format!("{}: {data_type} is no key", fields[*key].name());
            return Err(DataFusionError::Plan(what));
        }
        let watermark = self.source.watermark.as_ref();
        let within_us = watermark.filter(|_| dedup.within_watermark);
        let within_us = within_us.map(|w| micros(w.delay));
        let time = watermark.and_then(|watermark| place(&watermark.column));
        let time = time.filter(|time| within_us.is_some() || keys.contains(time));
        let by_row = watermark.is_some_and(|w| w.late == LateRule::Row) && within_us.is_some();
        let width = columns.len();
        let output = identity(&fields);
        if by_row {
            let time = time.expect("within a watermark there is one");
            fields.push(Field::new("clock", fields[time].data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let clock = by_row.then_some(width);
        Ok((Shape::First(First { columns, schema, keys, time, within_us, clock }), output))
    }

    /// `taken`: the columns of ids that an earlier key has.
    fn key(&self, key: &Key, rows: &Columns, taken: &mut Vec<usize>) -> Result<Compiled> {
        if let Some(Window::Sliding { slide_us, offset_us, .. }) = key.window {
            let start = window::start(key.expr.clone(), slide_us, offset_us);
            return self.compiler.compile(&start, rows);
        }
        if let Expr::Column(column) = &key.expr
            && column.relation.as_ref().is_some_and(|r| r.table() == self.source.name)
            && has_ids(&key.data_type)
            && self.ground.is_none()
        {
            let source = self.source.schema.iter().position(|c| c.name == column.name);
            if let Some(index) = source.and_then(|s| self.inputs.find(s, Encoding::Ids))
                && !taken.contains(&index)
            {
                taken.push(index);
                return Ok(Compiled::Kernel(Kernel::column(index, key.data_type.clone())));
            }
        }
        self.compiler.compile(&key.expr, rows)
    }

    /// A query without groups: SELECT is computed per row, and nothing after that.
    fn rows(&self, chain: &Chain, rows: &Columns) -> Result<(Shape, Output)> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        let hidden = chain.order_by.iter().enumerate();
        let hidden = hidden.map(|(index, key)| (format!("$order{index}"), &key.expr));
        let all = chain.columns.iter().map(|(name, expr)| (name.clone(), expr));
        for (name, expr) in all.chain(hidden) {
            let compiled = self.compiler.compile(expr, rows)?;
            fields.push(Field::new(name, compiled.data_type().clone(), true));
            columns.push(compiled);
        }
        let copy = |index: usize| {
            Compiled::Kernel(Kernel::column(index, fields[index].data_type().clone()))
        };
        let width = chain.columns.len();
        let output = Output {
            having: None,
            columns: (0..width).map(copy).collect(),
            hidden: (width..fields.len()).map(copy).collect(),
            schema: Arc::new(Schema::new(fields[..width].to_vec())),
            order_by: chain
                .order_by
                .iter()
                .enumerate()
                .map(|(index, key)| OrderBy {
                    column: width + index,
                    descending: key.descending,
                    nulls_first: key.nulls_first,
                })
                .collect(),
            limit: chain.limit,
        };
        let schema = Arc::new(Schema::new(fields.clone()));
        Ok((Shape::Rows { columns, schema }, output))
    }

    /// What leaves of finished groups.
    fn output(&self, chain: &Chain, groups: &Columns) -> Result<Output> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for (name, expr) in &chain.columns {
            let compiled = self.compiler.compile(expr, groups)?;
            fields.push(Field::new(name, compiled.data_type().clone(), true));
            columns.push(compiled);
        }
        let mut hidden = Vec::new();
        let mut order_by = Vec::new();
        for key in &chain.order_by {
            let visible = chain.columns.iter().position(|(_, expr)| *expr == key.expr);
            let column = match visible {
                Some(column) => column,
                None => {
                    hidden.push(self.compiler.compile(&key.expr, groups)?);
                    columns.len() + hidden.len() - 1
                }
            };
            let (descending, nulls_first) = (key.descending, key.nulls_first);
            order_by.push(OrderBy { column, descending, nulls_first });
        }
        let having = conjunction(chain.having.clone());
        Ok(Output {
            having: having.map(|all| self.compiler.compile(&all, groups)).transpose()?,
            columns,
            hidden,
            schema: Arc::new(Schema::new(fields)),
            order_by,
            limit: chain.limit,
        })
    }
}

/// The window of a key, which a row's latest start is.
fn window_key(key: &Key, time: Option<usize>, closes: bool) -> Option<WindowKey> {
    let (size_us, slide_us, offset_us) = match key.window {
        Some(Window::Sliding { size_us, slide_us, offset_us }) => (size_us, slide_us, offset_us),
        Some(Window::Start { size_us }) => (size_us, size_us, 0),
        _ => return None,
    };
    Some(WindowKey { key: 0, size_us, slide_us, offset_us, time, closes })
}

/// Columns that leave as they are.
fn identity(fields: &[Field]) -> Output {
    let copy = |(index, field): (usize, &Field)| {
        Compiled::Kernel(Kernel::column(index, field.data_type().clone()))
    };
    Output {
        having: None,
        columns: fields.iter().enumerate().map(copy).collect(),
        hidden: Vec::new(),
        schema: Arc::new(Schema::new(fields.to_vec())),
        order_by: Vec::new(),
        limit: None,
    }
}

fn group_columns(grouping: &Grouping) -> Columns {
    let mut columns = Columns::default();
    let keys = grouping.keys.iter().map(|key| &key.data_type);
    let types = keys.chain(grouping.aggregates.iter().map(|a| &a.output));
    for (index, data_type) in types.enumerate() {
        columns.push(lower::group_column(index), data_type.clone(), index);
    }
    let keys = grouping.keys.iter().map(|key| key.name.clone());
    columns.names = keys.chain(grouping.aggregates.iter().map(|a| a.name.clone())).collect();
    columns
}

impl Plan {
    /// A bad value in a column that WHERE reads rejects its row before WHERE is asked.
    fn mark_filters(&mut self) {
        let filters = self.filter_below.iter().chain(&self.filter_above);
        let derived = self.derive.iter().filter_map(Derive::filter);
        let read: Vec<usize> = filters.chain(derived).flat_map(Compiled::columns).collect();
        for index in read {
            if let Some(input) = self.input.get_mut(index) {
                input.in_filter = true;
            }
        }
    }
}
