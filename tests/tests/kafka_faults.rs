//! Networks that misbehave between the job and a real broker: nothing is lost, doubled or changed.

use std::time::Duration;

use pelton_tests::kafka::lines::{lines, rows};
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::program::{Job, Running};

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
        member.subscribe(&["storm"]).expect("it can subscribe");
        for _ in 0..10 {
            member.poll(Duration::from_millis(50));
        }
        let more = numbered(&format!("round{round}"), 100);
        send(broker, "storm", &more);
        values.extend(more);
    }
    ends_with(running, &job, values);
}
