//! Columns that stand in no row's text: what each Kafka message says beside its value.
//!
//! Invariant: a row's facts are those of the message that its first byte lies in.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListArray, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use pelton_engine::batch::{Reason, ValueError};
use pelton_engine::job::spec::Included;
use pelton_kernels::interner::Interner;

use crate::kafka::Chunk;
use crate::kafka::chunk::Facts;

/// What the messages say whose rows are decoded next.
#[derive(Default)]
pub struct Messages {
    topic: Arc<str>,
    partition: i32,
    starts: Vec<u32>,
    offsets: Vec<i64>,
    facts: Facts,
}

impl Messages {
    /// Takes over what a chunk knows.
    pub fn describe(&mut self, topic: &Arc<str>, partition: i32, chunk: &Chunk) {
        (self.topic, self.partition) = (Arc::clone(topic), partition);
        self.starts.clear();
        self.offsets.clear();
        self.starts.extend(chunk.messages.iter().map(|message| message.start));
        self.offsets.extend(chunk.messages.iter().map(|message| message.offset));
        if let Some(facts) = &chunk.facts {
            self.facts.clone_from(facts);
        }
    }

    /// The message of each row, where the rows' bytes begin at `base` of the chunk.
    fn of_rows<'a>(&'a self, base: u32, rows: &'a [u32]) -> impl Iterator<Item = usize> + 'a {
        let mut message = 0;
        rows.iter().map(move |start| {
            while self.starts.get(message + 1).is_some_and(|next| *next <= base + start) {
                message += 1;
            }
            message
        })
    }

    fn key(&self, message: usize) -> Option<&[u8]> {
        let end = self.facts.key_ends[message]? as usize;
        let before = self.facts.key_ends[..message].iter().rev().flatten().next();
        Some(&self.facts.keys[before.map_or(0, |end| *end as usize)..end])
    }

