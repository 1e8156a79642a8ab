//! The command line as clap reads it; a wrong one ends with exit code 2.
//!
//! Flags that stand for a key of the job file become overrides, so that they are checked, and refused
//! with a place, like the key itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exactly-once windows over streams of rows: one program, one TOML file a job.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the job failed, 2 usage, 69 something is not there, \
                        74 state cannot be written, 78 the job is refused.\n\
                        Rows go to stdout; progress and messages go to stderr."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job: to its input's end, or until Ctrl-C, which commits a last epoch
    Run(Run),
    /// Check a job file: every fault with file, line, column and fix; nothing is touched
    Check(JobFile),
    /// Show what a job would do: its plan, the columns read, which core reads what
    Explain(JobFile),
    /// Show windows closing over generated rows; needs no file
    Demo(Demo),
    /// Measure a bundled suite on this machine and check its answer
    Bench(Bench),
    /// Show cores, caches, vector instructions, io_uring: what this machine offers and refuses
    Hardware(Hardware),
    /// Look at the checkpoints of a job, check every byte of them, drop an older one
    #[command(subcommand)]
    Checkpoint(Checkpoint),
    /// Ask the state in a checkpoint with SQL
    #[command(subcommand)]
    State(State),
}

#[derive(Debug, Subcommand)]
pub enum Checkpoint {
    /// A line a checkpoint: epoch, watermark, files, bytes, whether it is whole
    List(CheckpointPath),
    /// What a checkpoint's manifest says, as JSON
    Show(CheckpointAt),
    /// Read every file of every checkpoint and compare it with its hash; exit code 74 on a fault
    Verify(CheckpointPath),
    /// Remove the checkpoint of an epoch, if it is not the newest
    Drop(CheckpointDrop),
}

#[derive(Args, Debug)]
pub struct CheckpointPath {
    /// The [checkpoint] path of a job
    pub path: String,
}

#[derive(Args, Debug)]
pub struct CheckpointAt {
    /// The [checkpoint] path of a job
    pub path: String,
    /// Of which epoch [default: the newest]
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
}

#[derive(Args, Debug)]
pub struct CheckpointDrop {
    /// The [checkpoint] path of a job
    pub path: String,
    /// Of which epoch
    #[arg(long, value_name = "N")]
    pub epoch: u64,
}

#[derive(Debug, Subcommand)]
pub enum State {
    /// The rows of a query over the table `state`: its keys (windows as window_start, window_end)
    /// and its values
    Query(StateQuery),
}

#[derive(Args, Debug)]
pub struct StateQuery {
    /// The [checkpoint] path of a job
    pub path: String,
    /// As "SELECT * FROM state ORDER BY n DESC LIMIT 10"; without it the columns are told
    pub sql: Option<String>,
    /// The state after this epoch [default: the newest]
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
}

/// A job file, and what the command line changes in it.
#[derive(Args, Debug)]
pub struct JobFile {
    /// The job file (TOML)
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Set a key of the job file, as --set query.mode=update; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    sets: Vec<(String, String)>,
    /// Where the kernels run: auto, cpu or gpu (the key `device`)
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Go on from the state of a changed query, as far as it fits; `check` tells what becomes of it
    #[arg(long)]
    pub accept_state_change: bool,
}

impl JobFile {
    /// Keys that the command line sets, in the form that `job::read` takes; the last one wins.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let device = self.device.iter().map(|device| ("device".to_owned(), device.clone()));
        self.sets.iter().cloned().chain(device).collect()
    }
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub file: JobFile,
    /// Begin with the state of another job's checkpoint, the newest or that of an epoch
    #[arg(long, value_name = "PATH[@EPOCH]", value_parser = checkpoint_at)]
    pub from_checkpoint: Option<(String, Option<u64>)>,
    /// Read what is there now, in one epoch, and end (trigger = "once")
    #[arg(long)]
    once: bool,
    /// How to tell of progress on stderr [default: bar on a terminal, else off]
    #[arg(long, value_name = "STYLE")]
    pub progress: Option<Progress>,
    /// Use this many cores at most [default: all that the job may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

