//! Data with known faults: a pure function of a seed.

use std::fmt::Write as _;

/// SplitMix64 (Steele, Lea, Flood, 2014): small, good enough, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`; the bias of the remainder does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Rows of the sensors query's table.
#[derive(Clone, Copy)]
pub struct Sensors {
    pub seed: u64,
    pub rows: u64,
    /// Milliseconds by which an ordinary row may lie behind the greatest time before it.
    pub disorder_ms: u64,
    /// Rows in a thousand that lie 10 to 25 seconds further behind, which is beyond a delay of ten:
    /// late, unless their window is still open.
    pub late_per_mille: u64,
    /// Rows in a thousand that cannot be read.
    pub malformed_per_mille: u64,
}

impl Sensors {
    pub fn new(seed: u64, rows: u64) -> Sensors {
        Sensors { seed, rows, disorder_ms: 5_000, late_per_mille: 0, malformed_per_mille: 0 }
    }

    /// CSV text without a header, and the lines (from 1) that were made malformed.
    pub fn make(&self) -> (String, Vec<u64>) {
        let mut random = Random::new(self.seed);
        let mut text = String::with_capacity(self.rows as usize * 56);
        let mut malformed = Vec::new();
        // Two hundred rows each tenth of a second, from 2024-05-01T00:01:00Z: so coarse that many a
        // watermark is the very end of a late row's window.
        for row in 0..self.rows {
            let mut time = 1_714_521_660_000 + row / 200 * 100;
            time -= random.below(self.disorder_ms / 100 + 1) * 100;
            if random.below(1000) < self.late_per_mille {
                time -= 10_000 + random.below(151) * 100;
            }
            let device = random.below(300);
            let temperature = random.below(6_000) as f64 / 100.0 - 20.0;
            let humidity = random.below(10_001) as f64 / 100.0;
            let status = random.below(8);
            let region = ["north", "south", "east", "west", ""][random.below(5) as usize];
            let kind = if random.below(1000) < self.malformed_per_mille {
                malformed.push(row + 1);
                1 + random.below(5)
            } else {
                0
            };
            let line = format!("dev-{device:03},{region},{temperature:.2},{humidity:.2}");
            _ = match kind {
                0 => writeln!(text, "{time},{line},{status}"),
                1 => writeln!(text, "{time},{line}"),
                2 => writeln!(text, "{time},{line},{status},extra"),
                3 => writeln!(text, "{time},{line},broken"),
                4 => writeln!(text, "{time},dev-{device:03},{region},warm,{humidity:.2},1"),
                _ => writeln!(text, "noon,{line},1"),
            };
        }
        (text, malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        let sensors =
            Sensors { late_per_mille: 10, malformed_per_mille: 10, ..Sensors::new(7, 5_000) };
        let (text, malformed) = sensors.make();
        assert_eq!((text.clone(), malformed.clone()), sensors.make());
        assert_ne!(text, Sensors { seed: 8, ..sensors }.make().0);
        assert_eq!(text.lines().count(), 5_000);
        assert!((20..90).contains(&malformed.len()), "{}", malformed.len());
    }

    /// The maker and the oracle were written apart: they must agree on which rows are broken.
    #[test]
    fn the_oracle_rejects_the_malformed_rows_and_no_other() {
        let sensors =
            Sensors { late_per_mille: 10, malformed_per_mille: 10, ..Sensors::new(1, 50_000) };
        let (text, malformed) = sensors.make();
        let answer = pelton_bench::oracle::sensors(text.as_bytes(), 10_000);
        assert_eq!(answer.rejected_lines, malformed);
        assert!((200..500).contains(&answer.fates.late), "{:?}", answer.fates);
        let fates = answer.fates;
        assert_eq!(fates.rows_in, fates.applied + fates.filtered + fates.late + fates.rejected);
    }
}
