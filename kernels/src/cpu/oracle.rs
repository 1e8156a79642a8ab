//! What tests compare the kernels with: slow, and right at sight.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, UInt32Type,
};
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};

/// Numbers from a seed (splitmix64), so that a failure names what repeats it.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// Ordinary, huge, tiny, subnormal, special, and now and then any bits at all.
    pub fn double(&mut self) -> f64 {
        let sign = if self.one_in(2) { 1.0 } else { -1.0 };
        sign * match self.below(12) {
            0..=4 => self.below(100_000) as f64 / 100.0,
            5 => self.of(&[0.0, 1e308, f64::MAX, 1e-308, 5e-324, f64::MIN_POSITIVE, 1e200, 1e-200]),
            6 => self.of(&[f64::INFINITY, f64::NAN, 0.0, 0.0, 0.0, 0.0]),
            7 => f64::from_bits(self.next()),
            8 => f64::from_bits(self.next() & ((1 << 52) - 1)),
            9 => 2f64.powi(self.below(2000) as i32 - 1000),
            10 => (self.below(1000) as f64 + 0.1) * 1e30,
            _ => (self.next() >> 11) as f64,
        }
    }
}

/// A number as digits of powers of two, each of any size: digit `k` weighs `2^(k - ORIGIN)`.
#[derive(Clone)]
pub(crate) struct Digits(Vec<i64>);

const ORIGIN: i32 = 2400;
const LENGTH: usize = 4900;

impl Digits {
    pub fn zero() -> Self {
        Digits(vec![0; LENGTH])
    }

    /// Adds `factor * value`.
    pub fn add(&mut self, value: f64, factor: i128) {
        let (significand, exponent) = finite_parts(value);
        let sign = if (value < 0.0) != (factor < 0) { -1 } else { 1 };
        self.add_integer(sign, significand.into(), factor.unsigned_abs(), exponent);
    }

    /// Adds `factor * a * b`.
    pub fn add_product(&mut self, a: f64, b: f64, factor: i128) {
        let ((x, x_exponent), (y, y_exponent)) = (finite_parts(a), finite_parts(b));
        let negative = (a < 0.0) ^ (b < 0.0) ^ (factor < 0);
        let sign = if negative { -1 } else { 1 };
        let product = u128::from(x) * u128::from(y);
        self.add_integer(sign, product, factor.unsigned_abs(), x_exponent + y_exponent);
    }

    fn add_integer(&mut self, sign: i64, a: u128, b: u128, exponent: i32) {
        for x in (0..128).filter(|x| a >> x & 1 == 1) {
            for y in (0..128).filter(|y| b >> y & 1 == 1) {
                self.0[(exponent + ORIGIN + x + y) as usize] += sign;
            }
        }
    }

