//! Files, one an epoch and sink, that appear whole and once.
//!
//! ```text
//! out/epoch-000012-0.csv                        what readers take: `epoch-*`
//! out/_pelton/epoch-000012.json                 the epoch's files with length and hash, its checkpoint
//! out/_pelton/staging/epoch-000012-0.<attempt>  written, not yet published
//! ```
//! Invariant: a file gets its final name only after the checkpoint that holds its epoch was
//! published, and the epoch's own JSON file only after that. What was staged is durable before the
//! checkpoint, which keeps the list ([`Sealed`]), so publication can be repeated after any crash.
//! The list also names the epoch that this directory published before: checkpoint and directory are
//! one chain, and a directory of another run is refused. An epoch without rows leaves no trace.
//!
//! Not here: rolling by size or time, partitioned directories, appending to a file.

mod encode;
mod ledger;

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::dead_letter;
use super::{Committed, Decides, Outcome, Restored, Sink, Staged};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::job::spec::FileFormat;
use crate::seeded::{self, Bug};
use crate::storage::{LocalStorage, Storage, write_durably};
use encode::{EncodeError, Encoder};
use ledger::{Decision, Mark, OutputFile, Sealed};

const LEDGER: &str = "_pelton";
const STAGING: &str = "_pelton/staging";

pub struct FileSink {
    storage: Arc<dyn Storage>,
    format: FileFormat,
    /// Differs from that of every other run, so that no two runs write the same staging file.
    attempt: String,
    /// Files that this run has staged.
    staged: u64,
    /// Files that other runs staged for epochs that were not committed when this one began, and JSON
    /// files that they did not come to name.
    leftovers: Vec<String>,
    phase: Phase,
    /// The newest epoch of which this directory has files.
    last: Option<Mark>,
}

enum Phase {
    Idle,
    Writing {
        epoch: u64,
        file: Box<Staging>,
    },
    /// Some of the epoch's rows are lost: it must be discarded and staged from its beginning.
    Failed,
    Sealed {
        epoch: u64,
        sealed: Sealed,
    },
}

struct Staging {
    name: String,
    encoder: Encoder,
}

impl FileSink {
    /// A sink that writes below a directory, which is made where it is missing.
    ///
    /// Errors: `Unavailable`.
    pub fn at(path: &Path, format: FileFormat, attempt: String) -> Result<FileSink> {
        let storage = LocalStorage::open(path).map_err(|error| not_writable(path, &error))?;
        Ok(FileSink::new(Arc::new(storage), format, attempt))
    }

    pub fn new(storage: Arc<dyn Storage>, format: FileFormat, attempt: String) -> FileSink {
        FileSink {
            storage,
            format,
            attempt,
            staged: 0,
            leftovers: Vec::new(),
            phase: Phase::Idle,
            last: None,
        }
    }

