//! The query as the engine runs it: which columns to decode, what each core does with a batch, what
//! leaves at the end of an epoch.
//!
//! SQL is parsed, bound and typed with DataFusion's crates; what comes out are chains:
//! input → filters → explode and joins → rows or groups → output, which stand on one another as the
//! levels of a `query`. Anything else is refused with its reason.
//!
//! The way of a query: `sql` parses it and resolves its names, `bind` makes DataFusion's logical plan
//! with Spark's operators (`operators`) and functions (`functions`), `lower` makes the chains, `modes`
//! says whether the output mode fits them, `assemble` and `shape` compile them (`compile`, `kernel`). `expr` and
//! `output` are what runs. No file, clock or thread is used; only `ends` asks what a path is.

mod aggregated;
mod assemble;
mod bind;
pub mod choice;
mod coerce;
mod compile;
mod derive;
pub mod device;
mod diagnose;
pub mod explain;
pub mod expr;
mod fixed;
pub mod functions;
mod grouping;
pub mod identity;
mod infer;
mod inline;
mod inputs;
mod join;
mod kernel;
mod lambda;
mod lower;
pub mod meet;
mod modes;
mod nulls;
mod operators;
mod output;
pub mod query;
mod range;
mod shape;
pub mod side;
pub mod sql;
mod steps;
pub mod stream_join;
mod stream_side;
mod subquery;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod windows;
mod words;

use std::ops::Range;

use arrow::datatypes::{DataType, Field, SchemaRef};
use jiff::tz::TimeZone;
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec, Call};

use crate::batch::InputColumn;
use crate::job::finding::Finding;
use crate::job::spec::{Device, JobSpec, LateRule, OutputMode, SourceKind, SourceSpec, Trigger};
use crate::state::{Closing, StateSpec};
use compile::Compiler;
pub use derive::{Derive, Explode, ExplodeList, StaticJoin};
use expr::Compiled;
use functions::Catalog;
pub use join::JoinKind;
use lower::Relations;
use modes::Facts;
pub use query::Query;
use sql::place::Places;
pub use stream_join::Judged;

/// Plans the job's query; every reason for which it is refused, at its place in the job file.
pub fn plan(job: &JobSpec) -> Result<Query, Vec<Finding>> {
    let places = Places::new(&job.query);
    let whole = |what: String, fix: &str| vec![Finding::new(places.whole(), what, fix)];
    let zone = zone(&job.timezone).map_err(|reason| {
        vec![Finding { at: None, what: reason, fix: "write an IANA name such as \"UTC\"".into() }]
    })?;
    job.sources.iter().try_for_each(check_watermark)?;
    let catalog = Catalog::new(zone.clone());
    let relations = Relations { sources: &job.sources, tables: &job.tables };
    let parsed = sql::parse(&job.query.sql, relations, &catalog, &places)?;
    let bound = bind::bind(parsed.query, relations, &catalog, &parsed.marks, &places)?;
    let chains =
        lower::lower(&bound.plan, relations).map_err(|refused| whole(refused.what, refused.fix))?;
    let facts = Facts {
        mode: job.query.mode,
        marks: &parsed.marks,
        sources: &job.sources,
        bounded: ends(job),
        whole: places.whole(),
    };
    let findings = modes::check(&chains, &facts);
    if !findings.is_empty() {
        return Err(findings);
    }
    let compiler = Compiler { zone };
    let compiled = bound.values.iter().try_for_each(|value| value.compile(job, &compiler));
    let mut query = compiled
        .and_then(|()| assemble::assemble(chains, job, &compiler))
        .map_err(|error| whole(format!("SQL: {}", error.find_root().strip_backtrace()), ""))?;
    query.values = bound.values;
    read_once(&query, job).map_err(|(what, fix)| whole(what, fix))?;
    if matches!(job.device, Device::Gpu(_)) {
        query.scans.iter().try_for_each(|scan| check_device(&scan.plan, job))?;
    }
    Ok(query)
}

/// Files, topics and generated rows may be read as often as the query names them; a stream once.
fn read_once(query: &Query, job: &JobSpec) -> Result<(), (String, &'static str)> {
    for (at, source) in job.sources.iter().enumerate() {
        let is_stream = matches!(source.kind, SourceKind::Socket { .. } | SourceKind::Stdin);
        let scans = query.scans.iter().filter(|scan| scan.source == at).count();
        if is_stream && scans > 1 {
            let what = format!("the query reads {} {scans} times: its rows come once", source.name);
            return Err((what, "read it once, or let it come as files or through Kafka"));
        }
    }
    Ok(())
}

