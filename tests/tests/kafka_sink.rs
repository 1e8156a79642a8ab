//! Epochs as Kafka transactions on a real broker, read by other clients: each once and whole, whatever
//! happens to the job, the broker and the requests between them.

use std::time::Duration;

use pelton_tests::data::Random;
use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::program::{Job, Running};
use pelton_tests::proxy::{EndTxn, Proxy};

/// A job from topic to topic: rows with a number pass, others become dead letters.
fn through(broker: &Broker, name: &str, sink: &str, tables: &str) -> Job {
    through_servers(&broker.servers(), name, sink, tables)
}

fn through_servers(servers: &str, name: &str, sink: &str, tables: &str) -> Job {
    Job::new(&format!(
        r#"name = "{name}"
[source.numbers]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "{name}-in"
format = "csv"
schema = "split INT, n INT"
[query]
sql = "SELECT split, n FROM numbers"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "{name}-out"
{sink}
[sink.letters]
type = "kafka"
of = "dead_letters"
bootstrap_servers = "{servers}"
topic = "{name}-letters"
format = "json"
{letters}
{tables}"#,
        letters = sink.replace("key = \"n\"", ""),
    ))
}

/// How often something is done: more in the long form of a test, see bench/records.
fn times(variable: &str, usually: u32) -> u32 {
    std::env::var(variable).map_or(usually, |times| times.parse().expect("a number"))
}

const STATE: &str = "[checkpoint]\npath = \"state\"\ninterval = \"50ms\"\n";

fn topics(broker: &Broker, name: &str) {
    for (kind, partitions) in [("in", 2), ("out", 2), ("letters", 1)] {
        broker.create_topic(&format!("{name}-{kind}"), partitions);
    }
}

/// Sends rows `split,n`, every hundredth broken; gives the good and the broken ones.
fn feed(broker: &Broker, name: &str, numbers: std::ops::Range<u32>) -> (Vec<String>, usize) {
    let rows: Vec<String> = numbers
        .clone()
        .map(|n| if n % 100 == 7 { format!("{},broken", n % 2) } else { format!("{},{n}", n % 2) })
        .collect();
    let sent: Vec<_> =
        rows.iter().zip(numbers).map(|(row, n)| Sent::to((n % 2) as i32, row)).collect();
    broker.send(&format!("{name}-in"), &[("acks", "all")], &sent);
    let (broken, good): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.contains("broken"));
    (good, broken.len())
}

fn committed(broker: &Broker, name: &str) -> Vec<String> {
    let mut rows = broker.read(&format!("{name}-out"), "read_committed");
    rows.sort();
    rows
}

fn wait_for(running: &mut Running, broker: &Broker, name: &str, rows: usize) {
    running.wait_until(&format!("{rows} rows in {name}-out"), |_| {
        committed(broker, name).len() >= rows
    });
}

