//! Byte-equal files on the CPU and on a device in both tiers, on one and two cores, with three sizes of
//! the decoder's batches, and with the device lost at a random batch of every epoch.
//!
//! Rows are few and epochs many: what differs between the runs is where things are cut.

use std::collections::BTreeMap;

use pelton_tests::data::Sensors;
use pelton_tests::gpu::{
    TIERS, expect_failed, expect_failed_at_least_once, expect_on_gpu, files, run,
};
use pelton_tests::jobs;
use pelton_tests::program::{Ended, Job};

/// Rows of a decoder's batch; the last is more than fit one.
const BATCH_ROWS: [&str; 3] = ["61", "1000", "8192"];

/// A job, and what it reads.
struct Work<'a> {
    /// With `CORES` and `EPOCH` in it.
    toml: &'a str,
    file: &'a str,
    text: &'a str,
    /// All groups leave with the last epoch.
    at_the_end: bool,
    /// What a device has computed leaves it at once.
    gives_rows: bool,
}

impl Work<'_> {
    fn run(
        &self,
        device: &str,
        (cores, batch_rows): (&str, &str),
        more: &[(&str, &str)],
    ) -> (Ended, BTreeMap<String, String>) {
        let job = Job::new(&self.toml.replace("CORES", cores).replace("EPOCH", "160KiB"));
        job.write(self.file, self.text);
        let variables = [&[("PELTON_BATCH_ROWS", batch_rows)], more].concat();
        let ended = run(&job, device, &variables).expect_code(0);
        let files = files(&job, "out");
        assert!(files.values().any(|text| text.lines().count() > 3), "{files:?}");
        assert_eq!(files.len() == 1, self.at_the_end, "{:?}", files.keys());
        (ended, files)
    }

    /// Every way to run it gives the files of the CPU's one core.
    fn check(&self) {
        let (_, expected) = self.run("cpu", ("0", "8192"), &[]);
        let cores = || ["0"].into_iter().chain(jobs::two_cores());
        let shapes = || cores().flat_map(|cores| BATCH_ROWS.map(|rows| (cores, rows)));
        for shape in shapes() {
            assert!(self.run("cpu", shape, &[]).1 == expected, "{shape:?}");
            for (place, tier) in TIERS.into_iter().enumerate() {
                let threads = ["1", "2", "8"][(place + shape.1.len()) % 3];
                let more = [("PELTON_GPU_TIER", tier), ("LP_NUM_THREADS", threads)];
                let (ended, found) = self.run("gpu", shape, &more);
                assert!(found == expected, "{tier} {shape:?}");
                expect_on_gpu(&ended, ended.fates().rejected);
            }
        }
        let seeds = ["1", "7", "23", "58"];
        let shapes = cores().flat_map(|cores| TIERS.map(|tier| (cores, tier)));
        for ((cores, tier), seed) in shapes.zip(seeds) {
            let more = [("PELTON_GPU_TIER", tier), ("PELTON_GPU_LOSE", seed)];
            let (ended, found) = self.run("gpu", (cores, "500"), &more);
            assert!(found == expected, "lost: {tier}, {cores}, seed {seed}");
            match self.gives_rows {
                // Where a batch needs but one submission not every epoch has as many as it takes.
                true => expect_failed_at_least_once(&ended, "lost"),
                false => expect_failed(&ended, "lost"),
            }
            ended.expect_said(&["degraded: the GPU was lost", "with the same result"]);
        }
    }
}

fn sensors() -> (String, String) {
    let rows = Sensors { late_per_mille: 10, malformed_per_mille: 2, ..Sensors::new(5, 9_000) };
    let settings = jobs::Sensors { cores: "CORES", max_epoch_bytes: "EPOCH", ..Default::default() };
    (settings.toml(), rows.make().0)
}

#[test]
fn f38_sensors_write_the_same_bytes() {
    let (toml, text) = sensors();
    Work { toml: &toml, file: "data.csv", text: &text, at_the_end: false, gives_rows: false }
        .check();
}

#[test]
fn f38_words_write_the_same_bytes() {
    let source = "[source.lines]\ntype = \"file\"\npath = \"lines.txt\"\nformat = \"text\"";
    let sql = "SELECT value, count(*) AS count \
               FROM (SELECT explode(split(value, ' ')) AS value FROM lines) GROUP BY value";
    let mut text = String::new();
    for i in 0..15_000_u64 {
        let word = |n: u64| i.wrapping_mul(n).wrapping_mul(2_654_435_761) % 3_000;
        text += &format!("w{} w{}  ä{}\n", word(3), word(5), word(7) % 10);
    }
    let toml = toml(source, sql);
    Work { toml: &toml, file: "lines.txt", text: &text, at_the_end: true, gives_rows: false }
        .check();
}

/// In the manner of TPC-H 1: sums and means of decimals by two short texts, a date in front.
#[test]
fn f38_sums_of_decimals_write_the_same_bytes() {
    items(
        "SELECT flag, status, sum(quantity) AS q, sum(price * (1 - discount)) AS p, \
         avg(price) AS a, min(discount) AS l, max(shipped) AS s, count(comment) AS c, \
         count(*) AS n FROM items WHERE shipped <= DATE '1998-09-02' GROUP BY flag, status",
    );
}

