//! The data files of the suites, and the directory in which runs leave their results.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use pelton_ingest::generate;

use crate::Options;
use crate::error::Error;

/// Rows written, or compared, at a time: about a megabyte.
const STEP: u64 = 20_000;

pub struct Data {
    pub path: PathBuf,
    pub bytes: u64,
}

/// The data of a suite, size and seed: made once, used again after that, in the page cache.
pub fn file(options: &Options) -> Result<Data, Error> {
    let name = options.suite.name();
    let source = generate::Suite::new(name, options.seed).expect("each suite has a generator");
    let path = options.dir.join(format!("{name}-{}-{}.csv", options.rows, options.seed));
    let failed = |error| Error::io(format!("cannot make {}", path.display()), error);
    if !begins_as(&path, &source, options.rows) {
        eprintln!("making {}", path.display());
        fs::create_dir_all(&options.dir).map_err(failed)?;
        // Under its name only once it is whole.
        let part = path.with_extension("part");
        let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
        let mut text = Vec::new();
        for first in (0..options.rows).step_by(STEP as usize) {
            text.clear();
            source.write(first, STEP.min(options.rows - first), &mut text);
            file.write_all(&text).map_err(failed)?;
        }
        file.into_inner()
            .map_err(|error| failed(error.into_error()))?
            .sync_all()
            .map_err(failed)?;
        fs::rename(&part, &path).map_err(failed)?;
    }
    // The first engine must not be the one that waits for the disk.
    let bytes = std::io::copy(&mut File::open(&path).map_err(failed)?, &mut std::io::sink());
    Ok(Data { bytes: bytes.map_err(failed)?, path })
}

/// False where there is no such file, or one of an older generator.
fn begins_as(path: &Path, source: &generate::Suite, rows: u64) -> bool {
    let mut expected = Vec::new();
    source.write(0, STEP.min(rows), &mut expected);
    let mut found = vec![0; expected.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut found));
    read.is_ok() && found == expected
}

/// Directories for results, one an engine; gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(dir: &Path) -> Result<Scratch, Error> {
        let path = dir.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|error| Error::io(format!("cannot make {}", path.display()), error))?;
        Ok(Scratch(path))
    }

    pub fn path(&self, engine: &str) -> PathBuf {
        self.0.join(engine)
    }

    /// The engine's directory with nothing in it.
    pub fn empty(&self, engine: &str) -> Result<PathBuf, Error> {
        let path = self.path(engine);
        let failed = |error| Error::io(format!("cannot empty {}", path.display()), error);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what is left lies in a directory for temporary files.
        _ = fs::remove_dir_all(&self.0);
    }
}
