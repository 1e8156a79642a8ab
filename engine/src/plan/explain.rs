//! The plan as a user reads it.

use std::fmt::Write as _;

use arrow::datatypes::Schema;
use pelton_kernels::cpu::aggregate::AggregateFunction;

use super::choice::{Candidate, DeviceChoice, Load, choose};
use super::device::{Filter, computed_on_cpu, computed_on_device, device_plan};
use super::expr::Compiled;
use super::functions;
use super::query::{Query, Scan};
use super::stream_join::{JoinSide, Judged, Leaves, StreamJoin};
use super::types::sql_name;
use super::words::{duration, text};
use super::{Aggregate, Derive, ExplodeList, First, Groups, Plan, Shape, StaticJoin};
use crate::batch::Encoding;
use crate::job::spec::{Device, LateRule, OutputMode};
use crate::state::Closing;

/// The whole query, from what is decoded to what leaves.
pub fn explain(query: &Query) -> String {
    let mut out = format!("mode     {}\n", mode(query.mode()));
    for (at, level) in query.levels.iter().enumerate() {
        let (last, one) = (at + 1 == query.levels.len(), level.arms.len() == 1);
        for (number, arm) in level.arms.iter().enumerate() {
            if !one {
                _ = writeln!(out, "arm      {} of {}", number + 1, level.arms.len());
            }
            let of_level = number + 1 == level.arms.len();
            plan_lines(&mut out, query, &arm.plan, (last, of_level));
        }
        if let Some(join) = &level.join {
            stream_join_lines(&mut out, join);
        }
        if !last {
            let above = match one && query.levels[at + 1].arms.len() == 1 {
                true => "what leaves goes through a second query".to_string(),
                false => {
                    let (above, arm) = query.above(at).expect("all but the last feed one");
                    format!("what leaves is arm {} of level {above}", arm + 1)
                }
            };
            _ = writeln!(out, "above    {above}");
        }
    }
    out
}

fn stream_join_lines(out: &mut String, join: &StreamJoin) {
    let names = |schema: &Schema| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    _ = writeln!(out, "join     {} of two streams", join.kind.name());
    let [left, right] = join.sides.each_ref().map(|side| names(&side.schema));
    let keys = join.sides[0].keys.iter().zip(&join.sides[1].keys).zip(&join.null_safe);
    for ((of_left, of_right), null_safe) in keys {
        let equal = if *null_safe { "<=>" } else { "=" };
        _ = writeln!(out, "  key {} {equal} {}", text(of_left, &left), text(of_right, &right));
    }
    if let Some(residual) = &join.residual {
        _ = writeln!(out, "  where {}", text(residual, &names(&join.schema)));
    }
    for (side, of) in ["left", "right"].iter().zip(&join.sides) {
        _ = writeln!(out, "state    {side}: {}", join_bound(of));
    }
}

/// What keeps a side's rows from staying for ever, if anything does.
fn join_bound(side: &JoinSide) -> String {
    match &side.leaves {
        Leaves::Never => "every row ever seen: ON bounds no time by the other side's".into(),
        Leaves::Key(_) => "rows whose key the watermark has not passed".into(),
        Leaves::Window(_, _) => "rows until the watermark comes to the end of their window".into(),
        Leaves::Time(column, bounds) => {
            let bounds = bounds.iter().map(|bound| {
                let sign = if bound.shift_us < 0 { '-' } else { '+' };
                format!("the watermark {sign} {}", duration(bound.shift_us.saturating_abs()))
            });
            let name = side.schema.field(*column).name();
            format!("rows until {} passes their {name}", bounds.collect::<Vec<_>>().join(", or "))
        }
    }
}

