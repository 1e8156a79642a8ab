//! The command line: reads a job, discovers the machine, wires source to sink, runs.

mod bench;
mod cli;
mod commands;
mod committer;
mod demo;
mod failpoint;
mod gpus;
mod interrupt;
mod kafka_bench;
mod lock;
mod memory;
mod outputs;
mod report;
mod retry;
mod rooms;
mod run;
mod states;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: memory::HugeBlocks = memory::HugeBlocks;

fn main() -> ExitCode {
    memory::keep_what_is_freed();
    let cli = cli::Cli::parse();
    match failpoint::listen().and_then(|()| commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.exit_code() != 0 {
                eprintln!("pelton: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
