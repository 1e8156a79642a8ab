//! Joins of the stream with a static table: which are allowed, and what of ON goes where. Those of two
//! streams are in `meet`.
//!
//! Spark's rules: inner, left outer, semi and anti with the stream on the left, right outer with it
//! on the right. A condition on the stream alone is a filter of its own below the watermark, and so
//! is "the key is not NULL" of an inner or semi join; one on the table alone is applied once, when
//! the table is read.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::DFSchema;
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator};

use super::lower::{
    Arm, MARK, Refused, Relations, Step, element_relation, inline, joined_column, joined_relation,
    mark_column, reads, refuse, rows,
};
use super::meet;
use super::nulls;
use super::subquery::reads_stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    /// A row without a match once, with NULLs.
    Outer,
    /// Rows with a match, each once.
    Semi,
    Anti,
    /// Every row once, with a column that says whether it has a match.
    Mark,
    /// `NOT IN`: as anti, but no row passes beside a NULL, and none whose own value is NULL.
    NotIn,
}

impl JoinKind {
    /// Whether the table's columns are read above the join.
    pub fn adds_columns(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Outer)
    }

    /// Whether a row stays as it is, or goes.
    pub fn only_drops(self) -> bool {
        matches!(self, JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn)
    }

    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "inner",
            JoinKind::Outer => "outer",
            JoinKind::Semi => "semi",
            JoinKind::Anti => "anti",
            JoinKind::Mark => "mark",
            JoinKind::NotIn => "not in",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Joined {
    pub kind: JoinKind,
    /// The static side: a query over static tables.
    pub side: Arc<LogicalPlan>,
    /// Types of the static side's columns.
    pub types: Vec<DataType>,
    /// Equal pairs of ON: over the row so far, over the static side.
    pub on: Vec<(Expr, Expr)>,
    /// Of ON, over the static side alone.
    pub of_side: Vec<Expr>,
    /// The rest of ON.
    pub residual: Vec<Expr>,
    /// WHERE above an outer join, on its columns.
    pub filters: Vec<Expr>,
    /// IN or EXISTS, a condition as any other, and no join that the query wrote.
    pub of_subquery: bool,
}

impl Joined {
    /// WHERE above this join, the `n`-th step. An outer join above which no row without a match
    /// passes is an inner one; what that asks of the row alone comes back.
    pub fn filter(&mut self, n: usize, conjunct: Expr) -> Vec<Expr> {
        match self.kind {
            JoinKind::Inner => self.condition(n, conjunct),
            JoinKind::Outer if drops_null(&conjunct, n) => {
                self.kind = JoinKind::Inner;
                let (of_both, of_row) = std::mem::take(&mut self.residual)
                    .into_iter()
                    .partition::<Vec<Expr>, _>(|conjunct| sides(conjunct, n).1);
                self.residual = of_both;
                let above = std::mem::take(&mut self.filters);
                above.into_iter().chain([conjunct]).for_each(|c| self.condition(n, c));
                return of_row.into_iter().chain(self.known()).collect();
            }
            _ => self.filters.push(conjunct),
        }
        Vec::new()
    }

    /// What a row needs to meet any of the table's.
    fn known(&self) -> Vec<Expr> {
        self.on.iter().map(|(key, _)| Expr::IsNotNull(Box::new(key.clone()))).collect()
    }

    /// A conjunct of ON that reads the static side.
    fn condition(&mut self, n: usize, conjunct: Expr) {
        if sides(&conjunct, n) == (false, true) {
            return self.of_side.push(conjunct);
        }
        match pair(&conjunct, n) {
            Some(pair) => self.on.push(pair),
            None => self.residual.push(conjunct),
        }
    }
}

impl Step {
    /// Whether an expression reads what this step, the `n`-th, adds to a row.
    pub fn is_read(&self, n: usize, expr: &Expr) -> bool {
        match self {
            Step::Explode(_) => reads(expr, &element_relation(n)),
            Step::Join(_) => reads(expr, &joined_relation(n)),
        }
    }
}

