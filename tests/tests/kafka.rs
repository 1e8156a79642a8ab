//! The direct Kafka source on a real broker: every committed message once, whatever happens to brokers,
//! topics and the job.

use std::time::Duration;

use pelton_tests::kafka::lines::{lines, rows};
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::output;
use pelton_tests::program::{Job, Running};

fn wait_for_rows(running: &mut Running, job: &Job, expected: usize) {
    running.wait_until(&format!("{expected} rows"), |_| rows(job).len() >= expected);
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:05}")).collect()
}

fn send(broker: &Broker, topic: &str, settings: &[(&str, &str)], values: &[String]) {
    let spread = values.iter().enumerate();
    let sent: Vec<_> = spread.map(|(at, value)| Sent::to(at as i32 % 2, value)).collect();
    broker.send(topic, settings, &sent);
}

const UNTIL_NOW: &str = "end = \"latest\"";

#[test]
fn all_codecs_and_many_messages_give_every_row_once() {
    let Some(broker) = kafka::broker("all_codecs_and_many_messages_give_every_row_once") else {
        return;
    };
    broker.create_topic("codecs", 2);
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let values = numbered(codec, 3_000);
        let settings = [("compression.type", codec), ("linger.ms", "50")];
        send(broker, "codecs", &settings, &values);
        expected.extend(values);
    }
    expected.sort();
    let job = lines(broker, "codecs", UNTIL_NOW, "");
    job.run().expect_code(0);
    assert_eq!(rows(&job), expected);
}

#[test]
fn f05_f11_aborted_transactions_tombstones_and_empty_messages() {
    let Some(broker) = kafka::broker("f05_f11_aborted_transactions_tombstones_and_empty_messages")
    else {
        return;
    };
    broker.create_topic("transactions", 1);
    let text = |value| Sent { partition: 0, key: Some("k"), value };
    broker.send("transactions", &[], &[text(Some("plain")), text(None), text(Some("two\nrows"))]);
    broker.send_transaction("transactions", &[text(Some("committed"))], true);
    broker.send_transaction(
        "transactions",
        &[text(Some("aborted")), text(Some("aborted, too"))],
        false,
    );
    broker.send_transaction("transactions", &[text(Some("committed again\n"))], true);
    broker.send("transactions", &[], &[text(Some("")), text(Some("last"))]);
    let job = lines(broker, "transactions", UNTIL_NOW, "");
    job.run().expect_code(0);
    let expected = ["\"\"", "committed", "committed again", "last", "plain", "rows", "two"];
    assert_eq!(rows(&job), expected);
}

#[test]
fn a_restart_goes_on_at_the_checkpoint_and_kafkas_own_tool_sees_the_progress() {
    const TEST: &str = "a_restart_goes_on_at_the_checkpoint_and_kafkas_own_tool_sees_the_progress";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("restart", 2);
    let first = numbered("first", 500);
    send(broker, "restart", &[], &first);
    let job = lines(broker, "restart", "group = \"shown\"", "");
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 500);
    running.interrupt();
    running.end().expect_code(0);
    let described = broker.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &["--describe", "--group", "shown"],
        "",
    );
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
    for partition in ["0", "1"] {
        let expected = ["shown", "restart", partition, "250", "250", "0"];
        let found = described.lines().any(|line| line.split_whitespace().take(6).eq(expected));
        assert!(found, "partition {partition}\n{described}");
    }
    let second = numbered("second", 300);
    send(broker, "restart", &[], &second);
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 800);
    running.kill();
    let mut running = job.start();
    running.wait_until("it reads", |running| running.stderr().contains("going on after epoch"));
    running.interrupt();
    running.end().expect_code(0);
    let mut expected = [first, second].concat();
    expected.sort();
    assert_eq!(rows(&job), expected);
}

