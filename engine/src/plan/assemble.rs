//! Chains to levels: which arm reads what, and what each reads through the one below.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;

use super::compile::Compiler;
use super::inputs::{Inputs, added, source_columns};
use super::lower::{self, Chain, Grouping, Key};
use super::meet::Meeting;
use super::query::{Arm, Level, Reads};
use super::shape::Assembler;
use super::types::sql_name;
use super::windows::closes;
use super::{Judged, Plan, Query, Shape, Watermark, stream_join};
use crate::job::spec::{JobSpec, SinkOf, SourceSpec};

/// Compiles chains that their mode allows, and those below them.
pub fn assemble(mut arms: Vec<Chain>, job: &JobSpec, compiler: &Compiler) -> Result<Query> {
    arms.iter_mut().for_each(Chain::windows_first);
    let mut build = Build { job, compiler, levels: Vec::new(), scans: 0 };
    build.level(&arms, None)?;
    Ok(Query::of(build.levels))
}

/// The levels so far, from the lowest up.
struct Build<'a> {
    job: &'a JobSpec,
    compiler: &'a Compiler,
    levels: Vec<Level>,
    scans: usize,
}

impl Build<'_> {
    /// Adds the level of these arms, and what is below it; its number. `reads`: the source's columns
    /// that the chain above reads through this one.
    fn level(&mut self, arms: &[Chain], reads: Option<Vec<bool>>) -> Result<usize> {
        let arms = self.arms(arms, reads.as_deref(), Judged::Nothing)?;
        self.levels.push(Level { arms, join: None });
        Ok(self.levels.len() - 1)
    }

    /// `judged`: by what rows come too late, and go no further.
    fn arms(&mut self, arms: &[Chain], reads: Option<&[bool]>, judged: Judged) -> Result<Vec<Arm>> {
        let mut feeds = Vec::new();
        for arm in arms {
            feeds.push(match (&arm.meeting, arm.below.first()) {
                (Some(meeting), _) => Reads::Level(self.meeting(meeting, arm)?),
                (None, None) => {
                    self.scans += 1;
                    Reads::Scan(self.scans - 1)
                }
                (None, Some(below)) => {
                    let source = &self.job.sources[arm.source];
                    let reads = below.first.is_some().then(|| source_columns(arm, source));
                    Reads::Level(self.level(&arm.below, reads)?)
                }
            });
        }
        let closing = self.closing(arms);
        let mut compiled = Vec::new();
        for (chain, from) in arms.iter().zip(feeds) {
            let plan = self.plan(chain, from, (&closing, judged), reads)?;
            same_columns(&plan, compiled.first())?;
            compiled.push(Arm { reads: from, plan: Arc::new(plan) });
        }
        Ok(compiled)
    }

    /// Adds the level at which two streams meet, for the chain above it.
    fn meeting(&mut self, meeting: &Meeting, above: &Chain) -> Result<usize> {
        let sources = &self.job.sources;
        let mut arms = Vec::new();
        let above = above.expressions();
        let read = [0, 1].map(|side| meeting.read(side, above.iter().copied()));
        for side in [0, 1] {
            let judged = meeting.judged(side, &read[side], sources);
            let chains = meeting.sides[side].chains(&read[side]);
            arms.extend(self.arms(&chains, None, judged)?);
        }
        let join = stream_join::compile(meeting, read, sources, self.compiler)?;
        self.levels.push(Level { arms, join: Some(Arc::new(join)) });
        Ok(self.levels.len() - 1)
    }

    /// Whether each group key closes by the watermark: it must in all arms, whose groups are one.
    fn closing(&self, arms: &[Chain]) -> Vec<bool> {
        let closes = |chain: &Chain, key: usize| {
            let key = chain.groups.as_ref().and_then(|groups| groups.keys.get(key));
            key.is_some_and(|key| closes(key, chain, &self.job.sources))
        };
        let keys = arms[0].groups.as_ref().map_or(0, |groups| groups.keys.len());
        (0..keys).map(|key| arms.iter().all(|chain| closes(chain, key))).collect()
    }

    fn plan(
        &self,
        chain: &Chain,
        from: Reads,
        (closing, judged): (&[bool], Judged),
        reads: Option<&[bool]>,
    ) -> Result<Plan> {
        let (job, source) = (self.job, &self.job.sources[chain.source]);
        let keeps_late = job.sinks.iter().any(|sink| sink.of == SinkOf::Late);
        let (ground, scan) = match from {
            Reads::Level(level) => (Some(Ground::of(&self.levels[level], source)), 0),
            Reads::Scan(scan) => (None, scan),
        };
        let ground = ground.as_ref();
        let inputs = match ground {
            Some(below) => Inputs::below(below.schema),
            None if keeps_late => Inputs::of(chain, source, Some(&vec![true; source.schema.len()])),
            None => Inputs::of(chain, source, reads),
        };
        let added = (0..chain.steps.len()).map(|n| added(chain, n)).collect();
        let (compiler, inputs) = (self.compiler, &inputs);
        let assembler =
            Assembler { job, source, compiler, inputs, closing, judged, reads, ground, added };
        let (below, above) = assembler.split_filters(chain.filters.clone());
        let filter_below = assembler.filter(below)?;
        let filter_above = assembler.filter(above)?;
        let derive = (0..chain.steps.len()).map(|n| assembler.step(n, chain));
        let derive = derive.collect::<Result<Vec<_>>>()?;
        let (shape, output) = assembler.shape(chain)?;
        let mut plan = Plan {
            input_names: inputs.names(source, ground.map(|ground| ground.schema)),
            event_time: assembler.event_time(),
            watermark: chain.watermark(&job.sources).map(|w| Watermark {
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
            fed_by_state: ground.is_some(),
            mode: job.query.mode,
            source: chain.source,
            source_name: source.name.clone(),
            scan,
        };
        plan.mark_filters();
        Ok(plan)
    }
}

/// What leaves a level, for what stands on it.
pub(super) struct Ground<'a> {
    pub schema: &'a Schema,
    /// As expressions above name them.
    pub columns: Vec<Column>,
    /// They are the source's own rows.
    pub is_source: bool,
}

