//! Rows with unique `(split, seq)`, some malformed, some late, and what two queries make of them.
//!
//! The answer is worked out row by row while the rows are made, by the rules of SEMANTICS 3 and 9 and
//! with no code of the product.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use pelton_bench::oracle::{Fates, instant};

use crate::data::Random;

const WINDOW_MS: i64 = 10_000;
const DELAY_MS: i64 = 5_000;
/// 2024-05-01T00:00:00Z.
const BEGIN_MS: i64 = 1_714_521_600_000;
const FILES: u64 = 4;
const KEYS: u64 = 200;
/// Rows of this value are filtered.
const UNWANTED: u64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Windows of ten seconds by key.
    Tumbling,
    /// Every row that passes.
    PassThrough,
}

impl Query {
    pub fn name(self) -> &'static str {
        match self {
            Query::Tumbling => "tumbling",
            Query::PassThrough => "pass-through",
        }
    }

    pub fn header(self) -> &'static str {
        match self {
            Query::Tumbling => "start,key,n,ids,least,greatest,hash,folded,total",
            Query::PassThrough => "split,seq,value",
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Query::Tumbling => {
                "SELECT window.start AS start, key, count(*) AS n, sum(seq) AS ids, \
                 min(seq) AS least, max(seq) AS greatest, \
                 sum((seq * 7919 + split * 104729) % 1000003) AS hash, \
                 bit_xor((seq * 7919 + split * 104729) % 1000003) AS folded, sum(value) AS total \
                 FROM rows WHERE value <> 7 GROUP BY window(ts, '10 seconds'), key"
            }
            Query::PassThrough => "SELECT split, seq, value FROM rows WHERE value <> 7",
        }
    }

    /// A job over `data/` into `out/`, with its checkpoints in `state/`.
    pub fn toml(self, cores: &str, max_epoch_bytes: &str) -> String {
        format!(
            r#"name = "kills"
cores = "{cores}"

[source.rows]
type = "file"
path = "data/part-*.csv"
end = true
format = "csv"
schema = "split INT, seq BIGINT, ts TIMESTAMP, key STRING, value BIGINT"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "{DELAY_MS}ms" }}

[query]
sql = "{sql}"

[sink.out]
type = "file"
path = "out"
format = "csv"

[checkpoint]
path = "state"
max_epoch_bytes = "{max_epoch_bytes}"
"#,
            sql = self.sql(),
        )
    }
}

/// What must come out, each once.
pub struct Answer {
    pub query: Query,
    /// Lines of output, and whether they were seen.
    lines: HashMap<String, bool>,
    seen: usize,
    /// Rows of input that must come as dead letters.
    malformed: HashMap<String, bool>,
    malformed_seen: usize,
    pub fates: Fates,
}

#[derive(Default)]
struct Group {
    rows: u64,
    ids: i64,
    least: i64,
    greatest: i64,
    hash: i64,
    folded: i64,
    total: i64,
}

impl Group {
    fn add(&mut self, split: i64, seq: i64, value: i64) {
        self.least = if self.rows == 0 { seq } else { self.least.min(seq) };
        self.greatest = if self.rows == 0 { seq } else { self.greatest.max(seq) };
        self.rows += 1;
        self.ids += seq;
        let hash = (seq * 7919 + split * 104_729) % 1_000_003;
        self.hash += hash;
        self.folded ^= hash;
        self.total += value;
    }
}

