//! The keys of a Kafka source and of a Kafka sink.

use std::time::Duration;

use super::columns::column;
use super::reader::{Choice, Reader, Section};
use super::spec::{
    Column, Included, KafkaClient, KafkaEnd, KafkaFormat, KafkaSink, KafkaSource, KafkaStart,
    Setting, TimeFormat,
};
use super::tree::{Entry, Table, Value};
use super::unit;

pub const KEYS: &[&str] = &[
    "bootstrap_servers",
    "topics",
    "start",
    "end",
    "partitions",
    "group",
    "offsets_topic_commit",
    "discover_interval",
    "client",
    "on_data_loss",
    "include",
    "properties",
];

pub const SINK_KEYS: &[&str] = &[
    "bootstrap_servers",
    "topic",
    "key",
    "format",
    "commits_topic",
    "discover_interval",
    "client",
    "properties",
];

/// Settings that a source makes itself, as its offsets rest on them.
const OWN_SOURCE_PROPERTIES: &[&str] = &[
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "client.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "log_level",
    "metadata.broker.list",
];

/// Settings that a sink makes itself, as exactly-once rests on them.
const OWN_PROPERTIES: &[&str] = &[
    "acks",
    "bootstrap.servers",
    "client.id",
    "enable.idempotence",
    "log_level",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transaction.timeout.ms",
    "transactional.id",
];

/// As often as Kafka's own clients look by default is every five minutes; a partition that nobody
/// reads for so long is a surprise.
const DISCOVER_INTERVAL: Duration = Duration::from_secs(30);
/// A partition to which nobody writes for a while costs nothing: as Kafka's own clients
/// (`metadata.max.age.ms`).
const SINK_DISCOVER_INTERVAL: Duration = Duration::from_secs(300);
/// Kafka's bound on a topic's name.
const TOPIC_BYTES_MAX: usize = 249;

const INCLUDED: [(&str, Included); 6] = [
    ("topic", Included::Topic),
    ("partition", Included::Partition),
    ("offset", Included::Offset),
    ("timestamp", Included::Timestamp),
    ("key", Included::Key),
    ("headers", Included::Headers),
];

const START_FORM: &str = "write \"earliest\", \"latest\", \"committed\", { timestamp = \"2024-05-01T00:00:00Z\" } or { offsets = { \"0\" = 17 } }";
const END_FORM: &str =
    "write \"latest\", { timestamp = \"2024-05-01T00:00:00Z\" } or { offsets = { \"0\" = 17 } }";

/// What `start` and `end` have in common.
enum Place {
    Timestamp(i64),
    Offsets(Vec<(String, i32, i64)>),
}

pub fn read(r: &mut Reader, s: &Section) -> Option<KafkaSource> {
    let bootstrap_servers = servers(r, s);
    let topics = topics(r, s);
    let names = topics.clone().unwrap_or_default();
    let start = start(r, s, &names).unwrap_or(KafkaStart::Earliest);
    let end = end(r, s, &names);
    let expected = "a set of partitions in quotes";
    let partitions = r.parsed(s, "partitions", unit::cores, expected, "write \"0-7\" or \"0,3\"");
    let group = match s.has("group") {
        true => r
            .required(s, "group", "write group = \"my-group\", or leave it out")
            .map(|g| g.value.clone()),
        false => None,
    };
    let commit_offsets = r.boolean(s, "offsets_topic_commit").unwrap_or(true);
    let discover_interval = r.span(s, "discover_interval").unwrap_or(DISCOVER_INTERVAL);
    let include = include(r, s);
    let properties = properties(r, s, OWN_SOURCE_PROPERTIES);
    let client = client(r, s, properties.as_deref().unwrap_or_default());
    r.choice(
        s,
        "on_data_loss",
        &[
            ("fail", Choice::Is(())),
            (
                "ignore",
                Choice::Later("passing over lost records is not in this version", "write \"fail\""),
            ),
        ],
    );
    Some(KafkaSource {
        bootstrap_servers: bootstrap_servers?,
        topics: topics?,
        start,
        end,
        partitions,
        group,
        commit_offsets,
        discover_interval,
        client,
        include,
        properties: properties?,
    })
}