#[test]
fn reading_starts_in_all_five_ways_and_ends_where_it_is_told() {
    let Some(broker) = kafka::broker("reading_starts_in_all_five_ways_and_ends_where_it_is_told")
    else {
        return;
    };
    broker.create_topic("places", 1);
    let old = numbered("old", 10);
    let sent: Vec<_> = old.iter().map(|value| Sent::to(0, value)).collect();
    broker.send("places", &[], &sent);
    std::thread::sleep(Duration::from_millis(20));
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let between = between.expect("it is after 1970").as_millis();
    std::thread::sleep(Duration::from_millis(20));
    let new = numbered("new", 10);
    let sent: Vec<_> = new.iter().map(|value| Sent::to(0, value)).collect();
    broker.send("places", &[], &sent);
    let check = |source: &str, expected: &[String]| {
        let mut expected = expected.to_vec();
        expected.sort();
        let job = lines(broker, "places", source, "");
        job.run().expect_code(0);
        assert_eq!(rows(&job), expected, "{source}");
    };
    let all = [old.clone(), new.clone()].concat();
    check(UNTIL_NOW, &all);
    check("start = \"latest\"\nend = \"latest\"", &[]);
    check(&format!("start = {{ timestamp = {between} }}\nend = \"latest\""), &new);
    check(&format!("end = {{ timestamp = {between} }}"), &old);
    check("start = { offsets = { \"0\" = 8 } }\nend = { offsets = { \"0\" = 12 } }", &all[8..12]);
    // The jobs before had the group of the job's name; theirs has 5 as its offset.
    let group = "group = \"five\"\n";
    check(&format!("{group}end = {{ offsets = {{ \"0\" = 5 }} }}"), &all[..5]);
    check(&format!("{group}start = \"committed\"\nend = \"latest\""), &all[5..]);
}

#[test]
fn f13_partitions_that_are_added_are_read_from_their_beginning() {
    let Some(broker) = kafka::broker("f13_partitions_that_are_added_are_read_from_their_beginning")
    else {
        return;
    };
    broker.create_topic("growing", 1);
    broker.send("growing", &[], &[Sent::to(0, "zero")]);
    // Where reading starts is said of the partitions that are there at the start.
    let job = lines(broker, "growing", "start = \"latest\"\ndiscover_interval = \"2s\"", "");
    let mut running = job.start();
    let said = |running: &Running| running.stderr().matches("\"batchId\":").count();
    while said(&running) == 0 {
        broker.send("growing", &[], &[Sent::to(0, "first")]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let firsts = rows(&job).len();
    // The rows are there before the job looks again.
    broker.add_partitions("growing", 3);
    broker.send("growing", &[], &[Sent::to(1, "two"), Sent::to(2, "three"), Sent::to(0, "four")]);
    running.wait_until("the new rows", |_| {
        rows(&job).iter().filter(|row| *row != "first").count() >= 3
    });
    running.interrupt();
    running.end().expect_code(0);
    // Added while nobody looked.
    broker.add_partitions("growing", 4);
    broker.send("growing", &[], &[Sent::to(3, "five"), Sent::to(2, "six")]);
    let mut running = job.start();
    running.wait_until("the new rows", |_| {
        rows(&job).iter().filter(|row| *row != "first").count() >= 5
    });
    running.interrupt();
    running.end().expect_code(0);
    let (first, others): (Vec<_>, Vec<_>) = rows(&job).into_iter().partition(|row| row == "first");
    assert!(first.len() >= firsts && firsts > 0, "{first:?}");
    assert_eq!(others, ["five", "four", "six", "three", "two"]);
}

#[test]
fn f12_what_is_gone_stops_the_job_and_nothing_is_passed_over() {
    let Some(broker) = kafka::broker("f12_what_is_gone_stops_the_job_and_nothing_is_passed_over")
    else {
        return;
    };
    broker.create_topic("gone", 1);
    broker.send("gone", &[], &[Sent::to(0, "one"), Sent::to(0, "two")]);
    let job = lines(broker, "gone", "start = { offsets = { \"0\" = 7 } }", "");
    job.run().expect_code(1).expect_said(&["cannot go on with gone/0 at offset 7"]);
    // A topic made anew under the same name is another one.
    let job = lines(broker, "gone", "", "");
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 2);
    running.interrupt();
    running.end().expect_code(0);
    broker.delete_topic("gone");
    std::thread::sleep(Duration::from_millis(500));
    broker.create_topic("gone", 1);
    broker.send("gone", &[], &[Sent::to(0, "three"), Sent::to(0, "four"), Sent::to(0, "five")]);
    job.run().expect_code(1).expect_said(&["the topic was deleted and made anew"]);
    assert_eq!(rows(&job), ["one", "two"]);
}

#[test]
fn f12_a_topic_that_is_made_anew_while_the_job_reads_it_stops_the_job() {
    const TEST: &str = "f12_a_topic_that_is_made_anew_while_the_job_reads_it_stops_the_job";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("anew", 1);
    broker.send("anew", &[], &[Sent::to(0, "one"), Sent::to(0, "two")]);
    let job = lines(broker, "anew", "", "");
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 2);
    broker.delete_topic("anew");
    broker.create_topic("anew", 1);
    broker.send("anew", &[], &[Sent::to(0, "three"), Sent::to(0, "four"), Sent::to(0, "five")]);
    running.end().expect_code(1).expect_said(&["the topic was deleted and made anew"]);
    assert_eq!(rows(&job), ["one", "two"]);
}

