//! Rows with unique `(split, seq)`, some malformed, some late, and what four queries make of them.
//!
//! The answer is worked out row by row while the rows are made, by the rules of SEMANTICS 3, 4 and 9
//! and with no code of the product.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use pelton_bench::oracle::{Fates, instant};

use crate::data::Random;

const WINDOW_MS: i64 = 10_000;
const SLIDE_MS: i64 = 4_000;
const GAP_MS: i64 = 150;
const DELAY_MS: i64 = 5_000;
/// 2024-05-01T00:00:00Z.
const BEGIN_MS: i64 = 1_714_521_600_000;
const FILES: u64 = 4;
const KEYS: u64 = 200;
/// Rows of this value are filtered.
const UNWANTED: u64 = 7;
/// The split of the row behind all others that closes their windows, where the input has no end.
const CLOSER: i64 = 9;
const CLOSER_AFTER_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Windows of ten seconds by key.
    Tumbling,
    /// Windows of ten seconds every four.
    Sliding,
    /// Rows of a key with less than 150 ms between them.
    Session,
    /// Every row that passes.
    PassThrough,
}

/// Where a job reads its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Files,
    /// A connection that can be read once: the write-ahead log keeps its rows.
    Socket,
}

impl Feed {
    pub fn name(self) -> &'static str {
        match self {
            Feed::Files => "files",
            Feed::Socket => "socket",
        }
    }
}

