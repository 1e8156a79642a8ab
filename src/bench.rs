//! `pelton bench`: measures this very program on a bundled suite.

use std::io::stdout;

use pelton_bench::Options;
use pelton_engine::error::{Error, Result};

use crate::{cli, kafka_bench};

pub fn run(args: &cli::Bench) -> Result<()> {
    if let cli::Suite::Kernels = args.suite {
        let (rounds, record) = (args.rounds as usize, args.record.as_deref());
        return pelton_bench::kernels::run(args.rows, rounds, record, &mut stdout())
            .map_err(of_bench);
    }
    let program = std::env::current_exe().map_err(|error| Error::Unavailable {
        what: format!("cannot find this program's own file: {error}"),
        fix: "run it by its path".to_string(),
    })?;
    let suite = match args.suite {
        cli::Suite::Sensors => pelton_bench::Suite::Sensors,
        cli::Suite::Words => pelton_bench::Suite::Words,
        cli::Suite::Events => {
            let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
            let record = args.record.as_deref();
            let (rows, seed) = (args.rows, args.seed);
            return pelton_bench::events::run(&program, rows, seed, &dir, record, &mut stdout())
                .map_err(of_bench);
        }
        // They have data of their own.
        cli::Suite::Checkpoint | cli::Suite::Spill => pelton_bench::Suite::Sensors,
        cli::Suite::Kafka => return kafka_bench::run(args, &program),
        cli::Suite::Kernels => unreachable!("it ran above"),
    };
    let mut options = Options::new(suite, program);
    options.rows = args.rows;
    options.seed = args.seed;
    options.rounds = args.rounds as usize;
    options.threads = args.threads.map(|threads| threads as usize);
    options.peers = args.peers;
    options.record = args.record.clone();
    if let Some(dir) = &args.dir {
        options.dir = dir.clone();
    }
    let out = &mut stdout();
    match args.suite {
        cli::Suite::Checkpoint => pelton_bench::checkpoint::run(&options, out),
        cli::Suite::Spill => pelton_bench::spill::run(&options, out),
        _ => pelton_bench::run(&options, out).map(drop),
    }
    .map_err(of_bench)
}

/// The same error with the exit code that it has everywhere else.
fn of_bench(error: pelton_bench::Error) -> Error {
    match error {
        pelton_bench::Error::Io { what, source } => Error::StateIo { what, source },
        pelton_bench::Error::Unavailable(what) => {
            Error::Unavailable { what, fix: "see `pelton bench --help`".to_string() }
        }
        other => Error::failed(other.to_string()),
    }
}