/// Writes `rows` rows below `data/` of a directory and works out their answer.
pub fn make(dir: &Path, query: Query, rows: u64, seed: u64) -> std::io::Result<Answer> {
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    let mut maker = Maker {
        random: Random::new(seed),
        groups: BTreeMap::new(),
        clock: None,
        answer: Answer {
            query,
            lines: HashMap::new(),
            seen: 0,
            malformed: HashMap::new(),
            malformed_seen: 0,
            fates: Fates::default(),
        },
    };
    let mut line = String::new();
    for split in 0..FILES {
        let mut file = BufWriter::new(fs::File::create(data.join(format!("part-{split}.csv")))?);
        for seq in 0..rows / FILES {
            line.clear();
            maker.row(split as i64, seq as i64, split * (rows / FILES) + seq, &mut line);
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    Ok(maker.finish())
}

struct Maker {
    random: Random,
    groups: BTreeMap<(i64, String), Group>,
    clock: Option<i64>,
    answer: Answer,
}

impl Maker {
    fn row(&mut self, split: i64, seq: i64, at: u64, line: &mut String) {
        let random = &mut self.random;
        // Two thousand rows a second of event time, a second of disorder.
        let mut ts = BEGIN_MS + at as i64 / 2 - random.below(1_000) as i64;
        if random.below(100) == 0 {
            ts -= 20_000 + random.below(20_000) as i64;
        }
        // The rank of a Zipf law, near enough: a few keys have most rows.
        let key = format!("k{:03}", KEYS / (1 + random.below(KEYS)) % KEYS);
        let value = random.below(10);
        let broken = if random.below(100) == 0 { 1 + random.below(4) } else { 0 };
        _ = match broken {
            0 => write!(line, "{split},{seq},{ts},{key},{value}"),
            1 => write!(line, "{split},{seq},{ts},{key}"),
            2 => write!(line, "{split},{seq},{ts},{key},{value},more"),
            3 => write!(line, "{split},{seq},{ts},{key},many"),
            _ => write!(line, "{split},{seq},noon,{key},{}", (UNWANTED + 1) % 10),
        };
        let Answer { query, fates, malformed, lines, .. } = &mut self.answer;
        fates.rows_in += 1;
        if broken > 0 {
            fates.rejected += 1;
            malformed.insert(line.clone(), false);
            return;
        }
        if value == UNWANTED {
            fates.filtered += 1;
            return;
        }
        let start = ts.div_euclid(WINDOW_MS) * WINDOW_MS;
        let late = self.clock.is_some_and(|clock| start + WINDOW_MS <= clock - DELAY_MS);
        self.clock = self.clock.max(Some(ts));
        match *query {
            Query::PassThrough => {
                fates.applied += 1;
                lines.insert(format!("{split},{seq},{value}"), false);
            }
            Query::Tumbling if late => fates.late += 1,
            Query::Tumbling => {
                fates.applied += 1;
                let group = self.groups.entry((start, key)).or_default();
                group.add(split, seq, value as i64);
            }
        }
    }

    fn finish(mut self) -> Answer {
        for ((start, key), group) in self.groups {
            let Group { rows, ids, least, greatest, hash, folded, total } = group;
            let start = instant(start);
            let line =
                format!("{start},{key},{rows},{ids},{least},{greatest},{hash},{folded},{total}");
            self.answer.lines.insert(line, false);
        }
        self.answer
    }
}

impl Answer {
    /// A row came out. Errors: it must not, or it did before.
    pub fn see(&mut self, line: &str) -> Result<(), String> {
        once(&mut self.lines, line, "a row of output")?;
        self.seen += 1;
        Ok(())
    }

    /// A dead letter came out, with this text.
    pub fn see_letter(&mut self, raw: &str) -> Result<(), String> {
        once(&mut self.malformed, raw, "a dead letter")?;
        self.malformed_seen += 1;
        Ok(())
    }

    /// Errors: rows or dead letters are missing.
    pub fn check_complete(&self) -> Result<(), String> {
        let all = [
            ("rows of output", self.seen, &self.lines),
            ("dead letters", self.malformed_seen, &self.malformed),
        ];
        for (what, seen, expected) in all {
            if seen != expected.len() {
                let lost = expected.iter().find(|(_, seen)| !**seen).map(|(line, _)| line);
                let count = expected.len() - seen;
                return Err(format!("{count} {what} are lost, as {lost:?}"));
            }
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.lines.len()
    }
}

fn once(lines: &mut HashMap<String, bool>, line: &str, what: &str) -> Result<(), String> {
    match lines.get_mut(line) {
        None => Err(format!("{what} that no row gives: {line:?}")),
        Some(seen) => match std::mem::replace(seen, true) {
            true => Err(format!("{what} came twice: {line:?}")),
            false => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_doubled_and_a_foreign_row_are_each_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut answer = make(dir.path(), Query::PassThrough, 400, 1).expect("it can be written");
        assert_eq!(answer.fates.rows_in, 400);
        assert!(answer.check_complete().is_err(), "nothing came yet");
        let lines: Vec<String> = answer.lines.keys().cloned().collect();
        for line in &lines {
            answer.see(line).expect("it is expected once");
        }
        assert!(answer.see(&lines[0]).is_err(), "it came twice");
        assert!(answer.see("9,9,9").is_err(), "no row gives it");
        let letters: Vec<String> = answer.malformed.keys().cloned().collect();
        assert!(answer.check_complete().is_err(), "the dead letters are missing");
        for letter in &letters {
            answer.see_letter(letter).expect("it is expected once");
        }
        answer.check_complete().expect("everything came");
    }
}