impl Run {
    pub fn job(&self) -> &std::path::Path {
        &self.file.job
    }

    pub fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = self.file.overrides();
        if self.once {
            overrides.push(("query.trigger".into(), "once".into()));
        }
        overrides
    }

    pub fn threads(&self) -> Option<usize> {
        self.threads.map(|threads| threads as usize)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A line that is drawn again
    Bar,
    /// Spark's StreamingQueryProgress, a line an epoch
    Json,
    Off,
}

#[derive(Args, Debug)]
pub struct Demo {
    /// Rows to generate [default: those of the built-in job]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Bench {
    /// Which suite
    #[arg(default_value = "sensors")]
    pub suite: Suite,
    /// Rows of input; 20 million sensor readings are about 960 MB
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Seed of the generated rows
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many times each engine runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Use this many cores [default: all that the process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Run DuckDB and Polars beside it, alternating (needs a Python that has them)
    #[arg(long)]
    pub peers: bool,
    /// Directory for the data, kept for the next time [default: pelton-bench in the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The broker that `kafka` measures; its topics stay there and are used again
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap_servers: Option<String>,
    /// Directory for a dated record of the figures
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Windows of ten seconds by device over CSV
    Sensors,
    /// Words counted over lines of text
    Words,
    /// What checkpoints cost, and how soon a killed job is back
    Checkpoint,
    /// Many times more state than `memory_limit` (10^8 groups in 1 GiB: `--rows 100000000`)
    Spill,
    /// Records from a broker: our client against librdkafka, and a whole exactly-once job
    Kafka,
    /// Event time: what eviction costs, whether the watermark bounds state, how soon a row is out
    Events,
    /// The kernels of one core against those of each GPU, by groups and columns: where a GPU pays
    Kernels,
}

#[derive(Args, Debug)]
pub struct Hardware {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Probe and measure every GPU anew, software ones as well
    #[arg(long)]
    pub measure: bool,
}

/// An `@` that no number follows is part of the path.
fn checkpoint_at(text: &str) -> Result<(String, Option<u64>), String> {
    if let Some((path, epoch)) = text.rsplit_once('@')
        && let Ok(epoch) = epoch.parse()
    {
        return Ok((path.into(), Some(epoch)));
    }
    Ok((text.into(), None))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("expected KEY=VALUE, as query.mode=update".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    fn run(args: &[&str]) -> Run {
        let args = ["pelton", "run", "j.toml"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}")).command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_of_a_job_become_overrides_and_the_last_one_wins() {
        let run =
            run(&["--set", "query.mode=update", "--once", "--device=cpu", "--set", "a.b= x=y"]);
        let overrides = run.overrides();
        let shown: Vec<_> = overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["query.mode=update", "a.b= x=y", "device=cpu", "query.trigger=once"]);
        assert_eq!(run.job(), std::path::Path::new("j.toml"));
    }

    #[test]
    fn a_checkpoint_is_named_by_its_path_and_perhaps_its_epoch() {
        for (text, path, epoch) in
            [("a/b", "a/b", None), ("a@12", "a", Some(12)), ("me@home/s", "me@home/s", None)]
        {
            let run = run(&["--from-checkpoint", text]);
            assert_eq!(run.from_checkpoint, Some((path.into(), epoch)), "{text}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for args in [
            &[][..],
            &["run"],
            &["rnu", "j.toml"],
            &["run", "j.toml", "--no-such-flag"],
            &["run", "j.toml", "--set", "mode"],
            &["run", "j.toml", "--set", "=update"],
            &["run", "j.toml", "--progress", "loud"],
            &["run", "j.toml", "--threads", "0"],
            &["bench", "sensor"],
            &["bench", "--rows", "0"],
            &["checkpoint", "drop", "state"],
            &["state", "query"],
        ] {
            let args: Vec<_> = std::iter::once("pelton").chain(args.iter().copied()).collect();
            let error = Cli::try_parse_from(&args).expect_err("it is wrong");
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
