//! Queries over event time against a naive oracle that goes row by row: with `late = "row"` the final
//! table and the set of late rows are those of the input alone, whatever the epochs, cores, batches,
//! ranges, shards and crashes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arrow::array::Int64Array;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::batch::{Encoding, InputBatch, Place};
use crate::checkpoint::Journal;
use crate::job;
use crate::pipeline::{EventClock, Pipeline, Segment};
use crate::plan::plan;
use crate::storage::MemoryStorage;
use crate::watermark::watermark_after;

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 10 * SECOND;

#[derive(Clone, Debug)]
struct Row {
    time: i64,
    key: u8,
    v: i64,
}

/// What is asked, and what a reader believes at sight to be the answer.
#[derive(Clone, Copy, Debug)]
enum Question {
    Tumbling,
    /// The slide does not divide the size, and windows begin two seconds early.
    Sliding,
    Session,
    /// The gap is the row's own.
    Gaps,
    Distinct,
    Chained,
    /// The first row of a time and a key.
    First,
    /// A key is forgotten ten seconds after its first row.
    Within,
    FirstThenWindow,
}

const QUESTIONS: [Question; 9] = [
    Question::Tumbling,
    Question::Sliding,
    Question::Session,
    Question::Gaps,
    Question::Distinct,
    Question::Chained,
    Question::First,
    Question::Within,
    Question::FirstThenWindow,
];

impl Question {
    fn sql(self) -> &'static str {
        match self {
            Question::Tumbling | Question::FirstThenWindow => {
                "SELECT window.start, window.end, key, count(*) AS n, sum(v) AS s FROM t \
                 GROUP BY window(ts, '10 seconds'), key"
            }
            Question::Sliding => {
                "SELECT window.start, window.end, key, count(*) AS n, sum(v) AS s FROM t \
                 GROUP BY hop(ts, INTERVAL '4' SECOND, INTERVAL '10' SECOND, INTERVAL '-2' SECOND), key"
            }
            Question::Session => {
                "SELECT session_window.start, session_window.end, key, count(*) AS n, sum(v) AS s \
                 FROM t GROUP BY session_window(ts, '3 seconds'), key"
            }
            Question::Gaps => {
                "SELECT session_window.start, session_window.end, key, count(*) AS n, sum(v) AS s \
                 FROM t GROUP BY session(ts, concat(CAST(v AS STRING), ' seconds')), key"
            }
            Question::Distinct => "SELECT DISTINCT ts, ts AS again, key, 1 AS n, 0 AS s FROM t",
            Question::Chained => {
                "SELECT window(window_time(window), '20 seconds').start AS a, \
                 window(window_time(window), '20 seconds').end AS b, 'all' AS key, \
                 count(*) AS n, sum(s) AS s FROM \
                 (SELECT window, key, sum(v) AS s FROM t GROUP BY window(ts, '5 seconds'), key) \
                 GROUP BY window(window_time(window), '20 seconds')"
            }
            Question::First | Question::Within => {
                "SELECT ts, ts AS again, key, 1 AS n, v AS s FROM t"
            }
        }
    }

    fn dedup(self) -> &'static str {
        match self {
            Question::First | Question::FirstThenWindow => {
                "dedup = { columns = [\"ts\", \"key\"] }"
            }
            Question::Within => "dedup = { columns = [\"key\"], within_watermark = true }",
            _ => "",
        }
    }

    fn plan(self) -> Arc<Query> {
        let text = format!(
            "name = \"events\"\n[source.t]\ntype = \"stdin\"\nschema = \"ts TIMESTAMP, key STRING, v \
             BIGINT\"\nwatermark = {{ column = \"ts\", delay = \"10s\" }}\n{}\n[query]\nsql = \"\"\"{}\"\"\"\n\
             [sink.out]\ntype = \"console\"\n[sink.late]\ntype = \"console\"\nof = \"late\"\n",
            self.dedup(),
            self.sql(),
        );
        let (job, _) = job::from_text(&text, "job.toml".as_ref(), &[]).expect("the job is fine");
        Arc::new(plan(&job).unwrap_or_else(|findings| panic!("{self:?}: {findings:?}")))
    }
}

/// `start, end, key, n, s`.
type Line = (i64, i64, String, i64, i64);

fn name(key: u8) -> String {
    format!("k{key}")
}

