//! Length and hash of a file, taken while it is written.

use std::io::{self, Write};

use twox_hash::XxHash3_128;

/// Passes bytes on to `inner` and counts and hashes what that took.
pub struct Hashed<W> {
    inner: W,
    length: u64,
    hasher: XxHash3_128,
}

impl<W: Write> Hashed<W> {
    pub fn new(inner: W) -> Self {
        Hashed { inner, length: 0, hasher: XxHash3_128::new() }
    }

    /// Where the bytes went, their number and their XXH3-128.
    pub fn into_parts(self) -> (W, u64, u128) {
        (self.inner, self.length, self.hasher.finish_128())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.write(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
