//! The state as a table: what a manifest says of keys and aggregates, so that anybody can read them
//! without the job.
//!
//! The files hold mergeable states; a value is read from a group's states once all files are merged.
//! This module knows how, for one table of groups; it reads no file.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec, Call, partial_schema};
use pelton_kernels::expr::ExprKind;
use serde::{Deserialize, Serialize};

use crate::columns::plain_column;
use crate::error::{Error, Result};
use crate::plan::expr::Compiled;
use crate::plan::query::Level;
use crate::plan::{Plan, SessionKey, identity};
use crate::state::join::file_columns;
use crate::state::{Closing, StateSpec, StateStore};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateTable {
    /// Name and type of each group key.
    pub keys: Vec<(String, String)>,
    /// The key that is a window's start, and the window's size.
    pub window: Option<(usize, i64)>,
    /// The column that is the time at which a group leaves.
    pub event_time_key: Option<usize>,
    /// The keys that are a session's start and end.
    #[serde(default)]
    pub session: Option<(usize, usize)>,
    pub values: Vec<Value>,
    /// Names of the columns in the files: the keys, then the states.
    pub columns: Vec<String>,
}

/// An aggregate: what the kernels must know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    pub name: String,
    pub function: String,
    pub argument: Option<usize>,
    pub filter: Option<usize>,
    pub input: Option<String>,
    pub output: String,
}

/// Every function without a constant by the name that manifests give it.
const FUNCTIONS: [(&str, AggregateFunction); 41] = {
    use AggregateFunction::*;
    [
        ("count_rows", CountRows),
        ("count", Count),
        ("sum", Sum),
        ("avg", Avg),
        ("min", Min),
        ("max", Max),
        ("var_samp", VarianceSample),
        ("var_pop", VariancePopulation),
        ("stddev_samp", StddevSample),
        ("stddev_pop", StddevPopulation),
        ("first", First { ignore_nulls: false }),
        ("first_ignore_nulls", First { ignore_nulls: true }),
        ("last", Last { ignore_nulls: false }),
        ("last_ignore_nulls", Last { ignore_nulls: true }),
        ("bool_and", BoolAnd),
        ("bool_or", BoolOr),
        ("bit_and", BitAnd),
        ("bit_or", BitOr),
        ("bit_xor", BitXor),
        ("count_distinct", CountDistinct),
        ("sum_distinct", SumDistinct),
        ("avg_distinct", AvgDistinct),
        ("collect_list", CollectList),
        ("collect_set", CollectSet),
        ("mode", Mode),
        ("min_by", MinBy),
        ("max_by", MaxBy),
        ("skewness", Skewness),
        ("kurtosis", Kurtosis),
        ("covar_pop", CovarPopulation),
        ("covar_samp", CovarSample),
        ("corr", Corr),
        ("regr_count", RegrCount),
        ("regr_avgx", RegrAvgX),
        ("regr_avgy", RegrAvgY),
        ("regr_sxx", RegrSxx),
        ("regr_syy", RegrSyy),
        ("regr_sxy", RegrSxy),
        ("regr_slope", RegrSlope),
        ("regr_intercept", RegrIntercept),
        ("regr_r2", RegrR2),
    ]
};

/// A function as manifests name it: one with a constant by its name and the constant.
fn name_of(function: AggregateFunction) -> String {
    use AggregateFunction::*;
    let part = |name: &str, at: u64| format!("{name} {}", f64::from_bits(at));
    match function {
        Percentile { at } => part("percentile", at),
        PercentileDiscrete { at } => part("percentile_disc", at),
        PercentileApprox { at } => part("percentile_approx", at),
        ApproxCountDistinct { precision } => format!("approx_count_distinct {precision}"),
        plain => {
            let known = FUNCTIONS.iter().find(|(_, function)| *function == plain);
            known.expect("the table has every function without a constant").0.to_owned()
        }
    }
}

