//! Benchmarks with their right answers: the suites that `pelton bench` runs, and the oracles that
//! they and the end-to-end tests are checked by.
//!
//! Invariant: no figure leaves before the answer behind it was compared, row by row, with an
//! independent computation. The program is measured as users run it, as a process of its own; what
//! other engines need (Python, their packages) is looked for only when asked for.

pub mod checkpoint;
mod child;
mod data;
mod error;
pub mod events;
pub mod exact;
mod groups;
pub mod kernels;
pub mod oracle;
pub mod output;
mod peers;
mod plot;
pub mod record;
pub mod spill;
mod suite;

use std::io::Write;
use std::path::PathBuf;

pub use error::Error;
pub use record::keep;
pub use suite::Suite;

/// Rows when nobody says otherwise: about 960 MB of sensors.
pub const ROWS: u64 = 20_000_000;

pub struct Options {
    pub suite: Suite,
    pub rows: u64,
    pub seed: u64,
    /// Where data files are kept (they are used again) and runs are made.
    pub dir: PathBuf,
    /// `None`: all CPUs that this process may use.
    pub threads: Option<usize>,
    pub rounds: usize,
    /// Runs DuckDB and Polars beside, alternating.
    pub peers: bool,
    /// Directory for a dated record of the figures.
    pub record: Option<PathBuf>,
    /// The program to measure: usually `std::env::current_exe()`.
    pub program: PathBuf,
}

impl Options {
    pub fn new(suite: Suite, program: PathBuf) -> Options {
        Options {
            suite,
            rows: ROWS,
            seed: 1,
            dir: std::env::temp_dir().join("pelton-bench"),
            threads: None,
            rounds: 3,
            peers: false,
            record: None,
            program,
        }
    }
}

/// One engine's figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub engine: &'static str,
    pub version: String,
    /// A round each, in order.
    pub seconds: Vec<f64>,
    /// The greatest of all rounds.
    pub peak_rss_bytes: u64,
}

impl Figures {
    fn add(&mut self, seconds: f64, peak_rss_bytes: u64) {
        self.seconds.push(seconds);
        self.peak_rss_bytes = self.peak_rss_bytes.max(peak_rss_bytes);
    }

    /// The least, the middle and the greatest of the rounds' seconds.
    pub fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        (sorted[0], (low + high) / 2.0, sorted[sorted.len() - 1])
    }
}

/// A suite's figures on this machine, its answer checked.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub suite: Suite,
    pub rows: u64,
    pub bytes: u64,
    pub threads: usize,
    pub result_rows: u64,
    /// Pelton first.
    pub figures: Vec<Figures>,
}

/// Runs a suite, checks its answer and writes a table to `out`; notes go to stderr.
///
/// Errors: `Usage` for options that make no sense here, `Unavailable` without the peers' Python,
/// `Wrong` for an answer that is not the oracle's, `Io`.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Outcome, Error> {
    if options.rows == 0 || options.rounds == 0 {
        return Err(Error::Usage("rows and rounds start at 1".into()));
    }
    let cpus = child::allowed_cpus()?;
    let threads = options.threads.unwrap_or(cpus.len());
    if threads == 0 || threads > cpus.len() {
        let there = cpus.len();
        return Err(Error::Usage(format!("{threads} threads asked for, 1 to {there} are there")));
    }
    let python = if options.peers { Some(peers::Python::find()?) } else { None };
    let data = data::file(options)?;
    let scratch = data::Scratch::new(&options.dir)?;
    let job = options.suite.job(&data.path, &cpus[..threads]);

    let mut pelton = Figures { engine: "pelton", ..Figures::default() };
    let mut others = peers::ENGINES.map(|engine| Figures { engine, ..Figures::default() });
    let mut digest = None;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let result = scratch.empty("pelton")?;
        let run = child::pelton(&options.program, &job, &result, options.rows)?;
        pelton.add(run.seconds, run.peak_rss_bytes);
        // One run is compared with the oracle at the end; the others must equal it byte for byte.
        let found = output::digest(&result.join("out"), options.suite.header())?;
        if *digest.get_or_insert(found) != found {
            return Err(Error::Wrong("two runs over the same data gave different bytes".into()));
        }
        let Some(python) = &python else { continue };
        for figures in &mut others {
            let result = scratch.empty(figures.engine)?.join("out.csv");
            let run = python.run(options.suite, figures.engine, &data.path, &result, threads)?;
            figures.add(run.seconds, run.peak_rss_bytes);
            figures.version = run.version;
        }
    }

    // Last, as its tables would be counted as memory of a program that is started after it.
    eprintln!("checking the answer against an independent computation");
    let peers = if python.is_some() { &others[..] } else { &[] };
    let results: Vec<_> =
        peers.iter().map(|peer| (peer.engine, scratch.path(peer.engine).join("out.csv"))).collect();
    let result_rows =
        options.suite.check(&data.path, &scratch.path("pelton").join("out"), &results)?;

    let mut figures = vec![pelton];
    figures.extend_from_slice(peers);
    let (suite, rows, bytes) = (options.suite, options.rows, data.bytes);
    let outcome = Outcome { suite, rows, bytes, threads, result_rows, figures };
    record::table(&outcome, out).map_err(|error| Error::io("cannot print the table", error))?;
    if let Some(dir) = &options.record {
        eprintln!("recorded in {}", record::write(&outcome, options, dir)?.display());
    }
    Ok(outcome)
}
