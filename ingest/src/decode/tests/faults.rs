//! The input faults of RELIABILITY.md, each by its number (F06 is in `values`).

use super::times::timestamp;
use super::*;

fn three_columns(format: Format) -> SourceSpec {
    let schema = vec![
        column("name", DataType::Utf8),
        column("n", DataType::Int32),
        column("x", DataType::Float64),
    ];
    source(format, schema)
}

fn csv() -> Format {
    Format::Csv(CsvDialect::default())
}

fn decode(source: &SourceSpec, bytes: &[u8]) -> String {
    let mut answers = SimdTier::present().iter().map(|&tier| {
        let answer = run(source, &all_values(source), tier, bytes, &[], 4096).text();
        (tier, answer)
    });
    let (_, first) = answers.next().expect("the portable tier is always there");
    for (tier, answer) in answers {
        assert_eq!(answer, first, "{tier:?}");
    }
    first
}

#[test]
fn f01_quote_crlf_or_utf8_across_a_buffer_edge() {
    let source = three_columns(csv());
    let text =
        "\"a \"\"quoted\"\"\r\nname\",1,2.5\r\nélan €,-2,\"-0.5\"\r\n,,\r\n\"\",3,NaN\r\nlast,4,5";
    let bytes = text.as_bytes();
    let expected = "a \"quoted\"\r\nname|1|2.5\nélan €|-2|-0.5\n-|-|-\n|3|NaN\nlast|4|5.0";
    assert_eq!(decode(&source, bytes), expected);
    let input = all_values(&source);
    for &tier in SimdTier::present() {
        let whole = run(&source, &input, tier, bytes, &[], 4096);
        for cut in 0..=bytes.len() {
            assert_eq!(run(&source, &input, tier, bytes, &[cut], 4096), whole, "cut at {cut}");
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(run(&source, &input, tier, bytes, &every, 4096), whole, "cut everywhere");
    }
}

#[test]
fn f01_the_same_edges_at_the_end_of_a_window_and_of_a_vector() {
    let source = three_columns(csv());
    let input = all_values(&source);
    let row = "\"é,\"\"\r\n\",1,2.5\r\n";
    for shift in 0..64 {
        // The window of 256 KiB ends somewhere inside a row, the vectors of 64 bytes everywhere.
        let filler = format!("{},1,1\n", "y".repeat(shift));
        let rows = (300 << 10) / row.len();
        let text = filler + &row.repeat(rows);
        let answer = run(&source, &input, SimdTier::detect(), text.as_bytes(), &[], 1 << 20);
        assert_eq!(answer.rows.len(), rows + 1);
        assert!(answer.row_errors.is_empty() && answer.value_errors.is_empty());
        let expected = vec![Some("é,\"\r\n".into()), Some(b"1".to_vec()), Some(b"2.5".to_vec())];
        assert!(answer.rows[1..].iter().all(|(_, _, values)| *values == expected));
    }
}

#[test]
fn f02_an_unclosed_quote_costs_its_line_and_the_rest_is_read_on() {
    let source = three_columns(csv());
    let text = b"a,1,1\nb,\"2,2\nc,3,3\nd,4,4\n";
    let expected = "a|1|1.0\nc|3|3.0\nd|4|4.0\n6..12: UnclosedQuote";
    assert_eq!(decode(&source, text), expected);
    // The quote of another field ends it: text follows that quote.
    let text = b"a,1,1\n\"b,2,2\nc,3,3\n\"d\",4,4\n";
    let expected = "a|1|1.0\nc|3|3.0\nd|4|4.0\n6..12: TextAfterQuote";
    assert_eq!(decode(&source, text), expected);
}

#[test]
fn f02_an_unclosed_quote_ends_at_the_limit_of_a_record() {
    let mut source = three_columns(csv());
    source.max_record_bytes = 1000;
    let good = "c,3,3\n".repeat(100_000);
    let text = format!("a,1,1\nb,\"2,2\n{good}");
    let answer = run(&source, &all_values(&source), SimdTier::detect(), text.as_bytes(), &[], 4096);
    assert_eq!(answer.row_errors, [(6, 12, Reason::TooLong { limit: 1000 })]);
    assert_eq!(answer.rows.len(), 100_001);
}

#[test]
fn f03_a_field_without_end_is_passed_over_in_bounded_memory() {
    let mut source = three_columns(csv());
    source.max_record_bytes = 1 << 20;
    let input = all_values(&source);
    let mut decoder = Decoder::new(&source, "UTC", &input, SimdTier::detect()).expect("sound");
    let mut interners: Vec<Interner> = Vec::new();
    let place = Place::default();
    // 1 GiB of one field, then a good row, through a buffer that grows as the contract says.
    let mut left = 1usize << 30;
    let mut buffer: Vec<u8> = b"a,1,1\nb,".to_vec();
    let mut errors = Vec::new();
    let mut rows = 0;
    let mut at_end = false;
    loop {
        let decoded = decoder.decode(&buffer, at_end, &mut interners, &place, 4096);
        rows += decoded.batch.rows;
        errors.extend(decoded.batch.row_errors.iter().map(|e| (e.end - e.start, e.reason.clone())));
        let (consumed, need_more) = (decoded.consumed, decoded.need_more);
        buffer.drain(..consumed);
        if !need_more {
            continue;
        }
        if at_end {
            break;
        }
        let more = left.min(buffer.len().max(64 << 10));
        buffer.resize(buffer.len() + more, b'x');
        left -= more;
        assert!(buffer.len() <= 4 << 20, "the buffer has {} bytes", buffer.len());
        if left == 0 {
            buffer.extend_from_slice(b",2,2\nc,3,3\n");
            at_end = true;
        }
    }
    assert_eq!(rows, 2);
    assert_eq!(errors, [(1 << 20, Reason::TooLong { limit: 1 << 20 })]);
}

#[test]
fn f03_no_more_bytes_are_asked_for_than_the_longest_record_has() {
    let mut source = three_columns(csv());
    source.max_record_bytes = 1000;
    let input = all_values(&source);
    let mut decoder = Decoder::new(&source, "UTC", &input, SimdTier::detect()).expect("sound");
    let place = Place::default();
    let mut read = |bytes: &[u8]| {
        let decoded = decoder.decode(bytes, false, &mut Vec::<Interner>::new(), &place, 4096);
        (decoded.consumed, decoded.batch.row_errors.len(), decoded.need_more)
    };
    let text = format!("a,1,1\n{}", "x".repeat(1001));
    assert_eq!(read(&text.as_bytes()[..1006]), (6, 0, true));
    assert_eq!(read(text.as_bytes()), (6, 0, false));
    assert_eq!(read(&text.as_bytes()[6..]), (1001, 1, true));
}

#[test]
fn f03_a_record_of_the_limit_is_read_and_one_byte_more_is_refused() {
    let mut source = three_columns(csv());
    source.max_record_bytes = 1 << 20;
    let field = |length: usize| "x".repeat(length - ",1,1".len());
    let text = format!("{},1,1\n\"{}\",2,2\nc,3,3\n", field(1 << 20), field(1 << 20));
    let answer = decode(&source, text.as_bytes());
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].len(), 1 << 20 | 2); // "1" prints as "1.0"
    assert_eq!(lines[1], "c|3|3.0");
    assert_eq!(lines[2], "1048577..2097153: TooLong { limit: 1048576 }");
}