impl Query {
    pub fn name(self) -> &'static str {
        match self {
            Query::Tumbling => "tumbling",
            Query::Sliding => "sliding",
            Query::Session => "session",
            Query::PassThrough => "pass-through",
        }
    }

    pub fn header(self) -> &'static str {
        match self {
            Query::PassThrough => "split,seq,value",
            // The ids tell which session it is.
            Query::Session => "key,n,ids,least,greatest,hash,folded,total",
            Query::Tumbling | Query::Sliding => "start,key,n,ids,least,greatest,hash,folded,total",
        }
    }

    fn sql(self) -> String {
        let (start, window) = match self {
            Query::PassThrough => {
                return "SELECT split, seq, value FROM rows WHERE value <> 7".to_owned();
            }
            Query::Tumbling => ("window.start AS start, ", "window(ts, '10 seconds')"),
            Query::Sliding => ("window.start AS start, ", "window(ts, '10 seconds', '4 seconds')"),
            Query::Session => ("", "session_window(ts, '150 milliseconds')"),
        };
        format!(
            "SELECT {start}key, count(*) AS n, sum(seq) AS ids, \
             min(seq) AS least, max(seq) AS greatest, \
             sum((seq * 7919 + split * 104729) % 1000003) AS hash, \
             bit_xor((seq * 7919 + split * 104729) % 1000003) AS folded, sum(value) AS total \
             FROM rows WHERE value <> 7 GROUP BY {window}, key"
        )
    }

    /// A job with its output and its checkpoints below `disk/`. `source`: lines that say where its
    /// rows come from.
    pub fn toml(self, source: &str, cores: &str, max_epoch_bytes: &str) -> String {
        format!(
            r#"name = "kills"
cores = "{cores}"

[source.rows]
{source}
format = "csv"
schema = "split INT, seq BIGINT, ts TIMESTAMP, key STRING, value BIGINT"
columns.ts = {{ format = "epoch_ms" }}
watermark = {{ column = "ts", delay = "{DELAY_MS}ms" }}

[query]
sql = "{sql}"

[sink.out]
type = "file"
path = "disk/out"
format = "csv"

[checkpoint]
path = "disk/state"
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
    fn add(&mut self, (split, seq, value): (i64, i64, i64)) {
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

/// The rows as the bytes of one connection.
pub struct Text {
    pub bytes: Vec<u8>,
    /// Where each row ends.
    pub ends: Vec<usize>,
}

/// Writes `rows` rows below `data/` of a directory and works out their answer.
pub fn files(dir: &Path, query: Query, rows: u64, seed: u64) -> std::io::Result<Answer> {
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    let mut maker = Maker::new(query, seed);
    let mut line = String::new();
    for split in 0..FILES {
        let mut file = BufWriter::new(fs::File::create(data.join(format!("part-{split}.csv")))?);
        for seq in 0..rows / FILES {
            maker.row(split as i64, seq as i64, split * (rows / FILES) + seq, &mut line);
            file.write_all(line.as_bytes())?;
        }
        file.flush()?;
    }
    Ok(maker.finish())
}

/// The same rows as text, with one behind them that closes their windows.
pub fn text(query: Query, rows: u64, seed: u64) -> (Text, Answer) {
    let mut maker = Maker::new(query, seed);
    let mut text = Text { bytes: Vec::new(), ends: Vec::new() };
    let mut line = String::new();
    let mut add = |line: &str| {
        text.bytes.extend_from_slice(line.as_bytes());
        text.ends.push(text.bytes.len());
    };
    for at in 0..rows {
        let (split, seq) = (at * FILES / rows, at);
        maker.row(split as i64, seq as i64, at, &mut line);
        add(&line);
    }
    maker.closer(rows, &mut line);
    add(&line);
    (text, maker.finish())
}

/// A row that a session may be made of: its time, then what is summed up of it.
type Session = (i64, (i64, i64, i64));

struct Maker {
    random: Random,
    groups: BTreeMap<(i64, String), Group>,
    /// By key.
    sessions: BTreeMap<String, Vec<Session>>,
    clock: Option<i64>,
    answer: Answer,
}

impl Maker {
    fn new(query: Query, seed: u64) -> Maker {
        Maker {
            random: Random::new(seed),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clock: None,
            answer: Answer {
                query,
                lines: HashMap::new(),
                seen: 0,
                malformed: HashMap::new(),
                malformed_seen: 0,
                fates: Fates::default(),
            },
        }
    }

    fn row(&mut self, split: i64, seq: i64, at: u64, line: &mut String) {
        line.clear();
        let random = &mut self.random;
        // Two thousand rows a second of event time, a second of disorder.
        let mut ts = BEGIN_MS + at as i64 / 2 - random.below(1_000) as i64;
        // One in a hundred comes too late, and a few just in time.
        if random.below(1_000) < 12 {
            ts -= random.below(40_000) as i64;
        }
        // The rank of a Zipf law, near enough: a few keys have most rows.
        let key = format!("k{:03}", KEYS / (1 + random.below(KEYS)) % KEYS);
        let value = random.below(10);
        let broken = if random.below(100) == 0 { 1 + random.below(4) } else { 0 };
        _ = match broken {
            0 => writeln!(line, "{split},{seq},{ts},{key},{value}"),
            1 => writeln!(line, "{split},{seq},{ts},{key}"),
            2 => writeln!(line, "{split},{seq},{ts},{key},{value},more"),
            3 => writeln!(line, "{split},{seq},{ts},{key},many"),
            _ => writeln!(line, "{split},{seq},noon,{key},{}", (UNWANTED + 1) % 10),
        };
        let Answer { fates, malformed, .. } = &mut self.answer;
        fates.rows_in += 1;
        if broken > 0 {
            fates.rejected += 1;
            malformed.insert(line.trim_end().to_owned(), false);
        } else if value == UNWANTED {
            fates.filtered += 1;
        } else {
            self.take(ts, key, (split, seq, value as i64));
        }
    }

    /// A row that passes the filter.
    fn take(&mut self, ts: i64, key: String, row: (i64, i64, i64)) {
        let watermark = self.clock.map(|clock| clock - DELAY_MS);
        let is_open = |end: i64| watermark.is_none_or(|watermark| end > watermark);
        self.clock = self.clock.max(Some(ts));
        let query = self.answer.query;
        let slide = if query == Query::Sliding { SLIDE_MS } else { WINDOW_MS };
        let last = ts.div_euclid(slide) * slide;
        let starts = (0..).map(|back| last - back * slide).take_while(|s| s + WINDOW_MS > ts);
        let open: Vec<i64> = starts.filter(|start| is_open(start + WINDOW_MS)).collect();
        let is_late = match query {
            Query::PassThrough => false,
            // By its own time: what it could touch has not left.
            Query::Session => !is_open(ts),
            Query::Tumbling | Query::Sliding => open.is_empty(),
        };
        if is_late {
            self.answer.fates.late += 1;
            return;
        }
        self.answer.fates.applied += 1;
        match query {
            Query::PassThrough => {
                let (split, seq, value) = row;
                self.answer.lines.insert(format!("{split},{seq},{value}"), false);
            }
            Query::Session => self.sessions.entry(key).or_default().push((ts, row)),
            Query::Tumbling | Query::Sliding => {
                for start in open {
                    self.groups.entry((start, key.clone())).or_default().add(row);
                }
            }
        }
    }

    /// Its own window is never closed.
    fn closer(&mut self, rows: u64, line: &mut String) {
        line.clear();
        let ts = BEGIN_MS + rows as i64 / 2 + CLOSER_AFTER_MS;
        _ = writeln!(line, "{CLOSER},0,{ts},end,0");
        let Answer { query, fates, lines, .. } = &mut self.answer;
        fates.rows_in += 1;
        fates.applied += 1;
        if *query == Query::PassThrough {
            lines.insert(format!("{CLOSER},0,0"), false);
        }
    }

    fn finish(mut self) -> Answer {
        for (key, mut rows) in std::mem::take(&mut self.sessions) {
            rows.sort_unstable();
            let mut open: Option<(i64, i64)> = None;
            for (ts, row) in rows {
                // A session that ends at this very time is touched.
                let start = open.filter(|(_, end)| ts <= *end).map_or(ts, |(start, _)| start);
                open = Some((start, ts + GAP_MS));
                self.groups.entry((start, key.clone())).or_default().add(row);
            }
        }
        for ((start, key), group) in self.groups {
            let Group { rows, ids, least, greatest, hash, folded, total } = group;
            let start = match self.answer.query {
                Query::Session => String::new(),
                _ => instant(start) + ",",
            };
            let line =
                format!("{start}{key},{rows},{ids},{least},{greatest},{hash},{folded},{total}");
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

    pub fn is_complete(&self) -> bool {
        self.seen == self.lines.len() && self.malformed_seen == self.malformed.len()
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
        let mut answer = files(dir.path(), Query::PassThrough, 400, 1).expect("it can be written");
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
