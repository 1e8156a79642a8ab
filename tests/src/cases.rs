//! What Spark did with queries, as data, and each of them as a job of this program.
//!
//! `spark-cases/README.md` says what a case holds; `data/spark-cases-more` has further ones. A case becomes a directory with a job file: a file
//! source that takes one file an epoch, Spark's rule of lateness, the console in its `json` style (the
//! cases of the console itself: in Spark's). A file that arrives once the stream is at rest is a run of
//! its own over the checkpoint of the run before, which ends at rest. A second stream is a source
//! `other` over a directory of that name.
//!
//! Nothing here knows a case by its name.

pub mod compare;
pub mod csv;
pub mod json;
pub mod run;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The folders of the cases.
const FOLDERS: [&str; 2] = ["spark-cases", "data/spark-cases-more"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// How the input files come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// One by one, each once the stream is at rest.
    Each,
    /// All are there at the start, an epoch each.
    Backlog,
    /// All are there at the start, in one epoch.
    Once,
}

/// What Spark did in one batch.
#[derive(Debug)]
pub struct Batch {
    pub id: u64,
    pub inputs: Vec<String>,
    /// Of the second stream.
    pub other_inputs: Vec<String>,
    pub input_rows: u64,
    /// The one that it emitted and evicted by.
    pub watermark: Option<String>,
    /// Groups or rows.
    pub late: u64,
    pub state_rows: u64,
}

impl Batch {
    /// Each file, below the folder of its stream.
    pub fn files(&self) -> impl Iterator<Item = String> {
        let first = self.inputs.iter().map(|name| format!("in/{name}"));
        first.chain(self.other_inputs.iter().map(|name| format!("other/{name}")))
    }
}

pub struct Case {
    pub dir: PathBuf,
    table: Table,
}

impl Case {
    /// Every case of each folder, by name.
    pub fn all() -> [Vec<Case>; 2] {
        FOLDERS.map(|name| Case::of(&folder(name)))
    }

    /// Every case of a folder, by name.
    pub fn of(folder: &Path) -> Vec<Case> {
        let entries = std::fs::read_dir(folder).expect("the folder of cases can be read");
        let entries = entries.map(|entry| entry.expect("an entry can be read").path());
        let mut dirs: Vec<PathBuf> =
            entries.filter(|path| path.join("case.toml").is_file()).collect();
        dirs.sort_unstable();
        dirs.into_iter().map(Case::read).collect()
    }

