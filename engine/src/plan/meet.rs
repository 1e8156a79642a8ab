//! Two streams that meet: which joins are allowed, and what of ON and WHERE goes where.
//!
//! Spark's rules, in Spark's order: a condition on one side alone is a filter of that side where no row
//! of it would leave without a match (its own side's rows, and those of an inner join); in an outer
//! join one on the side that is kept says whether a row can meet any. What must be equal are the keys.
//! Rows whose keys or compared values are NULL meet none: they are filtered below the watermark,
//! unless they leave alone. `range` says when a row meets none any more.

use arrow::datatypes::DataType;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, Join, JoinType, Operator};

use super::inline::{reads, side_column, side_relation};
use super::lower::{Arm, Chain, Refused, refuse};
use super::range::{self, Bound};
use super::windows::is_time;
use crate::job::spec::SourceSpec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetKind {
    Inner,
    LeftOuter,
    RightOuter,
    FullOuter,
    /// Rows of the left side with a match, each once.
    LeftSemi,
}

impl MeetKind {
    /// Whether rows of a side leave without a match.
    pub fn keeps(self, side: usize) -> bool {
        match self {
            MeetKind::Inner | MeetKind::LeftSemi => false,
            MeetKind::LeftOuter => side == 0,
            MeetKind::RightOuter => side == 1,
            MeetKind::FullOuter => true,
        }
    }

    /// As Spark names it.
    pub fn name(self) -> &'static str {
        match self {
            MeetKind::Inner => "Inner",
            MeetKind::LeftOuter => "LeftOuter",
            MeetKind::RightOuter => "RightOuter",
            MeetKind::FullOuter => "FullOuter",
            MeetKind::LeftSemi => "LeftSemi",
        }
    }
}

/// A join of two streams. Its conditions read the sides' columns ([`side_column`]).
#[derive(Clone, Debug)]
pub struct Meeting {
    pub kind: MeetKind,
    pub sides: [Side; 2],
    /// What must be equal: of the left side, of the right side.
    pub on: Vec<(Expr, Expr)>,
    /// Conditions of both sides, beside the keys.
    pub residual: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub struct Side {
    pub arms: Vec<Chain>,
    /// By arm: what the side's columns are made of.
    made_of: Vec<Vec<Expr>>,
    pub names: Vec<String>,
    pub types: Vec<DataType>,
    /// Rows for which this is not true meet none, and leave alone.
    pub pre: Vec<Expr>,
}

impl Side {
    fn of(arms: Vec<Arm>, schema: &datafusion_common::DFSchema) -> Result<Side, Refused> {
        for Arm { chain, .. } in &arms {
            chain.nothing_above("a join")?;
            if chain.groups.is_some() {
                return refuse(
                    "a join of two streams above an aggregate is not in this version",
                    "join before the groups are made",
                );
            }
        }
        let fields = schema.fields();
        let (made_of, arms) = arms.into_iter().map(|arm| (arm.made_of, arm.chain)).unzip();
        Ok(Side {
            arms,
            made_of,
            names: fields.iter().map(|field| field.name().clone()).collect(),
            types: fields.iter().map(|field| field.data_type().clone()).collect(),
            pre: Vec::new(),
        })
    }

    /// A condition on this side alone becomes one of its arms.
    fn filter(&mut self, side: usize, condition: &Expr) {
        for (arm, made_of) in self.arms.iter_mut().zip(&self.made_of) {
            let own = condition.clone().transform_up(|node| match &node {
                Expr::Column(column) => Ok(match index_of(column, side) {
                    Some(index) => Transformed::yes(made_of[index].clone()),
                    None => Transformed::no(node),
                }),
                _ => Ok(Transformed::no(node)),
            });
            arm.filter(own.expect("the rule returns no error").data);
        }
    }

    /// The columns that are its event time, in every arm.
    fn times(&self, sources: &[SourceSpec]) -> Vec<usize> {
        let is_one = |&column: &usize| {
            self.arms
                .iter()
                .zip(&self.made_of)
                .all(|(arm, made_of)| is_time(&made_of[column], arm, sources))
        };
        (0..self.types.len()).filter(is_one).collect()
    }

    /// Its arms as chains whose columns are the side's that are asked for.
    pub fn chains(&self, columns: &[usize]) -> Vec<Chain> {
        let chain = |(arm, made_of): (&Chain, &Vec<Expr>)| {
            let column = |&at: &usize| (self.names[at].clone(), made_of[at].clone());
            Chain { columns: columns.iter().map(column).collect(), ..arm.clone() }
        };
        self.arms.iter().zip(&self.made_of).map(chain).collect()
    }
}

/// By what rows of a side leave the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaving {
    Never,
    /// The watermark passes the key of this number, an event time.
    Key(usize),
    /// The watermark passes a bound on the event time, the side's column of this number.
    Time(usize, Vec<Bound>),
}

