//! Where a stream's bytes come in: what the write-ahead log holds first, then what its peers send,
//! which counts as received once the log has it.
//!
//! Invariant: with a log, [`Stream`] shows the decoder no byte that an fsync did not cover; one write
//! and one fsync serve everything that was there to read (group commit). Without a log bytes are
//! received as they are read. A disk without room stops the reading, not the barriers: what was read
//! waits here and the log is asked again.

use std::io::ErrorKind;
use std::time::Duration;

use pelton_engine::error::{Error, Result};
use pelton_engine::failpoint;
use pelton_engine::seeded::{self, Bug};
use pelton_engine::wal::{Kind, Log, Replay, Replayed};

use super::state::{LogState, PeerState};
use super::stream::{Peer, Stream};
use crate::decode::Mapping;
use crate::runtime::say;

/// Bytes that one fsync serves at most: some tens of milliseconds of a fast sender.
const GROUP_BYTES: u64 = 4 << 20;
/// Of them, what the bug of this name holds back.
const READ_BYTES: usize = 64 << 10;
/// Between two questions for room on the log's disk.
const ROOM_EVERY: Duration = Duration::from_secs(1);

pub struct Inlet {
    pub stream: Stream,
    log: Option<Log>,
    /// What the log holds behind the checkpoint, until it was read.
    replay: Option<Replay>,
    /// Bytes of peers in the log before this place were seen by the run that wrote the checkpoint.
    known_before: u64,
    /// Records before this place were handed to their peers.
    seen: u64,
    /// The log's disk has no room.
    stuck: bool,
}

impl Inlet {
    /// `place`: of the checkpoint; its peers are read on from the log.
    ///
    /// Errors: `StateIo` where there are such peers and no log.
    pub fn new(mut stream: Stream, log: Option<(Log, Replay)>, place: &LogState) -> Result<Inlet> {
        let (log, replay) = log.unzip();
        if log.is_none() && place.position > 0 {
            return Err(Error::failed("the checkpoint names a write-ahead log, the job has none"));
        }
        for peer in place.peers.iter().rev() {
            stream.peers_mut().insert(0, restored(peer));
        }
        let replay = replay.filter(|replay| replay.position() < replay.end());
        let seen = match (&replay, &log) {
            (Some(replay), _) => replay.position().max(place.position),
            (None, Some(log)) => log.durable(),
            (None, None) => 0,
        };
        let mut inlet =
            Inlet { stream, log, replay, known_before: place.position, seen, stuck: false };
        if inlet.replay.is_none() {
            inlet.end_replay();
        }
        Ok(inlet)
    }

    /// Waits until there is something to read; at most `timeout`. Unless `reading`, nobody is looked
    /// at.
    pub fn wait(&mut self, timeout: Option<Duration>, reading: bool) -> Result<bool> {
        if self.replay.is_some() && reading {
            return Ok(true);
        }
        if self.stuck {
            let soon = timeout.map_or(ROOM_EVERY, |timeout| timeout.min(ROOM_EVERY));
            self.stream.wait(Some(soon), false)?;
            return Ok(reading);
        }
        self.stream.wait(timeout, reading)
    }

    /// Whether all that was received before this run was handed on.
    pub fn is_current(&self) -> bool {
        self.replay.is_none()
    }

    /// Takes in what is there: from the log, or from the peers that are ready.
    ///
    /// Errors: `StateIo` where the log cannot be read or written, a full disk aside.
    pub fn take_in(&mut self) -> Result<()> {
        if self.replay.is_some() {
            return self.read_back();
        }
        if self.log.is_none() {
            for peer in self.stream.peers_mut().iter_mut().filter(|peer| peer.ready && !peer.ended)
            {
                peer.fill();
                peer.receive();
            }
            return Ok(());
        }
        if !self.stuck {
            self.gather()?;
        }
        self.commit()
    }