/// `last`: nothing is above the plan's level; `of_level`: it is the last arm, and tells of the output.
fn plan_lines(out: &mut String, query: &Query, plan: &Plan, (last, of_level): (bool, bool)) {
    let names = row_names(plan);
    if !plan.fed_by_state {
        if query.scans.len() > 1 {
            _ = writeln!(out, "scan     {} of {}", plan.scan, plan.source_name);
        }
        inputs(out, plan);
    }
    if plan.fed_by_state && plan.watermark.is_some() {
        _ = writeln!(out, "watermark as below; what comes is final, so nothing is late");
    }
    let clock = plan.event_time.filter(|_| !plan.fed_by_state);
    if let (Some(time), Some(watermark)) = (clock, plan.watermark) {
        let rule = match watermark.late {
            LateRule::Row => "each row by the rows before it",
            LateRule::Epoch => "by the watermark of the epoch before",
        };
        let delay = duration(watermark.delay_us);
        _ = writeln!(out, "watermark {} - {delay}; late: {rule}", plan.input_names[time]);
        if let Some(skew) = watermark.max_future_skew_us {
            let skew = duration(skew);
            _ = writeln!(out, "guard    rows more than {skew} ahead of those before are rejected");
        }
    }
    let of_time = if plan.fed_by_state { "" } else { " on the event time" };
    let filters = [(&plan.filter_below, ""), (&plan.filter_above, of_time)];
    for (filter, on) in filters {
        if let Some(filter) = filter {
            _ = writeln!(out, "filter   {}{on}{}", text(filter, &names), place(filter));
        }
    }
    for step in &plan.derive {
        step_lines(out, step, &names);
    }
    match &plan.shape {
        Shape::Rows { columns, schema, judged } => {
            let fate = match judged {
                Judged::Nothing => "",
                Judged::Times | Judged::Windows(_) => "; late ones go no further",
            };
            _ = writeln!(
                out,
                "rows     one for each row that passes, in its order; no state{fate}"
            );
            for (field, column) in schema.fields().iter().zip(columns) {
                let (text, data_type) = (text(column, &names), sql_name(column.data_type()));
                _ = writeln!(out, "  {} = {text}: {data_type}{}", field.name(), place(column));
            }
        }
        Shape::First(first) => deduplication(out, plan, first),
        Shape::Groups(groups) => grouping(out, plan, groups, &names),
    }
    if of_level && (last || plan.output.having.is_some()) {
        output(out, plan);
    }
}

/// Where the kernels run, and why, on so many cores; what the CPU computes for the GPU.
pub fn device(query: &Query, device: Device, candidate: &Candidate, cores: usize) -> String {
    let of_scan = |scan: &Scan| {
        let of_plan = device_of(&scan.plan, device, candidate, cores);
        match query.scans.len() {
            1 => of_plan,
            _ => format!("scan     {}\n{of_plan}", scan.plan.scan),
        }
    };
    query.scans.iter().map(of_scan).collect()
}

fn device_of(plan: &Plan, device: Device, candidate: &Candidate, cores: usize) -> String {
    let part = device_plan(plan);
    let mut out = String::new();
    match (device, &part) {
        (Device::Cpu, _) => out.push_str("device   CPU: the job says so\n"),
        (Device::Gpu(_) | Device::Auto, Ok(part)) => {
            let choice = choose(&candidate.found, &Load::of(part, cores));
            match device {
                Device::Auto => _ = writeln!(out, "device   {choice}"),
                _ => out.push_str("device   GPU: the job says so\n"),
            }
            out.push_str(match part.gives_rows() {
                true => "  one node: filters and what is computed, the rows that pass come back\n",
                false => "  one node: filters, keys and aggregates run fused\n",
            });
            let DeviceChoice { facts, .. } = choice;
            out.extend(facts.map(|facts| facts.to_string()));
            let names = row_names(plan);
            for computed in computed_on_device(part, &plan.shape) {
                _ = writeln!(out, "  computed there: {}", text(computed, &names));
            }
        }
        (_, Err(refusals)) => {
            out.push_str("device   CPU: a GPU cannot run it\n");
            for refusal in refusals {
                _ = writeln!(out, "  {}: {}", refusal.node, refusal.reason);
            }
        }
    }
    if let (Device::Auto | Device::Gpu(_), Ok(part), Shape::Groups(groups)) =
        (device, &part, &plan.shape)
    {
        let names = row_names(plan);
        for computed in computed_on_cpu(part, groups) {
            _ = writeln!(out, "  on the CPU first: {}", text(computed, &names));
        }
        for (filter, stage) in
            [(&plan.filter_below, Filter::Below), (&plan.filter_above, Filter::Above)]
        {
            if let Some(filter) = filter.as_ref().filter(|_| !part.filters.contains(&stage)) {
                _ = writeln!(out, "  filtered on the CPU: {}", text(filter, &names));
            }
        }
    }
    out
}

