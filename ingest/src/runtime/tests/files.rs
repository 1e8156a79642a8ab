//! Files, read by several cores, in any epochs, with any restarts: each row once and in order.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use proptest::prelude::*;

use super::*;

/// A field as a careful writer writes it.
fn quoted(text: &str) -> String {
    let plain = !text.contains(['"', ',', '\n', '\r']);
    if plain { text.into() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

fn csv(rows: &[Vec<String>], last_line_feed: bool) -> String {
    let mut text = String::new();
    for row in rows {
        let fields: Vec<String> = row.iter().map(|field| quoted(field)).collect();
        text += &(fields.join(",") + "\n");
    }
    if !last_line_feed {
        text.pop();
    }
    text
}

fn rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    let text = prop_oneof![
        4 => "[a-c]{0,6}",
        2 => "[a\"\n,]{1,12}",
        1 => (1usize..40).prop_map(|n| "\n\"".repeat(n)),
    ];
    // The first field makes every row distinct, so that a row lost and one twice cannot cancel.
    prop::collection::vec((text.clone(), text), 1..80).prop_map(|rows| {
        let row = |(i, (a, b)): (usize, (String, String))| vec![format!("row {i}"), a, b];
        rows.into_iter().enumerate().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_row_comes_once_for_any_cores_ranges_epochs_and_restarts(
        rows in rows(),
        files in 1usize..4,
        cores in 1usize..5,
        range_bytes in 1u64..90,
        plain_reads in any::<bool>(),
        restart in any::<bool>(),
        max_bytes in prop::option::of(1u64..400),
        max_rows in prop::option::weighted(0.2, 1u64..20),
        pauses in prop::collection::vec(0u64..400, 4),
        last_line_feed in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (number, part) in rows.chunks(rows.len().div_ceil(files)).enumerate() {
            let path = folder.path().join(format!("{number}.csv"));
            fs::write(path, csv(part, last_line_feed)).unwrap();
        }
        let mut job = file_job(folder.path(), &["a", "b", "c"]);
        job.sources[0].kind = SourceKind::File {
            path: folder.path().join("*.csv"),
            max_files_per_epoch: None,
            end: Some(true),
        };
        job.epoch.max_bytes = max_bytes.unwrap_or(u64::MAX);
        job.epoch.max_rows = max_rows;
        let choice = if plain_reads { plain() } else { Choice::Uring };
        let mut pauses = pauses.into_iter().cycle();
        let pause = || Duration::from_micros(pauses.next().unwrap());
        let setup = setup(cores, range_bytes, choice);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, restart).unwrap();
        prop_assert_eq!(&taken.rows, &rows);
        if let Some(max) = max_rows {
            prop_assert!(taken.epochs.iter().all(|&epoch| epoch <= max), "{:?}", taken.epochs);
        }
    }
}

#[test]
fn rows_longer_than_pieces_and_ranges_come_whole() {
    let lengths = [5, 20_000, 300_000, 3, 3_000_000, 7, 16_384, 16_385, 262_144, 600_000, 1];
    let rows: Vec<Vec<String>> = (0..4 * lengths.len())
        .map(|i| {
            let text = char::from(b'a' + (i % 26) as u8).to_string();
            let text = text.repeat(lengths[i % lengths.len()]);
            vec![format!("{i}"), if i % 2 == 0 { text } else { format!("{text}\n\"{text}") }]
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.csv");
    fs::write(&path, csv(&rows, false)).unwrap();
    let mut job = file_job(&path, &["a", "b"]);
    job.sources[0].max_record_bytes = 8 << 20;
    for (cores, range_bytes, choice) in
        [(1, 4 << 20, Choice::Uring), (3, 100_000, plain()), (2, 1 << 20, Choice::Uring)]
    {
        let setup = setup(cores, range_bytes, choice);
        let pause = || Duration::from_millis(5);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, cores > 1).unwrap();
        assert!(taken.rows == rows, "{cores} cores, ranges of {range_bytes}");
    }
}

#[test]
fn errors_name_their_line_whoever_reads_it_and_after_a_restart() {
    let mut text = String::from("n,a\n");
    let mut bad = Vec::new();
    let mut line = 2;
    for i in 0..500 {
        if i % 7 == 3 {
            bad.push(line);
            text += &format!("x{i},y\n");
            line += 1;
        } else {
            text += &format!("{i},\"{}\"\n", "\n".repeat(i % 4));
            line += 1 + i as u64 % 4;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, text).unwrap();
    let mut job = file_job(&path, &["n", "a"]);
    let dialect = CsvDialect { header: Header::Match, ..CsvDialect::default() };
    job.sources[0].format = Format::Csv(dialect);
    job.epoch.max_bytes = 700;
    for cores in 1..4 {
        let setup = setup(cores, 64, Choice::Uring);
        let pause = || Duration::from_micros(300);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, cores == 2).unwrap();
        let mut lines: Vec<u64> = taken.dead_letters.iter().map(|letter| letter.line).collect();
        lines.sort();
        assert_eq!(lines, bad, "{cores} cores");
        assert_eq!(taken.counters.rejected, bad.len() as u64);
    }
}

#[test]
fn compressed_files_and_sequential_dialects_are_read_like_others() {
    let rows: Vec<Vec<String>> =
        (0..3_000).map(|i| vec![format!("{i}"), format!("b{}\n", i * i)]).collect();
    let text = csv(&rows, true);
    let (first, rest) = text.split_at(text.len() / 3);
    let folder = tempfile::tempdir().unwrap();
    let gzip = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let files: [(&str, Vec<u8>); 3] = [
        // Two members, one after the other, are one text.
        ("a.csv.gz", [gzip(first), gzip(rest)].concat()),
        ("b.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
        ("c.csv", text.clone().into_bytes()),
    ];
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let all = [rows.clone(), rows.clone(), rows].concat();
    let escapes = [Escape::Doubled, Escape::Backslash];
    for (cores, escape, restart) in
        [(1, 0, false), (2, 0, true), (3, 0, false), (2, 1, true), (3, 1, false)]
    {
        let mut job = file_job(folder.path(), &["a", "b"]);
        job.sources[0].kind = SourceKind::File {
            path: folder.path().into(),
            max_files_per_epoch: None,
            end: Some(true),
        };
        let dialect = CsvDialect { escape: escapes[escape], ..CsvDialect::default() };
        job.sources[0].format = Format::Csv(dialect);
        job.epoch.max_bytes = 20_000;
        let setup = setup(cores, 4_000, Choice::Uring);
        let pause = || Duration::from_micros(500);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, restart).unwrap();
        assert!(taken.rows == all, "{cores} cores, {escape}: {} rows", taken.rows.len());
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn growing(folder: &Path) -> JobSpec {
    file_job(folder, &["a"])
}

#[test]
fn a_directory_that_grows_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    append(&path("1.csv"), "a\nb\nhalf");
    let job = growing(folder.path());
    let plan = select_all(&job);
    let setup = setup(2, 8, Choice::Uring);
    let mut ingest = Ingest::start_with(&job, Arc::clone(&plan), &setup, None).unwrap();
    let mut taken = Taken::default();
    take_rows(&mut ingest, 2, &mut taken);
    append(&path("1.csv"), " a row\nc\nlast");
    take_rows(&mut ingest, 4, &mut taken);
    // With a newer file the unterminated row counts as whole.
    append(&path("2.csv"), "d\n");
    append(&path(".hidden"), "never\n");
    take_rows(&mut ingest, 6, &mut taken);
    assert_eq!(taken.texts(), ["a", "b", "half a row", "c", "last", "d"]);

    // The state goes on where it was, with what came while nobody looked.
    let state = ingest.barrier(None).unwrap().state;
    drop(ingest);
    append(&path("2.csv"), "e\n");
    append(&path("3.csv"), "f\n");
    let mut ingest = Ingest::start_with(&job, plan, &setup, Some(&state)).unwrap();
    let mut later = Taken::default();
    take_rows(&mut ingest, 2, &mut later);
    assert_eq!(later.texts(), ["e", "f"]);
    ingest.stop();
}

/// The line is refused once, by its first bytes, however often the file ends inside it.
#[test]
fn f03_a_row_over_the_limit_that_grows_is_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.csv");
    append(&path, "a\n");
    let mut job = growing(folder.path());
    job.sources[0].max_record_bytes = 16;
    let plan = select_all(&job);
    for cores in [1, 2] {
        _ = std::fs::remove_file(&path);
        append(&path, &format!("a\n{}", "x".repeat(40)));
        let mut ingest =
            Ingest::start_with(&job, Arc::clone(&plan), &setup(cores, 8, plain()), None).unwrap();
        let mut taken = Taken::default();
        take_rows(&mut ingest, 2, &mut taken);
        append(&path, &"y".repeat(40));
        // Until the scout has seen it.
        std::thread::sleep(Duration::from_millis(300));
        taken.add(ingest.barrier(None).unwrap());
        append(&path, "z\nb\n");
        take_rows(&mut ingest, 3, &mut taken);
        assert_eq!(taken.texts(), ["a", "b"], "{cores} cores");
        let places: Vec<_> = taken.dead_letters.iter().map(|l| (l.line, l.raw.len())).collect();
        assert_eq!(places, [(2, 16)], "{cores} cores");
    }
}

#[test]
fn an_epoch_takes_so_many_files() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..5 {
        append(&folder.path().join(format!("{number}.csv")), "a\nb\n");
    }
    let mut job = growing(folder.path());
    job.sources[0].kind = SourceKind::File {
        path: folder.path().into(),
        max_files_per_epoch: Some(2),
        end: Some(true),
    };
    let pause = || Duration::from_millis(50);
    let setup = setup(2, 1 << 20, Choice::Uring);
    let taken = run_to_end(&job, &select_all(&job), &setup, pause, false).unwrap();
    assert_eq!(taken.counters.rows_in, 10);
    assert!(taken.epochs.iter().all(|&rows| rows <= 4), "{:?}", taken.epochs);
}

#[test]
fn available_now_reads_what_was_there_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.csv");
    append(&path, "a\nb\nopen");
    let mut job = growing(folder.path());
    job.query.trigger = Trigger::AvailableNow;
    let setup = setup(2, 8, Choice::Uring);
    let mut ingest = Ingest::start_with(&job, select_all(&job), &setup, None).unwrap();
    append(&path, " row\n");
    append(&folder.path().join("2.csv"), "later\n");
    while !ingest.signal().wait(None).ended {}
    let input = ingest.barrier(None).unwrap();
    assert!(!input.ended, "the next run may find more");
    let mut taken = Taken::default();
    taken.add(input);
    assert_eq!(taken.texts(), ["a", "b"]);
}

/// What a restart says when a file is not what it was.
fn check_changed(change: impl Fn(&Path), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.csv");
    append(&path, "a\nb\n");
    let job = growing(folder.path());
    let (plan, setup) = (select_all(&job), setup(1, 1 << 20, Choice::Uring));
    let mut ingest = Ingest::start_with(&job, Arc::clone(&plan), &setup, None).unwrap();
    let mut taken = Taken::default();
    take_rows(&mut ingest, 2, &mut taken);
    let state = ingest.barrier(None).unwrap().state;
    drop(ingest);
    change(&path);
    let error = match Ingest::start_with(&job, plan, &setup, Some(&state)) {
        Ok(_) => panic!("expected: {expected}"),
        Err(error) => error,
    };
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_file_that_is_not_what_it_was_is_refused() {
    check_changed(
        |path| File::options().write(true).open(path).unwrap().set_len(2).unwrap(),
        "was truncated: expected at least 4 bytes, found 2",
    );
    check_changed(
        |path| {
            fs::write(path.with_extension("new"), "a\nb\nc\n").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        "it was replaced",
    );
    check_changed(|path| fs::write(path, "x\ny\nz\n").unwrap(), "it was replaced");
}

#[test]
fn appending_to_a_row_that_was_taken_as_whole_fails() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("1.csv"), "a\nopen");
    append(&folder.path().join("2.csv"), "b\n");
    let job = growing(folder.path());
    let setup = setup(1, 1 << 20, Choice::Uring);
    let mut ingest = Ingest::start_with(&job, select_all(&job), &setup, None).unwrap();
    take_rows(&mut ingest, 3, &mut Taken::default());
    append(&folder.path().join("1.csv"), "ed\n");
    let failed = loop {
        if let Some(error) = ingest.signal().wait(None).failed {
            break error;
        }
    };
    assert!(failed.to_string().contains("grew inside its last row"), "{failed}");
    assert!(ingest.barrier(None).is_err(), "nothing is committed after that");
}

#[test]
fn what_cannot_be_read_at_the_start_is_told_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("header.csv"), "x,y\n1,2\n").unwrap();
    let check = |name: &str, expected: &str| {
        let mut job = file_job(&folder.path().join(name), &["a"]);
        let dialect = CsvDialect { header: Header::Match, ..CsvDialect::default() };
        job.sources[0].format = Format::Csv(dialect);
        let setup = setup(1, 1 << 20, Choice::Uring);
        let error = match Ingest::start_with(&job, select_all(&job), &setup, None) {
            Ok(_) => panic!("{name} was read"),
            Err(error) => error,
        };
        assert_eq!(error.exit_code(), 69, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("none.csv", "relative to the job file");
    check("header.csv", "expected a column \"a\" in the header, found \"x\", \"y\"");
}
