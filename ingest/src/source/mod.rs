//! Where bytes come from: files, sockets, standard input.
//!
//! `board` decides which core reads what and is pure; `listing` and `files` find files and know them
//! again; `window` and `compressed` bring their bytes; `stream` is for what cannot be read again, `inlet` its
//! way through the write-ahead log.

pub mod board;
pub mod compressed;
pub mod files;
pub mod inlet;
pub mod listing;
pub mod state;
pub mod stream;
pub mod window;