/// `include = ["key", "offset"]`: columns behind those of the text.
fn include(r: &mut Reader, s: &Section) -> Vec<Included> {
    const FIX: &str = "write include = [\"topic\", \"partition\", \"offset\", \"timestamp\", \"key\", \"headers\"]";
    let mut include = Vec::new();
    if !s.has("include") {
        return include;
    }
    for name in r.texts(s, "include").unwrap_or_default() {
        let what = match INCLUDED.iter().find(|(word, _)| *word == name) {
            Some((_, of)) if !include.contains(of) => {
                include.push(*of);
                continue;
            }
            Some(_) => format!("\"{name}\" is included twice"),
            None => format!("\"{}\" cannot be included", name.escape_default()),
        };
        r.find(s.place("include"), what, FIX);
    }
    include
}

/// Puts the columns of a message's facts behind those of its text.
pub fn append(r: &mut Reader, s: &Section, include: &[Included], schema: &mut Vec<Column>) {
    for included in include {
        let word = INCLUDED.iter().find(|(_, of)| of == included);
        let (name, _) = word.expect("it was read by its word");
        if schema.iter().any(|column| column.name.eq_ignore_ascii_case(name)) {
            let what = format!("`include` and `schema` both have a column \"{name}\"");
            r.find(s.place("include"), what, "rename the column of the schema, or leave one out");
        }
        schema.push(column(name, included.data_type(), TimeFormat::Iso, false));
    }
}

/// Our own client where it can: it has no TLS, no SASL, and takes none of librdkafka's settings.
fn client(r: &mut Reader, s: &Section, properties: &[(String, Setting)]) -> KafkaClient {
    let clients = [
        ("native", Choice::Is(KafkaClient::Native)),
        ("rdkafka", Choice::Is(KafkaClient::Librdkafka)),
    ];
    let asked = r.choice(s, "client", &clients);
    if asked == Some(KafkaClient::Native) && !properties.is_empty() {
        let what = "the native client takes no settings of librdkafka";
        r.find(s.place("properties"), what, "remove `client`, or write client = \"rdkafka\"");
    }
    let own = if properties.is_empty() { KafkaClient::Native } else { KafkaClient::Librdkafka };
    asked.unwrap_or(own)
}

/// `exactly_once` is the caller's to say.
pub fn sink(r: &mut Reader, s: &Section) -> Option<KafkaSink> {
    let bootstrap_servers = servers(r, s);
    let topic = topic(r, s, "topic", "write topic = \"averages\"");
    let key = r.text(s, "key").map(|key| key.value.clone());
    let formats = [("csv", Choice::Is(KafkaFormat::Csv)), ("json", Choice::Is(KafkaFormat::Json))];
    let format = r.choice(s, "format", &formats).unwrap_or(KafkaFormat::Csv);
    let commits_topic = match s.has("commits_topic") {
        true => topic_or(r, s),
        false => Some("pelton-commits".to_owned()),
    };
    let discover_interval = r.span(s, "discover_interval").unwrap_or(SINK_DISCOVER_INTERVAL);
    let properties = properties(r, s, OWN_PROPERTIES);
    let client = client(r, s, properties.as_deref().unwrap_or_default());
    Some(KafkaSink {
        bootstrap_servers: bootstrap_servers?,
        topic: topic?,
        key,
        format,
        exactly_once: true,
        commits_topic: commits_topic?,
        discover_interval,
        client,
        properties: properties?,
    })
}

fn topic_or(r: &mut Reader, s: &Section) -> Option<String> {
    topic(r, s, "commits_topic", "write commits_topic = \"pelton-commits\", or leave it out")
}