    fn read(dir: PathBuf) -> Case {
        let path = dir.join("case.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Case { dir, table }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.as_bool() != Some(false))
    }

    pub fn name(&self) -> &str {
        self.text("name").expect("a case has a name")
    }

    /// Spark's reason, where it refuses the query.
    pub fn refused(&self) -> Option<&str> {
        self.text("refused")
    }

    /// The batch at which Spark's query stops.
    pub fn failed_at(&self) -> Option<u64> {
        let batch = self.table.get("failed")?.get("batch")?.as_integer();
        batch.map(|batch| u64::try_from(batch).expect("batches count from 0"))
    }

    pub fn is_ordered(&self) -> bool {
        self.has("ordered")
    }

    /// Columns whose doubles depend on the order of Spark's additions.
    pub fn approx(&self) -> Vec<&str> {
        let columns = self.table.get("approx").and_then(Value::as_array);
        columns.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// What Spark's console printed, where the case is of that.
    pub fn console(&self) -> Option<String> {
        std::fs::read_to_string(self.dir.join("console.txt")).ok()
    }

    pub fn arrival(&self) -> Arrival {
        match self.text("arrival").expect("a case says how its files arrive") {
            "each" | "restart" => Arrival::Each,
            "backlog" | "available-now" => Arrival::Backlog,
            "once" => Arrival::Once,
            other => panic!("{}: arrival {other}", self.name()),
        }
    }

    /// The rows of a batch: Spark's, or ours where we differ on purpose.
    pub fn output(&self, batch: u64) -> String {
        let name = format!("batch-{batch:02}.csv");
        let ours = folder("data/spark-cases-ours").join(self.name()).join(&name);
        let path = if ours.is_file() { ours } else { self.dir.join("out").join(&name) };
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Names and types of the output.
    pub fn columns(&self) -> Vec<(String, String)> {
        compare::columns(self.text("out_schema").expect("a case that runs has an output"))
    }

    pub fn batches(&self) -> Vec<Batch> {
        let batches = self.table.get("batches").and_then(Value::as_array);
        batches.into_iter().flatten().map(batch).collect()
    }

    /// The job file.
    pub fn job(&self, on_error: &str) -> String {
        let text = |key: &str| self.text(key).unwrap_or_else(|| panic!("no {key}"));
        let trigger = match self.arrival() {
            Arrival::Once => "once",
            Arrival::Each | Arrival::Backlog => "available-now",
        };
        let mut source = self.table.get("watermark").map_or_else(String::new, watermark);
        if let Some(dedup) = self.table.get("dedup") {
            let columns = dedup["columns"].as_array().expect("columns are a list");
            let columns: Vec<_> = columns.iter().map(quoted).collect();
            let within = dedup["within_watermark"].as_bool().expect("it says which of the two");
            source += &format!(
                "dedup = {{ columns = [{}], within_watermark = {within} }}\n",
                columns.join(", ")
            );
        }
        let other = match self.table.get("other") {
            None => String::new(),
            Some(of) => file_source(
                ("other", "other"),
                &of["schema"],
                on_error,
                &of.get("watermark").map_or_else(String::new, watermark),
            ),
        };
        let table = match self.table.get("static") {
            None => String::new(),
            Some(of) => format!(
                "\n[table.{}]\npath = \"static.csv\"\nformat = \"csv\"\nschema = {}\ncsv.header = true\n",
                of["view"].as_str().expect("a static table has a name"),
                quoted(&of["schema"]),
            ),
        };
        format!(
            r#"name = "case"
{input}{other}{table}
[query]
sql = {sql}
mode = "{mode}"
trigger = "{trigger}"

[sink.out]
type = "console"
style = "{style}"

[checkpoint]
path = "state"
"#,
            input = file_source(("input", "in"), &self.table["schema"], on_error, &source),
            sql = quoted(&self.table["sql"]),
            mode = text("mode"),
            style = if self.console().is_some() { "spark" } else { "json" },
        )
    }
}

/// A source over a directory, one file an epoch.
fn file_source((name, path): (&str, &str), schema: &Value, on_error: &str, keys: &str) -> String {
    let schema = quoted(schema);
    format!(
        r#"
[source.{name}]
type = "file"
path = "{path}"
max_files_per_epoch = 1
format = "csv"
schema = {schema}
on_error = "{on_error}"
{keys}csv.header = true
"#
    )
}

fn watermark(of: &Value) -> String {
    let [column, delay] = ["column", "delay"].map(|key| quoted(&of[key]));
    format!(
        "watermark = {{ column = {column}, delay = {delay}, late = \"epoch\", across = \"max\" }}\n"
    )
}

/// A text as TOML writes it, which is how JSON does.
fn quoted(text: &Value) -> String {
    let text = text.as_str().expect("a text");
    serde_json::to_string(text).expect("a text is JSON")
}

fn batch(of: &Value) -> Batch {
    let number = |key: &str| {
        let number = of.get(key).and_then(Value::as_integer).unwrap_or_default();
        u64::try_from(number).expect("counts are not negative")
    };
    let names = |key: &str| {
        let names = of.get(key).and_then(Value::as_array).into_iter().flatten();
        names.map(|name| name.as_str().expect("names are texts").to_string()).collect()
    };
    Batch {
        id: number("id"),
        inputs: names("inputs"),
        other_inputs: names("other_inputs"),
        input_rows: number("input_rows"),
        watermark: of.get("watermark").and_then(Value::as_str).map(str::to_string),
        late: number("rows_dropped_by_watermark"),
        state_rows: number("state_rows"),
    }
}
