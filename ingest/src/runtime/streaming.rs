//! The loop of the core that reads a stream: wait, read what is there, decode whole rows, push.
//!
//! Invariant: a barrier is passed between two rows and waits for no byte: nothing here blocks but the
//! wait that a barrier ends. Rows are numbered in the order in which their bytes came.

use std::sync::Arc;
use std::time::Duration;

use pelton_engine::batch::{InputColumn, Place};
use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::SourceSpec;
use pelton_engine::pipeline::EventClock;
use pelton_engine::watermark::SplitClock;

use super::worker::{Worker, batch_rows_max};
use crate::decode::file_head;
use crate::source::board::{Cut, Limits};
use crate::source::inlet::Inlet;
use crate::source::stream::Peer;

/// A segment is kept at least so often: only then `on_error = "fail"` stops the job.
const SEGMENT_BYTES: u64 = 4 << 20;

pub(crate) struct Streaming {
    worker: Worker,
    inlet: Inlet,
    source: SourceSpec,
    input: Vec<InputColumn>,
    limits: Limits,
    frozen: bool,
    clock: SplitClock,
    /// The watermark by which this epoch's rows are late, where one is for all of them.
    late_by: Option<i64>,
    /// Barriers passed.
    barriers: u64,
    /// Segments closed so far, and decoder calls: the order of rows.
    segments: u64,
    calls: u64,
    /// Bytes in the open segment; `None`: none is open.
    open: Option<u64>,
    epoch_rows: u64,
    epoch_bytes: u64,
    /// The peer whose bytes the decoder saw last.
    current: Option<u64>,
}

/// Where a stream begins and how far its epochs go.
pub(crate) struct Begin {
    pub event_time_max: Option<i64>,
    /// The watermark by which all its rows are late, where one is.
    pub late_by: Option<i64>,
    /// Calls of the decoder in the runs before.
    pub calls: u64,
    pub frozen: bool,
    pub limits: Limits,
}

impl Streaming {
    pub fn new(
        worker: Worker,
        inlet: Inlet,
        (source, input): (SourceSpec, Vec<InputColumn>),
        begin: Begin,
    ) -> Streaming {
        let Begin { event_time_max, late_by, calls, frozen, limits } = begin;
        Streaming {
            worker,
            inlet,
            source,
            input,
            limits,
            frozen,
            clock: SplitClock::of(event_time_max),
            late_by,
            barriers: 0,
            segments: 0,
            calls,
            open: None,
            epoch_rows: 0,
            epoch_bytes: 0,
            current: None,
        }
    }

    /// Runs until the job stops.
    ///
    /// Errors: whatever ends the job.
    pub fn run(mut self) -> Result<()> {
        let shared = Arc::clone(&self.worker.shared);
        let mut idle = false;
        loop {
            let inner = shared.lock();
            let (stop, due) = (inner.stop, self.barriers < inner.barriers);
            drop(inner);
            if stop {
                return Ok(());
            }
            if due {
                self.barrier()?;
                idle = false;
            }
            if self.is_full() {
                self.tell(false, true);
                self.inlet.wait(None, false)?;
                continue;
            }
            // Look first without waiting: only if nothing is there the source is caught up.
            let timeout = if idle { None } else { Some(Duration::ZERO) };
            let any = self.inlet.wait(timeout, true)? || self.has_decodable();
            idle = !any;
            if any {
                self.tell(false, false);
                self.read()?;
            } else {
                self.close()?;
                self.tell(true, false);
            }
        }
    }

    /// Tells outside how things stand.
    fn tell(&self, caught_up: bool, full: bool) {
        let mut inner = self.worker.shared.lock();
        let ended = caught_up && (self.inlet.stream.has_ended() || self.frozen);
        if full && self.barriers == inner.barriers {
            inner.set_full(true);
        }
        inner.set_caught_up(caught_up, ended);
        self.worker.shared.tell_outside();
    }

    fn is_full(&self) -> bool {
        self.limits.bytes.is_some_and(|max| self.epoch_bytes >= max)
            || self.limits.rows.is_some_and(|max| self.epoch_rows >= max)
    }

    fn has_decodable(&self) -> bool {
        self.inlet.stream.peers().iter().any(|peer| peer.decodable)
    }

    /// Reads every peer that is ready, once, and takes the whole rows.
    fn read(&mut self) -> Result<()> {
        self.inlet.take_in()?;
        let mut peers = std::mem::take(self.inlet.stream.peers_mut());
        for peer in &mut peers {
            let too_long = peer.bytes().len() > self.source.max_record_bytes;
            if (peer.decodable || too_long) && !self.is_full() {
                self.decode(peer)?;
            }
        }
        *self.inlet.stream.peers_mut() = peers;
        self.inlet.stream.dismiss();
        Ok(())
    }