impl Ground<'_> {
    fn of<'a>(level: &'a Level, source: &SourceSpec) -> Ground<'a> {
        if let Some(join) = &level.join {
            return Ground { schema: &join.schema, columns: join.columns(), is_source: false };
        }
        let plan = level.plan();
        let column = |(index, field): (usize, &Arc<Field>)| match plan.shape {
            Shape::Groups(_) => lower::group_column(index),
            _ => Column::new(Some(source.name.as_str()), field.name()),
        };
        let schema = &plan.output.schema;
        Ground {
            columns: schema.fields().iter().enumerate().map(column).collect(),
            is_source: matches!(plan.shape, Shape::First(_)),
            schema,
        }
    }
}

/// What leaves the arms of one level has one form; `bind` made it so.
fn same_columns(plan: &Plan, first: Option<&Arm>) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    let fields = plan.output.schema.fields().iter();
    for (field, of_first) in fields.zip(first.plan.output.schema.fields()) {
        if field.data_type() != of_first.data_type() {
            let types = (sql_name(of_first.data_type()), sql_name(field.data_type()));
            let what = format!("UNION ALL: {} is {} and {}", field.name(), types.0, types.1);
            return Err(DataFusionError::Plan(what));
        }
    }
    Ok(())
}

pub(super) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Chain {
    /// Puts the windows first among the keys, here and below.
    fn windows_first(&mut self) {
        self.below.iter_mut().for_each(Chain::windows_first);
        let sides = self.meeting.iter_mut().flat_map(|meeting| &mut meeting.sides);
        sides.flat_map(|side| &mut side.arms).for_each(Chain::windows_first);
        if let Some(groups) = &mut self.groups {
            window_first(groups, &mut self.having, &mut self.columns, &mut self.order_by);
        }
    }
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
