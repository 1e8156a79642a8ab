//! Epochs as Kafka transactions on a real broker, read by other clients: each once and whole, whatever
//! happens to the job, the broker and the requests between them.

use std::time::Duration;

use pelton_tests::kafka::raw::UNVERIFIED;
use pelton_tests::kafka::through::{Through, Verdict, times};
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::program::{Job, Running};
use pelton_tests::proxy::{Fault, Moment};

const LIBRDKAFKA: &str = "client = \"rdkafka\"";

fn holds(verdict: Verdict) {
    verdict.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn rows_and_dead_letters_of_an_epoch_are_one_transaction_and_kafkas_own_reader_sees_them() {
    const TEST: &str = "rows_and_dead_letters_of_an_epoch_are_one_transaction";
    let Some(broker) = kafka::broker(TEST) else { return };
    let mut job = Through::new(broker, "plain", "key = \"n\"");
    job.feed(500);
    holds(job.settle(job.start()));
    let read = broker.tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--topic",
            "plain-out",
            "--from-beginning",
            "--timeout-ms",
            "5000",
            "--command-property",
            "isolation.level=read_committed",
            "--formatter-property",
            "print.key=true",
        ],
        "",
    );
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    let keyed = |row: &String| format!("{}\t{row}", row.split_once(',').expect("two fields").1);
    let mut expected: Vec<String> = job.committed().iter().map(keyed).collect();
    expected.sort();
    assert_eq!(read, expected);
}

#[test]
fn rows_without_a_key_come_to_all_partitions_also_beside_dead_letters() {
    const TEST: &str = "rows_without_a_key_come_to_all_partitions_also_beside_dead_letters";
    let Some(broker) = kafka::broker(TEST) else { return };
    let job = Through::new(broker, "spread", "");
    let mut running = job.start();
    for n in 0..4 {
        // A row and a dead letter in one epoch.
        broker.send("spread-in", &[], &[Sent::to(0, &format!("0,{n}\n0,broken"))]);
        running.wait_until("the row", |_| job.committed().len() > n);
    }
    running.interrupt();
    running.end().expect_code(0);
    let ends = broker.tool("org.apache.kafka.tools.GetOffsetShell", &["--topic", "spread-out"], "");
    // Topic, partition, end.
    let ends: Vec<&str> = ends.lines().filter_map(|line| line.rsplit(':').next()).collect();
    assert!(ends.len() == 2 && !ends.contains(&"0"), "{ends:?}");
}

/// The quick form of the proof: killed at random, the job loses and doubles nothing.
#[test]
fn a_job_that_is_killed_again_and_again_sends_every_row_once() {
    const TEST: &str = "a_job_that_is_killed_again_and_again_sends_every_row_once";
    let Some(broker) = kafka::broker(TEST) else { return };
    holds(Through::new(broker, "kills", "").killed(times("PELTON_KILLS", 8), 7));
}

#[test]
fn so_does_one_that_sends_through_librdkafka() {
    let Some(broker) = kafka::broker("so_does_one_that_sends_through_librdkafka") else { return };
    let mut job = Through::new(broker, "kills-rd", LIBRDKAFKA);
    holds(job.killed(times("PELTON_KILLS", 4), 11));
}

#[test]
fn f15_f26_a_broker_that_goes_away_in_between_costs_and_doubles_nothing() {
    const TEST: &str = "f15_f26_a_broker_that_goes_away_in_between_costs_and_doubles_nothing";
    let Some(broker) = kafka::own_broker(TEST) else { return };
    let kills = times("PELTON_BROKER_KILLS", 1);
    holds(Through::new(&broker, "outage", "").broker_killed(kills));
}

/// A broker that is alone and is killed behind its answer to a commit may not tell partitions of it.
#[test]
fn f15_a_transaction_whose_end_a_partition_was_not_told_gets_that_end_before_the_next() {
    const TEST: &str = "f15_a_transaction_whose_end_a_partition_was_not_told_gets_that_end";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start(UNVERIFIED);
    for (name, sink) in [("hangs", ""), ("hangs-rd", LIBRDKAFKA)] {
        let job = |end: &str| Through::new(&broker, &format!("{name}-{end}"), sink);
        holds(job("aborted").hanging(Some(false)));
        holds(job("committed").hanging(Some(true)));
    }
}

