//! A transactional producer that says what it is told to, also what no producer would: to show what a job makes
//! of what others leave behind.
//!
//! Invariant: one broker, which coordinates everything, and one request at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest, ProducerId, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::Broker;

/// Brokers with it take a transaction's rows without asking the coordinator (before KIP-890).
pub const UNVERIFIED: &str = "transaction.partition.verification.enable=false\n";

/// The first tells the coordinator of its partitions (KIP-890), the one before does not.
const PRODUCE: i16 = 12;
const PRODUCE_UNTOLD: i16 = 11;
const INIT: i16 = 5;
const FIND: i16 = 4;
const END_TXN: i16 = 5;
/// A transaction that is just being ended keeps others waiting for milliseconds.
const CONCURRENT_TRANSACTIONS: i16 = 51;
const COORDINATOR_LOADS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const ASKED_MAX: u32 = 1_000;
const AGAIN: Duration = Duration::from_millis(20);

pub struct Raw {
    stream: TcpStream,
    transactional_id: String,
    id: i64,
    epoch: i16,
}

impl Raw {
    /// Takes over a transactional id.
    pub fn new(broker: &Broker, transactional_id: &str) -> Raw {
        let mut raw = Raw::watching(broker, transactional_id);
        raw.init();
        raw
    }

    /// Takes nothing over.
    pub fn watching(broker: &Broker, transactional_id: &str) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", broker.port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP option");
        Raw { stream, transactional_id: transactional_id.to_owned(), id: -1, epoch: -1 }
    }

    /// Whether the coordinator knows the transactional id.
    pub fn is_known(&mut self) -> bool {
        let ask = DescribeTransactionsRequest::default().with_transactional_ids(vec![self.named()]);
        match self.call(&ask, 0).transaction_states[0].error_code {
            0 => true,
            TRANSACTIONAL_ID_NOT_FOUND => false,
            error => panic!("DescribeTransactions: error {error}"),
        }
    }

    /// A new epoch; what was open is aborted.
    pub fn init(&mut self) {
        let ask = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.named()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = loop {
            let answer = self.call(&ask, INIT);
            match answer.error_code {
                CONCURRENT_TRANSACTIONS => {}
                COORDINATOR_LOADS | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => self.find(),
                _ => break answer,
            }
            std::thread::sleep(AGAIN);
        };
        assert_eq!(answer.error_code, 0, "InitProducerId");
        (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
    }

    /// A broker becomes a coordinator when somebody asks for one.
    fn find(&mut self) {
        let ask = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![self.named().0]);
        self.call(&ask, FIND);
    }

    /// Takes over again and again until so many epochs are used; its id then.
    pub fn use_epochs(&mut self, up_to: i16) -> i64 {
        while self.epoch < up_to {
            self.init();
        }
        self.id
    }

    pub fn id(&self) -> i64 {
        self.id
    }

    /// A row in the running transaction.
    pub fn send(&mut self, topic: &str, partition: i32, value: &str) {
        self.produce(topic, partition, value, PRODUCE);
    }

    /// A row of a transaction of which the coordinator is not told: nobody will end it. The broker needs
    /// [`UNVERIFIED`].
    pub fn leave_hanging(&mut self, topic: &str, partition: i32, value: &str) {
        self.produce(topic, partition, value, PRODUCE_UNTOLD);
    }

    fn produce(&mut self, topic: &str, partition: i32, value: &str, version: i16) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let record = Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: self.id,
            producer_epoch: self.epoch,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: 0,
            timestamp: now.as_millis() as i64,
            key: None,
            value: Some(value.as_bytes().to_vec().into()),
            headers: Default::default(),
        };
        let mut batch = Vec::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, [&record], &options).expect("it can be encoded");
        let data =
            PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_data(vec![data]);
        let ask = ProduceRequest::default()
            .with_transactional_id(Some(self.named()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        for asked in 0.. {
            let answer = self.call(&ask, version);
            match answer.responses[0].partition_responses[0].error_code {
                0 => return,
                // A topic that was just made: the broker is told a moment later that it leads it.
                CONCURRENT_TRANSACTIONS | UNKNOWN_TOPIC | NOT_LEADER if asked < ASKED_MAX => {
                    std::thread::sleep(AGAIN);
                }
                error => panic!("Produce: error {error}"),
            }
        }
    }

    /// Commits or aborts the running transaction; the next has another epoch.
    pub fn end(&mut self, commits: bool) {
        let ask = EndTxnRequest::default()
            .with_transactional_id(self.named())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(commits);
        let answer = loop {
            let answer = self.call(&ask, END_TXN);
            if answer.error_code != CONCURRENT_TRANSACTIONS {
                break answer;
            }
            std::thread::sleep(AGAIN);
        };
        assert_eq!(answer.error_code, 0, "EndTxn");
        (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
    }

    fn named(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.transactional_id.clone()))
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let header =
            RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let mut bytes = vec![0; 4];
        header.encode(&mut bytes, R::header_version(version)).expect("it can be encoded");
        request.encode(&mut bytes, version).expect("it can be encoded");
        let length = (bytes.len() as u32 - 4).to_be_bytes();
        bytes[..4].copy_from_slice(&length);
        self.stream.write_all(&bytes).expect("the broker listens");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the broker answers");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).expect("the broker answers");
        let mut left = answer.as_slice();
        ResponseHeader::decode(&mut left, R::Response::header_version(version)).expect("a header");
        R::Response::decode(&mut left, version).expect("an answer")
    }
}
