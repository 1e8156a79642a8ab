//! Windows in a bound query: their structs taken apart, and what of a query below tells the time.

use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, lit};

use super::functions::window;
use super::inline::side_relation;
use super::lower::{Chain, GROUP, Key, Refused, Window, reads, refuse};
use crate::job::spec::SourceSpec;

/// `get_field(named_struct('a', x, …), 'a')` is `x`; `window_time(…)` is its end less 1 µs.
pub fn field_in_place(call: &ScalarFunction) -> Option<Expr> {
    let Some(Expr::ScalarFunction(inner)) = call.args.first() else { return None };
    if inner.func.name() != "named_struct" {
        return None;
    }
    let field = |name: &str| {
        let at = inner.args.chunks(2).find(|pair| {
            text(&pair[0]).is_some_and(|known| known.to_lowercase() == name.to_lowercase())
        })?;
        Some(at[1].clone())
    };
    match call.func.name() {
        "get_field" => field(text(call.args.get(1)?)?),
        "window_time" => Some(window::shift(field("end")?, -1)),
        _ => None,
    }
}

/// A window in the place of a time is its last microsecond, `window_time(window)`.
pub fn window_time(expr: &Expr) -> Expr {
    match struct_of_window(expr) {
        Some((_, end)) => window::shift(end.clone(), -1),
        None => expr.clone(),
    }
}

/// Start and end of a window that is made in place.
fn struct_of_window(expr: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let [first, start, last, end] = call.args.as_slice() else { return None };
    let is_window = call.func.name() == "named_struct"
        && text(first) == Some("start")
        && text(last) == Some("end");
    is_window.then_some((start, end))
}

/// A window as its column has it.
pub fn both(start: Expr, end: Expr) -> Expr {
    let args = vec![lit("start"), start, lit("end"), end];
    let udf = datafusion_functions::core::named_struct();
    Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))
}

/// Windows that SELECT asks for without groups: each row's own, which a row without a time has not.
pub fn windows_in_place(expr: Expr, chain: &mut Chain) -> Result<Expr, Refused> {
    let mut refused = None;
    let mut times = Vec::new();
    let placed = expr.transform_up(|node| {
        if window::session_parts(&node).is_some() && chain.groups.is_none() {
            refused = Some("a session outside GROUP BY is not in this version");
        }
        if let Some((time, size_us, slide_us, offset_us)) = window::parts(&node)
            && chain.groups.is_none()
        {
            if size_us != slide_us {
                refused = Some("a sliding window outside GROUP BY is not in this version");
            }
            let time = window_time(time);
            let start = window::start(time.clone(), size_us, offset_us);
            times.push(time);
            return Ok(Transformed::yes(both(start.clone(), window::shift(start, size_us))));
        }
        Ok(match &node {
            Expr::ScalarFunction(call) => match field_in_place(call) {
                Some(field) => Transformed::yes(field),
                None => Transformed::no(node),
            },
            _ => Transformed::no(node),
        })
    })?;
    if let Some(what) = refused {
        return refuse(what, "write GROUP BY window(…)");
    }
    for time in times {
        let there = Expr::IsNotNull(Box::new(time));
        if !chain.filters.contains(&there) {
            chain.filter(there);
        }
    }
    Ok(placed.data)
}

/// The window of a row that SELECT asked for, among keys: its time, and what it is.
pub fn window_of_row(expr: &Expr) -> Option<(Expr, Window)> {
    let (start, end) = struct_of_window(expr)?;
    let (time, slide_us, offset_us) = window::start_parts(start)?;
    let (of, size_us) = window::shift_parts(end)?;
    (of == start && size_us == slide_us)
        .then(|| (time.clone(), Window::Sliding { size_us, slide_us, offset_us }))
}

