//! A stream of steps against lists of rows: whatever tables, partials and merges rows pass through,
//! values and bytes are those of their set.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::*;
use crate::cpu::aggregate::AggregateFunction::*;
use crate::cpu::keys::{KeyInput, KeySpace, Rows};
use crate::cpu::oracle::{Digits, Random, Value, array, cell, file_bytes, through_a_file};

const FUNCTIONS: [AggregateFunction; 20] = [
    CountRows,
    Count,
    Sum,
    Avg,
    Min,
    Max,
    VarianceSample,
    VariancePopulation,
    StddevSample,
    StddevPopulation,
    First { ignore_nulls: false },
    First { ignore_nulls: true },
    Last { ignore_nulls: false },
    Last { ignore_nulls: true },
    BoolAnd,
    BoolOr,
    BitAnd,
    BitOr,
    BitXor,
    Avg,
];

fn types() -> Vec<DataType> {
    use DataType::*;
    let time = Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        Date32,
        time,
        Float32,
        Float64,
        Decimal128(12, 2),
        Decimal128(38, 6),
        Utf8,
        Binary,
    ]
}

fn value(random: &mut Random, data_type: &DataType) -> Value {
    let small = random.below(256) as i64 - 128;
    match data_type {
        DataType::Boolean => Value::Int(small & 1),
        DataType::Int64 => Value::Int(random.of(&[small, i64::from(small as i32) << 40])),
        DataType::Float32 => Value::Float(f64::from(random.double() as f32).to_bits()),
        DataType::Float64 => Value::Float(random.double().to_bits()),
        DataType::Decimal128(38, _) => {
            Value::Decimal(i128::from(small) * 10i128.pow(random.below(35) as u32))
        }
        DataType::Decimal128(..) => Value::Decimal(i128::from(small) * 1_000_003),
        DataType::Utf8 | DataType::Binary => {
            Value::Bytes("ä text that is rather long"[..random.of(&[0, 2, 3, 26])].into())
        }
        _ => Value::Int(small),
    }
}

fn output(function: AggregateFunction, input: &DataType) -> DataType {
    match (function, input) {
        (CountRows | Count, _) => DataType::Int64,
        (Sum, DataType::Float32 | DataType::Float64) => DataType::Float64,
        (Sum, DataType::Decimal128(p, s)) => DataType::Decimal128((p + 10).min(38), *s),
        (Sum, _) => DataType::Int64,
        (Avg, DataType::Decimal128(p, s)) => DataType::Decimal128((p + 4).min(38), (s + 4).min(10)),
        (Avg | VarianceSample | VariancePopulation | StddevSample | StddevPopulation, _) => {
            DataType::Float64
        }
        _ => input.clone(),
    }
}

/// A query, its rows, and what of them the state has taken in.
struct Model {
    key_types: Vec<DataType>,
    argument_types: Vec<DataType>,
    calls: Vec<Call>,
    rows: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    keys: Vec<Option<Value>>,
    arguments: Vec<Option<Value>>,
    position: (u32, u64, u64),
}

impl Model {
    fn new(random: &mut Random) -> Self {
        let key_types = (0..random.below(4)).map(|_| random.of(&types())).collect::<Vec<_>>();
        let mut argument_types =
            (0..1 + random.below(3)).map(|_| random.of(&types())).collect::<Vec<_>>();
        argument_types.push(DataType::Boolean);
        let mut calls = vec![];
        while calls.len() < 6 {
            let (function, argument) = (random.of(&FUNCTIONS), random.below(argument_types.len()));
            let input = &argument_types[argument];
            let spec = AggregateSpec {
                function,
                input: (function != CountRows).then(|| input.clone()),
                output: output(function, input),
                name: format!("aggregate {}", calls.len()),
            };
            let filter = random.one_in(4).then(|| argument_types.len() - 1);
            if is_supported(&spec) {
                let argument = spec.input.is_some().then_some(argument);
                calls.push(Call { spec, argument, filter });
            }
        }
        let position = |at: u64| ((at % 3) as u32, at % 5, at);
        let mut model = Model { key_types, argument_types, calls, rows: vec![] };
        let groups = (0..1 + random.below(8)).map(|_| model.values(random, true));
        let groups = groups.collect::<Vec<_>>();
        for at in 0..random.below(120) as u64 {
            let (keys, arguments) = (random.of(&groups), model.values(random, false));
            model.rows.push(Row { keys, arguments, position: position(at) });
        }
        model
    }

