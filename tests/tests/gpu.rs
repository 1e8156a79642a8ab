//! Jobs with `device = "gpu"` on software Vulkan, in both tiers, against the naive oracle and the CPU.

use std::process::Command;

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::output;
use pelton_tests::program::{Ended, Job, binary, pelton, start};

const TIERS: [&str; 2] = ["native", "portable"];

/// Runs `job.toml` with more arguments; `tier`: the device's.
fn run(job: &Job, args: &[&str], tier: &str) -> Ended {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--progress", "json"]).args(args).current_dir(job.dir());
    command.env("PELTON_GPU_TIER", tier);
    start(command).end()
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
        assert_eq!(run_on("gpu", tier), expected, "{tier}");
    }
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
    for (number, sql) in queries.iter().enumerate() {
        let toml = format!(
            r#"name = "items"
cores = "0"

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
"#
        );
        let run_on = |device: &str, tier: &str| {
            let job = Job::new(&toml);
            job.write("items.csv", &rows);
            let ended = run(&job, &["--device", device], tier).expect_code(0);
            if device == "gpu" {
                expect_on_gpu(&ended, 0);
            }
            let file = job.path("out/epoch-000000-0.csv");
            std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        };
        let expected = run_on("cpu", "");
        assert!(expected.lines().count() > 3, "query {number}: {expected}");
        for tier in TIERS {
            assert_eq!(run_on("gpu", tier), expected, "query {number}, {tier}");
        }
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
    let ended = pelton(&["bench", "kernels", "--rows", "60000", "--rounds", "1"]).expect_code(0);
    for text in ["groups", "native: software, no GPU's figures", "portable", "the device"] {
        assert!(ended.stdout.contains(text), "no {text}:\n{}", ended.stdout);
    }
}
