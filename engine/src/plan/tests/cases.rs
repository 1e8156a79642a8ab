//! Every recorded Spark case: planned with Spark's columns, or refused; those without state are
//! evaluated, too, and give Spark's rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray,
    UInt32Array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Int32Type, Schema};
use toml::{Table, Value};

use super::*;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/spark-cases")
}

pub struct Case {
    pub dir: PathBuf,
    pub table: Table,
}

impl Case {
    pub fn read(name: &str) -> Case {
        let dir = cases().join(name);
        let text = std::fs::read_to_string(dir.join("case.toml")).unwrap();
        Case { dir, table: text.parse().unwrap() }
    }

    pub fn all() -> Vec<Case> {
        let entries = std::fs::read_dir(cases()).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<_> =
            folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names.iter().map(|name| Case::read(name)).collect()
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    pub fn name(&self) -> &str {
        self.text("name").unwrap()
    }

    pub fn job(&self) -> JobSpec {
        let mode = match self.text("mode").unwrap() {
            "append" => OutputMode::Append,
            "update" => OutputMode::Update,
            "complete" => OutputMode::Complete,
            other => panic!("mode {other}"),
        };
        let watermark = self.table.get("watermark").map(|watermark| {
            let delay = watermark["delay"].as_str().unwrap();
            let us = sql::duration::of_text(delay).unwrap();
            (watermark["column"].as_str().unwrap(), us)
        });
        let mut job = job(self.text("schema").unwrap(), None, mode, self.text("sql").unwrap());
        job.source.watermark = watermark.map(|(column, us)| WatermarkSpec {
            column: column.into(),
            delay: Duration::from_micros(us.max(0) as u64),
            late: LateRule::Epoch,
        });
        job
    }
}

/// What the job's reader refuses before there is a query to plan.
fn refused_by_the_reader(case: &Case) -> Option<&'static str> {
    if case.table.contains_key("dedup") {
        return Some("deduplication is not in this version");
    }
    let negative = case.table.get("watermark").and_then(|w| w["delay"].as_str());
    negative.is_some_and(|delay| delay.starts_with('-')).then_some("a delay is not negative")
}

/// `key STRING, ``count(1)`` BIGINT`, as the cases write it.
fn schema_text(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| {
        let plain = field.name().chars().all(|c| c.is_alphanumeric() || c == '_');
        let name = if plain { field.name().clone() } else { format!("`{}`", field.name()) };
        format!("{name} {}", types::sql_name(field.data_type()))
    });
    fields.collect::<Vec<_>>().join(", ")
}

/// The golden file is rewritten when `PELTON_UPDATE` is set.
#[test]
fn every_recorded_case_is_planned_with_sparks_columns_or_refused() {
    let mut found = String::new();
    for case in Case::all() {
        let outcome = match refused_by_the_reader(&case) {
            Some(reason) => format!("refused before planning: {reason}"),
            None => match plan(&case.job()) {
                Err(findings) => {
                    let whats: Vec<_> = findings.into_iter().map(|f| f.what).collect();
                    format!("refused: {}", whats.join("; "))
                }
                Ok(plan) => {
                    let spark = case.text("out_schema");
                    assert!(spark.is_some(), "{}: Spark refuses what is planned", case.name());
                    let own = schema_text(&plan.output.schema);
                    match Some(own.as_str()) == spark {
                        true => "planned".into(),
                        false => format!("planned, but columns {own}"),
                    }
                }
            },
        };
        _ = writeln!(found, "{}: {outcome}", case.name());
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/spark-plans.txt");
    if std::env::var_os("PELTON_UPDATE").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "run with PELTON_UPDATE=1 to rewrite {golden:?}");
}

