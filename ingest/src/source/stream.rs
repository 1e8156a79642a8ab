//! Sources that cannot be read again: sockets and standard input.
//!
//! A client connects to where a server such as `nc -lk 9999` waits, and connects again when it was
//! cut off; a listener takes any number of peers. Reads never wait: whoever drives a [`Stream`] waits
//! in [`Stream::wait`], which ends early when a [`Waker`] says so.
//!
//! Invariant: the bytes of a peer stay in its buffer until whole rows were taken from its front; a
//! peer's end makes its last row whole. Only bytes that were received are seen: at once without a
//! write-ahead log, else after its fsync (see [`super::inlet`]).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::SourceKind;

use crate::decode::Mapping;
use crate::ring::poll;
use crate::runtime::say;

/// Bytes read from a peer at once.
const READ_BYTES: usize = 128 << 10;
/// Peers that a listener holds at once; more wait in the kernel's queue.
const PEERS_MAX: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LAST: Duration = Duration::from_secs(10);
/// Buffers of peers beyond this are given back once they are empty.
const BUFFER_KEPT_BYTES: usize = 2 * READ_BYTES;

pub struct Stream {
    entrance: Entrance,
    peers: Vec<Peer>,
    woken: UnixStream,
    waker: Waker,
    ready: Vec<bool>,
    /// Peers that have come so far.
    numbered: u64,
}

enum Entrance {
    Stdin,
    Client { address: String, again: Option<Connector> },
    Listener(TcpListener),
}

/// One that sends: a connection, or standard input.
pub struct Peer {
    pub number: u64,
    pub name: Arc<str>,
    /// None: it is read from the write-ahead log.
    file: Option<File>,
    bytes: Vec<u8>,
    start: usize,
    /// End of the bytes that were received.
    received: usize,
    /// Bytes of it that were consumed.
    pub offset: u64,
    /// Its end was read, and may not be received yet.
    closing: bool,
    /// Nothing more will come.
    pub ended: bool,
    /// Its connection ended with the process that read it: what it left is no whole row.
    pub orphaned: bool,
    /// The log knows that it has come.
    pub logged: bool,
    /// Positions of records in the log that hold bytes of it not yet consumed, and where these end.
    pub records: VecDeque<(u64, u64)>,
    /// A read would return at once.
    pub ready: bool,
    /// How its fields are ordered, once its head was read.
    pub mapping: Option<Mapping>,
    /// Line of the first byte in the buffer.
    pub line: u64,
    /// The buffer begins inside a line that was given up.
    pub inside_line: bool,
    /// Whole rows may be in the buffer.
    pub decodable: bool,
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub struct Waker(Arc<UnixStream>);

impl Waker {
    /// A waker, and what becomes readable when it wakes.
    ///
    /// Errors: `Unavailable` where the process may open no more files.
    pub fn new() -> Result<(Waker, UnixStream)> {
        let pair = UnixStream::pair().and_then(|(woken, waker)| {
            woken.set_nonblocking(true)?;
            waker.set_nonblocking(true)?;
            Ok((Waker(Arc::new(waker)), woken))
        });
        pair.map_err(|error| Error::Unavailable {
            what: format!("cannot open a socket pair: {error}"),
            fix: "raise the limit on open files (`ulimit -n`)".into(),
        })
    }

