//! One job from its beginning to its end, struck on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::reader::Reader;
use super::strike::{Strike, place_in};
use super::workload::{Answer, Query, make};
use crate::data::Random;
use crate::program::{Ended, Job, Running, binary, start};

/// How often the output is looked at for the first new file after a start.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for a first output before a process is struck anyway.
const OUTPUT_WAIT: Duration = Duration::from_millis(600);
/// One in so many strikes is followed by two during recovery.
const TWICE_EVERY: u64 = 8;

pub struct Campaign {
    pub seed: u64,
    pub query: Query,
    pub cores: String,
    pub rows: u64,
    pub max_epoch_bytes: String,
    /// SIGKILLs after which the job is left alone.
    pub kills: usize,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub rows: u64,
    pub result_rows: usize,
    pub epochs: usize,
    pub kills: usize,
    /// Kills by the last place that the process came to.
    pub landed: BTreeMap<String, usize>,
    /// Kills of processes that had not restored yet.
    pub in_recovery: usize,
    pub stops: usize,
    pub terminations: usize,
    /// Second processes that were refused while the first stood still.
    pub refused: usize,
    /// From a SIGKILL to the first new output of the next process, where it lived to see it.
    pub restarts: Vec<Duration>,
    pub took: Duration,
}

struct Run<'a> {
    campaign: &'a Campaign,
    job: Job,
    trace: PathBuf,
    answer: Answer,
    reader: Reader,
    outcome: Outcome,
    killed_at: Option<Instant>,
}

impl Campaign {
    /// Runs it. Errors: what was lost, doubled, changed or not accounted for.
    pub fn run(&self) -> Result<Outcome, String> {
        let job = Job::new(&self.query.toml(&self.cores, &self.max_epoch_bytes));
        let answer = make(job.dir(), self.query, self.rows, self.seed)
            .map_err(|error| format!("cannot write the input: {error}"))?;
        let began = Instant::now();
        let mut run = Run {
            campaign: self,
            trace: job.path("trace"),
            reader: Reader::new(job.dir()),
            job,
            outcome: Outcome { rows: answer.fates.rows_in, ..Outcome::default() },
            answer,
            killed_at: None,
        };
        run.strike_on()?;
        run.finish()?;
        run.outcome.took = began.elapsed();
        Ok(run.outcome)
    }
}

