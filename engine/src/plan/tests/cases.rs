//! Every recorded Spark case: planned with Spark's columns, or refused. What they give is looked at
//! end to end, by the program itself (`tests/`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use toml::{Table, Value};

use super::*;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/spark-cases")
}

struct Case {
    table: Table,
}

impl Case {
    fn read(name: &str) -> Case {
        let dir = cases().join(name);
        let text = std::fs::read_to_string(dir.join("case.toml")).unwrap();
        Case { table: text.parse().unwrap() }
    }

    fn all() -> Vec<Case> {
        let entries = std::fs::read_dir(cases()).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<_> =
            folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names.iter().map(|name| Case::read(name)).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    fn name(&self) -> &str {
        self.text("name").unwrap()
    }

    fn job(&self) -> JobSpec {
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
        job.sources[0].watermark = watermark.map(|(column, us)| WatermarkSpec {
            column: column.into(),
            delay: Duration::from_micros(us.max(0) as u64),
            late: LateRule::Epoch,
            across: Across::Min,
            idle_timeout: Duration::from_secs(30),
            max_future_skew: None,
        });
        job.sources[0].dedup = self.table.get("dedup").map(|dedup| DedupSpec {
            columns: dedup["columns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap().into())
                .collect(),
            within_watermark: dedup["within_watermark"].as_bool().unwrap(),
        });
        if let Some(fixed) = self.table.get("static") {
            job.tables.push(TableSpec {
                name: fixed["view"].as_str().unwrap().into(),
                path: "/static.csv".into(),
                format: TableFormat::Csv(CsvDialect::default()),
                schema: columns(fixed["schema"].as_str().unwrap()),
                reload: false,
            });
        }
        job
    }
}

/// What the job's reader refuses before there is a query to plan.
fn refused_by_the_reader(case: &Case) -> Option<&'static str> {
    let watermark = case.table.get("watermark");
    let within = case.table.get("dedup").and_then(|dedup| dedup["within_watermark"].as_bool());
    if within == Some(true) && watermark.is_none() {
        return Some("deduplication within a watermark needs one");
    }
    let negative = watermark.and_then(|w| w["delay"].as_str());
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

/// What Spark refuses on a stream and works here: the count is exact, its state that of the groups.
const ALLOWED_HERE: [&str; 1] = ["count-distinct-refused"];

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
                    let ours = ALLOWED_HERE.contains(&case.name());
                    assert!(spark.is_some() || ours, "{}: Spark refuses it", case.name());
                    let own = schema_text(&plan.levels[0].plan().output.schema);
                    match Some(own.as_str()) == spark {
                        true => "planned".into(),
                        false if ours => "planned, which Spark refuses".into(),
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
