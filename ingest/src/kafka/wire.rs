//! Reads Kafka's primitive types from bytes that may lie.
//!
//! Invariant: nothing is read beyond the end, nothing is allocated by what a length claims. It lacks
//! types that only small messages have: those go through the codecs of `kafka-protocol`.

/// Bytes that are not what the protocol says, and what was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A place in bytes.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Malformed(what))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        Ok(self.take(N, what)?.try_into().expect("N bytes were taken"))
    }

    pub fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// An unsigned number of 1 to 5 bytes, seven bits each, the lowest first.
    #[inline]
    pub fn unsigned(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let number = self.bits(5, what)?;
        u32::try_from(number).map_err(|_| Malformed(what))
    }

    /// A signed number of 1 to 5 bytes: zigzag.
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<i32, Malformed> {
        let number = self.unsigned(what)?;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    /// A signed number of 1 to 10 bytes: zigzag.
    #[inline]
    pub fn varlong(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let number = self.bits(10, what)?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    #[inline]
    fn bits(&mut self, bytes_max: u32, what: &'static str) -> Result<u64, Malformed> {
        // Most numbers in a record have one byte.
        let first = *self.bytes.get(self.at).ok_or(Malformed(what))?;
        self.at += 1;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for byte in 1..bytes_max {
            let next = *self.bytes.get(self.at).ok_or(Malformed(what))?;
            self.at += 1;
            number |= u64::from(next & 0x7f).checked_shl(7 * byte).ok_or(Malformed(what))?;
            if next < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed(what))
    }

    /// A length of a compact array or string: its number plus one; `None` for null.
    pub fn compact_length(&mut self, what: &'static str) -> Result<Option<usize>, Malformed> {
        Ok(self.unsigned(what)?.checked_sub(1).map(|length| length as usize))
    }

    pub fn compact_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.compact_length(what)?;
        length.map(|length| self.take(length, what)).transpose()
    }

    /// Passes over tagged fields.
    pub fn skip_tags(&mut self, what: &'static str) -> Result<(), Malformed> {
        for _ in 0..self.unsigned(what)? {
            self.unsigned(what)?;
            let length = self.unsigned(what)?;
            self.take(length as usize, what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Kafka's ByteUtils writes it.
    pub fn write_varlong(number: i64, out: &mut Vec<u8>) {
        let mut left = ((number << 1) ^ (number >> 63)) as u64;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(number: i64) {
            let mut bytes = Vec::new();
            write_varlong(number, &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong("n"), Ok(number));
            prop_assert_eq!(cursor.left(), 0);
            for cut in 0..bytes.len() {
                prop_assert!(Cursor::new(&bytes[..cut]).varlong("n").is_err());
            }
            let small = number as i32;
            bytes.clear();
            write_varlong(i64::from(small), &mut bytes);
            prop_assert_eq!(Cursor::new(&bytes).varint("n"), Ok(small));
        }
    }

    #[test]
    fn f10_a_length_beyond_the_end_is_refused() {
        for bytes in [&[0xff; 6][..], &[0x80, 0x80, 0x80, 0x80, 0x10], &[0x05, 1, 2], &[]] {
            assert!(Cursor::new(bytes).compact_bytes("b").is_err(), "{bytes:?}");
        }
        assert!(Cursor::new(&[1, 2, 3]).take(usize::MAX, "b").is_err());
        assert_eq!(Cursor::new(&[0]).compact_bytes("b"), Ok(None));
        assert_eq!(Cursor::new(&[1]).compact_bytes("b"), Ok(Some(&[][..])));
        // Two tagged fields of which the second claims more than there is.
        assert!(Cursor::new(&[2, 0, 1, 9, 1, 4, 9]).skip_tags("t").is_err());
    }
}
