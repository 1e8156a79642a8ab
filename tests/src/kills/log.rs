//! Reads a write-ahead log as its format is described (`engine/src/wal/record.rs`), with no code of the
//! product: what a killed process had received.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SEGMENT_HEAD: usize = 32;
const RECORD_HEAD: usize = 56;
const DATA: u8 = 2;

/// Bytes of one connection, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Of the first byte among those that the connection brought.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

struct Record {
    kind: u8,
    peer: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// What the log holds of the connection that it heard of last; `None`: of none.
///
/// Errors: the bytes of the connection have a gap.
pub fn last_received(dir: &Path) -> Result<Option<Received>, String> {
    let mut records = BTreeMap::new();
    for segment in segments(dir)? {
        let path = dir.join(segment);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        read(&bytes, &mut records);
    }
    let data = || records.values().filter(|record: &&Record| record.kind == DATA);
    let Some(peer) = data().next_back().map(|record| record.peer) else { return Ok(None) };
    let mut received: Option<Received> = None;
    for record in data().filter(|record| record.peer == peer) {
        let received =
            received.get_or_insert_with(|| Received { offset: record.offset, bytes: Vec::new() });
        let end = received.offset + received.bytes.len() as u64;
        if record.offset != end {
            let at = record.offset;
            return Err(format!("the log holds byte {at} of a connection behind byte {end}"));
        }
        received.bytes.extend_from_slice(&record.bytes);
    }
    Ok(received)
}

/// In the order in which they were begun.
fn segments(dir: &Path) -> Result<Vec<String>, String> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        names.extend(name.into_string().ok().filter(|name| name.starts_with("wal-")));
    }
    names.sort();
    Ok(names)
}

/// The whole records of a segment by their positions; a later segment that holds one again wins.
fn read(segment: &[u8], records: &mut BTreeMap<u64, Record>) {
    let mut at = SEGMENT_HEAD;
    while let Some(head) = segment.get(at..at + RECORD_HEAD) {
        let word =
            |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("eight bytes"));
        let length = u32::from_le_bytes(head[8..12].try_into().expect("four bytes")) as usize;
        let payload = segment.get(at + RECORD_HEAD..at + RECORD_HEAD + length);
        // The end may be torn: a SIGKILL cuts a write short.
        let Some(payload) = payload.filter(|_| head.starts_with(b"row\n")) else { return };
        let record =
            Record { kind: head[4], peer: word(16), offset: word(24), bytes: payload.to_vec() };
        records.insert(word(32), record);
        at += RECORD_HEAD + length;
    }
}
