//! The plan of one chain: every expression compiled.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;
use pelton_kernels::cpu::aggregate::{AggregateSpec, is_supported};
use pelton_kernels::cpu::keys::is_key_type;
use pelton_kernels::expr::Expr as Kernel;

use super::assemble::{Ground, micros};
use super::compile::{Columns, Compiler};
use super::expr::Compiled;
use super::functions::window;
use super::inputs::{Inputs, has_ids};
use super::lower::{self, Aggregated, Chain, Grouping, Key, Step, Window};
use super::types::sql_name;
use super::windows::is_event_time;
use super::{
    Aggregate, Derive, First, GroupKey, Groups, JoinKind, Judged, OrderBy, Output, Plan,
    SessionKey, Shape, WindowKey,
};
use crate::batch::Encoding;
use crate::job::spec::{DedupSpec, JobSpec, LateRule, SourceSpec};

/// Compiles one chain.
pub(super) struct Assembler<'a> {
    pub(super) job: &'a JobSpec,
    pub(super) source: &'a SourceSpec,
    pub(super) compiler: &'a Compiler,
    pub(super) inputs: &'a Inputs,
    /// By group key: the watermark closes it.
    pub(super) closing: &'a [bool],
    /// By what rows come too late, and go no further.
    pub(super) judged: Judged,
    /// What is read above deduplication, by the source's columns.
    pub(super) reads: Option<&'a [bool]>,
    /// The level whose rows are read; none: the source's.
    pub(super) ground: Option<&'a Ground<'a>>,
    /// By step: the columns of its static side that its rows have.
    pub(super) added: Vec<Vec<usize>>,
}

impl Assembler<'_> {
    pub(super) fn shape(&self, chain: &Chain) -> Result<(Shape, Output)> {
        let rows = self.row_columns(&chain.steps);
        match (&chain.groups, &chain.first) {
            (Some(grouping), _) => {
                let groups = self.groups(grouping, &rows)?;
                Ok((Shape::Groups(groups), self.output(chain, &group_columns(grouping))?))
            }
            (None, Some(dedup)) => self.first(dedup, &rows),
            (None, None) => self.rows(chain, &rows),
        }
    }

    pub(super) fn event_time(&self) -> Option<usize> {
        let watermark = self.source.watermark.as_ref()?;
        if let Some(below) = self.ground {
            let index = below.schema.index_of(&watermark.column).ok();
            return index.filter(|_| below.is_source);
        }
        let index = self.source.schema.iter().position(|c| c.name == watermark.column)?;
        self.inputs.find(index, Encoding::Values)
    }

    /// The input columns as expressions see them, then what the steps add.
    pub(super) fn row_columns(&self, steps: &[Step]) -> Columns {
        let mut columns = Columns::default();
        if let Some(below) = self.ground {
            let fields = below.schema.fields().iter().zip(&below.columns);
            for (index, (field, column)) in fields.enumerate() {
                columns.push(column.clone(), field.data_type().clone(), index);
            }
            columns.names = self.inputs.names(self.source, Some(below.schema));
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
                    columns.push(lower::element_column(n), explode.element.clone(), index);
                    index += 1;
                }
                Step::Join(join) if join.kind.adds_columns() => {
                    index = self.push_side(&mut columns, n, join, index);
                }
                Step::Join(join) if join.kind == JoinKind::Mark => {
                    columns.push(lower::mark_column(n), DataType::Boolean, index);
                    index += 1;
                }
                Step::Join(_) => {}
            }
        }
        columns
    }

    /// Conjuncts that do not read the event time, and those that do.
    pub(super) fn split_filters(&self, filters: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
        filters.into_iter().partition(|conjunct| {
            let reads = conjunct.column_refs();
            !reads.into_iter().any(|c| is_event_time(&Expr::Column(c.clone()), self.source))
                && self.ground.is_none()
        })
    }

    pub(super) fn filter(&self, conjuncts: Vec<Expr>) -> Result<Option<Compiled>> {
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
        let closes = self.closing.first().is_some_and(|closes| *closes);
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
                .zip(self.closing)
                .position(|(key, closes)| key.window.is_none() && *closes),
            arguments: arguments.into_iter().map(|(_, compiled)| compiled).collect(),
            aggregates,
        })
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
        // Spark's optimiser drops an event time that nothing reads, and lateness with it.
        let is_read = watermark.is_some_and(|watermark| {
            let column = self.source.schema.iter().position(|c| c.name == watermark.column);
            column.is_some_and(|column| self.reads.is_none_or(|reads| reads[column]))
        });
        let time = time.filter(|time| within_us.is_some() || keys.contains(time));
        let is_by_row = watermark.is_some_and(|w| w.late == LateRule::Row);
        let by_row = is_by_row && within_us.is_some();
        let judged = is_read || time.is_some() || is_by_row;
        let width = columns.len();
        let output = identity(&fields);
        if by_row {
            let time = time.expect("within a watermark there is one");
            fields.push(Field::new("clock", fields[time].data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let clock = by_row.then_some(width);
        Ok((Shape::First(First { columns, schema, keys, time, within_us, clock, judged }), output))
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
        let judged = self.judged;
        Ok((Shape::Rows { columns, schema, judged }, output))
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
    pub(super) fn mark_filters(&mut self) {
        let filters = self.filter_below.iter().chain(&self.filter_above);
        let derived = self.derive.iter().filter_map(Derive::filter);
        let below = self.derive.iter().filter(|step| step.is_below()).flat_map(Derive::expressions);
        let read = filters.chain(derived).chain(below);
        let read: Vec<usize> = read.flat_map(Compiled::columns).collect();
        for index in read {
            if let Some(input) = self.input.get_mut(index) {
                input.in_filter = true;
            }
        }
    }
}
