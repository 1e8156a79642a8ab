//! The long forms of the Kafka tests, which `tests/kafka-kills` runs and keeps as records; and the same
//! scenarios on programs that are broken on purpose: they are only worth what they catch.

use std::time::Instant;

use pelton_bench::record;
use pelton_tests::kafka::raw::UNVERIFIED;
use pelton_tests::kafka::through::{Through, Verdict, times};
use pelton_tests::kafka::{self, Broker};
use pelton_tests::proxy::Moment;
use serde_json::{Value, json};

const MOMENTS: [Moment; 3] = [Moment::Partitions, Moment::Rows, Moment::End];

fn holds(what: &str, verdict: Verdict) {
    eprintln!("{what}: {verdict:?}");
    verdict.unwrap_or_else(|why| panic!("{what}: {why}"));
}

fn keep(name: &str, report: Value) {
    eprintln!("{report:#}");
    if let Some(dir) = std::env::var_os("PELTON_RECORD") {
        let path = record::keep(name, report, dir.as_ref()).expect("a record can be written");
        eprintln!("kept as {}", path.display());
    }
}

#[test]
#[ignore = "tests/kafka-kills runs it: minutes"]
fn the_long_campaign() {
    let (kills, broker_kills) = (times("PELTON_KILLS", 200), times("PELTON_BROKER_KILLS", 20));
    let rounds = times("PELTON_ROUNDS", 5);
    let (begun, through_librdkafka) = (Instant::now(), kills / 4);
    assert!(kafka::broker("the_long_campaign").is_some(), "it needs a broker");
    let broker = Broker::start("");
    let native = kills - through_librdkafka;
    holds("SIGKILLs", Through::new(&broker, "long", "").killed(native, 1));
    let other = "client = \"rdkafka\"";
    let mut job = Through::new(&broker, "long-rd", other);
    holds("SIGKILLs, librdkafka", job.killed(through_librdkafka, 2));
    for round in 0..rounds {
        let mut job = Through::new(&broker, &format!("long-zombie-{round}"), "");
        holds("zombie", job.zombie());
    }
    holds("broker SIGKILLs", Through::new(&broker, "long-outage", "").broker_killed(broker_kills));
    let (behind, proxy) = Broker::start_behind();
    for round in 0..rounds {
        let job = |what: &str| Through::new(&behind, &format!("long-{what}-{round}"), "");
        holds("lost and late ends", job("ends").lost_ends(&proxy));
        holds("SIGKILL in commit", job("commit").killed_in_commit(&proxy));
    }
    holds("time-out", Through::new(&behind, "long-timeout", "").timed_out(&proxy));
    let (patient, proxy_of_patient) = Broker::start_behind_with(kafka::ENDS_NONE);
    let mut cut_short = 0;
    for (sink, moments) in [("", &MOMENTS[1..]), (other, &MOMENTS[..2])] {
        for &moment in moments {
            let name = |what: &str| format!("long-{what}-{moment:?}-{cut_short}");
            let job = |what: &str| Through::new(&patient, &name(what), sink);
            let proxy = &proxy_of_patient;
            holds("killed in mid-transaction", job("killed").killed_at(proxy, moment));
            let is_refused = sink.is_empty() && moment == Moment::Rows;
            holds("cut off there", job("cut").cut_off_at(proxy, moment, is_refused));
            cut_short += 1;
        }
    }
    let behind_answers = broker_kills / 2;
    let mut job = Through::new(&behind, "long-answered", "");
    // Two at the end of a transaction, one in the middle.
    let moments = [Moment::End, Moment::Rows, Moment::End].into_iter().cycle();
    let moments: Vec<Moment> = moments.take(behind_answers as usize).collect();
    let told = job.broker_killed_at(&proxy, &moments);
    let told =
        told.unwrap_or_else(|why| panic!("broker SIGKILLs behind an answer to EndTxn: {why}"));
    let unverified = Broker::start(UNVERIFIED);
    holds("epochs used up", Through::new(&unverified, "long-epochs", "").epochs_used_up());
    holds("left hanging", Through::new(&unverified, "long-left", "").hanging_before());
    keep(
        "kafka-kills",
        json!({
            "question": "Does a read_committed reader see every row of every epoch once, whatever is killed?",
            "broker": "Apache Kafka 4.3.1, one node",
            "sigkills_of_the_job": kills + rounds + cut_short,
            "of_these_in_mid_transaction": cut_short,
            "connections_lost_in_mid_transaction": 3 * cut_short,
            "of_these_through_librdkafka": through_librdkafka,
            "of_these_while_the_end_of_a_transaction_was_on_its_way": rounds,
            "sigkills_of_the_broker": broker_kills + behind_answers,
            "of_these_right_behind_its_answer_to_rows_or_a_commit": behind_answers,
            "of_these_that_left_a_partition_without_the_end": told,
            "zombies_stopped_succeeded_and_continued": rounds,
            "ends_of_transactions_lost_or_late": 3 * rounds,
            "transactions_timed_out": 1,
            "producers_whose_epochs_were_used_up": 2,
            "lost": 0,
            "doubled": 0,
            "failure_rate_below_95_percent": format!(
                "{:.4} (3/n)",
                3.0 / f64::from(kills + broker_kills + behind_answers + 6 * rounds + 4 * cut_short + 1)
            ),
            "seconds": begun.elapsed().as_secs(),
        }),
    );
}