/// The final table and the numbers of the late rows, by going from row to row.
fn oracle(question: Question, rows: &[Row]) -> (Vec<Line>, BTreeSet<usize>) {
    let (mut lines, late) = match question {
        Question::Tumbling => windows(rows, (10, 10, 0)),
        Question::Sliding => windows(rows, (10, 4, -2)),
        Question::Chained => {
            let (inner, late) = windows(rows, (5, 5, 0));
            (windows_of_windows(&inner), late)
        }
        _ => {
            let (kept, late) = in_time(question, rows);
            (lines_of(question, &kept), late)
        }
    };
    lines.sort();
    (lines, late)
}

/// The groups of all windows of so many seconds (size, slide, offset) that were open when a row came.
fn windows(rows: &[Row], (size, slide, offset): (i64, i64, i64)) -> (Vec<Line>, BTreeSet<usize>) {
    let (mut late, mut groups) = (BTreeSet::new(), BTreeMap::new());
    let mut clock: Option<i64> = None;
    for (number, row) in rows.iter().enumerate() {
        let watermark = clock.map_or(i64::MIN, |time| watermark_after(time, DELAY));
        clock = clock.max(Some(row.time));
        // Rows and windows lie on whole seconds.
        let starts = (0..size)
            .map(|back| row.time - back * SECOND)
            .filter(|start| (start - offset * SECOND).rem_euclid(slide * SECOND) == 0)
            .filter(|start| start + size * SECOND > watermark);
        let mut any = false;
        for start in starts {
            any = true;
            let group: &mut (i64, i64) = groups.entry((start, row.key)).or_default();
            *group = (group.0 + 1, group.1 + row.v);
        }
        if !any {
            late.insert(number);
        }
    }
    let line = |((start, key), (n, s))| (start, start + size * SECOND, name(key), n, s);
    (groups.into_iter().map(line).collect(), late)
}

/// What the query above makes of windows that closed.
fn windows_of_windows(inner: &[Line]) -> Vec<Line> {
    let mut outer: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (_, end, _, _, s) in inner {
        let start = (end - 1).div_euclid(20 * SECOND) * 20 * SECOND;
        let group = outer.entry(start).or_default();
        *group = (group.0 + 1, group.1 + s);
    }
    let line = |(start, (n, s))| (start, start + 20 * SECOND, "all".to_string(), n, s);
    outer.into_iter().map(line).collect()
}

/// The rows that are neither late nor, where the job says so, known already.
fn in_time(question: Question, rows: &[Row]) -> (Vec<Row>, BTreeSet<usize>) {
    let (mut late, mut kept) = (BTreeSet::new(), Vec::new());
    let mut known: BTreeSet<(i64, u8)> = BTreeSet::new();
    let mut forgotten: BTreeMap<u8, i64> = BTreeMap::new();
    let mut clock: Option<i64> = None;
    for (number, row) in rows.iter().enumerate() {
        let watermark = clock.map_or(i64::MIN, |time| watermark_after(time, DELAY));
        clock = clock.max(Some(row.time));
        // No session at all, so none that is too late; its time counts all the same.
        if matches!(question, Question::Gaps) && row.v <= 0 {
            continue;
        }
        if row.time <= watermark {
            late.insert(number);
            continue;
        }
        let is_new = match question {
            Question::First | Question::FirstThenWindow => known.insert((row.time, row.key)),
            Question::Within => forgotten.get(&row.key).is_none_or(|&until| until <= watermark),
            _ => true,
        };
        if is_new {
            forgotten.insert(row.key, row.time + DELAY);
            kept.push(row.clone());
        }
    }
    (kept, late)
}

fn lines_of(question: Question, kept: &[Row]) -> Vec<Line> {
    match question {
        Question::Session | Question::Gaps => sessions(question, kept),
        Question::Distinct => {
            let all: BTreeSet<(i64, u8)> = kept.iter().map(|row| (row.time, row.key)).collect();
            all.into_iter().map(|(time, key)| (time, time, name(key), 1, 0)).collect()
        }
        Question::FirstThenWindow => {
            let mut groups: BTreeMap<(i64, u8), (i64, i64)> = BTreeMap::new();
            for row in kept {
                let start = row.time.div_euclid(10 * SECOND) * 10 * SECOND;
                let group = groups.entry((start, row.key)).or_default();
                *group = (group.0 + 1, group.1 + row.v);
            }
            let line = |((start, key), (n, s))| (start, start + 10 * SECOND, name(key), n, s);
            groups.into_iter().map(line).collect()
        }
        _ => kept.iter().map(|row| (row.time, row.time, name(row.key), 1, row.v)).collect(),
    }
}

