//! State files: written under names of their attempt, read back only whole.

use std::io::{self, BufWriter, Write};

use arrow::array::RecordBatch;

use super::ipc::{self, Compression};
use super::manifest::{StateFile, StateKind, hash_text, hash_word};
use crate::error::{Error, Result};
use crate::seeded::{self, Bug};
use crate::storage::{Hashed, Storage, write_new_with};

/// A system call for each piece of this size.
const BUFFER_BYTES: usize = 256 << 10;

/// What an epoch changed at a level of the plan.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The merge of the partials is the whole state: what was written before is not needed.
    pub is_whole: bool,
    pub partials: Vec<RecordBatch>,
}

impl Changes {
    pub fn of(partials: Vec<RecordBatch>) -> Changes {
        Changes { is_whole: false, partials }
    }

    /// What came after.
    pub fn extend(&mut self, later: Changes) {
        match later.is_whole {
            true => *self = later,
            false => self.partials.extend(later.partials),
        }
    }

    pub fn rows(&self) -> u64 {
        self.partials.iter().map(|partial| partial.num_rows() as u64).sum()
    }

    pub fn bytes_held(&self) -> usize {
        self.partials.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// What a state file is, beside its rows.
pub(super) struct Heading<'a> {
    pub kind: StateKind,
    /// Of the plan.
    pub level: usize,
    /// Of a base that has several files.
    pub part: usize,
    pub epoch: u64,
    pub before_us: Option<i64>,
    pub watermark_us: Option<i64>,
    pub attempt: &'a str,
    /// Names of the columns in the file.
    pub columns: &'a [String],
    pub compression: Compression,
}

/// The rows of a state file.
///
/// Errors: `StateIo` where it is missing, or not what the manifest says of it.
pub fn read_state(storage: &dyn Storage, file: &StateFile) -> Result<Vec<RecordBatch>> {
    ipc::read(read_whole(storage, file)?).map_err(|source| cannot_restore(storage, file, source))
}

/// Compares a file with what the manifest says of it. Errors: as [`read_state`].
pub fn verify_state(storage: &dyn Storage, file: &StateFile) -> Result<()> {
    let rows = read_state(storage, file)?.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
    if rows == file.rows {
        return Ok(());
    }
    let what = format!("it has {rows} rows, the manifest says {}", file.rows);
    let source = io::Error::new(io::ErrorKind::InvalidData, what);
    Err(cannot_restore(storage, file, source))
}

fn read_whole(storage: &dyn Storage, file: &StateFile) -> Result<Vec<u8>> {
    let bytes = storage.read(&file.name).map_err(|source| cannot_restore(storage, file, source))?;
    let is_whole = bytes.len() as u64 == file.length && hash_text(&bytes) == file.xxh3;
    if is_whole || seeded::is(Bug::HashIgnored) {
        return Ok(bytes);
    }
    let what = format!(
        "its {} bytes are not the {} that the manifest names; the file was changed or the disk lost \
         data: restore the directory from a copy, or remove it to begin anew",
        bytes.len(),
        file.length
    );
    Err(cannot_restore(storage, file, io::Error::new(io::ErrorKind::InvalidData, what)))
}

fn cannot_restore(storage: &dyn Storage, file: &StateFile, source: io::Error) -> Error {
    let what = format!("cannot restore {} from {}", file.name, storage.location());
    Error::StateIo { what, source }
}

/// Writes partials under a name that no other attempt has. Nobody reads it before a manifest names
/// it, so it is written where it stays.
pub(super) fn write_state(
    storage: &dyn Storage,
    heading: &Heading,
    partials: &[RecordBatch],
) -> Result<StateFile> {
    let Heading { kind, level, part, epoch, before_us, watermark_us, attempt, .. } = *heading;
    let failed = |source| super::write_failed(storage, source);
    let place = if (level, part) == (0, 0) { String::new() } else { format!("-{level}-{part}") };
    let name = format!("{}-{epoch:012}-{attempt}{place}.arrow", kind.word());
    let written = write_new_with(storage, &name, |file| {
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let (mut file, length, hash) =
            ipc::write(heading, partials, Hashed::new(file))?.into_parts();
        file.flush()?;
        Ok((length, hash_word(hash)))
    });
    let (length, xxh3) = written.map_err(failed)?;
    Ok(StateFile {
        kind,
        level,
        epoch,
        before_us,
        watermark_us,
        rows: partials.iter().map(|partial| partial.num_rows() as u64).sum(),
        length,
        xxh3,
        name,
    })
}