/// Lowers a join whose sides both stream.
pub fn lower(join: &Join, left: Vec<Arm>, right: Vec<Arm>) -> Result<Arm, Refused> {
    let kind = match join.join_type {
        JoinType::Inner => MeetKind::Inner,
        JoinType::Left => MeetKind::LeftOuter,
        JoinType::Right => MeetKind::RightOuter,
        JoinType::Full => MeetKind::FullOuter,
        JoinType::LeftSemi => MeetKind::LeftSemi,
        JoinType::LeftAnti => {
            return refuse(
                "LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported",
                "write LEFT JOIN with WHERE … IS NULL",
            );
        }
        other => {
            let what = format!("a {other} join of two streams is not in this version");
            return refuse(what, "write JOIN or LEFT JOIN, or a condition joined by AND");
        }
    };
    let left = Side::of(left, join.left.schema())?;
    let right = Side::of(right, join.right.schema())?;
    let columns = |side: usize, of: &Side| {
        (0..of.types.len()).map(|at| Expr::Column(side_column(side, at))).collect::<Vec<_>>()
    };
    let both = [columns(0, &left), columns(1, &right)].concat();
    let made_of = if kind == MeetKind::LeftSemi { columns(0, &left) } else { both.clone() };
    let schema = join.left.schema().join(join.right.schema())?;
    let conjuncts = super::join::conjuncts(join, &schema, &both)?;
    let source = left.arms[0].source;
    let mut meeting = Meeting { kind, sides: [left, right], on: Vec::new(), residual: Vec::new() };
    conjuncts.into_iter().for_each(|conjunct| meeting.condition(conjunct));
    let chain = Chain { source, meeting: Some(Box::new(meeting)), ..Chain::default() };
    Ok(Arm { chain, made_of })
}

impl Meeting {
    /// A conjunct of ON, or one that is as good as that.
    fn condition(&mut self, conjunct: Expr) {
        match sides(&conjunct) {
            (true, true) => match pair(&conjunct) {
                Some(pair) => self.on.push(pair),
                None => self.residual.push(conjunct),
            },
            (false, false) => self.residual.push(conjunct),
            (_, of_right) => {
                let side = usize::from(of_right);
                match self.kind.keeps(side) {
                    true => self.sides[side].pre.push(conjunct),
                    false => self.sides[side].filter(side, &conjunct),
                }
            }
        }
    }

    /// WHERE above the join: gives back what stays above.
    pub fn filter(&mut self, conjunct: Expr) -> Option<Expr> {
        // A row of a side that meets none has NULL there: only the other side may be filtered below.
        match sides(&conjunct) {
            (true, true) if self.kind == MeetKind::Inner => {
                self.condition(conjunct);
                None
            }
            (true, false) if !self.kind.keeps(1) => {
                self.sides[0].filter(0, &conjunct);
                None
            }
            (false, true) if !self.kind.keeps(0) => {
                self.sides[1].filter(1, &conjunct);
                None
            }
            _ => Some(conjunct),
        }
    }

    /// Once all conditions are known: rows with a NULL that is compared meet none.
    pub fn settle(&mut self) {
        let pairs = self.on.iter().flat_map(|(left, right)| [left, right]);
        let mut known: Vec<Column> = Vec::new();
        for expr in pairs.chain(self.residual.iter().filter(|expr| is_comparison(expr))) {
            for column in expr.column_refs() {
                if compares(expr) && !known.contains(column) {
                    known.push(column.clone());
                }
            }
        }
        known.sort();
        for column in known {
            for side in [0, 1] {
                if index_of(&column, side).is_some() && !self.kind.keeps(side) {
                    let known = Expr::IsNotNull(Box::new(Expr::Column(column.clone())));
                    self.sides[side].filter(side, &known);
                }
            }
        }
        for chain in self.sides.iter_mut().flat_map(|side| &mut side.arms) {
            chain.settle();
        }
    }

    /// Whether a column of a side is its event time.
    pub fn is_time(&self, expr: &Expr, sources: &[SourceSpec]) -> bool {
        let Expr::Column(column) = expr else { return false };
        [0, 1].into_iter().any(|side| {
            let times = || self.sides[side].times(sources);
            index_of(column, side).is_some_and(|index| times().contains(&index))
        })
    }

