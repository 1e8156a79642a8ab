use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::*;

/// What was written, to be looked at while the console still holds its end.
#[derive(Clone, Default)]
struct Screen {
    text: Arc<Mutex<Vec<u8>>>,
    /// Errors of the writes to come, the next one last.
    errors: Arc<Mutex<Vec<ErrorKind>>>,
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.errors.lock().unwrap().pop() {
            return Err(kind.into());
        }
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn console(screen: &Screen, schema: SchemaRef, style: ConsoleStyle) -> Console {
    let options = ConsoleOptions {
        style,
        num_rows: 20,
        truncate: Some(20),
        zone: TimeZone::UTC,
        now_ms: || 1_500_000_004_321,
        interval_ms: 5_000,
        kept: vec![1],
    };
    Console::new(Box::new(screen.clone()), schema, options)
}

/// The rows of a case's file. Of CSV they use: NULL is an empty field, `""` the empty string, and a
/// quoted field has no quote or newline in it.
fn read_rows(path: &Path, schema: &SchemaRef) -> RecordBatch {
    let text = fs::read_to_string(path).unwrap();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); schema.fields().len()];
    for line in text.lines().skip(1) {
        let mut quoted = false;
        let separate = |c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        };
        for (field, column) in line.split(separate).zip(&mut columns) {
            column.push((!field.is_empty()).then(|| field.trim_matches('"').to_owned()));
        }
    }
    let arrays = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        let text: ArrayRef = Arc::new(StringArray::from(column));
        cast(&text, field.data_type()).unwrap()
    });
    RecordBatch::try_new(schema.clone(), arrays.collect()).unwrap()
}

/// Prints a case's batches and compares with what Spark printed.
fn check_case(name: &str, schema: &[(&str, DataType)]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let fields = schema.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let screen = Screen::default();
    let mut console = console(&screen, schema.clone(), ConsoleStyle::Spark);
    console.open(None).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    for (epoch, path) in (0..).zip(&files) {
        let rows = read_rows(path, &schema);
        // In two pieces, as several cores would deliver them.
        let half = rows.num_rows() / 2;
        console.stage(epoch, &rows.slice(0, half)).unwrap();
        console.stage(epoch, &rows.slice(half, rows.num_rows() - half)).unwrap();
        console.seal(epoch).unwrap();
        console.commit(&Committed { epoch, manifest_hash: 0 }).unwrap();
    }
    assert_eq!(screen.text(), fs::read_to_string(dir.join("console.txt")).unwrap());
}

#[test]
fn sparks_own_console_is_matched_to_the_byte() {
    let ts = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    check_case("console-word-count", &[("value", DataType::Utf8), ("count", DataType::Int64)]);
    check_case(
        "console-empty-batches",
        &[
            ("window_start", ts.clone()),
            ("window_end", ts.clone()),
            ("key", DataType::Utf8),
            ("n", DataType::Int64),
            ("s", DataType::Int64),
        ],
    );
    check_case(
        "console-cut",
        &[
            ("id", DataType::Int32),
            ("s", DataType::Utf8),
            ("x", DataType::Float64),
            ("ts", ts),
            ("even", DataType::Boolean),
            ("d", DataType::Decimal128(30, 3)),
        ],
    );
}

fn words() -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("value", Arc::new(StringArray::from(vec![Some("a \"b\""), None]))),
        ("count", Arc::new(Int64Array::from(vec![1, 2]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn json_style_prints_one_line_an_epoch() {
    let screen = Screen::default();
    let mut console = console(&screen, words().schema(), ConsoleStyle::Json);
    console.stage(3, &words()).unwrap();
    console.seal(3).unwrap();
    console.seal(4).unwrap();
    let expected = concat!(
        r#"{"batch": 3, "rows": [{"value":"a \"b\"","count":1}, {"count":2}]}"#,
        "\n",
        r#"{"batch": 4, "rows": []}"#,
        "\n",
    );
    assert_eq!(screen.text(), expected);
}

#[test]
fn an_epoch_that_is_staged_again_is_printed_once() {
    for style in [ConsoleStyle::Spark, ConsoleStyle::Json] {
        let screen = Screen::default();
        let mut console = console(&screen, words().schema(), style);
        console.stage(0, &words()).unwrap();
        console.discard().unwrap();
        console.stage(0, &words()).unwrap();
        console.seal(0).unwrap();
        let once = screen.text();
        assert_eq!(once.matches("NULL").count() + once.matches("{\"count\":2}").count(), 1);
        // The checkpoint was not published; the same rows come again.
        console.discard().unwrap();
        console.stage(0, &words()).unwrap();
        console.seal(0).unwrap();
        assert_eq!(screen.text(), once);
        console.seal(1).unwrap();
        assert!(screen.text().len() > once.len());
    }
}

#[test]
fn a_closed_pipe_is_told_apart_from_a_full_disk() {
    let screen = Screen::default();
    *screen.errors.lock().unwrap() = vec![ErrorKind::BrokenPipe, ErrorKind::StorageFull];
    let mut console = console(&screen, words().schema(), ConsoleStyle::Spark);
    console.stage(0, &words()).unwrap();
    assert!(matches!(console.seal(0), Err(Error::StateIo { .. })));
    let closed = console.seal(0).unwrap_err();
    assert!(matches!(closed, Error::OutputClosed));
    assert_eq!(closed.exit_code(), 0);
    // The rows are still there once the output takes them.
    console.seal(0).unwrap();
    assert!(screen.text().contains("|a \"b\"|    1|"));
}

#[test]
fn a_dstream_prints_its_time_and_tuples() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]));
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("spark"), None]));
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![words, counts]).unwrap();
    let screen = Screen::default();
    let mut console = console(&screen, schema, ConsoleStyle::Dstream);
    for _ in 0..11 {
        console.stage(0, &rows).unwrap();
    }
    console.seal(0).unwrap();
    let line = "-".repeat(43);
    let tuples = "(spark,2)\n(NULL,1)\n".repeat(10);
    let expected = format!("{line}\nTime: 1500000000000 ms\n{line}\n{tuples}...\n\n");
    assert_eq!(screen.text(), expected);
}

#[test]
fn rows_are_shown_as_they_came_and_as_they_left() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]));
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a,b"), None]));
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![words, counts]).unwrap();
    let screen = Screen::default();
    let mut console = console(&screen, schema, ConsoleStyle::OriginalProcessed);
    console.stage(0, &rows).unwrap();
    console.seal(0).unwrap();
    let expected = "---- Original Data ----\n\"a,b\",2\n,1\n---- Processed Data ----\n2\n1\n";
    assert_eq!(screen.text(), expected);
}