fn check(broker: &Broker, name: &str, mut expected: Vec<String>, letters: usize) {
    expected.sort();
    let found = committed(broker, name);
    assert_eq!(found.len(), expected.len(), "rows lost or doubled");
    assert_eq!(found, expected);
    let found = broker.read(&format!("{name}-letters"), "read_committed");
    assert_eq!(found.len(), letters, "dead letters lost or doubled");
    for letter in &found {
        let letter: serde_json::Value = serde_json::from_str(letter).expect("a letter is JSON");
        assert_eq!(letter["column"], "n");
    }
    // Epochs' markers only grow.
    let markers = broker.read("pelton-commits", "read_committed");
    let epochs = markers.iter().filter_map(|marker| {
        let marker: serde_json::Value = serde_json::from_str(marker).expect("a marker is JSON");
        (marker["job"] == name).then(|| marker["epoch"].as_u64().expect("an epoch"))
    });
    let epochs: Vec<u64> = epochs.collect();
    assert!(!epochs.is_empty() && epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

#[test]
fn rows_and_dead_letters_of_an_epoch_are_one_transaction_and_kafkas_own_reader_sees_them() {
    const TEST: &str = "rows_and_dead_letters_of_an_epoch_are_one_transaction";
    let Some(broker) = kafka::broker(TEST) else { return };
    topics(broker, "plain");
    let (good, bad) = feed(broker, "plain", 0..500);
    let job = through(broker, "plain", "key = \"n\"", STATE);
    let mut running = job.start();
    wait_for(&mut running, broker, "plain", good.len());
    running.interrupt();
    running.end().expect_code(0);
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
    let mut expected: Vec<String> = good.iter().map(keyed).collect();
    expected.sort();
    assert_eq!(read, expected);
    check(broker, "plain", good, bad);
}

/// The quick form of the proof: killed at random, the job loses and doubles nothing.
#[test]
fn a_job_that_is_killed_again_and_again_sends_every_row_once() {
    killed("a_job_that_is_killed_again_and_again_sends_every_row_once", "kills", "");
}

#[test]
fn so_does_one_that_sends_through_librdkafka() {
    killed("so_does_one_that_sends_through_librdkafka", "kills-rd", "client = \"rdkafka\"");
}

fn killed(test: &str, name: &str, sink: &str) {
    let Some(broker) = kafka::broker(test) else { return };
    topics(broker, name);
    let job = through(broker, name, sink, STATE);
    let mut random = Random::new(7);
    let (mut good, mut bad) = (Vec::new(), 0);
    let kills = times("PELTON_KILLS", 8);
    for round in 0..kills {
        let (more, broken) = feed(broker, name, round * 400..(round + 1) * 400);
        good.extend(more);
        bad += broken;
        let running = job.start();
        std::thread::sleep(Duration::from_millis(200 + random.below(900)));
        running.kill();
    }
    let mut running = job.start();
    wait_for(&mut running, broker, name, good.len());
    running.interrupt();
    running.end().expect_code(0);
    check(broker, name, good, bad);
}

#[test]
fn f15_f26_a_broker_that_goes_away_in_between_costs_and_doubles_nothing() {
    let Some(broker) =
        kafka::own_broker("f15_f26_a_broker_that_goes_away_costs_and_doubles_nothing")
    else {
        return;
    };
    topics(&broker, "outage");
    let kills = times("PELTON_BROKER_KILLS", 1);
    let (mut good, mut bad) = feed(&broker, "outage", 0..1_000);
    let job = through(&broker, "outage", "", STATE);
    let mut running = job.start();
    wait_for(&mut running, &broker, "outage", 1);
    for kill in 1..=kills {
        broker.kill();
        std::thread::sleep(Duration::from_secs(if kill == 1 { 3 } else { 0 }));
        assert!(running.is_running(), "a broker that is away is waited for");
        broker.restart();
        let (more, broken) = feed(&broker, "outage", kill * 1_000..(kill + 1) * 1_000);
        good.extend(more);
        bad += broken;
        if kill % 2 == 0 {
            // The next one comes while these rows are on their way.
            continue;
        }
        wait_for(&mut running, &broker, "outage", good.len());
    }
    wait_for(&mut running, &broker, "outage", good.len());
    running.interrupt();
    running.end().expect_code(0);
    check(&broker, "outage", good, bad);
}

#[test]
fn f16_f17_ends_of_transactions_that_get_lost_or_come_late_decide_nothing() {
    const TEST: &str = "f16_f17_ends_of_transactions_that_get_lost_or_come_late_decide_nothing";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    for (name, sink) in [("lost", ""), ("lost-rd", "client = \"rdkafka\"")] {
        lose_ends(&broker, &proxy, name, sink);
    }
}

fn lose_ends(broker: &Broker, proxy: &Proxy, name: &str, sink: &str) {
    let before = proxy.faults();
    topics(broker, name);
    let job = through(broker, name, sink, STATE);
    let mut running = job.start();
    let (mut good, mut bad) = (Vec::new(), 0);
    let faults = [EndTxn::LoseRequest, EndTxn::LoseReply, EndTxn::Late, EndTxn::Pass];
    for (round, fault) in (0..).zip(faults) {
        proxy.at_end_txn(fault);
        let (more, broken) = feed(broker, name, round * 300..(round + 1) * 300);
        good.extend(more);
        bad += broken;
        wait_for(&mut running, broker, name, good.len());
    }
    running.interrupt();
    running.end().expect_code(0);
    assert_eq!(proxy.faults() - before, 3, "every fault was met");
    let code = proxy.late_answer().expect("the late request arrived");
    assert_ne!(code, 0, "a late end of a transaction ended another one");
    check(broker, name, good, bad);
}

/// A coordinator fences the producer of a transaction that timed out, as it would for another process.
#[test]
fn f18_a_transaction_that_times_out_in_mid_epoch_is_sent_again() {
    const TEST: &str = "f18_a_transaction_that_times_out_in_mid_epoch_is_sent_again";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    topics(&broker, "timeout");
    let (mut good, mut bad) = feed(&broker, "timeout", 0..300);
    let job = through(&broker, "timeout", "", STATE);
    let mut running = job.start();
    wait_for(&mut running, &broker, "timeout", good.len());
    proxy.at_end_txn(EndTxn::Hold);
    let (more, broken) = feed(&broker, "timeout", 300..600);
    good.extend(more);
    bad += broken;
    running.wait_until("a transaction is about to end", |_| proxy.faults() == 1);
    running.signal(libc::SIGSTOP);
    // Its time-out, and the coordinator's next look.
    std::thread::sleep(Duration::from_secs(17));
    proxy.release();
    running.signal(libc::SIGCONT);
    wait_for(&mut running, &broker, "timeout", good.len());
    assert!(running.stderr().contains("its transaction took too long"), "{}", running.stderr());
    running.interrupt();
    running.end().expect_code(0);
    check(&broker, "timeout", good, bad);
}

#[test]
fn f20_a_transaction_left_open_keeps_readers_no_longer_than_its_time_out() {
    const TEST: &str = "f20_a_transaction_left_open_keeps_readers_no_longer_than_its_time_out";
    if kafka::broker(TEST).is_none() {
        return;
    }
    let (broker, proxy) = Broker::start_behind();
    topics(&broker, "open");
    let (mut good, mut bad) = feed(&broker, "open", 0..300);
    let job = through(&broker, "open", "", STATE);
    let mut running = job.start();
    wait_for(&mut running, &broker, "open", good.len());
    proxy.at_end_txn(EndTxn::Hold);
    let (more, broken) = feed(&broker, "open", 300..600);
    good.extend(more);
    bad += broken;
    running.wait_until("a transaction is about to end", |_| proxy.faults() == 1);
    running.kill();
    // Others' rows behind the open transaction.
    let others = ["another's", "another's"];
    for partition in 0..2 {
        broker.send("open-out", &[], &[Sent::to(partition, others[0])]);
    }
    let is_blocked = || committed(&broker, "open").iter().filter(|row| *row == others[0]).count();
    assert!(is_blocked() < 2, "nothing was open");
    let begun = std::time::Instant::now();
    while is_blocked() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(25), "readers wait longer than the time-out");
        std::thread::sleep(Duration::from_millis(200));
    }
    // And the epoch that was lost with the node comes whole.
    proxy.release();
    let mut running = job.start();
    good.extend(others.map(str::to_owned));
    wait_for(&mut running, &broker, "open", good.len());
    running.interrupt();
    running.end().expect_code(0);
    check(&broker, "open", good, bad);
}

