//! The files of a file source: found in order, known again after a restart, watched for growth.
//!
//! Invariant: a file's number is its rank in the order of discovery and never changes; a file that
//! is not the one it was (shorter, replaced, other first bytes) is an error, never read on.
//!
//! A file that may grow keeps its unterminated last row back until a later file is discovered: then
//! it counts as whole. What is appended to it after that is read as well, but an unterminated row
//! that was taken as whole cannot be taken back, so appending to that is an error.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pelton_engine::batch::InputColumn;
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::SourceSpec;

use super::board::{Extent, FileFacts};
use super::compressed::Compression;
use super::listing::{Found, Place, unavailable};
use super::state::{FileState, HeadHash};
use crate::decode::{Mapping, file_head};

/// First bytes that a file is known by.
const HEAD_HASH_BYTES: usize = 4096;
/// The head is read in doubling steps, from this size on.
const HEAD_STEP_BYTES: usize = 64 << 10;

/// A file that was discovered.
#[derive(Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    pub name: Arc<str>,
    pub compression: Compression,
    /// Which field is which column; `None` for a file that was read and is gone.
    pub mapping: Option<Mapping>,
    /// Bytes on disk when it was discovered.
    size: u64,
    inode: u64,
    head: HeadHash,
}

impl SourceFile {
    /// Opens the file and sees that it is the one that was discovered.
    pub fn open(&self) -> Result<Arc<File>> {
        let failed = |error: io::Error| {
            Error::failed(format!("cannot read {}, which was found before: {error}", self.name))
        };
        let file = File::open(&self.path).map_err(failed)?;
        if file.metadata().map_err(failed)?.ino() != self.inode {
            return Err(replaced(&self.path));
        }
        Ok(Arc::new(file))
    }
}

/// What a scan found.
#[derive(Clone, Debug)]
pub enum Change {
    New(Arc<SourceFile>, FileFacts),
    /// A file that an earlier run has met.
    Known(Arc<SourceFile>, FileFacts),
    /// A file has grown, or is now known to be whole.
    Grown {
        file: usize,
        size: u64,
        complete: bool,
    },
}

/// Looks for files and remembers those found.
pub struct Discovery {
    place: Place,
    source: SourceSpec,
    input: Vec<InputColumn>,
    /// What is there is all that will be: unterminated last rows count.
    bounded: bool,
    files: Vec<Seen>,
    by_path: HashMap<PathBuf, usize>,
}

#[derive(Debug)]
struct Seen {
    file: Arc<SourceFile>,
    size: u64,
    complete: bool,
}

impl Discovery {
    /// Looks for the first time. `before`: the files that a restored job knows; they come first among
    /// the changes, in their order.
    ///
    /// Errors: `Unavailable` where nothing is at the path, `Failed` where a known file is another now.
    pub fn new(
        path: &Path,
        source: &SourceSpec,
        input: &[InputColumn],
        end: Option<bool>,
        before: &[FileState],
    ) -> Result<(Discovery, Vec<Change>)> {
        let place = Place::of(path)?;
        let bounded = end.unwrap_or(matches!(place, Place::File(_)));
        let mut discovery = Discovery {
            place,
            source: source.clone(),
            input: input.to_vec(),
            bounded,
            files: Vec::new(),
            by_path: HashMap::new(),
        };
        let mut changes = Vec::new();
        for (number, state) in before.iter().enumerate() {
            changes.push(discovery.restore(state, number + 1 < before.len())?);
        }
        changes.extend(discovery.scan()?);
        if bounded && changes.is_empty() {
            return Err(Error::Unavailable {
                what: format!("there is no file to read at {}", path.display()),
                fix: "correct `path`, or leave `end` out to wait for files".into(),
            });
        }
        Ok((discovery, changes))
    }

    pub fn bounded(&self) -> bool {
        self.bounded
    }

    /// Takes back a file that a checkpoint names, as it was then; what it gained since is growth.
    fn restore(&mut self, state: &FileState, newer: bool) -> Result<Change> {
        let path = PathBuf::from(&state.path);
        let compression = Compression::of(&path);
        let plain = compression == Compression::None;
        let consumed = if plain { state.byte == state.size } else { state.ended };
        let facts = FileFacts {
            position: state.byte,
            line: state.line,
            extent: match (plain, state.ended) {
                (true, _) => Extent::Known(state.size),
                (false, true) => Extent::Known(state.byte),
                (false, false) => Extent::Streamed,
            },
            complete: self.bounded || newer || !plain,
        };
        let (inode, head) = (state.inode, state.head.clone());
        let mut file = SourceFile {
            name: state.path.as_str().into(),
            size: state.size,
            mapping: None,
            path,
            compression,
            inode,
            head,
        };
        match fs::metadata(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && consumed => {}
            Err(error) => return Err(unavailable(&file.path, &error)),
            Ok(facts) => {
                let found = Found::of(file.path.clone(), &facts);
                if found.size < state.size {
                    return Err(truncated(&file.path, state.size, found.size));
                }
                let known = read_head(&found.path, state.head.bytes as usize)?;
                if found.inode != state.inode || known != state.head {
                    return Err(replaced(&file.path));
                }
                let now = self.examine(&found, true)?;
                file.mapping = now.and_then(|(file, _)| file.mapping);
            }
        }
        Ok(Change::Known(self.remember(file, &facts), facts))
    }

    fn remember(&mut self, file: SourceFile, facts: &FileFacts) -> Arc<SourceFile> {
        let (size, file) = (file.size, Arc::new(file));
        self.by_path.insert(file.path.clone(), self.files.len());
        self.files.push(Seen { file: Arc::clone(&file), size, complete: facts.complete });
        file
    }

