//! Equal to arrow-csv where the dialects agree: well-formed rows, LF or CRLF, empty is NULL.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::prelude::*;

use super::*;

fn rows() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        2 => "[a-z é€]{1,20}",
        1 => "\"[a-z,\n é]{1,12}\"",
        1 => "\"([a-z,]|\"\"){1,12}\"",
        1 => Just(String::new()),
    ];
    let double = prop_oneof![
        any::<f64>()
            .prop_filter("arrow-csv has its own NaN", |x| x.is_finite())
            .prop_map(|x| x.to_string()),
        (-999_999i64..999_999, 0usize..5)
            .prop_map(|(n, decimals)| { format!("{:.decimals$}", n as f64 / 100.0) }),
        Just(String::new()),
    ];
    let int = prop_oneof![4 => any::<i32>().prop_map(|n| n.to_string()), 1 => Just(String::new())];
    let time = prop_oneof![
        4 => (0i64..4_000_000_000_000_000).prop_map(|us| {
            jiff::Timestamp::from_microsecond(us).expect("in range").to_string()
        }),
        1 => Just(String::new()),
    ];
    // A row of empty fields alone is kept apart by its last one.
    let row = (text, double, int, time, 0i64..1_000_000);
    let row = row.prop_map(|(t, d, i, ts, last)| format!("{t},{d},{i},{ts},{last}"));
    (prop::collection::vec(row, 1..60), any::<bool>()).prop_map(|(rows, crlf)| {
        let end = if crlf { "\r\n" } else { "\n" };
        rows.iter().map(|row| format!("{row}{end}")).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn well_formed_rows_are_what_arrow_csv_makes_of_them(text in rows()) {
        let types = [
            DataType::Utf8,
            DataType::Float64,
            DataType::Int32,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Int64,
        ];
        let fields = types.iter().enumerate();
        let fields = fields.map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let reader = ::arrow_csv::ReaderBuilder::new(schema).with_batch_size(4096);
        let mut reader = reader.build(text.as_bytes()).expect("the options are sound");
        let expected = reader.next().expect("there is a row").expect("well-formed");

        let columns = types.iter().enumerate().map(|(i, t)| column(&format!("c{i}"), t.clone()));
        let source = source(Format::Csv(CsvDialect::default()), columns.collect());
        let input = all_values(&source);
        for &tier in SimdTier::present() {
            let mut decoder = Decoder::new(&source, "UTC", &input, tier).expect("sound");
            let place = Place::default();
            let decoded =
                decoder.decode(text.as_bytes(), true, &mut Vec::<Interner>::new(), &place, 4096);
            prop_assert_eq!(decoded.batch.row_errors, &[]);
            prop_assert_eq!(decoded.batch.value_errors, &[]);
            prop_assert_eq!(decoded.batch.columns, expected.columns());
        }
    }
}