fn sessions(question: Question, rows: &[Row]) -> Vec<Line> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.key, row.time));
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let gap = if matches!(question, Question::Gaps) { row.v * SECOND } else { 3 * SECOND };
        let (key, end) = (name(row.key), row.time + gap);
        match lines.last_mut() {
            Some(last) if last.2 == key && row.time <= last.1 => {
                *last = (last.0, last.1.max(end), key, last.3 + 1, last.4 + row.v);
            }
            _ => lines.push((row.time, end, key, 1, row.v)),
        }
    }
    lines
}

/// How a run is cut up.
#[derive(Clone, Debug)]
struct Cuts {
    cores: usize,
    shards: usize,
    /// Rows of an epoch, of a range and of a batch.
    epoch: usize,
    range: usize,
    batch: usize,
    /// The process dies after so many epochs, the last of them not committed, and goes on anew.
    kill_every: usize,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    (1usize..4, 1usize..4, 5usize..60, 1usize..20, 1usize..8, 2usize..7).prop_map(
        |(cores, shards, epoch, range, batch, kill_every)| Cuts {
            cores,
            shards,
            epoch,
            range,
            batch,
            kill_every,
        },
    )
}

/// A range pushed in batches, on what is known of the clock before it.
fn read(
    pipeline: &mut Pipeline,
    rows: &[(usize, Row)],
    batch: usize,
    clock: EventClock,
) -> Segment {
    pipeline.open(rows[0].0 as u64, clock);
    rows.chunks(batch).for_each(|part| push(pipeline, part));
    pipeline.close()
}

fn push(pipeline: &mut Pipeline, numbered: &[(usize, Row)]) {
    let first = numbered[0].0;
    let rows: Vec<&Row> = numbered.iter().map(|(_, row)| row).collect();
    let plan = Arc::clone(pipeline.plan());
    let columns: Vec<ArrayRef> = plan
        .input
        .iter()
        .enumerate()
        .map(|(at, input)| -> ArrayRef {
            match (input.source, input.encoding) {
                (0, _) => {
                    let times = rows.iter().map(|row| row.time).collect::<Vec<_>>();
                    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
                }
                (1, Encoding::Values) => {
                    Arc::new(StringArray::from_iter_values(rows.iter().map(|row| name(row.key))))
                }
                (1, Encoding::Ids) => {
                    let mut interners = pipeline.interners();
                    let interner = interners.get(at);
                    let ids = rows.iter().map(|row| interner.intern(name(row.key).as_bytes()));
                    Arc::new(arrow::array::UInt32Array::from_iter_values(ids))
                }
                _ => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.v))),
            }
        })
        .collect();
    let starts: Vec<u32> = (0..rows.len() as u32).collect();
    let ends: Vec<u32> = (1..=rows.len() as u32).collect();
    let place = Place { minor: first as u64, line: 1, ..Place::default() };
    pipeline.push(&InputBatch {
        columns: &columns,
        rows: rows.len(),
        bytes: &vec![b'\n'; rows.len()],
        row_starts: &starts,
        row_ends: &ends,
        value_errors: &[],
        row_errors: &[],
        place: &place,
    });
}

/// What came out of all committed epochs, and the watermark at the end.
struct Outcome {
    lines: Vec<Line>,
    late: Vec<(i64, String, i64)>,
    counters: Counters,
}

/// The rows of a split, each with its number.
type Split = Vec<(usize, Row)>;

/// How far the splits were read: of each the next row and the clock, as a source keeps them.
#[derive(Clone)]
struct Progress {
    next: Vec<usize>,
    clocks: Vec<Option<i64>>,
}

impl Progress {
    fn restored(kept: Option<&serde_json::Value>, splits: usize) -> Progress {
        let Some(kept) = kept else {
            return Progress { next: vec![0; splits], clocks: vec![None; splits] };
        };
        let array = |name: &str| kept[name].as_array().expect("it was written so").clone();
        Progress {
            next: array("next").iter().map(|n| n.as_u64().expect("a number") as usize).collect(),
            clocks: array("clocks").iter().map(serde_json::Value::as_i64).collect(),
        }
    }

