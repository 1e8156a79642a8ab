//! Rows as the keys and values of messages, in one piece of memory.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use pelton_engine::columns::plain_column;
use pelton_engine::error::{Error, Result};
use pelton_engine::format::{csv, json};
use pelton_engine::job::spec::{KafkaFormat, KafkaSink as Spec};
use pelton_engine::sink::dead_letter;

/// Messages to one topic, in order.
#[derive(Default)]
pub struct Messages {
    pub topic: String,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// End of each message's key, `None` for one without, and of its value.
    ends: Vec<(Option<usize>, usize)>,
}

impl Messages {
    pub fn to(topic: &str) -> Messages {
        Messages { topic: topic.to_owned(), ..Messages::default() }
    }

    pub fn bytes_held(&self) -> usize {
        self.keys.capacity()
            + self.values.capacity()
            + self.ends.capacity() * size_of::<(Option<usize>, usize)>()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.ends.clear();
    }

    /// (Key, value) of each.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let (mut key_from, mut from) = (0, 0);
        self.ends.iter().map(move |&(key_end, end)| {
            let key = key_end.map(|key_end| {
                let key = &self.keys[key_from..key_end];
                key_from = key_end;
                key
            });
            let value = &self.values[from..end];
            from = end;
            (key, value)
        })
    }
}

/// Turns rows into messages. Keeps its buffers.
pub struct Encoder {
    format: KafkaFormat,
    /// Column whose text is the key.
    key: Option<usize>,
    csv: csv::Writer,
    json: json::Writer,
}

impl Encoder {
    /// Errors: `BadJob` where the key is no column.
    pub fn new(spec: &Spec, schema: &SchemaRef) -> Result<Encoder> {
        let key = spec.key.as_ref().map(|name| {
            let mut fields = schema.fields().iter();
            fields.position(|field| field.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
                let columns: Vec<&str> =
                    schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::BadJob {
                    rendered: format!(
                        "the Kafka sink's `key` is no column of its rows: found \"{name}\", \
                         expected one of {}",
                        columns.join(", ")
                    ),
                }
            })
        });
        let key = key.transpose()?;
        let (csv, json) = (csv::Writer::default(), json::Writer::default());
        Ok(Encoder { format: spec.format, key, csv, json })
    }

    /// Appends a message a row.
    pub fn encode(&mut self, rows: &RecordBatch, out: &mut Messages) -> Result<()> {
        self.append(rows, out)
            .map_err(|error| Error::failed(format!("cannot write rows as messages: {error}")))
    }

    fn append(
        &mut self,
        rows: &RecordBatch,
        out: &mut Messages,
    ) -> std::result::Result<(), ArrowError> {
        let first = out.ends.len();
        let Messages { values, keys, ends, .. } = out;
        let readable;
        let shown = match dead_letter::is(rows) {
            true => {
                readable = dead_letter::readable(rows);
                &readable
            }
            false => rows,
        };
        match self.format {
            KafkaFormat::Csv => self.csv.each(shown, values, |values| {
                // The row's line feed is no part of a message.
                values.pop();
                ends.push((None, values.len()));
            })?,
            KafkaFormat::Json => self.json.each(shown, values, |values| {
                ends.push((None, values.len()));
            })?,
        }
        let Some(key) = self.key else { return Ok(()) };
        let column = plain_column(rows.column(key))?;
        let texts = match column.data_type() {
            DataType::Utf8 => column,
            _ => arrow::compute::cast(&column, &DataType::Utf8)?,
        };
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            if let Some(text) = text {
                keys.extend_from_slice(text.as_bytes());
                ends[first + row].0 = Some(keys.len());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use pelton_engine::job::spec::KafkaClient;

    use super::*;

    fn check(format: KafkaFormat, key: Option<&str>, expected: &[(Option<&str>, &str)]) {
        let words: ArrayRef =
            Arc::new(StringArray::from(vec![Some("two\nlines"), None, Some("b")]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 1, 7]));
        let rows = RecordBatch::try_from_iter([("word", words), ("n", counts)]).unwrap();
        let spec = Spec {
            bootstrap_servers: Vec::new(),
            topic: "out".into(),
            key: key.map(str::to_owned),
            format,
            exactly_once: true,
            commits_topic: "commits".into(),
            discover_interval: std::time::Duration::from_secs(300),
            client: KafkaClient::Native,
            properties: Vec::new(),
        };
        let mut encoder = Encoder::new(&spec, &rows.schema()).unwrap();
        let mut messages = Messages::to("out");
        encoder.encode(&rows.slice(0, 1), &mut messages).unwrap();
        encoder.encode(&rows.slice(1, 2), &mut messages).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> =
            messages.iter().map(|(key, value)| (key.map(text), text(value))).collect();
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| (k.map(str::to_owned), (*v).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_row_is_a_message() {
        let csv = [(None, "\"two\nlines\",2"), (None, ",1"), (None, "b,7")];
        check(KafkaFormat::Csv, None, &csv);
        let keyed = [(Some("two\nlines"), "\"two\nlines\",2"), (None, ",1"), (Some("b"), "b,7")];
        check(KafkaFormat::Csv, Some("WORD"), &keyed);
        let json = [
            (Some("2"), "{\"word\":\"two\\nlines\",\"n\":2}"),
            (Some("1"), "{\"n\":1}"),
            (Some("7"), "{\"word\":\"b\",\"n\":7}"),
        ];
        check(KafkaFormat::Json, Some("n"), &json);
    }
}
