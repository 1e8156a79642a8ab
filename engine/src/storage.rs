//! The door to durable files: checkpoints and file sinks go through it and through nothing else.
//!
//! Invariant: what [`write_durably`] returned `Ok` for survives a power cut, and a reader sees the
//! whole file or none of it. The order is write, fsync the file, rename, fsync the directory.
//! After a failed fsync the pages may be marked clean without having reached the disk, so the file
//! is thrown away and never synced again: [`StagedFile::sync`] consumes it.
//!
//! The door is small so that a crash is a test input: [`memory::MemoryStorage`] keeps a live and a
//! durable image and fails any operation on request. There is no append to a published file, no
//! seek and no lock; only [`LogStorage`], for the write-ahead log, syncs a file more than once. Rebello et al., "Can Applications Recover from fsync Failures?",
//! USENIX ATC 2020, is why nothing is retried on the same file.

mod hashed;
pub mod local;
pub mod memory;
pub mod object;

use std::io::{self, Write};

use twox_hash::XxHash3_64;

pub use hashed::Hashed;
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use object::ObjectStorage;

/// Files below one root. A name is a relative path of plain components joined by `/`; a directory
/// may also be `""`, the root itself.
pub trait Storage: Send + Sync {
    /// Makes a new, empty file. Errors: `AlreadyExists`.
    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>>;

    /// The whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Writes a whole file under a name that no file has: there for good on return. Of two that ask
    /// for one name exactly one gets it; that the file holds these very bytes already, as after an
    /// answer that was lost, is success. What makes a manifest the commit point.
    ///
    /// Errors: `AlreadyExists` where it holds other bytes. After any other error nobody knows
    /// whether it is there; ask again.
    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name and replaces what bore it; durable after [`Storage::sync_dir`] of
    /// the directory of `to`. Until the directory of `from` is synced the old name may come back; the
    /// file is never without either, whichever directory is synced first.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; until its directory is synced it may come back.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names of the files (not directories) in a directory, sorted, without the directory's name.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory and its parents where they are missing; durable on return.
    fn create_dir_all(&self, dir: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Where the files are, for messages.
    fn location(&self) -> String;
}

/// A file that is being written. Writes are not buffered here.
pub trait StagedFile: Write + Send {
    /// Makes the bytes written so far durable and closes the file; its name becomes durable by
    /// [`Storage::sync_dir`]. On an error the file is worth nothing: remove it, write another.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// A storage that can also hold a log: a file whose front is durable while its end is written.
pub trait LogStorage: Storage {
    /// Makes a new, empty log file. Errors: `AlreadyExists`.
    fn create_log(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
}

/// A file that is appended to. After an error nothing more is written to it: what it holds behind
/// the last successful sync is worth nothing.
pub trait LogFile: Write + Send {
    /// Makes the bytes written so far durable; the name becomes durable by [`Storage::sync_dir`].
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes a file under a name that nobody knows yet, so that it needs no other while it is written:
/// whole and for good on return.
pub fn write_new(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_new_with(storage, name, |file| file.write_all(bytes))
}

/// As [`write_new`], what `write` writes, piece by piece.
pub fn write_new_with<T>(
    storage: &dyn Storage,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    let written = write_file(storage, name, write).inspect_err(|_| {
        // It may not be there, and the next attempt removes it; the first error is the one to tell.
        let _ = storage.remove(name);
    })?;
    storage.sync_dir(directory(name))?;
    Ok(written)
}

/// [`Storage::publish`] by a file of its own and `link`, which gives that file a second name unless
/// a file bears it.
pub(crate) fn publish_by_link(
    storage: &dyn Storage,
    (name, bytes): (&str, &[u8]),
    link: impl FnOnce(&str, &str) -> io::Result<()>,
) -> io::Result<()> {
    let (staged, written) = write_staged(storage, name, bytes)?;
    let linked = written.and_then(|()| link(&staged, name));
    // One that stays costs room until the next collection of garbage.
    let _ = storage.remove(&staged);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if storage.read(name)? != bytes {
                return Err(error);
            }
        }
        other => other?,
    }
    storage.sync_dir(directory(name))
}

/// Writes a file so that it is there whole and for good, or, on an error, not at all under `name`
/// (or there whole, where only the last step failed).
pub fn write_durably(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (staged, written) = write_staged(storage, name, bytes)?;
    if let Err(error) = written.and_then(|()| storage.rename(&staged, name)) {
        // It may not be there, and the next attempt removes it; the first error is the one to tell.
        let _ = storage.remove(&staged);
        return Err(error);
    }
    storage.sync_dir(directory(name))
}

/// Writes a file that is to get `name` under another one, which is nobody else's: of two processes that
/// write the same file at one moment, each goes on with its own. Returns that name, and how it went.
fn write_staged(
    storage: &dyn Storage,
    name: &str,
    bytes: &[u8],
) -> io::Result<(String, io::Result<()>)> {
    let hash = XxHash3_64::oneshot(bytes);
    let mut attempt = 0u64;
    loop {
        let staged = format!("{name}.{hash:016x}-{attempt}.tmp");
        match storage.create(&staged) {
            // Another process writes it, or a crash left it behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
            Ok(mut file) => {
                let written = file.write_all(bytes).and_then(|()| file.sync());
                return Ok((staged, written));
            }
        }
    }
}

fn write_file<T>(
    storage: &dyn Storage,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    let mut file = match storage.create(name) {
        // A crash left it half written.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(name)?;
            storage.create(name)?
        }
        other => other?,
    };
    let written = write(&mut file)?;
    file.sync()?;
    Ok(written)
}

/// The directory part of a name, `""` for a file in the root.
pub fn directory(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..slash])
}

/// Refuses a file name that could leave the root or mean two things.
fn check_name(name: &str) -> io::Result<()> {
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if name.split('/').all(plain) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("file name {name:?} is not a path of plain components below the root"),
    ))
}

fn check_dir(dir: &str) -> io::Result<()> {
    if dir.is_empty() { Ok(()) } else { check_name(dir) }
}

#[cfg(test)]
mod tests;
