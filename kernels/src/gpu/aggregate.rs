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

use super::device::Buffer;
use super::error::{GpuError, Result};
use super::program::{Program, TableBuffers, dispatch};
use super::project::{ANSWER, Batch, Projector, STAGING, STORAGE, UNIFORM};

/// Groups that a new table has room for.
const GROUPS_MIN: u32 = 1 << 10;
const IN_FLIGHT_MAX: usize = 2;
/// Batches of one submission.
pub(super) const BATCHES_MAX: usize = 16;
/// Words of the control buffer before the exceptions, and of each of those.
pub(super) const CONTROL_WORDS: usize = 16;
pub(super) const EXCEPTION_WORDS: usize = 4;
/// Growing in vain so often means that keys collide on purpose.
const GROWTHS_IN_VAIN_MAX: u32 = 4;

/// The places of doubles' exponents where an exact sum begins unless the host knows better: from
/// 2^-44 on, so that prices, measurements and counts fall inside.
const BASE_DEFAULT: u32 = 1023 - 52 - 44;
pub(super) const BASE_MAX: u32 = 0x7ff - 96;

pub struct Table {
    pub(super) program: Arc<Program>,
    pub(super) room: Option<Room>,
    scratch: Option<Scratch>,
    in_flight: VecDeque<Flight>,
    /// Rows sent since the last drain.
    pub(super) rows_sent: u64,
    growths_in_vain: u32,
    /// Base exponents of the exact sums.
    pub(super) bases: Vec<u32>,
    /// Exceptions that the table may hold by now.
    exceptions_bound: usize,
}

/// What grows with the groups.
pub(super) struct Room {
    pub groups: u32,
    slot_count: u32,
    seed: u32,
    pub slots: Buffer,
    pub keys: Buffer,
    pub sums: Buffer,
    pub extremes: Buffer,
    pub control: Buffer,
    pub exceptions: usize,
}

/// What one submission after the other uses.
struct Scratch {
    rows: usize,
    params: Buffer,
    places: Buffer,
    bits: Buffer,
    /// One for each submission in flight: staged parameters and selections; answers.
    stages: Vec<(Buffer, Buffer)>,
    next: usize,
}