/// A job that asks for a GPU is refused where the GPU would have nothing to do.
fn check_device(plan: &Plan, job: &JobSpec) -> Result<(), Vec<Finding>> {
    let refusals = device::device_plan(plan).err().unwrap_or_default();
    let finding = |refusal: pelton_kernels::gpu::Refusal| Finding {
        at: job.device_at.clone(),
        what: format!("device = \"gpu\": {} has no kernel there: {}", refusal.node, refusal.reason),
        fix: "write device = \"cpu\" or \"auto\"".into(),
    };
    let findings: Vec<_> = refusals.into_iter().map(finding).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// `UTC`, an IANA name, or a fixed offset such as `+02:00`.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("utc") || name == "Z" {
        return Ok(TimeZone::UTC);
    }
    if let Some(offset) = fixed_offset(name) {
        return Ok(offset);
    }
    TimeZone::get(name).map_err(|_| format!("unknown time zone {name:?}"))
}

fn fixed_offset(name: &str) -> Option<TimeZone> {
    let (sign, rest) = match name.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let seconds = hours.parse::<i32>().ok()? * 3_600 + minutes.parse::<i32>().ok()? * 60;
    jiff::tz::Offset::from_seconds(sign * seconds).ok().map(TimeZone::fixed)
}

fn check_watermark(source: &SourceSpec) -> Result<(), Vec<Finding>> {
    let Some(watermark) = &source.watermark else { return Ok(()) };
    let refuse = |what: String, fix: String| Err(vec![Finding { at: None, what, fix }]);
    match source.schema.iter().find(|column| column.name == watermark.column) {
        None => {
            let names: Vec<&str> = source.schema.iter().map(|c| c.name.as_str()).collect();
            let what = format!("the watermark's column {} is not in the schema", watermark.column);
            refuse(what, format!("the columns are {}", names.join(", ")))
        }
        Some(column) if !matches!(column.data_type, DataType::Timestamp(_, _)) => refuse(
            format!(
                "the event time {} has the invalid type {}, expected TIMESTAMP",
                column.name,
                types::sql_name(&column.data_type)
            ),
            "give the watermark a TIMESTAMP column".into(),
        ),
        Some(_) => Ok(()),
    }
}

/// Whether the input comes to an end, at which every group is final (SEMANTICS 5): all of it.
pub fn ends(job: &JobSpec) -> bool {
    let to_the_end = !matches!(job.query.trigger, Trigger::AvailableNow | Trigger::Once);
    to_the_end && job.sources.iter().all(|source| is_bounded(&source.kind))
}

fn is_bounded(kind: &SourceKind) -> bool {
    match kind {
        SourceKind::File { end: Some(end), .. } => *end,
        // One plain file: no pattern and no directory.
        SourceKind::File { path, end: None, .. } => {
            !path.to_string_lossy().contains(['*', '?', '[']) && !path.is_dir()
        }
        SourceKind::Socket { .. } => false,
        SourceKind::Stdin => true,
        SourceKind::Generate { rows, .. } => rows.is_some(),
        SourceKind::Kafka(kafka) => kafka.end.is_some(),
    }
}

/// What one pipeline does with the rows of one input.
#[derive(Debug)]
pub struct Plan {
    /// Columns that the decoder delivers; expressions below count them from 0 on.
    pub input: Vec<InputColumn>,
    /// Names of the input columns, for messages.
    pub input_names: Vec<String>,
    /// Event time among the input (`Encoding::Values`), where the source has a watermark.
    pub event_time: Option<usize>,
    pub watermark: Option<Watermark>,
    /// WHERE on columns other than the event time: rows that it drops do not move the watermark.
    pub filter_below: Option<Compiled>,
    /// WHERE on the event time: rows that it drops do move the watermark.
    pub filter_above: Option<Compiled>,
    /// What makes rows of rows, in this order.
    pub derive: Vec<Derive>,
    pub shape: Shape,
    pub output: Output,
    /// The rows come out of a state below: nothing is late any more, no clock is moved by them.
    pub fed_by_state: bool,
    /// Input columns as a sink of late rows takes them.
    pub late_rows: Option<LateRows>,
    pub mode: OutputMode,
    /// Index into the job's sources: the one that is read, or the first one below.
    pub source: usize,
    /// Its name, for messages.
    pub source_name: String,
    /// Index into the query's scans, 0 above a state: rows of an earlier one come first.
    pub scan: usize,
}

