//! The plan of a chain: which columns to decode and how, every expression compiled.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;
use pelton_kernels::cpu::aggregate::{AggregateSpec, is_supported};
use pelton_kernels::cpu::keys::is_key_type;
use pelton_kernels::expr::Expr as Kernel;

use super::compile::{Columns, Compiler};
use super::expr::Compiled;
use super::functions::window;
use super::lower::{self, Aggregated, Chain, Exploded, Grouping, Key, Tumbling};
use super::types::{is_text, sql_name};
use super::{
    Aggregate, Explode, ExplodeList, GroupKey, Groups, OrderBy, Output, Plan, Shape, Watermark,
    WindowKey,
};
use crate::batch::{Encoding, InputColumn};
use crate::job::spec::{OutputMode, SourceSpec};

/// Whether an expression is the watermark's column and nothing else.
pub fn is_event_time(expr: &Expr, source: &SourceSpec) -> bool {
    match (expr, &source.watermark) {
        (Expr::Column(column), Some(watermark)) => {
            column.relation.as_ref().is_some_and(|r| r.table() == source.name)
                && column.name.eq_ignore_ascii_case(&watermark.column)
        }
        _ => false,
    }
}

/// Compiles a chain that its mode allows.
pub fn assemble(
    mut chain: Chain,
    source: &SourceSpec,
    mode: OutputMode,
    compiler: &Compiler,
) -> Result<Plan> {
    if let Some(groups) = &mut chain.groups {
        window_first(groups, &mut chain.having, &mut chain.columns, &mut chain.order_by);
    }
    let inputs = Inputs::of(&chain, source);
    let assembler = Assembler { source, compiler, inputs: &inputs };
    let (below, above) = assembler.split_filters(std::mem::take(&mut chain.filters));
    let filter_below = assembler.filter(below)?;
    let filter_above = assembler.filter(above)?;
    let explode = chain.explode.as_ref().map(|e| assembler.explode(e, &chain)).transpose()?;
    let rows = assembler.row_columns(chain.explode.as_ref());
    let (shape, output) = match &chain.groups {
        Some(grouping) => {
            let groups = assembler.groups(grouping, &rows)?;
            let output = assembler.output(&chain, &group_columns(grouping))?;
            (Shape::Groups(groups), output)
        }
        None => assembler.rows(&chain, &rows)?,
    };
    let mut plan = Plan {
        input_names: inputs.columns.iter().map(|c| source.schema[c.source].name.clone()).collect(),
        event_time: assembler.event_time(),
        watermark: source.watermark.as_ref().map(|w| Watermark {
            delay_us: i64::try_from(w.delay.as_micros()).unwrap_or(i64::MAX),
            late: w.late,
        }),
        input: inputs.columns.clone(),
        filter_below,
        filter_above,
        explode,
        shape,
        output,
        mode,
        fingerprint: String::new(),
    };
    plan.mark_filters();
    plan.fingerprint = super::explain::fingerprint(&plan);
    Ok(plan)
}

/// Puts the window first among the keys, so that groups in the order of their keys are in the order
/// of their windows; every reference to a group's column follows.
fn window_first(
    groups: &mut Grouping,
    having: &mut [Expr],
    columns: &mut [(String, Expr)],
    order_by: &mut [lower::SortKey],
) {
    let Some(at) = groups.keys.iter().position(|key| key.window.is_some()) else { return };
    let window = groups.keys.remove(at);
    groups.keys.insert(0, window);
    let moved = |index: usize| match index {
        index if index == at => 0,
        index if index < at => index + 1,
        index => index,
    };
    let exprs = having.iter_mut().chain(columns.iter_mut().map(|(_, expr)| expr));
    for expr in exprs.chain(order_by.iter_mut().map(|key| &mut key.expr)) {
        lower::renumber_groups(expr, &moved);
    }
}

/// The columns to decode, each in the form in which it is read.
struct Inputs {
    columns: Vec<InputColumn>,
}