    fn values(&self, random: &mut Random, keys: bool) -> Vec<Option<Value>> {
        let types = if keys { &self.key_types } else { &self.argument_types };
        let value = |data_type: &DataType| match value(random, data_type) {
            // Keys are compared by value here: leave those out that the kernels make equal.
            Value::Float(bits) if keys => {
                let value = Some(f64::from_bits(bits).abs()).filter(|value| !value.is_nan());
                Some(Value::Float(value.unwrap_or(1.0).to_bits()))
            }
            value => Some(value).filter(|_| !random.one_in(5)),
        };
        types.iter().map(value).collect()
    }

    fn fields(&self) -> Vec<Field> {
        let fields = self.key_types.iter().enumerate();
        fields.map(|(at, t)| Field::new(format!("key {at}"), t.clone(), true)).collect()
    }

    fn table(&self) -> GroupTable {
        GroupTable::new(&self.fields(), &self.calls)
    }

    fn update(&self, core: &mut Core, rows: &[&Row], random: &mut Random) {
        // Rows of one batch share split and major; junk rows that are not selected lie between.
        for chunk in
            rows.chunk_by(|a, b| a.position.0 == b.position.0 && a.position.1 == b.position.1)
        {
            let mut full = vec![];
            let mut selected = vec![];
            let all = random.one_in(2);
            for &row in chunk {
                while !all && random.one_in(3) {
                    full.push(random.of(&self.rows));
                }
                selected.push(full.len() as u32);
                full.push(row.clone());
            }
            let rows = if all { Rows::All(full.len()) } else { Rows::Selected(&selected) };
            let column = |types: &[DataType], at: usize, of: fn(&Row) -> &[Option<Value>]| {
                let values = full.iter().map(|row| of(row)[at].clone()).collect::<Vec<_>>();
                array(&types[at], &values)
            };
            let keys = (0..self.key_types.len()).map(|at| column(&self.key_types, at, |r| &r.keys));
            let keys = keys.collect::<Vec<_>>();
            let arguments = (0..self.argument_types.len())
                .map(|at| column(&self.argument_types, at, |r| &r.arguments))
                .collect::<Vec<_>>();
            let offsets = full.iter().map(|row| row.position.2 as u32 + 5).collect::<Vec<_>>();
            let inputs = keys.iter().map(KeyInput::Values).collect::<Vec<_>>();
            let mut packed = vec![];
            core.space.encode(&inputs, rows, &mut packed);
            let (split, major, _) = chunk[0].position;
            let positions = Positions { split, major, minor: 100, offsets: &offsets };
            if random.one_in(2) {
                core.table.update(&packed, rows, &arguments, &positions);
            } else {
                let mut segment = self.table();
                segment.update(&packed, rows, &arguments, &positions);
                core.table.absorb(&segment);
            }
        }
    }

    /// The values of a group that passed a call's filter, by position.
    fn passing(&self, rows: &[Row], call: &Call) -> Vec<Option<Value>> {
        let passes = |row: &&Row| match call.filter {
            None => true,
            Some(filter) => row.arguments[filter] == Some(Value::Int(1)),
        };
        let mut rows = rows.iter().filter(passes).collect::<Vec<_>>();
        rows.sort_by_key(|row| row.position);
        rows.iter().map(|row| call.argument.and_then(|at| row.arguments[at].clone())).collect()
    }
}

struct Core {
    space: KeySpace,
    table: GroupTable,
}

impl Core {
    fn new(model: &Model) -> Self {
        Core { space: KeySpace::new(&model.key_types), table: model.table() }
    }

