//! Rejected rows as a batch, and where they go when the job names no sink for them.
//!
//! With a checkpoint path: JSON lines in `dead_letters` below it, published with the epoch as any
//! output is. Without one: standard error, the first few of an epoch and a count of the rest.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::file::FileSink;
use super::{Committed, Decides, Outcome, Restored, Sink, Staged};
use crate::batch::DeadLetter;
use crate::error::{Error, Result};
use crate::format;
use crate::job::spec::{FileFormat, Place};
use crate::storage::ObjectStorage;

/// Letters of one epoch that standard error shows.
const SHOWN: u64 = 10;
/// Bytes of a row that standard error shows.
const RAW_SHOWN: usize = 200;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("raw", DataType::Binary, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("split", DataType::Int64, false),
        Field::new("major", DataType::Int64, false),
        Field::new("minor", DataType::Int64, false),
        Field::new("line", DataType::Int64, true),
        Field::new("column", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, false),
    ]))
});

/// `raw` BINARY, `source` (file or peer), `split`, `major` and `minor` (the row's position: file and
/// byte, or offset and row in the message), `line` (NULL where there are none), `column` (NULL where
/// the row as a whole is at fault), `reason`.
pub fn dead_letter_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// One row a letter, in the order given.
pub fn dead_letters(letters: &[DeadLetter]) -> RecordBatch {
    let text = |of: fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
        Arc::new(letters.iter().map(of).collect::<StringArray>())
    };
    let number = |of: fn(&DeadLetter) -> Option<u64>| -> ArrayRef {
        let clamp = |number| i64::try_from(number).unwrap_or(i64::MAX);
        Arc::new(letters.iter().map(|letter| of(letter).map(clamp)).collect::<Int64Array>())
    };
    let columns = vec![
        Arc::new(BinaryArray::from_iter_values(letters.iter().map(|letter| &letter.raw))),
        text(|letter| Some(&letter.name)),
        number(|letter| Some(u64::from(letter.position.split))),
        number(|letter| Some(letter.position.major)),
        number(|letter| Some(letter.position.minor)),
        number(|letter| (letter.line > 0).then_some(letter.line)),
        text(|letter| letter.column.as_deref()),
        text(|letter| Some(&letter.reason)),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns).expect("the columns are the schema's")
}

/// Whether rows are dead letters.
pub fn is(rows: &RecordBatch) -> bool {
    Arc::ptr_eq(rows.schema_ref(), &SCHEMA) || *rows.schema_ref() == *SCHEMA
}

/// Dead letters for a text format: `raw` as text where it is UTF-8, else NULL and its base64 in
/// `raw_base64`.
pub fn readable(letters: &RecordBatch) -> RecordBatch {
    let raw = letters.column(0).as_binary::<i32>();
    let text: StringArray =
        raw.iter().map(|raw| raw.and_then(|raw| std::str::from_utf8(raw).ok())).collect();
    let coded = raw.iter().zip(&text).map(|(raw, text)| match text {
        Some(_) => None,
        None => raw.map(format::base64),
    });
    let coded: StringArray = coded.collect();
    let mut fields = vec![
        Arc::new(Field::new("raw", DataType::Utf8, true)),
        Arc::new(Field::new("raw_base64", DataType::Utf8, true)),
    ];
    fields.extend(SCHEMA.fields().iter().skip(1).cloned());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(text), Arc::new(coded)];
    columns.extend(letters.columns().iter().skip(1).cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("the columns are the fields'")
}

/// The sink of dead letters for a job that names none. `attempt`: as of [`FileSink::at`].
pub fn default_sink(
    checkpoint: Option<&Place>,
    attempt: String,
    stderr: Box<dyn Write + Send>,
) -> Result<Box<dyn Sink>> {
    const DIRECTORY: &str = "dead_letters";
    Ok(match checkpoint {
        Some(Place::Directory(path)) => {
            Box::new(FileSink::at(&path.join(DIRECTORY), FileFormat::Json, attempt)?)
        }
        Some(Place::Bucket(url)) => {
            let opened = ObjectStorage::open(&format!("{url}/{DIRECTORY}"));
            let storage = opened.map_err(|source| Error::StateIo {
                what: format!("cannot open {url}/{DIRECTORY}"),
                source,
            })?;
            Box::new(FileSink::new(Arc::new(storage), FileFormat::Json, attempt))
        }
        None => Box::new(LetterPrinter::new(stderr)),
    })
}

/// Prints the first dead letters of an epoch, one a line, and how many there were beside them.
pub struct LetterPrinter {
    out: Box<dyn Write + Send>,
    lines: String,
    letters: u64,
    /// The newest epoch that was printed.
    printed: Option<u64>,
}

impl LetterPrinter {
    pub fn new(out: Box<dyn Write + Send>) -> LetterPrinter {
        LetterPrinter { out, lines: String::new(), letters: 0, printed: None }
    }
}

impl Sink for LetterPrinter {
    fn marker(&mut self) -> Result<Decides> {
        Ok(Decides::Manifest)
    }