impl Inputs {
    fn of(chain: &Chain, source: &SourceSpec) -> Inputs {
        let mut values = vec![false; source.schema.len()];
        let mut ids = vec![false; source.schema.len()];
        let index_of = |column: &Column| {
            let here = column.relation.as_ref().is_some_and(|r| r.table() == source.name);
            here.then(|| source.schema.iter().position(|c| c.name == column.name)).flatten()
        };
        let mut read = |expr: &Expr| {
            expr.column_refs().into_iter().filter_map(index_of).for_each(|i| values[i] = true);
        };
        chain.filters.iter().for_each(&mut read);
        if let Some(explode) = &chain.explode {
            read(&explode.list);
            explode.filters.iter().for_each(&mut read);
        }
        match &chain.groups {
            None => {
                chain.columns.iter().map(|(_, expr)| expr).for_each(&mut read);
                chain.order_by.iter().map(|key| &key.expr).for_each(&mut read);
            }
            Some(groups) => {
                for aggregate in &groups.aggregates {
                    aggregate.argument.iter().chain(&aggregate.filter).for_each(&mut read);
                }
                for key in &groups.keys {
                    match &key.expr {
                        Expr::Column(column) if has_ids(&key.data_type) => match index_of(column) {
                            // One column of ids belongs to one key's dictionary.
                            Some(index) if !ids[index] => ids[index] = true,
                            Some(_) => read(&key.expr),
                            None => read(&key.expr),
                        },
                        other => read(other),
                    }
                }
            }
        }
        if let Some(watermark) = &source.watermark
            && let Some(index) = source.schema.iter().position(|c| c.name == watermark.column)
        {
            values[index] = true;
        }
        let columns = (0..source.schema.len()).flat_map(|index| {
            let column = |encoding| InputColumn { source: index, encoding, in_filter: false };
            let ids = ids[index].then(|| column(Encoding::Ids));
            ids.into_iter().chain(values[index].then(|| column(Encoding::Values)))
        });
        Inputs { columns: columns.collect() }
    }

    fn find(&self, source: usize, encoding: Encoding) -> Option<usize> {
        self.columns.iter().position(|c| c.source == source && c.encoding == encoding)
    }
}

fn has_ids(data_type: &DataType) -> bool {
    is_text(data_type) || matches!(data_type, DataType::Binary)
}

struct Assembler<'a> {
    source: &'a SourceSpec,
    compiler: &'a Compiler,
    inputs: &'a Inputs,
}

