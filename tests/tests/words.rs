//! The word count of Spark's guide over a socket, as a person with `nc` would try it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use pelton_tests::program::{Job, Running};

/// A job that counts words, and the other end of its socket.
struct Words {
    running: Running,
    socket: TcpStream,
    _job: Job,
}

fn words(mode: &str) -> Words {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let job = Job::new(&format!(
        r#"name = "word-count"

[source.lines]
type = "socket"
address = "{address}"
format = "text"

[query]
sql = """
SELECT value, count(*) AS count
FROM (SELECT explode(split(value, ' ')) AS value FROM lines)
GROUP BY value
"""
mode = "{mode}"

[sink.out]
type = "console"
"#
    ));
    let running = job.start();
    let (socket, _) = listener.accept().expect("the job connects");
    Words { running, socket, _job: job }
}

impl Words {
    /// Types a line and waits for the batch that it makes.
    fn say(&mut self, line: &str, batch: &str) {
        self.socket.write_all(line.as_bytes()).expect("the job listens");
        self.running.wait_until(batch, |running| running.stdout().contains(batch));
    }

    /// What was printed; then Ctrl-C, which ends the job with exit 0.
    fn printed(mut self) -> String {
        let printed = self.running.stdout();
        self.running.interrupt();
        self.running.end().expect_code(0);
        printed
    }
}

#[test]
fn complete_prints_the_whole_table_each_time() {
    let mut words = words("complete");
    words.say("apache spark\napache hadoop\n", "hadoop|    1|\n| spark|    1|\n+------+-----+\n\n");
    words.say("spark pelton\n", "| spark|    2|\n+------+-----+\n\n");
    assert_eq!(
        words.printed(),
        "\
-------------------------------------------
Batch: 0
-------------------------------------------
+------+-----+
| value|count|
+------+-----+
|apache|    2|
|hadoop|    1|
| spark|    1|
+------+-----+

-------------------------------------------
Batch: 1
-------------------------------------------
+------+-----+
| value|count|
+------+-----+
|apache|    2|
|hadoop|    1|
|pelton|    1|
| spark|    2|
+------+-----+

"
    );
}

#[test]
fn update_prints_the_words_that_were_said() {
    let mut words = words("update");
    words.say("apache spark\n", "| spark|    1|\n+------+-----+\n\n");
    words.say("spark\n", "|spark|    2|\n+-----+-----+\n\n");
    assert_eq!(
        words.printed(),
        "\
-------------------------------------------
Batch: 0
-------------------------------------------
+------+-----+
| value|count|
+------+-----+
|apache|    1|
| spark|    1|
+------+-----+

-------------------------------------------
Batch: 1
-------------------------------------------
+-----+-----+
|value|count|
+-----+-----+
|spark|    2|
+-----+-----+

"
    );
}

/// The other side hangs up: what was said is counted, and the job waits to be told to end.
#[test]
fn a_closed_connection_loses_no_words() {
    let mut words = words("complete");
    words.socket.write_all(b"last words").expect("the job listens");
    words.socket.shutdown(std::net::Shutdown::Write).expect("it is open");
    words.running.wait_until("the words", |running| running.stdout().contains("words|    1|"));
    let printed = words.printed();
    assert!(printed.contains("| last|    1|") || printed.contains("|last |    1|"), "{printed}");
}
