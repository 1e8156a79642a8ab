//! Once warm, the decoder allocates per batch and not per row.
//!
//! An allocator that counts is one for the whole process: hence a test binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use arrow::datatypes::{DataType, TimeUnit};
use pelton_engine::batch::{Encoding, InputColumn, Place};
use pelton_engine::job::spec::{
    Column, CsvDialect, Format, OnError, SourceKind, SourceSpec, TimeFormat,
};
use pelton_ingest::decode::{Decoder, SimdTier};
use pelton_kernels::interner::Interner;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn source() -> SourceSpec {
    let column = |name: &str, data_type| Column {
        name: name.to_string(),
        data_type,
        format: TimeFormat::Iso,
        timezone: None,
        null: None,
        trim: None,
        empty_is_null: true,
        truncate: false,
    };
    let zone = Some("UTC".into());
    SourceSpec {
        name: "test".to_string(),
        kind: SourceKind::Stdin,
        format: Format::Csv(CsvDialect::default()),
        schema: vec![
            column("ts", DataType::Timestamp(TimeUnit::Microsecond, zone)),
            column("device", DataType::Utf8),
            column("region", DataType::Utf8),
            column("temperature", DataType::Float64),
            column("price", DataType::Decimal128(18, 4)),
            column("ok", DataType::Boolean),
            column("status", DataType::Int32),
        ],
        watermark: None,
        dedup: None,
        on_error: OnError::DeadLetter,
        max_error_ratio: None,
        max_record_bytes: 1 << 20,
    }
}

/// Plain rows, and one for each kind of field that needs more than the quick reading.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..40_000 {
        let line = match row % 4 {
            0 => "2024-05-01T12:00:00Z,device-01,eu-west,20.5,1.2345,true,7\n",
            1 => "2024-05-01 12:00:00.5,\"dev \"\"02\"\"\",\"é\n\"\"€\"\"\",-1e1,12.5,no,\"3\"\r\n",
            2 => "2024-05-01T12:00:00+02:00,device-with-a-long-name,,,,,\n",
            _ => ",a,b,NaN,-7,1,2147483647\n",
        };
        text.extend_from_slice(line.as_bytes());
    }
    text
}

#[test]
fn a_warm_decoder_allocates_a_few_headers_a_batch() {
    let source = source();
    let input: Vec<InputColumn> = (0..source.schema.len())
        .map(|i| InputColumn {
            source: i,
            encoding: if i == 1 { Encoding::Ids } else { Encoding::Values },
            in_filter: false,
        })
        .collect();
    let text = text();
    let place = Place::default();
    for &tier in SimdTier::present() {
        let mut decoder = Decoder::new(&source, "UTC", &input, tier).expect("the source is sound");
        let mut interners: Vec<Interner> = input.iter().map(|_| Interner::new()).collect();
        let mut read = |max_rows| {
            let before = ALLOCATIONS.get();
            let (mut at, mut batches, mut rows) = (0, 0, 0);
            while at < text.len() {
                let decoded = decoder.decode(&text[at..], true, &mut interners, &place, max_rows);
                assert_eq!(decoded.batch.value_errors, &[]);
                at += decoded.consumed;
                rows += decoded.batch.rows;
                batches += 1;
            }
            assert_eq!(rows, 40_000);
            (ALLOCATIONS.get() - before, batches)
        };
        read(4096);
        let (allocations, batches) = read(4096);
        let per_batch = allocations / batches;
        // A header for each buffer and array: up to five a column.
        assert!(per_batch <= 5 * input.len(), "{tier:?}: {per_batch} allocations a batch");
        assert!(batches < 40, "{batches} batches");
    }
}
