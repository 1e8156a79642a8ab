//! Whether the watermark bounds what a job holds, over as many rows as one likes.
//!
//! Both jobs sum up what they held in windows, so that the sum says whether every row had its place.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use pelton_ingest::generate;
use serde_json::Value;

use crate::child;
use crate::error::Error;

/// What a job holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Half a second after a device's last row its session ends.
    Sessions,
    /// Deduplication by time and device.
    Keys,
}

#[derive(Clone, Debug)]
pub struct Bounded {
    /// The most groups that an epoch left in the state.
    pub groups_max: u64,
    /// The most resident bytes (RssAnon) at the ends of epochs, for each quarter of the rows.
    pub rss_by_quarter: [u64; 4],
    pub epochs: usize,
    pub seconds: f64,
}

impl Held {
    pub fn name(self) -> &'static str {
        match self {
            Held::Sessions => "sessions",
            Held::Keys => "deduplication",
        }
    }

    /// `(dedup, sql)`; the last column of a row of output counts rows of input.
    fn job(self) -> (&'static str, &'static str) {
        match self {
            Held::Sessions => (
                "",
                "SELECT window.start, sum(n) AS n FROM (SELECT session_window, device, count(*) AS n \
                 FROM sensors GROUP BY session_window(ts, '500 milliseconds'), device) \
                 GROUP BY window(window_time(session_window), '10 seconds')",
            ),
            Held::Keys => (
                "dedup = { columns = [\"ts\", \"device\"] }\n",
                "SELECT window.start, count(*) AS n FROM sensors GROUP BY window(ts, '10 seconds')",
            ),
        }
    }

    /// How many rows of input are counted.
    fn counted(self, rows: u64, seed: u64) -> u64 {
        match self {
            Held::Sessions => rows,
            Held::Keys => distinct(rows, seed),
        }
    }
}

/// Runs a job over generated rows in `dir`, an empty directory.
pub fn measure(
    program: &Path,
    dir: &Path,
    held: Held,
    rows: u64,
    seed: u64,
) -> Result<Bounded, Error> {
    let (dedup, sql) = held.job();
    let job = format!(
        "name = \"bounded\"\n\n[source.sensors]\ntype = \"generate\"\nsuite = \"sensors\"\n\
         rows = {rows}\nseed = {seed}\nwatermark = {{ column = \"ts\", delay = \"10s\" }}\n{dedup}\n\
         [query]\nsql = \"{sql}\"\n\n[sink.out]\ntype = \"file\"\npath = \"out\"\n\n\
         [checkpoint]\npath = \"state\"\n"
    );
    let finished = child::pelton(program, &job, dir, rows)?;
    let (counted, expected) = (counted(&dir.join("out"))?, held.counted(rows, seed));
    if counted != expected {
        return Err(Error::Wrong(format!("{counted} rows of {expected} were counted")));
    }
    let (mut groups_max, mut rss_by_quarter, mut before) = (0, [0u64; 4], 0u64);
    let mut epochs = 0;
    for line in finished.stderr.lines().filter(|line| line.starts_with('{')) {
        let epoch: Value = serde_json::from_str(line)
            .map_err(|error| Error::Wrong(format!("progress that is no JSON: {error}")))?;
        let operators = epoch["stateOperators"].as_array().into_iter().flatten();
        let groups = operators.filter_map(|operator| operator["numRowsTotal"].as_u64()).sum();
        groups_max = groups_max.max(groups);
        let rss = epoch["memory"]["rssAnon"].as_u64().unwrap_or(0);
        let quarter = &mut rss_by_quarter[(before * 4 / rows).min(3) as usize];
        *quarter = rss.max(*quarter);
        before += epoch["numInputRows"].as_u64().unwrap_or(0);
        epochs += 1;
    }
    Ok(Bounded { groups_max, rss_by_quarter, epochs, seconds: finished.seconds })
}

/// The sum of the last column of all files of output.
fn counted(out: &Path) -> Result<u64, Error> {
    let failed = |error| Error::io(format!("cannot read {}", out.display()), error);
    let mut sum = 0;
    for file in fs::read_dir(out).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        for line in BufReader::new(File::open(&path).map_err(failed)?).lines().skip(1) {
            let line = line.map_err(failed)?;
            let number = line.rsplit(',').next().and_then(|number| number.parse::<u64>().ok());
            sum += number.ok_or_else(|| Error::Wrong(format!("no count at the end of {line}")))?;
        }
    }
    Ok(sum)
}

/// Distinct pairs of time and device, counted from the generator's text. Rows lie at most a second
/// from their places, so a minute of them is all that has to be known at a time.
fn distinct(rows: u64, seed: u64) -> u64 {
    const STEP: u64 = 20_000;
    let suite = generate::Suite::new("sensors", seed).expect("the suite has a generator");
    let mut seen: BTreeMap<u64, HashSet<u32>> = BTreeMap::new();
    let (mut count, mut text) = (0, Vec::new());
    for first in (0..rows).step_by(STEP as usize) {
        text.clear();
        suite.write(first, STEP.min(rows - first), &mut text);
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut fields = line.split(|byte| *byte == b',');
            let (time, device) = (fields.next(), fields.next());
            let number = |field: Option<&[u8]>| -> u64 {
                let digits = field.into_iter().flatten().filter(|byte| byte.is_ascii_digit());
                digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
            };
            let (time, device) = (number(time), number(device));
            count += u64::from(seen.entry(time).or_default().insert(device as u32));
        }
        let newest = seen.last_key_value().map_or(0, |(time, _)| *time);
        seen = seen.split_off(&newest.saturating_sub(60_000));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_once() {
        let suite = generate::Suite::new("sensors", 7).unwrap();
        let mut text = Vec::new();
        suite.write(0, 50_000, &mut text);
        let text = String::from_utf8(text).unwrap();
        let pairs: HashSet<(&str, &str)> = text
            .lines()
            .map(|line| {
                let mut fields = line.split(',');
                (fields.next().unwrap(), fields.next().unwrap())
            })
            .collect();
        assert!(pairs.len() < 50_000, "some rows are a pair's second");
        assert_eq!(distinct(50_000, 7), pairs.len() as u64);
    }
}