    /// Reads peers until nothing is there or a group is full.
    fn gather(&mut self) -> Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut bytes = 0;
        loop {
            for peer in self.stream.peers_mut() {
                if !peer.ready || peer.ended || peer.is_closing() {
                    continue;
                }
                if !std::mem::replace(&mut peer.logged, true) {
                    log.append(Kind::Open, peer.number, 0, peer.name.as_bytes());
                }
                let number = peer.number;
                let (offset, read) = peer.fill();
                let end = offset + read.len() as u64;
                if !read.is_empty() {
                    bytes += read.len() as u64;
                    let position = log.append(Kind::Data, number, offset, read);
                    peer.records.push_back((position, end));
                }
                if peer.is_closing() {
                    log.append(Kind::Close, number, end, b"");
                }
            }
            if bytes >= GROUP_BYTES || !self.stream.wait(Some(Duration::ZERO), true)? {
                return Ok(());
            }
            // A peer that has ended is ready for ever.
            let more = |peer: &Peer| peer.ready && !peer.ended && !peer.is_closing();
            if !self.stream.peers().iter().any(more) {
                return Ok(());
            }
        }
    }

    /// Makes what was gathered durable; then it is received.
    fn commit(&mut self) -> Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        failpoint::reach("log");
        if seeded::is(Bug::ReceivedBeforeLogged) {
            self.stream.peers_mut().iter_mut().for_each(Peer::receive);
            if log.pending() < READ_BYTES {
                return Ok(());
            }
        }
        match log.sync() {
            Ok(()) => {}
            Err(error) if wants_room(error.kind()) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    say(&format!(
                        "paused, cannot write the write-ahead log: {error}; reading goes on when there is room"
                    ));
                }
                return Ok(());
            }
            Err(source) => {
                let what = "cannot write the write-ahead log".to_owned();
                return Err(Error::StateIo { what, source });
            }
        }
        if std::mem::take(&mut self.stuck) {
            say("there is room again, reading goes on");
        }
        self.seen = log.durable();
        self.stream.peers_mut().iter_mut().for_each(Peer::receive);
        Ok(())
    }

    /// Hands the next records of the log to their peers.
    fn read_back(&mut self) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let mut bytes = 0;
        while bytes < GROUP_BYTES {
            let Some(record) = replay.advance()? else { break };
            bytes += record.payload.len() as u64;
            // Of what came before the checkpoint only the peers that it names have something left.
            let is_new = record.position >= self.known_before;
            hand_out(self.stream.peers_mut(), &record, is_new);
        }
        self.seen = replay.position().max(self.known_before);
        if replay.position() == replay.end() {
            self.end_replay();
        }
        Ok(())
    }

    /// The peers of the log are gone: their connections ended with the process that had them.
    fn end_replay(&mut self) {
        self.replay = None;
        for peer in self.stream.peers_mut().iter_mut().filter(|peer| peer.is_of_log()) {
            peer.orphaned |= !peer.ended;
        }
    }

    /// Where the stream stands, for the manifest; none without a log.
    pub fn place(&self, calls: u64) -> Option<LogState> {
        self.log.as_ref()?;
        let peers = self.stream.peers().iter().filter(|peer| peer.logged).map(state_of).collect();
        let unread = self.stream.peers().iter().filter_map(|peer| peer.records.front());
        let low =
            unread.map(|&(position, _)| position).min().map_or(self.seen, |p| p.min(self.seen));
        let next_peer = self.stream.numbered();
        Some(LogState { low, position: self.seen, next_peer, calls, peers })
    }

    /// Nothing before a position is needed any more.
    pub fn trim(&mut self, position: u64) {
        if let Some(log) = &mut self.log {
            log.trim(position);
        }
    }

    pub fn bytes_held(&self) -> usize {
        let peers: usize = self.stream.peers().iter().map(Peer::bytes_held).sum();
        peers + self.log.as_ref().map_or(0, Log::bytes_held)
    }
}

fn wants_room(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn hand_out(peers: &mut Vec<Peer>, record: &Replayed<'_>, is_new: bool) {
    let known = peers.iter().position(|peer| peer.number == record.peer);
    let at = match (record.kind, known) {
        (_, Some(at)) => at,
        (Kind::Open, None) if is_new => {
            let name = String::from_utf8_lossy(record.payload);
            let mut peer = Peer::new(record.peer, name.into());
            peer.logged = true;
            // Ahead of the connections of this run.
            let at = peers.iter().position(|peer| !peer.is_of_log()).unwrap_or(peers.len());
            peers.insert(at, peer);
            return;
        }
        // Of a peer that was read to its end before the checkpoint.
        (_, None) => return,
    };
    let peer = &mut peers[at];
    match record.kind {
        Kind::Open => {}
        Kind::Data => {
            let end = record.offset + record.payload.len() as u64;
            if end > peer.offset {
                peer.records.push_back((record.position, end));
                peer.read_back(record.offset, record.payload);
            }
        }
        Kind::Close => peer.close_back(),
    }
}

fn state_of(peer: &Peer) -> PeerState {
    PeerState {
        number: peer.number,
        name: peer.name.to_string(),
        offset: peer.offset,
        line: peer.line,
        inside_line: peer.inside_line,
        mapping: peer.mapping.as_ref().map(Mapping::to_parts),
    }
}

fn restored(state: &PeerState) -> Peer {
    let mut peer = Peer::new(state.number, state.name.as_str().into());
    peer.offset = if seeded::is(Bug::LogOffsetForgotten) { 0 } else { state.offset };
    peer.line = state.line;
    peer.inside_line = state.inside_line;
    peer.mapping = state.mapping.clone().map(Mapping::from_parts);
    peer.logged = true;
    peer
}