    fn decode(&mut self, peer: &mut Peer) -> Result<()> {
        peer.decodable = false;
        if !self.head(peer)? {
            return Ok(());
        }
        self.begin(peer);
        let (mut rows, mut bytes) = (0, 0);
        while !peer.bytes().is_empty() {
            let left = self.limits.rows.map(|max| max.saturating_sub(self.epoch_rows + rows));
            if left == Some(0) {
                peer.decodable = true;
                break;
            }
            let most = batch_rows_max();
            let max_rows = left.map_or(most, |left| (left as usize).min(most));
            let place = &mut self.worker.place;
            (place.major, place.line) = (self.calls, peer.line);
            self.calls += 1;
            let step = self.worker.step(peer.bytes(), peer.ended, max_rows)?;
            peer.line = self.worker.place.line;
            peer.consume(step.consumed);
            (rows, bytes) = (rows + step.rows, bytes + step.consumed as u64);
            if step.need_more {
                break;
            }
        }
        peer.inside_line = self.worker.decoder.is_inside_line();
        (self.epoch_rows, self.epoch_bytes) = (self.epoch_rows + rows, self.epoch_bytes + bytes);
        // This peer's; what the others hold is charged at the barrier.
        let reads = peer.bytes_held() + self.worker.decoder.bytes_held();
        let mut inner = self.worker.shared.lock();
        inner.count(self.barriers, rows, bytes, self.worker.is_crowded());
        inner.charge(0, reads, self.worker.pipeline.bytes_held());
        self.worker.shared.tell_outside();
        drop(inner);
        let in_segment = self.open.insert(self.open.unwrap_or(0) + bytes);
        if *in_segment >= SEGMENT_BYTES { self.close() } else { Ok(()) }
    }

    /// Reads a peer's head, if it was not read before; `false`: it is not all there yet.
    fn head(&mut self, peer: &mut Peer) -> Result<bool> {
        if peer.mapping.is_some() {
            return Ok(true);
        }
        let head = file_head(&self.source, &self.input, peer.bytes(), peer.ended);
        let head = head.map_err(|e| Error::failed(format!("cannot read {}: {e}", peer.name)))?;
        let Some(head) = head else { return Ok(false) };
        peer.line += head.newlines;
        peer.mapping = Some(head.mapping);
        peer.consume(head.consumed);
        Ok(true)
    }

    /// Makes the worker ready for this peer's bytes, in a segment.
    fn begin(&mut self, peer: &mut Peer) {
        if self.open.is_none() {
            let clock = match self.late_by {
                Some(watermark) => EventClock::Fixed(watermark, self.clock.now),
                None => EventClock::Known(self.clock),
            };
            self.worker.pipeline.open(self.segments, clock);
            self.segments += 1;
            self.open = Some(0);
        }
        if self.current.replace(peer.number) == Some(peer.number) {
            return;
        }
        self.worker.decoder.begin(peer.mapping.as_ref().expect("its head was read"));
        let name = Arc::clone(&peer.name);
        self.worker.place = Place { name, split: 0, major: 0, minor: 0, line: peer.line };
        if std::mem::take(&mut peer.inside_line) {
            // The decoder forgot that it was passing over a line when it served another peer.
            let end = memchr::memchr(b'\n', peer.bytes());
            peer.inside_line = end.is_none();
            peer.line += u64::from(end.is_some());
            peer.consume(end.map_or(peer.bytes().len(), |newline| newline + 1));
        }
    }

    /// Takes the open segment into the epoch.
    fn close(&mut self) -> Result<()> {
        if self.open.take().is_none() {
            return Ok(());
        }
        let segment = self.worker.pipeline.close();
        self.clock.see(segment.summary.clock);
        self.worker.pipeline.keep(segment, 0)
    }

    /// Bytes that wait for their rows' ends, and the decoder's buffers.
    fn reads_held(&self) -> usize {
        self.inlet.bytes_held() + self.worker.decoder.bytes_held()
    }

    fn barrier(&mut self) -> Result<()> {
        self.close()?;
        let part = self.worker.pipeline.barrier();
        self.barriers += 1;
        (self.epoch_rows, self.epoch_bytes) = (0, 0);
        let ended = self.inlet.stream.has_ended() && self.inlet.is_current();
        let (place, reads) = (self.inlet.place(self.calls), self.reads_held());
        let mut inner = self.worker.shared.lock();
        inner.charge(0, reads, self.worker.pipeline.bytes_held());
        inner.parts[0] = Some(part);
        self.late_by = inner.late_by;
        self.clock.move_on(inner.clock);
        let event_time_max = self.clock.now;
        inner.stream_cut = Some(Cut { files: Vec::new(), event_time_max, ended });
        inner.stream_log = place;
        let needed_from = inner.log_needed_from;
        self.worker.shared.notify(inner);
        self.inlet.trim(needed_from);
        Ok(())
    }
}