fn deduplication(out: &mut String, plan: &Plan, first: &First) {
    let keys = first.keys.iter().map(|&key| first.schema.field(key).name().as_str());
    _ = writeln!(out, "first    row of each {}", keys.collect::<Vec<_>>().join(", "));
    _ = writeln!(out, "state    {}", first_bound(plan, first));
}

fn first_bound(plan: &Plan, first: &First) -> String {
    match (first.time, first.within_us) {
        _ if plan.mode == OutputMode::Batch => "the keys of one epoch".into(),
        _ if matches!(plan.mode, OutputMode::Complete) => {
            "every key ever seen: complete mode drops none".into()
        }
        (Some(_), Some(within)) => {
            format!("keys whose first row is not {} behind the watermark", duration(within))
        }
        (Some(_), None) => "keys that the watermark has not passed".to_string(),
        (None, _) => "every key ever seen: the event time is not among the columns".to_string(),
    }
}

pub(super) fn row_names(plan: &Plan) -> Vec<String> {
    let mut names = plan.input_names.clone();
    for step in &plan.derive {
        match step {
            Derive::Explode(_) => names.push("element".into()),
            Derive::Join(join) if join.kind.adds_columns() => names.extend(side_names(join)),
            Derive::Join(_) => {}
        }
    }
    names
}

fn inputs(out: &mut String, plan: &Plan) {
    if plan.input.is_empty() {
        _ = writeln!(out, "decode   no column: rows are counted");
        return;
    }
    let columns = plan.input.iter().zip(&plan.input_names).map(|(input, name)| {
        let form = match input.encoding {
            Encoding::Values => "values",
            Encoding::Ids => "ids",
        };
        let first = if input.in_filter { ", before the filter" } else { "" };
        format!("{name} ({form}{first})")
    });
    _ = writeln!(out, "decode   {}", columns.collect::<Vec<_>>().join(", "));
}

fn step_lines(out: &mut String, step: &Derive, names: &[String]) {
    match step {
        Derive::Explode(explode) => {
            _ = writeln!(out, "explode  {}", list_text(&explode.list, names));
        }
        Derive::Join(join) => {
            _ = writeln!(out, "join     {}", table_join_text(join, names));
        }
    }
    if let Some(filter) = step.filter() {
        let on = match step {
            Derive::Explode(_) => "the elements",
            Derive::Join(_) => "the joined rows",
        };
        _ = writeln!(out, "filter   {} on {on}{}", text(filter, names), place(filter));
    }
}

fn side_names(join: &StaticJoin) -> impl Iterator<Item = String> {
    join.side.columns.iter().map(|index| format!("{}.{index}", join.table))
}

pub(super) fn table_join_text(join: &StaticJoin, names: &[String]) -> String {
    let keys: Vec<String> = join.keys.iter().map(|key| text(key, names)).collect();
    let by = if keys.is_empty() { "every row".into() } else { keys.join(", ") };
    let mut out = format!("{} with the table {} by {by}", join.kind.name(), join.table);
    if let Some(residual) = &join.residual {
        _ = write!(out, " where {}", text(residual, names));
    }
    out
}

pub(super) fn list_text(list: &ExplodeList, names: &[String]) -> String {
    match list {
        ExplodeList::SplitByByte { input, separator } => {
            let separator = char::from(*separator);
            format!("{} at each {separator:?}, straight to ids", names[*input])
        }
        ExplodeList::List(list) => format!("{}{}", text(list, names), place(list)),
    }
}

