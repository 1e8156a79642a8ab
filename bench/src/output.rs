//! What a file sink left behind, read as its reader would: CSV files in epoch order.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use crate::error::Error;

/// Calls `each` with every row of the directory's files, in epoch order, without headers.
///
/// Errors: `Wrong` for a file that is none of the sink's (a leftover of staging must not lie among the
/// output), another header, a row without its end. A directory that is not there has no rows.
pub fn each_row(dir: &Path, header: &str, mut each: impl FnMut(&str)) -> Result<(), Error> {
    let mut line = String::new();
    for name in files(dir)? {
        let path = dir.join(&name);
        let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        for number in 1.. {
            line.clear();
            if file.read_line(&mut line).map_err(failed)? == 0 {
                break;
            }
            let Some(row) = line.strip_suffix('\n') else {
                return Err(Error::Wrong(format!("{name}: line {number} has no end: {line:?}")));
            };
            match number {
                1 if row != header => {
                    return Err(Error::Wrong(format!(
                        "{name}: header {row:?}, expected {header:?}"
                    )));
                }
                1 => {}
                _ => each(row),
            }
        }
    }
    Ok(())
}

/// The sink's files by epoch and number; `_pelton`, which describes them, is passed over.
pub fn files(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |error| Error::io(format!("cannot read {}", dir.display()), error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name == "_pelton" {
            continue;
        }
        if !(name.starts_with("epoch-") && name.ends_with(".csv")) {
            return Err(Error::Wrong(format!("{name} lies among the output in {}", dir.display())));
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// A fingerprint of all rows in their order.
pub(crate) fn digest(dir: &Path, header: &str) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    each_row(dir, header, |row| {
        hasher.write(row.as_bytes());
        hasher.write_u8(b'\n');
    })?;
    Ok(hasher.finish())
}