    pub fn wake(&self) {
        // A full pipe wakes as well as one more byte would.
        _ = (&*self.0).write(&[1]);
    }
}

impl Stream {
    /// Connects, listens, or takes standard input. `came`: peers that have come in runs before.
    ///
    /// Errors: `Unavailable` with what to do.
    pub fn open(kind: &SourceKind, came: u64) -> Result<(Stream, Waker)> {
        match kind {
            SourceKind::Socket { address, listen: false } => {
                let peer =
                    connect(address).map_err(|error| unreachable_address(address, &error))?;
                let again = None;
                let mut stream =
                    Stream::new(Entrance::Client { address: address.clone(), again }, came)?;
                stream.welcome(peer, address);
                Ok(stream.with_waker())
            }
            SourceKind::Socket { address, listen: true } => {
                let listener = TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                let listener = listener.map_err(|error| Error::Unavailable {
                    what: format!("cannot listen on {address}: {error}"),
                    fix: "set `address` to a free port of this machine, such as \"127.0.0.1:9999\""
                        .into(),
                })?;
                let stream = Stream::new(Entrance::Listener(listener), came)?;
                if let Some(address) = stream.address() {
                    say(&format!("listening on {address}"));
                }
                Ok(stream.with_waker())
            }
            SourceKind::Stdin => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| Error::Unavailable {
                    what: format!("cannot read standard input: {error}"),
                    fix: "redirect something into it".into(),
                })?;
                Ok(Stream::of_file(File::from(stdin), "stdin", came)?.with_waker())
            }
            SourceKind::File { .. } | SourceKind::Generate { .. } | SourceKind::Kafka(_) => {
                unreachable!("these are read by ranges")
            }
        }
    }

    /// A bounded stream: the bytes of a file descriptor.
    fn of_file(file: File, name: &str, came: u64) -> Result<Stream> {
        let mut stream = Stream::new(Entrance::Stdin, came)?;
        stream.add(file, name.into());
        Ok(stream)
    }

    fn new(entrance: Entrance, numbered: u64) -> Result<Stream> {
        let (waker, woken) = Waker::new()?;
        let (peers, ready) = (Vec::new(), Vec::new());
        Ok(Stream { entrance, peers, woken, waker, ready, numbered })
    }

    fn with_waker(self) -> (Stream, Waker) {
        let waker = self.waker.clone();
        (self, waker)
    }

    /// Where a listener listens.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.entrance {
            Entrance::Listener(listener) => listener.local_addr().ok(),
            Entrance::Stdin | Entrance::Client { .. } => None,
        }
    }

    /// Whether the input has an end.
    pub fn is_bounded(&self) -> bool {
        matches!(self.entrance, Entrance::Stdin)
    }

    /// The bounded input was read to its end.
    pub fn has_ended(&self) -> bool {
        self.is_bounded() && self.peers.is_empty()
    }

    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub fn peers_mut(&mut self) -> &mut Vec<Peer> {
        &mut self.peers
    }

    /// Waits until a peer is ready, one comes, or somebody wakes; at most `timeout`. Unless `reading`,
    /// peers are not looked at: the kernel's buffers fill, and so does the sender's patience.
    pub fn wait(&mut self, timeout: Option<Duration>, reading: bool) -> Result<bool> {
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.woken.as_fd()];
        match &self.entrance {
            Entrance::Listener(listener) if reading && self.peers.len() < PEERS_MAX => {
                descriptors.push(listener.as_fd());
            }
            _ => {}
        }
        let first_peer = descriptors.len();
        if reading {
            let files = self.peers.iter().filter_map(|peer| peer.file.as_ref());
            descriptors.extend(files.map(|file| file.as_fd()));
        }
        poll::readable(&descriptors, timeout, &mut self.ready)
            .map_err(|error| Error::failed(format!("cannot wait for input: {error}")))?;
        drop(descriptors);
        if self.ready[0] {
            while self.woken.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        }
        let reading = self.peers.iter_mut().filter(|peer| peer.file.is_some());
        for (peer, ready) in reading.zip(&self.ready[first_peer..]) {
            peer.ready = *ready;
        }
        let mut any = self.ready[first_peer..].contains(&true);
        any |= self.reconnected();
        if first_peer == 2 && self.ready[1] {
            any |= self.accept();
        }
        Ok(any)
    }

    /// Takes in whoever waits at the door.
    fn accept(&mut self) -> bool {
        let mut any = false;
        while self.peers.len() < PEERS_MAX {
            let Entrance::Listener(listener) = &self.entrance else { return any };
            match listener.accept() {
                Ok((peer, address)) => {
                    say(&format!("{address} is connected"));
                    self.welcome(peer, &address.to_string());
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) => {
                    // Such as too many open files, or a peer that has left already.
                    say(&format!("cannot accept a connection: {error}"));
                    return any;
                }
            }
        }
        any
    }

    fn reconnected(&mut self) -> bool {
        let Entrance::Client { address, again } = &mut self.entrance else { return false };
        let Some(peer) = again.as_ref().and_then(|again| again.connected.try_recv().ok()) else {
            return false;
        };
        let address = address.clone();
        *again = None;
        say(&format!("connected to {address} again"));
        self.welcome(peer, &address);
        true
    }

    fn welcome(&mut self, peer: TcpStream, name: &str) {
        match peer.set_nonblocking(true) {
            Ok(()) => self.add(File::from(OwnedFd::from(peer)), name.into()),
            Err(error) => say(&format!("cannot read from {name}: {error}")),
        }
    }

    fn add(&mut self, file: File, name: Arc<str>) {
        self.peers.push(Peer { file: Some(file), ..Peer::new(self.numbered, name) });
        self.numbered += 1;
    }

    /// Number that the next peer gets.
    pub fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Forgets peers that have ended and are read to their end.
    pub fn dismiss(&mut self) {
        let connected = |peers: &[Peer]| peers.iter().filter(|peer| peer.file.is_some()).count();
        let before = connected(&self.peers);
        for orphan in self.peers.iter().filter(|peer| peer.orphaned && !peer.decodable) {
            if !orphan.bytes().is_empty() {
                let (name, bytes) = (&orphan.name, orphan.bytes().len());
                say(&format!(
                    "{bytes} bytes of a row that {name} had not finished are given up: its connection \
                     ended with the process before this one"
                ));
            }
        }
        self.peers.retain(|peer| !(peer.ended || peer.orphaned) || peer.decodable);
        if connected(&self.peers) == before {
            return;
        }
        let Entrance::Client { address, again } = &mut self.entrance else { return };
        say(&format!("the connection to {address} was closed; connecting again"));
        *again = Some(Connector::start(address.clone(), self.waker.clone()));
    }
}

