//! Generated rows, and lateness: what is late depends on the rows alone.

use pelton_engine::job::spec::LateRule;
use pelton_engine::plan::{Aggregate, GroupKey, Groups, Watermark, WindowKey};
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec};

use super::*;
use crate::generate::Suite;

fn generate(suite: &str, rows: Option<u64>, rows_per_second: Option<u64>) -> SourceKind {
    SourceKind::Generate { suite: suite.into(), rows, rows_per_second, seed: 5 }
}

#[test]
fn generated_rows_are_those_of_the_suite_in_their_order() {
    let mut text = Vec::new();
    Suite::new("words", 5).unwrap().write(0, 200_000, &mut text);
    let text = String::from_utf8(text).unwrap();
    let expected: Vec<&str> = text.lines().collect();
    for (cores, max_bytes, restart) in [(1, 1 << 30, false), (3, 400_000, true), (2, 1, false)] {
        let rows = if max_bytes == 1 { 40 } else { 200_000 };
        let mut job = job(generate("words", Some(rows), None), Format::Text, schema(&["value"]));
        job.epoch.max_bytes = max_bytes;
        let pause = || Duration::from_millis(3);
        let setup = setup(cores, 1 << 20, Choice::Uring);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, restart).unwrap();
        assert!(taken.texts() == expected[..rows as usize], "{cores} cores");
    }
}

#[test]
fn max_rows_per_epoch_is_exact_for_generated_rows() {
    let mut job = job(generate("words", Some(1_000), None), Format::Text, schema(&["value"]));
    job.epoch.max_rows = Some(300);
    let pause = || Duration::from_millis(30);
    let setup = setup(2, 1 << 20, Choice::Uring);
    let taken = run_to_end(&job, &select_all(&job), &setup, pause, false).unwrap();
    let full: Vec<u64> = taken.epochs.into_iter().filter(|&rows| rows > 0).collect();
    assert_eq!(full, [300, 300, 300, 100]);
}

#[test]
fn rows_come_due_at_their_rate() {
    let kind = generate("words", Some(200), Some(1_000));
    let job = job(kind, Format::Text, schema(&["value"]));
    let begun = Instant::now();
    let pause = || Duration::from_millis(10);
    let setup = setup(1, 1 << 20, Choice::Uring);
    let taken = run_to_end(&job, &select_all(&job), &setup, pause, false).unwrap();
    assert_eq!(taken.counters.rows_in, 200);
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}

#[test]
fn an_unknown_suite_names_those_that_there_are() {
    let job = job(generate("sensor", None, None), Format::Text, schema(&["value"]));
    let setup = setup(1, 1 << 20, Choice::Uring);
    let error = Ingest::start_with(&job, select_all(&job), &setup, None).err().unwrap();
    assert!(error.to_string().contains("\"sensors\", \"words\""), "{error}");
}

/// SELECT window(ts, '10 ms'), count(*) FROM t GROUP BY 1, with a watermark.
fn windows(job: &JobSpec, delay_ms: i64) -> Arc<Plan> {
    let time = &job.sources[0].schema[0].data_type;
    let size_us = 10_000;
    let start = ExprKind::WindowStart {
        time: Box::new(Expr { kind: ExprKind::Column(0), data_type: time.clone() }),
        size_us,
        offset_us: 0,
    };
    let start = Expr { kind: start, data_type: time.clone() };
    let mut plan = Arc::into_inner(select_all(job)).unwrap();
    plan.input.truncate(1);
    plan.event_time = Some(0);
    let late = LateRule::Row;
    let watermark = Watermark { delay_us: delay_ms * 1_000, late, max_future_skew_us: None };
    plan.watermark = Some(watermark);
    plan.shape = Shape::Groups(Groups {
        keys: vec![GroupKey { name: "start".into(), expr: Compiled::Kernel(start) }],
        window: Some(WindowKey {
            key: 0,
            size_us,
            slide_us: size_us,
            offset_us: 0,
            time: None,
            closes: true,
        }),
        session: None,
        event_time_key: None,
        arguments: Vec::new(),
        aggregates: vec![Aggregate {
            spec: AggregateSpec {
                function: AggregateFunction::CountRows,
                input: None,
                output: DataType::Int64,
                name: "n".into(),
            },
            argument: None,
            filter: None,
        }],
    });
    Arc::new(plan)
}

/// One row after the other: late if its window's end is not above the watermark before it.
fn late_rows(times: &[i64], delay: i64) -> u64 {
    let (mut greatest, mut late) = (i64::MIN / 2, 0);
    for &time in times {
        late += u64::from(time - time.rem_euclid(10) + 10 <= greatest - delay);
        greatest = greatest.max(time);
    }
    late
}

#[test]
fn what_is_late_depends_on_the_rows_alone() {
    // Times advance, and one row in seven comes from far behind.
    let behind = |i: i64| if i % 7 == 0 { i * 31 % 97 } else { i % 13 };
    let times: Vec<i64> = (0..20_000).map(|i| 1_000_000 + i - behind(i)).collect();
    let text: String = times.iter().map(|time| format!("{time}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    let expected = late_rows(&times, 30);
    assert!(expected > 500, "the test has late rows: {expected}");
    for (cores, range_bytes, max_bytes, restart) in [
        (1, 1 << 20, 1 << 30, false),
        (2, 500, 1 << 30, false),
        (4, 1_000, 30_000, true),
        (3, 100, 7_777, false),
    ] {
        let mut job = file_job(&path, &["ts"]);
        job.epoch.max_bytes = max_bytes;
        let pause = || Duration::from_micros(700);
        let setup = setup(cores, range_bytes, Choice::Uring);
        let taken = run_to_end(&job, &windows(&job, 30), &setup, pause, restart).unwrap();
        assert_eq!(taken.counters.late, expected, "{cores} cores, ranges of {range_bytes}");
        assert_eq!(taken.counters.applied, 20_000 - expected);
        assert_eq!(taken.event_time_max, times.iter().max().map(|time| time * 1_000));
    }
}
