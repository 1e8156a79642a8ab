//! The right answers: each row read by itself, in order, with plain Rust and no code of the product.
//!
//! Invariant: what is written here is SEMANTICS word for word (3: late rows by `late = "row"`, 9: one
//! fate a row); speed and memory come last. Text is UTF-8 without quotes: the data of the suites and
//! of the tests that use this is made so.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::BufRead;

use crate::exact::ExactSum;

/// The query whose answer [`sensors`] is, over the columns that [`SENSORS_SCHEMA`] names.
pub const SENSORS_SQL: &str = "\
SELECT window.start AS window_start, window.end AS window_end, device,
       count(*) AS n, avg(temperature) AS temperature,
       min(humidity) AS humidity_min, max(humidity) AS humidity_max
FROM sensors WHERE status <> 0
GROUP BY window(ts, '10 seconds'), device";

/// The names of the result's columns, as the header of a CSV file.
pub const SENSORS_HEADER: &str =
    "window_start,window_end,device,n,temperature,humidity_min,humidity_max";

pub const SENSORS_SCHEMA: &str = "ts TIMESTAMP, device STRING, region STRING, temperature DOUBLE, \
                                  humidity DOUBLE, status INT";

/// The query whose answer [`words`] is.
pub const WORDS_SQL: &str = "\
SELECT value, count(*) AS count
FROM (SELECT explode(split(value, ' ')) AS value FROM words)
GROUP BY value";

pub const WORDS_HEADER: &str = "value,count";

const WINDOW_MS: i64 = 10_000;

/// What became of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    pub rows_in: u64,
    pub applied: u64,
    pub filtered: u64,
    pub late: u64,
    pub rejected: u64,
}

/// A row of the result; printed, it is the CSV line that the file sink writes.
#[derive(Clone, Debug, PartialEq)]
pub struct SensorsRow {
    pub start_ms: i64,
    /// Empty for NULL.
    pub device: String,
    pub rows: u64,
    pub temperature: Option<f64>,
    pub humidity_min: Option<f64>,
    pub humidity_max: Option<f64>,
}

impl fmt::Display for SensorsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (instant(self.start_ms), instant(self.start_ms + WINDOW_MS));
        let SensorsRow { device, rows, .. } = self;
        let [mean, least, most] =
            [self.temperature, self.humidity_min, self.humidity_max].map(double);
        write!(f, "{start},{end},{device},{rows},{mean},{least},{most}")
    }
}

#[derive(Debug, Default)]
pub struct Answer {
    /// By window start, then device, NULL first.
    pub rows: Vec<SensorsRow>,
    pub fates: Fates,
    /// Lines, from 1, that were rejected.
    pub rejected_lines: Vec<u64>,
}

impl Answer {
    /// The result as the lines of a CSV file.
    pub fn lines(&self) -> Vec<String> {
        self.rows.iter().map(SensorsRow::to_string).collect()
    }
}

#[derive(Default)]
struct Group {
    rows: u64,
    temperature: ExactSum,
    humidity: Option<(f64, f64)>,
}

enum Fate {
    Rejected,
    Filtered,
    Late,
    Applied,
}

/// Answers [`SENSORS_SQL`] in append mode at the end of the input, which is one split.
///
/// `delay_ms`: of the watermark on `ts`. The timestamps are milliseconds since 1970.
pub fn sensors(input: impl BufRead, delay_ms: i64) -> Answer {
    let mut answer = Answer::default();
    let mut windows: BTreeMap<i64, HashMap<String, Group>> = BTreeMap::new();
    let mut greatest: Option<i64> = None;
    for line in input.lines() {
        let line = line.expect("the oracle's input is readable text");
        answer.fates.rows_in += 1;
        match sensor(&line, greatest.map(|time| time - delay_ms), &mut windows, &mut greatest) {
            Fate::Applied => answer.fates.applied += 1,
            Fate::Filtered => answer.fates.filtered += 1,
            Fate::Late => answer.fates.late += 1,
            Fate::Rejected => {
                answer.fates.rejected += 1;
                answer.rejected_lines.push(answer.fates.rows_in);
            }
        }
    }
    for (start_ms, groups) in windows {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        answer.rows.extend(groups.into_iter().map(|(device, group)| {
            let (humidity_min, humidity_max) = group.humidity.unzip();
            let temperature = group.temperature.mean();
            let rows = group.rows;
            SensorsRow { start_ms, device, rows, temperature, humidity_min, humidity_max }
        }));
    }
    answer
}

