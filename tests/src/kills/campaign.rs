//! One job from its beginning to its end, struck on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::life::can_inject;
use super::reader::Reader;
use super::sender::Sender;
use super::strike::{Means, Strike};
use super::workload::{self, Answer, Feed, Query};
use crate::data::Random;
use crate::program::Job;
use crate::tmpfs::Tmpfs;

/// One in so many strikes is followed by two during recovery.
const TWICE_EVERY: u64 = 8;
/// Rows that come to nothing new for so long are lost.
const STILL_MAX: Duration = Duration::from_secs(10);
/// What a job that is through still might do.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Of the disk that is filled: room for the output of some million rows.
const DISK_SIZE: &str = "256m";

pub struct Campaign {
    pub seed: u64,
    pub query: Query,
    pub feed: Feed,
    pub cores: String,
    pub rows: u64,
    pub max_epoch_bytes: String,
    /// SIGKILLs after which the job is left alone.
    pub kills: usize,
    /// Output and state lie on a disk that can be filled, where this machine lets it be mounted; and a
    /// failing fsync may be injected.
    pub faults: bool,
    /// The bug that a build for it turns on.
    pub bug: Option<String>,
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
    /// Kills of a process whose predecessor was killed before it had restored.
    pub twice_in_recovery: usize,
    pub stops: usize,
    pub terminations: usize,
    /// Second processes that were refused while the first stood still.
    pub refused: usize,
    /// Times that the disk was full, and those of them after which it went on by itself.
    pub full_disks: usize,
    pub went_on: usize,
    /// Processes that stopped because an fsync failed.
    pub sync_errors: usize,
    /// Times that the write-ahead log was read back to know what to send next.
    pub logs_read: usize,
    /// From a SIGKILL to the first new output of the next process, where it lived to see it.
    pub restarts: Vec<Duration>,
    /// What this machine does not allow.
    pub untried: Vec<String>,
    pub took: Duration,
}

pub(super) struct Run<'a> {
    pub campaign: &'a Campaign,
    pub disk: Option<Tmpfs>,
    pub job: Job,
    pub trace: PathBuf,
    pub answer: Answer,
    pub reader: Reader,
    pub sender: Option<Sender>,
    pub outcome: Outcome,
    pub killed_at: Option<Instant>,
    /// The process before was killed while it restored.
    pub was_restoring: bool,
}

impl Campaign {
    /// Runs it. Errors: what was lost, doubled, changed or not accounted for.
    pub fn run(&self) -> Result<Outcome, String> {
        let began = Instant::now();
        let failed = |error: std::io::Error| format!("cannot make the input: {error}");
        let (mut text, mut answer) = (None, None);
        if self.feed == Feed::Socket {
            let (rows, of_them) = workload::text(self.query, self.rows, self.seed);
            (text, answer) = (Some(rows), Some(of_them));
        }
        let sender = text.map(|text| Sender::new(text, self.seed)).transpose().map_err(failed)?;
        let source = match &sender {
            None => "type = \"file\"\npath = \"data/part-*.csv\"\nend = true".to_owned(),
            Some(sender) => format!("type = \"socket\"\naddress = \"{}\"", sender.address()),
        };
        let job = Job::new(&self.query.toml(&source, &self.cores, &self.max_epoch_bytes));
        let answer = match answer {
            Some(answer) => answer,
            None => workload::files(job.dir(), self.query, self.rows, self.seed).map_err(failed)?,
        };
        let place = job.path("disk");
        std::fs::create_dir_all(&place).map_err(failed)?;
        let mut run = Run {
            campaign: self,
            disk: self.faults.then(|| Tmpfs::mount(&place, DISK_SIZE)).flatten(),
            trace: job.path("trace"),
            reader: Reader::new(&place),
            job,
            outcome: Outcome { rows: answer.fates.rows_in, ..Outcome::default() },
            answer,
            sender,
            killed_at: None,
            was_restoring: false,
        };
        run.strike_on()?;
        run.finish()?;
        run.outcome.took = began.elapsed();
        Ok(run.outcome)
    }
}

impl Run<'_> {
    fn means(&mut self) -> Means {
        let faults = self.campaign.faults;
        let means = Means { full_disks: self.disk.is_some(), sync_errors: faults && can_inject() };
        for (is_tried, what) in [
            (means.full_disks, "a full disk: no right to mount a tmpfs"),
            (means.sync_errors, "a failing fsync: no strace, or no right to trace a process"),
        ] {
            if faults && !is_tried {
                self.outcome.untried.push(what.to_owned());
            }
        }
        means
    }

    fn strike_on(&mut self) -> Result<(), String> {
        let mut random = Random::new(self.campaign.seed ^ 0x6b69_6c6c);
        let kind = (self.campaign.query, self.campaign.feed);
        let means = self.means();
        let mut recoveries = 0;
        while self.outcome.kills < self.campaign.kills {
            let strike = match recoveries {
                0 => Strike::any(&mut random, means, kind),
                _ => Strike::recovery(&mut random),
            };
            recoveries = match recoveries {
                0 if random.below(TWICE_EVERY) == 0 => 2,
                left => left - usize::from(left > 0),
            };
            if let Some(sender) = &self.sender {
                // Spread over the kills that are left, so that none finds the input at its end.
                let share = sender.left() / (self.campaign.kills - self.outcome.kills);
                sender.allow(share / 2 + random.below(share as u64 + 1) as usize);
            }
            let ended = self.live(&strike).map_err(|why| format!("{why}, at {strike:?}"))?;
            let code = ended.status.code();
            if ended.was_killed() || strike.may_end_with(code) {
                continue;
            }
            if code == Some(0) && self.campaign.feed == Feed::Files {
                // The input's end came first.
                return Ok(());
            }
            return Err(format!("it ended by itself at {strike:?}: {ended:?}"));
        }
        Ok(())
    }

    /// Left alone it comes to its end, and does nothing more after it.
    fn finish(&mut self) -> Result<(), String> {
        for round in 0..2 {
            if let Some(sender) = &self.sender {
                sender.allow(usize::MAX);
            }
            let mut running = self.begin(None);
            if self.campaign.feed == Feed::Socket {
                self.wait_for_all(&mut running)?;
                if round == 1 {
                    std::thread::sleep(AFTERMATH);
                }
                running.interrupt();
            }
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

    /// Waits until everything came out, or nothing does any more.
    fn wait_for_all(&mut self, running: &mut crate::program::Running) -> Result<(), String> {
        let (mut last, mut since) = (None, Instant::now());
        while !self.answer.is_complete() && running.is_running() && since.elapsed() < STILL_MAX {
            let newest = self.reader.newest();
            if newest != last {
                (last, since) = (newest, Instant::now());
                self.reader.look(&mut self.answer)?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
