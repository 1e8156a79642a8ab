//! The thread that commits: epoch N becomes visible while N+1 is ingested and computed.
//!
//! It owns the outputs and the journal. One epoch commits, one that is finished may wait for it: who
//! hands over a third waits ([`Committer::commit`]), and the cores with it once they are full.
//!
//! Invariant: epochs are committed in their order and one at a time; after an error nothing more is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use arrow::array::RecordBatch;
use pelton_engine::batch::DeadLetter;
use pelton_engine::checkpoint::{Changes, Compacted, DELTAS_MAX, Journal};
use pelton_engine::epoch::Finished;
use pelton_engine::error::{Error, Result};
use pelton_engine::failpoint;
use pelton_engine::memory::{Account, Ledger, Pool};
use pelton_engine::outputs::{Outputs, patiently};
use pelton_engine::plan::Query;
use pelton_engine::state::spill::Room;
use serde_json::Value;

use crate::report::Times;
use crate::retry::UntilRoom;

/// A run that fails gives an epoch that is just being committed so long to come through.
const GRACE: Duration = Duration::from_secs(5);

/// An epoch on its way to its commit.
pub struct Epoch {
    pub finished: Box<Finished>,
    /// Of input.
    pub bytes: u64,
    pub times: Times,
}

/// An epoch that is committed, and visible everywhere.
pub struct Done {
    pub epoch: Epoch,
    /// The source's place in the oldest checkpoint that is kept.
    pub oldest: Option<Value>,
}

enum Work {
    /// The first rows of an epoch that goes on.
    Part(u64, RecordBatch, Vec<DeadLetter>),
    /// The first part of what its checkpoint needs, by level.
    Changes(u64, Vec<Changes>),
    Epoch(Epoch),
}

/// The run loop's side.
pub struct Committer {
    work: Option<SyncSender<Work>>,
    done: Receiver<Result<Done>>,
    /// Epochs handed over whose end was not told.
    under_way: usize,
    /// What waits for its turn.
    waiting: Account,
}