/// Nobody knows how it ended: then the job sends nothing, and says what to do. With TLS nobody but librdkafka
/// can look, which does not know whose it is: the job says what to do as well, and waits for it.
#[test]
fn f15_a_transaction_that_hangs_and_nobody_knows_its_end_stops_the_job() {
    const TEST: &str = "f15_a_transaction_that_hangs_and_nobody_knows_its_end_stops_the_job";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start_secure_with(UNVERIFIED);
    std::thread::scope(|scope| {
        for (name, sink) in [("hangs-unknown", ""), ("hangs-rd", LIBRDKAFKA)] {
            let broker = &broker;
            scope.spawn(move || holds(Through::new(broker, name, sink).hanging(None)));
        }
        scope.spawn(|| holds(Through::secured(&broker, "hangs-tls").hanging_told()));
    });
}

#[test]
fn f15_a_broker_that_is_killed_behind_its_answer_to_rows_or_to_their_end_doubles_nothing() {
    const TEST: &str = "f15_a_broker_that_is_killed_behind_its_answer_to_rows_or_to_their_end";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    let moments = [Moment::End, Moment::Rows];
    let told = Through::new(&broker, "answered", "").broker_killed_at(&proxy, &moments);
    let told = told.unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{told} of 2 times the job told partitions the end of a transaction");
}

/// Between the first rows of a transaction, or the word of its partitions, and its end: killed there the job
/// leaves nothing open to who goes on, cut off there it goes on itself. The broker ends no transaction for its
/// time-out, so whatever the job does not end stays, and keeps readers away.
#[test]
fn f16_f20_a_transaction_that_is_cut_short_behind_its_first_rows_is_ended_by_who_goes_on() {
    const TEST: &str = "f16_f20_a_transaction_that_is_cut_short_behind_its_first_rows";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind_with(kafka::ENDS_NONE);
    let job = |what: &str, moment: Moment, sink: &str| {
        let client = if sink.is_empty() { "native" } else { "rd" };
        Through::new(&broker, &format!("{what}-{moment:?}-{client}"), sink)
    };
    for moment in [Moment::Rows, Moment::End] {
        holds(job("killed", moment, "").killed_at(&proxy, moment));
    }
    holds(job("cut", Moment::Rows, "").cut_off_at(&proxy, Moment::Rows, true));
    // The coordinator has been told of their partitions by then.
    holds(job("killed", Moment::Rows, LIBRDKAFKA).killed_at(&proxy, Moment::Rows));
    // librdkafka sends them again within the transaction, and the broker knows them.
    holds(job("cut", Moment::Rows, LIBRDKAFKA).cut_off_at(&proxy, Moment::Rows, false));
}

#[test]
fn f16_f17_ends_of_transactions_that_get_lost_or_come_late_decide_nothing() {
    const TEST: &str = "f16_f17_ends_of_transactions_that_get_lost_or_come_late_decide_nothing";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    for (name, sink) in [("lost", ""), ("lost-rd", LIBRDKAFKA)] {
        holds(Through::new(&broker, name, sink).lost_ends(&proxy));
    }
}

#[test]
fn f15_a_job_killed_while_its_commit_is_on_its_way_loses_and_doubles_nothing() {
    const TEST: &str = "f15_a_job_killed_while_its_commit_is_on_its_way";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    holds(Through::new(&broker, "commit", "").killed_in_commit(&proxy));
}

/// A coordinator fences the producer of a transaction that timed out, as it would for another process.
#[test]
fn f18_a_transaction_that_times_out_in_mid_epoch_is_sent_again() {
    const TEST: &str = "f18_a_transaction_that_times_out_in_mid_epoch_is_sent_again";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    for (name, sink) in [("timeout", ""), ("timeout-rd", LIBRDKAFKA)] {
        holds(Through::new(&broker, name, sink).timed_out(&proxy));
    }
}

#[test]
fn f19_f21_a_zombie_is_fenced_and_stops() {
    let Some(broker) = kafka::broker("f19_f21_a_zombie_is_fenced_and_stops") else { return };
    holds(Through::new(broker, "zombie", "").zombie());
}

/// Its rows were refused to nobody: only the answer to the end of its transaction tells it.
#[test]
fn f19_a_zombie_that_is_fenced_at_the_end_of_its_transaction_calls_nothing_committed() {
    const TEST: &str = "f19_a_zombie_that_is_fenced_at_the_end_of_its_transaction";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    holds(Through::new(&broker, "late-zombie", "").zombie_in_commit(&proxy));
}