fn grouping(out: &mut String, plan: &Plan, groups: &Groups, names: &[String]) {
    if groups.keys.is_empty() {
        _ = writeln!(out, "groups   one, always there");
    } else {
        _ = writeln!(out, "groups");
    }
    for (index, key) in groups.keys.iter().enumerate() {
        let data_type = sql_name(key.expr.data_type());
        let closing = match (groups.window, groups.session) {
            (Some(window), _) if window.key == index => {
                let size = duration(window.size_us);
                match window.slide_us == window.size_us {
                    true => format!(", windows of {size}"),
                    false => format!(", windows of {size}, one each {}", duration(window.slide_us)),
                }
            }
            (_, Some(session)) if session.start == index => ", sessions".to_string(),
            _ => String::new(),
        };
        let (text, place) = (text(&key.expr, names), place(&key.expr));
        _ = writeln!(out, "  key {} = {text}: {data_type}{closing}{place}", key.name);
    }
    for aggregate in &groups.aggregates {
        let data_type = sql_name(&aggregate.spec.output);
        _ = writeln!(out, "  {}: {data_type}", aggregate_text(aggregate, groups, names));
    }
    _ = writeln!(out, "state    {}", state_bound(plan, groups));
}

/// What an operator should know of a job that is legal: state that nothing bounds, a watermark that
/// one row can carry away.
/// `is_trusted`: by source of the job.
pub fn advice(query: &Query, is_trusted: &[bool]) -> Vec<String> {
    let mut advice = Vec::new();
    for level in &query.levels {
        let plan = level.plan();
        let sides = level.join.iter().flat_map(|join| ["left", "right"].iter().zip(&join.sides));
        for (side, _) in sides.filter(|(_, of)| of.leaves == Leaves::Never) {
            advice.push(format!(
                "the state of the join grows without bound: every row of its {side} side stays, as \
                 ON bounds its time not by the other side's"
            ));
        }
        let bound = match &plan.shape {
            Shape::Rows { .. } => continue,
            Shape::Groups(groups) => state_bound(plan, groups).to_string(),
            Shape::First(first) => first_bound(plan, first),
        };
        if bound.starts_with(UNBOUNDED) {
            let of = if plan.fed_by_state { " of the query above" } else { "" };
            advice.push(format!("the state{of} grows without bound: it holds {bound}"));
        }
    }
    let unguarded = query.scans.iter().any(|scan| {
        let watermark = scan.plan.watermark;
        let is_trusted = is_trusted.get(scan.source).copied().unwrap_or(false);
        watermark.is_some_and(|w| w.max_future_skew_us.is_none()) && !is_trusted
    });
    if unguarded {
        advice.push(
            "one row with a time far ahead closes every window: max_future_skew = \"1h\" in the \
             watermark rejects such rows"
                .into(),
        );
    }
    advice
}

/// How the bound of a state begins that has none.
const UNBOUNDED: &str = "every ";

/// What keeps the state from growing for ever, if anything does.
fn state_bound(plan: &Plan, groups: &Groups) -> &'static str {
    let closes = Closing::of(groups) != Closing::Never;
    match plan.mode {
        OutputMode::Batch => "the groups of one epoch",
        _ if groups.keys.is_empty() => "one group",
        OutputMode::Complete => "every group ever seen: complete mode drops none",
        _ if plan.watermark.is_some() && closes => "groups that the watermark has not passed",
        _ => "every group ever seen: no watermark closes one",
    }
}

