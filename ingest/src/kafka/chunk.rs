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
    /// Where a job asks for them.
    pub headers: Option<Headers>,
}

/// Headers of messages, one behind the other.
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    /// Where a header's key ends among them, and its value behind that; `None`: it is null.
    fields: Vec<(u32, Option<u32>)>,
    /// How many fields there are up to each message's last.
    ends: Vec<u32>,
}

impl Facts {
    fn truncate(&mut self, messages: usize) {
        self.timestamps.truncate(messages);
        self.key_ends.truncate(messages);
        let end = self.key_ends.iter().rev().flatten().next();
        self.keys.truncate(end.map_or(0, |end| *end as usize));
        if let Some(headers) = &mut self.headers {
            headers.truncate(messages);
        }
    }
}

impl Headers {
    fn truncate(&mut self, messages: usize) {
        self.ends.truncate(messages);
        self.fields.truncate(self.ends.last().map_or(0, |end| *end as usize));
        self.bytes.truncate(self.fields.last().map_or(0, |field| end_of(*field)));
    }

    /// A header of the message that is noted next.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.fields.push((key_end, value.map(|_| self.bytes.len() as u32)));
    }

    /// Those of a message, by its place, in their order.
    pub fn of(&self, message: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let first = message.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        (first..self.ends[message] as usize).map(|at| {
            let begin = at.checked_sub(1).map_or(0, |before| end_of(self.fields[before]));
            let (key_end, value_end) = self.fields[at];
            let value = value_end.map(|end| &self.bytes[key_end as usize..end as usize]);
            (&self.bytes[begin..key_end as usize], value)
        })
    }
}

fn end_of((key_end, value_end): (u32, Option<u32>)) -> usize {
    value_end.unwrap_or(key_end) as usize
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

    /// A chunk that keeps what messages say beside their values; their headers only if asked to.
    pub fn with_facts(headers: bool) -> Chunk {
        let headers = headers.then(Headers::default);
        Chunk { facts: Some(Facts { headers, ..Facts::default() }), ..Chunk::default() }
    }

    /// Where the headers of the message go that is noted next, if anybody wants them.
    pub fn headers(&mut self) -> Option<&mut Headers> {
        self.facts.as_mut()?.headers.as_mut()
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
        if let Some(headers) = &mut facts.headers {
            headers.ends.push(headers.fields.len() as u32);
        }
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