    fn kept(&self) -> serde_json::Value {
        serde_json::json!({ "next": self.next, "clocks": self.clocks })
    }

    fn has_ended(&self, splits: &[Split]) -> bool {
        self.next.iter().zip(splits).all(|(next, split)| *next == split.len())
    }

    /// The least clock of the splits that go on, else the greatest of all.
    fn clock(&self, splits: &[Split]) -> Option<i64> {
        let goes_on = |at: &usize| self.next[*at] < splits[*at].len();
        let active = (0..splits.len()).filter(goes_on).map(|at| self.clocks[at]);
        match active.min() {
            Some(least) => least,
            None => self.clocks.iter().flatten().max().copied(),
        }
    }
}

/// Runs over memory that survives the process, which dies now and then before it commits.
fn run(plan: &Arc<Query>, splits: &[Split], cuts: &Cuts) -> Result<Outcome> {
    let storage = MemoryStorage::default();
    let mut outcome =
        Outcome { lines: Vec::new(), late: Vec::new(), counters: Counters::default() };
    for life in 0.. {
        let journal = Journal::open(Arc::new(storage.clone()), "job", plan, format!("life{life}"))?;
        let on_error = (OnError::DeadLetter, &[][..]);
        let (mut epochs, restored) =
            Epochs::open(Arc::clone(plan), cuts.shards, Some(journal), on_error)?;
        if restored.as_ref().is_some_and(|restored| restored.ended) {
            return Ok(outcome);
        }
        let kept = restored.as_ref().map(|restored| &restored.source);
        let mut progress = Progress::restored(kept, splits.len());
        let mut floor = epochs.event_time_max();
        let of_scan = &plan.scans[0].plan;
        let mut pipelines: Vec<Pipeline> = (0..cuts.cores)
            .map(|_| Pipeline::new(Arc::clone(of_scan), OnError::DeadLetter))
            .collect();
        for lived in 1.. {
            for (at, split) in splits.iter().enumerate() {
                let rows = 1 + cuts.epoch * (at + 1) / 2;
                let stretch =
                    &split[progress.next[at]..(progress.next[at] + rows).min(split.len())];
                progress.clocks[at] =
                    read_stretch(&mut pipelines, stretch, cuts, progress.clocks[at])?;
                progress.next[at] += stretch.len();
            }
            floor = floor.max(progress.clock(splits));
            let scan = ScanInput {
                cores: pipelines.iter_mut().map(Pipeline::barrier).collect(),
                event_time_max: floor,
                ended: progress.has_ended(splits),
            };
            let input = EpochInput { scans: vec![scan], source: progress.kept() };
            let finished = epochs.finish(input, &OneByOne)?;
            let dies = lived % cuts.kill_every == 0 && !finished.ended && life < 4;
            if dies {
                break;
            }
            finished.commit(epochs.journal(), BTreeMap::new())?;
            outcome.lines.extend(lines(&finished.rows));
            outcome.late.extend(late_rows(finished.late.as_ref().expect("a sink takes them")));
            outcome.counters.add(&finished.counters);
            if let Some(seen) = floor.filter(|_| !finished.ended) {
                assert_eq!(finished.watermark, Some(watermark_after(seen, DELAY)));
            }
            if finished.ended {
                return Ok(outcome);
            }
        }
    }
    unreachable!("a life has an end")
}

/// An epoch's rows of a split, by ranges on the cores in turn; its clock after them.
fn read_stretch(
    pipelines: &mut [Pipeline],
    stretch: &[(usize, Row)],
    cuts: &Cuts,
    mut clock: Option<i64>,
) -> Result<Option<i64>> {
    let cores = pipelines.len();
    for (at, range) in stretch.chunks(cuts.range).enumerate() {
        let pipeline = &mut pipelines[at % cores];
        // Every other range is read on a guess, and again where that was wrong.
        let guesses = at % 2 == 1 && !pipeline.plan().needs_order();
        let known = EventClock::known(clock);
        let asked = if guesses { EventClock::Guessed } else { known };
        let mut segment = read(pipeline, range, cuts.batch, asked);
        let holds = segment.summary.guess_holds_below;
        if guesses && clock.is_some_and(|clock| clock >= holds) {
            pipeline.discard(segment);
            segment = read(pipeline, range, cuts.batch, known);
        }
        clock = clock.max(segment.summary.clock.now);
        pipeline.keep(segment, 0)?;
    }
    Ok(clock)
}

