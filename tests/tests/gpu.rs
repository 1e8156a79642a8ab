//! Jobs with `device = "gpu"` on software Vulkan, in both tiers, against the naive oracle; what `auto`,
//! `hardware` and `check` say. `gpu_bytes` compares files with the CPU's.

use std::process::Command;

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::gpu::{TIERS, expect_on_gpu, files, run};
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::output;
use pelton_tests::program::{Job, binary, pelton, start};

#[test]
fn sensors_on_the_gpu_give_the_oracles_rows_in_both_tiers() {
    let sensors =
        Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(3, 150_000) };
    let (text, _) = sensors.make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    for tier in TIERS {
        for cores in [Some("0"), jobs::two_cores()].into_iter().flatten() {
            for max_epoch_bytes in ["1GiB", "3MiB"] {
                let settings = jobs::Sensors { cores, max_epoch_bytes, ..Default::default() };
                let job = Job::new(&settings.toml());
                job.write("data.csv", &text);
                let ended = run(&job, "gpu", &[("PELTON_GPU_TIER", tier)]).expect_code(0);
                assert_eq!(ended.fates(), answer.fates);
                expect_on_gpu(&ended, answer.fates.rejected);
                let rows = output::rows(&job.path("out"), SENSORS_HEADER);
                let differing = rows.iter().zip(answer.lines()).find(|(a, b)| *a != b);
                assert_eq!(differing, None, "{tier}, cores {cores}, {max_epoch_bytes}");
                assert_eq!(rows.len(), answer.lines().len());
            }
        }
    }
}

/// A row falls into two or three windows; all of them are the CPU's, byte by byte.
#[test]
fn overlapping_windows_write_the_same_bytes() {
    let sensors =
        Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(11, 16_000) };
    let (text, _) = sensors.make();
    let tumbling = jobs::Sensors { max_epoch_bytes: "300KiB", ..Default::default() }.toml();
    let toml = tumbling.replace("'10 seconds')", "'10 seconds', '4 seconds')");
    assert_ne!(toml, tumbling);
    let run_on = |device: &str, tier: &str| {
        let job = Job::new(&toml);
        job.write("data.csv", &text);
        let ended = run(&job, device, &[("PELTON_GPU_TIER", tier)]).expect_code(0);
        if device == "gpu" {
            expect_on_gpu(&ended, ended.fates().rejected);
        }
        files(&job, "out")
    };
    let expected = run_on("cpu", "");
    for tier in TIERS {
        assert!(run_on("gpu", tier) == expected, "{tier}");
    }
}

/// F38: after a loss the CPU goes on alone for some epochs, each of which says so; then the device is tried, and
/// has the rest. The log says it once, and the files are the CPU's.
#[test]
fn f38_a_lost_device_is_back_after_some_epochs() {
    let settings = jobs::Sensors { max_epoch_bytes: "100KiB", ..Default::default() };
    let (text, _) = Sensors { late_per_mille: 10, ..Sensors::new(8, 30_000) }.make();
    let run_on = |device: &str, more: &[(&str, &str)]| {
        let job = Job::new(&settings.toml());
        job.write("data.csv", &text);
        let ended = run(&job, device, more).expect_code(0);
        (ended, files(&job, "out"))
    };
    let (_, expected) = run_on("cpu", &[]);
    // Among the first epoch's submissions, and where the second one's table is emptied.
    for (tier, before) in TIERS.into_iter().flat_map(|tier| [(tier, "4"), (tier, "11")]) {
        let lost = [("PELTON_GPU_TIER", tier), ("PELTON_GPU_LOSE_ONCE", before)];
        let (ended, found) = run_on("gpu", &lost);
        for (name, text) in &expected {
            assert_eq!(found.get(name), Some(text), "{tier}: {name}");
        }
        assert_eq!(found.len(), expected.len(), "{tier}");
        let mut told = String::new();
        for epoch in ended.progress() {
            let count = |key: &str| epoch["rowsByDevice"][key].as_u64().expect("a count");
            let (gpu, cpu) = (count("gpu"), count("cpu"));
            match epoch["gpu"]["status"].as_str() {
                Some("ok") => {
                    assert!(gpu > 0 && cpu == 0 || gpu + cpu == 0, "{epoch}");
                    told.push('o');
                }
                Some("degraded") => {
                    assert!(epoch["gpu"]["reason"].as_str().is_some_and(|r| r.contains("lost")));
                    assert!(gpu == 0 && cpu > 0, "{epoch}");
                    told.push('d');
                }
                other => panic!("{other:?}: {epoch}"),
            }
        }
        let degraded = told.matches('d').count();
        assert_eq!(degraded, 4, "{tier}: {told}");
        let around: Vec<&str> = told.split("dddd").collect();
        assert!(
            around.len() == 2 && around[1].len() > 4,
            "{tier}: one stretch, then the rest: {told}"
        );
        assert_eq!(
            ended.stderr.matches("degraded: the GPU was lost").count(),
            1,
            "{}",
            ended.stderr
        );
    }
}