fn topic(r: &mut Reader, s: &Section, key: &str, fix: &str) -> Option<String> {
    let topic = r.required(s, key, fix)?.value.clone();
    if !is_topic(&topic) {
        let what = format!("\"{}\" cannot name a topic", topic.escape_default());
        r.find(s.place(key), what, "letters, digits, '.', '_' and '-' make a topic's name");
        return None;
    }
    Some(topic)
}

/// `[sink.NAME.properties]`: texts by the names that librdkafka gives them.
fn properties(r: &mut Reader, s: &Section, own: &[&str]) -> Option<Vec<(String, Setting)>> {
    const FORM: &str = "write properties = { \"compression.type\" = \"lz4\" }";
    let Some(entry) = s.get("properties") else { return Some(Vec::new()) };
    let Value::Table(table) = &entry.node.value else {
        return r.wrong(entry, "a table of librdkafka's settings", FORM);
    };
    let mut properties = Vec::new();
    for entry in &table.entries {
        if own.contains(&entry.key.as_str()) {
            let what = format!("`{}` is set by Pelton itself", entry.key);
            r.find(entry.key_at.clone(), what, "remove it");
            return None;
        }
        properties.push((entry.key.clone(), setting(r, entry)?));
    }
    Some(properties)
}

/// A value, or `{ env = "NAME" }` or `{ file = "PATH" }`: where a secret is.
fn setting(r: &mut Reader, entry: &Entry) -> Option<Setting> {
    const FORM: &str = "write a text, { env = \"NAME\" } or { file = \"PATH\" }";
    let table = match &entry.node.value {
        Value::Text(text) => return Some(Setting::Plain(text.value.clone())),
        Value::Integer(number) => return Some(Setting::Plain(number.to_string())),
        Value::Boolean(value) => return Some(Setting::Plain(value.to_string())),
        Value::Table(table) => table,
        _ => return r.wrong(entry, "a text", FORM),
    };
    let [place] = table.entries.as_slice() else { return r.wrong(entry, "one place", FORM) };
    match (place.key.as_str(), &place.node.value) {
        ("env", Value::Text(name)) if !name.value.is_empty() => {
            Some(Setting::Env(name.value.clone()))
        }
        ("file", Value::Text(path)) if !path.value.is_empty() => {
            Some(Setting::File(r.dir.join(&path.value)))
        }
        _ => r.wrong(entry, "where a secret is", FORM),
    }
}

/// `host:port`, several in a list or behind commas.
pub fn servers(r: &mut Reader, s: &Section) -> Option<Vec<String>> {
    const FIX: &str = "write bootstrap_servers = \"localhost:9092\"";
    if !r.present(s, "bootstrap_servers", FIX) {
        return None;
    }
    let texts = r.texts(s, "bootstrap_servers")?;
    let servers: Vec<String> = texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(|server| server.trim().to_owned())
        .filter(|server| !server.is_empty())
        .collect();
    if servers.is_empty() {
        r.find(s.place("bootstrap_servers"), "`bootstrap_servers` names no server", FIX);
        return None;
    }
    for server in &servers {
        if let Err(fault) = unit::address(server) {
            r.find(s.place("bootstrap_servers"), fault.what, fault.fix);
            return None;
        }
    }
    Some(servers)
}

/// Whether Kafka would take it as a topic's name.
pub fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=TOPIC_BYTES_MAX).contains(&name.len())
        && name.chars().all(legal)
        && name != "."
        && name != ".."
}

fn topics(r: &mut Reader, s: &Section) -> Option<Vec<String>> {
    const FIX: &str = "write topics = [\"sensors\"]";
    if !r.present(s, "topics", FIX) {
        return None;
    }
    let topics = r.texts(s, "topics")?;
    if topics.is_empty() {
        r.find(s.place("topics"), "`topics` names no topic", FIX);
        return None;
    }
    for (at, topic) in topics.iter().enumerate() {
        let what = if !is_topic(topic) {
            format!("\"{}\" cannot name a topic", topic.escape_default())
        } else if topics[..at].contains(topic) {
            format!("topic \"{topic}\" is named twice")
        } else {
            continue;
        };
        r.find(s.place("topics"), what, "letters, digits, '.', '_' and '-' make a topic's name");
        return None;
    }
    Some(topics)
}

