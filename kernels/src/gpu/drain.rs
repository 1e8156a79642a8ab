//! A device's table as groups of the CPU's: read back, checked, taken in.
//!
//! Invariant: a table is taken in whole or not at all. Before that the device's count of rows must be
//! the host's, the groups' keys must be keys, and no counter may exceed the rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray, UInt32Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use super::aggregate::{CONTROL_TOLD, CONTROL_WORDS, EXCEPTION_WORDS, Table};
use super::error::{GpuError, Result};
use super::faults::Fault;
use super::form::Form;
use super::project::{ANSWER, Projector};
use super::query::Slot;
use super::states::{OnDevice, PLACE_WORDS, Race};
use crate::cpu::aggregate::{GroupTable, Loaded, Pick};
use crate::cpu::column::{Class, Rows, narrow_bytes, narrow_decimals, narrow_floats, narrow_ints};
use crate::cpu::exact_sum::device_total;
use crate::cpu::keys::{KeyInput, KeySpace};

/// What the device held, in host memory.
struct Drained {
    groups: usize,
    keys: Vec<u32>,
    units: Vec<u64>,
    extremes: Vec<u32>,
    /// Bytes of the texts that `extremes` tells of.
    texts: Vec<u8>,
    /// Doubles outside of their sum's window, by group and sum.
    exceptions: HashMap<(u32, u32), Vec<u64>>,
}

impl Table {
    /// Moves all groups into `into`, whose keys `space` has packed, and forgets them here.
    ///
    /// Errors: `Untrusted` where what came back cannot be; then `into` is untouched.
    /// Cost: waits for all that is in flight; the bytes of the groups come back.
    pub fn drain(
        &mut self,
        into: &mut GroupTable,
        space: &mut KeySpace,
        projector: &mut Projector,
    ) -> Result<()> {
        self.settle(projector)?;
        if self.rows_sent == 0 {
            return Ok(());
        }
        let drained = self.read()?;
        let columns = self.load(&drained)?;
        let keys = self.pack_keys(&drained, space)?;
        self.choose_bases(&drained);
        // A device that is lost here has its rows done again: they may not be in `into` by then.
        self.forget()?;
        into.load(&keys, columns);
        Ok(())
    }

