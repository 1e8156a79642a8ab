//! The outputs of a job and the protocol that commits an epoch to all of them.
//!
//! ```text
//! the manifest decides:  stage, seal ─▶ manifest published ─▶ commit everywhere
//! an output decides:     stage, seal ─▶ manifest prepared ─▶ its commit ─▶ manifest published ─▶ the others
//! ```
//! Invariant: what leaves is committed once. An output that decides and answers `Not` gets the same
//! rows again, in a new attempt; one that answers `Unknown` is asked for its marker before anything
//! else; after `Fenced` nothing more is touched. No clock: how long to wait for room on a full disk
//! is the caller's [`Patience`].

use std::collections::BTreeMap;
use std::io::ErrorKind;

use arrow::array::RecordBatch;

use crate::batch::DeadLetter;
use crate::checkpoint::{Journal, Prepared};
use crate::epoch::{Finished, Restored};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::job::spec::SinkOf;
use crate::seeded::{self, Bug};
use crate::sink::dead_letter::dead_letters;
use crate::sink::{self, Committed, Decides, Marker, Outcome, Sink, Staged};

/// What to do while there is no room.
pub trait Patience {
    /// Waits a while and says whether to try again; `first`: it is the first time for this.
    fn wait(&self, what: &str, error: &Error, first: bool) -> bool;

    /// There is room again.
    fn over(&self, what: &str);
}

/// Repeats `attempt` as long as it fails for want of room and patience lasts.
///
/// Errors: any other error at once.
pub fn patiently<T>(
    patience: &dyn Patience,
    what: &str,
    attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    repeat(patience, what, Error::wants_room, attempt)
}

fn repeat<T>(
    patience: &dyn Patience,
    what: &str,
    passes: fn(&Error) -> bool,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut paused = false;
    loop {
        match attempt() {
            Err(error) if passes(&error) && patience.wait(what, &error, !paused) => {
                paused = true;
            }
            result => {
                if paused && result.is_ok() {
                    patience.over(what);
                }
                return result;
            }
        }
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. })
}

/// A sink of a job: its name in the job file, and which rows it takes.
pub struct Output {
    pub name: String,
    pub of: SinkOf,
    pub sink: Box<dyn Sink>,
}

/// Dead letters that become rows together: a stream of them is not held twice (F08).
const LETTERS_AT_ONCE: usize = 4096;

impl Output {
    /// Hands over what is its own: rows, late rows at an epoch's end, or dead letters.
    fn stage(
        &mut self,
        epoch: u64,
        (rows, late): (&RecordBatch, Option<&RecordBatch>),
        letters: &[DeadLetter],
    ) -> Result<()> {
        match self.of {
            SinkOf::Rows => self.sink.stage(epoch, rows),
            SinkOf::Late => late.map_or(Ok(()), |late| self.sink.stage(epoch, late)),
            SinkOf::DeadLetters => {
                let mut some = letters.chunks(LETTERS_AT_ONCE);
                some.try_for_each(|letters| self.sink.stage(epoch, &dead_letters(letters)))
            }
        }
    }
}

pub struct Outputs {
    outputs: Vec<Output>,
    /// The one whose transaction is the commit point.
    decides: Option<usize>,
    /// Rows of the running epoch were staged before its end.
    has_parts: bool,
    /// Those of the output that decides, which may ask for them again.
    held: Vec<(RecordBatch, Vec<DeadLetter>)>,
}

impl Outputs {
    pub fn new(outputs: Vec<Output>) -> Outputs {
        Outputs { outputs, decides: None, has_parts: false, held: Vec::new() }
    }

    /// Asks every output whose commit counts; the journal is opened with the answer.
    ///
    /// Errors: those of the sinks; `BadJob` where two outputs would decide.
    pub fn marker(&mut self) -> Result<Marker> {
        let mut marker = Marker::Manifest;
        for (at, Output { name, sink, .. }) in self.outputs.iter_mut().enumerate() {
            let Decides::Output(committed) = sink.marker()? else { continue };
            if seeded::is(Bug::OffsetsBeforeTransaction) {
                continue;
            }
            if let Marker::Output { name: other, .. } = &marker {
                return Err(Error::BadJob {
                    rendered: format!(
                        "the outputs \"{other}\" and \"{name}\" each commit transactions of their \
                         own, and an epoch has one commit point\n   = let one of them take the rows"
                    ),
                });
            }
            self.decides = Some(at);
            marker = Marker::Output { name: name.clone(), committed };
        }
        Ok(marker)
    }

