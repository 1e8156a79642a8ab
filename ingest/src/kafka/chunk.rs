//! Values of messages, one behind the other, as the decoder reads them.
//!
//! Every value ends with a newline: its own, or one that is put behind it. So the rows of a message
//! end with it, and rows of many messages are one text.

/// A chunk takes no further batch from this size on: with the batch it stays in L2.
pub const CHUNK_BYTES: usize = 192 << 10;
/// Memory beyond this is given back when a chunk is cleared.
const KEPT_BYTES: usize = 4 << 20;

/// Consecutive messages of one split.
#[derive(Default)]
pub struct Chunk {
    pub split: usize,
    pub bytes: Vec<u8>,
    pub messages: Vec<Message>,
    /// The offset behind the last message, and behind what was passed over after it.
    pub next: i64,
    /// Leader's epoch of the last batch in it.
    pub leader_epoch: i32,
    /// Bytes of the values, without the newlines put behind them.
    pub payload: u64,
    /// Where columns are included that are no part of the value.
    pub facts: Option<Facts>,
}

/// What messages say beside their values, in their order.
#[derive(Clone, Default)]
pub struct Facts {
    /// Milliseconds since 1970.
    pub timestamps: Vec<i64>,
    pub keys: Vec<u8>,
    /// Where each key ends among them; `None`: the message has none.
    pub key_ends: Vec<Option<u32>>,
}

impl Facts {
    fn truncate(&mut self, messages: usize) {
        self.timestamps.truncate(messages);
        self.key_ends.truncate(messages);
        let end = self.key_ends.iter().rev().flatten().next();
        self.keys.truncate(end.map_or(0, |end| *end as usize));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its first byte in the chunk.
    pub start: u32,
    pub offset: i64,
}

impl Chunk {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.messages.clear();
        self.payload = 0;
        if let Some(facts) = &mut self.facts {
            facts.truncate(0);
        }
    }

    /// A chunk that keeps what messages say beside their values.
    pub fn with_facts() -> Chunk {
        Chunk { facts: Some(Facts::default()), ..Chunk::default() }
    }

    /// Forgets the messages behind the first so many, which took so many bytes and payload.
    pub fn truncate(&mut self, messages: usize, bytes: usize, payload: u64) {
        self.messages.truncate(messages);
        self.bytes.truncate(bytes);
        self.payload = payload;
        if let Some(facts) = &mut self.facts {
            facts.truncate(messages);
        }
    }

    /// Says of the message that was pushed last what is not in its value.
    #[inline]
    pub fn note(&mut self, timestamp: i64, key: Option<&[u8]>) {
        let Some(facts) = &mut self.facts else { return };
        facts.timestamps.push(timestamp);
        facts.key_ends.push(key.map(|key| {
            facts.keys.extend_from_slice(key);
            facts.keys.len() as u32
        }));
    }

    #[inline]
    pub fn push(&mut self, offset: i64, value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.messages.push(Message { start, offset });
        self.bytes.extend_from_slice(value);
        self.payload += value.len() as u64;
        if value.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
    }

    /// The values in order, each with the newline that ends it.
    pub fn values(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let ends = self.messages.iter().skip(1).map(|next| next.start as usize);
        let ends = ends.chain(std::iter::once(self.bytes.len()));
        self.messages
            .iter()
            .zip(ends)
            .map(|(m, end)| (m.offset, &self.bytes[m.start as usize..end]))
    }
}