fn start(r: &mut Reader, s: &Section, topics: &[String]) -> Option<KafkaStart> {
    let entry = s.get("start")?;
    if let Value::Table(table) = &entry.node.value {
        return Some(match place(r, entry, table, topics, START_FORM)? {
            Place::Timestamp(ms) => KafkaStart::Timestamp(ms),
            Place::Offsets(offsets) => KafkaStart::Offsets(offsets),
        });
    }
    let words = [("earliest", 0), ("latest", 1), ("committed", 2)];
    let words = words.map(|(word, which)| (word, Choice::Is(which)));
    match r.choice(s, "start", &words)? {
        0 => Some(KafkaStart::Earliest),
        1 => Some(KafkaStart::Latest),
        _ => Some(KafkaStart::Committed),
    }
}

fn end(r: &mut Reader, s: &Section, topics: &[String]) -> Option<KafkaEnd> {
    let entry = s.get("end")?;
    if let Value::Table(table) = &entry.node.value {
        return Some(match place(r, entry, table, topics, END_FORM)? {
            Place::Timestamp(ms) => KafkaEnd::Timestamp(ms),
            Place::Offsets(offsets) => KafkaEnd::Offsets(offsets),
        });
    }
    r.choice(s, "end", &[("latest", Choice::Is(()))]).map(|()| KafkaEnd::Latest)
}

fn place(
    r: &mut Reader,
    entry: &Entry,
    table: &Table,
    topics: &[String],
    form: &str,
) -> Option<Place> {
    let [inner] = table.entries.as_slice() else {
        return r.wrong(entry, "one place", form);
    };
    match (inner.key.as_str(), &inner.node.value) {
        ("timestamp", Value::Integer(ms)) => Some(Place::Timestamp(*ms)),
        ("timestamp", Value::Text(text)) => match text.value.parse::<jiff::Timestamp>() {
            Ok(time) => Some(Place::Timestamp(time.as_millisecond())),
            Err(_) => r.wrong(inner, "a time with its zone, or milliseconds since 1970", form),
        },
        ("offsets", Value::Table(offsets)) => {
            let read = |entry| offset(r, entry, topics, form);
            let offsets: Vec<_> = offsets.entries.iter().map(read).collect();
            offsets.into_iter().collect::<Option<Vec<_>>>().map(Place::Offsets)
        }
        _ => r.wrong(entry, "a timestamp or offsets", form),
    }
}

/// `"3" = 17`, or `"sensors/3" = 17` where there are several topics.
fn offset(
    r: &mut Reader,
    entry: &Entry,
    topics: &[String],
    form: &str,
) -> Option<(String, i32, i64)> {
    let (topic, partition) = match (entry.key.rsplit_once('/'), topics) {
        (Some((topic, partition)), _) => (topic, partition),
        (None, [topic]) => (topic.as_str(), entry.key.as_str()),
        (None, _) => {
            let what = format!("`{}` names no topic, and there are several", entry.key);
            r.find(entry.key_at.clone(), what, "write \"TOPIC/PARTITION\" = OFFSET");
            return None;
        }
    };
    let known = topics.iter().any(|known| known == topic);
    let partition = partition.parse::<i32>().ok().filter(|&partition| partition >= 0 && known);
    let Some(partition) = partition else {
        let what = format!("`{}` is no partition of `topics`", entry.key);
        r.find(entry.key_at.clone(), what, form);
        return None;
    };
    match entry.node.value {
        Value::Integer(offset @ 0..) => Some((topic.to_owned(), partition, offset)),
        _ => r.wrong(entry, "an offset, a whole number from 0 on", form),
    }
}
