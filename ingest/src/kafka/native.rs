//! Our own client of one core: a connection to each leader, driven without waiting in any of them.
//!
//! While the records of one answer are decoded the next is on its way: a fetch is sent as soon as the
//! headers of the answer before have said where it ends. Connecting, and whatever else takes a wait,
//! is done by another thread, which is asked and replies (`runtime::keeper`).
//!
//! Invariant: an answer's records are handed out only if they were asked for; whatever contradicts
//! itself costs the connection, and the same records are asked for again. Lacks TLS and SASL.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use pelton_engine::error::{Error, Result};

use super::chunk::Chunk;
use super::fetch::{self, Bounds, Fetched, Topic};
use super::flow::{Flow, WAIT_MS};
use super::partition::{Frame, Partition};
use super::records::Fault;
use super::session::{Changes, Wanted};
use super::wire::Malformed;
use super::{Ask, Client, Leader, Reply, SplitStart, Standing};
use crate::ring::poll;
use crate::runtime::say;

/// An answer holds at least one batch, also one larger than was asked for.
const BATCH_BYTES_MAX: usize = 128 << 20;
/// Damaged records are asked for again so often: a bit flipped on the way is another the next time.
const DAMAGED_MAX: u32 = 3;
const PARTITION_BYTES_MIN: usize = 1 << 20;
/// Requests are for this much at first, and for more only where a core waits for them: 5 M rows in messages
/// of 48 KB cost a job 0.96 s of CPU with 16 MiB, 0.86 s with 4 and 0.81 s with 2, as the answers stay in
/// the cache and their memory is touched once. A loop that does nothing else gets 1.5 times as much with 16.
const ASK_BYTES_FIRST: usize = 2 << 20;
/// Answers whose memory is kept, for each connection.
const SPARE_FRAMES: usize = 2;

pub struct Native {
    core: usize,
    asks: SyncSender<Ask>,
    replies: Receiver<Reply>,
    woken: UnixStream,
    /// Requests are for at most this much.
    fetch_bytes: usize,
    /// And for so much now.
    ask_bytes: usize,
    partitions: Vec<Partition>,
    arrived: Vec<SplitStart>,
    links: Vec<Link>,
    /// Questions that found the other thread busy.
    unasked: Vec<Ask>,
    scratch: Vec<u8>,
    spent: Vec<Arc<Frame>>,
    spare: Vec<Vec<u8>>,
    /// Whose turn it is to be handed out, and to stand first in a request.
    turn: usize,
    ready: Vec<bool>,
}

/// A connection to a broker, or one that was asked for.
struct Link {
    node: i32,
    flow: Option<Flow>,
}

impl Native {
    /// `woken` becomes readable when there is a reply or a barrier.
    pub fn new(
        core: usize,
        splits: Vec<SplitStart>,
        (asks, replies): (SyncSender<Ask>, Receiver<Reply>),
        woken: UnixStream,
        fetch_bytes: usize,
    ) -> Native {
        let mut native = Native {
            core,
            asks,
            replies,
            woken,
            fetch_bytes,
            ask_bytes: fetch_bytes.min(ASK_BYTES_FIRST),
            partitions: Vec::new(),
            arrived: Vec::new(),
            links: Vec::new(),
            unasked: Vec::new(),
            scratch: Vec::new(),
            spent: Vec::new(),
            spare: Vec::new(),
            turn: 0,
            ready: Vec::new(),
        };
        splits.into_iter().for_each(|split| native.add(split));
        native
    }

    fn add(&mut self, split: SplitStart) {
        self.arrived.push(split.clone());
        self.partitions.push(Partition::new(split));
        self.settle(self.partitions.len() - 1);
    }

    /// Asks who leads a partition.
    fn settle(&mut self, at: usize) {
        let partition = &mut self.partitions[at];
        partition.leader = None;
        // What was fetched of a log that may have been cut is not believed.
        partition.forget();
        let Partition { position: offset, leader_epoch, .. } = *partition;
        let split = partition.start.split;
        self.ask(Ask::Settle { core: self.core, split, offset, leader_epoch });
    }

    fn ask(&mut self, ask: Ask) {
        // The thread that replies ends only with the job.
        if let Err(TrySendError::Full(ask)) = self.asks.try_send(ask) {
            self.unasked.push(ask);
        }
    }

