//! Rows out of nothing: the data of `type = "generate"`, of the demo and of the benchmarks.
//!
//! Invariant: row `i` is a pure function of (suite, seed, `i`), so any core may write any stretch of
//! rows and a restart goes on at any row. What leaves is text as a file would hold it; it goes
//! through the same decoder and the same counters. There is no clock in here: event time starts at
//! [`FIRST_TIMESTAMP_MS`] and advances one millisecond a row.

/// 2024-05-01T00:00:00Z.
pub const FIRST_TIMESTAMP_MS: u64 = 1_714_521_600_000;

/// A row's event time lies less than this behind the greatest one before it.
pub const DISORDER_MS: u64 = 1_000;

/// Words that the `words` suite draws from, by Zipf's law.
pub const VOCABULARY: usize = 5_000;

const DEVICES: u64 = 1_000;
const REGIONS: [&[u8]; 5] =
    [b"eu-central-1", b"eu-north-1", b"us-east-1", b"sa-east-1", b"ap-south-1"];
const WORDS_PER_ROW: u64 = 8;
/// Longest word; every word is copied as so many bytes, which is one instruction.
const WORD_MAX: usize = 16;
/// A word is drawn by 16 random bits.
const DRAWS: usize = 1 << 16;

/// A named kind of data, with its seed.
#[derive(Clone, Debug)]
pub struct Suite {
    seed: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `ts,device,region,temperature,humidity,status`; about 48 bytes a row.
    Sensors,
    /// One line of text a row: eight words with a blank between them.
    Words(Box<Words>),
}

#[derive(Clone, Debug)]
struct Words {
    spelling: Vec<[u8; WORD_MAX]>,
    length: Vec<u8>,
    /// Which word each draw means: word `k` is about as likely as `1 / (k + 1)`.
    drawn: Vec<u16>,
}

impl Suite {
    pub const NAMES: [&str; 2] = ["sensors", "words"];

    /// The suite of that name, if there is one (see [`Suite::NAMES`]).
    pub fn new(name: &str, seed: u64) -> Option<Suite> {
        let kind = match name {
            "sensors" => Kind::Sensors,
            "words" => Kind::Words(Box::new(Words::new())),
            _ => return None,
        };
        Some(Suite { seed, kind })
    }

    /// Bytes of a row, about.
    pub fn row_bytes(&self) -> u64 {
        match self.kind {
            Kind::Sensors => 48,
            Kind::Words(_) => 36,
        }
    }

    /// Appends rows `first_row .. first_row + rows`, each with its line feed.
    pub fn write(&self, first_row: u64, rows: u64, out: &mut Vec<u8>) {
        out.reserve(rows as usize * 64);
        match &self.kind {
            Kind::Sensors => {
                (first_row..first_row + rows).for_each(|row| write_sensor(self.seed, row, out))
            }
            Kind::Words(words) => {
                (first_row..first_row + rows).for_each(|row| words.write(self.seed, row, out))
            }
        }
    }
}

fn write_sensor(seed: u64, row: u64, out: &mut Vec<u8>) {
    let random = mix(seed, row);
    let behind = (random % DISORDER_MS).min(row);
    let device = mix(random, 1) % DEVICES;
    let temperature = (mix(random, 2) % 4_500) as i64 - 500;
    let humidity = 2_000 + mix(random, 3) % 8_000;

    let mut line = Line::default();
    line.digits(FIRST_TIMESTAMP_MS + row - behind, 13);
    line.text(b",dev-");
    line.digits(device, 4);
    line.byte(b',');
    line.text(REGIONS[(device % 5) as usize]);
    line.byte(b',');
    if temperature < 0 {
        line.byte(b'-');
    }
    line.hundredths(temperature.unsigned_abs());
    line.byte(b',');
    line.hundredths(humidity);
    line.byte(b',');
    line.byte(b'0' + (random >> 61) as u8);
    line.byte(b'\n');
    out.extend_from_slice(line.bytes());
}

