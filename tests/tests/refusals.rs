//! What is refused, before any side effect: each message has its place in the file and the fix, each
//! end its documented exit code (fault F55 of RELIABILITY).

use std::net::TcpListener;

use pelton_tests::program::{Ended, Job, pelton};

const JOB: &str = r#"name = "refusals"

[source.rows]
type = "file"
path = "rows.csv"
format = "csv"
schema = "id INT, name STRING, value DOUBLE"

[query]
sql = """
SELECT id, name
FROM rows
WHERE value > 0
"""
mode = "append"
trigger = "default"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
interval = "1s"
"#;

fn changed(from: &str, to: &str) -> Job {
    assert!(JOB.contains(from), "{from:?} is not in the job");
    let job = Job::new(&JOB.replacen(from, to, 1));
    job.write("rows.csv", "1,a,1.5\n");
    job
}

/// `check` and `run` refuse alike, with these texts, and leave nothing behind.
fn refused(job: &Job, texts: &[&str]) {
    for command in ["check", "run"] {
        let ended = job.start_with(&[command, "job.toml"]).end();
        ended.expect_code(78).expect_said(texts);
    }
    let mut left: Vec<_> = std::fs::read_dir(job.dir())
        .expect("the job's directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    left.sort();
    assert_eq!(left, ["job.toml", "rows.csv"], "a refused job has no side effect");
}

#[test]
fn the_job_is_right_before_it_is_broken() {
    let job = changed("refusals", "refusals");
    job.start_with(&["check", "job.toml"]).end().expect_code(0);
    job.run().expect_code(0);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    refused(
        &changed("trigger =", "triger ="),
        &["job.toml:16:1", "triger", "did you mean", "trigger"],
    );
    refused(&changed("schema =", "shema ="), &["job.toml:7:1", "shema", "did you mean", "schema"]);
    refused(&changed("[sink.out]", "[snk.out]"), &["job.toml:18:", "snk", "did you mean", "sink"]);
}

#[test]
fn a_missing_key_is_named() {
    refused(&changed("name = \"refusals\"\n", ""), &["job.toml", "name"]);
    refused(&changed("path = \"rows.csv\"\n", ""), &["job.toml:3:", "path"]);
}

#[test]
fn durations_and_sizes_need_their_unit() {
    refused(&changed("interval = \"1s\"", "interval = 5"), &["job.toml:25:", "interval", "\"5s\""]);
    refused(
        &changed("interval = \"1s\"", "interval = \"5 parsecs\""),
        &["job.toml:25:", "parsecs"],
    );
    refused(
        &changed("interval = \"1s\"", "max_epoch_bytes = 4096"),
        &["job.toml:25:", "max_epoch_bytes", "\""],
    );
}

#[test]
fn broken_toml_has_its_place() {
    refused(&changed("format = \"csv\"", "format = csv\""), &["job.toml:6:"]);
    refused(&changed("[query]", "[query"), &["job.toml:9:"]);
}

#[test]
fn an_error_in_the_sql_points_into_its_line() {
    // Line 3 of the text is line 13 of the file.
    refused(&changed("WHERE value > 0", "WHERE valeu > 0"), &["job.toml:13:7", "valeu", "value"]);
    refused(&changed("FROM rows", "FROM row"), &["job.toml:12:6", "row", "rows"]);
    refused(&changed("WHERE value > 0", "WHERE value >> > 0"), &["job.toml:13:"]);
    refused(&changed("SELECT id, name", "SELECT id name x"), &["job.toml:11:"]);
}

#[test]
fn a_schema_error_points_at_the_type() {
    refused(&changed("value DOUBLE", "value DUOBLE"), &["job.toml:7:", "DUOBLE", "DOUBLE"]);
}

#[test]
fn modes_that_cannot_work_are_refused_with_the_ones_that_do() {
    refused(&changed("\"append\"", "\"complete\""), &["job.toml:15:", "complete", "append"]);
    refused(
        &changed(
            "SELECT id, name\nFROM rows\nWHERE value > 0",
            "SELECT id, count(*) AS n\nFROM rows\nGROUP BY id",
        )
        .with_mode("update"),
        &["job.toml:15:", "file", "append"],
    );
}

#[test]
fn what_is_not_built_is_refused_and_never_ignored() {
    refused(&changed("type = \"file\"", "type = \"s3\""), &["job.toml:4:", "s3"]);
    let on_gpu =
        JOB.replacen("\n\n", "\ndevice = \"gpu\"\n\n", 1).replacen("WHERE value > 0\n", "", 1);
    let job = Job::new(&on_gpu);
    job.write("rows.csv", "1,a,1.5\n");
    refused(&job, &["job.toml:2:", "gpu", "nothing to filter"]);
    let job = Job::new(&format!("{JOB}\n[http]\nlisten = \"127.0.0.1:4400\"\n"));
    job.write("rows.csv", "");
    refused(&job, &["job.toml:28:", "listen", "off"]);
}

#[test]
fn append_of_a_count_without_watermark_is_refused_on_an_endless_input() {
    let job = Job::new(
        r#"name = "words"

[source.lines]
type = "socket"
address = "127.0.0.1:9999"
format = "text"

[query]
sql = "SELECT value, count(*) AS count FROM lines GROUP BY value"
mode = "append"
"#,
    );
    job.write("rows.csv", "");
    refused(&job, &["job.toml:9:", "append", "watermark", "update", "complete"]);
}

#[test]
fn a_socket_with_a_checkpoint_in_a_bucket_is_refused() {
    let job = Job::new(
        r#"name = "words"

[source.lines]
type = "socket"
address = "127.0.0.1:9999"
format = "text"

[query]
sql = "SELECT value FROM lines"

[checkpoint]
path = "s3://bucket/words"
"#,
    );
    job.write("rows.csv", "");
    refused(&job, &["job.toml:12:", "write-ahead log", "directory on this machine"]);
}

/// F55
#[test]
fn a_path_outside_the_roots_or_a_secret_in_the_environment_is_clear() {
    refused(
        &changed("\"rows.csv\"", "\"${PELTON_NO_SUCH_VARIABLE}\""),
        &["job.toml:5:", "PELTON_NO_SUCH_VARIABLE"],
    );
}

/// F55: a job file of 100 MB is not read to its end.
#[test]
fn a_huge_job_file_is_refused_at_once() {
    let job = Job::new(JOB);
    job.write("rows.csv", "");
    let mut huge = String::from(JOB);
    huge.push_str(&"# padding\n".repeat(10_000_000));
    job.write("job.toml", &huge);
    refused(&job, &["job.toml"]);
}

#[test]
fn usage_errors_end_with_2() {
    for args in [&["run"][..], &["rnu", "job.toml"], &["run", "--no-such-flag", "job.toml"]] {
        let ended: Ended = pelton(args).expect_code(2);
        assert_ne!(ended.stderr, "");
    }
}

#[test]
fn what_is_not_there_is_69() {
    let job = changed("refusals", "refusals");
    std::fs::remove_file(job.path("rows.csv")).expect("just written");
    job.run().expect_code(69).expect_said(&["rows.csv"]);

    let gone = pelton(&["run", "/nowhere/job.toml"]);
    gone.expect_code(69).expect_said(&["/nowhere/job.toml"]);
}

#[test]
fn a_port_that_nobody_listens_on_is_69() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address").port()
    };
    let job = Job::new(&format!(
        r#"name = "words"

[source.lines]
type = "socket"
address = "127.0.0.1:{port}"
format = "text"

[query]
sql = "SELECT value FROM lines"
"#
    ));
    job.run().expect_code(69).expect_said(&[&format!("127.0.0.1:{port}"), "refused"]);
}

trait WithMode {
    fn with_mode(self, mode: &str) -> Job;
}

impl WithMode for Job {
    /// The job with another output mode.
    fn with_mode(self, mode: &str) -> Job {
        let text = std::fs::read_to_string(self.path("job.toml")).expect("just written");
        self.write("job.toml", text.replace("mode = \"append\"", &format!("mode = \"{mode}\"")));
        self
    }
}