    fn read(&self) -> Result<Drained> {
        let program = Arc::clone(&self.program);
        let device = &program.device;
        let Some(room) = &self.room else {
            return Err(GpuError::Untrusted("rows were sent to no table".to_owned()));
        };
        let control = self.copy(&[(&room.control, 0, CONTROL_WORDS)])?;
        let [groups, exceptions, heap] = [0, 1, 4].map(|at| control[at] as usize);
        if control[2] != self.rows_sent as u32 || groups == 0 || groups > room.groups as usize {
            let (took, sent) = (control[2], self.rows_sent);
            let told = format!("it took {took} rows of {sent} into {groups} groups");
            return Err(GpuError::Untrusted(told));
        }
        if exceptions > room.exceptions {
            return Err(GpuError::Untrusted(format!("{exceptions} exceptions in too little room")));
        }
        if heap > room.heap_words {
            return Err(GpuError::Untrusted(format!("texts of {heap} words in too little room")));
        }
        let (key_words, states) = (program.records.key_words, &program.states);
        let sizes = [groups * key_words, 2 * groups * states.units, groups * states.extreme_words];
        let whole = self.copy(&[
            (&room.keys, 0, sizes[0]),
            (&room.sums, 0, sizes[1]),
            (&room.extremes, 0, sizes[2]),
            (&room.extremes, room.copies_bytes(states), heap),
            (&room.control, 0, CONTROL_WORDS + EXCEPTION_WORDS * exceptions),
        ])?;
        let (keys, rest) = whole.split_at(sizes[0]);
        let (sums, rest) = rest.split_at(sizes[1]);
        let (extremes, rest) = rest.split_at(sizes[2]);
        let (texts, control_again) = rest.split_at(heap);
        if control[3] != self.epoch() {
            let told = format!("a table of epoch {}, not of {}", control[3], self.epoch());
            return Err(GpuError::Untrusted(told));
        }
        if control_again[..CONTROL_TOLD] != control[..CONTROL_TOLD] {
            return Err(GpuError::Untrusted("it gives two answers to one question".to_owned()));
        }
        let mut units: Vec<u64> = sums
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[low, high]| u64::from(*high) << 32 | u64::from(*low))
            .collect();
        let mut outside: HashMap<(u32, u32), Vec<u64>> = HashMap::new();
        for exception in control_again[CONTROL_WORDS..].as_chunks::<EXCEPTION_WORDS>().0 {
            let &[group, state, low, high] = exception;
            outside.entry((group, state)).or_default().push(u64::from(high) << 32 | u64::from(low));
        }
        let (keys, mut extremes) = (keys.to_vec(), extremes.to_vec());
        if device.faults.fires(Fault::BitFlip) {
            // In no count: that would be noticed.
            match extremes.first_mut() {
                Some(word) => *word ^= 1,
                None => units.iter_mut().rev().take(1).for_each(|unit| *unit ^= 1 << 40),
            }
        }
        let counted = states.filters.first().map(|filtered| filtered.rows);
        if let (Some(at), true) = (counted, device.faults.fires(Fault::Count)) {
            units[at] += 1;
        }
        let texts = texts.iter().flat_map(|word| word.to_be_bytes()).collect();
        Ok(Drained { groups, keys, units, extremes, texts, exceptions: outside })
    }

    /// So many words of some buffers from a byte on, one behind the other.
    fn copy(&self, parts: &[(&super::device::Buffer, u64, usize)]) -> Result<Vec<u32>> {
        let device = &self.program.device;
        let words = parts.iter().map(|(_, _, words)| words).sum::<usize>();
        let answer = device.buffer(4 * words as u64, ANSWER)?;
        let mut encoder = device.encoder();
        let mut at = 0;
        for (buffer, from, words) in parts.iter().filter(|(_, _, words)| *words > 0) {
            let bytes = 4 * *words as u64;
            encoder.copy_buffer_to_buffer(&buffer.raw, *from, &answer.raw, at, bytes);
            at += bytes;
        }
        let index = device.submit(encoder)?;
        device.wait(&index, "drain")?;
        device.read_mapped(&answer, words)
    }

    /// The states in the order of the CPU's layout.
    fn load(&self, drained: &Drained) -> Result<Vec<Loaded>> {
        let states = &self.program.states;
        let unit = |at: usize| {
            (0..drained.groups).map(move |group| drained.units[group * states.units + at])
        };
        let counts = |at: usize| {
            let counts: Vec<u64> = unit(at).collect();
            match counts.iter().find(|&&count| count > self.rows_sent) {
                Some(count) => Err(GpuError::Untrusted(format!("a group counts {count} rows"))),
                None => Ok(Loaded::Words(counts)),
            }
        };
        let mut columns = Vec::new();
        for filtered in &states.filters {
            if filtered.filter.is_none() && unit(filtered.rows).sum::<u64>() != self.rows_sent {
                let told = format!("its groups do not add up to {} rows", self.rows_sent);
                return Err(GpuError::Untrusted(told));
            }
            columns.push(counts(filtered.rows)?);
            for input in &filtered.inputs {
                columns.push(counts(input.nulls)?);
                let data_type = &self.program.query.arguments[input.argument].data_type;
                for state in &input.states {
                    columns.push(self.load_state(drained, state, data_type)?);
                }
            }
        }
        Ok(columns)
    }

    fn load_state(
        &self,
        drained: &Drained,
        state: &OnDevice,
        data_type: &DataType,
    ) -> Result<Loaded> {
        let stride = self.program.states.units;
        let groups = 0..drained.groups;
        let units = |group: usize, at: usize, count: usize| {
            let from = group * stride + at;
            &drained.units[from..from + count]
        };
        Ok(match *state {
            OnDevice::Sum { at, units: count } => {
                Loaded::Words(groups.flat_map(|group| units(group, at, count)).copied().collect())
            }
            OnDevice::And { at } => {
                Loaded::Words(groups.map(|group| !units(group, at, 1)[0]).collect())
            }
            OnDevice::Or { at } | OnDevice::Xor { at } => {
                Loaded::Words(groups.map(|group| units(group, at, 1)[0]).collect())
            }
            OnDevice::Winner { at, copy, race, greatest, .. } => {
                let extremes = self.program.states.extreme_words;
                let copy_of = |group: usize| {
                    let from = group * extremes + copy;
                    let is_there = units(group, at, 1)[0] != 0;
                    is_there.then(|| &drained.extremes[from..from + race.copy_words()])
                };
                match race {
                    Race::Extreme { words } => {
                        Loaded::Words(extreme_words(groups.map(copy_of), words, greatest))
                    }
                    Race::Text => Loaded::Column(drained.texts_of(groups.map(copy_of), data_type)?),
                    Race::Place { .. } => {
                        let copies: Vec<_> = groups.map(copy_of).collect();
                        Loaded::Column(drained.places_of(&copies, data_type)?)
                    }
                }
            }
            OnDevice::Exact { at, number } => {
                let outside = |group: usize| {
                    let key = (group as u32, number as u32);
                    drained.exceptions.get(&key).map_or(&[][..], |values| values)
                };
                let base = self.bases[number];
                if self.program.states.exact[number].is_square {
                    let total = |g| device_total::<4>(units(g, at, 5), base, outside(g));
                    Loaded::Squares(groups.map(total).collect())
                } else {
                    let total = |g| device_total::<2>(units(g, at, 3), base, outside(g));
                    Loaded::Sums(groups.map(total).collect())
                }
            }
        })
    }

    fn pack_keys(&self, drained: &Drained, space: &mut KeySpace) -> Result<Vec<u64>> {
        let records = &self.program.records;
        let types: Vec<DataType> = space.types().cloned().collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(types.len());
        for (place, (slot, data_type)) in records.keys.iter().zip(&types).enumerate() {
            columns.push(key_column(drained, records.key_words, place, *slot, data_type)?);
        }
        let ids = columns.iter().map(|column| column.as_any().downcast_ref::<UInt32Array>());
        let inputs: Vec<KeyInput<'_>> = columns
            .iter()
            .zip(ids)
            .map(|(column, ids)| match ids {
                Some(ids) => KeyInput::Ids(ids.values()),
                None => KeyInput::Values(column),
            })
            .collect();
        for (place, input) in inputs.iter().enumerate() {
            let KeyInput::Ids(ids) = input else { continue };
            let known = space.interner_mut(place).len();
            if let Some(id) = ids.iter().find(|&&id| id as usize >= known) {
                return Err(GpuError::Untrusted(format!("it has a text of id {id} of {known}")));
            }
        }
        let mut keys = Vec::with_capacity(drained.groups);
        space.encode(&inputs, Rows::All(drained.groups), &mut keys);
        Ok(keys)
    }

    /// Moves the windows of sums that many values fell outside of to where those are.
    fn choose_bases(&mut self, drained: &Drained) {
        for number in 0..self.bases.len() {
            let mut exponents: Vec<u32> = drained
                .exceptions
                .iter()
                .filter(|((_, of), _)| *of as usize == number)
                .flat_map(|(_, values)| values)
                .map(|bits| (bits >> 52 & 0x7ff) as u32)
                .filter(|exponent| (1..0x7ff).contains(exponent))
                .collect();
            if exponents.len() as u64 * 16 < self.rows_sent {
                continue;
            }
            let middle = exponents.len() / 2;
            let (_, median, _) = exponents.select_nth_unstable(middle);
            self.bases[number] = median.saturating_sub(32).clamp(1, super::aggregate::BASE_MAX);
        }
    }
}

