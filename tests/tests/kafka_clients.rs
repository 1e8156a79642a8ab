//! TLS and SASL, against a real broker with keys made for the test; and both clients side by side.

use pelton_tests::kafka::{self, Broker, Sent};
use pelton_tests::program::{self, Job};

/// Values of a topic through one client.
fn lines(broker: &Broker, topic: &str, client: &str) -> Vec<String> {
    let source = format!("end = \"latest\"\nclient = \"{client}\"");
    let job = kafka::lines::lines(broker, topic, &source, "");
    job.run().expect_code(0);
    pelton_tests::output::rows(&job.path("out"), "value")
}

#[test]
fn both_clients_give_the_same_rows_in_the_same_order() {
    let Some(broker) = kafka::broker("both_clients_give_the_same_rows_in_the_same_order") else {
        return;
    };
    broker.create_topic("both", 1);
    let mut expected = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let values: Vec<String> = (0..500).map(|n| format!("{codec} {n}")).collect();
        let sent: Vec<_> = values.iter().map(|value| Sent::to(0, value)).collect();
        broker.send("both", &[("compression.type", codec), ("linger.ms", "20")], &sent);
        broker.send_transaction("both", &sent[..3], false);
        broker.send_transaction("both", &sent[..2], true);
        let null = [Sent { partition: 0, key: Some("k"), value: None }];
        broker.send("both", &[], &null);
        broker.send("both", &[], &[Sent::to(0, "two\nrows"), Sent::to(0, "")]);
        expected += 500 + 2 + 2 + 1;
    }
    let native = lines(broker, "both", "native");
    assert_eq!(native.len(), expected);
    assert_eq!(native, lines(broker, "both", "rdkafka"));
}

#[test]
fn tls_and_sasl_read_and_write_and_no_secret_is_told() {
    if kafka::broker("tls_and_sasl_read_and_write_and_no_secret_is_told").is_none() {
        return;
    }
    let broker = Broker::start_secure();
    for topic in ["in", "plain-out", "scram-out"] {
        broker.create_topic(topic, 1);
    }
    broker.send("in", &[], &[Sent::to(0, "one"), Sent::to(0, "two")]);
    broker.tool(
        "kafka.admin.ConfigCommand",
        &[
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            "pelton",
            "--add-config",
            "SCRAM-SHA-256=[password=scram-secret]",
        ],
        "",
    );
    let ca = broker.certificate();
    let job = |mechanism: &str, secret: &str, out: &str| {
        let properties = format!(
            r#"{{ "security.protocol" = "SASL_SSL", "sasl.mechanism" = "{mechanism}", "sasl.username" = "pelton", "sasl.password" = {secret}, "ssl.ca.location" = "{}" }}"#,
            ca.display()
        );
        Job::new(&format!(
            r#"name = "secure-{out}"
[source.lines]
type = "kafka"
bootstrap_servers = "{servers}"
topics = "in"
format = "text"
end = "latest"
properties = {properties}
[query]
sql = "SELECT value FROM lines"
[sink.out]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "{out}"
properties = {properties}
[checkpoint]
path = "state"
"#,
            servers = broker.secure_servers()
        ))
    };
    let environment = "{ env = \"PELTON_TEST_SECRET\" }";
    let file = "{ file = \"secret.txt\" }";
    for (mechanism, secret, place, out) in [
        ("PLAIN", "plain-secret", environment, "plain-out"),
        ("SCRAM-SHA-256", "scram-secret", file, "scram-out"),
    ] {
        let ran = job(mechanism, place, out);
        ran.write("secret.txt", format!("{secret}\n"));
        let mut command = std::process::Command::new(program::binary());
        command.args(["run", "job.toml", "--progress", "json"]).current_dir(ran.dir());
        command.env("PELTON_TEST_SECRET", secret);
        let ended = program::start(command).end().expect_code(0);
        assert_eq!(broker.read(out, "read_committed"), ["one", "two"], "{mechanism}");
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!told.contains(secret), "{told}");
        for file in std::fs::read_dir(ran.path("state")).expect("it has a state") {
            let bytes = std::fs::read(file.expect("a file").path()).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "the state holds a secret");
        }
    }
    let refused = job("PLAIN", "\"wrong-secret\"", "plain-out").run();
    assert_eq!(refused.status.code(), Some(69), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong-secret"), "{}", refused.stderr);
    let missing = job("PLAIN", "{ env = \"PELTON_NO_SUCH\" }", "plain-out").run();
    missing.expect_code(78).expect_said(&["sasl.password", "PELTON_NO_SUCH"]);
}
