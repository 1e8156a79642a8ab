//! Sources and decoders: bytes in, columns out.