/// It fences everybody when it connects anew, and must know by the marker that it is the one to stop.
#[test]
fn f19_a_zombie_that_connects_anew_sees_by_the_marker_that_another_went_on() {
    const TEST: &str = "f19_a_zombie_that_connects_anew_sees_by_the_marker_that_another_went_on";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    holds(Through::new(&broker, "anew-zombie", "").zombie_anew(&proxy));
}

#[test]
fn f11_rows_of_aborted_transactions_come_to_no_output() {
    let Some(broker) = kafka::broker("f11_rows_of_aborted_transactions_come_to_no_output") else {
        return;
    };
    holds(Through::new(broker, "aborted", "").aborted_input());
}

#[test]
fn f20_a_transaction_left_open_keeps_readers_no_longer_than_its_time_out() {
    const TEST: &str = "f20_a_transaction_left_open_keeps_readers_no_longer_than_its_time_out";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    let mut job = Through::new(&broker, "open", "");
    job.feed(300);
    let mut running = job.start();
    holds(job.wait(&mut running));
    holds(job.held(&proxy, &mut running));
    running.kill();
    // Others' rows, behind the open transaction.
    const OTHERS: &str = "another's";
    for partition in 0..2 {
        broker.send("open-out", &[], &[Sent::to(partition, OTHERS)]);
    }
    let seen = |job: &Through<'_>| job.committed().iter().filter(|row| *row == OTHERS).count();
    assert!(seen(&job) < 2, "nothing was open");
    let begun = std::time::Instant::now();
    while seen(&job) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(25), "readers wait longer than the time-out");
        std::thread::sleep(Duration::from_millis(200));
    }
    // And the epoch that was lost with the node comes whole.
    proxy.reset();
    proxy.release();
    job.expect_also([OTHERS, OTHERS].map(str::to_owned));
    holds(job.settle(job.start()));
}

/// The node that coordinates a transactional id.
fn coordinator(broker: &Broker, transactional_id: &str) -> usize {
    let described = broker.tool(
        "org.apache.kafka.tools.TransactionsCommand",
        &["describe", "--transactional-id", transactional_id],
        "",
    );
    // CoordinatorId TransactionalId …, and below it their values.
    let id = described.lines().nth(1).and_then(|line| line.split_whitespace().next());
    id.and_then(|id| id.parse().ok()).expect(&described)
}

#[test]
fn f22_the_coordinator_moves_to_another_node_and_so_do_leaders() {
    if kafka::broker("f22_the_coordinator_moves_to_another_node_and_so_do_leaders").is_none() {
        return;
    }
    let brokers = Broker::start_three();
    // Nobody listens at the first.
    let servers = brokers.iter().map(|(broker, _)| broker.servers());
    let servers: Vec<String> = std::iter::once("127.0.0.1:1".to_owned()).chain(servers).collect();
    let mut job = Through::over(&brokers[0].0, &servers.join(","), "moves", "");
    job.feed(300);
    let mut running = job.start();
    holds(job.wait(&mut running));
    // Right behind its answer to a commit: what partitions were not told its successor tells them. And in
    // mid-transaction, when the marker's partition has its row: its successor aborts that.
    for moment in [Moment::End, Moment::Rows] {
        let coordinator = coordinator(&brokers[0].0, "moves");
        let met = match moment {
            Moment::Rows => brokers[0].0.leader("pelton-commits", 0) as usize,
            _ => coordinator,
        };
        let (gone, there) = (&brokers[coordinator - 1].0, &brokers[coordinator % 3].0);
        brokers[met - 1].1.at(moment, Fault::KillBroker(gone.process_id()));
        job.feed(300);
        gone.fell();
        job.broker = there;
        job.feed(300);
        holds(job.wait(&mut running));
        gone.restart();
        job.broker = &brokers[0].0;
    }
    job.feed(300);
    let said = running.stderr();
    holds(job.settle(running));
    assert!(
        !said.contains("telling them now"),
        "with three nodes no partition is left out\n{said}"
    );
}

