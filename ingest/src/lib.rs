//! Sources and decoders: bytes in, columns out.
pub mod generate;
pub mod source;
