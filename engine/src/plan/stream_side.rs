//! A side of a join of two streams: its arms, its columns, and which of them tell its time.
//!
//! A window that the side's query makes is taken apart: the join keeps the time that it is made of,
//! and what reads the window makes it of that. Only where rows of the other side leave alone, with NULL
//! in its place, is it a column as any other.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;

use super::functions::window;
use super::inline::side_column;
use super::lower::{Arm, Chain, GROUP, Window};
use super::meet::index_of;
use super::windows::{self, is_time, window_from, window_of_row};
use crate::job::spec::SourceSpec;

#[derive(Clone, Debug)]
pub struct Side {
    pub arms: Vec<Chain>,
    /// By arm: what the side's columns are made of.
    made_of: Vec<Vec<Expr>>,
    /// Of the columns that the query has; behind them come times of windows.
    visible: usize,
    pub names: Vec<String>,
    pub types: Vec<DataType>,
    /// By visible column: what it is a window of.
    windows: Vec<Option<OfTime>>,
    /// Rows for which this is not true meet none, and leave alone.
    pub pre: Vec<Expr>,
}

/// A window of a time, the side's column of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfTime {
    pub time: usize,
    pub of: Windows,
}

/// Windows that rows of a side are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub size_us: i64,
    /// Of windows that a row falls into by its time; none of those that a query below has made, whose start
    /// the row has.
    pub offset_us: Option<i64>,
}

impl Windows {
    /// The earliest time of rows whose windows end after the watermark: that of a window is its last
    /// microsecond, which no row of a query below is before.
    pub fn reach(self, watermark: i64) -> i64 {
        let Some(offset_us) = self.offset_us else { return watermark };
        let of = watermark.saturating_sub(offset_us).div_euclid(self.size_us);
        of.saturating_mul(self.size_us).saturating_add(offset_us)
    }

    /// The start of a row's window by the time that the row has.
    pub fn start_of(self, time: Expr) -> Expr {
        match self.offset_us {
            Some(offset_us) => window::start(time, self.size_us, offset_us),
            None => time,
        }
    }
}

/// The windows of an expression that makes one, and the time that tells them.
pub fn windows_of(expr: &Expr) -> Option<(Expr, Windows)> {
    if let Some((time, Window::Sliding { size_us, offset_us, .. })) = window_of_row(expr) {
        return Some((time, Windows { size_us, offset_us: Some(offset_us) }));
    }
    let (start, size_us) = window_from(expr)?;
    let is_column = matches!(start, Expr::Column(_));
    is_column.then_some((start, Windows { size_us, offset_us: None }))
}

impl Side {
    pub fn of(arms: Vec<Arm>, schema: &DFSchema) -> Side {
        let fields = schema.fields();
        let (made_of, arms) = arms.into_iter().map(|arm| (arm.made_of, arm.chain)).unzip();
        let mut side = Side {
            arms,
            made_of,
            visible: fields.len(),
            names: fields.iter().map(|field| field.name().clone()).collect(),
            types: fields.iter().map(|field| field.data_type().clone()).collect(),
            windows: Vec::new(),
            pre: Vec::new(),
        };
        side.windows = (0..fields.len()).map(|column| side.window(column)).collect();
        side
    }

    /// What a column is a window of, in every arm of the same size; its time becomes a column.
    fn window(&mut self, column: usize) -> Option<OfTime> {
        let parts = |made_of: &Vec<Expr>| windows_of(&made_of[column]);
        let of_arms: Option<Vec<(Expr, Windows)>> = self.made_of.iter().map(parts).collect();
        let of_arms = of_arms?;
        let of = of_arms.first()?.1;
        if of_arms.iter().any(|(_, other)| *other != of) {
            return None;
        }
        let is_there = |at: &usize| {
            let mut arms = self.made_of.iter().zip(&of_arms);
            arms.all(|(made_of, (time, _))| made_of[*at] == *time)
        };
        let known = (0..self.types.len()).find(is_there);
        let time = known.unwrap_or(self.types.len());
        if known.is_none() {
            let DataType::Struct(fields) = &self.types[column] else { return None };
            self.types.push(fields[0].data_type().clone());
            self.names.push(format!("the time of {}", self.names[column]));
            for (made_of, (time, _)) in self.made_of.iter_mut().zip(of_arms) {
                made_of.push(time);
            }
        }
        Some(OfTime { time, of })
    }