/// 32,700 epochs are used by taking over: half a minute each.
#[test]
#[ignore = "part of the long campaign"]
fn f15_a_producer_is_left_before_its_epochs_are_used_up_and_what_it_left_hanging_is_found() {
    assert!(kafka::broker("f15_a_producer_is_left").is_some(), "it needs a broker");
    let broker = Broker::start(UNVERIFIED);
    holds("epochs used up", Through::new(&broker, "epochs", "").epochs_used_up());
    holds("left hanging", Through::new(&broker, "left", "").hanging_before());
}

#[test]
#[ignore = "tests/kafka-kills --bugs builds the program for it and runs it"]
fn each_seeded_bug_is_caught() {
    type Scenario = fn(&mut Through<'_>, &Ground) -> Verdict;
    struct Ground {
        broker: Broker,
        proxy: pelton_tests::proxy::Proxy,
    }
    let lost_ends: Scenario = |job, ground| job.lost_ends(&ground.proxy);
    let in_commit: Scenario = |job, ground| job.killed_in_commit(&ground.proxy);
    let zombie: Scenario = |job, _| job.zombie();
    let aborted: Scenario = |job, _| job.aborted_input();
    let bugs: [(&str, &str, Scenario); 4] = [
        ("OffsetsBeforeTransaction", "killed in its commit", in_commit),
        ("TransactionsUnfenced", "a zombie", zombie),
        ("ReadUncommitted", "aborted transactions in the input", aborted),
        ("UnknownTakenAsNot", "ends of transactions lost and late", lost_ends),
    ];
    assert!(kafka::broker("each_seeded_bug_is_caught").is_some(), "it needs a broker");
    let (broker, proxy) = Broker::start_behind();
    let ground = Ground { broker, proxy };
    let mut each = Vec::new();
    for (bug, what, scenario) in bugs {
        let lower = bug.to_lowercase();
        let sound =
            scenario(&mut Through::new(&ground.broker, &format!("{lower}-none"), ""), &ground);
        holds(&format!("without a bug, {what}"), sound);
        let mut job = Through::new(&ground.broker, &lower, "").with_bug(Some(bug));
        let why = scenario(&mut job, &ground).expect_err(bug);
        let why: String = why.lines().next().unwrap_or_default().chars().take(200).collect();
        eprintln!("{bug}: caught by {what}: {why}");
        each.push(json!({ "bug": bug, "scenario": what, "caught_by": why }));
    }
    keep(
        "kafka-seeded-bugs",
        json!({
            "question": "Is each bug that is put into the program on purpose seen on a real broker?",
            "bugs": each.len(),
            "caught": each.len(),
            "without_a_bug": "the same build passes",
            "each": each,
        }),
    );
}
