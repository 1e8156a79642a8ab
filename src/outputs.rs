//! The outputs of a job: which rows each takes, and the steps that they take together.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use pelton_engine::epoch::{Finished, Restored};
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{JobSpec, OnError, SinkKind, SinkOf, SinkSpec};
use pelton_engine::plan::{self, Plan};
use pelton_engine::sink::console::{Console, ConsoleOptions};
use pelton_engine::sink::dead_letter::{dead_letter_schema, dead_letters, default_sink};
use pelton_engine::sink::file::FileSink;
use pelton_engine::sink::{self, Committed, Outcome, Sink, Staged};

use crate::retry;

/// Name under which the manifest keeps what the default sink of dead letters has staged.
const DEFAULT_DEAD_LETTERS: &str = "dead_letters";

pub struct Outputs {
    outputs: Vec<Output>,
    /// Rows of the running epoch were staged before its end.
    has_parts: bool,
}

struct Output {
    name: String,
    of: SinkOf,
    sink: Box<dyn Sink>,
}

impl Outputs {
    /// Opens every sink of the job, and the default one for dead letters where the job names none.
    ///
    /// Errors: those of the sinks; `Failed` where an output is ahead of the checkpoint.
    pub fn open(
        job: &JobSpec,
        plan: &Plan,
        restored: Option<&Restored>,
        attempt: &str,
    ) -> Result<Outputs> {
        let mut outputs = Vec::new();
        for spec in &job.sinks {
            let sink = sink_of(job, spec, plan, attempt)?;
            outputs.push(Output { name: spec.name.clone(), of: spec.of, sink });
        }
        let takes_letters = outputs.iter().any(|output| output.of == SinkOf::DeadLetters);
        if !takes_letters && matches!(job.source.on_error, OnError::DeadLetter | OnError::Null) {
            let checkpoint = job.checkpoint.as_ref().map(|checkpoint| checkpoint.path.as_path());
            let sink = default_sink(checkpoint, attempt.to_string(), Box::new(io::stderr()))?;
            let name = DEFAULT_DEAD_LETTERS.to_string();
            outputs.push(Output { name, of: SinkOf::DeadLetters, sink });
        }
        for output in &mut outputs {
            let restored = restored.map(|restored| sink::Restored {
                checkpoint: restored.committed.clone(),
                staged: restored.sinks.get(&output.name).cloned().unwrap_or_default(),
            });
            output.sink.open(restored.as_ref())?;
        }
        Ok(Outputs { outputs, has_parts: false })
    }

    /// Hands the first rows of an epoch over while it goes on.
    ///
    /// Errors: those of the sinks. A full disk is not waited for here: a sink that lost rows must get
    /// the epoch from its beginning, and nobody holds these rows any more; the job ends, and a
    /// restart reads them again.
    pub fn stage_part(&mut self, epoch: u64, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.has_parts = true;
        let takers = self.outputs.iter_mut().filter(|output| output.of == SinkOf::Rows);
        takers.map(|output| &mut output.sink).try_for_each(|sink| sink.stage(epoch, rows))
    }

    /// Hands an epoch's rows to the sinks and makes them durable there, not yet visible; waits where
    /// an output has no room. What the manifest must keep, by the sink's name.
    pub fn stage(&mut self, finished: &Finished) -> Result<BTreeMap<String, Staged>> {
        let letters = match finished.dead_letters.is_empty() {
            true => RecordBatch::new_empty(dead_letter_schema()),
            false => dead_letters(&finished.dead_letters),
        };
        let mut staged = BTreeMap::new();
        for Output { name, of, sink } in &mut self.outputs {
            let rows = match of {
                SinkOf::Rows => &finished.rows,
                SinkOf::DeadLetters => &letters,
            };
            if self.has_parts {
                // The rows before these cannot be staged again.
                sink.stage(finished.epoch, rows)?;
                staged.insert(name.clone(), sink.seal(finished.epoch)?);
                continue;
            }
            let sealed = retry::with_room(&format!("the output \"{name}\""), || {
                let sealed =
                    sink.stage(finished.epoch, rows).and_then(|()| sink.seal(finished.epoch));
                if sealed.is_err() {
                    // What a full disk keeps from being removed goes with the next attempt.
                    let _ = sink.discard();
                }
                sealed
            })?;
            staged.insert(name.clone(), sealed);
        }
        self.has_parts = false;
        Ok(staged)
    }

    /// Makes the epoch visible everywhere. It is committed already, so this is repeated until it
    /// succeeds.
    pub fn commit(&mut self, committed: &Committed) -> Result<()> {
        for Output { name, sink, .. } in &mut self.outputs {
            let what = format!("publishing to \"{name}\"");
            match retry::with_room(&what, || sink.commit(committed))? {
                Outcome::Committed => {}
                outcome @ (Outcome::Not | Outcome::Unknown | Outcome::Fenced) => {
                    return Err(Error::failed(format!(
                        "the output \"{name}\" answers {outcome:?} to epoch {}; start the job \
                         again: it publishes the epoch from the checkpoint",
                        committed.epoch
                    )));
                }
            }
        }
        Ok(())
    }
}

fn sink_of(job: &JobSpec, spec: &SinkSpec, plan: &Plan, attempt: &str) -> Result<Box<dyn Sink>> {
    let schema = match spec.of {
        SinkOf::DeadLetters => dead_letter_schema(),
        SinkOf::Rows => Arc::clone(&plan.output.schema),
    };
    Ok(match &spec.kind {
        SinkKind::Console { style, num_rows, truncate } => {
            let options = ConsoleOptions {
                style: *style,
                num_rows: *num_rows,
                truncate: *truncate,
                zone: plan::zone(&job.timezone).map_err(Error::failed)?,
            };
            Box::new(Console::new(stdout(), schema, options))
        }
        SinkKind::File { path, format } => {
            Box::new(FileSink::at(path, *format, attempt.to_string())?)
        }
    })
}

fn stdout() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}
