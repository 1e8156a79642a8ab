//! Networks that misbehave between the job and a real broker: nothing is lost, doubled or changed.

use std::time::Duration;

use pelton_tests::kafka::lines::{lines, rows};
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::program::{Job, Running};
use pelton_tests::proxy::Spoil;

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:07}")).collect()
}

fn send(broker: &Broker, topic: &str, values: &[String]) {
    let sent: Vec<_> = values.iter().map(|value| Sent::to(0, value)).collect();
    broker.send(topic, &[("acks", "all"), ("linger.ms", "20")], &sent);
}

fn ends_with(mut running: Running, job: &Job, mut expected: Vec<String>) {
    running.wait_until(&format!("{} rows", expected.len()), |_| rows(job).len() >= expected.len());
    running.interrupt();
    running.end().expect_code(0);
    expected.sort();
    assert!(rows(job) == expected, "rows were lost, doubled or changed");
}

#[test]
fn f09_a_bit_that_flips_on_the_way_is_seen_and_the_batch_asked_for_again() {
    const TEST: &str = "f09_a_bit_that_flips_on_the_way_is_seen_and_the_batch_asked_for_again";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    broker.create_topic("flipped", 1);
    let values = numbered("row", 5_000);
    send(&broker, "flipped", &values);
    proxy.flip(2);
    let job = lines(&broker, "flipped", "", "");
    let mut running = job.start();
    running.wait_until("it says so", |r| r.stderr().contains("asking for it again"));
    assert!(running.stderr().contains("CRC32C"), "{}", running.stderr());
    ends_with(running, &job, values);
    assert_eq!(proxy.flipped(), 2);
    // One that is damaged for good stops the job, with its place.
    proxy.flip(usize::MAX);
    send(&broker, "flipped", &numbered("more", 1_000));
    job.run().expect_code(1).expect_said(&["cannot read the batch at flipped/0, offset 5000"]);
}

/// While a damaged batch is asked for again, the answer to the question after it is on its way.
#[test]
fn f09_what_is_behind_a_damaged_batch_waits_for_it() {
    const TEST: &str = "f09_what_is_behind_a_damaged_batch_waits_for_it";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    broker.create_topic("long", 1);
    let values = numbered(&"x".repeat(200), 60_000);
    send(&broker, "long", &values);
    proxy.flip(1);
    // A request asks for a mebibyte, the least.
    let job = lines(&broker, "long", "end = \"latest\"", "");
    let toml = std::fs::read_to_string(job.path("job.toml")).expect("it was written");
    job.write("job.toml", toml.replacen('\n', "\nmemory_limit = \"128MiB\"\n", 1));
    let ended = job.run().expect_code(0);
    assert!(ended.stderr.contains("asking for it again"), "{}", ended.stderr);
    let found = rows(&job);
    assert!(found == values, "{} rows, expected {}", found.len(), values.len());
}

/// A leader of many partitions is told what changed, and says so of those that have something (KIP-227).
#[test]
fn f25_a_fetch_session_tells_changes_only_and_one_that_is_lost_costs_nothing() {
    const TEST: &str = "f25_a_fetch_session_tells_changes_only_and_one_that_is_lost_costs_nothing";
    const PARTITIONS: i32 = 64;
    // Two cores share them: 51 bytes a partition.
    const ALL_OF_THEM: usize = 1_500;
    const NONE_OF_THEM: usize = 100;
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    broker.create_topic("wide", PARTITIONS);
    let mut values = numbered("row", PARTITIONS as usize);
    let spread = |values: &[String]| {
        let sent: Vec<_> =
            values.iter().zip(0..).map(|(v, p)| Sent::to(p % PARTITIONS, v)).collect();
        broker.send("wide", &[("acks", "all")], &sent);
    };
    spread(&values);
    let job = lines(&broker, "wide", "", "");
    let mut running = job.start();
    running.wait_until("the first rows", |_| rows(&job).len() >= values.len());
    assert!(proxy.asked()[0] > ALL_OF_THEM, "{:?}", proxy.asked());
    std::thread::sleep(Duration::from_millis(1_500));
    let idle = *proxy.asked().last().expect("it asks");
    assert!(idle < NONE_OF_THEM, "{idle} bytes ask for nothing new");
    for what in [Spoil::Id, Spoil::Epoch] {
        let before = proxy.asked().len();
        proxy.spoil(what);
        running.wait_until("the request is met", |_| proxy.is_spoilt());
        let more = numbered(&format!("after-{what:?}"), 200);
        spread(&more);
        values.extend(more);
        running.wait_until("the rows behind it", |_| rows(&job).len() >= values.len());
        let since = proxy.asked()[before..].to_vec();
        assert!(since.iter().any(|&bytes| bytes > ALL_OF_THEM), "{what:?}: {since:?}");
    }
    let said = running.stderr();
    assert!(!said.contains("lost broker"), "{said}");
    ends_with(running, &job, values);
}

