//! Two streams that meet: which joins are allowed, and what of ON and WHERE goes where.
//!
//! Spark's rules, in Spark's order: a condition on one side alone is a filter of that side where no row
//! of it would leave without a match (its own side's rows, and those of an inner join); in an outer
//! join one on the side that is kept says whether a row can meet any. What must be equal are the keys.
//! Rows whose keys or compared values are NULL meet none: they are filtered below the watermark,
//! unless they leave alone. WHERE above an outer join that no row alone passes makes it another; whether
//! the join is allowed goes by what was written. `range` says when a row meets none any more.

use datafusion_common::Column;
use datafusion_expr::{Between, BinaryExpr, Expr, Join, JoinType, Operator};

use super::functions::window;
use super::infer;
use super::inline::{reads, side_column, side_relation};
use super::lower::{Arm, Chain, Refused, refuse};
use super::nulls::{drops_null, is_strict};
use super::range::{self, Bound};
use super::stream_join::Judged;
use super::stream_side::{Side, Windows, windows_of};
use super::windows::unshifted;
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
    /// What must be equal.
    pub on: Vec<Pair>,
    /// Conditions of both sides, beside the keys.
    pub residual: Vec<Expr>,
    /// Kind, keys and rest of ON before WHERE above the join changed any of them.
    written: (MeetKind, Vec<Pair>, Vec<Expr>),
}

/// Two values that are equal where rows meet.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Of the left side, of the right side.
    pub of: [Expr; 2],
    /// `<=>`: NULL meets NULL.
    pub null_safe: bool,
    /// They are the starts of windows, which are equal.
    pub windows: Option<[Windows; 2]>,
}

impl Pair {
    pub fn is(&self, condition: &Expr) -> bool {
        let [left, right] = &self.of;
        matches!(condition, Expr::BinaryExpr(BinaryExpr { left: l, op: Operator::Eq, right: r })
            if **l == *left && **r == *right)
    }
}

/// By what rows of a side leave the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaving {
    Never,
    /// The watermark passes the key of this number, an event time.
    Key(usize),
    /// The watermark comes to the end of the window that starts at the key of this number.
    Window(usize, Windows),
    /// The watermark passes a bound on a time, the side's column of this number.
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
    let left = Side::of(left, join.left.schema());
    let right = Side::of(right, join.right.schema());
    let both = [left.columns(0, false), right.columns(1, false)].concat();
    let made_of = match kind {
        MeetKind::LeftSemi => left.columns(0, false),
        _ => [left.columns(0, kind.keeps(1)), right.columns(1, kind.keeps(0))].concat(),
    };
    let schema = join.left.schema().join(join.right.schema())?;
    let conjuncts = super::join::conjuncts(join, &schema, &both)?;
    let source = left.arms[0].source;
    let (sides, written) = ([left, right], (kind, Vec::new(), Vec::new()));
    let mut meeting = Meeting { kind, sides, on: Vec::new(), residual: Vec::new(), written };
    conjuncts.into_iter().for_each(|conjunct| meeting.condition(conjunct));
    meeting.written = (kind, meeting.on.clone(), meeting.residual.clone());
    let chain = Chain { source, meeting: Some(Box::new(meeting)), ..Chain::default() };
    Ok(Arm { chain, made_of })
}