fn function_of(name: &str) -> Option<AggregateFunction> {
    use AggregateFunction::*;
    let Some((name, constant)) = name.split_once(' ') else {
        return FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, function)| *function);
    };
    let at = || constant.parse::<f64>().ok().map(f64::to_bits);
    Some(match name {
        "percentile" => Percentile { at: at()? },
        "percentile_disc" => PercentileDiscrete { at: at()? },
        "percentile_approx" => PercentileApprox { at: at()? },
        "approx_count_distinct" => ApproxCountDistinct { precision: constant.parse().ok()? },
        _ => return None,
    })
}

impl StateTable {
    /// Of a plan's lowest state; none where it keeps none.
    pub fn of(plan: &Plan) -> Option<StateTable> {
        let spec = plan.state()?;
        let (window, event_time_key) = match spec.closing {
            Closing::Window { key, size_us } => (Some((key, size_us)), None),
            Closing::At { column } => (None, Some(column)),
            Closing::Never => (plan.window().map(|window| (window.key, window.size_us)), None),
        };
        let names = value_names(plan, spec.keys.len(), &spec.calls);
        let value = |(call, name): (Call, String)| Value {
            name,
            function: name_of(call.spec.function),
            argument: call.argument,
            filter: call.filter,
            input: call.spec.input.map(|input| input.to_string()),
            output: call.spec.output.to_string(),
        };
        Some(StateTable {
            keys: spec.keys.iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect(),
            window,
            event_time_key,
            session: spec.session.map(|session| (session.start, session.end)),
            values: spec.calls.into_iter().zip(names).map(value).collect(),
            columns: columns(plan),
        })
    }

    /// An empty table for the partials of the files.
    pub fn store(&self) -> Result<StateStore> {
        let closing = match (self.window, self.event_time_key) {
            (Some((key, size_us)), _) => Closing::Window { key, size_us },
            (None, Some(column)) => Closing::At { column },
            (None, None) => Closing::Never,
        };
        let closes = closing != Closing::Never;
        Ok(StateStore::new(&StateSpec {
            keys: self.key_fields()?,
            calls: self.calls()?,
            closing,
            session: self.session.map(|(start, end)| SessionKey { start, end, closes }),
            moving: true,
        }))
    }

    fn key_fields(&self) -> Result<Vec<Field>> {
        let field = |(name, text): &(String, String)| Ok(Field::new(name, data_type(text)?, true));
        self.keys.iter().map(field).collect()
    }

    fn calls(&self) -> Result<Vec<Call>> {
        let call = |value: &Value| {
            let function = function_of(&value.function);
            let function = function.ok_or_else(|| unknown("aggregate", &value.function))?;
            let spec = AggregateSpec {
                function,
                input: value.input.as_deref().map(data_type).transpose()?,
                output: data_type(&value.output)?,
                name: value.name.clone(),
            };
            Ok(Call { spec, argument: value.argument, filter: value.filter })
        };
        self.values.iter().map(call).collect()
    }

