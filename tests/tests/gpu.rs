//! Jobs with `device = "gpu"` on software Vulkan, in both tiers, against the naive oracle and the CPU.

use std::collections::BTreeMap;
use std::process::Command;

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::output;
use pelton_tests::program::{Ended, Job, binary, pelton, start};

const TIERS: [&str; 2] = ["native", "portable"];

/// Runs `job.toml` with more arguments; `tier`: the device's.
fn run(job: &Job, args: &[&str], tier: &str) -> Ended {
    run_with(job, args, &[("PELTON_GPU_TIER", tier)])
}

fn run_with(job: &Job, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--progress", "json"]).args(args).current_dir(job.dir());
    command.envs(variables.iter().copied());
    start(command).end()
}

/// Every file of an output directory, by name.
fn files(job: &Job, directory: &str) -> BTreeMap<String, String> {
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
fn expect_on_gpu(ended: &Ended, broken_max: u64) {
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
                let ended = run(&job, &["--device", "gpu"], tier).expect_code(0);
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

#[test]
fn words_on_the_gpu_are_counted_as_on_the_cpu() {
    let toml = r#"name = "words"
cores = "0"

[source.lines]
type = "file"
path = "lines.txt"
format = "text"

[query]
sql = """
SELECT value, count(*) AS count
FROM (SELECT explode(split(value, ' ')) AS value FROM lines)
GROUP BY value
"""
mode = "append"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
"#;
    let mut lines = String::new();
    for i in 0..30_000_u64 {
        let word = |n: u64| i.wrapping_mul(n).wrapping_mul(2_654_435_761) % 5_000;
        lines += &format!("w{} w{}  ä{}\n", word(3), word(5), word(7) % 10);
    }
    let run_on = |device: &str, tier: &str| {
        let job = Job::new(toml);
        job.write("lines.txt", &lines);
        let ended = run(&job, &["--device", device], tier).expect_code(0);
        if device == "gpu" {
            expect_on_gpu(&ended, 0);
        }
        output::rows(&job.path("out"), "value,count")
    };
    let expected = run_on("cpu", "");
    assert!(expected.len() > 5_000, "{}", expected.len());
    for tier in TIERS {
        assert!(run_on("gpu", tier) == expected, "{tier}");
    }
    let job = Job::new(
        &toml.replace("path = \"state\"", "path = \"state\"\nmax_epoch_bytes = \"256KiB\""),
    );
    job.write("lines.txt", &lines);
    let ended = run_with(&job, &["--device", "gpu"], &[("PELTON_GPU_LOSE", "5")]).expect_code(0);
    expect_lost(&ended);
    assert!(output::rows(&job.path("out"), "value,count") == expected);
}

/// Three queries in the manner of TPC-H 1: text, decimals, dates and NULLs.
#[test]
fn group_bys_over_decimals_and_nulls_write_the_same_bytes() {
    let queries = [
        "SELECT flag, status, sum(quantity) AS q, sum(price * (1 - discount)) AS p, avg(price) AS a, \
         min(discount) AS l, max(shipped) AS s, count(comment) AS c, count(*) AS n \
         FROM items WHERE shipped <= DATE '1998-09-02' GROUP BY flag, status",
        "SELECT supplier, discount, sum(quantity) AS q, min(price) AS l, max(price) AS g, \
         stddev_samp(weight) AS d, sum(weight) AS w FROM items \
         WHERE quantity < 40 AND discount BETWEEN 0.02 AND 0.07 GROUP BY supplier, discount",
        "SELECT upper(flag) AS f, CASE WHEN quantity > 25 THEN 1 ELSE 0 END AS big, \
         sum(weight * 2) AS w, count(*) FILTER (WHERE price > 100) AS dear, max(weight) AS m \
         FROM items GROUP BY upper(flag), CASE WHEN quantity > 25 THEN 1 ELSE 0 END",
    ];
    let mut rows = String::new();
    for i in 0..12_000_u64 {
        let random = |n: u64| (i * n + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let null = |text: String, n: u64| if random(n) % 17 == 0 { String::new() } else { text };
        rows += &format!(
            "{},{},{},{},{},199{}-0{}-1{},{},{},{}\n",
            null(["A", "N", "R"][(random(3) % 3) as usize].into(), 41),
            ["O", "F"][(random(5) % 2) as usize],
            null((random(11) % 50).to_string(), 43),
            null(format!("{}.{:02}", random(13) % 9_000, random(17) % 100), 47),
            null(format!("0.{:02}", random(19) % 10), 53),
            random(23) % 9,
            1 + random(29) % 9,
            random(31) % 9,
            random(37) % 60,
            null(format!("{}e{}", random(59) % 999, random(61) % 40), 67),
            null("c".into(), 71),
        );
    }
    let two = jobs::two_cores().unwrap_or("0");
    for (number, sql) in queries.iter().enumerate() {
        let run_on = |device: &str, cores: &str, epoch: &str, variables: &[(&str, &str)]| {
            let job = Job::new(&items(sql, cores, epoch));
            job.write("items.csv", &rows);
            let ended = run_with(&job, &["--device", device], variables).expect_code(0);
            let loses = variables.iter().any(|(name, _)| *name == "PELTON_GPU_LOSE");
            match (device, loses) {
                ("gpu", false) => expect_on_gpu(&ended, 0),
                ("gpu", true) => expect_lost(&ended),
                _ => {}
            }
            // All groups leave with the last epoch.
            files(&job, "out").into_values().collect::<String>()
        };
        let expected = run_on("cpu", "0", "1GiB", &[]);
        assert!(expected.lines().count() > 3, "query {number}: {expected}");
        let (native, portable) = (("PELTON_GPU_TIER", "native"), ("PELTON_GPU_TIER", "portable"));
        for (cores, epoch, variables) in [
            ("0", "1GiB", &[native][..]),
            (two, "128KiB", &[portable]),
            (two, "300KiB", &[native]),
            ("0", "300KiB", &[portable, ("PELTON_GPU_LOSE", "3")]),
        ] {
            let found = run_on("gpu", cores, epoch, variables);
            assert!(found == expected, "query {number}, {cores}, {epoch}, {variables:?}:\n{found}");
        }
    }
}

/// A query over `items.csv`.
fn items(sql: &str, cores: &str, max_epoch_bytes: &str) -> String {
    format!(
        r#"name = "items"
cores = "{cores}"

[source.items]
type = "file"
path = "items.csv"
format = "csv"
schema = """flag STRING, status STRING, quantity INT, price DECIMAL(12,2), discount DECIMAL(4,2),
  shipped DATE, supplier INT, weight DOUBLE, comment STRING"""

[query]
sql = """{sql}"""
mode = "append"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
max_epoch_bytes = "{max_epoch_bytes}"
"#
    )
}

/// The device was lost in every epoch that had rows, and it was told.
fn expect_lost(ended: &Ended) {
    let epochs = ended.progress();
    let with_rows = || epochs.iter().filter(|epoch| epoch["counters"]["rowsIn"] != 0);
    assert!(with_rows().count() > 1, "{} epochs", epochs.len());
    for epoch in with_rows() {
        assert_eq!(epoch["gpu"]["status"], "degraded", "{epoch}");
        let reason = epoch["gpu"]["reason"].as_str().expect("a reason");
        assert!(reason.contains("lost"), "{reason}");
    }
}

/// Three sizes of epochs, of which the smallest cuts the decoder's batches; one and two cores; one, two
/// and eight threads of the software device: the same files, byte by byte, as the CPU's.
#[test]
fn no_batch_no_core_and_no_thread_of_the_device_shows_in_a_file() {
    let sensors = Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(5, 24_000) };
    let (text, _) = sensors.make();
    let cores: Vec<_> = [Some("0"), jobs::two_cores()].into_iter().flatten().collect();
    for max_epoch_bytes in ["96KiB", "400KiB", "1GiB"] {
        let run_on = |cores: &str, device: &str, variables: &[(&str, &str)]| {
            let settings = jobs::Sensors { cores, max_epoch_bytes, ..Default::default() };
            let job = Job::new(&settings.toml());
            job.write("data.csv", &text);
            let ended = run_with(&job, &["--device", device], variables).expect_code(0);
            if device == "gpu" {
                expect_on_gpu(&ended, ended.fates().rejected);
            }
            files(&job, "out")
        };
        let expected = run_on("0", "cpu", &[]);
        assert!(!expected.is_empty());
        for (turn, cores) in cores.iter().enumerate() {
            for (place, tier) in TIERS.into_iter().enumerate() {
                let threads = ["1", "2", "8"][(turn + 2 * place) % 3];
                let variables = [("PELTON_GPU_TIER", tier), ("LP_NUM_THREADS", threads)];
                let found = run_on(cores, "gpu", &variables);
                assert!(found == expected, "{max_epoch_bytes}, {cores}, {tier}, {threads} threads");
            }
        }
    }
}

/// F38 end to end: in every epoch the device is lost at a batch that a seed picks.
#[test]
fn f38_a_device_lost_in_every_epoch_changes_no_byte_and_is_told() {
    let sensors = Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(9, 24_000) };
    let (text, _) = sensors.make();
    let run_on = |device: &str, cores: &str, variables: &[(&str, &str)]| {
        let settings = jobs::Sensors { cores, max_epoch_bytes: "400KiB", ..Default::default() };
        let job = Job::new(&settings.toml());
        job.write("data.csv", &text);
        let ended = run_with(&job, &["--device", device], variables).expect_code(0);
        (files(&job, "out"), ended)
    };
    let (expected, _) = run_on("cpu", "0", &[]);
    let turns = [("native", "0", "1"), ("portable", jobs::two_cores().unwrap_or("0"), "7")];
    for (tier, cores, seed) in turns {
        let variables = [("PELTON_GPU_TIER", tier), ("PELTON_GPU_LOSE", seed)];
        let (found, ended) = run_on("gpu", cores, &variables);
        assert!(found == expected, "{tier}, seed {seed}");
        expect_lost(&ended);
        ended.expect_said(&["degraded: the GPU was lost", "with the same result"]);
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
        let ended = run(&job, &["--device", device], tier).expect_code(0);
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
    for text in ["upload GB/s", "read-back", "dispatch and wait", "M rows/s at 1 / 1000 / 1000000"]
    {
        assert!(measured.contains(text), "no {text}:\n{measured}");
    }
    let again = with_cache(&["hardware"]).stdout;
    assert_eq!(again, measured, "what was measured is kept");
    let after = with_cache(&["explain", "job.toml"]).stdout;
    for text in ["software Vulkan is never chosen", "predicted: CPU", "crossover: GPU loses here"] {
        assert!(after.contains(text), "no {text}:\n{after}");
    }
    let run = with_cache(&["run", "job.toml", "--progress", "json"]);
    for epoch in run.progress() {
        assert_eq!(epoch["rowsByDevice"]["gpu"], 0, "{epoch}");
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
    let first = toml.replace("count(*)", "first(region)");
    refused(&first, &["device = \"gpu\"", "first", "position"]);
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