    /// Group of each key.
    fn groups(&self) -> HashMap<Vec<Option<Value>>, u32> {
        let groups = self.table.groups();
        let numbers = groups.iter().collect::<Vec<_>>();
        let keys = numbers.iter().map(|&group| groups.key(group)).collect::<Vec<_>>();
        let columns = self.space.decode(&keys);
        let key = |at: usize| columns.iter().map(|column| cell(column, at)).collect();
        numbers.iter().enumerate().map(|(at, &group)| (key(at), group)).collect()
    }

    fn partial(&self) -> RecordBatch {
        self.table.partial(&self.space, None)
    }

    fn merge(&mut self, partial: &RecordBatch) {
        let mut touched = vec![];
        self.table.merge(&mut self.space, partial, &mut touched).expect("it is a partial of ours");
        assert_eq!(touched.len(), partial.num_rows());
    }
}

#[test]
fn values_and_bytes_depend_on_the_set_of_rows_alone() {
    for seed in 0..800 {
        let random = &mut Random(seed);
        let model = Model::new(random);
        let mut cores = [Core::new(&model), Core::new(&model)];
        let mut state = Core::new(&model);
        let mut taken: HashMap<Vec<Option<Value>>, Vec<Row>> = HashMap::new();
        let mut order = (0..model.rows.len()).collect::<Vec<_>>();
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        let mut pending: [Vec<&Row>; 2] = [vec![], vec![]];
        while !order.is_empty() {
            let rows = order.split_off(order.len().saturating_sub(1 + random.below(25)));
            let rows = rows.iter().map(|&at| &model.rows[at]).collect::<Vec<_>>();
            let core = random.below(2);
            model.update(&mut cores[core], &rows, random);
            pending[core].extend(rows);
            if order.is_empty() || random.one_in(3) {
                for (core, pending) in cores.iter_mut().zip(&mut pending) {
                    let partial = core.partial();
                    state.merge(&if random.one_in(2) { through_a_file(&partial) } else { partial });
                    core.table.clear();
                    core.space.clear();
                    for row in pending.drain(..) {
                        taken.entry(row.keys.clone()).or_default().push(row.clone());
                    }
                }
                check(seed, &model, &state, &taken);
                change_state(&model, &mut state, &mut taken, random);
            }
        }
        check(seed, &model, &state, &taken);
    }
}

/// What happens to a state between epochs: eviction, compaction, a restart from its base.
fn change_state(
    model: &Model,
    state: &mut Core,
    taken: &mut HashMap<Vec<Option<Value>>, Vec<Row>>,
    random: &mut Random,
) {
    match random.below(4) {
        0 => {
            let mut gone = state.groups();
            gone.retain(|_, _| random.one_in(2));
            state.table.remove(&gone.values().copied().collect::<Vec<_>>());
            taken.retain(|key, _| !gone.contains_key(key));
        }
        1 => {
            state.table.compact(&mut state.space);
            let most = taken.len() * (model.key_types.len() + 1);
            assert!(state.space.ids_held() <= most, "ids of groups that are gone are gone");
        }
        2 => {
            let base = through_a_file(&state.partial());
            *state = Core::new(model);
            state.merge(&base);
        }
        _ => {}
    }
}

fn check(seed: u64, model: &Model, state: &Core, taken: &HashMap<Vec<Option<Value>>, Vec<Row>>) {
    let groups = state.groups();
    assert_eq!(groups.len(), taken.len(), "seed {seed}");
    // The same rows by the straight way: one table, one batch after the other, no merge.
    let mut straight = Core::new(model);
    for (key, rows) in taken {
        let number = [groups[key]];
        let values = state.table.values(&number);
        let mut wants_error = false;
        for (at, call) in model.calls.iter().enumerate() {
            let passing = model.passing(rows, call);
            match &values {
                Ok(values) => {
                    let found = cell(&values[at], 0);
                    assert_eq!(values[at].data_type(), &call.spec.output);
                    let right = is_right(&call.spec, &passing, &found);
                    assert!(right, "seed {seed}: {call:?} of {passing:?} is not {found:?}");
                }
                Err(_) => wants_error |= is_right(&call.spec, &passing, &OUT_OF_RANGE),
            }
        }
        assert!(values.is_ok() || wants_error, "seed {seed}: {values:?}");
        let rows = rows.iter().collect::<Vec<_>>();
        model.update(&mut straight, &rows, &mut Random(seed));
        let here = straight.groups()[key];
        let straight = straight.table.partial(&straight.space, Some(&[here]));
        let merged = state.table.partial(&state.space, Some(&number));
        assert_eq!(
            file_bytes(&straight),
            file_bytes(&merged),
            "seed {seed}: {straight:?}{merged:?}"
        );
    }
}

