//! Which states the aggregates of a query need, each once, and where they lie.
//!
//! Rows are counted once for each filter; beside each argument lies the number of its NULLs, which
//! costs nothing where there are none: `count(x)` is rows less NULLs, and every other aggregate knows
//! by it whether it had a value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::arena::Arena;
use super::fold::{Fold, Operation};
use super::kept::{Kept, What};
use super::moments::Of;
use super::pick::Pick;
use super::sketch;
use super::state::State;
use super::text::TextExtreme;
use super::{AggregateFunction, AggregateSpec, Call};
use crate::cpu::column::Class;
use crate::cpu::exact_sum::ExactSum;
use crate::cpu::keys::partial_key_field;

pub(crate) struct Layout {
    pub filters: Vec<Filtered>,
    pub readings: Vec<Reading>,
    /// What the words of a group hold before its first row.
    pub template: Vec<u64>,
}

/// What is kept about the rows that pass one filter.
pub(crate) struct Filtered {
    /// Index of the argument that is the filter; none lets all rows pass.
    pub filter: Option<usize>,
    /// Offset of the number of rows.
    pub rows: usize,
    pub inputs: Vec<Input>,
}

pub(crate) struct Input {
    pub argument: usize,
    pub data_type: DataType,
    /// Offset of the number of NULLs.
    pub nulls: usize,
    pub states: Vec<Placed>,
    /// Offsets of its least and its greatest value where both are one word: one pass does both.
    pub extremes: Option<[usize; 2]>,
}

pub(crate) struct Placed {
    kind: Kind,
    pub offset: usize,
    pub state: State,
}

/// How an aggregate is read: the places of its states.
pub(crate) struct Reading {
    pub spec: AggregateSpec,
    pub filter: usize,
    pub input: Option<usize>,
    /// Among the input's states.
    pub states: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sum,
    Squares,
    Extreme { greatest: bool },
    Bits(Operation),
    Pick { last: bool, ignore_nulls: bool },
    Kept(What),
}

