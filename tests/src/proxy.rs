//! A proxy in front of a broker that makes a network misbehave: delays, resets, silence, and requests
//! of a transaction that get lost or come late.
//!
//! It knows Kafka's framing (a length of four bytes, then the request's key and its correlation), which
//! requests make a transaction, and whether they were taken. Every connection has two threads, one a
//! direction; they end with it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, ProduceRequest, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};

use crate::program;

/// What joins a reply to its request.
type Correlation = [u8; 4];
/// The request whose answer something is to be done with.
type Marked = Option<(Correlation, Mark)>;

/// Requests by their key.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
/// An answer to Fetch that is longer holds records.
const RECORDS_FROM: usize = 400;
const ADD_PARTITIONS: i16 = 24;
const END_TXN: i16 = 26;
/// The replica's id is a tagged field from this version of Fetch on.
const FETCH_WITHOUT_REPLICA: i16 = 15;
/// AddPartitionsToTxn of clients; newer ones go from broker to broker.
const ADD_PARTITIONS_OF_CLIENTS: i16 = 3;

/// A request of a transaction, at which something is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The coordinator is told of partitions (by librdkafka; with KIP-890 the rows tell it).
    Partitions,
    Rows,
    End,
}

impl Moment {
    fn of(request: &[u8]) -> Option<Moment> {
        match kind(request) {
            (ADD_PARTITIONS, ..=ADD_PARTITIONS_OF_CLIENTS) => Some(Moment::Partitions),
            (PRODUCE, _) if is_transactional(request) => Some(Moment::Rows),
            (END_TXN, _) => Some(Moment::End),
            _ => None,
        }
    }
}

/// What becomes of the next request of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The broker never sees it; the connection is lost (F16).
    LoseRequest,
    /// The broker acts on it, its answer is lost with the connection (F16).
    LoseReply,
    /// The connection is lost, the request arrives when the next transaction has begun (F17).
    Late,
    /// It waits until [`Proxy::release`] (F18, F20).
    Hold,
    /// The broker of this process is killed as soon as it has answered, and its answer passes (F15).
    KillBroker(i32),
}

/// What is done with an answer.
#[derive(Clone, Copy)]
enum Mark {
    Lose,
    /// It is the last of the broker of this process.
    Kill(i32),
    /// What it says to a request of this key and version is kept.
    Note((i16, i16)),
}

/// Produce, and its header, has tagged fields from this version on.
const PRODUCE_FLEXIBLE: i16 = 9;

#[derive(Default)]
struct Plan {
    latency: Duration,
    /// Nothing passes any more, and nobody is told (half-open).
    silent: bool,
    fault: Option<(Moment, Fault)>,
    /// A request held back, with the connection that it belongs to.
    held: Option<(TcpStream, Vec<u8>)>,
    /// It is on its way now: nobody else's end of a transaction passes it.
    is_late: bool,
    /// The error code that the broker answered to the late request.
    late_answer: Option<i16>,
    /// How many such answers there were.
    noted: usize,
    connections: Vec<TcpStream>,
    /// Nobody gets through.
    refuses: bool,
    /// How many have tried to connect, refused or not.
    attempts: usize,
    /// Answers to Fetch, of those with records, in which a bit is to be turned over.
    flips: usize,
    /// Where the last such answer was changed.
    flipped: usize,
    /// How many requests met a fault.
    faults: usize,
    /// A request waits for its release.
    waits: bool,
    /// Bytes of every request for records.
    asked: Vec<usize>,
    /// What is changed in the next request that is one of a fetch session.
    spoils: Option<Spoil>,
}

/// What a broker finds wrong with a fetch session (KIP-227).
#[derive(Clone, Copy, Debug)]
pub enum Spoil {
    /// It knows no such session.
    Id,
    /// A request of it was lost.
    Epoch,
}

pub struct Proxy {
    pub port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Listens; where to is said later.
    pub fn listen() -> (Proxy, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        (Proxy { port, plan: Arc::default() }, listener)
    }