    /// Looks again: what grew, what is new, and what is whole because something newer is there.
    ///
    /// Errors: `Unavailable` for what cannot be read now, `Failed` for a file that is another now.
    pub fn scan(&mut self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut fresh = Vec::new();
        for found in self.place.list()? {
            match self.by_path.get(&found.path) {
                Some(&number) => changes.extend(self.grown(number, &found)?),
                None => fresh.push(found),
            }
        }
        for found in fresh {
            // One whose header is not written yet is new the next time.
            if let Some((file, facts)) = self.examine(&found, self.bounded)? {
                changes.push(Change::New(self.remember(file, &facts), facts));
            }
        }
        let last = self.files.len().saturating_sub(1);
        for (number, seen) in self.files[..last].iter_mut().enumerate() {
            if !seen.complete {
                seen.complete = true;
                changes.push(Change::Grown { file: number, size: seen.size, complete: true });
            }
        }
        Ok(changes)
    }

    fn grown(&mut self, number: usize, found: &Found) -> Result<Option<Change>> {
        let seen = &mut self.files[number];
        if found.inode != seen.file.inode {
            return Err(replaced(&found.path));
        }
        if found.size < seen.size {
            return Err(truncated(&found.path, seen.size, found.size));
        }
        if found.size == seen.size {
            return Ok(None);
        }
        let path = found.path.display();
        if seen.file.compression != Compression::None {
            return Err(Error::failed(format!(
                "{path} grew while it was read: compressed files must appear whole (move them in)"
            )));
        }
        if seen.complete && seen.size > 0 && !ends_row(&seen.file, seen.size)? {
            return Err(Error::failed(format!(
                "{path} grew inside its last row, which was taken as whole because a newer file \
                 was there: end rows with a line feed before another file is begun"
            )));
        }
        seen.size = found.size;
        Ok(Some(Change::Grown { file: number, size: found.size, complete: seen.complete }))
    }

    /// Reads the head of a file. `None`: it is not all there yet.
    fn examine(&self, found: &Found, whole: bool) -> Result<Option<(SourceFile, FileFacts)>> {
        let path = &found.path;
        let compression = Compression::of(path);
        let failed = |error: io::Error| unavailable(path, &error);
        let file = File::open(path).map_err(failed)?;
        let hash = read_head(path, HEAD_HASH_BYTES.min(found.size as usize))?;
        let mut text = compression.reader(file).map_err(failed)?;
        let (mut bytes, mut ended) = (Vec::new(), false);
        let head = loop {
            let head = file_head(&self.source, &self.input, &bytes, ended && whole);
            match head.map_err(|e| bad_head(path, &e.to_string()))? {
                Some(head) => break head,
                None if ended => return Ok(None),
                None if bytes.len() > self.source.max_record_bytes + HEAD_STEP_BYTES => {
                    return Err(bad_head(path, "no header within max_record_bytes"));
                }
                None => {
                    let step = bytes.len().max(HEAD_STEP_BYTES) as u64;
                    ended = (&mut text).take(step).read_to_end(&mut bytes).map_err(failed)? == 0;
                }
            }
        };
        let extent = match compression {
            Compression::None => Extent::Known(found.size),
            _ => Extent::Streamed,
        };
        let facts = FileFacts {
            position: head.consumed as u64,
            line: head.newlines + 1,
            extent,
            complete: self.bounded || extent == Extent::Streamed,
        };
        let file = SourceFile {
            path: path.clone(),
            name: path.to_string_lossy().into(),
            compression,
            mapping: Some(head.mapping),
            inode: found.inode,
            head: hash,
            size: found.size,
        };
        Ok(Some((file, facts)))
    }
}

/// The file as a checkpoint stores it.
pub fn file_state(file: &SourceFile, facts: &FileFacts) -> FileState {
    let FileFacts { position: byte, line, extent, .. } = *facts;
    let streamed = file.compression != Compression::None;
    FileState {
        path: file.path.to_string_lossy().into_owned(),
        size: match extent {
            Extent::Known(size) if !streamed => size,
            _ => file.size,
        },
        inode: file.inode,
        head: file.head.clone(),
        byte,
        line,
        ended: streamed && extent != Extent::Streamed,
    }
}

fn ends_row(file: &SourceFile, size: u64) -> Result<bool> {
    is_line_start(&*file.open()?, &file.name, size)
}

/// A line feed stands before `position`, which is not the first.
pub fn is_line_start(file: &File, name: &str, position: u64) -> Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, position - 1)
        .map_err(|error| Error::failed(format!("cannot read {name}: {error}")))?;
    Ok(last == *b"\n")
}

fn bad_head(path: &Path, why: &str) -> Error {
    Error::Unavailable {
        what: format!("cannot read {}: {why}", path.display()),
        fix: "correct the file, or `header`, `skip_lines` and `schema` of the source".into(),
    }
}

/// The hash of a file's first bytes.
fn read_head(path: &Path, bytes: usize) -> Result<HeadHash> {
    let mut head = vec![0; bytes];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut head, 0))
        .map_err(|error| unavailable(path, &error))?;
    Ok(HeadHash::of(&head))
}

fn replaced(path: &Path) -> Error {
    Error::failed(format!(
        "{} is not the file that was read before: it was replaced; put the old one back, or start \
         anew with an empty checkpoint path",
        path.display()
    ))
}

/// The error for a file that is shorter than it was.
pub fn truncated(path: &Path, expected: u64, found: u64) -> Error {
    Error::failed(format!(
        "{} was truncated: expected at least {expected} bytes, found {found}; put the whole file \
         back, or start anew with an empty checkpoint path",
        path.display()
    ))
}
