//! Bytes of a file in one piece, from the first unread one on, however they were read.
//!
//! [`Pieces`] reads through a ring: rows are decoded where the kernel put them, and only the
//! beginning of a row at a piece's end is copied, in front of the next piece. A row too long for that
//! is gathered in memory of its own, which is given back when the row is through.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use pelton_engine::error::{Error, Result};

use super::files::{SourceFile, truncated};
use crate::ring::{HEADROOM_BYTES, PIECE_BYTES, Ring};

/// Bytes read behind a range's end at once with it: most last rows end within.
const BEHIND_BYTES: u64 = 4 << 10;
/// Memory for long rows that is kept from one range to the next.
const GATHERED_KEPT_BYTES: usize = 1 << 20;

/// Unread bytes, in order.
pub trait Bytes {
    /// All that is there, in one piece.
    fn bytes(&mut self) -> &[u8];

    fn consume(&mut self, bytes: usize);

    /// Puts more behind what is there; `false`: there is no more.
    fn more(&mut self) -> Result<bool>;

    /// Whether [`Bytes::bytes`] reaches to the end of the file.
    fn at_file_end(&self) -> bool;
}

/// A stretch of a file, read through a ring.
pub struct Pieces<'a> {
    ring: &'a mut dyn Ring,
    gathered: &'a mut Vec<u8>,
    source: &'a SourceFile,
    file: &'a Arc<File>,
    /// Position behind the last byte in `bytes`.
    position: u64,
    /// Where the next piece to ask for begins.
    next: u64,
    /// Pieces are asked for ahead up to here.
    ahead_end: u64,
    file_end: u64,
    piece_bytes: u64,
    /// Lengths of the pieces in flight; the oldest is in slot `oldest`.
    in_flight: VecDeque<usize>,
    oldest: usize,
    at: At,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Slot(usize),
    Gathered,
}

impl<'a> Pieces<'a> {
    /// Begins to read `from .. until` of a file whose end is at `file_end`.
    pub fn begin(
        ring: &'a mut dyn Ring,
        gathered: &'a mut Vec<u8>,
        source: &'a SourceFile,
        file: &'a Arc<File>,
        from: u64,
        until: u64,
        file_end: u64,
    ) -> Result<Pieces<'a>> {
        let ahead_end = (until + BEHIND_BYTES).min(file_end).max(from);
        // Pieces of equal size, so that the last is not a sliver.
        let pieces = (ahead_end - from).div_ceil(PIECE_BYTES as u64).max(1);
        let piece_bytes = (ahead_end - from).div_ceil(pieces).max(1);
        assert!(ring.slots() > 1, "one slot is decoded while another is filled");
        gathered.clear();
        let mut window = Pieces {
            ring,
            gathered,
            source,
            file,
            position: from,
            next: from,
            ahead_end,
            file_end,
            piece_bytes,
            in_flight: VecDeque::new(),
            oldest: 0,
            at: At::Gathered,
            start: 0,
            end: 0,
        };
        window.read_ahead()?;
        Ok(window)
    }

    /// Asks for pieces while slots are idle. The slot being decoded is not.
    fn read_ahead(&mut self) -> Result<()> {
        while self.next < self.ahead_end && self.in_flight.len() + 1 < self.ring.slots() {
            self.ask((self.ahead_end - self.next).min(self.piece_bytes))?;
        }
        Ok(())
    }

    fn ask(&mut self, bytes: u64) -> Result<()> {
        let slot = (self.oldest + self.in_flight.len()) % self.ring.slots();
        self.ring
            .start(slot, self.file, self.next, bytes as usize)
            .map_err(|error| self.unreadable(&error))?;
        self.in_flight.push_back(bytes as usize);
        self.next += bytes;
        Ok(())
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        let SourceFile { name, .. } = self.source;
        Error::failed(format!("cannot read {name} behind byte {}: {error}", self.position))
    }

    /// Moves what is unread in front of a piece just read, or gathers both.
    fn join(&mut self, slot: usize, piece: usize) {
        if let At::Slot(before) = self.at {
            self.gathered.clear();
            let unread = &self.ring.memory(before)[self.start..self.end];
            self.gathered.extend_from_slice(unread);
            (self.start, self.end) = (0, self.gathered.len());
        }
        let unread = self.end - self.start;
        if unread <= HEADROOM_BYTES {
            let from = HEADROOM_BYTES - unread;
            let front = &mut self.ring.memory(slot)[from..HEADROOM_BYTES];
            front.copy_from_slice(&self.gathered[self.start..self.end]);
            (self.at, self.start, self.end) = (At::Slot(slot), from, HEADROOM_BYTES + piece);
        } else {
            self.gathered.drain(..self.start);
            let piece = &self.ring.memory(slot)[HEADROOM_BYTES..][..piece];
            self.gathered.extend_from_slice(piece);
            (self.at, self.start, self.end) = (At::Gathered, 0, self.gathered.len());
        }
    }
}

impl Bytes for Pieces<'_> {
    fn bytes(&mut self) -> &[u8] {
        match self.at {
            At::Slot(slot) => &self.ring.memory(slot)[self.start..self.end],
            At::Gathered => &self.gathered[self.start..self.end],
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more was consumed than was there");
    }

    fn more(&mut self) -> Result<bool> {
        if self.in_flight.is_empty() {
            if self.next >= self.file_end {
                return Ok(false);
            }
            // Behind the range: a row that is longer than what was read with it.
            self.ask((self.file_end - self.next).min(PIECE_BYTES as u64))?;
        }
        let asked = self.in_flight.pop_front().expect("a piece is in flight");
        let slot = self.oldest;
        self.oldest = (slot + 1) % self.ring.slots();
        let read = self.ring.finish(slot).map_err(|error| self.unreadable(&error))?;
        if read < asked {
            let found = self.position + read as u64;
            return Err(truncated(&self.source.path, self.file_end, found));
        }
        self.position += read as u64;
        self.join(slot, read);
        self.read_ahead()?;
        Ok(true)
    }

    fn at_file_end(&self) -> bool {
        self.position >= self.file_end
    }
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        if !self.in_flight.is_empty() {
            self.ring.abandon();
        }
        self.gathered.clear();
        self.gathered.shrink_to(GATHERED_KEPT_BYTES);
    }
}