    fn hear(&mut self) {
        for ask in std::mem::take(&mut self.unasked) {
            self.ask(ask);
        }
        while let Ok(reply) = self.replies.try_recv() {
            match reply {
                Reply::Arrived(split) => self.add(split),
                Reply::Settled { split, leader } => self.settled(split, leader),
                Reply::Away { node } => self.lose(node),
                Reply::Connected { node, stream, version } => {
                    let flow = Flow::new(stream, version, self.spare.pop().unwrap_or_default());
                    match self.links.iter_mut().find(|link| link.node == node) {
                        Some(link) => link.flow = Some(flow),
                        None => self.links.push(Link { node, flow: Some(flow) }),
                    }
                }
            }
        }
    }

    fn settled(&mut self, split: usize, leader: Leader) {
        let partition = self.partitions.iter_mut().find(|p| p.start.split == split);
        partition.expect("a reply is about a split of this core").leader = Some(leader);
        if !self.links.iter().any(|link| link.node == leader.node) {
            self.links.push(Link { node: leader.node, flow: None });
            self.ask(Ask::Connect { core: self.core, node: leader.node });
        }
    }

    /// Forgets a connection; its partitions may have another leader.
    fn lose(&mut self, node: i32) {
        self.links.retain(|link| link.node != node);
        for at in 0..self.partitions.len() {
            if self.partitions[at].leader.is_some_and(|leader| leader.node == node) {
                self.settle(at);
            }
        }
    }

    /// Reads what came, and asks for more.
    fn drive(&mut self) -> Result<()> {
        for at in (0..self.links.len()).rev() {
            let link = &mut self.links[at];
            let Some(flow) = &mut link.flow else { continue };
            let node = link.node;
            let version = flow.version;
            let frame = match flow.read(self.fetch_bytes + BATCH_BYTES_MAX) {
                Ok(false) => None,
                Ok(true) => Some(flow.take_frame(self.spare.pop())),
                Err(error) => {
                    say(&format!("lost broker {node}: {error}"));
                    self.lose(node);
                    continue;
                }
            };
            if let Some(frame) = frame {
                let taken = self.take_in(version, at, Arc::new(frame))?;
                if let Err(Malformed(what)) = taken {
                    say(&format!("lost broker {node}: its answer's {what} cannot be"));
                    self.lose(node);
                    continue;
                }
            }
            if let Err(error) = self.send(at) {
                say(&format!("lost broker {node}: {error}"));
                self.lose(node);
            }
        }
        Ok(())
    }

    /// Asks for records of all partitions that a link leads, if it is idle and little is waiting.
    fn send(&mut self, link: usize) -> io::Result<()> {
        let Link { node, flow: Some(flow) } = &mut self.links[link] else { return Ok(()) };
        if flow.asked || Instant::now() < flow.not_before {
            return Ok(());
        }
        let (count, first) = (self.partitions.len(), self.turn);
        let ours = (0..count).map(|at| (first + at) % count).filter(|&at| {
            let partition = &self.partitions[at];
            partition.leader.is_some_and(|leader| leader.node == *node)
        });
        let mut waiting = 0;
        let mut wanted: Vec<usize> = Vec::new();
        for at in ours {
            waiting += self.partitions[at].bytes_pending();
            if !self.partitions[at].is_asked_out() {
                wanted.push(at);
            }
        }
        if wanted.is_empty() || waiting > self.ask_bytes {
            return Ok(());
        }
        let share = (self.ask_bytes / wanted.len()).max(PARTITION_BYTES_MIN) as i32;
        let wanted = wanted.into_iter().map(|at| {
            let Partition { leader, fetched: offset, .. } = self.partitions[at];
            let leader_epoch = leader.map_or(-1, |leader| leader.epoch);
            (at, Wanted { leader_epoch, offset, bytes_max: share })
        });
        let Changes { session, epoch, asked, forgotten } = flow.session.ask(wanted.collect());
        let ask = |at: usize| {
            let Partition { start, leader, fetched, .. } = &self.partitions[at];
            fetch::Ask {
                topic: &start.topic,
                topic_id: start.topic_id,
                partition: start.partition,
                leader_epoch: leader.map_or(-1, |leader| leader.epoch),
                offset: *fetched,
                bytes_max: share,
            }
        };
        let asked: Vec<_> = asked.into_iter().map(ask).collect();
        let forgotten: Vec<_> = forgotten.into_iter().map(ask).collect();
        let bounds = Bounds { wait_ms: WAIT_MS, bytes_max: self.ask_bytes as i32 };
        flow.correlation = flow.correlation.wrapping_add(1);
        let ids = (flow.correlation, session, epoch);
        let request = fetch::request(flow.version, ids, bounds, (&asked, &forgotten));
        // One request is under way at a time, so it fits the socket's buffer.
        flow.stream.write_all(&request)?;
        (flow.asked, flow.moved) = (true, Instant::now());
        self.turn = self.turn.wrapping_add(1) % count;
        Ok(())
    }

