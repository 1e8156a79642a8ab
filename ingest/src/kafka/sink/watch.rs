//! What librdkafka says beside its calls: failed deliveries, lost connections.

use std::sync::Mutex;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::through_librdkafka::is_fenced_code;

/// What librdkafka says beside the calls: failed deliveries, lost connections.
#[derive(Default)]
pub struct Watch(Mutex<Said>);

#[derive(Default)]
struct Said {
    failed: Option<(RDKafkaErrorCode, String)>,
    disturbed: bool,
}

impl Watch {
    pub fn begin(&self) {
        *self.0.lock().expect("no holder panics") = Said::default();
    }

    /// No request can have been sent twice or lost.
    pub fn is_quiet(&self) -> bool {
        let said = self.0.lock().expect("no holder panics");
        !said.disturbed && said.failed.is_none()
    }

    /// Why a message was not delivered.
    pub fn failed(&self) -> Option<String> {
        let said = self.0.lock().expect("no holder panics");
        said.failed.as_ref().map(|(_, why)| why.clone())
    }

    pub fn fenced(&self) -> bool {
        let said = self.0.lock().expect("no holder panics");
        said.failed.as_ref().is_some_and(|(code, _)| is_fenced_code(*code))
    }

    /// A reason that will be there the next time, too (F14).
    pub fn permanent(&self) -> Option<String> {
        use RDKafkaErrorCode::{
            ClusterAuthorizationFailed, InvalidMessageSize, MessageSizeTooLarge,
            TopicAuthorizationFailed, TransactionalIdAuthorizationFailed, UnknownTopic,
            UnknownTopicOrPartition,
        };
        let said = self.0.lock().expect("no holder panics");
        let (code, why) = said.failed.as_ref()?;
        let permanent = matches!(
            code,
            MessageSizeTooLarge
                | InvalidMessageSize
                | TopicAuthorizationFailed
                | ClusterAuthorizationFailed
                | TransactionalIdAuthorizationFailed
                | UnknownTopic
                | UnknownTopicOrPartition
        );
        permanent.then(|| why.clone())
    }

    /// The first failure counts, but for messages that were purged: something else came before.
    pub fn fail(&self, error: &KafkaError) {
        use RDKafkaErrorCode::{Fail, PurgeInflight, PurgeQueue};
        let code = error.rdkafka_error_code().unwrap_or(Fail);
        let mut said = self.0.lock().expect("no holder panics");
        let known = said.failed.as_ref().map(|(code, _)| *code);
        if matches!(known, None | Some(PurgeQueue | PurgeInflight)) {
            said.failed = Some((code, error.to_string()));
        }
    }
}

impl ClientContext for Watch {
    fn error(&self, _error: KafkaError, _reason: &str) {
        self.0.lock().expect("no holder panics").disturbed = true;
    }

    /// Told at once, from librdkafka's own threads: a connection that was lost, a request that timed
    /// out. Nothing of it is shown, as settings could be in it.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, _message: &str) {
        let serious = (level as i32) <= RDKafkaLogLevel::Warning as i32;
        if serious || matches!(facility, "FAIL" | "REQTMOUT" | "RETRY" | "TXNERR") {
            self.0.lock().expect("no holder panics").disturbed = true;
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.fail(error);
        }
    }
}
