//! Static tables: one content in every format, refused where it is not what the job file says.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use pelton_engine::error::Error;
use pelton_engine::job::spec::{CsvDialect, Format, Header, JobSpec, TableFormat, TableSpec};

use crate::runtime::tests::{job, schema};
use crate::tables::Tables;

fn table(dir: &Path, file: &str, format: TableFormat) -> TableSpec {
    let mut schema = schema(&["label", "n"]);
    schema.iter_mut().for_each(|column| column.empty_is_null = true);
    TableSpec { name: "dim".into(), path: dir.join(file), format, schema, reload: true }
}

fn with(table: TableSpec) -> JobSpec {
    let kind = pelton_engine::job::spec::SourceKind::Stdin;
    let mut job = job(kind, Format::Text, schema(&["label"]));
    job.tables = vec![table];
    job
}

fn csv() -> TableFormat {
    TableFormat::Csv(CsvDialect { header: Header::Match, ..CsvDialect::default() })
}

fn rows(n: ArrayRef) -> RecordBatch {
    let fields = vec![
        Field::new("more", DataType::Utf8, true),
        Field::new("N", n.data_type().clone(), true),
        Field::new("label", DataType::Utf8, true),
    ];
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::clone(&names), n, names]).unwrap()
}

fn read(table: TableSpec) -> Result<RecordBatch, Error> {
    Tables::read(&with(table)).map(|tables| tables.rows()[0].clone())
}

fn told(table: TableSpec) -> String {
    read(table).expect_err("it is refused").to_string()
}

#[test]
fn every_format_gives_the_same_columns() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), "n,more,label\n7,x,a\n,y,\n").unwrap();
    let of_csv = read(table(dir.path(), "t.csv", csv())).unwrap();
    assert_eq!(of_csv.num_rows(), 2);

    let wide = rows(Arc::new(Int64Array::from(vec![Some(7), None])));
    let file = std::fs::File::create(dir.path().join("t.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, wide.schema(), None).unwrap();
    writer.write(&wide).unwrap();
    writer.close().unwrap();
    assert_eq!(read(table(dir.path(), "t.parquet", TableFormat::Parquet)).unwrap(), of_csv);

    let same = rows(Arc::new(Int32Array::from(vec![Some(7), None])));
    let file = std::fs::File::create(dir.path().join("t.arrow")).unwrap();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &same.schema()).unwrap();
    writer.write(&same).unwrap();
    writer.finish().unwrap();
    assert_eq!(read(table(dir.path(), "t.arrow", TableFormat::Arrow)).unwrap(), of_csv);
}

#[test]
fn a_table_that_is_not_what_the_job_says_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str, expected: &str| {
        std::fs::write(dir.path().join("t.csv"), text).unwrap();
        let told = told(table(dir.path(), "t.csv", csv()));
        assert!(told.contains(expected), "{told}");
    };
    check("n,label\n7,a\nx,b\n", "line 3, column \"n\": expected INT, found \"x\"");
    check("n,label\n7,a,b\n", "line 2: expected 2 fields, found 3");
    check("label\na\n", "expected a column \"n\"");
    assert!(told(table(dir.path(), "none.csv", csv())).contains("cannot read the table dim"));
    let big = rows(Arc::new(Int64Array::from(vec![Some(i64::MAX), None])));
    let file = std::fs::File::create(dir.path().join("t.arrow")).unwrap();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &big.schema()).unwrap();
    writer.write(&big).unwrap();
    writer.finish().unwrap();
    assert!(told(table(dir.path(), "t.arrow", TableFormat::Arrow)).contains("column \"n\""));
}

#[test]
fn a_changed_file_is_read_again_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "n,label\n7,a\n").unwrap();
    let mut job = with(table(dir.path(), "t.csv", csv()));
    let mut tables = Tables::read(&job).unwrap();
    assert!(!tables.refresh(&job).unwrap(), "the file is the same");
    std::fs::write(&path, "n,label\n7,a\n8,b\n").unwrap();
    assert!(tables.refresh(&job).unwrap());
    assert_eq!(tables.rows()[0].num_rows(), 2);
    std::fs::remove_file(&path).unwrap();
    assert!(!tables.refresh(&job).unwrap(), "a file that is being replaced is waited for");
    std::fs::write(&path, "n,label\n").unwrap();
    job.tables[0].reload = false;
    assert!(!tables.refresh(&job).unwrap());
}