impl Meeting {
    /// A conjunct of ON, or one that is as good as that.
    fn condition(&mut self, conjunct: Expr) {
        match sides(&conjunct) {
            (true, true) => match pair(&conjunct) {
                Some(pair) => self.on.extend(windows(pair)),
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

    /// WHERE above the join: rows alone that do not pass it need not leave. Whether the join is another
    /// one now.
    pub fn narrow(&mut self, conjunct: &Expr) -> bool {
        let drops = |side: usize| drops_null(conjunct, &|column| index_of(column, side).is_some());
        let kind = match (self.kind, drops(0), drops(1)) {
            (MeetKind::LeftOuter, _, true) | (MeetKind::RightOuter, true, _) => MeetKind::Inner,
            (MeetKind::FullOuter, true, true) => MeetKind::Inner,
            (MeetKind::FullOuter, true, false) => MeetKind::LeftOuter,
            (MeetKind::FullOuter, false, true) => MeetKind::RightOuter,
            _ => return false,
        };
        self.kind = kind;
        for side in [0, 1].into_iter().filter(|&side| !kind.keeps(side)) {
            let pre = std::mem::take(&mut self.sides[side].pre);
            pre.iter().for_each(|conjunct| self.sides[side].filter(side, conjunct));
        }
        true
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

    /// Once all conditions are known: rows with a NULL that is compared meet none, nor do those without
    /// what the other side's rows must have.
    pub fn settle(&mut self) {
        for (side, condition) in infer::conditions(&self.on, &self.known()) {
            if !self.kind.keeps(side) {
                self.sides[side].filter(side, &condition);
            }
        }
        let pairs = self.on.iter().filter(|pair| !pair.null_safe).flat_map(|pair| &pair.of);
        let mut known: Vec<Column> = Vec::new();
        for expr in pairs.chain(self.residual.iter().filter(|expr| is_comparison(expr))) {
            for column in expr.column_refs() {
                if is_strict(expr) && !known.contains(column) {
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

    /// What is true of rows that meet.
    fn known(&self) -> Vec<Expr> {
        let of_sides = [0, 1].into_iter().flat_map(|side| {
            let of = &self.sides[side];
            of.pre.iter().cloned().chain(of.conditions(side))
        });
        let pairs = self.on.iter().filter(|pair| !pair.null_safe && pair.windows.is_none());
        let pairs = pairs.map(|Pair { of: [left, right], .. }| left.clone().eq(right.clone()));
        of_sides.chain(self.residual.iter().cloned()).chain(pairs).collect()
    }

    /// Whether a column of a side is its event time.
    pub fn is_time(&self, expr: &Expr, sources: &[SourceSpec]) -> bool {
        let (Expr::Column(column), shifted) = unshifted(expr) else { return false };
        [0, 1].into_iter().any(|side| {
            index_of(column, side)
                .is_some_and(|index| self.sides[side].is_time(index, shifted, sources))
        })
    }

    /// By what the rows of both sides leave.
    ///
    /// A row that would leave alone goes by any time of its side that ON bounds, as nothing else says
    /// when; others by the event time alone, as in Spark.
    pub fn leaving(&self, sources: &[SourceSpec]) -> [Leaving; 2] {
        let by_any = [0, 1].map(|side| self.kind.keeps(side));
        self.leaving_by((&self.on, &self.residual), by_any, sources)
    }

    fn leaving_by(
        &self,
        (on, residual): (&[Pair], &[Expr]),
        by_any: [bool; 2],
        sources: &[SourceSpec],
    ) -> [Leaving; 2] {
        let times = [self.sides[0].times(sources), self.sides[1].times(sources)];
        let is_time = |expr: &Expr, side: usize| match expr {
            Expr::Column(column) => {
                index_of(column, side).is_some_and(|index| times[side].contains(&index))
            }
            _ => false,
        };
        let tells = |pair: &Pair, side: usize| match (pair.windows, &pair.of[side]) {
            (None, expr) => is_time(expr, side),
            (Some(windows), Expr::Column(start)) => index_of(start, side).is_some_and(|start| {
                self.sides[side].is_time(start, windows[side].size_us - 1, sources)
            }),
            (Some(_), start) => {
                window::start_parts(start).is_some_and(|(time, _, _)| is_time(time, side))
            }
        };
        let of = |side: usize| on.iter().position(|pair| tells(pair, side));
        if let Some(key) = of(0).or_else(|| of(1)) {
            return [0, 1].map(|side| match on[key].windows {
                None => Leaving::Key(key),
                Some(windows) => Leaving::Window(key, windows[side]),
            });
        }
        [0, 1].map(|side| {
            let others = || if by_any[side] { self.sides[side].timestamps() } else { Vec::new() };
            let mut own_times = times[side].clone();
            own_times.extend(others().into_iter().filter(|own| !times[side].contains(own)));
            let other = 1 - side;
            let pairs =
                own_times.iter().flat_map(|own| times[other].iter().map(move |of| (own, of)));
            let bounds = pairs.map(|(&own, &of_other)| {
                let (own_column, of_other) = (side_column(side, own), side_column(other, of_other));
                (own, range::bounds(residual, &own_column, &of_other))
            });
            let mut bounds = bounds.filter(|(_, bounds)| !bounds.is_empty()).peekable();
            let Some(first) = bounds.peek().map(|(own, _)| *own) else { return Leaving::Never };
            // A time under several names is one time.
            let is_event_time = times[side].contains(&first);
            let same = bounds.filter(|(own, _)| match is_event_time {
                true => times[side].contains(own),
                false => *own == first,
            });
            Leaving::Time(first, same.flat_map(|(_, bounds)| bounds).collect())
        })
    }

    /// As it was written.
    pub fn kind_written(&self) -> MeetKind {
        self.written.0
    }

    /// Why Spark refuses this join, whatever the mode. Where the input ends, every row without a match
    /// is known then.
    pub fn refusal(&self, sources: &[SourceSpec], ends: bool) -> Option<(String, &'static str)> {
        let (kind, on, residual) = &self.written;
        if self.on.is_empty() {
            return Some((
                "Stream-stream join without equality predicate is not supported".into(),
                "add a condition like a.id = b.id to ON",
            ));
        }
        let leaving = self.leaving_by((on, residual), [true; 2], sources);
        let leaves = |side: usize| leaving[side] != Leaving::Never;
        let is_bounded = match kind {
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
            kind.name()
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
        let pairs = self.on.iter().flat_map(|pair| &pair.of);
        let own = pairs.chain(&self.residual).chain(&self.sides[side].pre);
        let of = |expr: &Expr| -> Vec<usize> {
            expr.column_refs().into_iter().filter_map(|column| index_of(column, side)).collect()
        };
        let mut read: Vec<usize> = own.flat_map(of).chain(above.flat_map(of)).collect();
        read.sort_unstable();
        read.dedup();
        read
    }

    /// By what rows of a side are late: the window that takes them from the state, or the event time
    /// where it is read.
    pub fn judged(&self, side: usize, read: &[usize], sources: &[SourceSpec]) -> Judged {
        let of = &self.sides[side];
        let times = of.times(sources);
        if of.is_grouped() {
            return Judged::Nothing;
        }
        match self.leaving(sources)[side] {
            Leaving::Window(_, window) => Judged::Windows(window),
            _ if read.iter().any(|at| of.is_visible(*at) && times.contains(at)) => Judged::Times,
            _ => Judged::Nothing,
        }
    }
}

/// The number of a side's column.
pub fn index_of(column: &Column, side: usize) -> Option<usize> {
    let here = column.relation.as_ref().is_some_and(|r| r.table() == side_relation(side));
    here.then(|| column.name.parse().expect("a side's columns are named by their number"))
}

/// Whether an expression reads the left side, and the right one.
pub fn sides(expr: &Expr) -> (bool, bool) {
    (reads(expr, side_relation(0)), reads(expr, side_relation(1)))
}

/// `left = right` or `left <=> right`, in this order.
fn pair(conjunct: &Expr) -> Option<Pair> {
    use Operator::{Eq, IsNotDistinctFrom};
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Eq | IsNotDistinctFrom), right }) = conjunct
    else {
        return None;
    };
    let of = match (sides(left), sides(right)) {
        ((true, false), (false, true)) => [left.as_ref().clone(), right.as_ref().clone()],
        ((false, true), (true, false)) => [right.as_ref().clone(), left.as_ref().clone()],
        _ => return None,
    };
    Some(Pair { of, null_safe: *op == IsNotDistinctFrom, windows: None })
}

/// Windows are equal where their starts are, and their ends where one is longer. None of them is NULL.
fn windows(pair: Pair) -> Vec<Pair> {
    let parts = |expr: &Expr| {
        let (time, of) = windows_of(expr)?;
        Some((of.start_of(time), of))
    };
    let [left, right] = &pair.of;
    let (Some((left, of_left)), Some((right, of_right))) = (parts(left), parts(right)) else {
        return vec![pair];
    };
    let of = |of: [Expr; 2], windows| Pair { of, null_safe: false, windows };
    let ends = [
        window::shift(left.clone(), of_left.size_us),
        window::shift(right.clone(), of_right.size_us),
    ];
    let mut pairs = vec![of([left, right], Some([of_left, of_right]))];
    if of_left.size_us != of_right.size_us {
        pairs.push(of(ends, None));
    }
    pairs
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