/// One row: its fate, and what it adds to its window.
fn sensor(
    line: &str,
    watermark: Option<i64>,
    windows: &mut BTreeMap<i64, HashMap<String, Group>>,
    greatest: &mut Option<i64>,
) -> Fate {
    let fields: Vec<&str> = line.split(',').collect();
    let &[time, device, _region, temperature, humidity, status] = &fields[..] else {
        return Fate::Rejected;
    };
    // WHERE comes first: a value that only the rest of the query reads is no error before it.
    match value::<i32>(status) {
        Err(()) => return Fate::Rejected,
        Ok(None | Some(0)) => return Fate::Filtered,
        Ok(Some(_)) => {}
    }
    let (Ok(time), Ok(temperature), Ok(humidity)) =
        (value::<i64>(time), value::<f64>(temperature), value::<f64>(humidity))
    else {
        return Fate::Rejected;
    };
    let Some(time) = time else { return Fate::Filtered };

    let start = time.div_euclid(WINDOW_MS) * WINDOW_MS;
    if watermark.is_some_and(|watermark| start + WINDOW_MS <= watermark) {
        return Fate::Late;
    }
    *greatest = Some(greatest.map_or(time, |greatest| greatest.max(time)));

    let groups = windows.entry(start).or_default();
    if !groups.contains_key(device) {
        groups.insert(device.to_string(), Group::default());
    }
    let group = groups.get_mut(device).expect("inserted above");
    group.rows += 1;
    if let Some(temperature) = temperature {
        group.temperature.add(temperature);
    }
    if let Some(humidity) = humidity {
        let (least, most) = group.humidity.unwrap_or((humidity, humidity));
        group.humidity = Some((least.min(humidity), most.max(humidity)));
    }
    Fate::Applied
}

/// An empty field is NULL; what does not parse is an error.
fn value<T: std::str::FromStr>(field: &str) -> Result<Option<T>, ()> {
    if field.is_empty() { Ok(None) } else { field.parse().map(Some).map_err(|_| ()) }
}

/// Answers [`WORDS_SQL`] at the end of the input, in the order of the words' bytes.
pub fn words(input: impl BufRead) -> Vec<(String, u64)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for line in input.lines() {
        let line = line.expect("the oracle's input is readable text");
        for word in line.split(' ') {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => _ = counts.insert(word.to_string(), 1),
            }
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort();
    counts
}

/// Shortest text that reads back as the same double, with a decimal point; NULL is empty.
fn double(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

/// `2024-05-01T12:00:00Z` for milliseconds since 1970, which here are whole seconds.
pub fn instant(time_ms: i64) -> String {
    let seconds = time_ms / 1000;
    assert!(seconds >= 0 && seconds * 1000 == time_ms, "a window starts at a whole second");
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let february = 28 + i64::from(leap(year));
    let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= days[month] {
        day -= days[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_printed_as_dates() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(1_714_521_600_000), "2024-05-01T00:00:00Z");
        assert_eq!(instant(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(instant(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(instant(4_102_444_799_000), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn each_row_has_one_fate() {
        let input = "\
            0,a,r,1.5,10.0,1\n\
            9999,a,r,2.0,20.0,1\n\
            5000,b,r,x,20.0,0\n\
            5000,b,r,x,20.0,1\n\
            5000,b,r,1.0,20.0\n\
            5000,b,r,1.0,20.0,one\n\
            ,b,r,1.0,20.0,1\n\
            20000,b,r,,5.0,7\n\
            9999,a,r,4.0,20.0,1\n\
            20001,b,r,-3.0,,7\n\
            9999,a,r,5.0,20.0,1\n";
        // Row 8 moves the watermark to 10,000 - 1 with a delay of 10,001; row 10 to 10,000, by which
        // the first window is over for row 11 and was not for row 9.
        let answer = sensors(input.as_bytes(), 10_001);
        assert_eq!(
            answer.lines(),
            [
                "1970-01-01T00:00:00Z,1970-01-01T00:00:10Z,a,3,2.5,10.0,20.0",
                "1970-01-01T00:00:20Z,1970-01-01T00:00:30Z,b,2,-3.0,5.0,5.0",
            ]
        );
        let fates = Fates { rows_in: 11, applied: 5, filtered: 2, late: 1, rejected: 3 };
        assert_eq!(answer.fates, fates);
        assert_eq!(answer.rejected_lines, [4, 5, 6]);
    }

    #[test]
    fn words_are_what_stands_between_single_blanks() {
        let counts = [("", 2), ("a", 2), ("b", 2)].map(|(word, count)| (word.to_string(), count));
        assert_eq!(words("b a\n\na  b\n".as_bytes()), counts);
    }
}