impl Committer {
    /// Starts the thread. `wake` is called after each epoch.
    ///
    /// Errors: no thread can be started.
    pub fn start(
        outputs: Outputs,
        journal: Option<Journal>,
        query: Arc<Query>,
        ledger: &Arc<Ledger>,
        base: Room,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Committer> {
        let (work, todo) = sync_channel(0);
        // Nobody hands over more than two before looking.
        let (told, done) = sync_channel(2);
        let memory = ledger.account(Pool::Output);
        let mut commits = Commits { outputs, journal, query, memory, base, compaction: None };
        let run = move || {
            while let Ok(work) = todo.recv() {
                let through = commits.take(work);
                let failed = through.is_err();
                // Who started this thread has ended where nobody listens.
                let is_heard = through.transpose().is_none_or(|done| told.send(done).is_ok());
                wake();
                if failed || !is_heard {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("committer".into())
            .spawn(run)
            .map_err(|error| Error::failed(format!("cannot start a thread: {error}")))?;
        let waiting = ledger.account(Pool::Output);
        Ok(Committer { work: Some(work), done, under_way: 0, waiting })
    }

    /// An epoch is on its way.
    pub fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Hands over the first rows of an epoch that goes on, once the one before is through.
    ///
    /// Errors: why an earlier one could not be committed.
    pub fn part(&mut self, epoch: u64, rows: RecordBatch, letters: Vec<DeadLetter>) -> Result<()> {
        self.hand_over(Work::Part(epoch, rows, letters))
    }

    /// Hands over what the checkpoint of an epoch that goes on needs so far, once the one before is
    /// through.
    ///
    /// Errors: as [`Committer::part`].
    pub fn changes(&mut self, epoch: u64, changes: Vec<Changes>) -> Result<()> {
        self.hand_over(Work::Changes(epoch, changes))
    }

    /// Hands over an epoch; waits while the one before is on its way.
    ///
    /// Errors: as [`Committer::part`].
    pub fn commit(&mut self, epoch: Epoch) -> Result<()> {
        self.waiting.set(epoch.finished.rows.get_array_memory_size());
        self.hand_over(Work::Epoch(epoch))?;
        self.waiting.set(0);
        self.under_way += 1;
        Ok(())
    }

    fn hand_over(&mut self, work: Work) -> Result<()> {
        let sender = self.work.as_ref().expect("it is there until the end");
        sender.send(work).map_err(|_| self.failure())
    }

    /// An epoch that is through and was not told yet.
    ///
    /// Errors: why it could not be committed.
    pub fn through(&mut self) -> Result<Option<Done>> {
        match self.done.try_recv() {
            Ok(done) => self.count(done).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.failure()),
        }
    }

    /// Waits for the next epoch that is through; `None`: there is none under way.
    ///
    /// Errors: as [`Committer::through`].
    pub fn wait(&mut self) -> Result<Option<Done>> {
        if self.under_way == 0 {
            return self.through();
        }
        match self.done.recv() {
            Ok(done) => self.count(done).map(Some),
            Err(_) => Err(self.failure()),
        }
    }

    fn count(&mut self, done: Result<Done>) -> Result<Done> {
        self.under_way = self.under_way.saturating_sub(1);
        done
    }

    /// The thread has ended though it was not asked to: what it said last.
    fn failure(&self) -> Error {
        let told = std::iter::from_fn(|| self.done.try_recv().ok()).find_map(Result::err);
        told.unwrap_or_else(|| Error::failed("the thread that commits has panicked"))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.work = None;
        while self.under_way > 0 {
            match self.done.recv_timeout(GRACE) {
                Ok(_) => self.under_way -= 1,
                // It may wait for a broker for as long as that is away. What it has in hand ends with
                // the process, as at a crash.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// The thread's side.
struct Commits {
    outputs: Outputs,
    journal: Option<Journal>,
    query: Arc<Query>,
    memory: Account,
    /// For a base that memory does not hold.
    base: Room,
    compaction: Option<Receiver<Result<Compacted>>>,
}

impl Commits {
    /// Nothing to tell of parts.
    fn take(&mut self, work: Work) -> Result<Option<Done>> {
        let done = match work {
            Work::Part(epoch, rows, letters) => {
                self.outputs.stage_part(epoch, &rows, &letters)?;
                None
            }
            Work::Changes(epoch, changes) => {
                let journal = self.journal.as_mut().expect("who keeps deltas has a journal");
                patiently(&UntilRoom, "the checkpoint", || journal.stage(epoch, &changes))?;
                None
            }
            Work::Epoch(epoch) => Some(self.commit(epoch)?),
        };
        self.memory.set(self.outputs.bytes_held());
        Ok(done)
    }

    /// Seals the output, publishes the manifest, publishes the output.
    fn commit(&mut self, mut epoch: Epoch) -> Result<Done> {
        let Epoch { finished, times, .. } = &mut epoch;
        times.mark("queue");
        self.memory.set(finished.rows.get_array_memory_size() + self.outputs.bytes_held());
        self.adopt_base()?;
        let mark = |step| times.mark(step);
        self.outputs.commit(self.journal.as_mut(), finished, &UntilRoom, mark)?;
        self.begin_compaction();
        times.mark("commitOffsets");
        failpoint::reach("idle");
        let oldest = self.journal.as_ref().and_then(|journal| journal.oldest_source().cloned());
        Ok(Done { epoch, oldest })
    }

    /// Takes a base that was made beside the epochs.
    fn adopt_base(&mut self) -> Result<()> {
        let Some(receiver) = &self.compaction else { return Ok(()) };
        let journal = self.journal.as_mut().expect("a compaction is of a journal");
        match receiver.try_recv() {
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => journal.give_up_compaction(),
            Ok(made) => journal.adopt(made)?,
        }
        self.compaction = None;
        Ok(())
    }

    fn begin_compaction(&mut self) {
        if self.compaction.is_some() {
            return;
        }
        let Some(journal) = &mut self.journal else { return };
        let Some(work) = journal.compaction(&self.query, DELTAS_MAX) else { return };
        let (sender, receiver) = sync_channel(1);
        let room = self.base.clone();
        std::thread::spawn(move || {
            // Nobody listens any more once the run has ended.
            let _ = sender.send(room.clear().and_then(|()| work.run(Some(&room))));
        });
        self.compaction = Some(receiver);
    }
}
