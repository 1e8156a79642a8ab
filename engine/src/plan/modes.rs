//! Which output mode a query allows: Spark's rules (SEMANTICS 2), with Spark's reasons.

use std::ops::Range;

use super::lower::{Chain, Grouping, Window};
use super::sql::Marks;
use super::stream_side::Side;
use super::windows::closes;
use crate::job::finding::Finding;
use crate::job::spec::{OutputMode, SourceSpec};

/// What the rules need to know beside the chain.
pub struct Facts<'a> {
    pub mode: OutputMode,
    pub marks: &'a Marks,
    pub sources: &'a [SourceSpec],
    /// Every source ends, and every group with them.
    pub bounded: bool,
    pub whole: Range<usize>,
}

impl Facts<'_> {
    /// Whether a group is final at some time: its window closes, or the input ends.
    fn groups_close(&self, level: &Chain, groups: &Grouping) -> bool {
        let by_time = || groups.keys.iter().any(|key| closes(key, level, self.sources));
        self.bounded || by_time()
    }
}

/// Every reason for which the mode does not fit the query, each once.
pub fn check(arms: &[Chain], facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for found in arms.iter().flat_map(|arm| check_arm(arm, facts)) {
        if !findings.contains(&found) {
            findings.push(found);
        }
    }
    if let [first, _, ..] = arms
        && first.groups.is_none()
        && facts.mode == OutputMode::Batch
        && (first.limit.is_some() || !first.order_by.is_empty())
    {
        let at = facts.marks.order_by.clone().or(facts.marks.limit.clone());
        let what = "ORDER BY and LIMIT over the rows of UNION ALL are not in this version";
        findings.push(Finding::new(at.unwrap_or(facts.whole.clone()), what, "leave it out"));
    }
    findings
}

fn check_arm(chain: &Chain, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        chain.levels().iter().filter_map(|level| join_of_streams(level, facts)).collect();
    if facts.mode == OutputMode::Batch {
        return findings;
    }
    let mut refuse = |at: &Option<Range<usize>>, what: &str, fix: String| {
        let at = at.clone().unwrap_or_else(|| facts.whole.clone());
        findings.push(Finding::new(at, what, fix));
    };
    let meets_groups = |level: &&Chain| {
        level.meeting.as_ref().is_some_and(|meeting| meeting.sides.iter().any(Side::is_grouped))
    };
    let stacks = match facts.mode {
        OutputMode::Append => false,
        OutputMode::Update if chain.levels().iter().any(meets_groups) => true,
        _ => chain.aggregates() > 1,
    };
    if stacks {
        let what = "Detected pattern of possible 'correctness' issue due to global watermark. The \
                    query contains stateful operation which can emit rows older than the current \
                    watermark plus allowed late record delay: what stands over an aggregate takes \
                    rows that are final, others it would take again and again";
        refuse(&facts.marks.group_by, what, "set mode = \"append\"".into());
        return findings;
    }
    sessions(chain, facts, &mut refuse);
    let levels = chain.levels();
    let open = levels.iter().find_map(|level| {
        let groups = level.groups.as_ref()?;
        (!facts.groups_close(level, groups)).then_some((level, groups))
    });
    let has_groups = chain.aggregates() > 0;
    match (has_groups, facts.mode) {
        (false, OutputMode::Complete) => refuse(
            &None,
            "Invalid streaming output mode: complete. This output mode is not supported for no \
             streaming aggregations: without groups there is no table to show whole",
            "set mode = \"append\" or \"update\"".into(),
        ),
        (true, OutputMode::Append) if open.is_some() => {
            let (level, groups) = open.expect("it was just asked");
            let clause = if groups.distinct { "DISTINCT" } else { "GROUP BY" };
            let has_watermark = level.watermark(facts.sources).is_some();
            let missing = match has_watermark {
                true => format!("the {clause} has no window over the watermark's column"),
                false => "the source has no watermark".to_string(),
            };
            let what = format!(
                "Invalid streaming output mode: append. This output mode is not supported for \
                 streaming aggregations without watermark: {missing}, so no group is ever final"
            );
            let at = if groups.distinct { &facts.marks.distinct } else { &facts.marks.group_by };
            let fix = match has_watermark {
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
    let whole_table = has_groups && facts.mode == OutputMode::Complete;
    if !chain.order_by.is_empty() && !whole_table {
        let fix = match has_groups {
            true => "leave ORDER BY out, or set mode = \"complete\"",
            false => "leave ORDER BY out: rows leave in the order in which they came",
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
            match has_groups {
                true => "leave LIMIT out, or set mode = \"complete\"".into(),
                false => "leave LIMIT out, or set mode = \"append\"".into(),
            },
        );
    }
    findings
}

/// Rows without a match must be known at some time; one that left so in update mode might get one yet.
fn join_of_streams(level: &Chain, facts: &Facts) -> Option<Finding> {
    let meeting = level.meeting.as_ref()?;
    let kind = meeting.kind_written();
    let keeps = kind.keeps(0) || kind.keeps(1);
    let mode = match facts.mode {
        OutputMode::Append => None,
        OutputMode::Update => keeps.then_some("Update"),
        OutputMode::Complete => Some("Complete"),
        OutputMode::Batch => Some("Batch"),
    };
    let (what, fix) = match mode {
        Some(mode) => {
            let (allowed, fix) = match keeps {
                true => ("Append output mode", "set mode = \"append\""),
                false => ("Append and Update output modes", "set mode = \"append\" or \"update\""),
            };
            let what = format!(
                "{} join between two streaming DataFrames/Datasets is not supported in {mode} \
                 output mode, only in {allowed}",
                kind.name()
            );
            (what, fix)
        }
        None => meeting.refusal(facts.sources, facts.bounded)?,
    };
    let at = facts.marks.join.clone().unwrap_or_else(|| facts.whole.clone());
    Some(Finding::new(at, what, fix))
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
    for groups in chain.levels().iter().filter_map(|level| level.groups.as_ref()).filter(is_session)
    {
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
