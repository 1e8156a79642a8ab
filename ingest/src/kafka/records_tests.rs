//! Batches as a broker would send them, and as none should.

use proptest::prelude::*;

use super::*;

fn write_varlong(number: i64, out: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn write_field(field: Option<&[u8]>, out: &mut Vec<u8>) {
    write_varlong(field.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend_from_slice(field.unwrap_or_default());
}

/// What a batch is made of.
#[derive(Clone)]
pub struct Made<'a> {
    pub base_offset: i64,
    /// Offset of each record from the base on, and its value.
    pub records: Vec<(i32, Option<&'a [u8]>)>,
    pub last_delta: i32,
    pub attributes: u16,
    pub producer_id: i64,
}

impl<'a> Made<'a> {
    pub fn new(base_offset: i64, values: &[&'a [u8]]) -> Made<'a> {
        let records: Vec<_> = (0..).zip(values.iter().map(|&value| Some(value))).collect();
        let last_delta = records.len() as i32 - 1;
        Made { base_offset, records, last_delta, attributes: 0, producer_id: -1 }
    }

    pub fn transactional(mut self, producer_id: i64) -> Made<'a> {
        (self.attributes, self.producer_id) = (self.attributes | TRANSACTIONAL, producer_id);
        self
    }

    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for (delta, value) in &self.records {
            let mut record = vec![0];
            write_varlong(7, &mut record);
            write_varlong(i64::from(*delta), &mut record);
            write_field(Some(b"key"), &mut record);
            write_field(*value, &mut record);
            // One header: name, value.
            write_varlong(1, &mut record);
            write_field(Some(b"h"), &mut record);
            write_field(None, &mut record);
            write_varlong(record.len() as i64, &mut payload);
            payload.extend_from_slice(&record);
        }
        payload
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with(&self.payload())
    }

    /// The batch around another payload, such as a compressed one.
    pub fn bytes_with(&self, payload: &[u8]) -> Vec<u8> {
        let mut checked = Vec::new();
        checked.extend(self.attributes.to_be_bytes());
        checked.extend(self.last_delta.to_be_bytes());
        checked.extend([0; 16]);
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend([0; 6]);
        checked.extend((self.records.len() as i32).to_be_bytes());
        checked.extend(payload);
        let mut bytes = self.base_offset.to_be_bytes().to_vec();
        bytes.extend((checked.len() as i32 + 9).to_be_bytes());
        bytes.extend(3i32.to_be_bytes());
        bytes.push(2);
        let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
        bytes.extend((crc_fast::checksum(algorithm, &checked) as u32).to_be_bytes());
        bytes.extend(checked);
        bytes
    }
}

/// The end of a transaction.
pub fn control(offset: i64, producer_id: i64, committed: bool) -> Vec<u8> {
    let value = [0, 0, 0, 0, 0, 0];
    let mut made = Made::new(offset, &[&value]).transactional(producer_id);
    made.attributes |= CONTROL;
    let mut record = vec![0, 0, 0];
    write_field(Some(&[0, 0, 0, u8::from(committed)]), &mut record);
    write_field(Some(&value), &mut record);
    write_varlong(0, &mut record);
    let mut payload = Vec::new();
    write_varlong(record.len() as i64, &mut payload);
    payload.extend(record);
    made.bytes_with(&payload)
}

/// Offset and value of a record.
type Read = (i64, Option<Vec<u8>>);

fn read(set: &[u8]) -> Result<Vec<Read>, Fault> {
    let (mut at, mut read) = (0, Vec::new());
    while let Some(batch) = Batch::at_front(&set[at..])? {
        batch.check()?;
        let mut records = batch.records(batch.payload());
        while let Some(record) = records.advance()? {
            assert_eq!(record.key, Some(&b"key"[..]));
            read.push((record.offset, record.value.map(<[u8]>::to_vec)));
        }
        at += batch.size();
    }
    Ok(read)
}

#[test]
fn records_come_with_their_offsets_tombstones_and_gaps() {
    let mut gaps = Made::new(10, &[b"a", b"b", b""]);
    gaps.records[1].0 = 4;
    gaps.records[2].0 = 5;
    gaps.records[1].1 = None;
    gaps.last_delta = 8;
    let mut set = gaps.bytes();
    set.extend(Made::new(19, &[b"next"]).bytes());
    let whole = set.len();
    set.extend(&Made::new(20, &[b"cut off"]).bytes()[..40]);
    let expected = [
        (10, Some(b"a".to_vec())),
        (14, None),
        (15, Some(Vec::new())),
        (19, Some(b"next".to_vec())),
    ];
    assert_eq!(read(&set).unwrap(), expected);
    let batch = Batch::at_front(&set).unwrap().unwrap();
    assert_eq!((batch.last_offset, batch.leader_epoch, batch.count), (18, 3, 3));
    assert!(Batch::at_front(&set[whole..]).unwrap().is_none());
}

#[test]
fn f09_any_flipped_bit_behind_the_checksum_is_seen() {
    let set = Made::new(3, &[b"some value", b"another"]).transactional(5).bytes();
    for bit in 17 * 8..set.len() * 8 {
        let mut flipped = set.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = read(&flipped);
        assert!(matches!(found, Err(Fault::Checksum { .. }) | Err(Fault::Malformed(_))), "{bit}");
    }
}

#[test]
fn f10_lying_lengths_are_refused() {
    let good = Made::new(3, &[b"some value", b"another"]);
    let mut many = good.clone();
    many.last_delta = 0;
    assert_eq!(read(&many.bytes()), Err(Fault::Malformed("count")));
    // One that ends before it begins would be asked for again for ever.
    let mut backward = Made::new(3, &[]);
    backward.last_delta = -1;
    assert_eq!(read(&backward.bytes()), Err(Fault::Malformed("last offset")));
    assert_eq!(
        read(&Made::new(-2, &[b"some value"]).bytes()),
        Err(Fault::Malformed("last offset"))
    );
    let mut disordered = good.clone();
    (disordered.records[0].0, disordered.records[1].0) = (1, 0);
    assert_eq!(read(&disordered.bytes()), Err(Fault::Malformed("record offset")));
    let mut beyond = good.payload();
    beyond[0] = 0x7e;
    assert_eq!(read(&good.bytes_with(&beyond)), Err(Fault::Malformed("record length")));
    let mut trailing = good.payload();
    trailing.push(0);
    assert_eq!(read(&good.bytes_with(&trailing)), Err(Fault::Malformed("count")));
    let mut old = good.bytes();
    old[16] = 1;
    assert_eq!(read(&old), Err(Fault::OldFormat { magic: 1 }));
    let mut short = good.bytes();
    short[8..12].copy_from_slice(&20i32.to_be_bytes());
    assert_eq!(read(&short), Err(Fault::Malformed("length")));
    short[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    assert_eq!(read(&short), Err(Fault::Malformed("length")));
}

proptest! {
    /// With a checksum that fits, too: no lie makes the walk panic or leave the batch.
    #[test]
    fn f10_no_bytes_make_the_walk_panic(payload: Vec<u8>, count in 0usize..5) {
        let values = vec![&b""[..]; count];
        let _ = read(&Made::new(0, &values).bytes_with(&payload));
        let _ = read(&payload);
    }
}