/// Whether an expression reads the row so far, and the static side.
fn sides(expr: &Expr, n: usize) -> (bool, bool) {
    let relation = joined_relation(n);
    let (mut row, mut side) = (false, false);
    for column in expr.column_refs() {
        let here = column.relation.as_ref().is_some_and(|r| r.table() == relation);
        side |= here;
        row |= !here;
    }
    (row, side)
}

/// Whether a condition is not true for a row whose columns of the `n`-th step are NULL.
fn drops_null(expr: &Expr, n: usize) -> bool {
    nulls::drops_null(expr, &|column| {
        let relation = column.relation.as_ref();
        relation.is_some_and(|r| r.table() == joined_relation(n)) && column.name != MARK
    })
}

/// `row = side`, in this order.
fn pair(conjunct: &Expr, n: usize) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = conjunct else {
        return None;
    };
    match (sides(left, n), sides(right, n)) {
        ((true, false), (false, true)) => Some((left.as_ref().clone(), right.as_ref().clone())),
        ((false, true), (true, false)) => Some((right.as_ref().clone(), left.as_ref().clone())),
        _ => None,
    }
}

/// Adds a join to the chains of the stream's side.
pub fn lower(join: &Join, relations: Relations) -> Result<Vec<Arm>, Refused> {
    let streams = (reads_stream(&join.left, relations)?, reads_stream(&join.right, relations)?);
    let (stream, side, stream_is_left) = match streams {
        (true, true) => {
            let [left, right] = [&join.left, &join.right].map(|of| rows(of, "a join", relations));
            return Ok(vec![meet::lower(join, left?, right?)?]);
        }
        (false, false) => {
            return refuse(
                "the query reads no stream: both sides of a join are static",
                "read a source's table, and join it with these",
            );
        }
        (true, false) => (&join.left, &join.right, true),
        (false, true) => (&join.right, &join.left, false),
    };
    let kind = kind(join, stream_is_left)?;
    let mut arms = rows(stream, "a join", relations)?;
    for arm in &mut arms {
        with_table(arm, join, kind, side, stream_is_left)?;
    }
    Ok(arms)
}

/// Adds a join with a static side to a chain.
fn with_table(
    arm: &mut Arm,
    join: &Join,
    kind: JoinKind,
    side: &Arc<LogicalPlan>,
    stream_is_left: bool,
) -> Result<(), Refused> {
    let Arm { chain, made_of: row } = arm;
    let n = chain.steps.len();
    let types: Vec<DataType> =
        side.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let of_side: Vec<Expr> =
        (0..types.len()).map(|index| Expr::Column(joined_column(n, index))).collect();
    let columns = match stream_is_left {
        true => [row.as_slice(), &of_side].concat(),
        false => [of_side.as_slice(), row].concat(),
    };
    let schema = join.left.schema().join(join.right.schema())?;
    let mut joined = Joined {
        kind,
        side: Arc::clone(side),
        types,
        on: Vec::new(),
        of_side: Vec::new(),
        residual: Vec::new(),
        filters: Vec::new(),
        of_subquery: is_subquery(join),
    };
    let conjuncts = conjuncts(join, &schema, &columns)?;
    let mut of_row = Vec::new();
    match conjuncts.split_first() {
        Some((value, rest)) if kind == JoinKind::NotIn => not_in(&mut joined, n, value, rest)?,
        _ => {
            for conjunct in conjuncts {
                match (sides(&conjunct, n).1, kind) {
                    (false, JoinKind::Inner | JoinKind::Semi) => of_row.push(conjunct),
                    (false, _) => joined.residual.push(conjunct),
                    (true, _) => joined.condition(n, conjunct),
                }
            }
        }
    }
    if matches!(kind, JoinKind::Inner | JoinKind::Semi) {
        of_row.extend(joined.known());
    }
    of_row.into_iter().for_each(|conjunct| chain.filter(conjunct));
    chain.steps.push(Step::Join(joined));
    if kind.adds_columns() {
        *row = columns;
    } else if kind == JoinKind::Mark {
        row.push(Expr::Column(mark_column(n)));
    }
    Ok(())
}