impl Plan {
    /// A split's number among those of all scans.
    pub fn split(&self, split: u32) -> u32 {
        const SPLIT_BITS: u32 = 20;
        (self.scan as u32) << SPLIT_BITS | split
    }

    /// The watermark as far as state leaves by it: no group does in complete mode.
    pub fn evicting(&self, watermark: Option<i64>) -> Option<i64> {
        let has_state = !matches!(self.shape, Shape::Rows { .. });
        watermark.filter(|_| has_state && self.goes_by_time() && self.watermark.is_some())
    }

    /// Whether the mode lets the watermark end anything: what deduplication has seen in all but batch
    /// mode, as no row leaves there again; groups where they leave once or when they change.
    pub fn goes_by_time(&self) -> bool {
        match (&self.shape, self.mode) {
            (_, OutputMode::Append | OutputMode::Update) => true,
            (shape, OutputMode::Complete) => matches!(shape, Shape::First(_)),
            (_, OutputMode::Batch) => false,
        }
    }

    /// Sessions in complete mode under Spark's rule.
    pub fn has_sessions_of_spark(&self) -> bool {
        let is_epoch = |watermark: Watermark| watermark.late == LateRule::Epoch;
        self.mode == OutputMode::Complete
            && self.groups().is_some_and(|groups| groups.session.is_some())
            && self.watermark.is_some_and(is_epoch)
    }

    pub fn groups(&self) -> Option<&Groups> {
        match &self.shape {
            Shape::Groups(groups) => Some(groups),
            Shape::Rows { .. } | Shape::First(_) => None,
        }
    }

    /// What this level's state holds.
    pub fn state(&self) -> Option<StateSpec> {
        match &self.shape {
            Shape::Rows { .. } => None,
            Shape::Groups(groups) => Some(StateSpec {
                keys: groups.key_fields(),
                calls: groups.calls(),
                closing: Closing::of(groups),
                session: groups.session,
                moving: false,
            }),
            Shape::First(first) => Some(first.state()),
        }
    }

    /// The key columns of a partial by which it is cut into shards: pieces of one session meet.
    pub fn hashed_keys(&self) -> Range<usize> {
        match &self.shape {
            Shape::Rows { .. } => 0..0,
            Shape::Groups(groups) if groups.session.is_some() => 2..groups.keys.len(),
            Shape::Groups(groups) => 0..groups.keys.len(),
            Shape::First(first) => 0..first.keys.len(),
        }
    }

    /// What becomes of a row depends on the rows before it by more than their greatest event time.
    pub fn needs_order(&self) -> bool {
        let skew = self.watermark.is_some_and(|watermark| watermark.max_future_skew_us.is_some());
        skew || matches!(&self.shape, Shape::First(first) if first.clock.is_some())
    }

    /// The window among the group keys.
    pub fn window(&self) -> Option<WindowKey> {
        match &self.shape {
            Shape::Groups(groups) => groups.window,
            Shape::Rows { .. } | Shape::First(_) => None,
        }
    }

    /// The sessions among the group keys.
    pub fn session(&self) -> Option<SessionKey> {
        match &self.shape {
            Shape::Groups(groups) => groups.session,
            Shape::Rows { .. } | Shape::First(_) => None,
        }
    }
}

/// The source's columns, for rows that are late.
#[derive(Debug)]
pub struct LateRows {
    /// Indexes into the plan's input.
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub delay_us: i64,
    pub late: LateRule,
    pub max_future_skew_us: Option<i64>,
}

#[derive(Debug)]
pub enum Shape {
    /// No aggregate: each row that passes leaves once, in the order of positions.
    Rows {
        columns: Vec<Compiled>,
        schema: SchemaRef,
        /// For a join above: by what a row comes too late, and meets none.
        judged: Judged,
    },
    Groups(Groups),
    /// Deduplication: the first row of each key passes.
    First(First),
}

