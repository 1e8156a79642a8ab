//! HyperLogLog++: how many different values, about, in a fixed number of registers.
//!
//! Hash and registers are Spark's (XXH64 of the value's bytes, seed 42; Heule et al., "HyperLogLog in
//! Practice", 2013), so a sketch is a function of the set of values and few values are counted as
//! Spark counts them: up to the threshold by linear counting. Above it Spark corrects by measured
//! tables; here Ertl's estimator ("New cardinality estimation algorithms", 2017) needs none, with the
//! same error.

use arrow::array::Array;
use arrow::datatypes::DataType;
use twox_hash::XxHash64;

use crate::cpu::column::{BytesColumn, Class, Rows, widen_decimals, widen_floats, widen_ints};

const SEED: u64 = 42;
/// Linear counting is better up to here, by precision from 4 on (Heule et al., appendix).
const THRESHOLDS: [f64; 15] = [
    10.0, 20.0, 40.0, 80.0, 220.0, 400.0, 900.0, 1_800.0, 3_100.0, 6_500.0, 11_500.0, 20_000.0,
    50_000.0, 120_000.0, 350_000.0,
];
pub(super) const PRECISIONS: std::ops::RangeInclusive<u8> = 4..=18;

/// The hash of each row asked for.
pub(super) fn hashes(array: &dyn Array, rows: Rows<'_>) -> Vec<u64> {
    let of = |bytes: &[u8]| XxHash64::oneshot(SEED, bytes);
    // Booleans, dates and integers up to INT are hashed as four bytes, the others as eight.
    let narrow = |value: i64| of(&(value as i32).to_le_bytes());
    let wide = |value: i64| of(&value.to_le_bytes());
    match Class::of(array.data_type()).expect("the layout asked for the class") {
        Class::Int => {
            let is_wide = matches!(array.data_type(), DataType::Int64 | DataType::Timestamp(..));
            let mut scratch = Vec::new();
            let values = widen_ints(array, rows, &mut scratch).iter();
            values.map(|&value| if is_wide { wide(value) } else { narrow(value) }).collect()
        }
        Class::Float => {
            let single = *array.data_type() == DataType::Float32;
            let mut scratch = Vec::new();
            let values = widen_floats(array, rows, &mut scratch).iter();
            let hash = |&value: &f64| {
                let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
                if single {
                    of(&(value as f32).to_bits().to_le_bytes())
                } else {
                    of(&value.to_bits().to_le_bytes())
                }
            };
            values.map(hash).collect()
        }
        Class::Decimal => {
            let small = matches!(array.data_type(), DataType::Decimal128(..=18, _));
            let mut scratch = Vec::new();
            let values = widen_decimals(array, rows, &mut scratch).iter();
            // Java's BigInteger: as few bytes as hold the sign, the greatest first.
            let big = |value: i128| {
                let unused = value.leading_zeros().max(value.leading_ones()) - 1;
                of(&value.to_be_bytes()[(unused / 8) as usize..])
            };
            values.map(|&value| if small { wide(value as i64) } else { big(value) }).collect()
        }
        Class::Bytes => {
            let bytes = BytesColumn::new(array);
            (0..rows.len()).map(|at| of(bytes.value(rows.row(at) as usize))).collect()
        }
    }
}

/// Registers that no value has met.
pub(super) fn empty(precision: u8) -> Box<[u8]> {
    vec![0; 1 << precision].into()
}

pub(super) fn insert(registers: &mut [u8], hash: u64) {
    let precision = registers.len().trailing_zeros();
    let register = (hash >> (64 - precision)) as usize;
    let rest = hash << precision | 1 << (precision - 1);
    let rank = rest.leading_zeros() as u8 + 1;
    registers[register] = registers[register].max(rank);
}

pub(super) fn merge(registers: &mut [u8], other: &[u8]) {
    for (register, other) in registers.iter_mut().zip(other) {
        *register = (*register).max(*other);
    }
}

pub(super) fn estimate(registers: &[u8]) -> i64 {
    let size = registers.len() as f64;
    let precision = registers.len().trailing_zeros() as usize;
    let zeros = registers.iter().filter(|register| **register == 0).count();
    if zeros > 0 {
        let linear = size * (size / zeros as f64).ln();
        if linear <= THRESHOLDS[precision - 4] {
            return linear.round() as i64;
        }
    }
    ertl(registers).round() as i64
}

/// Ertl's improved raw estimator, algorithm 6.
fn ertl(registers: &[u8]) -> f64 {
    let size = registers.len() as f64;
    let ranks_max = 64 - registers.len().trailing_zeros() as usize;
    let mut counts = vec![0.0; ranks_max + 2];
    registers.iter().for_each(|register| counts[usize::from(*register)] += 1.0);
    let mut z = size * tau(1.0 - counts[ranks_max + 1] / size);
    for rank in (1..=ranks_max).rev() {
        z = 0.5 * (z + counts[rank]);
    }
    z += size * sigma(counts[0] / size);
    size * size / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    /// `SELECT xxhash64(…)` of Spark: its documentation's example, and an INT.
    #[test]
    fn hashes_are_sparks() {
        let text = StringArray::from(vec!["Spark"]);
        assert_eq!(hashes(&text, Rows::All(1))[0] as i64, -4_294_468_057_691_064_905);
    }

    #[test]
    fn an_estimate_is_within_its_error_and_exact_for_a_few() {
        for (count, precision) in
            [(0, 9), (1, 9), (3, 9), (20, 9), (1_000, 12), (50_000, 12), (300_000, 9)]
        {
            let values = Int64Array::from_iter_values((0..count).map(|i: i64| i * 7_919));
            let mut registers = empty(precision);
            for hash in hashes(&values, Rows::All(count as usize)) {
                insert(&mut registers, hash);
            }
            let found = estimate(&registers) as f64;
            let error = 1.04 / f64::from(1u32 << precision).sqrt();
            let allowed = if count <= 3 { 0.5 } else { 4.0 * error * count as f64 };
            assert!((found - count as f64).abs() <= allowed, "{count}: {found}");
        }
    }
}
