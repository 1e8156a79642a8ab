//! Where bytes come from: files, sockets, standard input, generated rows.

pub mod board;