    /// Takes an answer in; the inner error costs the connection.
    fn take_in(
        &mut self,
        version: i16,
        link: usize,
        frame: Arc<Frame>,
    ) -> Result<std::result::Result<(), Malformed>> {
        let walked = fetch::walk(version, frame.answer());
        let (head, fetched) = match walked {
            Ok(walked) => walked,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let flow = self.links[link].flow.as_mut().expect("it has just answered");
        if head.correlation != flow.correlation {
            return Ok(Err(Malformed("correlation")));
        }
        let pause = Duration::from_millis(head.throttle_ms.max(0) as u64);
        flow.not_before = Instant::now() + pause;
        if let Some(error) = ResponseError::try_from_code(head.error) {
            return Ok(match flow.session.is_lost(error) {
                true => Ok(()),
                false => Err(Malformed("error for the whole of it")),
            });
        }
        flow.session.answered(head.session);
        flow.was_full = frame.answer.len() >= self.ask_bytes / 2;
        let mut asked = flow.session.held().to_vec();
        for answer in fetched {
            let is_it = |(at, _): &(usize, Wanted)| is_of(&self.partitions[*at], &answer);
            let Some(place) = asked.iter().position(is_it) else {
                return Ok(Err(Malformed("partition")));
            };
            let (at, wanted) = asked.swap_remove(place);
            // What was forgotten since is asked for again from an earlier offset, and this is behind it.
            if answer.error != 0 || self.partitions[at].fetched == wanted.offset {
                self.take_partition(at, answer, &frame)?;
            }
        }
        // Who is left out has nothing new.
        for (at, wanted) in asked {
            if self.partitions[at].fetched == wanted.offset {
                self.partitions[at].take_nothing();
            }
        }
        self.spent.push(frame);
        Ok(Ok(()))
    }

    fn take_partition(&mut self, at: usize, answer: Fetched, frame: &Arc<Frame>) -> Result<()> {
        let partition = &mut self.partitions[at];
        if let Some(error) = ResponseError::try_from_code(answer.error) {
            return self.refused(at, error);
        }
        let Fetched { records, aborted, stable, .. } = answer;
        match partition.take_in(frame, records, aborted, stable) {
            Ok(()) => Ok(()),
            Err(fault) => self.damaged(at, fault),
        }
    }

    /// A broker has no records for us: it is not the leader any more, or they are gone.
    fn refused(&mut self, at: usize, error: ResponseError) -> Result<()> {
        let partition = &self.partitions[at];
        let (name, offset) = (partition.name(), partition.fetched);
        if error == ResponseError::OffsetOutOfRange {
            return Err(gone(&name, offset, "the broker has no such offset (any more)"));
        }
        let moved = error.is_retriable()
            || matches!(
                error,
                ResponseError::FencedLeaderEpoch
                    | ResponseError::UnknownTopicId
                    | ResponseError::InconsistentTopicId
            );
        if !moved {
            return Err(Error::failed(format!("cannot read {name} at offset {offset}: {error}")));
        }
        self.settle(at);
        Ok(())
    }

    fn damaged(&mut self, at: usize, fault: Fault) -> Result<()> {
        let partition = &mut self.partitions[at];
        partition.damaged += 1;
        partition.forget();
        let what = format!(
            "cannot read the batch at {}, offset {}: {fault}",
            partition.name(),
            partition.position
        );
        if partition.damaged > DAMAGED_MAX {
            return Err(Error::failed(format!("{what}; it came so {DAMAGED_MAX} times")));
        }
        say(&format!("{what}; asking for it again"));
        Ok(())
    }

    /// Keeps the memory of answers that nobody holds any more.
    fn recycle(&mut self) {
        let spares = SPARE_FRAMES * self.links.len();
        for frame in std::mem::take(&mut self.spent) {
            if let Some(frame) = Arc::into_inner(frame)
                && self.spare.len() < spares
                && frame.memory.len() <= 2 * self.fetch_bytes
            {
                self.spare.push(frame.memory);
            }
        }
    }

    /// There is nothing to do but to wait for a broker that has more than it was asked for.
    fn ask_for_more(&mut self) {
        let mut flows = self.links.iter_mut().filter_map(|link| link.flow.as_mut());
        let starves = flows.any(|flow| flow.asked && std::mem::take(&mut flow.was_full));
        if starves && !self.partitions.iter().any(Partition::has_pending) {
            self.ask_bytes = (2 * self.ask_bytes).min(self.fetch_bytes);
        }
    }

    fn wait(&mut self, timeout: Duration, read: bool) -> Result<()> {
        let flows = self.links.iter().filter_map(|link| link.flow.as_ref());
        let flows = flows.filter(|flow| read && flow.asked);
        let sockets: Vec<BorrowedFd<'_>> = std::iter::once(self.woken.as_fd())
            .chain(flows.map(|flow| flow.stream.as_fd()))
            .collect();
        poll::readable(&sockets, Some(timeout), &mut self.ready)
            .map_err(|error| Error::failed(format!("cannot wait for brokers: {error}")))?;
        if self.ready[0] {
            // What was written says only that something is to be looked at.
            _ = (&self.woken).read(&mut [0; 64]);
        }
        Ok(())
    }
}

impl Client for Native {
    fn turn(&mut self, timeout: Duration, read: bool) -> Result<()> {
        self.hear();
        if read {
            self.drive()?;
        }
        // Who does not want to read waits also while records are there.
        let rests = !read || !self.partitions.iter().any(Partition::has_pending);
        if !timeout.is_zero() && rests {
            self.ask_for_more();
            self.wait(timeout, read)?;
        }
        Ok(())
    }

    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool> {
        let count = self.partitions.len();
        let with_pending = |at: &usize| self.partitions[*at].has_pending();
        let Some(at) = (0..count).map(|at| (self.turn + at) % count).find(with_pending) else {
            return Ok(false);
        };
        self.turn = (at + 1) % count;
        let moved = self.partitions[at].hand_out(chunk, &mut self.scratch, &mut self.spent);
        if let Err(fault) = moved {
            self.damaged(at, fault)?;
        }
        self.recycle();
        Ok(true)
    }

