//! What of a table on a device grows with its groups, and how it grows.
//!
//! Invariant: growing keeps every group under its number, so states are copied and the index alone is
//! built anew; nothing is read back for it.

use std::sync::Arc;

use super::aggregate::{Asked, BATCHES_MAX, CONTROL_WORDS, EXCEPTION_WORDS, Selected, Table};
use super::device::Buffer;
use super::error::{GpuError, Result};
use super::program::dispatch;
use super::project::STORAGE;
use super::states::States;

/// Groups that a new table has room for.
const GROUPS_MIN: u32 = 1 << 10;
/// Of the hashes of a new table.
pub(super) const SEED: u32 = 0x9747_b28c;
/// Growing in vain so often means that keys collide on purpose.
const GROWTHS_IN_VAIN_MAX: u32 = 4;

/// What grows with the groups.
pub(super) struct Room {
    pub groups: u32,
    pub slot_count: u32,
    pub seed: u32,
    pub slots: Buffer,
    pub keys: Buffer,
    pub sums: Buffer,
    /// What is copied of each group's winning rows; then so many words of their texts.
    pub extremes: Buffer,
    pub heap_words: usize,
    pub control: Buffer,
    pub exceptions: usize,
}

impl Room {
    /// Bytes of the copies, where texts begin.
    pub fn copies_bytes(&self, states: &States) -> u64 {
        4 * u64::from(self.groups) * states.extreme_words as u64
    }
}

impl Table {
    /// Room for an exception a row and exact sum of what is in flight and comes now.
    pub(super) fn make_exceptions(&mut self, batches: &[Selected]) -> Result<()> {
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

    /// Room for each text that a batch in flight, or one that comes now, may give a group: at most all of
    /// its own, and one for each group that there can be.
    pub(super) fn make_heap(&mut self, batches: &[Selected]) -> Result<()> {
        let states = &self.program.states;
        let Some(room) = &mut self.room else { return Ok(()) };
        let groups = room.groups as usize;
        let of = |selected: &Selected| {
            let batch = &selected.batch;
            batch.text_words.min(batch.text_longest.saturating_mul(groups))
        };
        let flying = self.in_flight.iter().flat_map(|flight| &flight.batches);
        let coming = flying.chain(batches).map(of).sum::<usize>();
        let needed = self.heap_bound + states.texts * coming;
        if room.heap_words >= needed {
            return Ok(());
        }
        let (heap_words, copies) = (needed.next_power_of_two(), room.copies_bytes(states));
        let device = &self.program.device;
        let extremes = device.buffer(copies + 4 * heap_words as u64, STORAGE)?;
        let mut encoder = device.encoder();
        let bytes = copies + 4 * room.heap_words as u64;
        encoder.copy_buffer_to_buffer(&room.extremes.raw, 0, &extremes.raw, 0, bytes);
        device.submit(encoder)?;
        (room.extremes, room.heap_words) = (extremes, heap_words);
        Ok(())
    }

    pub(super) fn make_room(&mut self) -> Result<()> {
        if self.room.is_none() {
            let rows = self.scratch.as_ref().map_or(0, |scratch| scratch.rows);
            let exceptions = rows * self.program.states.exact.len() * BATCHES_MAX;
            self.room =
                Some(self.new_room((GROUPS_MIN, slots_for(GROUPS_MIN)), SEED, exceptions, 0)?);
        }
        Ok(())
    }

    fn new_room(
        &self,
        (groups, slots): (u32, u32),
        seed: u32,
        exceptions: usize,
        heap_words: usize,
    ) -> Result<Room> {
        let (device, program) = (&self.program.device, &self.program);
        let all = u64::from(groups);
        let copied = all * program.states.extreme_words as u64 + heap_words as u64;
        Ok(Room {
            groups,
            slot_count: slots,
            seed,
            slots: device.buffer(4 * u64::from(slots), STORAGE)?,
            keys: device.buffer(4 * all * program.records.key_words as u64, STORAGE)?,
            sums: device.buffer(8 * all * program.states.units as u64, STORAGE)?,
            extremes: device.buffer(4 * copied, STORAGE)?,
            heap_words,
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
        let room = self.new_room((groups, slots), seed, old.exceptions, old.heap_words)?;
        let program = Arc::clone(&self.program);
        let device = &program.device;
        let mut encoder = device.encoder();
        for (from, to) in
            [(&old.keys, &room.keys), (&old.sums, &room.sums), (&old.control, &room.control)]
        {
            let bytes = from.raw.size().min(to.raw.size());
            encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, bytes);
        }
        let (from, to) = (old.copies_bytes(&program.states), room.copies_bytes(&program.states));
        let texts = 4 * old.heap_words as u64;
        for (from, to, bytes) in [(0, 0, from), (from, to, texts)] {
            if bytes > 0 {
                let (old, new) = (&old.extremes.raw, &room.extremes.raw);
                encoder.copy_buffer_to_buffer(old, from, new, to, bytes);
            }
        }
        let scratch = self.scratch.as_ref().expect("a table that grows has had a submission");
        // Three stages for two submissions in flight: this one is free.
        let stage = (scratch.next + 1) % scratch.stages.len();
        let (staging, _) = &scratch.stages[stage];
        let asked = Asked { groups_before: old.groups, ..Asked::default() };
        let words = self.params(&asked, &room, scratch.rows);
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
