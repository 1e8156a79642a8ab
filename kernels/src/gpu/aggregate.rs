//! Hash aggregate on a device: the groups of an epoch, resident until they are drained. Twin of
//! `cpu::aggregate`.
//!
//! Invariant: batches in any order, cut in any way, on any tier give the states that the CPU's table
//! has for the same rows; [`Table::drain`] hands them to such a table, so there is one form of a
//! partial. Two submissions are in flight at most; a batch's records are kept until its submission is
//! known to have found room for every row, else the table grows and the rows without room go again.
//! Nothing is believed unseen: the rows that the device says it took in are compared with those sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::device::{Buffer, Device};
use super::error::{GpuError, Result};
use super::faults::Fault;
use super::near::{self, Near};
use super::program::{Program, TableBuffers, dispatch};
use super::project::{ANSWER, Batch, Place, Projector, STAGING, STORAGE, UNIFORM};
use super::room::Room;

const IN_FLIGHT_MAX: usize = 2;
/// Batches of one submission.
pub(super) const BATCHES_MAX: usize = 16;
/// Words of the control buffer before the exceptions, of them those that come back with every
/// submission, and of each exception.
pub(super) const CONTROL_WORDS: usize = 16;
pub(super) const CONTROL_TOLD: usize = 8;
pub(super) const EXCEPTION_WORDS: usize = 4;

/// The exponent of the least double in an exact sum's window unless the host knows better. The window
/// is 96 exponents wide: from 2^-44 up to 2^52, so that prices, measurements and counts fall inside.
const BASE_DEFAULT: u32 = 1023 - 44;
pub(super) const BASE_MAX: u32 = 0x7ff - 96;

pub struct Table {
    pub(super) program: Arc<Program>,
    pub(super) room: Option<Room>,
    pub(super) scratch: Option<Scratch>,
    pub(super) in_flight: VecDeque<Flight>,
    /// Rows sent since the last drain.
    pub(super) rows_sent: u64,
    pub(super) growths_in_vain: u32,
    /// Number of the epoch: what comes back must have it.
    epoch: u32,
    /// Groups of the epoch so far, or of the one before.
    pub(super) groups_seen: u32,
    pre_aggregates: bool,
    /// Base exponents of the exact sums.
    pub(super) bases: Vec<u32>,
    /// Exceptions that the table may hold by now, and words of texts.
    pub(super) exceptions_bound: usize,
    pub(super) heap_bound: usize,
}

/// What one submission after the other uses.
pub(super) struct Scratch {
    pub rows: usize,
    pub params: Buffer,
    places: Buffer,
    bits: Buffer,
    /// One for each submission in flight: staged parameters and selections; answers.
    pub stages: Vec<(Buffer, Buffer)>,
    pub next: usize,
}

pub(super) struct Flight {
    index: wgpu::SubmissionIndex,
    /// Its answer must have it.
    number: u32,
    stage: usize,
    pub batches: Vec<Selected>,
}

/// What a dispatch is asked; of a table that only grows, no rows.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked {
    pub rows: usize,
    pub back_us: i64,
    /// Groups there were before the table grew.
    pub groups_before: u32,
    pub number: u32,
    pub near: Option<Near>,
    pub place: Place,
}

/// A batch and a bit for each of its rows that counts.
pub struct Selected {
    /// Windows that overlap share it: its records serve again after the last of them.
    pub batch: Arc<Batch>,
    /// A word for 32 rows.
    pub rows: Vec<u32>,
    /// How far before the window's start in the records these rows' window begins.
    pub back_us: i64,
}

/// Words of the parameters of `aggregate.wgsl`.
fn params_words(program: &Program) -> usize {
    24 + 4 * program.states.exact.len().max(1)
}

fn selection_words(rows: usize) -> usize {
    rows.div_ceil(32)
}

impl Table {
    pub fn new(program: &Arc<Program>) -> Table {
        let bases = vec![BASE_DEFAULT; program.states.exact.len()];
        Table {
            program: Arc::clone(program),
            room: None,
            scratch: None,
            in_flight: VecDeque::new(),
            rows_sent: 0,
            growths_in_vain: 0,
            epoch: program.device.number(),
            groups_seen: 0,
            pre_aggregates: true,
            bases,
            exceptions_bound: 0,
            heap_bound: 0,
        }
    }

