//! Which output mode a query allows: Spark's rules (SEMANTICS 2), with Spark's reasons.

use std::ops::Range;

use super::lower::{Chain, Grouping, Window};
use super::sql::Marks;
use super::windows::closes;
use crate::job::finding::Finding;
use crate::job::spec::{OutputMode, SourceSpec};

/// What the rules need to know beside the chain.
pub struct Facts<'a> {
    pub mode: OutputMode,
    pub marks: &'a Marks,
    pub source: &'a SourceSpec,
    pub watermark: bool,
    /// The source ends, and every group with it.
    pub bounded: bool,
    pub whole: Range<usize>,
}

impl Facts<'_> {
    /// Whether a group is final at some time: its window closes, or the input ends.
    fn groups_close(&self, level: &Chain, groups: &Grouping) -> bool {
        let by_time = || groups.keys.iter().any(|key| closes(key, level, self.source));
        self.bounded || (self.watermark && by_time())
    }
}

/// Every reason for which the mode does not fit the query.
pub fn check(chain: &Chain, facts: &Facts) -> Vec<Finding> {
    if facts.mode == OutputMode::Batch {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut refuse = |at: &Option<Range<usize>>, what: &str, fix: String| {
        let at = at.clone().unwrap_or_else(|| facts.whole.clone());
        findings.push(Finding::new(at, what, fix));
    };
    let aggregates = chain.levels().filter(|level| level.groups.is_some()).count();
    if aggregates > 1 && facts.mode != OutputMode::Append {
        let what = "Detected pattern of possible 'correctness' issue due to global watermark. The \
                    query contains stateful operation which can emit rows older than the current \
                    watermark plus allowed late record delay: an aggregate over an aggregate takes \
                    rows that are final, others it would count again and again";
        refuse(&facts.marks.group_by, what, "set mode = \"append\"".into());
        return findings;
    }
    sessions(chain, facts, &mut refuse);
    let open = chain.levels().find_map(|level| {
        let groups = level.groups.as_ref()?;
        (!facts.groups_close(level, groups)).then_some(groups)
    });
    match (&chain.groups, facts.mode) {
        (None, OutputMode::Complete) => refuse(
            &None,
            "Invalid streaming output mode: complete. This output mode is not supported for no \
             streaming aggregations: without groups there is no table to show whole",
            "set mode = \"append\" or \"update\"".into(),
        ),
        (Some(_), OutputMode::Append) if open.is_some() => {
            let groups = open.expect("it was just asked");
            let clause = if groups.distinct { "DISTINCT" } else { "GROUP BY" };
            let missing = match facts.watermark {
                true => format!("the {clause} has no window over the watermark's column"),
                false => "the source has no watermark".to_string(),
            };
            let what = format!(
                "Invalid streaming output mode: append. This output mode is not supported for \
                 streaming aggregations without watermark: {missing}, so no group is ever final"
            );
            let at = if groups.distinct { &facts.marks.distinct } else { &facts.marks.group_by };
            let fix = match facts.watermark {
                true => {
                    "group by window(…) of the watermark's column, or set mode = \"update\" or \
                         \"complete\""
                }
                false => {
                    "give the source a watermark and group by window(…) of its column, or set \
                          mode = \"update\" or \"complete\""
                }
            };
            refuse(at, &what, fix.into());
        }
        _ => {}
    }
    let whole_table = chain.groups.is_some() && facts.mode == OutputMode::Complete;
    if !chain.order_by.is_empty() && !whole_table {
        let fix = match chain.groups {
            Some(_) => "leave ORDER BY out, or set mode = \"complete\"",
            None => "leave ORDER BY out: rows leave in the order in which they came",
        };
        refuse(
            &facts.marks.order_by,
            "Sorting is not supported on streaming DataFrames/Datasets, unless it is on aggregated \
             DataFrame/Dataset in Complete output mode",
            fix.into(),
        );
    }
    if chain.limit.is_some() && facts.mode == OutputMode::Update {
        refuse(
            &facts.marks.limit,
            "Limits are not supported on streaming DataFrames/Datasets in Update output mode",
            match chain.groups {
                Some(_) => "leave LIMIT out, or set mode = \"complete\"".into(),
                None => "leave LIMIT out, or set mode = \"append\"".into(),
            },
        );
    }
    findings
}

/// A session has no value that a reader could replace: the next row may change what it is.
fn sessions(
    chain: &Chain,
    facts: &Facts,
    refuse: &mut impl FnMut(&Option<Range<usize>>, &str, String),
) {
    let is_session = |groups: &&Grouping| {
        groups.keys.iter().any(|key| matches!(key.window, Some(Window::Session { .. })))
    };
    for groups in chain.levels().filter_map(|level| level.groups.as_ref()).filter(is_session) {
        if groups.keys.len() == 2 {
            let what = "Global aggregation with session window in streaming query is not supported: \
                        all rows would be of one key";
            let fix = "group by session_window(…) and a column";
            refuse(&facts.marks.group_by, what, fix.into());
        }
        if facts.mode == OutputMode::Update {
            let what = "Invalid streaming output mode: update. This output mode is not supported for \
                        session window streaming aggregations: a session that grows has another \
                        start or end, so nothing says which row it replaces";
            let fix = "set mode = \"append\" or \"complete\"";
            refuse(&facts.marks.group_by, what, fix.into());
        }
    }
}