/// `window(…).start` or `.end` among keys: the time, the window, whether it is the start.
pub fn window_part(expr: &Expr) -> Option<(Expr, Window, bool)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let [inner, field] = call.args.as_slice() else { return None };
    if call.func.name() != "get_field" {
        return None;
    }
    let (time, size_us, slide_us, offset_us) = window::parts(inner)?;
    let is_start = text(field)?.eq_ignore_ascii_case("start");
    Some((window_time(time), Window::Sliding { size_us, slide_us, offset_us }, is_start))
}

/// The start of a window of the query below, be it through a join, and its size.
pub fn window_of_below(expr: &Expr) -> Option<(Expr, i64)> {
    let is_below = |start: &Expr| {
        reads(start, GROUP) || [0, 1].into_iter().any(|side| reads(start, side_relation(side)))
    };
    window_from(expr).filter(|(start, _)| is_below(start))
}

/// The start of a window that is made of it, and its size.
pub fn window_from(expr: &Expr) -> Option<(Expr, i64)> {
    let (start, end) = struct_of_window(expr)?;
    let (of, size_us) = window::shift_parts(end)?;
    (of == start).then(|| (start.clone(), size_us))
}

pub fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

/// Whether an expression is the watermark's column and nothing else.
pub fn is_event_time(expr: &Expr, source: &SourceSpec) -> bool {
    match (expr, &source.watermark) {
        (Expr::Column(column), Some(watermark)) => {
            column.relation.as_ref().is_some_and(|r| r.table() == source.name)
                && column.name.eq_ignore_ascii_case(&watermark.column)
        }
        _ => false,
    }
}

/// What is added to a column that a query reads, until it is no earlier than the watermark at which
/// the row comes; none where no such time is.
///
/// A window's row comes when the watermark reaches the window's end: its last microsecond is a time
/// that no later row can be before.
fn reach(below: &Chain, column: &Expr, sources: &[SourceSpec]) -> Option<i64> {
    let Expr::Column(column) = column else { return None };
    let index: usize = column.name.parse().ok()?;
    let Expr::Column(own) = &below.columns.get(index)?.1 else { return None };
    let groups = below.groups.as_ref()?;
    let at: usize = own.name.parse().ok()?;
    let key = groups.keys.get(at)?;
    match key.window {
        Some(Window::Sliding { size_us, .. } | Window::Start { size_us }) => {
            closes(key, below, sources).then_some(size_us - 1)
        }
        Some(Window::SessionEnd) => closes(&groups.keys[at - 1], below, sources).then_some(-1),
        Some(Window::Session { .. }) => None,
        None => closes(key, below, sources).then_some(0),
    }
}

/// Whether an expression of a chain is its event time, and the source has a watermark.
pub fn is_time(expr: &Expr, chain: &Chain, sources: &[SourceSpec]) -> bool {
    if let Some(meeting) = &chain.meeting {
        return meeting.is_time(expr, sources);
    }
    let below = chain.below.first().filter(|below| below.groups.is_some());
    let Some(below) = below else { return is_event_time(expr, &sources[chain.source]) };
    let (base, shifted) = unshifted(expr);
    reach(below, base, sources).is_some_and(|least| shifted >= least)
}

/// What an expression adds microseconds to, and how many.
pub fn unshifted(expr: &Expr) -> (&Expr, i64) {
    let (mut base, mut shifted) = (expr, 0i64);
    while let Some((inner, us)) = window::shift_parts(base) {
        (base, shifted) = (inner, shifted.saturating_add(us));
    }
    (base, shifted)
}

/// Whether the watermark closes the groups of this key.
pub fn closes(key: &Key, chain: &Chain, sources: &[SourceSpec]) -> bool {
    match key.window {
        _ if key.in_part => false,
        Some(Window::Start { size_us }) if chain.meeting.is_some() => {
            is_time(&window::shift(key.expr.clone(), size_us - 1), chain, sources)
        }
        Some(Window::Start { .. }) => {
            let reaches = |below: &Chain| reach(below, &key.expr, sources).is_some();
            chain.below.first().is_some_and(reaches)
        }
        _ => is_time(&key.expr, chain, sources),
    }
}
