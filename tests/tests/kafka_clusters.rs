//! Clusters that are set up, or change, otherwise than the usual one of the tests: older, on IPv6, forgetful, with
//! many partitions, with large or old messages, away.

use std::time::{Duration, Instant};

use pelton_tests::kafka::lines::{lines, rows};
use pelton_tests::kafka::raw::Raw;
use pelton_tests::kafka::through::{Through, Verdict};
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::output;
use pelton_tests::program::{Job, Running};

const LIBRDKAFKA: &str = "client = \"rdkafka\"";
const UNTIL_NOW: &str = "end = \"latest\"";

fn holds(verdict: Verdict) {
    verdict.unwrap_or_else(|why| panic!("{why}"));
}

/// Both clients, each with a name for its job.
fn clients(name: &str) -> [(String, &'static str); 2] {
    [(name.to_owned(), ""), (format!("{name}-rd"), LIBRDKAFKA)]
}

#[test]
fn f13_rows_go_to_partitions_that_are_added_to_the_output_while_the_job_runs() {
    const TEST: &str = "f13_rows_go_to_partitions_that_are_added_to_the_output";
    let Some(broker) = kafka::broker(TEST) else { return };
    for (name, client) in clients("grown") {
        let sink = format!("discover_interval = \"1s\"\n{client}");
        holds(Through::new(broker, &name, &sink).output_grows(5));
    }
}

/// Nothing of a recovery rests on what the coordinator remembers: the marker is a record.
#[test]
fn f14_a_transactional_id_that_the_coordinator_forgot_costs_and_doubles_nothing() {
    const TEST: &str = "f14_a_transactional_id_that_the_coordinator_forgot";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start(
        "transactional.id.expiration.ms=1000\n\
         transaction.remove.expired.transaction.cleanup.interval.ms=200\n",
    );
    for (name, client) in clients("forgotten") {
        holds(Through::new(&broker, &name, client).forgotten());
    }
}

/// It has no transactions v2: librdkafka sends, and what both clients ask they ask in older versions.
#[test]
fn an_older_cluster_is_read_and_written_once() {
    const TEST: &str = "an_older_cluster_is_read_and_written_once";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = match Broker::start_version("3.3.2") {
        Ok(broker) => broker,
        Err(why) => return pelton_tests::skip(TEST, &why),
    };
    holds(Through::new(&broker, "older", "").killed(2, 5));
    broker.create_topic("older", 2);
    broker.send("older", &[], &[Sent::to(0, "zero"), Sent::to(1, "one")]);
    broker.send_transaction("older", &[Sent::to(0, "aborted")], false);
    let job = lines(&broker, "older", &format!("group = \"older\"\n{UNTIL_NOW}"), "");
    job.run().expect_code(0);
    assert_eq!(rows(&job), ["one", "zero"]);
    broker.send("older", &[], &[Sent::to(1, "two")]);
    let source = format!("group = \"older\"\nstart = \"committed\"\n{UNTIL_NOW}");
    let job = lines(&broker, "older", &source, "");
    job.run().expect_code(0);
    assert_eq!(rows(&job), ["two"]);
}

#[test]
fn a_cluster_that_tells_ipv6_addresses_is_read_and_written() {
    const TEST: &str = "a_cluster_that_tells_ipv6_addresses_is_read_and_written";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let Some(broker) = Broker::start_on_ipv6() else {
        return pelton_tests::skip(TEST, "there are no IPv6 addresses here");
    };
    let mut job = Through::new(&broker, "six", "");
    job.feed(300);
    holds(job.settle(job.start()));
}

/// A row each to very many partitions is one epoch, and more than a broker takes in one request.
#[test]
fn f14_an_epoch_over_many_partitions_is_sent_in_requests_that_brokers_take() {
    const TEST: &str = "f14_an_epoch_over_many_partitions_is_sent_in_requests_that_brokers_take";
    const PARTITIONS: i32 = 120;
    const ROWS: usize = 150_000;
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start("socket.request.max.bytes=9000000\n");
    broker.create_topic("broad", PARTITIONS);
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "broad"
[source.sensors]
type = "generate"
suite = "sensors"
rows = {ROWS}
[query]
sql = "SELECT concat(CAST(ts AS STRING), device) AS id, repeat('x', 60) AS x FROM sensors"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "broad"
key = "id"
[checkpoint]
path = "state"
interval = "60s"
"#
    ));
    let ended = job.run().expect_code(0);
    assert_eq!(ended.progress().len(), 1, "one epoch\n{}", ended.stderr);
    // Partitions are told of the end a moment after its answer.
    let begun = Instant::now();
    while broker.ends("broad", "read_committed") != broker.ends("broad", "read_uncommitted") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the transaction does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ends = broker.ends("broad", "read_committed");
    assert!(ends.len() == PARTITIONS as usize && ends.iter().all(|&end| end > 1), "{ends:?}");
    // And a core reads very many partitions.
    let job = lines(&broker, "broad", UNTIL_NOW, "");
    let ended = job.run().expect_code(0);
    assert_eq!(ended.fates().applied as usize, ROWS);
}

