//! Filter and projection: rows to their fates, keys and arguments. Twin of `cpu::project` and
//! `cpu::filter`, for all expressions of a query at once.
//!
//! Invariant: what comes back is a function of the row alone. The record of a row stays on the device
//! until [`super::aggregate::Table`] has taken it in; its fate comes back at once, as it decides what
//! the watermark sees.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::device::Buffer;
use super::error::{GpuError, Result};
use super::faults::Fault;
use super::filter::{self, Passed, Sent};
use super::program::{Program, dispatch};
use super::upload::{Packed, pack, params_words};

/// Rows of a batch at most; more are cut into several.
pub const ROWS_MAX: usize = 32 << 10;

/// Records of a batch's rows, on the device.
pub struct Batch {
    pub(super) records: Buffer,
    pub(super) rows: usize,
    /// Words of its texts, and of the longest.
    pub(super) text_words: usize,
    pub(super) text_longest: usize,
    pub(super) place: Place,
}

/// Where a batch stands in the input: its row `r` at `(split, major, minor + its offset)`, and of rows that
/// stand together the later one has the greater `first + r`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub split: u32,
    pub major: u64,
    pub minor: u64,
    pub first: u32,
}

impl Batch {
    /// The same batch at its place, for `first` and `last`.
    pub fn at(self, place: Place) -> Batch {
        Batch { place, ..self }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// What became of a row on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate(u32);

impl Fate {
    pub(super) const PASSES: Fate = Fate(0);
    pub(super) const DROPPED_FIRST: Fate = Fate(1);

    pub(super) fn of_device(word: u32) -> Fate {
        Fate(word)
    }

    /// The filter that dropped it, from 0 on.
    pub fn dropped_by(self) -> Option<usize> {
        (self.0 & 3).checked_sub(1).map(|filter| filter as usize)
    }

    /// The expression that it stopped at: filters, then keys, then arguments, from 0 on.
    pub fn stopped_at(self) -> Option<usize> {
        (self.0 >> 2).checked_sub(1).map(|expr| expr as usize)
    }

    pub fn passes(self) -> bool {
        self.0 == 0
    }
}

/// The buffers through which batches of one core go up, and their fates come back.
pub struct Projector {
    program: Arc<Program>,
    /// Number of the last batch: its answer must have it.
    batches: u32,
    rows_max: usize,
    room: Option<Room>,
    compaction: Option<filter::Room>,
    /// Records of batches that were taken in, to serve again.
    spare: Vec<Buffer>,
}

struct Room {
    /// Words of parameters and columns that fit.
    words: usize,
    rows: usize,
    params: Buffer,
    staging: Buffer,
    input: Buffer,
    fates: Buffer,
    answer: Buffer,
}

const TRANSFER: wgpu::BufferUsages =
    wgpu::BufferUsages::COPY_DST.union(wgpu::BufferUsages::COPY_SRC);
pub(super) const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(TRANSFER);
pub(super) const STAGING: wgpu::BufferUsages =
    wgpu::BufferUsages::MAP_WRITE.union(wgpu::BufferUsages::COPY_SRC);
pub(super) const ANSWER: wgpu::BufferUsages =
    wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);
pub(super) const UNIFORM: wgpu::BufferUsages =
    wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);

/// Batches whose records are kept to serve again.
const SPARE_MAX: usize = 64;

impl Projector {
    pub fn new(program: &Arc<Program>) -> Projector {
        let program = Arc::clone(program);
        Projector {
            program,
            batches: 0,
            rows_max: 0,
            room: None,
            compaction: None,
            spare: Vec::new(),
        }
    }

    /// Computes rows `start .. start + rows`; appends a fate for each to `fates`.
    ///
    /// Shapes: one column an input of the query, all of full length; at most [`ROWS_MAX`] rows.
    /// Cost: the columns go up, 4 bytes a row come back; the call waits for them.
    pub fn project(
        &mut self,
        columns: &[ArrayRef],
        start: usize,
        rows: usize,
        fates: &mut Vec<Fate>,
    ) -> Result<Batch> {
        self.packed(columns, (start, rows), |own, program, packed| {
            own.run(program, packed, rows, fates)
        })
    }

    /// As [`Projector::project`], for a program of rows: what passes comes back, compacted.
    ///
    /// Cost: the columns go up; what comes back is in proportion to the rows that pass; the call waits.
    pub fn filter(
        &mut self,
        columns: &[ArrayRef],
        start: usize,
        rows: usize,
        fates: &mut Vec<Fate>,
    ) -> Result<Passed> {
        self.packed(columns, (start, rows), |own, program, packed| {
            let (encoder, records) = own.encode(program, packed, rows)?;
            let mut compaction = filter::Room::with(own.compaction.take(), program, rows)?;
            let room = own.room.as_ref().expect("what was encoded has its room");
            let (fates_there, number) = (&room.fates, packed.number());
            let sent = Sent { encoder, records: &records, fates: fates_there, rows, number };
            let passed = compaction.compact(program, sent, fates);
            own.compaction = Some(compaction);
            own.spare.push(records);
            passed
        })
    }

