//! What can end a benchmark, one variant for each reaction of the caller.

use std::fmt;
use std::io;

#[derive(Debug)]
pub enum Error {
    /// The options make no sense on this machine.
    Usage(String),
    /// Something that was asked for is not there.
    Unavailable(String),
    /// An answer is not the right one: no figure of this run counts.
    Wrong(String),
    Io {
        what: String,
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Error::Io { what: what.into(), source }
    }

    /// What the process returns.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Unavailable(_) => 69,
            Error::Io { .. } => 74,
            Error::Wrong(_) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(what) | Error::Unavailable(what) | Error::Wrong(what) => f.write_str(what),
            Error::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