/// What the oracle takes for an error.
const OUT_OF_RANGE: Option<Value> = Some(Value::Decimal(i128::MIN));

/// Is `found` the aggregate of these values, given in the order of their positions?
fn is_right(spec: &AggregateSpec, all: &[Option<Value>], found: &Option<Value>) -> bool {
    let values = all.iter().flatten().cloned().collect::<Vec<_>>();
    let ints = values.iter().map(|value| match value {
        Value::Int(value) => i128::from(*value),
        Value::Decimal(value) => *value,
        _ => 0,
    });
    let folded = |fold: fn(i128, i128) -> i128| {
        ints.clone().reduce(fold).map(|value| Value::Int(value as i64))
    };
    let want = match spec.function {
        CountRows => Some(Value::Int(all.len() as i64)),
        Count => Some(Value::Int(values.len() as i64)),
        First { ignore_nulls: false } => all.first().cloned().flatten(),
        Last { ignore_nulls: false } => all.last().cloned().flatten(),
        First { ignore_nulls: true } => values.first().cloned(),
        Last { ignore_nulls: true } => values.last().cloned(),
        _ if values.is_empty() => None,
        Min | BoolAnd => values.iter().map(ordered).min().map(|(_, value)| value),
        Max | BoolOr => values.iter().map(ordered).max().map(|(_, value)| value),
        BitAnd => folded(|a, b| a & b),
        BitOr => folded(|a, b| a | b),
        BitXor => folded(|a, b| a ^ b),
        _ if matches!(values[0], Value::Float(_)) => {
            return is_right_double(spec, &values, found);
        }
        Sum => sum(&spec.output, ints.sum()),
        Avg => match (&spec.input, &spec.output) {
            (Some(DataType::Decimal128(_, from)), DataType::Decimal128(_, to)) => {
                let scaled = ints.sum::<i128>().checked_mul(10i128.pow((to - from) as u32));
                let Some(scaled) = scaled.filter(|scaled| scaled.abs() < i128::MAX / 4) else {
                    // Beyond this oracle; `sums_of_decimals_are_exact…` has such cases.
                    return true;
                };
                let count = values.len() as i128;
                let rounded = (2 * scaled.abs() + count) / (2 * count) * scaled.signum();
                sum(&spec.output, rounded)
            }
            _ => {
                let mut total = Digits::zero();
                ints.for_each(|value| total.add(1.0, value));
                let Some(Value::Float(bits)) = found else { return false };
                return total.rounds_to(values.len() as i128, f64::from_bits(*bits));
            }
        },
        VarianceSample | VariancePopulation | StddevSample | StddevPopulation => unreachable!(),
        other => unreachable!("{other:?} is in kept_tests"),
    };
    want == *found
}

fn sum(output: &DataType, sum: i128) -> Option<Value> {
    match output {
        DataType::Int64 => i64::try_from(sum).map_or(OUT_OF_RANGE, |sum| Some(Value::Int(sum))),
        DataType::Decimal128(p, _) if sum.abs() < 10i128.pow((*p).into()) => {
            Some(Value::Decimal(sum))
        }
        _ => OUT_OF_RANGE,
    }
}

/// A key that sorts as SQL does, and the value: NaN is the greatest, and one.
fn ordered(value: &Value) -> ((u8, i128, Vec<u8>), Value) {
    match value {
        Value::Int(int) => ((0, (*int).into(), vec![]), value.clone()),
        Value::Decimal(decimal) => ((0, *decimal, vec![]), value.clone()),
        Value::Bytes(bytes) => ((0, 0, bytes.clone()), value.clone()),
        Value::Float(bits) if f64::from_bits(*bits).is_nan() => {
            ((1, 0, vec![]), Value::Float(f64::NAN.to_bits()))
        }
        Value::Float(bits) => {
            let magnitude = i128::from(bits & !(1 << 63));
            let rank = if bits >> 63 == 1 { -1 - magnitude } else { magnitude };
            ((0, rank, vec![]), value.clone())
        }
    }
}

