//! Rows whose groups are many and come in no order, and the answer for each group by the rows' rule
//! alone: neither asks for more memory than a line.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::Error;
use crate::output;

/// Row `i` is of group `i * STEP % groups`; coprime to every number of groups that is a power of ten.
const STEP: u64 = 7_919;
/// Group `x` has the key `x * SPREAD` modulo 2^40: each another, scattered.
const SPREAD: u64 = 0x9e_3779_b97d;
const MASK: u64 = (1 << 40) - 1;

/// `k,v`: the first `groups` rows hold each group once, then they come again in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    pub rows: u64,
    /// A power of ten.
    pub groups: u64,
}

impl Groups {
    pub fn key(self, row: u64) -> u64 {
        (row * STEP % self.groups).wrapping_mul(SPREAD) & MASK
    }

    pub fn value(row: u64) -> u64 {
        row % 100
    }

    /// Count and sum of a key over the first `rows` rows; nothing for a key that none of them has.
    pub fn answer(self, key: u64, rows: u64) -> Option<(u64, u64)> {
        let group = key.wrapping_mul(inverse_of_spread()) & MASK;
        if key > MASK || group >= self.groups {
            return None;
        }
        let first = u128::from(group) * u128::from(inverse_of_step(self.groups));
        let first = (first % u128::from(self.groups)) as u64;
        let of = || (first..rows).step_by(self.groups as usize);
        let count = of().count() as u64;
        (count > 0).then(|| (count, of().map(Groups::value).sum()))
    }

    /// The rows as a file in `dir`, made once.
    pub fn file(self, dir: &Path) -> Result<PathBuf, Error> {
        let path = dir.join(format!("groups-{}-of-{}.csv", self.rows, self.groups));
        let failed = |error| Error::io(format!("cannot make {}", path.display()), error);
        if path.exists() {
            return Ok(path);
        }
        eprintln!("making {}", path.display());
        fs::create_dir_all(dir).map_err(failed)?;
        // Under its name only once it is whole.
        let part = path.with_extension("part");
        let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
        for row in 0..self.rows {
            writeln!(file, "{},{}", self.key(row), Groups::value(row)).map_err(failed)?;
        }
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&part, &path).map_err(failed)?;
        Ok(path)
    }

    /// A job over such a file; `end`: it is read to its end and no further.
    pub fn job(data: &Path, end: bool, sql: &str, more: &str) -> String {
        let path = Value::from(data.to_string_lossy());
        format!(
            "name = \"groups\"\n{more}\n[source.rows]\ntype = \"file\"\npath = {path}\nend = {end}\n\
             format = \"csv\"\nschema = \"k BIGINT, v INT\"\n\n[query]\nsql = \"{sql}\"\n",
        )
    }

    /// Compares `k,n,s` rows in files with the answer. Every key comes once, in ascending order.
    ///
    /// Errors: `Wrong` with the first difference.
    pub fn check(self, out: &Path, count: u64) -> Result<(), Error> {
        let (mut found, mut last, mut fault) = (0, None, None);
        output::each_row(out, "k,n,s", |row| {
            let key = row.split(',').next().and_then(|key| key.parse::<u64>().ok());
            let right = key.and_then(|key| self.answer(key, self.rows));
            let right = right.map(|(n, s)| format!("{},{n},{s}", key.unwrap_or_default()));
            if fault.is_none() && (right.as_deref() != Some(row) || key <= last) {
                fault = Some(format!("row {found}: found {row}, right is {right:?}"));
            }
            last = key;
            found += 1;
        })?;
        match fault {
            Some(fault) => Err(Error::Wrong(fault)),
            None if found != count => {
                Err(Error::Wrong(format!("{found} rows where {count} are right")))
            }
            None => Ok(()),
        }
    }
}

/// The number that takes [`SPREAD`] back, by Newton's method: each step doubles the bits that agree.
fn inverse_of_spread() -> u64 {
    (0..6).fold(SPREAD, |x, _| x.wrapping_mul(2u64.wrapping_sub(SPREAD.wrapping_mul(x))))
}

/// The number that takes [`STEP`] back modulo `groups`: STEP to the power of one less than the order of
/// the group of units, which divides 4 * 10^(n-1) for 10^n.
fn inverse_of_step(groups: u64) -> u64 {
    let modulus = u128::from(groups);
    let (mut power, mut base) = (4 * groups / 10, u128::from(STEP) % modulus);
    power = power.saturating_sub(1);
    let mut result = 1 % modulus;
    while power > 0 {
        if power & 1 == 1 {
            result = result * base % modulus;
        }
        base = base * base % modulus;
        power >>= 1;
    }
    result as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_answer_is_that_of_the_rows() {
        for groups in [10, 1_000, 100_000] {
            let data = Groups { rows: groups * 2 + groups / 2, groups };
            let mut right: HashMap<u64, (u64, u64)> = HashMap::new();
            for row in 0..data.rows {
                let group = right.entry(data.key(row)).or_default();
                *group = (group.0 + 1, group.1 + Groups::value(row));
            }
            assert_eq!(right.len() as u64, groups);
            for (key, answer) in right {
                assert_eq!(data.answer(key, data.rows), Some(answer));
            }
            assert_eq!(data.answer(data.key(5), 5), None, "its first row is the sixth");
            assert_eq!(data.answer(1 << 41, data.rows), None);
        }
    }
}
