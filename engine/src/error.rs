//! What can go wrong, one variant for each reaction of the caller.

use std::fmt;
use std::io;

/// An error that ends the job; [`Error::exit_code`] is what the process returns.
#[derive(Debug)]
pub enum Error {
    /// The job file or its SQL is refused before any side effect. `rendered` holds one block for
    /// each finding: `file:line:column: what`, what was expected, the fix.
    BadJob { rendered: String },
    /// Something the job needs is not there: a file, a port, a permission.
    Unavailable { what: String, fix: String },
    /// Reading or writing state, checkpoints or staged output failed.
    StateIo { what: String, source: io::Error },
    /// The reader of standard output went away (`pelton run … | head`): stop and say nothing.
    OutputClosed,
    /// The job ran and must stop: `on_error = "fail"`, an aggregate out of range, a lost input.
    Failed { what: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// 78 bad job, 69 unavailable, 74 state I/O, 1 failed (sysexits.h where it has a word for it).
    /// A reader that has seen enough is no failure: 0.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::OutputClosed => 0,
            Error::BadJob { .. } => 78,
            Error::Unavailable { .. } => 69,
            Error::StateIo { .. } => 74,
            Error::Failed { .. } => 1,
        }
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Error::Failed { what: what.into() }
    }

    /// A disk or a quota is full: there may be room later.
    pub fn wants_room(&self) -> bool {
        matches!(self, Error::StateIo { source, .. } if is_full(source))
    }
}

/// Whether it is for want of room that something was not written.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadJob { rendered } => f.write_str(rendered),
            Error::Unavailable { what, fix } => write!(f, "{what}; {fix}"),
            Error::StateIo { what, source } => write!(f, "{what}: {source}"),
            Error::OutputClosed => f.write_str("the reader of standard output went away"),
            Error::Failed { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::StateIo { source, .. } => Some(source),
            _ => None,
        }
    }
}