    fn minus(&self, other: &Digits) -> Digits {
        Digits(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// Sign, and the magnitude with every digit 0 or 1.
    fn normal(&self) -> (Ordering, Vec<i64>) {
        let carry = |digits: &mut Vec<i64>| {
            let mut carry = 0;
            for digit in digits {
                let sum = *digit + carry;
                *digit = sum & 1;
                carry = sum >> 1;
            }
            carry
        };
        let mut digits = self.0.clone();
        let mut sign = Ordering::Greater;
        if carry(&mut digits) < 0 {
            digits = self.0.iter().map(|digit| -digit).collect();
            assert!(carry(&mut digits) == 0, "the number has room");
            sign = Ordering::Less;
        }
        let zero = digits.iter().all(|&digit| digit == 0);
        (if zero { Ordering::Equal } else { sign }, digits)
    }

    fn compare_magnitude(&self, other: &Digits) -> Ordering {
        self.normal().1.iter().rev().cmp(other.normal().1.iter().rev())
    }

    /// Is `candidate` the double next to `self / divisor`, ties to even, an exact zero +0.0?
    pub fn rounds_to(&self, divisor: i128, candidate: f64) -> bool {
        let (sign, _) = self.normal();
        if sign == Ordering::Equal || candidate.is_nan() {
            return candidate.to_bits() == 0;
        }
        if (sign == Ordering::Less) != candidate.is_sign_negative() {
            return false;
        }
        let distance = |other: f64| {
            let mut product = Digits::zero();
            // Where doubles end, the next one would be 2^1024.
            let (significand, exponent) =
                if other.is_infinite() { (1 << 52, 972) } else { finite_parts(other) };
            let sign = if other < 0.0 { -1 } else { 1 };
            product.add_integer(sign, significand.into(), divisor.unsigned_abs(), exponent);
            self.minus(&product)
        };
        let own = distance(candidate);
        let even = candidate.to_bits() & 1 == 0;
        let neighbours = [candidate.abs().next_down(), candidate.abs().next_up()];
        let neighbours = neighbours.into_iter().filter(|n| !n.is_nan());
        neighbours.map(|n| n.copysign(candidate)).all(|neighbour| {
            match own.compare_magnitude(&distance(neighbour)) {
                Ordering::Less => true,
                Ordering::Equal => even || neighbour == candidate,
                Ordering::Greater => false,
            }
        })
    }
}

fn finite_parts(value: f64) -> (u64, i32) {
    let (bits, biased) =
        (value.to_bits() & ((1 << 52) - 1), (value.to_bits() >> 52 & 0x7ff) as i32);
    assert!(biased < 0x7ff, "{value} is not finite");
    if biased == 0 { (bits, -1074) } else { (bits | 1 << 52, biased - 1075) }
}

/// A value of any type: what an array holds in one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Value {
    Int(i64),
    /// By its bits.
    Float(u64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

pub(crate) fn cell(array: &dyn Array, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => Value::Int(array.as_boolean().value(row).into()),
        DataType::Int8 => Value::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => Value::Int(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Value::Int(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Float32 => {
            Value::Float(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits())
        }
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Utf8 => Value::Bytes(array.as_string::<i32>().value(row).into()),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).into()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<UInt32Type>();
            return cell(dictionary.values(), dictionary.keys().value(row) as usize);
        }
        other => panic!("no test value of type {other}"),
    })
}

pub(crate) fn array(data_type: &DataType, values: &[Option<Value>]) -> ArrayRef {
    let int = |value: &Option<Value>| match value {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    };
    let float = |value: &Option<Value>| match value {
        Some(Value::Float(bits)) => Some(f64::from_bits(*bits)),
        _ => None,
    };
    let decimal = |value: &Option<Value>| match value {
        Some(Value::Decimal(value)) => Some(*value),
        _ => None,
    };
    let bytes = |value: &'_ Option<Value>| match value {
        Some(Value::Bytes(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    let ints = values.iter().map(int);
    match data_type {
        DataType::Boolean => {
            Arc::new(ints.map(|v| v.map(|v| v != 0)).collect::<BooleanArray>()) as ArrayRef
        }
        DataType::Int8 => Arc::new(ints.map(|v| v.map(|v| v as i8)).collect::<Int8Array>()),
        DataType::Int16 => Arc::new(ints.map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(ints.map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(ints.collect::<Int64Array>()),
        DataType::Date32 => Arc::new(ints.map(|v| v.map(|v| v as i32)).collect::<Date32Array>()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = ints.collect::<TimestampMicrosecondArray>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Float32 => {
            let floats = values.iter().map(float);
            Arc::new(floats.map(|v| v.map(|v| v as f32)).collect::<Float32Array>())
        }
        DataType::Float64 => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Decimal128(..) => {
            let array = values.iter().map(decimal).collect::<Decimal128Array>();
            Arc::new(array.with_data_type(data_type.clone()))
        }
        DataType::Utf8 => {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("test text is UTF-8");
            Arc::new(values.iter().map(|v| bytes(v).map(text)).collect::<StringArray>())
        }
        DataType::Binary => Arc::new(values.iter().map(bytes).collect::<BinaryArray>()),
        other => panic!("no test array of type {other}"),
    }
}

/// The bytes that a batch has in a file.
pub(crate) fn file_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).expect("in memory");
    writer.write(batch).expect("in memory");
    writer.into_inner().expect("in memory")
}

/// The batch as a file gives it back.
pub(crate) fn through_a_file(batch: &RecordBatch) -> RecordBatch {
    let bytes = file_bytes(batch);
    let mut reader = StreamReader::try_new(&bytes[..], None).expect("it was written before");
    reader.next().expect("there is one batch").expect("it was written before")
}
