//! Joins of two streams against nested loops over all rows: with `late = "row"` what leaves is a
//! function of the rows of each side alone, whatever the epochs, cores, batches and crashes in
//! between; and the state holds exactly the rows that may still meet one.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::batch::{InputBatch, Place};
use crate::checkpoint::Journal;
use crate::job;
use crate::pipeline::{EventClock, Pipeline};
use crate::plan::plan;
use crate::storage::MemoryStorage;
use crate::watermark::watermark_after;

const SECOND: i64 = 1_000_000;
const MILLI: i64 = 1_000;
const DELAY: i64 = 4 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    time: i64,
    key: Option<u8>,
    v: i64,
}

/// A row of the left side (0) or of the right one.
type Arrival = (usize, Row);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Question {
    Inner,
    /// Rows of the left side with an odd `v` meet none.
    Left,
    Right,
    Full,
    Semi,
    /// The times are among the keys.
    SameTime,
    /// No time is bounded: rows stay for ever.
    Unbounded,
    /// The left side is the same source twice.
    Union,
}

const QUESTIONS: [Question; 8] = [
    Question::Inner,
    Question::Left,
    Question::Right,
    Question::Full,
    Question::Semi,
    Question::SameTime,
    Question::Unbounded,
    Question::Union,
];

const RANGE: &str = "l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '2' SECOND AND l.ts + INTERVAL '5' \
                     SECOND";

impl Question {
    fn sql(self) -> String {
        let columns = "SELECT l.ts, r.ts AS rts, l.k, r.k AS rk, l.v, r.v AS w FROM";
        match self {
            Question::Inner => format!("{columns} l JOIN r ON {RANGE}"),
            Question::Left => format!("{columns} l LEFT JOIN r ON {RANGE} AND l.v % 2 = 0"),
            Question::Right => format!("{columns} l RIGHT JOIN r ON {RANGE} AND l.v <= r.v"),
            Question::Full => format!("{columns} l FULL JOIN r ON {RANGE}"),
            Question::Semi => format!(
                "SELECT ts, CAST(NULL AS TIMESTAMP) AS rts, k, CAST(NULL AS STRING) AS rk, v, \
                 CAST(NULL AS BIGINT) AS w FROM l LEFT SEMI JOIN r ON {RANGE}"
            ),
            Question::SameTime => format!("{columns} l LEFT JOIN r ON l.k = r.k AND l.ts = r.ts"),
            Question::Unbounded => format!("{columns} l JOIN r ON l.k = r.k AND l.v < r.v"),
            Question::Union => format!(
                "{columns} (SELECT * FROM l WHERE v < 3 UNION ALL SELECT * FROM l WHERE v >= 3) l \
                 JOIN r ON {RANGE}"
            ),
        }
    }

    fn query(self) -> Arc<Query> {
        let source = |name: &str| {
            format!(
                "[source.{name}]\ntype = \"file\"\npath = \"/{name}\"\nschema = \"ts TIMESTAMP, k \
                 STRING, v BIGINT\"\nwatermark = {{ column = \"ts\", delay = \"4s\" }}\n"
            )
        };
        let text = format!(
            "name = \"join\"\n{}{}[query]\nsql = \"\"\"{}\"\"\"\n[sink.out]\ntype = \"console\"\n",
            source("l"),
            source("r"),
            self.sql(),
        );
        let (job, _) = job::from_text(&text, "job.toml".as_ref(), &[]).expect("the job is fine");
        Arc::new(plan(&job).unwrap_or_else(|findings| panic!("{self:?}: {findings:?}")))
    }

    /// Whether two rows meet.
    fn meets(self, l: &Row, r: &Row) -> bool {
        let same_key = l.key.is_some() && l.key == r.key;
        let near = l.time - 2 * SECOND <= r.time && r.time <= l.time + 5 * SECOND;
        same_key
            && match self {
                Question::Left => near && l.v % 2 == 0,
                Question::Right => near && l.v <= r.v,
                Question::SameTime => l.time == r.time,
                Question::Unbounded => l.v < r.v,
                _ => near,
            }
    }

