//! Numbers and booleans against `str::parse`, decimals against arithmetic on digits.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use arrow::array::types::*;
use proptest::prelude::*;

use super::*;
use crate::decode::number;

/// A deterministic stream of numbers (Marsaglia, "Xorshift RNGs", 2003).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    pub fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// Texts that are numbers, nearly numbers, and at the limits of types.
fn number_text(random: &mut Numbers) -> String {
    const LIMITS: &[&str] = &[
        "127",
        "128",
        "-128",
        "-129",
        "32767",
        "32768",
        "-32768",
        "-32769",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "1e308",
        "1e309",
        "-1e309",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "4.9e-324",
        "2.4e-324",
        "1e-400",
        "3.4028235e38",
        "3.4028236e38",
        "NaN",
        "nan",
        "-nan",
        "inf",
        "Inf",
        "-inf",
        "Infinity",
        "-Infinity",
        "INFINITY",
        "infinit",
        "+5",
        "-0",
        "+-1",
        "--1",
        "-",
        "+",
        ".",
        "-.",
        "5.",
        ".5",
        "-.5",
        "1..2",
        "1.2.3",
        "",
        "e5",
        "1e",
        "1e+",
        "1_000",
        "0x10",
        "1d",
        "9007199254740993",
        "0.1",
        "00012",
        "16777217",
        "16777219",
        "123456789012345.6",
        "999999999999999",
        "9999999999999999",
        "99999999999999999",
        "0000000000000000",
        "12345678-12345678",
        "1.234567-12345678",
        "١",
    ];
    match random.below(8) {
        0 => random.pick(LIMITS).to_string(),
        1 => {
            // Any bytes near the ASCII digits.
            let length = random.below(12);
            (0..length).map(|_| char::from(b'*' + random.below(18) as u8)).collect()
        }
        2 => format!("{}", f64::from_bits(random.next())),
        3 => format!("{:e}", f32::from_bits(random.next() as u32)),
        kind => {
            let mut digits = |most: usize| -> String {
                let length = random.below(most + 1);
                (0..length).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
            };
            let (whole, fraction) = (digits(10), digits(9));
            let sign = random.pick(&["", "", "-", "+"]);
            match kind {
                4 => format!("{sign}{whole}"),
                5 => format!("{sign}{whole}{fraction}"),
                6 => format!("{sign}{whole}.{fraction}"),
                _ => format!("{sign}{whole}.{fraction}e{}", random.below(80) as i32 - 40),
            }
        }
    }
}

/// Decodes each text as a field of its own row, on every tier, and compares it with what `parse` says.
fn agrees<T>(data_type: DataType, bits: impl Fn(T::Native) -> u64, texts: &[String])
where
    T: ArrowPrimitiveType,
    T::Native: FromStr + Debug + Display,
    Option<T::Native>: Expectation,
{
    // The second column keeps a row with an empty first field from being a blank line.
    let schema = vec![column("v", data_type), column("end", DataType::Utf8)];
    let csv = CsvDialect { delimiter: b'|', ..CsvDialect::default() };
    let source = source(Format::Csv(csv), schema);
    let bytes: String = texts.iter().map(|text| format!("{text}|\n")).collect();
    let input = &all_values(&source)[..1];
    for &tier in SimdTier::present() {
        let mut decoder = Decoder::new(&source, "UTC", input, tier).expect("sound");
        let place = Place::default();
        let (mut at, mut row) = (0, 0);
        while at < bytes.len() {
            let view = &bytes.as_bytes()[at..];
            let decoded = decoder.decode(view, true, &mut Vec::<Interner>::new(), &place, 4096);
            let array = decoded.batch.columns[0].as_primitive::<T>();
            let mut errors = decoded.batch.value_errors.iter().peekable();
            for i in 0..decoded.batch.rows {
                let text = &texts[row];
                let refused = errors.next_if(|error| error.row as usize == i).is_some();
                let found = (!array.is_null(i)).then(|| array.value(i));
                let expected: Option<T::Native> = text.parse().ok().filter_out_of_range(text);
                assert_eq!(found.map(&bits), expected.map(&bits), "{text:?}: {found:?}");
                assert_eq!(refused, expected.is_none() && !text.is_empty(), "{text:?}");
                row += 1;
            }
            at += decoded.consumed;
        }
        assert_eq!(row, texts.len());
    }
}

/// `str::parse` makes an infinity of a number that is too large: the one thing that we refuse.
trait Expectation {
    fn filter_out_of_range(self, text: &str) -> Self;
}

macro_rules! expectation {
    ($($int:ty),*) => {$(
        impl Expectation for Option<$int> {
            fn filter_out_of_range(self, _: &str) -> Self {
                self
            }
        }
    )*};
}

expectation!(i8, i16, i32, i64);

impl Expectation for Option<f32> {
    fn filter_out_of_range(self, text: &str) -> Self {
        self.filter(|v| v.is_finite() || !text.contains(|c: char| c.is_ascii_digit()))
    }
}

impl Expectation for Option<f64> {
    fn filter_out_of_range(self, text: &str) -> Self {
        self.filter(|v| v.is_finite() || !text.contains(|c: char| c.is_ascii_digit()))
    }
}

#[test]
fn f06_a_hundred_thousand_texts_are_the_numbers_that_str_parse_says() {
    let mut random = Numbers::new(6);
    let texts: Vec<String> = (0..100_000).map(|_| number_text(&mut random)).collect();
    all_agree(&texts);
    // Blocks of short fields have a reading of their own.
    all_agree(&texts.into_iter().filter(|text| text.len() <= 8).collect::<Vec<_>>());
}