    /// Whether few groups are folded in a workgroup's own memory first, as they are by default: the
    /// states are the same, so that a measurement can ask for either.
    pub fn pre_aggregate(&mut self, allowed: bool) {
        self.pre_aggregates = allowed;
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.program.device
    }

    /// Number of the epoch, as the device has to tell it.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn near(&self) -> Option<Near> {
        let states = &self.program.states;
        let near = near::choose(self.groups_seen, near::groups_max(states.units));
        near.filter(|_| self.pre_aggregates)
    }

    /// Takes the selected rows of some batches in. Their records serve `projector` again once they
    /// are done with.
    pub fn aggregate(&mut self, batches: Vec<Selected>, projector: &mut Projector) -> Result<()> {
        let mut batches = batches.into_iter().peekable();
        while batches.peek().is_some() {
            let some: Vec<_> = batches.by_ref().take(BATCHES_MAX).collect();
            self.rows_sent += some.iter().map(Selected::count).sum::<u64>();
            self.send(some, projector)?;
        }
        Ok(())
    }

    /// Waits until every batch has been taken in.
    pub fn settle(&mut self, projector: &mut Projector) -> Result<()> {
        while let Some(flight) = self.in_flight.pop_front() {
            self.land(flight, projector)?;
        }
        Ok(())
    }

    /// Bytes on the device.
    pub fn bytes_held(&self) -> u64 {
        let room = self.room.as_ref().map_or(0, |room| {
            let buffers = [&room.slots, &room.keys, &room.sums, &room.extremes, &room.control];
            buffers.iter().map(|buffer| buffer.raw.size()).sum()
        });
        room + self.scratch.as_ref().map_or(0, |scratch| {
            let own = [&scratch.params, &scratch.places, &scratch.bits];
            let stages = scratch.stages.iter().flat_map(|(a, b)| [a, b]);
            own.into_iter().chain(stages).map(|buffer| buffer.raw.size()).sum()
        })
    }

    fn send(&mut self, batches: Vec<Selected>, projector: &mut Projector) -> Result<()> {
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            if let Some(flight) = self.in_flight.pop_front() {
                self.land(flight, projector)?;
            }
        }
        let rows = batches.iter().map(|selected| selected.batch.rows).max().unwrap_or(0);
        self.make_scratch(rows)?;
        self.make_exceptions(&batches)?;
        self.make_room()?;
        self.make_heap(&batches)?;
        let flight = self.submit(batches)?;
        self.in_flight.push_back(flight);
        Ok(())
    }

    /// Records and submits the dispatches of some batches.
    fn submit(&mut self, batches: Vec<Selected>) -> Result<Flight> {
        let program = Arc::clone(&self.program);
        let device = &program.device;
        let stage = self.next_stage();
        let (Some(room), Some(scratch)) = (&self.room, &self.scratch) else {
            return Err(GpuError::Untrusted("a table without room".to_owned()));
        };
        let (staging, answer) = &scratch.stages[stage];
        let params = params_words(&program);
        let (number, near) = (device.number(), self.near());
        let mut words = Vec::new();
        for selected in &batches {
            let (rows, back_us) = (selected.batch.rows, selected.back_us);
            let place = selected.batch.place;
            let asked = Asked { rows, back_us, groups_before: 0, number, near, place };
            words.extend(self.params(&asked, room, scratch.rows));
            words.extend(&selected.rows);
            if device.faults.fires(Fault::Row) {
                let last = words.len() - 1;
                words[last] &= words[last].wrapping_sub(1);
            }
        }
        device.write_mapped(staging, &words)?;
        let mut encoder = device.encoder();
        let (mut from, mut to) = (0, 0);
        for selected in &batches {
            let selection = 4 * selected.rows.len() as u64;
            let bits = &scratch.bits.raw;
            encoder.clear_buffer(bits, 0, None);
            encoder.copy_buffer_to_buffer(
                &staging.raw,
                from,
                &scratch.params.raw,
                0,
                4 * params as u64,
            );
            from += 4 * params as u64;
            encoder.copy_buffer_to_buffer(&staging.raw, from, bits, 16, selection);
            from += selection;
            let buffers = self.buffers(&selected.batch.records, room, scratch);
            record(&program, &mut encoder, &buffers, selected.batch.rows as u32, near.is_some());
            encoder.copy_buffer_to_buffer(bits, 0, &answer.raw, to, 16);
            encoder.copy_buffer_to_buffer(bits, 16 + selection, &answer.raw, to + 16, selection);
            to += 16 + selection;
        }
        let told = 4 * CONTROL_TOLD as u64;
        encoder.copy_buffer_to_buffer(&room.control.raw, 0, &answer.raw, to, told);
        let index = device.submit(encoder)?;
        Ok(Flight { index, number, stage, batches })
    }

    pub(super) fn buffers<'a>(
        &'a self,
        records: &'a Buffer,
        room: &'a Room,
        scratch: &'a Scratch,
    ) -> TableBuffers<'a> {
        TableBuffers {
            params: &scratch.params,
            records,
            places: &scratch.places,
            bits: &scratch.bits,
            slots: &room.slots,
            keys: &room.keys,
            sums: &room.sums,
            extremes: &room.extremes,
            control: &room.control,
        }
    }

    pub(super) fn params(&self, asked: &Asked, room: &Room, row_capacity: usize) -> Vec<u32> {
        let Asked { rows, back_us, groups_before, number, near, place } = *asked;
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        let (major, minor) = (halves(place.major), halves(place.minor));
        let Near { groups, copies } = near.unwrap_or(Near { groups: 0, copies: 0 });
        let mut words = vec![
            rows as u32,
            room.slot_count,
            room.groups,
            room.exceptions as u32,
            room.seed,
            groups_before,
            selection_words(rows) as u32,
            row_capacity as u32,
            back_us as u32,
            (back_us >> 32) as u32,
            0,
            0,
            self.epoch,
            number,
            groups,
            copies,
            place.split,
            place.first,
            major[0],
            major[1],
            minor[0],
            minor[1],
            room.heap_words as u32,
            0,
        ];
        words.extend(self.bases.iter().flat_map(|&base| [base, 0, 0, 0]));
        words.resize(params_words(&self.program), 0);
        words
    }

    /// Reads what became of a submission; rows without room go again after the table has grown.
    fn land(&mut self, flight: Flight, projector: &mut Projector) -> Result<()> {
        let program = Arc::clone(&self.program);
        program.device.wait(&flight.index, "aggregate")?;
        let scratch = self.scratch.as_ref();
        let (_, answer) =
            &scratch.expect("a submission in flight has its buffers").stages[flight.stage];
        let words = flight.batches.iter().map(|selected| 4 + selected.rows.len()).sum::<usize>();
        let mut answer = program.device.read_mapped(answer, words + CONTROL_TOLD)?;
        answer[0] += u32::from(program.device.faults.fires(Fault::Mark));
        let (batches, control) = answer.split_at(words);
        self.exceptions_bound = self.exceptions_bound.max(control[1] as usize);
        self.heap_bound = self.heap_bound.max(control[4] as usize);
        self.groups_seen = control[0];
        let mut at = 0;
        let mut again = Vec::new();
        for selected in flight.batches {
            let end = at + 4 + selected.rows.len();
            let (head, left_over) = batches[at..end].split_at(4);
            at = end;
            if head[1] != flight.number {
                let (told, number) = (head[1], flight.number);
                let told = format!("an answer to submission {told} in place of {number}");
                return Err(GpuError::Untrusted(told));
            }
            let counted: u32 = left_over.iter().map(|word| word.count_ones()).sum();
            if counted != head[0] {
                let told = format!("{} rows found no room, but {counted} are marked", head[0]);
                return Err(GpuError::Untrusted(told));
            }
            if counted == 0 {
                projector.recycle(selected.batch);
            } else {
                again.push(Selected { rows: left_over.to_vec(), ..selected });
            }
        }
        if again.is_empty() {
            self.growths_in_vain = 0;
            return Ok(());
        }
        self.grow(control[0])?;
        self.send(again, projector)
    }

    fn next_stage(&mut self) -> usize {
        let scratch = self.scratch.as_mut().expect("buffers are made before a submission");
        scratch.next = (scratch.next + 1) % scratch.stages.len();
        scratch.next
    }

    fn make_scratch(&mut self, rows: usize) -> Result<()> {
        if self.scratch.as_ref().is_some_and(|scratch| scratch.rows >= rows) {
            return Ok(());
        }
        // Those in flight still use the old ones; dropping only gives up our hold on them, but their
        // answers are to be read.
        if !self.in_flight.is_empty() {
            let flights = std::mem::take(&mut self.in_flight);
            let mut spare = Projector::new(&self.program);
            for flight in flights {
                self.land(flight, &mut spare)?;
            }
        }
        self.scratch = None;
        let rows = rows.max(1024).next_power_of_two();
        let device = &self.program.device;
        let selection = 4 * selection_words(rows) as u64;
        let params = 4 * params_words(&self.program) as u64;
        let staged = BATCHES_MAX as u64 * (params + selection);
        let answered = BATCHES_MAX as u64 * (16 + selection) + 4 * CONTROL_TOLD as u64;
        // One more than are in flight, as rows without room go again while the next one is.
        let stages = (0..=IN_FLIGHT_MAX)
            .map(|_| Ok((device.buffer(staged, STAGING)?, device.buffer(answered, ANSWER)?)))
            .collect::<Result<Vec<_>>>()?;
        self.scratch = Some(Scratch {
            rows,
            params: device.buffer(params, UNIFORM)?,
            places: device.buffer(8 * rows as u64, STORAGE)?,
            bits: device.buffer(16 + 2 * selection, STORAGE)?,
            stages,
            next: 0,
        });
        Ok(())
    }

    /// Forgets all groups; keeps the room.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.rows_sent = 0;
        (self.exceptions_bound, self.heap_bound) = (0, 0);
        self.epoch = self.program.device.number();
        let Some(room) = &self.room else { return Ok(()) };
        let device = &self.program.device;
        let mut encoder = device.encoder();
        for buffer in [&room.slots, &room.sums, &room.control] {
            encoder.clear_buffer(&buffer.raw, 0, None);
        }
        let copies = room.copies_bytes(&self.program.states);
        if self.program.states.texts > 0 {
            // A text goes where the group's own lay.
            encoder.clear_buffer(&room.extremes.raw, 0, Some(copies));
        }
        device.submit(encoder).map(|_| ())
    }
}

