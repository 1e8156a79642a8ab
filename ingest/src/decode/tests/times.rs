//! Dates and timestamps: against jiff on many texts, and each rule by example.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::values::Numbers;
use super::*;
use crate::decode::time::TimeReader;

fn reader(format: TimeFormat, zone: Option<&str>, zoned: bool, truncate: bool) -> TimeReader {
    let column = Column {
        format,
        timezone: zone.map(str::to_string),
        truncate,
        ..column("t", DataType::Date32)
    };
    TimeReader::new(&column, zoned, "UTC").expect("the format is sound")
}

/// What jiff says of a text, where it is in the form that we read.
fn by_jiff(text: &str, zone: &TimeZone) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let time: civil::DateTime = text.parse().ok()?;
    Some(zone.to_ambiguous_timestamp(time).compatible().ok()?.as_microsecond())
}

#[test]
fn a_hundred_thousand_iso_texts_are_the_times_that_jiff_says() {
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
    let mut random = Numbers::new(10);
    for name in zones {
        let zone = TimeZone::get(name).expect("the zone is known");
        let reader = reader(TimeFormat::Iso, Some(name), true, false);
        let mut valid = 0;
        for _ in 0..25_000 {
            let two = |random: &mut Numbers, usual: usize| match random.below(40) {
                0 => random.below(100),
                _ => random.below(usual),
            };
            let year = if random.below(2) == 0 { 2024 } else { 1 + random.below(9999) };
            let (month, day) = (two(&mut random, 12) + 1, two(&mut random, 31) + 1);
            let (hour, minute) = (two(&mut random, 24), two(&mut random, 60));
            let second = random.below(60);
            let separator = random.pick(&["T", "T", " "]);
            let fraction = match random.below(3) {
                0 => String::new(),
                _ => format!(".{}", &"123456"[..1 + random.below(6)]),
            };
            let offset = random.pick(&["", "", "Z", "+02:00", "-05:30"]);
            let text = format!(
                "{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
            );
            let found = reader.timestamp(text.as_bytes());
            let expected = by_jiff(&text, &zone);
            assert_eq!(found, expected, "{text} in {name}");
            valid += usize::from(found.is_some());
        }
        assert!(valid > 20_000, "{valid} texts in {name} were times");
    }
}

#[test]
fn every_day_of_ten_thousand_years_has_its_number() {
    let reader = reader(TimeFormat::Iso, None, false, false);
    let mut day = civil::date(1, 1, 1);
    let first = civil::date(1970, 1, 1);
    loop {
        let expected = (day - first).get_days();
        assert_eq!(reader.date(day.to_string().as_bytes()), Some(expected), "{day}");
        match day.tomorrow() {
            Ok(next) if next.year() <= 9999 => day = next,
            _ => break,
        }
    }
}

#[test]
fn iso_timestamps_are_strict_about_their_form() {
    let reader = reader(TimeFormat::Iso, None, true, false);
    let check = |text: &str, expected: Option<&str>| {
        let expected = expected.map(|text| by_jiff(text, &TimeZone::UTC).expect("a time"));
        assert_eq!(reader.timestamp(text.as_bytes()), expected, "{text}");
    };
    check("2024-05-01T12:00:00.123456Z", Some("2024-05-01T12:00:00.123456Z"));
    check("2024-05-01 12:00:00", Some("2024-05-01T12:00:00Z"));
    check("2024-05-01 12:00", Some("2024-05-01T12:00:00Z"));
    check("2024-05-01", Some("2024-05-01T00:00:00Z"));
    check("2024-05-01T12:00:00+0200", Some("2024-05-01T10:00:00Z"));
    check("2024-05-01T12:00:00+02", Some("2024-05-01T10:00:00Z"));
    check("2024-05-01T12:00Z", Some("2024-05-01T12:00:00Z"));
    check("2024-05-01T12:00:00.123456000Z", Some("2024-05-01T12:00:00.123456Z"));
    check("2024-05-01T12:00:00.1234567Z", None);
    check("2024-05-01T12:00:00.Z", None);
    check("2024-05-01T12:00:60Z", None);
    check("2024-05-01T24:00:00Z", None);
    check("2023-02-29T00:00:00Z", None);
    check("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00Z"));
    check("0000-01-01T00:00:00Z", None);
    check("2024-5-1T12:00:00Z", None);
    check("2024-05-01T12:00:00+19:00", None);
    check("2024-05-01T12:00:00 Z", None);
    check("2024-05-01T", None);
    check("20240501", None);
    check("1714564800000", None);
    check("1969-12-31T23:59:59.999999Z", Some("1969-12-31T23:59:59.999999Z"));
}

