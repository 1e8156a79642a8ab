use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray,
    MapBuilder, NullArray, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, UInt32Type};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::number::{self, JAVA, Layout, PYTHON};
use super::time::{self, Fraction};
use super::{csv, json, show};

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn doubles_are_laid_out_as_python_does_in_files_and_as_java_does_on_the_console() {
    let table = [
        (0.0, "0.0", "0.0"),
        (-0.0, "-0.0", "-0.0"),
        (1.0, "1.0", "1.0"),
        (0.1, "0.1", "0.1"),
        (-1.5, "-1.5", "-1.5"),
        (100.0, "100.0", "100.0"),
        (9_999_999.0, "9999999.0", "9999999.0"),
        (1e7, "10000000.0", "1.0E7"),
        (12_345_678.9, "12345678.9", "1.23456789E7"),
        (1e-3, "0.001", "0.001"),
        (9.99e-4, "0.000999", "9.99E-4"),
        (1e-4, "0.0001", "1.0E-4"),
        (9.9e-5, "9.9e-05", "9.9E-5"),
        (-1e-7, "-1e-07", "-1.0E-7"),
        (1e15, "1000000000000000.0", "1.0E15"),
        (9_007_199_254_740_993.0, "9007199254740992.0", "9.007199254740992E15"),
        (1e16, "1e+16", "1.0E16"),
        (1.5e16, "1.5e+16", "1.5E16"),
        (1e20, "1e+20", "1.0E20"),
        (1e100, "1e+100", "1.0E100"),
        (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157E308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308", "2.2250738585072014E-308"),
        (5e-324, "5e-324", "5.0E-324"),
        (f64::NAN, "NaN", "NaN"),
        (f64::INFINITY, "Infinity", "Infinity"),
        (f64::NEG_INFINITY, "-Infinity", "-Infinity"),
    ];
    for (value, python, java) in table {
        assert_eq!(text(|out| number::double(out, value, &PYTHON)), python);
        assert_eq!(text(|out| number::double(out, value, &JAVA)), java);
    }
    for (value, java) in [(0.1_f32, "0.1"), (16_777_216.0, "1.6777216E7"), (1e-45, "1.0E-45")] {
        assert_eq!(text(|out| number::float(out, value, &JAVA)), java);
    }
}

/// The layout rules, from the shortest digits that the standard library finds.
fn naive(value: f64, least: i32, beyond: i32, exponent_text: fn(i32) -> String) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if (least..beyond).contains(&exponent) || value == 0.0 {
        format!("{value:?}").parse::<f64>().map(|same| assert!(same == value)).unwrap();
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    digits.to_owned() + &exponent_text(exponent)
}

/// Of two shortest texts that are equally near, the standard library takes the greater, zmij (and
/// Python and Java) the one that ends with an even digit.
fn equal_but_for_a_tie(found: &str, expected: &str) -> bool {
    let apart: Vec<(u8, u8)> =
        found.bytes().zip(expected.bytes()).filter(|(found, expected)| found != expected).collect();
    found.len() == expected.len()
        && match apart[..] {
            [] => true,
            [(even, odd)] => even % 2 == 0 && even + 1 == odd,
            _ => false,
        }
}

proptest! {
    #[test]
    fn any_double_is_the_shortest_text_in_its_layout(bits in any::<u64>(), scale in -25_i32..25) {
        let short = [(bits >> 36) as f64 / 1e4, -((bits >> 14) as f64) / 1e5, (bits >> 50) as f64 / 100.0];
        let long = [f64::from_bits(bits), (bits >> 12) as f64 * 10_f64.powi(scale)];
        for value in short.into_iter().chain(long) {
            prop_assume!(value.is_finite());
            let check = |layout: &Layout, expected: String| {
                let found = text(|out| number::double(out, value, layout));
                assert!(equal_but_for_a_tie(&found, &expected), "{found} {expected}");
                assert_eq!(found.parse::<f64>().unwrap().to_bits(), value.to_bits());
            };
            check(&PYTHON, naive(value, -4, 16, |e| format!("e{e:+03}")));
            let java = naive(value, -3, 7, |e| format!("E{e}"));
            let (digits, exponent) = java.split_once('E').unwrap_or((&java, ""));
            let point = if digits.contains('.') { "" } else { ".0" };
            let e = if exponent.is_empty() { "" } else { "E" };
            check(&JAVA, format!("{digits}{point}{e}{exponent}"));
        }
    }

    #[test]
    fn any_instant_has_the_text_that_jiff_gives_it(us in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
        let instant = jiff::Timestamp::from_microsecond(us).unwrap();
        let found = text(|out| time::timestamp(out, us, b'T', Fraction::Shortest)) + "Z";
        prop_assert_eq!(found, instant.to_string());
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let found = text(|out| time::timestamp(out, time::wall_clock(us, &zone), b'T', Fraction::Shortest));
        prop_assert_eq!(found, instant.to_zoned(zone).datetime().to_string());
    }

    #[test]
    fn any_decimal_is_its_integer_with_a_point(unscaled in any::<i128>(), scale in 0_i8..38) {
        let found = text(|out| number::decimal(out, unscaled, scale));
        let (whole, fraction) = found.split_once('.').unwrap_or((&found, ""));
        prop_assert_eq!(fraction.len(), scale as usize);
        prop_assert_eq!(whole.starts_with('-'), unscaled < 0);
        prop_assert!(whole == "0" || whole == "-0" || !whole.trim_start_matches('-').starts_with('0'));
        prop_assert_eq!(format!("{whole}{fraction}").parse::<i128>().unwrap(), unscaled);
    }

    #[test]
    fn any_text_comes_back_from_json_and_csv(value in ".*") {
        let batch = batch(vec![("s", Arc::new(StringArray::from(vec![value.as_str()])))]);
        let mut line = Vec::new();
        json::Writer::default().rows(&batch, b"", &mut line).unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(parsed["s"].as_str().unwrap(), &value);
        let mut line = Vec::new();
        csv::Writer::default().rows(&batch, &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        let field = line.strip_suffix('\n').unwrap();
        let unquoted = match field.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap().replace("\"\"", "\""),
            None => {
                prop_assert!(!field.contains(['"', ',', '\n', '\r']) && !field.is_empty());
                field.to_owned()
            }
        };
        prop_assert_eq!(unquoted, value);
    }
}

#[test]
fn decimals_with_few_digits_and_with_a_negative_scale() {
    for (unscaled, scale, expected) in [
        (0, 0, "0"),
        (0, 3, "0.000"),
        (5, 3, "0.005"),
        (-5, 1, "-0.5"),
        (-12345, 2, "-123.45"),
        (7, -3, "7000"),
        (0, -3, "0"),
    ] {
        assert_eq!(text(|out| number::decimal(out, unscaled, scale)), expected);
    }
}

#[test]
fn dates_at_the_ends_of_the_calendar() {
    for (days, expected) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (11_016, "2000-02-29"),
        (-719_162, "0001-01-01"),
        (-719_528, "0000-01-01"),
        (-719_529, "-0001-12-31"),
        (2_932_896, "9999-12-31"),
        (2_932_897, "+10000-01-01"),
    ] {
        assert_eq!(text(|out| time::date(out, days)), expected);
    }
}

