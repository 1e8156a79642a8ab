//! The texts by which two plans are told apart: as a whole, and part by part of their state.

use std::fmt::Write as _;

use arrow::datatypes::Schema;

use super::explain::{aggregate_text, list_text, mode, row_names, table_join_text};
use super::query::{Query, Reads};
use super::stream_join::StreamJoin;
use super::types::sql_name;
use super::words::text;
use super::{Derive, GroupKey, Plan, Shape};
use crate::checkpoint::manifest::Part;
use crate::job::spec::LateRule;

/// Text that is equal for two queries exactly when one can go on from the other's state: everything
/// below the output, and the mode.
pub fn fingerprint(query: &Query) -> String {
    let is_chain = query.levels.iter().all(|level| level.arms.len() == 1);
    if is_chain {
        let plans: Vec<String> = query.plans().map(|plan| of_plan(plan)).collect();
        return format!("{}{}", plans.join("above("), ")".repeat(plans.len() - 1));
    }
    let mut out = String::new();
    for level in &query.levels {
        for arm in &level.arms {
            let reads = match arm.reads {
                Reads::Scan(scan) => format!("scan {scan} of {}", arm.plan.source_name),
                Reads::Level(level) => format!("level {level}"),
            };
            _ = write!(out, "arm({reads}:{})", of_plan(&arm.plan));
        }
        if let Some(join) = &level.join {
            out.push_str(&join_text(join));
        }
        out.push('|');
    }
    out
}

/// A join of two streams in words: which rows meet, which are kept, and by what they leave.
pub fn join_text(join: &StreamJoin) -> String {
    let names = |schema: &Schema| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    let [left, right] = &join.sides;
    let of_sides = [names(&left.schema), names(&right.schema)];
    let keys = left.keys.iter().zip(&right.keys).zip(&join.null_safe).map(|((l, r), null_safe)| {
        let equal = if *null_safe { "<=>" } else { "=" };
        format!("{} {equal} {}", text(l, &of_sides[0]), text(r, &of_sides[1]))
    });
    let mut out = format!("{} by {}", join.kind.name(), keys.collect::<Vec<_>>().join(" and "));
    if let Some(residual) = &join.residual {
        _ = write!(out, " where {}", text(residual, &names(&join.schema)));
    }
    for (side, (of, names)) in join.sides.iter().zip(&of_sides).enumerate() {
        let name = ["left", "right"][side];
        if let Some(pre) = &of.pre {
            _ = write!(out, "; {name} rows where {}", text(pre, names));
        }
        _ = write!(out, "; {name} {:?} {:?}", of.schema.fields(), of.leaves);
    }
    out
}

fn of_plan(plan: &Plan) -> String {
    let mut out = String::new();
    let names = row_names(plan);
    _ = write!(out, "mode={};", mode(plan.mode));
    if let Some(watermark) = plan.watermark {
        let late = matches!(watermark.late, LateRule::Row);
        let time = plan.event_time.map_or("", |index| &plan.input_names[index]);
        _ = write!(out, "watermark={time}-{}us,late_by_row={late};", watermark.delay_us);
    }
    for filter in plan.filter_below.iter().chain(&plan.filter_above) {
        _ = write!(out, "filter={};", text(filter, &names));
    }
    for step in &plan.derive {
        let filter = step.filter().map(|f| text(f, &names));
        match step {
            Derive::Explode(explode) => {
                _ = write!(out, "explode={},{filter:?};", list_text(&explode.list, &names));
            }
            Derive::Join(join) => {
                _ = write!(out, "join={},{filter:?};", table_join_text(join, &names));
            }
        }
    }
    match &plan.shape {
        Shape::Rows { .. } => out.push_str("rows;"),
        Shape::First(first) => {
            let keys = first.keys.iter().map(|&key| first.schema.field(key).name().as_str());
            let keys = keys.collect::<Vec<_>>().join(",");
            _ = write!(out, "first={keys},{:?},{:?};", first.time.is_some(), first.within_us);
        }
        Shape::Groups(groups) => {
            for key in &groups.keys {
                let data_type = sql_name(key.expr.data_type());
                _ = write!(out, "key={}:{data_type};", text(&key.expr, &names));
            }
            for aggregate in &groups.aggregates {
                let output = sql_name(&aggregate.spec.output);
                _ = write!(out, "{}:{output};", aggregate_text(aggregate, groups, &names));
            }
            _ = write!(out, "closes={};", groups.window.is_some());
            if let Some(window) = groups.window.filter(|w| w.slide_us != w.size_us) {
                _ = write!(out, "size={}us;", window.size_us);
            }
        }
    }
    out
}

/// What the state depends on apart from its own columns, each in words (see `checkpoint::change`).
pub fn state_parts(plan: &Plan) -> Vec<Part> {
    let names = row_names(plan);
    let watermark = plan.watermark.map_or("none".to_owned(), |watermark| {
        let time = plan.event_time.map_or("", |index| &plan.input_names[index]);
        format!("{time} - {}us", watermark.delay_us)
    });
    let filters = plan.filter_below.iter().chain(&plan.filter_above);
    let mut rows: Vec<String> = filters.map(|filter| text(filter, &names)).collect();
    for step in &plan.derive {
        let filter = step.filter().map(|filter| text(filter, &names)).unwrap_or_default();
        rows.push(match step {
            Derive::Explode(explode) => {
                format!("each of {} {filter}", list_text(&explode.list, &names))
            }
            Derive::Join(join) => format!("joined, {} {filter}", table_join_text(join, &names)),
        });
    }
    let rows = if rows.is_empty() { "all".to_owned() } else { rows.join(" and ") };
    let keys = match &plan.shape {
        Shape::Rows { .. } => "none, each row leaves".to_owned(),
        Shape::First(first) => {
            let keys = first.keys.iter().map(|&key| first.schema.field(key).name().as_str());
            format!("the first of each {}", keys.collect::<Vec<_>>().join(", "))
        }
        Shape::Groups(groups) => {
            let key = |key: &GroupKey| {
                format!("{}: {}", text(&key.expr, &names), sql_name(key.expr.data_type()))
            };
            groups.keys.iter().map(key).collect::<Vec<_>>().join(", ")
        }
    };
    let part = |name: &str, text| Part { name: name.to_owned(), text };
    vec![
        part("mode", mode(plan.mode).to_owned()),
        part("watermark", watermark),
        part("rows", rows),
        part("keys", keys),
    ]
}

/// The arguments of a plan's aggregates in words, by their index.
pub fn argument_texts(plan: &Plan) -> Vec<String> {
    let Shape::Groups(groups) = &plan.shape else { return Vec::new() };
    let names = row_names(plan);
    groups.arguments.iter().map(|argument| text(argument, &names)).collect()
}

/// A plan's aggregates in words, in their order.
pub fn aggregate_texts(plan: &Plan) -> Vec<String> {
    let Shape::Groups(groups) = &plan.shape else { return Vec::new() };
    let names = row_names(plan);
    groups.aggregates.iter().map(|aggregate| aggregate_text(aggregate, groups, &names)).collect()
}
