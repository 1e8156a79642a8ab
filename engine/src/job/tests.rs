//! Whole job files: what is read, and each refusal as it is shown.

use std::fmt::Write as _;

use super::spec::*;
use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "UP" => Some("../../etc/passwd".into()),
        "DELAY" => Some("10 parsecs".into()),
        "SQL" => Some("SELECT v\nFROM s".into()),
        _ => None,
    }
}

type Parsed = Result<(JobSpec, Vec<Finding>), Vec<Finding>>;

/// Lines `--set key=value` at the end of a case are the command line.
fn parsed(toml: &str) -> (JobText, Parsed) {
    let (sets, lines): (Vec<_>, Vec<_>) = toml.lines().partition(|line| line.starts_with("--set "));
    let sets: Vec<_> = sets
        .iter()
        .filter_map(|line| line.strip_prefix("--set ")?.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let text = JobText::new("j", &lines.join("\n"), &sets);
    let result = parse(&text, &env);
    (text, result)
}

/// What `check` shows for a job.
fn shown(toml: &str) -> String {
    match parsed(toml) {
        (mut text, Ok((_, warnings))) => {
            text.warnings = warnings;
            format!("good\n{}", text.render_warnings()).trim_end().into()
        }
        (text, Err(findings)) => text.render(&findings),
    }
}

/// A whole job around the part that a case is about.
fn around(group: &str, case: &str) -> String {
    let source = "[source.s]\ntype = \"file\"\npath = \"s.csv\"\non_error = \"skip\"\n";
    let schema = "schema = \"ts TIMESTAMP, v INT, day DATE\"\n";
    let query = "[query]\nsql = \"SELECT v FROM s\"\n";
    match group {
        "file" => case.into(),
        "top" => format!("{case}\n{source}{schema}{query}"),
        "source" => format!("name = \"n\"\n{query}[source.s]\n{case}"),
        "schema" => format!("name = \"n\"\n{query}{source}{case}"),
        "columns" => format!("name = \"n\"\n{query}{source}{schema}{case}"),
        "query" => format!("name = \"n\"\n{source}{schema}[query]\n{case}"),
        "rest" => format!("name = \"n\"\n{source}{schema}{query}{case}"),
        _ => panic!("no group {group}"),
    }
}

/// The cases of `tests/findings.txt`: `## group`, then for each the text, `--`, what is shown, `==`.
/// With `REWRITE=1` in the environment the file is written anew: read the difference.
#[test]
fn every_finding_says_place_fault_and_fix_f55() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/job/tests/findings.txt");
    let file = std::fs::read_to_string(path).expect("it is in the repository");
    let mut now = String::new();
    let mut group = String::new();
    for block in file.split_inclusive("==\n") {
        let mut block = block;
        while let Some(rest) = block.strip_prefix("## ") {
            let (head, rest) = rest.split_once('\n').expect("a line end");
            group = head.into();
            _ = writeln!(now, "## {group}");
            block = rest;
        }
        let Some((case, _)) = block.split_once("--\n") else { continue };
        let found = shown(&around(&group, case));
        _ = write!(now, "{case}--\n{found}\n==\n");
    }
    if std::env::var("REWRITE").is_ok() {
        return std::fs::write(path, &now).expect("the repository can be written");
    }
    assert!(now == file, "{}", first_difference(&now, &file));
}

fn first_difference(now: &str, file: &str) -> String {
    let blocks = now.split("==\n").zip(file.split("==\n"));
    let pair = blocks.into_iter().find(|(now, file)| now != file);
    let (now, file) = pair.unwrap_or((now, file));
    format!("now:\n{now}\nin the file:\n{file}")
}

fn jobs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs"))
}

/// Every job that comes with the program is read without a finding.
#[test]
fn the_bundled_jobs_are_good() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(jobs()).expect("jobs/ is in the repository") {
        let path = entry.expect("a readable directory").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if let Err(error) = read(&path, &[], &|_| None) {
            panic!("{error}");
        }
        names.push(path.file_name().expect("a file").to_string_lossy().into_owned());
    }
    names.sort();
    let expected = [
        "direct-kafka-datavec.toml",
        "direct-kafka-word-count.toml",
        "generate.toml",
        "sensors.toml",
        "stream-join.toml",
        "union.toml",
        "word-count.toml",
    ];
    assert_eq!(names, expected);
}

