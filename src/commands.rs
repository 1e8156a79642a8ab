//! What each command of the command line does.

use std::io::{IsTerminal, stderr, stdout};

use pelton_engine::error::Result;
use pelton_engine::job::spec::{JobSpec, SourceKind, SourceSpec};
use pelton_engine::job::{self, JobText};
use pelton_engine::plan::{self, Query};
use pelton_hardware::{Core, Machine, Placement};
use pelton_ingest::runtime;
use serde_json::Value;

use crate::cli::{self, Cli, Command};
use crate::report::Style;
use crate::run::{self, Options};
use crate::{bench, demo, gpus, states};

pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run_job(&args),
        Command::Check(args) => check(&args),
        Command::Explain(args) => explain(&args),
        Command::Demo(args) => demo::run(args.rows, style(None)),
        Command::Bench(args) => bench::run(&args),
        Command::Hardware(args) => hardware(&args),
        Command::Checkpoint(command) => states::checkpoint(&command),
        Command::State(cli::State::Query(args)) => states::query(&args),
    }
}

fn run_job(args: &cli::Run) -> Result<()> {
    let (job, text) = job::read(args.job(), &args.overrides(), &variable)?;
    warn(&text);
    let plan = plan_of(&job, &text)?;
    let options = Options {
        style: style(args.progress),
        threads: args.threads(),
        accept_state_change: args.file.accept_state_change,
        from_checkpoint: args.from_checkpoint.clone(),
    };
    let summary = run::run(job, plan, &options)?;
    if options.style != Style::Off {
        eprintln!("pelton: {summary}");
    }
    Ok(())
}

fn check(args: &cli::JobFile) -> Result<()> {
    let (job, text) = job::read(&args.job, &args.overrides(), &variable)?;
    let plan = plan_of(&job, &text)?;
    warn(&text);
    states::check_change(&job, &plan, args.accept_state_change)?;
    let is_generated = |source: &SourceSpec| matches!(source.kind, SourceKind::Generate { .. });
    let generated: Vec<bool> = job.sources.iter().map(is_generated).collect();
    let mut advice = plan::explain::advice(&plan, &generated);
    for (at, source) in job.sources.iter().enumerate() {
        if plan.scans.iter().all(|scan| scan.source != at) {
            advice.push(format!("the query does not read the source {}", source.name));
        }
    }
    for advice in advice.iter().filter(|_| !plan::ends(&job)) {
        eprintln!("pelton: {}: note: {advice}", args.job.display());
    }
    println!("{}: fine", args.job.display());
    Ok(())
}

fn explain(args: &cli::JobFile) -> Result<()> {
    let (job, text) = job::read(&args.job, &args.overrides(), &variable)?;
    let plan = plan_of(&job, &text)?;
    warn(&text);
    let machine = Machine::discover();
    let cores = run::cores(&job, &machine, None)?;
    print!("{}", plan::explain::explain(&plan));
    let candidate = gpus::known(&job);
    print!("{}", plan::explain::device(&plan, job.device, &candidate, cores.len()));
    println!("\n{}", placement(&job, &plan, &cores));
    Ok(())
}

/// Which core reads what; a cluster that does not answer is told, and no reason to fail.
fn placement(job: &JobSpec, query: &Query, cores: &[Core]) -> String {
    let (mut kinds, mut names, mut shown) = (Vec::new(), Vec::new(), String::new());
    for scan in &query.scans {
        let source = &job.sources[scan.source];
        let kind = runtime::split_kind(&source.kind);
        let of_scan = match query.scans.len() {
            1 => String::new(),
            _ => format!("{}: ", source.name),
        };
        if !matches!(source.kind, SourceKind::Kafka(_)) {
            kinds.push(kind);
            names.push(of_scan);
            continue;
        }
        match runtime::partitions(&job.name, source) {
            Err(error) => {
                shown += &format!("{of_scan}partitions → cores: not known, as {error}\n");
            }
            Ok(partitions) => {
                kinds.extend(vec![kind; partitions.len()]);
                names.extend(partitions.iter().map(|name| format!("{of_scan}{name}: ")));
            }
        }
    }
    let placed = Placement::of(&kinds, cores).to_string();
    let lines = placed.lines().zip(names).map(|(line, name)| format!("{name}{line}\n"));
    lines.chain([shown]).collect()
}

fn hardware(args: &cli::Hardware) -> Result<()> {
    let machine = Machine::discover();
    let gpus = gpus::list(args.measure);
    match args.json {
        true => {
            let mut json: Value = serde_json::from_str(&pelton_hardware::report_json(&machine))
                .expect("the report is JSON");
            json["gpus"] = gpus::json(&gpus);
            println!("{json:#}");
        }
        false => print!("{}{}", pelton_hardware::report(&machine), gpus::text(&gpus)),
    }
    Ok(())
}

/// Plans a job that was read; every reason against it at its place in the file.
pub fn plan_of(job: &JobSpec, text: &JobText) -> Result<Query> {
    plan::plan(job).map_err(|findings| text.refuse(&findings))
}

fn warn(text: &JobText) {
    let warnings = text.render_warnings();
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn style(asked: Option<cli::Progress>) -> Style {
    match asked {
        Some(cli::Progress::Json) => Style::Json,
        Some(cli::Progress::Bar) => Style::Bar,
        Some(cli::Progress::Off) => Style::Off,
        // Rows on the same terminal would tear the bar.
        None if stderr().is_terminal() && !stdout().is_terminal() => Style::Bar,
        None => Style::Off,
    }
}