/// In the manner of TPC-H 6: ranges of decimals in front, groups by a number and a decimal with NULLs.
#[test]
fn f38_groups_by_decimals_write_the_same_bytes() {
    items(
        "SELECT supplier, discount, sum(quantity) AS q, min(price) AS l, max(price) AS g, \
         stddev_samp(weight) AS d, sum(weight) AS w FROM items \
         WHERE quantity < 40 AND discount BETWEEN 0.02 AND 0.07 GROUP BY supplier, discount",
    );
}

/// In the manner of TPC-H 12: groups by what is computed of texts, numbers and dates, counts under a condition;
/// and what one row decides, by its text or by its place.
#[test]
fn f38_groups_by_what_is_computed_write_the_same_bytes() {
    items(
        "SELECT upper(flag) AS f, CASE WHEN quantity > 25 THEN 1 ELSE 0 END AS big, \
         last_day(shipped) AS month, max(add_months(shipped, supplier)) AS due, \
         max(shipped - INTERVAL '13' MONTH) AS made, \
         max(timestampdiff(MONTH, TIMESTAMP '1992-02-29 12:00:00', shipped)) AS age, \
         sum(weight * 2) AS w, count(*) FILTER (WHERE price > 100) AS dear, max(weight) AS m, \
         min(comment) AS least, max(comment) FILTER (WHERE price > 100) AS most, \
         first(comment) AS c, last(price) AS p, first(discount, true) AS d, last(status) AS s \
         FROM items \
         GROUP BY upper(flag), CASE WHEN quantity > 25 THEN 1 ELSE 0 END, last_day(shipped)",
    );
}

/// No groups: what passes leaves in its order; some of it is computed on the device, where a row without a
/// quantity stops, some on the CPU.
#[test]
fn f38_rows_without_groups_write_the_same_bytes() {
    rows_of_items(
        "SELECT flag, comment, quantity * 2 + supplier AS q, price * (1 - discount) AS p, \
         upper(status) AS s, weight / quantity AS w, shipped, weekofyear(shipped) AS week, \
         trunc(shipped, 'month') AS month, date_trunc('hour', shipped) AS hour FROM items \
         WHERE quantity < 40 AND price > 100",
        true,
    );
}

fn items(sql: &str) {
    rows_of_items(sql, false);
}

fn rows_of_items(sql: &str, gives_rows: bool) {
    let source = "[source.items]\ntype = \"file\"\npath = \"items.csv\"\nformat = \"csv\"\n\
                  schema = \"\"\"flag STRING, status STRING, quantity INT, price DECIMAL(12,2), \
                  discount DECIMAL(4,2), shipped DATE, supplier INT, weight DOUBLE, \
                  comment STRING\"\"\"";
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
            null(format!("{}ä{}", "c".repeat((random(73) % 9) as usize), random(79) % 50), 71),
        );
    }
    let toml = toml(source, sql);
    Work { toml: &toml, file: "items.csv", text: &rows, at_the_end: !gives_rows, gives_rows }
        .check();
}

fn toml(source: &str, sql: &str) -> String {
    format!(
        "name = \"bytes\"\ncores = \"CORES\"\n{source}\n[query]\nsql = \"\"\"{sql}\"\"\"\n\
         mode = \"append\"\n[sink.out]\ntype = \"file\"\npath = \"out\"\nformat = \"csv\"\n\
         [checkpoint]\npath = \"state\"\nmax_epoch_bytes = \"EPOCH\"\n"
    )
}

/// F46: a bit of the table that comes back flips in the second epoch. Where that epoch is not shadowed it
/// shows in the files, so they are the device's; where it is, the epoch is the CPU's and is told.
#[test]
fn f46_a_flipped_bit_shows_in_the_files_unless_the_epoch_is_shadowed() {
    let (toml, text) = sensors();
    let on = |shadow: &str, device: &str, more: &[(&str, &str)]| {
        let toml = format!("{toml}\n[gpu]\n{shadow}\n");
        Work { toml: &toml, file: "data.csv", text: &text, at_the_end: false, gives_rows: false }
            .run(device, ("0", "1000"), more)
    };
    let (_, expected) = on("", "cpu", &[]);
    let flip = [("PELTON_GPU_FLIP", "1")];
    for shadow in ["shadow_one_in = 0", ""] {
        let (ended, found) = on(shadow, "gpu", &flip);
        expect_on_gpu(&ended, ended.fates().rejected);
        assert!(found != expected, "{shadow:?}: the table that comes back is not what is written");
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    }
    // As the first epoch is shadowed by default.
    for (shadow, flip) in [("shadow_one_in = 1", "1"), ("", "0")] {
        let (ended, found) = on(shadow, "gpu", &[("PELTON_GPU_FLIP", flip)]);
        assert!(found == expected, "{shadow:?}");
        ended.expect_said(&["degraded: the GPU's answer cannot be: the CPU has other groups"]);
    }
}

/// F41: a job that leaves the device too little memory runs on the CPU, with the same bytes.
#[test]
fn f41_a_small_memory_of_the_device_is_kept_and_told() {
    let (toml, text) = sensors();
    let toml = format!("{toml}\n[gpu]\nmemory = \"64KiB\"\n");
    let work =
        Work { toml: &toml, file: "data.csv", text: &text, at_the_end: false, gives_rows: false };
    let (_, expected) = work.run("cpu", ("0", "8192"), &[]);
    let (ended, found) = work.run("gpu", ("0", "8192"), &[]);
    assert!(found == expected);
    ended.expect_said(&["degraded: the GPU has no room for"]);
}