impl Run<'_> {
    fn strike_on(&mut self) -> Result<(), String> {
        let mut random = Random::new(self.campaign.seed ^ 0x6b69_6c6c);
        let mut recoveries = 0;
        while self.outcome.kills < self.campaign.kills {
            let strike = match recoveries {
                0 => Strike::any(&mut random),
                _ => Strike::recovery(&mut random),
            };
            let strike = match (self.campaign.query, strike) {
                // There is nothing to merge: it would never come there, and run to its end.
                (Query::PassThrough, Strike::Place("merge", nth)) => Strike::Place("barrier", nth),
                (_, strike) => strike,
            };
            recoveries = match recoveries {
                0 if random.below(TWICE_EVERY) == 0 => 2,
                left => left - usize::from(left > 0),
            };
            let is_term = matches!(strike, Strike::Term(_) | Strike::TermTwice(_));
            let ended = self.live(&strike).map_err(|why| format!("{why}, at {strike:?}"))?;
            let was_told_to_stop = is_term && ended.status.code() == Some(130);
            if !ended.was_killed() && !was_told_to_stop && ended.status.code() != Some(0) {
                return Err(format!("it ended by itself at {strike:?}: {ended:?}"));
            }
            if ended.status.code() == Some(0) && !is_term {
                // The input's end came first.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Left alone it comes to its end, and says once more that it has.
    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let running = self.begin(None);
            let ended = self.see_out(running)?;
            if ended.status.code() != Some(0) {
                return Err(format!("left alone it did not come to its end: {ended:?}"));
            }
        }
        self.answer.check_complete()?;
        let fates = self.reader.fates()?;
        if fates != self.answer.fates {
            return Err(format!("it accounts for {fates:?}, not {:?}", self.answer.fates));
        }
        self.outcome.result_rows = self.answer.rows();
        self.outcome.epochs = self.reader.epochs();
        Ok(())
    }

    fn begin(&self, place: Option<(&str, u64)>) -> Running {
        // A trace of the life before would be taken for one of this.
        let _ = std::fs::remove_file(&self.trace);
        let mut command = Command::new(binary());
        command.args(["run", "job.toml", "--progress", "json"]).current_dir(self.job.dir());
        command.env("PELTON_FAIL_TRACE", &self.trace);
        if let Some((place, nth)) = place {
            command.env("PELTON_FAIL", format!("{place}:{nth}"));
        }
        start(command)
    }

    /// One process, struck.
    fn live(&mut self, strike: &Strike) -> Result<Ended, String> {
        match *strike {
            Strike::Place(place, nth) => {
                let mut running = self.begin(Some((place, nth)));
                self.first_output(&mut running, Duration::MAX)?;
                self.see_out(running)
            }
            Strike::Kill(after) => {
                let running = self.begin_and_wait(after)?;
                self.kill(running)
            }
            Strike::Stop(after) => {
                let mut running = self.begin_and_wait(after)?;
                running.signal(libc::SIGSTOP);
                if running.is_running() {
                    self.outcome.stops += 1;
                    self.second_is_refused()?;
                }
                running.signal(libc::SIGCONT);
                std::thread::sleep(after);
                self.kill(running)
            }
            Strike::Term(after) => {
                let mut running = self.begin_and_wait(after)?;
                running.signal(libc::SIGTERM);
                self.outcome.terminations += 1;
                self.see_out(running)
            }
            Strike::TermTwice(after) => {
                let mut running = self.begin_and_wait(after)?;
                running.signal(libc::SIGTERM);
                running.signal(libc::SIGTERM);
                self.outcome.terminations += 1;
                self.see_out(running)
            }
        }
    }

    /// A process that has brought something out, or had time to, and went on for a while.
    fn begin_and_wait(&mut self, after: Duration) -> Result<Running, String> {
        let mut running = self.begin(None);
        self.first_output(&mut running, OUTPUT_WAIT)?;
        std::thread::sleep(after);
        Ok(running)
    }

    /// The process that stands still owns the state: another one may not touch it.
    fn second_is_refused(&mut self) -> Result<(), String> {
        let mut command = Command::new(binary());
        command.args(["run", "job.toml"]).current_dir(self.job.dir());
        let second = start(command).end();
        match second.status.code() {
            Some(69 | 74) => {
                self.outcome.refused += 1;
                Ok(())
            }
            _ => Err(format!("a second process was not refused: {second:?}")),
        }
    }

    /// Waits for the first new output of a process, its end, or `patience`.
    fn first_output(&mut self, running: &mut Running, patience: Duration) -> Result<(), String> {
        let (began, before) = (Instant::now(), Reader::newest(self.job.dir()));
        while running.is_running() && began.elapsed() < patience {
            if Reader::newest(self.job.dir()) > before {
                if let Some(killed_at) = self.killed_at.take() {
                    self.outcome.restarts.push(killed_at.elapsed());
                }
                // Read by somebody while the job goes on.
                return self.reader.look(&mut self.answer);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn kill(&mut self, mut running: Running) -> Result<Ended, String> {
        running.signal(libc::SIGKILL);
        self.see_out(running)
    }

    /// Waits for its end and reads what it left.
    fn see_out(&mut self, running: Running) -> Result<Ended, String> {
        let ended = running.end();
        self.killed_at = None;
        if ended.was_killed() {
            self.killed_at = Some(Instant::now());
            self.outcome.kills += 1;
            let place = place_in(&self.trace);
            self.outcome.in_recovery += usize::from(matches!(&*place, "start" | "recover"));
            *self.outcome.landed.entry(place).or_default() += 1;
        }
        self.reader.heard(&ended)?;
        self.reader.look(&mut self.answer)?;
        Ok(ended)
    }
}