/// Rows behind an open transaction wait for its end; a bounded read ends before it.
#[test]
fn f11_an_open_transaction_at_the_end_is_waited_for_by_both_clients() {
    const TEST: &str = "f11_an_open_transaction_at_the_end_is_waited_for_by_both_clients";
    let Some(broker) = kafka::broker(TEST) else { return };
    for (topic, client) in clients("opened") {
        broker.create_topic(&topic, 1);
        broker.send(&topic, &[], &[Sent::to(0, "before")]);
        let mut raw = Raw::new(broker, &topic);
        raw.send(&topic, 0, "within");
        broker.send(&topic, &[("acks", "all")], &[Sent::to(0, "behind")]);
        let bounded = lines(broker, &topic, &format!("{UNTIL_NOW}\n{client}"), "");
        bounded.run().expect_code(0);
        assert_eq!(rows(&bounded), ["before"], "{topic}");
        let job = lines(broker, &topic, client, "");
        let mut running = job.start();
        running.wait_until("the row before it", |_| !rows(&job).is_empty());
        raw.end(true);
        running.wait_until("the rows behind it", |_| rows(&job).len() == 3);
        running.interrupt();
        running.end().expect_code(0);
        assert_eq!(rows(&job), ["before", "behind", "within"], "{topic}");
    }
}

/// Readers wait for it, whoever writes need not: it is no transaction of the job.
#[test]
fn f20_anothers_open_transaction_keeps_no_sink_from_going_on() {
    const TEST: &str = "f20_anothers_open_transaction_keeps_no_sink_from_going_on";
    const ANOTHERS: &str = "1,another's";
    let Some(broker) = kafka::broker(TEST) else { return };
    for (name, client) in clients("beside") {
        let mut job = Through::new(broker, &name, client);
        let mut raw = Raw::new(broker, &format!("another-{name}"));
        raw.send(&format!("{name}-out"), 0, ANOTHERS);
        job.feed(300);
        let mut running = job.start();
        running.wait_until("an epoch is committed", |running| epochs(running) > 0);
        raw.end(true);
        job.expect_also([ANOTHERS.to_owned()]);
        holds(job.settle(running));
    }
}

/// The log cleaner leaves holes, batches of few records, and empty ones.
#[test]
fn f11_a_compacted_topic_is_read_over_its_holes() {
    const TEST: &str = "f11_a_compacted_topic_is_read_over_its_holes";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start("log.cleaner.backoff.ms=100\nlog.cleaner.min.compaction.lag.ms=0\n");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    broker.create_topic_with("compacted", 1, &settings);
    let values: Vec<String> = (0..3_000).map(|n| format!("value {n}")).collect();
    let keys: Vec<String> = (0..3_000).map(|n| format!("{}", n % 97)).collect();
    let sent = values.iter().zip(&keys).map(|(value, key)| {
        let value = (!value.ends_with("99")).then_some(value.as_str());
        Sent { partition: 0, key: Some(key), value }
    });
    let sent: Vec<_> = sent.collect();
    for batch in sent.chunks(250) {
        broker.send("compacted", &[], batch);
    }
    let count = || broker.read("compacted", "read_committed").len();
    let begun = Instant::now();
    let mut last = 0;
    // The newest segment is left as it is: another row makes it an old one.
    while count() > 200 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} records are left", count());
        let value = format!("last {last}");
        broker.send(
            "compacted",
            &[],
            &[Sent { partition: 0, key: Some("last"), value: Some(&value) }],
        );
        last += 1;
        std::thread::sleep(Duration::from_millis(600));
    }
    for client in ["", LIBRDKAFKA] {
        let job = lines(&broker, "compacted", &format!("{UNTIL_NOW}\n{client}"), "");
        job.run().expect_code(0);
        let mut expected = broker.read("compacted", "read_committed");
        expected.retain(|value| !value.is_empty());
        expected.sort();
        assert!(expected.len() > 90, "{expected:?}");
        assert_eq!(rows(&job), expected, "{client}");
    }
}

/// The time of the broker is what counts there, in windows and for the watermark.
#[test]
fn the_time_of_appending_is_an_event_time_where_the_topic_is_set_so() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    const TEST: &str = "the_time_of_appending_is_an_event_time_where_the_topic_is_set_so";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic_with("appended", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let producer: BaseProducer = broker.config().create().expect("a producer can be made");
    for value in ["one", "two"] {
        let record: BaseRecord<'_, str, str> = BaseRecord::to("appended").payload(value);
        producer.send(record.timestamp(86_400_000)).expect("the queue is empty");
    }
    producer.flush(Duration::from_secs(30)).expect("the messages arrive");
    for client in ["native", "rdkafka"] {
        let job = Job::new(&format!(
            r#"name = "appended-{client}"
[source.lines]
type = "kafka"
bootstrap_servers = "{}"
topics = "appended"
format = "text"
client = "{client}"
end = "latest"
include = ["timestamp"]
watermark = {{ column = "timestamp", delay = "1s" }}
[query]
sql = "SELECT window.start > TIMESTAMP '2020-01-01' AS is_now, count(*) AS n FROM lines GROUP BY window(`timestamp`, '365 days')"
[sink.out]
type = "file"
path = "out"
format = "csv"
[checkpoint]
path = "state"
"#,
            broker.servers()
        ));
        job.run().expect_code(0);
        assert_eq!(output::rows(&job.path("out"), "is_now,n"), ["true,2"], "{client}");
    }
}