fn is_right_double(spec: &AggregateSpec, values: &[Value], found: &Option<Value>) -> bool {
    let values = values.iter().map(|value| match value {
        Value::Float(bits) => f64::from_bits(*bits),
        _ => unreachable!("a column has one type"),
    });
    let values = values.collect::<Vec<_>>();
    let count = values.len() as i128;
    let found = match found {
        Some(Value::Float(bits)) => Some(f64::from_bits(*bits)),
        _ => None,
    };
    let sample = matches!(spec.function, VarianceSample | StddevSample);
    if sample && count == 1 {
        return found.is_none();
    }
    let Some(found) = found else { return false };
    let has = |special: f64| values.contains(&special);
    let variance = !matches!(spec.function, Sum | Avg);
    if values.iter().any(|value| value.is_nan()) || has(f64::INFINITY) && has(f64::NEG_INFINITY) {
        return found.is_nan();
    }
    if let Some(&infinite) = values.iter().find(|value| value.is_infinite()) {
        return if variance { found.is_nan() } else { found == infinite };
    }
    let mut total = Digits::zero();
    if !variance {
        values.iter().for_each(|&value| total.add(value, 1));
        return total.rounds_to(if spec.function == Sum { 1 } else { count }, found);
    }
    for &a in &values {
        total.add_product(a, a, count);
        values.iter().for_each(|&b| total.add_product(a, b, -1));
    }
    let divisor = count * (count - i128::from(sample));
    if matches!(spec.function, VarianceSample | VariancePopulation) {
        return total.rounds_to(divisor, found);
    }
    // The root of the variance, itself a double: any double near found^2 may be it.
    let square = found * found;
    let mut near = vec![square];
    for _ in 0..4 {
        near.insert(0, near[0].next_down());
        near.push(near[near.len() - 1].next_up());
    }
    near.into_iter().any(|near| near.sqrt() == found && total.rounds_to(divisor, near))
}

fn one_call(function: AggregateFunction, input: DataType, output: DataType) -> Vec<Call> {
    let spec = AggregateSpec { function, input: Some(input), output, name: "x".into() };
    vec![Call { spec, argument: Some(0), filter: None }]
}

/// The aggregate of all rows, in one group.
fn aggregate(calls: &[Call], values: ArrayRef) -> Result<Option<Value>, AggregateError> {
    let mut table = GroupTable::new(&[], calls);
    let rows = values.len();
    let offsets = vec![0; rows];
    let positions = Positions { offsets: &offsets, ..Positions::default() };
    table.update(&vec![0; rows], Rows::All(rows), &[values], &positions);
    Ok(cell(&table.values(&[0])?[0], 0))
}

fn doubles(function: AggregateFunction, values: &[f64]) -> f64 {
    let calls = one_call(function, DataType::Float64, DataType::Float64);
    let values = values.iter().map(|value| Some(Value::Float(value.to_bits()))).collect::<Vec<_>>();
    match aggregate(&calls, array(&DataType::Float64, &values)) {
        Ok(Some(Value::Float(bits))) => f64::from_bits(bits),
        other => panic!("not a double: {other:?}"),
    }
}

