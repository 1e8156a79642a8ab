//! Checkpoints in a bucket, against a real server of the S3 protocol.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::program::{self, Job, Running, binary};
use pelton_tests::{output, python, skip};

const SECRET: &str = "a-secret-that-nobody-may-see";

/// A server with an empty bucket; killed at the end.
struct Bucket {
    server: Child,
    port: u16,
}

impl Bucket {
    fn start() -> Option<Bucket> {
        let moto = python::moto_server()?;
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let server = Command::new(moto)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was found");
        let bucket = Bucket { server, port };
        let began = Instant::now();
        while !bucket.make() {
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(bucket)
    }

    /// `PUT /pelton-test`.
    fn make(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).expect("ten seconds are some");
        let request = "PUT /pelton-test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
                       Connection: close\r\n\r\n";
        let mut answer = String::new();
        let asked = socket.write_all(request.as_bytes());
        asked.and_then(|()| socket.read_to_string(&mut answer)).is_ok() && answer.contains(" 200 ")
    }

    fn command(&self, job: &Job, args: &[&str]) -> Running {
        let mut command = Command::new(binary());
        command.args(args).current_dir(job.dir());
        command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port));
        command.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "tester").env("AWS_SECRET_ACCESS_KEY", SECRET);
        program::start(command)
    }

    fn run(&self, job: &Job) -> Running {
        self.command(job, &["run", "job.toml", "--progress", "json"])
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Already ended: there is nothing to kill.
        _ = self.server.kill();
        _ = self.server.wait();
    }
}

const PLACE: &str = "s3://pelton-test/jobs/sensors";

fn toml(more: &str) -> String {
    let job = jobs::Sensors { max_epoch_bytes: "1MiB", source: more, ..Default::default() }.toml();
    job.replace("path = \"state\"", &format!("path = \"{PLACE}\""))
}

#[test]
fn checkpoints_in_a_bucket_outlive_kills_and_a_zombie_is_fenced() {
    const TEST: &str = "checkpoints_in_a_bucket_outlive_kills_and_a_zombie_is_fenced";
    let Some(bucket) = Bucket::start() else { return skip(TEST, "no moto_server") };
    let (text, _) = Sensors::new(5, 120_000).make();
    let job = Job::new(&toml("end = false"));
    let (half, _) = text.split_at(text[..text.len() / 2].rfind('\n').expect("many rows") + 1);
    job.write("data.csv", half);
    let mut first = bucket.run(&job);
    first.wait_until("its epochs", |running| running.stderr().matches("numInputRows").count() >= 2);
    // No lock reaches a bucket: the second takes over, and the first finds out.
    let mut second = bucket.run(&job);
    second.wait_until("its start", |running| running.stderr().contains("going on after epoch"));
    let mut file =
        std::fs::OpenOptions::new().append(true).open(job.path("data.csv")).expect("ours");
    file.write_all(&text.as_bytes()[half.len()..]).expect("it is ours");
    let fenced = first.end().expect_code(69);
    assert!(fenced.stderr.contains("taken over"), "{}", fenced.stderr);
    second.wait_until("an epoch", |running| running.stderr().contains("numInputRows"));
    let killed = second.kill();
    let job_ends = toml("end = true");
    job.write("job.toml", job_ends);
    let ended = bucket.run(&job).end();
    for output in [&fenced.stderr, &killed.stderr, &ended.stderr] {
        assert!(!output.contains(SECRET), "a secret was printed:\n{output}");
    }
    let ended = ended.expect_code(0);
    assert!(ended.stderr.contains("going on after"), "{}", ended.stderr);
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    assert_eq!(output::rows(&job.path("out"), SENSORS_HEADER), answer.lines());
    assert!(!job.path("state").exists() && !job.path("s3:").exists(), "nothing lies on the disk");
    let listed = bucket.command(&job, &["checkpoint", "list", PLACE]).end().expect_code(0);
    assert_eq!(listed.stdout.lines().count(), 3, "two checkpoints:\n{}", listed.stdout);
    let verified = bucket.command(&job, &["checkpoint", "verify", PLACE]).end().expect_code(0);
    assert!(verified.stdout.contains("2 whole checkpoints"), "{}", verified.stdout);
    bucket.run(&job).end().expect_code(0).expect_said(&["came to its end"]);
}

#[test]
fn a_bucket_that_is_not_there_is_told_without_secrets() {
    const TEST: &str = "a_bucket_that_is_not_there_is_told_without_secrets";
    let Some(bucket) = Bucket::start() else { return skip(TEST, "no moto_server") };
    let job = Job::new(&toml("").replace("pelton-test", "no-such-bucket"));
    job.write("data.csv", "1714521600000,dev-1,north,21.5,50.0,1\n");
    let ended = bucket.run(&job).end().expect_code(74).expect_said(&["s3://no-such-bucket"]);
    assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
}
