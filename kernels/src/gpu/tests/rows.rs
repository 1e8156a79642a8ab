//! States that one row decides: least and greatest texts, first and last values.

use arrow::array::{BinaryArray, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::Field;

use super::aggregate::{call, count_rows};
use super::*;
use crate::cpu::aggregate::{AggregateFunction, Call};
use crate::cpu::project::oracle_tests::{Random, column};
use crate::expr::Expr;
use crate::gpu::{GpuError, Input, TEXT_BYTES_MAX};

const KEY: usize = 0;
const FILTER: usize = 1;
const VALUE: usize = 2;
const OFFSETS: usize = 3;

/// All states of a type that a row decides, twice: also of the rows that pass a filter.
fn query(of: &DataType) -> Query {
    use AggregateFunction::{First, Last, Max, Min};
    let mut functions = vec![Min, Max];
    for ignore_nulls in [true, false] {
        functions.extend([First { ignore_nulls }, Last { ignore_nulls }]);
    }
    let calls = functions.into_iter().map(|function| call(function, 1, of.clone(), of.clone()));
    let calls: Vec<Call> = calls.collect();
    let filtered: Vec<_> =
        calls.iter().map(|call| Call { filter: Some(0), ..call.clone() }).collect();
    let input = |data_type: &DataType, is_ids| Input { data_type: data_type.clone(), is_ids };
    let (key, filter) = (DataType::Int32, DataType::Boolean);
    Query {
        inputs: vec![
            input(&key, false),
            input(&filter, false),
            input(of, false),
            input(&DataType::UInt32, true),
        ],
        filters: vec![],
        keys: vec![Expr::column(KEY, key.clone())],
        window: None,
        key_fields: vec![Field::new("k", key, true)],
        arguments: vec![Expr::column(FILTER, filter), Expr::column(VALUE, of.clone())],
        calls: [vec![count_rows()], calls, filtered].concat(),
        offsets: Some(OFFSETS),
    }
}

/// Texts that begin alike, end in zeros, or are as long as a device takes.
fn bytes(random: &mut Random) -> Vec<u8> {
    let parts: [&[u8]; 6] = [b"a", b"\0", b"abcd", "\u{e9}".as_bytes(), b"abcdabc", b"zz"];
    let mut bytes = Vec::new();
    for _ in 0..random.below(5) {
        bytes.extend_from_slice(random.pick(&parts));
    }
    if random.one_in(200) {
        bytes.resize(TEXT_BYTES_MAX, b'a');
    }
    bytes
}

pub(super) fn values(random: &mut Random, of: &DataType, rows: usize) -> ArrayRef {
    let mut texts = || -> Vec<Option<Vec<u8>>> {
        (0..rows).map(|_| (!random.one_in(6)).then(|| bytes(random))).collect()
    };
    match of {
        DataType::Utf8 => {
            let texts = texts().into_iter();
            let text = |bytes| String::from_utf8(bytes).expect("the parts are UTF-8");
            Arc::new(texts.map(|bytes| bytes.map(text)).collect::<StringArray>())
        }
        DataType::Binary => Arc::new(texts().into_iter().collect::<BinaryArray>()),
        other => column(random, other, rows),
    }
}

/// Rows of so many groups; some rows stand together, as those made of one row do.
fn columns(random: &mut Random, of: &DataType, rows: usize, groups: usize) -> Vec<ArrayRef> {
    let keys = (0..rows).map(|_| (!random.one_in(9)).then(|| random.below(groups) as i32));
    let keys: Int32Array = keys.collect();
    let filter = (0..rows).map(|_| random.pick(&[Some(true), Some(false), None]));
    let filter: BooleanArray = filter.collect();
    let offsets = UInt32Array::from_iter_values((0..rows as u32).map(|row| row / 3 * 7));
    vec![Arc::new(keys), Arc::new(filter), values(random, of, rows), Arc::new(offsets)]
}

fn compare(query: &Query, found: &Side, expected: &Side, context: &str) {
    let (found, expected) = (found.partial(query), expected.partial(query));
    for (key, expected) in &expected {
        assert_eq!(found.get(key), Some(expected), "{context} at {key:?}");
    }
    assert_eq!(found.len(), expected.len(), "{context}");
}

fn types() -> [DataType; 7] {
    [
        DataType::Utf8,
        DataType::Binary,
        DataType::Boolean,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
    ]
}

/// Stretches of two splits in no order, few groups and many, by way of a workgroup's memory and not, in two
/// epochs: the second one's texts are others, and where its groups' texts lay is forgotten.
#[test]
fn what_one_row_decides_is_the_cpus_in_both_tiers() {
    let places = [(1, 7, u64::from(u32::MAX)), (0, u64::MAX, 0), (1, 7, 9), (0, 3, 5), (1, 8, 0)];
    for (seed, of) in types().iter().enumerate() {
        let query = query(of);
        assert_eq!(query.refusals(), []);
        for tier in TIERS {
            let mut random = Random(seed as u64);
            let mut gpu = Gpu::new(&device(tier), &query).expect("it compiles");
            for (groups, near) in [(3, true), (3, false), (400, false), (2_500, false)] {
                let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
                gpu.table.pre_aggregate(near);
                for (split, major, minor) in places {
                    let place = Place { split, major, minor, first: 0 };
                    let rows = random.pick(&[700, 1, 3_000]);
                    let columns = columns(&mut random, of, rows, groups);
                    on_cpu_at(&query, &mut cpu_side, &columns, place);
                    gpu.take_at(&columns, 512, place).expect("it fits");
                    gpu.table.settle(&mut gpu.projector).expect("it ends");
                }
                gpu.drain(&mut gpu_side).expect("it comes back");
                compare(&query, &gpu_side, &cpu_side, &format!("{of} {tier:?} {groups} {near}"));
            }
        }
    }
}

/// More groups in a batch than there is room for: rows go again after others that stand behind them, and
/// the texts move with the table.
#[test]
fn rows_that_go_again_decide_as_if_they_had_not() {
    let query = query(&DataType::Utf8);
    for tier in TIERS {
        let mut gpu = Gpu::new(&fresh_device(tier), &query).expect("it compiles");
        let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
        let mut random = Random(77);
        for minor in [0, 1 << 20] {
            let place = Place { minor, ..Place::default() };
            let mut columns = columns(&mut random, &DataType::Utf8, 12_000, 9_000);
            // All of a batch stand together: only their order tells them apart.
            columns[OFFSETS] = Arc::new(UInt32Array::from(vec![0; 12_000]));
            on_cpu_at(&query, &mut cpu_side, &columns, place);
            gpu.take_at(&columns, 1_024, place).expect("it grows");
        }
        gpu.drain(&mut gpu_side).expect("it comes back");
        compare(&query, &gpu_side, &cpu_side, tier.name());
    }
}

/// Each batch has a greater text for every group: room for texts grows with what is kept, the room of a text
/// that fits is used again.
#[test]
fn texts_that_grow_find_room() {
    let query = query(&DataType::Utf8);
    let (mut cpu_side, mut gpu_side) = (Side::new(&query), Side::new(&query));
    let mut gpu = Gpu::new(&fresh_device(Tier::Native), &query).expect("it compiles");
    let mut held = Vec::new();
    for (batch, length) in [1, 40, 90, 300, 300, 20].into_iter().enumerate() {
        let text = |row: usize| format!("{batch}{row:0length$}");
        let rows = 600;
        let keys = Int32Array::from_iter_values((0..rows).map(|row| row % 200));
        let filter = BooleanArray::from(vec![true; rows as usize]);
        let texts = StringArray::from_iter_values((0..rows as usize).map(text));
        let offsets = UInt32Array::from_iter_values(0..rows as u32);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(keys), Arc::new(filter), Arc::new(texts), Arc::new(offsets)];
        let place = Place { minor: 1_000 * batch as u64, ..Place::default() };
        on_cpu_at(&query, &mut cpu_side, &columns, place);
        gpu.take_at(&columns, 300, place).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("it ends");
        held.push(gpu.table.heap_bound);
    }
    gpu.drain(&mut gpu_side).expect("it comes back");
    compare(&query, &gpu_side, &cpu_side, "growing");
    assert!(held[3] > 4 * held[1], "{held:?}");
    assert_eq!(held[4..], [held[3]; 2], "texts that fit take the place of others: {held:?}");
    assert_eq!(gpu.table.heap_bound, 0, "the next epoch begins without texts");
}

