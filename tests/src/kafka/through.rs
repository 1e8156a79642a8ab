//! A job from topic to topic on a real broker, what may happen to it, and the verdict.
//!
//! Rows with a number pass, others become dead letters. What the job was given is counted here, what it
//! sent is read by another client, read_committed: equal as multisets, each row once.
//!
//! Invariant: nothing of the product is linked in. A program with a bug goes through the same.

use std::process::Command;
use std::time::{Duration, Instant};

use super::raw::Raw;
use super::{Broker, Sent};
use crate::data::Random;
use crate::program::{self, Ended, Job, Running};
use crate::proxy::{Fault, Moment, Proxy};

/// Rows that have not come after this time do not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// A coordinator ends an open transaction after 15 s, at its next look.
const TIMED_OUT: Duration = Duration::from_secs(17);
/// What progress says of each epoch.
const EPOCH_TOLD: &str = "\"batchId\":";
/// The row of a transaction that hangs.
const HANGING: &str = "1,hanging";

pub type Verdict = Result<(), String>;

pub struct Through<'a> {
    pub broker: &'a Broker,
    pub name: String,
    pub job: Job,
    bug: Option<&'a str>,
    toml: String,
    /// Rows that the job was given, and how many more of them cannot be taken.
    good: Vec<String>,
    bad: usize,
    fed: u32,
}