#[test]
fn clocks_that_jump_take_the_earlier_time_and_move_over_gaps() {
    let berlin = reader(TimeFormat::Iso, Some("Europe/Berlin"), true, false);
    let check = |text: &str, utc: &str| {
        let expected = by_jiff(utc, &TimeZone::UTC);
        assert_eq!(berlin.timestamp(text.as_bytes()), expected, "{text}");
    };
    check("2024-07-01T12:00:00", "2024-07-01T10:00:00Z");
    check("2024-10-27T02:30:00", "2024-10-27T00:30:00Z"); // twice: the earlier
    check("2024-03-31T02:30:00", "2024-03-31T01:30:00Z"); // never: 03:30 summer time
    check("2024-03-31T02:30:00+01:00", "2024-03-31T01:30:00Z");
}

#[test]
fn a_time_without_zone_may_name_none() {
    let plain = reader(TimeFormat::Iso, None, false, false);
    assert_eq!(plain.timestamp(b"1970-01-01T00:00:01"), Some(1_000_000));
    assert_eq!(plain.timestamp(b"1970-01-01T00:00:01Z"), None);
}

#[test]
fn epochs_count_their_unit_and_overflow_is_refused() {
    let check = |format: TimeFormat, truncate, text: &str, expected: Option<i64>| {
        let reader = reader(format.clone(), None, true, truncate);
        assert_eq!(reader.timestamp(text.as_bytes()), expected, "{format:?} {text}");
        // The whole decoder, whose quick reading is another piece of code.
        let mut schema = vec![column("t", timestamp()), column("end", DataType::Utf8)];
        (schema[0].format, schema[0].truncate) = (format.clone(), truncate);
        let source = source(Format::Csv(CsvDialect::default()), schema);
        let input = &all_values(&source)[..1];
        let mut decoder = Decoder::new(&source, "UTC", input, SimdTier::detect()).expect("sound");
        let line = format!("{text},\n");
        let place = Place::default();
        let decoded =
            decoder.decode(line.as_bytes(), true, &mut Vec::<Interner>::new(), &place, 10);
        let array = decoded.batch.columns[0]
            .as_primitive::<arrow::array::types::TimestampMicrosecondType>();
        let found = (!array.is_null(0)).then(|| array.value(0));
        assert_eq!(found, expected, "{format:?} {text}");
    };
    check(TimeFormat::EpochMillis, false, "1714564800123", Some(1_714_564_800_123_000));
    check(TimeFormat::EpochMillis, false, "-1", Some(-1_000));
    check(TimeFormat::EpochMillis, false, "9223372036854775", Some(9_223_372_036_854_775_000));
    check(TimeFormat::EpochMillis, false, "9223372036854776", None);
    check(TimeFormat::EpochMillis, false, "1714564800.5", None);
    check(TimeFormat::EpochSeconds, false, "1714564800", Some(1_714_564_800_000_000));
    check(TimeFormat::EpochSeconds, false, "9223372036855", None);
    check(TimeFormat::EpochMicros, false, "-9223372036854775808", Some(i64::MIN));
    check(TimeFormat::EpochNanos, false, "1714564800123456000", Some(1_714_564_800_123_456));
    check(TimeFormat::EpochNanos, false, "1714564800123456789", None);
    check(TimeFormat::EpochNanos, true, "1714564800123456789", Some(1_714_564_800_123_456));
    check(TimeFormat::EpochNanos, true, "-1", Some(-1));
}

