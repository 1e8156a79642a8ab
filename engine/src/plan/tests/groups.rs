//! Recorded Spark cases with groups and without a watermark, batch by batch: the plan's keys and
//! arguments through the kernels' table, what leaves through the plan's output.
//!
//! No watermark, no late row and no eviction here: those are the pipeline's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Field, Schema};
use pelton_kernels::cpu::aggregate::{AggregateError, GroupTable, Positions};
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};
use toml::Value;

use super::cases::{Case, cell, decode, expected, lines};
use super::*;
use crate::batch::Encoding;

struct State {
    plan: Plan,
    space: KeySpace,
    table: GroupTable,
}

impl State {
    fn new(plan: Plan) -> State {
        let fields = plan.groups().key_fields();
        let types: Vec<DataType> = fields.iter().map(|f| f.data_type().clone()).collect();
        let table = GroupTable::new(&fields, &plan.groups().calls());
        State { space: KeySpace::new(&types), table, plan }
    }

    /// Takes a batch in; the groups that it touched.
    fn push(&mut self, number: u64, columns: Vec<ArrayRef>, rows: usize) -> Vec<u32> {
        let (columns, rows) = self.derive(columns, rows);
        let groups = self.plan.groups();
        let values = |expr: &Compiled| {
            let evaluated = expr.evaluate(&columns, rows, None);
            assert_eq!(evaluated.errors, []);
            evaluated.values
        };
        let keys: Vec<ArrayRef> = groups.keys.iter().map(|key| values(&key.expr)).collect();
        let arguments: Vec<ArrayRef> = groups.arguments.iter().map(values).collect();
        // No window, no group.
        let start = groups.window.map(|window| &keys[window.key]);
        let there = |row: &u32| start.is_none_or(|start| start.is_valid(*row as usize));
        let selected: Vec<u32> = (0..rows as u32).filter(there).collect();
        let ids: Vec<Option<Vec<u32>>> = (0..keys.len())
            .map(|key| {
                let column = groups.keys[key].expr.column()?;
                let input = self.plan.input.get(column);
                let ids = input.is_none_or(|input| input.encoding == Encoding::Ids);
                let words = self.plan.explode.as_ref();
                let words = words.is_none_or(|e| matches!(e.list, ExplodeList::SplitByByte { .. }));
                (ids && words).then(|| interned(&mut self.space, key, &keys[key]))
            })
            .collect();
        let inputs = keys.iter().zip(&ids).map(|(values, ids)| match ids {
            Some(ids) => KeyInput::Ids(ids),
            None => KeyInput::Values(values),
        });
        let inputs: Vec<KeyInput> = inputs.collect();
        let mut packed = Vec::new();
        let rows_selected = Rows::Selected(&selected);
        self.space.encode(&inputs, rows_selected, &mut packed);
        if groups.keys.is_empty() {
            self.table.ensure(0);
        }
        let offsets: Vec<u32> = (0..rows as u32).collect();
        let positions = Positions { split: 0, major: number, minor: 0, offsets: &offsets };
        self.table.update(&packed, rows_selected, &arguments, &positions);
        let mut touched: Vec<u32> =
            packed.iter().filter_map(|key| self.table.groups().find(*key)).collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// WHERE and explode.
    fn derive(&self, mut columns: Vec<ArrayRef>, mut rows: usize) -> (Vec<ArrayRef>, usize) {
        for condition in self.plan.filter_below.iter().chain(&self.plan.filter_above) {
            let evaluated = condition.evaluate(&columns, rows, None);
            assert_eq!(evaluated.errors, []);
            let mask = evaluated.values.as_boolean();
            let mask: BooleanArray = mask.iter().map(|keep| Some(keep == Some(true))).collect();
            columns = columns.iter().map(|column| filter(column, &mask).unwrap()).collect();
            rows = mask.true_count();
        }
        let Some(explode) = &self.plan.explode else { return (columns, rows) };
        let ExplodeList::SplitByByte { input, separator } = explode.list else {
            panic!("the cases split at blanks")
        };
        let texts = columns[input].as_string::<i32>().clone();
        let words = texts.iter().enumerate().flat_map(|(row, text)| {
            let words = text.map(|text| text.split(char::from(separator)));
            words.into_iter().flatten().map(move |word| (row as u32, word))
        });
        let (parents, words): (Vec<u32>, Vec<&str>) = words.unzip();
        let parents = UInt32Array::from(parents);
        columns = columns.iter().map(|column| take(column, &parents, None).unwrap()).collect();
        columns.push(Arc::new(StringArray::from(words)));
        (columns, parents.len())
    }

    fn output(&self, groups: &[u32]) -> Result<RecordBatch, AggregateError> {
        let packed: Vec<u64> = groups.iter().map(|group| self.table.groups().key(*group)).collect();
        let mut columns = self.space.decode(&packed);
        columns.extend(self.table.values(groups)?);
        let fields = columns
            .iter()
            .enumerate()
            .map(|(index, column)| Field::new(index.to_string(), column.data_type().clone(), true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let rows = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        Ok(self.plan.output.run(rows).unwrap())
    }
}

/// The ids that a decoder would deliver.
fn interned(space: &mut KeySpace, key: usize, texts: &ArrayRef) -> Vec<u32> {
    let interner = space.interner_mut(key);
    let ids = texts.as_string::<i32>().iter();
    ids.map(|text| text.map_or(0, |text| interner.intern(text.as_bytes()))).collect()
}

impl Plan {
    fn groups(&self) -> &Groups {
        match &self.shape {
            Shape::Groups(groups) => groups,
            Shape::Rows { .. } => panic!("the case has groups"),
        }
    }
}

/// Equal cells, or in the columns named doubles that differ by the order of additions.
fn compare(case: &Case, batch: usize, found: &RecordBatch, spark: &RecordBatch) {
    let name = case.name();
    let approx: Vec<&str> = match case.table.get("approx") {
        Some(columns) => columns.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    if approx.is_empty() && !case.table.contains_key("ordered") {
        assert_eq!(lines(found), lines(spark), "{name}: batch {batch}");
        return;
    }
    assert_eq!(found.num_rows(), spark.num_rows(), "{name}: batch {batch}");
    let order = |rows: &RecordBatch| -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows.num_rows()).collect();
        if !case.table.contains_key("ordered") {
            order.sort_by_key(|row| cell(rows.column(0), *row));
        }
        order
    };
    for (own, theirs) in order(found).into_iter().zip(order(spark)) {
        for (column, field) in found.schema().fields().iter().enumerate() {
            let (own, theirs) =
                (cell(found.column(column), own), cell(spark.column(column), theirs));
            let near = approx.contains(&field.name().as_str())
                && match (own.parse::<f64>(), theirs.parse::<f64>()) {
                    (Ok(a), Ok(b)) => (a - b).abs() <= 1e-12 * b.abs().max(1e-300),
                    _ => false,
                };
            assert!(own == theirs || near, "{name}: batch {batch}: {own}, Spark has {theirs}");
        }
    }
}

fn check(name: &str) {
    let case = Case::read(name);
    let job = case.job();
    let plan = plan(&job).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
    let mut state = State::new(plan);
    let mut files: Vec<_> =
        std::fs::read_dir(case.dir.join("in")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort_unstable();
    let failed = case.table.get("failed").map(|failed| failed["batch"].as_integer().unwrap());
    for (batch, file) in files.iter().enumerate() {
        let (columns, rows) = decode(&state.plan, &job, &std::fs::read_to_string(file).unwrap());
        let touched = state.push(batch as u64, columns, rows);
        let groups: Vec<u32> = match job.query.mode {
            // An aggregate without GROUP BY has its row in every epoch.
            OutputMode::Update if !state.plan.groups().keys.is_empty() => touched,
            _ => state.table.groups().iter().collect(),
        };
        let found = state.output(&groups);
        if failed == Some(batch as i64) {
            assert!(found.is_err(), "{name}: Spark fails at batch {batch}");
            return;
        }
        let spark = case.dir.join("out").join(file.file_name().unwrap());
        let spark = expected(&state.plan, &std::fs::read_to_string(spark).unwrap());
        compare(&case, batch, &found.unwrap(), &spark);
    }
    assert_eq!(failed, None, "{name}: Spark fails");
}

macro_rules! cases {
    ($($test:ident: $name:literal)*) => {
        $(#[test] fn $test() { check($name) })*
        const CASES: &[&str] = &[$($name),*];
    };
}

cases! {
    aggregate_complete: "aggregate-complete"
    aggregate_filter_clause: "aggregate-filter-clause"
    aggregate_update: "aggregate-update"
    aggregates_basic: "aggregates-basic"
    aggregates_deviation: "aggregates-deviation"
    aggregates_first_last: "aggregates-first-last"
    console_word_count: "console-word-count"
    decimal_aggregates: "decimal-aggregates"
    default_column_names: "default-column-names"
    distinct_update: "distinct-update"
    double_keys: "double-keys"
    empty_string_and_null: "empty-string-and-null"
    filter_over_aggregate_update: "filter-over-aggregate-update"
    global_aggregate_complete: "global-aggregate-complete"
    global_aggregate_update: "global-aggregate-update"
    group_by_expression: "group-by-expression"
    group_by_several_keys: "group-by-several-keys"
    input_types: "input-types"
    min_max_nan: "min-max-nan"
    negative_times_no_watermark: "negative-times-no-watermark"
    null_event_time_complete: "null-event-time-complete"
    order_by_complete: "order-by-complete"
    order_by_limit_complete: "order-by-limit-complete"
    sum_overflow_fails: "sum-overflow-fails"
    tumbling_update_no_watermark: "tumbling-update-no-watermark"
    update_aggregate_without_rows: "update-aggregate-without-rows"
    update_unchanged_value: "update-unchanged-value"
    window_day_week: "window-day-week"
    window_edges: "window-edges"
    word_count_complete: "word-count-complete"
    word_count_update: "word-count-update"
}

/// The one case in which the answers part: Spark adds doubles as they come and loses 2.0 of 1e16.
#[test]
fn sums_of_doubles_are_exact_where_sparks_lose_digits() {
    let case = Case::read(EXACT);
    let job = case.job();
    let mut state = State::new(plan(&job).unwrap());
    let answers = [
        ["\"a\",0.6,0.2,3", "\"b\",1e16,5000000000000000.0,2"],
        ["\"a\",1.0,0.25,4", "\"b\",2.0,0.5,4"],
        ["\"a\",1.7,0.33999999999999997,5", ""],
    ];
    for (batch, answer) in answers.iter().enumerate() {
        let text =
            std::fs::read_to_string(case.dir.join(format!("in/batch-0{batch}.csv"))).unwrap();
        let (columns, rows) = decode(&state.plan, &job, &text);
        let touched = state.push(batch as u64, columns, rows);
        let found = lines(&state.output(&touched).unwrap());
        let answer: Vec<&str> = answer.iter().copied().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, answer, "batch {batch}");
    }
}

const EXACT: &str = "sum-doubles-inexact";

/// Every planned case with groups and without a watermark is in the list above.
#[test]
fn no_case_is_left_out() {
    for case in Case::all() {
        let planned = case.table.get("watermark").is_none() && plan(&case.job()).is_ok();
        let plain = !["dedup", "static"].iter().any(|key| case.table.contains_key(*key));
        if planned && plain {
            let grouped = matches!(plan(&case.job()).unwrap().shape, Shape::Groups(_));
            let listed = CASES.contains(&case.name()) || case.name() == EXACT;
            assert_eq!(grouped, listed, "{}", case.name());
        }
    }
}