/// RFC 4180 rows: an unquoted empty field is NULL.
pub fn csv(text: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = vec![vec![]];
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let mut field = String::new();
        let quoted = rest.next_if_eq(&'"').is_some();
        if quoted {
            while let Some(c) = rest.next() {
                if c == '"' && rest.next_if_eq(&'"').is_none() {
                    break;
                }
                field.push(c);
            }
        } else {
            while let Some(c) = rest.next_if(|c| !matches!(c, ',' | '\n')) {
                field.push(c);
            }
        }
        let field = if field.is_empty() && !quoted { None } else { Some(field) };
        rows.last_mut().unwrap().push(field);
        if rest.next() != Some(',') {
            rows.push(vec![]);
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// The input columns of a batch file, decoded as `try_cast` reads them.
pub fn decode(plan: &Plan, job: &JobSpec, text: &str) -> (Vec<ArrayRef>, usize) {
    let rows = csv(text);
    let (header, rows) = rows.split_first().unwrap();
    let names: Vec<&str> = header.iter().map(|name| name.as_deref().unwrap()).collect();
    let columns = plan.input.iter().map(|input| {
        let column = &job.source.schema[input.source];
        let place = names.iter().position(|name| *name == column.name).unwrap();
        read_texts(rows.iter().map(|row| row[place].as_deref()).collect(), &column.data_type)
    });
    (columns.collect(), rows.len())
}

/// Texts as values of a type, by Spark's casts; the cases hold no bad ones.
fn read_texts(texts: StringArray, data_type: &DataType) -> ArrayRef {
    if *data_type == DataType::Utf8 {
        return Arc::new(texts);
    }
    let mut one = Columns::default();
    one.push(Column::from_name("text"), DataType::Utf8, 0);
    let cast = Expr::Cast(Cast::new(Box::new(col("text")), data_type.clone()));
    let compiled = Compiler { zone: TimeZone::UTC }.compile(&cast, &one).unwrap();
    let rows = texts.len();
    let evaluated = compiled.evaluate(&[Arc::new(texts)], rows, None);
    assert_eq!(evaluated.errors, [], "the case's own rows");
    evaluated.values
}

/// Rows as they leave, and the reasons of the rows that are rejected.
fn run(plan: &Plan, columns: Vec<ArrayRef>, rows: usize) -> (RecordBatch, Vec<String>) {
    let Shape::Rows { columns: exprs, schema } = &plan.shape else { panic!("the case has groups") };
    let mut errors = BTreeMap::new();
    let (mut columns, mut rows) = (columns, rows);
    for filter in plan.filter_below.iter().chain(&plan.filter_above) {
        let evaluated = filter.evaluate(&columns, rows, None);
        errors.extend(evaluated.errors);
        let mask = evaluated.values.as_boolean();
        columns = keep(&columns, mask);
        rows = mask.true_count();
    }
    if let Some(explode) = &plan.explode {
        let ExplodeList::List(list) = &explode.list else { panic!("words leave as they are") };
        let evaluated = list.evaluate(&columns, rows, None);
        errors.extend(evaluated.errors);
        let lists = evaluated.values.as_list::<i32>();
        let parents: UInt32Array = (0..rows as u32)
            .flat_map(|row| std::iter::repeat_n(row, lists.value(row as usize).len()))
            .collect();
        let first = lists.value_offsets()[0] as usize;
        columns = columns.iter().map(|column| take(column, &parents, None).unwrap()).collect();
        columns.push(lists.values().slice(first, parents.len()));
        rows = parents.len();
    }
    let values = exprs.iter().map(|expr| {
        let evaluated = expr.evaluate(&columns, rows, None);
        errors.extend(evaluated.errors);
        evaluated.values
    });
    let values: Vec<ArrayRef> = values.collect();
    let batch = RecordBatch::try_new(Arc::clone(schema), values).unwrap();
    let good: BooleanArray = (0..rows as u32).map(|row| Some(!errors.contains_key(&row))).collect();
    let batch = filter_record_batch(&batch, &good).unwrap();
    (plan.output.run(batch).unwrap(), errors.into_values().collect())
}

fn keep(columns: &[ArrayRef], mask: &BooleanArray) -> Vec<ArrayRef> {
    columns.iter().map(|column| arrow::compute::filter(column, mask).unwrap()).collect()
}

/// Rows as text, sorted.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let mut lines = Vec::new();
    for row in 0..batch.num_rows() {
        let cells = batch.columns().iter().map(|column| cell(column, row));
        lines.push(cells.collect::<Vec<_>>().join(","));
    }
    lines.sort_unstable();
    lines
}

pub fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Utf8 => format!("{:?}", column.as_string::<i32>().value(row)),
        DataType::Float64 | DataType::Float32 => {
            let doubles = arrow::compute::cast(column, &DataType::Float64).unwrap();
            let value = doubles.as_primitive::<arrow::datatypes::Float64Type>().value(row);
            format!("{value:?}")
        }
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        _ => arrow::util::display::array_value_to_string(column, row).unwrap(),
    }
}

/// The expected rows, read as the output's types so that `1e+16` and `1E16` are one.
pub fn expected(plan: &Plan, text: &str) -> RecordBatch {
    let rows = csv(text);
    let fields = plan.output.schema.fields().iter().enumerate();
    let columns = fields.map(|(place, field)| {
        let texts = rows[1..].iter().map(|row| row[place].as_deref()).collect();
        read_texts(texts, field.data_type())
    });
    let schema = Arc::clone(&plan.output.schema);
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len() - 1));
    RecordBatch::try_new_with_options(schema, columns.collect(), &options).unwrap()
}

fn check(name: &str) {
    let case = Case::read(name);
    let job = case.job();
    let plan = match plan(&job) {
        Ok(plan) => plan,
        Err(findings) => panic!("{name}: {findings:?}"),
    };
    let mut files: Vec<_> =
        std::fs::read_dir(case.dir.join("in")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort_unstable();
    let failed = case.table.get("failed");
    let failed_at = failed.and_then(|failed| failed["batch"].as_integer());
    for (batch, file) in files.iter().enumerate() {
        let text = std::fs::read_to_string(file).unwrap();
        let (columns, rows) = decode(&plan, &job, &text);
        let (out, errors) = run(&plan, columns, rows);
        if failed_at == Some(batch as i64) {
            assert!(!errors.is_empty(), "{name}: Spark fails at batch {batch}: {failed:?}");
            return;
        }
        assert!(errors.is_empty(), "{name}: batch {batch}: {errors:?}");
        let spark = case.dir.join("out").join(file.file_name().unwrap());
        let spark = std::fs::read_to_string(spark).unwrap();
        assert_eq!(lines(&out), lines(&expected(&plan, &spark)), "{name}: batch {batch}");
    }
}

macro_rules! cases {
    ($($test:ident: $name:literal)*) => {
        $(#[test] fn $test() { check($name) })*
    };
}

cases! {
    arithmetic: "arithmetic"
    array_index_fails: "array-index-fails"
    case_when: "case-when"
    cast_invalid_fails: "cast-invalid-fails"
    casts: "casts"
    decimal_arithmetic: "decimal-arithmetic"
    divide_by_zero_fails: "divide-by-zero-fails"
    explode_append: "explode-append"
    integer_overflow_fails: "integer-overflow-fails"
    narrow_cast_fails: "narrow-cast-fails"
    stateless_append: "stateless-append"
    stateless_late_rows_pass: "stateless-late-rows-pass"
    stateless_update: "stateless-update"
    string_functions: "string-functions"
    string_functions_2: "string-functions-2"
    timestamp_conversions: "timestamp-conversions"
    timestamp_functions: "timestamp-functions"
}
