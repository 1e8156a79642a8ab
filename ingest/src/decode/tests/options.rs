//! Options of columns, heads of files, and the text format, by example.

use super::*;

fn decode(source: &SourceSpec, text: &str) -> String {
    run(source, &all_values(source), SimdTier::detect(), text.as_bytes(), &[], 4096).text()
}

#[test]
fn texts_that_mean_null_are_compared_before_they_are_parsed() {
    let csv = CsvDialect { null: vec!["-999".into(), "NA".into()], ..CsvDialect::default() };
    let schema = vec![
        column("n", DataType::Int32),
        column("x", DataType::Float64),
        Column { null: Some(vec!["?".into()]), ..column("s", DataType::Utf8) },
    ];
    let source = source(Format::Csv(csv), schema);
    let text = "-999,-999,-999\nNA,NA,NA\n1,2,?\n\"-999\",\"-999\",\"?\"\n";
    assert_eq!(decode(&source, text), "-|-|-999\n-|-|NA\n1|2.0|-\n-999|-999.0|?");
}

#[test]
fn an_empty_field_is_null_unless_its_column_says_otherwise() {
    let schema = vec![
        column("a", DataType::Utf8),
        Column { empty_is_null: false, ..column("b", DataType::Utf8) },
        column("n", DataType::Int8),
    ];
    let source = source(Format::Csv(CsvDialect::default()), schema);
    let found = decode(&source, ",,1\n\"\",\"\",\n");
    assert_eq!(found, "-||1\n||-");
}

#[test]
fn trim_is_the_formats_or_the_columns() {
    let schema = vec![
        column("a", DataType::Utf8),
        Column { trim: Some(false), ..column("b", DataType::Utf8) },
        column("n", DataType::Int8),
    ];
    let format = |trim| Format::Csv(CsvDialect { trim, ..CsvDialect::default() });
    let text = " x\t, y ,7\n \" q \" , \" q \" , \"8\" \n";
    assert_eq!(decode(&source(format(true), schema.clone()), text), "x| y |7\n q | q |8");
    let mut untrimmed = schema;
    untrimmed[0].trim = Some(true);
    let text = " x\t, y , 7\n";
    let expected = "x| y |-\nrow 0 column 2 at 8..10: Expected(Int8)";
    assert_eq!(decode(&source(format(false), untrimmed), text), expected);
}

#[test]
fn a_file_head_maps_names_to_fields() {
    let schema = vec![
        column("id", DataType::Int64),
        column("Name", DataType::Utf8),
        column("unused", DataType::Utf8),
    ];
    let csv = CsvDialect {
        header: Header::Match,
        skip_lines: 1,
        comment: Some(b'#'),
        ..CsvDialect::default()
    };
    let source = source(Format::Csv(csv), schema);
    let input = &all_values(&source)[..2];
    let text = "\u{FEFF}made by hand\n\n# a comment\nextra,\"name\",id\r\nx,ann,1\ny,bob,2\n";
    let bytes = text.as_bytes();
    for end in 0..text.find("x,ann").expect("it is there") {
        assert_eq!(file_head(&source, input, &bytes[..end], false), Ok(None), "at {end}");
    }
    let head = file_head(&source, input, bytes, false).expect("sound").expect("whole");
    assert_eq!(&text[head.consumed..], "x,ann,1\ny,bob,2\n");
    assert_eq!(head.newlines, 4);
    let mut decoder = Decoder::new(&source, "UTC", input, SimdTier::detect()).expect("sound");
    decoder.begin(&head.mapping);
    let place = Place::default();
    let rest = &bytes[head.consumed..];
    let decoded = decoder.decode(rest, true, &mut Vec::<Interner>::new(), &place, 10);
    let ids = decoded.batch.columns[0].as_primitive::<arrow::array::types::Int64Type>();
    assert_eq!(ids.values(), &[1, 2]);
    let names = decoded.batch.columns[1].as_string::<i32>();
    assert_eq!((names.value(0), names.value(1)), ("ann", "bob"));
}