    /// Sees a finished epoch through: it is committed, and visible everywhere, on return. `done` is
    /// told the name that Spark has for each step.
    ///
    /// Errors: those of the steps below; what was committed stays so, and the next start publishes
    /// the rest of it.
    pub fn commit(
        &mut self,
        mut journal: Option<&mut Journal>,
        finished: &Finished,
        patience: &dyn Patience,
        mut done: impl FnMut(&'static str),
    ) -> Result<Committed> {
        let early = seeded::is(Bug::OffsetsBeforeOutput) && self.decides.is_none();
        let commit = || finished.commit(journal.as_deref_mut(), BTreeMap::new());
        let early = early.then(commit).transpose()?;
        let staged = self.stage(finished, patience)?;
        done("stage");
        failpoint::reach("stage");
        if seeded::is(Bug::OutputBeforeManifest) {
            self.publish(&Committed { epoch: finished.epoch, manifest_hash: 0 }, patience)?;
        }
        if seeded::is(Bug::LettersBeforeManifest) {
            let early = Committed { epoch: finished.epoch, manifest_hash: 0 };
            for output in &mut self.outputs {
                if matches!(output.of, SinkOf::DeadLetters) {
                    output.sink.commit(&early)?;
                }
            }
        }
        let committed = match early {
            Some(early) => early,
            None => self.decide(journal.as_deref_mut(), finished, staged, patience)?,
        };
        done("walCommit");
        failpoint::reach("commit");
        self.publish(&committed, patience)?;
        if let Some(journal) = journal {
            journal.collect_garbage();
        }
        Ok(committed)
    }

    /// Opens every output at the checkpoint that the job goes on from.
    ///
    /// Errors: those of the sinks; `StateIo` where newer checkpoints cannot be read and an output
    /// is ahead of the older one that was restored.
    pub fn open(&mut self, restored: Option<&Restored>) -> Result<()> {
        for Output { name, sink, .. } in &mut self.outputs {
            let at = restored.map(|restored| sink::Restored {
                checkpoint: restored.committed.clone(),
                staged: restored.sinks.get(name).cloned().unwrap_or_default(),
            });
            sink.open(at.as_ref()).map_err(|error| match restored {
                Some(restored) if !restored.passed_over.is_empty() => ahead(name, restored, &error),
                _ => error,
            })?;
        }
        failpoint::reach("reopen");
        Ok(())
    }

    /// Hands the first rows of an epoch, and its first dead letters, over while it goes on.
    ///
    /// Errors: those of the sinks. A full disk is not waited for here: a sink that lost rows must get
    /// the epoch from its beginning, and nobody holds these rows any more; the job ends, and a
    /// restart reads them again.
    pub fn stage_part(
        &mut self,
        epoch: u64,
        rows: &RecordBatch,
        letters: &[DeadLetter],
    ) -> Result<()> {
        if rows.num_rows() == 0 && letters.is_empty() {
            return Ok(());
        }
        self.has_parts = true;
        match self.decides.map(|at| self.outputs[at].of) {
            Some(SinkOf::Rows) => self.held.push((rows.clone(), Vec::new())),
            Some(SinkOf::DeadLetters) => {
                self.held.push((RecordBatch::new_empty(rows.schema()), letters.to_vec()));
            }
            // Late rows come at the end of an epoch, all at once.
            Some(SinkOf::Late) | None => {}
        }
        self.outputs.iter_mut().try_for_each(|output| output.stage(epoch, (rows, None), letters))
    }

    /// Hands an epoch's rows to the sinks and makes them durable there, not yet visible; waits where
    /// an output has no room. What the manifest must keep, by the sink's name.
    fn stage(
        &mut self,
        finished: &Finished,
        patience: &dyn Patience,
    ) -> Result<BTreeMap<String, Staged>> {
        let all = 0..self.outputs.len();
        all.map(|at| {
            Ok((self.outputs[at].name.clone(), self.stage_one(at, finished, false, patience)?))
        })
        .collect()
    }

    fn stage_one(
        &mut self,
        at: usize,
        finished: &Finished,
        again: bool,
        patience: &dyn Patience,
    ) -> Result<Staged> {
        let Finished { epoch, rows, late, dead_letters, .. } = finished;
        let rows = (rows, late.as_ref());
        let output = &mut self.outputs[at];
        if self.has_parts && !again {
            // The rows before these cannot be staged again.
            output.stage(*epoch, rows, dead_letters)?;
            return output.sink.seal(*epoch);
        }
        let before = if self.decides == Some(at) { &self.held[..] } else { &[] };
        patiently(patience, &format!("the output \"{}\"", output.name), || {
            let mut before = before.iter();
            let staged = before
                .try_for_each(|(rows, letters)| output.stage(*epoch, (rows, None), letters))
                .and_then(|()| output.stage(*epoch, rows, dead_letters));
            let sealed = staged.and_then(|()| output.sink.seal(*epoch));
            if sealed.is_err() {
                // What a full disk keeps from being removed goes with the next attempt.
                let _ = output.sink.discard();
            }
            sealed
        })
    }

    /// Bytes that the sinks buffer, and those of rows that may be asked for again.
    pub fn bytes_held(&self) -> usize {
        let held = self.held.iter().map(|(rows, letters)| {
            let letters: usize = letters.iter().map(DeadLetter::bytes_held).sum();
            rows.get_array_memory_size() + letters
        });
        held.chain(self.outputs.iter().map(|output| output.sink.bytes_held())).sum()
    }

    /// The commit point: after it the epoch counts.
    ///
    /// Errors: those of the checkpoint and of an output that decides; the epoch may be committed
    /// all the same where the outcome stayed unknown, and the next start finds out.
    fn decide(
        &mut self,
        mut journal: Option<&mut Journal>,
        finished: &Finished,
        mut staged: BTreeMap<String, Staged>,
        patience: &dyn Patience,
    ) -> Result<Committed> {
        let Some(at) = self.decides else {
            let commit = || finished.commit(journal.as_deref_mut(), staged.clone());
            return patiently(patience, "the checkpoint", commit);
        };
        let journal = journal.expect("an output commits transactions with a checkpoint only");
        loop {
            let prepare = || finished.prepare(journal, staged.clone());
            let prepared = patiently(patience, "the checkpoint", prepare)?;
            if self.is_committed(at, &prepared, patience)? {
                return patiently(patience, "the checkpoint", || journal.confirm(&prepared));
            }
            journal.abandon(prepared);
            self.outputs[at].sink.discard()?;
            let name = self.outputs[at].name.clone();
            staged.insert(name, self.stage_one(at, finished, true, patience)?);
        }
    }

    /// Whether the transaction of the output that decides came to its commit.
    fn is_committed(
        &mut self,
        at: usize,
        prepared: &Prepared,
        patience: &dyn Patience,
    ) -> Result<bool> {
        let Output { name, sink, .. } = &mut self.outputs[at];
        let checkpoint = prepared.committed();
        match sink.commit(&checkpoint)? {
            Outcome::Committed => Ok(true),
            Outcome::Not => Ok(false),
            Outcome::Unknown if seeded::is(Bug::UnknownTakenAsCommitted) => Ok(true),
            Outcome::Unknown if seeded::is(Bug::UnknownTakenAsNot) => Ok(false),
            Outcome::Unknown => {
                let what = format!("asking \"{name}\" for its last commit");
                let marker = repeat(patience, &what, is_away, || sink.marker())?;
                let Decides::Output(last) = marker else {
                    unreachable!("an output that decides goes on to decide");
                };
                match last {
                    Some(last) if last == checkpoint => Ok(true),
                    Some(last) if last.epoch >= checkpoint.epoch => Err(fenced(name)),
                    _ => Ok(false),
                }
            }
            Outcome::Fenced if seeded::is(Bug::FencedIgnored) => Ok(true),
            Outcome::Fenced => Err(fenced(name)),
        }
    }

    /// Makes the epoch visible everywhere. It is committed already, so this is repeated until it
    /// succeeds.
    fn publish(&mut self, committed: &Committed, patience: &dyn Patience) -> Result<()> {
        self.has_parts = false;
        self.held.clear();
        for (at, Output { name, sink, .. }) in self.outputs.iter_mut().enumerate() {
            if self.decides == Some(at) {
                continue;
            }
            let what = format!("publishing to \"{name}\"");
            match patiently(patience, &what, || sink.commit(committed))? {
                Outcome::Committed => {}
                outcome @ (Outcome::Not | Outcome::Unknown | Outcome::Fenced) => {
                    return Err(Error::failed(format!(
                        "the output \"{name}\" answers {outcome:?} to epoch {}; start the job \
                         again: it publishes the epoch from the checkpoint",
                        committed.epoch
                    )));
                }
            }
        }
        Ok(())
    }
}

fn fenced(name: &str) -> Error {
    Error::Unavailable {
        what: format!("another process writes to the output \"{name}\" now"),
        fix: "stop one of the two, or give each job a name of its own".into(),
    }
}

/// An older checkpoint was restored, and something newer has left already.
fn ahead(name: &str, restored: &Restored, refused: &Error) -> Error {
    let source = std::io::Error::new(
        ErrorKind::InvalidData,
        format!(
            "{}; epoch {} before it cannot be used, as the output \"{name}\" does not stand there: \
             {refused}",
            restored.passed_over.join("; "),
            restored.committed.epoch
        ),
    );
    Error::StateIo { what: "cannot go on from the newest checkpoint".into(), source }
}
