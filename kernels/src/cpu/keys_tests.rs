use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, StringArray, UInt32Array};
use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::cpu::oracle::{Random, Value, array, cell};

const DECIMAL: DataType = DataType::Decimal128(20, 3);

fn types() -> Vec<DataType> {
    use DataType::*;
    let time = Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![Boolean, Int8, Int16, Int32, Int64, Date32, time, Float32, Float64, DECIMAL, Utf8, Binary]
}

fn value(random: &mut Random, data_type: &DataType) -> Option<Value> {
    if random.one_in(6) {
        return None;
    }
    let small = random.below(5) as i64 - 2;
    Some(match data_type {
        DataType::Boolean => Value::Int(small & 1),
        DataType::Float32 | DataType::Float64 => {
            let value = random.of(&[0.0, -0.0, f64::NAN, -f64::NAN, 1.5, f64::INFINITY]);
            Value::Float(value.to_bits())
        }
        DataType::Decimal128(..) => Value::Decimal(i128::from(small) << (64 * random.below(2))),
        DataType::Utf8 | DataType::Binary => {
            let text = "ä a text that is too long to be inlined";
            Value::Bytes(text[..random.of(&[0, 2, 4, 15, 16, 30])].into())
        }
        DataType::Int64 => Value::Int(random.of(&[i64::MIN, -1, 0, i64::MAX])),
        _ => Value::Int(small),
    })
}

/// Values that are equal as keys become the same value.
fn as_key(value: Option<Value>) -> Option<Value> {
    value.map(|value| match value {
        Value::Float(bits) => {
            let value = f64::from_bits(bits);
            let value = if value.is_nan() { f64::NAN } else { value };
            Value::Float(if value == 0.0 { 0 } else { value.to_bits() })
        }
        other => other,
    })
}

#[test]
fn packed_keys_are_equal_exactly_when_the_values_are_and_give_them_back() {
    for seed in 0..600 {
        let random = &mut Random(seed);
        let types = (0..random.below(5)).map(|_| random.of(&types())).collect::<Vec<_>>();
        let mut space = KeySpace::new(&types);
        let mut oracle = HashMap::new();
        for _ in 0..3 {
            if random.one_in(10) {
                space.clear();
                oracle.clear();
                assert_eq!(space.ids_held(), 0);
            }
            let rows = random.below(60);
            let column = |random: &mut Random, data_type| {
                (0..rows).map(|_| value(random, data_type)).collect::<Vec<_>>()
            };
            let columns = types.iter().map(|t| column(random, t)).collect::<Vec<_>>();
            let arrays = types.iter().zip(&columns).map(|(t, c)| array(t, c)).collect::<Vec<_>>();
            let ids = ids_of_text(&mut space, &types, &columns);
            let selected = (0..rows as u32).filter(|_| !random.one_in(3)).collect::<Vec<_>>();
            let (rows, numbers) = match random.one_in(2) {
                true => (Rows::All(rows), (0..rows as u32).collect()),
                false => (Rows::Selected(&selected), selected.clone()),
            };
            let inputs = arrays.iter().zip(&ids).map(|(array, ids)| match ids {
                Some(ids) if random.one_in(2) => KeyInput::Ids(ids),
                _ => KeyInput::Values(array),
            });
            let inputs = inputs.collect::<Vec<_>>();
            let mut keys = vec![7];
            space.encode(&inputs, rows, &mut keys);
            let keys = &keys[1..];
            assert_eq!(keys.len(), numbers.len(), "seed {seed}");
            let back = space.decode(keys);
            for (at, (&key, &row)) in keys.iter().zip(&numbers).enumerate() {
                let want = columns.iter().map(|c| as_key(c[row as usize].clone()));
                let want = want.collect::<Vec<_>>();
                let known = oracle.entry(want.clone()).or_insert(key);
                assert_eq!(*known, key, "seed {seed}: {want:?}");
                let found = back.iter().map(|array| cell(array, at)).collect::<Vec<_>>();
                assert_eq!(found, want, "seed {seed}");
            }
            let distinct = oracle.values().collect::<std::collections::HashSet<_>>();
            assert_eq!(distinct.len(), oracle.len(), "seed {seed}: two values, one key");
        }
    }
}

/// Ids of the text columns, as a decoder would intern them.
fn ids_of_text(
    space: &mut KeySpace,
    types: &[DataType],
    columns: &[Vec<Option<Value>>],
) -> Vec<Option<Vec<u32>>> {
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Binary);
    let mut ids = |at: usize| {
        let interner = space.interner_mut(at);
        let id = |value: &Option<Value>| match value {
            Some(Value::Bytes(bytes)) => interner.intern(bytes),
            _ => 0,
        };
        columns[at].iter().map(id).collect::<Vec<_>>()
    };
    let columns = types.iter().enumerate();
    columns.map(|(at, data_type)| is_text(data_type).then(|| ids(at))).collect()
}

#[test]
fn text_comes_back_as_a_dictionary_that_holds_each_value_once() {
    let mut space = KeySpace::new(&[DataType::Utf8]);
    // Many ids of which few are asked for take another path than few of few.
    for unused in [0, 10_000] {
        for n in 0..unused {
            space.interner_mut(0).intern(format!("unused {n}").as_bytes());
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            None,
            Some("b"),
            Some("a"),
            Some("b"),
            None,
            Some(""),
        ]));
        let mut keys = vec![];
        space.encode(&[KeyInput::Values(&texts)], Rows::All(6), &mut keys);
        let decoded = space.decode(&keys);
        let dictionary = decoded[0].as_dictionary::<UInt32Type>();
        assert_eq!(
            dictionary.keys(),
            &UInt32Array::from_iter([None, Some(0), Some(1), Some(0), None, Some(2)])
        );
        assert_eq!(dictionary.values().as_string::<i32>(), &StringArray::from(vec!["b", "a", ""]));
        let mut again = vec![];
        space.encode(&[KeyInput::Values(&decoded[0])], Rows::All(6), &mut again);
        assert_eq!(again, keys, "a dictionary is read as the values that it stands for");
        let nothing = space.decode(&[0, 0]);
        assert_eq!(nothing[0].null_count(), 2);
    }
}

#[test]
fn a_dictionary_may_hold_null_among_its_values() {
    let values = Arc::new(StringArray::from(vec![None, Some("x")]));
    let keys = UInt32Array::from_iter([Some(1), Some(0), None]);
    let array: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
    let mut space = KeySpace::new(&[DataType::Utf8]);
    let mut out = vec![];
    space.encode(&[KeyInput::Values(&array)], Rows::All(3), &mut out);
    assert_eq!(out, [1, 0, 0]);
}
