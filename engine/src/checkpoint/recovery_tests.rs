use super::*;
use crate::batch::Counters;
use crate::checkpoint::manifest::{FORMAT, Manifest};
use crate::sink::Committed;

fn kept(epoch: u64, decided_by: Option<&str>) -> Kept {
    let manifest = Manifest {
        format: FORMAT,
        job: "j".into(),
        fingerprint: "f".into(),
        epoch,
        watermark_us: None,
        event_time_max_us: None,
        clocks_us: Vec::new(),
        source: serde_json::Value::Null,
        ended: false,
        counters: Counters::default(),
        sinks: Default::default(),
        rows_out: 0,
        state_rows: 0,
        files: vec![],
        fence: 1,
        attempt: "a".into(),
        decided_by: decided_by.map(str::to_owned),
        parts: vec![],
        table: None,
    };
    Kept { manifest, hash: u128::from(epoch) + 100 }
}

fn whole(epoch: u64) -> Lying {
    Lying { name: format!("m{epoch}"), epoch, found: Ok(kept(epoch, None)) }
}

fn theirs(epoch: u64) -> Lying {
    Lying { found: Ok(kept(epoch, Some("out"))), ..whole(epoch) }
}

fn bad(epoch: u64, why: Unusable) -> Lying {
    Lying { found: Err(why), ..whole(epoch) }
}

fn marker(epoch: Option<u64>) -> Marker {
    let committed = epoch.map(|epoch| Committed { epoch, manifest_hash: u128::from(epoch) + 100 });
    Marker::Output { name: "out".into(), committed }
}

/// `from 3 1, damaged m4`, `confirm 3`, `stop: …`.
fn check(manifests: &[Lying], prepared: &[Lying], marker: &Marker, expected: &str) {
    let found = match decide(manifests.to_vec(), prepared.to_vec(), marker) {
        Decision::From { candidates, damaged } => {
            let epochs = candidates.iter().map(|kept| kept.manifest.epoch.to_string());
            format!("from {}, damaged {}", epochs.collect::<Vec<_>>().join(" "), damaged.join(" "))
        }
        Decision::Confirm { kept, prepared, damaged } => {
            let damaged = damaged.map_or(String::new(), |name| format!(", damaged {name}"));
            format!("confirm {} {prepared}{damaged}", kept.manifest.epoch)
        }
        Decision::Stop(why) => format!("stop: {why}"),
    };
    assert!(found.starts_with(expected), "{found}\nexpected {expected}");
}

#[test]
fn the_newest_manifest_decides_in_whatever_order_they_lie() {
    let by = &Marker::Manifest;
    check(&[], &[], by, "from , damaged ");
    check(&[whole(1), whole(3), whole(2)], &[], by, "from 3 2 1, damaged ");
    check(&[whole(3)], &[whole(4)], by, "from 3, damaged ");
}

#[test]
fn f51_a_damaged_manifest_is_passed_over_and_a_newer_format_is_not() {
    let by = &Marker::Manifest;
    check(&[whole(2), bad(3, Unusable::Damaged)], &[], by, "from 2, damaged m3");
    check(&[whole(3), bad(2, Unusable::Damaged)], &[], by, "from 3, damaged ");
    check(&[bad(3, Unusable::Damaged)], &[], by, "stop: m3 is damaged and there is no older one");
    check(&[bad(3, Unusable::Foreign { epoch: 9 }), whole(2)], &[], by, "from 2, damaged m3");
    let newer = Unusable::Newer { format: 99 };
    check(&[whole(2), bad(3, newer)], &[], by, "stop: m3 has format 99");
}

#[test]
fn an_outputs_marker_names_the_one_checkpoint_that_may_be_used() {
    check(&[theirs(3), theirs(2)], &[], &marker(Some(3)), "from 3, damaged ");
    check(&[theirs(2)], &[whole(3)], &marker(Some(3)), "confirm 3 m3");
    let rotten = [theirs(2), bad(3, Unusable::Damaged)];
    check(&rotten, &[whole(3)], &marker(Some(3)), "confirm 3 m3, damaged m3");
    // Prepared, and its transaction was aborted: the epoch is done again.
    check(&[theirs(2)], &[theirs(3)], &marker(Some(2)), "from 2, damaged ");
    check(&[theirs(2)], &[], &marker(Some(3)), "stop: \"out\" has committed epoch 3");
    check(&[theirs(2)], &[bad(3, Unusable::Damaged)], &marker(Some(3)), "stop: \"out\" has");
    check(&[theirs(3), theirs(2)], &[], &marker(Some(2)), "stop: there is a checkpoint of epoch 3");
    check(&[theirs(3)], &[], &marker(None), "stop: m3 was committed by an output");
    check(&[whole(3)], &[theirs(4)], &marker(None), "from 3, damaged ");
    check(
        &[theirs(3)],
        &[],
        &Marker::Manifest,
        "stop: epoch 3 was committed by the output \"out\"",
    );
}