    fn packed<T>(
        &mut self,
        columns: &[ArrayRef],
        (start, rows): (usize, usize),
        run: impl FnOnce(&mut Self, &Program, &Packed<'_>) -> Result<T>,
    ) -> Result<T> {
        assert!(rows <= ROWS_MAX, "longer batches are cut");
        let program = Arc::clone(&self.program);
        let records_words = rows * program.records.words;
        self.batches = self.batches.wrapping_add(1).max(1);
        let packed = pack(&program.inputs, columns, (start, rows), records_words, self.batches)?;
        run(self, &program, &packed)
    }

    /// Records the way up of rows and their projection; their records will be in the buffer.
    fn encode(
        &mut self,
        program: &Program,
        packed: &Packed<'_>,
        rows: usize,
    ) -> Result<(wgpu::CommandEncoder, Buffer)> {
        let device = &program.device;
        self.rows_max = self.rows_max.max(rows.next_power_of_two());
        let text_words = packed.text_words();
        let records = self.records(program, text_words)?;
        let room = self.room(program, packed.words, rows)?;
        device.fill_mapped(&room.staging, 4 * packed.words, |put| packed.write(put))?;
        let params_bytes = 4 * packed.params_words() as u64;
        let texts_at = 4 * packed.texts_at as u64;
        let buffers = [(0, &room.params), (1, &room.input), (2, &records), (3, &room.fates)];
        let group = device.bind(&program.project, &buffers);
        let mut encoder = device.encoder();
        let (staging, input) = (&room.staging.raw, &room.input.raw);
        encoder.copy_buffer_to_buffer(staging, 0, &room.params.raw, 0, params_bytes);
        encoder.copy_buffer_to_buffer(staging, params_bytes, input, 0, texts_at - params_bytes);
        if text_words > 0 {
            let (behind, bytes) =
                (4 * (rows * program.records.words) as u64, 4 * text_words as u64);
            encoder.copy_buffer_to_buffer(staging, texts_at, &records.raw, behind, bytes);
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        dispatch(&mut pass, &program.project, &group, rows as u32);
        drop(pass);
        Ok((encoder, records))
    }

    fn run(
        &mut self,
        program: &Program,
        packed: &Packed<'_>,
        rows: usize,
        fates: &mut Vec<Fate>,
    ) -> Result<Batch> {
        let device = &program.device;
        let (mut encoder, records) = self.encode(program, packed, rows)?;
        let room = self.room.as_ref().expect("what was encoded has its room");
        let (fate_bytes, text_words) = (4 * (rows + 1) as u64, packed.text_words());
        encoder.copy_buffer_to_buffer(&room.fates.raw, 0, &room.answer.raw, 0, fate_bytes);
        let index = device.submit(encoder)?;
        device.wait(&index, "filter and projection")?;
        let mut answer = device.read_mapped(&room.answer, rows + 1)?;
        let (told, number) = (answer[0], packed.number());
        if told != number {
            let told = format!("fates of batch {told} in answer to batch {number}");
            return Err(GpuError::Untrusted(told));
        }
        if device.faults.fires(Fault::Fate) {
            answer[1] ^= 1;
        }
        fates.extend(answer[1..].iter().copied().map(Fate));
        let (text_longest, place) = (packed.text_longest, Place::default());
        Ok(Batch { records, rows, text_words, text_longest, place })
    }

    /// The records of a batch, in host memory.
    pub(super) fn records_of(&self, batch: &Batch) -> Result<Vec<u32>> {
        let device = &self.program.device;
        let words = batch.rows * self.program.records.words;
        let answer = device.buffer(4 * words as u64, ANSWER)?;
        let mut encoder = device.encoder();
        encoder.copy_buffer_to_buffer(&batch.records.raw, 0, &answer.raw, 0, 4 * words as u64);
        let index = device.submit(encoder)?;
        device.wait(&index, "records")?;
        device.read_mapped(&answer, words)
    }

    /// Gives the memory of a batch back to serve again, once nobody else has it.
    pub fn recycle(&mut self, batch: Arc<Batch>) {
        let batch = Arc::into_inner(batch).filter(|_| self.spare.len() < SPARE_MAX);
        self.spare.extend(batch.map(|batch| batch.records));
    }

    fn records(&mut self, program: &Program, text_words: usize) -> Result<Buffer> {
        let texts = if text_words > 0 { text_words.next_power_of_two() } else { 0 };
        let bytes = (4 * (program.records.words * self.rows_max + texts)) as u64;
        while let Some(spare) = self.spare.pop() {
            if spare.raw.size() >= bytes {
                return Ok(spare);
            }
        }
        program.device.buffer(bytes, STORAGE)
    }

    fn room(&mut self, program: &Program, words: usize, rows: usize) -> Result<&Room> {
        let fits = self.room.as_ref().is_some_and(|room| room.words >= words && room.rows >= rows);
        if !fits {
            // The old one goes first: a budget need not hold both.
            self.room = None;
            let (words, rows) = (words.next_power_of_two(), rows.next_power_of_two());
            let device = &program.device;
            let (bytes, fate_bytes) = (4 * words as u64, 4 * (rows + 1) as u64);
            self.room = Some(Room {
                words,
                rows,
                params: device.buffer(4 * params_words(&program.inputs) as u64, UNIFORM)?,
                staging: device.buffer(bytes, STAGING)?,
                input: device.buffer(bytes, STORAGE)?,
                fates: device.buffer(fate_bytes, STORAGE)?,
                answer: device.buffer(fate_bytes, ANSWER)?,
            });
        }
        self.room.as_ref().ok_or_else(|| GpuError::Untrusted("no room was made".to_owned()))
    }
}
