//! The bytes of the write-ahead log: segments of records, each under a hash.
//!
//! ```text
//! segment  "PELTONWL" · format u32 · 0 u32 · start u64 · xxh3-64 of these      32 bytes
//! record   mark u32 · kind u8 · 0 ×3 · length u32 · 0 u32 · peer u64 · offset u64 · position u64 ·
//!          group u64 · xxh3-64 of these and of the payload                    56 bytes, then the payload
//! ```
//! Little-endian. A position counts the bytes of all records of the log from its beginning on;
//! `start` is that of the segment's first record, `group` that of the first record that the same
//! fsync made durable. An offset counts the bytes of one peer. Every byte is under a hash, and every
//! record says where it belongs, so that nothing old or foreign is taken for a record.

use std::ops::Range;

use twox_hash::XxHash3_64;

/// Version of the segments; an older one stays readable, a newer one is refused.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"PELTONWL";
pub const SEGMENT_HEAD: usize = 32;
const MARK: [u8; 4] = *b"row\n";
pub const RECORD_HEAD: usize = 56;
/// Bytes of the head that its hash covers.
const HASHED: usize = RECORD_HEAD - 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A peer has come; the payload is its name.
    Open,
    Data,
    /// Nothing more comes from a peer.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    pub peer: u64,
    /// Of the payload's first byte among the peer's bytes.
    pub offset: u64,
    /// Of the record's head in the log.
    pub position: u64,
    /// Position of the first record of its group.
    pub group: u64,
    /// Where the payload lies in the segment's bytes.
    pub payload: Range<usize>,
}

impl Record {
    /// Position of the next record.
    pub fn end(&self) -> u64 {
        self.position + (RECORD_HEAD + self.payload.len()) as u64
    }
}

pub fn segment_head(start: u64) -> [u8; SEGMENT_HEAD] {
    let mut head = [0; SEGMENT_HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[16..24].copy_from_slice(&start.to_le_bytes());
    let hash = XxHash3_64::oneshot(&head[..24]);
    head[24..].copy_from_slice(&hash.to_le_bytes());
    head
}

/// What the head of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Start(u64),
    Newer { format: u32 },
    Broken,
}

pub fn read_segment_head(bytes: &[u8]) -> Head {
    if bytes.len() < SEGMENT_HEAD || &bytes[..8] != MAGIC {
        return Head::Broken;
    }
    if XxHash3_64::oneshot(&bytes[..24]) != word(bytes, 24) {
        return Head::Broken;
    }
    match u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) {
        format if format > FORMAT => Head::Newer { format },
        _ => Head::Start(word(bytes, 16)),
    }
}

/// Appends a record. Panics where the payload is longer than a `u32` can say: reads are shorter.
pub fn write(
    out: &mut Vec<u8>,
    kind: Kind,
    (peer, offset): (u64, u64),
    (position, group): (u64, u64),
    payload: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[kind_byte(kind), 0, 0, 0]);
    let length = u32::try_from(payload.len()).expect("a read is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for word in [peer, offset, position, group] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let hash = hash(&out[start..start + HASHED], payload);
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(payload);
}

/// The record that begins at `at` and must have this position; `None` where there is none.
pub fn read(bytes: &[u8], at: usize, position: u64) -> Option<Record> {
    let head = bytes.get(at..at + RECORD_HEAD)?;
    let kind = kind_of(head[4])?;
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let payload = at + RECORD_HEAD..at + RECORD_HEAD + length;
    let whole = hash(&head[..HASHED], bytes.get(payload.clone())?) == word(head, HASHED);
    let fits = head[..4] == MARK && word(head, 32) == position;
    (whole && fits).then(|| Record {
        kind,
        peer: word(head, 16),
        offset: word(head, 24),
        position,
        group: word(head, 40),
        payload,
    })
}

/// Whether a whole record stands anywhere behind `at` that was written after what should be at
/// `position` had become durable: then that was not torn by a crash. The records of one group may
/// reach the disk in any order.
pub fn is_acknowledged(bytes: &[u8], at: usize, position: u64) -> bool {
    memchr::memmem::find_iter(bytes.get(at..).unwrap_or_default(), &MARK).any(|found| {
        let Some(head) = bytes.get(at + found..at + found + RECORD_HEAD) else { return false };
        let (own, group) = (word(head, 32), word(head, 40));
        group > position && read(bytes, at + found, own).is_some()
    })
}

fn hash(head: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::new();
    std::hash::Hasher::write(&mut hasher, head);
    std::hash::Hasher::write(&mut hasher, payload);
    std::hash::Hasher::finish(&hasher)
}

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Open => 1,
        Kind::Data => 2,
        Kind::Close => 3,
    }
}

fn kind_of(byte: u8) -> Option<Kind> {
    [Kind::Open, Kind::Data, Kind::Close].into_iter().find(|&kind| kind_byte(kind) == byte)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
