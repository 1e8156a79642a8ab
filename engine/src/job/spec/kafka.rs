//! What a job says of Kafka.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// SEMANTICS 7.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSource {
    /// `host:port`.
    pub bootstrap_servers: Vec<String>,
    pub topics: Vec<String>,
    /// Where a job without a checkpoint begins.
    pub start: KafkaStart,
    /// Bounded: the read ends there.
    pub end: Option<KafkaEnd>,
    /// Of each topic; `None`: all of them, also those that are added later.
    pub partitions: Option<Vec<usize>>,
    /// Consumer group that is told of the offsets; `None`: the job's name.
    pub group: Option<String>,
    /// Tell the group after each commit.
    pub commit_offsets: bool,
    /// New partitions are looked for this often.
    pub discover_interval: Duration,
    pub client: KafkaClient,
    /// The schema's last columns, in this order.
    pub include: Vec<Included>,
    /// Settings of librdkafka that are not ours; only it takes them.
    pub properties: Vec<(String, Setting)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClient {
    /// Our own: no TLS, no SASL; as a sink no compression, and transactions v2 only.
    Native,
    Librdkafka,
}

/// What a message says beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Included {
    Topic,
    Partition,
    Offset,
    /// When it was made or appended, as the topic is set.
    Timestamp,
    /// As text.
    Key,
    /// Keys as text and values, in their order; NULL where there is none, as in Spark.
    Headers,
}

impl Included {
    pub fn data_type(self) -> DataType {
        match self {
            Included::Topic | Included::Key => DataType::Utf8,
            Included::Partition => DataType::Int32,
            Included::Offset => DataType::Int64,
            Included::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Included::Headers => {
                let header = DataType::Struct(Included::header_fields());
                DataType::List(Arc::new(Field::new("item", header, true)))
            }
        }
    }

    /// What a header is made of.
    pub fn header_fields() -> Fields {
        let key = Field::new("key", DataType::Utf8, true);
        Fields::from(vec![key, Field::new("value", DataType::Binary, true)])
    }
}

/// A value that may be a secret: the job names where it is, and whoever needs it looks there.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    Plain(String),
    /// A variable of the environment.
    Env(String),
    /// A file; one line feed at its end is no part of the value.
    File(PathBuf),
}

/// No value is ever shown.
impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Plain(_) => f.write_str("Plain"),
            Setting::Env(name) => write!(f, "Env({name:?})"),
            Setting::File(path) => write!(f, "File({path:?})"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaStart {
    Earliest,
    Latest,
    /// What the group has committed, once; earliest where it has nothing.
    Committed,
    /// Milliseconds since 1970: the first record that is not older.
    Timestamp(i64),
    /// (Topic, partition, offset); earliest where there is none.
    Offsets(Vec<(String, i32, i64)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaEnd {
    /// Where the log ends when the job starts.
    Latest,
    Timestamp(i64),
    /// Exclusive; the log's end where there is none.
    Offsets(Vec<(String, i32, i64)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaFormat {
    Csv,
    Json,
}

/// SEMANTICS 8.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSink {
    pub bootstrap_servers: Vec<String>,
    pub topic: String,
    /// Column whose text is the message's key.
    pub key: Option<String>,
    pub format: KafkaFormat,
    /// In one transaction with its epoch; else rows may come twice after a crash.
    pub exactly_once: bool,
    /// Topic of the records that say which epoch was the last.
    pub commits_topic: String,
    /// Partitions that were added to a topic are looked for this often.
    pub discover_interval: Duration,
    pub client: KafkaClient,
    /// Settings of librdkafka that are not ours.
    pub properties: Vec<(String, Setting)>,
}
