//! F27 and F31: what becomes of a job when the kernel, a disk or a thread misbehaves.

use std::fs::File;
use std::io;

use pelton_engine::memory::Ledger;

use super::*;
use crate::ring::plain::Plain;

/// A ring whose third read goes wrong.
struct Faulty {
    inner: Plain,
    reads: u32,
    fault: fn() -> io::Result<usize>,
}

impl Ring for Faulty {
    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn start(&mut self, slot: usize, file: &Arc<File>, offset: u64, len: usize) -> io::Result<()> {
        self.inner.start(slot, file, offset, len)
    }

    fn finish(&mut self, slot: usize) -> io::Result<usize> {
        self.reads += 1;
        if self.reads == 3 {
            (self.fault)()?;
        }
        self.inner.finish(slot)
    }

    fn memory(&mut self, slot: usize) -> &mut [u8] {
        self.inner.memory(slot)
    }

    fn abandon(&mut self) {
        self.inner.abandon();
    }
}

fn faulty(fault: fn() -> io::Result<usize>) -> (Box<dyn Ring>, Option<String>) {
    (Box::new(Faulty { inner: Plain::new(ring::SLOTS), reads: 0, fault }), None)
}

fn numbers() -> (tempfile::TempDir, JobSpec) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let text: String = (0..10_000).map(|i| format!("{i}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let job = file_job(&path, &["a"]);
    (folder, job)
}

#[test]
fn f27_without_io_uring_the_answer_is_the_same() {
    let (_folder, job) = numbers();
    let pause = || Duration::from_millis(1);
    let expected: Vec<String> = (0..10_000).map(|i| i.to_string()).collect();
    for choice in [Choice::Uring, Choice::Unregistered("no memory to lock".into()), plain()] {
        let setup = setup(2, 1_000, choice);
        let taken = run_to_end(&job, &select_all(&job), &setup, pause, false).unwrap();
        assert!(taken.texts() == expected, "{:?}", setup.choice);
    }
}

/// How a job with a faulty ring ends.
fn failure_of(rings: OpenRing) -> Error {
    let (_folder, job) = numbers();
    let setup = Setup { rings, ..setup(2, 1_000, plain()) };
    let mut ingest = Ingest::start_with(&job, select_all(&job), &setup, None).unwrap();
    let told = loop {
        if let Some(error) = ingest.signal().wait(None).failed {
            break error;
        }
    };
    assert_eq!(told.exit_code(), 1);
    let error = ingest.barrier(None).err().expect("nothing of the epoch may be committed");
    assert_eq!(error.to_string(), told.to_string());
    ingest.stop();
    error
}

#[test]
fn f31_a_panic_on_a_core_fails_the_job_and_no_barrier_passes() {
    let error = failure_of(|_| faulty(|| panic!("the third read")));
    assert!(error.to_string().ends_with("panicked: the third read"), "{error}");
}

#[test]
fn f28_an_unreadable_disk_fails_the_job_with_the_place() {
    let error = failure_of(|_| faulty(|| Err(io::Error::from_raw_os_error(libc::EIO))));
    let error = error.to_string();
    assert!(error.contains("t.csv behind byte") && error.contains("Input/output"), "{error}");
}

#[test]
fn f31_a_core_that_stalls_is_told_of_and_waited_for() {
    let (_folder, job) = numbers();
    let mut setup = setup(2, 1_000, plain());
    setup.stalled_after = Duration::from_millis(50);
    setup.rings = |_| {
        faulty(|| {
            std::thread::sleep(Duration::from_millis(500));
            Ok(0)
        })
    };
    let mut ingest = Ingest::start_with(&job, select_all(&job), &setup, None).unwrap();
    // Both cores have met their stall by then, and are in it for some while.
    std::thread::sleep(Duration::from_millis(200));
    let mut taken = Taken::default();
    taken.add(ingest.barrier(None).unwrap());
    assert!(ingest.signal().status().stalls > 0, "the stall was told");
    take_rows(&mut ingest, 10_000, &mut taken);
    assert_eq!(taken.rows.len(), 10_000, "and nothing was lost");
}

#[test]
fn what_the_cores_hold_stands_in_the_ledger_and_too_much_crowds_the_epoch() {
    let (_folder, job) = numbers();
    let setup = setup(2, 1_000, plain());
    let ledger = Ledger::new(1);
    let mut ingest = Ingest::start_with(&job, select_all(&job), &setup, None).unwrap();
    ingest.charge_to(&ledger);
    let mut taken = Taken::default();
    take_rows(&mut ingest, 10_000, &mut taken);
    assert!(ledger.peak() > 0 && taken.rows.len() == 10_000);
    let mut inner = ingest.shared.lock();
    let crowded = |inner: &Inner| inner.status().crowded;
    inner.charge(0, 1, 1);
    assert!(!crowded(&inner), "an epoch without rows has nothing to give");
    let barriers = inner.barriers;
    inner.count(barriers, 1, 1, false);
    inner.charge(0, 1, 1);
    assert!(crowded(&inner));
    drop(inner);
    drop(ingest);
    assert_eq!(ledger.held(), 0, "all was given back");
}