    fn arrivals(&mut self) -> Vec<SplitStart> {
        std::mem::take(&mut self.arrived)
    }

    fn standing(&self, split: usize) -> Standing {
        let partition = self.partitions.iter().find(|p| p.start.split == split);
        partition.expect("the split is of this core").standing()
    }

    fn bytes_held(&self) -> usize {
        let flows = self.links.iter().filter_map(|link| link.flow.as_ref());
        let inbound: usize = flows.map(|flow| flow.bytes.capacity()).sum();
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let pending: usize = self.partitions.iter().map(Partition::bytes_pending).sum();
        inbound + spare + pending + self.scratch.capacity()
    }
}

/// The error of a split whose records are not there: nothing is passed over (SEMANTICS 7).
pub fn gone(name: &str, offset: i64, why: &str) -> Error {
    Error::failed(format!(
        "cannot go on with {name} at offset {offset}: {why}; what is lost cannot be read, and nothing \
         is passed over: to go on without it, start anew with an empty [checkpoint] path and `start`"
    ))
}

fn is_of(partition: &Partition, answer: &Fetched) -> bool {
    let start = &partition.start;
    let topic = match &answer.topic {
        Topic::Id(id) => *id == start.topic_id,
        Topic::Name(name) => **name == *start.topic,
    };
    topic && answer.partition == start.partition
}