    /// Whether rows of a side leave without a match.
    fn keeps(self, side: usize) -> bool {
        match self {
            Question::Left | Question::SameTime => side == 0,
            Question::Right => side == 1,
            Question::Full => true,
            _ => false,
        }
    }

    /// The greatest time of a side's rows that meet none any more.
    fn passed(self, side: usize, watermark: i64) -> Option<i64> {
        match (self, side) {
            (Question::Unbounded, _) => None,
            (Question::SameTime, _) => Some(watermark),
            (_, 0) => Some(watermark - 5 * SECOND - MILLI),
            (_, _) => Some(watermark - 2 * SECOND - MILLI),
        }
    }

    /// Whether a row is stored, if it is not late.
    fn is_kept(self, side: usize, row: &Row) -> bool {
        match (self, side) {
            (Question::Left, 0) => row.v % 2 == 0,
            _ => row.key.is_some() || self.keeps(side),
        }
    }

    /// Scans of the left source: each has a clock of its own.
    fn scan_of(self, side: usize, row: &Row) -> usize {
        match (self, side) {
            (Question::Union, 0) => usize::from(row.v >= 3),
            (Question::Union, _) => 2,
            _ => side,
        }
    }

    fn scans(self) -> usize {
        if self == Question::Union { 3 } else { 2 }
    }
}

type Line = [Option<i64>; 6];

/// A line of what leaves; keys as numbers.
fn line(l: Option<&Row>, r: Option<&Row>) -> Line {
    let key = |row: &Row| row.key.map(i64::from);
    [
        l.map(|l| l.time),
        r.map(|r| r.time),
        l.and_then(key),
        r.and_then(key),
        l.map(|l| l.v),
        r.map(|r| r.v),
    ]
}

/// The rows that count, in their order, and how many were late: each by its scan's rows before it.
fn in_time(question: Question, rows: &[Arrival]) -> (Vec<Arrival>, Vec<Option<i64>>, u64) {
    let mut clocks = vec![None; question.scans()];
    let (mut kept, mut late) = (Vec::new(), 0);
    for (side, row) in rows {
        // Below the watermark: no row with a NULL key meets one.
        if row.key.is_none() && !question.keeps(*side) {
            continue;
        }
        let clock: &mut Option<i64> = &mut clocks[question.scan_of(*side, row)];
        if clock.is_some_and(|seen| row.time <= watermark_after(seen, DELAY)) {
            late += 1;
        } else {
            kept.push((*side, *row));
        }
        *clock = (*clock).max(Some(row.time));
    }
    (kept, clocks, late)
}

fn oracle(question: Question, rows: &[Arrival]) -> (Vec<Line>, u64) {
    let (kept, _, late) = in_time(question, rows);
    let side = |side: usize| -> Vec<Row> {
        kept.iter().filter(|(of, _)| *of == side).map(|(_, row)| *row).collect()
    };
    let (left, right) = (side(0), side(1));
    let mut lines = Vec::new();
    for l in &left {
        let met: Vec<&Row> = right.iter().filter(|r| question.meets(l, r)).collect();
        match (question, met.is_empty()) {
            (Question::Semi, false) => lines.push(line(Some(l), None)),
            (_, true) if question.keeps(0) => lines.push(line(Some(l), None)),
            _ => lines.extend(met.into_iter().map(|r| line(Some(l), Some(r)))),
        }
    }
    let alone = right.iter().filter(|r| !left.iter().any(|l| question.meets(l, r)));
    lines.extend(alone.filter(|_| question.keeps(1)).map(|r| line(None, Some(r))));
    lines.sort_unstable();
    (lines, late)
}

/// How many rows may still meet one, after these.
fn held(question: Question, rows: &[Arrival]) -> u64 {
    let (kept, clocks, _) = in_time(question, rows);
    let watermark = clocks.iter().copied().min().flatten();
    let watermark = watermark.map(|seen| watermark_after(seen, DELAY));
    let stays = |(side, row): &&Arrival| {
        let passed = watermark.and_then(|watermark| question.passed(*side, watermark));
        question.is_kept(*side, row) && passed.is_none_or(|passed| row.time > passed)
    };
    kept.iter().filter(stays).count() as u64
}

