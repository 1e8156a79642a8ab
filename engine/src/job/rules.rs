//! Rules across the tables of a job: each combination that cannot work, with its reason.

use arrow::datatypes::DataType;

use super::paths::{listed, normal};
use super::reader::{Reader, Section};
use super::sink::{Delivery, Sink};
use super::spec::{
    CheckpointSpec, OnError, OutputMode, QuerySpec, SinkKind, SinkOf, SourceKind, SourceSpec,
    Trigger,
};

/// What was read so far; what is missing has its finding already.
pub struct Parts<'p, 'a> {
    pub sources: &'p [(Section<'a>, SourceSpec)],
    pub root: &'p Section<'a>,
    pub query_table: Option<&'p Section<'a>>,
    pub query: Option<&'p QuerySpec>,
    pub sinks: &'p [Sink<'a>],
    pub checkpoint_table: Option<&'p Section<'a>>,
    pub checkpoint: Option<&'p CheckpointSpec>,
    /// The job has `[[transform]]` steps.
    pub has_steps: bool,
}

pub fn check(r: &mut Reader, parts: &Parts) {
    several_sources(r, parts);
    log_needs_a_disk(r, parts);
    interval_trigger(r, parts);
    endless_input(r, parts);
    file_sinks_append(r, parts);
    sinks_get_rows(r, parts);
    delivery(r, parts);
    one_transaction(r, parts);
    original_data(r, parts);
    directories(r, parts);
    dead_letters(r, parts);
}

/// What goes with one source alone; what all must have in common.
fn several_sources(r: &mut Reader, parts: &Parts) {
    let [(_, first), (second, _), ..] = parts.sources else { return };
    if parts.has_steps {
        let what = "[[transform]] beside several sources is not in this version";
        r.find(parts.root.place("transform"), what, "write the steps as SQL, in [query] sql");
    }
    late_sink(r, parts);
    let rule = |source: &SourceSpec| source.watermark.as_ref().map(|watermark| watermark.late);
    let all: Vec<_> = parts.sources.iter().filter_map(|(_, source)| rule(source)).collect();
    if all.windows(2).any(|pair| pair[0] != pair[1]) {
        let what = "a job has one rule for late rows: `late` must be equal in all watermarks";
        r.find(second.place("watermark"), what, "write the same `late` in each");
    }
    let stdin = |kind: &SourceKind| matches!(kind, SourceKind::Stdin);
    let mut of_stdin = parts.sources.iter().filter(|(_, source)| stdin(&source.kind));
    if let (Some(_), Some((section, _))) = (of_stdin.next(), of_stdin.next()) {
        let what = format!("{} and another source read stdin, which is one", section.name);
        r.find(
            section.place("type"),
            what,
            format!("keep one, for example [source.{}]", first.name),
        );
    }
}

/// Late rows of all sources go to one sink, in the form in which they came.
fn late_sink(r: &mut Reader, parts: &Parts) {
    let Some(((_, first), others)) = parts.sources.split_first() else { return };
    let columns = |source: &SourceSpec| -> Vec<(String, DataType)> {
        let columns = source.schema.iter();
        columns.map(|column| (column.name.clone(), column.data_type.clone())).collect()
    };
    let differs = |(_, source): &&(Section, SourceSpec)| columns(source) != columns(first);
    let Some((_, other)) = others.iter().find(differs) else { return };
    for sink in parts.sinks.iter().filter(|sink| sink.spec.of == SinkOf::Late) {
        let what = format!(
            "late rows leave as they came, and {} has other columns than {}",
            other.name, first.name
        );
        let fix = "give all sources one schema, or remove the sink: late rows are counted";
        r.find(sink.section.place("of"), what, fix);
    }
}

/// What a stream brings is kept in a log, and an object store has no files that grow.
fn log_needs_a_disk(r: &mut Reader, parts: &Parts) {
    let (Some(checkpoint), Some(table)) = (parts.checkpoint, parts.checkpoint_table) else {
        return;
    };
    let of_stream =
        |source: &SourceSpec| matches!(source.kind, SourceKind::Socket { .. } | SourceKind::Stdin);
    let is_stream = parts.sources.iter().any(|(_, source)| of_stream(source));
    if is_stream && checkpoint.place.directory().is_none() {
        r.find(
            table.place("path"),
            "rows of a socket or of stdin go through a write-ahead log, which a bucket cannot hold",
            "write path = \"state/my-job\", a directory on this machine",
        );
    }
}