impl Assembler<'_> {
    fn event_time(&self) -> Option<usize> {
        let watermark = self.source.watermark.as_ref()?;
        let index = self.source.schema.iter().position(|c| c.name == watermark.column)?;
        self.inputs.find(index, Encoding::Values)
    }

    /// The input columns as expressions see them, then the exploded element.
    fn row_columns(&self, explode: Option<&Exploded>) -> Columns {
        let mut columns = Columns::default();
        for (index, input) in self.inputs.columns.iter().enumerate() {
            if input.encoding == Encoding::Values {
                let column = &self.source.schema[input.source];
                let name = Column::new(Some(self.source.name.as_str()), &column.name);
                columns.push(name, column.data_type.clone(), index);
            }
        }
        if let Some(explode) = explode {
            let index = self.inputs.columns.len();
            columns.push(lower::element_column(), explode.element.clone(), index);
        }
        columns
    }

    /// Conjuncts that do not read the event time, and those that do.
    fn split_filters(&self, filters: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
        filters.into_iter().partition(|conjunct| {
            let reads = conjunct.column_refs();
            !reads.into_iter().any(|c| is_event_time(&Expr::Column(c.clone()), self.source))
        })
    }

    fn filter(&self, conjuncts: Vec<Expr>) -> Result<Option<Compiled>> {
        let columns = self.row_columns(None);
        conjunction(conjuncts).map(|all| self.compiler.compile(&all, &columns)).transpose()
    }

    fn explode(&self, exploded: &Exploded, chain: &Chain) -> Result<Explode> {
        let columns = self.row_columns(None);
        let filter = match conjunction(exploded.filters.clone()) {
            None => None,
            Some(all) => Some(self.compiler.compile(&all, &self.row_columns(Some(exploded)))?),
        };
        let list = match self.split_by_byte(&exploded.list, &columns) {
            Some((input, separator)) if only_a_key(chain) => {
                ExplodeList::SplitByByte { input, separator }
            }
            _ => ExplodeList::List(self.compiler.compile(&exploded.list, &columns)?),
        };
        Ok(Explode { list, filter })
    }

    /// `split(column, 'c')` where `c` is one byte that no regular expression gives a meaning.
    fn split_by_byte(&self, list: &Expr, columns: &Columns) -> Option<(usize, u8)> {
        let Expr::ScalarFunction(call) = list else { return None };
        let ("split", [Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(pattern)), _)]) =
            (call.func.name(), call.args.as_slice())
        else {
            return None;
        };
        let (data_type, input) = columns.get(column)?;
        let separator = match pattern.as_bytes() {
            [byte] if !b"\\.[]{}()*+-?^$|#&~".contains(byte) && byte.is_ascii() => *byte,
            [b'\\', byte] if byte.is_ascii_punctuation() => *byte,
            _ => return None,
        };
        is_text(data_type).then_some((input, separator))
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
        Ok(Groups {
            keys: keys.collect::<Result<_>>()?,
            window: self.window(grouping),
            event_time_key: grouping
                .keys
                .iter()
                .position(|key| key.window.is_none() && is_event_time(&key.expr, self.source)),
            arguments: arguments.into_iter().map(|(_, compiled)| compiled).collect(),
            aggregates,
        })
    }

    /// A window that the watermark can close; over another time it is a key like any other.
    fn window(&self, grouping: &Grouping) -> Option<WindowKey> {
        let first = grouping.keys.first()?;
        let window = first.window?;
        let closes = self.source.watermark.is_none() || is_event_time(&first.expr, self.source);
        closes.then_some(WindowKey {
            key: 0,
            size_us: window.size_us,
            slide_us: window.slide_us,
            offset_us: window.offset_us,
        })
    }

    /// `taken`: the columns of ids that an earlier key has.
    fn key(&self, key: &Key, rows: &Columns, taken: &mut Vec<usize>) -> Result<Compiled> {
        if let Some(Tumbling { size_us, offset_us, .. }) = key.window {
            let start = window::start(key.expr.clone(), size_us, offset_us);
            return self.compiler.compile(&start, rows);
        }
        if let Expr::Column(column) = &key.expr
            && column.relation.as_ref().is_some_and(|r| r.table() == self.source.name)
            && has_ids(&key.data_type)
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

/// Whether nothing reads the exploded element but bare group keys, for which its id is enough.
fn only_a_key(chain: &Chain) -> bool {
    let reads = |expr: &Expr| lower::reads(expr, lower::ELEMENT);
    let filtered = chain.explode.as_ref().is_some_and(|e| !e.filters.is_empty());
    match &chain.groups {
        None => false,
        Some(groups) => {
            let computed = groups.keys.iter().map(|key| &key.expr);
            let computed = computed.filter(|expr| !matches!(expr, Expr::Column(_)));
            let aggregates = groups.aggregates.iter();
            let arguments = aggregates.flat_map(|a| a.argument.iter().chain(&a.filter));
            let bare = groups.keys.iter().filter(|key| reads(&key.expr)).count();
            !filtered && bare == 1 && !computed.chain(arguments).any(reads)
        }
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
        let elements = self.explode.iter().filter_map(|explode| explode.filter.as_ref());
        let read: Vec<usize> = filters.chain(elements).flat_map(Compiled::columns).collect();
        for index in read {
            if let Some(input) = self.input.get_mut(index) {
                input.in_filter = true;
            }
        }
    }
}
