//! The steps of a chain, compiled: explode, and joins with static tables.

use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;

use super::compile::Columns;
use super::expr::Compiled;
use super::fixed::Query;
use super::join::Joined;
use super::lower::{self, Chain, Exploded, Step};
use super::shape::Assembler;
use super::side::{Lookup, Side};
use super::types::{is_text, sql_name};
use super::{Derive, Explode, ExplodeList, StaticJoin};

impl Assembler<'_> {
    pub(super) fn step(&self, n: usize, chain: &Chain) -> Result<Derive> {
        let (before, after) =
            (self.row_columns(&chain.steps[..n]), self.row_columns(&chain.steps[..=n]));
        let filter = |conjuncts: &[Expr]| {
            let all = conjunction(conjuncts.to_vec());
            all.map(|all| self.compiler.compile(&all, &after)).transpose()
        };
        match &chain.steps[n] {
            Step::Explode(exploded) => {
                let list = match self.split_by_byte(&exploded.list, &before) {
                    Some((input, separator)) if only_a_key(chain) => {
                        ExplodeList::SplitByByte { input, separator }
                    }
                    _ => ExplodeList::List(self.compiler.compile(&exploded.list, &before)?),
                };
                Ok(Derive::Explode(Explode { list, filter: filter(&exploded.filters)? }))
            }
            Step::Join(joined) => {
                let filter = filter(&joined.filters)?;
                Ok(Derive::Join(self.join(n, joined, &before, filter)?))
            }
        }
    }

    fn join(
        &self,
        n: usize,
        joined: &Joined,
        before: &Columns,
        filter: Option<Compiled>,
    ) -> Result<StaticJoin> {
        let query = Query::compile(&joined.side, self.job, self.compiler)?;
        let mut of_side = Columns::default();
        for (index, data_type) in joined.types.iter().enumerate() {
            of_side.push(lower::joined_column(n, index), data_type.clone(), index);
        }
        let (mut keys, mut side_keys) = (Vec::new(), Vec::new());
        for (row, side) in &joined.on {
            let key = self.compiler.compile(row, before)?;
            let side = self.compiler.compile(side, &of_side)?;
            if key.data_type() != side.data_type() || !Lookup::takes(key.data_type()) {
                let (row, side) = (sql_name(key.data_type()), sql_name(side.data_type()));
                let what = format!("a join compares {row} with {side}: cast one of them");
                return Err(DataFusionError::Plan(what));
            }
            keys.push(key);
            side_keys.push(side);
        }
        let side_filter = conjunction(joined.of_side.clone());
        let side_filter =
            side_filter.map(|all| self.compiler.compile(&all, &of_side)).transpose()?;
        let mut both = before.clone();
        let width = self.inputs.columns.len() + before.added(self.inputs.columns.len());
        self.push_side(&mut both, n, joined, width);
        let residual = conjunction(joined.residual.clone());
        let residual = residual.map(|all| self.compiler.compile(&all, &both)).transpose()?;
        let table = query.tables.clone();
        let side = Side::new(query, side_filter, side_keys, self.added[n].clone());
        // Where steps before it added columns, only keys stand where they stood in the input.
        let stands_alone = before.added(self.inputs.columns.len()) == 0
            || (residual.is_none() && filter.is_none());
        let below = joined.of_subquery && stands_alone && self.is_below(n, joined);
        Ok(StaticJoin { kind: joined.kind, side, table, keys, residual, filter, below })
    }

    /// Whether a join reads columns of the source alone, and of those not the event time.
    fn is_below(&self, n: usize, joined: &Joined) -> bool {
        let time = self.source.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let (own, source) = (lower::joined_relation(n), self.source.name.as_str());
        let of_row = joined.on.iter().map(|(row, _)| row);
        let mut read = of_row
            .chain(&joined.residual)
            .chain(&joined.filters)
            .flat_map(Expr::column_refs)
            .filter(|column| column.relation.as_ref().is_none_or(|r| r.table() != own));
        self.ground.is_none()
            && read.all(|column| {
                let of_source = column.relation.as_ref().is_some_and(|r| r.table() == source);
                of_source && Some(column.name.as_str()) != time
            })
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

    /// The columns of a join's static side, from `index` on; where they end.
    pub(super) fn push_side(
        &self,
        columns: &mut Columns,
        n: usize,
        join: &Joined,
        index: usize,
    ) -> usize {
        for (at, &column) in self.added[n].iter().enumerate() {
            let name = lower::joined_column(n, column);
            columns.push(name, join.types[column].clone(), index + at);
        }
        index + self.added[n].len()
    }
}

impl Chain {
    /// The one explode, where it is the only step.
    fn only_explode(&self) -> Option<&Exploded> {
        match self.steps.as_slice() {
            [Step::Explode(explode)] => Some(explode),
            _ => None,
        }
    }
}

/// Whether explode is the only step and nothing reads its element but bare group keys, for which its id is enough.
fn only_a_key(chain: &Chain) -> bool {
    let reads = |expr: &Expr| lower::reads(expr, &lower::element_relation(0));
    match (&chain.groups, chain.only_explode()) {
        (None, _) | (_, None) => false,
        (Some(groups), Some(explode)) => {
            let computed = groups.keys.iter().map(|key| &key.expr);
            let computed = computed.filter(|expr| !matches!(expr, Expr::Column(_)));
            let aggregates = groups.aggregates.iter();
            let arguments = aggregates.flat_map(|a| a.argument.iter().chain(&a.filter));
            let bare = groups.keys.iter().filter(|key| reads(&key.expr)).count();
            explode.filters.is_empty() && bare == 1 && !computed.chain(arguments).any(reads)
        }
    }
}