pub fn timestamp_column() -> Column {
    column("t", timestamp())
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

#[test]
fn java_patterns_read_what_java_reads() {
    let check = |pattern: &str, text: &str, expected: Option<&str>| {
        let reader = reader(TimeFormat::Pattern(pattern.to_string()), None, true, false);
        let expected = expected.map(|text| by_jiff(text, &TimeZone::UTC).expect("a time"));
        assert_eq!(reader.timestamp(text.as_bytes()), expected, "{pattern}: {text}");
    };
    check("yyyy-MM-dd HH:mm:ss.SSS", "2024-05-01 12:34:56.789", Some("2024-05-01T12:34:56.789Z"));
    check("yyyy-MM-dd HH:mm:ss.SSS", "2024-05-01 12:34:56.7", Some("2024-05-01T12:34:56.7Z"));
    check("yyyy-MM-dd HH:mm:ss.SSS", "2024-05-01 12:34:56.7891", None);
    check("yyyy-MM-dd HH:mm:ss.SSS", "2024-05-01 12:34:56", None);
    check("yyyy-MM-dd HH:mm:ss[.SSS]", "2024-05-01 12:34:56", Some("2024-05-01T12:34:56Z"));
    check("yyyy-MM-dd HH:mm:ss[.SSS]", "2024-05-01 12:34:56.", None);
    check("dd/MM/yyyy", "01/05/2024", Some("2024-05-01T00:00:00Z"));
    check("d/M/yyyy", "1/5/2024", Some("2024-05-01T00:00:00Z"));
    check("d/M/yyyy", "31/2/2024", None);
    check("dd/MM/yyyy", "1/5/2024", None);
    check("yyyyMMddHHmmss", "20240501123456", Some("2024-05-01T12:34:56Z"));
    check("yy-MM-dd", "24-05-01", Some("2024-05-01T00:00:00Z"));
    check("dd MMM yyyy", "01 may 2024", Some("2024-05-01T00:00:00Z"));
    check("MMMM d, yyyy", "December 24, 2024", Some("2024-12-24T00:00:00Z"));
    check("yyyy-MM-dd hh:mm a", "2024-05-01 12:05 AM", Some("2024-05-01T00:05:00Z"));
    check("yyyy-MM-dd hh:mm a", "2024-05-01 01:05 pm", Some("2024-05-01T13:05:00Z"));
    check("yyyy-MM-dd'T'HH:mm:ssXXX", "2024-05-01T12:00:00+02:00", Some("2024-05-01T10:00:00Z"));
    check("yyyy-MM-dd'T'HH:mm:ssXXX", "2024-05-01T12:00:00Z", Some("2024-05-01T12:00:00Z"));
    check("yyyy-MM-dd'T'HH:mm:ssZ", "2024-05-01T12:00:00-0130", Some("2024-05-01T13:30:00Z"));
    check("yyyy-MM-dd'T'HH:mm:ssX", "2024-05-01T12:00:00+02", Some("2024-05-01T10:00:00Z"));
    check("yyyy-DDD", "2024-060", Some("2024-02-29T00:00:00Z"));
    check("yyyy-DDD", "2023-366", None);
    check("yyyy''MM", "2024'05", Some("2024-05-01T00:00:00Z"));
    check("kk:mm", "24:30", Some("1970-01-01T00:30:00Z"));
}

#[test]
fn patterns_that_are_not_understood_are_refused_at_the_start() {
    for pattern in ["GGGG", "yyyyy", "EEE", "hh:mm", "yyyy [MM", "yyyy 'x", "w", "yyyy}", "VV"] {
        let column = Column {
            format: TimeFormat::Pattern(pattern.to_string()),
            ..column("t", DataType::Date32)
        };
        assert!(TimeReader::new(&column, true, "UTC").is_err(), "{pattern}");
    }
    let with_offset = Column {
        format: TimeFormat::Pattern("HH:mm XXX".to_string()),
        ..column("t", DataType::Date32)
    };
    assert!(TimeReader::new(&with_offset, false, "UTC").is_err());
    assert!(TimeReader::new(&column("t", timestamp()), true, "Mars/Olympus").is_err());
}
