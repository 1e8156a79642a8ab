//! Runs: partitions of a shard's state on a disk, as files that only this process reads.
//!
//! Spilled state is no part of a checkpoint: nothing is synced, and what a killed process left is
//! removed at the next start. What is read back was hashed when it was written.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use twox_hash::XxHash3_128;

use crate::columns::plain;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// Room for state that memory does not hold.
#[derive(Clone)]
pub struct Room {
    pub storage: Arc<dyn Storage>,
    /// Bytes that the state may hold in memory.
    pub bytes: u64,
}

impl Room {
    /// Removes what an earlier process left.
    ///
    /// Errors: `StateIo`.
    pub fn clear(&self) -> Result<()> {
        let failed = |source| Error::StateIo {
            what: format!("cannot clear {}", self.storage.location()),
            source,
        };
        let names = match self.storage.list("") {
            // It is made when something is spilled.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(failed)?,
        };
        names.iter().try_for_each(|name| self.storage.remove(name)).map_err(failed)
    }

    /// The `part`-th of `parts` equal shares, whose files have names of their own.
    pub fn share(&self, parts: usize, name: &str) -> Spill {
        let bytes = self.bytes / parts.max(1) as u64;
        let (storage, name) = (Arc::clone(&self.storage), name.to_owned());
        Spill { storage, bytes, most: bytes.saturating_mul(2), name, written: 0 }
    }
}

/// A shard's share of the room.
pub struct Spill {
    storage: Arc<dyn Storage>,
    /// From here on memory is relieved.
    pub bytes: u64,
    /// From here on it is an error that it cannot be.
    pub most: u64,
    name: String,
    written: u64,
}

/// Groups of one partition in a file.
#[derive(Debug)]
pub struct Run {
    name: String,
    hash: u128,
    pub rows: usize,
    /// The running epoch touched its groups.
    pub touched: bool,
}

impl Spill {
    pub fn write(&mut self, partial: &RecordBatch, touched: bool) -> io::Result<Run> {
        if self.written == 0 {
            self.storage.create_dir_all("")?;
        }
        let name = format!("{}-{:08}.arrow", self.name, self.written);
        self.written += 1;
        let bytes = encode(partial).map_err(io::Error::other)?;
        let written = self.storage.create(&name).and_then(|mut file| file.write_all(&bytes));
        if let Err(error) = written {
            // A full disk needs the room.
            let _ = self.storage.remove(&name);
            return Err(error);
        }
        let hash = XxHash3_128::oneshot(&bytes);
        Ok(Run { name, hash, rows: partial.num_rows(), touched })
    }

    /// Errors: `StateIo` where the file is not what was written.
    pub fn read(&self, run: &Run) -> Result<Vec<RecordBatch>> {
        let failed = |source| Error::StateIo {
            what: format!("cannot read spilled state from {}", self.storage.location()),
            source,
        };
        let bytes = self.storage.read(&run.name).map_err(failed)?;
        if XxHash3_128::oneshot(&bytes) != run.hash {
            let what = format!("{} is not what was written", run.name);
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        decode(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    pub fn remove(&self, run: &Run) {
        // One that stays is removed at the next start.
        let _ = self.storage.remove(&run.name);
    }
}

fn encode(partial: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let partial = plain(partial)?;
    let mut writer = FileWriter::try_new(Vec::new(), partial.schema_ref())?;
    writer.write(&partial)?;
    writer.into_inner()
}

fn decode(bytes: Vec<u8>) -> Result<Vec<RecordBatch>, ArrowError> {
    FileReader::try_new(io::Cursor::new(bytes), None)?.collect()
}