struct Flight {
    index: wgpu::SubmissionIndex,
    stage: usize,
    batches: Vec<Selected>,
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
    12 + 4 * program.states.exact.len().max(1)
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
            bases,
            exceptions_bound: 0,
        }
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
        let mut words = Vec::new();
        for selected in &batches {
            let (rows, back_us) = (selected.batch.rows, selected.back_us);
            words.extend(self.params(rows, back_us, 0, room, scratch.rows));
            words.extend(&selected.rows);
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
            self.record(&program, &mut encoder, &selected.batch, room, scratch);
            encoder.copy_buffer_to_buffer(bits, 0, &answer.raw, to, 16);
            encoder.copy_buffer_to_buffer(bits, 16 + selection, &answer.raw, to + 16, selection);
            to += 16 + selection;
        }
        encoder.copy_buffer_to_buffer(&room.control.raw, 0, &answer.raw, to, 16);
        let index = device.submit(encoder)?;
        Ok(Flight { index, stage, batches })
    }

    fn record(
        &self,
        program: &Program,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        room: &Room,
        scratch: &Scratch,
    ) {
        let buffers = self.buffers(&batch.records, room, scratch);
        let rows = batch.rows as u32;
        let bind = |pipeline: &wgpu::ComputePipeline, used: &[u32]| {
            buffers.bind(&program.device, pipeline, used)
        };
        let folding = program.folding();
        let find = bind(&folding.find, &[0, 1, 2, 3, 4, 5, 8]);
        // A binding that a shader does not use is not there.
        let mut used = vec![0, 1, 2, 3, 4, 8];
        used.extend((program.states.units > 0).then_some(6));
        used.extend(folding.persist.as_ref().map(|_| 7));
        let update = bind(&folding.update, &used);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        dispatch(&mut pass, &folding.find, &find, rows);
        dispatch(&mut pass, &folding.update, &update, rows);
        if let Some(persist) = &folding.persist {
            let group = bind(persist, &[0, 1, 2, 3, 6, 7]);
            dispatch(&mut pass, persist, &group, rows);
        }
    }

    fn buffers<'a>(
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

    fn params(
        &self,
        rows: usize,
        back_us: i64,
        groups_before: u32,
        room: &Room,
        row_capacity: usize,
    ) -> Vec<u32> {
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
        let answer = program.device.read_mapped(answer, words + 4)?;
        let (batches, control) = answer.split_at(words);
        self.exceptions_bound = self.exceptions_bound.max(control[1] as usize);
        let mut at = 0;
        let mut again = Vec::new();
        for selected in flight.batches {
            let end = at + 4 + selected.rows.len();
            let (head, left_over) = batches[at..end].split_at(4);
            at = end;
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
        let answered = BATCHES_MAX as u64 * (16 + selection) + 16;
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

    /// Room for an exception a row and exact sum of what is in flight and comes now.
    fn make_exceptions(&mut self, batches: &[Selected]) -> Result<()> {
        let sums = self.program.states.exact.len();
        let flying = self.in_flight.iter().flat_map(|flight| &flight.batches);
        let rows = flying.chain(batches).map(|selected| selected.batch.rows).sum::<usize>();
        let needed = self.exceptions_bound + rows * sums;
        let Some(room) = &mut self.room else { return Ok(()) };
        if room.exceptions >= needed {
            return Ok(());
        }
        let exceptions = needed.next_power_of_two();
        let device = &self.program.device;
        let control = device.buffer(control_bytes(exceptions), STORAGE)?;
        let mut encoder = device.encoder();
        let old = &room.control.raw;
        encoder.copy_buffer_to_buffer(old, 0, &control.raw, 0, old.size());
        device.submit(encoder)?;
        (room.control, room.exceptions) = (control, exceptions);
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        if self.room.is_none() {
            let rows = self.scratch.as_ref().map_or(0, |scratch| scratch.rows);
            let exceptions = rows * self.program.states.exact.len() * BATCHES_MAX;
            self.room =
                Some(self.new_room(GROUPS_MIN, slots_for(GROUPS_MIN), 0x9747_b28c, exceptions)?);
        }
        Ok(())
    }

    fn new_room(&self, groups: u32, slots: u32, seed: u32, exceptions: usize) -> Result<Room> {
        let (device, program) = (&self.program.device, &self.program);
        let all = u64::from(groups);
        Ok(Room {
            groups,
            slot_count: slots,
            seed,
            slots: device.buffer(4 * u64::from(slots), STORAGE)?,
            keys: device.buffer(4 * all * program.records.key_words as u64, STORAGE)?,
            sums: device.buffer(8 * all * program.states.units as u64, STORAGE)?,
            extremes: device.buffer(4 * all * program.states.extreme_words as u64, STORAGE)?,
            control: device.buffer(control_bytes(exceptions), STORAGE)?,
            exceptions,
        })
    }

    /// Makes room for more groups, or, where keys met by their hashes, hashes anew.
    pub(super) fn grow(&mut self, groups_asked: u32) -> Result<()> {
        self.growths_in_vain += 1;
        if self.growths_in_vain > GROWTHS_IN_VAIN_MAX {
            return Err(GpuError::Untrusted(
                "keys find no place however often it grows".to_owned(),
            ));
        }
        let old = self.room.take().ok_or_else(|| GpuError::Untrusted("no table".to_owned()))?;
        let full = groups_asked >= old.groups;
        let (groups, slots) = match full {
            true => {
                self.growths_in_vain = 0;
                let groups = grown(old.groups, groups_asked);
                (groups, slots_for(groups))
            }
            false => (old.groups, old.slot_count.saturating_mul(2)),
        };
        let seed = old.seed.wrapping_mul(0x2c1b_3c6d).wrapping_add(1);
        let room = self.new_room(groups, slots, seed, old.exceptions)?;
        let program = Arc::clone(&self.program);
        let device = &program.device;
        let mut encoder = device.encoder();
        for (from, to) in [
            (&old.keys, &room.keys),
            (&old.sums, &room.sums),
            (&old.extremes, &room.extremes),
            (&old.control, &room.control),
        ] {
            let bytes = from.raw.size().min(to.raw.size());
            encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, bytes);
        }
        let scratch = self.scratch.as_ref().expect("a table that grows has had a submission");
        // Three stages for two submissions in flight: this one is free.
        let stage = (scratch.next + 1) % scratch.stages.len();
        let (staging, _) = &scratch.stages[stage];
        let words = self.params(0, 0, old.groups, &room, scratch.rows);
        device.write_mapped(staging, &words)?;
        let bytes = 4 * words.len() as u64;
        encoder.copy_buffer_to_buffer(&staging.raw, 0, &scratch.params.raw, 0, bytes);
        let buffers = self.buffers(&room.keys, &room, scratch);
        let group = buffers.bind(device, &program.folding().rehash, &[0, 4, 5, 8]);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        dispatch(&mut pass, &program.folding().rehash, &group, old.groups);
        drop(pass);
        device.submit(encoder)?;
        self.room = Some(room);
        Ok(())
    }

    /// Forgets all groups; keeps the room.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.rows_sent = 0;
        self.exceptions_bound = 0;
        let Some(room) = &self.room else { return Ok(()) };
        let device = &self.program.device;
        let mut encoder = device.encoder();
        for buffer in [&room.slots, &room.sums, &room.control] {
            encoder.clear_buffer(&buffer.raw, 0, None);
        }
        device.submit(encoder).map(|_| ())
    }
}

impl Selected {
    fn count(&self) -> u64 {
        self.rows.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A quarter more, or what is asked for and an eighth: so that the table is not twice its groups, and a
/// batch of new ones does not make it grow many times.
fn grown(groups: u32, asked: u32) -> u32 {
    let more = |number: u32, part: u32| number.saturating_add(number / part);
    more(groups, 4).max(more(asked, 8))
}

/// Half of them empty: probing ends after a few.
fn slots_for(groups: u32) -> u32 {
    groups.saturating_mul(2)
}

fn control_bytes(exceptions: usize) -> u64 {
    4 * (CONTROL_WORDS + EXCEPTION_WORDS * exceptions) as u64
}