/// Whether a join was IN or EXISTS: the rule that made it one named its right side so. Spark takes
/// these for conditions until its filters stand where they belong; scalar subqueries are joins by then.
fn is_subquery(join: &Join) -> bool {
    let mut of_fields = join.right.schema().iter().filter_map(|(relation, _)| relation);
    of_fields.any(|relation| relation.table().starts_with("__correlated_sq"))
}

/// `x NOT IN (…)`: its own comparison comes first. Beside correlated conditions a row passes where
/// for none of the table's rows the comparison is true or unknown.
fn not_in(joined: &mut Joined, n: usize, value: &Expr, rest: &[Expr]) -> Result<(), Refused> {
    let Some(pair) = pair(value, n) else {
        return refuse("NOT IN compares a column of the stream with a column of the table", "");
    };
    if rest.is_empty() {
        joined.on.push(pair);
        return Ok(());
    }
    joined.kind = JoinKind::Anti;
    joined.residual.push(value.clone().or(Expr::IsNull(Box::new(value.clone()))));
    for conjunct in rest {
        match sides(conjunct, n).1 {
            true => joined.condition(n, conjunct.clone()),
            false => joined.residual.push(conjunct.clone()),
        }
    }
    Ok(())
}

/// ON in conjuncts, over what the columns of both sides are made of.
pub fn conjuncts(join: &Join, schema: &DFSchema, columns: &[Expr]) -> Result<Vec<Expr>, Refused> {
    let pairs = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let all = pairs.chain(join.filter.iter().cloned().flat_map(split_conjunction_owned));
    let is_true = |expr: &Expr| {
        matches!(expr, Expr::Literal(value, _)
            if *value == datafusion_common::ScalarValue::Boolean(Some(true)))
    };
    all.filter(|expr| !is_true(expr)).map(|expr| inline(&expr, schema, columns)).collect()
}

/// Spark's rules and Spark's words.
fn kind(join: &Join, stream_is_left: bool) -> Result<JoinKind, Refused> {
    let (stream, table) = if stream_is_left { ("left", "right") } else { ("right", "left") };
    match (join.join_type, stream_is_left) {
        (JoinType::Inner, _) => Ok(JoinKind::Inner),
        (JoinType::Left, true) | (JoinType::Right, false) => Ok(JoinKind::Outer),
        (JoinType::LeftSemi, true) => Ok(JoinKind::Semi),
        (JoinType::LeftAnti, true) if join.null_aware => Ok(JoinKind::NotIn),
        (JoinType::LeftAnti, true) => Ok(JoinKind::Anti),
        (JoinType::Full, _) => refuse(
            format!(
                "FullOuter joins with streaming DataFrames/Datasets on the {stream} and a static \
                 DataFrame/Dataset on the {table} is not supported"
            ),
            "keep every row of the stream alone: write LEFT JOIN with the stream on the left",
        ),
        (JoinType::Right, true) => refuse(
            "RightOuter join with a streaming DataFrame/Dataset on the left and a static \
             DataFrame/DataSet on the right not supported",
            "rows of the table without a match are never known to be without one: write LEFT JOIN",
        ),
        (JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti, false) => {
            let name = match join.join_type {
                JoinType::Left => "LeftOuter",
                JoinType::LeftSemi => "LeftSemi",
                _ => "LeftAnti",
            };
            refuse(
                format!(
                    "{name} join with a streaming DataFrame/Dataset on the right and a static \
                     DataFrame/Dataset on the left is not supported"
                ),
                "put the stream on the left",
            )
        }
        (JoinType::LeftMark, true) => Ok(JoinKind::Mark),
        (other, _) => refuse(format!("a {other} join is not Spark's"), "write JOIN or LEFT JOIN"),
    }
}