/// Records the dispatches of a batch: every row to its group, and into its states.
fn record(
    program: &Program,
    encoder: &mut wgpu::CommandEncoder,
    buffers: &TableBuffers<'_>,
    rows: u32,
    is_near: bool,
) {
    let bind = |pipeline: &wgpu::ComputePipeline, used: &[u32]| {
        buffers.bind(&program.device, pipeline, used)
    };
    let folding = program.folding();
    let find = bind(&folding.find, &[0, 1, 2, 3, 4, 5, 8]);
    // A binding that a shader does not use is not there.
    let mut used = vec![0, 1, 2, 3, 4, 8];
    used.extend((program.states.units > 0).then_some(6));
    used.extend(folding.persist.as_ref().map(|_| 7));
    let near = folding.update_near.as_ref().filter(|_| is_near);
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatch(&mut pass, &folding.find, &find, rows);
    match near {
        None => dispatch(&mut pass, &folding.update, &bind(&folding.update, &used), rows),
        Some(near) => {
            pass.set_pipeline(near);
            pass.set_bind_group(0, &bind(near, &used), &[]);
            pass.dispatch_workgroups(rows.div_ceil(near::ROWS).max(1), 1, 1);
        }
    }
    if let Some(persist) = &folding.persist {
        let mut used = vec![0, 1, 2, 3, 6, 7];
        used.extend((program.states.texts > 0).then_some(8));
        dispatch(&mut pass, persist, &bind(persist, &used), rows);
    }
}

impl Selected {
    fn count(&self) -> u64 {
        self.rows.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}