#[derive(Clone, Debug)]
struct Cuts {
    cores: usize,
    epoch: usize,
    range: usize,
    /// Parts of an epoch that are taken over before its end.
    parts: usize,
    kill_every: usize,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    (1usize..4, 4usize..40, 1usize..8, 1usize..4, 2usize..6).prop_map(
        |(cores, epoch, range, parts, kill_every)| Cuts { cores, epoch, range, parts, kill_every },
    )
}

fn push(pipeline: &mut Pipeline, rows: &[Row], first: usize) {
    let plan = Arc::clone(pipeline.plan());
    let name = |row: &Row| row.key.map(|key| key.to_string());
    let columns = plan.input.iter().map(|input| -> ArrayRef {
        match input.source {
            0 => {
                let times = rows.iter().map(|row| row.time).collect::<Vec<_>>();
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
            }
            1 => Arc::new(rows.iter().map(name).collect::<StringArray>()),
            _ => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.v))),
        }
    });
    let starts: Vec<u32> = (0..rows.len() as u32).collect();
    let ends: Vec<u32> = (1..=rows.len() as u32).collect();
    pipeline.push(&InputBatch {
        columns: &columns.collect::<Vec<_>>(),
        rows: rows.len(),
        bytes: &vec![b'\n'; rows.len()],
        row_starts: &starts,
        row_ends: &ends,
        value_errors: &[],
        row_errors: &[],
        place: &Place { minor: first as u64, line: 1, ..Place::default() },
    });
}

/// The scans of a run: pipelines by core, and the clock.
struct Scans {
    question: Question,
    of: Vec<(Vec<Pipeline>, Option<i64>)>,
    segments: u64,
}

impl Scans {
    fn new(question: Question, query: &Query, cores: usize, clocks: &[Option<i64>]) -> Scans {
        let pipelines = |plan: &Arc<crate::plan::Plan>| {
            (0..cores).map(|_| Pipeline::new(Arc::clone(plan), OnError::Fail)).collect()
        };
        let scans = query.scans.iter().zip(clocks);
        let of = scans.map(|(scan, clock)| (pipelines(&scan.plan), *clock)).collect();
        Scans { question, of, segments: 0 }
    }

    fn read(&mut self, rows: &[Arrival], cuts: &Cuts, first: usize) -> Result<()> {
        for (scan, (pipelines, clock)) in self.of.iter_mut().enumerate() {
            // A source that is read twice gives all its rows to both.
            let side = usize::from(scan + 1 == self.question.scans());
            let own: Vec<Row> =
                rows.iter().filter(|(of, _)| *of == side).map(|(_, row)| *row).collect();
            for (at, range) in own.chunks(cuts.range).enumerate() {
                let pipeline = &mut pipelines[at % cuts.cores];
                pipeline.open(self.segments, EventClock::known(*clock));
                push(pipeline, range, first + at * cuts.range);
                let segment = pipeline.close();
                *clock = (*clock).max(segment.summary.clock.now);
                pipeline.keep(segment, 0)?;
                self.segments += 1;
            }
        }
        Ok(())
    }

    fn barrier(&mut self, from: usize, ended: bool) -> EpochInput {
        let clocks: Vec<_> = self.of.iter().map(|(_, clock)| *clock).collect();
        let scan = |(pipelines, clock): &mut (Vec<Pipeline>, Option<i64>)| ScanInput {
            cores: pipelines.iter_mut().map(Pipeline::barrier).collect(),
            event_time_max: *clock,
            ended,
        };
        let scans = self.of.iter_mut().map(scan).collect();
        EpochInput { scans, source: json!({ "from": from, "clocks": clocks }) }
    }
}