/// Whatever key is misspelt, in whatever job: it is told, and no refusal is without a word.
#[test]
fn a_misspelt_key_is_a_finding_wherever_it_stands() {
    let mut tried = 0;
    for entry in std::fs::read_dir(jobs()).expect("jobs/ is in the repository") {
        let path = entry.expect("a readable directory").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a job file");
        for (number, line) in text.lines().enumerate() {
            let Some((key, value)) = line.split_once(" = ") else { continue };
            if key.starts_with('#') || key.contains(' ') {
                continue;
            }
            let lines = text.lines().enumerate().map(|(at, line)| match at == number {
                true => format!("{key}e = {value}"),
                false => line.to_owned(),
            });
            let misspelt = lines.collect::<Vec<_>>().join("\n");
            let (text, Err(findings)) = parsed(&misspelt) else {
                panic!("{}: {key}e is taken", path.display());
            };
            let shown = text.render(&findings);
            let named = key.rsplit('.').next().expect("a part");
            assert!(shown.contains(&format!("`{named}e`")), "{}: {key}e: {shown}", path.display());
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn the_reference_lists_every_key() {
    let reference = include_str!("../../../jobs/README.md");
    let missing: Vec<_> = HOMES
        .iter()
        .flat_map(|(_, keys)| keys.iter())
        .filter(|key| !reference.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "jobs/README.md does not tell of {missing:?}");
}

fn good(toml: &str) -> JobSpec {
    match parsed(toml) {
        (_, Ok((spec, _))) => spec,
        (text, Err(findings)) => panic!("{}", text.render(&findings)),
    }
}

#[test]
fn a_small_job_has_the_defaults_of_a_newcomer() {
    let job = good(&around("top", "name = \"n\""));
    assert_eq!((job.device, job.cores, job.memory_limit), (Device::Auto, None, None));
    assert_eq!(job.timezone, "UTC");
    assert_eq!((job.query.mode, job.query.trigger), (OutputMode::Append, Trigger::Default));
    assert_eq!(job.epoch, EpochLimits::default());
    assert_eq!(job.gpu, GpuSpec { shadow_one_in: 64, memory: None });
    assert!(job.checkpoint.is_none() && job.sources[0].watermark.is_none());
    assert_eq!(job.sources[0].format, Format::Csv(CsvDialect::default()));
    assert_eq!((job.sources[0].max_record_bytes, job.sources[0].max_error_ratio), (16 << 20, None));
    let [SinkSpec { kind: SinkKind::Console { style, num_rows, truncate }, of, .. }] =
        &job.sinks[..]
    else {
        panic!("{:?}", job.sinks)
    };
    assert_eq!((*style, *num_rows, *truncate), (ConsoleStyle::Spark, 20, Some(20)));
    assert_eq!(*of, SinkOf::Rows);
}

/// One line of a job and what the reader made of it.
fn check(group: &str, case: &str, look: fn(&JobSpec) -> String, expected: &str) {
    assert_eq!(look(&good(&around(group, case))), expected, "{case}");
}

#[test]
fn sources_are_read_as_they_are_written() {
    let kind = |job: &JobSpec| format!("{:?}", job.sources[0].kind);
    let cwd = std::env::current_dir().expect("there is one");
    let file = format!(
        "File {{ path: {:?}, max_files_per_epoch: Some(8), end: Some(false) }}",
        cwd.join("data/*.csv")
    );
    let schema = "schema = \"v INT\"";
    check(
        "source",
        &format!(
            "type = \"file\"\npath = \"data/*.csv\"\nend = false\nmax_files_per_epoch = 8\n{schema}"
        ),
        kind,
        &file,
    );
    check(
        "source",
        &format!("type = \"socket\"\naddress = \"[::1]:9\"\nlisten = true\n{schema}"),
        kind,
        "Socket { address: \"[::1]:9\", listen: true }",
    );
    check("source", &format!("type = \"stdin\"\n{schema}"), kind, "Stdin");
    check(
        "source",
        "type = \"generate\"\nsuite = \"words\"\nrows = 10\nrows_per_second = 5\nseed = 7",
        kind,
        "Generate { suite: \"words\", rows: Some(10), rows_per_second: Some(5), seed: 7 }",
    );
    let limits = |job: &JobSpec| {
        let s = &job.sources[0];
        format!("{:?} {:?} {}", s.on_error, s.max_error_ratio, s.max_record_bytes)
    };
    check(
        "source",
        "type = \"stdin\"\nformat = \"text\"\non_error = \"null\"\nmax_error_ratio = 0.5\nmax_record_bytes = \"1MiB\"",
        limits,
        "Null Some(0.5) 1048576",
    );
    check(
        "columns",
        "watermark = { column = \"TS\", delay = \"1m 30s\", late = \"row\", across = \"min\", idle_timeout = \"5s\" }",
        |job| format!("{:?}", job.sources[0].watermark),
        "Some(WatermarkSpec { column: \"ts\", delay: 90s, late: Row, across: Min, idle_timeout: 5s, max_future_skew: None })",
    );
}

#[test]
fn the_generator_says_its_own_columns() {
    let columns = |job: &JobSpec| {
        let show =
            |c: &Column| format!("{} {} {:?}", c.name, ddl::type_name(&c.data_type), c.format);
        job.sources[0].schema.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    let sensors = "ts TIMESTAMP EpochMillis, device STRING Iso, region STRING Iso, \
                   temperature DOUBLE Iso, humidity DOUBLE Iso, status INT Iso";
    check("source", "type = \"generate\"\nsuite = \"sensors\"", columns, sensors);
    check("source", "type = \"generate\"\nsuite = \"words\"", columns, "value STRING Iso");
    check(
        "source",
        "type = \"generate\"\nsuite = \"sensors\"\nformat = \"csv\"\ncolumns.ts = { format = \"epoch_ms\" }\n\
         schema = \"ts TIMESTAMP, device STRING, region STRING, temperature DOUBLE, humidity DOUBLE, status INT\"",
        columns,
        sensors,
    );
}

#[test]
fn the_dialect_and_the_columns_are_read_as_they_are_written() {
    check(
        "columns",
        "csv = { header = true, delimiter = \"\\t\", quote = \"'\", escape = \"backslash\", skip_lines = 2, \
         comment = \"#\", null = [\"NA\", \"-\"], trim = true, fewer = \"null\", more = \"ignore\" }",
        |job| format!("{:?}", job.sources[0].format),
        "Csv(CsvDialect { delimiter: 9, quote: Some(39), escape: Backslash, header: Match, skip_lines: 2, \
         comment: Some(35), null: [\"NA\", \"-\"], trim: true, fewer: Accept, more: Accept })",
    );
    let third = |job: &JobSpec| {
        let c = &job.sources[0].schema[1];
        format!("{:?} {:?} {}", c.null, c.trim, c.empty_is_null)
    };
    check("columns", "csv.empty = \"text\"", third, "None None false");
    check(
        "columns",
        "csv.empty = \"text\"\ncolumns.v = { empty = \"null\" }",
        third,
        "None None true",
    );
    check(
        "columns",
        "columns.V = { null = \"?\", trim = false }",
        third,
        "Some([\"?\"]) Some(false) true",
    );
    let first = |job: &JobSpec| {
        let c = &job.sources[0].schema[0];
        format!("{:?} {:?} {}", c.format, c.timezone, c.truncate)
    };
    check("columns", "columns.ts = { format = \"iso\" }", first, "Iso None false");
    check("columns", "columns.ts = { format = \"epoch_s\" }", first, "EpochSeconds None false");
    check("columns", "columns.ts = { format = \"epoch_us\" }", first, "EpochMicros None false");
    check(
        "columns",
        "columns.ts = { format = \"epoch_ns\", truncate = true }",
        first,
        "EpochNanos None true",
    );
    check(
        "columns",
        "columns.ts = { format = \"dd/MMM/yyyy:HH:mm:ss Z\", timezone = \"europe/berlin\" }",
        first,
        "Pattern(\"dd/MMM/yyyy:HH:mm:ss Z\") Some(\"Europe/Berlin\") false",
    );
}

#[test]
fn query_sinks_and_checkpoint_are_read_as_they_are_written() {
    let trigger = |job: &JobSpec| format!("{:?}", job.query.trigger);
    for (written, expected) in [
        ("default", "Default"),
        ("5 seconds", "Interval(5s)"),
        ("available-now", "AvailableNow"),
        ("availableNow", "AvailableNow"),
        ("once", "Once"),
    ] {
        let case = format!("sql = \"SELECT v FROM s\"\ntrigger = \"{written}\"");
        check("query", &case, trigger, expected);
    }
    let sinks = |job: &JobSpec| {
        let show = |s: &SinkSpec| format!("{} {:?} {:?}", s.name, s.of, s.kind);
        job.sinks.iter().map(show).collect::<Vec<_>>().join("; ")
    };
    check(
        "rest",
        "[sink.b]\ntype = \"console\"\nnum_rows = 5\ntruncate = false\n[sink.a]\ntype = \"console\"\nstyle = \"json\"",
        sinks,
        "b Rows Console { style: Spark, num_rows: 5, truncate: None }; \
         a Rows Console { style: Json, num_rows: 20, truncate: Some(20) }",
    );
    check(
        "rest",
        "[sink.out]\ntype = \"file\"\npath = \"/out\"\ncsv = { header = false }\ndelivery = \"exactly_once\"\n\
         [checkpoint]\npath = \"/state\"",
        sinks,
        "out Rows File { path: \"/out\", format: Csv { header: false } }",
    );
    check(
        "rest",
        "[checkpoint]\npath = \"/state\"\ninterval = \"2s\"\nmax_epoch_bytes = \"64MiB\"\nmax_rows_per_epoch = 1000\ncompression = \"zstd\"",
        |job| format!("{:?} {:?}", job.checkpoint, job.epoch),
        "Some(CheckpointSpec { place: Directory(\"/state\"), compression: Zstd }) \
         EpochLimits { interval: 2s, max_bytes: 67108864, max_rows: Some(1000) }",
    );
    check(
        "rest",
        "[gpu]\nshadow_one_in = 0\nmemory = \"64MiB\"",
        |job| format!("{:?}", job.gpu),
        "GpuSpec { shadow_one_in: 0, memory: Some(67108864) }",
    );
}

#[test]
fn a_checkpoint_may_lie_in_a_bucket() {
    check(
        "rest",
        "[checkpoint]\npath = \"s3://bucket/a/b/\"",
        |job| format!("{:?}", job.checkpoint.as_ref().map(|c| &c.place)),
        "Some(Bucket(\"s3://bucket/a/b\"))",
    );
}

#[test]
fn rows_that_no_sink_takes_go_to_the_console() {
    let job = good(&around(
        "rest",
        "[sink.bad]\ntype = \"console\"\nof = \"dead_letters\"\n--set source.s.on_error=dead_letter",
    ));
    let of: Vec<_> = job.sinks.iter().map(|sink| sink.of).collect();
    assert_eq!(of, [SinkOf::Rows, SinkOf::DeadLetters]);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let job = good(&around(
        "rest",
        "--set query.mode=update\n--set query.mode=complete\n--set name=7\n--set cores=0-1\n\
         --set source.s.schema='v BIGINT'\n--set checkpoint.interval=5s\n--set query.sql=SELECT 1",
    ));
    assert_eq!((job.name.as_str(), job.query.mode), ("7", OutputMode::Complete));
    assert_eq!((job.query.sql.as_str(), job.cores), ("SELECT 1", Some(vec![0, 1])));
    assert_eq!(job.sources[0].schema.len(), 1);
    assert_eq!(job.epoch.interval, std::time::Duration::from_secs(5));
}

/// The text at a place of the SQL, from there to the line's end.
#[test]
fn a_place_in_the_sql_is_a_place_in_the_file() {
    for (sql, line, column, expected) in [
        ("\"SELECT v FROM s\"", 1, 8, "v FROM s\""),
        ("\"\"\"\nSELECT v\n  FROM s\"\"\"", 2, 3, "FROM s\"\"\""),
        ("'''\nSELECT 'ü', v\nFROM s'''", 1, 13, "v"),
        ("\"SELECT \\\"v\\\", w\"", 1, 13, "w\""),
        ("\"\"\"SELECT \\\n     v, w\"\"\"", 1, 11, "w\"\"\""),
        ("\"\"\"\r\nSELECT v\r\nFROM s\"\"\"", 2, 6, "s\"\"\""),
        ("\"SELECT v FROM ${NONE:-s} WHERE w\"", 1, 15, "${NONE:-s} WHERE w\""),
        ("\"SELECT v FROM ${NONE:-s} WHERE w\"", 1, 17, "WHERE w\""),
        ("\"${SQL}\"", 2, 6, "${SQL}\""),
        ("\"SELECT v\"", 9, 9, "\""),
    ] {
        let toml = around("query", &format!("sql = {sql}\n"));
        let text = JobText::new("j", &toml, &[]);
        let (job, _) = parse(&text, &env).expect("a good job");
        let place = job.query.place(line, column);
        let rest = toml[place..].lines().next().unwrap_or("");
        assert_eq!(rest, expected, "{sql}");
    }
}

fn refused(path: &Path) -> (u8, String) {
    let error = read(path, &[], &|_| None).expect_err("it is refused");
    (error.exit_code(), error.to_string())
}

#[test]
fn a_file_that_is_no_job_is_refused_before_it_is_read_f55() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("job.toml");
    let name = path.display();
    let file = std::fs::File::create(&path).expect("it can be written");
    file.set_len(100 << 20).expect("a sparse file");
    let long =
        "100 MiB long, a job file has at most 1 MiB\n   = is this the data instead of the job?";
    assert_eq!(refused(&path), (78, format!("{name}: {long}")));

    std::fs::write(&path, b"name = \"a\"\ncity = \"M\xfcnchen\"\n").expect("written");
    let latin = "a job file is UTF-8 text, found the byte 0xFC\n 2 | city = \"M\u{fffd}nchen\"\n   |          ^";
    assert_eq!(refused(&path), (78, format!("{name}:2:10: {latin}\n   = save the file as UTF-8")));

    let (code, shown) = refused(&dir.path().join("jib.toml"));
    assert_eq!(code, 69);
    assert!(shown.ends_with(&format!("did you mean {name}?")), "{shown}");
    assert_eq!(refused(dir.path()).0, 69);
}

/// What takes the square of a file's length would take minutes here.
#[test]
fn a_hostile_job_of_the_greatest_size_is_refused_at_once_f55() {
    let fill = |line: &dyn Fn(usize) -> String| -> String {
        (0..)
            .map(line)
            .scan(0, |length, line| {
                *length += line.len();
                (*length < 1 << 20).then_some(line)
            })
            .collect()
    };
    let columns = fill(&|i| format!("c{i} INT, "));
    for (toml, expected) in [
        (fill(&|_| "a\n".into()), "and one more finding"),
        (fill(&|_| "a = 1\n".into()), "duplicate key"),
        (fill(&|i| format!("k{i} = 1\n")), "unknown key `k0`"),
        (fill(&|i| format!("[source.s{i}]\n")), "needs `type`"),
        (fill(&|i| format!("[sink.s{i}]\n")), "needs `type`"),
        (format!("name = \"{}\"", fill(&|i| format!("${{V{i}}}"))), "V0 is not set"),
        (format!("name = \"{}\"", fill(&|_| "\\t".into())), "is empty"),
        (
            around("schema", &format!("schema = \"{columns}z INT\"\ncolumns.q = {{}}")),
            "no column `q`",
        ),
        (around("columns", &fill(&|i| format!("columns.c{i} = {{}}\n"))), "no column `c0`"),
        (format!("a = {}", "[".repeat(1 << 19)), "no valid TOML"),
    ] {
        let text = JobText::new("j", &toml, &[]);
        let findings = parse(&text, &|_| None).expect_err("it is no job");
        let shown = text.render(&findings);
        assert!(shown.contains(expected), "{expected}: {shown}");
        assert!(shown.len() < 100_000, "{} bytes are shown", shown.len());
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let toml = around("query", "sql = \"\"\"\nSELECT v\nFROM s\"\"\"\nmode = \"apend\"");
    let plain = shown(&toml);
    let text = JobText::new("j", &format!("\u{feff}{}", toml.replace('\n', "\r\n")), &[]);
    let findings = parse(&text, &env).expect_err("a wrong mode");
    assert_eq!(text.render(&findings), plain);
}