    /// Passes every connection on to a broker.
    pub fn serve(&self, listener: TcpListener, broker: u16) {
        let plan = Arc::clone(&self.plan);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let refuses = {
                    let mut plan = plan.lock().expect("no holder panics");
                    plan.attempts += 1;
                    plan.refuses
                };
                if refuses {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                connect(client, server, &plan);
            }
        });
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("no holder panics")
    }

    pub fn delay(&self, latency: Duration) {
        self.plan().latency = latency;
    }

    pub fn silence(&self, silent: bool) {
        self.plan().silent = silent;
    }

    /// What becomes of the next request of this moment.
    pub fn at(&self, moment: Moment, what: Fault) {
        let mut plan = self.plan();
        (plan.fault, plan.late_answer) = (Some((moment, what)), None);
    }

    /// Cuts every connection, and lets nobody through any more (F26).
    pub fn cut_off(&self, is_off: bool) {
        self.plan().refuses = is_off;
        if is_off {
            self.reset();
        }
    }

    /// How often somebody has tried to connect.
    pub fn attempts(&self) -> usize {
        self.plan().attempts
    }

    /// Bytes of every request for records so far.
    pub fn asked(&self) -> Vec<usize> {
        self.plan().asked.clone()
    }

    pub fn spoil(&self, what: Spoil) {
        self.plan().spoils = Some(what);
    }

    /// The request was met and changed.
    pub fn is_spoilt(&self) -> bool {
        self.plan().spoils.is_none()
    }

    /// Turns a bit over in the next so many answers that hold records (F09).
    pub fn flip(&self, answers: usize) {
        self.plan().flips = answers;
    }

    pub fn flipped(&self) -> usize {
        self.plan().flipped
    }

    pub fn faults(&self) -> usize {
        self.plan().faults
    }

    /// Lets a request go on that was held.
    pub fn release(&self) {
        self.plan().waits = false;
    }

    /// The error code that the broker answered to the request that came late; told once.
    pub fn late_answer(&self) -> Option<i16> {
        self.plan().late_answer.take()
    }

    /// Cuts every connection.
    pub fn reset(&self) {
        for connection in self.plan().connections.drain(..) {
            _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn connect(client: TcpStream, server: TcpStream, plan: &Arc<Mutex<Plan>>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP option");
    }
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor is free");
    {
        let mut plan = plan.lock().expect("no holder panics");
        plan.connections.extend([copy(&client), copy(&server)]);
    }
    let marked = Arc::new(Mutex::new(None));
    let fetches = Arc::new(Mutex::new(Vec::new()));
    let requests = Requests {
        client: copy(&client),
        server: copy(&server),
        plan: Arc::clone(plan),
        marked: Arc::clone(&marked),
        fetches: Arc::clone(&fetches),
    };
    std::thread::spawn(move || {
        let kept = requests.pass();
        _ = requests.client.shutdown(Shutdown::Both);
        if !kept.unwrap_or(false) {
            _ = requests.server.shutdown(Shutdown::Both);
        }
    });
    let plan = Arc::clone(plan);
    std::thread::spawn(move || {
        _ = replies(&client, &server, &plan, (&marked, &fetches));
        _ = client.shutdown(Shutdown::Both);
        _ = server.shutdown(Shutdown::Both);
    });
}

fn frame(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Waits as the plan says before a frame passes.
fn pause(plan: &Mutex<Plan>) {
    let latency = plan.lock().expect("no holder panics").latency;
    std::thread::sleep(latency);
    while plan.lock().expect("no holder panics").silent {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Changes what a request says of its session; `false`: it is of none.
fn spoil(request: &mut [u8], what: Spoil) -> bool {
    let version = i16::from_be_bytes([request[6], request[7]]);
    let client = i16::from_be_bytes([request[12], request[13]]) as usize;
    // Behind the header, the replica's id, two times and a size, and the isolation.
    let replica = if version < FETCH_WITHOUT_REPLICA { 4 } else { 0 };
    let id = 15 + client + replica + 13;
    if request[id..id + 4] == [0; 4] {
        return false;
    }
    let at = match what {
        Spoil::Id => id + 3,
        Spoil::Epoch => id + 7,
    };
    request[at] ^= 0x55;
    true
}

/// The key of a request, and its version.
fn kind(request: &[u8]) -> (i16, i16) {
    let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
    (number(4), number(6))
}

/// The error code of an answer to a request of a transaction; 0 where a part of it was taken.
fn code((key, version): (i16, i16), answer: &[u8]) -> i16 {
    fn decoded<R: Request>(version: i16, mut answer: &[u8]) -> R::Response {
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .expect("a header");
        R::Response::decode(&mut answer, version).expect("an answer")
    }
    // Behind its length.
    let answer = &answer[4..];
    let codes: Vec<i16> = match key {
        END_TXN => vec![decoded::<EndTxnRequest>(version, answer).error_code],
        PRODUCE => {
            let topics = decoded::<ProduceRequest>(version, answer).responses.into_iter();
            topics.flat_map(|of| of.partition_responses).map(|of| of.error_code).collect()
        }
        _ => {
            let answer = decoded::<AddPartitionsToTxnRequest>(version, answer);
            let topics = answer.results_by_topic_v3_and_below.into_iter();
            topics
                .flat_map(|of| of.results_by_partition)
                .map(|of| of.partition_error_code)
                .collect()
        }
    };
    match codes.contains(&0) {
        true => 0,
        false => codes[0],
    }
}

/// Whether a request to produce is part of a transaction: its body begins with the transactional id.
fn is_transactional(request: &[u8]) -> bool {
    let version = i16::from_be_bytes([request[6], request[7]]);
    let client = i16::from_be_bytes([request[12], request[13]]).max(0) as usize;
    let at = 14 + client;
    match version >= PRODUCE_FLEXIBLE {
        // Behind the header's tagged fields a length plus one; 0 is null.
        true => request[at + 1] != 0,
        false => request[at..at + 2] != [0xff; 2],
    }
}

struct Requests {
    client: TcpStream,
    server: TcpStream,
    plan: Arc<Mutex<Plan>>,
    marked: Arc<Mutex<Marked>>,
    /// Correlations of requests for records that are not answered.
    fetches: Arc<Mutex<Vec<Correlation>>>,
}

impl Requests {
    /// Passes requests on until the end; whether the way to the broker is still needed.
    fn pass(&self) -> io::Result<bool> {
        loop {
            let mut request = frame(&self.client)?;
            pause(&self.plan);
            let (key, moment) = (kind(&request).0, Moment::of(&request));
            let correlation: Correlation = request[8..12].try_into().expect("four bytes");
            if key == FETCH {
                self.fetches.lock().expect("no holder panics").push(correlation);
            }
            let mut plan = self.plan.lock().expect("no holder panics");
            if key == FETCH {
                plan.asked.push(request.len());
                let spoils = plan.spoils.take();
                plan.spoils = spoils.filter(|what| !spoil(&mut request, *what));
            }
            if moment == Some(Moment::Rows)
                && let Some((server, held)) = plan.held.take()
            {
                plan.is_late = true;
                drop(plan);
                // The transaction after has begun: now the old request arrives.
                (&self.server).write_all(&request)?;
                self.let_arrive(&server, &held)?;
                continue;
            }
            while key == END_TXN && plan.is_late {
                drop(plan);
                std::thread::sleep(Duration::from_millis(5));
                plan = self.plan.lock().expect("no holder panics");
            }
            let met = plan.fault.take_if(|(at, _)| Some(*at) == moment).map(|(_, fault)| fault);
            plan.faults += usize::from(met.is_some());
            let mark = match met {
                None => None,
                Some(Fault::Hold) => {
                    plan.waits = true;
                    drop(plan);
                    while self.plan.lock().expect("no holder panics").waits {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    plan = self.plan.lock().expect("no holder panics");
                    Some(Mark::Note(kind(&request)))
                }
                Some(Fault::LoseRequest) => return Ok(false),
                Some(Fault::LoseReply) => Some(Mark::Lose),
                Some(Fault::KillBroker(broker)) => Some(Mark::Kill(broker)),
                Some(Fault::Late) => {
                    // A connection of its own, so that nothing of the old one is in its way.
                    let server = TcpStream::connect(self.server.peer_addr()?)?;
                    plan.held = Some((server, request));
                    return Ok(false);
                }
            };
            if let Some(mark) = mark {
                *self.marked.lock().expect("no holder panics") = Some((correlation, mark));
            }
            let noted = plan.noted;
            drop(plan);
            (&self.server).write_all(&request)?;
            if matches!(mark, Some(Mark::Note(_))) {
                self.wait_for_note(noted);
            }
        }
    }

    /// Whoever asked may be gone, and then this end is closed: not before the broker has answered.
    fn wait_for_note(&self, before: usize) {
        let begun = Instant::now();
        let noted = || self.plan.lock().expect("no holder panics").noted;
        while noted() == before && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a request that was held back, and keeps what the broker says to it.
    fn let_arrive(&self, mut server: &TcpStream, held: &[u8]) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(300));
        server.write_all(held)?;
        let code = code(kind(held), &frame(server)?);
        let mut plan = self.plan.lock().expect("no holder panics");
        (plan.late_answer, plan.is_late) = (Some(code), false);
        drop(plan);
        _ = server.shutdown(Shutdown::Both);
        Ok(())
    }
}

fn replies(
    mut client: &TcpStream,
    server: &TcpStream,
    plan: &Mutex<Plan>,
    (marked, fetches): (&Mutex<Marked>, &Mutex<Vec<Correlation>>),
) -> io::Result<()> {
    loop {
        let mut reply = frame(server)?;
        pause(plan);
        let mut asked = fetches.lock().expect("no holder panics");
        if let Some(at) = asked.iter().position(|correlation| reply[4..8] == *correlation) {
            asked.swap_remove(at);
            drop(asked);
            let mut plan = plan.lock().expect("no holder panics");
            if plan.flips > 0 && reply.len() > RECORDS_FROM {
                plan.flips -= 1;
                plan.flipped += 1;
                // Behind the middle there are only records.
                let at = reply.len() * 2 / 3;
                reply[at] ^= 0x10;
            }
        }
        let marked = *marked.lock().expect("no holder panics");
        match marked.filter(|(correlation, _)| reply[4..8] == *correlation) {
            Some((_, Mark::Lose)) => return Ok(()),
            Some((_, Mark::Kill(broker))) => program::kill_process(broker),
            Some((_, Mark::Note(kind))) => {
                let code = code(kind, &reply);
                let mut plan = plan.lock().expect("no holder panics");
                (plan.late_answer, plan.noted) = (Some(code), plan.noted + 1);
            }
            None => {}
        }
        client.write_all(&reply)?;
    }
}