/// Runs over memory that survives the process, which dies now and then before it commits. Gives what
/// left, in its order, and the counters.
fn run(
    question: Question,
    query: &Arc<Query>,
    rows: &[Arrival],
    cuts: &Cuts,
) -> Result<(Vec<Line>, Counters)> {
    let storage = MemoryStorage::default();
    let (mut out, mut counters) = (Vec::new(), Counters::default());
    for life in 0.. {
        let disk = Arc::new(storage.clone());
        let journal = Journal::open(disk, "job", query, format!("life{life}"))?;
        let policy = (OnError::Fail, &[][..]);
        let (mut epochs, restored) = Epochs::open(Arc::clone(query), 1, Some(journal), policy)?;
        let (mut from, mut clocks) = (0, vec![None; question.scans()]);
        if let Some(restored) = &restored {
            from = restored.source["from"].as_u64().expect("a number of rows") as usize;
            let known = restored.source["clocks"].as_array().expect("a clock a scan");
            clocks = known.iter().map(|clock| clock.as_i64()).collect();
        }
        if restored.is_some_and(|restored| restored.ended) {
            return Ok((out, counters));
        }
        let mut scans = Scans::new(question, query, cuts.cores, &clocks);
        for lived in 1.. {
            let until = (from + cuts.epoch).min(rows.len());
            let ended = until == rows.len();
            for part in rows[from..until].chunks(cuts.epoch.div_ceil(cuts.parts)) {
                scans.read(part, cuts, from)?;
                if cuts.parts > 1 {
                    epochs.absorb(scans.barrier(from, false), &OneByOne)?;
                }
            }
            from = until;
            let finished = epochs.finish(scans.barrier(from, ended), &OneByOne)?;
            if lived % cuts.kill_every == 0 && !ended && life < 4 {
                break;
            }
            finished.commit(epochs.journal(), BTreeMap::new())?;
            out.extend(lines(&finished.rows));
            counters.add(&finished.counters);
            if question != Question::Semi {
                let expected = if ended { 0 } else { held(question, &rows[..from]) };
                assert_eq!(finished.state.rows, expected, "{question:?} after {from} rows");
            }
            if ended {
                return Ok((out, counters));
            }
        }
    }
    unreachable!("a life has an end")
}

fn lines(rows: &RecordBatch) -> Vec<Line> {
    let value = |column: &ArrayRef, row: usize| {
        if column.is_null(row) {
            return None;
        }
        Some(match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().value(row).parse().expect("a number"),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row),
            _ => column.as_primitive::<TimestampMicrosecondType>().value(row),
        })
    };
    let line = |row: usize| std::array::from_fn(|column| value(rows.column(column), row));
    (0..rows.num_rows()).map(line).collect()
}

fn check(question: Question, query: &Arc<Query>, rows: &[Arrival], cuts: &Cuts) {
    let (expected, late) = oracle(question, rows);
    let (found, counters) = run(question, query, rows, cuts).expect("nothing fails for good");
    let mut sorted = found.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{question:?}, {cuts:?}");
    assert_eq!(counters.late, late, "{question:?}, {cuts:?}");
    // The order is that of the epochs and their rows alone.
    let alone = Cuts { cores: 1, range: 100, parts: 1, ..cuts.clone() };
    let (again, _) = run(question, query, rows, &alone).expect("nothing fails for good");
    assert_eq!(found, again, "{question:?}, {cuts:?}");
}

/// Times that go on with some disorder, one row in twenty far behind; a key in eight is NULL.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let row = (0usize..2, 0i64..3, 0i64..5, 0u8..20, 0u8..8, 0i64..6);
    proptest::collection::vec(row, 1..70).prop_map(|rows| {
        let mut now = -20;
        let arrival = |(side, step, back, late, key, v): (usize, i64, i64, u8, u8, i64)| {
            now += step;
            let behind = if late == 0 { 7 + back } else { back };
            let key = (key > 0).then_some(key % 3);
            (side, Row { time: (now - behind) * SECOND, key, v })
        };
        rows.into_iter().map(arrival).collect()
    })
}

/// `PROPTEST_CASES=100000` tries more: one case here is eight queries, twice.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases / 4, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_streams_meet_as_nested_loops_over_all_their_rows_would(
        rows in arrivals(), cuts in cuts(),
    ) {
        static QUERIES: OnceLock<Vec<Arc<Query>>> = OnceLock::new();
        let queries = QUERIES.get_or_init(|| QUESTIONS.iter().map(|question| question.query()).collect());
        for (question, query) in QUESTIONS.iter().zip(queries) {
            check(*question, query, &rows, &cuts);
        }
    }
}