#[test]
fn f25_latency_resets_and_silence_cost_time_only() {
    const TEST: &str = "f25_latency_resets_and_silence_cost_time_only";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    broker.create_topic("slow", 1);
    let mut values = numbered("first", 2_000);
    send(&broker, "slow", &values);
    let job = lines(&broker, "slow", "", "");
    proxy.delay(Duration::from_millis(50));
    let mut running = job.start();
    running.wait_until("the first rows", |_| rows(&job).len() >= 2_000);
    for round in 0..3 {
        proxy.reset();
        let more = numbered(&format!("round{round}"), 500);
        send(&broker, "slow", &more);
        values.extend(more);
        running.wait_until("the rows after a reset", |_| rows(&job).len() >= values.len());
    }
    proxy.delay(Duration::ZERO);
    // Half-open: bytes vanish and nobody says so; then the old connections end at last.
    proxy.silence(true);
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.is_running());
    proxy.reset();
    proxy.silence(false);
    let more = numbered("last", 500);
    send(&broker, "slow", &more);
    values.extend(more);
    ends_with(running, &job, values);
}

#[test]
fn f23_epochs_of_no_row_one_row_and_a_million_rows() {
    let Some(broker) = kafka::broker("f23_epochs_of_no_row_one_row_and_a_million_rows") else {
        return;
    };
    broker.create_topic("sizes", 1);
    let one = vec!["a single row".to_owned()];
    send(broker, "sizes", &one);
    let job = lines(broker, "sizes", "", "interval = \"10s\"");
    let mut running = job.start();
    running.wait_until("one row", |_| rows(&job).len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pelton_tests::output::files(&job.path("out")), 1, "no file for no rows");
    // A thousand messages of a thousand rows.
    let rows = numbered("row", 1_000_000);
    let messages: Vec<String> = rows.chunks(1_000).map(|rows| rows.join("\n")).collect();
    send(broker, "sizes", &messages);
    ends_with(running, &job, [one, rows].concat());
}

#[test]
fn f24_others_in_the_group_change_nothing() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let Some(broker) = kafka::broker("f24_others_in_the_group_change_nothing") else { return };
    broker.create_topic("storm", 1);
    let mut values = numbered("first", 100);
    send(broker, "storm", &values);
    let job = lines(broker, "storm", "", "");
    let mut running = job.start();
    running.wait_until("the first rows", |_| rows(&job).len() >= 100);
    for round in 0..5 {
        let member: BaseConsumer = broker
            .config()
            .set("group.id", "lines-storm")
            .create()
            .expect("a consumer can be made");
        let is_last = round == 4;
        member.subscribe(&["storm"]).expect("it can subscribe");
        let begun = std::time::Instant::now();
        while member.assignment().expect("it can be asked").count() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not become a member");
            member.poll(Duration::from_millis(50));
        }
        let more = numbered(&format!("round{round}"), 100);
        send(broker, "storm", &more);
        values.extend(more);
        running.wait_until("its rows", |_| rows(&job).len() >= values.len());
        if is_last {
            // A group with members takes no offsets from others.
            let untold = "group \"lines-storm\" is not told the offsets";
            running.wait_until("it says so", |running| running.stderr().contains(untold));
        }
    }
    running.interrupt();
    running.end().expect_code(0);
    // What the group says is for people: going on is the checkpoint's.
    let another: BaseConsumer =
        broker.config().set("group.id", "lines-storm").create().expect("a consumer can be made");
    let mut back = rdkafka::TopicPartitionList::new();
    back.add_partition_offset("storm", 0, rdkafka::Offset::Offset(3)).expect("a partition");
    another.commit(&back, rdkafka::consumer::CommitMode::Sync).expect("nobody is in the group");
    let running = job.start();
    let more = numbered("last", 100);
    send(broker, "storm", &more);
    values.extend(more);
    ends_with(running, &job, values);
}