    /// Finds out early that nothing can be written here.
    fn prepare(&self) -> io::Result<()> {
        self.storage.create_dir_all(STAGING)?;
        let probe = format!("{STAGING}/probe.{}", self.attempt);
        match self.storage.create(&probe) {
            // An earlier probe could be made and not be removed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => drop(other?),
        }
        match self.storage.remove(&probe) {
            // Where a file appears whole or not at all, an unfinished one was never there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Opens the staging file of an epoch under a name that no file has.
    fn begin(&mut self, epoch: u64) -> io::Result<Staging> {
        loop {
            let name = format!(
                "{STAGING}/{}.{}-{}",
                ledger::file_name(epoch, self.format),
                self.attempt,
                self.staged
            );
            self.staged += 1;
            match self.storage.create(&name) {
                Ok(file) => return Ok(Staging { name, encoder: Encoder::new(self.format, file) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Throws a staging file away. One that cannot be removed is collected by the next `open`.
    fn forget(&self, name: &str) {
        let _ = self.storage.remove(name);
    }

    fn cannot_stage(&self, source: io::Error) -> Error {
        let what = format!("cannot write output below {}", self.storage.location());
        Error::StateIo { what, source }
    }

    fn cannot_encode(&self, error: EncodeError) -> Error {
        match error {
            EncodeError::File(source) => self.cannot_stage(source),
            EncodeError::Rows(why) => {
                let place = self.storage.location();
                Error::failed(format!("the format of the files in {place} cannot hold: {why}"))
            }
        }
    }

    fn cannot_publish(&self, epoch: u64, source: io::Error) -> Error {
        let place = self.storage.location();
        Error::StateIo { what: format!("cannot publish epoch {epoch} in {place}"), source }
    }

    /// Gives the staged files their final names and then writes the epoch's JSON file. What was
    /// done before a crash is found done.
    ///
    /// `verify`: the files were written by another run; their hashes are compared first.
    fn publish(&self, sealed: &Sealed, mark: &Mark, verify: bool) -> io::Result<()> {
        for file in &sealed.files {
            if verify && file.read(&*self.storage, &file.staged)? == ledger::Found::Damaged {
                return Err(file.lost(&file.staged));
            }
            match self.storage.rename(&file.staged, &file.name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Published before a crash, or by a call that failed later on.
                    if file.read(&*self.storage, &file.name)? != ledger::Found::Whole {
                        return Err(file.lost(&file.name));
                    }
                }
                other => other?,
            }
        }
        failpoint::reach("publish");
        self.storage.sync_dir("")?;
        let bytes = ledger::to_bytes(mark, &sealed.files);
        write_durably(&*self.storage, &ledger::mark_name(mark.epoch), &bytes)
    }

    /// Removes what runs before this one staged up to the checkpoint's epoch. What they staged beyond
    /// it may belong to a run that is taken for dead and is not, or to a damaged checkpoint that was
    /// passed over: only a commit of this run says that nobody needs it.
    fn look_for_leftovers(&mut self, restored: Option<&Restored>) -> io::Result<()> {
        let restored = restored.map(|restored| restored.checkpoint.epoch);
        let unfinished = std::mem::take(&mut self.leftovers);
        let names = self.storage.list(STAGING)?;
        let names = names.iter().map(|name| (ledger::epoch_of(name), format!("{STAGING}/{name}")));
        let (done, open): (Vec<_>, Vec<_>) = names.partition(|(epoch, _)| *epoch <= restored);
        self.leftovers = done.into_iter().map(|(_, name)| name).collect();
        self.remove_leftovers();
        self.leftovers = open.into_iter().map(|(_, name)| name).collect();
        self.leftovers.extend(unfinished);
        if seeded::is(Bug::LeftoversPublished) {
            for name in self.leftovers.iter().filter(|name| name.starts_with(STAGING)) {
                let published = name.trim_start_matches(&format!("{STAGING}/"));
                let epoch = ledger::epoch_of(published).unwrap_or_default();
                self.storage.rename(name, &ledger::file_name(epoch, self.format))?;
            }
        }
        Ok(())
    }

    /// One that cannot be removed is found again by the next `open`.
    fn remove_leftovers(&mut self) {
        let names = std::mem::take(&mut self.leftovers);
        names.iter().for_each(|name| self.forget(name));
        if !names.is_empty() {
            let _ = self.storage.sync_dir(STAGING);
        }
    }

    fn recover(&mut self, restored: Option<&Restored>) -> Result<()> {
        let place = self.storage.location();
        let cannot_read = |source| Error::StateIo {
            what: format!("cannot read what {place} holds already"),
            source,
        };
        // What a killed process renamed is seen, but may not be durable; what follows relies on it.
        self.storage
            .sync_dir("")
            .and_then(|()| self.storage.sync_dir(LEDGER))
            .map_err(cannot_read)?;
        let found = ledger::read(&*self.storage).map_err(cannot_read)?;
        self.leftovers.clone_from(&found.unfinished);
        let decision = ledger::decide(&found, restored).map_err(|reason| Error::Unavailable {
            what: format!("{place} holds the output of another run: {reason}"),
            fix: "give this job an empty directory, or the [checkpoint] path that belongs to the \
                  output"
                .to_owned(),
        })?;
        match decision {
            Decision::Continue { last } => self.last = last,
            Decision::Publish { sealed, mark } => {
                self.publish(&sealed, &mark, true)
                    .map_err(|source| self.cannot_publish(mark.epoch, source))?;
                self.last = Some(mark);
            }
        }
        Ok(())
    }

    fn write(&mut self, epoch: u64, rows: &RecordBatch) -> Result<()> {
        if matches!(self.phase, Phase::Idle) {
            let file = self.begin(epoch).map_err(|source| self.cannot_stage(source))?;
            self.phase = Phase::Writing { epoch, file: Box::new(file) };
        }
        match &mut self.phase {
            Phase::Writing { epoch: open, file } => {
                assert_eq!(*open, epoch, "an epoch is sealed before rows of the next are staged");
                file.encoder.write(rows).map_err(|error| self.cannot_encode(error))
            }
            Phase::Failed => Err(Error::failed("staging failed: discard the epoch first")),
            Phase::Idle | Phase::Sealed { .. } => {
                unreachable!("a sealed epoch is committed or discarded before rows are staged")
            }
        }
    }

    fn finish(&self, epoch: u64, file: Staging) -> Result<OutputFile> {
        let written = file.encoder.finish().map_err(|error| self.cannot_encode(error))?;
        written.file.sync().map_err(|source| self.cannot_stage(source))?;
        self.storage.sync_dir(STAGING).map_err(|source| self.cannot_stage(source))?;
        Ok(OutputFile {
            name: ledger::file_name(epoch, self.format),
            staged: file.name,
            rows: written.rows,
            length: written.length,
            xxh3_128: written.hash.into(),
        })
    }
}

impl Sink for FileSink {
    fn marker(&mut self) -> Result<Decides> {
        Ok(Decides::Manifest)
    }

    fn open(&mut self, restored: Option<&Restored>) -> Result<Option<Committed>> {
        self.prepare()
            .map_err(|error| not_writable(Path::new(&self.storage.location()), &error))?;
        self.recover(restored)?;
        self.look_for_leftovers(restored).map_err(|source| self.cannot_stage(source))?;
        Ok(self.last.as_ref().map(Mark::committed))
    }

    fn stage(&mut self, epoch: u64, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let is_text = matches!(self.format, FileFormat::Csv { .. } | FileFormat::Json);
        let staged = if is_text && dead_letter::is(rows) {
            self.write(epoch, &dead_letter::readable(rows))
        } else {
            self.write(epoch, rows)
        };
        staged.inspect_err(|_| {
            if let Phase::Writing { file, .. } = std::mem::replace(&mut self.phase, Phase::Failed) {
                self.forget(&file.name);
            }
        })
    }

    fn seal(&mut self, epoch: u64) -> Result<Staged> {
        let files = match std::mem::replace(&mut self.phase, Phase::Failed) {
            Phase::Idle => Vec::new(),
            Phase::Writing { epoch: open, file } => {
                assert_eq!(open, epoch, "the epoch that is sealed is the one that was staged");
                let name = file.name.clone();
                let finished = self.finish(epoch, *file);
                vec![finished.inspect_err(|_| self.forget(&name))?]
            }
            Phase::Failed => return Err(Error::failed("staging failed: discard the epoch first")),
            Phase::Sealed { .. } => unreachable!("an epoch is sealed once"),
        };
        let sealed = Sealed { format: ledger::FORMAT, after: self.last.clone(), files };
        let staged = Staged(serde_json::to_value(&sealed).expect("the list is plain data"));
        self.phase = Phase::Sealed { epoch, sealed };
        Ok(staged)
    }

    fn discard(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            // What others staged is not given back, also where room is what staging fails for: an
            // epoch of theirs may be committed yet.
            Phase::Idle | Phase::Failed => {}
            Phase::Writing { file, .. } => self.forget(&file.name),
            Phase::Sealed { sealed, .. } => {
                sealed.files.iter().for_each(|file| self.forget(&file.staged));
            }
        }
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Committed) -> Result<Outcome> {
        let Phase::Sealed { epoch, sealed } = &self.phase else {
            // It was committed by a call before this one.
            return Ok(Outcome::Committed);
        };
        assert_eq!(*epoch, checkpoint.epoch, "the epoch that is committed is the one sealed");
        if !sealed.files.is_empty() {
            let mark = Mark::from(checkpoint);
            self.publish(sealed, &mark, false)
                .map_err(|source| self.cannot_publish(mark.epoch, source))?;
            self.last = Some(mark);
        }
        self.phase = Phase::Idle;
        self.remove_leftovers();
        Ok(Outcome::Committed)
    }

    fn bytes_held(&self) -> usize {
        match &self.phase {
            Phase::Writing { file, .. } => file.encoder.bytes_held(),
            Phase::Idle | Phase::Sealed { .. } | Phase::Failed => 0,
        }
    }
}

fn not_writable(path: &Path, error: &io::Error) -> Error {
    Error::Unavailable {
        what: format!("cannot write output below {}: {error}", path.display()),
        fix: "make the directory writable for this user, or change the sink's path".to_owned(),
    }
}

#[cfg(test)]
mod tests;
