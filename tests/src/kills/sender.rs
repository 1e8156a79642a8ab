//! A peer that cannot send a row again once it was received, and knows from the log alone how far that is.
//!
//! It listens, as `nc -lk` does; each process connects to it. Rows go out in pieces that end anywhere,
//! with pauses, so that epochs are many and small. A row whose bytes were not all received is sent again
//! on the next connection.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::log::{Received, last_received};
use super::workload::Text;
use crate::data::Random;

const PIECE_BYTES_MAX: u64 = 16 << 10;
const PAUSE_US_MAX: u64 = 3_000;
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub struct Sender {
    text: Arc<Text>,
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// First row that was not received.
    next: usize,
    /// Row before which the next process's connection stops.
    until: usize,
    /// Processes that have ended: a connection is one of its own.
    lives: u64,
    connections: Vec<Connection>,
    stop: bool,
}

#[derive(Clone, Copy)]
struct Connection {
    /// Byte of the text that it began with.
    from: usize,
    sent: usize,
}

impl Sender {
    pub fn new(text: Text, seed: u64) -> std::io::Result<Sender> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (text, shared) = (Arc::new(text), Arc::new(Mutex::new(Shared::default())));
        let work = Work {
            text: Arc::clone(&text),
            shared: Arc::clone(&shared),
            random: Random::new(seed ^ 0x7365_6e64),
        };
        let thread = Some(std::thread::spawn(move || work.run(&listener)));
        Ok(Sender { text, address, shared, thread })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Rows that were not received.
    pub fn left(&self) -> usize {
        self.text.ends.len() - lock(&self.shared).next
    }

    /// How many rows the next process may have.
    pub fn allow(&self, rows: usize) {
        let mut shared = lock(&self.shared);
        shared.until = shared.next.saturating_add(rows).min(self.text.ends.len());
    }

    /// A process ended: finds out what it had received.
    ///
    /// Errors: the log holds what was not sent, or less than before.
    pub fn resume(&self, log: &Path) -> Result<(), String> {
        let received = last_received(log)?;
        let mut shared = lock(&self.shared);
        shared.lives += 1;
        let next = match received {
            None => 0,
            Some(received) => {
                let end = end_of(&self.text, &shared.connections, &received);
                let end = end.ok_or_else(|| {
                    let (offset, bytes) = (received.offset, received.bytes.len());
                    format!("{bytes} bytes at {offset} in the log are of no connection")
                })?;
                self.text.ends.partition_point(|&row| row <= end)
            }
        };
        if next < shared.next {
            let before = shared.next;
            return Err(format!("{before} rows were received, and the log knows of {next}"));
        }
        shared.next = next;
        Ok(())
    }
}

/// Where in the text the received bytes end.
fn end_of(text: &Text, connections: &[Connection], received: &Received) -> Option<usize> {
    let (offset, length) = (received.offset as usize, received.bytes.len());
    connections.iter().rev().find_map(|connection| {
        let from = connection.from + offset;
        let is_it = offset + length <= connection.sent
            && text.bytes.get(from..from + length) == Some(&received.bytes[..]);
        is_it.then_some(from + length)
    })
}

impl Drop for Sender {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told; here it would hide the reason of this end.
            _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no holder panics")
}

struct Work {
    text: Arc<Text>,
    shared: Arc<Mutex<Shared>>,
    random: Random,
}

impl Work {
    fn run(mut self, listener: &TcpListener) {
        while !lock(&self.shared).stop {
            match listener.accept() {
                Ok((connection, _)) => self.serve(connection),
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Sends until the process at the other end is gone.
    fn serve(&mut self, mut connection: TcpStream) {
        if connection.set_nonblocking(true).is_err() {
            return;
        }
        let (life, number, mut at) = {
            let mut shared = lock(&self.shared);
            let from = if shared.next == 0 { 0 } else { self.text.ends[shared.next - 1] };
            shared.connections.push(Connection { from, sent: 0 });
            (shared.lives, shared.connections.len() - 1, from)
        };
        loop {
            let until = {
                let shared = lock(&self.shared);
                if shared.stop || shared.lives != life {
                    return;
                }
                if shared.until == 0 { 0 } else { self.text.ends[shared.until - 1] }
            };
            let piece = 1 + self.random.below(PIECE_BYTES_MAX) as usize;
            let piece = &self.text.bytes[at..until.max(at).min(at + piece)];
            if piece.is_empty() {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            // What may be read at the other end before this thread goes on counts as sent.
            lock(&self.shared).connections[number].sent += piece.len();
            let written = connection.write(piece);
            let unsent = piece.len() - written.as_ref().map_or(0, |written| *written);
            lock(&self.shared).connections[number].sent -= unsent;
            match written {
                Ok(bytes) => at += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            std::thread::sleep(Duration::from_micros(self.random.below(PAUSE_US_MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_found_by_its_connection_and_its_bytes() {
        let text = Text { bytes: b"a,1\nb,2\nc,3\nd,4\n".to_vec(), ends: vec![4, 8, 12, 16] };
        let connections = [Connection { from: 0, sent: 10 }, Connection { from: 8, sent: 0 }];
        let end = |connections: &[Connection], offset: u64, bytes: &[u8]| {
            end_of(&text, connections, &Received { offset, bytes: bytes.to_vec() })
        };
        assert_eq!(end(&connections, 4, b"b,2\nc,"), Some(10));
        assert_eq!(end(&connections, 4, b"b,2\nc,3"), None, "the last byte was not sent");
        assert_eq!(end(&connections, 4, b"c,3\n"), None, "it stands in another place");
        let connections = [connections[0], Connection { from: 8, sent: 8 }];
        assert_eq!(end(&connections, 0, b"c,3\nd"), Some(13));
    }
}
