//! Question: how many bytes a second does one core turn from CSV into the five columns of the sensors
//! query, on each tier of vector instructions that it has, and how many with the index alone?
//!
//! Checked first: the sums of what was decoded are those of a naive reading of the same bytes.

use arrow::array::AsArray;
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, TimeUnit, TimestampMicrosecondType, UInt32Type,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_engine::batch::{Encoding, InputColumn, Place};
use pelton_engine::job::spec::{
    Column, CsvDialect, Format, OnError, SourceKind, SourceSpec, TimeFormat,
};
use pelton_ingest::decode::{Decoder, SimdTier};
use pelton_ingest::generate;
use pelton_kernels::interner::Interner;

/// About 2 MiB: an L2 cache, and eight batches.
const ROWS: u64 = 40_000;
const ROWS_A_BATCH: usize = 8_192;

/// What a reading adds up to; exact, as the doubles are hundredths far below 2^53.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    rows: u64,
    ts_us: i64,
    device_bytes: u64,
    temperature: i64,
    humidity: i64,
    status: i64,
}

fn hundredths(value: f64) -> i64 {
    (value * 100.0).round() as i64
}

fn naive(text: &str) -> Sums {
    let mut sums = Sums::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        sums.rows += 1;
        sums.ts_us += fields[0].parse::<i64>().expect("milliseconds") * 1000;
        sums.device_bytes += fields[1].len() as u64;
        sums.temperature += hundredths(fields[3].parse().expect("a double"));
        sums.humidity += hundredths(fields[4].parse().expect("a double"));
        sums.status += fields[5].parse::<i64>().expect("an integer");
    }
    sums
}

fn source() -> SourceSpec {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column = |name: &str, data_type| Column {
        name: name.into(),
        data_type,
        format: TimeFormat::EpochMillis,
        timezone: None,
        null: None,
        trim: None,
        empty_is_null: true,
        truncate: false,
    };
    SourceSpec {
        name: "sensors".into(),
        kind: SourceKind::Stdin,
        format: Format::Csv(CsvDialect::default()),
        schema: vec![
            column("ts", timestamp),
            column("device", DataType::Utf8),
            column("region", DataType::Utf8),
            column("temperature", DataType::Float64),
            column("humidity", DataType::Float64),
            column("status", DataType::Int32),
        ],
        watermark: None,
        dedup: None,
        on_error: OnError::DeadLetter,
        max_error_ratio: None,
        max_record_bytes: 16 << 20,
    }
}

/// The decoder and what it needs from call to call.
struct Reader {
    decoder: Decoder,
    interners: Vec<Interner>,
    place: Place,
}

impl Reader {
    fn new(input: &[InputColumn], tier: SimdTier) -> Reader {
        let decoder = Decoder::new(&source(), "UTC", input, tier).expect("a valid source");
        let interners = input.iter().map(|_| Interner::new()).collect();
        Reader { decoder, interners, place: Place::default() }
    }

    /// Reads all of `bytes`; `see` gets each batch's columns, and the interners.
    fn read(&mut self, bytes: &[u8], mut see: impl FnMut(&[arrow::array::ArrayRef])) -> usize {
        let (mut at, mut rows) = (0, 0);
        while at < bytes.len() {
            let Reader { decoder, interners, place } = self;
            let decoded = decoder.decode(&bytes[at..], true, interners, place, ROWS_A_BATCH);
            assert!(decoded.batch.value_errors.is_empty() && decoded.batch.row_errors.is_empty());
            assert!(decoded.consumed > 0, "each call reads something");
            see(decoded.batch.columns);
            rows += decoded.batch.rows;
            at += decoded.consumed;
        }
        rows
    }
}

fn check(reader: &mut Reader, text: &[u8], expected: &Sums) {
    let mut sums = Sums::default();
    let mut ids = Vec::new();
    let rows = reader.read(text, |columns| {
        let doubles = |at: usize| columns[at].as_primitive::<Float64Type>().values().iter();
        let ts = columns[0].as_primitive::<TimestampMicrosecondType>();
        sums.ts_us += ts.values().iter().sum::<i64>();
        ids.extend_from_slice(columns[1].as_primitive::<UInt32Type>().values());
        sums.temperature += doubles(2).map(|&value| hundredths(value)).sum::<i64>();
        sums.humidity += doubles(3).map(|&value| hundredths(value)).sum::<i64>();
        let status = columns[4].as_primitive::<Int32Type>();
        sums.status += status.values().iter().map(|&value| i64::from(value)).sum::<i64>();
    });
    sums.rows = rows as u64;
    sums.device_bytes = ids.iter().map(|&id| reader.interners[1].value(id).len() as u64).sum();
    assert_eq!(&sums, expected);
}

fn decode(criterion: &mut Criterion) {
    let mut text = Vec::new();
    generate::Suite::new("sensors", 1).expect("a suite").write(0, ROWS, &mut text);
    let expected = naive(std::str::from_utf8(&text).expect("the suite writes text"));
    let wanted = |source: usize| InputColumn {
        source,
        encoding: if source == 1 { Encoding::Ids } else { Encoding::Values },
        in_filter: source == 5,
    };
    let five: Vec<InputColumn> = [0, 1, 3, 4, 5].map(wanted).to_vec();

    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for &tier in SimdTier::present() {
        let mut reader = Reader::new(&five, tier);
        check(&mut reader, &text, &expected);
        group.bench_function(BenchmarkId::new("five columns", format!("{tier:?}")), |bencher| {
            bencher.iter(|| reader.read(&text, |columns| _ = std::hint::black_box(columns)));
        });

        let mut index = Reader::new(&[], tier);
        assert_eq!(index.read(&text, |_| ()) as u64, expected.rows);
        group.bench_function(BenchmarkId::new("index alone", format!("{tier:?}")), |bencher| {
            bencher.iter(|| std::hint::black_box(index.read(&text, |_| ())));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
