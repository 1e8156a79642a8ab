//! State that the watermark bounds: sessions and deduplication over many rows at a constant size.
//! The long form, over 10^8 rows, is `pelton bench events --rows 100000000`; its record is kept in
//! `bench/records`.

use pelton_bench::events::bounded::{Bounded, Held, measure};
use pelton_tests::program::{Job, binary};

/// The generator makes a row a millisecond, so this is ten minutes of events.
const ROWS: u64 = 600_000;

fn run(held: Held) -> Bounded {
    let job = Job::new("");
    measure(&binary(), job.dir(), held, ROWS, 1).expect("every row is counted")
}

#[test]
fn sessions_are_held_until_the_watermark_passed_them_and_no_longer() {
    let found = run(Held::Sessions);
    // A thousand devices, each with some open sessions within the delay and an epoch's rows.
    assert!(found.groups_max < 200_000, "{found:?}");
    assert!(found.rss_by_quarter.iter().all(|bytes| *bytes < 1 << 30), "{found:?}");
}

#[test]
fn keys_of_deduplication_are_held_until_the_watermark_passed_them_and_no_longer() {
    let found = run(Held::Keys);
    assert!(found.groups_max < 200_000, "{found:?}");
    assert!(found.rss_by_quarter.iter().all(|bytes| *bytes < 1 << 30), "{found:?}");
}
