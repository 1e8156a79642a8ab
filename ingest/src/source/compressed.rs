//! Files that are compressed: read in sequence, their text as if they were plain.
//!
//! Invariant: positions are those of the text. It lacks seeking: to go on inside a file its text is
//! passed over from the beginning.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use pelton_engine::error::{Error, Result};

use super::files::SourceFile;
use super::window::Bytes;

/// Compressed bytes read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Text produced at once.
const STEP_BYTES: usize = 256 << 10;

/// By the end of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub fn of(path: &Path) -> Compression {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The file's text.
    pub fn reader(self, file: File) -> io::Result<Box<dyn Read + Send>> {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(match self {
            Compression::None => Box::new(file),
            // Several members one after the other are one text, as gzip itself has it.
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(file)?),
        })
    }
}

/// The text of one compressed file, from some position on.
pub struct Inflated {
    /// The file's number among those discovered.
    pub file: usize,
    name: String,
    text: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    start: usize,
    /// Position of `bytes[start]`.
    position: u64,
    ended: bool,
}

impl Inflated {
    pub fn open(number: usize, file: &SourceFile, position: u64) -> Result<Inflated> {
        let open = File::open(&file.path).and_then(|open| file.compression.reader(open));
        let mut inflated = Inflated {
            file: number,
            name: file.name.to_string(),
            text: open.map_err(|error| unreadable(&file.name, 0, &error))?,
            bytes: Vec::new(),
            start: 0,
            position,
            ended: false,
        };
        let passed = io::copy(&mut (&mut inflated.text).take(position), &mut io::sink());
        match passed {
            Ok(passed) if passed == position => Ok(inflated),
            Ok(passed) => Err(super::files::truncated(&file.path, position, passed)),
            Err(error) => Err(unreadable(&file.name, 0, &error)),
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Bytes for Inflated {
    fn bytes(&mut self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
    }

    fn more(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        let step = (&mut self.text).take(STEP_BYTES as u64).read_to_end(&mut self.bytes);
        let position = self.position + self.bytes.len() as u64;
        let read = step.map_err(|error| unreadable(&self.name, position, &error))?;
        self.ended = read == 0;
        Ok(!self.ended)
    }

    fn at_file_end(&self) -> bool {
        self.ended
    }
}

fn unreadable(name: &str, position: u64, error: &io::Error) -> Error {
    Error::failed(format!("cannot decompress {name} behind byte {position} of its text: {error}"))
}