impl Peer {
    /// One that has no connection.
    pub fn new(number: u64, name: Arc<str>) -> Peer {
        Peer {
            number,
            name,
            file: None,
            bytes: Vec::new(),
            start: 0,
            received: 0,
            offset: 0,
            closing: false,
            ended: false,
            orphaned: false,
            logged: false,
            records: VecDeque::new(),
            ready: false,
            mapping: None,
            line: 1,
            inside_line: false,
            decodable: false,
        }
    }

    /// Bytes that were received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.received]
    }

    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        while self.records.front().is_some_and(|&(_, end)| end <= self.offset) {
            self.records.pop_front();
        }
        if self.start == self.bytes.len() {
            self.bytes.clear();
            (self.start, self.received) = (0, 0);
            self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        }
    }

    /// Reads what is there, up to [`READ_BYTES`]; none of it counts before [`Peer::receive`]. A lost
    /// connection is an end; it is told. Returns the bytes and their offset.
    pub fn fill(&mut self) -> (u64, &[u8]) {
        self.ready = false;
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.received -= self.start;
            self.start = 0;
        }
        let before = self.bytes.len();
        let offset = self.offset + (before - self.start) as u64;
        let Some(file) = &mut self.file else { return (offset, &[]) };
        self.bytes.resize(before + READ_BYTES, 0);
        let read = loop {
            match file.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.closing = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                say(&format!("lost {}: {error}", self.name));
                self.closing = true;
            }
        }
        (offset, &self.bytes[before..])
    }

    /// It was read from the log of a run before this one.
    pub fn is_of_log(&self) -> bool {
        self.file.is_none()
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// What was read counts as received from here on.
    pub fn receive(&mut self) {
        // Without a line feed there is no new whole row.
        self.decodable |= memchr::memchr(b'\n', &self.bytes[self.received..]).is_some();
        self.received = self.bytes.len();
        if self.closing {
            (self.ended, self.decodable) = (true, true);
        }
    }

    /// Bytes that the log holds, from `offset` on; those that were consumed are passed over.
    pub fn read_back(&mut self, offset: u64, bytes: &[u8]) {
        let there = self.offset + (self.bytes.len() - self.start) as u64;
        let known = there.saturating_sub(offset).min(bytes.len() as u64);
        self.bytes.extend_from_slice(&bytes[known as usize..]);
        self.receive();
    }

    /// The log holds its end.
    pub fn close_back(&mut self) {
        self.closing = true;
        self.receive();
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(peer) => return Ok(peer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreachable_address(address: &str, error: &io::Error) -> Error {
    let port = address.rsplit(':').next().unwrap_or("9999");
    let fix = match error.kind() {
        io::ErrorKind::InvalidInput => "write `address` as \"host:port\"".into(),
        _ => format!("start the server first, such as `nc -lk {port}`, or set `listen = true`"),
    };
    Error::Unavailable { what: format!("cannot connect to {address}: {error}"), fix }
}

/// Connects again in a thread of its own, so that no barrier waits for it.
struct Connector {
    connected: Receiver<TcpStream>,
    /// Dropped to end the thread.
    quit: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Connector {
    fn start(address: String, waker: Waker) -> Connector {
        let (give, connected) = mpsc::sync_channel(1);
        let (quit, quitting) = mpsc::sync_channel::<()>(1);
        let run = move || {
            let mut pause = RECONNECT_FIRST;
            loop {
                match quitting.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
                match connect(&address) {
                    Ok(peer) => {
                        _ = give.send(peer);
                        return waker.wake();
                    }
                    Err(error) => say(&format!("cannot connect to {address}: {error}")),
                }
                pause = (2 * pause).min(RECONNECT_LAST);
            }
        };
        let thread = std::thread::Builder::new().name("pelton connect".into()).spawn(run);
        let thread = thread.map_err(|e| say(&format!("cannot start a thread: {e}"))).ok();
        Connector { connected, quit: Some(quit), thread }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.quit = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
