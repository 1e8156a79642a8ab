//! A join of two streams, compiled: what rows are compared by, and by what they leave the state.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;

use super::compile::{Columns, Compiler};
use super::expr::Compiled;
use super::inline::side_column;
use super::meet::{Leaving, MeetKind, Meeting, Pair};
use super::range::{self, Bound};
use super::side::Lookup;
use super::stream_side::Windows;
use super::types::sql_name;
use super::{Plan, Shape, WindowKey};
use crate::job::spec::SourceSpec;

#[derive(Debug)]
pub struct StreamJoin {
    pub kind: MeetKind,
    /// Left, right.
    pub sides: [JoinSide; 2],
    /// By key: NULL meets NULL.
    pub null_safe: Vec<bool>,
    /// The rest of ON, over the left side's columns and then the right's.
    pub residual: Option<Compiled>,
    /// The left side's columns, then the right's.
    pub schema: SchemaRef,
}

#[derive(Debug)]
pub struct JoinSide {
    /// How many of the level's arms are this side's: the left's come first.
    pub arms: usize,
    /// Of its columns that are read.
    pub schema: SchemaRef,
    /// The side's columns that these are.
    pub read: Vec<usize>,
    /// Over its columns; the keys of both sides have equal types.
    pub keys: Vec<Compiled>,
    /// Rows for which this is not true meet none. Only of a side whose rows leave without a match.
    pub pre: Option<Compiled>,
    pub leaves: Leaves,
}

/// When the watermark takes a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaves {
    Never,
    /// It passes this key.
    Key(usize),
    /// It comes to the end of the window that starts at this key.
    Window(usize, Windows),
    /// It passes a bound on this column.
    Time(usize, Vec<Bound>),
}

/// By what a row of a side is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Nothing,
    /// Its own time.
    Times,
    /// The end of its window.
    Windows(Windows),
}

impl Plan {
    /// The windows by which rows are late; none where a row is its own end.
    pub fn judged_windows(&self) -> Option<WindowKey> {
        match self.shape {
            Shape::Rows { judged: Judged::Windows(Windows { size_us, offset_us }), .. } => {
                let (slide_us, offset_us) = (size_us, offset_us?);
                Some(WindowKey { key: 0, size_us, slide_us, offset_us, time: None, closes: true })
            }
            _ => self.window(),
        }
    }
}

impl MeetKind {
    pub fn is_semi(self) -> bool {
        self == MeetKind::LeftSemi
    }
}

impl JoinSide {
    /// The greatest time of rows that the watermark takes.
    pub fn passed(&self, watermark: i64) -> Option<i64> {
        match &self.leaves {
            Leaves::Never => None,
            Leaves::Key(_) => Some(watermark),
            Leaves::Window(_, of) => Some(watermark.saturating_sub(of.size_us)),
            Leaves::Time(_, bounds) => range::passed(bounds, watermark),
        }
    }

    /// No later row has an earlier time than the one after this. `windows`: they are asked for windows
    /// alone, which end at a time that no row of theirs has.
    fn output_watermark(&self, watermark: i64, windows: bool) -> Option<i64> {
        match &self.leaves {
            Leaves::Window(_, of) => Some(of.reach(watermark).saturating_sub(i64::from(!windows))),
            _ => self.passed(watermark),
        }
    }
}

impl StreamJoin {
    /// Whether the watermark takes rows of a side.
    pub fn closes(&self) -> bool {
        self.sides.iter().any(|side| side.leaves != Leaves::Never)
    }

    /// The watermark of what leaves the join: no later row has an earlier time of either side. A side
    /// that keeps its rows for ever holds nothing back: what an old row of it meets may be late above.
    /// `windows`: it is for groups by windows.
    pub fn output_watermark(&self, watermark: i64, windows: bool) -> i64 {
        if watermark == i64::MAX {
            return watermark;
        }
        let of_sides =
            self.sides.iter().filter_map(|side| side.output_watermark(watermark, windows));
        of_sides.min().unwrap_or(watermark)
    }

    /// The columns of what leaves, as expressions above name them.
    pub fn columns(&self) -> Vec<Column> {
        let of = |side: usize| {
            self.sides[side].read.iter().map(move |&column| side_column(side, column))
        };
        of(0).chain(of(1)).collect()
    }
}