#[test]
fn base64_pads_as_rfc_4648() {
    for (bytes, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(text(|out| number::base64(out, bytes.as_bytes())), expected);
    }
    assert_eq!(text(|out| number::base64(out, &[0xfb, 0xff, 0xfe])), "+//+");
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

/// One column of each type, with a NULL.
fn every_type() -> RecordBatch {
    let us = 1_714_564_800_000_000; // 2024-05-01T12:00:00Z
    let pair = StructArray::from(vec![
        (
            Arc::new(Field::new(
                "start",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
                true,
            )),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(us), None]).with_timezone("UTC"))
                as ArrayRef,
        ),
        (
            Arc::new(Field::new("k,\"", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![f64::NAN, 1.0])) as ArrayRef,
        ),
    ]);
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("a");
    map.values().append_value("x\"y");
    map.keys().append_value("b");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(false).unwrap();
    let dictionary: DictionaryArray<UInt32Type> = vec![Some("de"), None].into_iter().collect();
    batch(vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(1e10_f32), None]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(1e16), None]))),
        ("nan", Arc::new(Float64Array::from(vec![Some(f64::NAN), None]))),
        (
            "dec",
            Arc::new(
                Decimal128Array::from(vec![Some(-150), None])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        ("s", Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), None]))),
        ("empty", Arc::new(LargeStringArray::from(vec![Some(""), None]))),
        ("bin", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None]))),
        ("date", Arc::new(Date32Array::from(vec![Some(19_844), None]))),
        (
            "ts",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(us + 1), None]).with_timezone("UTC"),
            ),
        ),
        (
            "ntz",
            Arc::new(TimestampNanosecondArray::from(vec![Some(us * 1000 + 500_000_000), None])),
        ),
        ("pair", Arc::new(pair)),
        ("list", Arc::new(list)),
        ("map", Arc::new(map.finish())),
        ("dict", Arc::new(dictionary)),
        ("null", Arc::new(NullArray::new(2))),
    ])
}