    /// The columns that the query has, as expressions above name them. `padded`: NULL may stand there.
    pub fn columns(&self, side: usize, padded: bool) -> Vec<Expr> {
        let column = |at: usize| match self.windows[at].filter(|_| !padded) {
            None => Expr::Column(side_column(side, at)),
            Some(OfTime { time, of }) => {
                let start = of.start_of(Expr::Column(side_column(side, time)));
                windows::both(start.clone(), window::shift(start, of.size_us))
            }
        };
        (0..self.visible).map(column).collect()
    }

    /// A condition on this side alone becomes one of its arms.
    pub fn filter(&mut self, side: usize, condition: &Expr) {
        for (arm, made_of) in self.arms.iter_mut().zip(&self.made_of) {
            let own = condition.clone().transform_up(|node| match &node {
                Expr::Column(column) => Ok(match index_of(column, side) {
                    Some(index) => Transformed::yes(made_of[index].clone()),
                    None => Transformed::no(node),
                }),
                _ => Ok(Transformed::no(node)),
            });
            filter_arm(arm, own.expect("the rule returns no error").data);
        }
    }

    /// What all its rows fulfil, as far as its columns tell. Of several arms nothing is known.
    pub fn conditions(&self, side: usize) -> Vec<Expr> {
        let ([arm], [made_of]) = (&self.arms[..], &self.made_of[..]) else { return Vec::new() };
        let of_column = |node: Expr| {
            let known = made_of.iter().position(|of| *of == node && !of.column_refs().is_empty());
            Ok(match known {
                Some(at) => {
                    let column = Expr::Column(side_column(side, at));
                    Transformed::new(column, true, TreeNodeRecursion::Jump)
                }
                None => Transformed::no(node),
            })
        };
        let translated = |filter: &Expr| {
            let new = filter.clone().transform_down(of_column).expect("the rule returns no error");
            let is_whole = |column: &&Column| index_of(column, side).is_some();
            new.data.column_refs().iter().all(is_whole).then_some(new.data)
        };
        let below = arm.below.iter().flat_map(|below| &below.having);
        arm.filters.iter().chain(below).filter_map(translated).collect()
    }

    /// The columns that are its event time.
    pub fn times(&self, sources: &[SourceSpec]) -> Vec<usize> {
        (0..self.types.len()).filter(|&column| self.is_time(column, 0, sources)).collect()
    }

    /// Whether a column and so many microseconds are its event time, in every arm: a window of a query below has its
    /// last one.
    pub fn is_time(&self, column: usize, shifted: i64, sources: &[SourceSpec]) -> bool {
        self.arms.iter().zip(&self.made_of).all(|(arm, made_of)| {
            let own = &made_of[column];
            match shifted {
                0 => is_time(own, arm, sources),
                _ => is_time(&window::shift(own.clone(), shifted), arm, sources),
            }
        })
    }

    /// Whether its rows are groups of a query below: none of them comes late.
    pub fn is_grouped(&self) -> bool {
        self.arms.iter().any(Chain::is_grouped)
    }

    /// The columns of timestamps, be they event times or not.
    pub fn timestamps(&self) -> Vec<usize> {
        let is_one = |&column: &usize| matches!(self.types[column], DataType::Timestamp(_, _));
        (0..self.types.len()).filter(is_one).collect()
    }

    /// Whether the query itself has this column.
    pub fn is_visible(&self, column: usize) -> bool {
        column < self.visible
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

/// What is asked of groups alone is asked where they are made, and of their keys before.
fn filter_arm(arm: &mut Chain, condition: Expr) {
    let is_group = |column: &&Column| column.relation.as_ref().is_some_and(|r| r.table() == GROUP);
    let of_groups = arm.is_grouped() && condition.column_refs().iter().all(is_group);
    match of_groups {
        true => arm.below.iter_mut().for_each(|below| below.filter(condition.clone())),
        false => arm.filter(condition),
    }
}