    fn open(&mut self, _restored: Option<&Restored>) -> Result<Option<Committed>> {
        Ok(None)
    }

    fn stage(&mut self, _epoch: u64, rows: &RecordBatch) -> Result<()> {
        let shown = SHOWN.saturating_sub(self.letters).min(rows.num_rows() as u64);
        for row in 0..shown as usize {
            self.lines.push_str(&line(rows, row));
        }
        self.letters += rows.num_rows() as u64;
        Ok(())
    }

    fn seal(&mut self, epoch: u64) -> Result<Staged> {
        if self.letters > 0 && self.printed < Some(epoch) {
            if self.letters > SHOWN {
                let rest = self.letters - SHOWN;
                self.lines.push_str(&format!(
                    "rejected: {rest} more rows of epoch {epoch} (a [checkpoint] path, or a sink \
                     with of = \"dead_letters\", keeps them all)\n"
                ));
            }
            let written = self.out.write_all(self.lines.as_bytes()).and_then(|()| self.out.flush());
            match written {
                // Nobody reads the log: that is no reason to stop.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(source) => {
                    let what = "cannot write dead letters to standard error".to_owned();
                    return Err(Error::StateIo { what, source });
                }
                Ok(()) => {}
            }
            self.printed = Some(epoch);
        }
        self.discard()?;
        Ok(Staged::default())
    }

    fn discard(&mut self) -> Result<()> {
        self.lines.clear();
        self.letters = 0;
        Ok(())
    }

    fn commit(&mut self, _checkpoint: &Committed) -> Result<Outcome> {
        Ok(Outcome::Committed)
    }

    fn bytes_held(&self) -> usize {
        self.lines.capacity()
    }
}

/// `rejected: trades.csv: line 4182, column "price": expected DOUBLE, found "12,5": 1,"12,5",x`.
fn line(letters: &RecordBatch, row: usize) -> String {
    let text = |column: usize| letters.column(column).as_string::<i32>();
    let line = letters.column(5).as_primitive::<Int64Type>();
    let mut place = text(1).value(row).to_owned();
    if line.is_valid(row) {
        place += &format!(": line {}", line.value(row));
    }
    if text(6).is_valid(row) {
        place += &format!(", column \"{}\"", text(6).value(row));
    }
    let raw = letters.column(0).as_binary::<i32>().value(row);
    let cut = raw.len() > RAW_SHOWN;
    let raw = raw[..raw.len().min(RAW_SHOWN)].escape_ascii();
    let dots = if cut { "..." } else { "" };
    format!("rejected: {place}: {}: {raw}{dots}\n", text(7).value(row))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::batch::Position;
    use crate::format::json;

    fn letter(raw: &[u8], line: u64, column: Option<&str>) -> DeadLetter {
        DeadLetter {
            raw: raw.to_vec(),
            name: "trades.csv".into(),
            position: Position { split: 0, major: 2, minor: 77 },
            line,
            column: column.map(Into::into),
            reason: "expected DOUBLE".to_owned(),
        }
    }

    #[test]
    fn raw_bytes_are_text_where_they_can_be() {
        let batch =
            dead_letters(&[letter(b"a,\"b", 7, Some("price")), letter(&[0xff, 0], 0, None)]);
        assert!(is(&batch));
        assert_eq!(batch.schema(), dead_letter_schema());
        let mut out = Vec::new();
        json::Writer::default().rows(&readable(&batch), b"\n", &mut out).unwrap();
        let expected = concat!(
            r#"{"raw":"a,\"b","source":"trades.csv","split":0,"major":2,"minor":77,"line":7,"#,
            r#""column":"price","reason":"expected DOUBLE"}"#,
            "\n",
            r#"{"raw_base64":"/wA=","source":"trades.csv","split":0,"major":2,"minor":77,"#,
            r#""reason":"expected DOUBLE"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn standard_error_gets_ten_letters_an_epoch_and_a_count() {
        let log = Log::default();
        let mut sink = default_sink(None, String::new(), Box::new(log.clone())).unwrap();
        let few: Vec<_> = (1..=7).map(|line| letter(b"x\n\xff", line, Some("price"))).collect();
        for epoch in 0..2 {
            sink.stage(epoch, &dead_letters(&few)).unwrap();
            sink.stage(epoch, &dead_letters(&few)).unwrap();
            sink.seal(epoch).unwrap();
        }
        sink.seal(2).unwrap();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 22);
        let first = "rejected: trades.csv: line 1, column \"price\": expected DOUBLE: x\\n\\xff";
        assert_eq!(lines[0], first);
        assert!(lines[10].starts_with("rejected: 4 more rows of epoch 0 "));
        assert_eq!(lines[11], first);
        // Staged again after a checkpoint that failed: not said twice.
        sink.stage(1, &dead_letters(&few)).unwrap();
        sink.seal(1).unwrap();
        assert_eq!(log.0.lock().unwrap().len(), text.len());
    }
}