/// Compiles a join. `read`: the columns of each side that are read. Also tells, by side, which of
/// these is the event time by which its rows are late.
pub fn compile(
    meeting: &Meeting,
    read: [Vec<usize>; 2],
    sources: &[SourceSpec],
    compiler: &Compiler,
) -> Result<StreamJoin> {
    let mut both = Columns::default();
    let mut of_sides = [Columns::default(), Columns::default()];
    let mut fields: [Vec<Field>; 2] = Default::default();
    let mut index = 0;
    for side in [0, 1] {
        for (at, &column) in read[side].iter().enumerate() {
            let of = &meeting.sides[side];
            let (name, data_type) = (&of.names[column], &of.types[column]);
            if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
                let what = format!("a join cannot keep {name}: {}", sql_name(data_type));
                return Err(DataFusionError::Plan(what));
            }
            both.push(side_column(side, column), data_type.clone(), index);
            of_sides[side].push(side_column(side, column), data_type.clone(), at);
            fields[side].push(Field::new(name, data_type.clone(), true));
            index += 1;
        }
    }
    let mut keys: [Vec<Compiled>; 2] = Default::default();
    for Pair { of: [left, right], .. } in &meeting.on {
        let left = compiler.compile(left, &of_sides[0])?;
        let right = compiler.compile(right, &of_sides[1])?;
        comparable(left.data_type(), right.data_type())?;
        keys[0].push(left);
        keys[1].push(right);
    }
    let all = |exprs: &[Expr], columns: &Columns| {
        let all = conjunction(exprs.to_vec());
        all.map(|all| compiler.compile(&all, columns)).transpose()
    };
    let residual = all(&meeting.residual, &both)?;
    let [left, right] = meeting.leaving(sources);
    let schema = Arc::new(Schema::new([fields[0].as_slice(), &fields[1]].concat()));
    let [left_keys, right_keys] = keys;
    let side = |at: usize, keys: Vec<Compiled>, leaving: Leaving| -> Result<JoinSide> {
        let place = |column: usize| {
            let at = read[at].iter().position(|&known| known == column);
            at.expect("what ON compares is read")
        };
        Ok(JoinSide {
            arms: meeting.sides[at].arms.len(),
            schema: Arc::new(Schema::new(fields[at].clone())),
            read: read[at].clone(),
            keys,
            pre: all(&meeting.sides[at].pre, &of_sides[at])?,
            leaves: match leaving {
                Leaving::Never => Leaves::Never,
                Leaving::Key(key) => Leaves::Key(key),
                Leaving::Window(key, of) => Leaves::Window(key, of),
                Leaving::Time(column, bounds) => Leaves::Time(place(column), bounds),
            },
        })
    };
    let sides = [side(0, left_keys, left)?, side(1, right_keys, right)?];
    let null_safe = meeting.on.iter().map(|pair| pair.null_safe).collect();
    Ok(StreamJoin { kind: meeting.kind, sides, null_safe, residual, schema })
}

fn comparable(left: &DataType, right: &DataType) -> Result<()> {
    if left == right && Lookup::takes(left) {
        return Ok(());
    }
    let (left, right) = (sql_name(left), sql_name(right));
    Err(DataFusionError::Plan(format!("a join compares {left} with {right}: cast one of them")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::StreamJoin;
    use crate::job;
    use crate::plan::{Query, plan};

    const SECOND: i64 = 1_000_000;
    const MILLI: i64 = 1_000;

    /// A query over two streams that meet by `on`, with or without windows above them.
    fn query(on: &str, windows: bool) -> Query {
        let source = |name: &str| {
            format!(
                "[source.{name}]\ntype = \"file\"\npath = \"/{name}\"\nschema = \"ts TIMESTAMP, k \
                 STRING\"\nwatermark = {{ column = \"ts\", delay = \"4s\" }}\non_error = \"skip\"\n"
            )
        };
        let sql = match windows {
            true => format!(
                "SELECT window.start, count(*) AS n FROM (SELECT l.ts FROM l JOIN r ON {on}) GROUP BY \
                 window(ts, '10 seconds')"
            ),
            false => format!("SELECT l.ts, r.k FROM l JOIN r ON {on}"),
        };
        let (l, r) = (source("l"), source("r"));
        let text = format!("name = \"join\"\n{l}{r}[query]\nsql = \"\"\"{sql}\"\"\"\n");
        let (job, _) = job::from_text(&text, "job.toml".as_ref(), &[]).unwrap();
        plan(&job).unwrap_or_else(|findings| panic!("{on}: {findings:?}"))
    }

    const RANGE: &str = "l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '2' SECOND AND l.ts + INTERVAL \
                         '5' SECOND";

    /// A later row has a time after the watermark, by a microsecond at least.
    fn join(on: &str) -> Arc<StreamJoin> {
        let levels = query(on, false).levels;
        levels.into_iter().find_map(|level| level.join).expect("two streams meet")
    }

    #[test]
    fn rows_of_equal_times_leave_at_the_watermark_and_not_a_microsecond_after() {
        let join = join("l.k = r.k AND l.ts = r.ts");
        for side in &join.sides {
            assert_eq!(side.passed(100 * SECOND), Some(100 * SECOND));
        }
        assert_eq!(join.output_watermark(100 * SECOND, true), 100 * SECOND);
    }

    #[test]
    fn what_stands_above_a_join_waits_for_the_rows_that_the_join_still_holds() {
        let query = query(RANGE, true);
        let above = query.levels.len() - 1;
        // A left row of 95 s may still meet one of 100 s, a right row of 98 s one of 100 s.
        assert_eq!(query.watermark_at(above, Some(100 * SECOND)), Some(95 * SECOND - MILLI));
        assert_eq!(query.watermark_at(above, Some(i64::MAX)), Some(i64::MAX), "all has ended");
        assert_eq!(query.watermark_at(above, None), None);
    }

    #[test]
    fn a_side_that_is_kept_for_ever_holds_nothing_above_the_join_back() {
        let of_one_side = join("l.k = r.k AND r.ts >= l.ts");
        assert_eq!(
            of_one_side.sides[0].passed(100 * SECOND),
            None,
            "a later right row may meet it"
        );
        assert_eq!(of_one_side.sides[1].passed(100 * SECOND), Some(100 * SECOND - MILLI));
        assert_eq!(of_one_side.output_watermark(100 * SECOND, true), 100 * SECOND - MILLI);
        let of_none = join("l.k = r.k");
        assert!(!of_none.closes());
        assert_eq!(of_none.output_watermark(100 * SECOND, true), 100 * SECOND);
    }
}
