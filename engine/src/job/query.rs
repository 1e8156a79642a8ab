//! `[query]` and `[checkpoint]`: the SQL, when results leave, where an epoch ends.

use super::paths;
use super::reader::{Choice, Reader, Refused, Section};
use super::spec::{CheckpointSpec, EpochLimits, OutputMode, Place, QuerySpec, Trigger};
use super::tree::Value;
use super::unit::{self, Fault};
use crate::checkpoint::Compression;

pub const QUERY_KEYS: &[&str] = &["sql", "mode", "trigger"];
pub const CHECKPOINT_KEYS: &[&str] =
    &["path", "interval", "max_epoch_bytes", "max_rows_per_epoch", "compression"];

const QUERY_FORM: &str = "write [query] and below it sql = \"SELECT … FROM …\"";

/// `has_steps`: `[[transform]]` stands in place of the SQL, which is filled in later.
pub fn read<'a>(
    r: &mut Reader,
    root: &Section<'a>,
    has_steps: bool,
) -> (Option<Section<'a>>, Option<QuerySpec>) {
    if has_steps && !root.has("query") {
        let (sql, sql_map) = Default::default();
        let (mode, trigger) = (OutputMode::Append, Trigger::Default);
        return (None, Some(QuerySpec { sql, sql_map, mode, trigger }));
    }
    if !r.present(root, "query", QUERY_FORM) {
        return (None, None);
    }
    let Some(entry) = root.get("query") else { return (None, None) };
    let mut refused: Vec<Refused> = Vec::new();
    if let Value::Table(table) = &entry.node.value {
        let named = table.entries.iter().filter(|e| matches!(e.node.value, Value::Table(_)));
        refused.extend(named.map(|e| Refused {
            key: e.key.clone(),
            what: "several queries in one job are not in this version".into(),
            fix: "write one job file a query".into(),
        }));
    }
    let section = r.open_entry("[query]".into(), entry, QUERY_KEYS, &refused);
    let named = !refused.is_empty();
    let spec = section.as_ref().and_then(|query| query_spec(r, query, (named, has_steps)));
    (section, spec)
}

/// `named`: there are queries with names, their finding is enough.
fn query_spec(
    r: &mut Reader,
    query: &Section,
    (named, has_steps): (bool, bool),
) -> Option<QuerySpec> {
    let modes = [
        ("append", Choice::Is(OutputMode::Append)),
        ("update", Choice::Is(OutputMode::Update)),
        ("complete", Choice::Is(OutputMode::Complete)),
        ("batch", Choice::Is(OutputMode::Batch)),
    ];
    let mode = r.choice(query, "mode", &modes).unwrap_or(OutputMode::Append);
    let form = match query.get("trigger").map(|entry| &entry.node.value) {
        Some(Value::Integer(n)) => format!("write \"{n}s\" for an interval"),
        _ => "write \"default\", \"5s\", \"available-now\" or \"once\"".into(),
    };
    let trigger = r.parsed(query, "trigger", trigger, "a text", &form).unwrap_or(Trigger::Default);
    if named && !query.has("sql") {
        return None;
    }
    if has_steps {
        if query.has("sql") {
            let what = "`sql` beside [[transform]]: steps before the SQL are not in this version";
            r.find(query.place("sql"), what, "write the steps in the SQL, or leave it out");
            return None;
        }
        let (sql, sql_map) = Default::default();
        return Some(QuerySpec { sql, sql_map, mode, trigger });
    }
    let sql = r.required(query, "sql", QUERY_FORM)?;
    Some(QuerySpec { sql: sql.value.clone(), sql_map: sql.map.clone(), mode, trigger })
}

fn trigger(text: &str) -> Result<Trigger, Fault> {
    match text.trim().to_lowercase().replace(['_', ' '], "-").as_str() {
        "default" => return Ok(Trigger::Default),
        "available-now" | "availablenow" => return Ok(Trigger::AvailableNow),
        "once" => return Ok(Trigger::Once),
        "" => return Err(Fault::all(text, "the trigger is empty", "write \"default\" or \"5s\"")),
        _ => {}
    }
    let trimmed = text.trim();
    if let Some(word) = trimmed.get(..CONTINUOUS.len())
        && word.eq_ignore_ascii_case(CONTINUOUS)
    {
        return continuous(text, trimmed[CONTINUOUS.len()..].trim());
    }
    if !text.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        let what = format!("no trigger {}", super::finding::quoted(text));
        let words = ["default", "available-now", "once"];
        let fix = super::finding::closest(text, words.into_iter()).map_or(
            "write \"default\", an interval as \"5s\", \"available-now\" or \"once\"".into(),
            |meant| format!("did you mean {meant:?}?"),
        );
        return Err(Fault::all(text, what, fix));
    }
    let interval = unit::duration(text)?;
    if interval.is_zero() {
        let what = "an interval of zero is no interval";
        return Err(Fault::all(text, what, "write \"default\": the next epoch at once"));
    }
    Ok(Trigger::Interval(interval))
}

const CONTINUOUS: &str = "continuous";

fn continuous(text: &str, every: &str) -> Result<Trigger, Fault> {
    const FORM: &str = "write \"continuous 5ms\"";
    if every.is_empty() {
        return Err(Fault::all(text, "a continuous trigger says how often", FORM));
    }
    match unit::duration(every) {
        Ok(every) if !every.is_zero() => Ok(Trigger::Continuous(every)),
        _ => Err(Fault::all(text, "this is no time for a continuous trigger", FORM)),
    }
}

/// The table where there is one, the path, and where epochs end.
pub fn checkpoint<'a>(
    r: &mut Reader,
    root: &Section<'a>,
) -> (Option<Section<'a>>, Option<CheckpointSpec>, EpochLimits) {
    let default = EpochLimits::default();
    let Some(entry) = root.get("checkpoint") else { return (None, None, default) };
    let section = r.open_entry("[checkpoint]".into(), entry, CHECKPOINT_KEYS, &[]);
    let Some(section) = section else { return (None, None, default) };
    let limits = EpochLimits {
        interval: r.span(&section, "interval").unwrap_or(default.interval),
        max_bytes: r.size(&section, "max_epoch_bytes").unwrap_or(default.max_bytes),
        max_rows: r.count(&section, "max_rows_per_epoch", 1),
    };
    let compressions = [
        ("lz4", Choice::Is(Compression::Lz4)),
        ("zstd", Choice::Is(Compression::Zstd)),
        ("none", Choice::Is(Compression::None)),
    ];
    let compression = r.choice(&section, "compression", &compressions).unwrap_or_default();
    let spec = section
        .has("path")
        .then(|| place(r, &section).map(|place| CheckpointSpec { place, compression }));
    (Some(section), spec.flatten(), limits)
}

/// A directory, or a bucket and perhaps a prefix in it.
fn place(r: &mut Reader, section: &Section) -> Option<Place> {
    let text = r.text(section, "path")?;
    let Some(rest) = text.value.strip_prefix("s3://") else {
        let fix = "write path = \"state/my-job\", a directory";
        return paths::path(r, section, "path", fix).map(Place::Directory);
    };
    let mut parts = rest.trim_end_matches('/').split('/');
    if parts.any(|part| part.is_empty() || part == "." || part == "..") {
        let fault = Fault::all(&text.value, "no bucket", "write path = \"s3://bucket/prefix\"");
        r.inside(text, fault);
        return None;
    }
    Some(Place::Bucket(text.value.trim_end_matches('/').to_owned()))
}
