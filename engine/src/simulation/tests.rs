//! Thousands of histories, and the proof that they would show a bug.
//!
//! `tests/simulate` runs as many as asked for, and replays one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::history::{Told, WIDE, play};
use crate::seeded::{self, Bug};

/// Seeds that once failed: kept for ever.
const FAILED_ONCE: &[u64] = &[
    153, 2_553, 4_628, 9_223, 46_892, 64_860, 65_473, 73_938, 84_298, 97_308, 148_375, 201_573,
    1_048_791, 1_049_965, 1_063_106, 1_071_567,
];

/// Histories of an ordinary run.
const SEEDS: u64 = 2_400;
/// Histories within which every seeded bug must show.
const SEEDS_A_BUG: u64 = 12_000;

/// The seeds on all cores; panics with how to replay the first that failed.
fn all(seeds: impl Iterator<Item = u64> + Send) -> Told {
    let seeds = Mutex::new(seeds);
    let sum = Mutex::new(Told::default());
    let failed = Mutex::new(None);
    let next = || seeds.lock().expect("no holder panics").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    if failed.lock().expect("no holder panics").is_some() {
                        return;
                    }
                    match outcome(seed) {
                        Ok(told) => sum.lock().expect("no holder panics").add(&told),
                        Err(why) => {
                            *failed.lock().expect("no holder panics") = Some((seed, why));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, why)) = failed.into_inner().expect("no holder panics") {
        panic!("seed {seed}: {why}\nreplay it with: tests/simulate --seed {seed}");
    }
    sum.into_inner().expect("no holder panics")
}

/// So many, of both families by turns.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| first + i / 2 + if i % 2 == 0 { 0 } else { WIDE })
}

/// A panic inside a history is a failure of its seed.
fn outcome(seed: u64) -> Result<Told, String> {
    std::panic::catch_unwind(|| play(seed)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

#[test]
fn f47_f48_f49_f50_f51_f53_f54_no_history_loses_or_doubles_a_row() {
    all(FAILED_ONCE.iter().copied());
    let told = all(seeds(0, SEEDS));
    eprintln!("{SEEDS} histories: {told:?}");
    let enough = [told.kills, told.power_cuts, told.zombies, told.rotten, told.logs];
    assert!(enough.iter().all(|&count| count > SEEDS / 20), "the seeds try too little: {told:?}");
}

#[test]
#[ignore = "tests/simulate runs it with the number of seeds that it is asked for"]
fn many_histories() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("PELTON_SEED") {
        Some(seed) => {
            super::TOLD.store(true, Ordering::Relaxed);
            let told = play(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            eprintln!("seed {seed}: {told:?}");
        }
        None => {
            let (first, seeds) = (number("PELTON_FIRST").unwrap_or(0), number("PELTON_SEEDS"));
            let seeds = seeds.expect("PELTON_SEEDS says how many");
            let done = Arc::new(AtomicU64::new(0));
            let counted = self::seeds(first, seeds).inspect(|_| {
                let done = done.fetch_add(1, Ordering::Relaxed);
                if done % 10_000 == 9_999 {
                    eprintln!("{} histories", done + 1);
                }
            });
            let told = all(counted);
            eprintln!(
                "{seeds} histories, those of both families from {first} on, none failed: {told:?}"
            );
        }
    }
}

/// The first seed from this one on that shows a bug.
fn caught(bug: Bug, first: u64) -> Option<(u64, String)> {
    seeded::turn_on(Some(bug));
    let shown = (first..first + SEEDS_A_BUG).find_map(|seed| Some((seed, outcome(seed).err()?)));
    seeded::turn_on(None);
    shown
}

macro_rules! each_bug_is_caught {
    ($first:expr; $($name:ident: $bug:ident,)*) => {$(
        #[test]
        fn $name() {
            let Some((seed, why)) = caught(Bug::$bug, $first) else {
                panic!("{SEEDS_A_BUG} histories do not show {:?}", Bug::$bug);
            };
            eprintln!("{:?}: seed {seed}: {why}", Bug::$bug);
        }
    )*};
}

each_bug_is_caught! {
    WIDE;
    seeded_bug_offsets_of_the_epoch_before: OffsetsBehind,
    seeded_bug_letters_published_before_manifest: LettersBeforeManifest,
    seeded_bug_leftovers_published: LeftoversPublished,
    seeded_bug_watermark_forgotten: WatermarkForgotten,
    seeded_bug_delta_of_an_upper_query_forgotten: UpperDeltaForgotten,
    seeded_bug_slide_taken_for_size: SlideTakenForSize,
    seeded_bug_parts_of_sessions_forgotten: SessionPartsForgotten,
    seeded_bug_seen_keys_forgotten: SeenKeysForgotten,
    seeded_bug_clock_of_another_split: ClockOfAnotherSplit,
    seeded_bug_log_unsynced: LogUnsynced,
    seeded_bug_end_of_the_log_believed: LogEndBelieved,
    seeded_bug_log_trimmed_too_early: LogTrimmedTooEarly,
    seeded_bug_log_not_read_again: LogReplaySkipped,
}

each_bug_is_caught! {
    0;
    seeded_bug_offsets_committed_before_output: OffsetsBeforeOutput,
    seeded_bug_fsync_skipped: FsyncSkipped,
    seeded_bug_directory_fsync_skipped: DirectoryFsyncSkipped,
    seeded_bug_output_before_manifest: OutputBeforeManifest,
    seeded_bug_unknown_taken_as_committed: UnknownTakenAsCommitted,
    seeded_bug_unknown_taken_as_not: UnknownTakenAsNot,
    seeded_bug_fenced_ignored: FencedIgnored,
    seeded_bug_eviction_forgotten: EvictionForgotten,
    seeded_bug_last_delta_forgotten: LastDeltaForgotten,
    seeded_bug_needed_file_collected: NeededCollected,
    seeded_bug_base_covers_too_much: BaseCoversTooMuch,
    seeded_bug_base_over_deltas: BaseOverDeltas,
    seeded_bug_late_rows_uncounted: LateUncounted,
    seeded_bug_hash_ignored: HashIgnored,
}