    /// By what the rows of both sides leave.
    pub fn leaving(&self, sources: &[SourceSpec]) -> [Leaving; 2] {
        let times = [self.sides[0].times(sources), self.sides[1].times(sources)];
        let is_time = |expr: &Expr, side: usize| match expr {
            Expr::Column(column) => {
                index_of(column, side).is_some_and(|index| times[side].contains(&index))
            }
            _ => false,
        };
        let of_left = self.on.iter().position(|(left, _)| is_time(left, 0));
        let key = of_left.or_else(|| self.on.iter().position(|(_, right)| is_time(right, 1)));
        if let Some(key) = key {
            return [Leaving::Key(key), Leaving::Key(key)];
        }
        let by_time = |side: usize| {
            let other = 1 - side;
            let pairs =
                times[side].iter().flat_map(|own| times[other].iter().map(move |of| (own, of)));
            let bounds = pairs.map(|(&own, &of_other)| {
                let (own_column, of_other) = (side_column(side, own), side_column(other, of_other));
                (own, range::bounds(&self.residual, &own_column, &of_other))
            });
            let mut bounds = bounds.filter(|(_, bounds)| !bounds.is_empty()).peekable();
            // A time under several names is one time.
            match bounds.peek().map(|(own, _)| *own) {
                None => Leaving::Never,
                Some(own) => Leaving::Time(own, bounds.flat_map(|(_, bounds)| bounds).collect()),
            }
        };
        [by_time(0), by_time(1)]
    }

    /// Why Spark refuses this join, whatever the mode. Where the input ends, every row without a match
    /// is known then.
    pub fn refusal(&self, sources: &[SourceSpec], ends: bool) -> Option<(String, &'static str)> {
        if self.on.is_empty() {
            return Some((
                "Stream-stream join without equality predicate is not supported".into(),
                "add a condition like a.id = b.id to ON",
            ));
        }
        let leaving = self.leaving(sources);
        let leaves = |side: usize| leaving[side] != Leaving::Never;
        let is_bounded = match self.kind {
            _ if ends => true,
            MeetKind::Inner => true,
            MeetKind::LeftOuter | MeetKind::LeftSemi => leaves(0),
            MeetKind::RightOuter => leaves(1),
            MeetKind::FullOuter => leaves(0) || leaves(1),
        };
        if is_bounded {
            return None;
        }
        let what = format!(
            "Stream-stream {} join between two streaming DataFrame/Datasets is not supported \
             without a watermark in the join keys, or a watermark on the nullable side and an \
             appropriate range condition: nothing says when a row has no match",
            self.kind.name()
        );
        Some((
            what,
            "give both sources a watermark, and ON a range like b.ts BETWEEN a.ts AND a.ts + \
             INTERVAL '1' HOUR",
        ))
    }

    /// The columns of a side that its conditions and these expressions above it read; also its event
    /// time, where it is among them. In the order of their numbers.
    pub fn read<'e>(&self, side: usize, above: impl Iterator<Item = &'e Expr>) -> Vec<usize> {
        let pairs = self.on.iter().flat_map(|(left, right)| [left, right]);
        let own = pairs.chain(&self.residual).chain(&self.sides[side].pre);
        let of = |expr: &Expr| -> Vec<usize> {
            expr.column_refs().into_iter().filter_map(|column| index_of(column, side)).collect()
        };
        let mut read: Vec<usize> = own.flat_map(of).chain(above.flat_map(of)).collect();
        read.sort_unstable();
        read.dedup();
        read
    }

    /// The event time of a side among the columns that are read: late rows are told by it.
    pub fn late_by(&self, side: usize, read: &[usize], sources: &[SourceSpec]) -> Option<usize> {
        let times = self.sides[side].times(sources);
        read.iter().copied().find(|column| times.contains(column))
    }
}

/// The number of a side's column.
pub fn index_of(column: &Column, side: usize) -> Option<usize> {
    let here = column.relation.as_ref().is_some_and(|r| r.table() == side_relation(side));
    here.then(|| column.name.parse().expect("a side's columns are named by their number"))
}

/// Whether an expression reads the left side, and the right one.
fn sides(expr: &Expr) -> (bool, bool) {
    (reads(expr, side_relation(0)), reads(expr, side_relation(1)))
}

/// `left = right`, in this order.
fn pair(conjunct: &Expr) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = conjunct else {
        return None;
    };
    match (sides(left), sides(right)) {
        ((true, false), (false, true)) => Some((left.as_ref().clone(), right.as_ref().clone())),
        ((false, true), (true, false)) => Some((right.as_ref().clone(), left.as_ref().clone())),
        _ => None,
    }
}

fn is_comparison(expr: &Expr) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
        }
        Expr::Between(Between { .. }) => true,
        _ => false,
    }
}

/// Whether an expression is NULL where a column of it is: comparisons, sums and casts of columns.
fn compares(expr: &Expr) -> bool {
    use Operator::{And, IsDistinctFrom, IsNotDistinctFrom, Or};
    match expr {
        Expr::Column(_) | Expr::Literal(_, _) => true,
        Expr::Cast(Cast { expr, .. }) => compares(expr),
        Expr::BinaryExpr(BinaryExpr {
            op: And | Or | IsDistinctFrom | IsNotDistinctFrom, ..
        }) => false,
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => compares(left) && compares(right),
        Expr::Between(Between { expr, low, high, negated: false }) => {
            [expr, low, high].into_iter().all(|part| compares(part))
        }
        _ => false,
    }
}
