//! Which columns a plan reads, and in which form the decoder delivers each.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::Column;
use datafusion_expr::Expr;

use super::LateRows;
use super::lower::{self, Chain, Step};
use super::types::is_text;
use crate::batch::{Encoding, InputColumn};
use crate::job::spec::SourceSpec;

/// The columns to decode, each in the form in which it is read.
pub struct Inputs {
    pub columns: Vec<InputColumn>,
}

impl Inputs {
    /// All columns of what leaves a level below.
    pub fn below(schema: &Schema) -> Inputs {
        let column = |source| InputColumn { source, encoding: Encoding::Values, in_filter: false };
        Inputs { columns: (0..schema.fields().len()).map(column).collect() }
    }

    pub fn names(&self, source: &SourceSpec, below: Option<&Schema>) -> Vec<String> {
        let name = |column: &InputColumn| match below {
            Some(schema) => schema.field(column.source).name().clone(),
            None => source.schema[column.source].name.clone(),
        };
        self.columns.iter().map(name).collect()
    }

    /// Those of the source that the chain reads; `also`: what is read above it.
    pub fn of(chain: &Chain, source: &SourceSpec, also: Option<&[bool]>) -> Inputs {
        let mut values = match also {
            Some(also) => also.to_vec(),
            None => vec![false; source.schema.len()],
        };
        if let Some(dedup) = &chain.first {
            for (value, column) in values.iter_mut().zip(&source.schema) {
                *value |= dedup.columns.contains(&column.name);
            }
        }
        let mut ids = vec![false; source.schema.len()];
        let index_of = |column: &Column| {
            let here = column.relation.as_ref().is_some_and(|r| r.table() == source.name);
            here.then(|| source.schema.iter().position(|c| c.name == column.name)).flatten()
        };
        let mut read = |expr: &Expr| {
            expr.column_refs().into_iter().filter_map(index_of).for_each(|i| values[i] = true);
        };
        chain.filters.iter().for_each(&mut read);
        chain.steps.iter().flat_map(step_expressions).for_each(&mut read);
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

    /// All of the source's columns, which are decoded as values.
    pub fn late_rows(&self, source: &SourceSpec) -> LateRows {
        let columns = (0..source.schema.len()).filter_map(|at| self.find(at, Encoding::Values));
        let fields = source.schema.iter();
        let fields = fields.map(|column| Field::new(&column.name, column.data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        LateRows { columns: columns.collect(), schema }
    }

    pub fn find(&self, source: usize, encoding: Encoding) -> Option<usize> {
        self.columns.iter().position(|c| c.source == source && c.encoding == encoding)
    }
}

pub fn has_ids(data_type: &DataType) -> bool {
    is_text(data_type) || matches!(data_type, DataType::Binary)
}

/// The source's columns that a chain reads.
pub fn source_columns(chain: &Chain, source: &SourceSpec) -> Vec<bool> {
    let mut reads = vec![false; source.schema.len()];
    for column in chain.expressions().into_iter().flat_map(Expr::column_refs) {
        let here = column.relation.as_ref().is_some_and(|r| r.table() == source.name);
        let index = source.schema.iter().position(|c| here && c.name == column.name);
        index.into_iter().for_each(|index| reads[index] = true);
    }
    reads
}

impl Chain {
    /// Every expression over what the chain reads.
    pub fn expressions(&self) -> Vec<&Expr> {
        let mut all: Vec<&Expr> = self.filters.iter().collect();
        all.extend(self.steps.iter().flat_map(step_expressions));
        match &self.groups {
            None => {
                all.extend(self.columns.iter().map(|(_, expr)| expr));
                all.extend(self.order_by.iter().map(|key| &key.expr));
            }
            Some(groups) => {
                let aggregates = groups.aggregates.iter();
                all.extend(aggregates.flat_map(|a| a.argument.iter().chain(&a.filter)));
                all.extend(groups.keys.iter().map(|key| &key.expr));
            }
        }
        all
    }
}

/// Every expression of a step.
fn step_expressions(step: &Step) -> Vec<&Expr> {
    match step {
        Step::Explode(explode) => std::iter::once(&explode.list).chain(&explode.filters).collect(),
        Step::Join(join) => {
            let keys = join.on.iter().flat_map(|(row, side)| [row, side]);
            let rest = join.of_side.iter().chain(&join.residual).chain(&join.filters);
            keys.chain(rest).collect()
        }
    }
}

/// Which columns of its static side the rows have behind a join, the `n`-th step: those that its ON
/// and what comes after it read.
pub fn added(chain: &Chain, n: usize) -> Vec<usize> {
    let relation = lower::joined_relation(n);
    let mut read = Vec::new();
    let mut mark = |expr: &Expr| {
        for column in expr.column_refs() {
            let here = column.relation.as_ref().is_some_and(|r| r.table() == relation);
            if here && column.name != lower::MARK {
                read.push(
                    column.name.parse().expect("a table's columns are named by their number"),
                );
            }
        }
    };
    if let Step::Join(join) = &chain.steps[n] {
        join.residual.iter().chain(&join.filters).for_each(&mut mark);
    }
    chain.steps[n + 1..].iter().flat_map(step_expressions).for_each(&mut mark);
    match &chain.groups {
        None => {
            chain.columns.iter().map(|(_, expr)| expr).for_each(&mut mark);
            chain.order_by.iter().map(|key| &key.expr).for_each(&mut mark);
        }
        Some(groups) => {
            let aggregates = groups.aggregates.iter();
            aggregates.flat_map(|a| a.argument.iter().chain(&a.filter)).for_each(&mut mark);
            groups.keys.iter().map(|key| &key.expr).for_each(&mut mark);
        }
    }
    read.sort_unstable();
    read.dedup();
    read
}