#[test]
fn a_text_longer_than_kernels_compare_is_told_and_no_other() {
    let query = query(&DataType::Utf8);
    let mut gpu = Gpu::new(&device(Tier::Native), &query).expect("it compiles");
    for (length, fits) in [(TEXT_BYTES_MAX, true), (TEXT_BYTES_MAX + 1, false)] {
        let mut columns = columns(&mut Random(1), &DataType::Utf8, 1, 1);
        columns[VALUE] = Arc::new(StringArray::from(vec!["x".repeat(length)]));
        match gpu.take(&columns, 1) {
            Ok(()) => assert!(fits, "{length}"),
            Err(error) => {
                assert!(!fits && matches!(&error, GpuError::Beyond(_)), "{length}: {error}");
                assert!(!error.needs_reopening());
            }
        }
    }
}

/// Without offsets nothing is known of where rows stand, and ids are in the order of their arrival.
#[test]
fn rows_without_offsets_and_ids_of_texts_are_refused() {
    let mut query = query(&DataType::Utf8);
    query.offsets = None;
    assert!(query.refusals().iter().any(|refusal| refusal.reason.contains("position")));
    query.offsets = Some(OFFSETS);
    query.inputs[VALUE].is_ids = true;
    assert!(query.refusals().iter().any(|refusal| refusal.reason.contains("not in its order")));
}

/// F39: more texts than there is room for, and one that lies where there are none.
#[test]
fn f39_texts_that_cannot_be_are_not_believed() {
    let mut query = query(&DataType::Utf8);
    query.calls.truncate(2);
    let device = fresh_device(Tier::Portable);
    let drained = |spoil: &dyn Fn(&mut Table)| {
        let mut gpu = Gpu::new(&device, &query).expect("it compiles");
        let mut side = Side::new(&query);
        let mut columns = columns(&mut Random(1), &DataType::Utf8, 1, 1);
        columns[VALUE] = Arc::new(StringArray::from(vec!["text"]));
        gpu.take(&columns, 1).expect("it fits");
        gpu.table.settle(&mut gpu.projector).expect("it ends");
        spoil(&mut gpu.table);
        gpu.drain(&mut side).map(|()| side.partial(&query).len())
    };
    assert_eq!(drained(&|_| {}), Ok(1));
    let told = |error: GpuError, why: &str| {
        assert!(matches!(&error, GpuError::Untrusted(told) if told.contains(why)), "{error}");
    };
    let narrow = |table: &mut Table| table.room.as_mut().expect("it has texts").heap_words = 0;
    told(drained(&narrow).expect_err("there is no room"), "texts of 1 words");
    let flip = |_: &mut Table| device.faults.arm(crate::gpu::Fault::BitFlip, 0);
    told(drained(&flip).expect_err("no text lies there"), "a text of 4 bytes at 4 of 4");
}