/// A log that lost its end has other records at the offsets that were read.
#[test]
fn f12_a_log_that_was_cut_back_stops_the_job_also_where_it_has_grown_again() {
    const TEST: &str = "f12_a_log_that_was_cut_back_stops_the_job_also_where_it_has_grown_again";
    let Some(broker) = kafka::own_broker(TEST) else { return };
    broker.create_topic("cut", 1);
    let first = numbered("first", 10);
    first.iter().for_each(|row| broker.send("cut", &[("acks", "all")], &[Sent::to(0, row)]));
    let job = lines(&broker, "cut", "", "");
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 10);
    running.interrupt();
    running.end().expect_code(0);
    broker.kill();
    broker.cut_back("cut", 0);
    broker.restart();
    let second = numbered("second", 20);
    second.iter().for_each(|row| broker.send("cut", &[("acks", "all")], &[Sent::to(0, row)]));
    let found = broker.read("cut", "read_uncommitted").len();
    assert!((21..30).contains(&found), "{found} records: some were to be cut away");
    job.run().expect_code(1).expect_said(&["cannot go on with cut/0 at offset 10", "cut back"]);
    assert_eq!(rows(&job), first);
}

#[test]
fn f15_a_broker_that_is_killed_and_comes_back_costs_no_row() {
    let Some(broker) = kafka::own_broker("f15_a_broker_that_is_killed_and_comes_back_costs_no_row")
    else {
        return;
    };
    broker.create_topic("killed", 2);
    let (first, second) = (numbered("first", 1_000), numbered("second", 1_000));
    let durable = [("acks", "all")];
    send(&broker, "killed", &durable, &first);
    let job = lines(&broker, "killed", "", "");
    let mut running = job.start();
    wait_for_rows(&mut running, &job, 1_000);
    broker.kill();
    std::thread::sleep(Duration::from_secs(1));
    assert!(running.is_running(), "a broker that is away is waited for");
    broker.restart();
    send(&broker, "killed", &durable, &second);
    wait_for_rows(&mut running, &job, 2_000);
    running.interrupt();
    running.end().expect_code(0);
    let mut expected = [first, second].concat();
    expected.sort();
    assert_eq!(rows(&job), expected);
}

/// A program of the chapter, over this broker from its first message on, by a shorter interval.
fn of_the_chapter(broker: &Broker, toml: &str, interval: &str) -> Job {
    let toml = toml.replace("${BOOTSTRAP_SERVERS:-localhost:9092}", &broker.servers());
    let toml = toml.replace("trigger = \"5s\"", &format!("trigger = \"{interval}\""));
    Job::new(&toml.replace("start = \"latest\"", "start = \"earliest\""))
}

/// By Kafka's own console producer.
fn write_at_the_console(broker: &Broker, topic: &str, lines: &str) {
    broker.tool("org.apache.kafka.tools.ConsoleProducer", &["--topic", topic], lines);
}

