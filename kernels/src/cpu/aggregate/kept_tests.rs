//! Kept states against what a reader computes at sight from all rows: cut into tables and partials in
//! any way, in any order, the values and the partial are the same.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::cpu::column::Rows;
use crate::cpu::keys::{KeyInput, KeySpace};

/// A row: group, number, text, double; NULLs among them.
type Row = (i64, Option<i64>, Option<u8>, Option<f64>);

fn row() -> impl Strategy<Value = Row> {
    let double = prop_oneof![
        6 => (-8i32..8).prop_map(|v| f64::from(v) / 4.0),
        1 => Just(-0.0),
        1 => Just(1e300),
        1 => Just(5e-324),
    ];
    (
        0i64..3,
        proptest::option::weighted(0.9, -4i64..5),
        proptest::option::weighted(0.9, 0u8..4),
        proptest::option::weighted(0.9, double),
    )
}

fn arrays(rows: &[Row]) -> Vec<ArrayRef> {
    let numbers: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>());
    let text = |v: u8| String::from(char::from(b'a' + v));
    let texts: ArrayRef = Arc::new(rows.iter().map(|r| r.2.map(text)).collect::<StringArray>());
    let doubles: ArrayRef = Arc::new(rows.iter().map(|r| r.3).collect::<Float64Array>());
    let as_double = rows.iter().map(|r| r.1.map(|v| v as f64)).collect::<Float64Array>();
    let pair = |a: &ArrayRef, b: &ArrayRef| -> ArrayRef {
        let fields = pair_fields(a.data_type(), b.data_type());
        let columns = vec![Arc::clone(a), Arc::clone(b)];
        Arc::new(StructArray::try_new_with_length(fields, columns, None, rows.len()).unwrap())
    };
    let by = pair(&texts, &numbers);
    let two = pair(&doubles, &(Arc::new(as_double) as ArrayRef));
    vec![numbers, texts, doubles, by, two]
}

fn pair_fields(a: &DataType, b: &DataType) -> Fields {
    let field = |name: &str, t: &DataType| Field::new(name, t.clone(), true);
    Fields::from(vec![field("first", a), field("second", b)])
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn calls() -> Vec<Call> {
    use AggregateFunction::*;
    use DataType::{Float64, Int64, Utf8};
    let call = |function, argument: usize, output: DataType| {
        let input = match argument {
            0 => Int64,
            1 => Utf8,
            2 => Float64,
            3 => DataType::Struct(pair_fields(&Utf8, &Int64)),
            _ => DataType::Struct(pair_fields(&Float64, &Float64)),
        };
        let spec = AggregateSpec { function, input: Some(input), output, name: String::new() };
        assert!(is_supported(&spec), "{function:?}");
        Call { spec, argument: Some(argument), filter: None }
    };
    let at = |part: f64| part.to_bits();
    vec![
        call(CountDistinct, 0, Int64),
        call(CountDistinct, 1, Int64),
        call(SumDistinct, 0, Int64),
        call(AvgDistinct, 0, Float64),
        call(ApproxCountDistinct { precision: 9 }, 1, Int64),
        call(CollectList, 1, list(Utf8)),
        call(CollectSet, 0, list(Int64)),
        call(Mode, 1, Utf8),
        call(Percentile { at: at(0.3) }, 2, Float64),
        call(PercentileDiscrete { at: at(0.5) }, 0, Int64),
        call(PercentileApprox { at: at(0.75) }, 0, Int64),
        call(MinBy, 3, Utf8),
        call(MaxBy, 3, Utf8),
        call(Skewness, 2, Float64),
        call(Kurtosis, 2, Float64),
        call(CovarPopulation, 4, Float64),
        call(Corr, 4, Float64),
        call(RegrCount, 4, Int64),
        call(RegrAvgX, 4, Float64),
        call(RegrSlope, 4, Float64),
    ]
}

struct Side {
    space: KeySpace,
    table: GroupTable,
}

impl Side {
    fn new() -> Side {
        let fields = [Field::new("k", DataType::Int64, true)];
        Side { space: KeySpace::new(&[DataType::Int64]), table: GroupTable::new(&fields, &calls()) }
    }

    /// Rows from the `first`-th of the input on.
    fn push(&mut self, rows: &[Row], first: usize) {
        let keys: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>());
        let mut packed = Vec::new();
        let all = Rows::All(rows.len());
        self.space.encode(&[KeyInput::Values(&keys)], all, &mut packed);
        let offsets: Vec<u32> = (0..rows.len() as u32).collect();
        let positions = Positions { split: 0, major: 0, minor: first as u64, offsets: &offsets };
        self.table.update(&packed, all, &arrays(rows), &positions);
    }

    fn partial(&self) -> RecordBatch {
        self.table.partial(&self.space, None)
    }

    fn merge(&mut self, partial: &RecordBatch) {
        self.table.merge(&mut self.space, partial, &mut Vec::new()).unwrap();
    }

    /// By key: the partial's row and the values, as text.
    fn shown(&self) -> Vec<String> {
        let groups: Vec<u32> = self.table.groups().iter().collect();
        let keys: Vec<u64> = groups.iter().map(|&g| self.table.groups().key(g)).collect();
        let keys = self.space.decode(&keys);
        let values = self.table.values(&groups).unwrap();
        let partial = self.table.partial(&self.space, Some(&groups));
        let text = |array: &ArrayRef, row: usize| {
            arrow::util::display::array_value_to_string(array, row).unwrap()
        };
        let mut lines: Vec<String> = (0..groups.len())
            .map(|row| {
                let all = keys.iter().chain(&values).chain(partial.columns());
                all.map(|array| text(array, row)).collect::<Vec<_>>().join(" | ")
            })
            .collect();
        lines.sort_unstable();
        lines
    }
}