impl Drained {
    /// Texts by where they lie; NULL where there is none.
    ///
    /// Errors: `Untrusted` where there can be no such text.
    fn texts_of<'a>(
        &self,
        copies: impl Iterator<Item = Option<&'a [u32]>>,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let text = |copy: Option<&[u32]>| {
            let Some(copy) = copy else { return Ok(None) };
            let (from, bytes) = (4 * copy[0] as usize, copy[1] as usize);
            let text = self.texts.get(from..from + bytes);
            let is_right =
                |text: &&[u8]| *data_type != DataType::Utf8 || std::str::from_utf8(text).is_ok();
            text.filter(is_right).map(Some).ok_or_else(|| {
                let told = format!("a text of {bytes} bytes at {from} of {}", self.texts.len());
                GpuError::Untrusted(told)
            })
        };
        let texts = copies.map(text).collect::<Result<Vec<_>>>()?;
        Ok(narrow_bytes(data_type, texts.into_iter()))
    }

    /// Places and the values there, as a partial has them; NULL where no row competed.
    fn places_of(&self, copies: &[Option<&[u32]>], data_type: &DataType) -> Result<ArrayRef> {
        let there = NullBuffer::from_iter(copies.iter().map(Option::is_some));
        let word = |at: usize| copies.iter().map(move |copy| copy.map_or(0, |copy| copy[at]));
        let long = |at: usize| {
            let halves = word(at).zip(word(at + 1));
            halves.map(|(low, high)| u64::from(high) << 32 | u64::from(low)).collect::<Vec<_>>()
        };
        let at = PLACE_WORDS + 1;
        let valid = word(PLACE_WORDS).zip(&there).map(|(is_null, there)| there && is_null == 0);
        let valid = NullBuffer::from_iter(valid);
        let nulls = Some(valid.clone()).filter(|valid| valid.null_count() > 0);
        let values = match Class::of(data_type) {
            Some(Class::Bytes) => {
                let kept = copies.iter().zip(&valid);
                let kept = kept.map(|(copy, valid)| copy.filter(|_| valid).map(|copy| &copy[at..]));
                self.texts_of(kept, data_type)?
            }
            Some(Class::Decimal) => {
                let (low, high) = (long(at), long(at + 2));
                let wide = low
                    .iter()
                    .zip(&high)
                    .map(|(low, high)| (u128::from(*high) << 64 | u128::from(*low)) as i128);
                narrow_decimals(data_type, wide.collect(), nulls)
            }
            Some(Class::Float) => {
                let values = long(at).into_iter().map(f64::from_bits).collect();
                narrow_floats(data_type, values, nulls)
            }
            _ => {
                let values = long(at).into_iter().map(|word| word as i64).collect();
                narrow_ints(data_type, values, nulls)
            }
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(word(0))),
            Arc::new(UInt64Array::from(long(1))),
            Arc::new(UInt64Array::from(long(3))),
            values,
        ];
        let there = Some(there).filter(|there| there.null_count() > 0);
        Ok(Arc::new(StructArray::new(Pick::partial_fields(data_type), columns, there)))
    }
}