#[test]
fn f14_messages_that_are_too_large_stop_the_job_with_the_reason() {
    let Some(broker) = kafka::broker("f14_messages_that_are_too_large_stop_the_job") else {
        return;
    };
    broker.create_topic("large-in", 1);
    broker.create_topic_with("large-out", 1, &[("max.message.bytes", "1000")]);
    let long = "x".repeat(20_000);
    broker.send("large-in", &[], &[Sent::to(0, &long)]);
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "large"
[source.lines]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "large-in"
format = "text"
[query]
sql = "SELECT value FROM lines"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "large-out"
[checkpoint]
path = "state"
"#
    ));
    job.run().expect_code(1).expect_said(&["cannot send epoch 0", "large"]);
    assert!(broker.read("large-out", "read_committed").is_empty());
}

/// Whoever may not write is told so at once, and does not try for ever.
#[test]
fn f14_a_topic_that_may_not_be_written_stops_the_job_with_the_reason() {
    const TEST: &str = "f14_a_topic_that_may_not_be_written_stops_the_job_with_the_reason";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start(kafka::AUTHORIZED);
    let jobs = [("denied", ""), ("denied-rd", LIBRDKAFKA)].map(|(name, sink)| {
        let mut job = Through::new(&broker, name, sink);
        job.feed(10);
        job
    });
    broker.deny_writing(&["denied-out", "denied-rd-out"]);
    for job in jobs {
        let ended = job.start().end_within(Duration::from_secs(60));
        ended.expect_code(1).expect_said(&["cannot send epoch 0", "uthoriz"]);
        assert!(broker.read(&format!("{}-out", job.name), "read_uncommitted").is_empty());
    }
}

/// What it held is gone; what was not sent comes to a topic of that name.
#[test]
fn f14_an_output_topic_that_was_deleted_stops_the_job_and_costs_no_row_after_it() {
    const TEST: &str = "f14_an_output_topic_that_was_deleted_stops_the_job";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let broker = Broker::start("auto.create.topics.enable=false\n");
    let mut job = Through::new(&broker, "deleted", "");
    job.feed(300);
    let mut running = job.start();
    holds(job.wait(&mut running));
    broker.delete_topic("deleted-out");
    job.feed(100);
    let ended = running.end_within(Duration::from_secs(60));
    ended.expect_code(1).expect_said(&["cannot send epoch", "deleted-out"]);
    broker.create_topic("deleted-out", 3);
    let mut running = job.start();
    running.wait_until("the rows after it", |_| job.committed().len() >= 99);
    running.interrupt();
    running.end().expect_code(0);
    let mut expected: Vec<String> =
        (300..400).filter(|n| n % 100 != 7).map(|n| format!("{},{n}", n % 2)).collect();
    expected.sort();
    assert_eq!(job.committed(), expected);
}

/// Batches are made smaller where a topic takes no large ones; the messages are small enough.
#[test]
fn f14_batches_that_are_too_large_for_a_topic_are_sent_in_parts() {
    const TEST: &str = "f14_batches_that_are_too_large_for_a_topic_are_sent_in_parts";
    let Some(broker) = kafka::broker(TEST) else { return };
    broker.create_topic("parts-in", 1);
    broker.create_topic_with("parts-out", 1, &[("max.message.bytes", "4000")]);
    let rows: Vec<String> = (0..2_000).map(|n| format!("row {n:05}")).collect();
    let text = rows.join("\n");
    broker.send("parts-in", &[], &[Sent::to(0, &text)]);
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "parts"
[source.lines]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "parts-in"
format = "text"
end = "latest"
[query]
sql = "SELECT value FROM lines"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "parts-out"
[checkpoint]
path = "state"
"#
    ));
    job.run().expect_code(0);
    assert_eq!(broker.read("parts-out", "read_committed"), rows);
}

#[test]
fn at_least_once_loses_nothing() {
    let Some(broker) = kafka::broker("at_least_once_loses_nothing") else { return };
    let mut job = Through::new(broker, "least", "delivery = \"at_least_once\"");
    job.feed(300);
    let mut running = job.start();
    running.wait_until("rows", |_| !job.committed().is_empty());
    running.kill();
    let mut running = job.start();
    holds(job.wait(&mut running));
    running.interrupt();
    running.end().expect_code(0);
    let mut found = job.committed();
    found.dedup();
    let mut expected: Vec<String> =
        (0..300).filter(|n| n % 100 != 7).map(|n| format!("{},{n}", n % 2)).collect();
    expected.sort();
    assert_eq!(found, expected);
    let letters = broker.read("least-letters", "read_committed");
    assert!(letters.len() >= 3, "{} of 3", letters.len());
}