/// Values of one group, by their calls, from all its rows.
struct Naive {
    numbers: Vec<i64>,
    texts: Vec<String>,
    doubles: Vec<f64>,
    pairs: Vec<(f64, f64)>,
    by: Vec<(i64, usize, Option<String>)>,
}

impl Naive {
    fn of(rows: &[Row], group: i64) -> Naive {
        let own = || rows.iter().enumerate().filter(|(_, r)| r.0 == group);
        let text = |v: u8| String::from(char::from(b'a' + v));
        Naive {
            numbers: own().filter_map(|(_, r)| r.1).collect(),
            texts: own().filter_map(|(_, r)| r.2.map(text)).collect(),
            doubles: own().filter_map(|(_, r)| r.3).collect(),
            pairs: own().filter_map(|(_, r)| Some((r.3?, r.1? as f64))).collect(),
            by: own().filter_map(|(at, r)| Some((r.1?, at, r.2.map(text)))).collect(),
        }
    }
}

fn sorted<T: PartialOrd + Clone>(values: &[T]) -> Vec<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    sorted
}

fn different<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted
}

fn close(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (Some(a), Some(b)) => {
            let scale = b.abs().max(1e-9);
            assert!((a - b).abs() <= 1e-6 * scale || a == b, "{what}: {a} is not {b}");
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

/// What the table says of each group against the naive answers.
fn agree(side: &Side, rows: &[Row]) {
    let groups: Vec<u32> = side.table.groups().iter().collect();
    let keys: Vec<u64> = groups.iter().map(|&g| side.table.groups().key(g)).collect();
    let keys = side.space.decode(&keys);
    let values = side.table.values(&groups).unwrap();
    let keys = keys[0].as_primitive::<Int64Type>();
    for row in 0..groups.len() {
        let naive = Naive::of(rows, keys.value(row));
        let long = |call: usize| {
            let array = values[call].as_primitive::<Int64Type>();
            array.is_valid(row).then(|| array.value(row))
        };
        let double = |call: usize| {
            let array = values[call].as_primitive::<Float64Type>();
            array.is_valid(row).then(|| array.value(row))
        };
        let text = |call: usize| {
            let array = values[call].as_string::<i32>();
            array.is_valid(row).then(|| array.value(row).to_string())
        };
        let (numbers, texts) = (different(&naive.numbers), different(&naive.texts));
        let any = !numbers.is_empty();
        let sum: i64 = numbers.iter().sum();
        assert_eq!(long(0), Some(numbers.len() as i64));
        assert_eq!(long(1), Some(texts.len() as i64));
        assert_eq!(long(2), any.then_some(sum));
        assert_eq!(double(3), any.then(|| sum as f64 / numbers.len() as f64));
        assert_eq!(long(4), Some(texts.len() as i64), "few are counted exactly");
        let items = values[5].as_list::<i32>().value(row);
        let items: Vec<_> =
            items.as_string::<i32>().iter().map(|t| t.unwrap().to_string()).collect();
        assert_eq!(items, naive.texts, "in the order of positions");
        let items = values[6].as_list::<i32>().value(row);
        assert_eq!(items.as_primitive::<Int64Type>().values().to_vec(), numbers);
        let count = |sought: &String| naive.texts.iter().filter(|t| *t == sought).count();
        let most = texts.iter().map(count).max();
        assert_eq!(text(7), texts.iter().find(|t| Some(count(t)) == most).cloned());
        let doubles = sorted(&naive.doubles);
        let place = doubles.len().saturating_sub(1) as f64 * 0.3;
        let between = (!doubles.is_empty()).then(|| {
            let (low, high) = (doubles[place.floor() as usize], doubles[place.ceil() as usize]);
            if low == high {
                low
            } else {
                (place.ceil() - place) * low + (place - place.floor()) * high
            }
        });
        close(double(8), between, "percentile");
        let all = sorted(&naive.numbers);
        let nearest = |part: f64| {
            let rank = (part * all.len() as f64).ceil().max(1.0) as usize - 1;
            all.get(rank).copied()
        };
        assert_eq!(long(9), nearest(0.5));
        assert_eq!(long(10), nearest(0.75));
        let best = |greatest: bool| {
            let key = |(order, at, _): &&(i64, usize, Option<String>)| {
                (if greatest { *order } else { -*order }, *at)
            };
            naive.by.iter().max_by_key(key).and_then(|(_, _, value)| value.clone())
        };
        assert_eq!((text(11), text(12)), (best(false), best(true)));
        if naive.doubles.iter().all(|v| v.abs() < 1e10) {
            moments_agree(&naive, double(13), double(14));
            pairs_agree(&naive, [double(15), double(16), double(18), double(19)], long(17));
        }
    }
}

fn moments_agree(naive: &Naive, skewness: Option<f64>, kurtosis: Option<f64>) {
    let n = naive.doubles.len() as f64;
    let mean = naive.doubles.iter().sum::<f64>() / n;
    let power = |p: i32| naive.doubles.iter().map(|v| (v - mean).powi(p)).sum::<f64>();
    let varies = naive.doubles.iter().any(|v| *v != naive.doubles[0] && (v - mean).abs() > 1e-9);
    close(skewness, varies.then(|| n.sqrt() * power(3) / power(2).powf(1.5)), "skewness");
    close(kurtosis, varies.then(|| n * power(4) / power(2).powi(2) - 3.0), "kurtosis");
}

fn pairs_agree(naive: &Naive, found: [Option<f64>; 4], count: Option<i64>) {
    let [covariance, correlation, avg_x, slope] = found;
    let n = naive.pairs.len() as f64;
    let any = !naive.pairs.is_empty();
    assert_eq!(count, Some(naive.pairs.len() as i64));
    let (mean_y, mean_x) = (
        naive.pairs.iter().map(|p| p.0).sum::<f64>() / n,
        naive.pairs.iter().map(|p| p.1).sum::<f64>() / n,
    );
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        naive.pairs.iter().map(|(y, x)| f(y - mean_y, x - mean_x)).sum()
    };
    let (xy, xx, yy) = (sum(&|y, x| x * y), sum(&|_, x| x * x), sum(&|y, _| y * y));
    close(covariance, any.then(|| xy / n), "covar_pop");
    close(avg_x, any.then_some(mean_x), "regr_avgx");
    if xx > 1e-9 && yy > 1e-9 {
        close(correlation, Some(xy / (xx * yy).sqrt()), "corr");
        close(slope, Some(xy / xx), "regr_slope");
    }
}

proptest! {
    #[test]
    fn any_cut_and_any_order_give_the_same(
        rows in proptest::collection::vec(row(), 1..60),
        cuts in proptest::collection::vec(1usize..20, 1..6),
        reverse in any::<bool>(),
    ) {
        let mut whole = Side::new();
        whole.push(&rows, 0);
        agree(&whole, &rows);
        let mut parts = Vec::new();
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < rows.len() {
            let end = (at + cuts.next().unwrap()).min(rows.len());
            let mut side = Side::new();
            side.push(&rows[at..end], at);
            parts.push(side.partial());
            at = end;
        }
        if reverse {
            parts.reverse();
        }
        let mut merged = Side::new();
        parts.iter().for_each(|part| merged.merge(part));
        prop_assert_eq!(merged.shown(), whole.shown());
        // A merge of a merge, and a group that left and came back.
        let mut again = Side::new();
        again.push(&rows[..1], 0);
        let group = again.table.groups().iter().next().unwrap();
        again.table.remove(&[group]);
        again.merge(&merged.partial());
        prop_assert_eq!(again.shown(), whole.shown());
    }
}

/// More values than are kept: the last bits go, in the same way for any order, and no more of them
/// than must.
#[test]
fn a_bounded_quantile_is_a_function_of_the_set() {
    let spec = AggregateSpec {
        function: AggregateFunction::PercentileApprox { at: 0.5_f64.to_bits() },
        input: Some(DataType::Int64),
        output: DataType::Int64,
        name: String::new(),
    };
    let calls = [Call { spec, argument: Some(0), filter: None }];
    let run = |values: Vec<i64>, batch: usize| {
        let mut table = GroupTable::new(&[], &calls);
        let group = table.ensure(0);
        for (at, chunk) in values.chunks(batch).enumerate() {
            let array: ArrayRef = Arc::new(Int64Array::from(chunk.to_vec()));
            let offsets: Vec<u32> = (0..chunk.len() as u32).collect();
            let positions = Positions { split: 0, major: at as u64, minor: 0, offsets: &offsets };
            let keys = vec![0; chunk.len()];
            table.update(&keys, Rows::All(chunk.len()), &[array], &positions);
        }
        let value = table.values(&[group]).unwrap()[0].as_primitive::<Int64Type>().value(0);
        (value, table.partial(&KeySpace::new(&[]), None))
    };
    let values: Vec<i64> = (0..50_000).map(|i| i * 3).collect();
    let (value, partial) = run(values.clone(), 7_000);
    assert!((value - 75_000).abs() <= 16, "{value}");
    let mut backwards = values;
    backwards.reverse();
    assert_eq!(run(backwards, 333), (value, partial));
}

#[test]
fn what_no_table_wrote_is_corrupt() {
    let mut side = Side::new();
    side.push(&[(0, Some(1), Some(1), Some(1.0))], 0);
    let partial = side.partial();
    let schema = partial.schema();
    let binaries =
        schema.fields().iter().enumerate().filter(|(_, f)| *f.data_type() == DataType::Binary);
    let mut met = 0;
    for (index, _) in binaries {
        let mut columns = partial.columns().to_vec();
        columns[index] = Arc::new(arrow::array::BinaryArray::from(vec![&b"xyz"[..]]));
        let broken = RecordBatch::try_new(partial.schema(), columns).unwrap();
        let mut fresh = Side::new();
        let merged = fresh.table.merge(&mut fresh.space, &broken, &mut Vec::new());
        assert!(matches!(merged, Err(AggregateError::Corrupt { .. })), "{index}");
        met += 1;
    }
    assert!(met >= 3, "sketches and moments");
}