#[test]
fn variances_of_values_far_from_zero_and_at_the_ends_of_the_range_are_exact() {
    let far = [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0];
    assert_eq!(doubles(VarianceSample, &far), 1.0);
    assert_eq!(doubles(StddevSample, &far), 1.0);
    assert_eq!(doubles(VariancePopulation, &far), 2.0 / 3.0);
    assert_eq!(doubles(StddevPopulation, &far), (2.0f64 / 3.0).sqrt());
    assert_eq!(doubles(VarianceSample, &[1e200; 3]), 0.0);
    assert_eq!(doubles(VarianceSample, &[1e200, -1e200]), f64::INFINITY);
    assert_eq!(doubles(VarianceSample, &[1e-200, -1e-200]), 0.0);
    assert_eq!(doubles(VarianceSample, &[1e-150, -1e-150]), 2e-300);
    assert_eq!(doubles(VariancePopulation, &[42.0]), 0.0);
    assert_eq!(doubles(StddevPopulation, &[42.0]), 0.0);
    assert!(doubles(VarianceSample, &[1.0, f64::INFINITY]).is_nan());
}

#[test]
fn sums_of_doubles_are_those_of_exact_arithmetic() {
    assert_eq!(doubles(Sum, &[1e308, 1e308, -1e308, -1e308, 0.1]), 0.1);
    assert_eq!(doubles(Sum, &[1e308, 1e308]), f64::INFINITY, "overflow only when it is read");
    assert_eq!(doubles(Avg, &[1e308, 1e308]), 1e308, "which an average is not");
    assert_eq!(doubles(Sum, &[0.1; 10]), 1.0);
    assert_eq!(doubles(Sum, &[-0.0, -0.0]).to_bits(), 0, "an exact zero is +0.0");
    assert_eq!(doubles(Sum, &[5e-324, 5e-324]), 1e-323);
    assert_eq!(doubles(Sum, &[1.0, 1e-320, -1.0]), 1e-320);
    assert_eq!(doubles(Sum, &[1.0, f64::INFINITY]), f64::INFINITY);
    assert!(doubles(Sum, &[f64::NEG_INFINITY, f64::INFINITY]).is_nan());
    assert!(doubles(Sum, &[f64::NAN, 1.0]).is_nan());
}

#[test]
fn sums_beyond_their_type_are_errors_that_name_the_aggregate() {
    use DataType::*;
    let ints: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![i64::MAX, 1]));
    let error = aggregate(&one_call(Sum, Int64, Int64), ints.clone()).expect_err("it overflows");
    assert_eq!(error, AggregateError::OutOfRange { aggregate: "x".into(), output: Int64 });
    let average = aggregate(&one_call(Avg, Int64, Float64), ints);
    assert_eq!(average, Ok(Some(Value::Float((i64::MAX as f64 / 2.0).to_bits()))));

    // Forty nines overflow i128 on the way to a sum that does not.
    let nines = 10i128.pow(38) - 1;
    let data_type = Decimal128(38, 0);
    let many = |last: i128| {
        let values = [nines, nines, nines, -nines, -nines, last];
        array(&data_type, &values.map(|value| Some(Value::Decimal(value))))
    };
    let calls = one_call(Sum, data_type.clone(), data_type.clone());
    assert_eq!(aggregate(&calls, many(0)), Ok(Some(Value::Decimal(nines))));
    assert!(aggregate(&calls, many(1)).is_err());
    assert_eq!(aggregate(&calls, many(-nines)), Ok(Some(Value::Decimal(0))));
}

#[test]
fn averages_of_decimals_round_half_away_from_zero() {
    let (input, output) = (DataType::Decimal128(10, 0), DataType::Decimal128(14, 1));
    let calls = one_call(Avg, input.clone(), output);
    let average = |values: &[i128]| {
        let values = values.iter().map(|&value| Some(Value::Decimal(value))).collect::<Vec<_>>();
        aggregate(&calls, array(&input, &values))
    };
    assert_eq!(average(&[1, 0, 0, 0]), Ok(Some(Value::Decimal(3))), "0.25 is 0.3");
    assert_eq!(average(&[-1, 0, 0, 0]), Ok(Some(Value::Decimal(-3))));
    assert_eq!(average(&[1, 0, 0]), Ok(Some(Value::Decimal(3))), "0.333 is 0.3");
}

