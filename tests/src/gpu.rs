//! Jobs on a device: how they are started, and what their progress has to say of it.

use std::collections::BTreeMap;
use std::process::Command;

use crate::program::{Ended, Job, binary, start};

pub const TIERS: [&str; 2] = ["native", "portable"];

/// Runs `job.toml` on a device, with variables that say how.
pub fn run(job: &Job, device: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--progress", "json", "--device", device]);
    command.current_dir(job.dir()).envs(variables.iter().copied());
    start(command).end()
}

/// Every file of an output directory, by name.
pub fn files(job: &Job, directory: &str) -> BTreeMap<String, String> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry can be read");
        let text = || std::fs::read_to_string(entry.path()).expect("an output is text");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        entry.path().is_file().then(|| (name, text()))
    };
    let entries = std::fs::read_dir(job.path(directory)).expect("there is an output");
    entries.filter_map(read).collect()
}

/// All rows of the source went through the device, but at most so many whose framing is broken.
pub fn expect_on_gpu(ended: &Ended, broken_max: u64) {
    let (mut rows, mut gpu, mut cpu) = (0, 0, 0);
    for epoch in ended.progress() {
        let count = |key: &str| epoch["rowsByDevice"][key].as_u64().expect("a count");
        rows += epoch["counters"]["rowsIn"].as_u64().expect("a count");
        (gpu, cpu) = (gpu + count("gpu"), cpu + count("cpu"));
        assert_eq!(epoch["gpu"]["status"], "ok", "{epoch}");
    }
    assert_eq!(rows, gpu + cpu);
    assert!(gpu > 0 && cpu <= broken_max, "{gpu} rows on the GPU, {cpu} on the CPU");
}

/// In every epoch that had rows, several of them, the device failed for this reason, and it was told.
pub fn expect_failed(ended: &Ended, why: &str) {
    let epochs = ended.progress();
    let with_rows = || epochs.iter().filter(|epoch| epoch["counters"]["rowsIn"] != 0);
    assert!(with_rows().count() > 1, "{} epochs", epochs.len());
    for epoch in with_rows() {
        assert_eq!(epoch["gpu"]["status"], "degraded", "{epoch}");
        let reason = epoch["gpu"]["reason"].as_str().expect("a reason");
        assert!(reason.contains(why), "{reason}");
    }
}

/// In some epoch the device failed for this reason, and it was told.
pub fn expect_failed_at_least_once(ended: &Ended, why: &str) {
    let failed = |epoch: &serde_json::Value| {
        let reason = epoch["gpu"]["reason"].as_str();
        epoch["gpu"]["status"] == "degraded" && reason.is_some_and(|reason| reason.contains(why))
    };
    let epochs = ended.progress();
    assert!(epochs.iter().any(failed), "{} epochs", epochs.len());
}