/// Has the hash aggregate a kernel for it? What it refuses is for the planner to refuse.
pub fn is_supported(spec: &AggregateSpec) -> bool {
    use AggregateFunction::*;
    let Some(input) = &spec.input else { return spec.function == CountRows };
    if spec.function.takes_pair() {
        return takes_pair(spec, input);
    }
    let Some(class) = Class::of(input) else { return spec.function == Count };
    let integer =
        matches!(input, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
    match spec.function {
        CountRows | Count => spec.output == DataType::Int64,
        Sum => match class {
            Class::Int => integer && spec.output == DataType::Int64,
            Class::Float => spec.output == DataType::Float64,
            Class::Decimal => matches!(spec.output, DataType::Decimal128(..)),
            Class::Bytes => false,
        },
        Avg => match class {
            Class::Int => integer && spec.output == DataType::Float64,
            Class::Float => spec.output == DataType::Float64,
            Class::Decimal => matches!(spec.output, DataType::Decimal128(..)),
            Class::Bytes => false,
        },
        VarianceSample | VariancePopulation | StddevSample | StddevPopulation => {
            class == Class::Float && spec.output == DataType::Float64
        }
        Min | Max | First { .. } | Last { .. } => spec.output == *input,
        BoolAnd | BoolOr => *input == DataType::Boolean && spec.output == *input,
        BitAnd | BitOr | BitXor => integer && spec.output == *input,
        CountDistinct => spec.output == DataType::Int64,
        ApproxCountDistinct { precision } => {
            spec.output == DataType::Int64 && sketch::PRECISIONS.contains(&precision)
        }
        SumDistinct => is_supported(&AggregateSpec { function: Sum, ..spec.clone() }),
        AvgDistinct => is_supported(&AggregateSpec { function: Avg, ..spec.clone() }),
        CollectList | CollectSet => {
            matches!(&spec.output, DataType::List(item) if item.data_type() == input)
        }
        Mode | PercentileDiscrete { .. } => spec.output == *input,
        PercentileApprox { .. } => spec.output == *input && class != Class::Bytes,
        Percentile { .. } | Skewness | Kurtosis => {
            *input == DataType::Float64 && spec.output == DataType::Float64
        }
        _ => false,
    }
}

fn takes_pair(spec: &AggregateSpec, input: &DataType) -> bool {
    use AggregateFunction::*;
    let DataType::Struct(fields) = input else { return false };
    let [first, second] = fields.iter().collect::<Vec<_>>()[..] else { return false };
    let (first, second) = (first.data_type(), second.data_type());
    match spec.function {
        MinBy | MaxBy => {
            Class::of(first).is_some() && Class::of(second).is_some() && spec.output == *first
        }
        function => {
            let output = if function == RegrCount { DataType::Int64 } else { DataType::Float64 };
            [first, second] == [&DataType::Float64; 2] && spec.output == output
        }
    }
}

/// Schema of the partials of these aggregates: the key columns, then the states.
pub fn partial_schema(key_fields: &[Field], calls: &[Call]) -> SchemaRef {
    Layout::new(calls).schema(key_fields)
}

impl Layout {
    /// Panics on an aggregate that [`is_supported`] refuses.
    pub fn new(calls: &[Call]) -> Self {
        let mut layout = Layout { filters: Vec::new(), readings: Vec::new(), template: Vec::new() };
        for call in calls {
            assert!(is_supported(&call.spec), "the planner refuses {:?}", call.spec);
            let filter = layout.filter(call.filter);
            let input =
                call.argument.filter(|_| call.spec.function != AggregateFunction::CountRows);
            let input = input.map(|argument| layout.input(filter, argument, &call.spec));
            let kinds = kinds(call.spec.function);
            let states = kinds.into_iter().map(|kind| {
                let input = input.expect("an aggregate with a state has an argument");
                layout.state(filter, input, kind)
            });
            let states = states.collect();
            layout.readings.push(Reading { spec: call.spec.clone(), filter, input, states });
        }
        layout
    }

    pub fn schema(&self, key_fields: &[Field]) -> SchemaRef {
        let mut fields = key_fields.iter().map(partial_key_field).collect::<Vec<_>>();
        for filtered in &self.filters {
            let only = filtered.filter.map_or(String::new(), |filter| format!(" where #{filter}"));
            fields.push(Field::new(format!("rows{only}"), DataType::UInt64, false));
            for input in &filtered.inputs {
                let of = format!("#{}{only}", input.argument);
                fields.push(Field::new(format!("nulls {of}"), DataType::UInt64, false));
                for Placed { kind, state, .. } in &input.states {
                    let name = format!("{} {of}", kind.name());
                    fields.push(Field::new(name, state.partial_type(), true));
                }
            }
        }
        Arc::new(Schema::new(fields))
    }

    fn filter(&mut self, filter: Option<usize>) -> usize {
        let known = self.filters.iter().position(|filtered| filtered.filter == filter);
        known.unwrap_or_else(|| {
            let rows = self.place(&[0]);
            self.filters.push(Filtered { filter, rows, inputs: Vec::new() });
            self.filters.len() - 1
        })
    }

    fn input(&mut self, filter: usize, argument: usize, spec: &AggregateSpec) -> usize {
        let inputs = &self.filters[filter].inputs;
        if let Some(known) = inputs.iter().position(|input| input.argument == argument) {
            return known;
        }
        let nulls = self.place(&[0]);
        let data_type = spec.input.clone().expect("an argument has a type");
        let inputs = &mut self.filters[filter].inputs;
        let states = Vec::new();
        inputs.push(Input { argument, data_type, nulls, states, extremes: None });
        inputs.len() - 1
    }

    fn state(&mut self, filter: usize, input: usize, kind: Kind) -> usize {
        let Input { data_type, states, .. } = &self.filters[filter].inputs[input];
        if let Some(known) = states.iter().position(|placed| placed.kind == kind) {
            return known;
        }
        let state = kind.state(data_type);
        let offset = self.place(&state.template());
        let input = &mut self.filters[filter].inputs[input];
        input.states.push(Placed { kind, offset, state });
        input.extremes = input.find_extremes();
        input.states.len() - 1
    }

    fn place(&mut self, template: &[u64]) -> usize {
        self.template.extend_from_slice(template);
        self.template.len() - template.len()
    }
}

impl Input {
    fn find_extremes(&self) -> Option<[usize; 2]> {
        let offset = |greatest| {
            let mut states = self.states.iter();
            let placed = states.find(|placed| placed.kind == Kind::Extreme { greatest })?;
            placed.state.is_word().then_some(placed.offset)
        };
        Some([offset(false)?, offset(true)?])
    }
}

/// Which states a function reads.
fn kinds(function: AggregateFunction) -> Vec<Kind> {
    use AggregateFunction::*;
    if let Some(what) = kept(function) {
        return vec![Kind::Kept(what)];
    }
    let kinds: &[Kind] = match function {
        CountRows | Count => &[],
        Sum | Avg => &[Kind::Sum],
        VarianceSample | VariancePopulation | StddevSample | StddevPopulation => {
            &[Kind::Sum, Kind::Squares]
        }
        Min | BoolAnd => &[Kind::Extreme { greatest: false }],
        Max | BoolOr => &[Kind::Extreme { greatest: true }],
        First { ignore_nulls: true } => &[Kind::Pick { last: false, ignore_nulls: true }],
        First { ignore_nulls: false } => &[Kind::Pick { last: false, ignore_nulls: false }],
        Last { ignore_nulls: true } => &[Kind::Pick { last: true, ignore_nulls: true }],
        Last { ignore_nulls: false } => &[Kind::Pick { last: true, ignore_nulls: false }],
        BitAnd => &[Kind::Bits(Operation::And)],
        BitOr => &[Kind::Bits(Operation::Or)],
        BitXor => &[Kind::Bits(Operation::Xor)],
        _ => &[],
    };
    kinds.to_vec()
}

fn kept(function: AggregateFunction) -> Option<What> {
    use AggregateFunction::*;
    Some(match function {
        CountDistinct
        | SumDistinct
        | AvgDistinct
        | CollectSet
        | Mode
        | Percentile { .. }
        | PercentileDiscrete { .. } => What::Values { bounded: false },
        PercentileApprox { .. } => What::Values { bounded: true },
        CollectList => What::Items,
        MinBy => What::Best { greatest: false },
        MaxBy => What::Best { greatest: true },
        ApproxCountDistinct { precision } => What::Sketch { precision },
        Skewness | Kurtosis => What::Moments(Of::One),
        function if function.takes_pair() => What::Moments(Of::Two),
        _ => return None,
    })
}

impl AggregateFunction {
    /// Whether its argument is a struct of two values.
    pub fn takes_pair(self) -> bool {
        use AggregateFunction::*;
        matches!(
            self,
            MinBy
                | MaxBy
                | CovarPopulation
                | CovarSample
                | Corr
                | RegrCount
                | RegrAvgX
                | RegrAvgY
                | RegrSxx
                | RegrSyy
                | RegrSxy
                | RegrSlope
                | RegrIntercept
                | RegrR2
        )
    }
}

impl Kind {
    fn state(self, input: &DataType) -> State {
        if let Kind::Kept(what) = self {
            return State::Kept(Kept::new(what, input.clone()));
        }
        let class = Class::of(input).expect("only counts take other types");
        match self {
            Kind::Sum if class == Class::Float => State::Sum(ExactSum::new()),
            Kind::Sum => State::Fold(Fold::sum(input)),
            Kind::Squares => State::Squares(ExactSum::new()),
            Kind::Extreme { greatest } if class == Class::Bytes => {
                let (data_type, arena) = (input.clone(), Arena::default());
                State::Text(TextExtreme { greatest, data_type, arena })
            }
            Kind::Extreme { greatest: false } => State::Fold(Fold::of(Operation::Least, input)),
            Kind::Extreme { greatest: true } => State::Fold(Fold::of(Operation::Greatest, input)),
            Kind::Bits(operation) => State::Fold(Fold::of(operation, input)),
            Kind::Pick { last, ignore_nulls } => {
                let (data_type, arena) = (input.clone(), Arena::default());
                State::Pick(Pick { last, ignore_nulls, data_type, class, arena })
            }
            Kind::Kept(_) => unreachable!("made above"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Sum => "sum",
            Kind::Squares => "sum of squares",
            Kind::Extreme { greatest: false } => "min",
            Kind::Extreme { greatest: true } => "max",
            Kind::Bits(Operation::And) => "bit_and",
            Kind::Bits(Operation::Or) => "bit_or",
            Kind::Bits(_) => "bit_xor",
            Kind::Pick { last: false, ignore_nulls: false } => "first",
            Kind::Pick { last: false, ignore_nulls: true } => "first not null",
            Kind::Pick { last: true, ignore_nulls: false } => "last",
            Kind::Pick { last: true, ignore_nulls: true } => "last not null",
            Kind::Kept(What::Values { bounded: false }) => "values",
            Kind::Kept(What::Values { bounded: true }) => "about the values",
            Kind::Kept(What::Items) => "items",
            Kind::Kept(What::Best { greatest: false }) => "least",
            Kind::Kept(What::Best { greatest: true }) => "greatest",
            Kind::Kept(What::Sketch { .. }) => "sketch",
            Kind::Kept(What::Moments(_)) => "moments",
        }
    }
}
