//! The dialect against the oracle: any bytes, any chunking, any tier.

use proptest::prelude::*;

use super::oracle::{self, Field, Line};
use super::*;

/// What the oracle's lines mean for columns of bytes.
fn expected(bytes: &[u8], csv: &CsvDialect, source: &SourceSpec) -> Answer {
    let fields = source.schema.len();
    let mut answer = Answer::default();
    for line in oracle::read(bytes, csv, fields, source.max_record_bytes) {
        match line {
            Line::Refused { start, end, reason } => answer.row_errors.push((start, end, reason)),
            Line::Row { start, end, fields: row } => {
                let columns = source.schema.iter().enumerate();
                let values = columns.map(|(i, column)| value_of(row.get(i)?, csv, column));
                answer.rows.push((start, end, values.collect()));
            }
        }
    }
    answer.newlines = bytes.iter().filter(|&&b| b == b'\n').count() as u64;
    answer
}

fn value_of(field: &Field, csv: &CsvDialect, column: &Column) -> Option<Vec<u8>> {
    if field.quoted {
        return Some(field.text.clone());
    }
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let mut text = field.text.as_slice();
    if csv.trim {
        let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
        text = &text[start..];
        let end = text.iter().rposition(|b| !blank(b)).map_or(0, |last| last + 1);
        text = &text[..end];
    }
    let is_null_text = csv.null.iter().any(|null| null.as_bytes() == text);
    let null = is_null_text || (text.is_empty() && column.empty_is_null);
    (!null).then(|| text.to_vec())
}

/// Bytes that mean something, often; others, seldom; separators often enough for whole rows.
fn csv_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b",".to_vec()),
        3 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        3 => Just(b"\"".to_vec()),
        1 => Just(b"\"\"".to_vec()),
        2 => Just(b"\"a\"".to_vec()),
        2 => Just(b"x".to_vec()),
        1 => Just(b"\"b,\n\"\"c\"".to_vec()),
        1 => Just(b",\"d\"\n".to_vec()),
        1 => Just(b"\\".to_vec()),
        1 => Just(b"\\\"".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(b"\t".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"#".to_vec()),
        1 => Just(b"NULL".to_vec()),
        1 => Just(b"\0".to_vec()),
        1 => Just("é€".as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..6),
        1 => prop::collection::vec(Just(b'y'), 1..90),
    ];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

/// Rows that are whole, all with the same number of fields: the quick readings.
fn tidy_bytes(fields: usize) -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        3 => "[a-z0-9 ]{0,12}",
        1 => "\"[a-z,\r\n]{0,9}\"",
        1 => "\"([a-z,\n]|\"\"){0,9}\"",
        1 => Just(String::new()),
    ];
    let row = (prop::collection::vec(field, fields), any::<bool>());
    prop::collection::vec(row, 0..40).prop_map(|rows| {
        let line =
            |(fields, cr): (Vec<String>, bool)| fields.join(",") + ["\n", "\r\n"][cr as usize];
        rows.into_iter().map(line).collect::<String>().into_bytes()
    })
}

fn dialect() -> impl Strategy<Value = CsvDialect> {
    let ragged = || prop_oneof![Just(Ragged::Reject), Just(Ragged::Accept)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let quote = prop_oneof![4 => Just(Some(b'"')), 1 => Just(None)];
    (quote, flags, ragged(), ragged()).prop_map(|(quote, flags, fewer, more)| CsvDialect {
        quote,
        escape: if flags.0 { Escape::Backslash } else { Escape::Doubled },
        comment: flags.1.then_some(b'#'),
        null: if flags.2 { vec!["NULL".to_string()] } else { Vec::new() },
        trim: flags.3,
        fewer,
        more,
        ..CsvDialect::default()
    })
}

fn bytes_source(csv: &CsvDialect, fields: usize, empty_is_null: bool) -> SourceSpec {
    let column = |i| Column { empty_is_null, ..column(&format!("c{i}"), DataType::Binary) };
    source(Format::Csv(csv.clone()), (0..fields).map(column).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_bytes_in_any_chunks_read_as_the_oracle_reads_them(
        bytes in csv_bytes(),
        csv in dialect(),
        fields in 1usize..4,
        empty_is_null in any::<bool>(),
        cuts in prop::collection::vec(0usize..600, 0..6),
        max_rows in prop_oneof![Just(1usize), Just(3), Just(4096)],
        limit in prop_oneof![2 => Just(1usize << 20), 1 => 1usize..200],
        ids in any::<bool>(),
    ) {
        let mut source = bytes_source(&csv, fields, empty_is_null);
        source.max_record_bytes = limit;
        let expected = expected(&bytes, &csv, &source);
        let mut input = all_values(&source);
        if ids {
            input.iter_mut().for_each(|column| column.encoding = Encoding::Ids);
        }
        for &tier in SimdTier::present() {
            let found = run(&source, &input, tier, &bytes, &cuts, max_rows);
            prop_assert_eq!(&found, &expected, "{:?}", tier);
        }
    }

    #[test]
    fn tidy_rows_read_as_the_oracle_reads_them(
        (fields, bytes) in (1usize..5).prop_flat_map(|n| (Just(n), tidy_bytes(n))),
        ragged in any::<bool>(),
        cuts in prop::collection::vec(0usize..900, 0..4),
        max_rows in prop_oneof![Just(2usize), Just(4096)],
    ) {
        let csv = CsvDialect::default();
        let schema = if ragged { fields % 4 + 1 } else { fields };
        let source = bytes_source(&csv, schema, true);
        let expected = expected(&bytes, &csv, &source);
        for &tier in SimdTier::present() {
            let found = run(&source, &all_values(&source), tier, &bytes, &cuts, max_rows);
            prop_assert_eq!(&found, &expected, "{:?}", tier);
        }
    }
}

#[test]
fn quotes_at_odd_places_are_seen_at_every_place_of_a_vector() {
    let csv = CsvDialect::default();
    let source = bytes_source(&csv, 2, true);
    let snippets = [
        "\"z\",1\n",
        "\"z,1\"\n",
        ",\"a\"z\nb,2\n",
        ",\"a\"\r\nb,2\n",
        ",\"a\"\rb,2\n",
        ",\"a\"\"b\"\nc,3\n",
    ];
    for snippet in snippets {
        for shift in 0..140 {
            let text = format!("{}{snippet}d,\"4\"\n", "y".repeat(shift));
            let expected = expected(text.as_bytes(), &csv, &source);
            for &tier in SimdTier::present() {
                let found = run(&source, &all_values(&source), tier, text.as_bytes(), &[], 4096);
                assert_eq!(found, expected, "{tier:?}: {text:?}");
            }
        }
    }
}