#[test]
fn f03_a_row_of_a_million_fields_is_counted() {
    let source = three_columns(csv());
    let text = format!("a,1,1\n{}\nb,2,2\n", ",".repeat(999_999));
    let expected = "a|1|1.0\nb|2|2.0\n6..1000005: FieldCount { expected: 3, found: 1000000 }";
    assert_eq!(decode(&source, text.as_bytes()), expected);
    let mut accepting = source;
    let more = CsvDialect { more: Ragged::Accept, ..CsvDialect::default() };
    accepting.format = Format::Csv(more);
    assert_eq!(decode(&accepting, text.as_bytes()), "a|1|1.0\n-|-|-\nb|2|2.0");
}

#[test]
fn f04_nul_is_data_and_bad_utf8_is_refused_only_where_it_is_read() {
    let source = three_columns(csv());
    let text = b"a\0b,1,1\n\xFF\xFEx,2,2\n\xC3,3,3\n\xA9,4,4\n";
    let expected = "a\0b|1|1.0\n-|2|2.0\n-|3|3.0\n-|4|4.0\n\
        row 1 column 0 at 8..11: InvalidUtf8\n\
        row 2 column 0 at 16..17: InvalidUtf8\n\
        row 3 column 0 at 22..23: InvalidUtf8";
    assert_eq!(decode(&source, text), expected);
    let numbers = &all_values(&source)[1..];
    let answer = run(&source, numbers, SimdTier::detect(), text, &[], 4096);
    assert_eq!(answer.text(), "1|1.0\n2|2.0\n3|3.0\n4|4.0");
    let mut binary = source;
    binary.schema[0].data_type = DataType::Binary;
    let answer = run(&binary, &all_values(&binary), SimdTier::detect(), text, &[], 4096);
    assert_eq!(answer.rows[1].2[0].as_deref(), Some(b"\xFF\xFEx".as_slice()));
    assert!(answer.value_errors.is_empty());
}

