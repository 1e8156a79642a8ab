//! One process: started, looked at, struck, and what it left.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::campaign::Run;
use super::strike::{Strike, place_in};
use super::workload::Feed;
use crate::program::{Ended, Running, binary, start};

/// Least time between two looks at the output for the first new file after a start.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for a first output before a process is struck anyway.
const OUTPUT_WAIT: Duration = Duration::from_millis(600);
/// Longest wait for a place to be come to, or a failing fsync, before SIGKILL.
const PLACE_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for the end of all files.
const INPUT_WAIT: Duration = Duration::from_secs(50);
/// Longest wait for an end: of millions of rows on a machine at other work.
const END_WAIT: Duration = Duration::from_secs(900);
/// How long a process finds its disk full.
const FULL_FOR: Duration = Duration::from_millis(250);
/// Within which it goes on by itself, once there is room.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);

/// Whether this process may make another one's fsync fail.
pub(super) fn can_inject() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

impl Run<'_> {
    fn state(&self) -> PathBuf {
        self.job.path("disk/state")
    }

    fn command(&self, program: Command) -> Command {
        let mut command = program;
        command.args(["run", "job.toml", "--progress", "json"]).current_dir(self.job.dir());
        if let Some(bug) = &self.campaign.bug {
            command.env("PELTON_BUG", bug);
        }
        command
    }

    pub(super) fn begin(&self, place: Option<(&str, u64)>) -> Running {
        // A trace of the life before would be taken for one of this.
        let _ = std::fs::remove_file(&self.trace);
        let mut command = self.command(Command::new(binary()));
        command.env("PELTON_FAIL_TRACE", &self.trace);
        if let Some((place, nth)) = place {
            command.env("PELTON_FAIL", format!("{place}:{nth}"));
        }
        start(command)
    }

    /// One process, struck.
    pub(super) fn live(&mut self, strike: &Strike) -> Result<Ended, String> {
        match *strike {
            Strike::Place(place, nth) => {
                let running = self.begin(Some((place, nth)));
                self.await_end(running)
            }
            Strike::Kill(after) => {
                let running = self.begin_and_wait(after)?;
                self.kill(running)
            }
            Strike::Stop(after) => {
                let mut running = self.begin_and_wait(after)?;
                running.signal(libc::SIGSTOP);
                // Before its first place it may not have the lock yet, on a machine at other work.
                if running.is_running() && place_in(&self.trace) != "start" {
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
            Strike::Full(after, goes_on) => {
                let running = self.begin_and_wait(after)?;
                self.find_it_full(running, goes_on)
            }
            Strike::SyncError(nth) => {
                let running = self.begin_with_sync_error(nth);
                let ended = self.await_end(running)?;
                self.outcome.sync_errors += usize::from(!ended.was_killed());
                Ok(ended)
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

    fn begin_with_sync_error(&self, nth: u64) -> Running {
        let _ = std::fs::remove_file(&self.trace);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"]);
        strace.arg(format!("inject=fsync,fdatasync:error=EIO:when={nth}")).arg(binary());
        let mut command = self.command(strace);
        command.env("PELTON_FAIL_TRACE", &self.trace);
        start(command)
    }

    /// The process that stands still owns the state: another one may not touch it.
    fn second_is_refused(&mut self) -> Result<(), String> {
        let second = start(self.command(Command::new(binary()))).end();
        match second.status.code() {
            Some(69 | 74) => {
                self.outcome.refused += 1;
                Ok(())
            }
            _ => Err(format!("a second process was not refused: {second:?}")),
        }
    }

    /// Without room it waits; killed there, or given room, it has lost nothing.
    fn find_it_full(&mut self, mut running: Running, goes_on: bool) -> Result<Ended, String> {
        let disk = self.disk.as_ref().expect("it is struck so where the disk can be filled");
        disk.fill();
        std::thread::sleep(FULL_FOR);
        self.outcome.full_disks += 1;
        if !goes_on {
            running.signal(libc::SIGKILL);
        }
        // What ended by itself may not have found room for its name.
        self.disk.as_ref().expect("as above").free();
        if goes_on && running.is_running() {
            let before = self.reader.newest();
            self.first_output(&mut running, GOES_ON_WITHIN)?;
            self.outcome.went_on += usize::from(self.reader.newest() > before);
            running.signal(libc::SIGKILL);
        }
        self.see_out(running)
    }

    /// Waits for the first new output of a process, its end, or `patience`.
    fn first_output(&mut self, running: &mut Running, patience: Duration) -> Result<(), String> {
        let (began, before) = (Instant::now(), self.reader.newest());
        while running.is_running() && began.elapsed() < patience {
            let looked_at = Instant::now();
            if self.reader.newest() > before {
                if let Some(killed_at) = self.killed_at.take() {
                    self.outcome.restarts.push(killed_at.elapsed());
                }
                // Read by somebody while the job goes on.
                return self.reader.look(&mut self.answer);
            }
            // A directory of thousands of files is not to be listed all the time.
            std::thread::sleep(LOOK_EVERY.max(2 * looked_at.elapsed()));
        }
        Ok(())
    }

    /// A process that ends by itself; where that does not come true, as its input was at an end or the
    /// place not on its way, by SIGKILL.
    fn await_end(&mut self, mut running: Running) -> Result<Ended, String> {
        let began = Instant::now();
        self.first_output(&mut running, PLACE_WAIT)?;
        let patience = match self.campaign.feed {
            // They are read to their end, and that is an end, too.
            Feed::Files => INPUT_WAIT,
            Feed::Socket => PLACE_WAIT,
        };
        while running.is_running() && began.elapsed() < patience {
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill(running)
    }

    fn kill(&mut self, mut running: Running) -> Result<Ended, String> {
        running.kill_all();
        self.see_out(running)
    }

    /// Waits for its end and reads what it left.
    pub(super) fn see_out(&mut self, running: Running) -> Result<Ended, String> {
        let ended = running.end_within(END_WAIT);
        let is_said = |bug: &String| ended.stderr.contains(&format!("has the bug {bug}"));
        if self.campaign.bug.as_ref().is_some_and(|bug| !is_said(bug)) {
            panic!("{} is no build with seeded bugs: {ended:?}", binary().display());
        }
        self.killed_at = None;
        if ended.was_killed() {
            self.killed_at = Some(Instant::now());
            self.outcome.kills += 1;
            let place = place_in(&self.trace);
            let is_restoring = matches!(&*place, "start" | "recover");
            self.outcome.in_recovery += usize::from(is_restoring);
            self.outcome.twice_in_recovery += usize::from(is_restoring && self.was_restoring);
            self.was_restoring = is_restoring;
            *self.outcome.landed.entry(place).or_default() += 1;
        }
        self.reader.heard(&ended)?;
        self.reader.look(&mut self.answer)?;
        if let Some(sender) = &self.sender {
            self.outcome.logs_read += 1;
            sender.resume(&self.state().join("wal"))?;
        }
        Ok(ended)
    }
}
