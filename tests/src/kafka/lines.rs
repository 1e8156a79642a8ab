//! The smallest job over topics: each message is a line that passes through to files.

use super::Broker;
use crate::output;
use crate::program::Job;

/// A job over `topics`; further keys of its source and its checkpoint are whole lines.
pub fn lines(broker: &Broker, topics: &str, source: &str, checkpoint: &str) -> Job {
    Job::new(&format!(
        r#"name = "lines-{topics}"
[source.lines]
type = "kafka"
bootstrap_servers = "{}"
topics = "{topics}"
format = "text"
{source}
[query]
sql = "SELECT value FROM lines"
[sink.out]
type = "file"
path = "out"
format = "csv"
[checkpoint]
path = "state"
{checkpoint}"#,
        broker.servers()
    ))
}

/// The rows that such a job left, sorted.
pub fn rows(job: &Job) -> Vec<String> {
    let mut rows = match job.path("out").exists() {
        true => output::rows(&job.path("out"), "value"),
        false => Vec::new(),
    };
    rows.sort();
    rows
}