#[test]
fn csv_of_every_type() {
    let mut writer = csv::Writer::default();
    let mut out = Vec::new();
    let batch = every_type();
    writer.header(&batch.schema(), &mut out);
    writer.rows(&batch, &mut out).unwrap();
    let expected = concat!(
        "bool,i8,i64,u64,f32,f64,nan,dec,s,empty,bin,date,ts,ntz,pair,list,map,dict,null\n",
        "true,-128,-9223372036854775808,18446744073709551615,1.0E10,1e+16,NaN,-1.50,",
        "\"a,\"\"b\"\"\n\",\"\",AP8=,2024-05-01,2024-05-01T12:00:00.000001Z,2024-05-01T12:00:00.500,",
        "\"{\"\"start\"\":\"\"2024-05-01T12:00:00Z\"\",\"\"k,\\\"\"\"\":\"\"NaN\"\"}\",\"[1,null]\",",
        "\"{\"\"a\"\":\"\"x\\\"\"y\"\",\"\"b\"\":null}\",de,\n",
        ",,,,,,,,,,,,,,\"{\"\"k,\\\"\"\"\":1.0}\",,,,\n",
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn json_of_every_type() {
    let mut out = Vec::new();
    json::Writer::default().rows(&every_type(), b"\n", &mut out).unwrap();
    let expected = concat!(
        r#"{"bool":true,"i8":-128,"i64":-9223372036854775808,"u64":18446744073709551615,"#,
        r#""f32":1.0E10,"f64":1e+16,"nan":"NaN","dec":-1.50,"s":"a,\"b\"\n","empty":"","#,
        r#""bin":"AP8=","date":"2024-05-01","ts":"2024-05-01T12:00:00.000001Z","#,
        r#""ntz":"2024-05-01T12:00:00.500","#,
        r#""pair":{"start":"2024-05-01T12:00:00Z","k,\"":"NaN"},"list":[1,null],"#,
        r#""map":{"a":"x\"y","b":null},"dict":"de"}"#,
        "\n",
        r#"{"pair":{"k,\"":1.0}}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn show_of_every_type() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut table = show::Table::new(20, None, zone);
    let batch = every_type();
    let columns =
        ["f64", "nan", "dec", "s", "empty", "bin", "date", "ts", "ntz", "pair", "list", "map"];
    let places: Vec<usize> =
        columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
    let batch = batch.project(&places).unwrap();
    table.push(&batch).unwrap();
    let mut out = String::new();
    table.print(&batch.schema(), &mut out);
    let rows: Vec<Vec<&str>> = out
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line[1..line.len() - 1].split('|').map(str::trim_end).collect())
        .collect();
    assert_eq!(rows[0], columns);
    let first = [
        "1.0E16",
        "NaN",
        "-1.50",
        "a,\"b\"\\n",
        "",
        "[00 FF]",
        "2024-05-01",
        "2024-05-01 14:00:00.000001",
        "2024-05-01 12:00:00.5",
        "{2024-05-01 14:00:00, NaN}",
        "[1, NULL]",
        "{a -> x\"y, b -> NULL}",
    ];
    assert_eq!(rows[1], first);
    let mut second = ["NULL"; 12];
    second[9] = "{NULL, 1.0}";
    assert_eq!(rows[2], second);
}

/// `show(num_rows, truncate)` of one text column.
#[track_caller]
fn check_show(num_rows: usize, truncate: Option<usize>, values: &[&str], expected: &str) {
    let mut table = show::Table::new(num_rows, truncate, TimeZone::UTC);
    let batch = batch(vec![("s", Arc::new(StringArray::from(values.to_vec())))]);
    table.push(&batch).unwrap();
    let mut out = String::new();
    table.print(&batch.schema(), &mut out);
    assert_eq!(out, expected);
}

#[test]
fn tables_are_cut_aligned_and_as_wide_as_their_widest_cell() {
    check_show(
        20,
        Some(20),
        &["a", "12345678901234567890", "123456789012345678901"],
        "+--------------------+\n|                   s|\n+--------------------+\n\
         |                   a|\n|12345678901234567890|\n|12345678901234567...|\n\
         +--------------------+\n\n",
    );
    check_show(20, None, &["a", "1234"], "+----+\n|s   |\n+----+\n|a   |\n|1234|\n+----+\n\n");
    check_show(20, Some(0), &["a"], "+---+\n|s  |\n+---+\n|a  |\n+---+\n\n");
    check_show(20, Some(3), &["1234"], "+---+\n|  s|\n+---+\n|123|\n+---+\n\n");
    check_show(
        1,
        Some(20),
        &["a", "b"],
        "+---+\n|  s|\n+---+\n|  a|\n+---+\nonly showing top 1 row\n",
    );
    check_show(0, Some(20), &["a"], "+---+\n|  s|\n+---+\n+---+\nonly showing top 0 rows\n");
    check_show(
        20,
        Some(20),
        &["漢字", "한국", "ｈａ", "é", "😀"],
        "+----+\n|   s|\n+----+\n|漢字|\n|한국|\n|ｈａ|\n|   é|\n|  😀|\n+----+\n\n",
    );
    // The cut falls into a pair of UTF-16 units.
    check_show(20, Some(5), &["1😀4567"], "+-----+\n|    s|\n+-----+\n|1?...|\n+-----+\n\n");
}

#[test]
fn a_table_without_columns_keeps_its_borders() {
    let mut out = String::new();
    show::Table::new(20, Some(20), TimeZone::UTC).print(&Schema::empty(), &mut out);
    assert_eq!(out, "++\n||\n++\n++\n\n");
}

#[test]
fn long_batches_small_dictionaries_and_large_ones_give_the_same_lines() {
    let rows = 5000;
    let values: Vec<Option<String>> =
        (0..rows).map(|row| (row % 7 != 0).then(|| format!("key {}", row % 13))).collect();
    let plain: ArrayRef = Arc::new(StringArray::from(values.clone()));
    let small: DictionaryArray<UInt32Type> = values.iter().map(Option::as_deref).collect();
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows));
    let lines = |column: ArrayRef, numbers: ArrayRef| {
        let mut out = Vec::new();
        csv::Writer::default().rows(&batch(vec![("k", column), ("n", numbers)]), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let expected: String = values
        .iter()
        .enumerate()
        .map(|(row, key)| format!("{},{row}\n", key.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(lines(plain, Arc::clone(&numbers)), expected);
    // A slice has more distinct values than rows.
    let few = lines(Arc::new(small.slice(1, 3)), numbers.slice(1, 3));
    assert_eq!(few, "key 1,1\nkey 2,2\nkey 3,3\n");
    assert_eq!(lines(Arc::new(small), numbers), expected);
}
