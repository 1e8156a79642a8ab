//! Writes RecordBatch v2, which [`crate::kafka::records`] reads, and chooses partitions.
//!
//! Invariant: what [`Builder::seal`] gives is a whole batch whose checksum holds. Records are not
//! compressed: a job that wants that sends through librdkafka.

use crate::kafka::records::HEADER_BYTES;

const MAGIC: u8 = 2;
const TRANSACTIONAL: u16 = 0x10;
/// The checksum stands before, and covers everything from here on.
const CHECKED_FROM: usize = 21;
/// Nobody knows the leader's epoch but the leader.
const NO_LEADER_EPOCH: i32 = -1;

/// Who sends, and where in its sequence a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub producer: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub timestamp_ms: i64,
}

/// One batch in the making.
#[derive(Default)]
pub struct Builder {
    bytes: Vec<u8>,
    count: i32,
}

impl Builder {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub fn push(&mut self, key: Option<&[u8]>, value: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES, 0);
        }
        let key_size = key.map_or(1, |key| varint_size(key.len() as i64) + key.len());
        // Attributes, the timestamp's and the offset's difference, key, value, no headers.
        let size = 1
            + 1
            + varint_size(i64::from(self.count))
            + key_size
            + varint_size(value.len() as i64)
            + value.len()
            + 1;
        let bytes = &mut self.bytes;
        varint(size as i64, bytes);
        bytes.extend([0, 0]);
        varint(i64::from(self.count), bytes);
        match key {
            None => varint(-1, bytes),
            Some(key) => {
                varint(key.len() as i64, bytes);
                bytes.extend_from_slice(key);
            }
        }
        varint(value.len() as i64, bytes);
        bytes.extend_from_slice(value);
        bytes.push(0);
        self.count += 1;
    }

    /// The batch; the builder is empty again.
    pub fn seal(&mut self, stamp: Stamp) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let count = std::mem::take(&mut self.count);
        assert!(count > 0, "a batch has records");
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(12, &NO_LEADER_EPOCH.to_be_bytes());
        put(16, &[MAGIC]);
        put(21, &TRANSACTIONAL.to_be_bytes());
        put(23, &(count - 1).to_be_bytes());
        put(27, &stamp.timestamp_ms.to_be_bytes());
        put(35, &stamp.timestamp_ms.to_be_bytes());
        put(43, &stamp.producer.to_be_bytes());
        put(51, &stamp.epoch.to_be_bytes());
        put(53, &stamp.sequence.to_be_bytes());
        put(57, &count.to_be_bytes());
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let sum =
            crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[CHECKED_FROM..]) as u32;
        bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Zigzag, seven bits a byte, the lowest first.
#[inline]
fn varint(number: i64, out: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[inline]
fn varint_size(number: i64) -> usize {
    let left = ((number << 1) ^ (number >> 63)) as u64 | 1;
    (64 - left.leading_zeros() as usize).div_ceil(7)
}

/// The partition of a key, as Kafka's own producer chooses it: murmur2.
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::records::Batch;

    const STAMP: Stamp =
        Stamp { producer: 77, epoch: 3, sequence: 9, timestamp_ms: 1_700_000_000_000 };

    proptest! {
        #[test]
        fn a_batch_is_read_as_it_was_written(
            records in proptest::collection::vec((proptest::option::of(proptest::collection::vec(0u8.., 0..200)), proptest::collection::vec(0u8.., 0..9_000)), 1..80),
        ) {
            let mut builder = Builder::default();
            for (key, value) in &records {
                builder.push(key.as_deref(), value);
            }
            prop_assert_eq!(builder.count() as usize, records.len());
            let size = builder.size();
            let bytes = builder.seal(STAMP);
            prop_assert!(builder.is_empty());
            prop_assert_eq!(bytes.len(), size);
            let batch = Batch::at_front(&bytes).unwrap().unwrap();
            prop_assert_eq!(batch.size(), bytes.len());
            batch.check().unwrap();
            prop_assert!(batch.is_transactional() && !batch.is_control() && batch.codec() == 0);
            prop_assert_eq!((batch.producer_id, batch.base_timestamp), (77, STAMP.timestamp_ms));
            let mut read = batch.records(batch.payload());
            for (offset, (key, value)) in (0..).zip(&records) {
                let record = read.advance().unwrap().unwrap();
                prop_assert_eq!(record.offset, offset);
                prop_assert_eq!(record.key, key.as_deref());
                prop_assert_eq!(record.value, Some(value.as_slice()));
            }
            prop_assert_eq!(read.advance().unwrap(), None);
        }
    }

    #[test]
    fn a_batch_is_what_the_codecs_of_kafka_protocol_read() {
        let mut builder = Builder::default();
        builder.push(Some(b"k"), b"one");
        builder.push(None, b"");
        let bytes = builder.seal(STAMP);
        let read = RecordBatchDecoder::decode(&mut &bytes[..]).unwrap();
        let found: Vec<_> = read
            .records
            .iter()
            .map(|r| {
                (r.producer_id, r.producer_epoch, r.sequence, r.key.as_deref(), r.value.as_deref())
            })
            .collect();
        let expected =
            [(77, 3, 9, Some(&b"k"[..]), Some(&b"one"[..])), (77, 3, 10, None, Some(&b""[..]))];
        assert_eq!(found, expected);
        assert!(read.records.iter().all(|r| r.transactional && r.timestamp == STAMP.timestamp_ms));
    }

    /// Values of Kafka's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn keys_go_where_kafkas_own_producer_sends_them() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(partition_of(b"21", 7), (-973_932_308i32 & i32::MAX) as usize % 7);
    }
}
