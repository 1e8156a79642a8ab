//! One connection to one broker: requests and answers, one after the other.
//!
//! Used as it is for small messages, with time-outs on each of them; [`Connection::into_stream`] gives
//! the socket away once the broker has said which versions it speaks, for a fetcher to drive without
//! waiting. Length and request leave in one write, as two cost 40 ms each (Nagle and delayed ACK).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use kafka_protocol::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, OffsetFetchRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A broker that does not answer a small request for so long is taken for gone (half-open, F25).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer to a small request is longer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The first version of ApiVersions with flexible headers: Kafka 2.4.
const API_VERSIONS_VERSION: i16 = 3;

/// Requests whose older versions say less than we ask for: several groups, several transactional ids, both
/// Kafka 3.0.
const LEAST_VERSIONS: [(i16, i16); 2] =
    [(OffsetFetchRequest::KEY, 8), (FindCoordinatorRequest::KEY, 4)];

/// How this client names itself to brokers.
pub const CLIENT_ID: &str = "pelton";

pub struct Connection {
    stream: TcpStream,
    /// For each kind of request the versions that the broker takes.
    versions: BTreeMap<i16, (i16, i16)>,
    /// Of the cluster's features, by name, the level that all its brokers are at.
    features: BTreeMap<String, i16>,
    /// Of the request sent last, and of the answer that came last.
    sent: i32,
    answered: i32,
}

impl Connection {
    /// Connects to `host:port` and asks for the broker's versions.
    pub fn open(address: &str) -> io::Result<Connection> {
        let stream = connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut connection = Connection {
            stream,
            versions: BTreeMap::new(),
            features: BTreeMap::new(),
            sent: 0,
            answered: 0,
        };
        let ask = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        connection.send(&ask, API_VERSIONS_VERSION)?;
        let answer = connection.receive::<ApiVersionsRequest>(API_VERSIONS_VERSION)?;
        if answer.error_code != 0 {
            let code = answer.error_code;
            return Err(other(format!("{address} speaks no version that we do (error {code})")));
        }
        let versions = answer.api_keys.iter();
        connection.versions =
            versions.map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        let features = answer.finalized_features.iter();
        connection.features =
            features.map(|of| (of.name.to_string(), of.max_version_level)).collect();
        Ok(connection)
    }

    /// The greatest version of a request that the broker and `ours` (least, greatest) know.
    ///
    /// Errors: `Unsupported` where there is none, with what that means.
    pub fn version(&self, key: i16, (least, greatest): (i16, i16)) -> io::Result<i16> {
        let theirs = self.versions.get(&key);
        let common = theirs.map(|(min, max)| (least.max(*min), greatest.min(*max)));
        match common {
            Some((min, max)) if min <= max => Ok(max),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the broker takes versions {theirs:?} of request {key}, expected {least} to \
                     {greatest}: brokers of Kafka 3.0 to 4.x do"
                ),
            )),
        }
    }

    /// Sends a request in the newest version that both sides know, and waits for its answer.
    ///
    /// Errors: any makes the connection useless.
    pub fn call<R: Request>(&mut self, request: &R) -> io::Result<R::Response> {
        let least = LEAST_VERSIONS.iter().find(|(key, _)| *key == R::KEY);
        let least = least.map_or(R::VERSIONS.min, |(_, least)| *least);
        let version = self.version(R::KEY, (least, R::VERSIONS.max))?;
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// The level of a feature that the whole cluster has; 0: it does not know it.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Sends a request whose answer is received later; answers come in the order of requests.
    ///
    /// Errors: any makes the connection useless.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.sent += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.sent)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut bytes = vec![0; 4];
        header.encode(&mut bytes, R::header_version(version)).map_err(other)?;
        request.encode(&mut bytes, version).map_err(other)?;
        let length = (bytes.len() as u32 - 4).to_be_bytes();
        bytes[..4].copy_from_slice(&length);
        self.stream.write_all(&bytes)
    }

    /// Waits for the next answer, which is to a request of this kind.
    ///
    /// Errors: as [`Connection::send`].
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let answer = self.answer()?;
        let mut answer = answer.as_slice();
        self.answered += 1;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        if header.map_err(other)?.correlation_id != self.answered {
            return Err(other("the broker answered another request"));
        }
        R::Response::decode(&mut answer, version).map_err(other)
    }

    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(other(format!("the broker's answer claims {length} bytes")));
        }
        // Memory grows with what comes, not with what is claimed.
        let mut answer = Vec::new();
        (&self.stream).take(length as u64).read_to_end(&mut answer)?;
        if answer.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }

    /// The socket, which no longer waits.
    pub fn into_stream(self) -> io::Result<TcpStream> {
        self.stream.set_nonblocking(true)?;
        Ok(self.stream)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn other(what: impl ToString) -> io::Error {
    io::Error::other(what.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn f10_a_small_answer_that_claims_to_be_large_is_refused_before_it_came() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&(ANSWER_BYTES_MAX as u32 + 1).to_be_bytes()).unwrap();
            // Open until the other end has gone: nobody waits for the rest.
            _ = stream.read_to_end(&mut Vec::new());
        });
        let refused = Connection::open(&address).err().expect("it is no answer");
        assert!(refused.to_string().contains("claims"), "{refused}");
        broker.join().unwrap();
    }
}
