//! Sources and decoders: bytes in, columns out.

pub mod decode;
pub mod generate;
pub mod source;