/// A broker gives at least one batch, however little it was asked for.
#[test]
fn a_message_larger_than_a_request_asks_for_is_read_and_one_row_as_large_is_written() {
    const TEST: &str = "a_message_larger_than_a_request_asks_for_is_read";
    let Some(broker) = kafka::broker(TEST) else { return };
    let large = [("max.message.bytes", "20000000")];
    broker.create_topic_with("huge", 1, &large);
    broker.create_topic_with("huge-out", 1, &large);
    let row = |n: usize| format!("{n}{}", "x".repeat(5_000_000));
    let values: Vec<String> = (0..3).map(row).collect();
    let sent: Vec<_> = values.iter().map(|value| Sent::to(0, value)).collect();
    broker.send("huge", &[("message.max.bytes", "20000000")], &sent);
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "huge"
memory_limit = "256MiB"
[source.lines]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "huge"
format = "text"
end = "latest"
[query]
sql = "SELECT value FROM lines"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "huge-out"
[checkpoint]
path = "state"
"#
    ));
    job.run().expect_code(0);
    assert!(broker.read("huge-out", "read_committed") == values);
}

#[test]
fn an_empty_topic_is_read_to_its_end_at_once() {
    let Some(broker) = kafka::broker("an_empty_topic_is_read_to_its_end_at_once") else { return };
    broker.create_topic("empty", 3);
    for client in ["", LIBRDKAFKA] {
        let job = lines(broker, "empty", &format!("{UNTIL_NOW}\n{client}"), "");
        job.run().expect_code(0);
        assert!(rows(&job).is_empty());
    }
}

/// Nobody is let in for a while: sources and sinks of both clients count their tries by tens, not by thousands.
#[test]
fn f26_whoever_finds_no_broker_waits_before_the_next_try() {
    const TEST: &str = "f26_whoever_finds_no_broker_waits_before_the_next_try";
    const AWAY: Duration = Duration::from_secs(3);
    /// Of all four jobs in a second.
    const TRIES_MAX: f64 = 200.0;
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    let mut jobs: Vec<(Job, Running)> = Vec::new();
    for (name, client) in clients("away") {
        broker.create_topic(&name, 2);
        broker.create_topic(&format!("{name}-out"), 2);
        broker.send(&name, &[], &[Sent::to(0, "one")]);
        for job in [lines(&broker, &name, client, ""), ticking(&broker, &name, client)] {
            let running = job.start();
            jobs.push((job, running));
        }
    }
    for (_, running) in &mut jobs {
        running.wait_until("an epoch", |running| epochs(running) > 0);
    }
    let (before, begun) = (proxy.attempts(), Instant::now());
    proxy.cut_off(true);
    std::thread::sleep(AWAY);
    let tries = (proxy.attempts() - before) as f64 / begun.elapsed().as_secs_f64();
    let before: Vec<usize> = jobs.iter().map(|(_, running)| epochs(running)).collect();
    proxy.cut_off(false);
    eprintln!("{tries:.0} tries a second");
    assert!(tries > 1.0 && tries < TRIES_MAX, "{tries} tries a second");
    for (name, _) in clients("away") {
        broker.send(&name, &[], &[Sent::to(1, "two")]);
    }
    for ((job, running), before) in jobs.iter_mut().zip(before) {
        assert!(running.is_running(), "{}", running.stderr());
        running.wait_until("more epochs", |running| epochs(running) > before);
        if job.path("out").exists() {
            running.wait_until("its rows", |_| rows(job).len() == 2);
            assert_eq!(rows(job), ["one", "two"]);
        }
        running.interrupt();
    }
}

fn epochs(running: &Running) -> usize {
    running.stderr().matches("\"batchId\":").count()
}

/// A job that has something to send whatever the cluster does.
fn ticking(broker: &Broker, name: &str, client: &str) -> Job {
    Job::new(&format!(
        r#"name = "ticking-{name}"
[source.sensors]
type = "generate"
suite = "sensors"
rows_per_second = 1000
[query]
sql = "SELECT device FROM sensors"
[sink.out]
type = "kafka"
bootstrap_servers = "{}"
topic = "{name}-out"
{client}
[checkpoint]
path = "state"
interval = "100ms"
"#,
        broker.servers()
    ))
}