impl<'a> Through<'a> {
    /// Makes the topics. `sink`: further lines of both sinks.
    pub fn new(broker: &'a Broker, name: &str, sink: &str) -> Through<'a> {
        Through::over(broker, &broker.servers(), name, sink)
    }

    /// As [`Through::new`]; the job is told other servers.
    pub fn over(broker: &'a Broker, servers: &str, name: &str, sink: &str) -> Through<'a> {
        Through::between(broker, (servers, servers), name, sink)
    }

    /// As [`Through::new`], writing with TLS and SASL to a broker of [`Broker::start_secure_with`].
    pub fn secured(broker: &'a Broker, name: &str) -> Through<'a> {
        let sink = format!(
            "properties = {{ \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \"PLAIN\", \
             \"sasl.username\" = \"pelton\", \"sasl.password\" = \"plain-secret\", \
             \"ssl.ca.location\" = \"{}\" }}",
            broker.certificate().display()
        );
        Through::between(broker, (&broker.servers(), &broker.secure_servers()), name, &sink)
    }

    fn between(
        broker: &'a Broker,
        (from, to): (&str, &str),
        name: &str,
        sink: &str,
    ) -> Through<'a> {
        for (kind, partitions) in [("in", 2), ("out", 2), ("letters", 1)] {
            broker.create_topic(&format!("{name}-{kind}"), partitions);
        }
        let letters = sink.replace("key = \"n\"", "");
        let toml = format!(
            r#"name = "{name}"
[source.numbers]
type = "kafka"
bootstrap_servers = "{from}"
topics = "{name}-in"
format = "csv"
schema = "split INT, n INT"
[query]
sql = "SELECT split, n FROM numbers"
[sink.out]
type = "kafka"
bootstrap_servers = "{to}"
topic = "{name}-out"
{sink}
[sink.letters]
type = "kafka"
of = "dead_letters"
bootstrap_servers = "{to}"
topic = "{name}-letters"
format = "json"
{letters}
[checkpoint]
path = "state"
interval = "50ms"
"#
        );
        let (name, job) = (name.to_owned(), Job::new(&toml));
        Through { broker, name, job, bug: None, toml, good: Vec::new(), bad: 0, fed: 0 }
    }

    /// The program is one that was built with bugs, and has this one.
    pub fn with_bug(mut self, bug: Option<&'a str>) -> Through<'a> {
        self.bug = bug;
        self
    }

    pub fn start(&self) -> Running {
        start(&self.job, self.bug)
    }

    fn messages(&mut self, rows: u32) -> Vec<(i32, String)> {
        let numbers = self.fed..self.fed + rows;
        self.fed += rows;
        numbers
            .map(|n| (n, n % 100 == 7))
            .map(|(n, is_bad)| {
                let row =
                    if is_bad { format!("{},broken", n % 2) } else { format!("{},{n}", n % 2) };
                ((n % 2) as i32, row)
            })
            .collect()
    }

    /// Sends rows `split,n`, every hundredth broken.
    pub fn feed(&mut self, rows: u32) {
        let rows = self.messages(rows);
        let sent: Vec<_> = rows.iter().map(|(split, row)| Sent::to(*split, row)).collect();
        self.broker.send(&format!("{}-in", self.name), &[("acks", "all")], &sent);
        let (bad, good): (Vec<_>, Vec<_>) =
            rows.into_iter().map(|(_, row)| row).partition(|row| row.contains("broken"));
        self.good.extend(good);
        self.bad += bad.len();
    }

    /// Sends rows in a transaction that is aborted: nobody should see them.
    pub fn feed_aborted(&mut self, rows: u32) {
        let rows = self.messages(rows);
        let sent: Vec<_> = rows.iter().map(|(split, row)| Sent::to(*split, row)).collect();
        self.broker.send_transaction(&format!("{}-in", self.name), &sent, false);
    }

    /// Rows of somebody else in the output.
    pub fn expect_also(&mut self, rows: impl IntoIterator<Item = String>) {
        self.good.extend(rows);
    }

    pub fn committed(&self) -> Vec<String> {
        let mut rows = self.broker.read(&format!("{}-out", self.name), "read_committed");
        rows.sort();
        rows
    }

    /// Waits until as many rows are there as there should be.
    pub fn wait(&self, running: &mut Running) -> Verdict {
        let begun = Instant::now();
        loop {
            let (found, expected) = (self.committed().len(), self.good.len());
            if found >= expected {
                return Ok(());
            }
            if !running.is_running() {
                return Err(format!(
                    "it ended at {found} of {expected} rows\n{}",
                    running.stderr()
                ));
            }
            if begun.elapsed() > PATIENCE {
                let said = running.stderr();
                return Err(format!("{found} of {expected} rows came\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the rows, ends the job, and compares.
    pub fn settle(&self, mut running: Running) -> Verdict {
        self.wait(&mut running)?;
        running.interrupt();
        let ended = running.end();
        if ended.status.code() != Some(0) {
            return Err(format!("it ended with {}\n{}", ended.status, ended.stderr));
        }
        self.verdict()
    }

    /// Whether every row came once, and every dead letter; and the epochs' markers only grow.
    pub fn verdict(&self) -> Verdict {
        let mut expected = self.good.clone();
        expected.sort();
        let found = self.committed();
        if found != expected {
            let (found, expected) = (found.len(), expected.len());
            return Err(format!("rows were lost or doubled: {found}, expected {expected}"));
        }
        let letters = self.broker.read(&format!("{}-letters", self.name), "read_committed");
        for letter in &letters {
            let letter: serde_json::Value =
                serde_json::from_str(letter).map_err(|error| format!("{letter}: {error}"))?;
            if letter["column"] != "n" {
                return Err(format!("a letter of another column: {letter}"));
            }
        }
        if letters.len() != self.bad {
            return Err(format!("{} dead letters, expected {}", letters.len(), self.bad));
        }
        let markers = self.broker.read("pelton-commits", "read_committed");
        let epochs = markers.iter().filter_map(|marker| {
            let marker: serde_json::Value = serde_json::from_str(marker).ok()?;
            (marker["job"] == *self.name).then(|| marker["epoch"].as_u64()).flatten()
        });
        let epochs: Vec<u64> = epochs.collect();
        match !epochs.is_empty() && epochs.is_sorted_by(|a, b| a < b) {
            true => Ok(()),
            false => Err(format!("markers {epochs:?}")),
        }
    }

    /// Killed at random, over and over.
    pub fn killed(&mut self, kills: u32, seed: u64) -> Verdict {
        let mut random = Random::new(seed);
        for _ in 0..kills {
            self.feed(400);
            let running = self.start();
            std::thread::sleep(Duration::from_millis(200 + random.below(900)));
            running.kill();
        }
        self.settle(self.start())
    }

    /// Killed while the end of a transaction is on its way, which then arrives or does not.
    pub fn killed_in_commit(&mut self, proxy: &Proxy) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        self.held(proxy, &mut running)?;
        running.kill();
        // Its connection is gone with it, and the request with the connection.
        proxy.reset();
        proxy.release();
        self.settle(self.start())
    }

    /// More rows, whose transaction does not come to its end.
    pub fn held(&mut self, proxy: &Proxy, running: &mut Running) -> Verdict {
        self.held_at(proxy, Moment::End, running)
    }

    /// More rows, whose transaction comes to this moment and not beyond.
    fn held_at(&mut self, proxy: &Proxy, moment: Moment, running: &mut Running) -> Verdict {
        self.meets(proxy, (moment, Fault::Hold), running)
    }

    /// More rows, whose transaction meets a fault.
    fn meets(
        &mut self,
        proxy: &Proxy,
        (moment, fault): (Moment, Fault),
        running: &mut Running,
    ) -> Verdict {
        let before = proxy.faults();
        proxy.at(moment, fault);
        self.feed(300);
        let begun = Instant::now();
        while proxy.faults() == before {
            if begun.elapsed() > PATIENCE || !running.is_running() {
                return Err(format!("no transaction came to {moment:?}\n{}", running.stderr()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Killed in mid-transaction. Its successor must end that by itself, as this broker ends none for its
    /// time-out; and the request that was on its way arrives when the successor has gone on.
    pub fn killed_at(&mut self, proxy: &Proxy, moment: Moment) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        self.held_at(proxy, moment, &mut running)?;
        running.kill();
        let mut successor = self.start();
        self.feed(300);
        self.wait(&mut successor)?;
        proxy.release();
        self.late_is_refused(proxy)?;
        self.feed(300);
        self.settle(successor)?;
        self.is_all_ended()
    }

    /// The connection is lost in mid-transaction, over and over; the job goes on by itself. `is_refused`: what
    /// arrives late is of a transaction that was given up, and not what was sent again for it.
    pub fn cut_off_at(&mut self, proxy: &Proxy, moment: Moment, is_refused: bool) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        for fault in [Fault::LoseRequest, Fault::LoseReply, Fault::Late] {
            self.meets(proxy, (moment, fault), &mut running)?;
            self.wait(&mut running)?;
        }
        if is_refused {
            self.late_is_refused(proxy)?;
        }
        self.feed(300);
        self.settle(running)?;
        self.is_all_ended()
    }

    /// The request that came late was answered, and not taken.
    fn late_is_refused(&self, proxy: &Proxy) -> Verdict {
        let begun = Instant::now();
        let name = &self.name;
        loop {
            match proxy.late_answer() {
                Some(0) => {
                    return Err(format!("{name}: a late request of a transaction was taken"));
                }
                Some(_) => return Ok(()),
                None if begun.elapsed() > PATIENCE => {
                    return Err(format!("{name}: the late request did not arrive"));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// No transaction is open in what the job writes to. Partitions are told of an end a moment after its answer.
    fn is_all_ended(&self) -> Verdict {
        let begun = Instant::now();
        let topics = ["out", "letters"].map(|kind| format!("{}-{kind}", self.name));
        for topic in topics.iter().map(String::as_str).chain(["pelton-commits"]) {
            let ends = |isolation: &str| self.broker.ends(topic, isolation);
            while ends("read_uncommitted") != ends("read_committed") {
                if begun.elapsed() > PATIENCE / 6 {
                    return Err(format!("{}: a transaction is open in {topic}", self.name));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// A stop in mid-transaction for longer than its time-out.
    pub fn timed_out(&mut self, proxy: &Proxy) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        self.held(proxy, &mut running)?;
        running.signal(libc::SIGSTOP);
        std::thread::sleep(TIMED_OUT);
        proxy.release();
        running.signal(libc::SIGCONT);
        self.wait(&mut running)?;
        if !running.stderr().contains("is committed is not known") {
            return Err(format!("no time-out was met\n{}", running.stderr()));
        }
        self.settle(running)
    }

    /// Ends of transactions get lost, lose their answer or come late.
    pub fn lost_ends(&mut self, proxy: &Proxy) -> Verdict {
        let mut running = self.start();
        for fault in [Fault::LoseRequest, Fault::LoseReply, Fault::Late] {
            self.meets(proxy, (Moment::End, fault), &mut running)?;
            self.wait(&mut running)?;
        }
        // Where librdkafka asked again by itself, none of the rows came twice: these make the next transaction.
        self.feed(300);
        self.late_is_refused(proxy)?;
        self.feed(300);
        self.settle(running)
    }

    /// The broker, which is alone, is killed over and over right behind its answer to a request of a
    /// transaction: when it starts it may take partitions for deleted, and not tell them of the end. How often
    /// that was so.
    pub fn broker_killed_at(&mut self, proxy: &Proxy, moments: &[Moment]) -> Result<usize, String> {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        for &moment in moments {
            let fault = Fault::KillBroker(self.broker.process_id());
            self.meets(proxy, (moment, fault), &mut running)?;
            self.broker.fell();
            self.broker.restart();
            self.feed(300);
            self.wait(&mut running)?;
        }
        let told = running.stderr().matches("telling them now").count();
        self.settle(running)?;
        self.is_all_ended()?;
        Ok(told)
    }

    /// A transaction hangs in the output whose end, as its coordinator says, was this; `None`: the
    /// coordinator does not know it any more. The broker is one of [`raw::UNVERIFIED`].
    pub fn hanging(&mut self, committed: Option<bool>) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        running.interrupt();
        running.end().expect_code(0);
        let output = format!("{}-out", self.name);
        let mut raw = Raw::new(self.broker, &self.name);
        if let Some(commits) = committed {
            raw.send(&output, 1, HANGING);
            raw.end(commits);
        }
        raw.leave_hanging(&output, 0, HANGING);
        if committed == Some(true) {
            self.good.extend([HANGING, HANGING].map(str::to_owned));
        }
        self.feed(300);
        match committed {
            Some(_) => self.settle(self.start()),
            None => self.stops_at(&output),
        }
    }

    /// A transaction hangs in the output, and librdkafka does not say whose: the job waits, says what to do, and
    /// goes on when that is done. The broker is one of [`raw::UNVERIFIED`].
    pub fn hanging_told(&mut self) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        running.interrupt();
        running.end().expect_code(0);
        let output = format!("{}-out", self.name);
        Raw::new(self.broker, &self.name).leave_hanging(&output, 0, HANGING);
        self.feed(300);
        let mut running = self.start();
        let drop_it = "abort --topic ";
        running.wait_until("it says what to do", |running| running.stderr().contains(drop_it));
        let said = running.stderr();
        let (_, told) = said.split_once(drop_it).expect("it was told");
        let (told, _) = told.split_once('`').expect("a command ends with its quote");
        let args: Vec<&str> = ["abort", "--topic"].into_iter().chain(told.split(' ')).collect();
        self.broker.tool("org.apache.kafka.tools.TransactionsCommand", &args, "");
        self.settle(running)?;
        self.is_all_ended()
    }

    /// The coordinator forgets the transactional id, as after a week without a transaction: while the job rests,
    /// and while it does not run. The broker forgets quickly.
    pub fn forgotten(&mut self) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        self.wait_until_forgotten()?;
        self.feed(300);
        self.wait(&mut running)?;
        running.interrupt();
        running.end().expect_code(0);
        self.wait_until_forgotten()?;
        self.feed(300);
        self.settle(self.start())?;
        self.is_all_ended()
    }

    fn wait_until_forgotten(&self) -> Verdict {
        let mut raw = Raw::watching(self.broker, &self.name);
        let begun = Instant::now();
        while raw.is_known() {
            if begun.elapsed() > PATIENCE {
                return Err("the coordinator does not forget".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Partitions are added to the output while the job runs: rows come to them, too.
    pub fn output_grows(&mut self, partitions: usize) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        let output = format!("{}-out", self.name);
        self.broker.add_partitions(&output, partitions);
        let begun = Instant::now();
        let mut ends = Vec::new();
        while ends.len() < partitions || ends.contains(&0) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("no rows come to new partitions: {ends:?}"));
            }
            self.feed(10);
            self.wait(&mut running)?;
            ends = self.broker.ends(&output, "read_committed");
        }
        self.settle(running)
    }

    /// The job does not go on at a transaction that hangs, and says where.
    fn stops_at(&self, output: &str) -> Verdict {
        let ended = self.start().end_within(2 * PATIENCE);
        let stopped = ended.status.code() == Some(1)
            && [&format!("{output}/0"), "from offset", "kafka-transactions.sh"]
                .iter()
                .all(|word| ended.stderr.contains(*word));
        let shown = self.committed().iter().any(|row| row == HANGING);
        match stopped && !shown {
            true => Ok(()),
            false => Err(format!("it ended with {}\n{}", ended.status, ended.stderr)),
        }
    }

    /// Stopped, succeeded by another process on another machine, and continued.
    pub fn zombie(&mut self) -> Verdict {
        self.feed(300);
        let mut zombie = self.start();
        self.wait(&mut zombie)?;
        zombie.signal(libc::SIGSTOP);
        let copy = self.copy();
        let mut successor = start(&copy, self.bug);
        self.feed(300);
        self.wait(&mut successor)?;
        zombie.signal(libc::SIGCONT);
        self.feed(300);
        self.wait(&mut successor)?;
        if stopped(zombie)?.status.code() == Some(0) {
            return Err("the zombie ended as if all were well".to_owned());
        }
        self.settle(successor)
    }

    /// Succeeded by another process while the end of its transaction is on its way, which then arrives.
    pub fn zombie_in_commit(&mut self, proxy: &Proxy) -> Verdict {
        self.feed(300);
        let mut zombie = self.start();
        self.wait(&mut zombie)?;
        self.held(proxy, &mut zombie)?;
        let before = zombie.stderr().matches(EPOCH_TOLD).count();
        let copy = self.copy();
        let mut successor = start(&copy, self.bug);
        self.wait(&mut successor)?;
        proxy.release();
        let ended = stopped(zombie)?;
        let told_more = ended.stderr.matches(EPOCH_TOLD).count() > before;
        if told_more || ended.status.code() == Some(0) {
            return Err("the zombie takes its epoch for committed".to_owned());
        }
        self.settle(successor)
    }

    /// A zombie that finds its connections gone makes its producer anew, which fences its successor; then it
    /// must see that another process has gone on, and stop. What it fenced goes on after a restart.
    pub fn zombie_anew(&mut self, proxy: &Proxy) -> Verdict {
        self.feed(300);
        let mut zombie = self.start();
        self.wait(&mut zombie)?;
        zombie.signal(libc::SIGSTOP);
        let copy = self.copy();
        let mut successor = start(&copy, self.bug);
        self.feed(300);
        self.wait(&mut successor)?;
        successor.kill();
        proxy.reset();
        zombie.signal(libc::SIGCONT);
        let ended = stopped(zombie)?;
        if ended.status.code() == Some(0) || !ended.stderr.contains("another process writes") {
            return Err(format!("the zombie ended with {}\n{}", ended.status, ended.stderr));
        }
        self.feed(300);
        self.settle(start(&copy, self.bug))
    }

    /// Epochs of a producer are used up while the job runs: it leaves the producer before the last of them.
    /// The broker is one of [`raw::UNVERIFIED`].
    pub fn epochs_used_up(&mut self) -> Verdict {
        const USED: i16 = i16::MAX - 70;
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        running.interrupt();
        running.end().expect_code(0);
        let before = Raw::new(self.broker, &self.name).use_epochs(USED);
        let mut running = self.start();
        // An epoch each, more of them than were left.
        for _ in 0..80 {
            self.feed(4);
            self.wait(&mut running)?;
        }
        self.settle(running)?;
        let described = self.broker.tool(
            "org.apache.kafka.tools.TransactionsCommand",
            &["describe-producers", "--topic", "pelton-commits", "--partition", "0"],
            "",
        );
        // ProducerId ProducerEpoch …
        let rows = described.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let last: Vec<i16> = rows
            .filter(|fields| fields.first() == Some(&&*before.to_string()))
            .filter_map(|fields| fields.get(1)?.parse().ok())
            .collect();
        match last[..] {
            [last] if (USED..i16::MAX - 50).contains(&last) => {}
            _ => return Err(format!("producer {before} was not left in time\n{described}")),
        }
        match Raw::new(self.broker, &self.name).id() == before {
            true => Err("the job has its old producer".to_owned()),
            false => self.verdict(),
        }
    }

    /// A transaction hangs of a producer whose epochs are used up: nobody can end it. The broker is one of
    /// [`raw::UNVERIFIED`].
    pub fn hanging_before(&mut self) -> Verdict {
        self.feed(300);
        let mut running = self.start();
        self.wait(&mut running)?;
        running.interrupt();
        running.end().expect_code(0);
        let output = format!("{}-out", self.name);
        let mut raw = Raw::new(self.broker, &self.name);
        raw.use_epochs(i16::MAX - 1);
        raw.leave_hanging(&output, 0, HANGING);
        self.feed(300);
        self.stops_at(&output)
    }

    /// A copy of the job and its state: the lock on the directory does not hold there.
    fn copy(&self) -> Job {
        let copy = Job::new(&self.toml);
        let copied = Command::new("cp")
            .arg("-r")
            .arg(self.job.path("state"))
            .arg(copy.path("state"))
            .status();
        assert!(copied.expect("cp is a command").success());
        copy
    }

    /// Input with transactions that were aborted.
    pub fn aborted_input(&mut self) -> Verdict {
        let running = self.start();
        for _ in 0..3 {
            self.feed(100);
            self.feed_aborted(100);
        }
        self.feed(100);
        self.settle(running)
    }

    /// The broker is killed over and over; the first time it stays away for a while.
    pub fn broker_killed(&mut self, kills: u32) -> Verdict {
        self.feed(1_000);
        let mut running = self.start();
        self.wait(&mut running)?;
        for kill in 1..=kills {
            self.broker.kill();
            std::thread::sleep(Duration::from_secs(if kill == 1 { 3 } else { 0 }));
            if !running.is_running() {
                return Err(format!("it did not wait for the broker\n{}", running.stderr()));
            }
            self.broker.restart();
            self.feed(1_000);
            // Every other one comes while these rows are on their way.
            if kill % 2 == 1 {
                self.wait(&mut running)?;
            }
        }
        self.settle(running)
    }
}

/// How a process ended that another one has succeeded: it must see that by itself.
fn stopped(mut zombie: Running) -> Result<Ended, String> {
    let begun = Instant::now();
    while zombie.is_running() {
        if begun.elapsed() > PATIENCE / 2 {
            zombie.kill();
            return Err("the zombie goes on".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(zombie.end())
}

fn start(job: &Job, bug: Option<&str>) -> Running {
    let Some(bug) = bug else { return job.start() };
    let mut command = Command::new(program::binary());
    command.args(["run", "job.toml", "--progress", "json"]).current_dir(job.dir());
    command.env("PELTON_BUG", bug);
    program::start(command)
}

/// How often something is done: more in the long form of a test, see bench/records.
pub fn times(variable: &str, usually: u32) -> u32 {
    std::env::var(variable).map_or(usually, |times| times.parse().expect("a number"))
}