#[test]
fn words_of_kafkas_console_producer_are_counted_as_the_chapter_prints_them() {
    const TEST: &str = "words_of_kafkas_console_producer_are_counted_as_the_chapter_prints_them";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("packttopic", 2);
    write_at_the_console(broker, "packttopic", "hello spark\nhello kafka hello\n");
    let job = of_the_chapter(broker, include_str!("../../jobs/direct-kafka-word-count.toml"), "2s");
    let mut running = job.start();
    running.wait_until("the counts", |running| running.stdout().contains("(spark,1)\n\n"));
    let printed = running.stdout();
    running.interrupt();
    running.end().expect_code(0);
    let line = "-".repeat(43);
    let (head, rows) = printed.split_once(" ms\n").expect("a head");
    let time: u64 = head.strip_prefix(&format!("{line}\nTime: ")).expect("a time").parse().unwrap();
    assert_eq!(time % 2_000, 0, "a batch is named by its interval");
    assert_eq!(rows, format!("{line}\n(hello,3)\n(kafka,1)\n(spark,1)\n\n"));
}

#[test]
fn iris_rows_lose_two_columns_and_a_bad_row_stops_nothing() {
    let Some(broker) = kafka::broker("iris_rows_lose_two_columns_and_a_bad_row_stops_nothing")
    else {
        return;
    };
    broker.create_topic("csvtopic", 1);
    let rows = "5.1,3.5,1.4,0.2,0\n4.9,3.0,1.4\n7.0,3.2,4.7,1.4,1\n";
    write_at_the_console(broker, "csvtopic", rows);
    let job = of_the_chapter(broker, include_str!("../../jobs/direct-kafka-datavec.toml"), "1s");
    let mut running = job.start();
    running.wait_until("the rows", |running| running.stdout().contains("7.0,3.2,1\n"));
    let printed = running.stdout();
    running.interrupt();
    running.end().expect_code(0).expect_said(&["expected 5 fields, found 3"]);
    assert_eq!(
        printed,
        "---- Original Data ----\n5.1,3.5,1.4,0.2,0\n7.0,3.2,4.7,1.4,1\n\
         ---- Processed Data ----\n5.1,3.5,0\n7.0,3.2,1\n"
    );
}

#[test]
fn f58_a_partition_without_rows_holds_windows_back_until_it_is_idle() {
    let Some(broker) =
        kafka::broker("f58_a_partition_without_rows_holds_windows_back_until_it_is_idle")
    else {
        return;
    };
    broker.create_topic("idle", 2);
    let job = Job::new(&format!(
        r#"name = "idle"
[source.rows]
type = "kafka"
bootstrap_servers = "{}"
topics = "idle"
format = "csv"
schema = "ts TIMESTAMP, n INT"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "0s", idle_timeout = "2s" }}
[query]
sql = "SELECT window.start AS start, count(*) AS n FROM rows GROUP BY window(ts, '10 seconds')"
[sink.out]
type = "console"
style = "json"
[checkpoint]
path = "state"
"#,
        broker.servers()
    ));
    broker.send(
        "idle",
        &[],
        &[Sent::to(0, "1000,1"), Sent::to(0, "2000,2"), Sent::to(0, "30000,3")],
    );
    let mut running = job.start();
    running.wait_until("the rows are in", |r| r.stdout().contains("\"rows\": []"));
    assert!(!running.stdout().contains("\"n\":2"), "the other partition may still bring rows");
    running.wait_until("the window leaves", |r| r.stdout().contains("\"n\":2"));
    // Back from idleness: what belongs to the window that has left is late, the rest is not.
    broker.send(
        "idle",
        &[],
        &[Sent::to(1, "3000,4"), Sent::to(1, "31000,5"), Sent::to(1, "45000,6")],
    );
    broker.send("idle", &[], &[Sent::to(0, "50000,7")]);
    running.wait_until("the next window leaves", |r| r.stdout().matches("\"n\":2").count() == 2);
    running.interrupt();
    let ended = running.end().expect_code(0);
    let fates = ended.fates();
    assert_eq!((fates.rows_in, fates.late), (7, 1), "{fates:?}");
    let apart = |epoch: &serde_json::Value| epoch["counters"]["lateAfterIdleness"].as_u64();
    assert_eq!(ended.progress().iter().filter_map(apart).sum::<u64>(), 1);
}