#[test]
fn a_header_without_a_column_that_is_read_is_refused() {
    let schema = vec![column("id", DataType::Int64), column("price", DataType::Float64)];
    let csv = CsvDialect { header: Header::Match, ..CsvDialect::default() };
    let source = source(Format::Csv(csv), schema);
    let input = all_values(&source);
    let head = |bytes: &[u8], input| file_head(&source, input, bytes, true).map(|h| h.is_some());
    let error = head(b"id,cost\n1,2\n", &input).expect_err("price is missing");
    let expected = "expected a column \"price\" in the header, found \"id\", \"cost\"";
    assert_eq!(error.to_string(), expected);
    assert_eq!(head(b"id,cost\n1,2\n", &input[..1]), Ok(true));
    let error = head(b"id,ID,Price,PRICE\n", &input).expect_err("price is there twice");
    assert_eq!(error, HeadError::AmbiguousColumn { name: "price".into() });
    let error = head(b"id,\"price\n", &input).expect_err("the quote is not closed");
    assert_eq!(error, HeadError::BrokenHeader { line: 1, reason: Reason::UnclosedQuote });
    assert_eq!(head(b"", &input), Ok(true));
}

#[test]
fn a_header_can_be_passed_over() {
    let csv = CsvDialect { header: Header::Ignore, ..CsvDialect::default() };
    let source = source(Format::Csv(csv), vec![column("id", DataType::Int64)]);
    let head = file_head(&source, &all_values(&source), b"\"a\nb\",c\n1\n", false);
    assert_eq!(head.expect("sound").map(|h| (h.consumed, h.newlines)), Some((8, 2)));
}

#[test]
fn each_line_of_text_is_a_row() {
    let source = source(Format::Text, vec![column("value", DataType::Utf8)]);
    let text = "to be\r\n\n\"or, not\nto be";
    assert_eq!(decode(&source, text), "to be\n\n\"or, not\nto be");
    let mut ids = all_values(&source);
    ids[0].encoding = Encoding::Ids;
    let answer = run(&source, &ids, SimdTier::detect(), text.as_bytes(), &[3, 9], 1);
    assert_eq!(answer.text(), "to be\n\n\"or, not\nto be");
}

#[test]
fn sources_that_make_no_sense_are_refused() {
    let refused = |csv: CsvDialect, column: Column| {
        let source = source(Format::Csv(csv), vec![column]);
        match Decoder::new(&source, "UTC", &all_values(&source), SimdTier::Portable) {
            Err(Error::BadJob { rendered }) => rendered,
            _ => "taken".to_string(),
        }
    };
    let plain = || column("v", DataType::Utf8);
    let delimiter = |delimiter| CsvDialect { delimiter, ..CsvDialect::default() };
    assert_eq!(refused(delimiter(b';'), plain()), "taken");
    assert!(refused(delimiter(b'"'), plain()).contains("different"));
    assert!(refused(delimiter(b'\n'), plain()).contains("line end"));
    let pattern =
        Column { format: TimeFormat::Pattern("QQ".into()), ..super::times::timestamp_column() };
    assert!(refused(delimiter(b','), pattern).starts_with("column \"t\": \"QQ\" is none of"));
    let list = column("l", DataType::Date64);
    assert_eq!(refused(delimiter(b','), list), "column \"l\": the decoder makes no Date64");
}

#[test]
fn any_byte_can_be_the_delimiter() {
    let schema = vec![column("a", DataType::Utf8), column("b", DataType::Utf8)];
    for delimiter in [0, b'\t', b' ', b'|', 0xFE] {
        let csv = CsvDialect { delimiter, ..CsvDialect::default() };
        let source = source(Format::Csv(csv), schema.clone());
        let bytes = [b"x", &[delimiter][..], b"y\n\"", &[delimiter], b"\"", &[delimiter], b"z"];
        let bytes = bytes.concat();
        let (first, second) = (Some(b"x".to_vec()), Some(b"y".to_vec()));
        for &tier in SimdTier::present() {
            let answer = run(&source, &all_values(&source), tier, &bytes, &[], 4096);
            let values: Vec<_> = answer.rows.iter().map(|(_, _, values)| values.clone()).collect();
            assert_eq!(values[0], [first.clone(), second.clone()], "{tier:?} {delimiter}");
            // A byte that is no UTF-8 is no value of a string.
            let quoted = delimiter.is_ascii().then(|| vec![delimiter]);
            assert_eq!(values[1], [quoted, Some(b"z".to_vec())], "{tier:?} {delimiter}");
            // The last row has one field, whatever follows the input in a vector.
            let short = run(&source, &all_values(&source), tier, b"z", &[], 4096);
            assert_eq!(short.text(), "0..1: FieldCount { expected: 2, found: 1 }", "{tier:?}");
        }
    }
}