fn interval_trigger(r: &mut Reader, parts: &Parts) {
    let (Some(query), Some(table)) = (parts.query, parts.checkpoint_table) else { return };
    let (keys, name): (&[&str], _) = match query.trigger {
        Trigger::Interval(_) => (&["interval", "max_epoch_bytes"], "an interval trigger"),
        Trigger::Continuous(_) => (&["interval"], "a continuous trigger"),
        _ => return,
    };
    for key in keys {
        if table.has(key) {
            r.find(
                table.place(key),
                format!("`{key}` beside {name}: the trigger alone ends an epoch"),
                format!("remove `{key}`, or write trigger = \"default\""),
            );
        }
    }
}

/// SEMANTICS 5: "all that is there at the start" must be something.
fn endless_input(r: &mut Reader, parts: &Parts) {
    let (Some(query), Some(table)) = (parts.query, parts.query_table) else { return };
    let name = match query.trigger {
        Trigger::Once => "once",
        Trigger::AvailableNow => "available-now",
        _ => return,
    };
    let fault = |(_, source): &(Section, SourceSpec)| match source.kind {
        SourceKind::Socket { .. } => {
            Some(("a socket holds nothing when the job starts", "leave `trigger` and --once out"))
        }
        SourceKind::Generate { rows: None, .. } => {
            Some(("the generator without `rows` never ends", "give the source a number of `rows`"))
        }
        _ => None,
    };
    let Some((what, fix)) = parts.sources.iter().find_map(fault) else { return };
    let what = format!("trigger \"{name}\" reads what is there at the start: {what}");
    r.find(table.place("trigger"), what, fix);
}

/// A file, once written, is never changed: it can only hold rows that are final.
fn file_sinks_append(r: &mut Reader, parts: &Parts) {
    let (Some(query), Some(table)) = (parts.query, parts.query_table) else { return };
    let mode = match query.mode {
        OutputMode::Update => "update",
        OutputMode::Complete => "complete",
        OutputMode::Append | OutputMode::Batch => return,
    };
    let file = |sink: &&Sink| {
        sink.spec.of == SinkOf::Rows && matches!(sink.spec.kind, SinkKind::File { .. })
    };
    if let Some(sink) = parts.sinks.iter().find(file) {
        r.find(
            table.place("mode"),
            format!(
                "mode \"{mode}\" changes rows that have left, the file sink {} cannot take that back",
                sink.section.name
            ),
            "write mode = \"append\" or \"batch\", or let a console sink take the rows",
        );
    }
}

fn sinks_get_rows(r: &mut Reader, parts: &Parts) {
    if parts.sources.is_empty() {
        return;
    }
    let all = |is_so: fn(&SourceSpec) -> bool| parts.sources.iter().all(|(_, s)| is_so(s));
    for sink in parts.sinks {
        let (what, fix) = match sink.spec.of {
            SinkOf::Late if all(|source| source.watermark.is_none()) => {
                ("without a watermark no row is late", "give the source a watermark")
            }
            SinkOf::DeadLetters if all(|source| source.on_error != OnError::DeadLetter) => {
                ("this `on_error` makes no dead letters", "write on_error = \"dead_letter\"")
            }
            _ => continue,
        };
        let what = format!("{} would never get a row: {what}", sink.section.name);
        r.find(sink.section.place("of"), what, fix);
    }
}

fn delivery(r: &mut Reader, parts: &Parts) {
    for sink in parts.sinks.iter().filter(|s| s.delivery == Some(Delivery::ExactlyOnce)) {
        let place = sink.section.place("delivery");
        match sink.spec.kind {
            SinkKind::Console { .. } => r.find(
                place,
                "a console cannot take back what it printed: it is at least once",
                "remove `delivery`",
            ),
            SinkKind::File { .. } | SinkKind::Kafka(_) if parts.checkpoint.is_none() => r.find(
                place,
                "exactly once needs a checkpoint: after a crash nobody knows what was written",
                "write [checkpoint] and below it path = \"state/my-job\"",
            ),
            SinkKind::File { .. } | SinkKind::Kafka(_) => {}
        }
    }
}