pub(super) fn aggregate_text(aggregate: &Aggregate, groups: &Groups, names: &[String]) -> String {
    let argument = aggregate.argument.map(|index| text(&groups.arguments[index], names));
    let name = match aggregate.spec.function {
        AggregateFunction::CountRows => {
            return with_filter("count(*)".into(), aggregate, groups, names);
        }
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::VarianceSample => "variance",
        AggregateFunction::VariancePopulation => "var_pop",
        AggregateFunction::StddevSample => "stddev",
        AggregateFunction::StddevPopulation => "stddev_pop",
        AggregateFunction::First { ignore_nulls: false } => "first",
        AggregateFunction::First { ignore_nulls: true } => "first ignoring nulls",
        AggregateFunction::Last { ignore_nulls: false } => "last",
        AggregateFunction::Last { ignore_nulls: true } => "last ignoring nulls",
        AggregateFunction::BoolAnd => "bool_and",
        AggregateFunction::BoolOr => "bool_or",
        AggregateFunction::BitAnd => "bit_and",
        AggregateFunction::BitOr => "bit_or",
        AggregateFunction::BitXor => "bit_xor",
        kept => {
            return with_filter(
                kept_text(kept, &argument.unwrap_or_default()),
                aggregate,
                groups,
                names,
            );
        }
    };
    with_filter(format!("{name}({})", argument.unwrap_or_default()), aggregate, groups, names)
}

/// Functions with a constant name it: the fingerprint tells them apart by this text.
fn kept_text(function: AggregateFunction, argument: &str) -> String {
    use AggregateFunction::*;
    match function {
        Percentile { at } => format!("percentile({argument}, {})", f64::from_bits(at)),
        PercentileDiscrete { at } => format!("percentile_disc({argument}, {})", f64::from_bits(at)),
        PercentileApprox { at } => format!("percentile_approx({argument}, {})", f64::from_bits(at)),
        ApproxCountDistinct { precision } => {
            format!("approx_count_distinct({argument}), {} registers", 1u32 << precision)
        }
        other => format!("{}({argument})", functions::aggregate::name_of(other)),
    }
}

fn with_filter(call: String, aggregate: &Aggregate, groups: &Groups, names: &[String]) -> String {
    match aggregate.filter {
        Some(index) => format!("{call} where {}", text(&groups.arguments[index], names)),
        None => call,
    }
}

fn output(out: &mut String, plan: &Plan) {
    let output = &plan.output;
    let names: Vec<String> = match &plan.shape {
        Shape::Rows { schema, .. } => schema.fields().iter().map(|f| f.name().clone()).collect(),
        Shape::First(first) => first.schema.fields().iter().map(|f| f.name().clone()).collect(),
        Shape::Groups(groups) => {
            let keys = groups.keys.iter().map(|key| key.name.clone());
            let row_names = row_names(plan);
            let aggregates =
                groups.aggregates.iter().map(|a| aggregate_text(a, groups, &row_names));
            keys.chain(aggregates).collect()
        }
    };
    if let Some(having) = &output.having {
        _ = writeln!(out, "having   {}{}", text(having, &names), place(having));
    }
    if matches!(plan.shape, Shape::Groups(_)) {
        _ = writeln!(out, "output");
        for (field, column) in output.schema.fields().iter().zip(&output.columns) {
            let (text, data_type) = (text(column, &names), sql_name(field.data_type()));
            _ = writeln!(out, "  {} = {text}: {data_type}{}", field.name(), place(column));
        }
    }
    for order in &output.order_by {
        let column = output.columns.iter().chain(&output.hidden).nth(order.column);
        let text = column.map(|column| text(column, &names)).unwrap_or_default();
        let direction = if order.descending { "descending" } else { "ascending" };
        let nulls = if order.nulls_first { "NULL first" } else { "NULL last" };
        _ = writeln!(out, "order by {text} {direction}, {nulls}");
    }
    if let Some(limit) = output.limit {
        _ = writeln!(out, "limit    {limit}");
    }
}

/// Where an expression is computed, where that is worth a word.
fn place(compiled: &Compiled) -> &'static str {
    match compiled {
        _ if compiled.column().is_some() => "",
        Compiled::Kernel(_) => "  [kernel]",
        Compiled::DataFusion { .. } => "  [DataFusion]",
    }
}

pub(super) fn mode(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "append",
        OutputMode::Update => "update",
        OutputMode::Complete => "complete",
        OutputMode::Batch => "batch",
    }
}
