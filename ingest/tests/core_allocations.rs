//! A warm core allocates per batch and not per row: file, ring, decoder, filter, window and groups,
//! as a job runs them.
//!
//! An allocator that counts is one for the whole process: hence a test binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pelton_engine::job;
use pelton_engine::plan::choice::Candidate;
use pelton_engine::plan::plan;
use pelton_hardware::Machine;
use pelton_ingest::generate::Suite;
use pelton_ingest::runtime::Ingest;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads while one epoch takes in so many rows of a file.
fn allocations(folder: &std::path::Path, rows: u64) -> usize {
    let path = folder.join(format!("{rows}.csv"));
    let mut text = Vec::new();
    Suite::new("sensors", 1).expect("a suite").write(0, rows, &mut text);
    std::fs::write(&path, text).expect("the folder is ours");
    let job = format!(
        r#"name = "allocations"
[source.sensors]
type = "file"
path = "{}"
format = "csv"
schema = "ts TIMESTAMP, device STRING, region STRING, temperature DOUBLE, humidity DOUBLE, status INT"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "10s" }}
[query]
sql = """SELECT window.start, device, region, count(*) AS n, avg(temperature) AS t, max(humidity) AS h
FROM sensors WHERE status <> 0 GROUP BY window(ts, '1 hour'), device, region"""
mode = "append"
[sink.out]
type = "console"
"#,
        path.display()
    );
    let file = folder.join("job.toml");
    std::fs::write(&file, job).expect("the folder is ours");
    let (job, _) = job::read(&file, &[], &|_| None).expect("a sound job");
    let query = plan(&job).expect("a sound query");
    let plan = Arc::clone(&query.scans[0].plan);
    let machine = Machine::discover();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut ingest = Ingest::start(&job, plan, &machine, None, None, Candidate::default())
        .expect("the file is there");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ingest.signal().status().ended {
        assert!(Instant::now() < deadline, "the file has no end");
        ingest.signal().wait(Some(deadline));
    }
    let taken = ingest.barrier(None).expect("nothing is wrong with it");
    assert_eq!(taken.rows, rows);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_core_allocates_per_batch_and_never_per_row() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (few, many) = (200_000, 1_000_000);
    let warm = allocations(folder.path(), few);
    let all = allocations(folder.path(), many);
    // A batch has about 5,000 rows and each of its columns, buffers and expressions a few headers.
    let most = (many - few) as usize / 50;
    let more = all.saturating_sub(warm);
    assert!(more < most, "{more} allocations for {} rows more", many - few);
}