    /// One column, by its place in the plan's input. A key that is no text is an error of its row.
    pub fn column(
        &self,
        (included, input): (Included, u16),
        (base, rows, ends): (u32, &[u32], &[u32]),
        interner: Option<&mut Interner>,
        errors: &mut Vec<ValueError>,
    ) -> ArrayRef {
        let of_rows = self.of_rows(base, rows);
        match included {
            Included::Partition => Arc::new(Int32Array::from_value(self.partition, rows.len())),
            Included::Offset => {
                Arc::new(Int64Array::from_iter_values(of_rows.map(|at| self.offsets[at])))
            }
            Included::Timestamp => {
                let times = of_rows.map(|at| self.facts.timestamps[at].saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            Included::Topic => {
                let topic = &*self.topic;
                texts(rows.iter().map(|_| Some(topic)), interner)
            }
            Included::Key => {
                let mut keys = Vec::with_capacity(rows.len());
                for (row, message) in of_rows.enumerate() {
                    let key = self.key(message);
                    let text = key.map(std::str::from_utf8);
                    if let Some(Err(_)) = text {
                        errors.push(ValueError {
                            row: row as u32,
                            column: input,
                            start: rows[row],
                            end: ends[row],
                            reason: Reason::InvalidUtf8,
                        });
                    }
                    keys.push(text.and_then(Result::ok));
                }
                texts(keys.into_iter(), interner)
            }
            Included::Headers => {
                let headers =
                    self.facts.headers.as_ref().expect("a job that wants them keeps them");
                let mut lists = Lists::default();
                for (row, message) in of_rows.enumerate() {
                    if !lists.push(headers.of(message)) {
                        errors.push(ValueError {
                            row: row as u32,
                            column: input,
                            start: rows[row],
                            end: ends[row],
                            reason: Reason::InvalidUtf8,
                        });
                    }
                }
                lists.finish()
            }
        }
    }
}

/// Headers of rows as a list of structs; NULL where there is none, as in Spark.
#[derive(Default)]
struct Lists {
    keys: StringBuilder,
    values: BinaryBuilder,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Lists {
    /// A row; `false`: a key of its headers is no text, and the row has none.
    fn push<'a>(&mut self, headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> bool {
        let texts = headers.map(|(key, value)| Some((std::str::from_utf8(key).ok()?, value)));
        let Some(all) = texts.collect::<Option<Vec<_>>>() else {
            self.lengths.push(0);
            self.valid.push(false);
            return false;
        };
        self.lengths.push(all.len());
        self.valid.push(!all.is_empty());
        for (key, value) in all {
            self.keys.append_value(key);
            self.values.append_option(value);
        }
        true
    }

    fn finish(mut self) -> ArrayRef {
        let fields = Included::header_fields();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())];
        let headers = StructArray::new(fields, columns, None);
        let item = Arc::new(Field::new("item", headers.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Arc::new(ListArray::new(item, offsets, Arc::new(headers), Some(self.valid.into())))
    }
}

fn texts<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    interner: Option<&mut Interner>,
) -> ArrayRef {
    match interner {
        None => Arc::new(StringArray::from_iter(texts)),
        Some(interner) => {
            let id = |text: Option<&str>| text.map_or(0, |text| interner.intern(text.as_bytes()));
            Arc::new(UInt32Array::from_iter_values(texts.map(id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};

    use super::*;

    #[test]
    fn each_row_has_the_facts_of_its_message() {
        let mut chunk = Chunk::with_facts(true);
        for (offset, value, timestamp, key) in [
            (5, "a\nbb", 1, Some(&b"k"[..])),
            (7, "ccc", 2, None),
            (8, "d", 3, Some(&b"long"[..])),
            (9, "e", 4, Some(&b"\xff"[..])),
        ] {
            let headers = chunk.headers().unwrap();
            match offset {
                5 => headers.push(b"gone", Some(b"")),
                8 => {
                    headers.push(b"trace", Some(b"\xff1"));
                    headers.push(b"", None);
                }
                9 => headers.push(b"\xff", Some(b"x")),
                _ => {}
            }
            chunk.push(offset, value.as_bytes());
            chunk.note(timestamp, key);
        }
        let mut messages = Messages::default();
        messages.describe(&"t".into(), 3, &chunk);
        // "a bb ccc d e", of which the first row was decoded before.
        let (base, rows, ends) = (2, [0, 3, 7, 9], [2, 6, 8, 10]);
        let mut errors = Vec::new();
        let mut column =
            |included| messages.column((included, 4), (base, &rows, &ends), None, &mut errors);
        assert_eq!(column(Included::Offset).as_primitive::<Int64Type>().values(), &[5, 7, 8, 9]);
        let times = column(Included::Timestamp);
        assert_eq!(
            times.as_primitive::<TimestampMicrosecondType>().values(),
            &[1_000, 2_000, 3_000, 4_000]
        );
        let keys = column(Included::Key);
        let keys: Vec<_> = keys.as_string::<i32>().iter().collect();
        assert_eq!(keys, [Some("k"), None, Some("long"), None]);
        let headers = column(Included::Headers);
        assert_eq!(*headers.data_type(), Included::Headers.data_type());
        let headers = headers.as_list::<i32>();
        let valid: Vec<bool> = (0..4).map(|row| headers.is_valid(row)).collect();
        assert_eq!(valid, [true, false, true, false]);
        let of_d = headers.value(2);
        let of_d = of_d.as_struct();
        assert_eq!(
            of_d.column(0).as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("trace"), Some("")]
        );
        let values: Vec<_> = of_d.column(1).as_binary::<i32>().iter().collect();
        assert_eq!(values, [Some(&b"\xff1"[..]), None]);
        let places: Vec<_> = errors.iter().map(|error| (error.row, error.column)).collect();
        assert_eq!(places, [(3, 4), (3, 4)]);
        let mut interner = Interner::new();
        let ids = messages.column(
            (Included::Key, 0),
            (base, &rows, &ends),
            Some(&mut interner),
            &mut errors,
        );
        let ids = ids.as_primitive::<UInt32Type>();
        assert_eq!(interner.value(ids.value(2)), b"long");
        assert_eq!(ids.value(1), 0, "NULL");
    }
}