    /// Names and types of the readable columns: a window as its start and its end.
    pub fn schema(&self) -> Result<SchemaRef> {
        let mut fields = Vec::new();
        for (at, field) in self.key_fields()?.into_iter().enumerate() {
            if self.window.is_some_and(|(key, _)| key == at) {
                fields.push(Field::new("window_start", field.data_type().clone(), true));
                fields.push(Field::new("window_end", field.data_type().clone(), true));
            } else {
                fields.push(field);
            }
        }
        for value in &self.values {
            fields.push(Field::new(&value.name, data_type(&value.output)?, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// All groups of a store, keys and values, in no order.
    pub fn rows(&self, store: &StateStore) -> Result<RecordBatch> {
        let groups = store.all();
        let mut columns = Vec::new();
        for (at, column) in store.rows(&groups)?.into_iter().enumerate() {
            columns.push(column);
            if let Some((key, size_us)) = self.window.filter(|(key, _)| *key == at) {
                columns.push(shifted(&columns[key], size_us));
            }
        }
        let columns = columns.iter().map(plain_column).collect::<Result<Vec<_>, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        let schema = self.schema()?;
        columns
            .and_then(|columns| RecordBatch::try_new_with_options(schema, columns, &options))
            .map_err(|error| Error::failed(format!("the state as a table: {error}")))
    }
}

/// What the aggregates are called: as the query does where it selects one as it is.
fn value_names(plan: &Plan, keys: usize, calls: &[Call]) -> Vec<String> {
    let selected = |column: usize| {
        let is_it = |output: &Compiled| match output {
            Compiled::Kernel(expr) => expr.kind == ExprKind::Column(column),
            Compiled::DataFusion { .. } => false,
        };
        let at = plan.output.columns.iter().position(is_it)?;
        Some(plan.output.schema.field(at).name().clone())
    };
    let texts = identity::aggregate_texts(plan);
    let name = |(at, call): (usize, &Call)| {
        let text = texts.get(at).cloned().unwrap_or_else(|| call.spec.name.clone());
        if texts.is_empty() { text } else { selected(keys + at).unwrap_or(text) }
    };
    calls.iter().enumerate().map(name).collect()
}

fn shifted(starts: &ArrayRef, by_us: i64) -> ArrayRef {
    let starts = starts.as_primitive::<TimestampMicrosecondType>();
    let ends = starts.iter().map(|start| start.map(|start| start.saturating_add(by_us)));
    let ends = ends.collect::<TimestampMicrosecondArray>();
    Arc::new(ends.with_data_type(starts.data_type().clone()))
}

fn data_type(text: &str) -> Result<DataType> {
    text.parse().map_err(|_| unknown("type", text))
}

fn unknown(what: &str, text: &str) -> Error {
    Error::StateIo {
        what: "cannot read the state as a table".into(),
        source: std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("this version knows no {what} {text:?}"),
        ),
    }
}

/// The columns of a level's state files.
pub fn columns_of(level: &Level) -> Vec<String> {
    level.join.as_ref().map_or_else(|| columns(level.plan()), |join| file_columns(join))
}

/// The columns of a plan's state files: keys by their names, states by what they are of.
pub fn columns(plan: &Plan) -> Vec<String> {
    let Some(spec) = plan.state() else { return Vec::new() };
    let arguments = identity::argument_texts(plan);
    let mut names: Vec<String> = Vec::new();
    for field in partial_schema(&spec.keys, &spec.calls).fields() {
        let name = with_arguments(field.name(), &arguments);
        let copies = names.iter().filter(|known| **known == name).count();
        // A key may bear the name of a state.
        names.push(if copies == 0 { name } else { format!("{name} ({})", copies + 1) });
    }
    names
}

/// `sum #0 where #1` in words: `sum temperature where status <> 0`.
fn with_arguments(name: &str, arguments: &[String]) -> String {
    let mut parts = name.split('#');
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        match part[..digits].parse().ok().and_then(|index: usize| arguments.get(index)) {
            Some(argument) => words.push_str(argument),
            None => write_number(&mut words, &part[..digits]),
        }
        words.push_str(&part[digits..]);
    }
    words
}

/// A `#` that is none of ours, as in a key's name.
fn write_number(words: &mut String, digits: &str) {
    words.push('#');
    words.push_str(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_read_back_from_its_name() {
        use AggregateFunction::*;
        let at = 0.3_f64.to_bits();
        let with_constant = [
            Percentile { at },
            PercentileDiscrete { at },
            PercentileApprox { at },
            ApproxCountDistinct { precision: 12 },
        ];
        let plain = FUNCTIONS.iter().map(|(_, function)| *function);
        for function in plain.chain(with_constant) {
            assert_eq!(function_of(&name_of(function)), Some(function));
        }
        assert_eq!(function_of("percentile x"), None);
        assert_eq!(function_of("median"), None);
    }
}
