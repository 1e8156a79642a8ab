//! A job's query: levels, each a state and the arms that feed it.
//!
//! An arm is one pipeline's plan: it reads a source (a scan) or what leaves a level below. The arms of
//! one level differ in what they read alone; their rows, or their partials, meet in the level's state.
//! So UNION ALL is a level with several arms, a join of two streams one with two kinds of them, and one source that is read twice is two scans, each
//! with a place and a clock of its own.
//!
//! Invariant: what feeds a level stands before it, and each level but the last feeds exactly one arm.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::stream_join::StreamJoin;
use super::subquery::Value;
use super::{Derive, LateRows, Output, Plan};
use crate::error::Result;
use crate::job::spec::OutputMode;
use crate::state::StateSpec;

#[derive(Debug)]
pub struct Query {
    /// What leaves the last one leaves the job.
    pub levels: Vec<Level>,
    pub scans: Vec<Scan>,
    /// Subqueries of one value, in the order in which they are worked out.
    pub values: Vec<Arc<Value>>,
    /// Text that is equal for two queries exactly when one can go on from the other's state.
    pub fingerprint: String,
}

/// A reading of a source.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Index into the job's sources.
    pub source: usize,
    pub level: usize,
    /// Of the level.
    pub arm: usize,
    pub plan: Arc<Plan>,
}

#[derive(Debug)]
pub struct Level {
    /// One at least. State and output are the first one's, and those of the others equal them, unless
    /// they meet in a join: then the left side's come first, and the level's state is the join's.
    pub arms: Vec<Arm>,
    /// What leaves is its columns.
    pub join: Option<Arc<StreamJoin>>,
}

#[derive(Debug)]
pub struct Arm {
    pub reads: Reads,
    pub plan: Arc<Plan>,
}

/// Where an arm's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Index into the query's scans.
    Scan(usize),
    /// Index into the query's levels.
    Level(usize),
}

impl Query {
    /// `levels` as the module says they are.
    pub fn of(levels: Vec<Level>) -> Query {
        let mut scans: Vec<(usize, Scan)> = Vec::new();
        for (level, of) in levels.iter().enumerate() {
            for (arm, Arm { reads, plan }) in of.arms.iter().enumerate() {
                if let Reads::Scan(at) = *reads {
                    let plan = Arc::clone(plan);
                    scans.push((at, Scan { source: plan.source, level, arm, plan }));
                }
            }
        }
        scans.sort_by_key(|(at, _)| *at);
        let scans = scans.into_iter().map(|(_, scan)| scan).collect();
        let (values, fingerprint) = (Vec::new(), String::new());
        let mut query = Query { levels, scans, values, fingerprint };
        query.fingerprint = super::identity::fingerprint(&query);
        query
    }

    /// A plan over a source, and nothing else.
    pub fn single(plan: Arc<Plan>) -> Query {
        Query::of(vec![Level { arms: vec![Arm { reads: Reads::Scan(0), plan }], join: None }])
    }

    pub fn mode(&self) -> OutputMode {
        self.levels[0].plan().mode
    }

    /// What leaves the job.
    pub fn output(&self) -> &Output {
        &self.levels.last().expect("a query has a level").plan().output
    }

    /// The level and its arm that a level's rows go to; none for the last.
    pub fn above(&self, level: usize) -> Option<(usize, usize)> {
        let feeds = |of: &Level| of.arms.iter().position(|arm| arm.reads == Reads::Level(level));
        (level + 1..self.levels.len()).find_map(|at| Some((at, feeds(&self.levels[at])?)))
    }

    /// The watermark of the rows that come to a level: a join below holds it back by as much as its own
    /// rows may be late.
    pub fn watermark_at(&self, level: usize, watermark: Option<i64>) -> Option<i64> {
        let of_arm = |arm: &Arm| match arm.reads {
            Reads::Scan(_) => watermark,
            Reads::Level(below) => {
                let own = self.watermark_at(below, watermark)?;
                let windows = arm.plan.window().is_some();
                let join = self.levels[below].join.as_ref();
                Some(join.map_or(own, |join| join.output_watermark(own, windows)))
            }
        };
        self.levels[level].arms.iter().map(of_arm).min().flatten()
    }

    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.levels.iter().flat_map(|level| &level.arms).map(|arm| &arm.plan)
    }

    pub fn has_watermark(&self) -> bool {
        self.scans.iter().any(|scan| scan.plan.watermark.is_some())
    }

    /// The rows that a sink of late rows takes.
    pub fn late_rows(&self) -> Option<&LateRows> {
        self.scans.iter().find_map(|scan| scan.plan.late_rows.as_ref())
    }

    /// Takes the rows of the job's static tables, by the order of the tables: at the start, and where
    /// they are read again between two epochs.
    ///
    /// Errors: `Failed` where an expression over a table stops.
    pub fn load(&self, tables: &[RecordBatch]) -> Result<()> {
        self.values.iter().try_for_each(|value| value.load(tables))?;
        let joins = self.plans().flat_map(|plan| &plan.derive).filter_map(|step| match step {
            Derive::Join(join) => Some(join),
            Derive::Explode(_) => None,
        });
        for join in joins {
            join.side.load(tables)?;
        }
        Ok(())
    }
}

impl Level {
    /// The plan of the first arm: its state and its output are the level's.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.arms[0].plan
    }

    /// What the state of its groups holds; a join's is another.
    pub fn state(&self) -> Option<StateSpec> {
        self.plan().state()
    }

    pub fn keeps_state(&self) -> bool {
        self.join.is_some() || self.state().is_some()
    }

    /// The watermark as far as anything leaves the state by it.
    pub fn evicting(&self, watermark: Option<i64>) -> Option<i64> {
        match &self.join {
            None => self.plan().evicting(watermark),
            Some(join) => watermark.filter(|_| join.closes()),
        }
    }
}