fn lines(rows: &RecordBatch) -> Vec<Line> {
    let times = |at: usize| rows.column(at).as_primitive::<TimestampMicrosecondType>();
    let numbers = |at: usize| {
        arrow::compute::cast(rows.column(at), &DataType::Int64).expect("numbers are numbers")
    };
    let (n, s) = (numbers(3), numbers(4));
    let keys = rows.column(2).as_string::<i32>();
    (0..rows.num_rows())
        .map(|row| {
            let number = |of: &ArrayRef| of.as_primitive::<Int64Type>().value(row);
            let key = keys.value(row).to_string();
            (times(0).value(row), times(1).value(row), key, number(&n), number(&s))
        })
        .collect()
}

fn late_rows(rows: &RecordBatch) -> Vec<(i64, String, i64)> {
    let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let (keys, values) = (rows.column(1).as_string::<i32>(), rows.column(2));
    let values = values.as_primitive::<Int64Type>();
    let row = |at: usize| (times.value(at), keys.value(at).to_string(), values.value(at));
    (0..rows.num_rows()).map(row).collect()
}

/// `layout` says of each row in which split it stands; the splits' rows keep their order.
fn check(question: Question, plan: &Arc<Query>, rows: &[Row], cuts: &Cuts, layout: &[usize]) {
    let mut splits = vec![Split::new(); layout.iter().max().map_or(1, |last| last + 1)];
    for (number, row) in rows.iter().enumerate() {
        splits[layout[number % layout.len()]].push((number, row.clone()));
    }
    let (expected, late) = oracle(question, rows);
    let mut found = run(plan, &splits, cuts).expect("nothing fails for good");
    found.lines.sort();
    assert_eq!(found.lines, expected, "{question:?}, {cuts:?}");
    let mut expected: Vec<_> = late.iter().map(|&at| &rows[at]).collect();
    expected.sort_by_key(|row| (row.time, row.key, row.v));
    let expected: Vec<_> =
        expected.into_iter().map(|row| (row.time, name(row.key), row.v)).collect();
    found.late.sort();
    assert_eq!(found.late, expected, "{question:?}, {cuts:?}");
    assert_eq!(found.counters.rows_in, rows.len() as u64);
    assert_eq!(found.counters.late, expected.len() as u64);
}

/// Times that go on with some disorder, one row in twenty far behind unless none is to be late;
/// seconds, so that rows meet ends of windows, of sessions and the watermark itself; from before 1970 on.
fn rows(some_are_late: bool) -> impl Strategy<Value = Vec<Row>> {
    let row = (0i64..3, 0i64..12, 0u8..20, 0u8..3, 0i64..6);
    proptest::collection::vec(row, 1..100).prop_map(move |rows| {
        let mut now = -40;
        let row = |(step, back, late, key, v): (i64, i64, u8, u8, i64)| {
            now += step;
            let behind = match (some_are_late, late) {
                (true, 0) => 12 + back,
                (true, _) => back,
                (false, _) => back % 10,
            };
            Row { time: (now - behind) * SECOND, key, v }
        };
        rows.into_iter().map(row).collect()
    })
}

/// `PROPTEST_CASES=100000` tries more: one case here is up to nine queries.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases / 8, ..default }
}

fn plans() -> impl Iterator<Item = (Question, &'static Arc<Query>)> {
    static PLANS: OnceLock<Vec<Arc<Query>>> = OnceLock::new();
    let plans = PLANS.get_or_init(|| QUESTIONS.iter().map(|question| question.plan()).collect());
    QUESTIONS.into_iter().zip(plans)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_final_table_and_the_late_rows_are_those_of_the_input_alone(
        rows in rows(true), cuts in cuts(),
    ) {
        for (question, plan) in plans() {
            check(question, plan, &rows, &cuts, &[0]);
        }
    }

    /// Deduplication keeps the row that came first, so there the layout may show.
    #[test]
    fn where_no_row_is_late_the_layout_of_splits_shows_nowhere(
        rows in rows(false), cuts in cuts(), layout in proptest::collection::vec(0usize..4, 1..20),
    ) {
        use Question::{First, FirstThenWindow, Within};
        for (question, plan) in plans() {
            if !matches!(question, First | FirstThenWindow | Within) {
                check(question, plan, &rows, &cuts, &layout);
            }
        }
    }
}