#[test]
fn f04_a_mark_is_one_only_at_the_start_and_utf16_is_named() {
    let source = three_columns(csv());
    let input = all_values(&source);
    let head = |bytes: &[u8], at_end| file_head(&source, &input, bytes, at_end);
    let consumed = |bytes, at_end| head(bytes, at_end).map(|head| head.map(|h| h.consumed));
    assert_eq!(consumed(b"\xEF\xBB\xBFa,1,1\n", false), Ok(Some(3)));
    assert_eq!(consumed(b"a,1,1\n", false), Ok(Some(0)));
    assert_eq!(consumed(b"\xEF\xBB", false), Ok(None));
    assert_eq!(consumed(b"\xEF\xBB", true), Ok(Some(0)));
    assert_eq!(consumed(b"", true), Ok(Some(0)));
    assert_eq!(head(b"\xFF\xFEa\0", false), Err(HeadError::Utf16));
    let text = "a,1,1\n\u{FEFF}b,2,2\n";
    assert_eq!(decode(&source, text.as_bytes()), "a|1|1.0\n\u{FEFF}b|2|2.0");
}

#[test]
fn f05_ragged_rows_are_refused_or_filled_and_empty_input_has_no_rows() {
    let source = three_columns(csv());
    let text = b"a,1,1\nb,2\n\nc,3,3,3\nd,4,4\n,\n";
    let expected = "a|1|1.0\nd|4|4.0\n6..9: FieldCount { expected: 3, found: 2 }\n\
        11..18: FieldCount { expected: 3, found: 4 }\n\
        25..26: FieldCount { expected: 3, found: 2 }";
    assert_eq!(decode(&source, text), expected);
    let accepting = three_columns(Format::Csv(CsvDialect {
        fewer: Ragged::Accept,
        more: Ragged::Accept,
        ..CsvDialect::default()
    }));
    let expected = "a|1|1.0\nb|2|-\nc|3|3.0\nd|4|4.0\n-|-|-";
    assert_eq!(decode(&accepting, text), expected);
    for empty in [&b""[..], b"\n", b"\r\n\r\n", b"\r"] {
        assert_eq!(decode(&source, empty), "", "{empty:?}");
    }
}

#[test]
fn f07_offsets_stay_small_in_an_input_beyond_four_gib() {
    // Zero pages that are never touched: the input is 5 GiB, of which the first rows are read.
    let mut bytes = vec![0u8; 5 << 30];
    bytes[..12].copy_from_slice(b"a,1,1\nb,2,2\n");
    let mut source = three_columns(csv());
    source.max_record_bytes = 1 << 20;
    let input = all_values(&source);
    let mut decoder = Decoder::new(&source, "UTC", &input, SimdTier::detect()).expect("sound");
    let mut interners: Vec<Interner> = Vec::new();
    let place = Place::default();
    let first = decoder.decode(&bytes, true, &mut interners, &place, 4096);
    assert_eq!((first.batch.rows, first.consumed), (2, 12));
    let rest = decoder.decode(&bytes[12..], true, &mut interners, &place, 4096);
    assert_eq!(rest.batch.rows, 0);
    assert_eq!(rest.batch.row_errors[0].reason, Reason::TooLong { limit: 1 << 20 });
    assert!(rest.consumed <= 2 << 20, "{} bytes were looked at", rest.consumed);
    assert!(!rest.need_more);
}

#[test]
fn f07_a_limit_that_offsets_cannot_hold_is_refused() {
    for bytes in [0, (1 << 30) + 1, usize::MAX] {
        let mut source = three_columns(csv());
        source.max_record_bytes = bytes;
        let decoder = Decoder::new(&source, "UTC", &all_values(&source), SimdTier::Portable);
        assert!(matches!(decoder, Err(Error::BadJob { .. })), "{bytes}");
    }
}

#[test]
fn bad_values_are_told_with_their_place_and_what_was_expected() {
    let mut source = three_columns(csv());
    source.schema[1].data_type = timestamp();
    source.schema[1].format = TimeFormat::EpochMillis;
    let text = b"a,1,1\nb,x,\"y\"\nc,,\n\"d\",\"\",-\n";
    let found = decode(&source, text);
    let expected = "a|1970-01-01T00:00:00.001Z|1.0\nb|-|-\nc|-|-\nd|-|-\n\
        row 1 column 1 at 8..9: ExpectedFormat(\"epoch_ms\")\n\
        row 1 column 2 at 10..13: Expected(Float64)\n\
        row 3 column 1 at 22..24: ExpectedFormat(\"epoch_ms\")\n\
        row 3 column 2 at 25..26: Expected(Float64)";
    assert_eq!(found, expected);
}
