//! A connection that a core reads from, and never waits in: one request under way, its answer as it comes.
//!
//! Invariant: memory grows with the bytes that came, not with what an answer claims (F10).

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::partition::Frame;
use super::session::Session;

/// A broker answers an empty fetch after this time.
pub const WAIT_MS: i32 = 500;
/// A connection on which nothing came for so long beyond that is half-open (F25).
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Memory for an answer grows from here on, as its bytes come.
const FIRST_BYTES: usize = 1 << 20;

pub struct Flow {
    pub stream: TcpStream,
    pub version: i16,
    pub correlation: i32,
    pub session: Session,
    /// A request is under way.
    pub asked: bool,
    /// The last answer was about as long as was asked for.
    pub was_full: bool,
    /// The answer so far, its length in front.
    pub bytes: Vec<u8>,
    filled: usize,
    pub moved: Instant,
    /// The broker asked for a pause (KIP-219).
    pub not_before: Instant,
}

impl Flow {
    pub fn new(stream: TcpStream, version: i16, bytes: Vec<u8>) -> Flow {
        let now = Instant::now();
        Flow {
            stream,
            version,
            correlation: 0,
            session: Session::default(),
            asked: false,
            was_full: false,
            bytes,
            filled: 0,
            moved: now,
            not_before: now,
        }
    }

    /// Reads what is there; whether an answer is whole.
    pub fn read(&mut self, bytes_max: usize) -> io::Result<bool> {
        if !self.asked {
            return Ok(false);
        }
        loop {
            let whole = match self.filled {
                0..4 => 4,
                _ => {
                    let length = self.bytes[..4].try_into().expect("four bytes");
                    4 + u32::from_be_bytes(length) as usize
                }
            };
            if whole > bytes_max {
                return Err(io::Error::other(format!("its answer claims {whole} bytes")));
            }
            if whole > 4 && self.filled == whole {
                self.asked = false;
                return Ok(true);
            }
            // Memory grows with what comes, not with what is claimed (F10).
            let room = whole.min(FIRST_BYTES.max(2 * self.filled));
            if self.bytes.len() < room {
                self.bytes.resize(room, 0);
            }
            match self.stream.read(&mut self.bytes[self.filled..room]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => (self.filled, self.moved) = (self.filled + read, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let silence = Duration::from_millis(WAIT_MS as u64) + SILENCE_MAX;
                    return match self.moved.elapsed() > silence {
                        true => Err(io::Error::other("it does not answer")),
                        false => Ok(false),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The whole answer; the next one comes into `spare`.
    pub fn take_frame(&mut self, spare: Option<Vec<u8>>) -> Frame {
        let next = spare.unwrap_or_default();
        let memory = std::mem::replace(&mut self.bytes, next);
        // Behind it there may be bytes of an earlier, longer answer.
        let answer = 4..std::mem::take(&mut self.filled);
        Frame { memory, answer }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const ANSWER_MAX: usize = 100 << 20;

    /// A connection that was asked, and the broker's end of it.
    fn asked() -> (Flow, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut flow = Flow::new(ours, 12, Vec::new());
        flow.asked = true;
        (flow, listener.accept().unwrap().0)
    }

    fn read(flow: &mut Flow, until: impl Fn(&Flow) -> bool) -> io::Result<bool> {
        loop {
            match flow.read(ANSWER_MAX) {
                Ok(false) if !until(flow) => std::thread::sleep(Duration::from_millis(1)),
                outcome => return outcome,
            }
        }
    }

    #[test]
    fn f10_memory_for_an_answer_grows_with_the_bytes_that_come() {
        let (mut flow, mut broker) = asked();
        let claimed = ANSWER_MAX as u32 - 4;
        broker.write_all(&claimed.to_be_bytes()).unwrap();
        broker.write_all(b"little of it").unwrap();
        assert!(!read(&mut flow, |flow| flow.filled == 16).unwrap());
        assert!(flow.bytes.capacity() <= FIRST_BYTES, "{} bytes", flow.bytes.capacity());
    }

    #[test]
    fn f10_an_answer_that_claims_too_much_costs_the_connection() {
        let (mut flow, mut broker) = asked();
        broker.write_all(&(ANSWER_MAX as u32).to_be_bytes()).unwrap();
        let refused = read(&mut flow, |flow| flow.filled == 4).unwrap_err();
        assert!(refused.to_string().contains("claims"), "{refused}");
    }
}