/// `auto` never takes software, whatever is known of it; `hardware` keeps what was measured, `explain`
/// tells both rates and where one begins to win.
#[test]
fn f37_auto_never_takes_software_and_says_why() {
    let job = Job::new(&jobs::Sensors::default().toml());
    let sensors = Sensors::new(3, 2_000);
    job.write("data.csv", sensors.make().0);
    let with_cache = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).current_dir(job.dir()).env("XDG_CACHE_HOME", job.dir().join("cache"));
        start(command).end().expect_code(0)
    };
    let before = with_cache(&["explain", "job.toml"]).stdout;
    assert!(before.contains("CPU: software Vulkan is never chosen"), "{before}");
    assert!(!before.contains("predicted"), "{before}");
    let hardware = with_cache(&["hardware"]).stdout;
    assert!(hardware.contains("--measure does"), "{hardware}");

    let measured = with_cache(&["hardware", "--measure"]).stdout;
    for text in [
        "upload GB/s",
        "read-back",
        "dispatch and wait",
        "M rows/s at 1 / 1000 / 1000000",
        "M rows/s filtered and computed",
    ] {
        assert!(measured.contains(text), "no {text}:\n{measured}");
    }
    let again = with_cache(&["hardware"]).stdout;
    assert_eq!(again, measured, "what was measured is kept");
    let after = with_cache(&["explain", "job.toml"]).stdout;
    for text in ["software Vulkan is never chosen", "predicted: CPU", "crossover: GPU loses here"] {
        assert!(after.contains(text), "no {text}:\n{after}");
    }
    // A query without groups has rates, too: what it computes is where a device could win.
    let toml = jobs::Sensors::default().toml();
    let sql = toml.split("\"\"\"").nth(1).expect("the query");
    let columns = "SELECT temperature * 2 AS t, humidity + 1 AS h FROM sensors WHERE status <> 0";
    std::fs::write(job.path("rows.toml"), toml.replace(sql, columns)).expect("it can be written");
    let rows = with_cache(&["explain", "rows.toml"]).stdout;
    for text in [
        "software Vulkan is never chosen",
        "predicted: CPU",
        "with 2 computed columns",
        "crossover: GPU loses here with any number of computed columns",
    ] {
        assert!(rows.contains(text), "no {text}:\n{rows}");
    }
    let run = with_cache(&["run", "job.toml", "--progress", "json"]);
    for epoch in run.progress() {
        assert_eq!(epoch["rowsByDevice"]["gpu"], 0, "{epoch}");
    }
}

/// What the driver has compiled lies in the user's cache directory, and another run begins with it;
/// whatever becomes of the file, the job runs on the device and the file is whole again.
#[test]
fn f51_compiled_kernels_are_kept_and_a_damaged_file_is_ignored() {
    let job = Job::new(&jobs::Sensors::default().toml());
    job.write("data.csv", Sensors::new(3, 3_000).make().0);
    let run_it = || {
        for left in ["out", "state"] {
            let _ = std::fs::remove_dir_all(job.path(left));
        }
        let cache = job.path("cache");
        let cache = ("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
        let ended = run(&job, "gpu", &[cache]).expect_code(0);
        expect_on_gpu(&ended, 0);
        files(&job, "out")
    };
    let expected = run_it();
    let kept = std::fs::read_dir(job.path("cache/pelton")).expect("it is kept").flatten();
    let mut kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("pipe"));
    let path = kept.next().expect("lavapipe tells what it has compiled").path();
    assert!(kept.next().is_none());
    let whole = std::fs::read(&path).expect("it can be read");
    assert!(whole.starts_with(b"pelton-pipelines 1 "), "{} bytes", whole.len());
    let written = || std::fs::metadata(&path).and_then(|file| file.modified()).expect("a time");
    let (before, again) = (written(), run_it());
    assert!(again == expected);
    assert_eq!(written(), before, "nothing new was compiled");
    let mut flipped = whole.clone();
    let middle = whole.len() / 2 + 20;
    flipped[middle] ^= 0x10;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], b"", b"pelton-pipelines 1 "] {
        std::fs::write(&path, damaged).expect("it can be written");
        assert!(run_it() == expected);
        let now = std::fs::read(&path).expect("it can be read");
        assert_eq!(now.len(), whole.len(), "it is written anew");
    }
}

#[test]
fn f37_without_a_vulkan_driver_the_job_says_what_to_install() {
    let job = Job::new(&jobs::Sensors::default().toml());
    job.write("data.csv", format!("{SENSORS_HEADER}\n"));
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--device", "gpu"]).current_dir(job.dir());
    command
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json");
    start(command).end().expect_code(69).expect_said(&["no GPU", "mesa-vulkan-drivers"]);
}

#[test]
fn a_query_that_a_gpu_cannot_run_is_refused_by_its_node() {
    let toml = jobs::Sensors::default().toml();
    let refused = |toml: &str, said: &[&str]| {
        let job = Job::new(toml);
        let ended = job.start_with(&["check", "job.toml", "--set", "device=gpu"]).end();
        ended.expect_code(78).expect_said(said);
    };
    let mode = toml.replace("count(*)", "mode(region)");
    refused(&mode, &["device = \"gpu\"", "mode", "kept on the CPU"]);
}

/// The suite compares every group on every device with the CPU before it tells a rate.
#[test]
fn bench_kernels_prints_a_crossover_and_calls_software_by_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let record = dir.path().to_str().expect("UTF-8");
    let args = ["bench", "kernels", "--rows", "40000", "--rounds", "1", "--record", record];
    let ended = pelton(&args).expect_code(0);
    for text in [
        "groups",
        "native: software, no GPU's figures",
        "portable",
        "the device",
        "computes as the CPU does",
        "pipelines:",
        "in flight",
        "its own floats",
    ] {
        assert!(ended.stdout.contains(text), "no {text}:\n{}", ended.stdout);
    }
    let mut kept: Vec<_> = std::fs::read_dir(dir.path()).expect("a record").flatten().collect();
    kept.sort_by_key(|entry| entry.file_name());
    let read = |at: usize| std::fs::read_to_string(kept[at].path()).expect("a record is text");
    assert_eq!(kept.len(), 2, "a record and a plot: {kept:?}");
    assert!(read(0).contains("\"note\": \"SOFTWARE DEVICE"), "{}", read(0));
    assert!(read(1).starts_with("<svg") && read(1).contains("SOFTWARE DEVICE"), "{}", read(1));
}