/// The style that shows rows before and after needs steps between, and gets all columns.
fn original_data(r: &mut Reader, parts: &Parts) {
    let of_rows = || parts.sinks.iter().filter(|sink| sink.spec.of == SinkOf::Rows);
    let Some(shown) = of_rows().find(|sink| super::sink::shows_original(&sink.spec)) else {
        return;
    };
    let what = if !parts.has_steps {
        "the style \"original_processed\" shows rows before and after [[transform]], and there is none"
    } else if of_rows().count() > 1 {
        "beside the style \"original_processed\" no other sink takes rows in this version"
    } else {
        return;
    };
    r.find(shown.section.place("style"), what, "write style = \"spark\" or \"json\"");
}

/// An epoch has one commit point: one producer, one cluster, one topic of markers (SEMANTICS 8).
fn one_transaction(r: &mut Reader, parts: &Parts) {
    let exact = |sink: &&Sink| sink.delivery != Some(Delivery::AtLeastOnce);
    let mut first = None;
    for sink in parts.sinks.iter().filter(exact) {
        let SinkKind::Kafka(kafka) = &sink.spec.kind else { continue };
        let to = (&kafka.bootstrap_servers, &kafka.commits_topic);
        let cluster = (to, kafka.client, &kafka.properties, kafka.discover_interval);
        if *first.get_or_insert(cluster) != cluster {
            let what = "the exactly-once Kafka sinks of a job share one producer: \
                        `bootstrap_servers`, `commits_topic`, `client`, `properties` and \
                        `discover_interval` must be equal";
            let fix = "make them equal, or write delivery = \"at_least_once\" here";
            r.find(sink.section.at.clone(), what, fix);
        }
    }
}

/// No directory serves two purposes.
fn directories(r: &mut Reader, parts: &Parts) {
    let read = parts.sources.iter().filter_map(|(_, source)| match &source.kind {
        SourceKind::File { path, .. } => Some(listed(path)),
        _ => None,
    });
    let read: Vec<_> = read.collect();
    let state = parts.checkpoint.and_then(|checkpoint| checkpoint.place.directory()).map(normal);
    let mut taken = Vec::new();
    for sink in parts.sinks {
        let SinkKind::File { path, .. } = &sink.spec.kind else { continue };
        let path = normal(path);
        let what = if read.contains(&path) {
            "the source reads this path: it would read what the sink writes"
        } else if Some(&path) == state.as_ref() {
            "the checkpoint is kept in this directory"
        } else if taken.contains(&path) {
            "another sink writes to this directory"
        } else {
            taken.push(path);
            continue;
        };
        r.find(sink.section.place("path"), what, "give the sink a directory of its own");
    }
    let is_read = state.as_ref().is_some_and(|state| read.contains(state));
    if let (Some(table), true) = (parts.checkpoint_table, is_read) {
        let what = "the source reads this path: it would read the checkpoint";
        r.find(table.place("path"), what, "give the checkpoint a directory of its own");
    }
}

/// SEMANTICS 9: dead letters that nobody keeps are legal, and told.
fn dead_letters(r: &mut Reader, parts: &Parts) {
    let makes = |(_, source): &&(Section, SourceSpec)| source.on_error == OnError::DeadLetter;
    let Some((table, _)) = parts.sources.iter().find(makes) else { return };
    let kept = parts.checkpoint.is_some()
        || parts.sinks.iter().any(|sink| sink.spec.of == SinkOf::DeadLetters);
    if !kept {
        r.warnings.push(super::finding::Finding {
            at: table.place("on_error"),
            what: "rows that cannot be read are shown on stderr, the first ones, and then only counted".into(),
            fix: "a [checkpoint] path or a sink with of = \"dead_letters\" keeps them; on_error = \"skip\" says that they may go".into(),
        });
    }
}