#[test]
fn an_aggregate_of_no_rows_is_null_and_counts_zero() {
    let calls = [
        one_call(Sum, DataType::Float64, DataType::Float64),
        vec![Call {
            spec: AggregateSpec {
                function: CountRows,
                input: None,
                output: DataType::Int64,
                name: "n".into(),
            },
            argument: None,
            filter: None,
        }],
    ]
    .concat();
    let mut table = GroupTable::new(&[], &calls);
    let group = table.ensure(0);
    let values = table.values(&[group]).expect("nothing is out of range");
    assert_eq!((cell(&values[0], 0), cell(&values[1], 0)), (None, Some(Value::Int(0))));
}

#[test]
fn a_partial_that_does_not_fit_is_refused() {
    use arrow::array::{Int32Array, StructArray, UInt64Array};
    let double = DataType::Float64;
    let calls = one_call(Sum, double.clone(), double.clone());
    let mut space = KeySpace::new(&[]);
    let mut table = GroupTable::new(&[], &calls);
    let positions = Positions::default();
    let values: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.5]));
    table.update(&[0], Rows::All(1), &[values], &positions);
    let good = table.partial(&space, None);
    let mut merge =
        |batch: &RecordBatch| GroupTable::new(&[], &calls).merge(&mut space, batch, &mut vec![]);
    assert_eq!(merge(&good), Ok(()));
    let fewer = good.project(&[0, 1]).expect("the columns are there");
    assert!(matches!(merge(&fewer), Err(AggregateError::Corrupt { .. })));
    // A sum that is even, one that claims an absurd exponent, and one whose rest is cut short.
    let state = good.column(2).as_any().downcast_ref::<StructArray>().expect("a sum is a struct");
    for (limb, exponent, rest) in [(2, 0, vec![]), (3, 1 << 30, vec![]), (3, 0, vec![1u8; 9])] {
        let (fields, mut columns, _) = state.clone().into_parts();
        columns[0] = Arc::new(UInt64Array::from(vec![limb]));
        columns[2] = Arc::new(Int32Array::from(vec![exponent]));
        columns[3] = Arc::new(arrow::array::BinaryArray::from_vec(vec![&rest]));
        let bad = Arc::new(StructArray::new(fields, columns, None)) as ArrayRef;
        let columns = vec![good.column(0).clone(), good.column(1).clone(), bad];
        let bad = RecordBatch::try_new(good.schema(), columns).expect("it has the schema");
        assert!(matches!(merge(&bad), Err(AggregateError::Corrupt { .. })), "{exponent} {rest:?}");
    }
}

#[test]
fn equal_arguments_share_their_states() {
    let double = DataType::Float64;
    let functions = [Sum, Avg, Count, Min, Max, VarianceSample, StddevPopulation];
    let spec = |function| AggregateSpec {
        function,
        input: Some(double.clone()),
        output: output(function, &double),
        name: String::new(),
    };
    let call = |&function: &_| Call { spec: spec(function), argument: Some(3), filter: None };
    let calls = functions.iter().map(call).collect::<Vec<_>>();
    let schema = partial_schema(&[], &calls);
    let names = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["rows", "nulls #3", "sum #3", "min #3", "max #3", "sum of squares #3"]);
}

#[test]
fn of_equal_positions_the_later_row_is_later() {
    let values = array(&DataType::Int64, &[1, 2, 3].map(|value| Some(Value::Int(value))));
    for (function, want) in [
        (First { ignore_nulls: false }, 1),
        (Last { ignore_nulls: false }, 3),
        (First { ignore_nulls: true }, 1),
        (Last { ignore_nulls: true }, 3),
    ] {
        let calls = one_call(function, DataType::Int64, DataType::Int64);
        assert_eq!(aggregate(&calls, values.clone()), Ok(Some(Value::Int(want))), "{function:?}");
    }
}

#[test]
fn filters_take_null_for_false() {
    let spec = AggregateSpec {
        function: CountRows,
        input: None,
        output: DataType::Int64,
        name: String::new(),
    };
    let calls = [Call { spec, argument: None, filter: Some(0) }];
    let filter = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]));
    let mut table = GroupTable::new(&[], &calls);
    table.update(&[0; 4], Rows::All(4), &[filter], &Positions::default());
    let values = table.values(&[0]).expect("a count is in range");
    assert_eq!(cell(&values[0], 0), Some(Value::Int(2)));
}