#[derive(Debug)]
pub struct First {
    /// What passes.
    pub columns: Vec<Compiled>,
    /// Of the columns, then of the row's clock where [`First::clock`] asks for it.
    pub schema: SchemaRef,
    /// The columns that make a key.
    pub keys: Vec<usize>,
    /// The column of the event time, where the watermark forgets keys.
    pub time: Option<usize>,
    /// A key is forgotten so long after its first row's time; `None`: at its own time.
    pub within_us: Option<i64>,
    /// The column of the split's watermark just before each row: a key may be forgotten by then.
    pub clock: Option<usize>,
    /// A row may come too late.
    pub judged: bool,
}

impl First {
    fn state(&self) -> StateSpec {
        let field = |&key: &usize| self.schema.field(key).clone();
        let time = self.time.map(|time| self.schema.field(time).data_type().clone());
        let call = |data_type: DataType| Call {
            spec: AggregateSpec {
                function: AggregateFunction::Max,
                input: Some(data_type.clone()),
                output: data_type,
                name: "forgotten".into(),
            },
            argument: Some(0),
            filter: None,
        };
        let within = self.within_us.and(time);
        let own = self.time.and_then(|time| self.keys.iter().position(|&key| key == time));
        StateSpec {
            keys: self.keys.iter().map(field).collect(),
            closing: match (&within, own) {
                // Behind the keys: rows, rows without a value, the value.
                (Some(_), _) => Closing::At { column: self.keys.len() + 2 },
                (None, Some(key)) => Closing::At { column: key },
                (None, None) => Closing::Never,
            },
            calls: within.map(call).into_iter().collect(),
            session: None,
            moving: self.within_us.is_some(),
        }
    }
}

/// Expressions count the input columns from 0 on, then the exploded element where there is one.
#[derive(Debug)]
pub struct Groups {
    pub keys: Vec<GroupKey>,
    /// The key that is a window's start.
    pub window: Option<WindowKey>,
    /// The keys that are a session's start and end.
    pub session: Option<SessionKey>,
    /// The key that is the event time itself.
    pub event_time_key: Option<usize>,
    /// Arguments of the aggregates, each once.
    pub arguments: Vec<Compiled>,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Debug)]
pub struct GroupKey {
    pub name: String,
    pub expr: Compiled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowKey {
    /// Index into `keys`; that key's expression is the start of the row's (latest) window.
    pub key: usize,
    pub size_us: i64,
    pub slide_us: i64,
    pub offset_us: i64,
    /// Index into `arguments` of the time, where a row falls into several windows.
    pub time: Option<usize>,
    /// It is over the event time: the watermark closes it.
    pub closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// Indexes into `keys`: a row's own time, and that plus its gap.
    pub start: usize,
    pub end: usize,
    /// It is over the event time: the watermark closes it.
    pub closes: bool,
}

impl SessionKey {
    pub fn is_bound(self, key: usize) -> bool {
        key == self.start || key == self.end
    }
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub spec: AggregateSpec,
    /// Index into `arguments`; none for `count(*)`.
    pub argument: Option<usize>,
    /// `FILTER (WHERE …)`: index into `arguments` of a boolean.
    pub filter: Option<usize>,
}

impl Groups {
    /// Name and type of each key.
    pub fn key_fields(&self) -> Vec<Field> {
        let field = |key: &GroupKey| Field::new(&key.name, key.expr.data_type().clone(), true);
        self.keys.iter().map(field).collect()
    }

    /// The key that groups leave in the order of: the start of a window or a session.
    pub fn first_key(&self) -> Option<usize> {
        let session = self.session.map(|session| session.start);
        session.or_else(|| self.window.map(|window| window.key))
    }

    /// The aggregates as the kernels take them.
    pub fn calls(&self) -> Vec<Call> {
        let call = |aggregate: &Aggregate| Call {
            spec: aggregate.spec.clone(),
            argument: aggregate.argument,
            filter: aggregate.filter,
        };
        self.aggregates.iter().map(call).collect()
    }
}

/// What becomes of the groups, or of the rows, before they leave: over the keys, then the
/// aggregates' values; for [`Shape::Rows`] over its columns.
#[derive(Debug)]
pub struct Output {
    pub having: Option<Compiled>,
    pub columns: Vec<Compiled>,
    /// Expressions that only ORDER BY reads; they do not leave.
    pub hidden: Vec<Compiled>,
    pub schema: SchemaRef,
    /// Empty: by window start, then keys, nulls first.
    pub order_by: Vec<OrderBy>,
    pub limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// Index into [`Output::columns`], or past its end into [`Output::hidden`].
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}