/// Values as the CPU's table keeps them, for a group without one what loses to every other.
fn extreme_words<'a>(
    copies: impl Iterator<Item = Option<&'a [u32]>>,
    words: usize,
    greatest: bool,
) -> Vec<u64> {
    let neutral: &[u64] = match (words, greatest) {
        (2, false) => &[i64::MAX as u64],
        (2, true) => &[i64::MIN as u64],
        (_, false) => &[u64::MAX, i64::MAX as u64],
        (_, true) => &[0, i64::MIN as u64],
    };
    let mut loaded = Vec::new();
    for copy in copies {
        match copy {
            None => loaded.extend(neutral),
            Some(copy) => {
                let longs = copy.as_chunks::<2>().0.iter();
                loaded.extend(longs.map(|[low, high]| u64::from(*high) << 32 | u64::from(*low)));
            }
        }
    }
    loaded
}

/// The ids of a text key as a `UInt32Array`, or the values of another one.
fn key_column(
    drained: &Drained,
    key_words: usize,
    place: usize,
    slot: Slot,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let groups = || drained.keys.chunks_exact(key_words);
    let low = || groups().map(|key| key[slot.at]);
    let long = || groups().map(|key| u64::from(key[slot.at + 1]) << 32 | u64::from(key[slot.at]));
    let nulls = NullBuffer::from_iter(groups().map(|key| key[0] >> place & 1 == 1));
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    Ok(match slot.form {
        Form::Id => Arc::new(UInt32Array::from_iter_values(low())),
        Form::Bool | Form::Int(_) => {
            narrow_ints(data_type, low().map(|word| i64::from(word as i32)).collect(), nulls)
        }
        Form::Long => narrow_ints(data_type, long().map(|word| word as i64).collect(), nulls),
        Form::Single | Form::Double => {
            narrow_floats(data_type, long().map(f64::from_bits).collect(), nulls)
        }
        Form::Wide => {
            let word = |key: &[u32], i: usize| u128::from(key[slot.at + i]) << (32 * i);
            let value = |key: &[u32]| (0..4).fold(0, |sum, i| sum | word(key, i)) as i128;
            narrow_decimals(data_type, groups().map(value).collect(), nulls)
        }
        Form::Text | Form::Opaque => {
            return Err(GpuError::Untrusted("a key without words".to_owned()));
        }
    })
}