fn all_agree(texts: &[String]) {
    agrees::<Int8Type>(DataType::Int8, |v| v as u64, texts);
    agrees::<Int16Type>(DataType::Int16, |v| v as u64, texts);
    agrees::<Int32Type>(DataType::Int32, |v| v as u64, texts);
    agrees::<Int64Type>(DataType::Int64, |v| v as u64, texts);
    agrees::<Float32Type>(DataType::Float32, |v| u64::from(v.to_bits()), texts);
    agrees::<Float64Type>(DataType::Float64, f64::to_bits, texts);
}

#[test]
fn f06_values_at_the_limits_are_exact_or_refused() {
    let check = |data_type: DataType, text: &str, expected: &str| {
        let schema = vec![column("v", data_type), column("end", DataType::Utf8)];
        let source = source(Format::Csv(CsvDialect::default()), schema);
        let line = format!("{text},\n");
        let input = &all_values(&source)[..1];
        for &tier in SimdTier::present() {
            let answer = run(&source, input, tier, line.as_bytes(), &[], 10);
            let found = match answer.value_errors.first() {
                Some(_) => "refused".to_string(),
                None => answer.text(),
            };
            assert_eq!(found, expected, "{text}");
        }
    };
    check(DataType::Float64, "1e309", "refused");
    check(DataType::Float64, "-1e309", "refused");
    check(DataType::Float64, "-0", "-0.0");
    check(DataType::Float64, "NaN", "NaN");
    check(DataType::Float64, "Inf", "inf");
    check(DataType::Float64, "-Infinity", "-inf");
    check(DataType::Float32, "3.4028236e38", "refused");
    check(DataType::Int64, "9223372036854775807", "9223372036854775807");
    check(DataType::Int64, "9223372036854775808", "refused");
    check(DataType::Int64, "-9223372036854775808", "-9223372036854775808");
    check(DataType::Int8, "+5", "5");
    check(DataType::Int8, "128", "refused");
    check(DataType::Decimal128(38, 0), &"9".repeat(38), &"9".repeat(38));
    check(DataType::Decimal128(38, 0), &"9".repeat(39), "refused");
    check(DataType::Decimal128(38, 18), "-12345678901234567890.123456789012345678", {
        "-12345678901234567890.123456789012345678"
    });
    check(DataType::Decimal128(18, 4), "12.5", "12.5000");
    check(DataType::Decimal128(18, 4), "\"12,5\"", "refused");
    check(DataType::Decimal128(5, 2), "999.990", "999.99");
    check(DataType::Decimal128(5, 2), "999.995", "refused");
    check(DataType::Decimal128(5, 2), "1000", "refused");
    check(DataType::Decimal128(5, 2), "1.5e2", "150.00");
    check(DataType::Decimal128(5, 2), "15e-1", "1.50");
    check(DataType::Decimal128(5, 2), "1e-3", "refused");
    check(DataType::Decimal128(5, 2), ".5", "0.50");
    check(DataType::Decimal128(5, 2), "-0", "0.00");
    check(DataType::Decimal128(5, 2), "1.2.3", "refused");
    check(DataType::Decimal128(5, 2), "NaN", "refused");
    check(DataType::Decimal128(5, 2), &format!("1.{}", "0".repeat(60)), "1.00");
    check(DataType::Decimal128(5, 2), &format!("1{}e-60", "0".repeat(60)), "1.00");
    check(DataType::Decimal128(5, 2), "0e99999999999", "0.00");
    check(DataType::Decimal128(5, 2), "1e99999999999999999999", "refused");
    for text in ["true", "T", "yes", "Y", "1", "TRUE"] {
        check(DataType::Boolean, text, "true");
    }
    for text in ["false", "f", "No", "n", "0"] {
        check(DataType::Boolean, text, "false");
    }
    check(DataType::Boolean, "2", "refused");
    check(DataType::Boolean, "truee", "refused");
}

proptest! {
    #[test]
    fn a_decimal_is_its_digits_moved_by_its_point(
        whole in "[0-9]{0,20}",
        fraction in "[0-9]{0,20}",
        sign in prop_oneof![Just(""), Just("-"), Just("+")],
        exponent in prop::option::of(-25i32..25),
        precision in 1u8..=38,
        scale in 0i8..=20,
    ) {
        prop_assume!(scale as u8 <= precision);
        let mut text = format!("{sign}{whole}.{fraction}");
        if let Some(exponent) = exponent {
            text.push_str(&format!("e{exponent}"));
        }
        // All digits, the point moved as far as the scale asks.
        let digits = format!("{whole}{fraction}");
        let power = scale as i32 + exponent.unwrap_or(0) - fraction.len() as i32;
        let (kept, dropped) = match power < 0 {
            true => digits.split_at(digits.len().saturating_sub(-power as usize)),
            false => (digits.as_str(), ""),
        };
        let unscaled = format!("{kept}{}", "0".repeat(power.max(0) as usize));
        let unscaled = unscaled.trim_start_matches('0');
        let fits = unscaled.len() <= precision as usize
            && dropped.chars().all(|c| c == '0')
            && !digits.is_empty();
        let expected = fits.then(|| {
            let magnitude: i128 = unscaled.parse().unwrap_or(0);
            if sign == "-" { -magnitude } else { magnitude }
        });
        prop_assert_eq!(number::decimal(text.as_bytes(), precision, scale), expected, "{}", text);
    }
}