/// What a message says beside its value, in every row of it, through both clients.
#[test]
fn topic_partition_offset_timestamp_and_key_are_columns_on_request() {
    const TEST: &str = "topic_partition_offset_timestamp_and_key_are_columns_on_request";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("facts", 2);
    let keyed = |partition, key, value| Sent { partition, key, value: Some(value) };
    broker.send(
        "facts",
        &[],
        &[keyed(0, Some("a"), "one\ntwo"), keyed(1, None, "three"), keyed(1, Some("b"), "four")],
    );
    broker.send("facts", &[], &[Sent { partition: 1, key: Some("b"), value: None }]);
    broker.send("facts", &[], &[keyed(1, Some("a"), "five")]);
    let job = |client: &str, query: &str| {
        Job::new(&format!(
            r#"name = "facts-{client}"
[source.lines]
type = "kafka"
bootstrap_servers = "{}"
topics = "facts"
format = "text"
client = "{client}"
end = "latest"
include = ["topic", "partition", "offset", "timestamp", "key"]
[query]
sql = "{query}"
[sink.out]
type = "file"
path = "out"
format = "csv"
[checkpoint]
path = "state"
"#,
            broker.servers()
        ))
    };
    for client in ["native", "rdkafka"] {
        let all = job(
            client,
            "SELECT topic, `partition`, `offset`, `key`, value, `timestamp` > TIMESTAMP '2020-01-01' AS late FROM lines",
        );
        all.run().expect_code(0);
        let mut found = output::rows(&all.path("out"), "topic,partition,offset,key,value,late");
        found.sort();
        let expected = [
            "facts,0,0,a,one,true",
            "facts,0,0,a,two,true",
            "facts,1,0,,three,true",
            "facts,1,1,b,four,true",
            "facts,1,3,a,five,true",
        ];
        assert_eq!(found, expected, "{client}");
        let groups = job(
            client,
            "SELECT `key`, `partition`, count(*) AS n FROM lines GROUP BY `key`, `partition`",
        );
        groups.run().expect_code(0);
        let mut found = output::rows(&groups.path("out"), "key,partition,n");
        found.sort();
        assert_eq!(found, [",1,1", "a,0,2", "a,1,1", "b,1,1"], "{client}");
    }
}

/// As in Spark an array of structs of a text and bytes, NULL where a message has none.
#[test]
fn headers_are_a_column_on_request_and_both_clients_give_the_same() {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    const TEST: &str = "headers_are_a_column_on_request_and_both_clients_give_the_same";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("headed", 1);
    let producer: BaseProducer = broker.config().create().expect("a producer can be made");
    let of = |pairs: &[(&str, Option<&[u8]>)]| {
        pairs
            .iter()
            .fold(OwnedHeaders::new(), |all, &(key, value)| all.insert(Header { key, value }))
    };
    let trace = of(&[("trace", Some(b"17")), ("empty", Some(b"")), ("null", None)]);
    let messages =
        [("one\ntwo", Some(trace)), ("three", None), ("four", Some(of(&[("trace", Some(b"18"))])))];
    for (value, headers) in messages {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to("headed").payload(value);
        record.headers = headers;
        producer.send(record).expect("the queue is empty");
    }
    producer.flush(Duration::from_secs(30)).expect("the messages arrive");
    for client in ["native", "rdkafka"] {
        let job = |query: &str| {
            let job = lines(
                broker,
                "headed",
                &format!("{UNTIL_NOW}\nclient = \"{client}\"\ninclude = [\"headers\", \"offset\"]"),
                "",
            );
            let toml = std::fs::read_to_string(job.path("job.toml")).expect("it was written");
            job.write("job.toml", toml.replace("SELECT value FROM lines", query));
            job.run().expect_code(0);
            job
        };
        let whole = job("SELECT value, size(headers) AS n, headers[0].key AS k, \
                         CAST(headers[0].value AS STRING) AS v FROM lines");
        let mut found = output::rows(&whole.path("out"), "value,n,k,v");
        found.sort();
        let expected = ["four,1,trace,18", "one,3,trace,17", "three,,,", "two,3,trace,17"];
        assert_eq!(found, expected, "{client}");
        let each = job("SELECT `offset`, h.key, CAST(h.value AS STRING) AS v FROM \
                        (SELECT `offset`, explode(headers) AS h FROM lines WHERE value <> 'two')");
        let mut found = output::rows(&each.path("out"), "offset,key,v");
        found.sort();
        assert_eq!(found, ["0,empty,\"\"", "0,null,", "0,trace,17", "2,trace,18"], "{client}");
    }
}