/// Late rows are in the transaction of the rows that came in time.
#[test]
fn late_rows_go_to_their_topic_in_the_same_transaction() {
    let Some(broker) = kafka::broker("late_rows_go_to_their_topic_in_the_same_transaction") else {
        return;
    };
    for topic in ["late-in", "late-out", "late-rows"] {
        broker.create_topic(topic, 1);
    }
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "late"
[source.clicks]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "late-in"
end = "latest"
format = "csv"
schema = "ts TIMESTAMP, n INT"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "1s" }}
[query]
sql = "SELECT window.start AS since, count(*) AS n FROM clicks GROUP BY window(ts, '1 second')"
mode = "append"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "late-out"
[sink.late]
type = "kafka"
of = "late"
bootstrap_servers = "{servers}"
topic = "late-rows"
[checkpoint]
path = "state"
"#
    ));
    let rows = ["1000,1", "5000,2", "1500,3", "5500,4", "1600,5"];
    let sent: Vec<_> = rows.iter().map(|row| Sent::to(0, row)).collect();
    broker.send("late-in", &[], &sent);
    job.run().expect_code(0);
    let out = broker.read("late-out", "read_committed");
    assert_eq!(out, ["1970-01-01T00:00:01Z,1", "1970-01-01T00:00:05Z,2"]);
    let late = broker.read("late-rows", "read_committed");
    assert_eq!(late.len(), 2, "{late:?}");
    // One commit marker ends what each of the topics got in the epoch: nothing is there beside it.
    let markers = broker.read("pelton-commits", "read_committed");
    let epochs = markers.iter().filter(|marker| marker.contains("\"job\":\"late\"")).count();
    let progress = broker.read("late-out", "read_uncommitted").len();
    assert_eq!((epochs, progress), (1, 2));
}

/// What a source of its own makes while nothing can be sent must not pile up. `PELTON_OUTAGE_SECONDS=600`
/// is the long form.
#[test]
fn f26_f33_memory_is_bounded_while_brokers_are_away_and_while_they_are_slow() {
    const TEST: &str = "f26_f33_memory_is_bounded_while_brokers_are_away_and_while_they_are_slow";
    const LIMIT: u64 = 256 << 20;
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    broker.create_topic("bounded", 2);
    let servers = broker.servers();
    let job = Job::new(&format!(
        r#"name = "bounded"
memory_limit = "256MiB"
[source.sensors]
type = "generate"
suite = "sensors"
rows = 8000000
[query]
sql = "SELECT ts, device, temperature FROM sensors WHERE status = 0"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "bounded"
[checkpoint]
path = "state"
interval = "100ms"
"#
    ));
    let mut running = job.start();
    // Reading the topic would take longer than the job does.
    running.wait_until("the first epoch", |running| running.stderr().contains("\"batchId\":0"));
    let bounded = |running: &mut Running, when: &str| {
        let held = running.memory("RssAnon:").unwrap_or_default();
        assert!(held < LIMIT, "{} MiB are held {when}", held >> 20);
    };
    // Frozen, not killed: what a killed broker leaves without an end has tests of its own, here memory is
    // the question.
    broker.signal("-STOP");
    let away = times("PELTON_OUTAGE_SECONDS", 4);
    for _ in 0..away * 10 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(running.is_running(), "a broker that is away is waited for");
        bounded(&mut running, "while the broker is away");
    }
    broker.signal("-CONT");
    // The job tells it; a reader of the topic would take longer than the job.
    running.wait_until("the next epoch", |running| running.stderr().contains("\"batchId\":1"));
    proxy.delay(Duration::from_millis(150));
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(100));
        bounded(&mut running, "while the broker is slow");
    }
    proxy.delay(Duration::ZERO);
    running.wait_until("its end", |running| running.stderr().contains("8000000 rows"));
    let peak = running.memory_peak();
    let ended = running.end().expect_code(0);
    eprintln!("at most {:?} MiB were held", peak.map(|bytes| bytes >> 20));
    let rows = broker.read("bounded", "read_committed");
    let mut distinct = rows.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let markers = || broker.read("pelton-commits", "read_committed");
    assert_eq!(
        rows.len() as u64,
        ended.fates().applied,
        "rows lost or doubled: {} of them differ; {:?}\n{}",
        distinct.len(),
        markers(),
        ended.stderr
    );
}