/// A row under construction; 64 bytes hold the longest one.
struct Line {
    bytes: [u8; 64],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line { bytes: [0; 64], len: 0 }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    /// Exactly `width` decimal digits, zeros in front.
    fn digits(&mut self, mut value: u64, width: usize) {
        for at in (self.len..self.len + width).rev() {
            self.bytes[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.len += width;
    }

    /// `value / 100` with two decimals.
    fn hundredths(&mut self, value: u64) {
        self.digits(
            value / 100,
            if value < 1_000 {
                1
            } else if value < 10_000 {
                2
            } else {
                3
            },
        );
        self.byte(b'.');
        self.digits(value % 100, 2);
    }
}

impl Words {
    fn new() -> Words {
        let (spelling, length) = (0..VOCABULARY).map(spell).unzip();
        // The k-th word of a Zipf distribution with exponent 1 has the share 1 / ((k + 1) * H(n)).
        let harmonic: f64 = (1..=VOCABULARY).map(|k| 1.0 / k as f64).sum();
        let mut drawn = Vec::with_capacity(DRAWS);
        let mut share = 0.0;
        for word in 0..VOCABULARY {
            share += 1.0 / ((word + 1) as f64 * harmonic);
            let until = ((share * DRAWS as f64).round() as usize).min(DRAWS);
            drawn.resize(until.max(drawn.len()), word as u16);
        }
        drawn.resize(DRAWS, VOCABULARY as u16 - 1);
        Words { spelling, length, drawn }
    }

    fn write(&self, seed: u64, row: u64, out: &mut Vec<u8>) {
        let mut line = [0u8; WORDS_PER_ROW as usize * (WORD_MAX + 1)];
        let mut len = 0;
        for four in 0..WORDS_PER_ROW / 4 {
            let random = mix(mix(seed, row), four);
            for shift in [0, 16, 32, 48] {
                let word = self.drawn[(random >> shift) as usize % DRAWS] as usize;
                line[len..len + WORD_MAX].copy_from_slice(&self.spelling[word]);
                len += self.length[word] as usize;
                line[len] = b' ';
                len += 1;
            }
        }
        line[len - 1] = b'\n';
        out.extend_from_slice(&line[..len]);
    }
}

/// The `index`-th word: syllables of a consonant and a vowel, the likely words short.
fn spell(index: usize) -> ([u8; WORD_MAX], u8) {
    const CONSONANTS: &[u8; 16] = b"tnsrhldcmfpgwbvk";
    const VOWELS: &[u8; 5] = b"eaoiu";
    let (mut bytes, mut len, mut rest) = ([0; WORD_MAX], 0, index);
    loop {
        bytes[len] = CONSONANTS[rest % 16];
        bytes[len + 1] = VOWELS[rest / 16 % 5];
        len += 2;
        rest /= 80;
        if rest == 0 {
            return (bytes, len as u8);
        }
        rest -= 1;
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) as a function of (seed, index).
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn text(suite: &str, seed: u64, first: u64, rows: u64) -> String {
        let mut out = Vec::new();
        Suite::new(suite, seed).unwrap().write(first, rows, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_row_comes_out_whoever_writes_it() {
        for suite in Suite::NAMES {
            let whole = text(suite, 7, 0, 1_000);
            let parts: String = [(0, 1), (1, 250), (251, 0), (251, 749)]
                .map(|(a, n)| text(suite, 7, a, n))
                .concat();
            assert_eq!(whole, parts, "{suite}");
            assert_ne!(whole, text(suite, 8, 0, 1_000), "{suite}: the seed has a say");
        }
    }

    /// The bytes are a contract: recorded answers of benchmarks rest on them.
    #[test]
    fn the_first_rows_are_known() {
        assert_eq!(
            text("sensors", 0, 0, 3),
            "1714521600000,dev-0654,ap-south-1,2.31,44.38,7\n\
             1714521600000,dev-0278,sa-east-1,20.76,77.46,3\n\
             1714521600000,dev-0986,eu-north-1,38.51,44.47,0\n"
        );
        assert_eq!(text("words", 0, 0, 1), "ni me gena rine me vemo cane fere\n");
    }

    #[test]
    fn sensor_rows_keep_their_ranges_and_their_order_within_a_second() {
        let (mut greatest, mut devices, mut bytes) = (0, HashSet::new(), 0);
        for (row, line) in text("sensors", 1, 0, 20_000).lines().enumerate() {
            let fields: Vec<&str> = line.split(',').collect();
            let ts: u64 = fields[0].parse().unwrap();
            assert!(row > 0 || ts == FIRST_TIMESTAMP_MS);
            assert!(ts <= FIRST_TIMESTAMP_MS + row as u64 && ts + DISORDER_MS > greatest, "{line}");
            greatest = greatest.max(ts);
            devices.insert(fields[1].to_owned());
            assert!((-5.0..40.0).contains(&fields[3].parse::<f64>().unwrap()), "{line}");
            assert!((20.0..100.0).contains(&fields[4].parse::<f64>().unwrap()), "{line}");
            assert!(fields[5].parse::<u8>().unwrap() < 8 && fields.len() == 6, "{line}");
            bytes += line.len() + 1;
        }
        assert_eq!(devices.len(), 1_000);
        assert!((46..50).contains(&(bytes / 20_000)), "{} bytes a row", bytes / 20_000);
    }

    #[test]
    fn words_are_distinct_and_follow_zipf() {
        let words = Words::new();
        let spellings: HashSet<&[u8]> =
            words.spelling.iter().zip(&words.length).map(|(w, &n)| &w[..n as usize]).collect();
        assert_eq!(spellings.len(), VOCABULARY);
        let text = text("words", 3, 0, 20_000);
        let count = |word: usize| {
            let word = std::str::from_utf8(&words.spelling[word][..words.length[word] as usize]);
            let word = word.unwrap();
            text.split_ascii_whitespace().filter(|w| *w == word).count() as f64
        };
        assert!((1.8..2.2).contains(&(count(0) / count(1))), "{} {}", count(0), count(1));
        assert!(text.lines().all(|line| line.split(' ').count() == 8));
    }
}
