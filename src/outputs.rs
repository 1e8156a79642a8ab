//! The outputs that a job file asks for.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{JobSpec, OnError, SinkKind, SinkOf, SinkSpec, SourceSpec, Trigger};
use pelton_engine::outputs::{Output, Outputs};
use pelton_engine::plan::{self, Query};
use pelton_engine::sink::Sink;
use pelton_engine::sink::console::{Console, ConsoleOptions};
use pelton_engine::sink::dead_letter::{dead_letter_schema, default_sink};
use pelton_engine::sink::file::FileSink;
use pelton_ingest::kafka::sink::{AtLeastOnce, Transactional, Transactions};

use crate::interrupt;

/// Name under which the manifest keeps what the default sink of dead letters has staged.
const DEFAULT_DEAD_LETTERS: &str = "dead_letters";

/// Makes every sink of the job, and the default one for dead letters where the job names none.
///
/// Errors: those of the sinks.
pub fn outputs(job: &JobSpec, query: &Query, attempt: &str) -> Result<Outputs> {
    let mut outputs = Vec::new();
    let transactions = transactions(job);
    for spec in &job.sinks {
        let sink = sink_of(job, spec, query, (attempt, transactions.as_ref()))?;
        outputs.push(Output { name: spec.name.clone(), of: spec.of, sink });
    }
    let takes_letters = outputs.iter().any(|output| output.of == SinkOf::DeadLetters);
    let makes =
        |source: &SourceSpec| matches!(source.on_error, OnError::DeadLetter | OnError::Null);
    if !takes_letters && job.sources.iter().any(makes) {
        let checkpoint = job.checkpoint.as_ref().map(|checkpoint| &checkpoint.place);
        let sink = default_sink(checkpoint, attempt.to_string(), Box::new(io::stderr()))?;
        let name = DEFAULT_DEAD_LETTERS.to_string();
        outputs.push(Output { name, of: SinkOf::DeadLetters, sink });
    }
    Ok(Outputs::new(outputs))
}

/// The producer that all exactly-once Kafka sinks of the job share.
fn transactions(job: &JobSpec) -> Option<Arc<Mutex<Transactions>>> {
    let first = job.sinks.iter().find_map(|sink| match &sink.kind {
        SinkKind::Kafka(kafka) if kafka.exactly_once => Some(kafka),
        _ => None,
    });
    first.map(|kafka| Arc::new(Mutex::new(Transactions::new(&job.name, kafka))))
}

fn sink_of(
    job: &JobSpec,
    spec: &SinkSpec,
    query: &Query,
    (attempt, transactions): (&str, Option<&Arc<Mutex<Transactions>>>),
) -> Result<Box<dyn Sink>> {
    let schema = match spec.of {
        SinkOf::DeadLetters => dead_letter_schema(),
        SinkOf::Late => {
            let late = query.late_rows().expect("the plan keeps what a sink takes");
            Arc::clone(&late.schema)
        }
        SinkOf::Rows => Arc::clone(&query.output().schema),
    };
    Ok(match &spec.kind {
        SinkKind::Console { style, num_rows, truncate } => {
            let options = ConsoleOptions {
                style: *style,
                num_rows: *num_rows,
                truncate: *truncate,
                zone: plan::zone(&job.timezone).map_err(Error::failed)?,
                now_ms,
                interval_ms: match job.query.trigger {
                    Trigger::Interval(every) => every.as_millis() as u64,
                    _ => 1,
                },
                kept: job.kept.clone().unwrap_or_default(),
            };
            Box::new(Console::new(stdout(), schema, options))
        }
        SinkKind::File { path, format } => {
            Box::new(FileSink::at(path, *format, attempt.to_string())?)
        }
        SinkKind::Kafka(kafka) => match transactions {
            Some(shared) if kafka.exactly_once => {
                Box::new(Transactional::new(kafka, &schema, Arc::clone(shared))?)
            }
            _ => Box::new(AtLeastOnce::new(kafka.clone(), &schema, interrupt::asked)?),
        },
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

fn stdout() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}
