//! RecordBatch v2, walked where it lies: headers, checksum, records; no copy, no allocation.
//!
//! Layout: Kafka's "Record Batch" (KIP-98): a header of 61 bytes, then records with zigzag varints.
//! Invariant: a record is handed out only from bytes whose CRC32C holds and inside the lengths that
//! its batch and itself claim; offsets only grow. Decompression is [`super::codec`]'s.

use super::wire::{Cursor, Malformed};

/// Bytes of a batch in front of its records.
pub const HEADER_BYTES: usize = 61;
/// Offset and length, which the length itself does not count.
const PREFIX_BYTES: usize = 12;
/// The checksum covers everything from here on.
const CHECKED_FROM: usize = 21;

const CODEC_BITS: u16 = 0x07;
/// The broker's time of the whole batch counts, not those of its records.
const APPEND_TIME: u16 = 0x08;
const TRANSACTIONAL: u16 = 0x10;
const CONTROL: u16 = 0x20;

/// Why a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes contradict themselves.
    Malformed(&'static str),
    /// CRC32C: what the batch says, what its bytes give.
    Checksum {
        expected: u32,
        found: u32,
    },
    /// A message set as written before Kafka 0.11.
    OldFormat {
        magic: u8,
    },
    UnknownCodec(u16),
    /// It does not decompress, or to more than may be.
    Decompression(&'static str),
}

impl From<Malformed> for Fault {
    fn from(Malformed(what): Malformed) -> Fault {
        Fault::Malformed(what)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Malformed(what) => write!(f, "its {what} contradicts its length"),
            Fault::Checksum { expected, found } => {
                write!(f, "its CRC32C is {found:08x}, expected {expected:08x}")
            }
            Fault::OldFormat { magic } => {
                write!(f, "it has message format {magic}, expected 2 (Kafka 0.11 and later)")
            }
            Fault::UnknownCodec(codec) => write!(f, "its compression codec {codec} is unknown"),
            Fault::Decompression(why) => write!(f, "it cannot be decompressed: {why}"),
        }
    }
}

/// One batch; its records are still as they were sent.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub base_offset: i64,
    pub last_offset: i64,
    pub leader_epoch: i32,
    pub producer_id: i64,
    pub base_timestamp: i64,
    max_timestamp: i64,
    pub count: i32,
    attributes: u16,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the front of `set`; `None` where it is not all there, as the last of an answer
    /// may be.
    pub fn at_front(set: &'a [u8]) -> Result<Option<Batch<'a>>, Fault> {
        if set.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let mut header = Cursor::new(set);
        let base_offset = header.i64("offset")?;
        let length = header.i32("length")?;
        let length = usize::try_from(length).map_err(|_| Fault::Malformed("length"))?;
        // The format's number stands at the same place in all formats.
        if let Some(&magic) = set.get(16)
            && magic != 2
        {
            return Err(Fault::OldFormat { magic });
        }
        if length < HEADER_BYTES - PREFIX_BYTES {
            return Err(Fault::Malformed("length"));
        }
        let Some(bytes) = set.get(..PREFIX_BYTES + length) else { return Ok(None) };
        let leader_epoch = header.i32("leader epoch")?;
        header.take(5, "checksum")?;
        let attributes = header.i16("attributes")? as u16;
        let last_delta = header.i32("last offset")?;
        let base_timestamp = header.i64("timestamp")?;
        let max_timestamp = header.i64("timestamp")?;
        let producer_id = header.i64("producer id")?;
        header.take(6, "producer epoch")?;
        let count = header.i32("count")?;
        let last_offset = base_offset.checked_add(i64::from(last_delta));
        let last_offset = last_offset.filter(|_| base_offset >= 0 && last_delta >= 0);
        let last_offset = last_offset.ok_or(Fault::Malformed("last offset"))?;
        if count < 0 || i64::from(count) > i64::from(last_delta) + 1 {
            return Err(Fault::Malformed("count"));
        }
        Ok(Some(Batch {
            base_offset,
            last_offset,
            leader_epoch,
            producer_id,
            base_timestamp,
            max_timestamp,
            count,
            attributes,
            bytes,
        }))
    }

    /// The bytes of the whole batch, header and all.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn codec(&self) -> u16 {
        self.attributes & CODEC_BITS
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// What is behind the header, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the checksum; nothing else of the batch is to be believed before.
    pub fn check(&self) -> Result<(), Fault> {
        let expected: [u8; 4] = self.bytes[17..21].try_into().expect("four bytes");
        let expected = u32::from_be_bytes(expected);
        let found =
            crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &self.bytes[CHECKED_FROM..])
                as u32;
        if expected == found { Ok(()) } else { Err(Fault::Checksum { expected, found }) }
    }

    /// Walks the records in `payload`, which is that of the batch, decompressed.
    pub fn records<'p>(&self, payload: &'p [u8]) -> Records<'p> {
        Records {
            cursor: Cursor::new(payload),
            left: self.count,
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            least_offset: self.base_offset,
            base_timestamp: self.base_timestamp,
            append_time: (self.attributes & APPEND_TIME != 0).then_some(self.max_timestamp),
        }
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Not looked through yet, see [`Record::headers`].
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Hands each header to `each`.
    pub fn headers(&self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Result<(), Fault> {
        let mut left = Cursor::new(self.headers);
        for _ in 0..left.varint("header count")? {
            let key = field(&mut left, "header key")?.ok_or(Fault::Malformed("header key"))?;
            each(key, field(&mut left, "header value")?);
        }
        match left.left() {
            0 => Ok(()),
            _ => Err(Fault::Malformed("header count")),
        }
    }
}

pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: i32,
    base_offset: i64,
    last_offset: i64,
    /// The next record's offset is this at least.
    least_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> Records<'a> {
    /// The next record; `None` behind the last.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<Record<'a>>, Fault> {
        if self.left == 0 {
            return match self.cursor.left() {
                0 => Ok(None),
                _ => Err(Fault::Malformed("count")),
            };
        }
        self.left -= 1;
        let length = self.cursor.varint("record length")?;
        let length = usize::try_from(length).map_err(|_| Fault::Malformed("record length"))?;
        let mut record = Cursor::new(self.cursor.take(length, "record length")?);
        record.take(1, "record attributes")?;
        let since = record.varlong("record timestamp")?;
        let timestamp = self.append_time.unwrap_or(self.base_timestamp.wrapping_add(since));
        let delta = record.varint("record offset")?;
        let offset = self.base_offset.checked_add(i64::from(delta));
        let offset = offset.filter(|o| (self.least_offset..=self.last_offset).contains(o));
        let offset = offset.ok_or(Fault::Malformed("record offset"))?;
        self.least_offset = offset + 1;
        let key = field(&mut record, "record key")?;
        let value = field(&mut record, "record value")?;
        let headers = record.rest();
        Ok(Some(Record { offset, timestamp, key, value, headers }))
    }
}

/// Bytes with their length in front; a negative length is null.
#[inline]
fn field<'a>(record: &mut Cursor<'a>, what: &'static str) -> Result<Option<&'a [u8]>, Fault> {
    let length = record.varint(what)?;
    match usize::try_from(length) {
        Ok(length) => Ok(Some(record.take(length, what)?)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(Fault::Malformed(what)),
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
pub mod tests;