#[test]
fn f22_the_coordinator_moves_to_another_node_and_so_do_leaders() {
    if kafka::broker("f22_the_coordinator_moves_to_another_node_and_so_do_leaders").is_none() {
        return;
    }
    let brokers = Broker::start_three();
    let servers: Vec<String> = brokers.iter().map(Broker::servers).collect();
    topics(&brokers[0], "moves");
    let (mut good, mut bad) = feed(&brokers[0], "moves", 0..300);
    let job = through_servers(&servers.join(","), "moves", "", STATE);
    let mut running = job.start();
    wait_for(&mut running, &brokers[0], "moves", good.len());
    let described = brokers[0].tool(
        "org.apache.kafka.tools.TransactionsCommand",
        &["describe", "--transactional-id", "moves"],
        "",
    );
    // CoordinatorId TransactionalId …, and below it their values.
    let coordinator = described.lines().nth(1).and_then(|line| line.split_whitespace().next());
    let coordinator: usize = coordinator.and_then(|id| id.parse().ok()).expect(&described);
    let (gone, there) = (&brokers[coordinator - 1], &brokers[coordinator % 3]);
    gone.kill();
    let (more, broken) = feed(there, "moves", 300..600);
    good.extend(more);
    bad += broken;
    wait_for(&mut running, there, "moves", good.len());
    gone.restart();
    let (more, broken) = feed(there, "moves", 600..900);
    good.extend(more);
    bad += broken;
    wait_for(&mut running, there, "moves", good.len());
    running.interrupt();
    running.end().expect_code(0);
    check(there, "moves", good, bad);
}

#[test]
fn f19_f21_a_zombie_is_fenced_and_stops() {
    let Some(broker) = kafka::broker("f19_f21_a_zombie_is_fenced_and_stops") else { return };
    topics(broker, "zombie");
    let (mut good, mut bad) = feed(broker, "zombie", 0..300);
    let job = through(broker, "zombie", "", STATE);
    let mut zombie = job.start();
    wait_for(&mut zombie, broker, "zombie", good.len());
    zombie.signal(libc::SIGSTOP);
    // Another machine with a copy of the state: the lock on the directory does not hold there.
    let copy = through(broker, "zombie", "", STATE);
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(job.path("state"))
        .arg(copy.path("state"))
        .status();
    assert!(copied.expect("cp is a command").success());
    let mut successor = copy.start();
    let (more, broken) = feed(broker, "zombie", 300..600);
    good.extend(more);
    bad += broken;
    wait_for(&mut successor, broker, "zombie", good.len());
    zombie.signal(libc::SIGCONT);
    let (more, broken) = feed(broker, "zombie", 600..900);
    good.extend(more);
    bad += broken;
    let ended = zombie.end();
    assert_ne!(ended.status.code(), Some(0), "{}", ended.stderr);
    wait_for(&mut successor, broker, "zombie", good.len());
    successor.interrupt();
    successor.end().expect_code(0);
    check(broker, "zombie", good, bad);
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

#[test]
fn at_least_once_loses_nothing() {
    let Some(broker) = kafka::broker("at_least_once_loses_nothing") else { return };
    topics(broker, "least");
    let (good, bad) = feed(broker, "least", 0..300);
    let job = through(broker, "least", "delivery = \"at_least_once\"", STATE);
    let mut running = job.start();
    wait_for(&mut running, broker, "least", 1);
    running.kill();
    let mut running = job.start();
    wait_for(&mut running, broker, "least", good.len());
    running.interrupt();
    running.end().expect_code(0);
    let mut found = committed(broker, "least");
    found.dedup();
    let mut expected = good;
    expected.sort();
    assert_eq!(found, expected);
    let letters = broker.read("least-letters", "read_committed");
    assert!(letters.len() >= bad, "{} of {bad}", letters.len());
}
